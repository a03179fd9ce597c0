/* SPDX-License-Identifier: MIT */
/* What base/json_read.h promises, and that base/json.h writes what it reads. */
#include "base/json_read.h"

#include "base/err.h"
#include "base/json.h"
#include "base/macros.h"

#include <errno.h>

#include "tests/tap.h"

/* As one line again, or the sentence. */
static const char *read_and_write(const char *text, size_t len)
{
	static char out[1 << 16];
	FILE *f = fmemopen(out, sizeof(out), "w");
	struct json j = {.out = f, .one_line = true};
	struct json_value *v;
	struct err err = {0};

	if (json_parse(&v, text, len, &err) < 0)
		fputs(err.text, f);
	else
		json_copy(&j, NULL, v);
	fclose(f);
	free(v);
	return out;
}

static void test_texts(void)
{
	static const struct {
		const char *text, *want;
	} cases[] = {
		{"1", "1\n"},
		{" \t\r\n-0.5e+10 ", "-0.5e+10\n"},
		{"[0, 1E9, 1e-9, 18446744073709551615]", "[0, 1E9, 1e-9, 18446744073709551615]\n"},
		{"[true,false,null]", "[true, false, null]\n"},
		{"\"\"", "\"\"\n"},
		{"{}", "{}\n"},
		{"[[],{}]", "[[], {}]\n"},
		{"{\"a\":{\"b\":[{\"c\":\"d\"}]},\"e\":1}", "{\"a\": {\"b\": [{\"c\": \"d\"}]}, \"e\": 1}\n"},
		{"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\\"\\\\/\\u0008\\u000c\\n\\u000d\\u0009\"\n"},
		{"\"\\u0041\\u00e9\\u20AC\\ud83d\\ude00\"", "\"A\303\251\342\202\254\360\237\230\200\"\n"},
		{"\"\377\351\"", "\"\377\351\"\n"}, /* Latin-1 of a file's name */
		{"\"\177\"", "\"\\u007f\"\n"},

		{"", "no JSON at line 1, column 1: it ends, where a value should be"},
		{"nul", "no JSON at line 1, column 1: 'n', where a value should be"},
		{"True", "no JSON at line 1, column 1: 'T', where a value should be"},
		{"\n\n x", "no JSON at line 3, column 2: 'x', where a value should be"},
		{"1 2", "no JSON at line 1, column 3: '2', where the end should be"},
		{"01", "no JSON at line 1, column 2: '1', where the end should be"},
		{"-", "no JSON at line 1, column 2: it ends, where a digit should be"},
		{"1.", "no JSON at line 1, column 3: it ends, where a digit should be"},
		{"1e+x", "no JSON at line 1, column 4: 'x', where a digit should be"},
		{".5", "no JSON at line 1, column 1: '.', where a value should be"},
		{"+1", "no JSON at line 1, column 1: '+', where a value should be"},
		{"[1", "no JSON at line 1, column 3: it ends, where ',' or ']' should be"},
		{"[1,]", "no JSON at line 1, column 4: ']', where a value should be"},
		{"[1}", "no JSON at line 1, column 3: '}', where ',' or ']' should be"},
		{"{\"a\":1]", "no JSON at line 1, column 7: ']', where ',' or '}' should be"},
		{"{1:2}", "no JSON at line 1, column 2: '1', where a key in quotation marks should be"},
		{"{\"a\":1,}", "no JSON at line 1, column 8: '}', where a key in quotation marks should be"},
		{"{\"a\" 1}", "no JSON at line 1, column 6: '1', where ':' should be"},
		{"{\"a\":1,\"a\":1}", "no JSON at line 1, column 11: the key is there already"},
		{"\"a", "no JSON at line 1, column 3: it ends, where the rest of a string should be"},
		{"\"a\nb\"", "no JSON at line 1, column 3: byte 0x0a, where the rest of a string should be"},
		{"\"\\", "no JSON at line 1, column 3: it ends, where an escape, one of \"\\/bfnrtu, should be"},
		{"\"\\x\"", "no JSON at line 1, column 3: 'x', where an escape, one of \"\\/bfnrtu, should be"},
		{"\"\\u12g4\"", "no JSON at line 1, column 6: 'g', where one of four hexadecimal digits should be"},
		{"\"\\u12", "no JSON at line 1, column 6: it ends, where one of four hexadecimal digits should be"},
		{"\"\\u0000\"", "no JSON at line 1, column 8: a string has a zero byte"},
		{"\"\\ud83dx\"", "no JSON at line 1, column 8: 'x', where the other half of a character should be"},
		{"\"\\ud83d\\u0041\"",
		 "no JSON at line 1, column 14: half of a character, with another one's other half"},
		{"\"\\udc00\"", "no JSON at line 1, column 8: the second half of a character without its first"},
		{"[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]", "no JSON at line 1, column 17: it is nested too deeply"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		is_str(read_and_write(cases[i].text, strlen(cases[i].text)), cases[i].want, "%s",
		       cases[i].text);
	is_str(read_and_write("[\0]", 3), "no JSON at line 1, column 2: byte 0x00, where a value should be",
	       "a zero byte");
	is_str(read_and_write("\"\\\0\"", 4), "no JSON at line 1, column 3: byte 0x00, where an escape, one of "
	       "\"\\/bfnrtu, should be", "and as an escape");
	is_str(read_and_write("[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]", 31), "[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]\n",
	       "15 levels are fine");
}

static void test_bounds(void)
{
	size_t len = JSON_TEXT_MAX + 1, n = 0;
	char *text = calloc(1, len + 1);
	struct json_value *v;
	struct err err = {0};

	memset(text, ' ', len);
	text[0] = '1';
	is_int(json_parse(&v, text, len, &err), -EINVAL, "a text that is too long");
	is_str(err.text, "1048577 bytes of JSON: at most 1048576 are read", "is told so");
	is_int(json_parse(&v, text, len - 1, &err), 0, "a byte less is read");
	free(v);
	text[n++] = '{';
	for (unsigned i = 0; i <= JSON_MEMBERS_MAX; i++)
		n += (size_t)snprintf(text + n, len - n, "%s\"%u\":%u", i ? "," : "", i, i);
	text[n++] = '}';
	json_parse(&v, text, n, &err);
	is_str(err.text, "no JSON at line 1, column 10076: the object has too many members",
	       "an object with too many members");
	n = (size_t)(strrchr(text, ',') - text);
	text[n++] = '}';
	is_int(json_parse(&v, text, n, &err), 0, "one less is read");
	is_str(json_find(v, "1023")->text, "1023", "to the last");
	free(v);
	memset(text, ',', len - 1);
	is_int(json_parse(&v, text, len - 1, &err), -EINVAL, "a million commas");
	ok(!v, "leave nothing");
	free(text);
}

static void test_get(void)
{
	static const char text[] = "{\"n\": 64, \"big\": 18446744073709551615, \"more\": 18446744073709551616,"
		"\"minus\": -1, \"part\": 1.5, \"e\": 1e2, \"s\": \"text\", \"yes\": true, \"no\": false,"
		"\"list\": [1, 2], \"o\": {}, \"z\": null}";
	const struct json_value *value = NULL;
	const char *s = NULL;
	bool yes = false, no = true;
	uint64_t n = 7;
	double real = 0;
	struct json_value *v;
	struct err err = {0};
	static const struct {
		const char *key, *want;
	} numbers[] = {
		{"more", "'more' is 18446744073709551616: it must be a whole number from 0 to 18446744073709551615"},
		{"minus", "'minus' is -1: it must be a whole number from 0 to 18446744073709551615"},
		{"part", "'part' is 1.5: it must be a whole number from 0 to 18446744073709551615"},
		{"e", "'e' is 1e2: it must be a whole number from 0 to 18446744073709551615"},
		{"s", "'s' is a string: it must be a number"},
		{"no", "'no' is false: it must be a number"},
		{"list", "'list' is an array: it must be a number"},
		{"o", "'o' is an object: it must be a number"},
		{"z", "'z' is null: it must be a number"},
		{"count", "'count' is missing"},
	};

	is_int(json_parse(&v, text, sizeof(text) - 1, &err), 0, "an object");
	ok(json_get_uint(v, "n", 64, &n, &err) == 0 && n == 64, "a number");
	ok(json_get_uint(v, "big", UINT64_MAX, &n, &err) == 0 && n == UINT64_MAX, "the largest");
	n = 7;
	json_get_uint(v, "n", 63, &n, &err);
	is_str(err.text, "'n' is 64: it must be a whole number from 0 to 63", "one that is too large");
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
		is_int(json_get_uint(v, numbers[i].key, UINT64_MAX, &n, &err), -EINVAL, "%s", numbers[i].key);
		is_str(err.text, numbers[i].want, "its sentence");
	}
	is_int(n, 7, "what is not got is left alone");
	ok(json_get_str(v, "s", &s, &err) == 0 && !strcmp(s, "text"), "a string");
	json_get_str(v, "n", &s, &err);
	is_str(err.text, "'n' is a number: it must be a string", "a number is none");
	ok(json_get_bool(v, "yes", &yes, &err) == 0 && yes && json_get_bool(v, "no", &no, &err) == 0 && !no,
	   "true and false");
	json_get_bool(v, "n", &yes, &err);
	is_str(err.text, "'n' is a number: it must be true or false", "a number is none of them");
	ok(json_get_real(v, "part", &real, &err) == 0 && real == 1.5, "a fraction");
	ok(json_get(v, "list", JSON_ARRAY, &value, &err) == 0 && value->first->next->text[0] == '2' &&
	   !value->first->next->next, "an array and its parts");
	ok(!json_find(value, "n") && !json_find(v, "nn"), "what is not there is not found");
	free(v);
}

static void test_lines(void)
{
	static const char deep[] = "[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]";
	char out[200];
	FILE *f = fmemopen(out, sizeof(out), "w");
	struct json j = {.out = f};
	struct json_value *v;

	json_parse(&v, "{\"a\": [1]}", 10, NULL);
	json_copy(&j, NULL, v);
	fclose(f);
	free(v);
	is_str(out, "{\n  \"a\": [\n    1\n  ]\n}\n", "a copy over lines");
	f = fmemopen(out, sizeof(out), "w");
	j = (struct json){.out = f, .one_line = true};
	json_open(&j, NULL, '{');
	json_parse(&v, deep, sizeof(deep) - 1, NULL);
	json_copy(&j, "x", v);
	json_close(&j);
	fclose(f);
	free(v);
	is_str(out, "{\"x\": [[[[[[[[[[[[[[null]]]]]]]]]]]]]]}\n", "what is too deep for its place is null");
}

int main(void)
{
	test_texts();
	test_bounds();
	test_get();
	test_lines();
	return done_testing();
}

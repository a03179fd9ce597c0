/* SPDX-License-Identifier: MIT */
/*
 * A JSON reader (RFC 8259), for texts of people that we know nothing of: requests on a control socket,
 * the head of a file.
 *
 * Strict: no comments, no comma too many, nothing after the value. A key that is there twice is refused,
 * because two readers would take two values for it; so is a zero byte in a string, because C would see
 * a shorter one. What is above 0x7f passes as it is, UTF-8 or not: the names of files are bytes, and
 * base/json.h writes them so.
 *
 * Bounded: JSON_TEXT_MAX and JSON_DEPTH, and one allocation, made before the first byte is looked at
 * twice. A value begins the text or stands behind one of [ { , so as many as there are of these, and
 * one, is enough room. What a string says is never longer than how it is written with its quotation
 * marks, and a number has something behind it, or ends the text; so the bytes of the text, and one, are
 * enough for all strings and numbers with their ends.
 *
 * Why not a library. Debian has three, and none may read what we write. cJSON keeps numbers as double
 * (9007199254740993 becomes ...992: memory sizes, MSRs), and reads on past what it does not
 * understand. json-c makes UINT64_MAX of what is larger, and takes the last of two equal keys. jansson
 * is strict, but has no numbers above INT64_MAX, and opens /dev/urandom for its first object, which a
 * process that runs a guest may not. All allocate by the value. The typed getters with their sentences,
 * which are half of this file, would be ours all the same, and `lodge` needs no library but libc.
 */
#include "base/json_read.h"

#include "base/err.h"
#include "base/json.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct parser {
	const char *text, *at, *end;
	struct json_value *values;
	size_t n;   /* values that are used */
	char *pool; /* where the next string goes */
	unsigned depth;
	struct err *err;
};

/* -- What is wrong ------------------------------------------------------------------------ */

static int fail(struct parser *p, const char *what)
{
	unsigned line = 1, column = 1;

	for (const char *c = p->text; c < p->at; c++, column++)
		if (*c == '\n') {
			line++;
			column = 0;
		}
	return err_set(p->err, EINVAL, "no JSON at line %u, column %u: %s", line, column, what);
}

static int fail_expecting(struct parser *p, const char *what)
{
	unsigned char c = p->at < p->end ? (unsigned char)*p->at : 0;
	char text[100];

	if (p->at == p->end)
		snprintf(text, sizeof(text), "it ends, where %s should be", what);
	else if (c > ' ' && c < 0x7f)
		snprintf(text, sizeof(text), "'%c', where %s should be", c, what);
	else
		snprintf(text, sizeof(text), "byte 0x%02x, where %s should be", c, what);
	return fail(p, text);
}

/* -- Words -------------------------------------------------------------------------------- */

static void skip_space(struct parser *p)
{
	while (p->at < p->end && strchr(" \t\n\r", *p->at) && *p->at)
		p->at++;
}

/* Takes it if it is next. */
static bool takes(struct parser *p, char c)
{
	if (p->at == p->end || *p->at != c)
		return false;
	p->at++;
	return true;
}

static int parse_hex4(struct parser *p, unsigned *code)
{
	*code = 0;
	for (unsigned i = 0; i < 4; i++) {
		static const char digits[] = "0123456789abcdef";
		const char *digit = NULL;

		if (p->at < p->end && *p->at)
			digit = strchr(digits, *p->at >= 'A' && *p->at <= 'F' ? *p->at | 0x20 : *p->at);
		if (!digit)
			return fail_expecting(p, "one of four hexadecimal digits");
		*code = *code << 4 | (unsigned)(digit - digits);
		p->at++;
	}
	return 0;
}

static void put_utf8(struct parser *p, unsigned code)
{
	unsigned more = code < 0x80 ? 0 : code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
	static const unsigned char first[] = {0, 0xc0, 0xe0, 0xf0};

	*p->pool++ = (char)(first[more] | code >> 6 * more);
	while (more--)
		*p->pool++ = (char)(0x80 | (code >> 6 * more & 0x3f));
}

/* What follows "\u". Beyond 16 bits it is two halves (RFC 8259, 7). */
static int parse_unicode(struct parser *p)
{
	unsigned code, low;
	int rc = parse_hex4(p, &code);

	if (rc < 0)
		return rc;
	if (!code)
		return fail(p, "a string has a zero byte");
	if (code >= 0xd800 && code < 0xdc00) {
		if (!takes(p, '\\') || !takes(p, 'u'))
			return fail_expecting(p, "the other half of a character");
		rc = parse_hex4(p, &low);
		if (rc < 0)
			return rc;
		if (low < 0xdc00 || low > 0xdfff)
			return fail(p, "half of a character, with another one's other half");
		code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
	} else if (code >= 0xdc00 && code <= 0xdfff) {
		return fail(p, "the second half of a character without its first");
	}
	put_utf8(p, code);
	return 0;
}

static int parse_escape(struct parser *p)
{
	static const char names[] = "\"\\/bfnrt", bytes[] = "\"\\/\b\f\n\r\t";
	const char *name;

	if (takes(p, 'u'))
		return parse_unicode(p);
	name = p->at < p->end && *p->at ? strchr(names, *p->at) : NULL;
	if (!name)
		return fail_expecting(p, "an escape, one of \"\\/bfnrtu,");
	p->at++;
	*p->pool++ = bytes[name - names];
	return 0;
}

/* What follows the quotation mark. */
static int parse_string(struct parser *p, const char **text)
{
	*text = p->pool;
	while (!takes(p, '"')) {
		int rc = 0;

		if (p->at == p->end || (unsigned char)*p->at < ' ')
			return fail_expecting(p, "the rest of a string");
		if (takes(p, '\\'))
			rc = parse_escape(p);
		else
			*p->pool++ = *p->at++;
		if (rc < 0)
			return rc;
	}
	*p->pool++ = 0;
	return 0;
}

static bool take_digits(struct parser *p)
{
	const char *begin = p->at;

	while (p->at < p->end && *p->at >= '0' && *p->at <= '9')
		p->at++;
	return p->at > begin;
}

static int parse_number(struct parser *p, struct json_value *v)
{
	const char *begin = p->at;
	bool fine;

	takes(p, '-');
	fine = takes(p, '0') || take_digits(p);
	if (fine && takes(p, '.'))
		fine = take_digits(p);
	if (fine && (takes(p, 'e') || takes(p, 'E'))) {
		if (!takes(p, '+'))
			takes(p, '-');
		fine = take_digits(p);
	}
	if (!fine)
		return fail_expecting(p, "a digit");
	v->type = JSON_NUMBER;
	v->text = p->pool;
	memcpy(p->pool, begin, (size_t)(p->at - begin));
	p->pool += p->at - begin;
	*p->pool++ = 0;
	return 0;
}

static int parse_word(struct parser *p, struct json_value *v)
{
	static const struct {
		const char *text;
		enum json_type type;
	} words[] = {{"null", JSON_NULL}, {"true", JSON_BOOL}, {"false", JSON_BOOL}};

	for (unsigned i = 0; i < 3; i++) {
		size_t len = strlen(words[i].text);

		if ((size_t)(p->end - p->at) >= len && memcmp(p->at, words[i].text, len) == 0) {
			v->type = words[i].type;
			v->text = words[i].text;
			p->at += len;
			return 0;
		}
	}
	return fail_expecting(p, "a value");
}

/* -- Values ------------------------------------------------------------------------------- */

static int parse_value(struct parser *p, struct json_value **out);

static int parse_key(struct parser *p, const struct json_value *object, const char **key)
{
	unsigned members = 0;
	int rc;

	skip_space(p);
	if (!takes(p, '"'))
		return fail_expecting(p, "a key in quotation marks");
	rc = parse_string(p, key);
	if (rc < 0)
		return rc;
	for (const struct json_value *v = object->first; v; v = v->next, members++)
		if (strcmp(v->key, *key) == 0)
			return fail(p, "the key is there already");
	if (members == JSON_MEMBERS_MAX)
		return fail(p, "the object has too many members");
	skip_space(p);
	return takes(p, ':') ? 0 : fail_expecting(p, "':'");
}

/* What follows the bracket. */
static int parse_parts(struct parser *p, struct json_value *whole)
{
	bool has_keys = whole->type == JSON_OBJECT;
	const struct json_value **link = &whole->first;
	char bracket = has_keys ? '}' : ']';

	if (p->depth++ == JSON_DEPTH)
		return fail(p, "it is nested too deeply");
	skip_space(p);
	for (bool more = !takes(p, bracket); more; more = takes(p, ',')) {
		struct json_value *part;
		const char *key = NULL;
		int rc = has_keys ? parse_key(p, whole, &key) : 0;

		if (rc == 0)
			rc = parse_value(p, &part);
		if (rc < 0)
			return rc;
		part->key = key;
		*link = part;
		link = &part->next;
		skip_space(p);
		if (p->at == p->end || (*p->at != ',' && *p->at != bracket))
			return fail_expecting(p, has_keys ? "',' or '}'" : "',' or ']'");
		if (takes(p, bracket))
			break;
	}
	p->depth--;
	return 0;
}

static int parse_value(struct parser *p, struct json_value **out)
{
	struct json_value *v = *out = &p->values[p->n++];

	*v = (struct json_value){0};
	skip_space(p);
	if (takes(p, '"')) {
		v->type = JSON_STRING;
		return parse_string(p, &v->text);
	}
	if (takes(p, '{')) {
		v->type = JSON_OBJECT;
		return parse_parts(p, v);
	}
	if (takes(p, '[')) {
		v->type = JSON_ARRAY;
		return parse_parts(p, v);
	}
	if (p->at < p->end && (*p->at == '-' || (*p->at >= '0' && *p->at <= '9')))
		return parse_number(p, v);
	return parse_word(p, v);
}

static size_t count_room(const char *text, size_t len)
{
	size_t n = 1;

	for (size_t i = 0; i < len; i++)
		n += text[i] == ',' || text[i] == '[' || text[i] == '{';
	return n;
}

int json_parse(struct json_value **root, const char *text, size_t len, struct err *err)
{
	struct parser p = {.text = text, .at = text, .end = text + len, .err = err};
	size_t room;
	int rc;

	*root = NULL;
	if (len > JSON_TEXT_MAX)
		return err_set(err, EINVAL, "%zu bytes of JSON: at most %u are read", len,
			       JSON_TEXT_MAX);
	room = count_room(text, len);
	p.values = malloc(room * sizeof(*p.values) + len + 1);
	if (!p.values)
		return err_set(err, ENOMEM, "no memory");
	p.pool = (char *)(p.values + room);
	rc = parse_value(&p, root);
	skip_space(&p);
	if (rc == 0 && p.at < p.end)
		rc = fail_expecting(&p, "the end");
	if (rc < 0) {
		free(p.values);
		*root = NULL;
	}
	return rc;
}

/* -- Getting ------------------------------------------------------------------------------ */

const char *json_type_text(enum json_type type)
{
	static const char *const texts[] = {
		[JSON_NULL] = "null", [JSON_BOOL] = "true or false", [JSON_NUMBER] = "a number",
		[JSON_STRING] = "a string", [JSON_ARRAY] = "an array", [JSON_OBJECT] = "an object",
	};

	return texts[type];
}

const struct json_value *json_find(const struct json_value *object, const char *key)
{
	if (object->type != JSON_OBJECT)
		return NULL;
	for (const struct json_value *v = object->first; v; v = v->next)
		if (strcmp(v->key, key) == 0)
			return v;
	return NULL;
}

int json_get(const struct json_value *object, const char *key, enum json_type type,
	     const struct json_value **value, struct err *err)
{
	const struct json_value *v = json_find(object, key);

	if (!v)
		return err_set(err, EINVAL, "'%s' is missing", key);
	if (v->type != type)
		return err_set(err, EINVAL, "'%s' is %s: it must be %s", key,
			       v->type == JSON_BOOL ? v->text : json_type_text(v->type),
			       json_type_text(type));
	*value = v;
	return 0;
}

int json_get_str(const struct json_value *object, const char *key, const char **text,
		 struct err *err)
{
	const struct json_value *v;
	int rc = json_get(object, key, JSON_STRING, &v, err);

	if (rc == 0)
		*text = v->text;
	return rc;
}

int json_get_bool(const struct json_value *object, const char *key, bool *value, struct err *err)
{
	const struct json_value *v;
	int rc = json_get(object, key, JSON_BOOL, &v, err);

	if (rc == 0)
		*value = v->text[0] == 't';
	return rc;
}

int json_get_real(const struct json_value *object, const char *key, double *value,
		  struct err *err)
{
	const struct json_value *v;
	int rc = json_get(object, key, JSON_NUMBER, &v, err);

	if (rc == 0)
		*value = strtod(v->text, NULL);
	return rc;
}

int json_get_uint(const struct json_value *object, const char *key, uint64_t most,
		  uint64_t *value, struct err *err)
{
	const struct json_value *v;
	int rc = json_get(object, key, JSON_NUMBER, &v, err);
	unsigned long long n;
	char *end;

	if (rc < 0)
		return rc;
	errno = 0;
	n = strtoull(v->text, &end, 10);
	if (v->text[0] == '-' || *end || errno || n > most)
		return err_set(err, EINVAL, "'%s' is %.40s: it must be a whole number from 0 to %llu",
			       key, v->text, (unsigned long long)most);
	*value = n;
	return 0;
}

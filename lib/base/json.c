/* SPDX-License-Identifier: MIT */
/*
 * A JSON writer (RFC 8259). It keeps two facts per level: which bracket closes it, and whether
 * a comma is due. Containers are broken over lines and indented by two spaces, because what
 * programs read, people read first; unless lines are what separates one document from the next.
 *
 * Strings are bytes: what is printable or above 0x7f passes, the rest is escaped. Strings that
 * came from a guest may not be UTF-8; a caller that passes such has to know its reader.
 */
#include "base/json.h"

#include "base/json_read.h"

#include <math.h>
#include <stdlib.h>

static void put_string(FILE *out, const char *s)
{
	putc('"', out);
	for (; *s; s++) {
		unsigned char c = *s;

		if (c == '"' || c == '\\')
			fprintf(out, "\\%c", c);
		else if (c == '\n')
			fputs("\\n", out);
		else if (c < 0x20 || c == 0x7f)
			fprintf(out, "\\u%04x", c);
		else if (c == 0xc2 && (unsigned char)s[1] < 0xa0 && s[1]) /* a control character in UTF-8 */
			fprintf(out, "\\u%04x", (unsigned char)*++s);
		else
			putc(c, out);
	}
	putc('"', out);
}

static void new_line(struct json *j)
{
	if (!j->one_line)
		fprintf(j->out, "\n%*s", (int)(2 * j->depth), "");
}

/* The comma, the line and the key that stand before a value. */
static void begin(struct json *j, const char *key)
{
	if (j->more[j->depth])
		fputs(j->one_line ? ", " : ",", j->out);
	j->more[j->depth] = true;
	if (j->depth)
		new_line(j);
	if (key) {
		put_string(j->out, key);
		fputs(": ", j->out);
	}
}

static void end(struct json *j)
{
	if (!j->depth) {
		fputs(j->end ? j->end : "\n", j->out);
		j->more[0] = false;
	}
}

void json_open(struct json *j, const char *key, char bracket)
{
	begin(j, key);
	putc(bracket, j->out);
	if (j->depth == JSON_DEPTH)
		abort(); /* the shape of our documents is ours */
	j->depth++;
	j->ends[j->depth] = bracket == '{' ? '}' : ']';
	j->more[j->depth] = false;
}

void json_close(struct json *j)
{
	char bracket = j->ends[j->depth];
	bool filled = j->more[j->depth];

	j->depth--;
	if (filled)
		new_line(j);
	putc(bracket, j->out);
	end(j);
}

void json_str(struct json *j, const char *key, const char *value)
{
	begin(j, key);
	if (value)
		put_string(j->out, value);
	else
		fputs("null", j->out);
	end(j);
}

void json_uint(struct json *j, const char *key, uint64_t value)
{
	begin(j, key);
	fprintf(j->out, "%llu", (unsigned long long)value);
	end(j);
}

/* JSON has no infinity and no NaN: they become null. */
void json_real(struct json *j, const char *key, double value)
{
	begin(j, key);
	if (isfinite(value))
		fprintf(j->out, "%.6g", value);
	else
		fputs("null", j->out);
	end(j);
}

void json_bool(struct json *j, const char *key, bool value)
{
	begin(j, key);
	fputs(value ? "true" : "false", j->out);
	end(j);
}

void json_copy(struct json *j, const char *key, const struct json_value *v)
{
	if (v->type == JSON_STRING) {
		json_str(j, key, v->text);
	} else if (v->text || j->depth == JSON_DEPTH) {
		begin(j, key);
		fputs(v->text ? v->text : "null", j->out);
		end(j);
	} else {
		json_open(j, key, v->type == JSON_OBJECT ? '{' : '[');
		for (const struct json_value *part = v->first; part; part = part->next)
			json_copy(j, part->key, part);
		json_close(j);
	}
}

/* SPDX-License-Identifier: MIT */
/*
 * JSON, written as it goes.
 *
 *	struct json j = {.out = stdout};
 *
 *	json_open(&j, NULL, '{');
 *	json_str(&j, "engine", "soft");
 *	json_open(&j, "exits", '[');
 *	json_uint(&j, NULL, 17);
 *	json_close(&j);
 *	json_close(&j);                         // {"engine": "soft", "exits": [17]}
 *
 * A key is given inside an object and NULL inside an array. The outermost value is followed
 * by a newline, or by `end`; there is none inside it if `one_line` is set. Write errors are the stream's: ask
 * ferror() or fclose() at the end.
 */
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct json_value;

#define JSON_DEPTH 15

struct json {
	FILE *out;
	bool one_line;
	const char *end; /* NULL: "\n" */
	unsigned depth;
	char ends[JSON_DEPTH + 1]; /* the brackets that are still to come */
	bool more[JSON_DEPTH + 1]; /* the level already has an element */
};

/* Opens an object ('{') or an array ('['); at most JSON_DEPTH levels. */
void json_open(struct json *j, const char *key, char bracket);
void json_close(struct json *j);

/* A value. Strings may hold any UTF-8; what JSON cannot say, NaN and infinities, is null. */
void json_str(struct json *j, const char *key, const char *value); /* NULL writes null */
void json_uint(struct json *j, const char *key, uint64_t value);
void json_real(struct json *j, const char *key, double value);
void json_bool(struct json *j, const char *key, bool value);

/* One that was read (base/json_read.h), with all its parts; null for those that are too deep here. */
void json_copy(struct json *j, const char *key, const struct json_value *value);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * JSON, read into a tree.
 *
 *	struct json_value *request;
 *	uint64_t count;
 *
 *	rc = json_parse(&request, text, len, &err);
 *	if (rc == 0)
 *		rc = json_get_uint(request, "count", 100, &count, &err);
 *	...                             // "'count' is a string: it must be a number"
 *	free(request);                  // all of it is one allocation
 *
 * The text may come from anybody. How long and how deep it may be is bounded, and so is what reading it
 * costs.
 */
#ifndef BASE_JSON_READ_H
#define BASE_JSON_READ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;

#define JSON_TEXT_MAX    (1u << 20) /* bytes; a text that is longer is refused */
#define JSON_MEMBERS_MAX 1024       /* of an object */

enum json_type { JSON_NULL, JSON_BOOL, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

struct json_value {
	enum json_type type;
	const char *key;  /* of a member of an object; else NULL */
	const char *text; /* what a string says, a number as it is written, "true"; NULL: it has parts */
	const struct json_value *first, *next; /* its first part; what comes after it */
};

/* One value, with nothing after it. 0; or -EINVAL with the place and what is wrong there, -ENOMEM. */
int json_parse(struct json_value **root, const char *text, size_t len, struct err *err);

/* The member of an object; NULL if there is none, or it is no object. */
const struct json_value *json_find(const struct json_value *object, const char *key);

/* The same, of a member that must be there and be of the type; or -EINVAL with a sentence. */
int json_get(const struct json_value *object, const char *key, enum json_type type,
	     const struct json_value **value, struct err *err);
int json_get_str(const struct json_value *object, const char *key, const char **text,
		 struct err *err);
int json_get_bool(const struct json_value *object, const char *key, bool *value, struct err *err);
int json_get_real(const struct json_value *object, const char *key, double *value,
		  struct err *err);

/* A whole number from 0 to `most`; all 64 bits count. */
int json_get_uint(const struct json_value *object, const char *key, uint64_t most,
		  uint64_t *value, struct err *err);

/* "a string": for sentences. */
const char *json_type_text(enum json_type type);

#endif

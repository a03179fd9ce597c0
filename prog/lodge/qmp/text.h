/* SPDX-License-Identifier: MIT */
/*
 * What a control socket says, as bytes: a line each, that ends in CR LF.
 *
 *	struct qmp_text t;
 *	if (qmp_text_greeting(&t))
 *		... send t.bytes
 *	free(t.bytes);
 */
#ifndef QMP_TEXT_H
#define QMP_TEXT_H

#include <stdbool.h>
#include <stddef.h>

struct call;
struct err;
struct json_value;
struct migration_facts;
struct qmp_request;

struct qmp_text {
	char *bytes; /* NULL: there is no memory, and the function was false */
	size_t n;
};

/* The first thing that is said. */
bool qmp_text_greeting(struct qmp_text *t);

/* `data` is an object in JSON, or NULL. With the time that it is. */
bool qmp_text_event(struct qmp_text *t, const char *name, const char *data);

/* The answer to a request: an error; or what serving it returns, which may be an error as well, and nothing if it comes later. */
bool qmp_text_error(struct qmp_text *t, const struct json_value *id, const char *class, const struct err *err);
bool qmp_text_serve(struct qmp_text *t, const struct qmp_request *r, struct call *call);

/* What a migration that has ended returns. */
bool qmp_text_migrated(struct qmp_text *t, const struct json_value *id, const struct migration_facts *facts);

#endif

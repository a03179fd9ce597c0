/* SPDX-License-Identifier: MIT */
/*
 * What a client asks: a text that should be a request, read and checked.
 *
 *	struct qmp_request r;
 *	rc = qmp_request_read(&r, text, len, negotiated, &err);
 *	if (rc == 0)
 *		... r.command, with r.args as its row in the table says
 *	else
 *		... r.class and err; r.id all the same, if it could be found
 *	qmp_request_free(&r);
 */
#ifndef QMP_REQUEST_H
#define QMP_REQUEST_H

#include <stdbool.h>
#include <stddef.h>

struct err;
struct json_value;
struct qmp_command;

/* Classes of errors that clients tell apart. */
#define QMP_GENERIC     "GenericError"
#define QMP_NO_COMMAND  "CommandNotFound"
#define QMP_NO_DEVICE   "DeviceNotFound"
#define QMP_NOT_ACTIVE  "DeviceNotActive"

#define QMP_NEGOTIATE "qmp_capabilities" /* all that is taken before it was, and not after */

struct qmp_request {
	const struct qmp_command *command;
	const struct json_value *args; /* an object */
	const struct json_value *id;   /* NULL: it has none */
	const char *class;             /* of an error */
	struct json_value *root;       /* all of it */
};

/* 0, or -errno (-ERANGE: it makes no sense) and a class. To be freed in any case. */
int qmp_request_read(struct qmp_request *r, const char *text, size_t len, bool negotiated, struct err *err);
void qmp_request_free(struct qmp_request *r);

#endif

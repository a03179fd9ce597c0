/* SPDX-License-Identifier: MIT */
/*
 * A value of a client's against a type of types.h. Behind it functions take members without looking at them again.
 *
 *	rc = qmp_check_members(arguments, "keys: [KeyValue]", &err);       // -ERANGE: 'keys[1].data' is missing
 */
#ifndef QMP_CHECK_H
#define QMP_CHECK_H

struct err;
struct json_value;

/* An object that has these members, and no others. 0, or -ERANGE with the place and what would have been right. */
int qmp_check_members(const struct json_value *object, const char *members, struct err *err);

#endif

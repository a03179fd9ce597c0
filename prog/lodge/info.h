/* SPDX-License-Identifier: MIT */
/* What a guest or a saved machine is, for people. */
#ifndef LODGE_INFO_H
#define LODGE_INFO_H

struct json_value;

/* The facts of an answer to "info", or of a file's description, on stdout. */
void info_print(const struct json_value *facts);

#endif

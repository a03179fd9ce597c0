/* SPDX-License-Identifier: MIT */
/*
 * A machine as a document: what `lodge run` was told, as JSON, and the other way round.
 *
 *	{"from": "debian", "cpus": 2, "memory": "2G", "net": "user", "forward": ["2222:22"]}
 *
 * A member is an option of the verb without its dashes, its value of the option's kind, or a list of values for one that
 * may be there more than once; "from" is the operand. So there is one table of what a machine can be, that of options, from which come
 * --help, this, docs/machine.md and the schema. Options that say how lodge itself is to behave, not what the machine is, are not
 * among them (document.c lists them).
 */
#ifndef LODGE_DOCUMENT_H
#define LODGE_DOCUMENT_H

#include <stdbool.h>

struct err;
struct json;
struct option;
struct verb;

#define DOCUMENT_MAX 128 /* values */

/* What was said, in order. Texts live as long as the process, and so does this. */
struct document {
	struct said {
		const struct option *option; /* NULL: the operand */
		const char *value;           /* NULL: a flag */
		char *given;                 /* of a file: the text that the option has, and may have cut; or NULL */
	} said[DOCUMENT_MAX];
	unsigned n;
};

/* Notes an option that was said, if it is of a machine. -ENOMEM, -E2BIG. */
int document_note(struct document *d, const struct option *o, const char *value, struct err *err);

/* Sets what the file says in `into`, and notes it. 0, or a sentence with the place in the file. */
int document_load(struct document *d, const struct verb *verb, void *into, const char *file, struct err *err);

/* As a member "machine"; nothing, if nothing was said. */
void document_put(const struct document *d, struct json *j);

/* `lodge help machine`: a table for people (docs/machine.md has it, too), or a JSON Schema. */
void document_list(const struct verb *verb);
void document_schema(const struct verb *verb);

#endif

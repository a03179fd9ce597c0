/* SPDX-License-Identifier: MIT */
/*
 * The lodge program: verbs, options, exit codes.
 */
#ifndef LODGE_LODGE_H
#define LODGE_LODGE_H

#include <stddef.h>

struct err;

/* What the program says to scripts. */
enum exit_code {
	EXIT_OK = 0,
	EXIT_FAILED = 1,
	EXIT_USAGE = 2,
	EXIT_NOT_FOUND = 3, /* a file, a guest */
	EXIT_CONFLICT = 4,  /* somebody else has it */
	EXIT_ENGINE = 5,    /* no engine can be used */
	EXIT_SIGNAL = 128,  /* and the signal's number */
};

/* An option of a verb: a row of its table, which ends with a NULL name. */
struct option {
	const char *name; /* "--kernel" */
	const char *arg;  /* what its value is called in help; NULL: takes none */
	const char *help;
	/* Puts the value (argv's own, NULL without arg) into the verb's struct; 0 or -EINVAL
	 * with err. */
	int (*set)(void *into, char *value, struct err *err);
};

struct verb {
	const char *name;
	const char *summary; /* one line */
	const char *text;    /* more, for `lodge help VERB`; NULL: nothing */
	const char *operand; /* "[VERB]": one argument that is no option; NULL: none is taken */
	const struct option *options;
	size_t size; /* of the struct that options fill; it begins with `const char *operand` */
	int (*main)(void *parsed);
};

extern const struct verb *const verbs[]; /* ends with NULL */
extern const struct verb verb_run, verb_doctor, verb_stats, verb_help, verb_version;

/* NULL if there is no such verb. */
const struct verb *verb_find(const char *name);

/* Fills `into`. 0, or -EINVAL with a sentence. argv is without program and verb. */
int options_parse(const struct verb *verb, void *into, int argc, char **argv,
		  struct err *err);

/* The sentence of err on stderr, and the exit code that its number stands for. */
int report_failure(const struct err *err);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * lodge-img: makes, looks at, checks and copies disk images, as qemu-img does. This file is the list of its verbs and the
 * way to them; docs/lodge-img.md says how it differs.
 *
 * Results go to stdout, an error is one sentence on stderr and exit code 1; check and compare say more by theirs.
 */
#include "prog/lodge-img/img.h"

#include "base/err.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char program_name[] = "lodge-img";

const struct verb *const verbs[] = {
	&verb_info, &verb_create, &verb_check, &verb_compare, &verb_map, &verb_convert, &verb_resize, &verb_snapshot,
	&verb_measure, &verb_rebase, &verb_commit, &verb_dd, &verb_bench, &verb_help, &verb_version, NULL,
};

const struct verb *verb_find(const char *name)
{
	for (const struct verb *const *v = verbs; *v; v++)
		if (strcmp((*v)->name, name) == 0)
			return *v;
	return NULL;
}

/* Names in it may be an image's: a stranger's. */
int img_fail(const struct err *err)
{
	struct err shown = *err;

	err_harmless(shown.text);
	fflush(stdout);
	fprintf(stderr, "lodge-img: %s\n", shown.text[0] ? shown.text : strerror(shown.code));
	return EXIT_FAILED;
}

int verb_unknown(const char *name)
{
	struct err err;

	err_set(&err, ERANGE, "there is no verb '%s': see lodge-img help", name);
	return img_fail(&err);
}

/* Of compare, 1 means something else. */
static int usage_code(const struct verb *verb)
{
	return verb == &verb_compare ? 2 : EXIT_FAILED;
}

static int run_verb(const struct verb *verb, int argc, char **argv)
{
	void *parsed = calloc(1, verb->size);
	struct err err = {0};
	int code = EXIT_FAILED;

	if (!parsed)
		err_set(&err, ENOMEM, "no memory");
	if (!parsed || options_parse(verb, parsed, argc, argv, &err) < 0) {
		img_fail(&err);
		code = usage_code(verb);
	} else {
		code = verb->main(parsed);
	}
	free(parsed);
	if (fflush(stdout) == 0 && !ferror(stdout))
		return code;
	fprintf(stderr, "lodge-img: standard output cannot be written to\n");
	return code ? code : EXIT_FAILED;
}

int main(int argc, char **argv)
{
	const struct verb *verb;

	if (argc < 2) {
		verb_help.main(&(const char *){NULL});
		return EXIT_FAILED;
	}
	verb = verb_asked(&argc, &argv);
	return verb ? run_verb(verb, argc, argv) : verb_unknown(argv[1]);
}

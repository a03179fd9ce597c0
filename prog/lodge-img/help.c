/* SPDX-License-Identifier: MIT */
/* lodge-img help, lodge-img version. */
#include "prog/lodge-img/img.h"

#include <stdio.h>

static int list_verbs(void)
{
	printf("lodge-img: disk images, raw and qcow2\n\nusage: lodge-img VERB [OPTION]... FILE\n\n");
	for (const struct verb *const *v = verbs; *v; v++)
		printf("  %-10s %s\n", (*v)->name, (*v)->summary);
	printf("\n`lodge-img help VERB` says more. Verbs, options and JSON are those of qemu-img. Exit codes: 0 ok, 1 failure;\n"
	       "check: 2 corrupt, 3 leaks; compare: 1 they differ, 2 and more failure.\n");
	return EXIT_OK;
}

static int help_main(void *parsed)
{
	const char *name = *(const char **)parsed;
	const struct verb *v = name ? verb_find(name) : NULL;

	if (!name)
		return list_verbs();
	if (!v)
		return verb_unknown(name);
	verb_show(v);
	return EXIT_OK;
}

static int version_main(void *parsed)
{
	(void)parsed;
	printf("lodge-img %s\n", LODGE_VERSION);
	return EXIT_OK;
}

const struct verb verb_help = {
	.name = "help",
	.summary = "what the verbs do, and what their options are",
	.operand = "[VERB]",
	.n_operands = 1,
	.size = sizeof(const char *),
	.main = help_main,
};

const struct verb verb_version = {
	.name = "version",
	.summary = "which lodge-img this is",
	.size = sizeof(const char *),
	.main = version_main,
};

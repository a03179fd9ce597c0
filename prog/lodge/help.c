/* SPDX-License-Identifier: MIT */
/*
 * lodge help, lodge version. The text is made from the same tables that parse the command
 * line, so the two cannot disagree.
 */
#include "lodge.h"

#include "document.h"
#include "qmp/command.h"

#include <stdio.h>
#include <string.h>

struct help {
	const char *verb;
	const char *format;
};

static const struct option options[] = {
	{"-o", "table|json", "of machine: a JSON Schema (default: table)", OPTION_WORD, offsetof(struct help, format), 0, 0, NULL},
	{0},
};

static int list_verbs(void)
{
	printf("lodge: virtual machines that start anywhere\n\nusage: lodge VERB [OPTION]...\n\n");
	for (const struct verb *const *v = verbs; *v; v++)
		printf("  %-10s %s\n", (*v)->name, (*v)->summary);
	printf("\n`lodge help VERB` says more. Exit codes: 0 ok, 1 failure, 2 usage, 3 not found,\n"
	       "4 in use by somebody else, 5 no usable engine, 124 waited in vain, 128+N ended by\n"
	       "signal N. `lodge help control` lists what a guest's control socket takes, `lodge help machine`\n"
	       "what a machine's document has.\n");
	return EXIT_OK;
}

static int help_main(void *parsed)
{
	const struct help *h = parsed;
	const struct verb *v;

	if (!h->verb)
		return list_verbs();
	if (strcmp(h->verb, "control") == 0) {
		qmp_list();
		return EXIT_OK;
	}
	if (strcmp(h->verb, "machine") == 0) {
		(wants_json(h->format) ? document_schema : document_list)(&verb_run);
		return EXIT_OK;
	}
	v = verb_find(h->verb);
	if (v) {
		verb_show(v);
		return EXIT_OK;
	}
	return verb_unknown(h->verb);
}

static int version_main(void *parsed)
{
	(void)parsed;
	printf("lodge %s\n", LODGE_VERSION);
	return EXIT_OK;
}

const struct verb verb_help = {
	.name = "help",
	.summary = "what the verbs do, and what their options are",
	.operand = "[VERB]",
	.n_operands = 1,
	.options = options,
	.size = sizeof(struct help),
	.main = help_main,
};

const struct verb verb_version = {
	.name = "version",
	.summary = "which lodge this is",
	.size = sizeof(const char *),
	.main = version_main,
};

/* SPDX-License-Identifier: MIT */
/* How a verb is used: from the table that parses its options. For lodge and for lodge-img. */
#include "lodge.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static void show_option(const struct option *o)
{
	char left[64];

	snprintf(left, sizeof(left), "%s%s%s", o->name, o->arg ? " " : "",
		 o->arg ? o->arg : "");
	printf("  %-30s %s\n", left, o->help);
}

void verb_show(const struct verb *v)
{
	printf("usage: %s %s%s%s%s\n\n%s\n", program_name, v->name,
	       v->options && v->options->name ? " [OPTION]..." : "",
	       v->operand ? " " : "", v->operand ? v->operand : "", v->summary);
	if (v->options && v->options->name)
		printf("\n");
	for (const struct option *o = v->options; o && o->name; o++)
		show_option(o);
	if (v->text)
		printf("\n%s", v->text);
}

static bool asks_for_help(const char *word)
{
	return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0;
}

const struct verb *verb_asked(int *argc, char ***argv)
{
	const char *name = (*argv)[1];
	const struct verb *verb = verb_find(name);
	int words = *argc - 2;

	*argc = 0;
	if (asks_for_help(name))
		return &verb_help;
	if (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0)
		return &verb_version;
	if (!verb)
		return NULL;
	for (int i = 2; i < words + 2 && strcmp((*argv)[i], "--") != 0; i++) {
		if (asks_for_help((*argv)[i])) {
			*argc = 1;
			*argv += 1;
			return &verb_help;
		}
	}
	*argc = words;
	*argv += 2;
	return verb;
}

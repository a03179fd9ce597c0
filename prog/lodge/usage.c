/* SPDX-License-Identifier: MIT */
/* How a verb is used: from the table that parses its options. For lodge and for lodge-img. */
#include "lodge.h"

#include <stdio.h>

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

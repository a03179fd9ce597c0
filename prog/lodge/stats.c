/* SPDX-License-Identifier: MIT */
/* lodge stats: the counters of a running guest. */
#include "lodge.h"

#include "base/err.h"
#include "base/json_read.h"
#include "client.h"
#include "engine/kvm.h"
#include "failure.h"
#include "info.h"

#include <stdio.h>
#include <stdlib.h>

struct stats {
	const char *vm;
	const char *format;
};

static const struct option options[] = {
	OPTION_JSON(offsetof(struct stats, format)),
	{0},
};

static void print_counter(const char *name, const char *value)
{
	char text[200];

	snprintf(text, sizeof(text), "%14.20s  %s", value, kvm_stat_text(name));
	client_print(name, text);
}

static void print_counters(const struct json_value *counters)
{
	for (const struct json_value *v = counters->first; v; v = v->next)
		if (v->text)
			print_counter(v->key, v->text);
}

static void print(const struct json_value *answer)
{
	const struct json_value *counters = json_find(answer, "counters");

	info_print(answer);
	if (counters)
		print_counters(counters);
}

static int stats_main(void *parsed)
{
	const struct stats *s = parsed;
	struct json_value *answer;
	struct err err = {0};

	if (client_do(s->vm, "x-lodge-stats", NULL, &answer, &err) < 0)
		return report_failure(&err);
	if (wants_json(s->format))
		client_print_json(answer);
	else
		print(answer);
	free(answer);
	return EXIT_OK;
}

const struct verb verb_stats = {
	.name = "stats",
	.summary = "the counters of a running guest",
	.text = VM_TEXT,
	.operand = "[VM]",
	.n_operands = 1,
	.options = options,
	.size = sizeof(struct stats),
	.main = stats_main,
};

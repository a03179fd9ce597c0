/* SPDX-License-Identifier: MIT */
/*
 * lodge doctor: which engine works here, and why not the other.
 *
 * Each engine is probed in full, the one that would not be chosen as well. The exit code is 0
 * if `lodge run` would find an engine, else 5. The JSON's field "reason" is a stable name of
 * engine/probe.h, for scripts; "text" is for people and may change.
 */
#include "lodge.h"

#include "base/json.h"
#include "base/macros.h"
#include "engine/kvm.h"
#include "engine/probe.h"

#include <stdbool.h>
#include <stdio.h>

struct doctor {
	const char *operand;
	bool json;
};

/* In the order of preference. */
static const struct kvm_face *const faces[] = {&kvm_host, &kvm_soft};

static int set_json(void *into, char *value, struct err *err)
{
	(void)value, (void)err;
	((struct doctor *)into)->json = true;
	return 0;
}

static const struct option options[] = {
	{"--json", NULL, "the same for programs", set_json},
	{0},
};

static void print_text(const struct probe_report *reports,
		       const struct kvm_face *chosen)
{
	for (unsigned i = 0; i < ARRAY_SIZE(faces); i++) {
		const struct probe_report *r = &reports[i];

		printf("%-5s %-13s %s (%.0f ms)\n", faces[i]->name,
		       probe_fault_name(r->fault), r->text, r->ms);
		if (r->fault && r->hint)
			printf("%-19s try: %s\n", "", r->hint);
	}
	if (chosen)
		printf("\nlodge run will use engine '%s'\n", chosen->name);
	else
		printf("\nno engine can be used on this machine\n");
}

static void print_json(const struct probe_report *reports,
		       const struct kvm_face *chosen)
{
	struct json j = {.out = stdout};

	json_open(&j, NULL, '{');
	json_str(&j, "engine", chosen ? chosen->name : NULL);
	json_open(&j, "engines", '[');
	for (unsigned i = 0; i < ARRAY_SIZE(faces); i++) {
		json_open(&j, NULL, '{');
		json_str(&j, "name", faces[i]->name);
		json_bool(&j, "usable", !reports[i].fault);
		json_str(&j, "reason", probe_fault_name(reports[i].fault));
		json_str(&j, "text", reports[i].text);
		json_str(&j, "hint", reports[i].fault ? reports[i].hint : NULL);
		json_real(&j, "ms", reports[i].ms);
		json_real(&j, "mips", reports[i].mips);
		json_close(&j);
	}
	json_close(&j);
	json_close(&j);
}

static int doctor_main(void *parsed)
{
	const struct doctor *d = parsed;
	struct probe_report reports[ARRAY_SIZE(faces)];
	const struct kvm_face *chosen = NULL;

	for (unsigned i = 0; i < ARRAY_SIZE(faces); i++) {
		probe_engine(faces[i], &reports[i]);
		if (!reports[i].fault && !chosen)
			chosen = faces[i];
	}
	(d->json ? print_json : print_text)(reports, chosen);
	return chosen ? EXIT_OK : EXIT_ENGINE;
}

const struct verb verb_doctor = {
	.name = "doctor",
	.summary = "which engine works here, and why not the other",
	.text = "Runs a small guest on each engine. Exit code 0: a guest can be run; 5: none can.\n",
	.options = options,
	.size = sizeof(struct doctor),
	.main = doctor_main,
};

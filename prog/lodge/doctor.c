/* SPDX-License-Identifier: MIT */
/*
 * lodge doctor: which engine works here, and what this computer lacks.
 *
 * Each engine is probed in full, the one that would not be chosen as well. Then come the facts
 * (engine/facts.h), those that are not as they should be behind a "!" and, on a terminal, in colour
 * (not if NO_COLOR is set). The exit code is 0 if
 * `lodge run` would find an engine, else 5. In the JSON the field "reason" is a stable name of
 * engine/probe.h, "name", "verdict" and "value" of a fact are stable, too; "text" and "hint" are
 * for people and may change.
 *
 * --abi asks nothing of the computer: what of <linux/kvm.h> softkvm has is a table (softkvm/abi/caps.def).
 */
#include "lodge.h"

#include "base/json.h"
#include "base/macros.h"
#include "engine/ask.h"
#include "engine/facts.h"
#include "engine/kvm.h"
#include "engine/probe.h"
#include "softkvm/softkvm.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct doctor {
	const char *format;
	bool abi;
};

/* In the order of preference. */
static const struct kvm_face *const faces[] = {&kvm_host, &kvm_soft};

static const struct option options[] = {
	{"--abi", NULL, "only say what of KVM's ABI softkvm has, and how it differs", OPTION_FLAG, offsetof(struct doctor, abi), 0, 0, NULL},
	OPTION_JSON(offsetof(struct doctor, format)),
	{0},
};

struct findings {
	struct answers answers;
	struct probe_report reports[ARRAY_SIZE(faces)];
	const struct kvm_face *chosen;
	struct fact facts[FACTS_MAX];
	unsigned n_facts;
};

/* -- For people ------------------------------------------------------------------------------- */

static void print_reports(const struct findings *d)
{
	for (unsigned i = 0; i < ARRAY_SIZE(faces); i++) {
		const struct probe_report *r = &d->reports[i];

		printf("%-5s %-13s %s (%.0f ms)\n", faces[i]->name,
		       probe_fault_name(r->fault), r->text, r->ms);
		if (r->fault && r->hint)
			printf("%-19s try: %s\n", "", r->hint);
	}
}

/* One remedy may be good for several facts, and is told with the first. */
static bool is_told(const struct findings *d, const struct fact *f)
{
	for (unsigned i = 0; i < ARRAY_SIZE(faces); i++)
		if (d->reports[i].hint && strcmp(d->reports[i].hint, f->remedy) == 0)
			return true;
	for (const struct fact *g = d->facts; g < f; g++)
		if (g->remedy && strcmp(g->remedy, f->remedy) == 0)
			return true;
	return false;
}

/* Yellow for what works, red for what does not. */
static const char *const colours[VERDICTS] = {
	[FACT_SLOWER] = "\033[33m", [FACT_LESS] = "\033[33m", [FACT_MISSING] = "\033[31m",
};

#define PLAIN "\033[m"

static bool wants_colour(void)
{
	const char *no = getenv("NO_COLOR"), *term = getenv("TERM");

	return isatty(STDOUT_FILENO) && !(no && no[0]) && term && strcmp(term, "dumb") != 0;
}

static void print_facts(const struct findings *d)
{
	bool colour = wants_colour();

	for (unsigned i = 0; i < d->n_facts; i++) {
		const struct fact *f = &d->facts[i];
		bool in_colour = colour && f->verdict;

		if (!i)
			printf("\nthis computer\n");
		else if (f->engine && f->engine != f[-1].engine)
			printf("engine '%s'\n", f->engine);
		printf("%c %-15s %s%-8s%s %s\n", f->verdict ? '!' : ' ', f->name,
		       in_colour ? colours[f->verdict] : "", verdict_name(f->verdict),
		       in_colour ? PLAIN : "", f->text);
		if (f->remedy && !is_told(d, f))
			printf("%-26s try: %s\n", "", f->remedy);
	}
}

static void print_text(const struct findings *d)
{
	print_reports(d);
	print_facts(d);
	if (d->chosen)
		printf("\nlodge run will use engine '%s'\n", d->chosen->name);
	else
		printf("\nno engine can be used on this machine\n");
}

/* -- For programs ----------------------------------------------------------------------------- */

static void json_report(struct json *j, const char *name, const struct probe_report *r)
{
	json_open(j, NULL, '{');
	json_str(j, "name", name);
	json_bool(j, "usable", !r->fault);
	json_str(j, "reason", probe_fault_name(r->fault));
	json_str(j, "text", r->text);
	json_str(j, "hint", r->fault ? r->hint : NULL);
	json_real(j, "ms", r->ms);
	json_real(j, "mips", r->mips);
	json_close(j);
}

static void json_fact(struct json *j, const struct fact *f)
{
	json_open(j, NULL, '{');
	json_str(j, "name", f->name);
	json_str(j, "engine", f->engine);
	json_str(j, "verdict", verdict_name(f->verdict));
	json_str(j, "value", f->value[0] ? f->value : NULL);
	json_str(j, "text", f->text);
	json_str(j, "hint", f->remedy);
	json_close(j);
}

static void print_json(const struct findings *d)
{
	struct json j = {.out = stdout};

	json_open(&j, NULL, '{');
	json_str(&j, "engine", d->chosen ? d->chosen->name : NULL);
	json_open(&j, "engines", '[');
	for (unsigned i = 0; i < ARRAY_SIZE(faces); i++)
		json_report(&j, faces[i]->name, &d->reports[i]);
	json_close(&j);
	json_open(&j, "facts", '[');
	for (unsigned i = 0; i < d->n_facts; i++)
		json_fact(&j, &d->facts[i]);
	json_close(&j);
	json_close(&j);
}

/* -- The ABI ---------------------------------------------------------------------------------- */

static void json_abi(const struct softkvm_cap *caps, unsigned n)
{
	struct json j = {.out = stdout};

	json_open(&j, NULL, '{');
	json_open(&j, "capabilities", '[');
	for (unsigned i = 0; i < n; i++) {
		json_open(&j, NULL, '{');
		json_str(&j, "name", caps[i].name);
		json_uint(&j, "number", (uint64_t)caps[i].number);
		json_uint(&j, "value", (uint64_t)caps[i].value);
		json_str(&j, "text", caps[i].text[0] ? caps[i].text : NULL);
		json_close(&j);
	}
	json_close(&j);
	json_close(&j);
}

static int show_abi(bool as_json)
{
	const struct softkvm_cap *caps;
	unsigned n = softkvm_caps(&caps);

	if (as_json)
		json_abi(caps, n);
	for (unsigned i = 0; i < n && !as_json; i++)
		printf("KVM_CAP_%-28s %-7d %s\n", caps[i].name, caps[i].value,
		       caps[i].text[0] ? caps[i].text : "as the kernel's");
	return EXIT_OK;
}

static int doctor_main(void *parsed)
{
	const struct doctor *options_given = parsed;
	struct findings d = {0};

	if (options_given->abi)
		return show_abi(wants_json(options_given->format));

	ask_host(&d.answers);
	for (unsigned i = 0; i < ARRAY_SIZE(faces); i++) {
		probe_engine(faces[i], &d.reports[i]);
		if (!d.reports[i].fault && !d.chosen)
			d.chosen = faces[i];
		if (faces[i] == &kvm_host)
			d.answers.kvm = d.reports[i];
	}
	d.n_facts = facts_judge(&d.answers, d.facts);
	(wants_json(options_given->format) ? print_json : print_text)(&d);
	return d.chosen ? EXIT_OK : EXIT_ENGINE;
}

const struct verb verb_doctor = {
	.name = "doctor",
	.summary = "which engine works here, and what this computer lacks",
	.text = "Runs a small guest on each engine, then asks the computer. What stands behind a !\n"
		"makes guests slower, gives them less, or keeps an engine from running: the manual\n"
		"page explains each. Exit code 0: a guest can be run; 5: none can.\n",
	.options = options,
	.size = sizeof(struct doctor),
	.main = doctor_main,
};

/* SPDX-License-Identifier: MIT */
/*
 * --cpu: from its text to a model, and what a user is told of models.
 *
 * The text is read from left to right, as is natural with words that take away and give back:
 * "v3,-avx,+avx" is v3. A name that is unknown is refused with the names that are near; some
 * that people know from manuals or from the psABI are Linux's under another name, which is
 * told.
 */
#include "machine/cpu/cpu.h"

#include "base/err.h"
#include "base/macros.h"
#include "base/near.h"
#include "engine/kvm.h"
#include "machine/cpu/table.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

#define NAME_MAX_LEN 40

/* -- Names -------------------------------------------------------------------------------- */

static const struct {
	const char *said, *name;
} other_names[] = {
	{"sse3", "pni"},	{"lzcnt", "abm"},	   {"cmpxchg16b", "cx16"},
	{"cmpxchg8b", "cx8"},	{"lahf", "lahf_lm"},	   {"lahf-sahf", "lahf_lm"},
	{"osxsave", "xsave"},	{"sce", "syscall"},	   {"osfxsr", "fxsr"},
	{"sha", "sha_ni"},	{"prefetchw", "3dnowprefetch"}, {"invtsc", "constant_tsc"},
	{"xgetbv", "xgetbv1"},	{"aesni", "aes"},	   {"nonstop_tsc", "constant_tsc"},
	{"x86-64-v1", "v1"},	{"x86-64-v2", "v2"},	   {"x86-64-v3", "v3"},
	{"x86-64-v4", "v4"},
};

static const char *other_name(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(other_names); i++)
		if (strcmp(other_names[i].said, name) == 0)
			return other_names[i].name;
	return NULL;
}

/* Manuals write them in capitals. */
static const char *nearest(const char *said)
{
	size_t least = near_limit(said) + 1;
	char name[NAME_MAX_LEN] = "";
	const char *best;

	for (size_t i = 0; said[i] && i + 1 < sizeof(name); i++)
		name[i] = (char)tolower((unsigned char)said[i]);
	best = other_name(name);
	if (best)
		return best;
	for (unsigned i = 0; i < CPU_FEATURES; i++) {
		size_t d = near_distance(cpu_features[i].name, name);

		if (d < least) {
			least = d;
			best = cpu_features[i].name;
		}
	}
	return best;
}

static int unknown(const char *name, struct err *err)
{
	const char *near = nearest(name);

	if (near)
		return err_set(err, EINVAL, "there is no CPU feature '%s': did you mean %s?",
			       name, near);
	return err_set(err, EINVAL,
		       "there is no CPU feature '%s': lodge run --cpu help lists them", name);
}

/* -- The text ----------------------------------------------------------------------------- */

/* 0 for host, a level's number; -1: none. */
static int level_of(const char *word, size_t len)
{
	if (len == 4 && memcmp(word, "host", 4) == 0)
		return 0;
	if (len == 2 && word[0] == 'v' && word[1] >= '1' && word[1] <= '0' + CPU_LEVELS)
		return word[1] - '0';
	return -1;
}

/* The last word counts. */
static void move(const struct cpu_set *what, struct cpu_set *from, struct cpu_set *to)
{
	for (unsigned w = 0; w < CPU_SET_WORDS; w++) {
		from->word[w] &= ~what->word[w];
		to->word[w] |= what->word[w];
	}
}

/* "+name" or "-name" */
static int take(struct cpu_model *m, const char *word, size_t len, struct err *err)
{
	char name[NAME_MAX_LEN];
	struct cpu_set what;
	int i;

	snprintf(name, sizeof(name), "%.*s", (int)len, word);
	if (len < 2 || (word[0] != '+' && word[0] != '-'))
		return err_set(err, EINVAL, "'%s' is no feature with + or - before it", name);
	i = cpu_feature_find(word + 1, len - 1);
	if (i < 0)
		return unknown(name + 1, err);
	what = word[0] == '+' ? cpu_needs((unsigned)i) : cpu_needed_by((unsigned)i);
	if (word[0] == '+')
		move(&what, &m->removed, &m->added);
	else
		move(&what, &m->added, &m->removed);
	return 0;
}

int cpu_model_parse(struct cpu_model *out, const char *text, struct err *err)
{
	const char *word = text;
	size_t len = strcspn(word, ",");
	int level = level_of(word, len), rc = 0;

	*out = (struct cpu_model){.text = text, .level = level > 0 ? (unsigned)level : 0};
	if (level < 0) {
		char name[NAME_MAX_LEN];

		snprintf(name, sizeof(name), "%.*s", (int)len, word);
		return other_name(name) ?
			       err_set(err, EINVAL, "there is no CPU model '%s': did you mean %s?",
				       name, other_name(name)) :
			       err_set(err, EINVAL,
				       "there is no CPU model '%s': host, v1, v2, v3 and v4 are",
				       name);
	}
	while (rc == 0 && word[len]) {
		word += len + 1;
		len = strcspn(word, ",");
		rc = take(out, word, len, err);
	}
	return rc;
}

/* -- The list ----------------------------------------------------------------------------- */

#define WIDTH 78

/* A paragraph of the names of one kind, with a * where one is not offered. */
static void list_features(const struct cpu_set *offered, unsigned kind, FILE *out)
{
	size_t column = WIDTH;

	for (unsigned i = 0; i < CPU_FEATURES; i++) {
		const char *name = cpu_features[i].name;
		bool has = cpu_set_has(offered, i);
		size_t len = strlen(name) + (has ? 1 : 2);

		if (cpu_features[i].model != kind)
			continue;
		if (column + len > WIDTH) {
			fputs("\n    ", out);
			column = 4;
		}
		fprintf(out, " %s%s", name, has ? "" : "*");
		column += len;
	}
	fputs("\n\n", out);
}

static void list(const struct cpu_set *offered, const char *engine, FILE *out)
{
	const char *const highest[] = {"none", "v1", "v2", "v3", "v4"};

	fprintf(out,
		"usage: --cpu MODEL[,+FEATURE][,-FEATURE]...\n\n"
		"A * marks what engine '%s' does not offer here; its highest level: %s\n\n"
		"  host: all that the engine offers\n\n",
		engine, highest[cpu_highest_level(offered)]);
	for (unsigned level = 1; level <= CPU_LEVELS; level++) {
		fprintf(out, "  v%u: %s", level,
			level == 1 ? "what each x86-64 CPU has" : "the one before, and");
		list_features(offered, level, out);
	}
	fputs("  of no level:", out);
	list_features(offered, CPU_OPT, out);
	fputs("  about speculation, in all models where the engine has it:", out);
	list_features(offered, CPU_ENG, out);
}

int cpu_list(const struct kvm_face *face, FILE *out, struct err *err)
{
	struct cpu_table t;
	struct cpu_set offered;
	int sys = face->open(err), rc;

	if (sys < 0)
		return sys;
	rc = cpu_table_offered(face, sys, &t, err);
	face->close(sys);
	if (rc < 0)
		return rc;
	offered = cpu_table_features(&t);
	list(&offered, face->name, out);
	return 0;
}

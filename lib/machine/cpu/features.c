/* SPDX-License-Identifier: MIT */
/*
 * The table of features.def, by name and by what needs what.
 *
 * Needs are looked up by name each time: there are fewer than two hundred rows, and a set is made
 * once a guest.
 */
#include "machine/cpu/features.h"

#include "base/macros.h"

#include <stdio.h>
#include <string.h>

#define MODEL_V1  CPU_V1
#define MODEL_V2  CPU_V2
#define MODEL_V3  CPU_V3
#define MODEL_V4  CPU_V4
#define MODEL_OPT CPU_OPT
#define MODEL_ENG CPU_ENG

const struct cpu_feature cpu_features[] = {
#define FEATURE(leaf, sub, reg, bit, model, name, needs) \
	{leaf, sub, CPU_##reg, bit, MODEL_##model, #name, #needs},
#include "machine/cpu/features.def"
#undef FEATURE
};

const unsigned cpu_n_features = ARRAY_SIZE(cpu_features);

_Static_assert(ARRAY_SIZE(cpu_features) <= CPU_SET_WORDS * 64, "struct cpu_set is too small");

int cpu_feature_find(const char *name, size_t len)
{
	for (unsigned i = 0; i < cpu_n_features; i++)
		if (strlen(cpu_features[i].name) == len &&
		    memcmp(cpu_features[i].name, name, len) == 0)
			return (int)i;
	return -1;
}

/* Is `name` one of the words? */
static bool is_among(const char *words, const char *name)
{
	size_t len = strlen(name);

	for (const char *p = words; (p = strstr(p, name)); p += len)
		if ((p == words || p[-1] == ' ') && (p[len] == ' ' || !p[len]))
			return true;
	return false;
}

static void add_needs(struct cpu_set *s, unsigned i)
{
	cpu_set_add(s, i);
	for (unsigned k = 0; k < cpu_n_features; k++)
		if (is_among(cpu_features[i].needs, cpu_features[k].name))
			add_needs(s, k);
}

static void add_needed_by(struct cpu_set *s, unsigned i)
{
	cpu_set_add(s, i);
	for (unsigned k = 0; k < cpu_n_features; k++)
		if (is_among(cpu_features[k].needs, cpu_features[i].name))
			add_needed_by(s, k);
}

struct cpu_set cpu_needs(unsigned i)
{
	struct cpu_set s = {0};

	add_needs(&s, i);
	return s;
}

struct cpu_set cpu_needed_by(unsigned i)
{
	struct cpu_set s = {0};

	add_needed_by(&s, i);
	return s;
}

struct cpu_set cpu_set_of_level(unsigned level)
{
	struct cpu_set s = {0};

	for (unsigned i = 0; i < cpu_n_features; i++)
		if (cpu_features[i].model <= level)
			cpu_set_add(&s, i);
	return s;
}

unsigned cpu_set_text(const struct cpu_set *s, const char *between, char *out, size_t room)
{
	unsigned n = 0;
	size_t at = 0;

	out[0] = 0;
	for (unsigned i = 0; i < cpu_n_features; i++) {
		if (!cpu_set_has(s, i))
			continue;
		if (at < room)
			at += (size_t)snprintf(out + at, room - at, "%s%s", n ? between : "",
					       cpu_features[i].name);
		n++;
	}
	return n;
}

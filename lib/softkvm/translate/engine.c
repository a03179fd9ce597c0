/* SPDX-License-Identifier: MIT */
/*
 * Making and ending a vCPU's engine, and the knobs for tests.
 *
 * SOFTKVM in the environment holds words separated by commas:
 *
 *	interpret     no translated code at all
 *	nochain       every exit of a block goes through C
 *	nogroup       every access has a check of its own
 *	sample=N      checks of cold blocks until one becomes hot (at least 4); 0: all are hot at once
 *	tlb           forget TLB entries at random
 *	ends          end blocks after a random number of instructions
 *	cache=64K     a small code cache
 *	seed=N        for the random ones
 *	profile       count the executions of blocks, list the longest-running at the end
 *	dump          write each translation to stderr (report.c)
 *
 * All combinations run the same guest to the same output; tests hold that. A word that is none of
 * these is told to stderr.
 */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>

#include "base/macros.h"
#include "softkvm/run/run.h"
#include "softkvm/translate/translate.h"

static uint32_t number(const char *s)
{
	char *end;
	unsigned long v = strtoul(s, &end, 0);

	if (*end == 'K')
		v <<= 10;
	else if (*end == 'M')
		v <<= 20;
	return (uint32_t)v;
}

#define OPTION(field) offsetof(struct engine_options, field)

/* A word that ends in = takes a number. */
static const struct {
	const char *name;
	size_t at;
} words[] = {
	{"interpret", OPTION(interpret)}, {"nochain", OPTION(nochain)},
	{"nogroup", OPTION(nogroup)},     {"tlb", OPTION(tiny_tlb)},
	{"ends", OPTION(random_ends)},    {"profile", OPTION(profile)},
	{"dump", OPTION(dump)},           {"cache=", OPTION(cache_size)},
	{"sample=", OPTION(sample)},      {"seed=", OPTION(seed)},
};

/* The n bytes at s, if they are a word. */
static bool take_word(struct engine_options *o, const char *s, size_t n)
{
	for (unsigned i = 0; i < ARRAY_SIZE(words); i++) {
		size_t len = strlen(words[i].name);
		void *field = (char *)o + words[i].at;

		if (n < len || strncmp(s, words[i].name, len))
			continue;
		if (words[i].name[len - 1] == '=')
			*(uint32_t *)field = number(s + len);
		else if (n == len)
			*(bool *)field = true;
		else
			continue;
		return true;
	}
	return false;
}

static void read_options(struct engine_options *o, bool complain)
{
	const char *s = getenv("SOFTKVM");
	size_t n;

	o->sample = SAMPLE;
	for (; s && *s; s += n, s += *s == ',') {
		n = strcspn(s, ",");
		if (!take_word(o, s, n) && n && complain)
			fprintf(stderr, "softkvm: SOFTKVM has no word '%.*s'\n", (int)n, s);
	}
	if (o->sample && o->sample < 4) /* an instruction must come to its end in between */
		o->sample = 4;
	if (o->cache_size && o->cache_size < 256u << 10)
		o->cache_size = 256u << 10;
	if (o->cache_size > CODE_SIZE - NATIVE_SIZE)
		o->cache_size = 0;
}

static int draw_key(struct engine *e)
{
	size_t n = 0;

	while (n < sizeof(e->sum_key)) {
		ssize_t got = getrandom((uint8_t *)e->sum_key + n, sizeof(e->sum_key) - n, 0);

		if (got < 0 && errno != EINTR)
			return -errno;
		n += got < 0 ? 0 : (size_t)got;
	}
	return 0;
}

int engine_create(struct vcpu *c)
{
	struct engine *e = mmap(NULL, sizeof(*e), PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int rc;

	if (e == MAP_FAILED)
		return -ENOMEM;
	c->engine = e;
	e->c = c;
	read_options(&e->opt, c->index == 0);
	e->random = e->opt.seed * 2654435761u + 12345;
	rc = signals_install();
	if (!rc)
		rc = draw_key(e);
	if (!rc)
		rc = cache_create(e);
	if (!rc)
		rc = tlb_create(e);
	return rc;
}

void engine_destroy(struct vcpu *c)
{
	struct engine *e = c->engine;

	if (!e)
		return;
	timer_end(e);
	if (e->opt.profile)
		profile_report(e);
	cache_destroy(e);
	tlb_destroy(e);
	munmap(e, sizeof(*e));
	c->engine = NULL;
}

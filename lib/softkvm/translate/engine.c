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
 * All combinations run the same guest to the same output; tests hold that.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

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

static bool word(const char *s, size_t n, const char *name)
{
	return n == strlen(name) && !strncmp(s, name, n);
}

static void read_options(struct engine_options *o)
{
	const char *s = getenv("SOFTKVM");

	o->sample = SAMPLE;
	for (; s && *s; s += strcspn(s, ","), s += *s == ',') {
		size_t n = strcspn(s, ",");

		if (word(s, n, "interpret"))
			o->interpret = true;
		else if (word(s, n, "nochain"))
			o->nochain = true;
		else if (word(s, n, "nogroup"))
			o->nogroup = true;
		else if (word(s, n, "tlb"))
			o->tiny_tlb = true;
		else if (word(s, n, "ends"))
			o->random_ends = true;
		else if (word(s, n, "profile"))
			o->profile = true;
		else if (word(s, n, "dump"))
			o->dump = true;
		else if (!strncmp(s, "cache=", 6))
			o->cache_size = number(s + 6);
		else if (!strncmp(s, "sample=", 7))
			o->sample = number(s + 7);
		else if (!strncmp(s, "seed=", 5))
			o->seed = number(s + 5);
	}
	if (o->sample && o->sample < 4) /* an instruction must come to its end in between */
		o->sample = 4;
	if (o->cache_size && o->cache_size < 256u << 10)
		o->cache_size = 256u << 10;
	if (o->cache_size > CODE_SIZE - NATIVE_SIZE)
		o->cache_size = 0;
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
	read_options(&e->opt);
	e->random = e->opt.seed * 2654435761u + 12345;
	rc = signals_install();
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

/* SPDX-License-Identifier: MIT */
/*
 * Making and ending a vCPU's engine.
 */
#include <errno.h>
#include <sys/mman.h>
#include <sys/random.h>

#include "softkvm/mmu/tlb.h"
#include "softkvm/run/gsbase.h"
#include "softkvm/run/run.h"
#include "softkvm/state/cpuid.h"
#include "softkvm/translate/translate.h"

static void set_options(struct engine *e)
{
	struct words *o = &e->opt;

	words_read(o, e->c->place == 0);
	if (o->sample && o->sample < 4) /* an instruction must come to its end in between */
		o->sample = 4;
	if (o->cache_size && o->cache_size < 256u << 10)
		o->cache_size = 256u << 10;
	if (o->cache_size > CODE_SIZE - NATIVE_SIZE)
		o->cache_size = 0;
	e->random = o->seed * 2654435761u + 12345;
	e->bextr = host_has_bmi1() && !o->nobmi1;
	e->gs = gs_choose(o);
}

static int draw(void *key, size_t len)
{
	size_t n = 0;

	while (n < len) {
		ssize_t got = getrandom((uint8_t *)key + n, len - n, 0);

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
	rc = signals_install();
	set_options(e);
	if (!rc)
		rc = draw(e->sum_key, sizeof(e->sum_key));
	if (!rc)
		rc = draw(&e->canary, sizeof(e->canary));
	if (!rc)
		rc = tlb_create(e);
	if (!rc)
		rc = cache_create(e);
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

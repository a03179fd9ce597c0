/* SPDX-License-Identifier: MIT */
/*
 * Makes the code cache of a vCPU nearly full, without the guest that would take.
 *
 * Code is allocated from each region's begin to its end (engine.h), so it is enough to say
 * that a region goes on later. What lies between is a hole, as a block leaves that was dropped.
 *
 * A block wants BLOCK_ROOM, or everything is thrown away, and so a cache is never full of blocks. What is
 * allocated one by one when it is needed, a gate say, does without where there is no room. So a case has
 * room for one block and some hundred bytes when it begins, which leads to a flush in its middle; and when it runs
 * again, with its blocks there, only for a gate or two, or none.
 */
#include "insn.h"

#include "softkvm/abi/object.h"
#include "softkvm/translate/emit.h"

enum { SOME = 800 };

static void fill_up(struct region *r, uint32_t left)
{
	if (r->at < r->end - left)
		r->at = r->end - left;
}

void cache_fill_up(int vcpu, uint64_t number, bool warm)
{
	struct object *o = object_get(vcpu);
	struct engine *e = o->vcpu->engine;
	struct rng r = rng_for(warm, number);
	uint32_t blocks = warm ? 0 : BLOCK_ROOM, stubs = warm ? 0 : STUBS_ROOM;

	fill_up(&e->region[REGION_COLD], blocks + rng_below(&r, SOME));
	fill_up(&e->region[REGION_HOT], blocks + rng_below(&r, SOME));
	fill_up(&e->region[REGION_STUBS], stubs + rng_below(&r, SOME));
	object_put(o);
}

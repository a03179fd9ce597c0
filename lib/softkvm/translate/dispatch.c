/* SPDX-License-Identifier: MIT */
/*
 * From C into translated code: finding the block for a guest address, and what the thunks call.
 *
 * Look-up order: the view's jump cache, the second one, the instruction TLB (linear page to code
 * page), the hash of blocks, translation. A page that enters the instruction TLB has its translations
 * compared with its bytes first (smc.c says why that is enough).
 */
#include "softkvm/interp/interp.h"
#include "softkvm/mmu/mmu.h"
#include "softkvm/run/io.h"
#include "softkvm/translate/helpers.h"
#include "softkvm/translate/translate.h"

/* -- The instruction TLB ------------------------------------------------------------------------- */

static struct itlb *itlb_slot(struct engine *e, const struct view *v, uint64_t page)
{
	return &e->itlb[((page >> 12) + v->age * 67) & (ITLB - 1)];
}

/* A page can leave the instruction TLB for another one while the jump cache still leads to it.
 * Its bit in a small filter remembers that, until the view's jump cache is emptied. */
static uint32_t evicted_bit(uint64_t page)
{
	return (uint32_t)((page >> 12) * 0x9e3779b97f4a7c15ull >> 54);
}

void itlb_flush(struct engine *e, struct view *v)
{
	v->age = ++e->ages;
}

/* -- The jump cache ---------------------------------------------------------------------------------- */

void jc_flush(struct engine *e, struct view *v)
{
	uint64_t miss = code_addr(e, e->thunk.gate_miss);
	uint32_t i;

	for (i = 0; i < v->n_jc; i++) {
		v->jc[v->jc_log[i]] = (struct jump){miss, JC_NONE};
	}
	v->n_jc = 0;
	v->jc_age = ++e->ages;
	if (v == e->view)
		e->c->scratch[SCR_AGE] = v->jc_age;
	fill_words(v->evicted, 0, 16);
}

static void jc_fill(struct engine *e, uint64_t rip, uint32_t gate)
{
	struct view *v = e->view;
	uint32_t i = (uint32_t)(rip & (JC_SIZE - 1));

	if (v->jc[i].lin == JC_NONE)
		v->jc_log[v->n_jc++] = i;
	v->jc[i] = (struct jump){code_addr(e, gate), rip};
}

/* A mapping that may be of code went away: forget where its page was entered. */
void jc_forget_page(struct engine *e, struct view *v, uint64_t lin)
{
	uint64_t page = lin & ~4095ull;
	struct itlb *t = itlb_slot(e, v, page);
	uint32_t bit = evicted_bit(page);

	if (t->lin == (page | 1) && t->age == v->age) {
		t->lin = 0;
		jc_flush(e, v);
	} else if (v->evicted[bit / 64] >> (bit % 64) & 1) {
		jc_flush(e, v);
	}
}

/* -- Pages and blocks ----------------------------------------------------------------------------------- */

uint8_t current_mode(const struct vcpu *c)
{
	uint8_t mode = 0;

	if (is_64bit_code(c))
		mode |= c->cr4 & CR4_FSGSBASE ? MODE_64 | MODE_FSGSBASE : MODE_64;
	else if (c->seg[X86_FS].limit == ~0u && c->seg[X86_GS].limit == ~0u)
		mode |= MODE_FSGS;
	if (c->cr0 & (CR0_EM | CR0_TS) || !(c->cr4 & CR4_OSFXSR))
		mode |= MODE_NOFPU;
	if (!(c->cr4 & CR4_OSXSAVE) || (c->xcr0 & 6) != 6)
		mode |= MODE_NOAVX;
	else if ((c->xcr0 & 0xe6) == 0xe6)
		mode |= MODE_AVX512;
	if (c->cpl == 3)
		mode |= c->cr4 & CR4_TSD ? MODE_USER | MODE_NOTSC : MODE_USER;
	return mode;
}

static bool is_flat(const struct kvm_segment *s)
{
	return s->base == 0 && s->limit == ~0u && !s->unusable;
}

static bool is_flat_data(const struct kvm_segment *s)
{
	return is_flat(s) && !(s->type & 8) && s->type & 2; /* not code, writable */
}

/* Can code be translated in the present mode? What cannot is interpreted. */
static bool translatable(const struct vcpu *c)
{
	if (c->engine->opt.interpret || c->rflags & RFLAGS_TF || c->dr7 & 0xff)
		return false;
	if (is_64bit_code(c))
		return true;
	return c->cr0 & CR0_PE && !is_vm86(c) && c->seg[X86_CS].db && c->seg[X86_SS].db &&
	       is_flat(&c->seg[X86_CS]) && is_flat_data(&c->seg[X86_SS]) &&
	       is_flat_data(&c->seg[X86_DS]) && is_flat_data(&c->seg[X86_ES]);
}

static void evict(struct engine *e, const struct itlb *t)
{
	uint32_t bit = evicted_bit(t->lin & ~4095ull);
	struct view *v = &e->kernel;
	unsigned i;

	for (i = 0; i < USER_VIEWS && v->age != t->age; i++)
		v = &e->user[i];
	if (t->lin && v->age == t->age)
		v->evicted[bit / 64] |= 1ull << (bit % 64);
}

static struct code_page *fetch_miss(struct vcpu *c, uint64_t lin, struct itlb *t,
				    enum step *step)
{
	struct engine *e = c->engine;
	struct code_page *p;
	struct slot *slot;
	struct walk w;
	uint64_t gpa;

	*step = mmu_walk(c, lin, ACC_FETCH, &w); /* CR2 has the address, not the page */
	if (*step != STEP_OK)
		return NULL;
	gpa = w.gpa & ~4095ull;
	slot = vm_slot(c->vm, gpa);
	if (!slot)
		return NULL;
	p = page_get(e, gpa, slot->rw + (gpa - slot->gpa));
	if (!p) {
		cache_flush(e);
		p = page_get(e, gpa, slot->rw + (gpa - slot->gpa));
	}
	page_check(e, p);
	evict(e, t);
	view_note(e->view, &w, lin);
	*t = (struct itlb){.lin = (lin & ~4095ull) | 1, .age = e->view->age,
			   .page = (uint32_t)(p - e->page)};
	if (!w.global && e->view == &e->kernel)
		e->kernel_exec_local = true;
	return p;
}

/* The code page that lin is fetched from; NULL: *step says what happened, STEP_OK: it is no
 * RAM. */
static struct code_page *fetch_page(struct vcpu *c, uint64_t lin, enum step *step)
{
	struct engine *e = c->engine;
	uint64_t page = lin & ~4095ull;
	struct itlb *t = itlb_slot(e, e->view, page);

	*step = STEP_OK;
	if (t->lin == (page | 1) && t->age == e->view->age)
		return &e->page[t->page];
	if (!is_canonical(lin)) { /* an indirect jump went there */
		*step = fault_code(c, X86_GP, 0);
		return NULL;
	}
	return fetch_miss(c, lin, t, step);
}

const uint8_t *fetch_pointer(struct vcpu *c, uint64_t lin, enum step *step)
{
	struct code_page *p = fetch_page(c, lin, step);

	return p ? p->hva + (lin & 4095) : NULL;
}

/* Before the first byte is read the page is marked, so that nobody writes it unseen (smc.c).
 * False: it is being taken away, the flush comes. */
static bool claim(struct vcpu *c, struct code_page *p)
{
	struct slot *slot;

	if (p->claimed)
		return true;
	slot = vm_slot(c->vm, p->gpa);
	if (!slot)
		return false;
	page_claim_code(c, slot, p->gpa);
	p->claimed = true;
	return true;
}

/* Does the instruction at rip go on in the next page? */
static bool crosses(const struct vcpu *c, const struct code_page *p, uint64_t rip)
{
	unsigned at = rip & 4095;
	struct insn in;

	return at > 4096 - 15 && x86_decode(&in, p->hva + at, 4096 - at, code_mode(c)) <= 0;
}

/* The page behind rip's; NULL: none that can be executed, or the address space ends. */
static struct code_page *next_page(struct vcpu *c, uint64_t rip)
{
	uint64_t lin = (rip | 4095) + 1;
	enum step step;

	if (!is_64bit_code(c) && lin > 0xffffffff)
		return NULL;
	return fetch_page(c, lin, &step);
}

/* Finds or translates; NULL: the cache was or must be flushed, or *step says what happened. */
static struct block *block_try(struct vcpu *c, uint64_t rip, bool gate, enum step *step,
			       bool *again)
{
	struct engine *e = c->engine;
	uint64_t flushes = c->stat.cache_flushes;
	uint8_t mode = current_mode(c);
	struct code_page *p = fetch_page(c, rip, step), *next = NULL;
	struct block *b;

	*again = false;
	if (!p)
		return NULL;
	b = block_find(e, p->gpa + (rip & 4095), mode);
	if (b && !b->over)
		return b;
	if (b || crosses(c, p, rip)) {
		next = next_page(c, rip);
		*again = c->stat.cache_flushes != flushes;
		if (!next || *again) /* the interpreter finds out */
			return NULL;
		if (b && !b->dead && b->page2 == (uint32_t)(next - e->page))
			return b;
		if (b)
			block_drop(e, b);
	}
	if (!claim(c, p) || (next && !claim(c, next)))
		return NULL;
	b = translate(e, p, next, (uint16_t)(rip & 4095), mode, gate);
	*again = !b;
	return b;
}

/* gate: if it is to be translated, then with an entry for indirect jumps. */
static struct block *block_get(struct vcpu *c, uint64_t rip, bool gate, enum step *step)
{
	bool again;
	struct block *b = block_try(c, rip, gate, step, &again);

	if (b || !again)
		return b;
	cache_flush(c->engine);
	return block_try(c, rip, gate, step, &again);
}

/* -- The second jump cache --------------------------------------------------------------------------- */

static struct jumped *jumped_slot(struct engine *e, uint64_t rip)
{
	return &e->jumped[rip * JUMPED_HASH >> 48];
}

/* Is it of this code cache, and is its block? A gate ends with its block (block_drop()). */
static bool is_alive(const struct engine *e, const struct jumped *j)
{
	return j->flushes == (uint32_t)e->c->stat.cache_flushes && e->code[j->gate] != 0xe9;
}

/* The gate for rip; 0: not known. Another process may have jumped there, or this one before its TLB
 * was flushed: then rip must be in the same page still. It all fits into a cache line, for a
 * process that starts comes here thousands of times, and waits for memory. */
static uint32_t jumped_find(struct vcpu *c, uint64_t rip, uint8_t mode)
{
	struct engine *e = c->engine;
	struct jumped *j = jumped_slot(e, rip);
	const struct code_page *p;
	enum step step;

	if (j->lin != rip || j->mode != mode || !is_alive(e, j))
		return 0;
	if (j->age == e->view->jc_age)
		return j->gate;
	p = fetch_page(c, rip, &step); /* may drop the block, or empty the code cache */
	if (!p || j->page != (uint32_t)(p - e->page) || !is_alive(e, j))
		return 0;
	j->age = e->view->jc_age;
	return j->gate;
}

static void jumped_fill(struct vcpu *c, const struct block *b, uint32_t gate)
{
	struct engine *e = c->engine;

	*jumped_slot(e, c->rip) = (struct jumped){
		.lin = c->rip, .age = e->view->jc_age, .gate = gate,
		.page = b->over ? NONE : b->page, .mode = b->mode,
		.flushes = (uint32_t)c->stat.cache_flushes};
}

/* -- Dispatch -------------------------------------------------------------------------------------------- */

static uint64_t leave(struct engine *e, enum step why)
{
	e->leave = why;
	return code_addr(e, e->thunk.leave);
}

/* A view's jump cache is for one mode: CR0.TS, say, may change between two jumps. */
static void jc_check_mode(struct engine *e, struct view *v, uint8_t mode)
{
	if (v->jc_mode != mode)
		jc_flush(e, v);
	v->jc_mode = mode;
}

/* Goes on at c->rip, whose state is complete; flags_to_memory() was or will be called. */
static uint64_t enter_block(struct vcpu *c)
{
	struct engine *e = c->engine;
	enum step step;
	struct block *b;

	jc_check_mode(e, e->view, current_mode(c));
	b = block_get(c, c->rip, false, &step);
	if (!b)
		return leave(e, step == STEP_OK ? STEP_INTERPRET : step);
	c->rip_page = c->rip & ~4095ull;
	return code_addr(e, b->main);
}

/* The same for an indirect jump: next time the jump cache knows. */
static uint64_t enter_gate(struct vcpu *c)
{
	struct engine *e = c->engine;
	uint8_t mode = current_mode(c);
	enum step step;
	struct block *b;
	uint64_t age;
	uint32_t gate;

	jc_check_mode(e, e->view, mode);
	gate = jumped_find(c, c->rip, mode);
	if (!gate) {
		age = e->view->age;
		b = block_get(c, c->rip, true, &step);
		if (!b)
			return leave(e, step == STEP_OK ? STEP_INTERPRET : step);
		/* Where translating flushed the TLB the page is no longer in the instruction TLB,
		 * so nobody would find what the jump cache knows of it. */
		gate = e->view->age == age ? entry_get(e, b, ENTRY_GATE) : 0;
		if (!gate) {
			c->rip_page = c->rip & ~4095ull;
			return code_addr(e, b->main);
		}
		jumped_fill(c, b, gate);
	}
	jc_fill(e, c->rip, gate);
	return code_addr(e, e->thunk.gate);
}

uint64_t dispatch(struct vcpu *c)
{
	struct engine *e = c->engine;

	c->stat.dispatches++;
	flags_to_memory(c);
	if (atomic_load_explicit(&c->requests, memory_order_relaxed) || c->event.shadow)
		return leave(e, STEP_AGAIN);
	if (!translatable(c))
		return leave(e, STEP_INTERPRET);
	return enter_block(c);
}

/* After C executed an instruction (or tried): where to go on. `next` is the host address of the
 * following instruction in the block, for when nothing special happened; 0: there is none. */
static uint64_t after_step(struct vcpu *c, enum step step, uint64_t next_rip, uint64_t next)
{
	struct engine *e = c->engine;

	if (e->n_changes)
		post_changes(c);
	if (step == STEP_FAULT)
		step = event_fault(c);
	if (step != STEP_OK) {
		flags_to_memory(c);
		return leave(e, step);
	}
	io_commit(c);
	if (next && c->rip == next_rip && !c->event.shadow && !(c->rflags & RFLAGS_TF) &&
	    !atomic_load_explicit(&c->requests, memory_order_relaxed)) {
		flags_to_memory(c);
		return next;
	}
	return dispatch(c);
}

/* -- What thunks call ----------------------------------------------------------------------------------------- */

static uint32_t after_call(const struct vcpu *c)
{
	return *(const uint32_t *)(uintptr_t)c->scratch[SCR_RET];
}

/* Control leaves before instruction i: if STI is before it, its shadow must be seen. */
static void keep_shadow(struct vcpu *c, const struct block *b, unsigned i)
{
	const struct insn_map *m = &c->engine->map[b->map + i];

	if (i && m->guest - m[-1].guest == 1 && c->engine->bytes[b->bytes + m->guest - 1] == 0xfb)
		c->event.shadow |= KVM_X86_SHADOW_INT_STI;
}

/* Executes instruction `index` of a block in C. */
static uint64_t execute(struct vcpu *c, struct block *b, unsigned index, const struct insn *in)
{
	struct engine *e = c->engine;
	const struct insn_map *m = &e->map[b->map + index];
	uint64_t rip = c->rip_page + b->at + m->guest;
	uint64_t next_rip = c->rip_page + b->at + m[1].guest, next = 0;
	enum step step;

	flags_from_memory(c);
	c->rip = rip;
	if (index + 1 < b->n_insns && !m[1].cb)
		next = code_addr(e, b->main + m[1].host);
	io_begin(c);
	step = interp_insn(c, in);
	if ((step == STEP_AGAIN || step == STEP_EXIT) && c->rip == rip)
		keep_shadow(c, b, index);
	if (b->dead) /* it was written to */
		next = 0;
	return after_step(c, step, next_rip, next);
}

static uint64_t execute_decoded(struct vcpu *c, struct block *b, unsigned index)
{
	struct engine *e = c->engine;
	const struct insn_map *m = &e->map[b->map + index];
	struct insn in;

	x86_decode(&in, e->bytes + b->bytes + m->guest, 15,
		   b->mode & MODE_64 ? X86_MODE_64 : X86_MODE_32);
	return execute(c, b, index, &in);
}

/* Next time the thunk of REP MOVS or STOS (rep.c) finds the pages. */
static void fill_for_rep(struct vcpu *c, const struct insn *in)
{
	const uint64_t *table = c->engine->view->table;
	uint64_t src = c->gpr[X86_RSI], dst = c->gpr[X86_RDI];
	enum step step;

	if (!c->gpr[X86_RCX] || !is_64bit_code(c) || !is_canonical(src) || !is_canonical(dst))
		return;
	if (in->kind == X86_MOVS && !table[src << 16 >> 28] && !tlb_fill(c, src, false, &step))
		return;
	if (!table[dst << 16 >> 28])
		tlb_fill(c, dst, true, &step);
}

uint64_t helper_insn(struct vcpu *c)
{
	struct engine *e = c->engine;
	struct pooled *p = &e->pool[after_call(c)];
	struct block *b = &e->block[p->block];

	c->stat.helpers++;
	if (p->index != POOLED_STEP) {
		if (p->in.kind == X86_MOVS || p->in.kind == X86_STOS)
			fill_for_rep(c, &p->in);
		return execute(c, b, p->index, &p->in);
	}
	flags_from_memory(c);
	c->rip = c->rip_page + b->at;
	io_begin(c);
	c->stat.interpreted++;
	return after_step(c, interp_step(c), 0, 0);
}

/* Offset in the code cache of the call that led into C. */
static uint32_t caller(const struct vcpu *c)
{
	return (uint32_t)(c->scratch[SCR_RET] - code_addr(c->engine, 0)) - 5;
}

/* The exit that led into C, by its stub or by itself. */
static struct exit_rec *exit_taken(const struct vcpu *c)
{
	struct engine *e = c->engine;
	uint32_t at = caller(c);
	struct exit_rec *x;

	if (at >= e->region[REGION_STUBS].begin)
		return &e->exit[after_call(c)];
	x = &e->exit[block_at_host(e, at)->exits];
	while (x->stub || x->site - 1 != at)
		x++;
	return x;
}

uint64_t helper_exit(struct vcpu *c)
{
	struct engine *e = c->engine;
	struct exit_rec *x = exit_taken(c);
	uint64_t flushes = c->stat.cache_flushes;
	enum step step;
	struct block *to;

	flags_from_memory(c);
	c->rip = c->rip_page + x->target;
	if (x->backward && atomic_load_explicit(&c->requests, memory_order_relaxed))
		return leave(e, STEP_AGAIN);
	to = block_get(c, c->rip, false, &step);
	if (!to)
		return leave(e, step == STEP_OK ? STEP_INTERPRET : step);
	if (flushes == c->stat.cache_flushes && !e->opt.nochain &&
	    e->block[x->block].mode == to->mode && !e->block[x->block].dead &&
	    e->page[e->block[x->block].page].gpa == e->page[to->page].gpa)
		exit_chain(e, x, to);
	return code_addr(e, to->main);
}

uint64_t helper_gate_miss(struct vcpu *c)
{
	c->stat.gate_misses++;
	flags_from_memory(c);
	c->rip = c->scratch[SCR_S1];
	if (atomic_load_explicit(&c->requests, memory_order_relaxed))
		return leave(c->engine, STEP_AGAIN);
	if (!translatable(c))
		return leave(c->engine, STEP_INTERPRET);
	return c->engine->opt.nochain ? enter_block(c) : enter_gate(c);
}

uint64_t helper_poll(struct vcpu *c)
{
	struct engine *e = c->engine;

	flags_from_memory(c);
	c->rip = c->rip_page + e->block[after_call(c)].at;
	return leave(e, STEP_AGAIN);
}

static uint64_t gpa_of_insn(const struct engine *e, const struct block *b, unsigned i)
{
	return e->page[b->page].gpa + b->at + e->map[b->map + i].guest;
}

/* The range of the group that instruction i leads is not in one page, or not all writable. */
static void group_failed(struct engine *e, struct block *b, unsigned i)
{
	uint64_t gpa = gpa_of_insn(e, b, i);

	if (b->dead || ++b->slow < GROUP_FAILURES)
		return;
	if (habit_has(e->habits.narrow, gpa))
		habit_add(e->habits.alone, gpa);
	habit_add(e->habits.narrow, gpa);
	block_drop(e, b);
}

/* The prediction or the alignment test fails often at this site: its block is made anew. */
static uint64_t change_habit(struct vcpu *c, struct site *s, uint64_t lin)
{
	struct engine *e = c->engine;
	struct block *b = &e->block[s->block];
	uint64_t gpa = gpa_of_insn(e, b, s->insn);

	s->misses++;
	habit_add(lin & (s->size - 1) ? e->habits.unaligned : e->habits.plain, gpa);
	c->stat.tlb_repredict++;
	flags_from_memory(c);
	c->rip = c->rip_page + b->at + e->map[b->map + s->insn].guest;
	keep_shadow(c, b, s->insn);
	block_drop(e, b);
	return dispatch(c);
}

uint64_t helper_miss(struct vcpu *c)
{
	struct engine *e = c->engine;
	uint32_t n = after_call(c);
	struct site *s = &e->site[n];
	uint64_t lin = c->scratch[SCR_S1];
	unsigned size = s->size;
	enum step step;

	if (s->misses == SITE_MISSES)
		return change_habit(c, s, lin);
	if ((lin & 4095) + size <= 4096 && is_canonical(lin) &&
	    tlb_fill(c, lin, s->write, &step)) {
		/* Back to the site: S1 is lost in C, so the instruction starts again. */
		struct block *b = &e->block[s->block];

		e->slots[n] = e->view->table[lin << 16 >> 28];
		return code_addr(e, b->main + e->map[b->map + s->insn].host);
	}
	c->stat.slow_accesses++;
	if (s->group)
		group_failed(e, &e->block[s->block], s->insn);
	return execute_decoded(c, &e->block[s->block], s->insn);
}

uint64_t helper_check(struct vcpu *c)
{
	struct engine *e = c->engine;
	struct block *b = block_at_host(e, caller(c));
	unsigned i = insn_at_host(e, b, caller(c));
	uint32_t access = (uint32_t)c->scratch[SCR_ACCESS];
	uint64_t lin = c->scratch[SCR_S1];
	enum step step;

	if ((lin & 4095) + (access & ACCESS_SIZE) < 4096 && is_canonical(lin) &&
	    tlb_fill(c, lin, access & ACCESS_WRITE, &step))
		return code_addr(e, b->main + e->map[b->map + i].host);
	c->stat.slow_accesses++;
	if (access & ACCESS_GROUP)
		group_failed(e, b, i);
	return execute_decoded(c, b, i);
}

/* Checks until the next block is made hot: the more hot code there is already, the more another
 * must run to be worth the room that it takes in the host's caches. */
static uint32_t next_sample(const struct engine *e)
{
	const struct region *hot = &e->region[REGION_HOT];
	uint64_t n = e->opt.sample * (1ull + ((hot->at - hot->begin) >> 20));

	return n < INT32_MAX ? (uint32_t)n : INT32_MAX;
}

/* The old translation goes on to its end, like any block that is dropped while it runs. */
uint64_t helper_sample(struct vcpu *c)
{
	struct engine *e = c->engine;
	struct block *b = block_at_host(e, caller(c));
	unsigned i = insn_at_host(e, b, caller(c));

	c->scratch[SCR_SAMPLE] = next_sample(e);
	habit_add(e->habits.hot, e->page[b->page].gpa + b->at);
	block_drop(e, b);
	return code_addr(e, b->main + e->map[b->map + i].host);
}

uint64_t helper_fault(struct vcpu *c)
{
	struct engine *e = c->engine;
	uint32_t at = (uint32_t)(c->scratch[SCR_FAULT_PC] - code_addr(e, 0));
	struct block *b = block_at_host(e, at);

	c->stat.host_faults++;
	return execute_decoded(c, b, insn_at_host(e, b, at));
}

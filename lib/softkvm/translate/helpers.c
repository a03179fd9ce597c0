/* SPDX-License-Identifier: MIT */
/*
 * What the thunks call (helpers.h): instructions that C executes, exits that are not chained,
 * indirect jumps, accesses that the table does not answer, blocks to be made anew.
 */
#include "softkvm/interp/interp.h"
#include "softkvm/mmu/io.h"
#include "softkvm/mmu/tlb.h"
#include "softkvm/translate/helpers.h"
#include "softkvm/translate/translate.h"

/* -- The table ----------------------------------------------------------------------- */

/* The view's entry was read by translated code, which could not use it; or is to be read. */
static void touch(struct vcpu *c, uint64_t lin)
{
	view_touch(c->engine, c->engine->view, vpn_of(lin));
}

static uint64_t entry(struct vcpu *c, uint64_t lin)
{
	touch(c, lin);
	return c->engine->view->table[vpn_of(lin)];
}

/* -- Instructions that C executes -------------------------------------------------- */

/* After C executed an instruction (or tried): where to go on. `next` is the host address of the
 * following instruction in the block, for when nothing special happened; 0: there is none. `known`: it led where
 * others lead, too. */
static uint64_t after_step(struct vcpu *c, enum step step, uint64_t next_rip, uint64_t next, bool known)
{
	struct engine *e = c->engine;

	if (e->n_changes)
		post_changes(c);
	if (step == STEP_FAULT) { /* to a handler of any mode, wherever that is */
		step = event_fault(c);
		next = 0;
		known = true;
	}
	if (step != STEP_OK) {
		flags_to_memory(c);
		return dispatch_leave(e, step);
	}
	io_commit(c);
	if (next && c->rip == next_rip && !c->event.shadow && !(c->rflags & RFLAGS_TF) &&
	    !atomic_load_explicit(&c->requests, memory_order_relaxed)) {
		flags_to_memory(c);
		return next;
	}
	return known ? dispatch_gate(c) : dispatch(c);
}

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
	uint64_t flushes = c->stat.cache_flushes;
	bool known = in->kind == X86_SYSCALL || in->kind == X86_SYSRET; /* the pool may be emptied */
	enum step step;

	flags_from_memory(c);
	c->rip = rip;
	if (index + 1 < b->n_insns && !m[1].cb)
		next = code_addr(e, b->main + m[1].host);
	io_begin(c);
	step = interp_insn(c, in);
	if ((step == STEP_AGAIN || step == STEP_EXIT || step == STEP_EFAULT) && c->rip == rip)
		keep_shadow(c, b, index);
	if (b->dead || c->stat.cache_flushes != flushes) /* it was written to, or is no more */
		next = 0;
	return after_step(c, step, next_rip, next, known);
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
static void fill_for_rep(struct vcpu *c, const struct block *b, const struct insn *in)
{
	uint64_t mask = b->mode & MODE_64 ? ~0ull : 0xffffffff;
	uint64_t src = c->gpr[X86_RSI] & mask, dst = c->gpr[X86_RDI] & mask;
	enum step step;

	if (!rep_has_thunk(b->mode, in) || !(c->gpr[X86_RCX] & mask) || !is_canonical(src) ||
	    !is_canonical(dst))
		return;
	if (in->kind == X86_MOVS && !entry(c, src) && !tlb_fill(c, src, false, &step))
		return;
	if (!entry(c, dst))
		tlb_fill(c, dst, true, &step);
}

uint64_t helper_insn(struct vcpu *c)
{
	struct engine *e = c->engine;
	struct pooled *p = &e->pool[after_call(c)];
	struct block *b = &e->block[p->block];

	c->stat.helpers++;
	if (p->index != POOLED_STEP) {
		fill_for_rep(c, b, &p->in);
		return execute(c, b, p->index, &p->in);
	}
	flags_from_memory(c);
	c->rip = c->rip_page + b->at;
	io_begin(c);
	c->stat.interpreted++;
	return after_step(c, interp_step(c), 0, 0, false);
}

/* -- Exits and jumps -------------------------------------------------------------- */

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
	x = &e->exit[block_here(e, at)->exits];
	while (x < e->exit + e->n_exits && (x->stub || x->site - 1 != at))
		x++;
	if (x == e->exit + e->n_exits)
		__builtin_trap();
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
		return dispatch_leave(e, STEP_AGAIN);
	to = block_get(c, c->rip, PLAIN_BLOCK, &step);
	if (!to)
		return dispatch_leave(e, step);
	if (flushes == c->stat.cache_flushes && !e->opt.nochain &&
	    (e->block[x->block].mode & ~MODE_SINGLE) == to->mode && !e->block[x->block].dead &&
	    e->page[e->block[x->block].page].gpa == e->page[to->page].gpa)
		exit_chain(e, x, to);
	return code_addr(e, to->main);
}

uint64_t helper_gate_miss(struct vcpu *c)
{
	c->stat.gate_misses++;
	flags_from_memory(c);
	c->rip = c->scratch[SCR_S1];
	return dispatch_jump(c);
}

uint64_t helper_poll(struct vcpu *c)
{
	struct engine *e = c->engine;

	flags_from_memory(c);
	c->rip = c->rip_page + e->block[after_call(c)].at;
	return dispatch_leave(e, STEP_AGAIN);
}

/* -- Memory accesses -------------------------------------------------------------- */

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
	if (habit_has(&e->habits, HABIT_NARROW, gpa))
		habit_add(&e->habits, HABIT_ALONE, gpa);
	habit_add(&e->habits, HABIT_NARROW, gpa);
	block_drop(e, b);
}

/* Instruction i of the block has not begun: on with it in a block of the other kind. */
static uint64_t begin_again(struct vcpu *c, const struct block *b, unsigned i,
			    uint64_t (*there)(struct vcpu *))
{
	flags_from_memory(c);
	c->rip = c->rip_page + b->at + c->engine->map[b->map + i].guest;
	keep_shadow(c, b, i);
	return there(c);
}

/* The table does not answer for this access, or the group that instruction i leads. */
static uint64_t slow_access(struct vcpu *c, struct block *b, unsigned i, bool group, bool crosses)
{
	if (group)
		group_failed(c->engine, b, i);
	if (group && crosses) {
		c->stat.split_groups++;
		return begin_again(c, b, i, dispatch_single);
	}
	c->stat.slow_accesses++;
	return execute_decoded(c, b, i);
}

/* The prediction or the alignment test fails often at this site: its block is made anew. */
static uint64_t change_habit(struct vcpu *c, struct site *s, uint64_t lin)
{
	struct engine *e = c->engine;
	struct block *b = &e->block[s->block];
	uint64_t gpa = gpa_of_insn(e, b, s->insn);

	s->misses++;
	habit_add(&e->habits, lin & (s->size - 1) ? HABIT_UNALIGNED : HABIT_PLAIN, gpa);
	c->stat.tlb_repredict++;
	block_drop(e, b);
	return begin_again(c, b, s->insn, dispatch);
}

/* Has the table an entry that permits the access? */
static bool is_filled(struct vcpu *c, uint64_t lin, bool write)
{
	uint64_t addend = entry(c, lin);

	return addend && !(write && (lin + addend) & SLOT_VIEW_RO);
}

/* An access that crosses pages: if both get one addend the thunk finds that next time. */
static bool fill_neighbours(struct vcpu *c, uint64_t lin, uint64_t last, bool write)
{
	enum step step;

	if (!is_canonical(lin) || !is_canonical(last) || lin >> 32 != last >> 32)
		return false;
	if (!is_filled(c, lin, write) && !tlb_fill(c, lin, write, &step))
		return false;
	if (!is_filled(c, last, write) && !tlb_fill(c, last, write, &step))
		return false;
	return is_filled(c, lin, write) && entry(c, lin) == entry(c, last);
}

/*
 * Back to the site: S1 is lost in C, so the instruction starts again. Whatever is requested meanwhile: this site finds
 * the entry now, for nobody but us takes it away, so a poll is no further than from a site that hit. (To leave instead
 * would have no end where another vCPU asks for the page again and again.)
 *
 * But a group under way may have the address of a page that has moved for this access, or while it waited: this block
 * does not go on then.
 */
static uint64_t back_to_site(struct vcpu *c, const struct block *b, unsigned i, uint64_t given_up)
{
	const struct insn_map *m = &c->engine->map[b->map + i];

	if (m->cb && c->given_up != given_up)
		return begin_again(c, b, i, dispatch);
	return code_addr(c->engine, b->main + m->host);
}

uint64_t helper_miss(struct vcpu *c)
{
	struct engine *e = c->engine;
	uint32_t n = after_call(c);
	struct site *s = &e->site[n];
	uint64_t lin = c->scratch[SCR_S1], given_up = c->given_up;
	bool crosses = (lin & 4095) + s->size > 4096, filled;
	enum step step;

	touch(c, lin);
	touch(c, lin + (1u << log2_up(s->size)) - 1); /* the thunk is of a power of two */
	if (s->misses == SITE_MISSES)
		return change_habit(c, s, lin);
	if (crosses)
		filled = !(s->kind & KIND_ONE_PAGE) &&
			 fill_neighbours(c, lin, lin + s->size - 1, s->kind & KIND_STORE);
	else
		filled = is_canonical(lin) && tlb_fill(c, lin, s->kind & KIND_STORE, &step);
	if (filled) {
		if (!crosses)
			e->slots[n] = e->view->table[vpn_of(lin)];
		return back_to_site(c, &e->block[s->block], s->insn, given_up);
	}
	return slow_access(c, &e->block[s->block], s->insn, s->group, crosses);
}

uint64_t helper_check(struct vcpu *c)
{
	struct engine *e = c->engine;
	struct block *b = block_here(e, caller(c));
	unsigned i = insn_at_host(e, b, caller(c));
	uint32_t access = (uint32_t)c->scratch[SCR_ACCESS];
	uint64_t lin = c->scratch[SCR_S1], given_up = c->given_up;
	bool crosses = (lin & 4095) + (access & ACCESS_SIZE) >= 4096;
	enum step step;

	touch(c, lin);
	touch(c, lin + (access & ACCESS_SIZE));
	if (!crosses && is_canonical(lin) &&
	    tlb_fill(c, lin, access & ACCESS_WRITE, &step))
		return back_to_site(c, b, i, given_up);
	return slow_access(c, b, i, access & ACCESS_GROUP, crosses);
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
	struct block *b = block_here(e, caller(c));
	unsigned i = insn_at_host(e, b, caller(c));

	c->scratch[SCR_SAMPLE] = next_sample(e);
	habit_add(&e->habits, HABIT_HOT, e->page[b->page].gpa + b->at);
	block_drop(e, b);
	return code_addr(e, b->main + e->map[b->map + i].host);
}

uint64_t helper_fault(struct vcpu *c)
{
	struct engine *e = c->engine;
	uint32_t at = (uint32_t)(c->scratch[SCR_FAULT_PC] - code_addr(e, 0));
	struct block *b = block_here(e, at);

	c->stat.host_faults++;
	return execute_decoded(c, b, insn_at_host(e, b, at));
}

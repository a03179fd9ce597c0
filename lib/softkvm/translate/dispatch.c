/* SPDX-License-Identifier: MIT */
/*
 * From C into translated code: finding the block for a guest address.
 *
 * Look-up order: the view's jump cache, the second one, the instruction TLB (linear page to code
 * page), the page's blocks, translation. A page that enters the instruction TLB has its translations
 * compared with its bytes first (smc.c says why that is enough).
 */
#include "softkvm/mmu/guarded.h"
#include "softkvm/mmu/tlb.h"
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
	return (uint32_t)((page >> 12) * 0x9e3779b97f4a7c15ull >> (64 - EVICTED_BITS));
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

	for (i = 0; i < v->n_jc; i++)
		v->jc[v->jc_log[i]] = (struct jump){miss, JC_NONE};
	v->n_jc = 0;
	v->jc_age = ++e->ages;
	if (v == e->view)
		e->c->scratch[SCR_AGE] = v->jc_age;
	fill_words(v->evicted, 0, EVICTED_WORDS);
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

/* All 4 GiB, to read and write: what translated code does not ask about a segment. */
static bool is_open(const struct kvm_segment *s)
{
	return s->limit == ~0u && !s->unusable && (s->type & 14) == 2; /* data, up, writable */
}

uint8_t current_mode(const struct vcpu *c)
{
	uint8_t mode = 0;

	if (is_64bit_code(c))
		mode |= c->cr4 & CR4_FSGSBASE ? MODE_64 | MODE_FSGSBASE : MODE_64;
	else if (is_open(&c->seg[X86_FS]) && is_open(&c->seg[X86_GS]))
		mode |= MODE_FSGS;
	if (c->cr0 & (CR0_EM | CR0_TS) || !(c->cr4 & CR4_OSFXSR))
		mode |= MODE_NOFPU;
	if (!(c->cr4 & CR4_OSXSAVE) || (c->xcr0 & 6) != 6)
		mode |= MODE_NOAVX;
	else if ((c->xcr0 & 0xe6) == 0xe6)
		mode |= MODE_AVX512;
	if (c->cpl)
		mode |= c->cr4 & CR4_TSD ? MODE_USER | MODE_NOTSC : MODE_USER;
	return mode;
}

static bool is_flat_data(const struct kvm_segment *s)
{
	return s->base == 0 && is_open(s);
}

/* Operands may be read through it, too. */
static bool is_flat_code(const struct kvm_segment *s)
{
	return s->base == 0 && s->limit == ~0u && !s->unusable && s->type & 2 && s->db;
}

/* Can code be translated in the present mode? What cannot is interpreted. */
static bool translatable(const struct vcpu *c)
{
	if (c->engine->opt.interpret || event_stepping(c) || event_breakpoints(c))
		return false;
	if (is_64bit_code(c))
		return true;
	return c->cr0 & CR0_PE && !is_vm86(c) && c->seg[X86_SS].db &&
	       is_flat_code(&c->seg[X86_CS]) && is_flat_data(&c->seg[X86_SS]) &&
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

static struct code_page *fetch_miss(struct vcpu *c, uint64_t lin, enum step *step)
{
	struct engine *e = c->engine;
	struct code_page *p;
	struct itlb *t;
	struct slot *slot;
	uint8_t *bytes;
	struct walk w;
	uint64_t gpa;

	*step = mmu_walk(c, lin, ACC_FETCH, &w); /* CR2 has the address, not the page */
	if (*step != STEP_OK)
		return NULL;
	gpa = w.gpa & ~4095ull;
	slot = vm_slot(c->vm, gpa);
	if (!slot)
		return NULL;
	bytes = slot_to_keep(c, slot, gpa);
	if (!guarded_can_read(bytes)) { /* or there are none */
		*step = STEP_EFAULT;
		return NULL;
	}
	p = page_get(e, gpa, bytes);
	if (!p) {
		cache_flush(e);
		p = page_get(e, gpa, bytes);
	}
	page_check(e, p);
	t = itlb_slot(e, e->view, lin & ~4095ull); /* by the view's age, which a flush changes */
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
	return fetch_miss(c, lin, step);
}

const uint8_t *fetch_pointer(struct vcpu *c, uint64_t lin, enum step *step)
{
	struct code_page *p = fetch_page(c, lin, step);

	return p ? p->hva + (lin & 4095) : NULL;
}

/* Before the first byte is read the page is marked, so that nobody writes it unseen (smc.c).
 * False: it is being taken away, the flush comes; or the client has taken its memory away. */
static bool claim(struct vcpu *c, struct code_page *p)
{
	struct slot *slot;

	if (!guarded_can_read(p->hva))
		return false;
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
static struct block *block_try(struct vcpu *c, uint64_t rip, enum variant which,
			       enum step *step, bool *again)
{
	struct engine *e = c->engine;
	uint64_t flushes = c->stat.cache_flushes;
	uint16_t mode = current_mode(c) | (which == SINGLE_BLOCK ? MODE_SINGLE : 0);
	struct code_page *p = fetch_page(c, rip, step), *next = NULL;
	struct block *b;

	*again = false;
	if (!p)
		return NULL;
	b = block_find(e, p, (uint16_t)(rip & 4095), mode);
	if (b && !b->over)
		return b;
	if (!claim(c, p))
		return NULL;
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
	/* (To find the next page may have set a bit in this one, which had no block yet.) */
	if (next && !(claim(c, p) && claim(c, next)))
		return NULL;
	b = translate(e, p, next, (uint16_t)(rip & 4095), mode, which == GATE_BLOCK);
	*again = !b;
	return b;
}

struct block *block_get(struct vcpu *c, uint64_t rip, enum variant which, enum step *step)
{
	bool again;
	struct block *b = block_try(c, rip, which, step, &again);

	if (b || !again)
		return b;
	cache_flush(c->engine);
	return block_try(c, rip, which, step, &again);
}

/* -- The second jump cache --------------------------------------------------------------------------- */

static struct jumped *jumped_slot(struct engine *e, uint64_t rip)
{
	return &e->jumped[rip * JUMPED_HASH >> (64 - JUMPED_BITS)];
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

uint64_t dispatch_leave(struct engine *e, enum step why)
{
	e->leave = why == STEP_OK ? STEP_INTERPRET : why;
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
static uint64_t enter_block(struct vcpu *c, enum variant which)
{
	struct engine *e = c->engine;
	enum step step;
	struct block *b;

	if (!e->translates) {
		e->translates = true;
		tlb_select(c);
	}
	jc_check_mode(e, e->view, current_mode(c));
	b = block_get(c, c->rip, which, &step);
	if (!b)
		return dispatch_leave(e, step);
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
		b = block_get(c, c->rip, GATE_BLOCK, &step);
		if (!b)
			return dispatch_leave(e, step);
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

/* Whether C must go on instead: the leave thunk, or 0. */
static uint64_t stay_in_c(struct vcpu *c)
{
	c->stat.dispatches++;
	flags_to_memory(c);
	if (atomic_load_explicit(&c->requests, memory_order_relaxed) || c->event.shadow)
		return dispatch_leave(c->engine, STEP_AGAIN);
	return translatable(c) ? 0 : dispatch_leave(c->engine, STEP_INTERPRET);
}

static uint64_t dispatch_to(struct vcpu *c, enum variant which)
{
	uint64_t leave = stay_in_c(c);

	return leave ? leave : enter_block(c, which);
}

uint64_t dispatch(struct vcpu *c)
{
	return dispatch_to(c, PLAIN_BLOCK);
}

/*
 * Without a look-up in C, which takes longer than all else in a guest's system call: where the jump cache does not know rip,
 * its miss comes to dispatch_jump(). The cache is the view's, which C may have changed, and must be of this mode.
 */
uint64_t dispatch_gate(struct vcpu *c)
{
	struct engine *e = c->engine;
	uint64_t leave;

	if (e->opt.nochain || !e->translates)
		return dispatch(c);
	leave = stay_in_c(c);
	if (leave)
		return leave;
	jc_check_mode(e, e->view, current_mode(c));
	c->scratch[SCR_S1] = c->rip;
	return code_addr(e, e->thunk.gate);
}

uint64_t dispatch_single(struct vcpu *c)
{
	return dispatch_to(c, SINGLE_BLOCK);
}

uint64_t dispatch_jump(struct vcpu *c)
{
	struct engine *e = c->engine;

	if (atomic_load_explicit(&c->requests, memory_order_relaxed))
		return dispatch_leave(e, STEP_AGAIN);
	if (!translatable(c))
		return dispatch_leave(e, STEP_INTERPRET);
	return e->opt.nochain ? enter_block(c, PLAIN_BLOCK) : enter_gate(c);
}

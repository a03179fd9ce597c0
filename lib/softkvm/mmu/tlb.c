/* SPDX-License-Identifier: MIT */
/*
 * The software TLB: flat tables, one a view, and the instructions that invalidate them.
 *
 * A view is 512 GiB of address space of which only the touched pages exist: entry i belongs to
 * the linear page whose bits 12..47 are i. An entry is 0 or the addend from linear to host
 * address. A page whose stores must be seen (clean, logged, holding code, not writable) gets
 * the addend of the slot's read-only view: loads go on at full speed, while a store site sees
 * the bit SLOT_VIEW_RO in the host address, or an addend that it does not know, and goes to C.
 * (One that knows it, by an address 2^42 away, faults: that view is PROT_READ.)
 *
 * The supervisor view serves every address space: its entries of global pages survive a CR3
 * write, the others are logged and cleared. A user view belongs to one PCID and stays valid
 * while other processes run. Which entries were filled is logged, so a flush costs what the
 * process used, not the table's size.
 *
 * Large pages are entered 4 KiB at a time. INVLPG must drop them whole, so small filters
 * remember where large pages were used.
 */
#include <errno.h>
#include <linux/mman.h>

#include "softkvm/mmu/tlb.h"
#include "softkvm/os/space.h"
#include "softkvm/os/syscall.h"

/* -- Making and ending ----------------------------------------------------------------------------- */

/* The kernel view's jump cache is filled as a whole, and the hash table of blocks below it is touched all over: a huge page is
 * 256 page faults less. Of a user view's only half would be used, and there are up to six of them. */
static bool view_create(struct engine *e, struct view *v, unsigned n)
{
	uint8_t *base = e->view_arena + n * VIEW_STRIDE;

	if (n == 0)
		space_wants_huge(base, SPACE_HUGE);
	v->jc = (struct jump *)(void *)(base + SPACE_HUGE - JC_LEN);
	v->table = (uint64_t *)(void *)(base + SPACE_HUGE);
	v->touched = v->table + VIEW_ENTRIES;
	v->log = space_create(VIEW_LOG * 8ul);
	v->global_log = space_create(VIEW_LOG * 8ul);
	v->jc_log = space_create(JC_SIZE * 4ul);
	itlb_flush(e, v); /* no two views have one age */
	return v->log && v->global_log && v->jc_log;
}

/* An empty jump cache. Made when translated code first runs in the view: its pages are the dearest part of
 * making a vCPU, and most vCPUs wait long for their first instruction. */
static void view_begin(struct engine *e, struct view *v)
{
	uint32_t i;

	v->begun = true;
	space_touch(v->jc, JC_LEN);
	if (v == &e->kernel) /* the first: what all share */
		space_touch(e->jumped, SPACE_HUGE);
	for (i = 0; i < JC_SIZE; i++)
		v->jc[i] = (struct jump){code_addr(e, e->thunk.gate_miss), JC_NONE};
	jc_flush(e, v);
	itlb_flush(e, v);
}

int tlb_create(struct engine *e)
{
	unsigned i;

	e->view_arena = space_create_huge(VIEW_ARENA_LEN);
	if (!e->view_arena)
		return -ENOMEM;
	view_advise(e->view_arena, VIEW_ARENA_LEN);
	if (!view_create(e, &e->kernel, 0))
		return -ENOMEM;
	for (i = 0; i < USER_VIEWS; i++)
		if (!view_create(e, &e->user[i], i + 1))
			return -ENOMEM;
	e->view = &e->kernel;
	return 0;
}

static void view_destroy(struct view *v)
{
	if (v->log)
		sys_call3(SYS_munmap, (long)v->log, VIEW_LOG * 8, 0);
	if (v->global_log)
		sys_call3(SYS_munmap, (long)v->global_log, VIEW_LOG * 8, 0);
	if (v->jc_log)
		sys_call3(SYS_munmap, (long)v->jc_log, JC_SIZE * 4, 0);
}

void tlb_destroy(struct engine *e)
{
	unsigned i;

	view_destroy(&e->kernel);
	for (i = 0; i < USER_VIEWS; i++)
		view_destroy(&e->user[i]);
	if (e->view_arena)
		sys_call3(SYS_munmap, (long)e->view_arena, (long)VIEW_ARENA_LEN, 0);
}

/* -- Flushing ------------------------------------------------------------------------------------------ */

/* Clears what a log names; a log that overflowed means the whole table. */
static void clear_log(struct view *v, const uint64_t *log, uint32_t *n)
{
	uint32_t i;

	if (*n >= VIEW_LOG) {
		view_empty(v);
		return;
	}
	for (i = 0; i < *n; i++)
		v->table[log[i]] = 0;
	*n = 0;
}

static void view_flush(struct engine *e, struct view *v)
{
	clear_log(v, v->log, &v->n_log);
	clear_log(v, v->global_log, &v->n_global);
	fill_words(v->large, 0, LARGE_WORDS);
	v->huge = 0;
	v->has_global = false;
	jc_flush(e, v);
	itlb_flush(e, v);
	e->c->stat.tlb_flushes++;
}

static void user_flush(struct engine *e, struct view *v)
{
	if (!v->valid)
		return;
	view_flush(e, v);
	v->valid = false;
	e->user_now = NULL;
}

/* What a CR3 write takes from the supervisor view. */
static void kernel_flush_local(struct engine *e)
{
	struct view *v = &e->kernel;

	clear_log(v, v->log, &v->n_log);
	if (e->kernel_exec_local) {
		jc_flush(e, v);
		itlb_flush(e, v);
		e->kernel_exec_local = false;
	}
}

void mmu_flush_all(struct vcpu *c)
{
	struct engine *e = c->engine;
	unsigned i;

	if (!e)
		return;
	view_flush(e, &e->kernel);
	for (i = 0; i < USER_VIEWS; i++)
		user_flush(e, &e->user[i]);
	tlb_select(c);
}

void mmu_flush_code(struct vcpu *c)
{
	jc_flush(c->engine, &c->engine->kernel);
	itlb_flush(c->engine, &c->engine->kernel);
}

static uint32_t large_bit(uint64_t lin)
{
	return (uint32_t)((lin >> 21) & (LARGE_WORDS * 64 - 1));
}

static void view_flush_page(struct engine *e, struct view *v, uint64_t lin)
{
	uint32_t bit = large_bit(lin);
	uint64_t first = vpn_of(lin) & ~1023ull; /* they have 2 MiB, or 4 */

	if (v->huge >> ((lin >> 30) & 63) & 1) {
		view_flush(e, v);
		return;
	}
	if (v->large[bit / 64] >> (bit % 64) & 1) {
		if (view_touched(v, first))
			fill_words(v->table + first, 0, 512);
		if (view_touched(v, first + 512))
			fill_words(v->table + first + 512, 0, 512);
		jc_flush(e, v);
		itlb_flush(e, v);
	}
	if (view_touched(v, vpn_of(lin)))
		v->table[vpn_of(lin)] = 0;
	jc_forget_page(e, v, lin);
}

static uint32_t current_pcid(const struct vcpu *c)
{
	return c->cr4 & CR4_PCIDE ? c->cr3 & 0xfff : 0;
}

static struct view *user_view(struct engine *e, uint32_t pcid)
{
	unsigned i;

	for (i = 0; i < USER_VIEWS; i++)
		if (e->user[i].valid && e->user[i].pcid == pcid)
			return &e->user[i];
	return NULL;
}

void mmu_flush_page(struct vcpu *c, uint64_t lin)
{
	struct engine *e = c->engine;
	uint32_t pcid = current_pcid(c);
	unsigned i;

	if (!is_canonical(lin))
		return;
	view_flush_page(e, &e->kernel, lin);
	for (i = 0; i < USER_VIEWS; i++) { /* global pages go whatever their PCID */
		struct view *v = &e->user[i];

		if (v->valid && (v->pcid == pcid || v->has_global))
			view_flush_page(e, v, lin);
	}
}

void mmu_load_cr3(struct vcpu *c, uint64_t value, bool keep)
{
	struct engine *e = c->engine;
	struct view *v;

	c->cr3 = value;
	e->user_now = NULL;
	kernel_flush_local(e);
	v = user_view(e, current_pcid(c));
	if (v && (!keep || v->cr3 != (value & ~0xfffull)))
		user_flush(e, v);
	else
		c->stat.cr3_switches++;
	tlb_select(c);
}

void mmu_invpcid(struct vcpu *c, unsigned type, unsigned pcid, uint64_t lin)
{
	struct engine *e = c->engine;
	struct view *v = user_view(e, pcid);
	unsigned i;

	switch (type) {
	case 0: /* one address of one PCID */
		if (v)
			view_flush_page(e, v, lin);
		if (pcid == current_pcid(c))
			view_flush_page(e, &e->kernel, lin);
		break;
	case 1: /* one PCID, not the global pages */
		if (v)
			user_flush(e, v);
		if (pcid == current_pcid(c))
			kernel_flush_local(e);
		tlb_select(c);
		break;
	case 3: /* all PCIDs, not the global pages */
		kernel_flush_local(e);
		for (i = 0; i < USER_VIEWS; i++)
			user_flush(e, &e->user[i]);
		tlb_select(c);
		break;
	default:
		mmu_flush_all(c);
	}
}

/* -- Selection ------------------------------------------------------------------------------------------- */

static struct view *user_view_get(struct vcpu *c)
{
	struct engine *e = c->engine;
	uint32_t pcid = current_pcid(c);
	struct view *v = user_view(e, pcid), *old = &e->user[0];
	unsigned i;

	if (v && v->cr3 != (c->cr3 & ~0xfffull)) {
		user_flush(e, v);
		v = NULL;
	}
	for (i = 0; !v && i < USER_VIEWS; i++) {
		if (!e->user[i].valid) {
			old = &e->user[i];
			break;
		}
		if (e->user[i].used < old->used)
			old = &e->user[i];
	}
	if (!v) {
		user_flush(e, old);
		v = old;
		v->valid = true;
		v->jc_mode = current_mode(c); /* its jump cache is empty */
		v->pcid = pcid;
		v->cr3 = c->cr3 & ~0xfffull;
	}
	v->used = ++e->view_clock;
	e->user_now = v;
	return v;
}

/* GS base <- the table that CPL and CR3 ask for. */
void tlb_select(struct vcpu *c)
{
	struct engine *e = c->engine;

	if (c->cpl != 3 || !(c->cr0 & CR0_PG))
		e->view = &e->kernel;
	else
		e->view = e->user_now ? e->user_now : user_view_get(c);
	if (e->translates && !e->view->begun)
		view_begin(e, e->view);
	c->scratch[SCR_AGE] = e->view->jc_age;
	c->table = (uint64_t)(uintptr_t)e->view->table / 8;
	if (e->in_run)
		gs_select(e);
}

void mmu_mode_changed(struct vcpu *c)
{
	if (c->engine)
		tlb_select(c);
}

/* -- Filling ----------------------------------------------------------------------------------------------- */

static bool may_write(struct vcpu *c, struct slot *slot, const struct walk *w)
{
	uint64_t page = (w->gpa - slot->gpa) >> 12;
	struct page_note *note = &slot->note[page];
	uint32_t me = vcpu_bit(c);

	if (!w->writable || !w->dirty || slot->flags & KVM_MEM_READONLY)
		return false;
	if (slot->dirty && !(atomic_load_explicit(&slot->dirty[page / 64], memory_order_relaxed) >>
			     (page % 64) & 1))
		return false;
	/* Order matters: whoever is to translate the page marks it first, then looks for
	 * writers; we enter as a writer first, then look for the mark; and only then whether our
	 * own was taken a moment ago (smc.c). */
	atomic_fetch_or(&note->writers, me);
	return !atomic_load(&note->code) && !(atomic_load(&c->requests) & REQ_CODE);
}

/* Only the first vCPU that writes a page has its entries remembered; those of others are looked for.
 * (If all shared one note, who clears it would hide another's entry.) */
static bool is_owner(struct page_note *n, uint32_t me)
{
	uint32_t none = 0;

	return atomic_load_explicit(&n->owner, memory_order_relaxed) == me ||
	       atomic_compare_exchange_strong(&n->owner, &none, me);
}

/* An entry as page_note.entry has it: the view's number, from 1, and the page number. 0: none. */
static uint64_t entry_name(const struct engine *e, const struct view *v, uint64_t vpn)
{
	return (v == &e->kernel ? 1ull : 2ull + (uint64_t)(v - e->user)) << 36 | vpn;
}

static struct view *entry_view(struct engine *e, uint64_t name)
{
	return name >> 36 == 1 ? &e->kernel : &e->user[(name >> 36) - 2];
}

/* Does the view's entry lead to the page with this address in the writable view? */
static bool leads_to(const struct view *v, uint64_t vpn, uint64_t rw_page)
{
	uint64_t lin = (uint64_t)((int64_t)(vpn << 28) >> 16);

	return view_touched(v, vpn) && v->table[vpn] && v->table[vpn] + lin == rw_page;
}

/* The current view got an entry through which the page may be written. What was noted before may
 * have been flushed since. */
static void note_writer(struct engine *e, struct page_note *n, uint64_t vpn, uint64_t rw_page)
{
	uint64_t *noted = &n->entry[e->view != &e->kernel];
	uint64_t name = entry_name(e, e->view, vpn);

	if (*noted && *noted != name &&
	    leads_to(entry_view(e, *noted), *noted & (VIEW_ENTRIES - 1), rw_page))
		n->many = true;
	else
		*noted = name;
}

/* An entry that is replaced is in a log already; but if it was global and is no more, in the
 * wrong one. */
static void log_fill(struct view *v, uint64_t vpn, const struct walk *w, bool replaced)
{
	if (replaced && (w->global || !v->n_global))
		return;
	if (w->global) {
		if (v->n_global < VIEW_LOG)
			v->global_log[v->n_global++] = vpn;
	} else if (v->n_log < VIEW_LOG) {
		v->log[v->n_log++] = vpn;
	}
}

void view_note(struct view *v, const struct walk *w, uint64_t lin)
{
	uint32_t bit = large_bit(lin);

	v->has_global |= w->global;
	if (w->page_size > (4u << 20))
		v->huge |= 1ull << ((lin >> 30) & 63);
	else if (w->page_size > (2u << 20)) /* both its halves */
		v->large[bit / 64] |= 3ull << (bit % 64 & ~1u);
	else if (w->page_size > 4096)
		v->large[bit / 64] |= 1ull << (bit % 64);
}

/* Without views of our own the client's addresses are used: none that looks like a read-only view's, nor
 * one beyond 47 bits (docs/why/tlb.md, point 3). A slot whose memory goes from one half to the other is
 * in neither. */
static bool is_enterable(const struct slot *slot)
{
	uint64_t first = (uintptr_t)slot->hva, last = first + slot->size - 1;

	return slot->ro != slot->hva || (!((first | last) & SLOT_VIEW_RO) && !(last >> 47));
}

/* Where an access to the page at gpa goes from translated code; NULL: C has to make it. */
static uint8_t *host_page(struct vcpu *c, struct slot *slot, const struct walk *w, bool write)
{
	uint64_t gpa = w->gpa & ~4095ull, at = gpa - slot->gpa;
	uint8_t *host;

	if (slot->layers && atomic_load(&slot->layers->page[at >> 12])) {
		host = write ? slot_to_write(c->vm, c, slot, gpa) : slot_to_keep(c, slot, gpa);
		if (!host || (uintptr_t)host & SLOT_VIEW_RO)
			return host;
	}
	if (may_write(c, slot, w))
		return slot->rw + at;
	return write || slot->ro == slot->hva ? NULL : slot->ro + at;
}

/* The current view's entry, and what has to be known to take it away. */
static void enter(struct vcpu *c, uint64_t lin, struct slot *slot, const struct walk *w,
		  uint8_t *host)
{
	struct engine *e = c->engine;
	struct view *v = e->view;
	uint64_t at = (w->gpa - slot->gpa) & ~4095ull, was;
	struct page_note *note = &slot->note[at >> 12];

	if (e->opt.tiny_tlb && c->stat.tlb_fills % 16 == 15) {
		clear_log(v, v->log, &v->n_log);
		clear_log(v, v->global_log, &v->n_global);
	}
	view_touch(e, v, vpn_of(lin));
	was = v->table[vpn_of(lin)];
	v->table[vpn_of(lin)] = (uint64_t)(uintptr_t)host - (lin & ~4095ull);
	log_fill(v, vpn_of(lin), w, was != 0);
	view_note(v, w, lin);
	if ((host != slot->ro + at || slot->ro == slot->rw) && is_owner(note, vcpu_bit(c)))
		note_writer(e, note, vpn_of(lin), (uint64_t)(uintptr_t)host);
	c->stat.tlb_fills++;
}

bool tlb_fill(struct vcpu *c, uint64_t lin, bool write, enum step *step)
{
	struct slot *slot;
	struct walk w;
	uint8_t *host;

	*step = mmu_walk(c, lin, write ? ACC_WRITE : ACC_READ, &w);
	if (*step != STEP_OK)
		return false;
	slot = vm_slot(c->vm, w.gpa);
	if (!slot || !is_enterable(slot))
		return false;
	host = host_page(c, slot, &w, write);
	if (!host)
		return false;
	enter(c, lin, slot, &w, host);
	return true;
}

/* -- Taking write permission away ---------------------------------------------------------------------------- */

static void demote(struct view *v, uint64_t vpn, uint64_t rw_page)
{
	if (leads_to(v, vpn, rw_page))
		v->table[vpn] = 0;
}

static void demote_logged(struct view *v, uint64_t rw_page)
{
	uint32_t i;

	for (i = 0; i < v->n_log; i++)
		demote(v, v->log[i], rw_page);
	for (i = 0; i < v->n_global; i++)
		demote(v, v->global_log[i], rw_page);
}

static void demote_noted(struct engine *e, struct page_note *n, uint64_t rw_page)
{
	int i;

	for (i = 0; i < 2; i++)
		if (n->entry[i])
			demote(entry_view(e, n->entry[i]), n->entry[i] & (VIEW_ENTRIES - 1),
			       rw_page);
}

/* Entries of this vCPU that lead to the page by this address go. */
static void drop(struct vcpu *c, struct page_note *note, uint64_t rw)
{
	struct engine *e = c->engine;
	unsigned i;

	if (atomic_load(&note->owner) == vcpu_bit(c) && !note->many) {
		demote_noted(e, note, rw);
	} else if (e->kernel.n_log >= VIEW_LOG || e->kernel.n_global >= VIEW_LOG) {
		mmu_flush_all(c);
	} else {
		demote_logged(&e->kernel, rw);
		for (i = 0; i < USER_VIEWS; i++)
			if (e->user[i].n_log >= VIEW_LOG || e->user[i].n_global >= VIEW_LOG)
				user_flush(e, &e->user[i]);
			else
				demote_logged(&e->user[i], rw);
		tlb_select(c);
	}
}

/* This vCPU's writable entries of the page at gpa go, and those that lead to a layer; gpa is the page's. To each
 * layer: who asked did not wait for one that slept, so the page may have moved since. */
void tlb_drop_writable(struct vcpu *c, struct slot *slot, uint64_t gpa)
{
	uint64_t at = gpa - slot->gpa;
	struct page_note *note = &slot->note[at >> 12];
	bool mine = atomic_load(&note->owner) == vcpu_bit(c);

	drop(c, note, (uint64_t)(uintptr_t)(slot->rw + at));
	for (unsigned n = 1; slot->layers && n <= slot->layers->n; n++)
		drop(c, note, (uint64_t)(uintptr_t)(slot->layers->base[n] + at));
	atomic_fetch_and(&note->writers, ~vcpu_bit(c));
	if (mine) {
		note->many = false;
		note->entry[0] = note->entry[1] = 0;
	}
}

/* SPDX-License-Identifier: MIT */
/*
 * How much memory the views' tables take.
 *
 * A view's table has an entry for each page of the address space, and exists where it was touched: a
 * guest that visits a byte in each 2 MiB touches all of it, half a terabyte. Reading counts as much as
 * writing: on the host a page that was only read is the zero page, but has a place in a page table, and where the
 * tables are a file's memory (os/space.h) it is a page. So each view has a bitmap of the pages of its table
 * that were touched, and where a vCPU's tables have too many all of them are given back, page tables and
 * all, and filled anew as they are needed. To the guest that is a TLB that lost its entries.
 *
 *	the bitmap says "untouched"  =>  all entries of the page are 0, and none was read
 *
 * Who reads an entry and finds 0, or is to write one, calls view_touch() for it: translated code does so by way of
 * its miss helpers. Who only wants to know or to clear asks view_touched() first.
 *
 * A touched page costs at worst 12 KiB: its own 4, a page table's, and a page's of the bitmap.
 */
#include <linux/mman.h>

#include "softkvm/mmu/tlb.h"
#include "softkvm/os/space.h"
#include "softkvm/os/syscall.h"

/* A page of a table covers 2 MiB. Maps of all RAM by kernel and user, of the kernel's own data, of a
 * hundred programs' libraries and stacks fit; RAM is counted eight times. */
#define PAGES_MIN 4096u
#define PAGES_TINY 24u /* SOFTKVM=tlb */
#define RAM_PER_PAGE (256u << 10)

static uint64_t pages(const struct engine *e)
{
	uint64_t n = e->kernel.n_touched;

	for (unsigned i = 0; i < USER_VIEWS; i++)
		n += e->user[i].n_touched;
	return n;
}

static uint64_t pages_max(const struct engine *e)
{
	const struct slot_table *t = atomic_load_explicit(&e->c->vm->slots, memory_order_acquire);
	uint64_t ram = 0;

	if (e->opt.tiny_tlb)
		return PAGES_TINY;
	for (unsigned i = 0; i < t->n; i++)
		ram += t->slot[i]->size;
	return PAGES_MIN + ram / RAM_PER_PAGE;
}

/* A touched entry must cost one small page, not a huge one; and nobody who reads a core file finds
 * anything in terabytes of these. */
void view_advise(void *table, uint64_t len)
{
	sys_call3(SYS_madvise, (long)table, (long)len, MADV_NOHUGEPAGE);
	sys_call3(SYS_madvise, (long)table, (long)len, MADV_DONTDUMP);
}

void view_empty(struct view *v)
{
	space_clear(v->table, TABLE_LEN + TOUCHED_LEN);
	view_advise(v->table, TABLE_LEN + TOUCHED_LEN);
	v->n_log = v->n_global = 0;
	v->n_touched = 0;
}

static void empty_all(struct engine *e)
{
	view_empty(&e->kernel);
	for (unsigned i = 0; i < USER_VIEWS; i++)
		if (e->user[i].n_touched)
			view_empty(&e->user[i]);
	e->c->stat.table_drops++;
}

void view_touch_new(struct engine *e, struct view *v, uint64_t vpn)
{
	if (pages(e) >= pages_max(e))
		empty_all(e);
	v->touched[vpn >> 15] |= 1ull << (vpn >> 9 & 63);
	v->n_touched++;
	e->c->stat.table_pages++;
}

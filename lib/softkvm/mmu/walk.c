/* SPDX-License-Identifier: MIT */
/*
 * Paging: from a linear address to a guest-physical one, through the guest's own tables.
 *
 * There are three shapes of tables, of which CR4.PAE and EFER.LMA choose one:
 *
 *	        level 4      level 3      level 2      level 1     entry
 *	32-bit                            22 (4 MiB)   12          4 bytes, 10 index bits
 *	PAE                  30           21 (2 MiB)   12          8 bytes,  9 (level 3: 2)
 *	long    39           30 (1 GiB)   21 (2 MiB)   12          8 bytes,  9
 *
 * A walk has two halves. read_path() follows the entries and only reads. It fails at the
 * first entry that is not present, or that has a reserved bit set. mmu_walk() then judges the
 * rights, which are the AND over all levels (the OR, for NX), and last sets the accessed
 * bits, and the dirty bit for a store. So a page fault leaves the tables untouched.
 *
 * Invariants:
 *  1. An entry is changed only by compare-and-exchange against the value that the decision was
 *     made on; if another CPU was faster, the whole walk is done again. No right is ever
 *     derived from a mixture of old and new.
 *  2. Every change of an entry is told to page_changed(): it is a store to guest memory
 *     like any other, for the dirty log and for code.
 *  3. Tables in a read-only slot (firmware has them in flash) are used as they are, their A
 *     and D bits stay. What lies outside all slots reads as all ones, as an open bus does;
 *     that is nearly always a reserved-bit fault. A table that the client's memory cannot
 *     give, or whose A and D bits it does not let us set, ends in STEP_EFAULT.
 *
 * PDPTEs of PAE paging are read at each walk, not latched by MOV CR3: what AMD's CPUs do under
 * nested paging. They have no rights and no accessed bit.
 *
 * Not here: SMAP and protection keys are not offered by CPUID (vcpu.h has no place for
 * EFLAGS.AC in the TLB's key), 5-level paging neither.
 *
 * Source: Intel SDM volume 3, chapter 4.
 */
#include "softkvm/mmu/mmu.h"

#include <stddef.h>

#include "softkvm/mmu/guarded.h"

#define PTE_P 0x1ull
#define PTE_W 0x2ull
#define PTE_U 0x4ull
#define PTE_A 0x20ull
#define PTE_D 0x40ull
#define PTE_PS 0x80ull
#define PTE_G 0x100ull
#define PTE_NX (1ull << 63)
#define PTE_ADDR 0x000ffffffffff000ull

#define ERR_P 0x1u
#define ERR_W 0x2u
#define ERR_U 0x4u
#define ERR_RSVD 0x8u
#define ERR_FETCH 0x10u

struct shape {
	uint8_t levels;
	uint8_t entry_bytes;
	uint8_t index_bits;
	uint8_t large;      /* levels at which PS makes a leaf, a bit each */
	uint8_t shift[5];   /* by level */
	uint64_t cr3_mask;
};

static const struct shape legacy = {
	.levels = 2, .entry_bytes = 4, .index_bits = 10, .large = 1 << 2,
	.shift = {0, 12, 22}, .cr3_mask = 0xfffff000,
};

static const struct shape pae = {
	.levels = 3, .entry_bytes = 8, .index_bits = 9, .large = 1 << 2,
	.shift = {0, 12, 21, 30}, .cr3_mask = 0xffffffe0,
};

static const struct shape longmode = {
	.levels = 4, .entry_bytes = 8, .index_bits = 9, .large = 1 << 2 | 1 << 3,
	.shift = {0, 12, 21, 30, 39}, .cr3_mask = PTE_ADDR,
};

/* The entries that a translation went through, and what they say together. */
struct path {
	const struct shape *shape;
	uint64_t gpa;      /* of the address itself */
	uint64_t size;     /* of the page */
	uint64_t all;      /* AND of the entries: W, U */
	uint64_t nx;       /* OR of the entries: NX */
	uint32_t error;    /* why there is no translation: 0 (not present) or P | RSVD */
	bool bad;          /* an entry cannot be read, or not be marked */
	int leaf;          /* level of the last entry, 0 if there is no translation */
	uint64_t entry[5]; /* by level */
	uint64_t at[5];    /* their addresses */
	struct slot *slot[5];
};

static const struct shape *current_shape(const struct vcpu *c)
{
	if (is_long_mode(c))
		return &longmode;
	return c->cr4 & CR4_PAE ? &pae : &legacy;
}

static bool read_entry(const struct slot *slot, uint64_t gpa, unsigned bytes, uint64_t *entry)
{
	*entry = bytes == 4 ? 0xffffffffu : ~0ull;
	/* SAFE: it is aligned: entries are, and slots are mapped in whole pages */
	return !slot || guarded_load(slot_to_read(slot, gpa), bytes, entry);
}

static uint64_t bit_range(unsigned high, unsigned low)
{
	return high < low ? 0 : (~0ull >> (63 - high)) & (~0ull << low);
}

/* Which bits of this entry must be zero. */
static uint64_t reserved_bits(const struct vcpu *c, const struct shape *s, int level,
			      bool is_large)
{
	unsigned phys = c->max_phys_bits ? c->max_phys_bits : 36;
	uint64_t r;

	if (s == &legacy) {
		/* PSE-36: bits 20..13 are address bits 39..32, bit 21 is nothing */
		if (!is_large)
			return 0;
		return 1ull << 21 | (phys < 40 ? bit_range(20, phys - 19) : 0);
	}
	if (s == &pae && level == 3)
		return bit_range(63, phys) | 0x1e6;
	r = bit_range(s == &pae ? 62 : 51, phys);
	if (!(c->efer & EFER_NX))
		r |= PTE_NX;
	if (is_large)
		r |= bit_range(s->shift[level] - 1u, 13);
	else if (level == 4)
		r |= PTE_PS;
	return r;
}

static bool is_leaf(const struct vcpu *c, const struct shape *s, int level, uint64_t entry)
{
	if (level == 1)
		return true;
	if (!(entry & PTE_PS) || !(s->large >> level & 1))
		return false;
	return s != &legacy || (c->cr4 & CR4_PSE);
}

static void resolve_leaf(struct path *p, uint64_t lin, int level)
{
	uint64_t entry = p->entry[level];
	uint64_t base = entry & PTE_ADDR;

	p->leaf = level;
	p->size = 1ull << p->shape->shift[level];
	if (p->shape == &legacy && level == 2)
		base = (entry & 0xffc00000) | (entry & bit_range(20, 13)) << 19;
	p->gpa = (base & ~(p->size - 1)) | (lin & (p->size - 1));
}

static void read_path(struct vcpu *c, uint64_t lin, struct path *p)
{
	const struct shape *s = current_shape(c);
	uint64_t table = c->cr3 & s->cr3_mask;
	struct slot *slot = NULL;

	p->shape = s;
	p->all = PTE_W | PTE_U;
	p->nx = 0;
	p->error = 0;
	p->bad = false;
	p->leaf = 0;
	for (int level = s->levels; ; level--) {
		uint64_t index = lin >> s->shift[level] & ((1u << s->index_bits) - 1);

		if (s == &pae && level == 3)
			index &= 3;
		uint64_t at = table + index * s->entry_bytes;
		if (!slot || at - slot->gpa >= slot->size)
			slot = vm_slot(c->vm, at);
		bool has_rights = s != &pae || level != 3;
		uint64_t entry;
		bool end;

		p->bad = !read_entry(slot, at, s->entry_bytes, &entry);
		if (p->bad)
			return;
		if (!(entry & PTE_P))
			return;
		end = is_leaf(c, s, level, entry);
		if (entry & reserved_bits(c, s, level, end && level > 1)) {
			p->error = ERR_P | ERR_RSVD;
			return;
		}
		p->entry[level] = entry;
		p->at[level] = at;
		p->slot[level] = has_rights ? slot : NULL;
		if (has_rights) {
			p->all &= entry;
			p->nx |= entry;
		}
		if (end) {
			resolve_leaf(p, lin, level);
			return;
		}
		table = entry & PTE_ADDR;
	}
}

static bool is_writable(const struct vcpu *c, const struct path *p, bool user)
{
	return (p->all & PTE_W) || (!user && !(c->cr0 & CR0_WP));
}

static bool has_nx(const struct vcpu *c, const struct path *p)
{
	return (c->efer & EFER_NX) && p->shape != &legacy && (p->nx & PTE_NX);
}

static bool is_permitted(const struct vcpu *c, const struct path *p, unsigned acc, bool user)
{
	if (user && !(p->all & PTE_U))
		return false;
	if ((acc & ACC_WRITE) && !is_writable(c, p, user))
		return false;
	if (!(acc & ACC_FETCH))
		return true;
	if (has_nx(c, p))
		return false;
	return user || !(c->cr4 & CR4_SMEP) || !(p->all & PTE_U);
}

static enum step page_fault(struct vcpu *c, uint64_t lin, uint32_t error, unsigned acc,
			    bool user)
{
	bool tells_fetch = (c->cr4 & CR4_SMEP) || ((c->cr4 & CR4_PAE) && (c->efer & EFER_NX));

	if (acc & ACC_WRITE)
		error |= ERR_W;
	if (user)
		error |= ERR_U;
	if ((acc & ACC_FETCH) && tells_fetch)
		error |= ERR_FETCH;
	fault_code(c, X86_PFV, error);
	c->fault.cr2 = lin;
	return STEP_FAULT;
}

/* Sets bits in one entry; false: the entry is no longer what the walk saw. */
static bool mark_entry(struct vcpu *c, struct path *p, int level, uint64_t set)
{
	struct slot *slot = p->slot[level];
	unsigned bytes = p->shape->entry_bytes;
	uint64_t old = p->entry[level], at = p->at[level];
	enum exchanged done;

	if ((old & set) == set || !slot || (slot->flags & KVM_MEM_READONLY))
		return true;
	done = guarded_exchange(slot_to_write(c->vm, c, slot, at), bytes, old, old | set);
	p->bad |= done == EXCHANGE_BAD;
	if (done != EXCHANGED)
		return p->bad;
	p->entry[level] = old | set;
	page_changed(c, slot, at, bytes);
	return true;
}

static bool mark_path(struct vcpu *c, struct path *p, bool write)
{
	for (int level = p->shape->levels; level > p->leaf; level--)
		if (!mark_entry(c, p, level, PTE_A))
			return false;
	return mark_entry(c, p, p->leaf, write ? PTE_A | PTE_D : PTE_A);
}

static bool as_user(const struct vcpu *c, unsigned acc)
{
	return (acc & ACC_USER) || (!(acc & ACC_SYSTEM) && c->cpl == 3);
}

enum step mmu_walk(struct vcpu *c, uint64_t lin, unsigned acc, struct walk *w)
{
	bool user = as_user(c, acc);
	struct path p;

	if (!(c->cr0 & CR0_PG)) {
		*w = (struct walk){.gpa = lin, .page_size = 4096, .writable = true,
				   .dirty = true, .user = true};
		return STEP_OK;
	}
	do {
		read_path(c, lin, &p);
		if (!p.leaf)
			return p.bad ? STEP_EFAULT : page_fault(c, lin, p.error, acc, user);
		if (!is_permitted(c, &p, acc, user))
			return page_fault(c, lin, ERR_P, acc, user);
	} while (!mark_path(c, &p, acc & ACC_WRITE));
	if (p.bad)
		return STEP_EFAULT;

	*w = (struct walk){
		.gpa = p.gpa,
		.page_size = p.size,
		.writable = is_writable(c, &p, user),
		.dirty = p.entry[p.leaf] & PTE_D,
		.user = p.all & PTE_U,
		.global = (c->cr4 & CR4_PGE) && (p.entry[p.leaf] & PTE_G),
		.nx = has_nx(c, &p),
	};
	return STEP_OK;
}

enum step mmu_translate(struct vcpu *c, uint64_t lin, unsigned acc, uint64_t *gpa)
{
	struct walk w;
	enum step s = mmu_walk(c, lin, acc, &w);

	if (s == STEP_OK)
		*gpa = w.gpa;
	return s;
}

int64_t mmu_peek(struct vcpu *c, uint64_t lin, bool *writable, bool *user)
{
	struct path p;

	*writable = *user = true;
	if (!(c->cr0 & CR0_PG))
		return (int64_t)lin;
	read_path(c, lin, &p);
	if (!p.leaf)
		return -1;
	*writable = p.all & PTE_W;
	*user = p.all & PTE_U;
	return (int64_t)p.gpa;
}

/* SPDX-License-Identifier: MIT */
/*
 * Reads and writes of guest memory in C: what the interpreter, event delivery and the slow
 * paths of translated code use.
 *
 *	linear range --(at most two pages)--> pieces --+--> RAM: slot_to_read(), slot_to_write()
 *	                                               +--> device: io_memory(), 8 bytes at a time
 *
 * What is not in a memory slot is a device; so are stores to a read-only slot, whose reads
 * come from RAM. Device pieces keep the guest's size and address where that is 1, 2, 4 or 8
 * bytes, aligned or not, as KVM does; other lengths (a 10-byte x87 operand, the two parts of a
 * page-crossing access) become the largest powers of two that fit.
 *
 * Invariants:
 *  1. All pages of a range are translated, and all faults raised, before the first byte moves.
 *  2. In one store, devices come before RAM. A device access may end in STEP_EXIT, after which
 *     the instruction starts again and must find RAM as it was, or `add [mem], 1` across
 *     the border would add twice.
 *  3. RAM that the client cannot give is STEP_EFAULT, which like an exit comes before the first
 *     byte moves (mmu/guarded.h).
 *  4. page_changed() hears of each store to RAM after it (mmu.h says why), unless it went
 *     through a writable TLB entry: those exist only for pages without code.
 *
 * What the instruction's own privilege may access is looked up in the translator's TLB first.
 * Misses are not entered, as C comes by for what is rare; but long operands (strings) are,
 * since they come again, and everything where all code is interpreted.
 */
#include "softkvm/mmu/mmu.h"

#include <errno.h>
#include <stddef.h>

#include "softkvm/mmu/guarded.h"
#include "softkvm/mmu/io.h"
#include "softkvm/mmu/tlb.h"
#include "softkvm/os/bytes.h"
#include "softkvm/os/current.h"

#define PAGE 4096u
#define LONG_OPERAND 128u /* bytes: worth a TLB entry */

struct piece {
	struct slot *slot; /* NULL: device */
	uint64_t gpa;
	unsigned len;
};

/* The slot that serves this kind of access to gpa, NULL for devices. */
static struct slot *ram_slot(struct vcpu *c, uint64_t gpa, unsigned acc)
{
	struct slot *slot = vm_slot(c->vm, gpa);

	if (slot && (acc & ACC_WRITE) && (slot->flags & KVM_MEM_READONLY))
		return NULL;
	return slot;
}

static enum step translate_piece(struct vcpu *c, uint64_t lin, unsigned len, unsigned acc,
				 struct piece *p)
{
	enum step s = mmu_translate(c, lin, acc, &p->gpa);

	p->len = len;
	if (s == STEP_OK)
		p->slot = ram_slot(c, p->gpa, acc);
	return s;
}

/* Outside 64-bit code a linear address has 32 bits, and so has that of an operand's second word or
 * page, which a segment's base can lead beyond 4 GiB. But descriptor tables, and the stacks of
 * handlers, have long addresses in all of long mode. */
static uint64_t wrapped(const struct vcpu *c, uint64_t lin, unsigned acc)
{
	bool own = !(acc & (ACC_SYSTEM | ACC_USER));

	return (own ? is_64bit_code(c) : is_long_mode(c)) ? lin : (uint32_t)lin;
}

/* Splits at the page boundary; *n is 1 or 2. */
static enum step find_pieces(struct vcpu *c, uint64_t lin, unsigned len, unsigned acc,
			     struct piece p[2], unsigned *n)
{
	unsigned first = PAGE - (lin & (PAGE - 1));
	enum step s;

	if (event_breakpoints(c) && !(acc & (ACC_SYSTEM | ACC_FETCH)))
		event_watch(c, lin, len, acc & ACC_WRITE);
	*n = 1;
	if (len <= first)
		return translate_piece(c, lin, len, acc, &p[0]);
	*n = 2;
	s = translate_piece(c, lin, first, acc, &p[0]);
	if (s != STEP_OK)
		return s;
	return translate_piece(c, wrapped(c, lin + first, acc), len - first, acc, &p[1]);
}

static unsigned device_unit(unsigned len)
{
	if (len >= 8)
		return 8;
	return len >= 4 ? 4 : len >= 2 ? 2 : 1;
}

static enum step device_read(struct vcpu *c, uint64_t gpa, uint8_t *dst, unsigned len)
{
	for (unsigned unit; len; len -= unit, gpa += unit, dst += unit) {
		uint64_t data = 0;
		enum step s;

		unit = device_unit(len);
		s = io_memory(c, gpa, &data, unit, false);
		if (s != STEP_OK)
			return s;
		bytes_store(dst, data, unit);
	}
	return STEP_OK;
}

static enum step device_write(struct vcpu *c, uint64_t gpa, const uint8_t *src, unsigned len)
{
	for (unsigned unit; len; len -= unit, gpa += unit, src += unit) {
		uint64_t data;
		enum step s;

		unit = device_unit(len);
		data = bytes_load(src, unit);
		s = io_memory(c, gpa, &data, unit, true);
		if (s != STEP_OK)
			return s;
	}
	return STEP_OK;
}

/* -- The TLB -------------------------------------------------------------------------------- */

static bool is_one_page(uint64_t lin, unsigned len)
{
	return (lin & (PAGE - 1)) + len <= PAGE;
}

/* The view that knows this access, NULL: none. The current one is that of the CPL, and does not
 * see breakpoints. The processor's own accesses, to descriptors, TSS and frames, are those of
 * level 0 at any CPL, and nobody watches them. */
static struct view *view_of(const struct vcpu *c, unsigned acc)
{
	if (!c->engine || (acc & (ACC_USER | ACC_FETCH)))
		return NULL;
	if (acc & ACC_SYSTEM)
		return &c->engine->kernel;
	return event_breakpoints(c) ? NULL : c->engine->view;
}

/* A host pointer by the view's entry, NULL if it does not have one. */
static uint8_t *tlb_hit(struct engine *e, struct view *v, uint64_t lin, unsigned acc)
{
	uint64_t addend, host;

	if (!is_canonical(lin)) /* entries are found by bits 12 to 47 */
		return NULL;
	addend = v->table[vpn_of(lin)];
	host = lin + addend;
	if (!addend) {
		view_touch(e, v, vpn_of(lin));
		return NULL;
	}
	if ((acc & ACC_WRITE) && host & SLOT_VIEW_RO)
		return NULL;
	return (uint8_t *)(uintptr_t)host;
}

/* Will the entry be used again? */
static bool is_worth_filling(const struct vcpu *c, unsigned len, unsigned acc)
{
	return len >= LONG_OPERAND || (acc & ACC_SYSTEM) || c->engine->opt.interpret;
}

/* tlb_fill() fills the current view by the CPL's rights; this does so for v. */
static bool fill(struct vcpu *c, struct view *v, uint64_t lin, unsigned acc)
{
	struct view *current = c->engine->view;
	uint8_t cpl = c->cpl;
	enum step s;
	bool filled;

	if (v != current)
		c->cpl = 0;
	c->engine->view = v;
	filled = tlb_fill(c, lin, acc & ACC_WRITE, &s);
	c->engine->view = current;
	c->cpl = cpl;
	if (current != &c->engine->kernel && !current->valid)
		tlb_select(c); /* all was flushed: sync_readers() waits for others, and they for us */
	return filled;
}

/* A host pointer through the view: NULL if there is none, for whatever reason. */
static uint8_t *tlb_pointer(struct vcpu *c, uint64_t lin, unsigned len, unsigned acc)
{
	struct view *v = view_of(c, acc);
	uint8_t *host;

	if (!v || !is_one_page(lin, len))
		return NULL;
	host = tlb_hit(c->engine, v, lin, acc);
	if (host || !is_worth_filling(c, len, acc) || !is_canonical(lin))
		return host;
	return fill(c, v, lin, acc) ? tlb_hit(c->engine, v, lin, acc) : NULL;
}

/*
 * The same for what begins in one page and ends in the next; *first bytes are in the former. A fill may serve other CPUs, who
 * move pages: so the first pointer counts only if it is there when both have been filled.
 */
static bool tlb_pointers(struct vcpu *c, uint64_t lin, unsigned len, unsigned acc, uint8_t *host[2], unsigned *first)
{
	*first = PAGE - (lin & (PAGE - 1));
	if (len <= *first || !tlb_pointer(c, lin, *first, acc))
		return false;
	host[1] = tlb_pointer(c, wrapped(c, lin + *first, acc), len - *first, acc);
	host[0] = host[1] ? tlb_hit(c->engine, view_of(c, acc), lin, acc) : NULL;
	return host[0];
}

/* -- Read, write ---------------------------------------------------------------------------- */

static void changed(struct vcpu *c, struct slot *slot, uint64_t gpa, unsigned len)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	page_changed(c, slot, gpa, len);
}

static enum step ram_copy(void *dst, const void *src, unsigned len)
{
	return guarded_copy(dst, src, len) ? STEP_OK : STEP_EFAULT;
}

/* Are all bytes there that a store would change? (A store of one piece finds out itself.) */
static enum step ram_probe(struct vcpu *c, const struct piece p[2], unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (p[i].slot && !guarded_can_write(slot_to_write(c->vm, c, p[i].slot, p[i].gpa)))
			return STEP_EFAULT;
	return STEP_OK;
}

enum step mmu_read(struct vcpu *c, uint64_t lin, void *dst, unsigned len, unsigned acc)
{
	uint8_t *host, *both[2];
	struct piece p[2];
	unsigned n;
	enum step s;

	lin = wrapped(c, lin, acc);
	host = tlb_pointer(c, lin, len, acc);
	if (host)
		return ram_copy(dst, host, len);
	if (tlb_pointers(c, lin, len, acc, both, &n)) {
		s = ram_copy(dst, both[0], n);
		return s == STEP_OK ? ram_copy((uint8_t *)dst + n, both[1], len - n) : s;
	}
	s = find_pieces(c, lin, len, acc, p, &n);
	for (unsigned i = 0; s == STEP_OK && i < n; i++) {
		if (p[i].slot)
			s = ram_copy(dst, slot_to_read(p[i].slot, p[i].gpa), p[i].len);
		else
			s = device_read(c, p[i].gpa, dst, p[i].len);
		dst = (uint8_t *)dst + p[i].len;
	}
	return s;
}

enum step mmu_write(struct vcpu *c, uint64_t lin, const void *src, unsigned len, unsigned acc)
{
	uint8_t *host, *both[2];
	const uint8_t *bytes = src;
	struct piece p[2];
	unsigned n;
	enum step s;

	lin = wrapped(c, lin, acc);
	host = tlb_pointer(c, lin, len, acc | ACC_WRITE);
	if (host)
		return ram_copy(host, src, len);
	if (tlb_pointers(c, lin, len, acc | ACC_WRITE, both, &n)) {
		if (!guarded_can_write(both[1]))
			return STEP_EFAULT;
		s = ram_copy(both[0], bytes, n);
		return s == STEP_OK ? ram_copy(both[1], bytes + n, len - n) : s;
	}
	s = find_pieces(c, lin, len, acc | ACC_WRITE, p, &n);
	if (s == STEP_OK && n > 1)
		s = ram_probe(c, p, n);
	for (unsigned i = 0, at = 0; s == STEP_OK && i < n; at += p[i++].len)
		if (!p[i].slot)
			s = device_write(c, p[i].gpa, bytes + at, p[i].len);
	for (unsigned i = 0, at = 0; s == STEP_OK && i < n; at += p[i++].len) {
		if (!p[i].slot)
			continue;
		s = ram_copy(slot_to_write(c->vm, c, p[i].slot, p[i].gpa), bytes + at, p[i].len);
		if (s == STEP_OK)
			changed(c, p[i].slot, p[i].gpa, p[i].len);
	}
	return s;
}

enum step mmu_probe_write(struct vcpu *c, uint64_t lin, unsigned len, unsigned acc)
{
	uint8_t *host, *both[2];
	struct piece p[2];
	unsigned n;
	enum step s;

	lin = wrapped(c, lin, acc);
	host = tlb_pointer(c, lin, len, acc | ACC_WRITE);
	if (host)
		return guarded_can_write(host) ? STEP_OK : STEP_EFAULT;
	if (tlb_pointers(c, lin, len, acc | ACC_WRITE, both, &n))
		return guarded_can_write(both[0]) && guarded_can_write(both[1]) ? STEP_OK : STEP_EFAULT;
	s = find_pieces(c, lin, len, acc | ACC_WRITE, p, &n);
	return s == STEP_OK ? ram_probe(c, p, n) : s;
}

void mmu_stored(struct vcpu *c)
{
	struct slot *slot = c->stored.slot;

	if (!slot)
		return;
	c->stored.slot = NULL;
	changed(c, slot, c->stored.gpa, c->stored.len);
}

/* What the pointer leads to is there, so that its user has no fault to expect. */
static enum step pointer_probe(void **p, unsigned acc)
{
	if (acc & ACC_NATIVE)
		return STEP_OK;
	if (acc & ACC_WRITE ? guarded_can_write(*p) : guarded_can_read(*p))
		return STEP_OK;
	*p = NULL;
	return STEP_EFAULT;
}

enum step mmu_pointer(struct vcpu *c, uint64_t lin, unsigned len, unsigned acc, void **out)
{
	struct piece p[2];
	unsigned n;
	enum step s;

	*out = NULL;
	lin = wrapped(c, lin, acc);
	if (!is_one_page(lin, len))
		return STEP_OK;
	*out = tlb_pointer(c, lin, len, acc);
	if (*out)
		return pointer_probe(out, acc);
	s = find_pieces(c, lin, len, acc, p, &n);
	if (s != STEP_OK || !p[0].slot)
		return s;
	/* SAFE: without ACC_WRITE nobody writes through it. */
	*out = acc & ACC_WRITE ? slot_to_write(c->vm, c, p[0].slot, p[0].gpa) :
				 (uint8_t *)(uintptr_t)slot_to_read(p[0].slot, p[0].gpa);
	if (!*out)
		return STEP_EFAULT;
	s = pointer_probe(out, acc);
	if (s != STEP_OK || !(acc & ACC_WRITE))
		return s;
	mmu_stored(c);
	c->stored.slot = p[0].slot;
	c->stored.gpa = p[0].gpa;
	c->stored.len = len;
	return STEP_OK;
}

/* -- Code ---------------------------------------------------------------------------------- */

/* How many of `want` bytes from offset rip lie inside the code segment; 0: none. */
static unsigned within_code(const struct vcpu *c, uint64_t rip, unsigned want)
{
	if (is_64bit_code(c)) {
		uint64_t room = 0x0000800000000000ull - rip; /* of the lower half */

		if (!is_canonical(rip))
			return 0;
		return (int64_t)rip >= 0 && room < want ? (unsigned)room : want;
	}
	if (rip > c->seg[X86_CS].limit)
		return 0;
	uint64_t room = (uint64_t)c->seg[X86_CS].limit - rip + 1;

	return room < want ? (unsigned)room : want;
}

static const uint8_t *walk_to_code(struct vcpu *c, uint64_t lin, enum step *s)
{
	struct slot *slot;
	uint64_t gpa;

	*s = mmu_translate(c, lin, ACC_FETCH, &gpa);
	slot = *s == STEP_OK ? vm_slot(c->vm, gpa) : NULL;
	return slot ? slot_to_read(slot, gpa) : NULL;
}

/* One page's part. Code cannot come from a device: it reads as FF, and FF FF is undefined. */
static enum step fetch_page_part(struct vcpu *c, uint64_t lin, uint8_t *buf, unsigned len)
{
	enum step s;
	const uint8_t *p = c->engine ? fetch_pointer(c, lin, &s) : walk_to_code(c, lin, &s);

	if (p)
		return ram_copy(buf, p, len);
	if (s == STEP_OK)
		bytes_set(buf, 0xff, len);
	return s;
}

enum step mmu_fetch(struct vcpu *c, uint8_t buf[15], unsigned *n, enum step *rest)
{
	bool flat = is_64bit_code(c);
	uint64_t lin = flat ? c->rip : (uint32_t)(c->seg[X86_CS].base + c->rip);
	unsigned limit = within_code(c, c->rip, 15);
	unsigned first = PAGE - (lin & (PAGE - 1));
	enum step s;

	*n = 0;
	*rest = STEP_OK;
	if (!limit)
		return fault_code(c, X86_GP, 0);
	if (limit < first)
		first = limit;
	s = fetch_page_part(c, lin, buf, first);
	if (s != STEP_OK)
		return s;
	*n = first;
	if (first < limit) {
		uint64_t next = flat ? lin + first : (uint32_t)(lin + first);

		*rest = fetch_page_part(c, next, buf + first, limit - first);
		if (*rest != STEP_OK)
			return STEP_OK;
		*n = limit;
	}
	if (limit < 15)
		*rest = fault_code(c, X86_GP, 0);
	return STEP_OK;
}

/* -- Guest-physical memory ------------------------------------------------------------------ */

static struct slot *whole_slot(struct vm *vm, uint64_t gpa, unsigned *len)
{
	struct slot *slot = vm_slot(vm, gpa);
	uint64_t room = slot ? slot->size - (gpa - slot->gpa) : 0;
	unsigned page = PAGE - (gpa & (PAGE - 1));

	if (room && *len > room)
		*len = (unsigned)room;
	if (*len > page)
		*len = page;
	return slot;
}

int phys_read(struct vm *vm, uint64_t gpa, void *dst, unsigned len)
{
	uint8_t *d = dst;

	for (unsigned part; len; len -= part, gpa += part, d += part) {
		struct slot *slot;

		part = len;
		slot = whole_slot(vm, gpa, &part);
		if (!slot || !guarded_copy(d, slot_to_read(slot, gpa), part))
			return -EFAULT;
	}
	return 0;
}

int phys_write(struct vm *vm, uint64_t gpa, const void *src, unsigned len)
{
	const uint8_t *s = src;

	for (unsigned part; len; len -= part, gpa += part, s += part) {
		struct slot *slot;

		part = len;
		slot = whole_slot(vm, gpa, &part);
		if (!slot || (slot->flags & KVM_MEM_READONLY) ||
		    !guarded_copy(slot_to_write(vm, current_vcpu, slot, gpa), s, part))
			return -EFAULT;
		changed(current_vcpu, slot, gpa, part);
	}
	return 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * Guest memory as instructions see it: linear addresses, paging, permissions, devices.
 *
 *	uint64_t lin, value;
 *	if (seg_linear(c, in.seg, ea, 8, false, &lin) || mmu_read(c, lin, &value, 8, ACC_READ))
 *		return STEP_FAULT or whatever came back;
 *
 * All functions run in the vCPU's thread with the guest's vector state live. They return enum
 * step; STEP_FAULT leaves #PF, #GP or #SS in c->fault, STEP_EXIT a device access for the client,
 * STEP_EFAULT says that the memory of a slot, or a page table in it, is not there.
 * Source: Intel SDM volume 3, chapter 4 (paging), chapter 5 (protection).
 */
#ifndef SOFTKVM_MMU_H
#define SOFTKVM_MMU_H

#include "softkvm/hooks.h"
#include "softkvm/vcpu.h"

/* How memory is touched. Without ACC_USER or ACC_SYSTEM the CPL decides. */
#define ACC_READ 0u
#define ACC_WRITE 1u
#define ACC_FETCH 2u
#define ACC_USER 4u   /* as CPL 3 */
#define ACC_SYSTEM 8u /* implicit supervisor access: descriptor tables, TSS */
#define ACC_NATIVE 16u /* of mmu_pointer(): for native_exec(), which takes a fault itself */

/* Reads len bytes (up to 4096, any alignment, may cross one page boundary). Device memory is
 * read through io.h. */
enum step mmu_read(struct vcpu *c, uint64_t lin, void *dst, unsigned len, unsigned acc);

/* Writes; both pages of a crossing store are checked before the first byte changes. Handles
 * code invalidation, dirty log, devices. */
enum step mmu_write(struct vcpu *c, uint64_t lin, const void *src, unsigned len, unsigned acc);

/* Checks that a store of len bytes at lin would not fault (dirty bits are set). */
enum step mmu_probe_write(struct vcpu *c, uint64_t lin, unsigned len, unsigned acc);

/* A host pointer for len bytes at lin, if they lie in one page of RAM and acc is permitted:
 * STEP_OK and *out set, or *out NULL when it is device memory, read-only memory under a store,
 * or crosses a page (use read/write then). With ACC_WRITE the page may be written through the
 * pointer until the instruction ends, without a fault; mmu_stored() has to follow
 * (interp_insn() and interp_step() do it, and asking for another such pointer does). */
enum step mmu_pointer(struct vcpu *c, uint64_t lin, unsigned len, unsigned acc, void **out);

/* The stores through mmu_pointer() have been made: tells page_changed(). */
void mmu_stored(struct vcpu *c);

/* The linear address of an operand in a segment: base, limit and type checks outside 64-bit
 * mode, canonical check inside. Faults are #SS(0) for SS, else #GP(0). */
enum step seg_linear(struct vcpu *c, enum x86_seg seg, uint64_t ea, unsigned len, bool write,
		     uint64_t *lin);

/* The effective address (offset in its segment) of an instruction's memory operand; rip_next
 * is the address of the following instruction. */
uint64_t insn_ea(const struct vcpu *c, const struct insn *in, uint64_t rip_next);

/* Fetches up to 15 bytes of code at CS:rip; *n is how many could be had. STEP_OK if at least
 * one; if there are fewer than 15 *rest says what comes of wanting more. */
enum step mmu_fetch(struct vcpu *c, uint8_t buf[15], unsigned *n, enum step *rest);

/* What a walk found: the page that maps lin, for the privilege asked for. */
struct walk {
	uint64_t gpa;       /* of lin itself */
	uint64_t page_size; /* 4 KiB, 2 or 4 MiB, 1 GiB; 4 KiB when paging is off */
	bool writable;      /* a store with the same privilege is permitted (CR0.WP considered) */
	bool dirty;         /* the D bit is set in the leaf (true when paging is off) */
	bool user, global, nx;
};

/* Walks the tables with all checks for acc (privilege, W, NX, SMEP, reserved bits), sets
 * accessed bits, and the dirty bit for ACC_WRITE, by cmpxchg. STEP_FAULT: #PF in c->fault. */
enum step mmu_walk(struct vcpu *c, uint64_t lin, unsigned acc, struct walk *w);

/* Where the bytes at gpa are, of a page of a slot (mmu/layer.c): to be read at once; to be written,
 * at once or later, NULL if the memory of the layer is gone; to be kept in a TLB entry or a code page, and read
 * there until sync_readers() of somebody takes it away. The second may wait for other vCPUs, and
 * flush. */
static inline const uint8_t *slot_to_read(const struct slot *slot, uint64_t gpa)
{
	uint64_t at = gpa - slot->gpa;
	unsigned n = slot->layers ? atomic_load(&slot->layers->page[at >> 12]) & ~LAYER_MOVING : 0;

	return (n ? slot->layers->base[n] : slot->rw) + at;
}
uint8_t *slot_to_write(struct vm *vm, struct vcpu *c, struct slot *slot, uint64_t gpa);
uint8_t *slot_to_keep(struct vcpu *c, struct slot *slot, uint64_t gpa);

/* The page gets memory of its own; c is NULL for the client, who holds the VM's lock. False: the layer's memory
 * is gone. */
bool page_move(struct vm *vm, struct vcpu *c, struct slot *slot, uint64_t gpa);

/* Guest-physical address of lin for `acc`, walking the tables with all checks, accessed and
 * dirty bits set as the processor does. */
enum step mmu_translate(struct vcpu *c, uint64_t lin, unsigned acc, uint64_t *gpa);

/* The same without side effects, for KVM_TRANSLATE: -1 where unmapped. */
int64_t mmu_peek(struct vcpu *c, uint64_t lin, bool *writable, bool *user);

/* Invalidation, as the instructions that cause it. */
void mmu_flush_all(struct vcpu *c);                  /* CR0.PG, CR4.PGE/PSE/PAE/SMEP, EFER.NX... */
void mmu_flush_page(struct vcpu *c, uint64_t lin);   /* INVLPG: current PCID and globals */
void mmu_load_cr3(struct vcpu *c, uint64_t value, bool keep); /* MOV CR3; bit 63 given as keep */
void mmu_invpcid(struct vcpu *c, unsigned type, unsigned pcid, uint64_t lin);
/* CPL, CR0.WP, EFER or paging mode changed in a way that selects another set of entries. */
void mmu_mode_changed(struct vcpu *c);

/* Reads and writes of guest-physical memory by the engine itself (kvmclock, PV EOI, ...), with
 * dirty log and code invalidation: 0 or -EFAULT. */
int phys_read(struct vm *vm, uint64_t gpa, void *dst, unsigned len);
int phys_write(struct vm *vm, uint64_t gpa, const void *src, unsigned len);

#endif

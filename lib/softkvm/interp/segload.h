/* SPDX-License-Identifier: MIT */
/*
 * Descriptors, selectors and the loading of segment registers: what far transfers, event
 * delivery and the system instructions have in common.
 *
 *	struct desc d;
 *	if (desc_read(c, sel, (struct blame){X86_GP, 0}, &d))
 *		return STEP_FAULT;
 *
 * Order matters: whatever may fault is done first, registers change last (commit functions
 * return void), so that a fault leaves the instruction undone.
 * Source: Intel SDM volume 3, chapter 5 (protection) and chapter 3 (segment descriptors).
 */
#ifndef SOFTKVM_SEGLOAD_H
#define SOFTKVM_SEGLOAD_H

#include "softkvm/mmu/mmu.h"
#include "softkvm/vcpu.h"

/* A descriptor as it lies in its table. */
struct desc {
	uint64_t raw;
	uint64_t high; /* second half of 16-byte system descriptors; else 0 */
	uint64_t lin;  /* where it lies */
};

/* How a bad selector is reported: which exception, and the EXT bit of its error code. */
struct blame {
	uint8_t vector;
	uint8_t ext;
};

#define BLAME_GP ((struct blame){X86_GP, 0})

/* Types of system descriptors. */
enum { SYS_TSS16 = 1, SYS_LDT = 2, SYS_TSS16_BUSY = 3, SYS_CALL16 = 4, SYS_TASK = 5,
       SYS_INT16 = 6, SYS_TRAP16 = 7, SYS_TSS32 = 9, SYS_TSS32_BUSY = 11, SYS_CALL32 = 12,
       SYS_INT32 = 14, SYS_TRAP32 = 15 };

/* Bits of the type of code and data descriptors. */
#define SEG_ACCESSED 1u
#define SEG_WRITABLE 2u   /* data */
#define SEG_READABLE 2u   /* code */
#define SEG_DOWN 4u       /* data: expands down */
#define SEG_CONFORMING 4u /* code */
#define SEG_CODE 8u

static inline unsigned desc_type(const struct desc *d) { return d->raw >> 40 & 15; }
static inline bool desc_s(const struct desc *d) { return d->raw >> 44 & 1; }
static inline unsigned desc_dpl(const struct desc *d) { return d->raw >> 45 & 3; }
static inline bool desc_present(const struct desc *d) { return d->raw >> 47 & 1; }
static inline bool desc_l(const struct desc *d) { return d->raw >> 53 & 1; }
static inline bool desc_db(const struct desc *d) { return d->raw >> 54 & 1; }

static inline uint64_t desc_base(const struct desc *d)
{
	return (d->raw >> 16 & 0xffffff) | (d->raw >> 56 << 24) | d->high << 32;
}

static inline uint32_t desc_limit(const struct desc *d)
{
	uint32_t limit = (uint32_t)((d->raw & 0xffff) | (d->raw >> 32 & 0xf0000));

	return d->raw >> 55 & 1 ? limit << 12 | 0xfff : limit;
}

static inline bool desc_is_code(const struct desc *d)
{
	return desc_s(d) && (desc_type(d) & SEG_CODE);
}

static inline bool desc_is_conforming(const struct desc *d)
{
	return (desc_type(d) & (SEG_CODE | SEG_CONFORMING)) == (SEG_CODE | SEG_CONFORMING);
}

static inline bool desc_is_writable_data(const struct desc *d)
{
	return desc_s(d) && (desc_type(d) & (SEG_CODE | SEG_WRITABLE)) == SEG_WRITABLE;
}

static inline bool sel_is_null(uint16_t sel)
{
	return !(sel & 0xfffc);
}

/* A fault whose error code names a selector. */
static inline enum step sel_fault(struct vcpu *c, uint8_t vector, uint16_t sel, unsigned ext)
{
	return fault_code(c, vector, (sel & 0xfffcu) | ext);
}

/* Reads the descriptor that sel names, 8 bytes of it. Beyond its table: blame with sel. */
enum step desc_read(struct vcpu *c, uint16_t sel, struct blame blame, struct desc *d);

/* The other 8 bytes of a system descriptor in long mode. #GP(sel) beyond the table, or where
 * the bits that look like a type are not 0. */
enum step desc_read_high(struct vcpu *c, uint16_t sel, struct blame blame, struct desc *d);

/* Sets the accessed bit in the table if it is clear. Last of what may fault. */
enum step desc_mark_accessed(struct vcpu *c, struct desc *d);

/* The register's contents for a descriptor. */
void seg_from_desc(struct kvm_segment *s, uint16_t sel, const struct desc *d);

/* A null selector's: unusable. dpl is kept for SS, whose DPL is the CPL. */
void seg_set_null(struct kvm_segment *s, uint16_t sel, unsigned dpl);

/* A load in real mode: limit and attributes stay, if there are any. */
void seg_load_real(struct kvm_segment *s, uint16_t sel);

/* A virtual-8086 mode segment. */
void seg_set_vm86(struct kvm_segment *s, uint16_t sel);

/* MOV, POP, LDS... to a segment register but CS, in all modes with all checks. Does not touch
 * the interrupt shadow of SS: that is the instruction's. */
enum step seg_load(struct vcpu *c, enum x86_seg seg, uint16_t sel);

/* Checks sel as a stack segment for privilege `cpl` and reads its descriptor: wrong ones are
 * blamed, an absent one is #SS. The accessed bit is set. Not for null selectors. */
enum step seg_check_stack(struct vcpu *c, uint16_t sel, unsigned cpl, struct blame blame,
			  struct desc *d);

/* The current privilege level changes: tells the MMU where that matters. */
static inline void cpl_set(struct vcpu *c, unsigned cpl)
{
	bool selects_others = (c->cpl == 3) != (cpl == 3);

	c->cpl = (uint8_t)cpl;
	if (selects_others)
		mmu_mode_changed(c);
}

/* After a change to an outer level: data segments that it may not use become null, and null
 * selectors 1 to 3 become 0 (measured: AMD family 1Ah; Intel's manual has it in RETF and IRET). */
void segs_drop_inner(struct vcpu *c);

#endif

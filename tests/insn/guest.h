/* SPDX-License-Identifier: MIT */
/*
 * The guest's memory, and what guest.c leaves to guest_mode.c: modes other than 64-bit and flat 32-bit code.
 */
#ifndef INSN_GUEST_H
#define INSN_GUEST_H

#include <linux/kvm.h>

#include "insn.h"

/* Guest-physical memory. */
enum {
	GDT_AT = 0x1000, IDT_AT = 0x2000, TSS_AT = 0x3000, STACK_AT = 0x4000,
	HANDLERS_AT = 0x5000, COPY_AT = 0x5800, ENTER_AT = 0x5840, PAGES_AT = 0x20000,
	IMAGE_AT = 0x40000, TABLES_AT = 0x80000, TABLES = 128, RAM_SIZE = 0x100000,
};

#define KERNEL 0xffffa00000000000 /* + guest-physical address */
#define HANDLER_STEP 16

#define P_PRESENT 1ull
#define P_WRITE   2ull
#define P_USER    4ull
#define P_NX      (1ull << 63)

#define RING0_CODE 0x10
#define RING0_DATA 0x18
#define USER_CODE32 0x23
#define USER_DATA  0x2b
#define USER_CODE64 0x33
#define TSS_SELECTOR 0x40
#define RING0_CODE32 0x48

/* Where the modes without long addresses have all that they need of the guest's first pages. */
#define LOW_KERNEL 0x70000000u
enum { LOW_KERNEL_PAGES = 8 };

/* Where page `i` of the sandbox is. */
uint64_t page_gpa(unsigned i);

/* Descriptor tables, task state and vectors for these modes, beside those that there are. */
void mode_memory(uint8_t *ram);
/* Changes *s, of 64-bit code, to what the case wants; pae: the page directory pointers. */
void mode_sregs(const struct test_case *t, uint64_t pae, struct kvm_sregs *s);
/* What there is in registers and on the stack after a run, in terms of the twin (insn.h). REAL: puts
 * what was on the stack back. */
void mode_take(uint8_t *ram, const struct test_case *t, const struct image *before, const struct kvm_regs *r,
	       const struct kvm_sregs *s, struct outcome *o);

static inline bool has_error_code(unsigned vector)
{
	return vector == 8 || (vector >= 10 && vector <= 14) || vector == 17;
}

#endif

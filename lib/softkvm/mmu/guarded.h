/* SPDX-License-Identifier: MIT */
/*
 * Access to guest memory that may not be there.
 *
 * A memory slot is a promise of the client's, and it can be empty: nothing mapped at its address, a
 * mapping without permission to read or write, a file that ends before its mapping does. The
 * kernel's KVM_RUN then returns -EFAULT, the instruction not begun. So does ours: C touches guest
 * memory by the functions here, which say false where the host raises SIGSEGV or SIGBUS, and
 * enum step has STEP_EFAULT to pass that on. It costs nothing while memory is there:
 *
 *	1:	mov (%rsi), %rax	.section softkvm_guarded: 1 -> bad
 *	...
 *	bad:	return false
 *
 * The handler of faults (run/signal.c) looks the faulting instruction up in that table and goes on
 * where the table says. Translated code needs no such thing: where it faults C executes the
 * instruction again, and comes here.
 *
 * One byte stands for its page, for all these reasons hold for whole pages.
 */
#ifndef SOFTKVM_GUARDED_H
#define SOFTKVM_GUARDED_H

#include <stdbool.h>
#include <stdint.h>

/* Where a fault leads, as distances from each field's own address. */
struct guarded {
	int32_t insn, landing;
};

#define GUARDED(label)                                                                             \
	".pushsection softkvm_guarded, \"a\"\n\t.balign 4\n\t"                                     \
	".long " #label "b - ., %l[bad] - .\n\t.popsection\n\t"

/* One load, one store: an ordinary access of the guest's stays whole. */
#define GUARDED_MOVE(name, suffix, reg)                                                            \
	static inline bool name(void *dst, const void *src)                                        \
	{                                                                                          \
		__asm__ goto volatile("1: mov" suffix " (%1), " reg "\n\t" GUARDED(1)             \
				      "2: mov" suffix " " reg ", (%0)\n\t" GUARDED(2)             \
				      : : "r"(dst), "r"(src) : "rax", "memory" : bad);             \
		return true;                                                                       \
	bad:                                                                                       \
		return false;                                                                      \
	}

GUARDED_MOVE(guarded_move1, "b", "%%al")
GUARDED_MOVE(guarded_move2, "w", "%%ax")
GUARDED_MOVE(guarded_move4, "l", "%%eax")
GUARDED_MOVE(guarded_move8, "q", "%%rax")

/* RDI, RSI and RCX come back changed, of which a jump out of assembly cannot tell. */
static inline bool guarded_move_many(void *dst, const void *src, unsigned long n)
{
	__asm__ goto volatile("mov %0, %%rdi\n\tmov %1, %%rsi\n\tmov %2, %%rcx\n\t"
			      "1: rep movsb\n\t" GUARDED(1)
			      : : "r"(dst), "r"(src), "r"(n) : "rdi", "rsi", "rcx", "memory"
			      : bad);
	return true;
bad:
	return false;
}

/* As bytes_copy(): the areas may overlap only if dst lies below src. */
static inline bool guarded_copy(void *dst, const void *src, unsigned long n)
{
	uint8_t *d = dst;
	const uint8_t *s = src;

	if (n > 256)
		return guarded_move_many(dst, src, n);
	for (; n >= 8; n -= 8, d += 8, s += 8)
		if (!guarded_move8(d, s))
			return false;
	if (n & 4) {
		if (!guarded_move4(d, s))
			return false;
		d += 4;
		s += 4;
	}
	if (n & 2) {
		if (!guarded_move2(d, s))
			return false;
		d += 2;
		s += 2;
	}
	return !(n & 1) || guarded_move1(d, s);
}

/* A number of 4 or 8 bytes, aligned. */
static inline bool guarded_load(const void *at, unsigned bytes, uint64_t *value)
{
	uint32_t low;

	if (bytes == 4) {
		__asm__ goto volatile("1: movl (%[at]), %k[v]\n\t" GUARDED(1)
				      : [v] "=r"(low) : [at] "r"(at) : "memory" : bad);
		*value = low;
	} else {
		__asm__ goto volatile("1: movq (%[at]), %[v]\n\t" GUARDED(1)
				      : [v] "=r"(*value) : [at] "r"(at) : "memory" : bad);
	}
	return true;
bad:
	return false;
}

/* Compare and exchange of 4 or 8 bytes, aligned. */
enum exchanged { EXCHANGED, EXCHANGE_LOST, EXCHANGE_BAD };

static inline enum exchanged guarded_exchange(void *at, unsigned bytes, uint64_t old, uint64_t new)
{
	if (bytes == 4)
		__asm__ goto volatile("mov %1, %%rax\n\t"
				      "1: lock cmpxchgl %k2, (%0)\n\t" GUARDED(1) "jne %l[lost]\n\t"
				      : : "r"(at), "r"(old), "r"(new) : "rax", "cc", "memory"
				      : bad, lost);
	else
		__asm__ goto volatile("mov %1, %%rax\n\t"
				      "1: lock cmpxchgq %2, (%0)\n\t" GUARDED(1) "jne %l[lost]\n\t"
				      : : "r"(at), "r"(old), "r"(new) : "rax", "cc", "memory"
				      : bad, lost);
	return EXCHANGED;
lost:
	return EXCHANGE_LOST;
bad:
	return EXCHANGE_BAD;
}

static inline bool guarded_can_read(const void *at)
{
	__asm__ goto volatile("1: movb (%0), %%al\n\t" GUARDED(1)
			      : : "r"(at) : "rax", "memory" : bad);
	return true;
bad:
	return false;
}

/* Stores what is there: no other processor's store is lost. */
static inline bool guarded_can_write(void *at)
{
	__asm__ goto volatile("1: lock orb $0, (%0)\n\t" GUARDED(1)
			      : : "r"(at) : "cc", "memory" : bad);
	return true;
bad:
	return false;
}

#endif

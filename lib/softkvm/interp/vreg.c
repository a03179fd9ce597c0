/* SPDX-License-Identifier: MIT */
/*
 * Vector, MMX and mask registers by number.
 *
 * They are live in the host's registers, and instructions name them in their bytes; so there is
 * one piece of assembly for each register, chosen by a switch. No other vector state is
 * touched: a legacy MOVDQU reads the low 16 bytes whatever extensions the host has.
 */
#include "softkvm/interp/ops.h"

#include <stdatomic.h>

#define FOR_16(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) \
		  X(14) X(15)
#define FOR_HIGH(X) X(16) X(17) X(18) X(19) X(20) X(21) X(22) X(23) X(24) X(25) X(26) X(27)  \
		    X(28) X(29) X(30) X(31)
#define FOR_1_TO_7(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7)

struct bytes64 {
	uint8_t b[64];
};

#define GET_X(n) case n: __asm__ volatile("movdqu %%xmm" #n ", %0" : "=m"(*o)); break;
#define GET_Y(n) case n: __asm__ volatile("vmovdqu %%ymm" #n ", %0" : "=m"(*o)); break;
#define GET_Z(n) case n: __asm__ volatile("vmovdqu64 %%zmm" #n ", %0" : "=m"(*o)); break;
#define SET_X(n) case n: __asm__ volatile("vmovdqu %0, %%xmm" #n : : "m"(*i)); break;
#define SET_Y(n) case n: __asm__ volatile("vmovdqu %0, %%ymm" #n : : "m"(*i)); break;
#define SET_Z(n) case n: __asm__ volatile("vmovdqu64 %0, %%zmm" #n : : "m"(*i)); break;

static void get_z(unsigned reg, struct bytes64 *o)
{
	switch (reg) {
		FOR_16(GET_Z)
		FOR_HIGH(GET_Z)
	}
}

static void copy(uint8_t *to, const uint8_t *from, unsigned len)
{
	for (unsigned k = 0; k < len; k++)
		((volatile uint8_t *)to)[k] = from[k];
}

void vreg_get(unsigned reg, unsigned len, void *out)
{
	struct bytes64 whole;
	struct bytes64 *o = &whole;

	if (reg > 15 || len > 32)
		get_z(reg, o);
	else if (len > 16)
		switch (reg) { FOR_16(GET_Y) }
	else
		switch (reg) { FOR_16(GET_X) }
	copy(out, whole.b, len);
}

void vreg_set(unsigned reg, unsigned len, const void *in)
{
	struct bytes64 whole;
	const struct bytes64 *i = &whole;

	for (unsigned k = 0; k < 64; k++)
		((volatile uint8_t *)whole.b)[k] = 0;
	copy(whole.b, in, len);
	if (reg > 15 || len > 32)
		switch (reg) { FOR_16(SET_Z) FOR_HIGH(SET_Z) }
	else if (len > 16)
		switch (reg) { FOR_16(SET_Y) }
	else
		switch (reg) { FOR_16(SET_X) }
}

#define GET_MM(n) case n: __asm__ volatile("movq %%mm" #n ", %0" : "=m"(*out)); break;

void mmreg_get(unsigned reg, uint64_t *out)
{
	switch (reg & 7) {
		GET_MM(0)
		FOR_1_TO_7(GET_MM)
	}
}

#define GET_KQ(n) case n: __asm__ volatile("kmovq %%k" #n ", %0" : "=r"(v)); break;
#define GET_KW(n) case n: __asm__ volatile("kmovw %%k" #n ", %k0" : "=r"(v)); break;
#define SET_KQ(n) case n: __asm__ volatile("kmovq %0, %%k" #n : : "r"(v)); break;
#define SET_KW(n) case n: __asm__ volatile("kmovw %k0, %%k" #n : : "r"(v)); break;

/* KMOVQ came with AVX-512BW, and so did bits beyond 16. */
static bool has_wide_masks(void)
{
	static atomic_int known; /* 1: no, 2: yes */
	int k = atomic_load_explicit(&known, memory_order_relaxed);
	uint32_t a = 7, b, c = 0, d;

	if (!k) {
		__asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
		k = b >> 30 & 1 ? 2 : 1;
		atomic_store_explicit(&known, k, memory_order_relaxed);
	}
	return k == 2;
}

uint64_t kreg_get(unsigned reg)
{
	uint64_t v = 0;

	if (has_wide_masks())
		switch (reg) { GET_KQ(0) FOR_1_TO_7(GET_KQ) }
	else
		switch (reg) { GET_KW(0) FOR_1_TO_7(GET_KW) }
	return v;
}

void kreg_set(unsigned reg, uint64_t v)
{
	if (has_wide_masks())
		switch (reg) { SET_KQ(0) FOR_1_TO_7(SET_KQ) }
	else
		switch (reg) { SET_KW(0) FOR_1_TO_7(SET_KW) }
}

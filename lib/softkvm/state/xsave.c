/* SPDX-License-Identifier: MIT */
/*
 * XCR0 and the sizes of XSAVE areas; what moves state between formats is in xsave_io.c.
 *
 * Components, their sizes and places in the standard format are the host's (CPUID leaf 0xD),
 * because the host's XSAVE and XRSTOR work on the guest's areas. The guest is offered those
 * that the engine keeps: x87, SSE, AVX and AVX-512. Not PKRU (it would switch protection keys of
 * this process), not AMX (8 KiB more state and a permission to ask for), not what XSS governs.
 * A host without XSAVE has x87 and SSE, which FXSAVE keeps in the same format.
 */
#include "softkvm/state/xsave.h"

#include <cpuid.h>

#include "softkvm/os/words.h"
#include "x86/feature.h"

#define OFFERED (XCR0_X87 | XCR0_SSE | XCR0_AVX | XCR0_AVX512)
#define LEGACY_AND_HEADER 576u
#define COMPONENTS 8 /* bits of OFFERED */

/* Read once; two threads that race write the same. */
static uint64_t features;
static bool xsave;
static uint32_t place[COMPONENTS], length[COMPONENTS], aligned;

static void probe(void)
{
	struct words words;
	uint64_t have;

	words_read(&words, false);
	have = words.fxsave ? 0 : cpu_host_xcr0() & OFFERED;
	xsave = have;
	have |= XCR0_X87 | XCR0_SSE;
	if ((have & XCR0_AVX512) != XCR0_AVX512)
		have &= ~XCR0_AVX512;
	for (uint32_t i = 2; i < COMPONENTS; i++) {
		uint32_t where, d;

		if (!(have >> i & 1))
			continue;
		__cpuid_count(0xd, i, length[i], place[i], where, d);
		if (where & 2)
			aligned |= 1u << i;
	}
	__atomic_store_n(&features, have, __ATOMIC_RELEASE);
}

uint64_t vec_features(void)
{
	uint64_t f = __atomic_load_n(&features, __ATOMIC_ACQUIRE);

	if (__builtin_expect(!f, 0)) {
		probe();
		f = __atomic_load_n(&features, __ATOMIC_ACQUIRE);
	}
	return f;
}

bool vec_has_xsave(void)
{
	vec_features();
	return xsave;
}

uint32_t xsave_place(unsigned component, uint32_t *len)
{
	if (component >= COMPONENTS || !(vec_features() >> component & 1))
		return 0;
	*len = length[component];
	return place[component];
}

uint32_t xsave_size(uint64_t set)
{
	uint32_t size = LEGACY_AND_HEADER;

	set &= vec_features();
	for (uint32_t i = 2; i < COMPONENTS; i++)
		if (set >> i & 1 && place[i] + length[i] > size)
			size = place[i] + length[i];
	return size;
}

uint32_t xsave_size_compacted(uint64_t set)
{
	uint32_t size = LEGACY_AND_HEADER;

	set &= vec_features();
	for (uint32_t i = 2; i < COMPONENTS; i++) {
		if (!(set >> i & 1))
			continue;
		if (aligned >> i & 1)
			size = (size + 63) & ~63u;
		size += length[i];
	}
	return size;
}

/* "If XCR0[2:1] is 10b", "if any of XCR0[7:5] differ", x87 missing: all are #GP(0). */
static bool consistent(uint64_t value)
{
	if (!(value & XCR0_X87))
		return false;
	if (value & XCR0_AVX && !(value & XCR0_SSE))
		return false;
	if (value & XCR0_AVX512)
		return (value & XCR0_AVX512) == XCR0_AVX512 && value & XCR0_AVX;
	return true;
}

int xcr0_write(struct vcpu *c, uint64_t value)
{
	if (value & ~(vec_features() & c->xcr0_allowed) || !consistent(value))
		return -1;
	c->xcr0 = value;
	return 0;
}

/* SPDX-License-Identifier: MIT */
/* Vector state: KVM_GET/SET_FPU and XSAVE, XCR0's rules, loading and saving the registers. */
#include "softkvm/state/xsave.h"

#include "base/macros.h"
#include "softkvm/state/vector.h"
#include "tests/tap.h"

#include <errno.h>

static struct vcpu *c;

static void test_xcr0(void)
{
	c->xcr0_allowed = ~0ull;
	ok(vec_features() & XCR0_SSE, "features %llx", (unsigned long long)vec_features());
	ok(!(vec_features() & ~0xe7ull), "nothing but x87, SSE, AVX, AVX-512");
	is_int(xcr0_write(c, 0), -1, "x87 cannot be off");
	is_int(xcr0_write(c, XCR0_X87 | XCR0_AVX), -1, "AVX needs SSE");
	is_int(xcr0_write(c, XCR0_X87 | XCR0_SSE | XCR0_AVX512), -1, "AVX-512 needs AVX");
	is_int(xcr0_write(c, XCR0_X87 | XCR0_SSE | XCR0_AVX | 0x20), -1, "AVX-512 is one");
	is_int(xcr0_write(c, XCR0_X87 | 1ull << 9), -1, "no PKRU");
	is_int(xcr0_write(c, vec_features()), 0, "all that there is");
	is_int(xsave_size(XCR0_X87), 576, "legacy part and header");
	ok(xsave_size(vec_features()) <= VCPU_XSAVE_MAX, "fits: %u", xsave_size(vec_features()));
	ok(xsave_size_compacted(vec_features()) <= xsave_size(vec_features()), "compacted: %u",
	   xsave_size_compacted(vec_features()));
}

static void test_fpu(void)
{
	struct kvm_fpu fpu;

	xsave_reset(c);
	xsave_get_fpu(c, &fpu);
	is_int(fpu.fcw, 0x37f, "FCW at reset");
	is_int(fpu.mxcsr, 0x1f80, "MXCSR at reset");
	is_int(fpu.ftwx, 0, "the stack is empty");
	fpu.xmm[3][5] = 0xab;
	fpu.fcw = 0x27f;
	fpu.mxcsr = 0xffff1f80;
	xsave_set_fpu(c, &fpu);
	memset(&fpu, 0, sizeof(fpu));
	xsave_get_fpu(c, &fpu);
	is_int(fpu.xmm[3][5], 0xab, "XMM comes back");
	is_int(fpu.fcw, 0x27f, "FCW, too");
	is_int(fpu.mxcsr & 0xfffd0000, 0, "MXCSR without reserved bits"); /* 17: AMD's MM */
}

static void test_area(void)
{
	static struct kvm_xsave area, bad;
	uint64_t *header = (uint64_t *)((char *)&area + 512);

	xsave_reset(c);
	xsave_get(c, &area, sizeof(area));
	is_int(header[0], 3, "XSTATE_BV names the legacy part");
	is_int(xsave_set(c, &area, sizeof(area)), 0, "and is taken back");
	bad = area;
	((uint64_t *)((char *)&bad + 512))[0] |= 1ull << 9;
	is_int(xsave_set(c, &bad, sizeof(bad)), 0, "with PKRU, as kernels save it");
	is_int(c->xsave[513] & 2, 0, "which is left out");
	bad = area;
	((uint64_t *)((char *)&bad + 512))[0] |= 1ull << 18;
	is_int(xsave_set(c, &bad, sizeof(bad)), -EINVAL, "a component that is not offered");
	bad = area;
	((uint64_t *)((char *)&bad + 512))[1] = 1ull << 63;
	is_int(xsave_set(c, &bad, sizeof(bad)), -EINVAL, "the compacted format");
	bad = area;
	((uint64_t *)((char *)&bad + 512))[5] = 1;
	is_int(xsave_set(c, &bad, sizeof(bad)), -EINVAL, "a header that is not clear");
	bad = area;
	bad.region[6] = 0x10000; /* reserved on all */
	is_int(xsave_set(c, &bad, sizeof(bad)), -EINVAL, "reserved bits of MXCSR");
}

/* What a guest does between load and save, in registers. */
static void __attribute__((noinline)) guest(const uint64_t in[2], uint64_t out[2])
{
	uint32_t mxcsr = 0x9fc0;
	uint16_t fcw = 0x77f;

	__asm__ volatile("movups %%xmm5, %0\n\t"
			 "movups %1, %%xmm5\n\t"
			 "ldmxcsr %2\n\t"
			 "fldcw %3\n\t"
			 "fld1"
			 : "=m"(*(uint64_t(*)[2])out)
			 : "m"(*(const uint64_t(*)[2])in), "m"(mxcsr), "m"(fcw));
}

static void test_live(void)
{
	uint64_t in[2] = {0x1122334455667788, 0x99aabbccddeeff00}, out[2] = {0};
	uint32_t mxcsr_before = 0x1fa0, mxcsr_after = 0;
	uint16_t fcw_after = 0;
	struct kvm_fpu fpu;

	xsave_reset(c);
	xsave_get_fpu(c, &fpu);
	fpu.xmm[5][0] = 42;
	xsave_set_fpu(c, &fpu);

	__asm__ volatile("ldmxcsr %0" : : "m"(mxcsr_before));
	vec_load(c);
	guest(in, out);
	vec_save(c);
	__asm__ volatile("stmxcsr %0\n\tfnstcw %1" : "=m"(mxcsr_after), "=m"(fcw_after));
	mxcsr_before = 0x1f80;
	__asm__ volatile("ldmxcsr %0" : : "m"(mxcsr_before));

	is_int(out[0], 42, "the guest finds its XMM5");
	is_int(mxcsr_after & 0x7fff, 0x1fa0 & 0x7fff, "the client finds its MXCSR");
	is_int(fcw_after, 0x37f, "and its x87 control word");
	xsave_get_fpu(c, &fpu);
	ok(!memcmp(fpu.xmm[5], in, 16), "what the guest left was saved");
	is_int(fpu.mxcsr, 0x9fc0, "with its MXCSR");
	is_int(fpu.fcw, 0x77f, "its control word");
	is_int(fpu.ftwx, 0x80, "and one value on the x87 stack");

	vec_load(c);
	guest(in, out);
	vec_save(c);
	ok(!memcmp(out, in, 16), "and it is loaded again");
}

int main(void)
{
	c = aligned_alloc(64, align_up(sizeof(*c), 64));
	memset(c, 0, sizeof(*c));
	test_xcr0();
	test_fpu();
	test_area();
	test_live();
	free(c);
	return done_testing();
}

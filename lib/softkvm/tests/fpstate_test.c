/* SPDX-License-Identifier: MIT */
/*
 * FXSAVE, XSAVE, FSAVE and their inverses against the processor under our feet: the same state,
 * saved by the host's instruction and by ours, must be the same bytes.
 *
 * Built like the engine, without vector instructions of the compiler's, and nothing of libc is
 * called between the loading of a state and its saving.
 */
#include "cpu.h"

#include "softkvm/state/cpuid.h"
#include "softkvm/state/xsave.h"

#define AREA_AT 0x20000u
#define SPLIT_AT (0x22000u - 512) /* the header is in the next page */

static struct vcpu *c;
static uint8_t state[4096] __attribute__((aligned(64))); /* a full state to begin with */
static uint8_t want[4096] __attribute__((aligned(64)));
static uint8_t host[4096] __attribute__((aligned(64)));
static uint64_t all;

#define XOP(name, p, mask)                                                                 \
	__asm__ volatile(name " (%0)"                                                      \
			 :                                                                 \
			 : "r"(p), "a"((uint32_t)(mask)), "d"((uint32_t)((mask) >> 32))    \
			 : "memory")

static void fill(void *p, unsigned n, unsigned seed)
{
	uint8_t *b = p;

	for (unsigned i = 0; i < n; i++)
		b[i] = (uint8_t)((seed = seed * 1103515245 + 12345) >> 16);
}

/* A state with something in every register. */
static void make_state(void)
{
	fill(state, sizeof(state), 1);
	memset(state, 0, 32);
	*(uint16_t *)(void *)state = 0x37f;
	*(uint32_t *)(void *)(state + 24) = 0x1fa0; /* MXCSR, PE set */
	state[4] = 0x81;                            /* x87: two registers are in use */
	memset(state + 512, 0, 64);
	*(uint64_t *)(void *)(state + 512) = all;
}

static void begin(unsigned cpl)
{
	cpu_long(c, cpl);
	c->xcr0 = all;
	c->gpr[X86_RAX] = (uint32_t)all;
}

/* Runs `code` on the guest area at `at` with the state live, as KVM_RUN does. */
static enum step run_live(uint64_t at, const char *code, unsigned n)
{
	enum step rc;
	struct insn in;

	c->gpr[X86_RBX] = at;
	if (x86_decode(&in, (const uint8_t *)code, n, code_mode(c)) != (int)n)
		return STEP_AGAIN;
	XOP("xsave64", host, all | 3);
	XOP("xrstor64", state, all);
	rc = system_insn(c, &in, c->rip + n);
	XOP("xsave64", want, all); /* what is live now */
	XOP("xrstor64", host, all | 3);
	return rc;
}

#define live(at, code) run_live(at, code, sizeof(code) - 1)

static uint8_t *ram_at(uint64_t at)
{
	return ram + at;
}

enum form { XSAVE64, XSAVE, XSAVEC64, FXSAVE64, FXSAVE };
static const char *const native_name[] = {"xsave64", "xsave", "xsavec64", "fxsave64", "fxsave"};

/* The same natively, into `want` (filled as the guest's area is). */
static void native(enum form what, uint64_t mask)
{
	memset(want, 0xcc, sizeof(want));
	memset(want + 512, 0, 64);
	XOP("xsave64", host, all | 3);
	XOP("xrstor64", state, all);
	switch (what) {
	case XSAVE64: XOP("xsave64", want, mask); break;
	case XSAVE: XOP("xsave", want, mask); break;
	case XSAVEC64: XOP("xsavec64", want, mask); break;
	case FXSAVE64: XOP("fxsave64", want, mask); break;
	case FXSAVE: XOP("fxsave", want, mask); break;
	}
	XOP("xrstor64", host, all | 3);
}

static void prepare(uint64_t at)
{
	memset(ram_at(at), 0xcc, 4096);
	memset(ram_at(at) + 512, 0, 64);
}

static bool same(uint64_t at, unsigned from, unsigned to)
{
	for (unsigned i = from; i < to; i++)
		if (ram_at(at)[i] != want[i]) {
			note("byte %u is %02x, not %02x", i, ram_at(at)[i], want[i]);
			return false;
		}
	return true;
}

/* What lies behind the header, as far as it is somebody's: on some CPUs there are gaps. */
static bool same_components(uint64_t at)
{
	uint32_t from, len;

	for (unsigned i = 2; i < 32; i++)
		if (all >> i & 1 && (from = xsave_place(i, &len)) && !same(at, from, from + len))
			return false;
	return true;
}

/* -- Saving -------------------------------------------------------------------------------- */

static void save(uint64_t at)
{
	static const struct {
		const char *code;
		enum form native;
		unsigned len;
	} forms[] = {
		{"\x48\x0f\xae\x23", XSAVE64, 4},  {"\x0f\xae\x23", XSAVE, 3},
		{"\x48\x0f\xc7\x23", XSAVEC64, 4}, {"\x48\x0f\xae\x33", XSAVE64, 4}, /* OPT */
		{"\x48\x0f\xc7\x2b", XSAVEC64, 4}, /* S */
		{"\x48\x0f\xae\x03", FXSAVE64, 4}, {"\x0f\xae\x03", FXSAVE, 3},
	};
	static const uint64_t masks[] = {~0ull, 1, 2, 3, 4, 7, 6, 0xe0, 0x81, 0};

	for (unsigned f = 0; f < sizeof(forms) / sizeof(forms[0]); f++)
		for (unsigned m = 0; m < sizeof(masks) / sizeof(masks[0]); m++) {
			uint64_t mask = masks[m] & all;
			enum step rc;

			if (forms[f].native >= FXSAVE64 && m)
				break;
			begin(0);
			prepare(at);
			c->gpr[X86_RAX] = (uint32_t)masks[m];
			c->gpr[X86_RDX] = masks[m] >> 32;
			rc = run_live(at, forms[f].code, forms[f].len);
			native(forms[f].native, mask);
			ok(rc == STEP_OK && same(at, 0, 4096), "%s (row %u), mask %llx, at %llx",
			   native_name[forms[f].native], f, (unsigned long long)masks[m],
			   (unsigned long long)at);
		}
}

static void save_32bit(void)
{
	begin(0);
	c->seg[X86_CS] = flat(KCODE32, 11, 0, false, true);
	prepare(AREA_AT);
	is_int(live(AREA_AT, "\x0f\xae\x03"), STEP_OK, "FXSAVE outside 64-bit mode");
	native(FXSAVE, all);
	ok(same(AREA_AT, 0, 288), "eight registers");
	is_int(ram_at(AREA_AT)[288], 0xcc, "no more");

	prepare(AREA_AT);
	is_int(live(AREA_AT, "\x0f\xae\x23"), STEP_OK, "XSAVE outside 64-bit mode");
	native(XSAVE, all);
	ok(same(AREA_AT, 0, 288) && same(AREA_AT, 512, 576), "eight registers, the header");
	is_int(ram_at(AREA_AT)[288], 0xcc, "no more");
	if (all & 4) {
		ok(same(AREA_AT, 576, 576 + 128), "eight upper halves");
		is_int(ram_at(AREA_AT)[576 + 128], 0xcc, "no more");
	}
}

static void save_faults(void)
{
	begin(0);
	ok(is_fault(c, live(AREA_AT + 32, "\x48\x0f\xae\x23"), X86_GP, 0), "XSAVE: alignment");
	ok(is_fault(c, live(AREA_AT + 8, "\x48\x0f\xae\x03"), X86_GP, 0), "FXSAVE: alignment");
	c->cr0 |= CR0_TS;
	ok(is_fault(c, live(AREA_AT, "\x48\x0f\xae\x23"), X86_NM, -1), "XSAVE under TS");
	ok(is_fault(c, live(AREA_AT, "\xdd\x33"), X86_NM, -1), "FNSAVE under TS");
	c->cr4 &= ~CR4_OSXSAVE;
	ok(is_fault(c, live(AREA_AT, "\x48\x0f\xae\x23"), X86_UDV, -1), "XSAVE, no OSXSAVE");
	begin(0);
	c->gpr[X86_RSP] = 1ull << 60;
	ok(is_fault(c, live(AREA_AT, "\x48\x0f\xae\x24\x24"), X86_SSV, 0), "XSAVE, no address");
	c->gpr[X86_RSP]++;
	ok(is_fault(c, live(AREA_AT, "\x48\x0f\xae\x24\x24"), X86_GP, 0), "alignment first");
	ok(is_fault(c, live(AREA_AT, "\x0f\xae\x0c\x24"), X86_SSV, 0), "but not for FXRSTOR, ...");
	c->gpr[X86_RSP] = (1ull << 47) - 8;
	ok(is_fault(c, live(AREA_AT, "\x0f\xae\x0c\x24"), X86_GP, 0), "... if its first byte has one");
	begin(3);
	ok(is_fault(c, live(AREA_AT, "\x48\x0f\xc7\x2b"), X86_GP, 0), "XSAVES in user mode");

	begin(0);
	cpu_page(c);
	prepare(SPLIT_AT);
	poke(PTE_OF(SPLIT_AT + 512), 0, 8);
	ok(is_fault(c, live(SPLIT_AT, "\x48\x0f\xae\x23"), X86_PFV, 2), "a page is missing");
	is_int(c->fault.cr2, SPLIT_AT + 512, "CR2");
	is_int(ram_at(SPLIT_AT)[0], 0xcc, "no byte written");
	poke(PTE_OF(SPLIT_AT + 512), (SPLIT_AT + 512) | 7, 8);
	poke(PTE_OF(AREA_AT & ~4095u), 0, 8);
	ok(is_fault(c, live((AREA_AT & ~4095u) - 496, "\x48\x0f\xae\x03"), X86_PFV, 2) &&
		   c->fault.cr2 == (AREA_AT & ~4095u) + 15,
	   "FXSAVE reaches for all 512 bytes");
	ok(is_fault(c, live((AREA_AT & ~4095u) - 496, "\x48\x0f\xae\x0b"), X86_PFV, 0),
	   "so does FXRSTOR");
	c->cr0 &= ~CR0_PG;
}

/* -- Restoring ----------------------------------------------------------------------------- */

/* `want` has what is live after the instruction; the memory operand held `state` with another
 * seed, so live state and it must agree. */
static void restore(uint64_t at)
{
	unsigned size = xsave_size(all);

	begin(0);
	memcpy(ram_at(at), state, size);
	for (unsigned i = 576; i < size; i++)
		ram_at(at)[i] ^= 0x5a;
	for (unsigned i = 160; i < 416; i++)
		ram_at(at)[i] ^= 0xa5;
	is_int(live(at, "\x48\x0f\xae\x2b"), STEP_OK, "XRSTOR at %llx", (unsigned long long)at);
	ok(same(at, 0, 6) && same(at, 24, 28) && same(at, 32, 42) && same(at, 160, 416) &&
		   same_components(at),
	   "all is loaded");

	/* Compacted: what XSAVEC made of it natively. */
	native(XSAVEC64, all);
	memcpy(ram_at(at), want, xsave_size_compacted(all));
	is_int(live(at, "\x48\x0f\xae\x2b"), STEP_OK, "XRSTOR, compacted");
	memcpy(ram_at(at), state, size);
	ok(same(at, 160, 416) && same_components(at), "all is loaded");

	/* Init: components that the header does not name become zero. */
	memset(ram_at(at) + 512, 0, 64);
	is_int(live(at, "\x48\x0f\xae\x2b"), STEP_OK, "XRSTOR, nothing in the header");
	ok(!want[160] && !want[415] && (want[512] & ~2) == 0, "registers are zero");

	memcpy(ram_at(at), state, 512);
	ram_at(at)[200] ^= 1;
	is_int(live(at, "\x48\x0f\xae\x0b"), STEP_OK, "FXRSTOR");
	ok(same(at, 0, 6) && same(at, 160, 416), "all is loaded");
}

static void restore_faults(void)
{
	begin(0);
	memcpy(ram_at(AREA_AT), state, 4096);
	poke(AREA_AT + 512, all | 1ull << 40, 8);
	ok(is_fault(c, live(AREA_AT, "\x48\x0f\xae\x2b"), X86_GP, 0), "a component that is not");
	poke(AREA_AT + 512, all, 8);
	poke(AREA_AT + 520, 4, 8);
	ok(is_fault(c, live(AREA_AT, "\x48\x0f\xae\x2b"), X86_GP, 0), "XCOMP_BV without bit 63");
	poke(AREA_AT + 520, 1ull << 63 | 3, 8);
	if (all & 4)
		ok(is_fault(c, live(AREA_AT, "\x48\x0f\xae\x2b"), X86_GP, 0),
		   "compacted, without a component");
	poke(AREA_AT + 520, 1ull << 63 | all, 8);
	poke(AREA_AT + 528, 1, 8);
	ok(is_fault(c, live(AREA_AT, "\x48\x0f\xae\x2b"), X86_GP, 0), "reserved header bytes");
	poke(AREA_AT + 520, 0, 8);
	ok(is_fault(c, live(AREA_AT, "\x48\x0f\xae\x2b"), X86_GP, 0), "in the standard format");
	poke(AREA_AT + 528, 0, 8);
	poke(AREA_AT + 24, 0xffff1f80, 4);
	ok(is_fault(c, live(AREA_AT, "\x48\x0f\xae\x2b"), X86_GP, 0), "MXCSR");
	ok(is_fault(c, live(AREA_AT, "\x48\x0f\xae\x0b"), X86_GP, 0), "MXCSR, FXRSTOR");
	c->gpr[X86_RAX] = 1;
	is_int(live(AREA_AT, "\x48\x0f\xae\x2b"), STEP_OK, "MXCSR that is not loaded");
	ok(is_fault(c, live(AREA_AT, "\x48\x0f\xc7\x1b"), X86_GP, 0), "XRSTORS: compacted only");
	c->xcr0 = 3;
	c->gpr[X86_RAX] = (uint32_t)all;
	poke(AREA_AT + 24, 0x1f80, 4);
	if (all & 4)
		ok(is_fault(c, live(AREA_AT, "\x48\x0f\xae\x2b"), X86_GP, 0),
		   "a component that XCR0 does not enable");
}

/* -- x87 ----------------------------------------------------------------------------------- */

static void x87(void)
{
	static uint8_t env[128];

	begin(0);
	prepare(AREA_AT);
	is_int(live(AREA_AT, "\xdd\x33"), STEP_OK, "FNSAVE");
	is_int(peek(AREA_AT, 2), 0x37f, "control word");
	ok(!memcmp(ram_at(AREA_AT) + 28, state + 32, 10), "ST0");
	is_int(want[4], 0, "the unit is initialised");
	is_int(ram_at(AREA_AT)[108], 0xcc, "108 bytes");
	memcpy(env, ram_at(AREA_AT), 108);
	poke(AREA_AT, 0x27f, 2);
	is_int(live(AREA_AT, "\xdd\x23"), STEP_OK, "FRSTOR");
	is_int(*(uint16_t *)(void *)want, 0x27f, "control word");
	ok(!memcmp(want + 32, env + 28, 10), "ST0");
	prepare(AREA_AT);
	is_int(live(AREA_AT, "\x66\xdd\x33"), STEP_OK, "FNSAVE, 16-bit");
	is_int(ram_at(AREA_AT)[94], 0xcc, "94 bytes");
	ok(!memcmp(ram_at(AREA_AT) + 14, state + 32, 10), "ST0");
	prepare(AREA_AT);
	is_int(live(AREA_AT, "\xd9\x33"), STEP_OK, "FNSTENV");
	is_int(ram_at(AREA_AT)[28], 0xcc, "28 bytes");
	poke(AREA_AT, 0x27f, 2);
	is_int(live(AREA_AT, "\xd9\x23"), STEP_OK, "FLDENV");
	is_int(*(uint16_t *)(void *)want, 0x27f, "control word");

	/* FNSAVE that stops at a device has not happened. */
	io_result = STEP_EXIT;
	is_int(live(0x40000000, "\xdd\x33"), STEP_EXIT, "FNSAVE to a device");
	is_int(want[4], state[4], "the state is back");
	is_int(live(0x40000000, "\xd9\x33"), STEP_EXIT, "FNSTENV to a device");
	is_int(*(uint16_t *)(void *)want, 0x37f, "the masks are back");
	io_result = STEP_OK;

	/* An exception that waits. */
	*(uint16_t *)(void *)state = 0x37b;
	*(uint16_t *)(void *)(state + 2) = 0x8084;
	begin(0);
	ok(is_fault(c, live(AREA_AT, "\xdd\x23"), X86_MF, -1), "FRSTOR with an exception pending");
	is_int(live(AREA_AT, "\xdd\x33"), STEP_OK, "FNSAVE does not wait");
	make_state();
}

/* Where x87 instructions were on the host is nobody's business. */
static void pointers(void)
{
	static const struct {
		const char *code;
		unsigned len, at, bytes;
	} saves[] = {
		{"\x48\x0f\xae\x03", 4, 8, 16}, {"\x0f\xae\x03", 3, 8, 16}, /* FXSAVE */
		{"\x48\x0f\xae\x23", 4, 8, 16}, {"\x48\x0f\xc7\x23", 4, 8, 16}, /* XSAVE, -C */
		{"\xdd\x33", 2, 12, 4}, {"\xdd\x33", 2, 20, 4}, {"\xd9\x33", 2, 12, 4},
		{"\xd9\x33", 2, 20, 4}, {"\x66\xdd\x33", 3, 6, 8}, {"\x66\xd9\x33", 3, 6, 8},
	};
	static const uint8_t zeros[16];

	fill(state + 8, 6, 99);
	fill(state + 16, 6, 77);
	for (unsigned i = 0; i < sizeof(saves) / sizeof(saves[0]); i++) {
		begin(0);
		prepare(AREA_AT);
		is_int(run_live(AREA_AT, saves[i].code, saves[i].len), STEP_OK, "a save, %u", i);
		ok(!memcmp(ram_at(AREA_AT) + saves[i].at, zeros, saves[i].bytes),
		   "  tells no address");
	}
	make_state();
}

int main(void)
{

	c = cpu_create();
	all = vec_features();
	if (!all) {
		skip("no XSAVE on this host");
		return done_testing();
	}
	c->n_cpuid = 1;
	c->cpuid[0] = (struct kvm_cpuid_entry2){.function = 0xd, .index = 1, .eax = 0xf,
						.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX};
	c->features = cpuid_features(c->cpuid, 1);
	make_state();
	save(AREA_AT);
	save(SPLIT_AT);
	save_32bit();
	save_faults();
	restore(AREA_AT);
	restore(SPLIT_AT);
	restore_faults();
	x87();
	pointers();
	return done_testing();
}

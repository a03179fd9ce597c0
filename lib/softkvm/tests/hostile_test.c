/* SPDX-License-Identifier: MIT */
/*
 * Random system instructions in random states: whatever a guest makes of its registers, tables
 * and modes, nothing outside its memory is touched and every result is one of enum step. Best run
 * with sanitizers (the sources of interp/ built with them); the seed is fixed, a number as
 * argument says how many.
 */
#include "cpu.h"

static struct vcpu *c;
static uint64_t seed = 88172645463325252u;

static uint64_t rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

static bool one_in(unsigned n)
{
	return rnd() % n == 0;
}

/* A number that is likely to hurt: edges of memory, of canonical space, single bits. */
static uint64_t number(void)
{
	switch (rnd() % 8) {
	case 0: return rnd();
	case 1: return rnd() & 0xffff;
	case 2: return -(rnd() & 0xfff);
	case 3: return 1ull << (rnd() & 63);
	case 4: return RAM_SIZE - (rnd() & 63);
	case 5: return 0x7fffffffffff - rnd() % 40;
	default: return (rnd() & 0xff000) | (rnd() & 0xfff & ~(one_in(2) ? 63ull : 0ull));
	}
}

static void new_state(void)
{
	switch (rnd() % 4) {
	case 0: cpu_long(c, one_in(2) ? 3 : 0); break;
	case 1: cpu_32(c, rnd() & 3, one_in(2)); break;
	case 2: cpu_real(c); break;
	default: cpu_long(c, 0);
	}
	c->xcr0 = one_in(4) ? c->xcr0_allowed : 3;
	for (unsigned at = GDT_AT; at < PML4_AT; at += 8)
		if (one_in(3))
			poke(at, rnd(), 8);
	if (is_protected(c) && one_in(4))
		cpu_page(c);
	for (unsigned v = 0; is_protected(c) && v < 256; v++)
		if (one_in(2))
			idt_set(c, v, is_long_mode(c) ? KCODE64 : KCODE32, 0x8800,
				one_in(4) ? rnd() & 0xff : 0x8e, one_in(16) ? rnd() & 7 : 0);
}

static void disturb(void)
{
	for (unsigned r = 0; r < 16; r++)
		if (one_in(3))
			c->gpr[r] = number();
	if (!one_in(6))
		return;
	c->rflags = (rnd() & 0x3fffd5) | RFLAGS_FIXED;
	if (is_long_mode(c) || !is_protected(c))
		c->rflags &= ~RFLAGS_VM;
	if (!is_vm86(c))
		return;
	c->cpl = 3;
	for (unsigned s = 0; s < 6; s++)
		c->seg[s] = (struct kvm_segment){.selector = (uint16_t)rnd(), .limit = 0xffff,
						 .present = 1, .s = 1, .type = 3, .dpl = 3};
}

/* Some prefixes, an opcode of interest, and noise; its kind, or X86_UD. */
static enum x86_kind make_insn(struct insn *in, int *len)
{
	static const char *const opcodes[] = {
		"\x0f\x05", "\x0f\x07", "\x0f\x34", "\x0f\x35", "\xcf", "\xcb", "\xca", "\xcc",
		"\xcd", "\xce", "\xf1", "\xea", "\x9a", "\xff", "\x8c", "\x8e", "\xc4", "\xc5",
		"\x0f\xb2", "\x0f\xb4", "\x0f\xb5", "\x0f", "\x0f\x01", "\x0f\x02", "\x0f\x03",
		"\x63", "\x0f\x20", "\x0f\x21", "\x0f\x22", "\x0f\x23", "\x0f\x06", "\x0f\xae",
		"\x0f\xc7", "\x0f\xa2", "\x0f\x31", "\x0f\x33", "\x0f\x30", "\x0f\x32", "\xf4",
		"\xfa", "\xfb", "\xdd", "\xd9", "\x0f\x38\x82",
	};
	uint8_t b[15];
	unsigned n = 0;

	if (one_in(3))
		b[n++] = 0x66;
	if (one_in(6))
		b[n++] = one_in(2) ? 0xf3 : 0x64;
	if (one_in(3) && code_mode(c) == X86_MODE_64)
		b[n++] = (uint8_t)(0x40 | (rnd() & 15));
	for (const char *op = opcodes[rnd() % (sizeof(opcodes) / sizeof(*opcodes))]; *op; op++)
		b[n++] = (uint8_t)*op;
	while (n < sizeof(b))
		b[n++] = (uint8_t)rnd();
	*len = x86_decode(in, b, sizeof(b), code_mode(c));
	return *len > 0 && in->kind != X86_NATIVE ? (enum x86_kind)in->kind : X86_UD;
}

static void later(void)
{
	bool delivered;

	pending_vector = one_in(3) ? (int)(rnd() & 255) : -1;
	if (one_in(16))
		c->event.nmi_pending = true;
	event_inject(c, &delivered);
}

int main(int argc, char **argv)
{
	static uint8_t host[4096] __attribute__((aligned(64)));
	long n = argc > 1 ? atol(argv[1]) : 200000, results[STEP_TRIPLE + 1] = {0}, strange = 0;

	c = cpu_create();
	c->cr4_allowed = ~0ull;
	c->xcr0_allowed = 7;
	for (long i = 0; i < n; i++) {
		struct insn in;
		enum step rc;
		int len;

		if (i % 64 == 0)
			new_state();
		disturb();
		if (make_insn(&in, &len) == X86_UD)
			continue;
		__asm__ volatile("fxsave64 (%0)" : : "r"(host) : "memory");
		rc = system_insn(c, &in, c->rip + (unsigned)len);
		if (rc == STEP_FAULT)
			rc = event_fault(c);
		__asm__ volatile("fxrstor64 (%0)" : : "r"(host) : "memory");
		if (rc > STEP_TRIPLE || rc == STEP_FAULT || c->cpl > 3 ||
		    !(c->rflags & RFLAGS_FIXED))
			strange++;
		else
			results[rc]++;
		if (rc == STEP_TRIPLE)
			cpu_long(c, 0);
		if (one_in(4))
			later();
	}
	note("%ld done, %ld exits, %ld halts, %ld shutdowns", results[STEP_OK],
	     results[STEP_EXIT], results[STEP_HALT], results[STEP_TRIPLE]);
	is_int(strange, 0, "nothing that enum step does not know");
	ok(results[STEP_OK] > n / 8, "many were executed or delivered");
	return done_testing();
}

/* SPDX-License-Identifier: MIT */
/*
 * Control, debug and table registers, selector probes, invalidation, identification: the
 * system instructions one by one, with their refusals.
 */
#include "cpu.h"

#include "softkvm/state/cpuid.h"

static struct vcpu *c;

static void give_features(void)
{
	c->cr4_allowed = CR4_TSD | CR4_DE | CR4_PSE | CR4_PAE | CR4_MCE | CR4_PGE | CR4_PCE |
			 CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_UMIP | CR4_FSGSBASE | CR4_PCIDE |
			 CR4_OSXSAVE | CR4_SMEP;
	c->n_cpuid = 5;
	c->cpuid[0] = (struct kvm_cpuid_entry2){.function = 0, .eax = 0xd, .ebx = 0x756e6547,
						.ecx = 0x6c65746e, .edx = 0x49656e69};
	c->cpuid[1] = (struct kvm_cpuid_entry2){.function = 1, .eax = 0x12345};
	c->cpuid[2] = (struct kvm_cpuid_entry2){.function = 7, .ebx = 1 << 10, .ecx = 1 << 22,
						.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX};
	c->cpuid[3] = (struct kvm_cpuid_entry2){.function = 0xd, .index = 1, .eax = 0xf,
						.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX};
	c->cpuid[4] = (struct kvm_cpuid_entry2){.function = 0x80000001, .edx = 1 << 27};
	c->features = cpuid_features(c->cpuid, 5);
}

/* -- Control registers --------------------------------------------------------------------- */

/* RAX to a control register. */
static enum step set_cr(unsigned cr, uint64_t value)
{
	static const char *const code[] = {"\x0f\x22\xc0", 0, "\x0f\x22\xd0", "\x0f\x22\xd8",
					   "\x0f\x22\xe0"};

	c->gpr[X86_RAX] = value;
	return cr == 8 ? cpu_run(c, "\x44\x0f\x22\xc0") : cpu_exec(c, code[cr], 3);
}

#define refuses(cr, value, ...) ok(is_fault(c, set_cr(cr, value), X86_GP, 0), __VA_ARGS__)

static void cr0(void)
{
	cpu_long(c, 0);
	c->cr0 |= CR0_PG;
	refuses(0, c->cr0 | 1ull << 32, "CR0: upper half");
	refuses(0, (c->cr0 & ~CR0_PE), "PG without PE");
	refuses(0, c->cr0 | CR0_NW, "NW without CD");
	refuses(0, c->cr0 & ~CR0_PG, "PG off in 64-bit code");
	is_int(set_cr(0, (c->cr0 & ~CR0_ET) | 1 << 28), STEP_OK, "reserved bits");
	is_int(c->cr0, CR0_PE | CR0_ET | CR0_NE | CR0_WP | CR0_PG, "are ignored, ET is fixed");
	is_int(flushes + mode_changes, 0, "no change, no flush");
	is_int(set_cr(0, c->cr0 & ~CR0_WP), STEP_OK, "WP off");
	ok(flushes == 1 && !mode_changes, "empties the TLB: entries were made under the other rule");
	cpu_page(c);
	is_int(set_cr(0, c->cr0 | CR0_TS), STEP_OK, "TS");
	is_int(cpu_run(c, "\x0f\x06"), STEP_OK, "CLTS");
	is_int(c->cr0 & CR0_TS, 0, "clear");
	c->gpr[X86_RAX] = 0x6;
	is_int(cpu_run(c, "\x0f\x01\xf0"), STEP_OK, "LMSW");
	is_int(c->cr0 & 15, 7, "sets MP and EM, does not clear PE");
	c->gpr[X86_RBX] = ~0ull;
	is_int(cpu_run(c, "\x66\x0f\x01\xe3"), STEP_OK, "SMSW bx");
	is_int(c->gpr[X86_RBX], (long long)(0xffffffffffff0000 | (uint16_t)c->cr0), "16 bits");
	is_int(cpu_run(c, "\x0f\x20\xc3"), STEP_OK, "MOV rbx, CR0");
	is_int(c->gpr[X86_RBX], (long long)c->cr0, "all of it");
	cpu_long(c, 3);
	faults(c, "\x0f\x20\xc3", X86_GP, 0, "not in user mode");
	is_int(cpu_run(c, "\x0f\x01\xe3"), STEP_OK, "SMSW is");
	c->cr4 |= CR4_UMIP;
	faults(c, "\x0f\x01\xe3", X86_GP, 0, "but not under UMIP");
}

/* The way into long mode and out, as a trampoline goes it. */
static void long_mode(void)
{
	cpu_32(c, 0, false);
	cpu_page(c);
	c->cr0 &= ~CR0_PG;
	c->cr4 = 0;
	c->efer = EFER_LME;
	refuses(0, c->cr0 | CR0_PG, "long mode without PAE");
	is_int(set_cr(4, CR4_PAE), STEP_OK, "CR4.PAE");
	c->tr.type = 3;
	refuses(0, c->cr0 | CR0_PG, "... with a 16-bit TSS");
	c->tr.type = 11;
	flushes = mode_changes = 0;
	is_int(set_cr(0, c->cr0 | CR0_PG), STEP_OK, "CR0.PG");
	is_int(c->efer, EFER_LME | EFER_LMA, "LMA");
	ok(flushes && mode_changes, "the MMU is told");
	ok(code_mode(c) == X86_MODE_32, "compatibility mode");
	refuses(4, 0, "PAE off");
	is_int(set_cr(0, c->cr0 & ~CR0_PG), STEP_OK, "paging off again");
	is_int(c->efer, EFER_LME, "LMA clear");
	is_int(set_cr(0, c->cr0 & ~CR0_PE), STEP_OK, "real mode");
	ok(!is_protected(c) && c->cpl == 0, "done");
	c->seg[X86_CS].l = 1;
	c->cr0 |= CR0_PE;
	refuses(0, c->cr0 | CR0_PG, "long mode from an L segment");
}

static void pae(void)
{
	cpu_32(c, 0, false);
	for (unsigned i = 0; i < 4; i++)
		poke(0x5000 + 8 * i, 0x6001, 8);
	c->cr4 = CR4_PAE;
	c->cr0 |= CR0_PG;
	is_int(set_cr(3, 0x5000), STEP_OK, "good PDPTEs");
	poke(0x5018, 0x6003, 8);
	refuses(3, 0x5000, "a reserved bit in one");
	poke(0x5018, 1ull << 46 | 1, 8);
	refuses(3, 0x5000, "an address beyond memory");
	poke(0x5018, 0x6002, 8);
	is_int(set_cr(3, 0x5000), STEP_OK, "an absent one is not looked at");
}

static void cr3_cr4(void)
{
	cpu_long(c, 0);
	c->cr0 |= CR0_PG;
	is_int(set_cr(3, 0x5018), STEP_OK, "CR3");
	ok(cr3_loads == 1 && !cr3_kept && c->cr3 == 0x5018, "loaded");
	refuses(3, 1ull << 63 | 0x5000, "bit 63 without PCIDE");
	refuses(3, 1ull << 46, "beyond the physical address");
	refuses(4, c->cr4 | CR4_PCIDE, "PCIDE while CR3 has a PCID");
	is_int(set_cr(3, 0x5000), STEP_OK, "CR3");
	is_int(set_cr(4, c->cr4 | CR4_PCIDE), STEP_OK, "PCIDE");
	is_int(flushes, 0, "does not flush");
	is_int(set_cr(3, 1ull << 63 | 0x5001), STEP_OK, "bit 63 with it");
	ok(cr3_kept && c->cr3 == 0x5001, "keeps translations, is not stored");
	is_int(set_cr(4, c->cr4 | CR4_PGE), STEP_OK, "PGE");
	is_int(flushes, 1, "flushes");
	is_int(set_cr(4, c->cr4 | CR4_SMEP), STEP_OK, "SMEP");
	ok(flushes == 2 && mode_changes == 1, "flushes, another mode");
	is_int(set_cr(4, c->cr4 & ~CR4_PCIDE), STEP_OK, "PCIDE off");
	is_int(flushes, 3, "flushes");
	is_int(set_cr(4, c->cr4 | CR4_TSD | CR4_FSGSBASE), STEP_OK, "TSD");
	is_int(flushes, 3, "does not");
	refuses(4, c->cr4 | CR4_SMAP, "a bit that is not offered");
	refuses(4, c->cr4 | 1ull << 40, "a bit that is nothing");
	refuses(4, c->cr4 & ~CR4_PAE, "PAE off in long mode");
	is_int(set_cr(2, 0x123456789abcdef0), STEP_OK, "CR2");
	is_int(cpu_run(c, "\x41\x0f\x20\xd7"), STEP_OK, "MOV r15, CR2");
	is_int(c->gpr[X86_R15], 0x123456789abcdef0, "read back");
	refuses(8, 16, "CR8");
	is_int(set_cr(8, 15), STEP_OK, "CR8");
	faults(c, "\x0f\x20\xc8", X86_UDV, -1, "CR1");
}

static void debug_registers(void)
{
	cpu_long(c, 0);
	c->gpr[X86_RAX] = 0xffff800012345678;
	is_int(cpu_run(c, "\x0f\x23\xd8"), STEP_OK, "DR3");
	is_int(c->dr[3], (long long)0xffff800012345678, "an address");
	faults(c, "\x0f\x23\xf8", X86_GP, 0, "DR7: upper half");
	c->gpr[X86_RAX] = 0xffffffff & ~DR7_GD;
	is_int(cpu_run(c, "\x0f\x23\xe8"), STEP_OK, "DR5 is DR7");
	is_int(c->dr7, 0xffff0fff, "reserved bits");
	c->gpr[X86_RAX] = 0;
	is_int(cpu_run(c, "\x0f\x23\xf0"), STEP_OK, "DR6");
	is_int(cpu_run(c, "\x0f\x21\xf3"), STEP_OK, "MOV rbx, DR6");
	is_int(c->gpr[X86_RBX], DR6_FIXED, "fixed bits");
	c->cr4 |= CR4_DE;
	faults(c, "\x0f\x23\xe8", X86_UDV, -1, "DR5 under CR4.DE");
	c->dr7 |= DR7_GD;
	faults(c, "\x0f\x21\xf3", X86_DB, -1, "GD");
	is_int(c->fault.dr6, DR6_BD, "BD");
	cpu_long(c, 3);
	faults(c, "\x0f\x21\xf3", X86_GP, 0, "not in user mode");
}

/* -- Tables -------------------------------------------------------------------------------- */

static void tables(void)
{
	cpu_long(c, 0);
	c->gpr[X86_RBX] = 0x9000;
	poke(0x9000, 0x1234, 2);
	poke(0x9002, 0xffff800000002000, 8);
	is_int(cpu_run(c, "\x0f\x01\x1b"), STEP_OK, "LIDT");
	ok(c->idt.limit == 0x1234 && c->idt.base == 0xffff800000002000, "ten bytes");
	is_int(cpu_run(c, "\x0f\x01\x4b\x10"), STEP_OK, "SIDT [rbx + 16]");
	ok(peek(0x9010, 2) == 0x1234 && peek(0x9012, 8) == c->idt.base, "the same");
	poke(0x9008, 0x80, 2);
	faults(c, "\x0f\x01\x13", X86_GP, 0, "LGDT, base not canonical");
	is_int(cpu_run(c, "\x0f\x01\x43\x20"), STEP_OK, "SGDT");
	is_int(peek(0x9022, 8), GDT_AT, "base");
	c->gpr[X86_RBX] = 0x7ffffffffffb;
	faults(c, "\x0f\x01\x13", X86_GP, 0, "LGDT at the edge");

	cpu_real(c);
	c->gpr[X86_RBX] = 0x9000;
	poke(0x9000, 0x123456781234, 6);
	is_int(cpu_run(c, "\x0f\x01\x17"), STEP_OK, "LGDT [bx] in real mode");
	is_int(c->gdt.base, 0x345678, "24 bits of base");
	is_int(cpu_run(c, "\x66\x0f\x01\x17"), STEP_OK, "with 66");
	is_int(c->gdt.base, 0x12345678, "32 bits");
	faults(c, "\x0f\x00\xd8", X86_UDV, -1, "LTR in real mode");

	cpu_long(c, 3);
	faults(c, "\x0f\x01\x13", X86_GP, 0, "LGDT in user mode");
	c->cr4 |= CR4_UMIP;
	faults(c, "\x0f\x01\x03", X86_GP, 0, "SGDT under UMIP");
	faults(c, "\x0f\x00\xc8", X86_GP, 0, "STR under UMIP");
}

static void task_register(void)
{
	cpu_long(c, 0);
	gdt_set(TSS + 8, 0x1234);
	c->gpr[X86_RAX] = TSS;
	is_int(cpu_run(c, "\x0f\x00\xd8"), STEP_OK, "LTR");
	is_int(c->tr.base, 0x123400003000, "a 64-bit base");
	is_int(peek(GDT_AT + TSS + 5, 1), 0x8b, "busy");
	faults(c, "\x0f\x00\xd8", X86_GP, TSS, "LTR of a busy one");
	is_int(cpu_run(c, "\x0f\x00\xcb"), STEP_OK, "STR ebx");
	is_int(c->gpr[X86_RBX], TSS, "the selector");
	c->gpr[X86_RAX] = 0;
	faults(c, "\x0f\x00\xd8", X86_GP, 0, "LTR null");
	c->gpr[X86_RAX] = LDT;
	faults(c, "\x0f\x00\xd8", X86_GP, LDT, "LTR of an LDT");
	c->gpr[X86_RAX] = TSS | 4;
	faults(c, "\x0f\x00\xd8", X86_GP, TSS | 4, "LTR out of the LDT");

	is_int(cpu_run(c, "\x0f\x00\xd3"), STEP_FAULT, "LLDT of a TSS");
	c->gpr[X86_RBX] = LDT;
	is_int(cpu_run(c, "\x0f\x00\xd3"), STEP_OK, "LLDT");
	ok(c->ldt.base == 0x7000 && !c->ldt.unusable, "loaded");
	poke(0x7008, desc_make(0x55000, 0xfffff, 0x93, 0xc), 8);
	c->gpr[X86_RAX] = 8 | 4;
	is_int(cpu_run(c, "\x8e\xe0"), STEP_OK, "MOV fs, out of the LDT");
	is_int(c->seg[X86_FS].base, 0x55000, "its base");
	c->gpr[X86_RAX] = 0x24;
	faults(c, "\x8e\xe0", X86_GP, 0x24, "beyond the LDT");
	c->gpr[X86_RBX] = 0;
	is_int(cpu_run(c, "\x0f\x00\xd3"), STEP_OK, "LLDT null");
	c->gpr[X86_RAX] = 8 | 4;
	faults(c, "\x8e\xe0", X86_GP, 8 | 4, "no LDT");
	is_int(cpu_run(c, "\x0f\x00\x04\x25\x00\x90\x00\x00"), STEP_OK, "SLDT m16");
}

static void segment_loads(void)
{
	static const struct {
		unsigned cpl, sel;
		int vector;
		const char *code, *name;
	} cases[] = {
		{0, KCODE64, 0, "\x8e\xd8", "DS: readable code"},
		{0, EXECONLY, X86_GP, "\x8e\xd8", "DS: code that cannot be read"},
		{0, TSS, X86_GP, "\x8e\xd8", "DS: a TSS"},
		{0, ABSENT, X86_NP, "\x8e\xd8", "DS: absent"},
		{0, UDATA | 3, 0, "\x8e\xd8", "DS: of an outer level"},
		{3, KDATA, X86_GP, "\x8e\xd8", "DS: of an inner level"},
		{3, CONFORMING | 3, 0, "\x8e\xd8", "DS: conforming code"},
		{0, KDATA | 3, X86_GP, "\x8e\xd8", "DS: RPL above DPL"},
		{0, 0, 0, "\x8e\xd8", "DS: null"},
		{0, KDATA, 0, "\x8e\xd0", "SS"},
		{0, UDATA | 3, X86_GP, "\x8e\xd0", "SS: of another level"},
		{0, KCODE64, X86_GP, "\x8e\xd0", "SS: code"},
		{0, ABSENT, X86_SSV, "\x8e\xd0", "SS: absent"},
		{0, 0, 0, "\x8e\xd0", "SS: null in 64-bit code of level 0"},
		{3, 3, X86_GP, "\x8e\xd0", "SS: null at level 3"},
		{0, 0x1f8, X86_GP, "\x8e\xe8", "GS: beyond the GDT"},
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		enum step rc;

		cpu_long(c, cases[i].cpl);
		gdt_set(CONFORMING, desc_make(0, 0xfffff, 0x9e, 0xc));
		c->gpr[X86_RAX] = cases[i].sel;
		rc = cpu_exec(c, cases[i].code, 2);
		if (cases[i].vector)
			ok(is_fault(c, rc, (unsigned)cases[i].vector,
				    (int)(cases[i].sel & 0xfffc)),
			   "%s", cases[i].name);
		else
			is_int(rc, STEP_OK, "%s", cases[i].name);
	}

	cpu_long(c, 0);
	c->gpr[X86_RAX] = KDATA;
	is_int(cpu_run(c, "\x8e\xd0"), STEP_OK, "MOV ss");
	is_int(c->event.shadow, KVM_X86_SHADOW_INT_MOV_SS, "closes interrupts for one more");
	faults(c, "\x8e\xc8", X86_UDV, -1, "MOV cs");
	faults(c, "\x8e\xf0", X86_UDV, -1, "segment register 6");
	c->seg[X86_FS].base = 0x1234;
	c->gpr[X86_RAX] = 0;
	is_int(cpu_run(c, "\x8e\xe0"), STEP_OK, "MOV fs, 0");
	is_int(c->seg[X86_FS].base, 0, "clears the base");
	is_int(cpu_run(c, "\x8c\xd3"), STEP_OK, "MOV ebx, ss");
	is_int(c->gpr[X86_RBX], KDATA, "zero-extended");
	c->gpr[X86_RBX] = 0x9000;
	is_int(cpu_run(c, "\x8c\x1b"), STEP_OK, "MOV [rbx], ds");
	is_int(peek(0x9000, 4), KDATA, "16 bits");
	poke(0x9000, 0x1122334455667788, 8);
	poke(0x9008, KDATA, 2);
	is_int(cpu_run(c, "\x48\x0f\xb5\x03"), STEP_OK, "LGS rax, [rbx]");
	is_int(c->gpr[X86_RAX], 0x1122334455667788, "the offset");
	is_int(c->seg[X86_GS].selector, KDATA, "the selector");

	cpu_real(c);
	c->seg[X86_DS].limit = 0xffffffff;
	c->gpr[X86_RAX] = 0x1234;
	is_int(cpu_run(c, "\x8e\xd8"), STEP_OK, "MOV ds in real mode");
	ok(c->seg[X86_DS].base == 0x12340 && c->seg[X86_DS].limit == 0xffffffff,
	   "keeps the limit");
}

/* -- Probes -------------------------------------------------------------------------------- */

/* Outside 64-bit code linear addresses have 32 bits: the second word of an operand, too. */
static void wrapped_pointer(void)
{
	uint64_t pd = PML4_AT + 0x2000, pt = PML4_AT + 0x3000;

	cpu_32(c, 3, true);
	cpu_page(c);
	poke(PML4_AT + 0x1000 + 8 * 3, pd | 7, 8);
	poke(pd + 8 * 511, pt | 7, 8);
	poke(pt + 8 * 511, 0x20000 | 7, 8); /* the page below 4 GiB */
	poke(0x20ffc, 0x12345678, 4);
	poke(0, UDATA | 3, 2);
	c->seg[X86_FS].base = 0xfffff000;
	c->gpr[X86_RAX] = 0xffc;
	is_int(cpu_run(c, "\x64\x0f\xb5\x00"), STEP_OK, "LGS, its selector at 4 GiB");
	is_int(c->gpr[X86_RAX], 0x12345678, "the offset");
	is_int(c->seg[X86_GS].selector, UDATA | 3, "the selector is at 0");
}

static void probes(void)
{
	static const struct {
		unsigned cpl, sel;
		const char *code;
		bool zf;
		uint64_t result;
		const char *name;
	} cases[] = {
		{3, UDATA | 3, "\x0f\x02\xd8", true, 0x00c0f300, "LAR data"},
		{3, KDATA, "\x0f\x02\xd8", false, 7, "LAR of an inner level"},
		{0, KDATA | 3, "\x0f\x02\xd8", false, 7, "LAR, RPL above DPL"},
		{3, CONFORMING, "\x0f\x02\xd8", true, 0x00c09e00, "LAR of conforming code"},
		{0, TSS, "\x0f\x02\xd8", true, 0x00008900, "LAR of a TSS"},
		{0, 0, "\x0f\x02\xd8", false, 7, "LAR null"},
		{0, 0x1f8, "\x0f\x02\xd8", false, 7, "LAR beyond the GDT"},
		{0, KDATA, "\x0f\x03\xd8", true, 0xffffffff, "LSL with pages"},
		{0, KDATA16, "\x0f\x03\xd8", true, 0xffff, "LSL with bytes"},
		{0, TSS, "\x0f\x03\xd8", true, 0x67, "LSL of a TSS"},
		{0, KDATA, "\x0f\x00\xe0", true, 7, "VERR data"},
		{0, EXECONLY, "\x0f\x00\xe0", false, 7, "VERR of code that cannot be read"},
		{0, KCODE64, "\x0f\x00\xe0", true, 7, "VERR of code"},
		{0, TSS, "\x0f\x00\xe0", false, 7, "VERR of a TSS"},
		{0, KDATA, "\x0f\x00\xe8", true, 7, "VERW data"},
		{0, KCODE64, "\x0f\x00\xe8", false, 7, "VERW code"},
		{3, KDATA, "\x0f\x00\xe8", false, 7, "VERW of an inner level"},
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		cpu_long(c, cases[i].cpl);
		c->gpr[X86_RAX] = cases[i].sel;
		c->gpr[X86_RBX] = 7;
		c->rflags |= cases[i].zf ? 0 : X86_ZF;
		is_int(cpu_exec(c, cases[i].code, 3), STEP_OK, "%s", cases[i].name);
		is_int(!!(c->rflags & X86_ZF), cases[i].zf, "... ZF");
		is_int(c->gpr[X86_RBX], (long long)cases[i].result, "... result");
	}
	cpu_long(c, 0);
	gdt_set(GATE, 0xecull << 40);
	c->gpr[X86_RAX] = GATE;
	c->gpr[X86_RBX] = 7;
	is_int(cpu_run(c, "\x0f\x03\xd8"), STEP_OK, "LSL of a gate");
	is_int(c->rflags & X86_ZF, 0, "ZF");
	is_int(cpu_run(c, "\x0f\x02\xd8"), STEP_OK, "LAR of a gate");
	is_int(c->gpr[X86_RBX], 0xec00, "its rights");

	cpu_32(c, 0, false);
	c->gpr[X86_RAX] = 0x55550001;
	c->gpr[X86_RBX] = 3;
	is_int(cpu_run(c, "\x63\xd8"), STEP_OK, "ARPL ax, bx");
	is_int(c->gpr[X86_RAX], 0x55550003, "raised");
	is_int(c->rflags & X86_ZF, X86_ZF, "ZF");
	is_int(cpu_run(c, "\x63\xd8"), STEP_OK, "again");
	is_int(c->rflags & X86_ZF, 0, "nothing to raise");
	c->gpr[X86_RDI] = 0xd000;
	poke(0xd000, 3, 2);
	is_int(cpu_run(c, "\x2e\x63\x1f"), STEP_OK, "ARPL cs:[edi], bx stores nothing");
	poke(0xd000, 0, 2);
	faults(c, "\x2e\x63\x1f", X86_GP, 0, "but has to be able to");
	cpu_real(c);
	faults(c, "\x0f\x02\xd8", X86_UDV, -1, "LAR in real mode");
}

/* -- The rest ------------------------------------------------------------------------------ */

static void invalidation(void)
{
	cpu_long(c, 0);
	is_int(cpu_run(c, "\x0f\x01\x3b"), STEP_OK, "INVLPG");
	is_int(page_flushes, 1, "one page");
	c->gpr[X86_RBX] = 1ull << 50;
	is_int(cpu_run(c, "\x0f\x01\x3b"), STEP_OK, "INVLPG of no address");
	is_int(page_flushes, 1, "nothing");
	c->gpr[X86_RBX] = 0x9000;
	c->gpr[X86_RAX] = 2;
	is_int(cpu_run(c, "\x66\x0f\x38\x82\x03"), STEP_OK, "INVPCID");
	is_int(invpcids, 1, "done");
	c->gpr[X86_RAX] = 4;
	faults(c, "\x66\x0f\x38\x82\x03", X86_GP, 0, "a type that is not");
	c->gpr[X86_RAX] = 1;
	poke(0x9000, 5, 8);
	faults(c, "\x66\x0f\x38\x82\x03", X86_GP, 0, "a PCID without PCIDE");
	c->cr4 |= CR4_PCIDE;
	is_int(cpu_run(c, "\x66\x0f\x38\x82\x03"), STEP_OK, "with it");
	poke(0x9000, 0x1005, 8);
	faults(c, "\x66\x0f\x38\x82\x03", X86_GP, 0, "reserved bits");
	is_int(cpu_run(c, "\x0f\x09"), STEP_OK, "WBINVD");
	c->features = (struct cpu_set){0};
	faults(c, "\x66\x0f\x38\x82\x03", X86_UDV, -1, "INVPCID that is not offered");
	give_features();
	cpu_long(c, 3);
	faults(c, "\x0f\x01\x3b", X86_GP, 0, "INVLPG in user mode");
}

static void identification(void)
{
	cpu_long(c, 3);
	c->gpr[X86_RAX] = 0xffffffff00000001;
	c->gpr[X86_RBX] = ~0ull;
	is_int(cpu_run(c, "\x0f\xa2"), STEP_OK, "CPUID");
	is_int(c->gpr[X86_RAX], 0x12345, "leaf 1");
	is_int(c->gpr[X86_RBX] >> 32, 0, "upper halves clear");
	c->msr.tsc_aux = 0x1234;
	is_int(cpu_run(c, "\xf3\x48\x0f\xc7\xf9"), STEP_OK, "RDPID rcx");
	is_int(c->gpr[X86_RCX], 0x1234, "TSC_AUX");
	c->tsc_offset = 1ull << 62;
	is_int(cpu_run(c, "\x0f\x01\xf9"), STEP_OK, "RDTSCP");
	ok(c->gpr[X86_RDX] >> 30 == 1 && c->gpr[X86_RCX] == 0x1234, "with the offset");
	c->cr4 |= CR4_TSD;
	faults(c, "\x0f\x31", X86_GP, 0, "RDTSC under TSD");
	faults(c, "\x0f\x33", X86_GP, 0, "RDPMC");
	faults(c, "\x0f\x32", X86_GP, 0, "RDMSR in user mode");
	faults(c, "\xf4", X86_GP, 0, "HLT in user mode");
	faults(c, "\x0f\x01\xc8", X86_UDV, -1, "MONITOR");
	faults(c, "\x0f\x01\xcb", X86_UDV, -1, "STAC without SMAP");
	c->gpr[X86_RAX] = 1;
	is_int(cpu_run(c, "\x0f\x01\xc1"), STEP_OK, "VMCALL");
	is_int(c->gpr[X86_RAX], -1, "-EPERM in user mode");
	cpu_long(c, 0);
	c->tsc_offset = 0;
	c->gpr[X86_RAX] = 77;
	is_int(cpu_run(c, "\x0f\x01\xd9"), STEP_OK, "VMMCALL");
	is_int(c->gpr[X86_RAX], -1000, "-KVM_ENOSYS");
	is_int(cpu_run(c, "\xf4"), STEP_HALT, "HLT");
	is_int(c->rip, CODE_AT + 4, "rip is after it");
	c->gpr[X86_RCX] = MSR_EFER;
	is_int(cpu_run(c, "\x0f\x32"), STEP_OK, "RDMSR");
	ok(c->gpr[X86_RAX] == 0x55667788 && c->gpr[X86_RDX] == 0x11223344, "EDX:EAX");
	is_int(cpu_run(c, "\x0f\x30"), STEP_OK, "WRMSR");
	c->gpr[X86_RCX] = 1;
	faults(c, "\x0f\x30", X86_GP, 0, "... of what is not");
}

static void xcr0(void)
{
	cpu_long(c, 0);
	c->xcr0 = 1;
	c->xcr0_allowed = 7;
	c->gpr[X86_RAX] = 3;
	is_int(cpu_run(c, "\x0f\x01\xd1"), STEP_OK, "XSETBV");
	is_int(c->xcr0, 3, "set");
	c->gpr[X86_RAX] = 5;
	faults(c, "\x0f\x01\xd1", X86_GP, 0, "AVX without SSE");
	is_int(cpu_run(c, "\x0f\x01\xd0"), STEP_OK, "XGETBV");
	ok(c->gpr[X86_RAX] == 3 && !c->gpr[X86_RDX], "XCR0");
	c->gpr[X86_RCX] = 1;
	is_int(cpu_run(c, "\x0f\x01\xd0"), STEP_OK, "XGETBV 1");
	is_int(c->gpr[X86_RAX] & ~3ull, 0, "of the guest's components only");
	faults(c, "\x0f\x01\xd1", X86_GP, 0, "XSETBV 1");
	c->cr4 &= ~CR4_OSXSAVE;
	faults(c, "\x0f\x01\xd0", X86_UDV, -1, "XGETBV without OSXSAVE");
}

int main(void)
{
	c = cpu_create();
	give_features();
	cr0();
	long_mode();
	pae();
	cr3_cr4();
	debug_registers();
	tables();
	task_register();
	segment_loads();
	wrapped_pointer();
	probes();
	invalidation();
	identification();
	xcr0();
	return done_testing();
}

/* SPDX-License-Identifier: MIT */
/*
 * SYSCALL and its family, far jumps, calls and returns, IRET in every mode. What is expected
 * is written down from the Intel SDM, volume 2.
 */
#include "cpu.h"

#define TARGET 0x8800

static struct vcpu *c;

static void push(uint64_t v, unsigned size)
{
	c->gpr[X86_RSP] -= size;
	poke(c->gpr[X86_RSP], v, size);
}

/* Values from the highest address down, as they are pushed. */
static void push_all(unsigned size, const uint64_t *v, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		push(v[i], size);
}

#define PUSH(size, ...)                                                                    \
	push_all(size, (const uint64_t[]){__VA_ARGS__},                                    \
		 sizeof((const uint64_t[]){__VA_ARGS__}) / 8)

/* -- SYSCALL ------------------------------------------------------------------------------- */

static void msrs(void)
{
	c->msr.star = (uint64_t)(UCODE32 | 3) << 48 | (uint64_t)KCODE64 << 32 | 0x7000;
	c->msr.lstar = 0xffff800000001000;
	c->msr.cstar = 0xffff800000002000;
	c->msr.sfmask = RFLAGS_IF | RFLAGS_TF | RFLAGS_DF;
	c->msr.sysenter_cs = KCODE64;
	c->msr.sysenter_esp = STACK_AT;
	c->msr.sysenter_eip = 0x1234567890;
}

static void syscalls(void)
{
	cpu_long(c, 3);
	msrs();
	c->rflags |= RFLAGS_RF | X86_CF | RFLAGS_DF;
	is_int(cpu_run(c, "\x0f\x05"), STEP_OK, "SYSCALL");
	is_int(c->rip, (long long)c->msr.lstar, "LSTAR");
	is_int(c->gpr[X86_RCX], CODE_AT + 2, "RCX");
	is_int(c->gpr[X86_R11], RFLAGS_FIXED | RFLAGS_IF | X86_CF | RFLAGS_DF, "R11, no RF");
	is_int(c->rflags, RFLAGS_FIXED | X86_CF, "masked flags");
	is_int(c->seg[X86_CS].selector, KCODE64, "CS");
	is_int(c->seg[X86_SS].selector, KDATA, "SS");
	is_int(c->cpl, 0, "level 0");
	is_int(c->seg[X86_CS].l, 1, "64-bit");
	is_int(mode_changes, 1, "the MMU is told");
	is_int(c->gpr[X86_RSP], USER_STACK_AT, "RSP is the user's");

	c->gpr[X86_R11] = ~0ull & ~RFLAGS_TF;
	is_int(cpu_run(c, "\x48\x0f\x07"), STEP_OK, "SYSRETQ");
	is_int(c->rip, CODE_AT + 2, "back");
	is_int(c->rflags, 0x3c7fd7 & ~RFLAGS_TF, "R11 without RF, VM");
	is_int(c->seg[X86_CS].selector, UCODE64 | 3, "CS");
	is_int(c->seg[X86_SS].selector, UDATA | 3, "SS");
	is_int(c->seg[X86_SS].dpl, 3, "SS.DPL");
	is_int(c->cpl, 3, "level 3");

	cpu_long(c, 0);
	msrs();
	c->gpr[X86_RCX] = 0xffffffff00008000;
	is_int(cpu_run(c, "\x0f\x07"), STEP_OK, "SYSRETL");
	is_int(c->rip, 0x8000, "EIP");
	is_int(c->seg[X86_CS].selector, UCODE32 | 3, "CS");
	is_int(c->seg[X86_CS].db, 1, "32-bit code");
	is_int(c->seg[X86_CS].l, 0, "in compatibility mode");
}

/* What TF is at the end of SYSCALL and SYSRET decides about the trap. */
static void single_steps(void)
{
	const uint64_t tf = RFLAGS_FIXED | RFLAGS_TF;

	cpu_long(c, 3);
	msrs();
	c->rflags |= RFLAGS_TF;
	is_int(cpu_run(c, "\x0f\x05"), STEP_OK, "SYSCALL that clears TF");
	is_int(event_after_insn(c, tf), STEP_OK, "does not trap");

	cpu_long(c, 0);
	msrs();
	c->gpr[X86_RCX] = CODE_AT + 0x100;
	c->gpr[X86_R11] = tf;
	faults(c, "\x48\x0f\x07", X86_DB, -1, "SYSRET that sets TF traps");
	is_int(c->fault.dr6, DR6_BS, "BS");
	is_int(c->rip, CODE_AT + 0x100, "before the program's first instruction");
	is_int(c->cpl, 3, "in ring 3");

	cpu_long(c, 0);
	msrs();
	c->gpr[X86_RCX] = CODE_AT + 0x100;
	c->gpr[X86_R11] = RFLAGS_FIXED;
	c->rflags |= RFLAGS_TF;
	is_int(cpu_run(c, "\x48\x0f\x07"), STEP_OK, "SYSRET that clears TF");
	is_int(event_after_insn(c, tf), STEP_OK, "does not");
	c->gpr[X86_R11] = 0;
}

static void syscall_faults(void)
{
	cpu_long(c, 0);
	msrs();
	c->gpr[X86_RCX] = 0x800000000000;
	faults(c, "\x48\x0f\x07", X86_GP, 0, "SYSRET to a hole");
	is_int(c->cpl, 0, "in the kernel");
	c->efer &= ~EFER_SCE;
	faults(c, "\x48\x0f\x07", X86_UDV, -1, "SYSRET without SCE");
	faults(c, "\x0f\x05", X86_UDV, -1, "SYSCALL without SCE");
	cpu_long(c, 3);
	faults(c, "\x48\x0f\x07", X86_GP, 0, "SYSRET in user mode");

	cpu_32(c, 3, true);
	msrs();
	c->amd = false;
	faults(c, "\x0f\x05", X86_UDV, -1, "Intel: SYSCALL in compatibility mode");
	c->amd = true;
	is_int(cpu_run(c, "\x0f\x05"), STEP_OK, "AMD: it works");
	is_int(c->rip, (long long)c->msr.cstar, "CSTAR");
	cpu_32(c, 3, false);
	msrs();
	c->efer = EFER_SCE;
	is_int(cpu_run(c, "\x0f\x05"), STEP_OK, "AMD: in legacy mode, too");
	is_int(c->rip, 0x7000, "STAR");
	is_int(c->seg[X86_CS].db, 1, "32-bit");
	c->amd = false;
}

static void sysenter(void)
{
	cpu_32(c, 3, true);
	msrs();
	is_int(cpu_run(c, "\x0f\x34"), STEP_OK, "SYSENTER");
	is_int(c->rip, 0x1234567890, "a 64-bit target");
	is_int(c->gpr[X86_RSP], STACK_AT, "RSP");
	is_int(c->seg[X86_CS].l, 1, "64-bit code");
	is_int(c->rflags, RFLAGS_FIXED, "IF clear");
	c->gpr[X86_RDX] = 0x8000;
	c->gpr[X86_RCX] = USER_STACK_AT;
	is_int(cpu_run(c, "\x0f\x35"), STEP_OK, "SYSEXIT");
	is_int(c->rip, 0x8000, "EIP");
	is_int(c->seg[X86_CS].selector, (KCODE64 + 16) | 3, "CS");
	is_int(c->seg[X86_SS].selector, (KCODE64 + 24) | 3, "SS");
	is_int(c->cpl, 3, "level 3");

	cpu_32(c, 3, true);
	msrs();
	c->msr.sysenter_cs = 0;
	faults(c, "\x0f\x34", X86_GP, 0, "SYSENTER_CS is null");
	c->amd = true;
	faults(c, "\x0f\x34", X86_UDV, -1, "AMD: none in long mode");
	c->amd = false;
}

static void bases(void)
{
	cpu_long(c, 0);
	c->seg[X86_GS].base = 1;
	c->msr.kernel_gs_base = 2;
	is_int(cpu_run(c, "\x0f\x01\xf8"), STEP_OK, "SWAPGS");
	is_int(c->seg[X86_GS].base, 2, "swapped");
	is_int(c->msr.kernel_gs_base, 1, "both");
	is_int(c->rip, CODE_AT + 3, "rip goes on");
	faults(c, "\xf3\x0f\xae\xc0", X86_UDV, -1, "RDFSBASE without CR4.FSGSBASE");
	c->cr4 |= CR4_FSGSBASE;
	c->seg[X86_FS].base = 0x123456789abc;
	is_int(cpu_run(c, "\xf3\x48\x0f\xae\xc3"), STEP_OK, "RDFSBASE rbx");
	is_int(c->gpr[X86_RBX], 0x123456789abc, "its value");
	is_int(cpu_run(c, "\xf3\x49\x0f\xae\xc8"), STEP_OK, "RDGSBASE r8");
	is_int(c->gpr[X86_R8], 2, "its value");
	is_int(cpu_run(c, "\xf3\x0f\xae\xdb"), STEP_OK, "WRGSBASE ebx");
	is_int(c->seg[X86_GS].base, 0x56789abc, "32 bits");
	c->gpr[X86_RBX] = 1ull << 63;
	faults(c, "\xf3\x48\x0f\xae\xd3", X86_GP, 0, "WRFSBASE, not canonical");
	cpu_long(c, 3);
	faults(c, "\x0f\x01\xf8", X86_GP, 0, "SWAPGS in user mode");
}

/* -- IRET ---------------------------------------------------------------------------------- */

static void iretq(void)
{
	cpu_long(c, 0);
	c->event.nmi_masked = true;
	c->rflags &= ~RFLAGS_IF;
	PUSH(8, UDATA | 3, 0x123456789, RFLAGS_IF | RFLAGS_IOPL | RFLAGS_RF | RFLAGS_VM | X86_ZF,
	     UCODE64 | 3, TARGET);
	is_int(cpu_run(c, "\x48\xcf"), STEP_OK, "IRETQ to user mode");
	is_int(c->rip, TARGET, "RIP");
	is_int(c->gpr[X86_RSP], 0x123456789, "RSP");
	is_int(c->rflags, RFLAGS_FIXED | RFLAGS_IF | RFLAGS_IOPL | RFLAGS_RF | X86_ZF, "RFLAGS");
	is_int(c->cpl, 3, "level 3");
	is_int(c->seg[X86_DS].selector, 0, "DS of level 0 becomes null");
	ok(!c->event.nmi_masked, "NMIs are open again");
	is_int(mode_changes, 1, "the MMU is told");

	cpu_long(c, 0);
	for (int i = 0; i < 6; i++)
		if (i != X86_CS && i != X86_SS)
			c->seg[i] = (struct kvm_segment){.base = 0x1000 * i, .unusable = 1};
	PUSH(8, UDATA | 3, 0x9000, RFLAGS_FIXED, UCODE32 | 3, TARGET);
	is_int(cpu_run(c, "\x48\xcf"), STEP_OK, "IRETQ to compatibility mode");
	is_int(c->seg[X86_CS].db, 1, "32-bit code");
	is_int(c->seg[X86_FS].base, 0x4000, "a base behind a null selector stays");

	cpu_long(c, 0);
	PUSH(8, KDATA, 0x9000, RFLAGS_FIXED, KCODE64, TARGET);
	is_int(cpu_run(c, "\x48\xcf"), STEP_OK, "IRETQ to the same level");
	is_int(c->gpr[X86_RSP], 0x9000, "pops RSP all the same");
	is_int(c->seg[X86_DS].selector, KDATA, "DS stays");

	cpu_long(c, 0);
	PUSH(8, 0, 0x9000, RFLAGS_FIXED, KCODE64, TARGET);
	is_int(cpu_run(c, "\x48\xcf"), STEP_OK, "a null SS");
	is_int(c->seg[X86_SS].unusable, 1, "is unusable");

	cpu_long(c, 0);
	gdt_set(KDATA16, desc_make(0x10000, 0xffff, 0xf3, 0));
	c->gpr[X86_RSP] = 0x12349000;
	poke(0x9000, 0, 8);
	c->gpr[X86_RSP] = STACK_AT;
	PUSH(8, KDATA16 | 3, 0x55558000, RFLAGS_FIXED, UCODE32 | 3, TARGET);
	c->gpr[X86_RSP] |= 0;
	is_int(cpu_run(c, "\x48\xcf"), STEP_OK, "a 16-bit stack");
	is_int(c->gpr[X86_RSP], 0x8000, "only SP is loaded");

	cpu_long(c, 0);
	c->seg[X86_DS].selector = 1;
	c->seg[X86_GS].selector = 3;
	c->seg[X86_GS].unusable = 1;
	c->seg[X86_GS].base = 0x1234;
	PUSH(8, UDATA | 3, 0x9000, RFLAGS_FIXED, UCODE64 | 3, TARGET);
	is_int(cpu_run(c, "\x48\xcf"), STEP_OK, "to level 3 with null selectors");
	is_int(c->seg[X86_DS].selector, 0, "1 becomes 0");
	is_int(c->seg[X86_GS].selector, 0, "3 becomes 0");
	is_int(c->seg[X86_GS].base, 0x1234, "the base stays");

	cpu_long(c, 3);
	c->seg[X86_GS].selector = 3;
	PUSH(8, UDATA | 3, 0x9000, RFLAGS_FIXED | RFLAGS_TF | RFLAGS_IOPL, UCODE64 | 3, TARGET);
	is_int(cpu_run(c, "\x48\xcf"), STEP_OK, "IRETQ in user mode");
	is_int(c->seg[X86_GS].selector, 3, "leaves a null selector alone");
	is_int(c->rflags, RFLAGS_FIXED | RFLAGS_IF | RFLAGS_TF, "IF and IOPL are kept");
}

static void iretq_faults(void)
{
	static const struct {
		uint64_t ss, cs, rip;
		int vector, code;
		const char *name;
	} cases[] = {
		{KDATA, 0, TARGET, X86_GP, 0, "a null CS"},
		{UDATA | 3, UCODE64 | 3, 1ull << 47, X86_GP, 0, "RIP not canonical"},
		{UDATA | 3, UCODE32 | 3, 1ull << 32, X86_GP, 0, "EIP beyond the limit"},
		{KDATA, UCODE64 | 3, TARGET, X86_GP, KDATA, "SS of another level"},
		{0, UCODE64 | 3, TARGET, X86_GP, 0, "a null SS for level 3"},
		{3, UCODE64 | 3, TARGET, X86_GP, 0, "... with RPL 3"},
		{0, KCODE32, TARGET, X86_GP, 0, "a null SS for 32-bit code"},
		{UDATA | 3, UDATA | 3, TARGET, X86_GP, UDATA, "CS is data"},
		{UDATA | 3, UCODE64, TARGET, X86_GP, UCODE64, "CS.DPL is not RPL"},
		{0x1fb, UCODE64 | 3, TARGET, X86_GP, 0x1f8, "SS beyond the GDT"},
		{0x1fb, UCODE64 | 3, 1ull << 47, X86_GP, 0, "that, and RIP not canonical"},
		{UDATA | 3, 0x1fb, TARGET, X86_GP, 0x1f8, "CS beyond the GDT"},
		{KDATA, ABSENT, TARGET, X86_GP, ABSENT, "CS is data"},
		{ABSENT | 3, UCODE64 | 3, TARGET, X86_SSV, ABSENT, "SS absent"},
		{UDATA | 3, UCODE64 | 7, TARGET, X86_GP, UCODE64 | 4, "no LDT"},
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		cpu_long(c, 0);
		gdt_set(ABSENT, desc_make(0, 0xfffff, 0x73, 0xc));
		PUSH(8, cases[i].ss, 0x9000, RFLAGS_FIXED, cases[i].cs, cases[i].rip);
		ok(is_fault(c, cpu_run(c, "\x48\xcf"), (unsigned)cases[i].vector,
			    cases[i].code),
		   "IRETQ: %s", cases[i].name);
		ok(c->gpr[X86_RSP] == STACK_AT - 40 && c->cpl == 0 && c->rip == CODE_AT,
		   "... leaves all as it was");
	}
	cpu_long(c, 0);
	c->rflags |= RFLAGS_NT;
	faults(c, "\x48\xcf", X86_GP, 0, "IRETQ under NT");
	cpu_long(c, 3);
	PUSH(8, KDATA, 0x9000, RFLAGS_FIXED, KCODE64, TARGET);
	faults(c, "\x48\xcf", X86_GP, KCODE64, "IRETQ to an inner level");
}

static void iret32(void)
{
	cpu_32(c, 0, false);
	PUSH(4, UDATA | 3, USER_STACK_AT, RFLAGS_FIXED | RFLAGS_IF, UCODE32 | 3, TARGET);
	is_int(cpu_run(c, "\xcf"), STEP_OK, "IRETD to level 3");
	is_int(c->gpr[X86_RSP], USER_STACK_AT, "ESP");
	is_int(c->cpl, 3, "level 3");
	is_int(c->seg[X86_ES].unusable, 1, "ES is null");

	cpu_32(c, 0, false);
	PUSH(4, RFLAGS_FIXED | X86_CF, KCODE32, TARGET);
	is_int(cpu_run(c, "\xcf"), STEP_OK, "IRETD, same level");
	is_int(c->gpr[X86_RSP], STACK_AT, "pops three");
	is_int(c->rflags, RFLAGS_FIXED | X86_CF, "EFLAGS");

	cpu_32(c, 3, true);
	PUSH(4, RFLAGS_FIXED, UCODE32 | 3, TARGET);
	is_int(cpu_run(c, "\xcf"), STEP_OK, "in compatibility mode");
	is_int(c->gpr[X86_RSP], USER_STACK_AT, "three, too");
	PUSH(2, RFLAGS_FIXED, UCODE32 | 3, TARGET);
	is_int(cpu_run(c, "\x66\xcf"), STEP_OK, "16-bit IRET");
	is_int(c->rip, TARGET, "IP");

	cpu_32(c, 0, false);
	PUSH(4, 0x705, 0x704, 0x703, 0x700, 0x702, 0x1000, RFLAGS_FIXED | RFLAGS_VM, 0x701,
	     0x10100);
	is_int(cpu_run(c, "\xcf"), STEP_OK, "IRETD to virtual-8086 mode");
	ok(is_vm86(c) && c->cpl == 3, "VM, level 3");
	is_int(c->rip, 0x100, "IP");
	is_int(c->seg[X86_CS].base, 0x7010, "CS");
	is_int(c->seg[X86_GS].selector, 0x705, "GS");
	is_int(c->seg[X86_SS].selector, 0x702, "SS");
	is_int(c->gpr[X86_RSP], 0x1000, "SP");
	faults(c, "\xcf", X86_GP, 0, "IRET there with IOPL 0");

	cpu_real(c);
	PUSH(2, RFLAGS_FIXED | RFLAGS_IOPL | RFLAGS_IF | RFLAGS_NT, 0x1234, 0x5678);
	is_int(cpu_run(c, "\xcf"), STEP_OK, "IRET in real mode");
	is_int(c->seg[X86_CS].base, 0x12340, "CS");
	is_int(c->rflags, RFLAGS_FIXED | RFLAGS_IOPL | RFLAGS_IF | RFLAGS_NT, "FLAGS");
	is_int(c->gpr[X86_RSP], STACK_AT, "SP");
}

/* -- JMP, CALL, RETF ----------------------------------------------------------------------- */

static void far_jumps(void)
{
	cpu_32(c, 0, true);
	is_int(cpu_run(c, "\xea\x00\x88\x00\x00\x08\x00"), STEP_OK, "JMP FAR into 64-bit code");
	ok(is_64bit_code(c) && c->rip == TARGET, "done");

	cpu_long(c, 0);
	poke(0x9000, TARGET, 4);
	poke(0x9004, KCODE32, 2);
	c->gpr[X86_RBX] = 0x9000;
	is_int(cpu_run(c, "\xff\x2b"), STEP_OK, "JMP FAR [rbx] into 32-bit code");
	ok(!is_64bit_code(c) && c->rip == TARGET, "done");
	cpu_long(c, 0);
	poke(0x9000, 0xffff800000000000, 8);
	poke(0x9008, KCODE64, 2);
	c->gpr[X86_RBX] = 0x9000;
	is_int(cpu_run(c, "\x48\xff\x2b"), STEP_OK, "REX.W: a 64-bit offset");
	is_int(c->rip, (long long)0xffff800000000000, "all of it");

	cpu_real(c);
	is_int(cpu_run(c, "\xea\x78\x56\x34\x12"), STEP_OK, "in real mode");
	ok(c->rip == 0x5678 && c->seg[X86_CS].base == 0x12340, "a segment and an offset");
	c->cr0 |= CR0_PE;
	is_int(cpu_run(c, "\x66\xea\x00\x88\x00\x00\x30\x00"), STEP_OK, "into protected mode");
	ok(c->seg[X86_CS].db && c->rip == TARGET, "32-bit code");

	cpu_32(c, 3, true);
	faults(c, "\xea\0\x88\0\0\x00\x00", X86_GP, 0, "null");
	faults(c, "\xea\0\x88\0\0\x30\x00", X86_GP, KCODE32, "an inner level");
	faults(c, "\xea\0\x88\0\0\x23\x00", X86_GP, UDATA, "data");
	faults(c, "\xea\0\x88\0\0\xf8\x01", X86_GP, 0x1f8, "beyond the GDT");
	faults(c, "\xea\0\x88\0\0\x5b\x00", X86_GP, TSS, "a TSS in long mode");
	is_int(cpu_run(c, "\xea\0\x88\0\0\x4b\x00"), STEP_OK, "conforming code");
	is_int(c->seg[X86_CS].selector, CONFORMING | 3, "the level stays");
	gdt_set(ABSENT, desc_make(0, 0xfffff, 0x7b, 0xc));
	faults(c, "\xea\0\x88\0\0\x53\x00", X86_NP, ABSENT, "absent");
	gdt_set(ABSENT, desc_make(0, 0xfff, 0xfb, 0x4));
	faults(c, "\xea\0\x88\0\0\x53\x00", X86_GP, 0, "beyond the limit");
	gdt_set(ABSENT, desc_make(0, 0xfff, 0xfb, 0x6));
	faults(c, "\xea\0\x88\0\0\x53\x00", X86_GP, ABSENT, "L and D");
}

static void call_return(void)
{
	cpu_32(c, 3, false);
	is_int(cpu_run(c, "\x9a\x00\x88\x00\x00\x1b\x00"), STEP_OK, "CALL FAR, same level");
	is_int(peek(c->gpr[X86_RSP], 4), CODE_AT + 7, "EIP pushed");
	is_int(peek(c->gpr[X86_RSP] + 4, 2), UCODE32 | 3, "CS pushed");
	is_int(cpu_run(c, "\xcb"), STEP_OK, "RETF");
	is_int(c->rip, CODE_AT + 7, "back");
	is_int(c->gpr[X86_RSP], USER_STACK_AT, "ESP");

	cpu_32(c, 0, false);
	PUSH(4, UDATA | 3, 0x9000, 0x11, 0x22, UCODE32 | 3, TARGET);
	is_int(cpu_run(c, "\xca\x08\x00"), STEP_OK, "RETF 8 to an outer level");
	is_int(c->gpr[X86_RSP], 0x9008, "both stacks are released");
	is_int(c->cpl, 3, "level 3");
	is_int(c->seg[X86_DS].unusable, 1, "DS is null");

	cpu_long(c, 0);
	PUSH(8, UDATA | 3, 0x9000, UCODE64 | 3, TARGET);
	is_int(cpu_run(c, "\x48\xcb"), STEP_OK, "RETFQ to user mode");
	is_int(c->gpr[X86_RSP], 0x9000, "RSP");
	cpu_long(c, 0);
	PUSH(8, KCODE32, TARGET);
	is_int(cpu_run(c, "\x48\xcb"), STEP_OK, "RETFQ to compatibility mode");
	is_int(c->gpr[X86_RSP], STACK_AT, "two values");
	ok(!is_64bit_code(c), "32-bit code");

	cpu_real(c);
	is_int(cpu_run(c, "\x9a\x78\x56\x34\x12"), STEP_OK, "CALL FAR in real mode");
	is_int(peek(STACK_AT - 4, 4), CODE_AT + 5, "CS:IP");
	is_int(cpu_run(c, "\xcb"), STEP_OK, "RETF");
	is_int(c->rip, CODE_AT + 5, "back");
	is_int(c->gpr[X86_RSP], STACK_AT, "SP");
	PUSH(2, 0, 0x100);
	is_int(cpu_run(c, "\xca\x04\x00"), STEP_OK, "RETF 4");
	is_int(c->gpr[X86_RSP], STACK_AT + 4, "SP");
}

static void gates(void)
{
	cpu_32(c, 3, false);
	gdt_set(GATE, (TARGET & 0xffff) | (uint64_t)KCODE32 << 16 | 2ull << 32 | 0xecull << 40);
	PUSH(4, 0x11, 0x22);
	is_int(cpu_run(c, "\x9a\0\0\0\0\x7b\0"), STEP_OK, "CALL through a gate, two parameters");
	is_int(c->cpl, 0, "level 0");
	is_int(c->gpr[X86_RSP], RSP0_AT - 24, "on ESP0");
	is_int(peek(RSP0_AT - 4, 2), UDATA | 3, "SS");
	is_int(peek(RSP0_AT - 8, 4), USER_STACK_AT - 8, "ESP");
	is_int(peek(RSP0_AT - 12, 4), 0x11, "the first parameter");
	is_int(peek(RSP0_AT - 16, 4), 0x22, "the second");
	is_int(peek(RSP0_AT - 20, 2), UCODE32 | 3, "CS");
	is_int(peek(RSP0_AT - 24, 4), CODE_AT + 7, "EIP");
	is_int(cpu_run(c, "\xca\x08\x00"), STEP_OK, "RETF 8");
	is_int(c->gpr[X86_RSP], USER_STACK_AT, "the caller's stack, released");
	is_int(c->cpl, 3, "level 3");

	cpu_32(c, 3, true);
	gdt_set(GATE, (TARGET & 0xffff) | (uint64_t)KCODE64 << 16 | 0xecull << 40);
	gdt_set(GATE + 8, 0xffff8000);
	is_int(cpu_run(c, "\x9a\0\0\0\0\x7b\0"), STEP_OK, "a 64-bit gate");
	is_int(c->rip, (long long)(0xffff800000000000 | TARGET), "a 64-bit offset");
	is_int(c->gpr[X86_RSP], RSP0_AT - 32, "four values of 8 bytes");
	is_int(peek(RSP0_AT - 16, 8), USER_STACK_AT, "RSP");
	is_int(c->seg[X86_SS].selector, 0, "SS is null");

	cpu_32(c, 3, true);
	gdt_set(GATE, (TARGET & 0xffff) | (uint64_t)KCODE64 << 16 | 0xecull << 40);
	gdt_set(GATE + 8, 0xffff8000);
	faults(c, "\xea\0\0\0\0\x7b\0", X86_GP, KCODE64, "JMP does not go inwards");
	gdt_set(GATE, (TARGET & 0xffff) | (uint64_t)KCODE64 << 16 | 0x8cull << 40);
	faults(c, "\x9a\0\0\0\0\x7b\0", X86_GP, GATE, "the gate's DPL");
	gdt_set(GATE, (TARGET & 0xffff) | (uint64_t)KCODE64 << 16 | 0x6cull << 40);
	faults(c, "\x9a\0\0\0\0\x7b\0", X86_NP, GATE, "an absent gate");
	gdt_set(GATE, (TARGET & 0xffff) | (uint64_t)KCODE32 << 16 | 0xecull << 40);
	faults(c, "\x9a\0\0\0\0\x7b\0", X86_GP, KCODE32, "32-bit code behind a 64-bit gate");
	gdt_set(GATE + 8, 0x0000010000000000);
	faults(c, "\x9a\0\0\0\0\x7b\0", X86_GP, GATE, "its second half has a type");
}

int main(void)
{
	c = cpu_create();
	syscalls();
	single_steps();
	syscall_faults();
	sysenter();
	bases();
	iretq();
	iretq_faults();
	iret32();
	far_jumps();
	call_return();
	gates();
	return done_testing();
}

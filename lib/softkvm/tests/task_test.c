/* SPDX-License-Identifier: MIT */
/*
 * Task switches: what is saved, loaded, linked and marked busy, and to which task a fault belongs.
 * From the Intel SDM, volume 3, chapter 8.
 */
#include "cpu.h"

enum { TSS2 = GATE, TASK_GATE = GATE + 8, TSS2_AT = 0x3800, TASK_AT = 0x8800,
       TASK_STACK_AT = 0xe000 };

static struct vcpu *c;

static unsigned type_of(unsigned sel)
{
	return (unsigned)peek(GDT_AT + sel + 5, 1);
}

/* A 32-bit task of ring 0; its registers are 0x1000 and up. */
static void task32(unsigned type)
{
	static const uint16_t sels[] = {KDATA, KCODE32, KDATA, KDATA, KDATA, 0};

	gdt_set(TSS2, desc_make(TSS2_AT, 0x67, type, 0));
	gdt_set(TASK_GATE, (uint64_t)TSS2 << 16 | 0x85ull << 40);
	poke(TSS2_AT + 0x20, TASK_AT, 4);
	poke(TSS2_AT + 0x24, RFLAGS_FIXED | X86_CF, 4);
	for (unsigned i = 0; i < 8; i++)
		poke(TSS2_AT + 0x28 + 4 * i, i == X86_RSP ? TASK_STACK_AT : 0x1000 + i, 4);
	for (unsigned i = 0; i < 6; i++)
		poke(TSS2_AT + 0x48 + 4 * i, sels[i], 2);
}

static void begin(unsigned cpl)
{
	cpu_32(c, cpl, false);
	gdt_set(TSS, desc_make(TSS_AT, 0x67, 0x8b, 0));
	task32(0x89);
	c->gpr[X86_RAX] = 0x12345678;
	c->rflags |= X86_ZF;
	c->requests = 0;
}

/* The task of task32() is there and the other one saved. */
static void is_there(const char *how)
{
	ok(c->rip == TASK_AT && c->gpr[X86_RAX] == 0x1000 && c->gpr[X86_RDI] == 0x1007 &&
	   c->gpr[X86_RSP] == TASK_STACK_AT, "%s: EIP and registers", how);
	ok(c->seg[X86_CS].selector == KCODE32 && c->seg[X86_CS].db &&
	   c->seg[X86_FS].selector == KDATA && c->seg[X86_GS].unusable, "%s: segments", how);
	ok(c->tr.selector == TSS2 && c->tr.type == 11 && c->tr.base == TSS2_AT, "%s: TR", how);
	ok(c->cr0 & CR0_TS, "%s: TS", how);
	is_int(peek(TSS_AT + 0x28, 4), 0x12345678, "%s: EAX is saved", how);
	is_int(peek(TSS_AT + 0x4c, 2), KCODE32, "%s: CS is saved", how);
	ok(!c->event.exception, "%s: no fault", how);
}

static void call_and_return(void)
{
	begin(0);
	is_int(cpu_run(c, "\x9a\0\0\0\0\x78\0"), STEP_OK, "CALL to a TSS");
	is_there("CALL");
	is_int(c->rflags, RFLAGS_FIXED | X86_CF | RFLAGS_NT, "flags, and NT");
	is_int(peek(TSS2_AT, 2), TSS, "the link");
	is_int(peek(TSS_AT + 0x20, 4), CODE_AT + 7, "EIP is saved, behind CALL");
	is_int(peek(TSS_AT + 0x24, 4), RFLAGS_FIXED | RFLAGS_IF | X86_ZF, "EFLAGS are saved");
	ok(type_of(TSS) == 0x8b && type_of(TSS2) == 0x8b, "both are busy");

	is_int(cpu_run(c, "\xcf"), STEP_OK, "IRET with NT");
	ok(c->rip == CODE_AT + 7 && c->gpr[X86_RAX] == 0x12345678, "is back");
	is_int(c->rflags, RFLAGS_FIXED | RFLAGS_IF | X86_ZF, "the flags that were saved");
	is_int(peek(TSS2_AT + 0x20, 4), TASK_AT + 1, "the task will go on behind IRET");
	is_int(peek(TSS2_AT + 0x24, 4), RFLAGS_FIXED | X86_CF, "without NT");
	ok(type_of(TSS) == 0x8b && type_of(TSS2) == 0x89, "one is busy");
}

static void jump(void)
{
	begin(0);
	is_int(cpu_run(c, "\xea\0\0\0\0\x80\0"), STEP_OK, "JMP to a task gate");
	is_there("JMP");
	ok(!(c->rflags & RFLAGS_NT) && !peek(TSS2_AT, 2), "no NT, no link");
	ok(type_of(TSS) == 0x89 && type_of(TSS2) == 0x8b, "only the new one is busy");

	begin(0);
	poke(TSS2_AT + 0x24, RFLAGS_FIXED | RFLAGS_VM, 4);
	poke(TSS2_AT + 0x4c, 0x1234, 2);
	is_int(cpu_run(c, "\xea\0\0\0\0\x78\0"), STEP_OK, "JMP to a task in virtual-8086 mode");
	ok(is_vm86(c) && c->cpl == 3 && c->seg[X86_CS].base == 0x12340, "VM, level 3, CS");

	begin(0);
	cpu_page(c);
	poke(TSS2_AT + 0x1c, PML4_AT + 8, 4);
	c->efer = 0;
	c->cr4 &= ~CR4_PAE;
	poke(PML4_AT, 0x87, 4); /* 4 MiB, and the same again behind */
	poke(PML4_AT + 8, 0x87, 4);
	c->cr4 |= CR4_PSE;
	is_int(cpu_run(c, "\xea\0\0\0\0\x78\0"), STEP_OK, "JMP with paging");
	ok(cr3_loads == 1 && c->cr3 == PML4_AT + 8, "CR3");
}

static void task16(void)
{
	static const uint16_t sels[] = {KDATA16, KCODE16, KDATA16, KDATA16};

	begin(0);
	gdt_set(TSS2, desc_make(TSS2_AT, 0x2b, 0x81, 0));
	memset(ram + TSS2_AT, 0, 0x68);
	poke(TSS2_AT + 0x0e, TASK_AT, 2);
	poke(TSS2_AT + 0x10, RFLAGS_FIXED, 2);
	for (unsigned i = 0; i < 8; i++)
		poke(TSS2_AT + 0x12 + 2 * i, 0x100 + i, 2);
	for (unsigned i = 0; i < 4; i++)
		poke(TSS2_AT + 0x22 + 2 * i, sels[i], 2);
	is_int(cpu_run(c, "\x9a\0\0\0\0\x78\0"), STEP_OK, "CALL to a 16-bit TSS");
	ok(c->rip == TASK_AT && c->gpr[X86_RBX] == 0x103 && !c->seg[X86_CS].db, "is there");
	c->gpr[X86_RBX] = 0xabcd4321;
	is_int(cpu_run(c, "\xcf"), STEP_OK, "and back");
	ok(c->gpr[X86_RAX] == 0x12345678 && peek(TSS2_AT + 0x18, 2) == 0x4321, "by its own size");
	is_int(peek(TSS2_AT + 0x22, 2), KDATA16, "ES of the 16-bit TSS");
}

static void events(void)
{
	const struct fault gp = {.vector = X86_GP, .has_code = true, .code = 0x1234};

	begin(3);
	gdt_set(TASK_GATE, (uint64_t)TSS2 << 16 | 0xe5ull << 40);
	idt_set(c, 0x40, TSS2, 0, 0xe5, 0);
	is_int(cpu_run(c, "\xcd\x40"), STEP_OK, "INT through a task gate");
	ok(c->rip == TASK_AT && c->cpl == 0 && c->rflags & RFLAGS_NT, "from level 3 to 0");
	is_int(peek(TSS_AT + 0x20, 4), CODE_AT + 2, "EIP behind INT");
	is_int(cpu_run(c, "\xcf"), STEP_OK, "IRET");
	ok(c->cpl == 3 && c->rip == CODE_AT + 2, "back at level 3");

	begin(0);
	idt_set(c, X86_GP, TSS2, 0, 0x85, 0);
	is_int(event_deliver(c, X86_GP, EVENT_EXCEPTION, &gp), STEP_OK, "an exception");
	is_int(c->gpr[X86_RSP], TASK_STACK_AT - 4, "has pushed its code");
	is_int(peek(TASK_STACK_AT - 4, 4), 0x1234, "which is this");
	ok(peek(TSS_AT + 0x24, 4) & RFLAGS_RF, "and saved RF");
}

static void early_faults(void)
{
	begin(0);
	faults(c, "\xea\0\0\0\0\x7c\0", X86_GP, TSS2 | 4, "in the LDT");
	task32(0x8b);
	faults(c, "\xea\0\0\0\0\x80\0", X86_GP, TSS2, "busy");
	task32(0x09);
	faults(c, "\xea\0\0\0\0\x78\0", X86_NP, TSS2, "absent");
	task32(0x89);
	gdt_set(TSS2, desc_make(TSS2_AT, 0x66, 0x89, 0));
	faults(c, "\xea\0\0\0\0\x78\0", X86_TS, TSS2, "too short");
	gdt_set(TASK_GATE, (uint64_t)TSS2 << 16 | 0x05ull << 40);
	faults(c, "\xea\0\0\0\0\x80\0", X86_NP, TASK_GATE, "an absent gate");
	c->rflags |= RFLAGS_NT;
	poke(TSS_AT, TSS2, 2);
	faults(c, "\xcf", X86_TS, TSS2, "IRET to a task that is not busy");
	begin(3);
	faults(c, "\xea\0\0\0\0\x7b\0", X86_GP, TSS2, "of an inner level");
	ok(c->rip == CODE_AT && c->tr.selector == TSS && !(c->cr0 & CR0_TS) &&
	   type_of(TSS2) == 0x89, "nothing has happened");
}

static void late(unsigned at, unsigned value, unsigned vector, int code, const char *what)
{
	begin(0);
	poke(TSS2_AT + at, value, 2);
	is_int(cpu_run(c, "\xea\0\0\0\0\x78\0"), STEP_OK, "%s: JMP", what);
	ok(c->event.exception && c->event.fault.vector == vector &&
	   (code < 0 || (int)c->event.fault.code == code), "%s: vector %u, code %x", what,
	   c->event.fault.vector, c->event.fault.code);
	ok(c->rip == TASK_AT && c->tr.selector == TSS2 && c->requests & REQ_EVENT,
	   "%s: in the new task, at once", what);
}

static void late_faults(void)
{
	late(0x4c, 0, X86_TS, 0, "CS null");
	late(0x4c, KDATA, X86_TS, KDATA, "CS is data");
	late(0x4c, UCODE32, X86_TS, UCODE32, "CS of another level");
	late(0x50, ABSENT, X86_SSV, ABSENT, "SS absent");
	late(0x50, 0, X86_TS, 0, "SS null");
	late(0x54, EXECONLY, X86_TS, EXECONLY, "DS cannot be read");
	late(0x48, 0x1f8, X86_TS, 0x1f8, "ES beyond the GDT");
	late(0x60, KDATA, X86_TS, KDATA, "LDT is data");
	late(0x64, 1, X86_DB, -1, "T");
	ok(c->dr6 & 0x8000, "DR6.BT");
}

int main(void)
{
	c = cpu_create();
	call_and_return();
	jump();
	task16();
	events();
	early_faults();
	late_faults();
	return done_testing();
}

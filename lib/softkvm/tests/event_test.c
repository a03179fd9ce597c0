/* SPDX-License-Identifier: MIT */
/*
 * Interrupts and exceptions in every mode: frames, stacks, flags, nested faults, shadows,
 * debug traps. What is expected is written down from the Intel SDM, volume 3, chapter 6.
 */
#include "cpu.h"

#define INT_GATE 0x8e
#define TRAP_GATE 0x8f
#define INT_GATE_USER 0xee
#define HANDLER 0x8800

static struct vcpu *c;

static enum step exception(unsigned vector, int code)
{
	if (code < 0)
		fault_set(c, (uint8_t)vector);
	else
		fault_code(c, (uint8_t)vector, (uint32_t)code);
	return event_fault(c);
}

/* The frame at rsp has these values from the top. */
static void is_frame(const uint64_t *want, unsigned n, unsigned size, const char *name)
{
	for (unsigned i = 0; i < n; i++)
		is_int(peek(c->gpr[X86_RSP] + i * size, size), (long long)want[i],
		       "%s: value %u of the frame", name, i);
}

#define frame_is(size, name, ...)                                                          \
	is_frame((const uint64_t[]){__VA_ARGS__},                                          \
		 sizeof((const uint64_t[]){__VA_ARGS__}) / 8, size, name)

/* -- Long mode ----------------------------------------------------------------------------- */

static void long_same_level(void)
{
	cpu_long(c, 0);
	idt_set(c, X86_GP, KCODE64, 0xffff800000008800, INT_GATE, 0);
	c->gpr[X86_RSP] = STACK_AT - 4;
	is_int(exception(X86_GP, 0x18), STEP_OK, "long, same level: delivered");
	is_int(c->rip, 0xffff800000008800, "all of a 64-bit offset");
	is_int(c->gpr[X86_RSP], STACK_AT - 16 - 48, "the stack is aligned to 16");
	frame_is(8, "same level", 0x18, CODE_AT, KCODE64,
		 RFLAGS_FIXED | RFLAGS_IF | RFLAGS_RF, STACK_AT - 4, KDATA);
	is_int(c->rflags, RFLAGS_FIXED, "IF, RF clear in the handler");
	is_int(c->seg[X86_SS].selector, KDATA, "SS unchanged");
	is_int(mode_changes, 0, "no change of mode");
	is_int(c->seg[X86_CS].l, 1, "64-bit code");
}

static void long_from_user(void)
{
	cpu_long(c, 3);
	idt_set(c, X86_PFV, KCODE64, HANDLER, INT_GATE, 0);
	c->rflags |= RFLAGS_TF | RFLAGS_NT | RFLAGS_AC | X86_CF;
	fault_code(c, X86_PFV, 7);
	c->fault.cr2 = 0xdead000;
	is_int(event_fault(c), STEP_OK, "long, from user: delivered");
	is_int(c->cpl, 0, "level 0");
	is_int(c->cr2, 0xdead000, "CR2");
	is_int(c->gpr[X86_RSP], RSP0_AT - 48, "RSP0");
	frame_is(8, "from user", 7, CODE_AT, UCODE64 | 3,
		 RFLAGS_FIXED | RFLAGS_IF | RFLAGS_TF | RFLAGS_NT | RFLAGS_AC | RFLAGS_RF | X86_CF,
		 USER_STACK_AT, UDATA | 3);
	is_int(c->rflags, RFLAGS_FIXED | RFLAGS_AC | X86_CF, "TF, NT, IF clear");
	is_int(c->seg[X86_SS].selector, 0, "SS is null");
	is_int(c->seg[X86_SS].unusable, 1, "... and unusable");
	is_int(c->seg[X86_DS].selector, UDATA | 3, "DS stays");
	is_int(mode_changes, 1, "the MMU is told");
}

static void long_ist(void)
{
	cpu_long(c, 0);
	idt_set(c, X86_NMI, KCODE64, HANDLER, INT_GATE, 1);
	is_int(event_deliver(c, X86_NMI, EVENT_NMI, NULL), STEP_OK, "NMI through IST1");
	is_int(c->gpr[X86_RSP], IST1_AT - 40, "IST1");
	frame_is(8, "IST", CODE_AT, KCODE64, RFLAGS_FIXED | RFLAGS_IF, STACK_AT, KDATA);
	ok(c->event.nmi_masked, "NMIs are masked");
	c->tr.limit = 0x2a;
	ok(is_fault(c, event_deliver(c, 2, EVENT_SOFT, NULL), X86_TS, TSS),
	   "IST beyond the TSS");
}

static void long_soft(void)
{
	cpu_long(c, 3);
	idt_set(c, 0x80, KCODE64, HANDLER, 0xef, 0);
	is_int(cpu_run(c, "\xcd\x80"), STEP_OK, "int 80h");
	frame_is(8, "int 80h", CODE_AT + 2, UCODE64 | 3, RFLAGS_FIXED | RFLAGS_IF, USER_STACK_AT,
		 UDATA | 3);
	is_int(c->rflags & RFLAGS_IF, RFLAGS_IF, "a trap gate leaves IF");

	cpu_long(c, 3);
	idt_set(c, 13, KCODE64, HANDLER, INT_GATE, 0);
	faults(c, "\xcd\x0d", X86_GP, 13 * 8 + 2, "INT 13 from user: the gate's DPL");
	is_int(c->rip, CODE_AT, "rip unchanged");
	faults(c, "\xcd\x81", X86_GP, 0x81 * 8 + 2, "no gate");
	idt_set(c, 0x81, KCODE64, HANDLER, 0x6e, 0);
	faults(c, "\xcd\x81", X86_NP, 0x81 * 8 + 2, "an absent gate");
	idt_set(c, 0x81, KCODE32, HANDLER, INT_GATE_USER, 0);
	faults(c, "\xcd\x81", X86_GP, KCODE32, "no 64-bit code segment");
	idt_set(c, 0x81, 0, HANDLER, INT_GATE_USER, 0);
	faults(c, "\xcd\x81", X86_GP, 0, "a null selector");
	idt_set(c, 0x81, KDATA, HANDLER, INT_GATE_USER, 0);
	faults(c, "\xcd\x81", X86_GP, KDATA, "a data segment");
	idt_set(c, 0x81, 0x1f8, HANDLER, INT_GATE_USER, 0);
	faults(c, "\xcd\x81", X86_GP, 0x1f8, "beyond the GDT");
	idt_set(c, 0x81, KCODE64, 0x800000000000, INT_GATE_USER, 0);
	faults(c, "\xcd\x81", X86_GP, 0, "not canonical");
	idt_set(c, 0x81, KCODE64, HANDLER, INT_GATE_USER, 0);
	poke(TSS_AT + 4, 0x8000000000000000, 8);
	faults(c, "\xcd\x81", X86_SSV, 0, "RSP0 not canonical");
	c->idt.limit = 0x81 * 16 + 14;
	faults(c, "\xcd\x81", X86_GP, 0x81 * 8 + 2, "beyond the IDT");
	faults(c, "\xcc", X86_GP, 3 * 8 + 2, "INT3 without a gate");
}

static void accessed_bit(void)
{
	cpu_long(c, 3);
	gdt_set(KCODE64, desc_make(0, 0xfffff, 0x9a, 0xa));
	idt_set(c, 1, KCODE64, HANDLER, INT_GATE, 0);
	is_int(cpu_run(c, "\xf1"), STEP_OK, "INT1 needs no DPL");
	is_int(peek(GDT_AT + KCODE64 + 5, 1), 0x9b, "the accessed bit is set in memory");
	is_int(c->seg[X86_CS].type, 11, "... and in CS");
	is_int(c->dr6, DR6_FIXED, "DR6 is not touched");
}

/* -- Protected mode ------------------------------------------------------------------------ */

static void protected_levels(void)
{
	cpu_32(c, 0, false);
	idt_set(c, X86_GP, KCODE32, 0x12348800, INT_GATE, 0);
	is_int(exception(X86_GP, 0x18), STEP_OK, "protected, same level");
	is_int(c->rip, 0x12348800, "EIP");
	is_int(c->gpr[X86_RSP], STACK_AT - 16, "no stack switch");
	frame_is(4, "protected", 0x18, CODE_AT, KCODE32, RFLAGS_FIXED | RFLAGS_IF | RFLAGS_RF);

	cpu_32(c, 3, false);
	idt_set(c, 0x30, KCODE32, HANDLER, TRAP_GATE, 0);
	is_int(event_deliver(c, 0x30, EVENT_INTERRUPT, NULL), STEP_OK, "from level 3");
	is_int(c->gpr[X86_RSP], RSP0_AT - 20, "ESP0");
	frame_is(4, "from 3", CODE_AT, UCODE32 | 3, RFLAGS_FIXED | RFLAGS_IF, USER_STACK_AT,
		 UDATA | 3);
	is_int(c->seg[X86_SS].selector, KDATA, "SS0");
	is_int(c->rflags & RFLAGS_IF, RFLAGS_IF, "a trap gate leaves IF");

	cpu_32(c, 3, false);
	idt_set(c, 0x30, CODE1, HANDLER, INT_GATE, 0);
	poke(TSS_AT + 12, 0x9800, 4);
	poke(TSS_AT + 16, DATA1 | 1, 4);
	is_int(event_deliver(c, 0x30, EVENT_INTERRUPT, NULL), STEP_OK, "from level 3 to 1");
	is_int(c->gpr[X86_RSP], 0x9800 - 20, "ESP1");
	is_int(c->seg[X86_CS].selector, CODE1 | 1, "RPL is the new level");
	is_int(c->cpl, 1, "level 1");
}

static void protected_16bit_gate(void)
{
	cpu_32(c, 0, false);
	idt_set(c, 0x30, KCODE16, 0x56788800, 0x86, 0);
	is_int(event_deliver(c, 0x30, EVENT_INTERRUPT, NULL), STEP_OK, "a 16-bit gate");
	is_int(c->rip, HANDLER, "a 16-bit offset");
	frame_is(2, "16-bit", CODE_AT, KCODE32, RFLAGS_FIXED | RFLAGS_IF);
}

static void protected_bad_stack(void)
{
	static const struct {
		uint32_t ss;
		int vector, code;
		const char *name;
	} cases[] = {
		{0, X86_TS, 0, "a null SS0"},
		{0x1f8, X86_TS, 0x1f8, "SS0 beyond the GDT"},
		{UDATA, X86_TS, UDATA, "SS0 of level 3"},
		{KDATA | 3, X86_TS, KDATA, "SS0 with RPL 3"},
		{KCODE32, X86_TS, KCODE32, "SS0 code"},
		{ABSENT, X86_SSV, ABSENT, "SS0 absent"},
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		cpu_32(c, 3, false);
		gdt_set(ABSENT, desc_make(0, 0xfffff, 0x13, 0xc));
		idt_set(c, 0x30, KCODE32, HANDLER, INT_GATE_USER, 0);
		poke(TSS_AT + 8, cases[i].ss, 4);
		ok(is_fault(c, event_deliver(c, 0x30, EVENT_SOFT, NULL),
			    (unsigned)cases[i].vector, cases[i].code),
		   "%s", cases[i].name);
	}
	is_int(c->gpr[X86_RSP], USER_STACK_AT, "nothing changed");
}

static void from_vm86(void)
{
	cpu_32(c, 3, false);
	c->rflags |= RFLAGS_VM;
	for (unsigned i = 0; i < 6; i++)
		c->seg[i] = (struct kvm_segment){.selector = (uint16_t)(0x700 + i), .limit = 0xffff,
						 .base = 0x7000 + 16 * i, .present = 1, .s = 1,
						 .type = 3, .dpl = 3};
	idt_set(c, X86_GP, KCODE32, HANDLER, INT_GATE, 0);
	is_int(exception(X86_GP, 0), STEP_OK, "from virtual-8086 mode");
	frame_is(4, "vm86", 0, CODE_AT, 0x701,
		 RFLAGS_FIXED | RFLAGS_IF | RFLAGS_RF | RFLAGS_VM, USER_STACK_AT, 0x702, 0x700,
		 0x703, 0x704, 0x705);
	is_int(c->rflags & RFLAGS_VM, 0, "VM is clear");
	is_int(c->seg[X86_DS].unusable, 1, "DS is null");
	is_int(c->seg[X86_SS].selector, KDATA, "SS0");
	is_int(c->gpr[X86_RSP], RSP0_AT - 40, "ten values");

	cpu_32(c, 3, false);
	c->rflags |= RFLAGS_VM;
	c->seg[X86_CS].db = 0;
	faults(c, "\xcd\x21", X86_GP, 0, "INT n with IOPL < 3");
}

/* -- Real mode ----------------------------------------------------------------------------- */

static void real_mode(void)
{
	cpu_real(c);
	poke(0x21 * 4, 0x12345678, 4);
	is_int(cpu_run(c, "\xcd\x21"), STEP_OK, "INT 21h in real mode");
	is_int(c->rip, 0x5678, "IP");
	is_int(c->seg[X86_CS].selector, 0x1234, "CS");
	is_int(c->seg[X86_CS].base, 0x12340, "its base");
	frame_is(2, "real", CODE_AT + 2, 0, RFLAGS_FIXED | RFLAGS_IF);
	is_int(c->rflags & RFLAGS_IF, 0, "IF");

	cpu_real(c);
	poke(X86_GP * 4, 0x00008800, 4);
	is_int(exception(X86_GP, 0), STEP_OK, "#GP");
	is_int(c->gpr[X86_RSP], STACK_AT - 6, "no error code in real mode");

	cpu_real(c);
	c->gpr[X86_RSP] = 0xabcd0002;
	poke(0x21 * 4, 0x12345678, 4);
	is_int(cpu_run(c, "\xcd\x21"), STEP_OK, "SP wraps");
	is_int(c->gpr[X86_RSP], 0xabcdfffc, "in 16 bits");
	is_int(peek(0, 2), RFLAGS_FIXED | RFLAGS_IF, "FLAGS at 0");
	is_int(peek(0xfffc, 2), CODE_AT + 2, "IP at fffc");

	cpu_real(c);
	c->idt.limit = 0x21 * 4 + 2;
	c->gpr[X86_RSP] = 0;
	poke(X86_GP * 4, 0x00008800, 4);
	ok(is_fault(c, cpu_run(c, "\xcd\x21"), X86_GP, 0), "beyond the IVT");
}

/* -- Faults in delivery -------------------------------------------------------------------- */

static void double_fault(void)
{
	cpu_long(c, 3);
	idt_set(c, X86_DF, KCODE64, HANDLER, INT_GATE, 1);
	is_int(exception(X86_GP, 0), STEP_OK, "#GP without a gate");
	is_int(c->gpr[X86_RSP], IST1_AT - 48, "is #DF");
	frame_is(8, "#DF", 0, CODE_AT, UCODE64 | 3, RFLAGS_FIXED | RFLAGS_IF | RFLAGS_RF,
		 USER_STACK_AT, UDATA | 3);

	cpu_long(c, 3);
	idt_set(c, X86_NP, KCODE64, HANDLER, INT_GATE, 0);
	idt_set(c, X86_UDV, KCODE64, HANDLER, 0x0e, 0);
	is_int(exception(X86_UDV, -1), STEP_OK, "#UD, benign, through an absent gate");
	frame_is(8, "#NP", X86_UDV * 8 + 3, CODE_AT, UCODE64 | 3);

	cpu_long(c, 3);
	idt_set(c, X86_GP, KCODE64, HANDLER, INT_GATE, 0);
	is_int(event_deliver(c, 0x40, EVENT_INTERRUPT, NULL), STEP_OK, "an interrupt, no gate");
	frame_is(8, "#GP", 0x40 * 8 + 3, CODE_AT);

	cpu_long(c, 3);
	c->idt.limit = 0;
	is_int(exception(X86_UDV, -1), STEP_TRIPLE, "no IDT: shutdown");
	cpu_real(c);
	c->idt.limit = 0;
	is_int(exception(X86_UDV, -1), STEP_TRIPLE, "the same in real mode");
}

static void page_faults(void)
{
	cpu_long(c, 3);
	cpu_page(c);
	idt_set(c, X86_PFV, KCODE64, HANDLER, INT_GATE, 0);
	idt_set(c, X86_DF, KCODE64, HANDLER, INT_GATE, 1);
	poke(PTE_OF(RSP0_AT - 8), 0, 8);
	fault_code(c, X86_PFV, 4);
	c->fault.cr2 = 0x123456;
	is_int(event_fault(c), STEP_OK, "a page fault while #PF is delivered");
	is_int(c->gpr[X86_RSP], IST1_AT - 48, "is #DF");
	is_int(c->cr2, RSP0_AT - 48, "CR2 is the second's");

	cpu_long(c, 3);
	cpu_page(c);
	idt_set(c, X86_PFV, KCODE64, HANDLER, INT_GATE, 1);
	idt_set(c, X86_GP, KCODE64, HANDLER, INT_GATE, 0);
	poke(PTE_OF(RSP0_AT - 8), 0, 8);
	is_int(exception(X86_GP, 0), STEP_OK, "a page fault while #GP is delivered");
	frame_is(8, "it is delivered", 2, CODE_AT, UCODE64 | 3);

	/* A frame across two pages of which one is missing leaves no byte behind. */
	cpu_long(c, 0);
	cpu_page(c);
	idt_set(c, X86_PFV, KCODE64, HANDLER, INT_GATE, 1);
	idt_set(c, 0x30, KCODE64, HANDLER, INT_GATE, 0);
	c->gpr[X86_RSP] = 0xe010;
	poke(PTE_OF(0xd000), 0, 8);
	is_int(event_deliver(c, 0x30, EVENT_INTERRUPT, NULL), STEP_OK, "a crossing frame");
	is_int(c->cr2, 0xe010 - 40, "CR2: where the store begins");
	is_int(peek(0xe000, 8) | peek(0xe008, 8), 0, "nothing was written");
}

/* -- Injection ----------------------------------------------------------------------------- */

static bool inject(void)
{
	bool delivered;

	is_int(event_inject(c, &delivered), STEP_OK, "event_inject()");
	return delivered;
}

static void priorities(void)
{
	cpu_long(c, 0);
	for (unsigned v = 0; v < 0x40; v++)
		idt_set(c, v, KCODE64, HANDLER + v, INT_GATE, 0);
	c->event.exception = true;
	c->event.fault = (struct fault){.vector = X86_PFV, .has_code = true, .cr2 = 1};
	c->event.nmi_pending = true;
	pending_vector = 0x31;
	c->cr2 = 0x77;
	ok(inject(), "first the exception");
	is_int(c->rip, HANDLER + X86_PFV, "#PF");
	is_int(c->cr2, 0x77, "CR2 as the client left it");
	ok(inject(), "then the NMI");
	is_int(c->rip, HANDLER + 2, "NMI");
	c->event.nmi_pending = true;
	ok(!inject(), "another one is masked, and IF is clear");
	ok(c->event.window, "somebody waits for the window");
	c->rflags |= RFLAGS_IF;
	c->event.shadow = KVM_X86_SHADOW_INT_STI;
	ok(!inject(), "STI's shadow");
	event_shadow_step(c, KVM_X86_SHADOW_INT_STI);
	ok(event_ready(c), "ready");
	ok(inject(), "after it");
	is_int(c->rip, HANDLER + 0x31, "the interrupt");
	ok(!inject(), "nothing more");
	c->event.interrupt = true;
	c->event.interrupt_vector = 0x32;
	ok(event_ready(c), "KVM_INTERRUPT");
	ok(inject(), "is injected whatever IF says");
	is_int(c->rip, HANDLER + 0x32, "its vector");
}

static void windows(void)
{
	cpu_long(c, 0);
	c->rflags &= ~RFLAGS_IF;
	atomic_store(&c->requests, 0);
	is_int(cpu_run(c, "\xfb"), STEP_OK, "STI");
	is_int(c->event.shadow, KVM_X86_SHADOW_INT_STI, "a shadow");
	is_int(atomic_load(&c->requests), 0, "nothing waits");
	is_int(cpu_run(c, "\xfa"), STEP_OK, "CLI");
	c->event.shadow = 0;
	pending_vector = 0x31;
	ok(!inject(), "closed");
	is_int(cpu_run(c, "\xfb"), STEP_OK, "STI");
	is_int(atomic_load(&c->requests), REQ_EVENT, "REQ_EVENT");
	event_shadow_step(c, KVM_X86_SHADOW_INT_STI);
	c->event.shadow |= KVM_X86_SHADOW_INT_MOV_SS;
	event_shadow_step(c, 0);
	is_int(c->event.shadow, KVM_X86_SHADOW_INT_MOV_SS, "a new shadow stays");
	cpu_long(c, 3);
	faults(c, "\xfb", X86_GP, 0, "STI in user mode");
	faults(c, "\xfa", X86_GP, 0, "CLI in user mode");
}

/* The handler's stack is a device: delivery stops, and goes on later. */
static void stopped(void)
{
	cpu_long(c, 3);
	idt_set(c, 0x31, KCODE64, HANDLER, INT_GATE, 0);
	idt_set(c, X86_GP, KCODE64, HANDLER, INT_GATE, 0);
	poke(TSS_AT + 4, 0x40000000, 8);
	io_result = STEP_EXIT;
	is_int(exception(X86_GP, 5), STEP_EXIT, "stops at a device");
	ok(c->event.exception && c->event.fault.code == 5, "the exception is kept");
	io_result = STEP_OK;
	ok(inject(), "and delivered again");
	is_int(c->rip, HANDLER, "at last");

	cpu_long(c, 3);
	idt_set(c, 0x31, KCODE64, HANDLER, INT_GATE, 0);
	poke(TSS_AT + 4, 0x40000000, 8);
	io_result = STEP_EXIT;
	is_int(event_deliver(c, 0x31, EVENT_INTERRUPT, NULL), STEP_EXIT, "an interrupt");
	ok(c->event.interrupt && c->event.interrupt_vector == 0x31, "is kept");
}

/* -- Debug traps --------------------------------------------------------------------------- */

static void traps(void)
{
	const uint64_t tf = RFLAGS_FIXED | RFLAGS_TF;

	cpu_long(c, 0);
	is_int(event_after_insn(c, RFLAGS_FIXED), STEP_OK, "no TF");
	ok(is_fault(c, event_after_insn(c, tf), X86_DB, -1), "TF traps");
	is_int(c->fault.dr6, DR6_BS, "BS");
	idt_set(c, X86_DB, KCODE64, HANDLER, INT_GATE, 0);
	c->dr6 |= 3;
	c->dr7 |= DR7_GD;
	is_int(event_fault(c), STEP_OK, "delivered");
	is_int(c->dr6, (long long)(DR6_FIXED | DR6_BS), "DR6");
	is_int(c->dr7, (long long)DR7_FIXED, "GD is clear");
	is_int(peek(c->gpr[X86_RSP] + 16, 8), RFLAGS_FIXED | RFLAGS_IF, "no RF for a trap");
	c->event.shadow = KVM_X86_SHADOW_INT_MOV_SS;
	is_int(event_after_insn(c, tf), STEP_OK, "not after MOV SS");

	cpu_long(c, 0);
	c->rflags |= RFLAGS_TF;
	idt_set(c, 0x30, KCODE64, HANDLER, INT_GATE, 0);
	is_int(cpu_run(c, "\xcd\x30"), STEP_OK, "INT n under TF");
	is_int(event_after_insn(c, tf), STEP_OK, "enters the handler without a trap");
	ok(is_fault(c, event_after_insn(c, tf), X86_DB, -1), "once");

	cpu_long(c, 0);
	c->rflags |= RFLAGS_RF;
	is_int(event_after_insn(c, c->rflags), STEP_OK, "RF");
	is_int(c->rflags & RFLAGS_RF, 0, "lasts one instruction");
}

static void breakpoints(void)
{
	cpu_long(c, 0);
	ok(!event_breakpoints(c), "nothing armed");
	c->dr[0] = CODE_AT;
	c->dr[1] = 0x9004;
	c->dr[2] = 0x9000;
	c->dr7 |= 1 | 1 << 2 | 1 << 4 | 0x1u << 20 | 0xbu << 24; /* X; W 1; RW 8 */
	ok(event_code_breakpoint(c, CODE_AT), "at DR0");
	is_int(c->fault.dr6, 1, "B0");
	c->rflags |= RFLAGS_RF;
	ok(!event_code_breakpoint(c, CODE_AT), "not under RF");
	ok(!event_code_breakpoint(c, CODE_AT + 1), "not beside it");
	c->rflags &= ~RFLAGS_RF;
	c->event.shadow = KVM_X86_SHADOW_INT_MOV_SS;
	ok(!event_code_breakpoint(c, CODE_AT), "not behind MOV SS on Intel's processors");
	c->amd = true;
	ok(event_code_breakpoint(c, CODE_AT), "but on AMD's");
	c->amd = false;
	c->event.shadow = 0;
	event_watch(c, 0x9004, 1, false);
	ok(is_fault(c, event_after_insn(c, 0), X86_DB, -1), "a read");
	is_int(c->fault.dr6, 4, "B2 only");
	event_watch(c, 0x9003, 2, true);
	ok(is_fault(c, event_after_insn(c, 0), X86_DB, -1), "a write");
	is_int(c->fault.dr6, 6, "B1 and B2");
	event_watch(c, 0x9008, 8, true);
	is_int(event_after_insn(c, 0), STEP_OK, "beyond");

	event_watch(c, 0x9004, 4, false);
	c->event.shadow = KVM_X86_SHADOW_INT_MOV_SS;
	is_int(event_after_insn(c, 0), STEP_OK, "MOV SS holds a breakpoint back");
	c->event.shadow = 0;
	idt_set(c, X86_DB, KCODE64, HANDLER, INT_GATE, 0);
	c->dr6 = DR6_FIXED | 1;
	is_int(cpu_run(c, "\xf1"), STEP_OK, "INT1 behind it");
	is_int(c->dr6, DR6_FIXED | 4, "reports both at once");
	is_int(event_after_insn(c, 0), STEP_OK, "and nothing is left");

	event_watch(c, 0x9004, 4, false);
	c->fault = (struct fault){.vector = X86_DB, .dr6 = 1};
	is_int(event_fault(c), STEP_OK, "an instruction breakpoint behind it");
	is_int(c->dr6, DR6_FIXED | 5, "reports both at once");
	is_int(event_after_insn(c, 0), STEP_OK, "and the handler is not trapped");

	idt_set(c, X86_GP, KCODE64, HANDLER, INT_GATE, 0);
	event_watch(c, 0x9004, 4, false);
	fault_code(c, X86_GP, 0);
	is_int(event_fault(c), STEP_OK, "a fault behind it");
	is_int(event_after_insn(c, 0), STEP_OK, "is alone");
}

int main(void)
{
	c = cpu_create();
	long_same_level();
	long_from_user();
	long_ist();
	long_soft();
	accessed_bit();
	protected_levels();
	protected_16bit_gate();
	protected_bad_stack();
	from_vm86();
	real_mode();
	double_fault();
	page_faults();
	priorities();
	windows();
	stopped();
	traps();
	breakpoints();
	return done_testing();
}

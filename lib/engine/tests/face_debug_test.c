/* SPDX-License-Identifier: MIT */
/*
 * A client that debugs its guest (KVM_SET_GUEST_DEBUG), on both engines: single steps, breakpoints in code and in
 * the debug registers, watchpoints, and exceptions that it gives back.
 *
 * A case is a guest of a few bytes and a list of runs: what is set before each, and what it ends with:
 *
 *	db 1004 1     #DB at linear address 1004, with DR6 bits 0 to 3 or BS (4000)
 *	bp 1004       INT3 there
 *	out 2a        the guest wrote that to a port
 */
#include "face.h"

#define STEP (KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP)
#define HARD (KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP)
#define SOFT (KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP)
#define KEEP UINT32_MAX /* KVM_SET_GUEST_DEBUG is not called */

struct turn {
	uint32_t control;
	const char *ends;
	uint64_t dr0, dr7;
	uint16_t at;  /* a byte of the guest's code that the client changes before; 0: none */
	uint8_t byte;
};

#define TURNS 10
#define RUN(control, ends)         {control, ends, 0, 0, 0, 0}
#define HIT(ends, dr0, dr7)        {HARD, ends, dr0, dr7, 0, 0}
#define POKE(control, ends, at, b) {control, ends, 0, 0, at, b}

static const struct debug_case {
	const char *name;
	enum tiny_mode mode;
	const char *code;
	unsigned len;
	struct turn turns[TURNS];
} cases[] = {
	/* nop; inc ax; sti; nop; mov [3000h], al; out 10h, al; nop; hlt */
	{"steps", TINY_REAL, "\x90\x40\xfb\x90\xa2\x00\x30\xe6\x10\x90\xf4", 11,
	 {RUN(STEP, "db 1001 4000"), RUN(KEEP, "db 1002 4000"), RUN(KEEP, "db 1003 4000"), RUN(KEEP, "db 1004 4000"),
	  RUN(KEEP, "db 1007 4000"), RUN(KEEP, "out 1"), RUN(KEEP, "db 1009 4000"), RUN(0, "hlt")}},
	/* mov cx, 2; rep stosb; pushf; pop ax; out 10h, al; mov al, ah; out 10h, al: TF is not the guest's */
	{"a step is an element of REP, and is not to be seen", TINY_PROTECTED,
	 "\xb9\x02\0\0\0\xbf\0\x30\0\0\xf3\xaa\x9c\x58\x88\xe0\xe6\x10\xf4", 19,
	 {RUN(STEP, "db 1005 4000"), RUN(KEEP, "db 100a 4000"), RUN(KEEP, "db 100a 4000"), RUN(KEEP, "db 100c 4000"),
	  RUN(KEEP, "db 100d 4000"), RUN(KEEP, "db 100e 4000"), RUN(KEEP, "db 1010 4000"), RUN(0, "out 0")}},
	{"a breakpoint in DR0", TINY_REAL, "\x90\x40\xfb\x90\xa2\x00\x30\xe6\x10\x90\xf4", 11,
	 {HIT("db 1004 1", 0x1004, 0x402), RUN(0, "out 1")}},
	{"a watchpoint in DR0", TINY_REAL, "\x90\x40\xfb\x90\xa2\x00\x30\xe6\x10\x90\xf4", 11,
	 {HIT("db 1007 1", 0x3000, 0x10402), RUN(KEEP, "out 1")}},
	{"a watchpoint of reads and writes, four bytes", TINY_PROTECTED, /* inc eax; mov ecx, [3002h]; out 10h, al; hlt */
	 "\x40\x8b\x0d\x02\x30\0\0\xe6\x10\xf4", 10, {HIT("db 1007 1", 0x3000, 0xf0402), RUN(0, "out 1")}},
	/* mov eax, dr0; out 10h, al; hlt */
	{"DR7.GD of the client's", TINY_PROTECTED, "\x0f\x21\xc0\xe6\x10\xf4", 6, {HIT("db 1000 0", 0, 0x2400), RUN(0, "out 0")}},
	/* Under an unchanged mapping, in code that has run: inc eax; out 10h, al; jmp */
	{"an INT3 of the client's", TINY_PROTECTED, "\x40\xe6\x10\xeb\xfb", 5,
	 {RUN(0, "out 1"), RUN(0, "out 2"), RUN(0, "out 3"), POKE(SOFT, "bp 1003", 0x1003, 0xcc),
	  POKE(KEEP, "out 4", 0x1003, 0xeb), POKE(KEEP, "bp 1000", 0x1000, 0xcc),
	  POKE(0, "out 5", 0x1000, 0x40)}},
	/* An INT3 of the guest's own: handler at 1010h; inc ax; int3; out 10h, al; hlt ... inc ax; iret */
	{"an INT3 that is given back", TINY_REAL, "\x40\xcc\xe6\x10\xf4\0\0\0\0\0\0\0\0\0\0\0\x40\xcf", 18,
	 {RUN(SOFT, "bp 1001"), RUN(SOFT | KVM_GUESTDBG_INJECT_BP, "out 2")}},
	{"without any of it", TINY_REAL, "\x40\xcc\xe6\x10\xf4\0\0\0\0\0\0\0\0\0\0\0\x40\xcf", 18,
	 {RUN(0, "out 2")}},
};

static const char *end_of(struct tiny *t)
{
	static char text[64];
	int rc = tiny_run(t, 0);
	struct kvm_run *run = t->run;

	if (rc < 0)
		return strerror(-rc);
	if (run->exit_reason == KVM_EXIT_DEBUG && run->debug.arch.exception == 1)
		snprintf(text, sizeof(text), "db %llx %llx", run->debug.arch.pc, run->debug.arch.dr6 & 0x400f);
	else if (run->exit_reason == KVM_EXIT_DEBUG)
		snprintf(text, sizeof(text), "bp %llx", run->debug.arch.pc);
	else if (run->exit_reason == KVM_EXIT_IO)
		snprintf(text, sizeof(text), "out %x", *((uint8_t *)run + run->io.data_offset));
	else
		snprintf(text, sizeof(text), run->exit_reason == KVM_EXIT_HLT ? "hlt" : "exit %u", run->exit_reason);
	return text;
}

static bool take_turn(struct tiny *t, const struct debug_case *c, unsigned n)
{
	const struct turn *turn = &c->turns[n];
	struct kvm_guest_debug debug = {.control = turn->control, .arch.debugreg = {turn->dr0, [7] = turn->dr7}};
	const char *half = face_half(t->face), *got;

	if (turn->at)
		t->mem[turn->at] = turn->byte;
	if (turn->control != KEEP && tiny_call(t, KVM_SET_GUEST_DEBUG, &debug) < 0)
		return ok(false, "%s: %s: KVM_SET_GUEST_DEBUG", t->face->name, c->name);
	got = end_of(t);
	if (half[0] && strcmp(got, turn->ends) != 0) {
		skip("%s: %s: no measure here (%s): '%s'", t->face->name, c->name, half, got);
		return false;
	}
	return is_str(got, turn->ends, "%s: %s, run %u", t->face->name, c->name, n + 1);
}

static void run_case(const struct kvm_face *face, const struct debug_case *c)
{
	struct err err = {0};
	struct tiny t;

	if (face_open(&t, face, TINY_NO_CHIPS, &err) < 0)
		return;
	face_load(&t, (const uint8_t *)c->code, (const uint8_t *)c->code + c->len);
	if (c->mode == TINY_REAL)
		memcpy(t.mem + 3 * 4, (uint8_t[]){0x10, 0x10, 0, 0}, 4);
	tiny_enter(&t, c->mode, FACE_BASE);
	for (unsigned n = 0; n < TURNS && c->turns[n].ends && take_turn(&t, c, n); n++)
		;
	tiny_close(&t);
}

/* An interrupt that waits, and steps that it must not come between. */
static void blocked(const struct kvm_face *face)
{
	struct kvm_guest_debug debug = {.control = STEP | KVM_GUESTDBG_BLOCKIRQ};
	struct kvm_interrupt irq = {.irq = 0x20};
	struct err err = {0};
	struct tiny t;

	if (face != &kvm_soft || face_open(&t, face, TINY_SPLIT, &err) < 0)
		return;
	memcpy(t.mem + FACE_BASE, "\xfb\x90\x90\x90\xf4", 5); /* sti; nop; nop; nop */
	memcpy(t.mem + 0x20 * 4, (uint8_t[]){0x00, 0x20, 0, 0}, 4);
	tiny_enter(&t, TINY_REAL, FACE_BASE);
	tiny_call(&t, KVM_INTERRUPT, &irq);
	is_int(tiny_call(&t, KVM_SET_GUEST_DEBUG, &debug), 0, "%s: interrupts are held back", face->name);
	is_str(end_of(&t), "db 1001 4000", "%s: a step", face->name);
	is_str(end_of(&t), "db 1002 4000", "%s: and another", face->name);
	is_str(end_of(&t), "db 1003 4000", "%s: and another", face->name);
	debug.control = STEP;
	tiny_call(&t, KVM_SET_GUEST_DEBUG, &debug);
	t.mem[0x2000] = 0x90;
	is_str(end_of(&t), "db 2001 4000", "%s: then the interrupt comes", face->name);
	tiny_close(&t);
}

int main(void)
{
	const struct kvm_face *const faces[2] = {&kvm_host, &kvm_soft};

	for (unsigned f = 0; f < 2; f++) {
		if (!face_usable(faces[f]))
			continue;
		for (unsigned i = 0; i < ARRAY_SIZE(cases); i++)
			run_case(faces[f], &cases[i]);
		blocked(faces[f]);
	}
	return done_testing();
}

/* SPDX-License-Identifier: MIT */
/*
 * The KVM ABI on both engines: the same tiny guests, the same exits, the same registers.
 *
 * A guest's exits are compared with what the row says (face.h); the registers at its end are
 * compared with those of the other engine, if both open here. Interrupts and descriptors are
 * in face_wires_test.c, memory slots in face_memory_test.c, state in face_state_test.c.
 */
#include "face.h"

/* -- Guests and what they do ------------------------------------------------------------ */

/* clang-format off */
FACE_GUEST(real_add) FACE_GUEST(real_in) FACE_GUEST(real_string) FACE_GUEST(real_int)
FACE_GUEST(real_segment) FACE_GUEST(protected_mmio) FACE_GUEST(long_widths)
FACE_GUEST(long_rmw) FACE_GUEST(long_flags) FACE_GUEST(long_calls) FACE_GUEST(long_loop)
FACE_GUEST(long_smc) FACE_GUEST(user_math) FACE_GUEST(protected_ts) FACE_GUEST(long_wp)
FACE_GUEST(protected_aliases)
FACE_GUEST(long_tpr)
/* clang-format on */

static const struct guest_case {
	const char *name;
	enum tiny_mode mode;
	const uint8_t *code, *end;
	const char *exits;
} guests[] = {
	{"real mode adds", TINY_REAL, FACE_CODE(real_add), "out 10/1=2a hlt"},
	{"real mode reads ports", TINY_REAL, FACE_CODE(real_in),
	 "in 20/1 out 21/1=21 in 22/2 out 24/2=2322 in 30/4 out 30/4=33323130 hlt"},
	{"string port instructions", TINY_REAL, FACE_CODE(real_string),
	 "out 40/1=68 out 40/1=65 out 40/1=6c out 40/1=6c out 40/1=6f in 40/1 in 40/1 in 40/1 "
	 "out 41/1=40 hlt"},
	{"a real-mode interrupt", TINY_REAL, FACE_CODE(real_int), "out 10/1=9 hlt"},
	{"a real-mode segment", TINY_REAL, FACE_CODE(real_segment), "out 10/2=1234 hlt"},
	{"MMIO in protected mode", TINY_PROTECTED, FACE_CODE(protected_mmio),
	 "write 180000/4=11223344 read 180004/4 out 10/4=7060504 hlt"},
	{"MMIO of all widths", TINY_LONG, FACE_CODE(long_widths),
	 "write 180000/1=11 write 180002/2=2211 write 180004/4=44332211 "
	 "write 180008/8=8877665544332211 read 180000/1 read 180002/2 read 180004/4 "
	 "read 180008/8 hlt"},
	{"MMIO read and written by one instruction", TINY_LONG, FACE_CODE(long_rmw),
	 "read 180000/4 write 180000/4=3020103 hlt"},
	{"flags", TINY_LONG, FACE_CODE(long_flags), "hlt"},
	{"calls", TINY_LONG, FACE_CODE(long_calls), "hlt"},
	{"self-modifying code", TINY_LONG, FACE_CODE(long_smc),
	 "out 10/1=6 out 10/1=7 hlt"},
	{"indirect jumps to addresses 64 KiB apart", TINY_PROTECTED,
	 FACE_CODE(protected_aliases), "out 11/4=88b8 hlt"},
	{"CR0.TS between indirect jumps", TINY_PROTECTED, FACE_CODE(protected_ts),
	 "out 11/1=7 out 11/1=1 hlt"},
	{"CR0.WP between stores", TINY_LONG, FACE_CODE(long_wp), "out 11/1=1 out 11/1=1 hlt"},
	{"CR8 where the client has the local APIC", TINY_LONG, FACE_CODE(long_tpr),
	 "tpr 3 out 10/1=3 hlt"},
	{"ring 3", TINY_USER, FACE_CODE(user_math), "shutdown"},
};

/* -- Running one ------------------------------------------------------------------------ */

struct outcome {
	bool done;
	struct kvm_regs regs;
};

static void run_guest(const struct kvm_face *face, const struct guest_case *g,
		      struct outcome *out)
{
	struct err err = {0};
	struct face_log l = {.len = 0};
	struct tiny t;

	if (!ok(face_open(&t, face, false, &err) == 0, "%s: %s: %s", face->name,
		g->name, err.text[0] ? err.text : "a VM"))
		return;
	face_load(&t, g->code, g->end);
	is_int(tiny_enter(&t, g->mode, FACE_BASE), 0, "%s: %s: registers are set",
	       face->name, g->name);
	if (face_exits(face, face_run(&t, &l, NULL), &l, g->exits, g->name))
		out->done = tiny_call(&t, KVM_GET_REGS, &out->regs) == 0;
	tiny_close(&t);
}

static void compare(const struct guest_case *g, const struct outcome *a,
		    const struct outcome *b)
{
	const unsigned long long *ra = (const void *)&a->regs,
				 *rb = (const void *)&b->regs;
	static const char *const names[] = {
		"rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp", "r8",
		"r9",  "r10", "r11", "r12", "r13", "r14", "r15", "rip", "rflags",
	};

	/* A triple fault leaves RFLAGS in a state that no manual promises. */
	for (unsigned i = 0; i < ARRAY_SIZE(names) - (g->mode == TINY_USER); i++)
		if (ra[i] != rb[i])
			is_int(rb[i], ra[i], "%s: %s", g->name, names[i]);
	ok(true, "%s: registers compared between engines", g->name);
}

static void test_guests(const bool usable[2], const struct kvm_face *const faces[2])
{
	for (unsigned i = 0; i < ARRAY_SIZE(guests); i++) {
		struct outcome out[2] = {0};

		for (unsigned f = 0; f < 2; f++)
			if (usable[f])
				run_guest(faces[f], &guests[i], &out[f]);
		if (out[0].done && out[1].done)
			compare(&guests[i], &out[0], &out[1]);
	}
}

/* -- Interruption ----------------------------------------------------------------------- */

static void test_interruption(const struct kvm_face *face)
{
	struct kvm_regs regs = {0}, later = {0};
	struct err err = {0};
	struct tiny t;
	int rc;

	if (face_open(&t, face, false, &err) < 0)
		return;
	face_load(&t, guest_long_loop, guest_long_loop_end);
	tiny_enter(&t, TINY_LONG, FACE_BASE);

	t.run->immediate_exit = 1;
	is_int(tiny_call(&t, KVM_RUN, NULL), -EINTR, "%s: immediate_exit is immediate",
	       face->name);
	tiny_call(&t, KVM_GET_REGS, &regs);
	is_int(regs.rip, FACE_BASE, "%s: and nothing was executed", face->name);

	do { /* a busy host may give it no CPU in its time */
		rc = tiny_run(&t, 20);
		tiny_call(&t, KVM_GET_REGS, &regs);
	} while (rc == -ETIME && !regs.rcx);
	is_int(rc, -ETIME, "%s: an endless loop is interrupted", face->name);
	note("it ran %llu turns", regs.rcx);
	ok(regs.rip >= FACE_BASE && regs.rip < FACE_BASE + 8, "%s: it is still in its loop",
	   face->name);
	do {
		rc = tiny_run(&t, 20);
		tiny_call(&t, KVM_GET_REGS, &later);
	} while (rc == -ETIME && later.rcx == regs.rcx);
	is_int(rc, -ETIME, "%s: and can be again", face->name);
	ok(later.rcx > regs.rcx, "%s: it went on", face->name);
	tiny_close(&t);
}

/* An access that the client answered is completed before KVM_RUN heeds immediate_exit. */
static void test_completion(const struct kvm_face *face)
{
	struct kvm_regs regs = {0};
	struct err err = {0};
	struct tiny t;

	if (face_open(&t, face, false, &err) < 0)
		return;
	face_load(&t, guest_real_in, guest_real_in_end);
	tiny_enter(&t, TINY_REAL, FACE_BASE);
	is_int(tiny_run(&t, 0), 0, "%s: a port is read", face->name);
	*((uint8_t *)t.run + t.run->io.data_offset) = 0x77;
	t.run->immediate_exit = 1;
	is_int(tiny_call(&t, KVM_RUN, NULL), -EINTR, "%s: KVM_RUN with immediate_exit",
	       face->name);
	tiny_call(&t, KVM_GET_REGS, &regs);
	is_int(regs.rax & 0xff, 0x77, "%s: completes the instruction", face->name);
	is_int(regs.rip, FACE_BASE + 2, "%s: and no more", face->name);
	tiny_close(&t);
}

int main(void)
{
	const struct kvm_face *const faces[2] = {&kvm_host, &kvm_soft};
	bool usable[2];

	for (unsigned f = 0; f < 2; f++)
		usable[f] = face_usable(faces[f]);
	test_guests(usable, faces);
	for (unsigned f = 0; f < 2; f++) {
		if (!usable[f])
			continue;
		test_interruption(faces[f]);
		test_completion(faces[f]);
	}
	return done_testing();
}

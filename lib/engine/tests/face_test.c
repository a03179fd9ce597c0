/* SPDX-License-Identifier: MIT */
/*
 * The KVM ABI on both engines: the same tiny guests, the same exits, the same registers.
 *
 * A guest's exits are written down as text and compared with what the row says; the registers
 * at its end are compared with those of the other engine, if both open here. What the guest
 * reads from ports and MMIO is a function of the address, so it needs no script.
 *
 * A KVM that emulates ring 0 does not know every instruction; where it says so, the check is
 * skipped for it.
 */
#include "base/err.h"
#include "base/macros.h"
#include "engine/kvm.h"
#include "engine/tiny.h"
#include "tests/tap.h"

#include <errno.h>

#define BASE 0x1000
#define MEMORY MiB

/* -- Guests and what they do ------------------------------------------------------------ */

#define GUEST(name) extern const uint8_t guest_##name[], guest_##name##_end[];
/* clang-format off */
GUEST(real_add) GUEST(real_in) GUEST(real_string) GUEST(real_int) GUEST(real_segment)
GUEST(protected_mmio) GUEST(long_widths) GUEST(long_rmw) GUEST(long_flags)
GUEST(long_calls) GUEST(long_loop) GUEST(long_smc) GUEST(user_math)
/* clang-format on */
#undef GUEST
#define GUEST(name) .code = guest_##name, .end = guest_##name##_end

static const struct guest_case {
	const char *name;
	enum tiny_mode mode;
	const uint8_t *code, *end;
	const char *exits;
} guests[] = {
	{"real mode adds", TINY_REAL, GUEST(real_add), "out 10/1=2a hlt"},
	{"real mode reads ports", TINY_REAL, GUEST(real_in),
	 "in 20/1 out 21/1=21 in 22/2 out 24/2=2322 in 30/4 out 30/4=33323130 hlt"},
	{"string port instructions", TINY_REAL, GUEST(real_string),
	 "out 40/1=68 out 40/1=65 out 40/1=6c out 40/1=6c out 40/1=6f in 40/1 in 40/1 in 40/1 "
	 "out 41/1=40 hlt"},
	{"a real-mode interrupt", TINY_REAL, GUEST(real_int), "out 10/1=9 hlt"},
	{"a real-mode segment", TINY_REAL, GUEST(real_segment), "out 10/2=1234 hlt"},
	{"MMIO in protected mode", TINY_PROTECTED, GUEST(protected_mmio),
	 "write 180000/4=11223344 read 180004/4 out 10/4=7060504 hlt"},
	{"MMIO of all widths", TINY_LONG, GUEST(long_widths),
	 "write 180000/1=11 write 180002/2=2211 write 180004/4=44332211 "
	 "write 180008/8=8877665544332211 read 180000/1 read 180002/2 read 180004/4 "
	 "read 180008/8 hlt"},
	{"MMIO read and written by one instruction", TINY_LONG, GUEST(long_rmw),
	 "read 180000/4 write 180000/4=3020103 hlt"},
	{"flags", TINY_LONG, GUEST(long_flags), "hlt"},
	{"calls", TINY_LONG, GUEST(long_calls), "hlt"},
	{"self-modifying code", TINY_LONG, GUEST(long_smc),
	 "out 10/1=6 out 10/1=7 hlt"},
	{"ring 3", TINY_USER, GUEST(user_math), "shutdown"},
};

/* -- Running one ------------------------------------------------------------------------ */

struct log {
	char text[1024];
	size_t len;
};

__attribute__((format(printf, 2, 3)))
static void record(struct log *l, const char *fmt, ...)
{
	va_list ap;
	int n;

	if (l->len && l->len < sizeof(l->text) - 1)
		l->text[l->len++] = ' ';
	va_start(ap, fmt);
	n = vsnprintf(l->text + l->len, sizeof(l->text) - l->len, fmt, ap);
	va_end(ap);
	l->len += n > 0 ? (size_t)n : 0;
	if (l->len >= sizeof(l->text))
		l->len = sizeof(l->text) - 1;
}

/* Byte k of what is read from addr is the low byte of addr + k. */
static void give(uint8_t *data, uint64_t addr, unsigned width)
{
	for (unsigned k = 0; k < width; k++)
		data[k] = (uint8_t)(addr + k);
}

static unsigned long long number(const uint8_t *data, unsigned width)
{
	unsigned long long v = 0;

	memcpy(&v, data, width);
	return v;
}

static void note_io(struct log *l, struct kvm_run *run)
{
	uint8_t *data = (uint8_t *)run + run->io.data_offset;

	for (unsigned i = 0; i < run->io.count; i++, data += run->io.size) {
		if (run->io.direction == KVM_EXIT_IO_OUT) {
			record(l, "out %x/%u=%llx", run->io.port, run->io.size,
			     number(data, run->io.size));
		} else {
			give(data, run->io.port, run->io.size);
			record(l, "in %x/%u", run->io.port, run->io.size);
		}
	}
}

static void note_mmio(struct log *l, struct kvm_run *run)
{
	if (run->mmio.is_write) {
		record(l, "write %llx/%u=%llx", run->mmio.phys_addr, run->mmio.len,
		     number(run->mmio.data, run->mmio.len));
	} else {
		give(run->mmio.data, run->mmio.phys_addr, run->mmio.len);
		record(l, "read %llx/%u", run->mmio.phys_addr, run->mmio.len);
	}
}

/* To HLT, SHUTDOWN or something unknown; false if this KVM cannot emulate the guest. */
static bool run_to_end(struct tiny *t, struct log *l)
{
	for (;;) {
		int rc = tiny_run(t, 2000);

		if (rc < 0) {
			record(l, "%s", rc == -ETIME ? "stuck" : strerror(-rc));
			return true;
		}
		switch (t->run->exit_reason) {
		case KVM_EXIT_IO:
			note_io(l, t->run);
			break;
		case KVM_EXIT_MMIO:
			note_mmio(l, t->run);
			break;
		case KVM_EXIT_HLT:
			record(l, "hlt");
			return true;
		case KVM_EXIT_SHUTDOWN:
			record(l, "shutdown");
			return true;
		case KVM_EXIT_INTERNAL_ERROR:
			record(l, "error %u", t->run->internal.suberror);
			return t->run->internal.suberror !=
			       KVM_INTERNAL_ERROR_EMULATION;
		default:
			record(l, "exit %u", t->run->exit_reason);
			return true;
		}
	}
}

struct outcome {
	bool done;
	struct kvm_regs regs;
};

static void run_guest(const struct kvm_face *face, const struct guest_case *g,
		      struct outcome *out)
{
	struct err err = {0};
	struct log l = {.len = 0};
	struct tiny t;

	if (!ok(tiny_open(&t, face, MEMORY, &err) == 0, "%s: %s: %s", face->name,
		g->name, err.text[0] ? err.text : "a VM"))
		return;
	memcpy(t.mem + BASE, g->code, (size_t)(g->end - g->code));
	is_int(tiny_enter(&t, g->mode, BASE), 0, "%s: %s: registers are set",
	       face->name, g->name);
	if (!run_to_end(&t, &l)) {
		skip("%s cannot emulate: %s", face->name, g->name);
	} else {
		is_str(l.text, g->exits, "%s: %s: its exits", face->name, g->name);
		out->done = tiny_call(&t, KVM_GET_REGS, &out->regs) == 0;
	}
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

	if (tiny_open(&t, face, MEMORY, &err) < 0)
		return;
	memcpy(t.mem + BASE, guest_long_loop,
	       (size_t)(guest_long_loop_end - guest_long_loop));
	tiny_enter(&t, TINY_LONG, BASE);

	t.run->immediate_exit = 1;
	is_int(tiny_call(&t, KVM_RUN, NULL), -EINTR, "%s: immediate_exit is immediate",
	       face->name);
	tiny_call(&t, KVM_GET_REGS, &regs);
	is_int(regs.rip, BASE, "%s: and nothing was executed", face->name);

	is_int(tiny_run(&t, 20), -ETIME, "%s: an endless loop is interrupted",
	       face->name);
	tiny_call(&t, KVM_GET_REGS, &regs);
	ok(regs.rcx > 0, "%s: it ran %llu turns", face->name, regs.rcx);
	ok(regs.rip >= BASE && regs.rip < BASE + 8, "%s: it is still in its loop",
	   face->name);
	is_int(tiny_run(&t, 20), -ETIME, "%s: and can be again", face->name);
	tiny_call(&t, KVM_GET_REGS, &later);
	ok(later.rcx > regs.rcx, "%s: it went on", face->name);
	tiny_close(&t);
}

/* An access that the client answered is completed before KVM_RUN heeds immediate_exit. */
static void test_completion(const struct kvm_face *face)
{
	struct kvm_regs regs = {0};
	struct err err = {0};
	struct tiny t;

	if (tiny_open(&t, face, MEMORY, &err) < 0)
		return;
	memcpy(t.mem + BASE, guest_real_in,
	       (size_t)(guest_real_in_end - guest_real_in));
	tiny_enter(&t, TINY_REAL, BASE);
	is_int(tiny_run(&t, 100), 0, "%s: a port is read", face->name);
	*((uint8_t *)t.run + t.run->io.data_offset) = 0x77;
	t.run->immediate_exit = 1;
	is_int(tiny_call(&t, KVM_RUN, NULL), -EINTR, "%s: KVM_RUN with immediate_exit",
	       face->name);
	tiny_call(&t, KVM_GET_REGS, &regs);
	is_int(regs.rax & 0xff, 0x77, "%s: completes the instruction", face->name);
	is_int(regs.rip, BASE + 2, "%s: and no more", face->name);
	tiny_close(&t);
}

/* -- State: what is set is got ----------------------------------------------------------- */

static void trip_regs(struct tiny *t)
{
	struct kvm_regs a, b = {0};
	uint64_t *p = (uint64_t *)(void *)&a;

	for (unsigned i = 0; i < sizeof(a) / 8; i++)
		p[i] = UINT64_C(0x0123456789abcdef) * (i + 1);
	a.rip = 0x1234;
	a.rflags = 0xcd7;
	is_int(tiny_call(t, KVM_SET_REGS, &a), 0, "%s: KVM_SET_REGS", t->face->name);
	tiny_call(t, KVM_GET_REGS, &b);
	ok(memcmp(&a, &b, sizeof(a)) == 0, "%s: general registers", t->face->name);
}

static void trip_sregs(struct tiny *t)
{
	struct kvm_sregs a = {0}, b = {0};

	tiny_enter(t, TINY_LONG, BASE);
	tiny_call(t, KVM_GET_SREGS, &a);
	a.fs.base = 0x00007fff12345000;
	a.gs.base = 0xffff888012345000;
	a.gdt.base = 0xfffffe0000001000;
	a.gdt.limit = 0x7f;
	a.idt.base = 0xfffffe0000000000;
	a.idt.limit = 0xfff;
	a.cr2 = 0xffffffff81000000;
	is_int(tiny_call(t, KVM_SET_SREGS, &a), 0, "%s: KVM_SET_SREGS", t->face->name);
	tiny_call(t, KVM_GET_SREGS, &b);
	ok(memcmp(&a, &b, sizeof(a)) == 0, "%s: special registers", t->face->name);
	a.cr4 = 0; /* long mode without PAE is no state of an x86 */
	ok(tiny_call(t, KVM_SET_SREGS, &a) < 0, "%s: nonsense is refused",
	   t->face->name);
}

static void trip_fpu(struct tiny *t)
{
	struct kvm_fpu a = {.fcw = 0x27f, .mxcsr = 0x1fa0}, b = {0};

	for (unsigned i = 0; i < 16; i++)
		memset(a.xmm[i], (int)(0x10 + i), 16);
	for (unsigned i = 0; i < 8; i++)
		memset(a.fpr[i], (int)(0x40 + i), 10);
	is_int(tiny_call(t, KVM_SET_FPU, &a), 0, "%s: KVM_SET_FPU", t->face->name);
	tiny_call(t, KVM_GET_FPU, &b);
	ok(memcmp(a.xmm, b.xmm, sizeof(a.xmm)) == 0, "%s: vector registers",
	   t->face->name);
	ok(memcmp(a.fpr, b.fpr, sizeof(a.fpr)) == 0, "%s: x87 registers",
	   t->face->name);
	/* The kernel leaves MXCSR out of this structure; it goes with KVM_SET_XSAVE. */
	is_int(b.fcw, a.fcw, "%s: the control word", t->face->name);
}

static void trip_xsave(struct tiny *t)
{
	static struct kvm_xsave a, b;

	if (tiny_call(t, KVM_GET_XSAVE, &a) < 0) {
		skip("%s has no KVM_GET_XSAVE", t->face->name);
		return;
	}
	memset((uint8_t *)a.region + 160, 0x5c, 64); /* xmm0 to xmm3 */
	a.region[512 / 4] |= 3;                       /* XSTATE_BV: x87, SSE */
	is_int(tiny_call(t, KVM_SET_XSAVE, &a), 0, "%s: KVM_SET_XSAVE", t->face->name);
	tiny_call(t, KVM_GET_XSAVE, &b);
	ok(memcmp((uint8_t *)b.region + 160, (uint8_t *)a.region + 160, 64) == 0,
	   "%s: the XSAVE area", t->face->name);
}

static void trip_msrs(struct tiny *t)
{
	static const struct {
		uint32_t index;
		uint64_t value;
		const char *name;
	} msrs[] = {
		{0xc0000081, 0x0023001000000000, "STAR"},
		{0xc0000082, 0xffffffff81800000, "LSTAR"},
		{0xc0000084, 0x47700, "FMASK"},
		{0xc0000102, 0xffff888000000000, "KERNEL_GS_BASE"},
		{0x174, 0x10, "SYSENTER_CS"},
		{0x175, 0xfffffe0000002000, "SYSENTER_ESP"},
		{0x277, 0x0007040600070406, "PAT"},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(msrs); i++) {
		union {
			struct kvm_msrs head;
			uint8_t room[sizeof(struct kvm_msrs) +
				     sizeof(struct kvm_msr_entry)];
		} m = {.head.nmsrs = 1};

		m.head.entries[0].index = msrs[i].index;
		m.head.entries[0].data = msrs[i].value;
		is_int(tiny_call(t, KVM_SET_MSRS, &m), 1, "%s: %s is set",
		       t->face->name, msrs[i].name);
		m.head.entries[0].data = 0;
		is_int(tiny_call(t, KVM_GET_MSRS, &m), 1, "%s: %s is got",
		       t->face->name, msrs[i].name);
		ok(m.head.entries[0].data == msrs[i].value, "%s: %s is what it was",
		   t->face->name, msrs[i].name);
	}
}

static void trip_debugregs(struct tiny *t)
{
	struct kvm_debugregs a = {.db = {1, 2, 3, 4}, .dr6 = 0xffff0ff0, .dr7 = 0x400},
			     b = {0};

	is_int(tiny_call(t, KVM_SET_DEBUGREGS, &a), 0, "%s: KVM_SET_DEBUGREGS",
	       t->face->name);
	tiny_call(t, KVM_GET_DEBUGREGS, &b);
	ok(memcmp(a.db, b.db, sizeof(a.db)) == 0 && a.dr6 == b.dr6 && a.dr7 == b.dr7,
	   "%s: debug registers", t->face->name);
}

static void test_state(const struct kvm_face *face)
{
	struct err err = {0};
	struct tiny t;

	if (tiny_open(&t, face, MEMORY, &err) < 0)
		return;
	trip_regs(&t);
	trip_sregs(&t);
	trip_fpu(&t);
	trip_xsave(&t);
	trip_msrs(&t);
	trip_debugregs(&t);
	tiny_close(&t);
}

static bool can_use(const struct kvm_face *face)
{
	struct err err = {0};
	struct tiny t;

	if (tiny_open(&t, face, MEMORY, &err) < 0) {
		skip("engine %s: %s", face->name, err.text);
		return false;
	}
	tiny_close(&t);
	return true;
}

int main(void)
{
	const struct kvm_face *const faces[2] = {&kvm_host, &kvm_soft};
	bool usable[2];

	for (unsigned f = 0; f < 2; f++)
		usable[f] = can_use(faces[f]);
	test_guests(usable, faces);
	for (unsigned f = 0; f < 2; f++) {
		if (!usable[f])
			continue;
		test_interruption(faces[f]);
		test_completion(faces[f]);
		test_state(faces[f]);
	}
	return done_testing();
}

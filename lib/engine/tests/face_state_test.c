/* SPDX-License-Identifier: MIT */
/*
 * The state of a vCPU and of the chips in the ABI's structures, on both engines: what is set is
 * got, a guest that is stopped in the middle can be put into a second vCPU of its engine and go
 * on there, and so it can into one of the other engine.
 */
#include "face.h"

FACE_GUEST(user_mix)

/* -- What is set is got ------------------------------------------------------------------ */

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

	tiny_enter(t, TINY_LONG, FACE_BASE);
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

static void trip_xcrs(struct tiny *t)
{
	struct kvm_xcrs a = {.nr_xcrs = 1, .xcrs[0] = {.xcr = 0, .value = 3}}, b = {0};

	if (!kvm_has(t->face, t->vm, KVM_CAP_XCRS)) {
		skip("%s has no KVM_CAP_XCRS", t->face->name);
		return;
	}
	is_int(tiny_call(t, KVM_SET_XCRS, &a), 0, "%s: KVM_SET_XCRS", t->face->name);
	is_int(tiny_call(t, KVM_GET_XCRS, &b), 0, "%s: KVM_GET_XCRS", t->face->name);
	ok(b.nr_xcrs == 1 && b.xcrs[0].xcr == 0 && b.xcrs[0].value == 3, "%s: XCR0",
	   t->face->name);
	a.xcrs[0].value = 4; /* AVX without SSE */
	ok(tiny_call(t, KVM_SET_XCRS, &a) < 0, "%s: an XCR0 that no CPU has is refused",
	   t->face->name);
}

static void trip_events(struct tiny *t)
{
	struct kvm_vcpu_events a = {
		.exception = {.injected = 1, .nr = 14, .has_error_code = 1, .error_code = 6},
		.interrupt.shadow = KVM_X86_SHADOW_INT_STI,
		.nmi = {.pending = 1, .masked = 1},
		.flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW,
	}, b = {0};

	is_int(tiny_call(t, KVM_SET_VCPU_EVENTS, &a), 0, "%s: KVM_SET_VCPU_EVENTS",
	       t->face->name);
	is_int(tiny_call(t, KVM_GET_VCPU_EVENTS, &b), 0, "%s: KVM_GET_VCPU_EVENTS",
	       t->face->name);
	ok(b.exception.nr == 14 && b.exception.has_error_code &&
	   b.exception.error_code == 6, "%s: an exception on its way", t->face->name);
	ok(b.nmi.pending && b.nmi.masked, "%s: an NMI, and that they are masked",
	   t->face->name);
	is_int(b.interrupt.shadow, KVM_X86_SHADOW_INT_STI, "%s: the shadow of STI",
	       t->face->name);
	a = (struct kvm_vcpu_events){.flags = KVM_VCPUEVENT_VALID_NMI_PENDING |
					      KVM_VCPUEVENT_VALID_SHADOW};
	is_int(tiny_call(t, KVM_SET_VCPU_EVENTS, &a), 0, "%s: and nothing at all again",
	       t->face->name);
}

static void test_vcpu(const struct kvm_face *face)
{
	struct err err = {0};
	struct tiny t;

	if (face_open(&t, face, false, &err) < 0)
		return;
	trip_regs(&t);
	trip_sregs(&t);
	trip_fpu(&t);
	trip_xsave(&t);
	trip_xcrs(&t);
	trip_msrs(&t);
	trip_debugregs(&t);
	trip_events(&t);
	tiny_close(&t);
}

/* -- Chips ------------------------------------------------------------------------------- */

static void trip_mp_state(struct tiny *t)
{
	static const uint32_t states[] = {
		KVM_MP_STATE_HALTED, KVM_MP_STATE_INIT_RECEIVED, KVM_MP_STATE_RUNNABLE,
	};

	for (unsigned i = 0; i < ARRAY_SIZE(states); i++) {
		struct kvm_mp_state a = {.mp_state = states[i]}, b = {.mp_state = 99};

		is_int(tiny_call(t, KVM_SET_MP_STATE, &a), 0, "%s: MP state %u is set",
		       t->face->name, a.mp_state);
		tiny_call(t, KVM_GET_MP_STATE, &b);
		is_int(b.mp_state, a.mp_state, "%s: and got", t->face->name);
	}
}

static void trip_lapic(struct tiny *t)
{
	static const struct {
		unsigned at;
		uint32_t value;
		const char *name;
	} regs[] = {
		{0x80, 0x20, "TPR"},       {0xd0, 0x01000000, "LDR"}, {0xf0, 0x1ff, "SVR"},
		{0x110, 1u << 17, "ISR"},  {0x220, 1u << 5, "IRR"},   {0x350, 0x700, "LINT0"},
		{0x320, 0x20033, "timer"}, {0x3e0, 0xb, "divider"},
	};
	struct kvm_lapic_state a, b;
	uint32_t got;

	is_int(tiny_call(t, KVM_GET_LAPIC, &a), 0, "%s: KVM_GET_LAPIC", t->face->name);
	for (unsigned i = 0; i < ARRAY_SIZE(regs); i++)
		memcpy(a.regs + regs[i].at, &regs[i].value, 4);
	is_int(tiny_call(t, KVM_SET_LAPIC, &a), 0, "%s: KVM_SET_LAPIC", t->face->name);
	tiny_call(t, KVM_GET_LAPIC, &b);
	for (unsigned i = 0; i < ARRAY_SIZE(regs); i++) {
		memcpy(&got, b.regs + regs[i].at, 4);
		is_int(got, regs[i].value, "%s: the local APIC's %s", t->face->name,
		       regs[i].name);
	}
}

static void trip_irqchip(struct tiny *t)
{
	static struct kvm_irqchip a, b;

	a = (struct kvm_irqchip){.chip_id = KVM_IRQCHIP_PIC_SLAVE};
	is_int(face_vm_call(t, KVM_GET_IRQCHIP, &a), 0, "%s: a PIC is got", t->face->name);
	a.chip.pic.irq_base = 0x70;
	a.chip.pic.imr = 0x5a;
	is_int(face_vm_call(t, KVM_SET_IRQCHIP, &a), 0, "%s: and set", t->face->name);
	b.chip_id = a.chip_id;
	face_vm_call(t, KVM_GET_IRQCHIP, &b);
	ok(b.chip.pic.irq_base == 0x70 && b.chip.pic.imr == 0x5a, "%s: the PIC",
	   t->face->name);

	a = (struct kvm_irqchip){.chip_id = KVM_IRQCHIP_IOAPIC};
	is_int(face_vm_call(t, KVM_GET_IRQCHIP, &a), 0, "%s: the IOAPIC is got",
	       t->face->name);
	a.chip.ioapic.ioregsel = 0x12;
	a.chip.ioapic.redirtbl[7].bits = 0x0200000000018031; /* masked, level, to APIC 2 */
	is_int(face_vm_call(t, KVM_SET_IRQCHIP, &a), 0, "%s: and set", t->face->name);
	b = (struct kvm_irqchip){.chip_id = KVM_IRQCHIP_IOAPIC};
	face_vm_call(t, KVM_GET_IRQCHIP, &b);
	ok(b.chip.ioapic.ioregsel == 0x12 &&
	   b.chip.ioapic.redirtbl[7].bits == a.chip.ioapic.redirtbl[7].bits &&
	   b.chip.ioapic.base_address == 0xfec00000, "%s: the IOAPIC", t->face->name);
}

static void trip_pit(struct tiny *t)
{
	struct kvm_pit_state2 a = {0}, b = {0};

	is_int(face_vm_call(t, KVM_GET_PIT2, &a), 0, "%s: KVM_GET_PIT2", t->face->name);
	a.channels[2].count = 0x1234;
	a.channels[2].mode = 3;
	a.channels[2].gate = 1;
	is_int(face_vm_call(t, KVM_SET_PIT2, &a), 0, "%s: KVM_SET_PIT2", t->face->name);
	face_vm_call(t, KVM_GET_PIT2, &b);
	ok(b.channels[2].count == 0x1234 && b.channels[2].mode == 3 && b.channels[2].gate,
	   "%s: the timer chip", t->face->name);
}

static void trip_clock(struct tiny *t)
{
	struct kvm_clock_data a = {.clock = UINT64_C(5000000000000)}, b = {0};

	is_int(face_vm_call(t, KVM_SET_CLOCK, &a), 0, "%s: KVM_SET_CLOCK", t->face->name);
	face_vm_call(t, KVM_GET_CLOCK, &b);
	ok(b.clock >= a.clock && b.clock < a.clock + UINT64_C(10000000000),
	   "%s: the clock goes on from there", t->face->name);
	ok(tiny_call(t, KVM_GET_TSC_KHZ, NULL) > 100000, "%s: the TSC has a frequency",
	   t->face->name);
}

/* "You were stopped" stays in kvmclock's page until the guest takes it out, whatever else is
 * written there meanwhile. */
static void trip_stopped(struct tiny *t)
{
	enum { PAGE = 0x6000, FLAGS = PAGE + 29, STOPPED = 2 };
	static const uint8_t loop[] = {0xe6, FACE_KNOCK, 0xeb, 0xfc};
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry clock;
	} msrs = {{.nmsrs = 1}, {.index = 0x4b564d01, .data = PAGE | 1}};
	struct kvm_clock_data again = {.clock = 1000000000};

	memcpy(t->mem + FACE_BASE, loop, sizeof(loop));
	tiny_enter(t, TINY_LONG, FACE_BASE);
	is_int(tiny_call(t, KVM_SET_MSRS, &msrs), 1, "%s: a page for kvmclock", t->face->name);
	tiny_run(t, 0);
	is_int(t->mem[FLAGS] & STOPPED, 0, "%s: nobody was stopped", t->face->name);
	is_int(tiny_call(t, KVM_KVMCLOCK_CTRL, NULL), 0, "%s: KVM_KVMCLOCK_CTRL", t->face->name);
	tiny_run(t, 0);
	is_int(t->mem[FLAGS] & STOPPED, STOPPED, "%s: the guest is told", t->face->name);
	face_vm_call(t, KVM_SET_CLOCK, &again);
	tiny_run(t, 0);
	is_int(t->mem[FLAGS] & STOPPED, STOPPED, "%s: until it has looked", t->face->name);
	t->mem[FLAGS] &= (uint8_t)~STOPPED;
	face_vm_call(t, KVM_SET_CLOCK, &again);
	tiny_run(t, 0);
	is_int(t->mem[FLAGS] & STOPPED, 0, "%s: once", t->face->name);
}

static void test_chips(const struct kvm_face *face)
{
	struct err err = {0};
	struct tiny t;

	if (face_open(&t, face, true, &err) < 0)
		return;
	trip_lapic(&t);
	trip_mp_state(&t);
	trip_irqchip(&t);
	trip_pit(&t);
	trip_clock(&t);
	trip_stopped(&t);
	tiny_close(&t);
}

/* -- A guest moves ------------------------------------------------------------------------- */

/* All that makes a vCPU of these guests what it is. */
struct state {
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_xsave xsave;
	struct kvm_vcpu_events events;
	struct kvm_debugregs debug;
};

static bool take(struct tiny *t, struct state *s)
{
	return tiny_call(t, KVM_GET_REGS, &s->regs) == 0 &&
	       tiny_call(t, KVM_GET_SREGS, &s->sregs) == 0 &&
	       tiny_call(t, KVM_GET_XSAVE, &s->xsave) == 0 &&
	       tiny_call(t, KVM_GET_VCPU_EVENTS, &s->events) == 0 &&
	       tiny_call(t, KVM_GET_DEBUGREGS, &s->debug) == 0;
}

static bool put(struct tiny *t, struct state *s)
{
	return tiny_call(t, KVM_SET_SREGS, &s->sregs) == 0 &&
	       tiny_call(t, KVM_SET_REGS, &s->regs) == 0 &&
	       tiny_call(t, KVM_SET_XSAVE, &s->xsave) == 0 &&
	       tiny_call(t, KVM_SET_VCPU_EVENTS, &s->events) == 0 &&
	       tiny_call(t, KVM_SET_DEBUGREGS, &s->debug) == 0;
}

/* Completes the access that the client answered, as one does before state is read. */
static void complete(struct tiny *t)
{
	t->run->immediate_exit = 1;
	tiny_call(t, KVM_RUN, NULL);
	t->run->immediate_exit = 0;
}

/* Up to `exits` exits on one engine, the rest on the other. */
static bool run_and_move(const struct kvm_face *from, const struct kvm_face *to,
			 unsigned exits, struct state *end, struct face_log *log)
{
	static struct state s;
	struct err err = {0};
	struct tiny a, b;
	bool done = false;

	if (face_open(&a, from, false, &err) < 0)
		return false;
	if (face_open(&b, to, false, &err) < 0) {
		tiny_close(&a);
		return false;
	}
	face_load(&a, guest_user_mix, guest_user_mix_end);
	tiny_enter(&a, TINY_USER, FACE_BASE);
	while (exits-- && tiny_run(&a, 0) == 0 && a.run->exit_reason == KVM_EXIT_MMIO)
		face_mmio(&a, log);
	complete(&a);
	if (take(&a, &s)) {
		memcpy(b.mem, a.mem, a.mem_size);
		done = put(&b, &s) && face_run(&b, log, NULL) && take(&b, end);
	}
	tiny_close(&a);
	tiny_close(&b);
	return done;
}

static void compare(const struct state *a, const struct state *b, const char *what)
{
	ok(memcmp(&a->regs, &b->regs, sizeof(a->regs) - 8) == 0,
	   "%s: general registers are the same at the end", what);
	is_int(a->regs.rip, b->regs.rip, "%s: so is rip", what);
	/* xmm0 to xmm2; MXCSR, and what an untouched register holds, is not this test's. */
	ok(memcmp((const uint8_t *)a->xsave.region + 160,
		  (const uint8_t *)b->xsave.region + 160, 48) == 0,
	   "%s: vector registers are the same", what);
}

static void test_moves(const struct kvm_face *from, const struct kvm_face *to)
{
	static struct state whole, moved;

	for (unsigned exits = 0; exits <= 8; exits += 2) {
		struct face_log one = {.len = 0}, two = {.len = 0};
		char what[64];

		snprintf(what, sizeof(what), "from %s to %s after %u exits", from->name,
			 to->name, exits);
		if (!ok(run_and_move(to, to, 0, &whole, &one) &&
			run_and_move(from, to, exits, &moved, &two), "%s: it moves", what))
			continue;
		is_str(two.text, one.text, "%s: the same exits", what);
		compare(&moved, &whole, what);
	}
}

int main(void)
{
	const struct kvm_face *const faces[2] = {&kvm_host, &kvm_soft};
	bool usable[2];

	for (unsigned f = 0; f < 2; f++) {
		usable[f] = face_usable(faces[f]);
		if (!usable[f])
			continue;
		test_vcpu(faces[f]);
		test_chips(faces[f]);
		test_moves(faces[f], faces[f]);
	}
	if (usable[0] && usable[1]) {
		test_moves(faces[0], faces[1]);
		test_moves(faces[1], faces[0]);
	}
	return done_testing();
}

/* SPDX-License-Identifier: MIT */
/*
 * What goes into a guest and out of it beside ports and MMIO, on both engines: interrupts by
 * every way (the client's, PIC, IOAPIC, message, irqfd, the guest's own), NMI, doorbells
 * (ioeventfd), CPUID as the client set it, MSRs, a triple fault.
 *
 * A guest knocks when it is ready for what is to come (face.h); a row says what a knock does.
 */
#include "face.h"

#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* clang-format off */
FACE_GUEST(injected) FACE_GUEST(wired) FACE_GUEST(ended) FACE_GUEST(pic) FACE_GUEST(doorbell_port) FACE_GUEST(doorbell_memory)
FACE_GUEST(ioapic) FACE_GUEST(again) FACE_GUEST(message) FACE_GUEST(priority) FACE_GUEST(self)
FACE_GUEST(timer) FACE_GUEST(nmi) FACE_GUEST(cpuid) FACE_GUEST(msr) FACE_GUEST(triple)
/* clang-format on */

static int bell = -1, resample = -1; /* eventfds of the case that runs */

/* -- What a knock does --------------------------------------------------------------------- */

static void set_line(struct tiny *t, unsigned gsi, unsigned level)
{
	struct kvm_irq_level line = {.irq = gsi, .level = level};

	face_vm_call(t, KVM_IRQ_LINE, &line);
}

static void inject(struct tiny *t, unsigned what)
{
	struct kvm_interrupt irq = {.irq = 0x21};

	t->run->request_interrupt_window = what != 0xff;
	if (what == 0xff)
		tiny_call(t, KVM_INTERRUPT, &irq);
}

static void pulse_1(struct tiny *t, unsigned what)
{
	(void)what;
	set_line(t, 1, 1);
	set_line(t, 1, 0);
}

/* The first knock raises it, the second lowers it. */
static void line_5(struct tiny *t, unsigned what)
{
	set_line(t, 5, what == 1);
}

/* The first knock raises pin 5, the second pin 6. */
static void pins_up(struct tiny *t, unsigned what)
{
	set_line(t, 4 + what, 1);
}

static void send_31(struct tiny *t, unsigned what)
{
	struct kvm_msi msi = {.address_lo = 0xfee00000, .data = 0x31};

	(void)what;
	face_vm_call(t, KVM_SIGNAL_MSI, &msi);
}

static void *send_31_late(void *arg)
{
	usleep(5000); /* for the guest to fall asleep */
	send_31(arg, 0);
	return NULL;
}

static pthread_t helper;
static bool has_helper;

static void send_31_soon(struct tiny *t, unsigned what)
{
	(void)what;
	has_helper = pthread_create(&helper, NULL, send_31_late, t) == 0;
}

static void send_nmi(struct tiny *t, unsigned what)
{
	(void)what;
	tiny_call(t, KVM_NMI, NULL);
}

static void ring(struct tiny *t, unsigned what)
{
	uint64_t one = 1;

	(void)t;
	if (what == 1 && write(bell, &one, sizeof(one)) < 0)
		note("an eventfd refuses a write");
}

/* -- What there is before --------------------------------------------------------------------- */

/* As firmware leaves it: the PIC's interrupts pass the local APIC. */
static int open_lint0(struct tiny *t)
{
	struct kvm_lapic_state apic;
	uint32_t extint = 0x700;
	int rc = tiny_call(t, KVM_GET_LAPIC, &apic);

	memcpy(apic.regs + 0x350, &extint, sizeof(extint));
	return rc < 0 ? rc : tiny_call(t, KVM_SET_LAPIC, &apic);
}

/* Pin 5 of an IOAPIC of the client's: vector 0x30, as a level. Pin 6 sends an edge. */
static int pins(struct tiny *t)
{
	union {
		struct kvm_irq_routing head;
		uint8_t room[sizeof(struct kvm_irq_routing) + 2 * sizeof(struct kvm_irq_routing_entry)];
	} r = {.head.nr = 2};

	for (unsigned i = 0; i < 2; i++)
		r.head.entries[i] = (struct kvm_irq_routing_entry){
			.gsi = 5 + i, .type = KVM_IRQ_ROUTING_MSI,
			.u.msi = {.address_lo = 0xfee00000, .data = i ? 0x31 : 0x8030},
		};
	return face_vm_call(t, KVM_SET_GSI_ROUTING, &r);
}

static int irqfd_1(struct tiny *t)
{
	struct kvm_irqfd irqfd = {.fd = (uint32_t)bell, .gsi = 1};
	int rc = open_lint0(t);

	return rc < 0 ? rc : face_vm_call(t, KVM_IRQFD, &irqfd);
}

static int irqfd_5(struct tiny *t)
{
	struct kvm_irqfd irqfd = {
		.fd = (uint32_t)bell, .gsi = 5,
		.flags = KVM_IRQFD_FLAG_RESAMPLE,
		.resamplefd = (uint32_t)resample,
	};

	return face_vm_call(t, KVM_IRQFD, &irqfd);
}

static int bell_port(struct tiny *t)
{
	struct kvm_ioeventfd io = {
		.addr = 0x50, .len = 1, .fd = bell, .datamatch = 7,
		.flags = KVM_IOEVENTFD_FLAG_PIO | KVM_IOEVENTFD_FLAG_DATAMATCH,
	};

	return face_vm_call(t, KVM_IOEVENTFD, &io);
}

static int bell_memory(struct tiny *t)
{
	struct kvm_ioeventfd io = {.addr = 0x180000, .len = 4, .fd = bell};

	return face_vm_call(t, KVM_IOEVENTFD, &io);
}

static int set_cpuid(struct tiny *t)
{
	static const struct kvm_cpuid_entry2 leaves[] = {
		{.function = 0, .eax = 0xd, .ebx = 0x676f444c},
		{.function = 4, .index = 2, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
		 .eax = 0x143, .edx = 0x1357},
		{.function = 0x40000100, .ecx = 0xabcd},
	};
	union {
		struct kvm_cpuid2 head;
		uint8_t room[sizeof(struct kvm_cpuid2) + sizeof(leaves)];
	} table = {.head.nent = ARRAY_SIZE(leaves)};

	memcpy(table.head.entries, leaves, sizeof(leaves));
	return tiny_call(t, KVM_SET_CPUID2, &table);
}

/* -- The cases -------------------------------------------------------------------------------- */

static const struct wire_case {
	const char *name;
	enum tiny_mode mode;
	int chips;
	const uint8_t *code, *end;
	int (*before)(struct tiny *t);
	face_act *act;
	const char *exits;
	unsigned bell, resample; /* what the eventfds count at the end */
} cases[] = {
	{"the client injects when the window opens", TINY_REAL, false, FACE_CODE(injected),
	 .act = inject, .exits = "knock 1 out 12/1=1 window out 11/1=77 hlt"},
	{"the client's PIC, by the local APIC's LINT0", TINY_REAL, TINY_SPLIT, FACE_CODE(wired),
	 .before = open_lint0, .act = inject, .exits = "knock 1 out 12/1=1 window out 11/1=77 end"},
	{"a level and an edge of the client's IOAPIC", TINY_PROTECTED, TINY_SPLIT, FACE_CODE(ended), .before = pins,
	 .act = pins_up, .exits = "knock 1 out 11/1=1 eoi 30 out 12/1=1 knock 2 out 11/1=2 out 12/1=2 end"},
	{"a line through the PIC", TINY_REAL, true, FACE_CODE(pic), .before = open_lint0,
	 .act = pulse_1, .exits = "knock 1 out 11/1=77 end"},
	{"a level through the IOAPIC", TINY_PROTECTED, true, FACE_CODE(ioapic), .act = line_5,
	 .exits = "knock 1 out 11/1=c knock 2 out 11/1=8 end"},
	{"a level that stays comes again", TINY_PROTECTED, true, FACE_CODE(again),
	 .act = line_5,
	 .exits = "knock 1 out 11/1=1 out 11/1=2 out 11/1=3 knock 2 end"},
	{"a message", TINY_PROTECTED, true, FACE_CODE(message), .act = send_31,
	 .exits = "knock 1 out 11/1=31 end"},
	{"a message to a vCPU that sleeps", TINY_PROTECTED, true, FACE_CODE(message),
	 .act = send_31_soon, .exits = "knock 1 out 11/1=31 end"},
	{"a message below the task priority", TINY_PROTECTED, true, FACE_CODE(priority),
	 .act = send_31, .exits = "knock 1 out 12/1=1 out 11/1=31 out 12/1=2 end"},
	{"an interrupt to oneself", TINY_PROTECTED, true, FACE_CODE(self),
	 .exits = "out 11/1=32 end"},
	{"the local APIC's timer", TINY_PROTECTED, true, FACE_CODE(timer),
	 .exits = "out 11/1=33 out 12/1=0 end"},
	{"an NMI", TINY_PROTECTED, true, FACE_CODE(nmi), .act = send_nmi,
	 .exits = "knock 1 out 11/1=2 out 12/1=1 end"},
	{"an irqfd", TINY_REAL, true, FACE_CODE(pic), .before = irqfd_1, .act = ring,
	 .exits = "knock 1 out 11/1=77 end"},
	{"an irqfd that is sampled again", TINY_PROTECTED, true, FACE_CODE(ioapic),
	 .before = irqfd_5, .act = ring,
	 .exits = "knock 1 out 11/1=c knock 2 out 11/1=8 end", .resample = 1},
	{"a port as a doorbell", TINY_REAL, false, FACE_CODE(doorbell_port),
	 .before = bell_port, .exits = "out 50/1=8 out 50/2=7 hlt", .bell = 1},
	{"memory as a doorbell", TINY_PROTECTED, false, FACE_CODE(doorbell_memory),
	 .before = bell_memory, .exits = "write 180000/2=1 write 180004/4=3 hlt",
	 .bell = 2},
	{"CPUID", TINY_PROTECTED, true, FACE_CODE(cpuid), .before = set_cpuid,
	 .exits = "out 11/4=d out 11/4=676f444c out 12/4=abcd out 13/4=1357 end"},
	{"MSRs", TINY_PROTECTED, true, FACE_CODE(msr),
	 .exits = "out 11/4=12345678 out 11/4=ffff8880 out 13/1=0 out 12/4=5 end"},
	{"a triple fault", TINY_PROTECTED, true, FACE_CODE(triple),
	 .exits = "knock 1 shutdown"},
};

static unsigned drain(int fd)
{
	uint64_t count = 0;

	return read(fd, &count, sizeof(count)) == sizeof(count) ? (unsigned)count : 0;
}

static void check(struct tiny *t, const struct wire_case *c)
{
	const char *engine = t->face->name;
	struct face_log log = {.len = 0};
	bool ran;

	if (c->before)
		is_int(c->before(t), 0, "%s: %s: it is set up", engine, c->name);
	ran = face_run(t, &log, c->act);
	if (has_helper)
		pthread_join(helper, NULL);
	has_helper = false;
	if (!face_exits(t->face, ran, &log, c->exits, c->name))
		return;
	is_int(drain(resample), c->resample, "%s: %s: resample eventfd", engine, c->name);
	if (c->bell)
		is_int(drain(bell), c->bell, "%s: %s: the bell was rung", engine, c->name);
}

static void run_case(const struct kvm_face *face, const struct wire_case *c)
{
	struct err err = {0};
	struct tiny t;

	bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	resample = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (ok(face_open(&t, face, c->chips, &err) == 0, "%s: %s: %s", face->name, c->name,
	       err.text[0] ? err.text : "a VM")) {
		face_load(&t, c->code, c->end);
		is_int(tiny_enter(&t, c->mode, FACE_BASE), 0, "%s: %s: registers are set",
		       face->name, c->name);
		check(&t, c);
		tiny_close(&t);
	}
	close(bell);
	close(resample);
}

/* -- MSRs that go to the client ---------------------------------------------------------------- */

static void msr_exits(const struct kvm_face *face)
{
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_X86_USER_SPACE_MSR,
		.args[0] = KVM_MSR_EXIT_REASON_UNKNOWN,
	};
	struct err err = {0};
	struct tiny t;

	if (face_open(&t, face, true, &err) < 0)
		return;
	if (!kvm_has(face, t.vm, cap.cap)) {
		skip("%s has no KVM_CAP_X86_USER_SPACE_MSR", face->name);
		tiny_close(&t);
		return;
	}
	is_int(face_vm_call(&t, KVM_ENABLE_CAP, &cap), 0, "%s: MSR exits are enabled",
	       face->name);
	face_load(&t, guest_msr, guest_msr_end);
	tiny_enter(&t, TINY_PROTECTED, FACE_BASE);
	while (tiny_run(&t, 0) == 0 && t.run->exit_reason == KVM_EXIT_IO)
		;
	is_int(t.run->exit_reason, KVM_EXIT_X86_RDMSR, "%s: an unknown MSR is the client's",
	       face->name);
	is_int(t.run->msr.index, 0x12345, "%s: it says which", face->name);
	t.run->msr.data = 0x66;
	t.run->msr.error = 0;
	if (is_int(tiny_run(&t, 0), 0, "%s: it is answered", face->name))
		is_int(face_number((uint8_t *)t.run + t.run->io.data_offset, 4), 0x66,
		       "%s: the guest sees the answer", face->name);
	tiny_close(&t);
}

/* mov ecx, 0xc0000081 ; rdmsr ; out 11h, al ; wrmsr ; out 12h, al ; hlt */
static const uint8_t star[] = {0x66, 0xb9, 0x81, 0, 0, 0xc0, 0x0f, 0x32, 0xe6, 0x11, 0x0f, 0x30, 0xe6, 0x12, 0xf4};

/* Real mode's vector 13 leads to out 13h, al; hlt. */
static bool begin_filtered(struct tiny *t, const struct kvm_face *face, uint64_t reasons)
{
	uint8_t bitmap[8] = {0xfd}; /* all but the second */
	struct kvm_msr_filter filter = {.ranges[0] = {
		.flags = KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE, .nmsrs = 8, .base = 0xc0000080, .bitmap = bitmap}};
	struct kvm_enable_cap cap = {.cap = KVM_CAP_X86_USER_SPACE_MSR, .args[0] = reasons};
	struct err err = {0};

	if (face_open(t, face, false, &err) < 0)
		return false;
	is_int(face_vm_call(t, KVM_ENABLE_CAP, &cap), 0, "%s: reasons %llx", face->name, (unsigned long long)reasons);
	is_int(face_vm_call(t, KVM_X86_SET_MSR_FILTER, &filter), 0, "%s: STAR is filtered", face->name);
	face_load(t, star, star + sizeof(star));
	memcpy(t->mem + 0x1100, (uint8_t[]){0xe6, 0x13, 0xf4}, 3);
	memcpy(t->mem + 13 * 4, (uint8_t[]){0, 0x11, 0, 0}, 4);
	tiny_enter(t, TINY_REAL, FACE_BASE);
	return true;
}

static bool is_out(struct tiny *t, unsigned port, const char *name)
{
	return is_int(tiny_run(t, 0) < 0 || t->run->exit_reason != KVM_EXIT_IO ? 0 : t->run->io.port, port, "%s: %s", t->face->name, name);
}

static void filters(const struct kvm_face *face)
{
	struct kvm_msr_filter bad = {.flags = KVM_MSR_FILTER_DEFAULT_DENY};
	struct tiny t;

	if (face_half(face)[0] || !begin_filtered(&t, face, KVM_MSR_EXIT_REASON_FILTER))
		return;
	is_int(face_vm_call(&t, KVM_X86_SET_MSR_FILTER, &bad), -EINVAL, "%s: all denied", face->name);
	bad = (struct kvm_msr_filter){.ranges[3] = {.flags = 4, .nmsrs = 1, .bitmap = (uint8_t *)&bad}};
	is_int(face_vm_call(&t, KVM_X86_SET_MSR_FILTER, &bad), -EINVAL, "%s: an unknown kind of access", face->name);
	bad.ranges[3] = (struct kvm_msr_filter_range){.flags = 1, .nmsrs = 0xffffffff, .bitmap = (uint8_t *)&bad};
	is_int(face_vm_call(&t, KVM_X86_SET_MSR_FILTER, &bad), -EINVAL, "%s: all that there are", face->name);
	is_int(tiny_run(&t, 0), 0, "%s: a read", face->name);
	is_int(t.run->exit_reason, KVM_EXIT_X86_RDMSR, "%s: is told", face->name);
	is_int(t.run->msr.reason, KVM_MSR_EXIT_REASON_FILTER, "%s: with the reason", face->name);
	t.run->msr.data = 0x1234500000077;
	if (is_out(&t, 0x11, "is answered"))
		is_int(*((uint8_t *)t.run + t.run->io.data_offset), 0x77, "%s: by the client", face->name);
	is_int(tiny_run(&t, 0), 0, "%s: a write", face->name);
	is_int(t.run->exit_reason, KVM_EXIT_X86_WRMSR, "%s: is told", face->name);
	ok(t.run->msr.data == 0x1234500000077, "%s: with what is written", face->name);
	t.run->msr.error = 1;
	is_out(&t, 0x13, "and refused");
	tiny_close(&t);
	if (!begin_filtered(&t, face, 0))
		return;
	is_out(&t, 0x13, "nobody is asked");
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
		msr_exits(faces[f]);
		filters(faces[f]);
	}
	return done_testing();
}

/* SPDX-License-Identifier: MIT */
/*
 * What an engine refuses, and how: requests that make no sense, on a VM without interrupt
 * controllers and on one with them. Clients decide by these numbers, so softkvm's are the
 * kernel's. Source: the kernel's KVM API document; where that says nothing, the kernel.
 */
#include "face.h"

#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum on { SYSTEM, VM, VCPU };

/* An argument, and its size. */
#define STRUCT(type, ...) &(const type){__VA_ARGS__}, sizeof(type)
#define NUMBER(n)         KVM_ARG(n), 0

static const struct refusal {
	const char *name;
	enum on on;
	unsigned long request;
	const void *arg;
	size_t size;       /* of what arg points to; 0: arg is a number */
	int with, without; /* interrupt controllers; what comes back */
} refusals[] = {
	{"a VM of an unknown type", SYSTEM, KVM_CREATE_VM, NUMBER(99), -EINVAL, -EINVAL},
	{"an extension from the future", SYSTEM, KVM_CHECK_EXTENSION, NUMBER(99999), 0, 0},
	{"a list of CPUID that is too short", SYSTEM, KVM_GET_SUPPORTED_CPUID,
	 STRUCT(struct kvm_cpuid2, .nent = 1), -E2BIG, -E2BIG},
	{"a list of MSRs that is too short", SYSTEM, KVM_GET_MSR_INDEX_LIST,
	 STRUCT(struct kvm_msr_list, .nmsrs = 0), -E2BIG, -E2BIG},
	{"an unknown request to the system", SYSTEM, _IO(KVMIO, 0xff), NUMBER(0), -EINVAL, -EINVAL},

	{"the same vCPU again", VM, KVM_CREATE_VCPU, NUMBER(0), -EEXIST, -EEXIST},
	{"vCPU 100000", VM, KVM_CREATE_VCPU, NUMBER(100000), -EINVAL, -EINVAL},
	{"interrupt controllers behind vCPUs", VM, KVM_CREATE_IRQCHIP, NUMBER(0), -EEXIST, -EINVAL},
	{"a timer chip", VM, KVM_CREATE_PIT2, STRUCT(struct kvm_pit_config, .flags = 0), -EEXIST,
	 -ENOENT},
	{"the state of a PIC", VM, KVM_GET_IRQCHIP, STRUCT(struct kvm_irqchip, .chip_id = 0), 0,
	 -ENXIO},
	{"the state of chip 7", VM, KVM_GET_IRQCHIP, STRUCT(struct kvm_irqchip, .chip_id = 7),
	 -EINVAL, -ENXIO},
	{"the state of the timer", VM, KVM_GET_PIT2, STRUCT(struct kvm_pit_state2, .flags = 0), 0,
	 -ENXIO},
	{"a line", VM, KVM_IRQ_LINE, STRUCT(struct kvm_irq_level, .irq = 3), 0, -ENXIO},
	{"a message", VM, KVM_SIGNAL_MSI, STRUCT(struct kvm_msi, .address_lo = 0xfee0f000), 0,
	 -EINVAL},
	{"a message with unknown flags", VM, KVM_SIGNAL_MSI, STRUCT(struct kvm_msi, .flags = 0x80),
	 -EINVAL, -EINVAL},
	{"an irqfd of no descriptor", VM, KVM_IRQFD, STRUCT(struct kvm_irqfd, .fd = 9999),
	 -EBADF, -EINVAL},
	{"a doorbell of three bytes", VM, KVM_IOEVENTFD, STRUCT(struct kvm_ioeventfd, .len = 3),
	 -EINVAL, -EINVAL},
	{"a doorbell with unknown flags", VM, KVM_IOEVENTFD,
	 STRUCT(struct kvm_ioeventfd, .len = 4, .flags = 0x800), -EINVAL, -EINVAL},
	{"the boot CPU behind vCPUs", VM, KVM_SET_BOOT_CPU_ID, NUMBER(0), -EBUSY, -EBUSY},
	{"a TSS at the end of 4 GiB", VM, KVM_SET_TSS_ADDR, NUMBER(0xffffffff), -EINVAL,
	 -EINVAL},
	{"the log of a slot without one", VM, KVM_GET_DIRTY_LOG,
	 STRUCT(struct kvm_dirty_log, .slot = 0), -ENOENT, -ENOENT},
	{"the log of slot 77777", VM, KVM_GET_DIRTY_LOG,
	 STRUCT(struct kvm_dirty_log, .slot = 77777), -EINVAL, -EINVAL},
	{"a capability that needs no enabling", VM, KVM_ENABLE_CAP,
	 STRUCT(struct kvm_enable_cap, .cap = KVM_CAP_HLT), -EINVAL, -EINVAL},
	{"the rest of the shadow page tables", VM, KVM_SET_NR_MMU_PAGES, NUMBER(63), -EINVAL, -EINVAL},
	{"some more of them", VM, KVM_SET_NR_MMU_PAGES, NUMBER(64), 0, 0},
	{"MSR exits for unknown reasons", VM, KVM_ENABLE_CAP,
	 STRUCT(struct kvm_enable_cap, .cap = KVM_CAP_X86_USER_SPACE_MSR, .args = {1 << 30}), -EINVAL, -EINVAL},
	{"an unknown request to a VM", VM, _IO(KVMIO, 0xff), NUMBER(0), -ENOTTY, -ENOTTY},

	{"the local APIC", VCPU, KVM_GET_LAPIC, STRUCT(struct kvm_lapic_state, {0}), 0, -EINVAL},
	{"an interrupt by hand", VCPU, KVM_INTERRUPT, STRUCT(struct kvm_interrupt, .irq = 32),
	 -ENXIO, 0},
	{"interrupt 256", VCPU, KVM_INTERRUPT, STRUCT(struct kvm_interrupt, .irq = 256), -EINVAL,
	 -EINVAL},
	{"an MP state that does not exist", VCPU, KVM_SET_MP_STATE,
	 STRUCT(struct kvm_mp_state, .mp_state = 77), -EINVAL, -EINVAL},
	{"events with unknown flags", VCPU, KVM_SET_VCPU_EVENTS,
	 STRUCT(struct kvm_vcpu_events, .flags = 0x80000000), -EINVAL, -EINVAL},
	{"exception 32", VCPU, KVM_SET_VCPU_EVENTS,
	 STRUCT(struct kvm_vcpu_events, .exception = {.injected = 1, .nr = 32}), -EINVAL, -EINVAL},
	{"an NMI as an exception", VCPU, KVM_SET_VCPU_EVENTS,
	 STRUCT(struct kvm_vcpu_events, .exception = {.injected = 1, .nr = 2}), -EINVAL, -EINVAL},
	{"DR7 with an upper half", VCPU, KVM_SET_DEBUGREGS,
	 STRUCT(struct kvm_debugregs, .dr6 = 0xffff0ff0, .dr7 = 1ull << 32), -EINVAL, -EINVAL},
	{"debug registers with flags", VCPU, KVM_SET_DEBUGREGS,
	 STRUCT(struct kvm_debugregs, .dr6 = 0xffff0ff0, .dr7 = 0x400, .flags = 1), -EINVAL,
	 -EINVAL},
	{"seventeen XCRs", VCPU, KVM_SET_XCRS, STRUCT(struct kvm_xcrs, .nr_xcrs = 17), -EINVAL,
	 -EINVAL},
	{"XCRs with flags", VCPU, KVM_SET_XCRS, STRUCT(struct kvm_xcrs, .flags = 1), -EINVAL,
	 -EINVAL},
	{"300 leaves of CPUID", VCPU, KVM_SET_CPUID2, STRUCT(struct kvm_cpuid2, .nent = 300),
	 -E2BIG, -E2BIG},
	{"a signal mask of three bytes", VCPU, KVM_SET_SIGNAL_MASK,
	 STRUCT(struct kvm_signal_mask, .len = 3), -EINVAL, -EINVAL},
	{"a TSC of no frequency that can be", VCPU, KVM_SET_TSC_KHZ, NUMBER(1), -EINVAL,
	 -EINVAL},
	{"an unknown request to a vCPU", VCPU, _IO(KVMIO, 0xff), NUMBER(0), -EINVAL, -EINVAL},
};

/* With a copy of the argument, which some requests write to. */
static int ask(struct tiny *t, const struct refusal *r)
{
	static uint8_t copy[65536];
	int fd = r->on == SYSTEM ? t->sys : r->on == VM ? t->vm : t->vcpu;

	if (!r->size)
		return t->face->ioctl(fd, r->request, (void *)(uintptr_t)r->arg);
	memset(copy, 0, sizeof(copy));
	memcpy(copy, r->arg, r->size);
	return t->face->ioctl(fd, r->request, copy);
}

static void check(struct tiny *t, const struct refusal *r, bool chips)
{
	int want = chips ? r->with : r->without, got = ask(t, r);
	const char *half = face_half(t->face);

	if (want == 0 && got > 0)
		got = 0; /* a line says how many took it */
	if (half[0] && got != want)
		skip("%s: %s%s: no measure here (%s): %d, not %d", t->face->name, r->name,
		     chips ? ", with chips" : "", half, got, want);
	else
		is_int(got, want, "%s: %s%s", t->face->name, r->name,
		       chips ? ", with chips" : "");
}

/* -- More than one request ----------------------------------------------------------------- */

/* An MSR that nobody knows ends the list: how many before it were done. */
static void msr_lists(struct tiny *t)
{
	union {
		struct kvm_msrs head;
		uint8_t room[sizeof(struct kvm_msrs) + 3 * sizeof(struct kvm_msr_entry)];
	} m = {.head.nmsrs = 3};

	m.head.entries[0].index = 0xc0000081;
	m.head.entries[1].index = 0x12345;
	m.head.entries[2].index = 0xc0000082;
	is_int(tiny_call(t, KVM_GET_MSRS, &m), 1, "%s: MSRs are got up to an unknown one",
	       t->face->name);
	is_int(tiny_call(t, KVM_SET_MSRS, &m), 1, "%s: and set", t->face->name);
}

/* After its first instruction a vCPU stays the CPU that it is. */
static void late_cpuid(struct tiny *t)
{
	union {
		struct kvm_cpuid2 head;
		uint8_t room[sizeof(struct kvm_cpuid2) + 256 * sizeof(struct kvm_cpuid_entry2)];
	} list = {.head.nent = 256};
	const char *engine = t->face->name;

	is_int(tiny_call(t, KVM_GET_CPUID2, &list), 0, "%s: CPUID is told", engine);
	is_int(tiny_call(t, KVM_SET_CPUID2, &list), 0, "%s: and taken", engine);
	memcpy(t->mem + 0x1000, "\xe6\x80", 2); /* out 0x80, al */
	tiny_enter(t, TINY_REAL, 0x1000);
	is_int(tiny_run(t, 0), 0, "%s: an instruction", engine);
	is_int(tiny_call(t, KVM_SET_CPUID2, &list), 0, "%s: the same CPUID, later", engine);
	list.head.entries[0].ebx ^= 1;
	is_int(tiny_call(t, KVM_SET_CPUID2, &list), -EINVAL, "%s: another", engine);
}

static void doorbells(struct tiny *t)
{
	struct kvm_ioeventfd io = {.addr = 0x180000, .len = 4};
	const char *engine = t->face->name;

	io.fd = eventfd(0, EFD_CLOEXEC);
	is_int(face_vm_call(t, KVM_IOEVENTFD, &io), 0, "%s: a doorbell", engine);
	is_int(face_vm_call(t, KVM_IOEVENTFD, &io), -EEXIST, "%s: the same again", engine);
	io.flags = KVM_IOEVENTFD_FLAG_DEASSIGN;
	is_int(face_vm_call(t, KVM_IOEVENTFD, &io), 0, "%s: it is taken away", engine);
	is_int(face_vm_call(t, KVM_IOEVENTFD, &io), -ENOENT, "%s: there is no such", engine);
	close(io.fd);
}

static void routes(struct tiny *t)
{
	union {
		struct kvm_irq_routing head;
		uint8_t room[sizeof(struct kvm_irq_routing) +
			     sizeof(struct kvm_irq_routing_entry)];
	} r = {.head.nr = 1};
	const char *engine = t->face->name;

	r.head.entries[0] = (struct kvm_irq_routing_entry){
		.gsi = 5, .type = KVM_IRQ_ROUTING_IRQCHIP,
		.u.irqchip = {.irqchip = KVM_IRQCHIP_IOAPIC, .pin = 24},
	};
	is_int(face_vm_call(t, KVM_SET_GSI_ROUTING, &r), -EINVAL, "%s: pin 24 of the IOAPIC",
	       engine);
	r.head.entries[0].u.irqchip.pin = 5;
	r.head.entries[0].type = 99;
	is_int(face_vm_call(t, KVM_SET_GSI_ROUTING, &r), -EINVAL, "%s: a route of no kind",
	       engine);
	r.head.entries[0].type = KVM_IRQ_ROUTING_IRQCHIP;
	r.head.flags = 1;
	is_int(face_vm_call(t, KVM_SET_GSI_ROUTING, &r), -EINVAL, "%s: routing with flags",
	       engine);
	r.head.flags = 0;
	is_int(face_vm_call(t, KVM_SET_GSI_ROUTING, &r), 0, "%s: a good one", engine);
}

/* A client may say how many ids it will use, once; since Linux 6.0. */
static void ids(struct tiny *t)
{
	struct kvm_enable_cap cap = {.cap = KVM_CAP_MAX_VCPU_ID, .args = {1 << 20}};

	if (t->face != &kvm_soft)
		return;
	is_int(face_vm_call(t, KVM_ENABLE_CAP, &cap), -EINVAL, "%s: a million ids", t->face->name);
	cap.args[0] = 7;
	is_int(face_vm_call(t, KVM_ENABLE_CAP, &cap), 0, "%s: 7 ids", t->face->name);
	cap.args[0] = 8;
	is_int(face_vm_call(t, KVM_ENABLE_CAP, &cap), -EINVAL, "%s: 8 after all", t->face->name);
	is_int(face_vm_call(t, KVM_CREATE_VCPU, (void *)7), -EINVAL, "%s: vCPU 7", t->face->name);
}

static void test_face(const struct kvm_face *face, bool chips)
{
	struct err err = {0};
	struct tiny t;

	if (face_open(&t, face, chips, &err) < 0)
		return;
	for (unsigned i = 0; i < ARRAY_SIZE(refusals); i++)
		check(&t, &refusals[i], chips);
	msr_lists(&t);
	late_cpuid(&t);
	doorbells(&t);
	ids(&t);
	if (chips)
		routes(&t);
	tiny_close(&t);
}

/* What goes to which half of the controllers, where they are in two. */
static void split(const struct kvm_face *face)
{
	const struct refusal rows[] = {
		{"a line of no pin", VM, KVM_IRQ_LINE, STRUCT(struct kvm_irq_level, .irq = 3), 0, 0},
		{"the state of a PIC", VM, KVM_GET_IRQCHIP, STRUCT(struct kvm_irqchip, .chip_id = 0), -ENXIO, 0},
		{"interrupt controllers besides", VM, KVM_CREATE_IRQCHIP, NUMBER(0), -EEXIST, 0},
		{"half of them again", VM, KVM_ENABLE_CAP,
		 STRUCT(struct kvm_enable_cap, .cap = KVM_CAP_SPLIT_IRQCHIP, .args = {24}), -EEXIST, 0},
		{"5000 pins", VM, KVM_ENABLE_CAP,
		 STRUCT(struct kvm_enable_cap, .cap = KVM_CAP_SPLIT_IRQCHIP, .args = {5000}), -EINVAL, 0},
		{"a timer chip", VM, KVM_CREATE_PIT2, STRUCT(struct kvm_pit_config, .flags = 0), -ENOENT, 0},
		{"the state of the timer", VM, KVM_GET_PIT2, STRUCT(struct kvm_pit_state2, .flags = 0), -ENXIO, 0},
		{"the local APIC", VCPU, KVM_GET_LAPIC, STRUCT(struct kvm_lapic_state, {0}), 0, 0},
		{"an interrupt by hand", VCPU, KVM_INTERRUPT, STRUCT(struct kvm_interrupt, .irq = 32), 0, 0},
		{"another before it is taken", VCPU, KVM_INTERRUPT, STRUCT(struct kvm_interrupt, .irq = 33), -EEXIST, 0},
	};
	struct kvm_irqfd sampled = {.gsi = 5, .flags = KVM_IRQFD_FLAG_RESAMPLE};
	union {
		struct kvm_irq_routing head;
		uint8_t room[sizeof(struct kvm_irq_routing) + sizeof(struct kvm_irq_routing_entry)];
	} r = {.head.nr = 1};
	struct err err = {0};
	struct tiny t;

	if (face_open(&t, face, TINY_SPLIT, &err) < 0) {
		skip("%s: %s", face->name, err.text);
		return;
	}
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++)
		check(&t, &rows[i], true);
	r.head.entries[0] = (struct kvm_irq_routing_entry){.gsi = 5, .type = KVM_IRQ_ROUTING_IRQCHIP};
	is_int(face_vm_call(&t, KVM_SET_GSI_ROUTING, &r), -EINVAL, "%s: a pin of no chip", face->name);
	sampled.fd = sampled.resamplefd = (uint32_t)eventfd(0, EFD_CLOEXEC);
	is_int(face_vm_call(&t, KVM_IRQFD, &sampled), -EINVAL, "%s: an irqfd that is sampled again", face->name);
	close((int)sampled.fd);
	tiny_close(&t);
}

int main(void)
{
	const struct kvm_face *const faces[2] = {&kvm_host, &kvm_soft};

	for (unsigned f = 0; f < 2; f++) {
		if (!face_usable(faces[f]))
			continue;
		test_face(faces[f], false);
		test_face(faces[f], true);
		split(faces[f]);
	}
	return done_testing();
}

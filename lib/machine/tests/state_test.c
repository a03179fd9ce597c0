/* SPDX-License-Identifier: MIT */
/*
 * The state that an engine has, by its tables, on each engine that opens here: each bit of each field of a vCPU and
 * of a VM, flipped, is there again after it was loaded, or refused with a sentence, or in the list below.
 *
 *	machine_state_test DIRECTORY            where the frozen sections are: lib/machine/tests/frozen
 *	machine_state_test --freeze DIRECTORY   writes those that are missing
 */
#include "base/err.h"
#include "base/macros.h"
#include "engine/kvm.h"
#include "machine/boot/boot.h"
#include "machine/cpu/cpu.h"
#include "machine/cpu/table.h"
#include "machine/saved/parts.h"
#include "machine/vcpu.h"
#include "machine/vm.h"
#include "state/tests/fields.h"
#include "state/tests/frozen.h"
#include "tests/tap.h"

#include <fnmatch.h>
#include <unistd.h>

static uint8_t ram[1 << 20] __attribute__((aligned(4096)));
static struct guest_mem mem;

struct computer {
	struct vm vm;
	struct vcpu vcpu;
};

/* -- Making one -------------------------------------------------------------------- */

static bool make(struct computer *c, const struct kvm_face *face, const char *cpu, bool is_long)
{
	const struct boot_entry entry = {
		.mode = BOOT_LONG, .rip = 0x123456, .info = 0x7000, .protocol = "none"};
	struct cpu_table table;
	struct cpu_model model;
	struct err err = {0};

	*c = (struct computer){.vm = {.sys = -1, .fd = -1}, .vcpu.fd = -1};
	if (vm_engine_open(&c->vm, face, &err) < 0 || vm_open(&c->vm, &mem, 0xfffbc000, &err) < 0 ||
	    cpu_model_parse(&model, cpu, &err) < 0 ||
	    cpu_table_offered(face, c->vm.sys, &table, &err) < 0 ||
	    cpu_model_apply(&model, 36, face->name, &table, &err) < 0 ||
	    vcpu_open(&c->vcpu, NULL, &c->vm, 0, 1, &table, &err) < 0 ||
	    (is_long && vcpu_set_entry(&c->vcpu, &entry, &err) < 0))
		return ok(false, "%s: a VM: %s", face->name, err.text);
	return true;
}

static void unmake(struct computer *c)
{
	vcpu_close(&c->vcpu);
	vm_close(&c->vm);
	vm_engine_close(&c->vm);
}

/* -- What is not taken as it is ---------------------------------------------------- */

/* Fields of which bits, so many at most in all, are neither kept nor refused by softkvm. */
static const struct {
	const char *section, *field;
	uint32_t msr; /* of `value` */
	unsigned bits;
	const char *why;
} normalised[] = {
	{"vcpu0", "regs.rflags", 0, 46, "bits that are no flags; bit 1 is always set"},
	{"vcpu0", "sregs.*.type", 0, 8 * 4, "4 bits, in each of 8 segments"},
	{"vcpu0", "sregs.*.dpl", 0, 8 * 6, "2 bits"},
	{"vcpu0", "sregs.*.present", 0, 8 * 7, "a bit"},
	{"vcpu0", "sregs.*.db", 0, 8 * 7, "a bit"},
	{"vcpu0", "sregs.*.s", 0, 8 * 7, "a bit"},
	{"vcpu0", "sregs.*.l", 0, 8 * 7, "a bit"},
	{"vcpu0", "sregs.*.g", 0, 8 * 7, "a bit"},
	{"vcpu0", "sregs.*.avl", 0, 8 * 7, "a bit"},
	{"vcpu0", "sregs.*.unusable", 0, 8 * 7, "a bit"},
	{"vcpu0", "sregs.cr0", 0, 1, "so is ET"},
	{"vcpu0", "sregs.cr8", 0, 64, "the local APIC's page has the same, and comes after it"},
	{"vcpu0", "sregs.interrupt_bitmap", 0, 256, "the events have the same, and come after it"},
	{"vcpu0", "events.exception.injected", 0, 7, "a bool"},
	{"vcpu0", "events.exception.nr", 0, 8, "of an exception that is not there"},
	{"vcpu0", "events.exception.has_error_code", 0, 8, "the same"},
	{"vcpu0", "events.exception.error_code", 0, 32, "the same"},
	{"vcpu0", "events.interrupt.injected", 0, 7, "a bool"},
	{"vcpu0", "events.interrupt.soft", 0, 7, "a bool"},
	{"vcpu0", "events.interrupt.shadow", 0, 6, "by STI, by MOV SS"},
	{"vcpu0", "events.nmi.injected", 0, 8, "it is pending again: test_nmi()"},
	{"vcpu0", "events.nmi.pending", 0, 6, "there can be two"},
	{"vcpu0", "events.nmi.masked", 0, 7, "a bool"},
	{"vcpu0", "events.sipi_vector", 0, 24, "a vector has 8 bits"},
	{"vcpu0", "events.flags", 0, 32, "what of the events is meant, and no state"},
	{"vcpu0", "mp.mp_state", 0, 1, "a SIPI that was received is served at once"},
	{"vcpu0", "lapic.regs", 0, 6496, "4 of each 16 bytes are a register; three are computed"},
	{"vcpu0", "xsave.region", 0, 450, "the mask of MXCSR is the host's, the rest is reserved"},
	{"vcpu0", "tsc_khz", 0, 10, "so much the clocks of two computers of a kind differ"},
	{"vcpu0", "msr", 0, 64 * 54, "the list is the engine's: another MSR is set, or is 0 already"},
	{"vcpu0", "value", 0x10, 64, "the TSC goes on: test_time()"},
	{"vcpu0", "value", 0x11, 64, "the older name of 0x4b564d00, which comes after it"},
	{"vcpu0", "value", 0x12, 64, "the older name of 0x4b564d01"},
	{"vcpu0", "value", 0x6e0, 64, "nothing, while the timer is in another mode: test_timer()"},
	{"vcpu0", "value", 0xc0000084, 32, "flags have 32 bits"},
	{"vcpu0", "value", 0xc0010015, 64, "settings of AMD's that nothing depends on"},
	{"vcpu0", "value", 0xc0011029, 64, "the same"},
	{"vm/chips", "pic.0.chip.pic.irr", 0, 1, "the second controller's line, which follows from its state"},
	{"vm/chips", "pic.0.chip.pic.priority_add", 0, 5, "3 bits"},
	{"vm/chips", "pic.1.chip.pic.priority_add", 0, 5, "3 bits"},
	{"vm/chips", "pic.0.chip.pic.elcr_mask", 0, 8, "a constant"},
	{"vm/chips", "pic.1.chip.pic.elcr_mask", 0, 8, "a constant"},
	{"vm/chips", "ioapic.chip.ioapic.irr", 0, 8, "24 inputs"},
	{"vm/chips", "ioapic.chip.ioapic.ioregsel", 0, 24, "8 bits"},
	{"vm/chips", "ioapic.chip.ioapic.id", 0, 28, "4 bits"},
	{"vm/chips", "ioapic.chip.ioapic.base_address", 0, 64, "a constant"},
	{"vm/chips", "redirtbl", 0, 24 * 40, "39 bits of an entry are reserved, one is not stored"},
	{"vm/chips", "pit.flags", 0, 31, "one flag"},
	{"vm/clock", "kvmclock", 0, 64, "it goes on: test_time()"},
	{"vm/clock", "date", 0, 64, "it is today's"},
};

/* The MSR that belongs to an element of `value`; 0 for other fields. */
static uint32_t msr_of(const struct state_out *state, const struct field *of, size_t element)
{
	struct field f = {0};

	if (strcmp(of->name, "value") != 0)
		return 0;
	while (next_field(state->bytes, state->len, &f))
		if (!strcmp(f.name, "msr") && element < f.count)
			return le32_get(f.data + element * 4);
	return 0;
}

/* Its number among these, or -1. */
static int find_normalised(const struct field *f, uint32_t msr)
{
	for (size_t i = 0; i < ARRAY_SIZE(normalised); i++)
		if (!strcmp(f->section, normalised[i].section) && fnmatch(normalised[i].field, f->name, 0) == 0 &&
		    normalised[i].msr == msr)
			return (int)i;
	return -1;
}

/* -- Flipping ---------------------------------------------------------------------- */

struct part {
	const char *name;
	int (*save)(const struct computer *c, struct state_out *out, struct err *err);
	int (*load)(const struct computer *c, const struct state_in *in, struct err *err);
};

static int save_vcpu(const struct computer *c, struct state_out *out, struct err *err)
{
	return vcpu_save(&c->vcpu, out, err);
}

static int load_vcpu(const struct computer *c, const struct state_in *in, struct err *err)
{
	return vcpu_load(&c->vcpu, in, 0, err);
}

static int save_vm(const struct computer *c, struct state_out *out, struct err *err)
{
	return vm_save(&c->vm, out, err);
}

static int load_vm(const struct computer *c, const struct state_in *in, struct err *err)
{
	return vm_load(&c->vm, in, err);
}

static const struct part parts[] = {
	{"vCPU", save_vcpu, load_vcpu},
	{"VM", save_vm, load_vm},
};

struct tally {
	unsigned kept, refused, normalised, wrong;
	unsigned of[ARRAY_SIZE(normalised)];
};

/* Whether the element with that bit is the same in the other state, whatever clocks did to others. */
static bool is_kept(struct state_out *again, const struct field *want, size_t bit)
{
	size_t at = bit / 8 / want->width * want->width;
	struct field f = {0};

	while (next_field(again->bytes, again->len, &f))
		if (!strcmp(f.section, want->section) && !strcmp(f.name, want->name))
			return f.count == want->count && f.width == want->width &&
			       memcmp(f.data + at, want->data + at, f.width) == 0;
	return false;
}

static int load_and_save(const struct computer *c, const struct part *p, const struct state_out *state,
			 struct state_out *again, struct err *err)
{
	const struct state_in in = {.bytes = state->bytes, .len = state->len};
	int rc = p->load(c, &in, err);

	again->len = 0;
	return rc < 0 ? rc : p->save(c, again, err);
}

static void flip(const struct computer *c, const struct part *p, struct state_out *state,
		 const struct field *f, size_t bit, struct tally *t)
{
	static struct state_out again;
	size_t element = bit / 8 / f->width;
	uint32_t msr = msr_of(state, f, element);
	int row = find_normalised(f, msr), rc;
	struct err err = {0};

	f->data[bit / 8] ^= (uint8_t)(1u << bit % 8);
	rc = load_and_save(c, p, state, &again, &err);
	if (rc < 0 && strlen(err.text) > 10) {
		t->refused++;
	} else if (rc == 0 && is_kept(&again, f, bit)) {
		t->kept++;
	} else if (rc == 0 && row >= 0 && t->of[row] < normalised[row].bits) {
		t->of[row]++;
		t->normalised++;
	} else if (t->wrong++ < 20) {
		note("%s %s[%zu] (0x%x), bit %zu: %d %s", f->section, f->name, element, msr,
		     bit % (f->width * 8), rc, err.text);
	}
	f->data[bit / 8] ^= (uint8_t)(1u << bit % 8);
}

static void flip_all(const struct computer *c, const struct part *p, const char *which)
{
	static struct state_out state, again;
	const char *engine = c->vm.face->name;
	struct field f = {0};
	struct tally t = {0};
	struct err err = {0};

	state.len = 0;
	if (!ok(p->save(c, &state, &err) == 0, "%s: a %s %s is saved %s", engine, p->name, which, err.text))
		return;
	ok(load_and_save(c, p, &state, &again, &err) == 0, "%s: and loaded %s", engine, err.text);
	while (next_field(state.bytes, state.len, &f))
		for (size_t bit = 0; bit < (size_t)f.count * f.width * 8; bit++)
			flip(c, p, &state, &f, bit, &t);
	is_int(t.wrong, 0, "%s: of the bits of a %s %s %u are kept, %u refused with a sentence, %u normalised",
	       engine, p->name, which, t.kept, t.refused, t.normalised);
}

/* -- What moves -------------------------------------------------------------------- */

#define SECOND UINT64_C(1000000000)

/* An element of a field; it is there. */
static uint8_t *element(struct state_out *state, const char *name, size_t i)
{
	struct field f = {0};

	while (next_field(state->bytes, state->len, &f))
		if (!strcmp(f.name, name) && i < f.count)
			return f.data + i * f.width;
	abort();
}

static uint8_t *msr_value(struct state_out *state, uint32_t msr)
{
	for (size_t i = 0;; i++)
		if (le32_get(element(state, "msr", i)) == msr)
			return element(state, "value", i);
}

static void call(const struct computer *c, unsigned long request, void *arg)
{
	int rc = c->vm.face->ioctl(c->vcpu.fd, request, arg);

	ok(rc >= 0, "request 0x%lx: %d", request & 0xff, rc);
}

/* Clocks go on by as much as the machine was away, and a little. */
static void test_time(const struct computer *c)
{
	static struct state_out state, again;
	uint64_t before, after, khz;
	struct state_in in;
	struct err err = {0};

	state.len = again.len = 0;
	vm_save(&c->vm, &state, &err);
	before = le64_get(element(&state, "kvmclock", 0));
	le64_put(element(&state, "date", 0), le64_get(element(&state, "date", 0)) - 5 * SECOND);
	in = (struct state_in){.bytes = state.bytes, .len = state.len};
	is_int(vm_load(&c->vm, &in, &err), 0, "a VM that was away for 5 s is loaded %s", err.text);
	vm_save(&c->vm, &again, &err);
	after = le64_get(element(&again, "kvmclock", 0));
	ok(after >= before + 5 * SECOND && after < before + 600 * SECOND, "its clock has gone on by as much");

	state.len = again.len = 0;
	vcpu_save(&c->vcpu, &state, &err);
	before = le64_get(msr_value(&state, 0x10));
	khz = le32_get(element(&state, "tsc_khz", 0));
	in = (struct state_in){.bytes = state.bytes, .len = state.len};
	is_int(vcpu_load(&c->vcpu, &in, 5 * SECOND, &err), 0, "and its vCPU %s", err.text);
	vcpu_save(&c->vcpu, &again, &err);
	after = le64_get(msr_value(&again, 0x10));
	ok(after >= before + 5000 * khz && after < before + 600000 * khz, "its TSC has, too");
}

#define LAPIC_SVR       0xf0
#define LAPIC_IRR       0x200
#define LAPIC_LVT_TIMER 0x320
#define LAPIC_INITIAL   0x380
#define LAPIC_CURRENT   0x390
#define TIMER_DEADLINE  (2u << 17)
#define VECTOR          0x40u

static void set_timer(const struct computer *c, uint32_t mode, uint32_t count)
{
	struct kvm_lapic_state apic;

	call(c, KVM_GET_LAPIC, &apic);
	le32_put(apic.regs + LAPIC_SVR, 0x1ff);
	le32_put(apic.regs + LAPIC_LVT_TIMER, VECTOR | mode);
	le32_put(apic.regs + LAPIC_INITIAL, count);
	le32_put(apic.regs + LAPIC_CURRENT, count);
	memset(apic.regs + LAPIC_IRR, 0, 0x80);
	call(c, KVM_SET_LAPIC, &apic);
}

static bool is_requested(struct state_out *state)
{
	return *element(state, "lapic.regs", LAPIC_IRR + VECTOR / 32 * 16 + VECTOR % 32 / 8) & 1u << VECTOR % 8;
}

/* A timer that expires while nobody runs, and before or while it is saved, is an interrupt in the file, or is
 * armed there still. */
static void test_timer(const struct computer *c)
{
	static struct state_out state;
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry one[2];
	} msrs = {.head.nmsrs = 1, .one[0].index = 0x10};
	struct err err = {0};

	set_timer(c, 0, 1000);
	usleep(2000);
	state.len = 0;
	vcpu_save(&c->vcpu, &state, &err);
	ok(is_requested(&state) || le32_get(element(&state, "lapic.regs", LAPIC_CURRENT)),
	   "a countdown that has ended is not lost");

	set_timer(c, TIMER_DEADLINE, 0);
	call(c, KVM_GET_MSRS, &msrs);
	msrs.one[0] = (struct kvm_msr_entry){.index = 0x6e0, .data = msrs.one[0].data + 1000000};
	call(c, KVM_SET_MSRS, &msrs);
	usleep(20000);
	state.len = 0;
	vcpu_save(&c->vcpu, &state, &err);
	ok(is_requested(&state) || le64_get(msr_value(&state, 0x6e0)), "a deadline that has passed is not lost");
}

/* An NMI of which the delivery had begun (only the kernel's KVM has that) comes again. */
static void test_nmi(const struct computer *c)
{
	static struct state_out state;
	struct kvm_vcpu_events events;
	struct state_in in;
	struct err err = {0};

	state.len = 0;
	vcpu_save(&c->vcpu, &state, &err);
	*element(&state, "events.nmi.injected", 0) = 1;
	*element(&state, "events.nmi.masked", 0) = 1;
	in = (struct state_in){.bytes = state.bytes, .len = state.len};
	is_int(vcpu_load(&c->vcpu, &in, 0, &err), 0, "a vCPU in the middle of an NMI's delivery is loaded %s", err.text);
	call(c, KVM_GET_VCPU_EVENTS, &events);
	ok(events.nmi.injected || (events.nmi.pending == 1 && !events.nmi.masked), "the NMI will come");
}

/* A start-up interrupt that comes when the vCPU is at rest already: another one sends it, and is paused later. */
static void test_startup(const struct computer *c)
{
	static struct state_out state;
	struct kvm_mp_state mp = {.mp_state = KVM_MP_STATE_INIT_RECEIVED};
	struct err err = {0};

	call(c, KVM_SET_MP_STATE, &mp);
	vm_msi((void *)(uintptr_t)&c->vm, 0xfee00000, 0x600 | 0x12);
	state.len = 0;
	vcpu_save(&c->vcpu, &state, &err);
	is_int(le32_get(element(&state, "mp.mp_state", 0)), KVM_MP_STATE_RUNNABLE,
	       "a start-up interrupt for a vCPU at rest is not lost");
	is_int(le16_get(element(&state, "sregs.cs.selector", 0)), 0x1200, "it starts where it should");
}

/* -- For ever ---------------------------------------------------------------------- */

static const char *const sections[] = {"cpuid", "vcpu0", "vm/chips", "vm/clock"};

/* Of a CPU that all hosts have. */
static bool save_all(struct computer *c, struct state_out *state)
{
	struct cpu_table table;
	struct err err = {0};

	state->len = 0;
	if (!make(c, &kvm_soft, "v1", true))
		return false;
	return ok(cpu_table_offered(&kvm_soft, c->vm.sys, &table, &err) == 0 &&
		  cpuid_save(&table, state) == 0 && vcpu_save(&c->vcpu, state, &err) == 0 &&
		  vm_save(&c->vm, state, &err) == 0, "a VM of level v1 is saved %s", err.text);
}

/* The texts are of an AMD processor: what another computer cannot have of it, by its clock or its maker. */
static void make_ours(const struct computer *c, struct state_out *old, struct state_out *now)
{
	struct cpu_table table;
	struct field f = {0};

	memcpy(element(old, "tsc_khz", 0), element(now, "tsc_khz", 0), 4);
	if (cpu_table_offered(&kvm_soft, c->vm.sys, &table, NULL) < 0 || cpu_table_is_amd(&table))
		return;
	while (next_field(old->bytes, old->len, &f))
		for (uint32_t i = 0; !strcmp(f.name, "msr") && i < f.count; i++)
			if (le32_get(f.data + i * 4) >> 16 == 0xc001)
				le64_put(element(old, "value", i), 0);
}

static void test_frozen(const char *directory, bool freeze)
{
	static struct state_out now, old;
	struct cpu_table table;
	struct err err = {0};
	struct state_in in;
	struct computer c;

	if (!save_all(&c, &now))
		return;
	for (unsigned i = 0; i < ARRAY_SIZE(sections); i++)
		frozen_check(directory, sections[i], &now, freeze);
	for (unsigned i = 0; i < ARRAY_SIZE(sections); i++)
		for (unsigned v = 1; frozen_replace(directory, sections[i], v, &now, &old); v++) {
			make_ours(&c, &old, &now);
			in = (struct state_in){.bytes = old.bytes, .len = old.len};
			is_int(cpuid_load(&table, &in, &err), 0, "%s version %u: CPUID %s", sections[i], v, err.text);
			is_int(vm_load(&c.vm, &in, &err), 0, "the VM %s", err.text);
			is_int(vcpu_load(&c.vcpu, &in, 0, &err), 0, "the vCPU %s", err.text);
		}
	unmake(&c);
}

/* -- All --------------------------------------------------------------------------- */

static void test_engine(const struct kvm_face *face)
{
	struct computer c;

	for (unsigned i = 0; i < 2; i++) {
		if (!make(&c, face, "host", i))
			return;
		for (unsigned p = 0; p < ARRAY_SIZE(parts); p++)
			flip_all(&c, &parts[p], i ? "in long mode" : "as it is made");
		unmake(&c);
	}
	if (!make(&c, face, "host", true))
		return;
	test_time(&c);
	test_timer(&c);
	test_nmi(&c);
	test_startup(&c);
	unmake(&c);
}

int main(int argc, char **argv)
{
	bool freeze = argc > 2 && !strcmp(argv[1], "--freeze");

	if (argc < 2)
		return 2;
	guest_mem_add(&mem, &(struct guest_region){.size = sizeof(ram), .host = ram}, NULL);
	test_frozen(argv[argc - 1], freeze);
	if (!freeze)
		test_engine(&kvm_soft);
	return done_testing();
}

/* SPDX-License-Identifier: MIT */
/*
 * A vCPU's state, field by field of the structures of the KVM ABI (the kernel's
 * Documentation/virt/kvm/api.rst). Where a structure is the architecture's own layout (an XSAVE area, the
 * local APIC's page) it is bytes.
 *
 * Order matters when it is loaded: IA32_APIC_BASE (in sregs) tells how the local APIC's page is to be
 * read; XCR0 what an XSAVE area may have; TSC and local APIC come before the deadline that is compared with one
 * and armed in the other; events and what the vCPU waits for are last, as nothing may change them.
 *
 * MSRs are those that the engine lists. One that it cannot set is no failure where it has that value
 * already, so a file of an engine with more of them is loaded if the guest did not use these.
 */
#include "machine/saved/parts.h"

#include "base/err.h"
#include "base/macros.h"
#include "engine/kvm.h"
#include "machine/vcpu.h"
#include "machine/vm.h"
#include "state/state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MSRS_MAX 256u

#define MSR_TSC          0x10u
#define MSR_APIC_BASE    0x1bu /* in sregs */
#define MSR_TSC_DEADLINE 0x6e0u

/* Of struct kvm_vcpu_events, what is loaded: no system management mode. */
#define EVENT_FLAGS                                                                        \
	(KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SIPI_VECTOR |               \
	 KVM_VCPUEVENT_VALID_SHADOW)

struct msrs { /* the kernel's struct kvm_msrs with its entries */
	uint32_t n, pad;
	struct kvm_msr_entry entries[MSRS_MAX];
};

struct vcpu_state {
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_debugregs debug;
	struct kvm_vcpu_events events;
	struct kvm_mp_state mp;
	struct kvm_lapic_state lapic;
	struct kvm_xsave xsave;
	struct kvm_xcrs xcrs;
	uint64_t xcr0;
	uint32_t tsc_khz;
	uint32_t n_msrs;
	uint32_t msr[MSRS_MAX];
	uint64_t value[MSRS_MAX];
};

/* -- The table --------------------------------------------------------------------- */

#define REG(name) STATE(struct kvm_regs, name)
static const struct state_field regs_fields[] = {
	REG(rax), REG(rbx), REG(rcx), REG(rdx), REG(rsi), REG(rdi), REG(rsp), REG(rbp),
	REG(r8), REG(r9), REG(r10), REG(r11), REG(r12), REG(r13), REG(r14), REG(r15),
	REG(rip), REG(rflags),
	{0},
};

#define SEG(name) STATE(struct kvm_segment, name)
static const struct state_field segment_fields[] = {
	SEG(base), SEG(limit), SEG(selector), SEG(type), SEG(present), SEG(dpl), SEG(db),
	SEG(s), SEG(l), SEG(g), SEG(avl), SEG(unusable),
	{0},
};

static const struct state_field dtable_fields[] = {
	STATE(struct kvm_dtable, base),
	STATE(struct kvm_dtable, limit),
	{0},
};

#define SREG(name) STATE(struct kvm_sregs, name)
#define SREG_SEG(name) STATE_PART(struct kvm_sregs, name, segment_fields)
#define SREG_TABLE(name) STATE_PART(struct kvm_sregs, name, dtable_fields)
static const struct state_field sregs_fields[] = {
	SREG_SEG(cs), SREG_SEG(ds), SREG_SEG(es), SREG_SEG(fs), SREG_SEG(gs), SREG_SEG(ss),
	SREG_SEG(tr), SREG_SEG(ldt), SREG_TABLE(gdt), SREG_TABLE(idt),
	SREG(cr0), SREG(cr2), SREG(cr3), SREG(cr4), SREG(cr8), SREG(efer), SREG(apic_base),
	STATE_ARRAY(struct kvm_sregs, interrupt_bitmap),
	{0},
};

static const struct state_field debug_fields[] = {
	STATE_ARRAY(struct kvm_debugregs, db),
	STATE(struct kvm_debugregs, dr6),
	STATE(struct kvm_debugregs, dr7),
	{0},
};

#define EVENT(name) STATE(struct kvm_vcpu_events, name)
static const struct state_field events_fields[] = {
	EVENT(exception.injected), EVENT(exception.nr), EVENT(exception.has_error_code),
	EVENT(exception.error_code),
	EVENT(interrupt.injected), EVENT(interrupt.nr), EVENT(interrupt.soft),
	EVENT(interrupt.shadow),
	EVENT(nmi.injected), EVENT(nmi.pending), EVENT(nmi.masked),
	EVENT(sipi_vector), EVENT(flags),
	{0},
};

static const struct state_field fields[] = {
	STATE_PART(struct vcpu_state, regs, regs_fields),
	STATE_PART(struct vcpu_state, sregs, sregs_fields),
	STATE_PART(struct vcpu_state, debug, debug_fields),
	STATE_PART(struct vcpu_state, events, events_fields),
	STATE(struct vcpu_state, mp.mp_state),
	STATE_ARRAY(struct vcpu_state, lapic.regs),
	STATE_ARRAY(struct vcpu_state, xsave.region),
	STATE(struct vcpu_state, xcr0),
	STATE(struct vcpu_state, tsc_khz),
	STATE_UPTO(struct vcpu_state, n_msrs, MSRS_MAX),
	STATE_COUNTED(struct vcpu_state, msr, n_msrs),
	STATE_COUNTED(struct vcpu_state, value, n_msrs),
	{0},
};

static const struct state_table table = {.name = "vcpu", .version = 1, .fields = fields};

/* -- Requests ---------------------------------------------------------------------- */

static int call(const struct vcpu *v, unsigned long request, void *arg)
{
	return v->vm->face->ioctl(v->fd, request, arg);
}

struct step {
	unsigned long request;
	size_t at; /* in struct vcpu_state */
	const char *what;
};

#define STEP(request, member, what) {request, offsetof(struct vcpu_state, member), what}

/* The first one takes an INIT or SIPI that came when the vCPU was at rest already, which changes registers. */
static const struct step gets[] = {
	STEP(KVM_GET_MP_STATE, mp, "what it waits for"),
	STEP(KVM_GET_VCPU_EVENTS, events, "its pending events"),
	STEP(KVM_GET_REGS, regs, "its registers"),
	STEP(KVM_GET_SREGS, sregs, "its system registers"),
	STEP(KVM_GET_DEBUGREGS, debug, "its debug registers"),
	STEP(KVM_GET_XCRS, xcrs, "XCR0"),
	STEP(KVM_GET_XSAVE, xsave, "its vector registers"),
};

/* After the MSRs: a TSC deadline that has passed is 0 there once it was read, and a request here. */
static const struct step last_gets[] = {
	STEP(KVM_GET_LAPIC, lapic, "its local APIC"),
};

static const struct step first_sets[] = {
	STEP(KVM_SET_SREGS, sregs, "the system registers"),
	STEP(KVM_SET_XCRS, xcrs, "XCR0"),
	STEP(KVM_SET_XSAVE, xsave, "the vector registers"),
	STEP(KVM_SET_REGS, regs, "the registers"),
	STEP(KVM_SET_DEBUGREGS, debug, "the debug registers"),
};

static const struct step last_sets[] = {
	STEP(KVM_SET_VCPU_EVENTS, events, "the pending events"),
	STEP(KVM_SET_MP_STATE, mp, "what it waits for"),
};

static int take_steps(const struct vcpu *v, struct vcpu_state *s, const struct step *step,
		      unsigned n, const char *verb, struct err *err)
{
	for (unsigned i = 0; i < n; i++) {
		int rc = call(v, step[i].request, (uint8_t *)s + step[i].at);

		if (rc < 0)
			return err_sys(err, -rc, "engine '%s' does not %s %s of vCPU %u",
				       v->vm->face->name, verb, step[i].what, v->id);
	}
	return 0;
}

/* -- MSRs -------------------------------------------------------------------------- */

static int get_msr(const struct vcpu *v, uint32_t index, uint64_t *value)
{
	struct msrs one = {.n = 1, .entries[0].index = index};
	int rc = call(v, KVM_GET_MSRS, &one);

	*value = one.entries[0].data;
	return rc;
}

static int set_msr(const struct vcpu *v, uint32_t index, uint64_t value)
{
	struct msrs one = {.n = 1, .entries[0] = {.index = index, .data = value}};

	return call(v, KVM_SET_MSRS, &one);
}

static int get_msrs(const struct vcpu *v, struct vcpu_state *s, struct err *err)
{
	struct {
		uint32_t n, index[MSRS_MAX];
	} list = {.n = MSRS_MAX};
	int rc = v->vm->face->ioctl(v->vm->sys, KVM_GET_MSR_INDEX_LIST, &list);

	if (rc < 0)
		return err_sys(err, -rc, "engine '%s' does not list its MSRs", v->vm->face->name);
	for (uint32_t i = 0; i < list.n; i++) {
		if (list.index[i] == MSR_APIC_BASE ||
		    get_msr(v, list.index[i], &s->value[s->n_msrs]) != 1)
			continue;
		s->msr[s->n_msrs++] = list.index[i];
	}
	return 0;
}

/* One that refuses what it has already is as good as set, and so is one that it does not know, and that is 0. */
static int load_msr(const struct vcpu *v, uint32_t index, uint64_t value, struct err *err)
{
	uint64_t now = 0;

	if (set_msr(v, index, value) == 1 || (get_msr(v, index, &now) == 1 && now == value) ||
	    (value == 0 && now == 0))
		return 0;
	return err_set(err, EINVAL, "engine '%s' does not set MSR 0x%x of vCPU %u to 0x%llx",
		       v->vm->face->name, index, v->id, (unsigned long long)value);
}

static uint64_t *find_msr(struct vcpu_state *s, uint32_t index)
{
	for (uint32_t i = 0; i < s->n_msrs; i++)
		if (s->msr[i] == index)
			return &s->value[i];
	return NULL;
}

static int set_msrs(const struct vcpu *v, struct vcpu_state *s, struct err *err)
{
	int rc = 0;

	for (uint32_t i = 0; rc == 0 && i < s->n_msrs; i++)
		if (s->msr[i] != MSR_TSC && s->msr[i] != MSR_TSC_DEADLINE &&
		    s->msr[i] != MSR_APIC_BASE)
			rc = load_msr(v, s->msr[i], s->value[i], err);
	return rc;
}

/* -- Time -------------------------------------------------------------------------- */

/* What the guest has measured of its TSC's speed must stay true. */
static int set_tsc(const struct vcpu *v, struct vcpu_state *s, uint64_t away, struct err *err)
{
	const uint64_t *tsc = find_msr(s, MSR_TSC);
	unsigned __int128 ticks = (unsigned __int128)away * s->tsc_khz / 1000000;
	int rc = call(v, KVM_SET_TSC_KHZ, KVM_ARG(s->tsc_khz));

	if (rc < 0 && call(v, KVM_GET_TSC_KHZ, NULL) != (int)s->tsc_khz)
		return err_set(err, EINVAL,
			       "the guest's time-stamp counter has %u kHz, and engine '%s' cannot "
			       "have it on this computer (%d kHz)", s->tsc_khz, v->vm->face->name,
			       call(v, KVM_GET_TSC_KHZ, NULL));
	return tsc ? load_msr(v, MSR_TSC, *tsc + (uint64_t)ticks, err) : 0;
}

static int set_lapic(const struct vcpu *v, struct vcpu_state *s, struct err *err)
{
	static const struct step step = STEP(KVM_SET_LAPIC, lapic, "the local APIC");
	const uint64_t *deadline = find_msr(s, MSR_TSC_DEADLINE);
	int rc = take_steps(v, s, &step, 1, "take", err);

	return rc == 0 && deadline ? load_msr(v, MSR_TSC_DEADLINE, *deadline, err) : rc;
}

/* -- Whole ------------------------------------------------------------------------- */

static void section_name(const struct vcpu *v, char name[STATE_NAME_MAX + 1])
{
	snprintf(name, STATE_NAME_MAX + 1, "vcpu%u", v->id);
}

static int collect(const struct vcpu *v, struct vcpu_state *s, struct err *err)
{
	int rc = take_steps(v, s, gets, ARRAY_SIZE(gets), "give", err);

	if (rc < 0)
		return rc;
	for (unsigned i = 0; i < s->xcrs.nr_xcrs && i < KVM_MAX_XCRS; i++)
		if (s->xcrs.xcrs[i].xcr == 0)
			s->xcr0 = s->xcrs.xcrs[i].value;
	rc = call(v, KVM_GET_TSC_KHZ, NULL);
	s->tsc_khz = rc > 0 ? (uint32_t)rc : 0;
	rc = get_msrs(v, s, err);
	return rc < 0 ? rc : take_steps(v, s, last_gets, ARRAY_SIZE(last_gets), "give", err);
}

int vcpu_save(const struct vcpu *v, struct state_out *out, struct err *err)
{
	struct vcpu_state *s = calloc(1, sizeof(*s));
	char name[STATE_NAME_MAX + 1];
	int rc = s ? collect(v, s, err) : err_set(err, ENOMEM, "no memory");

	section_name(v, name);
	if (rc == 0)
		rc = state_save(out, name, &table, s);
	free(s);
	return rc;
}

static int apply(const struct vcpu *v, struct vcpu_state *s, uint64_t away, struct err *err)
{
	int rc;

	s->xcrs = (struct kvm_xcrs){.nr_xcrs = 1, .xcrs[0].value = s->xcr0};
	s->events.flags &= EVENT_FLAGS;
	if ((rc = take_steps(v, s, first_sets, ARRAY_SIZE(first_sets), "take", err)) < 0 ||
	    (rc = set_tsc(v, s, away, err)) < 0 ||
	    (rc = set_msrs(v, s, err)) < 0 ||
	    (rc = set_lapic(v, s, err)) < 0)
		return rc;
	return take_steps(v, s, last_sets, ARRAY_SIZE(last_sets), "take", err);
}

int vcpu_load(const struct vcpu *v, const struct state_in *in, uint64_t away, struct err *err)
{
	struct vcpu_state *s = calloc(1, sizeof(*s));
	char name[STATE_NAME_MAX + 1];
	struct state_section section;
	int rc;

	if (!s)
		return err_set(err, ENOMEM, "no memory");
	section_name(v, name);
	if ((rc = state_find(in, name, &section, err)) == 0 &&
	    (rc = state_load(&section, &table, s, err)) == 0)
		rc = apply(v, s, away, err);
	free(s);
	return rc;
}

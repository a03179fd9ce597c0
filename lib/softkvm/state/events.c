/* SPDX-License-Identifier: MIT */
/*
 * KVM_GET/SET_VCPU_EVENTS and MP_STATE: what a vCPU is in the middle of.
 *
 * An exception is either injected (delivery began, and starts again at the next entry) or not
 * there; softkvm does not separate pending from injected, because KVM_RUN does not return
 * between the two. The pending #PF's address is in CR2 by then, as without
 * KVM_CAP_EXCEPTION_PAYLOAD.
 */
#include "softkvm/state/regs.h"

#include <errno.h>
#include <string.h>

/* How many NMIs wait, those that no KVM_RUN has looked at included. */
static uint8_t nmis(const struct vcpu *c)
{
	uint32_t n = c->event.nmi_pending + atomic_load(&c->nmis_arrived);

	return (uint8_t)(n < 2 ? n : 2);
}

/* They arrive anew, so that the next KVM_RUN judges how many there can be. */
static void set_nmis(struct vcpu *c, unsigned n)
{
	c->event.nmi_pending = 0;
	atomic_store(&c->nmis_arrived, n);
	if (n)
		atomic_fetch_or(&c->requests, REQ_NMI);
}

void events_get(const struct vcpu *c, struct kvm_vcpu_events *e)
{
	const struct vcpu_events *v = &c->event;

	memset(e, 0, sizeof(*e));
	e->exception.injected = v->exception;
	e->exception.nr = v->exception ? v->fault.vector : 0;
	e->exception.has_error_code = v->exception && v->fault.has_code;
	e->exception.error_code = e->exception.has_error_code ? v->fault.code : 0;
	e->interrupt.injected = v->interrupt;
	e->interrupt.nr = v->interrupt_vector;
	e->interrupt.soft = v->interrupt_soft;
	e->interrupt.shadow = v->shadow;
	e->nmi.pending = nmis(c);
	e->nmi.masked = v->nmi_masked;
	e->sipi_vector = c->sipi_vector;
	e->flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW |
		   KVM_VCPUEVENT_VALID_SIPI_VECTOR;
}

#define EVENT_FLAGS                                                                        \
	(KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SIPI_VECTOR |               \
	 KVM_VCPUEVENT_VALID_SHADOW | KVM_VCPUEVENT_VALID_SMM)

int events_set(struct vcpu *c, const struct kvm_vcpu_events *e)
{
	struct vcpu_events *v = &c->event;

	if (e->flags & ~(__u32)EVENT_FLAGS)
		return -EINVAL;
	if (e->exception.injected && (e->exception.nr > 31 || e->exception.nr == X86_NMI))
		return -EINVAL;
	if (e->flags & KVM_VCPUEVENT_VALID_SMM && (e->smi.smm || e->smi.pending))
		return -EINVAL; /* there is no system management mode */
	v->exception = e->exception.injected;
	v->fault = (struct fault){
		.vector = e->exception.nr,
		.has_code = e->exception.has_error_code,
		.code = e->exception.error_code,
		.cr2 = c->cr2,
	};
	v->interrupt = e->interrupt.injected;
	v->interrupt_vector = e->interrupt.nr;
	v->interrupt_soft = e->interrupt.soft;
	if (e->flags & KVM_VCPUEVENT_VALID_SHADOW)
		v->shadow = e->interrupt.shadow &
			    (KVM_X86_SHADOW_INT_STI | KVM_X86_SHADOW_INT_MOV_SS);
	if (e->flags & KVM_VCPUEVENT_VALID_NMI_PENDING || e->nmi.injected)
		set_nmis(c, e->nmi.pending + !!e->nmi.injected);
	/* One of which the delivery had begun, which masks others, starts again as one that waits. */
	v->nmi_masked = e->nmi.masked && !e->nmi.injected;
	if (e->flags & KVM_VCPUEVENT_VALID_SIPI_VECTOR)
		c->sipi_vector = (uint8_t)e->sipi_vector;
	atomic_fetch_or(&c->requests, REQ_EVENT);
	return 0;
}

void mp_state_get(const struct vcpu *c, struct kvm_mp_state *m)
{
	m->mp_state = c->mp_state;
}

int mp_state_set(struct vcpu *c, const struct kvm_mp_state *m)
{
	switch (m->mp_state) {
	case KVM_MP_STATE_RUNNABLE:
		break;
	case KVM_MP_STATE_UNINITIALIZED:
	case KVM_MP_STATE_INIT_RECEIVED:
	case KVM_MP_STATE_HALTED:
		if (!c->lapic)
			return -EINVAL;
		break;
	case KVM_MP_STATE_SIPI_RECEIVED:
		if (!c->lapic)
			return -EINVAL;
		c->mp_state = KVM_MP_STATE_INIT_RECEIVED;
		atomic_fetch_or(&c->requests, REQ_SIPI);
		return 0;
	default:
		return -EINVAL;
	}
	c->mp_state = m->mp_state;
	return 0;
}

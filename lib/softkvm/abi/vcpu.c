/* SPDX-License-Identifier: MIT */
/*
 * Requests to vCPU descriptors.
 *
 * The vCPU's lock is held through each of them, KVM_RUN included: another thread's KVM_GET_REGS
 * waits until KVM_RUN returns, as it does in the kernel. Outside KVM_RUN all state is in
 * struct vcpu, so most requests only copy (state/). One that changes what the engine derived
 * something from leaves a bit in `requests`, which KVM_RUN serves first.
 */
#include "softkvm/abi/vm.h"

#include "base/macros.h"
#include "softkvm/engine.h"
#include "softkvm/irqchip/irqchip.h"
#include "softkvm/mmu/mmu.h"
#include "softkvm/os/current.h"
#include "softkvm/run/run.h"
#include "softkvm/state/clock.h"
#include "softkvm/state/cpuid.h"
#include "softkvm/state/msr.h"
#include "softkvm/state/regs.h"
#include "softkvm/state/xsave.h"

#include <errno.h>
#include <linux/kvm.h>
#include <string.h>

#define MSRS_MAX 256

/* -- running ------------------------------------------------------------------------------- */

/*
 * With a mask from KVM_SET_SIGNAL_MASK, KVM_RUN has it instead of the thread's own, and a
 * signal that the mask lets through ends KVM_RUN. The swap opens a window like the kernel's:
 * a signal that was pending is delivered right after it, and is then what sets REQ_EXIT.
 */
static int run_masked(struct vcpu *c)
{
	sigset_t before, pending;
	int rc = 0;

	sigpending(&pending);
	for (int sig = 1; sig < 65 && !rc; sig++)
		if (sigismember(&pending, sig) == 1 &&
		    sigismember(&vcpu_abi(c)->sigmask, sig) == 0)
			rc = -EINTR;
	if (rc) {
		c->run->exit_reason = KVM_EXIT_INTR;
		return rc;
	}
	pthread_sigmask(SIG_SETMASK, &vcpu_abi(c)->sigmask, &before);
	rc = vcpu_run(c);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return rc;
}

/* The fields of kvm_run that tell a client what it would else have to ask for. */
static void fill_run(struct vcpu *c)
{
	struct kvm_run *r = c->run;

	r->if_flag = (c->rflags & RFLAGS_IF) != 0;
	r->apic_base = c->apic_base;
	r->flags = 0;
	r->ready_for_interrupt_injection =
		irqchip_has_pic(c->vm) || (irqchip_takes_interrupt(c) && !c->io.n);
	if (c->lapic)
		r->cr8 = lapic_get_cr8(c); /* else the guest's CR8 is this field */
}

static int run(struct vcpu *c, void *arg)
{
	int rc;

	if (arg)
		return -EINVAL;
	rc = vcpu_abi(c)->has_sigmask ? run_masked(c) : vcpu_run(c);
	fill_run(c);
	return rc;
}

/*
 * A client's handler of a signal may end its thread in the middle of KVM_RUN, where the kernel's has returned by
 * then: by pthread_exit(), or because the thread was cancelled. What the thread held is given back by the
 * last code that runs in it.
 */
static __thread struct object *running CURRENT_TLS;
static pthread_key_t ending;

static void thread_ends(void *unused)
{
	struct object *o = running;

	(void)unused;
	if (!o)
		return;
	running = NULL;
	vcpu_abandon(o->vcpu);
	pthread_mutex_unlock(&vcpu_abi(o->vcpu)->lock);
	object_put(o);
}

static void make_key(void)
{
	pthread_key_create(&ending, thread_ends);
}

static void watch_thread(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	static __thread bool watched CURRENT_TLS;

	if (watched)
		return;
	pthread_once(&once, make_key);
	watched = !pthread_setspecific(ending, &ending);
}

/* The kernel's sigset is 8 bytes; the C library's is longer and begins with it. */
static int set_signal_mask(struct vcpu *c, void *arg)
{
	const struct kvm_signal_mask *mask = arg;
	struct vcpu_abi *abi = vcpu_abi(c);

	abi->has_sigmask = false;
	if (!mask)
		return 0;
	if (mask->len != 8)
		return -EINVAL;
	memset(&abi->sigmask, 0, sizeof(abi->sigmask));
	memcpy(&abi->sigmask, mask->sigset, 8);
	signals_let_through(&abi->sigmask);
	abi->has_sigmask = true;
	return 0;
}

/* -- registers ----------------------------------------------------------------------------- */

static int get_regs(struct vcpu *c, void *arg)
{
	regs_get(c, arg);
	return 0;
}

static int set_regs(struct vcpu *c, void *arg)
{
	regs_set(c, arg);
	return 0;
}

static int get_sregs(struct vcpu *c, void *arg)
{
	sregs_get(c, arg);
	return 0;
}

static int set_sregs(struct vcpu *c, void *arg)
{
	return sregs_set(c, arg);
}

static int get_sregs2(struct vcpu *c, void *arg)
{
	sregs2_get(c, arg);
	return 0;
}

static int set_sregs2(struct vcpu *c, void *arg)
{
	return sregs2_set(c, arg);
}

static int get_debugregs(struct vcpu *c, void *arg)
{
	debugregs_get(c, arg);
	return 0;
}

static int set_debugregs(struct vcpu *c, void *arg)
{
	return debugregs_set(c, arg);
}

/* As many as could be had or set come back as a count, as in the kernel. */
static int get_msrs(struct vcpu *c, void *arg)
{
	struct kvm_msrs *list = arg;
	unsigned i;

	if (list->nmsrs > MSRS_MAX)
		return -E2BIG;
	for (i = 0; i < list->nmsrs; i++) {
		uint64_t value;

		if (msr_get(c, list->entries[i].index, &value) < 0)
			break;
		list->entries[i].data = value;
	}
	return (int)i;
}

static int set_msrs(struct vcpu *c, void *arg)
{
	const struct kvm_msrs *list = arg;
	unsigned i;

	if (list->nmsrs > MSRS_MAX)
		return -E2BIG;
	for (i = 0; i < list->nmsrs; i++)
		if (msr_set(c, list->entries[i].index, list->entries[i].data) < 0)
			break;
	return (int)i;
}

/* -- vector state -------------------------------------------------------------------------- */

static int get_fpu(struct vcpu *c, void *arg)
{
	xsave_get_fpu(c, arg);
	return 0;
}

static int set_fpu(struct vcpu *c, void *arg)
{
	xsave_set_fpu(c, arg);
	return 0;
}

static int get_xsave(struct vcpu *c, void *arg)
{
	xsave_get(c, arg, sizeof(struct kvm_xsave));
	return 0;
}

static int set_xsave(struct vcpu *c, void *arg)
{
	return xsave_set(c, arg, sizeof(struct kvm_xsave));
}

static int get_xcrs(struct vcpu *c, void *arg)
{
	struct kvm_xcrs *xcrs = arg;

	memset(xcrs, 0, sizeof(*xcrs));
	xcrs->nr_xcrs = 1;
	xcrs->xcrs[0].value = c->xcr0;
	return 0;
}

static int set_xcrs(struct vcpu *c, void *arg)
{
	const struct kvm_xcrs *xcrs = arg;

	if (xcrs->nr_xcrs > KVM_MAX_XCRS || xcrs->flags)
		return -EINVAL;
	for (unsigned i = 0; i < xcrs->nr_xcrs; i++)
		if (xcrs->xcrs[i].xcr == 0 && xcr0_write(c, xcrs->xcrs[i].value) < 0)
			return -EINVAL;
	atomic_fetch_or(&c->requests, REQ_TLB_FLUSH);
	return 0;
}

/* -- CPUID --------------------------------------------------------------------------------- */

/* Fields that change while the guest runs are of no account. */
static bool is_same_cpuid(const struct vcpu *c, const struct kvm_cpuid2 *list)
{
	if (list->nent != (uint32_t)c->n_cpuid)
		return false;
	for (uint32_t i = 0; i < list->nent; i++) {
		struct kvm_cpuid_entry2 a = list->entries[i], b = c->cpuid[i];

		cpuid_now(c, &a);
		cpuid_now(c, &b);
		if (memcmp(&a, &b, sizeof(a)))
			return false;
	}
	return true;
}

/* A vCPU that has executed an instruction is what it is, as in the kernel's KVM: what was translated depends
 * on it. The same list once more is fine. */
static int set_cpuid2(struct vcpu *c, void *arg)
{
	const struct kvm_cpuid2 *list = arg;

	if (c->stat.dispatches || c->stat.interpreted)
		return is_same_cpuid(c, list) ? 0 : -EINVAL;
	return cpuid_set(c, list->entries, list->nent);
}

static int get_cpuid2(struct vcpu *c, void *arg)
{
	struct kvm_cpuid2 *list = arg;

	if (list->nent < (uint32_t)c->n_cpuid)
		return -E2BIG;
	list->nent = (uint32_t)c->n_cpuid;
	for (uint32_t i = 0; i < list->nent; i++) {
		list->entries[i] = c->cpuid[i];
		cpuid_now(c, &list->entries[i]);
	}
	return 0;
}

/* -- interrupts and events ----------------------------------------------------------------- */

static int get_lapic(struct vcpu *c, void *arg)
{
	return c->lapic ? lapic_get(c, arg) : -EINVAL;
}

static int set_lapic(struct vcpu *c, void *arg)
{
	return c->lapic ? lapic_set(c, arg) : -EINVAL;
}

/* From a client with interrupt controllers of its own. */
static int interrupt(struct vcpu *c, void *arg)
{
	const struct kvm_interrupt *irq = arg;

	if (irq->irq > 255)
		return -EINVAL;
	if (irqchip_has_pic(c->vm))
		return -ENXIO;
	if (c->lapic)
		return irqchip_extint(c, (uint8_t)irq->irq);
	c->event.interrupt = true; /* instead of one that was not taken yet */
	c->event.interrupt_soft = false;
	c->event.interrupt_vector = (uint8_t)irq->irq;
	atomic_fetch_or(&c->requests, REQ_EVENT);
	return 0;
}

static int nmi(struct vcpu *c, void *arg)
{
	(void)arg;
	vcpu_nmi_arrives(c);
	atomic_fetch_or(&c->requests, REQ_NMI);
	return 0;
}

static int get_vcpu_events(struct vcpu *c, void *arg)
{
	events_get(c, arg);
	return 0;
}

static int set_vcpu_events(struct vcpu *c, void *arg)
{
	return events_set(c, arg);
}

/* As the kernel's, it first takes an INIT or SIPI that came after the last KVM_RUN. */
static int get_mp_state(struct vcpu *c, void *arg)
{
	vcpu_take_startup(c);
	mp_state_get(c, arg);
	return 0;
}

static int set_mp_state(struct vcpu *c, void *arg)
{
	return mp_state_set(c, arg);
}

/* -- time ---------------------------------------------------------------------------------- */

static int get_tsc_khz(struct vcpu *c, void *arg)
{
	(void)arg;
	return (int)c->tsc_khz;
}

/* The TSC is the host's; another frequency would need every RDTSC to trap. */
static int set_tsc_khz(struct vcpu *c, void *arg)
{
	unsigned long khz = (unsigned long)arg;

	(void)c;
	return !khz || tsc_khz_is_ours(khz) ? 0 : -EINVAL;
}

/* The guest was stopped: its watchdogs are told so by a flag in the clock's page. */
static int kvmclock_ctrl(struct vcpu *c, void *arg)
{
	(void)arg;
	if (!c->clock_page)
		return -EINVAL;
	c->clock_paused = true;
	atomic_fetch_or(&c->requests, REQ_CLOCK);
	return 0;
}

/* -- the rest ------------------------------------------------------------------------------ */

/* The only request but KVM_RUN that looks at guest memory. (Those that change kvmclock's page leave
 * that to KVM_RUN.) So it is `running` meanwhile, as state/slots.c wants. */
static int64_t peek(struct vcpu *c, uint64_t lin, bool *writable, bool *user)
{
	int64_t gpa;

	atomic_store(&c->engine->running, 1);
	gpa = mmu_peek(c, lin, writable, user);
	atomic_store(&c->engine->running, 0);
	return gpa;
}

static int translate_address(struct vcpu *c, void *arg)
{
	struct kvm_translation *t = arg;
	bool writable = false, user = false;
	int64_t gpa = peek(c, t->linear_address, &writable, &user);

	t->physical_address = (uint64_t)gpa;
	t->valid = gpa >= 0;
	t->writeable = writable;
	t->usermode = user;
	return 0;
}

static int setup_mce(struct vcpu *c, void *arg)
{
	uint64_t cap = *(const uint64_t *)arg;

	if ((cap & 0xff) > (MCG_CAP & 0xff) || cap & ~(MCG_CAP | 0xff))
		return -EINVAL;
	c->msr.mcg_cap = cap;
	return 0;
}

static int set_guest_debug(struct vcpu *c, void *arg)
{
	const struct kvm_guest_debug *debug = arg;

	if (debug->control & (KVM_GUESTDBG_INJECT_DB | KVM_GUESTDBG_INJECT_BP)) {
		if (c->event.exception)
			return -EBUSY;
		c->event.exception = true;
		c->event.fault = (struct fault){.vector = debug->control & KVM_GUESTDBG_INJECT_DB ? X86_DB : X86_BP};
	}
	c->debug.control = debug->control & KVM_GUESTDBG_ENABLE ? debug->control : 0;
	for (int i = 0; i < 4; i++)
		c->debug.dr[i] = debug->arch.debugreg[i];
	c->debug.dr7 = debug->arch.debugreg[7];
	atomic_fetch_or(&c->requests, REQ_TLB_FLUSH | REQ_EVENT); /* it has written code, or will not any more */
	return 0;
}

/* The kernel's short cut for 32-bit Windows, which writes TPR all the time: not offered (no
 * KVM_CAP_VAPIC), but some clients switch it off without asking whether it is there. */
static int set_vapic_addr(struct vcpu *c, void *arg)
{
	const struct kvm_vapic_addr *va = arg;

	return c->lapic && !va->vapic_addr ? 0 : -EINVAL;
}

static int tpr_access_reporting(struct vcpu *c, void *arg)
{
	const struct kvm_tpr_access_ctl *tac = arg;

	(void)c;
	return tac->enabled || tac->flags ? -EINVAL : 0;
}

struct vcpu_request {
	unsigned long request;
	int (*call)(struct vcpu *c, void *arg);
};

static const struct vcpu_request requests[] = {
	{KVM_RUN, run},
	{KVM_GET_REGS, get_regs},
	{KVM_SET_REGS, set_regs},
	{KVM_GET_SREGS, get_sregs},
	{KVM_SET_SREGS, set_sregs},
	{KVM_GET_SREGS2, get_sregs2},
	{KVM_SET_SREGS2, set_sregs2},
	{KVM_GET_MSRS, get_msrs},
	{KVM_SET_MSRS, set_msrs},
	{KVM_GET_FPU, get_fpu},
	{KVM_SET_FPU, set_fpu},
	{KVM_GET_XSAVE, get_xsave},
	{KVM_GET_XSAVE2, get_xsave},
	{KVM_SET_XSAVE, set_xsave},
	{KVM_GET_XCRS, get_xcrs},
	{KVM_SET_XCRS, set_xcrs},
	{KVM_GET_DEBUGREGS, get_debugregs},
	{KVM_SET_DEBUGREGS, set_debugregs},
	{KVM_SET_CPUID2, set_cpuid2},
	{KVM_GET_CPUID2, get_cpuid2},
	{KVM_GET_LAPIC, get_lapic},
	{KVM_SET_LAPIC, set_lapic},
	{KVM_INTERRUPT, interrupt},
	{KVM_NMI, nmi},
	{KVM_GET_VCPU_EVENTS, get_vcpu_events},
	{KVM_SET_VCPU_EVENTS, set_vcpu_events},
	{KVM_GET_MP_STATE, get_mp_state},
	{KVM_SET_MP_STATE, set_mp_state},
	{KVM_SET_SIGNAL_MASK, set_signal_mask},
	{KVM_GET_TSC_KHZ, get_tsc_khz},
	{KVM_SET_TSC_KHZ, set_tsc_khz},
	{KVM_KVMCLOCK_CTRL, kvmclock_ctrl},
	{KVM_TRANSLATE, translate_address},
	{KVM_SET_VAPIC_ADDR, set_vapic_addr},
	{KVM_TPR_ACCESS_REPORTING, tpr_access_reporting},
	{KVM_X86_SETUP_MCE, setup_mce},
	{KVM_SET_GUEST_DEBUG, set_guest_debug},
};

static int locked_call(int (*call)(struct vcpu *c, void *arg), struct object *o, void *arg)
{
	struct vcpu *c = o->vcpu;
	int rc;

	if (current_vcpu == c) /* a handler that interrupts KVM_RUN, which has the lock */
		return -EBUSY;
	if (call == run)
		watch_thread();
	pthread_mutex_lock(&vcpu_abi(c)->lock);
	if (call == run && !current_vcpu)
		running = o;
	rc = call(c, arg);
	if (running == o)
		running = NULL;
	pthread_mutex_unlock(&vcpu_abi(c)->lock);
	return rc;
}

int vcpu_ioctl(struct object *o, unsigned long request, void *arg)
{
	request &= 0xffffffff;
	for (unsigned i = 0; i < ARRAY_SIZE(requests); i++)
		if (requests[i].request == request)
			return locked_call(requests[i].call, o, arg);
	return -EINVAL;
}

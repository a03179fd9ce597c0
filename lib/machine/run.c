/* SPDX-License-Identifier: MIT */
/*
 * The run loop: a thread per vCPU, KVM_RUN, and what its exits mean.
 *
 *	        +----------------------------------------------+
 *	        v                                              | go on
 *	    stopping? --no--> KVM_RUN --exit--> on_exit_reason[]
 *	        | yes            | EINTR                       | over
 *	        v                +--> stopping?                v
 *	      leave                                      machine_over(), leave
 *
 * A reason is a row in on_exit_reason[]; a row's function returns whether the vCPU goes on. An
 * exit that is not in the table ends the machine with its name: guessing would hide a bug of
 * the engine or of ours.
 *
 * Kicks. Whoever wants the vCPUs back sets m->stopping, then kvm_run.immediate_exit, then
 * sends SIGRTMIN to the thread; the handler does nothing, it only has to exist. The order
 * closes the gap: a signal that comes before KVM_RUN finds immediate_exit set when it starts.
 * The vCPU's thread clears immediate_exit when it goes on from a pause.
 *
 * Pauses (life.c). A thread that finds m->pausing set first settles: KVM_RUN with immediate_exit completes
 * the access that an exit was for, and returns -EINTR between two instructions. An instruction
 * with several accesses comes back with the next one, which is served.
 *
 * Away. A vCPU whose thread does not run for seconds is, to the guest's watchdogs, a CPU that
 * hangs: somebody has stopped us (SIGSTOP, Ctrl-Z, a debugger), a container or a laptop was
 * frozen, or a busy host had no CPU for it. The guest's clock goes on meanwhile, so that its date
 * stays right; but what nobody could do in that time is not held against it: KVM_KVMCLOCK_CTRL
 * raises a flag beside its clock, at which Linux resets its watchdogs. It must be there before the
 * vCPU runs again. If it was away inside KVM_RUN, that returns -EINTR: the kernel's when its thread
 * is stopped, softkvm's when a timer is late. Outside, we look at the clock.
 *
 * The engine keeps HLT, INIT and SIPI to itself, as the interrupt controllers are its own;
 * a vCPU that waits for SIPI sits inside KVM_RUN.
 */
#include "machine/private.h"

#include "base/macros.h"
#include "bus/bus.h"
#include "engine/kvm.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* -- Kicks ------------------------------------------------------------------------------ */

static void on_kick(int sig)
{
	(void)sig;
}

void vcpu_kick_init(void)
{
	/* No SA_RESTART: the point is the interruption. SA_ONSTACK: an engine may run the
	 * guest on a stack pointer of its own. */
	struct sigaction sa = {.sa_handler = on_kick, .sa_flags = SA_ONSTACK};

	sigaction(SIGRTMIN, &sa, NULL);
}

/* In the vCPU's thread, which has no other signals than those of its own instructions: one that was
 * sent before comes now. */
static void unblock_kick(void)
{
	sigset_t kick;

	sigemptyset(&kick);
	sigaddset(&kick, SIGRTMIN);
	pthread_sigmask(SIG_UNBLOCK, &kick, NULL);
}

void vcpu_nudge(struct vcpu *v)
{
	if (!v->run)
		return;
	__atomic_store_n(&v->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
	if (v->vm->face->kick)
		v->vm->face->kick(v->fd);
	if (v->has_thread)
		pthread_kill(v->thread, SIGRTMIN);
}

/* -- Tracing ---------------------------------------------------------------------------- */

/* Since the machine was made, in seconds. */
static double now(const struct machine *m)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)(ts.tv_sec - m->made.tv_sec) +
	       (double)(ts.tv_nsec - m->made.tv_nsec) / 1e9;
}

static void trace_access(const struct vcpu *v, enum bus_space space, uint64_t addr,
		  unsigned width, uint64_t value, bool is_write)
{
	const char *name;

	if (!v->m->config.trace)
		return;
	name = bus_name(v->m->board.bus, space, addr);
	fprintf(v->m->config.trace, "%.6f cpu%u %s %s 0x%llx/%u %s 0x%llx %s\n",
		now(v->m), v->id, space == BUS_PORT ? "port" : "mmio",
		is_write ? "write" : "read", (unsigned long long)addr, width,
		is_write ? "<-" : "->", (unsigned long long)value,
		name[0] ? name : "(nobody)");
}

/* An exit that is no access; those are traced one by one when they are done. */
static void trace_exit(const struct vcpu *v, const char *name)
{
	if (v->m->config.trace)
		fprintf(v->m->config.trace, "%.6f cpu%u exit %s\n", now(v->m), v->id, name);
}

/* -- Exits ------------------------------------------------------------------------------ */

static uint64_t load(const uint8_t *p, unsigned width)
{
	uint64_t v = 0;

	memcpy(&v, p, width);
	return v;
}

static void do_access(struct vcpu *v, enum bus_space space, uint64_t addr,
		      uint8_t *data, unsigned width, bool is_write)
{
	struct bus *bus = v->m->board.bus;
	uint64_t value;

	if (is_write) {
		value = load(data, width);
		bus_write(bus, space, addr, width, value);
	} else {
		value = bus_read(bus, space, addr, width);
		memcpy(data, &value, width);
	}
	trace_access(v, space, addr, width, value, is_write);
}

static bool exit_io(struct vcpu *v)
{
	struct kvm_run *run = v->run;
	uint8_t *data = (uint8_t *)run + run->io.data_offset;

	/* A string instruction moves many items through one port. */
	for (uint32_t i = 0; i < run->io.count; i++, data += run->io.size)
		do_access(v, BUS_PORT, run->io.port, data, run->io.size,
		       run->io.direction == KVM_EXIT_IO_OUT);
	return true;
}

/* A fragment at the edge of a page may have any length; the bus has powers of two. */
static bool exit_mmio(struct vcpu *v)
{
	struct kvm_run *run = v->run;
	unsigned at = 0, len = run->mmio.len < 8 ? run->mmio.len : 8;

	while (at < len) {
		unsigned width = 8;

		while (width > len - at)
			width /= 2;
		do_access(v, BUS_MMIO, run->mmio.phys_addr + at, run->mmio.data + at,
			  width, run->mmio.is_write);
		at += width;
	}
	return true;
}

static bool again(struct vcpu *v)
{
	(void)v;
	return true;
}

__attribute__((format(printf, 3, 4)))
static bool over(struct vcpu *v, enum machine_reason reason, const char *fmt, ...)
{
	struct machine_end end = {.reason = reason, .vcpu = v->id};
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(end.text, sizeof(end.text), fmt, ap);
	va_end(ap);
	machine_over(v->m, &end);
	return false;
}

/* "at rip 0x..., cr0 ..., cr3 ...": where it was, for messages. */
static const char *where(const struct vcpu *v, char *buf, size_t len)
{
	const struct kvm_face *face = v->vm->face;
	struct kvm_sregs s;
	struct kvm_regs r;

	if (face->ioctl(v->fd, KVM_GET_REGS, &r) < 0 ||
	    face->ioctl(v->fd, KVM_GET_SREGS, &s) < 0)
		snprintf(buf, len, "somewhere");
	else
		snprintf(buf, len, "at %04x:%llx, cr0 %llx cr2 %llx cr3 %llx rsp %llx",
			 s.cs.selector, r.rip, s.cr0, s.cr2, s.cr3, r.rsp);
	return buf;
}

static bool exit_shutdown(struct vcpu *v)
{
	char buf[128];

	return over(v, MACHINE_TRIPLE_FAULT, "triple fault on vCPU %u, %s", v->id,
		    where(v, buf, sizeof(buf)));
}

static bool exit_fail_entry(struct vcpu *v)
{
	char buf[128];

	return over(
		v, MACHINE_FAILED,
		"the CPU refuses to enter the guest on vCPU %u (reason 0x%llx), %s",
		v->id,
		(unsigned long long)v->run->fail_entry.hardware_entry_failure_reason,
		where(v, buf, sizeof(buf)));
}

static const char *const internal_errors[] = {
	[KVM_INTERNAL_ERROR_EMULATION] = "an instruction that it cannot emulate",
	[KVM_INTERNAL_ERROR_SIMUL_EX] = "exceptions at the same time",
	[KVM_INTERNAL_ERROR_DELIVERY_EV] = "an event that it cannot deliver",
	[KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON] =
		"an exit of the CPU that it does not know",
};

static bool exit_internal_error(struct vcpu *v)
{
	uint32_t sub = v->run->internal.suberror;
	const char *what =
		sub < ARRAY_SIZE(internal_errors) ? internal_errors[sub] : NULL;
	char buf[128];

	return over(v, MACHINE_FAILED,
		    "engine '%s' met %s (suberror %u) on vCPU %u, %s",
		    v->vm->face->name, what ? what : "an internal error", sub, v->id,
		    where(v, buf, sizeof(buf)));
}

static bool exit_system_event(struct vcpu *v)
{
	switch (v->run->system_event.type) {
	case KVM_SYSTEM_EVENT_SHUTDOWN:
		return over(v, MACHINE_OFF, "the engine reports a power-off");
	case KVM_SYSTEM_EVENT_RESET:
		return over(v, MACHINE_RESET, "the engine reports a reset");
	default:
		return over(v, MACHINE_FAILED,
			    "the guest crashed, says the engine (event %u)",
			    v->run->system_event.type);
	}
}

static bool (*const on_exit_reason[VCPU_REASONS])(struct vcpu *v) = {
	[KVM_EXIT_IO] = exit_io,
	[KVM_EXIT_MMIO] = exit_mmio,
	[KVM_EXIT_HLT] = again,
	[KVM_EXIT_INTR] = again,
	[KVM_EXIT_IRQ_WINDOW_OPEN] = again,
	[KVM_EXIT_SHUTDOWN] = exit_shutdown,
	[KVM_EXIT_FAIL_ENTRY] = exit_fail_entry,
	[KVM_EXIT_INTERNAL_ERROR] = exit_internal_error,
	[KVM_EXIT_SYSTEM_EVENT] = exit_system_event,
};

static bool handle(struct vcpu *v)
{
	uint32_t reason = v->run->exit_reason;
	const char *name = kvm_exit_name(reason);
	char buf[128];

	if (reason < VCPU_REASONS)
		atomic_fetch_add_explicit(&v->exits[reason], 1, memory_order_relaxed);
	if (reason != KVM_EXIT_IO && reason != KVM_EXIT_MMIO)
		trace_exit(v, name ? name : "unknown");
	if (reason < VCPU_REASONS && on_exit_reason[reason])
		return on_exit_reason[reason](v);
	return over(v, MACHINE_FAILED, "unexpected exit %s (%u) on vCPU %u, %s",
		    name ? name : "unknown", reason, v->id, where(v, buf, sizeof(buf)));
}

/* -- The loop --------------------------------------------------------------------------- */

#define AWAY_MS 1000

/* Nearly free, and right to some milliseconds. */
static int64_t coarse_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
	return ts.tv_sec * INT64_C(1000) + ts.tv_nsec / 1000000;
}

/* A guest without kvmclock, which this call refuses, cannot be told. */
static void was_away(const struct vcpu *v)
{
	v->vm->face->ioctl(v->fd, KVM_KVMCLOCK_CTRL, NULL);
}

static bool handle_in_time(struct vcpu *v)
{
	int64_t before = coarse_ms();
	bool goes_on = handle(v);

	if (coarse_ms() - before >= AWAY_MS)
		was_away(v);
	return goes_on;
}

static bool run_once(struct vcpu *v)
{
	int rc = v->vm->face->ioctl(v->fd, KVM_RUN, NULL);

	if (rc >= 0)
		return handle_in_time(v);
	if (rc == -EINTR || rc == -EAGAIN) {
		atomic_fetch_add_explicit(&v->interrupted, 1, memory_order_relaxed);
		trace_exit(v, "interrupted");
		was_away(v);
		return true;
	}
	return over(v, MACHINE_FAILED, "engine '%s' cannot run vCPU %u: %s",
		    v->vm->face->name, v->id, strerror(-rc));
}

/* To where state may be read. False: the machine is over. */
static bool settle(struct vcpu *v)
{
	int rc;

	__atomic_store_n(&v->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
	while ((rc = v->vm->face->ioctl(v->fd, KVM_RUN, NULL)) >= 0)
		if (!handle(v))
			return false;
	return rc == -EINTR || rc == -EAGAIN ||
	       over(v, MACHINE_FAILED, "engine '%s' cannot stop vCPU %u: %s",
		    v->vm->face->name, v->id, strerror(-rc));
}

/* Waits until the pause is over; its guest is told that time has passed. */
static void park(struct vcpu *v)
{
	settle(v);
	machine_park(v->m);
	__atomic_store_n(&v->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
	was_away(v);
}

void *vcpu_main(void *vcpu)
{
	struct vcpu *v = vcpu;
	char name[16];

	snprintf(name, sizeof(name), "vcpu%u", v->id);
	pthread_setname_np(pthread_self(), name);
	atomic_store(&v->tid, gettid());
	unblock_kick();
	while (!atomic_load(&v->m->stopping)) {
		if (atomic_load(&v->m->pausing))
			park(v);
		else if (!run_once(v))
			break;
	}
	machine_leave(v->m);
	return NULL;
}

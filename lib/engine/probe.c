/* SPDX-License-Identifier: MIT */
/*
 * The probe: typed reasons why an engine cannot be used.
 *
 * "/dev/kvm exists" says little. There are nodes that cannot be opened, modules that are not
 * loaded, containers that were given the node of a host without virtualization, and KVMs
 * that emulate ring 0 in software: they open, they answer every question, small guests run,
 * and a stock kernel dies in them or takes minutes to start. So the last question is always
 * a guest (probe_guest.S), which goes through the modes and uses what a kernel uses; and its
 * last step is timed.
 *
 * The measure of speed. Ring 0 code on hardware runs at thousands of million instructions a
 * second, translated code at hundreds or more, emulated code at one or two. The threshold
 * of 50 is far from all of them. For our own engine there is no threshold: nothing would be
 * left to run a guest with.
 *
 * CPU time is measured, not time: a busy host is neither a slow engine nor a stuck one. (With
 * six other programs to a core, each probe took more than 300 ms of time, and 20 of CPU time.)
 */
#include "engine/probe.h"

#include "base/err.h"
#include "base/macros.h"
#include "engine/kvm.h"
#include "engine/tiny.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define GUEST_BASE 0x1000
#define GUEST_MEM  (2 * MiB)
#define SLICE_MS   10

enum { PORT_STEP = 0x99, PORT_BAD = 0x9a, PORT_FAULT = 0x9b };
enum { STEP_SPEED = 10, STEP_DONE = 11 };

extern const uint8_t probe_guest[], probe_guest_end[];

/* -- Words ------------------------------------------------------------------------------ */

/* Of a KVM that opens and is none; of our own engine, should it ever do that. */
#define HALF_A_KVM "ask who runs this host for nested virtualization that works"
#define A_BUG      "report it: this is a bug of Lodge"

static const struct {
	const char *name, *hint;
} faults[PROBE_FAULTS] = {
	[PROBE_OK] = {"ok", NULL},
	[PROBE_NO_NODE] =
		{"no-node",
		 "load the kvm_intel or kvm_amd module, or pass /dev/kvm into the container"},
	[PROBE_NO_MODULE] =
		{"no-module",
		 "load the kvm_intel or kvm_amd module; the firmware may have virtualization off"},
	[PROBE_NO_PERMISSION] =
		{"no-permission",
		 "become a member of the group that owns /dev/kvm (often 'kvm')"},
	[PROBE_NO_CPU] = {"no-cpu-feature", NULL},
	[PROBE_CANNOT_OPEN] = {"cannot-open", NULL},
	[PROBE_OLD_API] = {"old-api", "use a kernel from this decade"},
	[PROBE_NO_CAPABILITY] = {"no-capability", "use a newer kernel"},
	[PROBE_NO_VM] = {"no-vm",
			 "another hypervisor may be using the CPU's virtualization"},
	[PROBE_DIED] = {"guest-died", HALF_A_KVM},
	[PROBE_WRONG] = {"wrong-result", HALF_A_KVM},
	[PROBE_STUCK] = {"guest-stuck", HALF_A_KVM},
	[PROBE_SLOW] = {"too-slow", HALF_A_KVM},
};

/* The steps of probe_guest.S. */
static const char *const steps[] = {
	[0] = "the first instruction",
	[1] = "real mode",
	[2] = "the switch to protected mode",
	[3] = "the switch to long mode",
	[4] = "loading descriptor tables",
	[5] = "cmpxchg16b in ring 0",
	[6] = "a page fault in ring 0",
	[7] = "flushing translations",
	[8] = "vector instructions in ring 0",
	[9] = "the way to ring 3 and back",
	[STEP_SPEED] = "a loop in ring 0",
	[STEP_DONE] = "the end",
};

const char *probe_fault_name(enum probe_fault fault)
{
	return fault < PROBE_FAULTS ? faults[fault].name : "unknown";
}

__attribute__((format(printf, 3, 4)))
static int say(struct probe_report *r, enum probe_fault fault, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(r->text, sizeof(r->text), fmt, ap);
	va_end(ap);
	r->fault = fault;
	r->hint = faults[fault].hint;
	return fault == PROBE_OK ? 0 : -ENODEV;
}

/* -- What it says about itself ---------------------------------------------------------- */

static enum probe_fault fault_of_open(int rc, const struct kvm_face *face)
{
	if (face == &kvm_soft)
		return rc == -ENODEV ? PROBE_NO_CPU : PROBE_CANNOT_OPEN;
	switch (rc) {
	case -ENOENT:
	case -ENOTDIR:
		return PROBE_NO_NODE;
	case -ENXIO:
	case -ENODEV:
		return PROBE_NO_MODULE;
	case -EACCES:
	case -EPERM:
		return PROBE_NO_PERMISSION;
	default:
		return PROBE_CANNOT_OPEN;
	}
}

/* What the board cannot do without. */
static const struct {
	long cap;
	const char *name;
} needed[] = {
	{KVM_CAP_IRQCHIP, "KVM_CAP_IRQCHIP"},
	{KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY"},
	{KVM_CAP_EXT_CPUID, "KVM_CAP_EXT_CPUID"},
	{KVM_CAP_PIT2, "KVM_CAP_PIT2"},
	{KVM_CAP_IRQ_ROUTING, "KVM_CAP_IRQ_ROUTING"},
	{KVM_CAP_SIGNAL_MSI, "KVM_CAP_SIGNAL_MSI"},
	{KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT"},
};

static int check_claims(const struct kvm_face *face, struct probe_report *r)
{
	struct err err = {0};
	int sys = face->open(&err), version, rc = 0;

	if (sys < 0)
		return say(r, fault_of_open(sys, face), "%s", err.text);
	version = face->ioctl(sys, KVM_GET_API_VERSION, NULL);
	if (version != KVM_API_VERSION)
		rc = say(r, PROBE_OLD_API, "API version %d, %d is needed", version,
			 KVM_API_VERSION);
	for (unsigned i = 0; rc == 0 && i < ARRAY_SIZE(needed); i++)
		if (!kvm_has(face, sys, needed[i].cap))
			rc = say(r, PROBE_NO_CAPABILITY, "%s is missing",
				 needed[i].name);
	face->close(sys);
	return rc;
}

/* -- The guest -------------------------------------------------------------------------- */

static double now_ms(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (double)ts.tv_sec * 1e3 + (double)ts.tv_nsec / 1e6;
}

static int died(const struct tiny *t, unsigned step, struct probe_report *r)
{
	const char *name = kvm_exit_name(t->run->exit_reason);

	return say(r, PROBE_DIED, "the probe guest died in %s: exit %s%s (%u)",
		   steps[step], name ? "KVM_EXIT_" : "", name ? name : "unknown",
		   t->run->exit_reason);
}

/* What an exit says: 0 and *step moved on, or a fault. */
static int on_exit_of_guest(const struct tiny *t, unsigned *step,
			    struct probe_report *r)
{
	const struct kvm_run *run = t->run;
	uint8_t value;

	if (run->exit_reason != KVM_EXIT_IO || run->io.direction != KVM_EXIT_IO_OUT)
		return died(t, *step, r);
	value = *((const uint8_t *)run + run->io.data_offset);
	switch (run->io.port) {
	case PORT_STEP:
		if (value != *step + 1)
			return say(r, PROBE_WRONG,
				   "the probe guest came from step %u to %u", *step,
				   value);
		*step = value;
		return 0;
	case PORT_FAULT:
		return say(r, PROBE_DIED, "the probe guest got exception %u in %s",
			   value, steps[*step]);
	case PORT_BAD:
		return say(r, PROBE_WRONG, "%s gave a wrong result", steps[*step]);
	default:
		return died(t, *step, r);
	}
}

/* Runs it for a moment, at the expense of *left, of PROBE_MS. A moment costs the CPU time that it
 * took, and a tenth of its length at least: an engine may be stuck asleep. */
static int run_a_while(struct tiny *t, double *left)
{
	double start = now_ms(CLOCK_THREAD_CPUTIME_ID), used;
	int rc = tiny_run(t, SLICE_MS);

	used = now_ms(CLOCK_THREAD_CPUTIME_ID) - start;
	*left -= used > SLICE_MS / 10.0 ? used : SLICE_MS / 10.0;
	return rc;
}

/* Runs the timed loop. */
static int measure(struct tiny *t, double *left, struct probe_report *r)
{
	const bool must_be_fast = t->face != &kvm_soft;
	double start = now_ms(CLOCK_THREAD_CPUTIME_ID), used;
	double begin = now_ms(CLOCK_MONOTONIC), passed;
	uint64_t turns = PROBE_TURNS;
	struct kvm_regs regs;
	int rc;

	do {
		rc = run_a_while(t, left);
		used = now_ms(CLOCK_THREAD_CPUTIME_ID) - start;
	} while (rc == -ETIME && *left > 0 && (used < PROBE_SPEED_MS || !must_be_fast));
	if (rc < 0 && rc != -ETIME)
		return say(r, PROBE_DIED, "KVM_RUN fails: %s", strerror(-rc));
	/* In the loop rdx is the number of turns, and rcx those that are left. */
	if (rc == -ETIME && tiny_call(t, KVM_GET_REGS, &regs) == 0)
		turns = regs.rdx == turns && regs.rcx <= turns ? turns - regs.rcx : 0;
	/* gVisor counts CPU time in ticks of 10 ms: none, or more than has passed. */
	passed = now_ms(CLOCK_MONOTONIC) - begin;
	used = used < passed ? used : passed;
	r->mips = used > 0.001 ? (double)turns * 4 / 1e3 / used : 0;
	if (must_be_fast && (rc == -ETIME || (r->mips > 0 && r->mips < PROBE_MIN_MIPS)))
		return say(
			r, PROBE_SLOW,
			"ring 0 runs at %.1f million instructions a second: an emulator",
			r->mips);
	return rc;
}

static int run_steps(struct tiny *t, struct probe_report *r)
{
	const int limit = t->face == &kvm_soft ? PROBE_SOFT_MS : PROBE_MS;
	double left = limit;
	unsigned step = 0;

	while (step < STEP_DONE) {
		int rc = step == STEP_SPEED ? measure(t, &left, r) : run_a_while(t, &left);

		if (rc == -ETIME && left > 0)
			continue;
		if (rc == -ETIME)
			return say(r, PROBE_STUCK,
				   "the probe guest was stuck in %s after %d ms of CPU time",
				   steps[step], limit);
		if (rc < 0)
			return r->fault ? rc
					: say(r, PROBE_DIED, "KVM_RUN fails in %s: %s",
					      steps[step], strerror(-rc));
		rc = on_exit_of_guest(t, &step, r);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int run_guest(const struct kvm_face *face, struct probe_report *r)
{
	const struct tiny_config config = {.memory = GUEST_MEM};
	struct err err = {0};
	struct tiny t;
	int rc = tiny_open(&t, face, &config, &err);

	if (rc < 0)
		return say(r, PROBE_NO_VM, "%s", err.text);
	memcpy(t.mem + GUEST_BASE, probe_guest,
	       (size_t)(probe_guest_end - probe_guest));
	rc = tiny_enter(&t, TINY_REAL, GUEST_BASE);
	if (rc < 0)
		rc = say(r, PROBE_NO_VM, "a vCPU's registers cannot be set: %s",
			 strerror(-rc));
	else
		rc = run_steps(&t, r);
	tiny_close(&t);
	return rc;
}

void probe_engine(const struct kvm_face *face, struct probe_report *r)
{
	double start = now_ms(CLOCK_MONOTONIC);

	*r = (struct probe_report){.fault = PROBE_OK};
	if (check_claims(face, r) == 0 && run_guest(face, r) == 0) {
		if (r->mips > 0)
			say(r, PROBE_OK,
			    "works; ring 0 runs at %.0f million instructions a second",
			    r->mips);
		else
			say(r, PROBE_OK, "works, faster than this computer's clock can tell");
	}
	if (face == &kvm_soft)
		r->hint = r->fault >= PROBE_DIED ? A_BUG : NULL;
	r->ms = now_ms(CLOCK_MONOTONIC) - start;
}

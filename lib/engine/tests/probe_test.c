/* SPDX-License-Identifier: MIT */
/*
 * Every reason that the probe can give, by engines that deserve it: softkvm with one thing
 * spoilt. Each must be found in time and told in a sentence.
 */
#include "base/err.h"
#include "base/macros.h"
#include "engine/kvm.h"
#include "engine/probe.h"
#include "tests/tap.h"

#include <errno.h>
#include <time.h>

enum { PORT_STEP = 0x99, PORT_BAD = 0x9a, PORT_FAULT = 0x9b }; /* of probe_guest.S */

static struct kvm_run *run; /* of the vCPU under probe */
static unsigned runs;       /* KVM_RUN so far */

/* -- How to spoil an engine ------------------------------------------------------------ */

static int no_file(struct err *err)
{
	return err_set(err, ENOENT, "/dev/kvm: gone");
}

static int nobody(struct err *err)
{
	return err_set(err, ENXIO, "/dev/kvm: nobody");
}

static int forbidden(struct err *err)
{
	return err_set(err, EACCES, "/dev/kvm: not for you");
}

static int no_descriptors(struct err *err)
{
	return err_set(err, EMFILE, "/dev/kvm: too many");
}

static int old_api(int fd, unsigned long request, void *arg)
{
	return request == KVM_GET_API_VERSION ? 11 : kvm_soft.ioctl(fd, request, arg);
}

static int no_timer_chip(int fd, unsigned long request, void *arg)
{
	if (request == KVM_CHECK_EXTENSION && arg == KVM_ARG(KVM_CAP_PIT2))
		return 0;
	return kvm_soft.ioctl(fd, request, arg);
}

static int no_vm(int fd, unsigned long request, void *arg)
{
	return request == KVM_CREATE_VM ? -EBUSY : kvm_soft.ioctl(fd, request, arg);
}

static int no_vcpu(int fd, unsigned long request, void *arg)
{
	return request == KVM_CREATE_VCPU ? -ENOMEM : kvm_soft.ioctl(fd, request, arg);
}

/* As softkvm, and then something else, from the n-th KVM_RUN on. */
static int run_then(int fd, unsigned long request, void *arg, unsigned n, void (*spoil)(void))
{
	int rc = kvm_soft.ioctl(fd, request, arg);

	if (request == KVM_RUN && rc == 0 && ++runs >= n)
		spoil();
	return rc;
}

static void shut_down(void)
{
	run->exit_reason = KVM_EXIT_SHUTDOWN;
}

static int dies(int fd, unsigned long request, void *arg)
{
	return run_then(fd, request, arg, 4, shut_down);
}

static void take_exception(void)
{
	run->io.port = PORT_FAULT;
	*((uint8_t *)run + run->io.data_offset) = 13;
}

static int faults(int fd, unsigned long request, void *arg)
{
	return run_then(fd, request, arg, 5, take_exception);
}

static void go_wrong(void)
{
	run->io.port = PORT_BAD;
}

static int miscalculates(int fd, unsigned long request, void *arg)
{
	return run_then(fd, request, arg, 6, go_wrong);
}

static void skip_step(void)
{
	++*((uint8_t *)run + run->io.data_offset);
}

static int jumps(int fd, unsigned long request, void *arg)
{
	return run_then(fd, request, arg, 2, skip_step);
}

static int fails(int fd, unsigned long request, void *arg)
{
	return request == KVM_RUN ? -EIO : kvm_soft.ioctl(fd, request, arg);
}

/* Nothing happens, until the probe loses its patience. */
static int hang(void)
{
	while (!__atomic_load_n(&run->immediate_exit, __ATOMIC_SEQ_CST))
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	return -EINTR;
}

static int hangs(int fd, unsigned long request, void *arg)
{
	return request == KVM_RUN ? hang() : kvm_soft.ioctl(fd, request, arg);
}

/* All steps, and then a loop that goes nowhere while CPU time passes. */
static int crawls(int fd, unsigned long request, void *arg)
{
	if (request != KVM_RUN || runs < 10) {
		int rc = kvm_soft.ioctl(fd, request, arg);

		runs += request == KVM_RUN && rc == 0;
		return rc;
	}
	while (!__atomic_load_n(&run->immediate_exit, __ATOMIC_SEQ_CST))
		;
	return -EINTR;
}

/* As softkvm on a busy host: most of the time it has no CPU. */
static int waits(int fd, unsigned long request, void *arg)
{
	int rc;

	if (request == KVM_RUN && runs++ % 8)
		return hang();
	do /* a kick may be left from when it waited */
		rc = kvm_soft.ioctl(fd, request, arg);
	while (request == KVM_RUN && rc == -EINTR && !run->immediate_exit);
	return rc;
}

/* -- The cases ------------------------------------------------------------------------- */

static const struct {
	int (*open)(struct err *err);
	int (*ioctl)(int fd, unsigned long request, void *arg);
	enum probe_fault fault;
	const char *words;
} cases[] = {
	{no_file, NULL, PROBE_NO_NODE, "gone"},
	{nobody, NULL, PROBE_NO_MODULE, "nobody"},
	{forbidden, NULL, PROBE_NO_PERMISSION, "not for you"},
	{no_descriptors, NULL, PROBE_CANNOT_OPEN, "too many"},
	{NULL, old_api, PROBE_OLD_API, "version 11, 12 is needed"},
	{NULL, no_timer_chip, PROBE_NO_CAPABILITY, "KVM_CAP_PIT2 is missing"},
	{NULL, no_vm, PROBE_NO_VM, "KVM_CREATE_VM fails"},
	{NULL, no_vcpu, PROBE_NO_VM, "KVM_CREATE_VCPU fails"},
	{NULL, dies, PROBE_DIED, "died in the switch to long mode: exit KVM_EXIT_SHUTDOWN"},
	{NULL, faults, PROBE_DIED, "got exception 13 in loading descriptor tables"},
	{NULL, fails, PROBE_DIED, "KVM_RUN fails in the first instruction"},
	{NULL, miscalculates, PROBE_WRONG, "cmpxchg16b in ring 0 gave a wrong result"},
	{NULL, jumps, PROBE_WRONG, "came from step 1 to 3"},
	{NULL, hangs, PROBE_STUCK, "stuck in the first instruction"},
	{NULL, crawls, PROBE_SLOW, "ring 0 runs at 0.0 million instructions a second"},
	{NULL, waits, PROBE_OK, "works"},
	{NULL, NULL, PROBE_OK, "works"},
};

static void *map_run(int fd, size_t len)
{
	return run = kvm_soft.mmap(fd, len);
}

static double cpu_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

int main(void)
{
	struct kvm_face face = kvm_soft;
	struct err err = {0};
	int sys = kvm_soft.open(&err);

	if (sys < 0) {
		skip("softkvm: %s", err.text);
		return done_testing();
	}
	kvm_soft.close(sys);
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		const char *name = probe_fault_name(cases[i].fault);
		struct probe_report r;
		double used = cpu_ms();

		face.open = cases[i].open ? cases[i].open : kvm_soft.open;
		face.ioctl = cases[i].ioctl ? cases[i].ioctl : kvm_soft.ioctl;
		face.mmap = map_run;
		runs = 0;
		probe_engine(&face, &r);
		is_str(probe_fault_name(r.fault), name, "%s: %s", name, r.text);
		ok(strstr(r.text, cases[i].words) != NULL, "%s: '%s'", name, cases[i].words);
		used = cpu_ms() - used;
		ok(used < PROBE_MS + 500, "%s: with %.0f ms of CPU time", name, used);
	}
	return done_testing();
}

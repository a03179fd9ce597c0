/* SPDX-License-Identifier: MIT */
/*
 * What an exit to the VMM costs, and what it would cost if the VMM were another process.
 *
 * A guest of softkvm writes to a port, EXITS times. Each time KVM_RUN ends, and goes on when somebody has
 * looked at struct kvm_run, which is shared memory in any case. Who that is makes the rows:
 *
 *	same process   the thread that called KVM_RUN: what lodge does
 *	futex          a child of fork(), to whom a word gives the turn; who has not got it sleeps
 *	spin N us      the same, but who has not got it looks for so long before it sleeps
 *	pipe           the same, with a byte in a pipe for each turn
 *	ioeventfd      a child that reads an eventfd. The guest does not wait for it, KVM_RUN does not end
 *
 * On one core or on two: both processes are held there. Rows take turns, ROUNDS times; the least and the
 * median are shown, for each exit. CPU time and switches are those of both processes. What a VMM does
 * about an exit is not in it: here it is nothing.
 */
#include "base/err.h"
#include "base/macros.h"
#include "base/size.h"
#include "engine/tiny.h"

#include <linux/futex.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define EXITS  2000
#define ROUNDS 15
#define CODE   0x1000
#define PORT   0x510
#define PORT_DONE (PORT + 1)

enum how { SAME, FUTEX, PIPE, EVENTFD };

static const struct way {
	const char *name;
	enum how how;
	unsigned cores, spin_us;
} ways[] = {
	{"same process", SAME, 1, 0},
	{"futex", FUTEX, 1, 0},
	{"futex", FUTEX, 2, 0},
	{"spin 5 us", FUTEX, 1, 5},
	{"spin 5 us", FUTEX, 2, 5},
	{"spin 50 us", FUTEX, 2, 50},
	{"pipe", PIPE, 1, 0},
	{"pipe", PIPE, 2, 0},
	{"ioeventfd", EVENTFD, 1, 0},
	{"ioeventfd", EVENTFD, 2, 0},
};

/* What is measured; times in ns. */
enum { WALL, CPU, SWITCHES, COSTS };

struct cost {
	double of[COSTS];
};

/* Whose turn it is. QUIT is the VMM's last. */
enum turn { ENGINE, VMM, QUIT };

static struct shared {
	_Atomic uint32_t turn, asleep[2];
	unsigned seen; /* exits, by the VMM */
	struct cost vmm;
} *shared;

static int wires[2][2], event; /* pipes to either side */
static int cpus[2] = {-1, -1};

/* -- Costs -------------------------------------------------------------------------------- */

static double now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* Of this process, until now. */
static struct cost cost(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (struct cost){{
		[WALL] = now_ns(),
		[CPU] = (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1e9 +
			(double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1e3,
		[SWITCHES] = (double)(u.ru_nvcsw + u.ru_nivcsw),
	}};
}

static struct cost since(const struct cost *begin)
{
	struct cost c = cost();

	for (unsigned i = 0; i < COSTS; i++)
		c.of[i] -= begin->of[i];
	return c;
}

/* -- Turns -------------------------------------------------------------------------------- */

static bool has_turn(enum turn me)
{
	return (atomic_load(&shared->turn) == ENGINE) == (me == ENGINE);
}

static void give_turn(const struct way *w, enum turn to)
{
	unsigned side = to != ENGINE;

	atomic_store(&shared->turn, to);
	if (w->how == PIPE) {
		if (write(wires[side][1], "", 1) < 0)
			abort(); /* there is never more than one byte in it */
	} else if (atomic_load(&shared->asleep[side])) {
		syscall(SYS_futex, &shared->turn, FUTEX_WAKE, 1, NULL, NULL, 0);
	}
}

static void spin(double ns, enum turn me)
{
	double end = now_ns() + ns;

	while (!has_turn(me) && now_ns() < end)
		__builtin_ia32_pause();
}

static void await_turn(const struct way *w, enum turn me)
{
	char byte;

	if (w->how == PIPE) {
		if (read(wires[me][0], &byte, 1) != 1)
			abort();
		return;
	}
	if (w->spin_us)
		spin(w->spin_us * 1e3, me);
	if (has_turn(me))
		return;
	atomic_store(&shared->asleep[me], 1);
	while (!has_turn(me))
		syscall(SYS_futex, &shared->turn, FUTEX_WAIT, !me, NULL, NULL, 0);
	atomic_store(&shared->asleep[me], 0);
}

/* -- The VMM ------------------------------------------------------------------------------- */

static bool vmm_next(const struct way *w)
{
	uint64_t n;

	if (w->how != EVENTFD)
		await_turn(w, VMM);
	else if (read(event, &n, sizeof(n)) < 0)
		return false;
	return atomic_load(&shared->turn) != QUIT;
}

static void vmm_main(const struct way *w, const struct kvm_run *run)
{
	struct cost begin = cost();

	while (vmm_next(w)) {
		shared->seen += w->how == EVENTFD || run->io.port == PORT;
		if (w->how != EVENTFD)
			give_turn(w, ENGINE);
	}
	shared->vmm = since(&begin);
	_exit(0);
}

static void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET((unsigned)cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

static pid_t vmm_start(const struct way *w, const struct kvm_run *run)
{
	pid_t child = w->how == SAME ? 0 : fork();

	if (w->how == SAME || child)
		return child;
	pin(cpus[w->cores - 1]);
	vmm_main(w, run);
	return 0;
}

static void vmm_end(const struct way *w, pid_t child)
{
	uint64_t one = 1;

	if (child <= 0)
		return;
	give_turn(w, QUIT);
	if (w->how == EVENTFD && write(event, &one, sizeof(one)) < 0)
		abort();
	waitpid(child, NULL, 0);
}

/* -- The engine ------------------------------------------------------------------------------ */

static int engine_make(struct tiny *t, struct err *err)
{
	/* 1: out dx, al; dec ecx; jnz 1b; inc edx; out dx, al */
	static const uint8_t code[] = {0xee, 0xff, 0xc9, 0x75, 0xfb, 0xff, 0xc2, 0xee};
	int rc = tiny_open(t, &kvm_soft, &(struct tiny_config){.memory = 2 * MiB}, err);

	if (rc == 0)
		memcpy(t->mem + CODE, code, sizeof(code));
	return rc;
}

static int engine_enter(struct tiny *t)
{
	struct kvm_regs regs;
	int rc = tiny_enter(t, TINY_LONG, CODE);

	if (rc == 0)
		rc = tiny_call(t, KVM_GET_REGS, &regs);
	regs.rcx = EXITS;
	regs.rdx = PORT;
	return rc < 0 ? rc : tiny_call(t, KVM_SET_REGS, &regs);
}

static int engine_attach(const struct way *w, struct tiny *t, uint32_t flags)
{
	struct kvm_ioeventfd e = {
		.addr = PORT, .len = 1, .fd = event, .flags = KVM_IOEVENTFD_FLAG_PIO | flags,
	};

	return w->how == EVENTFD ? t->face->ioctl(t->vm, KVM_IOEVENTFD, &e) : 0;
}

/* Until the guest is done; false if KVM_RUN ends for another reason than a port. */
static bool engine_run(const struct way *w, struct tiny *t)
{
	while (tiny_call(t, KVM_RUN, NULL) == 0 && t->run->exit_reason == KVM_EXIT_IO) {
		if (t->run->io.port == PORT_DONE)
			return true;
		if (w->how == SAME) {
			shared->seen++;
		} else {
			give_turn(w, VMM);
			await_turn(w, ENGINE);
		}
	}
	return false;
}

/* -- Measuring --------------------------------------------------------------------------------- */

static bool measure(const struct way *w, struct tiny *t, struct cost *c)
{
	struct cost begin;
	pid_t child;
	bool fine;

	memset(shared, 0, sizeof(*shared));
	if (engine_enter(t) < 0 || engine_attach(w, t, 0) < 0)
		return false;
	child = vmm_start(w, t->run);
	begin = cost();
	fine = child >= 0 && engine_run(w, t);
	*c = since(&begin);
	vmm_end(w, child);
	engine_attach(w, t, KVM_IOEVENTFD_FLAG_DEASSIGN);
	c->of[CPU] += shared->vmm.of[CPU];
	c->of[SWITCHES] += shared->vmm.of[SWITCHES];
	/* An eventfd counts: one look may see many. */
	return fine && (w->how == EVENTFD || shared->seen == EXITS);
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void print(const struct way *w, double all[COSTS][ROUNDS])
{
	for (unsigned i = 0; i < COSTS; i++)
		qsort(all[i], ROUNDS, sizeof(all[i][0]), by_value);
	printf("%-14s%6u%10.2f%10.2f%10.2f%10.2f%10.2f\n", w->name, w->cores, all[WALL][0] / EXITS / 1e3,
	       all[WALL][ROUNDS / 2] / EXITS / 1e3, all[CPU][0] / EXITS / 1e3,
	       all[CPU][ROUNDS / 2] / EXITS / 1e3, all[SWITCHES][ROUNDS / 2] / EXITS);
}

static int find_cpus(void)
{
	cpu_set_t set;
	int n = 0;

	sched_getaffinity(0, sizeof(set), &set);
	for (unsigned cpu = 0; cpu < CPU_SETSIZE && n < 2; cpu++)
		if (CPU_ISSET(cpu, &set))
			cpus[n++] = (int)cpu;
	return n;
}

static int run(struct tiny *t)
{
	static double all[ARRAY_SIZE(ways)][COSTS][ROUNDS];
	unsigned cores = (unsigned)find_cpus();
	struct cost c;

	pin(cpus[0]);
	for (unsigned i = 0; i < ARRAY_SIZE(ways) * ROUNDS; i++) {
		unsigned n = i % ARRAY_SIZE(ways);

		if (ways[n].cores > cores)
			continue;
		if (!measure(&ways[n], t, &c)) {
			fprintf(stderr, "handoff: %s: the guest did not end, or an exit was not seen\n", ways[n].name);
			return 1;
		}
		for (unsigned k = 0; k < COSTS; k++)
			all[n][k][i / ARRAY_SIZE(ways)] = c.of[k];
	}
	printf("us an exit    cores      wall    median       cpu    median  switches\n");
	for (unsigned n = 0; n < ARRAY_SIZE(ways); n++)
		if (ways[n].cores <= cores)
			print(&ways[n], all[n]);
	return 0;
}

int main(void)
{
	struct err err = {0};
	struct tiny t;
	int rc;

	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	event = eventfd(0, EFD_CLOEXEC);
	if (shared == MAP_FAILED || event < 0 || pipe(wires[0]) < 0 || pipe(wires[1]) < 0) {
		perror("handoff");
		return 1;
	}
	if (engine_make(&t, &err) < 0) {
		fprintf(stderr, "handoff: %s\n", err.text);
		return 1;
	}
	rc = run(&t);
	tiny_close(&t);
	return rc;
}

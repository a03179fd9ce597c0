/* SPDX-License-Identifier: MIT */
/*
 * How long a machine's life takes: pause, save, restore, fork; on the machine itself, without a command around.
 *
 *	life KERNEL INITRD APPEND [MEMORY_MB [ROUNDS]]
 *
 * The guest boots to a shell on ttyS0, and is asked once. Then, in each round:
 *
 *	pause     from the call to its return
 *	fork      how long the machine stands still for a fork: pause, machine_fork(), resume
 *	forked    what it takes to answer after that, most of its memory being a layer
 *	save      a paused machine to an unnamed file
 *	create    a machine from that file, to its return
 *	entered   from there to the guest's first exit to us: it has executed something
 *	answer    from the beginning of create to the shell's answer to a line that was typed at once
 *
 * Medians, in milliseconds of wall time and of CPU time of this process, and its page faults. With STATS in the
 * environment also the counters of the last one that was restored.
 */
#include "base/err.h"
#include "engine/kvm.h"
#include "machine/fork.h"
#include "machine/machine.h"
#include "machine/saved.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS_MAX 200

enum { PAUSE, FORK, FORKED, SAVE, CREATE, ENTERED, ANSWER, N_STEPS };
static const char *const names[] = {"pause", "fork", "forked", "save", "create", "entered", "answer"};

struct clocks {
	double wall, cpu, faults;
};

static struct clocks taken[N_STEPS][ROUNDS_MAX];
static struct machine *m;
static struct saved *s;
static struct err err;

static double ms_of(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (double)ts.tv_sec * 1e3 + (double)ts.tv_nsec / 1e6;
}

static struct clocks now(void)
{
	struct rusage used;

	getrusage(RUSAGE_SELF, &used);
	return (struct clocks){ms_of(CLOCK_MONOTONIC), ms_of(CLOCK_PROCESS_CPUTIME_ID),
			       (double)used.ru_minflt};
}

static void note(unsigned step, unsigned round, struct clocks begin)
{
	struct clocks end = now();

	taken[step][round] = (struct clocks){end.wall - begin.wall, end.cpu - begin.cpu,
					     end.faults - begin.faults};
}

static void die(const char *what)
{
	fprintf(stderr, "life: %s: %s\n", what, err.text);
	exit(1);
}

/* -- The console ------------------------------------------------------------------- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t more = PTHREAD_COND_INITIALIZER;
static char text[1 << 16];
static size_t n_text;

static size_t put(void *ctx, const uint8_t *bytes, size_t n)
{
	(void)ctx;
	pthread_mutex_lock(&lock);
	if (n_text + n >= sizeof(text))
		n_text = 0;
	memcpy(text + n_text, bytes, n);
	n_text += n;
	text[n_text] = 0;
	pthread_cond_signal(&more);
	pthread_mutex_unlock(&lock);
	return n;
}

static void wait_for(const char *what)
{
	pthread_mutex_lock(&lock);
	while (!strstr(text, what))
		pthread_cond_wait(&more, &lock);
	n_text = 0;
	text[0] = 0;
	pthread_mutex_unlock(&lock);
}

static void type(const char *line)
{
	size_t n = strlen(line);

	while (n) {
		size_t took = machine_console_input(m, (const uint8_t *)line, n);

		line += took;
		n -= took;
		if (n)
			nanosleep(&(struct timespec){.tv_nsec = 50000}, NULL);
	}
}

/* -- Rounds ------------------------------------------------------------------------ */

static struct machine_config config = {
	.face = &kvm_soft, .cpus = 1, .console = {.output = put},
};

static void start(void)
{
	if (machine_create(&m, &config, &err) < 0 || machine_start(m, &err) < 0)
		die("start");
}

/* Runs of vCPUs that have ended: a restored guest soon reads a timer or writes to its console. */
static bool has_exited(void)
{
	struct kvm_stat stats[256];
	int n = machine_stats(m, stats, 256);

	for (int i = 0; i < n && i < 256; i++)
		if (!strcmp(stats[i].name, "dispatches") && stats[i].value)
			return true;
	return false;
}

static void restore(int fd, unsigned round)
{
	struct clocks begin;

	machine_destroy(m);
	saved_close(s);
	begin = now();
	if (saved_open_fd(&s, dup(fd), "file", &err) < 0 || saved_config(s, &config, &err) < 0)
		die("open");
	start();
	note(CREATE, round, begin);
	while (!has_exited())
		sched_yield();
	note(ENTERED, round, begin);
	type("echo $((6*7))-$((7*6))\n");
	wait_for("42-42");
	note(ANSWER, round, begin);
}

static void fork_it(unsigned round)
{
	struct machine_fork f;
	struct clocks begin = now();

	if (machine_pause(m, &err) < 0 || machine_fork(m, &f, &err) < 0 || machine_resume(m, &err) < 0)
		die("fork");
	note(FORK, round, begin);
	begin = now();
	type("echo $((6*7))-$((7*6))\n");
	wait_for("42-42");
	note(FORKED, round, begin);
	machine_fork_close(&f);
}

static void go(unsigned round)
{
	int fd = open(".", O_TMPFILE | O_RDWR, 0600);
	struct clocks begin;

	fork_it(round);
	begin = now();
	if (machine_pause(m, &err) < 0)
		die("pause");
	note(PAUSE, round, begin);
	begin = now();
	if (fd < 0 || machine_save(m, fd, &err) < 0)
		die("save");
	note(SAVE, round, begin);
	restore(fd, round);
	close(fd);
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(const struct clocks *c, unsigned n, size_t at)
{
	double v[ROUNDS_MAX];

	for (unsigned i = 0; i < n; i++)
		memcpy(&v[i], (const char *)&c[i] + at, sizeof(v[i]));
	qsort(v, n, sizeof(v[0]), by_size);
	return v[n / 2];
}

int main(int argc, char **argv)
{
	unsigned rounds = argc > 5 ? (unsigned)atoi(argv[5]) : 20;

	if (argc < 4 || rounds > ROUNDS_MAX)
		return 2;
	config.kernel = argv[1];
	config.initrd = argv[2];
	config.cmdline = argv[3];
	config.memory = (argc > 4 ? strtoull(argv[4], NULL, 10) : 1024) << 20;
	start();
	wait_for("Lodge guest");
	type("echo $((6*7))-$((7*6))\n");
	wait_for("42-42");
	for (unsigned i = 0; i < rounds; i++)
		go(i);
	printf("%-10s %10s %10s %10s\n", "", "wall ms", "cpu ms", "faults");
	for (unsigned i = 0; i < N_STEPS; i++)
		printf("%-10s %10.2f %10.2f %10.0f\n", names[i],
		       median(taken[i], rounds, offsetof(struct clocks, wall)),
		       median(taken[i], rounds, offsetof(struct clocks, cpu)),
		       median(taken[i], rounds, offsetof(struct clocks, faults)));
	if (getenv("STATS")) {
		struct kvm_stat stats[256];
		int n = machine_stats(m, stats, 256);

		for (int i = 0; i < n; i++)
			printf("%s %llu\n", stats[i].name, stats[i].value);
	}
	machine_destroy(m);
	saved_close(s);
	return 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * lodge fork: copies of a running guest, or of a saved one.
 *
 *	here                                   the guest's lodge
 *	asks "fork"
 *	                                       pauses it, makes its memory a layer, resumes it, answers with descriptors
 *	becomes a guest, or forks processes
 *	that do
 *
 * One has its console on this terminal. With --count they are in the background, each in a session of its own, with
 * its console where `lodge console` finds it. They are told to this process by a pipe when they run; so what it prints
 * can be used at once. None runs before all are made: those that run would take the CPUs from those that are not made yet.
 */
#include "lodge.h"

#include "base/err.h"
#include "base/log.h"
#include "base/scoped.h"
#include "client.h"
#include "failure.h"
#include "forked.h"
#include "launch.h"
#include "machine/fork.h"
#include "machine/saved.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COUNT_MAX 10000

struct forked {
	const char *of;
	unsigned count; /* 0: one, here */
	struct launch launch;
	struct forked_guest guest;
	bool from_guest;
};

static const struct forked defaults = {
	.launch = LAUNCH_DEFAULTS, .guest = FORKED_NONE,
};

static const struct option options[] = {
	{"--count", "N", "so many, in the background", OPTION_NUMBER, offsetof(struct forked, count), 1,
	 COUNT_MAX, NULL},
	LAUNCH_OPTIONS(offsetof(struct forked, launch)),
	{0},
};

/* -- What is forked ------------------------------------------------------------------ */

/* A guest of that name, or else a file. */
static int find(struct forked *f, struct err *err)
{
	scoped_fd int fd = client_connect(f->of, err);

	if (fd == -ENOENT && f->of && (saved_is(f->of) || strchr(f->of, '/')))
		return saved_open(&f->guest.saved, f->of, err);
	f->from_guest = true;
	return fd < 0 ? fd : forked_ask(fd, NULL, &f->guest, err);
}

static int configure(void *forked, struct machine_config *config, struct launch_disks *disks,
		     struct err *err)
{
	struct forked *f = forked;
	int rc = launch_saved(f->guest.saved, config, disks, err);

	if (f->from_guest) {
		config->fork = &f->guest.fork;
		disks->known = true;
		forked_disks(&f->guest, disks);
	}
	return rc;
}

/* -- In the background --------------------------------------------------------------- */

static void name_one(struct forked *f, unsigned i)
{
	char *name;

	if (f->launch.name && f->count > 1 && asprintf(&name, "%s-%u", f->launch.name, i + 1) > 0)
		f->launch.name = name;
}

/* To a child, and from all of them. */
struct pipes {
	int made[2];  /* ends when all are made, or have died */
	int go[2];    /* a byte for each, when they may run; if it ends without, nobody waits for them */
	int ready[2]; /* their numbers, when they run */
};

static int open_pipes(struct pipes *p, struct err *err)
{
	if (pipe2(p->made, O_CLOEXEC) == 0 && pipe2(p->go, O_CLOEXEC) == 0 && pipe2(p->ready, O_CLOEXEC) == 0)
		return 0;
	return err_sys(err, errno, "a pipe");
}

/* Does not return. */
static void be_guest(struct forked *f, unsigned i, const struct pipes *p)
{
	int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);

	close(p->made[0]);
	close(p->go[1]);
	close(p->ready[0]);
	setsid();
	if (nothing < 0 || dup2(nothing, STDIN_FILENO) < 0 || dup2(nothing, STDOUT_FILENO) < 0)
		_exit(EXIT_FAILED);
	close(nothing);
	name_one(f, i);
	f->launch.made = p->made[1];
	f->launch.go = p->go[0];
	f->launch.ready = p->ready[1];
	f->launch.number = i;
	_exit(launch(&f->launch, configure, f));
}

/* By which other verbs know it. */
static void print_one(const struct forked *f, unsigned i, pid_t pid)
{
	if (!f->launch.name)
		printf("%d\n", (int)pid);
	else if (f->count == 1)
		printf("%s\n", f->launch.name);
	else
		printf("%s-%u\n", f->launch.name, i + 1);
}

/* Reads until all that run have said so. What they have to say against it, they say on stderr. */
static int wait_ready(const struct forked *f, const pid_t *pids, int from, struct err *err)
{
	scoped_mem bool *runs = calloc(f->count, sizeof(*runs));
	unsigned n = 0;
	uint32_t number;

	while (runs && read(from, &number, sizeof(number)) == sizeof(number))
		if (number < f->count)
			runs[number] = true;
	for (unsigned i = 0; runs && i < f->count; i++)
		if (runs[i]) {
			print_one(f, i, pids[i]);
			n++;
		}
	if (n == f->count)
		return EXIT_OK;
	err_set(err, EIO, "%u of %u forks run", n, f->count);
	return report_failure(err);
}

static int start_all(struct forked *f, struct err *err)
{
	scoped_mem pid_t *pids = calloc(f->count, sizeof(*pids));
	struct pipes p;
	int code;
	char none;

	if (!pids || open_pipes(&p, err) < 0)
		return report_failure(err);
	for (unsigned i = 0; i < f->count; i++) {
		pids[i] = fork();
		if (pids[i] == 0)
			be_guest(f, i, &p);
		if (pids[i] < 0) {
			log_warn("fork", "a process: %s", strerror(errno));
			break;
		}
	}
	close(p.made[1]);
	while (read(p.made[0], &none, 1) < 0 && errno == EINTR)
		;
	for (unsigned i = 0; i < f->count; i++) /* COUNT_MAX bytes are less than a pipe takes */
		if (write(p.go[1], "", 1) != 1)
			break;
	close(p.go[1]);
	close(p.ready[1]);
	code = wait_ready(f, pids, p.ready[0], err);
	close(p.ready[0]);
	return code;
}

/* -- The verb ------------------------------------------------------------------------ */

static int fork_main(void *parsed)
{
	struct forked *f = parsed;
	struct err err = {0};
	int code;

	launch_prepare(&f->launch);
	if (find(f, &err) < 0)
		code = report_failure(&err);
	else
		code = f->count ? start_all(f, &err) : launch(&f->launch, configure, f);
	forked_close(&f->guest);
	return code;
}

const struct verb verb_fork = {
	.name = "fork",
	.summary = "a copy of a guest, or several, that go on from where it is",
	.text = VM_TEXT
		"It may be a saved machine's file instead. The guest goes on; it and its copies share memory\n"
		"that none of them has written since. A disk that it writes has to be qcow2, or used with\n"
		"snapshot=on; what the copies write to it goes when they end.\n\n"
		"Without --count the copy's console is here, as with `lodge restore`. With it the copies are in\n"
		"the background, with NAME-1, NAME-2 and so on as names if there is --name, and their names or\n"
		"processes are printed, a line each; `lodge console` shows one's console.\n",
	.operand = "[VM|FILE]",
	.n_operands = 1,
	.options = options,
	.size = sizeof(struct forked),
	.defaults = &defaults,
	.main = fork_main,
};

/* SPDX-License-Identifier: MIT */
/*
 * See sandbox.h. Linux gives up rights by thread: each thread that there is when the guest begins has
 * done all of it itself, and threads that are made later inherit what their maker has, and add
 * their role's filter.
 *
 *	main         prepare, ... opens files ..., capabilities, Landlock, filter, guest
 *	disk                  begin: capabilities, Landlock, filter
 *	vcpu                                                         begin: filter
 *
 * The filter is the wall; the rest is for what a filter cannot see (names of files), and for kernels
 * where one of them has a hole.
 *
 * A forbidden call is denied before anybody hears of it. That a handler then says which it was is
 * for who reports a bug: who controls the process could do without the handler, not without the denial.
 */
#include "sandbox/sandbox.h"

#include "base/log.h"
#include "base/macros.h"
#include "base/thread.h"
#include "sandbox/filter.h"
#include "sandbox/inherited.h"
#include "sandbox/landlock.h"

#include <errno.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#ifndef SYS_SECCOMP
#define SYS_SECCOMP 1 /* si_code: a filter sent it */
#endif
#define DESCRIPTORS_MAX 256 /* 64 vCPUs and 16 disks have about 100 */

static struct filter_config filter;
static void (*farewell)(void);
static bool entered; /* the main thread has; others inherit what it gave up */
static __thread const char *role = "main";

/* -- What could not be had ------------------------------------------------------------------ */

enum part { PRIVILEGES, CAPABILITIES, LANDLOCK, FILTER, PARTS };

static const char *const part_names[] = {
	[PRIVILEGES] = "no_new_privs", [CAPABILITIES] = "dropped capabilities",
	[LANDLOCK] = "Landlock", [FILTER] = "seccomp",
};

static atomic_int failures[PARTS]; /* errno of any thread */

static bool note(enum part part, int rc)
{
	if (rc < 0)
		atomic_store(&failures[part], -rc);
	return rc == 0;
}

static void list_failures(char missing[SANDBOX_MISSING])
{
	size_t n = 0;

	missing[0] = 0;
	for (unsigned i = 0; i < PARTS; i++) {
		int why = atomic_load(&failures[i]);

		if (why && n < SANDBOX_MISSING)
			n += (size_t)snprintf(missing + n, SANDBOX_MISSING - n, "%s%s (%s)",
					      n ? ", " : "", part_names[i], strerror(why));
	}
}

/* -- Rights ----------------------------------------------------------------------------------- */

/* The bounding set takes a privilege to shrink; who has none gets none from there either. */
static int drop_capabilities(void)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[2] = {{0}};

	for (unsigned long cap = 0; prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) == 0; cap++)
		;
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	return syscall(SYS_capset, &head, none) ? -errno : 0;
}

static void limit_descriptors(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	if (limit.rlim_cur > DESCRIPTORS_MAX)
		limit.rlim_cur = DESCRIPTORS_MAX;
	limit.rlim_max = limit.rlim_cur;
	setrlimit(RLIMIT_NOFILE, &limit);
}

/* -- A forbidden call --------------------------------------------------------------------------- */

static void say(const siginfo_t *info, const ucontext_t *uc)
{
	const greg_t *r = uc->uc_mcontext.gregs;
	char text[400];
	int n = snprintf(text, sizeof(text),
			 "lodge: sandbox: a thread of role '%s' made system call %d (%#llx, %#llx, "
			 "%#llx), which is not on its list: lodge ends. That is a bug of lodge, or "
			 "a guest that has left its engine\n",
			 role, info->si_syscall, (unsigned long long)r[REG_RDI],
			 (unsigned long long)r[REG_RSI], (unsigned long long)r[REG_RDX]);

	if (write(STDERR_FILENO, text, (size_t)n) < 0)
		return; /* nobody listens */
}

/* SIGSYS is blocked now: the second forbidden call is the end, with a core dump if that is wanted. */
static void on_forbidden(int sig, siginfo_t *info, void *uc)
{
	if (farewell)
		farewell();
	if (info->si_code == SYS_SECCOMP)
		say(info, uc);
	syscall(SYS_execve, NULL, NULL, NULL);
	_exit(128 + sig);
}

/* -- Entering ------------------------------------------------------------------------------------- */

static void enter(const char *name, const char *removes)
{
	const struct landlock_left left = {.removes = removes};
	int which = filter_role(name);

	if (which < 0)
		abort(); /* a role without rows in calls.def */
	role = name;
	if (!entered) {
		note(CAPABILITIES, drop_capabilities());
		if (!note(LANDLOCK, landlock_enter(&left)))
			filter.removes = false;
	}
	note(FILTER, filter_enter(which, &filter));
}

static void on_thread_start(const char *name)
{
	enter(name, NULL);
}

void sandbox_prepare(void)
{
	inherited_note();
	note(PRIVILEGES, prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? -errno : 0);
	thread_on_start(on_thread_start);
}

void sandbox_enter(const struct sandbox_config *config, char missing[SANDBOX_MISSING])
{
	struct sigaction sa = {.sa_sigaction = on_forbidden, .sa_flags = SA_SIGINFO | SA_ONSTACK};

	tzset(); /* reads a file, for which dates are asked later */
	inherited_close();
	limit_descriptors();
	farewell = config->farewell;
	sigaction(SIGSYS, &sa, NULL);
	filter = (struct filter_config){.makes_code = config->makes_code,
					.removes = config->removes};
	enter("main", config->removes);
	entered = true;
	list_failures(missing);
}

void sandbox_alone(const char *name, const struct sandbox_needs *needs)
{
	const struct landlock_left left = {
		.reads = {needs->reads[0], needs->reads[1]}, .shares = needs->shares, .readonly = needs->readonly, .network = needs->network,
	};

	char missing[SANDBOX_MISSING];
	int rc;

	note(PRIVILEGES, prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? -errno : 0);
	note(CAPABILITIES, drop_capabilities());
	rc = landlock_enter(&left);
	if (rc != -ENOSYS && rc != -EOPNOTSUPP) /* a kernel without it: lodge says so itself */
		note(LANDLOCK, rc);
	note(FILTER, filter_enter(filter_role(name), &filter));
	list_failures(missing);
	if (missing[0])
		log_warn("sandbox", "lodge-%s is here without %s", name, missing);
}

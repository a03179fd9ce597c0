/* SPDX-License-Identifier: MIT */
/*
 * See thread.h. What a new thread needs to know is on its maker's stack, who waits until it has been read.
 */
#include "base/thread.h"

#include "base/macros.h"

#include <errno.h>
#include <semaphore.h>
#include <signal.h>

struct start {
	const char *role;
	void *(*run)(void *arg);
	void *arg;
	sem_t begun;
};

static void (*on_start)(const char *role);

void thread_on_start(void (*hook)(const char *role))
{
	on_start = hook;
}

static void *begin(void *of)
{
	struct start *s = of;
	void *(*run)(void *) = s->run;
	void *arg = s->arg;

	if (on_start)
		on_start(s->role);
	sem_post(&s->begun);
	return run(arg);
}

static void block_signals(sigset_t *before)
{
	static const int own[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS};
	sigset_t all;

	sigfillset(&all);
	for (unsigned i = 0; i < ARRAY_SIZE(own); i++)
		sigdelset(&all, own[i]);
	pthread_sigmask(SIG_SETMASK, &all, before);
}

int thread_start(pthread_t *thread, const char *role, void *(*run)(void *arg), void *arg)
{
	struct start s = {.role = role, .run = run, .arg = arg};
	sigset_t before;
	int rc;

	sem_init(&s.begun, 0, 0);
	block_signals(&before);
	rc = pthread_create(thread, NULL, begin, &s);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	while (rc == 0 && sem_wait(&s.begun) < 0 && errno == EINTR)
		;
	sem_destroy(&s.begun);
	return -rc;
}

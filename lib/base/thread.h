/* SPDX-License-Identifier: MIT */
/*
 * Threads, each with a role: a word that says what it is for.
 *
 *	pthread_t t;
 *
 *	thread_on_start(shut_itself_in);              a program's wish, once
 *	rc = thread_start(&t, "disk", work, pool);    0 or -errno
 *
 * A thread first does what the program wishes of threads of its role, and thread_start() returns
 * when that is done. Signals are not for them but for the main thread: all are blocked, except those
 * that the thread's own instructions and system calls raise.
 */
#ifndef BASE_THREAD_H
#define BASE_THREAD_H

#include <pthread.h>

/* Called by each thread that is started from here on, before its function; NULL: nothing is. */
void thread_on_start(void (*hook)(const char *role));

/* `role` is a static string. 0 or -errno. */
int thread_start(pthread_t *thread, const char *role, void *(*run)(void *arg), void *arg);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * The kernel's work: system calls, faults, mappings, switches, processes. A row whose call
 * fails ends the program: a wrong number is worse than none.
 */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

#define PAGE 4096

static void must(bool good, const char *what)
{
	if (!good) {
		perror(what);
		exit(1);
	}
}

static uint64_t getppid_call(uint64_t n)
{
	uint64_t sum = 0;

	while (n--)
		sum += syscall(SYS_getppid);
	return sum;
}

static uint64_t pipe_byte(uint64_t n)
{
	static int fds[2];
	char c = 'x';

	if (!fds[1])
		must(pipe(fds) == 0, "pipe");
	while (n--) {
		must(write(fds[1], &c, 1) == 1, "write");
		must(read(fds[0], &c, 1) == 1, "read");
	}
	return c;
}

static void caught(int number)
{
	(void)number;
}

static uint64_t signal_self(uint64_t n)
{
	signal(SIGUSR1, caught);
	while (n--)
		raise(SIGUSR1);
	return 0;
}

/* One byte goes to another process and comes back: two switches on one CPU. */
static uint64_t switch_pair(uint64_t n)
{
	int there[2], back[2];
	char c = 'x';
	pid_t pid;

	must(pipe(there) == 0 && pipe(back) == 0, "pipe");
	pid = fork();
	must(pid >= 0, "fork");
	if (!pid) {
		close(there[1]);
		while (read(there[0], &c, 1) == 1)
			must(write(back[1], &c, 1) == 1, "write");
		_exit(0);
	}
	close(there[0]);
	while (n--) {
		must(write(there[1], &c, 1) == 1, "write");
		must(read(back[0], &c, 1) == 1, "read");
	}
	close(there[1]);
	close(back[0]);
	close(back[1]);
	waitpid(pid, NULL, 0);
	return c;
}

/* First touches, per page. */
static uint64_t fault(uint64_t n)
{
	uint64_t sum = 0;

	while (n) {
		uint64_t pages = n < 1024 ? n : 1024;
		uint8_t *p = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		must(p != MAP_FAILED, "mmap");
		madvise(p, pages * PAGE, MADV_NOHUGEPAGE);
		for (uint64_t i = 0; i < pages; i++)
			p[i * PAGE] = i;
		sum += p[0];
		munmap(p, pages * PAGE);
		n -= pages;
	}
	return sum;
}

static uint64_t map_unmap(uint64_t n)
{
	uint64_t sum = 0;

	while (n--) {
		uint8_t *p = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		must(p != MAP_FAILED, "mmap");
		p[0] = 1;
		sum += p[0];
		munmap(p, 16 * PAGE);
	}
	return sum;
}

static uint64_t protect(uint64_t n)
{
	static uint8_t *p;

	if (!p)
		p = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			 0);
	must(p != MAP_FAILED, "mmap");
	while (n--) {
		p[0]++;
		mprotect(p, PAGE, PROT_READ);
		mprotect(p, PAGE, PROT_READ | PROT_WRITE);
	}
	return p[0];
}

static uint64_t fork_exit(uint64_t n)
{
	while (n--) {
		pid_t pid = fork();

		must(pid >= 0, "fork");
		if (!pid)
			_exit(0);
		waitpid(pid, NULL, 0);
	}
	return 0;
}

static uint64_t fork_exec(uint64_t n)
{
	while (n--) {
		pid_t pid = fork();

		must(pid >= 0, "fork");
		if (!pid) {
			execl("/proc/self/exe", "lodge-bench", "exit", (char *)NULL);
			_exit(127);
		}
		waitpid(pid, NULL, 0);
	}
	return 0;
}

static void *thread_body(void *arg)
{
	return arg;
}

static uint64_t thread(uint64_t n)
{
	while (n--) {
		pthread_t t;

		must(pthread_create(&t, NULL, thread_body, NULL) == 0, "pthread_create");
		pthread_join(t, NULL);
	}
	return 0;
}

const struct row system_rows[] = {
	{.name = "system.getppid", .run = getppid_call},
	{.name = "system.pipe", .run = pipe_byte},
	{.name = "system.signal", .run = signal_self},
	{.name = "switch.pair", .run = switch_pair},
	{.name = "system.fault", .run = fault},
	{.name = "system.mmap", .run = map_unmap},
	{.name = "system.mprotect", .run = protect},
	{.name = "system.fork", .run = fork_exit},
	{.name = "system.fork_exec", .run = fork_exec},
	{.name = "system.thread", .run = thread},
	{0},
};

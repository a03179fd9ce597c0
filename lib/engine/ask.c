/* SPDX-License-Identifier: MIT */
/*
 * Asking, and trying.
 *
 * This runs where things are forbidden: without /proc, behind a seccomp filter that says EPERM or
 * ENOSYS, within a small ulimit -v. So no answer leans on another one, no failure ends anything,
 * and what a system call can say is not read from a file.
 */
#include "engine/ask.h"

#include "base/macros.h"
#include "base/memfile.h"
#include "base/scoped.h"
#include "engine/cgroup.h"
#include "softkvm/state/upper.h"

#include <cpuid.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <time.h>
#include <unistd.h>

/* In headers of Linux 6.3 and newer. */
#ifndef PR_GET_MDWE
#define PR_GET_MDWE 66
#endif
/* -- Files ---------------------------------------------------------------------------------- */

/* The first line that begins with `start`, behind that; false if there is none. */
static bool line_of(const char *path, const char *start, char *line, int size)
{
	FILE *f = fopen(path, "re");
	size_t len = strlen(start);
	bool found = false;

	while (f && !found && fgets(line, size, f))
		found = strncmp(line, start, len) == 0;
	if (f)
		fclose(f);
	if (found)
		memmove(line, line + len, strlen(line + len) + 1);
	return found;
}

/* -- The CPU -------------------------------------------------------------------------------- */

/* What CPUID says as text may be anything under a hypervisor. */
static void words_to_text(char *out, const uint32_t *words, size_t len)
{
	memcpy(out, words, len);
	out[len] = 0;
	for (char *p = out; *p; p++)
		if (*p < ' ' || *p > '~')
			*p = '?';
}

static void ask_brand(struct answers *a)
{
	uint32_t r[12];

	if ((uint32_t)__get_cpuid_max(0x80000000, NULL) < 0x80000004)
		return;
	for (unsigned i = 0; i < 3; i++)
		__cpuid(0x80000002 + i, r[4 * i], r[4 * i + 1], r[4 * i + 2], r[4 * i + 3]);
	words_to_text(a->brand, r, sizeof(r));
	for (size_t len = strlen(a->brand); len && a->brand[len - 1] == ' '; len--)
		a->brand[len - 1] = 0;
}

static void ask_cpu(struct answers *a)
{
	uint32_t r, b, c, d;

	__cpuid(0, r, b, c, d);
	words_to_text(a->vendor, (uint32_t[]){b, d, c}, 12);
	__cpuid(1, a->signature, b, c, d);
	if (c & 1u << 31) {
		__cpuid(0x40000000, r, b, c, d);
		words_to_text(a->hypervisor, (uint32_t[]){b, c, d}, 12);
		if (!a->hypervisor[0])
			strcpy(a->hypervisor, "?");
	}
	ask_brand(a);
	cpu_words_read(&a->cpu);
	a->has_vmx = cpu_has(&a->cpu, CPU_1_ECX, 5);
	a->has_svm = cpu_has(&a->cpu, CPU_X1_ECX, 2);
	softkvm_ways(&a->ways);
}

/* -- The kernel and what is around ------------------------------------------------------------ */

/* The first namespaces have fixed numbers. */
static bool is_first(const char *link, const char *first)
{
	char text[64];
	ssize_t len = readlink(link, text, sizeof(text) - 1);

	if (len < 0)
		return true; /* as far as one can see */
	text[len] = 0;
	return strcmp(text, first) == 0;
}

static const char *container_mark(void)
{
	if (getenv("KUBERNETES_SERVICE_HOST"))
		return "kubernetes";
	if (access("/run/.containerenv", F_OK) == 0)
		return "podman";
	return access("/.dockerenv", F_OK) == 0 ? "docker" : NULL;
}

static void ask_surroundings(struct answers *a)
{
	char clock[64] = "";

	if (uname(&a->os) < 0)
		strcpy(a->os.release, "?");
	a->has_proc = access("/proc/self/maps", R_OK) == 0;
	a->in_namespaces = !is_first("/proc/self/ns/pid", "pid:[4026531836]") ||
			   !is_first("/proc/self/ns/user", "user:[4026531837]");
	a->container = container_mark();
	line_of("/sys/devices/system/clocksource/clocksource0/current_clocksource", "", clock,
		sizeof(clock));
	a->clock_is_tsc = strcmp(clock, "tsc\n") == 0;
	a->seccomp = prctl(PR_GET_SECCOMP, 0, 0, 0, 0);
	a->no_new_privs = prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1;
	a->mdwe = prctl(PR_GET_MDWE, 0, 0, 0, 0) > 0;
	a->softkvm_words = getenv("SOFTKVM");
}

/* -- Trying --------------------------------------------------------------------------------- */

/* As translated code is kept: one mapping to write, another to run (softkvm/translate/cache.c). */
static int try_exec(void)
{
	scoped_fd int fd = memfile_create("lodge-doctor", 4096);
	void *rw, *rx;
	int rc = 0;

	if (fd < 0)
		return -fd;
	rw = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (rw == MAP_FAILED)
		return errno;
	rx = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
	if (rx == MAP_FAILED)
		rc = errno;
	else
		munmap(rx, 4096);
	munmap(rw, 4096);
	return rc;
}

/* Each vCPU has a timer, and each timer counts as a signal that waits. */
static int try_timer(void)
{
	struct sigevent none = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGURG};
	timer_t timer;

	if (timer_create(CLOCK_MONOTONIC, &none, &timer) < 0)
		return errno;
	timer_delete(timer);
	return 0;
}

static void *nothing(void *arg)
{
	return arg;
}

static int try_thread(void)
{
	pthread_t thread;
	int rc = pthread_create(&thread, NULL, nothing, NULL);

	if (rc == 0)
		pthread_join(thread, NULL);
	return rc;
}

static bool has_space(uint64_t size)
{
	void *p = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
		       0);

	return p != MAP_FAILED && munmap(p, size) == 0;
}

static uint64_t largest_space(void)
{
	uint64_t size = SPACE_WANTED;

	if (has_space(size))
		return size;
	for (size = UINT64_C(16) << 40; size >= MiB; size /= 2)
		if (has_space(size))
			return size;
	return 0;
}

static void ask_node(struct answers *a)
{
	struct stat st;

	if (stat("/dev/kvm", &st) < 0)
		return;
	a->has_node = true;
	a->node_mode = st.st_mode & 07777;
	a->node_uid = st.st_uid;
	a->node_gid = st.st_gid;
}

/* -- Limits --------------------------------------------------------------------------------- */

static uint64_t limit_of(__rlimit_resource_t what)
{
	struct rlimit limit;

	if (getrlimit(what, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY)
		return NO_LIMIT;
	return limit.rlim_cur;
}

static void ask_memory(struct answers *a)
{
	struct sysinfo info;
	char line[64];

	if (sysinfo(&info) == 0) {
		a->memory_total = (uint64_t)info.totalram * info.mem_unit;
		a->memory = (uint64_t)info.freeram * info.mem_unit;
	}
	/* What is free leaves out what the kernel would give up. */
	if (line_of("/proc/meminfo", "MemAvailable:", line, sizeof(line)))
		a->memory = strtoull(line, NULL, 10) * KiB;
}

static void ask_limits(struct answers *a)
{
	a->limit_as = limit_of(RLIMIT_AS);
	a->limit_nproc = limit_of(RLIMIT_NPROC);
	a->limit_sigpending = limit_of(RLIMIT_SIGPENDING);
	a->cgroup_memory = cgroup_limit("", CGROUP_MEMORY);
	a->cgroup_pids = cgroup_limit("", CGROUP_PIDS);
}

void ask_host(struct answers *a)
{
	*a = (struct answers){0};
	a->space = largest_space(); /* before anybody takes some of it */
	ask_cpu(a);
	ask_surroundings(a);
	a->exec = try_exec();
	a->timer = try_timer();
	a->thread = try_thread();
	a->wide = upper_exists();
	ask_node(a);
	ask_memory(a);
	ask_limits(a);
}

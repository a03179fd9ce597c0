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
#include "engine/cgroup.h"
#include "softkvm/state/upper.h"

#include <cpuid.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <unistd.h>

/* In headers of Linux 6.3 and newer. */
#ifndef PR_GET_MDWE
#define PR_GET_MDWE 66
#endif

/* -- Files ---------------------------------------------------------------------------------- */

#define LINES_MAX 1000 /* somebody may have mounted anything there */

/* The first line that begins with `start`, behind that; false if there is none. */
static bool line_of(const char *path, const char *start, char *line, int size)
{
	FILE *f = fopen(path, "re");
	size_t len = strlen(start);
	bool found = false;

	for (int i = 0; i < LINES_MAX && f && !found && fgets(line, size, f); i++)
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

	a->cpu = cpu_set_of_host();
	__cpuid(0, r, b, c, d);
	words_to_text(a->vendor, (uint32_t[]){b, d, c}, 12);
	__cpuid(1, a->signature, b, c, d);
	if (cpu_set_has(&a->cpu, FEATURE_hypervisor)) {
		__cpuid(0x40000000, r, b, c, d);
		words_to_text(a->hypervisor, (uint32_t[]){b, c, d}, 12);
		if (!a->hypervisor[0])
			strcpy(a->hypervisor, "?");
	}
	ask_brand(a);
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
	words_read(&a->words, false);
}

/* -- Trying --------------------------------------------------------------------------------- */

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
	unsigned long long kib;
	char line[64];

	if (sysinfo(&info) == 0) {
		a->memory_total = (uint64_t)info.totalram * info.mem_unit;
		a->memory = (uint64_t)info.freeram * info.mem_unit;
	}
	/* What is free leaves out what the kernel would give up. */
	if (line_of("/proc/meminfo", "MemAvailable:", line, sizeof(line)) &&
	    sscanf(line, "%llu", &kib) == 1 && (!a->memory_total || kib <= a->memory_total / KiB))
		a->memory = kib * KiB;
}

static void ask_limits(struct answers *a)
{
	a->limit_nproc = limit_of(RLIMIT_NPROC);
	a->limit_sigpending = limit_of(RLIMIT_SIGPENDING);
	a->cgroup_memory = cgroup_limit("", CGROUP_MEMORY);
	a->cgroup_pids = cgroup_limit("", CGROUP_PIDS);
}

void ask_host(struct answers *a)
{
	*a = (struct answers){0};
	a->wide = upper_exists(); /* before the engine takes them */
	for (unsigned i = 0; i < HOST_NEEDS; i++)
		host_ask(i, &a->needs[i]);
	ask_cpu(a);
	ask_surroundings(a);
	a->thread = try_thread();
	ask_node(a);
	ask_memory(a);
	ask_limits(a);
}

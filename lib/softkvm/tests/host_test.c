/* SPDX-License-Identifier: MIT */
/*
 * Hosts and processes that the engine cannot live in, each with its error and its sentence; and those
 * where it goes another way. What a process is forbidden it is forbidden for good, so each is a child.
 */
#include "softkvm/state/host.h"

#include "softkvm/os/space.h"
#include "softkvm/softkvm.h"
#include "tests/tap.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/kvm.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define GIB (1ull << 30)
#define LEN(a) (sizeof(a) / sizeof(*(a)))

/* -- CPUs --------------------------------------------------------------------------------- */

static bool has_v1(enum cpu_feature_id feature)
{
	return cpu_features[feature].model == CPU_V1;
}

static bool has_v2(enum cpu_feature_id feature)
{
	return cpu_features[feature].model <= CPU_V2;
}

static void test_cpus(void)
{
	is_str(host_lacks(HOST_CMPXCHG16B, has_v2), NULL, "v2 has CMPXCHG16B");
	is_str(host_lacks(HOST_LAHF, has_v2), NULL, "and LAHF");
	is_str(host_lacks(HOST_CMPXCHG16B, has_v1), "CMPXCHG16B", "v1 has not");
	is_str(host_lacks(HOST_LAHF, has_v1), "LAHF in 64-bit mode", "neither the other");
	is_str(host_lacks(HOST_TIMER, has_v1), NULL, "a timer is nothing that a CPU lacks");
}

/* -- What a process may be forbidden ------------------------------------------------------ */

static void limit(int what, uint64_t most)
{
	const struct rlimit limit = {most, most};

	if (setrlimit(what, &limit))
		_exit(125);
}

static void limit_space(void)
{
	limit(RLIMIT_AS, 64 * GIB);
}

/* A line of this process's status. */
static unsigned long long status_kib(const char *format)
{
	FILE *status = fopen("/proc/self/status", "re");
	unsigned long long kib = 0;
	char line[128];

	while (status && fgets(line, sizeof(line), status))
		if (sscanf(line, format, &kib) == 1)
			break;
	if (status)
		fclose(status);
	return kib;
}

/* Bytes of private memory that this process has mapped: terabytes under a sanitizer. */
static uint64_t data_now(void)
{
	return status_kib("VmData: %llu") << 10;
}

static void limit_data(void)
{
	limit(RLIMIT_DATA, data_now() + 2 * GIB);
}

static void limit_files(void)
{
	limit_data();
	limit(RLIMIT_FSIZE, GIB); /* and not by a signal */
}

static void limit_descriptors(void)
{
	limit(RLIMIT_NOFILE, 0);
}

static void limit_timers(void)
{
	/* Root has as many as it likes, and others may have signals that wait already. */
	if (getuid() == 0 && (setgid(65534) || setuid(65534)))
		_exit(125);
	limit(RLIMIT_SIGPENDING, 0);
}

#define WORD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define UNLESS(op, value, skip) BPF_JUMP(BPF_JMP | (op) | BPF_K, value, 0, skip)
#define RETURN(value) BPF_STMT(BPF_RET | BPF_K, value)

static void install(struct sock_filter *filter, unsigned short n)
{
	struct sock_fprog prog = {n, filter};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog, 0, 0))
		_exit(125);
}

/* No mapping that is shared and can be executed. */
static void forbid_code(void)
{
	struct sock_filter filter[] = {
		WORD(nr), UNLESS(BPF_JEQ, SYS_mmap, 5),
		WORD(args[2]), UNLESS(BPF_JSET, PROT_EXEC, 3),
		WORD(args[3]), UNLESS(BPF_JSET, MAP_SHARED, 1),
		RETURN(SECCOMP_RET_ERRNO | EPERM), RETURN(SECCOMP_RET_ALLOW),
	};

	install(filter, LEN(filter));
}

/* vm.memfd_noexec = 2 of Linux 6.3: a file must say that it is no program. */
static void demand_noexec(void)
{
	struct sock_filter filter[] = {
		WORD(nr), UNLESS(BPF_JEQ, SYS_memfd_create, 3),
		WORD(args[1]), BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 8, 1, 0),
		RETURN(SECCOMP_RET_ERRNO | EINVAL), RETURN(SECCOMP_RET_ALLOW),
	};

	install(filter, LEN(filter));
}

/* Linux before 6.3: does not know that flag. */
static void forbid_noexec(void)
{
	struct sock_filter filter[] = {
		WORD(nr), UNLESS(BPF_JEQ, SYS_memfd_create, 3),
		WORD(args[1]), UNLESS(BPF_JSET, 8, 1),
		RETURN(SECCOMP_RET_ERRNO | EINVAL), RETURN(SECCOMP_RET_ALLOW),
	};

	install(filter, LEN(filter));
}

static void forbid_timers(void)
{
	struct sock_filter filter[] = {
		WORD(nr), UNLESS(BPF_JEQ, SYS_timer_create, 1),
		RETURN(SECCOMP_RET_ERRNO | ENOSYS), RETURN(SECCOMP_RET_ALLOW),
	};

	install(filter, LEN(filter));
}

static const struct {
	const char *name;
	void (*forbid)(void);
	int rc;            /* of softkvm_open(); 0: works, and a vCPU can be made */
	const char *words; /* of the sentence */
} rows[] = {
	{"ulimit -v", limit_space, -ENOMEM, "ulimit -v allows 64 GiB: raise it"},
	{"ulimit -d", limit_data, 0, ""},
	{"ulimit -d and -f", limit_files, -ENOMEM, "ulimit -f allows 1 GiB: raise it"},
	{"ulimit -n", limit_descriptors, -EMFILE, "a memfd: Too many open files: raise ulimit -n"},
	{"ulimit -i", limit_timers, -EAGAIN,
	 "no timer can be made, and each CPU of a guest has one: Resource temporarily unavailable: "
	 "raise ulimit -i"},
	{"no executable memfd", forbid_code, -EACCES,
	 "cannot be mapped to be executed (Operation not permitted), and translated code is kept in "
	 "one: allow it in this process's seccomp filter or security policy"},
	{"memfds must be marked", demand_noexec, 0, ""},
	{"memfds cannot be marked", forbid_noexec, 0, ""},
	{"no timers", forbid_timers, -ENOSYS, 
	 "Function not implemented: allow it in this process's seccomp"},
};

static int make_vcpu(int sys)
{
	int vm = softkvm_ioctl(sys, KVM_CREATE_VM, NULL);

	return vm < 0 ? vm : softkvm_ioctl(vm, KVM_CREATE_VCPU, NULL);
}

struct outcome {
	int open, check, vcpu;
	char why[HOST_WHY];
};

static void in_child(void (*forbid)(void), struct outcome *o)
{
	int status;
	pid_t child = fork();

	if (!child) {
		forbid();
		o->open = softkvm_open();
		o->check = softkvm_check(o->why, sizeof(o->why));
		o->vcpu = o->open < 0 ? o->open : make_vcpu(o->open);
		_exit(0);
	}
	waitpid(child, &status, 0);
	is_int(status, 0, "the child comes to its end");
}

static void test_rows(void)
{
	struct outcome *o = mmap(NULL, sizeof(*o), PROT_READ | PROT_WRITE,
				 MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	for (unsigned i = 0; i < LEN(rows); i++) {
		memset(o, 0, sizeof(*o));
		in_child(rows[i].forbid, o);
		is_int(o->open < 0 ? o->open : 0, rows[i].rc, "%s: softkvm_open()",
		       rows[i].name);
		is_int(o->check, rows[i].rc, "%s: softkvm_check() says the same", rows[i].name);
		ok(strstr(o->why, rows[i].words) && !o->why[0] == !rows[i].rc, "%s: '%s'",
		   rows[i].name, o->why);
		is_int(o->vcpu < 0 ? o->vcpu : 0, rows[i].rc, "%s: a vCPU", rows[i].name);
	}
	munmap(o, sizeof(*o));
}

/* -- Sparse tables ------------------------------------------------------------------------ */

#define SPARSE (1ull << 40)

/* In KiB. */
static unsigned long long page_tables(void)
{
	return status_kib("VmPTE: %llu");
}

/* 4 MiB of page tables, and are they gone? (Those of a sanitizer's shadow, half a MiB, are not.) */
static bool gives_back(volatile uint64_t *table)
{
	unsigned long long before = page_tables(), between;

	for (uint64_t i = 0; i < 1000; i++)
		table[i << 18] = i; /* one in 2 MiB */
	between = page_tables();
	space_clear((void *)table, SPARSE);
	return between > before + 3900 && page_tables() < before + 1000 && !table[999 << 18];
}

static bool works_as_table(void)
{
	/* volatile: clang 14 takes elements that are 2^32 bytes apart for neighbours */
	volatile uint64_t *table = space_create(SPARSE);
	const uint64_t n = SPARSE / 8;
	bool fine = table && !table[n / 3] && !table[n - 1];

	if (!fine)
		return false;
	table[5] = table[n / 2] = table[n - 1] = 7;
	space_clear((void *)(table + n / 2), SPARSE / 2);
	fine = table[5] == 7 && !table[n / 2] && !table[n - 1];
	table[n - 1] = 8;
	fine = fine && table[n - 1] == 8 && gives_back(table);
	return !munmap((void *)table, SPARSE) && fine;
}

static void test_space(void)
{
	int status;
	pid_t child = fork();

	if (!child) {
		limit_data();
		_exit(!works_as_table());
	}
	waitpid(child, &status, 0);
	is_int(status, 0, "ulimit -d: a sparse table is zeros, and so again when it is cleared");
	ok(works_as_table(), "and without");
}

int main(void)
{
	test_cpus();
	test_rows();
	test_space();
	return done_testing();
}

/* SPDX-License-Identifier: MIT */
/*
 * The second wall from inside: a thread of each role tries what an attacker would try who has left
 * the engine: a child process that shuts itself in as lodge run does.
 *
 * What became of a try: the call did it (BROKEN), it failed with an errno, or it ended the process by SIGSYS.
 */
#include "sandbox/sandbox.h"

#include "base/macros.h"
#include "base/thread.h"
#include "softkvm/engine.h"
#include "softkvm/softkvm.h"

#include <asm/prctl.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/tap.h"

_Static_assert(SOFTKVM_CODE_SIZE == CODE_SIZE, "what calls.def permits is what cache.c maps");

#define DEAD 1000 /* by SIGSYS */

/* -- Tries: 0 is success, -errno failure ------------------------------------------------------- */

static int parent_pid;
static char scratch[] = "/tmp/sandbox_test.XXXXXX"; /* the directory in which files may be removed */
static char file[sizeof(scratch) + 2], elsewhere[sizeof(scratch) + 5];
static void *page;                                  /* may be read and written */

static long raw(long rc)
{
	return rc < 0 ? -errno : 0;
}

#define TRY(name, expression) static long name(void) { return raw((long)(expression)); }

TRY(try_open, syscall(SYS_open, "/etc/passwd", O_RDONLY))
TRY(try_open_write, syscall(SYS_openat, AT_FDCWD, elsewhere, O_WRONLY))
TRY(try_openat, syscall(SYS_openat, AT_FDCWD, "/etc/passwd", O_RDONLY))
TRY(try_open_nofollow, syscall(SYS_openat, AT_FDCWD, "/etc/passwd", O_RDONLY | O_NOFOLLOW))
TRY(try_openat2, syscall(SYS_openat2, AT_FDCWD, "/etc/passwd", (uint64_t[3]){0}, 24))
TRY(try_creat, syscall(SYS_creat, file, 0600))
TRY(try_stat, syscall(SYS_newfstatat, AT_FDCWD, "/etc/passwd", &(struct stat){0}, 0))
TRY(try_unlink, syscall(SYS_unlink, file))
TRY(try_unlinkat, syscall(SYS_unlinkat, AT_FDCWD, file, 0))
TRY(try_unlink_elsewhere, syscall(SYS_unlink, elsewhere))
TRY(try_rename, syscall(SYS_rename, file, elsewhere))
TRY(try_chmod, syscall(SYS_chmod, file, 0777))
TRY(try_mount, syscall(SYS_mount, "none", "/mnt", "tmpfs", 0, NULL))
TRY(try_execve, syscall(SYS_execve, "/bin/true", (char *[]){"true", NULL}, NULL))
TRY(try_execveat, syscall(SYS_execveat, AT_FDCWD, "/bin/true", (char *[]){"true", NULL}, NULL, 0))
TRY(try_fork, syscall(SYS_fork))
TRY(try_vfork, syscall(SYS_vfork))
TRY(try_clone_process, syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0))
TRY(try_clone_user, syscall(SYS_clone, CLONE_NEWUSER | CLONE_THREAD | CLONE_SIGHAND | CLONE_VM, 0, 0, 0, 0))
TRY(try_clone3, syscall(SYS_clone3, (uint64_t[8]){[4] = SIGCHLD}, 64))
TRY(try_unshare, syscall(SYS_unshare, CLONE_NEWUSER))
TRY(try_socket, syscall(SYS_socket, AF_INET, SOCK_STREAM, 0))
TRY(try_datagram, syscall(SYS_socket, AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0))
TRY(try_raw, syscall(SYS_socket, AF_INET, SOCK_RAW, 1))
TRY(try_packet, syscall(SYS_socket, AF_PACKET, SOCK_DGRAM, 0))
TRY(try_unix_socket, syscall(SYS_socket, AF_UNIX, SOCK_STREAM, 0))
TRY(try_connect, syscall(SYS_connect, 5, &(struct sockaddr_un){.sun_family = AF_UNIX}, 110))
TRY(try_bind, syscall(SYS_bind, 5, &(struct sockaddr_un){.sun_family = AF_UNIX}, 110))
TRY(try_sendto, syscall(SYS_sendto, 5, "x", 1, 0, &(struct sockaddr_un){.sun_family = AF_UNIX}, 110))
TRY(try_sendmsg, syscall(SYS_sendmsg, 5, &(struct msghdr){0}, 0))
TRY(try_mmap_exec, syscall(SYS_mmap, NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == -1 ? -1 : 0)
TRY(try_mmap_all, syscall(SYS_mmap, NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == -1 ? -1 : 0)
TRY(try_mprotect_exec, syscall(SYS_mprotect, page, 4096, PROT_READ | PROT_EXEC))
TRY(try_pkey_mprotect, syscall(SYS_pkey_mprotect, page, 4096, PROT_READ | PROT_EXEC, -1))
TRY(try_ptrace, syscall(SYS_ptrace, 0 /* TRACEME */, 0, 0, 0))
TRY(try_vm_read, syscall(SYS_process_vm_readv, parent_pid, NULL, 0, NULL, 0, 0))
TRY(try_vm_write, syscall(SYS_process_vm_writev, parent_pid, NULL, 0, NULL, 0, 0))
TRY(try_kill, syscall(SYS_kill, parent_pid, 0))
TRY(try_kill_all, syscall(SYS_kill, -1, 0))
TRY(try_tgkill, syscall(SYS_tgkill, parent_pid, parent_pid, 0))
TRY(try_tkill, syscall(SYS_tkill, parent_pid, 0))
TRY(try_sigqueue, syscall(SYS_rt_sigqueueinfo, parent_pid, 0, NULL))
TRY(try_pidfd, syscall(SYS_pidfd_open, parent_pid, 0))
TRY(try_uring, syscall(SYS_io_uring_setup, 1, (uint64_t[16]){0}))
TRY(try_bpf, syscall(SYS_bpf, 0, NULL, 0))
TRY(try_userfault, syscall(SYS_userfaultfd, 0))
TRY(try_perf, syscall(SYS_perf_event_open, NULL, 0, 0, 0, 0))
TRY(try_keyctl, syscall(SYS_keyctl, 0, 0, 0, 0, 0))
TRY(try_setuid, syscall(SYS_setuid, 0))
TRY(try_capset, syscall(SYS_capset, NULL, NULL))
TRY(try_dumpable, syscall(SYS_prctl, PR_SET_DUMPABLE, 1, 0, 0, 0))
TRY(try_seccomp_listener, syscall(SYS_prctl, PR_SET_SECCOMP, 0, 0, 0, 0))
TRY(try_set_fs, syscall(SYS_arch_prctl, ARCH_SET_FS, 0))
TRY(try_handler, syscall(SYS_rt_sigaction, SIGSYS, (uint64_t[4]){0}, NULL, 8))
TRY(try_limit, syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, &(struct rlimit){4096, 4096}, NULL))
TRY(try_tiocsti, syscall(SYS_ioctl, 0, 0x5412 /* TIOCSTI */, "x"))
TRY(try_tty, syscall(SYS_ioctl, 0, 0x540e /* TIOCSCTTY */, 1))
TRY(try_fcntl, syscall(SYS_fcntl, 0, F_DUPFD, 100))
TRY(try_dup, syscall(SYS_dup, 0))
TRY(try_run, syscall(SYS_ioctl, -1, KVM_RUN, 0))
TRY(try_memfd, syscall(SYS_memfd_create, "x", 0))
TRY(try_thread, syscall(SYS_clone, CLONE_THREAD, 0, 0, 0, 0))
TRY(try_filter, syscall(SYS_seccomp, 1, 0, NULL))
TRY(try_pread, syscall(SYS_pread64, -1, page, 1, 0))
TRY(try_allocate, syscall(SYS_fallocate, -1, 0, 0, 1))
TRY(try_poll, syscall(SYS_poll, NULL, 0, 0))
TRY(try_ppoll, syscall(SYS_ppoll, NULL, 0, &(struct timespec){0}, NULL, 0))
TRY(try_timer, syscall(SYS_timer_settime, -1, 0, NULL, NULL))
TRY(try_read, syscall(SYS_read, -1, page, 1))
TRY(try_mmap, syscall(SYS_mmap, NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == -1 ? -1 : 0)
TRY(try_tgkill_self, syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), 0))

/* The number of a call of the x32 kind, and a call of 32-bit code. */
TRY(try_x32, syscall(0x40000000 | SYS_getpid))

static long try_int80(void)
{
	long rc = 20; /* getpid */

	__asm__ volatile("int $0x80" : "+a"(rc) : : "memory", "r8", "r9", "r10", "r11");
	return 0;
}

/* As translate/cache.c maps it, and otherwise. */
static long map_code(size_t size, int flags)
{
	int fd = (int)syscall(SYS_memfd_create, "x", 0);
	void *p = mmap(NULL, SOFTKVM_CODE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (fd < 0 || p == MAP_FAILED || ftruncate(fd, SOFTKVM_CODE_SIZE))
		return -errno;
	return raw(mmap(p, size, PROT_READ | PROT_EXEC, flags | MAP_FIXED, fd, 0) == MAP_FAILED ? -1 : 0);
}

static long try_code(void) { return map_code(SOFTKVM_CODE_SIZE, MAP_SHARED); }
static long try_code_short(void) { return map_code(SOFTKVM_CODE_SIZE - 4096, MAP_SHARED); }
static long try_code_private(void) { return map_code(SOFTKVM_CODE_SIZE, MAP_PRIVATE); }

/* -- The table ------------------------------------------------------------------------------------ */

enum { MAIN, VCPU, DISK, TLS, NAT, VNC, SHARE, PULL, VSOCK, N_ROLES };

static const char *const roles[] = {"main", "vcpu", "disk", "tls", "nat", "vnc", "share", "pull", "vsock"};

#define ALL_DIE {DEAD, DEAD, DEAD, DEAD, DEAD, DEAD, DEAD, DEAD, DEAD}
#define ALL_FAIL(e) {-(e), -(e), -(e), -(e), -(e), -(e), -(e), -(e), -(e)}
#define ALL_DO {0, 0, 0, 0, 0, 0, 0, 0, 0}

static const struct {
	const char *name;
	long (*run)(void);
	long want[N_ROLES];
} tries[] = {
	{"open a file", try_open, ALL_FAIL(EACCES)},
	{"open it to write", try_open_write, ALL_FAIL(EACCES)},
	{"openat a file", try_openat, ALL_FAIL(EACCES)},
	{"openat2", try_openat2, ALL_DIE},
	{"creat", try_creat, ALL_DIE},
	{"stat a file", try_stat, {-EACCES, -EACCES, -EACCES, -EACCES, 0, -EACCES, -EACCES, -EACCES, -EACCES}},
	{"unlink where one may", try_unlink, {0, -EACCES, -EACCES, -EACCES, -EACCES, -EACCES, -EACCES, -EACCES, -EACCES}},
	{"unlink elsewhere", try_unlink_elsewhere, ALL_FAIL(EACCES)},
	{"unlinkat", try_unlinkat, {DEAD, DEAD, DEAD, DEAD, DEAD, DEAD, -EACCES, DEAD, DEAD}},
	{"open it by a name that is none's link", try_open_nofollow, ALL_FAIL(EACCES)},
	{"rename", try_rename, ALL_DIE},
	{"chmod", try_chmod, ALL_DIE},
	{"mount", try_mount, ALL_DIE},
	{"execve", try_execve, ALL_DIE},
	{"execveat", try_execveat, ALL_DIE},
	{"fork", try_fork, ALL_DIE},
	{"vfork", try_vfork, ALL_DIE},
	{"clone of a process", try_clone_process, ALL_DIE},
	{"clone into a user namespace", try_clone_user, ALL_DIE},
	{"clone3", try_clone3, {-ENOSYS, DEAD, DEAD, DEAD, DEAD, DEAD, DEAD, DEAD, DEAD}},
	{"clone of a thread", try_thread, {-EINVAL, DEAD, DEAD, DEAD, DEAD, DEAD, DEAD, DEAD, DEAD}},
	{"unshare", try_unshare, ALL_DIE},
	{"socket", try_socket, {DEAD, DEAD, DEAD, DEAD, 0, DEAD, DEAD, 0, DEAD}},
	{"a datagram socket", try_datagram, {DEAD, DEAD, DEAD, DEAD, 0, DEAD, DEAD, DEAD, DEAD}},
	{"a raw socket", try_raw, {DEAD, DEAD, DEAD, DEAD, -EPERM, DEAD, DEAD, DEAD, DEAD}},
	{"a packet socket", try_packet, {DEAD, DEAD, DEAD, DEAD, -EPERM, DEAD, DEAD, DEAD, DEAD}},
	{"a Unix socket", try_unix_socket, {DEAD, DEAD, DEAD, DEAD, -EPERM, DEAD, DEAD, DEAD, 0}},
	{"connect", try_connect, {DEAD, DEAD, DEAD, DEAD, -EBADF, DEAD, DEAD, -EBADF, -EBADF}},
	{"bind", try_bind, {DEAD, DEAD, DEAD, DEAD, -EBADF, DEAD, DEAD, DEAD, DEAD}},
	{"sendto somebody", try_sendto, {DEAD, DEAD, DEAD, DEAD, -EBADF, DEAD, DEAD, -EBADF, DEAD}},
	{"sendmsg", try_sendmsg, {-EBADF, DEAD, DEAD, -EBADF, DEAD, DEAD, DEAD, -EBADF, DEAD}},
	{"memory to execute", try_mmap_exec, ALL_DIE},
	{"memory to write and execute", try_mmap_all, ALL_DIE},
	{"a code cache", try_code, {0, DEAD, DEAD, DEAD, DEAD, DEAD, DEAD, DEAD, DEAD}},
	{"a code cache of another size", try_code_short, ALL_DIE},
	{"a code cache of one's own", try_code_private, ALL_DIE},
	{"mprotect to execute", try_mprotect_exec, ALL_DIE},
	{"pkey_mprotect to execute", try_pkey_mprotect, ALL_DIE},
	{"ptrace", try_ptrace, ALL_DIE},
	{"read the parent's memory", try_vm_read, ALL_DIE},
	{"write it", try_vm_write, ALL_DIE},
	{"kill the parent", try_kill, ALL_DIE},
	{"kill everybody", try_kill_all, ALL_DIE},
	{"kill a thread of the parent", try_tgkill, ALL_DIE},
	{"tkill", try_tkill, ALL_DIE},
	{"rt_sigqueueinfo", try_sigqueue, ALL_DIE},
	{"pidfd_open", try_pidfd, ALL_DIE},
	{"io_uring_setup", try_uring, ALL_DIE},
	{"bpf", try_bpf, ALL_DIE},
	{"userfaultfd", try_userfault, ALL_DIE},
	{"perf_event_open", try_perf, ALL_DIE},
	{"keyctl", try_keyctl, ALL_DIE},
	{"setuid", try_setuid, ALL_DIE},
	{"capset", try_capset, ALL_DIE},
	{"prctl, dumpable", try_dumpable, ALL_DIE},
	{"prctl, seccomp", try_seccomp_listener, ALL_DIE},
	{"FS base", try_set_fs, ALL_DIE},
	{"a handler for SIGSYS", try_handler, ALL_DIE},
	{"a higher limit", try_limit, ALL_DIE},
	{"TIOCSTI", try_tiocsti, ALL_DIE},
	{"TIOCSCTTY", try_tty, ALL_DIE},
	{"F_DUPFD", try_fcntl, ALL_DIE},
	{"dup", try_dup, ALL_DIE},
	{"an x32 call", try_x32, ALL_DIE},
	/* What one role needs and another does not: */
	{"KVM_RUN", try_run, {-EBADF, -EBADF, DEAD, DEAD, DEAD, DEAD, DEAD, DEAD, DEAD}},
	{"a timer", try_timer, {-EINVAL, -EINVAL, DEAD, DEAD, DEAD, DEAD, DEAD, DEAD, DEAD}},
	{"a memfd", try_memfd, {0, DEAD, DEAD, DEAD, DEAD, DEAD, DEAD, DEAD, DEAD}},
	{"another filter", try_filter, {-EFAULT, DEAD, DEAD, DEAD, DEAD, DEAD, DEAD, DEAD, DEAD}},
	{"poll", try_poll, {0, 0, 0, 0, 0, 0, DEAD, 0, 0}},
	{"ppoll", try_ppoll, {0, DEAD, DEAD, DEAD, DEAD, DEAD, DEAD, DEAD, DEAD}},
	{"read", try_read, {-EBADF, DEAD, -EBADF, -EBADF, -EBADF, DEAD, -EBADF, -EBADF, -EBADF}},
	{"pread64", try_pread, {-EBADF, DEAD, DEAD, DEAD, DEAD, DEAD, -EBADF, -EBADF, DEAD}},
	{"fallocate", try_allocate, {-EBADF, DEAD, -EBADF, DEAD, DEAD, DEAD, -EBADF, DEAD, DEAD}},
	/* What all need, so that this test is one of the list and not of a process that cannot do anything: */
	{"memory", try_mmap, ALL_DO},
	{"tgkill ourselves", try_tgkill_self, ALL_DO},
};

/* -- Running one ------------------------------------------------------------------------------------- */

#define NOTHING 12345 /* was reported */

/* What a child tells, in memory that it shares. */
static struct report {
	long outcome;
	char missing[SANDBOX_MISSING];
} *report;

static long (*the_try)(void);
static sem_t walled;

static void *run_try(void *unused)
{
	(void)unused;
	while (sem_wait(&walled) < 0)
		;
	report->outcome = the_try();
	return NULL;
}

static void goodbye(void)
{
	if (write(STDERR_FILENO, "goodbye\n", 8) != 8)
		_exit(99);
}

/* A disk's thread is there before the main thread shuts itself in, a vCPU's is made after that. */
static _Noreturn void shut_in(int role, long (*run)(void))
{
	const struct sandbox_config config = {
		.makes_code = true, .removes = scratch, .farewell = goodbye,
	};
	pthread_t thread;

	the_try = run;
	if (role >= TLS) { /* a process of its own (prog/lodge/tls/pump.c, nat/main.c, vnc/main.c, share/main.c, pull/main.c, vsock/main.c), which ends without a word */
		sandbox_alone(roles[role], &(struct sandbox_needs){.network = role == NAT || role == PULL});
		report->outcome = run();
		_exit(0);
	}
	sem_init(&walled, 0, 0);
	sandbox_prepare();
	if (role == DISK && thread_start(&thread, roles[role], run_try, NULL))
		_exit(97);
	sandbox_enter(&config, report->missing);
	if (role == VCPU && thread_start(&thread, roles[role], run_try, NULL))
		_exit(96);
	sem_post(&walled);
	if (role == MAIN)
		run_try(NULL);
	else
		pthread_join(thread, NULL);
	_exit(0);
}

/* The try's outcome, in a child; `said` is what came on stderr. */
static long attempt(int role, long (*run)(void), char said[1000])
{
	int err[2], status;
	size_t n = 0;
	ssize_t more;
	pid_t pid;

	if (pipe(err) < 0)
		return NOTHING;
	report->outcome = NOTHING;
	report->missing[0] = 0;
	pid = fork();
	if (pid == 0) {
		dup2(err[1], STDERR_FILENO);
		shut_in(role, run);
	}
	close(err[1]);
	while ((more = read(err[0], said + n, 999 - n)) > 0)
		n += (size_t)more;
	said[n] = 0;
	close(err[0]);
	waitpid(pid, &status, 0);
	if (WIFSIGNALED(status))
		return WTERMSIG(status) == SIGSYS ? DEAD : DEAD + WTERMSIG(status);
	return WEXITSTATUS(status) ? NOTHING : report->outcome;
}

static void make_scratch(void)
{
	if (!mkdtemp(scratch))
		exit(2);
	snprintf(file, sizeof(file), "%s/f", scratch);
	snprintf(elsewhere, sizeof(elsewhere), "%s.else", scratch);
	close(open(elsewhere, O_CREAT | O_RDWR, 0600));
	page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static void remove_scratch(void)
{
	unlink(file);
	unlink(elsewhere);
	rmdir(scratch);
}

static void test_role(int role, bool has_landlock)
{
	char said[1000], words[100];

	snprintf(words, sizeof(words), "goodbye\nlodge: sandbox: a thread of role '%s' made system call ",
		 roles[role]);
	for (unsigned i = 0; i < ARRAY_SIZE(tries); i++) {
		long want = tries[i].want[role], got;

		if (tries[i].run == try_unlink && !has_landlock)
			want = -EACCES;
		if (tries[i].run == try_openat && role == NAT && !has_landlock)
			want = 0; /* so it says in docs/why/net.md */
		if ((tries[i].run == try_unlinkat || tries[i].run == try_open_nofollow) && role == SHARE && !has_landlock)
			want = 0; /* and in docs/why/share.md */
		if (tries[i].run == try_open_nofollow && role == NAT && !has_landlock)
			want = 0;
		close(open(file, O_CREAT | O_RDWR, 0600));
		got = attempt(role, tries[i].run, said);
		is_int(got, want, "%s: %s", roles[role], tries[i].name);
		if (want == DEAD && role < TLS)
			ok(strncmp(said, words, strlen(words)) == 0, "and a sentence says so: %.60s", said);
	}
}

/* -- The rest -------------------------------------------------------------------------------------------- */

/* Where there is no 32-bit code the CPU refuses it first. */
static void test_int80(void)
{
	char said[1000];
	long got = attempt(MAIN, try_int80, said);

	ok(got == DEAD || got == DEAD + SIGSEGV, "int $0x80 ends it: %ld", got);
}

#define INHERITED 77

static int kept_fd;

static long try_descriptors(void)
{
	uint8_t byte;

	if (read(INHERITED, &byte, 1) >= 0 || errno != EBADF)
		return -1;
	return read(kept_fd, &byte, 1) == 1 ? 0 : -2;
}

/* Opened before, and between. */
static void test_descriptors(void)
{
	int zero = open("/dev/zero", O_RDONLY), pipes[2], status;

	dup2(zero, INHERITED);
	ok(pipe(pipes) == 0, "a pipe");
	report->outcome = NOTHING;
	if (fork() == 0) {
		const struct sandbox_config config = {0};

		sandbox_prepare();
		kept_fd = open("/dev/zero", O_RDONLY);
		sandbox_enter(&config, report->missing);
		report->outcome = try_descriptors();
		_exit(0);
	}
	wait(&status);
	is_int(report->outcome, 0, "an inherited descriptor is closed, one's own is not");
	close(INHERITED);
	close(zero);
	close(pipes[0]);
	close(pipes[1]);
}

/* A SIGSYS that somebody sends is an end like other signals', without the sentence. */
static long try_raise(void)
{
	return raise(SIGSYS);
}

static void test_raised(void)
{
	char said[1000];

	is_int(attempt(VCPU, try_raise, said), DEAD, "a SIGSYS from elsewhere ends it");
	is_str(said, "goodbye\n", "and blames no call");
}

/* A shared directory is the one that is open, whatever leads to it by now: root, who was let through to it, gives that right up first. */
static void test_shared(bool has_landlock)
{
	char was[100], moved[100];
	int dir, status;

	snprintf(was, sizeof(was), "%s.was", scratch);
	snprintf(moved, sizeof(moved), "%s.moved", scratch);
	ok(mkdir(was, 0700) == 0 && (dir = open(was, O_PATH | O_DIRECTORY)) >= 0 && rename(was, moved) == 0, "a directory that is open, and moved");
	report->outcome = NOTHING;
	if (fork() == 0) {
		sandbox_alone("share", &(struct sandbox_needs){.shares = &dir});
		report->outcome = openat(dir, "f", O_CREAT | O_WRONLY | O_NOFOLLOW, 0600) < 0 ? -errno
				  : openat(AT_FDCWD, elsewhere, O_RDONLY | O_NOFOLLOW) < 0 ? errno : 0;
		_exit(0);
	}
	wait(&status);
	is_int(report->outcome, has_landlock ? EACCES : 0, "can be used, and nothing else can");
	unlinkat(dir, "f", 0);
	rmdir(moved);
	close(dir);
}

int main(void)
{
	char said[1000];
	bool has_landlock;

	closefrom(3); /* who tries a descriptor means one that is not there */
	report = mmap(NULL, sizeof(*report), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	parent_pid = getpid();
	make_scratch();
	is_int(attempt(MAIN, try_mmap, said), 0, "a process shuts itself in: '%s' is missing", report->missing);
	has_landlock = !strstr(report->missing, "Landlock");
	if (strstr(report->missing, "seccomp")) {
		skip("seccomp is not to be had here");
	} else {
		for (int role = 0; role < N_ROLES; role++)
			test_role(role, has_landlock);
		test_int80();
		test_descriptors();
		test_raised();
		test_shared(has_landlock);
	}
	remove_scratch();
	return done_testing();
}

/* SPDX-License-Identifier: MIT */
/*
 * Cases on the CPU itself.
 *
 * They run in a child process, because they own its low addresses, its signals and whatever
 * else a wild store finds. Parent and child share one piece of memory: cases go in, outcomes
 * come out, a batch at a time; a byte through a pipe says "go" and another "done".
 *
 *	child                            the case
 *	XRSTOR, FS, GS, registers, IRET  -> instructions ... INT3 or a fault
 *	next case  <- registers out of the signal frame <- signal
 *
 * The signal frame has everything: registers, vector, error code, CR2, and the XSAVE image.
 * The handler does not return but leaves by restoring the stack of native_enter().
 *
 * A filter (seccomp) turns system calls made from where cases are into SIGSYS. A case that does not
 * end is noticed by the parent, which sends SIGALRM; one that kills the child costs a new child.
 */
#include "insn.h"

#include <asm/prctl.h>
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#define ENDLESS_MS 50

struct shared {
	_Atomic unsigned at;          /* the case that runs */
	unsigned count;
};

struct native {
	struct shared *shared;
	struct test_case *cases;
	struct outcome *outcomes;
	size_t len;
	pid_t child;
	int go, done;                 /* pipes */
};

/* -- The child: into the case ---------------------------------------------------------------- */

void native_enter(const struct start *s, const uint8_t *vectors);
void native_signal(void);
void native_leave(void) __attribute__((noreturn));
void native_on_signal(int sig, siginfo_t *info, void *context);

/* What the assembly leaves for C and the other way round. */
uint64_t native_rsp, native_host_fs, native_fs, native_gs;
uint16_t native_sel[4];

__asm__(".text\n"
	"native_enter:\n"
	"	push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
	"	mov %rsp, native_rsp(%rip)\n"
	"	mov $-1, %eax\n"
	"	mov $-1, %edx\n"
	"	xrstor64 (%rsi)\n"
	"	mov 176(%rdi), %ds\n"
	"	mov 178(%rdi), %es\n"
	"	mov 180(%rdi), %fs\n"
	"	mov 182(%rdi), %gs\n"
	"	mov 160(%rdi), %rax\n"
	"	wrfsbase %rax\n"
	"	mov 168(%rdi), %rax\n"
	"	wrgsbase %rax\n"
	"	pushq 152(%rdi)\n" /* SS RSP RFLAGS CS RIP */
	"	pushq 32(%rdi)\n"
	"	pushq 136(%rdi)\n"
	"	pushq 144(%rdi)\n"
	"	pushq 128(%rdi)\n"
	"	mov 0(%rdi), %rax\n"
	"	mov 8(%rdi), %rcx\n"
	"	mov 16(%rdi), %rdx\n"
	"	mov 24(%rdi), %rbx\n"
	"	mov 40(%rdi), %rbp\n"
	"	mov 48(%rdi), %rsi\n"
	"	mov 64(%rdi), %r8\n"
	"	mov 72(%rdi), %r9\n"
	"	mov 80(%rdi), %r10\n"
	"	mov 88(%rdi), %r11\n"
	"	mov 96(%rdi), %r12\n"
	"	mov 104(%rdi), %r13\n"
	"	mov 112(%rdi), %r14\n"
	"	mov 120(%rdi), %r15\n"
	"	mov 56(%rdi), %rdi\n"
	"	iretq\n"
	"native_leave:\n"
	"	mov native_rsp(%rip), %rsp\n"
	"	pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
	"	ret\n"
	/* The case's FS base is there yet: no C before the host's is back. */
	"native_signal:\n"
	"	pushq $0x202\n" /* the kernel leaves NT and AC */
	"	popfq\n"
	"	rdfsbase %rax\n"
	"	mov %rax, native_fs(%rip)\n"
	"	rdgsbase %rax\n"
	"	mov %rax, native_gs(%rip)\n"
	"	mov %ds, %eax\n"
	"	mov %ax, native_sel(%rip)\n"
	"	mov %es, %eax\n"
	"	mov %ax, native_sel+2(%rip)\n"
	"	mov %fs, %eax\n"
	"	mov %ax, native_sel+4(%rip)\n"
	"	mov %gs, %eax\n"
	"	mov %ax, native_sel+6(%rip)\n"
	"	xor %eax, %eax\n"
	"	mov %eax, %ds\n"
	"	mov %eax, %es\n"
	"	mov %eax, %fs\n"
	"	mov %eax, %gs\n"
	"	mov native_host_fs(%rip), %rax\n"
	"	wrfsbase %rax\n"
	"	jmp native_on_signal\n");

/* -- The child: out of it ---------------------------------------------------------------------- */

static struct image image;
static uint8_t *live[PAGES];
static int sandbox[PAGES];       /* their memory */
static enum where placed;       /* where those that move are now; LAYOUTS: nowhere */
static volatile bool inside;
static struct outcome *current;

static void take_registers(struct outcome *o, const greg_t *g)
{
	static const uint8_t where[16] = {
		[X86_RAX] = REG_RAX, [X86_RCX] = REG_RCX, [X86_RDX] = REG_RDX,
		[X86_RBX] = REG_RBX, [X86_RSP] = REG_RSP, [X86_RBP] = REG_RBP,
		[X86_RSI] = REG_RSI, [X86_RDI] = REG_RDI, [X86_R8] = REG_R8,
		[X86_R9] = REG_R9,   [X86_R10] = REG_R10, [X86_R11] = REG_R11,
		[X86_R12] = REG_R12, [X86_R13] = REG_R13, [X86_R14] = REG_R14,
		[X86_R15] = REG_R15,
	};

	for (unsigned i = 0; i < 16; i++)
		o->gpr[i] = (uint64_t)g[where[i]];
	o->rip = (uint64_t)g[REG_RIP];
	o->flags = (uint64_t)g[REG_EFL];
	o->cs = (uint64_t)g[REG_CSGSFS] & 0xffff;
	o->ss = (uint64_t)g[REG_CSGSFS] >> 48;
	o->fs = native_fs;
	o->gs = native_gs;
	o->sel_ds = native_sel[0];
	o->sel_es = native_sel[1];
	o->sel_fs = native_sel[2];
	o->sel_gs = native_sel[3];
	o->vector = (uint8_t)g[REG_TRAPNO];
	o->error = (uint32_t)g[REG_ERR];
	o->cr2 = (uint64_t)g[REG_CR2];
}

void native_on_signal(int sig, siginfo_t *info, void *context)
{
	const ucontext_t *uc = context;
	struct outcome *o = current;

	(void)info;
	if (!inside) {
		if (sig == SIGALRM)
			return;
		_exit(3);
	}
	inside = false;
	o->status = sig == SIGALRM ? ENDLESS : sig == SIGSYS ? SYSCALL : RAN;
	take_registers(o, uc->uc_mcontext.gregs);
	memcpy(o->vectors, uc->uc_mcontext.fpregs, vector_size);
	native_leave();
}

/* -- The child ------------------------------------------------------------------------------------ */

/* Populated, so that an error code says that the page is present. */
#define SHARED (MAP_SHARED | MAP_POPULATE)

static bool map_page(enum where layout, unsigned i)
{
	int prot = PROT_READ | (pages[i].write ? PROT_WRITE : 0) | (pages[i].exec ? PROT_EXEC : 0);
	void *want = (void *)(uintptr_t)page_at(layout, i);

	return mmap(want, PAGE, prot, SHARED | MAP_FIXED_NOREPLACE, sandbox[i], 0) == want;
}

static bool map_sandbox(void)
{
	for (unsigned i = 0; i < PAGES; i++) {
		sandbox[i] = memfd_create("sandbox", MFD_CLOEXEC);
		if (sandbox[i] < 0 || ftruncate(sandbox[i], PAGE) < 0 || !map_page(HOME, i))
			return false;
		live[i] = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, sandbox[i], 0);
		if (live[i] == MAP_FAILED)
			return false;
	}
	return true;
}

/* Moves the pages that move. False: something else is there, or it is not for processes. */
static bool place(enum where layout)
{
	bool fits = true;

	if (placed == layout)
		return true;
	for (unsigned i = 0; i < PAGES && placed != LAYOUTS; i++)
		if (page_moves(i))
			munmap((void *)(uintptr_t)page_at(placed, i), PAGE);
	placed = layout;
	for (unsigned i = 0; i < PAGES && fits; i++)
		if (page_moves(i) && !map_page(layout, i)) {
			while (i--)
				if (page_moves(i))
					munmap((void *)(uintptr_t)page_at(layout, i), PAGE);
			placed = LAYOUTS;
			fits = false;
		}
	return fits;
}

static void catch_signals(void)
{
	static const int signals[] = {SIGILL, SIGSEGV, SIGBUS, SIGFPE, SIGTRAP, SIGSYS, SIGALRM};
	static uint8_t stack[64 << 10];
	stack_t ss = {.ss_sp = stack, .ss_size = sizeof(stack)};
	struct sigaction sa = {.sa_flags = SA_ONSTACK | SA_NODEFER | SA_SIGINFO};

	*(void **)(void *)&sa.sa_sigaction = (void *)native_signal;
	sigaltstack(&ss, NULL);
	for (unsigned i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		sigaction(signals[i], &sa, NULL);
}

/* System calls from below 8 GiB, and from the end of the lower half, are a case's. */
static bool filter_syscalls(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
			 offsetof(struct seccomp_data, instruction_pointer) + 4),
		BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, 1, 0, 3),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0x7fff, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
			 offsetof(struct seccomp_data, instruction_pointer)),
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0xffffb000, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = {.len = sizeof(code) / sizeof(code[0]), .filter = code};

	return !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) &&
	       !prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog);
}

static void run_case(const struct test_case *t, struct outcome *o)
{
	/* for kernels that put GS base back to this at a task switch; they refuse half of the values */
	syscall(SYS_arch_prctl, ARCH_SET_GS, t->start.gs);
	o->status = ELSEWHERE;
	if (t->elsewhere || !place(t->layout))
		return;
	image_set(&image, t);
	image_copy(&image, live);
	current = o;
	inside = true;
	native_enter(&t->start, t->vectors);
	image_compare(&image, live, o);
	vectors_normalize(o->vectors);
}

static void serve(struct native *n, int go, int done)
{
	char byte;

	while (read(go, &byte, 1) == 1) {
		while (n->shared->at < n->shared->count) {
			unsigned i = n->shared->at;

			run_case(&n->cases[i], &n->outcomes[i]);
			n->shared->at = i + 1;
		}
		if (write(done, &byte, 1) != 1)
			break;
	}
}

static void __attribute__((noreturn)) child_main(struct native *n, int go, int done)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	__asm__ volatile("rdfsbase %0" : "=r"(native_host_fs));
	image_init(&image);
	if (!map_sandbox() || !filter_syscalls()) {
		perror("sandbox");
		_exit(2);
	}
	catch_signals();
	serve(n, go, done);
	_exit(0);
}

/* -- The parent --------------------------------------------------------------------------------------- */

static bool start_child(struct native *n)
{
	int go[2], done[2];

	if (pipe(go) || pipe(done))
		return false;
	fflush(stdout);
	n->child = fork();
	if (n->child < 0)
		return false;
	if (n->child == 0) {
		close(go[1]);
		close(done[0]);
		child_main(n, go[0], done[1]);
	}
	close(go[0]);
	close(done[1]);
	n->go = go[1];
	n->done = done[0];
	return true;
}

static void end_child(struct native *n)
{
	close(n->go);
	close(n->done);
	kill(n->child, SIGKILL); /* another child may hold our end of its pipe */
	waitpid(n->child, NULL, 0);
}

static void *share(size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

struct native *native_create(unsigned room)
{
	struct native *n = calloc(1, sizeof(*n));

	if (!n)
		return NULL;
	n->shared = share(PAGE);
	n->cases = share(room * sizeof(struct test_case));
	n->outcomes = share(room * sizeof(struct outcome));
	signal(SIGPIPE, SIG_IGN);
	if (!n->shared || !n->cases || !n->outcomes || !start_child(n)) {
		perror("native child");
		return NULL;
	}
	return n;
}

struct test_case *native_cases(struct native *n)
{
	return n->cases;
}

struct outcome *native_outcomes(struct native *n)
{
	return n->outcomes;
}

static void go(struct native *n)
{
	char byte = 0;

	if (write(n->go, &byte, 1) != 1)
		fprintf(stderr, "native child: %s\n", strerror(errno));
}

void native_begin(struct native *n, unsigned count)
{
	n->shared->at = 0;
	n->shared->count = count;
	go(n);
}

/* The child died in a case: says so and goes on behind it with another child. */
static void replace_child(struct native *n)
{
	unsigned at = n->shared->at;

	end_child(n);
	n->outcomes[at].status = DIED;
	n->shared->at = at + 1;
	if (!start_child(n)) {
		perror("native child");
		exit(2);
	}
	go(n);
}

/* CPU time, which does not pass while the host is busy with others. */
static uint64_t cpu_ms(pid_t pid)
{
	struct timespec t = {0};
	clockid_t clock;

	if (!clock_getcpuclockid(pid, &clock))
		clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

void native_wait(struct native *n)
{
	struct pollfd p = {.fd = n->done, .events = POLLIN};
	uint64_t since = 0;
	unsigned last = ~0u;
	char byte;

	for (;;) {
		int rc;

		p.fd = n->done;
		rc = poll(&p, 1, ENDLESS_MS);
		if (rc > 0 && read(n->done, &byte, 1) == 1)
			return;
		if (rc > 0)
			replace_child(n);
		if (n->shared->at != last) {
			last = n->shared->at;
			since = cpu_ms(n->child);
		} else if (rc == 0 && cpu_ms(n->child) >= since + ENDLESS_MS) {
			kill(n->child, SIGALRM);
		}
	}
}

struct native_host native_host;

bool native_lost_fs(const struct outcome *o)
{
	return !native_host.keeps_bases && o->fs == (uintptr_t)__builtin_thread_pointer();
}

bool native_lost_gs(const struct outcome *o, const struct outcome *should)
{
	return !native_host.keeps_bases && (int64_t)should->gs < 0 && (int64_t)o->gs >= 0;
}

void native_ask(struct native *n)
{
	const struct outcome *o = native_outcomes(n);
	struct test_case *t = native_cases(n);

	native_host.keeps_bases = getauxval(AT_HWCAP2) & 2;
	native_host.is_intel = __builtin_cpu_is("intel");
	for (uint64_t number = 0; number < 64; number++) {
		case_draw(t, 1, number);
		native_begin(n, 1);
		native_wait(n);
		/* not where IRET itself faulted, in our own code */
		native_host.runs_32bit |= t->is_32bit && o->cs == t->start.cs;
	}
}

void native_destroy(struct native *n)
{
	end_child(n);
	free(n);
}

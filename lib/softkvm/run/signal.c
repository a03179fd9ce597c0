/* SPDX-License-Identifier: MIT */
/*
 * Host signals: faults of translated code, and the vCPU's timer.
 *
 * A fault inside translated code is the guest's: the handler notes where it was, and returns to
 * the `fault` thunk, which goes to C with all registers as they were. A fault inside a single
 * native instruction (translate/native.c) only leaves its vector. One of C's accesses to guest
 * memory that is not there goes on where a table says (mmu/guarded.h), and REP MOVS and STOS
 * return from their thunk as if they had met a device. Any other fault belongs to the client and
 * goes to whoever handled the signal before us, as does a signal that somebody has sent.
 *
 * Each thread that runs vCPUs has a POSIX timer that sends it a real-time signal; its handler
 * sets REQ_TIMER (or REQ_EXIT, if a thread of ours has sent it). That makes translated code come to C at its next poll, and a system call in
 * which the thread sleeps return.
 *
 * The kernel saves the guest's live vector state around a handler, so handlers may use libc.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "softkvm/mmu/guarded.h"
#include "softkvm/os/current.h"
#include "softkvm/os/syscall.h"
#include "softkvm/run/gsbase.h"
#include "softkvm/run/run.h"
#include "softkvm/translate/translate.h"

static const int fault_signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};
static struct sigaction before[32];

/* EFLAGS of the interrupted code to where C looks for the guest's. */
static void take_flags(struct vcpu *c, uint64_t eflags)
{
	c->arith = (uint16_t)((eflags & 0xff) << 8 | (eflags >> 11 & 1));
}

/* -- C ----------------------------------------------------------------------------- */

/* The linker's names for the table's ends; of this library's table, where there are more. */
extern const struct guarded __start_softkvm_guarded[] __attribute__((visibility("hidden")));
extern const struct guarded __stop_softkvm_guarded[] __attribute__((visibility("hidden")));

static bool is_at(const int32_t *distance, uint64_t pc)
{
	return (uint64_t)((intptr_t)distance + *distance) == pc;
}

static bool in_guarded(ucontext_t *uc, uint64_t pc)
{
	const struct guarded *g = __start_softkvm_guarded;

	while (g != __stop_softkvm_guarded && !is_at(&g->insn, pc))
		g++;
	if (g == __stop_softkvm_guarded)
		return false;
	uc->uc_mcontext.gregs[REG_RIP] = (greg_t)((intptr_t)&g->landing + g->landing);
	return true;
}

/* -- Translated code --------------------------------------------------------------- */

/* What REP MOVS or REP STOS is at pc: the size of its elements, 0 for anything else. */
static unsigned rep_size(const uint8_t *pc, bool *movs)
{
	unsigned op = pc[1] == 0x48 || pc[1] == 0x66 ? pc[2] : pc[1];

	*movs = (op & 0xfe) == 0xa4;
	if (pc[0] != 0xf3 || (!*movs && (op & 0xfe) != 0xaa))
		return 0;
	if (!(op & 1))
		return 1;
	return pc[1] == 0x48 ? 8 : pc[1] == 0x66 ? 2 : 4;
}

/*
 * In a thunk of translate/rep.c: RCX elements of the piece were not done, by which the guest's RSI
 * and RDI (host R8, R9) are ahead. What C then executes is the rest, from the one that faults.
 */
static bool in_rep(struct vcpu *c, ucontext_t *uc, uint64_t pc)
{
	greg_t *r = uc->uc_mcontext.gregs;
	bool movs;
	unsigned size = rep_size((const uint8_t *)pc, &movs);
	greg_t back = r[REG_RCX] * (greg_t)size;

	if (!size)
		return false;
	if (movs)
		r[REG_R8] -= back;
	r[REG_R9] -= back;
	r[REG_RCX] += (greg_t)c->scratch[SCR_LEFT];
	r[REG_EFL] &= ~X86_ZF;
	r[REG_RIP] = *(const greg_t *)r[REG_RSP];
	r[REG_RSP] += 8;
	return true;
}

static bool in_block(struct vcpu *c, ucontext_t *uc, uint64_t pc)
{
	struct engine *e = c->engine;
	uint32_t at = (uint32_t)(pc - code_addr(e, 0));
	struct block *b = block_at_host(e, at);

	if (!b)
		return in_rep(c, uc, pc);
	if (e->map[b->map + insn_at_host(e, b, at)].flags == FLAGS_REG)
		take_flags(c, (uint64_t)uc->uc_mcontext.gregs[REG_EFL]);
	c->scratch[SCR_FAULT_PC] = pc;
	uc->uc_mcontext.gregs[REG_RIP] = (greg_t)code_addr(e, e->thunk.fault);
	return true;
}

static bool is_code(const struct engine *e, uint64_t pc)
{
	return pc >= code_addr(e, 0) && pc < code_addr(e, CODE_SIZE);
}

static bool in_code(ucontext_t *uc, const siginfo_t *info)
{
	struct vcpu *c = current_vcpu;
	uint64_t pc = (uint64_t)uc->uc_mcontext.gregs[REG_RIP];
	struct engine *e;

	if (!c || !c->engine)
		return false;
	e = c->engine;
	if (!is_code(e, pc))
		return false;
	if (info->si_signo == SIGSEGV && gs_repair(e, info->si_addr))
		return true;
	if (!e->in_native)
		return in_block(c, uc, pc);
	e->native_vector = (uint8_t)uc->uc_mcontext.gregs[REG_TRAPNO];
	uc->uc_mcontext.gregs[REG_RIP] = (greg_t)code_addr(e, e->thunk.native_fault);
	return true;
}

/* An instruction has raised it, now, and not another process. */
static bool is_fault(int sig, const siginfo_t *info)
{
	return info->si_code > 0 && !(sig == SIGBUS && info->si_code == BUS_MCEERR_AO);
}

static bool is_ours(int sig, const siginfo_t *info, ucontext_t *uc)
{
	uint64_t pc = (uint64_t)uc->uc_mcontext.gregs[REG_RIP];

	return is_fault(sig, info) && (in_code(uc, info) || in_guarded(uc, pc));
}

/* Nobody's fault: what lies around it in the code cache goes into the core file, if there will be one. */
static void keep_code(const ucontext_t *uc)
{
	struct vcpu *c = current_vcpu;
	uint64_t pc = (uint64_t)uc->uc_mcontext.gregs[REG_RIP], from = pc & ~4095ull;

	if (c && c->engine && is_code(c->engine, pc))
		sys_call3(SYS_madvise, (long)from, 4096, MADV_DODUMP);
}

static void on_fault(int sig, siginfo_t *info, void *context)
{
	struct sigaction *old = &before[sig];

	if (is_ours(sig, info, context))
		return;
	keep_code(context);
	if (old->sa_flags & SA_SIGINFO) {
		old->sa_sigaction(sig, info, context);
	} else if (old->sa_handler != SIG_DFL && old->sa_handler != SIG_IGN) {
		old->sa_handler(sig);
	} else if (is_fault(sig, info)) { /* as if we were not here: it faults again */
		sigaction(sig, old, NULL);
	} else if (old->sa_handler == SIG_DFL) {
		sigaction(sig, old, NULL);
		raise(sig);
	}
}

static void on_timer(int sig, siginfo_t *info, void *context)
{
	struct vcpu *c = current_vcpu;

	(void)sig;
	(void)context;
	if (c && c->engine && info->si_code == SI_QUEUE) {
		atomic_fetch_or(&c->requests, REQ_EXIT);
	} else if (c && c->engine) {
		c->engine->armed = 0;
		atomic_fetch_or(&c->requests, REQ_TIMER);
	}
}

void thread_kick(pthread_t thread)
{
	pthread_sigqueue(thread, TIMER_SIGNAL, (union sigval){0});
}

static int install(void)
{
	struct sigaction sa = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
	unsigned i;

	sigemptyset(&sa.sa_mask);
	for (i = 0; i < sizeof(fault_signals) / sizeof(*fault_signals); i++)
		if (sigaction(fault_signals[i], &sa, &before[fault_signals[i]]))
			return -errno;
	sa.sa_sigaction = on_timer;
	sa.sa_flags |= SA_RESTART;
	return sigaction(TIMER_SIGNAL, &sa, NULL) ? -errno : 0;
}

static int installed; /* 0 or -errno */

static void install_once(void)
{
	installed = install();
}

/* Once, whoever asks: a second time what was there before would be ourselves. */
int signals_install(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, install_once);
	return installed;
}

/* -- Masks ------------------------------------------------------------------------- */

void signals_let_through(sigset_t *mask)
{
	for (unsigned i = 0; i < sizeof(fault_signals) / sizeof(*fault_signals); i++)
		sigdelset(mask, fault_signals[i]);
	sigdelset(mask, TIMER_SIGNAL);
}

/* A thread may come with all signals blocked (QEMU's vCPU threads do). Ours stay unblocked: once
 * a thread is enough, and a blocked SIGSEGV would kill the process. */
static void unblock_ours(void)
{
	sigset_t mask;

	pthread_sigmask(SIG_SETMASK, NULL, &mask);
	signals_let_through(&mask);
	pthread_sigmask(SIG_SETMASK, &mask, NULL);
}

/* -- The timer --------------------------------------------------------------------- */

/* A number that no thread of this process has had before, which cannot be said of the kernel's: a timer
 * of a thread that has ended signals nobody. */
static uint64_t this_thread(void)
{
	static _Atomic uint64_t threads;
	static __thread uint64_t number CURRENT_TLS;

	if (!number)
		number = ++threads;
	return number;
}

int timer_begin(struct engine *e)
{
	struct sigevent ev = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = TIMER_SIGNAL};
	int id;

	if (e->timer_thread == this_thread())
		return 0;
	timer_end(e);
	unblock_ours();
	ev._sigev_un._tid = (int)syscall(SYS_gettid);
	if (syscall(SYS_timer_create, CLOCK_MONOTONIC, &ev, &id) < 0)
		return errno == EAGAIN ? -ENOMEM : -errno; /* of KVM_RUN EAGAIN means: once more */
	e->timer = id;
	e->timer_thread = this_thread();
	return 0;
}

void timer_end(struct engine *e)
{
	if (e->timer_thread)
		syscall(SYS_timer_delete, e->timer);
	e->timer_thread = 0;
	e->armed = 0;
}

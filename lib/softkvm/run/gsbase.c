/* SPDX-License-Identifier: MIT */
/*
 * GS base and the host's kernel: which way there is, and the thread's own base around KVM_RUN.
 *
 * A kernel without FSGSBASE has one note of each thread's GS base, made by arch_prctl. At a switch
 * of threads it does not read the register, and loads the next thread's from its note, unless
 * that is 0: then it may leave what the thread before had. Both are seen in guests of hypervisors
 * that run the CPU with CR4.FSGSBASE set and do not tell.
 */
#include "softkvm/run/gsbase.h"

#include <asm/prctl.h>
#include <errno.h>
#include <pthread.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "softkvm/engine.h"
#include "softkvm/mmu/guarded.h"
#include "softkvm/os/current.h"
#include "softkvm/run/run.h"

#define HWCAP2_FSGSBASE 2
#define WINDOW_LEN (JC_LEN + VIEW_ENTRIES * 8)

/* -- The window ---------------------------------------------------------------------- */

static uint8_t *window; /* a jump cache and a table: NULL: there is no room */

static void window_create(void)
{
	void *p = mmap(NULL, WINDOW_LEN, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
		       -1, 0);

	window = p == MAP_FAILED ? NULL : p;
}

static bool has_window(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, window_create);
	return window;
}

uint64_t gs_window(void)
{
	return (uint64_t)(uintptr_t)(window + JC_LEN);
}

bool gs_in_window(uint64_t at)
{
	return window && at - (uintptr_t)window < WINDOW_LEN;
}

static int set_by_kernel(uint64_t base)
{
	return syscall(SYS_arch_prctl, ARCH_SET_GS, base) ? -errno : 0;
}

/* -- The host ------------------------------------------------------------------------ */

static bool kept, repairable;

static bool guarded_gs_write(uint64_t base)
{
	__asm__ goto volatile("1: wrgsbase %0\n\t" GUARDED(1) : : "r"(base) : : bad);
	return true;
bad:
	return false;
}

/* Sleeping is a switch of threads. */
static bool survives_sleep(uint64_t base)
{
	const struct timespec a_while = {.tv_nsec = 50000};
	uint64_t now;

	gs_write(base);
	nanosleep(&a_while, NULL);
	now = gs_read();
	return now == base || now == gs_window();
}

/* In a thread of its own, whose GS base nobody wants. */
static void *try_repairs(void *result)
{
	const uint64_t other = gs_window() + 4096; /* in the window, too */
	bool fine = guarded_gs_write(other) && !set_by_kernel(gs_window());

	for (int i = 0; i < 4 && fine; i++)
		fine = survives_sleep(other);
	*(bool *)result = fine;
	return NULL;
}

static void ask_host(void)
{
	pthread_t thread;

	signals_install(); /* for guarded_gs_write() */
	kept = getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE;
	repairable = kept;
	if (!kept && has_window() && !pthread_create(&thread, NULL, try_repairs, &repairable))
		pthread_join(thread, NULL);
}

enum gs_way gs_choose(const struct words *w)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, ask_host);
	if (w->nogs || !repairable)
		return GS_UNUSED;
	if (kept && !w->gsrepair)
		return GS_KEPT;
	return has_window() ? GS_REPAIRED : GS_UNUSED;
}

/* -- KVM_RUN ------------------------------------------------------------------------- */

/* What we last told the kernel of this thread; 0: nothing yet. The client may have told it something
 * else since, and then the register says so. */
static __thread uint64_t noted CURRENT_TLS;

static int note(uint64_t base)
{
	int rc = set_by_kernel(base);

	if (!rc)
		noted = base;
	return rc;
}

/* What a thread comes with for the first time may be left over from another: it is not given back. */
static int take(struct engine *e)
{
	uint64_t now = gs_read();

	e->host_gs = noted ? now : gs_window();
	return noted == gs_window() && now == noted ? 0 : note(gs_window());
}

int gs_begin(struct engine *e)
{
	if (e->gs == GS_REPAIRED)
		return take(e);
	if (e->gs == GS_KEPT)
		e->host_gs = gs_read();
	return 0;
}

void gs_end(struct engine *e)
{
	if (e->gs == GS_KEPT || (e->gs == GS_REPAIRED && e->host_gs == gs_window()))
		gs_write(e->host_gs);
	else if (e->gs == GS_REPAIRED)
		note(e->host_gs);
}

void gs_select(const struct engine *e)
{
	if (e->gs != GS_UNUSED)
		gs_write((uint64_t)(uintptr_t)e->view->table);
}

bool gs_repair(struct engine *e, const void *fault_address)
{
	if (e->gs != GS_REPAIRED || !gs_in_window((uintptr_t)fault_address))
		return false;
	gs_select(e);
	e->c->stat.gs_repairs++;
	return true;
}

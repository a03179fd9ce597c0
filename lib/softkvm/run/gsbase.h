/* SPDX-License-Identifier: MIT */
/*
 * GS base: where translated code finds the current view's table (docs/why/gsbase.md).
 *
 * Three ways, by what the host's kernel does about it:
 *
 *	kept      the kernel knows WRGSBASE (Linux 5.9, AT_HWCAP2) and keeps a thread's GS base
 *	repaired  WRGSBASE executes, but when a thread gets a CPU again the kernel puts GS base
 *	          back to what arch_prctl(ARCH_SET_GS) last said. So that says: a window of
 *	          PROT_NONE as large as a view, and what is next accessed through GS faults. The
 *	          handler writes GS base again and returns.
 *	unused    WRGSBASE is #UD, or what becomes of GS base is neither of these: translated
 *	          code adds the table's address itself
 *
 * Invariant of `repaired`: in KVM_RUN, GS base is the current view's table or the window's. Whoever
 * writes it writes one of these: gs_select() and the kernel, whose own note of it
 * gs_begin() has seen to. All that translated code reads through GS lies within the window, whose
 * pages nobody can access; so no access slips through with a wrong base.
 *
 * A thread's GS base is softkvm's own from its first KVM_RUN on, where it is `repaired`: outside
 * of KVM_RUN it is the window's, too. If the client sets another (by arch_prctl, later than that), it
 * gets that back at the end of each KVM_RUN, for two system calls. Setting it to 0 is what it must
 * not do; ERRATA.md.
 *
 *	e->gs = gs_choose(&e->opt);
 *	rc = gs_begin(e);           // KVM_RUN
 *	gs_select(e);               // as views change
 *	...
 *	gs_end(e);
 *
 * Source: Intel SDM volume 2, WRGSBASE; Linux, Documentation/arch/x86/x86_64/fsgs.rst.
 */
#ifndef SOFTKVM_GSBASE_H
#define SOFTKVM_GSBASE_H

#include "softkvm/engine.h"
#include "softkvm/hooks.h"

/* The best way that this host has and the words permit. Asks the host once a process. */
enum gs_way gs_choose(const struct words *w);

/* Around KVM_RUN, in its thread, without live vector state: GS base is the engine's from one to the
 * other. -errno if the kernel refuses arch_prctl; nothing is changed then. */
int gs_begin(struct engine *e);
void gs_end(struct engine *e);

/* In the handler of a SIGSEGV that an instruction of translated code raised: was it an access through
 * a GS base that the kernel had put back? Then GS base is right again, and the instruction may be
 * executed once more. */
bool gs_repair(struct engine *e, const void *fault_address);

/* What the kernel puts GS base back to where it is `repaired`, and whether an access to `at` was
 * relative to that. For tests. */
uint64_t gs_window(void);
bool gs_in_window(uint64_t at);

static inline void gs_write(uint64_t base)
{
	__asm__ volatile("wrgsbase %0" : : "r"(base));
}

static inline uint64_t gs_read(void)
{
	uint64_t base;

	__asm__ volatile("rdgsbase %0" : "=r"(base));
	return base;
}

#endif

/* SPDX-License-Identifier: MIT */
/*
 * SOFTKVM in the environment: words, separated by commas, for tests and for looking into the engine.
 *
 *	SOFTKVM=nochain,tlb,seed=7 lodge run ...
 *
 * How the guest is run:
 *	interpret     no translated code at all
 *	nochain       every exit of a block goes through C
 *	nogroup       every access has a check of its own
 *	sample=N      checks of cold blocks until one becomes hot (at least 4); 0: all are hot at once
 *	tlb           forget TLB entries at random
 *	ends          end blocks after a random number of instructions
 *	cache=64K     a small code cache
 *	seed=N        for the random ones
 * What is used of the host, less than it has:
 *	gsrepair      GS base as where the kernel does not keep it (run/gsbase.h)
 *	nogs          not GS base at all
 *	nobmi1        not BEXTR
 *	fxsave        FXSAVE instead of XSAVE, so guests have no AVX
 * What is told:
 *	profile       count the executions of blocks, list the longest-running at the end
 *	dump          write each translation to stderr (translate/report.c)
 *
 * All combinations run the same guest to the same output; tests hold that. The words are read when a
 * vCPU is made, `fxsave` once a process. A word that is none of these is told to stderr.
 */
#ifndef SOFTKVM_WORDS_H
#define SOFTKVM_WORDS_H

#include <stdbool.h>
#include <stdint.h>

struct words {
	bool interpret, nochain, nogroup, tiny_tlb, random_ends, profile, dump;
	bool gsrepair, nogs, nobmi1, fxsave;
	uint32_t cache_size, sample, seed;
};

/* Fills *w. Uses libc: not while the guest's vector state is live. */
void words_read(struct words *w, bool complain);

#endif

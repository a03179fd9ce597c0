/* SPDX-License-Identifier: MIT */
/*
 * The addresses above 47 bits that 5-level paging (LA57) gives a process.
 *
 *	rc = upper_reserve();   // when the engine is opened
 *
 * docs/why/tlb.md, point 3: an access whose linear address is not canonical goes to a host address
 * plus a multiple of 2^48. With 4-level paging nothing can be there. With five levels a client can map
 * memory there if it asks for it by address; so the engine takes all of it first, PROT_NONE, and the
 * access faults as it does elsewhere.
 * Source: Intel, "5-Level Paging and 5-Level EPT"; Linux, Documentation/arch/x86/x86_64/5level-paging.rst.
 */
#ifndef SOFTKVM_UPPER_H
#define SOFTKVM_UPPER_H

#include <stdbool.h>
#include <stdint.h>

#define UPPER_AT (1ull << 47)

/* Has this process addresses above UPPER_AT? */
bool upper_exists(void);

/* Takes them, once a process: 0; -EADDRINUSE if there is memory already; -ENOMEM. Any thread. */
int upper_reserve(void);

#endif

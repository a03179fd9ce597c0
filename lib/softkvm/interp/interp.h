/* SPDX-License-Identifier: MIT */
/*
 * The interpreter: executes one guest instruction at CS:RIP, any instruction, in any mode.
 *
 * It serves what must stop in the middle (device accesses, page-crossing operands), code that
 * is not worth translating, and as a second oracle for the translator. Ordinary instructions
 * (X86_NATIVE) it does not model: it runs them on the host, one at a time, with the memory
 * operand replaced by a pointer to guest memory or to a bounce buffer (native_exec(), by the
 * translator's re-encoder). Stack, control flow, strings and ports are in interp/, system
 * instructions and event delivery in interp/system*.c and interp/event.c.
 */
#ifndef SOFTKVM_INTERP_H
#define SOFTKVM_INTERP_H

#include "softkvm/vcpu.h"

/* Fetch, decode, execute one instruction. TF and debug traps after it are the caller's
 * (run loop's) business through event_after_insn(). */
enum step interp_step(struct vcpu *c);

/* Executes one already decoded instruction that lies at c->rip (linear CS.base + rip). */
enum step interp_insn(struct vcpu *c, const struct insn *in);

/* System instructions (interp/system.c); called by interp_insn() for the kinds it does not
 * handle itself. On STEP_OK rip is after the instruction or at its target. */
enum step system_insn(struct vcpu *c, const struct insn *in, uint64_t rip_next);

/* Far transfers, used by system_insn and by interrupt delivery (interp/far.c). */

/* -- events (interp/event.c) -- */

/* Delivers exception, interrupt or NMI `vector` through the IDT (or the IVT in real mode).
 * soft: INT n, INT3, INTO (rip is already after the instruction). Nested faults become #DF or
 * STEP_TRIPLE. On STEP_OK the vCPU is at the handler's first instruction. */
enum event_type { EVENT_EXCEPTION, EVENT_INTERRUPT, EVENT_NMI, EVENT_SOFT };
enum step event_deliver(struct vcpu *c, uint8_t vector, enum event_type type,
			const struct fault *fault);

/* Turns c->fault into a delivered exception (contributory rules, CR2, DR6 handled). */
enum step event_fault(struct vcpu *c);

/* At an instruction boundary: delivers what is due (pending exception, NMI, interrupt when IF
 * and no shadow), or nothing. *delivered says whether. Clears the one-instruction shadow when
 * called after an instruction; see event_shadow_step(). */
enum step event_inject(struct vcpu *c, bool *delivered);

/* Is anything deliverable now (wakes HLT)? */
bool event_ready(struct vcpu *c);

#endif

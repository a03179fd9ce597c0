/* SPDX-License-Identifier: MIT */
/*
 * Pushing on a stack that is perhaps not yet the current one: a handler's, a call gate's.
 *
 *	struct stack st;
 *	stack_current(c, &st);                  // or stack_inner(), or by hand
 *	if ((rc = stack_push(c, &st, v, 3, 8)))
 *		return rc;                      // nothing has changed
 *	stack_commit(c, &st);
 *
 * All values of a frame are pushed by one call and reach memory by one store where the frame
 * does not wrap around the end of its segment, so a fault in its middle leaves no trace.
 */
#ifndef SOFTKVM_FRAME_H
#define SOFTKVM_FRAME_H

#include "softkvm/interp/segload.h"

struct stack {
	struct kvm_segment ss; /* base, limit, type and db are used; not if flat */
	uint64_t sp;
	bool flat;             /* a 64-bit stack */
	unsigned acc;          /* ACC_SYSTEM, or 0: the CPL's */
	uint32_t code;         /* error code of #SS when it does not fit */
};

/* The stack in use. */
void stack_current(const struct vcpu *c, struct stack *st);

/* The stack that the TSS (16- or 32-bit) holds for an inner level; *ss is its selector. The
 * SS descriptor is checked. Wrong ones are #TS, or #SS where not present, with ext. */
enum step stack_inner(struct vcpu *c, unsigned cpl, unsigned ext, struct stack *st);

/* A 64-bit TSS: the pointer at `at` (RSP0 is at 4, IST1 at 36). */
enum step tss_pointer(struct vcpu *c, unsigned at, unsigned ext, uint64_t *sp);

/* Pushes v[0], then v[1], ...; each of size 2, 4 or 8. At most 12. */
enum step stack_push(struct vcpu *c, struct stack *st, const uint64_t *v, unsigned n,
		     unsigned size);

/* Reads n values of `size` from the current stack without popping: v[0] is at the top. */
enum step stack_peek(struct vcpu *c, unsigned skip, uint64_t *v, unsigned n, unsigned size);

/* RSP of the vCPU becomes st->sp, in the width of the stack. */
void stack_commit(struct vcpu *c, const struct stack *st);

/* Adds n bytes to RSP, ESP or SP, whichever the current stack uses. */
void stack_release(struct vcpu *c, uint64_t n);

/* Sets the part of RSP that a stack segment of this kind uses. */
void stack_set_sp(struct vcpu *c, bool flat, bool db, uint64_t sp);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * One instruction at a time on the host: the interpreter's way to execute what is ordinary.
 *
 * The instruction is re-encoded as in a block, with its memory operand at [S1], between code
 * that loads S1 and code that saves the registers. These little routines are kept in a cache
 * by the instruction's bytes, in an area of their own behind the blocks' code.
 *
 * An exception that the instruction raises (#DE, #MF, #XM, #UD, #AC, #GP) comes as a host
 * signal; the handler (run/signal.c) leaves its vector in engine.native_vector, and nothing
 * of the guest's registers in struct vcpu has changed.
 */
#include "softkvm/interp/interp.h"
#include "softkvm/translate/translate.h"

static bool same(const struct native *n, const struct insn *in, const uint8_t *bytes,
		 enum x86_mode mode)
{
	unsigned i;

	if (n->len != in->len || n->mode != mode)
		return false;
	for (i = 0; i < in->len; i++)
		if (n->bytes[i] != bytes[i])
			return false;
	return true;
}

static struct native *slot_for(struct engine *e, const struct insn *in, const uint8_t *bytes)
{
	uint32_t h = in->len;
	unsigned i;

	for (i = 0; i < in->len; i++)
		h = (h ^ bytes[i]) * 0x01000193u;
	return &e->native[(h ^ h >> 15) & (NATIVES - 1)];
}

/* They are small and quickly made again. */
static void natives_flush(struct engine *e)
{
	unsigned i;

	for (i = 0; i < NATIVES; i++)
		e->native[i].len = 0;
	e->native_used = e->code_size;
}

static void make(struct engine *e, struct native *n, const struct insn *in,
		 const uint8_t *bytes, enum x86_mode mode)
{
	struct as a;
	unsigned i;

	if (e->native_used + ENTRY_ROOM > e->code_size + NATIVE_SIZE)
		natives_flush(e);
	as_init(&a, e, e->native_used);
	a.framed = false;
	n->code = as_at(&a);
	mov_rv(&a, H_S1, VSCR(SCR_OPERAND));
	emit_native(&a, in, &(struct place){H_S1, 0});
	jmp_to(&a, e->thunk.native_done);
	e->native_used = as_at(&a);
	for (i = 0; i < in->len; i++)
		n->bytes[i] = bytes[i];
	n->len = in->len;
	n->mode = (uint8_t)mode;
}

enum step native_exec(struct vcpu *c, const struct insn *in, const uint8_t *bytes, void *mem)
{
	struct engine *e = c->engine;
	enum x86_mode mode = code_mode(c);
	struct native *n = slot_for(e, in, bytes);
	uint64_t rsp = c->scratch[SCR_HOST_RSP];

	if (!same(n, in, bytes, mode))
		make(e, n, in, bytes, mode);
	c->scratch[SCR_OPERAND] = (uint64_t)(uintptr_t)mem;
	e->native_vector = 0xff;
	e->in_native = true;
	c->scratch[SCR_HOST_RSP] = 0; /* C that translated code called enters it once more */
	translated_run(c, code_addr(e, n->code));
	e->in_native = false;
	c->scratch[SCR_HOST_RSP] = rsp;
	if (e->native_vector == 0xff)
		return STEP_OK;
	if (e->native_vector == X86_PFV) /* of the host: the operand was found and is not there */
		return STEP_EFAULT;
	if (e->native_vector == X86_GP || e->native_vector == X86_AC)
		return fault_code(c, e->native_vector, 0);
	return fault_set(c, e->native_vector);
}

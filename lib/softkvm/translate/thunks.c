/* SPDX-License-Identifier: MIT */
/*
 * The fixed pieces of host code between C and translated code. Those of accesses are in checks.c,
 * those of indirect jumps in gates.c, and REP MOVS and STOS in rep.c.
 *
 * C calls translated_run(); the `enter` thunk saves what the C ABI wants saved, and falls into
 * `resume`, which loads the guest's registers and jumps to SCR_TARGET. Translated code goes to
 * C through a thunk: registers to struct vcpu, then a C function that returns the host
 * address at which to go on (the `leave` thunk's address to end the run). So C sees a complete
 * vCPU, may do anything to it, and decides where execution continues.
 *
 * Invariants:
 *  1. In translated code host RSP is FRAME (emit.h); a thunk called from there finds its return
 *     address on top.
 *  2. At a thunk (but `exit`) EFLAGS are dead: if the guest's flags matter they are in
 *     vcpu.arith. `resume` makes EFLAGS equal to vcpu.arith.
 *  3. At a gate (the entry for indirect jumps) S1 is the guest address jumped to, S2 its jump
 *     cache index as emit_jump_index() makes it, and the guest's flags are in vcpu.arith.
 *  4. Who jumps to a block's `main` has set vcpu.rip_page to the page that the block is
 *     executed at, and has flags in EFLAGS if the block's live_in says that it reads them.
 *  5. SCR_HOST_RSP is C's stack while translated code runs, or C that it called; else 0. It points at
 *     engine.canary, without which `leave` does not return.
 *  6. Offset 0 of the code cache is nobody's: it looks like a gate whose block was dropped. So an
 *     entry of engine.jumped that nobody has filled is dead, as one whose block has gone.
 */
#include "softkvm/translate/emit.h"
#include "softkvm/translate/helpers.h"

void emit_save_flags(struct as *a)
{
	mov_rr(a, H_S2, H_RAX);
	emit8(a, 0x9f); /* lahf */
	emit8(a, 0x0f); /* seto al */
	emit8(a, 0x90);
	emit8(a, 0xc0);
	emit8(a, 0x66); /* mov [flags], ax */
	emit8(a, 0x89);
	emit_vcpu(a, H_RAX, VCPU(arith), 0);
	mov_rr(a, H_RAX, H_S2);
}

/* EFLAGS from vcpu.arith; rax is lost. */
static void flags_via_rax(struct as *a)
{
	emit8(a, 0x0f); /* movzx eax, word [flags] */
	emit8(a, 0xb7);
	emit_vcpu(a, H_RAX, VCPU(arith), 0);
	emit8(a, 0x04); /* add al, 0x7f: OF if al was 1 */
	emit8(a, 0x7f);
	emit8(a, 0x9e); /* sahf: the other five */
}

void emit_load_flags(struct as *a)
{
	mov_rr(a, H_S2, H_RAX);
	flags_via_rax(a);
	mov_rr(a, H_RAX, H_S2);
}

/* -- To C and back --------------------------------------------------------------------------- */

static void save_registers(struct as *a, bool rax)
{
	int r;

	mov_vr(a, VSCR(SCR_CB), H_CB);
	for (r = 0; r < 16; r++)
		if (host_reg[r] >= 0 && (r != X86_RAX || rax))
			mov_vr(a, VGPR(r), host_reg[r]);
}

static void load_registers(struct as *a)
{
	int r;

	mov_rv(a, H_CB, VSCR(SCR_CB));
	for (r = 1; r < 16; r++)
		if (host_reg[r] >= 0)
			mov_rv(a, host_reg[r], VGPR(r));
	flags_via_rax(a);
	mov_rv(a, H_RAX, VGPR(X86_RAX));
}

/* Calls fn(vcpu) on the thread's stack and goes on where it says. Registers are saved. */
static void call_c(struct as *a, uint64_t (*fn)(struct vcpu *))
{
	mov_rv(a, H_RSP, VSCR(SCR_HOST_RSP)); /* return address, 7 pushes: aligned */
	emit8(a, 0x48); /* lea rdi, [vcpu] */
	emit8(a, 0x8d);
	emit_rip(a, 7, a->e->c, 0);
	mov_ri(a, H_RAX, (uint64_t)(uintptr_t)fn);
	emit8(a, 0xff); /* call rax */
	emit8(a, 0xd0);
	mov_vr(a, VSCR(SCR_TARGET), H_RAX);
	jmp_to(a, a->e->thunk.resume);
}

uint32_t emit_called(struct as *a, uint64_t (*fn)(struct vcpu *), bool flags)
{
	uint32_t at = as_at(a);

	if (flags)
		emit_save_flags(a);
	mov_vr(a, VGPR(X86_RAX), H_RAX);
	pop_r(a, H_RAX);
	mov_vr(a, VSCR(SCR_RET), H_RAX);
	mov_vr(a, VSCR(SCR_S1), H_S1);
	save_registers(a, false);
	call_c(a, fn);
	return at;
}

uint32_t emit_jumped(struct as *a, uint64_t (*fn)(struct vcpu *))
{
	uint32_t at = as_at(a);

	save_registers(a, true);
	mov_vr(a, VSCR(SCR_S1), H_S1);
	call_c(a, fn);
	return at;
}

static const uint8_t callee_saved[] = {H_RBX, H_RBP, 12, 13, 14, 15};

/* cmp qword [vcpu + off], 0 */
static void cmp_v0(struct as *a, int off)
{
	emit8(a, 0x48);
	emit8(a, 0x83);
	emit_vcpu(a, 7, off, 1);
	emit8(a, 0);
}

/* The guest has broken out, or we are broken: no more of this process. */
static void end_unless_equal(struct as *a)
{
	uint32_t fine = jcc_short(a, CC_E);

	emit8(a, 0x0f); /* ud2 */
	emit8(a, 0x0b);
	land(a, fine);
}

/* Invariant 5: whoever comes here from translated code finds SCR_HOST_RSP set, and that is the end. */
static void emit_enter(struct as *a)
{
	struct engine *e = a->e;
	unsigned i;

	e->thunk.enter = as_at(a);
	cmp_v0(a, VSCR(SCR_HOST_RSP));
	end_unless_equal(a);
	for (i = 0; i < 6; i++)
		push_r(a, callee_saved[i]);
	mov_ri(a, H_S1, e->canary);
	push_r(a, H_S1);
	mov_vr(a, VSCR(SCR_HOST_RSP), H_RSP);
	e->thunk.resume = as_at(a);
	load_registers(a);
	emit8(a, 0x48); /* lea rsp, [frame] */
	emit8(a, 0x8d);
	emit_rip(a, H_RSP, (uint8_t *)e->c + FRAME, 0);
	emit8(a, 0xff); /* jmp [target] */
	emit_vcpu(a, 4, VSCR(SCR_TARGET), 0);
	/* C returned here as the place to go on: registers are already in struct vcpu. */
	e->thunk.leave = as_at(a);
	mov_rv(a, H_RSP, VSCR(SCR_HOST_RSP));
	emit8(a, 0x48); /* mov qword [host_rsp], 0 */
	emit8(a, 0xc7);
	emit_vcpu(a, 0, VSCR(SCR_HOST_RSP), 4);
	emit32(a, 0);
	pop_r(a, H_S1);
	mov_ri(a, H_S2, e->canary);
	alu_rr(a, 0x39, H_S1, H_S2); /* cmp */
	end_unless_equal(a);
	for (i = 6; i-- > 0;)
		pop_r(a, callee_saved[i]);
	emit8(a, 0xc3);
}

/* How single instructions (native.c) end: with the registers saved, or as if never begun. */
static void emit_native_ends(struct as *a)
{
	a->e->thunk.native_done = as_at(a);
	emit_save_flags(a);
	save_registers(a, true);
	a->e->thunk.native_fault = as_at(a);
	jmp_to(a, a->e->thunk.leave);
}

/* Of cold blocks. */
static void emit_flags_thunks(struct as *a)
{
	a->e->thunk.save_flags = as_at(a);
	emit_save_flags(a);
	emit8(a, 0xc3);
	a->e->thunk.load_flags = as_at(a);
	emit_load_flags(a);
	emit8(a, 0xc3);
}

void thunks_emit(struct engine *e)
{
	struct region *cold = &e->region[REGION_COLD];
	struct as a;

	as_init(&a, e, 0);
	a.framed = false;
	jmp_to(&a, 0); /* invariant 6, below */
	emit_enter(&a);
	emit_native_ends(&a);
	e->thunk.insn = emit_called(&a, helper_insn, false);
	e->thunk.exit = emit_called(&a, helper_exit, true);
	e->thunk.exit_mem = emit_called(&a, helper_exit, false);
	e->thunk.poll = emit_called(&a, helper_poll, false);
	e->thunk.fault = emit_jumped(&a, helper_fault);
	emit_flags_thunks(&a);
	gates_emit(&a);
	patch_rel(e, 1, e->thunk.gate_miss);
	checks_emit(&a);
	rep_emit(&a);
	cold->begin = (as_at(&a) + 63) & ~63u;
}

/* -- Flags between rflags and vcpu.arith -------------------------------------------------------- */

void flags_to_memory(struct vcpu *c)
{
	uint64_t f = c->rflags;

	c->arith = (uint16_t)((f & 0xff) << 8 | (f >> 11 & 1));
}

void flags_from_memory(struct vcpu *c)
{
	uint64_t s = c->arith;

	c->rflags = (c->rflags & ~(uint64_t)X86_ARITH) | (s >> 8 & X86_ARITH & 0xff) |
		    (s & 1) << 11;
}

void translated_run(struct vcpu *c, uint64_t host)
{
	void (*enter)(void) = (void (*)(void))code_addr(c->engine, c->engine->thunk.enter);

	flags_to_memory(c);
	c->scratch[SCR_TARGET] = host;
	enter();
	flags_from_memory(c);
}

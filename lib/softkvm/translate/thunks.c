/* SPDX-License-Identifier: MIT */
/*
 * The fixed pieces of host code between C and translated code, and the small entries that
 * blocks get when they need them.
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
 *  3. At a gate (the entry for indirect jumps) S1 is the guest address jumped to, S2 twice its
 *     jump cache index, and the guest's flags are in vcpu.arith.
 *  4. Who jumps to a block's `main` has set vcpu.rip_page to the page that the block is
 *     executed at, and has flags in EFLAGS if the block's live_in says that it reads them.
 */
#include "softkvm/translate/emit.h"
#include "softkvm/translate/helpers.h"
#include "softkvm/state/slots.h"

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

/* S2 = twice the jump cache's index of address S1: a scale of 8 does the rest. */
_Static_assert(JC_SIZE == 1u << 16 && sizeof(struct jump) == 16, "MOVZX, ADD");
static void emit_jump_index(struct as *a)
{
	movzx_rr16(a, H_S2, H_S1);
	alu_rr32(a, 0x01, H_S2, H_S2); /* add */
}

/* Calls fn(vcpu) on the thread's stack and goes on where it says. Registers are saved. */
static void call_c(struct as *a, uint64_t (*fn)(struct vcpu *))
{
	mov_rv(a, H_RSP, VSCR(SCR_HOST_RSP));
	lea_rm(a, true, H_RSP, H_RSP, -8); /* 6 pushes + return address + 8: aligned */
	emit8(a, 0x48); /* lea rdi, [vcpu] */
	emit8(a, 0x8d);
	emit_rip(a, 7, a->e->c, 0);
	mov_ri(a, H_RAX, (uint64_t)(uintptr_t)fn);
	emit8(a, 0xff); /* call rax */
	emit8(a, 0xd0);
	mov_vr(a, VSCR(SCR_TARGET), H_RAX);
	jmp_to(a, a->e->thunk.resume);
}

/* A thunk that is called: its return address goes to SCR_RET. flags: EFLAGS are the guest's. */
static uint32_t emit_called(struct as *a, uint64_t (*fn)(struct vcpu *), bool flags)
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

/* A thunk that is jumped to. */
static uint32_t emit_jumped(struct as *a, uint64_t (*fn)(struct vcpu *))
{
	uint32_t at = as_at(a);

	save_registers(a, true);
	mov_vr(a, VSCR(SCR_S1), H_S1);
	call_c(a, fn);
	return at;
}

/*
 * An indirect jump whose jump cache entry is another address's: the second jump cache may know it,
 * and then the entry is overwritten. (Of two hot gates 64 KiB apart each jump would come to C.) An
 * empty entry is C's to fill, for it goes into a log; one that is S1's own led here because of a
 * request, or because its block is gone. CB is dead at gates.
 */
static uint32_t emit_gate_miss(struct as *a)
{
	uint32_t at = as_at(a), slow[5];
	int n = 0, i;

	emit_gs(a, 0x8b, H_CB, H_S2, JC_OFF(lin));
	alu_rr(a, 0x39, H_CB, H_S1); /* cmp */
	slow[n++] = jcc_short(a, CC_E);
	mov_ri(a, H_S2, JC_NONE);
	alu_rr(a, 0x39, H_CB, H_S2); /* cmp */
	slow[n++] = jcc_short(a, CC_E);
	mov_ri(a, H_CB, JUMPED_HASH);
	imul_rr(a, H_CB, H_S1);
	op_ri8(a, true, 0xc1, 5, H_CB, 64 - JUMPED_BITS); /* shr */
	op_ri8(a, true, 0xc1, 4, H_CB, log2_up(sizeof(struct jumped))); /* shl */
	emit_op_rv(a, 0x03, H_CB, VSCR(SCR_JUMPED)); /* add */
	cmp_mr(a, H_CB, offsetof(struct jumped, lin), H_S1);
	slow[n++] = jcc_short(a, CC_NE);
	mov_rv(a, H_S2, VSCR(SCR_AGE));
	cmp_mr(a, H_CB, offsetof(struct jumped, age), H_S2);
	slow[n++] = jcc_short(a, CC_NE);
	mov_rm(a, false, H_CB, H_CB, offsetof(struct jumped, gate));
	emit_op_rv(a, 0x03, H_CB, VSCR(SCR_CODE));
	emit_rex(a, false, 0, 0, H_CB); /* cmp byte [cb], 0xe9: block_drop() */
	emit8(a, 0x80);
	emit_mem(a, 7, H_CB, 0);
	emit8(a, 0xe9);
	slow[n++] = jcc_short(a, CC_E);
	emit_jump_index(a);
	emit_gs(a, 0x89, H_CB, H_S2, JC_OFF(code));
	emit_gs(a, 0x89, H_S1, H_S2, JC_OFF(lin));
	emit8(a, 0x48); /* inc qword [gate_swaps] */
	emit8(a, 0xff);
	emit_vcpu(a, 0, VCPU(stat.gate_swaps), 0);
	emit_rex(a, false, 0, 0, H_CB); /* jmp cb */
	emit8(a, 0xff);
	emit8(a, 0xe0u | (H_CB & 7));
	for (i = 0; i < n; i++)
		land(a, slow[i]);
	emit_jumped(a, helper_gate_miss);
	return at;
}

static const uint8_t callee_saved[] = {H_RBX, H_RBP, 12, 13, 14, 15};

static void emit_enter(struct as *a)
{
	struct engine *e = a->e;
	unsigned i;

	e->thunk.enter = as_at(a);
	for (i = 0; i < 6; i++)
		push_r(a, callee_saved[i]);
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

/* -- Memory misses --------------------------------------------------------------------------- */

/* r = page number of S1 -> r = the table's addend; with `write` t = the host address, and both may be
 * one register. Puts the jumps for what the table does not answer into slow[], returns how many. */
static int emit_look_up(struct as *a, int r, int t, bool write, uint32_t *slow)
{
	emit_gs(a, 0x8b, r, r, 0);
	alu_rr(a, 0x85, r, r); /* test */
	slow[0] = jcc_short(a, CC_E);
	if (!write)
		return 1;
	lea_sib(a, true, t, r, H_S1, 1, 0); /* the read-only view does not count */
	bt_ri(a, t, SLOT_VIEW_RO_BIT);
	slow[1] = jcc_short(a, CC_B);
	return 2;
}

/* r = page number of r; RSP is not FRAME here. */
static void to_page_number(struct as *a, int r)
{
	op_ri8(a, true, 0xc1, 4, r, 16); /* shl */
	op_ri8(a, true, 0xc1, 5, r, 28); /* shr */
}

/*
 * An access at S1 crosses pages; `last` is the address of its last byte. If both have the same addend
 * they are neighbours on the host, too: last = the addend, r is lost. Else to `slow`, and where a
 * multiple of 4 GiB lies between them: what 32-bit code has there are two ends of its segment, and
 * the ends of the address space are among these.
 */
static void emit_neighbours(struct as *a, int last, int r, bool write, uint32_t slow)
{
	to_page_number(a, last);
	emit_rex(a, false, 0, 0, last);
	emit_op_rr(a, 0xf7, 0, last); /* test */
	emit32(a, 0xfffff);
	jcc_to(a, CC_E, slow);
	emit_gs(a, 0x8b, last, last, 0);
	mov_rr(a, r, H_S1);
	to_page_number(a, r);
	emit_gs(a, 0x3b, last, r, 0); /* cmp */
	jcc_to(a, CC_NE, slow);
	alu_rr(a, 0x85, last, last); /* test */
	jcc_to(a, CC_E, slow);
	if (write) { /* the read-only view does not count */
		lea_sib(a, true, r, last, H_S1, 1, 0);
		bt_ri(a, r, SLOT_VIEW_RO_BIT);
		jcc_to(a, CC_B, slow);
	}
}

/* rcx = the site's number, which stands behind the call; rax and rcx were pushed. */
static void emit_site_number(struct as *a)
{
	mov_rm(a, true, H_RCX, H_RSP, 16);
	mov_rm(a, false, H_RCX, H_RCX, 0);
}

/* rcx = the address of the site whose number it is */
static void emit_site_address(struct as *a)
{
	emit8(a, 0xc1); /* shl ecx, 4: sizeof(struct site) is 16 */
	emit8(a, 0xe1);
	emit8(a, 4);
	emit_op_rv(a, 0x03, H_RCX, VSCR(SCR_SITES)); /* add rcx, sites */
}

/*
 * Where an access site goes when its predicted addend is not what the table says, or its
 * operand is not aligned. After the call stand 4 bytes, the site's number. S1 is the linear
 * address. Goes on behind the check with S1 = host address, or in C.
 */
static uint32_t emit_miss(struct as *a, unsigned kind, unsigned size)
{
	uint32_t at = as_at(a), slow[4], crossing = 0, found, in_c;
	int n = 0, i;

	push_r(a, H_RAX);
	push_r(a, H_RCX);
	if (size > 1) { /* does it cross a page? */
		mov_rr32(a, H_RAX, H_S1);
		emit8(a, 0x25); /* and eax, 0xfff */
		emit32(a, 0xfff);
		emit8(a, 0x3d); /* cmp eax, 4096 - size */
		emit32(a, 4096 - size);
		crossing = jcc_far(a, CC_A);
	}
	mov_rr(a, H_RAX, H_S1);
	to_page_number(a, H_RAX);
	n += emit_look_up(a, H_RAX, H_RCX, kind & KIND_STORE, slow + n);
	emit_site_number(a);
	emit8(a, 0x48); /* lea s2, [slots] */
	emit8(a, 0x8d);
	emit_rip(a, H_S2, a->e->slots, 0);
	emit8(a, 0x48); /* mov [s2 + rcx * 8], rax */
	emit8(a, 0x89);
	emit8(a, 0x04);
	emit8(a, 0xc0u | 1 << 3 | H_S2);
	emit_site_address(a);
	emit8(a, 0xff); /* inc dword [rcx + misses] */
	emit_mem(a, 0, H_RCX, (int)offsetof(struct site, misses));
	emit8(a, 0x83); /* cmp dword [rcx + misses], SITE_MISSES */
	emit_mem(a, 7, H_RCX, (int)offsetof(struct site, misses));
	emit8(a, SITE_MISSES);
	slow[n++] = jcc_short(a, CC_E);
	found = as_at(a);
	alu_rr(a, 0x01, H_S1, H_RAX); /* add s1, rax */
	mov_rm(a, false, H_RCX, H_RCX, (int)offsetof(struct site, back));
	emit_op_rv(a, 0x03, H_RCX, VSCR(SCR_CODE)); /* add rcx, code */
	mov_vr(a, VSCR(SCR_TARGET), H_RCX);
	pop_r(a, H_RCX);
	pop_r(a, H_RAX);
	lea_rm(a, true, H_RSP, H_RSP, 8);
	emit8(a, 0xff); /* jmp [target] */
	emit_vcpu(a, 4, VSCR(SCR_TARGET), 0);
	for (i = 0; i < n; i++)
		land(a, slow[i]);
	in_c = as_at(a);
	pop_r(a, H_RCX);
	pop_r(a, H_RAX);
	emit_called(a, helper_miss, false);
	if (crossing && kind & KIND_ONE_PAGE) {
		patch_rel(a->e, crossing, in_c);
	} else if (crossing) {
		patch_rel(a->e, crossing, as_at(a));
		lea_rm(a, true, H_RAX, H_S1, (int32_t)size - 1);
		emit_neighbours(a, H_RAX, H_RCX, kind & KIND_STORE, in_c);
		emit_site_number(a);
		emit_site_address(a);
		jmp_to(a, found);
	}
	return at;
}

/* -- Cold blocks ------------------------------------------------------------------------------- */

/* mov dword [access], what */
static void note_access(struct as *a, uint32_t what)
{
	emit8(a, 0xc7);
	emit_rip(a, 0, vcpu_at(a, VSCR(SCR_ACCESS)), 4);
	emit32(a, what);
}

/*
 * S1 = linear address -> S1 = host address, S2 is lost. size 0: the length of a group less one is
 * in S2. Returns if the table has the page; else C looks at the access.
 */
static uint32_t emit_cold_check(struct as *a, unsigned kind, unsigned size, uint32_t check,
				uint32_t sample)
{
	bool write = kind & KIND_STORE;
	uint32_t at = as_at(a), slow[2], crossing, sampled, in_c;
	int n = 0, i;

	if (size == 0) {
		emit8(a, 0x89); /* mov [access], s2d */
		emit_rip(a, H_S2, vcpu_at(a, VSCR(SCR_ACCESS)), 0);
		lea_sib(a, false, H_S2, H_S1, H_S2, 1, 0);
	} else {
		lea_rm(a, false, H_S2, H_S1, (int32_t)size - 1);
	}
	test_same_page(a);
	crossing = jcc_far(a, CC_NE);
	lea_rm(a, true, H_S2, H_RSP, 8); /* FRAME: above the return address */
	bextr_rrr(a, H_S2, H_S1, H_S2); /* page number */
	n += emit_look_up(a, H_S2, H_S2, write, slow + n);
	emit8(a, 0xff); /* dec dword [sample] */
	emit_rip(a, 1, vcpu_at(a, VSCR(SCR_SAMPLE)), 0);
	sampled = jcc_short(a, CC_S);
	if (write)
		mov_rr(a, H_S1, H_S2);
	else
		alu_rr(a, 0x01, H_S1, H_S2);
	emit8(a, 0xc3);
	for (i = 0; i < n; i++)
		land(a, slow[i]);
	in_c = as_at(a);
	if (size) {
		note_access(a, (size - 1) | (write ? ACCESS_WRITE : 0));
	} else {
		emit8(a, 0x81); /* or dword [access], .. */
		emit_rip(a, 1, vcpu_at(a, VSCR(SCR_ACCESS)), 4);
		emit32(a, ACCESS_GROUP | (write ? ACCESS_WRITE : 0));
	}
	jmp_to(a, check);
	land(a, sampled);
	jmp_to(a, sample);
	if (kind & KIND_ONE_PAGE) {
		patch_rel(a->e, crossing, in_c);
		return at;
	}
	slow[0] = as_at(a);
	pop_r(a, H_RAX);
	jmp_to(a, in_c);
	patch_rel(a->e, crossing, as_at(a));
	push_r(a, H_RAX);
	lea_rm(a, true, H_RAX, H_S1, (int32_t)size - 1);
	emit_neighbours(a, H_RAX, H_S2, write, slow[0]);
	alu_rr(a, 0x01, H_S1, H_RAX); /* add */
	pop_r(a, H_RAX);
	emit8(a, 0xc3);
	return at;
}

static void emit_cold(struct as *a)
{
	struct engine *e = a->e;
	uint32_t check = emit_called(a, helper_check, false);
	uint32_t sample = emit_called(a, helper_sample, false);
	unsigned kind, k;

	for (kind = 0; kind < ACCESS_KINDS; kind++)
		for (k = 0; k < 10; k++)
			e->thunk.check[kind][k] = emit_cold_check(a, kind, 1u << k, check, sample);
	for (k = 0; k < 2; k++)
		e->thunk.check_group[k] = emit_cold_check(a, k | KIND_ONE_PAGE, 0, check, sample);
	e->thunk.save_flags = as_at(a);
	emit_save_flags(a);
	emit8(a, 0xc3);
	e->thunk.load_flags = as_at(a);
	emit_load_flags(a);
	emit8(a, 0xc3);
}

void thunks_emit(struct engine *e)
{
	/* 1 to 512 bytes: sizes that are not a power of two use a power's thunk above them, which
	 * is only more careful. */
	struct region *cold = &e->region[REGION_COLD];
	struct as a;
	unsigned kind, k;

	as_init(&a, e, 0);
	a.framed = false;
	emit_enter(&a);
	emit_native_ends(&a);
	e->thunk.insn = emit_called(&a, helper_insn, false);
	e->thunk.exit = emit_called(&a, helper_exit, true);
	e->thunk.exit_mem = emit_called(&a, helper_exit, false);
	e->thunk.poll = emit_called(&a, helper_poll, false);
	e->thunk.gate_miss = emit_gate_miss(&a);
	e->thunk.fault = emit_jumped(&a, helper_fault);
	e->thunk.gate = as_at(&a);
	mov_rv(&a, H_S1, VSCR(SCR_S1));
	emit_gate_jump(&a);
	for (kind = 0; kind < ACCESS_KINDS; kind++)
		for (k = 0; k < 10; k++)
			e->thunk.miss[kind][k] = emit_miss(&a, kind, 1u << k);
	emit_cold(&a);
	rep_emit(&a);
	cold->begin = (as_at(&a) + 63) & ~63u;
}

/* -- Entries of blocks ------------------------------------------------------------------------- */

/* S1 is the guest address to go on at; flags are in vcpu.arith. */
void emit_gate_jump(struct as *a)
{
	emit_jump_index(a);
	emit8(a, 0x65); /* jmp gs:[s2 * 8 + code] */
	emit8(a, 0xff);
	emit8(a, 0x24);
	emit8(a, 0xc0u | H_S2 << 3 | 5);
	emit32(a, (uint32_t)JC_OFF(code));
}

void emit_poll_test(struct as *a)
{
	emit8(a, 0x83);
	emit_vcpu(a, 7, VCPU(requests), 1);
	emit8(a, 0);
}

static void emit_block_number(struct as *a, const struct block *b)
{
	emit32(a, (uint32_t)(b - a->e->block));
}

/* Invariant 3 in. */
void emit_gate(struct as *a, uint16_t at, bool poll, bool load_flags)
{
	emit_gs(a, 0x3b, H_S1, H_S2, JC_OFF(lin)); /* cmp s1, gs:[lin] */
	jcc_to(a, CC_NE, a->e->thunk.gate_miss);
	if (poll) { /* S1 is where to go on, and C looks at the requests there */
		emit_poll_test(a);
		jcc_to(a, CC_NE, a->e->thunk.gate_miss);
	}
	lea_rm(a, true, H_S1, H_S1, -(int32_t)at);
	mov_vr(a, VCPU(rip_page), H_S1);
	if (load_flags)
		emit_load_flags(a);
}

/* To a block that crosses into the next page: through the jump cache. */
static void emit_crossing_entry(struct as *a, const struct block *b, bool save_flags)
{
	if (save_flags)
		emit_save_flags(a);
	mov_rv(a, H_S1, VCPU(rip_page));
	lea_rm(a, b->mode & MODE_64, H_S1, H_S1, b->at);
	emit_gate_jump(a);
}

/* Invariant 4 out. */
static void emit_entry(struct as *a, struct block *b, enum entry which)
{
	uint32_t asked = 0;

	if (b->over && which != ENTRY_GATE) {
		emit_crossing_entry(a, b, which == ENTRY_POLL);
		return;
	}
	if (which == ENTRY_GATE) {
		emit_gate(a, b->at, true, b->live_in);
		jmp_to(a, b->main);
		return;
	}
	if (which == ENTRY_POLL && b->live_in)
		emit_save_flags(a);
	if (which != ENTRY_MEM) {
		emit_poll_test(a);
		asked = jcc_short(a, CC_NE);
	}
	if (b->live_in)
		emit_load_flags(a);
	jmp_to(a, b->main);
	if (which == ENTRY_MEM)
		return;
	land(a, asked);
	call_to(a, a->e->thunk.poll);
	emit_block_number(a, b);
}

uint32_t entry_get(struct engine *e, struct block *b, enum entry which)
{
	struct region *r;
	struct as a;

	if (b->over && which == ENTRY_MEM_POLL)
		which = ENTRY_MEM;
	if (which == ENTRY_MEM && !b->live_in && !b->over)
		return b->main;
	if (which == ENTRY_MEM_POLL && !b->live_in)
		which = ENTRY_POLL;
	if (b->entry[which])
		return b->entry[which];
	r = region_at(e, b->main);
	if (r->at + ENTRY_ROOM > r->end)
		return 0;
	as_init(&a, e, r->at);
	b->entry[which] = as_at(&a);
	emit_entry(&a, b, which);
	r->at = as_at(&a);
	e->c->stat.code_bytes += r->at - b->entry[which];
	return b->entry[which];
}

/* -- Flags between rflags and vcpu.arith -------------------------------------------------------- */


/* As wide as translated code accesses it: a wider load would wait for the store to retire. */
static uint16_t *scr_flags(struct vcpu *c)
{
	return (uint16_t *)(void *)&c->arith;
}

void flags_to_memory(struct vcpu *c)
{
	uint64_t f = c->rflags;

	*scr_flags(c) = (uint16_t)((f & 0xff) << 8 | (f >> 11 & 1));
}

void flags_from_memory(struct vcpu *c)
{
	uint64_t s = *scr_flags(c);

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

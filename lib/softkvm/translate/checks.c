/* SPDX-License-Identifier: MIT */
/*
 * The thunks of memory accesses: what a block's check (access.c) leaves to somebody else.
 *
 *	miss     of hot blocks: the site's prediction failed, or its operand is not aligned
 *	check    of cold blocks: the whole check
 *
 * Both ask the view's table as a check in line does, and what the table does not answer goes to C. An
 * access that crosses pages passes if these are neighbours on the host.
 *
 * SAFE: see access.c. A crossing access is to two pages whose entries are one addend, so what lies
 * behind the first page's memory on the host is the second's.
 */
#include "softkvm/translate/emit.h"
#include "softkvm/translate/helpers.h"

/* -- Asking the table ---------------------------------------------------------------- */

/* r = page number of S1 -> r = the table's addend; with `write` t = the host address, and both may be
 * one register. Puts the jumps for what the table does not answer into slow[], returns how many. */
static int emit_look_up(struct as *a, int r, int t, bool write, uint32_t *slow)
{
	emit_entry_op(a, 0x8b, r, r);
	alu_rr(a, 0x85, r, r); /* test */
	slow[0] = jcc_short(a, CC_E);
	if (!write)
		return 1;
	lea_sib(a, true, t, r, H_S1, 1, 0); /* the read-only view does not count */
	bt_ri(a, t, SLOT_VIEW_RO_BIT);
	slow[1] = jcc_short(a, CC_B);
	return 2;
}

/*
 * An access at S1 crosses pages; `last` is the address of its last byte. If both have the same addend
 * they are neighbours on the host, too: last = the addend, r is lost. Else to `slow`, and where a
 * multiple of 4 GiB lies between them: what 32-bit code has there are two ends of its segment, and
 * the ends of the address space are among these.
 */
static void emit_neighbours(struct as *a, int last, int r, bool write, uint32_t slow)
{
	emit_page_number(a, last);
	emit_rex(a, false, 0, 0, last);
	emit_op_rr(a, 0xf7, 0, last); /* test */
	emit32(a, 0xfffff);
	jcc_to(a, CC_E, slow);
	emit_entry_op(a, 0x8b, last, last);
	mov_rr(a, r, H_S1);
	emit_page_number(a, r);
	emit_entry_op(a, 0x3b, last, r); /* cmp */
	jcc_to(a, CC_NE, slow);
	alu_rr(a, 0x85, last, last); /* test */
	jcc_to(a, CC_E, slow);
	if (write) { /* the read-only view does not count */
		lea_sib(a, true, r, last, H_S1, 1, 0);
		bt_ri(a, r, SLOT_VIEW_RO_BIT);
		jcc_to(a, CC_B, slow);
	}
}

/* -- Hot blocks ---------------------------------------------------------------------- */

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
	emit_page_number(a, H_RAX);
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

/* -- Cold blocks --------------------------------------------------------------------- */


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
	emit_page_number_of(a, H_S2, H_S1, H_S2);
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

/* 1 to 512 bytes: sizes that are not a power of two use a power's thunk above them, which is only
 * more careful. */
void checks_emit(struct as *a)
{
	struct engine *e = a->e;
	uint32_t check = emit_called(a, helper_check, false);
	uint32_t sample = emit_called(a, helper_sample, false);
	unsigned kind, k;

	for (kind = 0; kind < ACCESS_KINDS; kind++)
		for (k = 0; k < 10; k++)
			e->thunk.miss[kind][k] = emit_miss(a, kind, 1u << k);
	for (kind = 0; kind < ACCESS_KINDS; kind++)
		for (k = 0; k < 10; k++)
			e->thunk.check[kind][k] = emit_cold_check(a, kind, 1u << k, check, sample);
	for (k = 0; k < 2; k++)
		e->thunk.check_group[k] = emit_cold_check(a, k | KIND_ONE_PAGE, 0, check, sample);
}

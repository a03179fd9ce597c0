/* SPDX-License-Identifier: MIT */
/*
 * Lowering: small system instructions that kernels execute all the time.
 */
#include "softkvm/translate/lower.h"

/* op byte [vcpu + off], imm: 80 /digit ib */
static void op_vi8(struct tr *t, unsigned digit, int off, unsigned imm)
{
	emit8(&t->a, 0x80);
	emit_vcpu(&t->a, (int)digit, off, 1);
	emit8(&t->a, imm);
}

/* RFLAGS_IF and RFLAGS_DF, and the byte that they are in */
#define HIGH_FLAGS (VCPU(rflags) + 1)
#define IF_BIT 2u
#define DF_BIT 4u

void lower_cli(struct tr *t, int i)
{
	spend_flags(t, t->before[i]);
	op_vi8(t, 4, HIGH_FLAGS, 0xff & ~IF_BIT); /* and */
}

void lower_df(struct tr *t, int i)
{
	spend_flags(t, t->before[i]);
	if (t->in[i].kind == X86_STD)
		op_vi8(t, 1, HIGH_FLAGS, DF_BIT); /* or */
	else
		op_vi8(t, 4, HIGH_FLAGS, 0xff & ~DF_BIT); /* and */
}

/* MOV from CR2 or CR3 */
void lower_mov_cr(struct tr *t, int i)
{
	const struct insn *in = &t->in[i];
	int host = host_reg[in->rm], to = host >= 0 ? host : H_S1;

	mov_rv(&t->a, to, in->reg == 2 ? VCPU(cr2) : VCPU(cr3));
	if (host < 0)
		mov_vr(&t->a, VGPR(in->rm), to);
}

/* While no interrupt waits for a window there is nothing that the shadow of STI could delay, and the
 * next instruction of the block follows at once. What follows the block may look at requests. */
void lower_sti(struct tr *t, int i)
{
	uint32_t waiting, done;

	flags_to_scr(t);
	if (i + 1 == t->n) {
		call_insn(t, i);
		t->flags = FLAGS_MEM;
		return;
	}
	op_vi8(t, 7, VCPU(event.window), 0); /* cmp */
	waiting = jcc_short(&t->a, CC_NE);
	op_vi8(t, 1, HIGH_FLAGS, IF_BIT); /* or */
	emit8(&t->a, 0xeb);
	emit8(&t->a, 0);
	done = as_at(&t->a) - 1;
	land(&t->a, waiting);
	call_insn(t, i);
	land(&t->a, done);
	t->flags = FLAGS_MEM;
}

/* movzx r, byte [vcpu + off] */
static void movzx_rv8(struct tr *t, int r, int off)
{
	emit8(&t->a, 0x0f);
	emit8(&t->a, 0xb6);
	emit_vcpu(&t->a, r, off, 0);
}

void lower_pushf(struct tr *t, int i)
{
	struct as *a = &t->a;

	flags_to_scr(t);
	check_push_alone(t, i);
	mov_vr(a, VCPU(temp), H_RAX);
	mov_rv(a, H_S2, VCPU(rflags));
	emit8(a, 0x81); /* and edi, ~(arithmetic, RF, VM) */
	emit8(a, 0xe0u | H_S2);
	emit32(a, (uint32_t)~(X86_ARITH | RFLAGS_RF | RFLAGS_VM));
	movzx_rv8(t, H_RAX, VCPU(arith)); /* OF */
	op_ri8(&t->a, false, 0xc1, 4, H_RAX, 11);
	alu_rr(a, 0x09, H_S2, H_RAX); /* or */
	movzx_rv8(t, H_RAX, VCPU(arith) + 1); /* the others, and bit 1 */
	alu_rr(a, 0x09, H_S2, H_RAX);
	mov_rv(a, H_RAX, VCPU(temp));
	push_from(t, H_S2);
}

void lower_rdtsc(struct tr *t, int i)
{
	struct as *a = &t->a;

	spend_flags(t, t->before[i]);
	if (t->in[i].kind == X86_RDTSCP) {
		emit8(a, 0x0f); /* lfence: it waits for what is before it */
		emit8(a, 0xae);
		emit8(a, 0xe8);
		mov_rv32(a, H_RCX, VCPU(msr.tsc_aux));
	}
	emit8(a, 0x0f);
	emit8(a, 0x31);
	op_ri8(&t->a, true, 0xc1, 4, H_RDX, 32);
	alu_rr(a, 0x09, H_RAX, H_RDX);
	emit_op_rv(a, 0x03, H_RAX, VCPU(tsc_offset));
	mov_rr(a, H_RDX, H_RAX);
	op_ri8(&t->a, true, 0xc1, 5, H_RDX, 32);
	mov_rr32(a, H_RAX, H_RAX);
}

static int segment_base(unsigned seg)
{
	return VCPU(seg) + (int)(sizeof(struct kvm_segment) * seg +
				 offsetof(struct kvm_segment, base));
}

void lower_swapgs(struct tr *t)
{
	mov_rv(&t->a, H_S1, segment_base(X86_GS));
	mov_rv(&t->a, H_S2, VCPU(msr.kernel_gs_base));
	mov_vr(&t->a, segment_base(X86_GS), H_S2);
	mov_vr(&t->a, VCPU(msr.kernel_gs_base), H_S1);
}

/* RDFSBASE and RDGSBASE */
void lower_rdfsgsbase(struct tr *t, int i)
{
	const struct insn *in = &t->in[i];
	int host = host_reg[in->rm], to = host >= 0 ? host : H_S1;
	int off = segment_base(in->modrm & 8 ? X86_GS : X86_FS);

	if (in->opsize == 8)
		mov_rv(&t->a, to, off);
	else
		mov_rv32(&t->a, to, off);
	if (host < 0)
		mov_vr(&t->a, VGPR(in->rm), to);
}

void lower_mov_seg_r(struct tr *t, int i)
{
	const struct insn *in = &t->in[i];
	int host = host_reg[in->rm], to = host >= 0 ? host : H_S1;
	int off = VCPU(seg) + (int)sizeof(struct kvm_segment) * (in->reg & 7) +
		  (int)offsetof(struct kvm_segment, selector);

	emit8(&t->a, 0x0f); /* movzx s2d, word [selector] */
	emit8(&t->a, 0xb7);
	emit_vcpu(&t->a, H_S2, off, 0);
	if (host < 0 && in->opsize == 2)
		mov_rv(&t->a, H_S1, VGPR(in->rm));
	if (in->opsize == 2)
		emit8(&t->a, 0x66);
	mov_rr32(&t->a, to, H_S2);
	if (host < 0)
		mov_vr(&t->a, VGPR(in->rm), H_S1);
}

/* SPDX-License-Identifier: MIT */
/*
 * Debug registers: MOV to and from DR0..DR3 (addresses), DR6 (what happened), DR7 (what is
 * armed). DR4 and DR5 are other names of 6 and 7 unless CR4.DE is set.
 *
 * What they cause is in event.c. DR7.GD makes any access here a #DB before it happens.
 * Source: Intel SDM volume 3, chapter 17.
 */
#include "softkvm/interp/event.h"
#include "softkvm/interp/system.h"

#define DR6_WRITABLE 0xe00full
#define DR7_WRITABLE 0xffff2bffull

static enum step write_dr(struct vcpu *c, unsigned dr, uint64_t value)
{
	if (dr < 4) {
		c->dr[dr] = value;
		return STEP_OK;
	}
	if (value >> 32)
		return gp0(c);
	if (dr == 6)
		c->dr6 = (value & DR6_WRITABLE) | DR6_FIXED;
	else
		c->dr7 = (value & DR7_WRITABLE) | DR7_FIXED;
	return STEP_OK;
}

static uint64_t read_dr(const struct vcpu *c, unsigned dr)
{
	return dr < 4 ? c->dr[dr] : dr == 6 ? c->dr6 : c->dr7;
}

/* 0F 21: MOV r, DRn; 0F 23: MOV DRn, r. */
enum step sys_mov_dr(struct vcpu *c, const struct insn *in, uint64_t next)
{
	const unsigned reg = (in->modrm & 7) | (in->rex & 1) << 3;
	const bool wide = is_64bit_code(c);
	unsigned dr = in->reg;

	(void)next;
	if (dr > 7 || ((dr == 4 || dr == 5) && (c->cr4 & CR4_DE)))
		return ud(c);
	if (dr == 4 || dr == 5)
		dr += 2;
	if (event_dr7(c) & DR7_GD) {
		c->fault = (struct fault){.vector = X86_DB, .dr6 = DR6_BD};
		return STEP_FAULT;
	}
	if (in->op == 0x23)
		return write_dr(c, dr, wide ? c->gpr[reg] : (uint32_t)c->gpr[reg]);
	c->gpr[reg] = wide ? read_dr(c, dr) : (uint32_t)read_dr(c, dr);
	return STEP_OK;
}

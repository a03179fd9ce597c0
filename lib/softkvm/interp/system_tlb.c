/* SPDX-License-Identifier: MIT */
/*
 * Invalidation of translations and caches: INVLPG, INVPCID, INVD, WBINVD.
 *
 * Caches are the host's and coherent, so INVD and WBINVD have nothing to do.
 * Source: Intel SDM volume 2 (INVPCID), volume 3, chapter 4.10.
 */
#include "softkvm/interp/system.h"

#include "softkvm/state/cpuid.h"

enum step sys_invlpg(struct vcpu *c, const struct insn *in, uint64_t next)
{
	uint64_t lin = insn_ea(c, in, next);

	if (in->seg <= X86_GS)
		lin += c->seg[in->seg].base;
	if (!is_64bit_code(c))
		lin = (uint32_t)lin;
	if (is_canonical(lin)) /* else it does nothing */
		mmu_flush_page(c, lin);
	return STEP_OK;
}

/* The descriptor: PCID in the low 12 bits, an address in the second half. */
enum step sys_invpcid(struct vcpu *c, const struct insn *in, uint64_t next)
{
	const uint64_t type = is_64bit_code(c) ? c->gpr[in->reg] : (uint32_t)c->gpr[in->reg];
	uint64_t lin, d[2];
	enum step rc;

	if (!cpuid_has(c, FEATURE_invpcid))
		return ud(c);
	rc = sys_linear(c, in, next, sizeof(d), false, &lin);
	if (!rc)
		rc = mmu_read(c, lin, d, sizeof(d), ACC_READ);
	if (rc)
		return rc;
	if (type > 3 || (d[0] & ~0xfffull))
		return gp0(c);
	if (type < 2 && d[0] && !(c->cr4 & CR4_PCIDE))
		return gp0(c);
	if (type == 0 && !is_canonical(d[1]))
		return gp0(c);
	mmu_invpcid(c, (unsigned)type, (unsigned)d[0], d[1]);
	return STEP_OK;
}

enum step sys_cache(struct vcpu *c, const struct insn *in, uint64_t next)
{
	(void)c;
	(void)in;
	(void)next;
	return STEP_OK;
}

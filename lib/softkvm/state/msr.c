/* SPDX-License-Identifier: MIT */
/*
 * Model-specific registers: one table.
 *
 * A row names a register or a run of them, who has it, and either where its value is kept (with
 * the bits that may be set, and whether it must be canonical) or the functions that read and
 * write it. What is not in the table does not exist: #GP, which guests that probe expect.
 * Registers whose feature is not in the vCPU's CPUID are hidden from the guest by `feature`
 * tests in their functions, but not from the client, which restores state in any order.
 *
 * Memory types (MTRRs, PAT) are kept and checked but have no effect: all guest memory is
 * write-back memory of the host.
 */
#include "softkvm/state/msr.h"

#include "base/macros.h"
#include "softkvm/irqchip/irqchip.h"
#include "softkvm/mmu/mmu.h"
#include "softkvm/state/clock.h"
#include "softkvm/state/cpuid.h"

#include <asm/kvm_para.h>
#include <stddef.h>

/* msr_row.flags */
#define CANONICAL 0x01u /* the value is an address: #GP if not canonical */
#define RO        0x02u /* the guest reads; the client may set what `allowed` has */
#define IGNORE    0x04u /* bits outside `allowed` are dropped, not refused */
#define INTEL     0x08u /* of that vendor only */
#define AMD       0x10u
#define SAVE      0x20u /* in KVM_GET_MSR_INDEX_LIST */
#define FEATURE   0x40u /* in KVM_GET_MSR_FEATURE_INDEX_LIST */

#define ALL (~0ull)

struct msr_row {
	uint32_t first, last;
	uint32_t flags;
	uint32_t at;      /* offset in struct vcpu, 0: none (reads as 0) */
	uint64_t allowed;
	int (*read)(struct vcpu *c, uint32_t msr, uint64_t *value, bool client);
	int (*write)(struct vcpu *c, uint32_t msr, uint64_t value, bool client);
};

/* -- EFER ---------------------------------------------------------------------------------- */

static void modes_changed(struct vcpu *c, bool client)
{
	if (client) {
		atomic_fetch_or(&c->requests, REQ_TLB_FLUSH);
	} else {
		mmu_mode_changed(c);
		mmu_flush_all(c);
	}
}

int efer_write(struct vcpu *c, uint64_t value, bool client)
{
	uint64_t old = c->efer;

	if (value & ~c->efer_allowed)
		return -1;
	if ((value ^ old) & EFER_LME && c->cr0 & CR0_PG)
		return -1;
	value = (value & ~EFER_LMA) | (old & EFER_LMA); /* the processor's own bit */
	c->efer = value;
	if ((value ^ old) & (EFER_NX | EFER_LME))
		modes_changed(c, client);
	return 0;
}

static int rd_efer(struct vcpu *c, uint32_t msr, uint64_t *value, bool client)
{
	(void)msr;
	(void)client;
	*value = c->efer;
	return 0;
}

static int wr_efer(struct vcpu *c, uint32_t msr, uint64_t value, bool client)
{
	(void)msr;
	return efer_write(c, value, client);
}

/* -- time ---------------------------------------------------------------------------------- */

static void tsc_moved(struct vcpu *c, uint64_t offset)
{
	__atomic_store_n(&c->tsc_offset, offset, __ATOMIC_RELAXED);
	atomic_fetch_or(&c->requests, REQ_CLOCK | REQ_TIMER);
}

static int rd_tsc(struct vcpu *c, uint32_t msr, uint64_t *value, bool client)
{
	(void)msr;
	(void)client;
	*value = vcpu_tsc(c);
	return 0;
}

/*
 * The client writes the same value to one vCPU after the other and means that their TSCs be
 * equal, though time passes between the writes. So a value that is within a second of what the
 * VM's TSC is, and 0 (a new vCPU), join it; but not the first, for nobody meant the TSC that a VM
 * begins with: a guest that is younger than a second would lose its time at each restore.
 */
static uint64_t offset_for_client(struct vm *vm, uint64_t value)
{
	uint64_t now = host_tsc(), apart = value - (now + vm->tsc_offset);

	if ((int64_t)apart < 0)
		apart = -apart;
	if (value && (!vm->tsc_is_said || apart > vm->host_tsc_khz * 1000)) {
		vm->tsc_offset = value - now;
		vm->tsc_is_said = true;
	}
	return vm->tsc_offset;
}

static int wr_tsc(struct vcpu *c, uint32_t msr, uint64_t value, bool client)
{
	uint64_t offset = client ? offset_for_client(c->vm, value) : value - host_tsc();

	(void)msr;
	if (!client)
		c->msr.tsc_adjust += offset - c->tsc_offset;
	tsc_moved(c, offset);
	return 0;
}

static int rd_tsc_adjust(struct vcpu *c, uint32_t msr, uint64_t *value, bool client)
{
	(void)msr;
	if (!client && !cpuid_has(c, FEATURE_tsc_adjust))
		return -1;
	*value = c->msr.tsc_adjust;
	return 0;
}

/* The guest moves its TSC by the difference; the client restores a value, with the TSC. */
static int wr_tsc_adjust(struct vcpu *c, uint32_t msr, uint64_t value, bool client)
{
	(void)msr;
	if (!client && !cpuid_has(c, FEATURE_tsc_adjust))
		return -1;
	if (!client)
		tsc_moved(c, c->tsc_offset + (value - c->msr.tsc_adjust));
	c->msr.tsc_adjust = value;
	return 0;
}

/* -- local APIC ---------------------------------------------------------------------------- */

static int rd_apic(struct vcpu *c, uint32_t msr, uint64_t *value, bool client)
{
	(void)client;
	if (c->lapic)
		return lapic_rdmsr(c, msr, value);
	*value = c->apic_base;
	return msr == MSR_APIC_BASE ? 0 : -1;
}

static int wr_apic(struct vcpu *c, uint32_t msr, uint64_t value, bool client)
{
	if (msr == MSR_APIC_BASE && c->lapic)
		return lapic_set_base(c, value, client);
	if (c->lapic)
		return lapic_wrmsr(c, msr, value);
	if (msr != MSR_APIC_BASE)
		return -1;
	c->apic_base = value;
	return 0;
}

static int rd_deadline(struct vcpu *c, uint32_t msr, uint64_t *value, bool client)
{
	if (!client && !cpuid_has(c, FEATURE_tsc_deadline_timer))
		return -1;
	*value = 0; /* without a local APIC of ours it is a register that does nothing, as KVM's */
	return c->lapic ? lapic_rdmsr(c, msr, value) : 0;
}

static int wr_deadline(struct vcpu *c, uint32_t msr, uint64_t value, bool client)
{
	if (!client && !cpuid_has(c, FEATURE_tsc_deadline_timer))
		return -1;
	return c->lapic ? lapic_wrmsr(c, msr, value) : 0;
}

/* -- speculation control ------------------------------------------------------------------- */

#define SPEC_CTRL_BITS 0x407ull /* IBRS, STIBP, SSBD, BHI_DIS_S: kept, of no effect */

static int rd_spec_ctrl(struct vcpu *c, uint32_t msr, uint64_t *value, bool client)
{
	(void)msr;
	if (!client && !cpuid_has(c, FEATURE_spec_ctrl))
		return -1;
	*value = c->msr.spec_ctrl;
	return 0;
}

static int wr_spec_ctrl(struct vcpu *c, uint32_t msr, uint64_t value, bool client)
{
	(void)msr;
	if (!client && !cpuid_has(c, FEATURE_spec_ctrl))
		return -1;
	if (value & ~SPEC_CTRL_BITS)
		return -1;
	c->msr.spec_ctrl = value;
	return 0;
}

/* Commands are written, never read. IBPB: nothing to do that the engine could. */
static int rd_command(struct vcpu *c, uint32_t msr, uint64_t *value, bool client)
{
	(void)c;
	(void)msr;
	*value = 0;
	return client ? 0 : -1;
}

static int wr_pred_cmd(struct vcpu *c, uint32_t msr, uint64_t value, bool client)
{
	(void)msr;
	if (!client && !cpuid_has(c, FEATURE_spec_ctrl))
		return -1;
	return value & ~1ull ? -1 : 0;
}

static int rd_arch_caps(struct vcpu *c, uint32_t msr, uint64_t *value, bool client)
{
	(void)msr;
	if (!client && !cpuid_has(c, FEATURE_arch_capabilities))
		return -1;
	*value = c->msr.arch_caps;
	return 0;
}

/* -- memory types -------------------------------------------------------------------------- */

static bool memory_type(uint8_t t)
{
	return t == 0 || t == 1 || (t >= 4 && t <= 6);
}

/* PAT also has UC-, which is 7. */
static int wr_pat(struct vcpu *c, uint32_t msr, uint64_t value, bool client)
{
	(void)msr;
	(void)client;
	for (int i = 0; i < 64; i += 8)
		if (!memory_type(value >> i & 0xff) && (value >> i & 0xff) != 7)
			return -1;
	c->msr.pat = value;
	return 0;
}

static int wr_mtrr_def(struct vcpu *c, uint32_t msr, uint64_t value, bool client)
{
	(void)msr;
	(void)client;
	if (value & ~0xcffull || !memory_type(value & 0xff))
		return -1;
	c->msr.mtrr_def = value;
	return 0;
}

static int fixed_index(uint32_t msr)
{
	if (msr == 0x250)
		return 0;
	return msr <= 0x259 ? (int)(msr - 0x258) + 1 : (int)(msr - 0x268) + 3;
}

static int rd_mtrr_fixed(struct vcpu *c, uint32_t msr, uint64_t *value, bool client)
{
	(void)client;
	*value = c->msr.mtrr_fixed[fixed_index(msr)];
	return 0;
}

static int wr_mtrr_fixed(struct vcpu *c, uint32_t msr, uint64_t value, bool client)
{
	(void)client;
	for (int i = 0; i < 64; i += 8)
		if (!memory_type(value >> i & 0xff))
			return -1;
	c->msr.mtrr_fixed[fixed_index(msr)] = value;
	return 0;
}

/* Bases have even numbers, masks odd ones. */
static int rd_mtrr_var(struct vcpu *c, uint32_t msr, uint64_t *value, bool client)
{
	uint32_t i = (msr - 0x200) / 2;

	(void)client;
	*value = msr & 1 ? c->msr.mtrr_mask[i] : c->msr.mtrr_base[i];
	return 0;
}

static int wr_mtrr_var(struct vcpu *c, uint32_t msr, uint64_t value, bool client)
{
	uint64_t address = ((1ull << c->max_phys_bits) - 1) & ~0xfffull;
	uint32_t i = (msr - 0x200) / 2;

	if (client)
		address = ((1ull << 52) - 1) & ~0xfffull;
	if (msr & 1) {
		if (value & ~(address | 0x800))
			return -1;
		c->msr.mtrr_mask[i] = value;
	} else {
		if (value & ~(address | 0xff) || !memory_type(value & 0xff))
			return -1;
		c->msr.mtrr_base[i] = value;
	}
	return 0;
}

/* -- machine check ------------------------------------------------------------------------- */

static bool mc_exists(const struct vcpu *c, uint32_t msr)
{
	return msr - 0x400 < (c->msr.mcg_cap & 0xff) * 4;
}

static int rd_mc(struct vcpu *c, uint32_t msr, uint64_t *value, bool client)
{
	(void)client;
	if (!mc_exists(c, msr))
		return -1;
	*value = c->msr.mc_bank[msr - 0x400];
	return 0;
}

/* Control is all or nothing (but for two bits that kernels clear in bank 4 and 0), and the
 * guest can only clear a status. */
static int wr_mc(struct vcpu *c, uint32_t msr, uint64_t value, bool client)
{
	if (!mc_exists(c, msr))
		return -1;
	if ((msr & 3) == 0 && value && (value | 1ull << 10 | 1) != ~0ull)
		return -1;
	if ((msr & 3) == 1 && value && !client && !(c->msr.hwcr & 1ull << 18))
		return -1;
	c->msr.mc_bank[msr - 0x400] = value;
	return 0;
}

/* -- KVM's own ----------------------------------------------------------------------------- */

static bool has_clock(const struct vcpu *c, uint32_t msr)
{
	const struct kvm_cpuid_entry2 *e = cpuid_find(c, KVM_CPUID_FEATURES, 0);
	int bit = msr >= MSR_KVM_WALL_CLOCK_NEW ? KVM_FEATURE_CLOCKSOURCE2 :
						  KVM_FEATURE_CLOCKSOURCE;

	return e && e->eax >> bit & 1;
}

static int rd_wall_clock(struct vcpu *c, uint32_t msr, uint64_t *value, bool client)
{
	if (!client && !has_clock(c, msr))
		return -1;
	*value = c->msr.kvm_wall_clock;
	return 0;
}

static int wr_wall_clock(struct vcpu *c, uint32_t msr, uint64_t value, bool client)
{
	if (!client && !has_clock(c, msr))
		return -1;
	c->msr.kvm_wall_clock = value;
	if (!client)
		kvmclock_wall(c, value & ~3ull);
	return 0;
}

static int rd_system_time(struct vcpu *c, uint32_t msr, uint64_t *value, bool client)
{
	if (!client && !has_clock(c, msr))
		return -1;
	*value = c->msr.kvm_system_time;
	return 0;
}

/* Bit 0 enables; the page is written now, so that it is good when the guest looks. */
static int wr_system_time(struct vcpu *c, uint32_t msr, uint64_t value, bool client)
{
	if (!client && !has_clock(c, msr))
		return -1;
	c->msr.kvm_system_time = value;
	c->clock_page = value & 1 ? value & ~1ull : 0;
	if (client)
		atomic_fetch_or(&c->requests, REQ_CLOCK);
	else
		kvmclock_update(c);
	return 0;
}

/* -- the table ----------------------------------------------------------------------------- */

#define M(field) offsetof(struct vcpu, msr.field)
#define V(field) offsetof(struct vcpu, field)
#define ONE(n) .first = (n), .last = (n)

/* By number. */
static const struct msr_row rows[] = {
	{.first = 0x0, .last = 0x1, .flags = IGNORE},       /* P5_MC_ADDR, P5_MC_TYPE */
	{ONE(MSR_TSC), .flags = SAVE, .read = rd_tsc, .write = wr_tsc},
	{ONE(0x11), .flags = SAVE, .read = rd_wall_clock, .write = wr_wall_clock},
	{ONE(0x12), .flags = SAVE, .read = rd_system_time, .write = wr_system_time},
	{ONE(0x17), .flags = RO | INTEL},                   /* PLATFORM_ID */
	{ONE(MSR_APIC_BASE), .read = rd_apic, .write = wr_apic},
	{ONE(0x2a), .flags = RO | INTEL},                   /* EBL_CR_POWERON */
	{ONE(0x34), .flags = RO | INTEL},                   /* SMI_COUNT */
	{ONE(MSR_FEATURE_CONTROL), .flags = RO | INTEL | SAVE, .at = M(feature_control),
	 .allowed = ALL},
	{ONE(MSR_TSC_ADJUST), .flags = SAVE, .read = rd_tsc_adjust, .write = wr_tsc_adjust},
	{ONE(MSR_SPEC_CTRL), .flags = SAVE, .read = rd_spec_ctrl, .write = wr_spec_ctrl},
	{ONE(MSR_PRED_CMD), .read = rd_command, .write = wr_pred_cmd},
	{ONE(0x79), .flags = IGNORE | INTEL},               /* UCODE_WRITE */
	{ONE(MSR_UCODE_REV), .flags = RO | IGNORE | SAVE | FEATURE, .at = M(ucode_rev),
	 .allowed = ALL},
	{.first = 0xc1, .last = 0xc2, .flags = IGNORE | INTEL}, /* P6's counters */
	{ONE(MSR_PLATFORM_INFO), .flags = RO | INTEL | SAVE | FEATURE, .at = M(platform_info)},
	{ONE(MSR_MTRRCAP), .flags = RO, .at = V(mtrr_cap)},
	{ONE(MSR_ARCH_CAPS), .flags = RO | INTEL | SAVE | FEATURE, .at = M(arch_caps),
	 .allowed = ALL, .read = rd_arch_caps},
	{ONE(0x140), .flags = INTEL | SAVE, .at = M(misc_features)}, /* MISC_FEATURES_ENABLES */
	{ONE(MSR_SYSENTER_CS), .flags = SAVE, .at = M(sysenter_cs), .allowed = ALL},
	{ONE(MSR_SYSENTER_ESP), .flags = SAVE | CANONICAL, .at = M(sysenter_esp), .allowed = ALL},
	{ONE(MSR_SYSENTER_EIP), .flags = SAVE | CANONICAL, .at = M(sysenter_eip), .allowed = ALL},
	{ONE(0x179), .flags = RO, .at = M(mcg_cap)},
	{ONE(0x17a), .flags = SAVE, .at = M(mcg_status), .allowed = 7},
	{ONE(0x17b), .flags = SAVE, .at = M(mcg_ctl), .allowed = ALL},
	{.first = 0x186, .last = 0x187, .flags = IGNORE | INTEL}, /* P6's event selectors */
	{ONE(MSR_MISC_ENABLE), .flags = SAVE, .at = M(misc_enable), .allowed = ALL},
	{ONE(0x1d9), .flags = SAVE, .at = M(debug_ctl), .allowed = 3}, /* DEBUGCTL */
	{ONE(0x1fc), .flags = SAVE, .at = M(power_ctl), .allowed = ALL}, /* POWER_CTL: kept */
	{.first = 0x200, .last = 0x20f, .flags = SAVE, .read = rd_mtrr_var,
	 .write = wr_mtrr_var},
	{ONE(0x250), .flags = SAVE, .read = rd_mtrr_fixed, .write = wr_mtrr_fixed},
	{.first = 0x258, .last = 0x259, .flags = SAVE, .read = rd_mtrr_fixed,
	 .write = wr_mtrr_fixed},
	{.first = 0x268, .last = 0x26f, .flags = SAVE, .read = rd_mtrr_fixed,
	 .write = wr_mtrr_fixed},
	{ONE(MSR_PAT), .flags = SAVE, .at = M(pat), .write = wr_pat},
	{ONE(0x2ff), .flags = SAVE, .at = M(mtrr_def), .write = wr_mtrr_def},
	{.first = 0x400, .last = 0x47f, .read = rd_mc, .write = wr_mc},
	{ONE(MSR_TSC_DEADLINE), .flags = SAVE, .read = rd_deadline, .write = wr_deadline},
	{.first = MSR_X2APIC_FIRST, .last = MSR_X2APIC_LAST, .read = rd_apic,
	 .write = wr_apic},
	{ONE(0x4b564d00), .flags = SAVE, .read = rd_wall_clock, .write = wr_wall_clock},
	{ONE(0x4b564d01), .flags = SAVE, .read = rd_system_time, .write = wr_system_time},
	{ONE(MSR_EFER), .read = rd_efer, .write = wr_efer},
	{ONE(MSR_STAR), .flags = SAVE, .at = M(star), .allowed = ALL},
	{ONE(MSR_LSTAR), .flags = SAVE | CANONICAL, .at = M(lstar), .allowed = ALL},
	{ONE(MSR_CSTAR), .flags = SAVE | CANONICAL, .at = M(cstar), .allowed = ALL},
	{ONE(MSR_SFMASK), .flags = SAVE | IGNORE, .at = M(sfmask), .allowed = UINT32_MAX},
	{ONE(MSR_FS_BASE), .flags = CANONICAL, .at = V(seg[X86_FS].base), .allowed = ALL},
	{ONE(MSR_GS_BASE), .flags = CANONICAL, .at = V(seg[X86_GS].base), .allowed = ALL},
	{ONE(MSR_KERNEL_GS_BASE), .flags = SAVE | CANONICAL, .at = M(kernel_gs_base),
	 .allowed = ALL},
	{ONE(MSR_TSC_AUX), .flags = SAVE, .at = M(tsc_aux), .allowed = UINT32_MAX},
	{.first = 0xc0010000, .last = 0xc0010007, .flags = IGNORE | AMD}, /* K7's counters: none
									   * counts */
	{ONE(0xc0010010), .flags = IGNORE | AMD},           /* SYSCFG */
	{ONE(0xc0010015), .flags = IGNORE | AMD | SAVE, .at = M(hwcr),
	 .allowed = 1ull << 24 | 1ull << 18},
	{ONE(0xc001001f), .flags = AMD | SAVE, .at = M(nb_cfg), .allowed = ALL},
	{ONE(0xc0010020), .flags = IGNORE | AMD},           /* microcode loader */
	{ONE(0xc0011029), .flags = IGNORE | AMD | SAVE | FEATURE, .at = M(de_cfg),
	 .allowed = 2},
	{ONE(0xc001102a), .flags = IGNORE | AMD},           /* BU_CFG2 */
};

static const struct msr_row *row_of(const struct vcpu *c, uint32_t msr)
{
	unsigned low = 0, high = ARRAY_SIZE(rows);
	const struct msr_row *r;

	while (low < high) {
		unsigned mid = (low + high) / 2;

		if (rows[mid].first <= msr)
			low = mid + 1;
		else
			high = mid;
	}
	r = low ? &rows[low - 1] : NULL;
	if (!r || msr > r->last)
		return NULL;
	if (r->flags & INTEL && c->amd)
		return NULL;
	if (r->flags & AMD && !c->amd)
		return NULL;
	return r;
}

static uint64_t *field_of(struct vcpu *c, const struct msr_row *r)
{
	return (uint64_t *)((char *)c + r->at);
}

static int field_write(struct vcpu *c, const struct msr_row *r, uint64_t value, bool client)
{
	if (r->flags & RO && !client)
		return r->flags & IGNORE ? 0 : -1;
	if (r->flags & CANONICAL && !is_canonical(value))
		return -1;
	if (value & ~r->allowed && !(r->flags & IGNORE))
		return -1;
	if (r->at)
		*field_of(c, r) = value & r->allowed;
	return 0;
}

static int row_read(struct vcpu *c, uint32_t msr, uint64_t *value, bool client)
{
	const struct msr_row *r = row_of(c, msr);

	if (!r)
		return -1;
	if (r->read)
		return r->read(c, msr, value, client);
	*value = r->at ? *field_of(c, r) : 0;
	return 0;
}

static int row_write(struct vcpu *c, uint32_t msr, uint64_t value, bool client)
{
	const struct msr_row *r = row_of(c, msr);

	if (!r)
		return -1;
	return r->write ? r->write(c, msr, value, client) : field_write(c, r, value, client);
}

bool msr_is_known(const struct vcpu *c, uint32_t msr)
{
	return row_of(c, msr) != NULL;
}

int msr_read(struct vcpu *c, uint32_t msr, uint64_t *value)
{
	return row_read(c, msr, value, false);
}

int msr_write(struct vcpu *c, uint32_t msr, uint64_t value)
{
	return row_write(c, msr, value, false);
}

int msr_get(struct vcpu *c, uint32_t msr, uint64_t *value)
{
	return row_read(c, msr, value, true);
}

/* Writing back what was read is always right, whatever may be set. */
int msr_set(struct vcpu *c, uint32_t msr, uint64_t value)
{
	uint64_t now;

	if (!row_write(c, msr, value, true))
		return 0;
	return !row_read(c, msr, &now, true) && now == value ? 0 : -1;
}

unsigned msr_list(uint32_t *out, unsigned max, bool feature)
{
	uint32_t other = host_is_amd() ? INTEL : AMD;
	unsigned n = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		if (!(rows[i].flags & (feature ? FEATURE : SAVE)) || rows[i].flags & other)
			continue;
		for (uint32_t msr = rows[i].first; msr <= rows[i].last; msr++, n++)
			if (n < max)
				out[n] = msr;
	}
	return n;
}

/* SPDX-License-Identifier: MIT */
/*
 * A vCPU before it runs: what firmware would have done to it.
 *
 * A vCPU is born in its reset state, and firmware begins there. Where there is none, its share, on each of them: memory is cacheable
 * (MTRRs on, default write-back) but for the gigabyte of devices below 4 GiB (the first variable
 * range), and the local APIC passes the PIC's interrupts (LINT0) and NMIs (LINT1), which is what
 * kernels expect until they take over. The boot processor then
 * gets the registers of the boot protocol; the others wait for INIT and SIPI, which engine
 * and guest arrange between themselves.
 */
#include "machine/vcpu.h"

#include "base/bytes.h"
#include "base/err.h"
#include "base/macros.h"
#include "engine/kvm.h"
#include "machine/boot/boot.h"
#include "machine/map.h"
#include "machine/vm.h"

#include <errno.h>
#include <string.h>

#define MSR_MTRR_BASE0    0x200
#define MSR_MTRR_MASK0    0x201
#define MSR_MTRR_DEF_TYPE 0x2ff
#define MTRR_HOLE         (3 * GiB)
#define MTRR_UNCACHABLE   0x000 /* a type */
#define MTRR_VALID        0x800 /* in a mask */
#define MTRR_ENABLE_WB    0x806

#define LVT_LINT0  0x350
#define LVT_LINT1  0x360
#define LVT_EXTINT 0x700
#define LVT_NMI    0x400

#define CR0_PE  0x00000001u
#define CR0_ET  0x00000010u
#define CR0_NE  0x00000020u
#define CR0_PG  0x80000000u
#define CR4_PAE 0x20u
#define EFER_LME_LMA 0x500u

static int call(const struct vcpu *v, unsigned long request, void *arg)
{
	return v->vm->face->ioctl(v->fd, request, arg);
}

static int refused(const struct vcpu *v, int rc, const char *what, struct err *err)
{
	return err_sys(err, -rc, "engine '%s' refuses vCPU %u %s", v->vm->face->name, v->id, what);
}

/* An engine without MTRRs has all memory write-back anyway, so a refusal is no failure. */
static void set_mtrrs(const struct vcpu *v)
{
	const uint64_t all = (1ull << v->phys_bits) - 1;
	const struct kvm_msr_entry settings[] = {
		{.index = MSR_MTRR_DEF_TYPE, .data = MTRR_ENABLE_WB},
		{.index = MSR_MTRR_BASE0, .data = MTRR_HOLE | MTRR_UNCACHABLE},
		{.index = MSR_MTRR_MASK0, .data = (all & ~(MAP_HIGH - MTRR_HOLE - 1)) | MTRR_VALID},
	};
	union {
		struct kvm_msrs head;
		uint8_t room[sizeof(struct kvm_msrs) + sizeof(settings)];
	} msrs = {.head.nmsrs = ARRAY_SIZE(settings)};

	memcpy(msrs.head.entries, settings, sizeof(settings));
	call(v, KVM_SET_MSRS, &msrs);
}

static int set_lapic(const struct vcpu *v, struct err *err)
{
	struct kvm_lapic_state apic;
	int rc = call(v, KVM_GET_LAPIC, &apic);

	if (rc >= 0) {
		le32_put(apic.regs + LVT_LINT0, LVT_EXTINT);
		le32_put(apic.regs + LVT_LINT1, LVT_NMI);
		rc = call(v, KVM_SET_LAPIC, &apic);
	}
	return rc < 0 ? refused(v, rc, "a local APIC", err) : 0;
}

int vcpu_open(struct vcpu *v, struct machine *m, const struct vm *vm, unsigned id,
	      unsigned n, const struct cpu_table *model, struct err *err)
{
	v->m = m;
	v->vm = vm;
	v->id = id;
	v->run = NULL;
	v->has_thread = false;
	v->fd = vm->face->ioctl(vm->fd, KVM_CREATE_VCPU, KVM_ARG(id));
	if (v->fd < 0)
		return refused(v, v->fd, "itself", err);
	v->run = vm->face->mmap(v->fd, vm->run_size);
	if (!v->run)
		return refused(v, -ENOMEM, "its shared area", err);
	return vcpu_set_cpuid(v, n, model, err);
}

int vcpu_set_up(struct vcpu *v, struct err *err)
{
	set_mtrrs(v);
	return set_lapic(v, err);
}

void vcpu_close(struct vcpu *v)
{
	if (v->run)
		v->vm->face->munmap(v->run, v->vm->run_size);
	if (v->vm && v->fd >= 0)
		v->vm->face->close(v->fd);
	v->run = NULL;
	v->fd = -1;
}

/* -- The boot processor ---------------------------------------------------------------- */

static struct kvm_segment flat_segment(uint16_t selector, bool code, bool is64)
{
	return (struct kvm_segment){
		.selector = selector,
		.limit = 0xffffffffu,
		.type = code ? 11 : 3, /* accessed; readable code or writable data */
		.present = 1,
		.s = 1,
		.g = 1,
		.l = code && is64,
		.db = !(code && is64),
	};
}

static void set_segments(struct kvm_sregs *s, bool is64)
{
	s->cs = flat_segment(0x10, true, is64);
	s->ds = s->es = s->fs = s->gs = s->ss = flat_segment(0x18, false, is64);
	s->tr = (struct kvm_segment){.limit = 0x67, .type = 11, .present = 1};
	s->ldt = (struct kvm_segment){.type = 2, .unusable = 1};
	s->gdt =
		(struct kvm_dtable){.base = is64 ? MAP_GDT : 0, .limit = is64 ? 31 : 0};
	s->idt = (struct kvm_dtable){.base = 0, .limit = 0};
}

static void set_mode(struct kvm_sregs *s, enum boot_mode mode)
{
	if (mode == BOOT_PROTECTED) {
		s->cr0 = CR0_PE | CR0_ET;
		s->cr4 = 0;
		s->efer = 0;
		return;
	}
	s->cr0 = CR0_PE | CR0_ET | CR0_NE | CR0_PG;
	s->cr3 = MAP_PAGE_TABLES;
	s->cr4 = CR4_PAE;
	s->efer = EFER_LME_LMA;
}

int vcpu_set_entry(struct vcpu *v, const struct boot_entry *entry, struct err *err)
{
	bool is64 = entry->mode == BOOT_LONG;
	struct kvm_regs regs = {
		.rip = entry->rip,
		.rsi = is64 ? entry->info : 0,
		.rbx = is64 ? 0 : entry->info,
		.rflags = 2,
	};
	struct kvm_sregs sregs;
	int rc = call(v, KVM_GET_SREGS, &sregs);

	if (rc >= 0) {
		set_segments(&sregs, is64);
		set_mode(&sregs, entry->mode);
		rc = call(v, KVM_SET_SREGS, &sregs);
	}
	if (rc >= 0)
		rc = call(v, KVM_SET_REGS, &regs);
	return rc < 0 ? refused(v, rc, "its first registers", err) : 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * State that no processor and no chip was ever in, set by the client: a snapshot that somebody has
 * damaged. Every structure of the ABI that sets something is read, changed in places, by bits, bytes
 * and numbers that hurt, and set; then the guest runs, and all is read back.
 *
 *	state_test [ROUNDS]
 *
 * Whether a request refuses is not asked. The alarms are in hostile.h; under sanitizers no arithmetic
 * on it may overflow. Besides, no field of a segment may come back wider than a descriptor has it (the
 * CPL is one of them), no bit of RFLAGS that is none, and no long mode without paging.
 */
#include "tests/hostile/hostile.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/macros.h"
#include "tests/tap.h"

#include "softkvm/softkvm.h"
#include "softkvm/vcpu.h"

#define MSRS 8

/* Room for the longest. */
union any {
	uint8_t bytes[sizeof(struct kvm_xsave)];
	struct kvm_irqchip chip;
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry[MSRS];
	} msrs;
};

enum whose { CPU, CHIPS /* of the VM, if it has any */, VM };

/* get: 0: there is none, it is made of zeros. */
static const struct request {
	const char *name;
	unsigned long get, set;
	size_t size;
	enum whose whose;
	unsigned which; /* kvm_irqchip's */
} requests[] = {
#define ROW(name, whose, type) {#name, KVM_GET_##name, KVM_SET_##name, sizeof(type), whose, 0}
	ROW(REGS, CPU, struct kvm_regs),
	ROW(SREGS, CPU, struct kvm_sregs),
	ROW(SREGS2, CPU, struct kvm_sregs2),
	ROW(FPU, CPU, struct kvm_fpu),
	ROW(XSAVE, CPU, struct kvm_xsave),
	ROW(XCRS, CPU, struct kvm_xcrs),
	ROW(DEBUGREGS, CPU, struct kvm_debugregs),
	ROW(VCPU_EVENTS, CPU, struct kvm_vcpu_events),
	ROW(MP_STATE, CPU, struct kvm_mp_state),
	ROW(LAPIC, CPU, struct kvm_lapic_state),
	{"MSRS", KVM_GET_MSRS, KVM_SET_MSRS, sizeof(union any), CPU, 0},
	{"INTERRUPT", 0, KVM_INTERRUPT, sizeof(struct kvm_interrupt), CPU, 0},
	{"a PIC", KVM_GET_IRQCHIP, KVM_SET_IRQCHIP, sizeof(struct kvm_irqchip), CHIPS, 0},
	{"the other PIC", KVM_GET_IRQCHIP, KVM_SET_IRQCHIP, sizeof(struct kvm_irqchip), CHIPS, 1},
	{"the IOAPIC", KVM_GET_IRQCHIP, KVM_SET_IRQCHIP, sizeof(struct kvm_irqchip), CHIPS, 2},
	{"PIT2", KVM_GET_PIT2, KVM_SET_PIT2, sizeof(struct kvm_pit_state2), CHIPS, 0},
	ROW(CLOCK, VM, struct kvm_clock_data),
	{"a line", 0, KVM_IRQ_LINE, sizeof(struct kvm_irq_level), CHIPS, 0},
	{"a message", 0, KVM_SIGNAL_MSI, sizeof(struct kvm_msi), CHIPS, 0},
#undef ROW
};

/* -- Changes --------------------------------------------------------------------------- */

static void damage(struct enemy *e, uint8_t *at, size_t size)
{
	uint64_t value = nasty(e);
	size_t where = below(e, (unsigned)size);

	switch (below(e, 4)) {
	case 0:
		at[where] ^= (uint8_t)(1u << below(e, 8));
		break;
	case 1:
		at[where] = (uint8_t)value;
		break;
	case 2:
		if (below(e, 2)) /* the sign, and nothing else */
			value = 1ull << 63;
		where &= ~7ull;
		memcpy(at + where, &value, size - where < 8 ? size - where : 8);
		break;
	default:
		where &= ~3ull;
		memcpy(at + where, &value, size - where < 4 ? size - where : 4);
	}
}

static void name_msrs(struct enemy *e, union any *a)
{
	static const uint32_t numbers[] = {0x10, 0x11, 0x12, 0x1b, 0x3b, 0x48, 0x174, 0x175, 0x176,
					   0x179, 0x1d9, 0x200, 0x201, 0x250, 0x277, 0x2ff, 0x400,
					   0x6e0, 0x802, 0x80f, 0x832, 0x838, 0x83e, 0x4b564d00,
					   0x4b564d01, 0xc0000080, 0xc0000081, 0xc0000082, 0xc0000100,
					   0xc0000101, 0xc0000102, 0xc0000103, 0xc0010015};

	a->msrs.head.nmsrs = MSRS;
	for (unsigned i = 0; i < MSRS; i++)
		a->msrs.entry[i].index = numbers[below(e, ARRAY_SIZE(numbers))];
}

static void set(struct enemy *e, const struct request *r)
{
	int fd = r->whose == CPU ? e->cpu[0].fd : e->vm;
	union any a = {0};
	unsigned times = 1 + below(e, 4);

	if (r->get == KVM_GET_IRQCHIP)
		a.chip.chip_id = r->which;
	if (r->get == KVM_GET_MSRS)
		name_msrs(e, &a);
	if (r->get)
		softkvm_ioctl(fd, r->get, &a);
	while (times--) {
		if (r->get == KVM_GET_MSRS)
			a.msrs.entry[below(e, MSRS)].data = nasty(e);
		else
			damage(e, a.bytes, r->size);
	}
	if (r->get == KVM_GET_IRQCHIP)
		a.chip.chip_id = r->which;
	softkvm_ioctl(fd, r->set, &a);
}

/* -- What comes back -------------------------------------------------------------------- */

static bool is_segment(const struct kvm_segment *s)
{
	return s->type < 16 && s->present < 2 && s->dpl < 4 && s->db < 2 && s->s < 2 && s->l < 2 &&
	       s->g < 2 && s->avl < 2 && s->unusable < 2;
}

static bool read_all(struct enemy *e, bool chips)
{
	struct kvm_sregs s;
	struct kvm_regs regs;
	struct kvm_vcpu_events events;

	for (unsigned i = 0; i < ARRAY_SIZE(requests); i++) {
		const struct request *r = &requests[i];
		union any a = {0};

		a.chip.chip_id = r->which;
		if (r->get && (chips || r->whose != CHIPS))
			softkvm_ioctl(r->whose == CPU ? e->cpu[0].fd : e->vm, r->get, &a);
	}
	softkvm_ioctl(e->cpu[0].fd, KVM_GET_SREGS, &s);
	softkvm_ioctl(e->cpu[0].fd, KVM_GET_REGS, &regs);
	softkvm_ioctl(e->cpu[0].fd, KVM_GET_VCPU_EVENTS, &events);
	if (regs.rflags & ~RFLAGS_ALL || events.interrupt.shadow > 3)
		return false;
	if (s.efer & EFER_LMA && !(s.cr0 & CR0_PG))
		return false;
	return is_segment(&s.cs) && is_segment(&s.ds) && is_segment(&s.es) && is_segment(&s.fs) &&
	       is_segment(&s.gs) && is_segment(&s.ss) && is_segment(&s.tr) && is_segment(&s.ldt);
}

/* -- Rounds ----------------------------------------------------------------------------- */

/* A bit of everything, in any mode. */
static const uint8_t code[] = {
	0x89, 0x06, 0x8b, 0x07, 0x50, 0x58,             /* mov [rsi], eax; mov eax, [rdi]; push; pop */
	0xa4, 0xab, 0xf3, 0xa4,                         /* movsb; stosd; rep movsb */
	0x0f, 0xae, 0x06, 0x0f, 0xae, 0x0e,             /* fxsave [rsi]; fxrstor [rsi] */
	0xd9, 0xe8, 0xde, 0xc1, 0x9b,                   /* fld1; faddp; fwait */
	0x0f, 0xa2, 0x0f, 0x31, 0x0f, 0x05,             /* cpuid; rdtsc; syscall */
	0x0f, 0x32, 0x0f, 0x20, 0xc0, 0x0f, 0x22, 0xc0, /* rdmsr; mov rax, cr0; mov cr0, rax */
	0x8e, 0xd8, 0x8e, 0xd0, 0xfb, 0xcd, 0x20,       /* mov ds, eax; mov ss, eax; sti; int 0x20 */
	0xe4, 0x40, 0xe6, 0x43, 0xe4, 0x61,             /* in al, 0x40; out 0x43, al; in al, 0x61 */
	0xe4, 0x20, 0xe6, 0x21, 0xe6, 0x80,             /* in al, 0x20; out 0x21, al; out 0x80, al */
	0xe8, 0, 0, 0, 0, 0xc3, 0xcf, 0xcb, 0xf4,       /* call; ret; iret; retf; hlt */
};

static void attack(struct enemy *e, unsigned rounds, bool chips)
{
	bool fine = true;
	unsigned n;

	for (n = 0; n < rounds && fine; n++) {
		unsigned sets = 1 + below(e, 6), pieces = 40;

		enemy_reset(e);
		while (pieces--) /* the order of the pieces is any */
			memcpy(e->ram + CODE_AT + below(e, 1024), code + below(e, sizeof(code) - 8), 8);
		enemy_start(e, 0, (enum mode)below(e, MODES), below(e, 512));
		while (sets--) {
			const struct request *r = &requests[below(e, ARRAY_SIZE(requests))];

			if (chips || r->whose != CHIPS)
				set(e, r);
		}
		fine = enemy_run(e, 0, 30, 2) && read_all(e, chips) && enemy_harmless(e);
	}
	if (!fine)
		note("round %u", n - 1);
	ok(fine, "%s: %u states%s", e->knobs[0] ? e->knobs : "translated", rounds,
	   chips ? ", with interrupt controllers" : "");
	enemy_report(e, "states");
	enemy_destroy(e);
}

int main(int argc, char **argv)
{
	unsigned rounds = argc > 1 ? (unsigned)atoi(argv[1]) : 400;

	struct enemy *e[] = {enemy_create("", 1, false), enemy_create("sample=0", 1, true),
			     enemy_create("interpret", 1, true)};
	struct kvm_pit_config pit = {.flags = KVM_PIT_SPEAKER_DUMMY};

	for (unsigned i = 1; i < ARRAY_SIZE(e); i++)
		softkvm_ioctl(e[i]->vm, KVM_CREATE_PIT2, &pit);
	alarms_arm();
	for (unsigned i = 0; i < ARRAY_SIZE(e); i++)
		attack(e[i], rounds, i > 0);
	return done_testing();
}

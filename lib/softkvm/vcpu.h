/* SPDX-License-Identifier: MIT */
/*
 * The state of one virtual CPU and of its VM, as every part of softkvm sees it.
 *
 * Three tenses of a vCPU:
 *  - outside KVM_RUN: all state is here, in `struct vcpu`. ioctls read and write it.
 *  - in KVM_RUN, in C: general registers, rip and rflags are here. The guest's vector, x87 and
 *    MXCSR state is LIVE in the host's registers. So all C that runs here is compiled
 *    -mgeneral-regs-only and calls nothing of libc (memcpy uses AVX); system calls go through
 *    os/syscall.h, locks through os/lock.h, bytes through os/bytes.h. Who must call libc
 *    brackets it with vec_save() and vec_load() (state/vector.h).
 *  - in translated code: general registers and arithmetic flags are in host registers, too.
 *
 * Only the thread that runs KVM_RUN touches the fields, but for those marked atomic. Other
 * threads talk to it by setting bits in `requests` and calling vcpu_kick().
 *
 * Convention for everything that executes guest instructions: functions return `enum step`.
 */
#ifndef SOFTKVM_VCPU_H
#define SOFTKVM_VCPU_H

#include <linux/kvm.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "x86/decode.h"
#include "x86/feature.h"

/* What became of an attempt to execute (a part of) a guest instruction. */
enum step {
	STEP_OK = 0,  /* done; rip and registers are those after the instruction */
	STEP_FAULT,   /* c->fault holds an exception; architectural state is as before the
		       * instruction (but accessed and dirty bits, and done iterations of REP) */
	STEP_EXIT,    /* c->run is filled for the client; the instruction starts again when the
		       * client comes back (see io.h for accesses that were already made) */
	STEP_EFAULT,  /* the client's memory behind a slot cannot be accessed (mmu/guarded.h): KVM_RUN
		       * returns -EFAULT; otherwise like STEP_EXIT */
	STEP_AGAIN,   /* nothing done: look at c->requests, then execute the same rip again */
	STEP_HALT,    /* HLT done: rip is after it, sleep until an event */
	STEP_TRIPLE,  /* triple fault: shutdown */
	STEP_INTERPRET, /* the translator's word to the run loop: not my code, interpret */
};

struct fault {
	uint8_t vector;
	bool has_code;
	uint32_t code;
	uint64_t cr2;  /* for #PF */
	uint64_t dr6;  /* for #DB: bits to set in DR6 */
};

/* Bits of vcpu.requests; set by anybody, cleared by the vCPU's thread. */
#define REQ_EVENT     0x001u /* an interrupt may be pending: look at the irqchip */
#define REQ_EXIT      0x002u /* KVM_RUN must return -EINTR (a signal arrived) */
#define REQ_TIMER     0x004u /* a deadline passed, or must be computed anew */
#define REQ_TLB_FLUSH 0x008u /* drop all translations (memory slots changed, dirty log armed) */
#define REQ_CODE      0x010u /* look at the queue of invalidated code pages */
#define REQ_MMU_SYNC  0x020u /* another vCPU waits for this one to drop writable entries */
#define REQ_INIT      0x040u /* INIT signal */
#define REQ_SIPI      0x080u /* SIPI, vector in vcpu.sipi_vector */
#define REQ_NMI       0x100u /* vcpu.nmis_arrived says how many */
#define REQ_CLOCK     0x200u /* update kvmclock's page */

/* CR and EFER bits, RFLAGS bits: the manuals' names. */
#define CR0_PE 0x1ull
#define CR0_MP 0x2ull
#define CR0_EM 0x4ull
#define CR0_TS 0x8ull
#define CR0_ET 0x10ull
#define CR0_NE 0x20ull
#define CR0_WP 0x10000ull
#define CR0_AM 0x40000ull
#define CR0_NW 0x20000000ull
#define CR0_CD 0x40000000ull
#define CR0_PG 0x80000000ull
#define CR4_VME 0x1ull
#define CR4_PVI 0x2ull
#define CR4_TSD 0x4ull
#define CR4_DE 0x8ull
#define CR4_PSE 0x10ull
#define CR4_PAE 0x20ull
#define CR4_MCE 0x40ull
#define CR4_PGE 0x80ull
#define CR4_PCE 0x100ull
#define CR4_OSFXSR 0x200ull
#define CR4_OSXMMEXCPT 0x400ull
#define CR4_UMIP 0x800ull
#define CR4_FSGSBASE 0x10000ull
#define CR4_PCIDE 0x20000ull
#define CR4_OSXSAVE 0x40000ull
#define CR4_SMEP 0x100000ull
#define CR4_SMAP 0x200000ull
#define EFER_SCE 0x1ull
#define EFER_LME 0x100ull
#define EFER_LMA 0x400ull
#define EFER_NX 0x800ull
#define RFLAGS_FIXED 0x2ull
#define RFLAGS_TF 0x100ull
#define RFLAGS_IF 0x200ull
#define RFLAGS_DF 0x400ull
#define RFLAGS_IOPL 0x3000ull
#define RFLAGS_NT 0x4000ull
#define RFLAGS_RF 0x10000ull
#define RFLAGS_VM 0x20000ull
#define RFLAGS_AC 0x40000ull
#define RFLAGS_VIF 0x80000ull
#define RFLAGS_VIP 0x100000ull
#define RFLAGS_ID 0x200000ull
#define RFLAGS_ALL 0x3f7fd7ull

/* Exception vectors. */
enum { X86_DE = 0, X86_DB = 1, X86_NMI = 2, X86_BP = 3, X86_OFV = 4, X86_BR = 5, X86_UDV = 6,
       X86_NM = 7, X86_DF = 8, X86_TS = 10, X86_NP = 11, X86_SSV = 12, X86_GP = 13, X86_PFV = 14,
       X86_MF = 16, X86_AC = 17, X86_MC = 18, X86_XM = 19 };

#define VCPU_XSAVE_MAX 4096
#define GROUPS 4 /* of accesses, under way at once: translate/group.c */

/* A struct vcpu lies at this place in 64 KiB, so that the low 16 bits of host RSP in translated
 * code are what BEXTR wants (translate/emit.h). */
#define VCPU_AT 0x2400u

/* Accesses that the instruction under way has already made to devices; see io.h. */
#define IO_LOG_MAX 32
struct io_log {
	struct io_entry {
		uint64_t addr;
		uint64_t data;
		uint8_t len;
		bool write, port;
		bool msr;        /* that the client answers for: addr is its number */
		bool error;      /* it has refused */
		uint16_t count;  /* of a port's accesses that the client makes at once */
	} entry[IO_LOG_MAX];
	uint8_t n;       /* accesses done */
	uint8_t at;      /* the next one when the instruction runs again */
	bool waiting;    /* entry[n] was given to the client and is not complete */
	bool delivery;   /* they are those of an event's delivery, not of an instruction */
	uint64_t rip;    /* of the instruction */
};

struct vcpu_msrs {
	uint64_t star, lstar, cstar, sfmask, kernel_gs_base, tsc_aux;
	uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
	uint64_t pat, misc_enable, tsc_adjust, spec_ctrl, xss;
	uint64_t mtrr_def, mtrr_fixed[11], mtrr_base[8], mtrr_mask[8];
	uint64_t mcg_cap, mcg_status, mcg_ctl, mc_bank[32 * 4];
	uint64_t kvm_wall_clock, kvm_system_time, kvm_async_pf, kvm_steal_time, kvm_pv_eoi,
		kvm_poll_control;
	uint64_t platform_info, feature_control, ucode_rev, arch_caps, misc_features,
		debug_ctl, hwcr, de_cfg, nb_cfg, power_ctl;
};

/* Events in the KVM API's sense (struct kvm_vcpu_events). */
struct vcpu_events {
	bool exception;          /* an exception waits to be delivered: `fault` below */
	struct fault fault;
	bool interrupt;          /* injected by the client (KVM_INTERRUPT or SET_VCPU_EVENTS) */
	bool interrupt_soft;
	uint8_t interrupt_vector;
	uint8_t nmi_pending;     /* how many: 2 while none is being served, else 1 at most */
	bool nmi_masked;
	uint8_t shadow;          /* KVM_X86_SHADOW_INT_STI | KVM_X86_SHADOW_INT_MOV_SS: holds for
				  * one more instruction */
	uint8_t watch_hits;      /* DR0..DR3 that the instruction under way has hit */
	bool no_trap;            /* the instruction entered a handler: TF no longer counts */
	bool keep_rf;            /* between two iterations of REP: RF stays for the next one */
	bool tpr_lowered;        /* to be told to a client that has the local APIC */
	bool extint;             /* the client, which has the PIC, has this vector for LINT0 */
	uint8_t extint_vector;
	uint8_t eois;            /* how many bits of the next: to be told to a client that has the IOAPIC */
	uint32_t eoi[8];         /* a bit for each vector */
	bool window;             /* somebody waits for interrupts to be open (event_opened()) */
};

/* What the client debugs (KVM_SET_GUEST_DEBUG). The guest's own debug registers are of no effect while the client has
 * breakpoints in the processor's; they are kept. */
struct vcpu_debug {
	uint32_t control;    /* KVM_GUESTDBG_*, 0 without KVM_GUESTDBG_ENABLE */
	uint64_t dr[4], dr7; /* with KVM_GUESTDBG_USE_HW_BP */
	uint64_t bp_rip;     /* the INT3 that was last told, which the client may give back to the guest; */
	uint8_t bp_len;      /* 0: none */
};

struct vm;
struct lapic;
struct engine; /* what the engine makes of it: code cache, tables (engine.h) */

struct vcpu {
	/* -- what translated code addresses; keep first: it reaches gpr[11] with short offsets
	 * from host RSP, which points into stack_top (translate/emit.h) -- */
	uint64_t stack_top[2];
	uint64_t rip_page;       /* translator: linear address of the page being executed */
	_Atomic uint32_t requests;
	uint8_t cpl;
	uint16_t arith;          /* translator: arithmetic flags, AH of LAHF above AL of SETO */
	uint64_t table;          /* translator: an eighth of the address of the current view's table */
	uint64_t temp;           /* translator: inside one instruction */
	uint64_t gpr[16];        /* by enum x86_reg */
	uint64_t rip;
	uint64_t rflags;         /* complete */
	uint64_t scratch[16];    /* translator */
	uint64_t parked[GROUPS]; /* translator: host addresses of groups (group.c) */
	struct kvm_segment seg[6]; /* by enum x86_seg; base is valid also in 64-bit mode (FS, GS) */

	/* -- the rest of the architecture -- */
	struct kvm_segment tr, ldt;
	struct kvm_dtable gdt, idt;
	uint64_t cr0, cr2, cr3, cr4, efer, xcr0, apic_base;
	uint64_t dr[4], dr6, dr7;
	struct vcpu_msrs msr;
	uint64_t tsc_offset;     /* guest TSC = host TSC + this */
	uint32_t tsc_khz;
	struct vcpu_events event;
	struct vcpu_debug debug;
	uint32_t mp_state;       /* KVM_MP_STATE_*; atomic where another vCPU reads it */
	uint8_t sipi_vector;
	_Atomic uint32_t nmis_arrived; /* since REQ_NMI was last served */

	/* -- execution -- */
	struct fault fault;      /* valid after STEP_FAULT */
	struct io_log io;
	struct {
		struct slot *slot; /* NULL: none */
		uint64_t gpa;
		unsigned len;
	} stored;                /* RAM given out for stores and not yet told, mmu_stored() */
	struct kvm_run *run;     /* shared with the client */
	struct vm *vm;
	void *abi;               /* abi/'s own */
	uint32_t id;             /* the client's name for it, also the initial APIC id; sparse */
	unsigned place;          /* in vm.vcpu, below VCPUS_MAX: whatever there is one of for each
				  * vCPU of a VM goes by this */
	struct lapic *lapic;     /* NULL without an in-kernel irqchip */
	struct engine *engine;
	_Atomic uint32_t wake;   /* futex word of a halted vCPU; bumped by vcpu_kick() */
	_Atomic bool in_guest;   /* in KVM_RUN (may hold translations) */
	uint8_t *arena;          /* reserved address space before this struct, for */
	uint64_t arena_len;      /* engine_create(): code within reach of the struct */

	/* -- CPUID as the client set it -- */
	struct kvm_cpuid_entry2 cpuid[128];
	int n_cpuid;
	struct cpu_set features; /* of that list; none that would be the host's and is not */
	uint8_t max_phys_bits;   /* 36..52, from leaf 0x80000008 */
	bool amd;                /* the vendor is AMD or Hygon: SYSCALL in compatibility mode,
				  * no SYSENTER in long mode, ... */
	uint64_t cr4_allowed, efer_allowed, xcr0_allowed; /* bits that the guest may set */
	uint32_t isa_lacking;    /* 1 << enum x86_isa: offered, but the client left it out: #UD */
	uint64_t clock_page;     /* guest-physical address of its kvmclock page, 0: none */
	uint64_t mtrr_cap;
	bool clock_paused;       /* tell the guest that it was stopped */

	uint64_t given_up;       /* how often it gave up where a page is (smc.c): pointers to guest memory from
				  * before may lead to what the page was */

	/* -- counters (lodge stats): see stats.def -- */
	struct vcpu_stats {
#define STAT(name, text) uint64_t name;
#include "softkvm/stats.def"
#undef STAT
	} stat;

	/* -- vector state while not live; XSAVE standard format -- */
	uint8_t xsave[VCPU_XSAVE_MAX] __attribute__((aligned(64)));
	uint8_t host_fp[16] __attribute__((aligned(16))); /* the client's MXCSR and x87 CW */
	/* where XSAVE, FXSAVE, ... of the guest work when their area is not in one piece */
	uint8_t area[VCPU_XSAVE_MAX] __attribute__((aligned(64)));
};

/* -- memory slots ------------------------------------------------------------------------ */

#define LAYERS_MAX 31
#define LAYER_MOVING 0x80u

/* Pages of a slot that have their content elsewhere until they are written (mmu/layer.c). */
struct slot_layers {
	_Atomic uint8_t *page; /* one a page: 0: in the slot's own memory; n: in base[n] */
	const uint8_t *base[LAYERS_MAX + 1]; /* of the slot's size, PROT_READ, their addresses have SLOT_VIEW_RO;
					      * from 1 */
	unsigned n;
};

#define SLOT_VIEW_RO (1ull << SLOT_VIEW_RO_BIT) /* in an address of guest memory: it may only be read */
#define SLOT_VIEW_RO_BIT 42

struct slot {
	uint64_t gpa, size;      /* bytes; size 0: unused */
	uint8_t *hva;            /* the client's mapping */
	uint8_t *rw;             /* a view of it at a place of our choice (state/slots.h): all that
				  * the engine does to guest memory goes through it or ro */
	uint8_t *ro;             /* a second view of the same memory, PROT_READ; equal to hva
				  * where none could be had */
	uint32_t flags;          /* KVM_MEM_* */
	uint32_t id;
	_Atomic uint64_t *dirty; /* bitmap, with KVM_MEM_LOG_DIRTY_PAGES */
	struct page_note *note;  /* one a page, sparse */
	struct slot_layers *layers; /* NULL: all of it is its own */
};

/* What the engine remembers of a guest-physical page. */
struct page_note {
	_Atomic uint32_t writers; /* vCPUs (vcpu_bit()) that may hold a writable entry */
	_Atomic uint32_t code;    /* vCPUs that may hold translations of it */
	uint64_t entry[2];        /* of `owner`: the writable entries that it has, one of supervisor
				   * and one of user views (tlb.c); nobody else touches this and the
				   * next */
	bool many;                /* it may have more */
	_Atomic uint32_t owner;   /* the first vCPU that wrote, its bit; 0: none yet */
};

#define SLOTS_MAX 128
#define VCPUS_MAX 32 /* one more is -EINVAL, as KVM has it */

struct irqchip;

/* The slots of a VM at one time, by address. Never changed once published: a change makes a new
 * table, and the old one (with slots that are gone) is freed when every vCPU has given up what
 * it derived from it, see slots_changed(). So a vCPU's thread may keep a struct slot * until it
 * looks at its requests. */
struct slot_table {
	unsigned n;
	struct slot *slot[SLOTS_MAX];
};

struct vm {
	struct slot_table *_Atomic slots; /* never NULL */
	struct vcpu *vcpu[VCPUS_MAX];  /* in the order of creation; they stay while the VM lives */
	_Atomic int n_vcpus;
	uint32_t boot_cpu_id;    /* the vCPU id of the bootstrap processor */
	struct irqchip *irqchip; /* NULL without KVM_CREATE_IRQCHIP */
	struct ioeventfds *ioeventfds;
	uint32_t msr_exits;      /* KVM_CAP_X86_USER_SPACE_MSR: KVM_MSR_EXIT_REASON_* */
	struct msr_filter *_Atomic msr_filter; /* KVM_X86_SET_MSR_FILTER; NULL: all are allowed */
	uint32_t x2apic_api;     /* KVM_CAP_X2APIC_API: KVM_X2APIC_API_* */
	_Atomic uint32_t clock_seq; /* odd while the two below change */
	uint64_t clock_ns, clock_tsc; /* the VM's clock was clock_ns when the host's TSC was
				       * clock_tsc (state/clock.h) */
	uint64_t tsc_offset;     /* of a new vCPU; those whose TSCs are in step have it */
	bool tsc_is_said;        /* by the client, some time */
	uint32_t tsc_khz;
	uint64_t host_tsc_khz;
	void *abi;               /* abi/'s own */
};

/* An NMI arrives: before REQ_NMI is set. Two that come together are two. Any thread. */
static inline void vcpu_nmi_arrives(struct vcpu *c)
{
	atomic_fetch_add_explicit(&c->nmis_arrived, 1, memory_order_relaxed);
}

/* This vCPU in a set of vCPUs, as page_note has them. */
static inline uint32_t vcpu_bit(const struct vcpu *c)
{
	_Static_assert(VCPUS_MAX <= 32, "a bit for each");
	return 1u << c->place;
}

/* The slot that holds gpa, or NULL. Lock-free; the vCPU's thread. */
struct slot *vm_slot(struct vm *vm, uint64_t gpa);

static inline enum step fault_set(struct vcpu *c, uint8_t vector)
{
	c->fault = (struct fault){.vector = vector};
	return STEP_FAULT;
}

static inline enum step fault_code(struct vcpu *c, uint8_t vector, uint32_t code)
{
	c->fault = (struct fault){.vector = vector, .has_code = true, .code = code};
	return STEP_FAULT;
}

static inline bool is_long_mode(const struct vcpu *c)
{
	return c->efer & EFER_LMA;
}

static inline bool is_64bit_code(const struct vcpu *c)
{
	return (c->efer & EFER_LMA) && c->seg[X86_CS].l;
}

static inline bool is_protected(const struct vcpu *c)
{
	return c->cr0 & CR0_PE;
}

static inline bool is_vm86(const struct vcpu *c)
{
	return c->rflags & RFLAGS_VM;
}

static inline enum x86_mode code_mode(const struct vcpu *c)
{
	if (is_64bit_code(c))
		return X86_MODE_64;
	return c->seg[X86_CS].db ? X86_MODE_32 : X86_MODE_16;
}

static inline bool is_canonical(uint64_t va)
{
	return (uint64_t)((int64_t)(va << 16) >> 16) == va;
}

#endif

/* SPDX-License-Identifier: MIT */
/*
 * What the files of irqchip/ share: the chips' state, and how they call each other.
 *
 *	   device (ioctl, irqfd)                      another vCPU (ICR)
 *	         | GSI                                      |
 *	     routing.c ----- MSI ------------------.        |
 *	      |     |                              v        v
 *	   pic.c   ioapic.c -- interrupt message --> apic_bus.c
 *	      |                                        | IRR bit, kick
 *	      `-- INTR line -----> lapic.c <-----------'
 *	                           irqchip_pending(), irqchip_ack()
 *
 * Locks: pit.lock before routing.lock, pic.lock and ioapic.lock, and those never
 * together: routing is copied out under its lock before anything is delivered. A local
 * APIC has no lock: other threads set IRR, TMR and error bits atomically and read the
 * few registers that decide about acceptance; all else is done by the vCPU's own
 * thread.
 */
#ifndef IRQCHIP_INTERNAL_H
#define IRQCHIP_INTERNAL_H

#include "softkvm/hooks.h"
#include "softkvm/irqchip/irqchip.h"
#include "softkvm/os/lock.h"

#include <errno.h>
#include <stddef.h>

/* -- local APIC ---------------------------------------------------------------------------- */

/* Registers by number: MMIO offset / 16, x2APIC MSR - 0x800. */
enum {
	LAPIC_ID = 0x02,
	LAPIC_VERSION = 0x03,
	LAPIC_TPR = 0x08,
	LAPIC_APR = 0x09,
	LAPIC_PPR = 0x0a,
	LAPIC_EOI = 0x0b,
	LAPIC_LDR = 0x0d,
	LAPIC_DFR = 0x0e,
	LAPIC_SVR = 0x0f,
	LAPIC_ISR = 0x10,
	LAPIC_TMR = 0x18,
	LAPIC_IRR = 0x20,
	LAPIC_ESR = 0x28,
	LAPIC_ICR = 0x30,
	LAPIC_ICR2 = 0x31,
	LAPIC_LVT_TIMER = 0x32,
	LAPIC_LVT_THERMAL = 0x33,
	LAPIC_LVT_PERF = 0x34,
	LAPIC_LVT_LINT0 = 0x35,
	LAPIC_LVT_LINT1 = 0x36,
	LAPIC_LVT_ERROR = 0x37,
	LAPIC_TIMER_INITIAL = 0x38,
	LAPIC_TIMER_CURRENT = 0x39,
	LAPIC_TIMER_DIVIDE = 0x3e,
	LAPIC_SELF_IPI = 0x3f,
	LAPIC_REGS = 0x40,
};

#define MSR_APIC_BASE    0x1bu
#define MSR_TSC_DEADLINE 0x6e0u
#define MSR_X2APIC       0x800u

#define APIC_BASE_BSP    0x100ull
#define APIC_BASE_X2APIC 0x400ull
#define APIC_BASE_ENABLE 0x800ull
#define APIC_BASE_ADDR   0xfee00000ull

#define SVR_ENABLE         0x100u
#define LVT_MASKED         0x10000u
#define LVT_MODE           0x700u
#define LVT_TIMER_MODE     0x60000u
#define LVT_TIMER_PERIODIC 0x20000u
#define LVT_TIMER_DEADLINE 0x40000u
#define DFR_FLAT           0xffffffffu

/* Bits of ESR. */
#define ESR_SEND_VECTOR    0x20u
#define ESR_RECEIVE_VECTOR 0x40u
#define ESR_REGISTER       0x80u

/* Delivery modes, as in the ICR, LVTs, redirection entries and MSI data. */
enum apic_mode {
	APIC_FIXED = 0,
	APIC_LOWEST = 1,
	APIC_SMI = 2,
	APIC_REMOTE_READ = 3,
	APIC_NMI = 4,
	APIC_INIT = 5,
	APIC_STARTUP = 6,
	APIC_EXTINT = 7,
};

struct lapic_timer {
	uint64_t deadline;     /* ns when the count reaches zero; NEVER: stopped */
	uint64_t period;       /* ns of the whole initial count */
	uint64_t tsc_deadline; /* in guest TSC; 0: not armed */
};
#define NEVER UINT64_MAX

struct lapic {
	_Atomic uint32_t reg[LAPIC_REGS];
	_Atomic uint32_t irr_hint;    /* 0: IRR is empty for sure */
	_Atomic uint32_t errors;      /* for ESR, since it was last written */
	_Atomic uint32_t arbitration; /* lowest-priority messages taken */
	struct lapic_timer timer;
};

static inline uint32_t lapic_reg(struct lapic *l, unsigned reg)
{
	return atomic_load_explicit(&l->reg[reg], memory_order_relaxed);
}

static inline void lapic_put(struct lapic *l, unsigned reg, uint32_t value)
{
	atomic_store_explicit(&l->reg[reg], value, memory_order_relaxed);
}

/* For each vCPU: n is the number of them, and the i-th has a local APIC or is NULL
 * here. They only ever become more. */
static inline int irqchip_n_vcpus(struct vm *vm)
{
	return atomic_load_explicit(&vm->n_vcpus, memory_order_acquire);
}

static inline struct vcpu *irqchip_vcpu(struct vm *vm, int i)
{
	struct vcpu *c = __atomic_load_n(&vm->vcpu[i], __ATOMIC_ACQUIRE);

	return c && __atomic_load_n(&c->lapic, __ATOMIC_ACQUIRE) ? c : NULL;
}

static inline uint64_t lapic_base(const struct vcpu *c)
{
	return __atomic_load_n(&c->apic_base, __ATOMIC_RELAXED);
}

static inline bool lapic_hw_enabled(const struct vcpu *c)
{
	return lapic_base(c) & APIC_BASE_ENABLE;
}

static inline bool lapic_is_x2apic(const struct vcpu *c)
{
	return (lapic_base(c) & (APIC_BASE_ENABLE | APIC_BASE_X2APIC)) ==
	       (APIC_BASE_ENABLE | APIC_BASE_X2APIC);
}

/* In the vCPU's own thread: look at the requests before the next instruction. */
static inline void request_self(struct vcpu *c, uint32_t bits)
{
	atomic_fetch_or_explicit(&c->requests, bits, memory_order_relaxed);
}

/* lapic.c */
/* Any thread: a fixed interrupt arrives. 1, or 0 if that vector was pending already. */
int lapic_post(struct vcpu *c, uint8_t vector, bool level, bool self);
/* What a local source does (timer, LINT pin, error); the vCPU's thread. */
void lapic_lvt_deliver(struct vcpu *c, unsigned lvt);
/* irqchip.c; the vCPU's thread: to a client that has the IOAPIC. */
void lapic_tell_eoi(struct vcpu *c, uint8_t vector);
/* Any thread: does the INTR line of the PIC reach this processor as ExtINT? */
bool lapic_takes_extint(struct vcpu *c);
/* Any thread: the PIC's INTR line rises. */
void lapic_lint0_rose(struct vcpu *c);
void lapic_error(struct vcpu *c, uint32_t bit, bool self);
void lapic_update_ppr(struct lapic *l);
uint32_t lapic_x2apic_ldr(uint32_t id);
/* lapic_timer.c; the vCPU's thread */
void lapic_timer_stop(struct lapic *l);
void lapic_timer_start(struct vcpu *c, uint32_t initial);
void lapic_timer_lvt(struct vcpu *c, uint32_t value);
void lapic_timer_divide(struct vcpu *c, uint32_t value);
uint32_t lapic_timer_current(struct vcpu *c);
uint64_t lapic_timer_tsc(struct vcpu *c);
void lapic_timer_set_tsc(struct vcpu *c, uint64_t value);
void lapic_timer_restore(struct vcpu *c, uint32_t current);
void lapic_timer_expire(struct vcpu *c, uint64_t now);
uint64_t lapic_timer_deadline(struct vcpu *c);

/* -- messages between APICs (apic_bus.c) --------------------------------------------------- */

struct apic_msg {
	uint32_t dest;
	uint8_t vector;
	enum apic_mode mode;
	bool logical;
	bool level;    /* level-triggered: the EOI goes back to the IOAPIC */
	bool deassert; /* INIT level de-assert */
	bool ipi;      /* from an ICR: dest 0xff is not a broadcast to x2APICs */
};

/* How many accepted it as new (0: coalesced), or -1: nobody. `self` is the vCPU whose
 * thread this is, or NULL. */
int apic_send(struct vm *vm, struct vcpu *self, const struct apic_msg *msg);
/* The ICR was written. */
void apic_send_icr(struct vcpu *c, uint32_t low, uint32_t dest);
bool apic_matches(struct vcpu *c, uint32_t dest, bool logical, bool broadcast_ff);

/* -- PIC ----------------------------------------------------------------------------------- */

struct pic {
	struct lock lock;
	_Atomic bool output;          /* INTR */
	struct kvm_pic_state chip[2]; /* the ABI's picture of the chip is complete */
	uint8_t sources[16]; /* per pin, a bit for each source that holds it up */
};

/* All but the reset take the chip's lock. */
void pic_reset(struct pic *pic);
/* 1 taken, 0 was pending already, -1 masked. */
int pic_set_line(struct vm *vm, unsigned irq, int source, bool level);
int pic_peek(struct vm *vm);
int pic_ack(struct vm *vm);
bool pic_port(struct vm *vm, uint16_t port, uint64_t *data, unsigned len, bool write);
int pic_get(struct vm *vm, unsigned n, struct kvm_pic_state *state);
int pic_set(struct vm *vm, unsigned n, const struct kvm_pic_state *state);

/* -- IOAPIC -------------------------------------------------------------------------------- */

#define IOAPIC_PINS 24
#define IOAPIC_ADDR 0xfec00000ull

struct ioapic {
	struct lock lock;
	uint32_t select;
	uint32_t id;
	uint32_t irr; /* level pins: the line; edge pins: seen, until it falls */
	uint64_t entry[IOAPIC_PINS];
	uint8_t sources[IOAPIC_PINS]; /* a bit for each source that holds the pin up */
};

/* All but the reset take the chip's lock. Lines: as pic_set_line(). */
void ioapic_reset(struct ioapic *io);
int ioapic_set_line(struct vm *vm, struct vcpu *self, unsigned pin, int source,
		    bool level);
void ioapic_eoi(struct vcpu *c, uint8_t vector);
bool ioapic_memory(struct vcpu *c, uint64_t gpa, uint64_t *data, unsigned len,
		   bool write);
int ioapic_get(struct vm *vm, struct kvm_ioapic_state *state);
int ioapic_set(struct vm *vm, const struct kvm_ioapic_state *state);

/* -- PIT ----------------------------------------------------------------------------------- */

struct pit {
	struct lock lock;
	bool present;
	bool port61;     /* KVM_PIT_SPEAKER_DUMMY: the speaker port is here, too */
	bool speaker_on; /* bit 1 of port 0x61 */
	bool discard;    /* KVM_REINJECT_CONTROL: drop ticks the guest missed */
	uint32_t flags;  /* KVM_PIT_FLAGS_* */
	struct kvm_pit_channel_state channel[3];
	uint64_t next;             /* ns: channel 0's next rising edge; NEVER */
	uint64_t period;           /* ns; 0: one-shot */
	uint32_t backlog;          /* edges that the guest has not seen yet */
	_Atomic uint64_t deadline; /* ns: when pit_expire() has something to do */
};

/* All but the reset take the chip's lock; pit_expire() raises GSI 0 under it. */
void pit_reset(struct pit *pit);
bool pit_port(struct vcpu *c, uint16_t port, uint64_t *data, unsigned len, bool write);
void pit_expire(struct vcpu *c, uint64_t now);

/* -- routing ------------------------------------------------------------------------------- */

#define ROUTES_MAX     4096
#define ROUTES_PER_GSI 3

enum route_kind { ROUTE_PIC, ROUTE_IOAPIC, ROUTE_MSI };

/* One way that a GSI takes. */
struct route {
	enum route_kind kind;
	uint8_t pin; /* PIC: 0..15 */
	struct apic_msg msg;
};

struct routing {
	struct gsi_routes {
		uint8_t n;
		struct route route[ROUTES_PER_GSI];
	} * gsi;
	uint32_t n_gsi;
};

/* Who drives a line; a pin is up while any of them holds it up. */
enum { SOURCE_USER = 0, SOURCE_IRQFD = 1, SOURCE_PIT = 2, SOURCE_RESAMPLE = 3 };

/* irqchip_line() from a vCPU's thread. */
int routing_line(struct vm *vm, struct vcpu *self, uint32_t gsi, bool level,
		 int source);
struct apic_msg msi_parse(uint64_t addr, uint32_t data, bool ext_dest);
int routing_build(struct routing *r, const struct kvm_irq_routing_entry *entries,
		  uint32_t n, bool ext_dest, bool split);
void routing_default(struct routing *r);
/* Is a pin of the client's IOAPIC set to send this vector, as a level? */
bool routing_is_level(struct vm *vm, uint8_t vector);
/* The first GSI that feeds a pin, or -1. */
int routing_find_gsi(struct vm *vm, enum route_kind kind, unsigned pin);

/* -- irqfd --------------------------------------------------------------------------------- */

/* irqfd.c (libc): stops the thread, closes the descriptors. */
void irqfd_destroy(struct vm *vm);
/* resample.c: the guest acknowledged these pins, a bit each. */
void resample_acked(struct vm *vm, struct vcpu *self, enum route_kind kind,
		    uint32_t pins);

struct resample {
	uint32_t gsi;
	int fd; /* the engine's duplicate of the client's eventfd */
	struct resample *next;
};

/* -- all of it ----------------------------------------------------------------------------- */

struct irqchip {
	bool split;           /* PIC, IOAPIC and PIT are the client's */
	uint32_t user_pins;   /* then: so many GSIs, from 0, are pins of its IOAPICs */
	struct pic pic;
	struct ioapic ioapic;
	struct pit pit;
	struct lock routing_lock;
	struct routing *routing;
	_Atomic bool has_resample;
	struct lock resample_lock;
	struct resample *resample;
	struct irqfds *irqfds;
};

#endif

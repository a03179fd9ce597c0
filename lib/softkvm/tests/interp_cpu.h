/* SPDX-License-Identifier: MIT */
/*
 * cpu.h's vCPU for tests of the interpreter: code bytes are put at CS:rip and stepped, device
 * accesses go through the real mmu/io.c, up to the client that the test plays. What runs
 * natively is not here: native_exec() counts its calls and does nothing.
 *
 *	cpu_long(c, 0);
 *	is_int(step(c, "\x50"), STEP_OK, "push rax");
 */
#ifndef SOFTKVM_TESTS_INTERP_CPU_H
#define SOFTKVM_TESTS_INTERP_CPU_H

#define CPU_WITH_ENGINE
#include "softkvm/tests/cpu.h"

#include "softkvm/mmu/io.h"
#include "softkvm/mmu/tlb.h"
#include "softkvm/os/current.h"
#include "softkvm/run/run.h"

static unsigned natives, changes;

static enum step (*native_hook)(struct vcpu *c, const struct insn *in, void *mem);

enum step native_exec(struct vcpu *c, const struct insn *in, const uint8_t *bytes, void *mem)
{
	(void)bytes;
	natives++;
	return native_hook ? native_hook(c, in, mem) : STEP_OK;
}

/* Those have tests of their own. */
enum step system_insn(struct vcpu *c, const struct insn *in, uint64_t next)
{
	(void)in;
	c->rip = next;
	return STEP_HALT;
}

void mmu_mode_changed(struct vcpu *c) { (void)c; }

static unsigned watched;

void event_watch(struct vcpu *c, uint64_t lin, unsigned len, bool write)
{
	(void)c, (void)lin, (void)len, (void)write;
	watched++;
}

__thread struct vcpu *current_vcpu;

void view_touch_new(struct engine *e, struct view *v, uint64_t vpn)
{
	(void)e;
	(void)v;
	(void)vpn;
}

void tlb_select(struct vcpu *c) { (void)c; }
void sync_turn(struct vcpu *c, unsigned turn) { (void)c, (void)turn; }

void sync_readers(struct vm *vm, struct vcpu *c, struct slot *slot, uint64_t gpa)
{
	(void)vm, (void)c, (void)slot, (void)gpa;
}

bool tlb_fill(struct vcpu *c, uint64_t lin, bool write, enum step *step)
{
	(void)c, (void)lin, (void)write, (void)step;
	return false;
}

const uint8_t *fetch_pointer(struct vcpu *c, uint64_t lin, enum step *step)
{
	(void)c, (void)lin, (void)step;
	return NULL;
}

void page_changed(struct vcpu *c, struct slot *slot, uint64_t gpa, unsigned len)
{
	(void)c, (void)slot, (void)gpa, (void)len;
	changes++;
}

/* No controllers; one port of theirs, 0x20, to see that it is asked first. */
static unsigned inner_ports, eventfds;

bool irqchip_port(struct vcpu *c, uint16_t port, uint64_t *data, unsigned len, bool write)
{
	(void)c, (void)len;
	if (port != 0x20)
		return false;
	inner_ports++;
	if (!write)
		*data = 0xa5;
	return true;
}

bool irqchip_memory(struct vcpu *c, uint64_t gpa, uint64_t *data, unsigned len, bool write)
{
	(void)c, (void)gpa, (void)data, (void)len, (void)write;
	return false;
}

bool ioeventfd_write(struct vm *vm, uint64_t addr, uint64_t data, unsigned len, bool port)
{
	(void)vm, (void)data, (void)len, (void)port;
	eventfds += addr == 0x500;
	return addr == 0x500;
}

bool lapic_claims(struct vcpu *c, uint64_t gpa) { (void)c, (void)gpa; return false; }

void lapic_mmio(struct vcpu *c, uint64_t gpa, uint64_t *data, unsigned len, bool write)
{
	(void)c, (void)gpa, (void)data, (void)len, (void)write;
}

/* The pages that the client shares with a vCPU. */
static inline struct vcpu *interp_cpu(void)
{
	static uint8_t shared[3 * 4096] __attribute__((aligned(4096)));
	struct vcpu *c = cpu_create();

	(void)cr3_kept;
	c->run = (struct kvm_run *)(void *)shared;
	c->vm->ioeventfds = (struct ioeventfds *)(void *)c->vm; /* only asked for being there */
	return c;
}

static inline void code_put(struct vcpu *c, const char *bytes, unsigned n)
{
	memcpy(ram + c->seg[X86_CS].base + c->rip, bytes, n);
}

#define step(c, bytes) (code_put(c, bytes, sizeof(bytes) - 1), interp_step(c))

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Accesses to devices, in the middle of instructions.
 *
 * The ABI lets an instruction stop at a device access (KVM_EXIT_IO, KVM_EXIT_MMIO), the client
 * do it, and KVM_RUN go on. softkvm does that by starting the instruction again from its first
 * byte: c->io remembers the accesses already made, a repeated one is answered from there, the
 * first new one goes to the device. An instruction that completes (or an iteration of REP)
 * calls io_commit().
 *
 * The delivery of an event accesses devices where the frame, or a table, is in one. It is an
 * "instruction" of its own, which event_inject() starts again.
 *
 * Order of attempts for a new access: local APIC page, in-kernel irqchip (ports of PIC and PIT,
 * IOAPIC page), ioeventfd, then the client.
 */
#ifndef SOFTKVM_IO_H
#define SOFTKVM_IO_H

#include "softkvm/vcpu.h"

/* len 1, 2, 4 (8 for memory); *data is little-endian in its low bytes. */
enum step io_port(struct vcpu *c, uint16_t port, uint64_t *data, unsigned len, bool write);
enum step io_memory(struct vcpu *c, uint64_t gpa, uint64_t *data, unsigned len, bool write);

/* *n accesses of `len` bytes to one port, a page of bytes at most, which the client makes in one exit; or fewer, and *n says how many they were. */
enum step io_port_string(struct vcpu *c, uint16_t port, void *bytes, unsigned len, unsigned *n, bool write);

/* An MSR that the client answers for, because of one of KVM_MSR_EXIT_REASON_*; #GP if it refuses. */
enum step io_msr(struct vcpu *c, uint32_t msr, uint64_t *data, bool write, uint32_t reason);

/* The instruction (or iteration) is complete: forget what it did. */
static inline void io_commit(struct vcpu *c)
{
	c->io.n = c->io.at = 0;
	c->io.delivery = false;
}

/* Starts an (or the same) instruction: repeated accesses come from the log again. */
static inline void io_begin(struct vcpu *c)
{
	c->io.at = 0;
	c->io.rip = c->rip;
}

/* KVM_RUN was called again: takes the client's answer from c->run into the log. */
void io_complete(struct vcpu *c);

#endif

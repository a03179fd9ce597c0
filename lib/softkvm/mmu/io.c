/* SPDX-License-Identifier: MIT */
/*
 * Device accesses of instructions, and how an instruction survives an exit to the client.
 *
 * An instruction with a device access runs perhaps several times, from its first byte:
 *
 *	add [mmio], eax     1st run: read -> not in the log -> to the client, STEP_EXIT
 *	                    2nd run: read -> log; write -> to the client, STEP_EXIT
 *	                    3rd run: read -> log; write -> log; done, io_commit()
 *
 * The log c->io holds entries 0..n-1, complete; `at` is the one that the current run comes to
 * next. While `waiting`, entry[n] is with the client, and io_complete() moves its answer in.
 * An access served inside (local APIC, PIC, eventfd...) is logged, too: it must not happen
 * again if a later access of the same instruction exits.
 *
 * If a run does not repeat what the log has (another CPU changed a pointer between, or the
 * client gave the vCPU other registers), the log ends there: accesses made cannot be unmade,
 * and hardware is as free to have made them. The data of a repeated write is not compared.
 *
 * A string instruction's accesses to a port are one entry, which has the first one's data; all of them are where the client puts them, and nobody
 * comes in between: as long as the log has an entry, KVM_RUN goes on with its instruction.
 *
 * An instruction with more accesses than the log holds (FXSAVE to a device) is given up as
 * KVM gives up what it cannot emulate.
 *
 * Source: the kernel's API document for KVM, section on struct kvm_run.
 */
#include "softkvm/mmu/io.h"

#include "softkvm/irqchip/irqchip.h"
#include "softkvm/os/bytes.h"

/* Where in the shared pages the data of port accesses is: the second one. */
#define PIO_DATA 4096u

static uint64_t low_bytes(uint64_t v, unsigned len)
{
	return len >= 8 ? v : v & ((1ull << len * 8) - 1);
}

/* The log's answer, if this access was already made. */
static bool replay(struct vcpu *c, const struct io_entry *want, uint64_t *data)
{
	struct io_log *log = &c->io;
	struct io_entry *e = &log->entry[log->at];

	if (log->at >= log->n)
		return false;
	if (e->addr != want->addr || e->len != want->len || e->write != want->write ||
	    e->port != want->port || e->msr != want->msr || e->count > want->count) {
		log->n = log->at;
		return false;
	}
	log->at++;
	if (!want->write)
		*data = e->data;
	return true;
}

static enum step give_up(struct vcpu *c)
{
	c->run->exit_reason = KVM_EXIT_INTERNAL_ERROR;
	c->run->internal.suberror = KVM_INTERNAL_ERROR_EMULATION;
	c->run->internal.ndata = 0;
	io_commit(c);
	return STEP_EXIT;
}

static bool serve_port(struct vcpu *c, struct io_entry *e)
{
	if (c->vm->irqchip &&
	    irqchip_port(c, (uint16_t)e->addr, &e->data, e->len, e->write))
		return true;
	return e->write && c->vm->ioeventfds &&
	       ioeventfd_write(c->vm, e->addr, e->data, e->len, true);
}

static bool serve_memory(struct vcpu *c, struct io_entry *e)
{
	if (c->lapic && lapic_claims(c, e->addr)) {
		lapic_mmio(c, e->addr, &e->data, e->len, e->write);
		return true;
	}
	if (c->vm->irqchip && irqchip_memory(c, e->addr, &e->data, e->len, e->write))
		return true;
	return e->write && c->vm->ioeventfds &&
	       ioeventfd_write(c->vm, e->addr, e->data, e->len, false);
}

static void exit_port(struct vcpu *c, const struct io_entry *e)
{
	struct kvm_run *run = c->run;

	run->exit_reason = KVM_EXIT_IO;
	run->io.direction = e->write ? KVM_EXIT_IO_OUT : KVM_EXIT_IO_IN;
	run->io.size = e->len;
	run->io.port = (uint16_t)e->addr;
	run->io.count = e->count;
	run->io.data_offset = PIO_DATA;
	bytes_store((uint8_t *)run + PIO_DATA, e->data, 8);
}

static void exit_memory(struct vcpu *c, const struct io_entry *e)
{
	struct kvm_run *run = c->run;

	run->exit_reason = KVM_EXIT_MMIO;
	run->mmio.phys_addr = e->addr;
	run->mmio.len = e->len;
	run->mmio.is_write = e->write;
	bytes_store(run->mmio.data, e->data, 8);
}

static void exit_msr(struct vcpu *c, const struct io_entry *e)
{
	struct kvm_run *run = c->run;

	run->exit_reason = e->write ? KVM_EXIT_X86_WRMSR : KVM_EXIT_X86_RDMSR;
	run->msr.error = 0;
	for (unsigned i = 0; i < sizeof(run->msr.pad); i++)
		run->msr.pad[i] = 0;
	run->msr.index = (uint32_t)e->addr;
	run->msr.data = e->data;
}

static bool serve(struct vcpu *c, struct io_entry *e)
{
	if (e->msr)
		return false;
	return e->port ? serve_port(c, e) : serve_memory(c, e);
}

static enum step access(struct vcpu *c, const struct io_entry *want, uint64_t *data)
{
	struct io_log *log = &c->io;
	struct io_entry *e;

	if (replay(c, want, data))
		return STEP_OK;
	if (log->n >= IO_LOG_MAX)
		return give_up(c);
	e = &log->entry[log->n];
	*e = *want;
	if (serve(c, e)) {
		e->count = 1;
		if (!e->write)
			*data = e->data = low_bytes(e->data, e->len);
		log->at = ++log->n;
		return STEP_OK;
	}
	if (e->msr)
		exit_msr(c, e);
	else if (e->port)
		exit_port(c, e);
	else
		exit_memory(c, e);
	log->waiting = true;
	return STEP_EXIT;
}

enum step io_port(struct vcpu *c, uint16_t port, uint64_t *data, unsigned len, bool write)
{
	struct io_entry want = {.addr = port, .len = (uint8_t)len, .write = write,
				.port = true, .count = 1, .data = write ? low_bytes(*data, len) : 0};

	return access(c, &want, data);
}

enum step io_port_string(struct vcpu *c, uint16_t port, void *bytes, unsigned len, unsigned *n, bool write)
{
	struct io_entry want = {.addr = port, .len = (uint8_t)len, .write = write, .port = true, .count = (uint16_t)*n};
	uint8_t *client = (uint8_t *)c->run + PIO_DATA;
	uint64_t data;
	enum step s;

	if (write)
		bytes_copy(&want.data, bytes, len);
	data = want.data;
	s = access(c, &want, &data);
	if (s == STEP_EXIT && write && c->io.waiting)
		bytes_copy(client, bytes, (unsigned long)*n * len);
	if (s != STEP_OK)
		return s;
	*n = c->io.entry[c->io.at - 1].count;
	if (!write)
		bytes_copy(bytes, *n > 1 ? client : (uint8_t *)&data, (unsigned long)*n * len);
	return STEP_OK;
}

enum step io_memory(struct vcpu *c, uint64_t gpa, uint64_t *data, unsigned len, bool write)
{
	struct io_entry want = {.addr = gpa, .len = (uint8_t)len, .write = write,
				.data = write ? low_bytes(*data, len) : 0};

	return access(c, &want, data);
}

enum step io_msr(struct vcpu *c, uint32_t msr, uint64_t *data, bool write, uint32_t reason)
{
	struct io_entry want = {.addr = msr, .len = 8, .write = write, .msr = true, .count = 1, .data = write ? *data : 0};
	enum step s = access(c, &want, data);

	if (s == STEP_OK)
		return c->io.entry[c->io.at - 1].error ? fault_code(c, X86_GP, 0) : STEP_OK;
	if (c->io.waiting)
		c->run->msr.reason = reason;
	return s;
}

void io_complete(struct vcpu *c)
{
	struct io_log *log = &c->io;
	struct io_entry *e = &log->entry[log->n];

	if (!log->waiting)
		return;
	log->waiting = false;
	if (c->rip != log->rip) { /* the client sent it elsewhere: nothing is to be finished */
		io_commit(c);
		return;
	}
	log->n++;
	e->error = e->msr && c->run->msr.error;
	if (e->write)
		return;
	if (e->msr) {
		e->data = c->run->msr.data;
		return;
	}
	if (e->port)
		e->data = bytes_load((uint8_t *)c->run + PIO_DATA, 8);
	else
		e->data = bytes_load(c->run->mmio.data, 8);
	e->data = low_bytes(e->data, e->len);
}

/* SPDX-License-Identifier: MIT */
/*
 * ioeventfd: a guest's store to a chosen address signals an eventfd, and that is all it
 * does.
 *
 * A store matches an entry if the address is its address, and its length is its length
 * (or the entry's length is 0: any), and its value is its datamatch (or it asked for
 * none). Device doorbells are such stores.
 *
 * Stores look entries up under a lock but signal after it, for a write to an eventfd
 * may wake somebody and take its time. An entry that is being signalled counts its
 * users, and whoever removes it waits for them before it closes the descriptor.
 * Source: the kernel's KVM API document, KVM_IOEVENTFD.
 */
#include "softkvm/irqchip/ioeventfd.h"

/* A value of `len` bytes; the rest of the register does not count. */
static uint64_t low_bytes(uint64_t value, unsigned len)
{
	return len >= 8 ? value : value & ((1ull << 8 * len) - 1);
}

static bool matches(const struct ioeventfd *e, uint64_t addr, uint64_t data,
		    unsigned len, bool port)
{
	if (e->addr != addr || e->port != port || (e->len && e->len != len))
		return false;
	return !e->has_match || low_bytes(data, len) == low_bytes(e->match, len);
}

static struct ioeventfd *get(struct ioeventfds *all, uint64_t addr, uint64_t data,
			     unsigned len, bool port)
{
	struct ioeventfd *e;

	lock_take(&all->lock);
	for (e = all->first; e; e = e->next)
		if (matches(e, addr, data, len, port))
			break;
	if (e)
		atomic_fetch_add(&e->users, 1);
	lock_drop(&all->lock);
	return e;
}

bool ioeventfd_write(struct vm *vm, uint64_t addr, uint64_t data, unsigned len,
		     bool port)
{
	struct ioeventfds *all = __atomic_load_n(&vm->ioeventfds, __ATOMIC_ACQUIRE);
	struct ioeventfd *e = all ? get(all, addr, data, len, port) : NULL;

	if (!e)
		return false;
	sys_eventfd_signal(e->fd);
	atomic_fetch_sub(&e->users, 1);
	return true;
}

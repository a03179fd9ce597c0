/* SPDX-License-Identifier: MIT */
/*
 * KVM_IOEVENTFD: changing the list that ioeventfd.c looks stores up in. In ioctls only,
 * so it may call libc.
 *
 * Two entries collide if one store could match both; the kernel refuses the second one,
 * and so do we. To remove an entry the client names all of it, the eventfd included.
 */
#include "softkvm/irqchip/eventfd.h"
#include "softkvm/irqchip/ioeventfd.h"

#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

static int check(const struct kvm_ioeventfd *args)
{
	const uint32_t known = KVM_IOEVENTFD_FLAG_DATAMATCH | KVM_IOEVENTFD_FLAG_PIO |
			       KVM_IOEVENTFD_FLAG_DEASSIGN;

	if (args->flags & ~known)
		return -EINVAL;
	switch (args->len) {
	case 0:
		if (args->flags & KVM_IOEVENTFD_FLAG_DATAMATCH)
			return -EINVAL;
		break;
	case 1:
	case 2:
	case 4:
	case 8: break;
	default: return -EINVAL;
	}
	return args->addr + args->len < args->addr ? -EINVAL : 0;
}

static bool collide(const struct ioeventfd *a, const struct ioeventfd *b)
{
	if (a->addr != b->addr || a->port != b->port)
		return false;
	if (a->len && b->len && a->len != b->len)
		return false;
	return !a->has_match || !b->has_match || a->match == b->match;
}

static bool equal(const struct ioeventfd *a, const struct ioeventfd *b)
{
	return a->addr == b->addr && a->port == b->port && a->len == b->len &&
	       a->identity == b->identity && a->has_match == b->has_match &&
	       (!a->has_match || a->match == b->match);
}

static int add(struct ioeventfds *all, const struct ioeventfd *wanted, int fd)
{
	struct ioeventfd *e = malloc(sizeof(*e));
	bool taken = false;

	if (!e)
		return -ENOMEM;
	*e = *wanted;
	e->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (e->fd < 0) {
		free(e);
		return -errno;
	}
	lock_take(&all->lock);
	for (struct ioeventfd *old = all->first; old; old = old->next)
		taken |= collide(old, e);
	if (!taken) {
		e->next = all->first;
		all->first = e;
	}
	lock_drop(&all->lock);
	if (taken) {
		close(e->fd);
		free(e);
		return -EEXIST;
	}
	return 0;
}

static struct ioeventfd *unlink_equal(struct ioeventfds *all,
				      const struct ioeventfd *wanted)
{
	struct ioeventfd *e = NULL;

	lock_take(&all->lock);
	for (struct ioeventfd **at = &all->first; *at; at = &(*at)->next)
		if (equal(*at, wanted)) {
			e = *at;
			*at = e->next;
			break;
		}
	lock_drop(&all->lock);
	return e;
}

static void end(struct ioeventfd *e)
{
	while (atomic_load(&e->users))
		sched_yield();
	close(e->fd);
	free(e);
}

/* The VM's list, made when it is first wanted. */
static struct ioeventfds *get(struct vm *vm)
{
	struct ioeventfds *all = __atomic_load_n(&vm->ioeventfds, __ATOMIC_ACQUIRE),
			  *new;

	if (all)
		return all;
	new = calloc(1, sizeof(*new));
	if (!new)
		return NULL;
	if (__atomic_compare_exchange_n(&vm->ioeventfds, &all, new, false,
					__ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
		return new;
	free(new);
	return all;
}

int ioeventfd_set(struct vm *vm, const struct kvm_ioeventfd *args)
{
	struct ioeventfd wanted = {
		.addr = args->addr,
		.match = args->datamatch,
		.len = (uint8_t)args->len,
		.has_match = args->flags & KVM_IOEVENTFD_FLAG_DATAMATCH,
		.port = args->flags & KVM_IOEVENTFD_FLAG_PIO,
	};
	struct ioeventfds *all;
	struct ioeventfd *e;
	int ret = check(args);

	if (!ret)
		ret = eventfd_identify(args->fd, &wanted.identity);
	if (ret)
		return ret;
	all = get(vm);
	if (!all)
		return -ENOMEM;
	if (!(args->flags & KVM_IOEVENTFD_FLAG_DEASSIGN))
		return add(all, &wanted, args->fd);
	e = unlink_equal(all, &wanted);
	if (!e)
		return -ENOENT;
	end(e);
	return 0;
}

void ioeventfd_destroy(struct vm *vm)
{
	struct ioeventfds *all = vm->ioeventfds;

	if (!all)
		return;
	while (all->first) {
		struct ioeventfd *e = all->first;

		all->first = e->next;
		end(e);
	}
	free(all);
	vm->ioeventfds = NULL;
}

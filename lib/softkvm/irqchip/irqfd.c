/* SPDX-License-Identifier: MIT */
/*
 * irqfd: an eventfd that raises a GSI.
 *
 *	client, vhost, other process -- write --> eventfd -- epoll --> this thread --> GSI
 *
 * One thread a VM, started with the first irqfd, waits for all of them. It is no vCPU's
 * thread, so it may call libc; HEAVY lists this file. What it does under irqfds.lock it
 * does whole: when KVM_IRQFD takes an irqfd away and has had the lock, no interrupt of
 * it is under way.
 *
 * A signal is taken out of the eventfd by a read that never blocks, whoever else reads
 * there. With a resample eventfd the line stays up until the guest's EOI (resample.c);
 * otherwise it is a pulse.
 * Source: the kernel's KVM API document, KVM_IRQFD.
 */
#include "softkvm/irqchip/eventfd.h"
#include "softkvm/irqchip/internal.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <unistd.h>

struct irqfd {
	struct irqfd *next;
	uint64_t key;      /* what epoll calls it; never used again */
	uint64_t identity; /* of the eventfd */
	uint32_t gsi;
	int fd; /* duplicate */
	struct resample *resample;
};

struct irqfds {
	struct vm *vm;
	pthread_mutex_t lock;
	pthread_t thread;
	bool running;
	int epoll, stop;
	uint64_t last_key; /* 0 is the stop eventfd */
	struct irqfd *first;
};

/* -- The thread ---------------------------------------------------------------------------- */

static bool was_signalled(int fd)
{
	uint64_t count;
	struct iovec iov = {.iov_base = &count, .iov_len = sizeof(count)};
	ssize_t n = preadv2(fd, &iov, 1, -1, RWF_NOWAIT);

	if (n < 0 && errno == EOPNOTSUPP)
		n = read(fd, &count, sizeof(count));
	return n == sizeof(count);
}

static void raise_gsi(struct vm *vm, struct irqfd *f)
{
	if (f->resample) {
		routing_line(vm, NULL, f->gsi, true, SOURCE_RESAMPLE);
		return;
	}
	routing_line(vm, NULL, f->gsi, true, SOURCE_IRQFD);
	routing_line(vm, NULL, f->gsi, false, SOURCE_IRQFD);
}

static void serve(struct irqfds *all, uint64_t key)
{
	pthread_mutex_lock(&all->lock);
	for (struct irqfd *f = all->first; f; f = f->next)
		if (f->key == key && was_signalled(f->fd))
			raise_gsi(all->vm, f);
	pthread_mutex_unlock(&all->lock);
}

static void *poll_thread(void *arg)
{
	struct irqfds *all = arg;
	struct epoll_event event[32];

	for (;;) {
		int n = epoll_wait(all->epoll, event, 32, -1);

		for (int i = 0; i < n; i++) {
			if (!event[i].data.u64)
				return NULL;
			serve(all, event[i].data.u64);
		}
	}
}

/* Signals are the client's business: none is handled in this thread. */
static int start_thread(struct irqfds *all)
{
	sigset_t every, before;
	int ret;

	sigfillset(&every);
	pthread_sigmask(SIG_SETMASK, &every, &before);
	ret = pthread_create(&all->thread, NULL, poll_thread, all);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	all->running = !ret;
	return -ret;
}

static int watch(struct irqfds *all, int fd, uint64_t key)
{
	struct epoll_event event = {.events = EPOLLIN, .data.u64 = key};

	return epoll_ctl(all->epoll, EPOLL_CTL_ADD, fd, &event) ? -errno : 0;
}

static int start(struct irqfds *all)
{
	int ret;

	all->epoll = epoll_create1(EPOLL_CLOEXEC);
	all->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (all->epoll < 0 || all->stop < 0)
		return -errno;
	ret = watch(all, all->stop, 0);
	return ret ? ret : start_thread(all);
}

/* -- The list ------------------------------------------------------------------------------ */

static void resample_add(struct irqchip *chip, struct resample *r)
{
	lock_take(&chip->resample_lock);
	r->next = chip->resample;
	chip->resample = r;
	atomic_store(&chip->has_resample, true);
	lock_drop(&chip->resample_lock);
}

static void resample_remove(struct irqchip *chip, struct resample *r)
{
	lock_take(&chip->resample_lock);
	for (struct resample **at = &chip->resample; *at; at = &(*at)->next)
		if (*at == r) {
			*at = r->next;
			break;
		}
	atomic_store(&chip->has_resample, chip->resample != NULL);
	lock_drop(&chip->resample_lock);
}

static void irqfd_free(struct irqfd *f)
{
	if (f->resample) {
		if (f->resample->fd >= 0)
			close(f->resample->fd);
		free(f->resample);
	}
	if (f->fd >= 0)
		close(f->fd);
	free(f);
}

static int duplicate(int fd)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);

	return copy < 0 ? -errno : copy;
}

static int add_resample(struct irqfd *f, int fd)
{
	uint64_t identity;
	int ret = eventfd_identify(fd, &identity);

	if (ret)
		return ret;
	f->resample = calloc(1, sizeof(*f->resample));
	if (!f->resample)
		return -ENOMEM;
	f->resample->gsi = f->gsi;
	f->resample->fd = duplicate(fd);
	return f->resample->fd < 0 ? f->resample->fd : 0;
}

static int make(const struct kvm_irqfd *args, uint64_t identity, struct irqfd **out)
{
	struct irqfd *f = calloc(1, sizeof(*f));
	int ret = 0;

	if (!f)
		return -ENOMEM;
	f->gsi = args->gsi;
	f->identity = identity;
	f->fd = duplicate((int)args->fd);
	if (f->fd < 0)
		ret = f->fd;
	else if (args->flags & KVM_IRQFD_FLAG_RESAMPLE)
		ret = add_resample(f, (int)args->resamplefd);
	if (ret)
		irqfd_free(f);
	else
		*out = f;
	return ret;
}

static int insert(struct irqfds *all, struct irqfd *f)
{
	struct irqchip *chip = all->vm->irqchip;
	int ret = 0;

	pthread_mutex_lock(&all->lock);
	for (struct irqfd *old = all->first; old; old = old->next)
		if (old->identity == f->identity)
			ret = -EBUSY;
	f->key = ++all->last_key;
	if (!ret)
		ret = watch(all, f->fd, f->key);
	if (!ret) {
		f->next = all->first;
		all->first = f;
		if (f->resample)
			resample_add(chip, f->resample);
	}
	pthread_mutex_unlock(&all->lock);
	return ret;
}

static void drop(struct irqfds *all, struct irqfd *f)
{
	epoll_ctl(all->epoll, EPOLL_CTL_DEL, f->fd, NULL);
	if (f->resample) {
		resample_remove(all->vm->irqchip, f->resample);
		routing_line(all->vm, NULL, f->gsi, false, SOURCE_RESAMPLE);
	}
	irqfd_free(f);
}

static void take_away(struct irqfds *all, uint64_t identity, uint32_t gsi)
{
	pthread_mutex_lock(&all->lock);
	for (struct irqfd **at = &all->first; *at;) {
		struct irqfd *f = *at;

		if (f->identity != identity || f->gsi != gsi) {
			at = &f->next;
			continue;
		}
		*at = f->next;
		drop(all, f);
	}
	pthread_mutex_unlock(&all->lock);
}

/* -- The ioctl ----------------------------------------------------------------------------- */

static pthread_mutex_t create_lock = PTHREAD_MUTEX_INITIALIZER;

static int get(struct vm *vm, struct irqfds **out)
{
	struct irqfds *all;
	int ret = 0;

	pthread_mutex_lock(&create_lock);
	all = vm->irqchip->irqfds;
	if (!all) {
		all = calloc(1, sizeof(*all));
		if (all) {
			all->vm = vm;
			all->epoll = all->stop = -1;
			pthread_mutex_init(&all->lock, NULL);
			vm->irqchip->irqfds = all;
			ret = start(all);
		}
	}
	if (!ret && (!all || !all->running))
		ret = -ENOMEM;
	*out = all;
	pthread_mutex_unlock(&create_lock);
	return ret;
}

int irqchip_irqfd(struct vm *vm, const struct kvm_irqfd *args)
{
	const uint32_t known = KVM_IRQFD_FLAG_DEASSIGN | KVM_IRQFD_FLAG_RESAMPLE;
	struct irqfds *all;
	struct irqfd *f;
	uint64_t identity;
	int ret;

	if (!vm->irqchip || args->flags & ~known || args->gsi >= ROUTES_MAX)
		return -EINVAL;
	if (args->flags & KVM_IRQFD_FLAG_RESAMPLE && !irqchip_has_pic(vm))
		return -EINVAL; /* it is the client who hears of the EOI */
	ret = eventfd_identify((int)args->fd, &identity);
	if (!ret)
		ret = get(vm, &all);
	if (ret)
		return ret;
	if (args->flags & KVM_IRQFD_FLAG_DEASSIGN) {
		take_away(all, identity, args->gsi);
		return 0;
	}
	ret = make(args, identity, &f);
	if (ret)
		return ret;
	ret = insert(all, f);
	if (ret)
		irqfd_free(f);
	return ret;
}

void irqfd_destroy(struct vm *vm)
{
	struct irqfds *all = vm->irqchip->irqfds;

	if (!all)
		return;
	if (all->running) {
		sys_eventfd_signal(all->stop);
		pthread_join(all->thread, NULL);
	}
	while (all->first) {
		struct irqfd *f = all->first;

		all->first = f->next;
		drop(all, f);
	}
	if (all->epoll >= 0)
		close(all->epoll);
	if (all->stop >= 0)
		close(all->stop);
	pthread_mutex_destroy(&all->lock);
	free(all);
	vm->irqchip->irqfds = NULL;
}

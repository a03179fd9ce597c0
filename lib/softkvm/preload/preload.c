/* SPDX-License-Identifier: MIT */
/*
 * libsoftkvm.so: softkvm under a client that knows only /dev/kvm.
 *
 *	LD_PRELOAD=libsoftkvm.so qemu-system-x86_64 -accel kvm ...
 *
 * Calls of the C library that may be about /dev/kvm or what came from it are taken over here;
 * everything else goes on to the next definition, after one look at a table:
 *
 *	open, openat("/dev/kvm")   softkvm_open()
 *	ioctl                      softkvm_ioctl() if the number is KVM's and the descriptor ours
 *	close, dup*, fcntl         the table of descriptors follows
 *	mmap, poll                 nothing: the descriptors are real (abi/object.c)
 *	sigaction, signal          handlers are wrapped
 *	pthread_cancel             reaches a thread in KVM_RUN when it has left that
 *
 * The kernel's KVM_RUN returns -EINTR when a signal arrives, and clients rely on it to call a
 * vCPU's thread out of the guest. Here a signal interrupts translated code and returns to it; so
 * a client's handler is wrapped, and after it KVM_RUN of that thread is told to return. Handlers
 * of faults stay as they are, for the engine has its own before them (run/signal.c).
 *
 * What a client does by system calls of its own making (static programs, io_uring) goes past us.
 */
/* With it <fcntl.h> gives open() the name open64, and both are to be defined here. */
#undef _FILE_OFFSET_BITS

#include "softkvm/abi/object.h"
#include "softkvm/hooks.h"
#include "softkvm/os/current.h"
#include "softkvm/run/run.h"
#include "softkvm/softkvm.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define API __attribute__((visibility("default")))

/* The next definition of a function, looked up at its first use; which may come before any
 * constructor of ours. Threads that race find the same. */
#define NEXT(name)                                                                         \
	({                                                                                 \
		static __typeof__(&name) next;                                             \
		if (!next)                                                                 \
			next = (__typeof__(&name))dlsym(RTLD_NEXT, #name);                 \
		next;                                                                      \
	})

/* The C library's convention. */
static int result(int rc)
{
	if (rc >= 0)
		return rc;
	errno = -rc;
	return -1;
}

static bool is_ours(int fd)
{
	struct object *o = object_get(fd);

	if (o)
		object_put(o);
	return o;
}

/* -- opening ------------------------------------------------------------------------------- */

static bool is_kvm(const char *path)
{
	return path && !strcmp(path, "/dev/kvm");
}

static _Atomic bool is_open;

/* The client knows no more than a number, and QEMU for one tells "Could not access KVM kernel module". */
static int open_engine(void)
{
	char why[256];
	int fd = softkvm_open();

	if (fd >= 0 && !signals_install())
		atomic_store(&is_open, true);
	if (fd < 0) {
		softkvm_check(why, sizeof(why));
		fprintf(stderr, "softkvm: %s\n", why[0] ? why : strerror(-fd));
	}
	return result(fd);
}

/* The mode is there only with some flags; reading it anyway is harmless on this architecture. */
#define OPEN(name)                                                                         \
	API int name(const char *path, int flags, ...)                                     \
	{                                                                                  \
		va_list ap;                                                                \
		mode_t mode;                                                               \
                                                                                           \
		va_start(ap, flags);                                                       \
		mode = va_arg(ap, mode_t);                                                 \
		va_end(ap);                                                                \
		return is_kvm(path) ? open_engine()                                        \
				    : NEXT(name)(path, flags, mode);                       \
	}

#define OPENAT(name)                                                                       \
	API int name(int dir, const char *path, int flags, ...)                            \
	{                                                                                  \
		va_list ap;                                                                \
		mode_t mode;                                                               \
                                                                                           \
		va_start(ap, flags);                                                       \
		mode = va_arg(ap, mode_t);                                                 \
		va_end(ap);                                                                \
		return is_kvm(path) ? open_engine()                                        \
				    : NEXT(name)(dir, path, flags, mode);                  \
	}

OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

/* What programs built with _FORTIFY_SOURCE call. */
int __open_2(const char *path, int flags);
int __open64_2(const char *path, int flags);

API int __open_2(const char *path, int flags)
{
	return open(path, flags);
}

API int __open64_2(const char *path, int flags)
{
	return open(path, flags);
}

/* -- using ------------------------------------------------------------------------------------ */

/*
 * A thread can be cancelled in the middle of anything, if it wants that (PTHREAD_CANCEL_ASYNCHRONOUS). In the kernel's
 * KVM_RUN that is a signal, which ends it first; so it waits here until KVM_RUN has been left.
 */
static int run_vcpu(int fd, void *arg)
{
	int type, rc;

	pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, &type);
	rc = result(softkvm_ioctl(fd, KVM_RUN, arg));
	pthread_setcanceltype(type, NULL);
	return rc;
}

API int pthread_cancel(pthread_t thread)
{
	int rc = NEXT(pthread_cancel)(thread);

	if (!rc && atomic_load(&is_open))
		thread_kick(thread);
	return rc;
}

API int ioctl(int fd, unsigned long request, ...)
{
	va_list ap;
	void *arg;

	va_start(ap, request);
	arg = va_arg(ap, void *);
	va_end(ap);
	if (_IOC_TYPE(request) == KVMIO && is_ours(fd))
		return (uint32_t)request == KVM_RUN ? run_vcpu(fd, arg) : result(softkvm_ioctl(fd, request, arg));
	return NEXT(ioctl)(fd, request, arg);
}

API int close(int fd)
{
	/* softkvm_close() calls close() for the number itself, which is nobody's then. */
	return is_ours(fd) ? result(softkvm_close(fd)) : NEXT(close)(fd);
}

/* `copy` is what `fd` is; or was not made, and nothing has changed. */
static int follow(int fd, int copy)
{
	if (copy >= 0 && is_ours(fd))
		object_dup(fd, copy);
	else if (copy >= 0)
		object_forget(copy);
	return copy;
}

API int dup(int fd)
{
	return follow(fd, NEXT(dup)(fd));
}

API int dup2(int fd, int to)
{
	return follow(fd, NEXT(dup2)(fd, to));
}

API int dup3(int fd, int to, int flags)
{
	return follow(fd, NEXT(dup3)(fd, to, flags));
}

/* The argument is a number, a pointer, or not there: as with open(), reading it is harmless. */
#define FCNTL(name)                                                                        \
	API int name(int fd, int command, ...)                                             \
	{                                                                                  \
		va_list ap;                                                                \
		void *arg;                                                                 \
		int rc;                                                                    \
                                                                                           \
		va_start(ap, command);                                                     \
		arg = va_arg(ap, void *);                                                  \
		va_end(ap);                                                                \
		rc = NEXT(name)(fd, command, arg);                                         \
		return command == F_DUPFD || command == F_DUPFD_CLOEXEC ? follow(fd, rc)   \
									: rc;              \
	}

FCNTL(fcntl)
FCNTL(fcntl64)

/* -- signals ------------------------------------------------------------------------------- */

static struct sigaction client[_NSIG];

static void wrapper(int sig, siginfo_t *info, void *context)
{
	/* As the kernel does it: one that wants the number alone does not look at the rest. (Its flags
	 * may be another handler's: somebody may be about to replace it.) */
	client[sig].sa_sigaction(sig, info, context);
	if (current_vcpu)
		vcpu_kick(current_vcpu, REQ_EXIT);
}

/* Faults, and the engine's own, which it sets with the C library's sigaction(), so through here. */
static bool is_left_alone(int sig)
{
	return sig < 1 || sig >= _NSIG || sig == SIGSEGV || sig == SIGBUS || sig == SIGFPE ||
	       sig == SIGILL || sig == SIGTRAP || sig == TIMER_SIGNAL;
}

API int sigaction(int sig, const struct sigaction *new, struct sigaction *old)
{
	struct sigaction wrapped, before;
	int rc;

	if (is_left_alone(sig))
		return NEXT(sigaction)(sig, new, old);
	before = client[sig];
	if (new && new->sa_handler != SIG_DFL && new->sa_handler != SIG_IGN) {
		client[sig] = wrapped = *new;
		wrapped.sa_sigaction = wrapper;
		wrapped.sa_flags |= SA_SIGINFO;
		rc = NEXT(sigaction)(sig, &wrapped, old);
	} else {
		rc = NEXT(sigaction)(sig, new, old);
	}
	if (!rc && old && old->sa_sigaction == wrapper)
		*old = before;
	return rc;
}

API sighandler_t signal(int sig, sighandler_t handler)
{
	struct sigaction new = {.sa_handler = handler, .sa_flags = SA_RESTART}, old;

	sigemptyset(&new.sa_mask);
	return sigaction(sig, &new, &old) ? SIG_ERR : old.sa_handler;
}

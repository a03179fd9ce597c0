/* SPDX-License-Identifier: MIT */
/*
 * Tiny guests, over either face.
 *
 * The time limit. A half-working engine may never come back from KVM_RUN, so a timer sends
 * this thread a signal. The handler sets kvm_run.immediate_exit, which makes a KVM_RUN that
 * has not yet started return at once, and the signal itself interrupts one that has. The
 * timer goes on ticking until the run is over, so that no single lost signal matters.
 */
#include "engine/tiny.h"

#include "base/err.h"
#include "base/macros.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SIG_TINY (SIGRTMIN + 1)
#define TICK_MS 2

/* -- Making it -------------------------------------------------------------------------- */

static int failed(int rc, const char *what, struct err *err)
{
	return err_sys(err, -rc, "%s fails", what);
}

static void put_tables(struct tiny *t)
{
	uint64_t *pml4 = (uint64_t *)(void *)(t->mem + TINY_TABLES);
	uint64_t *pdpt = pml4 + 512, *pd = pml4 + 1024, *pt = pml4 + 1536;

	pml4[0] = (TINY_TABLES + 0x1000) | 7;
	pdpt[0] = (TINY_TABLES + 0x2000) | 7;
	pd[0] = (TINY_TABLES + 0x3000) | 7;
	for (unsigned i = 0; i < 512; i++)
		pt[i] = (uint64_t)i << 12 | 7;
}

static void put_gdt(struct tiny *t)
{
	static const uint64_t gdt[] = {
		[TINY_CODE32 / 8] = 0x00cf9b000000ffff,
		[TINY_DATA / 8] = 0x00cf93000000ffff,
		[TINY_CODE64 / 8] = 0x00af9b000000ffff,
		[TINY_USER32 / 8] = 0x00cffb000000ffff,
		[TINY_USER_DATA / 8] = 0x00cff3000000ffff,
		[TINY_USER_CODE / 8] = 0x00affb000000ffff,
	};

	memcpy(t->mem + TINY_GDT, gdt, sizeof(gdt));
}

static int add_memory(struct tiny *t, struct err *err)
{
	struct kvm_userspace_memory_region slot = {.memory_size = t->mem_size};
	int rc;

	t->mem = mmap(NULL, t->mem_size, PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (t->mem == MAP_FAILED) {
		t->mem = NULL;
		return err_sys(err, errno, "guest memory");
	}
	put_tables(t);
	put_gdt(t);
	slot.userspace_addr = (uintptr_t)t->mem;
	rc = t->face->ioctl(t->vm, KVM_SET_USER_MEMORY_REGION, &slot);
	return rc < 0 ? failed(rc, "KVM_SET_USER_MEMORY_REGION", err) : 0;
}

static int add_vm(struct tiny *t, struct err *err)
{
	uint64_t idmap = 0xfffbc000;

	do {
		t->vm = t->face->ioctl(t->sys, KVM_CREATE_VM, KVM_ARG(0));
	} while (t->vm == -EINTR);
	if (t->vm < 0)
		return failed(t->vm, "KVM_CREATE_VM", err);
	/* For hardware that cannot do real mode by itself; others do not mind. */
	if (kvm_has(t->face, t->vm, KVM_CAP_SET_IDENTITY_MAP_ADDR))
		t->face->ioctl(t->vm, KVM_SET_IDENTITY_MAP_ADDR, &idmap);
	if (kvm_has(t->face, t->vm, KVM_CAP_SET_TSS_ADDR))
		t->face->ioctl(t->vm, KVM_SET_TSS_ADDR, KVM_ARG(0xfffbd000));
	return 0;
}

static int add_chips(struct tiny *t, int chips, struct err *err)
{
	struct kvm_pit_config pit = {.flags = KVM_PIT_SPEAKER_DUMMY};
	struct kvm_enable_cap split = {.cap = KVM_CAP_SPLIT_IRQCHIP, .args = {24}};
	int rc;

	if (chips == TINY_SPLIT) {
		rc = t->face->ioctl(t->vm, KVM_ENABLE_CAP, &split);
		return rc < 0 ? failed(rc, "KVM_CAP_SPLIT_IRQCHIP", err) : 0;
	}
	rc = t->face->ioctl(t->vm, KVM_CREATE_IRQCHIP, NULL);
	if (rc < 0)
		return failed(rc, "KVM_CREATE_IRQCHIP", err);
	rc = t->face->ioctl(t->vm, KVM_CREATE_PIT2, &pit);
	return rc < 0 ? failed(rc, "KVM_CREATE_PIT2", err) : 0;
}

/* The CPU as the engine offers it: without, CPUID inside the guest knows nothing. */
static int set_cpuid(struct tiny *t, struct err *err)
{
	union {
		struct kvm_cpuid2 head;
		uint8_t room[sizeof(struct kvm_cpuid2) +
			     256 * sizeof(struct kvm_cpuid_entry2)];
	} table;
	int rc;

	memset(&table, 0, sizeof(table));
	table.head.nent = 256;
	rc = t->face->ioctl(t->sys, KVM_GET_SUPPORTED_CPUID, &table);
	if (rc < 0)
		return failed(rc, "KVM_GET_SUPPORTED_CPUID", err);
	rc = tiny_call(t, KVM_SET_CPUID2, &table);
	return rc < 0 ? failed(rc, "KVM_SET_CPUID2", err) : 0;
}

static int add_vcpu(struct tiny *t, struct err *err)
{
	int rc = t->face->ioctl(t->sys, KVM_GET_VCPU_MMAP_SIZE, NULL);

	if (rc < (int)sizeof(struct kvm_run))
		return failed(rc < 0 ? rc : -EINVAL, "KVM_GET_VCPU_MMAP_SIZE", err);
	t->run_size = (size_t)rc;
	t->vcpu = t->face->ioctl(t->vm, KVM_CREATE_VCPU, KVM_ARG(0));
	if (t->vcpu < 0)
		return failed(t->vcpu, "KVM_CREATE_VCPU", err);
	t->run = t->face->mmap(t->vcpu, t->run_size);
	if (!t->run)
		return failed(-ENOMEM, "mmap of a vCPU", err);
	return set_cpuid(t, err);
}

int tiny_open(struct tiny *t, const struct kvm_face *face,
	      const struct tiny_config *config, struct err *err)
{
	int rc;

	*t = (struct tiny){
		.face = face, .sys = -1, .vm = -1, .vcpu = -1,
		.mem_size = config->memory,
	};
	t->sys = face->open(err);
	if (t->sys < 0)
		return t->sys;
	if ((rc = add_vm(t, err)) < 0 ||
	    (config->chips && (rc = add_chips(t, config->chips, err)) < 0) ||
	    (rc = add_memory(t, err)) < 0 ||
	    (rc = add_vcpu(t, err)) < 0) {
		tiny_close(t);
		return rc;
	}
	return 0;
}

void tiny_close(struct tiny *t)
{
	if (t->has_timer)
		timer_delete(t->timer);
	if (t->run)
		t->face->munmap(t->run, t->run_size);
	if (t->vcpu >= 0)
		t->face->close(t->vcpu);
	if (t->vm >= 0)
		t->face->close(t->vm);
	if (t->sys >= 0)
		t->face->close(t->sys);
	if (t->mem)
		munmap(t->mem, t->mem_size);
	*t = (struct tiny){.sys = -1, .vm = -1, .vcpu = -1};
}

int tiny_call(struct tiny *t, unsigned long request, void *arg)
{
	return t->face->ioctl(t->vcpu, request, arg);
}

/* -- Registers -------------------------------------------------------------------------- */

static struct kvm_segment segment(uint16_t selector, uint8_t type)
{
	return (struct kvm_segment){
		.selector = selector,
		.limit = 0xffffffffu,
		.type = type,
		.present = 1,
		.s = 1,
		.g = 1,
		.db = 1,
		.dpl = selector & 3,
	};
}

static void set_segments(struct kvm_sregs *s, enum tiny_mode mode)
{
	struct kvm_segment data = segment(TINY_DATA, 3),
			   code = segment(TINY_CODE32, 11);

	if (mode == TINY_REAL) {
		data = code = segment(0, 3);
		data.limit = code.limit = 0xffff;
		data.g = code.g = data.db = code.db = 0;
		code.type = 11;
	} else if (mode != TINY_PROTECTED) {
		code = segment(mode == TINY_LONG ? TINY_CODE64 : TINY_USER_CODE | 3,
			       11);
		data = segment(mode == TINY_LONG ? TINY_DATA : TINY_USER_DATA | 3, 3);
		code.l = 1;
		code.db = 0;
	}
	s->cs = code;
	s->ds = s->es = s->fs = s->gs = s->ss = data;
	s->tr = (struct kvm_segment){.limit = 0x67, .type = 11, .present = 1};
	s->ldt = (struct kvm_segment){.type = 2, .unusable = 1};
	s->gdt = (struct kvm_dtable){.base = TINY_GDT, .limit = 63};
	s->idt = (struct kvm_dtable){.limit = mode == TINY_REAL ? 0x3ff : 0};
}

int tiny_enter(struct tiny *t, enum tiny_mode mode, uint64_t rip)
{
	struct kvm_regs regs = {.rip = rip, .rsp = TINY_STACK, .rflags = 2};
	struct kvm_sregs s;
	int rc = tiny_call(t, KVM_GET_SREGS, &s);

	if (rc < 0)
		return rc;
	set_segments(&s, mode);
	s.cr0 = mode == TINY_REAL ? 0x10 : mode == TINY_PROTECTED ? 0x11 : 0x80000033;
	s.cr3 = mode >= TINY_LONG ? TINY_TABLES : 0;
	s.cr4 = mode >= TINY_LONG ? 0x620 : 0; /* PAE, OSFXSR, OSXMMEXCPT */
	s.efer = mode >= TINY_LONG ? 0x500 : 0;
	rc = tiny_call(t, KVM_SET_SREGS, &s);
	return rc < 0 ? rc : tiny_call(t, KVM_SET_REGS, &regs);
}

/* -- Running ---------------------------------------------------------------------------- */

/* The guest that this thread runs, for the handler. */
static _Thread_local struct tiny *running;

static void on_timer(int sig)
{
	struct tiny *t = running;

	(void)sig;
	if (!t)
		return;
	__atomic_store_n(&t->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
	if (t->face->kick)
		t->face->kick(t->vcpu);
}

static int make_timer(struct tiny *t)
{
	struct sigaction sa = {.sa_handler = on_timer, .sa_flags = SA_ONSTACK};
	struct sigevent ev = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIG_TINY};

	if (t->has_timer)
		return 0;
	ev._sigev_un._tid = (pid_t)syscall(SYS_gettid);
	if (sigaction(SIG_TINY, &sa, NULL) < 0 ||
	    timer_create(CLOCK_MONOTONIC, &ev, &t->timer) < 0)
		return -errno;
	t->has_timer = 1;
	return 0;
}

static void set_timer(struct tiny *t, unsigned ms)
{
	struct itimerspec when = {
		.it_value = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000l},
		.it_interval = {.tv_nsec = ms ? TICK_MS * 1000000l : 0},
	};

	timer_settime(t->timer, 0, &when, NULL);
}

int tiny_run(struct tiny *t, unsigned ms)
{
	int rc = make_timer(t);

	if (rc < 0)
		return rc;
	t->run->immediate_exit = 0;
	running = t;
	set_timer(t, ms);
	do {
		rc = tiny_call(t, KVM_RUN, NULL);
	} while ((rc == -EINTR || rc == -EAGAIN) &&
		 !__atomic_load_n(&t->run->immediate_exit, __ATOMIC_SEQ_CST));
	set_timer(t, 0);
	running = NULL;
	return rc == -EINTR || rc == -EAGAIN ? -ETIME : rc < 0 ? rc : 0;
}

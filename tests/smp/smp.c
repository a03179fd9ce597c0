/* SPDX-License-Identifier: MIT */
/* See smp.h. */
#include "tests/smp/smp.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "softkvm/softkvm.h"

enum { TABLES = SMP_TABLES };

extern const uint8_t loop_begin[], loop_body[], loop_rest[], loop_end[];

__asm__(".section .rodata\n"
	"loop_begin:\n"
	"	lock incl (%r13)\n"
	"1:	pause\n"
	"	cmp %r14d, (%r13)\n"
	"	jb 1b\n"
	"loop_body:\n"
	"loop_rest:\n"
	"	test $63, %r15b\n"
	"	jnz 2f\n"
	"	test %rbp, %rbp\n"
	"	jz 2f\n"
	"	call *%rbp\n"
	"2:	dec %r15d\n"
	"	jnz . + 0x7f000000\n" /* to the body: smp_load() knows where that is */
	"	out %al, $0xe1\n"
	"loop_end:\n"
	".text\n");

static void must(int rc, const char *what)
{
	if (rc >= 0)
		return;
	printf("Bail out! %s: %s\n", what, strerror(-rc));
	exit(1);
}

static void make_tables(struct smp *m)
{
	uint64_t *pml4 = (uint64_t *)(void *)(m->mem + TABLES), *pdpt = pml4 + 512,
		 *pd = pml4 + 1024, *pt = pml4 + 1536;

	pml4[0] = (TABLES + 0x1000) | 0x63;
	pdpt[0] = (TABLES + 0x2000) | 0x63;
	pd[0] = (TABLES + 0x3000) | 0x63;
	for (unsigned i = 0; i < 512; i++)
		pt[i] = i << 12 | 0x63;
	memcpy(m->mem + SMP_GDT + 8, (uint64_t[]){0x00af9b000000ffff, 0x00cf93000000ffff}, 16);
}

/* As in tests/hostile: ids whose low five bits are the same. */
#define CPU_ID(n) ((void *)(uintptr_t)((n) * 32))

static void add_cpu(struct smp *m, int n)
{
	struct kvm_segment code = {.selector = 8, .limit = ~0u, .type = 11, .present = 1, .s = 1,
				   .l = 1, .g = 1};
	struct kvm_segment data = {.selector = 16, .limit = ~0u, .type = 3, .present = 1, .s = 1,
				   .db = 1, .g = 1};
	static struct {
		struct kvm_cpuid2 head;
		struct kvm_cpuid_entry2 entry[256];
	} cpuid;
	struct smp_cpu *c = &m->cpu[n];
	struct kvm_sregs s;
	long len = softkvm_ioctl(m->sys, KVM_GET_VCPU_MMAP_SIZE, NULL);

	cpuid.head.nent = 256;
	must(c->fd = softkvm_ioctl(m->vm, KVM_CREATE_VCPU, CPU_ID(n)), "a vCPU");
	c->run = softkvm_mmap(c->fd, (size_t)len, 0);
	must(softkvm_ioctl(m->sys, KVM_GET_SUPPORTED_CPUID, &cpuid), "CPUID");
	must(softkvm_ioctl(c->fd, KVM_SET_CPUID2, &cpuid), "CPUID");
	must(softkvm_ioctl(c->fd, KVM_GET_SREGS, &s), "KVM_GET_SREGS");
	s.cs = code;
	s.ds = s.es = s.ss = s.fs = s.gs = data;
	s.gdt = (struct kvm_dtable){.base = SMP_GDT, .limit = 0x17};
	s.idt = (struct kvm_dtable){.base = SMP_IDT, .limit = 0xfff};
	s.cr0 = 0x80050033;
	s.cr3 = TABLES;
	s.cr4 = 0x6a0;
	s.efer = 0x500;
	must(softkvm_ioctl(c->fd, KVM_SET_SREGS, &s), "KVM_SET_SREGS");
}

struct smp *smp_create(const char *knobs, int cpus, bool chips)
{
	struct smp *m = calloc(1, sizeof(*m));
	struct kvm_userspace_memory_region r = {.memory_size = SMP_MEMORY,
						.flags = KVM_MEM_LOG_DIRTY_PAGES};

	if (!m)
		abort();
	m->knobs = knobs[0] ? knobs : "translated";
	m->n_cpus = cpus;
	m->mem = mmap(NULL, SMP_MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (m->mem == MAP_FAILED)
		abort();
	make_tables(m);
	r.userspace_addr = (uintptr_t)m->mem;
	setenv("SOFTKVM", knobs, 1);
	must(m->sys = softkvm_open(), "softkvm");
	must(m->vm = softkvm_ioctl(m->sys, KVM_CREATE_VM, NULL), "a VM");
	must(softkvm_ioctl(m->vm, KVM_SET_USER_MEMORY_REGION, &r), "memory");
	if (chips)
		must(softkvm_ioctl(m->vm, KVM_CREATE_IRQCHIP, NULL), "KVM_CREATE_IRQCHIP");
	for (int n = 0; n < cpus; n++)
		add_cpu(m, n);
	unsetenv("SOFTKVM");
	return m;
}

void smp_destroy(struct smp *m)
{
	for (int n = 0; n < m->n_cpus; n++)
		softkvm_close(m->cpu[n].fd);
	softkvm_close(m->vm);
	softkvm_close(m->sys);
	munmap(m->mem, SMP_MEMORY);
	free(m);
}

void smp_load(struct smp *m, int n, const uint8_t *begin, const uint8_t *end)
{
	uint8_t *start = m->mem + SMP_CODE + n * 0x1000, *p = start, *body;
	int32_t back;

	memcpy(p, loop_begin, (size_t)(loop_body - loop_begin));
	body = p += loop_body - loop_begin;
	memcpy(p, begin, (size_t)(end - begin));
	p += end - begin;
	memcpy(p, loop_rest, (size_t)(loop_end - loop_rest));
	p += loop_end - loop_rest;
	back = (int32_t)(body - (p - 2)); /* from behind the jump, which OUT follows */
	memcpy(p - 6, &back, 4);
}

static _Atomic int running;

static void *run_cpu(void *arg)
{
	struct smp_cpu *c = arg;
	int rc;

	do
		rc = softkvm_ioctl(c->fd, KVM_RUN, NULL);
	while (rc == -EINTR);
	c->fine = rc == 0 && c->run->exit_reason == KVM_EXIT_IO;
	if (rc == 0 && !c->fine)
		printf("# exit reason %u\n", c->run->exit_reason);
	softkvm_ioctl(c->fd, KVM_GET_REGS, &c->regs);
	atomic_fetch_sub(&running, 1);
	return NULL;
}

/* The client has written code under mappings that did not change (ERRATA): another CR3, of the same
 * tables, makes the engine look. */
static void flush(struct smp_cpu *c)
{
	struct kvm_sregs s;

	must(softkvm_ioctl(c->fd, KVM_GET_SREGS, &s), "KVM_GET_SREGS");
	s.cr3 ^= 8;
	must(softkvm_ioctl(c->fd, KVM_SET_SREGS, &s), "KVM_SET_SREGS");
}

static void start_cpu(struct smp *m, int n, unsigned times)
{
	struct smp_cpu *c = &m->cpu[n];
	struct kvm_mp_state runnable = {KVM_MP_STATE_RUNNABLE};

	flush(c);
	c->regs.rip = (uint64_t)(SMP_CODE + n * 0x1000);
	c->regs.rsp = (uint64_t)(SMP_STACK + n * 0x1000 + 0x800);
	c->regs.rflags = 2;
	c->regs.r13 = SMP_BARRIER;
	c->regs.r14 = (uint64_t)m->n_cpus;
	c->regs.r15 = times;
	softkvm_ioctl(c->fd, KVM_SET_MP_STATE, &runnable);
	must(softkvm_ioctl(c->fd, KVM_SET_REGS, &c->regs), "KVM_SET_REGS");
}

static void act(struct smp *m, enum smp_client client)
{
	static uint64_t bits[SMP_MEMORY / 4096 / 64];
	struct kvm_dirty_log log = {.dirty_bitmap = bits};
	struct kvm_msi nmi = {.address_lo = 0xfee00000, .data = 4 << 8};
	struct timespec moment = {.tv_nsec = client == CLIENT_WAITS ? 200000 : 20000};

	if (client == CLIENT_SENDS_NMIS) { /* 0 to 3 us apart */
		for (unsigned i = 0; i < 100; i++) {
			softkvm_ioctl(m->vm, KVM_SIGNAL_MSI, &nmi);
			for (unsigned k = i * 37 % 100; k; k--)
				__asm__ volatile("pause");
		}
		return;
	}
	if (client == CLIENT_READS_LOG)
		softkvm_ioctl(m->vm, KVM_GET_DIRTY_LOG, &log);
	nanosleep(&moment, NULL);
}

bool smp_run(struct smp *m, unsigned times, enum smp_client client)
{
	pthread_t thread[SMP_CPUS];
	bool fine = true;

	memset(m->mem + SMP_BARRIER, 0, 4);
	atomic_store(&running, m->n_cpus);
	for (int n = 0; n < m->n_cpus; n++)
		start_cpu(m, n, times);
	for (int n = 0; n < m->n_cpus; n++)
		pthread_create(&thread[n], NULL, run_cpu, &m->cpu[n]);
	while (atomic_load(&running))
		act(m, client);
	for (int n = 0; n < m->n_cpus; n++) {
		pthread_join(thread[n], NULL);
		fine &= m->cpu[n].fine;
	}
	return fine;
}

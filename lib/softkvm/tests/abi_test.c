/* SPDX-License-Identifier: MIT */
/*
 * The ABI's face as a client uses it: descriptors, requests, capabilities, state in and out, and
 * a guest of a few bytes that uses each way out of KVM_RUN.
 */
#include "softkvm/softkvm.h"

#include "base/macros.h"
#include "tests/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* 1 if these calls are the system's (kernel_face.c), which cannot give all the same answers. */
extern int by_system;
__attribute__((weak)) int by_system;

static int sys, vm, cpu;
static struct kvm_run *run;
static uint8_t *ram;

#define ARG(n) ((void *)(uintptr_t)(n))

static int call(int fd, unsigned long request, void *arg)
{
	return softkvm_ioctl(fd, request, arg);
}

static void test_system(void)
{
	struct {
		struct kvm_cpuid2 head;
		struct kvm_cpuid_entry2 entry[128];
	} cpuid = {.head.nent = 128};
	struct {
		struct kvm_msr_list head;
		uint32_t index[256];
	} msrs = {.head.nmsrs = 2};

	sys = softkvm_open();
	if (!ok(sys >= 0, "opens"))
		exit(done_testing());
	is_int(call(sys, KVM_GET_API_VERSION, 0), 12, "API version");
	is_int(call(sys, KVM_GET_VCPU_MMAP_SIZE, 0), 12288, "size of a vCPU's mapping");
	is_int(call(sys, KVM_CHECK_EXTENSION, ARG(KVM_CAP_IRQCHIP)), 1, "an irqchip");
	is_int(call(sys, KVM_CHECK_EXTENSION, ARG(KVM_CAP_HYPERV)), 0, "no Hyper-V");
	is_int(call(sys, KVM_CHECK_EXTENSION, ARG(99999)), 0, "an unknown capability");
	is_int(call(sys, KVM_GET_SUPPORTED_CPUID, &cpuid), 0, "supported CPUID");
	ok(cpuid.head.nent > 20 && cpuid.head.nent < 128, "%u leaves", cpuid.head.nent);
	cpuid.head.nent = 3;
	is_int(call(sys, KVM_GET_SUPPORTED_CPUID, &cpuid), -E2BIG, "no room for them");
	is_int(call(sys, KVM_GET_MSR_INDEX_LIST, &msrs), -E2BIG, "no room for MSRs");
	ok(msrs.head.nmsrs > 30, "but told how many: %u", msrs.head.nmsrs);
	is_int(call(sys, KVM_GET_MSR_INDEX_LIST, &msrs), 0, "with room");
	is_int(call(sys, KVM_RUN, 0), -EINVAL, "a vCPU's request to the system");
	is_int(call(7777, KVM_GET_API_VERSION, 0), -EBADF, "not a descriptor");
	is_int(call(1, KVM_GET_API_VERSION, 0), by_system ? -ENOTTY : -EBADF, "not one of ours");
	is_int(call(sys, KVM_CREATE_VM, ARG(5)), -EINVAL, "an unknown machine type");
}

static void test_vm(void)
{
	struct kvm_userspace_memory_region region = {.memory_size = MiB};
	int fd = memfd_create("ram", MFD_CLOEXEC);

	vm = call(sys, KVM_CREATE_VM, 0);
	ok(vm >= 0 && vm != sys, "a VM");
	ok(fd >= 0 && !ftruncate(fd, MiB), "memory");
	ram = mmap(NULL, MiB, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	region.userspace_addr = (uintptr_t)ram;
	is_int(call(vm, KVM_SET_USER_MEMORY_REGION, &region), 0, "a slot");
	is_int(call(vm, KVM_CREATE_PIT2, &(struct kvm_pit_config){0}), -ENOENT,
	       "a PIT needs the irqchip");
	is_int(call(vm, KVM_SET_TSS_ADDR, ARG(0xfffbd000)), 0, "TSS address");
	is_int(call(vm, 0x1234, 0), -ENOTTY, "an unknown request");
	cpu = call(vm, KVM_CREATE_VCPU, 0);
	ok(cpu >= 0, "a vCPU");
	is_int(call(vm, KVM_CREATE_VCPU, 0), -EEXIST, "the same again");
	is_int(call(vm, KVM_CREATE_VCPU, ARG(1 << 20)), -EINVAL, "an id that is too large");
	is_int(call(vm, KVM_CREATE_IRQCHIP, 0), -EINVAL, "too late for an irqchip");
	run = softkvm_mmap(cpu, 12288, 0);
	ok(run != MAP_FAILED, "its kvm_run");
	if (by_system)
		return; /* the system maps more than there is, and touching it is SIGBUS */
	ok(softkvm_mmap(vm, 4096, 0) == MAP_FAILED, "a VM has none");
	ok(softkvm_mmap(cpu, 65536, 0) == MAP_FAILED, "no more of it than there is");
}

/* Ids may be sparse; how many there can be is another matter. Their tables nearly fill the address
 * space, so this comes before there is another VM. */
static void test_ids(void)
{
	int most = call(sys, KVM_CHECK_EXTENSION, ARG(KVM_CAP_MAX_VCPUS));
	int ids = call(sys, KVM_CHECK_EXTENSION, ARG(KVM_CAP_MAX_VCPU_ID));
	int v = call(sys, KVM_CREATE_VM, 0), fd[256], n, rc = 0;

	is_int(call(v, KVM_CREATE_VCPU, ARG(ids)), -EINVAL, "vCPU %d is beyond the last", ids);
	for (n = 0; n < most && (rc = call(v, KVM_CREATE_VCPU, ARG(ids - 1 - 7 * n))) >= 0; n++)
		fd[n] = rc;
	if (rc == -ENOMEM) { /* beside a sanitizer's shadow */
		skip("no address space for more than %d vCPUs", n);
	} else {
		is_int(n, most, "vCPUs %d, %d, ..., %d", ids - 1, ids - 8, ids - 1 - 7 * (most - 1));
		is_int(call(v, KVM_CREATE_VCPU, 0), -EINVAL, "and none beside them");
	}
	while (n)
		softkvm_close(fd[--n]);
	softkvm_close(v);
}

static void test_registers(void)
{
	struct kvm_regs regs = {.rbx = 0x1122, .r13 = 7, .rip = 0x7000, .rflags = 0x202}, back;
	struct kvm_sregs sregs, bad;
	struct kvm_mp_state mp = {9};
	struct kvm_vcpu_events events;
	struct kvm_xcrs xcrs;
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry[3];
	} msrs = {.head.nmsrs = 3, .entry = {{.index = 0xc0000082, .data = 0x1000},
					     {.index = 0xdeadbeef}, {.index = 0x277}}};

	is_int(call(cpu, KVM_GET_SREGS, &sregs), 0, "special registers");
	ok(sregs.cs.base == 0xffff0000 && sregs.cs.selector == 0xf000 && sregs.cr0 == 0x60000010,
	   "are those of power-on");
	is_int(call(cpu, KVM_SET_REGS, &regs), 0, "registers");
	is_int(call(cpu, KVM_GET_REGS, &back), 0, "and back");
	ok(!memcmp(&regs, &back, sizeof(regs)), "are the same");
	bad = sregs;
	bad.cr4 |= 1ull << 12;
	is_int(call(cpu, KVM_SET_SREGS, &bad), -EINVAL, "no LA57");
	bad = sregs;
	bad.cr0 |= 0x80000000;
	is_int(call(cpu, KVM_SET_SREGS, &bad), -EINVAL, "no paging without protection");
	bad = sregs;
	bad.efer = 0x500;
	bad.cr0 = 0x80000011;
	is_int(call(cpu, KVM_SET_SREGS, &bad), -EINVAL, "no long mode without PAE");
	bad = sregs;
	bad.cs.l = 1;
	is_int(call(cpu, KVM_SET_SREGS, &bad), -EINVAL, "no 64-bit code outside of long mode");
	is_int(call(cpu, KVM_SET_SREGS, &sregs), 0, "what was read can be set");
	is_int(call(cpu, KVM_SET_MSRS, &msrs), 1, "MSRs are set up to the first unknown");
	msrs.head.nmsrs = 1;
	msrs.entry[0] = (struct kvm_msr_entry){.index = 0x6e0, .data = 1};
	is_int(call(cpu, KVM_SET_MSRS, &msrs), 1, "the TSC deadline, also without local APIC");
	is_int(call(cpu, KVM_GET_MP_STATE, &mp), 0, "MP state");
	is_int(mp.mp_state, KVM_MP_STATE_RUNNABLE, "runnable");
	mp.mp_state = KVM_MP_STATE_HALTED;
	is_int(call(cpu, KVM_SET_MP_STATE, &mp), -EINVAL, "cannot be halted without irqchip");
	is_int(call(cpu, KVM_GET_VCPU_EVENTS, &events), 0, "events");
	is_int(call(cpu, KVM_SET_VCPU_EVENTS, &events), 0, "and back");
	is_int(call(cpu, KVM_GET_XCRS, &xcrs), 0, "XCRs");
	is_int(xcrs.xcrs[0].value, 1, "XCR0 at power-on");
	ok(call(cpu, KVM_GET_TSC_KHZ, 0) > 100000, "a TSC of %d kHz",
	   call(cpu, KVM_GET_TSC_KHZ, 0));
	is_int(call(cpu, KVM_GET_LAPIC, ram), -EINVAL, "no local APIC");
	is_int(call(cpu, KVM_KVMCLOCK_CTRL, 0), -EINVAL, "no clock page");
	is_int(call(cpu, KVM_SET_TSC_KHZ, ARG(1234)), -EINVAL, "another TSC frequency");
	is_int(call(cpu, KVM_SET_TSC_KHZ, ARG(call(cpu, KVM_GET_TSC_KHZ, 0) + 20)), 0,
	       "one that is as good as the same");
}

/* Real mode at 0x1000: the client's classic first guest. */
static void start(const void *code, size_t len)
{
	struct kvm_sregs sregs;
	struct kvm_regs regs = {.rip = 0x1000, .rflags = 2, .rsp = 0x8000};

	memcpy(ram + 0x1000, code, len);
	call(cpu, KVM_GET_SREGS, &sregs);
	sregs.cs.base = sregs.cs.selector = 0;
	call(cpu, KVM_SET_SREGS, &sregs);
	call(cpu, KVM_SET_REGS, &regs);
}

static int run_code(const void *code, size_t len)
{
	start(code, len);
	return call(cpu, KVM_RUN, 0);
}

#define CODE(...) ((const uint8_t[]){__VA_ARGS__}), sizeof((const uint8_t[]){__VA_ARGS__})

static void test_run(void)
{
	struct kvm_regs regs;

	is_int(run_code(CODE(0xb8, 0x34, 0x12, 0xe7, 0x80, 0xf4)), 0, "a guest runs");
	is_int(run->exit_reason, KVM_EXIT_IO, "to its OUT");
	is_int(run->io.port, 0x80, "port");
	is_int(*(uint16_t *)((char *)run + run->io.data_offset), 0x1234, "data");
	is_int(call(cpu, KVM_RUN, 0), 0, "goes on");
	is_int(run->exit_reason, KVM_EXIT_HLT, "to its HLT");

	is_int(run_code(CODE(0xe5, 0x81, 0xa3, 0x00, 0x20, 0xf4)), 0, "another");
	ok(run->exit_reason == KVM_EXIT_IO && run->io.direction == KVM_EXIT_IO_IN, "IN");
	*(uint16_t *)((char *)run + run->io.data_offset) = 0xbeef;
	is_int(call(cpu, KVM_RUN, 0), 0, "answered");
	is_int(*(uint16_t *)(ram + 0x2000), 0xbeef, "the answer is in memory");

	/* mov ds, 0xf000; mov al, [0xfff0]: beyond the 1 MiB of RAM there is 0xffff0 only;
	 * so use a segment of 0xffff: 0x10fff0 - past RAM, a device. */
	is_int(run_code(CODE(0xb8, 0xff, 0xff, 0x8e, 0xd8, 0xa0, 0x50, 0x00, 0xf4)), 0, "MMIO");
	is_int(run->exit_reason, KVM_EXIT_MMIO, "exit");
	is_int(run->mmio.phys_addr, 0x100040, "address");
	run->mmio.data[0] = 0x5a;
	is_int(call(cpu, KVM_RUN, 0), 0, "answered");
	call(cpu, KVM_GET_REGS, &regs);
	is_int(regs.rax & 0xff, 0x5a, "the answer is in AL");
	is_int(run->exit_reason, KVM_EXIT_HLT, "and on to HLT");
	is_int(run->if_flag, 0, "interrupts are off");
}

static void test_interrupt(void)
{
	struct kvm_interrupt irq = {.irq = 0x21};

	/* sti; nop; jmp $ ... handler at 0x1100: out 0x90, al; hlt */
	memcpy(ram + 0x1100, (uint8_t[]){0xe6, 0x90, 0xf4}, 3);
	memcpy(ram + 0x21 * 4, (uint8_t[]){0x00, 0x11, 0, 0}, 4);
	start(CODE(0xfb, 0x90, 0xeb, 0xfe));
	run->request_interrupt_window = 1;
	is_int(call(cpu, KVM_RUN, 0), 0, "runs until interrupts are on");
	is_int(run->exit_reason, KVM_EXIT_IRQ_WINDOW_OPEN, "window open");
	ok(run->ready_for_interrupt_injection && run->if_flag, "says so in kvm_run");
	run->request_interrupt_window = 0;
	is_int(call(cpu, KVM_INTERRUPT, &irq), 0, "an interrupt");
	is_int(call(cpu, KVM_RUN, 0), 0, "runs");
	ok(run->exit_reason == KVM_EXIT_IO && run->io.port == 0x90, "the handler");
}

/* The next port that the guest writes to; 0: it did something else. */
static unsigned next_out(void)
{
	if (call(cpu, KVM_RUN, 0) < 0 || run->exit_reason != KVM_EXIT_IO)
		return 0;
	return run->io.port;
}

/* Of NMIs that come at once one is served and one waits; more than that are lost. */
static void test_nmi(void)
{
	struct kvm_vcpu_events events = {0};

	/* out 0x92, al; hlt ... handler at 0x1200: out 0x91, al; iret */
	memcpy(ram + 0x1200, (uint8_t[]){0xe6, 0x91, 0xcf}, 3);
	memcpy(ram + 2 * 4, (uint8_t[]){0x00, 0x12, 0, 0}, 4);
	start(CODE(0xe6, 0x92, 0xf4));
	for (unsigned i = 0; i < 3; i++)
		is_int(call(cpu, KVM_NMI, 0), 0, "an NMI");
	is_int(next_out(), 0x91, "the first");
	call(cpu, KVM_GET_VCPU_EVENTS, &events);
	ok(events.nmi.masked && events.nmi.pending, "the second waits behind it");
	call(cpu, KVM_NMI, 0);
	is_int(next_out(), 0x91, "is served after it");
	is_int(next_out(), 0x92, "and was the last");
	is_int(next_out(), 0, "the guest halts");

	start(CODE(0xe6, 0x92, 0xf4));
	call(cpu, KVM_NMI, 0);
	call(cpu, KVM_GET_VCPU_EVENTS, &events);
	ok(events.nmi.pending, "one that no KVM_RUN has seen is reported");
	events.nmi.pending = 0;
	events.flags |= KVM_VCPUEVENT_VALID_NMI_PENDING;
	is_int(call(cpu, KVM_SET_VCPU_EVENTS, &events), 0, "and can be taken back");
	is_int(next_out(), 0x92, "before it is served");
}

static void *kick_later(void *arg)
{
	(void)arg;
	usleep(50000);
	run->immediate_exit = 1;
	softkvm_kick(cpu);
	return NULL;
}

static void test_kick(void)
{
	pthread_t t;

	start(CODE(0xeb, 0xfe));
	pthread_create(&t, NULL, kick_later, NULL);
	is_int(call(cpu, KVM_RUN, 0), -EINTR, "an endless loop ends with a kick");
	is_int(run->exit_reason, KVM_EXIT_INTR, "exit reason");
	pthread_join(t, NULL);
	run->exit_reason = 77;
	is_int(call(cpu, KVM_RUN, 0), -EINTR, "immediate_exit");
	is_int(run->exit_reason, 77, "leaves the reason as it was");
	run->immediate_exit = 0;
}

/* A client that stops the vCPU while it serves an exit: what has begun is ended, and no more of it begins. */
static void test_kick_in_rep(void)
{
	struct kvm_regs g;

	start(CODE(0xf3, 0x6e, 0xf4)); /* rep outsb */
	call(cpu, KVM_GET_REGS, &g);
	g.rcx = 0xffff;
	g.rsi = 0;
	g.rdx = 0x80;
	call(cpu, KVM_SET_REGS, &g);
	is_int(call(cpu, KVM_RUN, 0), 0, "a long instruction");
	is_int(run->exit_reason, KVM_EXIT_IO, "exits");
	softkvm_kick(cpu);
	run->immediate_exit = 1;
	is_int(call(cpu, KVM_RUN, 0), -EINTR, "kicked meanwhile, it does not go on");
	run->immediate_exit = 0;
	call(cpu, KVM_GET_REGS, &g);
	is_int((long long)g.rcx, 0xffff - run->io.count, "and has done what it had begun");
	is_int(call(cpu, KVM_RUN, 0), 0, "it does later");
	ok(run->exit_reason == KVM_EXIT_IO || run->exit_reason == KVM_EXIT_MMIO, "by the next exit"); /* its bytes may be nobody's memory */
}

static uint64_t host_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void test_clock(void)
{
	struct kvm_clock_data a, b;
	uint64_t start = host_ns(), now;

	is_int(call(vm, KVM_GET_CLOCK, &a), 0, "the clock");
	usleep(2000);
	call(vm, KVM_GET_CLOCK, &b);
	now = host_ns();
	ok(b.clock - a.clock >= 2000000 && b.clock - a.clock < now - start + 1000000, "runs");
	a = (struct kvm_clock_data){.clock = 77000000000ull};
	start = host_ns();
	is_int(call(vm, KVM_SET_CLOCK, &a), 0, "is set");
	call(vm, KVM_GET_CLOCK, &b);
	now = host_ns();
	ok(b.clock >= a.clock && b.clock - a.clock < now - start + 1000000, "runs from there");
	is_int(b.flags & 0xe, 0xe, "with the host's time and TSC");
	call(vm, KVM_GET_CLOCK, &a);
	ok(a.host_tsc > b.host_tsc && a.realtime >= b.realtime, "which go on");
	a.flags = KVM_CLOCK_REALTIME;
	a.realtime -= 5000000000ull;
	is_int(call(vm, KVM_SET_CLOCK, &a), 0, "is set to what it was five seconds ago");
	call(vm, KVM_GET_CLOCK, &b);
	ok(b.clock - a.clock >= 5000000000ull, "has gone on since");
}

static void test_stats(void)
{
	struct softkvm_stat stats[64];
	int n = softkvm_stats(cpu, stats, 64);

	if (by_system)
		return;
	ok(n > 10 && n < 64, "%d counters", n);
	is_str(stats[0].name, "runs", "the first");
	ok(stats[0].value >= 8, "counted");
	is_int(softkvm_stats(vm, NULL, 0), n, "as many of the VM");
	is_int(softkvm_stats(sys, NULL, 0), -EINVAL, "none of the system");
}

static unsigned long long counter(const char *name)
{
	struct softkvm_stat stats[64];
	int n = softkvm_stats(cpu, stats, 64);

	for (int i = 0; i < n; i++)
		if (!strcmp(stats[i].name, name))
			return stats[i].value;
	return 0;
}

/* Without paging, code is compared at each KVM_RUN; data is not looked for anew. */
static void test_unpaged(void)
{
	struct kvm_sregs real, flat;
	unsigned long long before;
	unsigned seen = 0;

	call(cpu, KVM_GET_SREGS, &real);
	start(CODE(0xff, 0x05, 0, 0x30, 0, 0, 0xb0, 1, 0xe6, 0x80, 0xeb, 0xf4)); /* inc dword [3000h]; mov al, 1; out 80h, al; again */
	call(cpu, KVM_GET_SREGS, &flat);
	flat.cr0 |= 1;
	flat.ds.base = flat.es.base = flat.ss.base = 0;
	flat.ds.limit = flat.es.limit = flat.ss.limit = flat.fs.limit = flat.gs.limit = flat.cs.limit = ~0u;
	flat.cs.g = flat.ss.g = flat.ds.g = flat.es.g = flat.cs.db = flat.ss.db = 1;
	call(cpu, KVM_SET_SREGS, &flat);
	for (int i = 0; i < 4; i++)
		next_out();
	before = counter("tlb_fills");
	for (int i = 0; i < 40; i++) {
		ram[0x1007] = (uint8_t)i;
		seen += next_out() == 0x80 && ((uint8_t *)run)[run->io.data_offset] == i;
	}
	is_int(seen, 40, "code that the client rewrites between two KVM_RUN is what runs");
	is_int(counter("tlb_fills"), before, "and what it stores to is known");
	call(cpu, KVM_SET_SREGS, &real);
}

static uint64_t tsc_of(int fd)
{
	union {
		struct kvm_msrs head;
		uint8_t room[sizeof(struct kvm_msrs) + sizeof(struct kvm_msr_entry)];
	} m = {.head.nmsrs = 1};

	m.head.entries[0].index = 0x10;
	return call(fd, KVM_GET_MSRS, &m) == 1 ? m.head.entries[0].data : 0;
}

/* A VM's TSC begins at 0 with its first vCPU; the others are in step. */
static void test_tsc(void)
{
	uint64_t begin = __builtin_ia32_rdtsc(), first, second, later;
	int v = call(sys, KVM_CREATE_VM, 0), c0 = call(v, KVM_CREATE_VCPU, 0), c1;

	first = tsc_of(c0);
	c1 = call(v, KVM_CREATE_VCPU, ARG(1));
	second = tsc_of(c1);
	later = tsc_of(c0);
	ok(first <= __builtin_ia32_rdtsc() - begin, "a new VM's TSC counts from 0");
	ok(first <= second && second <= later, "for all its vCPUs");
	softkvm_close(c1);
	softkvm_close(c0);
	softkvm_close(v);
}

/* What changes as the guest runs is in KVM_GET_CPUID2 as it is now. */
static void test_cpuid_now(void)
{
	struct {
		struct kvm_cpuid2 head;
		struct kvm_cpuid_entry2 entry[128];
	} list = {.head.nent = 128};
	int v = call(sys, KVM_CREATE_VM, 0), c0 = call(v, KVM_CREATE_VCPU, 0), at = -1;
	struct kvm_sregs s;

	call(sys, KVM_GET_SUPPORTED_CPUID, &list);
	is_int(call(c0, KVM_SET_CPUID2, &list), 0, "CPUID is set");
	for (unsigned i = 0; i < list.head.nent; i++)
		if (list.entry[i].function == 1)
			at = (int)i;
	call(c0, KVM_GET_SREGS, &s);
	s.cr4 |= 3;
	is_int(call(c0, KVM_SET_SREGS, &s), 0, "CR4.VME and PVI can be set");
	if (at < 0 || !(list.entry[at].ecx >> 26 & 1)) {
		skip("no XSAVE here");
	} else {
		is_int(call(c0, KVM_GET_CPUID2, &list), 0, "and got");
		is_int(list.entry[at].ecx >> 27 & 1, 0, "OSXSAVE is CR4's");
		s.cr4 |= 1 << 18;
		call(c0, KVM_SET_SREGS, &s);
		call(c0, KVM_GET_CPUID2, &list);
		is_int(list.entry[at].ecx >> 27 & 1, 1, "when that changes, too");
	}
	softkvm_close(c0);
	softkvm_close(v);
}

static void test_irqchip(void)
{
	struct kvm_irq_level level = {.irq = 5, .level = 1};
	struct kvm_irqchip chip = {.chip_id = KVM_IRQCHIP_IOAPIC};
	struct kvm_lapic_state lapic;
	struct kvm_mp_state mp;
	struct kvm_pit_state2 pit;
	int v = call(sys, KVM_CREATE_VM, 0), c0, c1, fd;

	is_int(call(v, KVM_IRQ_LINE, &level), -ENXIO, "no line without an irqchip");
	is_int(call(v, KVM_CREATE_IRQCHIP, 0), 0, "an irqchip");
	is_int(call(v, KVM_CREATE_IRQCHIP, 0), -EEXIST, "one only");
	is_int(call(v, KVM_CREATE_PIT2, &(struct kvm_pit_config){0}), 0, "a PIT");
	is_int(call(v, KVM_GET_PIT2, &pit), 0, "its state");
	c0 = call(v, KVM_CREATE_VCPU, 0);
	c1 = call(v, KVM_CREATE_VCPU, ARG(1));
	ok(c0 >= 0 && c1 >= 0, "two vCPUs");
	call(c0, KVM_GET_MP_STATE, &mp);
	is_int(mp.mp_state, KVM_MP_STATE_RUNNABLE, "the first runs");
	call(c1, KVM_GET_MP_STATE, &mp);
	is_int(mp.mp_state, KVM_MP_STATE_UNINITIALIZED, "the second waits");
	is_int(call(c1, KVM_GET_LAPIC, &lapic), 0, "a local APIC");
	is_int(*(uint32_t *)(lapic.regs + 0x20), 1 << 24, "its id");
	is_int(call(c1, KVM_SET_LAPIC, &lapic), 0, "and back");
	is_int(call(v, KVM_IRQ_LINE, &level), 0, "a line up");
	is_int(call(v, KVM_GET_IRQCHIP, &chip), 0, "the IOAPIC's state");
	is_int(call(c0, KVM_INTERRUPT, &(struct kvm_interrupt){.irq = 32}), -ENXIO,
	       "no injection beside it");
	fd = eventfd(0, EFD_CLOEXEC);
	is_int(call(v, KVM_IRQFD, &(struct kvm_irqfd){.fd = (uint32_t)fd, .gsi = 4}), 0, "irqfd");
	is_int(call(v, KVM_IOEVENTFD, &(struct kvm_ioeventfd){.fd = fd, .addr = 0x5000, .len = 4}),
	       0, "ioeventfd");
	close(fd);

	/* Any order: the VM's descriptor first. */
	is_int(softkvm_close(v), 0, "the VM's descriptor closes");
	is_int(call(c0, KVM_GET_MP_STATE, &mp), 0, "its vCPUs live on");
	is_int(softkvm_close(c0), 0, "one vCPU");
	is_int(call(c1, KVM_GET_MP_STATE, &mp), 0, "the other lives on");
	is_int(softkvm_close(c1), 0, "the last");
	is_int(softkvm_close(c1), -EBADF, "not twice");
}

/* A real-mode guest that ticks at port 99, by the PIT, and loops. */
static int open_ticking(struct kvm_userspace_memory_region region)
{
	static const uint8_t code[] = {
		0xb0, 0x34, 0xe6, 0x43, 0xb0, 0xff, 0xe6, 0x40, 0xe6, 0x40, /* channel 0, mode 2 */
		0xfb, 0xeb, 0xfe,                                           /* sti; jmp $ */
		0xe6, 0x99, 0xb0, 0x20, 0xe6, 0x20, 0xcf};                  /* out; EOI; iret */
	const uint32_t vector_0 = 0x7000 + 13;
	struct kvm_regs regs = {.rip = 0x7000, .rsp = 0x6000, .rflags = 2};
	struct kvm_sregs sregs;
	int v = call(sys, KVM_CREATE_VM, 0), c;

	memcpy(ram, &vector_0, 4);
	memcpy(ram + 0x7000, code, sizeof(code));
	call(v, KVM_SET_USER_MEMORY_REGION, &region);
	call(v, KVM_CREATE_IRQCHIP, 0);
	call(v, KVM_CREATE_PIT2, &(struct kvm_pit_config){0});
	c = call(v, KVM_CREATE_VCPU, 0);
	softkvm_close(v);
	call(c, KVM_GET_SREGS, &sregs);
	sregs.cs.base = sregs.cs.selector = 0;
	call(c, KVM_SET_SREGS, &sregs);
	call(c, KVM_SET_REGS, &regs);
	return c;
}

static int ticking, ticked;
static pid_t wanted;

/* Only the thread that is wanted: any if that is 0. */
static void *tick(void *arg)
{
	pid_t tid = (pid_t)syscall(SYS_gettid);

	(void)arg;
	if (wanted && tid != wanted)
		return NULL;
	wanted = tid;
	ticked += call(ticking, KVM_RUN, 0) == 0;
	return NULL;
}

/* The next thread or process gets this number, if nobody else comes in between. */
static bool ask_for_number(pid_t tid)
{
	FILE *f = fopen("/proc/sys/kernel/ns_last_pid", "we");
	bool fine = f && fprintf(f, "%d", (int)tid - 1) > 0;

	if (f)
		fine &= fclose(f) == 0;
	return fine;
}

/* A thread may get the number of one that has ended; the vCPU's timer is not its timer. Where it is
 * taken for it this test never ends. */
static void test_number_again(void)
{
	pthread_t t;

	ticking = open_ticking((struct kvm_userspace_memory_region){
		.memory_size = MiB, .userspace_addr = (uintptr_t)ram});
	for (int i = 0; i < 1000 && ticked < 2; i++) {
		if (wanted && !ask_for_number(wanted))
			break;
		pthread_create(&t, NULL, tick, NULL);
		pthread_join(t, NULL);
	}
	if (ticked == 1)
		skip("this user may not say which number the next thread gets");
	else
		is_int(ticked, 2, "ticks in two threads of one number, one after the other");
	softkvm_close(ticking);
}

/* Threads open and close while others look up the same numbers. */
static _Atomic int stop;

static void *look(void *arg)
{
	(void)arg;
	while (!stop) {
		for (int fd = 3; fd < 40; fd++)
			softkvm_ioctl(fd, KVM_CHECK_EXTENSION, ARG(KVM_CAP_IRQCHIP));
	}
	return NULL;
}

/* A duplicate is as good as the original, which may be closed. */
static void test_dup(void)
{
	int copy;

	if (!by_system)
		return; /* only the preload library sees dup() */
	copy = dup(sys);
	is_int(call(copy, KVM_GET_API_VERSION, 0), 12, "a duplicate works");
	is_int(dup2(sys, copy), copy, "onto itself");
	is_int(dup2(7777, copy), -1, "a duplicate of nothing");
	is_int(call(copy, KVM_GET_API_VERSION, 0), 12, "leaves what was there");
	is_int(dup3(1, copy, O_CLOEXEC), copy, "another file in its place");
	is_int(call(copy, KVM_GET_API_VERSION, 0), -ENOTTY, "is what is there now");
	is_int(softkvm_close(copy), 0, "closes");
	copy = fcntl(sys, F_DUPFD_CLOEXEC, 100);
	is_int(call(copy, KVM_GET_API_VERSION, 0), 12, "one by fcntl()");
	is_int(fcntl(copy, F_GETFD), FD_CLOEXEC, "with its flag");
	is_int(fcntl(copy, F_SETFD, 0), 0, "which can be changed");
	is_int(softkvm_close(copy), 0, "closes, too");
	is_int(call(sys, KVM_GET_API_VERSION, 0), 12, "the original works on");
}

static void test_races(void)
{
	pthread_t t;
	int bad = 0;

	pthread_create(&t, NULL, look, NULL);
	for (int i = 0; i < 200; i++) {
		int s = softkvm_open(), v = call(s, KVM_CREATE_VM, 0);

		bad += s < 0 || v < 0;
		bad += softkvm_close(s) != 0;
		bad += softkvm_close(v) != 0;
	}
	stop = 1;
	pthread_join(t, NULL);
	is_int(bad, 0, "opening and closing beside look-ups");
}

int main(void)
{
	test_system();
	test_ids();
	test_vm();
	test_registers();
	test_run();
	test_interrupt();
	test_nmi();
	test_kick();
	test_kick_in_rep();
	test_clock();
	test_stats();
	test_unpaged();
	test_tsc();
	test_cpuid_now();
	test_irqchip();
	test_dup();
	test_number_again();
	test_races();
	is_int(softkvm_munmap(run, 12288), 0, "unmaps");
	is_int(softkvm_close(cpu), 0, "closes the vCPU");
	is_int(softkvm_close(sys), 0, "the system");
	is_int(softkvm_close(vm), 0, "the VM");
	return done_testing();
}

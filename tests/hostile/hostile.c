/* SPDX-License-Identifier: MIT */
/*
 * See hostile.h. The alarms in detail:
 *
 * Host faults. The engine's handler takes SIGSEGV; ours stands before it and looks where the
 * access went. The kernel gives an address for what is not mapped, and none (SI_KERNEL) for what
 * is not canonical. Translated code may only do the latter (docs/why/tlb.md, point 3).
 *
 * System calls. The filter compares the instruction's address with the ranges of the code caches,
 * which are mappings of memfd:lodge-code.
 */
#include "tests/hostile/hostile.h"

#include <asm/prctl.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "softkvm/run/gsbase.h"
#include "softkvm/softkvm.h"
#include "softkvm/state/xsave.h"

enum paging { FLAT, LEGACY, PAE, LONG };

static const struct {
	const char *name;
	uint16_t cs;
	bool user;
	enum paging paging;
} modes[MODES] = {
	[LONG_RING0] = {"64-bit ring 0", SEL_CODE64, false, LONG},
	[LONG_RING3] = {"64-bit ring 3", SEL_USER64, true, LONG},
	[COMPAT_RING3] = {"32-bit ring 3 in long mode", SEL_USER32, true, LONG},
	[PROTECTED_RING0] = {"protected mode ring 0", SEL_CODE32, false, FLAT},
	[PROTECTED_RING3] = {"protected mode ring 3", SEL_USER32, true, FLAT},
	[PROTECTED_16] = {"16-bit protected mode", SEL_CODE16, false, FLAT},
	[PAGED_RING0] = {"32-bit paging ring 0", SEL_CODE32, false, LEGACY},
	[PAGED_RING3] = {"32-bit paging ring 3", SEL_USER32, true, LEGACY},
	[PAE_RING0] = {"PAE paging ring 0", SEL_CODE32, false, PAE},
	[PAE_RING3] = {"PAE paging ring 3", SEL_USER32, true, PAE},
	[REAL] = {"real mode", CODE_AT >> 4, false, FLAT},
};

const char *mode_name(enum mode mode)
{
	return modes[mode].name;
}

static struct enemy *enemies[16];
static unsigned n_enemies;

/* -- Numbers --------------------------------------------------------------------------------- */

/* HOSTILE_SEED, of `make hostile`; else the same every time. */
static uint64_t first_seed(void)
{
	const char *seed = getenv("HOSTILE_SEED");

	return 88172645463325252u ^ (seed ? strtoull(seed, NULL, 10) << 20 : 0);
}

uint64_t rnd(struct enemy *e)
{
	e->rng ^= e->rng << 13;
	e->rng ^= e->rng >> 7;
	e->rng ^= e->rng << 17;
	return e->rng * 0x2545f4914f6cdd1d;
}

unsigned below(struct enemy *e, unsigned n)
{
	return (unsigned)((rnd(e) >> 32) * n >> 32);
}

uint64_t nasty(struct enemy *e)
{
	static const uint64_t edges[] = {
		0, RAM_SIZE, HIGH_AT, HIGH_AT + HIGH_SIZE, ROM_AT, ROM_AT + ROM_SIZE, CODE_AT,
		1ull << 32, 1ull << 47, 0xffff800000000000, PML4_AT, IDT_AT, 0x400300, 0x600000,
	};
	uint64_t in_ram = below(e, RAM_SIZE);

	switch (below(e, 10)) {
	case 0: return rnd(e);
	case 1: return edges[below(e, sizeof(edges) / sizeof(*edges))] - below(e, 80) + 16;
	case 2: return in_ram | 1ull << (47 + below(e, 17));
	case 3: return in_ram | rnd(e) << 48;
	case 4: return below(e, 256);
	case 5: return -(uint64_t)below(e, 256);
	case 6: return (in_ram & ~4095ull) - below(e, 64);
	default: return in_ram & ~7ull;
	}
}

void wait_us(unsigned us)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	t.tv_nsec += (long)(us % 1000000) * 1000;
	t.tv_sec += us / 1000000 + t.tv_nsec / 1000000000;
	t.tv_nsec %= 1000000000;
	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
		;
}

/* -- Alarms: host faults --------------------------------------------------------------------------- */

static struct range {
	uint64_t from, to;
	bool is_code;
} ranges[64];
static unsigned n_ranges;
static struct sigaction engines_handler;
static volatile uint64_t wild_address;
static volatile unsigned wild;

static bool in_range(uint64_t at, bool code_only)
{
	for (unsigned i = 0; i < n_ranges; i++)
		if (at >= ranges[i].from && at < ranges[i].to && (ranges[i].is_code || !code_only))
			return true;
	return false;
}

static void on_fault(int sig, siginfo_t *info, void *context)
{
	const ucontext_t *uc = context;
	uint64_t at = (uintptr_t)info->si_addr;

	if (info->si_code != SI_KERNEL && at < 1ull << 47 && !gs_in_window(at) &&
	    in_range((uint64_t)uc->uc_mcontext.gregs[REG_RIP], true)) {
		wild_address = at;
		wild++;
	}
	engines_handler.sa_sigaction(sig, info, context);
}

/* What of the address space is the engine's; the views of RAM have no name, so they are found by
 * the memory they show. */
static void read_maps(void)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[512];

	n_ranges = 0;
	while (maps && fgets(line, sizeof(line), maps) && n_ranges < 64) {
		unsigned long long from, to;
		char prot[5];

		if (sscanf(line, "%llx-%llx %4s", &from, &to, prot) != 3)
			continue;
		if (strstr(line, "lodge-code") || (strstr(line, "/dev/zero") && prot[3] == 's') ||
		    strstr(line, "softkvm-ram") || strstr(line, "enemy-ram"))
			ranges[n_ranges++] = (struct range){
				from, to, strstr(line, "lodge-code") && prot[2] == 'x'};
	}
	if (maps)
		fclose(maps);
}

/* -- Alarms: system calls -------------------------------------------------------------------------- */

static void on_syscall(int sig, siginfo_t *info, void *context)
{
	(void)sig;
	(void)context;
	printf("not ok 1 - system call %d at %p\n1..1\n", info->si_syscall, info->si_call_addr);
	fflush(stdout);
	_exit(1);
}

static bool filter_syscalls(void)
{
	struct sock_filter code[200];
	struct sock_fprog prog = {.filter = code};
	unsigned n = 0;

#define PUT(...) code[n++] = (struct sock_filter)__VA_ARGS__
	for (unsigned i = 0; i < n_ranges && n < 150; i++) {
		const struct range *r = &ranges[i];

		if (!r->is_code || r->from >> 32 != r->to >> 32)
			continue;
		PUT(BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
			     offsetof(struct seccomp_data, instruction_pointer) + 4));
		PUT(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(r->from >> 32), 0, 4));
		PUT(BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
			     offsetof(struct seccomp_data, instruction_pointer)));
		PUT(BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, (uint32_t)r->from, 0, 2));
		PUT(BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, (uint32_t)r->to, 1, 0));
		PUT(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP));
	}
	PUT(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)));
	PUT(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mmap, 2, 0));
	PUT(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mprotect, 1, 0));
	PUT(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_pkey_mprotect, 0, 4));
	PUT(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])));
	PUT(BPF_STMT(BPF_ALU | BPF_AND | BPF_K, PROT_WRITE | PROT_EXEC));
	PUT(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PROT_WRITE | PROT_EXEC, 0, 1));
	PUT(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP));
	PUT(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
#undef PUT
	prog.len = (unsigned short)n;
	return !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) &&
	       !syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &prog);
}

/* -- Alarms: the watchdog ---------------------------------------------------------------------------- */

static volatile unsigned limit_of_ticks = 20;

static void on_tick(int sig)
{
	(void)sig;
	for (unsigned i = 0; i < n_enemies; i++)
		for (int k = 0; k < enemies[i]->n_cpus; k++) {
			struct cpu *c = &enemies[i]->cpu[k];

			if (!c->inside || ++c->ticks < limit_of_ticks)
				continue;
			c->run->immediate_exit = 1;
			softkvm_kick(c->fd);
		}
}

void alarms_arm(void)
{
	struct sigaction sa = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
	struct sigaction sys = {.sa_sigaction = on_syscall, .sa_flags = SA_SIGINFO};
	struct sigaction tick = {.sa_handler = on_tick, .sa_flags = SA_RESTART};
	struct itimerval t = {{0, 1000}, {0, 1000}};

	read_maps();
	sigaction(SIGSEGV, &sa, &engines_handler);
	sigaction(SIGSYS, &sys, NULL);
	sigaction(SIGALRM, &tick, NULL);
	if (!filter_syscalls())
		printf("# no filter for system calls: %s\n", strerror(errno));
	setitimer(ITIMER_REAL, &t, NULL);
}

/* -- Memory ------------------------------------------------------------------------------------------- */

enum { CANARIES = 4, ALL = CANARIES * PAGE + RAM_SIZE + HIGH_SIZE + ROM_SIZE };

static uint8_t *canary(const struct enemy *e, unsigned i)
{
	uint8_t *const at[CANARIES] = {e->all, e->high - PAGE, e->rom - PAGE, e->rom + ROM_SIZE};

	return at[i];
}

static uint64_t rom_word(unsigned i)
{
	return (i + 1) * 0x9e3779b97f4a7c15;
}

static void make_memory(struct enemy *e)
{
	int fd = memfd_create("enemy-ram", MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, ALL) < 0)
		abort();
	e->all = mmap(NULL, ALL, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	e->ram = e->all + PAGE;
	e->high = e->ram + RAM_SIZE + PAGE;
	e->rom = e->high + HIGH_SIZE + PAGE;
	e->secret[0] = rnd(e) | 1;
	e->secret[1] = rnd(e) | 1;
	for (unsigned i = 0; i < CANARIES; i++)
		for (unsigned k = 0; k < PAGE; k += 16)
			memcpy(canary(e, i) + k, e->secret, 16);
	for (unsigned i = 0; i < ROM_SIZE / 8; i++) {
		uint64_t v = rom_word(i);

		memcpy(e->rom + 8 * i, &v, 8);
	}
}

static void put64(struct enemy *e, uint32_t at, uint64_t v)
{
	memcpy(e->ram + at, &v, 8);
}

static uint64_t gate(uint64_t to, unsigned selector, unsigned type)
{
	return (to & 0xffff) | (uint64_t)selector << 16 | (uint64_t)type << 40 |
	       (to >> 16 & 0xffff) << 48;
}

static bool has_code(unsigned vector)
{
	return vector == 8 || (vector >= 10 && vector <= 14) || vector == 17;
}

#define HANDLER_STEP 32u
#define HANDLERS32_AT (HANDLERS_AT + 32 * HANDLER_STEP)

/* RIP in the frame one further, and inside the code. */
static void make_handler(struct enemy *e, unsigned v)
{
	static const uint8_t go_on64[] = {
		0xff, 0x04, 0x24,                             /* inc dword [rsp] */
		0x81, 0x24, 0x24, 0xff, 0xff, 0, 0,           /* and dword [rsp], 0xffff */
		0x81, 0x0c, 0x24, 0, 0, 1, 0,                 /* or dword [rsp], 0x10000 */
		0xc7, 0x44, 0x24, 4, 0, 0, 0, 0, 0x48, 0xcf}; /* mov dword [rsp+4], 0; iretq */
	uint8_t *h = e->ram + HANDLERS_AT + v * HANDLER_STEP;
	uint8_t *h32 = e->ram + HANDLERS32_AT + v * HANDLER_STEP;

	if (has_code(v)) {
		memcpy(h, "\x48\x83\xc4\x08", 4); /* add rsp, 8 */
		memcpy(h32, "\x83\xc4\x04", 3);   /* add esp, 4 */
		h += 4;
		h32 += 3;
	}
	memcpy(h, go_on64, sizeof(go_on64));
	memcpy(h32, go_on64, 17);
	h32[17] = 0xcf; /* iretd */
}

/* 4 MiB, or twice 2, as they lie; then anything. */
static void make_tables32(struct enemy *e)
{
	for (unsigned at = 0; at < PAGE; at += 8) {
		uint64_t v = rnd(e);

		put64(e, PD32_AT + at, (v & 0x000fffff000fffff) | 0x100000001);
		put64(e, PAE_PD_AT + at, below(e, 4) ? v & 0x3fffff : v);
		put64(e, PAE_PDPT_AT + at, v & ~0x1e6ull);
	}
	put64(e, PD32_AT, 0xe7 | (uint64_t)0xe7 << 32);
	put64(e, PAE_PDPT_AT, PAE_PD_AT | 1);
	put64(e, PAE_PD_AT, 0xe7);
	put64(e, PAE_PD_AT + 8, HIGH_AT | 0xe7);
}

void enemy_reset(struct enemy *e)
{
	static const struct {
		unsigned at;
		uint64_t value;
	} gdt[] = {
		{SEL_CODE64, 0x00af9b000000ffff}, {SEL_DATA, 0x00cf93000000ffff},
		{SEL_CODE32, 0x00cf9b000000ffff}, {SEL_USER32 & ~7, 0x00cffb000000ffff},
		{SEL_USER_DATA & ~7, 0x00cff3000000ffff}, {SEL_USER64 & ~7, 0x00affb000000ffff},
		{SEL_CODE16, 0x00009b000000ffff}, {SEL_TSS, 0x00008b0030000067},
	};

	memset(e->ram + GDT_AT, 0, 0x1000);
	memset(e->ram + TSS_AT, 0, 0x800);
	for (unsigned i = 0; i < sizeof(gdt) / sizeof(gdt[0]); i++)
		put64(e, GDT_AT + gdt[i].at, gdt[i].value);
	for (unsigned v = 0; v < 256; v++) { /* of the last 224 only the descriptors */
		uint64_t to = HANDLERS_AT + (v & 31) * HANDLER_STEP;

		put64(e, IDT_AT + v * 16,
		      gate(to, SEL_CODE64, 0x8e | (v == 3 ? 0x60 : 0)) | 1ull << 32); /* IST1 */
		put64(e, IDT_AT + v * 16 + 8, 0);
		if (v < 32) {
			put64(e, IDT32_AT + v * 8,
			      gate(HANDLERS32_AT + v * HANDLER_STEP, SEL_CODE32, 0x8e));
			make_handler(e, v);
		}
	}
	put64(e, TSS_AT + 4, STACK0_AT); /* RSP0; in 32-bit mode ESP0 and SS0 */
	put64(e, TSS_AT + 0x24, STACK0_AT); /* IST1: any RSP will do */
	for (unsigned at = PML4_AT; at < HANDLERS_AT; at += 8)
		put64(e, at, 0);
	make_tables32(e);
	put64(e, PML4_AT, PDPT_AT | 7);
	put64(e, PDPT_AT, PD_AT | 7);
	put64(e, PD_AT, 0x87 | 0x60);              /* 2 MiB: RAM, then nothing */
	put64(e, PD_AT + 8, HIGH_AT | 0x87 | 0x60); /* high RAM, ROM, nothing */
	put64(e, PD_AT + 16, 0xfee00000 | 0x87);    /* local APIC */
	put64(e, PD_AT + 24, 0xfec00000 | 0x87);    /* I/O APIC */
}

/* -- The VM ---------------------------------------------------------------------------------------------- */

static void must(int rc, const char *what)
{
	if (rc >= 0)
		return;
	printf("Bail out! %s: %s\n", what, strerror(-rc));
	exit(1);
}

static void add_slot(struct enemy *e, unsigned id, uint64_t gpa, uint8_t *at, uint64_t size,
		     uint32_t flags)
{
	struct kvm_userspace_memory_region r = {
		.slot = id, .flags = flags, .guest_phys_addr = gpa, .memory_size = size,
		.userspace_addr = (uintptr_t)at};

	must(softkvm_ioctl(e->vm, KVM_SET_USER_MEMORY_REGION, &r), "memory");
}

/* A client may choose any. These have their low five bits in common, so that an engine that goes by
 * less than the whole id takes one vCPU for another. */
#define CPU_ID(n) ((void *)(uintptr_t)((n) * 32))

static void add_cpu(struct enemy *e, int n)
{
	static struct {
		struct kvm_cpuid2 head;
		struct kvm_cpuid_entry2 entry[256];
	} cpuid;
	struct cpu *c = &e->cpu[n];

	cpuid.head.nent = 256;
	must(c->fd = softkvm_ioctl(e->vm, KVM_CREATE_VCPU, CPU_ID(n)), "a vCPU");
	c->run = softkvm_mmap(c->fd, e->run_len, 0);
	if (c->run == MAP_FAILED)
		must(-ENOMEM, "kvm_run");
	must(softkvm_ioctl(e->sys, KVM_GET_SUPPORTED_CPUID, &cpuid), "CPUID");
	must(softkvm_ioctl(c->fd, KVM_SET_CPUID2, &cpuid), "CPUID");
}

struct enemy *enemy_create(const char *knobs, int cpus, bool irqchip)
{
	struct enemy *e = calloc(1, sizeof(*e));

	if (!e)
		abort();
	e->knobs = knobs;
	e->rng = first_seed() + n_enemies;
	make_memory(e);
	setenv("SOFTKVM", knobs, 1);
	must(e->sys = softkvm_open(), "softkvm");
	must(e->vm = softkvm_ioctl(e->sys, KVM_CREATE_VM, NULL), "a VM");
	add_slot(e, 0, 0, e->ram, RAM_SIZE, 0);
	add_slot(e, 1, HIGH_AT, e->high, HIGH_SIZE, 0);
	add_slot(e, 2, ROM_AT, e->rom, ROM_SIZE, KVM_MEM_READONLY);
	if (irqchip)
		must(softkvm_ioctl(e->vm, KVM_CREATE_IRQCHIP, NULL), "KVM_CREATE_IRQCHIP");
	e->run_len = (size_t)softkvm_ioctl(e->sys, KVM_GET_VCPU_MMAP_SIZE, NULL);
	for (e->n_cpus = 0; e->n_cpus < cpus; e->n_cpus++)
		add_cpu(e, e->n_cpus);
	unsetenv("SOFTKVM");
	enemies[n_enemies++] = e;
	return e;
}

void enemy_destroy(struct enemy *e)
{
	for (unsigned i = 0; i < n_enemies; i++)
		if (enemies[i] == e)
			enemies[i] = enemies[--n_enemies];
	for (int n = 0; n < e->n_cpus; n++) {
		softkvm_munmap(e->cpu[n].run, e->run_len);
		softkvm_close(e->cpu[n].fd);
	}
	softkvm_close(e->vm);
	softkvm_close(e->sys);
	munmap(e->all, ALL);
	free(e);
}

/* -- The start --------------------------------------------------------------------------------------------- */

static struct kvm_segment segment(uint16_t selector, uint8_t type, bool l, bool db)
{
	return (struct kvm_segment){.selector = selector, .limit = ~0u, .type = type, .present = 1,
				    .dpl = selector & 3, .db = db, .s = 1, .l = l, .g = 1};
}

static void set_segments(struct kvm_sregs *s, enum mode mode)
{
	bool is_long = mode == LONG_RING0 || mode == LONG_RING3;
	struct kvm_segment data = segment(modes[mode].user ? SEL_USER_DATA : SEL_DATA, 3, false,
					  true);

	s->cs = segment(modes[mode].cs, 11, is_long, !is_long && mode != PROTECTED_16);
	if (mode == PROTECTED_16)
		s->cs.limit = 0xfffff;
	if (mode == REAL) {
		s->cs = (struct kvm_segment){.selector = CODE_AT >> 4, .base = CODE_AT,
					     .limit = 0xffff, .type = 11, .present = 1, .s = 1};
		data = (struct kvm_segment){.limit = 0xffff, .type = 3, .present = 1, .s = 1};
	}
	s->ds = s->es = s->fs = s->gs = s->ss = data;
	s->tr = (struct kvm_segment){.selector = SEL_TSS, .base = TSS_AT, .limit = 0x67, .type = 11,
				     .present = 1};
	s->ldt = (struct kvm_segment){.unusable = 1};
}

static void set_sregs(struct enemy *e, int n, enum mode mode)
{
	static const uint64_t cr3[] = {0, PD32_AT, PAE_PDPT_AT, PML4_AT};
	static const uint64_t cr4[] = {0x50688, 0x50698, 0x506a8, 0x506a8};
	static const uint64_t efer[] = {0, 0, 0x800, 0xd01};
	enum paging paging = modes[mode].paging;
	struct kvm_sregs s;

	must(softkvm_ioctl(e->cpu[n].fd, KVM_GET_SREGS, &s), "KVM_GET_SREGS");
	s.cr0 = mode == REAL ? 0x10 : paging ? 0x80050033 : 0x33;
	s.cr2 = 0;
	s.cr3 = cr3[paging];
	s.cr4 = vec_has_xsave() ? cr4[paging] : cr4[paging] & ~0x40000ull; /* OSXSAVE */
	s.efer = efer[paging];
	s.gdt = (struct kvm_dtable){.base = GDT_AT, .limit = 0x7f};
	s.idt = (struct kvm_dtable){.base = IDT_AT, .limit = 0xfff};
	if (mode == REAL)
		s.idt = (struct kvm_dtable){.base = 0, .limit = 0x3ff};
	else if (paging != LONG)
		s.idt = (struct kvm_dtable){.base = IDT32_AT, .limit = 0xff};
	set_segments(&s, mode);
	memset(s.interrupt_bitmap, 0, sizeof(s.interrupt_bitmap));
	must(softkvm_ioctl(e->cpu[n].fd, KVM_SET_SREGS, &s), "KVM_SET_SREGS");
}

void enemy_start(struct enemy *e, int n, enum mode mode, uint32_t entry)
{
	struct kvm_regs r;
	uint64_t *gpr = (uint64_t *)&r;
	struct kvm_xcrs xcrs = {.nr_xcrs = 1};
	struct kvm_vcpu_events ev = {0};
	struct kvm_mp_state runnable = {KVM_MP_STATE_RUNNABLE};
	struct kvm_debugregs dr = {.dr6 = 0xffff0ff0, .dr7 = 0x400};

	for (unsigned i = 0; i < 16; i++)
		gpr[i] = nasty(e);
	r.rsp = below(e, 4) ? STACK3_AT - 8 * below(e, 64) : r.rsp;
	r.rip = mode == REAL ? entry : CODE_AT + entry;
	r.rflags = 2 | (rnd(e) & 0x8d5);
	softkvm_ioctl(e->cpu[n].fd, KVM_SET_VCPU_EVENTS, &ev);
	softkvm_ioctl(e->cpu[n].fd, KVM_SET_MP_STATE, &runnable);
	must(softkvm_ioctl(e->cpu[n].fd, KVM_SET_DEBUGREGS, &dr), "KVM_SET_DEBUGREGS");
	set_sregs(e, n, mode);
	must(softkvm_ioctl(e->cpu[n].fd, KVM_SET_REGS, &r), "KVM_SET_REGS");
	if (softkvm_ioctl(e->cpu[n].fd, KVM_GET_XCRS, &xcrs) == 0) {
		xcrs.xcrs[0].value = below(e, 4) ? 7 : 3;
		softkvm_ioctl(e->cpu[n].fd, KVM_SET_XCRS, &xcrs);
	}
}

/* -- The run ------------------------------------------------------------------------------------------------ */

/* What a client has and wants back. */
struct host {
	uint64_t fs, gs, flags;
	uint32_t mxcsr;
	uint16_t fcw;
};

static struct host host_now(void)
{
	struct host h;

	__asm__ volatile("mov %%fs:0, %0" : "=r"(h.fs));
	syscall(SYS_arch_prctl, ARCH_GET_GS, &h.gs);
	__asm__ volatile("pushfq; pop %0" : "=r"(h.flags));
	__asm__ volatile("stmxcsr %0" : "=m"(h.mxcsr));
	__asm__ volatile("fnstcw %0" : "=m"(h.fcw));
	h.flags &= 0x40400; /* DF, AC */
	h.mxcsr &= ~0x3fu;  /* what happened so far is our own */
	return h;
}

/* Where the kernel does not keep GS base it is softkvm's own (run/gsbase.h), or anybody's. */
static bool same_gs(uint64_t before, uint64_t after)
{
	return !(getauxval(AT_HWCAP2) & 2) || after == before || after == gs_window();
}

static bool same_host(const struct host *a, const struct host *b)
{
	return a->fs == b->fs && same_gs(a->gs, b->gs) && a->flags == b->flags && a->mxcsr == b->mxcsr &&
	       a->fcw == b->fcw;
}

static bool answer(struct enemy *e, int n, bool *end)
{
	struct cpu *c = &e->cpu[n];
	struct kvm_run *run = c->run;
	uint64_t noise = rnd(e);

	c->exits[run->exit_reason % 40]++;
	switch (run->exit_reason) {
	case KVM_EXIT_MMIO:
		if (!run->mmio.is_write)
			memcpy(run->mmio.data, &noise, 8);
		return run->mmio.len <= 8;
	case KVM_EXIT_IO:
		if (run->io.data_offset + (uint64_t)run->io.size * run->io.count > e->run_len)
			return false;
		if (run->io.direction == KVM_EXIT_IO_IN)
			memset((uint8_t *)run + run->io.data_offset, (int)noise,
			       run->io.size * run->io.count);
		return run->io.port != AUDIT || entries_sound(e, n);
	case KVM_EXIT_HLT:
	case KVM_EXIT_SHUTDOWN:
	case KVM_EXIT_INTERNAL_ERROR: /* ERRATA: XSAVE to devices */
		*end = true;
		return true;
	default:
		printf("# exit reason %u\n", run->exit_reason);
		return false;
	}
}

bool enemy_run(struct enemy *e, int n, unsigned exits, unsigned ticks)
{
	struct cpu *c = &e->cpu[n];
	bool end = false, fine = true;

	limit_of_ticks = ticks;
	c->ticks = 0;
	c->run->immediate_exit = 0;
	while (exits-- && !end && fine) {
		struct host before = host_now(), after;
		int rc;

		c->inside = true;
		rc = softkvm_ioctl(c->fd, KVM_RUN, NULL);
		c->inside = false;
		after = host_now();
		if (!same_host(&before, &after)) {
			printf("# the client's registers are not as they were\n");
			return false;
		}
		if (rc == -EINTR)
			break;
		if (rc < 0)
			printf("# KVM_RUN: %s\n", strerror(-rc));
		fine = rc == 0 && answer(e, n, &end);
	}
	return fine;
}

/* -- The alarms ----------------------------------------------------------------------------------------------- */

static bool holds_secret(const struct enemy *e, const void *at, size_t len)
{
	return memmem(at, len, &e->secret[0], 8) || memmem(at, len, &e->secret[1], 8);
}

static bool complain(const struct enemy *e, const char *what)
{
	printf("# %s: %s\n", e->knobs[0] ? e->knobs : "translated", what);
	return false;
}

static bool check_registers(struct enemy *e, int n)
{
	static const char name[16][4] = {"rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp",
					 "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"};
	struct kvm_regs r;
	struct kvm_xsave x;
	const uint64_t *gpr = (const uint64_t *)&r;

	must(softkvm_ioctl(e->cpu[n].fd, KVM_GET_REGS, &r), "KVM_GET_REGS");
	must(softkvm_ioctl(e->cpu[n].fd, KVM_GET_XSAVE, &x), "KVM_GET_XSAVE");
	if (holds_secret(e, &r, sizeof(r)) || holds_secret(e, &x, sizeof(x)))
		return complain(e, "a register holds what is in a canary");
	for (unsigned i = 0; i < 16; i++)
		if (in_range(gpr[i], false)) {
			printf("# %s = %llx\n", name[i], (unsigned long long)gpr[i]);
			return complain(e, "a register holds an address of the engine's");
		}
	return true;
}

bool enemy_harmless(struct enemy *e)
{
	for (unsigned i = 0; i < CANARIES; i++)
		for (unsigned k = 0; k < PAGE; k += 16)
			if (memcmp(canary(e, i) + k, e->secret, 16))
				return complain(e, "a canary was written to");
	for (unsigned i = 0; i < ROM_SIZE / 8; i++) {
		uint64_t v = rom_word(i);

		if (memcmp(e->rom + 8 * i, &v, 8))
			return complain(e, "ROM was written to");
	}
	if (holds_secret(e, e->ram, RAM_SIZE) || holds_secret(e, e->high, HIGH_SIZE))
		return complain(e, "RAM holds what is in a canary");
	if (wild) {
		printf("# address %llx\n", (unsigned long long)wild_address);
		return complain(e, "translated code accessed what is not mapped");
	}
	for (int n = 0; n < e->n_cpus; n++)
		if (!check_registers(e, n) || !tables_sound(e, n))
			return complain(e, "see above");
	return true;
}

void enemy_report(const struct enemy *e, const char *what)
{
	const unsigned *x = e->cpu[0].exits;
	struct softkvm_stat stat[128];
	int n = softkvm_stats(e->vm, stat, 128);

	printf("# %s, %s: %u MMIO, %u ports, %u halts, %u shutdowns, %u internal errors",
	       e->knobs[0] ? e->knobs : "translated", what, x[KVM_EXIT_MMIO], x[KVM_EXIT_IO],
	       x[KVM_EXIT_HLT], x[KVM_EXIT_SHUTDOWN], x[KVM_EXIT_INTERNAL_ERROR]);
	for (int i = 0; i < n; i++)
		if (!strcmp(stat[i].name, "blocks") || !strcmp(stat[i].name, "host_faults") ||
		    !strcmp(stat[i].name, "interpreted") || !strcmp(stat[i].name, "tlb_fills"))
			printf(", %llu %s", stat[i].value, stat[i].name);
	printf("\n");
}

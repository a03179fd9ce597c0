/* SPDX-License-Identifier: MIT */
/*
 * Memory slots whose memory is not there: KVM_RUN is -EFAULT, and nothing has happened.
 *
 *	guest-physical   0          1 MiB of RAM: tables, code, data, stack
 *	                 LAST       the last page of a slot of two: the one that is bad, in ways[]
 *	                 GOOD       the page before it
 *
 * Each instruction of insns[] runs three times from the same state. With good memory; that is the
 * reference. With the bad page: -EFAULT, and registers and memory are those before it (an REP may
 * have done some of its elements). Then the page is made good, and the instruction goes on to the
 * reference's end. All this with cold, hot and interpreted code.
 */
#include "softkvm/softkvm.h"

#include "tests/tap.h"

#include <errno.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096u
#define RAM_SIZE 0x100000u
#define GOOD 0x200000u
#define LAST 0x201000u
#define RW (PROT_READ | PROT_WRITE)

enum { PML4_AT = 0x1000, PDPT_AT = 0x2000, PD_AT = 0x3000, GDT_AT = 0x4000, IDT_AT = 0x5000,
       CODE_AT = 0x10000, HANDLER_AT = 0x18000, STACK_AT = 0x20000, DATA_AT = 0x30000 };

/* A linear address whose page table is LAST, entry 100. */
#define WALKED 0x4c800000ull

static int sys, vm, vcpu, file;
static struct kvm_run *run;
static uint8_t *ram, *pair;

/* -- Ways to be bad ------------------------------------------------------------------------- */

enum { LOADS = 1, STORES = 2 };

static bool place(void *at, size_t len, int prot, int flags, int fd, off_t offset)
{
	return mmap(at, len, prot, flags | MAP_FIXED, fd, offset) == at;
}

static bool read_only(void)
{
	return place(pair + PAGE, PAGE, PROT_READ, MAP_SHARED, file, PAGE);
}

static bool no_access(void)
{
	return place(pair + PAGE, PAGE, PROT_NONE, MAP_SHARED, file, PAGE);
}

static bool file_ends(void)
{
	return !ftruncate(file, PAGE);
}

static bool nothing(void)
{
	return !munmap(pair + PAGE, PAGE);
}

static bool private_none(void)
{
	return place(pair + PAGE, PAGE, PROT_NONE, MAP_PRIVATE, file, PAGE);
}

static bool private_ends(void)
{
	return place(pair + PAGE, PAGE, RW, MAP_PRIVATE, file, PAGE) && !ftruncate(file, PAGE);
}

static const struct way {
	const char *name;
	bool (*make)(void);
	int fails;
	bool by_file;   /* the file's length alone makes it good */
	uint32_t flags; /* of the slot */
} ways[] = {
	{"a page that may only be read", read_only, STORES, false, 0},
	{"a page that may not be accessed", no_access, LOADS | STORES, false, 0},
	{"one of a logged slot", no_access, LOADS | STORES, false, KVM_MEM_LOG_DIRTY_PAGES},
	{"a file that ends too early", file_ends, LOADS | STORES, true, 0},
	{"nothing mapped", nothing, LOADS | STORES, false, 0},
	{"a private page that may not be accessed", private_none, LOADS | STORES, false, 0},
	{"a private mapping of a file that ends too early", private_ends, LOADS | STORES, false, 0},
};

/* -- Instructions --------------------------------------------------------------------------- */

/* RSI: last 64 bytes of good data in RAM; RDI, RBX: as `at` says; RCX 20; RAX 0x11. */
enum { STACK = 1, /* RSP is `at`, too */
       MOVES = 2, /* some of it is done before it fails */ };

static const struct test_insn {
	const char *name, *code;
	uint64_t at;  /* RBX and RDI */
	uint8_t len;
	uint8_t does; /* to the bad page */
	uint8_t how;
} insns[] = {
#define INSN(n, bytes, where, what, flags)                                                         \
	{.name = (n), .code = (bytes), .at = (where), .len = sizeof(bytes) - 1, .does = (what),    \
	 .how = (flags)}
	INSN("mov rax, [rbx]", "\x48\x8b\x03", LAST + 8, LOADS, 0),
	INSN("mov al, [rbx]", "\x8a\x03", LAST + 4095, LOADS, 0),
	INSN("mov rax, [rbx], half of it good", "\x48\x8b\x03", LAST - 3, LOADS, 0),
	INSN("mov [rbx], rax", "\x48\x89\x03", LAST, STORES, 0),
	INSN("mov [rbx], rax, half of it good", "\x48\x89\x03", LAST - 4, STORES, 0),
	INSN("add rax, [rbx]", "\x48\x03\x03", LAST, LOADS, 0),
	INSN("add [rbx], rax", "\x48\x01\x03", LAST, STORES, 0),
	INSN("add [rbx], rax, half of it good", "\x48\x01\x03", LAST - 4, STORES, 0),
	INSN("lock inc dword [rbx]", "\xf0\xff\x03", LAST + 16, STORES, 0),
	INSN("lock inc dword [rbx], half of it good", "\xf0\xff\x03", LAST - 2, STORES, 0),
	INSN("xchg [rbx], eax", "\x87\x03", LAST, STORES, 0),
	INSN("cmpxchg16b [rbx]", "\x48\x0f\xc7\x0b", LAST + 16, STORES, 0),
	INSN("bts [rbx], rax", "\x48\x0f\xab\x03", LAST, STORES, 0),
	INSN("movups xmm0, [rbx]", "\x0f\x10\x03", LAST, LOADS, 0),
	INSN("movups [rbx], xmm0", "\x0f\x11\x03", LAST - 8, STORES, 0),
	INSN("fld qword [rbx]", "\xdd\x03", LAST, LOADS, 0),
	INSN("fstp tword [rbx]", "\xdb\x3b", LAST - 4, STORES, 0),
	INSN("fxsave [rbx]", "\x0f\xae\x03", LAST, STORES, 0),
	INSN("fxrstor [rbx]", "\x0f\xae\x0b", LAST - 32, LOADS, 0),
	INSN("push rax", "\x50", LAST + 64, STORES, STACK),
	INSN("push qword [rbx]", "\xff\x33", LAST + 64, LOADS | STORES, STACK),
	INSN("pop rax", "\x58", LAST, LOADS, STACK),
	INSN("pop qword [rbx]", "\x8f\x03", LAST, LOADS | STORES, STACK),
	INSN("push; push; push", "\x50\x53\x51", LAST + 8, STORES, STACK | MOVES),
	INSN("call", "\xe8\x00\x00\x00\x00", LAST + 8, STORES, STACK),
	INSN("call [rbx]", "\xff\x13", LAST + 16, LOADS | STORES, STACK),
	INSN("jmp [rbx]", "\xff\x23", LAST + 16, LOADS, 0),
	INSN("ret", "\xc3", LAST + 16, LOADS, STACK),
	INSN("enter 16, 3", "\xc8\x10\x00\x03", LAST + 16, STORES, STACK),
	INSN("leave", "\x48\x89\xdd\xc9", LAST, LOADS, STACK | MOVES),
	INSN("pushf", "\x9c", LAST + 4096, STORES, STACK),
	INSN("int 3", "\xcc", LAST + 32, STORES, STACK),
	INSN("ud2", "\x0f\x0b", LAST + 64, STORES, STACK),
	INSN("iretq", "\x48\xcf", LAST, LOADS, STACK),
	INSN("lgdt [rbx]", "\x0f\x01\x13", LAST + 16, LOADS, 0),
	INSN("sgdt [rbx]", "\x0f\x01\x03", LAST + 24, STORES, 0),
	INSN("stosb", "\xaa", LAST, STORES, 0),
	INSN("lodsb", "\x48\x89\xde\xac", LAST, LOADS, MOVES),
	INSN("movsq", "\x48\xa5", LAST, STORES, 0),
	INSN("cmpsb", "\xa6", LAST, LOADS, 0),
	INSN("scasd", "\xaf", LAST, LOADS, 0),
	INSN("rep stosb", "\xf3\xaa", LAST, STORES, 0),
	INSN("rep stosq, from the good page", "\xf3\x48\xab", LAST - 32, STORES, MOVES),
	INSN("rep stosw, down from the bad page", "\xfd\x66\xf3\xab", LAST + 8, STORES, MOVES),
	INSN("rep movsb, from the good page", "\xf3\xa4", LAST - 7, STORES, MOVES),
	INSN("rep movsd, from the good page", "\xf3\xa5", LAST - 16, STORES, MOVES),
	INSN("rep movsw, from the bad page", "\x48\x87\xf7\x66\xf3\xa5", LAST, LOADS, MOVES),
	INSN("mov esi, end of a page - 8; rep movsb", "\xbe\xf8\x0f\x03\x00\xf3\xa4", LAST, STORES,
	     MOVES),
	INSN("rep movsq, an element in both pages", "\xf3\x48\xa5", LAST - 12, STORES, MOVES),
	INSN("repe cmpsb", "\xf3\xa6", LAST, LOADS, 0),
	INSN("repne scasb", "\xf2\xae", LAST, LOADS, 0),
	INSN("its table is there: load", "\x48\xb8\x00\x00\x80\x4c\x00\x00\x00\x00\x48\x8b\x18",
	     LAST, LOADS | STORES, MOVES),
	INSN("its table is there: store",
	     "\x48\xb8\x00\x00\x80\x4c\x00\x00\x00\x00\x48\x89\x18", LAST, LOADS | STORES, MOVES),
	INSN("jmp rbx", "\xff\xe3", LAST + 64, LOADS, MOVES),
	INSN("jmp rbx, the instruction ends there", "\xff\xe3", LAST - 2, LOADS, MOVES),
};

#define INSNS (sizeof(insns) / sizeof(*insns))

/* -- The machine ---------------------------------------------------------------------------- */

static void put64(uint32_t at, uint64_t v)
{
	memcpy(ram + at, &v, 8);
}

static int set_slot(uint32_t id, uint64_t gpa, uint64_t size, void *at, uint32_t flags)
{
	struct kvm_userspace_memory_region r = {
		.slot = id, .guest_phys_addr = gpa, .memory_size = size, .flags = flags,
		.userspace_addr = (uintptr_t)at};

	return softkvm_ioctl(vm, KVM_SET_USER_MEMORY_REGION, &r);
}

static bool set_pair(uint32_t flags)
{
	return !set_slot(1, GOOD, 2 * PAGE, pair, flags);
}

static bool remove_pair(void)
{
	return !set_slot(1, 0, 0, NULL, 0);
}

/* The two pages, as the guest finds them: LAST has what all instructions can use, numbers that lead
 * to the HLT of HANDLER_AT, an entry of a page table, code, and the rest of an instruction that
 * begins in the page before. */
static void fill_pair(void)
{
	uint64_t page[2 * PAGE / 8];

	for (unsigned i = 0; i < 2 * PAGE / 8; i++)
		page[i] = HANDLER_AT;
	page[PAGE / 8 + 100] = 0x83; /* for WALKED */
	page[PAGE / 8 + 8] = 0xf4f4f4f4f4f4f4f4;
	memcpy((uint8_t *)page + PAGE - 2, "\x48\xb8\xf4\xf4\xf4\xf4\xf4\xf4\xf4\xf4\xf4", 11);
	if (pwrite(file, page, sizeof(page), 0) != sizeof(page))
		note("cannot fill the file");
}

static bool make_good(void)
{
	bool fine = !ftruncate(file, 2 * PAGE) &&
		    place(pair, 2 * PAGE, RW, MAP_SHARED, file, 0);

	return fine && remove_pair() && set_pair(0);
}

static bool make_bad(const struct way *way)
{
	return remove_pair() && way->make() && set_pair(way->flags);
}

/* RAM as it is before each run: but for the tables' accessed bits, which are set already. */
static void fill_ram(const struct test_insn *in)
{
	memset(ram, 0, RAM_SIZE);
	put64(PML4_AT, PDPT_AT | 0x63);
	put64(PDPT_AT, PD_AT | 0x63);
	put64(PDPT_AT + 8, LAST | 0x63);
	put64(PD_AT, 0xe3);
	put64(PD_AT + 8, 0x200000 | 0xe3);
	put64(GDT_AT + 8, 0x00af9b000000ffff);
	put64(GDT_AT + 16, 0x00cf93000000ffff);
	for (unsigned v = 0; v < 32; v++)
		put64(IDT_AT + 16 * v, 0x8e0000080000 | (HANDLER_AT & 0xffff) |
					       (uint64_t)(HANDLER_AT >> 16) << 48);
	ram[HANDLER_AT] = 0xf4;
	for (unsigned i = 0; i < 2 * PAGE; i++)
		ram[DATA_AT + i] = (uint8_t)(i * 7 + 1);
	memset(ram + CODE_AT, 0xf4, 64);
	memcpy(ram + CODE_AT, in->code, in->len);
}

static struct kvm_segment flat(uint16_t selector, uint8_t type)
{
	return (struct kvm_segment){.limit = ~0u, .selector = selector, .type = type,
				    .present = 1, .s = 1, .g = 1, .l = type == 11,
				    .db = type != 11};
}

static void set_state(const struct test_insn *in)
{
	struct kvm_regs r = {.rip = CODE_AT, .rflags = 2, .rax = 0x11, .rbx = in->at, .rcx = 20,
			     .rdx = 0x22, .rsi = DATA_AT, .rdi = in->at, .rbp = STACK_AT,
			     .rsp = in->how & STACK ? in->at : STACK_AT};
	struct kvm_vcpu_events none = {0};
	struct kvm_mp_state state = {.mp_state = KVM_MP_STATE_RUNNABLE};
	struct kvm_fpu fpu = {.fcw = 0x37f, .mxcsr = 0x1f80, .xmm = {{1, 2, 3}}};
	struct kvm_sregs s;

	softkvm_ioctl(vcpu, KVM_GET_SREGS, &s);
	s.cs = flat(8, 11);
	s.ds = s.es = s.ss = s.fs = s.gs = flat(16, 3);
	s.gdt = (struct kvm_dtable){.base = GDT_AT, .limit = 0x1f};
	s.idt = (struct kvm_dtable){.base = IDT_AT, .limit = 0x1ff};
	s.cr0 = 0x80010033;
	s.cr3 = PML4_AT;
	s.cr4 = 0x620;
	s.efer = 0xd00;
	softkvm_ioctl(vcpu, KVM_SET_SREGS, &s);
	softkvm_ioctl(vcpu, KVM_SET_REGS, &r);
	softkvm_ioctl(vcpu, KVM_SET_FPU, &fpu);
	softkvm_ioctl(vcpu, KVM_SET_VCPU_EVENTS, &none);
	softkvm_ioctl(vcpu, KVM_SET_MP_STATE, &state);
}

/* What an instruction can change. */
struct state {
	struct kvm_regs regs;
	struct kvm_fpu fpu;
	struct kvm_dtable gdt;
	uint8_t ram[RAM_SIZE], good[PAGE];
};

static void take(struct state *s)
{
	struct kvm_sregs sregs;

	memset(s, 0, sizeof(*s));
	softkvm_ioctl(vcpu, KVM_GET_REGS, &s->regs);
	softkvm_ioctl(vcpu, KVM_GET_FPU, &s->fpu);
	softkvm_ioctl(vcpu, KVM_GET_SREGS, &sregs);
	s->gdt = sregs.gdt;
	memcpy(s->ram, ram, RAM_SIZE);
	memcpy(s->good, pair, PAGE);
}

static bool same(const struct state *a, const struct state *b, const char *what)
{
	if (!memcmp(a, b, sizeof(*a)))
		return true;
	for (unsigned i = 0; i < sizeof(a->regs) / 8; i++) {
		uint64_t x, y;

		memcpy(&x, (const char *)&a->regs + 8 * i, 8);
		memcpy(&y, (const char *)&b->regs + 8 * i, 8);
		if (x != y)
			note("%s: register %u is %llx, not %llx", what, i,
			     (unsigned long long)x, (unsigned long long)y);
	}
	note("%s: fpu %s, gdt %s, ram %s, good page %s", what,
	     memcmp(&a->fpu, &b->fpu, sizeof(a->fpu)) ? "differs" : "same",
	     memcmp(&a->gdt, &b->gdt, sizeof(a->gdt)) ? "differs" : "same",
	     memcmp(a->ram, b->ram, RAM_SIZE) ? "differs" : "same",
	     memcmp(a->good, b->good, PAGE) ? "differs" : "same");
	return false;
}

/* -- One instruction ------------------------------------------------------------------------ */

static int go(void)
{
	return softkvm_ioctl(vcpu, KVM_RUN, NULL);
}

/* Of an REP some elements may be done, and before an instruction others that make its operands. */
static void forget_progress(struct state *s, const struct state *from, const struct test_insn *in)
{
	uint64_t rip = s->regs.rip;

	if (!(in->how & MOVES) || (rip - CODE_AT >= in->len && rip != in->at))
		return;
	s->regs = from->regs;
	memcpy(s->good, from->good, PAGE);
}

static bool try(const struct way *way, const struct test_insn *in)
{
	static struct state before, end, after, last;
	uint8_t page_end[PAGE], page_last[PAGE];
	bool fine, fails = in->does & way->fails;
	int rc;

	/* Good memory, first: how it ends. */
	fine = make_good();
	fill_pair();
	fill_ram(in);
	set_state(in);
	rc = go();
	if (!fine || rc || run->exit_reason != KVM_EXIT_HLT) {
		note("%s: with good memory %d, exit %u", in->name, rc, run->exit_reason);
		return false;
	}
	take(&end);
	memcpy(page_end, pair + PAGE, PAGE);

	/* Bad memory. */
	fill_pair();
	if (!make_bad(way)) {
		note("%s: cannot be set up", way->name);
		return false;
	}
	fill_ram(in);
	set_state(in);
	take(&before);
	rc = go();
	if (!fails) {
		take(&after);
		return rc == 0 && run->exit_reason == KVM_EXIT_HLT && same(&after, &end, in->name);
	}
	if (rc != -EFAULT) {
		note("%s: %d, exit %u", in->name, rc, run->exit_reason);
		return false;
	}
	take(&after);
	forget_progress(&after, &before, in);
	fine = same(&after, &before, in->name);

	/* Once more, without a change; then the memory comes. */
	rc = go();
	if (rc != -EFAULT) {
		note("%s: the second time %d, exit %u", in->name, rc, run->exit_reason);
		return false;
	}
	memcpy(page_last, pair, PAGE);
	if (way->by_file ? ftruncate(file, 2 * PAGE) : !make_good())
		return false;
	fill_pair();
	memcpy(pair, page_last, PAGE);
	rc = go();
	if (rc || run->exit_reason != KVM_EXIT_HLT) {
		note("%s: with its memory %d, exit %u", in->name, rc, run->exit_reason);
		return false;
	}
	take(&last);
	fine &= same(&last, &end, in->name);
	if (memcmp(pair + PAGE, page_end, PAGE)) {
		note("%s: the page differs at the end", in->name);
		fine = false;
	}
	return fine;
}

/* -- The engine's own accesses -------------------------------------------------------------- */

static const struct test_insn halt = {.name = "hlt", .code = "\xf4", .len = 1, .at = GOOD};

/* kvmclock's page, KVM_TRANSLATE through a bad table. */
static bool try_engine(const struct way *way)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry[2];
	} msrs = {{.nmsrs = 2}, {{.index = 0x4b564d01, .data = LAST | 1},
				 {.index = 0x4b564d00, .data = LAST + 64}}};
	struct kvm_translation t = {.linear_address = WALKED};
	bool fine;
	int rc;

	fine = make_good();
	fill_pair();
	fine &= make_bad(way);
	fill_ram(&halt);
	set_state(&halt);
	softkvm_ioctl(vcpu, KVM_SET_MSRS, &msrs);
	rc = go();
	if (rc || run->exit_reason != KVM_EXIT_HLT) {
		note("kvmclock: %d, exit %u", rc, run->exit_reason);
		fine = false;
	}
	rc = softkvm_ioctl(vcpu, KVM_TRANSLATE, &t);
	if (rc || t.valid != !(way->fails & LOADS)) {
		note("KVM_TRANSLATE: %d, valid %d", rc, t.valid);
		fine = false;
	}
	msrs.entry[0].data = 0;
	softkvm_ioctl(vcpu, KVM_SET_MSRS, &msrs);
	return fine;
}

/* A device's answer is not asked for twice, whatever becomes of the instruction. */
static bool try_device(const struct way *way)
{
	static const struct test_insn movsb = {.name = "movsb", .code = "\xa4", .len = 1,
					       .at = LAST + 40};
	struct kvm_regs r;
	bool fine = make_good();

	fill_pair();
	fine &= make_bad(way);
	fill_ram(&movsb);
	set_state(&movsb);
	softkvm_ioctl(vcpu, KVM_GET_REGS, &r);
	r.rsi = 0x300000;
	softkvm_ioctl(vcpu, KVM_SET_REGS, &r);
	fine &= !go() && run->exit_reason == KVM_EXIT_MMIO;
	run->mmio.data[0] = 0x5a;
	fine &= go() == -EFAULT && make_good() && !go() && run->exit_reason == KVM_EXIT_HLT &&
		pair[PAGE + 40] == 0x5a;
	if (!fine)
		note("movsb from a device: exit %u, %x", run->exit_reason, pair[PAGE + 40]);
	return fine;
}

/* Code whose file is cut while the guest runs it: nothing flushed, then the TLB flushed. */
static bool try_cut(void)
{
	static const struct test_insn jump = {.name = "jmp rbx", .code = "\xff\xe3", .len = 2,
					      .at = LAST + 64};
	struct kvm_regs r;
	bool fine = make_good();

	fill_pair();
	fill_ram(&jump);
	memset(pair + PAGE + 128, 0xf4, PAGE - 128);
	set_state(&jump);
	fine &= !go() && run->exit_reason == KVM_EXIT_HLT && !ftruncate(file, PAGE);
	softkvm_ioctl(vcpu, KVM_GET_REGS, &r);
	r.rip = CODE_AT;
	r.rbx = LAST + 200;
	softkvm_ioctl(vcpu, KVM_SET_REGS, &r);
	fine &= go() == -EFAULT && set_pair(KVM_MEM_LOG_DIRTY_PAGES) && go() == -EFAULT;
	fine &= !ftruncate(file, 2 * PAGE);
	memset(pair + PAGE, 0xf4, PAGE);
	fine &= !go() && run->exit_reason == KVM_EXIT_HLT;
	if (!fine)
		note("code that was cut: exit %u", run->exit_reason);
	return fine;
}

/* -- All of it ------------------------------------------------------------------------------ */

static bool open_all(const char *knobs)
{
	int len;

	setenv("SOFTKVM", knobs, 1);
	file = memfd_create("pair", MFD_CLOEXEC);
	ram = mmap(NULL, RAM_SIZE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pair = mmap(NULL, 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	sys = softkvm_open();
	vm = softkvm_ioctl(sys, KVM_CREATE_VM, NULL);
	vcpu = softkvm_ioctl(vm, KVM_CREATE_VCPU, NULL);
	len = softkvm_ioctl(sys, KVM_GET_VCPU_MMAP_SIZE, NULL);
	if (file < 0 || ftruncate(file, 2 * PAGE) || vcpu < 0 || len < 0)
		return false;
	run = softkvm_mmap(vcpu, (size_t)len, 0);
	return !set_slot(0, 0, RAM_SIZE, ram, 0) &&
	       place(pair, 2 * PAGE, RW, MAP_SHARED, file, 0) && set_pair(0);
}

static void close_all(void)
{
	softkvm_close(vcpu);
	softkvm_close(vm);
	softkvm_close(sys);
	munmap(ram, RAM_SIZE);
	munmap(pair, 2 * PAGE);
	close(file);
}

/* In a child, so that one that dies is a failed check. */
static int bad_ones(const struct way *way, const char *knobs)
{
	pid_t pid;
	int status;

	fflush(stdout);
	pid = fork();
	if (!pid) {
		int bad = 0;

		if (!open_all(knobs))
			_exit(200);
		for (unsigned i = 0; i < INSNS; i++)
			for (unsigned turn = 0; turn < 3; turn++)
				bad += !try(way, &insns[i]);
		bad += !try_engine(way);
		bad += !try_device(way);
		bad += !try_cut();
		close_all();
		fflush(stdout);
		_exit(bad > 100 ? 100 : bad);
	}
	waitpid(pid, &status, 0);
	if (WIFSIGNALED(status))
		note("killed by signal %d", WTERMSIG(status));
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/* A fault signal that somebody sends is no fault: it ends the client, whatever it is doing. */
static bool dies_of(int sig)
{
	static const struct test_insn loop = {.name = "jmp $", .code = "\xeb\xfe", .len = 2,
					      .at = GOOD};
	int status = 0;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (!pid) {
		setrlimit(RLIMIT_CPU, &(struct rlimit){20, 20}); /* should it go on */
		if (!open_all(""))
			_exit(0);
		fill_ram(&loop);
		set_state(&loop);
		go();
		_exit(0);
	}
	usleep(100000);
	kill(pid, sig);
	waitpid(pid, &status, 0);
	return WIFSIGNALED(status) ? WTERMSIG(status) == sig : WEXITSTATUS(status) != 0;
}

int main(void)
{
	static const char *const knobs[] = {"", "sample=0", "nogroup,sample=0", "interpret", "tlb"};

	for (unsigned w = 0; w < sizeof(ways) / sizeof(*ways); w++)
		for (unsigned k = 0; k < sizeof(knobs) / sizeof(*knobs); k++)
			is_int(bad_ones(&ways[w], knobs[k]), 0, "%s (SOFTKVM=%s)", ways[w].name,
			       knobs[k]);
	ok(dies_of(SIGSEGV) && dies_of(SIGBUS), "a signal that is sent has its usual effect");
	return done_testing();
}

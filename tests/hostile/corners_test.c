/* SPDX-License-Identifier: MIT */
/*
 * Guests made for one thing each: what random ones would not find in years.
 *
 *	jumps to the last byte     an address that looked like "empty" to the jump cache
 *	a displacement of -2 GiB   of the first of a group of accesses, whose range begins below
 *	one of +2 GiB - 8          whose end is no displacement, beside one far below
 *	INVLPG of 4 MiB            drops the page's other half, too
 *	a flush by translation     of a page with more writable entries than are remembered; the
 *	                           jump that led there is not known longer than its page
 *	MOV from CR2 and CR3       to every register; CLD, which leaves the other flags alone
 *	code in a page table       whose accessed bits are set when the next page is looked for
 *	levels 1 and 2             may not do what level 0 may
 *	mask registers             while XCR0 has AVX but not AVX-512
 *	a known jump               to code that was translated while CR0.TS was clear
 *	a handler that comes next  behind the instruction that faults, for 64-bit code
 *	flat segments              that expand down, or may not be written or read
 *	a program's first page     where another has run before, and nothing has been flushed yet
 *	an XRSTOR                  that the host refuses, though we did not
 *	addresses 2^42 apart       of one page, the upper one not writable: a store site cannot tell
 *	                           them by what it adds, so the read-only view's fault must
 *	a page of the same sum     new code, loaded by the client, that a simple sum takes for the old
 */
#include "tests/hostile/hostile.h"

#include <string.h>

#include "tests/tap.h"

#include "softkvm/abi/object.h"
#include "softkvm/engine.h"
#include "softkvm/softkvm.h"
#include "softkvm/state/xsave.h"

enum { STACK_AT = STACK3_AT + 0x1000, FUNCTION_AT = 0x80000, OTHER_AT = 0x81000,
       FRESH_AT = 0x84000 /* without code before */ };

static void put64(struct enemy *e, uint32_t at, uint64_t v)
{
	memcpy(e->ram + at, &v, 8);
}

static void begin(struct enemy *e, enum mode mode, const void *code, size_t len)
{
	struct kvm_regs r = {.rip = CODE_AT, .rsp = STACK_AT, .rflags = 2};

	memset(e->ram, 0, RAM_SIZE);
	enemy_reset(e);
	memcpy(e->ram + CODE_AT, code, len);
	enemy_start(e, 0, mode, 0);
	softkvm_ioctl(e->cpu[0].fd, KVM_SET_REGS, &r);
}

/* To the guest's next HLT; rax there, or ~0: it came out otherwise. */
static uint64_t go(struct enemy *e)
{
	struct kvm_regs r;

	if (softkvm_ioctl(e->cpu[0].fd, KVM_RUN, NULL) ||
	    e->cpu[0].run->exit_reason != KVM_EXIT_HLT)
		return ~0ull;
	softkvm_ioctl(e->cpu[0].fd, KVM_GET_REGS, &r);
	return r.rax;
}

#define BEGIN(e, mode, code) begin(e, mode, code, sizeof(code) - 1)

/* Two addresses with the same low bits in turn: the jump cache's log has an index once. */
static void last_byte(struct enemy *e)
{
	struct object *o = object_get(e->cpu[0].fd);

	BEGIN(e, LONG_RING0, "\x48\xc7\xc7\xff\xff\xff\xff" /* mov rdi, -1 */
			     "\xbe\xff\xff\x08\0"           /* mov esi, 0x8ffff */
			     "\xb9\x20\x4e\0\0"             /* mov ecx, 20000 */
			     "\xff\xd7\xff\xd6"             /* 1: call rdi; call rsi */
			     "\xff\xc9\x75\xf8"             /* dec ecx; jnz 1b */
			     "\x31\xc0\xf4");               /* xor eax, eax; hlt */
	put64(e, PML4_AT + 511 * 8, TABLES_AT | 7);
	put64(e, TABLES_AT + 511 * 8, (TABLES_AT + PAGE) | 7);
	put64(e, TABLES_AT + PAGE + 511 * 8, (TABLES_AT + 2 * PAGE) | 7);
	put64(e, TABLES_AT + 2 * PAGE + 511 * 8, FUNCTION_AT | 7);
	e->ram[FUNCTION_AT + 0xfff] = e->ram[0x8ffff] = 0xc3;
	is_int(go(e), 0, "calls of the last byte there is");
	ok(o->vcpu->engine->kernel.n_jc < 100, "are noted once: %u entries",
	   o->vcpu->engine->kernel.n_jc);
	object_put(o);
}

/* The two are 4 GiB less 264 bytes apart. In a group, the first would be 264 below the second. */
static void high_end(struct enemy *e)
{
	BEGIN(e, LONG_RING0, "\xbf\0\xa1\0\x80"             /* mov edi, 0x8000a100 */
			     "\x48\x8b\x87\xf8\xff\xff\x7f" /* mov rax, [rdi + 2 GiB - 8] */
			     "\x48\x8b\x8f\0\x01\0\x80"      /* mov rcx, [rdi - 2 GiB + 256] */
			     "\x48\x01\xc8\xf4");             /* add rax, rcx; hlt */
	put64(e, PDPT_AT + 4 * 8, TABLES_AT | 7);
	put64(e, TABLES_AT, HIGH_AT | 0x87);
	memset(e->high + 0xa0f8, 0, 8);
	e->high[0xa0f8] = 0x10;
	put64(e, 0xa0f8, 0x55);
	put64(e, 0xa200, 0x02);
	is_int(go(e), 0x12, "an operand that ends 2 GiB above its base register is in no group");
}

static void low_group(struct enemy *e)
{
	BEGIN(e, LONG_RING0, "\xbb\x08\xa0\0\x80"             /* mov ebx, 0x8000a008 */
			     "\x48\x8b\x83\0\0\0\x80"         /* mov rax, [rbx - 2 GiB] */
			     "\x48\x8d\x5b\xf8"               /* lea rbx, [rbx - 8] */
			     "\x48\x8b\x8b\0\0\0\x80"         /* mov rcx, [rbx - 2 GiB] */
			     "\x48\x01\xc8\xf4");             /* add rax, rcx; hlt */
	put64(e, PDPT_AT + 4 * 8, TABLES_AT | 7);
	put64(e, TABLES_AT, HIGH_AT | 0x87);
	put64(e, 0xa000, 0x10);
	put64(e, 0xa008, 0x02);
	memset(e->high + 0xa000, 0x55, 16); /* 4 GiB above */
	is_int(go(e), 0x12, "a group that begins more than 2 GiB below its base register");
}

/* 0x40000000: a page of 4 MiB, then a table whose second half leads elsewhere. */
static void large_page(struct enemy *e)
{
	uint32_t table = TABLES_AT | 7;

	BEGIN(e, PAGED_RING0, "\x8b\x1d\0\0\x08\x40"         /* mov ebx, [0x40080000] */
			      "\xa1\0\0\x20\x40"             /* mov eax, [0x40200000] */
			      "\xf4"                         /* hlt */
			      "\x0f\x01\x3d\0\0\x08\x40"     /* invlpg [0x40080000] */
			      "\xa1\0\0\x20\x40\xf4");       /* mov eax, [0x40200000]; hlt */
	memcpy(e->ram + PD32_AT + 256 * 4, &(uint32_t){0xe7}, 4);
	for (uint32_t i = 0; i < 1024; i++)
		memcpy(e->ram + TABLES_AT + i * 4, &(uint32_t){OTHER_AT | 7}, 4);
	memcpy(e->high, &(uint32_t){1}, 4);
	memcpy(e->ram + OTHER_AT, &(uint32_t){2}, 4);
	is_int(go(e), 1, "the second half of a page of 4 MiB");
	memcpy(e->ram + PD32_AT + 256 * 4, &table, 4);
	is_int(go(e), 2, "after INVLPG of its first half");
}

/* What is called at 0x8000200000 is written through two other addresses, and so many pages are read that
 * the log of entries overflows: to find the writable ones all are flushed. */
static void flushed_call(struct enemy *e)
{
	BEGIN(e, LONG_RING0, "\x48\xbf\0\0\x20\0\x80\0\0\0"     /* mov rdi, 0x8000200000 */
			     "\x88\x87\0\x18\0\0\x88\x87\0\x28\0\0" /* mov [rdi + 0x1800], al;
								       * mov [rdi + 0x2800], al */
			     "\xbb\x01\0\0\0"                   /* mov ebx, 1 */
			     "\x48\x89\xde\x48\xc1\xe6\x1e"     /* 1: mov rsi, rbx; shl rsi, 30 */
			     "\xb9\0\x01\0\0"                   /* mov ecx, 256 */
			     "\x8a\x06\x48\x81\xc6\0\x10\0\0"   /* 2: mov al, [rsi]; add rsi, 4096 */
			     "\xff\xc9\x75\xf3"                 /* dec ecx; jnz 2b */
			     "\xff\xc3\x81\xfb\x2c\x01\0\0"     /* inc ebx; cmp ebx, 300 */
			     "\x75\xdd"                         /* jne 1b */
			     "\xff\xd7"                         /* call rdi */
			     "\xc7\x04\x25\0\x20\x04\0\x07\x10\x08\0" /* mov dword [0x42000], 0x81007 */
			     "\x0f\x01\x3f\xff\xd7\xf4");       /* invlpg [rdi]; call rdi; hlt */
	for (unsigned i = 1; i < 512; i++)
		put64(e, PDPT_AT + i * 8, PD_AT | 7);
	put64(e, PML4_AT + 8, TABLES_AT | 7);
	put64(e, TABLES_AT, (TABLES_AT + PAGE) | 7);
	put64(e, TABLES_AT + PAGE + 8, (TABLES_AT + 2 * PAGE) | 7);
	for (unsigned i = 0; i < 3; i++)
		put64(e, TABLES_AT + 2 * PAGE + i * 8, FRESH_AT | 7);
	memcpy(e->ram + FRESH_AT, "\xb8\x01\0\0\0\xc3", 6); /* mov eax, 1; ret */
	memcpy(e->ram + OTHER_AT, "\xb8\x02\0\0\0\xc3", 6);
	is_int(go(e), 2, "a call after INVLPG, though translation flushed the TLB before");
}

/* mov rax, VALUE ; mov cr2, rax ; mov r, crN ; mov rax, r ; hlt */
static uint64_t through(struct enemy *e, unsigned cr, unsigned r, uint64_t value)
{
	uint8_t code[] = {0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0x0f, 0x22, 0xd0,
			  (uint8_t)(0x40 | r >> 3), 0x0f, 0x20, (uint8_t)(0xc0 | cr << 3 | (r & 7)),
			  (uint8_t)(0x48 | (r & 8) >> 1), 0x89, (uint8_t)(0xc0 | (r & 7) << 3), 0xf4};

	memcpy(code + 2, &value, 8);
	begin(e, LONG_RING0, code, sizeof(code));
	return go(e);
}

static void control_registers(struct enemy *e)
{
	const uint64_t value = 0xfedcba9876543210;
	uint64_t flags;
	unsigned r, wrong = 0;

	for (r = 0; r < 16; r++) {
		wrong += through(e, 2, r, value) != value;
		wrong += through(e, 3, r, value) != PML4_AT;
	}
	is_int(wrong, 0, "CR2 and CR3 come into each register");
	BEGIN(e, LONG_RING0, "\xf9\xfd\xfc\x9c\x58\xf4"); /* stc; std; cld; pushf; pop rax; hlt */
	flags = go(e);
	is_int(flags & 0x401, 1, "CLD ends DF and nothing else");
}

static void set_gate(struct enemy *e, unsigned vector, uint32_t to)
{
	put64(e, IDT_AT + vector * 16, (to & 0xffff) | SEL_CODE64 << 16 | 0x8e01ull << 32 |
					       (uint64_t)(to >> 16) << 48);
}

/* Is this instruction #GP at a level between the kernel's and the user's, with CR4.TSD? The handler says whether the
 * HLT behind it was it. */
static bool is_for_level_0(struct enemy *e, unsigned level, const uint8_t insn[3])
{
	uint8_t code[] = {0x31, 0xdb, insn[0], insn[1], insn[2], 0xff, 0xc3, 0xf4}; /* inc ebx; hlt */
	struct kvm_sregs s;

	begin(e, LONG_RING0, code, sizeof(code));
	memcpy(e->ram + FUNCTION_AT, "\x89\xd8\xf4", 3); /* mov eax, ebx; hlt */
	set_gate(e, 13, FUNCTION_AT);
	softkvm_ioctl(e->cpu[0].fd, KVM_GET_SREGS, &s);
	s.cs.selector |= level;
	s.ss.selector |= level;
	s.cs.dpl = s.ss.dpl = level & 3;
	s.cr4 |= 4;
	softkvm_ioctl(e->cpu[0].fd, KVM_SET_SREGS, &s);
	return go(e) == 0;
}

static void between(struct enemy *e)
{
	static const uint8_t insns[][3] = {
		{0xfa, 0x90, 0x90}, {0xfb, 0x90, 0x90}, /* cli, sti */
		{0x0f, 0x01, 0xf8}, {0x0f, 0x20, 0xd9}, {0x0f, 0x20, 0xd1}, /* swapgs, mov rcx, cr3, cr2 */
		{0x0f, 0x31, 0x90}, {0x0f, 0x01, 0xf9}, /* rdtsc, rdtscp */
	};
	unsigned faults = 0;

	for (unsigned i = 0; i < sizeof(insns) / sizeof(insns[0]); i++)
		faults += is_for_level_0(e, 1, insns[i]) + is_for_level_0(e, 2, insns[i]);
	is_int(faults, 14, "levels 1 and 2 may not do what level 0 may");
}

static void no_masks(struct enemy *e)
{
	struct kvm_xcrs xcrs = {.nr_xcrs = 1, .xcrs = {{.xcr = 0, .value = 7}}};
	struct kvm_sregs s;

	BEGIN(e, LONG_RING0, "\x31\xc0\xc5\xf4\x46\xc9"   /* xor eax, eax; kxnorw k1, k1, k1 */
			     "\xc5\xfb\x93\xc1\xf4");     /* kmovd eax, k1; hlt */
	set_gate(e, 6, CODE_AT + 10);
	softkvm_ioctl(e->cpu[0].fd, KVM_GET_SREGS, &s);
	s.cr0 &= ~0xcull;  /* TS, EM */
	s.cr4 |= 0x40200;  /* OSXSAVE, OSFXSR */
	softkvm_ioctl(e->cpu[0].fd, KVM_SET_SREGS, &s);
	if (softkvm_ioctl(e->cpu[0].fd, KVM_SET_XCRS, &xcrs))
		skip("this host has no AVX");
	else
		ok(go(e) == 0, "no mask registers without their bits in XCR0");
}

/* What the jump cache knows is of one mode: after TS is set MOVAPS is #NM. */
static void jump_and_mode(struct enemy *e)
{
	struct kvm_sregs s;

	BEGIN(e, LONG_RING0, "\xbf\0\0\x08\0"              /* mov edi, FUNCTION_AT */
			     "\xb9\x20\0\0\0"              /* mov ecx, 32 */
			     "\xff\xd7\xff\xc9\x75\xfa"    /* 1: call rdi; dec ecx; jnz 1b */
			     "\x0f\x20\xc0\x83\xc8\x08"    /* mov rax, cr0; or eax, TS */
			     "\x0f\x22\xc0\xff\xd7"        /* mov cr0, rax; call rdi */
			     "\xb8\x07\0\0\0\xf4"          /* mov eax, 7; hlt */
			     "\x31\xc0\xf4");              /* #NM: xor eax, eax; hlt */
	memcpy(e->ram + FUNCTION_AT, "\x0f\x28\xc0\xc3", 4); /* movaps xmm0, xmm0; ret */
	set_gate(e, 7, CODE_AT + 33);
	softkvm_ioctl(e->cpu[0].fd, KVM_GET_SREGS, &s);
	s.cr0 &= ~0xcull;
	s.cr4 |= 0x200;
	softkvm_ioctl(e->cpu[0].fd, KVM_SET_SREGS, &s);
	is_int(go(e), 0, "a known jump, after CR0.TS was set");
}

/* The page at 0x8000200000 is the table of its own mapping and the next one's. An instruction goes on there, and
 * to find it a bit is set in the page that holds its beginning. Stores must be seen all the same. */
static void own_table(struct enemy *e)
{
	BEGIN(e, LONG_RING0, "\x48\xbf\xfe\x0f\x20\0\x80\0\0\0"   /* mov rdi, 0x8000200ffe */
			     "\xff\xd7"                           /* call rdi */
			     "\xc6\x04\x25\xff\x4f\x08\0\x02"     /* mov byte [FRESH_AT + 0xfff], 2 */
			     "\xff\xd7\xf4");                     /* call rdi; hlt */
	put64(e, PML4_AT + 8, TABLES_AT | 7);
	put64(e, TABLES_AT, (TABLES_AT + PAGE) | 7);
	put64(e, TABLES_AT + PAGE + 8, FRESH_AT | 7);
	put64(e, FRESH_AT, FRESH_AT | 0x67);
	put64(e, FRESH_AT + 8, OTHER_AT | 7);
	memcpy(e->ram + FRESH_AT + 0xffe, "\xb8\x01", 2); /* mov eax, 1 */
	memcpy(e->ram + OTHER_AT, "\0\0\0\xc3", 4);     /* ...; ret */
	is_int(go(e), 2, "code that is rewritten in its own page table");
}

/* 32-bit code divides by zero; what follows is the handler, and 64-bit code to it: 48 is no DEC there. */
static void next_handler(struct enemy *e)
{
	BEGIN(e, COMPAT_RING3, "\xb8\x07\0\0\0\x31\xc9"  /* mov eax, 7; xor ecx, ecx */
			       "\x83\xe2\0\xf7\xf1"       /* and edx, 0; div ecx */
			       "\x48\x90\xf4");            /* rex.w nop; hlt */
	set_gate(e, 0, CODE_AT + 12);
	is_int(go(e), 7, "a handler right behind the instruction that faults, of another mode");
}

/* 32-bit code: an access through a segment of 4 GiB whose type forbids it is #GP. */
static void flat_types(struct enemy *e)
{
	static const struct {
		const char *code; /* 7 bytes */
		unsigned cs, ds, fs;
	} tries[] = {
		{"\x90\xa1\0\0\x08\0\xf4", 11, 7, 3},          /* mov eax, [FUNCTION_AT] */
		{"\x64\xa1\0\0\x08\0\xf4", 11, 3, 7},          /* with fs: */
		{"\x64\xa3\0\0\x08\0\xf4", 11, 3, 1},          /* mov fs:[FUNCTION_AT], eax */
		{"\x64\xa1\0\0\x08\0\xf4", 11, 3, 9},          /* mov eax, fs:[..], only executed */
		{"\x2e\xa1\0\0\x08\0\xf4", 9, 3, 3},           /* with cs: */
	};
	unsigned faults = 0;

	for (unsigned i = 0; i < sizeof(tries) / sizeof(tries[0]); i++) {
		struct kvm_sregs s;

		begin(e, PROTECTED_RING0, tries[i].code, 7);
		put64(e, IDT32_AT + 13 * 8, (CODE_AT + 0x40) % 0x10000 | SEL_CODE32 << 16 |
						    0x8eull << 40 | 1ull << 48);
		memcpy(e->ram + CODE_AT + 0x40, "\xb8\x0d\0\0\0\xf4", 6); /* mov eax, 13; hlt */
		softkvm_ioctl(e->cpu[0].fd, KVM_GET_SREGS, &s);
		s.cs.type = (uint8_t)tries[i].cs;
		s.ds.type = (uint8_t)tries[i].ds;
		s.fs.type = (uint8_t)tries[i].fs;
		softkvm_ioctl(e->cpu[0].fd, KVM_SET_SREGS, &s);
		faults += go(e) == 13;
	}
	is_int(faults, 5, "flat segments have types, too");
}

/* Two programs, each with a PCID, have other code at one address. The first comes back by #GP, its HLT. */
static void first_page(const char *knobs)
{
	struct enemy *e = enemy_create(knobs, 1, false);
	struct kvm_sregs s;

	BEGIN(e, LONG_RING0, "\xbb\x02\x50\x04\0"           /* mov ebx, 0x45002 */
			     "\x0f\x22\xdb"                  /* 1: mov cr3, rbx */
			     "\x6a\x2b\x68\0\0\x03\0"        /* push 0x2b; push 0x30000 */
			     "\x6a\x02\x6a\x33"              /* push 2; push 0x33 */
			     "\x68\0\0\x80\0\x48\xcf"        /* push 0x800000; iretq */
			     "\x85\xd2\x75\x09"              /* #GP: test edx, edx; jnz 2f */
			     "\xff\xc2\xbb\x01\0\x04\0"      /* inc edx; mov ebx, 0x40001 */
			     "\xeb\xde\xf4");                /* jmp 1b; 2: hlt */
	set_gate(e, 13, CODE_AT + 26);
	for (unsigned p = 0; p < 2; p++) { /* PML4, PDPT, PD, PT of each */
		uint32_t t = TABLES_AT + p * 5 * PAGE;

		put64(e, t, (t + PAGE) | 7);
		put64(e, t + PAGE, (t + 2 * PAGE) | 7);
		put64(e, t + 2 * PAGE, 0xe7);
		put64(e, t + 2 * PAGE + 4 * 8, (t + 3 * PAGE) | 7);
		put64(e, t + 3 * PAGE, (p ? OTHER_AT : FUNCTION_AT) | 7);
	}
	memcpy(e->ram + FUNCTION_AT, "\xb8\x01\0\0\0\xf4", 6); /* mov eax, 1; hlt */
	memcpy(e->ram + OTHER_AT, "\xb8\x02\0\0\0\xf4", 6);
	softkvm_ioctl(e->cpu[0].fd, KVM_GET_SREGS, &s);
	s.cr4 |= 0x20000;
	s.cr3 = TABLES_AT;
	softkvm_ioctl(e->cpu[0].fd, KVM_SET_SREGS, &s);
	is_int(go(e), 1, "the second program's own code");
	enemy_destroy(e);
}

/* A header with which our own check finds no fault, but this CPU does, as one that knows no compacted
 * format does with that: here a component that no CPU has beside AVX-512. */
static void refused(struct enemy *e)
{
	struct object *o = object_get(e->cpu[0].fd);
	struct kvm_sregs s;

	BEGIN(e, LONG_RING0, "\x83\xc8\xff\x83\xca\xff"       /* or eax, -1; or edx, -1 */
			     "\x48\x0f\xae\x2c\x25\0\0\x08\0"  /* xrstor64 [FUNCTION_AT] */
			     "\xf4\xb8\x0d\0\0\0\xf4");          /* hlt; mov eax, 13; hlt */
	set_gate(e, 13, CODE_AT + 16);
	put64(e, FUNCTION_AT + 24, 0x1f80);
	put64(e, FUNCTION_AT + 512, 1ull << 62);
	softkvm_ioctl(e->cpu[0].fd, KVM_GET_SREGS, &s);
	s.cr0 &= ~0xcull;
	s.cr4 |= 0x40200;
	softkvm_ioctl(e->cpu[0].fd, KVM_SET_SREGS, &s);
	o->vcpu->xcr0 |= 1ull << 62;
	if (vec_has_xsave())
		is_int(go(e), 13, "#GP by an XRSTOR that the host refuses");
	else
		skip("this host has no XSAVE");
	o->vcpu->xcr0 &= ~(1ull << 62);
	object_put(o);
}

/* The two views of a page are as far from each other as its two addresses, so their addends are equal. */
static void same_addend(struct enemy *e)
{
	struct softkvm_stat before[64], after[64];
	unsigned i, n;

	BEGIN(e, LONG_RING0, "\xbf\0\x40\x08\0"                    /* mov edi, FRESH_AT */
			     "\x48\xbe\0\x40\x08\0\0\x04\0\0"    /* mov rsi, FRESH_AT + 2^42 */
			     "\xbb\x07\0\0\0\xb9\x64\0\0\0"      /* mov ebx, 7; mov ecx, 100 */
			     "\x89\x1f\xff\xc9\x75\xfa"            /* 1: mov [rdi], ebx; dec ecx; jnz 1b */
			     "\x83\xfb\x08\x74\x0e"                /* cmp ebx, 8; je 2f */
			     "\x8b\x06\x48\x89\xf7\xff\xc3"        /* mov eax, [rsi]; mov rdi, rsi; inc ebx */
			     "\xb9\x01\0\0\0\xeb\xe7\xf4");         /* mov ecx, 1; jmp 1b; 2: hlt */
	put64(e, PML4_AT + 8 * 8, TABLES_AT | 7);
	put64(e, TABLES_AT, (TABLES_AT + PAGE) | 7);
	put64(e, TABLES_AT + PAGE, (TABLES_AT + 2 * PAGE) | 7);
	put64(e, TABLES_AT + 2 * PAGE + (FRESH_AT >> 12) * 8, FRESH_AT | 5);
	memcpy(e->ram + FUNCTION_AT, "\x8b\x04\x25\0\x40\x08\0\xf4", 8); /* mov eax, [FRESH_AT]; hlt */
	set_gate(e, 14, FUNCTION_AT);
	n = (unsigned)softkvm_stats(e->cpu[0].fd, before, 64);
	is_int(go(e), 7, "a store to a page that is writable 2^42 below");
	softkvm_stats(e->cpu[0].fd, after, 64);
	for (i = 0; i < n && strcmp(after[i].name, "host_faults"); i++)
		;
	note("%llu host faults", after[i].value - before[i].value);
}

/* Of a product by an odd number the highest bit changes if that of the factor does, whatever
 * else it is: after a rotation by 29 the next word but three can take that back. */
static void same_sum(struct enemy *e)
{
	BEGIN(e, LONG_RING0, "\xbf\x03\0\x08\0"              /* mov edi, FUNCTION_AT + 3 */
			     "\x0f\x20\xda\x0f\x22\xda"      /* 1: mov rdx, cr3; mov cr3, rdx */
			     "\xff\xd7\xf4\xeb\xf5");        /* call rdi; hlt; jmp 1b */
	memcpy(e->ram + FUNCTION_AT + 3, "\xb8\x01\0\0\0\xc3", 6); /* mov eax, 1; ret */
	is_int(go(e), 1, "a function");
	is_int(go(e), 1, "compared and summed");
	e->ram[FUNCTION_AT + 7] ^= 0x80;
	e->ram[FUNCTION_AT + 32 + 3] ^= 0x10;
	is_int(go(e), 0x80000001, "then replaced by one whose sum was chosen");
}

int main(void)
{
	static const char *const knobs[] = {"sample=0", "", "nogroup,nochain", "interpret"};

	for (unsigned i = 0; i < sizeof(knobs) / sizeof(knobs[0]); i++) {
		struct enemy *e = enemy_create(knobs[i], 1, false);

		note("%s", knobs[i]);
		last_byte(e);
		low_group(e);
		high_end(e);
		large_page(e);
		flushed_call(e);
		control_registers(e);
		between(e);
		no_masks(e);
		jump_and_mode(e);
		own_table(e);
		next_handler(e);
		refused(e);
		flat_types(e);
		same_sum(e);
		same_addend(e);
		enemy_destroy(e);
		first_page(knobs[i]);
	}
	return done_testing();
}

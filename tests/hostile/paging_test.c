/* SPDX-License-Identifier: MIT */
/*
 * Page tables that point anywhere, and a guest that uses them.
 *
 *	paging_test [ROUNDS]
 *
 * All tables but the way to the guest's own code are random: entries that lead to other tables,
 * to themselves, to the last page of RAM and the first one behind it, to ROM, to nothing, to
 * addresses that no CPU has; large pages where they overlap the end of RAM; reserved bits; every
 * combination of rights. The guest draws addresses and accesses them in many ways, in ring 0 or
 * 3, invalidates pages, reloads CR3, and writes other random entries while it goes. Two vCPUs do
 * that at the same time to the same tables. The alarms are in hostile.h; those about translations
 * look each time before CR3 is reloaded, for afterwards there would be little to see. Whether a
 * translation leads to the right page of guest memory is stale_test's question.
 *
 * The guest (position-independent, at CODE_AT):
 *
 *	rbx random   r14 constants, set up below   r15 log   r12 place in it   rbp turns left
 *
 * What it loads goes into the log, so that a stolen byte would be found there.
 */
#include "tests/hostile/hostile.h"

#include <pthread.h>

#include "tests/tap.h"

#include "softkvm/softkvm.h"

extern const uint8_t guest_begin[], guest_next[], guest_call[], guest_fault[], guest_end[];

enum { CONSTANTS_AT = CODE_AT + 0x1000, LOG_AT = 0x80000, OPS = 32, ADDRESSES = 32 };

__asm__(".section .rodata\n"
	".balign 64\n"
	"guest_begin:\n"
	"guest_next:\n"
	"	dec %ebp\n"
	"	jz 9f\n"
	"	mov %rbx, %rax\n" /* the next random number */
	"	shl $13, %rax\n"
	"	xor %rax, %rbx\n"
	"	mov %rbx, %rax\n"
	"	shr $7, %rax\n"
	"	xor %rax, %rbx\n"
	"	mov %rbx, %rax\n"
	"	shl $17, %rax\n"
	"	xor %rax, %rbx\n"
	"	mov %ebx, %ecx\n" /* an address: (random & one constant) | another */
	"	shr $20, %ecx\n"
	"	and $31, %ecx\n"
	"	shl $4, %ecx\n"
	"	mov (%r14,%rcx), %rsi\n"
	"	and %rbx, %rsi\n"
	"	or 8(%r14,%rcx), %rsi\n"
	"	mov %rbx, %rcx\n" /* an operation */
	"	shr $50, %rcx\n"
	"	and $31, %ecx\n"
	"	shl $5, %ecx\n"
	"	lea 1f(%rip), %rdx\n"
	"	add %rcx, %rdx\n"
	"	jmp *%rdx\n"
	"2:	mov %rax, (%r15,%r12)\n" /* what it loaded */
	"	add $8, %r12d\n"
	"	and $0xfff8, %r12d\n"
	"	jmp guest_next\n"
	"9:	hlt\n"
	"	jmp 9b\n"
	".macro op a, b=nop, c=nop\n"
	"	\\a\n	\\b\n	\\c\n"
	"	jmp 2b\n"
	"	.balign 32\n"
	".endm\n"
	"	.balign 32\n"
	"1:\n"
	"op \"mov (%rsi), %rax\"\n"
	"op \"mov (%rsi), %rax\"\n"
	"op \"mov (%rsi), %eax\"\n"
	"op \"movzwl (%rsi), %eax\"\n"
	"op \"movb (%rsi), %al\"\n"
	"op \"mov %rbx, (%rsi)\"\n"
	"op \"mov %rbx, (%rsi)\"\n"
	"op \"mov %bl, (%rsi)\"\n"
	"op \"add %rbx, (%rsi)\"\n"
	"op \"add (%rsi), %rax\"\n"
	"op \"lock xadd %rax, (%rsi)\"\n"
	"op \"xchg %rax, (%rsi)\"\n"
	"op \"lock cmpxchg %rbx, (%rsi)\"\n"
	"op \"movups (%rsi), %xmm0\", \"movq %xmm0, %rax\"\n"
	"op \"movups %xmm0, (%rsi)\"\n"
	"op \"vmovups (%rsi), %ymm1\", \"vmovups %ymm1, (%r15,%r12)\"\n"
	"op \"vmovups %ymm1, (%rsi)\"\n"
	"op \"movaps (%rsi), %xmm0\", \"movq %xmm0, %rax\"\n"
	"op \"lea (%r15,%r12), %rdi\", \"mov $9, %ecx\", \"rep movsq\"\n"
	"op \"mov %rsi, %rdi\", \"mov $20, %ecx\", \"rep stosb\"\n"
	"op \"mov %rsi, %rdi\", \"mov $9, %ecx\", \"rep movsq\"\n"
	"op \"bts %rbx, (%rsi)\"\n"
	"op \"fldt (%rsi)\", \"fstpt (%r15,%r12)\"\n"
	"op \"mov 8(%rsi), %rax\", \"add 24(%rsi), %rax\", \"mov %rax, 40(%rsi)\"\n" /* a group */
	"op \"mov %rsp, %rdi; mov %rsi, %rsp\", \"push %rbx; pop %rax\", \"mov %rdi, %rsp\"\n"
	"op \"vpcmpeqd %ymm2, %ymm2, %ymm2\", \"vmaskmovps %ymm1, %ymm2, (%rsi)\"\n"
	"op \"vpxor %xmm3, %xmm3, %xmm3\", \"vpcmpeqd %xmm2, %xmm2, %xmm2\", "
	"\"vpgatherqq %xmm2, (%rsi,%xmm3), %xmm0\"\n"
	"op \"invlpg (%rsi)\"\n"
	"op \"out %al, $0xe5\", \"mov %cr3, %rax\", \"mov %rax, %cr3\"\n" /* an audit first */
	"op \"mov %ebx, %ecx; and $0xfff8, %ecx\", \"mov 512(%r14), %rdi\", "
	"\"mov %rsi, (%rdi,%rcx)\"\n" /* an entry somewhere */
	"op \"mov %ebx, %ecx; and $0xfff8, %ecx\", \"mov 512(%r14), %rdi\", "
	"\"lock btcl $1, (%rdi,%rcx)\"\n"
	"guest_call:\n"
	"op \"call *%rsi\"\n"
	"	.balign 32\n"
	/* Faults: rsp points at rip, cs, rflags, rsp, ss; rip becomes guest_next. */
	"guest_fault:\n"
	"	movq $0x10000, (%rsp)\n"
	"	movq $0x30000, 24(%rsp)\n"
	"	iretq\n"
	"guest_end:\n"
	".text\n");

/* -- Tables ----------------------------------------------------------------------------------- */

static uint64_t place(struct enemy *e)
{
	static const uint64_t edges[] = {
		RAM_SIZE - PAGE, RAM_SIZE, HIGH_AT, HIGH_AT - PAGE, HIGH_AT + HIGH_SIZE - PAGE,
		HIGH_AT + HIGH_SIZE, ROM_AT, ROM_AT + ROM_SIZE - PAGE, ROM_AT + ROM_SIZE,
		ROM_AT - PAGE, PML4_AT, PDPT_AT, PD_AT, LOG_AT, 0xfee00000, 1ull << 32,
		1ull << 40, 1ull << 45, 0xffffffffff000, 0x7fffffffff000,
	};

	switch (below(e, 8)) {
	case 0: return edges[below(e, sizeof(edges) / sizeof(edges[0]))];
	case 1: return rnd(e) & 0xffffffffff000;
	case 2: return HIGH_AT + below(e, HIGH_SIZE);
	case 3: return RAM_SIZE - below(e, 16) * PAGE;
	case 4:
	case 5:
	case 6: return TABLES_AT + below(e, TABLES) * PAGE;
	default: return LOG_AT + below(e, RAM_SIZE - LOG_AT);
	}
}

static uint64_t entry(struct enemy *e)
{
	uint64_t v = (place(e) & ~4095ull) | 7;

	if (below(e, 8) == 0)
		v &= ~(1ull << below(e, 3)); /* not present, read-only, not for users */
	if (below(e, 4) == 0)
		v |= 0x80; /* a large page, or PAT */
	if (below(e, 8) == 0)
		v |= 1ull << 63; /* NX */
	if (below(e, 12) == 0)
		v |= 1ull << (8 + below(e, 55)); /* G, reserved, anything */
	if (below(e, 20) == 0)
		v = rnd(e);
	return v;
}

static void put64(struct enemy *e, uint32_t at, uint64_t v)
{
	memcpy(e->ram + at, &v, 8);
}

/* The first 2 MiB and what follows stay as enemy_reset() made them: code, log, stack. */
static void random_tables(struct enemy *e)
{
	for (unsigned at = PML4_AT + 8; at < PDPT_AT; at += 8)
		put64(e, at, below(e, 3) ? entry(e) : TABLES_AT | 7);
	for (unsigned at = PDPT_AT + 8; at < PD_AT; at += 8)
		put64(e, at, entry(e));
	for (unsigned at = PD_AT + 32; at < PD_AT + PAGE; at += 8)
		put64(e, at, entry(e));
	for (unsigned at = TABLES_AT; at < TABLES_AT + TABLES * PAGE; at += 8)
		put64(e, at, entry(e));
}

/* (random & first) | second */
static void constants(struct enemy *e)
{
	static const uint64_t in_page[] = {0xfff, 0xff8, 0xff0, 0x3f};

	for (unsigned i = 0; i < ADDRESSES; i++) {
		uint64_t and = in_page[i % 4], or = 0;

		switch (i / 4) {
		case 0: /* the ends of RAM, by the identity */
			or = RAM_SIZE - 0x40;
			break;
		case 1: and |= 0x1ff000; or = HIGH_AT; break;
		case 2: and |= 0x3fe00000 | 0x1ff000; break;    /* PD */
		case 3: and |= 0x7fc0000000 | 0x3ff000; break; /* PDPT */
		case 4: and |= 0x7fffffff0000; break;           /* PML4, lower half */
		case 5: and |= 0x7fff00003000; or = 0xffff800000000000; break;
		case 6: and |= 0x3fff000; or = 0xfffffffffc000000; break;
		case 7: and = i & 1 ? ~0ull : 0xffff00000000ffff; break; /* not canonical */
		}
		if (i % 4 == 2)
			or |= 0xfc0; /* across the page's end */
		put64(e, CONSTANTS_AT + 16 * i, and);
		put64(e, CONSTANTS_AT + 16 * i + 8, or);
	}
	put64(e, CONSTANTS_AT + 512, TABLES_AT);
}

static void make_handlers(struct enemy *e)
{
	for (unsigned v = 0; v < 32; v++) {
		uint8_t *h = e->ram + HANDLERS_AT + v * 32;
		bool has_code = v == 8 || (v >= 10 && v <= 14) || v == 17;
		unsigned n = has_code ? 4 : 0;

		memcpy(h, "\x48\x83\xc4\x08", 4); /* add rsp, 8 */
		memcpy(h + n, guest_fault, (size_t)(guest_end - guest_fault));
	}
}

static void prepare(struct enemy *e, unsigned turns)
{
	bool user = below(e, 2);

	for (unsigned at = 0; at < RAM_SIZE; at += 8)
		if (at >= LOG_AT || at < GDT_AT)
			put64(e, at, rnd(e));
	enemy_reset(e);
	memcpy(e->ram + CODE_AT, guest_begin, (size_t)(guest_end - guest_begin));
	if (!user) /* noise in ring 0 would end the round: bytes_test has that */
		memset(e->ram + CODE_AT + (guest_call - guest_begin), 0x90, 2);
	make_handlers(e);
	constants(e);
	random_tables(e);
	for (int n = 0; n < e->n_cpus; n++) {
		struct kvm_regs r;

		enemy_start(e, n, user ? LONG_RING3 : LONG_RING0, 0);
		softkvm_ioctl(e->cpu[n].fd, KVM_GET_REGS, &r);
		r.rbx = rnd(e) | 1;
		r.r14 = CONSTANTS_AT;
		r.r15 = LOG_AT + 0x20000 * (uint64_t)n;
		r.r12 = 0;
		r.rbp = turns;
		r.rflags |= 0x3000; /* OUT in ring 3 */
		r.rsp = STACK3_AT;
		softkvm_ioctl(e->cpu[n].fd, KVM_SET_REGS, &r);
	}
}

/* -- Rounds ----------------------------------------------------------------------------------- */

struct job {
	struct enemy *e;
	int n;
	bool fine;
};

static void *run_one(void *arg)
{
	struct job *j = arg;

	j->fine = enemy_run(j->e, j->n, 3000, 12);
	return NULL;
}

static bool run_all(struct enemy *e)
{
	struct job job[CPUS_MAX];
	pthread_t thread[CPUS_MAX];
	bool fine = true;

	for (int n = 0; n < e->n_cpus; n++) {
		job[n] = (struct job){e, n, false};
		if (n)
			pthread_create(&thread[n], NULL, run_one, &job[n]);
	}
	run_one(&job[0]);
	for (int n = 0; n < e->n_cpus; n++) {
		if (n)
			pthread_join(thread[n], NULL);
		fine &= job[n].fine;
	}
	return fine;
}

enum { TURNS = 3000 };

static unsigned turns_done(struct enemy *e)
{
	struct kvm_regs r;

	softkvm_ioctl(e->cpu[0].fd, KVM_GET_REGS, &r);
	return r.rbp <= TURNS ? TURNS - (unsigned)r.rbp : TURNS;
}

static void attack(struct enemy *e, unsigned rounds)
{
	unsigned n, turns = 0;
	bool fine = true;

	for (n = 0; n < rounds && fine; n++) {
		prepare(e, TURNS);
		fine = run_all(e) && enemy_harmless(e);
		turns += turns_done(e);
	}
	if (!fine)
		note("round %u", n - 1);
	ok(fine, "%s: %u rounds of random page tables, %d vCPU%s",
	   e->knobs[0] ? e->knobs : "translated", rounds, e->n_cpus, e->n_cpus > 1 ? "s" : "");
	note("%u accesses", turns);
	enemy_report(e, "page tables");
}

int main(int argc, char **argv)
{
	static const struct {
		const char *knobs;
		int cpus;
	} vms[] = {{"", 1}, {"interpret", 1}, {"tlb,ends,seed=9", 1}, {"", 2}, {"nogroup", 2}};
	enum { VMS = sizeof(vms) / sizeof(vms[0]) };
	unsigned rounds = argc > 1 ? (unsigned)atoi(argv[1]) : 30;
	struct enemy *e[VMS];

	for (unsigned i = 0; i < VMS; i++)
		e[i] = enemy_create(vms[i].knobs, vms[i].cpus, false);
	alarms_arm();
	for (unsigned i = 0; i < VMS; i++)
		attack(e[i], rounds);
	for (unsigned i = 0; i < VMS; i++)
		enemy_destroy(e[i]);
	return done_testing();
}

/* SPDX-License-Identifier: MIT */
/*
 * Pages that move out of a layer while several vCPUs use them (lib/softkvm/mmu/layer.c).
 *
 *	layers_test [ROUNDS]
 *
 *	counters   all add to all pages, and the client does, too: no addition is lost, and what nobody
 *	           wrote is what the layer has
 *	message    a page is read by all but one, so they have entries that lead to the layer; the last
 *	           writes it, and then a flag: who has seen the flag sees the page's new value
 *	code       the same with a page of code that all have called: who has seen the flag, and a CPUID,
 *	           executes the new instruction
 *	asleep     one is out of KVM_RUN while the other writes pages that it has read and called: nobody waits
 *	           for it, and it sees them as they are when it goes on
 *	again      one writes a page through one register and reads it through another, by which it has read it
 *	           before: in one block, and by REP MOVS
 *	device     the only one is out of KVM_RUN while the client writes a page that it has read
 *
 * Each round is a layer more, until the VM has as many as there can be.
 */
#include "tests/smp/smp.h"

#include "softkvm/softkvm.h"
#include "tests/tap.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAGES = 96, FLAGS_AT = 0x38000, LAYERS = 31 };

#define BODY(name) extern const uint8_t name##_begin[], name##_end[];
BODY(add)
BODY(say)
BODY(hear)
BODY(say_code)
BODY(hear_code)
BODY(sleep)
BODY(wake)
BODY(again)
BODY(repeat)

/* rdi: the page; rsi: the first, rdx: their end; rbx: the flag's next value; r8: counts what is wrong;
 * r9: where flags are: r9: said; 8 + 8 * CPU: who has touched. r10: own flag, r11: how many others. */
#define NEXT_PAGE                                                                          \
	"	add $0x1000, %rdi\n"                                                       \
	"	cmp %rdx, %rdi\n"                                                          \
	"	jb 9f\n"                                                                   \
	"	mov %rsi, %rdi\n"                                                          \
	"9:	inc %rbx\n"
#define WAIT_FOR_OTHERS                                                                    \
	"	mov %r11, %rcx\n"                                                          \
	"1:	pause\n"                                                                   \
	"	cmp %rbx, (%r9, %rcx, 8)\n"                                                \
	"	jb 1b\n"                                                                   \
	"	dec %rcx\n"                                                                \
	"	jnz 1b\n"
__asm__(".section .rodata\n"
	"add_begin:\n"
	"	lock incq 8(%rdi)\n" NEXT_PAGE
	"add_end:\n"
	"say_begin:\n" WAIT_FOR_OTHERS
	"	movq $1, (%rdi)\n"
	"	mov %rbx, (%r9)\n" NEXT_PAGE
	"say_end:\n"
	"hear_begin:\n"
	"	mov (%rdi), %rax\n"
	"	mov %rbx, (%r10)\n"
	"1:	pause\n"
	"	cmp %rbx, (%r9)\n"
	"	jb 1b\n"
	"	cmpq $1, (%rdi)\n"
	"	je 2f\n"
	"	inc %r8\n"
	"2:\n" NEXT_PAGE
	"hear_end:\n"
	"say_code_begin:\n" WAIT_FOR_OTHERS
	"	movb $2, 1(%rdi)\n" /* the operand of MOV */
	"	mov %rbx, (%r9)\n" NEXT_PAGE
	"say_code_end:\n"
	"hear_code_begin:\n"
	"	call *%rdi\n"
	"	mov %rbx, (%r10)\n"
	"1:	pause\n"
	"	cmp %rbx, (%r9)\n"
	"	jb 1b\n"
	"	push %rbx\n"
	"	push %rdx\n"
	"	xor %eax, %eax\n"
	"	cpuid\n"
	"	pop %rdx\n"
	"	pop %rbx\n"
	"	call *%rdi\n"
	"	cmp $2, %eax\n"
	"	je 2f\n"
	"	inc %r8\n"
	"2:\n" NEXT_PAGE
	"hear_code_end:\n"
	"sleep_begin:\n" /* rdi: data, rsi: code */
	"	mov (%rdi), %rax\n"
	"	call *%rsi\n"
	"	out %al, $0xe2\n"
	"	cmpq $1, (%rdi)\n"
	"	je 1f\n"
	"	inc %r8\n"
	"1:	xor %eax, %eax\n"
	"	cpuid\n"
	"	call *%rsi\n"
	"	cmp $2, %eax\n"
	"	je 2f\n"
	"	inc %r8\n"
	"2:\n"
	"sleep_end:\n"
	"wake_begin:\n"
	"	out %al, $0xe2\n"
	"	movq $1, (%rdi)\n"
	"	movb $2, 1(%rsi)\n"
	"wake_end:\n"
	"again_begin:\n"
	"	mov %rdi, %rcx\n"
	"	mov 16(%rcx), %rax\n"
	"	mov %rbx, 24(%rdi)\n"
	"	cmp %rbx, 24(%rcx)\n"
	"	je 1f\n"
	"	inc %r8\n"
	"1:\n" NEXT_PAGE
	"again_end:\n"
	"repeat_begin:\n"
	"	lea 32(%rdi), %rsi\n"
	"	lea 33(%rdi), %rdi\n"
	"	mov $7, %ecx\n"
	"	rep movsb\n"
	"	mov -8(%rdi), %al\n" /* all eight are the first */
	"	cmp %al, -1(%rdi)\n"
	"	je 1f\n"
	"	inc %r8\n"
	"1:	sub $40, %rdi\n"
	"	mov %r9, %rsi\n" NEXT_PAGE
	"repeat_end:\n"
	".text\n");

/* -- Layers ------------------------------------------------------------------------ */

static uint8_t *base_make(void)
{
	int fd = memfd_create("base", 0);
	uint8_t *base = MAP_FAILED;

	if (fd >= 0 && ftruncate(fd, SMP_MEMORY) == 0)
		base = mmap(NULL, SMP_MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (base == MAP_FAILED)
		exit(2);
	return base;
}

static uint8_t pattern(unsigned page, unsigned at)
{
	return (uint8_t)(page * 7 + at * 3 + 1);
}

/* The pages of data are the layer's, which has numbers, or code: mov $1, %eax; ret. */
static bool add_layer(struct smp *m, bool code)
{
	static const uint8_t insns[] = {0xb8, 1, 0, 0, 0, 0xc3};
	uint64_t pages[SMP_MEMORY / 4096 / 64] = {0};
	uint8_t *base = base_make();
	int rc;

	for (unsigned p = 0; p < PAGES; p++) {
		unsigned page = SMP_DATA / 4096 + p;
		uint8_t *at = base + SMP_DATA + p * 4096;

		pages[page / 64] |= UINT64_C(1) << (page % 64);
		for (unsigned i = 16; i < 4096; i++)
			at[i] = pattern(p, i);
		if (code)
			memcpy(at, insns, sizeof(insns));
	}
	rc = softkvm_layer(m->vm, 0, base, pages);
	munmap(base, SMP_MEMORY);
	return rc == 0;
}

/* Bytes of a page that are not what the layer had. */
static unsigned wrong_bytes(struct smp *m, unsigned page)
{
	const uint8_t *at = m->mem + SMP_DATA + page * 4096;
	unsigned wrong = 0;

	if (softkvm_take(m->vm, SMP_DATA + page * 4096, 4096) < 0)
		return 4096;
	for (unsigned i = 16; i < 4096; i++)
		wrong += at[i] != pattern(page, i);
	return wrong;
}

/* -- Rounds ------------------------------------------------------------------------ */

static void begin(struct smp *m, int cpu, const uint8_t *from, const uint8_t *end)
{
	struct kvm_regs *r = &m->cpu[cpu].regs;

	r->rdi = r->rsi = SMP_DATA;
	r->rdx = SMP_DATA + PAGES * 4096;
	r->rbx = 1;
	r->rbp = 0;
	r->r8 = 0;
	r->r9 = FLAGS_AT;
	r->r10 = FLAGS_AT + 8u * (unsigned)cpu;
	r->r11 = (uint64_t)m->n_cpus - 1;
	smp_load(m, cpu, from, end);
}

struct adder {
	struct smp *m;
	atomic_bool stop;
	uint64_t added[PAGES];
};

/* The client's own additions, through its own pointer. */
static void *add_too(void *arg)
{
	struct adder *a = arg;

	for (unsigned n = 0; !atomic_load(&a->stop); n++) {
		unsigned page = n * 37 % PAGES;
		uint64_t *at = (uint64_t *)(void *)(a->m->mem + SMP_DATA + page * 4096 + 8);

		if (softkvm_take(a->m->vm, SMP_DATA + page * 4096 + 8, 8) < 0)
			exit(2);
		__atomic_fetch_add(at, 1, __ATOMIC_SEQ_CST);
		a->added[page]++;
	}
	return NULL;
}

static bool counters(struct smp *m)
{
	struct adder a = {.m = m};
	pthread_t thread;
	unsigned wrong = 0, bytes = 0;
	bool fine;

	for (int i = 0; i < m->n_cpus; i++) {
		begin(m, i, add_begin, add_end);
		m->cpu[i].regs.rdi += (unsigned)i * (PAGES / SMP_CPUS) * 4096u;
	}
	if (!add_layer(m, false) || pthread_create(&thread, NULL, add_too, &a))
		return false;
	fine = smp_run(m, PAGES * 8, CLIENT_WAITS);
	atomic_store(&a.stop, true);
	pthread_join(thread, NULL);
	for (unsigned p = 0; p < PAGES; p++) {
		uint64_t count;

		bytes += wrong_bytes(m, p);
		memcpy(&count, m->mem + SMP_DATA + p * 4096 + 8, 8);
		wrong += count != a.added[p] + 8u * (unsigned)m->n_cpus;
	}
	if (wrong || bytes)
		printf("# %u counters and %u bytes are wrong\n", wrong, bytes);
	return fine && !wrong && !bytes;
}

static bool tell(struct smp *m, bool code)
{
	uint64_t wrong = 0;
	bool fine;

	memset(m->mem + FLAGS_AT, 0, 64);
	begin(m, 0, code ? say_code_begin : say_begin, code ? say_code_end : say_end);
	for (int i = 1; i < m->n_cpus; i++)
		begin(m, i, code ? hear_code_begin : hear_begin, code ? hear_code_end : hear_end);
	fine = add_layer(m, code) && smp_run(m, PAGES, CLIENT_WAITS);
	for (int i = 1; i < m->n_cpus; i++)
		wrong += m->cpu[i].regs.r8;
	if (wrong)
		printf("# %llu old values\n", (unsigned long long)wrong);
	return fine && !wrong;
}

static bool message(struct smp *m)
{
	return tell(m, false);
}

static bool code(struct smp *m)
{
	return tell(m, true);
}

/* On to the next OUT. */
static bool go_on(struct smp_cpu *c)
{
	int rc;

	do
		rc = softkvm_ioctl(c->fd, KVM_RUN, NULL);
	while (rc == -EINTR);
	return rc == 0 && softkvm_ioctl(c->fd, KVM_GET_REGS, &c->regs) == 0;
}

/* One of the two pages moves, or both. */
static bool sleeps(struct smp *m, bool data, bool insn)
{
	struct smp_cpu *sleeper = &m->cpu[0], *other = &m->cpu[1];

	begin(m, 0, sleep_begin, sleep_end);
	begin(m, 1, wake_begin, wake_end);
	sleeper->regs.rsi = SMP_DATA + 4096;
	other->regs.rdi = data ? SMP_DATA : FLAGS_AT;
	other->regs.rsi = insn ? SMP_DATA + 4096 : FLAGS_AT + 8;
	return add_layer(m, true) && smp_run(m, 1, CLIENT_WAITS) && go_on(other) && go_on(sleeper) &&
	       sleeper->regs.r8 == (unsigned)!data + (unsigned)!insn;
}

static bool device(struct smp *m)
{
	struct smp_cpu *c = &m->cpu[0];

	begin(m, 0, sleep_begin, sleep_end);
	c->regs.rsi = SMP_DATA + 4096;
	if (!add_layer(m, true) || !smp_run(m, 1, CLIENT_WAITS) ||
	    softkvm_take(m->vm, SMP_DATA, 8) < 0)
		return false;
	memcpy(m->mem + SMP_DATA, &(uint64_t){1}, 8);
	return go_on(c) && c->regs.r8 == 1; /* the code is as it was */
}

/* With the dirty log C makes the first store to a page. */
static bool log_ends(struct smp *m)
{
	struct kvm_userspace_memory_region r = {.memory_size = SMP_MEMORY, .userspace_addr = (uintptr_t)m->mem};

	return softkvm_ioctl(m->vm, KVM_SET_USER_MEMORY_REGION, &r) == 0;
}

static bool runs(struct smp *m, const uint8_t *from, const uint8_t *end)
{
	struct smp_cpu *c = &m->cpu[0];

	begin(m, 0, from, end);
	c->regs.r9 = SMP_DATA; /* of the body of REP MOVS */
	if (!add_layer(m, false) || !smp_run(m, PAGES, CLIENT_WAITS))
		return false;
	if (c->regs.r8)
		printf("# %llu old values\n", c->regs.r8);
	return !c->regs.r8;
}

static bool again(struct smp *m)
{
	return log_ends(m) && runs(m, again_begin, again_end) && runs(m, repeat_begin, repeat_end);
}

static bool asleep(struct smp *m)
{
	return sleeps(m, true, false) && sleeps(m, false, true) && sleeps(m, true, true);
}

static void run(const char *name, bool (*round)(struct smp *m), const char *knobs, int cpus,
		unsigned rounds)
{
	struct smp *m = smp_create(knobs, cpus, false);
	unsigned done = 0;

	for (unsigned i = 0; i < rounds; i++) {
		if (i && i % (LAYERS / 3) == 0) {
			smp_destroy(m);
			m = smp_create(knobs, cpus, false);
		}
		done += round(m);
	}
	smp_destroy(m);
	is_int(done, rounds, "%s, %d vCPUs, %s", name, cpus, knobs[0] ? knobs : "as usual");
}

static void test_bounds(void)
{
	struct smp *m = smp_create("", 1, false);
	uint64_t pages[SMP_MEMORY / 4096 / 64] = {0};
	uint8_t *own = mmap(NULL, SMP_MEMORY, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint8_t *base = base_make(), layers[SMP_MEMORY / 4096];

	ok(softkvm_layer(m->vm, 0, own, pages) < 0, "memory that is not shared is no layer");
	ok(softkvm_layer(m->vm, 7, base, pages) < 0, "a slot that is not there has none");
	ok(softkvm_take(m->vm, SMP_MEMORY - 1, 2) < 0, "what is no memory cannot be taken");
	ok(softkvm_take(m->vm, UINT64_MAX - 4095, 8192) < 0, "nor what goes on at 0");
	for (unsigned i = 0; i < LAYERS; i++) {
		pages[1] = UINT64_C(1) << i;
		if (softkvm_layer(m->vm, 0, base, pages) < 0)
			break;
	}
	ok(softkvm_layers_of(m->vm, 0, layers) == 0 && layers[64] == 1 && layers[64 + 30] == 31,
	   "31 layers can be had, each page in the first that named it");
	ok(softkvm_layer(m->vm, 0, base, pages) < 0, "one more cannot");
	munmap(base, SMP_MEMORY);
	munmap(own, SMP_MEMORY);
	smp_destroy(m);
}

int main(int argc, char **argv)
{
	static const char *const knobs[] = {"", "interpret", "tlb", "nogroup"};
	unsigned rounds = argc > 1 ? (unsigned)atoi(argv[1]) : 2;

	test_bounds();
	for (unsigned k = 0; k < 4; k++) {
		run("asleep", asleep, knobs[k], 2, rounds);
		run("device", device, knobs[k], 1, rounds);
		run("again", again, knobs[k], 1, rounds);
		for (int cpus = 2; cpus <= SMP_CPUS; cpus += 2) {
			run("counters", counters, knobs[k], cpus, rounds);
			run("message", message, knobs[k], cpus, rounds);
			run("code", code, knobs[k], cpus, rounds);
		}
	}
	return done_testing();
}

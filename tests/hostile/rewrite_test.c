/* SPDX-License-Identifier: MIT */
/*
 * Code that another CPU rewrites while it runs.
 *
 *	rewrite_test [MILLISECONDS]
 *
 *	writer:	n++ ; store n into the immediate of `mov eax, imm32` ; store n to `said`
 *	runner:	r9 = said ; CPUID ; call the function ; eax must not be older than r9, nor than
 *		what it was the last time, and never a number that was not written
 *
 * The CPU promises this to who serializes, as the runner does. The store goes through the same
 * address or through another mapping of the page; and the function lies in a page of its own,
 * across two, in the runner's, or among data that is written as well. A runner may also rewrite
 * itself, which it must see without more ado; and there may be a third who stores to the page.
 *
 * Then in turns, so that the runner sleeps while the writer stores: to whole pages, to more pages
 * than there is room for messages, and to a slot that was made anew. The runner must see it, and the
 * writer must not be kept by one who sleeps.
 */
#include "tests/hostile/hostile.h"

#include <pthread.h>
#include <unistd.h>

#include "tests/tap.h"

#include "softkvm/softkvm.h"

extern const uint8_t writer_begin[], writer_end[], runner_begin[], runner_end[];
extern const uint8_t filler_begin[], filler_end[], caller_begin[], caller_end[];

enum { SAID_AT = 0x20000, ALIAS = 0x800000, ALIAS2 = 0xa00000, MANY_AT = 0x50000, MANY = 100 };

/* r8: said, then what went wrong and how often all went well; rdi: the function, as written or
 * called */
__asm__(".section .rodata\n"
	".balign 16\n"
	"writer_begin:\n"
	"1:	inc %ecx\n"
	"	mov %ecx, 1(%rdi)\n"
	"	mfence\n"
	"	mov %ecx, (%r8)\n"
	"	mov $60, %eax\n"
	"	test %r13d, %r13d\n" /* a burst into the page, then a pause */
	"	jz 2f\n"
	"	mov %ecx, 9(%rdi)\n"
	"	mov %ecx, 13(%rdi)\n"
	"	mov $3000, %eax\n"
	"2:	dec %eax\n"
	"	jnz 2b\n"
	"	jmp 1b\n"
	"writer_end:\n"
	".balign 16\n"
	"runner_begin:\n"
	"1:	mov (%r8), %r9d\n"
	"	xor %eax, %eax\n"
	"	cpuid\n"
	"	call *%rdi\n"
	"	cmp %r9d, %eax\n"
	"	jb 3f\n"
	"	cmp %r10d, %eax\n"
	"	jb 3f\n"
	"	mov %eax, %r10d\n"
	"	test %r13d, %r13d\n"
	"	jz 7f\n"
	".rept 200\n" /* a while in which nobody looks for requests */
	"	imul %r14, %r14\n"
	".endr\n"
	"	inc %r12d\n"
	"	mov %r12d, 6f+1(%rip)\n"
	"	jmp 6f\n"
	"	ud2\n"
	"6:	mov $0, %eax\n"
	"	cmp %r12d, %eax\n"
	"	mov %r12d, %r9d\n"
	"	jne 3f\n"
	"7:	mov %r10d, %eax\n"
	"	mov (%r8), %r11d\n" /* at most one ahead of what was said by now */
	"	inc %r11d\n"
	"	cmp %r11d, %eax\n"
	"	ja 3f\n"
	"	incl 12(%r8)\n"
	"	jmp 1b\n"
	"3:	mov %eax, 4(%r8)\n"
	"	mov %r9d, 8(%r8)\n"
	"4:	hlt\n"
	"	jmp 4b\n"
	"runner_end:\n"
	/* rax to rcx places from rdi on, rdx apart */
	"filler_begin:\n"
	"1:	mov %rax, (%rdi)\n"
	"	add %rdx, %rdi\n"
	"	dec %ecx\n"
	"	jnz 1b\n"
	"	out %al, $0x11\n" /* at any level */
	"	hlt\n"
	"filler_end:\n"
	/* calls what is there; r9d is what all shall return, ebx counts the others */
	"caller_begin:\n"
	"	xor %ebx, %ebx\n"
	"1:	call *%rdi\n"
	"	cmp %r9d, %eax\n"
	"	setne %al\n"
	"	movzbl %al, %eax\n"
	"	add %eax, %ebx\n"
	"	add %rdx, %rdi\n"
	"	dec %ecx\n"
	"	jnz 1b\n"
	"	hlt\n"
	"caller_end:\n"
	".text\n");

static const uint64_t low_2m = 0x87; /* maps the first 2 MiB once more */
static struct enemy *e;
static volatile bool stop;

static void *run_one(void *arg)
{
	int n = (int)(intptr_t)arg;

	while (!stop && enemy_run(e, n, 1, 1000))
		;
	return NULL;
}

static uint32_t word(unsigned at)
{
	uint32_t v;

	memcpy(&v, e->ram + SAID_AT + at, 4);
	return v;
}

enum also { NOTHING, ITSELF, THIRD };

static void begin(int n, uint32_t entry, uint64_t function, bool bursts)
{
	struct kvm_regs r;

	enemy_start(e, n, LONG_RING0, entry);
	softkvm_ioctl(e->cpu[n].fd, KVM_GET_REGS, &r);
	r.rsp = STACK3_AT - 0x800 * (uint64_t)n;
	r.r8 = n < 2 ? SAID_AT : SAID_AT + 0x900;
	r.rdi = function;
	r.rcx = r.r10 = r.r12 = 0;
	r.r13 = bursts;
	softkvm_ioctl(e->cpu[n].fd, KVM_SET_REGS, &r);
}

static void try_place(const char *name, uint32_t function, uint64_t alias, enum also also,
		      unsigned ms)
{
	int cpus = also == THIRD ? 3 : 2;
	pthread_t thread[3];

	memset(e->ram + CODE_AT, 0xcc, CODE_SIZE);
	memset(e->ram + SAID_AT, 0, 0x2000);
	enemy_reset(e);
	memcpy(e->ram + PD_AT + 8 * (ALIAS >> 21), &low_2m, 8);
	memcpy(e->ram + CODE_AT, runner_begin, (size_t)(runner_end - runner_begin));
	memcpy(e->ram + CODE_AT + 0x4000, writer_begin, (size_t)(writer_end - writer_begin));
	memcpy(e->ram + function, "\xb8\0\0\0\0\xc3", 6);
	begin(0, 0, function, also == ITSELF);
	begin(1, 0x4000, alias + function, also == ITSELF);
	begin(2, 0x4000, function + 64, true);
	stop = false;
	for (int n = 0; n < cpus; n++)
		pthread_create(&thread[n], NULL, run_one, (void *)(intptr_t)n);
	for (unsigned i = 0; i < ms || ((word(12) < 100 || word(0) < 100) && !word(4)); i++)
		wait_us(1000);
	stop = true;
	for (int n = 0; n < cpus; n++) {
		e->cpu[n].run->immediate_exit = 1;
		softkvm_kick(e->cpu[n].fd);
		pthread_join(thread[n], NULL);
	}
	ok(!word(4) && !word(8), "%s: the runner was not behind (%u calls, %u writes)", name,
	   word(12), word(0));
	if (word(4) || word(8))
		note("said %u, and it was %u", word(8), word(4));
	ok(word(4) || (word(12) >= 100 && word(0) >= 100), "both got on");
}

/* -- In turns ------------------------------------------------------------------------ */

static uint64_t counter(int n, const char *name)
{
	struct softkvm_stat stat[64];
	int k = softkvm_stats(e->cpu[n].fd, stat, 64);

	while (k-- > 0)
		if (!strcmp(stat[k].name, name))
			return stat[k].value;
	return 0;
}

/* Only registers change between the turns, so the translation tables stay. */
static struct kvm_regs turn(int n, uint64_t at, uint64_t stride, unsigned times, uint64_t rax,
			    uint32_t want)
{
	struct kvm_regs r;

	softkvm_ioctl(e->cpu[n].fd, KVM_GET_REGS, &r);
	r.rip = CODE_AT + (n ? 0x4000 : 0);
	r.rsp = STACK3_AT - 0x800 * (uint64_t)n;
	r.rdi = at;
	r.rdx = stride;
	r.rcx = times;
	r.rax = rax;
	r.r9 = want;
	r.rflags |= 0x3000;
	softkvm_ioctl(e->cpu[n].fd, KVM_SET_REGS, &r);
	for (unsigned i = 0; i < 3 && r.rcx; i++) { /* a kick from before may still be there */
		enemy_run(e, n, 1, UNLIMITED);
		softkvm_ioctl(e->cpu[n].fd, KVM_GET_REGS, &r);
	}
	return r;
}

/* Stores `mov $number, %eax; ret` so many times; how many stores had to look after code. */
static unsigned write_functions(uint64_t at, uint64_t stride, unsigned times, uint32_t number)
{
	uint64_t before = counter(1, "code_writes");

	turn(1, at, stride, times, 0xb8 | (uint64_t)number << 8 | 0xc3ull << 40, 0);
	return (unsigned)(counter(1, "code_writes") - before);
}

/* How many of the functions do not return the number. */
static unsigned call_functions(uint64_t at, unsigned n, uint32_t number)
{
	struct kvm_regs r = turn(0, at, PAGE, n, 0, number);

	return (unsigned)r.rbx + (unsigned)r.rcx;
}

static void try_turns(void)
{
	memset(e->ram + CODE_AT, 0xcc, CODE_SIZE);
	memset(e->ram + MANY_AT, 0xcc, MANY * PAGE);
	enemy_reset(e);
	memcpy(e->ram + PD_AT + 8 * (ALIAS >> 21), &low_2m, 8);
	memcpy(e->ram + PD_AT + 8 * (ALIAS2 >> 21), &low_2m, 8);
	memcpy(e->ram + CODE_AT, caller_begin, (size_t)(caller_end - caller_begin));
	memcpy(e->ram + CODE_AT + 0x4000, filler_begin, (size_t)(filler_end - filler_begin));
	enemy_start(e, 0, LONG_RING0, 0);
	enemy_start(e, 1, LONG_RING0, 0x4000);

	for (uint32_t i = 1; i < 20; i++) {
		unsigned slow = write_functions(MANY_AT, 8, PAGE / 8, i);
		unsigned again = write_functions(MANY_AT, 8, PAGE / 8, i + 1000);
		unsigned wrong = call_functions(MANY_AT, 1, i + 1000);

		if (wrong || slow > 2 || again)
			ok(false, "a page: %u slow stores, then %u; %u wrong", slow, again, wrong);
	}
	ok(true, "a page of a sleeping holder is written without C");

	for (uint32_t i = 1; i < 20; i++) {
		unsigned slow = write_functions(MANY_AT, PAGE, MANY, i), again = 0, wrong;

		if (i & 1)
			again = write_functions(MANY_AT, PAGE, MANY, i + 1000);
		wrong = call_functions(MANY_AT, MANY, i & 1 ? i + 1000 : i);
		if (wrong || slow > MANY || again > MANY)
			ok(false, "pages: %u slow stores, then %u; %u wrong", slow, again, wrong);
	}
	ok(true, "more pages than there is room for messages");
}

/* Every entry of the writer's through which it can reach the page has to go. (One page, as for a
 * second it would be asked to give up all entries.) */
static void try_mappings(enum mode writers)
{
	static const uint64_t way[] = {0, ALIAS, ALIAS2};
	unsigned wrong = 0;

	enemy_start(e, 1, writers, 0x4000);
	for (uint32_t i = 1; i < 100; i++) {
		/* two to take the page from who holds it, then one, two or three entries */
		for (unsigned k = 0; i % 4 && k < 2 + i % 4; k++)
			write_functions(MANY_AT + way[(i / 4 + k) % 3], PAGE, 1, i);
		if (i % 4)
			wrong += call_functions(MANY_AT, 1, i);
		write_functions(MANY_AT + way[i % 3], PAGE, 1, i + 1000);
		wrong += call_functions(MANY_AT, 1, i + 1000);
	}
	is_int(wrong, 0, "by three mappings, %s", mode_name(writers));
}

static void set_slot(uint64_t size)
{
	struct kvm_userspace_memory_region r = {.slot = 1, .guest_phys_addr = HIGH_AT,
						.memory_size = size,
						.userspace_addr = (uintptr_t)e->high};

	ok(!softkvm_ioctl(e->vm, KVM_SET_USER_MEMORY_REGION, &r), "slot of %lu bytes",
	   (unsigned long)size);
}

/* A slot's marks go with it, and its translations do not. */
static void try_slot(void)
{
	unsigned n = HIGH_SIZE / PAGE;

	write_functions(HIGH_AT, PAGE, n, 1);
	is_int(call_functions(HIGH_AT, n, 1), 0, "functions in a slot");
	set_slot(0);
	set_slot(HIGH_SIZE);
	is_int(call_functions(HIGH_AT, n, 1), 0, "the same in a new one");
	write_functions(HIGH_AT, PAGE, n, 2);
	is_int(call_functions(HIGH_AT, n, 2), 0, "and rewritten");
}

int main(int argc, char **argv)
{
	static const char *const knobs[] = {"", "nochain,ends,seed=3", "interpret"};
	unsigned ms = argc > 1 ? (unsigned)atoi(argv[1]) : 60;

	for (unsigned i = 0; i < 3; i++) {
		e = enemy_create(knobs[i], 3, false);
		if (i == 0)
			alarms_arm();
		note("%s", knobs[i][0] ? knobs[i] : "translated");
		try_place("a page of its own", CODE_AT + 0x8803, 0, NOTHING, ms);
		try_place("by another mapping", CODE_AT + 0x8803, ALIAS, NOTHING, ms);
		try_place("an instruction in two pages", CODE_AT + 0x8fff, i ? 0 : ALIAS, NOTHING, ms);
		try_place("the runner's page", CODE_AT + 0x803, 0, NOTHING, ms);
		try_place("that it writes itself", CODE_AT + 0x803, 0, ITSELF, ms);
		try_place("with a third", CODE_AT + 0x8803, 0, THIRD, ms);
		try_place("among data", SAID_AT + 0x803, ALIAS, NOTHING, ms);
		try_turns();
		try_mappings(LONG_RING0);
		try_mappings(LONG_RING3);
		try_slot();
		ok(enemy_harmless(e), "and no harm is done");
		enemy_destroy(e);
	}
	return done_testing();
}

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
 * across two, in the runner's, or among data that is written as well.
 */
#include "tests/hostile/hostile.h"

#include <pthread.h>
#include <unistd.h>

#include "tests/tap.h"

#include "softkvm/softkvm.h"

extern const uint8_t writer_begin[], writer_end[], runner_begin[], runner_end[];

enum { SAID_AT = 0x20000, ALIAS = 0x800000 };

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
	".text\n");

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

static void begin(int n, uint32_t entry, uint64_t function)
{
	struct kvm_regs r;

	enemy_start(e, n, LONG_RING0, entry);
	softkvm_ioctl(e->cpu[n].fd, KVM_GET_REGS, &r);
	r.rsp = STACK3_AT - 0x800 * (uint64_t)n;
	r.r8 = SAID_AT;
	r.rdi = function;
	r.rcx = r.r10 = 0;
	softkvm_ioctl(e->cpu[n].fd, KVM_SET_REGS, &r);
}

static void try_place(const char *name, uint32_t function, uint64_t alias, unsigned ms)
{
	static const uint64_t again = 0x87; /* the first 2 MiB once more */
	pthread_t thread[2];

	memset(e->ram + CODE_AT, 0xcc, CODE_SIZE);
	memset(e->ram + SAID_AT, 0, 0x2000);
	enemy_reset(e);
	memcpy(e->ram + PD_AT + 8 * (ALIAS >> 21), &again, 8);
	memcpy(e->ram + CODE_AT, runner_begin, (size_t)(runner_end - runner_begin));
	memcpy(e->ram + CODE_AT + 0x4000, writer_begin, (size_t)(writer_end - writer_begin));
	memcpy(e->ram + function, "\xb8\0\0\0\0\xc3", 6);
	begin(0, 0, function);
	begin(1, 0x4000, alias + function);
	stop = false;
	for (int n = 0; n < 2; n++)
		pthread_create(&thread[n], NULL, run_one, (void *)(intptr_t)n);
	for (unsigned i = 0; i < ms || (i < 5000 && (word(12) < 100 || word(0) < 100) && !word(4)); i++)
		wait_us(1000);
	stop = true;
	for (int n = 0; n < 2; n++) {
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

int main(int argc, char **argv)
{
	static const char *const knobs[] = {"", "nochain,ends,seed=3", "interpret"};
	unsigned ms = argc > 1 ? (unsigned)atoi(argv[1]) : 60;

	for (unsigned i = 0; i < 3; i++) {
		e = enemy_create(knobs[i], 2, false);
		if (i == 0)
			alarms_arm();
		note("%s", knobs[i][0] ? knobs[i] : "translated");
		try_place("a page of its own", CODE_AT + 0x8803, 0, ms);
		try_place("by another mapping", CODE_AT + 0x8803, ALIAS, ms);
		try_place("an instruction in two pages", CODE_AT + 0x8fff, i ? 0 : ALIAS, ms);
		try_place("the runner's page", CODE_AT + 0x803, 0, ms);
		try_place("among data", SAID_AT + 0x803, ALIAS, ms);
		ok(enemy_harmless(e), "and no harm is done");
		enemy_destroy(e);
	}
	return done_testing();
}

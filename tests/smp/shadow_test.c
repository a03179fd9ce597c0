/* SPDX-License-Identifier: MIT */
/*
 * STI: neither an interrupt nor an NMI comes before the instruction that follows it has ended.
 *
 *	shadow_test [ROUNDS]
 *
 * A kernel that is about to sleep does STI, HLT: what came in between would be served before the
 * HLT, and nobody would wake the CPU. With NMIs the manual leaves it open; KVM holds them back, too,
 * and they can be had without a guest that answers them. So the client sends NMIs, and their handler
 * looks where they came. The instruction behind STI is one that often needs C, in the translator:
 * an access to a page that was not touched for long; one to a line after another; and code that is
 * in the next page.
 *
 * The guest: r12 the instruction behind STI, rsi the code before it, rdi and rdx the page it
 * accesses and how far that moves; r8 counts NMIs that came there, r11 all.
 */
#include "tests/smp/smp.h"

#include "tests/tap.h"

extern const uint8_t handler_begin[], handler_end[], caller_begin[], caller_end[], window_begin[],
	window_end[];

__asm__(".section .rodata\n"
	"handler_begin:\n"
	"	inc %r11\n"
	"	cmp %r12, (%rsp)\n"
	"	jne 1f\n"
	"	inc %r8\n"
	"1:	iretq\n"
	"handler_end:\n"
	"caller_begin:\n"
	"	add %rdx, %rdi\n"
	"	and $0xfffff, %edi\n"
	"	or $0x100000, %edi\n"
	"	call *%rsi\n"
	"caller_end:\n"
	"window_begin:\n"
	"	cli\n"
	"	sti\n"
	"	testb $0, (%rdi)\n" /* r12 */
	"	nop\n"
	"	cli\n"
	"	ret\n"
	"window_end:\n"
	".text\n");

enum { HANDLER_AT = 0x1c000, WINDOW_AT = 0x50000, BEFORE = 2 /* CLI, STI */ };

static const struct place {
	const char *name;
	uint64_t window, step;
} places[] = {
	{"an access to page after page", WINDOW_AT, 0x1000},
	{"an access to line after line", WINDOW_AT, 0x40},
	{"code in the next page", WINDOW_AT + 0x1000 - BEFORE, 0x1000},
};

/* The second MiB backwards: what a site predicts holds for one page only. */
static void turn_pages(struct smp *m)
{
	for (unsigned i = 0; i < 256; i++) {
		uint64_t leaf = (uint64_t)(511 - i) << 12 | 0x63;

		memcpy(m->mem + SMP_TABLES + 0x3000 + (256 + i) * 8, &leaf, 8);
	}
}

static void prepare(struct smp *m, const struct place *p)
{
	uint64_t gate = (HANDLER_AT & 0xffff) | 8ull << 16 | 0x8eull << 40 |
			(uint64_t)(HANDLER_AT >> 16) << 48;

	memcpy(m->mem + SMP_IDT + 16 * 2, (uint64_t[]){gate, 0}, 16);
	memcpy(m->mem + HANDLER_AT, handler_begin, (size_t)(handler_end - handler_begin));
	memset(m->mem + WINDOW_AT, 0xcc, 0x2000);
	memcpy(m->mem + p->window, window_begin, (size_t)(window_end - window_begin));
	turn_pages(m);
	smp_load(m, 0, caller_begin, caller_end);
	m->cpu[0].regs = (struct kvm_regs){
		.rsi = p->window, .rdx = p->step, .r12 = p->window + BEFORE};
}

static void try(const char *knobs, const struct place *p, unsigned rounds)
{
	unsigned long long there = 0, all = 0;
	bool fine = true;

	for (unsigned i = 0; i < rounds && fine; i++) { /* a new one: what it learns, it learns once */
		struct smp *m = smp_create(knobs, 1, true);

		prepare(m, p);
		fine = smp_run(m, 5000, CLIENT_SENDS_NMIS);
		there += m->cpu[0].regs.r8;
		all += m->cpu[0].regs.r11;
		smp_destroy(m);
	}
	ok(fine && !there, "%s: %s: %llu of %llu NMIs came behind STI",
	   knobs[0] ? knobs : "translated", p->name, there, all);
}

int main(int argc, char **argv)
{
	static const char *const knobs[] = {"", "sample=0", "interpret", "ends,seed=8"};
	unsigned rounds = argc > 1 ? (unsigned)atoi(argv[1]) : 20;

	for (unsigned k = 0; k < sizeof(knobs) / sizeof(knobs[0]); k++)
		for (unsigned i = 0; i < sizeof(places) / sizeof(places[0]); i++)
			try(knobs[k], &places[i], rounds);
	return done_testing();
}

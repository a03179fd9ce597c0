/* SPDX-License-Identifier: MIT */
/*
 * Model-specific registers, written with whatever hurts: those that hold guest-physical addresses
 * to which the engine writes by itself (clock, steal time, EOI), those that move the APIC, start
 * timers, send interrupts or change what instructions do, and numbers that no CPU has.
 *
 *	msrs_test [ROUNDS]
 *
 * A batch of writes, each read back; then the guest goes in and out a few times with interrupts
 * on, so that what was asked for happens. The alarms are in hostile.h.
 *
 *	rsi  the batch: number, value    rbp  how many
 */
#include "tests/hostile/hostile.h"

#include "tests/tap.h"

#include "softkvm/softkvm.h"

extern const uint8_t writer_begin[], writer_fault[], writer_end[];

enum { BATCH = 200, BATCH_AT = 0x20000 };

__asm__(".section .rodata\n"
	".balign 16\n"
	"writer_begin:\n"
	"1:	mov (%rsi), %ecx\n"
	"	mov 8(%rsi), %eax\n"
	"	mov 12(%rsi), %edx\n"
	"	wrmsr\n"
	"	mov (%rsi), %ecx\n"
	"	rdmsr\n"
	"	mov %eax, 8(%rsi)\n"
	"	mov %edx, 12(%rsi)\n"
	"	add $16, %rsi\n"
	"	dec %ebp\n"
	"	jnz 1b\n"
	"	mov $20, %ebp\n"
	"2:	sti\n" /* ports: out of KVM_RUN and back */
	"	out %al, $0x80\n"
	"	dec %ebp\n"
	"	jnz 2b\n"
	"3:	hlt\n"
	"	jmp 3b\n"
	"writer_fault:\n" /* WRMSR and RDMSR have two bytes, like what else faults here */
	"	addq $2, (%rsp)\n"
	"	iretq\n"
	"writer_end:\n"
	".text\n");

static uint32_t number(struct enemy *e)
{
	static const uint32_t known[] = {
		0x10, 0x1b, 0x3a, 0x3b, 0x48, 0x49, 0x8b, 0xce, 0xfe, 0x10a, 0x10b, 0x122, 0x140,
		0x174, 0x175, 0x176, 0x179, 0x17a, 0x17b, 0x186, 0x1a0, 0x1d9, 0x200, 0x20f, 0x250,
		0x277, 0x2ff, 0x400, 0x47f, 0x6e0, 0xc8d, 0xda0, 0xc0000080, 0xc0000081, 0xc0000082,
		0xc0000083, 0xc0000084, 0xc0000100, 0xc0000101, 0xc0000102, 0xc0000103, 0xc0000104,
		0xc0010015, 0xc001001f, 0xc0010058, 0xc0010114, 0xc0010117, 0xc0011029, 0x11, 0x12,
		0x4b564d00, 0x4b564d01, 0x4b564d02, 0x4b564d03, 0x4b564d04, 0x4b564d05, 0x4b564d06,
		0x4b564d07, 0x40000000, 0x40000001,
	};

	switch (below(e, 8)) {
	case 0: return 0x800 + below(e, 0x100); /* x2APIC */
	case 1: return below(e, 0x500);
	case 2: return 0xc0000000 + below(e, 0x200) + 0x10000 * below(e, 3);
	case 3: return (uint32_t)rnd(e);
	case 4: return 0x4b564d00 + below(e, 10);
	default: return known[below(e, sizeof(known) / sizeof(known[0]))];
	}
}

/* Often an address with its lowest bit set, which means "on". */
static uint64_t value(struct enemy *e)
{
	static const uint64_t pages[] = {
		RAM_SIZE, HIGH_AT, HIGH_AT + HIGH_SIZE, ROM_AT, ROM_AT + ROM_SIZE, 0xfee00000,
		0x400000, ~0ull,
	};

	if (below(e, 3))
		return (pages[below(e, 8)] - below(e, 8) * 8 + below(e, 2) * 4) | below(e, 4);
	return nasty(e);
}

static void prepare(struct enemy *e)
{
	struct kvm_regs r;

	enemy_reset(e);
	memcpy(e->ram + CODE_AT, writer_begin, (size_t)(writer_end - writer_begin));
	for (unsigned v = 0; v < 32; v++) {
		bool has_code = v == 8 || (v >= 10 && v <= 14) || v == 17;
		uint8_t *h = e->ram + HANDLERS_AT + v * 32;

		memcpy(h, "\x48\x83\xc4\x08", 4);
		memcpy(h + (has_code ? 4 : 0), writer_fault, (size_t)(writer_end - writer_fault));
	}
	for (unsigned i = 0; i < BATCH; i++) {
		uint64_t pair[2] = {number(e), value(e)};

		memcpy(e->ram + BATCH_AT + 16 * i, pair, 16);
	}
	enemy_start(e, 0, LONG_RING0, 0);
	softkvm_ioctl(e->cpu[0].fd, KVM_GET_REGS, &r);
	r.rsi = BATCH_AT;
	r.rbp = BATCH;
	r.rsp = STACK3_AT;
	softkvm_ioctl(e->cpu[0].fd, KVM_SET_REGS, &r);
}

static void attack(struct enemy *e, unsigned rounds, const char *what)
{
	bool fine = true;
	unsigned n;

	for (n = 0; n < rounds && fine; n++) {
		prepare(e);
		fine = enemy_run(e, 0, 60, 6) && enemy_harmless(e);
	}
	if (!fine)
		note("round %u", n - 1);
	ok(fine, "%u times %u MSRs, %s", rounds, BATCH, what);
	enemy_report(e, "MSRs");
}

int main(int argc, char **argv)
{
	unsigned rounds = argc > 1 ? (unsigned)atoi(argv[1]) : 100;
	struct enemy *plain = enemy_create("", 1, false);
	struct enemy *wired = enemy_create("", 1, true);

	alarms_arm();
	attack(plain, rounds, "no interrupt controller");
	attack(wired, rounds, "with interrupt controllers");
	enemy_destroy(plain);
	enemy_destroy(wired);
	return done_testing();
}

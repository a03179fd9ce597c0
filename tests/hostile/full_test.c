/* SPDX-License-Identifier: MIT */
/*
 * A code cache that is full but for less than an entry, and a jump to linear address 0.
 *
 * A block wants so much room that the cache is emptied long before it is full. But a gate, which a
 * block gets when somebody jumps to it, wants a hundred bytes, and does without when there
 * is no room. So the guest first visits all its blocks by direct jumps, the one at 0 among them,
 * and then jumps to each through a register, until no gate is to be had; at last to 0, some times. Its
 * entry in the second jump cache is what nobody has filled, all zeros: that of a jump to 0, in 32-bit
 * code, at offset 0 of the cache.
 *
 * How many blocks it takes depends on how long their code is, so all numbers are tried.
 */
#include "tests/hostile/hostile.h"

#include <stdio.h>
#include <string.h>

#include "tests/tap.h"

#include "softkvm/softkvm.h"

extern const uint8_t guest_begin[], guest_end[];

/* The blocks: `jz` to the next, or `jmp *%edi`. The first is at a multiple of 64 KiB, as 0 is. */
enum { BLOCKS_AT = 0x50000, COUNT_AT = 0x20000, JUMPS = 6 };

/* At 0, and in the same page, for direct jumps across pages have gates: there, and on to edi. It is the
 * first page that has code, number 0. */
static const uint8_t zero[] = {0xff, 0xe7}, plain[] = {0xe9, 0xeb, 0xff, 0xff, 0xff};
enum { PLAIN_AT = 0x10 };

/* ebp: the end of the blocks; edi: the beginning of this */
__asm__(".section .rodata\n"
	".code32\n"
	".balign 16\n"
	"guest_begin:\n"
	"	mov $2f - guest_begin + 0x10000, %ebx\n" /* all blocks, by direct jumps */
	"	mov $0x50000, %esi\n"
	"	xor %eax, %eax\n"
	"	jmp *%esi\n"
	/* each by an indirect one, then to eax some times: first one block and 0x50000, so that all of
	 * this is translated and has its gates; then all, and 0 */
	"2:	mov $0x50004, %edx\n"
	"	mov $0x50000, %eax\n"
	"	mov $2, %ecx\n"
	"3:	mov $5f - guest_begin + 0x10000, %edi\n"
	"	mov $0x50000, %esi\n"
	"4:	cmp %edx, %esi\n"
	"	jae 6f\n"
	"	jmp *%esi\n"
	"5:	add $4, %esi\n"
	"	jmp 4b\n"
	"6:	mov $7f - guest_begin + 0x10000, %edi\n"
	"	jmp *%edi\n"
	"7:	dec %ecx\n"
	"	jz 8f\n"
	"	incl 0x20000\n"
	"	jmp *%eax\n"
	"8:	mov $6, %ecx\n"
	"	xor %eax, %eax\n"
	"	cmp %edx, %ebp\n"
	"	mov %ebp, %edx\n"
	"	jne 3b\n"
	"	hlt\n"
	"guest_end:\n"
	".code64\n"
	".text\n");

static unsigned word(const struct enemy *e, uint32_t at)
{
	uint32_t v;

	memcpy(&v, e->ram + at, 4);
	return v;
}

/* The mode whose number is 0 (engine.h), as is that of an entry nobody filled: AVX but not
 * AVX-512, and an FS that ends early. Where there is no AVX it is another. */
static void set_mode(struct enemy *e)
{
	struct kvm_xcrs xcrs = {.nr_xcrs = 1, .xcrs[0].value = 7};
	struct kvm_sregs s;

	softkvm_ioctl(e->cpu[0].fd, KVM_GET_SREGS, &s);
	s.fs.limit = 0xffff;
	s.fs.g = 0;
	s.cr0 = 0x33;     /* PE, MP, ET, NE */
	s.cr4 |= 0x600;   /* OSFXSR, OSXMMEXCPT */
	softkvm_ioctl(e->cpu[0].fd, KVM_SET_SREGS, &s);
	softkvm_ioctl(e->cpu[0].fd, KVM_SET_XCRS, &xcrs);
}

/* True: all jumps came back. */
static bool visit(const char *knobs, unsigned blocks)
{
	static const uint8_t block[] = {0x74, 0x02, 0xff, 0xe7}, last[] = {0xff, 0xe3};
	struct enemy *e = enemy_create(knobs, 1, false);
	struct kvm_regs r;
	bool fine;

	enemy_reset(e);
	memset(e->ram + COUNT_AT, 0, 4);
	for (unsigned i = 0; i < blocks; i++)
		memcpy(e->ram + BLOCKS_AT + 4 * i, block, sizeof(block));
	memcpy(e->ram + BLOCKS_AT + 4 * blocks, last, sizeof(last));
	memcpy(e->ram, zero, sizeof(zero));
	memcpy(e->ram + PLAIN_AT, plain, sizeof(plain));
	memcpy(e->ram + CODE_AT, guest_begin, (size_t)(guest_end - guest_begin));
	enemy_start(e, 0, PROTECTED_RING0, 0);
	set_mode(e);
	softkvm_ioctl(e->cpu[0].fd, KVM_GET_REGS, &r);
	r.rip = PLAIN_AT;
	r.rdi = CODE_AT;
	r.rbp = BLOCKS_AT + 4 * blocks;
	softkvm_ioctl(e->cpu[0].fd, KVM_SET_REGS, &r);
	fine = enemy_run(e, 0, 1, 5000) && enemy_harmless(e) &&
	       e->cpu[0].run->exit_reason == KVM_EXIT_HLT && word(e, COUNT_AT) == JUMPS;
	if (!fine)
		printf("# %u blocks: exit %u, %u jumps of %u\n", blocks,
		       e->cpu[0].run->exit_reason, word(e, COUNT_AT), JUMPS);
	enemy_destroy(e);
	return fine;
}

int main(void)
{
	static const char *const modes[] = {"cache=256K", "cache=256K,nogs,nobmi1", "cache=256K,sample=0"};

	alarms_arm();
	for (unsigned m = 0; m < 3; m++) {
		bool fine = true;

		for (unsigned blocks = 600; blocks <= 2600 && fine; blocks += 50)
			fine = visit(modes[m], blocks);
		ok(fine, "%s: jumps to 0 lead to 0, however full the cache is", modes[m]);
	}
	return done_testing();
}

/* SPDX-License-Identifier: MIT */
/*
 * The table of code pages is full, and C wants one more in the middle of a block.
 *
 * C executes what translated code leaves to it by the bytes at rip, and so it may come to a page that has
 * had no code yet: the guest changed the mapping of the page that it runs in, and did not say so. Where
 * there is no room for that page the code cache is emptied, and the block, of which there is
 * a rest to be executed, is no more.
 *
 * The guest: a function, called twice, of which C executes the first instruction, for it is atomic and
 * goes across pages. Then it fills the table: a RET in each page of 256 MiB, which are the same MiB
 * again and again. Then it maps a copy in the function's place, and calls it once more: that takes a
 * jump which nobody has taken before. (INVLPG only then.) How many pages it takes depends on how many were there, so a few
 * numbers are tried.
 */
#include "tests/hostile/hostile.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/macros.h"
#include "tests/tap.h"

#include "softkvm/engine.h"
#include "softkvm/softkvm.h"

enum { MANY_AT = 0x40000000, MIB = 1 << 20, FUNCTION_AT = 0x80000, COPY_AT = 0x81000 };
#define MANY_SIZE ((uint64_t)PAGES * PAGE)

extern const uint8_t pages_begin[], pages_function[], pages_end[];

/* ebp: the operand on two pages, 0; esi: what is added; edx: how many pages */
__asm__(".section .rodata\n"
	".code64\n"
	"pages_begin:\n"
	"	mov $0x80000120, %ebx\n"
	"	call *%rbx\n"
	"	call *%rbx\n"
	"	mov $0x40000000, %edi\n"
	"1:	call *%rdi\n"
	"	add $4096, %edi\n"
	"	dec %edx\n"
	"	jnz 1b\n"
	"	movl $0x81007, 0x42000\n" /* COPY_AT */
	"	inc %esi\n"
	"	call *%rbx\n"
	"	invlpg (%rbx)\n"
	"	hlt\n"
	"pages_function:\n"
	"	lock add %esi, (%rbp)\n"
	"	jz 2f\n"
	"	jmp 3f\n"
	"2:	ret\n"
	"	nop\n"
	"3:	ret\n"
	"pages_end:\n"
	".text\n");

static void put64(struct enemy *e, uint32_t at, uint64_t v)
{
	memcpy(e->ram + at, &v, 8);
}

/* One MiB that is there 256 times, with RET at the beginning of each page. */
static uint8_t *make_many(void)
{
	int fd = memfd_create("enemy-ram", MFD_CLOEXEC);
	uint8_t *at = mmap(NULL, MANY_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
			   -1, 0);

	if (fd < 0 || ftruncate(fd, MIB) || at == MAP_FAILED)
		return NULL;
	for (uint64_t o = 0; o < MANY_SIZE; o += MIB)
		mmap(at + o, MIB, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
	close(fd);
	for (unsigned o = 0; o < MIB; o += PAGE)
		at[o] = 0xc3;
	return at;
}

static void map_all(struct enemy *e)
{
	put64(e, PDPT_AT + 8, TABLES_AT | 7);
	for (unsigned i = 0; i < MANY_SIZE >> 21; i++)
		put64(e, TABLES_AT + 8 * i, (MANY_AT + ((uint64_t)i << 21)) | 0xe7);
	put64(e, PDPT_AT + 16, (TABLES_AT + PAGE) | 7);
	put64(e, TABLES_AT + PAGE, (TABLES_AT + 2 * PAGE) | 7);
	put64(e, TABLES_AT + 2 * PAGE, FUNCTION_AT | 7);
}

static void fill(struct enemy *e, unsigned n)
{
	struct kvm_regs r = {.rip = CODE_AT, .rsp = STACK3_AT, .rbp = STACK3_AT + PAGE - 2,
			     .rdx = n, .rflags = 2};
	size_t len = (size_t)(pages_end - pages_function);

	memset(e->ram, 0, RAM_SIZE);
	enemy_reset(e);
	map_all(e);
	memcpy(e->ram + CODE_AT, pages_begin, (size_t)(pages_end - pages_begin));
	memcpy(e->ram + FUNCTION_AT + 0x120, pages_function, len);
	memcpy(e->ram + COPY_AT + 0x120, pages_function, len);
	enemy_start(e, 0, LONG_RING0, 0);
	softkvm_ioctl(e->cpu[0].fd, KVM_SET_REGS, &r);
	enemy_run(e, 0, 1, UNLIMITED);
	softkvm_ioctl(e->cpu[0].fd, KVM_GET_REGS, &r);
	ok(e->cpu[0].run->exit_reason == KVM_EXIT_HLT && r.rsi == 1 && enemy_harmless(e),
	   "%s: %u pages", e->knobs, n);
}

static void try(const char *knobs, uint8_t *many, unsigned less)
{
	struct enemy *e = enemy_create(knobs, 1, false);
	struct kvm_userspace_memory_region r = {.slot = 7, .guest_phys_addr = MANY_AT,
						.memory_size = MANY_SIZE,
						.userspace_addr = (uintptr_t)many};

	softkvm_ioctl(e->vm, KVM_SET_USER_MEMORY_REGION, &r);
	fill(e, PAGES - less);
	enemy_destroy(e);
}

int main(void)
{
	static const char *const knobs[] = {"", "sample=0"};
	uint8_t *many = make_many();

	for (unsigned i = 0; many && i < ARRAY_SIZE(knobs); i++)
		for (unsigned less = 1; less < 4; less++)
			try(knobs[i], many, less);
	return done_testing();
}

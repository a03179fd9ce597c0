/* SPDX-License-Identifier: MIT */
/*
 * How much of the host's memory a guest of 1 MiB takes by visiting its address space.
 *
 * All of it is mapped, by four pages of page table, or nothing is; the guest visits a place in each
 * GiB, by instructions of each kind that looks into the views' tables. Every one makes the host
 * touch another page of a table, and every other one a page of its page tables. What lodge has must
 * stay below a bound, whatever the guest does; without one it would be hundreds of MiB in a second.
 *
 *	room_test [files]
 *
 * With "files" private memory is limited (ulimit -d), and the tables become those of files (os/space.h):
 * there reading takes a page, too, and one that is given back must leave the file, not only the
 * mapping.
 */
#include "tests/hostile/hostile.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/macros.h"
#include "tests/tap.h"

#include "softkvm/softkvm.h"

/* MiB that a vCPU's tables may take (mmu/touched.c): 12 KiB for each of their pages, and 2 MiB of page
 * tables of the second level for each of seven views. */
#define BOUND(pages) (12 * (pages) / 1024 + 7 * 2)
enum { TABLE_AT = 0x70000 };

static const struct {
	const char *knobs;
	unsigned visits;
	long bound;
} limits[] = {{"", 12000, BOUND(4096 + 8)}, {"tlb", 3000, BOUND(24)}};

extern const uint8_t room_begin[], room_end[];

__asm__(".section .rodata\n"
	".balign 32\n"
	".macro visit a, b=nop, c=nop\n"
	"	.balign 32\n"
	"1:	mov %rbx, %rsi\n"
	"	mov %rbx, %rdi\n"
	"	\\a\n	\\b\n	\\c\n"
	"	add %rdx, %rbx\n"
	"	dec %ecx\n"
	"	jnz 1b\n"
	"	out %al, $0x80\n"
	".endm\n"
	"room_begin:\n"
	"	visit lodsb\n"
	"	visit stosb\n"
	"	visit movsb\n"
	"	visit \"mov %al, (%rsi)\"\n"
	"	visit \"movups (%rsi), %xmm0\"\n"
	"	visit \"lock incb (%rsi)\"\n"
	"	visit \"invlpg (%rsi)\"\n"
	"	visit \"mov 3(%rsi), %eax\", \"mov 7(%rsi), %eax\", \"mov (%rsi), %eax\"\n" /* a group */
	"	visit \"mov %rsi, %rax\", \"mov -1(%rax), %ax\"\n" /* two pages */
	"	visit \"mov %rsi, %rax\", \"lock incw -1(%rax)\"\n"
	"	visit \"cmpxchg16b (%rsi)\"\n"
	"	visit \"fxsave (%rsi)\"\n"
	"	visit \"lea 8(%rsi), %rsp\", \"push %rax\"\n"
	"	visit \"sidt (%rsi)\"\n" /* by C */
	"	visit \"mov %rsi, %rax\", \"mov $2, %r8\", \"xlat\"\n"
	"	visit \"dec %rsi\", \"mov %ecx, %eax; mov $1, %ecx; rep movsw; mov %eax, %ecx\"\n"
	"	visit \"dec %rdi\", \"mov %ecx, %eax; mov $1, %ecx; rep stosw; mov %eax, %ecx\"\n"
	"room_end:\n"
	".text\n");

static const char *const kinds[] = {
	"lodsb", "stosb", "movsb", "stores", "vectors", "lock inc", "invlpg", "groups",
	"two pages", "lock inc on two pages", "cmpxchg16b", "fxsave", "push", "sidt", "xlat",
	"rep movs on two pages", "rep stos on two pages"};

#define STEP ((1 << 30) + (2 << 20)) /* pages of a table in as many pages of the host's page tables */

static const struct sweep {
	const char *name;
	uint64_t from;
	enum mode mode;
	bool mapped;
	unsigned kinds, limit; /* so many of the above, and one of these */
} sweeps[] = {
	{"all mapped", 0, LONG_RING0, true, 1, 0},
	{"all mapped", 0, LONG_RING0, true, ARRAY_SIZE(kinds), 1},
	{"nothing mapped", 1ull << 39, LONG_RING0, false, ARRAY_SIZE(kinds), 1},
	{"not canonical", 1ull << 47, LONG_RING0, false, ARRAY_SIZE(kinds), 1},
	{"all mapped", 0, LONG_RING3, true, 2, 1},
	{"nothing mapped", 1ull << 39, LONG_RING3, false, 2, 1},
};

static bool files;

/* KiB of the files that tables are in, mapped or not. -1: this user is not told. */
static long in_files(void)
{
	FILE *f = fopen("/proc/self/maps", "re");
	char line[256], range[64], path[128];
	unsigned long last = 0;
	long kib = 0;

	while (f && kib >= 0 && fgets(line, sizeof(line), f)) {
		struct stat s;

		if (!strstr(line, "softkvm-space") || sscanf(line, "%63s", range) != 1)
			continue;
		snprintf(path, sizeof(path), "/proc/self/map_files/%s", range);
		if (stat(path, &s))
			kib = -1;
		else if (s.st_ino != last) /* pieces of one lie side by side */
			kib += s.st_blocks / 2;
		last = s.st_ino;
	}
	if (f)
		fclose(f);
	return kib;
}

/* What this process has in MiB: pages, and page tables. */
static long own(void)
{
	FILE *f = fopen("/proc/self/status", "re");
	long kib = files ? in_files() : 0, n;
	char line[128];

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, files ? "RssAnon: %ld" : "VmRSS: %ld", &n) == 1 ||
		    sscanf(line, "VmPTE: %ld", &n) == 1)
			kib += n;
	if (f)
		fclose(f);
	return kib / 1024;
}

/* PML4, PDPT, PD, PT: each entry leads to the next, the last ones to the page itself that holds the
 * guest's data. The code is where it is: the first 2 MiB are the first table's. */
static void map_all(struct enemy *e)
{
	uint64_t *t = (uint64_t *)(void *)(e->ram + TABLE_AT);

	for (unsigned level = 0; level < 4; level++)
		for (unsigned i = 0; i < 512; i++)
			t[level * 512 + i] = (level == 3 ? (uint64_t)i << 12 & 0xff000 :
						 TABLE_AT + (level + 1) * PAGE) | 0x67;
}

static void visit(struct enemy *e, unsigned kind, const struct sweep *s)
{
	struct kvm_sregs sregs;
	struct kvm_regs r;

	enemy_reset(e);
	map_all(e);
	memcpy(e->ram + CODE_AT, room_begin, (size_t)(room_end - room_begin));
	enemy_start(e, 0, s->mode, kind * 32);
	softkvm_ioctl(e->cpu[0].fd, KVM_GET_SREGS, &sregs);
	sregs.cr0 = (sregs.cr0 & ~0xcull) | 0x22;
	sregs.cr4 |= 0x600;
	if (s->mapped)
		sregs.cr3 = TABLE_AT;
	softkvm_ioctl(e->cpu[0].fd, KVM_SET_SREGS, &sregs);
	softkvm_ioctl(e->cpu[0].fd, KVM_GET_REGS, &r);
	r.rbx = s->from + 0x40000; /* data, where all is mapped */
	r.rdx = STEP;
	r.rcx = limits[s->limit].visits;
	r.rflags = 0x3002; /* IOPL 3, for OUT */
	softkvm_ioctl(e->cpu[0].fd, KVM_SET_REGS, &r);
	enemy_run(e, 0, 1, UNLIMITED);
}

static void try(const struct sweep *s)
{
	const char *knobs = limits[s->limit].knobs;
	struct enemy *e = enemy_create(knobs, 1, false);
	long before, worst = 0;
	unsigned by = 0;

	before = own();
	for (unsigned kind = 0; kind < s->kinds; kind++) {
		visit(e, kind, s);
		if (own() - before > worst) {
			worst = own() - before;
			by = kind;
		}
	}
	ok(worst <= limits[s->limit].bound && enemy_harmless(e),
	   "%s: %s, %s: %ld MiB more, by %s (bound: %ld)", knobs, mode_name(s->mode), s->name, worst,
	   kinds[by], limits[s->limit].bound);
	enemy_destroy(e);
}

/* Not so little that the C library finds none. False: what files take cannot be found out. */
static bool limit_private(void)
{
	const struct rlimit data = {256 << 20, 256 << 20};
	struct enemy *e;

	setrlimit(RLIMIT_DATA, &data);
	files = true;
	e = enemy_create("", 1, false);
	visit(e, 0, &sweeps[0]);
	if (in_files() < 0)
		skip("/proc/self/map_files cannot be read");
	else
		ok(in_files() > 0, "the tables are files, of %ld KiB", in_files());
	enemy_destroy(e);
	return in_files() >= 0;
}

int main(int argc, char **argv)
{
	if (argc > 1 && !strcmp(argv[1], "files") && !limit_private())
		return done_testing();
	alarms_arm();
	for (unsigned s = 0; s < ARRAY_SIZE(sweeps); s++)
		try(&sweeps[s]);
	return done_testing();
}

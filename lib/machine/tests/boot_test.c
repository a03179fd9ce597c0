/* SPDX-License-Identifier: MIT */
/*
 * Loaders: what a good kernel becomes in guest memory, and the sentence for each bad one.
 *
 * Kernels are made here, field by field, as small as the protocols allow. A bad case is the
 * good one with a change, and the words that the error must have.
 */
#include "base/bytes.h"
#include "base/err.h"
#include "base/macros.h"
#include "machine/tests/elf_file.h"
#include "machine/boot/blob.h"
#include "machine/boot/boot.h"
#include "machine/board_map.h"
#include "machine/map.h"
#include "tests/tap.h"

#include <errno.h>

#define MEMORY (64 * MiB)
#define RSDP   board_direct.at[BOARD_RSDP].base
#define SETUP  1024 /* bytes of set-up program: setup_sects is 1 */
#define KERNEL 4096 /* bytes of protected-mode kernel */

static struct map_ram ram;
static struct guest_mem mem;
static int ram_file; /* boot_plan.ram */

/* -- Good ones -------------------------------------------------------------------------- */

static size_t make_bzimage(uint8_t *b)
{
	memset(b, 0, SETUP + KERNEL);
	b[0x1f1] = 1;
	le32_put(b + 0x1f4, KERNEL / 16);
	le16_put(b + 0x1fe, 0xaa55);
	b[0x200] = 0xeb;
	b[0x201] = 0x66; /* the header ends at 0x268 */
	memcpy(b + 0x202, "HdrS", 4);
	le16_put(b + 0x206, 0x20f);
	b[0x211] = 1;
	le32_put(b + 0x22c, 0x7fffffff);
	le32_put(b + 0x230, 2 * MiB);
	b[0x234] = 1;
	le16_put(b + 0x236, 1);
	le32_put(b + 0x238, 2047);
	le64_put(b + 0x258, 16 * MiB);
	le32_put(b + 0x260, 20 * MiB);
	memset(b + SETUP, 0xc5, KERNEL);
	return SETUP + KERNEL;
}

static size_t make_elf(uint8_t *b)
{
	static const uint8_t code[64] = {0xf4};
	struct elf_file f = elf_file_good(sizeof(code));

	memset(b, 0, ELF_FILE_MAX);
	return elf_file_bytes(&f, code, sizeof(code), b);
}

static struct blob blob_of(const char *role, const uint8_t *bytes, size_t len)
{
	return (struct blob){
		.role = role, .path = role, .size = len, .fd = -1, .bytes = bytes,
	};
}

static const struct blob *more; /* behind the initrd */

static int load(const uint8_t *bytes, size_t len, const struct blob *initrd,
		const char *cmdline, struct boot_entry *entry, struct err *err)
{
	struct blob kernel = blob_of("kernel", bytes, len);
	struct boot_plan plan = {
		.kernel = &kernel, .initrd = initrd, .initrd_more = more, .cmdline = cmdline, .mem = &mem,
		.ram = ram_file, .memory = MEMORY, .board = &board_direct, .rsdp = RSDP,
	};

	*err = (struct err){0};
	return boot_load(&plan, entry, err);
}

static void test_bzimage(void)
{
	static uint8_t file[SETUP + KERNEL], disk[600000]; /* more than one piece */
	struct blob initrd = blob_of("initrd", disk, sizeof(disk));
	size_t len = make_bzimage(file);
	const uint8_t *zero = ram.host + MAP_ZERO_PAGE;
	struct boot_entry entry;
	struct err err;
	uint32_t at;

	memset(disk, 0x17, sizeof(disk));
	if (!ok(load(file, len, &initrd, "quiet", &entry, &err) == 0,
		"a bzImage loads %s", err.text))
		return;
	is_int(entry.mode, BOOT_LONG, "it is entered in long mode");
	is_int(entry.rip, 16 * MiB + 0x200, "where it prefers to be");
	is_int(entry.info, MAP_ZERO_PAGE, "with the zero page");
	is_int(ram.host[16 * MiB], 0xc5, "the kernel is there");
	is_str((char *)ram.host + MAP_CMDLINE, "quiet", "so is the command line");
	is_int(le32_get(zero + 0x228), MAP_CMDLINE, "and the zero page knows where");
	is_int(le64_get(zero + 0x70), RSDP, "it knows the RSDP");
	is_int(zero[0x210], 0xff, "and what kind of loader we are");
	at = le32_get(zero + 0x218);
	is_int(le32_get(zero + 0x21c), sizeof(disk), "the initrd's size");
	is_int(at % 4096, 0, "it begins at a page");
	ok(at + sizeof(disk) <= MEMORY && at >= 36 * MiB,
	   "behind the kernel, in memory");
	is_int(ram.host[at + sizeof(disk) - 1], 0x17, "it is there to its last byte");
	is_int(zero[0x1e8], 6, "six memory map entries without high memory");
	is_int(le64_get(ram.host + MAP_PAGE_TABLES + 2 * 4096 + 8), 0x200083,
	       "the second 2 MiB are mapped to themselves");
}

/* What a header asks for, and where kernel and an initrd of 1 MiB (`above`) go, or the words of
 * the refusal. */
static const struct layout {
	uint64_t memory, pref;
	uint32_t align, init_size;
	bool fixed; /* not relocatable */
	uint32_t initrd_max;
	uint64_t load, above;
	const char *words;
} layouts[] = {
	/* Debian's kernels: from tiny to beyond the hole. */
	{32 * MiB, 16 * MiB, 2 * MiB, 51 * MiB, .words = "51 MiB from 16 MiB on, the guest has 32"},
	{54 * MiB, 16 * MiB, 2 * MiB, 51 * MiB, .words = "51 MiB from 16 MiB on, the guest has 54"},
	{67 * MiB - 4096, 16 * MiB, 2 * MiB, 51 * MiB, .words = "the guest has 66 MiB memory"},
	{67 * MiB, 16 * MiB, 2 * MiB, 51 * MiB, .words = "of 67 MiB memory 0 KiB are free"},
	{68 * MiB - 4096, 16 * MiB, 2 * MiB, 51 * MiB, .words = "1020 KiB are free for it"},
	{68 * MiB, 16 * MiB, 2 * MiB, 51 * MiB, .load = 16 * MiB, .above = 67 * MiB},
	{3 * GiB, 16 * MiB, 2 * MiB, 51 * MiB, .load = 16 * MiB, .above = 2 * GiB - 1 * MiB},
	{5 * GiB, 16 * MiB, 2 * MiB, 51 * MiB, .load = 16 * MiB, .above = 2 * GiB - 1 * MiB},
	{5 * GiB, 16 * MiB, 2 * MiB, 51 * MiB, .initrd_max = UINT32_MAX, .load = 16 * MiB,
	 .above = 3 * GiB - 1 * MiB},
	/* Alignments. */
	{64 * MiB, 17 * MiB, 16 * MiB, 1 * MiB, .load = 32 * MiB, .above = 63 * MiB},
	{64 * MiB, 17 * MiB, 16 * MiB, 1 * MiB, .fixed = true, .load = 17 * MiB, .above = 63 * MiB},
	{64 * MiB, 17 * MiB, 1, 1 * MiB, .load = 17 * MiB, .above = 63 * MiB},
	{64 * MiB, 17 * MiB, 0, 1 * MiB, .words = "alignment of 0x0, which is no power of two"},
	{64 * MiB, 17 * MiB, 0x300000, 1 * MiB, .words = "alignment of 0x300000, which is no power"},
	{64 * MiB, 17 * MiB, 0, 1 * MiB, .fixed = true, .load = 17 * MiB, .above = 63 * MiB},
	{64 * MiB, 17 * MiB, 1u << 31, 1 * MiB, .words = "1 MiB from 2048 MiB on"},
	{5 * GiB, 17 * MiB, 1u << 31, 1 * MiB, .words = "does not fit"},
	{5 * GiB, 17 * MiB, 1u << 31, 1 * MiB, .initrd_max = UINT32_MAX, .load = 2 * GiB,
	 .above = 3 * GiB - 1 * MiB},
	/* Places. */
	{64 * MiB, 0, 2 * MiB, 1 * MiB, .load = 2 * MiB, .above = 63 * MiB},
	{64 * MiB, 0x7000, 1, 1 * MiB, .load = 1 * MiB, .above = 63 * MiB},
	{64 * MiB, 0, 2 * MiB, 1 * MiB, .fixed = true, .words = "wants to be at 0x0, below 1 MiB"},
	{64 * MiB, 0xff000, 1, 1 * MiB, .fixed = true, .words = "wants to be at 0xff000, below 1 MiB"},
	{64 * MiB, 64 * MiB, 2 * MiB, 1 * MiB, .words = "from 64 MiB on, the guest has 64"},
	{64 * MiB, UINT64_MAX - 4095, 2 * MiB, 1 * MiB, .words = "the guest has 64 MiB memory"},
	{5 * GiB, 3 * GiB, 2 * MiB, 1 * MiB, .words = "5120 MiB memory, 3072 of them below"},
	{6 * GiB, 4 * GiB, 2 * MiB, 1 * MiB, .words = "1 MiB from 4096 MiB on"},
	/* Sizes: what is less than the file is the file's. */
	{64 * MiB, 16 * MiB, 2 * MiB, 0, .load = 16 * MiB, .above = 63 * MiB},
	{64 * MiB, 16 * MiB, 2 * MiB, 0, .initrd_max = 17 * MiB + KERNEL - 1, .load = 16 * MiB,
	 .above = 16 * MiB + KERNEL},
	{64 * MiB, 16 * MiB, 2 * MiB, 0, .initrd_max = 17 * MiB + KERNEL - 2, .words = "does not fit"},
	{5 * GiB, 16 * MiB, 2 * MiB, UINT32_MAX, .words = "needs 4096 MiB from 16 MiB on"},
	{64 * MiB, 16 * MiB, 2 * MiB, 1 * MiB, .initrd_max = 1, .words = "does not fit"},
};

static void test_layout(const struct layout *l)
{
	static uint8_t file[SETUP + KERNEL], disk[1 * MiB];
	struct blob kernel = blob_of("kernel", file, make_bzimage(file));
	struct blob initrd = blob_of("initrd", disk, sizeof(disk));
	struct map_ram own;
	struct guest_mem own_mem = {0};
	struct boot_plan plan = {
		.kernel = &kernel, .initrd = &initrd, .cmdline = "", .mem = &own_mem,
		.memory = l->memory, .board = &board_direct,
	};
	struct boot_entry entry = {0};
	struct err err = {0};
	int rc;

	le32_put(file + 0x22c, l->initrd_max ? l->initrd_max : 0x7fffffff);
	le32_put(file + 0x230, l->align);
	file[0x234] = !l->fixed;
	le64_put(file + 0x258, l->pref);
	le32_put(file + 0x260, l->init_size);
	if (map_ram_create(&own, &board_direct, l->memory, 0, -1, &own_mem, &err) < 0) {
		ok(false, "guest memory %s", err.text);
		return;
	}
	rc = boot_load(&plan, &entry, &err);
	if (l->words)
		ok(rc < 0 && strstr(err.text, l->words), "layout %td: %s", l - layouts, err.text);
	else
		ok(rc == 0 && entry.rip == l->load + 0x200 && own.host[l->load] == 0xc5 &&
		   le32_get(own.host + MAP_ZERO_PAGE + 0x218) == l->above,
		   "layout %td: kernel at 0x%llx, initrd at 0x%x %s", l - layouts,
		   (unsigned long long)entry.rip, le32_get(own.host + MAP_ZERO_PAGE + 0x218),
		   err.text);
	map_ram_destroy(&own);
}

static void test_pvh(void)
{
	static uint8_t file[ELF_FILE_MAX];
	size_t len = make_elf(file);
	struct boot_entry entry;
	struct err err;

	ram.host[ELF_BASE + 100] = 1;
	if (!ok(load(file, len, NULL, "x=1", &entry, &err) == 0,
		"a PVH kernel loads %s", err.text))
		return;
	is_int(entry.mode, BOOT_PROTECTED, "it is entered in protected mode");
	is_int(entry.rip, ELF_BASE, "at its note's entry");
	is_int(le32_get(ram.host + MAP_PVH_INFO), 0x336ec578,
	       "the start info has its magic");
	is_int(le64_get(ram.host + MAP_PVH_INFO + 24), MAP_CMDLINE,
	       "and the command line");
	is_int(ram.host[ELF_BASE], 0xf4, "the code is there");
	is_int(ram.host[ELF_BASE + 100], 0, "what the file does not have is zero");
}

/* -- Bad ones --------------------------------------------------------------------------- */

/* A field of `width` bytes that gets another value; width 0: the file is cut there. */
static const struct {
	const char *name;
	bool elf;
	uint16_t at;
	uint8_t width;
	uint64_t value;
	const char *words;
} bad[] = {
	{"old protocol", false, 0x206, 2, 0x204, "speaks boot protocol 2.04"},
	{"32-bit kernel", false, 0x236, 2, 0, "no 64-bit entry"},
	{"zImage", false, 0x211, 1, 0, "is a zImage"},
	{"cut in the header", false, 0x220, 0, 0, "cut off within its header"},
	{"cut in the kernel", false, 0x800, 0, 0, "is cut off"},
	{"set-up larger than the file", false, 0x1f1, 1, 200, "is cut off"},
	{"huge size", false, 0x1f4, 4, 0xffffffff, "is cut off"},
	{"huge init_size", false, 0x260, 4, 0xffffffff, "the guest has 64 MiB memory"},
	{"no relocation", false, 0x234, 1, 0, NULL},
	{"no magic", false, 0x202, 4, 0, "neither a bzImage nor an ELF file"},
	{"for ARM", true, 18, 2, 183, "not for x86-64"},
	{"32-bit ELF", true, 4, 1, 1, "not for x86-64"},
	{"no program headers", true, 56, 2, 0, "without usable program headers"},
	{"many program headers", true, 56, 2, 60000, "without usable program headers"},
	{"odd program headers", true, 54, 2, 8, "without usable program headers"},
	{"headers outside of the file", true, 32, 8, UINT64_MAX - 8, "is cut off"},
	{"no note", true, 120, 4, 0, "without a PVH entry note"},
	{"another's note", true, ELF_NOTE_AT + 8, 4, 17, "without a PVH entry note"},
	{"a note too long", true, ELF_NOTE_AT + 4, 4, 0xfffffff0, "without a PVH entry note"},
	{"entry outside", true, ELF_NOTE_AT + 16, 4, 0x4000000, "outside of its segments"},
	{"entry in the first MiB", true, ELF_NOTE_AT + 16, 4, 0x7000, "outside of its segments"},
	{"entry between segments", true, ELF_NOTE_AT + 16, 4, ELF_BASE - 1, "outside of its segments"},
	{"segment in the first MiB", true, 64 + 24, 8, 0x7000, "RAM from 0x100000"},
	{"segment beyond RAM", true, 64 + 24, 8, MEMORY, "RAM from 0x100000"},
	{"segment that wraps", true, 64 + 40, 8, UINT64_MAX - 4096, "RAM from 0x100000"},
	{"more file than memory", true, 64 + 40, 8, 8, "larger in the file than in memory"},
	{"segment outside of the file", true, 64 + 8, 8, UINT64_MAX - 16, "is cut off"},
};

static void test_bad(void)
{
	static uint8_t file[ELF_FILE_MAX];
	struct boot_entry entry;
	struct err err;

	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		size_t len = bad[i].elf ? make_elf(file) : make_bzimage(file);
		int rc;

		if (bad[i].width)
			memcpy(file + bad[i].at, &bad[i].value, bad[i].width);
		else
			len = bad[i].at;
		rc = load(file, len, NULL, "", &entry, &err);
		if (!bad[i].words) {
			is_int(rc, 0, "%s is no mistake %s", bad[i].name, err.text);
			continue;
		}
		ok(rc < 0 && strstr(err.text, bad[i].words), "%s: %s", bad[i].name,
		   err.text);
	}
}

/* The note, too, becomes a segment. */
static int load_two(uint64_t at, uint64_t len, struct err *err)
{
	static uint8_t file[ELF_FILE_MAX];
	size_t n = make_elf(file);
	struct boot_entry entry;
	Elf64_Phdr two = {.p_type = PT_LOAD, .p_paddr = at, .p_memsz = len};

	memcpy(file + sizeof(Elf64_Ehdr) + sizeof(two), &two, sizeof(two));
	return load(file, n, NULL, "", &entry, err);
}

static void test_two_segments(void)
{
	const uint64_t end = ELF_BASE + 64 + 0x10000;
	struct err err;

	ok(load_two(end - 1, 1, &err) < 0 && strstr(err.text, "lie over each other"),
	   "a segment over the last byte of another: %s", err.text);
	ok(load_two(ELF_BASE, end, &err) < 0 && strstr(err.text, "lie over each other"),
	   "over all of it: %s", err.text);
	ok(load_two(end, 4096, &err) < 0 && strstr(err.text, "without a PVH entry note"),
	   "behind it is well: %s", err.text);
	ok(load_two(ELF_BASE + 1, 0, &err) < 0 && strstr(err.text, "without a PVH entry note"),
	   "and so is an empty one: %s", err.text);
}
static void test_more(void)
{
	static uint8_t file[SETUP + KERNEL];
	const struct blob initrd = blob_of("initrd", (const uint8_t *)"12345", 5),
			  behind = blob_of("more", (const uint8_t *)"more", 4),
			  large = {.role = "more", .path = "more", .size = 60 * MiB, .fd = -1, .bytes = file};
	size_t len = make_bzimage(file);
	const uint8_t *zero = ram.host + MAP_ZERO_PAGE;
	struct boot_entry entry;
	struct err err;

	map_ram_clear(&ram);
	more = &behind;
	is_int(load(file, len, &initrd, "", &entry, &err), 0, "an initrd, and more of it %s", err.text);
	is_int(le32_get(zero + 0x21c), 12, "their size is one");
	ok(!memcmp(ram.host + le32_get(zero + 0x218), "12345\0\0\0more", 12), "with zeros between them");
	is_int(load(file, len, NULL, "", &entry, &err), 0, "without an initrd");
	is_int(le32_get(zero + 0x21c), 0, "there is no more of it");
	more = &large;
	ok(load(file, len, &initrd, "", &entry, &err) == -ENOMEM && strstr(err.text, "does not fit"), "%s",
	   err.text);
	more = NULL;
}

static void test_limits(void)
{
	static uint8_t file[SETUP + KERNEL];
	static char cmdline[3000];
	struct blob initrd = {.role = "initrd",
			      .path = "initrd",
			      .size = 60 * MiB,
			      .fd = -1,
			      .bytes = file};
	size_t len = make_bzimage(file);
	struct boot_entry entry;
	struct err err;
	int rc;

	rc = load(file, len, &initrd, "", &entry, &err);
	ok(rc == -ENOMEM && strstr(err.text, "of 61440 KiB does not fit"), "initrd: %s",
	   err.text);
	initrd.size = UINT64_MAX - 10;
	rc = load(file, len, &initrd, "", &entry, &err);
	ok(rc == -ENOMEM, "an initrd of 2^64 bytes: %s", err.text);
	memset(cmdline, 'a', sizeof(cmdline) - 1);
	rc = load(file, len, NULL, cmdline, &entry, &err);
	ok(rc < 0 && strstr(err.text, "2999 bytes, the kernel takes 2047"),
	   "command line: %s", err.text);
}

static const struct {
	const char *bytes, *words;
} wrong_files[] = {
	{"\x1f\x8b\x08", "gzip data"},
	{"\x28\xb5\x2f\xfd----", "zstd data"},
	{"070701000", "cpio archive"},
	{"!<arch>\ndebian", "Debian package"},
	{"QFI\xfb", "qcow2"},
	{"#!/bin/sh", "a script"},
	{"x", "neither"},
};

static void test_wrong_files(void)
{
	struct boot_entry entry;
	struct err err;

	for (unsigned i = 0; i < ARRAY_SIZE(wrong_files); i++) {
		const char *b = wrong_files[i].bytes;
		int rc = load((const uint8_t *)b, strlen(b), NULL, "", &entry, &err);

		ok(rc == -ENOEXEC && strstr(err.text, wrong_files[i].words), "%s",
		   err.text);
	}
}

static void test_blobs(void)
{
	struct err err = {0};
	struct blob b;
	uint8_t byte;

	is_int(blob_open(&b, "kernel", "/nonexistent", &err), -ENOENT, "%s", err.text);
	is_int(blob_open(&b, "kernel", "/tmp", &err), -EISDIR, "%s", err.text);
	is_int(blob_open(&b, "kernel", "/dev/null", &err), -EINVAL, "%s", err.text);
	is_int(blob_open(&b, "kernel", "/proc/self/maps", &err), -EINVAL, "%s",
	       err.text);
	if (is_int(blob_open(&b, "kernel", "/proc/self/exe", &err), 0,
		   "a file opens")) {
		is_int(blob_read(&b, b.size - 1, &byte, 1, &err), 0, "its last byte");
		is_int(blob_read(&b, b.size, &byte, 1, &err), -EINVAL, "not one more");
		is_int(blob_read(&b, UINT64_MAX, &byte, 2, &err), -EINVAL,
		       "nor one that wraps");
		blob_close(&b);
	}
}

int main(void)
{
	struct err err = {0};

	if (!is_int(map_ram_create(&ram, &board_direct, MEMORY, 0, -1, &mem, &err), 0, "guest memory %s",
		    err.text))
		return done_testing();
	for (unsigned way = 0; way < 2; way++) { /* through the mapping, through the file */
		ram_file = way ? ram.fd : 0;
		map_ram_clear(&ram);
		test_bzimage();
		test_pvh();
		test_more();
		test_bad();
	}
	for (unsigned i = 0; i < ARRAY_SIZE(layouts); i++)
		test_layout(&layouts[i]);
	test_two_segments();
	test_limits();
	test_wrong_files();
	test_blobs();
	map_ram_destroy(&ram);
	return done_testing();
}

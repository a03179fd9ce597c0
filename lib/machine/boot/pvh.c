/* SPDX-License-Identifier: MIT */
/*
 * PVH: an ELF kernel (an uncompressed vmlinux) entered in 32-bit protected mode.
 *
 * The entry point comes from an ELF note (name "Xen", type 18, XEN_ELFNOTE_PHYS32_ENTRY),
 * the rest is what Xen's public header hvm/start_info.h describes: EBX points to
 * hvm_start_info, paging is off, segments are flat, interrupts are off. Linux and FreeBSD
 * have such entries, and a test can have one in twenty lines of assembly.
 *
 *	hvm_start_info        at MAP_PVH_INFO
 *	  modlist               one entry, the initrd
 *	  memmap                E820 in other clothes
 *
 * Program headers name physical places (p_paddr); each is bounds-checked against the file
 * and against RAM from 1 MiB up, so a hostile file can fill its own guest and nothing else; and none
 * may lie over another, so it does that once and not sixty times.
 */
#include "machine/boot/boot.h"

#include "base/bytes.h"
#include "base/err.h"
#include "machine/boot/blob.h"
#include "machine/map.h"

#include <elf.h>
#include <errno.h>
#include <string.h>

#define NOTE_PHYS32_ENTRY 18
#define PHDRS_MAX 64
#define INITRD_END (2 * GiB) /* Linux maps one below it in every configuration */
#define NOTES_MAX 65536 /* bytes of one note segment */

/* Offsets into hvm_start_info and its lists. */
enum {
	INFO_MAGIC = 0,           /* 32 */
	INFO_VERSION = 4,         /* 32 */
	INFO_MODULES = 12,        /* 32 */
	INFO_MODLIST = 16,        /* 64 */
	INFO_CMDLINE = 24,        /* 64 */
	INFO_RSDP = 32,           /* 64 */
	INFO_MEMMAP = 40,         /* 64 */
	INFO_MEMMAP_ENTRIES = 48, /* 32 */
	MODLIST = 0x40,           /* ours: where the lists follow */
	MEMMAP = 0x80,
	INFO_SIZE = MEMMAP + MAP_ENTRIES_MAX * 24,
};

#define START_MAGIC 0x336ec578u

static int bad(const struct blob *kernel, const char *what, struct err *err)
{
	return err_set(err, ENOEXEC, "kernel '%s' %s", kernel->path, what);
}

static int read_ehdr(const struct blob *kernel, Elf64_Ehdr *eh, struct err *err)
{
	int rc;

	if (kernel->size < sizeof(*eh))
		return bad(kernel, "is cut off within its ELF header", err);
	rc = blob_read(kernel, 0, eh, sizeof(*eh), err);
	if (rc < 0)
		return rc;
	if (eh->e_ident[EI_CLASS] != ELFCLASS64 || eh->e_machine != EM_X86_64)
		return bad(kernel, "is an ELF file, but not for x86-64", err);
	if (eh->e_phentsize != sizeof(Elf64_Phdr) || eh->e_phnum == 0 ||
	    eh->e_phnum > PHDRS_MAX)
		return bad(kernel, "is an ELF file without usable program headers",
			   err);
	return 0;
}

/* Copies one segment; *top becomes the end of what is loaded. */
static int put_segment(const struct boot_plan *plan, const Elf64_Phdr *ph, gpa_t *top,
		       struct err *err)
{
	gpa_t end = map_low_end(plan->board, plan->memory);
	uint8_t *to;

	if (ph->p_memsz == 0)
		return 0;
	if (ph->p_filesz > ph->p_memsz)
		return bad(plan->kernel,
			   "has a segment larger in the file than in memory", err);
	if (ph->p_paddr < MAP_BIOS_END || ph->p_paddr > end ||
	    ph->p_memsz > end - ph->p_paddr)
		return err_set(
			err, ENOMEM,
			"kernel '%s' wants %llu KiB at 0x%llx, the guest has RAM from 0x100000 to 0x%llx",
			plan->kernel->path, (unsigned long long)ph->p_memsz >> 10,
			(unsigned long long)ph->p_paddr, (unsigned long long)end);
	to = guest_range(plan->mem, ph->p_paddr, ph->p_memsz);
	if (!to)
		return bad(plan->kernel, "wants memory that is not RAM", err);
	memset(to + ph->p_filesz, 0, ph->p_memsz - ph->p_filesz);
	if (ph->p_paddr + ph->p_memsz > *top)
		*top = ph->p_paddr + ph->p_memsz;
	if (ph->p_filesz == 0)
		return 0;
	return boot_put_file(plan, plan->kernel, ph->p_offset, ph->p_paddr,
			     ph->p_filesz, err);
}

/* Looks through one note segment; *entry is set if ours is in it. */
static int scan_notes(const uint8_t *p, uint64_t len, gpa_t *entry)
{
	while (len >= 12) {
		uint64_t namesz = le32_get(p), descsz = le32_get(p + 4);
		uint64_t name = 12, desc = name + ((namesz + 3) & ~3ull);
		uint64_t next = desc + ((descsz + 3) & ~3ull);

		if (next > len)
			return 0;
		if (le32_get(p + 8) == NOTE_PHYS32_ENTRY && namesz == 4 &&
		    memcmp(p + name, "Xen", 4) == 0 && descsz >= 4) {
			*entry = le32_get(p + desc);
			return 1;
		}
		p += next;
		len -= next;
	}
	return 0;
}

static int find_entry(const struct blob *kernel, const Elf64_Phdr *ph, gpa_t *entry,
		      struct err *err)
{
	static uint8_t notes[NOTES_MAX];
	uint64_t len = ph->p_filesz < NOTES_MAX ? ph->p_filesz : NOTES_MAX;
	int rc = blob_read(kernel, ph->p_offset, notes, len, err);

	return rc < 0 ? rc : scan_notes(notes, len, entry);
}

static bool is_within(gpa_t entry, const Elf64_Phdr *ph, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (ph[i].p_type == PT_LOAD && entry >= ph[i].p_paddr &&
		    entry - ph[i].p_paddr < ph[i].p_memsz)
			return true;
	return false;
}

static bool overlap(const Elf64_Phdr *a, const Elf64_Phdr *b)
{
	return a->p_type == PT_LOAD && b->p_type == PT_LOAD && a->p_memsz && b->p_memsz &&
	       a->p_paddr < b->p_paddr + b->p_memsz && b->p_paddr < a->p_paddr + a->p_memsz;
}

/* SAFE: those before have been placed, so their ends do not wrap. */
static bool is_alone(const Elf64_Phdr *ph, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (overlap(&ph[i], &ph[n]))
			return false;
	return true;
}

static int put_segments(const struct boot_plan *plan, gpa_t *entry, gpa_t *top,
			struct err *err)
{
	const struct blob *kernel = plan->kernel;
	Elf64_Phdr ph[PHDRS_MAX];
	Elf64_Ehdr eh;
	int rc = read_ehdr(kernel, &eh, err);

	if (rc == 0)
		rc = blob_read(kernel, eh.e_phoff, ph, eh.e_phnum * sizeof(ph[0]), err);
	for (unsigned i = 0; rc >= 0 && i < eh.e_phnum; i++) {
		if (ph[i].p_type == PT_NOTE && !*entry)
			rc = find_entry(kernel, &ph[i], entry, err);
		else if (ph[i].p_type == PT_LOAD && !is_alone(ph, i))
			rc = bad(kernel, "has segments that lie over each other", err);
		else if (ph[i].p_type == PT_LOAD)
			rc = put_segment(plan, &ph[i], top, err);
	}
	if (rc < 0)
		return rc;
	if (!*entry)
		return bad(
			kernel,
			"is an ELF file without a PVH entry note: a bzImage works as well",
			err);
	if (!is_within(*entry, ph, eh.e_phnum))
		return bad(kernel, "has its PVH entry outside of its segments", err);
	return 0;
}

static int put_info(const struct boot_plan *plan, gpa_t initrd, uint64_t initrd_size,
		    struct err *err)
{
	struct map_entry entries[MAP_ENTRIES_MAX];
	unsigned n = map_entries(plan->board, plan->memory, entries);
	uint8_t info[INFO_SIZE] = {0};

	le32_put(info + INFO_MAGIC, START_MAGIC);
	le32_put(info + INFO_VERSION, 1);
	le32_put(info + INFO_MODULES, initrd_size ? 1 : 0);
	le64_put(info + INFO_MODLIST, MAP_PVH_INFO + MODLIST);
	le64_put(info + INFO_CMDLINE, MAP_CMDLINE);
	le64_put(info + INFO_RSDP, plan->rsdp);
	le64_put(info + INFO_MEMMAP, MAP_PVH_INFO + MEMMAP);
	le32_put(info + INFO_MEMMAP_ENTRIES, n);
	le64_put(info + MODLIST, initrd);
	le64_put(info + MODLIST + 8, initrd_size);
	for (unsigned i = 0; i < n; i++) {
		le64_put(info + MEMMAP + i * 24, entries[i].base);
		le64_put(info + MEMMAP + i * 24 + 8, entries[i].size);
		le32_put(info + MEMMAP + i * 24 + 16, entries[i].type);
	}
	if (guest_write(plan->mem, MAP_PVH_INFO, info, sizeof(info)) < 0)
		return err_set(err, EFAULT, "no guest memory for the PVH start info");
	return 0;
}

int pvh_load(const struct boot_plan *plan, struct boot_entry *entry, struct err *err)
{
	gpa_t start = 0, top = 0, initrd;
	uint64_t initrd_size;
	int rc;

	if ((rc = put_segments(plan, &start, &top, err)) < 0 ||
	    (rc = boot_put_cmdline(plan, MAP_CMDLINE_MAX, err)) < 0 ||
	    (rc = boot_put_initrd(plan, top, INITRD_END, &initrd, &initrd_size, err)) < 0 ||
	    (rc = put_info(plan, initrd, initrd_size, err)) < 0)
		return rc;
	*entry = (struct boot_entry){
		.mode = BOOT_PROTECTED,
		.protocol = "pvh",
		.rip = start,
		.info = MAP_PVH_INFO,
	};
	return 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * bzImage, by the 64-bit boot protocol (the kernel's Documentation/arch/x86/boot.rst).
 *
 * The file is a 16-bit set-up program and, behind it, the protected-mode kernel, most often
 * a small decompressor with the real kernel as its payload. What a boot loader would do in
 * 16-bit mode is done here, from outside: of the set-up program only its header is used.
 *
 *	file      0        0x1f1           (setup_sects + 1) * 512
 *	          | boot sector, set-up header ...| protected-mode kernel ...  |
 *	                   |                      |
 *	guest     0x7000 + 0x1f1 (zero page)      load address; entry is 0x200 above it
 *
 * The *zero page* (struct boot_params) carries the header back to the kernel with the
 * fields that a loader fills in, the memory map, and the address of the ACPI tables. RSI
 * points to it. Paging is on and the first 4 GiB are mapped to themselves, which covers all
 * that the protocol wants covered: kernel, zero page, command line.
 *
 * The kernel is loaded where it prefers to be (pref_address, 16 MiB) and needs init_size
 * bytes there, more than the file has: it unpacks itself over itself. To load it lower would
 * win nothing: one that finds itself below pref_address unpacks itself at pref_address.
 *
 * Left out: protocols before 2.12 (2012) and 32-bit kernels, which have no 64-bit entry;
 * setup_data; loading above 4 GiB, where there is nothing to win.
 */
#include "machine/boot/boot.h"

#include "base/bytes.h"
#include "base/err.h"
#include "machine/boot/blob.h"
#include "machine/map.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define ENTRY_64 0x200 /* startup_64, from the load address */

/* Offsets into the file's first sectors and into the zero page alike. */
enum {
	SETUP_SECTS = 0x1f1,      /* 8 bits */
	SYSSIZE = 0x1f4,          /* 32, in units of 16 bytes */
	HEADER_JUMP = 0x201,      /* 8: the header ends so far behind 0x202 */
	VERSION = 0x206,          /* 16 */
	TYPE_OF_LOADER = 0x210,   /* 8 */
	LOADFLAGS = 0x211,        /* 8 */
	RAMDISK_IMAGE = 0x218,    /* 32 */
	RAMDISK_SIZE = 0x21c,     /* 32 */
	CMD_LINE_PTR = 0x228,     /* 32 */
	INITRD_ADDR_MAX = 0x22c,  /* 32, the last byte */
	KERNEL_ALIGNMENT = 0x230, /* 32 */
	RELOCATABLE = 0x234,      /* 8 */
	XLOADFLAGS = 0x236,       /* 16 */
	CMDLINE_SIZE = 0x238,     /* 32, without the NUL */
	PREF_ADDRESS = 0x258,     /* 64 */
	INIT_SIZE = 0x260,        /* 32 */
	HEADER_END = 0x290,       /* where it may end at most: the edd buffer follows */

	/* of the zero page only */
	ACPI_RSDP_ADDR = 0x070,   /* 64 */
	E820_ENTRIES = 0x1e8,     /* 8 */
	E820_TABLE = 0x2d0,       /* 20 bytes each */
};

#define LOADED_HIGH  0x01 /* of loadflags */
#define KERNEL_64    0x01 /* of xloadflags */
#define LOADER_OTHER 0xff /* type_of_loader: none that has a number */

struct image {
	uint8_t head[HEADER_END]; /* what the file has there, zeros behind its header */
	uint64_t at;              /* of the protected-mode kernel in the file */
	uint64_t len;             /* of it */
	gpa_t load;
	uint64_t room; /* it needs from load on, until it knows its memory */
};

static int old_kernel(const struct blob *kernel, unsigned version, struct err *err)
{
	return err_set(
		err, ENOEXEC,
		"kernel '%s' speaks boot protocol %u.%02u, 2.12 or newer is needed",
		kernel->path, version >> 8, version & 0xff);
}

static int read_header(struct image *im, const struct blob *kernel, struct err *err)
{
	uint8_t raw[HEADER_END];
	unsigned end, sects, version;
	int rc;

	if (kernel->size < sizeof(raw))
		return err_set(err, ENOEXEC, "kernel '%s' is cut off within its header",
			       kernel->path);
	rc = blob_read(kernel, 0, raw, sizeof(raw), err);
	if (rc < 0)
		return rc;
	version = le16_get(raw + VERSION);
	end = 0x202u + raw[HEADER_JUMP];
	if (version < 0x20c || end < INIT_SIZE + 4)
		return old_kernel(kernel, version, err);
	if (end > HEADER_END)
		end = HEADER_END;
	memset(im, 0, sizeof(*im));
	memcpy(im->head + SETUP_SECTS, raw + SETUP_SECTS, end - SETUP_SECTS);
	sects = raw[SETUP_SECTS] ? raw[SETUP_SECTS] : 4;
	im->at = (sects + 1) * 512ull;
	return 0;
}

static int check_header(struct image *im, const struct blob *kernel, struct err *err)
{
	uint64_t says = le32_get(im->head + SYSSIZE) * 16ull;

	if (!(le16_get(im->head + XLOADFLAGS) & KERNEL_64))
		return err_set(err, ENOEXEC,
			       "kernel '%s' has no 64-bit entry: a 32-bit kernel?",
			       kernel->path);
	if (!(im->head[LOADFLAGS] & LOADED_HIGH))
		return err_set(err, ENOEXEC, "kernel '%s' is a zImage, not a bzImage",
			       kernel->path);
	/* The size is rounded up to 16 bytes, the file need not be. */
	if (im->at >= kernel->size || says > kernel->size - im->at + 15)
		return err_set(
			err, ENOEXEC,
			"kernel '%s' is cut off: its header speaks of %llu bytes, it has %llu",
			kernel->path, (unsigned long long)(im->at + says),
			(unsigned long long)kernel->size);
	im->len = kernel->size - im->at;
	if (im->len < ENTRY_64 + 16)
		return err_set(err, ENOEXEC, "kernel '%s' ends before its entry point",
			       kernel->path);
	return 0;
}

static int no_room(const struct image *im, const struct boot_plan *plan, gpa_t from,
		   struct err *err)
{
	return err_set(
		err, ENOMEM,
		"kernel '%s' needs %llu MiB from %llu MiB on, the guest has %llu MiB memory%s",
		plan->kernel->path, (unsigned long long)(im->room + 1 * MiB - 1) >> 20,
		(unsigned long long)from >> 20, (unsigned long long)plan->memory >> 20,
		plan->memory > map_low_end(plan->board, plan->memory) ? ", 3072 of them below 4 GiB" : "");
}

/* Where it goes and will run: the place it prefers, or the aligned one above if it says of
 * itself that it moves there. */
static int place(struct image *im, const struct boot_plan *plan, struct err *err)
{
	uint32_t align = le32_get(im->head + KERNEL_ALIGNMENT);
	gpa_t pref = le64_get(im->head + PREF_ADDRESS);
	gpa_t end = map_low_end(plan->board, plan->memory);

	im->room = le32_get(im->head + INIT_SIZE);
	if (im->room < im->len)
		im->room = im->len;
	if (!im->head[RELOCATABLE])
		align = 1;
	else if (pref < MAP_BIOS_END) /* it has no preference */
		pref = MAP_BIOS_END;
	if (!align || (align & (align - 1)))
		return err_set(err, ENOEXEC,
			       "kernel '%s' wants an alignment of 0x%x, which is no power of two",
			       plan->kernel->path, align);
	if (pref < MAP_BIOS_END)
		return err_set(err, ENOEXEC,
			       "kernel '%s' wants to be at 0x%llx, below 1 MiB, where no room is",
			       plan->kernel->path, (unsigned long long)pref);
	if (pref > end)
		return no_room(im, plan, pref, err);
	im->load = align_up(pref, (gpa_t)align);
	if (im->load > end || im->room > end - im->load)
		return no_room(im, plan, im->load, err);
	return 0;
}

static int put_kernel(struct image *im, const struct boot_plan *plan, struct err *err)
{
	if (!guest_range(plan->mem, im->load, im->room))
		return err_set(err, EFAULT, "no guest memory for kernel '%s'",
			       plan->kernel->path);
	return boot_put_file(plan, plan->kernel, im->at, im->load, im->len, err);
}

static void put_e820(uint8_t *page, const struct boot_plan *plan)
{
	struct map_entry entries[MAP_ENTRIES_MAX];
	unsigned n = map_entries(plan->board, plan->memory, entries);

	page[E820_ENTRIES] = (uint8_t)n;
	for (unsigned i = 0; i < n; i++) {
		uint8_t *e = page + E820_TABLE + i * 20;

		le64_put(e, entries[i].base);
		le64_put(e + 8, entries[i].size);
		le32_put(e + 16, entries[i].type);
	}
}

static int put_zero_page(const struct image *im, const struct boot_plan *plan,
			 gpa_t initrd, uint64_t initrd_size, struct err *err)
{
	uint8_t page[4096] = {0};

	memcpy(page + SETUP_SECTS, im->head + SETUP_SECTS, HEADER_END - SETUP_SECTS);
	page[TYPE_OF_LOADER] = LOADER_OTHER;
	le32_put(page + RAMDISK_IMAGE, (uint32_t)initrd);
	le32_put(page + RAMDISK_SIZE, (uint32_t)initrd_size);
	le32_put(page + CMD_LINE_PTR, MAP_CMDLINE);
	le64_put(page + ACPI_RSDP_ADDR, plan->rsdp);
	put_e820(page, plan);
	if (guest_write(plan->mem, MAP_ZERO_PAGE, page, sizeof(page)) < 0)
		return err_set(err, EFAULT, "no guest memory for the zero page");
	return 0;
}

/* Six pages: one PML4, one PDPT, four directories of 2 MiB pages. */
static int put_page_tables(const struct guest_mem *mem, struct err *err)
{
	uint8_t *t = guest_range(mem, MAP_PAGE_TABLES, 6 * 4096);
	uint64_t pdpt = MAP_PAGE_TABLES + 4096, pd = pdpt + 4096;

	if (!t)
		return err_set(err, EFAULT, "no guest memory for page tables");
	memset(t, 0, 6 * 4096);
	le64_put(t, pdpt | 3);
	for (unsigned i = 0; i < 4; i++)
		le64_put(t + 4096 + i * 8, (pd + i * 4096) | 3);
	for (unsigned i = 0; i < 4 * 512; i++)
		le64_put(t + 2 * 4096 + i * 8, ((uint64_t)i << 21) | 0x83);
	return 0;
}

/* The protocol wants a code segment at 0x10 and a data segment at 0x18. */
static int put_gdt(const struct guest_mem *mem, struct err *err)
{
	uint8_t gdt[32] = {0};

	le64_put(gdt + 0x10, UINT64_C(0x00af9b000000ffff));
	le64_put(gdt + 0x18, UINT64_C(0x00cf93000000ffff));
	if (guest_write(mem, MAP_GDT, gdt, sizeof(gdt)) < 0)
		return err_set(err, EFAULT, "no guest memory for the GDT");
	return 0;
}

static const char *protocol_name(unsigned version)
{
	static char name[24];

	snprintf(name, sizeof(name), "linux %u.%02u", version >> 8, version & 0xff);
	return name;
}

int linux_load(const struct boot_plan *plan, struct boot_entry *entry, struct err *err)
{
	struct image im;
	uint64_t initrd_size;
	gpa_t initrd;
	int rc;

	if ((rc = read_header(&im, plan->kernel, err)) < 0 ||
	    (rc = check_header(&im, plan->kernel, err)) < 0 ||
	    (rc = place(&im, plan, err)) < 0 ||
	    (rc = put_kernel(&im, plan, err)) < 0 ||
	    (rc = boot_put_cmdline(plan, le32_get(im.head + CMDLINE_SIZE), err)) < 0 ||
	    (rc = boot_put_initrd(plan, im.load + im.room,
				  le32_get(im.head + INITRD_ADDR_MAX) + UINT64_C(1),
				  &initrd, &initrd_size, err)) < 0 ||
	    (rc = put_zero_page(&im, plan, initrd, initrd_size, err)) < 0 ||
	    (rc = put_page_tables(plan->mem, err)) < 0 ||
	    (rc = put_gdt(plan->mem, err)) < 0)
		return rc;
	*entry = (struct boot_entry){
		.mode = BOOT_LONG,
		.protocol = protocol_name(le16_get(im.head + VERSION)),
		.rip = im.load + ENTRY_64,
		.info = MAP_ZERO_PAGE,
	};
	return 0;
}

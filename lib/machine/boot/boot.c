/* SPDX-License-Identifier: MIT */
/*
 * Which loader a kernel file wants, and what both loaders share.
 *
 * A bzImage says "HdrS" at 0x202 and an ELF file "\177ELF" at 0. What is neither is most
 * often a file that somebody took for a kernel: a compressed vmlinux, a package, a disk. The
 * sentence says which of these it looks like, because "bad kernel" helps nobody.
 */
#include "machine/boot/boot.h"

#include "base/bytes.h"
#include "base/err.h"
#include "base/macros.h"
#include "machine/boot/blob.h"
#include "machine/map.h"

#include <errno.h>
#include <string.h>

#define HEAD 0x206

/* What people pass by mistake, by its first bytes. */
static const struct {
	uint16_t at;
	uint8_t len;
	const char *magic;
	const char *is;
} lookalikes[] = {
	{.at = 0, .len = 2, .magic = "\x1f\x8b", .is = "gzip data: unpack it first"},
	{.at = 0, .len = 6, .magic = "\xfd" "7zXZ\0", .is = "xz data: unpack it first"},
	{.at = 0, .len = 4, .magic = "\x28\xb5\x2f\xfd", .is = "zstd data: unpack it first"},
	{.at = 0, .len = 6, .magic = "070701", .is = "a cpio archive: an initrd?"},
	{.at = 0, .len = 7, .magic = "!<arch>", .is = "a Debian package or ar archive"},
	{.at = 0, .len = 4, .magic = "QFI\xfb", .is = "a qcow2 disk image"},
	{.at = 0, .len = 2, .magic = "#!", .is = "a script"},
	{.at = 0x38, .len = 4, .magic = "ARMd", .is = "a kernel for another architecture"},
	{.at = 0, .len = 2, .magic = "MZ", .is = "an EFI program, but no Linux kernel"},
};

static const char *looks_like(const uint8_t *head, uint64_t len)
{
	for (unsigned i = 0; i < ARRAY_SIZE(lookalikes); i++)
		if (lookalikes[i].at + lookalikes[i].len <= len &&
		    memcmp(head + lookalikes[i].at, lookalikes[i].magic,
			   lookalikes[i].len) == 0)
			return lookalikes[i].is;
	return "neither a bzImage nor an ELF file";
}

int boot_load(const struct boot_plan *plan, struct boot_entry *entry, struct err *err)
{
	const struct blob *kernel = plan->kernel;
	uint64_t len = kernel->size < HEAD ? kernel->size : HEAD;
	uint8_t head[HEAD] = {0};
	int rc = blob_read(kernel, 0, head, len, err);

	if (rc < 0)
		return rc;
	if (memcmp(head + 0x202, "HdrS", 4) == 0 && le16_get(head + 0x1fe) == 0xaa55)
		return linux_load(plan, entry, err);
	if (memcmp(head, "\177ELF", 4) == 0)
		return pvh_load(plan, entry, err);
	return err_set(err, ENOEXEC, "kernel '%s' is %s", kernel->path,
		       looks_like(head, len));
}

int boot_put_file(const struct boot_plan *plan, const struct blob *blob, uint64_t at,
		  gpa_t to, uint64_t len, struct err *err)
{
	void *host = guest_range(plan->mem, to, len);

	if (!host)
		return err_set(err, EFAULT, "no guest memory for %s '%s'", blob->role,
			       blob->path);
	if (plan->ram)
		return blob_copy(blob, at, plan->ram, to, len, err);
	return blob_read(blob, at, host, len, err);
}

int boot_put_cmdline(const struct boot_plan *plan, uint64_t max, struct err *err)
{
	uint64_t len = strlen(plan->cmdline);

	if (max > MAP_CMDLINE_MAX - 1)
		max = MAP_CMDLINE_MAX - 1;
	if (len > max)
		return err_set(err, EINVAL,
			       "the command line has %llu bytes, the kernel takes %llu",
			       (unsigned long long)len, (unsigned long long)max);
	if (guest_write(plan->mem, MAP_CMDLINE, plan->cmdline, len + 1) < 0)
		return err_set(err, EFAULT, "no guest memory for the command line");
	return 0;
}

int boot_put_initrd(const struct boot_plan *plan, gpa_t floor, gpa_t ceiling,
		    gpa_t *base, uint64_t *size, struct err *err)
{
	const struct blob *initrd = plan->initrd, *more = plan->initrd_more;
	uint64_t at, len;
	int rc;

	*base = *size = 0;
	if (!initrd)
		return 0;
	at = align_up(initrd->size, 4);
	len = more ? at + more->size : initrd->size;
	if (ceiling > map_low_end(plan->board, plan->memory))
		ceiling = map_low_end(plan->board, plan->memory);
	floor = (floor + 0xfff) & ~UINT64_C(0xfff);
	if (floor >= ceiling || len > ceiling - floor)
		return err_set(
			err, ENOMEM,
			"initrd '%s' of %llu KiB does not fit: of %llu MiB memory %llu KiB are free for it",
			initrd->path, (unsigned long long)len >> 10,
			(unsigned long long)plan->memory >> 20,
			(unsigned long long)(floor < ceiling ? ceiling - floor : 0) >>
				10);
	*base = (ceiling - len) & ~UINT64_C(0xfff);
	*size = len;
	rc = boot_put_file(plan, initrd, 0, *base, initrd->size, err);
	return rc < 0 || !more ? rc : boot_put_file(plan, more, 0, *base + at, more->size, err);
}

/* SPDX-License-Identifier: MIT */
/*
 * See disk.h. The disk has a GUID partition table (UEFI specification, 5.3), and boots by either firmware:
 *
 *	sector 0         boot.img, with a protective partition table: BIOS starts it, and it loads the sectors of
 *	1 MiB            core.img: the partition "BIOS boot", no file system
 *	2 MiB            esp.img: the EFI system partition
 *	34 MiB           root.img, to the last MiB, so that it is the one that can grow
 *	the last 33      the table once more
 *
 * Nobody installs GRUB here, for that wants the disk as a device. boot.img has the number of the sector that it loads at 0x5c, and that
 * one, the first of core.img, has a list of where the others are, of which grub-mkimage leaves the only entry at 0x1f4: its first
 * sector is ours to say (GRUB's boot.S and diskboot.S).
 *
 * What is zeros in a part is not written, and clusters are taken in the order of the disk: so the file is small, and depends on nothing else.
 */
#include "disk.h"

#include "base/bytes.h"
#include "base/err.h"
#include "base/macros.h"
#include "base/scoped.h"
#include "block/file.h"
#include "block/node.h"
#include "block/qcow2.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#define MIB     (1ull << 20)
#define SECTOR  512u
#define CORE_AT (1 * MIB)
#define ESP_AT  (2 * MIB)
#define ROOT_AT (34 * MIB)
#define END     MIB /* behind the root partition */
#define CHUNK   (64u << 10)

#define ENTRIES    128u
#define ENTRY_LEN  128u
#define TABLE_LEN  (ENTRIES * ENTRY_LEN)
#define TABLE_AT   2u /* sectors */
#define HEADER_LEN 92u

#define BOOT_FIRST 0x5c  /* in boot.img: the sector to load */
#define CORE_FIRST 0x1f4 /* in core.img: the next one */

struct guid {
	uint8_t bytes[16];
};

static const struct partition {
	const char *type, *name, *file;
	uint64_t at, end; /* end: 0 is the disk's */
} partitions[] = {
	{"21686148-6449-6e6f-744e-656564454649", "BIOS boot", "core.img", CORE_AT, ESP_AT},
	{"c12a7328-f81f-11d2-ba4b-00a0c93ec93b", "EFI system", "esp.img", ESP_AT, ROOT_AT},
	{"4f68bce3-e8cd-4db1-96e7-fbcaf984b709", "root", "root.img", ROOT_AT, 0},
};

struct parts {
	const char *dir;
	struct node *disk;
	uint64_t size;
	struct guid id; /* the disk's; those of partitions are made of it */
};

uint64_t parts_root_size(uint64_t size)
{
	return size - END - ROOT_AT;
}

/* -- Parts -------------------------------------------------------------------------------- */

static int open_part(const struct parts *p, const char *name, uint64_t room, off_t *len, struct err *err)
{
	char path[PATH_MAX];
	scoped_fd int fd = -1;
	struct stat st;

	snprintf(path, sizeof(path), "%s/%s", p->dir, name);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_sys(err, errno, "the recipe's part '%s'", name);
	if (!S_ISREG(st.st_mode) || st.st_size < SECTOR || (uint64_t)st.st_size > room)
		return err_set(err, EIO, "the recipe's part '%s' has %lld bytes: there is room for %u to %llu", name,
			       (long long)st.st_size, SECTOR, (unsigned long long)room);
	*len = st.st_size;
	return keep_fd(&fd);
}

/* Not what is zeros; and the first sector of core.img is changed on the way. */
static int put_chunk(const struct parts *p, uint64_t at, uint8_t *bytes, size_t n)
{
	size_t whole = (n + SECTOR - 1) / SECTOR * SECTOR;

	memset(bytes + n, 0, whole - n);
	if (at == CORE_AT)
		le64_put(bytes + CORE_FIRST, CORE_AT / SECTOR + 1);
	return is_all_zero(bytes, whole) ? 0 : node_put(p->disk, at, bytes, whole);
}

static int copy_file(const struct parts *p, int fd, off_t len, uint64_t to, const char *name, struct err *err)
{
	scoped_mem uint8_t *bytes = malloc(CHUNK);

	if (!bytes)
		return err_set(err, ENOMEM, "no memory");
	for (off_t at = 0; at < len; at += CHUNK) {
		off_t data = lseek(fd, at, SEEK_DATA);
		size_t want;
		ssize_t n;
		int rc;

		if (data < 0 && errno == ENXIO)
			return 0; /* a hole to the end */
		if (data > at)
			at = data / CHUNK * CHUNK;
		want = len - at < CHUNK ? (size_t)(len - at) : CHUNK;
		n = pread(fd, bytes, want, at);
		rc = n < 0 ? -errno : (size_t)n < want ? -EIO : put_chunk(p, to + (uint64_t)at, bytes, want);
		if (rc < 0)
			return err_sys(err, -rc, "'%s' to the image", name);
	}
	return 0;
}

static int put_partition(const struct parts *p, const struct partition *part, struct err *err)
{
	uint64_t end = part->end ? part->end : p->size - END;
	off_t len;
	scoped_fd int fd = open_part(p, part->file, end - part->at, &len, err);

	return fd < 0 ? fd : copy_file(p, fd, len, part->at, part->file, err);
}

/* -- The table ---------------------------------------------------------------------------- */

/* The first three groups have their lowest byte first. */
static bool parse_guid(struct guid *g, const char *text)
{
	static const uint8_t order[16] = {3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15};
	unsigned n = 0;

	for (; n < 16; n++) {
		int used = 0;

		text += *text == '-';
		if (!isxdigit((unsigned char)*text) || sscanf(text, "%2hhx%n", &g->bytes[order[n]], &used) != 1 || used != 2)
			return false;
		text += 2;
	}
	return true;
}

static int read_id(struct parts *p, struct err *err)
{
	char text[40] = "", path[PATH_MAX];
	scoped_fd int fd = -1;
	ssize_t n;

	snprintf(path, sizeof(path), "%s/uuid", p->dir);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : 0;
	if (n < 36 || !parse_guid(&p->id, text))
		return err_set(err, EIO, "the recipe's file 'uuid' has no line as 01234567-89ab-4cde-8123-456789abcdef");
	return 0;
}

static struct guid make_guid(const struct parts *p, unsigned number)
{
	struct guid g = p->id;

	g.bytes[15] = (uint8_t)(g.bytes[15] ^ number);
	return g;
}

static void put_entry(const struct parts *p, unsigned i, uint8_t *entry)
{
	const struct partition *part = &partitions[i];
	struct guid type, own = make_guid(p, i + 1);

	parse_guid(&type, part->type);
	memcpy(entry, type.bytes, 16);
	memcpy(entry + 16, own.bytes, 16);
	le64_put(entry + 32, part->at / SECTOR);
	le64_put(entry + 40, (part->end ? part->end : p->size - END) / SECTOR - 1);
	for (unsigned c = 0; part->name[c]; c++)
		le16_put(entry + 56 + 2 * c, (uint8_t)part->name[c]); /* UTF-16 */
}

/* One of the two headers, for the table at that sector. */
static void make_header(const struct parts *p, uint8_t sector[SECTOR], uint64_t at, uint64_t other, uint64_t table_at,
			const uint8_t *table)
{
	memset(sector, 0, SECTOR);
	memcpy(sector, "EFI PART", 8);
	le32_put(sector + 8, 0x10000);
	le32_put(sector + 12, HEADER_LEN);
	le64_put(sector + 24, at);
	le64_put(sector + 32, other);
	le64_put(sector + 40, TABLE_AT + TABLE_LEN / SECTOR);
	le64_put(sector + 48, p->size / SECTOR - TABLE_LEN / SECTOR - 2);
	memcpy(sector + 56, p->id.bytes, 16);
	le64_put(sector + 72, table_at);
	le32_put(sector + 80, ENTRIES);
	le32_put(sector + 84, ENTRY_LEN);
	le32_put(sector + 88, (uint32_t)crc32(0, table, TABLE_LEN));
	le32_put(sector + 16, (uint32_t)crc32(0, sector, HEADER_LEN));
}

static int put_table(const struct parts *p)
{
	static uint8_t table[TABLE_LEN];
	uint64_t last = p->size / SECTOR - 1, copy_at = last - TABLE_LEN / SECTOR;
	uint8_t sector[SECTOR];
	int rc;

	memset(table, 0, sizeof(table));
	for (unsigned i = 0; i < ARRAY_SIZE(partitions); i++)
		put_entry(p, i, table + i * ENTRY_LEN);
	make_header(p, sector, 1, last, TABLE_AT, table);
	rc = node_put(p->disk, SECTOR, sector, SECTOR);
	if (rc == 0)
		rc = node_put(p->disk, TABLE_AT * SECTOR, table, TABLE_LEN);
	if (rc == 0)
		rc = node_put(p->disk, copy_at * SECTOR, table, TABLE_LEN);
	make_header(p, sector, last, 1, copy_at, table);
	return rc < 0 ? rc : node_put(p->disk, last * SECTOR, sector, SECTOR);
}

/* GRUB's first sector, and in its partition table one of a kind that old programs leave alone. */
static int put_boot(const struct parts *p, struct err *err)
{
	uint64_t sectors = p->size / SECTOR - 1;
	uint8_t sector[SECTOR] = {0};
	off_t len;
	scoped_fd int fd = open_part(p, "boot.img", SECTOR, &len, err);
	int rc;

	if (fd < 0)
		return fd;
	if (read(fd, sector, SECTOR) != SECTOR)
		return err_set(err, EIO, "the recipe's part 'boot.img' cannot be read");
	le64_put(sector + BOOT_FIRST, CORE_AT / SECTOR);
	memset(sector + 440, 0, SECTOR - 440);
	sector[446 + 4] = 0xee;
	memset(sector + 446 + 5, 0xff, 3);
	sector[446 + 2] = 2; /* the first sector, as cylinder, head and sector */
	le32_put(sector + 446 + 8, 1);
	le32_put(sector + 446 + 12, sectors > UINT32_MAX ? UINT32_MAX : (uint32_t)sectors);
	le16_put(sector + 510, 0xaa55);
	rc = node_put(p->disk, 0, sector, SECTOR);
	return rc < 0 ? err_sys(err, -rc, "the image") : 0;
}

/* -- All of it ---------------------------------------------------------------------------- */

static int put_all(struct parts *p, struct err *err)
{
	int rc = read_id(p, err);

	if (rc == 0)
		rc = put_boot(p, err);
	for (unsigned i = 0; rc == 0 && i < ARRAY_SIZE(partitions); i++)
		rc = put_partition(p, &partitions[i], err);
	if (rc < 0)
		return rc;
	rc = put_table(p);
	if (rc == 0)
		rc = node_flush(p->disk);
	return rc < 0 ? err_sys(err, -rc, "the image") : 0;
}

int parts_write(const char *dir, int fd, uint64_t size, struct err *err)
{
	struct parts p = {.dir = dir, .size = size};
	struct qcow2_new new = QCOW2_NEW(size);
	struct node *file;
	int own = fcntl(fd, F_DUPFD_CLOEXEC, 0), rc;

	if (own < 0)
		return err_sys(err, errno, "the image");
	rc = file_node(&file, own, FILE_GROWS | FILE_VOLATILE, NULL, err); /* newfile_publish() makes it lasting */
	if (rc < 0)
		return rc;
	rc = qcow2_create(file, &new, err);
	if (rc < 0) {
		node_close(file);
		return rc;
	}
	rc = qcow2_open(&p.disk, &(struct qcow2_config){.file = file, .path = "the image"}, err);
	if (rc < 0)
		return rc;
	rc = put_all(&p, err);
	node_close(p.disk);
	return rc;
}

/* SPDX-License-Identifier: MIT */
/*
 * See seed.h. The image, in sectors of 512 bytes:
 *
 *	0                     boot sector: the BIOS parameter block
 *	1, and again          the file allocation table: 12 bits for each cluster, the number of the next one
 *	...                   the root directory: 64 entries of 32 bytes, the label first
 *	...                   clusters of 2 KiB, the files one behind the other
 *
 * A name is in entries before the file's own, 13 characters each, the last part first; the file's own entry has a name of eight
 * letters that nobody sees, and whose checksum the others have.
 */
#include "seed.h"

#include "base/bytes.h"

#include <stdio.h>
#include <string.h>

#define SECTOR      512u
#define CLUSTER     2048u
#define ENTRIES     64u /* of the root directory */
#define ENTRY       32u
#define DIR_LEN     (ENTRIES * ENTRY)
#define CLUSTERS_MAX 4084u /* more would be FAT16 */
#define CLUSTERS_MIN 32u   /* so that nobody takes it for something else */
#define PART        13u    /* characters in an entry */
#define FAT_END     0xfffu

struct plan {
	unsigned clusters, fat_sectors;
	size_t dir_at, data_at, len;
};

static unsigned clusters_of(size_t len)
{
	return (unsigned)((len + CLUSTER - 1) / CLUSTER);
}

static int plan(struct plan *p, const struct seed_file *files, unsigned n)
{
	p->clusters = 0;
	if (n > SEED_FILES_MAX)
		return -1;
	for (unsigned i = 0; i < n; i++) {
		if (!files[i].name[0] || strlen(files[i].name) > SEED_NAME_MAX || files[i].len > SEED_FILE_MAX)
			return -1;
		p->clusters += clusters_of(files[i].len);
	}
	if (p->clusters > CLUSTERS_MAX)
		return -1;
	if (p->clusters < CLUSTERS_MIN)
		p->clusters = CLUSTERS_MIN;
	p->fat_sectors = ((p->clusters + 2) * 3 / 2 + SECTOR) / SECTOR;
	p->dir_at = (1 + 2 * (size_t)p->fat_sectors) * SECTOR;
	p->data_at = p->dir_at + DIR_LEN;
	p->len = p->data_at + (size_t)p->clusters * CLUSTER;
	return 0;
}

size_t seed_size(const struct seed_file *files, unsigned n)
{
	struct plan p;

	return plan(&p, files, n) < 0 ? 0 : p.len;
}

/* -- Parts -------------------------------------------------------------------------------- */

static void put_boot(const struct plan *p, uint8_t *b)
{
	memcpy(b, "\xeb\x3c\x90LODGE   ", 11);
	le16_put(b + 11, SECTOR);
	b[13] = CLUSTER / SECTOR;
	le16_put(b + 14, 1); /* reserved: this one */
	b[16] = 2;           /* tables */
	le16_put(b + 17, ENTRIES);
	le16_put(b + 19, (uint16_t)(p->len / SECTOR)); /* SAFE: plan() has seen to CLUSTERS_MAX */
	b[21] = 0xf8; /* a disk that is not taken out */
	le16_put(b + 22, (uint16_t)p->fat_sectors);
	le16_put(b + 24, 32);
	le16_put(b + 26, 64);
	b[36] = 0x80;
	b[38] = 0x29; /* a number, a label and a type follow */
	memcpy(b + 39, "\1\0\0\0cidata     FAT12   ", 23);
	le16_put(b + 510, 0xaa55);
}

static void put_next(uint8_t *fat, unsigned cluster, unsigned next)
{
	uint8_t *at = fat + cluster * 3 / 2;
	unsigned v = le16_get(at);

	le16_put(at, (uint16_t)(cluster & 1 ? (v & 0xf) | next << 4 : (v & 0xf000) | next));
}

static uint8_t sum_of(const uint8_t name[11])
{
	uint8_t sum = 0;

	for (unsigned i = 0; i < 11; i++)
		sum = (uint8_t)((sum >> 1 | sum << 7) + name[i]);
	return sum;
}

/* A part of a long name: ends with a zero, and ones behind it. */
static void put_part(uint8_t *entry, const char *name, unsigned part, unsigned parts, uint8_t sum)
{
	static const uint8_t at[PART] = {1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30};
	size_t len = strlen(name);

	entry[0] = (uint8_t)((part + 1) | (part + 1 == parts ? 0x40 : 0));
	entry[11] = 0x0f;
	entry[13] = sum;
	for (unsigned i = 0; i < PART; i++) {
		size_t c = part * PART + i;

		le16_put(entry + at[i], c < len ? (uint8_t)name[c] : c == len ? 0 : 0xffff);
	}
}

/* All of a file's; returns how many. */
static unsigned put_entries(uint8_t *entry, const struct seed_file *f, unsigned number, unsigned cluster)
{
	unsigned parts = (unsigned)(strlen(f->name) + PART - 1) / PART;
	char name[12];

	snprintf(name, sizeof(name), "FILE%-7u", number % 10);
	for (unsigned part = parts; part-- > 0; entry += ENTRY)
		put_part(entry, f->name, part, parts, sum_of((const uint8_t *)name));
	memcpy(entry, name, 11);
	entry[11] = 0x20;
	le16_put(entry + 24, 0x21); /* the first of January 1980 */
	le16_put(entry + 18, 0x21);
	le16_put(entry + 16, 0x21);
	le16_put(entry + 26, (uint16_t)cluster);
	le32_put(entry + 28, (uint32_t)f->len);
	return parts + 1;
}

void seed_make(const struct seed_file *files, unsigned n, uint8_t *image)
{
	uint8_t *fat = image + SECTOR, *entry;
	unsigned next = 2;
	struct plan p;

	plan(&p, files, n);
	put_boot(&p, image);
	put_next(fat, 0, 0xff8);
	put_next(fat, 1, FAT_END);
	entry = image + p.dir_at;
	memcpy(entry, "cidata     \x08", 12);
	entry += ENTRY;
	for (unsigned i = 0; i < n; i++) {
		unsigned count = clusters_of(files[i].len);

		entry += ENTRY * put_entries(entry, &files[i], i, count ? next : 0);
		if (count)
			memcpy(image + p.data_at + (size_t)(next - 2) * CLUSTER, files[i].bytes, files[i].len);
		for (; count > 0; count--, next++)
			put_next(fat, next, count > 1 ? next + 1 : FAT_END);
	}
	memcpy(fat + (size_t)p.fat_sectors * SECTOR, fat, (size_t)p.fat_sectors * SECTOR);
}

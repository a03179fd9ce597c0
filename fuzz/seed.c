/* SPDX-License-Identifier: MIT */
/*
 * Any files as a seed (prog/lodge/image/seed.c), and the file system read again, by the FAT's own rules.
 *
 * What must hold: an image has the size that was said, and not a byte beyond is touched; each file is found under its name, in a chain
 * that ends, with the bytes that it had; no two have a cluster in common.
 *
 * The input: how many files; then of each a length (2 bytes), how long its name is, the name; and the bytes of all are what follows, again
 * and again.
 */
#include "prog/lodge/image/seed.h"

#include "base/bytes.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CLUSTER 2048u

static void must(bool fine)
{
	if (!fine)
		abort();
}

struct input {
	const uint8_t *at, *end;
};

static unsigned take(struct input *in)
{
	return in->at < in->end ? *in->at++ : 0;
}

/* -- The file system ---------------------------------------------------------------------- */

struct fs {
	const uint8_t *image, *fat, *dir, *data;
	size_t len;
	bool used[4096];
};

static unsigned next_of(const struct fs *fs, unsigned cluster)
{
	unsigned v = le16_get(fs->fat + cluster * 3 / 2);

	return cluster & 1 ? v >> 4 : v & 0xfff;
}

static void find_name(const uint8_t *entry, unsigned parts, char name[40])
{
	static const uint8_t at[13] = {1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30};

	memset(name, 0, 40);
	for (unsigned p = parts; p-- > 0; entry += 32) {
		must(entry[11] == 0x0f && (entry[0] & 0x3f) == p + 1);
		for (unsigned i = 0; i < 13; i++)
			name[p * 13 + i] = le16_get(entry + at[i]) == 0xffff ? 0 : (char)entry[at[i]];
	}
}

static void check_bytes(struct fs *fs, const uint8_t *entry, const struct seed_file *f)
{
	unsigned cluster = le16_get(entry + 26);

	must(le32_get(entry + 28) == f->len && (f->len == 0) == (cluster == 0));
	for (size_t done = 0; done < f->len; done += CLUSTER) {
		const uint8_t *at = fs->data + (size_t)(cluster - 2) * CLUSTER;
		size_t n = f->len - done < CLUSTER ? f->len - done : CLUSTER;

		must(cluster >= 2 && cluster < 4096 && !fs->used[cluster] && at + CLUSTER <= fs->image + fs->len);
		fs->used[cluster] = true;
		must(memcmp(at, (const uint8_t *)f->bytes + done, n) == 0);
		cluster = next_of(fs, cluster);
		must((cluster == 0xfff) == (done + n == f->len));
	}
}

static void check(const uint8_t *image, size_t len, const struct seed_file *files, unsigned n)
{
	struct fs fs = {.image = image, .len = len, .fat = image + 512};
	size_t fat_len = le16_get(image + 22) * 512u;
	const uint8_t *entry;

	must(le16_get(image + 19) * 512u == len && memcmp(fs.fat, fs.fat + fat_len, fat_len) == 0);
	fs.dir = fs.fat + 2 * fat_len;
	fs.data = fs.dir + le16_get(image + 17) * 32u;
	entry = fs.dir + 32; /* behind the label */
	for (unsigned i = 0; i < n; i++) {
		unsigned parts = entry[0] & 0x3f;
		char name[40];

		must(parts >= 1 && parts <= 2 && entry[0] & 0x40);
		find_name(entry, parts, name);
		must(strcmp(name, files[i].name) == 0);
		check_bytes(&fs, entry + 32u * parts, &files[i]);
		entry += 32u * (parts + 1);
	}
	must(entry[0] == 0);
}

/* -- The files ------------------------------------------------------------------------------ */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, data + size};
	unsigned n = take(&in) % (SEED_FILES_MAX + 2);
	struct seed_file files[SEED_FILES_MAX + 2];
	char names[SEED_FILES_MAX + 2][32];
	uint8_t *bytes = malloc(1 << 16), *image;
	size_t len;

	must(bytes != NULL);
	for (unsigned i = 0; i < n; i++) {
		unsigned letters;

		files[i] = (struct seed_file){.name = names[i], .bytes = bytes, .len = take(&in)};
		files[i].len += take(&in) * 256u;
		letters = take(&in) % 30;
		for (unsigned c = 0; c < letters; c++)
			names[i][c] = (char)('!' + take(&in) % 90);
		names[i][letters] = 0;
	}
	for (size_t i = 0; i < 1 << 16; i++)
		bytes[i] = in.at < in.end ? in.at[i % (size_t)(in.end - in.at)] : (uint8_t)i;
	len = seed_size(files, n);
	image = len ? calloc(1, len) : NULL;
	if (image) {
		seed_make(files, n, image);
		check(image, len, files, n);
	}
	free(image);
	free(bytes);
	return 0;
}

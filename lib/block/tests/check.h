/* SPDX-License-Identifier: MIT */
/*
 * What `qemu-img check` looks at, once more and by other code than lib/block's: which clusters are used how often, what their
 * counts say, and the COPIED bits of the active tree.
 *
 *	struct check c = check_image(bytes, len);
 *	c.corrupt, c.leaks, c.why
 *
 * In one source of a test's program.
 */
#ifndef BLOCK_TESTS_CHECK_H
#define BLOCK_TESTS_CHECK_H

#include "base/bytes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct check {
	unsigned corrupt, leaks;
	char why[120]; /* the first that is corrupt */
};

struct checking {
	const uint8_t *image;
	uint64_t len, n, cluster, l2_n;
	unsigned bits, order, version;
	uint32_t *used;
	struct check c;
};

static void check_bad(struct checking *k, const char *what, uint64_t where)
{
	if (!k->c.corrupt++)
		snprintf(k->c.why, sizeof(k->c.why), "%s %llu", what, (unsigned long long)where);
}

static uint64_t check_u64(const struct checking *k, uint64_t at)
{
	return at + 8 <= k->len ? be64_get(k->image + at) : 0;
}

static void check_use(struct checking *k, uint64_t at, uint64_t len)
{
	for (uint64_t c = at >> k->bits; len && c <= (at + len - 1) >> k->bits; c++)
		if (c < k->n)
			k->used[c]++;
		else
			check_bad(k, "used behind the end: byte", at);
}

static uint64_t check_count(const struct checking *k, uint64_t cluster)
{
	unsigned block_bits = k->bits + 3 - k->order;
	uint64_t block = check_u64(k, be64_get(k->image + 48) + (cluster >> block_bits) * 8);
	uint64_t bit = (cluster & ((1ull << block_bits) - 1)) << k->order, at = block + bit / 8;

	if (!block || at + 8 > ((k->len + k->cluster - 1) & ~(k->cluster - 1)) + 8 || at >= k->len)
		return 0;
	switch (k->order) {
	case 6: return be64_get(k->image + at);
	case 5: return be32_get(k->image + at);
	case 4: return be16_get(k->image + at);
	}
	return (k->image[at] >> bit % 8) & ((1u << (1u << k->order)) - 1);
}

static void check_copied(struct checking *k, uint64_t entry, uint64_t at, bool active)
{
	if (active && (check_count(k, at >> k->bits) == 1) != (entry >> 63))
		check_bad(k, "COPIED is wrong for byte", at);
}

static void check_entry(struct checking *k, uint64_t entry, bool active)
{
	uint64_t at = entry & 0x00fffffffffffe00ull;

	if (entry & 1ull << 62) {
		unsigned x = 62 - (k->bits - 8);
		uint64_t sectors = (entry & ~(3ull << 62)) >> x;

		at = entry & ((1ull << x) - 1);
		check_use(k, at, (sectors + 1) * 512 - (at & 511));
		return;
	}
	if (!at)
		return;
	if (at % k->cluster)
		check_bad(k, "not at a cluster: byte", at);
	check_use(k, at, k->cluster);
	check_copied(k, entry, at, active);
}

static void check_tree(struct checking *k, uint64_t l1, uint32_t n, bool active)
{
	check_use(k, l1, n * 8ull);
	for (uint32_t i = 0; i < n; i++) {
		uint64_t entry = check_u64(k, l1 + i * 8ull), at = entry & 0x00fffffffffffe00ull;

		if (!at)
			continue;
		check_use(k, at, k->cluster);
		check_copied(k, entry, at, active);
		for (uint64_t e = 0; e < k->l2_n; e++)
			check_entry(k, check_u64(k, at + e * 8), active);
	}
}

static void check_snapshots(struct checking *k)
{
	uint32_t n = be32_get(k->image + 60);
	uint64_t at = be64_get(k->image + 64), first = at;

	for (uint32_t i = 0; i < n && at + 40 <= k->len; i++) {
		const uint8_t *s = k->image + at;

		check_tree(k, be64_get(s), be32_get(s + 8), false);
		at += 40ull + be32_get(s + 36) + be16_get(s + 12) + be16_get(s + 14);
		at = (at + 7) & ~7ull;
	}
	check_use(k, first, at - first);
}

static struct check check_image(const uint8_t *image, uint64_t len)
{
	struct checking k = {.image = image, .len = len, .bits = be32_get(image + 20), .order = 4,
			     .version = be32_get(image + 4)};
	uint64_t table = be64_get(image + 48);
	uint32_t blocks;

	k.cluster = 1ull << k.bits;
	k.l2_n = k.cluster / 8;
	k.n = (len + k.cluster - 1) >> k.bits;
	k.used = calloc(k.n + 1, sizeof(*k.used));
	if (k.version >= 3) {
		k.order = be32_get(image + 96);
		if (be64_get(image + 72) & 3)
			check_bad(&k, "marked dirty or corrupt", be64_get(image + 72));
	}
	blocks = (uint32_t)(((uint64_t)be32_get(image + 56) << k.bits) / 8);
	check_use(&k, 0, k.cluster);
	check_use(&k, table, blocks * 8ull);
	for (uint32_t i = 0; i < blocks; i++)
		if (check_u64(&k, table + i * 8ull))
			check_use(&k, check_u64(&k, table + i * 8ull), k.cluster);
	check_tree(&k, be64_get(image + 40), be32_get(image + 36), true);
	check_snapshots(&k);
	for (uint64_t c = 0; c < k.n; c++) {
		uint64_t count = check_count(&k, c);

		if (count < k.used[c])
			check_bad(&k, "used more often than counted: cluster", c);
		else if (count > k.used[c])
			k.c.leaks++;
	}
	free(k.used);
	return k.c;
}

#endif

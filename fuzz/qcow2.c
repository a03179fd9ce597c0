/* SPDX-License-Identifier: MIT */
/*
 * Any file as a qcow2 image (lib/block/qcow2): opened, read, written, with a snapshot that comes, is applied and goes. The first byte
 * tells how: bit 0, to be written, too, resized, rebased and mended; the rest is the file. All of it is mapped and checked.
 *
 * The file is also put over an image that is whole, from the byte on that the next two tell (times 8), so that the header is
 * right and what it leads to is not.
 *
 * Nothing may crash or go on for ever, and nothing may be written or read behind 64 MiB: no image has so much here.
 */
#include "base/bytes.h"
#include "base/log.h"
#include "block/disk.h"
#include "block/node.h"
#include "block/qcow2.h"
#include "block/tests/ram.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SIZE (256 * KiB)

/* Stands before lib/base's: each input has something to complain of. */
void log_warn(const char *component, const char *fmt, ...)
{
	(void)component;
	(void)fmt;
}

static void use(struct node *n, bool writes)
{
	static uint8_t bytes[65536];
	uint64_t most = n->size < SIZE ? n->size : SIZE;

	for (uint64_t at = 0; at < most; at += sizeof(bytes))
		node_get(n, at, bytes, most - at < sizeof(bytes) ? most - at : sizeof(bytes));
	node_get(n, n->size - 512, bytes, 512);
	if (!writes)
		return;
	node_put(n, 0, bytes, 512);
	qcow2_snapshot_create(n, "fuzz", NULL);
	node_put(n, most / 1024 * 512, bytes, 512);
	n->ops->discard(n, 0, most);
	node_flush(n);
	if (qcow2_snapshots(n))
		qcow2_snapshot_apply(n, qcow2_snapshot_name(n, 0), NULL);
	n->ops->zero(n, 512, most - 512);
	qcow2_snapshot_delete(n, "fuzz", NULL);
	node_put(n, n->size - 512, bytes, 512);
	node_flush(n);
}

static void map_and_check(struct node *n)
{
	uint64_t most = n->size < SIZE ? n->size : SIZE;
	struct qcow2_check found;
	struct node_status s;

	for (uint64_t at = 0; at < most; at += s.len) {
		if (n->ops->status(n, at, n->size - at, &s) < 0)
			break;
		if (!s.len || s.len > n->size - at)
			abort();
	}
	qcow2_check(n, QCOW2_MEND_NOTHING, &found, NULL, NULL);
	for (unsigned i = 0; i < qcow2_snapshots(n); i++) {
		struct qcow2_snapshot snapshot;

		qcow2_snapshot_look(n, i, &snapshot);
	}
}

/* What is called clean after it was mended is clean. */
static void mend(struct node *n)
{
	struct qcow2_check found, again;

	if (qcow2_check(n, QCOW2_MEND_ALL, &found, NULL, NULL) < 0)
		return;
	if (qcow2_check(n, QCOW2_MEND_NOTHING, &again, NULL, NULL) < 0 || again.corruptions != found.corruptions)
		abort();
	if (!found.corruptions)
		n->ops->resize(n, n->size / 1024 * 512 + 512, NULL);
	qcow2_set_backing(n, "another", "raw", NULL);
	if (!found.corruptions && (qcow2_check(n, QCOW2_MEND_NOTHING, &again, NULL, NULL) < 0 || again.corruptions))
		abort();
}

static void open_unchecked(struct ram *ram)
{
	struct ram *copy = ram_copy(ram);
	struct node *n;

	if (qcow2_open(&n, &(struct qcow2_config){.file = &copy->node, .unchecked = true, .path = "fuzz", .pages = 8}, NULL) == 0) {
		mend(n);
		node_close(n);
	}
	if (copy->node.size > 64 * MiB)
		abort();
	ram_destroy(copy);
}

static void open_and_use(struct ram *ram, bool writes)
{
	char name[1024], format[16];
	struct node *n;

	ram->keep = true;
	if (writes)
		open_unchecked(ram);
	if (qcow2_backing(&ram->node, name, format, NULL) == 0 &&
	    qcow2_open(&n, &(struct qcow2_config){.file = &ram->node, .readonly = !writes, .path = "fuzz", .pages = 8},
		       NULL) == 0) {
		map_and_check(n);
		use(n, writes);
		node_close(n);
	}
	if (ram->node.size > 64 * MiB)
		abort();
	ram_destroy(ram);
}

/* Some of everything: data, zeros, a snapshot. */
static struct ram *whole_image(unsigned cluster_bits)
{
	struct qcow2_new new = QCOW2_NEW(SIZE);
	struct ram *ram = ram_create();
	uint8_t bytes[512] = "data";
	struct node *n;

	new.cluster_bits = cluster_bits;
	if (qcow2_create(&ram->node, &new, NULL) < 0 ||
	    qcow2_open(&n, &(struct qcow2_config){.file = &ram->node, .path = "fuzz"}, NULL) < 0)
		abort();
	for (uint64_t at = 0; at < SIZE; at += 20 * KiB)
		node_put(n, at, bytes, 512);
	qcow2_snapshot_create(n, "one", NULL);
	node_put(n, 0, bytes, 512);
	n->ops->zero(n, 64 * KiB, 64 * KiB);
	node_flush(n);
	node_close(n);
	return ram;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ram *ram;
	uint64_t at;

	if (size < 4 || size > MiB)
		return 0;
	ram = ram_create();
	ram_put(ram, 0, data + 1, size - 1);
	open_and_use(ram, data[0] & 1);
	ram = whole_image(data[0] & 2 ? 9 : 12);
	at = le16_get(data + 1) * UINT64_C(8);
	if (at + size - 3 <= ram->node.size)
		ram_put(ram, at, data + 3, size - 3);
	open_and_use(ram, data[0] & 1);
	return 0;
}

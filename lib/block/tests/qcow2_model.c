/* SPDX-License-Identifier: MIT */
/*
 * qcow2 beside a disk in memory: random operations, in images of all kinds.
 *
 *	qcow2_model [FIRST [N [V]]]     sequences from seed FIRST on; V: says what each does
 *
 * After each sequence both must have the same bytes, now and in each snapshot, and the image must be clean: by the check of
 * check.h always, and for some of them by qemu-img, which also has to read the same bytes.
 *
 * Each sequence is then a host that crashes: for every prefix of the writes, and any sectors of those that were not flushed, the
 * image must not be corrupt, and each sector must have what was flushed, or what was written there since. And a
 * host that is full from the nth write on, for some n: no operation may hang or make the image corrupt, and what
 * was flushed is there.
 *
 * What a crash has left is mended by a check, and so is an image whose counts and COPIED bits are drawn: afterwards it is clean, and its
 * bytes are the same.
 */
#include "base/bytes.h"
#include "base/err.h"
#include "block/qcow2.h"
#include "block/tests/check.h"
#include "block/tests/ram.h"
#include "tests/tap.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#define SECTOR   512u
#define OPS_MAX  40u
#define SNAPS_MAX 6u

static uint64_t state;
static bool verbose;

static uint32_t rnd(uint32_t below)
{
	state += 0x9e3779b97f4a7c15ull;
	uint64_t z = state;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return (uint32_t)((z ^ z >> 31) >> 16) % below;
}

/* -- The sequence ------------------------------------------------------------------- */

struct snap {
	char name[16];
	uint32_t size;
	uint8_t *bytes;
};

/* What the disk was after an operation, which began when the file had so many events. */
struct moment {
	unsigned event;
	bool flushed; /* by events before `after` */
	unsigned after;
	uint32_t size;
	uint8_t *bytes;
};

struct run {
	uint64_t seed;
	struct qcow2_new new;
	struct ram *file, *behind;
	struct node *node;
	uint8_t *model;
	uint32_t size, room, serial;
	struct snap snaps[SNAPS_MAX];
	unsigned n_snaps, pages;
	bool many_snaps;
	char *names[OPS_MAX + 2]; /* that were behind it, or none */
	unsigned n_names;
	struct moment moments[OPS_MAX * 2 + 2];
	unsigned n_moments;
	char why[700];
};

#define FAIL(r, ...) (snprintf((r)->why, sizeof((r)->why), __VA_ARGS__), false)

static struct node *open_image(struct run *r, struct ram *file, bool keep, struct err *err)
{
	struct node *node = NULL;

	file->keep = keep;
	qcow2_open(&node, &(struct qcow2_config){.file = &file->node, .path = "image", .pages = r->pages,
						 .backing = r->behind ? &r->behind->node : NULL}, err);
	return node;
}

static void fill(struct run *r, uint8_t *bytes, uint32_t len)
{
	for (uint32_t s = 0; s < len / SECTOR; s++) {
		r->serial++;
		for (unsigned i = 0; i < SECTOR; i += 8) {
			le32_put(bytes + s * SECTOR + i, r->serial);
			le32_put(bytes + s * SECTOR + i + 4, (uint32_t)r->seed ^ i);
		}
	}
}

static void remember(struct run *r, unsigned event, bool flushed)
{
	struct moment *m = &r->moments[r->n_moments++];
	if (verbose)
		note("moment %u: events %u to %u, flushed %d", r->n_moments - 1, event, r->file->n_events, flushed);

	*m = (struct moment){.event = event, .flushed = flushed, .after = r->file->n_events,
			     .size = r->size, .bytes = malloc(r->room)};
	memcpy(m->bytes, r->model, r->room);
}

static bool create(struct run *r)
{
	static const unsigned bits[] = {9, 9, 10, 12, 12, 16};
	struct err err = {0};

	r->new = (struct qcow2_new){.version = 3 - (rnd(4) == 0), .cluster_bits = bits[rnd(6)], .order = 4};
	if (r->new.version == 3)
		r->new.order = rnd(7);
	r->many_snaps = r->new.order >= 3;
	r->size = SECTOR * (1 + rnd(r->new.cluster_bits < 16 ? 200 : 700));
	r->new.size = r->size;
	r->new.zstd = r->new.version == 3 && rnd(3) == 0;
	r->new.lazy = r->new.version == 3 && rnd(3) == 0;
	r->room = r->size * 2;
	r->pages = rnd(2) ? 0 : 4u << rnd(3);
	r->file = ram_create();
	r->model = calloc(1, r->room);
	if (rnd(2)) {
		uint32_t len = SECTOR * (1 + rnd(r->size / SECTOR * 3 / 2));
		uint8_t *bytes = malloc(len);

		fill(r, bytes, len);
		r->behind = ram_create();
		ram_put(r->behind, 0, bytes, len);
		memcpy(r->model, bytes, len < r->size ? len : r->size);
		free(bytes);
		r->new.backing = "behind";
		r->new.backing_format = "raw";
	}
	if (qcow2_create(&r->file->node, &r->new, &err) < 0)
		return FAIL(r, "create: %s", err.text);
	r->node = open_image(r, r->file, true, &err);
	if (!r->node)
		return FAIL(r, "open: %s", err.text);
	r->file->records = true;
	r->names[r->n_names++] = strdup(r->new.backing ? r->new.backing : "");
	remember(r, 0, true);
	return true;
}

static void range(const struct run *r, uint32_t *at, uint32_t *len)
{
	uint32_t n = r->size / SECTOR, cluster = (1u << r->new.cluster_bits) / SECTOR, most = rnd(3) ? 2 * cluster : n;

	*at = rnd(n);
	*len = 1 + rnd(most < n - *at ? most : n - *at);
	if (rnd(4) == 0) { /* whole clusters */
		*at = *at / cluster * cluster;
		*len = (*len + cluster - 1) / cluster * cluster;
		if (*len > n - *at)
			*len = n - *at;
	}
	*at *= SECTOR;
	*len *= SECTOR;
}

static bool is_same(struct run *r, struct node *node, const uint8_t *want, const char *what)
{
	uint8_t *bytes = malloc(r->size);
	int rc = node_get(node, 0, bytes, r->size);
	uint32_t s = 0;

	while (rc == 0 && s < r->size && memcmp(bytes + s, want + s, SECTOR) == 0)
		s += SECTOR;
	free(bytes);
	if (rc < 0)
		return FAIL(r, "%s: reading: %s", what, strerror(-rc));
	if (node->size != r->size)
		return FAIL(r, "%s: %llu bytes", what, (unsigned long long)node->size);
	return s == r->size ? true : FAIL(r, "%s: the sector at %u differs", what, s);
}

static bool do_write(struct run *r)
{
	uint32_t at, len, cut;
	struct iovec iov[2];
	uint8_t *bytes;
	int rc;

	range(r, &at, &len);
	bytes = malloc(len);
	fill(r, bytes, len);
	cut = rnd(len);
	iov[0] = (struct iovec){bytes, cut};
	iov[1] = (struct iovec){bytes + cut, len - cut};
	if (verbose)
		note("write %u %u", at, len);
	rc = cut ? node_write(r->node, at, iov, 2) : node_write(r->node, at, iov + 1, 1);
	if (rc == 0)
		memcpy(r->model + at, bytes, len);
	free(bytes);
	return rc == 0 ? true : FAIL(r, "write: %s", strerror(-rc));
}

static bool do_zero(struct run *r)
{
	uint32_t at, len;
	int rc;

	range(r, &at, &len);
	if (verbose)
		note("zero %u %u", at, len);
	rc = r->node->ops->zero(r->node, at, len);
	if (rc == 0)
		memset(r->model + at, 0, len);
	return rc == 0 ? true : FAIL(r, "zero: %s", strerror(-rc));
}

/* Each sector may be zeros afterwards, or what it was. */
static bool do_discard(struct run *r)
{
	static const uint8_t zeros[SECTOR];
	uint8_t bytes[SECTOR];
	uint32_t at, len;
	int rc;

	range(r, &at, &len);
	if (verbose)
		note("discard %u %u", at, len);
	rc = r->node->ops->discard(r->node, at, len);
	for (uint32_t s = at; rc == 0 && s < at + len; s += SECTOR) {
		rc = node_get(r->node, s, bytes, SECTOR);
		if (memcmp(bytes, zeros, SECTOR) == 0)
			memset(r->model + s, 0, SECTOR);
	}
	return rc == 0 ? true : FAIL(r, "discard: %s", strerror(-rc));
}

static bool do_read(struct run *r)
{
	uint32_t at, len;
	uint8_t *bytes;
	bool same;
	int rc;

	range(r, &at, &len);
	bytes = malloc(len);
	if (!r->node->ops->read_cached(r->node, at, &(struct iovec){bytes, len}, 1, len) || rnd(2))
		rc = node_get(r->node, at, bytes, len);
	else
		rc = 0;
	same = rc == 0 && memcmp(bytes, r->model + at, len) == 0;
	free(bytes);
	return same ? true : FAIL(r, "read of %u at %u: %s", len, at, rc < 0 ? strerror(-rc) : "differs");
}

/* A cluster, compressed; what it has behind the disk's end are zeros. */
static bool do_pack(struct run *r)
{
	uint32_t cluster = 1u << r->new.cluster_bits, n = (r->size + cluster - 1) / cluster, at = rnd(n) * cluster;
	uint32_t len = r->size - at < cluster ? r->size - at : cluster;
	uint8_t *bytes = calloc(2, cluster), *packed = bytes + cluster;
	size_t n_packed;
	int rc;

	fill(r, bytes, rnd(len / SECTOR + 1) * SECTOR); /* and zeros, which shrink */
	if (verbose)
		note("pack %u", at);
	if (rnd(8) == 0)
		for (uint32_t i = 0; i < len; i++) /* which does not */
			bytes[i] = (uint8_t)rnd(256);
	rc = qcow2_pack(r->node, bytes, packed, &n_packed);
	if (rc == 0)
		rc = n_packed ? qcow2_write_packed(r->node, at, packed, n_packed) : node_put(r->node, at, bytes, len);
	if (rc == 0)
		memcpy(r->model + at, bytes, len);
	free(bytes);
	return rc == 0 ? true : FAIL(r, "pack: %s", strerror(-rc));
}

static bool do_resize(struct run *r)
{
	uint32_t size = SECTOR * (1 + rnd(r->room / SECTOR));
	struct err err = {0};

	if (verbose)
		note("resize %u", size);
	if (r->node->ops->resize(r->node, size, &err) < 0)
		return FAIL(r, "resize to %u: %s", size, err.text);
	memset(r->model + (size < r->size ? size : r->size), 0, r->room - (size < r->size ? size : r->size));
	r->size = size;
	return true;
}

/* The name alone: what is open behind it stays. */
static bool do_rename(struct run *r)
{
	uint32_t len = rnd(3) ? 1 + rnd(r->new.cluster_bits > 9 ? 600 : 100) : 0;
	char *name = malloc(len + 1);
	struct err err = {0};
	int rc;

	memset(name, 'a' + (int)(r->serial++ % 26), len);
	name[len] = 0;
	if (verbose)
		note("rename %u", len);
	rc = qcow2_set_backing(r->node, name, len % 2 ? "raw" : "qcow2", &err);
	if (rc == -ENOSPC) /* its header has no room for both */
		free(name);
	else
		r->names[r->n_names++] = name;
	return rc == 0 || rc == -ENOSPC ? true : FAIL(r, "rename: %s", err.text);
}

static bool do_empty(struct run *r)
{
	uint64_t there = r->behind ? r->behind->node.size : 0;
	struct err err = {0};

	if (verbose)
		note("empty");
	if (qcow2_empty(r->node, &err) < 0)
		return FAIL(r, "empty: %s", err.text);
	memset(r->model, 0, r->room);
	if (there)
		memcpy(r->model, r->behind->bytes, there < r->size ? there : r->size);
	return true;
}

static bool do_allocate(struct run *r)
{
	struct err err = {0};
	int rc = qcow2_allocate(r->node, rnd(2), &err);

	if (verbose)
		note("allocate");
	return rc == 0 || (rc == -EINVAL && r->behind) ? true : FAIL(r, "allocate: %s", err.text);
}

/* It says what the other check says. */
static bool do_check(struct run *r)
{
	struct qcow2_check found;
	struct check c;
	struct err err = {0};

	if (verbose)
		note("check");
	if (qcow2_check(r->node, QCOW2_MEND_NOTHING, &found, NULL, &err) < 0)
		return FAIL(r, "check: %s", err.text);
	c = check_image(r->file->bytes, r->file->node.size);
	return found.corruptions == c.corrupt && found.leaks == c.leaks
		       ? true
		       : FAIL(r, "check: %llu corrupt and %llu leaks, not %u and %u", (unsigned long long)found.corruptions,
			      (unsigned long long)found.leaks, c.corrupt, c.leaks);
}

static bool do_flush(struct run *r)
{
	int rc = node_flush(r->node);

	if (verbose)
		note("flush");
	return rc == 0 ? true : FAIL(r, "flush: %s", strerror(-rc));
}

static bool do_reopen(struct run *r)
{
	struct err err = {0};

	if (verbose)
		note("open again");
	if (!do_flush(r))
		return false;
	if (r->behind)
		r->behind->keep = true;
	node_close(r->node);
	r->node = open_image(r, r->file, true, &err);
	return r->node ? true : FAIL(r, "open again: %s", err.text);
}

static bool do_create_snap(struct run *r)
{
	struct snap *s = &r->snaps[r->n_snaps];
	struct err err = {0};
	int rc;

	if (r->n_snaps == SNAPS_MAX)
		return true;
	snprintf(s->name, sizeof(s->name), "s%u", r->serial++);
	if (verbose)
		note("snapshot %s", s->name);
	rc = qcow2_snapshot_create(r->node, s->name, &err);
	if (rc == -ERANGE && !r->many_snaps)
		return true;
	if (rc < 0)
		return FAIL(r, "%s", err.text);
	s->size = r->size;
	s->bytes = malloc(r->room);
	memcpy(s->bytes, r->model, r->room);
	r->n_snaps++;
	return true;
}

static bool do_apply_snap(struct run *r)
{
	struct err err = {0};
	struct snap *s;
	int rc;

	if (!r->n_snaps)
		return true;
	s = &r->snaps[rnd(r->n_snaps)];
	if (verbose)
		note("apply %s", s->name);
	rc = qcow2_snapshot_apply(r->node, s->name, &err);
	if (rc == -ERANGE && !r->many_snaps)
		return true;
	memcpy(r->model, s->bytes, r->room);
	r->size = s->size;
	return rc == 0 ? true : FAIL(r, "%s", err.text);
}

static bool do_delete_snap(struct run *r)
{
	struct err err = {0};
	unsigned i;
	int rc;

	if (!r->n_snaps)
		return true;
	i = rnd(r->n_snaps);
	if (verbose)
		note("delete %s", r->snaps[i].name);
	rc = qcow2_snapshot_delete(r->node, r->snaps[i].name, &err);
	if (rc == -ERANGE && !r->many_snaps)
		return true;
	if (rc < 0)
		return FAIL(r, "%s", err.text);
	free(r->snaps[i].bytes);
	r->snaps[i] = r->snaps[--r->n_snaps];
	return true;
}

static const struct {
	bool (*act)(struct run *r);
	unsigned weight;
	bool flushes;
} ops[] = {
	{do_write, 10, false}, {do_zero, 3, false}, {do_discard, 3, false}, {do_read, 4, false},
	{do_flush, 4, true}, {do_reopen, 1, true}, {do_create_snap, 2, true}, {do_apply_snap, 1, true},
	{do_delete_snap, 1, true}, {do_pack, 6, false}, {do_resize, 2, true}, {do_check, 1, true},
	{do_rename, 1, true}, {do_empty, 1, true}, {do_allocate, 1, false},
};

static bool act(struct run *r)
{
	unsigned pick = rnd(41), i = 0, event = r->file->n_events;
	bool good;

	while (pick >= ops[i].weight)
		pick -= ops[i++].weight;
	good = ops[i].act(r);
	if (good)
		remember(r, event, ops[i].flushes && ops[i].act != do_create_snap && ops[i].act != do_apply_snap &&
			 ops[i].act != do_delete_snap && ops[i].act != do_resize && ops[i].act != do_empty);
	return good;
}

/* -- The end of it ------------------------------------------------------------------- */

static bool is_clean(struct run *r, const struct ram *file, bool leaks, const char *when)
{
	struct check c = check_image(file->bytes, file->node.size);

	if (c.corrupt)
		return FAIL(r, "%s: corrupt: %s", when, c.why);
	return leaks || !c.leaks ? true : FAIL(r, "%s: %u leaks", when, c.leaks);
}

/* In a copy, because they are read by applying them. */
static bool snaps_are_same(struct run *r)
{
	struct ram *copy = ram_copy(r->file);
	struct err err = {0};
	struct node *node = open_image(r, copy, false, &err);
	bool good = true;
	uint32_t size = r->size;

	if (!node) {
		ram_destroy(copy);
		return FAIL(r, "a copy: %s", err.text);
	}
	for (unsigned i = 0; good && i < r->n_snaps; i++) {
		int rc = qcow2_snapshot_apply(node, r->snaps[i].name, &err);

		if (rc == -ERANGE && !r->many_snaps)
			continue;
		r->size = r->snaps[i].size;
		good = rc == 0 ? is_same(r, node, r->snaps[i].bytes, r->snaps[i].name) : FAIL(r, "%s", err.text);
		if (good)
			good = is_clean(r, copy, false, "a snapshot is applied");
	}
	r->size = size;
	node_close(node);
	return good;
}

/* -- Crashes ------------------------------------------------------------------------- */

/* The file with all events before `from`, and some sectors of those up to `to`. */
static struct ram *crashed(const struct run *r, const uint8_t *base, uint64_t base_len, unsigned from, unsigned to,
			   bool all)
{
	struct ram *f = ram_create();

	ram_put(f, 0, base, base_len);
	for (unsigned i = 0; i < to; i++) {
		const struct ram_event *e = &r->file->events[i];

		if (i < from || all) {
			ram_put(f, e->at, e->bytes, e->len);
			continue;
		}
		for (size_t at = 0; at < e->len;) { /* by the sectors of the disk */
			size_t n = SECTOR - (e->at + at) % SECTOR;

			if (n > e->len - at)
				n = e->len - at;
			if (rnd(2))
				ram_put(f, e->at + at, e->bytes + at, n);
			at += n;
		}
	}
	return f;
}

/* Each sector has what it had at the last flush that ended, or what an operation since has made it. */
static bool is_possible(struct run *r, struct node *node, unsigned event)
{
	uint8_t *bytes = malloc(node->size);
	unsigned first = 0;
	int rc = node->size <= r->room ? node_get(node, 0, bytes, node->size) : -EFBIG;

	for (unsigned m = 0; m < r->n_moments; m++)
		if (r->moments[m].flushed && r->moments[m].after <= event)
			first = m;
	for (uint32_t s = 0; rc == 0 && s < node->size; s += SECTOR) {
		bool found = false;

		for (unsigned m = first; !found && m < r->n_moments; m++) {
			if (m > first && r->moments[m].event > event)
				break;
			found = node->size <= r->moments[m].size && memcmp(bytes + s, r->moments[m].bytes + s, SECTOR) == 0;
		}
		if (!found) {
			(void)FAIL(r, "crash at event %u: the sector at %u was lost: it is %u and was %u when operation %u "
			     "flushed it", event, s, le32_get(bytes + s), le32_get(r->moments[first].bytes + s), first);
			free(bytes);
			return false;
		}
	}
	free(bytes);
	return rc == 0 ? true : FAIL(r, "crash at event %u: reading: %s", event, strerror(-rc));
}

static bool is_mended(struct run *r, struct ram *f, enum qcow2_mend mend, const char *when)
{
	struct check before = check_image(f->bytes, f->node.size);
	struct qcow2_check found = {.corruptions = 1};
	struct err err = {0};
	struct node *node;

	f->keep = true;
	if (qcow2_open(&node, &(struct qcow2_config){.file = &f->node, .path = "image", .pages = r->pages, .unchecked = true},
		       &err) < 0)
		return FAIL(r, "%s, to be mended: %s", when, err.text);
	if (qcow2_check(node, mend, &found, NULL, &err) < 0 || found.corruptions || found.leaks ||
	    (mend == QCOW2_MEND_LEAKS && found.leaks_fixed != before.leaks)) {
		node_close(node);
		return FAIL(r, "%s, mended: %s %llu corrupt, %llu leaks, %llu of %u fixed", when, err.text,
			    (unsigned long long)found.corruptions, (unsigned long long)found.leaks,
			    (unsigned long long)found.leaks_fixed, before.leaks);
	}
	node_close(node);
	return is_clean(r, f, false, when);
}

/* What is behind it has one of the names that it had, not half of one. */
static bool has_a_name(struct run *r, struct ram *f, const char *when)
{
	char name[1024], format[16];
	struct err err = {0};

	f->keep = true;
	if (qcow2_backing(&f->node, name, format, &err) < 0)
		return FAIL(r, "%s: its name: %s", when, err.text);
	for (unsigned i = 0; i < r->n_names; i++)
		if (strcmp(name, r->names[i]) == 0)
			return true;
	return FAIL(r, "%s: '%.100s' is behind it", when, name);
}

static bool crash(struct run *r, const uint8_t *base, uint64_t base_len, unsigned from, unsigned to, bool all)
{
	struct ram *f = crashed(r, base, base_len, from, to, all);
	struct err err = {0};
	char when[40];
	struct node *node;
	bool good;

	snprintf(when, sizeof(when), "crash at event %u", to);
	good = is_clean(r, f, true, when) && has_a_name(r, f, when);
	node = good ? open_image(r, f, true, &err) : NULL;
	if (good && !node)
		good = FAIL(r, "%s: %s", when, err.text);
	if (good)
		good = is_possible(r, node, to);
	node_close(node);
	if (good && rnd(4) == 0)
		good = is_mended(r, f, QCOW2_MEND_LEAKS, when);
	ram_destroy(f);
	return good;
}

static unsigned n_crashes;

static bool crashes(struct run *r, const uint8_t *base, uint64_t base_len)
{
	unsigned flushed = 0, n = r->file->n_events;

	for (unsigned i = 0; i <= n; i++) {
		if (!crash(r, base, base_len, flushed, i, true) || !crash(r, base, base_len, flushed, i, false))
			return false;
		n_crashes += 2;
		if (i < n && r->file->events[i].is_flush)
			flushed = i + 1;
	}
	return true;
}

/* -- Damage -------------------------------------------------------------------------- */

/* Counts and COPIED bits of the active tree, some of them drawn. */
static void damage(struct run *r, struct ram *f)
{
	uint64_t cluster = 1ull << r->new.cluster_bits, refs = be64_get(f->bytes + 48), l1 = be64_get(f->bytes + 40);
	uint64_t block = be64_get(f->bytes + refs);

	for (unsigned i = rnd(8); i; i--)
		f->bytes[block + rnd((uint32_t)cluster)] = (uint8_t)rnd(256);
	for (uint64_t i = 0; i < be32_get(f->bytes + 36); i++) {
		uint64_t table = be64_get(f->bytes + l1 + i * 8) & 0x00fffffffffffe00ull;

		f->bytes[l1 + i * 8] = (uint8_t)(f->bytes[l1 + i * 8] ^ (table && rnd(3) == 0 ? 0x80 : 0));
		for (uint64_t k = 0; table && k < cluster / 8; k++)
			if (!(f->bytes[table + k * 8] & 0x40) && be64_get(f->bytes + table + k * 8) & 0x00fffffffffffe00ull)
				f->bytes[table + k * 8] = (uint8_t)(f->bytes[table + k * 8] ^ (rnd(3) == 0 ? 0x80 : 0));
	}
	if (rnd(4) == 0)
		be64_put(f->bytes + refs, rnd(2) ? 0 : rnd(2) ? 1 : cluster << 20);
}

/* Mended, with all that a crash may leave on the way: the bytes stay what they are. */
static bool damaged(struct run *r)
{
	struct ram *f = ram_copy(r->file);
	uint64_t base_len = f->node.size;
	struct err err = {0};
	struct node *node;
	bool good, many = r->new.order >= 3;

	damage(r, f);
	if (r->new.version == 3)
		f->bytes[79] |= (uint8_t)rnd(4);
	uint8_t *base = malloc(base_len);
	memcpy(base, f->bytes, base_len);
	f->records = true;
	good = is_mended(r, f, QCOW2_MEND_ALL, "damaged");
	if (!good && !many && strstr(r->why, "more often"))
		good = true;
	node = good ? open_image(r, f, true, &err) : NULL;
	if (good)
		good = node ? is_same(r, node, r->model, "mended") : FAIL(r, "mended: %s", err.text);
	node_close(node);
	for (unsigned i = 0; good && i <= f->n_events; i++) {
		struct ram *c = ram_create();

		ram_put(c, 0, base, base_len);
		for (unsigned k = 0; k < i; k++)
			ram_put(c, f->events[k].at, f->events[k].bytes, f->events[k].len);
		good = is_mended(r, c, QCOW2_MEND_ALL, "mended in part, and then");
		ram_destroy(c);
	}
	free(base);
	ram_destroy(f);
	return good;
}

/* -- qemu-img ------------------------------------------------------------------------ */

static char dir[] = "/tmp/lodge-qcow2-XXXXXX";

static bool has_qemu(void)
{
	return system("qemu-img --version >/dev/null 2>&1") == 0;
}

static bool write_file(const char *name, const void *bytes, size_t len)
{
	char path[64];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "we");
	if (!f)
		return false;
	fwrite(bytes, 1, len, f);
	return fclose(f) == 0;
}

static bool qemu_agrees(struct run *r)
{
	char command[300];
	int rc = qcow2_set_backing(r->node, r->new.backing, r->new.backing_format, NULL);

	if (rc < 0) /* no room for that and the name that it has */
		return true;

	write_file("image", r->file->bytes, r->file->node.size);
	write_file("model", r->model, r->size);
	if (r->behind)
		write_file("behind", r->behind->bytes, r->behind->node.size);
	snprintf(command, sizeof(command), "cd %s && qemu-img check -q image >log 2>&1 && "
		 "qemu-img compare -q -f qcow2 -F raw image model >>log 2>&1", dir);
	rc = system(command);
	if (rc == 0)
		return true;
	snprintf(command, sizeof(command), "head -5 %s/log | sed 's/^/# /'", dir);
	if (system(command) != 0)
		note("no log");
	return FAIL(r, "qemu-img does not agree: %d", WEXITSTATUS(rc));
}

/* -- All of it ----------------------------------------------------------------------- */

static void destroy(struct run *r)
{
	if (r->behind)
		r->behind->keep = true;
	node_close(r->node);
	for (unsigned i = 0; i < r->n_snaps; i++)
		free(r->snaps[i].bytes);
	for (unsigned i = 0; i < r->n_moments; i++)
		free(r->moments[i].bytes);
	for (unsigned i = 0; i < r->n_names; i++)
		free(r->names[i]);
	if (r->behind)
		ram_destroy(r->behind);
	ram_destroy(r->file);
	free(r->model);
}

static bool sequence(struct run *r, uint64_t seed, bool crash_too, bool qemu)
{
	uint8_t *base = NULL;
	uint64_t base_len;
	bool good;
	unsigned n = 5 + rnd(OPS_MAX - 5);

	*r = (struct run){.seed = seed};
	good = create(r);
	base_len = r->file->node.size;
	base = malloc(base_len);
	memcpy(base, r->file->bytes, base_len);
	if (verbose)
		note("version %u, clusters of 2^%u, order %u, %u bytes, %u pages%s", r->new.version,
		     r->new.cluster_bits, r->new.order, r->size, r->pages, r->behind ? ", with a backing file" : "");
	for (unsigned i = 0; good && i < n; i++)
		good = act(r);
	if (good)
		good = do_flush(r) && is_same(r, r->node, r->model, "at the end");
	if (good)
		remember(r, r->file->n_events, true);
	if (good)
		good = is_clean(r, r->file, false, "at the end") && snaps_are_same(r);
	if (good && seed % 4 == 1)
		good = damaged(r);
	if (good && crash_too)
		good = crashes(r, base, base_len);
	if (good && qemu)
		good = qemu_agrees(r);
	free(base);
	return good;
}

/* The host is full, or its disk fails, from the nth change on; then it is well again. */
static bool failing(struct run *r, uint64_t seed, long after, int error)
{
	struct err err = {0};
	struct ram *f;
	struct node *node;
	bool good;

	*r = (struct run){.seed = seed};
	good = create(r);
	for (unsigned i = 0; good && i < 20; i++) {
		r->file->error = error;
		r->file->left = i == 5 ? after : r->file->left;
		if (!act(r)) { /* its parts may be done, or not */
			r->why[0] = 0;
			break;
		}
	}
	f = ram_copy(r->file);
	good = good && is_clean(r, f, true, "the host is full");
	node = good ? open_image(r, f, true, &err) : NULL;
	if (good && !node)
		good = FAIL(r, "the host was full: %s", err.text);
	node_close(node);
	ram_destroy(f);
	r->file->left = -1;
	if (good && !r->node)
		return true;
	/* what was done is there, and it goes on: until the header is in doubt */
	if (good && node_flush(r->node) == 0)
		good = is_clean(r, r->file, true, "the host is well again");
	return good;
}

int main(int argc, char **argv)
{
	uint64_t first = argc > 1 ? strtoull(argv[1], NULL, 0) : 1;
	unsigned n = argc > 2 ? (unsigned)atoi(argv[2]) : 2000, bad = 0;
	bool qemu = has_qemu();
	char command[64];
	struct run r;

	verbose = argc > 3;
	if (!mkdtemp(dir))
		return 1;
	for (uint64_t seed = first; seed < first + n && bad < 5; seed++) {
		state = seed;
		if (!sequence(&r, seed, seed % 8 == 0, qemu && seed % 50 == 0)) {
			note("seed %llu: %s", (unsigned long long)seed, r.why);
			bad++;
		}
		destroy(&r);
	}
	is_int(bad, 0, "%u sequences from seed %llu on are as a disk in memory", n, (unsigned long long)first);
	note("%u crashes", n_crashes);
	if (!qemu)
		skip("qemu-img, which checks some of them, is not installed");
	bad = 0;
	for (uint64_t seed = first; seed < first + n / 4 && bad < 5; seed++) {
		state = seed;
		if (!failing(&r, seed, rnd(60), rnd(2) ? ENOSPC : EIO)) {
			note("seed %llu: %s", (unsigned long long)seed, r.why);
			bad++;
		}
		destroy(&r);
	}
	is_int(bad, 0, "%u sequences on a host that is full are not corrupt", n / 4);
	snprintf(command, sizeof(command), "rm -r %s", dir);
	ok(system(command) == 0, "nothing is left in %s", dir);
	return done_testing();
}

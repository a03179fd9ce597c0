/* SPDX-License-Identifier: MIT */
/*
 * New images, and what -o says of them: the table below has the words of qemu-img, and which of them we refuse, by name.
 *
 * A file that is there is made empty only when its lock is ours. The name of what is behind an image goes into it as it was
 * said; it is looked at first, unless that is unwanted (-u).
 */
#include "prog/lodge-img/img.h"

#include "base/err.h"
#include "base/macros.h"
#include "base/scoped.h"
#include "block/node.h"
#include "block/qcow2.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void new_image_init(struct new_image *n, const char *path, enum disk_format format)
{
	*n = (struct new_image){.path = path, .format = format, .version = 3, .cluster_bits = 16, .order = 4};
}

void new_image_fini(struct new_image *n)
{
	free(n->backing);
	free(n->backing_format);
}

/* -- Options --------------------------------------------------------------------------- */

static int bad(const char *name, const char *value, const char *right, struct err *err)
{
	return err_set(err, EINVAL, "-o %s is %s, not '%s'", name, right, value);
}

static int set_switch(bool *on, const char *name, const char *value, struct err *err)
{
	*on = strcmp(value, "on") == 0 || strcmp(value, "true") == 0 || strcmp(value, "yes") == 0;
	if (*on || strcmp(value, "off") == 0 || strcmp(value, "false") == 0 || strcmp(value, "no") == 0)
		return 0;
	return bad(name, value, "on or off", err);
}

static int set_size(struct new_image *n, const char *name, const char *value, struct err *err)
{
	n->has_size = true;
	return img_number(&n->size, value, name, err);
}

static int set_compat(struct new_image *n, const char *name, const char *value, struct err *err)
{
	n->version = strcmp(value, "0.10") == 0 || strcmp(value, "v2") == 0 ? 2 : 3;
	if (n->version == 2 || strcmp(value, "1.1") == 0 || strcmp(value, "v3") == 0)
		return 0;
	return bad(name, value, "0.10, v2, 1.1 or v3", err);
}

static int set_cluster_size(struct new_image *n, const char *name, const char *value, struct err *err)
{
	uint64_t size;
	int rc = img_number(&size, value, name, err);

	if (rc < 0)
		return rc;
	if (size < 512 || size > 2 * MiB || (size & (size - 1)))
		return bad(name, value, "a power of two from 512 to 2M", err);
	n->cluster_bits = (unsigned)__builtin_ctzll(size);
	return 0;
}

static int set_refcount_bits(struct new_image *n, const char *name, const char *value, struct err *err)
{
	uint64_t bits;
	int rc = img_number(&bits, value, name, err);

	if (rc < 0)
		return rc;
	if (bits < 1 || bits > 64 || (bits & (bits - 1)))
		return bad(name, value, "a power of two from 1 to 64", err);
	n->order = (unsigned)__builtin_ctzll(bits);
	return 0;
}

static int set_lazy(struct new_image *n, const char *name, const char *value, struct err *err)
{
	return set_switch(&n->lazy, name, value, err);
}

static int set_compression(struct new_image *n, const char *name, const char *value, struct err *err)
{
	n->zstd = strcmp(value, "zstd") == 0;
	return n->zstd || strcmp(value, "zlib") == 0 ? 0 : bad(name, value, "zlib or zstd", err);
}

static int set_room(struct new_image *n, const char *name, const char *value, struct err *err)
{
	static const char *const words[] = {"off", "metadata", "falloc", "full"};

	for (unsigned i = 0; i < ARRAY_SIZE(words); i++)
		if (strcmp(value, words[i]) == 0 && (n->format == DISK_QCOW2 || i != ROOM_METADATA)) {
			n->room = (enum img_room)i;
			return 0;
		}
	return bad(name, value, n->format == DISK_QCOW2 ? "off, metadata, falloc or full" : "off, falloc or full", err);
}

static int set_text(char **to, const char *value, struct err *err)
{
	free(*to);
	*to = strdup(value);
	return *to ? 0 : err_set(err, ENOMEM, "no memory");
}

static int set_backing(struct new_image *n, const char *name, const char *value, struct err *err)
{
	(void)name;
	return set_text(&n->backing, value, err);
}

static int set_backing_format(struct new_image *n, const char *name, const char *value, struct err *err)
{
	(void)name;
	return set_text(&n->backing_format, value, err);
}

/* Off is what we have; on is what we have not. */
static int set_off(struct new_image *n, const char *name, const char *value, struct err *err)
{
	bool on = false;
	int rc = set_switch(&on, name, value, err);

	(void)n;
	return rc < 0 || !on ? rc : err_set(err, ENOTSUP, "-o %s=on: lodge-img does not have that", name);
}

static int set_refused(struct new_image *n, const char *name, const char *value, struct err *err)
{
	(void)n;
	(void)value;
	return err_set(err, ENOTSUP, "-o %s: lodge-img does not have that", name);
}

static const struct new_option {
	const char *name, *help;
	bool of_raw;
	int (*set)(struct new_image *n, const char *name, const char *value, struct err *err);
} options[] = {
	{"size", "bytes that the disk has", true, set_size},
	{"preallocation", "off, metadata (qcow2), falloc or full", true, set_room},
	{"nocow", NULL, true, set_off},
	{"extent_size_hint", NULL, true, set_refused},
	{"compat", "0.10 or v2; 1.1 or v3 (default)", false, set_compat},
	{"cluster_size", "512 to 2M (default: 64k)", false, set_cluster_size},
	{"refcount_bits", "1 to 64 (default: 16)", false, set_refcount_bits},
	{"lazy_refcounts", "on or off: others may keep counts up late", false, set_lazy},
	{"compression_type", "zlib or zstd", false, set_compression},
	{"backing_file", "as -b", false, set_backing},
	{"backing_fmt", "as -F", false, set_backing_format},
	{"extended_l2", NULL, false, set_off},
	{"encryption", NULL, false, set_off},
	{"data_file", NULL, false, set_refused},
	{"data_file_raw", NULL, false, set_off},
	{"encrypt.format", NULL, false, set_refused},
	{"encrypt.key-secret", NULL, false, set_refused},
};

static int set_option(struct new_image *n, char *text, struct err *err)
{
	char *equals = strchr(text, '=');

	if (!equals)
		return err_set(err, EINVAL, "-o has NAME=VALUE, not '%s'", text);
	*equals = 0;
	for (unsigned i = 0; i < ARRAY_SIZE(options); i++)
		if (strcmp(options[i].name, text) == 0 && (n->format == DISK_QCOW2 || options[i].of_raw))
			return options[i].set(n, text, equals + 1, err);
	return err_set(err, EINVAL, "-o: %s images have no option '%s': -o help lists them", disk_formats[n->format], text);
}

static int list_options(const struct new_image *n)
{
	printf("Options of new %s images:\n", disk_formats[n->format]);
	for (unsigned i = 0; i < ARRAY_SIZE(options); i++)
		if (options[i].help && (n->format == DISK_QCOW2 || options[i].of_raw))
			printf("  %-18s %s\n", options[i].name, options[i].help);
	return 1;
}

/* Up to a comma; two of them are one that belongs to it. */
static char *next_option(char **at)
{
	char *first = *at, *to = first, *from = first;

	while (*from && !(*from == ',' && from[1] != ',')) {
		from += *from == ',';
		*to++ = *from++;
	}
	*at = from + (*from == ',');
	*to = 0;
	return first;
}

int new_image_options(struct new_image *n, const char *text, struct err *err)
{
	scoped_mem char *copy = text ? strdup(text) : NULL;
	char *at = copy, *end = copy ? copy + strlen(copy) : NULL;
	int rc = 0;

	if (text && !copy)
		return err_set(err, ENOMEM, "no memory");
	while (rc == 0 && at < end) {
		char *one = next_option(&at);

		if (strcmp(one, "help") == 0 || strcmp(one, "?") == 0)
			return list_options(n);
		rc = set_option(n, one, err);
	}
	return rc;
}

/* -- Making it ------------------------------------------------------------------------- */

/* Ours, and as it was; *is_new: it was not. */
static int open_new(const struct new_image *n, bool *is_new, struct err *err)
{
	scoped_fd int fd = open(n->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	struct stat st;
	int rc;

	*is_new = fd >= 0;
	if (fd < 0 && errno == EEXIST)
		fd = open(n->path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_sys(err, errno, "cannot make it");
	rc = file_lock(fd, F_WRLCK, FILE_ALL, err);
	if (rc < 0)
		return rc;
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return err_set(err, EINVAL, "is neither a file nor a block device");
	return keep_fd(&fd);
}

/* A size that was not said is that of what is behind. */
static int look_behind(struct new_image *n, struct err *err)
{
	char real[PATH_MAX];
	struct image image;
	int rc;

	if (!n->backing_format)
		return err_set(err, EINVAL, "the format of '%s' behind it is missing: -F raw or -F qcow2", n->backing);
	if (n->unsafe)
		return 0;
	rc = image_may_have_behind(n->path, n->backing, n->backing_format, n->how, real, err);
	if (rc == 0)
		rc = img_open(&image, &(struct want){.path = real, .format = n->backing_format, .how = n->how}, err);
	if (rc < 0)
		return rc;
	if (!n->has_size)
		n->size = img_size(&image);
	n->has_size = true;
	return img_close(&image, real, false, err);
}

static int fill_raw(struct new_image *n, struct node *file, struct err *err)
{
	struct stat st;
	int rc = 0;

	if (stat(n->path, &st) == 0 && S_ISBLK(st.st_mode))
		return n->size <= file->size ? 0 : err_set(err, ENOSPC, "has %llu bytes, not %llu",
							   (unsigned long long)file->size, (unsigned long long)n->size);
	if (n->size)
		rc = file->ops->resize(file, n->size, err);
	if (rc == 0 && n->room >= ROOM_FALLOC && n->size) {
		rc = file->ops->zero(file, 0, n->size);
		rc = rc < 0 ? err_sys(err, -rc, "allocating %llu bytes", (unsigned long long)n->size) : 0;
	}
	return rc;
}

static int fill_qcow2(struct new_image *n, struct node **file, struct err *err)
{
	struct qcow2_new new = {
		.size = n->size, .version = n->version, .cluster_bits = n->cluster_bits, .order = n->order, .lazy = n->lazy,
		.zstd = n->zstd, .backing = n->backing, .backing_format = n->backing_format,
	};
	struct node *image;
	int rc;

	rc = qcow2_create(*file, &new, err);
	if (rc < 0 || n->room == ROOM_OFF)
		return rc;
	rc = qcow2_open(&image, &(struct qcow2_config){.file = *file, .path = n->path}, err);
	*file = NULL;
	if (rc == 0)
		rc = qcow2_allocate(image, n->room != ROOM_METADATA, err);
	node_close(image);
	return rc;
}

/* What can be wrong with what was said. */
static int check_words(const struct new_image *n, struct err *err)
{
	if (n->has_size && !n->size && n->format == DISK_QCOW2)
		return err_set(err, EINVAL, "a qcow2 image has 512 bytes or more");
	if (n->backing && n->format == DISK_RAW)
		return err_set(err, EINVAL, "a raw image has nothing behind it: -f qcow2 can");
	if (n->version == 2 && (n->order != 4 || n->lazy || n->zstd))
		return err_set(err, EINVAL, "refcount_bits, lazy_refcounts and compression_type need compat=1.1");
	if (n->backing && n->room != ROOM_OFF)
		return err_set(err, EINVAL, "what has an image behind it is not allocated in advance: preallocation=off");
	if (!n->has_size && (!n->backing || n->unsafe))
		return err_set(err, EINVAL, "its size is missing: lodge-img create -f qcow2 disk.qcow2 10G");
	return 0;
}

/* What is there stays until nothing is left that a user could have said wrong. */
static int fill(struct new_image *n, int fd, struct err *err)
{
	int rc = n->backing ? look_behind(n, err) : 0;
	struct node *file;
	struct stat st;

	if (rc == 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && ftruncate(fd, 0) < 0)
		rc = err_sys(err, errno, "cannot be made empty");
	if (rc < 0) {
		close(fd);
		return rc;
	}
	n->size = align_up(n->size, UINT64_C(512));
	rc = file_node(&file, fd, FILE_GROWS, NULL, err);
	if (rc == 0)
		rc = n->format == DISK_QCOW2 ? fill_qcow2(n, &file, err) : fill_raw(n, file, err);
	node_close(file);
	return rc;
}

int new_image_write(struct new_image *n, struct err *err)
{
	int rc = check_words(n, err), fd;
	bool is_new = false;

	if (rc == 0) {
		fd = open_new(n, &is_new, err);
		rc = fd < 0 ? fd : fill(n, fd, err);
	}
	if (rc < 0 && is_new)
		unlink(n->path);
	return rc < 0 ? err_at(err, rc, "'%s'", n->path) : 0;
}

bool new_image_is_zero(const struct image *image)
{
	struct node *n = image->node;
	struct node_status s;

	if (image->format == DISK_QCOW2 || n->size == 0)
		return true;
	return n->ops->status(n, 0, n->size, &s) == 0 && s.zero && s.len == n->size;
}

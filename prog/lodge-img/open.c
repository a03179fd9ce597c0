/* SPDX-License-Identifier: MIT */
/*
 * Opening an image by its name, as a person at a terminal names it: of which format it is may be found out here, where lodge run
 * wants to be told. A guest can write a header of qcow2 to its raw disk, and name a file of the host behind it; so what looks like
 * that is refused, and whoever knows better says -f; but not by verbs that only read, and nothing but the file itself.
 */
#include "prog/lodge-img/img.h"

#include "base/err.h"
#include "base/macros.h"
#include "base/word.h"
#include "block/node.h"
#include "block/qcow2.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

unsigned img_how(bool shares, bool follows)
{
	return (shares ? IMAGE_UNLOCKED : 0) | (follows ? IMAGE_ANYWHERE : 0);
}

int img_format(enum disk_format *format, const char *word, struct err *err)
{
	for (*format = DISK_RAW; *format <= DISK_QCOW2; ++*format)
		if (strcmp(word, disk_formats[*format]) == 0)
			return 0;
	return err_set(err, EINVAL, "format '%s' is none that lodge-img has: raw and qcow2 are", word);
}

int img_set_cache(void *into, char *value, struct err *err)
{
	*(const char **)into = value;
	if (word_in(value, "none|writeback|writethrough|directsync|unsafe", '|'))
		return 0;
	return err_set(err, EINVAL, "a cache mode is none, writeback, writethrough, directsync or unsafe, not '%s'", value);
}

void img_join(char joined[PATH_MAX], const char *path, const char *name)
{
	const char *slash = strrchr(path, '/');

	snprintf(joined, PATH_MAX, "%.*s%s", name[0] == '/' || !slash ? 0 : (int)(slash - path + 1), path, name);
}

int img_behind(const char *path, unsigned how, char name[PATH_MAX], enum disk_format *format, struct err *err)
{
	char real[PATH_MAX], said[1024], word[16];
	struct image image;
	int rc = image_behind(path, how, real, format, err);

	name[0] = 0;
	if (rc == 0 && real[0])
		rc = img_open(&image, &(struct want){.path = path, .format = "qcow2", .how = how | IMAGE_BARE | IMAGE_UNLOCKED}, err);
	if (rc < 0 || !real[0])
		return rc;
	rc = qcow2_backing_of(image.node, said, word, err);
	node_close(image.node);
	img_join(name, path, said);
	return rc;
}

static bool is_called_qcow2(const char *path)
{
	const char *end = strrchr(path, '.');

	return end && strcmp(end, ".qcow2") == 0;
}

static int find_format(enum disk_format *format, const struct want *w, struct err *err)
{
	char name[1024], behind[16];
	struct node *file;
	int fd, rc;

	*format = DISK_RAW;
	if (disk_is_remote(w->path))
		return 0;
	fd = file_open(w->path, true, err);
	if (fd < 0)
		return fd;
	rc = file_node(&file, fd, FILE_READONLY | FILE_GROWS, NULL, err);
	if (rc < 0)
		return rc;
	*format = qcow2_is(file) ? DISK_QCOW2 : DISK_RAW;
	if (*format == DISK_QCOW2 && (w->writes || !(w->how & IMAGE_BARE)) && !is_called_qcow2(w->path)) {
		rc = qcow2_backing(file, name, behind, err);
		if (rc == 0 && name[0])
			rc = err_set(err, EPERM, "begins as a qcow2 image with another one behind it, which a guest may have written "
				     "to its raw disk: it needs -f qcow2, or -f raw");
	}
	node_close(file);
	return rc;
}

int img_open(struct image *image, const struct want *w, struct err *err)
{
	struct disk_config config = {.path = w->path, .readonly = !w->writes, .snapshot = w->snapshot};
	int rc;

	*image = (struct image){.fd = -1};
	if (!w->path || !w->path[0])
		return err_set(err, EINVAL, "the name of the image is missing");
	if (disk_is_remote(w->path))
		signal(SIGPIPE, SIG_IGN); /* a server that goes is an error as others are */
	rc = w->format ? img_format(&config.format, w->format, err) : find_format(&config.format, w, err);
	if (rc == 0 && w->snapshot && config.format != DISK_QCOW2)
		rc = err_set(err, ENOTSUP, "is %s, which has no snapshots", disk_formats[config.format]);
	if (rc == 0)
		rc = image_open(image, &config, FILE_ALL, w->how | IMAGE_ODD, err);
	return rc < 0 ? err_at(err, rc, "'%s'", w->path) : 0;
}

int img_close(struct image *image, const char *path, bool flush, struct err *err)
{
	int rc = image->node && flush ? node_flush(image->node) : 0;

	node_close(image->node);
	image->node = NULL;
	return rc < 0 ? err_sys(err, -rc, "'%s': flushing it", path) : 0;
}

uint64_t img_size(const struct image *image)
{
	return align_up(image->node->size, UINT64_C(512));
}

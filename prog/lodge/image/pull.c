/* SPDX-License-Identifier: MIT */
/*
 * See pull.h. What was fetched is ~/.cache/lodge/pull/SUM-OF-URL.part until the image is there, so that who is interrupted goes on from
 * there; beside it is what the server calls this version of it. Who fetches it holds its lock.
 *
 * The image has no name until all of it has been looked at. One that names another file as its base is refused: it would be a way to
 * read any file of who runs it.
 */
#include "pull.h"

#include "base/err.h"
#include "base/log.h"
#include "base/scoped.h"
#include "block/file.h"
#include "block/node.h"
#include "block/qcow2.h"
#include "child.h"
#include "progress.h"
#include "prog/lodge/beside.h"
#include "prog/lodge/newfile.h"
#include "prog/lodge/userdir.h"
#include "store.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#define URL_MAX       4096
#define REDIRECTS_MAX 10

struct part {
	char path[PATH_MAX], validator_path[PATH_MAX + 8];
	int fd, validator;
};

int pull_check(const struct pull *p, struct err *err)
{
	if (strncasecmp(p->url, "http://", 7) != 0 && strncasecmp(p->url, "https://", 8) != 0)
		return err_set(err, ERANGE, "'%.200s' is no URL that can be pulled: it begins with https:// or http://", p->url);
	if (strlen(p->url) >= URL_MAX)
		return err_set(err, ERANGE, "a URL has %d bytes at most", URL_MAX - 1);
	if (p->sum && (strlen(p->sum) != 64 || strspn(p->sum, "0123456789abcdefABCDEF") != 64))
		return err_set(err, ERANGE, "'%.80s' is no SHA-256, which has 64 hexadecimal digits", p->sum);
	return 0;
}

/* -- What was fetched ----------------------------------------------------------------------- */

static int open_part(struct part *part, const char *url, struct err *err)
{
	int rc = userdir_find(part->path, "XDG_CACHE_HOME", ".cache", "lodge/pull", err);
	size_t n;

	if (rc == 0)
		rc = userdir_make(part->path, err);
	if (rc < 0)
		return rc;
	n = strlen(part->path);
	snprintf(part->path + n, sizeof(part->path) - n, "/%016" PRIx64 ".part", XXH64(url, strlen(url), 0));
	snprintf(part->validator_path, sizeof(part->validator_path), "%s.of", part->path);
	part->fd = open(part->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	part->validator = open(part->validator_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (part->fd < 0 || part->validator < 0)
		return err_sys(err, errno, "'%s'", part->path);
	if (flock(part->fd, LOCK_EX | LOCK_NB) == 0)
		return 0;
	close(part->fd); /* the other's to remove */
	part->fd = -1;
	return err_set(err, EBUSY, "another lodge fetches %s", url);
}

/* -- The image ---------------------------------------------------------------------------- */

static int check_qcow2(struct node *file, struct err *err)
{
	char base[1024], format[16];
	int rc = qcow2_backing(file, base, format, err);

	if (rc == 0 && base[0]) {
		err_printable(base);
		return err_set(err, EINVAL, "it is only the changes to another image, '%.100s'", base);
	}
	return rc;
}

/* What it is: a boot sector, or qcow2. */
static int check_image(int fd, enum disk_format *format, struct err *err)
{
	uint8_t sector[512] = {0};
	struct node *file;
	int own, rc;

	if (pread(fd, sector, sizeof(sector), 0) < 0)
		return err_sys(err, errno, "the image");
	*format = memcmp(sector, "QFI\xfb", 4) == 0 ? DISK_QCOW2 : DISK_RAW;
	if (*format == DISK_RAW && (sector[510] != 0x55 || sector[511] != 0xaa))
		return err_set(err, EINVAL, "it is no disk image: neither qcow2, nor with a boot sector");
	if (*format == DISK_RAW)
		return 0;
	own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (own < 0)
		return err_sys(err, errno, "the image");
	rc = file_node(&file, own, 0, NULL, err);
	if (rc < 0)
		return rc;
	rc = check_qcow2(file, err);
	node_close(file);
	return rc;
}

/* Its name ends as its format wants it, and no other image has it. */
static int publish(struct newfile *file, const char *dir, const struct pull *p, struct err *err)
{
	char other[PATH_MAX + NAME_MAX];
	enum disk_format format = DISK_RAW;
	int rc = check_image(file->fd, &format, err);

	if (rc < 0)
		return rc;
	snprintf(file->name, sizeof(file->name), "%s%s", p->name, format == DISK_QCOW2 ? ".qcow2" : ".img");
	snprintf(other, sizeof(other), "%s/%s%s", dir, p->name, format == DISK_QCOW2 ? ".img" : ".qcow2");
	rc = newfile_publish(file, err);
	if (rc == 0) {
		unlink(other);
		log_note("image", "'%s' is there: %s/%s", p->name, dir, file->name);
	}
	return rc;
}

/* -- The process ---------------------------------------------------------------------------- */

static void take_redirect(void *ctx, const char *line)
{
	if (strncmp(line, "redirect ", 9) != 0)
		return;
	snprintf(ctx, URL_MAX, "%s", line + 9);
	err_printable(ctx); /* it may be in a sentence; and a URL has nothing else */
}

/* One process for each server. */
static int fetch(const struct pull *p, const struct part *part, int image, int log, struct err *err)
{
	const int files[] = {part->fd, part->validator, image, -1};
	struct progress progress = {.what = p->name};
	char program[PATH_MAX], url[URL_MAX], next[URL_MAX];

	snprintf(url, sizeof(url), "%s", p->url);
	for (unsigned i = 0; i <= REDIRECTS_MAX; i++) {
		const char *const argv[] = {beside_program(program, "lodge-pull"), url, p->sum ? p->sum : "", NULL};
		int rc;

		next[0] = 0;
		rc = child_run(argv, files, log, &progress, take_redirect, next, err);
		if (rc < 0 || !next[0])
			return rc;
		if (strncasecmp(url, "https://", 8) == 0 && strncasecmp(next, "https://", 8) != 0)
			return err_set(err, EIO, "the server leads from https:// to '%.200s', which is not", next);
		strcpy(url, next); /* SAFE: they are of one size */
		if (pull_check(&(struct pull){.url = url}, err) < 0) {
			err->code = EIO; /* whoever asked has typed another one */
			return err_at(err, -EIO, "the server leads elsewhere");
		}
	}
	return err_set(err, EIO, "the server leads to another one more than %d times", REDIRECTS_MAX);
}

static int make(const struct pull *p, const struct part *part, const char *dir, struct err *err)
{
	char path[PATH_MAX + NAME_MAX];
	scoped_fd int log = memfd_create("log", MFD_CLOEXEC);
	struct newfile file;
	int rc;

	if (log < 0)
		return err_sys(err, errno, "a log");
	snprintf(path, sizeof(path), "%s/%s.qcow2", dir, p->name);
	rc = newfile_open(&file, path, err);
	if (rc == 0)
		rc = fetch(p, part, file.fd, log, err);
	if (rc == 0)
		rc = publish(&file, dir, p, err);
	newfile_close(&file);
	return rc;
}

int pull_run(const struct pull *p, struct err *err)
{
	struct part part = {.fd = -1, .validator = -1};
	char dir[PATH_MAX];
	int rc = pull_check(p, err);

	if (rc == 0)
		rc = store_find(dir, err);
	if (rc == 0)
		rc = open_part(&part, p->url, err);
	if (rc == 0)
		rc = make(p, &part, dir, err);
	if (part.fd >= 0 && (rc == 0 || err->code == EINVAL || lseek(part.fd, 0, SEEK_END) == 0)) { /* an interrupted one goes on from here */
		unlink(part.path);
		unlink(part.validator_path);
	}
	if (part.fd >= 0)
		close(part.fd);
	if (part.validator >= 0)
		close(part.validator);
	child_end_likewise();
	return rc < 0 ? err_at(err, rc, "image '%s'", p->name) : 0;
}

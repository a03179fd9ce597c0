/* SPDX-License-Identifier: MIT */
/*
 * Which format an image has is never guessed from its bytes, for a guest may have written them: whoever has a raw
 * disk could write a qcow2 header to it, that names any file of the host behind it, and reset. So the option decides, or else
 * the file's name; and a raw one that begins as qcow2 does is opened only if it is called raw.
 *
 * The same is true of what is behind a qcow2 image. An image is not its user's word: somebody may have given it to
 * him, and it names files. So
 *
 *	- the name is a file's, not a protocol's ("nbd://...") nor a description ("json:..."),
 *	- its format is in the header, too, and is raw or qcow2,
 *	- it is in the directory of the image that was named to us, or below it, when all links are followed: an image
 *	  gives away what lies beside it, but for what is hidden (.ssh), and cannot reach what its user may read elsewhere,
 *	- it is only read, and there are at most 16, each behind the other: so a circle ends.
 *
 * With snapshot=on the image is one of these, and what is written goes to a new one that has no name, in $TMPDIR or /var/tmp
 * (/tmp may be memory). Nothing of it has to outlive us, so its flushes do nothing.
 */
#include "block/image.h"

#include "base/err.h"
#include "base/macros.h"
#include "base/scoped.h"
#include "block/nbd/nbd.h"
#include "block/node.h"
#include "block/qcow2.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BEHIND_MAX 16u

const char *const disk_formats[] = {[DISK_RAW] = "raw", [DISK_QCOW2] = "qcow2"};

/* -- What is behind -------------------------------------------------------------------- */

/* Where a chain of images begins. */
struct chain {
	char dir[PATH_MAX]; /* no link, no last slash */
	unsigned depth, how;
};

static int behind(struct node **node, struct node *file, const char *path, struct chain *chain, struct err *err);

/* `name` is printable here. */
static int check_name(const char *name, const char *format, struct err *err)
{
	if (name[strcspn(name, "/:")] == ':')
		return err_set(err, EPERM, "has '%s' behind it: what is no file is not followed", name);
	if (!format[0])
		return err_set(err, EINVAL, "does not say which format '%s' behind it has: `qemu-img rebase -u -b FILE "
			       "-F FORMAT` says it", name);
	if (strcmp(format, "raw") != 0 && strcmp(format, "qcow2") != 0)
		return err_set(err, ENOTSUP, "has '%s' behind it, which is %s, not raw or qcow2", name, format);
	return 0;
}

/* What it says has a name that an image has led to. */
static int harmless(struct err *err, int rc)
{
	if (err)
		err_harmless(err->text);
	return rc;
}

/* The whole name of a file that is in the chain's directory. */
static int resolve(char real[PATH_MAX], const char *path, const char *name, const char *shown, const struct chain *chain,
		   struct err *err)
{
	const char *slash = strrchr(path, '/');
	scoped_mem char *joined = NULL;
	size_t len = strlen(chain->dir);

	if (asprintf(&joined, "%.*s%s", name[0] == '/' || !slash ? 0 : (int)(slash - path + 1), path, name) < 0) {
		joined = NULL;
		return err_set(err, ENOMEM, "out of memory");
	}
	if (!realpath(joined, real))
		return err_sys(err, errno, "'%s' behind it", shown);
	if (chain->how & IMAGE_ANYWHERE)
		return 0;
	if (strncmp(real, chain->dir, len) != 0 || real[len] != '/' || strstr(real + len, "/."))
		return harmless(err, err_set(err, EPERM, "has '%s' behind it: an image leads only to what is in its directory, "
					     "'%s', or below, and not hidden", real, chain->dir));
	return 0;
}

static int open_behind(struct node **node, const char *real, bool is_qcow2, struct chain *chain, struct err *err)
{
	struct node *file, *next = NULL;
	int fd = file_open(real, true, err), rc;

	if (fd < 0)
		return fd;
	rc = chain->how & IMAGE_UNLOCKED ? 0 : file_lock(fd, F_RDLCK, FILE_ALL, err);
	if (rc < 0) {
		close(fd);
		return rc;
	}
	rc = file_node(&file, fd, FILE_READONLY | (is_qcow2 ? FILE_GROWS : 0), NULL, err);
	if (rc < 0 || !is_qcow2) {
		*node = file;
		return rc;
	}
	rc = behind(&next, file, real, chain, err);
	if (rc < 0) {
		node_close(file);
		return rc;
	}
	return qcow2_open(node, &(struct qcow2_config){.file = file, .backing = next, .readonly = true, .path = real},
			  err);
}

/* NULL if there is nothing behind it. */
static int behind(struct node **node, struct node *file, const char *path, struct chain *chain, struct err *err)
{
	char name[1024], shown[1024], format[16], real[PATH_MAX];
	unsigned depth;
	int rc = qcow2_backing(file, name, format, err);

	*node = NULL;
	if (rc < 0 || !name[0])
		return rc;
	if (++chain->depth > BEHIND_MAX)
		return err_set(err, ELOOP, "has more than %u images behind it", BEHIND_MAX);
	strcpy(shown, name); /* SAFE: as long */
	err_printable(shown);
	if ((rc = check_name(shown, format, err)) < 0 || (rc = resolve(real, path, name, shown, chain, err)) < 0)
		return rc;
	depth = chain->depth;
	rc = open_behind(node, real, format[0] == 'q', chain, err);
	return rc < 0 && chain->depth == depth ? harmless(err, err_at(err, rc, "'%s' behind it", real)) : rc; /* the last one says it */
}

/* -- The image itself ------------------------------------------------------------------ */

static int start_chain(struct chain *chain, const char *path, unsigned how, struct err *err)
{
	char *slash;

	*chain = (struct chain){.how = how};
	if (!realpath(path, chain->dir))
		return err_sys(err, errno, "cannot find out where it is");
	slash = strrchr(chain->dir, '/');
	*slash = 0;
	return 0;
}

/* Who has only a descriptor can open nothing beside it. */
static int check_alone(struct node *file, struct err *err)
{
	char name[1024], format[16];
	int rc = qcow2_backing(file, name, format, err);

	return rc == 0 && name[0] ? err_set(err, ENOTSUP, "has another image behind it, which a guest that runs cannot open") : rc;
}

static int open_qcow2(struct image *image, int fd, const struct disk_config *config, unsigned how, bool readonly, struct err *err)
{
	struct node *file, *next = NULL;
	struct chain chain;
	int rc = file_node(&file, fd, FILE_GROWS | (readonly ? FILE_READONLY : 0), &image->block, err);

	if (rc < 0)
		return rc;
	chain.depth = 0;
	rc = config->fd > 0 ? check_alone(file, err) : start_chain(&chain, config->path, how, err);
	if (rc == 0 && config->fd <= 0 && !(how & IMAGE_BARE))
		rc = behind(&next, file, config->path, &chain, err);
	if (rc < 0) {
		node_close(file);
		return rc;
	}
	image->images = 1 + chain.depth;
	return qcow2_open(&image->node, &(struct qcow2_config){.file = file, .backing = next, .readonly = readonly,
							       .path = config->path, .unchecked = how & IMAGE_UNCHECKED,
							       .snapshot = config->snapshot}, err);
}

static int check_raw(const struct node *n, bool is_said, bool is_qcow2, struct err *err)
{
	if (n->size == 0)
		return err_set(err, EINVAL, "is empty");
	if (is_qcow2 && !is_said)
		return err_set(err, EINVAL, "begins as a qcow2 image does, and its name does not say that it is one: it "
			       "needs format=qcow2, or format=raw");
	if (n->size % DISK_SECTOR)
		return err_set(err, EINVAL, "has %llu bytes, not a multiple of %u", (unsigned long long)n->size,
			       DISK_SECTOR);
	return 0;
}

static int open_raw(struct image *image, int fd, unsigned how, bool readonly, bool is_said, struct err *err)
{
	int rc = file_node(&image->node, fd, (readonly ? FILE_READONLY : 0) | (how & IMAGE_ODD ? FILE_GROWS : 0), &image->block,
			   err);

	image->images = 1;
	if (rc == 0 && !(how & IMAGE_ODD))
		rc = check_raw(image->node, is_said, image->node->size >= 4 && qcow2_is(image->node), err);
	if (rc < 0) {
		node_close(image->node);
		image->node = NULL;
	}
	return rc;
}

/* What is open already is a file, whatever somebody calls it. */
static bool is_remote(const struct disk_config *config)
{
	return config->fd <= 0 && nbd_is_uri(config->path);
}

static enum disk_format format_of(const struct disk_config *config)
{
	const char *end = strrchr(config->path, '.');

	if (config->format != DISK_BY_NAME)
		return config->format;
	if (is_remote(config))
		return DISK_RAW;
	return end && strcmp(end, ".qcow2") == 0 ? DISK_QCOW2 : DISK_RAW;
}

/* A device that another computer has written: what is cached of it here is old. */
static void forget_cached(int fd)
{
	struct stat st;

	if (fstat(fd, &st) == 0 && S_ISBLK(st.st_mode))
		posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
}

/* -- Writes that are thrown away ------------------------------------------------------- */

static int open_nameless(struct err *err)
{
	const char *dir = getenv("TMPDIR");
	char name[PATH_MAX];
	int fd;

	if (!dir || !dir[0])
		dir = "/var/tmp";
	fd = open(dir, O_TMPFILE | O_RDWR | O_EXCL | O_CLOEXEC, 0600);
	if (fd >= 0)
		return fd;
	snprintf(name, sizeof(name), "%s/lodge-XXXXXX", dir); /* a file system without such files */
	fd = mkostemp(name, O_CLOEXEC);
	if (fd < 0)
		return err_sys(err, errno, "a file in '%s' for what is written to it (TMPDIR names another place)", dir);
	unlink(name);
	return fd;
}

/* Layers of a disk that was forked, each on the one before. */
static int put_layer(struct node **base, const struct disk_layer *l, const char *path, struct err *err)
{
	struct node *file, *below = *base;
	int fd = fcntl(l->fd, F_DUPFD_CLOEXEC, 0), rc;

	*base = NULL;
	rc = fd < 0 ? err_sys(err, errno, "a descriptor") : file_node(&file, fd, FILE_GROWS | FILE_READONLY, NULL, err);
	if (rc < 0) {
		node_close(below);
		return rc;
	}
	return qcow2_open(base, &(struct qcow2_config){.file = file, .backing = below, .readonly = true, .path = path,
						       .tree = {l->l1_at, l->l1_n}}, err);
}

static int behind_file(struct image *image, int shared, const char *path, struct err *err)
{
	struct chain chain;
	struct node *file;
	int fd = fcntl(shared, F_DUPFD_CLOEXEC, 0);
	int rc = fd < 0 ? err_sys(err, errno, "a descriptor") : file_node(&file, fd, FILE_GROWS | FILE_READONLY, NULL, err);

	if (rc < 0)
		return rc;
	rc = start_chain(&chain, path, 0, err);
	if (rc == 0)
		rc = behind(&image->node, file, path, &chain, err);
	image->images = chain.depth;
	node_close(file);
	return rc;
}

static int put_layers(struct image *image, const struct disk_config *config, struct err *err)
{
	const struct disk_base *b = config->base;
	int rc = 0;

	if (b->of_file) {
		image->fd = b->layer[0].fd;
		image->format = DISK_QCOW2;
		image->block = 4096;
		rc = behind_file(image, b->layer[0].fd, config->path, err);
	}
	for (unsigned i = 0; rc == 0 && i < b->n; i++)
		rc = put_layer(&image->node, &b->layer[i], config->path, err);
	image->images += b->n;
	return rc;
}

static int throw_away(struct image *image, const char *path, struct err *err)
{
	struct qcow2_new new = QCOW2_NEW(image->node->size);
	struct node *file, *base = image->node;
	int fd = open_nameless(err), rc;

	image->node = NULL;
	image->written = fd;
	image->images++;
	rc = fd < 0 ? fd : file_node(&file, fd, FILE_GROWS | FILE_VOLATILE, NULL, err);
	if (rc < 0) {
		node_close(base);
		return rc;
	}
	rc = qcow2_create(file, &new, err);
	if (rc < 0) {
		node_close(file);
		node_close(base);
		return rc;
	}
	return qcow2_open(&image->node, &(struct qcow2_config){.file = file, .backing = base, .path = path}, err);
}

static int open_copy(int fd, struct err *err)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);

	return copy < 0 ? err_sys(err, errno, "a descriptor") : copy;
}

static int open_file(struct image *image, const struct disk_config *config, enum file_part part, unsigned how, struct err *err)
{
	bool readonly = config->readonly || config->throw_away;
	scoped_fd int fd = config->fd > 0 ? open_copy(config->fd, err) : file_open(config->path, readonly, err);
	int rc = fd < 0 ? fd : how & IMAGE_UNLOCKED ? 0 : file_lock(fd, readonly ? F_RDLCK : F_WRLCK, readonly ? FILE_ALL : part, err);

	if (rc < 0)
		return rc;
	image->fd = fd;
	if (config->handed_over)
		forget_cached(fd);
	if (image->format == DISK_QCOW2 && !readonly)
		image->written = fd;
	if (image->format == DISK_QCOW2)
		return open_qcow2(image, keep_fd(&fd), config, how, readonly, err);
	return open_raw(image, keep_fd(&fd), how, readonly, config->format == DISK_RAW, err);
}

/* Its format is its server's affair. There is no lock: who may write is, too. */
static int open_server(struct image *image, const struct disk_config *config, unsigned how, struct err *err)
{
	int rc = 0;

	if (image->format != DISK_RAW)
		return err_set(err, ENOTSUP, "is on a server, which makes bytes of an image: format=%s cannot be", disk_formats[image->format]);
	rc = nbd_open(&image->node, config->path, config->readonly || config->throw_away, &image->block, err);
	image->images = 1;
	if (rc == 0 && !(how & IMAGE_ODD))
		rc = check_raw(image->node, true, false, err);
	if (rc < 0) {
		node_close(image->node);
		image->node = NULL;
	}
	return rc;
}

int image_open(struct image *image, const struct disk_config *config, enum file_part part, unsigned how, struct err *err)
{
	int rc = 0;

	*image = (struct image){.fd = -1, .written = -1, .format = format_of(config)};
	if (is_remote(config))
		rc = open_server(image, config, how, err);
	else if (!config->base || !config->base->of_file)
		rc = open_file(image, config, part, how, err);
	if (rc == 0 && config->base)
		rc = put_layers(image, config, err);
	return rc == 0 && config->throw_away ? throw_away(image, config->path, err) : rc;
}

/* -- What is behind, without opening it ------------------------------------------------ */

int image_may_have_behind(const char *path, const char *name, const char *format, unsigned how, char real[], struct err *err)
{
	char shown[1024];
	struct chain chain;
	int rc = start_chain(&chain, path, how, err);

	snprintf(shown, sizeof(shown), "%s", name);
	err_printable(shown);
	if (rc == 0)
		rc = check_name(shown, format, err);
	return rc < 0 ? rc : resolve(real, path, name, shown, &chain, err);
}

int image_behind(const char *path, unsigned how, char real[], enum disk_format *format, struct err *err)
{
	char name[1024], said[16];
	struct node *file;
	int fd = file_open(path, true, err), rc;

	if (fd < 0 || (rc = file_node(&file, fd, FILE_READONLY | FILE_GROWS, NULL, err)) < 0)
		return fd < 0 ? fd : rc;
	rc = qcow2_backing(file, name, said, err);
	node_close(file);
	real[0] = 0;
	if (rc < 0 || !name[0])
		return rc;
	*format = said[0] == 'q' ? DISK_QCOW2 : DISK_RAW;
	return image_may_have_behind(path, name, said, how, real, err);
}

/* SPDX-License-Identifier: MIT */
/* lodge-img dd: copies a part of a disk into a new image, with the words of dd(1). */
#include "prog/lodge-img/img.h"

#include "base/err.h"
#include "base/macros.h"
#include "block/node.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define WORDS_MAX 5u

struct dd {
	const char *words[WORDS_MAX];
	const char *format, *to_format;
	bool shares, follow;
};

static const struct option options[] = {
	{"-f", "FORMAT", "of what is read: raw or qcow2 (default: see below)", OPTION_TEXT, offsetof(struct dd, format), 0, 0, NULL},
	{"-O", "FORMAT", "of what is made: raw (default) or qcow2", OPTION_TEXT, offsetof(struct dd, to_format), 0, 0, NULL},
	OPTION_FOLLOW(offsetof(struct dd, follow)),
	OPTION_SHARE(offsetof(struct dd, shares)),
	{0},
};

static const char *const words[] = {"if", "of", "bs", "count", "skip"};

enum { IF, OF, BS, COUNT, SKIP, N_WORDS };

static int sort_words(const struct dd *d, const char *value[N_WORDS], struct err *err)
{
	for (unsigned i = 0; i < WORDS_MAX && d->words[i]; i++) {
		const char *equals = strchr(d->words[i], '=');
		unsigned w = 0;

		while (w < N_WORDS && !(equals && strncmp(words[w], d->words[i], (size_t)(equals - d->words[i])) == 0 &&
					!words[w][equals - d->words[i]]))
			w++;
		if (w == N_WORDS)
			return err_set(err, EINVAL, "'%s' is none of if=, of=, bs=, count= and skip=", d->words[i]);
		value[w] = equals + 1;
	}
	if (!value[IF] || !value[OF])
		return err_set(err, EINVAL, "if=FILE and of=FILE are needed");
	return 0;
}

/* What is copied, of a disk of so many bytes. */
static int find_part(const char *value[N_WORDS], uint64_t size, uint64_t *at, uint64_t *len, struct err *err)
{
	uint64_t block = 512, count = UINT64_MAX, skip = 0;
	int rc = value[BS] ? img_number(&block, value[BS], "bs", err) : 0;

	if (rc == 0 && (block == 0 || block > INT32_MAX))
		rc = err_set(err, EINVAL, "bs is 1 to %d bytes, not '%s'", INT32_MAX, value[BS]);
	if (rc == 0 && value[COUNT])
		rc = img_number(&count, value[COUNT], "count", err);
	if (rc == 0 && value[SKIP])
		rc = img_number(&skip, value[SKIP], "skip", err);
	if (rc < 0)
		return rc;
	*at = skip > size / block ? size : skip * block;
	*len = size - *at;
	if (count <= *len / block)
		*len = count * block;
	return 0;
}

static int copy(const struct dd *d, const char *to, struct image *from, uint64_t at, uint64_t len, struct err *err)
{
	enum disk_format format = DISK_RAW;
	struct copy c = {.from = from->node, .from_at = at, .size = len, .grain = 4096, .threads = 1};
	struct new_image n;
	struct image image;
	int rc = d->to_format ? img_format(&format, d->to_format, err) : 0;

	if (rc < 0)
		return rc;
	new_image_init(&n, to, format);
	n.size = len;
	n.has_size = true;
	rc = new_image_write(&n, err);
	if (rc == 0)
		rc = img_open(&image, &(struct want){.path = to, .format = disk_formats[format], .writes = true}, err);
	if (rc < 0)
		return rc;
	c.to = image.node;
	c.to_is_zero = new_image_is_zero(&image);
	rc = img_copy(&c, err);
	if (rc < 0) {
		node_close(image.node);
		return err_at(err, rc, "'%s'", to);
	}
	return img_close(&image, to, true, err);
}

static int dd_main(void *parsed)
{
	const struct dd *d = parsed;
	const char *value[N_WORDS] = {NULL};
	struct image from = {.fd = -1};
	struct err err = {0};
	uint64_t at, len;
	int rc = sort_words(d, value, &err);

	if (rc == 0)
		rc = img_open(&from, &(struct want){.path = value[IF], .format = d->format, .how = img_how(d->shares, d->follow)}, &err);
	if (rc == 0)
		rc = find_part(value, img_size(&from), &at, &len, &err);
	if (rc == 0)
		rc = copy(d, value[OF], &from, at, len, &err);
	node_close(from.node);
	return rc < 0 ? img_fail(&err) : EXIT_OK;
}

const struct verb verb_dd = {
	.name = "dd",
	.summary = "copies a part of a disk into a new image, with the words of dd",
	.text = "if=FILE is read, of=FILE is made; bs=SIZE is a block (default: 512), of which skip=N are left out and count=N\n"
		"are copied (default: all).\n" FORMAT_TEXT,
	.operand = "if=FILE of=FILE [bs=SIZE] [count=N] [skip=N]",
	.n_operands = WORDS_MAX,
	.options = options,
	.size = sizeof(struct dd),
	.main = dd_main,
};

/* SPDX-License-Identifier: MIT */
/*
 * lodge-img: what its verbs share. Verbs and options are tables as lodge's are (lodge/lodge.h).
 */
#ifndef LODGE_IMG_IMG_H
#define LODGE_IMG_IMG_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "block/image.h"
#include "prog/lodge/lodge.h"

struct err;
struct node;
struct qcow2_new;

extern const struct verb verb_bench, verb_check, verb_commit, verb_compare, verb_convert, verb_create, verb_dd,
	verb_map, verb_measure, verb_rebase, verb_resize;

/* One sentence on stderr, behind "lodge-img: ". Returns EXIT_FAILED. */
int img_fail(const struct err *err);

/* Sets a const char * to a word for a cache mode: none, writeback, writethrough, directsync or unsafe. */
int img_set_cache(void *into, char *value, struct err *err);

/* -- Rows that many tables of options have ------------------------------------------- */

#define OPTION_FORMAT(member) {"-f", "FORMAT", "of the image: raw or qcow2 (default: see below)", OPTION_TEXT, member, 0, 0, NULL}
#define OPTION_SHARE(member)                                                                                   \
	{"-U", NULL, "takes no locks: somebody may write it meanwhile", OPTION_FLAG, member, 0, 0, NULL},     \
	{"--force-share", NULL, "the same", OPTION_FLAG, member, 0, 0, NULL}
#define OPTION_FOLLOW(member) {"--follow", NULL, "what is behind an image may be in any directory", OPTION_FLAG, member, 0, 0, NULL}
#define OPTION_QUIET(member) {"-q", NULL, "says nothing but errors", OPTION_FLAG, member, 0, 0, NULL}
#define OPTION_PROGRESS(member) {"-p", NULL, "shows how far it is", OPTION_FLAG, member, 0, 0, NULL}
#define OPTION_OUTPUT(member) {"--output", "human|json", "for people, or for programs (default: human)", OPTION_WORD, member, 0, 0, NULL}
#define OPTION_CACHE(member) {"-t", "CACHE", "writeback (default), or unsafe: does not wait until it is on the disk", OPTION_OTHER, member, 0, 0, img_set_cache}
#define OPTION_SOURCE_CACHE(member) {"-T", "CACHE", "the same words for what is read: they change nothing", OPTION_OTHER, member, 0, 0, img_set_cache}

#define FORMAT_TEXT                                                                                            \
	"Without -f the format is what the file begins as; but one that is called other than .qcow2, is qcow2\n" \
	"and has an image behind it needs -f: a guest may have written that to its raw disk.\n"

/* -- open.c -------------------------------------------------------------------------- */

struct want {
	const char *path, *format; /* format: NULL to find out */
	const char *snapshot;      /* as -l says it: NAME, snapshot.name=NAME or snapshot.id=ID; NULL: none */
	bool writes;
	unsigned how; /* IMAGE_... (block/image.h); IMAGE_ODD goes without saying */
};

/* Flags of two options that many verbs have. */
unsigned img_how(bool shares, bool follows);

/* Opens it. img_close() makes it lasting if it was written. */
int img_open(struct image *image, const struct want *want, struct err *err);
int img_close(struct image *image, const char *path, bool flush, struct err *err);

/* What is behind a qcow2 image, if we would open it: its name, beginning where `path` does, and format. "": nothing is. */
int img_behind(const char *path, unsigned how, char name[PATH_MAX], enum disk_format *format, struct err *err);

/* The name of what is behind an image, from where we are. */
void img_join(char joined[PATH_MAX], const char *path, const char *name);

/* The format that a word means. */
int img_format(enum disk_format *format, const char *word, struct err *err);

/* The disk's size: a raw file's, up to a whole sector. */
uint64_t img_size(const struct image *image);

/* -- number.c ------------------------------------------------------------------------ */

/* A size as qemu-img takes it: bytes without a unit, or with k, M, G, T, P or E, and a fraction of those. */
int img_number(uint64_t *n, const char *text, const char *what, struct err *err);

/* The same for people, in the largest unit: "1.5 GiB". */
const char *img_size_text(char text[32], uint64_t bytes);

/* -- newimage.c ---------------------------------------------------------------------- */

enum img_room { ROOM_OFF, ROOM_METADATA, ROOM_FALLOC, ROOM_FULL };

struct new_image {
	const char *path;
	enum disk_format format;
	uint64_t size;      /* 0: not said */
	bool has_size;
	unsigned version, cluster_bits, order; /* qcow2's, as the rest is */
	bool lazy, zstd;
	enum img_room room;
	char *backing, *backing_format; /* NULL: none */
	bool unsafe; /* what is behind it is not looked at */
	unsigned how;
};

/* The defaults of a format. */
void new_image_init(struct new_image *n, const char *path, enum disk_format format);
void new_image_fini(struct new_image *n);

/* -o: "cluster_size=64k,compat=1.1". Returns 1 if it asked for help, which is given. */
int new_image_options(struct new_image *n, const char *text, struct err *err);

/* Makes the file. Without a size it has that of what is behind it. */
int new_image_write(struct new_image *n, struct err *err);

/* Whether one that was just made reads as zeros: a block device may not. */
bool new_image_is_zero(const struct image *image);

/* -- progress.c ---------------------------------------------------------------------- */

/* "    (12.34/100%)", on one line; nothing if it is not on. */
void img_progress(bool on, uint64_t done, uint64_t all);
void img_progress_end(bool on);

/* -- copy.c -------------------------------------------------------------------------- */

struct copy {
	struct node *from, *to;
	uint64_t size;       /* bytes to copy, to the beginning */
	uint64_t from_at;
	uint64_t grain;      /* zeros of so many bytes, aligned, are not written; 0: all are */
	bool to_is_zero;     /* what is not written is zeros there already */
	bool only_here;      /* what is behind `from` is left out */
	bool packs;          /* qcow2: compressed */
	uint64_t cluster;    /* of `to`, if it packs */
	bool any_order;
	unsigned threads;
	bool progress;
};

/* All of it, or the first error. */
int img_copy(struct copy *c, struct err *err);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * An image's file: opened, looked at, locked; and as a node, whose bytes are the file's.
 *
 *	scoped_fd int fd = file_open("root.img", readonly, &err);
 *
 *	rc = file_lock(fd, F_WRLCK, FILE_ALL, &err);
 *	rc = file_node(&node, keep_fd(&fd), 0, &err);
 *
 * lib/block's own, and for who makes an image.
 */
#ifndef BLOCK_FILE_H
#define BLOCK_FILE_H

#include <stdbool.h>
#include <stdint.h>

struct err;
struct node;

/* Parts of the lock on an image; disk.c says what they are for. */
enum file_part { FILE_ALL, FILE_FIRST, FILE_REST };

/* Behind them is a byte for each fork that reads a snapshot of the image (disk.c). */
#define FILE_SLOTS (INT64_C(1) << 62)

/* A descriptor, or -errno. Nothing is looked at yet. */
int file_open(const char *path, bool readonly, struct err *err);

/* Takes a part of the lock (F_RDLCK, F_WRLCK), whatever of it we have, or gives it up (F_UNLCK). -EBUSY: somebody
 * else has it. */
int file_lock(int fd, short type, enum file_part part, struct err *err);

/* The same with a fork's byte. -EBUSY, without a word. */
int file_lock_slot(int fd, short type, unsigned slot);

/* Whether another descriptor has that. */
bool file_slot_is_taken(int fd, unsigned slot);

/* The same file, open once more, to be read: with locks of its own. A descriptor or -errno. */
int file_open_again(int fd);

enum {
	FILE_READONLY = 1,
	FILE_GROWS = 2,    /* writes make it longer, and what is behind its end reads as zeros */
	FILE_VOLATILE = 4, /* it need not outlive us: a flush does nothing */
};

/* The descriptor is taken over, whatever comes. `block`: preferred I/O size, 512 to 64 KiB; NULL is fine. */
int file_node(struct node **node, int fd, unsigned flags, uint32_t *block, struct err *err);

#endif

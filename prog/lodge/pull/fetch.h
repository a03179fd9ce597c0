/* SPDX-License-Identifier: MIT */
/* lodge-pull's two halves: bytes from a server into a file, and from that file an image. */
#ifndef LODGE_PULL_FETCH_H
#define LODGE_PULL_FETCH_H

#include <stdint.h>

struct err;

/* How far it is, for lodge. */
void fetch_say(unsigned percent, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Whether so much more fits onto the file system of a file, and leaves something for others: -ENOSPC. */
int fetch_room(int fd, uint64_t bytes, struct err *err);

/* Goes on where PULL_PART ends, if the server still has what that is of, or from the beginning. 0; 1: it leads elsewhere, which was said; or -errno.
 * Calls shut_in() before the first byte of the server's is read. */
int fetch(const char *url, void (*shut_in)(void), struct err *err);

/* -EIO if that is not the sum of PULL_PART. */
int fetch_check(const char *sum, struct err *err);

/* Writes PULL_IMAGE: what PULL_PART has, unpacked if it is gz, xz or zstd; zeros are holes. */
int unpack(struct err *err);

#endif

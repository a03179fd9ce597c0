/* SPDX-License-Identifier: MIT */
/*
 * Files that clients have sent, as images of disks and CDs: which of them may become one.
 *
 * A lock is its open file's: two disks on one descriptor, or on two that came of one, would share it, and who goes first would take it along.
 * So of the guest's images no two are one file, if one of them is written or both have come.
 */
#ifndef QMP_IMAGES_H
#define QMP_IMAGES_H

#include <stdbool.h>

struct call;
struct err;
struct qmp_file;

/* The file that a client has as "/dev/fdset/1", for a disk; NULL and err: there is none, or it cannot be a disk. For a CD, which is only read
 * and takes the place of another, other CDs do not matter. */
const struct qmp_file *image_for_disk(struct call *c, const char *filename, bool readonly, struct err *err);
const struct qmp_file *image_for_cd(struct call *c, const char *filename, struct err *err);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * lodge-share: a directory of this computer, for a guest. The device (lib/dev/virtio/fs.c) passes
 * on what the guest's driver says, messages of FUSE; here they are read, and what they ask for is
 * done with the rights of who has started lodge. docs/why/share.md has the reasons.
 *
 * What is said is hostile. A message is bounded (fs_link.h), each field is checked before it is
 * used, and numbers of files and handles are looked up. Names lead nowhere but into the directory:
 * nodes.h.
 *
 * What a guest cannot make here: devices, pipes, sockets, files that run with their owner's rights
 * (set-user-ID). What it cannot change: whose a file is.
 */
#ifndef SHARE_SHARE_H
#define SHARE_SHARE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct share;

/* Of a directory that is open, O_PATH. `descriptors`: how many it may have open beside it. NULL: no memory. */
struct share *share_create(int root, bool readonly, unsigned descriptors);
void share_destroy(struct share *s);

/* Does what a message of `len` bytes asks for. Returns how long the answer is: at most `room`, of which there are FS_ROOM_MIN. */
size_t share_request(struct share *s, const uint8_t *message, size_t len, uint8_t *answer, size_t room);

/* What the session is, into at most `room` bytes: returns how many. What there is no room for is as if it had been removed. */
size_t share_save(struct share *s, uint8_t *bytes, size_t room);

/* Goes on from there. -EINVAL: that is no session; then there is none. What is not there any more is -ESTALE when it is used. */
int share_load(struct share *s, const uint8_t *bytes, size_t len);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * What the virtio file system and the process that has the files (prog/lodge/share) say to each
 * other, on a stream socket.
 *
 *	to it    len (4)  cookie (4)  room (4)   len bytes of a request      host's byte order: both are of one computer
 *	back     len (4)  cookie (4)  0          len bytes of the answer
 *
 * A request is what the driver wrote, a message of FUSE; its answer has at most `room` bytes. To
 * each request there is one answer, in the order in which they came, but none to one whose room is
 * less than FS_ROOM_MIN. The cookie is the device's, and comes back.
 *
 * Two cookies are no requests of the driver's: FS_SAVE asks for what the session is, at most `room`
 * bytes that mean something only to such a process, and FS_LOAD gives one that; its answer is
 * empty, or a sentence about what was wrong.
 */
#ifndef DEV_VIRTIO_FS_LINK_H
#define DEV_VIRTIO_FS_LINK_H

#include <stdint.h>

struct fs_head {
	uint32_t len, cookie, room;
};

#define FS_SAVE UINT32_MAX
#define FS_LOAD (UINT32_MAX - 1)

#define FS_ROOM_MIN    16u                 /* a header of FUSE's answers */
#define FS_DATA_MAX    (256u << 10)        /* of one read or write */
#define FS_MESSAGE_MAX (FS_DATA_MAX + 4096u)
#define FS_SESSION_MAX (4u << 20)
#define FS_TAG_MAX     36u

#endif

/* SPDX-License-Identifier: MIT */
/*
 * The names of the Network Block Device protocol: doc/proto.md of the NBD project, "fixed newstyle" negotiation. All numbers on
 * the wire are big-endian.
 *
 *	server  MAGIC OPTION_MAGIC flags
 *	client  flags
 *	client  OPTION_MAGIC option length data        server  OPTION_ANSWER option type length data, ...
 *	...                                            until GO is answered by ACK, or after EXPORT_NAME
 *	client  REQUEST flags type cookie offset length [data]
 *	server  SIMPLE error cookie [data]      or     CHUNK flags type cookie length data
 */
#ifndef BLOCK_NBD_PROTOCOL_H
#define BLOCK_NBD_PROTOCOL_H

#define NBD_MAGIC         0x4e42444d41474943ull
#define NBD_OPTION_MAGIC  0x49484156454f5054ull
#define NBD_OPTION_ANSWER 0x0003e889045565a9ull
#define NBD_REQUEST       0x25609513u
#define NBD_SIMPLE        0x67446698u
#define NBD_CHUNK         0x668e33efu

#define NBD_REQUEST_LEN 28u
#define NBD_LENGTH_MAX  (32u << 20) /* of a request: what every client may count on */
#define NBD_STRING_MAX  4096u

enum { NBD_FIXED_NEWSTYLE = 1, NBD_NO_ZEROES = 2 }; /* both sides' flags */

enum nbd_option {
	NBD_OPT_EXPORT_NAME = 1,
	NBD_OPT_ABORT,
	NBD_OPT_LIST,
	NBD_OPT_INFO = 6,
	NBD_OPT_GO,
	NBD_OPT_STRUCTURED_REPLY,
	NBD_OPT_LIST_META_CONTEXT,
	NBD_OPT_SET_META_CONTEXT,
};

enum nbd_option_answer {
	NBD_REP_ACK = 1,
	NBD_REP_SERVER,
	NBD_REP_INFO,
	NBD_REP_META_CONTEXT,
	NBD_REP_ERR_UNSUP = (int)0x80000001,
	NBD_REP_ERR_INVALID = (int)0x80000003,
	NBD_REP_ERR_UNKNOWN = (int)0x80000006,
	NBD_REP_ERR_TOO_BIG = (int)0x80000009,
};

enum nbd_info { NBD_INFO_EXPORT, NBD_INFO_NAME, NBD_INFO_DESCRIPTION, NBD_INFO_BLOCK_SIZE };

/* What an export can do. */
enum {
	NBD_HAS_FLAGS = 1,
	NBD_READ_ONLY = 2,
	NBD_SEND_FLUSH = 4,
	NBD_SEND_FUA = 8,
	NBD_SEND_TRIM = 0x20,
	NBD_SEND_WRITE_ZEROES = 0x40,
	NBD_SEND_DF = 0x80,
	NBD_CAN_MULTI_CONN = 0x100,
};

enum nbd_command {
	NBD_CMD_READ,
	NBD_CMD_WRITE,
	NBD_CMD_DISC,
	NBD_CMD_FLUSH,
	NBD_CMD_TRIM,
	NBD_CMD_CACHE,
	NBD_CMD_WRITE_ZEROES,
	NBD_CMD_BLOCK_STATUS,
	NBD_COMMANDS
};

enum { NBD_CMD_FUA = 1, NBD_CMD_NO_HOLE = 2, NBD_CMD_DF = 4, NBD_CMD_REQ_ONE = 8 };

enum nbd_chunk {
	NBD_CHUNK_DONE = 1, /* the only flag */
	NBD_CHUNK_NONE = 0,
	NBD_CHUNK_DATA,
	NBD_CHUNK_HOLE,
	NBD_CHUNK_STATUS = 5,
	NBD_CHUNK_ERROR = 0x8001,
};

/* base:allocation */
enum { NBD_STATE_HOLE = 1, NBD_STATE_ZERO = 2 };

/* Errors, whatever numbers the host's errno has. */
enum { NBD_EPERM = 1, NBD_EIO = 5, NBD_ENOMEM = 12, NBD_EINVAL = 22, NBD_ENOSPC = 28, NBD_EOVERFLOW = 75, NBD_ENOTSUP = 95 };

#endif

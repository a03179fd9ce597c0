/* SPDX-License-Identifier: MIT */
/*
 * FUSE's messages: <linux/fuse.h>, version 7.31 of the protocol, as virtio 1.2, section 5.11 has it.
 *
 * A row of the table for each message that is understood: how long it is at least, what follows (a
 * name, two), whether it changes something, and the function for it, which puts its answer behind
 * the header and returns its length, or -errno. Messages that are in no row are answered with
 * ENOSYS, from which Linux learns not to ask again: extended attributes, locks (they are the
 * guest's own then), ioctl.
 *
 * Nothing may be remembered: entries and attributes are valid for no time, so that what is changed
 * here is seen there with the next look at it.
 *
 * Files are opened with O_NOFOLLOW and O_NONBLOCK, only regular ones, and when one is open it is
 * looked whether it is the one that was meant: between the look at a name and its opening somebody
 * else can put something there, another guest perhaps. So nothing is done to a file by its name
 * that could follow a symbolic link: a mode is set by fchmod().
 */
#include "request.h"

#include "base/bytes.h"
#include "base/macros.h"
#include "dev/virtio/fs_link.h"

#include <stdlib.h>
#include <string.h>
#include <sys/statfs.h>

#define OLDEST_MINOR 27u
#define OUR_MINOR    31u

/* -- Messages: the session ----------------------------------------------------------------- */

static int do_init(struct request *r)
{
	struct fuse_init_in in = {0};
	struct fuse_init_out out = {.major = FUSE_KERNEL_VERSION, .minor = OUR_MINOR};

	memcpy(&in, r->body, r->len < sizeof(in) ? r->len : sizeof(in));
	if (r->room < sizeof(out))
		return -EINVAL;
	share_clear(r->s);
	if (in.major < FUSE_KERNEL_VERSION || (in.major == FUSE_KERNEL_VERSION && in.minor < OLDEST_MINOR))
		return -EPROTO;
	r->s->begun = in.major == FUSE_KERNEL_VERSION; /* of a later one the driver asks again for ours */
	out.max_readahead = in.max_readahead;
	out.flags = in.flags & (FUSE_ASYNC_READ | FUSE_BIG_WRITES | FUSE_AUTO_INVAL_DATA | FUSE_PARALLEL_DIROPS | FUSE_MAX_PAGES |
				FUSE_ATOMIC_O_TRUNC);
	out.max_background = 64;
	out.congestion_threshold = 48;
	out.max_write = FS_DATA_MAX;
	out.max_pages = FS_DATA_MAX / 4096;
	out.time_gran = 1;
	memcpy(r->answer, &out, sizeof(out));
	return sizeof(out);
}

static int do_destroy(struct request *r)
{
	share_clear(r->s);
	return 0;
}

static int do_forget(struct request *r)
{
	nodes_forget(r->s->nodes, r->node, le64_get(r->body));
	return 0;
}

static int do_batch_forget(struct request *r)
{
	size_t n = le32_get(r->body), room = (r->len - sizeof(struct fuse_batch_forget_in)) / sizeof(struct fuse_forget_one);
	const uint8_t *at = r->body + sizeof(struct fuse_batch_forget_in);

	for (; n && room; n--, room--, at += sizeof(struct fuse_forget_one)) {
		struct node *node = nodes_find(r->s->nodes, le64_get(at));

		if (node)
			nodes_forget(r->s->nodes, node, le64_get(at + 8));
	}
	return 0;
}

static int do_statfs(struct request *r)
{
	struct fuse_statfs_out out = {0};
	struct statfs st;

	if (r->room < sizeof(out))
		return -EINVAL;
	if (fstatfs(r->s->root, &st) < 0)
		return cannot();
	out.st = (struct fuse_kstatfs){
		.blocks = st.f_blocks, .bfree = st.f_bfree, .bavail = st.f_bavail, .files = st.f_files, .ffree = st.f_ffree,
		.bsize = (uint32_t)st.f_bsize, .namelen = 255, .frsize = (uint32_t)st.f_frsize,
	};
	memcpy(r->answer, &out, sizeof(out));
	return sizeof(out);
}

/* -- The table ------------------------------------------------------------------------------ */

enum { CHANGES = 1, ANY_NODE = 2, BEFORE_INIT = 4 };

struct message {
	unsigned opcode;
	int (*serve)(struct request *r);
	size_t len;      /* of its struct */
	unsigned names;  /* that follow */
	unsigned flags;
};

static const struct message messages[] = {
	{FUSE_INIT, do_init, 16, 0, ANY_NODE | BEFORE_INIT},
	{FUSE_DESTROY, do_destroy, 0, 0, ANY_NODE},
	{FUSE_LOOKUP, do_lookup, 0, 1, 0},
	{FUSE_FORGET, do_forget, sizeof(struct fuse_forget_in), 0, 0},
	{FUSE_BATCH_FORGET, do_batch_forget, sizeof(struct fuse_batch_forget_in), 0, ANY_NODE},
	{FUSE_GETATTR, do_getattr, sizeof(struct fuse_getattr_in), 0, 0},
	{FUSE_SETATTR, do_setattr, sizeof(struct fuse_setattr_in), 0, CHANGES},
	{FUSE_READLINK, do_readlink, 0, 0, 0},
	{FUSE_SYMLINK, do_symlink, 0, 2, CHANGES},
	{FUSE_MKNOD, do_mknod, sizeof(struct fuse_mknod_in), 1, CHANGES},
	{FUSE_MKDIR, do_mkdir, sizeof(struct fuse_mkdir_in), 1, CHANGES},
	{FUSE_UNLINK, do_unlink, 0, 1, CHANGES},
	{FUSE_RMDIR, do_rmdir, 0, 1, CHANGES},
	{FUSE_RENAME, do_rename, sizeof(struct fuse_rename_in), 2, CHANGES},
	{FUSE_RENAME2, do_rename2, sizeof(struct fuse_rename2_in), 2, CHANGES},
	{FUSE_LINK, do_link, sizeof(struct fuse_link_in), 1, CHANGES},
	{FUSE_OPEN, do_open, sizeof(struct fuse_open_in), 0, 0},
	{FUSE_CREATE, do_create, sizeof(struct fuse_create_in), 1, CHANGES},
	{FUSE_READ, do_read, sizeof(struct fuse_read_in), 0, 0},
	{FUSE_WRITE, do_write, sizeof(struct fuse_write_in), 0, CHANGES},
	{FUSE_STATFS, do_statfs, 0, 0, 0},
	{FUSE_RELEASE, do_release, sizeof(struct fuse_release_in), 0, 0},
	{FUSE_FSYNC, do_fsync, sizeof(struct fuse_fsync_in), 0, 0},
	{FUSE_FLUSH, do_flush, sizeof(struct fuse_flush_in), 0, 0},
	{FUSE_OPENDIR, do_opendir, sizeof(struct fuse_open_in), 0, 0},
	{FUSE_READDIR, do_readdir, sizeof(struct fuse_read_in), 0, 0},
	{FUSE_RELEASEDIR, do_releasedir, sizeof(struct fuse_release_in), 0, 0},
	{FUSE_FSYNCDIR, do_fsyncdir, sizeof(struct fuse_fsync_in), 0, 0},
	{FUSE_FALLOCATE, do_fallocate, sizeof(struct fuse_fallocate_in), 0, CHANGES},
	{FUSE_LSEEK, do_lseek, sizeof(struct fuse_lseek_in), 0, 0},
	{FUSE_COPY_FILE_RANGE, do_copy, sizeof(struct fuse_copy_file_range_in), 0, CHANGES},
};

static const struct message *find_message(unsigned opcode)
{
	for (unsigned i = 0; i < ARRAY_SIZE(messages); i++)
		if (messages[i].opcode == opcode)
			return &messages[i];
	return NULL;
}

/* The names at the end of a message. Of a symbolic link the second is any text. */
static int take_names(struct request *r, const struct message *m)
{
	const char *at = (const char *)r->body + m->len, *end = (const char *)r->body + r->len;
	const char **into[] = {&r->name, &r->name2};

	for (unsigned i = 0; i < m->names; i++) {
		const char *zero = memchr(at, 0, (size_t)(end - at));

		if (!zero)
			return -EINVAL;
		if (zero - at > 255 && !(m->opcode == FUSE_SYMLINK && i == 1))
			return -ENAMETOOLONG;
		if (!is_name(at) && !(m->opcode == FUSE_SYMLINK && i == 1))
			return -EINVAL;
		*into[i] = at;
		at = zero + 1;
	}
	return 0;
}

static int serve(struct request *r, const struct fuse_in_header *head)
{
	const struct message *m = find_message(head->opcode);
	int rc;

	if (!m)
		return -ENOSYS;
	if (!r->s->begun && !(m->flags & BEFORE_INIT))
		return -EIO;
	if (r->len < m->len)
		return -EINVAL;
	if (r->s->readonly && m->flags & CHANGES)
		return -EROFS;
	r->node = nodes_find(r->s->nodes, head->nodeid);
	if (!r->node && !(m->flags & ANY_NODE))
		return -ESTALE;
	rc = take_names(r, m);
	return rc < 0 ? rc : m->serve(r);
}

size_t share_request(struct share *s, const uint8_t *message, size_t len, uint8_t *answer, size_t room)
{
	struct fuse_in_header head = {0};
	struct fuse_out_header out = {0};
	struct request r = {.s = s, .answer = answer + sizeof(out), .room = room - sizeof(out)};
	int rc = -EINVAL;

	memcpy(&head, message, len < sizeof(head) ? len : sizeof(head));
	if (len >= sizeof(head)) {
		r.body = message + sizeof(head);
		r.len = len - sizeof(head);
		rc = serve(&r, &head);
	}
	out.unique = head.unique;
	out.error = rc < 0 ? rc : 0;
	out.len = (uint32_t)sizeof(out) + (rc > 0 ? (uint32_t)rc : 0);
	memcpy(answer, &out, sizeof(out));
	return out.len;
}

/* -- Life ---------------------------------------------------------------------------------- */

void share_clear(struct share *s)
{
	for (unsigned i = 1; i <= s->n_handles; i++)
		if (s->handles[i].node)
			drop_handle(s, &s->handles[i]);
	nodes_clear(s->nodes);
	s->begun = false;
}

struct share *share_create(int root, bool readonly, unsigned descriptors)
{
	struct share *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->root = root;
	s->readonly = readonly;
	s->n_handles = descriptors / 2 < HANDLES_MAX ? descriptors / 2 : HANDLES_MAX;
	s->nodes = nodes_create(root, descriptors / 4 < 1024 ? descriptors / 4 : 1024);
	if (s->nodes)
		return s;
	free(s);
	return NULL;
}

void share_destroy(struct share *s)
{
	share_clear(s);
	nodes_destroy(s->nodes);
	free(s);
}

/* SPDX-License-Identifier: MIT */
/* Messages about names: they are looked up, made, changed and removed. See requests.c. */
#include "request.h"

#include "base/bytes.h"

#include <fcntl.h>
#include <stdio.h> /* RENAME_EXCHANGE */
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

int do_lookup(struct request *r)
{
	return answer_entry(r, r->name, NULL);
}

int do_readlink(struct request *r)
{
	struct where w;
	int rc = nodes_where(r->s->nodes, r->node, &w);
	ssize_t n;

	if (rc < 0)
		return rc;
	n = readlinkat(w.dir, w.name, (char *)r->answer, r->room);
	return n < 0 ? cannot() : (int)n;
}

int do_symlink(struct request *r)
{
	int dir = nodes_dir(r->s->nodes, r->node);

	if (dir < 0)
		return dir;
	if (symlinkat(r->name2, dir, r->name) < 0)
		return cannot();
	return answer_entry(r, r->name, NULL);
}

/* Regular files alone; bits that would have it run with its owner's rights it does not get. */
int do_mknod(struct request *r)
{
	struct fuse_mknod_in in;
	int dir = nodes_dir(r->s->nodes, r->node), fd;

	memcpy(&in, r->body, sizeof(in));
	if (!S_ISREG(in.mode))
		return -EPERM;
	if (dir < 0)
		return dir;
	fd = openat(dir, r->name, our_flags(O_WRONLY) | O_CREAT | O_EXCL, in.mode & 01777);
	if (fd < 0)
		return cannot();
	close(fd);
	return answer_entry(r, r->name, NULL);
}

int do_mkdir(struct request *r)
{
	struct fuse_mkdir_in in;
	int dir = nodes_dir(r->s->nodes, r->node);

	memcpy(&in, r->body, sizeof(in));
	if (dir < 0)
		return dir;
	if (mkdirat(dir, r->name, in.mode & 01777) < 0)
		return cannot();
	return answer_entry(r, r->name, NULL);
}

static int remove_name(struct request *r, int flags)
{
	int dir = nodes_dir(r->s->nodes, r->node);
	struct statx stx;
	int rc = dir < 0 ? dir : stat_at(dir, r->name, 0, &stx);

	if (rc < 0)
		return rc;
	if (unlinkat(dir, r->name, flags) < 0)
		return cannot();
	nodes_unname(r->s->nodes, r->node, r->name, &stx, flags || stx.stx_nlink < 2);
	return 0;
}

int do_unlink(struct request *r)
{
	return remove_name(r, 0);
}

int do_rmdir(struct request *r)
{
	return remove_name(r, AT_REMOVEDIR);
}

/* A node's directory that stays open whatever else is done: the caller closes it. */
static int hold_dir(struct share *s, uint64_t id)
{
	struct node *n = nodes_find(s->nodes, id);
	int fd = n ? nodes_dir(s->nodes, n) : -ENOENT;

	if (fd < 0)
		return fd;
	fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	return fd < 0 ? cannot() : fd;
}

/* What has a name now is the guest's node of that name, if it knows it. */
static void learn_name(struct share *s, struct node *dir, int fd, const char *name)
{
	struct statx stx;
	struct node *n = stat_at(fd, name, 0, &stx) == 0 ? nodes_get(s->nodes, dir, name, &stx) : NULL;

	if (n)
		nodes_forget(s->nodes, n, 1);
}

static int rename_between(struct request *r, int from, int to, struct node *target, unsigned flags)
{
	struct statx old;
	bool replaces = !(flags & RENAME_EXCHANGE) && stat_at(to, r->name2, 0, &old) == 0;

	if (syscall(SYS_renameat2, from, r->name, to, r->name2, flags) < 0)
		return cannot();
	if (replaces)
		nodes_unname(r->s->nodes, target, r->name2, &old, old.stx_nlink < 2 || S_ISDIR(old.stx_mode));
	learn_name(r->s, target, to, r->name2);
	if (flags & RENAME_EXCHANGE)
		learn_name(r->s, r->node, from, r->name);
	return 0;
}

/* Both nodes are held: a guest may have forgotten a directory, which is then there only for the file in it that goes. */
static int rename_held(struct request *r, int from, int to, struct node *target, unsigned flags)
{
	int rc;

	nodes_hold(r->node);
	nodes_hold(target);
	rc = rename_between(r, from, to, target, flags);
	nodes_release(r->s->nodes, target);
	nodes_release(r->s->nodes, r->node);
	return rc;
}

static int rename_to(struct request *r, uint64_t to, unsigned flags)
{
	int old = hold_dir(r->s, nodes_id(r->s->nodes, r->node)), new = hold_dir(r->s, to), rc;

	if (flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE))
		rc = -EINVAL;
	else if (old < 0 || new < 0)
		rc = old < 0 ? old : new;
	else
		rc = rename_held(r, old, new, nodes_find(r->s->nodes, to), flags);
	if (old >= 0)
		close(old);
	if (new >= 0)
		close(new);
	return rc;
}

int do_rename(struct request *r)
{
	return rename_to(r, le64_get(r->body), 0);
}

int do_rename2(struct request *r)
{
	return rename_to(r, le64_get(r->body), le32_get(r->body + 8));
}

int do_link(struct request *r)
{
	struct node *n = nodes_find(r->s->nodes, le64_get(r->body));
	int to = hold_dir(r->s, nodes_id(r->s->nodes, r->node)), rc;
	struct where w;
	struct statx stx;

	rc = to < 0 ? to : n ? nodes_where(r->s->nodes, n, &w) : -ENOENT;
	if (rc == 0)
		rc = stat_at(w.dir, w.name, w.name[0] ? 0 : AT_EMPTY_PATH, &stx);
	if (rc == 0 && !nodes_is(r->s->nodes, n, &stx))
		rc = -ESTALE;
	if (rc == 0 && linkat(w.dir, w.name, to, r->name, 0) < 0)
		rc = cannot();
	if (to >= 0)
		close(to);
	return rc < 0 ? rc : answer_entry(r, r->name, NULL);
}

/* SPDX-License-Identifier: MIT */
/*
 * A session in a saved machine: which files its guest knows and has open, by their names.
 *
 *	begun (1)  root's identity (3 * 8)  number of handles (4)  number of nodes (4)
 *	a handle   number (4)  node (4)  flags (4)  is it a directory's (1)
 *	a node     number (4)  parent (4)  generation (4)  lookups (8)  identity (3 * 8)  length of the name (1), name
 *
 * Where it is loaded, files are opened again. If the root is the directory that it was, files must
 * be those that they were; if it is another one, a copy on another computer, they are what has
 * their names. A file that is gone stays gone: its guest is told ESTALE.
 *
 * What is loaded is a stranger's: it says what names a guest has, and a guest can say any, too.
 */
#include "inside.h"

#include "base/bytes.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define HEAD   33u
#define HANDLE 13u
#define NODE   45u /* and its name */

static void put_identity(uint8_t *at, const struct identity *is)
{
	le64_put(at, is->dev);
	le64_put(at + 8, is->ino);
	le64_put(at + 16, is->born);
}

static struct identity get_identity(const uint8_t *at)
{
	return (struct identity){le64_get(at), le64_get(at + 8), le64_get(at + 16)};
}

/* -- Saving -------------------------------------------------------------------------------- */

static size_t put_handle(uint8_t *at, unsigned number, const struct handle *h)
{
	le32_put(at, number);
	le32_put(at + 4, h->node);
	le32_put(at + 8, (uint32_t)h->flags);
	at[12] = h->is_dir;
	return HANDLE;
}

/* `last`: of the nodes that are saved. In a parent behind that it has no name. */
static size_t put_node(uint8_t *at, uint32_t id, const struct node *n, uint32_t last)
{
	size_t len = n->name && n->parent <= last ? strlen(n->name) : 0;

	le32_put(at, id);
	le32_put(at + 4, len ? n->parent : 0);
	le32_put(at + 8, n->generation);
	le64_put(at + 12, n->lookups || len ? n->lookups : 1); /* what has neither would be free, and is held */
	put_identity(at + 20, &n->is);
	at[44] = (uint8_t)len;
	if (len)
		memcpy(at + NODE, n->name, len);
	return NODE + len;
}

/* The last node for which there is room behind `at`. */
static uint32_t last_of(struct share *s, size_t at, size_t room)
{
	uint32_t last = ROOT;

	for (struct node *n = nodes_next(s->nodes, last); n && room - at >= NODE + 255; n = nodes_next(s->nodes, last)) {
		at += NODE + (n->name ? strlen(n->name) : 0);
		last = nodes_id(s->nodes, n);
	}
	return last;
}

size_t share_save(struct share *s, uint8_t *bytes, size_t room)
{
	uint32_t handles = 0, nodes = 0, last;
	size_t at = HEAD;

	if (room < HEAD + HANDLES_MAX * HANDLE)
		return 0;
	last = last_of(s, HEAD + HANDLES_MAX * HANDLE, room);
	for (unsigned i = 1; i <= s->n_handles; i++)
		if (s->handles[i].node && s->handles[i].node <= last) {
			at += put_handle(bytes + at, i, &s->handles[i]);
			handles++;
		}
	for (struct node *n = nodes_next(s->nodes, ROOT); n && nodes_id(s->nodes, n) <= last;
	     n = nodes_next(s->nodes, nodes_id(s->nodes, n))) {
		at += put_node(bytes + at, nodes_id(s->nodes, n), n, last);
		nodes++;
	}
	bytes[0] = s->begun;
	put_identity(bytes + 1, &nodes_find(s->nodes, ROOT)->is);
	le32_put(bytes + 25, handles);
	le32_put(bytes + 29, nodes);
	return at;
}

/* -- Loading ------------------------------------------------------------------------------- */

static int load_node(struct share *s, const uint8_t *bytes, size_t len, size_t *at)
{
	struct node as = {0};
	char name[256];
	size_t n;

	if (len - *at < NODE || len - *at - NODE < bytes[*at + 44])
		return -EINVAL;
	bytes += *at;
	n = bytes[44];
	as.parent = le32_get(bytes + 4);
	as.generation = le32_get(bytes + 8);
	as.lookups = le64_get(bytes + 12);
	as.is = get_identity(bytes + 20);
	memcpy(name, bytes + NODE, n);
	name[n] = 0;
	*at += NODE + n;
	return strlen(name) == n ? nodes_load(s->nodes, le32_get(bytes), &as, name) : -EINVAL;
}

/* What cannot be opened any more stays a handle: its guest closes it one day. */
static int load_handle(struct share *s, const uint8_t *bytes)
{
	const int allowed = O_ACCMODE | O_APPEND | O_SYNC | O_DSYNC;
	struct node *n = nodes_find(s->nodes, le32_get(bytes + 4));
	int flags = ((int)le32_get(bytes + 8) & allowed) | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, fd;

	if (!n || bytes[12] > 1 || !le32_get(bytes))
		return -EINVAL;
	if (s->readonly || bytes[12])
		flags &= ~O_ACCMODE;
	fd = open_node(s, n, flags, bytes[12]);
	return add_handle(s, le32_get(bytes), n, fd < 0 ? -1 : fd, flags, bytes[12]);
}

static int load(struct share *s, const uint8_t *bytes, size_t len)
{
	uint32_t handles = len < HEAD ? 0 : le32_get(bytes + 25), nodes = len < HEAD ? 0 : le32_get(bytes + 29);
	const struct identity *root = &nodes_find(s->nodes, ROOT)->is;
	size_t at = HEAD + (size_t)handles * HANDLE;
	struct identity was;
	int rc = 0;

	if (len < HEAD || bytes[0] > 1 || handles > HANDLES_MAX || nodes > NODES_MAX || at > len)
		return -EINVAL;
	was = get_identity(bytes + 1);
	for (uint32_t i = 0; rc == 0 && i < nodes; i++)
		rc = load_node(s, bytes, len, &at);
	if (rc == 0 && at != len)
		rc = -EINVAL;
	if (rc == 0)
		rc = nodes_loaded(s->nodes, memcmp(root, &was, sizeof(was)) != 0);
	for (uint32_t i = 0; rc >= 0 && i < handles; i++)
		rc = load_handle(s, bytes + HEAD + i * HANDLE);
	s->begun = bytes[0];
	return rc < 0 ? rc : 0;
}

int share_load(struct share *s, const uint8_t *bytes, size_t len)
{
	int rc;

	share_clear(s);
	rc = load(s, bytes, len);
	if (rc < 0)
		share_clear(s);
	return rc;
}

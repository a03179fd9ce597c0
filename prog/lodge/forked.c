/* SPDX-License-Identifier: MIT */
/* See forked.h; docs/control.md tells what the answer has. */
#include "forked.h"

#include "base/err.h"
#include "base/json_read.h"
#include "base/scoped.h"
#include "client.h"
#include "launch.h"
#include "machine/fork.h"
#include "machine/saved.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

/* The descriptors of an answer, one after the other. */
static int next_file(struct client_files *files, unsigned *at)
{
	unsigned i = (*at)++;

	return i < files->n ? files->fd[i] : -1;
}

static int take_memory(struct machine_fork *f, struct client_files *files, unsigned *at,
		       const struct json_value *answer, struct err *err)
{
	const struct json_value *layers;
	int rc = json_get(answer, "layers", JSON_ARRAY, &layers, err);

	if (rc < 0)
		return rc;
	f->state = next_file(files, at);
	if (layers->first)
		f->where = next_file(files, at);
	for (const struct json_value *l = layers->first; l && f->n < RAM_LAYERS_MAX; l = l->next) {
		rc = json_get_uint(l, "at", INT64_MAX, &f->layer[f->n].at, err);
		if (rc < 0)
			return rc;
		f->layer[f->n++].fd = next_file(files, at);
	}
	return 0;
}

static int take_disk(struct disk_base *b, struct client_files *files, unsigned *at, const struct json_value *disk,
		     struct err *err)
{
	const struct json_value *layers;
	uint64_t slot, n;
	int rc;

	if ((rc = json_get_bool(disk, "of_file", &b->of_file, err)) < 0 ||
	    (rc = json_get_uint(disk, "slot", UINT32_MAX, &slot, err)) < 0 ||
	    (rc = json_get(disk, "layers", JSON_ARRAY, &layers, err)) < 0)
		return rc;
	for (const struct json_value *l = layers->first; l && b->n < DISK_LAYERS_MAX; l = l->next) {
		struct disk_layer *layer = &b->layer[b->n];

		if ((rc = json_get_uint(l, "at", INT64_MAX, &layer->l1_at, err)) < 0 ||
		    (rc = json_get_uint(l, "entries", UINT32_MAX, &n, err)) < 0)
			return rc;
		layer->l1_n = (uint32_t)n;
		layer->fd = next_file(files, at);
		b->n++;
	}
	return b->n ? disk_base_hold(b, (unsigned)slot, err) : 0;
}

/* The answer says what its descriptors are: the state, and with layers the map and those; then disks' layers. */
static int take_files(struct forked_guest *g, struct client_files *files, const struct json_value *answer, struct err *err)
{
	const struct json_value *disks;
	unsigned at = 0;
	int rc = take_memory(&g->fork, files, &at, answer, err);

	if (rc == 0)
		rc = json_get(answer, "disks", JSON_ARRAY, &disks, err);
	for (const struct json_value *d = rc == 0 ? disks->first : NULL; d && g->n_disks < MACHINE_DISKS_MAX && rc == 0;
	     d = d->next)
		rc = take_disk(&g->disks[g->n_disks++], files, &at, d, err);
	if (rc == 0 && (g->fork.state < 0 || at != files->n))
		rc = err_set(err, EIO, "the guest's lodge answers with %u descriptors", files->n);
	while (at < files->n)
		close(files->fd[at++]);
	return rc;
}

static char *arguments(const char *keep)
{
	char *args = NULL;

	if ((keep ? asprintf(&args, "{\"keep\": \"%s\"}", keep) : asprintf(&args, "{}")) < 0)
		return NULL;
	return args;
}

int forked_ask(int fd, const char *keep, struct forked_guest *g, struct err *err)
{
	scoped_mem struct json_value *answer = NULL;
	scoped_mem char *args = arguments(keep); /* SAFE: place_is_name() */
	struct client_files files;
	int rc = args ? client_ask_files(fd, "x-lodge-fork", args, &files, &answer, err) : err_set(err, ENOMEM, "no memory"), state;

	*g = (struct forked_guest)FORKED_NONE;
	if (rc == 0)
		rc = take_files(g, &files, answer, err);
	if (rc < 0)
		return rc;
	state = fcntl(g->fork.state, F_DUPFD_CLOEXEC, 0);
	return state < 0 ? err_sys(err, errno, "a descriptor") : saved_open_fd(&g->saved, state, "fork", err);
}

void forked_close(struct forked_guest *g)
{
	saved_close(g->saved);
	machine_fork_close(&g->fork);
	while (g->n_disks)
		disk_base_close(&g->disks[--g->n_disks]);
}

void forked_disks(const struct forked_guest *g, struct launch_disks *disks)
{
	for (unsigned i = 0; i < g->n_disks && i < disks->n; i++)
		if (g->disks[i].n) {
			disks->disks[i].throw_away = true;
			disks->disks[i].base = &g->disks[i];
		}
}

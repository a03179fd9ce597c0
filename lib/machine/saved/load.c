/* SPDX-License-Identifier: MIT */
/*
 * A machine that goes on from a file: its memory, and then, when everything is made as for a boot, what
 * each part of it was. What cannot be is a sentence, and the machine is not made.
 */
#include "machine/private.h"

#include "base/err.h"
#include "dev/device.h"
#include "engine/kvm.h"
#include "machine/fork.h"
#include "machine/layer.h"
#include "machine/saved/form.h"
#include "machine/saved/inside.h"
#include "machine/saved/parts.h"
#include "state/state.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

/* -- Memory ------------------------------------------------------------------------ */

struct copy {
	const struct saved *s;
	const struct map_ram *ram;
	struct err *err;
};

static int copy_piece(void *ctx, uint64_t at, uint64_t len)
{
	const struct copy *c = ctx;

	return blob_copy(&c->s->file, c->s->memory_at + at, c->ram->fd, at, len, c->err);
}

struct note {
	struct machine *m;
	unsigned layer;
};

static int note_piece(void *ctx, uint64_t at, uint64_t len)
{
	const struct note *n = ctx;

	for (uint64_t p = at / SAVED_PAGE; p < (at + len + SAVED_PAGE - 1) / SAVED_PAGE; p++)
		n->m->ram.layers->where[p] = (uint8_t)n->layer;
	return 0;
}

/* Maps the file, and nothing of it is read before the guest wants it. */
static int map_memory(struct machine *m, struct err *err)
{
	const struct saved *s = m->config.saved;
	int rc = ram_layers_add(m, s->file.fd, s->memory_at, err);

	if (rc < 0)
		return rc;
	return saved_memory(s, note_piece, &(struct note){.m = m, .layer = m->ram.layers->n});
}

/* -- A fork's ---------------------------------------------------------------------- */

static int read_where(const struct machine *m, uint8_t *where, struct err *err)
{
	const struct machine_fork *f = m->config.fork;
	const struct blob file = {.role = "map of memory", .path = "", .fd = f->where,
				  .size = m->ram.size / SAVED_PAGE};
	int rc = blob_read(&file, 0, where, file.size, err);

	for (uint64_t p = 0; rc == 0 && p < file.size; p++)
		if (where[p] > f->n)
			return err_set(err, EINVAL, "page %" PRIu64 " is in layer %u of %u", p, where[p],
				       f->n);
	return rc;
}

static int map_layers(struct machine *m, struct err *err)
{
	const struct machine_fork *f = m->config.fork;
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < f->n; i++)
		rc = ram_layers_add(m, f->layer[i].fd, f->layer[i].at, err);
	/* SAFE: nobody else looks at it yet. */
	return rc < 0 || !f->n ? rc : read_where(m, (uint8_t *)m->ram.layers->where, err);
}

/* For an engine without layers. */
static int copy_layers(struct machine *m, struct err *err)
{
	const struct machine_fork *f = m->config.fork;
	uint64_t pages = m->ram.size / SAVED_PAGE;
	uint8_t *where = malloc(pages);
	int rc = where ? read_where(m, where, err) : err_set(err, ENOMEM, "no memory");

	for (uint64_t p = 0, end; rc == 0 && p < pages; p = end) {
		struct blob layer = {.role = "layer of memory", .path = ""};

		for (end = p + 1; end < pages && where[end] == where[p]; end++)
			;
		if (!where[p])
			continue;
		layer.fd = f->layer[where[p] - 1].fd;
		layer.size = f->layer[where[p] - 1].at + m->ram.size;
		rc = blob_copy(&layer, layer.size - m->ram.size + p * SAVED_PAGE, m->ram.fd,
			       p * SAVED_PAGE, (end - p) * SAVED_PAGE, err);
	}
	free(where);
	return rc;
}

int machine_load_memory(struct machine *m, struct err *err)
{
	struct copy c = {.s = m->config.saved, .ram = &m->ram, .err = err};
	bool layers = m->config.face->layer;

	if (c.s->memory_len != m->ram.size)
		return err_set(err, EINVAL, "it has other memory than it says");
	if (m->config.incoming)
		return 0;
	if (m->config.fork && m->config.fork->where >= 0)
		return layers ? map_layers(m, err) : copy_layers(m, err);
	return layers ? map_memory(m, err) : saved_memory(c.s, copy_piece, &c);
}

/* -- State ------------------------------------------------------------------------- */

/* Each section has somebody who wants it, or the file is of a machine that we cannot make. */
static int check_all_used(const struct state_in *in, unsigned used, struct err *err)
{
	struct state_section section;
	unsigned n = 0;
	size_t at = 0;
	int rc;

	while ((rc = state_next(in, &at, &section, err)) > 0)
		n++;
	if (rc == 0 && n != used)
		rc = err_set(err, EINVAL, "it has %u sections, of which this machine uses %u", n, used);
	return rc;
}

int machine_load_state(struct machine *m, struct err *err)
{
	struct state_in in = saved_sections(m->config.saved);
	unsigned used = 3; /* cpuid, vm/chips, vm/clock */
	char id[STATE_NAME_MAX + 1];
	uint64_t away = 0;
	int rc = vm_away(&in, &away, err);

	for (unsigned i = 0; rc == 0 && i < m->board.n; i++)
		rc = device_load(m->board.devices[i], board_id(&m->board, i, id), &in, away, &used,
				 err);
	if (rc == 0)
		rc = vm_load(&m->vm, &in, err);
	for (unsigned i = 0; rc == 0 && i < m->config.cpus; i++, used++)
		rc = vcpu_load(&m->vcpus[i], &in, away, err);
	if (rc == 0 && !m->config.incoming)
		board_tell_identity(&m->board);
	return rc < 0 ? rc : check_all_used(&in, used, err);
}

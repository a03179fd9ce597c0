/* SPDX-License-Identifier: MIT */
/*
 * A machine that goes on from a file: its memory, and then, when everything is made as for a boot, what
 * each part of it was. What cannot be is a sentence, and the machine is not made.
 */
#include "machine/private.h"

#include "base/err.h"
#include "dev/device.h"
#include "engine/kvm.h"
#include "machine/layer.h"
#include "machine/saved/form.h"
#include "machine/saved/inside.h"
#include "machine/saved/parts.h"
#include "state/state.h"

#include <errno.h>
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

static int note_piece(void *ctx, uint64_t at, uint64_t len)
{
	uint64_t *pages = ctx;

	for (uint64_t p = at / SAVED_PAGE; p < (at + len + SAVED_PAGE - 1) / SAVED_PAGE; p++)
		pages[p / 64] |= UINT64_C(1) << (p % 64);
	return 0;
}

/* Maps the file, and nothing of it is read before the guest wants it. */
static int map_memory(struct machine *m, struct err *err)
{
	const struct saved *s = m->config.saved;
	uint64_t *pages = calloc((size_t)(s->memory_len / SAVED_PAGE + 63) / 64, 8);
	int rc = pages ? saved_memory(s, note_piece, pages) : err_set(err, ENOMEM, "no memory");

	if (rc == 0)
		return ram_layer_add(m, s->file.fd, s->memory_at, pages, err);
	free(pages);
	return rc;
}

int machine_load_memory(struct machine *m, struct err *err)
{
	struct copy c = {.s = m->config.saved, .ram = &m->ram, .err = err};

	if (c.s->memory_len != m->ram.size)
		return err_set(err, EINVAL, "it has other memory than it says");
	return m->config.face->layer ? map_memory(m, err) : saved_memory(c.s, copy_piece, &c);
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
	return rc < 0 ? rc : check_all_used(&in, used, err);
}

/* SPDX-License-Identifier: MIT */
/*
 * See fork.h.
 *
 *	before           layers 1..n, of which pages are left; RAM
 *	plan             those that are in use keep their order; RAM becomes the last
 *	switch           the engine gives up its views; RAM is sealed, mapped for reading as that layer;
 *	                 new RAM is at its address; the engine gets both
 *
 * What can fail for want of memory is done before the switch. If the host fails in the middle of it the
 * machine has ended: it has no memory any more.
 */
#include "machine/fork.h"

#include "base/err.h"
#include "base/memfile.h"
#include "engine/kvm.h"
#include "machine/private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x10
#endif

#define SEALS (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW)

static int seal(int fd, int seals, struct err *err)
{
	return fcntl(fd, F_ADD_SEALS, SEALS | seals) == 0 ? 0 :
	       err_sys(err, errno, "sealing memory that is shared");
}

/* -- The plan ---------------------------------------------------------------------- */

/* Where pages are: so far, and when RAM is a layer too. */
struct plan {
	uint8_t *where;
	uint64_t pages;
	uint8_t number[RAM_LAYERS_MAX + 2]; /* the new one of a layer that there was; 0: nothing is left of it */
	unsigned n;                         /* layers, with RAM */
};

#define RAM (RAM_LAYERS_MAX + 1) /* as a layer that there was */

static int take_all(struct machine *m, struct err *err)
{
	for (unsigned i = 0; i < m->mem.n; i++)
		if (!m->mem.regions[i].readonly && !m->mem.regions[i].changes &&
		    !guest_range(&m->mem, m->mem.regions[i].base, m->mem.regions[i].size))
			return err_set(err, EFAULT, "the file that the guest was restored from has "
				       "been cut: its memory is not there any more");
	return 0;
}

static int look(const struct machine *m, struct plan *p, struct err *err)
{
	p->pages = m->ram.size / RAM_PAGE;
	free(p->where);
	p->where = m->ram.layers ? ram_layers_now(m) : calloc(p->pages, 1);
	if (!p->where)
		return err_set(err, ENOMEM, "no memory");
	memset(p->number, 0, sizeof(p->number));
	for (uint64_t i = 0; i < p->pages; i++)
		p->number[p->where[i]] = 1;
	p->number[0] = 0;
	p->n = 0;
	for (unsigned i = 1; i <= RAM_LAYERS_MAX; i++)
		if (p->number[i])
			p->number[i] = (uint8_t)++p->n;
	p->number[RAM] = (uint8_t)++p->n;
	return 0;
}

/* Pages that are in RAM's memfd are the last layer's; what it has never had is zeros. */
static void place(const struct machine *m, struct plan *p)
{
	off_t data = 0, hole;

	while ((data = lseek(m->ram.fd, data, SEEK_DATA)) >= 0) {
		hole = lseek(m->ram.fd, data, SEEK_HOLE);
		for (uint64_t i = (uint64_t)data / RAM_PAGE; i < (uint64_t)hole / RAM_PAGE; i++)
			if (!p->where[i])
				p->where[i] = RAM;
		data = hole;
	}
	for (uint64_t i = 0; i < p->pages; i++)
		p->where[i] = p->number[p->where[i]];
}

/* The engine has address space for RAM and its layers (softkvm.h). */
static unsigned layers_most(const struct machine *m)
{
	uint64_t fit = (UINT64_C(1) << 40) / m->ram.size;

	return fit < 1 ? 1 : fit < RAM_LAYERS_MAX ? (unsigned)fit : RAM_LAYERS_MAX;
}

static int make_plan(struct machine *m, struct plan *p, struct err *err)
{
	int rc = look(m, p, err);

	if (rc == 0 && p->n > layers_most(m)) {
		rc = take_all(m, err);
		if (rc == 0)
			rc = look(m, p, err);
	}
	if (rc == 0)
		place(m, p);
	return rc;
}

/* -- The switch -------------------------------------------------------------------- */

/* The layers that are in use, by their new numbers; their mappings and descriptors stay as they are. */
static struct ram_layers *keep(struct machine *m, const struct plan *p)
{
	struct ram_layers *l = m->ram.layers;

	for (unsigned i = 0; l && i < l->n; i++) {
		unsigned number = p->number[i + 1];

		if (number) {
			l->layer[number - 1] = l->layer[i];
			continue;
		}
		munmap((void *)(uintptr_t)l->layer[i].base, m->ram.size);
		close(l->layer[i].fd);
	}
	if (l)
		l->n = p->n - 1;
	return l;
}

static int renew(struct machine *m, const struct plan *p, struct err *err)
{
	int before, rc;

	if ((rc = vm_remove_memory(&m->vm, &m->mem, err)) < 0 ||
	    (rc = seal(m->ram.fd, F_SEAL_FUTURE_WRITE, err)) < 0)
		return rc;
	before = map_ram_renew(&m->ram);
	if (before < 0)
		return err_sys(err, -before, "new memory for the guest");
	keep(m, p);
	rc = ram_layers_add(m, before, 0, err);
	close(before);
	if (rc < 0)
		return rc;
	memcpy((void *)m->ram.layers->where, p->where, p->pages); /* SAFE: it stands still */
	rc = vm_add_memory(&m->vm, &m->mem, err);
	return rc < 0 ? rc : ram_layers_open(m, err);
}

/* -- What others get --------------------------------------------------------------- */

static int give_where(struct machine_fork *f, const struct plan *p, struct err *err)
{
	f->where = memfile_create("lodge-where", p->pages);
	if (f->where < 0)
		return err_sys(err, -f->where, "a map of memory");
	if (pwrite(f->where, p->where, p->pages, 0) != (ssize_t)p->pages)
		return err_sys(err, errno, "a map of memory");
	return seal(f->where, F_SEAL_WRITE, err);
}

static int give_layers(const struct machine *m, struct machine_fork *f, struct err *err)
{
	for (; f->n < m->ram.layers->n; f->n++) {
		const struct ram_layer *l = &m->ram.layers->layer[f->n];

		f->layer[f->n].at = l->at;
		f->layer[f->n].fd = fcntl(l->fd, F_DUPFD_CLOEXEC, 0);
		if (f->layer[f->n].fd < 0)
			return err_sys(err, errno, "a descriptor");
	}
	return 0;
}

static int share(struct machine *m, struct machine_fork *f, struct err *err)
{
	struct plan p = {0};
	int rc = make_plan(m, &p, err);

	if (rc == 0 && (rc = give_where(f, &p, err)) == 0 && (rc = renew(m, &p, err)) < 0)
		machine_over(m, &(struct machine_end){.reason = MACHINE_FAILED,
						      .text = "its memory was lost in a fork"});
	if (rc == 0)
		rc = give_layers(m, f, err);
	free(p.where);
	return rc;
}

int machine_fork(struct machine *m, struct machine_fork *f, struct err *err)
{
	bool layers = m->vm.face->layer;
	int rc;

	*f = (struct machine_fork){.state = memfile_create("lodge-state", 0), .where = -1};
	if (f->state < 0)
		return err_sys(err, -f->state, "memory for the guest's state");
	rc = layers ? machine_save_state(m, f->state, err) : machine_save(m, f->state, err);
	if (rc == 0)
		rc = seal(f->state, F_SEAL_WRITE, err);
	if (rc == 0 && layers)
		rc = share(m, f, err);
	if (rc < 0)
		machine_fork_close(f);
	return rc;
}

void machine_fork_close(struct machine_fork *f)
{
	if (f->state >= 0)
		close(f->state);
	if (f->where >= 0)
		close(f->where);
	for (unsigned i = 0; i < f->n; i++)
		if (f->layer[i].fd >= 0)
			close(f->layer[i].fd);
	*f = (struct machine_fork){.state = -1, .where = -1};
}

/* SPDX-License-Identifier: MIT */
/*
 * See layer.h. The engine has the truth about which page is where; here is a bitmap of pages that are perhaps in
 * the file still, so that a device asks once a page.
 */
#include "machine/layer.h"

#include "base/err.h"
#include "engine/kvm.h"
#include "machine/private.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#define PAGE 4096u

struct ram_layer {
	const uint8_t *base;
	_Atomic uint64_t *pages; /* a bit each */
};

/* Where a region begins in RAM, and in the layer. */
static uint64_t offset_of(const struct machine *m, const struct guest_region *r)
{
	return (uint64_t)(r->host - m->ram.host);
}

/* -- Taking pages out -------------------------------------------------------------- */

static bool may_be_there(const struct ram_layer *l, uint64_t page)
{
	return atomic_load_explicit(&l->pages[page / 64], memory_order_acquire) >> (page % 64) & 1;
}

static int take(void *ctx, gpa_t gpa, uint64_t len)
{
	struct machine *m = ctx;
	const struct guest_region *r = guest_mem_find(&m->mem, gpa);
	uint64_t first = offset_of(m, r) + (gpa - r->base);
	struct ram_layer *l = m->ram.layer;

	for (uint64_t p = first / PAGE; p <= (first + len - 1) / PAGE; p++) {
		int rc;

		if (!may_be_there(l, p))
			continue;
		rc = m->vm.face->take(m->vm.fd, gpa - first + p * PAGE, PAGE);
		if (rc < 0)
			return rc;
		atomic_fetch_and(&l->pages[p / 64], ~(UINT64_C(1) << (p % 64)));
	}
	return 0;
}

/* -- Adding ------------------------------------------------------------------------ */

int ram_layer_add(struct machine *m, int fd, uint64_t at, uint64_t *pages, struct err *err)
{
	struct ram_layer *l = calloc(1, sizeof(*l));
	void *base = mmap(NULL, m->ram.size, PROT_READ, MAP_SHARED | MAP_NORESERVE, fd, (off_t)at);

	if (l && base != MAP_FAILED) {
		*l = (struct ram_layer){.base = base, .pages = (_Atomic uint64_t *)pages};
		m->ram.layer = l;
		return 0;
	}
	free(l);
	free(pages);
	return err_sys(err, base == MAP_FAILED ? errno : ENOMEM, "mapping memory from a file");
}

int ram_layer_open(struct machine *m, struct err *err)
{
	const struct ram_layer *l = m->ram.layer;

	for (unsigned i = 0; l && i < m->mem.n; i++) {
		uint64_t at = offset_of(m, &m->mem.regions[i]);
		int rc = m->vm.face->layer(m->vm.fd, i, l->base + at,
					   (const uint64_t *)l->pages + at / PAGE / 64);

		if (rc < 0)
			return err_sys(err, -rc, "engine '%s' takes no memory from a file",
				       m->vm.face->name);
	}
	m->mem.take = l ? take : NULL;
	m->mem.ctx = m;
	return 0;
}

/* -- Looking ----------------------------------------------------------------------- */

uint8_t *ram_layer_pages(const struct machine *m)
{
	uint8_t *map = m->ram.layer ? calloc(1, m->ram.size / PAGE) : NULL;

	for (unsigned i = 0; map && i < m->mem.n; i++)
		m->vm.face->layers_of(m->vm.fd, i, map + offset_of(m, &m->mem.regions[i]) / PAGE);
	return map;
}

const uint8_t *ram_layer_page(const struct map_ram *ram, uint64_t page)
{
	return ram->layer->base + page * PAGE;
}

void ram_layer_drop(struct machine *m)
{
	struct ram_layer *l = m->ram.layer;

	if (!l)
		return;
	m->mem.take = NULL;
	m->ram.layer = NULL;
	munmap((void *)(uintptr_t)l->base, m->ram.size);
	free((void *)l->pages);
	free(l);
}

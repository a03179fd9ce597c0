/* SPDX-License-Identifier: MIT */
/*
 * See layers.h. The engine has the truth about which page is where; here is a bitmap of pages that are known to be
 * the machine's own, so that a device asks once a page.
 */
#include "machine/layers.h"

#include "base/err.h"
#include "engine/kvm.h"
#include "machine/private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE 4096u

struct ram_layers {
	unsigned n;
	const uint8_t *base[RAM_LAYERS_MAX + 1]; /* from 1 */
	uint64_t *pages[RAM_LAYERS_MAX + 1];     /* what each has, until the VM is opened */
	_Atomic uint64_t *own;                   /* a bit for each page that is not in a layer, as far as we know */
};

static size_t bitmap_len(const struct map_ram *ram)
{
	return (size_t)((ram->size / PAGE + 63) / 64 * 8);
}

/* -- Taking pages out -------------------------------------------------------------- */

static bool is_own(const struct ram_layers *l, uint64_t page)
{
	return atomic_load_explicit(&l->own[page / 64], memory_order_acquire) >> (page % 64) & 1;
}

static int take(void *ctx, gpa_t gpa, uint64_t len)
{
	struct machine *m = ctx;
	const struct guest_region *r = guest_mem_find(&m->mem, gpa);
	uint64_t first = (uint64_t)(r->host - m->ram.host) + (gpa - r->base);
	struct ram_layers *l = m->ram.layers;

	for (uint64_t p = first / PAGE; p <= (first + len - 1) / PAGE; p++) {
		int rc = 0;

		if (!is_own(l, p))
			rc = m->vm.face->take(m->vm.fd, gpa - first + p * PAGE, PAGE);
		if (rc < 0)
			return rc;
		atomic_fetch_or(&l->own[p / 64], UINT64_C(1) << (p % 64));
	}
	return 0;
}

/* -- Adding ------------------------------------------------------------------------ */

static int make(struct machine *m, struct err *err)
{
	struct ram_layers *l = calloc(1, sizeof(*l));

	if (l)
		l->own = malloc(bitmap_len(&m->ram));
	if (!l || !l->own) {
		free(l);
		return err_set(err, ENOMEM, "no memory");
	}
	memset((void *)l->own, 0xff, bitmap_len(&m->ram));
	m->ram.layers = l;
	return 0;
}

static int tell(struct machine *m, unsigned layer, struct err *err)
{
	const struct ram_layers *l = m->ram.layers;

	for (unsigned i = 0; i < m->mem.n; i++) {
		uint64_t at = (uint64_t)(m->mem.regions[i].host - m->ram.host);
		int rc = m->vm.face->layer(m->vm.fd, i, l->base[layer] + at,
					   l->pages[layer] + at / PAGE / 64);

		if (rc < 0)
			return err_sys(err, -rc, "engine '%s' takes no memory from a file",
				       m->vm.face->name);
	}
	return 0;
}

int ram_layers_add(struct machine *m, int fd, uint64_t at, const uint64_t *pages, struct err *err)
{
	struct ram_layers *l = m->ram.layers;
	void *base;
	int rc;

	if (!m->config.face->layer)
		return err_set(err, EOPNOTSUPP, "engine '%s' has no layers", m->config.face->name);
	if (!l) {
		rc = make(m, err);
		if (rc < 0)
			return rc;
		l = m->ram.layers;
	}
	if (l->n == RAM_LAYERS_MAX)
		return err_set(err, ENOSPC, "more than %d layers of memory", RAM_LAYERS_MAX);
	base = mmap(NULL, m->ram.size, PROT_READ, MAP_SHARED | MAP_NORESERVE, fd, (off_t)at);
	if (base == MAP_FAILED)
		return err_sys(err, errno, "mapping memory from a file");
	l->base[++l->n] = base;
	l->pages[l->n] = malloc(bitmap_len(&m->ram));
	if (!l->pages[l->n])
		return err_set(err, ENOMEM, "no memory");
	memcpy(l->pages[l->n], pages, bitmap_len(&m->ram));
	for (size_t i = 0; i < bitmap_len(&m->ram) / 8; i++)
		l->own[i] &= ~pages[i];
	return 0;
}

int ram_layers_open(struct machine *m, struct err *err)
{
	struct ram_layers *l = m->ram.layers;
	int rc = 0;

	for (unsigned i = 1; l && rc == 0 && i <= l->n; i++)
		rc = tell(m, i, err);
	if (l && rc == 0) {
		m->mem.take = take;
		m->mem.ctx = m;
	}
	return rc;
}

/* -- Looking ----------------------------------------------------------------------- */

uint8_t *ram_layers_of(const struct machine *m)
{
	uint8_t *map = m->ram.layers ? calloc(1, m->ram.size / PAGE) : NULL;

	for (unsigned i = 0; map && i < m->mem.n; i++) {
		uint64_t at = (uint64_t)(m->mem.regions[i].host - m->ram.host);

		m->vm.face->layers_of(m->vm.fd, i, map + at / PAGE);
	}
	return map;
}

const uint8_t *ram_layers_page(const struct map_ram *ram, unsigned layer, uint64_t page)
{
	return (layer ? ram->layers->base[layer] : ram->host) + page * PAGE;
}

void ram_layers_drop(struct machine *m)
{
	struct ram_layers *l = m->ram.layers;

	m->mem.take = NULL;
	m->ram.layers = NULL;
	for (unsigned i = 1; l && i <= l->n; i++) {
		munmap((void *)(uintptr_t)l->base[i], m->ram.size);
		free(l->pages[i]);
	}
	if (l)
		free((void *)l->own);
	free(l);
}

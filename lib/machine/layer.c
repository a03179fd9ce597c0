/* SPDX-License-Identifier: MIT */
/*
 * See layer.h. The engine has the truth about which page is where; `where` is what was so at first, less what devices
 * have taken out, so that a device asks once a page.
 */
#include "machine/layer.h"

#include "base/err.h"
#include "engine/kvm.h"
#include "machine/private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static uint64_t pages(const struct machine *m)
{
	return m->ram.size / RAM_PAGE;
}

/* Where a region begins in RAM, and in each layer. */
static uint64_t offset_of(const struct machine *m, const struct guest_region *r)
{
	return (uint64_t)(r->host - m->ram.host);
}

/* -- Taking pages out -------------------------------------------------------------- */

static int take_page(struct machine *m, uint64_t page, gpa_t gpa)
{
	_Atomic uint8_t *where = &m->ram.layers->where[page];
	int rc;

	if (!atomic_load_explicit(where, memory_order_acquire))
		return 0;
	rc = m->vm.face->take(m->vm.fd, gpa, RAM_PAGE);
	if (rc == 0)
		atomic_store(where, 0);
	return rc;
}

static int take(void *ctx, const struct guest_region *r, gpa_t gpa, uint64_t len, bool write)
{
	struct machine *m = ctx;
	uint64_t first = offset_of(m, r) + (gpa - r->base);
	int rc = 0;

	if (!m->ram.layers && !m->ram.written)
		return 0;
	for (uint64_t p = first / RAM_PAGE; rc == 0 && p <= (first + len - 1) / RAM_PAGE; p++) {
		if (write && m->ram.written)
			atomic_fetch_or(&m->ram.written[p / 64], UINT64_C(1) << (p % 64));
		if (m->ram.layers)
			rc = take_page(m, p, gpa - first + p * RAM_PAGE);
	}
	return rc;
}

/* Whole pages of RAM go back to the host, and are zeros when somebody looks. What else is in the memory's file (a flash chip, video memory) stays. */
static void drop(void *ctx, void *host, uint64_t len)
{
	const struct map_ram *ram = &((struct machine *)ctx)->ram;
	uint64_t first = (uint64_t)((uint8_t *)host - ram->host), end;

	if ((uint8_t *)host < ram->host || first >= ram->memory || len > ram->memory - first)
		return;
	end = (first + len) / RAM_PAGE * RAM_PAGE;
	first = (first + RAM_PAGE - 1) / RAM_PAGE * RAM_PAGE;
	if (first < end)
		madvise(ram->host + first, end - first, MADV_REMOVE);
}

/* -- Adding ------------------------------------------------------------------------ */

static struct ram_layers *make(const struct machine *m)
{
	struct ram_layers *l = calloc(1, sizeof(*l));

	if (l)
		l->where = calloc(pages(m), 1);
	if (l && l->where)
		return l;
	free(l);
	return NULL;
}

static int open_layer(struct ram_layer *layer, int fd, uint64_t at, uint64_t size)
{
	void *base = mmap(NULL, size, PROT_READ, MAP_SHARED | MAP_NORESERVE, fd, (off_t)at);

	if (base == MAP_FAILED)
		return -errno;
	*layer = (struct ram_layer){.fd = fcntl(fd, F_DUPFD_CLOEXEC, 0), .at = at, .base = base};
	if (layer->fd >= 0)
		return 0;
	munmap(base, size);
	return -errno;
}

int ram_layers_add(struct machine *m, int fd, uint64_t at, struct err *err)
{
	int rc;

	if (!m->ram.layers)
		m->ram.layers = make(m);
	if (!m->ram.layers)
		return err_set(err, ENOMEM, "no memory");
	if (m->ram.layers->n == RAM_LAYERS_MAX)
		return err_set(err, ENOSPC, "memory in more than %d layers", RAM_LAYERS_MAX);
	rc = open_layer(&m->ram.layers->layer[m->ram.layers->n], fd, at, m->ram.size);
	if (rc < 0)
		return err_sys(err, -rc, "mapping memory from a file");
	m->ram.layers->n++;
	return 0;
}

/* The pages of layer n as the engine wants them: a bit each. */
static void pick(const struct machine *m, unsigned n, uint64_t *bits)
{
	for (uint64_t p = 0; p < pages(m); p++)
		if (m->ram.layers->where[p] == n)
			bits[p / 64] |= UINT64_C(1) << (p % 64);
}

/* Whether layers are for a region: it has RAM, and stays where it is. The others are small. */
static bool is_layered(const struct machine *m, unsigned region)
{
	return !m->mem.regions[region].changes && !m->mem.regions[region].readonly;
}

/* What of layer n is in a region. */
static int tell(const struct machine *m, unsigned region, unsigned n, const uint64_t *bits, struct err *err)
{
	uint64_t at = offset_of(m, &m->mem.regions[region]);
	int rc = m->vm.face->layer(m->vm.fd, region, m->ram.layers->layer[n - 1].base + at, bits + at / RAM_PAGE / 64);

	return rc < 0 ? err_sys(err, -rc, "engine '%s' takes no memory from a file", m->vm.face->name) : 0;
}

static int tell_all(const struct machine *m, unsigned n, const uint64_t *bits, struct err *err)
{
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < m->mem.n; i++)
		if (is_layered(m, i))
			rc = tell(m, i, n, bits, err);
	return rc;
}

/* Pages that are in no such region become our own. */
static int settle(struct machine *m, uint64_t first, uint64_t end, struct err *err)
{
	_Atomic uint8_t *where = m->ram.layers->where;
	int rc = 0;

	for (uint64_t p = first / RAM_PAGE, next; rc == 0 && p < end / RAM_PAGE; p = next) {
		const struct ram_layer *l = &m->ram.layers->layer[where[p] ? where[p] - 1 : 0];
		struct blob from = {.role = "memory", .path = "", .fd = l->fd, .size = l->at + m->ram.size};
		unsigned n = where[p];

		for (next = p; next < end / RAM_PAGE && where[next] == n; next++)
			where[next] = 0;
		if (n)
			rc = blob_copy(&from, l->at + p * RAM_PAGE, m->ram.fd, p * RAM_PAGE, (next - p) * RAM_PAGE, err);
	}
	return rc;
}

static int settle_all(struct machine *m, struct err *err)
{
	int rc = m->ram.rom ? settle(m, MAP_SCREEN, MAP_BIOS_END, err) : 0;

	return rc < 0 ? rc : settle(m, m->ram.memory, m->ram.size, err);
}

int ram_layers_open(struct machine *m, struct err *err)
{
	size_t size = (size_t)(pages(m) + 63) / 64 * 8;
	uint64_t *bits;
	int rc;

	m->mem.take = take;
	m->mem.drop = drop;
	m->mem.ctx = m;
	if (!m->ram.layers)
		return 0;
	rc = settle_all(m, err);
	if (rc < 0)
		return rc;
	bits = malloc(size);
	if (!bits)
		return err_set(err, ENOMEM, "no memory");
	for (unsigned n = 1; rc == 0 && n <= m->ram.layers->n; n++) {
		memset(bits, 0, size);
		pick(m, n, bits);
		rc = tell_all(m, n, bits, err);
	}
	free(bits);
	return rc;
}

/* -- Looking ----------------------------------------------------------------------- */

uint8_t *ram_layers_now(const struct machine *m)
{
	uint8_t *map = m->ram.layers ? calloc(pages(m), 1) : NULL;

	for (unsigned i = 0; map && i < m->mem.n; i++)
		if (is_layered(m, i))
			m->vm.face->layers_of(m->vm.fd, i, map + offset_of(m, &m->mem.regions[i]) / RAM_PAGE);
	return map;
}

const uint8_t *ram_layers_page(const struct machine *m, const uint8_t *where, uint64_t page)
{
	unsigned n = where ? where[page] : 0;

	return (n ? m->ram.layers->layer[n - 1].base : m->ram.host) + page * RAM_PAGE;
}

uint32_t ram_layers_in(const uint8_t *where, uint64_t page, uint64_t n)
{
	uint32_t in = 0;

	for (uint64_t p = page; where && p < page + n; p++)
		in |= UINT32_C(1) << where[p];
	return in & ~UINT32_C(1);
}

int ram_layers_bring(const struct machine *m, const uint8_t *where, uint64_t page, uint64_t n,
		     struct err *err)
{
	uint32_t in = ram_layers_in(where, page, n);

	madvise(m->ram.host + page * RAM_PAGE, n * RAM_PAGE, MADV_POPULATE_READ);
	for (unsigned i = 0; in >> (i + 1); i++) {
		const uint8_t *at = m->ram.layers->layer[i].base + page * RAM_PAGE;

		if (in >> (i + 1) & 1 &&
		    madvise((void *)(uintptr_t)at, n * RAM_PAGE, MADV_POPULATE_READ) < 0 && errno == EFAULT)
			return err_set(err, EFAULT, "the file that the guest was restored from has "
				       "been cut: its memory is not there any more");
	}
	return 0;
}

void ram_layers_drop(struct machine *m)
{
	struct ram_layers *l = m->ram.layers;

	if (!l)
		return;
	m->ram.layers = NULL;
	for (unsigned i = 0; i < l->n; i++) {
		munmap((void *)(uintptr_t)l->layer[i].base, m->ram.size);
		close(l->layer[i].fd);
	}
	free((void *)l->where);
	free(l);
}

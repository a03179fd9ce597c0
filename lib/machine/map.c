/* SPDX-License-Identifier: MIT */
/*
 * Guest RAM, and what the guest is told about it.
 *
 * The RAM is one memfd of the guest's size, mapped shared and without reservation. Shared,
 * because an engine may want to map the same pages again with other rights (softkvm's
 * read-only view) and because another process may one day hold the device models; without
 * reservation, because a guest of 8 GiB that uses 200 MiB must start on a host with 1 GiB
 * free. The price is that memory which the host cannot find at last arrives as a signal and
 * not as a refusal at the start; the out-of-memory killer would have come anyway.
 *
 * The hole between 3 and 4 GiB splits it in two as the guest sees it: bytes 0 to 3 GiB of
 * the file are at the same guest-physical address, the rest is at 4 GiB and above.
 *
 * Invariants: what map_entries() calls RAM is backed by a region; the reserved part of the
 * first MiB is backed too (it holds our tables), only the guest is asked to leave it alone.
 */
#include "machine/map.h"

#include "base/err.h"
#include "base/memfile.h"
#include "machine/board_map.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static struct map_entry reserve(const struct board_place *p)
{
	return (struct map_entry){p->base, p->size, MAP_RESERVED};
}

unsigned map_entries(const struct board_map *board, uint64_t memory, struct map_entry out[MAP_ENTRIES_MAX])
{
	gpa_t tables = board->at[BOARD_TABLES].base;
	unsigned n = 0;

	out[n++] = (struct map_entry){0, MAP_EBDA, MAP_RAM};
	out[n++] = (struct map_entry){MAP_EBDA, 0xa0000 - MAP_EBDA, MAP_RESERVED};
	out[n++] = (struct map_entry){tables, MAP_BIOS_END - tables, MAP_RESERVED};
	out[n++] = (struct map_entry){MAP_BIOS_END, map_low_end(memory) - MAP_BIOS_END,
				      MAP_RAM};
	out[n++] = reserve(&board->at[BOARD_ECAM]);
	out[n++] = reserve(&board->at[BOARD_KVM_PAGES]);
	if (memory > MAP_HOLE)
		out[n++] = (struct map_entry){MAP_HIGH, memory - MAP_HOLE, MAP_RAM};
	return n;
}

unsigned map_phys_bits(uint64_t memory)
{
	unsigned bits = 36;

	while (memory > MAP_HOLE && MAP_HIGH + (memory - MAP_HOLE) > 1ull << bits)
		bits++;
	return bits;
}

static int add_regions(struct map_ram *ram, struct guest_mem *mem, struct err *err)
{
	struct guest_region low = {
		.base = 0,
		.size = map_low_end(ram->size),
		.host = ram->host,
		.name = "ram",
	};
	struct guest_region high = {
		.base = MAP_HIGH,
		.size = ram->size - low.size,
		.host = ram->host + low.size,
		.name = "ram above 4 GiB",
	};
	int rc = guest_mem_add(mem, &low, err);

	if (rc == 0 && high.size)
		rc = guest_mem_add(mem, &high, err);
	return rc;
}

/* At this address, if it is not NULL. */
static void *map(void *at, uint64_t size, int fd)
{
	void *host = mmap(at, size, PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_NORESERVE | (at ? MAP_FIXED : 0), fd, 0);

	if (host == MAP_FAILED)
		return host;
	/* Huge pages make the guest's own page walks and ours shorter; a host that does
	 * not have them for shared memory says no, and nothing is lost. */
	madvise(host, size, MADV_HUGEPAGE);
	/* Who reads a core file looks for a bug of ours; and a guest's secrets are its own. */
	madvise(host, size, MADV_DONTDUMP);
	return host;
}

int map_ram_create(struct map_ram *ram, uint64_t size, int fd, struct guest_mem *mem,
		   struct err *err)
{
	int rc;

	*ram = (struct map_ram){.fd = -1, .size = size};
	ram->fd = fd < 0 ? memfile_create("lodge-ram", size) : fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (fd >= 0 && ram->fd < 0)
		ram->fd = -errno;
	if (ram->fd < 0)
		return err_sys(err, -ram->fd, ram->fd == -EFBIG
			       ? "guest memory of %llu MiB is more than ulimit -f allows"
			       : "guest memory of %llu MiB",
			       (unsigned long long)size >> 20);
	ram->host = map(NULL, size, ram->fd);
	if (ram->host == MAP_FAILED) {
		ram->host = NULL;
		rc = err_sys(err, errno, "guest memory of %llu MiB",
			     (unsigned long long)size >> 20);
		map_ram_destroy(ram);
		return rc;
	}
	rc = add_regions(ram, mem, err);
	if (rc < 0)
		map_ram_destroy(ram);
	return rc;
}

int map_ram_renew(struct map_ram *ram)
{
	int fd = memfile_create("lodge-ram", ram->size), before = ram->fd;

	if (fd < 0)
		return fd;
	if (map(ram->host, ram->size, fd) == MAP_FAILED) {
		int rc = -errno;

		close(fd);
		return rc;
	}
	ram->fd = fd;
	return before;
}

void map_ram_clear(struct map_ram *ram)
{
	if (ram->host && madvise(ram->host, ram->size, MADV_REMOVE) != 0)
		memset(ram->host, 0, ram->size);
}

void map_ram_destroy(struct map_ram *ram)
{
	if (ram->host)
		munmap(ram->host, ram->size);
	if (ram->fd >= 0)
		close(ram->fd);
	free((void *)ram->written);
	*ram = (struct map_ram){.fd = -1};
}

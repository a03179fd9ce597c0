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
 * The hole below 4 GiB splits it in two as the guest sees it: bytes up to the hole (BOARD_RAM_LOW) are at the
 * same guest-physical address, the rest is at 4 GiB and above.
 *
 * A board with a ROM has it behind the RAM in the file, with a flash chip before it and the page of the generation ID after it, and at the end of the first 4 GiB as the guest sees it, as large as
 * the board has room for it. Then RAM between 640 KiB and 1 MiB is regions of its own: shadows, which lead to
 * RAM or to the ROM's last bytes as firmware wishes, and nothing where a PC has its screen.
 *
 * Invariants: without firmware, what map_entries() calls RAM is backed by a region; the reserved part of the
 * first MiB is backed too (it holds our tables), only the guest is asked to leave it alone. With firmware, screen and shadows
 * are in what it calls RAM, and firmware knows.
 */
#include "machine/map.h"

#include "base/err.h"
#include "base/memfile.h"
#include "dev/pci/mch.h"
#include "machine/board_map.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static struct map_entry reserve(const struct board_place *p)
{
	return (struct map_entry){p->base, p->size, MAP_RESERVED};
}

gpa_t map_low_end(const struct board_map *board, uint64_t memory)
{
	uint64_t most = board->at[BOARD_RAM_LOW].size;

	return memory < most ? memory : most;
}

/* What is below 1 MiB, where there is no firmware to know it. */
static unsigned first_entries(const struct board_map *board, struct map_entry *out)
{
	gpa_t tables = board->at[BOARD_TABLES].base;

	out[0] = (struct map_entry){0, MAP_EBDA, MAP_RAM};
	out[1] = (struct map_entry){MAP_EBDA, MAP_SCREEN - MAP_EBDA, MAP_RESERVED};
	out[2] = (struct map_entry){tables, MAP_BIOS_END - tables, MAP_RESERVED};
	return 3;
}

unsigned map_entries(const struct board_map *board, uint64_t memory, struct map_entry out[MAP_ENTRIES_MAX])
{
	uint64_t low = map_low_end(board, memory);
	bool firmware = board->at[BOARD_ROM].what;
	unsigned n = firmware ? 0 : first_entries(board, out);
	gpa_t from = firmware ? 0 : MAP_BIOS_END;

	out[n++] = (struct map_entry){from, low - from, MAP_RAM};
	if (board->at[BOARD_ECAM].what)
		out[n++] = reserve(&board->at[BOARD_ECAM]);
	out[n++] = reserve(&board->at[BOARD_KVM_PAGES]);
	if (memory > low)
		out[n++] = (struct map_entry){MAP_HIGH, memory - low, MAP_RAM};
	return n;
}

unsigned map_phys_bits(const struct board_map *board, uint64_t memory)
{
	uint64_t high = memory - map_low_end(board, memory);
	unsigned bits = 36;

	while (high && MAP_HIGH + high > 1ull << bits)
		bits++;
	return bits;
}

uint64_t map_size(const struct board_map *board, uint64_t memory, uint64_t video)
{
	const struct board_place *at = board->at;

	return memory + (at[BOARD_ROM].what ? at[BOARD_FLASH].size + at[BOARD_ROM].size + at[BOARD_GENID].size : 0) + video;
}

gpa_t map_shadow_base(unsigned n)
{
	return MCH_SHADOW_BASE + (gpa_t)n * MCH_SHADOW_SIZE;
}

static uint64_t shadow_size(unsigned n)
{
	return n == MCH_SHADOWS - 1 ? MAP_BIOS_END - map_shadow_base(n) : MCH_SHADOW_SIZE;
}

uint8_t *map_shadow_rom(const struct map_ram *ram, const struct board_map *board, unsigned n)
{
	gpa_t base = map_shadow_base(n), first = MAP_BIOS_END - MAP_BIOS;

	return base < first ? NULL : ram->rom + (board->at[BOARD_ROM].size - MAP_BIOS) + (base - first);
}

static int add(struct guest_mem *mem, const char *name, gpa_t base, uint64_t size, uint8_t *host, struct err *err)
{
	return guest_mem_add(mem, &(struct guest_region){.base = base, .size = size, .host = host, .name = name}, err);
}

/* As after a reset. */
static int add_shadow(struct map_ram *ram, const struct board_map *board, unsigned n, struct guest_mem *mem, struct err *err)
{
	uint8_t *rom = map_shadow_rom(ram, board, n);
	struct guest_region r = {
		.base = rom ? map_shadow_base(n) : GUEST_NOWHERE,
		.size = shadow_size(n),
		.host = rom ? rom : ram->host + map_shadow_base(n),
		.readonly = true,
		.changes = true,
		.name = "shadow",
	};

	return guest_mem_add(mem, &r, err);
}

static int add_flash(struct map_ram *ram, const struct board_map *board, struct guest_mem *mem, struct err *err)
{
	const struct board_place *p = &board->at[BOARD_FLASH];
	struct guest_region r = {
		.base = p->base, .size = p->size, .host = ram->flash, .readonly = true, .changes = true, .name = "flash",
	};

	ram->variables = mem->n;
	return guest_mem_add(mem, &r, err);
}

static int add_rom(const struct board_place *p, uint8_t *host, struct guest_mem *mem, struct err *err)
{
	struct guest_region r = {.base = p->base, .size = p->size, .host = host, .readonly = true, .name = p->what};

	return guest_mem_add(mem, &r, err);
}

/* RAM in one piece below the hole; or in pieces around and in the shadows. */
static int add_low(struct map_ram *ram, const struct board_map *board, uint64_t low, struct guest_mem *mem, struct err *err)
{
	int rc;

	if (!ram->rom)
		return add(mem, "ram", 0, low, ram->host, err);
	if ((rc = add(mem, "ram", 0, MAP_SCREEN, ram->host, err)) < 0 ||
	    (rc = add(mem, "ram above 1 MiB", MAP_BIOS_END, low - MAP_BIOS_END, ram->host + MAP_BIOS_END, err)) < 0)
		return rc;
	ram->shadow = mem->n;
	for (unsigned i = 0; rc == 0 && i < MCH_SHADOWS; i++)
		rc = add_shadow(ram, board, i, mem, err);
	if (rc == 0)
		rc = add_flash(ram, board, mem, err);
	if (rc == 0)
		rc = add_rom(&board->at[BOARD_ROM], ram->rom, mem, err);
	return rc < 0 ? rc : add_rom(&board->at[BOARD_GENID], ram->genid, mem, err);
}

static int add_screen(struct map_ram *ram, struct guest_mem *mem, struct err *err)
{
	struct guest_region r = {
		.base = GUEST_NOWHERE, .size = MAP_VRAM, .host = ram->vram, .changes = true, .name = "video memory",
	};

	ram->screen = mem->n;
	return guest_mem_add(mem, &r, err);
}

static int add_regions(struct map_ram *ram, const struct board_map *board, uint64_t memory, struct guest_mem *mem,
		       struct err *err)
{
	uint64_t low = map_low_end(board, memory);
	int rc = add_low(ram, board, low, mem, err);

	if (rc == 0 && memory > low)
		rc = add(mem, "ram above 4 GiB", MAP_HIGH, memory - low, ram->host + low, err);
	return rc < 0 || !ram->vram ? rc : add_screen(ram, mem, err);
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

int map_ram_create(struct map_ram *ram, const struct board_map *board, uint64_t memory, uint64_t video, int fd,
		   struct guest_mem *mem, struct err *err)
{
	uint64_t size = map_size(board, memory, video);
	struct stat st;
	int rc;

	*ram = (struct map_ram){.fd = -1, .size = size};
	ram->fd = fd < 0 ? memfile_create("lodge-ram", size) : fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (fd >= 0 && ram->fd < 0)
		ram->fd = -errno;
	if (fd >= 0 && (fstat(fd, &st) < 0 || (uint64_t)st.st_size != size)) {
		map_ram_destroy(ram);
		return err_set(err, EINVAL, "it has other memory than it says");
	}
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
	ram->memory = memory;
	if (board->at[BOARD_ROM].what) {
		ram->flash = ram->host + memory;
		ram->rom = ram->flash + board->at[BOARD_FLASH].size;
		ram->genid = ram->rom + board->at[BOARD_ROM].size;
	}
	if (video)
		ram->vram = ram->host + size - video;
	if (video > MAP_VRAM)
		ram->pictures = ram->vram + MAP_VRAM;
	rc = add_regions(ram, board, memory, mem, err);
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
	if (ram->host && madvise(ram->host, ram->memory, MADV_REMOVE) != 0)
		memset(ram->host, 0, ram->memory);
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

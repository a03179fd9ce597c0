/* SPDX-License-Identifier: MIT */
/*
 * See firmware.h. What firmware wants to know, and where it says so:
 *
 *	key 5, key 15            how many processors: there are, there can be
 *	etc/e820                 RAM, and what is reserved in between
 *	etc/acpi/tables, rsdp    the tables, which it puts into RAM
 *	etc/table-loader         how: which bytes of them are pointers and checksums
 *	etc/smbios/...           the same, by rules of its own
 *	bootorder                disks and CD drives, as Open Firmware would name them (drives.c)
 *	etc/sercon-port          where its screen is, if there is no screen
 *	pci1234,1111.rom         what drives a screen; pci1af4,1050.rom: of virtio
 *
 * What boots from a network card is in the card's own ROM, where all firmware looks for it.
 *
 * The loader's commands are QEMU's (hw/acpi/bios-linker-loader.c has the form): 128 bytes each, a number and then files' names
 * of 56 bytes.
 */
#include "machine/firmware.h"

#include "base/bytes.h"
#include "base/err.h"
#include "base/macros.h"
#include "dev/flash.h"
#include "machine/private.h"
#include "machine/tables/shelf.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define TABLES "etc/acpi/tables"
#define RSDP   "etc/acpi/rsdp"

/* -- The ROM ---------------------------------------------------------------------------- */

static int load_image(struct machine *m, const struct blob *file, struct err *err)
{
	uint64_t room = m->map->at[BOARD_ROM].size;
	uint64_t at = (uint64_t)(m->ram.rom - m->ram.host);

	if (file->size == 0 || file->size % (4 * KiB) || file->size > room)
		return err_set(err, EINVAL, "firmware '%s' has %" PRIu64 " bytes: it must be a multiple of 4 KiB, and %" PRIu64
			       " KiB at most", file->path, file->size, room / KiB);
	return blob_copy(file, 0, m->ram.fd, at + room - file->size, file->size, err);
}

static int load_variables(struct machine *m, struct err *err)
{
	const struct blob file = {.role = "variables", .path = "", .fd = m->config.variables, .size = FLASH_SIZE};

	return blob_copy(&file, 0, m->ram.fd, (uint64_t)(m->ram.flash - m->ram.host), FLASH_SIZE, err);
}

int firmware_load(struct machine *m, struct err *err)
{
	struct blob file;
	int rc = blob_open(&file, "firmware", m->config.firmware, err);

	if (rc == 0)
		rc = load_image(m, &file, err);
	if (rc == 0)
		snprintf(m->boot_text, sizeof(m->boot_text), "firmware of %" PRIu64 " KiB", file.size / KiB);
	blob_close(&file);
	return rc < 0 || m->config.variables <= 0 ? rc : load_variables(m, err);
}

/* -- The loader's commands -------------------------------------------------------------- */

enum { ALLOCATE = 1, ADD_POINTER, ADD_CHECKSUM };
enum { ZONE_HIGH = 1, ZONE_FSEG };

#define COMMAND 128
#define NAME    56

struct script {
	uint8_t *at, *end;
	bool full;
};

static uint8_t *command(struct script *s, uint32_t number, const char *file)
{
	static uint8_t nowhere[COMMAND];
	uint8_t *p = s->at;

	if (s->end - s->at < COMMAND) {
		s->full = true;
		return nowhere + 4;
	}
	s->at += COMMAND;
	memset(p, 0, COMMAND);
	le32_put(p, number);
	memcpy(p + 4, file, strlen(file));
	return p + 4;
}

static void allocate(struct script *s, const char *file, uint32_t align, uint8_t zone)
{
	uint8_t *p = command(s, ALLOCATE, file);

	le32_put(p + NAME, align);
	p[NAME + 4] = zone;
}

/* At `at` of one file there is an offset into another, which becomes an address. */
static void add_pointer(struct script *s, const char *in, const char *to, uint32_t at, uint8_t width)
{
	uint8_t *p = command(s, ADD_POINTER, in);

	memcpy(p + NAME, to, strlen(to));
	le32_put(p + 2 * NAME, at);
	p[2 * NAME + 4] = width;
}

static void add_sum(struct script *s, const char *file, uint32_t at, uint32_t first, uint32_t len)
{
	uint8_t *p = command(s, ADD_CHECKSUM, file);

	le32_put(p + NAME, at);
	le32_put(p + NAME + 4, first);
	le32_put(p + NAME + 8, len);
}

static int write_script(struct script *s, const struct shelf *shelf, struct err *err)
{
	allocate(s, RSDP, 16, ZONE_FSEG);
	allocate(s, TABLES, 64, ZONE_HIGH);
	for (unsigned i = 0; i < shelf->n_pointers; i++)
		add_pointer(s, TABLES, TABLES, shelf->pointers[i].at, shelf->pointers[i].width);
	for (unsigned i = 0; i < shelf->n_tables; i++)
		add_sum(s, TABLES, shelf->tables[i].at + 9, shelf->tables[i].at, shelf->tables[i].len);
	add_pointer(s, RSDP, TABLES, ACPI_RSDP_XSDT, 8);
	add_sum(s, RSDP, ACPI_RSDP_SUM, 0, ACPI_RSDP_OLD);
	add_sum(s, RSDP, ACPI_RSDP_SUM_ALL, 0, ACPI_RSDP_SIZE);
	return s->full ? err_set(err, ENOSPC, "ACPI tables with more pointers than there is room for") : 0;
}

/* -- The items -------------------------------------------------------------------------- */

static void add(struct firmware *fw, const char *name, uint16_t key, const void *bytes, uint64_t size)
{
	fw->items[fw->n++] = (struct fw_cfg_item){.name = name, .key = key, .bytes = bytes, .size = (uint32_t)size};
}

static int add_acpi(struct firmware *fw, const struct tables_plan *plan, struct err *err)
{
	struct shelf shelf = {.host = fw->tables, .size = sizeof(fw->tables)};
	struct script script = {.at = fw->loader, .end = fw->loader + sizeof(fw->loader)};
	int rc = acpi_make(plan, &shelf, fw->rsdp, err);

	if (rc == 0)
		rc = write_script(&script, &shelf, err);
	if (rc < 0)
		return rc;
	add(fw, RSDP, 0, fw->rsdp, sizeof(fw->rsdp));
	add(fw, TABLES, 0, fw->tables, shelf.used);
	add(fw, "etc/table-loader", 0, fw->loader, (uint64_t)(script.at - fw->loader));
	return 0;
}

static int add_smbios(struct firmware *fw, const struct tables_plan *plan, struct err *err)
{
	int len = smbios_make(plan, fw->smbios, sizeof(fw->smbios), fw->anchor, err);

	if (len < 0)
		return len;
	add(fw, "etc/smbios/smbios-anchor", 0, fw->anchor, sizeof(fw->anchor));
	add(fw, "etc/smbios/smbios-tables", 0, fw->smbios, (uint64_t)len);
	return 0;
}

static void add_e820(struct firmware *fw, const struct machine *m)
{
	struct map_entry entries[MAP_ENTRIES_MAX];
	unsigned n = map_entries(m->map, m->config.memory, entries);

	for (unsigned i = 0; i < n; i++) {
		uint8_t *e = fw->e820 + (size_t)i * 20;

		le64_put(e, entries[i].base);
		le64_put(e + 8, entries[i].size);
		le32_put(e + 16, entries[i].type);
	}
	add(fw, "etc/e820", 0, fw->e820, (uint64_t)n * 20);
}

static void add_boot(struct firmware *fw, const struct machine *m)
{
	size_t len = firmware_boot_order(&m->config, fw->boot, sizeof(fw->boot));

	if (len)
		add(fw, "bootorder", 0, fw->boot, len);
}

/* As much of `room` as the file has; *len is 0 if it is not there. */
static int read_rom(const char *path, uint8_t *to, size_t room, uint32_t *len, struct err *err)
{
	struct blob rom;
	int rc;

	*len = 0;
	if (access(path, R_OK) < 0)
		return 0;
	rc = blob_open(&rom, "option ROM", path, err);
	if (rc == 0 && rom.size > room)
		rc = err_set(err, EINVAL, "option ROM '%s' has %" PRIu64 " bytes, and room for %zu", path, rom.size, room);
	if (rc == 0)
		rc = blob_read(&rom, 0, to, rom.size, err);
	if (rc == 0 && (rom.size < 2 || to[0] != 0x55 || to[1] != 0xaa))
		rc = err_set(err, EINVAL, "'%s' is no option ROM: it does not begin with 55 aa", path);
	if (rc == 0)
		*len = (uint32_t)rom.size;
	blob_close(&rom);
	return rc;
}

/* What drives the VGA adapter for firmware of the PC's kind lies beside that, in Debian's package; other firmware has a
 * driver. */
static int add_screen(struct firmware *fw, const struct machine *m, struct err *err)
{
	static const char *const names[] = {[MACHINE_VGA_STD] = "vgabios-stdvga.bin", [MACHINE_VGA_VIRTIO] = "vgabios-virtio.bin"};
	static const char *const files[] = {[MACHINE_VGA_STD] = "pci1234,1111.rom", [MACHINE_VGA_VIRTIO] = "pci1af4,1050.rom"};
	const char *name = names[m->config.vga];
	const char *slash = strrchr(m->config.firmware, '/');
	int dir = slash ? (int)(slash + 1 - m->config.firmware) : 0, rc;
	char path[PATH_MAX];
	uint32_t len;

	if (!m->config.screen || snprintf(path, sizeof(path), "%.*s%s", dir, m->config.firmware, name) >= (int)sizeof(path))
		return 0;
	rc = read_rom(path, fw->screen, sizeof(fw->screen), &len, err);
	if (len)
		add(fw, files[m->config.vga], 0, fw->screen, len);
	return rc;
}

/* A guest that goes on where there is no such file finds an empty ROM, which firmware passes over. */
static int read_net(struct firmware *fw, const struct machine *m, struct err *err)
{
	return m->config.net.rom ? read_rom(m->config.net.rom, fw->net, sizeof(fw->net), &fw->net_len, err) : 0;
}

int firmware_describe(const struct machine *m, struct firmware *fw, struct err *err)
{
	const struct tables_plan plan = {.map = m->map, .cpus = m->config.cpus, .memory = m->config.memory, .screen = m->config.screen,
					  .hpet = m->config.hpet};
	int rc;

	le16_put(fw->cpus, (uint16_t)m->config.cpus);
	add(fw, NULL, FW_CFG_CPUS, fw->cpus, sizeof(fw->cpus));
	add(fw, NULL, FW_CFG_CPUS_MAX, fw->cpus, sizeof(fw->cpus));
	add_e820(fw, m);
	rc = add_acpi(fw, &plan, err);
	if (rc == 0)
		rc = add_smbios(fw, &plan, err);
	if (rc < 0)
		return rc;
	add_boot(fw, m);
	le64_put(fw->serial, m->map->at[BOARD_COM1].base);
	add(fw, "etc/sercon-port", 0, fw->serial, sizeof(fw->serial));
	rc = add_screen(fw, m, err);
	return rc < 0 ? rc : read_net(fw, m, err);
}

/* SPDX-License-Identifier: MIT */
/*
 * The table of the board, and what is asked of such a table.
 *
 * Three numbers follow from history and are no choice: a PC's chips are at the ports that IBM gave them, the
 * interrupt controllers where Intel put them, and reset begins 16 bytes below the end of the BIOS. All other
 * places are ours.
 */
#include "machine/board_map.h"

#include "base/err.h"
#include "base/macros.h"
#include "machine/map.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define ROW(part, space, base, size, line, n_lines, model, what) \
	[BOARD_##part] = {what, BOARD_##space, base, size, line, n_lines, model},

/* What every PC has, and where: both boards. */
#define PC_ROWS \
	ROW(IOAPIC,        MEMORY,  0xfec00000, 0x1000,         0, 0,  NULL,       "IOAPIC") \
	ROW(LAPIC,         MEMORY,  0xfee00000, 0x1000,         0, 0,  NULL,       "local APICs") \
	ROW(RAM_HIGH,      MEMORY,  MAP_HIGH,   MAP_MEMORY_MAX, 0, 0,  NULL,       "the rest of RAM") \
	ROW(PIC,           PORTS,   0x20,       2,              0, 0,  NULL,       "PIC") \
	ROW(PIT,           PORTS,   0x40,       4,              0, 1,  NULL,       "PIT") \
	ROW(I8042_DATA,    PORTS,   0x60,       1,              1, 1,  "i8042",    "keyboard; without one, reset only") \
	ROW(SPEAKER,       PORTS,   0x61,       1,              0, 0,  NULL,       "the PIT's gate and speaker") \
	ROW(I8042_COMMAND, PORTS,   0x64,       1,              12, 1, "i8042",    "keyboard controller; the line is the mouse's") \
	ROW(RTC,           PORTS,   0x70,       2,              8, 1,  "rtc",      "RTC") \
	ROW(PORT92,        PORTS,   0x92,       1,              0, 0,  "port92",   "system port: reset only") \
	ROW(PIC_SLAVE,     PORTS,   0xa0,       2,              0, 0,  NULL,       "PIC, the second") \
	ROW(IDE_SECOND,    PORTS,   0x170,      8,              15, 1, "ide",      "IDE, with bus=ide: the second cable") \
	ROW(DISPI,         PORTS,   0x1ce,      3,              0, 0,  "vga",      "VGA, with --display: DISPI") \
	ROW(IDE,           PORTS,   0x1f0,      8,              14, 1, "ide",      "IDE, with bus=ide: the first cable") \
	ROW(IDE_SECOND_CONTROL, PORTS, 0x376,   1,              0, 0,  "ide",      "IDE: control") \
	ROW(VGA,           PORTS,   0x3b0,      0x30,           0, 0,  "vga",      "VGA, with --display") \
	ROW(IDE_CONTROL,   PORTS,   0x3f6,      1,              0, 0,  "ide",      "IDE: control") \
	ROW(COM1,          PORTS,   0x3f8,      8,              4, 1,  "uart",     "COM1, a 16550A") \
	ROW(PVPANIC,       PORTS,   0x505,      1,              0, 0,  "pvpanic",  "pvpanic") \
	ROW(PCI_IO,        PORTS,   0xc000,     0x4000,         0, 0,  NULL,       "PCI: BARs")

const struct board_map board_direct = {"direct", {
	/*  part           space    base        size            line n model       what it is */
	ROW(RAM_LOW,       MEMORY,  0,          3 * GiB,        0, 0,  NULL,       "RAM, or less")
	ROW(VGA_WINDOW,    IN_RAM,  0xa0000,    0x20000,        0, 0,  "vga",      "VGA, with --display: hidden by RAM")
	ROW(TABLES,        IN_RAM,  0xe0000,    0x10000,        0, 0,  NULL,       "ACPI tables")
	ROW(RSDP,          IN_RAM,  0xf0000,    0x40,           0, 0,  NULL,       "RSDP")
	ROW(SMBIOS,        IN_RAM,  0xf0040,    0x1000,         0, 0,  NULL,       "SMBIOS")
	ROW(GENID,         IN_RAM,  0xf2000,    16,             0, 0,  "vmgenid",  "VM generation ID")
	ROW(VECTOR,        IN_RAM,  0xffff0,    16,             0, 0,  NULL,       "code that resets the machine")
	ROW(PCI_LOW,       MEMORY,  0xc0000000, 0x20000000,     0, 0,  NULL,       "PCI: BARs")
	ROW(ECAM,          MEMORY,  0xe0000000, 0x100000,       0, 0,  "pci-host", "PCI: configuration space of bus 0")
	ROW(PCI_HIGH,      MEMORY,  0xf0000000, 0x0e000000,     0, 0,  NULL,       "PCI: more BARs")
	ROW(KVM_PAGES,     MEMORY,  0xfffbc000, 0x4000,         0, 0,  NULL,       "pages of the kernel's KVM")
	ROW(PM,            PORTS,   0x600,      0x40,           9, 1,  "acpi_pm",  "ACPI: PM1a, PM timer, GPE0")
	ROW(PCI_ADDRESS,   PORTS,   0xcf8,      4,              16, 4, "pci-host", "PCI: configuration address; 0xcf9: reset")
	ROW(PCI_DATA,      PORTS,   0xcfc,      4,              0, 0,  "pci-host", "PCI: configuration data")
	PC_ROWS
}};

/* Where a PC with Intel's ICH9 has it, and firmware looks for it. */
const struct board_map board_q35 = {"q35", {
	/*  part           space    base        size            line n model       what it is */
	ROW(RAM_LOW,       MEMORY,  0,          2 * GiB,        0, 0,  NULL,       "RAM, or less")
	ROW(VGA_WINDOW,    IN_RAM,  0xa0000,    0x20000,        0, 0,  "vga",      "VGA, with --display")
	ROW(ECAM,          MEMORY,  0xb0000000, 0x10000000,     0, 0,  NULL,       "PCI: configuration space, where firmware puts it")
	ROW(PCI_LOW,       MEMORY,  0xc0000000, 0x3ec00000,     0, 0,  NULL,       "PCI: BARs")
	ROW(HPET,          MEMORY,  0xfed00000, 0x400,          20, 4, "hpet",     "HPET")
	ROW(GENID,         MEMORY,  0xfeffb000, 0x1000,         0, 0,  "vmgenid",  "VM generation ID")
	ROW(KVM_PAGES,     MEMORY,  0xfeffc000, 0x4000,         0, 0,  NULL,       "pages of the kernel's KVM")
	ROW(FLASH,         MEMORY,  0xffc00000, 0x84000,        0, 0,  "flash",    "firmware's variables")
	ROW(ROM,           MEMORY,  0xffc84000, 0x37c000,       0, 0,  NULL,       "firmware")
	ROW(DEBUGCON,      PORTS,   0x402,      1,              0, 0,  "debugcon", "what firmware says of itself")
	ROW(FW_CFG,        PORTS,   0x510,      12,             0, 0,  "fw_cfg",   "fw_cfg: selector, data, DMA")
	ROW(PM,            PORTS,   0x600,      0x80,           9, 1,  "acpi_pm",  "ACPI: PM1a, PM timer, GPE0")
	ROW(PCI_ADDRESS,   PORTS,   0xcf8,      4,              16, 4, "mch",      "PCI: configuration address; 0xcf9: reset")
	ROW(PCI_DATA,      PORTS,   0xcfc,      4,              0, 0,  "mch",      "PCI: configuration data")
	PC_ROWS
}};

static const struct board_map *const boards[] = {&board_direct, &board_q35};

const struct board_map *board_find(const char *name)
{
	for (unsigned i = 0; i < ARRAY_SIZE(boards); i++)
		if (strcmp(boards[i]->name, name) == 0)
			return boards[i];
	return NULL;
}

/* -- What is wrong with a table --------------------------------------------------------- */

static int check_place(const struct board_map *map, const struct board_place *p, struct err *err)
{
	const struct board_place *ram = &map->at[BOARD_RAM_LOW];

	if (p->size == 0 || board_last(p) < p->base || (p->space == BOARD_PORTS && board_last(p) > UINT16_MAX))
		return err_set(err, EINVAL, "the board: %s: %#" PRIx64 " bytes at %#" PRIx64 " are no place",
			       p->what, p->size, p->base);
	if (p->space == BOARD_IN_RAM && (p->base < ram->base || board_last(p) > board_last(ram)))
		return err_set(err, EINVAL, "the board: %s at %#" PRIx64 " is not in RAM", p->what, p->base);
	return 0;
}

static int check_pair(const struct board_place *p, const struct board_place *q, struct err *err)
{
	if (p->space == q->space && p->base <= board_last(q) && q->base <= board_last(p))
		return err_set(err, EINVAL, "the board: %s at %#" PRIx64 " overlaps %s at %#" PRIx64,
			       p->what, p->base, q->what, q->base);
	if (p->n_lines && q->n_lines && p->line < q->line + q->n_lines && q->line < p->line + p->n_lines)
		return err_set(err, EINVAL, "the board: %s has interrupt line %u, and so has %s", p->what,
			       p->line > q->line ? p->line : q->line, q->what);
	return 0;
}

int board_check(const struct board_map *map, struct err *err)
{
	int rc = 0;

	for (unsigned i = 0; i < BOARD_PARTS && rc == 0; i++) {
		if (!map->at[i].what)
			continue;
		rc = check_place(map, &map->at[i], err);
		for (unsigned j = 0; j < i && rc == 0; j++)
			if (map->at[j].what)
				rc = check_pair(&map->at[i], &map->at[j], err);
	}
	return rc;
}

/* -- For people -------------------------------------------------------------------------- */

static const char *lines(const struct board_place *p, char text[16])
{
	if (p->n_lines > 1)
		snprintf(text, 16, "%u to %u", p->line, p->line + p->n_lines - 1u);
	else
		snprintf(text, 16, "%u", p->line);
	return p->n_lines ? text : "-";
}

static void print_space(const struct board_map *map, bool ports, FILE *to)
{
	char line[16];

	fprintf(to, "| %s | to | what | line |\n|---|---|---|---|\n", ports ? "port" : "memory");
	for (const struct board_place *p = map->at; p < map->at + BOARD_PARTS; p++)
		if (p->what && (p->space == BOARD_PORTS) == ports)
			fprintf(to, "| `%#" PRIx64 "` | `%#" PRIx64 "` | %s | %s |\n", p->base, board_last(p),
				p->what, lines(p, line));
}

void board_print(const struct board_map *map, FILE *to)
{
	print_space(map, false, to);
	fprintf(to, "\n");
	print_space(map, true, to);
}

bool board_is_of(const struct board_place *p, const char *model)
{
	return p->model && (strcmp(p->model, model) == 0 || (strcmp(p->model, "vga") == 0 && strcmp(model, "virtio-vga") == 0));
}

static void print_model(const struct board_map *map, const char *model, FILE *to)
{
	static const char *const spaces[BOARD_SPACES] = {"memory", "memory", "ports"};
	char line[16];

	for (const struct board_place *p = map->at; p < map->at + BOARD_PARTS; p++) {
		if (!board_is_of(p, model))
			continue;
		fprintf(to, "on the board %s: %s %#" PRIx64 " to %#" PRIx64, map->name, spaces[p->space], p->base, board_last(p));
		fprintf(to, p->n_lines ? ", line %s\n" : "\n", lines(p, line));
	}
}

void board_print_model(const char *model, FILE *to)
{
	for (unsigned i = 0; i < ARRAY_SIZE(boards); i++)
		print_model(boards[i], model, to);
}

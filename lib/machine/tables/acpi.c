/* SPDX-License-Identifier: MIT */
/*
 * The ACPI tables (ACPI Specification, chapter 5), full and not hardware-reduced: stock
 * kernels are best tested with a PM timer, a fixed event block and an SCI, and those are a
 * page of code in dev/acpi_pm.c.
 *
 *	RSDP -> XSDT -> FADT -> DSDT  (dsdt.asl: methods)
 *	             |       -> FACS
 *	             -> MADT          (processors, IOAPIC, which ISA lines are where)
 *	             -> SSDT          (ssdt.c: devices, with their addresses and lines)
 *	             -> MCFG          (where PCI configuration space is in memory)
 *	             -> HPET          (where timers are, if there are some)
 *
 * start() makes the common header, finish() fills in length and checksum. All tables lie in one
 * shelf of 64 KiB, each at a multiple of 64 (the FACS wants that, the others do not mind).
 *
 * Interrupts: ISA line n is IOAPIC input n, but the timer, which is input 2 as on every PC;
 * the SCI is level, active high. Addresses and lines are the board's (machine/board_map.h).
 */
#include "machine/tables/tables.h"

#include "base/bytes.h"
#include "base/err.h"
#include "base/macros.h"
#include "dev/acpi_pm.h"
#include "dev/hpet.h"
#include "dev/pci/pci.h"
#include "machine/board_map.h"
#include "machine/tables/shelf.h"

#include <errno.h>
#include <string.h>

#include "dsdt.hex"

#define HEADER 36
#define OEM_ID "LODGE "
#define OEM_TABLE "BOARD   "

static uint8_t checksum(const uint8_t *p, uint32_t n)
{
	uint8_t sum = 0;

	while (n--)
		sum = (uint8_t)(sum + *p++);
	return (uint8_t)-sum;
}

/* -- FADT and FACS -------------------------------------------------------------------- */

/* Offsets into the FADT, with the specification's names. */
enum {
	FACS = 36,
	DSDT = 40,
	SCI_INT = 46,
	PM1A_EVT_BLK = 56,
	PM1A_CNT_BLK = 64,
	PM_TMR_BLK = 76,
	GPE0_BLK = 80,
	PM1_EVT_LEN = 88,
	PM1_CNT_LEN = 89,
	PM_TMR_LEN = 91,
	GPE0_BLK_LEN = 92,
	P_LVL2_LAT = 96,
	P_LVL3_LAT = 98,
	RTC_CENTURY = 108,
	IAPC_BOOT_ARCH = 109,
	FLAGS = 112,
	RESET_REG = 116,
	RESET_VALUE = 128,
	FADT_MINOR = 131,
	X_DSDT = 140,
	X_PM1A_EVT = 148,
	X_PM1A_CNT = 172,
	X_PM_TMR = 208,
	X_GPE0 = 220,
	FADT_SIZE = 268,
};

enum fadt_flags {
	WBINVD = 1u << 0,
	PROC_C1 = 1u << 2,
	SLP_BUTTON = 1u << 5, /* set: there is none in the fixed registers */
	TMR_VAL_EXT = 1u << 8,
	RESET_REG_SUP = 1u << 10,
};

enum boot_arch { LEGACY_DEVICES = 1u << 0, HAS_8042 = 1u << 1, NO_VGA = 1u << 2 };

enum space { IN_MEMORY, IN_PORTS };

/* A generic address: bits wide, accessed in units of 1 << (access - 1); 0: in any. */
static void put_address(uint8_t *p, enum space space, uint8_t bits, uint8_t access, uint64_t at)
{
	p[0] = (uint8_t)space;
	p[1] = bits;
	p[3] = access;
	le64_put(p + 4, at);
}

static void put_gas(uint8_t *p, uint8_t bits, uint8_t access, uint64_t port)
{
	put_address(p, IN_PORTS, bits, access, port);
}

static void fill_fadt(struct shelf *s, const struct tables_plan *plan, gpa_t facs, gpa_t dsdt)
{
	uint32_t at = s->used - HEADER;
	uint8_t *t = shelf_take(s, FADT_SIZE - HEADER) - HEADER;
	const struct board_map *map = plan->map;
	uint16_t pm = (uint16_t)map->at[BOARD_PM].base;

	if (s->full)
		return;
	shelf_note_pointer(s, at + FACS, 4);
	shelf_note_pointer(s, at + DSDT, 4);
	shelf_note_pointer(s, at + X_DSDT, 8);
	le32_put(t + FACS, (uint32_t)facs);
	le32_put(t + DSDT, (uint32_t)dsdt);
	le16_put(t + SCI_INT, map->at[BOARD_PM].line);
	le32_put(t + PM1A_EVT_BLK, pm + ACPI_PM1_EVT);
	le32_put(t + PM1A_CNT_BLK, pm + ACPI_PM1_CNT);
	le32_put(t + PM_TMR_BLK, pm + ACPI_PM_TMR);
	le32_put(t + GPE0_BLK, pm + ACPI_GPE0);
	t[PM1_EVT_LEN] = ACPI_PM1_EVT_LEN;
	t[PM1_CNT_LEN] = ACPI_PM1_CNT_LEN;
	t[PM_TMR_LEN] = ACPI_PM_TMR_LEN;
	t[GPE0_BLK_LEN] = ACPI_GPE0_LEN;
	le16_put(t + P_LVL2_LAT, 0xfff); /* no C2, no C3 */
	le16_put(t + P_LVL3_LAT, 0xfff);
	t[RTC_CENTURY] = 0x32;
	le16_put(t + IAPC_BOOT_ARCH, LEGACY_DEVICES | (plan->screen ? 0 : NO_VGA) |
		 (plan->screen || map->at[BOARD_ROM].what ? HAS_8042 : 0));
	le32_put(t + FLAGS,
		 WBINVD | PROC_C1 | SLP_BUTTON | TMR_VAL_EXT | RESET_REG_SUP);
	put_gas(t + RESET_REG, 8, 1, map->at[BOARD_PCI_ADDRESS].base + PCI_RST_CNT);
	t[RESET_VALUE] = PCI_RST_FULL;
	t[FADT_MINOR] = 1;
	le64_put(t + X_DSDT, dsdt);
	put_gas(t + X_PM1A_EVT, ACPI_PM1_EVT_LEN * 8, 2, pm + ACPI_PM1_EVT);
	put_gas(t + X_PM1A_CNT, ACPI_PM1_CNT_LEN * 8, 2, pm + ACPI_PM1_CNT);
	put_gas(t + X_PM_TMR, 32, 3, pm + ACPI_PM_TMR);
	put_gas(t + X_GPE0, ACPI_GPE0_LEN * 8, 1, pm + ACPI_GPE0);
}

static gpa_t put_facs(struct shelf *s)
{
	gpa_t at;
	uint8_t *t;

	s->used = align_up(s->used, 64u);
	at = s->base + s->used;
	t = shelf_take(s, 64);
	memcpy(t, "FACS", 4);
	le32_put(t + 4, 64);
	t[32] = 2;
	return at;
}

/* -- MADT ----------------------------------------------------------------------------- */

enum madt { MADT_LAPIC = 0, MADT_IOAPIC = 1, MADT_OVERRIDE = 2, MADT_LAPIC_NMI = 4 };

static void add_override(struct shelf *s, uint8_t isa, uint32_t gsi, uint16_t flags)
{
	shelf_add8(s, MADT_OVERRIDE);
	shelf_add8(s, 10);
	shelf_add8(s, 0); /* ISA */
	shelf_add8(s, isa);
	shelf_add32(s, gsi);
	shelf_add16(s, flags);
}

static void add_lapic(struct shelf *s, uint8_t id)
{
	shelf_add8(s, MADT_LAPIC);
	shelf_add8(s, 8);
	shelf_add8(s, id); /* the processor's _UID */
	shelf_add8(s, id); /* its APIC id */
	shelf_add32(s, 1); /* enabled */
}

static void fill_madt(struct shelf *s, const struct tables_plan *plan)
{
	const struct board_map *map = plan->map;
	uint8_t sci = map->at[BOARD_PM].line;

	shelf_add32(s, (uint32_t)map->at[BOARD_LAPIC].base);
	shelf_add32(s, 1); /* PCAT_COMPAT: there is a PIC, too */
	for (unsigned i = 0; i < plan->cpus; i++)
		add_lapic(s, (uint8_t)i);

	shelf_add8(s, MADT_IOAPIC);
	shelf_add8(s, 12);
	shelf_add8(s, 0); /* its id */
	shelf_add8(s, 0);
	shelf_add32(s, (uint32_t)map->at[BOARD_IOAPIC].base);
	shelf_add32(s, 0); /* its first input is this global number */

	add_override(s, map->at[BOARD_PIT].line, 2, 0); /* as the bus has it: edge, high */
	add_override(s, sci, sci, 0x000d); /* level, active high */

	shelf_add8(s, MADT_LAPIC_NMI);
	shelf_add8(s, 6);
	shelf_add8(s, 0xff); /* all processors */
	shelf_add16(s, 0);
	shelf_add8(s, 1); /* LINT1 */
}

/* -- MCFG ----------------------------------------------------------------------------- */

static void fill_mcfg(struct shelf *s, const struct board_map *map)
{
	shelf_take(s, 8);
	shelf_add32(s, (uint32_t)map->at[BOARD_ECAM].base);
	shelf_add32(s, 0);
	shelf_add16(s, 0); /* segment */
	shelf_add8(s, 0);  /* first bus */
	shelf_add8(s, (uint8_t)((map->at[BOARD_ECAM].size >> 20) - 1)); /* last bus */
	shelf_add32(s, 0);
}

/* -- HPET ----------------------------------------------------------------------------- */

static void fill_hpet(struct shelf *s, const struct board_map *map)
{
	uint8_t *address;

	shelf_add32(s, HPET_BLOCK_ID);
	address = shelf_take(s, 12);
	put_address(address, IN_MEMORY, 64, 0, map->at[BOARD_HPET].base);
	shelf_add8(s, 0);  /* its number */
	shelf_add16(s, 0); /* a tick that a period needs at least: any will do */
	shelf_add8(s, 0);  /* its page is shared with others */
}

/* -- The shelf ------------------------------------------------------------------------ */

static uint32_t start(struct shelf *s, const char *signature, uint8_t revision)
{
	uint32_t at;
	uint8_t *t;

	s->used = align_up(s->used, 64u);
	at = s->used;
	t = shelf_take(s, HEADER);
	memcpy(t, signature, 4);
	t[8] = revision;
	memcpy(t + 10, OEM_ID, 6);
	memcpy(t + 16, OEM_TABLE, 8);
	le32_put(t + 24, 1);
	memcpy(t + 28, "LODG", 4);
	le32_put(t + 32, 1);
	return at;
}

static gpa_t finish(struct shelf *s, uint32_t at)
{
	uint8_t *t = s->host + at;

	if (!s->full) {
		le32_put(t + 4, s->used - at);
		t[9] = checksum(t, s->used - at);
		shelf_note_table(s, at, s->used - at);
	}
	return s->base + at;
}

static gpa_t put_dsdt(struct shelf *s)
{
	gpa_t at;

	s->used = align_up(s->used, 64u);
	at = s->base + s->used;
	shelf_add_bytes(s, dsdt_aml_code, sizeof(dsdt_aml_code));
	return at;
}

static gpa_t put_xsdt(struct shelf *s, const struct tables_plan *plan)
{
	gpa_t facs = put_facs(s), dsdt = put_dsdt(s), tables[5];
	unsigned n = 4;
	uint32_t at;

	at = start(s, "FACP", 5);
	fill_fadt(s, plan, facs, dsdt);
	tables[0] = finish(s, at);
	at = start(s, "APIC", 3);
	fill_madt(s, plan);
	tables[1] = finish(s, at);
	at = start(s, "SSDT", 2);
	ssdt_fill(s, plan);
	tables[2] = finish(s, at);
	at = start(s, "MCFG", 1);
	fill_mcfg(s, plan->map);
	tables[3] = finish(s, at);
	if (plan->hpet) {
		at = start(s, "HPET", 1);
		fill_hpet(s, plan->map);
		tables[n++] = finish(s, at);
	}

	at = start(s, "XSDT", 1);
	for (unsigned i = 0; i < n; i++) {
		shelf_note_pointer(s, s->used, 8);
		le64_put(shelf_take(s, 8), tables[i]);
	}
	return finish(s, at);
}

static void make_rsdp(uint8_t r[ACPI_RSDP_SIZE], gpa_t xsdt)
{
	memset(r, 0, ACPI_RSDP_SIZE);
	memcpy(r, "RSD PTR ", 8);
	memcpy(r + 9, OEM_ID, 6);
	r[15] = 2;
	le32_put(r + 20, ACPI_RSDP_SIZE);
	le64_put(r + ACPI_RSDP_XSDT, xsdt);
	r[ACPI_RSDP_SUM] = checksum(r, ACPI_RSDP_OLD);
	r[ACPI_RSDP_SUM_ALL] = checksum(r, ACPI_RSDP_SIZE);
}

static int fill(struct shelf *s, const struct tables_plan *plan, uint8_t rsdp[ACPI_RSDP_SIZE], struct err *err)
{
	make_rsdp(rsdp, put_xsdt(s, plan));
	if (s->full)
		return err_set(err, ENOSPC,
			       "ACPI tables for %u CPUs do not fit into %u KiB",
			       plan->cpus, s->size >> 10);
	return 0;
}

int acpi_put(const struct tables_plan *plan, struct err *err)
{
	const struct board_place *place = &plan->map->at[BOARD_TABLES];
	struct shelf s = {
		.host = guest_range(plan->mem, place->base, place->size),
		.base = place->base,
		.size = (uint32_t)place->size,
	};
	uint8_t rsdp[ACPI_RSDP_SIZE];
	int rc;

	if (!s.host)
		return err_set(err, EFAULT, "no guest memory for ACPI tables");
	rc = fill(&s, plan, rsdp, err);
	if (rc == 0 && guest_write(plan->mem, plan->map->at[BOARD_RSDP].base, rsdp, sizeof(rsdp)) < 0)
		rc = err_set(err, EFAULT, "no guest memory for the RSDP");
	return rc;
}

int acpi_make(const struct tables_plan *plan, struct shelf *s, uint8_t rsdp[ACPI_RSDP_SIZE], struct err *err)
{
	int rc;

	s->base = 0;
	rc = fill(s, plan, rsdp, err);
	if (rc < 0)
		return rc;
	/* Firmware puts the sum of all bytes there, not of all others. */
	for (unsigned i = 0; i < s->n_tables; i++)
		s->host[s->tables[i].at + 9] = 0;
	rsdp[ACPI_RSDP_SUM] = rsdp[ACPI_RSDP_SUM_ALL] = 0;
	return 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * The ACPI tables (ACPI Specification, chapter 5), full and not hardware-reduced: stock
 * kernels are best tested with a PM timer, a fixed event block and an SCI, and those are a
 * page of code in dev/acpi_pm.c.
 *
 *	RSDP -> XSDT -> FADT -> DSDT  (dsdt.asl, the board)
 *	             |       -> FACS
 *	             -> MADT          (processors, IOAPIC, which ISA lines are where)
 *	             -> SSDT          (a device object for each processor)
 *	             -> MCFG          (where PCI configuration space is in memory)
 *
 * A table is a row in layout[]; a row's function appends the body behind the common header,
 * and finish() fills in length and checksum. All tables lie in one 64 KiB shelf at
 * MAP_TABLES, each at a multiple of 64 (the FACS wants that, the others do not mind).
 *
 * Interrupts: ISA line n is IOAPIC input n, but the timer, which is input 2 as on every PC;
 * the SCI is input 9, level, active high. PCI lines are inputs 16 to 19 (dsdt.asl: _PRT).
 */
#include "machine/tables/tables.h"

#include "base/bytes.h"
#include "base/err.h"
#include "base/macros.h"
#include "dev/acpi_pm.h"
#include "machine/map.h"

#include <errno.h>
#include <string.h>

#include "dsdt.hex"

#define HEADER 36
#define OEM_ID "LODGE "
#define OEM_TABLE "BOARD   "
#define SCI 9

/* Bytes being laid out one after the other. Overflow is remembered, and said once. */
struct shelf {
	uint8_t *host;
	gpa_t base;
	uint32_t used, size;
	bool full;
};

static uint8_t *take(struct shelf *s, uint32_t n)
{
	static uint8_t nowhere[4096];
	uint8_t *p = s->host + s->used;

	if (n > s->size - s->used) {
		s->full = true;
		return nowhere; /* SAFE: no caller takes more than HEADER + 256 at once */
	}
	memset(p, 0, n);
	s->used += n;
	return p;
}

static void add8(struct shelf *s, uint8_t v)
{
	*take(s, 1) = v;
}

static void add16(struct shelf *s, uint16_t v)
{
	le16_put(take(s, 2), v);
}

static void add32(struct shelf *s, uint32_t v)
{
	le32_put(take(s, 4), v);
}

static void add_bytes(struct shelf *s, const void *from, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		add8(s, ((const uint8_t *)from)[i]);
}

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

enum boot_arch { LEGACY_DEVICES = 1u << 0, NO_VGA = 1u << 2 };

/* A generic address: system I/O, bits wide, accessed in units of 1 << (access - 1). */
static void put_gas(uint8_t *p, uint8_t bits, uint8_t access, uint64_t port)
{
	p[0] = 1;
	p[1] = bits;
	p[3] = access;
	le64_put(p + 4, port);
}

static void fill_fadt(struct shelf *s, gpa_t facs, gpa_t dsdt)
{
	uint8_t *t = take(s, FADT_SIZE - HEADER) - HEADER;
	uint16_t pm = ACPI_PM_PORT;

	if (s->full)
		return;
	le32_put(t + FACS, (uint32_t)facs);
	le32_put(t + DSDT, (uint32_t)dsdt);
	le16_put(t + SCI_INT, SCI);
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
	le16_put(t + IAPC_BOOT_ARCH, LEGACY_DEVICES | NO_VGA);
	le32_put(t + FLAGS,
		 WBINVD | PROC_C1 | SLP_BUTTON | TMR_VAL_EXT | RESET_REG_SUP);
	put_gas(t + RESET_REG, 8, 1, 0xcf9);
	t[RESET_VALUE] = 0x0e;
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
	t = take(s, 64);
	memcpy(t, "FACS", 4);
	le32_put(t + 4, 64);
	t[32] = 2;
	return at;
}

/* -- MADT ----------------------------------------------------------------------------- */

enum madt { MADT_LAPIC = 0, MADT_IOAPIC = 1, MADT_OVERRIDE = 2, MADT_LAPIC_NMI = 4 };

static void add_override(struct shelf *s, uint8_t isa, uint32_t gsi, uint16_t flags)
{
	add8(s, MADT_OVERRIDE);
	add8(s, 10);
	add8(s, 0); /* ISA */
	add8(s, isa);
	add32(s, gsi);
	add16(s, flags);
}

static void add_lapic(struct shelf *s, uint8_t id)
{
	add8(s, MADT_LAPIC);
	add8(s, 8);
	add8(s, id); /* the processor's _UID */
	add8(s, id); /* its APIC id */
	add32(s, 1); /* enabled */
}

static void fill_madt(struct shelf *s, const struct tables_plan *plan)
{
	add32(s, MAP_LAPIC);
	add32(s, 1); /* PCAT_COMPAT: there is a PIC, too */
	for (unsigned i = 0; i < plan->cpus; i++)
		add_lapic(s, (uint8_t)i);

	add8(s, MADT_IOAPIC);
	add8(s, 12);
	add8(s, 0); /* its id */
	add8(s, 0);
	add32(s, MAP_IOAPIC);
	add32(s, 0); /* its first input is this global number */

	add_override(s, 0, 2, 0);         /* the timer; as the bus has it: edge, high */
	add_override(s, SCI, SCI, 0x000d); /* level, active high */

	add8(s, MADT_LAPIC_NMI);
	add8(s, 6);
	add8(s, 0xff); /* all processors */
	add16(s, 0);
	add8(s, 1); /* LINT1 */
}

/* -- SSDT: AML by hand ---------------------------------------------------------------- */

/*
 *	Device (Cnnn) { Name (_HID, "ACPI0007")  Name (_UID, nnn) }
 *
 * in the bytes of the specification's chapter 20. A package length counts itself.
 */
static void add_processor(struct shelf *s, unsigned id)
{
	static const char hex[] = "0123456789ABCDEF";
	uint8_t body[] = {
		0x5b, 0x82, 0x1c,                          /* DeviceOp, length 28 */
		'C', '0', (uint8_t)hex[id >> 4 & 15], (uint8_t)hex[id & 15],
		0x08, '_', 'H', 'I', 'D', 0x0d,            /* NameOp, StringPrefix */
		'A', 'C', 'P', 'I', '0', '0', '0', '7', 0,
		0x08, '_', 'U', 'I', 'D', 0x0a, (uint8_t)id, /* NameOp, BytePrefix */
	};

	_Static_assert(sizeof(body) == 2 + 0x1b, "the package length is wrong");
	body[2] = sizeof(body) - 2;
	add_bytes(s, body, sizeof(body));
}

static void fill_ssdt(struct shelf *s, const struct tables_plan *plan)
{
	uint32_t len = 2 + 5 + plan->cpus * 29; /* two bytes of length, "\_SB_", devices */

	add8(s, 0x10); /* ScopeOp */
	add8(s, (uint8_t)(0x40 | (len & 0x0f)));
	add8(s, (uint8_t)(len >> 4));
	add_bytes(s, "\\_SB_", 5);
	for (unsigned i = 0; i < plan->cpus; i++)
		add_processor(s, i);
}

/* -- MCFG ----------------------------------------------------------------------------- */

static void fill_mcfg(struct shelf *s)
{
	take(s, 8);
	add32(s, MAP_ECAM);
	add32(s, 0);
	add16(s, 0); /* segment */
	add8(s, 0);  /* first bus */
	add8(s, 0);  /* last bus */
	add32(s, 0);
}

/* -- The shelf ------------------------------------------------------------------------ */

static uint32_t start(struct shelf *s, const char *signature, uint8_t revision)
{
	uint32_t at;
	uint8_t *t;

	s->used = align_up(s->used, 64u);
	at = s->used;
	t = take(s, HEADER);
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
	}
	return s->base + at;
}

static gpa_t put_dsdt(struct shelf *s)
{
	gpa_t at;

	s->used = align_up(s->used, 64u);
	at = s->base + s->used;
	add_bytes(s, dsdt_aml_code, sizeof(dsdt_aml_code));
	return at;
}

static gpa_t put_xsdt(struct shelf *s, const struct tables_plan *plan)
{
	gpa_t facs = put_facs(s), dsdt = put_dsdt(s), tables[4];
	uint32_t at;

	at = start(s, "FACP", 5);
	fill_fadt(s, facs, dsdt);
	tables[0] = finish(s, at);
	at = start(s, "APIC", 3);
	fill_madt(s, plan);
	tables[1] = finish(s, at);
	at = start(s, "SSDT", 2);
	fill_ssdt(s, plan);
	tables[2] = finish(s, at);
	at = start(s, "MCFG", 1);
	fill_mcfg(s);
	tables[3] = finish(s, at);

	at = start(s, "XSDT", 1);
	for (unsigned i = 0; i < ARRAY_SIZE(tables); i++)
		le64_put(take(s, 8), tables[i]);
	return finish(s, at);
}

static int put_rsdp(const struct guest_mem *mem, gpa_t xsdt)
{
	uint8_t r[36] = "RSD PTR ";

	memcpy(r + 9, OEM_ID, 6);
	r[15] = 2;
	le32_put(r + 20, sizeof(r));
	le64_put(r + 24, xsdt);
	r[8] = checksum(r, 20);
	r[32] = checksum(r, sizeof(r));
	return guest_write(mem, MAP_RSDP, r, sizeof(r));
}

int acpi_put(const struct tables_plan *plan, struct err *err)
{
	struct shelf s = {
		.host = guest_range(plan->mem, MAP_TABLES, MAP_TABLES_SIZE),
		.base = MAP_TABLES,
		.size = MAP_TABLES_SIZE,
	};
	gpa_t xsdt;

	if (!s.host)
		return err_set(err, EFAULT, "no guest memory for ACPI tables");
	xsdt = put_xsdt(&s, plan);
	if (s.full)
		return err_set(err, ENOSPC,
			       "ACPI tables for %u CPUs do not fit into %u KiB",
			       plan->cpus, s.size >> 10);
	if (put_rsdp(plan->mem, xsdt) < 0)
		return err_set(err, EFAULT, "no guest memory for the RSDP");
	return 0;
}

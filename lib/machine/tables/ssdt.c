/* SPDX-License-Identifier: MIT */
/*
 * The SSDT: what of the board's description has numbers, made from the board's table; what is code is in dsdt.asl.
 *
 *	\_S5                     what switches the machine off
 *	\_SB.PCI0._CRS, _PRT     the windows of the PCI bus, and where its pins lead
 *	\_SB.PCI0.COM1, RTC      chips that cannot be found by looking: what they are, ports, line
 *	\_SB.PEVT, VGEN          the same without a bus: pvpanic, VM generation ID
 *	\_SB.HPET                timers in memory
 *	\_SB.MBRD                what nobody else may be given
 *	\_SB.C00 ..              the processors
 */
#include "machine/tables/tables.h"

#include "dev/acpi_pm.h"
#include "dev/pci/pci.h"
#include "machine/board_map.h"
#include "machine/map.h"
#include "machine/tables/shelf.h"

#include <stdio.h>

static const struct board_place *at(const struct tables_plan *plan, enum board_part part)
{
	return &plan->map->at[part];
}

static void add_name_int(struct shelf *s, const char *name, uint32_t v)
{
	aml_name(s, name);
	aml_int(s, v);
}

/* -- What switches it off ----------------------------------------------------------------- */

static void add_s5(struct shelf *s)
{
	uint32_t package;

	aml_name(s, "\\_S5_");
	package = aml_package(s, 4);
	aml_int(s, ACPI_PM_S5);
	aml_int(s, ACPI_PM_S5);
	aml_int(s, 0);
	aml_int(s, 0);
	aml_end(s, package);
}

/* -- PCI ---------------------------------------------------------------------------------- */

/* Buses, as many as configuration space in memory has; all ports but those of its configuration space; where BARs may be. */
static void add_pci_windows(struct shelf *s, const struct tables_plan *plan)
{
	const struct board_place *low = at(plan, BOARD_PCI_LOW), *high = at(plan, BOARD_PCI_HIGH);
	const struct board_place *address = at(plan, BOARD_PCI_ADDRESS), *data = at(plan, BOARD_PCI_DATA);
	uint32_t list;

	aml_name(s, "_CRS");
	list = aml_resources(s);
	aml_passes_buses(s, 0, (uint8_t)((at(plan, BOARD_ECAM)->size >> 20) - 1));
	aml_ports(s, (uint16_t)address->base, (uint8_t)(board_last(data) - address->base + 1));
	aml_passes_ports(s, 0, (uint16_t)(address->base - 1));
	aml_passes_ports(s, (uint16_t)(board_last(data) + 1), UINT16_MAX);
	aml_passes_memory(s, (uint32_t)low->base, (uint32_t)board_last(low));
	if (high->what)
		aml_passes_memory(s, (uint32_t)high->base, (uint32_t)board_last(high));
	if (at(plan, BOARD_ROM)->what) /* a screen of a PC, perhaps */
		aml_passes_memory(s, MAP_SCREEN, MAP_SCREEN_LAST);
	aml_resources_end(s, list);
}

static void add_pci_lines(struct shelf *s, const struct tables_plan *plan)
{
	uint32_t all, one;

	aml_name(s, "_PRT");
	all = aml_package(s, PCI_SLOTS * PCI_INTX);
	for (uint32_t slot = 0; slot < PCI_SLOTS; slot++) {
		for (unsigned pin = 1; pin <= PCI_INTX; pin++) {
			one = aml_package(s, 4);
			aml_int(s, slot << 16 | 0xffff); /* whatever function */
			aml_int(s, pin - 1);
			aml_int(s, 0);
			aml_int(s, at(plan, BOARD_PCI_ADDRESS)->line + pci_intx(slot, pin));
			aml_end(s, one);
		}
	}
	aml_end(s, all);
}

/* -- Chips -------------------------------------------------------------------------------- */

/* One that has ports, and perhaps a line. */
static uint32_t add_chip(struct shelf *s, const char *name, const struct board_place *p)
{
	uint32_t device = aml_device(s, name), list;

	aml_name(s, "_CRS");
	list = aml_resources(s);
	aml_ports(s, (uint16_t)p->base, (uint8_t)p->size);
	if (p->n_lines)
		aml_line(s, p->line);
	aml_resources_end(s, list);
	return device;
}

static void add_pci(struct shelf *s, const struct tables_plan *plan)
{
	uint32_t scope = aml_scope(s, "PCI0"), device;

	add_pci_windows(s, plan);
	add_pci_lines(s, plan);

	device = add_chip(s, "COM1", at(plan, BOARD_COM1));
	aml_name(s, "_HID"), aml_eisa_id(s, "PNP0501");
	add_name_int(s, "_UID", 1);
	add_name_int(s, "_STA", 15);
	aml_end(s, device);

	device = add_chip(s, "RTC_", at(plan, BOARD_RTC));
	aml_name(s, "_HID"), aml_eisa_id(s, "PNP0B00");
	aml_end(s, device);
	aml_end(s, scope);
}

static void add_pvpanic(struct shelf *s, const struct tables_plan *plan)
{
	uint32_t device = add_chip(s, "PEVT", at(plan, BOARD_PVPANIC));

	aml_name(s, "_HID"), aml_string(s, "QEMU0001");
	add_name_int(s, "_STA", 15);
	aml_end(s, device);
}

/* Where it is, as two halves of an address (dev/vmgenid.c). */
static void add_genid(struct shelf *s, const struct tables_plan *plan)
{
	uint32_t device = aml_device(s, "VGEN"), address;

	aml_name(s, "_HID"), aml_string(s, "LODG0001");
	aml_name(s, "_CID"), aml_string(s, "VM_Gen_Counter");
	aml_name(s, "_DDN"), aml_string(s, "VM_Gen_Counter");
	add_name_int(s, "_STA", 15);
	aml_name(s, "ADDR");
	address = aml_package(s, 2);
	aml_int(s, (uint32_t)at(plan, BOARD_GENID)->base);
	aml_int(s, 0);
	aml_end(s, address);
	aml_end(s, device);
}

static void add_hpet(struct shelf *s, const struct tables_plan *plan)
{
	const struct board_place *p = at(plan, BOARD_HPET);
	uint32_t device = aml_device(s, "HPET"), list;

	aml_name(s, "_HID"), aml_eisa_id(s, "PNP0103");
	add_name_int(s, "_UID", 0);
	aml_name(s, "_CRS");
	list = aml_resources(s);
	aml_memory(s, (uint32_t)p->base, (uint32_t)p->size);
	aml_resources_end(s, list);
	aml_end(s, device);
}

static void add_reserved(struct shelf *s, const struct tables_plan *plan)
{
	const struct board_place *pm = at(plan, BOARD_PM), *ecam = at(plan, BOARD_ECAM);
	uint32_t device = aml_device(s, "MBRD"), list;

	aml_name(s, "_HID"), aml_eisa_id(s, "PNP0C02");
	add_name_int(s, "_UID", 1);
	aml_name(s, "_CRS");
	list = aml_resources(s);
	aml_ports(s, (uint16_t)pm->base, (uint8_t)pm->size);
	aml_memory(s, (uint32_t)ecam->base, (uint32_t)ecam->size);
	aml_resources_end(s, list);
	aml_end(s, device);
}

static void add_processor(struct shelf *s, unsigned id)
{
	char name[16];
	uint32_t device;

	snprintf(name, sizeof(name), "C%03X", id & 0xfff);
	device = aml_device(s, name);
	aml_name(s, "_HID"), aml_string(s, "ACPI0007");
	add_name_int(s, "_UID", id);
	aml_end(s, device);
}

void ssdt_fill(struct shelf *s, const struct tables_plan *plan)
{
	uint32_t scope;

	add_s5(s);
	scope = aml_scope(s, "\\_SB_");
	add_pci(s, plan);
	add_pvpanic(s, plan);
	if (at(plan, BOARD_GENID)->what)
		add_genid(s, plan);
	if (plan->hpet)
		add_hpet(s, plan);
	add_reserved(s, plan);
	for (unsigned i = 0; i < plan->cpus; i++)
		add_processor(s, i);
	aml_end(s, scope);
}

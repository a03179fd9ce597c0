/* SPDX-License-Identifier: MIT */
/*
 * The board: which devices there are and where their wires go.
 *
 *	COM1    ports 0x3f8, ISA line 4         RTC     ports 0x70, ISA line 8
 *	ACPI    ports 0x600, line 9 (SCI)       i8042   ports 0x60, 0x64: reset only
 *	port 92, 0xcf9: reset                   pvpanic port 0x505
 *	VM generation ID in RAM, event 0
 *	                                        PCI     ports 0xcf8, ECAM; lines 16 to 19
 *	  slot 0  host bridge
 *	  slot 1  virtio rng
 *	  slot 2  and on: virtio blk, a disk each, in the order of the command line; behind
 *	          them a virtio console, if that or a port is wanted
 *
 * The timer chip and the interrupt controllers are not here: they are the engine's
 * (machine/vm.c). A wire is a callback with m->vm as its context, and m->vm is re-opened at
 * each reset while the devices stay; so the callbacks look at it when they are called.
 */
#include "machine/private.h"

#include "base/err.h"
#include "dev/acpi_pm.h"
#include "dev/i8042.h"
#include "dev/pci/pci.h"
#include "dev/port92.h"
#include "dev/pvpanic.h"
#include "dev/rtc.h"
#include "dev/uart.h"
#include "dev/virtio/devices.h"
#include "dev/vmgenid.h"
#include "state/state.h"

#include <errno.h>
#include <stdio.h>

enum { LINE_COM1 = 4, LINE_RTC = 8, LINE_SCI = 9, LINE_PCI = 16 };

enum { EVENT_GENID = 0 }; /* of GPE0: \_GPE._E00 in dsdt.asl */

static struct irq_line line(struct machine *m, unsigned gsi)
{
	return (struct irq_line){.set = vm_irq, .ctx = &m->vm, .gsi = gsi};
}

static void ask_power(void *ctx, enum power_wish wish, const char *who)
{
	struct machine_end end = {
		.reason = wish == POWER_OFF ? MACHINE_OFF : MACHINE_RESET,
	};

	snprintf(end.text, sizeof(end.text), "the guest asked for %s through %s",
		 wish == POWER_OFF ? "power-off" : "a reset", who);
	machine_over(ctx, &end);
}

static struct power_line power(struct machine *m)
{
	return (struct power_line){.ask = ask_power, .ctx = m};
}

/* Makes a device and remembers it; NULL if that failed. */
static struct device *add(struct board *b, const struct device_model *model,
			  const void *config, struct err *err)
{
	struct device *dev;

	if (b->n == BOARD_DEVICES_MAX) {
		err_set(err, ENOSPC, "more devices than the board has places");
		return NULL;
	}
	dev = device_create(model, b->bus, config, err);
	if (dev)
		b->devices[b->n++] = dev;
	return dev;
}

static bool add_legacy(struct machine *m, struct err *err)
{
	struct board *b = &m->board;
	uint64_t low = map_low_end(m->config.memory);
	struct uart_config uart = {.irq = line(m, LINE_COM1)};

	if (!m->config.virtio_console) {
		uart.output = m->config.console.output;
		uart.input_room = m->config.console.input_room;
		uart.ctx = m->config.console.ctx;
	}
	b->uart = add(b, &uart_model, &uart, err);
	b->pm = add(b, &acpi_pm_model, &(struct acpi_pm_config){
		.sci = line(m, LINE_SCI),
		.power = power(m),
	}, err);
	b->genid = add(b, &vmgenid_model, &(struct vmgenid_config){
		.mem = &m->mem,
		.at = MAP_GENID,
		.moved = m->config.incoming,
	}, err);
	return b->uart && b->pm && b->genid &&
	       add(b, &rtc_model, &(struct rtc_config){
			.irq = line(m, LINE_RTC),
			.ram_low = low,
			.ram_high = m->config.memory - low,
	       }, err) &&
	       add(b, &i8042_model, &(struct i8042_config){.power = power(m)}, err) &&
	       add(b, &port92_model, &(struct port92_config){.power = power(m)}, err) &&
	       add(b, &pvpanic_model, &(struct pvpanic_config){
			.panicked = m->config.panic.said,
			.ctx = m->config.panic.ctx,
	       }, err);
}

static bool add_pci(struct machine *m, struct err *err)
{
	struct board *b = &m->board;
	struct pci_host_config config = {
		.ecam_base = MAP_ECAM,
		.mem_base = MAP_PCI_LOW,
		.mem_size = MAP_ECAM - MAP_PCI_LOW,
		.msi = {.send = vm_msi, .ctx = &m->vm},
		.power = power(m),
	};

	for (unsigned i = 0; i < PCI_INTX; i++)
		config.intx[i] = line(m, LINE_PCI + i);
	b->pci = add(b, &pci_host_model, &config, err);
	return b->pci != NULL;
}

static struct virtio_console_port port(const char *name, const struct machine_console *end)
{
	return (struct virtio_console_port){
		.name = name, .output = end->output, .input_room = end->input_room, .ctx = end->ctx,
	};
}

static bool add_console(struct board *b, const struct machine_config *c, struct virtio_place place,
			struct err *err)
{
	struct virtio_console_config config = {.pci = place};

	if (!c->virtio_console && !c->port.name)
		return true;
	if (c->virtio_console)
		config.ports[0] = port(NULL, &c->console);
	if (c->port.name)
		config.ports[1] = port(c->port.name, &c->port.end);
	b->hvc = add(b, &virtio_console_model, &config, err);
	return b->hvc != NULL;
}

static bool add_virtio(struct machine *m, struct err *err)
{
	struct board *b = &m->board;
	struct virtio_place place = {.host = b->pci, .mem = &m->mem};

	if (!add(b, &virtio_rng_model, &(struct virtio_rng_config){.pci = place}, err))
		return false;
	for (unsigned i = 0; i < m->config.n_disks; i++) {
		struct virtio_blk_config config = {.pci = place,
						   .disk = m->config.disks[i]};

		if (!add(b, &virtio_blk_model, &config, err))
			return false;
	}
	return add_console(b, &m->config, place, err);
}

int board_create(struct machine *m, struct err *err)
{
	struct board *b = &m->board;

	b->bus = bus_create();
	if (!b->bus)
		return err_set(err, ENOMEM, "no memory for the bus");
	if (!add_legacy(m, err) || !add_pci(m, err) || !add_virtio(m, err))
		return err && err->code ? -err->code : -EIO;
	/* The addresses of all functions are given when the last one is there. */
	device_reset(b->pci);
	return 0;
}

void board_tell_identity(struct board *b)
{
	acpi_pm_event(b->pm, EVENT_GENID);
}

const char *board_id(const struct board *b, unsigned i, char *id)
{
	const struct device_model *model = b->devices[i]->model;
	unsigned before = 0, all = 0;

	for (unsigned j = 0; j < b->n; j++) {
		all += b->devices[j]->model == model;
		before += j < i && b->devices[j]->model == model;
	}
	if (all > 1)
		snprintf(id, STATE_NAME_MAX + 1, "%s.%u", model->name, before);
	else
		snprintf(id, STATE_NAME_MAX + 1, "%s", model->name);
	return id;
}

/* Functions before the host bridge, which then gives them their addresses again. */
void board_reset(struct board *b)
{
	for (unsigned i = b->n; i-- > 0;)
		device_reset(b->devices[i]);
}

void board_destroy(struct board *b)
{
	while (b->n)
		device_destroy(b->devices[--b->n]);
	bus_destroy(b->bus);
	*b = (struct board){0};
}

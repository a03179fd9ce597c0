/* SPDX-License-Identifier: MIT */
/* query-pci: what is on the bus, and where its registers are now. */
#include "base/json.h"
#include "base/macros.h"
#include "dev/pci/pci.h"
#include "prog/lodge/session.h"
#include "serve.h"

#define FUNCTIONS_MAX (PCI_SLOTS * 8)

/* QMP has -1 for an address that is none, and JSON here no negative numbers but this one. */
static void write_address(struct json *j, uint64_t addr)
{
	if (addr == UINT64_MAX)
		json_real(j, "address", -1);
	else
		json_uint(j, "address", addr);
}

static void write_bar(struct json *j, unsigned n, const struct pci_facts_bar *bar)
{
	json_open(j, NULL, '{');
	json_uint(j, "bar", n);
	json_str(j, "type", bar->io ? "io" : "memory");
	write_address(j, bar->addr);
	json_uint(j, "size", bar->size);
	if (!bar->io) {
		json_bool(j, "prefetch", bar->prefetch);
		json_bool(j, "mem_type_64", bar->wide);
	}
	json_close(j);
}

static void write_ids(struct json *j, const struct pci_facts *f)
{
	json_open(j, "class_info", '{');
	json_uint(j, "class", f->class);
	json_close(j);
	json_open(j, "id", '{');
	json_uint(j, "vendor", f->vendor);
	json_uint(j, "device", f->device);
	json_uint(j, "subsystem-vendor", f->sub_vendor);
	json_uint(j, "subsystem", f->sub_device);
	json_close(j);
}

static void write_function(struct json *j, const struct pci_facts *f)
{
	json_open(j, NULL, '{');
	json_uint(j, "bus", 0);
	json_uint(j, "slot", f->slot);
	json_uint(j, "function", f->function);
	json_str(j, "qdev_id", f->name);
	write_ids(j, f);
	json_uint(j, "irq_pin", f->pin);
	if (f->pin)
		json_uint(j, "irq", f->line);
	json_open(j, "regions", '[');
	for (unsigned n = 0; n < ARRAY_SIZE(f->bars); n++)
		if (f->bars[n].size)
			write_bar(j, n, &f->bars[n]);
	json_close(j);
	json_close(j);
}

int do_pci(struct call *c, struct err *err)
{
	static struct pci_facts facts[FUNCTIONS_MAX]; /* the main thread's */
	unsigned n = machine_pci(c->session->machine, facts, FUNCTIONS_MAX);

	(void)err;
	json_open(c->answer, NULL, '{');
	json_uint(c->answer, "bus", 0);
	json_open(c->answer, "devices", '[');
	for (unsigned i = 0; i < n; i++)
		write_function(c->answer, &facts[i]);
	json_close(c->answer);
	json_close(c->answer);
	return 0;
}

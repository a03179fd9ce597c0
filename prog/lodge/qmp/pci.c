/* SPDX-License-Identifier: MIT */
/* query-pci: what is on the bus and on those behind it, and where its registers are now. */
#include "base/json.h"
#include "base/macros.h"
#include "dev/pci/pci.h"
#include "prog/lodge/session.h"
#include "serve.h"

#define FUNCTIONS_MAX (PCI_SLOTS * 8 + MACHINE_PORTS_MAX * 8)

/* All that there are. */
struct look {
	struct pci_facts facts[FUNCTIONS_MAX];
	unsigned n;
};

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

static void write_range(struct json *j, const char *key, const struct pci_facts_range *range)
{
	json_open(j, key, '{');
	json_uint(j, "base", range->base);
	json_uint(j, "limit", range->limit);
	json_close(j);
}

static void write_bus(struct json *j, const struct pci_facts *f)
{
	json_open(j, "bus", '{');
	json_uint(j, "number", f->bus);
	json_uint(j, "secondary", f->first);
	json_uint(j, "subordinate", f->last);
	write_range(j, "io_range", &f->io);
	write_range(j, "memory_range", &f->memory);
	write_range(j, "prefetchable_range", &f->prefetch);
	json_close(j);
}

static void write_functions(struct json *j, const struct look *look, const struct pci_facts *bridge);

static void write_bridge(struct json *j, const struct look *look, const struct pci_facts *f)
{
	json_open(j, "pci_bridge", '{');
	write_bus(j, f);
	write_functions(j, look, f);
	json_close(j);
}

static void write_function(struct json *j, const struct look *look, const struct pci_facts *f)
{
	json_open(j, NULL, '{');
	json_uint(j, "bus", f->bus);
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
	if (f->bridge)
		write_bridge(j, look, f);
	json_close(j);
}

/* Those behind a bridge, or (NULL) those that are behind none. No bridge is behind another. */
static void write_functions(struct json *j, const struct look *look, const struct pci_facts *bridge)
{
	unsigned above = bridge ? bridge->slot * 8u + bridge->function : 0;

	json_open(j, "devices", '[');
	for (unsigned i = 0; i < look->n; i++)
		if (look->facts[i].above == above)
			write_function(j, look, &look->facts[i]);
	json_close(j);
}

int do_pci(struct call *c, struct err *err)
{
	static struct look look; /* the main thread's */

	(void)err;
	look.n = machine_pci(c->session->machine, look.facts, FUNCTIONS_MAX);
	json_open(c->answer, NULL, '{');
	json_uint(c->answer, "bus", 0);
	write_functions(c->answer, &look, NULL);
	json_close(c->answer);
	return 0;
}

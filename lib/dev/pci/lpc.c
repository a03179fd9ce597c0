/* SPDX-License-Identifier: MIT */
/*
 * The LPC bridge, as far as firmware and interrupts go:
 *
 *	+40  PMBASE      the board has put ACPI's ports: reads as that, and stays
 *	+44  ACPI_CNTL   kept: they are always on, and the SCI is where the board has it
 *	+60  PIRQA..D    bit 7: not routed; bits 3..0: the PIC's input
 *	+68  PIRQE..H    kept: nothing is wired to them
 *	+f0  RCBA        kept: there is nothing behind it
 *
 * PCI's four lines lead to the IOAPIC, and each, if it is routed, to an input of the PICs, which several of them may share.
 * A kernel that uses the IOAPIC masks the PICs.
 */
#include "dev/pci/lpc.h"

#include "base/bytes.h"
#include "base/err.h"
#include "base/scoped.h"
#include "dev/pci/function.h"
#include "state/state.h"

#include <errno.h>
#include <pthread.h>

#define PMBASE    0x40
#define ACPI_CNTL 0x44
#define PIRQA     0x60
#define PIRQE     0x68
#define RCBA      0xf0

#define PIRQ_OFF  0x80u
#define PIRQ_LINE 0x0fu

struct lpc {
	struct device dev; /* first */
	struct lpc_config config;
	struct pci_function fn;
	pthread_mutex_t lines; /* of the next three; inside the host's locks */
	uint8_t level[PCI_INTX]; /* 0 or 1 */
	uint8_t route[PCI_INTX]; /* PIRQA to D as they were when inputs were set */
	uint16_t inputs;         /* of the PICs that are pulled */
};

static bool is_routed(uint8_t route)
{
	/* The timer's, the cascade and the like are not for PCI: the data sheet reserves them. */
	return !(route & PIRQ_OFF) && 0xdef8u >> (route & PIRQ_LINE) & 1;
}

/* The PICs' inputs, as levels and routes say. */
static uint16_t pulled(const struct lpc *lpc)
{
	unsigned inputs = 0;

	for (unsigned i = 0; i < PCI_INTX; i++)
		if (lpc->level[i] && is_routed(lpc->route[i]))
			inputs |= 1u << (lpc->route[i] & PIRQ_LINE);
	return (uint16_t)inputs;
}

static void drive(struct lpc *lpc)
{
	uint16_t inputs = pulled(lpc), changed = inputs ^ lpc->inputs;

	lpc->inputs = inputs;
	for (unsigned i = 0; i < 16; i++) {
		struct irq_line line = lpc->config.isa;

		line.gsi = i;
		if (changed >> i & 1)
			irq_set(&line, inputs >> i & 1);
	}
}

void lpc_pirq(void *dev, unsigned n, bool level)
{
	struct lpc *lpc = dev;

	scoped_lock(&lpc->lines);
	irq_set(&lpc->config.pci[n], level);
	lpc->level[n] = level;
	drive(lpc);
}

static void take_routes(struct lpc *lpc)
{
	for (unsigned i = 0; i < PCI_INTX; i++)
		lpc->route[i] = lpc->fn.config[PIRQA + i];
}

static void config_written(void *dev, unsigned at, unsigned width)
{
	struct lpc *lpc = dev;

	if (at >= PIRQA + PCI_INTX || at + width <= PIRQA)
		return;
	scoped_lock(&lpc->lines);
	take_routes(lpc);
	drive(lpc);
}

/* -- The model -------------------------------------------------------------------------- */

static int init(struct device *dev, const void *config, struct err *err)
{
	struct lpc *lpc = (struct lpc *)dev;
	int rc;

	lpc->config = *(const struct lpc_config *)config;
	pthread_mutex_init(&lpc->lines, NULL);
	lpc->fn = (struct pci_function){
		.name = "lpc", .vendor = 0x8086, .device = 0x2918, .revision = 2, .class_code = 0x060100,
		.sub_vendor = 0x1af4, .sub_device = 0x1100, .ctx = lpc, .config_written = config_written,
	};
	rc = pci_add(lpc->config.host, &lpc->fn, LPC_DEVFN, err);
	if (rc < 0)
		return rc;
	lpc->fn.config[PCI_HEADER] = PCI_HEADER_MULTI;
	le32_put(lpc->fn.config + PMBASE, lpc->config.pm | 1u);
	lpc->fn.writable[ACPI_CNTL] = 0x87;
	for (unsigned i = 0; i < 4; i++) {
		lpc->fn.writable[PIRQA + i] = PIRQ_OFF | PIRQ_LINE;
		lpc->fn.writable[PIRQE + i] = PIRQ_OFF | PIRQ_LINE;
	}
	le32_put(lpc->fn.writable + RCBA, 0xffffc001u);
	return 0;
}

static void fini(struct device *dev)
{
	struct lpc *lpc = (struct lpc *)dev;

	pci_remove(&lpc->fn);
	pthread_mutex_destroy(&lpc->lines);
}

static void reset(struct device *dev)
{
	struct lpc *lpc = (struct lpc *)dev;

	scoped_lock(&lpc->lines);
	lpc->fn.config[ACPI_CNTL] = 0;
	for (unsigned i = 0; i < 4; i++)
		lpc->fn.config[PIRQA + i] = lpc->fn.config[PIRQE + i] = PIRQ_OFF;
	le32_put(lpc->fn.config + RCBA, 0);
	take_routes(lpc);
	drive(lpc);
}

static void saving(struct device *dev)
{
	pci_function_saving(&((struct lpc *)dev)->fn);
}

/* The PICs know their inputs' levels. */
static int loaded(struct device *dev, uint64_t away, struct err *err)
{
	struct lpc *lpc = (struct lpc *)dev;

	(void)away;
	for (unsigned i = 0; i < PCI_INTX; i++)
		if (lpc->level[i] > 1)
			return err_set(err, EINVAL, "line %u with level %u: that is 0 or 1", i, lpc->level[i]);
	pci_function_loaded(&lpc->fn);
	take_routes(lpc);
	lpc->inputs = pulled(lpc);
	return 0;
}

static const struct state_field fields[] = {
	STATE_ARRAY(struct lpc, level),
	PCI_FUNCTION_STATE(struct lpc, fn),
	{0},
};

static const struct state_table table = {.name = "lpc", .version = 1, .fields = fields};
static const struct state_table *const state[] = {&table, NULL};

const struct device_model lpc_model = {
	.name = "lpc",
	.summary = "LPC bridge of an ICH9: which PIC inputs PCI's lines are on",
	.option = "--firmware",
	.size = sizeof(struct lpc),
	.state = state,
	.init = init,
	.reset = reset,
	.fini = fini,
	.saving = saving,
	.loaded = loaded,
};

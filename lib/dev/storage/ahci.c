/* SPDX-License-Identifier: MIT */
/*
 * A SATA controller by the AHCI specification 1.3.1, with the numbers of Intel's ICH9: six ports, 32 commands each, native queuing.
 *
 * In guest memory a port has a list of 32 command headers (PxCLB) and a place for what its drive says (PxFB):
 *
 *	header (32 bytes): length, flags | how many regions | bytes moved | table
 *	table: +00 command FIS   +40 ATAPI command   +80 regions, 16 bytes each: address (8), -, length - 1
 *	answers: +20 PIO setup   +40 registers       +58 set device bits
 *
 * The driver writes a slot's bit to PxCI, which is one exit. Then, on that vCPU's thread,
 *
 *	run -> begin -> ata_begin or scsi_begin -> disk_submit ..... done -> end -> bits, answer, interrupt -> run
 *
 * and a read that the host has cached is done before the exit ends. A slot belongs to its request until the disk is through with it, through
 * resets too: PxCMD.CR, or GHC.HR, stays until the last one has ended, and those that have not begun are cancelled.
 *
 * One command that is not queued runs at a time, and waits until queued ones have ended; drivers never mix them. A queued command leaves
 * PxCI when it has begun and PxSACT when it has ended; those that end together are told together. After an error a port does nothing
 * until its driver has stopped and started it (`halted`).
 *
 * Interrupts: a message is sent when a bit of IS comes, or one stays behind when others are cleared; the pin follows IS. A driver that is not
 * done with a port is not told again.
 *
 * Left out: port multipliers, staggered spin-up, power management of links (they are up), command completion coalescing,
 * enclosure management, the index-data pair of ports, hot plug.
 *
 * Here are its interrupts, resets, media and its life; the other files are named in ahci_private.h.
 */
#include "dev/storage/ahci_private.h"

#include "base/err.h"
#include "base/scoped.h"
#include "dev/pci/msi.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define ABAR  5u
#define ABAR_SIZE 0x1000u
#define SSTS_UP   0x123u

/* -- Interrupts ------------------------------------------------------------------------------ */

void ahci_drive_pin(struct ahci *a)
{
	pci_intx_set(&a->fn, a->ghc & GHC_IRQ && a->is && !msi_enabled(&a->fn, a->msi));
}

/* Bits of IS follow those of ports; `again`: those that stayed are news. */
void ahci_update_irq(struct ahci *a, bool again)
{
	uint32_t before = again ? 0 : a->is;

	for (unsigned i = 0; i < AHCI_PORTS; i++)
		if (port_is(&a->ports[i]) & a->ports[i].ie)
			a->is |= 1u << i;
	if (a->ghc & GHC_IRQ && a->is & ~before)
		msi_notify(&a->fn, a->msi);
	ahci_drive_pin(a);
}

/* -- Stopping and resets ---------------------------------------------------------------------- */

static void cancel(const struct port *p, bool on)
{
	if (disk_of(p))
		disk_cancel(disk_of(p), on);
}

static void link_up(struct port *p)
{
	p->coming = false;
	p->ssts = 0;
	p->tfd = 0x7f;
	p->sig = UINT32_MAX;
	if (!p->plugged)
		return;
	ata_reset(&p->ata);
	scsi_reset(&p->unit);
	p->soft_reset = false;
	p->ssts = SSTS_UP;
	p->serr |= SERR_LINK;
	ahci_say_signature(p);
}

void ahci_finish_stop(struct port *p)
{
	cancel(p, false);
	p->stopping = p->halted = p->alone = false;
	p->ci = p->sact = p->begun = p->ended = 0;
	if (p->coming)
		link_up(p);
}

void ahci_stop(struct port *p)
{
	p->cmd &= ~CMD_START;
	if (p->under_way == 0) {
		ahci_finish_stop(p);
		return;
	}
	p->stopping = true;
	cancel(p, true);
}

bool ahci_is_idle(const struct ahci *a)
{
	for (unsigned i = 0; i < AHCI_PORTS; i++)
		if (a->ports[i].under_way)
			return false;
	return true;
}

static void reset_port(struct port *p)
{
	p->is = p->ie = p->serr = p->sctl = 0;
	p->cmd = CMD_SPIN;
	p->coming = true;
	ahci_finish_stop(p);
}

void ahci_finish_reset(struct ahci *a)
{
	a->resetting = false;
	a->ghc = GHC_ENABLE;
	a->is = 0;
	for (unsigned i = 0; i < AHCI_PORTS; i++)
		reset_port(&a->ports[i]);
	ahci_drive_pin(a);
}

void ahci_start_reset(struct ahci *a)
{
	a->resetting = true;
	for (unsigned i = 0; i < AHCI_PORTS; i++)
		ahci_stop(&a->ports[i]);
	if (ahci_is_idle(a))
		ahci_finish_reset(a);
}

/* -- Media ------------------------------------------------------------------------------------------------ */

/* With the lock, which is let go meanwhile. */
static void wait_idle(struct ahci *a, const struct port *p)
{
	while (p->under_way)
		pthread_cond_wait(&a->idle, &a->dev.lock);
}

int ahci_change(struct device *dev, unsigned port, struct disk *disk, bool force, struct err *err)
{
	struct ahci *a = (struct ahci *)dev;
	struct port *p = &a->ports[port];
	struct disk *old;

	scoped_lock(&dev->lock);
	if (p->unit.prevented && p->unit.disk && !force) {
		scsi_press(&p->unit);
		return err_set(err, EBUSY, "the guest uses what is in the drive, and was told that it is to be ejected: "
			       "try again, or take it out all the same with --force");
	}
	old = p->unit.disk;
	p->unit.disk = NULL; /* no command begins with it from here on */
	if (old)
		disk_cancel(old, true);
	wait_idle(a, p);
	if (old)
		disk_cancel(old, false);
	scsi_change(&p->unit, disk);
	return 0;
}

bool ahci_is_open(struct device *dev, unsigned port)
{
	struct ahci *a = (struct ahci *)dev;

	scoped_lock(&dev->lock);
	return a->ports[port].unit.open;
}

bool ahci_is_locked(struct device *dev, unsigned port)
{
	struct ahci *a = (struct ahci *)dev;

	scoped_lock(&dev->lock);
	return a->ports[port].unit.prevented;
}

/* -- The model --------------------------------------------------------------------------------------------- */

static int plug(struct ahci *a, unsigned n, struct err *err)
{
	const struct ahci_drive *d = &a->config.drives[n];
	struct port *p = &a->ports[n];

	p->ahci = a;
	p->n = n;
	p->plugged = d->is_cd || d->disk;
	if (!p->plugged)
		return 0;
	p->unit.kind = d->is_cd ? SCSI_CD : SCSI_DISK;
	p->unit.disk = d->is_cd ? d->disk : NULL;
	p->ata.disk = d->is_cd ? NULL : d->disk;
	p->ata.is_packet = d->is_cd;
	snprintf(p->ata.serial, sizeof(p->ata.serial), "LODGE-SATA-%u", n);
	snprintf(p->unit.serial, sizeof(p->unit.serial), "LODGE-SATA-%u", n);
	p->slots = calloc(SLOTS, sizeof(*p->slots));
	if (!p->slots)
		return err_set(err, ENOMEM, "out of memory");
	for (unsigned i = 0; i < SLOTS; i++) {
		p->slots[i].port = p;
		p->slots[i].n = (uint8_t)i;
	}
	return 0;
}

static int init(struct device *dev, const void *config, struct err *err)
{
	struct ahci *a = (struct ahci *)dev;
	int rc = 0;

	a->config = *(const struct ahci_config *)config;
	pthread_cond_init(&a->idle, NULL);
	for (unsigned i = 0; i < AHCI_PORTS && rc == 0; i++)
		rc = plug(a, i, err);
	a->fn = (struct pci_function){
		.name = "ahci", .vendor = 0x8086, .device = 0x2922, .revision = 2, .class_code = 0x010601,
		.sub_vendor = 0x1af4, .sub_device = 0x1100, .pin = 1, .ctx = a, .config_written = ahci_config_written,
		.bars[ABAR] = {.size = ABAR_SIZE, .read = ahci_bar_read, .write = ahci_bar_write},
	};
	if (rc == 0)
		rc = pci_add(a->config.host, &a->fn, a->config.devfn, err);
	if (rc == 0)
		rc = msi_add_cap(&a->fn, err);
	if (rc < 0)
		return rc;
	a->msi = (unsigned)rc;
	return 0;
}

static void wait_all(struct ahci *a)
{
	for (unsigned i = 0; i < AHCI_PORTS; i++)
		wait_idle(a, &a->ports[i]);
}

static void reset(struct device *dev)
{
	struct ahci *a = (struct ahci *)dev;

	ahci_start_reset(a);
	wait_all(a);
	for (unsigned i = 0; i < AHCI_PORTS; i++)
		a->ports[i].clb = a->ports[i].fb = 0;
	msi_reset(&a->fn, a->msi);
}

static void fini(struct device *dev)
{
	struct ahci *a = (struct ahci *)dev;

	if (a->fn.host) {
		scoped_lock(&dev->lock);
		reset(dev);
	}
	pci_remove(&a->fn);
	for (unsigned i = 0; i < AHCI_PORTS; i++)
		free(a->ports[i].slots);
	pthread_cond_destroy(&a->idle);
}

/* What has begun ends; so does what waits for that. */
static void pause_ports(struct device *dev)
{
	wait_all((struct ahci *)dev);
}

static void resume(struct device *dev)
{
	struct ahci *a = (struct ahci *)dev;

	for (unsigned i = 0; i < AHCI_PORTS; i++)
		ahci_run(&a->ports[i]);
	ahci_update_irq(a, false);
}

static void saving(struct device *dev)
{
	pci_function_saving(&((struct ahci *)dev)->fn);
}

static int loaded(struct device *dev, uint64_t away, struct err *err)
{
	struct ahci *a = (struct ahci *)dev;

	(void)away;
	if (a->ghc & ~(GHC_ENABLE | GHC_IRQ))
		return err_set(err, EINVAL, "GHC is %#x: it has two bits", a->ghc);
	for (unsigned i = 0; i < AHCI_PORTS; i++) {
		struct port *p = &a->ports[i];

		if (p->ata.multiple & (p->ata.multiple - 1))
			return err_set(err, EINVAL, "port %u moves %u sectors at once: that is a power of two", i, p->ata.multiple);
		if (!p->plugged && p->ssts)
			return err_set(err, EINVAL, "port %u has a drive, and here it has none", i);
	}
	pci_function_loaded(&a->fn);
	return 0;
}

static const struct state_field ata_fields[] = {ATA_STATE, {0}};
static const struct state_field unit_fields[] = {SCSI_UNIT_STATE, {0}};

static const struct state_field port_fields[] = {
	STATE(struct port, clb),
	STATE(struct port, fb),
	STATE(struct port, is),
	STATE(struct port, ie),
	STATE(struct port, cmd),
	STATE(struct port, tfd),
	STATE(struct port, sig),
	STATE(struct port, ssts),
	STATE(struct port, sctl),
	STATE(struct port, serr),
	STATE(struct port, sact),
	STATE(struct port, ci),
	STATE(struct port, halted),
	STATE(struct port, soft_reset),
	STATE_PART(struct port, ata, ata_fields),
	STATE_PART(struct port, unit, unit_fields),
	{0},
};

static const struct state_field fields[] = {
	PCI_FUNCTION_STATE(struct ahci, fn),
	STATE(struct ahci, ghc),
	STATE(struct ahci, is),
	STATE_PARTS(struct ahci, ports, port_fields),
	{0},
};

static const struct state_table table = {.name = "ahci", .version = 1, .fields = fields};
static const struct state_table *const state[] = {&table, NULL};

const struct device_model ahci_model = {
	.name = "ahci",
	.summary = "SATA controller of an ICH9, with disks and CD drives",
	.option = "--cdrom, --disk FILE,bus=sata",
	.size = sizeof(struct ahci),
	.bar = ahci_regs,
	.bar_n = ABAR,
	.state = state,
	.init = init,
	.reset = reset,
	.fini = fini,
	.pause = pause_ports,
	.resume = resume,
	.saving = saving,
	.loaded = loaded,
};

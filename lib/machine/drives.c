/* SPDX-License-Identifier: MIT */
/*
 * Disks and CD drives: at which place of which controller each is, what firmware calls that place, and what is in a CD drive.
 *
 *	virtio, nvme    a PCI function each, from slot BOARD_SLOT_DISK on, in the order of the command line; but the first NVMe disks are
 *	                behind root ports, if there are some
 *	scsi            a target each, of a virtio controller, which has the slot behind those
 *	sata            a port each; behind the disks come CD drives
 *	ide             the first and second drive of a cable, and of the other; the same
 *	usb             a port each
 *
 * Firmware is told in which order to boot by names that Open Firmware would have for the places, a line each, the first one first.
 */
#include "machine/private.h"

#include "base/err.h"
#include "dev/storage/ahci.h"
#include "dev/storage/ide.h"
#include "machine/firmware.h"

#include <errno.h>
#include <stdio.h>

const char *const machine_buses[] = {[MACHINE_VIRTIO] = "virtio", [MACHINE_SATA] = "sata", [MACHINE_NVME] = "nvme",
					    [MACHINE_SCSI] = "scsi", [MACHINE_USB] = "usb", [MACHINE_IDE] = "ide"};
const char *const machine_cards[] = {[MACHINE_CARD_VIRTIO] = "virtio", [MACHINE_CARD_E1000] = "e1000"};
const char *const machine_boots[] = {[MACHINE_BOOT_DISK] = "disk", [MACHINE_BOOT_CDROM] = "cdrom", [MACHINE_BOOT_NET] = "net"};

/* -- Places ---------------------------------------------------------------------------- */

/* How many disks of a bus there are before number n. Those that came later take nobody's place. */
static unsigned count(const struct machine_config *c, enum machine_bus bus, unsigned n)
{
	unsigned all = 0;

	for (unsigned i = 0; i < n; i++)
		all += c->disk_bus[i] == bus && !c->disk_spot[i].port;
	return all;
}

static unsigned count_slots(const struct machine_config *c, unsigned n)
{
	unsigned nvme = count(c, MACHINE_NVME, n);

	return count(c, MACHINE_VIRTIO, n) + (nvme > c->root_ports ? nvme - c->root_ports : 0);
}

bool board_is_behind(const struct machine_config *c, unsigned disk)
{
	return c->disk_bus[disk] == MACHINE_NVME && !c->disk_spot[disk].port && count(c, MACHINE_NVME, disk) < c->root_ports;
}

unsigned board_disk_number(const struct machine_config *c, unsigned disk)
{
	unsigned port = c->disk_spot[disk].port;

	return port ? MACHINE_DISKS_MAX + port : disk;
}

unsigned board_disk_place(const struct machine_config *c, unsigned disk)
{
	enum machine_bus bus = c->disk_bus[disk];

	return bus == MACHINE_VIRTIO || (bus == MACHINE_NVME && !board_is_behind(c, disk)) ? BOARD_SLOT_DISK + count_slots(c, disk) : count(c, bus, disk);
}

static unsigned count_cds(const struct machine_config *c, enum machine_bus bus, unsigned n)
{
	unsigned all = 0;

	for (unsigned i = 0; i < n; i++)
		all += c->cd_bus[i] == bus;
	return all;
}

unsigned board_cd_place(const struct machine_config *c, unsigned cd)
{
	return count(c, c->cd_bus[cd], c->n_disks) + count_cds(c, c->cd_bus[cd], cd);
}

unsigned board_drives(const struct machine_config *c, enum machine_bus bus)
{
	return count(c, bus, c->n_disks) + count_cds(c, bus, c->n_cds);
}

static unsigned scsi_slot(const struct machine_config *c)
{
	return BOARD_SLOT_DISK + count_slots(c, c->n_disks);
}

unsigned board_net_slot(const struct machine_config *c)
{
	return scsi_slot(c) + (count(c, MACHINE_SCSI, c->n_disks) != 0) + (c->virtio_console || c->port.name);
}

int machine_check_drives(const struct machine_config *c, struct err *err)
{
	unsigned n = board_drives(c, MACHINE_SATA), ide = board_drives(c, MACHINE_IDE);

	if (c->n_disks > MACHINE_DISKS_MAX)
		return err_set(err, ERANGE, "%u disks: a machine has at most %u", c->n_disks, MACHINE_DISKS_MAX);
	if (n > MACHINE_SATA_MAX)
		return err_set(err, ERANGE, "%u disks and CD drives at SATA: its controller has %u ports", n, MACHINE_SATA_MAX);
	if (ide > MACHINE_IDE_MAX)
		return err_set(err, ERANGE, "%u disks and CD drives at IDE: its cables have room for %u", ide, MACHINE_IDE_MAX);
	n = count(c, MACHINE_USB, c->n_disks);
	if (n > MACHINE_USB_MAX)
		return err_set(err, ERANGE, "%u disks at USB: its controller has %u ports for them", n, MACHINE_USB_MAX);
	return machine_check_attached(c, err);
}

/* -- For firmware ----------------------------------------------------------------------- */

static void put_sata(FILE *out, unsigned port)
{
	fprintf(out, "/pci@i0cf8/pci8086,2922@1f,2/drive@%x/disk@0\n", port);
}

static void put_ide(FILE *out, unsigned place)
{
	fprintf(out, "/pci@i0cf8/ide@%x/drive@%x/disk@%x\n", BOARD_SLOT_IDE, place / 2, place % 2);
}

/* Function 0 has no number. */
static void put_behind(FILE *out, unsigned port)
{
	fprintf(out, "/pci@i0cf8/pci-bridge@%x", BOARD_SLOT_PORTS);
	if (port)
		fprintf(out, ",%x", port);
	fprintf(out, "/pci8086,5845@0/namespace@1,0\n");
}

static void put_disk(FILE *out, const struct machine_config *c, unsigned i)
{
	unsigned place = board_disk_place(c, i);

	if (c->disk_bus[i] == MACHINE_SATA)
		put_sata(out, place);
	else if (c->disk_bus[i] == MACHINE_IDE)
		put_ide(out, place);
	else if (board_is_behind(c, i))
		put_behind(out, place);
	else if (c->disk_bus[i] == MACHINE_USB)
		fprintf(out, "/pci@i0cf8/usb@%x/storage@%x/channel@0/disk@0,0\n", BOARD_SLOT_USB, place + 1);
	else if (c->disk_bus[i] == MACHINE_NVME)
		fprintf(out, "/pci@i0cf8/pci8086,5845@%x/namespace@1,0\n", place);
	else if (c->disk_bus[i] == MACHINE_SCSI)
		fprintf(out, "/pci@i0cf8/scsi@%x/channel@0/disk@%x,0\n", scsi_slot(c), place);
	else
		fprintf(out, "/pci@i0cf8/scsi@%x/disk@0,0\n", place);
}

static void put_kind(FILE *out, const struct machine_config *c, enum machine_boot kind)
{
	for (unsigned i = 0; kind == MACHINE_BOOT_DISK && i < c->n_disks; i++)
		if (!c->disk_spot[i].port)
			put_disk(out, c, i);
	for (unsigned i = 0; kind == MACHINE_BOOT_CDROM && i < c->n_cds; i++)
		(c->cd_bus[i] == MACHINE_IDE ? put_ide : put_sata)(out, board_cd_place(c, i));
	if (kind == MACHINE_BOOT_NET && c->net.how)
		fprintf(out, "/pci@i0cf8/ethernet@%x/ethernet-phy@0\n", board_net_slot(c));
}

size_t firmware_boot_order(const struct machine_config *c, char *text, size_t room)
{
	static const enum machine_boot usual[] = {MACHINE_BOOT_DISK, MACHINE_BOOT_CDROM};
	FILE *out = fmemopen(text, room, "w");
	size_t len = 0;

	if (!out)
		return 0;
	for (unsigned i = 0; i < (c->n_boot ? c->n_boot : 2); i++)
		put_kind(out, c, c->n_boot ? c->boot[i] : usual[i]);
	if (fflush(out) == 0)
		len = (size_t)ftell(out);
	fclose(out);
	if (len)
		text[len - 1] = 0; /* the last line has no end */
	return len;
}

/* -- CD drives ---------------------------------------------------------------------------- */

int machine_change_cd(struct machine *m, unsigned drive, struct disk *disk, bool force, struct disk **old, struct err *err)
{
	int rc;

	*old = NULL;
	if (drive >= m->config.n_cds)
		return err_set(err, ENOENT, m->config.n_cds ? "the guest has %u CD drives: there is no number %u" :
			       "the guest has no CD drive: it was started without --cdrom", m->config.n_cds, drive);
	if (m->config.cd_bus[drive] == MACHINE_IDE)
		rc = ide_change(m->board.ide, board_cd_place(&m->config, drive), disk, force, err);
	else
		rc = ahci_change(m->board.ahci, board_cd_place(&m->config, drive), disk, force, err);
	if (rc < 0)
		return rc;
	*old = m->config.cds[drive];
	m->config.cds[drive] = disk;
	return 0;
}

bool machine_cd_is_open(struct machine *m, unsigned drive)
{
	unsigned place = board_cd_place(&m->config, drive);

	return m->config.cd_bus[drive] == MACHINE_IDE ? ide_is_open(m->board.ide, place) : ahci_is_open(m->board.ahci, place);
}

bool machine_cd_is_locked(struct machine *m, unsigned drive)
{
	unsigned place = board_cd_place(&m->config, drive);

	return m->config.cd_bus[drive] == MACHINE_IDE ? ide_is_locked(m->board.ide, place) : ahci_is_locked(m->board.ahci, place);
}

/* SPDX-License-Identifier: MIT */
/*
 * An IDE controller for systems that know nothing younger: Intel's PIIX3, with its cables at the ports and lines where a PC always had them.
 *
 *	1f0  data, 16 bits       3f6  alternate status; control: bit 1 no interrupts, 2 reset, 7 upper bytes
 *	1f1  error; features     BAR 4, a cable's are 8 behind the other's:
 *	1f2  count               +0  command: bit 0 start, 3 to memory
 *	1f3  address (3 bytes)   +2  status: bit 0 active, 1 error, 2 interrupt
 *	1f6  device              +4  where the table of memory is: address (4), length (2), flags (2); bit 15 ends it
 *	1f7  status; command
 *
 * Drives at a cable share what the guest writes; what is read is the selected one's. A register that was written twice has an upper byte, for commands
 * of 48 bits. What a command means is in ata.c and scsi.c; here is how its data go. A cable is in one of these phases:
 *
 *	IDLE      no command, or one for the disk alone
 *	PACKET    the guest writes an ATAPI command, 12 bytes
 *	IN, OUT   a block of data goes through the data register, and our buffer has it: bytes `at` to `stop` of `n`
 *	DMA       the bus master is to move data; it begins when it was told to start, before or after the command
 *
 * A block is what goes between two interrupts: a sector, or what SET MULTIPLE MODE or an ATAPI command's limit says. The disk reads into the
 * buffer, and writes from it, a block at a time; by DMA it has the guest's memory itself, for all of the command.
 *
 * A request belongs to the disk until it has ended, through resets, too: BSY stays until then, and the guest's writes to the command's registers
 * are lost, as the manual has it.
 *
 * Left out: overlapped and queued commands, native ports, timing (its registers are kept), the difference that a wrong direction of the bus master
 * would make.
 *
 * Here are its drives, resets, media and its life; the other files are named in ide_private.h.
 */
#include "dev/storage/ide_private.h"

#include "base/bytes.h"
#include "base/err.h"
#include "base/macros.h"
#include "base/scoped.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define BMBA       4u
#define BMBA_SIZE  16u
#define IDETIM     0x40 /* of each cable two bytes, of which the upper bit says that it is there */
#define SIDETIM    0x44

/* -- Drives and interrupts ------------------------------------------------------------------ */

static bool wants_line(struct cable *c)
{
	return selected(c)->irq && !(c->control & CONTROL_NO_IRQ);
}

void ide_update_line(struct cable *c)
{
	bool level = wants_line(c);

	if (level == c->line)
		return;
	c->line = level;
	if (level)
		c->bm_status |= BM_IRQ;
	irq_set(&c->ide->config.irq[c->n], level);
}

void ide_interrupt(struct cable *c)
{
	active(c)->irq = true;
	ide_update_line(c);
}

bool ide_is_busy(const struct cable *c)
{
	return c->under_way || c->resetting || c->control & CONTROL_RESET;
}

/* A drive that was reset says what it is. */
void ide_say_signature(struct drive *d)
{
	bool is_cd = d->unit.kind == SCSI_CD;

	memset(d->now, 0, sizeof(d->now));
	memset(d->before, 0, sizeof(d->before));
	d->now[COUNT] = d->now[LBA] = 1;
	d->now[LIMIT] = is_cd ? 0x14 : 0;
	d->now[LIMIT + 1] = is_cd ? 0xeb : 0;
	d->error = 1; /* it has passed its tests */
	d->status = is_cd ? 0 : ATA_READY;
	d->irq = false;
}

/* -- Resets --------------------------------------------------------------------------------------- */

static void cancel(struct cable *c, bool on)
{
	for (unsigned i = 0; i < 2; i++)
		if (disk_of(&c->drives[i]))
			disk_cancel(disk_of(&c->drives[i]), on);
}

/* What was under way has ended, and the guest has let go. */
void ide_finish_reset(struct cable *c)
{
	if (c->under_way || c->control & CONTROL_RESET)
		return;
	if (c->resetting)
		cancel(c, false);
	c->resetting = false;
	c->device = 0;
	c->t.phase = IDLE;
	c->t.drive = 0;
	for (unsigned i = 0; i < 2; i++) {
		ata_reset(&c->drives[i].ata);
		scsi_reset(&c->drives[i].unit);
		ide_say_signature(&c->drives[i]);
	}
	ide_update_line(c);
}

void ide_start_reset(struct cable *c)
{
	c->t.phase = IDLE;
	for (unsigned i = 0; i < 2; i++) {
		c->drives[i].status = ATA_BUSY;
		c->drives[i].irq = false;
	}
	ide_update_line(c);
	if (!c->resetting)
		cancel(c, true);
	c->resetting = true;
}

/* On a thread of the disk. */
void ide_done(struct disk_req *req)
{
	struct cable *c = container_of(req, struct cable, req);

	scoped_lock(&c->ide->dev.lock);
	if (!c->resetting && req->rc == 0 && c->ranges.left && ide_next_range(c))
		return;
	c->under_way = false;
	pthread_cond_broadcast(&c->ide->idle);
	if (c->resetting)
		ide_finish_reset(c);
	else
		c->then(c, req->rc);
}

/* -- Media ------------------------------------------------------------------------------------------------ */

/* With the lock, which is let go meanwhile. */
static void wait_idle(struct cable *c)
{
	while (c->under_way)
		pthread_cond_wait(&c->ide->idle, &c->ide->dev.lock);
}

int ide_change(struct device *dev, unsigned place, struct disk *disk, bool force, struct err *err)
{
	struct cable *c = CABLE(dev, place / 2);
	struct drive *d = &c->drives[place % 2];
	struct disk *old;

	scoped_lock(&dev->lock);
	if (d->unit.prevented && d->unit.disk && !force) {
		scsi_press(&d->unit);
		return err_set(err, EBUSY, "the guest uses what is in the drive, and was told that it is to be ejected: "
			       "try again, or take it out all the same with --force");
	}
	old = d->unit.disk;
	d->unit.disk = NULL; /* nothing begins with it from here on */
	if (old)
		disk_cancel(old, true);
	/* SAFE: the other drive's requests are not waited for, of which a guest can have one after the other. */
	while (c->under_way && active(c) == d)
		pthread_cond_wait(&c->ide->idle, &dev->lock);
	if (old)
		disk_cancel(old, false);
	scsi_change(&d->unit, disk);
	return 0;
}

bool ide_is_open(struct device *dev, unsigned place)
{
	scoped_lock(&dev->lock);
	return CABLE(dev, place / 2)->drives[place % 2].unit.open;
}

bool ide_is_locked(struct device *dev, unsigned place)
{
	scoped_lock(&dev->lock);
	return CABLE(dev, place / 2)->drives[place % 2].unit.prevented;
}

/* -- The model --------------------------------------------------------------------------------------------- */

static void plug(struct ide *ide, unsigned place)
{
	const struct ide_drive *config = &ide->config.drives[place];
	struct drive *d = &ide->cables[place / 2].drives[place % 2];

	d->plugged = config->is_cd || config->disk;
	d->unit.kind = config->is_cd ? SCSI_CD : SCSI_DISK;
	d->unit.disk = config->is_cd ? config->disk : NULL;
	d->ata.disk = config->is_cd ? NULL : config->disk;
	d->ata.is_packet = config->is_cd;
	d->ata.cable = (uint8_t)(1 + place % 2);
	snprintf(d->ata.serial, sizeof(d->ata.serial), "LODGE-IDE-%u", place);
	snprintf(d->unit.serial, sizeof(d->unit.serial), "LODGE-IDE-%u", place);
}

static int init(struct device *dev, const void *config, struct err *err)
{
	struct ide *ide = (struct ide *)dev;
	int rc;

	ide->config = *(const struct ide_config *)config;
	pthread_cond_init(&ide->idle, NULL);
	for (unsigned i = 0; i < IDE_DRIVES; i++)
		plug(ide, i);
	for (unsigned i = 0; i < IDE_CABLES; i++) {
		ide->cables[i].ide = ide;
		ide->cables[i].n = i;
	}
	ide->fn = (struct pci_function){
		.name = "ide", .vendor = 0x8086, .device = 0x7010, .class_code = 0x010180,
		.sub_vendor = 0x1af4, .sub_device = 0x1100, .ctx = ide,
		.bars[BMBA] = {.size = BMBA_SIZE, .io = true, .regs = ide_bus_master},
	};
	rc = pci_add(ide->config.host, &ide->fn, PCI_DEVFN(ide->config.slot, 0), err);
	if (rc < 0)
		return rc;
	le32_put(ide->fn.writable + IDETIM, UINT32_MAX);
	ide->fn.writable[SIDETIM] = 0xff;
	return 0;
}

/* Its ports are there as firmware would leave them. */
static void reset_timing(struct ide *ide)
{
	le32_put(ide->fn.config + IDETIM, 0x80008000);
	ide->fn.config[SIDETIM] = 0;
}

static void reset(struct device *dev)
{
	struct ide *ide = (struct ide *)dev;

	for (unsigned i = 0; i < IDE_CABLES; i++) {
		struct cable *c = &ide->cables[i];

		ide_start_reset(c);
		wait_idle(c);
		c->control = 0;
		ide_finish_reset(c);
		c->bm_command = c->bm_status = 0;
		c->table = 0;
		c->t = (struct transfer){.phase = IDLE};
	}
	reset_timing(ide);
}

static void fini(struct device *dev)
{
	struct ide *ide = (struct ide *)dev;

	if (ide->fn.host) {
		scoped_lock(&dev->lock);
		reset(dev);
	}
	pci_remove(&ide->fn);
	pthread_cond_destroy(&ide->idle);
}

/* What has begun ends. */
static void pause_cables(struct device *dev)
{
	for (unsigned i = 0; i < IDE_CABLES; i++)
		wait_idle(CABLE(dev, i));
}

/* What was loaded may be a command that has not begun. */
static void resume(struct device *dev)
{
	for (unsigned i = 0; i < IDE_CABLES; i++)
		if (!ide_is_busy(CABLE(dev, i)))
			ide_run_dma_if_ready(CABLE(dev, i));
}

static void saving(struct device *dev)
{
	pci_function_saving(&((struct ide *)dev)->fn);
}

static int check_drive(const struct drive *d, struct err *err)
{
	if (d->ata.multiple & (d->ata.multiple - 1))
		return err_set(err, EINVAL, "a drive moves %u sectors at once: that is a power of two", d->ata.multiple);
	if (!d->ata.heads || !d->ata.sectors)
		return err_set(err, EINVAL, "a drive has %u heads and %u sectors: it has some", d->ata.heads, d->ata.sectors);
	return 0;
}

/* SAFE: `at` to `stop` lie in the buffer, a block is at least a word, and what goes to the disk is whole sectors. */
static int check_transfer(const struct cable *c, struct err *err)
{
	const struct transfer *t = &c->t;
	const struct drive *d = &c->drives[t->drive];
	bool is_cd = d->unit.kind == SCSI_CD, moves = t->phase == IN || t->phase == OUT || t->phase == PACKET;

	if (t->phase == IDLE)
		return 0;
	if (!d->plugged || (t->packet && !is_cd) || (is_cd && t->phase != IN && !t->packet))
		return err_set(err, EINVAL, "cable %u has a command for a drive that is not there", c->n);
	if (t->at > t->stop || t->stop > t->n || (moves && (t->at == t->stop || t->block < 2)))
		return err_set(err, EINVAL, "cable %u is at byte %u of %u, of %u", c->n, t->at, t->stop, t->n);
	if ((t->phase == PACKET && t->stop != PACKET_LEN) || (t->phase == OUT && (t->n % DISK_SECTOR || t->left < t->n)) ||
	    (!is_cd && (t->block % DISK_SECTOR || t->left % DISK_SECTOR)) || (is_cd && t->writes) ||
	    (t->phase == OUT && !t->writes) || (t->phase == DMA && t->what == WHAT_RANGES && (is_cd || t->left != DISK_SECTOR)))
		return err_set(err, EINVAL, "cable %u moves what no command does", c->n);
	return 0;
}

static int loaded(struct device *dev, uint64_t away, struct err *err)
{
	struct ide *ide = (struct ide *)dev;
	int rc = 0;

	(void)away;
	for (unsigned i = 0; i < IDE_CABLES && rc == 0; i++) {
		struct cable *c = &ide->cables[i];

		rc = check_transfer(c, err);
		for (unsigned k = 0; k < 2 && rc == 0; k++)
			rc = check_drive(&c->drives[k], err);
		c->line = wants_line(c); /* the interrupt controllers know */
	}
	if (rc == 0)
		pci_function_loaded(&ide->fn);
	return rc;
}

static const struct state_field ata_fields[] = {ATA_STATE, ATA_CABLE_STATE, {0}};
static const struct state_field unit_fields[] = {SCSI_UNIT_STATE, {0}};

static const struct state_field drive_fields[] = {
	STATE_PART(struct drive, ata, ata_fields),
	STATE_PART(struct drive, unit, unit_fields),
	STATE(struct drive, status),
	STATE(struct drive, error),
	STATE_ARRAY(struct drive, now),
	STATE_ARRAY(struct drive, before),
	STATE(struct drive, irq),
	{0},
};

static const struct state_field transfer_fields[] = {
	STATE_UPTO(struct transfer, phase, PHASES - 1),
	STATE_UPTO(struct transfer, what, WHATS - 1),
	STATE_UPTO(struct transfer, drive, 1),
	STATE(struct transfer, packet),
	STATE(struct transfer, dma),
	STATE(struct transfer, writes),
	STATE(struct transfer, sync),
	STATE(struct transfer, disk_at),
	STATE(struct transfer, left),
	STATE_UPTO(struct transfer, block, BUFFER),
	STATE_UPTO(struct transfer, n, BUFFER),
	STATE_UPTO(struct transfer, at, BUFFER),
	STATE_UPTO(struct transfer, stop, BUFFER),
	STATE_COUNTED(struct transfer, bytes, n),
	{0},
};

static const struct state_field cable_fields[] = {
	STATE_PARTS(struct cable, drives, drive_fields),
	STATE(struct cable, device),
	STATE(struct cable, control),
	STATE(struct cable, bm_command),
	STATE(struct cable, bm_status),
	STATE(struct cable, table),
	STATE_PART(struct cable, t, transfer_fields),
	{0},
};

static const struct state_field fields[] = {
	PCI_FUNCTION_STATE(struct ide, fn),
	STATE_PARTS(struct ide, cables, cable_fields),
	{0},
};

static const struct state_table table = {.name = "ide", .version = 1, .fields = fields};
static const struct state_table *const state[] = {&table, NULL};

static const struct device_place places[] = {
	{BUS_PORT, 8, .regs = ide_task_0}, {BUS_PORT, 1, .regs = ide_control_0}, {BUS_PORT, 8, .regs = ide_task_1}, {BUS_PORT, 1, .regs = ide_control_1}, {0},
};

const struct device_model ide_model = {
	.name = "ide",
	.summary = "IDE controller of a PIIX3, with disks and CD drives",
	.option = "--disk FILE,bus=ide, --cdrom FILE,bus=ide",
	.size = sizeof(struct ide),
	.places = places,
	.bar = ide_bus_master,
	.bar_n = BMBA,
	.state = state,
	.init = init,
	.reset = reset,
	.fini = fini,
	.pause = pause_cables,
	.resume = resume,
	.saving = saving,
	.loaded = loaded,
};

/* SPDX-License-Identifier: MIT */
/*
 * Commands of the IDE controller: how they begin and end, and what of them goes through the data register, a block between two interrupts. See ide.c.
 */
#include "dev/storage/ide_private.h"

#include <errno.h>
#include <string.h>

/* Why it is the guest's turn: in the count register, of ATAPI commands. */
enum { REASON_OUT, REASON_COMMAND, REASON_IN, REASON_DONE };

/* -- Ending a command ------------------------------------------------------------------------ */

static void put_regs(struct drive *d, const struct ata_regs *r)
{
	d->now[COUNT] = (uint8_t)r->count;
	d->before[COUNT] = (uint8_t)(r->count >> 8);
	for (unsigned i = 0; i < 3; i++) {
		d->now[LBA + i] = (uint8_t)(r->lba >> i * 8);
		d->before[LBA + i] = (uint8_t)(r->lba >> (24 + i * 8));
	}
}

void ide_finish(struct cable *c, uint8_t status, uint8_t error)
{
	struct drive *d = active(c);

	c->t.phase = IDLE;
	d->status = status;
	d->error = error;
	if (c->t.packet)
		d->now[COUNT] = REASON_DONE;
	ide_interrupt(c);
}

void ide_finish_packet(struct cable *c)
{
	const struct scsi_cmd *s = &c->scsi;

	if (s->status == SCSI_GOOD)
		ide_finish(c, ATA_READY, 0);
	else
		ide_finish(c, ATA_READY | ATA_ERR, (uint8_t)(s->key << 4 | ATA_ABORTED));
}

/* The I/O has ended with rc, all of it or before. */
void ide_finish_io(struct cable *c, int rc)
{
	struct drive *d = active(c);
	enum disk_op op = c->t.writes ? DISK_WRITE : DISK_READ;

	if (c->t.packet) {
		c->scsi.status = SCSI_GOOD;
		c->scsi.io.op = op;
		scsi_end(&d->unit, &c->scsi, rc);
		ide_finish_packet(c);
		return;
	}
	c->ata.regs = (struct ata_regs){.status = ATA_READY};
	c->ata.io.op = op;
	ata_end(&d->ata, &c->ata, rc);
	ide_finish(c, c->ata.regs.status, c->ata.regs.error);
}

/* -- Requests --------------------------------------------------------------------------------- */

void ide_wait_for_disk(struct cable *c)
{
	active(c)->status = ATA_BUSY;
	c->under_way = true;
}

/* A request for the drive's disk; then() hears of its end, now or later. */
void ide_submit(struct cable *c, struct iovec *iov, unsigned n_iov, void (*then)(struct cable *c, int rc))
{
	struct disk *disk = disk_of(active(c));

	c->ranges.left = 0;
	c->then = then;
	c->req.iov = iov;
	c->req.n_iov = n_iov;
	c->req.done = ide_done;
	if (!disk)
		then(c, -EIO); /* somebody has taken it out */
	else if (disk_submit(disk, &c->req))
		then(c, c->req.rc);
	else
		ide_wait_for_disk(c);
}

/* `len` bytes of the buffer, from or to where the transfer is. */
static void submit_own(struct cable *c, uint32_t len, void (*then)(struct cable *c, int rc))
{
	const struct transfer *t = &c->t;

	c->own = (struct iovec){c->t.bytes, len};
	c->req = (struct disk_req){.op = t->writes ? DISK_WRITE : DISK_READ, .at = t->disk_at, .sync = t->sync};
	ide_submit(c, &c->own, 1, then);
}

/* -- Data by the data register ------------------------------------------------------------------ */

static uint32_t smaller(uint64_t a, uint32_t b)
{
	return a < b ? (uint32_t)a : b;
}

/* The guest is to read the next block of the buffer. */
static void offer(struct cable *c)
{
	struct transfer *t = &c->t;
	struct drive *d = active(c);
	uint32_t len = smaller(t->n - t->at, t->block);

	t->phase = IN;
	t->stop = t->at + len;
	d->status = ATA_READY | ATA_DRQ;
	if (t->packet) {
		d->now[COUNT] = REASON_IN;
		d->now[LIMIT] = (uint8_t)len;
		d->now[LIMIT + 1] = (uint8_t)(len >> 8);
	}
	ide_interrupt(c);
}

static void filled(struct cable *c, int rc)
{
	struct transfer *t = &c->t;

	if (rc < 0) {
		ide_finish_io(c, rc);
		return;
	}
	t->disk_at += c->own.iov_len;
	t->left -= c->own.iov_len;
	t->n = (uint32_t)c->own.iov_len;
	t->at = 0;
	offer(c);
}

static void fill(struct cable *c)
{
	struct transfer *t = &c->t;

	t->phase = IDLE;
	submit_own(c, smaller(t->left, t->packet ? BUFFER : t->block), filled);
}

/* The guest has read a block. Behind the last one of a disk comes no interrupt. */
void ide_was_read(struct cable *c)
{
	struct transfer *t = &c->t;

	if (t->at < t->n) {
		offer(c);
	} else if (t->left) {
		fill(c);
	} else if (t->packet) {
		ide_finish(c, ATA_READY, 0);
	} else {
		t->phase = IDLE;
		active(c)->status = ATA_READY;
	}
}

/* It is to write one. */
static void ask(struct cable *c)
{
	struct transfer *t = &c->t;

	t->phase = OUT;
	t->at = 0;
	t->n = t->stop = smaller(t->left, t->block);
	active(c)->status = ATA_READY | ATA_DRQ;
}

static void drained(struct cable *c, int rc)
{
	struct transfer *t = &c->t;

	t->disk_at += t->n;
	t->left -= t->n;
	if (rc < 0 || !t->left) {
		ide_finish_io(c, rc);
		return;
	}
	ask(c);
	ide_interrupt(c);
}

void ide_was_written(struct cable *c)
{
	c->t.phase = IDLE;
	submit_own(c, c->t.n, drained);
}

/* -- Beginning a command --------------------------------------------------------------------------- */

/* What an answer consists of: in the buffer. */
static void reply(struct cable *c, const uint8_t *bytes, uint32_t len, bool dma)
{
	struct transfer *t = &c->t;

	memcpy(t->bytes, bytes, len); /* SAFE: replies are shorter than the buffer */
	t->n = len;
	t->at = t->stop = 0;
	t->left = 0;
	if (dma)
		ide_want_dma(c, WHAT_REPLY);
	else
		offer(c);
}

void ide_begin_packet(struct cable *c)
{
	struct transfer *t = &c->t;
	struct scsi_cmd *s = &c->scsi;

	memset(s->cdb, 0, sizeof(s->cdb));
	memcpy(s->cdb, t->bytes, PACKET_LEN);
	pieces_clear(&c->pieces); /* no command of a CD drive takes data */
	scsi_begin(&active(c)->unit, s, &c->pieces);
	if (s->how == SCSI_REPLY && s->reply_len) {
		reply(c, s->reply, s->reply_len, t->dma);
	} else if (s->how == SCSI_IO) { /* SAFE: of a CD that is a read */
		t->disk_at = s->io.at;
		t->left = s->len;
		if (t->dma)
			ide_want_dma(c, WHAT_IO);
		else
			fill(c);
	} else {
		ide_finish_packet(c);
	}
}

static void flushed(struct cable *c, int rc)
{
	c->t.writes = true;
	ide_finish_io(c, rc);
}

static bool is_multiple(uint8_t code)
{
	return code == 0xc4 || code == 0xc5 || code == 0x29 || code == 0x39;
}

static void begin_io(struct cable *c, const struct drive *d)
{
	struct transfer *t = &c->t;
	const struct disk_req *io = &c->ata.io;

	t->writes = io->op == DISK_WRITE;
	t->sync = io->sync;
	t->disk_at = io->at;
	t->left = c->ata.len;
	t->block = is_multiple(c->ata.regs.command) ? d->ata.multiple * DISK_SECTOR : DISK_SECTOR;
	if (!c->ata.len) {
		c->req = *io;
		ide_submit(c, NULL, 0, flushed);
	} else if (c->ata.how == ATA_RANGES) {
		ide_want_dma(c, WHAT_RANGES);
	} else if (!c->ata.pio) {
		ide_want_dma(c, WHAT_IO);
	} else if (t->writes) {
		ask(c);
	} else {
		fill(c);
	}
}

/* Whole words, and no more than the buffer has room for; who says 0 takes all there is. */
static uint32_t packet_limit(const struct drive *d)
{
	uint32_t limit = (d->now[LIMIT] | (uint32_t)d->now[LIMIT + 1] << 8) & ~1u;

	return limit ? smaller(limit, BUFFER) : BUFFER;
}

/* A CD drive's command comes behind this one, without an interrupt. */
static void want_packet(struct cable *c, struct drive *d)
{
	struct transfer *t = &c->t;

	t->packet = true;
	t->dma = !c->ata.pio;
	t->block = packet_limit(d);
	t->phase = PACKET;
	t->at = 0;
	t->n = t->stop = PACKET_LEN;
	d->status = ATA_READY | ATA_DRQ;
	d->now[COUNT] = REASON_COMMAND;
}

static void read_regs(const struct cable *c, const struct drive *d, uint8_t code, struct ata_regs *r)
{
	*r = (struct ata_regs){
		.command = code, .device = c->device,
		.count = (uint16_t)(d->now[COUNT] | d->before[COUNT] << 8),
		.features = (uint16_t)(d->now[1] | d->before[1] << 8),
	};
	for (unsigned i = 0; i < 3; i++)
		r->lba |= (uint64_t)d->now[LBA + i] << i * 8 | (uint64_t)d->before[LBA + i] << (24 + i * 8);
}

static void begin_ata(struct cable *c, struct drive *d, uint8_t code)
{
	struct ata_cmd *a = &c->ata;

	read_regs(c, d, code, &a->regs);
	ata_begin(&d->ata, a);
	if (is_multiple(code) && !d->ata.multiple)
		ata_fail(a, ATA_ABORTED);
	put_regs(d, &a->regs);
	switch (a->how) {
	case ATA_DONE:
		ide_finish(c, a->regs.status, a->regs.error);
		break;
	case ATA_REPLY:
		c->t.block = ATA_REPLY_LEN;
		reply(c, a->reply, ATA_REPLY_LEN, !a->pio);
		break;
	case ATA_IO:
	case ATA_RANGES:
		begin_io(c, d);
		break;
	case ATA_PACKET:
		want_packet(c, d);
		break;
	}
}

/* EXECUTE DEVICE DIAGNOSTIC: both drives do, and the first one answers. */
static void diagnose(struct cable *c)
{
	for (unsigned i = 0; i < 2; i++)
		ide_say_signature(&c->drives[i]);
	c->device = 0;
	c->t.drive = 0;
	if (c->drives[0].plugged)
		ide_interrupt(c);
}

void ide_begin(struct cable *c, uint8_t code)
{
	struct drive *d = selected(c);
	struct transfer *t = &c->t;

	if (t->phase != IDLE) /* what is in the middle of its data ends here */
		active(c)->status = ATA_READY;
	t->phase = IDLE;
	t->packet = t->dma = t->writes = t->sync = false;
	t->drive = c->device & DEV_SECOND ? 1 : 0;
	d->irq = false;
	ide_update_line(c);
	d->error = 0;
	if (code == 0x90) {
		diagnose(c);
	} else if (d->ata.is_packet && code == 0x08) { /* DEVICE RESET has no interrupt */
		scsi_reset(&d->unit);
		ide_say_signature(d);
	} else if (d->plugged) {
		begin_ata(c, d, code);
	}
}

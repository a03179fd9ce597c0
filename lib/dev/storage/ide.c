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
 */
#include "dev/storage/ide.h"

#include "base/bytes.h"
#include "base/err.h"
#include "base/macros.h"
#include "base/scoped.h"
#include "dev/pci/function.h"
#include "dev/storage/ata.h"
#include "dev/storage/scsi.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define BUFFER     8192u /* the largest block of a disk, and whole blocks of a CD */
#define PACKET_LEN 12u
#define BMBA       4u
#define BMBA_SIZE  16u
#define IDETIM     0x40 /* of each cable two bytes, of which the upper bit says that it is there */
#define SIDETIM    0x44

#define DEV_SECOND 0x10u /* of the device register */

#define CONTROL_NO_IRQ 0x02u
#define CONTROL_RESET  0x04u
#define CONTROL_UPPER  0x80u

#define BM_START  0x01u /* of its command; */
#define BM_KEPT   0x09u
#define BM_ACTIVE 0x01u /* and of its status */
#define BM_ERROR  0x02u
#define BM_IRQ    0x04u
#define BM_DMA    0x60u /* drives can: the driver's */

#define PRD       8u
#define PRDS_MAX  8192u /* in a table: 64 KiB of them */
#define PRD_END   0x8000u

/* Why it is the guest's turn: in the count register, of ATAPI commands. */
enum { REASON_OUT, REASON_COMMAND, REASON_IN, REASON_DONE };

enum { COUNT = 2, LBA = 3, LIMIT = 4, REGS = 6 }; /* registers, of which 1 to 5 are kept */

enum phase { IDLE, PACKET, IN, OUT, DMA, PHASES };

/* What moves by DMA. */
enum what { WHAT_IO, WHAT_REPLY, WHAT_RANGES, WHATS };

struct drive {
	bool plugged;
	struct ata ata;
	struct scsi_unit unit; /* of a CD drive */
	/* the guest's: */
	uint8_t status, error;
	uint8_t now[REGS], before[REGS];
	bool irq;
};

/* A command's data. All of it is the guest's. */
struct transfer {
	uint8_t phase, what;
	uint8_t drive;      /* whose command it is */
	bool packet, dma;   /* an ATAPI one; which wants DMA */
	bool writes, sync;
	uint64_t disk_at;   /* what the disk is still to do */
	uint64_t left;
	uint32_t block;     /* bytes between two interrupts, at most */
	uint32_t n, at, stop;
	uint8_t bytes[BUFFER];
};

struct cable {
	struct ide *ide;
	unsigned n;
	struct drive drives[2];
	/* the guest's: */
	uint8_t device, control;
	uint8_t bm_command, bm_status;
	uint32_t table;
	struct transfer t;
	bool line; /* the interrupt line's level, which follows */
	/* while a request is under way; nothing of it when the machine is paused: */
	bool under_way, resetting;
	void (*then)(struct cable *c, int rc); /* when it has ended */
	bool goes_on; /* the table has more than the command moves */
	struct disk_req req;
	struct iovec own; /* the buffer */
	struct ata_cmd ata;
	struct scsi_cmd scsi;
	struct pieces pieces;
	struct ranges ranges; /* with none left: it is one request */
};

struct ide {
	struct device dev; /* first */
	struct ide_config config;
	struct pci_function fn;
	struct cable cables[IDE_CABLES];
	pthread_cond_t idle;
};

/* -- Drives and interrupts ------------------------------------------------------------------ */

static struct drive *selected(struct cable *c)
{
	return &c->drives[!!(c->device & DEV_SECOND)];
}

/* Whose command is under way. */
static struct drive *active(struct cable *c)
{
	return &c->drives[c->t.drive];
}

static struct disk *disk_of(const struct drive *d)
{
	return d->unit.kind == SCSI_CD ? d->unit.disk : d->ata.disk;
}

static bool wants_line(struct cable *c)
{
	return selected(c)->irq && !(c->control & CONTROL_NO_IRQ);
}

static void update_line(struct cable *c)
{
	bool level = wants_line(c);

	if (level == c->line)
		return;
	c->line = level;
	if (level)
		c->bm_status |= BM_IRQ;
	irq_set(&c->ide->config.irq[c->n], level);
}

static void interrupt(struct cable *c)
{
	active(c)->irq = true;
	update_line(c);
}

static bool is_busy(const struct cable *c)
{
	return c->under_way || c->resetting || c->control & CONTROL_RESET;
}

/* A drive that was reset says what it is. */
static void say_signature(struct drive *d)
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

static void finish(struct cable *c, uint8_t status, uint8_t error)
{
	struct drive *d = active(c);

	c->t.phase = IDLE;
	d->status = status;
	d->error = error;
	if (c->t.packet)
		d->now[COUNT] = REASON_DONE;
	interrupt(c);
}

static void finish_packet(struct cable *c)
{
	const struct scsi_cmd *s = &c->scsi;

	if (s->status == SCSI_GOOD)
		finish(c, ATA_READY, 0);
	else
		finish(c, ATA_READY | ATA_ERR, (uint8_t)(s->key << 4 | ATA_ABORTED));
}

/* The I/O has ended with rc, all of it or before. */
static void finish_io(struct cable *c, int rc)
{
	struct drive *d = active(c);
	enum disk_op op = c->t.writes ? DISK_WRITE : DISK_READ;

	if (c->t.packet) {
		c->scsi.status = SCSI_GOOD;
		c->scsi.io.op = op;
		scsi_end(&d->unit, &c->scsi, rc);
		finish_packet(c);
		return;
	}
	c->ata.regs = (struct ata_regs){.status = ATA_READY};
	c->ata.io.op = op;
	ata_end(&d->ata, &c->ata, rc);
	finish(c, c->ata.regs.status, c->ata.regs.error);
}

/* -- Requests --------------------------------------------------------------------------------- */

static void done(struct disk_req *req);

static void wait_for_disk(struct cable *c)
{
	active(c)->status = ATA_BUSY;
	c->under_way = true;
}

/* A request for the drive's disk; then() hears of its end, now or later. */
static void submit(struct cable *c, struct iovec *iov, unsigned n_iov, void (*then)(struct cable *c, int rc))
{
	struct disk *disk = disk_of(active(c));

	c->ranges.left = 0;
	c->then = then;
	c->req.iov = iov;
	c->req.n_iov = n_iov;
	c->req.done = done;
	if (!disk)
		then(c, -EIO); /* somebody has taken it out */
	else if (disk_submit(disk, &c->req))
		then(c, c->req.rc);
	else
		wait_for_disk(c);
}

/* `len` bytes of the buffer, from or to where the transfer is. */
static void submit_own(struct cable *c, uint32_t len, void (*then)(struct cable *c, int rc))
{
	const struct transfer *t = &c->t;

	c->own = (struct iovec){c->t.bytes, len};
	c->req = (struct disk_req){.op = t->writes ? DISK_WRITE : DISK_READ, .at = t->disk_at, .sync = t->sync};
	submit(c, &c->own, 1, then);
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
	interrupt(c);
}

static void filled(struct cable *c, int rc)
{
	struct transfer *t = &c->t;

	if (rc < 0) {
		finish_io(c, rc);
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
static void was_read(struct cable *c)
{
	struct transfer *t = &c->t;

	if (t->at < t->n) {
		offer(c);
	} else if (t->left) {
		fill(c);
	} else if (t->packet) {
		finish(c, ATA_READY, 0);
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
		finish_io(c, rc);
		return;
	}
	ask(c);
	interrupt(c);
}

static void was_written(struct cable *c)
{
	c->t.phase = IDLE;
	submit_own(c, c->t.n, drained);
}

/* -- DMA ------------------------------------------------------------------------------------------ */

static bool to_guest(const struct transfer *t)
{
	return t->what == WHAT_REPLY || (t->what == WHAT_IO && !t->writes);
}

/* As much memory as the command moves, if the table has it. An entry is read once, and what was read is what is checked. */
static bool gather(struct cable *c, uint64_t len)
{
	const struct guest_mem *mem = c->ide->config.mem;
	uint8_t prd[PRD];
	bool last = false;

	pieces_clear(&c->pieces);
	for (unsigned i = 0; i < PRDS_MAX && !last && c->pieces.len < len; i++) {
		uint32_t n;

		if (guest_read(mem, (gpa_t)c->table + i * PRD, prd, PRD) < 0)
			return false;
		n = le16_get(prd + 4) & 0xfffe;
		last = le16_get(prd + 6) & PRD_END;
		if (!pieces_add(&c->pieces, mem, le32_get(prd) & ~1u, n ? n : 0x10000, to_guest(&c->t)))
			return false;
	}
	c->goes_on = !last || c->pieces.len > len;
	pieces_cut(&c->pieces, len);
	return true;
}

static void moved(struct cable *c, int rc)
{
	if (!c->goes_on)
		c->bm_status &= (uint8_t)~BM_ACTIVE;
	c->t.left = 0;
	finish_io(c, rc);
}

/* The next of a list of ranges: true if there is one, and it is under way. */
static bool next_range(struct cable *c)
{
	struct disk *disk = disk_of(active(c));
	int rc;

	while ((rc = ranges_next(&c->ranges, &c->req, disk_info(disk)->size)) > 0) {
		if (!disk_submit(disk, &c->req))
			return true;
		if (c->req.rc < 0)
			break;
	}
	c->req.rc = rc < 0 ? rc : c->req.rc;
	return false;
}

static void discard(struct cable *c)
{
	c->ranges = (struct ranges){.list = &c->pieces, .step = 8, .left = (uint32_t)c->t.left / 8, .parse = ata_range};
	c->req = (struct disk_req){.op = DISK_DISCARD, .done = done};
	c->then = moved;
	if (next_range(c))
		wait_for_disk(c);
	else
		moved(c, c->req.rc);
}

/* The table has less than the command wants, or what is no memory: it is cut off. */
static void fail_dma(struct cable *c)
{
	c->bm_status = (uint8_t)((c->bm_status & ~BM_ACTIVE) | BM_ERROR);
	if (c->t.packet) {
		scsi_fail(&active(c)->unit, &c->scsi, SENSE_ILLEGAL, 0x2400);
		finish_packet(c);
	} else {
		finish(c, ATA_READY | ATA_ERR, ATA_ABORTED);
	}
}

/* Command and bus master are both there. */
static void run_dma(struct cable *c)
{
	struct transfer *t = &c->t;
	uint64_t len = t->what == WHAT_REPLY ? t->n : t->left;

	t->phase = IDLE;
	if (!gather(c, len) || c->pieces.len < len) {
		fail_dma(c);
	} else if (t->what == WHAT_REPLY) {
		pieces_put(&c->pieces, t->bytes, len);
		moved(c, 0);
	} else if (t->what == WHAT_RANGES) {
		discard(c);
	} else {
		c->req = (struct disk_req){.op = t->writes ? DISK_WRITE : DISK_READ, .at = t->disk_at, .sync = t->sync};
		submit(c, c->pieces.iov, c->pieces.n, moved);
	}
}

static void run_dma_if_ready(struct cable *c)
{
	if (c->t.phase == DMA && c->bm_command & BM_START)
		run_dma(c);
}

static void want_dma(struct cable *c, enum what what)
{
	c->t.phase = DMA;
	c->t.what = (uint8_t)what;
	active(c)->status = ATA_READY | ATA_DRQ;
	run_dma_if_ready(c);
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
		want_dma(c, WHAT_REPLY);
	else
		offer(c);
}

static void begin_packet(struct cable *c)
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
			want_dma(c, WHAT_IO);
		else
			fill(c);
	} else {
		finish_packet(c);
	}
}

static void flushed(struct cable *c, int rc)
{
	c->t.writes = true;
	finish_io(c, rc);
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
		submit(c, NULL, 0, flushed);
	} else if (c->ata.how == ATA_RANGES) {
		want_dma(c, WHAT_RANGES);
	} else if (!c->ata.pio) {
		want_dma(c, WHAT_IO);
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
		finish(c, a->regs.status, a->regs.error);
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
		say_signature(&c->drives[i]);
	c->device = 0;
	c->t.drive = 0;
	if (c->drives[0].plugged)
		interrupt(c);
}

static void begin(struct cable *c, uint8_t code)
{
	struct drive *d = selected(c);
	struct transfer *t = &c->t;

	if (t->phase != IDLE) /* what is in the middle of its data ends here */
		active(c)->status = ATA_READY;
	t->phase = IDLE;
	t->packet = t->dma = t->writes = t->sync = false;
	t->drive = c->device & DEV_SECOND ? 1 : 0;
	d->irq = false;
	update_line(c);
	d->error = 0;
	if (code == 0x90) {
		diagnose(c);
	} else if (d->ata.is_packet && code == 0x08) { /* DEVICE RESET has no interrupt */
		scsi_reset(&d->unit);
		say_signature(d);
	} else if (d->plugged) {
		begin_ata(c, d, code);
	}
}

/* -- Resets --------------------------------------------------------------------------------------- */

static void cancel(struct cable *c, bool on)
{
	for (unsigned i = 0; i < 2; i++)
		if (disk_of(&c->drives[i]))
			disk_cancel(disk_of(&c->drives[i]), on);
}

/* What was under way has ended, and the guest has let go. */
static void finish_reset(struct cable *c)
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
		say_signature(&c->drives[i]);
	}
	update_line(c);
}

static void start_reset(struct cable *c)
{
	c->t.phase = IDLE;
	for (unsigned i = 0; i < 2; i++) {
		c->drives[i].status = ATA_BUSY;
		c->drives[i].irq = false;
	}
	update_line(c);
	if (!c->resetting)
		cancel(c, true);
	c->resetting = true;
}

/* On a thread of the disk. */
static void done(struct disk_req *req)
{
	struct cable *c = container_of(req, struct cable, req);

	scoped_lock(&c->ide->dev.lock);
	if (!c->resetting && req->rc == 0 && c->ranges.left && next_range(c))
		return;
	c->under_way = false;
	pthread_cond_broadcast(&c->ide->idle);
	if (c->resetting)
		finish_reset(c);
	else
		c->then(c, req->rc);
}

/* -- Registers of a command --------------------------------------------------------------------------- */

static uint64_t read_data(struct cable *c, unsigned width)
{
	struct transfer *t = &c->t;
	uint64_t value = 0;

	if (t->phase != IN || active(c) != selected(c))
		return 0;
	for (unsigned i = 0; i < width && t->at < t->stop; i++)
		value |= (uint64_t)t->bytes[t->at++] << i * 8; /* SAFE: stop is at most the buffer's end */
	if (t->at == t->stop)
		was_read(c);
	return value;
}

static void write_data(struct cable *c, unsigned width, uint64_t value)
{
	struct transfer *t = &c->t;

	if ((t->phase != OUT && t->phase != PACKET) || active(c) != selected(c))
		return;
	for (unsigned i = 0; i < width && t->at < t->stop; i++)
		t->bytes[t->at++] = (uint8_t)(value >> i * 8); /* SAFE: as above */
	if (t->at < t->stop)
		return;
	if (t->phase == PACKET)
		begin_packet(c);
	else
		was_written(c);
}

static uint8_t status(struct cable *c)
{
	return is_busy(c) ? ATA_BUSY : selected(c)->status;
}

/* Of a drive that is not there all is 0. */
static uint64_t read_task(struct cable *c, unsigned at)
{
	struct drive *d = selected(c);

	if (!d->plugged)
		return 0;
	switch (at) {
	case 1:
		return d->error;
	case 6:
		return c->device;
	case 7:
		if (!is_busy(c)) {
			d->irq = false;
			update_line(c);
		}
		return status(c);
	default:
		return c->control & CONTROL_UPPER ? d->before[at] : d->now[at];
	}
}

static void write_task(struct cable *c, unsigned at, uint8_t value)
{
	if (is_busy(c))
		return;
	c->control &= (uint8_t)~CONTROL_UPPER;
	if (at == 7) {
		begin(c, value);
	} else if (at == 6) {
		c->device = value;
		update_line(c);
	} else {
		for (unsigned i = 0; i < 2; i++) {
			c->drives[i].before[at] = c->drives[i].now[at];
			c->drives[i].now[at] = value;
		}
	}
}

static uint64_t read_alternate(struct cable *c)
{
	return selected(c)->plugged ? status(c) : 0;
}

static void write_control(struct cable *c, uint8_t value)
{
	uint8_t before = c->control;

	c->control = value & (CONTROL_NO_IRQ | CONTROL_RESET | CONTROL_UPPER);
	if (c->control & CONTROL_RESET)
		start_reset(c);
	else if (before & CONTROL_RESET)
		finish_reset(c);
	update_line(c);
}

/* The same for each cable: a handler knows its device, and no more. */
#define CABLE(dev, n) (&((struct ide *)(dev))->cables[n])
#define HANDLERS(n)                                                                        \
	static uint64_t read_data16_##n(void *dev, unsigned at)                            \
	{                                                                                  \
		(void)at;                                                                  \
		return read_data(CABLE(dev, n), 2);                                        \
	}                                                                                  \
	static void write_data16_##n(void *dev, unsigned at, uint64_t value)               \
	{                                                                                  \
		(void)at;                                                                  \
		write_data(CABLE(dev, n), 2, value);                                       \
	}                                                                                  \
	static uint64_t read_data32_##n(void *dev, unsigned at)                            \
	{                                                                                  \
		(void)at;                                                                  \
		return read_data(CABLE(dev, n), 4);                                        \
	}                                                                                  \
	static void write_data32_##n(void *dev, unsigned at, uint64_t value)               \
	{                                                                                  \
		(void)at;                                                                  \
		write_data(CABLE(dev, n), 4, value);                                       \
	}                                                                                  \
	static uint64_t read_task_##n(void *dev, unsigned at)                              \
	{                                                                                  \
		return read_task(CABLE(dev, n), at);                                       \
	}                                                                                  \
	static void write_task_##n(void *dev, unsigned at, uint64_t value)                 \
	{                                                                                  \
		write_task(CABLE(dev, n), at, (uint8_t)value);                             \
	}                                                                                  \
	static uint64_t read_alternate_##n(void *dev, unsigned at)                         \
	{                                                                                  \
		(void)at;                                                                  \
		return read_alternate(CABLE(dev, n));                                      \
	}                                                                                  \
	static void write_control_##n(void *dev, unsigned at, uint64_t value)              \
	{                                                                                  \
		(void)at;                                                                  \
		write_control(CABLE(dev, n), (uint8_t)value);                              \
	}                                                                                  \
	static const struct reg task_##n[] = {                                             \
		{.at = 0, .width = 2, .name = "DATA", .read = read_data16_##n, .write = write_data16_##n}, \
		{.at = 1, .width = 1, .name = "ERROR, FEATURES", .read = read_task_##n, .write = write_task_##n}, \
		{.at = 2, .width = 1, .name = "COUNT", .read = read_task_##n, .write = write_task_##n}, \
		{.at = 3, .width = 1, .count = 3, .name = "LBA, low to high", .read = read_task_##n, .write = write_task_##n}, \
		{.at = 6, .width = 1, .name = "DEVICE", .read = read_task_##n, .write = write_task_##n}, \
		{.at = 7, .width = 1, .name = "STATUS, COMMAND", .read = read_task_##n, .write = write_task_##n}, \
		{.at = 0, .width = 4, .name = "DATA, two words", .read = read_data32_##n, .write = write_data32_##n}, \
		{0},                                                                       \
	};                                                                                 \
	static const struct reg control_##n[] = {                                          \
		{.at = 0, .width = 1, .name = "ALTERNATE STATUS, CONTROL", .read = read_alternate_##n, .write = write_control_##n}, \
		{0},                                                                       \
	}

HANDLERS(0);
HANDLERS(1);

/* -- Registers of the bus master ----------------------------------------------------------------------- */

static uint64_t read_bm_command(void *dev, unsigned at)
{
	return CABLE(dev, at / 8)->bm_command;
}

/* What has begun ends; ACTIVE says when. */
static void write_bm_command(void *dev, unsigned at, uint64_t value)
{
	struct cable *c = CABLE(dev, at / 8);
	bool starts = value & BM_START && !(c->bm_command & BM_START);

	c->bm_command = (uint8_t)value & BM_KEPT;
	if (starts) {
		c->bm_status |= BM_ACTIVE;
		run_dma_if_ready(c);
	} else if (!(value & BM_START) && !c->under_way) {
		c->bm_status &= (uint8_t)~BM_ACTIVE;
	}
}

static uint64_t read_bm_status(void *dev, unsigned at)
{
	return CABLE(dev, at / 8)->bm_status;
}

static void write_bm_status(void *dev, unsigned at, uint64_t value)
{
	struct cable *c = CABLE(dev, at / 8);

	c->bm_status &= (uint8_t)~(value & (BM_ERROR | BM_IRQ));
	c->bm_status = (uint8_t)((c->bm_status & ~BM_DMA) | (value & BM_DMA));
}

static uint64_t read_table(void *dev, unsigned at)
{
	return CABLE(dev, at / 8)->table;
}

static void write_table(void *dev, unsigned at, uint64_t value)
{
	CABLE(dev, at / 8)->table = (uint32_t)value & ~3u;
}

static const struct reg bus_master[] = {
	{.at = 0x0, .width = 1, .name = "BMICOM, primary", .read = read_bm_command, .write = write_bm_command},
	{.at = 0x2, .width = 1, .name = "BMISTA, primary", .read = read_bm_status, .write = write_bm_status},
	{.at = 0x4, .width = 4, .name = "BMIDTP, primary", .read = read_table, .write = write_table},
	{.at = 0x8, .width = 1, .name = "BMICOM, secondary", .read = read_bm_command, .write = write_bm_command},
	{.at = 0xa, .width = 1, .name = "BMISTA, secondary", .read = read_bm_status, .write = write_bm_status},
	{.at = 0xc, .width = 4, .name = "BMIDTP, secondary", .read = read_table, .write = write_table},
	{0},
};

static uint64_t bar_read(void *ctx, uint64_t at, unsigned width)
{
	struct ide *ide = ctx;

	scoped_lock(&ide->dev.lock);
	return regs_read(bus_master, ide, at, width);
}

static void bar_write(void *ctx, uint64_t at, unsigned width, uint64_t value)
{
	struct ide *ide = ctx;

	scoped_lock(&ide->dev.lock);
	regs_write(bus_master, ide, at, width, value);
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
		.bars[BMBA] = {.size = BMBA_SIZE, .io = true, .read = bar_read, .write = bar_write},
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

		start_reset(c);
		wait_idle(c);
		c->control = 0;
		finish_reset(c);
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
		if (!is_busy(CABLE(dev, i)))
			run_dma_if_ready(CABLE(dev, i));
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
	{BUS_PORT, 8, .regs = task_0}, {BUS_PORT, 1, .regs = control_0}, {BUS_PORT, 8, .regs = task_1}, {BUS_PORT, 1, .regs = control_1}, {0},
};

const struct device_model ide_model = {
	.name = "ide",
	.summary = "IDE controller of a PIIX3, with disks and CD drives",
	.option = "--disk FILE,bus=ide, --cdrom FILE,bus=ide",
	.size = sizeof(struct ide),
	.places = places,
	.bar = bus_master,
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

/* SPDX-License-Identifier: MIT */
/* Data of IDE commands by the bus master: a table of memory, and the disk's requests for all of it at once. See ide.c. */
#include "dev/storage/ide_private.h"

#include "base/bytes.h"

#define PRD       8u
#define PRDS_MAX  8192u /* in a table: 64 KiB of them */
#define PRD_END   0x8000u

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
	ide_finish_io(c, rc);
}

/* The next of a list of ranges: true if there is one, and it is under way. */
bool ide_next_range(struct cable *c)
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
	c->req = (struct disk_req){.op = DISK_DISCARD, .done = ide_done};
	c->then = moved;
	if (ide_next_range(c))
		ide_wait_for_disk(c);
	else
		moved(c, c->req.rc);
}

/* The table has less than the command wants, or what is no memory: it is cut off. */
static void fail_dma(struct cable *c)
{
	c->bm_status = (uint8_t)((c->bm_status & ~BM_ACTIVE) | BM_ERROR);
	if (c->t.packet) {
		scsi_fail(&active(c)->unit, &c->scsi, SENSE_ILLEGAL, 0x2400);
		ide_finish_packet(c);
	} else {
		ide_finish(c, ATA_READY | ATA_ERR, ATA_ABORTED);
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
		ide_submit(c, c->pieces.iov, c->pieces.n, moved);
	}
}

void ide_run_dma_if_ready(struct cable *c)
{
	if (c->t.phase == DMA && c->bm_command & BM_START)
		run_dma(c);
}

void ide_want_dma(struct cable *c, enum what what)
{
	c->t.phase = DMA;
	c->t.what = (uint8_t)what;
	active(c)->status = ATA_READY | ATA_DRQ;
	ide_run_dma_if_ready(c);
}

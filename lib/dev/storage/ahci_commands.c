/* SPDX-License-Identifier: MIT */
/* What goes to and from a SATA controller's drives: a slot's command, its data, how it ends, and the FISes in which the drive says so. See ahci.c. */
#include "dev/storage/ahci_private.h"

#include "base/bytes.h"
#include "base/macros.h"
#include "base/scoped.h"

#include <string.h>

#define HEADER 32u
#define HEADER_PACKET (1u << 5)
#define HEADER_WRITE  (1u << 6)
#define TABLE_PACKET 0x40u
#define TABLE_REGIONS 0x80u
#define REGION 16u
#define FIS_HOST    0x27u
#define FIS_REGS    0x34u
#define FIS_PIO     0x5fu
#define FIS_BITS    0xa1u
#define FIS_COMMAND 0x80u /* it is one */
#define FIS_SRST    0x04u
#define FIS_IRQ     0x40u
#define FIS_TO_HOST 0x20u
#define REGS_AT 0x40u
#define PIO_AT  0x20u
#define BITS_AT 0x58u

/* -- What the drive says --------------------------------------------------------------------- */

static void post(struct port *p, unsigned at, const uint8_t *fis, unsigned len)
{
	if (p->cmd & CMD_FRE)
		guest_write(p->ahci->config.mem, p->fb + at, fis, len);
}

static void set_status(struct port *p, const struct ata_regs *r)
{
	p->tfd = (uint32_t)r->error << 8 | r->status;
}

static void fill_fis(uint8_t *fis, uint8_t type, const struct ata_regs *r)
{
	fis[0] = type;
	fis[1] = FIS_IRQ;
	fis[2] = r->status;
	fis[3] = r->error;
	le32_put(fis + 4, (uint32_t)r->lba & 0xffffff);
	fis[7] = r->device;
	le32_put(fis + 8, (uint32_t)(r->lba >> 24) & 0xffffff);
	le16_put(fis + 12, r->count);
}

/* Its registers; `quiet`: as the answer to what needs no interrupt. */
static void post_regs(struct port *p, const struct ata_regs *r, bool quiet)
{
	uint8_t fis[20] = {0};

	fill_fis(fis, FIS_REGS, r);
	if (quiet)
		fis[1] = 0;
	else
		p->is |= IS_DHR;
	set_status(p, r);
	post(p, REGS_AT, fis, sizeof(fis));
}

/* That `len` bytes go by PIO; and with them, for what reads, the end. */
static void post_pio(struct port *p, const struct ata_regs *r, bool to_host, uint32_t len)
{
	struct ata_regs now = *r;
	uint8_t fis[20] = {0};

	now.status = ATA_READY | ATA_DRQ;
	fill_fis(fis, FIS_PIO, &now);
	fis[1] |= to_host ? FIS_TO_HOST : 0;
	fis[15] = r->status;
	le16_put(fis + 16, (uint16_t)len);
	p->is |= IS_PS;
	post(p, PIO_AT, fis, sizeof(fis));
}

/* Queued commands have ended, or one has failed. */
static void post_bits(struct port *p, uint32_t ended, uint8_t status, uint8_t error)
{
	uint8_t fis[8] = {FIS_BITS, FIS_IRQ, status & 0x77, error};

	le32_put(fis + 4, ended);
	p->sact &= ~ended;
	p->is |= IS_SDB;
	p->tfd = (p->tfd & 0x88) | (status & 0x77) | (uint32_t)error << 8;
	post(p, BITS_AT, fis, sizeof(fis));
}

static void tell_ended(struct port *p)
{
	if (p->ended)
		post_bits(p, p->ended, ATA_READY, 0);
	p->ended = 0;
}

/* A drive that has reset itself says what it is. */
void ahci_say_signature(struct port *p)
{
	struct ata_regs r = {
		.status = p->unit.kind == SCSI_CD ? 0 : ATA_READY, .error = 1, .count = 1, .lba = p->unit.kind == SCSI_CD ? 0xeb1401 : 1,
	};

	p->sig = p->unit.kind == SCSI_CD ? ATA_SIGNATURE_ATAPI : ATA_SIGNATURE;
	post_regs(p, &r, true);
}

/* -- Ending a command ------------------------------------------------------------------------- */

static void halt(struct port *p, uint32_t why)
{
	p->is |= why;
	p->halted = true;
}

static void end_queued(struct slot *s)
{
	struct port *p = s->port;
	struct ata_regs *r = &s->ata.regs;

	if (!(r->status & ATA_ERR)) {
		p->ended |= 1u << s->n;
		return;
	}
	ata_note_failed(&p->ata, &s->ata, s->n);
	tell_ended(p);
	post_bits(p, 0, r->status, r->error);
	halt(p, IS_TFE);
}

static void end_packet(struct slot *s)
{
	struct ata_regs *r = &s->ata.regs;

	r->count = 3; /* neither command nor data: all is done */
	if (s->scsi.status == SCSI_GOOD)
		return;
	r->status = ATA_READY | ATA_ERR;
	r->error = (uint8_t)(s->scsi.key << 4 | ATA_ABORTED);
}

static void end_alone(struct slot *s)
{
	struct port *p = s->port;
	struct ata_regs *r = &s->ata.regs;
	bool is_error, reads = s->ata.how == ATA_REPLY || s->req.op == DISK_READ;
	uint8_t moved[4];

	if (s->packet)
		end_packet(s);
	is_error = r->status & ATA_ERR;
	le32_put(moved, s->moved);
	guest_write(p->ahci->config.mem, s->header + 4, moved, sizeof(moved));
	p->ci &= ~(1u << s->n);
	if (s->ata.pio && s->moved && !is_error)
		post_pio(p, r, reads || s->packet, s->moved);
	if (s->ata.pio && s->moved && !is_error && reads && !s->packet)
		set_status(p, r);
	else
		post_regs(p, r, false);
	if (is_error)
		halt(p, IS_TFE);
}

static void end(struct slot *s)
{
	struct port *p = s->port;

	p->begun &= ~(1u << s->n);
	if (s->ata.queued)
		end_queued(s);
	else
		end_alone(s);
}

/* The I/O has ended, all of it. */
static void end_io(struct slot *s, int rc)
{
	struct port *p = s->port;

	if (s->packet)
		scsi_end(&p->unit, &s->scsi, rc);
	else
		ata_end(&p->ata, &s->ata, rc);
	if (rc == 0)
		s->moved = (uint32_t)s->pieces.len;
	end(s);
}

/* The next of a list of ranges: true if there is one, and it is under way. */
static bool next_range(struct slot *s)
{
	struct disk *disk = disk_of(s->port);
	int rc;

	while ((rc = ranges_next(&s->ranges, &s->req, disk_info(disk)->size)) > 0) {
		if (!disk_submit(disk, &s->req))
			return true;
		if (s->req.rc < 0)
			break;
	}
	s->req.rc = rc < 0 ? rc : s->req.rc;
	return false;
}

/* On a thread of the disk. */
static void done(struct disk_req *req)
{
	struct slot *s = container_of(req, struct slot, req);
	struct port *p = s->port;
	struct ahci *a = p->ahci;

	scoped_lock(&a->dev.lock);
	if (!p->stopping && req->rc == 0 && s->ranges.left && next_range(s))
		return;
	if (--p->under_way == 0) {
		p->alone = false;
		pthread_cond_broadcast(&a->idle);
	}
	if (!p->stopping) {
		end_io(s, req->rc);
		ahci_run(p);
	} else if (p->under_way == 0 && !a->resetting) {
		ahci_finish_stop(p);
	} else if (a->resetting && ahci_is_idle(a)) {
		ahci_finish_reset(a);
	}
	ahci_update_irq(a, false);
}

/* -- Beginning one ------------------------------------------------------------------------------ */

/* As much memory as the command moves, if the driver has given it. */
static bool gather(struct slot *s, const uint8_t *header, uint64_t len, bool to_guest)
{
	const struct guest_mem *mem = s->port->ahci->config.mem;
	unsigned n = le16_get(header + 2);
	uint64_t table = le64_get(header + 8) & ~UINT64_C(0x7f);
	const uint8_t *list = n ? guest_range_ro(mem, table + TABLE_REGIONS, n * REGION) : NULL;
	uint8_t region[REGION];

	pieces_clear(&s->pieces);
	for (; list && n && s->pieces.len < len; n--, list += REGION) {
		memcpy(region, list, REGION); /* SAFE: what is checked is this copy */
		if (!pieces_add(&s->pieces, mem, le64_get(region), (le32_get(region + 12) & 0x3fffff) + 1u, to_guest))
			return false;
	}
	pieces_cut(&s->pieces, len);
	return true;
}

/* Gives the request to the disk. True: it has ended already. */
static bool submit(struct slot *s, const struct disk_req *io)
{
	struct port *p = s->port;

	s->req = *io;
	s->req.done = done;
	s->req.iov = s->pieces.iov;
	s->req.n_iov = s->pieces.n;
	if (disk_submit(disk_of(p), &s->req))
		return true;
	p->under_way++;
	return false;
}

static bool submit_ranges(struct slot *s, const struct ranges *ranges)
{
	s->ranges = *ranges;
	s->req = (struct disk_req){.op = DISK_DISCARD, .done = done};
	if (!next_range(s))
		return true;
	s->port->under_way++;
	return false;
}

static void reply(struct slot *s, const uint8_t *bytes, uint32_t len)
{
	s->moved = (uint32_t)pieces_put(&s->pieces, bytes, len);
	end(s);
}

static void begin_packet(struct slot *s, const uint8_t *header, const uint8_t *command)
{
	struct port *p = s->port;
	struct scsi_cmd *c = &s->scsi;

	memcpy(c->cdb, command, sizeof(c->cdb));
	pieces_clear(&s->pieces); /* no command of a CD drive takes data */
	scsi_begin(&p->unit, c, &s->pieces);
	if (c->how == SCSI_DONE) {
		end(s);
	} else if (!gather(s, header, c->how == SCSI_REPLY ? c->reply_len : c->len, true)) {
		p->begun &= ~(1u << s->n);
		halt(p, IS_HBF);
	} else if (c->how == SCSI_REPLY) {
		reply(s, c->reply, c->reply_len);
	} else if (s->pieces.len < c->len) {
		scsi_fail(&p->unit, c, SENSE_ILLEGAL, 0x2400);
		end(s);
	} else if (submit(s, &c->io)) {
		end_io(s, s->req.rc);
	}
}

static void begin_ata(struct slot *s, const uint8_t *header)
{
	struct port *p = s->port;
	struct ata_cmd *c = &s->ata;
	bool to_guest = c->how == ATA_REPLY || (c->how == ATA_IO && c->io.op == DISK_READ);

	if (c->how == ATA_DONE) {
		end(s);
	} else if (!gather(s, header, c->how == ATA_REPLY ? ATA_REPLY_LEN : c->len, to_guest)) {
		p->begun &= ~(1u << s->n);
		halt(p, IS_HBF);
	} else if (c->how == ATA_REPLY) {
		reply(s, c->reply, ATA_REPLY_LEN);
	} else if (s->pieces.len < c->len) {
		ata_fail(c, ATA_ABORTED);
		end(s);
	} else if (c->how == ATA_RANGES ? submit_ranges(s, &(struct ranges){
			.list = &s->pieces, .step = 8, .left = c->len / 8, .parse = ata_range}) : submit(s, &c->io)) {
		end_io(s, s->req.rc);
	}
}

/* A reset that the driver holds, and then lets go. */
static void take_control(struct slot *s, uint8_t control)
{
	struct port *p = s->port;

	p->begun &= ~(1u << s->n);
	p->ci &= ~(1u << s->n);
	if (control & FIS_SRST) {
		p->soft_reset = true;
	} else if (p->soft_reset) {
		p->soft_reset = false;
		ata_reset(&p->ata);
		scsi_reset(&p->unit);
		ahci_say_signature(p);
	}
}

static void read_regs(struct ata_regs *r, const uint8_t *fis)
{
	*r = (struct ata_regs){
		.command = fis[2], .device = fis[7], .count = le16_get(fis + 12),
		.features = (uint16_t)(fis[3] | fis[11] << 8),
		.lba = (le32_get(fis + 4) & 0xffffff) | (uint64_t)(le32_get(fis + 8) & 0xffffff) << 24,
	};
}

/* Of a queued command the tag is its slot, and PxSACT says that it is one. */
static bool is_tagged(const struct slot *s)
{
	return s->ata.regs.count >> 3 == s->n && s->port->sact >> s->n & 1;
}

static void begin_queued(struct slot *s)
{
	struct port *p = s->port;
	struct ata_regs r = {.status = ATA_READY};

	p->ci &= ~(1u << s->n);
	post_regs(p, &r, true);
}

static bool is_queued(const uint8_t *fis)
{
	return (fis[2] == 0x60 || fis[2] == 0x61) && fis[1] & FIS_COMMAND;
}

/* What a slot holds. False: it has to wait for those under way. */
static bool begin(struct slot *s)
{
	struct port *p = s->port;
	const struct guest_mem *mem = p->ahci->config.mem;
	uint8_t header[HEADER], table[TABLE_REGIONS];
	uint32_t flags;

	s->header = (p->clb & ~UINT64_C(0x3ff)) + s->n * HEADER;
	if (guest_read(mem, s->header, header, sizeof(header)) < 0 ||
	    guest_read(mem, le64_get(header + 8) & ~UINT64_C(0x7f), table, sizeof(table)) < 0 || table[0] != FIS_HOST) {
		halt(p, IS_HBF);
		return true;
	}
	flags = le32_get(header);
	if (p->alone || (p->under_way && (!is_queued(table) || p->unit.kind == SCSI_CD)))
		return false;
	p->begun |= 1u << s->n;
	s->moved = 0;
	s->ranges.left = 0;
	s->req.op = DISK_FLUSH;
	s->packet = false;
	if (!(table[1] & FIS_COMMAND)) {
		take_control(s, table[15]);
		return true;
	}
	read_regs(&s->ata.regs, table);
	ata_begin(&p->ata, &s->ata);
	if (s->ata.queued && s->ata.how == ATA_IO && !is_tagged(s))
		ata_fail(&s->ata, ATA_ABORTED);
	s->packet = s->ata.how == ATA_PACKET && flags & HEADER_PACKET;
	if (s->ata.how == ATA_PACKET && !s->packet)
		ata_fail(&s->ata, ATA_ABORTED);
	if (s->ata.queued)
		begin_queued(s);
	if (s->packet)
		begin_packet(s, header, table + TABLE_PACKET);
	else
		begin_ata(s, header);
	if (!s->ata.queued && p->under_way) {
		p->alone = true;
		p->tfd |= ATA_BUSY;
	}
	return true;
}

static bool may_run(const struct port *p)
{
	return p->cmd & CMD_START && !p->stopping && !p->halted && p->plugged;
}

/* Begins what can be begun. */
void ahci_run(struct port *p)
{
	for (unsigned n = 0; n < SLOTS && may_run(p); n++)
		if ((p->ci & ~p->begun) >> n & 1 && !begin(&p->slots[n]))
			break;
	if (!p->halted)
		tell_ended(p);
}

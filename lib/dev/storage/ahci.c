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
 */
#include "dev/storage/ahci.h"

#include "base/bytes.h"
#include "base/err.h"
#include "base/macros.h"
#include "base/scoped.h"
#include "dev/pci/msi.h"
#include "dev/storage/ata.h"
#include "dev/storage/scsi.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SLOTS 32u
#define ABAR  5u
#define ABAR_SIZE 0x1000u
#define PORT_AT   0x100u
#define PORT_SIZE 0x80u

/* CAP: 64 bits of address, NCQ, CLO, 3 Gb/s, AHCI only, 32 slots. */
#define CAP_VALUE (1u << 31 | 1u << 30 | 1u << 24 | 2u << 20 | 1u << 18 | (SLOTS - 1) << 8 | (AHCI_PORTS - 1))
#define VERSION   0x00010301u

#define GHC_RESET  1u
#define GHC_IRQ    2u
#define GHC_ENABLE (1u << 31)

#define CMD_START  0x0001u
#define CMD_SPIN   0x0006u /* SUD, POD: always */
#define CMD_CLO    0x0008u
#define CMD_FRE    0x0010u
#define CMD_FR     0x4000u
#define CMD_CR     0x8000u
#define CMD_KEPT   (CMD_START | CMD_FRE | 0x0f000000u)

#define IS_DHR  (1u << 0)  /* registers came */
#define IS_PS   (1u << 1)  /* PIO setup */
#define IS_SDB  (1u << 3)  /* set device bits */
#define IS_PC   (1u << 6)  /* the link came: follows PxSERR */
#define IS_HBF  (1u << 29) /* the controller found something that is no memory */
#define IS_TFE  (1u << 30) /* an error in the status */
#define IS_KEPT (IS_DHR | IS_PS | IS_SDB | IS_HBF | IS_TFE)
#define IE_KEPT 0xfdc000ffu

#define SERR_LINK (1u << 26)
#define SSTS_UP   0x123u

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

struct port;

struct slot {
	struct disk_req req;
	struct port *port;
	uint8_t n;
	bool packet;
	uint64_t header; /* where it is in guest memory */
	struct ata_cmd ata;
	struct scsi_cmd scsi;
	struct pieces pieces;
	struct ranges ranges; /* with none left: it is one request */
	uint32_t moved;
};

struct port {
	struct ahci *ahci;
	unsigned n;
	bool plugged;
	struct slot *slots; /* SLOTS of them, of a port that is plugged */
	struct ata ata;
	struct scsi_unit unit; /* of a CD drive */
	/* the guest's: */
	uint64_t clb, fb;
	uint32_t is, ie, cmd, tfd, sig, ssts, sctl, serr, sact, ci;
	bool halted;      /* by an error, until the driver starts it again */
	bool soft_reset;  /* the driver holds it */
	/* while requests are under way; nothing of it when the machine is paused: */
	uint32_t begun;   /* of ci, and of sact */
	unsigned under_way;
	bool alone;       /* the one under way is not queued */
	uint32_t ended;   /* of sact, not told yet */
	bool stopping;    /* when the last one ends the port stops, */
	bool coming;      /* and its link comes up */
};

struct ahci {
	struct device dev; /* first */
	struct ahci_config config;
	struct pci_function fn;
	unsigned msi;
	struct port ports[AHCI_PORTS];
	struct port *at; /* whose registers are accessed */
	uint32_t ghc, is;
	bool resetting;
	pthread_cond_t idle;
};

static void run(struct port *p);

/* -- Interrupts ------------------------------------------------------------------------------ */

static uint32_t port_is(const struct port *p)
{
	return p->is | (p->serr & SERR_LINK ? IS_PC : 0);
}

static void drive_pin(struct ahci *a)
{
	pci_intx_set(&a->fn, a->ghc & GHC_IRQ && a->is && !msi_enabled(&a->fn, a->msi));
}

/* Bits of IS follow those of ports; `again`: those that stayed are news. */
static void update_irq(struct ahci *a, bool again)
{
	uint32_t before = again ? 0 : a->is;

	for (unsigned i = 0; i < AHCI_PORTS; i++)
		if (port_is(&a->ports[i]) & a->ports[i].ie)
			a->is |= 1u << i;
	if (a->ghc & GHC_IRQ && a->is & ~before)
		msi_notify(&a->fn, a->msi);
	drive_pin(a);
}

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
static void say_signature(struct port *p)
{
	struct ata_regs r = {
		.status = p->unit.kind == SCSI_CD ? 0 : ATA_READY, .error = 1, .count = 1, .lba = p->unit.kind == SCSI_CD ? 0xeb1401 : 1,
	};

	p->sig = p->unit.kind == SCSI_CD ? ATA_SIGNATURE_ATAPI : ATA_SIGNATURE;
	post_regs(p, &r, true);
}

/* -- Stopping and resets ---------------------------------------------------------------------- */

static struct disk *disk_of(const struct port *p)
{
	return p->unit.kind == SCSI_CD ? p->unit.disk : p->ata.disk;
}

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
	say_signature(p);
}

static void finish_stop(struct port *p)
{
	cancel(p, false);
	p->stopping = p->halted = p->alone = false;
	p->ci = p->sact = p->begun = p->ended = 0;
	if (p->coming)
		link_up(p);
}

static void stop(struct port *p)
{
	p->cmd &= ~CMD_START;
	if (p->under_way == 0) {
		finish_stop(p);
		return;
	}
	p->stopping = true;
	cancel(p, true);
}

static bool is_idle(const struct ahci *a)
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
	finish_stop(p);
}

static void finish_reset(struct ahci *a)
{
	a->resetting = false;
	a->ghc = GHC_ENABLE;
	a->is = 0;
	for (unsigned i = 0; i < AHCI_PORTS; i++)
		reset_port(&a->ports[i]);
	drive_pin(a);
}

static void start_reset(struct ahci *a)
{
	a->resetting = true;
	for (unsigned i = 0; i < AHCI_PORTS; i++)
		stop(&a->ports[i]);
	if (is_idle(a))
		finish_reset(a);
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
		run(p);
	} else if (p->under_way == 0 && !a->resetting) {
		finish_stop(p);
	} else if (a->resetting && is_idle(a)) {
		finish_reset(a);
	}
	update_irq(a, false);
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
		say_signature(p);
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
static void run(struct port *p)
{
	for (unsigned n = 0; n < SLOTS && may_run(p); n++)
		if ((p->ci & ~p->begun) >> n & 1 && !begin(&p->slots[n]))
			break;
	if (!p->halted)
		tell_ended(p);
}

/* -- Registers of the controller ------------------------------------------------------------------ */

static uint64_t read_cap(void *dev, unsigned at)
{
	(void)dev, (void)at;
	return CAP_VALUE;
}

static uint64_t read_ghc(void *dev, unsigned at)
{
	struct ahci *a = dev;

	(void)at;
	return a->ghc | (a->resetting ? GHC_RESET : 0);
}

static void write_ghc(void *dev, unsigned at, uint64_t value)
{
	struct ahci *a = dev;

	(void)at;
	if (a->resetting)
		return;
	if (value & GHC_RESET) {
		start_reset(a);
		return;
	}
	a->ghc = GHC_ENABLE | ((uint32_t)value & GHC_IRQ);
	update_irq(a, true);
}

static uint64_t read_is(void *dev, unsigned at)
{
	(void)at;
	return ((struct ahci *)dev)->is;
}

static void write_is(void *dev, unsigned at, uint64_t value)
{
	struct ahci *a = dev;

	(void)at;
	a->is &= (uint32_t)~value;
	update_irq(a, true);
}

/* Ports without a drive are not there. */
static uint64_t read_ports(void *dev, unsigned at)
{
	struct ahci *a = dev;
	uint32_t ports = 0;

	(void)at;
	for (unsigned i = 0; i < AHCI_PORTS; i++)
		ports |= (uint32_t)a->ports[i].plugged << i;
	return ports;
}

static uint64_t read_version(void *dev, unsigned at)
{
	(void)dev, (void)at;
	return VERSION;
}

static uint64_t read_nothing(void *dev, unsigned at)
{
	(void)dev, (void)at;
	return 0;
}

/* -- Registers of a port ----------------------------------------------------------------------------- */

/* Those that are fields as they are. */
static uint32_t *plain(struct port *p, unsigned at)
{
	switch (at) {
	case 0x114:
		return &p->ie;
	case 0x120:
		return &p->tfd;
	case 0x124:
		return &p->sig;
	case 0x128:
		return &p->ssts;
	case 0x12c:
		return &p->sctl;
	case 0x130:
		return &p->serr;
	case 0x134:
		return &p->sact;
	default:
		return &p->ci;
	}
}

static uint64_t read_plain(void *dev, unsigned at)
{
	return *plain(((struct ahci *)dev)->at, at);
}

static uint64_t *address(struct port *p, unsigned at)
{
	return at < 0x108 ? &p->clb : &p->fb;
}

static uint64_t read_address(void *dev, unsigned at)
{
	return (uint32_t)(*address(((struct ahci *)dev)->at, at) >> (at % 8 * 8));
}

static void write_address(void *dev, unsigned at, uint64_t value)
{
	uint64_t *addr = address(((struct ahci *)dev)->at, at);
	unsigned shift = at % 8 * 8;

	*addr = (*addr & ~(UINT64_C(0xffffffff) << shift)) | value << shift;
	*addr &= at < 0x108 ? ~UINT64_C(0x3ff) : ~UINT64_C(0xff);
}

static uint64_t read_port_is(void *dev, unsigned at)
{
	(void)at;
	return port_is(((struct ahci *)dev)->at);
}

static void write_port_is(void *dev, unsigned at, uint64_t value)
{
	struct ahci *a = dev;

	(void)at;
	a->at->is &= (uint32_t)~value;
	update_irq(a, false);
}

static void write_port_ie(void *dev, unsigned at, uint64_t value)
{
	struct ahci *a = dev;

	(void)at;
	a->at->ie = (uint32_t)value & IE_KEPT;
	update_irq(a, false);
}

static uint64_t read_cmd(void *dev, unsigned at)
{
	struct port *p = ((struct ahci *)dev)->at;

	(void)at;
	return p->cmd | (p->cmd & CMD_FRE ? CMD_FR : 0) | (p->cmd & CMD_START || p->stopping ? CMD_CR : 0);
}

static void write_cmd(void *dev, unsigned at, uint64_t value)
{
	struct ahci *a = dev;
	struct port *p = a->at;
	uint32_t before = p->cmd;

	(void)at;
	if (a->resetting)
		return;
	p->cmd = ((uint32_t)value & CMD_KEPT) | CMD_SPIN;
	if (value & CMD_CLO)
		p->tfd &= ~(uint32_t)(ATA_BUSY | ATA_DRQ);
	if (before & CMD_START && !(p->cmd & CMD_START))
		stop(p);
	run(p);
	update_irq(a, false);
}

/* DET: 1 holds the link in its reset, and 0 lets it come. */
static void write_sctl(void *dev, unsigned at, uint64_t value)
{
	struct ahci *a = dev;
	struct port *p = a->at;
	uint32_t before = p->sctl & 0xf;

	(void)at;
	if (a->resetting)
		return;
	p->sctl = (uint32_t)value & 0xfff;
	if ((value & 0xf) == 1) {
		stop(p);
		p->ssts = 0;
		p->tfd = 0x7f;
	} else if (before == 1 && (value & 0xf) == 0) {
		p->coming = true;
		stop(p); /* SAFE: the driver may have started it while the link was held, and a request be under way */
	}
	update_irq(a, false);
}

static void write_serr(void *dev, unsigned at, uint64_t value)
{
	struct ahci *a = dev;

	(void)at;
	a->at->serr &= (uint32_t)~value;
	update_irq(a, false);
}

static void write_sact(void *dev, unsigned at, uint64_t value)
{
	struct port *p = ((struct ahci *)dev)->at;

	(void)at;
	if (p->cmd & CMD_START && !p->stopping)
		p->sact |= (uint32_t)value;
}

static void write_ci(void *dev, unsigned at, uint64_t value)
{
	struct ahci *a = dev;
	struct port *p = a->at;

	(void)at;
	if (!(p->cmd & CMD_START) || p->stopping)
		return;
	p->ci |= (uint32_t)value & ~p->begun; /* SAFE: a slot whose request is under way is not begun again */
	run(p);
	update_irq(a, false);
}

static const struct reg regs[] = {
	{.at = 0x00, .width = 4, .name = "CAP", .read = read_cap},
	{.at = 0x04, .width = 4, .name = "GHC", .read = read_ghc, .write = write_ghc},
	{.at = 0x08, .width = 4, .name = "IS", .read = read_is, .write = write_is},
	{.at = 0x0c, .width = 4, .name = "PI", .read = read_ports},
	{.at = 0x10, .width = 4, .name = "VS", .read = read_version},
	{.at = 0x14, .width = 4, .count = 6, .name = "CCC_CTL to BOHC", .read = read_nothing},
	{.at = 0x100, .width = 4, .count = 2, .name = "P0CLB; port n's are 0x80 * n behind", .read = read_address, .write = write_address},
	{.at = 0x108, .width = 4, .count = 2, .name = "P0FB", .read = read_address, .write = write_address},
	{.at = 0x110, .width = 4, .name = "P0IS", .read = read_port_is, .write = write_port_is},
	{.at = 0x114, .width = 4, .name = "P0IE", .read = read_plain, .write = write_port_ie},
	{.at = 0x118, .width = 4, .name = "P0CMD", .read = read_cmd, .write = write_cmd},
	{.at = 0x11c, .width = 4, .name = "reserved", .read = read_nothing},
	{.at = 0x120, .width = 4, .name = "P0TFD", .read = read_plain},
	{.at = 0x124, .width = 4, .name = "P0SIG", .read = read_plain},
	{.at = 0x128, .width = 4, .name = "P0SSTS", .read = read_plain},
	{.at = 0x12c, .width = 4, .name = "P0SCTL", .read = read_plain, .write = write_sctl},
	{.at = 0x130, .width = 4, .name = "P0SERR", .read = read_plain, .write = write_serr},
	{.at = 0x134, .width = 4, .name = "P0SACT", .read = read_plain, .write = write_sact},
	{.at = 0x138, .width = 4, .name = "P0CI", .read = read_plain, .write = write_ci},
	{.at = 0x13c, .width = 4, .count = 17, .name = "P0SNTF and what is behind", .read = read_nothing},
	{0},
};

/* A port's registers are those of port 0 in the table, into which an access that begins before them may reach. False: there is nothing. */
static bool find_port(struct ahci *a, uint64_t *at)
{
	unsigned n = *at < PORT_AT ? 0 : (unsigned)(*at - PORT_AT) / PORT_SIZE;

	a->at = &a->ports[0];
	if (*at < PORT_AT)
		return true;
	if (n >= AHCI_PORTS)
		return false;
	a->at = &a->ports[n];
	*at = PORT_AT + (*at - PORT_AT) % PORT_SIZE;
	return true;
}

static uint64_t bar_read(void *ctx, uint64_t at, unsigned width)
{
	struct ahci *a = ctx;

	scoped_lock(&a->dev.lock);
	return find_port(a, &at) ? regs_read(regs, a, at, width) : 0;
}

static void bar_write(void *ctx, uint64_t at, unsigned width, uint64_t value)
{
	struct ahci *a = ctx;

	scoped_lock(&a->dev.lock);
	if (find_port(a, &at))
		regs_write(regs, a, at, width, value);
}

/* MSI may have been switched on or off. The host's lock is held, and ours is taken inside it. */
static void config_written(void *ctx, unsigned at, unsigned width)
{
	struct ahci *a = ctx;

	(void)at, (void)width;
	scoped_lock(&a->dev.lock);
	drive_pin(a);
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
		.sub_vendor = 0x1af4, .sub_device = 0x1100, .pin = 1, .ctx = a, .config_written = config_written,
		.bars[ABAR] = {.size = ABAR_SIZE, .read = bar_read, .write = bar_write},
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

	start_reset(a);
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
		run(&a->ports[i]);
	update_irq(a, false);
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
	.bar = regs,
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

/* SPDX-License-Identifier: MIT */
/*
 * A USB disk, after the Universal Serial Bus Mass Storage Class Bulk-Only Transport 1.0. What commands mean is storage/scsi.h's.
 *
 *	OUT 2  a command (31 bytes: "USBC", tag, length, direction, CDB) --> [data] --> IN 1  its status (13 bytes: "USBS", tag, residue)
 *
 * Data go through a buffer, for packets and sectors do not end at the same places: it is filled from the disk while the host waits, or by
 * the host and then written. The host says how many bytes move. What the command has not is zeros, what it does not want is dropped, and
 * the residue tells how many these were.
 *
 * What makes no sense as a command is answered with stalls until the host resets the device.
 */
#include "dev/usb/devices.h"

#include "base/bytes.h"
#include "base/macros.h"
#include "base/scoped.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define CBW_SIZE  31u
#define CBW_SIGN  0x43425355u
#define CSW_SIZE  13u
#define CSW_SIGN  0x53425355u
#define BULK      512u
#define EP_IN     1u
#define EP_OUT    2u
#define RESET     0xff
#define GET_LUNS  0xfe

static const uint8_t device[] = {18, 1, 0x00, 0x02, 0, 0, 0, 64, 0x27, 0x06, 3, 0x00, 0x00, 0x01, 1, 2, 3, 1};
static const uint8_t config[] = {
	9, 2, 32, 0, 1, 1, 0, 0xc0, 0,
	9, 4, 0, 0, 2, 8, 6, 0x50, 0, /* mass storage, SCSI, bulk-only */
	7, 5, 0x80 | EP_IN, 2, 0x00, 0x02, 0,
	7, 5, EP_OUT, 2, 0x00, 0x02, 0,
};

/* -- The disk --------------------------------------------------------------------------- */

static void done(struct disk_req *req);

/* True: it is under way. */
static bool submit(struct usb_storage *s, enum disk_op op, uint64_t at, uint64_t len)
{
	s->iov = (struct iovec){s->buffer, len};
	s->asked = (uint32_t)len; /* SAFE: the buffer is no larger */
	s->req = (struct disk_req){.op = op, .at = at, .iov = &s->iov, .n_iov = 1, .sync = s->cmd.io.sync, .done = done};
	s->busy = !disk_submit(s->unit.disk, &s->req);
	return s->busy;
}

/* What the command says as a whole, without data of its own: a flush, zeros. */
static bool submit_whole(struct usb_storage *s)
{
	s->req = s->cmd.io;
	s->req.done = done;
	s->busy = !disk_submit(s->unit.disk, &s->req);
	return s->busy;
}

static bool submit_range(struct usb_storage *s)
{
	int rc;

	s->req = (struct disk_req){.op = DISK_DISCARD, .done = done};
	while ((rc = ranges_next(&s->ranges, &s->req, disk_info(s->unit.disk)->size)) > 0) {
		if (!disk_submit(s->unit.disk, &s->req)) {
			s->busy = true;
			return true;
		}
		if (s->req.rc < 0)
			return false;
	}
	s->req.rc = rc;
	return false;
}

/* A request has ended, here or on another thread. */
static void end(struct usb_storage *s)
{
	if (s->req.rc < 0) {
		scsi_end(&s->unit, &s->cmd, s->req.rc);
		s->status = s->cmd.status != SCSI_GOOD;
		s->io_left = 0;
		s->n = s->taken = 0;
		return;
	}
	if (s->req.op == DISK_READ) {
		s->n = s->asked;
		s->taken = 0;
	} else {
		s->n = 0;
	}
}

static void done(struct disk_req *req)
{
	struct usb_storage *s = container_of(req, struct usb_storage, req);

	scoped_lock(s->lock);
	s->busy = false;
	if (s->forget) {
		s->forget = false;
	} else if (req->rc < 0 || req->op != DISK_DISCARD || !submit_range(s)) {
		end(s);
	}
	if (!s->busy)
		pthread_cond_broadcast(&s->idle);
	s->usb.wake(s->usb.ctx);
}

/* As much of the command's data as the buffer has room for. */
static void read_more(struct usb_storage *s)
{
	uint64_t len = s->io_left < STORAGE_BUFFER ? s->io_left : STORAGE_BUFFER, at = s->at;

	s->at += len;
	s->io_left -= len;
	if (!submit(s, DISK_READ, at, len))
		end(s);
}

static void write_buffer(struct usb_storage *s)
{
	uint64_t len = s->n < s->io_left ? s->n : s->io_left, at = s->at;

	s->n = 0;
	if (!len)
		return;
	s->at += len;
	s->io_left -= len;
	if (!submit(s, DISK_WRITE, at, len))
		end(s);
}

/* -- Commands ------------------------------------------------------------------------------ */

/* What is in `out`, if it has something, came with it. */
static void begin(struct usb_storage *s)
{
	scsi_begin(&s->unit, &s->cmd, &s->out);
	s->status = s->cmd.status != SCSI_GOOD;
	s->io_left = 0;
	s->n = s->taken = 0;
	switch (s->cmd.how) {
	case SCSI_DONE:
		break;
	case SCSI_REPLY:
		s->n = s->cmd.reply_len;
		memcpy(s->buffer, s->cmd.reply, s->n); /* SAFE: a reply is shorter than the buffer */
		break;
	case SCSI_IO:
		s->op = (uint8_t)s->cmd.io.op;
		s->at = s->cmd.io.at;
		s->io_left = s->cmd.len;
		if (s->op != DISK_READ && s->op != DISK_WRITE && !submit_whole(s))
			end(s);
		break;
	case SCSI_RANGES:
		s->ranges = s->cmd.ranges;
		if (!submit_range(s))
			end(s);
		break;
	}
}

/* Commands whose data need not be known to understand them. */
static bool is_write(uint8_t code)
{
	return code == 0x0a || code == 0x2a || code == 0xaa || code == 0x8a;
}

static int take_command(struct usb_storage *s, const uint8_t *p, unsigned len)
{
	if (len != CBW_SIZE || le32_get(p) != CBW_SIGN || p[13] & 0x0f || !p[14] || p[14] > 16) {
		s->phase = STORAGE_LOST;
		return -EPIPE;
	}
	s->tag = le32_get(p + 4);
	s->left = s->residue = le32_get(p + 8);
	memcpy(s->cmd.cdb, p + 15, SCSI_CDB_MAX);
	s->phase = !s->left ? STORAGE_STATUS : p[12] & 0x80 ? STORAGE_IN : STORAGE_OUT;
	s->collects = s->phase == STORAGE_OUT && !is_write(s->cmd.cdb[0]);
	s->n = s->taken = 0;
	pieces_clear(&s->out);
	if (!s->collects)
		begin(s);
	return 0;
}

/* All is here that the command brings. */
static void begin_collected(struct usb_storage *s)
{
	s->collects = false;
	s->residue = 0;
	if (s->n) {
		s->out.iov[0] = (struct iovec){s->buffer, s->n};
		s->out.n = 1;
		s->out.len = s->n;
	}
	begin(s);
	s->n = s->taken = 0;
}

/* -- Packets --------------------------------------------------------------------------------- */

static int take_data(struct usb_storage *s, const uint8_t *p, unsigned len)
{
	unsigned room = STORAGE_BUFFER - s->n;
	bool wanted = s->collects || (s->cmd.how == SCSI_IO && s->op == DISK_WRITE && s->io_left > s->n);

	if (s->busy)
		return -EAGAIN;
	len = len < s->left ? len : s->left;
	s->left -= len;
	if (wanted) {
		unsigned part = len < room ? len : room; /* of what is collected the rest is nothing */

		memcpy(s->buffer + s->n, p, part);
		s->n += part;
		s->residue -= part < s->residue ? part : s->residue;
	}
	if (!s->left)
		s->phase = STORAGE_STATUS;
	if (s->collects && !s->left)
		begin_collected(s);
	else if (wanted && !s->collects && (!s->left || s->n > STORAGE_BUFFER - BULK || s->n >= s->io_left))
		write_buffer(s);
	return 0;
}

static int out(struct usb_device *u, unsigned n, const uint8_t *packet, unsigned len)
{
	struct usb_storage *s = (struct usb_storage *)u;

	if (n != EP_OUT || !u->configuration)
		return -EPIPE;
	if (s->busy)
		return -EAGAIN;
	if (s->phase == STORAGE_COMMAND)
		return take_command(s, packet, len);
	if (s->phase == STORAGE_OUT)
		return take_data(s, packet, len);
	s->phase = STORAGE_LOST;
	return -EPIPE;
}

/* What the command has, and zeros behind that. */
static int give_data(struct usb_storage *s, uint8_t *packet)
{
	uint32_t len = s->left < BULK ? s->left : BULK, have;

	if (s->n == s->taken && s->cmd.how == SCSI_IO && s->op == DISK_READ && s->io_left)
		read_more(s);
	if (s->busy)
		return -EAGAIN;
	have = s->n - s->taken < len ? s->n - s->taken : len;
	memcpy(packet, s->buffer + s->taken, have);
	memset(packet + have, 0, len - have);
	s->taken += have;
	s->left -= len;
	s->residue -= have;
	if (!s->left)
		s->phase = STORAGE_STATUS;
	return (int)len;
}

static int give_status(struct usb_storage *s, uint8_t *packet)
{
	le32_put(packet, CSW_SIGN);
	le32_put(packet + 4, s->tag);
	le32_put(packet + 8, s->residue);
	packet[12] = s->status;
	s->phase = STORAGE_COMMAND;
	return CSW_SIZE;
}

static int in(struct usb_device *u, unsigned n, uint8_t packet[USB_PACKET_MAX])
{
	struct usb_storage *s = (struct usb_storage *)u;

	if (n != EP_IN || !u->configuration || s->phase == STORAGE_LOST)
		return -EPIPE;
	if (s->busy)
		return -EAGAIN;
	if (s->phase == STORAGE_IN)
		return give_data(s, packet);
	return s->phase == STORAGE_STATUS ? give_status(s, packet) : -EAGAIN;
}

/* -- The device ---------------------------------------------------------------------------------- */

static void reset(struct usb_device *u)
{
	struct usb_storage *s = (struct usb_storage *)u;

	s->forget = s->busy;
	s->phase = STORAGE_COMMAND;
	s->left = s->residue = s->n = s->taken = 0;
	s->io_left = 0;
	s->collects = false;
}

static int control(struct usb_device *u, const uint8_t setup[8], uint8_t *data)
{
	if (setup[0] == 0x21 && setup[1] == RESET) {
		reset(u);
		return 0;
	}
	if (setup[0] != 0xa1 || setup[1] != GET_LUNS)
		return -EPIPE;
	data[0] = 0;
	return 1;
}

static const struct usb_type type = {
	.speed = USB_HIGH, .device = device, .config = config, .product = "USB disk", .control = control, .in = in, .out = out, .reset = reset,
};

void usb_storage_init(struct usb_storage *s, struct disk *disk, unsigned number, pthread_mutex_t *lock)
{
	*s = (struct usb_storage){.unit = {.kind = SCSI_DISK, .disk = disk}, .lock = lock};
	snprintf(s->unit.serial, sizeof(s->unit.serial), "LODGE-USB-%u", number);
	pthread_cond_init(&s->idle, NULL);
	scsi_reset(&s->unit);
	usb_init(&s->usb, &type, number);
}

void usb_storage_fini(struct usb_storage *s)
{
	pthread_cond_destroy(&s->idle);
}

void usb_storage_wait(struct usb_storage *s)
{
	while (s->busy)
		pthread_cond_wait(&s->idle, s->lock);
}

const char *usb_storage_loaded(const struct usb_storage *s)
{
	if (s->taken > s->n)
		return "its buffer has more than it has";
	return NULL;
}

static const struct state_field unit_fields[] = {SCSI_UNIT_STATE, {0}};
static const struct state_field cmd_fields[] = {
	STATE_ARRAY(struct scsi_cmd, cdb),
	STATE_UPTO(struct scsi_cmd, how, SCSI_RANGES),
	STATE(struct scsi_cmd, io.sync),
	{0},
};

const struct state_field usb_storage_fields[] = {
	STATE_PART(struct usb_storage, usb, usb_fields),
	STATE_PART(struct usb_storage, unit, unit_fields),
	STATE_PART(struct usb_storage, cmd, cmd_fields),
	STATE_UPTO(struct usb_storage, phase, STORAGE_PHASES - 1),
	STATE_UPTO(struct usb_storage, status, 1),
	STATE_UPTO(struct usb_storage, op, DISK_ZERO), /* only reads and writes move data */
	STATE(struct usb_storage, collects),
	STATE(struct usb_storage, tag),
	STATE(struct usb_storage, left),
	STATE(struct usb_storage, residue),
	STATE(struct usb_storage, at),
	STATE(struct usb_storage, io_left),
	STATE_UPTO(struct usb_storage, n, STORAGE_BUFFER),
	STATE(struct usb_storage, taken),
	STATE_COUNTED(struct usb_storage, buffer, n),
	{0},
};

/* SPDX-License-Identifier: MIT */
/*
 * A virtio SCSI controller, after section 5.6 of virtio 1.2, with a disk at LUN 0 of each target. What commands mean is
 * storage/scsi.h's.
 *
 * A request is one chain of queue 2:
 *
 *	out: LUN (8), id (8), attribute, priority, crn, command (32), data to write ...
 *	in:  length of sense (4), residual (4), qualifier (2), status, response, sense (96), data that was read ...
 *
 * It goes as in blk.c: the kick handler takes it apart and gives the disk pieces of guest memory, and the disk's threads end it. There are
 * as many requests as the queue has entries.
 *
 * Queue 0 is for task management: each function is rejected, for what was begun ends by itself. Queue 1 would tell of events, of which
 * there are none.
 *
 * Left out: several request queues, hot plug, T10 protection, lengths of commands and sense that the driver chooses.
 */
#include "base/bytes.h"
#include "base/err.h"
#include "base/macros.h"
#include "base/scoped.h"
#include "block/disk.h"
#include "dev/storage/scsi.h"
#include "dev/virtio/virtio.h"
#include "state/state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CONTROL, EVENTS, REQUESTS };

#define QUEUE_SIZE  128u
#define CONFIG_SIZE 36u
#define CDB_SIZE    32u
#define SENSE_SIZE  96u
#define OUT_SIZE    (19u + CDB_SIZE)
#define IN_SIZE     (12u + SENSE_SIZE)
#define SECTORS_MAX 2048u /* 1 MiB in a request, which drivers keep to */

/* Responses. */
enum { ANSWER_OK = 0, ANSWER_OVERRUN = 1, ANSWER_BAD_TARGET = 3, ANSWER_REJECTED = 11 };

struct request {
	struct disk_req disk;
	struct scsi *scsi;
	struct request *next; /* free */
	struct scsi_unit *unit;
	struct scsi_cmd cmd;
	struct pieces data; /* behind the header, in the way that the command moves it */
	struct ranges ranges;
	struct vq_chain chain;
	uint64_t room; /* for data */
};

struct scsi {
	struct virtio v; /* first */
	struct scsi_unit units[VIRTIO_SCSI_TARGETS];
	unsigned n;
	uint8_t config[CONFIG_SIZE];
	struct request *requests, *free;
	struct vq_chain control;
};

/* -- Ending a request ------------------------------------------------------------------ */

static void end(struct request *r, uint8_t response, uint64_t moved, bool is_in)
{
	struct scsi *s = r->scsi;
	struct vq *vq = &s->v.queues[REQUESTS];
	uint8_t answer[IN_SIZE] = {0};

	if (vq->enabled) {
		if (response == ANSWER_OK && r->cmd.status == SCSI_CHECK) {
			le32_put(answer, SCSI_SENSE);
			scsi_sense(answer + 12, r->cmd.key, r->cmd.asc, r->cmd.ascq);
		}
		le32_put(answer + 4, (uint32_t)(r->room - moved));
		answer[10] = response == ANSWER_OK ? r->cmd.status : 0;
		answer[11] = response;
		iov_scatter(r->chain.iov + r->chain.n_out, r->chain.n_in, answer, IN_SIZE);
		vq_push(vq, r->chain.head, (uint32_t)(IN_SIZE + (is_in ? moved : 0)));
	}
	r->next = s->free;
	s->free = r;
}

static void end_io(struct request *r)
{
	bool is_in = r->disk.op == DISK_READ;

	scsi_end(r->unit, &r->cmd, r->disk.rc);
	end(r, ANSWER_OK, r->disk.rc == 0 ? r->data.len : 0, is_in);
}

/* The next range that is to be forgotten: true if it is under way. */
static bool next_range(struct request *r)
{
	int rc;

	while ((rc = ranges_next(&r->ranges, &r->disk, disk_info(r->unit->disk)->size)) > 0) {
		if (!disk_submit(r->unit->disk, &r->disk))
			return true;
		if (r->disk.rc < 0)
			return false;
	}
	r->disk.rc = rc;
	return false;
}

/* On a thread of the disk. */
static void done(struct disk_req *req)
{
	struct request *r = container_of(req, struct request, disk);
	struct scsi *s = r->scsi;

	scoped_lock(&s->v.dev.lock);
	if (s->v.queues[REQUESTS].enabled && req->rc == 0 && r->ranges.left && next_range(r))
		return;
	end_io(r);
	virtio_signal(&s->v, REQUESTS);
	virtio_end(&s->v);
}

/* -- Beginning one ----------------------------------------------------------------------- */

/* What is behind the first `skip` bytes, which are there. */
static void take_data(struct pieces *p, const struct iovec *iov, unsigned n, uint64_t skip)
{
	pieces_clear(p);
	for (; n; n--, iov++) {
		uint64_t cut = skip < iov->iov_len ? skip : iov->iov_len;

		skip -= cut;
		if (iov->iov_len == cut)
			continue;
		p->iov[p->n++] = (struct iovec){(uint8_t *)iov->iov_base + cut, iov->iov_len - cut}; /* SAFE: a chain has no more */
		p->len += iov->iov_len - cut;
	}
}

static struct scsi_unit *find_unit(struct scsi *s, const uint8_t *lun)
{
	bool is_zero = (lun[2] == 0 || lun[2] == 0x40) && lun[3] == 0;

	return lun[0] == 1 && lun[1] < s->n && is_zero ? &s->units[lun[1]] : NULL;
}

static void submit(struct request *r)
{
	const struct disk_req *io = &r->cmd.io;

	r->disk = *io;
	r->disk.done = done;
	r->disk.iov = r->data.iov;
	r->disk.n_iov = r->data.n;
	if (disk_submit(r->unit->disk, &r->disk))
		end_io(r);
	else
		virtio_begin(&r->scsi->v);
}

static void submit_ranges(struct request *r)
{
	r->ranges = r->cmd.ranges;
	r->disk = (struct disk_req){.op = DISK_DISCARD, .done = done};
	if (next_range(r))
		virtio_begin(&r->scsi->v);
	else
		end_io(r);
}

static void begin(struct request *r)
{
	struct vq_chain *chain = &r->chain;
	struct scsi_cmd *c = &r->cmd;
	bool is_write;

	take_data(&r->data, chain->iov, chain->n_out, OUT_SIZE);
	scsi_begin(r->unit, c, &r->data);
	is_write = c->how == SCSI_RANGES || (c->how == SCSI_IO && c->io.op != DISK_READ);
	r->room = is_write ? r->data.len : chain->in_len - IN_SIZE;
	if (c->how == SCSI_RANGES) {
		submit_ranges(r);
		return;
	}
	if (!is_write)
		take_data(&r->data, chain->iov + chain->n_out, chain->n_in, IN_SIZE);
	if (c->how == SCSI_DONE) {
		end(r, ANSWER_OK, 0, false);
	} else if (c->how == SCSI_REPLY) {
		end(r, ANSWER_OK, pieces_put(&r->data, c->reply, c->reply_len), true);
	} else if (r->data.len < c->len) {
		end(r, ANSWER_OVERRUN, 0, false);
	} else {
		pieces_cut(&r->data, c->len);
		submit(r);
	}
}

static void take_request(struct scsi *s)
{
	struct request *r = s->free;
	struct vq *vq = &s->v.queues[REQUESTS];
	uint8_t header[OUT_SIZE];

	if (r->chain.out_len < OUT_SIZE || r->chain.in_len < IN_SIZE) {
		vq->broken = "a request without header or status";
		return;
	}
	s->free = r->next;
	r->ranges.left = 0;
	r->room = 0;
	iov_gather(r->chain.iov, r->chain.n_out, header, OUT_SIZE);
	memcpy(r->cmd.cdb, header + 19, SCSI_CDB_MAX);
	r->unit = find_unit(s, header);
	if (r->unit)
		begin(r);
	else
		end(r, ANSWER_BAD_TARGET, 0, false);
}

/* Task management, and asking for events: the last byte of what the driver gets is the response. */
static void take_control(struct scsi *s, struct vq_chain *chain)
{
	struct vq *vq = &s->v.queues[CONTROL];
	uint8_t type[4] = {0}, answer[5] = {0};
	unsigned len;

	iov_gather(chain->iov, chain->n_out, type, sizeof(type));
	len = le32_get(type) ? 5 : 1;
	answer[len - 1] = le32_get(type) ? ANSWER_OK : ANSWER_REJECTED;
	vq_push(vq, chain->head, (uint32_t)iov_scatter(chain->iov + chain->n_out, chain->n_in, answer, len));
}

/* Task management needs no request: it is wanted most when none is free. */
static struct vq_chain *room_for(struct scsi *s, unsigned n)
{
	return n == CONTROL ? &s->control : s->free ? &s->free->chain : NULL;
}

static void kick(struct virtio *v, unsigned n)
{
	struct scsi *s = (struct scsi *)v;
	struct vq *vq = &v->queues[n];
	struct vq_chain *chain;
	int rc = 0;

	if (n == EVENTS)
		return;
	vq_begin(vq);
	while ((chain = room_for(s, n)) && (rc = vq_pop(vq, chain)) > 0) {
		if (n == CONTROL)
			take_control(s, chain);
		else
			take_request(s);
	}
	if (rc < 0)
		virtio_broken(v, vq->broken);
	virtio_signal(v, n);
}

/* -- The model ----------------------------------------------------------------------------- */

static uint8_t config_read(struct virtio *v, unsigned at)
{
	return ((struct scsi *)v)->config[at];
}

static void cancel_all(struct scsi *s, bool on)
{
	for (unsigned i = 0; i < s->n; i++)
		disk_cancel(s->units[i].disk, on);
}

static void cancel(struct virtio *v)
{
	cancel_all((struct scsi *)v, true);
}

static void reset(struct virtio *v)
{
	struct scsi *s = (struct scsi *)v;

	cancel_all(s, false);
	for (unsigned i = 0; i < s->n; i++)
		scsi_reset(&s->units[i]);
}

static void fill_config(struct scsi *s)
{
	uint8_t *c = s->config;

	le32_put(c + 0, 1);              /* request queues */
	le32_put(c + 4, QUEUE_SIZE - 2); /* pieces of data */
	le32_put(c + 8, SECTORS_MAX);
	le32_put(c + 12, QUEUE_SIZE);    /* commands of a LUN */
	le32_put(c + 16, 16);            /* bytes of an event */
	le32_put(c + 20, SENSE_SIZE);
	le32_put(c + 24, CDB_SIZE);
	le16_put(c + 30, VIRTIO_SCSI_TARGETS - 1);
	le32_put(c + 32, 0);             /* the largest LUN */
}

static const struct virtio_type type = {
	.name = "virtio-scsi",
	.id = 8,
	.legacy = 0x1004,
	.class_code = 0x010000,
	.n_queues = 3,
	.queue_size = QUEUE_SIZE,
	.config_size = CONFIG_SIZE,
	.kick = kick,
	.config_read = config_read,
	.cancel = cancel,
	.reset = reset,
};

static int init(struct device *dev, const void *config, struct err *err)
{
	const struct virtio_scsi_config *c = config;
	struct scsi *s = (struct scsi *)dev;

	s->n = c->n < VIRTIO_SCSI_TARGETS ? c->n : VIRTIO_SCSI_TARGETS;
	for (unsigned i = 0; i < s->n; i++) {
		s->units[i].disk = c->disks[i];
		snprintf(s->units[i].serial, sizeof(s->units[i].serial), "LODGE-SCSI-%u", i);
	}
	fill_config(s);
	s->requests = calloc(QUEUE_SIZE, sizeof(*s->requests));
	if (!s->requests)
		return err_set(err, ENOMEM, "out of memory");
	for (unsigned i = QUEUE_SIZE; i-- > 0;) {
		s->requests[i].scsi = s;
		s->requests[i].next = s->free;
		s->free = &s->requests[i];
	}
	return virtio_init(dev, &type, 0, &c->pci, err);
}

static void fini(struct device *dev)
{
	virtio_fini(dev);
	free(((struct scsi *)dev)->requests);
}

static const struct state_field unit_fields[] = {SCSI_UNIT_STATE, {0}};

static const struct state_field fields[] = {
	STATE_PARTS(struct scsi, units, unit_fields),
	{0},
};

static const struct state_table table = {.name = "scsi", .version = 1, .fields = fields};
static const struct state_table *const state[] = {&virtio_state, &table, NULL};

const struct device_model virtio_scsi_model = {
	.name = "virtio-scsi",
	.summary = "virtio SCSI controller, with disks",
	.option = "--disk FILE,bus=scsi",
	.size = sizeof(struct scsi),
	.bar = virtio_common_regs,
	.state = state,
	.init = init,
	.reset = virtio_reset,
	.fini = fini,
	.pause = virtio_pause,
	.resume = virtio_resume,
	.saving = virtio_saving,
	.loaded = virtio_loaded,
};

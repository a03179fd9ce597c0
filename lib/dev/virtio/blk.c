/* SPDX-License-Identifier: MIT */
/*
 * The virtio disk, after section 5.2 of virtio 1.2.
 *
 * A request is one chain:
 *
 *	out: type (4), reserved (4), sector (8), data to write ...
 *	in:  data that was read ..., status (1)
 *
 * The kick handler runs on a vCPU thread, so it never waits for a disk: it takes the
 * chain apart, hands the data's pieces of guest memory to lib/block, and returns. The
 * disk's threads call done(), which writes the status, gives the chain back and
 * interrupts.
 *
 *	vq_pop -> slot -> disk_submit ..... done -> status, vq_push, interrupt -> slot free
 *
 * There are as many slots as the queue has entries, and the gate never lets more
 * requests in (invariant 3 of queue.c), so there always is one. A slot belongs to its
 * request until done, through a reset of the driver too: the reset ends when the last
 * request has. A ring holds 256 requests of 254 MiB, and a machine that is to end resets its
 * devices; so those that have not begun are cancelled then, as a reset of real disks does.
 *
 * Writes and the cache: with FLUSH negotiated the driver decides (CONFIG_WCE's
 * `writeback`); without it each write is lasting before it is done, which is what a
 * driver that cannot flush may assume.
 *
 * Left out: several queues, secure erase, zoned disks, lifetime data.
 */
#include "base/bytes.h"
#include "base/err.h"
#include "base/macros.h"
#include "base/scoped.h"
#include "block/disk.h"
#include "dev/virtio/virtio.h"
#include "state/state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define QUEUE_SIZE 256u
#define SEG_MAX    (QUEUE_SIZE - 2)
#define SIZE_MAX_SEGMENT (1u << 20)                     /* in bytes */
#define REQUEST_MAX ((uint64_t)SEG_MAX * SIZE_MAX_SEGMENT) /* what the two allow */
#define DISCARD_MAX (1u << 22)                          /* sectors: 2 GiB */

#define F_SIZE_MAX     (UINT64_C(1) << 1)
#define F_SEG_MAX      (UINT64_C(1) << 2)
#define F_RO           (UINT64_C(1) << 5)
#define F_BLK_SIZE     (UINT64_C(1) << 6)
#define F_FLUSH        (UINT64_C(1) << 9)
#define F_TOPOLOGY     (UINT64_C(1) << 10)
#define F_CONFIG_WCE   (UINT64_C(1) << 11)
#define F_DISCARD      (UINT64_C(1) << 13)
#define F_WRITE_ZEROES (UINT64_C(1) << 14)

enum {
	T_IN = 0,
	T_OUT = 1,
	T_FLUSH = 4,
	T_GET_ID = 8,
	T_DISCARD = 11,
	T_WRITE_ZEROES = 13
};
enum { S_OK = 0, S_IOERR = 1, S_UNSUPP = 2 };

#define HEADER_SIZE 16u
#define ID_SIZE     20u
#define RANGE_SIZE \
	16u /* of DISCARD and WRITE_ZEROES: sector (8), count (4), flags (4) */
#define RANGE_UNMAP 1u

/* The configuration, as far as we have it. */
#define CONFIG_SIZE 60u
#define CONFIG_WRITEBACK 32u

struct request {
	struct disk_req disk;
	struct blk *blk;
	struct request *next; /* in the list of free ones */
	struct vq_chain chain;
	uint8_t *status;  /* in guest memory */
	uint64_t in_len;  /* bytes of data the driver gets if all goes well */
};

struct blk {
	struct virtio v; /* first */
	struct disk *disk;
	char id[ID_SIZE];
	uint8_t config[CONFIG_SIZE];
	struct request *requests, *free;
};

/* -- Ending a request -------------------------------------------------------------- */

/* Lock held. Without a signal: a kick gives one for all that it ended itself. */
static void end(struct blk *blk, struct request *req, uint8_t status, uint64_t written)
{
	struct vq *vq = &blk->v.queues[0];

	if (vq->enabled) {
		*req->status = status;
		vq_push(vq, req->chain.head, (uint32_t)(written + 1));
	}
	req->next = blk->free;
	blk->free = req;
}

/* Lock held; the disk is through with it. */
static void finish(struct blk *blk, struct request *req)
{
	bool good = req->disk.rc == 0;
	uint8_t bad = req->disk.rc == -EOPNOTSUPP ? S_UNSUPP : S_IOERR;

	end(blk, req, good ? S_OK : bad, good ? req->in_len : 0);
}

/* On a thread of the disk. */
static void done(struct disk_req *disk_req)
{
	struct request *req = container_of(disk_req, struct request, disk);
	struct blk *blk = req->blk;

	scoped_lock(&blk->v.dev.lock);
	finish(blk, req);
	virtio_signal(&blk->v, 0);
	virtio_end(&blk->v);
}

/* -- Starting one ------------------------------------------------------------------ */

static void submit(struct blk *blk, struct request *req)
{
	req->disk.done = done;
	if (disk_submit(blk->disk, &req->disk))
		finish(blk, req);
	else
		virtio_begin(&blk->v); /* done() waits for our lock */
}

/* The data's pieces: the out part behind the header, or the in part before the status.
 * */
static void use_pieces(struct request *req, bool in)
{
	struct vq_chain *chain = &req->chain;

	req->disk.iov = in ? chain->iov + chain->n_out : chain->iov;
	req->disk.n_iov = in ? chain->n_in : chain->n_out;
}

static int transfer(struct blk *blk, struct request *req, enum disk_op op,
		    uint64_t sector)
{
	uint64_t len = op == DISK_READ ? req->chain.in_len : req->chain.out_len;

	if (len == 0 || len % DISK_SECTOR || len > REQUEST_MAX ||
	    sector > UINT64_MAX / DISK_SECTOR)
		return S_IOERR;
	req->disk = (struct disk_req){
		.op = op, .at = sector * DISK_SECTOR,
		.sync = op == DISK_WRITE && !blk->config[CONFIG_WRITEBACK],
	};
	use_pieces(req, op == DISK_READ);
	req->in_len = op == DISK_READ ? len : 0;
	submit(blk, req);
	return 0;
}

static int flush(struct blk *blk, struct request *req)
{
	req->disk = (struct disk_req){.op = DISK_FLUSH};
	req->in_len = 0;
	submit(blk, req);
	return 0;
}

/* DISCARD and WRITE_ZEROES: one range, which is what we told the driver. */
static int change_range(struct blk *blk, struct request *req, enum disk_op op)
{
	uint8_t range[RANGE_SIZE];
	uint64_t sector, n;

	if (req->chain.out_len != RANGE_SIZE)
		return S_IOERR;
	iov_gather(req->chain.iov, req->chain.n_out, range, RANGE_SIZE);
	sector = le64_get(range);
	n = le32_get(range + 8);
	if ((le32_get(range + 12) & ~RANGE_UNMAP) || (op == DISK_DISCARD && range[12]))
		return S_UNSUPP;
	if (n > DISCARD_MAX || sector > UINT64_MAX / DISK_SECTOR)
		return S_IOERR;
	req->disk = (struct disk_req){
		.op = op, .at = sector * DISK_SECTOR, .len = n * DISK_SECTOR,
		.sync = op == DISK_ZERO && !blk->config[CONFIG_WRITEBACK],
	};
	req->in_len = 0;
	submit(blk, req);
	return 0;
}

static int get_id(struct blk *blk, struct request *req)
{
	struct vq_chain *chain = &req->chain;

	end(blk, req, S_OK,
	    iov_scatter(chain->iov + chain->n_out, chain->n_in, blk->id, ID_SIZE));
	return 0;
}

/* Takes header and status off the chain. False if they are not there. */
static bool take_ends(struct request *req, uint8_t header[HEADER_SIZE])
{
	struct vq_chain *chain = &req->chain;
	struct iovec *in = chain->iov + chain->n_out, *last = in + chain->n_in - 1;
	struct iovec *data;
	unsigned cut = chain->n_out;

	if (chain->out_len < HEADER_SIZE || chain->in_len < 1)
		return false;
	iov_gather(chain->iov, chain->n_out, header, HEADER_SIZE);
	data = iov_cut_front(chain->iov, &chain->n_out, HEADER_SIZE);
	cut -= chain->n_out;
	memmove(chain->iov, data, (chain->n_out + chain->n_in) * sizeof(*data));
	last -= cut;
	in = chain->iov + chain->n_out;
	req->status = (uint8_t *)last->iov_base + last->iov_len - 1;
	iov_cut_back(in, &chain->n_in, 1);
	chain->out_len -= HEADER_SIZE;
	chain->in_len -= 1;
	return true;
}

/* 0: it is on its way, or ended; else a status to end it with. */
static int start(struct blk *blk, struct request *req, const uint8_t *header)
{
	uint64_t sector = le64_get(header + 8);

	switch (le32_get(header)) {
	case T_IN:
		return transfer(blk, req, DISK_READ, sector);
	case T_OUT:
		return transfer(blk, req, DISK_WRITE, sector);
	case T_FLUSH:
		return flush(blk, req);
	case T_GET_ID:
		return get_id(blk, req);
	case T_DISCARD:
		return change_range(blk, req, DISK_DISCARD);
	case T_WRITE_ZEROES:
		return change_range(blk, req, DISK_ZERO);
	default:
		return S_UNSUPP;
	}
}

static void kick(struct virtio *v, unsigned n)
{
	struct blk *blk = (struct blk *)v;
	struct vq *vq = &v->queues[n];
	uint8_t header[HEADER_SIZE];
	struct request *req;
	int rc;

	vq_begin(vq);
	while (blk->free && (rc = vq_pop(vq, &blk->free->chain)) != 0) {
		if (rc < 0) {
			virtio_broken(v, vq->broken);
			break;
		}
		req = blk->free;
		blk->free = req->next;
		if (!take_ends(req, header)) {
			vq->broken = "a request without header or status";
			req->next = blk->free;
			blk->free = req;
			continue;
		}
		rc = start(blk, req, header);
		if (rc)
			end(blk, req, (uint8_t)rc, 0);
	}
	virtio_signal(v, n);
}

/* -- Configuration ----------------------------------------------------------------- */

static uint8_t config_read(struct virtio *v, unsigned at)
{
	return ((struct blk *)v)->config[at];
}

static void config_write(struct virtio *v, unsigned at, uint8_t value)
{
	if (at == CONFIG_WRITEBACK && virtio_has(v, F_CONFIG_WCE))
		((struct blk *)v)->config[CONFIG_WRITEBACK] = value & 1;
}

static void negotiated(struct virtio *v)
{
	struct blk *blk = (struct blk *)v;

	blk->config[CONFIG_WRITEBACK] =
		virtio_has(v, F_FLUSH) || virtio_has(v, F_CONFIG_WCE);
}

static void cancel(struct virtio *v)
{
	disk_cancel(((struct blk *)v)->disk, true);
}

static void reset(struct virtio *v)
{
	disk_cancel(((struct blk *)v)->disk, false);
	((struct blk *)v)->config[CONFIG_WRITEBACK] = 1;
}

static void fill_config(struct blk *blk, const struct disk_info *info)
{
	uint8_t *c = blk->config;
	uint32_t physical = info->block / DISK_SECTOR;

	le64_put(c + 0, info->size / DISK_SECTOR);
	le32_put(c + 8, SIZE_MAX_SEGMENT);
	le32_put(c + 12, SEG_MAX);
	le32_put(c + 20, DISK_SECTOR);
	c[24] = (uint8_t)__builtin_ctz(physical ? physical : 1); /* log2 */
	le16_put(c + 26, (uint16_t)physical);
	le16_put(c + 34, 1); /* queues */
	le32_put(c + 36, DISCARD_MAX);
	le32_put(c + 40, 1); /* ranges in a request */
	le32_put(c + 44, physical);
	le32_put(c + 48, DISCARD_MAX);
	le32_put(c + 52, 1);
	c[56] = 1; /* WRITE_ZEROES may unmap */
}

static const struct virtio_type type = {
	.name = "virtio-blk",
	.id = 2,
	.legacy = 0x1001,
	.class_code = 0x010000,
	.n_queues = 1,
	.queue_size = QUEUE_SIZE,
	.features = F_SIZE_MAX | F_SEG_MAX | F_BLK_SIZE | F_FLUSH | F_TOPOLOGY |
		    F_CONFIG_WCE,
	.config_size = CONFIG_SIZE,
	.kick = kick,
	.config_read = config_read,
	.config_write = config_write,
	.negotiated = negotiated,
	.cancel = cancel,
	.reset = reset,
};

/* -- The model --------------------------------------------------------------------- */

static int make_requests(struct blk *blk, struct err *err)
{
	blk->requests = calloc(QUEUE_SIZE, sizeof(*blk->requests));
	if (!blk->requests)
		return err_set(err, ENOMEM, "out of memory");
	for (unsigned i = QUEUE_SIZE; i-- > 0;) {
		blk->requests[i].blk = blk;
		blk->requests[i].next = blk->free;
		blk->free = &blk->requests[i];
	}
	return 0;
}

static int init(struct device *dev, const void *config, struct err *err)
{
	const struct virtio_blk_config *c = config;
	struct blk *blk = (struct blk *)dev;
	const struct disk_info *info = disk_info(c->disk);
	uint64_t extra = 0;
	int rc;

	blk->disk = c->disk;
	if (c->serial)
		memcpy(blk->id, c->serial, strnlen(c->serial, ID_SIZE));
	fill_config(blk, info);
	if (info->readonly)
		extra |= F_RO;
	else if (info->can_discard)
		extra |= F_DISCARD | F_WRITE_ZEROES;
	rc = make_requests(blk, err);
	return rc < 0 ? rc : virtio_init(dev, &type, extra, &c->pci, err);
}

static void fini(struct device *dev)
{
	virtio_fini(dev);
	free(((struct blk *)dev)->requests);
}

/* The rest of its configuration is the disk's. */
static const struct state_field fields[] = {
	STATE_UPTO(struct blk, config[CONFIG_WRITEBACK], 1),
	{0},
};

static const struct state_table table = {.name = "blk", .version = 1, .fields = fields};
static const struct state_table *const state[] = {&virtio_state, &table, NULL};

const struct device_model virtio_blk_model = {
	.name = "virtio-blk",
	.summary = "virtio disk",
	.option = "--disk",
	.size = sizeof(struct blk),
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

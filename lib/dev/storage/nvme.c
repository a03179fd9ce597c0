/* SPDX-License-Identifier: MIT */
/*
 * An NVMe controller, after the NVM Express Base Specification 1.4: registers, queues, and what commands do to the disk.
 *
 *	BAR 0 +0000  CAP, VS, INTMS, INTMC, CC, CSTS, AQA, ASQ, ACQ
 *	      +1000  doorbells: tail of submission queue 0, head of completion queue 0, tail of 1, ...
 *	BAR 4        MSI-X table and pending bits
 *
 * The driver writes commands of 64 bytes into a submission queue, and its tail into a doorbell, which is one exit. Then, on that vCPU's
 * thread,
 *
 *	fetch -> begin -> disk_submit ..... done -> end: an entry of the completion queue, a message -> fetch
 *
 * A command is taken only if the queue for its completion has a place for it (`promised`), and one of our requests is free: so there is
 * always room for what has ended, and what does not fit waits in the guest's memory. What several of them have to say when they
 * end together is one message.
 *
 * A request belongs to the disk until that is through with it, also through a reset by the driver: CSTS.RDY stays until the last one has
 * ended, and those that have not begun are cancelled.
 *
 * A queue that is no memory is fatal: CSTS.CFS, and nothing goes until the driver resets the controller.
 *
 * Left out: SGLs, several namespaces, their management, formats but 512 bytes, metadata, compare, reservations, events, arbitration by
 * weight.
 */
#include "dev/storage/nvme_private.h"

#include "base/bytes.h"
#include "base/err.h"
#include "base/macros.h"
#include "base/scoped.h"
#include "state/state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BAR_SIZE     0x4000u
#define DOORBELLS_AT 0x1000u
#define MSIX_BAR     4u

/* CAP: contiguous queues, 10 s to become ready, the NVM command set, pages of 4 KiB. */
#define CAP_VALUE (UINT64_C(1) << 37 | 20u << 24 | 1u << 16 | (NVME_ENTRIES - 1))
#define VERSION   0x00010400u

#define CC_ENABLE    0x01u
#define CC_PAGE      0x0780u
#define CC_SHUTDOWN  0xc000u
#define CSTS_READY   0x01u
#define CSTS_FATAL   0x02u
#define CSTS_SHUT    0x08u /* complete */
#define CSTS_SHUTS   0x0cu

#define ENTRY      64u
#define COMPLETION 16u

enum { FLUSH = 0x00, WRITE = 0x01, READ = 0x02, WRITE_ZEROES = 0x08, MANAGE = 0x09 };

static void fetch_all(struct nvme *n);

/* -- Interrupts ------------------------------------------------------------------------------ */

static void drive_pin(struct nvme *n)
{
	bool level = false;

	for (unsigned i = 0; i < NVME_QUEUES && !msix_enabled(&n->msix); i++) {
		const struct nvme_cq *cq = &n->cq[i];

		level |= cq->used && cq->irq && cq->head != cq->tail && !(n->masked >> cq->vector & 1);
	}
	pci_intx_set(&n->fn, level);
}

/* What has ended since the last time. */
static void tell_news(struct nvme *n)
{
	bool any = false;

	for (unsigned i = 0; i < NVME_QUEUES; i++) {
		struct nvme_cq *cq = &n->cq[i];

		if (cq->news && cq->irq)
			msix_notify(&n->msix, cq->vector);
		any |= cq->news;
		cq->news = false;
	}
	if (any)
		drive_pin(n);
}

/* -- Ending a command ------------------------------------------------------------------------- */

static void fail(struct nvme *n)
{
	n->csts |= CSTS_FATAL;
}

static void post(struct nvme_request *r, uint16_t status)
{
	struct nvme *n = r->nvme;
	struct nvme_sq *sq = &n->sq[r->sq];
	struct nvme_cq *cq = &n->cq[sq->cq];
	uint8_t entry[COMPLETION] = {0};

	le32_put(entry, r->result);
	le16_put(entry + 8, (uint16_t)sq->head);
	le16_put(entry + 10, r->sq);
	le16_put(entry + 12, le16_get(r->command + 2));
	le16_put(entry + 14, (uint16_t)(status << 1 | cq->phase));
	if (guest_write(n->config.mem, cq->base + (uint64_t)cq->tail * COMPLETION, entry, COMPLETION) < 0)
		fail(n);
	cq->promised--;
	if (++cq->tail == cq->size) {
		cq->tail = 0;
		cq->phase = !cq->phase;
	}
	cq->news = true;
}

static void give_back(struct nvme_request *r)
{
	r->next = r->nvme->free;
	r->nvme->free = r;
}

void nvme_end(struct nvme_request *r, uint16_t status)
{
	struct nvme *n = r->nvme;
	struct nvme_sq *sq = &n->sq[r->sq];
	struct nvme_request *deletion = sq->deletion;

	post(r, status);
	give_back(r);
	if (--sq->in_flight || !deletion)
		return;
	sq->deletion = NULL;
	sq->used = false;
	nvme_end(deletion, NVME_OK); /* SAFE: it is the admin queue's, which nothing deletes */
}

static uint16_t status_of(const struct disk_req *req)
{
	switch (req->rc) {
	case 0:
		return NVME_OK;
	case -EROFS:
		return NVME_PROTECTED;
	case -EINVAL:
		return NVME_BAD_RANGE;
	default:
		return req->op == DISK_READ ? NVME_READ_ERROR : NVME_WRITE_FAULT;
	}
}

/* -- Resets ------------------------------------------------------------------------------------- */

static void finish_reset(struct nvme *n)
{
	disk_cancel(n->config.disk, false);
	n->resetting = false;
	n->csts = 0;
	n->n_aers = 0;
	memset(n->aers, 0, sizeof(n->aers));
	n->masked = 0;
	memset(n->sq, 0, sizeof(n->sq));
	memset(n->cq, 0, sizeof(n->cq));
	nvme_reset_features(n);
	n->free = NULL;
	for (unsigned i = NVME_REQUESTS; i-- > 0;)
		give_back(&n->requests[i]);
	drive_pin(n);
}

static void start_reset(struct nvme *n)
{
	n->resetting = true;
	n->cc &= ~CC_ENABLE;
	if (n->under_way == 0)
		finish_reset(n);
	else
		disk_cancel(n->config.disk, true);
}

/* The driver has said where the admin queue is. */
static void enable(struct nvme *n)
{
	uint32_t sq = (n->aqa & 0xfff) + 1, cq = (n->aqa >> 16 & 0xfff) + 1;

	if (n->cc & CC_PAGE || sq < 2 || sq > NVME_ENTRIES || cq < 2 || cq > NVME_ENTRIES) {
		fail(n);
		return;
	}
	n->sq[0] = (struct nvme_sq){.used = true, .base = n->asq, .size = sq};
	n->cq[0] = (struct nvme_cq){.used = true, .irq = true, .phase = true, .base = n->acq, .size = cq};
	n->csts |= CSTS_READY;
}

/* -- Memory of a command -------------------------------------------------------------------------- */

/* Entries of a list, and of those that it leads to. Each list but the first begins a page, so each has an entry that is none of those. */
static uint16_t gather_list(struct nvme_request *r, uint64_t list, uint64_t left, bool to_guest)
{
	const struct guest_mem *mem = r->nvme->config.mem;

	while (left) {
		uint64_t part = left < NVME_PAGE ? left : NVME_PAGE;
		bool is_last = list % NVME_PAGE == NVME_PAGE - 8;
		uint8_t entry[8];
		uint64_t at;

		if (guest_read(mem, list, entry, sizeof(entry)) < 0)
			return NVME_BAD_TRANSFER;
		at = le64_get(entry);
		if (at % NVME_PAGE)
			return NVME_BAD_FIELD;
		if (is_last && left > NVME_PAGE) {
			list = at;
			continue;
		}
		if (!pieces_add(&r->pieces, mem, at, part, to_guest))
			return NVME_BAD_TRANSFER;
		left -= part;
		list += 8;
	}
	return NVME_OK;
}

uint16_t nvme_gather(struct nvme_request *r, uint64_t len, bool to_guest)
{
	uint64_t first = le64_get(r->command + 24), second = le64_get(r->command + 32), room = NVME_PAGE - first % NVME_PAGE;

	pieces_clear(&r->pieces);
	if (r->command[1] >> 6 || first % 4)
		return NVME_BAD_FIELD;
	if (!pieces_add(&r->pieces, r->nvme->config.mem, first, len < room ? len : room, to_guest))
		return NVME_BAD_TRANSFER;
	if (len <= room)
		return NVME_OK;
	len -= room;
	if (len > NVME_PAGE)
		return second % 8 ? NVME_BAD_FIELD : gather_list(r, second, len, to_guest);
	if (second % NVME_PAGE)
		return NVME_BAD_FIELD;
	return pieces_add(&r->pieces, r->nvme->config.mem, second, len, to_guest) ? NVME_OK : NVME_BAD_TRANSFER;
}

/* -- Beginning a command ---------------------------------------------------------------------------- */

static void done(struct disk_req *req);

/* Gives it to the disk: its status, or NVME_LATER. */
static uint16_t submit(struct nvme_request *r)
{
	r->req.done = done;
	if (disk_submit(r->nvme->config.disk, &r->req))
		return status_of(&r->req);
	r->nvme->under_way++;
	return NVME_LATER;
}

static bool blocks_of(const struct nvme_request *r, uint64_t *at, uint64_t *len)
{
	uint64_t all = disk_info(r->nvme->config.disk)->size / DISK_SECTOR, first = le64_get(r->command + 40);
	uint32_t n = (le32_get(r->command + 48) & 0xffff) + 1;

	*at = first * DISK_SECTOR;
	*len = (uint64_t)n * DISK_SECTOR;
	return first < all && n <= all - first;
}

/* A write is lasting when it is done, if the driver wants that, or has switched the cache off. */
static bool is_sync(const struct nvme_request *r)
{
	return le32_get(r->command + 48) >> 30 & 1 || !(r->nvme->features[NVME_VOLATILE_CACHE] & 1);
}

static uint16_t transfer(struct nvme_request *r, enum disk_op op)
{
	uint64_t at, len;
	uint16_t status;

	if (!blocks_of(r, &at, &len))
		return NVME_BAD_RANGE;
	if (len > NVME_PAGE << NVME_MDTS)
		return NVME_BAD_FIELD;
	status = nvme_gather(r, len, op == DISK_READ);
	if (status != NVME_OK)
		return status;
	r->req = (struct disk_req){.op = op, .at = at, .iov = r->pieces.iov, .n_iov = r->pieces.n, .sync = op == DISK_WRITE && is_sync(r)};
	return submit(r);
}

static uint16_t write_zeroes(struct nvme_request *r)
{
	uint64_t at, len;

	if (!blocks_of(r, &at, &len))
		return NVME_BAD_RANGE;
	r->req = (struct disk_req){.op = DISK_ZERO, .at = at, .len = len, .sync = is_sync(r)};
	return submit(r);
}

static void parse_range(const uint8_t *entry, uint64_t *first, uint64_t *count)
{
	*first = le64_get(entry + 8);
	*count = le32_get(entry + 4);
}

/* The next range that is to be forgotten: its status, or NVME_LATER. */
static uint16_t next_range(struct nvme_request *r)
{
	struct disk *disk = r->nvme->config.disk;
	int rc;

	while ((rc = ranges_next(&r->ranges, &r->req, disk_info(disk)->size)) > 0) {
		if (!disk_submit(disk, &r->req))
			return NVME_LATER;
		if (r->req.rc < 0)
			return status_of(&r->req);
	}
	return rc < 0 ? NVME_BAD_RANGE : NVME_OK;
}

static uint16_t manage(struct nvme_request *r)
{
	unsigned count = (le32_get(r->command + 40) & 0xff) + 1;
	uint16_t status = nvme_gather(r, count * 16u, false);

	if (status != NVME_OK || !(le32_get(r->command + 44) & 4)) /* hints of other kinds */
		return status;
	if (!disk_info(r->nvme->config.disk)->can_discard)
		return NVME_PROTECTED;
	r->ranges = (struct ranges){.list = &r->pieces, .step = 16, .left = count, .parse = parse_range};
	r->req = (struct disk_req){.op = DISK_DISCARD, .done = done};
	status = next_range(r);
	r->nvme->under_way += status == NVME_LATER;
	return status;
}

static uint16_t begin_io(struct nvme_request *r)
{
	uint32_t space = le32_get(r->command + 4);

	if (space != 1 && !(r->command[0] == FLUSH && space == UINT32_MAX))
		return NVME_BAD_NAMESPACE;
	switch (r->command[0]) {
	case FLUSH:
		r->req = (struct disk_req){.op = DISK_FLUSH};
		return submit(r);
	case WRITE:
		return transfer(r, DISK_WRITE);
	case READ:
		return transfer(r, DISK_READ);
	case WRITE_ZEROES:
		return write_zeroes(r);
	case MANAGE:
		return manage(r);
	default:
		return NVME_BAD_OPCODE;
	}
}

/* -- Queues -------------------------------------------------------------------------------------------- */

static bool may_run(const struct nvme *n)
{
	return (n->csts & (CSTS_READY | CSTS_FATAL)) == CSTS_READY && !n->resetting && !n->paused;
}

/* Places of a completion queue that neither are full nor promised; one is always empty. */
static uint32_t room(const struct nvme_cq *cq)
{
	uint32_t full = (cq->tail + cq->size - cq->head) % cq->size;

	return cq->size - 1 - full - cq->promised; /* SAFE: what is promised was room */
}

/* Takes one command. False: there is none, or no place for it. */
static bool fetch_one(struct nvme *n, unsigned id)
{
	struct nvme_sq *sq = &n->sq[id];
	struct nvme_request *r = n->free;
	uint16_t status;

	if (!sq->used || sq->head == sq->tail || sq->deletion || !r || room(&n->cq[sq->cq]) == 0 || !may_run(n))
		return false;
	if (guest_read(n->config.mem, sq->base + (uint64_t)sq->head * ENTRY, r->command, ENTRY) < 0) {
		fail(n);
		return false;
	}
	n->free = r->next;
	r->sq = (uint16_t)id;
	r->result = 0;
	r->ranges.left = 0;
	sq->head = (sq->head + 1) % sq->size;
	sq->in_flight++;
	n->cq[sq->cq].promised++;
	if (r->command[1] & 3) /* fused with another one */
		status = NVME_BAD_FIELD;
	else
		status = id ? begin_io(r) : nvme_admin(r);
	if (status != NVME_LATER)
		nvme_end(r, status);
	return true;
}

/* As many as a queue holds, at most: what is offered meanwhile comes with a doorbell of its own. */
static void fetch(struct nvme *n, unsigned id)
{
	for (unsigned i = 0; i < NVME_ENTRIES && fetch_one(n, id); i++)
		;
}

static void fetch_all(struct nvme *n)
{
	for (unsigned id = 0; id < NVME_QUEUES; id++)
		fetch(n, id);
}

/* On a thread of the disk. */
static void done(struct disk_req *req)
{
	struct nvme_request *r = container_of(req, struct nvme_request, req);
	struct nvme *n = r->nvme;
	uint16_t status;

	scoped_lock(&n->dev.lock);
	status = status_of(req);
	if (!n->resetting && status == NVME_OK && r->ranges.left)
		status = next_range(r);
	if (status == NVME_LATER)
		return;
	if (--n->under_way == 0)
		pthread_cond_broadcast(&n->idle);
	if (n->resetting) {
		if (n->under_way == 0)
			finish_reset(n);
		return;
	}
	nvme_end(r, status);
	fetch_all(n);
	tell_news(n);
}

static void ring(struct nvme *n, unsigned bell, uint32_t value)
{
	unsigned id = bell / 2;

	if (id >= NVME_QUEUES || !may_run(n))
		return;
	if (bell % 2 == 0) {
		if (!n->sq[id].used || value >= n->sq[id].size)
			return;
		n->sq[id].tail = value;
		fetch(n, id);
	} else {
		struct nvme_cq *cq = &n->cq[id];
		bool was_full = cq->used && room(cq) == 0;
		uint32_t full = cq->used ? (cq->tail + cq->size - cq->head) % cq->size : 0;

		/* Only forward, over what is there: else there would be more promised than there is room. */
		if (!cq->used || value >= cq->size || (value + cq->size - cq->head) % cq->size > full)
			return;
		cq->head = value;
		if (was_full)
			fetch_all(n);
		drive_pin(n);
	}
	tell_news(n);
}

/* -- Registers -------------------------------------------------------------------------------------------- */

static uint64_t read_cap(void *dev, unsigned at)
{
	(void)dev, (void)at;
	return CAP_VALUE;
}

static uint64_t read_version(void *dev, unsigned at)
{
	(void)dev, (void)at;
	return VERSION;
}

static uint64_t read_masked(void *dev, unsigned at)
{
	(void)at;
	return ((struct nvme *)dev)->masked;
}

static void write_masked(void *dev, unsigned at, uint64_t value)
{
	struct nvme *n = dev;

	if (at == 0x0c)
		n->masked |= (uint32_t)value;
	else
		n->masked &= (uint32_t)~value;
	drive_pin(n);
}

static uint64_t read_cc(void *dev, unsigned at)
{
	(void)at;
	return ((struct nvme *)dev)->cc;
}

static void write_cc(void *dev, unsigned at, uint64_t value)
{
	struct nvme *n = dev;
	uint32_t before = n->cc;

	(void)at;
	if (n->resetting)
		return;
	n->cc = (uint32_t)value & 0x00fffff1;
	if (n->cc & CC_SHUTDOWN)
		n->csts |= CSTS_SHUT; /* what is written gets to the disk when the machine ends */
	else
		n->csts &= ~CSTS_SHUTS;
	if (before & CC_ENABLE && !(n->cc & CC_ENABLE))
		start_reset(n);
	else if (!(before & CC_ENABLE) && n->cc & CC_ENABLE)
		enable(n);
}

static uint64_t read_csts(void *dev, unsigned at)
{
	(void)at;
	return ((struct nvme *)dev)->csts;
}

static uint64_t read_aqa(void *dev, unsigned at)
{
	(void)at;
	return ((struct nvme *)dev)->aqa;
}

static void write_aqa(void *dev, unsigned at, uint64_t value)
{
	(void)at;
	((struct nvme *)dev)->aqa = (uint32_t)value & 0x0fff0fff;
}

static uint64_t *base_of(struct nvme *n, unsigned at)
{
	return at < 0x30 ? &n->asq : &n->acq;
}

static uint64_t read_base(void *dev, unsigned at)
{
	return (uint32_t)(*base_of(dev, at) >> (at % 8 * 8));
}

static void write_base(void *dev, unsigned at, uint64_t value)
{
	uint64_t *base = base_of(dev, at);
	unsigned shift = at % 8 * 8;

	*base = (*base & ~(UINT64_C(0xffffffff) << shift)) | value << shift;
	*base &= ~(uint64_t)(NVME_PAGE - 1);
}

static const struct reg regs[] = {
	{.at = 0x00, .width = 8, .name = "CAP", .read = read_cap},
	{.at = 0x08, .width = 4, .name = "VS", .read = read_version},
	{.at = 0x0c, .width = 4, .name = "INTMS", .read = read_masked, .write = write_masked},
	{.at = 0x10, .width = 4, .name = "INTMC", .read = read_masked, .write = write_masked},
	{.at = 0x14, .width = 4, .name = "CC", .read = read_cc, .write = write_cc},
	{.at = 0x1c, .width = 4, .name = "CSTS", .read = read_csts},
	{.at = 0x24, .width = 4, .name = "AQA", .read = read_aqa, .write = write_aqa},
	{.at = 0x28, .width = 4, .count = 2, .name = "ASQ", .read = read_base, .write = write_base},
	{.at = 0x30, .width = 4, .count = 2, .name = "ACQ", .read = read_base, .write = write_base},
	{0},
};

static uint64_t bar_read(void *ctx, uint64_t at, unsigned width)
{
	struct nvme *n = ctx;

	scoped_lock(&n->dev.lock);
	return at < 0x38 ? regs_read(regs, n, at, width) : 0;
}

static void bar_write(void *ctx, uint64_t at, unsigned width, uint64_t value)
{
	struct nvme *n = ctx;

	scoped_lock(&n->dev.lock);
	if (at < DOORBELLS_AT)
		regs_write(regs, n, at, width, value);
	else if (width == 4 && at % 4 == 0)
		ring(n, (unsigned)(at - DOORBELLS_AT) / 4, (uint32_t)value);
}

/* MSI-X may have been switched on or off. The host's lock is held, and ours is taken inside it. */
static void config_written(void *ctx, unsigned at, unsigned width)
{
	struct nvme *n = ctx;

	(void)at, (void)width;
	scoped_lock(&n->dev.lock);
	drive_pin(n);
}

/* -- The model ------------------------------------------------------------------------------------------------ */

static int init(struct device *dev, const void *config, struct err *err)
{
	struct nvme *n = (struct nvme *)dev;
	int rc;

	n->config = *(const struct nvme_config *)config;
	pthread_cond_init(&n->idle, NULL);
	n->fn = (struct pci_function){
		.name = "nvme", .vendor = 0x1b36, .device = 0x0010, .class_code = 0x010802, .sub_vendor = 0x1af4, .sub_device = 0x1100,
		.pin = 1, .owner = &n->dev, .ctx = n, .config_written = config_written,
		.bars[0] = {.size = BAR_SIZE, .wide = true, .read = bar_read, .write = bar_write},
	};
	msix_init(&n->msix, &n->fn, NVME_QUEUES, MSIX_BAR);
	n->requests = calloc(NVME_REQUESTS, sizeof(*n->requests));
	if (!n->requests)
		return err_set(err, ENOMEM, "out of memory");
	for (unsigned i = 0; i < NVME_REQUESTS; i++)
		n->requests[i].nvme = n;
	rc = pci_add(n->config.host, &n->fn, PCI_DEVFN(n->config.slot, 0), err);
	return rc < 0 ? rc : msix_add_cap(&n->msix, MSIX_BAR, err);
}

static void wait_idle(struct nvme *n)
{
	while (n->under_way)
		pthread_cond_wait(&n->idle, &n->dev.lock);
}

static void reset(struct device *dev)
{
	struct nvme *n = (struct nvme *)dev;

	start_reset(n);
	wait_idle(n);
	n->cc = n->aqa = 0;
	n->asq = n->acq = 0;
	msix_reset(&n->msix);
}

static void fini(struct device *dev)
{
	struct nvme *n = (struct nvme *)dev;

	if (n->fn.host) {
		scoped_lock(&dev->lock);
		reset(dev);
	}
	pci_remove(&n->fn);
	msix_fini(&n->msix);
	free(n->requests);
	pthread_cond_destroy(&n->idle);
}

static void pause_queues(struct device *dev)
{
	struct nvme *n = (struct nvme *)dev;

	n->paused = true;
	wait_idle(n);
}

static void resume(struct device *dev)
{
	struct nvme *n = (struct nvme *)dev;

	n->paused = false;
	fetch_all(n);
	tell_news(n);
}

static void saving(struct device *dev)
{
	pci_function_saving(&((struct nvme *)dev)->fn);
}

static bool is_queue(uint64_t base, uint32_t size, uint32_t head, uint32_t tail)
{
	return base % NVME_PAGE == 0 && size >= 2 && size <= NVME_ENTRIES && head < size && tail < size;
}

static int loaded(struct device *dev, uint64_t away, struct err *err)
{
	struct nvme *n = (struct nvme *)dev;

	(void)away;
	for (unsigned i = 0; i < NVME_QUEUES; i++) {
		const struct nvme_sq *sq = &n->sq[i];
		const struct nvme_cq *cq = &n->cq[i];

		if (sq->used && (!is_queue(sq->base, sq->size, sq->head, sq->tail) || !n->cq[sq->cq].used))
			return err_set(err, EINVAL, "submission queue %u cannot be", i);
		if (cq->used && !is_queue(cq->base, cq->size, cq->head, cq->tail))
			return err_set(err, EINVAL, "completion queue %u cannot be", i);
	}
	if (n->csts & CSTS_READY && (!n->sq[0].used || !n->cq[0].used))
		return err_set(err, EINVAL, "it is ready without an admin queue");
	if (n->csts & CSTS_READY && !(n->cc & CC_ENABLE)) /* enabled a second time it would lose count of what is in flight */
		return err_set(err, EINVAL, "it is ready, and was not enabled");
	pci_function_loaded(&n->fn);
	return 0;
}

static const struct state_field sq_fields[] = {
	STATE(struct nvme_sq, used),
	STATE(struct nvme_sq, base),
	STATE(struct nvme_sq, size),
	STATE(struct nvme_sq, head),
	STATE(struct nvme_sq, tail),
	STATE_UPTO(struct nvme_sq, cq, NVME_QUEUES - 1),
	{0},
};

static const struct state_field cq_fields[] = {
	STATE(struct nvme_cq, used),
	STATE(struct nvme_cq, irq),
	STATE(struct nvme_cq, phase),
	STATE(struct nvme_cq, base),
	STATE(struct nvme_cq, size),
	STATE(struct nvme_cq, head),
	STATE(struct nvme_cq, tail),
	STATE_UPTO(struct nvme_cq, vector, NVME_QUEUES - 1),
	{0},
};

static const struct state_field fields[] = {
	PCI_FUNCTION_STATE(struct nvme, fn),
	MSIX_STATE(struct nvme, msix),
	STATE(struct nvme, cc),
	STATE_UPTO(struct nvme, csts, CSTS_READY | CSTS_FATAL | CSTS_SHUTS),
	STATE(struct nvme, aqa),
	STATE(struct nvme, masked),
	STATE(struct nvme, asq),
	STATE(struct nvme, acq),
	STATE_PARTS(struct nvme, sq, sq_fields),
	STATE_PARTS(struct nvme, cq, cq_fields),
	STATE_UPTO(struct nvme, n_aers, NVME_AERS),
	STATE_ARRAY(struct nvme, aers),
	STATE_ARRAY(struct nvme, features),
	{0},
};

static const struct state_table table = {.name = "nvme", .version = 1, .fields = fields};
static const struct state_table *const state[] = {&table, NULL};

const struct device_model nvme_model = {
	.name = "nvme",
	.summary = "NVMe controller with a disk",
	.option = "--disk FILE,bus=nvme",
	.size = sizeof(struct nvme),
	.bar = regs,
	.state = state,
	.init = init,
	.reset = reset,
	.fini = fini,
	.pause = pause_queues,
	.resume = resume,
	.saving = saving,
	.loaded = loaded,
};

/* SPDX-License-Identifier: MIT */
/*
 * Commands of the admin queue, after chapter 5 of the NVMe specification 1.4: queues are made and deleted, the controller and its namespace
 * say what they are, and features are read and set.
 *
 * Features are numbers that are kept, and only the write cache's changes anything. Events are waited for and never come: nothing
 * happens to such a disk that it would have to tell.
 */
#include "dev/storage/nvme_private.h"

#include "base/bytes.h"
#include "base/macros.h"

#include <stdio.h>
#include <string.h>

enum {
	DELETE_SQ = 0x00, CREATE_SQ = 0x01, GET_LOG = 0x02, DELETE_CQ = 0x04, CREATE_CQ = 0x05, IDENTIFY = 0x06, ABORT = 0x08,
	SET_FEATURES = 0x09, GET_FEATURES = 0x0a, AWAIT_EVENT = 0x0c
};

enum { FEATURE_QUEUES = 7 };

static uint32_t dword(const struct nvme_request *r, unsigned n)
{
	return le32_get(r->command + (size_t)n * 4);
}

/* n->page's first `len` bytes, for the guest. */
static uint16_t tell(struct nvme_request *r, uint32_t len)
{
	uint16_t status = nvme_gather(r, len, true);

	if (status == NVME_OK)
		pieces_put(&r->pieces, r->nvme->page, len);
	return status;
}

/* -- Queues ------------------------------------------------------------------------------- */

/* What both kinds have: number and size, in physically contiguous pages. */
static uint16_t check_queue(const struct nvme_request *r, bool is_used, uint32_t *size)
{
	*size = (dword(r, 10) >> 16) + 1;
	if (is_used)
		return NVME_BAD_QUEUE;
	if (*size < 2 || *size > NVME_ENTRIES)
		return NVME_BAD_SIZE;
	if (!(dword(r, 11) & 1) || le64_get(r->command + 24) % NVME_PAGE)
		return NVME_BAD_FIELD;
	return NVME_OK;
}

/* The number of an I/O queue; 0: it is none. */
static unsigned queue_of(const struct nvme_request *r)
{
	unsigned n = dword(r, 10) & 0xffff;

	return n < NVME_QUEUES ? n : 0;
}

static uint16_t create_cq(struct nvme_request *r)
{
	struct nvme *n = r->nvme;
	unsigned id = queue_of(r), vector = dword(r, 11) >> 16;
	uint32_t size;
	uint16_t status = check_queue(r, !id || n->cq[id].used, &size);

	if (status != NVME_OK)
		return status;
	if (vector >= NVME_QUEUES)
		return NVME_BAD_VECTOR;
	n->cq[id] = (struct nvme_cq){
		.used = true, .irq = dword(r, 11) & 2, .phase = true, .base = le64_get(r->command + 24), .size = size, .vector = (uint16_t)vector,
	};
	return NVME_OK;
}

static uint16_t create_sq(struct nvme_request *r)
{
	struct nvme *n = r->nvme;
	unsigned id = queue_of(r), cq = dword(r, 11) >> 16;
	uint32_t size;
	uint16_t status = check_queue(r, !id || n->sq[id].used, &size);

	if (status != NVME_OK)
		return status;
	if (!cq || cq >= NVME_QUEUES || !n->cq[cq].used)
		return NVME_BAD_CQ;
	n->sq[id] = (struct nvme_sq){.used = true, .base = le64_get(r->command + 24), .size = size, .cq = (uint16_t)cq};
	return NVME_OK;
}

/* Ends when all that it had has ended. */
static uint16_t delete_sq(struct nvme_request *r)
{
	struct nvme *n = r->nvme;
	unsigned id = queue_of(r);
	struct nvme_sq *sq = &n->sq[id];

	if (!id || !sq->used || sq->deletion)
		return NVME_BAD_QUEUE;
	if (sq->in_flight) {
		sq->deletion = r;
		return NVME_LATER;
	}
	sq->used = false;
	return NVME_OK;
}

static uint16_t delete_cq(struct nvme_request *r)
{
	struct nvme *n = r->nvme;
	unsigned id = queue_of(r);

	if (!id || !n->cq[id].used)
		return NVME_BAD_QUEUE;
	for (unsigned i = 0; i < NVME_QUEUES; i++)
		if (n->sq[i].used && n->sq[i].cq == id)
			return NVME_BAD_DELETION;
	n->cq[id].used = false;
	return NVME_OK;
}

/* -- Identity -------------------------------------------------------------------------------- */

static void put_text(uint8_t *to, size_t room, const char *text)
{
	size_t len = strlen(text);

	memset(to, ' ', room);
	memcpy(to, text, len < room ? len : room);
}

static void identify_controller(struct nvme *n)
{
	uint8_t *p = n->page;
	char text[64];

	le16_put(p + 0, n->fn.vendor);
	le16_put(p + 2, n->fn.sub_vendor);
	snprintf(text, sizeof(text), "LODGE-NVME-%u", n->config.number);
	put_text(p + 4, 20, text);
	put_text(p + 24, 40, "LODGE DISK");
	put_text(p + 64, 8, "1.0");
	p[77] = NVME_MDTS;
	le32_put(p + 80, 0x00010400);
	p[111] = 1;                 /* it does I/O */
	p[258] = 3;                 /* aborts at once */
	p[259] = NVME_AERS - 1;
	p[260] = 3;                 /* one slot for firmware, which is only read */
	le16_put(p + 266, 343);     /* K: warning, and critical */
	le16_put(p + 268, 373);
	p[512] = 0x66;              /* sizes of entries, as powers of two */
	p[513] = 0x44;
	le32_put(p + 516, 1);       /* namespaces */
	le16_put(p + 520, 0x000c);  /* DATASET MANAGEMENT, WRITE ZEROES */
	p[525] = 1;                 /* a cache for writes */
	snprintf((char *)p + 768, 256, "nqn.2026-11.org.lodge:nvme:%u", n->config.number);
}

static void identify_namespace(struct nvme *n)
{
	const struct disk_info *info = disk_info(n->config.disk);
	uint8_t *p = n->page;

	le64_put(p + 0, info->size / DISK_SECTOR);
	le64_put(p + 8, info->size / DISK_SECTOR);
	le64_put(p + 16, info->size / DISK_SECTOR);
	p[99] = info->readonly;
	p[128 + 2] = 9; /* blocks of 512 bytes, as a power of two */
}

static uint16_t identify(struct nvme_request *r)
{
	struct nvme *n = r->nvme;
	uint32_t space = le32_get(r->command + 4), what = dword(r, 10) & 0xff;

	memset(n->page, 0, sizeof(n->page));
	switch (what) {
	case 0:
		if (space != 1 && space != UINT32_MAX)
			return NVME_BAD_NAMESPACE;
		identify_namespace(n);
		break;
	case 1:
		identify_controller(n);
		break;
	case 2: /* namespaces above one */
		if (space >= 0xfffffffe)
			return NVME_BAD_NAMESPACE;
		le32_put(n->page, space == 0);
		break;
	case 3: /* it has no names */
		if (space != 1)
			return NVME_BAD_NAMESPACE;
		break;
	default:
		return NVME_BAD_FIELD;
	}
	return tell(r, NVME_PAGE);
}

/* -- Logs, features ---------------------------------------------------------------------------- */

static uint16_t get_log(struct nvme_request *r)
{
	uint8_t *p = r->nvme->page, which = (uint8_t)dword(r, 10);
	uint64_t len = (((uint64_t)(dword(r, 11) & 0xffff) << 16 | dword(r, 10) >> 16) + 1) * 4;

	memset(p, 0, NVME_PAGE);
	if (le64_get(r->command + 48)) /* from the middle on */
		return NVME_BAD_FIELD;
	switch (which) {
	case 1: /* errors: none */
		break;
	case 2: /* health: good, at 27 degrees */
		le16_put(p + 1, 300);
		p[3] = 100;
		p[4] = 10;
		break;
	case 3: /* firmware */
		p[0] = 1;
		put_text(p + 8, 8, "1.0");
		break;
	default:
		return NVME_BAD_LOG;
	}
	return len > NVME_PAGE ? NVME_BAD_FIELD : tell(r, (uint32_t)len);
}

void nvme_reset_features(struct nvme *n)
{
	memset(n->features, 0, sizeof(n->features));
	n->features[4] = 343;
	n->features[NVME_VOLATILE_CACHE] = 1;
	n->features[FEATURE_QUEUES] = (NVME_QUEUES - 2) << 16 | (NVME_QUEUES - 2);
}

static bool is_feature(unsigned f)
{
	return f < NVME_FEATURES && 0xff6u >> f & 1;
}

static uint16_t get_features(struct nvme_request *r)
{
	unsigned f = dword(r, 10) & 0xff, select = dword(r, 10) >> 8 & 7;

	if (!is_feature(f) || select > 3)
		return NVME_BAD_FIELD;
	r->result = select == 3 ? 4u : r->nvme->features[f]; /* 3: what of it can be done: it is changed */
	return NVME_OK;
}

static uint16_t set_features(struct nvme_request *r)
{
	unsigned f = dword(r, 10) & 0xff;
	struct nvme *n = r->nvme;

	if (!is_feature(f) || dword(r, 10) >> 31) /* saved ones there are none */
		return NVME_BAD_FIELD;
	if (f == FEATURE_QUEUES) {
		r->result = n->features[f]; /* as many as there are, whatever was asked for */
		return NVME_OK;
	}
	n->features[f] = dword(r, 11);
	return NVME_OK;
}

/* Keeps the command, and gives its place back: it has none until an event comes. */
static uint16_t await_event(struct nvme_request *r)
{
	struct nvme *n = r->nvme;

	if (n->n_aers == NVME_AERS)
		return NVME_TOO_MANY_AERS;
	n->aers[n->n_aers++] = le16_get(r->command + 2);
	n->sq[0].in_flight--;
	n->cq[0].promised--;
	r->next = n->free;
	n->free = r;
	return NVME_LATER;
}

uint16_t nvme_admin(struct nvme_request *r)
{
	switch (r->command[0]) {
	case DELETE_SQ:
		return delete_sq(r);
	case CREATE_SQ:
		return create_sq(r);
	case GET_LOG:
		return get_log(r);
	case DELETE_CQ:
		return delete_cq(r);
	case CREATE_CQ:
		return create_cq(r);
	case IDENTIFY:
		return identify(r);
	case ABORT:
		r->result = 1; /* it was not */
		return NVME_OK;
	case SET_FEATURES:
		return set_features(r);
	case GET_FEATURES:
		return get_features(r);
	case AWAIT_EVENT:
		return await_event(r);
	default:
		return NVME_BAD_OPCODE;
	}
}

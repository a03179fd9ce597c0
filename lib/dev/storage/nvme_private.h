/* SPDX-License-Identifier: MIT */
/* What the files of the NVMe controller share: nvme.c, nvme_admin.c. */
#ifndef DEV_STORAGE_NVME_PRIVATE_H
#define DEV_STORAGE_NVME_PRIVATE_H

#include "dev/pci/function.h"
#include "dev/pci/msix.h"
#include "dev/storage/nvme.h"
#include "dev/storage/pieces.h"

#define NVME_QUEUES    17u   /* of each kind: the admin queue and 16 for I/O */
#define NVME_ENTRIES   1024u /* in one, at most */
#define NVME_REQUESTS  256u  /* under way, at most */
#define NVME_PAGE      4096u
#define NVME_MDTS      7u    /* pages that a command moves at most, as a power of two */
#define NVME_AERS      4u
#define NVME_FEATURES  12u

/* Status of a completion: type << 8 | code. */
enum {
	NVME_OK = 0x000, NVME_BAD_OPCODE = 0x001, NVME_BAD_FIELD = 0x002, NVME_BAD_TRANSFER = 0x004, NVME_INTERNAL = 0x006,
	NVME_BAD_NAMESPACE = 0x00b, NVME_PROTECTED = 0x020, NVME_BAD_RANGE = 0x080,
	NVME_BAD_CQ = 0x100, NVME_BAD_QUEUE = 0x101, NVME_BAD_SIZE = 0x102, NVME_TOO_MANY_AERS = 0x105, NVME_BAD_VECTOR = 0x108,
	NVME_BAD_LOG = 0x109, NVME_BAD_DELETION = 0x10c, NVME_WRITE_FAULT = 0x280, NVME_READ_ERROR = 0x281,
	NVME_LATER = 0xffff, /* none: it ends when something has */
};

struct nvme_request;

struct nvme_sq {
	bool used;
	uint64_t base;
	uint32_t size, head, tail;
	uint16_t cq;
	uint32_t in_flight; /* taken, and not ended */
	struct nvme_request *deletion; /* the command that waits for the last of them */
};

struct nvme_cq {
	bool used, irq, phase;
	uint64_t base;
	uint32_t size, head, tail;
	uint16_t vector;
	uint32_t promised; /* places for what is in flight */
	bool news;         /* for an interrupt */
};

struct nvme_request {
	struct disk_req req;
	struct nvme *nvme;
	struct nvme_request *next; /* free */
	uint8_t command[64];
	uint16_t sq;
	uint32_t result;
	struct pieces pieces;
	struct ranges ranges;
};

struct nvme {
	struct device dev; /* first */
	struct nvme_config config;
	struct pci_function fn;
	struct msix msix;
	uint32_t cc, csts, aqa, masked;
	uint64_t asq, acq;
	struct nvme_sq sq[NVME_QUEUES];
	struct nvme_cq cq[NVME_QUEUES];
	uint32_t n_aers;
	uint16_t aers[NVME_AERS]; /* commands that wait for an event, which never comes */
	uint32_t features[NVME_FEATURES];
	struct nvme_request *requests, *free;
	unsigned under_way; /* requests that the disk has */
	bool resetting, paused;
	pthread_cond_t idle;
	uint8_t page[NVME_PAGE]; /* what is told, on its way */
};

/* -- nvme.c -- */

/* Memory of the command: `len` bytes, by PRP. NVME_OK or a status. */
uint16_t nvme_gather(struct nvme_request *r, uint64_t len, bool to_guest);

/* It has ended: tells it. */
void nvme_end(struct nvme_request *r, uint16_t status);

/* -- nvme_admin.c -- */

/* Does a command of the admin queue: its status, or NVME_LATER. */
uint16_t nvme_admin(struct nvme_request *r);
void nvme_reset_features(struct nvme *n);

#define NVME_VOLATILE_CACHE 6u /* a feature */

#endif

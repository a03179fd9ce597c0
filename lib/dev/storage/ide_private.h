/* SPDX-License-Identifier: MIT */
/*
 * The inside of the IDE controller: ide.c has its life, ide_registers.c its ports, ide_commands.c commands and what goes through the data register,
 * ide_dma.c the bus master's part.
 */
#ifndef DEV_STORAGE_IDE_PRIVATE_H
#define DEV_STORAGE_IDE_PRIVATE_H

#include "dev/pci/function.h"
#include "dev/storage/ata.h"
#include "dev/storage/ide.h"
#include "dev/storage/scsi.h"

#define BUFFER     8192u /* the largest block of a disk, and whole blocks of a CD */
#define PACKET_LEN 12u

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

#define CABLE(dev, n) (&((struct ide *)(dev))->cables[n])

static inline struct drive *selected(struct cable *c)
{
	return &c->drives[!!(c->device & DEV_SECOND)];
}

/* Whose command is under way. */
static inline struct drive *active(struct cable *c)
{
	return &c->drives[c->t.drive];
}

static inline struct disk *disk_of(const struct drive *d)
{
	return d->unit.kind == SCSI_CD ? d->unit.disk : d->ata.disk;
}

/* -- ide.c --------------------------------------------------------------------------------------- */

void ide_update_line(struct cable *c);
void ide_interrupt(struct cable *c);
bool ide_is_busy(const struct cable *c);

/* A drive that was reset says what it is. */
void ide_say_signature(struct drive *d);

/* Of a cable, by its control register: until that lets go, and all that was under way has ended. */
void ide_start_reset(struct cable *c);
void ide_finish_reset(struct cable *c);

/* A request has ended: on a thread of the disk. */
void ide_done(struct disk_req *req);

/* -- ide_registers.c ------------------------------------------------------------------------------ */

extern const struct reg ide_task_0[], ide_control_0[], ide_task_1[], ide_control_1[], ide_bus_master[];

/* -- ide_commands.c ------------------------------------------------------------------------------- */

/* The guest has written a command, or 12 bytes of one; has read a block, or written one. */
void ide_begin(struct cable *c, uint8_t code);
void ide_begin_packet(struct cable *c);
void ide_was_read(struct cable *c);
void ide_was_written(struct cable *c);

/* How a command ends: so; as an ATAPI one says; as its I/O did. */
void ide_finish(struct cable *c, uint8_t status, uint8_t error);
void ide_finish_packet(struct cable *c);
void ide_finish_io(struct cable *c, int rc);

/* A request for the drive's disk; then() hears of its end, now or later. */
void ide_submit(struct cable *c, struct iovec *iov, unsigned n_iov, void (*then)(struct cable *c, int rc));
void ide_wait_for_disk(struct cable *c);

/* -- ide_dma.c ------------------------------------------------------------------------------------- */

/* A command wants to move data; the bus master was started: it does, when both are so. */
void ide_want_dma(struct cable *c, enum what what);
void ide_run_dma_if_ready(struct cable *c);

/* The next of a list of ranges: true if there is one, and it is under way. */
bool ide_next_range(struct cable *c);

#endif

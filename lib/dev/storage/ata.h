/* SPDX-License-Identifier: MIT */
/*
 * ATA commands, for whoever has a disk's registers or their like (ahci.c). See ata.c.
 *
 *	c->regs = ...;                            // as the guest wrote them
 *	ata_begin(&ata, c);
 *	switch (c->how) {
 *	case ATA_DONE:                            // nothing is to be moved
 *	case ATA_REPLY:                           // c->reply is for the guest
 *	case ATA_IO:                              // c->io is to be done, with memory of c->len bytes; then ata_end()
 *	case ATA_RANGES:                          // discard what the list of c->len bytes says, which the guest sends
 *	case ATA_PACKET:                          // a SCSI command comes
 *	}
 *	c->regs.status, c->regs.error             // what became of it
 *
 * Its owner's lock is held for all of it.
 */
#ifndef DEV_STORAGE_ATA_H
#define DEV_STORAGE_ATA_H

#include "block/disk.h"
#include "state/state.h"

#include <stdbool.h>
#include <stdint.h>

#define ATA_REPLY_LEN 512u
#define ATA_SERIAL    20u

#define ATA_READY 0x50u /* status: DRDY and, as old drivers want it, DSC */
#define ATA_ERR   0x01u
#define ATA_DRQ   0x08u
#define ATA_BUSY  0x80u

#define ATA_ABORTED   0x04u /* errors */
#define ATA_NOT_FOUND 0x10u
#define ATA_DATA      0x40u

#define ATA_SIGNATURE       0x00000101u
#define ATA_SIGNATURE_ATAPI 0xeb140101u

/* As a register FIS has them, of 48 bits. */
struct ata_regs {
	uint8_t command, device, status, error;
	uint16_t features, count;
	uint64_t lba;
};

struct ata {
	struct disk *disk; /* NULL: it is an ATAPI drive */
	bool is_packet;
	uint8_t cable; /* 0: it is a SATA drive; else a parallel cable's first or second, and a disk knows addresses by cylinder, head and sector */
	char serial[ATA_SERIAL + 1];
	/* the guest's: */
	bool no_cache;      /* writes are lasting when they are done */
	bool smart_off;
	uint8_t multiple;   /* sectors */
	uint8_t heads, sectors; /* by which such an address is counted */
	/* The queued command that failed: log page 10h. */
	bool failed;
	uint8_t failed_tag;
	uint8_t failed_status, failed_error, failed_device;
	uint16_t failed_count;
	uint64_t failed_lba;
};

#define ATA_STATE                                                                          \
	STATE(struct ata, no_cache), STATE(struct ata, smart_off), STATE_UPTO(struct ata, multiple, 16), \
	STATE(struct ata, failed), STATE_UPTO(struct ata, failed_tag, 31),                 \
	STATE(struct ata, failed_status), STATE(struct ata, failed_error), STATE(struct ata, failed_device), \
	STATE(struct ata, failed_count), STATE(struct ata, failed_lba)
#define ATA_CABLE_STATE STATE_UPTO(struct ata, heads, 16), STATE(struct ata, sectors)

enum ata_how { ATA_DONE, ATA_REPLY, ATA_IO, ATA_RANGES, ATA_PACKET };

struct ata_cmd {
	struct ata_regs regs;
	enum ata_how how;
	bool pio;    /* data go by PIO: drivers are told otherwise that they are there */
	bool queued; /* NCQ */
	struct disk_req io; /* without memory */
	uint32_t len;
	uint8_t reply[ATA_REPLY_LEN];
};

void ata_reset(struct ata *a);
void ata_begin(struct ata *a, struct ata_cmd *c);

/* Its I/O has ended with rc. */
void ata_end(struct ata *a, struct ata_cmd *c, int rc);

/* It cannot be done. */
void ata_fail(struct ata_cmd *c, uint8_t error);

/* It was queued, as this tag, and has failed. */
void ata_note_failed(struct ata *a, const struct ata_cmd *c, unsigned tag);

/* For ranges_next(). */
void ata_range(const uint8_t *entry, uint64_t *first, uint64_t *n);

#endif

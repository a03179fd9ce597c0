/* SPDX-License-Identifier: MIT */
/*
 * SCSI commands, for whoever carries them: an ATAPI drive (ahci.c), a virtio-scsi controller. See scsi.c.
 *
 *	c->cdb = ...;
 *	scsi_begin(&unit, c, &out);
 *	switch (c->how) {
 *	case SCSI_DONE:                           // nothing is to be moved
 *	case SCSI_REPLY:                          // c->reply_len bytes of c->reply are for the guest
 *	case SCSI_IO:                             // c->io is to be done, with pieces of c->len bytes; then scsi_end()
 *	case SCSI_RANGES:                         // the same, one of c->ranges after the other
 *	}
 *	c->status, c->key, c->asc                 // what became of it
 *
 * Its owner's lock is held for all of it.
 */
#ifndef DEV_STORAGE_SCSI_H
#define DEV_STORAGE_SCSI_H

#include "dev/storage/pieces.h"
#include "state/state.h"

#include <stdbool.h>
#include <stdint.h>

#define SCSI_CDB_MAX   16u
#define SCSI_REPLY_MAX 512u
#define SCSI_SENSE     18u /* bytes of sense data */
#define SCSI_SERIAL    20u

enum { SCSI_GOOD = 0, SCSI_CHECK = 2 };

/* Sense keys. */
enum {
	SENSE_NONE, SENSE_RECOVERED, SENSE_NOT_READY, SENSE_MEDIUM, SENSE_HARDWARE, SENSE_ILLEGAL, SENSE_ATTENTION,
	SENSE_PROTECT
};

enum scsi_kind { SCSI_DISK, SCSI_CD };

/* What a drive has to tell of its medium: GET EVENT STATUS NOTIFICATION's codes. */
enum scsi_event { EVENT_NONE, EVENT_EJECT_WISH, EVENT_NEW_MEDIUM, EVENT_REMOVED };

/* A logical unit. */
struct scsi_unit {
	enum scsi_kind kind;
	struct disk *disk; /* a CD drive's: what lies in it; NULL: nothing */
	char serial[SCSI_SERIAL + 1];
	/* the guest's: */
	bool open;         /* a CD drive's tray */
	bool prevented;    /* from being opened by hand */
	bool changed;      /* another medium, of which no command has told yet */
	uint8_t event;
	uint8_t key, asc, ascq; /* of the last command that failed, for REQUEST SENSE */
};

enum scsi_how { SCSI_DONE, SCSI_REPLY, SCSI_IO, SCSI_RANGES };

struct scsi_cmd {
	uint8_t cdb[SCSI_CDB_MAX];
	/* scsi_begin() fills in: */
	enum scsi_how how;
	uint8_t status, key, asc, ascq;
	struct disk_req io; /* op, at, len, sync: without memory */
	uint64_t len;       /* that it moves */
	struct ranges ranges;
	uint32_t reply_len;
	uint8_t reply[SCSI_REPLY_MAX];
};

void scsi_reset(struct scsi_unit *u); /* after power-on; what lies in it stays */

/* What the command is. `out` is what the guest sends with it. */
void scsi_begin(struct scsi_unit *u, struct scsi_cmd *c, const struct pieces *out);

/* Its I/O has ended with rc. */
void scsi_end(struct scsi_unit *u, struct scsi_cmd *c, int rc);

/* The command cannot be done: its key and code (asc << 8 | ascq). */
void scsi_fail(struct scsi_unit *u, struct scsi_cmd *c, uint8_t key, uint16_t code);

/* Sense data, as they go with a command that failed. */
void scsi_sense(uint8_t sense[SCSI_SENSE], uint8_t key, uint8_t asc, uint8_t ascq);

/* Somebody changes what lies in a CD drive; NULL: takes it out. No request of the old one is under way. */
void scsi_change(struct scsi_unit *u, struct disk *disk);

/* Somebody presses the button of one that is prevented from being opened: the guest hears it. */
void scsi_press(struct scsi_unit *u);

/* Whether there is a medium, and the tray is closed. */
static inline bool scsi_is_ready(const struct scsi_unit *u)
{
	return u->disk && !u->open;
}

/* Of a unit inside the struct `type`, for the model's table. */
#define SCSI_UNIT_STATE                                                                    \
	STATE(struct scsi_unit, open), STATE(struct scsi_unit, prevented),                 \
	STATE(struct scsi_unit, changed), STATE_UPTO(struct scsi_unit, event, EVENT_REMOVED), \
	STATE_UPTO(struct scsi_unit, key, 15), STATE(struct scsi_unit, asc), STATE(struct scsi_unit, ascq)

#endif

/* SPDX-License-Identifier: MIT */
/* The USB devices that there are: hid.c and storage.c. Each has its rows of state, which begin with the device's. */
#ifndef DEV_USB_DEVICES_H
#define DEV_USB_DEVICES_H

#include "block/disk.h"
#include "dev/storage/scsi.h"
#include "dev/usb/usb.h"

#include <pthread.h>

#define HID_REPORT  8u
#define HID_REPORTS 16u

/* A keyboard or a tablet: what it has to say are reports, of which some may wait. */
struct usb_hid {
	struct usb_device usb; /* first */
	uint8_t reports[HID_REPORTS][HID_REPORT];
	uint32_t n;            /* that wait */
	uint8_t now[HID_REPORT]; /* what is so */
	bool is_tablet;
	uint8_t protocol, idle, leds;
};

extern const struct state_field usb_hid_fields[];

void usb_hid_init(struct usb_hid *h, bool is_tablet, unsigned n);

/* See xhci.h. */
int usb_hid_key(struct usb_hid *h, uint8_t key, bool down);
bool usb_hid_point(struct usb_hid *h, uint16_t x, uint16_t y, int dz, uint8_t buttons);

#define STORAGE_BUFFER 65536u

enum storage_phase { STORAGE_COMMAND, STORAGE_IN, STORAGE_OUT, STORAGE_STATUS, STORAGE_LOST, STORAGE_PHASES };

/* A disk. */
struct usb_storage {
	struct usb_device usb; /* first */
	struct scsi_unit unit;
	struct scsi_cmd cmd;
	pthread_mutex_t *lock; /* the controller's */
	pthread_cond_t idle;   /* busy became false */
	struct disk_req req;
	struct iovec iov;
	uint32_t asked;        /* bytes of the request */
	struct pieces out;     /* what a command that is no write has brought */
	struct ranges ranges;
	bool busy, forget;     /* a request of the disk is under way; nobody wants it any more */
	/* the guest's: */
	uint8_t phase, status, op;
	bool collects;         /* the command is understood when all that it brings is here */
	uint32_t tag, left;    /* the command's; bytes that the host still moves, */
	uint32_t residue;      /* and of these that were nothing */
	uint64_t at, io_left;  /* where the disk is read or written next, and how much of the command's data are still to be */
	uint32_t n, taken;     /* bytes in the buffer, and how many of them have been taken out */
	uint8_t buffer[STORAGE_BUFFER];
};

extern const struct state_field usb_storage_fields[];

void usb_storage_init(struct usb_storage *s, struct disk *disk, unsigned number, pthread_mutex_t *lock);
void usb_storage_fini(struct usb_storage *s);

/* Waits until the disk does nothing for it. */
void usb_storage_wait(struct usb_storage *s);
const char *usb_storage_loaded(const struct usb_storage *s);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * A USB device, without the controller that it is plugged into (xhci.c): packets go in, packets come out. After the Universal Serial Bus
 * Specification 2.0, chapters 8 and 9.
 *
 *	struct usb_device *u = usb_hid_create(USB_TABLET, wake, ctx);
 *	rc = usb_control(u, setup, data);           // chapter 9's requests, and its class's
 *	rc = u->type->in(u, 1, packet);             // a packet of endpoint 1; -EAGAIN: not now, and wake() says when
 *
 * The controller's lock is held for all of it; wake() is called with it, too.
 */
#ifndef DEV_USB_USB_H
#define DEV_USB_USB_H

#include "state/state.h"

#include <stdbool.h>
#include <stdint.h>

#define USB_PACKET_MAX  512u
#define USB_SERIAL      12u /* digits of a serial number, as the bulk-only transport wants it */
#define USB_CONTROL_MAX 256u /* bytes of a control transfer's data */

/* As xHCI numbers them. */
enum usb_speed { USB_FULL = 1, USB_LOW, USB_HIGH };

struct usb_device;

struct usb_type {
	enum usb_speed speed;
	const uint8_t *device, *config; /* descriptors; what is behind the second, too */
	const char *product; /* string 2; 1 is who made it, and 3 its serial number */
	/* What chapter 9 does not have: how many bytes of `data` are the answer, or -EPIPE. `data` has the request's, if it brings some. */
	int (*control)(struct usb_device *u, const uint8_t setup[8], uint8_t *data);
	/* A packet of endpoint n: its length. -EAGAIN: there is none now; -EPIPE: it is halted. */
	int (*in)(struct usb_device *u, unsigned n, uint8_t packet[USB_PACKET_MAX]);
	/* The same: 0. */
	int (*out)(struct usb_device *u, unsigned n, const uint8_t *packet, unsigned len);
	void (*reset)(struct usb_device *u); /* the bus is reset, or it is configured anew */
};

struct usb_device {
	const struct usb_type *type;
	char serial[USB_SERIAL + 1];
	uint8_t configuration;      /* the guest's choice: 0 or 1 */
	uint16_t halted;            /* endpoints that answer with a stall: bit n of OUT, bit 8 + n of IN, n up to 7 */
	void (*wake)(void *ctx);    /* something that was -EAGAIN may not be so any more */
	void *ctx;
};

extern const struct state_field usb_fields[];

/* One that is plugged in as number n. */
void usb_init(struct usb_device *u, const struct usb_type *type, unsigned n);

void usb_reset(struct usb_device *u);

/* How many bytes of `data`, which has room for USB_CONTROL_MAX, are the answer; -EPIPE: it does not understand. */
int usb_control(struct usb_device *u, const uint8_t setup[8], uint8_t *data);

#endif

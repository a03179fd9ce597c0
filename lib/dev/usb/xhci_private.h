/* SPDX-License-Identifier: MIT */
/* The inside of the xHCI controller: xhci.c has its registers, xhci_rings.c its rings, xhci_commands.c its slots. */
#ifndef DEV_USB_XHCI_PRIVATE_H
#define DEV_USB_XHCI_PRIVATE_H

#include "bus/guest.h"
#include "dev/device.h"
#include "dev/pci/function.h"
#include "dev/usb/devices.h"
#include "dev/usb/xhci.h"
#include "loop/loop.h"

#define XHCI_SLOTS 8u
/* Of a slot, from 1 on: 2 * number, and 1 more for IN; 1 is endpoint 0, both ways. No device of ours has one above 3. */
#define ENDPOINTS  8u
#define EVENTS_MIN 16u /* in an event ring */
#define EVENTS_MAX 4096u
#define TD_MAX     256u /* TRBs in one */

enum { SLOT_DISABLED, SLOT_DEFAULT, SLOT_ADDRESSED, SLOT_CONFIGURED };
enum { EP_DISABLED, EP_RUNNING, EP_HALTED, EP_STOPPED };

/* Completion codes. */
enum {
	CODE_SUCCESS = 1, CODE_TRANSACTION = 4, CODE_TRB = 5, CODE_STALL = 6, CODE_BABBLE = 3, CODE_NO_SLOTS = 9, CODE_SLOT = 11,
	CODE_SHORT = 13, CODE_PARAMETER = 17, CODE_CONTEXT = 19,
};

enum {
	TRB_NORMAL = 1, TRB_SETUP, TRB_DATA, TRB_STATUS, TRB_ISOCH, TRB_LINK, TRB_EVENT_DATA, TRB_NO_OP,
	TRB_ENABLE_SLOT, TRB_DISABLE_SLOT, TRB_ADDRESS_DEVICE, TRB_CONFIGURE, TRB_EVALUATE, TRB_RESET_EP, TRB_STOP_EP, TRB_SET_DEQUEUE,
	TRB_RESET_DEVICE, TRB_NO_OP_COMMAND = 23, TRB_TRANSFER = 32, TRB_COMMAND, TRB_PORT_CHANGE,
};

#define TRB_CYCLE     0x01u
#define TRB_TOGGLE    0x02u /* of a link */
#define TRB_IF_SHORT  0x04u
#define TRB_CHAIN     0x10u
#define TRB_INTERRUPT 0x20u
#define TRB_IMMEDIATE 0x40u /* its data are where the address would be */
#define TRB_TYPE(t)   ((uint32_t)(t) << 10)

struct trb {
	gpa_t at;
	uint64_t parameter;
	uint32_t status, control;
};

static inline unsigned trb_type(const struct trb *t)
{
	return t->control >> 10 & 63;
}

/* Where the next TRB is, and what its cycle bit is if it is there. */
struct ring {
	uint64_t at;
	bool cycle;
};

struct endpoint {
	uint8_t state;
	uint16_t packet; /* the most bytes in one */
	struct ring ring;
	uint32_t done;   /* bytes of the TD that the ring is at */
};

struct slot {
	bool enabled;
	uint8_t state;
	uint8_t port; /* from 1 on; 0: none yet */
	struct endpoint ep[ENDPOINTS];
	/* the control transfer that is under way: */
	uint8_t setup[8], data[USB_CONTROL_MAX];
	bool has_setup, stalls;
	uint32_t n; /* bytes of data */
};

struct port {
	struct xhci *xhci;
	unsigned n;
	struct usb_device *usb; /* NULL: nothing is plugged in; else one of these: */
	struct usb_hid hid;
	struct usb_storage storage;
	uint32_t sc;            /* PORTSC */
};

struct xhci {
	struct device dev;
	struct xhci_config config;
	struct pci_function fn;
	unsigned msi;
	uint32_t cmd, sts, dnctrl, configure;
	uint64_t dcbaap;
	struct ring command;
	bool commands_run;
	uint32_t iman, imod, erst_size;
	uint64_t erst, erdp;
	struct ring event;        /* where the next event goes */
	uint64_t event_base;      /* the segment that it is in; */
	uint32_t event_n;         /* so many TRBs; 0: there is none */
	bool paused;
	uint32_t left;            /* bytes that may move until others have their turn */
	struct loop_timer call;   /* they have had it */
	uint16_t changed;         /* ports of which there is an event to come */
	uint32_t n_slots, n_ports; /* of those below: up to the last one that was enabled since a reset; at which something is */
	struct slot slots[XHCI_SLOTS + 1];
	struct port ports[XHCI_PORTS + 1];
	struct trb td[TD_MAX];
};

/* -- xhci_rings.c ---------------------------------------------------------------------- */

/* The next TRB that is no link: false, if there is none yet. */
bool ring_fetch(const struct xhci *x, struct ring *r, struct trb *t);

/* Whether an event has room; puts one. */
bool event_has_room(const struct xhci *x);
void event_put(struct xhci *x, uint64_t parameter, uint32_t status, uint32_t control);

/* The driver has set the event ring's table. */
void event_begin(struct xhci *x);

/* Does what is in an endpoint's ring, as far as its device goes, or so much of it that the rest has to wait for the loop; in those of a
 * port's device. */
void endpoint_run(struct xhci *x, unsigned slot, unsigned ep);
void port_run(struct xhci *x, unsigned port);

/* -- xhci_commands.c --------------------------------------------------------------------- */

void commands_run(struct xhci *x);
void slot_reset(struct slot *s);

/* Tells an endpoint's state to the driver, in the slot's context. */
void endpoint_tell(struct xhci *x, unsigned slot, unsigned ep);

/* -- xhci.c -------------------------------------------------------------------------------- */

void xhci_interrupt(struct xhci *x);
void port_changed(struct xhci *x, unsigned port, uint32_t bits);

#endif

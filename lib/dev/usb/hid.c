/* SPDX-License-Identifier: MIT */
/*
 * A USB keyboard and a USB tablet, after the Device Class Definition for Human Interface Devices 1.11 and its usage tables.
 *
 *	keyboard  8 bytes, the boot protocol's: modifiers, 0, six keys that are down
 *	tablet    6 bytes: buttons, x (2), y (2), wheel
 *
 * A report says all that is so. Some wait, so that what is typed fast is not lost; when there are too many the last one becomes what is so
 * now. So a guest that was busy misses keys that came and went, and believes of none that it is still down.
 */
#include "dev/usb/devices.h"

#include "base/bytes.h"
#include "base/macros.h"
#include "dev/ps2.h"

#include <errno.h>
#include <string.h>

enum { GET_REPORT = 1, GET_IDLE, GET_PROTOCOL, SET_REPORT = 9, SET_IDLE, SET_PROTOCOL };
enum { DESCRIPTOR_HID = 0x21, DESCRIPTOR_REPORT };

#define KEYS_AT   2u /* in a keyboard's report: */
#define KEYS      6u
#define RANGE     0x8000u
#define WHEEL_MAX 127

/* -- Descriptors -------------------------------------------------------------------------- */

static const uint8_t keyboard_report[] = {
	0x05, 0x01, 0x09, 0x06, 0xa1, 0x01,             /* generic desktop, keyboard, application */
	0x05, 0x07, 0x19, 0xe0, 0x29, 0xe7, 0x15, 0x00, /* keys 0xe0 to 0xe7: */
	0x25, 0x01, 0x75, 0x01, 0x95, 0x08, 0x81, 0x02, /* 8 bits */
	0x95, 0x01, 0x75, 0x08, 0x81, 0x01,             /* a byte of nothing */
	0x95, 0x05, 0x75, 0x01, 0x05, 0x08, 0x19, 0x01, 0x29, 0x05, 0x91, 0x02, /* five LEDs */
	0x95, 0x01, 0x75, 0x03, 0x91, 0x01,
	0x95, 0x06, 0x75, 0x08, 0x15, 0x00, 0x26, 0xff, 0x00, 0x05, 0x07, 0x19, 0x00, 0x29, 0xff, 0x81, 0x00, /* six keys */
	0xc0,
};

static const uint8_t tablet_report[] = {
	0x05, 0x01, 0x09, 0x02, 0xa1, 0x01, 0x09, 0x01, 0xa1, 0x00, /* mouse, pointer */
	0x05, 0x09, 0x19, 0x01, 0x29, 0x03, 0x15, 0x00, 0x25, 0x01, /* three buttons */
	0x95, 0x03, 0x75, 0x01, 0x81, 0x02, 0x95, 0x01, 0x75, 0x05, 0x81, 0x01,
	0x05, 0x01, 0x09, 0x30, 0x09, 0x31, 0x15, 0x00, 0x26, 0xff, 0x7f, /* x and y, absolute, 0 to 32767 */
	0x35, 0x00, 0x46, 0xff, 0x7f, 0x75, 0x10, 0x95, 0x02, 0x81, 0x02,
	0x09, 0x38, 0x15, 0x81, 0x25, 0x7f, 0x35, 0x00, 0x45, 0x00, 0x75, 0x08, 0x95, 0x01, 0x81, 0x06, /* wheel, relative */
	0xc0, 0xc0,
};

#define DEVICE(product)                                                                                \
	{18, 1, 0x00, 0x02, 0, 0, 0, 64, 0x27, 0x06, product, 0x00, 0x00, 0x01, 1, 2, 3, 1}
#define CONFIG(subclass, protocol, report)                                                             \
	{                                                                                              \
		9, 2, 34, 0, 1, 1, 0, 0xa0, 50,                                                        \
		9, 4, 0, 0, 1, 3, subclass, protocol, 0,                                               \
		9, DESCRIPTOR_HID, 0x11, 0x01, 0, 1, DESCRIPTOR_REPORT, sizeof(report), 0,             \
		7, 5, 0x81, 3, HID_REPORT, 0, 7, /* IN 1, interrupt, each 8 ms */                      \
	}

static const uint8_t keyboard_device[] = DEVICE(1), tablet_device[] = DEVICE(2);
static const uint8_t keyboard_config[] = CONFIG(1, 1, keyboard_report), tablet_config[] = CONFIG(0, 0, tablet_report);

/* -- Keys ----------------------------------------------------------------------------------- */

/* Usages of keys 0x01 to 0x58 of ps2.h. */
static const uint8_t usages[0x59] = {
	0, 0x29, 0x1e, 0x1f, 0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27, 0x2d, 0x2e, 0x2a, 0x2b,
	0x14, 0x1a, 0x08, 0x15, 0x17, 0x1c, 0x18, 0x0c, 0x12, 0x13, 0x2f, 0x30, 0x28, 0xe0, 0x04, 0x16,
	0x07, 0x09, 0x0a, 0x0b, 0x0d, 0x0e, 0x0f, 0x33, 0x34, 0x35, 0xe1, 0x31, 0x1d, 0x1b, 0x06, 0x19,
	0x05, 0x11, 0x10, 0x36, 0x37, 0x38, 0xe5, 0x55, 0xe2, 0x2c, 0x39, 0x3a, 0x3b, 0x3c, 0x3d, 0x3e,
	0x3f, 0x40, 0x41, 0x42, 0x43, 0x53, 0x47, 0x5f, 0x60, 0x61, 0x56, 0x5c, 0x5d, 0x5e, 0x57, 0x59,
	0x5a, 0x5b, 0x62, 0x63, 0x46, 0, 0x64, 0x44, 0x45,
};

/* And of those that came later. */
static const uint8_t later[][2] = {
	{0x9c, 0x58}, {0x9d, 0xe4}, {0xb5, 0x54}, {0xb7, 0x46}, {0xb8, 0xe6}, {PS2_KEY_PAUSE, 0x48}, {0xc7, 0x4a}, {0xc8, 0x52}, {0xc9, 0x4b},
	{0xcb, 0x50}, {0xcd, 0x4f}, {0xcf, 0x4d}, {0xd0, 0x51}, {0xd1, 0x4e}, {0xd2, 0x49}, {0xd3, 0x4c}, {0xdb, 0xe3}, {0xdc, 0xe7},
	{0xdd, 0x65},
};

static uint8_t usage_of(uint8_t key)
{
	if (key < ARRAY_SIZE(usages))
		return usages[key];
	for (unsigned i = 0; i < ARRAY_SIZE(later); i++)
		if (later[i][0] == key)
			return later[i][1];
	return 0;
}

/* -- Reports ---------------------------------------------------------------------------------- */

static void report(struct usb_hid *h)
{
	if (h->n == HID_REPORTS)
		h->n--;
	memcpy(h->reports[h->n++], h->now, HID_REPORT);
	h->usb.wake(h->usb.ctx);
}

/* Whether the guest has it among its devices. */
static bool is_used(const struct usb_hid *h)
{
	return h->usb.configuration;
}

static uint8_t *find_key(struct usb_hid *h, uint8_t usage)
{
	return memchr(h->now + KEYS_AT, usage, KEYS);
}

static bool is_down(struct usb_hid *h, uint8_t usage)
{
	return usage >= 0xe0 ? h->now[0] >> (usage - 0xe0) & 1 : find_key(h, usage) != NULL;
}

static bool set_key(struct usb_hid *h, uint8_t usage, bool down)
{
	uint8_t *at = find_key(h, down ? 0 : usage), bit = usage >= 0xe0 ? (uint8_t)(1u << (usage - 0xe0)) : 0;

	if (bit)
		h->now[0] = (uint8_t)(down ? h->now[0] | bit : h->now[0] & ~bit);
	else if (at)
		*at = down ? usage : 0;
	return bit || at;
}

int usb_hid_key(struct usb_hid *h, uint8_t key, bool down)
{
	uint8_t usage = usage_of(key);

	if (!is_used(h) || !usage || (!down && !is_down(h, usage)))
		return 0;
	if (down && is_down(h, usage))
		return 1;
	if ((down && h->n + 2 > HID_REPORTS) || !set_key(h, usage, down))
		return -EAGAIN;
	report(h);
	return 1;
}

bool usb_hid_point(struct usb_hid *h, uint16_t x, uint16_t y, int dz, uint8_t buttons)
{
	int wheel = -dz + (h->n == HID_REPORTS ? (int8_t)h->reports[h->n - 1][5] : 0);

	if (!is_used(h))
		return false;
	h->now[0] = buttons & 7;
	le16_put(h->now + 1, x < RANGE ? x : RANGE - 1);
	le16_put(h->now + 3, y < RANGE ? y : RANGE - 1);
	h->now[5] = (uint8_t)(wheel > WHEEL_MAX ? WHEEL_MAX : wheel < -WHEEL_MAX ? -WHEEL_MAX : wheel);
	report(h);
	h->now[5] = 0;
	return true;
}

/* -- What the controller asks ------------------------------------------------------------------- */

static unsigned length(const struct usb_hid *h)
{
	return h->is_tablet ? 6 : 8;
}

static int in(struct usb_device *u, unsigned n, uint8_t packet[USB_PACKET_MAX])
{
	struct usb_hid *h = (struct usb_hid *)u;

	if (n != 1 || !is_used(h))
		return -EPIPE;
	if (!h->n)
		return -EAGAIN;
	memcpy(packet, h->reports[0], length(h));
	memmove(h->reports[0], h->reports[1], --h->n * sizeof(h->reports[0]));
	return (int)length(h);
}

static int out(struct usb_device *u, unsigned n, const uint8_t *packet, unsigned len)
{
	(void)u, (void)n, (void)packet, (void)len;
	return -EPIPE;
}

static int give(uint8_t *data, const uint8_t *from, unsigned n)
{
	memcpy(data, from, n); /* SAFE: n is one of our descriptors' lengths */
	return (int)n;
}

static int control(struct usb_device *u, const uint8_t setup[8], uint8_t *data)
{
	struct usb_hid *h = (struct usb_hid *)u;
	const uint8_t *of = h->is_tablet ? tablet_report : keyboard_report, *config = u->type->config;

	switch (setup[0] << 8 | setup[1]) {
	case 0x8106: /* GET_DESCRIPTOR of the interface */
		if (setup[3] == DESCRIPTOR_REPORT)
			return give(data, of, config[25]);
		return setup[3] == DESCRIPTOR_HID ? give(data, config + 18, 9) : -EPIPE;
	case 0xa100 | GET_REPORT:
		return give(data, h->now, length(h));
	case 0xa100 | GET_IDLE:
		return give(data, &h->idle, 1);
	case 0xa100 | GET_PROTOCOL:
		return give(data, &h->protocol, 1);
	case 0x2100 | SET_REPORT:
		h->leds = data[0] & 0x1f;
		return 0;
	case 0x2100 | SET_IDLE:
		h->idle = setup[3];
		return 0;
	case 0x2100 | SET_PROTOCOL: /* the reports are those of either */
		h->protocol = setup[2] & 1;
		return 0;
	}
	return -EPIPE;
}

static void reset(struct usb_device *u)
{
	struct usb_hid *h = (struct usb_hid *)u;

	h->n = 0;
	memset(h->now, 0, sizeof(h->now));
	h->protocol = 1;
	h->idle = h->leds = 0;
}

static const struct usb_type keyboard_type = {
	.speed = USB_FULL, .device = keyboard_device, .config = keyboard_config, .product = "USB keyboard",
	.control = control, .in = in, .out = out, .reset = reset,
};
static const struct usb_type tablet_type = {
	.speed = USB_FULL, .device = tablet_device, .config = tablet_config, .product = "USB tablet",
	.control = control, .in = in, .out = out, .reset = reset,
};

void usb_hid_init(struct usb_hid *h, bool is_tablet, unsigned n)
{
	*h = (struct usb_hid){.is_tablet = is_tablet};
	usb_init(&h->usb, is_tablet ? &tablet_type : &keyboard_type, n);
}

static const struct state_field report_fields[] = {
	{.name = "bytes", .offset = 0, .width = 1, .count = HID_REPORT},
	{0},
};

const struct state_field usb_hid_fields[] = {
	STATE_PART(struct usb_hid, usb, usb_fields),
	STATE_UPTO(struct usb_hid, n, HID_REPORTS),
	STATE_PARTS_COUNTED(struct usb_hid, reports, n, report_fields),
	STATE_ARRAY(struct usb_hid, now),
	STATE(struct usb_hid, protocol),
	STATE(struct usb_hid, idle),
	STATE(struct usb_hid, leds),
	{0},
};

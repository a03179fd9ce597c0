/* SPDX-License-Identifier: MIT */
/* What all USB devices answer: see usb.h, and chapter 9 of the specification. One configuration, no alternate settings. */
#include "dev/usb/usb.h"

#include "base/bytes.h"
#include "base/macros.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { GET_STATUS, CLEAR_FEATURE, SET_FEATURE = 3, SET_ADDRESS = 5, GET_DESCRIPTOR, GET_CONFIGURATION = 8, SET_CONFIGURATION, GET_INTERFACE,
       SET_INTERFACE };
enum { OF_DEVICE, OF_INTERFACE, OF_ENDPOINT };
enum { DESCRIPTOR_DEVICE = 1, DESCRIPTOR_CONFIG, DESCRIPTOR_STRING, DESCRIPTOR_QUALIFIER = 6 };

#define ENGLISH 0x0409u

static unsigned endpoint_bit(uint16_t index)
{
	return (index & 7u) + (index & 0x80 ? 8 : 0);
}

static int give(uint8_t *data, const uint8_t *from, unsigned n)
{
	n = n < USB_CONTROL_MAX ? n : USB_CONTROL_MAX;
	memcpy(data, from, n);
	return (int)n;
}

/* UTF-16, of ASCII. */
static int give_string(const struct usb_device *u, unsigned index, uint8_t *data)
{
	const char *const strings[] = {"", "Lodge", u->type->product, u->serial};
	unsigned n = 0;

	if (index >= ARRAY_SIZE(strings))
		return -EPIPE;
	data[1] = DESCRIPTOR_STRING;
	if (index == 0)
		le16_put(data + 2 + 2 * n++, ENGLISH);
	for (const char *c = strings[index]; *c; c++) /* SAFE: they are short */
		le16_put(data + 2 + 2 * n++, (uint8_t)*c);
	data[0] = (uint8_t)(2 + 2 * n);
	return data[0];
}

/* What it would be at the other speed: the same. */
static int give_qualifier(const struct usb_device *u, uint8_t *data)
{
	memcpy(data, u->type->device, 8);
	data[0] = 10;
	data[1] = DESCRIPTOR_QUALIFIER;
	data[8] = 1;
	data[9] = 0;
	return 10;
}

static int give_descriptor(const struct usb_device *u, uint16_t value, uint8_t *data)
{
	switch (value >> 8) {
	case DESCRIPTOR_DEVICE:
		return give(data, u->type->device, u->type->device[0]);
	case DESCRIPTOR_CONFIG:
		return give(data, u->type->config, le16_get(u->type->config + 2));
	case DESCRIPTOR_STRING:
		return give_string(u, value & 255, data);
	case DESCRIPTOR_QUALIFIER:
		return u->type->speed == USB_HIGH ? give_qualifier(u, data) : -EPIPE;
	}
	return -EPIPE;
}

static int set_configuration(struct usb_device *u, uint16_t value)
{
	if (value > 1)
		return -EPIPE;
	usb_reset(u);
	u->configuration = (uint8_t)value;
	return 0;
}

static int give_status(const struct usb_device *u, unsigned whose, uint16_t index, uint8_t *data)
{
	le16_put(data, whose == OF_ENDPOINT ? u->halted >> endpoint_bit(index) & 1 : 0);
	return 2;
}

/* ENDPOINT_HALT, which is feature 0; there is no other. */
static int set_feature(struct usb_device *u, unsigned whose, uint16_t value, uint16_t index, bool on)
{
	uint16_t bit = (uint16_t)(1u << endpoint_bit(index));

	if (whose != OF_ENDPOINT || value != 0 || !(index & 7))
		return on ? -EPIPE : 0;
	u->halted = (uint16_t)((u->halted & ~bit) | (on ? bit : 0));
	return 0;
}

static int standard(struct usb_device *u, const uint8_t *setup, uint8_t *data)
{
	uint16_t value = le16_get(setup + 2), index = le16_get(setup + 4);
	unsigned whose = setup[0] & 0x1f;

	switch (setup[1]) {
	case GET_STATUS:
		return give_status(u, whose, index, data);
	case CLEAR_FEATURE:
	case SET_FEATURE:
		return set_feature(u, whose, value, index, setup[1] == SET_FEATURE);
	case SET_ADDRESS: /* the controller does it */
		return 0;
	case GET_DESCRIPTOR:
		return whose == OF_DEVICE ? give_descriptor(u, value, data) : u->type->control(u, setup, data);
	case GET_CONFIGURATION:
		data[0] = u->configuration;
		return 1;
	case SET_CONFIGURATION:
		return set_configuration(u, value);
	case GET_INTERFACE:
		data[0] = 0;
		return 1;
	case SET_INTERFACE:
		return value ? -EPIPE : 0;
	}
	return -EPIPE;
}

void usb_init(struct usb_device *u, const struct usb_type *type, unsigned n)
{
	*u = (struct usb_device){.type = type};
	snprintf(u->serial, sizeof(u->serial), "%0*u", (int)USB_SERIAL, n % 1000);
	usb_reset(u);
}

void usb_reset(struct usb_device *u)
{
	u->configuration = 0;
	u->halted = 0;
	u->type->reset(u);
}

int usb_control(struct usb_device *u, const uint8_t setup[8], uint8_t *data)
{
	return setup[0] & 0x60 ? u->type->control(u, setup, data) : standard(u, setup, data);
}

const struct state_field usb_fields[] = {
	STATE_UPTO(struct usb_device, configuration, 1),
	STATE(struct usb_device, halted),
	{0},
};

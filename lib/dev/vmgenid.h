/* SPDX-License-Identifier: MIT */
/*
 * The VM generation ID: 16 random bytes in guest memory, by which a guest sees that it is a copy. See
 * vmgenid.c.
 *
 *	device_create(&vmgenid_model, bus, NULL, &(struct vmgenid_config){.mem = &mem, .at = 0xf2000}, &err);
 */
#ifndef DEV_VMGENID_H
#define DEV_VMGENID_H

#include "bus/guest.h"
#include "dev/device.h"

struct vmgenid_config {
	uint8_t *bytes; /* where it is in our memory, if the guest can only read it; NULL: mem and at say */
	const struct guest_mem *mem; /* as the guest finds it: loaded, if it is to be */
	bool moved; /* the guest is the one that it was, elsewhere: its ID, which is in memory, stays */
	gpa_t at; /* a multiple of 8, in RAM that the guest leaves alone, cacheable */
};

extern const struct device_model vmgenid_model;

#endif

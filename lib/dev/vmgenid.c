/* SPDX-License-Identifier: MIT */
/*
 * The VM generation ID, after Microsoft's specification "Virtual Machine Generation ID" of 2012.
 *
 * A guest that was saved can be restored more than once, and each of those goes on with the same
 * keys, the same random numbers to come, the same place in every protocol. So that it can do
 * something about that, there are 16 random bytes in its memory, which are others in each machine.
 * It finds their address by ACPI (ADDR of a device that is compatible with VM_Gen_Counter:
 * machine/tables/ssdt.c), compares them with what it saw before, and is told when to look again
 * (Notify with 0x80). Linux' driver gives its random numbers a new seed then.
 *
 *	power-on         a new ID    pause, save and go on    the same
 *	restore, fork    a new one   reset, migration         the same
 *
 * That is: the ID is the device's, drawn when it is made, and written where the guest looks; no
 * register leads to it. Nor is it state, for the device that a saved guest finds is another one. To
 * tell the guest so is the board's (board_tell_identity()), when all else of it is there. A guest that
 * has migrated brings its ID with its memory.
 */
#include "dev/vmgenid.h"

#include "base/err.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

struct vmgenid {
	struct device dev;
	struct vmgenid_config config;
	uint8_t id[16];
};

static uint8_t *place(const struct vmgenid *v)
{
	return v->config.bytes ? v->config.bytes : guest_range(v->config.mem, v->config.at, sizeof(v->id));
}

static int init(struct device *dev, const void *config, struct err *err)
{
	struct vmgenid *v = (struct vmgenid *)dev;

	v->config = *(const struct vmgenid_config *)config;
	if (!place(v))
		return err_set(err, EFAULT, "no guest memory at 0x%llx", (unsigned long long)v->config.at);
	if (v->config.moved) {
		memcpy(v->id, place(v), sizeof(v->id));
		return 0;
	}
	if (getrandom(v->id, sizeof(v->id), 0) != sizeof(v->id))
		return err_sys(err, errno, "random bytes from the host");
	return 0;
}

static void reset(struct device *dev)
{
	struct vmgenid *v = (struct vmgenid *)dev;

	uint8_t *to = place(v);

	if (to) /* init() looked; a file that was cut may have taken it away since */
		memcpy(to, v->id, sizeof(v->id));
}

const struct device_model vmgenid_model = {
	.name = "vmgenid",
	.summary = "VM generation ID: a guest sees that it is a copy",
	.size = sizeof(struct vmgenid),
	.init = init,
	.reset = reset,
};

/* SPDX-License-Identifier: MIT */
/*
 * The reset vector: what is left of a BIOS where there is none.
 *
 * Some software restarts a PC by jumping to f000:fff0 in real mode, where a BIOS begins
 * (Linux with reboot=b, old boot loaders that give up). There it finds these instructions,
 * which press the reset button:
 *
 *	mov $0x0e, %al        full reset
 *	mov $0xcf9, %dx
 *	out %al, (%dx)
 *	hlt
 */
#include "machine/tables/tables.h"

#include "base/err.h"

#include <errno.h>

#define VECTOR 0xffff0

int vector_put(const struct tables_plan *plan, struct err *err)
{
	static const uint8_t code[] = {0xb0, 0x0e, 0xba, 0xf9, 0x0c, 0xee, 0xf4};

	if (guest_write(plan->mem, VECTOR, code, sizeof(code)) < 0)
		return err_set(err, EFAULT, "no guest memory for the reset vector");
	return 0;
}

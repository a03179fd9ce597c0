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

#include "base/bytes.h"
#include "base/err.h"
#include "dev/pci/pci.h"
#include "machine/board_map.h"

#include <errno.h>

int vector_put(const struct tables_plan *plan, struct err *err)
{
	uint8_t code[] = {0xb0, PCI_RST_FULL, 0xba, 0, 0, 0xee, 0xf4};

	le16_put(code + 3, (uint16_t)(plan->map->at[BOARD_PCI_ADDRESS].base + PCI_RST_CNT));
	if (guest_write(plan->mem, plan->map->at[BOARD_VECTOR].base, code, sizeof(code)) < 0)
		return err_set(err, EFAULT, "no guest memory for the reset vector");
	return 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * Any accesses to any device: a board with all models of lib/dev, whose guest reads and
 * writes ports, configuration space, BARs and its own RAM as the input says, eight
 * bytes a step.
 *
 * Nothing may crash, hang or touch a byte outside of guest RAM; there is no other
 * promise to devices that are misused. A virtio-blk disk of 64 KiB in memory is among
 * them, so its threads run as well.
 */
#include "fuzz/board.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	make_board();
	use_board(data, size);
	unmake_board();
	return 0;
}

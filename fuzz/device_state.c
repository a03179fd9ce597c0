/* SPDX-License-Identifier: MIT */
/*
 * Any state of any device: what a board that was just made has saved, changed as the input says (mutate.h), is
 * loaded into another one, which then goes on and is used as in devices.c.
 *
 * A device refuses, or takes what it is given and stays harmless: nothing may crash, hang or touch a byte outside of
 * guest RAM.
 */
#include "fuzz/board.h"
#include "fuzz/mutate.h"
#include "state/state.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Ids need not be unique here: each device has its own place in `all`. */
static void save_board(struct state_out *all)
{
	for (unsigned i = 0; i < n_devs; i++) {
		device_pause(devs[i]);
		if (device_save(devs[i], devs[i]->model->name, all) < 0)
			abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct state_out all;
	struct state_in in;
	unsigned used = 0;
	size_t n;
	int rc = 0;

	make_board();
	all.len = 0;
	save_board(&all);
	unmake_board();
	n = mutate(all.bytes, all.len, data, size);
	in = (struct state_in){.bytes = all.bytes, .len = all.len};
	make_board();
	for (unsigned i = 0; i < n_devs && rc == 0; i++)
		rc = device_load(devs[i], devs[i]->model->name, &in, size % 7, &used, NULL);
	if (rc == 0) {
		for (unsigned i = 0; i < n_devs; i++)
			device_resume(devs[i]);
		use_board(data + n, size - n);
	}
	unmake_board();
	return 0;
}

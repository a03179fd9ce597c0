/* SPDX-License-Identifier: MIT */
/*
 * The inside of a machine, for the files of this directory.
 */
#ifndef MACHINE_PRIVATE_H
#define MACHINE_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <time.h>

#include "bus/bus.h"
#include "bus/guest.h"
#include "machine/boot/blob.h"
#include "machine/boot/boot.h"
#include "machine/cpu/table.h"
#include "machine/machine.h"
#include "machine/map.h"
#include "machine/vcpu.h"
#include "machine/vm.h"

#define BOARD_DEVICES_MAX 32

/* The devices of a board, in the order in which they were made. */
struct board {
	struct bus *bus;
	struct device *devices[BOARD_DEVICES_MAX];
	unsigned n;
	struct device *uart, *pm, *pci;
	struct device *hvc; /* NULL: the console is the uart */
};

struct machine {
	struct machine_config config;
	struct map_ram ram;
	struct guest_mem mem;
	struct vm vm;
	struct cpu_table cpuid; /* of the CPU model */
	struct board board;
	struct vcpu vcpus[MACHINE_CPUS_MAX];
	struct blob kernel, initrd;
	struct boot_entry entry;
	char boot_text[64];
	unsigned last_words; /* calls of machine_console_ready() since the end */
	struct timespec made; /* CLOCK_MONOTONIC, for traces */

	int fd;                /* an eventfd: readable once the machine has ended */
	atomic_bool stopping;  /* vCPU threads leave */
	pthread_mutex_t lock;  /* guards end, the first reason wins */
	bool ended;
	struct machine_end end;
};

/* -- board.c --------------------------------------------------------------------------- */

/* Makes the devices; what they raise goes to m->vm, wherever that is at the time. */
int board_create(struct machine *m, struct err *err);
void board_reset(struct board *b);
void board_destroy(struct board *b);

/* -- machine.c ------------------------------------------------------------------------- */

/* Ends the machine for this reason, unless it has one already. Any thread. */
void machine_over(struct machine *m, const struct machine_end *end);

#endif

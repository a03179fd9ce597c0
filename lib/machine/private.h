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
#include "machine/board_map.h"
#include "machine/boot/boot.h"
#include "machine/cpu/table.h"
#include "machine/machine.h"
#include "machine/map.h"
#include "machine/vcpu.h"
#include "machine/vm.h"

#define BOARD_DEVICES_MAX 56

#define BOARD_SLOT_DISK   2               /* PCI slot of the first disk that has one */
#define BOARD_SLOT_PORTS  28 /* where an ICH9 has them, a function each */
#define BOARD_SLOT_IDE    30
#define BOARD_AHCI        (31 << 3 | 2)   /* where an ICH9 has its SATA controller: slot 31, function 2; */
#define BOARD_SLOT_USB    29              /* where an ICH9 has USB, too */
#define BOARD_AHCI_DIRECT (31 << 3)       /* that of the direct board is not part of one */

/* The devices of a board, in the order in which they were made. */
struct board {
	struct bus *bus;
	struct device *devices[BOARD_DEVICES_MAX];
	unsigned n;
	struct device *uart, *pm, *genid, *pci, *kbc;
	struct device *hpet; /* NULL: it has none */
	atomic_bool replaced; /* and that has the lines of PIT and RTC */
	struct device *ports[MACHINE_PORTS_MAX]; /* NULL: it has so many */
	struct device *behind[MACHINE_PORTS_MAX]; /* what came while it ran, by port */
	struct device *lpc; /* of a board with firmware */
	struct device *nic; /* NULL: there is none */
	struct device *ahci, *ide; /* the same */
	struct device *vga; /* NULL: it has no screen */
	struct device *xhci; /* NULL: it has no USB */
	struct device *keyboard, *tablet; /* virtio's; NULL: there are none */
	struct device *balloon; /* NULL: there is none */
	struct device *hvc; /* a virtio console: of the machine's console or port, or both */
};

struct machine {
	struct machine_config config;
	const struct board_map *map;
	struct map_ram ram;
	struct guest_mem mem;
	struct loop *loop; /* the configuration's, or our own */
	struct vm vm;
	struct cpu_table cpuid; /* of the CPU model */
	struct board board;
	struct vcpu vcpus[MACHINE_CPUS_MAX];
	struct blob kernel, initrd;
	struct firmware *firmware; /* NULL: the board has none */
	struct boot_entry entry;
	char boot_text[64];
	unsigned pointer_x, pointer_y; /* where it was last, for a mouse, which says how it moves */
	unsigned last_words; /* calls of machine_console_ready() since the end */
	struct timespec made; /* CLOCK_MONOTONIC, for traces */

	int fd;                /* an eventfd: readable once the machine has ended */
	pthread_mutex_t regions; /* one change at a time (region.c); only the engine's are inside */
	atomic_bool stopping;  /* vCPU threads leave */
	atomic_bool pausing;   /* vCPU threads wait */
	pthread_mutex_t lock;  /* guards all below; the first reason wins */
	pthread_cond_t parked; /* n_parked has changed, or there is no reason to be parked any more */
	unsigned n_parked;     /* vCPU threads that wait, or have left */
	bool started, paused, ended;
	struct machine_end end;
};

/* -- board.c --------------------------------------------------------------------------- */

/* Makes the devices; what they raise goes to m->vm, wherever that is at the time. */
int board_create(struct machine *m, struct err *err);
void board_reset(struct board *b);

/* Makes the device of a disk, or of a card, that is behind a port; and unmakes what is there. No vCPU runs. */
int board_attach_disk(struct machine *m, unsigned disk, struct err *err);
int board_attach_net(struct machine *m, const struct machine_net *net, struct err *err);
void board_detach(struct board *b, unsigned port);

/* Tells a guest that was loaded, by an interrupt, that the board is another than it remembers, and so
 * its VM generation ID. When vCPUs and chips are loaded, for it is they who remember the interrupt. */
void board_tell_identity(struct board *b);

/* "uart", "virtio-blk.1": a device's name among all, in a buffer of STATE_NAME_MAX + 1 bytes. */
const char *board_id(const struct board *b, unsigned i, char *id);
void board_destroy(struct board *b);

/* -- drives.c -------------------------------------------------------------------------- */

/* Which place of its controller a disk or CD drive has: virtio's PCI slot, SATA's port, IDE's cable and drive. And the network card's slot. */
unsigned board_disk_place(const struct machine_config *c, unsigned disk);
unsigned board_cd_place(const struct machine_config *c, unsigned cd);
/* Whether an NVMe disk is behind a root port, of which its place is the number. */
bool board_is_behind(const struct machine_config *c, unsigned disk);

/* For its serial number: no two have one, and it stays when others go, or the machine is saved. */
unsigned board_disk_number(const struct machine_config *c, unsigned disk);

/* How many drives a bus has, disks and CDs. */
unsigned board_drives(const struct machine_config *c, enum machine_bus bus);
unsigned board_net_slot(const struct machine_config *c);

/* Something is wrong that is nobody's fault but ours or the host's: the machine ends. Any thread. */
void machine_fail(struct machine *m, const struct err *why);

/* -- screen.c -------------------------------------------------------------------------- */

/* Sets a mode for a kernel that has no firmware to do it, and tells it. Before it runs; no screen is fine. */
void machine_tell_screen(struct machine *m);

/* -- plug.c --------------------------------------------------------------------------- */

/* What a configuration says came while the machine ran, a saved one's perhaps: -ERANGE. */
int machine_check_attached(const struct machine_config *c, struct err *err);

/* -- machine.c ------------------------------------------------------------------------- */

/* Ends the machine for this reason, unless it has one already. Any thread. */
void machine_over(struct machine *m, const struct machine_end *end);

/* -- life.c ---------------------------------------------------------------------------- */

/* A vCPU's thread is at rest: waits until the machine goes on, or is over. */
void machine_park(struct machine *m);

/* A vCPU's thread ends, and is not waited for. */
void machine_leave(struct machine *m);

/* Takes back the disks that were handed over. -EBUSY: somebody has one. */
int machine_take_disks(struct machine *m, struct err *err);

/* -- saved/write.c --------------------------------------------------------------------- */

/* As machine_save(), with a hole for memory. */
int machine_save_state(struct machine *m, int fd, struct err *err);

/* -- saved/load.c ---------------------------------------------------------------------- */

/* From the file of the configuration: into RAM that was just made; and, after all else was, what devices, chips and vCPUs
 * were. The devices are paused then. */
int machine_load_memory(struct machine *m, struct err *err);
int machine_load_state(struct machine *m, struct err *err);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * A machine: the board with its devices and memory, an engine under it, and its life.
 *
 *	struct machine *m;
 *	rc = machine_create(&m, &(struct machine_config){
 *		.face = &kvm_soft, .cpus = 2, .memory = 512 * MiB,
 *		.kernel = "vmlinuz", .cmdline = "console=ttyS0",
 *		.console = {.output = put, .ctx = tty}}, &err);
 *	rc = machine_start(m, &err);
 *	... poll machine_fd(m); when it is readable:
 *	machine_end(m, &end);            // why it stopped; its threads are gone now
 *	machine_destroy(m);
 *
 * Life:
 *
 *	          start              (guest, vCPU or stop)
 *	created ----------> running -----------------------> ended
 *	   ^                 |   ^                             | ^
 *	   |           pause |   | resume                      | |
 *	   |                 v   |                 stop        | |
 *	   |                paused ------------------------------+
 *	   +----------------------- reset ---------------------+
 *
 * What a paused machine is, in the order in which pause() makes it so: no vCPU runs, each is between two
 * instructions, and no device access is half done; the devices have ended what they had begun, and their
 * timers stand. Nothing changes guest memory or the state of a device then, and both can be saved.
 * (The guest's clocks go on, as they do while a host is suspended.)
 *
 * create() reads and checks everything that can be wrong with a configuration and puts the
 * kernel into memory, so that start() fails only when the host does. All calls but those
 * marked "any thread" belong to one thread, the owner's.
 */
#ifndef MACHINE_MACHINE_H
#define MACHINE_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "net/mac.h"

struct board_map;
struct cpu_model;
struct disk;
struct err;
struct kvm_face;
struct kvm_stat;
struct loop;
struct machine;
struct net_port;

#define MACHINE_CPUS_MAX  64
#define MACHINE_DISKS_MAX 16
#define MACHINE_PORTS_MAX 8 /* of PCI Express */
#define MACHINE_SATA_MAX  6 /* disks and CD drives at the SATA controller, */
#define MACHINE_IDE_MAX   4 /* and at the IDE controller */
#define MACHINE_USB_MAX   6 /* disks at the USB controller */
#define MACHINE_CDS_MAX   (MACHINE_SATA_MAX + MACHINE_IDE_MAX)

/* What a disk is at. */
enum machine_bus { MACHINE_VIRTIO, MACHINE_SATA, MACHINE_NVME, MACHINE_SCSI, MACHINE_USB, MACHINE_IDE, MACHINE_BUSES };

extern const char *const machine_buses[MACHINE_BUSES]; /* "virtio", "sata", "nvme", "scsi", "usb", "ide" */

/* What its screen is at: a standard VGA, or one that is a virtio GPU, too. */
enum machine_vga { MACHINE_VGA_STD, MACHINE_VGA_VIRTIO, MACHINE_VGAS };

extern const char *const machine_vgas[MACHINE_VGAS]; /* "std", "virtio" */

/* What firmware boots from. */
enum machine_boot { MACHINE_BOOT_DISK, MACHINE_BOOT_CDROM, MACHINE_BOOT_NET, MACHINE_BOOTS };

extern const char *const machine_boots[MACHINE_BOOTS]; /* "disk", "cdrom", "net" */
#define MACHINE_SHARES_MAX 8

struct machine_console {
	/* Bytes of the guest, on a vCPU's thread: returns how many were taken. The rest is
	 * offered again after machine_console_ready(). Must not block, nor call back. */
	size_t (*output)(void *ctx, const uint8_t *bytes, size_t n);
	/* The guest made room for input. Same rules. */
	void (*input_room)(void *ctx);
	void *ctx;
};

/* Something for the guest beside what was booted: a port of a virtio console, for a program that finds it by its
 * name, and who is at its other end. */
struct machine_port {
	const char *name; /* NULL: there is none */
	struct machine_console end;
};

/* What a network card is. */
enum machine_card { MACHINE_CARD_VIRTIO, MACHINE_CARD_E1000, MACHINE_CARDS };

extern const char *const machine_cards[MACHINE_CARDS]; /* "virtio", "e1000" */

/* Where a device is that came while the guest ran (plug.h), and what it is called there. */
#define MACHINE_ID_MAX 32
struct machine_spot {
	unsigned port; /* behind which root port, from 1 on; 0: it was there from the start */
	char id[MACHINE_ID_MAX];
};

#define MACHINE_QUEUES_MAX 8

/* A network card. */
struct machine_net {
	struct machine_spot spot;
	enum machine_card card;
	const char *how;       /* what is at the other end of its cable, in words of who makes it; NULL: there is no card */
	struct net_port *port; /* and that, open; the caller's, closed after the machine is destroyed. NULL: no cable */
	struct net_port *more_ports[MACHINE_QUEUES_MAX - 1]; /* as many as queues, of a cable that has them; or none */
	unsigned queues;       /* pairs, of a virtio card; 0 means 1 */
	uint8_t mac[MAC_LEN];
	unsigned mtu;
	const char *rom; /* a file with the code by which firmware boots from it; NULL: there is none */
};

/* A directory of the host's. */
struct machine_share {
	const char *tag;  /* by which the guest knows it */
	const char *path; /* of whom it is here is who makes it's to know */
	bool readonly;
	int fd;           /* a socket to who has the files (dev/virtio/fs_link.h); the caller's, closed after the machine is destroyed */
};

/* Sockets between programs in the guest and programs here. */
struct machine_vsock {
	uint32_t cid;          /* the guest's, 3 to 0xfffffffe; 0: it has none */
	const char *path;      /* where they are here is who makes it's to know */
	struct net_port *port; /* to who has the connections (dev/virtio/vsock_packet.h); the caller's, closed after the machine is destroyed.
				* NULL: nobody has */
};

#define MACHINE_CID_MIN 3u
#define MACHINE_CID_MAX 0xfffffffeu

struct machine_panic {
	/* The guest says that it panicked, through pvpanic; crash_kernel: a second kernel takes over.
	 * On a vCPU's thread, as often as the guest likes. Same rules. */
	void (*said)(void *ctx, bool crash_kernel);
	void *ctx;
};

/* The guest has let go a device that it was asked for: machine_take_out() takes it. On a vCPU's thread, or in a reset; same rules. */
struct machine_left_to {
	void (*said)(void *ctx);
	void *ctx;
};

struct saved;

struct machine_config {
	const struct kvm_face *face;
	unsigned cpus;   /* 1 to MACHINE_CPUS_MAX */
	const struct cpu_model *cpu; /* what they are (cpu/cpu.h); NULL: host */
	uint64_t memory; /* bytes, whole pages */
	const struct board_map *board; /* board_map.h; NULL: board_direct */
	const char *firmware; /* for a board that has a ROM: what is in it. And no kernel */
	int variables;        /* with firmware: a file of FLASH_SIZE bytes with its variables, the caller's; 0: none */
	bool keep_variables;  /* which is written when they change */
	FILE *firmware_log;   /* what it says of itself; NULL: nothing */
	const char *kernel;
	const char *initrd;  /* or NULL */
	const char *cmdline; /* or NULL */
	struct disk *disks[MACHINE_DISKS_MAX]; /* open; the caller's */
	enum machine_bus disk_bus[MACHINE_DISKS_MAX];
	struct machine_spot disk_spot[MACHINE_DISKS_MAX]; /* those that came while it ran are the last ones */
	unsigned n_disks;
	struct disk **cds; /* what lies in each of its CD drives, NULL: nothing; the caller's, and machine_change_cd() changes it */
	enum machine_bus cd_bus[MACHINE_CDS_MAX]; /* SATA or IDE */
	unsigned n_cds;
	enum machine_boot boot[MACHINE_BOOTS]; /* in which order firmware tries */
	unsigned n_boot;                       /* 0: disks, then CDs */
	struct machine_console console; /* at the other end of COM1 */
	struct machine_panic panic;     /* nobody listens: zeros */
	struct machine_left_to left;    /* the same */
	bool virtio_console;            /* at that of a virtio console instead: hvc0 */
	unsigned root_ports;            /* on a board with firmware; NVMe disks are behind them, as far as they reach */
	bool hpet;                      /* on a board that has a place for one */
	bool screen;                    /* it has a VGA adapter, a keyboard and a mouse: screen.h */
	enum machine_vga vga;           /* with a screen */
	bool usb;                       /* with a screen: a USB keyboard and a USB tablet besides */
	bool virtio_input;              /* with a screen: a virtio keyboard and a virtio tablet besides */
	struct machine_port port;
	struct machine_net net;
	struct machine_net more_nets[MACHINE_PORTS_MAX]; /* cards that came while it ran */
	unsigned n_more_nets;
	struct machine_share shares[MACHINE_SHARES_MAX];
	unsigned n_shares;
	struct machine_vsock vsock;
	bool old_virtio;                /* drivers of before virtio 1.0 find its virtio devices, too */
	bool balloon;                   /* it can give memory back */
	const uint8_t *initrd_more;     /* a cpio archive that the kernel is to find behind its initrd */
	size_t initrd_more_len;         /* 0: none */
	const struct saved *saved;      /* the machine goes on from there (saved.h); NULL: it boots */
	const struct machine_fork *fork; /* and its memory is this (fork.h); NULL: in the same file */
	const struct incoming *incoming; /* or this (incoming.h) */
	FILE *trace;                    /* a line for each exit; NULL: none */
	/* Where devices have their timers; the owner's thread runs it. NULL: one of the machine's own, which runs in
	 * machine_end(). */
	struct loop *loop;
};

/* What can be said about a configuration before an engine is chosen: -ERANGE for sizes that
 * make no sense, other errors for files that cannot be opened. */
int machine_check(const struct machine_config *config, struct err *err);

/* The part of it that is about how many drives there can be: -ERANGE. */
int machine_check_drives(const struct machine_config *config, struct err *err);

/* The strings in config, and *cpu, must outlive the machine. On failure *m is NULL. */
int machine_create(struct machine **m, const struct machine_config *config,
		   struct err *err);

/* What it was made of, and what has come since and is not gone. */
const struct machine_config *machine_config(const struct machine *m);

/* Starts the vCPUs' threads. */
int machine_start(struct machine *m, struct err *err);

enum machine_life { MACHINE_CREATED, MACHINE_RUNNING, MACHINE_PAUSED, MACHINE_ENDED };

/* Any thread. */
enum machine_life machine_life(struct machine *m);

/* Back when the machine is paused: within milliseconds, if no disk is slow. One that is paused already is fine, as
 * is resuming one that runs; -EINVAL for one that has ended. A machine that was created can be paused before it
 * starts: then start() makes it a paused one. What has been sent to another lodge (migrate.h) can be resumed only if that has
 * none of its disks: -EBUSY. */
int machine_pause(struct machine *m, struct err *err);
int machine_resume(struct machine *m, struct err *err);

/* Writes a paused machine to a file that is open for writing, empty, and can be seeked in. 0, or -errno: then what is in
 * the file is nothing. The machine stays paused. saved.h tells what is written. */
int machine_save(struct machine *m, int fd, struct err *err);

/* Why a machine ended. */
enum machine_reason {
	MACHINE_OFF,          /* the guest switched it off */
	MACHINE_RESET,        /* the guest pressed reset */
	MACHINE_STOPPED,      /* machine_stop() */
	MACHINE_TRIPLE_FAULT, /* a vCPU could not even handle a fault of a fault */
	MACHINE_FAILED,       /* the engine gave up */
};

struct machine_end {
	enum machine_reason reason;
	unsigned vcpu;  /* who did it; of TRIPLE_FAULT and FAILED */
	char text[256]; /* a sentence for people */
};

/* Becomes readable when the machine has ended, and stays so until the next start. */
int machine_fd(const struct machine *m);

/* Waits for the end, if it is not there yet, and for all vCPU threads. */
void machine_end(struct machine *m, struct machine_end *end);

/* Makes a running machine end soon. Any thread. */
void machine_stop(struct machine *m);

/* After an end: memory, devices, vCPUs as after power-on, the kernel loaded anew. */
int machine_reset(struct machine *m, struct err *err);

/* NULL is fine; a running machine is stopped first. */
void machine_destroy(struct machine *m);

/* -- Console, and what else one can do to a running machine: any thread --------------- */

/* Bytes for the guest; returns how many it took now. */
size_t machine_console_input(struct machine *m, const uint8_t *bytes, size_t n);

/* The other end takes output again. When the machine has ended the rest comes, up to a bound. */
void machine_console_ready(struct machine *m);

/* The same of the port, if there is one; but it takes all or nothing. */
size_t machine_port_input(struct machine *m, const uint8_t *bytes, size_t n);
void machine_port_ready(struct machine *m);

/* Whether a program of the guest has opened the port. When that changes, input_room() is called. */
bool machine_port_is_open(struct machine *m);

/* Asks the guest to shut down, as a power button does. */
void machine_power_button(struct machine *m);

/* Puts another medium into a CD drive, or none; what was there before is the caller's to close, in *old. -ENOENT: there is no such drive;
 * -EBUSY: the guest holds it, and hears that it is not to; `force` takes it all the same. */
int machine_change_cd(struct machine *m, unsigned drive, struct disk *disk, bool force, struct disk **old, struct err *err);

/* Whether a drive is open; and whether the guest keeps it from being opened by hand. */
bool machine_cd_is_open(struct machine *m, unsigned drive);
bool machine_cd_is_locked(struct machine *m, unsigned drive);

/* How much memory the guest is to use, of what it has: what is more it is to give back. -ENOENT: it has no balloon; -ERANGE. */
int machine_balloon(struct machine *m, uint64_t memory, struct err *err);

/* What is known of that; false: it has none. */
struct virtio_balloon_facts;
bool machine_balloon_facts(struct machine *m, struct virtio_balloon_facts *facts);

/* Plugs the cable of its network card in, or pulls it; and whether its link is up. -ENOENT: it has none. */
int machine_plug(struct machine *m, bool in, struct err *err);
bool machine_link(struct machine *m);

/* Exits by reason, then the engine's counters; returns how many there are, at most max are
 * filled in. Owner's thread. */
int machine_stats(const struct machine *m, struct kvm_stat *out, int max);

/* The number of the thread that runs a CPU, as the kernel knows it; 0: it has not begun. Any thread. */
int machine_cpu_thread(const struct machine *m, unsigned cpu);

/* What is on its PCI bus, as pci_look() says it (dev/pci/pci.h). Any thread. */
struct pci_facts;
unsigned machine_pci(const struct machine *m, struct pci_facts *facts, unsigned max);

/* "linux 2.15 at 0x1000200": how the kernel is entered. */
const char *machine_boot_text(const struct machine *m);

#endif

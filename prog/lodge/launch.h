/* SPDX-License-Identifier: MIT */
/*
 * What `lodge run` and `lodge restore` have in common: a guest here and now, with its console on this
 * terminal, wherever its machine comes from.
 */
#ifndef LODGE_LAUNCH_H
#define LODGE_LAUNCH_H

#include <stdbool.h>
#include <stdint.h>

#include "block/disk.h"
#include "lodge.h"
#include "machine/machine.h"
#include "net.h"
#include "shares.h"
#include "vsock.h"

/* What options fill in. */
struct launch {
	const char *engine, *name, *sandbox, *trace, *display, *password;
	bool stats, no_reboot, paused;
	int ready; /* in the background: gets `number` when the guest runs; -1: it is here */
	uint32_t number;
	int made, go; /* pipes: the first is closed when it could run; it does when it has read a byte of this. -1: at once */
	int incoming; /* a socket to where the guest comes from (machine/incoming.h); -1: none */
	struct net_options net;
	struct shares shares;
	struct vsock_options vsock;
	const struct document *document; /* what of it was said; or NULL */
	char **command; /* that the guest's agent is to run, its words; NULL: there is a console */
	int image;      /* with no words in `command`: the machine is saved there when its agent has answered, and ends; -1 */
};

#define LAUNCH_DEFAULTS {.engine = "auto", .sandbox = "on", .ready = -1, .made = -1, .go = -1, .incoming = -1, .image = -1}

/* Their rows, where the struct is at `base` in the verb's. */
#define LAUNCH_OPTIONS(base)                                                               \
	{"--name", "NAME", "by which other verbs know the guest", OPTION_OTHER, base, 0,   \
	 0, launch_set_name},                                                              \
	{"--engine", "auto|kvm|soft", "what runs the guest (default: auto)", OPTION_WORD,  \
	 (base) + offsetof(struct launch, engine), 0, 0, NULL},                            \
	{"--display", "none|vnc=ADDR", "a screen, a keyboard and a mouse, and for whom: vnc=HOST[:N], vnc=unix:PATH", \
	 OPTION_OTHER, base, 0, 0, launch_set_display},                                    \
	{"--vnc-password", "FILE", "what a viewer has to know: FILE's first line",         \
	 OPTION_TEXT, (base) + offsetof(struct launch, password), 0, 0, NULL},             \
	{"--sandbox", "on|off", "shut lodge in while the guest runs (default: on)",        \
	 OPTION_WORD, (base) + offsetof(struct launch, sandbox), 0, 0, NULL},              \
	{"--paused", NULL, "it waits for lodge resume before its first instruction",       \
	 OPTION_FLAG, (base) + offsetof(struct launch, paused), 0, 0, NULL},               \
	{"--no-reboot", NULL, "end when the guest resets, or says that it panicked",       \
	 OPTION_FLAG, (base) + offsetof(struct launch, no_reboot), 0, 0, NULL},            \
	{"--net", "WHERE[,OPTION]...", "its network: none, user, tap=NAME, bridge=NAME, socket=PATH; model=virtio|e1000, queues=N; of user: tftp=DIR, bootfile=NAME", \
	 OPTION_OTHER, (base) + offsetof(struct launch, net), 0, 0, net_set_how},          \
	{"-p", "[ADDRESS:]HOST:GUEST[/udp]", "for --net user: this port here leads to that one of the guest's", \
	 OPTION_OTHER, (base) + offsetof(struct launch, net), 0, 0, net_set_forward},      \
	{"--mac", "ADDRESS", "of its network card (default: by its name)", OPTION_OTHER,   \
	 (base) + offsetof(struct launch, net), 0, 0, net_set_mac},                        \
	{"--capture", "FILE", "note the frames of its network there, for tcpdump", OPTION_TEXT, \
	 (base) + offsetof(struct launch, net.capture), 0, 0, NULL},                       \
	{"--share", "DIR[:TAG][,ro]", "a directory for the guest, once for each: mount -t virtiofs TAG /mnt", OPTION_OTHER, \
	 (base) + offsetof(struct launch, shares), 0, 0, shares_set},                      \
	{"--vsock", "PATH[,cid=N]", "sockets between programs in the guest and here: at PATH one connects to it", OPTION_OTHER, \
	 (base) + offsetof(struct launch, vsock), 0, 0, vsock_set},                        \
	{"--stats", NULL, "print counters on stderr at the end", OPTION_FLAG,              \
	 (base) + offsetof(struct launch, stats), 0, 0, NULL},                             \
	{"--trace", "exits[:FILE]", "a line for each exit, on stderr or in a file",        \
	 OPTION_OTHER, base, 0, 0, launch_set_trace}

int launch_set_name(void *into, char *value, struct err *err);
int launch_set_display(void *into, char *value, struct err *err);
int launch_set_trace(void *into, char *value, struct err *err);

struct launch_disks {
	struct disk_config disks[MACHINE_DISKS_MAX];
	enum machine_bus bus[MACHINE_DISKS_MAX];
	struct machine_spot spot[MACHINE_DISKS_MAX]; /* of a machine that was saved */
	unsigned n;
	const char *cds[MACHINE_CDS_MAX]; /* what lies in CD drives; NULL: nothing */
	enum machine_bus cd_bus[MACHINE_CDS_MAX];
	unsigned n_cds;
	bool known; /* it comes from a guest that runs here: its shared directories are this one's, too */
};

/* An image for a CD drive: open already, if `fd` is more than 0. */
int launch_open_cd(struct disk **cd, const char *path, int fd, struct err *err);

/* Where the machine comes from: fills in cpus, memory, kernel and the like (what is in `config` before it
 * is what they are without), and the disks that are to be opened. 0, or -errno with err: then there is
 * no guest. */
typedef int launch_source(void *ctx, struct machine_config *config, struct launch_disks *disks,
			  struct err *err);

/* Fills in both of a saved machine; config->saved too. */
int launch_saved(const struct saved *saved, struct machine_config *config,
		 struct launch_disks *disks, struct err *err);

/* Before anything is opened that the guest's process is to keep. launch() does it, where it was not done. */
void launch_prepare(const struct launch *l);

/* A program that runs commands in the guest (guest/agent.c), as an archive for Linux to unpack. */
extern const uint8_t launch_agent[], launch_agent_end[];

/* Runs a guest from there to its end. Returns the program's exit code. */
int launch(const struct launch *l, launch_source *source, void *ctx);

/* The same from a file of `lodge save`. */
int launch_file(const struct launch *l, const char *file);

/* Chooses an engine, and tells which. 0 or -errno. */
int launch_choose(const struct launch *l, struct machine_config *config, struct err *err);

/* A file's name that means the same in another directory, for who restores the guest there. It lives as
 * long as the process. */
const char *launch_path(const char *path);

#endif

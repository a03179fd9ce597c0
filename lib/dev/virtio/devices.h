/* SPDX-License-Identifier: MIT */
/*
 * The virtio devices a board can have, each a PCI function (virtio 1.2).
 *
 *	struct device *d = device_create(&virtio_blk_model, bus, NULL, &(struct virtio_blk_config){
 *		.pci = {.host = host, .mem = mem}, .disk = disk }, &err);
 */
#ifndef DEV_VIRTIO_DEVICES_H
#define DEV_VIRTIO_DEVICES_H

#include "dev/device.h"
#include "dev/pci/function.h"
#include "dev/vga.h"
#include "net/mac.h"

struct disk;
struct loop;
struct net_port;
struct surface;

/* Where a virtio function lives. */
struct virtio_place {
	struct device *host; /* of pci_host_model; destroyed after this device */
	const struct guest_mem *mem; /* where its rings are */
	unsigned slot;               /* 1 to 31; 0 means the first free one */
	struct pci_rom rom;          /* an expansion ROM, if it has one */
	bool transitional;           /* drivers of before virtio 1.0 find it, too, if it is as old */
};

struct virtio_blk_config {
	struct virtio_place pci;
	struct disk
		*disk; /* stays the caller's; closed after the device is destroyed */
	const char *serial;     /* up to 20 bytes; NULL: none */
};

/* The other end of a port. */
struct virtio_console_port {
	const char *name; /* of port 1, by which the guest knows it: at most VIRTIO_CONSOLE_NAME_MAX bytes
			   * of it. NULL: there is no such port */
	/* As in uart.h: bytes taken, room again; with the device's lock held. Of port 1 input_room also tells
	 * that the guest has opened or closed it. */
	size_t (*output)(void *ctx, const uint8_t *bytes, size_t n);
	void (*input_room)(void *ctx);
	void *ctx;
};

#define VIRTIO_CONSOLE_PORTS    2u
#define VIRTIO_CONSOLE_NAME_MAX 64u

struct virtio_console_config {
	struct virtio_place pci;
	/* The console, and another one. */
	struct virtio_console_port ports[VIRTIO_CONSOLE_PORTS];
};

#define VIRTIO_NET_PAIRS_MAX 8u

struct virtio_net_config {
	struct virtio_place pci;
	struct net_port *port; /* stays the caller's; closed after the device is destroyed. NULL: no cable is plugged in */
	struct net_port *more_ports[VIRTIO_NET_PAIRS_MAX - 1]; /* of a cable that has one for each pair of queues; NULL: they share the first */
	unsigned pairs;        /* of queues, 1 to VIRTIO_NET_PAIRS_MAX; 0 means 1 */
	struct loop *loop;     /* which waits for it; NULL: nobody does */
	uint8_t mac[MAC_LEN];
	unsigned mtu;          /* that the driver is told; 0: nothing */
};

#define VIRTIO_SCSI_TARGETS 16u

struct virtio_scsi_config {
	struct virtio_place pci;
	struct disk *disks[VIRTIO_SCSI_TARGETS]; /* as virtio_blk_config's; a target each */
	unsigned n;
};

struct virtio_balloon_config {
	struct virtio_place pci;
	struct loop *loop; /* in which statistics are asked for; NULL: never */
};

/* Of virtio 1.2, section 5.5.6.3, by their tags; sizes in bytes. */
enum {
	VIRTIO_BALLOON_SWAP_IN, VIRTIO_BALLOON_SWAP_OUT, VIRTIO_BALLOON_MAJOR_FAULTS, VIRTIO_BALLOON_MINOR_FAULTS, VIRTIO_BALLOON_FREE,
	VIRTIO_BALLOON_TOTAL, VIRTIO_BALLOON_AVAILABLE, VIRTIO_BALLOON_CACHES, VIRTIO_BALLOON_HUGE, VIRTIO_BALLOON_HUGE_FAILED, VIRTIO_BALLOON_STATS
};

struct virtio_balloon_facts {
	uint64_t target, actual; /* bytes that the guest is to give up, and has */
	uint32_t known;          /* a bit for each of the statistics that it has told */
	uint64_t stats[VIRTIO_BALLOON_STATS];
};

struct virtio_fs_config {
	struct virtio_place pci;
	const char *tag;   /* by which the guest knows it: at most FS_TAG_MAX bytes of it */
	int fd;            /* a socket to who has the files (fs_link.h); stays the caller's. -1: nobody */
	struct loop *loop; /* which waits for it; NULL: nobody does */
	int patience_ms;   /* how long a pause waits for a word of it, before it counts as gone; -1: for ever */
};

struct virtio_vsock_config {
	struct virtio_place pci;
	uint32_t cid;          /* the guest's: 3 to 0xfffffffe */
	struct net_port *port; /* to who has the connections, in packets (vsock_packet.h); the caller's. NULL: nobody has */
	struct loop *loop;     /* which waits for it; NULL: nobody does */
};

struct virtio_input_config {
	struct virtio_place pci;
};

#define VIRTIO_TABLET_RANGE 0x8000u /* its axes go from 0 to one less */

struct virtio_vga_config {
	struct virtio_place pci;
	struct vga_config vga; /* of which host and slot are in `pci` */
	struct loop *loop;     /* where the commands of a long kick go on */
	uint8_t *store;        /* for pictures: the owner's, and so many bytes, whole pages */
	uint64_t store_size;
	/* With the device's lock held: these bytes of the store were written; nobody wants what is in these. May be NULL. */
	void (*wrote)(void *ctx, const uint8_t *bytes, uint64_t len);
	void (*forget)(void *ctx, uint8_t *bytes, uint64_t len);
};

struct virtio_rng_config {
	struct virtio_place pci;
};

extern const struct device_model virtio_balloon_model;
extern const struct device_model virtio_blk_model;
extern const struct device_model virtio_console_model;
extern const struct device_model virtio_fs_model;
extern const struct device_model virtio_keyboard_model;
extern const struct device_model virtio_net_model;
extern const struct device_model virtio_rng_model;
extern const struct device_model virtio_scsi_model;
extern const struct device_model virtio_tablet_model;
extern const struct device_model virtio_vga_model;
extern const struct device_model virtio_vsock_model;

/* As uart_input() and uart_output_ready(). Port 1 takes all or nothing. */
size_t virtio_console_input(struct device *console, unsigned port, const uint8_t *bytes, size_t n);
void virtio_console_output_ready(struct device *console, unsigned port);

/* A key goes down or up (dev/ps2.h has the numbers): 1; 0: this keyboard has nothing to do with it, for its driver is not there, or that key
 * was not pressed here; -EAGAIN: it is dropped, for the driver has not taken what came before. Any thread. */
int virtio_keyboard_key(struct device *keyboard, uint8_t key, bool down);

/* The pointer is there, its wheel was turned down by dz, and these buttons are down: left, right, middle from bit 0 on. False: the driver is
 * not there. Any thread. */
bool virtio_tablet_point(struct device *tablet, uint16_t x, uint16_t y, int dz, uint8_t buttons);

/* What the monitor of a virtio-vga shows. Any thread; and so are the others. */
void virtio_vga_show(struct device *dev, struct surface *s);

/* Whether its guest would hear that the monitor is of another size; it is now: false, if it would not, or there is no such size. */
bool virtio_vga_can_resize(struct device *dev);
bool virtio_vga_resize(struct device *dev, unsigned width, unsigned height);

/* How many bytes the guest is to give up; what is known of it. */
void virtio_balloon_set(struct device *balloon, uint64_t bytes);
void virtio_balloon_look(struct device *balloon, struct virtio_balloon_facts *facts);

/* Plugs the cable in, or pulls it. Whether the link is up now, as the guest sees it. */
void virtio_net_plug(struct device *net, bool in);
bool virtio_net_link(struct device *net);

/* Whether the guest takes input there, as soon as it has room. */
bool virtio_console_listens(struct device *console, unsigned port);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * A virtio GPU without a bus: resources, a scanout, a cursor, and the commands that change them. Nothing here knows of queues, so it is
 * a list of functions (gpu_2d.c) that gpu.c calls with a command's bytes:
 *
 *	gpu_command(g, &command);          // g->reply has the answer
 *	shot = gpu_look(g);                // what is to be seen, and then, without a lock:
 *	gpu_draw(&shot, surface);          // gpu_draw.c
 *
 * A resource is a picture that the guest draws: it tells which pages of its memory have the dots (its backing), and when they are to be
 * copied from there. The copy is in `store`, which is of one size for all time: a resource is a piece of it, and what has no room there is
 * refused. Backings are entries of one table, of a fixed size, too, each resource's one behind the other.
 *
 *	resources[]   sorted by where they are in the store
 *	    id, format, width, height, at ----> store
 *	    first, n -------------------------> entries[]: address, length, owner
 *
 * `first`, `n` and `backed` follow from the entries.
 */
#ifndef DEV_VIRTIO_GPU_H
#define DEV_VIRTIO_GPU_H

#include "bus/guest.h"
#include "dev/vga/edid.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

struct surface;

#define GPU_RESOURCES 256u
#define GPU_ENTRIES   65536u /* of 4 KiB each: as much as the store has twice */
#define GPU_SIDE_MAX  16384u
#define GPU_CURSOR    64u    /* its width and height */
#define GPU_HEADER    24u
#define GPU_REPLY_MAX (GPU_HEADER + 8 + 1024)

struct gpu_resource {
	uint32_t id, format, width, height;
	uint64_t at; /* in the store */
	uint32_t first, n; /* entries */
	uint64_t backed;   /* bytes in them */
};

struct gpu_entry {
	uint64_t at;
	uint32_t len, owner; /* a resource's id */
};

struct gpu_rect {
	uint32_t x, y, width, height;
};

/* What is to be seen. */
struct gpu_scene {
	bool active;           /* the guest has set a scanout since its driver began */
	uint32_t scanout;      /* of this resource; 0: black */
	struct gpu_rect rect;  /* of which this is shown */
	uint32_t cursor;       /* a resource of GPU_CURSOR x GPU_CURSOR dots; 0: there is none */
	int32_t cursor_x, cursor_y;
};

struct gpu_2d {
	const struct guest_mem *mem;
	uint8_t *store;
	uint64_t store_size; /* whole pages */
	/* These bytes of the store were written; these nobody wants any more. May be NULL. */
	void (*wrote)(void *ctx, const uint8_t *bytes, uint64_t len);
	void (*forget)(void *ctx, uint8_t *bytes, uint64_t len);
	void *ctx;

	uint32_t width, height; /* of the monitor, as somebody wants it */
	uint8_t edid[EDID_SIZE];
	struct gpu_scene scene;
	uint64_t work; /* that commands have been: bytes which they moved, or what takes as long. Whoever wants to know begins with 0 */
	uint32_t n_resources, n_entries;
	struct gpu_resource resources[GPU_RESOURCES];
	struct gpu_entry entries[GPU_ENTRIES];
	struct {
		unsigned len;
		uint8_t bytes[GPU_REPLY_MAX];
	} reply;
};

/* The driver begins anew: no resources, no scanout. */
void gpu_reset(struct gpu_2d *g);

/* The monitor is of this size from now on. */
void gpu_resize(struct gpu_2d *g, unsigned width, unsigned height);

/* Executes what is in these pieces, and makes the reply. `cursor`: it came by the queue for that. */
void gpu_command(struct gpu_2d *g, const struct iovec *iov, unsigned n, bool cursor);

/* Makes what follows from other fields, after they were loaded: NULL, or what makes no sense. */
const char *gpu_loaded(struct gpu_2d *g);

/* -- Drawing: gpu_draw.c ------------------------------------------------------------------ */

/* A picture in the store. Its pixels: bytes of which r, g, b, a are at these places; a is 4: there is none. */
struct gpu_format {
	uint32_t format;
	uint8_t r, g, b, a;
};

/* NULL: there is no such format. */
const struct gpu_format *gpu_format(uint32_t format);

struct gpu_picture {
	const struct gpu_format *format; /* NULL: there is no picture */
	const uint8_t *pixels;
	uint32_t width, height;
};

/* A scene without what it is of, so that it can be drawn while that changes. */
struct gpu_shot {
	struct gpu_scene scene;
	struct gpu_picture scanout, cursor;
};

struct gpu_shot gpu_look(const struct gpu_2d *g);
void gpu_draw(const struct gpu_shot *shot, struct surface *s);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * The commands of a virtio GPU that draws nothing itself (section 5.7 of virtio 1.2): see gpu.h for what they change.
 *
 * A command is read once, into `command`, and what was checked there is what is used. Numbers of the guest's are compared with the
 * picture that they are of in 64 bits, before anything is multiplied. Entries of a backing are addresses of the guest's, and become
 * pointers when they are copied from, each time anew (bus/guest.h); what is no memory then makes the command fail.
 *
 * All is done when the reply is there, so a fence is only sent back.
 *
 * Left out: more than one scanout, what the hot spot of a cursor is (nobody is told), everything of 3D, blobs and shared memory.
 */
#include "dev/virtio/gpu.h"

#include "base/bytes.h"
#include "base/macros.h"
#include "dev/virtio/queue.h"
#include "display/surface.h"

#include <string.h>

#define PAGE        4096u
#define COMMAND_MAX 72u
#define FLAG_FENCE  1u
#define ENTRY_WORK  64u /* an entry that is looked at; */
#define INDEX_WORK  8u  /* that is only counted */

enum {
	GET_DISPLAY_INFO = 0x100, RESOURCE_CREATE_2D, RESOURCE_UNREF, SET_SCANOUT, RESOURCE_FLUSH, TRANSFER_TO_HOST_2D,
	ATTACH_BACKING, DETACH_BACKING, GET_EDID = 0x10a, UPDATE_CURSOR = 0x300, MOVE_CURSOR,
};

enum {
	OK_NODATA = 0x1100, OK_DISPLAY_INFO, OK_EDID = 0x1104,
	ERR_UNSPEC = 0x1200, ERR_OUT_OF_MEMORY, ERR_SCANOUT, ERR_RESOURCE, ERR_CONTEXT, ERR_PARAMETER,
};

struct command {
	uint8_t bytes[COMMAND_MAX]; /* with its header */
	const struct iovec *iov;    /* all of it */
	unsigned n;
};

static uint32_t word(const struct command *c, unsigned at)
{
	return le32_get(c->bytes + at); /* SAFE: at is a number of ours */
}

static struct gpu_rect rect(const struct command *c, unsigned at)
{
	return (struct gpu_rect){word(c, at), word(c, at + 4), word(c, at + 8), word(c, at + 12)};
}

static bool is_in(const struct gpu_rect *r, const struct gpu_resource *p)
{
	return r->width && r->height && (uint64_t)r->x + r->width <= p->width && (uint64_t)r->y + r->height <= p->height;
}

/* -- Resources ------------------------------------------------------------------------- */

static uint64_t size_of(const struct gpu_resource *r)
{
	return ((uint64_t)r->width * r->height * 4 + PAGE - 1) / PAGE * PAGE;
}

/* As many dots as the largest screen: a command takes no longer than copying these. */
static bool has_bounds(const struct gpu_resource *r)
{
	return (uint64_t)r->width * r->height <= SURFACE_PIXELS_MAX;
}

static struct gpu_resource *find(struct gpu_2d *g, uint32_t id)
{
	for (unsigned i = 0; id && i < g->n_resources; i++)
		if (g->resources[i].id == id)
			return &g->resources[i];
	return NULL;
}

/* Before which resource there is room for so many bytes; where, is in *at. -1: nowhere. */
static int find_gap(const struct gpu_2d *g, uint64_t size, uint64_t *at)
{
	*at = 0;
	for (unsigned i = 0; i <= g->n_resources; i++) {
		uint64_t end = i < g->n_resources ? g->resources[i].at : g->store_size;

		if (end - *at >= size)
			return (int)i;
		if (i < g->n_resources)
			*at = end + size_of(&g->resources[i]);
	}
	return -1;
}

static uint32_t create(struct gpu_2d *g, const struct command *c)
{
	struct gpu_resource r = {.id = word(c, 24), .format = word(c, 28), .width = word(c, 32), .height = word(c, 36)};
	int i;

	if (!r.id || find(g, r.id))
		return ERR_RESOURCE;
	if (!gpu_format(r.format) || !r.width || !r.height || r.width > GPU_SIDE_MAX || r.height > GPU_SIDE_MAX)
		return ERR_PARAMETER;
	i = g->n_resources < GPU_RESOURCES && has_bounds(&r) ? find_gap(g, size_of(&r), &r.at) : -1;
	if (i < 0)
		return ERR_OUT_OF_MEMORY;
	memmove(g->resources + i + 1, g->resources + i, (g->n_resources - (unsigned)i) * sizeof(r));
	g->resources[i] = r;
	g->n_resources++;
	return OK_NODATA;
}

/* -- Backings --------------------------------------------------------------------------- */

/* What of resources follows from entries. False: those of one are not together, or there are some of nobody. */
static bool index_entries(struct gpu_2d *g)
{
	struct gpu_resource *r = NULL;

	g->work += (uint64_t)g->n_entries * INDEX_WORK;
	for (unsigned i = 0; i < g->n_resources; i++)
		g->resources[i].first = g->resources[i].n = 0, g->resources[i].backed = 0;
	for (uint32_t i = 0; i < g->n_entries; i++) {
		const struct gpu_entry *e = &g->entries[i];

		if (!r || r->id != e->owner) {
			r = find(g, e->owner);
			if (!r || r->n)
				return false;
			r->first = i;
		}
		r->n++;
		r->backed += e->len;
	}
	return true;
}

static void detach(struct gpu_2d *g, const struct gpu_resource *r)
{
	uint32_t end = r->first + r->n;

	if (!r->n)
		return;
	memmove(g->entries + r->first, g->entries + end, (g->n_entries - end) * sizeof(*g->entries));
	g->n_entries -= r->n;
	index_entries(g);
}

/* Says so of a range as it is now, and does not bring it here. */
static bool is_memory(const struct guest_mem *mem, gpa_t at, uint64_t len)
{
	struct guest_region r;

	return len && guest_mem_find(mem, at, &r) && len <= r.size - (at - r.base);
}

/* One behind the other in memory is one entry. */
static bool add_entry(struct gpu_2d *g, uint32_t owner, uint32_t first, const uint8_t bytes[16])
{
	struct gpu_entry e = {.at = le64_get(bytes), .len = le32_get(bytes + 8), .owner = owner};
	struct gpu_entry *last = g->n_entries > first ? &g->entries[g->n_entries - 1] : NULL;

	if (!is_memory(g->mem, e.at, e.len))
		return false;
	if (last && last->at + last->len == e.at && UINT32_MAX - last->len >= e.len && is_memory(g->mem, last->at, last->len + e.len))
		last->len += e.len;
	else if (g->n_entries == GPU_ENTRIES)
		return false;
	else
		g->entries[g->n_entries++] = e;
	return true;
}

static uint32_t attach(struct gpu_2d *g, const struct command *c)
{
	struct gpu_resource *r = find(g, word(c, 24));
	uint32_t count = word(c, 28), first = g->n_entries;
	struct iovec pieces[VQ_IOV_MAX], *iov = pieces;
	unsigned n = c->n;
	uint8_t bytes[16];

	if (!r || r->n)
		return ERR_RESOURCE;
	if (count > GPU_ENTRIES)
		return ERR_OUT_OF_MEMORY;
	g->work += (uint64_t)count * ENTRY_WORK;
	memcpy(pieces, c->iov, n * sizeof(*pieces)); /* SAFE: a chain has no more */
	iov = iov_cut_front(pieces, &n, 32);
	for (uint32_t i = 0; i < count; i++) {
		if (iov_gather(iov, n, bytes, sizeof(bytes)) != sizeof(bytes) || !add_entry(g, r->id, first, bytes)) {
			g->n_entries = first;
			return ERR_PARAMETER;
		}
		iov = iov_cut_front(iov, &n, sizeof(bytes));
	}
	index_entries(g);
	return OK_NODATA;
}

static uint32_t detach_backing(struct gpu_2d *g, const struct command *c)
{
	const struct gpu_resource *r = find(g, word(c, 24));

	if (!r)
		return ERR_RESOURCE;
	detach(g, r);
	return OK_NODATA;
}

static uint32_t unref(struct gpu_2d *g, const struct command *c)
{
	struct gpu_resource *r = find(g, word(c, 24));

	if (!r)
		return ERR_RESOURCE;
	g->work += size_of(r);
	detach(g, r);
	if (g->scene.scanout == r->id)
		g->scene.scanout = 0;
	if (g->scene.cursor == r->id)
		g->scene.cursor = 0;
	if (g->forget)
		g->forget(g->ctx, g->store + r->at, size_of(r));
	g->n_resources--;
	memmove(r, r + 1, (size_t)(g->resources + g->n_resources - r) * sizeof(*r));
	return OK_NODATA;
}

/* -- From the guest's memory ---------------------------------------------------------------- */

/* A place in a backing, which only goes forward. */
struct reader {
	const struct gpu_entry *entry, *end;
	uint64_t before; /* bytes of the entries before this one */
};

static bool copy(const struct gpu_2d *g, struct reader *from, uint64_t at, uint8_t *to, uint64_t len)
{
	while (len) {
		uint64_t part;
		const void *bytes;

		while (from->entry < from->end && at - from->before >= from->entry->len)
			from->before += from->entry++->len;
		if (from->entry == from->end)
			return false;
		part = from->entry->len - (at - from->before);
		part = part < len ? part : len;
		bytes = guest_range_ro(g->mem, from->entry->at + (at - from->before), part);
		if (!bytes)
			return false;
		memcpy(to, bytes, part);
		at += part;
		to += part;
		len -= part;
	}
	return true;
}

static uint32_t transfer(struct gpu_2d *g, const struct command *c)
{
	const struct gpu_resource *r = find(g, word(c, 48));
	struct gpu_rect area = rect(c, 24);
	uint64_t from = le64_get(c->bytes + 40), row = r ? (uint64_t)r->width * 4 : 0, first;
	struct reader reader;
	bool all = true;

	if (!r)
		return ERR_RESOURCE;
	if (!is_in(&area, r) || from > r->backed || (area.height - 1) * row + area.width * UINT64_C(4) > r->backed - from)
		return ERR_PARAMETER;
	g->work += area.height * UINT64_C(4) * area.width + (uint64_t)r->n * ENTRY_WORK;
	reader = (struct reader){.entry = g->entries + r->first, .end = g->entries + r->first + r->n};
	first = r->at + area.y * row + area.x * UINT64_C(4);
	for (uint32_t y = 0; all && y < area.height; y++)
		all = copy(g, &reader, from + y * row, g->store + first + y * row, area.width * UINT64_C(4));
	if (g->wrote)
		g->wrote(g->ctx, g->store + first, (area.height - 1) * row + area.width * UINT64_C(4));
	return all ? OK_NODATA : ERR_UNSPEC;
}

/* -- What is shown ---------------------------------------------------------------------------- */

static uint32_t set_scanout(struct gpu_2d *g, const struct command *c)
{
	uint32_t id = word(c, 44);
	const struct gpu_resource *r = find(g, id);
	struct gpu_rect area = rect(c, 24);

	if (word(c, 40) != 0)
		return ERR_SCANOUT;
	if (!id) {
		g->scene.scanout = 0;
		return OK_NODATA;
	}
	if (!r)
		return ERR_RESOURCE;
	if (!is_in(&area, r) || area.width > SURFACE_WIDTH_MAX || area.height > SURFACE_HEIGHT_MAX)
		return ERR_PARAMETER;
	g->scene.active = true;
	g->scene.scanout = id;
	g->scene.rect = area;
	return OK_NODATA;
}

/* Who looks at the screen looks at all of it. */
static uint32_t flush(struct gpu_2d *g, const struct command *c)
{
	const struct gpu_resource *r = find(g, word(c, 40));
	struct gpu_rect area = rect(c, 24);

	if (!r)
		return ERR_RESOURCE;
	return is_in(&area, r) ? OK_NODATA : ERR_PARAMETER;
}

static uint32_t move_cursor(struct gpu_2d *g, const struct command *c)
{
	if (word(c, 24) != 0)
		return ERR_SCANOUT;
	g->scene.cursor_x = (int32_t)word(c, 28);
	g->scene.cursor_y = (int32_t)word(c, 32);
	return OK_NODATA;
}

static uint32_t update_cursor(struct gpu_2d *g, const struct command *c)
{
	uint32_t id = word(c, 40);
	const struct gpu_resource *r = find(g, id);

	if (id && !r)
		return ERR_RESOURCE;
	if (id && (r->width != GPU_CURSOR || r->height != GPU_CURSOR))
		return ERR_PARAMETER;
	g->scene.cursor = id;
	return move_cursor(g, c);
}

/* -- What the monitor is ----------------------------------------------------------------------- */

static uint32_t display_info(struct gpu_2d *g, const struct command *c)
{
	uint8_t *mode = g->reply.bytes + GPU_HEADER; /* the first of 16, of 24 bytes: rectangle, enabled, flags */

	(void)c;
	le32_put(mode + 8, g->width);
	le32_put(mode + 12, g->height);
	le32_put(mode + 16, 1);
	g->reply.len = GPU_HEADER + 16 * 24;
	return OK_DISPLAY_INFO;
}

static uint32_t get_edid(struct gpu_2d *g, const struct command *c)
{
	uint8_t *body = g->reply.bytes + GPU_HEADER;

	if (word(c, 24) != 0)
		return ERR_SCANOUT;
	le32_put(body, EDID_SIZE);
	memcpy(body + 8, g->edid, EDID_SIZE);
	g->reply.len = GPU_REPLY_MAX;
	return OK_EDID;
}

/* -- Commands ------------------------------------------------------------------------------------ */

static const struct {
	uint16_t type, len; /* with the header */
	bool cursor;        /* comes by that queue */
	uint32_t (*execute)(struct gpu_2d *g, const struct command *c);
} commands[] = {
	{GET_DISPLAY_INFO, 24, false, display_info},
	{RESOURCE_CREATE_2D, 40, false, create},
	{RESOURCE_UNREF, 32, false, unref},
	{SET_SCANOUT, 48, false, set_scanout},
	{RESOURCE_FLUSH, 48, false, flush},
	{TRANSFER_TO_HOST_2D, 56, false, transfer},
	{ATTACH_BACKING, 32, false, attach},
	{DETACH_BACKING, 32, false, detach_backing},
	{GET_EDID, 32, false, get_edid},
	{UPDATE_CURSOR, 56, true, update_cursor},
	{MOVE_CURSOR, 56, true, move_cursor},
};

static uint32_t execute(struct gpu_2d *g, const struct command *c, uint64_t len, bool cursor)
{
	for (unsigned i = 0; i < ARRAY_SIZE(commands); i++)
		if (commands[i].type == word(c, 0) && commands[i].cursor == cursor)
			return len < commands[i].len ? (uint32_t)ERR_PARAMETER : commands[i].execute(g, c);
	return ERR_UNSPEC;
}

void gpu_command(struct gpu_2d *g, const struct iovec *iov, unsigned n, bool cursor)
{
	struct command c = {.iov = iov, .n = n};
	uint64_t len = iov_gather(iov, n, c.bytes, sizeof(c.bytes));

	memset(g->reply.bytes, 0, sizeof(g->reply.bytes));
	g->reply.len = GPU_HEADER;
	le32_put(g->reply.bytes, execute(g, &c, len, cursor));
	if (!(word(&c, 4) & FLAG_FENCE))
		return;
	le32_put(g->reply.bytes + 4, FLAG_FENCE);
	memcpy(g->reply.bytes + 8, c.bytes + 8, 12); /* fence and context */
}

/* -- Life ------------------------------------------------------------------------------------------ */

void gpu_resize(struct gpu_2d *g, unsigned width, unsigned height)
{
	g->width = width;
	g->height = height;
	edid_make(g->edid, width, height);
}

void gpu_reset(struct gpu_2d *g)
{
	for (unsigned i = 0; g->forget && i < g->n_resources; i++)
		g->forget(g->ctx, g->store + g->resources[i].at, size_of(&g->resources[i]));
	g->n_resources = g->n_entries = 0;
	g->scene = (struct gpu_scene){.active = false};
}

static bool is_sound(struct gpu_2d *g)
{
	uint64_t end = 0;

	for (unsigned i = 0; i < g->n_resources; i++) {
		const struct gpu_resource *r = &g->resources[i];

		if (!r->id || find(g, r->id) != r || !gpu_format(r->format) || !r->width || !r->height || r->width > GPU_SIDE_MAX ||
		    r->height > GPU_SIDE_MAX || !has_bounds(r) || r->at % PAGE || r->at < end || r->at > g->store_size ||
		    size_of(r) > g->store_size - r->at)
			return false;
		end = r->at + size_of(r);
	}
	return true;
}

const char *gpu_loaded(struct gpu_2d *g)
{
	const struct gpu_scene *s = &g->scene;
	const struct gpu_resource *r;

	if (!is_sound(g))
		return "a picture is not where it can be";
	if (!index_entries(g))
		return "a picture's memory is not all together";
	r = find(g, s->scanout);
	if (s->scanout && (!r || !is_in(&s->rect, r)))
		return "what is shown is no picture";
	if (s->rect.width > SURFACE_WIDTH_MAX || s->rect.height > SURFACE_HEIGHT_MAX || (s->active && !(s->rect.width && s->rect.height)))
		return "what is shown is too large, or nothing";
	r = find(g, s->cursor);
	if (s->cursor && (!r || r->width != GPU_CURSOR || r->height != GPU_CURSOR))
		return "its cursor is no picture";
	return NULL;
}

static struct gpu_picture picture(const struct gpu_2d *g, uint32_t id)
{
	const struct gpu_resource *r = find((struct gpu_2d *)(uintptr_t)g, id);

	if (!r)
		return (struct gpu_picture){.format = NULL};
	return (struct gpu_picture){gpu_format(r->format), g->store + r->at, r->width, r->height};
}

struct gpu_shot gpu_look(const struct gpu_2d *g)
{
	return (struct gpu_shot){g->scene, picture(g, g->scene.scanout), picture(g, g->scene.cursor)};
}

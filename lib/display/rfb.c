/* SPDX-License-Identifier: MIT */
/*
 * See rfb.h. What a viewer sends is read in pieces whose length is known before, and the longest is 20 bytes: what is longer, a list of
 * encodings and a clipboard's text, is taken piece by piece, or passed over. So a viewer has no buffer of ours to fill.
 *
 * An update is a head that says how many rectangles there are, and then these; their number is given before the first is made. They are
 * made when there is room, from the screen as it is then. If that has become smaller meanwhile the rest is black, and the next update says
 * how large it is now.
 */
#include "display/rfb.h"

#include "base/bytes.h"
#include "base/err.h"
#include "base/macros.h"
#include "display/keys.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define OUT_MAX  65536u
#define TILE_MAX 20480u /* of a tile's rectangle, whatever is on it: 16 KiB of pixels, and what zlib adds */
#define PIXELS   (RFB_TILE * RFB_TILE)
#define NAME_LEN 64u
#define FEW      16u    /* colours on a tile that has a palette */

enum { SECURITY_NONE = 1, SECURITY_VNC = 2 };
enum { RAW = 0, ZRLE = 16, DESKTOP_SIZE = -223, QEMU_KEYS = -258, EXTENDED_SIZE = -308 };
enum { SET_FORMAT = 0, SET_ENCODINGS = 2, ASK_UPDATE = 3, KEY = 4, POINTER = 5, CUT_TEXT = 6, SET_SIZE = 251, QEMU = 255 };

/* Who has asked for a size, and what became of it: EXTENDED_SIZE's x and y. */
enum { ASKED_BY_NOBODY = 0, ASKED_BY_VIEWER = 1 };
enum { SIZE_FINE = 0, SIZE_PROHIBITED = 1, SIZE_NONE = 3, SIZE_FORWARDED = 4 };

/* What comes next from the viewer, and how long that is. */
enum stage { VERSION, SECURITY, RESPONSE, INIT, MESSAGE, BODY, ENCODING, STAGES };

static const uint8_t stage_bytes[STAGES] = {
	[VERSION] = 12, [SECURITY] = 1, [RESPONSE] = RFB_CHALLENGE, [INIT] = 1, [MESSAGE] = 1, [ENCODING] = 4,
};

/* Of a message, behind its first byte. */
static const struct {
	uint8_t type, bytes;
} bodies[] = {
	{SET_FORMAT, 19}, {SET_ENCODINGS, 3}, {ASK_UPDATE, 9}, {KEY, 7}, {POINTER, 5}, {CUT_TEXT, 7}, {SET_SIZE, 7}, {QEMU, 11},
};

struct format {
	uint8_t bits;     /* of a pixel; */
	uint8_t depth;    /* those that are used, as the viewer says */
	bool big;
	uint16_t max[3];  /* red, green, blue */
	uint8_t shift[3];
	uint8_t packed;   /* bytes of one in ZRLE: three of four, if the fourth is nothing */
	uint8_t skip;     /* and which one comes first */
};

struct rfb {
	struct rfb_config config;
	enum stage stage;
	unsigned minor;   /* version 3.minor */
	uint8_t type;     /* of the message whose BODY comes */
	uint8_t in[20];
	unsigned n_in, need;
	uint64_t pass;    /* so many bytes are nothing to us */
	unsigned encodings; /* as many more come */
	uint8_t answer[RFB_CHALLENGE];

	struct format format;
	bool zrle, resizes, extended, qemu_keys; /* it understands */
	bool owes_qemu_keys;  /* it has not been told that we do */
	bool owes_size;       /* nor what became of what it asked for: */
	uint8_t asked_by, status;
	bool in_now, over;    /* it has passed the handshake; it has to go */
	bool wants;           /* an update */
	uint32_t width, height; /* as it was told */
	struct rfb_tiles damage, sending; /* to be sent; of the update that is under way */
	z_stream z;

	uint8_t out[OUT_MAX];
	size_t out_at, n_out;
};

/* -- Tiles ---------------------------------------------------------------------------- */

static uint32_t tiles(uint32_t pixels)
{
	return (pixels + RFB_TILE - 1) / RFB_TILE;
}

static uint64_t bits(uint32_t n)
{
	return n >= 64 ? UINT64_MAX : (UINT64_C(1) << n) - 1;
}

static struct rfb_tiles all_tiles(uint32_t width, uint32_t height)
{
	struct rfb_tiles all = {{0}};

	for (uint32_t y = 0; y < tiles(height); y++)
		all.row[y] = bits(tiles(width));
	return all;
}

static unsigned count_tiles(const struct rfb_tiles *t)
{
	unsigned n = 0;

	for (unsigned y = 0; y < RFB_ROWS; y++)
		n += (unsigned)__builtin_popcountll(t->row[y]);
	return n;
}

static uint32_t least(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

static bool take_changes(struct surface *seen, const struct surface *now, uint32_t column, uint32_t y)
{
	uint32_t x = column * RFB_TILE, n = least(RFB_TILE, now->width - x);
	uint32_t *to = surface_row(seen, y) + x;
	const uint32_t *from = surface_row(now, y) + x;

	if (memcmp(to, from, n * sizeof(*to)) == 0)
		return false;
	memcpy(to, from, n * sizeof(*to));
	return true;
}

bool rfb_compare(struct surface *seen, const struct surface *now, struct rfb_tiles *changed)
{
	bool any = false;

	if (seen->width != now->width || seen->height != now->height) {
		seen->width = now->width;
		seen->height = now->height;
		memcpy(seen->pixels, now->pixels, (size_t)now->width * now->height * sizeof(*now->pixels));
		*changed = all_tiles(now->width, now->height);
		return true;
	}
	*changed = (struct rfb_tiles){{0}};
	for (uint32_t y = 0; y < now->height; y++)
		for (uint32_t column = 0; column < tiles(now->width); column++)
			if (take_changes(seen, now, column, y)) {
				changed->row[y / RFB_TILE] |= UINT64_C(1) << column;
				any = true;
			}
	return any;
}

/* -- Output ------------------------------------------------------------------------------ */

static uint8_t *end_of_output(struct rfb *v)
{
	return v->out + v->out_at + v->n_out;
}

/* Handshakes are short, updates look for room: it is there. */
static void put(struct rfb *v, const void *bytes, size_t n)
{
	if (v->out_at + v->n_out + n > OUT_MAX)
		abort();
	memcpy(end_of_output(v), bytes, n);
	v->n_out += n;
}

static void put8(struct rfb *v, uint8_t n)
{
	put(v, &n, 1);
}

static void put16(struct rfb *v, uint32_t n)
{
	uint8_t bytes[2] = {(uint8_t)(n >> 8), (uint8_t)n};

	put(v, bytes, sizeof(bytes));
}

static void put32(struct rfb *v, uint32_t n)
{
	put16(v, n >> 16);
	put16(v, n);
}

static void put_rectangle(struct rfb *v, uint32_t x, uint32_t y, uint32_t width, uint32_t height, int encoding)
{
	put16(v, x);
	put16(v, y);
	put16(v, width);
	put16(v, height);
	put32(v, (uint32_t)encoding);
}

/* -- Pixels -------------------------------------------------------------------------------- */

static const struct format our_format = {
	.bits = 32, .depth = 24, .max = {255, 255, 255}, .shift = {16, 8, 0}, .packed = 3,
};

static uint32_t convert(const struct format *f, uint32_t pixel)
{
	uint32_t value = 0;

	for (unsigned i = 0; i < 3; i++)
		value |= ((pixel >> (16 - 8 * i) & 255) * f->max[i] + 127) / 255 << f->shift[i];
	return value;
}

/* `n` bytes of it, from `skip` on. */
static uint8_t *put_pixel(const struct format *f, uint8_t *to, uint32_t pixel, unsigned skip, unsigned n)
{
	uint32_t value = convert(f, pixel);
	unsigned bytes = f->bits / 8u;

	for (unsigned i = skip; i < skip + n; i++)
		*to++ = (uint8_t)(value >> 8 * (f->big ? bytes - 1 - i : i));
	return to;
}

/* A tile's pixels: what is not on the screen any more is black. */
struct tile {
	uint32_t x, y, width, height;
	uint32_t pixels[PIXELS];
};

static void read_tile(const struct rfb *v, struct tile *t)
{
	const struct surface *s = v->config.screen;

	for (uint32_t y = 0; y < t->height; y++)
		for (uint32_t x = 0; x < t->width; x++)
			t->pixels[y * t->width + x] = t->y + y < s->height && t->x + x < s->width ?
				surface_row(s, t->y + y)[t->x + x] : 0;
}

static void put_raw(struct rfb *v, const struct tile *t)
{
	uint8_t *to = end_of_output(v), *begin = to;

	for (uint32_t i = 0; i < t->width * t->height; i++)
		to = put_pixel(&v->format, to, t->pixels[i], 0, v->format.bits / 8u);
	v->n_out += (size_t)(to - begin);
}

/* -- ZRLE: RFC 6143, 7.7.6 ------------------------------------------------------------------- */

static int find_colour(const uint32_t *palette, unsigned n, uint32_t pixel)
{
	for (unsigned i = 0; i < n; i++)
		if (palette[i] == pixel)
			return (int)i;
	return -1;
}

/* How many colours there are; FEW + 1: more. */
static unsigned find_palette(const struct tile *t, uint32_t palette[FEW])
{
	unsigned n = 0;

	for (uint32_t i = 0; i < t->width * t->height; i++) {
		if (find_colour(palette, n, t->pixels[i]) >= 0)
			continue;
		if (n == FEW)
			return FEW + 1;
		palette[n++] = t->pixels[i];
	}
	return n;
}

static uint8_t *pack_indices(const struct tile *t, const uint32_t *palette, unsigned n, uint8_t *to)
{
	unsigned each = n <= 2 ? 1 : n <= 4 ? 2 : 4;

	for (uint32_t y = 0; y < t->height; y++) {
		unsigned byte = 0, have = 0;

		for (uint32_t x = 0; x < t->width; x++) {
			byte = byte << each | (unsigned)find_colour(palette, n, t->pixels[y * t->width + x]);
			have += each;
			if (have == 8) {
				*to++ = (uint8_t)byte;
				byte = have = 0;
			}
		}
		if (have)
			*to++ = (uint8_t)(byte << (8 - have));
	}
	return to;
}

static uint8_t *put_packed(const struct format *f, uint8_t *to, uint32_t pixel)
{
	return put_pixel(f, to, pixel, f->skip, f->packed);
}

/* One colour, few, or each pixel by itself. */
static size_t pack(const struct rfb *v, const struct tile *t, uint8_t *to)
{
	const struct format *f = &v->format;
	uint32_t palette[FEW];
	unsigned n = find_palette(t, palette);
	uint8_t *begin = to;

	*to++ = (uint8_t)(n > FEW ? 0 : n);
	for (unsigned i = 0; n <= FEW && i < n; i++)
		to = put_packed(f, to, palette[i]);
	if (n > FEW) {
		for (uint32_t i = 0; i < t->width * t->height; i++)
			to = put_packed(f, to, t->pixels[i]);
	} else if (n > 1) {
		to = pack_indices(t, palette, n, to);
	}
	return (size_t)(to - begin);
}

static void put_zrle(struct rfb *v, const struct tile *t)
{
	uint8_t bytes[PIXELS * 4 + 1], *length = end_of_output(v);

	v->z.next_in = bytes;
	v->z.avail_in = (uInt)pack(v, t, bytes);
	v->z.next_out = length + 4;
	v->z.avail_out = TILE_MAX - 16;
	deflate(&v->z, Z_SYNC_FLUSH); /* SAFE: whatever is in the tile, its bytes and a few more find room */
	be32_put(length, (uint32_t)(v->z.next_out - length - 4));
	v->n_out += (size_t)(v->z.next_out - length);
}

/* -- Updates -------------------------------------------------------------------------------- */

static bool is_resized(const struct rfb *v)
{
	return (v->resizes || v->extended) && (v->width != v->config.screen->width || v->height != v->config.screen->height);
}

/* With a list of one monitor, which has all of it. */
static void put_extended_size(struct rfb *v, uint8_t asked_by, uint8_t status)
{
	put_rectangle(v, asked_by, status, v->width, v->height, EXTENDED_SIZE);
	put32(v, 1u << 24);
	put32(v, 0);
	put32(v, 0);
	put16(v, v->width);
	put16(v, v->height);
	put32(v, 0);
}

static void put_size(struct rfb *v)
{
	v->width = v->config.screen->width;
	v->height = v->config.screen->height;
	v->damage = all_tiles(v->width, v->height);
	if (v->extended)
		put_extended_size(v, ASKED_BY_NOBODY, SIZE_FINE);
	else
		put_rectangle(v, 0, 0, v->width, v->height, DESKTOP_SIZE);
}

static void begin_update(struct rfb *v)
{
	bool resized = is_resized(v);
	struct rfb_tiles shown;
	unsigned n;

	if (resized) /* its tiles are those of the new size */
		v->damage = all_tiles(v->config.screen->width, v->config.screen->height);
	shown = resized ? v->damage : all_tiles(v->width, v->height);
	for (unsigned y = 0; y < RFB_ROWS; y++)
		v->damage.row[y] &= shown.row[y];
	n = count_tiles(&v->damage) + resized + v->owes_qemu_keys + v->owes_size;
	if (!n)
		return;
	put16(v, 0); /* FramebufferUpdate */
	put16(v, n);
	if (v->owes_qemu_keys)
		put_rectangle(v, 0, 0, v->width, v->height, QEMU_KEYS);
	if (v->owes_size)
		put_extended_size(v, v->asked_by, v->status);
	if (resized)
		put_size(v);
	v->owes_qemu_keys = v->owes_size = v->wants = false;
	v->sending = v->damage;
	v->damage = (struct rfb_tiles){{0}};
}

static bool next_tile(struct rfb *v, struct tile *t)
{
	for (uint32_t y = 0; y < RFB_ROWS; y++) {
		uint32_t x;

		if (!v->sending.row[y])
			continue;
		x = (uint32_t)__builtin_ctzll(v->sending.row[y]);
		v->sending.row[y] &= v->sending.row[y] - 1;
		t->x = x * RFB_TILE;
		t->y = y * RFB_TILE;
		t->width = least(RFB_TILE, v->width - t->x);
		t->height = least(RFB_TILE, v->height - t->y);
		return true;
	}
	return false;
}

static void go_on_updating(struct rfb *v)
{
	struct tile t;

	while (v->out_at + v->n_out + TILE_MAX <= OUT_MAX && next_tile(v, &t)) {
		read_tile(v, &t);
		put_rectangle(v, t.x, t.y, t.width, t.height, v->zrle ? ZRLE : RAW);
		if (v->zrle)
			put_zrle(v, &t);
		else
			put_raw(v, &t);
	}
}

void rfb_damage(struct rfb *v, const struct rfb_tiles *tiles_)
{
	for (unsigned y = 0; y < RFB_ROWS; y++)
		v->damage.row[y] |= tiles_->row[y];
}

bool rfb_is_in(const struct rfb *v)
{
	return v->in_now && !v->over;
}

bool rfb_waits(const struct rfb *v)
{
	return v->in_now && v->wants && !v->n_out;
}

size_t rfb_output(struct rfb *v, const uint8_t **bytes)
{
	if (!v->n_out && v->in_now && !count_tiles(&v->sending) && v->wants)
		begin_update(v);
	if (!v->over)
		go_on_updating(v);
	*bytes = v->out + v->out_at;
	return v->n_out;
}

void rfb_sent(struct rfb *v, size_t n)
{
	v->n_out -= n;
	v->out_at = v->n_out ? v->out_at + n : 0;
}

bool rfb_is_over(const struct rfb *v)
{
	return v->over && !v->n_out;
}

/* -- The handshake ------------------------------------------------------------------------------ */

static void expect(struct rfb *v, enum stage stage, unsigned bytes)
{
	v->stage = stage;
	v->need = bytes;
	v->n_in = 0;
}

static void next(struct rfb *v, enum stage stage)
{
	expect(v, stage, stage_bytes[stage]);
}

static uint8_t security(const struct rfb *v)
{
	return v->config.challenge ? SECURITY_VNC : SECURITY_NONE;
}

static void begin_security(struct rfb *v)
{
	uint8_t challenge[RFB_CHALLENGE];

	if (!v->config.challenge) {
		if (v->minor >= 8)
			put32(v, 0); /* fine */
		next(v, INIT);
		return;
	}
	v->config.challenge(v->config.ctx, challenge, v->answer);
	put(v, challenge, sizeof(challenge));
	next(v, RESPONSE);
}

/* Of what others say that is not on the list of RFC 6143, most is 3.3. */
static int take_version(struct rfb *v, struct err *err)
{
	unsigned minor;

	if (memcmp(v->in, "RFB 003.", 8) != 0 || v->in[11] != '\n')
		return err_set(err, EPROTO, "it does not speak RFB 3");
	minor = (unsigned)(v->in[8] - '0') * 100 + (unsigned)(v->in[9] - '0') * 10 + (unsigned)(v->in[10] - '0');
	v->minor = minor >= 8 && minor < 1000 ? 8 : minor == 7 ? 7 : 3;
	if (v->minor == 3) {
		put32(v, security(v));
		begin_security(v);
		return 0;
	}
	put8(v, 1);
	put8(v, security(v));
	next(v, SECURITY);
	return 0;
}

/* What was not offered is not taken, least of all "none". */
static int take_security(struct rfb *v, struct err *err)
{
	if (v->in[0] != security(v))
		return err_set(err, EACCES, "it wants security of type %u, which was not offered", v->in[0]);
	begin_security(v);
	return 0;
}

/* As long for any answer. */
static bool is_right(const struct rfb *v)
{
	uint8_t differ = 0;

	for (unsigned i = 0; i < RFB_CHALLENGE; i++)
		differ |= (uint8_t)(v->in[i] ^ v->answer[i]);
	return !differ;
}

static int take_response(struct rfb *v, struct err *err)
{
	static const char why[] = "the password is wrong";

	if (is_right(v)) {
		put32(v, 0);
		next(v, INIT);
		return 0;
	}
	put32(v, 1);
	if (v->minor >= 8) {
		put32(v, sizeof(why) - 1);
		put(v, why, sizeof(why) - 1);
	}
	return err_set(err, EACCES, "%s", why);
}

static void put_format(struct rfb *v)
{
	const struct format *f = &our_format;

	put8(v, f->bits);
	put8(v, f->depth);
	put8(v, f->big);
	put8(v, 1);  /* true colour */
	for (unsigned i = 0; i < 3; i++)
		put16(v, f->max[i]);
	for (unsigned i = 0; i < 3; i++)
		put8(v, f->shift[i]);
	put(v, "\0\0", 3);
}

static void init(struct rfb *v)
{
	uint32_t n = (uint32_t)strnlen(v->config.name, NAME_LEN);

	v->width = v->config.screen->width;
	v->height = v->config.screen->height;
	put16(v, v->width);
	put16(v, v->height);
	put_format(v);
	put32(v, n);
	put(v, v->config.name, n);
	v->in_now = true;
	next(v, MESSAGE);
}

/* -- Messages ----------------------------------------------------------------------------------- */

/* In ZRLE a pixel of 32 bits has three bytes, if its colours are in the three lower or the three upper ones. */
static void find_packing(struct format *f)
{
	uint32_t used = 0;
	bool low, high;

	for (unsigned i = 0; i < 3; i++)
		used |= (uint32_t)f->max[i] << f->shift[i];
	low = !(used & 0xff000000);
	high = !(used & 0x000000ff);
	f->packed = f->bits / 8u;
	f->skip = 0;
	if (f->bits == 32 && f->depth <= 24 && (low || high)) {
		f->packed = 3;
		f->skip = low == f->big; /* the byte that is nothing is the first one as it is sent */
	}
}

static bool is_max(uint16_t max)
{
	return max && max <= 255 && !(max & (max + 1));
}

static int set_format(struct rfb *v, struct err *err)
{
	const uint8_t *p = v->in + 3; /* behind padding */
	struct format f = {.bits = p[0], .depth = p[1], .big = p[2]};

	if (f.bits != 8 && f.bits != 16 && f.bits != 32)
		return err_set(err, EPROTO, "it wants pixels of %u bits", f.bits);
	if (!p[3])
		return err_set(err, EPROTO, "it wants a palette");
	for (unsigned i = 0; i < 3; i++) {
		f.max[i] = (uint16_t)(p[4 + 2 * i] << 8 | p[5 + 2 * i]);
		f.shift[i] = p[10 + i];
		if (!is_max(f.max[i]) || f.shift[i] >= f.bits || (uint64_t)f.max[i] << f.shift[i] >> f.bits)
			return err_set(err, EPROTO, "it wants pixels of %u bits with a colour of %u << %u", f.bits, f.max[i],
				       f.shift[i]);
	}
	find_packing(&f);
	v->format = f;
	return 0;
}

static void owe_size(struct rfb *v, uint8_t asked_by, uint8_t status)
{
	v->owes_size = true;
	v->asked_by = asked_by;
	v->status = status;
}

static void set_encoding(struct rfb *v, int encoding)
{
	switch (encoding) {
	case ZRLE:
		v->zrle = true;
		break;
	case DESKTOP_SIZE:
		v->resizes = true;
		break;
	case EXTENDED_SIZE: /* that there is a first one says that we have it */
		if (!v->extended)
			owe_size(v, ASKED_BY_NOBODY, SIZE_FINE);
		v->extended = true;
		break;
	case QEMU_KEYS:
		v->owes_qemu_keys |= !v->qemu_keys;
		v->qemu_keys = true;
		break;
	}
}

/* Where its monitors are to be on it is passed over: there is one. */
static void take_size(struct rfb *v)
{
	uint16_t width = be16_get(v->in + 1), height = be16_get(v->in + 3);
	uint8_t status = SIZE_NONE;

	v->pass = v->in[5] * 16u;
	if (!v->extended)
		return;
	if (width && height && width <= SURFACE_WIDTH_MAX && height <= SURFACE_HEIGHT_MAX)
		status = v->config.resize && v->config.resize(v->config.ctx, width, height) ? SIZE_FORWARDED : SIZE_PROHIBITED;
	owe_size(v, ASKED_BY_VIEWER, status);
}

/* All of the area again, if it has lost what it had. */
static void ask_update(struct rfb *v)
{
	uint32_t x = be16_get(v->in + 1), y = be16_get(v->in + 3), width = be16_get(v->in + 5), height = be16_get(v->in + 7);
	uint32_t right = least(x + width, v->width), bottom = least(y + height, v->height);

	v->wants = true;
	if (v->in[0])
		return;
	for (uint32_t row = y / RFB_TILE; y < bottom && row < tiles(bottom); row++)
		if (x < right)
			v->damage.row[row] |= bits(tiles(right)) & ~bits(x / RFB_TILE);
}

static void press(struct rfb *v, uint8_t key, bool down)
{
	if (key)
		v->config.key(v->config.ctx, key, down);
}

/* A key's number on the first PC, and 0xe0 before it, in this or that way. */
static void take_qemu_key(struct rfb *v)
{
	uint32_t code = be32_get(v->in + 7);

	if (v->in[0] == 0 && code < 0x100)
		press(v, (uint8_t)code, be16_get(v->in + 1));
	else if (v->in[0] == 0 && code >> 8 == 0xe0)
		press(v, (uint8_t)code | 0x80, be16_get(v->in + 1));
}

static int take_body(struct rfb *v, struct err *err)
{
	next(v, MESSAGE);
	switch (v->type) {
	case SET_FORMAT:
		return set_format(v, err);
	case SET_ENCODINGS:
		v->encodings = be16_get(v->in + 1);
		v->zrle = v->resizes = false; /* of the others it has been told, and they stay */
		if (v->encodings)
			next(v, ENCODING);
		return 0;
	case ASK_UPDATE:
		ask_update(v);
		return 0;
	case KEY:
		press(v, keys_of_symbol(be32_get(v->in + 3)), v->in[0]);
		return 0;
	case POINTER:
		v->config.pointer(v->config.ctx, &(struct rfb_pointer){
			.x = be16_get(v->in + 1), .y = be16_get(v->in + 3), .width = (uint16_t)v->width,
			.height = (uint16_t)v->height, .buttons = v->in[0]});
		return 0;
	case CUT_TEXT:
		v->pass = be32_get(v->in + 3);
		return 0;
	case SET_SIZE:
		take_size(v);
		return 0;
	case QEMU:
		take_qemu_key(v);
		return 0;
	}
	return err_set(err, EPROTO, "it sends a message of type %u", v->type);
}

static int take_message(struct rfb *v, struct err *err)
{
	v->type = v->in[0];
	for (unsigned i = 0; i < ARRAY_SIZE(bodies); i++)
		if (bodies[i].type == v->type) {
			expect(v, BODY, bodies[i].bytes);
			return 0;
		}
	return err_set(err, EPROTO, "it sends a message of type %u", v->type);
}

static int take(struct rfb *v, struct err *err)
{
	switch (v->stage) {
	case VERSION:
		return take_version(v, err);
	case SECURITY:
		return take_security(v, err);
	case RESPONSE:
		return take_response(v, err);
	case INIT: /* whether it would be alone: it is not */
		init(v);
		return 0;
	case MESSAGE:
		return take_message(v, err);
	case BODY:
		return take_body(v, err);
	default:
		set_encoding(v, (int)be32_get(v->in));
		next(v, --v->encodings ? ENCODING : MESSAGE);
		return 0;
	}
}

int rfb_input(struct rfb *v, const uint8_t *bytes, size_t n, struct err *err)
{
	int rc = 0;

	while (n && rc == 0 && !v->over) {
		size_t some = v->pass ? (v->pass < n ? (size_t)v->pass : n) : least((uint32_t)n, v->need - v->n_in);

		if (v->pass) {
			v->pass -= some;
		} else {
			memcpy(v->in + v->n_in, bytes, some);
			v->n_in += (unsigned)some;
		}
		bytes += some;
		n -= some;
		if (v->n_in == v->need)
			rc = take(v, err);
	}
	v->over |= rc < 0;
	return rc;
}

/* -- Making ----------------------------------------------------------------------------------------- */

struct rfb *rfb_open(const struct rfb_config *config)
{
	struct rfb *v = calloc(1, sizeof(*v));

	if (!v)
		return NULL;
	v->config = *config;
	v->format = our_format;
	if (deflateInit(&v->z, Z_BEST_SPEED) != Z_OK) {
		free(v);
		return NULL;
	}
	put(v, "RFB 003.008\n", 12);
	next(v, VERSION);
	return v;
}

void rfb_close(struct rfb *v)
{
	if (!v)
		return;
	deflateEnd(&v->z);
	free(v);
}

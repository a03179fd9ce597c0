/* SPDX-License-Identifier: MIT */
/*
 * Pictures as files, keys by name, and a VNC viewer of our own at the other end of rfb.c: it decodes what it gets by a decoder that is only
 * here, and has then what is on the screen.
 */
#include "base/bytes.h"
#include "base/err.h"
#include "display/keys.h"
#include "display/png.h"
#include "display/rfb.h"
#include "tests/tap.h"

#include <errno.h>
#include <zlib.h>

static uint32_t draw_random(void)
{
	static uint64_t state = 1;

	state = state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(state >> 33);
}

/* -- PNG ------------------------------------------------------------------------------- */

static unsigned count_wrong(const struct surface *s, const uint8_t *rows)
{
	unsigned wrong = 0, pitch = s->width * 3 + 1;
	uint8_t before[3 * 100] = {0};

	for (unsigned y = 0; y < s->height; y++)
		for (unsigned i = 0; i < s->width * 3; i++) {
			before[i] = (uint8_t)(before[i] + rows[y * pitch + 1 + i]);
			wrong += before[i] != (uint8_t)(surface_row(s, y)[i / 3] >> (16 - i % 3 * 8));
		}
	return wrong;
}

static void test_png(void)
{
	static uint32_t pixels[100 * 70];
	static uint8_t rows[70 * 301];
	struct surface s = {.width = 100, .height = 70, .pixels = pixels, .room = 7000};
	uLongf n = sizeof(rows);
	char *file;
	size_t len;
	FILE *out = open_memstream(&file, &len);
	const uint8_t *p;
	uint32_t packed;

	for (unsigned i = 0; i < 7000; i++)
		pixels[i] = draw_random() & (i < 3000 ? 0xffffff : 0x0f0000);
	is_int(png_write(out, &s, NULL), 0, "a picture is written");
	fclose(out);
	p = (const uint8_t *)file;
	ok(memcmp(p, "\x89PNG\r\n\x1a\n\0\0\0\rIHDR", 16) == 0 && be32_get(p + 16) == 100 && be32_get(p + 20) == 70 &&
	   memcmp(p + 24, "\x08\2\0\0\0", 5) == 0, "its header");
	is_int(be32_get(p + 29), crc32(0, p + 12, 17), "the header's sum");
	packed = be32_get(p + 33);
	ok(memcmp(p + 37, "IDAT", 4) == 0 && uncompress(rows, &n, p + 41, packed) == Z_OK && n == sizeof(rows), "its rows");
	is_int(be32_get(p + 41 + packed), crc32(0, p + 37, packed + 4), "their sum");
	is_int(count_wrong(&s, rows), 0, "are the picture");
	ok(len == 41 + packed + 4 + 12 && memcmp(p + len - 12, "\0\0\0\0IEND\xae\x42\x60\x82", 12) == 0, "its end");
	free(file);
}

/* -- Keys -------------------------------------------------------------------------------- */

static void test_keys(void)
{
	uint8_t keys[KEYS_AT_ONCE];
	struct err err = {0};

	is_int(keys_parse("ctrl-alt-del", keys, &err), 3, "three keys");
	ok(keys[0] == 0x1d && keys[1] == 0x38 && keys[2] == 0xd3, "are those");
	is_int(keys_parse("a", keys, &err), 1, "one");
	is_int(keys[0], 0x1e, "is A");
	is_int(keys_parse("ctrl-delte", keys, &err), -ERANGE, "a word that is none");
	is_str(err.text, "there is no key 'delte': did you mean delete?", "a sentence");
	is_int(keys_parse("", keys, &err), -ERANGE, "no key");
	is_int(keys_parse("ctrl-", keys, &err), -ERANGE, "one is missing");
	is_int(keys_parse("a-b-c-d-e-f-g-h-i", keys, &err), -ERANGE, "too many");
	is_str(err.text, "more than 8 keys at once", "a sentence");
	is_int(keys_of_symbol('A'), 0x1e, "the key that has an A");
	is_int(keys_of_symbol(0xffff), 0xd3, "delete");
	is_int(keys_of_symbol(0x1234), 0, "what is on no key");
	is_int(keys_of_name("ret"), 0x1c, "the key of a name");
	is_int(keys_of_name("enter"), 0, "which is QEMU's");
	is_str(keys_name(0), "esc", "the first name");
	for (unsigned i = 0; keys_name(i); i++)
		if (!keys_of_name(keys_name(i)))
			ok(false, "the key %s", keys_name(i));
}

/* -- A viewer ------------------------------------------------------------------------------ */

#define W 200u
#define H 150u
#define BIG 300u

static uint32_t screen_pixels[BIG * BIG], got[BIG * BIG];
static struct surface screen = {.width = W, .height = H, .pixels = screen_pixels, .room = BIG * BIG};
static uint8_t stream[1 << 21];
static size_t n_stream, at;
static unsigned keys_down, keys_up, last_key, pointer_x, pointer_y, pointer_buttons, pointer_of;
static z_stream inflater;
static bool raw_seen, zrle_seen, keys_told;
static unsigned got_width, got_height, tiles_seen[3]; /* one colour, few, many */
static struct err why;

static void on_key(void *ctx, uint8_t key, bool down)
{
	(void)ctx;
	last_key = key;
	keys_down += down;
	keys_up += !down;
}

static void on_pointer(void *ctx, const struct rfb_pointer *p)
{
	(void)ctx;
	pointer_x = p->x;
	pointer_y = p->y;
	pointer_buttons = p->buttons;
	pointer_of = p->width;
}

static void challenge(void *ctx, uint8_t question[RFB_CHALLENGE], uint8_t answer[RFB_CHALLENGE])
{
	(void)ctx;
	memset(question, 0x11, RFB_CHALLENGE);
	memset(answer, 0x22, RFB_CHALLENGE);
}

static struct rfb *open_viewer(bool password)
{
	struct rfb *v = rfb_open(&(struct rfb_config){
		.name = "a guest", .screen = &screen, .challenge = password ? challenge : NULL, .key = on_key, .pointer = on_pointer,
	});

	n_stream = at = 0;
	inflateEnd(&inflater);
	memset(&inflater, 0, sizeof(inflater));
	inflateInit(&inflater);
	return v;
}

/* Byte by byte, as a network may bring it. */
static int say(struct rfb *v, const void *bytes, size_t n)
{
	int rc = 0;

	for (size_t i = 0; i < n && rc == 0; i++)
		rc = rfb_input(v, (const uint8_t *)bytes + i, 1, &why);
	return rc;
}

/* What it has to say, in pieces of any size. */
static void hear(struct rfb *v)
{
	const uint8_t *bytes;
	size_t n;

	while ((n = rfb_output(v, &bytes))) {
		n = n > 1000 ? draw_random() % n + 1 : n;
		if (n_stream + n > sizeof(stream))
			n_stream = at = 0;
		memcpy(stream + n_stream, bytes, n);
		n_stream += n;
		rfb_sent(v, n);
	}
}

static bool hears(const void *bytes, size_t n)
{
	bool same = n_stream - at >= n && memcmp(stream + at, bytes, n) == 0;

	at += n;
	return same;
}

static const uint8_t server_init[] = {0, W, 0, H, 32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0,
				      0, 0, 0, 7, 'a', ' ', 'g', 'u', 'e', 's', 't'};

static struct rfb *log_in(void)
{
	struct rfb *v = open_viewer(false);

	say(v, "RFB 003.008\n\1\1", 14);
	hear(v);
	at = n_stream;
	return v;
}

static void test_handshake(void)
{
	struct rfb *v = open_viewer(false);

	is_int(say(v, "RFB 003.008\n\1\1", 14), 0, "3.8, nothing asked");
	hear(v);
	ok(hears("RFB 003.008\n\1\1\0\0\0\0", 18) && hears(server_init, sizeof(server_init)), "is answered");
	ok(rfb_is_in(v), "and is in");
	rfb_close(v);

	v = open_viewer(false);
	say(v, "RFB 003.007\n\1\1", 14);
	hear(v);
	ok(hears("RFB 003.008\n\1\1", 14) && hears(server_init, sizeof(server_init)), "3.7");
	rfb_close(v);

	v = open_viewer(false);
	say(v, "RFB 003.003\n\1", 13);
	hear(v);
	ok(hears("RFB 003.008\n\0\0\0\1", 16) && hears(server_init, sizeof(server_init)), "3.3");
	rfb_close(v);

	v = open_viewer(true);
	say(v, "RFB 003.008\n\2\x22\x22\x22\x22\x22\x22\x22\x22\x22\x22\x22\x22\x22\x22\x22\x22\1", 30);
	hear(v);
	ok(hears("RFB 003.008\n\1\2\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\x11\0\0\0\0", 34) &&
	   hears(server_init, sizeof(server_init)), "with the password");
	rfb_close(v);

	v = open_viewer(true);
	is_int(say(v, "RFB 003.008\n\2\x22\x22\x22\x22\x22\x22\x22\x22\x22\x22\x22\x22\x22\x22\x22\x21\1", 30), -EACCES, "with another one");
	ok(!rfb_is_over(v), "it hears why");
	hear(v);
	ok(n_stream > 50 && memcmp(stream + n_stream - 21, "the password is wrong", 21) == 0, "and then");
	ok(rfb_is_over(v) && !rfb_is_in(v), "it has to go");
	rfb_close(v);

	v = open_viewer(true);
	is_int(say(v, "RFB 003.008\n\1\1", 14), -EACCES, "who chooses to need none where there is one (CVE-2006-2369)");
	is_str(why.text, "it wants security of type 1, which was not offered", "a sentence");
	ok(!rfb_is_in(v), "is not in");
	rfb_close(v);

	v = open_viewer(false);
	is_int(say(v, "GET / HTTP/1.0\r\n", 16), -EPROTO, "a browser");
	is_str(why.text, "it does not speak RFB 3", "a sentence");
	rfb_close(v);
}

/* -- What it decodes -------------------------------------------------------------------- */

static struct {
	unsigned bits, max[3], shift[3], packed, skip;
	bool big;
} format;

static const void *set_format(unsigned bits, bool big, unsigned r, unsigned g, unsigned b, unsigned rs, unsigned gs, unsigned bs)
{
	static uint8_t m[20];
	const uint8_t bytes[20] = {0, 0, 0, 0, (uint8_t)bits, (uint8_t)(bits == 32 ? 24 : bits), big, 1, (uint8_t)(r >> 8), (uint8_t)r, (uint8_t)(g >> 8),
				   (uint8_t)g, (uint8_t)(b >> 8), (uint8_t)b, (uint8_t)rs, (uint8_t)gs, (uint8_t)bs};

	memcpy(m, bytes, sizeof(m));
	format.bits = bits;
	format.big = big;
	format.max[0] = r, format.max[1] = g, format.max[2] = b;
	format.shift[0] = rs, format.shift[1] = gs, format.shift[2] = bs;
	format.packed = bits == 32 ? 3 : bits / 8;
	format.skip = bits == 32 && (rs < 24 && gs < 24 && bs < 24 && !(rs == 16 && bs == 0 && 0) ? big : !big);
	return m;
}

/* As a viewer has it that has so many bits. */
static uint32_t seen(uint32_t pixel)
{
	uint32_t value = 0;

	for (unsigned i = 0; i < 3; i++)
		value |= ((pixel >> (16 - 8 * i) & 255) * format.max[i] + 127) / 255 << format.shift[i];
	return value;
}

static uint32_t read_pixel(const uint8_t **p, unsigned skip, unsigned n)
{
	uint32_t value = 0;

	for (unsigned i = 0; i < n; i++)
		value |= (uint32_t)*(*p)++ << 8 * (format.big ? format.bits / 8 - 1 - i - skip : i + skip);
	return value;
}

static void decode_raw(unsigned x, unsigned y, unsigned w, unsigned h)
{
	const uint8_t *p = stream + at;

	for (unsigned i = 0; i < w * h; i++)
		got[(y + i / w) * BIG + x + i % w] = read_pixel(&p, 0, format.bits / 8);
	at = (size_t)(p - stream);
	raw_seen = true;
}

static void decode_zrle(unsigned x, unsigned y, unsigned w, unsigned h)
{
	static uint8_t bytes[64 * 64 * 4 + 100];
	uint32_t len = be32_get(stream + at), palette[16];
	const uint8_t *p = bytes;
	unsigned kind, each;

	inflater.next_in = stream + at + 4;
	inflater.avail_in = len;
	inflater.next_out = bytes;
	inflater.avail_out = sizeof(bytes);
	inflate(&inflater, Z_SYNC_FLUSH);
	at += 4 + len;
	kind = *p++;
	for (unsigned i = 0; i < kind && i < 16; i++)
		palette[i] = read_pixel(&p, format.skip, format.packed);
	each = kind <= 2 ? 1 : kind <= 4 ? 2 : 4;
	tiles_seen[kind == 1 ? 0 : kind ? 1 : 2]++;
	for (unsigned row = 0; row < h; row++) {
		for (unsigned i = 0; i < w; i++) {
			uint32_t value = kind == 1 ? palette[0] : kind == 0 ? read_pixel(&p, format.skip, format.packed) :
				palette[p[i * each / 8] >> (8 - each - i * each % 8) & ((1 << each) - 1)];

			got[(y + row) * BIG + x + i] = value;
		}
		if (kind > 1)
			p += (w * each + 7) / 8;
	}
	zrle_seen = true;
	if (p != inflater.next_out)
		got[y * BIG + x] ^= 1; /* it was not all that there was */
}

/* All that waits. False: it makes no sense. */
static bool decode(void)
{
	while (at < n_stream) {
		unsigned n = be16_get(stream + at + 2);

		if (n_stream - at < 4 || stream[at])
			return false;
		at += 4;
		for (; n && at + 12 <= n_stream; n--) {
			const uint8_t *r = stream + at;
			unsigned x = be16_get(r), y = be16_get(r + 2), w = be16_get(r + 4), h = be16_get(r + 6);

			at += 12;
			switch ((int)be32_get(r + 8)) {
			case 0:
				decode_raw(x, y, w, h);
				break;
			case 16:
				decode_zrle(x, y, w, h);
				break;
			case -223:
				got_width = w;
				got_height = h;
				break;
			case -258:
				keys_told = true;
				break;
			default:
				return false;
			}
		}
		if (n)
			return false;
	}
	return at == n_stream;
}

static void ask(struct rfb *v, bool incremental)
{
	const uint8_t m[10] = {3, incremental, 0, 0, 0, 0, 1, 255, 1, 255};

	say(v, m, sizeof(m));
}

static void see(struct rfb *v, bool incremental, const char *what)
{
	unsigned wrong = 0;

	ask(v, incremental);
	hear(v);
	ok(decode(), "%s: an update", what);
	for (unsigned y = 0; y < screen.height; y++)
		for (unsigned x = 0; x < screen.width; x++)
			wrong += got[y * BIG + x] != seen(surface_row(&screen, y)[x]);
	is_int(wrong, 0, "%s: the viewer sees what is there", what);
}

/* Parts of one colour, of few, and of many. */
static void draw(void)
{
	for (unsigned i = 0; i < screen.width * screen.height; i++)
		screen_pixels[i] = i % screen.width < 64 ? 0x123456 : i % screen.width < 128 ?
			0x101010 * (draw_random() % (3 + i / screen.width / 64 * 6)) : draw_random() & 0xffffff;
}

static void test_pictures(void)
{
	static const uint8_t encodings[] = {2, 0, 0, 3, 0, 0, 0, 16, 0xff, 0xff, 0xff, 0x21, 0xff, 0xff, 0xfe, 0xfe};
	static const struct {
		const char *what;
		unsigned bits, big, max[3], shift[3];
	} formats[] = {
		{"32 bits", 32, 0, {255, 255, 255}, {16, 8, 0}}, {"32 bits, big-endian", 32, 1, {255, 255, 255}, {16, 8, 0}},
		{"32 bits, blue first", 32, 0, {255, 255, 255}, {0, 8, 16}}, {"32 bits, the upper ones", 32, 0, {255, 255, 255}, {24, 16, 8}},
		{"32 bits, the upper ones, big-endian", 32, 1, {255, 255, 255}, {24, 16, 8}}, {"16 bits", 16, 0, {31, 63, 31}, {11, 5, 0}},
		{"16 bits, big-endian", 16, 1, {31, 63, 31}, {11, 5, 0}}, {"8 bits", 8, 0, {7, 7, 3}, {0, 3, 6}},
	};
	struct rfb *v = log_in();

	set_format(32, false, 255, 255, 255, 16, 8, 0);
	draw();
	see(v, false, "raw");
	ok(raw_seen && !zrle_seen, "it was raw");
	is_int(say(v, encodings, sizeof(encodings)), 0, "it takes more");
	for (unsigned i = 0; i < sizeof(formats) / sizeof(formats[0]); i++) {
		const unsigned *m = formats[i].max, *s = formats[i].shift;

		say(v, set_format(formats[i].bits, formats[i].big, m[0], m[1], m[2], s[0], s[1], s[2]), 20);
		format.skip = formats[i].bits == 32 && (s[0] == 24 ? !formats[i].big : formats[i].big);
		raw_seen = false;
		draw();
		see(v, false, formats[i].what);
	}
	ok(zrle_seen && !raw_seen, "it was ZRLE");
	ok(tiles_seen[0] && tiles_seen[1] && tiles_seen[2], "of one colour, few and many");
	ok(keys_told, "QEMU's keys are known");
	rfb_close(v);
}

static void test_changes(void)
{
	static uint32_t shown_pixels[BIG * BIG];
	static const uint8_t encodings[] = {2, 0, 0, 2, 0, 0, 0, 16, 0xff, 0xff, 0xff, 0x21};
	struct surface shown = {.pixels = shown_pixels, .room = BIG * BIG, .width = W, .height = H};
	struct rfb_tiles changed;
	struct rfb *v = log_in();
	size_t before;

	set_format(32, false, 255, 255, 255, 16, 8, 0);
	say(v, encodings, sizeof(encodings));
	draw();
	memcpy(shown_pixels, screen_pixels, sizeof(shown_pixels));
	see(v, false, "the whole");
	ask(v, true);
	hear(v);
	ok(at == n_stream && rfb_waits(v), "nothing changes: it waits");
	ok(!rfb_compare(&screen, &shown, &changed), "nothing has");
	shown_pixels[100 * W + 130] ^= 0xff;
	ok(rfb_compare(&screen, &shown, &changed), "something has");
	ok(changed.row[1] == 4 && changed.row[0] == 0 && changed.row[2] == 0, "one tile");
	rfb_damage(v, &changed);
	before = n_stream;
	hear(v);
	ok(n_stream > before && be16_get(stream + before + 2) == 1, "is sent");
	ok(decode() && got[100 * BIG + 130] == screen_pixels[100 * W + 130], "and seen");

	shown.width = 123;
	shown.height = 250;
	for (unsigned i = 0; i < 123 * 250; i++)
		shown_pixels[i] = draw_random() & 0xff;
	rfb_compare(&screen, &shown, &changed);
	rfb_damage(v, &changed);
	see(v, true, "another size");
	ok(got_width == 123 && got_height == 250, "which it was told");
	rfb_close(v);

	/* One that knows of no sizes sees as much as it was told that there is. */
	v = log_in();
	screen.width = 64;
	screen.height = 300;
	ask(v, false);
	hear(v);
	ok(decode(), "one that cannot be resized gets an update");
	is_int(got[200], 0, "black, where the screen is not");
	rfb_close(v);
	screen.width = W;
	screen.height = H;

	/* A screen that becomes smaller while an update is under way. */
	v = log_in();
	say(v, encodings, sizeof(encodings));
	draw();
	ask(v, false);
	{
		const uint8_t *bytes;
		size_t n = rfb_output(v, &bytes);

		memcpy(stream, bytes, n);
		n_stream = n;
		at = 0;
		rfb_sent(v, n);
	}
	screen.width = 10;
	screen.height = 10;
	hear(v);
	ok(decode(), "a screen that becomes smaller under way");
	see(v, true, "then");
	rfb_close(v);
	screen.width = W;
	screen.height = H;
}

static void test_input(void)
{
	static const uint8_t a[] = {4, 1, 0, 0, 0, 0, 0, 'a', 4, 0, 0, 0, 0, 0, 0, 'a'};
	static const uint8_t qemu[] = {255, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0x9d, 255, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xe0, 0x1d};
	static const uint8_t pointer[] = {5, 5, 1, 2, 0, 7};
	static const uint8_t cut[] = {6, 0, 0, 0, 0, 0, 0, 20};
	struct rfb *v = log_in();

	say(v, a, sizeof(a));
	ok(keys_down == 1 && keys_up == 1 && last_key == 0x1e, "a letter");
	say(v, qemu, sizeof(qemu));
	ok(keys_down == 2 && keys_up == 2 && last_key == 0x9d, "a key by its number, in two ways");
	say(v, pointer, sizeof(pointer));
	ok(pointer_x == 258 && pointer_y == 7 && pointer_buttons == 5 && pointer_of == screen.width, "the pointer, and how wide the screen is");
	say(v, cut, sizeof(cut));
	say(v, "\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377", 20);
	say(v, pointer, sizeof(pointer));
	ok(!rfb_is_over(v), "a clipboard is passed over");
	is_int(say(v, "\7", 1), -EPROTO, "what is no message");
	is_str(why.text, "it sends a message of type 7", "a sentence");
	rfb_close(v);
	v = log_in();
	is_int(say(v, set_format(24, false, 255, 255, 255, 16, 8, 0), 20), -EPROTO, "pixels of 24 bits");
	rfb_close(v);
	v = log_in();
	is_int(say(v, set_format(16, false, 255, 255, 255, 16, 8, 0), 20), -EPROTO, "colours that have no room");
	is_str(why.text, "it wants pixels of 16 bits with a colour of 255 << 16", "a sentence");
	rfb_close(v);
}

/* Who asks and reads nothing has one piece that waits, however often. */
static void test_slow(void)
{
	struct rfb *v = log_in();
	const uint8_t *bytes;

	for (unsigned i = 0; i < 1000; i++) {
		draw();
		ask(v, false);
		rfb_output(v, &bytes);
	}
	ok(rfb_output(v, &bytes) <= 65536, "who reads nothing has 64 KiB to read");
	rfb_close(v);
}

int main(void)
{
	test_png();
	test_keys();
	test_handshake();
	test_pictures();
	test_changes();
	test_input();
	test_slow();
	inflateEnd(&inflater);
	return done_testing();
}

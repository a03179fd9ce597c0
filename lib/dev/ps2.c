/* SPDX-License-Identifier: MIT */
/*
 * PS/2 keyboard and mouse, after IBM's Personal System/2 Hardware Interface Technical Reference (Keyboard, Auxiliary Device) and
 * Microsoft's description of the wheel. The keyboard sends scan code set 2 and no other: the controller makes set 1 of it for who wants
 * that, and nobody uses set 3.
 *
 * Both answer each byte that they get with 0xfa, or 0xfe if they do not know it; then come their data. What is typed while nobody
 * takes bytes is dropped by whole keys; how the mouse moves adds up.
 */
#include "dev/ps2.h"

#include "base/macros.h"

#include <string.h>

#define ACK    0xfau
#define AGAIN  0xfeu
#define PASSED 0xaau

#define DEFAULT_RATE       0x2b /* a keyboard's: 10.9 a second, after half a second */
#define DEFAULT_RESOLUTION 2
#define DEFAULT_SAMPLES    100
#define COUNT_MAX          255  /* of a packet: 8 bits and a sign */

const uint8_t ps2_translation[256] = {
	0xff, 0x43, 0x41, 0x3f, 0x3d, 0x3b, 0x3c, 0x58, 0x64, 0x44, 0x42, 0x40, 0x3e, 0x0f, 0x29, 0x59,
	0x65, 0x38, 0x2a, 0x70, 0x1d, 0x10, 0x02, 0x5a, 0x66, 0x71, 0x2c, 0x1f, 0x1e, 0x11, 0x03, 0x5b,
	0x67, 0x2e, 0x2d, 0x20, 0x12, 0x05, 0x04, 0x5c, 0x68, 0x39, 0x2f, 0x21, 0x14, 0x13, 0x06, 0x5d,
	0x69, 0x31, 0x30, 0x23, 0x22, 0x15, 0x07, 0x5e, 0x6a, 0x72, 0x32, 0x24, 0x16, 0x08, 0x09, 0x5f,
	0x6b, 0x33, 0x25, 0x17, 0x18, 0x0b, 0x0a, 0x60, 0x6c, 0x34, 0x35, 0x26, 0x27, 0x19, 0x0c, 0x61,
	0x6d, 0x73, 0x28, 0x74, 0x1a, 0x0d, 0x62, 0x6e, 0x3a, 0x36, 0x1c, 0x1b, 0x75, 0x2b, 0x63, 0x76,
	0x55, 0x56, 0x77, 0x78, 0x79, 0x7a, 0x0e, 0x7b, 0x7c, 0x4f, 0x7d, 0x4b, 0x47, 0x7e, 0x7f, 0x6f,
	0x52, 0x53, 0x50, 0x4c, 0x4d, 0x48, 0x01, 0x45, 0x57, 0x4e, 0x51, 0x4a, 0x37, 0x49, 0x46, 0x54,
	0x80, 0x81, 0x82, 0x41, 0x54, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x8b, 0x8c, 0x8d, 0x8e, 0x8f,
	0x90, 0x91, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9a, 0x9b, 0x9c, 0x9d, 0x9e, 0x9f,
	0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf,
	0xb0, 0xb1, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6, 0xb7, 0xb8, 0xb9, 0xba, 0xbb, 0xbc, 0xbd, 0xbe, 0xbf,
	0xc0, 0xc1, 0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7, 0xc8, 0xc9, 0xca, 0xcb, 0xcc, 0xcd, 0xce, 0xcf,
	0xd0, 0xd1, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8, 0xd9, 0xda, 0xdb, 0xdc, 0xdd, 0xde, 0xdf,
	0xe0, 0xe1, 0xe2, 0xe3, 0xe4, 0xe5, 0xe6, 0xe7, 0xe8, 0xe9, 0xea, 0xeb, 0xec, 0xed, 0xee, 0xef,
	0xf0, 0xf1, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8, 0xf9, 0xfa, 0xfb, 0xfc, 0xfd, 0xfe, 0xff,
};

/* -- Queues ------------------------------------------------------------------------- */

static size_t room(const struct ps2_queue *q)
{
	return sizeof(q->bytes) - q->n;
}

/* All or nothing. */
static bool put(struct ps2_queue *q, const uint8_t *bytes, size_t n)
{
	if (n > room(q))
		return false;
	for (size_t i = 0; i < n; i++)
		q->bytes[(q->head + q->n++) % sizeof(q->bytes)] = bytes[i];
	return true;
}


uint8_t ps2_take(struct ps2_queue *q)
{
	q->n--;
	return q->bytes[q->head++];
}

/* An answer comes at once, before what waits. */
static void answer(struct ps2_queue *q, const uint8_t *bytes, size_t n)
{
	q->n = 0;
	put(q, bytes, n);
}

#define ANSWER(q, ...) answer(q, (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

/* -- Keyboard ------------------------------------------------------------------------ */

static void set_keyboard_defaults(struct ps2_keyboard *k)
{
	k->rate = DEFAULT_RATE;
	k->command = 0;
}

void ps2_keyboard_reset(struct ps2_keyboard *k)
{
	*k = (struct ps2_keyboard){.scans = true};
	set_keyboard_defaults(k);
}

static void take_keyboard_argument(struct ps2_keyboard *k, uint8_t command, uint8_t byte)
{
	switch (command) {
	case 0xed:
		k->leds = byte & 7;
		break;
	case 0xf3:
		k->rate = byte & 0x7f;
		break;
	case 0xf0: /* which scan code set: 0 asks */
		if (byte == 0)
			ANSWER(&k->out, ACK, 2);
		else
			ANSWER(&k->out, byte == 2 ? ACK : AGAIN);
		return;
	}
	ANSWER(&k->out, ACK);
}

void ps2_keyboard_write(struct ps2_keyboard *k, uint8_t byte)
{
	uint8_t command = k->command;

	k->command = 0;
	if (command && byte < 0xed) {
		take_keyboard_argument(k, command, byte);
		return;
	}
	switch (byte) {
	case 0xed: /* LEDs, scan code set, rate */
	case 0xf0:
	case 0xf3:
		k->command = byte;
		break;
	case 0xee: /* echo */
		ANSWER(&k->out, 0xee);
		return;
	case 0xf2: /* who are you? */
		ANSWER(&k->out, ACK, 0xab, 0x83);
		return;
	case 0xf4:
		k->scans = true;
		break;
	case 0xf5:
	case 0xf6:
		k->scans = byte == 0xf6;
		set_keyboard_defaults(k);
		break;
	case 0xfe:
		ANSWER(&k->out, k->last);
		return;
	case 0xff:
		ps2_keyboard_reset(k);
		ANSWER(&k->out, ACK, PASSED);
		return;
	default:
		ANSWER(&k->out, AGAIN);
		return;
	}
	ANSWER(&k->out, ACK);
}

/* In set 2. 0: there is no such key. F7 is the one that has two codes there. */
static uint8_t code_of(uint8_t key)
{
	if (key == 0x41)
		return 0x83;
	for (unsigned i = 1; i < 0x80; i++)
		if (ps2_translation[i] == key)
			return (uint8_t)i;
	return 0;
}

bool ps2_keyboard_key(struct ps2_keyboard *k, uint8_t key, bool down)
{
	static const uint8_t pause[] = {0xe1, 0x14, 0x77, 0xe1, 0xf0, 0x14, 0xf0, 0x77};
	uint8_t code = code_of(key & 0x7f), bytes[3];
	size_t n = 0;

	if (!k->scans)
		return false;
	if (key == PS2_KEY_PAUSE)
		return !down || put(&k->out, pause, sizeof(pause));
	if (!code)
		return false;
	if (key & PS2_KEY_EXTENDED)
		bytes[n++] = 0xe0;
	if (!down)
		bytes[n++] = 0xf0;
	bytes[n++] = code;
	return put(&k->out, bytes, n);
}

/* -- Mouse ---------------------------------------------------------------------------- */

static void set_mouse_defaults(struct ps2_mouse *m)
{
	m->resolution = DEFAULT_RESOLUTION;
	m->rate = DEFAULT_SAMPLES;
	m->reports = m->remote = m->wrap = m->doubles = false;
	m->command = 0;
	m->dx = m->dy = m->dz = 0;
}

void ps2_mouse_reset(struct ps2_mouse *m)
{
	*m = (struct ps2_mouse){.rate = 0};
	set_mouse_defaults(m);
}

static void set_rate(struct ps2_mouse *m, uint8_t rate)
{
	if (m->rates[0] == 200 && m->rates[1] == 100 && rate == 80)
		m->wheel = true;
	m->rates[0] = m->rates[1];
	m->rates[1] = m->rate = rate;
}

static void take_mouse_argument(struct ps2_mouse *m, uint8_t command, uint8_t byte)
{
	if (command == 0xf3)
		set_rate(m, byte);
	else
		m->resolution = byte & 3;
	ANSWER(&m->out, ACK);
}

static int clamp(int n, int most)
{
	return n > most ? most : n < -most ? -most : n;
}

/* Buttons and signs, right, up; wheel. */
static void put_packet(struct ps2_mouse *m)
{
	int dx = clamp(m->dx, COUNT_MAX), dy = clamp(-m->dy, COUNT_MAX), dz = clamp(m->dz, 7);
	uint8_t bytes[4] = {
		(uint8_t)(0x08 | m->buttons | (dx < 0 ? 0x10 : 0) | (dy < 0 ? 0x20 : 0)), (uint8_t)dx, (uint8_t)dy,
		(uint8_t)dz,
	};

	if (!put(&m->out, bytes, m->wheel ? 4 : 3))
		return;
	m->dx -= dx;
	m->dy += dy;
	m->dz -= m->wheel ? dz : m->dz;
	m->told = m->buttons;
}

static void put_status(struct ps2_mouse *m)
{
	uint8_t status = (uint8_t)((m->remote ? 0x40 : 0) | (m->reports ? 0x20 : 0) | (m->doubles ? 0x10 : 0) |
				   (m->buttons & 1) << 2 | (m->buttons & 4) >> 1 | (m->buttons & 2) >> 1);

	ANSWER(&m->out, ACK, status, m->resolution, m->rate);
}

void ps2_mouse_write(struct ps2_mouse *m, uint8_t byte)
{
	uint8_t command = m->command;

	m->command = 0;
	if (m->wrap && byte != 0xec && byte != 0xff) {
		ANSWER(&m->out, byte);
		return;
	}
	if (command) {
		take_mouse_argument(m, command, byte);
		return;
	}
	switch (byte) {
	case 0xe6:
	case 0xe7:
		m->doubles = byte == 0xe7;
		break;
	case 0xe8: /* resolution, rate */
	case 0xf3:
		m->command = byte;
		break;
	case 0xe9:
		put_status(m);
		return;
	case 0xea:
	case 0xf0:
		m->remote = byte == 0xf0;
		break;
	case 0xeb:
		ANSWER(&m->out, ACK);
		put_packet(m);
		return;
	case 0xec:
	case 0xee:
		m->wrap = byte == 0xee;
		break;
	case 0xf2:
		ANSWER(&m->out, ACK, m->wheel ? 3 : 0);
		return;
	case 0xf4:
	case 0xf5:
		m->reports = byte == 0xf4;
		break;
	case 0xf6:
		set_mouse_defaults(m);
		break;
	case 0xfe:
		ANSWER(&m->out, m->last);
		return;
	case 0xff:
		ps2_mouse_reset(m);
		ANSWER(&m->out, ACK, PASSED, 0);
		return;
	default:
		ANSWER(&m->out, AGAIN);
		return;
	}
	ANSWER(&m->out, ACK);
}

void ps2_mouse_report(struct ps2_mouse *m)
{
	bool moved = m->dx || m->dy || (m->wheel && m->dz) || m->buttons != m->told;

	if (m->reports && !m->remote && !m->wrap && !m->out.n && moved)
		put_packet(m);
}

static int32_t add(int32_t sum, int n)
{
	return clamp(sum + clamp(n, 1 << 16), 1 << 16);
}

void ps2_mouse_move(struct ps2_mouse *m, int dx, int dy, int dz, uint8_t buttons)
{
	m->dx = add(m->dx, dx);
	m->dy = add(m->dy, dy);
	m->dz = add(m->dz, dz);
	m->buttons = buttons & 7;
	ps2_mouse_report(m);
}

/* -- State ------------------------------------------------------------------------------ */

static const struct state_field queue_fields[] = {
	STATE_ARRAY(struct ps2_queue, bytes),
	STATE(struct ps2_queue, head),
	STATE_UPTO(struct ps2_queue, n, 256),
	{0},
};

const struct state_field ps2_keyboard_fields[] = {
	STATE_PART(struct ps2_keyboard, out, queue_fields),
	STATE(struct ps2_keyboard, command),
	STATE(struct ps2_keyboard, leds),
	STATE(struct ps2_keyboard, rate),
	STATE(struct ps2_keyboard, last),
	STATE(struct ps2_keyboard, scans),
	{0},
};

const struct state_field ps2_mouse_fields[] = {
	STATE_PART(struct ps2_mouse, out, queue_fields),
	STATE(struct ps2_mouse, command),
	STATE(struct ps2_mouse, resolution),
	STATE(struct ps2_mouse, rate),
	STATE_ARRAY(struct ps2_mouse, rates),
	STATE(struct ps2_mouse, last),
	STATE(struct ps2_mouse, reports),
	STATE(struct ps2_mouse, remote),
	STATE(struct ps2_mouse, wrap),
	STATE(struct ps2_mouse, doubles),
	STATE(struct ps2_mouse, wheel),
	STATE(struct ps2_mouse, buttons),
	STATE(struct ps2_mouse, told),
	STATE(struct ps2_mouse, dx),
	STATE(struct ps2_mouse, dy),
	STATE(struct ps2_mouse, dz),
	{0},
};

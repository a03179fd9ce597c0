/* SPDX-License-Identifier: MIT */
/* The keyboard controller with a keyboard and a mouse, as firmware and Linux drive it: by its two ports and its two lines. */
#include "base/err.h"
#include "dev/i8042.h"
#include "dev/ps2.h"
#include "tests/tap.h"

static struct bus *bus;
static struct device *kbc;
static unsigned rises[16];
static bool levels[16];

static void set_level(void *ctx, unsigned gsi, bool level)
{
	(void)ctx;
	rises[gsi] += level && !levels[gsi];
	levels[gsi] = level;
}

static unsigned in(unsigned port)
{
	return (unsigned)bus_read(bus, BUS_PORT, port, 1);
}

static void command(unsigned value)
{
	bus_write(bus, BUS_PORT, 0x64, 1, value);
}

static void data(unsigned value)
{
	bus_write(bus, BUS_PORT, 0x60, 1, value);
}

static void start(void)
{
	kbc = device_create(&i8042_model, bus, (uint64_t[]){0x60, 0x64}, &(struct i8042_config){
		.plugged = true,
		.irq_keyboard = {.set = set_level, .gsi = 1}, .irq_mouse = {.set = set_level, .gsi = 12},
	}, NULL);
	memset(rises, 0, sizeof(rises));
}

/* What can be read: "fa ab 41", a mouse's bytes in brackets. */
static const char *drain(void)
{
	static char text[2048];
	size_t n = 0;

	text[0] = 0;
	while (in(0x64) & 1 && n < sizeof(text) - 8) {
		bool mouse = in(0x64) & 0x20;

		n += (size_t)snprintf(text + n, sizeof(text) - n, mouse ? "%s[%02x]" : "%s%02x", n ? " " : "", in(0x60));
	}
	return text;
}

static void set_mode(unsigned mode)
{
	command(0x60);
	data(mode);
}

static void to_mouse(unsigned byte)
{
	command(0xd4);
	data(byte);
}

/* As drivers/input/serio/i8042.c does. */
static void test_controller(void)
{
	start();
	command(0xaa);
	is_str(drain(), "55", "it tests itself");
	command(0x20);
	is_str(drain(), "00", "its command byte");
	set_mode(0x47);
	command(0x20);
	is_str(drain(), "47", "and another");
	command(0xa7);
	command(0x20);
	is_str(drain(), "67", "the mouse is off");
	command(0xa8);
	command(0xad);
	command(0x20);
	is_str(drain(), "57", "the keyboard is");
	i8042_key(kbc, 0x1e, true);
	is_str(drain(), "", "so nothing comes of it");
	command(0xae);
	is_str(drain(), "1e", "until it is on");
	command(0xd3);
	data(0x5a);
	is_int(in(0x64) & 0x21, 0x21, "a byte as if from the mouse");
	is_str(drain(), "[5a]", "is read");
	command(0xd2);
	data(0x5b);
	is_str(drain(), "5b", "one as if from the keyboard");
	command(0xa9);
	command(0xab);
	is_str(drain(), "00 00", "an answer waits for the one before it");
	is_int(in(0x64) & 8, 8, "the last write was a command");
	device_destroy(kbc);
}

static void test_keyboard(void)
{
	start();
	set_mode(0x41);
	data(0xff);
	is_str(drain(), "fa aa", "the keyboard is reset");
	data(0xf2);
	is_str(drain(), "fa ab 41", "it says what it is, as translated");
	data(0xed);
	data(7);
	is_str(drain(), "fa fa", "LEDs");
	data(0xee);
	is_str(drain(), "ee", "echo");
	data(0xf0);
	is_str(drain(), "fa", "scan code set");
	data(0);
	is_str(drain(), "fa 41", "is the second, as translated");
	data(0x12);
	is_str(drain(), "fe", "what is no command");
	data(0xfe);
	is_str(drain(), "fe", "the last byte again");
	i8042_key(kbc, 0x1e, true);
	i8042_key(kbc, 0x1e, false);
	is_str(drain(), "1e 9e", "A goes down and up");
	i8042_key(kbc, 0xd3, true);
	i8042_key(kbc, 0xd3, false);
	is_str(drain(), "e0 53 e0 d3", "delete has a prefix");
	i8042_key(kbc, 0x41, true);
	is_str(drain(), "41", "F7");
	i8042_key(kbc, PS2_KEY_PAUSE, true);
	i8042_key(kbc, PS2_KEY_PAUSE, false);
	is_str(drain(), "e1 1d 45 e1 9d c5", "pause");
	set_mode(0x01);
	i8042_key(kbc, 0x1e, true);
	i8042_key(kbc, 0x1e, false);
	i8042_key(kbc, 0x41, true);
	is_str(drain(), "1c f0 1c 83", "as the keyboard sends it");
	data(0xf5);
	is_str(drain(), "fa", "it is to be still");
	ok(!i8042_key(kbc, 0x1e, true), "and drops what is typed");
	data(0xf4);
	is_str(drain(), "fa", "it goes on");
	ok(!i8042_key(kbc, 0, true), "there is no such key");
	for (unsigned i = 0; i < 300; i++)
		if (!i8042_key(kbc, 0xd3, i % 2 == 0))
			break;
	is_int((strlen(drain()) + 1) / 3, 257, "what finds no room is dropped by whole keys");
	device_destroy(kbc);
}

/* Every key that the first PC had, and those with a prefix, come out as they went in. */
static void test_keys(void)
{
	unsigned wrong = 0;

	start();
	set_mode(0x40);
	for (unsigned key = 1; key < 0x59; key++) {
		if (!i8042_key(kbc, (uint8_t)key, true))
			continue;
		wrong += in(0x60) != key;
		i8042_key(kbc, (uint8_t)key, false);
		wrong += in(0x60) != (key | 0x80);
		i8042_key(kbc, (uint8_t)(key | 0x80), true);
		if (key != 0x46)
			wrong += in(0x60) != 0xe0 || in(0x60) != key;
		drain();
	}
	is_int(wrong, 0, "each key is itself in set 1");
	device_destroy(kbc);
}

static void test_lines(void)
{
	start();
	set_mode(0x43);
	i8042_key(kbc, 0x1e, true);
	i8042_key(kbc, 0x1e, false);
	is_int(levels[1], 1, "a key raises line 1");
	is_int(rises[1], 1, "once");
	in(0x60);
	is_int(rises[1], 2, "the next byte is another edge");
	in(0x60);
	is_int(levels[1], 0, "then it is down");
	to_mouse(0xf4);
	is_int(levels[12], 1, "the mouse's answer raises line 12");
	is_str(drain(), "[fa]", "it reports");
	is_int(levels[12], 0, "it is read");
	set_mode(0x40);
	i8042_key(kbc, 0x1e, true);
	is_int(levels[1], 0, "a line that is off stays down");
	set_mode(0x41);
	is_int(levels[1], 1, "until it is on");
	device_reset(kbc);
	is_int(levels[1], 0, "a reset takes it down");
	device_destroy(kbc);
}

static void test_mouse(void)
{
	start();
	set_mode(0x02);
	to_mouse(0xff);
	is_str(drain(), "[fa] [aa] [00]", "the mouse is reset");
	to_mouse(0xf2);
	is_str(drain(), "[fa] [00]", "it has no wheel yet");
	i8042_mouse(kbc, 5, 5, 0, 0);
	is_str(drain(), "", "nor does it report");
	to_mouse(0xf6);
	drain();
	to_mouse(0xf4);
	drain();
	i8042_mouse(kbc, 5, 3, 0, 1);
	is_str(drain(), "[29] [05] [fd]", "to the right and down, with the left button");
	i8042_mouse(kbc, -300, 0, 0, 0);
	is_str(drain(), "[18] [01] [00] [18] [d3] [00]", "far is two steps");
	for (unsigned i = 0; i < 3; i++) {
		static const uint8_t rates[] = {200, 100, 80};

		to_mouse(0xf3);
		drain();
		to_mouse(rates[i]);
		drain();
	}
	to_mouse(0xf2);
	is_str(drain(), "[fa] [03]", "three rates ask for a wheel");
	i8042_mouse(kbc, 0, 0, -1, 4);
	is_str(drain(), "[0c] [00] [00] [ff]", "which turns");
	to_mouse(0xe9);
	is_str(drain(), "[fa] [22] [02] [50]", "its status");
	to_mouse(0xf0);
	drain();
	i8042_mouse(kbc, 1, 0, 0, 4);
	is_str(drain(), "", "in remote mode it waits");
	to_mouse(0xeb);
	is_str(drain(), "[fa] [0c] [01] [00] [00]", "to be asked");
	to_mouse(0xee);
	drain();
	to_mouse(0xe9);
	is_str(drain(), "[e9]", "wrapped it says what it hears");
	to_mouse(0xec);
	is_str(drain(), "[fa]", "until it is not");
	to_mouse(0x77);
	is_str(drain(), "[fe]", "what is no command");
	device_destroy(kbc);
}

/* Nothing is plugged in: it is as quiet as one that has no ports. */
static void test_nothing(void)
{
	struct device *bare = device_create(&i8042_model, bus, (uint64_t[]){0x60, 0x64}, &(struct i8042_config){.plugged = false}, NULL);

	kbc = bare;
	set_mode(0x43);
	data(0xff);
	is_str(drain(), "", "no keyboard answers");
	to_mouse(0xff);
	is_str(drain(), "", "nor a mouse");
	ok(!i8042_key(bare, 0x1e, true), "and there is nothing to press");
	device_destroy(bare);
}

int main(void)
{
	bus = bus_create();
	test_controller();
	test_keyboard();
	test_keys();
	test_lines();
	test_mouse();
	test_nothing();
	bus_destroy(bus);
	return done_testing();
}

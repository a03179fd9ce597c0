/* SPDX-License-Identifier: MIT */
/* Virtio keyboard and tablet: what their driver finds when it asks, and which events it gets; above all when it has no buffers. */
#include "dev/tests/guest.h"
#include "tests/tap.h"

#include <errno.h>
#include <linux/input-event-codes.h>

#define SLOT  4u
#define SIZE  16u
#define PACKED (UINT64_C(1) << 34)

static struct device *dev;
static unsigned taken; /* used entries that were looked at */

static void start(const struct device_model *model)
{
	g_start();
	dev = device_create(model, g_bus, NULL, &(struct virtio_input_config){.pci = {.host = g_host, .mem = &g_mem, .slot = SLOT}}, NULL);
	device_reset(g_host);
	taken = 0;
	ok(drive(SLOT, ~PACKED, 2, SIZE), "%s: its driver is ready", model->name);
}

static void stop(void)
{
	device_destroy(dev);
	g_stop();
}

/* `n` buffers, of eight bytes. */
static void give(unsigned n)
{
	static unsigned next;

	for (unsigned i = 0; i < n; i++, next++) {
		unsigned d = next % SIZE;

		memset(g_ram + FREE_RAM + 8 * d, 0xee, 8);
		put_desc(0, d, FREE_RAM + 8 * d, 8, F_WRITE, 0);
		offer(0, SIZE, d);
	}
	kick(SLOT, 0);
}

/* The next event that came. */
static void got(unsigned type, unsigned code, int value, const char *what)
{
	const uint8_t *entry = g_ram + USED(0) + 4 + taken % SIZE * 8, *event = g_ram + FREE_RAM + 8 * le32_get(entry);

	if (!ok(used_idx(0) != (uint16_t)taken, "%s: it comes", what))
		return;
	taken++;
	ok(le16_get(event) == type && le16_get(event + 2) == code && (int)le32_get(event + 4) == value && le32_get(entry + 4) == 8,
	   "%s: it is %u %u %d, of %u bytes", what, le16_get(event), le16_get(event + 2), (int)le32_get(event + 4), le32_get(entry + 4));
}

static void got_all(const char *what)
{
	got(EV_SYN, SYN_REPORT, 0, what);
	is_int(used_idx(0), taken, "%s: and that is all", what);
}

/* -- What the driver asks ---------------------------------------------------------------------- */

static unsigned ask(unsigned select, unsigned subsel)
{
	bar_out(SLOT, 0, 0x2000, 1, select);
	bar_out(SLOT, 0, 0x2001, 1, subsel);
	return (unsigned)bar_in(SLOT, 0, 0x2002, 1);
}

static uint8_t answer(unsigned i)
{
	return (uint8_t)bar_in(SLOT, 0, 0x2008 + i, 1);
}

static void is_name(const char *name)
{
	char text[32] = "";
	unsigned n = ask(1, 0);

	for (unsigned i = 0; i < n && i < 31; i++)
		text[i] = (char)answer(i);
	ok(!strcmp(text, name), "it is called '%s'", text);
}

static bool has(unsigned type, unsigned code)
{
	return code / 8 < ask(0x11, type) && answer(code / 8) >> code % 8 & 1;
}

static void test_keyboard_config(void)
{
	is_name("Lodge keyboard");
	is_int(ask(1, 1), 0, "there is one name");
	is_int(ask(2, 0), 0, "no serial number");
	is_int(ask(3, 0), 8, "it has ids");
	ok(answer(0) == 6 && !answer(1), "of a bus that is none");
	ok(has(EV_KEY, KEY_A) && has(EV_KEY, KEY_F12) && has(EV_KEY, KEY_102ND) && has(EV_KEY, KEY_DELETE) && has(EV_KEY, KEY_RIGHTMETA),
	   "it has keys");
	ok(has(EV_KEY, KEY_UP) && has(EV_KEY, KEY_DOWN) && has(EV_KEY, KEY_LEFT) && has(EV_KEY, KEY_RIGHT), "all four arrows");
	ok(!has(EV_KEY, 0) && !has(EV_KEY, BTN_LEFT) && !has(EV_KEY, BTN_0), "and no buttons");
	ok(has(EV_LED, LED_CAPSL) && has(EV_REP, REP_DELAY), "LEDs, and it repeats");
	is_int(ask(0x11, EV_ABS), 0, "no axes");
	is_int(ask(0x12, 0), 0, "of which nothing is known");
	is_int(ask(0xff, 0xff), 0, "a question that makes no sense");
	is_int(answer(127), 0, "has no answer");
}

static void test_tablet_config(void)
{
	is_name("Lodge tablet");
	ok(has(EV_KEY, BTN_LEFT) && has(EV_KEY, BTN_RIGHT) && has(EV_KEY, BTN_MIDDLE) && !has(EV_KEY, KEY_A), "it has three buttons");
	ok(has(EV_ABS, ABS_X) && has(EV_ABS, ABS_Y) && !has(EV_ABS, ABS_Z) && has(EV_REL, REL_WHEEL), "two axes, a wheel");
	is_int(ask(0x12, ABS_Y), 20, "an axis");
	ok(bar_in(SLOT, 0, 0x2008, 4) == 0 && bar_in(SLOT, 0, 0x200c, 4) == 32767, "goes from 0 to 32767");
	is_int(ask(0x12, ABS_Z), 0, "a third one is not there");
	is_int(ask(0x12, 255), 0, "nor a last one");
	is_int(ask(0x11, EV_REP), 0, "it does not repeat");
}

/* -- Keys ---------------------------------------------------------------------------------------- */

static void test_keys(void)
{
	give(4);
	is_int(virtio_keyboard_key(dev, 0x1e, true), 1, "a key goes down");
	got(EV_KEY, KEY_A, 1, "down");
	got_all("down");
	ok(g_messages > 0, "the driver is interrupted");
	is_int(virtio_keyboard_key(dev, 0x1e, true), 1, "it is held");
	is_int(used_idx(0), taken, "which is nothing new");
	is_int(virtio_keyboard_key(dev, 0x1e, false), 1, "it goes up");
	got(EV_KEY, KEY_A, 0, "up");
	got_all("up");
	is_int(virtio_keyboard_key(dev, 0x1e, false), 0, "what is not down here is let go elsewhere");
	is_int(virtio_keyboard_key(dev, 0, true), 0, "there is no key 0");
	is_int(virtio_keyboard_key(dev, 0xff, true), 0, "nor 0xff");
}

/* A driver that is busy gets them later, in order, each with its end. */
static void test_late_keys(void)
{
	is_int(virtio_keyboard_key(dev, 0x1e, true), 1, "without a buffer a key waits");
	is_int(virtio_keyboard_key(dev, 0x1e, false), 1, "down and up");
	is_int(used_idx(0), taken, "nothing comes");
	give(1);
	got(EV_KEY, KEY_A, 1, "down");
	is_int(virtio_keyboard_key(dev, 0xd3, true), 1, "another one");
	give(7);
	got(EV_SYN, SYN_REPORT, 0, "the end of that");
	got(EV_KEY, KEY_A, 0, "up");
	got(EV_SYN, SYN_REPORT, 0, "the end of that");
	got(EV_KEY, KEY_DELETE, 1, "delete");
	got_all("delete");
	drive(SLOT, ~PACKED, 2, SIZE);
	taken = 0;
	is_int(virtio_keyboard_key(dev, 0xd3, false), 0, "a driver that begins anew knows of no key");
}

/* All that are down can go up, however many wait. */
static void test_many_keys(void)
{
	unsigned down = 0, up = 0, sum = 0;

	for (unsigned i = 0; i < 1000; i++)
		if (virtio_keyboard_key(dev, (uint8_t)(0x10 + i % 20), i / 20 % 2 == 0) == 1)
			*(i / 20 % 2 ? &up : &down) += 1;
	ok(down == up && down > 100 && down + up <= 256, "%u keys go down, and %u up; others are dropped", down, up);
	for (unsigned i = 0; i < 20; i++)
		ok(virtio_keyboard_key(dev, (uint8_t)(0x10 + i), false) == 0 || i, "none is down");
	for (unsigned i = 0; i < 200 && sum < 2 * (down + up); i++) {
		give(8);
		for (; used_idx(0) != (uint16_t)taken; taken++)
			sum++;
	}
	is_int(sum, 2 * (down + up), "and the driver gets them all");
	drive(SLOT, ~PACKED, 2, SIZE);
	taken = 0;
}

static void test_leds(void)
{
	le16_put(g_ram + FREE_RAM + 0x800, EV_LED);
	put_desc(1, 0, FREE_RAM + 0x800, 8, 0, 0);
	offer(1, SIZE, 0);
	kick(SLOT, 1);
	is_int(used_idx(1), 1, "LEDs are taken note of");
}

static void test_nobody(void)
{
	bar_out(SLOT, 0, STATUS, 1, 0);
	is_int(virtio_keyboard_key(dev, 0x1e, true), 0, "without a driver it takes nothing");
	ok(drive(SLOT, ~PACKED, 0, SIZE), "one without queues");
	is_int(virtio_keyboard_key(dev, 0x1e, true), 0, "gets nothing either");
}

/* -- The pointer ------------------------------------------------------------------------------------ */

static void test_pointer(void)
{
	give(8);
	ok(virtio_tablet_point(dev, 16, 32767, 0, 0), "the pointer is somewhere");
	got(EV_ABS, ABS_X, 16, "x");
	got(EV_ABS, ABS_Y, 32767, "y");
	got_all("there");
	virtio_tablet_point(dev, 16, 100, 0, 5);
	got(EV_ABS, ABS_Y, 100, "y alone");
	got(EV_KEY, BTN_LEFT, 1, "left");
	got(EV_KEY, BTN_MIDDLE, 1, "middle");
	got_all("pressed");
	give(8);
	virtio_tablet_point(dev, 16, 100, 1, 4);
	got(EV_KEY, BTN_LEFT, 0, "left");
	got(EV_REL, REL_WHEEL, -1, "the wheel");
	got_all("let go");
	virtio_tablet_point(dev, 65535, 100, 0, 0xfc);
	got(EV_ABS, ABS_X, 32767, "the right edge");
	got_all("the right edge");
}

/* Where it was meanwhile is nothing; where it was pressed is. */
static void test_late_pointer(void)
{
	drive(SLOT, ~PACKED, 2, SIZE);
	taken = 0;
	for (unsigned i = 1; i <= 100; i++)
		ok(virtio_tablet_point(dev, (uint16_t)i, 7, -2, 0) || i, "%u: nobody looks", i);
	virtio_tablet_point(dev, 200, 8, 0, 1);
	virtio_tablet_point(dev, 300, 8, 0, 0);
	give(1);
	got(EV_ABS, ABS_X, 100, "where it was last");
	give(15);
	got(EV_ABS, ABS_Y, 7, "y");
	got(EV_REL, REL_WHEEL, 127, "the wheel, as far as it goes");
	got(EV_SYN, SYN_REPORT, 0, "there");
	got(EV_ABS, ABS_X, 200, "where it was pressed");
	got(EV_ABS, ABS_Y, 8, "y");
	got(EV_KEY, BTN_LEFT, 1, "pressed");
	got(EV_SYN, SYN_REPORT, 0, "there");
	got(EV_ABS, ABS_X, 300, "where it was let go");
	got(EV_KEY, BTN_LEFT, 0, "let go");
	got_all("let go");
}

/* Clicks without end: the last one is what is so. */
static void test_many_clicks(void)
{
	unsigned last = 9;

	drive(SLOT, ~PACKED, 2, SIZE);
	taken = 0;
	for (unsigned i = 0; i < 1001; i++)
		virtio_tablet_point(dev, 5, 5, 0, i % 2 == 0);
	for (unsigned i = 0; i < 30; i++) {
		give(8);
		for (; used_idx(0) != (uint16_t)taken; taken++) {
			const uint8_t *event = g_ram + FREE_RAM + 8 * le32_get(g_ram + USED(0) + 4 + taken % SIZE * 8);

			if (le16_get(event) == EV_KEY)
				last = le32_get(event + 4);
		}
	}
	is_int(last, 1, "after 1001 changes the button is down");
}

/* -- Lies --------------------------------------------------------------------------------------------- */

static void test_lies(void)
{
	drive(SLOT, ~PACKED, 2, SIZE);
	put_desc(0, 0, FREE_RAM, 3, F_WRITE, 0);
	memset(g_ram + FREE_RAM, 0xee, 8);
	offer(0, SIZE, 0);
	virtio_tablet_point(dev, 0x1234, 0, 0, 0);
	ok(used_len(0, SIZE) == 3 && g_ram[FREE_RAM + 3] == 0xee, "a buffer that is too short gets what it has room for");
	put_desc(0, 1, FREE_RAM, 8, 0, 0);
	offer(0, SIZE, 1);
	virtio_tablet_point(dev, 1, 0, 0, 0);
	is_int(used_len(0, SIZE), 0, "one that cannot be written gets nothing");
	put_desc(0, 2, RAM_SIZE - 4, 8, F_WRITE, 0);
	offer(0, SIZE, 2);
	virtio_tablet_point(dev, 1, 1, 0, 0);
	is_int(bar_in(SLOT, 0, STATUS, 1), 0x4f, "one that is not in RAM is a lie");
	ok(!virtio_tablet_point(dev, 1, 2, 0, 0), "after which there is no driver");
}

int main(void)
{
	start(&virtio_keyboard_model);
	test_keyboard_config();
	test_keys();
	test_late_keys();
	test_many_keys();
	test_leds();
	test_nobody();
	stop();
	start(&virtio_tablet_model);
	test_tablet_config();
	test_pointer();
	test_late_pointer();
	test_many_clicks();
	test_lies();
	stop();
	return done_testing();
}

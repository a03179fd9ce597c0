/* SPDX-License-Identifier: MIT */
/*
 * High precision event timers, by a clock that goes when it is told: the counter, timers that go off once and again, in 32 bits and 64, edges and
 * levels, in the places of PIT and RTC, and what a saved one is when time has passed.
 */
#include "dev/hpet.h"
#include "state/state.h"
#include "tests/tap.h"

#include <stdlib.h>
#include <string.h>

#define BASE 0xfed00000u
#define MS   UINT64_C(1000000)

static uint64_t time_now = 1000000000;
static struct bus *bus;
static struct device *hpet;
static unsigned rises[32];
static bool level[32], replaced;

static uint64_t monotonic(void *ctx)
{
	(void)ctx;
	return time_now;
}

static void set_line(void *ctx, unsigned gsi, bool on)
{
	(void)ctx;
	rises[gsi] += on && !level[gsi];
	level[gsi] = on;
}

static void note_replaced(void *ctx, bool on)
{
	(void)ctx;
	replaced = on;
}

static struct device *make(void)
{
	return device_create(&hpet_model, bus, (uint64_t[]){BASE}, &(struct hpet_config){
		.irq = {.set = set_line}, .replace = note_replaced, .clock = {.monotonic = monotonic}}, NULL);
}

static void start(void)
{
	memset(rises, 0, sizeof(rises));
	bus = bus_create();
	hpet = make();
}

static void stop(void)
{
	device_destroy(hpet);
	bus_destroy(bus);
}

static uint64_t in(unsigned at, unsigned width)
{
	return bus_read(bus, BUS_MMIO, BASE + at, width);
}

static void out(unsigned at, unsigned width, uint64_t value)
{
	bus_write(bus, BUS_MMIO, BASE + at, width, value);
}

static void pass(uint64_t ns)
{
	time_now += ns;
	hpet_look(hpet);
}

static void test_counter(void)
{
	start();
	is_int(in(0, 4), HPET_BLOCK_ID, "capabilities");
	is_int(in(4, 4), 10000000, "a step is 10 ns");
	is_int((int)(in(0, 8) >> 32), 10000000, "of both halves");
	pass(5 * MS);
	is_int((int)in(0xf0, 8), 0, "the counter stands");
	out(0x10, 4, 1);
	pass(5 * MS);
	is_int((int)in(0xf0, 8), 500000, "and goes when it is told");
	out(0x10, 4, 0);
	pass(5 * MS);
	is_int((int)in(0xf0, 8), 500000, "and stands again");
	out(0xf0, 4, 0x12345678);
	out(0xf4, 4, 0x9abc);
	ok(in(0xf0, 8) == UINT64_C(0x9abc12345678), "it can be written by halves");
	stop();
}

static void test_once(void)
{
	start();
	out(0x10, 4, 1);
	out(0x100, 4, 20 << 9 | 4);
	out(0x108, 8, 100000);
	pass(MS - 1);
	is_int(rises[20], 0, "a timer waits");
	pass(1);
	is_int(rises[20], 1, "until its time");
	ok(!level[20], "and is an edge");
	pass(10 * MS);
	is_int(rises[20], 1, "once");
	out(0x108, 4, 100);
	is_int(rises[20], 2, "what has passed is due at once");
	out(0x100, 4, 20 << 9 | 0x104);
	out(0xf0, 8, UINT64_C(0x1fffffff0));
	out(0x108, 4, 0x10);
	pass(31 * 10);
	is_int(rises[20], 2, "in 32 bits it waits for the counter's end");
	pass(10);
	is_int(rises[20], 3, "and goes on behind it");
	out(0x100, 4, 3 << 9 | 4);
	out(0x108, 8, 0);
	pass(MS);
	is_int(rises[3], 0, "a line that it cannot have is none");
	out(0x108, 8, UINT64_MAX);
	pass(1000 * MS);
	is_int(rises[20], 3, "the last time there is never comes");
	stop();
}

static void test_again(void)
{
	start();
	out(0x10, 4, 1);
	out(0x120, 4, 21 << 9 | 0x4c);
	out(0x128, 8, 50000);
	out(0x128, 8, 100000);
	is_int((int)in(0x128, 8), 50000, "the first time is its own");
	for (unsigned i = 0; i < 5; i++)
		pass(MS);
	is_int(rises[21], 5, "a timer that repeats");
	is_int((int)in(0x128, 8), 550000, "says when it is next");
	pass(20 * MS);
	is_int(rises[21], 6, "what was missed is one");
	is_int((int)in(0x128, 8), 2550000, "and it goes on in time");
	out(0x128, 8, 1);
	for (unsigned i = 0; i < 200; i++)
		pass(10000);
	ok(rises[21] >= 12 && rises[21] <= 15, "not more often than each 200 us (%u)", rises[21]);
	stop();
}

static void test_level(void)
{
	start();
	out(0x10, 4, 1);
	out(0x140, 4, 22 << 9 | 2);
	out(0x148, 8, 100);
	pass(MS);
	is_int((int)in(0x20, 4), 0, "a timer that is off has nothing to say");
	out(0x140, 4, 22 << 9 | 6);
	out(0x148, 8, 100);
	pass(MS);
	ok(level[22], "a level stays");
	is_int((int)in(0x20, 4), 4, "and says whose it is");
	out(0x20, 4, 3);
	ok(level[22], "until it is cleared");
	out(0x20, 4, 4);
	ok(!level[22], "then not");
	out(0x148, 8, 0);
	out(0x140, 4, 23 << 9 | 6);
	ok(!level[22] && level[23], "it moves with its line");
	out(0x140, 4, 23 << 9 | 2);
	ok(!level[23], "and is none while it is off");
	device_reset(hpet);
	is_int((int)in(0x20, 4), 0, "a reset forgets it");
	stop();
}

static void test_replacement(void)
{
	start();
	out(0x10, 4, 3);
	ok(replaced, "PIT and RTC are told");
	out(0x100, 4, 4);
	out(0x120, 4, 4);
	out(0x108, 8, 10);
	out(0x128, 8, 10);
	pass(MS);
	is_int(rises[0] << 8 | rises[8], 0x101, "and their lines are timers'");
	out(0x10, 4, 1);
	ok(!replaced, "until they have them again");
	out(0x10, 4, 3);
	device_reset(hpet);
	ok(!replaced, "as after a reset");
	stop();
}

static void test_saved(void)
{
	struct state_out state = {0};
	struct state_in saved;
	struct device *other;
	unsigned used = 0;
	uint64_t counter;

	start();
	out(0x10, 4, 3);
	out(0x100, 4, 0x4c);
	out(0x108, 8, 1000000);
	out(0x108, 8, 1000000);
	pass(25 * MS + 3);
	counter = in(0xf0, 8);
	device_pause(hpet);
	pass(MS);
	is_int(rises[0], 1, "while it is paused nothing goes off");
	is_int(device_save(hpet, "hpet", &state), 0, "it is saved");
	saved = (struct state_in){.bytes = state.bytes, .len = state.len};
	device_destroy(hpet);
	replaced = false;
	other = hpet = make();
	time_now += 777;
	is_int(device_load(other, "hpet", &saved, 40 * MS, &used, NULL), 0, "and loaded, 40 ms later");
	ok(replaced, "the lines are its again");
	ok(in(0xf0, 8) == counter + 4100000, "its counter has gone on");
	device_resume(other);
	is_int(rises[0], 2, "and what was due is");
	is_int((int)in(0x108, 8), 7000000, "and what comes next, too");
	free(state.bytes);
	stop();
}

int main(void)
{
	test_counter();
	test_once();
	test_again();
	test_level();
	test_replacement();
	test_saved();
	return done_testing();
}

/* SPDX-License-Identifier: MIT */
/* The small chips: clock, keyboard controller, port 0x92, ACPI block, generation ID. Time is ours. */
#include "base/err.h"
#include "dev/acpi_pm.h"
#include "dev/i8042.h"
#include "dev/port92.h"
#include "dev/pvpanic.h"
#include "dev/rtc.h"
#include "dev/vmgenid.h"
#include "loop/loop.h"
#include "tests/tap.h"

#include <time.h>
#include <unistd.h>

#define SECOND 1000000000ull

static struct bus *bus;
static struct loop *loop;
static _Atomic uint64_t clock_ns;
static unsigned resets, offs;
static _Atomic bool sci, rtc_irq;
static _Atomic unsigned rtc_calls;

static uint64_t read_clock(void *ctx)
{
	(void)ctx;
	return clock_ns;
}

static void ask(void *ctx, enum power_wish wish, const char *who)
{
	(void)ctx;
	(void)who;
	if (wish == POWER_RESET)
		resets++;
	else
		offs++;
}

static void set_level(void *ctx, unsigned gsi, bool level)
{
	(void)gsi;
	*(_Atomic bool *)ctx = level;
}

static void set_rtc_level(void *ctx, unsigned gsi, bool level)
{
	rtc_calls++;
	set_level(ctx, gsi, level);
}

static const struct power_line power = {.ask = ask};

static unsigned in(unsigned port, unsigned width)
{
	return (unsigned)bus_read(bus, BUS_PORT, port, width);
}

static void out(unsigned port, unsigned width, unsigned value)
{
	bus_write(bus, BUS_PORT, port, width, value);
}

/* -- Clock ------------------------------------------------------------------------- */

static unsigned cmos(unsigned index)
{
	out(0x70, 1, index);
	return in(0x71, 1);
}

static void set_cmos(unsigned index, unsigned value)
{
	out(0x70, 1, index);
	out(0x71, 1, value);
}

/* The date and time as the digits of a number, in BCD. */
static unsigned long long now(void)
{
	return (unsigned long long)cmos(0x32) << 48 |
	       (unsigned long long)cmos(9) << 40 | (unsigned long long)cmos(8) << 32 |
	       cmos(7) << 24 | cmos(4) << 16 | cmos(2) << 8 | cmos(0);
}

static void test_time(void)
{
	struct tm tm = {.tm_year = 99, .tm_mon = 11, .tm_mday = 31, .tm_hour = 23,
			.tm_min = 59, .tm_sec = 58};

	clock_ns = (uint64_t)timegm(&tm) * SECOND + SECOND / 2;
	is_int(now(), 0x19991231235958, "the host's time, in BCD");
	is_int(cmos(6), 6, "a Friday");
	clock_ns += 2 * SECOND;
	is_int(now(), 0x20000101000000, "the century turns");
	is_int(cmos(10) & 0x80, 0, "no update");
	clock_ns += SECOND / 2 - 200000;
	is_int(cmos(10) & 0x80, 0x80, "an update just before the second");
	clock_ns += 200000;
	is_int(cmos(10) & 0x80, 0, "it is over");

	set_cmos(11, 0x82); /* SET */
	clock_ns += 10 * SECOND;
	is_int(cmos(0), 1, "SET stops the clock");
	set_cmos(0x32, 0x20);
	set_cmos(9, 0x24);
	set_cmos(8, 0x02);
	set_cmos(7, 0x28);
	set_cmos(4, 0x12);
	set_cmos(2, 0x34);
	set_cmos(0, 0x56);
	set_cmos(10, 0x76);
	clock_ns += 10 * SECOND;
	set_cmos(10, 0x26);
	set_cmos(11, 0x02);
	is_int(now(), 0x20240228123456, "the time that was set");
	clock_ns += SECOND / 2 - 1000000;
	is_int(cmos(0), 0x56, "half a second after the divider's reset");
	clock_ns += 2000000;
	is_int(cmos(0), 0x57, "it ticks");
	clock_ns += 86400 * SECOND;
	is_int(now(), 0x20240229123457, "a leap day");

	set_cmos(11, 0x06);
	is_int(cmos(2), 34, "in binary");
	set_cmos(11, 0x00);
	is_int(cmos(4), 0x92, "noon is 12 in the afternoon");
	clock_ns += 12 * 3600 * SECOND;
	is_int(cmos(4), 0x12, "midnight is 12 in the morning");
	clock_ns += 13 * 3600 * SECOND;
	is_int(cmos(4), 0x81, "one in the afternoon");
	set_cmos(11, 0x02);
}

static void test_flags(void)
{
	clock_ns = clock_ns / SECOND * SECOND;
	cmos(12);
	is_int(cmos(12), 0, "nothing happened");
	clock_ns += 3 * SECOND;
	is_int(cmos(12) & 0x10, 0x10, "a second passed");
	set_cmos(1, cmos(0) + 2 > 0x59 ? 0x05 : cmos(0) + 2);
	set_cmos(3, 0xff);
	set_cmos(5, 0xff);
	clock_ns += 61 * SECOND;
	is_int(cmos(12) & 0x20, 0x20, "the alarm went off");
	ok(!rtc_irq, "no interrupt unless it is enabled");
	set_cmos(11, 0x12);
	clock_ns += SECOND;
	while (!rtc_irq)
		loop_once(loop);
	ok(rtc_irq, "an enabled update interrupts");
	is_int(cmos(12) & 0x90, 0x90, "register C says so");
	ok(!rtc_irq, "and is quiet when read");
	set_cmos(11, 0x02);
}

/* CPU time of setting an alarm and looking after it a thousand times, in ms. */
static double alarm_cost(unsigned hour, unsigned minute, unsigned second)
{
	clock_t before = clock();

	set_cmos(1, second), set_cmos(3, minute), set_cmos(5, hour);
	set_cmos(11, 0x22);
	for (unsigned i = 0; i < 1000; i++)
		cmos(12);
	set_cmos(11, 0x02);
	return (double)(clock() - before) * 1000 / CLOCKS_PER_SEC;
}

static void test_alarms(void)
{
	double easy = alarm_cost(0xff, 0xff, 0xff);

	ok(alarm_cost(0xff, 0xff, 0x99) < 100 * easy + 100, "an alarm that never comes is not looked for all day");
	ok(alarm_cost(0xff, 0x99, 0xff) < 100 * easy + 100, "nor one without such a minute");
	ok(alarm_cost(0x99, 0xff, 0xff) < 100 * easy + 100, "nor one without such an hour");
	ok(alarm_cost(0x00, 0x00, 0x00) < 1000 * easy + 100, "and one a day off is found by hours");
	cmos(12);
}

static void set_flag(void *flag)
{
	*(bool *)flag = true;
}

/* The loop goes on for 5 ms. */
static void let_pass(void)
{
	struct loop_timer t;
	bool over = false;

	loop_timer_init(&t, loop, set_flag, &over);
	loop_timer_set(&t, loop_now() + 5000000);
	while (!over)
		loop_once(loop);
	loop_timer_fini(&t);
}

/* A periodic interrupt is due each 122 us, while nobody runs. */
static void test_pause(struct device *rtc)
{
	set_cmos(10, 0x23);
	set_cmos(11, 0x42);
	cmos(12);
	device_pause(rtc);
	clock_ns += SECOND;
	let_pass();
	ok(!rtc_irq, "a paused clock does not interrupt");
	device_resume(rtc);
	ok(rtc_irq, "but when it goes on, for what it missed");
	cmos(12);
	ok(!rtc_irq, "once");
	clock_ns += SECOND;
	while (!rtc_irq)
		loop_once(loop);
	ok(rtc_irq, "and its timer is set again");
	set_cmos(10, 0x26);
	set_cmos(11, 0x02);
	cmos(12);
}

static void test_rtc(void)
{
	struct device *rtc = device_create(&rtc_model, bus, (uint64_t[]){0x70}, &(struct rtc_config){
		.irq = {.set = set_rtc_level, .ctx = &rtc_irq}, .loop = loop,
		.ram_low = 3ull << 30, .ram_high = 5ull << 30,
		.clock = {.realtime = read_clock},
	}, NULL);
	unsigned calls;

	test_time();
	test_flags();
	test_alarms();
	test_pause(rtc);
	is_int(cmos(0x34) | cmos(0x35) << 8, 0xbf00, "RAM above 16 MiB");
	is_int(cmos(0x5b) | cmos(0x5c) << 8 | cmos(0x5d) << 16, 0x14000,
	       "and above 4 GiB");
	is_int(cmos(13), 0x80, "the battery is good");
	set_cmos(0x50, 0xa5);
	set_cmos(13, 0);
	set_cmos(11, 0x12);
	device_reset(rtc);
	calls = rtc_calls;
	clock_ns += 3 * SECOND;
	set_cmos(1, 0x20); /* looks at the time */
	is_int(rtc_calls, calls, "the line is left alone after a reset");
	is_int(cmos(0x50), 0xa5, "RAM survives a reset");
	is_int(cmos(0x80 + 13), 0x80, "bit 7 of the index is not part of it");
	device_destroy(rtc);
}

/* -- Reset ------------------------------------------------------------------------- */

static void test_resets(void)
{
	struct device *kbc = device_create(
		&i8042_model, bus, (uint64_t[]){0x60, 0x64}, &(struct i8042_config){.power = power}, NULL);
	struct device *port = device_create(
		&port92_model, bus, (uint64_t[]){0x92}, &(struct port92_config){.power = power}, NULL);

	resets = 0;
	out(0x64, 1, 0xaa);
	is_int(in(0x64, 1) & 1, 1, "the controller answers");
	is_int(in(0x60, 1), 0x55, "that it is well");
	is_int(in(0x64, 1) & 3, 0, "and waits");
	out(0x64, 1, 0xd1);
	out(0x60, 1, 0x03);
	is_int(resets, 0, "the output port with bit 0 high");
	out(0x64, 1, 0xd1);
	out(0x60, 1, 0x02);
	is_int(resets, 1, "and low: reset");
	out(0x64, 1, 0xfe);
	is_int(resets, 2, "the pulse command: reset");
	is_int(in(0x92, 1), 2, "A20 is on");
	out(0x92, 1, 3);
	is_int(resets, 3, "port 0x92: reset");
	out(0x92, 1, 3);
	is_int(resets, 3, "on the edge only");
	device_destroy(kbc);
	device_destroy(port);
}

/* -- ACPI -------------------------------------------------------------------------- */

static void test_acpi(void)
{
	struct device *pm = device_create(&acpi_pm_model, bus, (uint64_t[]){0x600}, &(struct acpi_pm_config){
		.sci = {.set = set_level, .ctx = &sci}, .power = power,
		.clock = {.monotonic = read_clock},
	}, NULL);
	unsigned t = in(0x608, 4);

	clock_ns += SECOND;
	is_int(in(0x608, 4) - t, 3579545, "the timer's frequency");
	clock_ns += 1000000 * SECOND;
	is_int(in(0x608, 4) - t, (uint32_t)(3579545ull * 1000001), "after eleven days");
	is_int(in(0x604, 2), 1, "SCI_EN is on");
	acpi_pm_power_button(pm);
	ok(!sci, "the button is not enabled");
	out(0x602, 2, 0x100);
	ok(sci, "now it is");
	is_int(in(0x600, 4), 0x01000100, "status and enable in one access");
	out(0x600, 2, 0x100);
	ok(!sci, "a written 1 clears it");
	out(0x604, 2, 0x2000 | 1 << 10);
	is_int(offs, 0, "S1 is not there");
	out(0x604, 2, 0x2000 | ACPI_PM_S5 << 10);
	is_int(offs, 1, "S5 switches off");
	out(0x622, 1, 0xff);
	is_int(in(0x620, 4), 0x00ff0000, "GPE enable, by bytes");
	acpi_pm_event(pm, 9);
	ok(!sci, "a general-purpose event that is not enabled");
	acpi_pm_event(pm, 0);
	ok(sci, "and one that is");
	is_int(in(0x620, 4), 0x00ff0201, "both are in the status");
	out(0x620, 1, 0xfe);
	ok(sci, "0 written clears nothing");
	out(0x620, 1, 1);
	ok(!sci, "1 does");
	out(0x623, 1, 2);
	ok(sci, "an event that waited is enabled");
	device_reset(pm);
	ok(!sci && in(0x620, 4) == 0, "a reset forgets all");
	device_destroy(pm);
}

/* -- Panics ------------------------------------------------------------------------ */

static unsigned panics, crash_kernels;

static void count_panic(void *ctx, bool crash_kernel)
{
	(void)ctx;
	if (crash_kernel)
		crash_kernels++;
	else
		panics++;
}

static void test_pvpanic(void)
{
	struct device *dev = device_create(&pvpanic_model, bus, (uint64_t[]){0x505}, &(struct pvpanic_config){
		.panicked = count_panic }, NULL);

	is_int(in(0x505, 1), 3, "a panic and a crash kernel are understood");
	out(0x505, 1, 0);
	out(0x505, 1, 0xfc);
	is_int(panics + crash_kernels, 0, "other bits are not");
	out(0x505, 1, 1);
	out(0x505, 1, 2);
	ok(panics == 1 && crash_kernels == 1, "each is told");
	out(0x505, 1, 0xff);
	ok(panics == 2 && crash_kernels == 1, "who says both has panicked for good");
	device_destroy(dev);
	dev = device_create(&pvpanic_model, bus, (uint64_t[]){0x505}, &(struct pvpanic_config){0}, NULL);
	out(0x505, 1, 1);
	is_int(in(0x505, 1), 3, "nobody need listen");
	device_destroy(dev);
}

/* -- The generation ID ------------------------------------------------------------- */

static void test_vmgenid(void)
{
	static uint8_t ram[64], first[16];
	static const uint8_t zeros[16];
	const struct guest_mem mem = {.n = 1, .regions[0] = {.base = 0x1000, .size = sizeof(ram), .host = ram}};
	struct vmgenid_config config = {.mem = &mem, .at = 0x1010};
	struct device *dev = device_create(&vmgenid_model, bus, NULL, &config, NULL), *other;
	struct err err = {0};

	memcpy(first, ram + 16, 16);
	ok(memcmp(first, zeros, 16) != 0, "there is an ID in memory");
	ok(!memcmp(ram, zeros, 16) && !memcmp(ram + 32, zeros, 16), "and nothing beside it");
	memset(ram, 0, sizeof(ram));
	device_reset(dev);
	ok(memcmp(first, ram + 16, 16) == 0, "after a reset it is there again");
	config.at = 0x1000;
	other = device_create(&vmgenid_model, bus, NULL, &config, NULL);
	ok(memcmp(ram, zeros, 16) != 0 && memcmp(ram, first, 16) != 0, "another device has another one");
	config.moved = true;
	memcpy(ram, "it has an ID yet", 16);
	device_destroy(other);
	other = device_create(&vmgenid_model, bus, NULL, &config, NULL);
	ok(memcmp(ram, "it has an ID yet", 16) == 0, "a guest that has moved keeps its own");
	memset(ram, 0, sizeof(ram));
	device_reset(other);
	ok(memcmp(ram, "it has an ID yet", 16) == 0, "through a reset, too");
	config.at = 0x1038;
	ok(!device_create(&vmgenid_model, bus, NULL, &config, &err), "one whose place is not all memory is not made");
	is_str(err.text, "vmgenid: no guest memory at 0x1038", "that is told");
	device_destroy(dev);
	device_destroy(other);
}

/* -- The list ---------------------------------------------------------------------- */

static void test_models(void)
{
	for (const struct device_model *const *m = device_models; *m; m++) {
		bool again = false;

		for (const struct device_model *const *o = device_models; o < m; o++)
			again |= strcmp((*o)->name, (*m)->name) == 0;
		ok(!again && (*m)->summary[0] && (*m)->size >= sizeof(struct device) &&
		   (*m)->init && (*m)->reset, "model %s: %s", (*m)->name, (*m)->summary);
	}
}

int main(void)
{
	test_models();
	bus = bus_create();
	loop_create(&loop, NULL);
	test_rtc();
	test_resets();
	test_acpi();
	test_pvpanic();
	test_vmgenid();
	bus_destroy(bus);
	loop_destroy(loop);
	return done_testing();
}

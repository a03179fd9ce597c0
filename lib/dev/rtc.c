/* SPDX-License-Identifier: MIT */
/*
 * The real-time clock and battery-backed RAM of a PC, after Motorola's MC146818A data
 * sheet: port 0x70 selects one of 128 bytes, port 0x71 reads and writes it.
 *
 *	0  seconds   1  seconds alarm     a  divider, rate, UIP     b  SET, enables, format
 *	2  minutes   3  minutes alarm     c  what happened          d  the battery is good
 *	4  hours     5  hours alarm
 *	6  weekday   7  day   8  month   9  year   32  century
 *	15 to 18, 30, 31, 34, 35, 5b to 5d: memory sizes, as the BIOS left them
 *
 * Nothing ticks. The clock is a difference to the host's clock:
 *
 *	guest time = host time + offset          running
 *	guest time = frozen                      SET is 1, or the divider is held in reset
 *
 * The time bytes are computed when they are read, and a written one moves the offset
 * (or `frozen`). The guest keeps UTC or local time in it as it likes: we start with
 * UTC.
 *
 * An update takes the chip's 244 us before each full second, while UIP reads as 1; a
 * driver that sees UIP at 0 has that long to read a consistent time. When the divider
 * is released from reset the next second begins after half a second, which is what
 * Linux aims with.
 *
 * Flags of register C (periodic, alarm, update) are worked out from what time it was
 * when somebody last looked. A timer raises the interrupt, and is set only while one is
 * enabled: a guest that does not ask for interrupts costs nothing. It follows from the
 * rest, so it is no state.
 */
#include "dev/rtc.h"

#include "base/bytes.h"
#include "base/err.h"
#include "base/macros.h"
#include "base/scoped.h"
#include "loop/loop.h"
#include "state/state.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#define SECOND UINT64_C(1000000000)
#define UPDATE_TIME UINT64_C(244000) /* ns */

#define CMOS_SIZE 128u

enum {
	SEC, SEC_ALARM, MIN, MIN_ALARM, HOUR, HOUR_ALARM, WEEKDAY, DAY, MONTH, YEAR,
	REG_A, REG_B, REG_C, REG_D,
	CENTURY = 0x32,
};

#define A_UIP     0x80u
#define A_DIVIDER 0x70u
#define A_RATE    0x0fu
#define A_DIVIDER_RESET 0x60u /* both upper bits of the divider */

#define B_SET    0x80u
#define B_PIE    0x40u
#define B_AIE    0x20u
#define B_UIE    0x10u
#define B_BINARY 0x04u
#define B_24H    0x02u

#define C_IRQF 0x80u
#define C_PF   0x40u
#define C_AF   0x20u
#define C_UF   0x10u

#define D_VRT 0x80u

#define ALARM_ANY 0xc0u /* in an alarm byte: matches whatever the time is */

struct rtc {
	struct device dev;
	struct rtc_config config;
	uint8_t index;
	uint8_t cmos[CMOS_SIZE]; /* time bytes are here only while they are converted */
	int64_t offset;          /* ns, modulo 2^64 */
	uint64_t frozen;         /* ns since 1970, while stopped */
	uint64_t seen;           /* guest time up to which C's flags are worked out */
	struct loop_timer timer; /* raises the interrupt */
	bool paused;
	bool line;               /* what the interrupt line was told last */
};

/* -- Time -------------------------------------------------------------------------- */

static bool stopped(const struct rtc *rtc)
{
	return (rtc->cmos[REG_B] & B_SET) ||
	       (rtc->cmos[REG_A] & A_DIVIDER_RESET) == A_DIVIDER_RESET;
}

static uint64_t now(const struct rtc *rtc)
{
	return stopped(rtc) ? rtc->frozen
			    : dev_realtime(&rtc->config.clock) + (uint64_t)rtc->offset;
}

static void set_now(struct rtc *rtc, uint64_t ns)
{
	rtc->frozen = ns;
	rtc->offset = (int64_t)(ns - dev_realtime(&rtc->config.clock));
	rtc->seen = ns;
}

static uint8_t encode(const struct rtc *rtc, int value)
{
	if (rtc->cmos[REG_B] & B_BINARY)
		return (uint8_t)value;
	return (uint8_t)(value / 10 << 4 | value % 10);
}

static int decode(const struct rtc *rtc, uint8_t byte)
{
	return rtc->cmos[REG_B] & B_BINARY ? byte : (byte >> 4) * 10 + (byte & 0xf);
}

static uint8_t encode_hour(const struct rtc *rtc, int hour)
{
	if (rtc->cmos[REG_B] & B_24H)
		return encode(rtc, hour);
	return encode(rtc, (hour + 11) % 12 + 1) | (hour >= 12 ? 0x80 : 0);
}

static int decode_hour(const struct rtc *rtc, uint8_t byte)
{
	if (rtc->cmos[REG_B] & B_24H)
		return decode(rtc, byte);
	return decode(rtc, byte & 0x7f) % 12 + (byte & 0x80 ? 12 : 0);
}

/* The time as bytes 0 to 9 and the century. */
static void time_to_bytes(struct rtc *rtc, uint64_t ns)
{
	time_t seconds = (time_t)(ns / SECOND);
	uint8_t *cmos = rtc->cmos;
	struct tm tm;

	gmtime_r(&seconds, &tm);
	cmos[SEC] = encode(rtc, tm.tm_sec);
	cmos[MIN] = encode(rtc, tm.tm_min);
	cmos[HOUR] = encode_hour(rtc, tm.tm_hour);
	cmos[WEEKDAY] = encode(rtc, tm.tm_wday + 1);
	cmos[DAY] = encode(rtc, tm.tm_mday);
	cmos[MONTH] = encode(rtc, tm.tm_mon + 1);
	cmos[YEAR] = encode(rtc, tm.tm_year % 100);
	cmos[CENTURY] = encode(rtc, (tm.tm_year + 1900) / 100);
}

/* And back; what is no date becomes the one that follows from counting on. */
static uint64_t bytes_to_time(const struct rtc *rtc)
{
	const uint8_t *cmos = rtc->cmos;
	struct tm tm = {
		.tm_sec = decode(rtc, cmos[SEC]),
		.tm_min = decode(rtc, cmos[MIN]),
		.tm_hour = decode_hour(rtc, cmos[HOUR]),
		.tm_mday = decode(rtc, cmos[DAY]),
		.tm_mon = decode(rtc, cmos[MONTH]) - 1,
		.tm_year = decode(rtc, cmos[CENTURY]) * 100 + decode(rtc, cmos[YEAR]) -
			   1900,
	};
	time_t seconds = timegm(&tm);

	return seconds < 0 ? 0 : (uint64_t)seconds * SECOND;
}

static bool is_time(unsigned index)
{
	return index <= YEAR
		       ? index != SEC_ALARM && index != MIN_ALARM && index != HOUR_ALARM
		       : index == CENTURY;
}

static void write_time(struct rtc *rtc, unsigned index, uint8_t value)
{
	uint64_t was = now(rtc);

	time_to_bytes(rtc, was);
	rtc->cmos[index] = value;
	if (index != WEEKDAY)
		set_now(rtc, bytes_to_time(rtc) + was % SECOND);
}

/* -- Flags ------------------------------------------------------------------------- */

/* Nanoseconds between periodic interrupts; 0 for none. */
static uint64_t period(const struct rtc *rtc)
{
	unsigned rate = rtc->cmos[REG_A] & A_RATE;

	if (rate == 0)
		return 0;
	if (rate < 3)
		rate += 7; /* 1 and 2 are 8 and 9 with a 32 kHz crystal */
	return SECOND >> (16 - rate);
}

static bool alarm_byte_matches(uint8_t alarm, uint8_t byte)
{
	return (alarm & ALARM_ANY) == ALARM_ANY || alarm == byte;
}

/* Whether it goes off at any time of a day: its bytes may be no time. */
static bool alarm_exists(const struct rtc *rtc)
{
	const uint8_t *cmos = rtc->cmos;
	bool second = false, minute = false, hour = false;

	for (int i = 0; i < 60; i++) {
		second |= alarm_byte_matches(cmos[SEC_ALARM], encode(rtc, i));
		minute |= alarm_byte_matches(cmos[MIN_ALARM], encode(rtc, i));
		hour |= i < 24 && alarm_byte_matches(cmos[HOUR_ALARM], encode_hour(rtc, i));
	}
	return second && minute && hour;
}

/* For how many seconds from there on the alarm certainly does not go off; 0: it does. */
static uint64_t quiet_after(struct rtc *rtc, uint64_t seconds)
{
	const uint8_t *cmos = rtc->cmos;

	time_to_bytes(rtc, seconds * SECOND);
	if (!alarm_byte_matches(cmos[HOUR_ALARM], cmos[HOUR]))
		return 3600 - seconds % 3600;
	if (!alarm_byte_matches(cmos[MIN_ALARM], cmos[MIN]))
		return 60 - seconds % 60;
	return !alarm_byte_matches(cmos[SEC_ALARM], cmos[SEC]);
}

/* The first second in (from, to] at which the alarm goes off, or 0. A day shows them
 * all, and takes some 200 steps: it is a vCPU that waits. */
static uint64_t next_alarm(struct rtc *rtc, uint64_t from, uint64_t to)
{
	if (to <= from || !alarm_exists(rtc))
		return 0;
	if (to > from + 86400)
		to = from + 86400;
	for (uint64_t s = from + 1, quiet; s <= to; s += quiet) {
		quiet = quiet_after(rtc, s);
		if (!quiet)
			return s;
	}
	return 0;
}

static uint8_t enabled_flags(const struct rtc *rtc)
{
	return rtc->cmos[REG_B] & rtc->cmos[REG_C] & (C_PF | C_AF | C_UF);
}

static void drive(struct rtc *rtc, bool level)
{
	if (level == rtc->line)
		return;
	rtc->line = level;
	irq_set(&rtc->config.irq, level);
}

/* Sets the flags of what happened since `seen`, and the line with them. */
static void update(struct rtc *rtc)
{
	uint64_t from = rtc->seen, to = now(rtc), step = period(rtc);
	uint8_t *c = &rtc->cmos[REG_C];

	if (!stopped(rtc) && to > from) {
		if (step && to / step != from / step)
			*c |= C_PF;
		if (to / SECOND != from / SECOND) {
			*c |= C_UF;
			if (!(*c & C_AF) && next_alarm(rtc, from / SECOND, to / SECOND))
				*c |= C_AF;
		}
	}
	rtc->seen = to;
	if (enabled_flags(rtc))
		*c |= C_IRQF;
	drive(rtc, *c & C_IRQF);
}

/* -- The interrupt ----------------------------------------------------------------- */

/* When something enabled happens next, as ns from now; 0: nothing is awaited. */
static uint64_t wait_ns(struct rtc *rtc)
{
	uint64_t at = rtc->seen, step = period(rtc), best = 0;
	uint8_t want = rtc->cmos[REG_B] & ~rtc->cmos[REG_C];

	if (stopped(rtc))
		return 0;
	if ((want & B_PIE) && step)
		best = step - at % step;
	if (want & B_UIE && (!best || SECOND - at % SECOND < best))
		best = SECOND - at % SECOND;
	if (want & B_AIE) {
		/* Whatever is awaited already comes within a second: do not search
		 * further. */
		uint64_t s =
			next_alarm(rtc, at / SECOND, at / SECOND + (best ? 1 : 86400));

		if (s && (!best || s * SECOND - at < best))
			best = s * SECOND - at;
	}
	return best;
}

/* Something may have changed: the flags, the line, and what the timer waits for. */
static void refresh(struct rtc *rtc)
{
	uint64_t ns;

	update(rtc);
	ns = rtc->paused ? 0 : wait_ns(rtc);
	loop_timer_set(&rtc->timer, ns ? loop_now() + ns : LOOP_NEVER);
}

static void tick(void *ctx)
{
	struct rtc *rtc = ctx;

	scoped_lock(&rtc->dev.lock);
	if (!rtc->paused)
		refresh(rtc);
}

/* -- Registers --------------------------------------------------------------------- */

static uint8_t read_a(const struct rtc *rtc)
{
	bool updating = !stopped(rtc) && SECOND - now(rtc) % SECOND <= UPDATE_TIME;

	return (rtc->cmos[REG_A] & (A_DIVIDER | A_RATE)) | (updating ? A_UIP : 0);
}

/* A and B decide whether the clock runs: carry the time over the change. */
static void write_control(struct rtc *rtc, unsigned index, uint8_t value)
{
	uint64_t was = now(rtc);
	bool held = (rtc->cmos[REG_A] & A_DIVIDER_RESET) == A_DIVIDER_RESET;

	update(rtc);
	rtc->cmos[index] = index == REG_A ? value & (A_DIVIDER | A_RATE) : value;
	if (index == REG_A && held && (value & A_DIVIDER_RESET) != A_DIVIDER_RESET)
		was += SECOND / 2 - was % SECOND;
	set_now(rtc, was);
	refresh(rtc);
}

static uint8_t read_c(struct rtc *rtc)
{
	uint8_t c;

	update(rtc);
	c = rtc->cmos[REG_C];
	rtc->cmos[REG_C] = 0;
	refresh(rtc);
	return c;
}

static uint64_t read_data(void *dev, unsigned at)
{
	struct rtc *rtc = dev;
	uint8_t index = rtc->index;

	(void)at;
	if (index == REG_A)
		return read_a(rtc);
	if (index == REG_C)
		return read_c(rtc);
	if (is_time(index))
		time_to_bytes(rtc, now(rtc));
	return rtc->cmos[index];
}

static void write_data(void *dev, unsigned at, uint64_t value)
{
	struct rtc *rtc = dev;
	uint8_t index = rtc->index;

	(void)at;
	if (index == REG_A || index == REG_B)
		write_control(rtc, index, (uint8_t)value);
	else if (is_time(index))
		write_time(rtc, index, (uint8_t)value);
	else if (index != REG_C && index != REG_D)
		rtc->cmos[index] = (uint8_t)value;
	if (index <= YEAR)
		refresh(rtc);
}

/* Bit 7 of the index port is the NMI mask of the board, which nothing here pulls. */
static void write_index(void *dev, unsigned at, uint64_t value)
{
	(void)at;
	((struct rtc *)dev)->index = value & (CMOS_SIZE - 1);
}

static uint64_t read_index(void *dev, unsigned at)
{
	(void)at;
	return ((struct rtc *)dev)->index;
}

static const struct reg regs[] = {
	{.at = 0, .width = 1, .name = "index", .read = read_index, .write = write_index},
	{.at = 1, .width = 1, .name = "data", .read = read_data, .write = write_data},
	{0},
};

/* -- The model --------------------------------------------------------------------- */

static uint16_t at_most_16(uint64_t n)
{
	return n > UINT16_MAX ? UINT16_MAX : (uint16_t)n;
}

static void put_memory_sizes(struct rtc *rtc)
{
	uint64_t low = rtc->config.ram_low, high = rtc->config.ram_high;
	uint16_t extended = at_most_16(low > MiB ? (low - MiB) / KiB : 0);
	uint16_t above_16m =
		at_most_16(low > 16 * MiB ? (low - 16 * MiB) / (64 * KiB) : 0);
	uint64_t above_4g = high / (64 * KiB);

	le16_put(&rtc->cmos[0x15], 640);
	le16_put(&rtc->cmos[0x17], extended);
	le16_put(&rtc->cmos[0x30], extended);
	le16_put(&rtc->cmos[0x34], above_16m);
	rtc->cmos[0x5b] = (uint8_t)above_4g;
	rtc->cmos[0x5c] = (uint8_t)(above_4g >> 8);
	rtc->cmos[0x5d] = (uint8_t)(above_4g >> 16);
}

static const struct device_place places[] = {
	{BUS_PORT, 2, .regs = regs},
	{0},
};

static int init(struct device *dev, const void *config, struct err *err)
{
	struct rtc *rtc = (struct rtc *)dev;

	(void)err;
	rtc->config = *(const struct rtc_config *)config;
	rtc->cmos[REG_A] = 0x26; /* 32 kHz crystal, 1024 Hz */
	rtc->cmos[REG_B] = B_24H;
	rtc->cmos[REG_D] = D_VRT;
	put_memory_sizes(rtc);
	rtc->seen = now(rtc);
	if (rtc->config.loop)
		loop_timer_init(&rtc->timer, rtc->config.loop, tick, rtc);
	return 0;
}

/* The battery keeps time and RAM; the reset line clears flags and enables. */
static void reset(struct device *dev)
{
	struct rtc *rtc = (struct rtc *)dev;

	rtc->index = 0;
	rtc->cmos[REG_B] &= (uint8_t)~(B_PIE | B_AIE | B_UIE);
	rtc->cmos[REG_C] = 0;
	refresh(rtc);
}

static void fini(struct device *dev)
{
	loop_timer_fini(&((struct rtc *)dev)->timer);
}

static void pause_rtc(struct device *dev)
{
	struct rtc *rtc = (struct rtc *)dev;

	rtc->paused = true;
	loop_timer_set(&rtc->timer, LOOP_NEVER);
}

static void resume(struct device *dev)
{
	struct rtc *rtc = (struct rtc *)dev;

	rtc->paused = false;
	refresh(rtc);
}

/* `offset` is to the host's clock, so a clock that ran has the right time again whenever it is
 * loaded, and `seen` tells it what it missed. The date of a host that is behind is no time of ours:
 * then nothing has happened yet. */
static int loaded(struct device *dev, uint64_t away, struct err *err)
{
	struct rtc *rtc = (struct rtc *)dev;

	(void)away, (void)err;
	if (rtc->seen > now(rtc))
		rtc->seen = now(rtc);
	return 0;
}

static const struct state_field fields[] = {
	STATE_UPTO(struct rtc, index, CMOS_SIZE - 1),
	STATE_ARRAY(struct rtc, cmos),
	STATE(struct rtc, offset),
	STATE(struct rtc, frozen),
	STATE(struct rtc, seen),
	STATE(struct rtc, line),
	{0},
};

static const struct state_table table = {.name = "mc146818", .version = 1, .fields = fields};
static const struct state_table *const state[] = {&table, NULL};

const struct device_model rtc_model = {
	.name = "rtc",
	.summary = "MC146818 clock and battery RAM",
	.size = sizeof(struct rtc),
	.places = places,
	.state = state,
	.init = init,
	.reset = reset,
	.fini = fini,
	.pause = pause_rtc,
	.resume = resume,
	.loaded = loaded,
};

/* SPDX-License-Identifier: MIT */
/*
 * High precision event timers, after the IA-PC HPET specification 1.0a.
 *
 *	+000  capabilities: period of the counter in fs, and how many timers    64 bits; here and below
 *	+010  configuration: bit 0 runs, 1 replaces PIT and RTC
 *	+020  interrupts that are pending, of timers that have level-triggered ones; a 1 written clears
 *	+0f0  the counter
 *	+100  timer n's are 0x20 * n behind: configuration; +108 comparator
 *
 * The counter goes by the host's clock, in steps of 10 ns: it is `base` and what has passed since `since`. So it goes on while the guest is paused or
 * saved, as its other clocks do.
 *
 * A comparator is waited for in the loop. One that the counter has passed already, of 32 bits by less than an eighth of their range, is due at once:
 * whoever set it was slower than its time. One that does not repeat goes off once for each time that it is written, and one that
 * repeats not more often than each 200 us; what was missed is one interrupt.
 *
 * Left out: interrupts by messages (FSB), which say that they are not there.
 */
#include "dev/hpet.h"

#include "base/err.h"
#include "base/scoped.h"
#include "loop/loop.h"
#include "state/state.h"

#include <errno.h>

#define TIMERS    3u
#define TICK_NS   10u
#define PERIOD_FS UINT64_C(10000000)
#define OFTEN_NS  UINT64_C(200000)
#define SIZE      0x400u

#define RUNS      0x1u /* configuration */
#define REPLACES  0x2u

#define T_LEVEL   0x0002u /* of a timer */
#define T_ENABLE  0x0004u
#define T_REPEATS 0x0008u
#define T_SET     0x0040u /* the next write of the comparator is to itself, not to its period */
#define T_32BIT   0x0100u
#define T_ROUTE   0x3e00u
#define T_KEPT    (T_LEVEL | T_ENABLE | T_REPEATS | T_SET | T_32BIT | T_ROUTE)
#define T_CAN     (UINT64_C(0x30) | (uint64_t)HPET_ROUTES << 32) /* repeat; have 64 bits; these lines */

struct timer {
	uint32_t config;
	uint64_t comparator, period;
	bool armed; /* it is going to go off */
	uint64_t held; /* not before this time */
};

struct hpet {
	struct device dev; /* first */
	struct hpet_config config;
	struct loop_timer call;
	bool paused;
	/* the guest's: */
	uint8_t running; /* RUNS, REPLACES */
	uint32_t pending;
	uint64_t base;   /* the counter, when it was looked at; */
	uint64_t since;  /* and then */
	struct timer timers[TIMERS];
};

/* -- The counter ---------------------------------------------------------------------------- */

static uint64_t counter_at(const struct hpet *h, uint64_t now)
{
	return h->base + (h->running & RUNS ? (now - h->since) / TICK_NS : 0);
}

/* Of what happens from now on the counter is the same. */
static void rebase(struct hpet *h)
{
	uint64_t now = dev_monotonic(&h->config.clock), counter = counter_at(h, now);

	/* The rest of a step is not lost: since stays where a step began. */
	h->since = h->running & RUNS ? now - (now - h->since) % TICK_NS : now;
	h->base = counter;
}

static uint64_t mask_of(const struct timer *t)
{
	return t->config & T_32BIT ? UINT32_MAX : UINT64_MAX;
}

/* How many steps to its comparator; 0: it has passed. */
static uint64_t left(const struct timer *t, uint64_t counter)
{
	uint32_t ahead = (uint32_t)(t->comparator - counter);

	if (!(t->config & T_32BIT))
		return t->comparator > counter ? t->comparator - counter : 0;
	return ahead > UINT32_MAX - UINT32_MAX / 8 ? 0 : ahead;
}

/* -- Interrupts ------------------------------------------------------------------------------- */

/* The line of a timer; false: it has none. */
static bool line_of(const struct hpet *h, unsigned n, struct irq_line *line)
{
	unsigned gsi = (h->timers[n].config & T_ROUTE) >> 9;

	*line = h->config.irq;
	line->gsi = gsi;
	if (h->running & REPLACES && n < 2)
		line->gsi = n ? 8 : 0;
	else if (!(HPET_ROUTES >> gsi & 1))
		return false;
	return true;
}

static bool pulls(const struct hpet *h, unsigned n)
{
	const struct timer *t = &h->timers[n];

	return h->pending >> n & 1 && t->config & T_LEVEL && t->config & T_ENABLE;
}

/* Of a level-triggered timer, whose line it may share with another. */
static void drive(struct hpet *h, const struct irq_line *line)
{
	bool level = false;

	for (unsigned n = 0; n < TIMERS; n++) {
		struct irq_line other;

		level |= line_of(h, n, &other) && other.gsi == line->gsi && pulls(h, n);
	}
	irq_set(line, level);
}

static void drive_all(struct hpet *h)
{
	struct irq_line line;

	for (unsigned n = 0; n < TIMERS; n++)
		if (h->timers[n].config & T_LEVEL && line_of(h, n, &line))
			drive(h, &line);
}

/* They are going to be other ones. */
static void leave_all(struct hpet *h)
{
	struct irq_line line;

	for (unsigned n = 0; n < TIMERS; n++)
		if (h->timers[n].config & T_LEVEL && line_of(h, n, &line))
			irq_set(&line, false);
}

static void go_off(struct hpet *h, unsigned n)
{
	const struct timer *t = &h->timers[n];
	struct irq_line line;

	if (!(t->config & T_ENABLE))
		return;
	if (t->config & T_LEVEL)
		h->pending |= 1u << n;
	if (!line_of(h, n, &line))
		return;
	irq_set(&line, true);
	if (!(t->config & T_LEVEL))
		irq_set(&line, false);
}

/* -- Time --------------------------------------------------------------------------------------- */

/* Its time has come: the next one, if it repeats. */
static void next(struct timer *t, uint64_t counter, uint64_t now)
{
	uint64_t mask = mask_of(t), behind = (counter - t->comparator) & mask;

	t->armed = t->config & T_REPEATS && t->period;
	if (!t->armed)
		return;
	t->comparator = (t->comparator + (behind / t->period + 1) * t->period) & mask;
	t->held = now + OFTEN_NS;
}

static uint64_t due(const struct timer *t, uint64_t counter, uint64_t now)
{
	uint64_t steps = left(t, counter), most = (LOOP_NEVER - 1 - now) / TICK_NS, at;

	at = now + (steps < most ? steps : most) * TICK_NS;
	return at < t->held ? t->held : at;
}

/* What is due goes off; the loop is told of what comes next. */
static void look(struct hpet *h)
{
	uint64_t now = dev_monotonic(&h->config.clock), counter = counter_at(h, now), soonest = LOOP_NEVER;

	if (h->paused || !(h->running & RUNS))
		return;
	for (unsigned n = 0; n < TIMERS; n++) {
		struct timer *t = &h->timers[n];

		if (t->armed && due(t, counter, now) <= now) {
			next(t, counter, now);
			go_off(h, n);
		}
		if (t->armed && due(t, counter, now) < soonest)
			soonest = due(t, counter, now);
	}
	loop_timer_set(&h->call, soonest);
}

static void on_time(void *ctx)
{
	struct hpet *h = ctx;

	scoped_lock(&h->dev.lock);
	look(h);
}

void hpet_look(struct device *dev)
{
	on_time(dev);
}

/* -- Registers ------------------------------------------------------------------------------------ */

static uint64_t half(uint64_t value, unsigned at)
{
	return (uint32_t)(value >> (at & 4) * 8);
}

static uint64_t with_half(uint64_t value, unsigned at, uint64_t part)
{
	unsigned shift = (at & 4) * 8;

	return (value & ~(UINT64_C(0xffffffff) << shift)) | (uint32_t)part * (UINT64_C(1) << shift);
}

static uint64_t read_capabilities(void *dev, unsigned at)
{
	(void)dev;
	return half(HPET_BLOCK_ID | PERIOD_FS << 32, at);
}

static uint64_t read_running(void *dev, unsigned at)
{
	return half(((struct hpet *)dev)->running, at);
}

static void replace(struct hpet *h, bool on)
{
	if (h->config.replace)
		h->config.replace(h->config.ctx, on);
}

static void write_running(void *dev, unsigned at, uint64_t value)
{
	struct hpet *h = dev;
	uint8_t before = h->running;

	if (at & 4)
		return;
	rebase(h);
	leave_all(h);
	h->running = value & (RUNS | REPLACES);
	if ((h->running ^ before) & REPLACES)
		replace(h, h->running & REPLACES);
	drive_all(h);
	look(h);
}

static uint64_t read_pending(void *dev, unsigned at)
{
	return half(((struct hpet *)dev)->pending, at);
}

static void write_pending(void *dev, unsigned at, uint64_t value)
{
	struct hpet *h = dev;

	if (at & 4)
		return;
	h->pending &= (uint32_t)~value;
	drive_all(h);
}

static uint64_t read_counter64(void *dev, unsigned at)
{
	struct hpet *h = dev;

	(void)at;
	return counter_at(h, dev_monotonic(&h->config.clock));
}

static uint64_t read_counter(void *dev, unsigned at)
{
	return half(read_counter64(dev, at), at);
}

static void write_counter64(void *dev, unsigned at, uint64_t value)
{
	struct hpet *h = dev;

	(void)at;
	h->base = value;
	h->since = dev_monotonic(&h->config.clock);
	look(h);
}

static void write_counter(void *dev, unsigned at, uint64_t value)
{
	write_counter64(dev, at, with_half(read_counter64(dev, at), at, value));
}

static struct timer *timer_at(struct hpet *h, unsigned at)
{
	return &h->timers[(at - 0x100) / 0x20]; /* SAFE: only their registers have these handlers */
}

static uint64_t read_config(void *dev, unsigned at)
{
	return half(timer_at(dev, at)->config | T_CAN, at);
}

static void write_config(void *dev, unsigned at, uint64_t value)
{
	struct hpet *h = dev;
	unsigned n = (at - 0x100) / 0x20;
	struct timer *t = &h->timers[n];

	if (at & 4)
		return;
	leave_all(h);
	t->config = (uint32_t)value & T_KEPT;
	if (!(t->config & T_LEVEL))
		h->pending &= ~(1u << n);
	if (t->config & T_32BIT) {
		t->comparator &= UINT32_MAX;
		t->period &= UINT32_MAX;
	}
	drive_all(h);
	look(h);
}

static uint64_t read_comparator64(void *dev, unsigned at)
{
	return timer_at(dev, at)->comparator;
}

static uint64_t read_comparator(void *dev, unsigned at)
{
	return half(read_comparator64(dev, at), at);
}

static void write_comparator64(void *dev, unsigned at, uint64_t value)
{
	struct hpet *h = dev;
	struct timer *t = timer_at(h, at);

	value &= mask_of(t);
	if (!(t->config & T_REPEATS) || t->config & T_SET)
		t->comparator = value;
	if (t->config & T_REPEATS)
		t->period = value;
	t->config &= ~T_SET;
	t->armed = true;
	t->held = 0;
	look(h);
}

static void write_comparator(void *dev, unsigned at, uint64_t value)
{
	const struct timer *t = timer_at(dev, at);

	write_comparator64(dev, at, with_half(t->config & T_REPEATS && !(t->config & T_SET) ? t->period : t->comparator, at, value));
}

#define BOTH(where, what, get, put)                                                        \
	{.at = (where), .width = 8, .name = (what), .read = get##64, .write = put##64},    \
	{.at = (where), .width = 4, .count = 2, .name = what ", halves", .read = (get), .write = (put)}
#define TIMER(n)                                                                           \
	{.at = 0x100 + 0x20 * (n), .width = 4, .count = 2, .name = "T" #n "_CONF", .read = read_config, .write = write_config}, \
	BOTH(0x108 + 0x20 * (n), "T" #n "_COMPARATOR", read_comparator, write_comparator)

static const struct reg regs[] = {
	{.at = 0x000, .width = 4, .count = 2, .name = "GCAP_ID", .read = read_capabilities},
	{.at = 0x010, .width = 4, .count = 2, .name = "GEN_CONF", .read = read_running, .write = write_running},
	{.at = 0x020, .width = 4, .count = 2, .name = "GINTR_STA", .read = read_pending, .write = write_pending},
	BOTH(0x0f0, "MAIN_CNT", read_counter, write_counter),
	TIMER(0),
	TIMER(1),
	TIMER(2),
	{0},
};

static const struct device_place places[] = {{BUS_MMIO, SIZE, .regs = regs}, {0}};

/* -- The model -------------------------------------------------------------------------------------- */

static int init(struct device *dev, const void *config, struct err *err)
{
	struct hpet *h = (struct hpet *)dev;

	(void)err;
	h->config = *(const struct hpet_config *)config;
	if (h->config.loop)
		loop_timer_init(&h->call, h->config.loop, on_time, h);
	return 0;
}

static void fini(struct device *dev)
{
	loop_timer_fini(&((struct hpet *)dev)->call);
}

static void reset(struct device *dev)
{
	struct hpet *h = (struct hpet *)dev;
	bool replaced = h->running & REPLACES;

	leave_all(h);
	h->pending = 0;
	h->running = 0;
	h->base = 0;
	h->since = dev_monotonic(&h->config.clock);
	for (unsigned n = 0; n < TIMERS; n++)
		h->timers[n] = (struct timer){.comparator = UINT64_MAX};
	if (replaced)
		replace(h, false);
	loop_timer_set(&h->call, LOOP_NEVER);
}

static void pause_timers(struct device *dev)
{
	struct hpet *h = (struct hpet *)dev;

	h->paused = true;
	loop_timer_set(&h->call, LOOP_NEVER);
}

static void resume(struct device *dev)
{
	struct hpet *h = (struct hpet *)dev;

	h->paused = false;
	look(h);
}

/* The counter at this moment is what is saved; `since` and `held` are times of this computer. */
static void saving(struct device *dev)
{
	rebase((struct hpet *)dev);
}

static int loaded(struct device *dev, uint64_t away, struct err *err)
{
	struct hpet *h = (struct hpet *)dev;

	h->since = dev_monotonic(&h->config.clock) - away;
	for (unsigned n = 0; n < TIMERS; n++) {
		struct timer *t = &h->timers[n];

		if (t->config & ~T_KEPT)
			return err_set(err, EINVAL, "timer %u is configured as %#x: it has no such bits", n, t->config);
		if ((t->comparator | t->period) & ~mask_of(t))
			return err_set(err, EINVAL, "timer %u has 32 bits, and its comparator more", n);
		t->held = 0;
	}
	if (h->running & REPLACES)
		replace(h, true); /* SAFE: the PIT is loaded behind this, and was told then */
	return 0;
}

static const struct state_field timer_fields[] = {
	STATE(struct timer, config),
	STATE(struct timer, comparator),
	STATE(struct timer, period),
	STATE(struct timer, armed),
	{0},
};

static const struct state_field fields[] = {
	STATE_UPTO(struct hpet, running, RUNS | REPLACES),
	STATE_UPTO(struct hpet, pending, (1u << TIMERS) - 1),
	STATE(struct hpet, base),
	STATE_PARTS(struct hpet, timers, timer_fields),
	{0},
};

static const struct state_table table = {.name = "hpet", .version = 1, .fields = fields};
static const struct state_table *const state[] = {&table, NULL};

const struct device_model hpet_model = {
	.name = "hpet",
	.summary = "high precision event timers",
	.option = "--firmware",
	.size = sizeof(struct hpet),
	.places = places,
	.state = state,
	.init = init,
	.reset = reset,
	.fini = fini,
	.pause = pause_timers,
	.resume = resume,
	.saving = saving,
	.loaded = loaded,
};

/* SPDX-License-Identifier: MIT */
/*
 * The interval timer (8254): three counters at 1.193182 MHz, computed from the clock
 * when somebody looks.
 *
 *	port  40..42  the counters           channel 0  IRQ 0
 *	      43      control word           channel 1  (once memory refresh)
 *	      61      bit 0 gate of 2        channel 2  speaker; kernels time their TSC by it
 *	              bit 1 speaker
 *	              bit 4 refresh, toggles every 16 us
 *	              bit 5 output of 2
 *
 *	mode                 count after d ticks     output
 *	0 interrupt on end   N - d, wraps            low until d = N
 *	2 rate generator     N - d mod N             low in the last tick of N
 *	3 square wave        N - 2d mod N            high in the first half of N
 *	4 strobe             N - d, wraps            low in tick N
 *	1, 5                 as 0 and 4, started by the gate
 *
 * A counter's state is struct kvm_pit_channel_state of the ABI, its load time in
 * now_ns(). Channel 0's rising edges are events: the thread of the first vCPU has them
 * among its deadlines. An edge that finds the previous one still waiting in the
 * interrupt controllers is kept and tried again soon, so a guest that counts ticks does
 * not lose time (KVM_REINJECT_CONTROL turns that off); at most a second of them is
 * kept.
 *
 * Left out, as in KVM: BCD counting, and the freeze of modes 0 and 4 while the gate is
 * low.
 * Source: Intel 82C54 data sheet.
 */
#include "softkvm/irqchip/internal.h"

#define TICK_HZ 1193182ull
#define SECOND  1000000000ull

/* Guests that ask for more interrupts than this do not get them; as in KVM. */
#define PERIOD_MIN 200000u /* ns */

/* Which byte of a count comes next; values of the ABI. */
enum { RW_LSB = 1, RW_MSB = 2, RW_WORD0 = 3, RW_WORD1 = 4 };

static uint64_t ticks_of_ns(uint64_t ns)
{
	const uint64_t scale = (uint64_t)(((unsigned __int128)TICK_HZ << 64) / SECOND);

	return (uint64_t)((unsigned __int128)ns * scale >> 64);
}

static uint64_t ns_of_ticks(uint64_t ticks)
{
	const uint64_t scale = (SECOND << 32) / TICK_HZ + 1;

	return (uint64_t)((unsigned __int128)ticks * scale >> 32);
}

/* -- A counter ----------------------------------------------------------------------------- */

static uint64_t elapsed(const struct kvm_pit_channel_state *s)
{
	int64_t ns = (int64_t)(now_ns() - (uint64_t)s->count_load_time); /* any, by KVM_SET_PIT2 */

	return ns > 0 ? ticks_of_ns((uint64_t)ns) : 0;
}

static uint64_t whole(const struct kvm_pit_channel_state *s)
{
	return s->count ? s->count : 0x10000;
}

static uint16_t get_count(const struct kvm_pit_channel_state *s)
{
	uint64_t d = elapsed(s), n = whole(s);

	switch (s->mode) {
	case 2: return (uint16_t)(n - d % n);
	case 3: return (uint16_t)(n - 2 * d % n);
	}
	return (uint16_t)(n - d);
}

static bool get_output(const struct kvm_pit_channel_state *s)
{
	uint64_t d = elapsed(s), n = whole(s);

	switch (s->mode) {
	case 2: return d % n != n - 1;
	case 3: return d % n < (n + 1) / 2;
	case 4:
	case 5: return d != n;
	}
	return d >= n;
}

/* -- Channel 0's interrupt ----------------------------------------------------------------- */

static void plan(struct vm *vm, uint64_t deadline)
{
	struct vcpu *first = __atomic_load_n(&vm->vcpu[0], __ATOMIC_ACQUIRE);
	uint64_t old = atomic_exchange(&vm->irqchip->pit.deadline, deadline);

	if (first && old != deadline)
		vcpu_kick(first, REQ_TIMER);
}

static void disarm(struct vm *vm)
{
	struct pit *pit = &vm->irqchip->pit;

	pit->next = NEVER;
	pit->period = 0;
	pit->backlog = 0;
	plan(vm, NEVER);
}

static void arm(struct vm *vm)
{
	struct pit *pit = &vm->irqchip->pit;
	struct kvm_pit_channel_state *s = &pit->channel[0];
	uint64_t ticks = whole(s) + (s->mode >= 4), ns = ns_of_ticks(ticks);

	pit->backlog = 0;
	pit->period = 0;
	pit->next = (uint64_t)s->count_load_time + ns;
	switch (s->mode) {
	case 2:
	case 3: pit->period = ns < PERIOD_MIN ? PERIOD_MIN : ns; break;
	case 5:
		pit->next = NEVER; /* its gate does not move */
		break;
	}
	if (pit->flags & KVM_PIT_FLAGS_HPET_LEGACY)
		pit->next = NEVER; /* the HPET drives IRQ 0 now */
	plan(vm, pit->next);
}

/* Edges up to `now` go to the backlog. */
static void count_edges(struct pit *pit, uint64_t now)
{
	uint64_t n = 1, most;

	if (now < pit->next)
		return;
	if (pit->period) {
		n += (now - pit->next) / pit->period;
		pit->next += n * pit->period;
		most = SECOND / pit->period;
	} else {
		pit->next = NEVER;
		most = 1;
	}
	n += pit->backlog;
	pit->backlog = (uint32_t)(n < most ? n : most);
}

/* One edge of the backlog to IRQ 0. */
static void pulse(struct vcpu *c, struct pit *pit)
{
	int ret = routing_line(c->vm, c, 0, true, SOURCE_PIT);

	routing_line(c->vm, c, 0, false, SOURCE_PIT);
	if (ret > 0)
		pit->backlog--;
	else if (ret < 0 || pit->discard)
		pit->backlog = 0; /* masked: nobody counts them */
}

void pit_expire(struct vcpu *c, uint64_t now)
{
	struct pit *pit = &c->vm->irqchip->pit;
	uint64_t retry;

	if (now < atomic_load_explicit(&pit->deadline, memory_order_relaxed))
		return;
	lock_take(&pit->lock);
	count_edges(pit, now);
	if (pit->backlog)
		pulse(c, pit);
	retry = pit->backlog ? now + (pit->period ? pit->period / 4 : PERIOD_MIN)
			     : NEVER;
	atomic_store(&pit->deadline, retry < pit->next ? retry : pit->next);
	lock_drop(&pit->lock);
}

/* -- Counters, written --------------------------------------------------------------------- */

static void load(struct vm *vm, unsigned n, uint32_t count)
{
	struct kvm_pit_channel_state *s = &vm->irqchip->pit.channel[n];

	s->count = count ? count : 0x10000;
	s->count_load_time = (int64_t)now_ns();
	if (n == 0)
		arm(vm);
}

static void write_counter(struct vm *vm, unsigned n, uint8_t value)
{
	struct kvm_pit_channel_state *s = &vm->irqchip->pit.channel[n];

	switch (s->write_state) {
	case RW_LSB: load(vm, n, value); break;
	case RW_MSB: load(vm, n, (uint32_t)value << 8); break;
	case RW_WORD0:
		s->write_latch = value;
		s->write_state = RW_WORD1;
		break;
	case RW_WORD1:
		s->write_state = RW_WORD0;
		load(vm, n, s->write_latch | (uint32_t)value << 8);
		break;
	}
}

static void latch_count(struct kvm_pit_channel_state *s)
{
	if (s->count_latched)
		return; /* the first one stays until it is read */
	s->latched_count = get_count(s);
	s->count_latched = s->rw_mode;
}

static void latch_status(struct kvm_pit_channel_state *s)
{
	if (s->status_latched)
		return;
	s->status =
		(uint8_t)(get_output(s) << 7 | s->rw_mode << 4 | s->mode << 1 | s->bcd);
	s->status_latched = 1;
}

static void read_back(struct pit *pit, uint8_t value)
{
	for (int n = 0; n < 3; n++) {
		if (!(value & 2 << n))
			continue;
		if (!(value & 0x20))
			latch_count(&pit->channel[n]);
		if (!(value & 0x10))
			latch_status(&pit->channel[n]);
	}
}

/* Control word: 7..6 channel, 5..4 access (0: latch), 3..1 mode, 0 BCD. */
static void write_control(struct vm *vm, uint8_t value)
{
	struct pit *pit = &vm->irqchip->pit;
	unsigned n = value >> 6, access = value >> 4 & 3;
	struct kvm_pit_channel_state *s;

	if (n == 3) {
		read_back(pit, value);
		return;
	}
	s = &pit->channel[n];
	if (access == 0) {
		latch_count(s);
		return;
	}
	s->rw_mode =
		(uint8_t)access; /* 1 LSB, 2 MSB, 3 both: RW_LSB, RW_MSB, RW_WORD0 */
	s->read_state = s->write_state = (uint8_t)access;
	s->count_latched = s->status_latched = 0;
	s->mode = value >> 1 & 7;
	if (s->mode > 5)
		s->mode &= 3; /* bit 2 does not matter in modes 2 and 3 */
	s->bcd = value & 1;
	if (n == 0)
		disarm(vm); /* counts again when it is loaded */
}

/* -- Counters, read ------------------------------------------------------------------------ */

/* The byte of a count that it is the turn of; *state moves on, to `after` at the end.
 * */
static uint8_t next_byte(uint16_t count, uint8_t *state, uint8_t after)
{
	switch (*state) {
	case RW_WORD0: *state = RW_WORD1; return (uint8_t)count;
	case RW_WORD1:
	case RW_MSB: *state = after; return (uint8_t)(count >> 8);
	}
	*state = after;
	return (uint8_t)count;
}

static uint8_t read_counter(struct kvm_pit_channel_state *s)
{
	if (s->status_latched) {
		s->status_latched = 0;
		return s->status;
	}
	if (s->count_latched)
		return next_byte(s->latched_count, &s->count_latched, 0);
	return next_byte(get_count(s), &s->read_state, s->rw_mode);
}

/* -- Port 61 ------------------------------------------------------------------------------- */

static uint8_t read_port61(struct pit *pit)
{
	struct kvm_pit_channel_state *s = &pit->channel[2];
	unsigned refresh = now_ns() >> 14 & 1;

	return (uint8_t)((s->gate & 1) | pit->speaker_on << 1 | refresh << 4 |
			 get_output(s) << 5);
}

static void write_port61(struct pit *pit, uint8_t value)
{
	struct kvm_pit_channel_state *s = &pit->channel[2];

	/* A rising gate starts the modes other than 0 and 4 anew. */
	if ((value & 1) && !s->gate && s->mode != 0 && s->mode != 4)
		s->count_load_time = (int64_t)now_ns();
	s->gate = value & 1;
	pit->speaker_on = value & 2;
}

/* -- The bus ------------------------------------------------------------------------------- */

static void access_port(struct vm *vm, uint16_t port, uint64_t *data, bool write)
{
	struct pit *pit = &vm->irqchip->pit;

	if (port == 0x61) {
		if (write)
			write_port61(pit, (uint8_t)*data);
		else
			*data = read_port61(pit);
	} else if (port == 0x43) {
		if (write)
			write_control(vm, (uint8_t)*data);
		else
			*data = 0;
	} else if (write) {
		write_counter(vm, port & 3, (uint8_t)*data);
	} else {
		*data = read_counter(&pit->channel[port & 3]);
	}
}

bool pit_port(struct vcpu *c, uint16_t port, uint64_t *data, unsigned len, bool write)
{
	struct pit *pit = &c->vm->irqchip->pit;

	(void)len; /* the chip sits on an 8-bit bus */
	if (!pit->present ||
	    ((port & 0xfffc) != 0x40 && !(port == 0x61 && pit->port61)))
		return false;
	lock_take(&pit->lock);
	access_port(c->vm, port, data, write);
	lock_drop(&pit->lock);
	return true;
}

/* -- Reset, save and restore --------------------------------------------------------------- */

void pit_reset(struct pit *pit)
{
	for (int n = 0; n < 3; n++)
		pit->channel[n] = (struct kvm_pit_channel_state){
			.count = 0x10000,
			.mode = 0xff, /* undefined until programmed; KVM's value */
			.gate = n != 2,
		};
	pit->next = NEVER;
	pit->period = 0;
	pit->backlog = 0;
	pit->flags = 0;
	pit->speaker_on = false;
	atomic_store(&pit->deadline, NEVER);
}

int pit_reinject(struct vm *vm, bool reinject)
{
	if (!vm->irqchip || !vm->irqchip->pit.present)
		return -ENXIO;
	vm->irqchip->pit.discard = !reinject;
	return 0;
}

int pit_get(struct vm *vm, struct kvm_pit_state2 *state)
{
	struct pit *pit = vm->irqchip ? &vm->irqchip->pit : NULL;

	if (!pit || !pit->present)
		return -ENXIO;
	*state = (struct kvm_pit_state2){0};
	lock_take(&pit->lock);
	for (int n = 0; n < 3; n++)
		state->channels[n] = pit->channel[n];
	state->flags =
		pit->flags | (pit->speaker_on ? KVM_PIT_FLAGS_SPEAKER_DATA_ON : 0);
	lock_drop(&pit->lock);
	return 0;
}

static bool is_sane(const struct kvm_pit_channel_state *s)
{
	return s->count <= 0x10000 && (s->mode <= 5 || s->mode == 0xff);
}

int pit_set(struct vm *vm, const struct kvm_pit_state2 *state)
{
	struct pit *pit = vm->irqchip ? &vm->irqchip->pit : NULL;

	if (!pit || !pit->present)
		return -ENXIO;
	for (int n = 0; n < 3; n++)
		if (!is_sane(&state->channels[n]))
			return -EINVAL;
	lock_take(&pit->lock);
	for (int n = 0; n < 3; n++)
		pit->channel[n] = state->channels[n];
	pit->flags = state->flags & KVM_PIT_FLAGS_HPET_LEGACY;
	pit->speaker_on = state->flags & KVM_PIT_FLAGS_SPEAKER_DATA_ON;
	if (pit->channel[0].mode == 0xff)
		disarm(vm);
	else
		load(vm, 0, pit->channel[0].count);
	lock_drop(&pit->lock);
	return 0;
}

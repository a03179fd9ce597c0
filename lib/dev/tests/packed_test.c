/* SPDX-License-Identifier: MIT */
/*
 * Packed rings: a driver that keeps a split and a packed one side by side, offers the same requests
 * in both, and must find the same becomes of them, whatever order, batches, interrupts, pauses and
 * resets there are; each lie by its name; a device whose queue is packed, is saved, and is reset
 * alone.
 *
 *	dev_packed_test [STEPS]
 */
#include "dev/tests/guest.h"
#include "dev/virtio/queue.h"
#include "state/state.h"
#include "tests/tap.h"

#include <errno.h>
#include <stdlib.h>

#define SIZE   16u
#define RAM    0x100000u
#define AVAILABLE 0x80u
#define USED_BIT  0x8000u

enum { S_DESC = 0, S_AVAIL = 0x400, S_USED = 0x800, P_DESC = 0x1000, P_DRIVER = 0x1400, P_DEVICE = 0x1408, TABLES = 0x2000, DATA = 0x10000 };

static uint8_t ram[0x20000];
static struct guest_mem mem;
static uint64_t seed = 4711;

static unsigned below(unsigned n)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (unsigned)((seed * UINT64_C(0x2545f4914f6cdd1d) >> 32) * n >> 32);
}

/* -- A driver with two rings --------------------------------------------------------- */

struct piece {
	uint32_t at, len;
	bool in;
};

static struct vq s, p;
static struct driver {
	/* split */
	uint16_t free[SIZE], n_free, heads[SIZE], chain_len[SIZE], chain_next[SIZE], last_used;
	/* packed */
	uint16_t next, used, left, len_of[65536];
	bool wrap, used_wrap;
	/* both: requests that the device has, by the order in which they were offered */
	uint16_t number;
} d;

static void start_rings(bool event_idx)
{
	memset(ram, 0, DATA);
	memset(&d, 0, sizeof(d));
	for (unsigned i = 0; i < SIZE; i++)
		d.free[i] = (uint16_t)i;
	d.n_free = d.left = SIZE;
	d.wrap = d.used_wrap = true;
	s = p = (struct vq){.mem = &mem, .max = 256};
	vq_reset(&s);
	vq_reset(&p);
	vq_settle(&s, event_idx, false);
	vq_settle(&p, event_idx, true);
	s.size = p.size = SIZE;
	s.desc_gpa = RAM + S_DESC;
	s.avail_gpa = RAM + S_AVAIL;
	s.used_gpa = RAM + S_USED;
	p.desc_gpa = RAM + P_DESC;
	p.avail_gpa = RAM + P_DRIVER;
	p.used_gpa = RAM + P_DEVICE;
	if (vq_enable(&s) < 0 || vq_enable(&p) < 0)
		ok(false, "rings: %s, %s", s.broken, p.broken);
}

static void put(uint32_t at, const struct piece *x, unsigned flags, unsigned last)
{
	le64_put(ram + at, RAM + x->at);
	le32_put(ram + at + 8, x->len);
	le16_put(ram + at + 12, (uint16_t)flags);
	le16_put(ram + at + 14, (uint16_t)last);
}

static void offer_split(const struct piece *pieces, unsigned n, bool indirect, uint32_t table)
{
	uint16_t idx = le16_get(ram + S_AVAIL + 2), head = d.free[d.n_free - 1];
	struct piece whole = {table, n * 16, false};

	if (indirect) {
		for (unsigned i = 0; i < n; i++)
			put(table + i * 16, &pieces[i], (pieces[i].in ? F_WRITE : 0) | (i + 1 < n ? F_NEXT : 0), i + 1);
		put(S_DESC + head * 16u, &whole, F_INDIRECT, 0);
		n = 1;
	} else {
		for (unsigned i = 0; i < n; i++)
			put(S_DESC + d.free[d.n_free - 1 - i] * 16u, &pieces[i],
			    (pieces[i].in ? F_WRITE : 0) | (i + 1 < n ? F_NEXT : 0), i + 1 < n ? d.free[d.n_free - 2 - i] : 0);
	}
	d.chain_len[head] = (uint16_t)n;
	for (unsigned i = 0; i + 1 < n; i++)
		d.chain_next[d.free[d.n_free - 1 - i]] = d.free[d.n_free - 2 - i];
	d.n_free = (uint16_t)(d.n_free - n);
	d.heads[head] = d.number;
	le16_put(ram + S_AVAIL + 4 + idx % SIZE * 2u, head);
	le16_put(ram + S_AVAIL + 2, (uint16_t)(idx + 1));
}

static void step_place(uint16_t *place, bool *wrap, unsigned n)
{
	*place = (uint16_t)(*place + n);
	if (*place >= SIZE) {
		*place = (uint16_t)(*place - SIZE);
		*wrap = !*wrap;
	}
}

static void put_packed(uint32_t at, const struct piece *x, unsigned id, unsigned flags)
{
	le64_put(ram + at, RAM + x->at);
	le32_put(ram + at + 8, x->len);
	le16_put(ram + at + 12, (uint16_t)id);
	le16_put(ram + at + 14, (uint16_t)flags);
}

static unsigned mine(bool wrap)
{
	return wrap ? AVAILABLE : USED_BIT;
}

static void offer_packed(const struct piece *pieces, unsigned n, bool indirect, uint32_t table)
{
	struct piece whole = {table, n * 16, false};

	d.len_of[d.number] = (uint16_t)(indirect ? 1 : n);
	for (unsigned i = 0; indirect && i < n; i++) /* flags besides WRITE, and ids, mean nothing there */
		put_packed(table + i * 16, &pieces[i], i, pieces[i].in ? F_WRITE : 0);
	for (unsigned i = 0; i < d.len_of[d.number]; i++) {
		put_packed(P_DESC + d.next * 16u, indirect ? &whole : &pieces[i], d.number,
			   indirect ? F_INDIRECT | mine(d.wrap)
				    : (pieces[i].in ? F_WRITE : 0) | (i + 1 < n ? F_NEXT : 0) | mine(d.wrap));
		step_place(&d.next, &d.wrap, 1);
	}
	d.left = (uint16_t)(d.left - d.len_of[d.number]);
}

/* The same in both, or in none. */
static void offer_both(void)
{
	struct piece pieces[6];
	unsigned n = 1 + below(6), out = below(n + 1);
	bool indirect = below(3) == 0;

	if ((indirect ? 1 : n) > d.left || (indirect ? 1 : n) > d.n_free)
		return;
	for (unsigned i = 0; i < n; i++)
		pieces[i] = (struct piece){DATA + below(0x8000), 1 + below(4096), i >= out};
	offer_split(pieces, n, indirect, TABLES + d.number % 64 * 96u);
	offer_packed(pieces, n, indirect, TABLES + 0x3000 + d.number % 64 * 96u);
	d.number++;
}

/* What has come back in the split ring: its number and length, or -1. */
static int take_split(uint32_t *len)
{
	uint16_t idx = le16_get(ram + S_USED + 2), head;
	uint32_t at = S_USED + 4 + d.last_used % SIZE * 8u;

	if (idx == d.last_used)
		return -1;
	head = (uint16_t)le32_get(ram + at);
	*len = le32_get(ram + at + 4);
	d.last_used++;
	for (unsigned i = 0, at_desc = head; i < d.chain_len[head]; i++, at_desc = d.chain_next[at_desc])
		d.free[d.n_free++] = (uint16_t)at_desc;
	return d.heads[head];
}

static int take_packed(uint32_t *len)
{
	const uint8_t *at = ram + P_DESC + d.used * 16u;
	unsigned flags = le16_get(at + 14), n;
	uint16_t id = le16_get(at + 12);

	if (!(flags & AVAILABLE) == d.used_wrap || !(flags & USED_BIT) == d.used_wrap)
		return -1;
	*len = le32_get(at + 8);
	n = d.len_of[id];
	d.left = (uint16_t)(d.left + n);
	step_place(&d.used, &d.used_wrap, n);
	return id;
}

/* -- Both sides ---------------------------------------------------------------------- */

static struct {
	uint16_t s, p;
	uint64_t in_len;
} flight[SIZE];
static unsigned n_flight, bad, requests, told;
static struct vq_chain a, b;

static void see(bool fine)
{
	bad += !fine;
}

static void take_requests(void)
{
	unsigned n = below(8);

	vq_begin(&s);
	vq_begin(&p);
	while (n--) {
		int rc = vq_pop(&s, &a);

		see(vq_pop(&p, &b) == rc);
		if (rc <= 0)
			return;
		if (below(4) == 0) { /* there was no room for it, or for this one and one more */
			bool two = vq_pop(&s, &a) > 0;

			see((vq_pop(&p, &b) > 0) == two);
			for (unsigned i = 0; i <= two; i++) {
				vq_unpop(&s);
				vq_unpop(&p);
			}
			see(vq_pop(&s, &a) == 1 && vq_pop(&p, &b) == 1);
		}
		see(a.n_out == b.n_out && a.n_in == b.n_in && a.in_len == b.in_len && a.out_len == b.out_len &&
		    memcmp(a.iov, b.iov, (a.n_out + a.n_in) * sizeof(a.iov[0])) == 0);
		flight[n_flight].s = a.head;
		flight[n_flight].p = b.head;
		flight[n_flight++].in_len = a.in_len;
		requests++;
	}
}

/* Some of them, in any order, that the driver sees at once. */
static void end_requests(void)
{
	unsigned n = 0, want = n_flight ? 1 + below(n_flight < 4 ? n_flight : 4) : 0;
	uint32_t len;

	while (n < want) {
		unsigned i = below(n_flight);
		uint32_t written = (uint32_t)below((unsigned)flight[i].in_len + 1);

		vq_put(&s, n, flight[i].s, written);
		vq_put(&p, n, flight[i].p, written);
		flight[i] = flight[--n_flight];
		see(take_packed(&len) < 0); /* not before it is published */
		n++;
	}
	if (n) {
		vq_publish(&s, n);
		vq_publish(&p, n);
	}
}

static void hear(void)
{
	uint32_t len, other;
	int id;

	do {
		id = take_split(&len);
		see(take_packed(&other) == id && (id < 0 || other == len));
	} while (id >= 0);
}

/* The driver wants to hear of all, of nothing, or when its next descriptor has come back, or one a few behind that. */
static void interrupt(bool event_idx)
{
	unsigned how = below(event_idx ? 3 : 2), ahead = below(2) ? 0 : below(SIZE), count;
	uint16_t place = d.used;
	bool one, other, wrap = d.used_wrap;

	if (event_idx) { /* of a split ring it is an index */
		le16_put(ram + S_AVAIL + 4 + SIZE * 2, how == 1 ? (uint16_t)(d.last_used - 1) : d.last_used);
		step_place(&place, &wrap, ahead);
		le16_put(ram + P_DRIVER, (uint16_t)(place | (wrap ? 0x8000 : 0)));
	} else {
		le16_put(ram + S_AVAIL, how == 1);
	}
	le16_put(ram + P_DRIVER + 2, (uint16_t)how);
	end_requests();
	count = p.signalled;
	one = vq_wants_interrupt(&s);
	other = vq_wants_interrupt(&p);
	see(event_idx && how == 2 ? other == (count > ahead) : event_idx && how == 0 ? other || !one : event_idx ? !other : one == other);
	see(!event_idx || how < 2 || ahead || one == other);
	told += other;
	hear();
}

static struct vq only_saved(const struct vq *q)
{
	return (struct vq){
		.mem = q->mem, .max = q->max, .size = q->size, .desc_gpa = q->desc_gpa, .avail_gpa = q->avail_gpa, .used_gpa = q->used_gpa,
		.vector = q->vector, .event_idx = q->event_idx, .packed = q->packed, .enabled = q->enabled, .last_avail = q->last_avail,
		.used = q->used, .signalled = q->signalled,
	};
}

static void pause_it(void)
{
	if (n_flight)
		return;
	if (below(2)) {
		see(vq_resume(&s) == 0 && vq_resume(&p) == 0);
		return;
	}
	s = only_saved(&s);
	p = only_saved(&p);
	see(vq_loaded(&s) == 0 && vq_loaded(&p) == 0);
}

static void test_beside_split(unsigned steps, bool event_idx)
{
	start_rings(event_idx);
	n_flight = bad = requests = told = 0;
	for (unsigned i = 0; i < steps && !bad; i++)
		switch (below(10)) {
		case 0: case 1: case 2:
			offer_both();
			break;
		case 3: case 4: case 5:
			take_requests();
			break;
		case 6: case 7:
			interrupt(event_idx);
			break;
		case 8:
			pause_it();
			break;
		default:
			if (below(200) == 0) {
				start_rings(event_idx);
				n_flight = 0;
			}
		}
	ok(!bad && !s.broken && !p.broken, "%u steps, %u requests: split and packed are the same (%s)", steps, requests,
	   p.broken ? p.broken : event_idx ? "event index" : "flags");
	ok(requests > steps / 20 && told > steps / 100, "of %u interrupts", told);
}

/* -- Lies ---------------------------------------------------------------------------- */

static const struct piece fine = {DATA, 64, true};

static int pop(void)
{
	vq_begin(&p);
	return vq_pop(&p, &b);
}

static void is_lie(const char *why)
{
	is_int(pop(), -EPROTO, "%s", why);
	is_str(p.broken, why, "is named");
	start_rings(false);
}

static void test_lies(void)
{
	struct piece table = {TABLES, 16, false}, outside = {0x40000000, 16, true}, empty = {DATA, 0, true}, odd = {TABLES, 17, false},
		     out = {DATA, 16, false}, huge = {TABLES, 257 * 16, false};

	start_rings(false);
	put_packed(P_DESC, &fine, 7, F_WRITE | AVAILABLE | USED_BIT);
	is_int(pop(), 0, "what is used already is not available");
	put_packed(P_DESC, &outside, 7, F_WRITE | AVAILABLE);
	is_lie("a descriptor that is empty or not in RAM");
	put_packed(P_DESC, &empty, 7, F_WRITE | AVAILABLE);
	is_lie("a descriptor that is empty or not in RAM");
	for (unsigned i = 0; i < SIZE; i++)
		put_packed(P_DESC + i * 16, &fine, 7, F_WRITE | F_NEXT | AVAILABLE);
	is_lie("more descriptors than the ring has");
	put_packed(P_DESC, &fine, 7, F_WRITE | AVAILABLE);
	is_int(pop(), 1, "one request");
	for (unsigned i = 1; i < SIZE; i++)
		put_packed(P_DESC + i * 16, &fine, 7, F_WRITE | F_NEXT | AVAILABLE);
	is_lie("more descriptors than the ring has");
	put_packed(P_DESC, &fine, 7, F_WRITE | F_NEXT | AVAILABLE);
	put_packed(P_DESC + 16, &out, 7, AVAILABLE);
	is_lie("a readable descriptor after a writable one");
	put_packed(P_DESC, &table, 7, F_INDIRECT | F_NEXT | AVAILABLE);
	is_lie("an indirect descriptor where none may be");
	put_packed(TABLES, &fine, 0, F_INDIRECT);
	put_packed(P_DESC, &table, 7, F_INDIRECT | AVAILABLE);
	is_lie("an indirect descriptor where none may be");
	put_packed(P_DESC, &odd, 7, F_INDIRECT | AVAILABLE);
	is_lie("an indirect table of a wrong size or not in RAM");
	put_packed(P_DESC, &huge, 7, F_INDIRECT | AVAILABLE);
	is_lie("an indirect table of a wrong size or not in RAM");
	for (unsigned i = 0; i < SIZE; i++) {
		put_packed(P_DESC + i * 16, &fine, 7, F_WRITE | AVAILABLE);
		bad = pop() != 1;
	}
	for (unsigned i = 0; i < SIZE; i++)
		put_packed(P_DESC + i * 16, &fine, 7, F_WRITE | USED_BIT);
	is_lie("more descriptors than the ring has");
	p = only_saved(&p);
	p.last_avail = SIZE;
	is_int(vq_loaded(&p), -EINVAL, "a place behind the ring");
	start_rings(false);
	p = only_saved(&p);
	p.used = 3;
	is_int(vq_loaded(&p), -EINVAL, "a saved ring with something in flight");
	start_rings(false);
	p = only_saved(&p);
	p.enabled = false;
	p.last_avail = p.used = 0x7fff;
	ok(vq_loaded(&p) == 0 && vq_enable(&p) == -EINVAL && pop() == -EPROTO, "nor is one enabled later that was loaded with such a place");
	start_rings(false);
	p.enabled = false;
	p.size = 300;
	is_int(vq_enable(&p), -EINVAL, "a ring that is too large");
	vq_reset(&p);
	vq_settle(&p, false, true);
	p.size = 5;
	p.desc_gpa = RAM;
	p.avail_gpa = RAM + 0x402;
	is_int(vq_enable(&p), -EINVAL, "an event that is not aligned");
	vq_reset(&p);
	vq_settle(&p, false, true);
	p.size = 5;
	p.desc_gpa = RAM;
	p.avail_gpa = p.used_gpa = RAM + 0x404;
	is_int(vq_enable(&p), 0, "a packed ring of 5");
}

/* -- A device ------------------------------------------------------------------------ */

#define SLOT   3u
#define PACKED (UINT64_C(1) << 34)
#define RESET  (UINT64_C(1) << 40)

static void ask_random(unsigned place, bool wrap)
{
	uint8_t *at = g_ram + DESC(0) + place * 16u;

	memset(g_ram + FREE_RAM, 0, 64);
	le64_put(at, FREE_RAM);
	le32_put(at + 8, 64);
	le16_put(at + 12, 1000);
	le16_put(at + 14, (uint16_t)(F_WRITE | mine(wrap)));
	kick(SLOT, 0);
}

static bool is_done(unsigned place, bool wrap)
{
	const uint8_t *at = g_ram + DESC(0) + place * 16u;
	unsigned n = 0;

	for (unsigned i = 0; i < 64; i++)
		n += g_ram[FREE_RAM + i] != 0;
	return le16_get(at + 14) == (F_WRITE | (wrap ? AVAILABLE | USED_BIT : 0)) && le16_get(at + 12) == 1000 && le32_get(at + 8) == 64 && n > 32;
}

static struct device *make_rng(void)
{
	struct device *dev = device_create(&virtio_rng_model, g_bus, NULL, &(struct virtio_rng_config){
		.pci = {.host = g_host, .mem = &g_mem, .slot = SLOT}}, NULL);

	device_reset(g_host);
	return dev;
}

static bool comes_back(struct device *dev)
{
	struct state_out out = {0};
	struct device *other = device_create(&virtio_rng_model, g_bus, NULL, &(struct virtio_rng_config){
		.pci = {.host = g_host, .mem = &g_mem, .slot = SLOT + 1}}, NULL);
	unsigned used = 0;
	bool ok;

	device_pause(dev);
	ok = device_save(dev, "rng", &out) == 0 &&
	     device_load(other, "rng", &(struct state_in){out.bytes, out.len}, 0, &used, NULL) == 0;
	device_resume(dev);
	device_destroy(other);
	free(out.bytes);
	return ok;
}

/* Of drivers that say now this and now that of features: what they leave can be loaded. */
static void test_wavering(void)
{
	struct device *dev;

	g_start();
	dev = make_rng();
	bar_out(SLOT, 0, STATUS, 1, 3);
	accept_features(SLOT, UINT64_MAX);
	ok(comes_back(dev), "saved while its driver has asked for all features that there could be");
	ok(drive(SLOT, RESET, 1, 4), "a driver with a split ring");
	bar_out(SLOT, 0, STATUS, 1, 3);
	accept_features(SLOT, UINT64_C(1) << 32 | PACKED);
	bar_out(SLOT, 0, 8, 4, 1);
	is_int((uint32_t)bar_in(SLOT, 0, 12, 4), 1 | RESET >> 32, "cannot change its mind while that is enabled");
	ok(comes_back(dev), "saved in between it is what it was");
	device_destroy(dev);
	g_stop();
}

static void test_device(void)
{
	struct state_out out = {0};
	struct device *dev;
	unsigned used = 0, missed = 0;

	g_start();
	dev = make_rng();
	ok(drive(SLOT, PACKED | RESET, 1, 4), "a driver takes packed rings");
	for (unsigned i = 0; i < 10; i++) {
		ask_random(i % 4, i / 4 % 2 == 0);
		missed += !is_done(i % 4, i / 4 % 2 == 0);
	}
	is_int(missed, 0, "ten requests in a ring of four");
	is_int(g_messages, 10, "an interrupt each");
	bar_out(SLOT, 0, STATUS, 1, 3);
	accept_features(SLOT, UINT64_C(1) << 32);
	bar_out(SLOT, 0, STATUS, 1, 11);
	is_int(bar_in(SLOT, 0, STATUS, 1), 3, "features are not settled anew while a queue is enabled");
	bar_out(SLOT, 0, STATUS, 1, 15);
	ok(drive(SLOT, PACKED | RESET, 1, 4), "after a reset they are");
	ask_random(0, true);
	ask_random(1, true);
	device_pause(dev);
	ok(device_save(dev, "rng", &out) == 0, "it is saved");
	device_destroy(dev);
	dev = make_rng();
	ok(device_load(dev, "rng", &(struct state_in){out.bytes, out.len}, 0, &used, NULL) == 0, "and loaded");
	device_resume(dev);
	ask_random(2, true);
	ok(is_done(2, true), "it goes on where it was");
	bar_out(SLOT, 0, 0x16, 2, 0);
	bar_out(SLOT, 0, 0x3a, 2, 1);
	is_int(bar_in(SLOT, 0, 0x3a, 2), 0, "its queue is reset, alone");
	is_int(bar_in(SLOT, 0, 0x1c, 2), 0, "and not enabled");
	ask_random(3, true);
	ok(!is_done(3, true), "nothing moves there");
	set_queue(SLOT, 0, 4);
	ask_random(0, true);
	ok(is_done(0, true), "set up anew it begins anew, packed still");
	is_int(bar_in(SLOT, 0, STATUS, 1), 15, "and the device was there all the time");
	drive(SLOT, PACKED, 1, 4);
	bar_out(SLOT, 0, 0x3a, 2, 1);
	is_int(bar_in(SLOT, 0, 0x1c, 2), 1, "who has not taken RING_RESET resets nothing");
	bar_out(SLOT, 0, 0x16, 2, 5);
	bar_out(SLOT, 0, 0x3a, 2, 1);
	is_int(bar_in(SLOT, 0, 0x3a, 2), 0, "nor a queue that there is not");
	device_destroy(dev);
	g_stop();
	free(out.bytes);
}

int main(int argc, char **argv)
{
	unsigned steps = argc > 1 ? (unsigned)atoi(argv[1]) : 100000;

	guest_mem_add(&mem, &(struct guest_region){.base = RAM, .size = sizeof(ram), .host = ram}, NULL);
	test_beside_split(steps, false);
	test_beside_split(steps, true);
	test_lies();
	test_device();
	test_wavering();
	return done_testing();
}

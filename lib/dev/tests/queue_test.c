/* SPDX-License-Identifier: MIT */
/*
 * The gate: what an honest driver puts in comes out, and each lie is caught, named, and
 * ends the queue. Rings are laid out by hand in a few pages of RAM with a ROM behind
 * them.
 */
#include "base/bytes.h"
#include "dev/virtio/queue.h"
#include "tests/tap.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SIZE 8u
#define RAM  0x100000u
#define ROM  0x200000u
#define BIG  0x400000u

static uint8_t ram[0x10000], rom[0x1000], big[0x400000];
static struct guest_mem mem;
static struct vq vq;
static struct vq_chain chain;

enum { DESC = 0x1000, AVAIL = 0x2000, USED = 0x3000, TABLE = 0x4000, DATA = 0x8000 };
enum { NEXT = 1, WRITE = 2, INDIRECT = 4 };

static void start(void)
{
	memset(ram, 0, sizeof(ram));
	vq = (struct vq){.mem = &mem, .max = 256};
	vq_reset(&vq);
	vq.size = SIZE;
	vq.desc_gpa = RAM + DESC;
	vq.avail_gpa = RAM + AVAIL;
	vq.used_gpa = RAM + USED;
	vq_enable(&vq);
}

static void desc_at(unsigned at, uint64_t addr, uint32_t len, unsigned flags,
		    unsigned next)
{
	le64_put(ram + at, addr);
	le32_put(ram + at + 8, len);
	le16_put(ram + at + 12, (uint16_t)flags);
	le16_put(ram + at + 14, (uint16_t)next);
}

static void desc(unsigned i, uint64_t addr, uint32_t len, unsigned flags, unsigned next)
{
	desc_at(DESC + i * 16, addr, len, flags, next);
}

static void offer(unsigned head)
{
	uint16_t idx = le16_get(ram + AVAIL + 2);

	le16_put(ram + AVAIL + 4 + idx % SIZE * 2, (uint16_t)head);
	le16_put(ram + AVAIL + 2, (uint16_t)(idx + 1));
}

static int pop(void)
{
	vq_begin(&vq);
	return vq_pop(&vq, &chain);
}

static void test_honest(void)
{
	start();
	is_int(pop(), 0, "an empty ring");
	desc(3, RAM + DATA, 16, NEXT, 5);
	desc(5, ROM, 32, NEXT, 0);
	desc(0, RAM + DATA + 64, 512, NEXT | WRITE, 7);
	desc(7, RAM + DATA + 4096, 1, WRITE, 99);
	offer(3);
	is_int(pop(), 1, "a chain of four");
	is_int(chain.n_out, 2, "two out (one of them ROM)");
	is_int(chain.n_in, 2, "two in");
	is_int(chain.out_len, 48, "48 bytes out");
	is_int(chain.in_len, 513, "513 in");
	ok(chain.iov[0].iov_base == ram + DATA, "the first piece is where it was put");
	ok(chain.iov[3].iov_base == ram + DATA + 4096, "and the last");
	is_int(pop(), 0, "no more");
	ok(!vq_wants_interrupt(&vq), "nothing to tell yet");
	vq_push(&vq, 3, 513);
	is_int(le16_get(ram + USED + 2), 1, "used counts");
	is_int(le32_get(ram + USED + 4), 3, "the head");
	is_int(le32_get(ram + USED + 8), 513, "the length");
	ok(vq_wants_interrupt(&vq), "the driver wants to know");
	ok(!vq_wants_interrupt(&vq), "once");
	le16_put(ram + AVAIL, 1);
	offer(3);
	is_int(pop(), 1, "again");
	vq_unpop(&vq);
	is_int(pop(), 1, "taken back and popped");
	vq_push(&vq, 3, 0);
	ok(!vq_wants_interrupt(&vq), "NO_INTERRUPT is heard");
}

static void test_indirect(void)
{
	start();
	desc(0, RAM + DATA, 16, NEXT, 1);
	desc(1, RAM + TABLE, 3 * 16, INDIRECT, 0);
	desc_at(TABLE, RAM + DATA + 16, 4, NEXT, 2);
	desc_at(TABLE + 32, RAM + DATA + 32, 8, NEXT | WRITE, 1);
	desc_at(TABLE + 16, RAM + DATA + 64, 2, WRITE, 0);
	offer(0);
	is_int(pop(), 1, "a table behind a descriptor");
	is_int(chain.out_len, 20, "out");
	is_int(chain.in_len, 10, "in");
	desc(0, RAM + TABLE, 256 * 16, INDIRECT, 0);
	for (unsigned i = 0; i < 256; i++)
		desc_at(TABLE + i * 16, RAM + DATA, 1, i < 255 ? NEXT : 0, i + 1);
	offer(0);
	is_int(pop(), 1, "a table of 256");
	is_int(chain.n_out, 256, "all of them");
}

/* Many times around, so that all indices wrap at 2^16. */
static void test_wrap(void)
{
	unsigned bad = 0, told = 0;

	start();
	vq.event_idx = true;
	desc(2, RAM + DATA, 64, WRITE, 0);
	for (unsigned i = 0; i < 70000; i++) {
		le16_put(ram + AVAIL + 4 + 2 * SIZE,
			 (uint16_t)(i / 10 * 10)); /* used_event */
		offer(2);
		bad += pop() != 1 || pop() != 0;
		bad += le16_get(ram + USED + 4 + 8 * SIZE) != (uint16_t)(i + 1);
		vq_push(&vq, 2, 64);
		told += vq_wants_interrupt(&vq);
	}
	is_int(bad, 0, "70000 requests, and avail_event follows each");
	is_int(told, 7000, "an interrupt for each tenth, as used_event asked");
}

/* A driver that offers another one whenever it gets one back does not keep us. */
static void test_endless(void)
{
	unsigned n = 0;

	start();
	vq.event_idx = true;
	desc(2, RAM + DATA, 64, WRITE, 0);
	offer(2);
	offer(2);
	vq_begin(&vq);
	while (n < 1000 && vq_pop(&vq, &chain) > 0) {
		vq_push(&vq, 2, 64);
		offer(2);
		n++;
	}
	is_int(n, 2, "what was there when we began");
	is_int(le16_get(ram + USED + 4 + 8 * SIZE), 2, "for the rest we want a kick");
	is_int(pop(), 1, "after which it comes");
}

/* A driver on another CPU that kicks only when avail_event asks for it, as fast as it can. */
#define OFFERS 300000u
static uint32_t kicks; /* and a futex */

static void *drive(void *arg)
{
	uint8_t *idx = ram + AVAIL + 2, *event = ram + USED + 4 + 8 * SIZE;

	for (unsigned i = 0; i < OFFERS; i++) {
		while ((uint16_t)(i - __atomic_load_n((uint16_t *)(void *)(ram + USED + 2),
						      __ATOMIC_ACQUIRE)) >= SIZE)
			sched_yield();
		__atomic_store_n((uint16_t *)(void *)idx, (uint16_t)(i + 1), __ATOMIC_SEQ_CST);
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		if (__atomic_load_n((uint16_t *)(void *)event, __ATOMIC_SEQ_CST) != (uint16_t)i)
			continue;
		__atomic_fetch_add(&kicks, 1, __ATOMIC_SEQ_CST);
		syscall(SYS_futex, &kicks, FUTEX_WAKE, 1, NULL, NULL, 0);
	}
	return arg;
}

static void test_kicks(void)
{
	unsigned n = 0, seen = 0;
	pthread_t driver;

	start();
	vq.event_idx = true;
	desc(0, RAM + DATA, 64, WRITE, 0);
	pthread_create(&driver, NULL, drive, NULL);
	while (n < OFFERS) {
		while (__atomic_load_n(&kicks, __ATOMIC_SEQ_CST) == seen)
			syscall(SYS_futex, &kicks, FUTEX_WAIT, seen, NULL, NULL, 0);
		seen = __atomic_load_n(&kicks, __ATOMIC_SEQ_CST);
		vq_begin(&vq);
		while (vq_pop(&vq, &chain) > 0) {
			vq_push(&vq, 0, 64);
			n++;
		}
	}
	pthread_join(driver, NULL);
	is_int(n, OFFERS, "%u requests of another CPU, and no kick was missing", OFFERS);
}

/* -- Lies -------------------------------------------------------------------------- */

static void lie_head(void)
{
	offer(SIZE);
}

static void lie_next(void)
{
	desc(0, RAM + DATA, 1, NEXT, SIZE);
	offer(0);
}

static void lie_loop(void)
{
	desc(0, RAM + DATA, 1, NEXT, 1);
	desc(1, RAM + DATA, 1, NEXT, 0);
	offer(0);
}

static void lie_self(void)
{
	desc(0, RAM + DATA, 1, NEXT | WRITE, 0);
	offer(0);
}

static void lie_zero(void)
{
	desc(0, RAM + DATA, 0, 0, 0);
	offer(0);
}

static void lie_huge(void)
{
	desc(0, RAM + DATA, UINT32_MAX, WRITE, 0);
	offer(0);
}

static void lie_wrap(void)
{
	desc(0, UINT64_MAX - 7, 16, WRITE, 0);
	offer(0);
}

static void lie_nowhere(void)
{
	desc(0, 0xfee00000, 4, WRITE, 0);
	offer(0);
}

static void lie_edge(void)
{
	desc(0, RAM + sizeof(ram) - 8, 9, WRITE, 0);
	offer(0);
}

static void lie_rom(void)
{
	desc(0, ROM, 4, WRITE, 0);
	offer(0);
}

static void lie_order(void)
{
	desc(0, RAM + DATA, 4, WRITE | NEXT, 1);
	desc(1, RAM + DATA, 4, 0, 0);
	offer(0);
}

static void lie_jump(void)
{
	le16_put(ram + AVAIL + 2, SIZE + 1);
}

static void lie_back(void)
{
	le16_put(ram + AVAIL + 2, 0xffff);
}

static void indirect(uint64_t addr, uint32_t len, unsigned flags)
{
	desc(0, addr, len, INDIRECT | flags, 1);
	desc_at(TABLE, RAM + DATA, 4, 0, 0);
	offer(0);
}

static void lie_table_odd(void)
{
	indirect(RAM + TABLE, 24, 0);
}

static void lie_table_empty(void)
{
	indirect(RAM + TABLE, 0, 0);
}

static void lie_table_big(void)
{
	indirect(RAM + TABLE, 257 * 16, 0);
}

static void lie_table_nowhere(void)
{
	indirect(0x90000000, 16, 0);
}

static void lie_table_next(void)
{
	indirect(RAM + TABLE, 16, NEXT);
}

static void lie_table_write(void)
{
	indirect(RAM + TABLE, 16, WRITE);
}

static void lie_table_nested(void)
{
	indirect(RAM + TABLE, 32, 0);
	desc_at(TABLE, RAM + TABLE + 16, 16, INDIRECT, 0);
}

static void lie_table_loop(void)
{
	indirect(RAM + TABLE, 32, 0);
	desc_at(TABLE, RAM + DATA, 4, NEXT, 1);
	desc_at(TABLE + 16, RAM + DATA, 4, NEXT, 0);
}

static void lie_table_out(void)
{
	indirect(RAM + TABLE, 32, 0);
	desc_at(TABLE, RAM + DATA, 4, NEXT, 2);
}

static void lie_heavy(void)
{
	indirect(RAM + TABLE, 65 * 16, 0);
	for (unsigned i = 0; i < 65; i++)
		desc_at(TABLE + 16 * i, BIG, sizeof(big), WRITE | NEXT, i + 1);
}

static void lie_too_long(void)
{
	indirect(RAM + TABLE, 256 * 16, 0);
	for (unsigned i = 0; i < 256; i++)
		desc_at(TABLE + i * 16, RAM + DATA, 1, i < 255 ? NEXT : 0, i + 1);
	desc(1, RAM + DATA, 4, NEXT, 0);
	le16_put(ram + AVAIL + 4, 1);
}

static const struct {
	const char *name;
	void (*tell)(void);
	const char *why;
} lies[] = {
	{"a head out of range", lie_head, "a descriptor number out of range"},
	{"a next out of range", lie_next, "a descriptor number out of range"},
	{"two that point at each other", lie_loop, "a chain that loops"},
	{"one that points at itself", lie_self, "a chain that loops"},
	{"nothing", lie_zero, "a descriptor that is empty or not in RAM"},
	{"4 GiB of a small RAM", lie_huge, "a chain of more than 256 MiB"},
	{"an address that wraps", lie_wrap, "a descriptor that is empty or not in RAM"},
	{"an address of no RAM", lie_nowhere, "a descriptor that is empty or not in RAM"},
	{"one byte over the end", lie_edge, "a descriptor that is empty or not in RAM"},
	{"a write to ROM", lie_rom, "a descriptor that is empty or not in RAM"},
	{"out after in", lie_order, "a readable descriptor after a writable one"},
	{"an index too far ahead", lie_jump, "an index that jumps ahead"},
	{"an index that goes back", lie_back, "an index that jumps ahead"},
	{"a table of a descriptor and a half", lie_table_odd,
	 "an indirect table of a wrong size or not in RAM"},
	{"an empty table", lie_table_empty, "an indirect table of a wrong size or not in RAM"},
	{"a table that is too big", lie_table_big,
	 "an indirect table of a wrong size or not in RAM"},
	{"a table of no RAM", lie_table_nowhere,
	 "an indirect table of a wrong size or not in RAM"},
	{"a table that goes on", lie_table_next, "an indirect descriptor where none may be"},
	{"a table to write to", lie_table_write, "an indirect descriptor where none may be"},
	{"a table in a table", lie_table_nested, "an indirect descriptor where none may be"},
	{"a loop in a table", lie_table_loop, "a chain that loops"},
	{"a next out of the table", lie_table_out, "a descriptor number out of range"},
	{"the same 4 MiB again and again", lie_heavy, "a chain of more than 256 MiB"},
	{"257 pieces", lie_too_long, "a chain that is too long, or a loop"},
};

static void test_lies(void)
{
	for (unsigned i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		start();
		lies[i].tell();
		is_int(pop(), -EPROTO, "%s", lies[i].name);
		is_str(vq.broken, lies[i].why, "  is named");
		is_int(pop(), -EPROTO, "  and ends it");
	}
}

/* The same head again and again, with nothing given back. */
static void test_in_flight(void)
{
	unsigned n = 0;

	start();
	desc(1, RAM + DATA, 4, 0, 0);
	for (unsigned i = 0; i < SIZE; i++) {
		offer(1);
		n += pop() == 1;
	}
	is_int(n, SIZE, "as many requests as descriptors");
	offer(1);
	is_int(pop(), -EPROTO, "and not one more");
}

static const struct {
	const char *name;
	uint16_t size;
	gpa_t desc, avail, used;
} layouts[] = {
	{"no power of two", 6, RAM, RAM + AVAIL, RAM + USED},
	{"size 0", 0, RAM, RAM + AVAIL, RAM + USED},
	{"larger than offered", 512, RAM, RAM + AVAIL, RAM + USED},
	{"unaligned descriptors", 8, RAM + 8, RAM + AVAIL, RAM + USED},
	{"unaligned avail", 8, RAM, RAM + AVAIL + 1, RAM + USED},
	{"unaligned used", 8, RAM, RAM + AVAIL, RAM + USED + 2},
	{"descriptors over the end", 8, RAM + sizeof(ram) - 112, RAM + AVAIL, RAM + USED},
	{"avail without room for its event", 8, RAM, RAM + sizeof(ram) - 20, RAM + USED},
	{"used without room for its event", 8, RAM, RAM + AVAIL, RAM + sizeof(ram) - 68},
	{"used in ROM", 8, RAM, RAM + AVAIL, ROM},
	{"nowhere", 8, 0, 0, 0},
	{"the last address", 8, UINT64_MAX & ~15ull, RAM + AVAIL, RAM + USED},
};

static void test_layouts(void)
{
	for (unsigned i = 0; i < sizeof(layouts) / sizeof(layouts[0]); i++) {
		vq_reset(&vq);
		vq.size = layouts[i].size;
		vq.desc_gpa = layouts[i].desc;
		vq.avail_gpa = layouts[i].avail;
		vq.used_gpa = layouts[i].used;
		is_int(vq_enable(&vq), -EINVAL, "refused: %s", layouts[i].name);
		ok(!vq.enabled && pop() < 0, "  and stays off");
	}
}

static void test_pieces(void)
{
	char a[4] = "abc", b[4] = "def", out[8] = {0};
	struct iovec iov[] = {{a, 3}, {b, 3}}, *first;
	unsigned n = 2;

	is_int(iov_gather(iov, 2, out, 8), 6, "six bytes gathered");
	is_str(out, "abcdef", "in order");
	first = iov_cut_front(iov, &n, 4);
	iov_cut_back(first, &n, 1);
	is_int(n, 1, "one piece is left");
	is_int(iov_gather(first, n, out, 8), 1, "of one byte");
	is_int(out[0], 'e', "the right one");
	iov_cut_back(first, &n, 1);
	is_int(n, 0, "nothing is left");
	iov[0] = (struct iovec){a, 3};
	iov[1] = (struct iovec){b, 3};
	is_int(iov_scatter(iov, 2, "123456789", 9), 6, "six bytes scattered");
	ok(!memcmp(a, "123", 3) && !memcmp(b, "456", 3), "in order");
}

static bool taken[0x10]; /* pages of RAM */
static int take_result;

static int take(void *ctx, const struct guest_region *region, gpa_t gpa, uint64_t len, bool write)
{
	(void)ctx, (void)region;
	(void)write;
	for (gpa_t at = gpa; at < gpa + len; at += 0x1000 - at % 0x1000)
		taken[(at - RAM) / 0x1000] = true;
	return take_result;
}

/* Its memory became other memory while the device stood still: the rings are taken out of where they are now. */
static void test_resume(void)
{
	start();
	mem.take = take;
	is_int(vq_resume(&vq), 0, "it goes on");
	ok(taken[DESC / 0x1000] && taken[AVAIL / 0x1000] && taken[USED / 0x1000], "all rings were taken");
	take_result = -EFAULT;
	is_int(vq_resume(&vq), -EINVAL, "they are not there any more");
	is_str(vq.broken, "rings are not in RAM", "that is told");
	is_int(vq_resume(&vq), 0, "once");
	vq_reset(&vq);
	is_int(vq_resume(&vq), 0, "one that is off has none");
	mem.take = NULL;
	take_result = 0;
}

int main(void)
{
	guest_mem_add(&mem, &(struct guest_region){
		.base = RAM, .size = sizeof(ram), .host = ram}, NULL);
	guest_mem_add(&mem, &(struct guest_region){
		.base = ROM, .size = sizeof(rom), .host = rom, .readonly = true}, NULL);
	guest_mem_add(&mem, &(struct guest_region){
		.base = BIG, .size = sizeof(big), .host = big}, NULL);
	test_honest();
	test_indirect();
	test_wrap();
	test_endless();
	test_kicks();
	test_lies();
	test_in_flight();
	test_layouts();
	test_resume();
	test_pieces();
	return done_testing();
}

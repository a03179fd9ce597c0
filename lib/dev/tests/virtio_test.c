/* SPDX-License-Identifier: MIT */
/*
 * The virtio devices from the driver's side, through PCI, BARs and rings, down to a
 * file: what Linux does, and what a driver does that lies.
 */
#include "block/disk.h"
#include "dev/tests/guest.h"
#include "tests/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#define SIZE 16u /* of the queues */
#define NEEDS_RESET 0x40u

#define F_EVENT_IDX (UINT64_C(1) << 29)
#define F_FLUSH     (UINT64_C(1) << 9)
#define F_WCE       (UINT64_C(1) << 11)

static char path[] = "/tmp/lodge-virtio-XXXXXX";

/* -- Transport --------------------------------------------------------------------- */

static void test_transport(void)
{
	struct device *rng = device_create(
		&virtio_rng_model, g_bus, NULL,
		&(struct virtio_rng_config){
			.pci = {.host = g_host, .mem = &g_mem, .slot = 1}},
		NULL);
	unsigned cap;

	device_reset(g_host);
	is_int(cfg_read(1, 0, 4), 0x10441af4, "a modern entropy device");
	for (unsigned type = 1; type <= 5; type++)
		ok(find_cap(1, PCI_CAP_VENDOR, type), "capability %u", type);
	cfg_write(1, 4, 2, 6);
	is_int(bar_in(1, 0, 0x12, 2), 1, "one queue");
	is_int(bar_in(1, 0, 0x10, 8), 0x1ffff,
	       "vector, queues, status, generation at once");
	is_int(offered(1) >> 32, 0x105, "VERSION_1, RING_PACKED, RING_RESET are offered");

	bar_out(1, 0, STATUS, 1, 3);
	accept_features(1, 0);
	bar_out(1, 0, STATUS, 1, 11);
	is_int(bar_in(1, 0, STATUS, 1), 3, "a driver without VERSION_1 is refused");
	accept_features(1, UINT64_C(1) << 32 | UINT64_C(1) << 50);
	bar_out(1, 0, STATUS, 1, 11);
	is_int(bar_in(1, 0, STATUS, 1), 3, "so is one that wants what is not offered");
	bar_out(1, 0, STATUS, 1, 7);
	is_int(bar_in(1, 0, STATUS, 1), 3, "DRIVER_OK needs FEATURES_OK");
	bar_out(1, 0, 0x16, 2, 1);
	is_int(bar_in(1, 0, 0x18, 2), 0, "queue 1 has no size");
	bar_out(1, 0, 0x16, 2, 0);
	is_int(bar_in(1, 0, 0x18, 2), 64, "queue 0 has");
	bar_out(1, 0, 0x1a, 2, 2);
	is_int(bar_in(1, 0, 0x1a, 2), 0xffff, "a vector that is not there is refused");

	cap = find_cap(1, PCI_CAP_VENDOR, 5);
	cfg_write(1, cap + 4, 1, 0);
	cfg_write(1, cap + 8, 4, 0x16);
	cfg_write(1, cap + 12, 4, 2);
	cfg_write(1, cap + 16, 2, 0x1234);
	is_int(bar_in(1, 0, 0x16, 2), 0x1234, "the configuration window writes");
	is_int(cfg_read(1, cap + 16, 2), 0x1234, "and reads");
	cfg_write(1, cap + 8, 4, 0xfffffffe);
	is_int(cfg_read(1, cap + 16, 2), 0x1234, "and does nothing outside the BAR");
	device_destroy(rng);
	is_int(cfg_read(1, 0, 4), 0xffffffff, "a destroyed device is gone");
}

/* -- Entropy ----------------------------------------------------------------------- */

static void test_rng(void)
{
	struct device *rng = device_create(
		&virtio_rng_model, g_bus, NULL,
		&(struct virtio_rng_config){
			.pci = {.host = g_host, .mem = &g_mem, .slot = 1}},
		NULL);
	unsigned before, zero = 0;

	device_reset(g_host);
	ok(drive(1, 0, 1, SIZE), "a driver");
	before = g_messages;
	memset(g_ram + FREE_RAM, 0, 256);
	put_desc(0, 0, FREE_RAM, 64, F_WRITE, 0);
	offer(0, SIZE, 0);
	kick(1, 0);
	is_int(used_idx(0), 1, "a buffer comes back");
	is_int(used_len(0, SIZE), 64, "full");
	for (unsigned i = 0; i < 64; i++)
		zero += g_ram[FREE_RAM + i] == 0;
	ok(zero < 8, "of random bytes");
	is_int(g_messages, before + 1, "with a message");
	is_int(g_msi_data, 0x41, "of the queue's vector");
	put_desc(0, 0, FREE_RAM, 0x10000, F_WRITE, 0);
	offer(0, SIZE, 0);
	kick(1, 0);
	is_int(used_len(0, SIZE), 4096, "a large buffer is filled in part");

	cfg_write(1, find_cap(1, PCI_CAP_MSIX, 0) + 2, 2, 0);
	offer(0, SIZE, 0);
	kick(1, 0);
	ok(g_intx[pci_intx(1, 1)], "without MSI-X the pin is pulled");
	is_int(bar_in(1, 0, 0x1000, 1), 1, "ISR: a queue");
	ok(!g_intx[pci_intx(1, 1)], "and reading it lets the pin go");
	is_int(bar_in(1, 0, 0x1000, 1), 0, "nothing more");

	put_desc(0, 0, 0xdead0000, 64, F_WRITE, 0);
	offer(0, SIZE, 0);
	kick(1, 0);
	is_int(bar_in(1, 0, STATUS, 1), 15 | NEEDS_RESET, "a lie needs a reset");
	put_desc(0, 0, FREE_RAM, 64, F_WRITE, 0);
	kick(1, 0);
	is_int(used_idx(0), 3, "nothing moves until then");
	ok(drive(1, F_EVENT_IDX, 1, SIZE), "after it, a driver again");
	offer(0, SIZE, 0);
	kick(1, 0);
	is_int(used_idx(0), 0, "an empty descriptor is a lie too");
	ok(drive(1, 0, 1, SIZE), "and again");
	put_desc(0, 0, FREE_RAM, 64, F_WRITE, 0);
	offer(0, SIZE, 0);
	kick(1, 0);
	is_int(used_idx(0), 1, "it works");
	device_destroy(rng);
}

/* -- Console ----------------------------------------------------------------------- */

static char printed[256];
static size_t n_printed, printed_max;
static unsigned rooms;

static size_t print(void *ctx, const uint8_t *bytes, size_t n)
{
	(void)ctx;
	if (n > printed_max - n_printed)
		n = printed_max - n_printed;
	memcpy(printed + n_printed, bytes, n);
	n_printed += n;
	return n;
}

static void room(void *ctx)
{
	(void)ctx;
	rooms++;
}

static void test_console(void)
{
	struct device *con = device_create(&virtio_console_model, g_bus, NULL,
		&(struct virtio_console_config){
			.pci = {.host = g_host, .mem = &g_mem, .slot = 2},
			.ports[0] = {.output = print, .input_room = room}}, NULL);

	device_reset(g_host);
	is_int(virtio_console_input(con, 0, (const uint8_t *)"x", 1), 0,
	       "no driver, no input");
	ok(drive(2, F_EVENT_IDX, 2, SIZE), "a driver");
	put_desc(0, 0, FREE_RAM + 64, 3, F_WRITE, 0);
	offer(0, SIZE, 0);
	kick(2, 0);
	is_int(virtio_console_input(con, 0, (const uint8_t *)"x", 1), 0,
	       "no output yet, no input");
	is_int(rooms, 0, "and nobody is called for it");
	memcpy(g_ram + FREE_RAM, "hello world", 11);
	put_desc(1, 0, FREE_RAM, 6, F_NEXT, 1);
	put_desc(1, 1, FREE_RAM + 6, 5, 0, 0);
	offer(1, SIZE, 0);
	printed_max = 8;
	kick(2, 1);
	is_int(n_printed, 8, "the other end takes eight bytes");
	is_int(used_idx(1), 0, "so the buffer stays with us");
	printed_max = sizeof(printed);
	virtio_console_output_ready(con, 0);
	is_str(printed, "hello world", "the rest follows");
	is_int(rooms, 1, "who has printed is fed");
	is_int(virtio_console_input(con, 0, (const uint8_t *)"x", 1), 1, "takes input");
	is_int(virtio_console_input(con, 0, (const uint8_t *)"y", 1), 0, "while it has buffers");
	is_int(used_idx(1), 1, "and the buffer goes back");

	put_desc(0, 0, FREE_RAM, 3, F_WRITE, 0);
	offer(0, SIZE, 0);
	kick(2, 0);
	is_int(rooms, 2, "a buffer calls the feeder");
	is_int(virtio_console_input(con, 0, (const uint8_t *)"abcdef", 6), 3,
	       "three bytes fit");
	is_int(used_len(0, SIZE), 3, "the driver gets three");
	offer(0, SIZE, 0);
	kick(2, 0);
	is_int(rooms, 3, "another buffer calls again");
	is_int(virtio_console_input(con, 0, (const uint8_t *)"de", 2), 2,
	       "and gets the rest");
	ok(!memcmp(g_ram + FREE_RAM, "dec", 3), "in place");
	device_destroy(con);
}

/* The other end, and with it another vCPU of the guest, which offers one more each time. */
static size_t print_and_offer(void *ctx, const uint8_t *bytes, size_t n)
{
	(void)ctx, (void)bytes;
	if (++n_printed < 10000)
		offer(1, SIZE, 0);
	return n;
}

static void test_console_endless(void)
{
	struct device *con = device_create(&virtio_console_model, g_bus, NULL,
		&(struct virtio_console_config){
			.pci = {.host = g_host, .mem = &g_mem, .slot = 2},
			.ports[0].output = print_and_offer}, NULL);

	device_reset(g_host);
	ok(drive(2, F_EVENT_IDX, 2, SIZE), "a console for a guest that never stops");
	put_desc(1, 0, FREE_RAM, 6, 0, 0);
	n_printed = 0;
	offer(1, SIZE, 0);
	kick(2, 1);
	ok(n_printed <= SIZE, "its kick ends (%zu times printed)", n_printed);
	n_printed = 0;
	virtio_console_output_ready(con, 0);
	ok(n_printed > 0 && n_printed <= SIZE, "and so does the other end's call");
	device_destroy(con);
}

/* -- A console with ports ---------------------------------------------------------- */

enum { CONTROL_IN = 2, CONTROL_OUT, PORT_IN, PORT_OUT };

#define F_MULTIPORT 2u
#define MESSAGES    (FREE_RAM + 0x1000) /* from the device, 64 bytes each */
#define MESSAGE     (FREE_RAM + 0x2000) /* to it */

/* Buffer i of 16 for a message, once more. */
static void offer_message(unsigned i)
{
	memset(g_ram + MESSAGES + i * 64, 0, 64);
	put_desc(CONTROL_IN, i, MESSAGES + i * 64, 64, F_WRITE, 0);
	offer(CONTROL_IN, SIZE, i);
}

static void say(uint32_t port, unsigned event, unsigned value)
{
	le32_put(g_ram + MESSAGE, port);
	le16_put(g_ram + MESSAGE + 4, (uint16_t)event);
	le16_put(g_ram + MESSAGE + 6, (uint16_t)value);
	put_desc(CONTROL_OUT, 0, MESSAGE, 8, 0, 0);
	offer(CONTROL_OUT, SIZE, 0);
	kick(2, CONTROL_OUT);
}

/* "port event value name" of buffer i. */
static const char *message(unsigned i)
{
	static char text[80];
	const uint8_t *m = g_ram + MESSAGES + i * 64;

	snprintf(text, sizeof(text), "%u %u %u %.40s", le32_get(m), le16_get(m + 4), le16_get(m + 6),
		 (const char *)m + 8);
	return text;
}

static struct device *make_ports(void)
{
	struct device *con = device_create(&virtio_console_model, g_bus, NULL,
		&(struct virtio_console_config){
			.pci = {.host = g_host, .mem = &g_mem, .slot = 2},
			.ports = {{.output = print}, {.name = "org.test.0", .output = print, .input_room = room}},
		}, NULL);

	device_reset(g_host);
	ok(drive(2, F_EVENT_IDX | F_MULTIPORT, 6, SIZE), "a driver of ports");
	rooms = 0;
	n_printed = 0;
	printed_max = sizeof(printed);
	return con;
}

static void test_ports(void)
{
	struct device *con = make_ports();

	is_int(bar_in(2, 0, 0x2004, 4), 2, "there can be two ports");
	is_int(virtio_console_input(con, 1, (const uint8_t *)"x", 1), 0, "nobody has opened port 1");
	offer_message(0);
	kick(2, CONTROL_IN);
	is_int(used_idx(CONTROL_IN), 0, "nothing is said to a driver that has said nothing");
	say(UINT32_MAX, 0, 1);
	is_int(used_idx(CONTROL_IN), 1, "one buffer, one message");
	is_str(message(0), "0 1 1 ", "there is port 0");
	offer_message(1);
	kick(2, CONTROL_IN);
	is_str(message(1), "1 1 1 ", "there is port 1");
	for (unsigned i = 0; i < 8; i++)
		offer_message(i);
	say(0, 3, 1);
	is_str(message(0), "0 4 1 ", "port 0 is a console");
	is_str(message(1), "0 6 1 ", "and open");
	say(1, 3, 1);
	is_str(message(2), "1 6 1 ", "port 1 is open");
	is_str(message(3), "1 7 1 org.test.0", "and has its name");
	is_int(used_len(CONTROL_IN, SIZE), 8 + 10, "without a NUL");
	is_int(used_idx(CONTROL_IN), 6, "and that is all");

	put_desc(PORT_IN, 0, FREE_RAM, 8, F_WRITE, 0);
	offer(PORT_IN, SIZE, 0);
	kick(2, PORT_IN);
	is_int(rooms, 0, "a port that is not open calls nobody");
	say(1, 6, 1);
	is_int(rooms, 1, "the guest opens port 1, and who was turned away hears of it");
	is_int(virtio_console_input(con, 1, (const uint8_t *)"123456789", 9), 0, "nine bytes do not fit into eight");
	is_int(used_idx(PORT_IN), 0, "and not in part");
	is_int(virtio_console_input(con, 1, (const uint8_t *)"12345678", 8), 8, "eight do");
	is_int(used_len(PORT_IN, SIZE), 8, "the driver gets them");
	is_int(virtio_console_input(con, 1, (const uint8_t *)"x", 1), 0, "there is no other buffer");
	memcpy(g_ram + FREE_RAM, "hello", 5);
	put_desc(PORT_OUT, 0, FREE_RAM, 5, 0, 0);
	offer(PORT_OUT, SIZE, 0);
	printed_max = 2;
	kick(2, PORT_OUT);
	is_int(used_idx(PORT_OUT), 0, "what is not taken stays");
	printed_max = sizeof(printed);
	virtio_console_output_ready(con, 1);
	ok(n_printed == 5 && !memcmp(printed, "hello", 5), "the rest follows");
	is_int(used_idx(PORT_OUT), 1, "the buffer goes back");
	say(0, 6, 1);
	put_desc(0, 0, FREE_RAM, 8, F_WRITE, 0);
	offer(0, SIZE, 0);
	is_int(virtio_console_input(con, 0, (const uint8_t *)"x", 1), 0, "a console that is open has not printed yet");
	ok(virtio_console_listens(con, 1), "port 1 is open");
	rooms = 0;
	say(1, 6, 0);
	ok(rooms == 1 && !virtio_console_listens(con, 1), "the guest closes it, and its other end hears of it");
	offer(PORT_IN, SIZE, 0);
	is_int(virtio_console_input(con, 1, (const uint8_t *)"x", 1), 0, "and it takes nothing more");
	device_destroy(con);
}

/* Messages without sense change nothing; and the driver is told all again as often as it asks. */
static void test_port_lies(void)
{
	struct device *con = make_ports();

	for (unsigned event = 0; event < 300; event++)
		for (unsigned i = 0; i < 8; i++)
			say((const uint32_t[]){0, 1, 2, UINT32_MAX}[i / 2], event == 6 ? 8 : event, i % 2);
	le32_put(g_ram + MESSAGE, 1);
	le32_put(g_ram + MESSAGE + 4, 6 | 1u << 16);
	put_desc(CONTROL_OUT, 0, MESSAGE, 7, 0, 0);
	offer(CONTROL_OUT, SIZE, 0);
	kick(2, CONTROL_OUT);
	put_desc(PORT_IN, 0, FREE_RAM, 8, F_WRITE, 0);
	offer(PORT_IN, SIZE, 0);
	is_int(bar_in(2, 0, STATUS, 1), 15, "messages of no sense, and one that is too short");
	is_int(virtio_console_input(con, 1, (const uint8_t *)"x", 1), 0, "which have opened nothing");
	for (unsigned i = 0; i < 10; i++)
		offer_message(i);
	kick(2, CONTROL_IN);
	is_int(used_idx(CONTROL_IN), 6, "what is owed is owed once");
	put_desc(CONTROL_IN, 0, MESSAGES, 3, F_WRITE, 0);
	offer(CONTROL_IN, SIZE, 0);
	say(1, 3, 1);
	is_int(bar_in(2, 0, STATUS, 1), 15, "a message is cut for a buffer that is too short");
	device_destroy(con);
}

/* -- Disk -------------------------------------------------------------------------- */

#define HEADER FREE_RAM
#define STATUS_BYTE (FREE_RAM + 0x100)
#define DATA (FREE_RAM + 0x1000)

enum { IN, OUT, FLUSH = 4, GET_ID = 8, DISCARD = 11, ZEROES = 13 };

static struct device *blk;

/* Waits until the used index is `idx`. */
static void wait_used(uint16_t idx)
{
	for (unsigned i = 0; used_idx(0) != idx && i < 10000000; i++)
		sched_yield();
}

/* And until there was another message than the first n: it comes just behind. */
static bool wait_message(unsigned n)
{
	for (unsigned i = 0; i < 10000000; i++) {
		if (__atomic_load_n(&g_messages, __ATOMIC_SEQ_CST) != n)
			return true;
		sched_yield();
	}
	return false;
}

/* One request: its status byte, or 0xff if none came. */
static unsigned request(unsigned type, uint64_t sector, unsigned len)
{
	bool in = type == IN || type == GET_ID;
	uint16_t idx = used_idx(0);

	le32_put(g_ram + HEADER, type);
	le32_put(g_ram + HEADER + 4, 0);
	le64_put(g_ram + HEADER + 8, sector);
	g_ram[STATUS_BYTE] = 0xff;
	put_desc(0, 0, HEADER, 16, F_NEXT, len ? 1 : 2);
	put_desc(0, 1, DATA, len, F_NEXT | (in ? F_WRITE : 0), 2);
	put_desc(0, 2, STATUS_BYTE, 1, F_WRITE, 0);
	offer(0, SIZE, 0);
	kick(3, 0);
	wait_used((uint16_t)(idx + 1));
	return g_ram[STATUS_BYTE];
}

static void test_disk_requests(void)
{
	uint8_t back[1024];
	unsigned before = g_messages;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	for (unsigned i = 0; i < 1024; i++)
		g_ram[DATA + i] = (uint8_t)(i * 3 + 1);
	is_int(request(OUT, 8, 1024), 0, "two sectors are written");
	is_int(used_len(0, SIZE), 1, "the driver gets a status");
	ok(wait_message(before), "and a message");
	is_int(pread(fd, back, 1024, 4096), 1024, "they are in the file");
	ok(!memcmp(back, g_ram + DATA, 1024), "as they were");
	memset(g_ram + DATA, 0, 1024);
	is_int(request(IN, 8, 1024), 0, "they are read");
	is_int(used_len(0, SIZE), 1025, "the driver gets data and a status");
	ok(!memcmp(back, g_ram + DATA, 1024), "the same bytes");
	is_int(request(FLUSH, 0, 0), 0, "a flush");
	is_int(request(GET_ID, 0, 20), 0, "the name");
	ok(!memcmp(g_ram + DATA, "lodge-0", 8), "is what it was given");
	le64_put(g_ram + DATA, 8);
	le32_put(g_ram + DATA + 8, 1);
	le32_put(g_ram + DATA + 12, 0);
	is_int(request(ZEROES, 0, 16), 0, "zeroes");
	is_int(pread(fd, back, 1024, 4096), 1024, "in the file");
	ok(back[0] == 0 && back[511] == 0 && back[512] != 0, "one sector of them");
	is_int(request(DISCARD, 0, 16), 0, "a discard");
	le32_put(g_ram + DATA + 12, 1);
	is_int(request(DISCARD, 0, 16), 2, "with a flag it does not have: unsupported");
	le32_put(g_ram + DATA + 8, UINT32_MAX);
	is_int(request(ZEROES, 0, 16), 1, "too many sectors");
	is_int(request(ZEROES, 0, 8), 1, "half a range");
	is_int(request(99, 0, 512), 2, "an unknown request: unsupported");
	is_int(request(IN, 2048, 512), 1, "behind the end: an error");
	is_int(request(OUT, UINT64_MAX, 512), 1, "far behind it: an error");
	is_int(request(IN, 0, 100), 1, "a part of a sector: an error");
	is_int(request(IN, 0, 0), 1, "nothing: an error");
	is_int(bar_in(3, 0, STATUS, 1), 15, "none of which is a lie");
	close(fd);
}

/* Header, data and status in pieces of all sizes, as virtio 1 allows. */
static void test_disk_layout(void)
{
	uint16_t idx = used_idx(0);

	le32_put(g_ram + HEADER, OUT);
	le64_put(g_ram + HEADER + 8, 1);
	memset(g_ram + HEADER + 16, 'q', 512);
	put_desc(0, 0, HEADER, 3, F_NEXT, 1);
	put_desc(0, 1, HEADER + 3, 20, F_NEXT, 2);
	put_desc(0, 2, HEADER + 23, 505, F_NEXT, 3);
	put_desc(0, 3, STATUS_BYTE + 0x800, 1, F_WRITE, 0);
	offer(0, SIZE, 0);
	kick(3, 0);
	wait_used((uint16_t)(idx + 1));
	is_int(g_ram[STATUS_BYTE + 0x800], 0, "a write in odd pieces");
	le32_put(g_ram + HEADER, IN);
	put_desc(0, 0, HEADER, 16, F_NEXT, 1);
	put_desc(0, 1, DATA, 1, F_NEXT | F_WRITE, 2);
	put_desc(0, 2, DATA + 1, 512, F_WRITE, 0);
	memset(g_ram + DATA, 0xee, 513);
	offer(0, SIZE, 0);
	kick(3, 0);
	wait_used((uint16_t)(idx + 2));
	is_int(g_ram[DATA + 512], 0, "a read with its status behind the data");
	ok(g_ram[DATA] == 'q' && g_ram[DATA + 511] == 'q', "which is what was written");
}

/* The ring full of requests, many times, with event indices. */
static void test_disk_load(void)
{
	unsigned bad = 0;

	ok(drive(3, F_EVENT_IDX | F_FLUSH | F_WCE, 1, SIZE), "event indices");
	for (unsigned round = 0; round < 200; round++) {
		uint16_t idx = used_idx(0);

		for (unsigned i = 0; i < 5; i++) {
			unsigned at = DATA + i * 0x1000, d = i * 3;

			le32_put(g_ram + at, round % 2 ? IN : OUT);
			le64_put(g_ram + at + 8, i * 8);
			if (round % 2 == 0)
				memset(g_ram + at + 512, (int)(round + i), 1024);
			put_desc(0, d, at, 16, F_NEXT, d + 1);
			put_desc(0, d + 1, at + 512, 1024,
				 F_NEXT | (round % 2 ? F_WRITE : 0), d + 2);
			put_desc(0, d + 2, at + 16, 1, F_WRITE, 0);
			g_ram[at + 16] = 0xff;
			offer(0, SIZE, d);
			kick(3, 0);
		}
		wait_used((uint16_t)(idx + 5));
		for (unsigned i = 0; i < 5; i++) {
			unsigned at = DATA + i * 0x1000;

			bad += g_ram[at + 16] != 0;
			bad += g_ram[at + 512] != (uint8_t)(round / 2 * 2 + i);
		}
	}
	is_int(bad, 0, "a thousand requests, five at a time");
}

static void test_disk_lies(void)
{
	ok(drive(3, 0, 1, SIZE), "a driver");
	put_desc(0, 0, HEADER, 15, F_NEXT, 1);
	put_desc(0, 1, STATUS_BYTE, 1, F_WRITE, 0);
	offer(0, SIZE, 0);
	kick(3, 0);
	is_int(bar_in(3, 0, STATUS, 1), 15 | NEEDS_RESET, "a header that is too short");
	ok(drive(3, 0, 1, SIZE), "again");
	put_desc(0, 0, HEADER, 16, 0, 0);
	offer(0, SIZE, 0);
	kick(3, 0);
	is_int(bar_in(3, 0, STATUS, 1), 15 | NEEDS_RESET, "no place for a status");
	ok(drive(3, 0, 1, SIZE), "again");
	is_int(request(OUT, 0, 512), 0, "all is well after a reset");
	for (unsigned i = 0; i < 400; i++) { /* all slots are used and given back */
		drive(3, 0, 1, SIZE);
		put_desc(0, 0, HEADER, 15, 0, 0);
		offer(0, SIZE, 0);
		kick(3, 0);
	}
	ok(drive(3, 0, 1, SIZE), "and after four hundred");
	is_int(request(OUT, 0, 512), 0, "still");
}

/* A reset while requests are under way ends when they have. */
static void test_disk_reset(void)
{
	for (unsigned round = 0; round < 50; round++) {
		drive(3, F_FLUSH, 1, SIZE);
		for (unsigned i = 0; i < 8; i++) {
			le32_put(g_ram + HEADER, FLUSH);
			put_desc(0, 0, HEADER, 16, F_NEXT, 1);
			put_desc(0, 1, STATUS_BYTE, 1, F_WRITE, 0);
			offer(0, SIZE, 0);
			kick(3, 0);
		}
		bar_out(3, 0, STATUS, 1, 0);
		while (bar_in(3, 0, STATUS, 1))
			sched_yield();
		memset(g_ram, 0x55, RAM_SIZE);
		usleep(100);
		for (unsigned i = 0; i < RAM_SIZE; i++) {
			if (g_ram[i] != 0x55) {
				ok(false, "round %u: RAM changed at %#x after a reset",
				   round, i);
				return;
			}
		}
	}
	ok(true, "after a reset no byte of RAM changes");
	device_reset(blk);
	ok(drive(3, F_FLUSH, 1, SIZE), "after the machine's reset");
	is_int(request(FLUSH, 0, 0), 0, "a flush");
}

static void test_disk(void)
{
	struct disk *disk;
	int fd = mkstemp(path);

	is_int(ftruncate(fd, 1 << 20), 0, "a file of 1 MiB");
	close(fd);
	disk_open(&disk, &(struct disk_config){.path = path}, NULL);
	blk = device_create(&virtio_blk_model, g_bus, NULL, &(struct virtio_blk_config){
		.pci = {.host = g_host, .mem = &g_mem, .slot = 3},
		.disk = disk, .serial = "lodge-0"}, NULL);
	device_reset(g_host);
	ok(drive(3, F_FLUSH | F_WCE, 1, SIZE), "a driver");
	is_int(bar_in(3, 0, 0x2000, 8), 2048, "capacity");
	is_int(bar_in(3, 0, 0x200c, 4), 254, "seg_max");
	is_int(bar_in(3, 0, 0x2014, 4), 512, "blk_size");
	is_int(bar_in(3, 0, 0x2020, 1), 1, "the cache is on");
	bar_out(3, 0, 0x2020, 1, 0);
	is_int(bar_in(3, 0, 0x2020, 1), 0, "and can be turned off");
	is_int(bar_in(3, 0, 0x2ffc, 8), 0, "there is nothing behind the configuration");
	test_disk_requests();
	test_disk_layout();
	test_disk_load();
	test_disk_lies();
	test_disk_reset();
	ok(drive(3, 0, 1, SIZE), "a driver without FLUSH");
	is_int(bar_in(3, 0, 0x2020, 1), 0, "gets write-through");
	device_destroy(blk);
	disk_close(disk);
	disk_open(&disk, &(struct disk_config){.path = path, .readonly = true}, NULL);
	blk = device_create(&virtio_blk_model, g_bus, NULL, &(struct virtio_blk_config){
		.pci = {.host = g_host, .mem = &g_mem, .slot = 3}, .disk = disk}, NULL);
	device_reset(g_host);
	ok(drive(3, 0, 1, SIZE), "a readonly disk");
	ok(offered(3) & 1 << 5, "says so");
	is_int(request(OUT, 0, 512), 1, "and does not write");
	is_int(request(IN, 0, 512), 0, "but reads");
	device_destroy(blk);
	disk_close(disk);
	unlink(path);
}

int main(void)
{
	g_start();
	test_transport();
	test_rng();
	test_console();
	test_console_endless();
	test_ports();
	test_port_lies();
	test_disk();
	g_stop();
	return done_testing();
}

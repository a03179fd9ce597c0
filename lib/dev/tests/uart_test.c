/* SPDX-License-Identifier: MIT */
/*
 * The 16550A as Linux's 8250 driver and a bare poller see it: detection, the
 * transmitter's latch, FIFO levels, loopback, and backpressure both ways.
 */
#include "dev/uart.h"
#include "tests/tap.h"

#define LSR_IDLE 0x60

static struct bus *bus;
static struct device *uart;
static bool irq;
static unsigned edges, rooms;
static uint8_t out[64];
static size_t n_out, out_max;

static void set_irq(void *ctx, unsigned gsi, bool level)
{
	(void)ctx;
	edges += level && !irq && gsi == 4;
	irq = level;
}

static size_t output(void *ctx, const uint8_t *bytes, size_t n)
{
	(void)ctx;
	if (n > out_max - n_out)
		n = out_max - n_out;
	memcpy(out + n_out, bytes, n);
	n_out += n;
	return n;
}

static void room(void *ctx)
{
	(void)ctx;
	rooms++;
}

static uint8_t in8(unsigned reg)
{
	return (uint8_t)bus_read(bus, BUS_PORT, 0x3f8 + reg, 1);
}

static void out8(unsigned reg, uint8_t value)
{
	bus_write(bus, BUS_PORT, 0x3f8 + reg, 1, value);
}

static void start(void)
{
	device_destroy(uart);
	uart = device_create(&uart_model, bus, (uint64_t[]){0x3f8}, &(struct uart_config){
		.irq = {.set = set_irq, .gsi = 4}, .output = output, .input_room = room,
	}, NULL);
	n_out = 0;
	out_max = sizeof(out);
	edges = rooms = 0;
}

/* What Linux does to find out what chip this is. */
static void test_detection(void)
{
	start();
	out8(1, 0);
	is_int(in8(1), 0, "IER keeps 0");
	out8(1, 0xff);
	is_int(in8(1), 0x0f, "IER has four bits");
	out8(1, 0);
	out8(4, 0x1a);
	is_int(in8(6) & 0xf0, 0x90,
	       "in loopback, RTS and OUT2 come back as CTS and DCD");
	out8(4, 0);
	is_int(in8(2), 0x01, "no FIFO, no interrupt");
	out8(2, 0x01);
	is_int(in8(2), 0xc1, "a FIFO: 16550A");
	out8(2, 0x21);
	is_int(in8(2), 0xc1, "and no 16750");
	out8(3, 0x80);
	out8(0, 1);
	out8(1, 2);
	is_int(in8(0) | in8(1) << 8, 0x201, "the divisor is behind DLAB");
	out8(3, 3);
	is_int(in8(1), 0, "and apart from IER");
	out8(7, 0x5a);
	is_int(in8(7), 0x5a, "scratch");
	is_int(bus_read(bus, BUS_PORT, 0x3fc, 4), 0x5ab06000,
	       "four registers in one access");
}

static void test_transmitter(void)
{
	start();
	out8(4, 0x08);
	out8(2, 0x01);
	out8(1, 0x02);
	ok(irq, "enabling the transmitter's interrupt while it is empty raises it");
	is_int(in8(2), 0xc2, "IIR says why");
	ok(!irq, "which clears it");
	is_int(in8(2), 0xc1, "once");
	out8(1, 0);
	out8(1, 0x02);
	is_int(in8(2), 0xc2, "enabling it again raises it again");
	out8(0, 'a');
	ok(irq, "a byte that was sent raises it");
	is_int(n_out, 1, "the byte is out");
	is_int(in8(5), LSR_IDLE, "and the transmitter idle");
	out8(4, 0);
	ok(!irq, "OUT2 gates the line");

	start();
	out8(4, 0x08);
	out8(2, 0x01);
	out8(1, 0x02);
	in8(2);
	out_max = 1;
	for (int i = 0; i < 17; i++)
		out8(0, (uint8_t)('a' + i));
	is_int(n_out, 1, "the other end takes one byte");
	is_int(in8(5), 0, "the transmitter is busy");
	ok(!irq, "and says nothing");
	out_max = sizeof(out);
	uart_output_ready(uart);
	is_int(n_out, 17, "the rest follows");
	ok(!memcmp(out, "abcdefghijklmnopq", 17), "in order");
	is_int(in8(2), 0xc2, "and the interrupt");
	out_max = n_out;
	for (int i = 0; i < 20; i++)
		out8(0, 'x');
	out_max = sizeof(out);
	uart_output_ready(uart);
	is_int(n_out, 17 + 16, "sixteen bytes are kept, more are lost");
}

static void test_receiver(void)
{
	uint8_t line[40];

	for (size_t i = 0; i < sizeof(line); i++)
		line[i] = (uint8_t)i;
	start();
	is_int(uart_input(uart, line, 40), 0, "nobody listens: nothing is taken");
	out8(2, 0x07);
	in8(0);
	out8(4, 0x08);
	out8(1, 0x05);
	is_int(rooms, 1, "a driver that listens calls the feeder");
	is_int(uart_input(uart, line, 40), 16, "a FIFO takes sixteen");
	ok(irq, "and interrupts");
	out8(2, 0x81); /* trigger at 8 */
	is_int(in8(2), 0xc4, "data available");
	for (unsigned i = 0; i < 9; i++)
		is_int(in8(0), i, "byte %u", i);
	is_int(in8(2), 0xcc, "under the trigger: time-out");
	is_int(rooms, 2, "the feeder was called once");
	for (unsigned i = 9; i < 16; i++)
		in8(0);
	is_int(in8(5), LSR_IDLE, "empty");
	ok(!irq, "quiet");
	uart_break(uart);
	is_int(in8(2), 0xc6, "a break is a line status");
	is_int(in8(5), LSR_IDLE | 0x91, "break, data, an error in the FIFO");
	is_int(in8(5), LSR_IDLE | 0x01, "once");
	is_int(in8(0), 0, "its byte is 0");
	uart_input(uart, line, 3);
	out8(2, 0x03);
	is_int(in8(5), LSR_IDLE, "FCR clears the receiver");
}

/* Linux enables receive interrupts before the FIFO: what came in between must stay. */
static void test_early_byte(void)
{
	start();
	out8(1, 0x0f);
	is_int(uart_input(uart, (const uint8_t *)"x", 1), 0,
	       "probing IER is not listening");
	out8(1, 0);
	out8(4, 0x08);
	out8(1, 0x05);
	uart_input(uart, (const uint8_t *)"x", 1);
	out8(2, 0x01);
	out8(2, 0x81);
	is_int(in8(0), 'x', "a byte survives the FIFO's being switched on");
}

static void test_poller(void)
{
	unsigned i;

	start();
	is_int(uart_input(uart, (const uint8_t *)"y", 1), 0, "not yet");
	for (i = 0; i < 1000 && !rooms; i++)
		in8(5);
	is_int(rooms, 1, "after %u polls the feeder is called", i);
	is_int(uart_input(uart, (const uint8_t *)"y", 1), 1, "and its byte taken");
	is_int(in8(5), LSR_IDLE | 1, "the poller sees it");
	is_int(in8(0), 'y', "and reads it");
}

static void test_loopback(void)
{
	start();
	out8(4, 0x1b);
	out8(2, 0x01);
	for (int i = 0; i < 17; i++)
		out8(0, (uint8_t)i);
	is_int(n_out, 0, "nothing leaves in loopback");
	is_int(in8(5), LSR_IDLE | 0x03, "data, and the seventeenth overran");
	is_int(in8(0), 0, "it comes back");
	is_int(uart_input(uart, out, 1), 0, "and the outside is cut off");
}

int main(void)
{
	bus = bus_create();
	test_detection();
	test_transmitter();
	test_receiver();
	test_early_byte();
	test_poller();
	test_loopback();
	device_destroy(uart);
	is_int(bus_read(bus, BUS_PORT, 0x3fd, 1), 0xff, "a destroyed device is gone");
	bus_destroy(bus);
	return done_testing();
}

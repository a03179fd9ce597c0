/* SPDX-License-Identifier: MIT */
/*
 * The 16550A serial port, after National Semiconductor's PC16550D data sheet.
 *
 *	at  read               write              with LCR's DLAB set
 *	0   RBR received byte  THR byte to send   DLL divisor, low
 *	1   IER interrupts on  IER                DLM divisor, high
 *	2   IIR which one      FCR FIFOs
 *	3   LCR format         LCR
 *	4   MCR modem out      MCR
 *	5   LSR line status    -
 *	6   MSR modem in       -
 *	7   SCR scratch        SCR
 *
 * The line has no speed: a byte written is sent at once, if the other end takes it.
 * While the other end is full, bytes wait in the transmit FIFO, THRE stays clear, and a
 * driver does what it does with a slow modem.
 *
 * One interrupt line carries four causes; IIR names the most urgent. The transmitter's
 * cause is the one that is easy to get wrong. It is a latch, not a level:
 *
 *	set      when the FIFO runs empty, and when IER's ETBEI goes from 0 to 1 while it is
 *	cleared  by a write to THR, and by a read of IIR that reports it
 *
 * Linux tests both halves of this at start-up, and polls with a timer if one is
 * missing.
 *
 * Who listens? Drivers clear the receive FIFO and read RBR while they set a port up,
 * which on a real line costs nobody anything: nobody types yet. Ours may be the first
 * line of a script in a pipe. So bytes stay outside until the guest can be interrupted
 * by them (IER's ERBFI and the gate OUT2; a driver that looks whether IER is there sets
 * only the first), or polls: reads LSR many times in a row while nothing keeps it from
 * sending.
 *
 * Left out: parity and framing errors (the line is perfect), the character timeout as a
 * time (it is reported at once), modem lines that move, the DMA mode pins.
 */
#include "dev/uart.h"

#include "base/macros.h"
#include "base/scoped.h"
#include "state/state.h"

#define FIFO 16u
#define POLLS_IN_EARNEST 64u /* reads of LSR in a row */

#define IER_RX 0x01u /* ERBFI: received data */
#define IER_TX 0x02u /* ETBEI: transmitter empty */
#define IER_LS 0x04u /* ELSI: line status */
#define IER_ALL 0x0fu

#define IIR_NONE 0x01u
#define IIR_TX   0x02u
#define IIR_RX   0x04u
#define IIR_LS   0x06u
#define IIR_TIMEOUT 0x0cu
#define IIR_FIFO 0xc0u

#define FCR_ENABLE 0x01u
#define FCR_CLEAR_RX 0x02u
#define FCR_CLEAR_TX 0x04u

#define LCR_DLAB 0x80u

#define MCR_DTR  0x01u
#define MCR_RTS  0x02u
#define MCR_OUT1 0x04u
#define MCR_OUT2 0x08u /* on a PC, the gate of the interrupt line */
#define MCR_LOOP 0x10u
#define MCR_ALL  0x1fu

#define LSR_DR   0x01u
#define LSR_OE   0x02u
#define LSR_BI   0x10u
#define LSR_THRE 0x20u
#define LSR_TEMT 0x40u
#define LSR_FIFO_ERROR 0x80u

#define MSR_CTS 0x10u
#define MSR_DSR 0x20u
#define MSR_RI  0x40u
#define MSR_DCD 0x80u

/* A queue of bytes, each with the LSR bits that come with it. */
struct fifo {
	uint8_t bytes[FIFO];
	uint8_t status[FIFO];
	uint8_t first, n;
};

struct uart {
	struct device dev;
	struct uart_config config;
	struct fifo rx, tx;
	uint16_t divisor;
	uint8_t ier, lcr, mcr, fcr, scr;
	bool overrun;  /* LSR's OE */
	bool tx_latch; /* the transmitter's interrupt */
	bool full;     /* uart_input() took less than it was given */
	unsigned polls;
};

/* -- FIFOs ------------------------------------------------------------------------- */

static unsigned depth(const struct uart *uart)
{
	return uart->fcr & FCR_ENABLE ? FIFO : 1;
}

static bool put(struct uart *uart, struct fifo *fifo, uint8_t byte, uint8_t status)
{
	unsigned at = (fifo->first + fifo->n) % FIFO;

	if (fifo->n >= depth(uart))
		return false;
	fifo->bytes[at] = byte;
	fifo->status[at] = status;
	fifo->n++;
	return true;
}

static void drop(struct fifo *fifo, unsigned n)
{
	fifo->first = (uint8_t)((fifo->first + n) % FIFO);
	fifo->n = (uint8_t)(fifo->n - n);
}

static unsigned trigger(const struct uart *uart)
{
	static const uint8_t levels[] = {1, 4, 8, 14};

	return uart->fcr & FCR_ENABLE ? levels[uart->fcr >> 6] : 1;
}

/* -- The interrupt ----------------------------------------------------------------- */

static uint8_t head_status(const struct uart *uart)
{
	return uart->rx.n ? uart->rx.status[uart->rx.first] : 0;
}

static uint8_t cause(const struct uart *uart)
{
	if ((uart->ier & IER_LS) && (uart->overrun || head_status(uart)))
		return IIR_LS;
	if ((uart->ier & IER_RX) && uart->rx.n)
		return uart->rx.n >= trigger(uart) ? IIR_RX : IIR_TIMEOUT;
	if ((uart->ier & IER_TX) && uart->tx_latch)
		return IIR_TX;
	return IIR_NONE;
}

static bool gate(const struct uart *uart)
{
	return (uart->mcr & (MCR_OUT2 | MCR_LOOP)) == MCR_OUT2;
}

static void update(struct uart *uart)
{
	irq_set(&uart->config.irq, gate(uart) && cause(uart) != IIR_NONE);
}

/* -- Sending ----------------------------------------------------------------------- */

/* Hands the FIFO's bytes on, as far as the other end takes them. */
static void transmit(struct uart *uart)
{
	struct fifo *tx = &uart->tx;

	while (tx->n) {
		unsigned run = FIFO - tx->first < tx->n ? FIFO - tx->first : tx->n;
		size_t taken = run;

		if (uart->config.output)
			taken = uart->config.output(uart->config.ctx,
						    tx->bytes + tx->first, run);
		if (taken == 0)
			return;
		drop(tx, taken < run ? (unsigned)taken : run);
	}
	uart->tx_latch = true;
}

static void write_thr(struct uart *uart, uint8_t byte)
{
	uart->polls = 0;
	uart->tx_latch = false;
	if (uart->mcr & MCR_LOOP) {
		if (!put(uart, &uart->rx, byte, 0))
			uart->overrun = true;
		uart->tx_latch = true;
	} else {
		put(uart, &uart->tx, byte,
		    0); /* a full one loses the byte, as the chip does */
		transmit(uart);
	}
	update(uart);
}

void uart_output_ready(struct device *dev)
{
	struct uart *uart = (struct uart *)dev;

	scoped_lock(&dev->lock);
	if (uart->tx.n)
		transmit(uart);
	update(uart);
}

/* -- Receiving --------------------------------------------------------------------- */

static bool listening(const struct uart *uart)
{
	if (uart->polls >= POLLS_IN_EARNEST)
		return !(uart->mcr & MCR_LOOP);
	return gate(uart) && (uart->ier & IER_RX);
}

/* Tells a feeder that was turned away when it is worth coming back. */
static void call_feeder(struct uart *uart)
{
	if (!uart->full || !listening(uart) || uart->rx.n == depth(uart))
		return;
	uart->full = false;
	if (uart->config.input_room)
		uart->config.input_room(uart->config.ctx);
}

size_t uart_input(struct device *dev, const uint8_t *bytes, size_t n)
{
	struct uart *uart = (struct uart *)dev;
	size_t taken = 0;

	scoped_lock(&dev->lock);
	if (listening(uart))
		while (taken < n && put(uart, &uart->rx, bytes[taken], 0))
			taken++;
	uart->full = taken < n;
	update(uart);
	return taken;
}

void uart_break(struct device *dev)
{
	struct uart *uart = (struct uart *)dev;

	scoped_lock(&dev->lock);
	if (listening(uart) && !put(uart, &uart->rx, 0, LSR_BI))
		uart->overrun = true;
	update(uart);
}

static uint8_t read_rbr(struct uart *uart)
{
	uint8_t byte =
		uart->rx.bytes[uart->rx.first]; /* an empty FIFO repeats itself */

	if (uart->rx.n)
		drop(&uart->rx, 1);
	call_feeder(uart);
	update(uart);
	return byte;
}

/* -- Registers --------------------------------------------------------------------- */

static uint64_t read_data(void *dev, unsigned at)
{
	struct uart *uart = dev;

	(void)at;
	return uart->lcr & LCR_DLAB ? uart->divisor & 0xff : read_rbr(uart);
}

static void write_data(void *dev, unsigned at, uint64_t value)
{
	struct uart *uart = dev;

	(void)at;
	if (uart->lcr & LCR_DLAB)
		uart->divisor = (uint16_t)((uart->divisor & 0xff00) | value);
	else
		write_thr(uart, (uint8_t)value);
}

static uint64_t read_ier(void *dev, unsigned at)
{
	struct uart *uart = dev;

	(void)at;
	return uart->lcr & LCR_DLAB ? uart->divisor >> 8 : uart->ier;
}

static void write_ier(void *dev, unsigned at, uint64_t value)
{
	struct uart *uart = dev;
	uint8_t old = uart->ier;

	(void)at;
	if (uart->lcr & LCR_DLAB) {
		uart->divisor = (uint16_t)((uart->divisor & 0xff) | value << 8);
		return;
	}
	uart->ier = (uint8_t)(value & IER_ALL);
	if ((uart->ier & ~old & IER_TX) && uart->tx.n == 0)
		uart->tx_latch = true;
	call_feeder(uart);
	update(uart);
}

static uint64_t read_iir(void *dev, unsigned at)
{
	struct uart *uart = dev;
	uint8_t iir = cause(uart);

	(void)at;
	if (iir == IIR_TX) {
		uart->tx_latch = false;
		update(uart);
	}
	return iir | (uart->fcr & FCR_ENABLE ? IIR_FIFO : 0);
}

static void write_fcr(void *dev, unsigned at, uint64_t value)
{
	struct uart *uart = dev;
	bool toggled = (uart->fcr ^ value) & FCR_ENABLE;

	(void)at;
	uart->fcr = value & FCR_ENABLE ? (uint8_t)(value & 0xc9) : 0;
	/* The chip clears the receiver whenever ENABLE changes. Linux switches the FIFO
	 * on just after it has enabled receive interrupts; a byte that came in between
	 * stays. */
	if ((toggled && !uart->fcr) || (value & FCR_CLEAR_RX)) {
		uart->rx.n = 0;
		call_feeder(uart);
	}
	if ((toggled || (value & FCR_CLEAR_TX)) && uart->tx.n) {
		uart->tx.n = 0;
		uart->tx_latch = true;
	}
	update(uart);
}

static uint64_t read_lcr(void *dev, unsigned at)
{
	(void)at;
	return ((struct uart *)dev)->lcr;
}

static void write_lcr(void *dev, unsigned at, uint64_t value)
{
	(void)at;
	((struct uart *)dev)->lcr = (uint8_t)value;
}

static uint64_t read_mcr(void *dev, unsigned at)
{
	(void)at;
	return ((struct uart *)dev)->mcr;
}

static void write_mcr(void *dev, unsigned at, uint64_t value)
{
	struct uart *uart = dev;

	(void)at;
	uart->mcr = (uint8_t)(value & MCR_ALL);
	call_feeder(uart);
	update(uart);
}

/* Counts polls, and lets bytes in when they are meant. */
static void polled(struct uart *uart)
{
	if (uart->tx.n == 0 && uart->polls < POLLS_IN_EARNEST &&
	    ++uart->polls == POLLS_IN_EARNEST)
		call_feeder(uart);
}

static uint64_t read_lsr(void *dev, unsigned at)
{
	struct uart *uart = dev;
	uint8_t lsr = head_status(uart);

	(void)at;
	polled(uart);
	if (lsr && (uart->fcr & FCR_ENABLE))
		lsr |= LSR_FIFO_ERROR;
	if (uart->rx.n)
		lsr |= LSR_DR;
	if (uart->overrun)
		lsr |= LSR_OE;
	if (uart->tx.n == 0)
		lsr |= LSR_THRE | LSR_TEMT;
	uart->overrun = false;
	uart->rx.status[uart->rx.first] = 0;
	update(uart);
	return lsr;
}

/* The other end is there and ready; in loopback, our own outputs come back. */
static uint64_t read_msr(void *dev, unsigned at)
{
	struct uart *uart = dev;
	uint8_t msr = 0;

	(void)at;
	if (!(uart->mcr & MCR_LOOP))
		return MSR_CTS | MSR_DSR | MSR_DCD;
	if (uart->mcr & MCR_RTS)
		msr |= MSR_CTS;
	if (uart->mcr & MCR_DTR)
		msr |= MSR_DSR;
	if (uart->mcr & MCR_OUT1)
		msr |= MSR_RI;
	if (uart->mcr & MCR_OUT2)
		msr |= MSR_DCD;
	return msr;
}

static uint64_t read_scr(void *dev, unsigned at)
{
	(void)at;
	return ((struct uart *)dev)->scr;
}

static void write_scr(void *dev, unsigned at, uint64_t value)
{
	(void)at;
	((struct uart *)dev)->scr = (uint8_t)value;
}

static const struct reg regs[] = {
	{.at = 0, .width = 1, .name = "data", .read = read_data, .write = write_data},
	{.at = 1, .width = 1, .name = "IER", .read = read_ier, .write = write_ier},
	{.at = 2, .width = 1, .name = "IIR/FCR", .read = read_iir, .write = write_fcr},
	{.at = 3, .width = 1, .name = "LCR", .read = read_lcr, .write = write_lcr},
	{.at = 4, .width = 1, .name = "MCR", .read = read_mcr, .write = write_mcr},
	{.at = 5, .width = 1, .name = "LSR", .read = read_lsr},
	{.at = 6, .width = 1, .name = "MSR", .read = read_msr},
	{.at = 7, .width = 1, .name = "SCR", .read = read_scr, .write = write_scr},
	{0},
};

/* -- The model --------------------------------------------------------------------- */

static const struct device_place places[] = {
	{BUS_PORT, 8, .regs = regs},
	{0},
};

static int init(struct device *dev, const void *config, struct err *err)
{
	(void)err;
	((struct uart *)dev)->config = *(const struct uart_config *)config;
	return 0;
}

static void reset(struct device *dev)
{
	struct uart *uart = (struct uart *)dev;

	uart->rx = uart->tx = (struct fifo){0};
	uart->divisor = 12; /* 9600 baud; the chip would not know */
	uart->ier = uart->lcr = uart->mcr = uart->fcr = uart->scr = 0;
	uart->overrun = uart->tx_latch = false;
	uart->polls = 0;
	update(uart);
}

/* Whoever had a byte for the guest before tries again. */
static void resume(struct device *dev)
{
	struct uart *uart = (struct uart *)dev;

	if (uart->tx.n)
		transmit(uart);
	update(uart);
}

static const struct state_field fifo_state[] = {
	STATE_ARRAY(struct fifo, bytes),
	STATE_ARRAY(struct fifo, status),
	STATE_UPTO(struct fifo, first, FIFO - 1),
	STATE_UPTO(struct fifo, n, FIFO),
	{0},
};

static const struct state_field fields[] = {
	STATE_PART(struct uart, rx, fifo_state),
	STATE_PART(struct uart, tx, fifo_state),
	STATE(struct uart, divisor),
	STATE_UPTO(struct uart, ier, IER_ALL),
	STATE(struct uart, lcr),
	STATE_UPTO(struct uart, mcr, MCR_ALL),
	STATE(struct uart, fcr),
	STATE(struct uart, scr),
	STATE(struct uart, overrun),
	STATE(struct uart, tx_latch),
	STATE_UPTO(struct uart, polls, POLLS_IN_EARNEST),
	{0},
};

static const struct state_table table = {.name = "16550", .version = 1, .fields = fields};
static const struct state_table *const state[] = {&table, NULL};

const struct device_model uart_model = {
	.name = "uart",
	.summary = "16550A serial port",
	.size = sizeof(struct uart),
	.places = places,
	.state = state,
	.init = init,
	.reset = reset,
	.resume = resume,
};

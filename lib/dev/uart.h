/* SPDX-License-Identifier: MIT */
/*
 * The serial port: a 16550A. See uart.c for the chip.
 *
 * Both directions have backpressure. Output goes to `output`, which says how many bytes
 * it took; when it takes fewer, the transmitter is busy until uart_output_ready().
 * Input comes through uart_input(), which says how many bytes fitted; `input_room` is
 * called when more will. The two callbacks run with the device's lock held: wake
 * somebody, do not call back.
 *
 *	uart = device_create(&uart_model, bus, (uint64_t[]){0x3f8}, &(struct uart_config){
 *		.irq = irq4, .output = put, .input_room = wake, .ctx = tty }, &err);
 *	...
 *	n -= uart_input(uart, bytes, n);        // the rest after input_room
 *	...
 *	uart_output_ready(uart);                // put() takes bytes again
 */
#ifndef DEV_UART_H
#define DEV_UART_H

#include "dev/device.h"

struct uart_config {
	struct irq_line irq;
	size_t (*output)(void *ctx, const uint8_t *bytes,
			 size_t n);    /* NULL: to nowhere */
	void (*input_room)(void *ctx); /* NULL: nobody waits */
	void *ctx;
};

extern const struct device_model uart_model;

/* Gives bytes to the receiver; returns how many it took. Any thread. */
size_t uart_input(struct device *uart, const uint8_t *bytes, size_t n);

/* The other end has room again. Any thread. */
void uart_output_ready(struct device *uart);

/* The other end sends a break (magic SysRq). Any thread. */
void uart_break(struct device *uart);

#endif

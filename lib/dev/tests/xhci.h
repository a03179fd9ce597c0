/* SPDX-License-Identifier: MIT */
/*
 * A driver of the xHCI controller, for tests: rings of one page each, in guest.h's RAM; what it does it does at once.
 *
 *	usb_start(slot);                               // rings, and it runs
 *	usb_address(slot, 1, 7, 1);                    // slot 1 is what is at port 7, of speed 1
 *	usb_control_in(slot, 1, 0x80, 6, 0x100, 18)    // its device descriptor is at U_DATA
 */
#ifndef DEV_TESTS_XHCI_H
#define DEV_TESTS_XHCI_H

#include "dev/tests/guest.h"
#include "dev/usb/xhci.h"

#define U_DCBAA   0x40000u
#define U_COMMAND 0x41000u
#define U_EVENTS  0x42000u
#define U_ERST    0x43000u
#define U_INPUT   0x44000u
#define U_DATA    0x45000u
#define U_OUTPUT(slot)   (0x50000u + (slot) * 0x1000u)
#define U_RING(slot, ep) (0x60000u + (slot) * 0x8000u + (ep) * 0x1000u)
#define U_EVENTS_N 64u

#define U_OPER  0x40u
#define U_RUN   0x1000u
#define U_DOOR  0x2000u

static unsigned u_commands, u_events, u_event_cycle, u_at[9][8];

/* The last event that was taken. */
static struct {
	uint64_t parameter;
	uint32_t status, control;
} u_event;

static inline void usb_trb(uint64_t at, uint64_t parameter, uint32_t status, uint32_t control)
{
	le64_put(g_ram + at, parameter);
	le32_put(g_ram + at + 8, status);
	le32_put(g_ram + at + 12, control);
}

static inline void usb_start(unsigned slot)
{
	memset(g_ram + U_DCBAA, 0, 0x60000);
	u_commands = u_events = 0;
	u_event_cycle = 1;
	memset(u_at, 0, sizeof(u_at));
	cfg_write(slot, 4, 2, 6);
	bar_out(slot, 0, U_OPER, 4, 2);
	for (unsigned i = 1; i <= 8; i++)
		le64_put(g_ram + U_DCBAA + 8 * i, U_OUTPUT(i));
	le64_put(g_ram + U_ERST, U_EVENTS);
	le32_put(g_ram + U_ERST + 8, U_EVENTS_N);
	bar_out(slot, 0, U_OPER + 0x38, 4, 8);
	bar_out(slot, 0, U_OPER + 0x30, 8, U_DCBAA);
	bar_out(slot, 0, U_OPER + 0x18, 8, U_COMMAND | 1);
	bar_out(slot, 0, U_RUN + 0x28, 4, 1);
	bar_out(slot, 0, U_RUN + 0x38, 8, U_EVENTS);
	bar_out(slot, 0, U_RUN + 0x30, 8, U_ERST);
	bar_out(slot, 0, U_RUN + 0x20, 4, 2);
	bar_out(slot, 0, U_OPER, 4, 5);
}

/* False: there is none. */
static inline bool usb_take_event(unsigned slot)
{
	const uint8_t *e = g_ram + U_EVENTS + u_events * 16;

	if ((__atomic_load_n((const uint32_t *)(const void *)(e + 12), __ATOMIC_ACQUIRE) & 1) != u_event_cycle)
		return false;
	u_event.parameter = le64_get(e);
	u_event.status = le32_get(e + 8);
	u_event.control = le32_get(e + 12);
	u_events = (u_events + 1) % U_EVENTS_N;
	u_event_cycle ^= u_events == 0;
	bar_out(slot, 0, U_RUN + 0x38, 8, (U_EVENTS + u_events * 16) | 8);
	return true;
}

static inline unsigned usb_type(void)
{
	return u_event.control >> 10 & 63;
}

static inline unsigned usb_code(void)
{
	return u_event.status >> 24;
}

/* A command's completion code; 0: there is no such event. */
static inline unsigned usb_command(unsigned slot, unsigned type, uint64_t parameter, uint32_t more)
{
	uint64_t at = U_COMMAND + u_commands++ % 200 * 16;

	usb_trb(at, parameter, 0, type << 10 | more | 1);
	memset(g_ram + at + 16, 0, 16);
	bar_out(slot, 0, U_DOOR, 4, 0);
	while (usb_take_event(slot))
		if (usb_type() == 33 && u_event.parameter == at)
			return usb_code();
	return 0;
}

static inline void usb_context(unsigned i, unsigned ep_type, unsigned packet, uint64_t ring)
{
	le32_put(g_ram + U_INPUT + i * 32 + 4, ep_type << 3 | packet << 16);
	le64_put(g_ram + U_INPUT + i * 32 + 8, ring | 1);
}

static inline unsigned usb_address(unsigned slot, unsigned usb, unsigned port, unsigned speed)
{
	bar_out(slot, 0, 0x440 + (port - 1) * 16, 4, 0x210); /* resets it */
	if (usb_command(slot, 9, 0, 0) != 1 || u_event.control >> 24 != usb)
		return 0;
	memset(g_ram + U_INPUT, 0, 0x400);
	le32_put(g_ram + U_INPUT + 4, 3);
	le32_put(g_ram + U_INPUT + 32, 1u << 27 | speed << 20);
	g_ram[U_INPUT + 32 + 6] = (uint8_t)port;
	memset(g_ram + U_RING(usb, 0), 0, 0x8000);
	memset(u_at[usb], 0, sizeof(u_at[usb]));
	usb_context(2, 4, 64, U_RING(usb, 1));
	return usb_command(slot, 11, U_INPUT, usb << 24);
}

/* Endpoints by their numbers in the controller. */
static inline unsigned usb_configure(unsigned slot, unsigned usb, unsigned ep, unsigned ep_type, unsigned packet)
{
	memset(g_ram + U_INPUT, 0, 0x400);
	le32_put(g_ram + U_INPUT + 4, 1u << ep | 1);
	le32_put(g_ram + U_INPUT + 32, 7u << 27);
	usb_context(ep + 1, ep_type, packet, U_RING(usb, ep));
	return usb_command(slot, 12, U_INPUT, usb << 24);
}

static inline uint64_t usb_put(unsigned usb, unsigned ep, uint64_t parameter, uint32_t status, uint32_t control)
{
	uint64_t at = U_RING(usb, ep) + u_at[usb][ep]++ * 16;

	memset(g_ram + at + 16, 0, 16);
	usb_trb(at, parameter, status, control | 1);
	if (u_at[usb][ep] == 200) { /* and on from the beginning, which is as new */
		memset(g_ram + U_RING(usb, ep), 0, 200 * 16);
		u_at[usb][ep] = 0;
	}
	return at;
}

static inline void usb_ring(unsigned slot, unsigned usb, unsigned ep)
{
	bar_out(slot, 0, U_DOOR + 4 * usb, 4, ep);
}

/* The next transfer's event, of that endpoint: its code; 0: there is none. */
static inline unsigned usb_transferred(unsigned slot, unsigned usb, unsigned ep)
{
	while (usb_take_event(slot))
		if (usb_type() == 32 && u_event.control >> 24 == usb && (u_event.control >> 16 & 31) == ep)
			return usb_code();
	return 0;
}

/* Without data, or with `len` bytes of them at U_DATA. The code of its end. */
static inline unsigned usb_control(unsigned slot, unsigned usb, unsigned type, unsigned request, unsigned value, unsigned index, unsigned len)
{
	uint64_t setup = type | request << 8 | value << 16 | (uint64_t)index << 32 | (uint64_t)len << 48;
	bool in = type & 0x80;

	usb_put(usb, 1, setup, 8, 2u << 10 | 0x40 | (len ? in ? 3u << 16 : 2u << 16 : 0));
	if (len)
		usb_put(usb, 1, U_DATA, len, 3u << 10 | (in ? 1u << 16 : 0) | 4);
	usb_put(usb, 1, 0, 0, 4u << 10 | 0x20 | (len && in ? 0 : 1u << 16));
	usb_ring(slot, usb, 1);
	while (usb_transferred(slot, usb, 1))
		if (usb_code() != 13) /* a data stage that is short */
			return usb_code();
	return 0;
}

#endif

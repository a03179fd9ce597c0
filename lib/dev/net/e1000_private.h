/* SPDX-License-Identifier: MIT */
/* The inside of the 82540EM: e1000.c has its life and its cable, e1000_registers.c what a driver sees of it, e1000_send.c and e1000_receive.c frames. */
#ifndef DEV_NET_E1000_PRIVATE_H
#define DEV_NET_E1000_PRIVATE_H

#include "bus/guest.h"
#include "dev/net/e1000.h"
#include "loop/loop.h"
#include "net/link.h"
#include "net/port.h"

#define CTRL_VME (1u << 30)

#define ICR_TXDW  0x01u
#define ICR_TXQE  0x02u
#define ICR_LSC   0x04u
#define ICR_RXDMT 0x10u
#define ICR_RXT   0x80u
#define ICR_MDAC  0x200u

#define RCTL_EN 0x0002u
#define TCTL_EN 0x0002u

#define DESC  16u
#define DONE  0x01u   /* DD: written back */
#define JUMBO 16384u  /* no frame is longer */
#define BURST 64u     /* frames at once, from there; and four times as many to there */
#define MTA   128u
#define RA    16u

#define EE_WORDS   64u
#define EE_COMMAND 9u /* bits: start, two that say what, six of the address */

/* Of a ring: registers 0x00 to 0x18 behind its beginning. */
struct ring {
	uint64_t base;
	uint32_t len, head, tail;
};

/* Where checksums begin, go, and end; how long a header is, and what follows it. */
struct context {
	uint8_t ip_start, ip_at, start, at, header, command;
	uint16_t ip_end, end, mss;
};

struct e1000 {
	struct device dev; /* first */
	struct e1000_config config;
	struct pci_function fn;
	struct loop_source source;
	struct loop_timer call;
	bool paused;
	bool full;      /* the cable takes no more now */
	bool starved;   /* a frame waits for buffers */
	bool listening;
	uint16_t eeprom[EE_WORDS];
	uint8_t frame[NET_FRAME_MAX], segment[JUMBO];
	struct net_link link;
	/* the guest's: */
	uint32_t io_at;
	uint32_t ctrl, eecd, eerd, mdic, icr, ims, rctl, tctl, rxcsum;
	uint16_t ee_in, ee_bits, ee_out; /* what the EEPROM has heard, of how many bits; which bit it says */
	uint16_t phy[32];
	struct ring rx, tx;
	struct context context;
	uint32_t gone;
	uint32_t mta[MTA], ra[RA * 2], vfta[MTA];
	uint32_t kept[16]; /* registers without an effect */
	uint32_t received, sent;
};

/* -- Rings -------------------------------------------------------------------------------------- */

static inline uint32_t entries(const struct ring *r)
{
	return r->len / DESC;
}

/* How many descriptors are ours. */
static inline uint32_t ours(const struct ring *r)
{
	uint32_t size = entries(r);

	if (r->head >= size || r->tail >= size)
		return 0;
	return (r->tail + size - r->head) % size;
}

static inline gpa_t entry(const struct ring *r, uint32_t i)
{
	return r->base + (uint64_t)((r->head + i) % entries(r)) * DESC; /* SAFE: only of a ring that has some */
}

static inline void advance(struct ring *r, uint32_t count)
{
	r->head = (r->head + count) % entries(r);
}

/* -- e1000.c ------------------------------------------------------------------------------------ */

void e1000_update_pin(struct e1000 *n);
void e1000_interrupt(struct e1000 *n, uint32_t why);

/* The cable may lead anywhere, or nowhere, since. */
void e1000_update_link(struct e1000 *n);

/* -- e1000_registers.c -------------------------------------------------------------------------- */

extern const struct reg e1000_regs[];

void e1000_fill_eeprom(struct e1000 *n);
void e1000_reset(struct e1000 *n);

/* BARs 0 and 1. */
uint64_t e1000_bar_read(void *ctx, uint64_t at, unsigned width);
void e1000_bar_write(void *ctx, uint64_t at, unsigned width, uint64_t value);
uint64_t e1000_io_read(void *ctx, uint64_t at, unsigned width);
void e1000_io_write(void *ctx, uint64_t at, unsigned width, uint64_t value);

/* -- e1000_send.c, e1000_receive.c --------------------------------------------------------------- */

/* What is in the ring, as far as the cable takes it; and from there, as far as there are buffers. */
void e1000_transmit(struct e1000 *n);
void e1000_receive(struct e1000 *n);

bool e1000_can_receive(const struct e1000 *n);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * What a driver sees of the 82540EM: its EEPROM, its PHY, and its registers, by memory or by ports. See e1000.c.
 */
#include "dev/net/e1000_private.h"

#include "base/bytes.h"
#include "base/macros.h"
#include "base/scoped.h"

#include <string.h>

#define CTRL_RST     (1u << 26)
#define CTRL_PHY_RST (1u << 31)
#define STATUS_FULL  0x01u /* duplex */
#define STATUS_LINK  0x02u
#define STATUS_1000  0x80u

#define EE_CLOCK  0x01u
#define EE_SELECT 0x02u
#define EE_IN     0x04u
#define EE_OUT    0x08u
#define EE_KEPT   0x77u
#define EE_GRANT  0x180u /* granted, and there is one */
#define EE_SUM    0xbabau
#define EE_READ   6u

enum { PHY_CONTROL = 0, PHY_STATUS = 1, PHY_ID = 2, PHY_OWN = 4, PHY_PARTNER = 5, PHY_GIGABIT = 9, PHY_GIGABIT_STATUS = 10, PHY_STATE = 17 };

/* -- EEPROM ---------------------------------------------------------------------------------------- */

void e1000_fill_eeprom(struct e1000 *n)
{
	uint16_t sum = 0;

	for (unsigned i = 0; i < 3; i++)
		n->eeprom[i] = le16_get(n->config.mac + i * 2);
	n->eeprom[0x0a] = 0x408b; /* the next three are its numbers at PCI */
	n->eeprom[0x0b] = 0x1100;
	n->eeprom[0x0c] = 0x1af4;
	n->eeprom[0x0d] = 0x100e;
	n->eeprom[0x0e] = 0x8086;
	for (unsigned i = 0; i < EE_WORDS - 1; i++)
		sum = (uint16_t)(sum + n->eeprom[i]);
	n->eeprom[EE_WORDS - 1] = (uint16_t)(EE_SUM - sum);
}

/* A rising clock: a bit comes, or goes. */
static void clock_eeprom(struct e1000 *n, bool bit)
{
	if (n->ee_bits == EE_COMMAND) {
		n->ee_out = (uint16_t)((n->ee_out + 1) % (EE_WORDS * 16));
		return;
	}
	if (!n->ee_bits && !bit)
		return; /* it waits for a command's start */
	n->ee_in = (uint16_t)(n->ee_in << 1 | bit);
	if (++n->ee_bits == EE_COMMAND) /* the bit before the first one */
		n->ee_out = (uint16_t)(((n->ee_in & 0x3f) * 16 + EE_WORDS * 16 - 1) % (EE_WORDS * 16));
}

static uint64_t read_eecd(void *dev, unsigned at)
{
	const struct e1000 *n = dev;
	bool out = true;

	(void)at;
	if (n->ee_bits == EE_COMMAND && n->ee_in >> 6 == EE_READ)
		out = n->eeprom[n->ee_out / 16 % EE_WORDS] >> (15 - n->ee_out % 16) & 1;
	return n->eecd | EE_GRANT | (out ? EE_OUT : 0);
}

static void write_eecd(void *dev, unsigned at, uint64_t value)
{
	struct e1000 *n = dev;
	uint32_t before = n->eecd;

	(void)at;
	n->eecd = (uint32_t)value & EE_KEPT;
	if (!(n->eecd & EE_SELECT))
		n->ee_in = n->ee_bits = 0;
	else if (n->eecd & ~before & EE_CLOCK)
		clock_eeprom(n, n->eecd & EE_IN);
}

static void write_eerd(void *dev, unsigned at, uint64_t value)
{
	struct e1000 *n = dev;

	(void)at;
	n->eerd = (uint32_t)value & 0xff00;
	if (value & 1)
		n->eerd |= 0x10u | (uint32_t)n->eeprom[value >> 8 & (EE_WORDS - 1)] << 16;
}

/* -- PHY ------------------------------------------------------------------------------------------- */

/* Of a link of 1000 Mb/s, or of none. */
static uint16_t read_phy(struct e1000 *n, unsigned reg)
{
	switch (reg) {
	case PHY_STATUS:
		net_link_seen(&n->link);
		return n->link.up ? 0x796d : 0x7949;
	case PHY_PARTNER:
		return n->link.up ? 0x45e1 : 0;
	case PHY_GIGABIT_STATUS:
		return n->link.up ? 0x3c00 : 0;
	case PHY_STATE:
		return n->link.up ? 0xac08 : 0x8000;
	default:
		return n->phy[reg];
	}
}

static bool may_write_phy(unsigned reg)
{
	return reg == PHY_OWN || reg == PHY_GIGABIT || (reg > PHY_STATE && reg != 28);
}

static void write_phy(struct e1000 *n, unsigned reg, uint16_t value)
{
	if (reg == PHY_CONTROL)
		n->phy[reg] = value & 0x3d40; /* resets and negotiations are over at once */
	else if (may_write_phy(reg))
		n->phy[reg] = value;
	if (reg == PHY_CONTROL && value & 0x200 && n->link.up)
		e1000_interrupt(n, ICR_LSC);
}

static void write_mdic(void *dev, unsigned at, uint64_t value)
{
	struct e1000 *n = dev;
	unsigned reg = value >> 16 & 31, op = value >> 26 & 3;

	(void)at;
	n->mdic = (uint32_t)value & 0x23ffffff;
	if ((value >> 21 & 31) != 1)
		n->mdic |= 1u << 30; /* there is one PHY */
	else if (op == 1)
		write_phy(n, reg, (uint16_t)value);
	else if (op == 2)
		n->mdic = (n->mdic & 0xffff0000) | read_phy(n, reg);
	n->mdic |= 1u << 28 | (uint32_t)op << 26;
	if (value >> 29 & 1)
		e1000_interrupt(n, ICR_MDAC);
}

static void reset_phy(struct e1000 *n)
{
	memset(n->phy, 0, sizeof(n->phy));
	n->phy[PHY_CONTROL] = 0x1140;
	n->phy[PHY_ID] = 0x0141;
	n->phy[PHY_ID + 1] = 0x0c20;
	n->phy[PHY_OWN] = 0x0de1;
	n->phy[6] = 0x1;
	n->phy[PHY_GIGABIT] = 0x0e00;
	n->phy[15] = 0x3000;
	n->phy[16] = 0x0360;
	n->phy[20] = 0x0d60;
}

/* -- Registers ------------------------------------------------------------------------------------------ */

static uint64_t read_ctrl(void *dev, unsigned at)
{
	(void)at;
	return ((struct e1000 *)dev)->ctrl;
}

static void write_ctrl(void *dev, unsigned at, uint64_t value)
{
	struct e1000 *n = dev;

	(void)at;
	if (value & CTRL_RST) {
		e1000_reset(n);
		return;
	}
	if (value & CTRL_PHY_RST)
		reset_phy(n);
	n->ctrl = (uint32_t)value & ~(CTRL_RST | CTRL_PHY_RST);
}

static uint64_t read_status(void *dev, unsigned at)
{
	(void)at;
	return STATUS_FULL | STATUS_1000 | (((struct e1000 *)dev)->link.up ? STATUS_LINK : 0);
}

static uint64_t read_icr(void *dev, unsigned at)
{
	struct e1000 *n = dev;
	uint32_t value = n->icr;

	(void)at;
	n->icr = 0;
	e1000_update_pin(n);
	return value;
}

static void write_icr(void *dev, unsigned at, uint64_t value)
{
	struct e1000 *n = dev;

	(void)at;
	n->icr &= (uint32_t)~value;
	e1000_update_pin(n);
}

static void write_ics(void *dev, unsigned at, uint64_t value)
{
	(void)at;
	e1000_interrupt(dev, (uint32_t)value);
}

static uint64_t read_ims(void *dev, unsigned at)
{
	(void)at;
	return ((struct e1000 *)dev)->ims;
}

static void write_ims(void *dev, unsigned at, uint64_t value)
{
	struct e1000 *n = dev;

	(void)at;
	n->ims |= (uint32_t)value;
	e1000_update_pin(n);
}

static void write_imc(void *dev, unsigned at, uint64_t value)
{
	struct e1000 *n = dev;

	(void)at;
	n->ims &= (uint32_t)~value;
	e1000_update_pin(n);
}

/* There are buffers, or the receiver is on. */
static void look_for_frames(struct e1000 *n)
{
	if (n->starved || !n->listening)
		loop_call(&n->call);
	n->starved = false;
}

static void write_rctl(void *dev, unsigned at, uint64_t value)
{
	struct e1000 *n = dev;

	(void)at;
	n->rctl = (uint32_t)value;
	look_for_frames(n);
}

static void write_tctl(void *dev, unsigned at, uint64_t value)
{
	struct e1000 *n = dev;

	(void)at;
	n->tctl = (uint32_t)value;
	e1000_transmit(n);
}

static struct ring *ring_of(struct e1000 *n, unsigned at)
{
	return at < 0x3800 ? &n->rx : &n->tx;
}

static uint64_t read_ring(void *dev, unsigned at)
{
	const struct ring *r = ring_of(dev, at);

	switch (at & 0x7ff) {
	case 0x00:
		return (uint32_t)r->base;
	case 0x04:
		return (uint32_t)(r->base >> 32);
	case 0x08:
		return r->len;
	case 0x10:
		return r->head;
	case 0x18:
		return r->tail;
	default:
		return 0;
	}
}

static void write_ring(void *dev, unsigned at, uint64_t value)
{
	struct e1000 *n = dev;
	struct ring *r = ring_of(n, at);

	switch (at & 0x7ff) {
	case 0x00:
		r->base = (r->base & ~UINT64_C(0xffffffff)) | (value & 0xfffffff0);
		break;
	case 0x04:
		r->base = (uint32_t)r->base | value << 32;
		break;
	case 0x08:
		r->len = (uint32_t)value & 0xfff80;
		break;
	case 0x10:
		r->head = (uint32_t)value & 0xffff;
		n->gone = 0;
		break;
	case 0x18:
		r->tail = (uint32_t)value & 0xffff;
		if (r == &n->tx)
			e1000_transmit(n);
		else
			look_for_frames(n);
		break;
	default:
		break;
	}
}

/* Tables of 32 bits. */
static uint32_t *table_at(struct e1000 *n, unsigned at)
{
	if (at >= 0x5600)
		return &n->vfta[(at - 0x5600) / 4 % MTA];
	if (at >= 0x5400)
		return &n->ra[(at - 0x5400) / 4 % (RA * 2)];
	return &n->mta[(at - 0x5200) / 4 % MTA];
}

static uint64_t read_table(void *dev, unsigned at)
{
	return *table_at(dev, at);
}

static void write_table(void *dev, unsigned at, uint64_t value)
{
	*table_at(dev, at) = (uint32_t)value;
}

/* Registers that are kept, and mean nothing here. */
static const uint16_t kept[] = {0x0018, 0x0028, 0x002c, 0x0030, 0x0038, 0x00c4, 0x0170, 0x0410, 0x0458, 0x0e00, 0x1000, 0x2820, 0x282c, 0x3820,
				0x382c, 0x5820};

_Static_assert(ARRAY_SIZE(kept) == ARRAY_SIZE(((struct e1000 *)NULL)->kept), "a place for each");

static uint32_t *kept_at(struct e1000 *n, unsigned at)
{
	unsigned i = 0;

	while (i < ARRAY_SIZE(kept) - 1 && kept[i] != at)
		i++;
	return &n->kept[i];
}

static uint64_t read_kept(void *dev, unsigned at)
{
	return *kept_at(dev, at);
}

static void write_kept(void *dev, unsigned at, uint64_t value)
{
	*kept_at(dev, at) = (uint32_t)value;
}

static uint64_t read_eerd(void *dev, unsigned at)
{
	(void)at;
	return ((struct e1000 *)dev)->eerd;
}

static uint64_t read_mdic(void *dev, unsigned at)
{
	(void)at;
	return ((struct e1000 *)dev)->mdic;
}

static uint64_t read_rctl(void *dev, unsigned at)
{
	(void)at;
	return ((struct e1000 *)dev)->rctl;
}

static uint64_t read_tctl(void *dev, unsigned at)
{
	(void)at;
	return ((struct e1000 *)dev)->tctl;
}

static uint64_t read_rxcsum(void *dev, unsigned at)
{
	(void)at;
	return ((struct e1000 *)dev)->rxcsum;
}

static void write_rxcsum(void *dev, unsigned at, uint64_t value)
{
	(void)at;
	((struct e1000 *)dev)->rxcsum = (uint32_t)value;
}

/* A count is forgotten when it is read; all but two are 0. */
static uint64_t read_statistics(void *dev, unsigned at)
{
	struct e1000 *n = dev;
	uint32_t *count = at == 0x4074 || at == 0x40d0 ? &n->received : at == 0x4080 || at == 0x40d4 ? &n->sent : NULL, value;

	if (!count)
		return 0;
	value = *count;
	*count = 0;
	return value;
}

static uint64_t read_nothing(void *dev, unsigned at)
{
	(void)dev, (void)at;
	return 0;
}

#define KEPT(a, n) {.at = (a), .width = 4, .name = (n), .read = read_kept, .write = write_kept}

const struct reg e1000_regs[] = {
	{.at = 0x0000, .width = 4, .name = "CTRL", .read = read_ctrl, .write = write_ctrl},
	{.at = 0x0008, .width = 4, .name = "STATUS", .read = read_status},
	{.at = 0x0010, .width = 4, .name = "EECD", .read = read_eecd, .write = write_eecd},
	{.at = 0x0014, .width = 4, .name = "EERD", .read = read_eerd, .write = write_eerd},
	KEPT(0x0018, "CTRL_EXT"),
	{.at = 0x0020, .width = 4, .name = "MDIC", .read = read_mdic, .write = write_mdic},
	KEPT(0x0028, "FCAL"),
	KEPT(0x002c, "FCAH"),
	KEPT(0x0030, "FCT"),
	KEPT(0x0038, "VET"),
	{.at = 0x00c0, .width = 4, .name = "ICR", .read = read_icr, .write = write_icr},
	KEPT(0x00c4, "ITR"),
	{.at = 0x00c8, .width = 4, .name = "ICS", .read = read_nothing, .write = write_ics},
	{.at = 0x00d0, .width = 4, .name = "IMS", .read = read_ims, .write = write_ims},
	{.at = 0x00d8, .width = 4, .name = "IMC", .read = read_nothing, .write = write_imc},
	{.at = 0x0100, .width = 4, .name = "RCTL", .read = read_rctl, .write = write_rctl},
	KEPT(0x0170, "FCTTV"),
	{.at = 0x0400, .width = 4, .name = "TCTL", .read = read_tctl, .write = write_tctl},
	KEPT(0x0410, "TIPG"),
	KEPT(0x0458, "AIFS"),
	KEPT(0x0e00, "LEDCTL"),
	KEPT(0x1000, "PBA"),
	{.at = 0x2800, .width = 4, .count = 8, .name = "RDBAL to RDT", .read = read_ring, .write = write_ring},
	KEPT(0x2820, "RDTR"),
	KEPT(0x282c, "RADV"),
	{.at = 0x3800, .width = 4, .count = 8, .name = "TDBAL to TDT", .read = read_ring, .write = write_ring},
	KEPT(0x3820, "TIDV"),
	KEPT(0x382c, "TADV"),
	{.at = 0x4000, .width = 4, .count = 64, .name = "statistics", .read = read_statistics},
	{.at = 0x5000, .width = 4, .name = "RXCSUM", .read = read_rxcsum, .write = write_rxcsum},
	{.at = 0x5200, .width = 4, .count = MTA, .name = "MTA", .read = read_table, .write = write_table},
	{.at = 0x5400, .width = 4, .count = RA * 2, .name = "RAL, RAH", .read = read_table, .write = write_table},
	{.at = 0x5600, .width = 4, .count = MTA, .name = "VFTA", .read = read_table, .write = write_table},
	KEPT(0x5820, "MANC"),
	{0},
};

/* What is not there reads as 0, not as all ones. */
static bool is_register(uint64_t at)
{
	for (const struct reg *r = e1000_regs; r->name; r++)
		if (at >= r->at && at < r->at + r->width * (r->count ? r->count : 1u))
			return true;
	return false;
}

uint64_t e1000_bar_read(void *ctx, uint64_t at, unsigned width)
{
	struct e1000 *n = ctx;

	scoped_lock(&n->dev.lock);
	return at <= UINT16_MAX && is_register(at) ? regs_read(e1000_regs, n, at, width) : 0;
}

void e1000_bar_write(void *ctx, uint64_t at, unsigned width, uint64_t value)
{
	struct e1000 *n = ctx;

	scoped_lock(&n->dev.lock);
	if (at <= UINT16_MAX && is_register(at))
		regs_write(e1000_regs, n, at, width, value);
}

/* The same by ports: an address, and what is there. */
uint64_t e1000_io_read(void *ctx, uint64_t at, unsigned width)
{
	struct e1000 *n = ctx;

	scoped_lock(&n->dev.lock);
	if (width != 4)
		return 0;
	if (at == 0)
		return n->io_at;
	return at == 4 && n->io_at <= UINT16_MAX && is_register(n->io_at) ? regs_read(e1000_regs, n, n->io_at & ~3u, 4) : 0;
}

void e1000_io_write(void *ctx, uint64_t at, unsigned width, uint64_t value)
{
	struct e1000 *n = ctx;

	scoped_lock(&n->dev.lock);
	if (width == 4 && at == 0)
		n->io_at = (uint32_t)value;
	else if (width == 4 && at == 4 && n->io_at <= UINT16_MAX && is_register(n->io_at))
		regs_write(e1000_regs, n, n->io_at & ~3u, 4, value);
}

/* -- A reset ----------------------------------------------------------------------------------------- */

void e1000_reset(struct e1000 *n)
{
	n->ctrl = 0x00000a09;
	n->eecd = n->eerd = n->mdic = n->icr = n->ims = n->rctl = n->tctl = n->rxcsum = 0;
	n->ee_in = n->ee_bits = n->ee_out = 0;
	n->rx = n->tx = (struct ring){.base = 0};
	n->context = (struct context){.mss = 0};
	n->gone = n->received = n->sent = n->io_at = 0;
	n->full = n->starved = false;
	memset(n->mta, 0, sizeof(n->mta));
	memset(n->vfta, 0, sizeof(n->vfta));
	memset(n->kept, 0, sizeof(n->kept));
	memset(n->ra, 0, sizeof(n->ra));
	n->ra[0] = le32_get(n->config.mac);
	n->ra[1] = 1u << 31 | le16_get(n->config.mac + 4);
	*kept_at(n, 0x1000) = 0x00100030;
	reset_phy(n);
	e1000_update_pin(n);
}

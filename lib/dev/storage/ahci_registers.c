/* SPDX-License-Identifier: MIT */
/* The registers of a SATA controller: its own, and each port's. See ahci.c. */
#include "dev/storage/ahci_private.h"

#include "base/scoped.h"

#define PORT_AT   0x100u
#define PORT_SIZE 0x80u

/* CAP: 64 bits of address, NCQ, CLO, 3 Gb/s, AHCI only, 32 slots. */
#define CAP_VALUE (1u << 31 | 1u << 30 | 1u << 24 | 2u << 20 | 1u << 18 | (SLOTS - 1) << 8 | (AHCI_PORTS - 1))
#define VERSION   0x00010301u

/* -- Registers of the controller ------------------------------------------------------------------ */

static uint64_t read_cap(void *dev, unsigned at)
{
	(void)dev, (void)at;
	return CAP_VALUE;
}

static uint64_t read_ghc(void *dev, unsigned at)
{
	struct ahci *a = dev;

	(void)at;
	return a->ghc | (a->resetting ? GHC_RESET : 0);
}

static void write_ghc(void *dev, unsigned at, uint64_t value)
{
	struct ahci *a = dev;

	(void)at;
	if (a->resetting)
		return;
	if (value & GHC_RESET) {
		ahci_start_reset(a);
		return;
	}
	a->ghc = GHC_ENABLE | ((uint32_t)value & GHC_IRQ);
	ahci_update_irq(a, true);
}

static uint64_t read_is(void *dev, unsigned at)
{
	(void)at;
	return ((struct ahci *)dev)->is;
}

static void write_is(void *dev, unsigned at, uint64_t value)
{
	struct ahci *a = dev;

	(void)at;
	a->is &= (uint32_t)~value;
	ahci_update_irq(a, true);
}

/* Ports without a drive are not there. */
static uint64_t read_ports(void *dev, unsigned at)
{
	struct ahci *a = dev;
	uint32_t ports = 0;

	(void)at;
	for (unsigned i = 0; i < AHCI_PORTS; i++)
		ports |= (uint32_t)a->ports[i].plugged << i;
	return ports;
}

static uint64_t read_version(void *dev, unsigned at)
{
	(void)dev, (void)at;
	return VERSION;
}

static uint64_t read_nothing(void *dev, unsigned at)
{
	(void)dev, (void)at;
	return 0;
}

/* -- Registers of a port ----------------------------------------------------------------------------- */

/* Those that are fields as they are. */
static uint32_t *plain(struct port *p, unsigned at)
{
	switch (at) {
	case 0x114:
		return &p->ie;
	case 0x120:
		return &p->tfd;
	case 0x124:
		return &p->sig;
	case 0x128:
		return &p->ssts;
	case 0x12c:
		return &p->sctl;
	case 0x130:
		return &p->serr;
	case 0x134:
		return &p->sact;
	default:
		return &p->ci;
	}
}

static uint64_t read_plain(void *dev, unsigned at)
{
	return *plain(((struct ahci *)dev)->at, at);
}

static uint64_t *address(struct port *p, unsigned at)
{
	return at < 0x108 ? &p->clb : &p->fb;
}

static uint64_t read_address(void *dev, unsigned at)
{
	return (uint32_t)(*address(((struct ahci *)dev)->at, at) >> (at % 8 * 8));
}

static void write_address(void *dev, unsigned at, uint64_t value)
{
	uint64_t *addr = address(((struct ahci *)dev)->at, at);
	unsigned shift = at % 8 * 8;

	*addr = (*addr & ~(UINT64_C(0xffffffff) << shift)) | value << shift;
	*addr &= at < 0x108 ? ~UINT64_C(0x3ff) : ~UINT64_C(0xff);
}

static uint64_t read_port_is(void *dev, unsigned at)
{
	(void)at;
	return port_is(((struct ahci *)dev)->at);
}

static void write_port_is(void *dev, unsigned at, uint64_t value)
{
	struct ahci *a = dev;

	(void)at;
	a->at->is &= (uint32_t)~value;
	ahci_update_irq(a, false);
}

static void write_port_ie(void *dev, unsigned at, uint64_t value)
{
	struct ahci *a = dev;

	(void)at;
	a->at->ie = (uint32_t)value & IE_KEPT;
	ahci_update_irq(a, false);
}

static uint64_t read_cmd(void *dev, unsigned at)
{
	struct port *p = ((struct ahci *)dev)->at;

	(void)at;
	return p->cmd | (p->cmd & CMD_FRE ? CMD_FR : 0) | (p->cmd & CMD_START || p->stopping ? CMD_CR : 0);
}

static void write_cmd(void *dev, unsigned at, uint64_t value)
{
	struct ahci *a = dev;
	struct port *p = a->at;
	uint32_t before = p->cmd;

	(void)at;
	if (a->resetting)
		return;
	p->cmd = ((uint32_t)value & CMD_KEPT) | CMD_SPIN;
	if (value & CMD_CLO)
		p->tfd &= ~(uint32_t)(ATA_BUSY | ATA_DRQ);
	if (before & CMD_START && !(p->cmd & CMD_START))
		ahci_stop(p);
	ahci_run(p);
	ahci_update_irq(a, false);
}

/* DET: 1 holds the link in its reset, and 0 lets it come. */
static void write_sctl(void *dev, unsigned at, uint64_t value)
{
	struct ahci *a = dev;
	struct port *p = a->at;
	uint32_t before = p->sctl & 0xf;

	(void)at;
	if (a->resetting)
		return;
	p->sctl = (uint32_t)value & 0xfff;
	if ((value & 0xf) == 1) {
		ahci_stop(p);
		p->ssts = 0;
		p->tfd = 0x7f;
	} else if (before == 1 && (value & 0xf) == 0) {
		p->coming = true;
		ahci_stop(p); /* SAFE: the driver may have started it while the link was held, and a request be under way */
	}
	ahci_update_irq(a, false);
}

static void write_serr(void *dev, unsigned at, uint64_t value)
{
	struct ahci *a = dev;

	(void)at;
	a->at->serr &= (uint32_t)~value;
	ahci_update_irq(a, false);
}

static void write_sact(void *dev, unsigned at, uint64_t value)
{
	struct port *p = ((struct ahci *)dev)->at;

	(void)at;
	if (p->cmd & CMD_START && !p->stopping)
		p->sact |= (uint32_t)value;
}

static void write_ci(void *dev, unsigned at, uint64_t value)
{
	struct ahci *a = dev;
	struct port *p = a->at;

	(void)at;
	if (!(p->cmd & CMD_START) || p->stopping)
		return;
	p->ci |= (uint32_t)value & ~p->begun; /* SAFE: a slot whose request is under way is not begun again */
	ahci_run(p);
	ahci_update_irq(a, false);
}

const struct reg ahci_regs[] = {
	{.at = 0x00, .width = 4, .name = "CAP", .read = read_cap},
	{.at = 0x04, .width = 4, .name = "GHC", .read = read_ghc, .write = write_ghc},
	{.at = 0x08, .width = 4, .name = "IS", .read = read_is, .write = write_is},
	{.at = 0x0c, .width = 4, .name = "PI", .read = read_ports},
	{.at = 0x10, .width = 4, .name = "VS", .read = read_version},
	{.at = 0x14, .width = 4, .count = 6, .name = "CCC_CTL to BOHC", .read = read_nothing},
	{.at = 0x100, .width = 4, .count = 2, .name = "P0CLB; port n's are 0x80 * n behind", .read = read_address, .write = write_address},
	{.at = 0x108, .width = 4, .count = 2, .name = "P0FB", .read = read_address, .write = write_address},
	{.at = 0x110, .width = 4, .name = "P0IS", .read = read_port_is, .write = write_port_is},
	{.at = 0x114, .width = 4, .name = "P0IE", .read = read_plain, .write = write_port_ie},
	{.at = 0x118, .width = 4, .name = "P0CMD", .read = read_cmd, .write = write_cmd},
	{.at = 0x11c, .width = 4, .name = "reserved", .read = read_nothing},
	{.at = 0x120, .width = 4, .name = "P0TFD", .read = read_plain},
	{.at = 0x124, .width = 4, .name = "P0SIG", .read = read_plain},
	{.at = 0x128, .width = 4, .name = "P0SSTS", .read = read_plain},
	{.at = 0x12c, .width = 4, .name = "P0SCTL", .read = read_plain, .write = write_sctl},
	{.at = 0x130, .width = 4, .name = "P0SERR", .read = read_plain, .write = write_serr},
	{.at = 0x134, .width = 4, .name = "P0SACT", .read = read_plain, .write = write_sact},
	{.at = 0x138, .width = 4, .name = "P0CI", .read = read_plain, .write = write_ci},
	{.at = 0x13c, .width = 4, .count = 17, .name = "P0SNTF and what is behind", .read = read_nothing},
	{0},
};

/* A port's registers are those of port 0 in the table, into which an access that begins before them may reach. False: there is nothing. */
static bool find_port(struct ahci *a, uint64_t *at)
{
	unsigned n = *at < PORT_AT ? 0 : (unsigned)(*at - PORT_AT) / PORT_SIZE;

	a->at = &a->ports[0];
	if (*at < PORT_AT)
		return true;
	if (n >= AHCI_PORTS)
		return false;
	a->at = &a->ports[n];
	*at = PORT_AT + (*at - PORT_AT) % PORT_SIZE;
	return true;
}

uint64_t ahci_bar_read(void *ctx, uint64_t at, unsigned width)
{
	struct ahci *a = ctx;

	scoped_lock(&a->dev.lock);
	return find_port(a, &at) ? regs_read(ahci_regs, a, at, width) : 0;
}

void ahci_bar_write(void *ctx, uint64_t at, unsigned width, uint64_t value)
{
	struct ahci *a = ctx;

	scoped_lock(&a->dev.lock);
	if (find_port(a, &at))
		regs_write(ahci_regs, a, at, width, value);
}

/* MSI may have been switched on or off. The host's lock is held, and ours is taken inside it. */
void ahci_config_written(void *ctx, unsigned at, unsigned width)
{
	struct ahci *a = ctx;

	(void)at, (void)width;
	scoped_lock(&a->dev.lock);
	ahci_drive_pin(a);
}

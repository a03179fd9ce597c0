/* SPDX-License-Identifier: MIT */
/*
 * Intel's 82540EM, a network card for systems that know no virtio.
 *
 *	+0000 control, status   +0010 EEPROM (bits, or a word: EERD)   +0020 PHY (MDIC)   +00c0 interrupts
 *	+0100 receiver          +2800 its ring of descriptors          +5200 which addresses it takes
 *	+0400 transmitter       +3800 its ring                         +4000 statistics
 *
 * A ring is in guest memory, 16 bytes a descriptor: an address, and what it is about. Those from head to tail are ours; we write back that one is done
 * (DD), move the head, and set a bit of ICR, which is an interrupt if IMS has it, too.
 *
 *	a frame to the cable: descriptors up to one with EOP, copied together; a context before them says where checksums go, and that what
 *	comes is longer than a frame and is to be cut (TSE)
 *	a frame from there: as many buffers as it needs
 *
 * A frame is read from its first descriptor to its last in one go, and the head moves when the cable has taken it; what it does not take is read again
 * later. So there is no half a frame to be kept, but how much of a long one has gone (`gone`).
 *
 * As with virtio (dev/virtio/net.c) the vCPU's thread sends, and the loop's receives; who has no buffers has its frames wait in the port; and a guest
 * that goes on elsewhere finds its cable pulled for a second.
 *
 * Left out: VLAN filters and the taking off of tags, interrupt moderation and its timers, flow control, wake-up, jumbo frames of
 * more than 16 KiB, statistics but for a few, writing the EEPROM.
 *
 * Here are its interrupts, its cable and its life; what a driver sees is e1000_registers.c.
 */
#include "dev/net/e1000_private.h"

#include "base/err.h"
#include "base/scoped.h"
#include "state/state.h"

#include <errno.h>

#define BAR_SIZE 0x20000u
#define IO_SIZE  0x40u
#define PATIENCE 9u /* seconds: a driver looks each other one, and may have a slow host */

/* -- Interrupts ------------------------------------------------------------------------------- */

void e1000_update_pin(struct e1000 *n)
{
	pci_intx_set(&n->fn, n->icr & n->ims);
}

void e1000_interrupt(struct e1000 *n, uint32_t why)
{
	n->icr |= why;
	e1000_update_pin(n);
}

/* -- The link ----------------------------------------------------------------------------------- */

void e1000_update_link(struct e1000 *n)
{
	if (net_link_changed(&n->link))
		e1000_interrupt(n, ICR_LSC);
}

void e1000_plug(struct device *dev, bool in)
{
	struct e1000 *n = (struct e1000 *)dev;

	scoped_lock(&dev->lock);
	n->link.unplugged = !in;
	e1000_update_link(n);
	loop_call(&n->call);
}

bool e1000_link(struct device *dev)
{
	scoped_lock(&dev->lock);
	return ((struct e1000 *)dev)->link.up;
}

static void plug_in(void *ctx)
{
	struct e1000 *n = ctx;

	scoped_lock(&n->dev.lock);
	net_link_wait_over(&n->link);
	e1000_update_link(n);
}

/* -- The loop --------------------------------------------------------------------------------------- */

static uint64_t prepare(void *ctx, struct pollfd *p)
{
	struct e1000 *n = ctx;
	struct net_port *port = n->config.port;

	scoped_lock(&n->dev.lock);
	if (n->paused)
		return LOOP_NEVER;
	n->listening = e1000_can_receive(n) && !n->starved;
	port->type->wants(port, n->listening, n->full, p);
	return LOOP_NEVER;
}

static void serve(void *ctx, const struct pollfd *p)
{
	struct e1000 *n = ctx;
	struct net_port *port = n->config.port;

	scoped_lock(&n->dev.lock);
	if (n->paused)
		return;
	port->type->serve(port, p->revents);
	e1000_receive(n);
	if (p->revents & POLLOUT || !port->up) {
		n->full = false;
		e1000_transmit(n);
	}
	e1000_update_link(n);
}

/* prepare() is asked again afterwards. */
static void look_again(void *ctx)
{
	struct e1000 *n = ctx;

	scoped_lock(&n->dev.lock);
	if (n->config.port)
		e1000_receive(n);
	e1000_transmit(n);
}

/* -- The model -------------------------------------------------------------------------------------------- */

static int init(struct device *dev, const void *config, struct err *err)
{
	struct e1000 *n = (struct e1000 *)dev;
	int rc;

	n->config = *(const struct e1000_config *)config;
	net_link_init(&n->link, n->config.port, n->config.loop, plug_in, n);
	e1000_fill_eeprom(n);
	n->fn = (struct pci_function){
		.name = "e1000", .vendor = 0x8086, .device = 0x100e, .revision = 2, .class_code = 0x020000,
		.sub_vendor = 0x1af4, .sub_device = 0x1100, .pin = 1, .owner = &n->dev, .ctx = n, .rom = n->config.rom,
		.bars[0] = {.size = BAR_SIZE, .read = e1000_bar_read, .write = e1000_bar_write},
		.bars[1] = {.size = IO_SIZE, .io = true, .read = e1000_io_read, .write = e1000_io_write},
	};
	rc = pci_add(n->config.host, &n->fn, PCI_DEVFN(n->config.slot, 0), err);
	if (rc < 0 || !n->config.loop)
		return rc;
	loop_timer_init(&n->call, n->config.loop, look_again, n);
	n->source = (struct loop_source){prepare, serve, n};
	if (n->config.port && loop_add(n->config.loop, &n->source) < 0)
		return err_set(err, ENOMEM, "out of memory");
	return 0;
}

static void reset(struct device *dev)
{
	struct e1000 *n = (struct e1000 *)dev;

	e1000_reset(n);
}

static void fini(struct device *dev)
{
	struct e1000 *n = (struct e1000 *)dev;

	if (n->config.loop)
		loop_remove(n->config.loop, &n->source);
	loop_timer_fini(&n->call);
	net_link_fini(&n->link);
	pci_remove(&n->fn);
}

static void pause_card(struct device *dev)
{
	struct e1000 *n = (struct e1000 *)dev;

	n->paused = true;
	net_link_pause(&n->link);
}

static void resume(struct device *dev)
{
	struct e1000 *n = (struct e1000 *)dev;

	n->paused = false;
	net_link_resume(&n->link);
	e1000_update_link(n);
	e1000_transmit(n);
	loop_call(&n->call);
}

static void saving(struct device *dev)
{
	pci_function_saving(&((struct e1000 *)dev)->fn);
}

static int loaded(struct device *dev, uint64_t away, struct err *err)
{
	struct e1000 *n = (struct e1000 *)dev;

	(void)away;
	if (n->rx.len & ~0xfff80u || n->tx.len & ~0xfff80u)
		return err_set(err, EINVAL, "rings of %u and %u bytes: they are multiples of 128", n->rx.len, n->tx.len);
	net_link_moved(&n->link, PATIENCE);
	pci_function_loaded(&n->fn);
	return 0;
}

static const struct state_field ring_fields[] = {
	STATE(struct ring, base), STATE_UPTO(struct ring, len, 0xfff80), STATE_UPTO(struct ring, head, 0xffff), STATE_UPTO(struct ring, tail, 0xffff), {0},
};

static const struct state_field context_fields[] = {
	STATE(struct context, ip_start), STATE(struct context, ip_at), STATE(struct context, start), STATE(struct context, at),
	STATE(struct context, header), STATE(struct context, command), STATE(struct context, ip_end), STATE(struct context, end),
	STATE(struct context, mss), {0},
};

static const struct state_field fields[] = {
	PCI_FUNCTION_STATE(struct e1000, fn),
	STATE(struct e1000, io_at),
	STATE(struct e1000, ctrl),
	STATE(struct e1000, eecd),
	STATE(struct e1000, eerd),
	STATE(struct e1000, mdic),
	STATE(struct e1000, icr),
	STATE(struct e1000, ims),
	STATE(struct e1000, rctl),
	STATE(struct e1000, tctl),
	STATE(struct e1000, rxcsum),
	STATE(struct e1000, ee_in),
	STATE_UPTO(struct e1000, ee_bits, EE_COMMAND),
	STATE_UPTO(struct e1000, ee_out, EE_WORDS * 16 - 1),
	STATE_ARRAY(struct e1000, phy),
	STATE_PART(struct e1000, rx, ring_fields),
	STATE_PART(struct e1000, tx, ring_fields),
	STATE_PART(struct e1000, context, context_fields),
	STATE_UPTO(struct e1000, gone, NET_FRAME_MAX),
	STATE_ARRAY(struct e1000, mta),
	STATE_ARRAY(struct e1000, ra),
	STATE_ARRAY(struct e1000, vfta),
	STATE_ARRAY(struct e1000, kept),
	STATE(struct e1000, received),
	STATE(struct e1000, sent),
	{0},
};

static const struct state_table table = {.name = "e1000", .version = 1, .fields = fields};
static const struct state_table *const state[] = {&table, NULL};

const struct device_model e1000_model = {
	.name = "e1000",
	.summary = "network card that most systems know (Intel 82540EM)",
	.option = "--net WHERE,model=e1000",
	.size = sizeof(struct e1000),
	.bar = e1000_regs,
	.state = state,
	.init = init,
	.reset = reset,
	.fini = fini,
	.pause = pause_card,
	.resume = resume,
	.saving = saving,
	.loaded = loaded,
};

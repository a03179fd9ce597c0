/* SPDX-License-Identifier: MIT */
/*
 * A USB controller after the eXtensible Host Controller Interface 1.2: registers, ports, and the PCI function.
 *
 *	BAR 0  0x0000  what it can do; the list of its ports' protocols at 0x20
 *	       0x0040  operational registers
 *	       0x0440  ports 1 to 8 of USB 2, then 8 of USB 3, at which nothing ever is: drivers want both kinds
 *	       0x1000  runtime registers: one interrupter
 *	       0x2000  doorbells
 *
 * Devices are plugged in before the machine runs, at ports of USB 2. A doorbell is served on the vCPU's thread that rings it. What a
 * device has to say later (a key, sectors of a disk) comes by wake(), with the controller's lock, and runs its port's endpoints again. What
 * is too long to be done at once goes on in the loop's thread.
 *
 * Left out: streams, isochronous transfers, several interrupters and segments of event rings, hubs, power management of ports, scratchpads.
 */
#include "dev/usb/xhci.h"

#include "base/err.h"
#include "base/scoped.h"
#include "dev/pci/msi.h"
#include "dev/usb/devices.h"
#include "dev/usb/xhci_private.h"

#include <errno.h>
#include <string.h>

#define BAR_SIZE 0x4000u
#define OPER     0x40u
#define PORTS_AT 0x440u
#define RUNTIME  0x1000u
#define DOORBELL 0x2000u
#define CAPS_AT  0x20u /* of protocols, four dwords each */
#define ALL_PORTS (2 * XHCI_PORTS)

#define CMD_RUN    0x01u
#define CMD_RESET  0x02u
#define CMD_INTE   0x04u
#define CMD_BITS   0x0du
#define STS_HALTED 0x01u
#define STS_EVENT  0x08u
#define STS_PORT   0x10u
#define STS_CLEAR  0x41cu /* bits that go when 1 is written */
#define CRCR_STOPS 0x06u
#define CRCR_RUNS  0x08u
#define IMAN_IP    0x01u
#define IMAN_IE    0x02u
#define ERDP_BUSY  0x08u

#define PORT_CONNECTED 0x00000001u
#define PORT_ENABLED   0x00000002u
#define PORT_RESET     0x00000010u
#define PORT_LINK(s)   ((uint32_t)(s) << 5)
#define PORT_LINK_ALL  PORT_LINK(15)
#define PORT_POWER     0x00000200u
#define PORT_SPEED(s)  ((uint32_t)(s) << 10)
#define PORT_CONNECT_C 0x00020000u /* has changed; */
#define PORT_RESET_C   0x00200000u
#define PORT_CHANGES   0x00fe0000u
#define PORT_KEPT      0x0e00c000u /* what is written is read: indicators, what wakes */
enum { LINK_ON = 0, LINK_DISABLED = 4, LINK_DETECT = 5, LINK_POLLING = 7 };

/* -- Interrupts ---------------------------------------------------------------------------- */

static void drive_pin(struct xhci *x)
{
	bool wants = x->iman & IMAN_IP && x->iman & IMAN_IE && x->cmd & CMD_INTE;

	pci_intx_set(&x->fn, wants && !msi_enabled(&x->fn, x->msi));
}

void xhci_interrupt(struct xhci *x)
{
	if (x->iman & IMAN_IE && x->cmd & CMD_INTE)
		msi_notify(&x->fn, x->msi);
	drive_pin(x);
}

/* -- Ports ---------------------------------------------------------------------------------- */

static void tell_ports(struct xhci *x)
{
	for (unsigned n = 1; n <= XHCI_PORTS && x->cmd & CMD_RUN; n++)
		if (x->changed >> n & 1 && event_has_room(x)) {
			x->changed &= (uint16_t)~(1u << n);
			event_put(x, (uint64_t)n << 24, CODE_SUCCESS << 24, TRB_TYPE(TRB_PORT_CHANGE));
		}
}

void port_changed(struct xhci *x, unsigned port, uint32_t bits)
{
	if ((x->ports[port].sc & bits) != bits) {
		x->ports[port].sc |= bits;
		x->changed |= (uint16_t)(1u << port);
		x->sts |= STS_PORT;
	}
	tell_ports(x);
}

static void power_on_ports(struct xhci *x)
{
	for (unsigned n = 1; n <= XHCI_PORTS; n++) {
		struct port *p = &x->ports[n];

		p->sc = PORT_POWER | PORT_LINK(LINK_DETECT);
		if (!p->usb)
			continue;
		usb_reset(p->usb);
		p->sc = PORT_POWER | PORT_LINK(LINK_POLLING) | PORT_CONNECTED | PORT_SPEED(p->usb->type->speed);
		port_changed(x, n, PORT_CONNECT_C);
	}
}

static void reset_port(struct xhci *x, unsigned n)
{
	struct port *p = &x->ports[n];

	if (!p->usb)
		return;
	usb_reset(p->usb);
	p->sc = (p->sc & ~PORT_LINK_ALL) | PORT_ENABLED | PORT_LINK(LINK_ON);
	port_changed(x, n, PORT_RESET_C);
}

static uint64_t read_port(void *dev, unsigned at)
{
	const struct xhci *x = dev;
	unsigned n = (at - PORTS_AT) / 16 + 1;

	if (at % 16 || n > ALL_PORTS)
		return 0;
	return n <= XHCI_PORTS ? x->ports[n].sc : PORT_POWER | PORT_LINK(LINK_DETECT);
}

static void write_port(void *dev, unsigned at, uint64_t value)
{
	struct xhci *x = dev;
	unsigned n = (at - PORTS_AT) / 16 + 1;
	struct port *p = &x->ports[n <= XHCI_PORTS ? n : 0];

	if (at % 16 || n > XHCI_PORTS)
		return;
	p->sc = (p->sc & ~PORT_KEPT) | ((uint32_t)value & PORT_KEPT);
	p->sc &= ~((uint32_t)value & PORT_CHANGES);
	if (value & PORT_ENABLED) /* which disables it */
		p->sc = (p->sc & ~(PORT_ENABLED | PORT_LINK_ALL)) | PORT_LINK(LINK_DISABLED);
	if (value & PORT_RESET)
		reset_port(x, n);
}

/* -- What it can do ---------------------------------------------------------------------------- */

static uint64_t read_capability(void *dev, unsigned at)
{
	static const uint32_t words[] = {
		0x01000000 | OPER,                                 /* CAPLENGTH, HCIVERSION 1.0 */
		ALL_PORTS << 24 | 1 << 8 | XHCI_SLOTS,             /* HCSPARAMS1: ports, interrupters, slots */
		0xf << 0, 0,                                       /* 2, 3: no scratchpads, one segment of events */
		CAPS_AT / 4 << 16 | 1,                             /* HCCPARAMS1: where protocols are; 64 bits */
		DOORBELL, RUNTIME, 0,                              /* DBOFF, RTSOFF, HCCPARAMS2 */
		0x02000002 | 4 << 8, 0x20425355, XHCI_PORTS << 8 | 1, 0,              /* USB 2.0, ports from 1 on */
		0x03000002, 0x20425355, XHCI_PORTS << 8 | (XHCI_PORTS + 1), 0,        /* USB 3.0, those behind */
	};

	(void)dev;
	return words[at / 4];
}

/* -- Operational registers -------------------------------------------------------------------------- */

static void reset_controller(struct xhci *x)
{
	x->cmd = 0;
	x->sts = STS_HALTED;
	x->dnctrl = x->configure = 0;
	x->dcbaap = 0;
	x->command = (struct ring){0};
	x->commands_run = false;
	x->iman = x->imod = x->erst_size = 0;
	x->erst = x->erdp = 0;
	x->event = (struct ring){0};
	x->event_base = 0;
	x->event_n = 0;
	x->changed = 0;
	x->n_slots = 0;
	for (unsigned i = 1; i <= XHCI_SLOTS; i++)
		slot_reset(&x->slots[i]);
	power_on_ports(x);
	drive_pin(x);
}

static uint64_t read_cmd(void *dev, unsigned at)
{
	(void)at;
	return ((struct xhci *)dev)->cmd;
}

static void write_cmd(void *dev, unsigned at, uint64_t value)
{
	struct xhci *x = dev;

	(void)at;
	if (value & CMD_RESET) {
		reset_controller(x);
		return;
	}
	x->cmd = (uint32_t)value & CMD_BITS;
	if (x->cmd & CMD_RUN)
		x->sts &= ~STS_HALTED;
	else
		x->sts |= STS_HALTED, x->commands_run = false;
	tell_ports(x);
	drive_pin(x);
}

static uint64_t read_sts(void *dev, unsigned at)
{
	(void)at;
	return ((struct xhci *)dev)->sts;
}

static void write_sts(void *dev, unsigned at, uint64_t value)
{
	(void)at;
	((struct xhci *)dev)->sts &= ~((uint32_t)value & STS_CLEAR);
}

static uint64_t read_page_size(void *dev, unsigned at)
{
	(void)dev, (void)at;
	return 1; /* 4 KiB */
}

static uint64_t read_dnctrl(void *dev, unsigned at)
{
	(void)at;
	return ((struct xhci *)dev)->dnctrl;
}

static void write_dnctrl(void *dev, unsigned at, uint64_t value)
{
	(void)at;
	((struct xhci *)dev)->dnctrl = value & 0xffff;
}

/* Half `at` of a 64-bit register. */
static void set_half(uint64_t *whole, bool high, uint64_t value)
{
	unsigned shift = high ? 32 : 0;

	*whole = (*whole & ~(UINT64_C(0xffffffff) << shift)) | value << shift;
}

/* All that can be read of CRCR is whether commands run. */
static uint64_t read_crcr(void *dev, unsigned at)
{
	return at % 8 == 0 && ((struct xhci *)dev)->commands_run ? CRCR_RUNS : 0;
}

static void write_crcr(void *dev, unsigned at, uint64_t value)
{
	struct xhci *x = dev;

	if (x->commands_run) {
		if (at % 8 == 0 && value & CRCR_STOPS) {
			x->commands_run = false;
			if (event_has_room(x))
				event_put(x, x->command.at, 24u << 24, TRB_TYPE(TRB_COMMAND)); /* stopped */
		}
		return;
	}
	set_half(&x->command.at, at % 8, at % 8 ? value : value & ~63ull);
	if (at % 8 == 0)
		x->command.cycle = value & 1;
}

static uint64_t read_dcbaap(void *dev, unsigned at)
{
	return (uint32_t)(((struct xhci *)dev)->dcbaap >> (at % 8 ? 32 : 0));
}

static void write_dcbaap(void *dev, unsigned at, uint64_t value)
{
	set_half(&((struct xhci *)dev)->dcbaap, at % 8 != 0, at % 8 ? value : value & ~63ull);
}

static uint64_t read_config(void *dev, unsigned at)
{
	(void)at;
	return ((struct xhci *)dev)->configure;
}

static void write_config(void *dev, unsigned at, uint64_t value)
{
	(void)at;
	((struct xhci *)dev)->configure = value & 0xff;
}

/* -- Runtime registers and doorbells --------------------------------------------------------------------- */

static uint64_t read_frame(void *dev, unsigned at)
{
	(void)dev, (void)at;
	return dev_monotonic(&(struct dev_clock){0}) / 125000 & 0x3fff;
}

static uint64_t read_interrupter(void *dev, unsigned at)
{
	const struct xhci *x = dev;
	const uint32_t words[] = {
		x->iman, x->imod, x->erst_size, 0, (uint32_t)x->erst, (uint32_t)(x->erst >> 32), (uint32_t)x->erdp, (uint32_t)(x->erdp >> 32),
	};

	return words[at / 4 % 8];
}

/* There is room again, or time: for ports, commands, and what endpoints have. */
static void go_on(struct xhci *x)
{
	tell_ports(x);
	commands_run(x);
	for (unsigned n = 1; n <= XHCI_PORTS; n++)
		port_run(x, n);
}

/* In the loop's thread. */
static void go_on_later(void *ctx)
{
	struct xhci *x = ctx;

	scoped_lock(&x->dev.lock);
	if (x->cmd & CMD_RUN && !x->paused)
		go_on(x);
}

/* What was put while the driver looked is news. */
static void write_dequeue(struct xhci *x, bool high, uint32_t value)
{
	bool done = !high && value & ERDP_BUSY;
	uint64_t busy = done ? 0 : x->erdp & ERDP_BUSY;

	set_half(&x->erdp, high, high ? value : value & ~15u);
	x->erdp |= busy;
	if (done && x->event_n && (x->erdp & ~15ull) != x->event.at) {
		x->erdp |= ERDP_BUSY;
		x->iman |= IMAN_IP;
		xhci_interrupt(x);
	}
	if (x->cmd & CMD_RUN)
		go_on(x);
}

static void write_interrupter(void *dev, unsigned at, uint64_t value64)
{
	struct xhci *x = dev;
	uint32_t value = (uint32_t)value64;

	switch (at / 4 % 8) {
	case 0:
		x->iman = (x->iman & IMAN_IP & ~value) | (value & IMAN_IE);
		drive_pin(x);
		break;
	case 1:
		x->imod = value;
		break;
	case 2:
		x->erst_size = value & 0xffff;
		break;
	case 4:
		set_half(&x->erst, false, value & ~63u);
		break;
	case 5:
		set_half(&x->erst, true, value);
		event_begin(x);
		break;
	case 6:
	case 7:
		write_dequeue(x, at / 4 % 8 == 7, value);
		break;
	}
}

static void ring_doorbell(void *dev, unsigned at, uint64_t value)
{
	struct xhci *x = dev;
	unsigned slot = (at - DOORBELL) / 4, ep = value & 0xff;
	struct endpoint *e;

	if (!(x->cmd & CMD_RUN))
		return;
	if (slot == 0) {
		x->commands_run = true;
		commands_run(x);
		return;
	}
	if (!x->slots[slot].enabled || ep == 0 || ep >= ENDPOINTS)
		return;
	e = &x->slots[slot].ep[ep];
	if (e->state == EP_STOPPED) {
		e->state = EP_RUNNING;
		endpoint_tell(x, slot, ep);
	}
	endpoint_run(x, slot, ep);
}

static const struct reg regs[] = {
	{.at = 0x00, .width = 4, .count = 16, .name = "CAPLENGTH to HCCPARAMS2; protocols", .read = read_capability},
	{.at = OPER, .width = 4, .name = "USBCMD", .read = read_cmd, .write = write_cmd},
	{.at = OPER + 4, .width = 4, .name = "USBSTS", .read = read_sts, .write = write_sts},
	{.at = OPER + 8, .width = 4, .name = "PAGESIZE", .read = read_page_size},
	{.at = OPER + 0x14, .width = 4, .name = "DNCTRL", .read = read_dnctrl, .write = write_dnctrl},
	{.at = OPER + 0x18, .width = 4, .count = 2, .name = "CRCR", .read = read_crcr, .write = write_crcr},
	{.at = OPER + 0x30, .width = 4, .count = 2, .name = "DCBAAP", .read = read_dcbaap, .write = write_dcbaap},
	{.at = OPER + 0x38, .width = 4, .name = "CONFIG", .read = read_config, .write = write_config},
	{.at = PORTS_AT, .width = 4, .count = 4 * ALL_PORTS, .name = "PORTSC to PORTHLPMC of each port", .read = read_port,
	 .write = write_port},
	{.at = RUNTIME, .width = 4, .name = "MFINDEX", .read = read_frame},
	{.at = RUNTIME + 0x20, .width = 4, .count = 8, .name = "IMAN, IMOD, ERSTSZ, ERSTBA, ERDP", .read = read_interrupter,
	 .write = write_interrupter},
	{.at = DOORBELL, .width = 4, .count = XHCI_SLOTS + 1, .name = "doorbells", .write = ring_doorbell},
	{0},
};

/* MSI may have been switched on or off. The host's lock is held, and ours is taken inside it. */
static void config_written(void *ctx, unsigned at, unsigned width)
{
	struct xhci *x = ctx;

	(void)at, (void)width;
	scoped_lock(&x->dev.lock);
	drive_pin(x);
}

/* -- Devices ------------------------------------------------------------------------------------ */

/* Of the device at a port; the lock is held. */
static void wake(void *ctx)
{
	struct port *p = ctx;

	if (p->xhci->cmd & CMD_RUN && !p->xhci->paused)
		port_run(p->xhci, p->n);
}

static enum xhci_kind kind_of(const struct xhci *x, unsigned n)
{
	return x->config.ports[n - 1].kind;
}

static void plug_in(struct xhci *x, unsigned n)
{
	const struct xhci_port_config *c = &x->config.ports[n - 1];
	struct port *p = &x->ports[n];

	p->xhci = x;
	p->n = n;
	if (c->kind == XHCI_DISK) {
		usb_storage_init(&p->storage, c->disk, n, &x->dev.lock);
		p->usb = &p->storage.usb;
	} else if (c->kind != XHCI_NOTHING) {
		usb_hid_init(&p->hid, c->kind == XHCI_TABLET, n);
		p->usb = &p->hid.usb;
	}
	if (p->usb) {
		x->n_ports = n + 1;
		p->usb->wake = wake;
		p->usb->ctx = p;
	}
}

static void wait_all(struct xhci *x)
{
	for (unsigned n = 1; n <= XHCI_PORTS; n++)
		if (kind_of(x, n) == XHCI_DISK && x->ports[n].usb)
			usb_storage_wait(&x->ports[n].storage);
}

int xhci_key(struct device *dev, uint8_t key, bool down)
{
	struct xhci *x = (struct xhci *)dev;
	int rc = 0;

	scoped_lock(&dev->lock);
	for (unsigned n = 1; n <= XHCI_PORTS && !rc; n++)
		if (kind_of(x, n) == XHCI_KEYBOARD)
			rc = usb_hid_key(&x->ports[n].hid, key, down);
	return rc;
}

bool xhci_point(struct device *dev, uint16_t at_x, uint16_t at_y, int dz, uint8_t buttons)
{
	struct xhci *x = (struct xhci *)dev;
	bool taken = false;

	scoped_lock(&dev->lock);
	for (unsigned n = 1; n <= XHCI_PORTS && !taken; n++)
		if (kind_of(x, n) == XHCI_TABLET)
			taken = usb_hid_point(&x->ports[n].hid, at_x, at_y, dz, buttons);
	return taken;
}

/* -- The model -------------------------------------------------------------------------------------- */

static int init(struct device *dev, const void *config, struct err *err)
{
	struct xhci *x = (struct xhci *)dev;
	int rc;

	x->config = *(const struct xhci_config *)config;
	for (unsigned n = 1; n <= XHCI_PORTS; n++)
		plug_in(x, n);
	x->fn = (struct pci_function){
		.name = dev->model->name, .vendor = 0x1b36, .device = 0x000d, .revision = 1, .class_code = 0x0c0330,
		.sub_vendor = 0x1af4, .sub_device = 0x1100, .pin = 1, .ctx = x, .config_written = config_written,
		.bars[0] = {.size = BAR_SIZE, .wide = true, .regs = regs},
	};
	rc = pci_add(x->config.host, &x->fn, PCI_DEVFN(x->config.slot, 0), err);
	if (rc == 0)
		rc = msi_add_cap(&x->fn, err);
	if (rc < 0)
		return rc;
	x->msi = (unsigned)rc;
	if (x->config.loop)
		loop_timer_init(&x->call, x->config.loop, go_on_later, x);
	x->fn.config[0x60] = 0x30; /* SBRN: USB 3.0 */
	return 0;
}

static void reset(struct device *dev)
{
	struct xhci *x = (struct xhci *)dev;

	reset_controller(x);
	wait_all(x);
	msi_reset(&x->fn, x->msi);
}

static void fini(struct device *dev)
{
	struct xhci *x = (struct xhci *)dev;

	pthread_mutex_lock(&dev->lock);
	x->paused = true; /* what has ended begins nothing more: rings may have no end */
	wait_all(x);
	pthread_mutex_unlock(&dev->lock);
	for (unsigned n = 1; n <= XHCI_PORTS; n++)
		if (x->ports[n].usb && kind_of(x, n) == XHCI_DISK)
			usb_storage_fini(&x->ports[n].storage);
	loop_timer_fini(&x->call);
	pci_remove(&x->fn);
}

/* What a disk has read meanwhile stays with the device until resume. */
static void pause_xhci(struct device *dev)
{
	struct xhci *x = (struct xhci *)dev;

	x->paused = true;
	wait_all(x);
}

static void resume_xhci(struct device *dev)
{
	struct xhci *x = (struct xhci *)dev;

	x->paused = false;
	if (x->cmd & CMD_RUN)
		go_on(x);
}

static int loaded(struct device *dev, uint64_t away, struct err *err)
{
	struct xhci *x = (struct xhci *)dev;
	unsigned last = 0;

	(void)away;
	for (unsigned n = 1; n <= XHCI_PORTS; n++)
		last = x->ports[n].usb ? n + 1 : last;
	if (x->n_ports != last)
		return err_set(err, EINVAL, "it has %u ports in use: %u are", x->n_ports, last);
	if (x->event_n && (x->event_n < EVENTS_MIN || x->event_n > EVENTS_MAX || x->event.at < x->event_base ||
			   x->event.at - x->event_base >= x->event_n * UINT64_C(16) || x->event.at % 16))
		return err_set(err, EINVAL, "its event ring is of %u events, and the next one is not there", x->event_n);
	for (unsigned n = 1; n <= XHCI_PORTS; n++) {
		const char *why = usb_storage_loaded(&x->ports[n].storage);

		if (why)
			return err_set(err, EINVAL, "the disk at port %u: %s", n, why);
	}
	pci_function_loaded(&x->fn);
	return 0;
}

static void saving(struct device *dev)
{
	pci_function_saving(&((struct xhci *)dev)->fn);
}

static const struct state_field ring_fields[] = {
	STATE(struct ring, at),
	STATE(struct ring, cycle),
	{0},
};

static const struct state_field endpoint_fields[] = {
	STATE_UPTO(struct endpoint, state, EP_STOPPED),
	STATE(struct endpoint, packet),
	STATE_PART(struct endpoint, ring, ring_fields),
	STATE(struct endpoint, done),
	{0},
};

static const struct state_field slot_fields[] = {
	STATE(struct slot, enabled),
	STATE_UPTO(struct slot, state, SLOT_CONFIGURED),
	STATE_UPTO(struct slot, port, XHCI_PORTS),
	STATE_PARTS(struct slot, ep, endpoint_fields),
	STATE_ARRAY(struct slot, setup),
	STATE(struct slot, has_setup),
	STATE(struct slot, stalls),
	STATE_UPTO(struct slot, n, USB_CONTROL_MAX),
	STATE_COUNTED(struct slot, data, n),
	{0},
};

static const struct state_field port_fields[] = {
	STATE(struct port, sc),
	STATE_PART(struct port, hid, usb_hid_fields),
	STATE_PART(struct port, storage, usb_storage_fields),
	{0},
};

static const struct state_field fields[] = {
	PCI_FUNCTION_STATE(struct xhci, fn),
	STATE(struct xhci, cmd),
	STATE(struct xhci, sts),
	STATE(struct xhci, dnctrl),
	STATE(struct xhci, configure),
	STATE(struct xhci, dcbaap),
	STATE_PART(struct xhci, command, ring_fields),
	STATE(struct xhci, commands_run),
	STATE(struct xhci, iman),
	STATE(struct xhci, imod),
	STATE(struct xhci, erst_size),
	STATE(struct xhci, erst),
	STATE(struct xhci, erdp),
	STATE_PART(struct xhci, event, ring_fields),
	STATE(struct xhci, event_base),
	STATE(struct xhci, event_n),
	STATE(struct xhci, changed),
	STATE_UPTO(struct xhci, n_slots, XHCI_SLOTS + 1),
	STATE_PARTS_COUNTED(struct xhci, slots, n_slots, slot_fields),
	STATE_UPTO(struct xhci, n_ports, XHCI_PORTS + 1),
	STATE_PARTS_COUNTED(struct xhci, ports, n_ports, port_fields),
	{0},
};

static const struct state_table table = {.name = "xhci", .version = 1, .fields = fields};
static const struct state_table *const state[] = {&table, NULL};

const struct device_model xhci_model = {
	.name = "xhci",
	.summary = "USB controller, with a keyboard, a tablet and disks",
	.option = "--usb, --disk FILE,bus=usb",
	.size = sizeof(struct xhci),
	.bar = regs,
	.state = state,
	.init = init,
	.reset = reset,
	.fini = fini,
	.pause = pause_xhci,
	.resume = resume_xhci,
	.saving = saving,
	.loaded = loaded,
};

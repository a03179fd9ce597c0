/* SPDX-License-Identifier: MIT */
/*
 * A VGA adapter on PCI, 1234:1111: what QEMU and Bochs call "standard VGA", Debian's vgabios-stdvga.bin sets up and Linux' bochs-drm
 * drives. What it does is in vga/ (core.h); this file is the ways in.
 *
 *	BAR 0            video memory, as one linear frame
 *	BAR 2    0x000   EDID of a monitor, 128 bytes
 *	         0x400   ports 0x3c0 to 0x3df
 *	         0x500   DISPI's registers, 16 bits each
 *	0x3b0..0x3df     VGA's ports
 *	0x1ce, 0x1cf     DISPI's index and data, 16 bits each
 *	0xa0000..0xbffff the window, as VGA's graphics controller sees memory
 *
 * The option ROM is not here: firmware finds vgabios where the board puts it.
 *
 * Video memory is the board's, which may give it to the guest where BAR 0 decodes; then the handlers below see no access to it. It is no
 * field of the state, and no reset clears it, as none clears a card's.
 */
#include "dev/vga.h"

#include "base/err.h"
#include "base/macros.h"
#include "base/scoped.h"
#include "dev/pci/function.h"
#include "dev/vga/core.h"
#include "display/surface.h"
#include "state/state.h"

#include <errno.h>
#include <string.h>

#define EDID_SIZE  128u
#define MMIO_SIZE  0x1000u
#define MMIO_PORTS 0x400u
#define MMIO_DISPI 0x500u

struct vga_device {
	struct device dev;
	struct vga_config config;
	struct pci_function fn;
	uint8_t edid[EDID_SIZE];
	struct vga vga;
};

static struct vga *vga_of(void *dev)
{
	return &((struct vga_device *)dev)->vga;
}

/* -- Ports and the window ------------------------------------------------------------ */

static uint64_t read_port(void *dev, unsigned at)
{
	return vga_port_read(vga_of(dev), 0x3b0 + at);
}

static void write_port(void *dev, unsigned at, uint64_t value)
{
	vga_port_write(vga_of(dev), 0x3b0 + at, (uint8_t)value);
}

#define PORT(port, what) {.at = (port) - 0x3b0, .width = 1, .name = what, .read = read_port, .write = write_port}

static const struct reg port_regs[] = {
	PORT(0x3b4, "CRTC index, monochrome"),
	PORT(0x3b5, "CRTC data, monochrome"),
	PORT(0x3ba, "input status 1, monochrome"),
	PORT(0x3c0, "attribute index and data"),
	PORT(0x3c1, "attribute data"),
	PORT(0x3c2, "miscellaneous output; input status 0"),
	PORT(0x3c4, "sequencer index"),
	PORT(0x3c5, "sequencer data"),
	PORT(0x3c6, "DAC mask"),
	PORT(0x3c7, "DAC read index; state"),
	PORT(0x3c8, "DAC write index"),
	PORT(0x3c9, "DAC data"),
	PORT(0x3ca, "feature control"),
	PORT(0x3cc, "miscellaneous output"),
	PORT(0x3ce, "graphics index"),
	PORT(0x3cf, "graphics data"),
	PORT(0x3d4, "CRTC index"),
	PORT(0x3d5, "CRTC data"),
	PORT(0x3da, "input status 1; feature control"),
	{0},
};

static uint64_t read_dispi_index(void *dev, unsigned at)
{
	(void)at;
	return vga_of(dev)->dispi_at;
}

static void write_dispi_index(void *dev, unsigned at, uint64_t value)
{
	(void)at;
	vga_of(dev)->dispi_at = (uint16_t)value;
}

static uint64_t read_dispi(void *dev, unsigned at)
{
	(void)at;
	return vga_dispi_read(vga_of(dev), vga_of(dev)->dispi_at);
}

static void write_dispi(void *dev, unsigned at, uint64_t value)
{
	(void)at;
	vga_dispi_write(vga_of(dev), vga_of(dev)->dispi_at, (uint16_t)value);
}

static const struct reg dispi_regs[] = {
	{.at = 0, .width = 2, .name = "DISPI index", .read = read_dispi_index, .write = write_dispi_index},
	{.at = 1, .width = 2, .name = "DISPI data", .read = read_dispi, .write = write_dispi},
	{0},
};

static uint64_t read_window(void *dev, uint64_t at, unsigned width)
{
	uint64_t value = 0;

	for (unsigned i = 0; i < width; i++)
		value |= (uint64_t)vga_window_read(vga_of(dev), (uint32_t)at + i) << (i * 8);
	return value;
}

static void write_window(void *dev, uint64_t at, unsigned width, uint64_t value)
{
	for (unsigned i = 0; i < width; i++)
		vga_window_write(vga_of(dev), (uint32_t)at + i, (uint8_t)(value >> (i * 8)));
}

static const struct device_place places[] = {
	{BUS_PORT, 0x30, .regs = port_regs},
	{BUS_PORT, 3, .regs = dispi_regs},
	{BUS_MMIO, 0x20000, .read = read_window, .write = write_window},
	{0},
};

/* -- BARs ----------------------------------------------------------------------------- */

/* The bus asks for what lies in the BAR. */
static uint64_t frame_read(void *ctx, uint64_t at, unsigned width)
{
	const struct vga_device *d = ctx;
	uint64_t value = 0;

	memcpy(&value, d->config.vram + at, width);
	return value;
}

static void frame_write(void *ctx, uint64_t at, unsigned width, uint64_t value)
{
	memcpy(((struct vga_device *)ctx)->config.vram + at, &value, width);
}

static uint64_t edid_read(void *dev, unsigned at)
{
	return ((struct vga_device *)dev)->edid[at];
}

static uint64_t mmio_port_read(void *dev, unsigned at)
{
	return vga_port_read(vga_of(dev), at - MMIO_PORTS + 0x3c0);
}

static void mmio_port_write(void *dev, unsigned at, uint64_t value)
{
	vga_port_write(vga_of(dev), at - MMIO_PORTS + 0x3c0, (uint8_t)value);
}

static uint64_t mmio_dispi_read(void *dev, unsigned at)
{
	return vga_dispi_read(vga_of(dev), (at - MMIO_DISPI) / 2);
}

static void mmio_dispi_write(void *dev, unsigned at, uint64_t value)
{
	vga_dispi_write(vga_of(dev), (at - MMIO_DISPI) / 2, (uint16_t)value);
}

static const struct reg mmio_regs[] = {
	{.at = 0, .width = 1, .count = EDID_SIZE, .name = "EDID", .read = edid_read},
	{.at = MMIO_PORTS, .width = 1, .count = 0x20, .name = "ports 0x3c0 to 0x3df", .read = mmio_port_read,
	 .write = mmio_port_write},
	{.at = MMIO_DISPI, .width = 2, .count = DISPI_N, .name = "DISPI", .read = mmio_dispi_read,
	 .write = mmio_dispi_write},
	{0},
};

static uint64_t mmio_read(void *ctx, uint64_t at, unsigned width)
{
	struct vga_device *d = ctx;

	scoped_lock(&d->dev.lock);
	return regs_read(mmio_regs, d, at, width);
}

static void mmio_write(void *ctx, uint64_t at, unsigned width, uint64_t value)
{
	struct vga_device *d = ctx;

	scoped_lock(&d->dev.lock);
	regs_write(mmio_regs, d, at, width, value);
}

/* -- EDID ----------------------------------------------------------------------------- */

/*
 * VESA E-EDID 1.4: a monitor "Lodge" that likes 1024x768 best, by VESA's timing of that: 65 MHz; 1024 dots of 1344, sync 24 behind them and
 * 136 long; 768 lines of 806, sync 3 behind and 6 long.
 */
static const uint8_t edid[EDID_SIZE] = {
	0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00,
	0x30, 0x87, 0x01, 0x00, 0x01, 0x00, 0x00, 0x00, /* "LDG", product 1 */
	0, 36, 1, 4,                  /* week, year 2026, EDID 1.4 */
	0xa5, 34, 19, 120, 0x06,      /* digital, 8 bits; 34 x 19 cm; gamma 2.2; sRGB, a preferred timing */
	0xee, 0x91, 0xa3, 0x54, 0x4c, 0x99, 0x26, 0x0f, 0x50, 0x54, /* sRGB's colours */
	0x21, 0x08, 0x00,             /* 640x480, 800x600, 1024x768 at 60 Hz */
	0x81, 0xc0, 0x81, 0x80, 0xa9, 0xc0, 0xd1, 0xc0, /* 1280x720, 1280x1024, 1600x900, 1920x1080 */
	0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01,
	0x64, 0x19, 0x00, 0x40, 0x41, 0x00, 0x26, 0x30, 0x18, 0x88, 0x36, 0x00, 0x54, 0xbe, 0x10, 0x00, 0x00, 0x1e,
	0, 0, 0, 0xfc, 0, 'L', 'o', 'd', 'g', 'e', '\n', ' ', ' ', ' ', ' ', ' ', ' ', ' ',
	0, 0, 0, 0xfd, 0, 50, 90, 30, 160, 30, 0x01, '\n', ' ', ' ', ' ', ' ', ' ', ' ', /* ranges: Hz, kHz, 300 MHz */
	0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
	0x00, 0x00,
};

/* The sum of all bytes is 0. */
static void make_edid(uint8_t *to)
{
	uint8_t sum = 0;

	memcpy(to, edid, EDID_SIZE);
	for (unsigned i = 0; i < EDID_SIZE - 1; i++)
		sum = (uint8_t)(sum + to[i]);
	to[EDID_SIZE - 1] = (uint8_t)-sum;
}

/* -- The model ------------------------------------------------------------------------ */

static void tell_place(struct vga_device *d)
{
	const struct pci_bar *bar = &d->fn.bars[0];

	if (d->config.placed)
		d->config.placed(d->config.ctx, bar->mapped ? bar->addr : UINT64_MAX);
}

static void config_written(void *ctx, unsigned at, unsigned width)
{
	(void)at, (void)width;
	tell_place(ctx);
}

static int init(struct device *dev, const void *config, struct err *err)
{
	struct vga_device *d = (struct vga_device *)dev;
	uint32_t size;

	d->config = *(const struct vga_config *)config;
	size = d->config.vram_size;
	if (size < 4 * VGA_PLANE || size > VGA_VRAM_MAX || size & (size - 1))
		return err_set(err, EINVAL, "%u bytes of video memory: a power of two from 256 KiB to 16 MiB", size);
	d->vga = (struct vga){.vram = d->config.vram, .size = size};
	make_edid(d->edid);
	d->fn = (struct pci_function){
		.name = dev->model->name, .vendor = 0x1234, .device = 0x1111, .sub_vendor = 0x1af4, .sub_device = 0x1100,
		.class_code = 0x030000, .ctx = d, .config_written = config_written,
		.bars[0] = {.size = size, .prefetch = true, .read = frame_read, .write = frame_write},
		.bars[2] = {.size = MMIO_SIZE, .read = mmio_read, .write = mmio_write},
	};
	return pci_add(d->config.host, &d->fn, PCI_DEVFN(d->config.slot, 0), err);
}

static void fini(struct device *dev)
{
	pci_remove(&((struct vga_device *)dev)->fn);
}

static void reset(struct device *dev)
{
	vga_reset(vga_of(dev));
}

static void saving(struct device *dev)
{
	pci_function_saving(&((struct vga_device *)dev)->fn);
}

static int loaded(struct device *dev, uint64_t away, struct err *err)
{
	struct vga_device *d = (struct vga_device *)dev;
	const uint16_t *r = d->vga.dispi;

	(void)away;
	if (!vga_is_sound(&d->vga))
		return err_set(err, EINVAL, "a frame of %u x %u dots of %u bits: there are at most %u x %u, of 8, 15, 16, 24 or 32",
			       r[DISPI_XRES], r[DISPI_YRES], r[DISPI_BPP], DISPI_XRES_MAX, DISPI_YRES_MAX);
	pci_function_loaded(&d->fn);
	tell_place(d);
	return 0;
}

static const struct state_field fields[] = {
	STATE(struct vga_device, vga.misc),
	STATE(struct vga_device, vga.feature),
	STATE(struct vga_device, vga.seq_at),
	STATE_ARRAY(struct vga_device, vga.seq),
	STATE(struct vga_device, vga.crtc_at),
	STATE_ARRAY(struct vga_device, vga.crtc),
	STATE(struct vga_device, vga.gfx_at),
	STATE_ARRAY(struct vga_device, vga.gfx),
	STATE(struct vga_device, vga.attr_at),
	STATE_ARRAY(struct vga_device, vga.attr),
	STATE(struct vga_device, vga.attr_data),
	STATE(struct vga_device, vga.dac_mask),
	STATE(struct vga_device, vga.dac_at),
	STATE_UPTO(struct vga_device, vga.dac_part, 2),
	STATE(struct vga_device, vga.dac_reads),
	STATE_ARRAY(struct vga_device, vga.dac_new),
	STATE_ARRAY(struct vga_device, vga.palette),
	STATE_ARRAY(struct vga_device, vga.latch),
	STATE(struct vga_device, vga.retrace),
	STATE(struct vga_device, vga.dispi_at),
	STATE_ARRAY(struct vga_device, vga.dispi),
	PCI_FUNCTION_STATE(struct vga_device, fn),
	{0},
};

static const struct state_table table = {.name = "vga", .version = 1, .fields = fields};
static const struct state_table *const state[] = {&table, NULL};

const struct device_model vga_model = {
	.name = "vga",
	.summary = "VGA adapter with a linear frame (Bochs DISPI)",
	.option = "--display",
	.size = sizeof(struct vga_device),
	.places = places,
	.state = state,
	.init = init,
	.reset = reset,
	.fini = fini,
	.saving = saving,
	.loaded = loaded,
};

/* -- For the board --------------------------------------------------------------------- */

/* Registers are those of one moment; what is drawn from memory meanwhile changes as it does. */
void vga_show(struct device *dev, struct surface *s)
{
	struct vga_device *d = (struct vga_device *)dev;
	struct vga now;

	pthread_mutex_lock(&dev->lock);
	now = d->vga;
	pthread_mutex_unlock(&dev->lock);
	vga_draw(&now, dev_monotonic(&d->config.clock), s);
}

void vga_placed(struct device *dev)
{
	tell_place((struct vga_device *)dev);
}

uint64_t vga_set_linear(struct device *dev, unsigned width, unsigned height)
{
	struct vga_device *d = (struct vga_device *)dev;

	scoped_lock(&dev->lock);
	vga_dispi_write(&d->vga, DISPI_XRES, (uint16_t)width);
	vga_dispi_write(&d->vga, DISPI_YRES, (uint16_t)height);
	vga_dispi_write(&d->vga, DISPI_BPP, 32);
	vga_dispi_write(&d->vga, DISPI_ENABLE, DISPI_ENABLED | DISPI_LINEAR | DISPI_NO_CLEAR);
	return d->fn.bars[0].mapped ? d->fn.bars[0].addr : 0;
}

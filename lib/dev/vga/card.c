/* SPDX-License-Identifier: MIT */
/*
 * See card.h. Of the ways into a VGA only where its registers are is here; what they do is in ports.c, planes.c and draw.c.
 */
#include "dev/vga/card.h"

#include "base/err.h"
#include "base/scoped.h"
#include "dev/vga.h"
#include "display/surface.h"

#include <errno.h>
#include <string.h>

#define MMIO_PORTS 0x400u
#define MMIO_DISPI 0x500u

struct vga_card *vga_card_of(void *dev)
{
	return ((struct device *)dev)->model == &vga_model ? vga_device_card(dev) : virtio_vga_card(dev);
}

static struct vga *vga_of(void *dev)
{
	return &vga_card_of(dev)->vga;
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

const struct device_place vga_places[] = {
	{BUS_PORT, 0x30, .regs = port_regs},
	{BUS_PORT, 3, .regs = dispi_regs},
	{BUS_MMIO, 0x20000, .read = read_window, .write = write_window},
	{0},
};

/* -- BARs ----------------------------------------------------------------------------- */

/* The bus asks for what lies in the BAR. */
uint64_t vga_frame_read(void *ctx, uint64_t at, unsigned width)
{
	uint64_t value = 0;

	memcpy(&value, vga_of(ctx)->vram + at, width);
	return value;
}

void vga_frame_write(void *ctx, uint64_t at, unsigned width, uint64_t value)
{
	memcpy(vga_of(ctx)->vram + at, &value, width);
}

static uint64_t edid_read(void *dev, unsigned at)
{
	return vga_card_of(dev)->edid[at];
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

const struct reg vga_mmio_regs[] = {
	{.at = 0, .width = 1, .count = EDID_SIZE, .name = "EDID", .read = edid_read},
	{.at = MMIO_PORTS, .width = 1, .count = 0x20, .name = "ports 0x3c0 to 0x3df", .read = mmio_port_read,
	 .write = mmio_port_write},
	{.at = MMIO_DISPI, .width = 2, .count = DISPI_N, .name = "DISPI", .read = mmio_dispi_read,
	 .write = mmio_dispi_write},
	{0},
};

/* -- Making one ------------------------------------------------------------------------ */

int vga_card_init(struct vga_card *c, const struct vga_config *config, struct pci_function *fn, struct err *err)
{
	uint32_t size = config->vram_size;

	if (size < 4 * VGA_PLANE || size > VGA_VRAM_MAX || size & (size - 1))
		return err_set(err, EINVAL, "%u bytes of video memory: a power of two from 256 KiB to 16 MiB", size);
	*c = (struct vga_card){.config = *config, .fn = fn, .vga = {.vram = config->vram, .size = size}};
	return 0;
}

int vga_card_loaded(const struct vga_card *c, struct err *err)
{
	const uint16_t *r = c->vga.dispi;

	if (vga_is_sound(&c->vga))
		return 0;
	return err_set(err, EINVAL, "a frame of %u x %u dots of %u bits: there are at most %u x %u, of 8, 15, 16, 24 or 32",
		       r[DISPI_XRES], r[DISPI_YRES], r[DISPI_BPP], DISPI_XRES_MAX, DISPI_YRES_MAX);
}

/* -- State ---------------------------------------------------------------------------- */

const struct state_field vga_fields[] = {
	STATE(struct vga, misc),
	STATE(struct vga, feature),
	STATE(struct vga, seq_at),
	STATE_ARRAY(struct vga, seq),
	STATE(struct vga, crtc_at),
	STATE_ARRAY(struct vga, crtc),
	STATE(struct vga, gfx_at),
	STATE_ARRAY(struct vga, gfx),
	STATE(struct vga, attr_at),
	STATE_ARRAY(struct vga, attr),
	STATE(struct vga, attr_data),
	STATE(struct vga, dac_mask),
	STATE(struct vga, dac_at),
	STATE_UPTO(struct vga, dac_part, 2),
	STATE(struct vga, dac_reads),
	STATE_ARRAY(struct vga, dac_new),
	STATE_ARRAY(struct vga, palette),
	STATE_ARRAY(struct vga, latch),
	STATE(struct vga, retrace),
	STATE(struct vga, dispi_at),
	STATE_ARRAY(struct vga, dispi),
	{0},
};

/* -- For the board --------------------------------------------------------------------- */

void vga_card_placed(struct vga_card *c)
{
	const struct pci_bar *bar = &c->fn->bars[0];

	if (c->config.placed)
		c->config.placed(c->config.ctx, bar->mapped ? bar->addr : UINT64_MAX);
}

/* Registers are those of one moment; what is drawn from memory meanwhile changes as it does. */
void vga_show(struct device *dev, struct surface *s)
{
	const struct vga_card *c = vga_card_of(dev);
	struct vga now;

	pthread_mutex_lock(&dev->lock);
	now = c->vga;
	pthread_mutex_unlock(&dev->lock);
	vga_draw(&now, dev_monotonic(&c->config.clock), s);
}

void vga_placed(struct device *dev)
{
	vga_card_placed(vga_card_of(dev));
}

uint64_t vga_set_linear(struct device *dev, unsigned width, unsigned height)
{
	struct vga_card *c = vga_card_of(dev);

	scoped_lock(&dev->lock);
	vga_dispi_write(&c->vga, DISPI_XRES, (uint16_t)width);
	vga_dispi_write(&c->vga, DISPI_YRES, (uint16_t)height);
	vga_dispi_write(&c->vga, DISPI_BPP, 32);
	vga_dispi_write(&c->vga, DISPI_ENABLE, DISPI_ENABLED | DISPI_LINEAR | DISPI_NO_CLEAR);
	return c->fn->bars[0].mapped ? c->fn->bars[0].addr : 0;
}

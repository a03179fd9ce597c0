/* SPDX-License-Identifier: MIT */
/*
 * A VGA adapter on PCI, 1234:1111: what QEMU and Bochs call "standard VGA", Debian's vgabios-stdvga.bin sets up and Linux' bochs-drm
 * drives. What it does is in vga/ (core.h), where its registers are is vga/card.h's; this file is the PCI function.
 *
 * The option ROM is not here: firmware finds vgabios where the board puts it.
 *
 * Video memory is the board's, which may give it to the guest where BAR 0 decodes; then the handlers see no access to it. It is no
 * field of the state, and no reset clears it, as none clears a card's.
 */
#include "dev/vga.h"

#include "base/err.h"
#include "dev/pci/function.h"
#include "dev/vga/card.h"
#include "state/state.h"

#define WIDTH  1024u /* what its monitor likes best */
#define HEIGHT 768u

struct vga_device {
	struct device dev;
	struct pci_function fn;
	struct vga_card card;
};

struct vga_card *vga_device_card(struct device *dev)
{
	return &((struct vga_device *)dev)->card;
}

static void config_written(void *ctx, unsigned at, unsigned width)
{
	(void)at, (void)width;
	vga_card_placed(&((struct vga_device *)ctx)->card);
}

static int init(struct device *dev, const void *config, struct err *err)
{
	const struct vga_config *c = config;
	struct vga_device *d = (struct vga_device *)dev;
	int rc = vga_card_init(&d->card, c, &d->fn, err);

	if (rc < 0)
		return rc;
	edid_make(d->card.edid, WIDTH, HEIGHT);
	d->fn = (struct pci_function){
		.name = dev->model->name, .vendor = 0x1234, .device = 0x1111, .sub_vendor = 0x1af4, .sub_device = 0x1100,
		.class_code = 0x030000, .ctx = d, .config_written = config_written,
		.bars[0] = {.size = c->vram_size, .prefetch = true, .read = vga_frame_read, .write = vga_frame_write},
		.bars[2] = {.size = VGA_MMIO_SIZE, .regs = vga_mmio_regs},
	};
	return pci_add(c->host, &d->fn, PCI_DEVFN(c->slot, 0), err);
}

static void fini(struct device *dev)
{
	pci_remove(&((struct vga_device *)dev)->fn);
}

static void reset(struct device *dev)
{
	vga_reset(&vga_device_card(dev)->vga);
}

static void saving(struct device *dev)
{
	pci_function_saving(&((struct vga_device *)dev)->fn);
}

static int loaded(struct device *dev, uint64_t away, struct err *err)
{
	struct vga_device *d = (struct vga_device *)dev;
	int rc = vga_card_loaded(&d->card, err);

	(void)away;
	if (rc < 0)
		return rc;
	pci_function_loaded(&d->fn);
	vga_card_placed(&d->card);
	return 0;
}

static const struct state_field fields[] = {
	VGA_CARD_STATE(struct vga_device, card),
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
	.places = vga_places,
	.state = state,
	.init = init,
	.reset = reset,
	.fini = fini,
	.saving = saving,
	.loaded = loaded,
};

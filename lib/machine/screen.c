/* SPDX-License-Identifier: MIT */
/*
 * See screen.h; and what a boot loader does for a kernel that has no firmware to ask: it sets a mode, and tells Linux of it in the zero
 * page's screen_info (Documentation/x86/zero-page.rst; include/uapi/linux/screen_info.h), as GRUB does where UEFI gave it a frame. efifb and
 * simpledrm draw there from the kernel's first second on.
 */
#include "machine/screen.h"

#include "base/bytes.h"
#include "dev/i8042.h"
#include "dev/usb/xhci.h"
#include "dev/vga.h"
#include "dev/virtio/devices.h"
#include "machine/private.h"

#include <string.h>

#define WIDTH  1024u
#define HEIGHT 768u

/* struct screen_info, which the zero page begins with. */
enum {
	VIDEO_TYPE = 0x0f, FRAME_WIDTH = 0x12, FRAME_HEIGHT = 0x14, FRAME_DEPTH = 0x16, FRAME_BASE = 0x18, FRAME_SIZE = 0x1c,
	FRAME_PITCH = 0x24, FRAME_COLOURS = 0x26, FRAME_PAGES = 0x32, SCREEN_INFO_SIZE = 0x40,
};
#define TYPE_EFI 0x70

const char *const machine_vgas[] = {[MACHINE_VGA_STD] = "std", [MACHINE_VGA_VIRTIO] = "virtio"};

uint64_t machine_video(const struct machine_config *c)
{
	if (!c->screen)
		return 0;
	return c->vga == MACHINE_VGA_VIRTIO ? MAP_VRAM + MAP_PICTURES : MAP_VRAM;
}

void machine_tell_screen(struct machine *m)
{
	static const uint8_t colours[8] = {8, 16, 8, 8, 8, 0, 8, 24}; /* of red, green, blue, nothing: how many bits, from where on */
	uint8_t info[SCREEN_INFO_SIZE] = {0};
	uint64_t base;

	if (!m->board.vga || m->config.firmware || m->entry.mode != BOOT_LONG)
		return;
	base = vga_set_linear(m->board.vga, WIDTH, HEIGHT);
	info[VIDEO_TYPE] = TYPE_EFI;
	le16_put(info + FRAME_WIDTH, WIDTH);
	le16_put(info + FRAME_HEIGHT, HEIGHT);
	le16_put(info + FRAME_DEPTH, 32);
	le32_put(info + FRAME_BASE, (uint32_t)base);
	le32_put(info + FRAME_SIZE, WIDTH * HEIGHT * 4);
	le16_put(info + FRAME_PITCH, WIDTH * 4);
	memcpy(info + FRAME_COLOURS, colours, sizeof(colours));
	le16_put(info + FRAME_PAGES, 1);
	guest_write(&m->mem, m->entry.info, info, sizeof(info));
}

bool machine_show(struct machine *m, struct surface *s)
{
	if (!m->board.vga)
		return false;
	if (m->config.vga == MACHINE_VGA_VIRTIO)
		virtio_vga_show(m->board.vga, s);
	else
		vga_show(m->board.vga, s);
	return true;
}

bool machine_can_resize(struct machine *m)
{
	return m->board.vga && m->config.vga == MACHINE_VGA_VIRTIO && machine_life(m) == MACHINE_RUNNING &&
	       virtio_vga_can_resize(m->board.vga);
}

bool machine_resize(struct machine *m, unsigned width, unsigned height)
{
	return machine_can_resize(m) && virtio_vga_resize(m->board.vga, width, height);
}

static bool takes_input(struct machine *m)
{
	return m->board.vga && machine_life(m) == MACHINE_RUNNING;
}

bool machine_key(struct machine *m, uint8_t key, bool down)
{
	struct board *b = &m->board;
	int rc;

	if (!takes_input(m))
		return false;
	rc = b->keyboard ? virtio_keyboard_key(b->keyboard, key, down) : 0;
	if (!rc && b->xhci)
		rc = xhci_key(b->xhci, key, down);
	return rc ? rc > 0 : i8042_key(b->kbc, key, down);
}

static unsigned less_than(unsigned n, unsigned end)
{
	return n < end ? n : end - 1;
}

/* The middle of a dot, so that whoever scales it back to that many dots finds the same one. */
static uint16_t on_axis(unsigned n, unsigned of)
{
	return (uint16_t)((2 * n + UINT64_C(1)) * VIRTIO_TABLET_RANGE / (2 * (uint64_t)of));
}

bool machine_point(struct machine *m, const struct machine_pointer *p)
{
	struct board *b = &m->board;
	uint16_t at_x, at_y;
	unsigned x, y;
	int dx, dy;

	if (!takes_input(m) || !p->width || !p->height)
		return false;
	x = less_than(p->x, p->width);
	y = less_than(p->y, p->height);
	dx = (int)x - (int)m->pointer_x;
	dy = (int)y - (int)m->pointer_y;
	m->pointer_x = x;
	m->pointer_y = y;
	at_x = on_axis(x, p->width);
	at_y = on_axis(y, p->height);
	if ((b->tablet && virtio_tablet_point(b->tablet, at_x, at_y, p->dz, p->buttons)) ||
	    (b->xhci && xhci_point(b->xhci, at_x, at_y, p->dz, p->buttons)))
		i8042_mouse(b->kbc, 0, 0, 0, 0); /* and lets go what was held there */
	else
		i8042_mouse(b->kbc, dx, dy, p->dz, p->buttons);
	return true;
}

bool machine_mouse(struct machine *m, int dx, int dy, int dz, uint8_t buttons)
{
	if (!takes_input(m))
		return false;
	i8042_mouse(m->board.kbc, dx, dy, dz, buttons);
	return true;
}

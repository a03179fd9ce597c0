/* SPDX-License-Identifier: MIT */
/*
 * See screen.h; and what a boot loader does for a kernel that has no firmware to ask: it sets a mode, and tells Linux of it in the zero
 * page's screen_info (Documentation/x86/zero-page.rst; include/uapi/linux/screen_info.h), as GRUB does where UEFI gave it a frame. efifb and
 * simpledrm draw there from the kernel's first second on.
 */
#include "machine/screen.h"

#include "base/bytes.h"
#include "dev/i8042.h"
#include "dev/vga.h"
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
	vga_show(m->board.vga, s);
	return true;
}

bool machine_key(struct machine *m, uint8_t key, bool down)
{
	return m->board.vga && machine_life(m) == MACHINE_RUNNING && i8042_key(m->board.kbc, key, down);
}

bool machine_mouse(struct machine *m, int dx, int dy, int dz, uint8_t buttons)
{
	if (!m->board.vga || machine_life(m) != MACHINE_RUNNING)
		return false;
	i8042_mouse(m->board.kbc, dx, dy, dz, buttons);
	return true;
}

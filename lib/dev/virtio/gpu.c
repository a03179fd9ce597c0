/* SPDX-License-Identifier: MIT */
/*
 * virtio-vga: a virtio GPU of two dimensions (section 5.7 of virtio 1.2) that is a VGA adapter, too. Firmware, boot loaders and
 * kernels without a driver find a VGA with a linear frame; from the first scanout that a driver sets until it lets go of the device the
 * monitor shows that.
 *
 *	queue 0   commands: pictures, what is shown, what the monitor is (gpu_2d.c)
 *	queue 1   the cursor's
 *	BAR 0     VGA's linear frame
 *	BAR 2     VGA's registers (vga/card.h), and from 0x1000 on virtio's
 *	BAR 3     MSI-X
 *
 * That is QEMU's device of this name, for which Debian's vgabios-virtio.bin and OVMF have drivers.
 *
 * Pictures are in the machine's memory behind the VGA's, which no address of the guest's leads to: it is saved, forked and migrated with
 * the rest, and is all that a guest can make lodge keep for it.
 *
 * A command is done on the vCPU's thread that kicked; so is the next one, until so much was done that the rest waits for the loop: there are
 * kicks of 2 GiB, and the lock is held.
 */
#include "base/bytes.h"
#include "base/err.h"
#include "base/scoped.h"
#include "dev/vga/card.h"
#include "dev/virtio/gpu.h"
#include "dev/virtio/virtio.h"
#include "loop/loop.h"
#include "state/state.h"

#include <errno.h>

enum { COMMANDS, CURSOR, QUEUES };

#define F_EDID        (UINT64_C(1) << 1)
#define EVENT_DISPLAY 1u /* the monitor is another one */
#define CONFIG_SIZE   16u
#define WIDTH         1024u
#define HEIGHT        768u
#define WORK_MAX      (12u << 20) /* bytes of a kick, and a command more: a picture of 1920 x 1080 dots, and what is done with it */

struct virtio_vga {
	struct virtio v; /* first */
	struct vga_card card;
	struct virtio_vga_config config;
	uint32_t events; /* that the driver has not cleared */
	struct loop_timer call; /* a kick goes on */
	bool paused;
	struct vq_chain chain;
	struct gpu_2d gpu;
};

struct vga_card *virtio_vga_card(struct device *dev)
{
	return &((struct virtio_vga *)dev)->card;
}

/* -- Queues ---------------------------------------------------------------------------- */

static void kick(struct virtio *v, unsigned n)
{
	struct virtio_vga *d = (struct virtio_vga *)v;
	struct vq *vq = &v->queues[n];
	struct vq_chain *c = &d->chain;
	int rc = 0;

	vq_begin(vq);
	d->gpu.work = 0;
	while (d->gpu.work < WORK_MAX && (rc = vq_pop(vq, c)) > 0) {
		gpu_command(&d->gpu, c->iov, c->n_out, n == CURSOR);
		vq_push(vq, c->head, (uint32_t)iov_scatter(c->iov + c->n_out, c->n_in, d->gpu.reply.bytes, d->gpu.reply.len));
	}
	if (rc < 0)
		virtio_broken(v, vq->broken);
	if (d->gpu.work >= WORK_MAX)
		loop_call(&d->call);
	virtio_signal(v, n);
}

/* In the loop's thread. */
static void go_on(void *ctx)
{
	struct virtio_vga *d = ctx;

	scoped_lock(&d->v.dev.lock);
	for (unsigned n = 0; n < QUEUES && !d->paused; n++)
		virtio_kick(&d->v, n);
}

/* events_read, events_clear, num_scanouts, num_capsets. */
static uint8_t config_read(struct virtio *v, unsigned at)
{
	if (at < 4)
		return (uint8_t)(((struct virtio_vga *)v)->events >> at * 8);
	return at == 8;
}

static void config_write(struct virtio *v, unsigned at, uint8_t value)
{
	if (at >= 4 && at < 8)
		((struct virtio_vga *)v)->events &= ~((uint32_t)value << at % 4 * 8);
}

static void reset_gpu(struct virtio *v)
{
	gpu_reset(&((struct virtio_vga *)v)->gpu);
}

/* -- The function ------------------------------------------------------------------------ */

static uint64_t bar_read(void *ctx, uint64_t at, unsigned width)
{
	struct virtio_vga *d = ctx;

	if (at >= VGA_MMIO_SIZE)
		return virtio_bar_read(d, at - VGA_MMIO_SIZE, width);
	scoped_lock(&d->v.dev.lock);
	return regs_read(vga_mmio_regs, d, at, width);
}

static void bar_write(void *ctx, uint64_t at, unsigned width, uint64_t value)
{
	struct virtio_vga *d = ctx;

	if (at >= VGA_MMIO_SIZE) {
		virtio_bar_write(d, at - VGA_MMIO_SIZE, width, value);
		return;
	}
	scoped_lock(&d->v.dev.lock);
	regs_write(vga_mmio_regs, d, at, width, value);
}

static void config_written(void *ctx, unsigned at, unsigned width)
{
	virtio_config_written(ctx, at, width);
	vga_card_placed(&((struct virtio_vga *)ctx)->card);
}

static void add_bars(struct virtio *v)
{
	struct virtio_vga *d = (struct virtio_vga *)v;

	v->fn.config_written = config_written;
	v->fn.bars[0] = (struct pci_bar){
		.size = d->card.vga.size, .prefetch = true, .read = vga_frame_read, .write = vga_frame_write};
	v->fn.bars[2] = (struct pci_bar){.size = 2 * VIRTIO_BAR_SIZE, .read = bar_read, .write = bar_write};
}

/* -- The model ------------------------------------------------------------------------------ */

static const struct virtio_type type = {
	.name = "virtio-vga",
	.id = 16,
	.class_code = 0x030000,
	.n_queues = QUEUES,
	.queue_size = 64,
	.features = F_EDID,
	.config_size = CONFIG_SIZE,
	.bar = 2,
	.bar_at = VGA_MMIO_SIZE,
	.more = add_bars,
	.kick = kick,
	.config_read = config_read,
	.config_write = config_write,
	.reset = reset_gpu,
};

/* What the monitor says is the same whether the VGA or the GPU is asked. */
static void resize(struct virtio_vga *d, unsigned width, unsigned height)
{
	gpu_resize(&d->gpu, width, height);
	edid_make(d->card.edid, width, height);
}

static int init(struct device *dev, const void *config, struct err *err)
{
	struct virtio_vga *d = (struct virtio_vga *)dev;
	const struct virtio_vga_config *c = config;
	int rc;

	d->config = *c;
	d->gpu.mem = c->pci.mem;
	d->gpu.store = c->store;
	d->gpu.store_size = c->store_size;
	d->gpu.wrote = c->wrote;
	d->gpu.forget = c->forget;
	d->gpu.ctx = c->vga.ctx;
	if (c->loop)
		loop_timer_init(&d->call, c->loop, go_on, d);
	rc = vga_card_init(&d->card, &c->vga, &d->v.fn, err);
	resize(d, WIDTH, HEIGHT);
	return rc < 0 ? rc : virtio_init(dev, &type, 0, &c->pci, err);
}

static void reset(struct device *dev)
{
	struct virtio_vga *d = (struct virtio_vga *)dev;

	virtio_reset(dev);
	vga_reset(&d->card.vga);
	d->events = 0;
}

static void fini(struct device *dev)
{
	loop_timer_fini(&((struct virtio_vga *)dev)->call);
	virtio_fini(dev);
}

/* Commands that wait stay in their queue. */
static void pause_gpu(struct device *dev)
{
	((struct virtio_vga *)dev)->paused = true;
	virtio_pause(dev);
}

static void resume(struct device *dev)
{
	((struct virtio_vga *)dev)->paused = false;
	virtio_resume(dev);
}

static int loaded(struct device *dev, uint64_t away, struct err *err)
{
	struct virtio_vga *d = (struct virtio_vga *)dev;
	const char *why = gpu_loaded(&d->gpu);
	int rc = vga_card_loaded(&d->card, err);

	if (rc < 0)
		return rc;
	if (why)
		return err_set(err, EINVAL, "%s", why);
	if (d->gpu.width < EDID_LEAST || d->gpu.height < EDID_LEAST)
		return err_set(err, EINVAL, "a monitor of %u x %u dots: it has at least %u each way", d->gpu.width, d->gpu.height, EDID_LEAST);
	resize(d, d->gpu.width, d->gpu.height);
	rc = virtio_loaded(dev, away, err);
	if (rc == 0)
		vga_card_placed(&d->card);
	return rc;
}

static const struct state_field resource_fields[] = {
	STATE(struct gpu_resource, id),
	STATE(struct gpu_resource, format),
	STATE(struct gpu_resource, width),
	STATE(struct gpu_resource, height),
	STATE(struct gpu_resource, at),
	{0},
};

static const struct state_field entry_fields[] = {
	STATE(struct gpu_entry, at),
	STATE(struct gpu_entry, len),
	STATE(struct gpu_entry, owner),
	{0},
};

static const struct state_field fields[] = {
	VGA_CARD_STATE(struct virtio_vga, card),
	STATE(struct virtio_vga, v.generation),
	STATE(struct virtio_vga, events),
	STATE_UPTO(struct virtio_vga, gpu.width, EDID_WIDTH_MAX),
	STATE_UPTO(struct virtio_vga, gpu.height, EDID_HEIGHT_MAX),
	STATE(struct virtio_vga, gpu.scene.active),
	STATE(struct virtio_vga, gpu.scene.scanout),
	STATE(struct virtio_vga, gpu.scene.rect.x),
	STATE(struct virtio_vga, gpu.scene.rect.y),
	STATE(struct virtio_vga, gpu.scene.rect.width),
	STATE(struct virtio_vga, gpu.scene.rect.height),
	STATE(struct virtio_vga, gpu.scene.cursor),
	STATE(struct virtio_vga, gpu.scene.cursor_x),
	STATE(struct virtio_vga, gpu.scene.cursor_y),
	STATE_UPTO(struct virtio_vga, gpu.n_resources, GPU_RESOURCES),
	STATE_PARTS_COUNTED(struct virtio_vga, gpu.resources, gpu.n_resources, resource_fields),
	STATE_UPTO(struct virtio_vga, gpu.n_entries, GPU_ENTRIES),
	STATE_PARTS_COUNTED(struct virtio_vga, gpu.entries, gpu.n_entries, entry_fields),
	{0},
};

static const struct state_table table = {.name = "gpu", .version = 1, .fields = fields};
static const struct state_table *const state[] = {&virtio_state, &table, NULL};

const struct device_model virtio_vga_model = {
	.name = "virtio-vga",
	.summary = "virtio GPU without 3D, and a VGA adapter until its driver is there",
	.option = "--vga virtio",
	.size = sizeof(struct virtio_vga),
	.places = vga_places,
	.bar = vga_mmio_regs,
	.bar_n = 2,
	.state = state,
	.init = init,
	.reset = reset,
	.fini = fini,
	.pause = pause_gpu,
	.resume = resume,
	.saving = virtio_saving,
	.loaded = loaded,
};

/* -- From outside ----------------------------------------------------------------------------- */

void virtio_vga_show(struct device *dev, struct surface *s)
{
	struct virtio_vga *d = (struct virtio_vga *)dev;
	struct gpu_shot shot;

	pthread_mutex_lock(&dev->lock);
	shot = gpu_look(&d->gpu);
	pthread_mutex_unlock(&dev->lock);
	if (shot.scene.active)
		gpu_draw(&shot, s);
	else
		vga_show(dev, s);
}

bool virtio_vga_can_resize(struct device *dev)
{
	scoped_lock(&dev->lock);
	return virtio_ready(&((struct virtio_vga *)dev)->v, COMMANDS);
}

bool virtio_vga_resize(struct device *dev, unsigned width, unsigned height)
{
	struct virtio_vga *d = (struct virtio_vga *)dev;

	if (width < EDID_LEAST || height < EDID_LEAST || width > EDID_WIDTH_MAX || height > EDID_HEIGHT_MAX)
		return false;
	scoped_lock(&dev->lock);
	if (!virtio_ready(&d->v, COMMANDS))
		return false;
	resize(d, width, height);
	d->events |= EVENT_DISPLAY;
	virtio_config_changed(&d->v);
	return true;
}

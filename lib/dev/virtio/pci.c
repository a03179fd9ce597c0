/* SPDX-License-Identifier: MIT */
/*
 * Virtio over PCI, after section 4.1 of virtio 1.2.
 *
 *	BAR 0 +0000  common configuration      features, status, queues: virtio_common_regs[]
 *	      +1000  ISR                       which kind of INTx this is; reading clears it
 *	      +2000  device configuration      the type's bytes
 *	      +3000  notifications             4 bytes a queue; a write kicks it
 *	BAR 1        MSI-X table and pending bits
 *
 * A transitional device has the legacy interface (legacy.c) in BAR 0, and this in BAR 4.
 * (A device with other things in its BARs has these elsewhere: struct virtio_type's `bar`.)
 *
 * Five vendor capabilities tell the driver so; the fifth (PCI_CFG) is a small window
 * through which firmware that cannot map BARs reads and writes BAR 0.
 *
 * What the registers do is in device.c; here is where they are.
 */
#include "base/bytes.h"
#include "base/scoped.h"
#include "dev/virtio/virtio.h"

#define COMMON_AT 0x0000u
#define ISR_AT    0x1000u
#define DEVICE_AT 0x2000u
#define NOTIFY_AT 0x3000u
#define NOTIFY_STEP 4u
#define COMMON_SIZE 0x3cu

/* -- BAR 0 ------------------------------------------------------------------------- */

uint64_t virtio_read_config(struct virtio *v, uint64_t at, unsigned width)
{
	uint64_t value = 0;

	for (unsigned i = 0; i < width; i++)
		if (v->type->config_read && at + i < v->type->config_size)
			value |= (uint64_t)v->type->config_read(v, (unsigned)at + i)
				 << (i * 8);
	return value;
}

void virtio_write_config(struct virtio *v, uint64_t at, unsigned width,
			 uint64_t value)
{
	for (unsigned i = 0; i < width; i++)
		if (v->type->config_write && at + i < v->type->config_size)
			v->type->config_write(v, (unsigned)at + i,
					      (uint8_t)(value >> (i * 8)));
}

uint64_t virtio_bar_read(void *ctx, uint64_t at, unsigned width)
{
	struct virtio *v = ctx;

	scoped_lock(&v->dev.lock);
	if (at < ISR_AT)
		return regs_read(virtio_common_regs, v, at, width);
	if (at < DEVICE_AT)
		return at == ISR_AT ? virtio_take_isr(v) : 0;
	if (at < NOTIFY_AT)
		return virtio_read_config(v, at - DEVICE_AT, width);
	return 0;
}

void virtio_bar_write(void *ctx, uint64_t at, unsigned width, uint64_t value)
{
	struct virtio *v = ctx;

	scoped_lock(&v->dev.lock);
	if (at < ISR_AT)
		regs_write(virtio_common_regs, v, at, width, value);
	else if (at >= NOTIFY_AT)
		virtio_kick(v, (at - NOTIFY_AT) / NOTIFY_STEP);
	else if (at >= DEVICE_AT)
		virtio_write_config(v, at - DEVICE_AT, width, value);
}

/* -- Capabilities ------------------------------------------------------------------ */

enum cfg_type { CFG_COMMON = 1, CFG_NOTIFY, CFG_ISR, CFG_DEVICE, CFG_PCI };

/* Where the fields are, from the capability's start. */
#define CAP_BAR    4
#define CAP_OFFSET 8
#define CAP_LENGTH 12
#define CAP_EXTRA  16 /* CFG_NOTIFY: the step between queues; CFG_PCI: the data */

static const struct {
	enum cfg_type type;
	uint32_t offset, length, extra;
	bool has_extra;
} caps[] = {
	{.type = CFG_COMMON, .offset = COMMON_AT, .length = COMMON_SIZE},
	{.type = CFG_ISR, .offset = ISR_AT, .length = 1},
	{.type = CFG_DEVICE, .offset = DEVICE_AT, .length = 0x1000},
	{.type = CFG_NOTIFY, .offset = NOTIFY_AT, .length = 0x1000,
	 .extra = NOTIFY_STEP, .has_extra = true},
	{.type = CFG_PCI, .has_extra = true},
};

static int add_caps(struct virtio *v, struct err *err)
{
	for (unsigned i = 0; i < sizeof(caps) / sizeof(caps[0]); i++) {
		unsigned len = caps[i].has_extra ? 20 : 16;
		bool is_place = caps[i].type != CFG_PCI;
		uint8_t body[18] = {(uint8_t)len, (uint8_t)caps[i].type, is_place ? (uint8_t)v->bar : 0};
		int at;

		le32_put(body + CAP_OFFSET - 2, caps[i].offset + (is_place ? v->type->bar_at : 0));
		le32_put(body + CAP_LENGTH - 2, caps[i].length);
		le32_put(body + CAP_EXTRA - 2, caps[i].extra);
		at = pci_add_cap(&v->fn, PCI_CAP_VENDOR, body, len - 2, err);
		if (at < 0)
			return at;
		if (caps[i].type == CFG_PCI)
			v->pci_cfg = (unsigned)at;
	}
	v->fn.writable[v->pci_cfg + CAP_BAR] = 0xff;
	le32_put(v->fn.writable + v->pci_cfg + CAP_OFFSET, UINT32_MAX);
	le32_put(v->fn.writable + v->pci_cfg + CAP_LENGTH, UINT32_MAX);
	le32_put(v->fn.writable + v->pci_cfg + CAP_EXTRA, UINT32_MAX);
	return 0;
}

/* Whether an access to configuration space is one to the PCI_CFG window, and to where.
 * */
static bool through_window(struct virtio *v, unsigned at, unsigned width,
			   uint32_t *offset)
{
	const uint8_t *cap = v->fn.config + v->pci_cfg;
	uint32_t length = le32_get(cap + CAP_LENGTH);

	*offset = le32_get(cap + CAP_OFFSET) - v->type->bar_at;
	return at == v->pci_cfg + CAP_EXTRA && cap[CAP_BAR] == v->bar && width == length &&
	       *offset < VIRTIO_BAR_SIZE && *offset % width == 0;
}

/* The host's lock is held, and virtio_bar_read() takes ours inside it. */
static void config_read(void *ctx, unsigned at, unsigned width)
{
	struct virtio *v = ctx;
	uint32_t offset;

	if (through_window(v, at, width, &offset))
		le32_put(v->fn.config + at, (uint32_t)virtio_bar_read(v, offset, width));
}

void virtio_config_written(void *ctx, unsigned at, unsigned width)
{
	struct virtio *v = ctx;
	uint32_t offset;

	if (through_window(v, at, width, &offset))
		virtio_bar_write(v, offset, width,
				 le32_get(v->fn.config + at) & bus_ones(width));
}

/* -- Making one -------------------------------------------------------------------- */

int virtio_init(struct device *dev, const struct virtio_type *type, uint64_t extra,
		const struct virtio_place *place, struct err *err)
{
	struct virtio *v = (struct virtio *)dev;
	int rc;

	pthread_cond_init(&v->idle, NULL);
	v->type = type;
	v->offered = VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC |
		     VIRTIO_F_RING_PACKED | VIRTIO_F_RING_RESET | type->features | extra;
	for (unsigned n = 0; n < type->n_queues; n++) {
		v->queues[n].mem = place->mem;
		v->queues[n].max = type->queue_size;
	}
	v->fn = (struct pci_function){
		.name = type->name,
		.vendor = 0x1af4, .device = 0x1040 + type->id, .revision = 1,
		.sub_vendor = 0x1af4, .sub_device = 0x1100,
		.class_code = type->class_code, .pin = 1, .owner = dev, .ctx = v,
		.rom = place->rom,
		.config_read = config_read, .config_written = virtio_config_written,
	};
	v->bar = type->bar;
	if (place->transitional && type->legacy) {
		v->fn.device = type->legacy;
		v->fn.sub_device = type->id;
		v->fn.revision = 0;
		v->fn.bars[0] = (struct pci_bar){
			.size = VIRTIO_LEGACY_SIZE, .io = true, .read = virtio_legacy_read, .write = virtio_legacy_write};
		v->bar = 4;
	}
	v->fn.bars[v->bar] = (struct pci_bar){.size = VIRTIO_BAR_SIZE, .read = virtio_bar_read, .write = virtio_bar_write};
	if (type->more)
		type->more(v);
	msix_init(&v->msix, &v->fn, type->n_queues + 1, type->bar + 1);
	rc = pci_add(place->host, &v->fn, PCI_DEVFN(place->slot, 0), err);
	if (rc == 0)
		rc = msix_add_cap(&v->msix, type->bar + 1, err);
	return rc < 0 ? rc : add_caps(v, err);
}

void virtio_fini(struct device *dev)
{
	struct virtio *v = (struct virtio *)dev;

	if (!v->type)
		return;
	if (v->fn.host) { /* requests that are under way still send messages */
		pthread_mutex_lock(&dev->lock);
		virtio_reset(dev);
		pthread_mutex_unlock(&dev->lock);
	}
	pci_remove(&v->fn);
	msix_fini(&v->msix);
	pthread_cond_destroy(&v->idle);
}

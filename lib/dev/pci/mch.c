/* SPDX-License-Identifier: MIT */
/*
 * The host bridge of Intel's Q35 chipset, as far as firmware sets it up: where configuration space is in memory, and
 * what is between 768 KiB and 1 MiB.
 *
 *	+60  PCIEXBAR  64 bits: enable 0, length 2..1 (256, 128, 64 MiB), base 35..26
 *	+90  PAM0      bits 5, 4 for 0xf0000: writes, reads go to RAM
 *	+91  PAM1..6   bits 1, 0 for 16 KiB from 0xc0000 + n * 0x8000 on, bits 5, 4 for the next 16
 *	+9d  SMRAM     kept; there is no SMM
 *
 * After a reset all of PAM is 0: the processor begins in the ROM, whose end is below 1 MiB, too. Firmware switches
 * a piece to RAM, copies itself there, and makes it read-only later. Where reads are the ROM's and writes RAM's,
 * which is how a ROM is copied onto itself, the guest's writes come to `window`.
 *
 * What is left out: SMRAM and its TSEG, of which docs/board.md says why; the graphics memory registers; BARs of the hub.
 */
#include "dev/pci/mch.h"

#include "base/bytes.h"
#include "base/macros.h"
#include "base/scoped.h"
#include "dev/pci/private.h"
#include "state/state.h"

#define PCIEXBAR 0x60
#define PAM0     0x90
#define SMRAM    0x9d

#define EXBAR_ENABLE 0x1u
#define EXBAR_BASE   UINT64_C(0xffc000000)

#define PAM_READS  0x1u
#define PAM_WRITES 0x2u

struct mch {
	struct pci_host host; /* first */
	struct mch_config config;
	uint64_t ecam;        /* where the window is; 0: nowhere */
	uint8_t pam[MCH_SHADOWS]; /* what the board was told of each */
};

/* -- Configuration space in memory ------------------------------------------------------ */

static uint64_t read_ecam(void *ctx, uint64_t at, unsigned width)
{
	scoped_lock(&((struct mch *)ctx)->host.dev.lock);
	return pci_ecam_read(ctx, at, width);
}

/* The window may move by this: the bus holds no lock over a handler. */
static void write_ecam(void *ctx, uint64_t at, unsigned width, uint64_t value)
{
	scoped_lock(&((struct mch *)ctx)->host.dev.lock);
	pci_ecam_write(ctx, at, width, value);
}

static void place_ecam(struct mch *mch)
{
	static const uint64_t sizes[] = {256 * MiB, 128 * MiB, 64 * MiB};
	uint64_t value = le64_get(mch->host.self.config + PCIEXBAR);
	unsigned length = value >> 1 & 3;
	bool on = (value & EXBAR_ENABLE) && length < ARRAY_SIZE(sizes);
	struct bus_window w = {
		.name = "pci configuration", .space = BUS_MMIO, .width = 4,
		.read = read_ecam, .write = write_ecam, .ctx = mch,
	};

	if (mch->ecam)
		bus_remove(mch->host.dev.bus, BUS_MMIO, mch->ecam);
	mch->ecam = 0;
	if (!on)
		return;
	w.size = sizes[length];
	w.base = value & EXBAR_BASE & ~(w.size - 1);
	if (w.base && bus_add(mch->host.dev.bus, &w, NULL) == 0)
		mch->ecam = w.base;
}

/* -- Shadows ---------------------------------------------------------------------------- */

/* The two bits of shadow n. */
static uint8_t pam_of(const struct mch *mch, unsigned n)
{
	const uint8_t *pam = mch->host.self.config + PAM0;

	if (n == MCH_SHADOWS - 1)
		return pam[0] >> 4 & 3;
	return pam[1 + n / 2] >> (n % 2 * 4) & 3;
}

static void place_shadows(struct mch *mch)
{
	for (unsigned n = 0; n < MCH_SHADOWS; n++) {
		uint8_t pam = pam_of(mch, n);

		if (pam == mch->pam[n])
			continue;
		mch->pam[n] = pam;
		mch->config.shadow(mch->config.ctx, n, pam & PAM_READS, pam & PAM_WRITES);
	}
}

/* A byte: each has a shadow of its own. */
static void window_write(void *ctx, uint64_t at, unsigned width, uint64_t value)
{
	struct mch *mch = ctx;
	unsigned n = (unsigned)(at / MCH_SHADOW_SIZE);

	(void)width;
	if (n >= MCH_SHADOWS)
		n = MCH_SHADOWS - 1;
	if (__atomic_load_n(&mch->pam[n], __ATOMIC_RELAXED) == PAM_WRITES)
		mch->config.store(mch->config.ctx, at, (uint8_t)value);
}

/* -- The model -------------------------------------------------------------------------- */

static void config_written(void *ctx, unsigned at, unsigned width)
{
	struct mch *mch = ctx;

	if (at < PCIEXBAR + 8 && at + width > PCIEXBAR)
		place_ecam(mch);
	if (at < SMRAM && at + width > PAM0)
		place_shadows(mch);
}

static const struct device_place places[] = {
	{BUS_PORT, 4, .regs = pci_address_regs},
	{BUS_PORT, 4, .read = pci_data_read, .write = pci_data_write},
	{0},
};

static int init(struct device *dev, const void *config, struct err *err)
{
	struct mch *mch = (struct mch *)dev;
	struct pci_function *self = &mch->host.self;
	struct bus_window w = {
		.name = "shadow RAM", .space = BUS_MMIO, .base = MCH_SHADOW_BASE, .size = MiB - MCH_SHADOW_BASE,
		.width = 1, .write = window_write, .ctx = mch,
	};

	mch->config = *(const struct mch_config *)config;
	pci_host_init(&mch->host, &mch->config.pci, 0x8086, 0x29c0);
	self->ctx = mch;
	self->config_written = config_written;
	le64_put(self->writable + PCIEXBAR, EXBAR_BASE | 0x7);
	self->writable[PAM0] = 0x30;
	for (unsigned i = 1; i <= 6; i++)
		self->writable[PAM0 + i] = 0x33;
	self->writable[SMRAM] = 0x7f;
	return bus_add(dev->bus, &w, err);
}

static void fini(struct device *dev)
{
	struct mch *mch = (struct mch *)dev;

	if (mch->ecam)
		bus_remove(dev->bus, BUS_MMIO, mch->ecam);
	bus_remove(dev->bus, BUS_MMIO, MCH_SHADOW_BASE);
	pci_host_fini(dev);
}

static void reset(struct device *dev)
{
	struct mch *mch = (struct mch *)dev;
	uint8_t *config = mch->host.self.config;

	mch->host.address = 0;
	mch->host.rst_cnt = 0;
	pci_forget_locked(&mch->host);
	le64_put(config + PCIEXBAR, 0);
	for (unsigned i = 0; i <= 6; i++)
		config[PAM0 + i] = 0;
	config[SMRAM] = 0x02;
	place_ecam(mch);
	place_shadows(mch);
}

static int loaded(struct device *dev, uint64_t away, struct err *err)
{
	struct mch *mch = (struct mch *)dev;

	(void)away, (void)err;
	pci_function_loaded(&mch->host.self);
	place_ecam(mch);
	place_shadows(mch);
	return 0;
}

const struct device_model mch_model = {
	.name = "mch",
	.summary = "memory controller hub of a Q35: PCI host bridge, shadow RAM",
	.option = "--firmware",
	.size = sizeof(struct mch),
	.places = places,
	.state = pci_host_state,
	.init = init,
	.reset = reset,
	.fini = fini,
	.saving = pci_host_saving,
	.loaded = loaded,
};

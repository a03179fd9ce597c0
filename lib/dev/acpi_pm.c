/* SPDX-License-Identifier: MIT */
/*
 * ACPI's fixed hardware, after chapter 4 of the ACPI specification.
 *
 *	+00  PM1a status   16 bits: PWRBTN 8 is the one that comes; a 1 written clears it
 *	+02  PM1a enable   16 bits: the same events; status & enable raises the SCI
 *	+04  PM1a control  16 bits: SCI_EN 0, SLP_TYP 10 to 12, SLP_EN 13
 *	+08  PM timer      a 32-bit counter at 3.579545 MHz
 *	+20  GPE0 status   16 bits: the board's events; a 1 written clears it
 *	+22  GPE0 enable   16 bits: the same events; status & enable raises the SCI
 *	+30  SMI enable    32 bits, as an ICH9 has it: reads as APMC_EN
 *
 * A machine is switched off by writing _S5's sleep type and SLP_EN; any other sleep
 * type is not offered and does nothing. There is no SMI command port: the machine is
 * always in ACPI mode, so SCI_EN reads as 1.
 *
 * The timer is computed from the host's clock, so it counts while the guest is stopped
 * as well. Its carry event (TMR_STS) never comes: who reads 32 bits often enough needs
 * none.
 */
#include "dev/acpi_pm.h"

#include "base/scoped.h"
#include "state/state.h"

#define PM_TMR_HZ UINT64_C(3579545)
#define SECOND    UINT64_C(1000000000) /* ns */

#define PM1_TMR    0x0001u
#define PM1_GBL    0x0020u
#define PM1_PWRBTN 0x0100u
#define PM1_SLPBTN 0x0200u
#define PM1_RTC    0x0400u
#define PM1_EVENTS (PM1_TMR | PM1_GBL | PM1_PWRBTN | PM1_SLPBTN | PM1_RTC)

#define CNT_SCI_EN   0x0001u
#define CNT_SLP_TYP  0x1c00u
#define CNT_SLP_EN   0x2000u

#define SMI_EN_APMC 0x20u

struct acpi_pm {
	struct device dev;
	struct acpi_pm_config config;
	uint64_t start; /* monotonic ns when the timer was 0 */
	uint64_t elapsed; /* since then, when it was saved */
	uint16_t status, enable, control;
	uint16_t gpe_status, gpe_enable;
};

static void update(struct acpi_pm *pm)
{
	bool sci = (pm->status & pm->enable & PM1_EVENTS) ||
		   (pm->gpe_status & pm->gpe_enable);

	irq_set(&pm->config.sci, sci);
}

void acpi_pm_power_button(struct device *dev)
{
	struct acpi_pm *pm = (struct acpi_pm *)dev;

	scoped_lock(&dev->lock);
	pm->status |= PM1_PWRBTN;
	update(pm);
}

void acpi_pm_event(struct device *dev, unsigned n)
{
	struct acpi_pm *pm = (struct acpi_pm *)dev;

	scoped_lock(&dev->lock);
	pm->gpe_status |= (uint16_t)(1u << n);
	update(pm);
}

static uint64_t read_status(void *dev, unsigned at)
{
	(void)at;
	return ((struct acpi_pm *)dev)->status;
}

static void write_status(void *dev, unsigned at, uint64_t value)
{
	struct acpi_pm *pm = dev;

	(void)at;
	pm->status &= (uint16_t)~value;
	update(pm);
}

static uint64_t read_enable(void *dev, unsigned at)
{
	(void)at;
	return ((struct acpi_pm *)dev)->enable;
}

static void write_enable(void *dev, unsigned at, uint64_t value)
{
	struct acpi_pm *pm = dev;

	(void)at;
	pm->enable = value & PM1_EVENTS;
	update(pm);
}

static uint64_t read_control(void *dev, unsigned at)
{
	(void)at;
	return ((struct acpi_pm *)dev)->control | CNT_SCI_EN;
}

static void write_control(void *dev, unsigned at, uint64_t value)
{
	struct acpi_pm *pm = dev;

	(void)at;
	pm->control = (uint16_t)(value & ~(uint64_t)CNT_SLP_EN); /* reads as 0 */
	if ((value & CNT_SLP_EN) && (value & CNT_SLP_TYP) >> 10 == ACPI_PM_S5)
		power_ask(&pm->config.power, POWER_OFF, "acpi");
}

static uint64_t read_timer(void *dev, unsigned at)
{
	struct acpi_pm *pm = dev;
	uint64_t ns = dev_monotonic(&pm->config.clock) - pm->start;

	(void)at;
	/* Seconds and the rest apart, so that the product fits for 160 years. */
	return (uint32_t)(ns / SECOND * PM_TMR_HZ + ns % SECOND * PM_TMR_HZ / SECOND);
}

static uint64_t read_gpe_status(void *dev, unsigned at)
{
	return ((struct acpi_pm *)dev)->gpe_status >> ((at & 1) * 8) & 0xff;
}

static void write_gpe_status(void *dev, unsigned at, uint64_t value)
{
	struct acpi_pm *pm = dev;

	pm->gpe_status &= (uint16_t)~(value << ((at & 1) * 8));
	update(pm);
}

static uint64_t read_gpe_enable(void *dev, unsigned at)
{
	return ((struct acpi_pm *)dev)->gpe_enable >> ((at & 1) * 8) & 0xff;
}

static void write_gpe_enable(void *dev, unsigned at, uint64_t value)
{
	struct acpi_pm *pm = dev;
	unsigned shift = (at & 1) * 8;

	pm->gpe_enable =
		(uint16_t)((pm->gpe_enable & ~(0xffu << shift)) | value << shift);
	update(pm);
}

/* Firmware sees by this bit that somebody has set system management up: there is none. */
static uint64_t read_smi_enable(void *dev, unsigned at)
{
	(void)dev, (void)at;
	return SMI_EN_APMC;
}

static const struct reg regs[] = {
	{.at = 0, .width = 2, .name = "PM1_STS", .read = read_status, .write = write_status},
	{.at = 2, .width = 2, .name = "PM1_EN", .read = read_enable, .write = write_enable},
	{.at = ACPI_PM1_CNT, .width = 2, .name = "PM1_CNT",
	 .read = read_control, .write = write_control},
	{.at = ACPI_PM_TMR, .width = 4, .name = "PM_TMR", .read = read_timer},
	{.at = ACPI_GPE0, .width = 1, .count = 2, .name = "GPE0_STS",
	 .read = read_gpe_status, .write = write_gpe_status},
	{.at = ACPI_GPE0 + 2, .width = 1, .count = 2, .name = "GPE0_EN",
	 .read = read_gpe_enable, .write = write_gpe_enable},
	{.at = ACPI_SMI_EN, .width = 4, .name = "SMI_EN", .read = read_smi_enable},
	{0},
};

static const struct device_place places[] = {
	{BUS_PORT, ACPI_PM_SIZE, .regs = regs},
	{0},
};

static int init(struct device *dev, const void *config, struct err *err)
{
	struct acpi_pm *pm = (struct acpi_pm *)dev;

	(void)err;
	pm->config = *(const struct acpi_pm_config *)config;
	pm->start = dev_monotonic(&pm->config.clock);
	return 0;
}

static void reset(struct device *dev)
{
	struct acpi_pm *pm = (struct acpi_pm *)dev;

	pm->status = pm->enable = pm->control = 0;
	pm->gpe_status = pm->gpe_enable = 0;
	update(pm);
}

static void saving(struct device *dev)
{
	struct acpi_pm *pm = (struct acpi_pm *)dev;

	pm->elapsed = dev_monotonic(&pm->config.clock) - pm->start;
}

static int loaded(struct device *dev, uint64_t away, struct err *err)
{
	struct acpi_pm *pm = (struct acpi_pm *)dev;

	(void)err;
	pm->start = dev_monotonic(&pm->config.clock) - pm->elapsed - away;
	return 0;
}

static const struct state_field fields[] = {
	STATE(struct acpi_pm, elapsed),
	STATE(struct acpi_pm, status),
	STATE(struct acpi_pm, enable),
	STATE(struct acpi_pm, control),
	STATE(struct acpi_pm, gpe_status),
	STATE(struct acpi_pm, gpe_enable),
	{0},
};

static const struct state_table table = {.name = "pm", .version = 1, .fields = fields};
static const struct state_table *const state[] = {&table, NULL};

const struct device_model acpi_pm_model = {
	.name = "acpi_pm",
	.summary = "ACPI power management block and timer",
	.size = sizeof(struct acpi_pm),
	.places = places,
	.state = state,
	.init = init,
	.reset = reset,
	.saving = saving,
	.loaded = loaded,
};

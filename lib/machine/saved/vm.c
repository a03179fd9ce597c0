/* SPDX-License-Identifier: MIT */
/*
 * What a VM has besides vCPUs and memory: the engine's interrupt controllers and timer chip, the clock
 * that guests read through kvmclock, and what CPUID says.
 *
 * Clocks go on while a machine is away: the guest's clock is set to where it would be had it run, so
 * that its date is right, and its TSC moves by as much (vcpu.c).
 */
#include "machine/saved/parts.h"

#include "base/err.h"
#include "base/macros.h"
#include "engine/kvm.h"
#include "machine/cpu/table.h"
#include "machine/vm.h"
#include "state/state.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#define SECOND UINT64_C(1000000000)

/* -- The chips --------------------------------------------------------------------- */

struct chips {
	struct kvm_irqchip pic[2], ioapic;
	uint64_t redirtbl[KVM_IOAPIC_NUM_PINS];
	struct kvm_pit_state2 pit;
};

#define PIC(name) STATE(struct kvm_irqchip, chip.pic.name)
static const struct state_field pic_fields[] = {
	PIC(last_irr), PIC(irr), PIC(imr), PIC(isr), PIC(priority_add), PIC(irq_base),
	PIC(read_reg_select), PIC(poll), PIC(special_mask), PIC(init_state), PIC(auto_eoi),
	PIC(rotate_on_auto_eoi), PIC(special_fully_nested_mode), PIC(init4), PIC(elcr),
	PIC(elcr_mask),
	{0},
};

#define IOAPIC(name) STATE(struct kvm_irqchip, chip.ioapic.name)
static const struct state_field ioapic_fields[] = {
	IOAPIC(base_address), IOAPIC(ioregsel), IOAPIC(id), IOAPIC(irr),
	{0},
};

/* But for count_load_time, which is of the host's clock: a period begins anew when it is loaded. */
#define CHANNEL(name) STATE(struct kvm_pit_channel_state, name)
static const struct state_field channel_fields[] = {
	CHANNEL(count), CHANNEL(latched_count), CHANNEL(count_latched),
	CHANNEL(status_latched), CHANNEL(status), CHANNEL(read_state), CHANNEL(write_state),
	CHANNEL(write_latch), CHANNEL(rw_mode), CHANNEL(mode), CHANNEL(bcd), CHANNEL(gate),
	{0},
};

static const struct state_field chips_fields[] = {
	STATE_PARTS(struct chips, pic, pic_fields),
	STATE_PART(struct chips, ioapic, ioapic_fields),
	STATE_ARRAY(struct chips, redirtbl),
	STATE_PARTS(struct chips, pit.channels, channel_fields),
	STATE(struct chips, pit.flags),
	{0},
};

static const struct state_table chips_table = {
	.name = "chips", .version = 1, .fields = chips_fields};

static int call(const struct vm *vm, unsigned long request, void *arg, struct err *err)
{
	int rc = vm->face->ioctl(vm->fd, request, arg);

	return rc < 0 ? err_sys(err, -rc, "engine '%s': state of the VM", vm->face->name) : 0;
}

static void name_chips(struct chips *c)
{
	c->pic[0].chip_id = KVM_IRQCHIP_PIC_MASTER;
	c->pic[1].chip_id = KVM_IRQCHIP_PIC_SLAVE;
	c->ioapic.chip_id = KVM_IRQCHIP_IOAPIC;
}

static int get_chips(const struct vm *vm, struct chips *c, struct err *err)
{
	int rc;

	name_chips(c);
	if ((rc = call(vm, KVM_GET_IRQCHIP, &c->pic[0], err)) < 0 ||
	    (rc = call(vm, KVM_GET_IRQCHIP, &c->pic[1], err)) < 0 ||
	    (rc = call(vm, KVM_GET_IRQCHIP, &c->ioapic, err)) < 0 ||
	    (rc = call(vm, KVM_GET_PIT2, &c->pit, err)) < 0)
		return rc;
	for (unsigned i = 0; i < KVM_IOAPIC_NUM_PINS; i++)
		c->redirtbl[i] = c->ioapic.chip.ioapic.redirtbl[i].bits;
	return 0;
}

static int set_chips(const struct vm *vm, struct chips *c, struct err *err)
{
	int rc;

	name_chips(c);
	for (unsigned i = 0; i < KVM_IOAPIC_NUM_PINS; i++)
		c->ioapic.chip.ioapic.redirtbl[i].bits = c->redirtbl[i];
	if ((rc = call(vm, KVM_SET_IRQCHIP, &c->pic[0], err)) < 0 ||
	    (rc = call(vm, KVM_SET_IRQCHIP, &c->pic[1], err)) < 0 ||
	    (rc = call(vm, KVM_SET_IRQCHIP, &c->ioapic, err)) < 0)
		return rc;
	return call(vm, KVM_SET_PIT2, &c->pit, err);
}

/* -- The clock --------------------------------------------------------------------- */

struct clock {
	uint64_t kvmclock, date; /* ns: of the guest's clock, and since 1970, at the same time */
};

static const struct state_field clock_fields[] = {
	STATE(struct clock, kvmclock),
	STATE(struct clock, date),
	{0},
};

static const struct state_table clock_table = {
	.name = "clock", .version = 1, .fields = clock_fields};

static uint64_t date_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * SECOND + (uint64_t)ts.tv_nsec;
}

static uint64_t since(uint64_t date)
{
	uint64_t now = date_now();

	return now > date ? now - date : 0;
}

static int get_clock(const struct vm *vm, struct clock *c, struct err *err)
{
	struct kvm_clock_data data = {0};
	int rc = call(vm, KVM_GET_CLOCK, &data, err);

	*c = (struct clock){.kvmclock = data.clock, .date = date_now()};
	return rc;
}

static int set_clock(const struct vm *vm, const struct clock *c, struct err *err)
{
	struct kvm_clock_data data = {.clock = c->kvmclock + since(c->date)};

	return call(vm, KVM_SET_CLOCK, &data, err);
}

int vm_away(const struct state_in *in, uint64_t *away, struct err *err)
{
	struct state_section section;
	struct clock c;
	int rc;

	if ((rc = state_find(in, "vm/clock", &section, err)) == 0)
		rc = state_load(&section, &clock_table, &c, err);
	if (rc == 0)
		*away = since(c.date);
	return rc;
}

/* -- Both -------------------------------------------------------------------------- */

int vm_save(const struct vm *vm, struct state_out *out, struct err *err)
{
	struct chips chips = {0};
	struct clock clock;
	int rc;

	if ((rc = get_chips(vm, &chips, err)) < 0 || (rc = get_clock(vm, &clock, err)) < 0 ||
	    (rc = state_save(out, "vm/chips", &chips_table, &chips)) < 0)
		return rc;
	return state_save(out, "vm/clock", &clock_table, &clock);
}

int vm_load(const struct vm *vm, const struct state_in *in, struct err *err)
{
	struct state_section section;
	struct chips chips = {0};
	struct clock clock;
	int rc;

	if ((rc = state_find(in, "vm/chips", &section, err)) < 0 ||
	    (rc = state_load(&section, &chips_table, &chips, err)) < 0 ||
	    (rc = set_chips(vm, &chips, err)) < 0 ||
	    (rc = state_find(in, "vm/clock", &section, err)) < 0 ||
	    (rc = state_load(&section, &clock_table, &clock, err)) < 0)
		return rc;
	return set_clock(vm, &clock, err);
}

/* -- CPUID ------------------------------------------------------------------------- */

#define ENTRY(name) STATE(struct kvm_cpuid_entry2, name)
static const struct state_field entry_fields[] = {
	ENTRY(function), ENTRY(index), ENTRY(flags), ENTRY(eax), ENTRY(ebx), ENTRY(ecx), ENTRY(edx),
	{0},
};

static const struct state_field cpuid_fields[] = {
	STATE_UPTO(struct cpu_table, n, CPU_TABLE_ENTRIES),
	STATE_PARTS_COUNTED(struct cpu_table, entries, n, entry_fields),
	{0},
};

static const struct state_table cpuid_table = {
	.name = "cpuid", .version = 1, .fields = cpuid_fields};

int cpuid_save(const struct cpu_table *t, struct state_out *out)
{
	return state_save(out, "cpuid", &cpuid_table, t);
}

int cpuid_load(struct cpu_table *t, const struct state_in *in, struct err *err)
{
	struct state_section section;
	int rc = state_find(in, "cpuid", &section, err);

	memset(t, 0, sizeof(*t));
	return rc < 0 ? rc : state_load(&section, &cpuid_table, t, err);
}

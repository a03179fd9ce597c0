/* SPDX-License-Identifier: MIT */
/*
 * Making a VM over the KVM ABI (the kernel's Documentation/virt/kvm/api.rst).
 *
 * The interrupt controllers are on the engine's side of the seam: PIC, IOAPIC and local
 * APICs come with KVM_CREATE_IRQCHIP, the PIT with KVM_CREATE_PIT2. The board raises a
 * *global interrupt* (GSI), and the routing table says what that is:
 *
 *	GSI 0       PIC input 0 and IOAPIC input 2 (the timer: MADT says the same)
 *	GSI 1       PIC and IOAPIC input 1
 *	GSI 2       nothing (the PICs' cascade)
 *	GSI 3..15   PIC and IOAPIC, the same number
 *	GSI 16..23  IOAPIC only; PCI's four lines are 16 to 19
 *
 * MSIs need no route: KVM_SIGNAL_MSI takes address and data.
 *
 * Two calls exist for Intel's sake: a TSS and a page of identity map inside the guest's
 * physical space, which hardware without unrestricted guests needs for real mode. They
 * must come before the first vCPU, and other engines may not know them.
 */
#include "machine/vm.h"

#include "base/err.h"
#include "base/macros.h"
#include "bus/guest.h"
#include "engine/kvm.h"

#include <errno.h>
#include <string.h>

#define IOAPIC_INPUTS 24

static int call(const struct vm *vm, unsigned long request, void *arg)
{
	return vm->face->ioctl(vm->fd, request, arg);
}

static int refused(const struct vm *vm, int rc, const char *what, struct err *err)
{
	return err_set(err, -rc, "engine '%s' refuses %s: %s", vm->face->name, what,
		       strerror(-rc));
}

int vm_engine_open(struct vm *vm, const struct kvm_face *face, struct err *err)
{
	*vm = (struct vm){.face = face, .fd = -1};
	vm->sys = face->open(err);
	return vm->sys < 0 ? vm->sys : 0;
}

void vm_engine_close(struct vm *vm)
{
	if (vm->sys >= 0)
		vm->face->close(vm->sys);
	vm->sys = -1;
}

static int create_vm(struct vm *vm, struct err *err)
{
	int rc = vm->face->ioctl(vm->sys, KVM_GET_VCPU_MMAP_SIZE, NULL);

	if (rc < (int)sizeof(struct kvm_run))
		return refused(vm, rc < 0 ? rc : -EINVAL, "a size for vCPUs", err);
	vm->run_size = (size_t)rc;
	do {
		vm->fd = vm->face->ioctl(vm->sys, KVM_CREATE_VM, KVM_ARG(0));
	} while (vm->fd == -EINTR);
	return vm->fd < 0 ? refused(vm, vm->fd, "a VM", err) : 0;
}

static int set_intel_pages(const struct vm *vm, uint64_t idmap, struct err *err)
{
	int rc = 0;

	if (kvm_has(vm->face, vm->fd, KVM_CAP_SET_IDENTITY_MAP_ADDR))
		rc = call(vm, KVM_SET_IDENTITY_MAP_ADDR, &idmap);
	if (rc >= 0 && kvm_has(vm->face, vm->fd, KVM_CAP_SET_TSS_ADDR))
		rc = call(vm, KVM_SET_TSS_ADDR, KVM_ARG(idmap + 4096));
	return rc < 0 ? refused(vm, rc, "a place for its TSS", err) : 0;
}

static int set_slot(const struct vm *vm, unsigned i, const struct guest_region *r, uint64_t size, struct err *err)
{
	struct kvm_userspace_memory_region slot = {
		.slot = i,
		.flags = (r->readonly ? KVM_MEM_READONLY : 0) | (vm->logs ? KVM_MEM_LOG_DIRTY_PAGES : 0),
		.guest_phys_addr = r->base,
		.memory_size = size,
		.userspace_addr = (uintptr_t)r->host,
	};
	int rc = call(vm, KVM_SET_USER_MEMORY_REGION, &slot);

	if (rc < 0)
		return refused(vm, rc, size ? "guest memory" : "to give guest memory back", err);
	return 0;
}

int vm_add_region(const struct vm *vm, const struct guest_mem *mem, unsigned i, struct err *err)
{
	const struct guest_region *r = &mem->regions[i];

	return r->base == GUEST_NOWHERE ? 0 : set_slot(vm, i, r, r->size, err);
}

int vm_remove_region(const struct vm *vm, const struct guest_mem *mem, unsigned i, struct err *err)
{
	const struct guest_region *r = &mem->regions[i];

	return r->base == GUEST_NOWHERE ? 0 : set_slot(vm, i, r, 0, err);
}

int vm_add_memory(const struct vm *vm, const struct guest_mem *mem, struct err *err)
{
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < mem->n; i++)
		rc = vm_add_region(vm, mem, i, err);
	return rc;
}

int vm_log(struct vm *vm, const struct guest_mem *mem, bool on, struct err *err)
{
	vm->logs = on;
	return vm_add_memory(vm, mem, err);
}

int vm_dirty(const struct vm *vm, unsigned region, uint64_t *pages, struct err *err)
{
	struct kvm_dirty_log log = {.slot = region, .dirty_bitmap = pages};
	int rc = call(vm, KVM_GET_DIRTY_LOG, &log);

	return rc < 0 ? refused(vm, rc, "to say what was written", err) : 0;
}

int vm_remove_memory(const struct vm *vm, const struct guest_mem *mem, struct err *err)
{
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < mem->n; i++)
		rc = vm_remove_region(vm, mem, i, err);
	return rc;
}

union routes {
	struct kvm_irq_routing head; /* with its entries behind it */
	uint8_t room[sizeof(struct kvm_irq_routing) +
		     (IOAPIC_INPUTS + 16) * sizeof(struct kvm_irq_routing_entry)];
};

static void route(union routes *r, unsigned gsi, unsigned chip, unsigned pin)
{
	r->head.entries[r->head.nr++] = (struct kvm_irq_routing_entry){
		.gsi = gsi,
		.type = KVM_IRQ_ROUTING_IRQCHIP,
		.u.irqchip = {.irqchip = chip, .pin = pin},
	};
}

static int set_routes(const struct vm *vm, struct err *err)
{
	union routes r;
	int rc;

	memset(&r, 0, sizeof(r));
	for (unsigned gsi = 0; gsi < IOAPIC_INPUTS; gsi++) {
		if (gsi == 2)
			continue;
		if (gsi < 8)
			route(&r, gsi, KVM_IRQCHIP_PIC_MASTER, gsi);
		else if (gsi < 16)
			route(&r, gsi, KVM_IRQCHIP_PIC_SLAVE, gsi - 8);
		route(&r, gsi, KVM_IRQCHIP_IOAPIC, gsi ? gsi : 2);
	}
	rc = call(vm, KVM_SET_GSI_ROUTING, &r);
	return rc < 0 ? refused(vm, rc, "interrupt routing", err) : 0;
}

static int add_chips(const struct vm *vm, struct err *err)
{
	struct kvm_pit_config pit = {.flags = KVM_PIT_SPEAKER_DUMMY};
	int rc = call(vm, KVM_CREATE_IRQCHIP, NULL);

	if (rc < 0)
		return refused(vm, rc, "interrupt controllers", err);
	rc = call(vm, KVM_CREATE_PIT2, &pit);
	if (rc < 0)
		return refused(vm, rc, "a timer chip", err);
	return set_routes(vm, err);
}

int vm_open(struct vm *vm, const struct guest_mem *mem, uint64_t pages, struct err *err)
{
	int rc;

	if ((rc = create_vm(vm, err)) < 0 ||
	    (rc = set_intel_pages(vm, pages, err)) < 0 ||
	    (rc = add_chips(vm, err)) < 0 ||
	    (rc = vm_add_memory(vm, mem, err)) < 0) {
		vm_close(vm);
		return rc;
	}
	return 0;
}

void vm_close(struct vm *vm)
{
	if (vm->fd >= 0)
		vm->face->close(vm->fd);
	vm->fd = -1;
}

void vm_irq(void *ctx, unsigned gsi, bool level)
{
	const struct vm *vm = ctx;
	struct kvm_irq_level line = {.irq = gsi, .level = level};

	if (vm->fd >= 0)
		call(vm, KVM_IRQ_LINE, &line);
}

void vm_replace_pit(const struct vm *vm, bool on)
{
	struct kvm_pit_state2 pit;

	if (vm->fd < 0 || call(vm, KVM_GET_PIT2, &pit) < 0)
		return;
	pit.flags = on ? pit.flags | KVM_PIT_FLAGS_HPET_LEGACY : pit.flags & ~(unsigned)KVM_PIT_FLAGS_HPET_LEGACY;
	call(vm, KVM_SET_PIT2, &pit);
}

void vm_msi(void *ctx, uint64_t addr, uint32_t data)
{
	const struct vm *vm = ctx;
	struct kvm_msi msi = {
		.address_lo = (uint32_t)addr,
		.address_hi = (uint32_t)(addr >> 32),
		.data = data,
	};

	/* A message to an APIC that is off is lost, as on hardware. */
	if (vm->fd >= 0)
		call(vm, KVM_SIGNAL_MSI, &msi);
}

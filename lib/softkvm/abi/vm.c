/* SPDX-License-Identifier: MIT */
/*
 * VMs: life, and the requests to their descriptors.
 *
 * References. A VM lives while a descriptor of it or of one of its vCPUs is open. Its vCPUs
 * live as long as it does, also when their descriptors were closed, as in the kernel: other
 * vCPUs and the interrupt controllers may still mean them. vm_end() undoes everything in the
 * opposite order of making, and takes a half-made VM.
 *
 * Locks. vm_abi.lock covers what happens rarely: slots, making vCPUs and chips. KVM_RUN never
 * takes it, so slots_changed() may wait for running vCPUs with it held. The interrupt
 * controllers have their own locks, and lines and MSIs take no other.
 */
#include "softkvm/abi/vm.h"
#include "softkvm/hooks.h"

#include "base/macros.h"
#include "softkvm/irqchip/irqchip.h"
#include "softkvm/run/run.h"
#include "softkvm/state/clock.h"
#include "softkvm/state/cpuid.h"
#include "softkvm/state/msr_filter.h"
#include "softkvm/state/reset.h"
#include "softkvm/state/slots.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

/* Address space below a struct vcpu for its engine: jumps reach 2 GiB, blocks need less. */
#define ARENA_BYTES (256ull << 20)

/* -- life -------------------------------------------------------------------------------- */

#define VCPU_MAP_BYTES (ARENA_BYTES + (64u << 10) + align_up(VCPU_AT + sizeof(struct vcpu), 4096))

static struct vcpu *vcpu_map(void)
{
	uint8_t *arena = mmap(NULL, VCPU_MAP_BYTES, PROT_NONE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	uint64_t end = align_up((uintptr_t)arena + ARENA_BYTES, 64u << 10);
	struct vcpu *c = (void *)(uintptr_t)(end + VCPU_AT);

	if (arena == MAP_FAILED)
		return NULL;
	if (mprotect((void *)(uintptr_t)end, VCPU_AT + sizeof(*c), PROT_READ | PROT_WRITE)) {
		munmap(arena, VCPU_MAP_BYTES);
		return NULL;
	}
	c->arena = arena;
	c->arena_len = ARENA_BYTES;
	return c;
}

static void vcpu_end(struct vcpu *c)
{
	engine_destroy(c);
	lapic_destroy(c);
	if (c->run)
		munmap(c->run, RUN_BYTES);
	if (c->abi)
		pthread_mutex_destroy(&vcpu_abi(c)->lock);
	free(c->abi);
	munmap(c->arena, VCPU_MAP_BYTES);
}

static void vm_end(struct vm *vm)
{
	struct vm_abi *abi = vm->abi;
	int n = atomic_load(&vm->n_vcpus);

	ioeventfd_destroy(vm);
	if (vm->irqchip)
		irqchip_destroy(vm); /* while the vCPUs that irqfds kick still exist */
	for (int i = 0; i < n; i++)
		vcpu_end(vm->vcpu[i]);
	slots_destroy(vm);
	msr_filter_destroy(vm);
	pthread_mutex_destroy(&abi->lock);
	free(abi);
	free(vm);
}

int vm_create(struct vm **out)
{
	struct vm *vm = calloc(1, sizeof(*vm));
	struct vm_abi *abi = calloc(1, sizeof(*abi));

	if (!vm || !abi || slots_create(vm)) {
		free(vm);
		free(abi);
		return -ENOMEM;
	}
	vm->abi = abi;
	vm->host_tsc_khz = host_tsc_khz();
	vm->tsc_khz = (uint32_t)vm->host_tsc_khz;
	kvmclock_set(vm, 0);
	atomic_store(&abi->refs, 1);
	pthread_mutex_init(&abi->lock, NULL);
	*out = vm;
	return 0;
}

void vm_get(struct vm *vm)
{
	atomic_fetch_add(&vm_abi(vm)->refs, 1);
}

void vm_put(struct vm *vm)
{
	if (atomic_fetch_sub(&vm_abi(vm)->refs, 1) == 1)
		vm_end(vm);
}

static struct vcpu *find_vcpu(struct vm *vm, uint32_t id)
{
	for (int i = 0; i < atomic_load(&vm->n_vcpus); i++)
		if (vm->vcpu[i]->id == id)
			return vm->vcpu[i];
	return NULL;
}

/* KVM's own CPUs know no features until told; these can do all that is supported. */
static void cpuid_default(struct vcpu *c)
{
	unsigned n = cpuid_supported(c->cpuid, ARRAY_SIZE(c->cpuid));

	cpuid_set(c, c->cpuid, n);
	c->n_cpuid = 0;
}

static int vcpu_fill(struct vcpu *c)
{
	int rc;

	c->abi = calloc(1, sizeof(struct vcpu_abi));
	if (!c->abi)
		return -ENOMEM;
	pthread_mutex_init(&vcpu_abi(c)->lock, NULL);
	cpuid_default(c);
	rc = c->vm->irqchip ? lapic_create(c) : 0;
	if (rc)
		return rc;
	vcpu_reset(c);
	return engine_create(c);
}

/* A vCPU in power-on state, that nobody sees yet and that has no kvm_run. */
static int vcpu_create(struct vm *vm, uint32_t id, struct vcpu **out)
{
	struct vcpu *c;
	int rc;

	if (id >= (uint32_t)cap_check(KVM_CAP_MAX_VCPU_ID) ||
	    atomic_load(&vm->n_vcpus) == VCPUS_MAX || (vm_abi(vm)->max_ids && id >= vm_abi(vm)->max_ids))
		return -EINVAL;
	if (find_vcpu(vm, id))
		return -EEXIST;
	c = vcpu_map();
	if (!c)
		return -ENOMEM;
	c->vm = vm;
	c->id = id;
	c->place = (unsigned)atomic_load(&vm->n_vcpus);
	c->tsc_khz = vm->tsc_khz;
	if (!c->place)
		vm->tsc_offset = -host_tsc(); /* it counts from 0, and others are in step with it */
	rc = vcpu_fill(c);
	if (rc) {
		vcpu_end(c);
		return rc;
	}
	*out = c;
	return 0;
}

/* From now on others see it. With the VM's lock held. */
static void vcpu_publish(struct vcpu *c)
{
	c->vm->vcpu[c->place] = c;
	atomic_store(&c->vm->n_vcpus, (int)c->place + 1);
}

/* -- requests: vCPUs ----------------------------------------------------------------------- */

static int vcpu_open(struct vm *vm, uint32_t id)
{
	struct vcpu *c;
	int fd, rc = vcpu_create(vm, id, &c);

	if (rc)
		return rc;
	vm_get(vm);
	fd = object_open(OBJECT_VCPU, vm, c, RUN_BYTES);
	if (fd < 0) {
		vcpu_end(c);
		vm_put(vm);
		return fd;
	}
	c->run = mmap(NULL, RUN_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (c->run == MAP_FAILED) {
		c->run = NULL;
		vcpu_end(c);
		object_close(fd);
		return -ENOMEM;
	}
	vcpu_publish(c);
	return fd;
}

static int create_vcpu(struct object *o, void *arg)
{
	struct vm *vm = o->vm;
	int rc;

	if ((unsigned long)arg > UINT32_MAX)
		return -EINVAL;
	pthread_mutex_lock(&vm_abi(vm)->lock);
	rc = vcpu_open(vm, (uint32_t)(unsigned long)arg);
	pthread_mutex_unlock(&vm_abi(vm)->lock);
	return rc;
}

static int set_boot_cpu_id(struct object *o, void *arg)
{
	if (atomic_load(&o->vm->n_vcpus))
		return -EBUSY;
	o->vm->boot_cpu_id = (uint32_t)(unsigned long)arg;
	return 0;
}

/* -- requests: memory ---------------------------------------------------------------------- */

/* Runs a function of (vm, arg) under the VM's lock. */
#define LOCKED(name, function, type)                                                       \
	static int name(struct object *o, void *arg)                                       \
	{                                                                                  \
		const type *a = arg;                                                       \
		int rc;                                                                    \
                                                                                           \
		pthread_mutex_lock(&vm_abi(o->vm)->lock);                                  \
		rc = function(o->vm, a);                                                   \
		pthread_mutex_unlock(&vm_abi(o->vm)->lock);                                \
		return rc;                                                                 \
	}

LOCKED(set_user_memory_region, slots_set, struct kvm_userspace_memory_region)
LOCKED(get_dirty_log, slots_dirty_get, struct kvm_dirty_log)
LOCKED(clear_dirty_log, slots_dirty_clear, struct kvm_clear_dirty_log)

/* Where the kernel keeps a TSS and page tables for old Intel CPUs' real mode; not needed here. */
static int set_tss_addr(struct object *o, void *arg)
{
	(void)o;
	return (unsigned long)arg > UINT32_MAX - 3 * 4096 ? -EINVAL : 0;
}

static int set_identity_map_addr(struct object *o, void *arg)
{
	(void)arg;
	return atomic_load(&o->vm->n_vcpus) ? -EINVAL : 0;
}

/* -- requests: interrupts ------------------------------------------------------------------ */

static int irqchip_make(struct vm *vm, const void *unused)
{
	(void)unused;
	if (vm->irqchip)
		return -EEXIST;
	if (atomic_load(&vm->n_vcpus))
		return -EINVAL; /* vCPUs get their local APIC when they are made */
	return irqchip_create(vm);
}

static int pit_make(struct vm *vm, const struct kvm_pit_config *config)
{
	return pit_create(vm, config);
}

LOCKED(create_irqchip, irqchip_make, void)
LOCKED(create_pit2, pit_make, struct kvm_pit_config)

static int create_pit(struct object *o, void *arg)
{
	static const struct kvm_pit_config config = {.flags = KVM_PIT_SPEAKER_DUMMY};

	(void)arg;
	return create_pit2(o, (void *)&config);
}

static int irq_line(struct object *o, void *arg)
{
	const struct kvm_irq_level *level = arg;
	int rc = o->vm->irqchip ? irqchip_line(o->vm, level->irq, level->level != 0, 0) : -ENXIO;

	return rc < 0 ? rc : 0;
}

static int irq_line_status(struct object *o, void *arg)
{
	struct kvm_irq_level *level = arg;
	int rc = o->vm->irqchip ? irqchip_line(o->vm, level->irq, level->level != 0, 0) : -ENXIO;

	if (rc < 0)
		return rc;
	level->status = rc;
	return 0;
}

static int set_gsi_routing(struct object *o, void *arg)
{
	const struct kvm_irq_routing *routing = arg;

	if (!o->vm->irqchip || routing->flags)
		return -EINVAL;
	if (routing->nr > (uint32_t)cap_check(KVM_CAP_IRQ_ROUTING))
		return -EINVAL;
	return irqchip_set_routing(o->vm, routing, routing->entries);
}

static int signal_msi(struct object *o, void *arg)
{
	return o->vm->irqchip ? irqchip_msi(o->vm, arg) : -EINVAL;
}

static int set_irqfd(struct object *o, void *arg)
{
	return o->vm->irqchip ? irqchip_irqfd(o->vm, arg) : -EINVAL;
}

static int set_ioeventfd(struct object *o, void *arg)
{
	return ioeventfd_set(o->vm, arg);
}

static int get_irqchip(struct object *o, void *arg)
{
	return irqchip_get(o->vm, arg);
}

static int set_irqchip(struct object *o, void *arg)
{
	return irqchip_set(o->vm, arg);
}

static int get_pit2(struct object *o, void *arg)
{
	return irqchip_has_pic(o->vm) ? pit_get(o->vm, arg) : -ENXIO;
}

static int set_pit2(struct object *o, void *arg)
{
	return irqchip_has_pic(o->vm) ? pit_set(o->vm, arg) : -ENXIO;
}

/* Whether PIT ticks that the guest missed are made up for. */
static int reinject_control(struct object *o, void *arg)
{
	const struct kvm_reinject_control *control = arg;

	return pit_reinject(o->vm, control->pit_reinject);
}

/* -- requests: time ------------------------------------------------------------------------ */

static int get_clock(struct object *o, void *arg)
{
	struct kvm_clock_data *data = arg;

	*data = (struct kvm_clock_data){
		.clock = kvmclock_now(o->vm),
		.flags = KVM_CLOCK_TSC_STABLE | KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC,
		.realtime = sys_clock_ns(CLOCK_REALTIME),
		.host_tsc = host_tsc(),
	};
	return 0;
}

static int clock_set(struct vm *vm, const struct kvm_clock_data *data)
{
	uint64_t ns = data->clock;

	if (data->flags & ~(KVM_CLOCK_REALTIME | KVM_CLOCK_TSC_STABLE | KVM_CLOCK_HOST_TSC))
		return -EINVAL;
	if (data->flags & KVM_CLOCK_REALTIME) {
		uint64_t now = sys_clock_ns(CLOCK_REALTIME);

		if (now > data->realtime)
			ns += now - data->realtime;
	}
	kvmclock_set(vm, ns);
	for (int i = 0; i < atomic_load(&vm->n_vcpus); i++)
		vcpu_kick(vm->vcpu[i], REQ_CLOCK);
	return 0;
}

LOCKED(set_clock, clock_set, struct kvm_clock_data)

/* KVM_SET_TSC_KHZ, KVM_GET_TSC_KHZ of a VM: the TSC is the host's. */
static int set_tsc_khz(struct object *o, void *arg)
{
	(void)o;
	return !arg || tsc_khz_is_ours((unsigned long)arg) ? 0 : -EINVAL;
}

static int get_tsc_khz(struct object *o, void *arg)
{
	(void)arg;
	return (int)o->vm->tsc_khz;
}

/* -- requests: the rest -------------------------------------------------------------------- */

static int check_extension(struct object *o, void *arg)
{
	(void)o;
	return cap_check((long)arg);
}

/* Zones whose writes may be collected in a ring. They may; they are not, the ring stays empty and
 * every write is an exit of its own. */
static int coalesced_zone(struct object *o, void *arg)
{
	const struct kvm_coalesced_mmio_zone *zone = arg;

	(void)o;
	return zone->pio > 1 ? -EINVAL : 0;
}

#define MSR_EXIT_REASONS \
	(KVM_MSR_EXIT_REASON_INVAL | KVM_MSR_EXIT_REASON_UNKNOWN | KVM_MSR_EXIT_REASON_FILTER)

/* The client will give no ids from this one on: said once. */
static int limit_ids(struct vm *vm, uint64_t most)
{
	struct vm_abi *abi = vm_abi(vm);

	if (most > (uint64_t)cap_check(KVM_CAP_MAX_VCPU_ID) || (abi->max_ids && abi->max_ids != most))
		return -EINVAL;
	abi->max_ids = (uint32_t)most;
	return 0;
}

/* Shadow page tables, of which there are none: what was asked for is remembered. */
static int set_nr_mmu_pages(struct object *o, void *arg)
{
	if ((unsigned long)arg < 64)
		return -EINVAL;
	atomic_store(&vm_abi(o->vm)->mmu_pages, (uint32_t)(unsigned long)arg);
	return 0;
}

static int get_nr_mmu_pages(struct object *o, void *arg)
{
	(void)arg;
	return (int)atomic_load(&vm_abi(o->vm)->mmu_pages);
}

LOCKED(set_msr_filter, msr_filter_set, struct kvm_msr_filter)

static int cap_enable(struct vm *vm, const struct kvm_enable_cap *cap)
{
	if (cap->flags)
		return -EINVAL;
	switch (cap->cap) {
	case KVM_CAP_X2APIC_API:
		return irqchip_x2apic_api(vm, cap->args[0]);
	case KVM_CAP_X86_USER_SPACE_MSR:
		if (cap->args[0] & ~(uint64_t)MSR_EXIT_REASONS)
			return -EINVAL;
		vm->msr_exits = (uint32_t)cap->args[0];
		return 0;
	case KVM_CAP_MAX_VCPU_ID:
		return limit_ids(vm, cap->args[0]);
	case KVM_CAP_SPLIT_IRQCHIP:
		return irqchip_create_split(vm, cap->args[0]);
	}
	return -EINVAL;
}

LOCKED(enable_cap, cap_enable, struct kvm_enable_cap)

static const struct request requests[] = {
	REQUEST(KVM_CHECK_EXTENSION, check_extension),
	REQUEST(KVM_ENABLE_CAP, enable_cap),
	REQUEST(KVM_X86_SET_MSR_FILTER, set_msr_filter),
	REQUEST(KVM_SET_NR_MMU_PAGES, set_nr_mmu_pages),
	REQUEST(KVM_GET_NR_MMU_PAGES, get_nr_mmu_pages),
	REQUEST(KVM_CREATE_VCPU, create_vcpu),
	REQUEST(KVM_SET_BOOT_CPU_ID, set_boot_cpu_id),
	REQUEST(KVM_SET_USER_MEMORY_REGION, set_user_memory_region),
	REQUEST(KVM_GET_DIRTY_LOG, get_dirty_log),
	REQUEST(KVM_CLEAR_DIRTY_LOG, clear_dirty_log),
	REQUEST(KVM_REGISTER_COALESCED_MMIO, coalesced_zone),
	REQUEST(KVM_UNREGISTER_COALESCED_MMIO, coalesced_zone),
	REQUEST(KVM_SET_TSS_ADDR, set_tss_addr),
	REQUEST(KVM_SET_IDENTITY_MAP_ADDR, set_identity_map_addr),
	REQUEST(KVM_CREATE_IRQCHIP, create_irqchip),
	REQUEST(KVM_IRQ_LINE, irq_line),
	REQUEST(KVM_IRQ_LINE_STATUS, irq_line_status),
	REQUEST(KVM_SET_GSI_ROUTING, set_gsi_routing),
	REQUEST(KVM_SIGNAL_MSI, signal_msi),
	REQUEST(KVM_IRQFD, set_irqfd),
	REQUEST(KVM_IOEVENTFD, set_ioeventfd),
	REQUEST(KVM_GET_IRQCHIP, get_irqchip),
	REQUEST(KVM_SET_IRQCHIP, set_irqchip),
	REQUEST(KVM_CREATE_PIT, create_pit),
	REQUEST(KVM_CREATE_PIT2, create_pit2),
	REQUEST(KVM_GET_PIT2, get_pit2),
	REQUEST(KVM_SET_PIT2, set_pit2),
	REQUEST(KVM_REINJECT_CONTROL, reinject_control),
	REQUEST(KVM_GET_CLOCK, get_clock),
	REQUEST(KVM_SET_CLOCK, set_clock),
	REQUEST(KVM_SET_TSC_KHZ, set_tsc_khz),
	REQUEST(KVM_GET_TSC_KHZ, get_tsc_khz),
};

int vm_ioctl(struct object *o, unsigned long request, void *arg)
{
	return request_call(requests, ARRAY_SIZE(requests), o, request, arg, -ENOTTY);
}

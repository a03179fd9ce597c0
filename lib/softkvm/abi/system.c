/* SPDX-License-Identifier: MIT */
/*
 * Requests to the system descriptor, the one that open("/dev/kvm") gives.
 */
#include "softkvm/abi/vm.h"

#include "base/macros.h"
#include "softkvm/state/cpuid.h"
#include "softkvm/state/msr.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>

#define LIST_MAX 256

static int get_api_version(struct object *o, void *arg)
{
	(void)o;
	return arg ? -EINVAL : KVM_API_VERSION;
}

static int create_vm(struct object *o, void *arg)
{
	struct vm *vm;
	int rc;

	(void)o;
	if (arg)
		return -EINVAL; /* only the default machine type */
	rc = vm_create(&vm);
	if (rc)
		return rc;
	rc = object_open(OBJECT_VM, vm, NULL, 0);
	if (rc < 0)
		vm_put(vm);
	return rc;
}

static int check_extension(struct object *o, void *arg)
{
	(void)o;
	return cap_check((long)arg);
}

static int get_vcpu_mmap_size(struct object *o, void *arg)
{
	(void)o;
	return arg ? -EINVAL : RUN_BYTES;
}

static int get_supported_cpuid(struct object *o, void *arg)
{
	struct kvm_cpuid2 *list = arg;
	unsigned n;

	(void)o;
	n = cpuid_supported(list->entries, list->nent);
	if (n > list->nent)
		return -E2BIG;
	list->nent = n;
	return 0;
}

/* What only emulation gives, beyond the supported list: nothing. */
static int get_emulated_cpuid(struct object *o, void *arg)
{
	struct kvm_cpuid2 *list = arg;

	(void)o;
	list->nent = 0;
	return 0;
}

static int get_msr_list(struct kvm_msr_list *list, bool feature)
{
	unsigned room = list->nmsrs;

	list->nmsrs = msr_list(NULL, 0, feature);
	if (room < list->nmsrs)
		return -E2BIG;
	msr_list(list->indices, list->nmsrs, feature);
	return 0;
}

static int get_msr_index_list(struct object *o, void *arg)
{
	(void)o;
	return get_msr_list(arg, false);
}

static int get_msr_feature_index_list(struct object *o, void *arg)
{
	(void)o;
	return get_msr_list(arg, true);
}

/* Feature MSRs, asked of the system: how many of the list could be had. */
static int get_msrs(struct object *o, void *arg)
{
	struct kvm_msrs *list = arg;
	unsigned i;

	(void)o;
	if (list->nmsrs > LIST_MAX)
		return -E2BIG;
	for (i = 0; i < list->nmsrs; i++) {
		uint64_t value;

		if (msr_feature(list->entries[i].index, &value) < 0)
			break;
		list->entries[i].data = value;
	}
	return (int)i;
}

static int get_mce_cap(struct object *o, void *arg)
{
	(void)o;
	*(uint64_t *)arg = MCG_CAP;
	return 0;
}

static const struct request requests[] = {
	REQUEST(KVM_GET_API_VERSION, get_api_version),
	REQUEST(KVM_CREATE_VM, create_vm),
	REQUEST(KVM_CHECK_EXTENSION, check_extension),
	REQUEST(KVM_GET_VCPU_MMAP_SIZE, get_vcpu_mmap_size),
	REQUEST(KVM_GET_SUPPORTED_CPUID, get_supported_cpuid),
	REQUEST(KVM_GET_EMULATED_CPUID, get_emulated_cpuid),
	REQUEST(KVM_GET_MSR_INDEX_LIST, get_msr_index_list),
	REQUEST(KVM_GET_MSR_FEATURE_INDEX_LIST, get_msr_feature_index_list),
	REQUEST(KVM_GET_MSRS, get_msrs),
	REQUEST(KVM_X86_GET_MCE_CAP_SUPPORTED, get_mce_cap),
};

int system_ioctl(struct object *o, unsigned long request, void *arg)
{
	return request_call(requests, ARRAY_SIZE(requests), o, request, arg, -EINVAL);
}

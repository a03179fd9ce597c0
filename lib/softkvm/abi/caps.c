/* SPDX-License-Identifier: MIT */
/*
 * KVM_CHECK_EXTENSION: what softkvm can, by the numbers of <linux/kvm.h>. caps.def has the table; what is not in it is 0, and clients
 * do without, as they do with older kernels.
 */
#include "softkvm/abi/vm.h"
#include "softkvm/softkvm.h"

#include "base/macros.h"

#include <linux/kvm.h>

static const struct softkvm_cap caps[] = {
#define CAP(name, value, text) {KVM_CAP_##name, value, #name, text},
#include "softkvm/abi/caps.def"
#undef CAP
};

int cap_check(long cap)
{
	for (unsigned i = 0; i < ARRAY_SIZE(caps); i++)
		if (caps[i].number == cap)
			return caps[i].value;
	return 0;
}

unsigned softkvm_caps(const struct softkvm_cap **table)
{
	*table = caps;
	return ARRAY_SIZE(caps);
}

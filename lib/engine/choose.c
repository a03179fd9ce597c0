/* SPDX-License-Identifier: MIT */
/*
 * Choosing an engine. The hardware one is taken only after its probe, also when it was asked
 * for by name: a kernel that dies without a word in a half-working KVM is worse than a
 * refusal. The software one is not probed on each start, it is our own; that it opens on
 * this CPU is enough.
 *
 * A choice always comes with its reason, because the same command may be fast on one
 * machine and slow on the next, and the person in front of it should not have to guess.
 */
#include "engine/choose.h"

#include "base/err.h"
#include "engine/kvm.h"
#include "engine/probe.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static int take_kvm(struct engine_choice *choice, struct probe_report *r)
{
	probe_engine(&kvm_host, r);
	if (r->fault)
		return -ENODEV;
	choice->face = &kvm_host;
	snprintf(choice->why, sizeof(choice->why),
		 "kvm, hardware virtualization works here");
	return 0;
}

static int take_soft(struct engine_choice *choice, const char *why, struct err *err)
{
	int sys = kvm_soft.open(err);

	if (sys < 0) {
		if (err)
			err->code = ENODEV; /* whatever it was: the caller decides by it */
		return err_at(err, -ENODEV, "engine 'soft' cannot be used");
	}
	kvm_soft.close(sys);
	choice->face = &kvm_soft;
	snprintf(choice->why, sizeof(choice->why), "soft, %s", why);
	return 0;
}

int engine_choose(const char *name, struct engine_choice *choice, struct err *err)
{
	struct probe_report r;
	char why[sizeof(choice->why)];

	if (strcmp(name, "soft") == 0)
		return take_soft(choice, "as you asked", err);
	if (strcmp(name, "kvm") != 0 && strcmp(name, "auto") != 0)
		return err_set(err, EINVAL, "engine '%s' is not one of auto, kvm, soft",
			       name);
	if (take_kvm(choice, &r) == 0)
		return 0;
	if (strcmp(name, "kvm") == 0)
		return err_set(err, ENODEV, "engine 'kvm' cannot be used (%s): %s",
			       probe_fault_name(r.fault), r.text);
	snprintf(why, sizeof(why), "because kvm does not work here (%s): %s",
		 probe_fault_name(r.fault), r.text);
	return take_soft(choice, why, err);
}

/* SPDX-License-Identifier: MIT */
/*
 * Which engine a guest gets: --engine auto, kvm or soft.
 */
#ifndef ENGINE_CHOOSE_H
#define ENGINE_CHOOSE_H

struct err;
struct kvm_face;

struct engine_choice {
	const struct kvm_face *face;
	char why[384]; /* for the notice line: "soft, because ..." */
};

/* -EINVAL: there is no engine of that name; -ENODEV: it cannot be used, and err says why. */
int engine_choose(const char *name, struct engine_choice *choice, struct err *err);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Which engine a guest gets: --engine auto, kvm or soft.
 *
 *	struct engine_choice choice;
 *
 *	if (engine_choose("auto", &choice, &err) < 0)
 *		return err.code;
 *	log_note("engine", "%s", choice.why);
 *	sys = choice.face->open(&err);
 *
 * It takes up to PROBE_MS milliseconds of CPU time (engine/probe.h). Any thread.
 */
#ifndef ENGINE_CHOOSE_H
#define ENGINE_CHOOSE_H

struct err;
struct kvm_face;

struct engine_choice {
	const struct kvm_face *face;
	char why[384]; /* the notice: "soft, because ..." */
};

/* 0 and *choice; -EINVAL: there is no engine of that name; -ENODEV: it cannot be used, and err
 * says why, as a sentence. */
int engine_choose(const char *name, struct engine_choice *choice, struct err *err);

#endif

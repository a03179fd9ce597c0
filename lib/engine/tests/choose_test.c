/* SPDX-License-Identifier: MIT */
/*
 * Choosing an engine: names and reasons.
 */
#include "base/err.h"
#include "engine/choose.h"
#include "engine/kvm.h"
#include "engine/probe.h"
#include "tests/tap.h"

#include <errno.h>

static void test_names(void)
{
	for (enum probe_fault f = PROBE_OK; f < PROBE_FAULTS; f++) {
		const char *name = probe_fault_name(f);

		ok(name && name[0] && !strpbrk(name, " _ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
		   "reason %d has a name for scripts: %s", f, name ? name : "none");
	}
	is_str(kvm_exit_name(2), "IO", "exit 2");
	ok(!kvm_exit_name(9999), "an exit from the future has no name");
}

static void test_choice(void)
{
	struct engine_choice choice;
	struct err err = {0};
	struct probe_report r;

	is_int(engine_choose("tcg", &choice, &err), -EINVAL, "no such engine: %s",
	       err.text);
	probe_engine(&kvm_host, &r);
	ok(r.text[0], "kvm in words: %s", r.text);
	if (r.fault) {
		is_int(engine_choose("kvm", &choice, &err), -ENODEV, "%s", err.text);
		ok(strstr(err.text, probe_fault_name(r.fault)) != NULL,
		   "with the typed reason");
	}
	if (engine_choose("soft", &choice, &err) < 0) {
		skip("soft: %s", err.text);
		return;
	}
	ok(choice.face == &kvm_soft, "soft is soft");
	is_int(engine_choose("auto", &choice, &err), 0, "auto finds one");
	ok(choice.face == (r.fault ? &kvm_soft : &kvm_host), "the better one: %s",
	   choice.why);
}

int main(void)
{
	test_names();
	test_choice();
	return done_testing();
}

/* SPDX-License-Identifier: MIT */
/* lodge restore: a guest from where `lodge save` has put it, with its console on this terminal. */
#include "lodge.h"

#include "base/err.h"
#include "launch.h"
#include "machine/saved.h"

#include <errno.h>

struct restore {
	const char *file;
	struct launch launch;
};

/* Where the machine comes from. */
struct source {
	const char *file;
	struct saved *saved;
};

static const struct restore defaults = {.launch = LAUNCH_DEFAULTS};

static const struct option options[] = {
	LAUNCH_OPTIONS(offsetof(struct restore, launch)),
	{0},
};

static int configure(void *source, struct machine_config *config, struct launch_disks *disks,
		     struct err *err)
{
	struct source *r = source;
	int rc;

	if (!r->file)
		return err_set(err, ERANGE, "the file is missing: lodge restore FILE");
	rc = saved_open(&r->saved, r->file, err);
	return rc < 0 ? rc : launch_saved(r->saved, config, disks, err);
}

int launch_file(const struct launch *l, const char *file)
{
	struct source source = {.file = file};
	int code = launch(l, configure, &source);

	saved_close(source.saved);
	return code;
}

static int restore_main(void *parsed)
{
	const struct restore *r = parsed;

	return launch_file(&r->launch, r->file);
}

const struct verb verb_restore = {
	.name = "restore",
	.summary = "a guest goes on from a file, with its console on this terminal",
	.text = "The console is as with `lodge run`. What the machine is, the file says; its disks are where\n"
		"they were, and as they were. Its engine may be another one, if that has all of the CPU's\n"
		"features. The file is only read, as the guest comes to need it: while it runs the file may be\n"
		"removed or replaced, but not written to.\n",
	.operand = "FILE",
	.n_operands = 1,
	.options = options,
	.size = sizeof(struct restore),
	.defaults = &defaults,
	.main = restore_main,
};

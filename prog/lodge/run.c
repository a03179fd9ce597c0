/* SPDX-License-Identifier: MIT */
/*
 * lodge run: a guest from files, here and now, with its console on this terminal.
 *
 * The order of things: parse; refuse what makes no sense and files that are not there; open
 * the disks; choose an engine and say which; make the machine; shut ourselves in; run it. What
 * is wrong with the command line is said first, so that a typing mistake does not come with a
 * lecture on virtualization.
 *
 * Nothing is opened once the guest runs: what it may need by then is opened before (lib/sandbox).
 */
#include "lodge.h"

#include "base/err.h"
#include "base/log.h"
#include "base/macros.h"
#include "base/size.h"
#include "block/disk.h"
#include "console.h"
#include "control.h"
#include "engine/cgroup.h"
#include "engine/choose.h"
#include "engine/kvm.h"
#include "machine/cpu/cpu.h"
#include "machine/machine.h"
#include "sandbox/sandbox.h"
#include "session.h"
#include "terminal.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DEFAULT_MEMORY  GiB
#define DEFAULT_CMDLINE "console=ttyS0"

struct run {
	const char *operand; /* none is taken */
	const char *kernel, *initrd, *append, *engine, *trace;
	unsigned cpus;
	struct cpu_model cpu;
	bool cpu_help; /* instead of a guest */
	uint64_t memory;
	bool has_memory; /* it was said, and may be 0 */
	struct disk_config disks[MACHINE_DISKS_MAX];
	unsigned n_disks;
	bool stats, no_reboot, virtio_console, no_sandbox;
};

/* -- Options ---------------------------------------------------------------------------- */

static int set_kernel(void *into, char *value, struct err *err)
{
	(void)err;
	((struct run *)into)->kernel = value;
	return 0;
}

static int set_initrd(void *into, char *value, struct err *err)
{
	(void)err;
	((struct run *)into)->initrd = value;
	return 0;
}

static int set_append(void *into, char *value, struct err *err)
{
	(void)err;
	((struct run *)into)->append = value;
	return 0;
}

static int set_engine(void *into, char *value, struct err *err)
{
	if (strcmp(value, "auto") != 0 && strcmp(value, "kvm") != 0 &&
	    strcmp(value, "soft") != 0)
		return err_set(err, EINVAL, "--engine is auto, kvm or soft, not '%s'",
			       value);
	((struct run *)into)->engine = value;
	return 0;
}

static int set_cpus(void *into, char *value, struct err *err)
{
	char *end;
	unsigned long n = strtoul(value, &end, 10);

	if (value[0] < '0' || value[0] > '9' || *end || n < 1 || n > MACHINE_CPUS_MAX)
		return err_set(err, EINVAL, "--cpus is a number from 1 to %d, not '%s'",
			       MACHINE_CPUS_MAX, value);
	((struct run *)into)->cpus = (unsigned)n;
	return 0;
}

static int set_cpu(void *into, char *value, struct err *err)
{
	struct run *r = into;
	int rc = 0;

	r->cpu_help = strcmp(value, "help") == 0;
	if (!r->cpu_help)
		rc = cpu_model_parse(&r->cpu, value, err);
	return rc < 0 ? err_at(err, rc, "--cpu") : 0;
}

static int set_memory(void *into, char *value, struct err *err)
{
	struct run *r = into;
	int rc = size_parse(&r->memory, value, err);

	r->has_memory = rc == 0;
	return rc < 0 ? err_at(err, rc, "--memory") : 0;
}

/* FILE[,readonly=on|off]: what follows the last comma, if it has a '='. A file's name may
 * have commas. */
static int set_disk(void *into, char *value, struct err *err)
{
	struct run *r = into;
	struct disk_config *d = &r->disks[r->n_disks];
	char *comma = strrchr(value, ',');

	if (r->n_disks == MACHINE_DISKS_MAX)
		return err_set(err, EINVAL, "--disk: there can be %d at most",
			       MACHINE_DISKS_MAX);
	if (comma && strchr(comma, '=')) {
		d->readonly = strcmp(comma, ",readonly=on") == 0;
		if (!d->readonly && strcmp(comma, ",readonly=off") != 0)
			return err_set(
				err, EINVAL,
				"--disk: '%s' is not readonly=on or readonly=off",
				comma + 1);
		*comma = 0;
	}
	if (!value[0])
		return err_set(err, EINVAL, "--disk needs the name of a file");
	d->path = value;
	r->n_disks++;
	return 0;
}

static int set_console(void *into, char *value, struct err *err)
{
	if (strcmp(value, "serial") != 0 && strcmp(value, "virtio") != 0)
		return err_set(err, EINVAL, "--console is serial or virtio, not '%s'",
			       value);
	((struct run *)into)->virtio_console = strcmp(value, "virtio") == 0;
	return 0;
}

static int set_sandbox(void *into, char *value, struct err *err)
{
	if (strcmp(value, "on") != 0 && strcmp(value, "off") != 0)
		return err_set(err, EINVAL, "--sandbox is on or off, not '%s'", value);
	((struct run *)into)->no_sandbox = strcmp(value, "off") == 0;
	return 0;
}

static int set_stats(void *into, char *value, struct err *err)
{
	(void)value, (void)err;
	((struct run *)into)->stats = true;
	return 0;
}

static int set_no_reboot(void *into, char *value, struct err *err)
{
	(void)value, (void)err;
	((struct run *)into)->no_reboot = true;
	return 0;
}

static int set_trace(void *into, char *value, struct err *err)
{
	if (strcmp(value, "exits") != 0 && strncmp(value, "exits:", 6) != 0)
		return err_set(err, EINVAL, "--trace is exits or exits:FILE, not '%s'",
			       value);
	((struct run *)into)->trace = value;
	return 0;
}

static const struct option options[] = {
	{"--kernel", "FILE", "a bzImage, or an ELF file with a PVH entry", set_kernel},
	{"--initrd", "FILE", "its initial RAM disk", set_initrd},
	{"--append", "TEXT", "its command line (default: " DEFAULT_CMDLINE ")", set_append},
	{"--cpus", "N", "how many vCPUs (default: 1)", set_cpus},
	{"--cpu", "MODEL[,+F][,-F]...", "host, v1 to v4, or help (default: host)", set_cpu},
	{"--memory", "SIZE", "with a unit: 512M, 2G (default: 1G)", set_memory},
	{"--disk", "FILE[,readonly=on]", "a raw image; once for each disk", set_disk},
	{"--console", "serial|virtio", "ttyS0 or hvc0 (default: serial)", set_console},
	{"--engine", "auto|kvm|soft", "what runs the guest (default: auto)", set_engine},
	{"--sandbox", "on|off", "shut lodge in while the guest runs (default: on)", set_sandbox},
	{"--no-reboot", NULL, "end when the guest resets, or says that it panicked", set_no_reboot},
	{"--stats", NULL, "print counters on stderr at the end", set_stats},
	{"--trace", "exits[:FILE]", "a line for each exit, on stderr or in a file", set_trace},
	{0},
};

/* -- Parts ------------------------------------------------------------------------------ */

static int check(const struct run *r, const struct machine_config *config,
		 struct err *err)
{
	if (!r->kernel)
		return err_set(err, ERANGE,
			       "--kernel is missing: lodge run --kernel FILE");
	return machine_check(config, err);
}

static int open_disks(const struct run *r, struct machine_config *config,
		      struct err *err)
{
	for (unsigned i = 0; i < r->n_disks; i++) {
		int rc = disk_open(&config->disks[i], &r->disks[i], err);

		if (rc < 0)
			return rc;
		config->n_disks++;
	}
	return 0;
}

static int open_trace(const struct run *r, struct machine_config *config,
		      struct err *err)
{
	if (!r->trace)
		return 0;
	config->trace = stderr;
	if (r->trace[5] == ':') {
		config->trace = fopen(r->trace + 6, "we");
		if (!config->trace)
			return err_sys(err, errno, "--trace: %s", r->trace + 6);
		setvbuf(config->trace, NULL, _IOLBF, 0); /* for who watches a guest hang */
	}
	return 0;
}

static int choose(const struct run *r, struct machine_config *config, struct err *err)
{
	struct engine_choice choice;
	int rc;

	terminal_prepare();
	rc = engine_choose(r->engine ? r->engine : "auto", &choice, err);

	if (rc < 0)
		return rc;
	config->face = choice.face;
	log_note("engine", "%s", choice.why);
	return 0;
}

static int create(struct machine **m, const struct machine_config *config, struct err *err)
{
	char text[CGROUP_TEXT];

	if (cgroup_is_short("", config->memory, text))
		log_warn("memory", "%s", text);
	return machine_create(m, config, err);
}

static void print_stats(const struct machine *m)
{
	struct kvm_stat stats[256];
	int n = machine_stats(m, stats, (int)ARRAY_SIZE(stats));

	for (int i = 0; i < n && i < (int)ARRAY_SIZE(stats); i++)
		fprintf(stderr, "%-16s %14llu  %s\n", stats[i].name, stats[i].value,
			kvm_stat_text(stats[i].name));
}

/* -- The sandbox ------------------------------------------------------------------------ */

/* A sanitizer's runtime makes system calls of its own. */
#ifdef LODGE_SANITIZED
#define WHY_NO_SANDBOX(r) ((void)(r), "in a build with sanitizers")
#else
#define WHY_NO_SANDBOX(r) ((r)->no_sandbox ? "as you asked" : NULL)
#endif

static void enter_sandbox(const struct run *r, const struct kvm_face *face,
			  const struct control *control)
{
	const struct sandbox_config config = {
		.makes_code = face == &kvm_soft,
		.removes = control ? control_place(control) : NULL,
		.farewell = terminal_give_back,
	};
	char missing[SANDBOX_MISSING];

	if (WHY_NO_SANDBOX(r)) {
		log_note("sandbox", "off, %s", WHY_NO_SANDBOX(r));
		return;
	}
	sandbox_enter(&config, missing);
	if (missing[0])
		log_note("sandbox", "here without %s", missing);
}

/* -- The verb --------------------------------------------------------------------------- */

static int run_machine(const struct run *r, struct machine *m,
		       const struct machine_config *config, struct session *s)
{
	struct err err = {0};
	int code;

	/* A guest without a control socket is still a guest. */
	if (control_open(&s->control, m, config, &err) < 0)
		log_warn("control", "%s: lodge stats will not find this guest",
			 err.text);
	if (isatty(STDIN_FILENO))
		log_note("console", "Ctrl-] leaves");
	s->machine = m;
	s->output = terminal_output();
	enter_sandbox(r, config->face, s->control);
	code = session_run(s);
	if (s->output != STDOUT_FILENO)
		close(s->output);
	if (r->stats)
		print_stats(m);
	control_close(s->control);
	return code;
}

static int run_config(const struct run *r, struct machine_config *config,
		      struct session *s)
{
	struct machine *m = NULL;
	struct err err = {0};
	int code;

	if (check(r, config, &err) < 0 || open_trace(r, config, &err) < 0 ||
	    open_disks(r, config, &err) < 0 || choose(r, config, &err) < 0 ||
	    create(&m, config, &err) < 0)
		code = report_failure(&err);
	else
		code = run_machine(r, m, config, s);
	machine_destroy(m);
	for (unsigned i = 0; i < config->n_disks; i++)
		disk_close(config->disks[i]);
	if (config->trace && config->trace != stderr)
		fclose(config->trace);
	return code;
}

static int list_cpus(const struct run *r)
{
	struct machine_config config;
	struct err err = {0};

	if (choose(r, &config, &err) < 0 || cpu_list(config.face, stdout, &err) < 0)
		return report_failure(&err);
	return EXIT_OK;
}

static int run_main(void *parsed)
{
	struct run *r = parsed;
	static struct console console;
	struct session s = {.console = &console, .no_reboot = r->no_reboot};
	struct machine_config config = {
		.cpus = r->cpus ? r->cpus : 1,
		.cpu = &r->cpu,
		.memory = r->has_memory ? r->memory : DEFAULT_MEMORY,
		.kernel = r->kernel,
		.initrd = r->initrd,
		.cmdline = r->append ? r->append : DEFAULT_CMDLINE,
		.console = {
			.output = console_put,
			.input_room = console_input_room,
			.ctx = &console,
		},
		.panic = {.said = session_panic, .ctx = &s},
		.virtio_console = r->virtio_console,
	};
	int code;

	if (r->cpu_help)
		return list_cpus(r);
	if (!WHY_NO_SANDBOX(r))
		sandbox_prepare();
	s.signals = session_signals();
	if (s.signals < 0 || console_init(&console) < 0) {
		fprintf(stderr, "lodge: no descriptors left\n");
		return EXIT_FAILED;
	}
	code = run_config(r, &config, &s);
	console_fini(&console);
	close(s.signals);
	return code;
}

const struct verb verb_run = {
	.name = "run",
	.summary = "start a guest from files, with its console on this terminal",
	.text = "The console is the guest's first serial port. On a terminal it is raw, and Ctrl-]\n"
		"leaves, which switches the guest off. Otherwise its bytes go to stdout, and input is\n"
		"read from stdin to its end, which does not end the guest.\n\n"
		"The guest's power-off ends lodge with 0; its reset starts it again; a triple fault ends\n"
		"lodge with 1 and a sentence on stderr. A kernel panic is told on stderr, and the guest\n"
		"goes on: it may hang, reset, or start a crash kernel. With --no-reboot a panic that its\n"
		"pvpanic driver reports ends lodge with 1.\n",
	.options = options,
	.size = sizeof(struct run),
	.main = run_main,
};

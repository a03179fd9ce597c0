/* SPDX-License-Identifier: MIT */
/*
 * See launch.h. The order of things: what the machine is, and whether that makes sense and its files are
 * there; the name; the disks; the engine, and a line that says which; the machine; shut ourselves in;
 * run it. What is wrong with the command line is said first, so that a typing mistake does not come with
 * a lecture on virtualization.
 *
 * Nothing is opened once the guest runs: what it may need by then is opened before (lib/sandbox).
 *
 * The control socket is closed last, when the disks are: who waits there for the guest's end may use
 * them then.
 */
#include "launch.h"

#include "base/err.h"
#include "base/log.h"
#include "base/macros.h"
#include "command.h"
#include "console.h"
#include "control.h"
#include "display.h"
#include "engine/cgroup.h"
#include "engine/choose.h"
#include "engine/kvm.h"
#include "failure.h"
#include "guest/agent.h"
#include "machine/incoming.h"
#include "machine/saved.h"
#include "place.h"
#include "sandbox/sandbox.h"
#include "session.h"
#include "terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CD_BLOCK 2048u

/* -- Options ---------------------------------------------------------------------------- */

int launch_set_name(void *into, char *value, struct err *err)
{
	if (!place_is_name(value))
		return err_set(err, EINVAL,
			       "--name: '%s' is no name: letters, digits, '.', '_' and '-', with a "
			       "letter first, at most %d", value, PLACE_NAME_MAX - 1);
	((struct launch *)into)->name = value;
	return 0;
}

int launch_set_display(void *into, char *value, struct err *err)
{
	((struct launch *)into)->display = value;
	return display_check(value, err);
}

int launch_set_trace(void *into, char *value, struct err *err)
{
	if (strcmp(value, "exits") != 0 && strncmp(value, "exits:", 6) != 0)
		return err_set(err, EINVAL, "--trace is exits or exits:FILE, not '%s'",
			       value);
	((struct launch *)into)->trace = value;
	return 0;
}

const char *launch_path(const char *path)
{
	static char *paths[3 + MACHINE_DISKS_MAX + MACHINE_CDS_MAX]; /* the kernel, its initrd, a socket, disks and CDs */
	static unsigned n;
	char dir[PATH_MAX];

	if (!path || path[0] == '/' || !path[0] || disk_is_remote(path) || n == ARRAY_SIZE(paths) ||
	    !getcwd(dir, sizeof(dir)) || asprintf(&paths[n], "%s/%s", dir, path) < 0)
		return path;
	return paths[n++];
}

/* -- Parts ------------------------------------------------------------------------------ */

/* A reset loads the initrd again, so a machine from a file has it, too. */
static int add_agent(const struct launch *l, struct machine_config *config, struct err *err)
{
	bool has = config->port.name && strcmp(config->port.name, AGENT_PORT) == 0;

	if (l->command && !has)
		return err_set(err, EINVAL, "this machine has no port for an agent, which would run a command: it is to "
			       "be started with lodge run --agent, and saved");
	if (has) {
		config->initrd_more = launch_agent;
		config->initrd_more_len = (size_t)(launch_agent_end - launch_agent);
	}
	return 0;
}

static int open_trace(const struct launch *l, struct machine_config *config,
		      struct err *err)
{
	if (!l->trace)
		return 0;
	config->trace = stderr;
	if (l->trace[5] == ':') {
		config->trace = fopen(l->trace + 6, "we");
		if (!config->trace)
			return err_sys(err, errno, "--trace: %s", l->trace + 6);
		setvbuf(config->trace, NULL, _IOLBF, 0); /* for who watches a guest hang */
	}
	return 0;
}

/* A guest without a control socket is still a guest; one that nobody finds by its name is not what was
 * asked for. */
static int open_control(struct session *s, struct err *err)
{
	int rc = control_open(&s->control, s, err);

	if (rc < 0 && s->name)
		return err_at(err, rc, "--name");
	if (rc < 0)
		log_warn("control", "%s: no other verb will find this guest", err->text);
	return 0;
}

int launch_open_cd(struct disk **cd, const char *path, int fd, struct err *err)
{
	int rc = disk_open(cd, &(struct disk_config){.path = path, .fd = fd, .format = DISK_RAW, .readonly = true, .threads = 1}, err);

	if (rc == 0 && disk_info(*cd)->size < CD_BLOCK) {
		disk_close(*cd);
		*cd = NULL;
		return err_set(err, EINVAL, "disk '%s' is no CD: it has less than %u bytes", path, CD_BLOCK);
	}
	return rc;
}

static int open_cds(const struct launch_disks *disks, struct machine_config *config, struct err *err)
{
	static struct disk *cds[MACHINE_CDS_MAX];
	int rc = 0;

	config->cds = cds;
	for (unsigned i = 0; rc == 0 && i < disks->n_cds; i++) {
		if (disks->cds[i])
			rc = launch_open_cd(&cds[i], disks->cds[i], 0, err);
		config->cd_bus[i] = disks->cd_bus[i];
		config->n_cds++;
		if (rc == 0 && cds[i] && config->saved)
			rc = saved_check_cd(config->saved, i, cds[i], err);
	}
	return rc < 0 ? rc : machine_check_drives(config, err);
}

static int open_disks(const struct launch_disks *disks, struct machine_config *config,
		      struct err *err)
{
	for (unsigned i = 0; i < disks->n; i++) {
		int rc = disk_open(&config->disks[i], &disks->disks[i], err);

		if (rc < 0)
			return rc;
		config->disk_bus[i] = disks->bus[i];
		config->disk_spot[i] = disks->spot[i];
		config->n_disks++;
		if (config->saved)
			rc = saved_check_disk(config->saved, i, config->disks[i], err);
		if (rc < 0)
			return rc;
	}
	return open_cds(disks, config, err);
}

/* A saved machine has a screen or has none; a new one has, if somebody is to see it. */
static int open_display(const struct launch *l, struct session *s, struct machine_config *config, struct err *err)
{
	int rc;

	if (!l->display)
		return l->password ? err_set(err, ERANGE, "--vnc-password is for --display vnc=...") : 0;
	if (config->saved && !config->screen)
		return err_set(err, ERANGE, "--display: this machine has no screen, for it was started without --display");
	config->screen = true;
	config->virtio_input |= !config->saved;
	rc = display_open(&s->display, l->display, l->password, err);
	if (rc == 0 && s->display)
		log_note("display", "VNC at %s", display_place(s->display));
	return rc;
}

/* When all else is there: what the disks were before is lost. */
static int go_back(const struct launch_disks *disks, const struct machine_config *config, struct err *err)
{
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < disks->n; i++)
		if (disks->disks[i].go_back)
			rc = disk_go_back(config->disks[i], disks->disks[i].go_back, err);
	return rc;
}

int launch_choose(const struct launch *l, struct machine_config *config, struct err *err)
{
	struct engine_choice choice;
	int rc;

	terminal_prepare();
	rc = engine_choose(l->engine, &choice, err);
	if (rc < 0)
		return rc;
	config->face = choice.face;
	if (l->ready < 0 && !l->command) /* whose stderr is the command's */
		log_note("engine", "%s", choice.why);
	return 0;
}

int launch_saved(const struct saved *saved, struct machine_config *config,
		 struct launch_disks *disks, struct err *err)
{
	int rc = saved_config(saved, config, err);

	if (rc < 0)
		return rc;
	for (; disks->n < saved_disks(saved); disks->n++) {
		const struct saved_disk *d = saved_disk(saved, disks->n);

		disks->disks[disks->n] = (struct disk_config){
			.path = d->path, .format = d->format, .readonly = d->readonly,
		};
		disks->bus[disks->n] = d->bus;
		disks->spot[disks->n] = d->spot;
	}
	for (; disks->n_cds < saved_cds(saved); disks->n_cds++) {
		disks->cds[disks->n_cds] = saved_cd(saved, disks->n_cds)->path;
		disks->cd_bus[disks->n_cds] = saved_cd(saved, disks->n_cds)->bus;
	}
	return machine_check(config, err);
}

static int create(struct session *s, const struct machine_config *config, struct err *err)
{
	char text[CGROUP_TEXT];
	int rc;

	if (cgroup_is_short("", config->memory, text))
		log_warn("memory", "%s", text);
	rc = machine_create(&s->machine, config, err);
	if (rc == 0)
		s->config = machine_config(s->machine);
	return rc;
}

/* Nobody may read what is on stderr: the first line that is lost is the last. */
static void print_stats(const struct machine *m)
{
	struct kvm_stat stats[256];
	int n = machine_stats(m, stats, (int)ARRAY_SIZE(stats));
	char line[200];

	for (int i = 0; i < n && i < (int)ARRAY_SIZE(stats); i++) {
		snprintf(line, sizeof(line), "%-16s %14llu  %s\n", stats[i].name,
			 stats[i].value, kvm_stat_text(stats[i].name));
		if (!log_line(line))
			return;
	}
}

/* -- The sandbox ------------------------------------------------------------------------ */

/* A sanitizer's runtime makes system calls of its own. */
static const char *why_no_sandbox(const struct launch *l)
{
#ifdef LODGE_SANITIZED
	(void)l;
	return "in a build with sanitizers";
#else
	return strcmp(l->sandbox, "off") == 0 ? "as you asked" : NULL;
#endif
}

static void enter_sandbox(const struct launch *l, const struct session *s)
{
	const struct sandbox_config config = {
		.makes_code = s->config->face == &kvm_soft,
		.removes = s->control ? control_place(s->control) : NULL,
		.farewell = terminal_give_back,
	};
	char missing[SANDBOX_MISSING];

	if (why_no_sandbox(l)) {
		if (!l->command)
			log_note("sandbox", "off, %s", why_no_sandbox(l));
		return;
	}
	sandbox_enter(&config, missing);
	if (missing[0])
		log_note("sandbox", "here without %s", missing);
}

/* -- The guest -------------------------------------------------------------------------- */

/* What is said from here on nobody would read. */
static void leave_stderr(void)
{
	int nothing = open("/dev/null", O_WRONLY | O_CLOEXEC);

	if (nothing < 0)
		return;
	dup2(nothing, STDERR_FILENO);
	close(nothing);
}

static int run_machine(const struct launch *l, struct session *s)
{
	int code;

	if (isatty(STDIN_FILENO) && !l->command)
		log_note("console", "Ctrl-] leaves");
	s->output = terminal_output(STDOUT_FILENO);
	s->errors = terminal_output(STDERR_FILENO);
	if (l->ready >= 0)
		leave_stderr();
	enter_sandbox(l, s);
	code = l->command ? command_run(s, l->command) : session_run(s);
	if (s->output != STDOUT_FILENO)
		close(s->output);
	if (s->errors != STDERR_FILENO)
		close(s->errors);
	if (l->stats)
		print_stats(s->machine);
	return code;
}

static int refuse(const struct launch *l, const struct err *err)
{
	if (l->incoming >= 0)
		incoming_refuse(l->incoming, err->text);
	return report_failure(err);
}

static int run_config(const struct launch *l, struct session *s, struct machine_config *config,
		      launch_source *source, void *ctx)
{
	struct launch_disks disks = {.n = 0};
	struct err err = {0};
	int code, nat = -1;

	if (source(ctx, config, &disks, &err) < 0 || add_agent(l, config, &err) < 0 || open_trace(l, config, &err) < 0 ||
	    open_control(s, &err) < 0 || open_disks(&disks, config, &err) < 0 ||
	    open_display(l, s, config, &err) < 0 ||
	    net_open(&l->net, l->name, config, &nat, &err) < 0 || shares_open(&l->shares, disks.known, config, &err) < 0 ||
	    vsock_open(&l->vsock, config, &err) < 0 ||
	    launch_choose(l, config, &err) < 0 || create(s, config, &err) < 0 ||
	    net_wait(&l->net, nat, &err) < 0 || go_back(&disks, config, &err) < 0)
		code = refuse(l, &err);
	else
		code = run_machine(l, s);
	if (s->machine)
		*config = *s->config; /* with what has come meanwhile, and without what is gone */
	s->config = config;
	machine_destroy(s->machine);
	parts_close(&s->parts, config);
	net_close(config);
	shares_close(config);
	vsock_close(config);
	for (unsigned i = 0; i < config->n_disks; i++)
		disk_close(config->disks[i]);
	for (unsigned i = 0; i < config->n_cds; i++)
		disk_close(config->cds[i]);
	display_close(s->display);
	control_close(s->control);
	if (config->trace && config->trace != stderr)
		fclose(config->trace);
	return code;
}

void launch_prepare(const struct launch *l)
{
	static bool prepared;

	if (!prepared && !why_no_sandbox(l))
		sandbox_prepare();
	prepared = true;
}

int launch(const struct launch *l, launch_source *source, void *ctx)
{
	static struct console console;
	const struct machine_console end = {
		.output = console_put, .input_room = console_input_room, .ctx = &console,
	};
	struct machine_config config = {0};
	struct session s = {
		.config = &config, .document = l->document, .net = &l->net, .console = &console, .name = l->name,
		.no_reboot = l->no_reboot, .commands = l->command, .paused = l->paused, .ready = l->ready,
		.number = l->number, .image = l->image, .made = l->made, .go = l->go, .attached = -1, .incoming = l->incoming,
	};
	struct err err;
	int code;

	*(l->command ? &config.port.end : &config.console) = end;
	config.panic = (struct machine_panic){.said = session_panic, .ctx = &s};
	config.left = (struct machine_left_to){.said = session_left, .ctx = &s};
	launch_prepare(l);
	s.signals = session_signals();
	if (s.signals < 0 || loop_create(&s.loop, &err) < 0) {
		err_set(&err, EMFILE, "no descriptors left (ulimit -n)");
		return report_failure(&err);
	}
	console_init(&console, s.loop);
	config.loop = s.loop;
	code = run_config(l, &s, &config, source, ctx);
	console_fini(&console);
	loop_destroy(s.loop);
	close(s.signals);
	return code;
}

/* SPDX-License-Identifier: MIT */
/*
 * Commands that look at a guest without touching it. Members that QMP's clients expect and that mean nothing here say so with the value that
 * means nothing.
 */
#include "base/err.h"
#include "base/json.h"
#include "dev/virtio/devices.h"
#include "engine/kvm.h"
#include "machine/board_map.h"
#include "names.h"
#include "prog/lodge/control.h"
#include "prog/lodge/display.h"
#include "prog/lodge/session.h"
#include "request.h"
#include "serve.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* -- Versions ------------------------------------------------------------------------------ */

/* Of Lodge: QMP has no place for another one's. */
void qmp_write_version(struct json *j)
{
	unsigned n[3] = {0};

	sscanf(LODGE_VERSION, "%u.%u.%u", &n[0], &n[1], &n[2]);
	json_open(j, "qemu", '{');
	json_uint(j, "major", n[0]);
	json_uint(j, "minor", n[1]);
	json_uint(j, "micro", n[2]);
	json_close(j);
	json_str(j, "package", "lodge " LODGE_VERSION);
}

int do_version(struct call *c, struct err *err)
{
	(void)err;
	qmp_write_version(c->answer);
	return 0;
}

/* -- The guest ------------------------------------------------------------------------------ */

const char *qmp_status(const struct session *s)
{
	static const char *const words[] = {
		[MACHINE_CREATED] = "prelaunch", [MACHINE_RUNNING] = "running",
		[MACHINE_PAUSED] = "paused", [MACHINE_ENDED] = "shutdown",
	};

	return words[machine_life(s->machine)];
}

int do_status(struct call *c, struct err *err)
{
	(void)err;
	json_bool(c->answer, "running", machine_life(c->session->machine) == MACHINE_RUNNING);
	json_bool(c->answer, "singlestep", false);
	json_str(c->answer, "status", qmp_status(c->session));
	return 0;
}

int do_name(struct call *c, struct err *err)
{
	(void)err;
	if (c->session->name)
		json_str(c->answer, "name", c->session->name);
	return 0;
}

int do_uuid(struct call *c, struct err *err)
{
	(void)err;
	json_str(c->answer, "UUID", "00000000-0000-0000-0000-000000000000");
	return 0;
}

int do_kvm(struct call *c, struct err *err)
{
	(void)err;
	json_bool(c->answer, "enabled", c->session->config->face == &kvm_host);
	json_bool(c->answer, "present", true);
	return 0;
}

int do_target(struct call *c, struct err *err)
{
	(void)err;
	json_str(c->answer, "arch", "x86_64");
	return 0;
}

static void write_machine(struct json *j, const struct board_map *board)
{
	json_open(j, NULL, '{');
	json_str(j, "name", board->name);
	json_uint(j, "cpu-max", MACHINE_CPUS_MAX);
	json_bool(j, "hotpluggable-cpus", false);
	json_bool(j, "numa-mem-supported", false);
	json_bool(j, "deprecated", false);
	json_close(j);
}

int do_machines(struct call *c, struct err *err)
{
	(void)err;
	write_machine(c->answer, &board_direct);
	write_machine(c->answer, &board_q35);
	return 0;
}

/* No guest wakes up from a sleep here: there is none. */
int do_current_machine(struct call *c, struct err *err)
{
	(void)err;
	json_bool(c->answer, "wakeup-suspend-support", false);
	return 0;
}

int do_cpus(struct call *c, struct err *err)
{
	char path[QMP_PATH];

	(void)err;
	for (unsigned i = 0; i < c->session->config->cpus; i++) {
		json_open(c->answer, NULL, '{');
		json_uint(c->answer, "cpu-index", i);
		json_str(c->answer, "qom-path", qmp_cpu_path(path, i));
		json_uint(c->answer, "thread-id", (uint64_t)machine_cpu_thread(c->session->machine, i));
		json_str(c->answer, "target", "x86_64");
		json_close(c->answer);
	}
	return 0;
}

int do_memory(struct call *c, struct err *err)
{
	(void)err;
	json_uint(c->answer, "base-memory", c->session->config->memory);
	json_uint(c->answer, "plugged-memory", 0);
	return 0;
}

int do_query_balloon(struct call *c, struct err *err)
{
	struct virtio_balloon_facts facts;

	if (!machine_balloon_facts(c->session->machine, &facts)) {
		c->class = QMP_NOT_ACTIVE;
		return err_set(err, ENOENT, "the guest has no balloon: it was started without --balloon");
	}
	json_uint(c->answer, "actual", c->session->config->memory - facts.actual);
	return 0;
}

/* -- What leads out of it ------------------------------------------------------------------- */

static void write_chardev(struct json *j, const char *label, const char *filename, bool is_open)
{
	json_open(j, NULL, '{');
	json_str(j, "label", label);
	json_str(j, "filename", filename);
	json_bool(j, "frontend-open", is_open);
	json_close(j);
}

int do_chardevs(struct call *c, struct err *err)
{
	const struct session *s = c->session;
	char path[PATH_TEXT];

	(void)err;
	if (s->config->console.output)
		write_chardev(c->answer, s->config->virtio_console ? "hvc0" : "serial0", s->attached >= 0 ? "socket" : "stdio", true);
	if (s->config->port.name)
		write_chardev(c->answer, s->config->port.name, s->commands ? "stdio" : "null", machine_port_is_open(s->machine));
	snprintf(path, sizeof(path), "unix:%s/%d.sock,server=on", control_place(s->control), (int)getpid());
	write_chardev(c->answer, "monitor0", path, true);
	return 0;
}

/* "HOST:PORT" or "unix:PATH". */
static void write_place(struct json *j, const char *place)
{
	const char *colon = strrchr(place, ':');
	char host[PATH_TEXT];

	if (strncmp(place, "unix:", 5) == 0) {
		json_str(j, "host", "");
		json_str(j, "family", "unix");
		json_str(j, "service", place + 5);
		return;
	}
	snprintf(host, sizeof(host), "%.*s", (int)(colon - place), place);
	json_str(j, "host", host);
	json_str(j, "family", strchr(host, ':') ? "ipv6" : "ipv4");
	json_str(j, "service", colon + 1);
}

int do_vnc(struct call *c, struct err *err)
{
	const struct display *d = c->session->display;

	(void)err;
	json_bool(c->answer, "enabled", d);
	if (d) {
		write_place(c->answer, display_place(d));
		json_str(c->answer, "auth", display_has_password(d) ? "vnc" : "none");
	}
	return 0;
}

static void write_mouse(struct json *j, const char *name, unsigned index, bool absolute)
{
	json_open(j, NULL, '{');
	json_str(j, "name", name);
	json_uint(j, "index", index);
	json_bool(j, "current", true);
	json_bool(j, "absolute", absolute);
	json_close(j);
}

/* All that there are: which one takes a movement its driver decides. */
int do_mice(struct call *c, struct err *err)
{
	const struct machine_config *config = c->session->config;

	(void)err;
	if (config->screen)
		write_mouse(c->answer, "PS/2 mouse", 0, false);
	if (config->screen && config->usb)
		write_mouse(c->answer, "USB tablet", 1, true);
	if (config->screen && config->virtio_input)
		write_mouse(c->answer, "virtio tablet", 2, true);
	return 0;
}

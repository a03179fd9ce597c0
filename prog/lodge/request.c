/* SPDX-License-Identifier: MIT */
/* The requests of the control socket: see request.h. docs/control.md tells clients of them. */
#include "request.h"

#include "base/err.h"
#include "base/json.h"
#include "base/macros.h"
#include "base/memfile.h"
#include "block/disk.h"
#include "dev/virtio/devices.h"
#include "display/keys.h"
#include "display/surface.h"
#include "document.h"
#include "engine/kvm.h"
#include "launch.h"
#include "loop/loop.h"
#include "machine/fork.h"
#include "machine/machine.h"
#include "machine/migrate.h"
#include "machine/screen.h"
#include "net.h"
#include "session.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define STATS_MAX 256

static const char *const lives[] = {
	[MACHINE_CREATED] = "created", [MACHINE_RUNNING] = "running",
	[MACHINE_PAUSED] = "paused", [MACHINE_ENDED] = "ended",
};

static int say_ok(struct call *c)
{
	json_bool(c->answer, "ok", true);
	return 0;
}

static void give(struct call *c, int fd)
{
	if (fd >= 0)
		c->give[c->n_give++] = fd;
}

/* -- Looking ------------------------------------------------------------------------------ */

static void list_disks(struct json *j, const struct machine_config *config)
{
	json_open(j, "disks", '[');
	for (unsigned i = 0; i < config->n_disks; i++) {
		json_open(j, NULL, '{');
		json_str(j, "path", disk_path(config->disks[i]));
		json_str(j, "format", disk_formats[disk_info(config->disks[i])->format]);
		json_bool(j, "readonly", disk_info(config->disks[i])->readonly);
		json_bool(j, "snapshot", disk_info(config->disks[i])->throw_away);
		json_str(j, "bus", machine_buses[config->disk_bus[i]]);
		json_close(j);
	}
	json_close(j);
}

static void list_cds(struct json *j, const struct session *s)
{
	if (!s->config->n_cds)
		return;
	json_open(j, "cdroms", '[');
	for (unsigned i = 0; i < s->config->n_cds; i++) {
		json_open(j, NULL, '{');
		json_str(j, "path", s->config->cds[i] ? disk_path(s->config->cds[i]) : NULL);
		json_bool(j, "open", machine_cd_is_open(s->machine, i));
		json_close(j);
	}
	json_close(j);
}

static void list_net(struct json *j, const struct session *s)
{
	const struct machine_net *net = &s->config->net;
	char mac[MAC_TEXT];

	if (!net->how)
		return;
	json_open(j, "net", '{');
	json_str(j, "how", net->how);
	json_str(j, "mac", mac_text(mac, net->mac));
	json_bool(j, "link", machine_link(s->machine));
	json_open(j, "forwards", '[');
	for (unsigned i = 0; i < s->net->n_forwards; i++)
		json_str(j, NULL, s->net->forwards[i]);
	json_close(j);
	json_close(j);
}

static void list_shares(struct json *j, const struct machine_config *config)
{
	if (!config->n_shares)
		return;
	json_open(j, "shares", '[');
	for (unsigned i = 0; i < config->n_shares; i++) {
		json_open(j, NULL, '{');
		json_str(j, "tag", config->shares[i].tag);
		json_str(j, "path", config->shares[i].path);
		json_bool(j, "readonly", config->shares[i].readonly);
		json_close(j);
	}
	json_close(j);
}

static void list_balloon(struct json *j, struct machine *m)
{
	static const char *const names[VIRTIO_BALLOON_STATS] = {
		"swap_in", "swap_out", "major_faults", "minor_faults", "free", "total", "available", "caches", "huge_pages", "huge_page_failures",
	};
	struct virtio_balloon_facts facts;

	if (!machine_balloon_facts(m, &facts))
		return;
	json_open(j, "balloon", '{');
	json_uint(j, "target", facts.target);
	json_uint(j, "actual", facts.actual);
	for (unsigned i = 0; i < VIRTIO_BALLOON_STATS; i++)
		if (facts.known >> i & 1)
			json_uint(j, names[i], facts.stats[i]);
	json_close(j);
}

static int do_info(struct call *c, struct err *err)
{
	const struct session *s = c->session;
	const struct machine_config *config = s->config;
	struct json *j = c->answer;

	(void)err;
	json_uint(j, "pid", (uint64_t)getpid());
	json_str(j, "name", s->name);
	json_str(j, "state", lives[machine_life(s->machine)]);
	json_str(j, "engine", config->face->name);
	json_uint(j, "cpus", config->cpus);
	json_uint(j, "memory", config->memory);
	json_str(j, "kernel", config->kernel);
	json_str(j, "boot", machine_boot_text(s->machine));
	json_str(j, "console", config->virtio_console ? "virtio" : "serial");
	list_disks(j, config);
	list_cds(j, s);
	list_net(j, s);
	list_shares(j, config);
	list_balloon(j, s->machine);
	if (s->document)
		document_put(s->document, j);
	json_real(j, "seconds", (double)(loop_now() - s->began) / 1e9);
	return 0;
}

static int do_stats(struct call *c, struct err *err)
{
	struct kvm_stat stats[STATS_MAX];
	int n = machine_stats(c->session->machine, stats, STATS_MAX);

	do_info(c, err);
	json_open(c->answer, "counters", '{');
	for (int i = 0; i < n && i < STATS_MAX; i++)
		json_uint(c->answer, stats[i].name, stats[i].value);
	json_close(c->answer);
	return 0;
}

/* -- Screen and keyboard ------------------------------------------------------------------ */

static int no_screen(struct err *err)
{
	return err_set(err, EBUSY, "the guest has no screen and no keyboard: it was started without --display");
}

/* Draws into memory of its own, sparse and with a descriptor, and cuts that to what there is. */
static int draw_screen(struct call *c, int fd, struct surface *s, struct err *err)
{
	int rc;

	s->room = SURFACE_PIXELS_MAX;
	s->pixels = mmap(NULL, s->room * 4, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (s->pixels == MAP_FAILED)
		return err_sys(err, errno, "memory for a picture");
	rc = machine_show(c->session->machine, s) ? 0 : no_screen(err);
	munmap(s->pixels, s->room * 4);
	return rc;
}

static int do_screenshot(struct call *c, struct err *err)
{
	int fd = memfile_create("lodge-screenshot", SURFACE_PIXELS_MAX * 4), rc;
	struct surface s = {.pixels = NULL};

	if (fd < 0)
		return err_sys(err, -fd, "memory for a picture");
	rc = draw_screen(c, fd, &s, err);
	if (rc < 0) {
		close(fd);
		return rc;
	}
	give(c, fd);
	json_uint(c->answer, "width", s.width);
	json_uint(c->answer, "height", s.height);
	return 0;
}

/* Pressed in that order, and let go in the other. */
static int do_send_key(struct call *c, struct err *err)
{
	struct machine *m = c->session->machine;
	uint8_t keys[KEYS_AT_ONCE];
	const char *names = NULL;
	int n = json_get_str(c->args, "keys", &names, err);
	bool taken = true;

	if (n == 0)
		n = keys_parse(names, keys, err);
	if (n < 0)
		return n;
	if (!c->session->config->screen)
		return no_screen(err);
	if (machine_life(m) == MACHINE_PAUSED)
		return err_set(err, EBUSY, "the guest is paused: it would not see its keyboard");
	for (int i = 0; i < n; i++)
		taken &= machine_key(m, keys[i], true);
	for (int i = n; i-- > 0;)
		machine_key(m, keys[i], false);
	return taken ? say_ok(c) : err_set(err, EBUSY, "the guest does not read its keyboard");
}

/* -- Life --------------------------------------------------------------------------------- */

static int do_pause(struct call *c, struct err *err)
{
	int rc = session_pause(c->session, err);

	return rc < 0 ? rc : say_ok(c);
}

static int do_resume(struct call *c, struct err *err)
{
	int rc = session_resume(c->session, err);

	c->keeps = false;
	return rc < 0 ? rc : say_ok(c);
}

/* Nobody would see it pressed. */
static int do_powerdown(struct call *c, struct err *err)
{
	if (machine_life(c->session->machine) == MACHINE_PAUSED)
		return err_set(err, EBUSY, "the guest is paused: it would not see its power button");
	machine_power_button(c->session->machine);
	return say_ok(c);
}

static int do_stop(struct call *c, struct err *err)
{
	(void)err;
	c->session->saved = c->keeps;
	machine_stop(c->session->machine);
	return say_ok(c);
}

/* What can be seeked in is no pipe, and nobody can hold us up with it. */
static int save_to(const struct call *c, struct err *err)
{
	const struct machine_config *config = c->session->config;
	int rc = 0;

	if (lseek(c->file, 0, SEEK_SET) != 0)
		return err_set(err, ERANGE, "'save' needs a regular file");
	for (unsigned i = 0; rc == 0 && i < config->n_disks; i++)
		rc = disk_settle(config->disks[i], err); /* who restores it looks when they were written */
	return rc < 0 ? rc : machine_save(c->session->machine, c->file, err);
}

static int do_save(struct call *c, struct err *err)
{
	bool was_paused = machine_life(c->session->machine) == MACHINE_PAUSED;
	struct err unheard;
	int rc = session_pause(c->session, err);

	if (rc < 0)
		return rc;
	rc = save_to(c, err);
	if (rc < 0) {
		if (!was_paused)
			session_resume(c->session, &unheard);
		return rc;
	}
	if (!c->keeps)
		c->was_paused = was_paused;
	c->keeps = true;
	return say_ok(c);
}

/* What is thrown away when the guest's lodge ends cannot be kept for a snapshot. */
static int check_disks(const struct machine_config *config, const char *keep, struct err *err)
{
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < config->n_disks; i++) {
		const struct disk *disk = config->disks[i];

		rc = disk_moment_check(disk, err);
		if (rc == 0 && keep && disk_info(disk)->throw_away)
			rc = err_set(err, EBUSY, "disk '%s' is written only here (snapshot=on), and gone when the guest is",
				     disk_path(disk));
	}
	return rc;
}

static void give_memory(struct call *c, const struct machine_fork *f)
{
	give(c, f->state);
	give(c, f->where);
	json_open(c->answer, "layers", '[');
	for (unsigned i = 0; i < f->n; i++) {
		give(c, f->layer[i].fd);
		json_open(c->answer, NULL, '{');
		json_uint(c->answer, "at", f->layer[i].at);
		json_close(c->answer);
	}
	json_close(c->answer);
}

static void give_disk(struct call *c, const struct disk_moment *m)
{
	const struct disk_base *b = &m->base;

	json_open(c->answer, NULL, '{');
	json_bool(c->answer, "of_file", b->of_file);
	json_uint(c->answer, "slot", m->slot);
	json_open(c->answer, "layers", '[');
	for (unsigned i = 0; i < b->n; i++) {
		give(c, b->layer[i].fd);
		json_open(c->answer, NULL, '{');
		json_uint(c->answer, "at", b->layer[i].l1_at);
		json_uint(c->answer, "entries", b->layer[i].l1_n);
		json_close(c->answer);
	}
	json_close(c->answer);
	json_close(c->answer);
}

static int do_fork(struct call *c, struct err *err)
{
	struct disk_moment moments[MACHINE_DISKS_MAX];
	struct machine_fork f;
	const char *keep = NULL;
	int rc = json_find(c->args, "keep") ? json_get_str(c->args, "keep", &keep, err) : 0;

	if (rc == 0)
		rc = check_disks(c->session->config, keep, err);
	if (rc == 0)
		rc = session_fork(c->session, &f, moments, keep, err);
	if (rc < 0)
		return rc;
	give_memory(c, &f);
	json_open(c->answer, "disks", '[');
	for (unsigned i = 0; i < c->session->config->n_disks; i++)
		give_disk(c, &moments[i]);
	json_close(c->answer);
	return 0;
}

/* Of all disks that have it. */
static int do_forget(struct call *c, struct err *err)
{
	const struct machine_config *config = c->session->config;
	const char *snapshot = NULL;
	int rc = json_get_str(c->args, "snapshot", &snapshot, err);

	for (unsigned i = 0; rc == 0 && i < config->n_disks; i++) {
		struct disk_moment m;

		if (disk_info(config->disks[i])->readonly || disk_moment_check(config->disks[i], NULL) < 0)
			continue;
		disk_moment_forget(config->disks[i], &m, snapshot);
		rc = disk_moment_end(&m, err);
	}
	return rc < 0 ? rc : say_ok(c);
}

/* -- Memory -------------------------------------------------------------------------------- */

static int do_balloon(struct call *c, struct err *err)
{
	uint64_t memory = 0;
	int rc = json_get_uint(c->args, "memory", UINT64_MAX, &memory, err);

	if (rc == 0)
		rc = machine_balloon(c->session->machine, memory, err);
	return rc < 0 ? rc : say_ok(c);
}

/* -- The network -------------------------------------------------------------------------- */

static int do_link(struct call *c, struct err *err)
{
	bool up = true;
	int rc = json_get_bool(c->args, "up", &up, err);

	if (rc == 0)
		rc = machine_plug(c->session->machine, up, err);
	return rc < 0 ? rc : say_ok(c);
}

/* -- CD drives ---------------------------------------------------------------------------- */

/* NULL: takes out what is in it. */
static int change_cd(struct call *c, struct disk *cd, struct err *err)
{
	struct machine *m = c->session->machine;
	struct disk *old = NULL;
	uint64_t drive = 0;
	bool force = false;
	int rc = 0;

	if (json_find(c->args, "force"))
		rc = json_get_bool(c->args, "force", &force, err);
	if (rc == 0 && json_find(c->args, "drive"))
		rc = json_get_uint(c->args, "drive", UINT32_MAX, &drive, err);
	if (rc == 0)
		rc = machine_change_cd(m, (unsigned)drive, cd, force, &old, err);
	disk_close(rc < 0 ? cd : old);
	return rc < 0 ? rc : say_ok(c);
}

static int do_media(struct call *c, struct err *err)
{
	const char *path = NULL;
	struct disk *cd = NULL;
	int rc = json_get_str(c->args, "path", &path, err);

	if (rc == 0)
		rc = launch_open_cd(&cd, path, c->file, err);
	return rc < 0 ? rc : change_cd(c, cd, err);
}

static int do_eject(struct call *c, struct err *err)
{
	return change_cd(c, NULL, err);
}

/* -- Moving ------------------------------------------------------------------------------- */

static int do_migrate(struct call *c, struct err *err)
{
	struct migration_plan plan = {.fd = c->file};
	bool was_paused = machine_life(c->session->machine) == MACHINE_PAUSED;
	int rc;

	if (json_find(c->args, "live"))
		json_get_bool(c->args, "live", &plan.live, err);
	if (json_find(c->args, "direct"))
		json_get_bool(c->args, "direct", &plan.direct, err);
	rc = session_migrate(c->session, &plan, err);
	if (rc < 0)
		return rc;
	c->file = -1;
	c->later = c->keeps = true;
	c->was_paused = was_paused;
	return 0;
}

/* -- The console -------------------------------------------------------------------------- */

static int do_console(struct call *c, struct err *err)
{
	int rc = session_attach(c->session, c->file, err);

	if (rc < 0)
		return rc;
	c->file = -1;
	return say_ok(c);
}

/* -- The table ---------------------------------------------------------------------------- */

static int do_help(struct call *c, struct err *err);

const struct request requests[] = {
	{"help", "all requests, as this table has them", .serve = do_help,
	 .args = {{"request", JSON_STRING, true, "only this one"}}},
	{"info", "who the guest is, and how it is", .serve = do_info},
	{"stats", "the same, and its counters", .serve = do_stats},
	{"pause", "the guest stands still until it is resumed", .changes = true, .serve = do_pause},
	{"resume", "it goes on; a client that keeps it paused does so no longer", .changes = true,
	 .serve = do_resume},
	{"powerdown", "presses its power button", .changes = true, .serve = do_powerdown},
	{"stop", "pulls its plug", .changes = true, .serve = do_stop},
	{"balloon", "asks it to use so many bytes of its memory, and to give back the rest", .serve = do_balloon,
	 .args = {{"memory", JSON_NUMBER, false, "in bytes"}}},
	{"link", "plugs in the cable of its network card, or pulls it", .serve = do_link,
	 .args = {{"up", JSON_BOOL, false, "in"}}},
	{"media", "puts a CD, the file, into a CD drive", .changes = true, .file = true, .serve = do_media,
	 .args = {{"path", JSON_STRING, false, "how the file is called, from the root on: who restores the guest looks there"},
		  {"drive", JSON_NUMBER, true, "which one, from 0"},
		  {"force", JSON_BOOL, true, "also if the guest uses the one that is in it"}}},
	{"eject", "takes the CD out of a drive", .changes = true, .serve = do_eject,
	 .args = {{"drive", JSON_NUMBER, true, "which one, from 0"},
		  {"force", JSON_BOOL, true, "also if the guest uses it"}}},
	{"console", "its console is at the other end of the socket, until that is closed",
	 .file = true, .serve = do_console},
	{"screenshot", "answers with a descriptor: what its monitor shows, in rows of 32 bits a dot, as wide and high as the answer says",
	 .serve = do_screenshot},
	{"send-key", "presses keys together, and lets them go", .serve = do_send_key,
	 .args = {{"keys", JSON_STRING, false, "their names, with '-' in between: ctrl-alt-delete"}}},
	{"migrate", "sends it to the lodge at the other end of the socket, and answers when it runs there",
	 .changes = true, .file = true, .serve = do_migrate,
	 .args = {{"live", JSON_BOOL, true, "it runs meanwhile"},
		  {"direct", JSON_BOOL, true, "nobody is in between: when the other end is closed the other lodge has ended"}}},
	{"fork", "answers with descriptors: its state, a map of its memory, and the layers of that, which begin "
	 "at the bytes that the answer names; and of disks that are written what they were", .changes = true, .serve = do_fork,
	 .args = {{"keep", JSON_STRING, true, "disks get a snapshot of that name inside, and no descriptors come of them"}}},
	{"forget", "removes a snapshot that was made inside of its disks", .serve = do_forget,
	 .args = {{"snapshot", JSON_STRING, false, "its name"}}},
	{"save", "pauses it, writes it to the file, and keeps it paused until this client says "
	 "resume or stop, or is gone", .changes = true, .file = true, .serve = do_save},
	{0},
};

static void describe(struct json *j, const struct request *r)
{
	json_open(j, NULL, '{');
	json_str(j, "do", r->name);
	json_str(j, "help", r->help);
	json_bool(j, "file", r->file);
	json_open(j, "args", '[');
	for (const struct request_arg *a = r->args; a->name; a++) {
		json_open(j, NULL, '{');
		json_str(j, "name", a->name);
		json_str(j, "type", json_type_text(a->type));
		json_bool(j, "optional", a->optional);
		json_str(j, "help", a->help);
		json_close(j);
	}
	json_close(j);
	json_close(j);
}

static const struct request *find(const char *name)
{
	for (const struct request *r = requests; r->name; r++)
		if (strcmp(r->name, name) == 0)
			return r;
	return NULL;
}

static int unknown(const char *name, struct err *err)
{
	return err_set(err, ERANGE, "there is no request '%s': see {\"do\": \"help\"}", name);
}

static int do_help(struct call *c, struct err *err)
{
	const char *only = NULL;

	if (json_find(c->args, "request")) {
		json_get_str(c->args, "request", &only, err);
		if (!find(only))
			return unknown(only, err);
	}
	json_open(c->answer, "requests", '[');
	for (const struct request *r = requests; r->name; r++)
		if (!only || r == find(only))
			describe(c->answer, r);
	json_close(c->answer);
	return 0;
}

void request_list(void)
{
	printf("requests at a guest's control socket, a line of JSON each (docs/control.md)\n\n");
	for (const struct request *r = requests; r->name; r++) {
		printf("  %-10s %s%s\n", r->name, r->help, r->file ? " (with the file)" : "");
		for (const struct request_arg *a = r->args; a->name; a++)
			printf("    %-8s %s%s: %s\n", a->name, json_type_text(a->type),
			       a->optional ? ", may be left out" : "", a->help);
	}
}

/* -- Checking ----------------------------------------------------------------------------- */

static const struct request_arg *find_arg(const struct request *r, const char *name)
{
	for (const struct request_arg *a = r->args; a->name; a++)
		if (strcmp(a->name, name) == 0)
			return a;
	return NULL;
}

static int check_args(const struct request *r, const struct json_value *line, struct err *err)
{
	const struct json_value *value;

	for (const struct json_value *v = line->first; v; v = v->next)
		if (strcmp(v->key, "do") != 0 && !find_arg(r, v->key))
			return err_set(err, ERANGE, "'%s' takes no '%s'", r->name, v->key);
	for (const struct request_arg *a = r->args; a->name; a++)
		if ((!a->optional || json_find(line, a->name)) &&
		    json_get(line, a->name, a->type, &value, err) < 0) {
			err->code = ERANGE;
			return err_at(err, -ERANGE, "'%s'", r->name);
		}
	return 0;
}

const struct request *request_find(const struct json_value *line, struct err *err)
{
	const struct request *r;
	const char *name;

	if (line->type != JSON_OBJECT) {
		err_set(err, ERANGE, "a request is an object: {\"do\": \"help\"}");
		return NULL;
	}
	if (json_get_str(line, "do", &name, err) < 0) {
		err->code = ERANGE;
		return NULL;
	}
	r = find(name);
	if (!r)
		unknown(name, err);
	return r && check_args(r, line, err) == 0 ? r : NULL;
}

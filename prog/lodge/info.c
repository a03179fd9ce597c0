/* SPDX-License-Identifier: MIT */
/*
 * lodge info: what a guest is, or a saved machine.
 *
 * A name that a running guest has means the guest; with a '/' in it, or if none has it, it is a file.
 */
#include "info.h"

#include "base/err.h"
#include "base/json.h"
#include "base/json_read.h"
#include "base/macros.h"
#include "client.h"
#include "failure.h"
#include "lodge.h"
#include "machine/saved.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct info {
	const char *what;
	const char *format;
	bool check;
};

static const struct option options[] = {
	{"--check", NULL, "of a saved machine: all of its memory, too", OPTION_FLAG,
	 offsetof(struct info, check), 0, 0, NULL},
	OPTION_JSON(offsetof(struct info, format)),
	{0},
};

/* -- Printing ----------------------------------------------------------------------------- */

/* ", at nvme, data behind port 2": what is not as usual. */
static const char *place(const struct json_value *v, const char *usual, char text[128])
{
	const char *bus = usual, *id = NULL;
	uint64_t port = 0;
	struct err err;
	size_t n = 0;

	text[0] = 0;
	if (json_get_str(v, "bus", &bus, &err) == 0 && strcmp(bus, usual) != 0)
		n = (size_t)snprintf(text, 128, ", at %.16s", bus);
	if (json_get_str(v, "id", &id, &err) == 0 && json_get_uint(v, "behind", UINT32_MAX, &port, &err) == 0)
		snprintf(text + n, 128 - n, ", '%.32s' behind port %u", id, (unsigned)port);
	return text;
}

static void print_disk(const struct json_value *disk)
{
	const char *path;
	char at[128];
	bool readonly = false;
	struct err err;
	char text[4200];

	if (json_get_str(disk, "path", &path, &err) < 0)
		return;
	json_get_bool(disk, "readonly", &readonly, &err);
	snprintf(text, sizeof(text), "%s%s%s", path, readonly ? ", read-only" : "", place(disk, "virtio", at));
	client_print("disk", text);
}

static void print_cd(const struct json_value *cd)
{
	const struct json_value *path = json_find(cd, "path");
	bool open = false;
	struct err err;
	char text[4200], at[128];

	json_get_bool(cd, "open", &open, &err);
	snprintf(text, sizeof(text), "%s%s%s", path && path->text && path->type == JSON_STRING ? path->text : "empty", open ? ", open" : "",
		 place(cd, "", at));
	client_print("cdrom", text);
}

static void print_net(const struct json_value *net)
{
	const struct json_value *forwards;
	const char *how, *mac, *model = "virtio";
	bool up;
	struct err err;
	char text[4200], at[128];

	if (!net || json_get_str(net, "how", &how, &err) < 0 || json_get_str(net, "mac", &mac, &err) < 0)
		return;
	json_get_str(net, "model", &model, &err);
	snprintf(text, sizeof(text), "%s, %s, %s%s%s", how, mac, model, json_get_bool(net, "link", &up, &err) == 0 && !up ? ", link down" : "",
		 place(net, "", at));
	client_print("net", text);
	forwards = json_find(net, "forwards");
	for (const struct json_value *f = forwards ? forwards->first : NULL; f; f = f->next)
		client_print("forward", f->text ? f->text : "");
}

static void print_share(const struct json_value *share)
{
	const char *tag, *path;
	bool readonly = false;
	struct err err;
	char text[4200];

	if (json_get_str(share, "tag", &tag, &err) < 0 || json_get_str(share, "path", &path, &err) < 0)
		return;
	json_get_bool(share, "readonly", &readonly, &err);
	snprintf(text, sizeof(text), "%s, %s%s", tag, path, readonly ? ", read-only" : "");
	client_print("share", text);
}

static void print_vsock(const struct json_value *v)
{
	const char *path = NULL;
	struct err none;
	uint64_t cid;
	char text[4200];

	if (!v || json_get_uint(v, "cid", UINT32_MAX, &cid, &none) < 0)
		return;
	json_get_str(v, "path", &path, &none);
	snprintf(text, sizeof(text), "cid %u, %s", (unsigned)cid, path ? path : "nowhere");
	client_print("vsock", text);
}

static void print_balloon(const struct json_value *b)
{
	static const char *const keys[] = {"actual", "target", "free", "available", "caches"};
	static const char *const words[] = {"given back", "asked for", "free", "available", "caches"};
	char text[300] = "";
	size_t n = 0;

	for (unsigned i = 0; b && i < ARRAY_SIZE(keys); i++) {
		uint64_t bytes;
		struct err err;

		if (json_get_uint(b, keys[i], UINT64_MAX, &bytes, &err) == 0)
			n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%llu MiB %s", n ? ", " : "", (unsigned long long)(bytes >> 20), words[i]);
	}
	if (n)
		client_print("balloon", text);
}

void info_print(const struct json_value *facts)
{
	static const char *const keys[] = {
		"pid", "name", "state", "file", "stored", "engine", "cpus", "memory", "kernel",
		"initrd", "append", "boot", "console", "port", "seconds",
	};
	const struct json_value *disks = json_find(facts, "disks"), *cds = json_find(facts, "cdroms"),
				*nets = json_find(facts, "more-nets"), *shares = json_find(facts, "shares");

	for (unsigned i = 0; i < ARRAY_SIZE(keys); i++) {
		const struct json_value *v = json_find(facts, keys[i]);

		if (v && v->text && v->type != JSON_NULL)
			client_print(v->key, v->text);
	}
	for (const struct json_value *d = disks ? disks->first : NULL; d; d = d->next)
		print_disk(d);
	for (const struct json_value *d = cds ? cds->first : NULL; d; d = d->next)
		print_cd(d);
	print_net(json_find(facts, "net"));
	for (const struct json_value *n = nets ? nets->first : NULL; n; n = n->next)
		print_net(n);
	for (const struct json_value *s = shares ? shares->first : NULL; s; s = s->next)
		print_share(s);
	print_vsock(json_find(facts, "vsock"));
	print_balloon(json_find(facts, "balloon"));
}

static int show(const struct info *i, const struct json_value *facts)
{
	if (wants_json(i->format))
		client_print_json(facts);
	else
		info_print(facts);
	return EXIT_OK;
}

/* -- A file ------------------------------------------------------------------------------- */

/* Its description, with what is known of the file itself. */
static struct json_value *file_facts(const struct saved *s, const char *path)
{
	struct json_value *facts = NULL;
	char *text = NULL;
	size_t len = 0;
	struct json j = {.out = open_memstream(&text, &len)};

	if (!j.out)
		return NULL;
	json_open(&j, NULL, '{');
	json_str(&j, "state", "saved");
	json_str(&j, "file", path);
	json_uint(&j, "stored", saved_stored(s));
	for (const struct json_value *v = saved_description(s)->first; v; v = v->next)
		if (strcmp(v->key, "state") && strcmp(v->key, "file") && strcmp(v->key, "stored"))
			json_copy(&j, v->key, v);
	json_close(&j);
	if (fclose(j.out) == 0)
		json_parse(&facts, text, len, NULL);
	free(text);
	return facts;
}

static int show_file(const struct info *i)
{
	struct json_value *facts;
	struct saved *s;
	struct err err = {0};
	int rc = saved_open(&s, i->what, &err), code;

	if (rc == 0 && i->check && saved_check(s, &err) < 0)
		rc = err_at(&err, -err.code, "'%s'", i->what);
	if (rc < 0) {
		saved_close(s);
		return report_failure(&err);
	}
	facts = file_facts(s, i->what);
	code = facts ? show(i, facts) : EXIT_FAILED;
	free(facts);
	saved_close(s);
	return code;
}

/* -- The verb ----------------------------------------------------------------------------- */

static int info_main(void *parsed)
{
	const struct info *i = parsed;
	struct json_value *answer;
	struct err err = {0};
	int code;

	if (i->what && strchr(i->what, '/'))
		return show_file(i);
	if (client_do(i->what, "x-lodge-info", NULL, &answer, &err) < 0)
		return err.code == ENOENT && i->what && saved_is(i->what) ? show_file(i)
									  : report_failure(&err);
	code = show(i, answer);
	free(answer);
	return code;
}

const struct verb verb_info = {
	.name = "info",
	.summary = "what a guest is, or a saved machine",
	.text = VM_TEXT
		"A word that is no guest's name is that of a file; so is one with a '/' in it.\n",
	.operand = "[VM|FILE]",
	.n_operands = 1,
	.options = options,
	.size = sizeof(struct info),
	.main = info_main,
};

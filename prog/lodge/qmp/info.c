/* SPDX-License-Identifier: MIT */
/* What lodge info and lodge stats print, in one answer. */
#include "base/json.h"
#include "block/disk.h"
#include "dev/virtio/devices.h"
#include "engine/kvm.h"
#include "loop/loop.h"
#include "prog/lodge/document.h"
#include "prog/lodge/net.h"
#include "prog/lodge/session.h"
#include "serve.h"

#include <unistd.h>

#define STATS_MAX 256

static const char *const lives[] = {
	[MACHINE_CREATED] = "created", [MACHINE_RUNNING] = "running",
	[MACHINE_PAUSED] = "paused", [MACHINE_ENDED] = "ended",
};

/* Of what came while it ran. */
static void put_spot(struct json *j, const struct machine_spot *spot)
{
	if (!spot->port)
		return;
	json_str(j, "id", spot->id);
	json_uint(j, "behind", spot->port);
}

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
		put_spot(j, &config->disk_spot[i]);
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
		json_str(j, "bus", machine_buses[s->config->cd_bus[i]]);
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
	json_str(j, "model", machine_cards[net->card]);
	if (net->queues > 1)
		json_uint(j, "queues", net->queues);
	json_bool(j, "link", machine_link(s->machine));
	json_open(j, "forwards", '[');
	for (unsigned i = 0; i < s->net->n_forwards; i++)
		json_str(j, NULL, s->net->forwards[i]);
	json_close(j);
	json_close(j);
}

static void list_more_nets(struct json *j, const struct machine_config *config)
{
	char mac[MAC_TEXT];

	if (!config->n_more_nets)
		return;
	json_open(j, "more-nets", '[');
	for (unsigned i = 0; i < config->n_more_nets; i++) {
		json_open(j, NULL, '{');
		json_str(j, "how", config->more_nets[i].how);
		json_str(j, "mac", mac_text(mac, config->more_nets[i].mac));
		json_str(j, "model", machine_cards[config->more_nets[i].card]);
		put_spot(j, &config->more_nets[i].spot);
		json_close(j);
	}
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

static void list_vsock(struct json *j, const struct machine_vsock *v)
{
	if (!v->cid)
		return;
	json_open(j, "vsock", '{');
	json_uint(j, "cid", v->cid);
	json_str(j, "path", v->path);
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

static void write_info(const struct session *s, struct json *j)
{
	const struct machine_config *config = s->config;

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
	list_more_nets(j, config);
	list_shares(j, config);
	list_vsock(j, &config->vsock);
	list_balloon(j, s->machine);
	if (s->document)
		document_put(s->document, j);
	json_real(j, "seconds", (double)(loop_now() - s->began) / 1e9);
}

int do_info(struct call *c, struct err *err)
{
	(void)err;
	json_open(c->answer, CALL_RETURN, '{');
	write_info(c->session, c->answer);
	json_close(c->answer);
	return 0;
}

int do_stats(struct call *c, struct err *err)
{
	struct kvm_stat stats[STATS_MAX];
	int n = machine_stats(c->session->machine, stats, STATS_MAX);

	(void)err;
	json_open(c->answer, CALL_RETURN, '{');
	write_info(c->session, c->answer);
	json_open(c->answer, "counters", '{');
	for (int i = 0; i < n && i < STATS_MAX; i++)
		json_uint(c->answer, stats[i].name, stats[i].value);
	json_close(c->answer);
	json_close(c->answer);
	return 0;
}

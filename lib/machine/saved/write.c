/* SPDX-License-Identifier: MIT */
/*
 * Writing a saved machine; saved.h has the form.
 *
 * The header is written last: what was cut short has no magic, and is no saved machine. (That a file is
 * there under its name only when it is whole is its maker's care: prog/lodge.)
 *
 * A chunk of memory that the host never had is skipped unread. In others the pages that are not all
 * zeros are written, as many at once as lie side by side.
 */
#include "machine/private.h"

#include "base/err.h"
#include "base/json.h"
#include "block/disk.h"
#include "dev/device.h"
#include "engine/kvm.h"
#include "machine/layer.h"
#include "machine/saved/form.h"
#include "machine/saved/inside.h"
#include "machine/saved/parts.h"
#include "state/state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* -- Bytes ------------------------------------------------------------------------- */

int saved_put(int fd, const void *bytes, size_t len, uint64_t at, struct err *err)
{
	while (len) {
		ssize_t n = pwrite(fd, bytes, len, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return err_sys(err, n < 0 ? errno : EIO, "writing the saved machine");
		bytes = (const uint8_t *)bytes + n;
		len -= (size_t)n;
		at += (uint64_t)n;
	}
	return 0;
}

/* -- Memory ------------------------------------------------------------------------ */

int saved_put_chunk(int fd, const uint8_t *chunk, size_t len, uint64_t at, uint64_t *stored,
		    struct err *err)
{
	int rc = 0;

	for (size_t from = 0, to; rc == 0 && from < len; from = to) {
		to = from + SAVED_PAGE;
		if (is_all_zero(chunk + from, SAVED_PAGE))
			continue;
		while (to < len && !is_all_zero(chunk + to, SAVED_PAGE))
			to += SAVED_PAGE;
		*stored += to - from;
		rc = saved_put(fd, chunk + from, to - from, at + from, err);
	}
	return rc;
}

/* Where the host has memory at or behind `at`. All of it, where it cannot say. */
static uint64_t next_data(const struct map_ram *ram, uint64_t at)
{
	off_t data = lseek(ram->fd, (off_t)at, SEEK_DATA);

	if (data >= 0)
		return (uint64_t)data;
	return errno == ENXIO ? ram->size : at;
}

struct memory {
	const struct machine *m;
	uint8_t *layer; /* of each page, or 0: it is in the RAM's memfd; NULL: all are */
	uint8_t *chunk; /* room for one, put together of all */
};

static const uint8_t *chunk_bytes(const struct memory *mem, uint64_t chunk, size_t len)
{
	if (!ram_layers_in(mem->layer, chunk / SAVED_PAGE, len / SAVED_PAGE))
		return mem->m->ram.host + chunk;
	for (size_t at = 0; at < len; at += SAVED_PAGE)
		memcpy(mem->chunk + at, ram_layers_page(mem->m, mem->layer, (chunk + at) / SAVED_PAGE),
		       SAVED_PAGE);
	return mem->chunk;
}

static int put_chunks(const struct memory *mem, int fd, uint64_t begin, uint8_t *sums,
		      struct err *err)
{
	const struct map_ram *ram = &mem->m->ram;
	uint64_t data = next_data(ram, 0);
	int rc = 0;

	for (uint64_t chunk = 0; rc == 0 && chunk < ram->size; chunk += SAVED_CHUNK) {
		size_t len = (size_t)(ram->size - chunk < SAVED_CHUNK ? ram->size - chunk : SAVED_CHUNK);
		const uint8_t *bytes;
		uint64_t stored = 0;

		if (data < chunk)
			data = next_data(ram, chunk);
		if (data >= chunk + len && !ram_layers_in(mem->layer, chunk / SAVED_PAGE, len / SAVED_PAGE))
			continue;
		rc = ram_layers_bring(mem->m, mem->layer, chunk / SAVED_PAGE, len / SAVED_PAGE, err);
		if (rc < 0)
			break;
		bytes = chunk_bytes(mem, chunk, len);
		rc = saved_put_chunk(fd, bytes, len, begin + chunk, &stored, err);
		if (stored)
			le64_put(sums + chunk / SAVED_CHUNK * 8, saved_sum(bytes, len));
	}
	return rc;
}

static int put_memory(const struct machine *m, int fd, uint64_t begin, uint8_t *sums,
		      struct err *err)
{
	struct memory mem = {.m = m, .layer = ram_layers_now(m)};
	int rc = 0;

	mem.chunk = mem.layer ? malloc(SAVED_CHUNK) : NULL;
	if (m->ram.layers && !mem.chunk)
		rc = err_set(err, ENOMEM, "no memory");
	if (rc == 0)
		rc = put_chunks(&mem, fd, begin, sums, err);
	free(mem.layer);
	free(mem.chunk);
	return rc;
}

/* -- Description ------------------------------------------------------------------- */

static void describe_spot(const struct machine_spot *spot, struct json *j)
{
	if (!spot->port)
		return;
	json_str(j, "id", spot->id);
	json_uint(j, "behind", spot->port);
}

static void describe_disks(const struct machine *m, struct json *j)
{
	json_open(j, "disks", '[');
	for (unsigned i = 0; i < m->config.n_disks; i++) {
		const struct disk_info *info = disk_info(m->config.disks[i]);

		json_open(j, NULL, '{');
		json_str(j, "path", disk_path(m->config.disks[i]));
		json_str(j, "format", disk_formats[info->format]);
		json_bool(j, "readonly", info->readonly);
		json_uint(j, "size", info->size);
		json_uint(j, "written", disk_written(m->config.disks[i]));
		if (m->config.disk_bus[i] != MACHINE_VIRTIO)
			json_str(j, "bus", machine_buses[m->config.disk_bus[i]]);
		describe_spot(&m->config.disk_spot[i], j);
		json_close(j);
	}
	json_close(j);
}

/* An empty drive is {}, at SATA. */
static void describe_cds(const struct machine *m, struct json *j)
{
	if (!m->config.n_cds)
		return;
	json_open(j, "cdroms", '[');
	for (unsigned i = 0; i < m->config.n_cds; i++) {
		const struct disk *cd = m->config.cds[i];

		json_open(j, NULL, '{');
		if (cd) {
			json_str(j, "path", disk_path(cd));
			json_uint(j, "size", disk_info(cd)->size);
			json_uint(j, "written", disk_written(cd));
		}
		if (m->config.cd_bus[i] != MACHINE_SATA)
			json_str(j, "bus", machine_buses[m->config.cd_bus[i]]);
		json_close(j);
	}
	json_close(j);
}

static void describe_boot(const struct machine *m, struct json *j)
{
	if (!m->config.n_boot)
		return;
	json_open(j, "boot-order", '[');
	for (unsigned i = 0; i < m->config.n_boot; i++)
		json_str(j, NULL, machine_boots[m->config.boot[i]]);
	json_close(j);
}

static void describe_card(const struct machine_net *net, const char *key, struct json *j)
{
	char mac[MAC_TEXT];

	json_open(j, key, '{');
	json_str(j, "how", net->how);
	json_str(j, "mac", mac_text(mac, net->mac));
	json_uint(j, "mtu", net->mtu);
	if (net->card != MACHINE_CARD_VIRTIO)
		json_str(j, "model", machine_cards[net->card]);
	if (net->queues > 1)
		json_uint(j, "queues", net->queues);
	if (net->rom)
		json_str(j, "rom", net->rom);
	describe_spot(&net->spot, j);
	json_close(j);
}

static void describe_nets(const struct machine *m, struct json *j)
{
	if (m->config.net.how)
		describe_card(&m->config.net, "net", j);
	if (!m->config.n_more_nets)
		return;
	json_open(j, "more-nets", '[');
	for (unsigned i = 0; i < m->config.n_more_nets; i++)
		describe_card(&m->config.more_nets[i], NULL, j);
	json_close(j);
}

static void describe_shares(const struct machine *m, struct json *j)
{
	if (!m->config.n_shares)
		return;
	json_open(j, "shares", '[');
	for (unsigned i = 0; i < m->config.n_shares; i++) {
		const struct machine_share *s = &m->config.shares[i];

		json_open(j, NULL, '{');
		json_str(j, "tag", s->tag);
		json_str(j, "path", s->path);
		json_bool(j, "readonly", s->readonly);
		json_close(j);
	}
	json_close(j);
}

static void describe_features(const struct machine *m, struct json *j)
{
	struct cpu_set has = cpu_table_features(&m->cpuid);

	json_open(j, "features", '[');
	for (unsigned i = 0; i < CPU_FEATURES; i++)
		if (cpu_set_has(&has, i))
			json_str(j, NULL, cpu_features[i].name);
	json_close(j);
}

static char *describe(const struct machine *m, size_t *len)
{
	char *text = NULL;
	struct json j = {.out = open_memstream(&text, len)};

	if (!j.out)
		return NULL;
	json_open(&j, NULL, '{');
	json_str(&j, "engine", m->vm.face->name);
	json_uint(&j, "cpus", m->config.cpus);
	json_uint(&j, "memory", m->config.memory);
	json_str(&j, "boot", m->boot_text);
	if (m->map != &board_direct)
		json_str(&j, "board", m->map->name);
	if (m->config.firmware)
		json_str(&j, "firmware", m->config.firmware);
	if (m->config.old_virtio)
		json_bool(&j, "old-virtio", true);
	if (m->config.root_ports)
		json_uint(&j, "root-ports", m->config.root_ports);
	if (m->config.hpet)
		json_bool(&j, "hpet", true);
	if (m->config.screen)
		json_bool(&j, "screen", true);
	if (m->config.vga != MACHINE_VGA_STD)
		json_str(&j, "vga", machine_vgas[m->config.vga]);
	if (m->config.usb)
		json_bool(&j, "usb", true);
	if (m->config.virtio_input)
		json_bool(&j, "virtio-input", true);
	if (m->config.balloon)
		json_bool(&j, "balloon", true);
	json_str(&j, "kernel", m->kernel.path);
	json_str(&j, "initrd", m->initrd.path);
	json_str(&j, "append", m->config.cmdline);
	json_str(&j, "console", m->config.virtio_console ? "virtio" : "serial");
	json_str(&j, "port", m->config.port.name);
	describe_disks(m, &j);
	describe_cds(m, &j);
	describe_boot(m, &j);
	describe_nets(m, &j);
	describe_shares(m, &j);
	if (m->config.vsock.cid)
		json_uint(&j, "cid", m->config.vsock.cid);
	describe_features(m, &j);
	json_close(&j);
	if (fclose(j.out) == 0)
		return text;
	free(text);
	return NULL;
}

/* -- Sections ---------------------------------------------------------------------- */

static int save_state(struct machine *m, struct state_out *out, struct err *err)
{
	char id[STATE_NAME_MAX + 1];
	int rc = cpuid_save(&m->cpuid, out);

	for (unsigned i = 0; rc == 0 && i < m->board.n; i++)
		rc = device_save(m->board.devices[i], board_id(&m->board, i, id), out);
	for (unsigned i = 0; rc == 0 && i < m->config.cpus; i++)
		rc = vcpu_save(&m->vcpus[i], out, err);
	if (rc == 0)
		rc = vm_save(&m->vm, out, err);
	return rc == -ENOMEM ? err_set(err, ENOMEM, "no memory") : rc;
}

/* -- All --------------------------------------------------------------------------- */

/* What stands between header and memory, in one piece. */
struct body {
	uint8_t *bytes;
	size_t description, sections, sums;
};

static size_t body_len(const struct body *b)
{
	return b->description + b->sections + b->sums;
}

static int make_body(struct machine *m, struct body *b, struct err *err)
{
	struct state_out out = {0};
	char *text = describe(m, &b->description);
	int rc = text ? save_state(m, &out, err) : err_set(err, ENOMEM, "no memory");

	b->sections = out.len;
	b->sums = saved_chunks(m->ram.size) * 8;
	if (rc == 0) {
		b->bytes = calloc(1, body_len(b));
		rc = b->bytes ? 0 : err_set(err, ENOMEM, "no memory");
	}
	if (rc == 0) {
		memcpy(b->bytes, text, b->description);
		memcpy(b->bytes + b->description, out.bytes, out.len);
	}
	free(text);
	free(out.bytes);
	return rc;
}

static int put_header(const struct machine *m, const struct body *b, int fd, uint64_t memory,
		      struct err *err)
{
	uint8_t header[SAVED_HEADER] = SAVED_MAGIC;

	le32_put(header + AT_VERSION, SAVED_VERSION);
	le32_put(header + AT_DESCRIPTION, (uint32_t)b->description);
	le64_put(header + AT_SECTIONS, b->sections);
	le64_put(header + AT_MEMORY, memory);
	le64_put(header + AT_MEMORY_LEN, m->ram.size);
	le64_put(header + AT_BODY_SUM, saved_sum(b->bytes, body_len(b)));
	le64_put(header + AT_HEADER_SUM, saved_sum(header, AT_HEADER_SUM));
	return saved_put(fd, header, sizeof(header), 0, err);
}

/* With its memory, or a hole in its place. */
static int save(struct machine *m, int fd, bool all, struct err *err)
{
	struct body b = {0};
	uint64_t memory;
	int rc;

	if (machine_life(m) != MACHINE_PAUSED)
		return err_set(err, EINVAL, "only a paused machine can be saved");
	rc = make_body(m, &b, err);
	memory = align_up(SAVED_HEADER + body_len(&b), SAVED_CHUNK);
	if (rc == 0 && all)
		rc = put_memory(m, fd, memory, b.bytes + b.description + b.sections, err);
	if (rc == 0 && ftruncate(fd, (off_t)(memory + m->ram.size)) < 0)
		rc = err_sys(err, errno, "writing the saved machine");
	if (rc == 0)
		rc = saved_put(fd, b.bytes, body_len(&b), SAVED_HEADER, err);
	if (rc == 0)
		rc = put_header(m, &b, fd, memory, err);
	free(b.bytes);
	return rc;
}

int machine_save(struct machine *m, int fd, struct err *err)
{
	return save(m, fd, true, err);
}

int machine_save_state(struct machine *m, int fd, struct err *err)
{
	return save(m, fd, false, err);
}

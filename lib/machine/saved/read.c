/* SPDX-License-Identifier: MIT */
/*
 * Opening a saved machine, and what its description says; saved.h has the form. The file is a
 * stranger's: each length is compared with the file's before anything is made of it.
 */
#include "machine/saved.h"

#include "base/err.h"
#include "base/json_read.h"
#include "block/disk.h"
#include "machine/board_map.h"
#include "machine/machine.h"
#include "machine/map.h"
#include "machine/saved/form.h"
#include "machine/saved/inside.h"
#include "machine/screen.h"
#include "state/state.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* -- Header and body --------------------------------------------------------------- */

static int check_lengths(struct saved *s, struct err *err)
{
	uint64_t body, size = s->file.size;

	if (s->description_len > JSON_TEXT_MAX || s->sections_len > SAVED_SECTIONS_MAX ||
	    s->memory_len % SAVED_PAGE || s->memory_len == 0 || s->memory_len > MAP_SIZE_MAX ||
	    s->memory_at % SAVED_CHUNK || s->memory_at == 0 || s->memory_at > size ||
	    s->memory_len > size - s->memory_at)
		return err_set(err, EINVAL, "the file is cut, or its header makes no sense");
	body = s->description_len + s->sections_len + saved_chunks(s->memory_len) * 8;
	if (body > s->memory_at - SAVED_HEADER)
		return err_set(err, EINVAL, "its header makes no sense");
	s->body_len = body;
	return 0;
}

int saved_read_header(struct blob *file, const struct saved_kind *kind, uint8_t *header,
		      struct err *err)
{
	struct stat st;
	int rc;

	if (fstat(file->fd, &st) < 0)
		return err_sys(err, errno, "asking for its size");
	if (!S_ISREG(st.st_mode))
		return err_set(err, EINVAL, "is not a regular file");
	if (st.st_size < (off_t)SAVED_HEADER)
		return err_set(err, EINVAL, "is not a %s", kind->name);
	file->size = (uint64_t)st.st_size;
	rc = blob_read(file, 0, header, SAVED_HEADER, err);
	if (rc < 0)
		return rc;
	if (memcmp(header, kind->magic, 8) != 0)
		return err_set(err, EINVAL, "is not a %s", kind->name);
	if (le64_get(header + AT_HEADER_SUM) != saved_sum(header, AT_HEADER_SUM))
		return err_set(err, EINVAL, "its header has changed since it was written");
	if (le32_get(header + AT_VERSION) != kind->version)
		return err_set(err, EINVAL, "its form is version %u: this lodge knows %u",
			       le32_get(header + AT_VERSION), kind->version);
	return 0;
}

static int read_header(struct saved *s, struct err *err)
{
	static const struct saved_kind kind = {"saved machine", SAVED_MAGIC, SAVED_VERSION};
	uint8_t header[SAVED_HEADER];
	int rc = saved_read_header(&s->file, &kind, header, err);

	if (rc < 0)
		return rc;
	s->description_len = le32_get(header + AT_DESCRIPTION);
	s->sections_len = le64_get(header + AT_SECTIONS);
	s->memory_at = le64_get(header + AT_MEMORY);
	s->memory_len = le64_get(header + AT_MEMORY_LEN);
	s->body_sum = le64_get(header + AT_BODY_SUM);
	return check_lengths(s, err);
}

static int read_body(struct saved *s, struct err *err)
{
	int rc;

	s->body = malloc(s->body_len ? s->body_len : 1);
	if (!s->body)
		return err_set(err, ENOMEM, "no memory");
	rc = blob_read(&s->file, SAVED_HEADER, s->body, s->body_len, err);
	if (rc == 0 && saved_sum(s->body, s->body_len) != s->body_sum)
		rc = err_set(err, EINVAL, "its description or state has changed since it was written");
	if (rc == 0)
		rc = json_parse(&s->description, (const char *)s->body, s->description_len, err);
	return rc;
}

/* -- Disks ------------------------------------------------------------------------- */

/* A file of before there were others has none. */
static int read_format(const struct json_value *v, enum disk_format *format, struct err *err)
{
	const char *word = disk_formats[DISK_RAW];
	int rc = json_find(v, "format") ? json_get_str(v, "format", &word, err) : 0;

	if (rc < 0)
		return rc;
	for (*format = DISK_RAW; *format <= DISK_QCOW2; ++*format)
		if (word && strcmp(word, disk_formats[*format]) == 0)
			return 0;
	return err_set(err, EINVAL, "a disk's format is '%s', not raw or qcow2", word ? word : "");
}

/* Which of some words it is. */
static int read_word(const char *word, const char *const *words, unsigned n, const char *what, unsigned *into, struct err *err)
{
	for (*into = 0; *into < n; ++*into)
		if (word && strcmp(word, words[*into]) == 0)
			return 0;
	return err_set(err, EINVAL, "'%s' is no %s that this lodge knows", word ? word : "", what);
}

static int read_bus(const struct json_value *v, enum machine_bus usual, enum machine_bus *bus, struct err *err)
{
	const char *word = machine_buses[usual];
	unsigned i = 0;
	int rc = json_find(v, "bus") ? json_get_str(v, "bus", &word, err) : 0;

	if (rc == 0)
		rc = read_word(word, machine_buses, MACHINE_BUSES, "disk's bus", &i, err);
	*bus = (enum machine_bus)i;
	return rc;
}

/* Of what came while the machine ran; who makes it again looks whether it can be there. */
static int read_spot(const struct json_value *v, struct machine_spot *spot, struct err *err)
{
	uint64_t port = 0;
	const char *id;
	int rc;

	*spot = (struct machine_spot){.port = 0};
	if (!json_find(v, "behind"))
		return 0;
	if ((rc = json_get_uint(v, "behind", MACHINE_PORTS_MAX, &port, err)) < 0 || (rc = json_get_str(v, "id", &id, err)) < 0)
		return rc;
	if (strlen(id) >= MACHINE_ID_MAX || !port)
		return err_set(err, EINVAL, "its device '%.40s' is behind root port %u, or is called so", id, (unsigned)port);
	strcpy(spot->id, id); /* SAFE: it was measured */
	spot->port = (unsigned)port;
	return 0;
}

static int read_cd(struct saved *s, const struct json_value *v, struct err *err)
{
	struct saved_disk *d = &s->cds[s->n_cds];
	int rc = 0;

	if (s->n_cds == MACHINE_CDS_MAX)
		return err_set(err, EINVAL, "it has more than %d CD drives", MACHINE_CDS_MAX);
	*d = (struct saved_disk){.format = DISK_RAW, .readonly = true};
	rc = read_bus(v, MACHINE_SATA, &d->bus, err);
	if (rc < 0)
		return rc;
	if (d->bus != MACHINE_SATA && d->bus != MACHINE_IDE)
		return err_set(err, EINVAL, "a CD drive is at %s, where none can be", machine_buses[d->bus]);
	if (json_find(v, "path") &&
	    ((rc = json_get_str(v, "path", &d->path, err)) < 0 || (rc = json_get_uint(v, "size", UINT64_MAX, &d->size, err)) < 0 ||
	     (rc = json_get_uint(v, "written", UINT64_MAX, &d->written, err)) < 0))
		return rc;
	s->n_cds++;
	return 0;
}

static int read_disk(struct saved *s, const struct json_value *v, struct err *err)
{
	struct saved_disk *d = &s->disks[s->n_disks];
	int rc;

	if (s->n_disks == MACHINE_DISKS_MAX)
		return err_set(err, EINVAL, "it has more than %d disks", MACHINE_DISKS_MAX);
	if ((rc = json_get_str(v, "path", &d->path, err)) < 0 || (rc = read_bus(v, MACHINE_VIRTIO, &d->bus, err)) < 0 ||
	    (rc = read_spot(v, &d->spot, err)) < 0 ||
	    (rc = read_format(v, &d->format, err)) < 0 ||
	    (rc = json_get_bool(v, "readonly", &d->readonly, err)) < 0 ||
	    (rc = json_get_uint(v, "size", UINT64_MAX, &d->size, err)) < 0 ||
	    (rc = json_get_uint(v, "written", UINT64_MAX, &d->written, err)) < 0)
		return rc;
	s->n_disks++;
	return 0;
}

static int read_disks(struct saved *s, struct err *err)
{
	const struct json_value *list;
	int rc = json_get(s->description, "disks", JSON_ARRAY, &list, err);

	for (const struct json_value *v = rc == 0 ? list->first : NULL; v && rc == 0; v = v->next)
		rc = read_disk(s, v, err);
	if (rc < 0 || !json_find(s->description, "cdroms"))
		return rc;
	rc = json_get(s->description, "cdroms", JSON_ARRAY, &list, err);
	for (const struct json_value *v = rc == 0 ? list->first : NULL; v && rc == 0; v = v->next)
		rc = read_cd(s, v, err);
	return rc;
}

unsigned saved_disks(const struct saved *s)
{
	return s->n_disks;
}

const struct saved_disk *saved_disk(const struct saved *s, unsigned i)
{
	return i < s->n_disks ? &s->disks[i] : NULL;
}

unsigned saved_cds(const struct saved *s)
{
	return s->n_cds;
}

const struct saved_disk *saved_cd(const struct saved *s, unsigned i)
{
	return i < s->n_cds ? &s->cds[i] : NULL;
}

static int check_disk(const struct saved_disk *d, const struct disk *disk, struct err *err)
{
	uint64_t size = disk_info(disk)->size;

	if (size != d->size)
		return err_set(err, EINVAL,
			       "disk '%s' has %" PRIu64 " bytes; when the machine was saved it had %"
			       PRIu64, d->path, size, d->size);
	if (!disk_info(disk)->undated && disk_written(disk) != d->written)
		return err_set(err, EINVAL,
			       "disk '%s' has been written since the machine was saved: the guest "
			       "would find another disk than it remembers", d->path);
	return 0;
}

int saved_check_disk(const struct saved *s, unsigned i, const struct disk *disk, struct err *err)
{
	return check_disk(&s->disks[i], disk, err);
}

int saved_check_cd(const struct saved *s, unsigned i, const struct disk *disk, struct err *err)
{
	return check_disk(&s->cds[i], disk, err);
}

/* -- Opening ----------------------------------------------------------------------- */

bool saved_is(const char *path)
{
	char magic[8];
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	bool is = fd >= 0 && pread(fd, magic, sizeof(magic), 0) == sizeof(magic) &&
		  memcmp(magic, SAVED_MAGIC, sizeof(magic)) == 0;

	if (fd >= 0)
		close(fd);
	return is;
}

int saved_open_fd(struct saved **out, int fd, const char *path, struct err *err)
{
	struct saved *s = calloc(1, sizeof(*s));
	int rc;

	*out = NULL;
	if (!s) {
		close(fd);
		return err_set(err, ENOMEM, "no memory");
	}
	s->file = (struct blob){.role = "saved machine", .path = path, .fd = fd};
	if ((rc = read_header(s, err)) < 0 || (rc = read_body(s, err)) < 0 ||
	    (rc = read_disks(s, err)) < 0) {
		saved_close(s);
		return err_at(err, rc, "'%s'", path);
	}
	*out = s;
	return 0;
}

int saved_open(struct saved **out, const char *path, struct err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	*out = NULL;
	return fd < 0 ? err_sys(err, errno, "'%s'", path) : saved_open_fd(out, fd, path, err);
}

void saved_close(struct saved *s)
{
	if (!s)
		return;
	blob_close(&s->file);
	free(s->description);
	free(s->body);
	free(s);
}

/* -- What it says ------------------------------------------------------------------ */

/* A string, or null, or not there: then it is younger than the file. */
static int get_text(const struct saved *s, const char *key, const char **text, struct err *err)
{
	const struct json_value *v = json_find(s->description, key);

	*text = NULL;
	if (!v || v->type == JSON_NULL)
		return 0;
	return json_get_str(s->description, key, text, err);
}

static int read_net(const struct json_value *v, struct machine_net *net, struct err *err)
{
	const char *mac, *card = machine_cards[MACHINE_CARD_VIRTIO];
	unsigned which;
	uint64_t mtu, queues = 1;
	int rc;

	*net = (struct machine_net){.how = NULL};
	if ((rc = read_spot(v, &net->spot, err)) < 0 || (rc = json_get_str(v, "how", &net->how, err)) < 0 || (rc = json_get_str(v, "mac", &mac, err)) < 0 ||
	    (rc = json_get_uint(v, "mtu", UINT16_MAX, &mtu, err)) < 0)
		return rc;
	net->mtu = (unsigned)mtu;
	if ((json_find(v, "rom") && (rc = json_get_str(v, "rom", &net->rom, err)) < 0) ||
	    (json_find(v, "model") && (rc = json_get_str(v, "model", &card, err)) < 0))
		return rc;
	if (json_find(v, "queues") && (rc = json_get_uint(v, "queues", MACHINE_QUEUES_MAX, &queues, err)) < 0)
		return rc;
	net->queues = (unsigned)queues;
	rc = read_word(card, machine_cards, MACHINE_CARDS, "network card", &which, err);
	net->card = (enum machine_card)which;
	return rc < 0 ? rc : mac_parse(net->mac, mac, err);
}

static int get_nets(const struct saved *s, struct machine_config *config, struct err *err)
{
	const struct json_value *first = json_find(s->description, "net"), *list = json_find(s->description, "more-nets");
	int rc = 0;

	config->net = (struct machine_net){.how = NULL};
	config->n_more_nets = 0;
	if (first)
		rc = read_net(first, &config->net, err);
	if (rc == 0 && config->net.spot.port)
		return err_set(err, EINVAL, "its first network card is behind a root port");
	if (rc == 0 && list && list->type != JSON_ARRAY)
		return err_set(err, EINVAL, "its 'more-nets' is no list");
	for (const struct json_value *v = list ? list->first : NULL; v && rc == 0; v = v->next) {
		if (config->n_more_nets == MACHINE_PORTS_MAX)
			return err_set(err, EINVAL, "it has more than %d network cards behind root ports", MACHINE_PORTS_MAX);
		rc = read_net(v, &config->more_nets[config->n_more_nets], err);
		if (rc == 0 && !config->more_nets[config->n_more_nets++].spot.port)
			return err_set(err, EINVAL, "it has a second network card that is behind no root port");
	}
	return rc;
}

static int get_boot(const struct saved *s, struct machine_config *config, struct err *err)
{
	const struct json_value *list;
	unsigned i = 0;
	int rc;

	config->n_boot = 0;
	if (!json_find(s->description, "boot-order"))
		return 0;
	rc = json_get(s->description, "boot-order", JSON_ARRAY, &list, err);
	for (const struct json_value *v = rc == 0 ? list->first : NULL; v && rc == 0; v = v->next) {
		if (config->n_boot == MACHINE_BOOTS)
			return err_set(err, EINVAL, "it boots from more than there is");
		rc = read_word(v->type == JSON_STRING ? v->text : NULL, machine_boots, MACHINE_BOOTS, "thing to boot from", &i, err);
		config->boot[config->n_boot++] = (enum machine_boot)i;
	}
	return rc;
}

static int get_shares(const struct saved *s, struct machine_config *config, struct err *err)
{
	const struct json_value *list = json_find(s->description, "shares");

	config->n_shares = 0;
	if (list && list->type != JSON_ARRAY)
		return err_set(err, EINVAL, "its 'shares' is no list");
	for (const struct json_value *v = list ? list->first : NULL; v; v = v->next) {
		struct machine_share *share = &config->shares[config->n_shares++];
		int rc;

		if (config->n_shares > MACHINE_SHARES_MAX)
			return err_set(err, EINVAL, "it has more than %d shared directories", MACHINE_SHARES_MAX);
		share->fd = -1;
		if ((rc = json_get_str(v, "tag", &share->tag, err)) < 0 || (rc = json_get_str(v, "path", &share->path, err)) < 0 ||
		    (rc = json_get_bool(v, "readonly", &share->readonly, err)) < 0)
			return rc;
	}
	return 0;
}

static int get_cid(const struct saved *s, struct machine_vsock *vsock, struct err *err)
{
	uint64_t cid = 0;
	int rc = json_find(s->description, "cid") ? json_get_uint(s->description, "cid", MACHINE_CID_MAX, &cid, err) : 0;

	*vsock = (struct machine_vsock){.cid = (uint32_t)cid};
	return rc < 0 || !cid || cid >= MACHINE_CID_MIN ? rc : err_set(err, EINVAL, "its 'cid' is %llu, which is no guest's",
								       (unsigned long long)cid);
}

static int get_vga(const struct saved *s, struct machine_config *config, struct err *err)
{
	const char *word;
	unsigned i = MACHINE_VGA_STD;
	int rc = get_text(s, "vga", &word, err);

	if (rc == 0 && word)
		rc = read_word(word, machine_vgas, MACHINE_VGAS, "screen", &i, err);
	config->vga = (enum machine_vga)i;
	return rc;
}

int saved_config(const struct saved *s, struct machine_config *config, struct err *err)
{
	const char *console, *board;
	uint64_t cpus, memory, ports = 0;
	int rc;

	if ((rc = json_get_uint(s->description, "cpus", MACHINE_CPUS_MAX, &cpus, err)) < 0 ||
	    (rc = json_get_uint(s->description, "memory", UINT64_MAX, &memory, err)) < 0 ||
	    (rc = get_text(s, "board", &board, err)) < 0 ||
	    (rc = get_text(s, "firmware", &config->firmware, err)) < 0 ||
	    (rc = get_text(s, "kernel", &config->kernel, err)) < 0 ||
	    (rc = get_text(s, "initrd", &config->initrd, err)) < 0 ||
	    (rc = get_text(s, "append", &config->cmdline, err)) < 0 ||
	    (rc = get_text(s, "port", &config->port.name, err)) < 0 ||
	    (rc = get_nets(s, config, err)) < 0 || (rc = get_boot(s, config, err)) < 0 ||
	    (rc = get_shares(s, config, err)) < 0 || (rc = get_cid(s, &config->vsock, err)) < 0 ||
	    (rc = json_get_str(s->description, "console", &console, err)) < 0 ||
	    (json_find(s->description, "old-virtio") &&
	     (rc = json_get_bool(s->description, "old-virtio", &config->old_virtio, err)) < 0) ||
	    (json_find(s->description, "root-ports") &&
	     (rc = json_get_uint(s->description, "root-ports", MACHINE_PORTS_MAX, &ports, err)) < 0) ||
	    (json_find(s->description, "hpet") &&
	     (rc = json_get_bool(s->description, "hpet", &config->hpet, err)) < 0) ||
	    (json_find(s->description, "screen") &&
	     (rc = json_get_bool(s->description, "screen", &config->screen, err)) < 0) ||
	    (rc = get_vga(s, config, err)) < 0 ||
	    (json_find(s->description, "usb") && (rc = json_get_bool(s->description, "usb", &config->usb, err)) < 0) ||
	    (json_find(s->description, "virtio-input") &&
	     (rc = json_get_bool(s->description, "virtio-input", &config->virtio_input, err)) < 0) ||
	    (json_find(s->description, "balloon") &&
	     (rc = json_get_bool(s->description, "balloon", &config->balloon, err)) < 0))
		return rc;
	config->board = board ? board_find(board) : &board_direct;
	if (!config->board)
		return err_set(err, EINVAL, "it has the board '%s', which this lodge does not know", board);
	if (!config->board->at[BOARD_ROM].what != !config->firmware)
		return err_set(err, EINVAL, "its board and its firmware do not go together");
	if (memory > MAP_MEMORY_MAX || map_size(config->board, memory, machine_video(config)) != s->memory_len)
		return err_set(err, EINVAL, "its header and its description disagree about memory");
	if (ports && !config->firmware)
		return err_set(err, EINVAL, "it has root ports, and no firmware to number what is behind them");
	config->root_ports = (unsigned)ports;
	config->cpus = (unsigned)cpus;
	config->memory = memory;
	config->virtio_console = strcmp(console, "virtio") == 0;
	config->saved = s;
	return 0;
}

const struct json_value *saved_description(const struct saved *s)
{
	return s->description;
}

struct state_in saved_sections(const struct saved *s)
{
	return (struct state_in){.bytes = s->body + s->description_len, .len = s->sections_len};
}

/* -- Memory ------------------------------------------------------------------------ */

static const uint8_t *sums(const struct saved *s)
{
	return s->body + s->description_len + s->sections_len;
}

int saved_memory(const struct saved *s, int (*take)(void *ctx, uint64_t at, uint64_t len),
		 void *ctx)
{
	uint64_t at = 0;
	int rc = 0;

	while (rc == 0 && at < s->memory_len) {
		off_t data = lseek(s->file.fd, (off_t)(s->memory_at + at), SEEK_DATA);
		off_t hole = data < 0 ? -1 : lseek(s->file.fd, data, SEEK_HOLE);
		uint64_t end = s->memory_len;

		if (data < 0 && errno == ENXIO)
			return 0;
		if (data >= 0)
			at = (uint64_t)data - s->memory_at;
		if (hole >= 0 && (uint64_t)hole - s->memory_at < end)
			end = (uint64_t)hole - s->memory_at;
		if (at < s->memory_len)
			rc = take(ctx, at, end - at);
		at = end;
	}
	return rc;
}

static int add_len(void *ctx, uint64_t at, uint64_t len)
{
	(void)at;
	*(uint64_t *)ctx += len;
	return 0;
}

uint64_t saved_stored(const struct saved *s)
{
	uint64_t sum = 0;

	saved_memory(s, add_len, &sum);
	return sum;
}

/* All zeros are 0, whether they are stored or not. */
static uint64_t sum_of(const uint8_t *chunk, size_t len)
{
	return is_all_zero(chunk, len) ? 0 : saved_sum(chunk, len);
}

/* Nothing of it is stored: zeros that need not be read. */
static bool is_hole(int fd, uint64_t at, size_t len)
{
	off_t data = lseek(fd, (off_t)at, SEEK_DATA);

	return data < 0 ? errno == ENXIO : (uint64_t)data >= at + len;
}

int saved_check_memory(const struct blob *file, uint64_t begin, uint64_t memory, const uint8_t *sums,
		       struct err *err)
{
	uint8_t *chunk = malloc(SAVED_CHUNK);
	int rc = chunk ? 0 : err_set(err, ENOMEM, "no memory");

	for (uint64_t at = 0; rc == 0 && at < memory; at += SAVED_CHUNK) {
		uint64_t left = memory - at;
		size_t len = (size_t)(left < SAVED_CHUNK ? left : SAVED_CHUNK);

		if (!le64_get(sums + at / SAVED_CHUNK * 8) && begin + at + len <= file->size &&
		    is_hole(file->fd, begin + at, len))
			continue;
		rc = blob_read(file, begin + at, chunk, len, err);
		if (rc == 0 && sum_of(chunk, len) != le64_get(sums + at / SAVED_CHUNK * 8))
			rc = err_set(err, EINVAL,
				     "memory between 0x%" PRIx64 " and 0x%" PRIx64
				     " has changed since it was written", at, at + len);
	}
	free(chunk);
	return rc;
}

int saved_check(const struct saved *s, struct err *err)
{
	return saved_check_memory(&s->file, s->memory_at, s->memory_len, sums(s), err);
}

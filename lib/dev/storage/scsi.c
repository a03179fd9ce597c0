/* SPDX-License-Identifier: MIT */
/*
 * What SCSI commands mean, to a disk (SBC-3) and to a CD drive (MMC-6), and to both (SPC-4). How they come, and how bytes go, is the
 * controller's; a command here is looked at once, and is either answered, or is a request for a disk.
 *
 * A command that fails leaves its reason: sense data. It goes with the answer (virtio-scsi), and stays for REQUEST SENSE (ATAPI).
 *
 * A CD drive's tray. What lies in it is the user's: the machine's configuration. Whether it is open is the guest's: START STOP UNIT opens
 * and closes it, as the button would, which the guest can switch off by PREVENT ALLOW MEDIUM REMOVAL. Another medium is told twice, by
 * a unit attention to the next command and by an event to who polls for those, as Linux does.
 *
 * Disks have blocks of 512 bytes, CDs of 2048; a file that ends in half a one has one less.
 *
 * Left out: audio, sessions (all of a CD is track 1), writing to CDs, reservations, protection information, mode pages that can be
 * changed: they read as what is, and MODE SELECT of anything is refused.
 */
#include "dev/storage/scsi.h"

#include "base/bytes.h"
#include "base/macros.h"

#include <errno.h>
#include <string.h>

#define CD_BLOCK  2048u
#define CD_BLOCKS (80u * 60 * 75) /* what a CD has room for; a larger one is a DVD */

/* Additional sense codes: asc << 8 | ascq. */
#define WRITE_ERROR     0x0c00u
#define READ_ERROR      0x1100u
#define BAD_COMMAND     0x2000u
#define BAD_ADDRESS     0x2100u
#define BAD_FIELD       0x2400u
#define PROTECTED       0x2700u
#define MEDIUM_CHANGED  0x2800u
#define NOT_COMPATIBLE  0x3002u
#define NO_MEDIUM       0x3a01u /* tray closed */
#define NO_MEDIUM_OPEN  0x3a02u
#define LOCKED          0x5302u
#define WRONG_MODE      0x6400u /* illegal mode for this track */

#define UNMAP_MAX 64u         /* ranges in one command */
#define UNMAP_BLOCKS (1u << 22)
#define RANGES_AT 8u          /* in UNMAP's list */

/* -- Ends ---------------------------------------------------------------------------------- */

void scsi_fail(struct scsi_unit *u, struct scsi_cmd *c, uint8_t key, uint16_t code)
{
	c->how = SCSI_DONE;
	c->status = SCSI_CHECK;
	c->reply_len = 0;
	c->key = u->key = key;
	c->asc = u->asc = (uint8_t)(code >> 8);
	c->ascq = u->ascq = (uint8_t)code;
}

static void bad_field(struct scsi_unit *u, struct scsi_cmd *c)
{
	scsi_fail(u, c, SENSE_ILLEGAL, BAD_FIELD);
}

void scsi_sense(uint8_t sense[SCSI_SENSE], uint8_t key, uint8_t asc, uint8_t ascq)
{
	memset(sense, 0, SCSI_SENSE);
	sense[0] = 0x70; /* of this command, fixed format */
	sense[2] = key;
	sense[7] = SCSI_SENSE - 8;
	sense[12] = asc;
	sense[13] = ascq;
}

void scsi_end(struct scsi_unit *u, struct scsi_cmd *c, int rc)
{
	if (rc == 0)
		return;
	if (rc == -EROFS)
		scsi_fail(u, c, SENSE_PROTECT, PROTECTED);
	else if (rc == -EINVAL)
		scsi_fail(u, c, SENSE_ILLEGAL, BAD_ADDRESS);
	else
		scsi_fail(u, c, SENSE_MEDIUM, c->io.op == DISK_READ ? READ_ERROR : WRITE_ERROR);
}

/* The reply, of which the guest wants no more than `room`. */
static void reply(struct scsi_cmd *c, uint32_t len, uint32_t room)
{
	c->how = SCSI_REPLY;
	c->reply_len = len < room ? len : room;
}

/* -- A unit -------------------------------------------------------------------------------- */

static uint32_t block_size(const struct scsi_unit *u)
{
	return u->kind == SCSI_CD ? CD_BLOCK : DISK_SECTOR;
}

static uint64_t blocks(const struct scsi_unit *u)
{
	return disk_info(u->disk)->size / block_size(u);
}

/* What commands that know 32 bits are told of a large one. */
static uint32_t short_blocks(const struct scsi_unit *u)
{
	return blocks(u) > UINT32_MAX ? UINT32_MAX : (uint32_t)blocks(u);
}

static bool is_dvd(const struct scsi_unit *u)
{
	return scsi_is_ready(u) && blocks(u) > CD_BLOCKS;
}

void scsi_reset(struct scsi_unit *u)
{
	u->open = u->prevented = u->changed = false;
	u->event = EVENT_NONE;
	u->key = u->asc = u->ascq = 0;
}

void scsi_change(struct scsi_unit *u, struct disk *disk)
{
	u->disk = disk;
	u->open = !disk;
	u->prevented = false;
	u->changed = disk != NULL;
	u->event = disk ? EVENT_NEW_MEDIUM : EVENT_REMOVED;
}

void scsi_press(struct scsi_unit *u)
{
	u->event = EVENT_EJECT_WISH;
}

/* -- Looking ------------------------------------------------------------------------------- */

static void put_text(uint8_t *to, size_t room, const char *text)
{
	size_t len = strlen(text);

	memset(to, ' ', room);
	memcpy(to, text, len < room ? len : room);
}

static void standard_inquiry(struct scsi_unit *u, struct scsi_cmd *c)
{
	uint8_t *r = c->reply;

	r[0] = u->kind == SCSI_CD ? 5 : 0;
	r[1] = u->kind == SCSI_CD ? 0x80 : 0; /* its medium can be taken out */
	r[2] = 6;                             /* SPC-4 */
	r[3] = 2;
	r[4] = 36 - 5;
	r[7] = 2; /* command queuing */
	put_text(r + 8, 8, "LODGE");
	put_text(r + 16, 16, u->kind == SCSI_CD ? "CD-ROM" : "DISK");
	put_text(r + 32, 4, "1.0");
	reply(c, 36, be16_get(c->cdb + 3));
}

/* Vital product data: how a command may be, and who the unit is. */
static uint32_t put_limits(struct scsi_unit *u, uint8_t *r)
{
	if (u->kind != SCSI_DISK)
		return 0;
	be32_put(r + 16, UNMAP_BLOCKS);
	be32_put(r + 20, UNMAP_MAX);
	be32_put(r + 24, 1);
	be64_put(r + 32, UNMAP_BLOCKS); /* WRITE SAME */
	return 60;
}

static uint32_t put_provisioning(struct scsi_unit *u, uint8_t *r)
{
	if (u->kind != SCSI_DISK)
		return 0;
	r[1] = disk_info(u->disk)->can_discard ? 0xc0 : 0; /* UNMAP, WRITE SAME (16) */
	r[2] = disk_info(u->disk)->can_discard ? 2 : 0;    /* thin */
	return 4;
}

static void vital_inquiry(struct scsi_unit *u, struct scsi_cmd *c)
{
	static const uint8_t pages[] = {0x00, 0x80, 0x83, 0xb0, 0xb2};
	uint8_t *r = c->reply, *body = r + 4;
	uint32_t len = 0;

	switch (c->cdb[2]) {
	case 0x00:
		len = sizeof(pages);
		memcpy(body, pages, len);
		break;
	case 0x80:
		len = (uint32_t)strlen(u->serial);
		memcpy(body, u->serial, len);
		break;
	case 0x83: /* a name by the vendor */
		len = 4 + 8 + (uint32_t)strlen(u->serial);
		body[0] = 2;
		body[1] = 1;
		body[3] = (uint8_t)(len - 4);
		put_text(body + 4, 8, "LODGE");
		memcpy(body + 12, u->serial, len - 12);
		break;
	case 0xb0:
		len = put_limits(u, body);
		break;
	case 0xb2:
		len = put_provisioning(u, body);
		break;
	default:
		bad_field(u, c);
		return;
	}
	r[0] = u->kind == SCSI_CD ? 5 : 0;
	r[1] = c->cdb[2];
	be16_put(r + 2, (uint16_t)len);
	reply(c, len + 4, be16_get(c->cdb + 3));
}

static void inquiry(struct scsi_unit *u, struct scsi_cmd *c)
{
	if (c->cdb[1] & 1)
		vital_inquiry(u, c);
	else if (c->cdb[2])
		bad_field(u, c);
	else
		standard_inquiry(u, c);
}

static void request_sense(struct scsi_unit *u, struct scsi_cmd *c)
{
	scsi_sense(c->reply, u->key, u->asc, u->ascq);
	u->key = u->asc = u->ascq = 0;
	reply(c, SCSI_SENSE, c->cdb[4]);
}

static void report_luns(struct scsi_unit *u, struct scsi_cmd *c)
{
	if (be32_get(c->cdb + 6) < 16) {
		bad_field(u, c);
		return;
	}
	be32_put(c->reply, 8); /* one, and it is 0 */
	reply(c, 16, be32_get(c->cdb + 6));
}

static void done(struct scsi_unit *u, struct scsi_cmd *c)
{
	(void)u, (void)c;
}

static void read_capacity(struct scsi_unit *u, struct scsi_cmd *c)
{
	uint32_t n = short_blocks(u);

	be32_put(c->reply, n == UINT32_MAX ? n : n - 1);
	be32_put(c->reply + 4, block_size(u));
	reply(c, 8, 8);
}

static void service_in(struct scsi_unit *u, struct scsi_cmd *c)
{
	const struct disk_info *info = disk_info(u->disk);

	if ((c->cdb[1] & 0x1f) != 0x10) { /* READ CAPACITY (16) */
		bad_field(u, c);
		return;
	}
	be64_put(c->reply, blocks(u) - 1);
	be32_put(c->reply + 8, block_size(u));
	if (u->kind == SCSI_DISK) {
		c->reply[13] = (uint8_t)(info->block > DISK_SECTOR ? __builtin_ctz(info->block / DISK_SECTOR) : 0);
		c->reply[14] = info->can_discard ? 0x80 : 0;
	}
	reply(c, 32, be32_get(c->cdb + 10));
}

/* -- Mode pages ----------------------------------------------------------------------------- */

static uint32_t put_page(uint8_t *at, uint8_t page, uint8_t len)
{
	at[0] = page;
	at[1] = len;
	return len + 2u;
}

/* One page, or all (0x3f). How many bytes; 0: there is none. */
static uint32_t put_pages(struct scsi_unit *u, uint8_t page, uint8_t *to)
{
	uint8_t *at = to;

	if (page == 0x01 || page == 0x3f) /* errors: nothing special */
		at += put_page(at, 0x01, 10);
	if (u->kind == SCSI_DISK && (page == 0x08 || page == 0x3f)) {
		at[2] = 4; /* there is a cache for writes: flushes count */
		at += put_page(at, 0x08, 18);
	}
	if (u->kind == SCSI_CD && (page == 0x2a || page == 0x3f)) {
		at[2] = 0x0b;               /* reads CD-R, CD-RW and DVD */
		at[4] = 0x70;               /* multi-session, mode 2 */
		at[6] = 0x29;               /* a tray, which can be locked and ejects */
		at[6] |= u->prevented ? 2 : 0;
		be16_put(at + 8, 706 * 4);  /* KB/s: speed at most, and now */
		be16_put(at + 14, 706 * 4);
		at += put_page(at, 0x2a, 18);
	}
	return (uint32_t)(at - to);
}

static void mode_sense(struct scsi_unit *u, struct scsi_cmd *c)
{
	bool is_long = c->cdb[0] == 0x5a;
	uint32_t head = is_long ? 8 : 4, len, room = is_long ? be16_get(c->cdb + 7) : c->cdb[4];
	uint8_t page = c->cdb[2] & 0x3f, control = c->cdb[2] >> 6;

	len = c->cdb[3] ? 0 : put_pages(u, page, c->reply + head);
	if (!len || control == 3) { /* of saved values there are none */
		bad_field(u, c);
		return;
	}
	if (control == 1) /* which bits can be changed */
		memset(c->reply + head + 2, 0, len - 2);
	if (is_long)
		be16_put(c->reply, (uint16_t)(len + head - 2));
	else
		c->reply[0] = (uint8_t)(len + head - 1);
	if (u->kind == SCSI_DISK) /* write protected; FUA is known */
		c->reply[is_long ? 3 : 2] = disk_info(u->disk)->readonly ? 0x90 : 0x10;
	reply(c, len + head, room);
}

/* -- Reading and writing --------------------------------------------------------------------- */

/* Blocks of the medium; c->len is what moves. */
static void transfer(struct scsi_unit *u, struct scsi_cmd *c, enum disk_op op, uint64_t first, uint64_t n)
{
	if (first > blocks(u) || n > blocks(u) - first) {
		scsi_fail(u, c, SENSE_ILLEGAL, BAD_ADDRESS);
		return;
	}
	if (op != DISK_READ && (u->kind == SCSI_CD || disk_info(u->disk)->readonly)) {
		scsi_fail(u, c, SENSE_PROTECT, PROTECTED);
		return;
	}
	if (n == 0)
		return;
	c->how = SCSI_IO;
	c->len = n * block_size(u);
	c->io = (struct disk_req){.op = op, .at = first * block_size(u)};
	if (op == DISK_ZERO || op == DISK_DISCARD) {
		c->io.len = c->len;
		c->len = 0;
	}
}

/* Where the command says which blocks, by its length: the group of its code. */
static void read_address(const struct scsi_cmd *c, uint64_t *first, uint64_t *n)
{
	switch (c->cdb[0] >> 5) {
	case 0:
		*first = be32_get(c->cdb) & 0x1fffff;
		*n = c->cdb[4] ? c->cdb[4] : 256;
		break;
	case 5:
		*first = be32_get(c->cdb + 2);
		*n = be32_get(c->cdb + 6);
		break;
	case 4:
		*first = be64_get(c->cdb + 2);
		*n = be32_get(c->cdb + 10);
		break;
	default:
		*first = be32_get(c->cdb + 2);
		*n = be16_get(c->cdb + 7);
	}
}

static void read_blocks(struct scsi_unit *u, struct scsi_cmd *c)
{
	uint64_t first, n;

	read_address(c, &first, &n);
	transfer(u, c, DISK_READ, first, n);
}

static void write_blocks(struct scsi_unit *u, struct scsi_cmd *c)
{
	uint64_t first, n;

	read_address(c, &first, &n);
	transfer(u, c, DISK_WRITE, first, n);
	c->io.sync = c->cdb[0] >> 5 && c->cdb[1] & 8; /* FUA */
}

/* What is on a medium is right. */
static void verify(struct scsi_unit *u, struct scsi_cmd *c)
{
	uint64_t first, n;

	read_address(c, &first, &n);
	if (c->cdb[1] & 6) /* compare with data that come */
		bad_field(u, c);
	else if (first > blocks(u) || n > blocks(u) - first)
		scsi_fail(u, c, SENSE_ILLEGAL, BAD_ADDRESS);
}

static void synchronize(struct scsi_unit *u, struct scsi_cmd *c)
{
	(void)u;
	c->how = SCSI_IO;
	c->io = (struct disk_req){.op = DISK_FLUSH};
}

/* Zeros are all that we can write often; whether as holes (UNMAP) is the file's. */
static void write_same(struct scsi_unit *u, struct scsi_cmd *c, const struct pieces *out)
{
	uint8_t block[DISK_SECTOR] = {0};
	bool has_block = !(c->cdb[1] & 1);
	uint64_t first, n;

	read_address(c, &first, &n);
	if (n == 0 && first < blocks(u)) /* to the end */
		n = blocks(u) - first;
	if ((has_block && pieces_get(out, 0, block, sizeof(block)) < sizeof(block)) ||
	    !is_all_zero(block, sizeof(block)) || n > UNMAP_BLOCKS || c->cdb[1] & 0x16)
		bad_field(u, c);
	else
		transfer(u, c, DISK_ZERO, first, n);
}

static void parse_range(const uint8_t *entry, uint64_t *first, uint64_t *n)
{
	*first = be64_get(entry);
	*n = be32_get(entry + 8);
}

static void unmap(struct scsi_unit *u, struct scsi_cmd *c, const struct pieces *out)
{
	uint8_t head[RANGES_AT];
	unsigned len = be16_get(c->cdb + 7), n;

	if (len == 0)
		return;
	if (len < RANGES_AT || pieces_get(out, 0, head, sizeof(head)) < sizeof(head)) {
		bad_field(u, c);
		return;
	}
	n = be16_get(head + 2) / 16u;
	if (n > UNMAP_MAX || RANGES_AT + n * 16u > len || RANGES_AT + n * 16u > out->len) {
		bad_field(u, c);
		return;
	}
	c->how = SCSI_RANGES;
	c->io.op = DISK_DISCARD;
	c->ranges = (struct ranges){.list = out, .at = RANGES_AT, .step = 16, .left = n, .parse = parse_range};
}

/* -- CD drives -------------------------------------------------------------------------------- */

static void prevent(struct scsi_unit *u, struct scsi_cmd *c)
{
	u->prevented = c->cdb[4] & 1;
}

static void start_stop(struct scsi_unit *u, struct scsi_cmd *c)
{
	bool load = c->cdb[4] & 2, start = c->cdb[4] & 1;

	if (u->kind != SCSI_CD || !load || c->cdb[4] >> 4)
		return;
	if (!start && u->prevented) {
		scsi_fail(u, c, SENSE_ILLEGAL, LOCKED);
		return;
	}
	if (u->open && start && u->disk) {
		u->changed = true;
		u->event = EVENT_NEW_MEDIUM;
	}
	if (!u->open && !start)
		u->event = EVENT_REMOVED;
	u->open = !start;
}

/* Minutes, seconds, frames: as CDs count, from two seconds before the first block. */
static void put_time(uint8_t *to, uint32_t block)
{
	block += 150;
	to[1] = (uint8_t)(block / 75 / 60);
	to[2] = (uint8_t)(block / 75 % 60);
	to[3] = (uint8_t)(block % 75);
}

static void put_track(uint8_t *to, uint8_t number, uint32_t block, bool as_time)
{
	to[1] = 0x14; /* data */
	to[2] = number;
	if (as_time)
		put_time(to + 4, block);
	else
		be32_put(to + 4, block);
}

/* One session with one track, and what is behind it. */
static void read_toc(struct scsi_unit *u, struct scsi_cmd *c)
{
	bool as_time = c->cdb[1] & 2;
	uint8_t format = c->cdb[2] & 0xf ? c->cdb[2] & 0xf : c->cdb[9] >> 6, *r = c->reply;
	uint32_t len = 4;

	if (format > 1 || (format == 0 && c->cdb[6] > 1 && c->cdb[6] != 0xaa)) {
		bad_field(u, c);
		return;
	}
	r[2] = r[3] = 1;
	if (format == 1 || c->cdb[6] <= 1) {
		put_track(r + len, 1, 0, as_time);
		len += 8;
	}
	if (format == 0) {
		put_track(r + len, 0xaa, short_blocks(u), as_time);
		len += 8;
	}
	be16_put(r, (uint16_t)(len - 2));
	reply(c, len, be16_get(c->cdb + 7));
}

static uint8_t *put_feature(uint8_t *at, uint16_t feature, uint8_t flags, uint8_t len)
{
	be16_put(at, feature);
	at[2] = flags; /* 1: current, 2: always; the version above */
	at[3] = len;
	return at + 4 + len;
}

static uint8_t *put_profile(uint8_t *at, uint16_t profile, bool is_current)
{
	be16_put(at, profile);
	at[2] = is_current;
	return at + 4;
}

enum { PROFILE_CD = 0x08, PROFILE_DVD = 0x10 };

static uint16_t profile(const struct scsi_unit *u)
{
	return !scsi_is_ready(u) ? 0 : is_dvd(u) ? PROFILE_DVD : PROFILE_CD;
}

/* Features from a number on, all or those that are current, or one. */
static void get_configuration(struct scsi_unit *u, struct scsi_cmd *c)
{
	uint8_t how = c->cdb[1] & 3, *r = c->reply, *at = r + 8;
	uint16_t from = be16_get(c->cdb + 2), is = profile(u);
	bool ready = is;
	static const struct {
		uint16_t number;
		uint8_t flags, len;
		bool needs_medium;
	} features[] = {
		{0x0000, 3, 8, false},  /* profiles */
		{0x0001, 0x0b, 8, false}, /* core */
		{0x0003, 0x07, 4, false}, /* a tray */
		{0x0010, 0, 8, true},   /* random access */
		{0x001e, 0x08, 4, true}, /* reads CDs */
		{0x001f, 0, 4, true},   /* and DVDs */
		{0x0105, 0x03, 4, false}, /* timeouts */
	};

	if (how == 3) {
		bad_field(u, c);
		return;
	}
	be16_put(r + 6, is);
	for (unsigned i = 0; i < ARRAY_SIZE(features); i++) {
		uint16_t n = features[i].number;
		bool is_now = !features[i].needs_medium || (n == 0x10 ? ready : n == 0x1e ? is == PROFILE_CD : is == PROFILE_DVD);
		uint8_t *body = at + 4;

		if ((how == 2 ? n != from : n < from) || (how == 1 && !is_now))
			continue;
		at = put_feature(at, n, (uint8_t)(features[i].flags | is_now), features[i].len);
		if (n == 0x0000) {
			put_profile(put_profile(body, PROFILE_DVD, is == PROFILE_DVD), PROFILE_CD, is == PROFILE_CD);
		} else if (n == 0x0001) {
			be32_put(body, 8); /* by AHCI */
			body[4] = 1;
		} else if (n == 0x0003) {
			body[0] = 0x39; /* a tray, ejects, can be locked, is loaded by us */
		} else if (n == 0x0010) {
			be32_put(body, CD_BLOCK);
			be16_put(body + 4, 16);
		}
	}
	be32_put(r, (uint32_t)(at - r - 4));
	reply(c, (uint32_t)(at - r), be16_get(c->cdb + 7));
}

/* Polled: the immediate form only. */
static void get_event(struct scsi_unit *u, struct scsi_cmd *c)
{
	uint8_t *r = c->reply;

	if (!(c->cdb[1] & 1)) {
		bad_field(u, c);
		return;
	}
	r[3] = 1 << 4; /* which classes there are: media */
	if (!(c->cdb[4] & 1 << 4)) {
		be16_put(r, 2);
		r[2] = 0x80; /* none that was asked for */
		reply(c, 4, be16_get(c->cdb + 7));
		return;
	}
	be16_put(r, 6);
	r[2] = 4;
	r[4] = u->event;
	r[5] = (uint8_t)(u->open | (u->disk && !u->open ? 2 : 0));
	u->event = EVENT_NONE;
	reply(c, 8, be16_get(c->cdb + 7));
}

static void mechanism(struct scsi_unit *u, struct scsi_cmd *c)
{
	c->reply[1] = u->open ? 0x10 : 0;
	c->reply[5] = 1;
	reply(c, 8, be16_get(c->cdb + 8));
}

/* Finished, and cannot be written. */
static void disc_information(struct scsi_unit *u, struct scsi_cmd *c)
{
	uint8_t *r = c->reply;

	if (c->cdb[1] & 7) {
		bad_field(u, c);
		return;
	}
	be16_put(r, 32);
	r[2] = 0x0e;
	r[3] = r[4] = r[5] = r[6] = 1;
	r[7] = 0x20;
	memset(r + 16, 0xff, 8);
	reply(c, 34, be16_get(c->cdb + 7));
}

static void track_information(struct scsi_unit *u, struct scsi_cmd *c)
{
	uint8_t *r = c->reply;

	be16_put(r, 34);
	r[2] = r[3] = 1;
	r[5] = 4; /* data */
	r[6] = 1;
	be32_put(r + 24, short_blocks(u));
	reply(c, 36, be16_get(c->cdb + 7));
}

/* Of a DVD its physical format, and nothing else. */
static void dvd_structure(struct scsi_unit *u, struct scsi_cmd *c)
{
	uint8_t *r = c->reply;

	if (!is_dvd(u)) {
		scsi_fail(u, c, SENSE_ILLEGAL, NOT_COMPATIBLE);
		return;
	}
	if (c->cdb[1] & 0xf || c->cdb[6] || c->cdb[7]) {
		bad_field(u, c);
		return;
	}
	be16_put(r, 2048 + 2);
	r[4] = 1; /* DVD-ROM, 12 cm */
	r[5] = 0x0f;
	r[6] = 1; /* one layer */
	be32_put(r + 8, 0x30000);
	be32_put(r + 12, 0x30000 + short_blocks(u) - 1);
	reply(c, 24, be16_get(c->cdb + 8));
}

/* READ CD: as much of a raw sector as a block has. */
static void read_cd(struct scsi_unit *u, struct scsi_cmd *c)
{
	uint64_t first = be32_get(c->cdb + 2), n = be32_get(c->cdb + 5) & 0xffffff;

	if ((c->cdb[9] & 0xf8) == 0 && !(c->cdb[10] & 7))
		return;
	if ((c->cdb[9] & 0xf8) != 0x10 || c->cdb[10] & 7)
		scsi_fail(u, c, SENSE_ILLEGAL, WRONG_MODE);
	else
		transfer(u, c, DISK_READ, first, n);
}

/* -- The table -------------------------------------------------------------------------------- */

#define ON_DISK 1u
#define ON_CD   2u
#define ON_BOTH (ON_DISK | ON_CD)
#define MEDIUM  4u /* one must be there */
#define CALM    8u /* is not told of another medium, nor forgets the last error */

static const struct command {
	uint8_t code, flags;
	void (*begin)(struct scsi_unit *u, struct scsi_cmd *c);
	void (*take)(struct scsi_unit *u, struct scsi_cmd *c, const struct pieces *out);
} commands[] = {
	{0x00, ON_BOTH | MEDIUM,  done,              NULL},       /* TEST UNIT READY */
	{0x03, ON_BOTH | CALM,    request_sense,     NULL},
	{0x08, ON_BOTH | MEDIUM,  read_blocks,       NULL},       /* READ (6) */
	{0x0a, ON_DISK | MEDIUM,  write_blocks,      NULL},       /* WRITE (6) */
	{0x12, ON_BOTH | CALM,    inquiry,           NULL},
	{0x1a, ON_BOTH,           mode_sense,        NULL},       /* (6) */
	{0x1b, ON_BOTH,           start_stop,        NULL},
	{0x1e, ON_CD,             prevent,           NULL},
	{0x25, ON_BOTH | MEDIUM,  read_capacity,     NULL},
	{0x28, ON_BOTH | MEDIUM,  read_blocks,       NULL},       /* (10) */
	{0x2a, ON_DISK | MEDIUM,  write_blocks,      NULL},       /* (10) */
	{0x2b, ON_BOTH | MEDIUM,  done,              NULL},       /* SEEK (10) */
	{0x2f, ON_BOTH | MEDIUM,  verify,            NULL},       /* (10) */
	{0x35, ON_DISK,           synchronize,       NULL},       /* (10) */
	{0x41, ON_DISK,           NULL,              write_same}, /* (10) */
	{0x42, ON_DISK,           NULL,              unmap},
	{0x43, ON_CD | MEDIUM,    read_toc,          NULL},
	{0x46, ON_CD | CALM,      get_configuration, NULL},
	{0x4a, ON_CD | CALM,      get_event,         NULL},
	{0x51, ON_CD | MEDIUM,    disc_information,  NULL},
	{0x52, ON_CD | MEDIUM,    track_information, NULL},
	{0x5a, ON_BOTH,           mode_sense,        NULL},       /* (10) */
	{0x88, ON_DISK | MEDIUM,  read_blocks,       NULL},       /* (16) */
	{0x8a, ON_DISK | MEDIUM,  write_blocks,      NULL},       /* (16) */
	{0x8f, ON_DISK | MEDIUM,  verify,            NULL},       /* (16) */
	{0x91, ON_DISK,           synchronize,       NULL},       /* (16) */
	{0x93, ON_DISK,           NULL,              write_same}, /* (16) */
	{0x9e, ON_DISK,           service_in,        NULL},       /* READ CAPACITY (16) */
	{0xa0, ON_BOTH | CALM,    report_luns,       NULL},
	{0xa8, ON_BOTH | MEDIUM,  read_blocks,       NULL},       /* (12) */
	{0xaa, ON_DISK | MEDIUM,  write_blocks,      NULL},       /* (12) */
	{0xad, ON_CD | MEDIUM,    dvd_structure,     NULL},
	{0xbb, ON_CD,             done,              NULL},       /* SET CD SPEED */
	{0xbd, ON_CD,             mechanism,         NULL},
	{0xbe, ON_CD | MEDIUM,    read_cd,           NULL},
};

static const struct command *find(const struct scsi_unit *u, uint8_t code)
{
	unsigned kind = u->kind == SCSI_CD ? ON_CD : ON_DISK;

	for (unsigned i = 0; i < ARRAY_SIZE(commands); i++)
		if (commands[i].code == code && commands[i].flags & kind)
			return &commands[i];
	return NULL;
}

void scsi_begin(struct scsi_unit *u, struct scsi_cmd *c, const struct pieces *out)
{
	const struct command *k = find(u, c->cdb[0]);

	c->how = SCSI_DONE;
	c->status = SCSI_GOOD;
	c->key = c->asc = c->ascq = 0;
	c->io = (struct disk_req){.op = DISK_READ};
	c->len = c->reply_len = 0;
	memset(c->reply, 0, sizeof(c->reply));
	if (!k) {
		scsi_fail(u, c, SENSE_ILLEGAL, BAD_COMMAND);
		return;
	}
	if (u->changed && !(k->flags & CALM)) {
		u->changed = false;
		scsi_fail(u, c, SENSE_ATTENTION, MEDIUM_CHANGED);
		return;
	}
	if (k->flags & MEDIUM && !scsi_is_ready(u)) {
		scsi_fail(u, c, SENSE_NOT_READY, u->open ? NO_MEDIUM_OPEN : NO_MEDIUM);
		return;
	}
	if (!(k->flags & CALM))
		u->key = u->asc = u->ascq = 0;
	if (k->begin)
		k->begin(u, c);
	else
		k->take(u, c, out);
}

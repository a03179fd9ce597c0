/* SPDX-License-Identifier: MIT */
/*
 * What ATA commands mean to a disk, after ATA8-ACS, and the few that an ATAPI drive knows. How they come, and how bytes go, is the
 * controller's.
 *
 * All disks know 48 bits of address, so the 28 that old commands have are checked against that alone. Writes go to the host's cache
 * until a flush, as a disk's do; a driver that switches the cache off has each write lasting before it is done.
 *
 * SMART says that all is well, for there is nothing to be ill. Trim of 64 ranges, a sector of them, is one command.
 *
 * A disk at a parallel cable knows addresses of before there were numbers of blocks, by cylinder, head and sector, as its driver has it count them; and
 * none of its commands are queued.
 *
 * Left out: security, host protected areas, power management (a disk that is told to sleep is awake), general purpose logs but the one
 * that says which queued command failed, streaming.
 */
#include "dev/storage/ata.h"

#include "base/bytes.h"
#include "base/macros.h"

#include <errno.h>
#include <string.h>

#define DEV_LBA 0x40u /* in the device register: the address is one of blocks */
#define DEV_FUA 0x80u /* of a queued command */

#define MULTIPLE_MAX 16u
#define TRIM_SECTORS 1u /* of a list of ranges */
#define HEADS_MAX   16u
#define TRACK       63u /* sectors of one, if nothing else is said */

/* -- Ends ---------------------------------------------------------------------------------- */

void ata_fail(struct ata_cmd *c, uint8_t error)
{
	c->how = ATA_DONE;
	c->regs.status = ATA_READY | ATA_ERR;
	c->regs.error = error;
}

void ata_end(struct ata *a, struct ata_cmd *c, int rc)
{
	(void)a;
	if (rc == -EINVAL)
		ata_fail(c, ATA_NOT_FOUND);
	else if (rc == -EROFS)
		ata_fail(c, ATA_ABORTED);
	else if (rc < 0)
		ata_fail(c, c->io.op == DISK_READ ? ATA_DATA : ATA_ABORTED);
}

void ata_note_failed(struct ata *a, const struct ata_cmd *c, unsigned tag)
{
	a->failed = true;
	a->failed_tag = (uint8_t)tag;
	a->failed_status = c->regs.status;
	a->failed_error = c->regs.error;
	a->failed_device = c->regs.device;
	a->failed_count = c->regs.count;
	a->failed_lba = c->regs.lba;
}

void ata_reset(struct ata *a)
{
	a->no_cache = a->smart_off = a->failed = false;
	a->multiple = MULTIPLE_MAX;
	a->heads = HEADS_MAX;
	a->sectors = TRACK;
	a->failed_tag = a->failed_status = a->failed_error = a->failed_device = 0;
	a->failed_count = 0;
	a->failed_lba = 0;
}

static void abort_command(struct ata *a, struct ata_cmd *c)
{
	(void)a;
	ata_fail(c, ATA_ABORTED);
}

static void done(struct ata *a, struct ata_cmd *c)
{
	(void)a, (void)c;
}

/* -- Identity ------------------------------------------------------------------------------- */

/* Text in words, of which the first letter is the upper byte. */
static void put_text(uint8_t *to, size_t room, const char *text)
{
	size_t len = strlen(text);

	for (size_t i = 0; i < room; i++)
		to[i ^ 1] = i < len ? (uint8_t)text[i] : ' ';
}

struct word {
	uint8_t at;
	uint16_t value;
};

static void put_words(uint8_t *to, const struct word *words, size_t n)
{
	for (size_t i = 0; i < n; i++)
		le16_put(to + (size_t)words[i].at * 2, words[i].value);
}

static void identify_names(struct ata *a, uint8_t *r, const char *model)
{
	put_text(r + 20, 20, a->serial);
	put_text(r + 46, 8, "1.0");
	put_text(r + 54, 40, model);
}

/* The bytes' sum is 0. */
static void put_sum(uint8_t *r)
{
	uint8_t sum = 0;

	r[510] = 0xa5;
	r[511] = 0;
	for (unsigned i = 0; i < 511; i++)
		sum = (uint8_t)(sum + r[i]);
	r[511] = (uint8_t)-sum;
}

static uint16_t cylinders_of(uint32_t n, unsigned heads, unsigned sectors)
{
	uint32_t all = n / (heads * sectors);

	return (uint16_t)(all > 16383 ? 16383 : all);
}

/* How it is connected. */
static void identify_link(const struct ata *a, uint8_t *r)
{
	static const struct word of_disk[] = {
		{75, 31},                     /* depth of the queue - 1 */
		{76, 0x0106},                 /* SATA, 3 Gb/s, NCQ */
		{222, 0x1020},                /* SATA */
	};

	if (a->cable)
		le16_put(r + 93 * 2, a->cable == 1 ? 0x600b : 0x6b00); /* 80 wires, and which of two drives it is */
	else if (a->is_packet)
		le16_put(r + 76 * 2, 0x0006);
	else
		put_words(r, of_disk, ARRAY_SIZE(of_disk));
}

static void identify_size(struct ata *a, uint8_t *r)
{
	const struct disk_info *info = disk_info(a->disk);
	uint64_t n = info->size / DISK_SECTOR;
	uint32_t few = n > 0xfffffff ? 0xfffffff : (uint32_t)n;
	uint16_t cylinders = cylinders_of(few, HEADS_MAX, TRACK), now = cylinders_of(few, a->heads, a->sectors);
	unsigned shift = info->block > DISK_SECTOR ? (unsigned)__builtin_ctz(info->block / DISK_SECTOR) : 0;
	const struct word words[] = {
		{1, cylinders}, {3, HEADS_MAX}, {6, TRACK}, {54, now}, {55, a->heads}, {56, a->sectors},
		{106, (uint16_t)(0x4000 | (shift ? 0x2000 | shift : 0))}, /* logical blocks in a physical one */
	};

	put_words(r, words, ARRAY_SIZE(words));
	le32_put(r + 114, a->cable ? (uint32_t)now * a->heads * a->sectors : few);
	le32_put(r + 120, few);
	le64_put(r + 200, n);
}

static void identify(struct ata *a, struct ata_cmd *c)
{
	static const struct word words[] = {
		{0, 0x0040},                  /* a fixed disk */
		{47, 0x8000 | MULTIPLE_MAX},
		{49, 0x0f00},                 /* LBA, DMA, IORDY */
		{50, 0x4000},
		{53, 0x0007},                 /* words 54 to 58, 64 to 70, 88 are there */
		{63, 0x0007}, {64, 0x0003},   /* DMA and PIO modes */
		{65, 120}, {66, 120}, {67, 120}, {68, 120},
		{80, 0x01f0}, {81, 0},        /* ATA8-ACS */
		{82, 0x4021},                 /* NOP, write cache, SMART */
		{83, 0x7400},                 /* FLUSH CACHE (EXT), 48 bits */
		{84, 0x4060},                 /* WRITE DMA FUA EXT, logs */
		{86, 0x3400}, {87, 0x4060},
		{88, 0x203f},                 /* UDMA 5 */
	};
	uint8_t *r = c->reply;

	memset(r, 0, ATA_REPLY_LEN);
	put_words(r, words, ARRAY_SIZE(words));
	le16_put(r + 118, (uint16_t)(a->multiple ? 0x100 | a->multiple : 0));
	le16_put(r + 170, (uint16_t)(0x4000 | (a->smart_off ? 0 : 1) | (a->no_cache ? 0 : 0x20)));
	if (disk_info(a->disk)->can_discard) {
		le16_put(r + 105 * 2, TRIM_SECTORS);
		le16_put(r + 169 * 2, 1);
	}
	le16_put(r + 217 * 2, 1); /* does not rotate */
	identify_link(a, r);
	identify_names(a, r, "LODGE DISK");
	identify_size(a, r);
	put_sum(r);
	c->how = ATA_REPLY;
	c->pio = true;
}

static void identify_packet(struct ata *a, struct ata_cmd *c)
{
	static const struct word words[] = {
		{0, 0x85c0},                  /* a CD drive, packets of 12 bytes, removable */
		{49, 0x0f00}, {50, 0x4000}, {53, 0x0006},
		{63, 0x0007}, {64, 0x0003},
		{65, 120}, {66, 120}, {67, 120}, {68, 120},
		{80, 0x01f0},
		{82, 0x4210}, {83, 0x4000}, {84, 0x4000}, /* NOP, DEVICE RESET, PACKET */
		{85, 0x4210}, {87, 0x4000},
	};
	uint8_t *r = c->reply;

	memset(r, 0, ATA_REPLY_LEN);
	put_words(r, words, ARRAY_SIZE(words));
	identify_link(a, r);
	identify_names(a, r, "LODGE CD-ROM");
	put_sum(r);
	c->how = ATA_REPLY;
	c->pio = true;
}

/* -- Reading and writing ---------------------------------------------------------------------- */

static void transfer(struct ata *a, struct ata_cmd *c, enum disk_op op, uint64_t first, uint32_t n)
{
	uint64_t all = disk_info(a->disk)->size / DISK_SECTOR;

	if (first > all || n > all - first) {
		ata_fail(c, ATA_NOT_FOUND);
		return;
	}
	c->how = ATA_IO;
	c->io = (struct disk_req){.op = op, .at = first * DISK_SECTOR, .sync = op == DISK_WRITE && a->no_cache};
	c->len = n * DISK_SECTOR; /* SAFE: 65536 sectors at most */
}

/* The block at a cylinder, head and sector, of which the first is 1; UINT64_MAX: there is none. */
static uint64_t block_at(const struct ata *a, const struct ata_regs *r)
{
	uint64_t sector = r->lba & 0xff, cylinder = r->lba >> 8 & 0xffff, head = r->device & 0xf;

	if (!a->cable || !sector || sector > a->sectors || head >= a->heads)
		return UINT64_MAX;
	return (cylinder * a->heads + head) * a->sectors + sector - 1;
}

/* By commands of 28 bits of address, and of 48. */
static void transfer_28(struct ata *a, struct ata_cmd *c, enum disk_op op)
{
	const struct ata_regs *r = &c->regs;
	uint8_t n = (uint8_t)r->count;

	if (r->device & DEV_LBA)
		transfer(a, c, op, (r->lba & 0xffffff) | (uint64_t)(r->device & 0xf) << 24, n ? n : 256);
	else if (a->cable)
		transfer(a, c, op, block_at(a, r), n ? n : 256);
	else
		ata_fail(c, ATA_ABORTED);
}

static void transfer_48(struct ata *a, struct ata_cmd *c, enum disk_op op)
{
	if (c->regs.device & DEV_LBA)
		transfer(a, c, op, c->regs.lba, c->regs.count ? c->regs.count : 65536);
	else
		ata_fail(c, ATA_ABORTED);
}

static void read_28(struct ata *a, struct ata_cmd *c)
{
	transfer_28(a, c, DISK_READ);
}

static void write_28(struct ata *a, struct ata_cmd *c)
{
	transfer_28(a, c, DISK_WRITE);
}

static void read_48(struct ata *a, struct ata_cmd *c)
{
	transfer_48(a, c, DISK_READ);
}

static void write_48(struct ata *a, struct ata_cmd *c)
{
	transfer_48(a, c, DISK_WRITE);
}

static void write_through(struct ata *a, struct ata_cmd *c)
{
	transfer_48(a, c, DISK_WRITE);
	c->io.sync = true;
}

/* What is on a medium is right, if it is there. */
static void verify_28(struct ata *a, struct ata_cmd *c)
{
	transfer_28(a, c, DISK_READ);
	c->how = ATA_DONE;
}

static void verify_48(struct ata *a, struct ata_cmd *c)
{
	transfer_48(a, c, DISK_READ);
	c->how = ATA_DONE;
}

/* Queued: the count is where others have features, and the tag where they have the count. */
static void queued(struct ata *a, struct ata_cmd *c, enum disk_op op)
{
	c->queued = !a->cable;
	if (a->cable || !(c->regs.device & DEV_LBA)) {
		ata_fail(c, ATA_ABORTED);
		return;
	}
	transfer(a, c, op, c->regs.lba, c->regs.features ? c->regs.features : 65536);
	c->io.sync |= op == DISK_WRITE && c->regs.device & DEV_FUA;
}

static void read_queued(struct ata *a, struct ata_cmd *c)
{
	queued(a, c, DISK_READ);
}

static void write_queued(struct ata *a, struct ata_cmd *c)
{
	queued(a, c, DISK_WRITE);
}

static void flush(struct ata *a, struct ata_cmd *c)
{
	(void)a;
	c->how = ATA_IO;
	c->io = (struct disk_req){.op = DISK_FLUSH};
}

/* DATA SET MANAGEMENT, of which there is trim. */
static void manage(struct ata *a, struct ata_cmd *c)
{
	if (!disk_info(a->disk)->can_discard || c->regs.features != 1 || c->regs.count != TRIM_SECTORS) {
		ata_fail(c, ATA_ABORTED);
		return;
	}
	c->how = ATA_RANGES;
	c->io = (struct disk_req){.op = DISK_DISCARD};
	c->len = TRIM_SECTORS * DISK_SECTOR;
}

void ata_range(const uint8_t *entry, uint64_t *first, uint64_t *n)
{
	*first = le64_get(entry) & 0xffffffffffff;
	*n = le16_get(entry + 6);
}

/* -- The rest ---------------------------------------------------------------------------------- */

static void set_features(struct ata *a, struct ata_cmd *c)
{
	switch (c->regs.features & 0xff) {
	case 0x02:
		a->no_cache = false;
		break;
	case 0x82:
		a->no_cache = true;
		c->how = ATA_IO; /* what is in it gets out */
		c->io = (struct disk_req){.op = DISK_FLUSH};
		break;
	case 0x03: /* transfer modes: all are as fast */
	case 0x05: case 0x85: /* power management */
	case 0x10: case 0x90: /* SATA's */
	case 0x55: case 0xaa: /* read ahead */
	case 0x66: case 0xcc: /* what a reset forgets */
		break;
	default:
		ata_fail(c, ATA_ABORTED);
	}
}

static void packet_features(struct ata *a, struct ata_cmd *c)
{
	(void)a;
	if ((c->regs.features & 0xff) != 0x03)
		ata_fail(c, ATA_ABORTED);
}

static void set_multiple(struct ata *a, struct ata_cmd *c)
{
	uint8_t n = (uint8_t)c->regs.count;

	if (n > MULTIPLE_MAX || n & (n - 1))
		ata_fail(c, ATA_ABORTED);
	else
		a->multiple = n;
}

/* INITIALIZE DEVICE PARAMETERS. */
static void set_geometry(struct ata *a, struct ata_cmd *c)
{
	if (!a->cable)
		return;
	if (!(uint8_t)c->regs.count) {
		ata_fail(c, ATA_ABORTED);
		return;
	}
	a->heads = (uint8_t)((c->regs.device & 0xf) + 1);
	a->sectors = (uint8_t)c->regs.count;
}

static void check_power(struct ata *a, struct ata_cmd *c)
{
	(void)a;
	c->regs.count = 0xff; /* awake */
}

/* Which logs there are, and which queued command failed; that is told once. */
static void read_log(struct ata *a, struct ata_cmd *c)
{
	uint8_t *r = c->reply, page = (uint8_t)c->regs.lba;

	if (c->regs.count != 1 || (page != 0 && page != 0x10) || c->regs.lba >> 8 & 0xff) {
		ata_fail(c, ATA_ABORTED);
		return;
	}
	memset(r, 0, ATA_REPLY_LEN);
	c->how = ATA_REPLY;
	c->pio = c->regs.command == 0x2f;
	if (page == 0) {
		r[0] = 1;
		r[0x10 * 2] = 1;
		return;
	}
	r[0] = a->failed ? a->failed_tag : 0x80;
	r[2] = a->failed_status;
	r[3] = a->failed_error;
	le32_put(r + 4, (uint32_t)a->failed_lba & 0xffffff);
	r[7] = a->failed_device;
	le32_put(r + 8, (uint32_t)(a->failed_lba >> 24));
	le16_put(r + 12, a->failed_count);
	for (unsigned i = 0; i < 511; i++)
		r[511] = (uint8_t)(r[511] - r[i]);
	a->failed = false;
}

/* The bytes of SMART's tables that drivers look at: versions, and that no self-test has run. */
static void smart_table(struct ata_cmd *c, bool is_data)
{
	uint8_t *r = c->reply;

	memset(r, 0, ATA_REPLY_LEN);
	r[0] = 1;
	if (is_data) {
		r[367] = 0x10; /* capability: self-tests */
		r[368] = 3;
		r[370] = 1;
	}
	for (unsigned i = 0; i < 511; i++)
		r[511] = (uint8_t)(r[511] - r[i]);
	c->how = ATA_REPLY;
	c->pio = true;
}

static void smart(struct ata *a, struct ata_cmd *c)
{
	uint8_t what = (uint8_t)c->regs.features;

	if ((c->regs.lba >> 8 & 0xffff) != 0xc24f || (a->smart_off && what != 0xd8)) {
		ata_fail(c, ATA_ABORTED);
		return;
	}
	switch (what) {
	case 0xd0: /* READ DATA */
	case 0xd1: /* READ THRESHOLDS */
		smart_table(c, what == 0xd0);
		break;
	case 0xd2: /* autosave */
	case 0xda: /* RETURN STATUS: the key as it came is good news */
		break;
	case 0xd8:
	case 0xd9:
		a->smart_off = what == 0xd9;
		break;
	default:
		ata_fail(c, ATA_ABORTED);
	}
}

/* An ATAPI drive says by a failure, and its signature, that it is one. */
static void identify_other(struct ata *a, struct ata_cmd *c)
{
	(void)a;
	ata_fail(c, ATA_ABORTED);
	c->regs.count = 1;
	c->regs.lba = 0xeb1401;
}

static void packet(struct ata *a, struct ata_cmd *c)
{
	(void)a;
	c->how = ATA_PACKET;
	c->pio = !(c->regs.features & 1);
}

static void device_reset_packet(struct ata *a, struct ata_cmd *c)
{
	(void)a;
	c->regs.count = 1;
	c->regs.lba = 0xeb1401;
}

/* -- The tables -------------------------------------------------------------------------------- */

struct command {
	uint8_t code;
	void (*begin)(struct ata *a, struct ata_cmd *c);
	bool pio;
};

static const struct command of_disks[] = {
	{0x06, manage, false},
	{0x10, done, false},          /* RECALIBRATE */
	{0x20, read_28, true},        /* READ SECTORS */
	{0x21, read_28, true},
	{0x24, read_48, true},        /* READ SECTORS EXT */
	{0x25, read_48, false},       /* READ DMA EXT */
	{0x29, read_48, true},        /* READ MULTIPLE EXT */
	{0x2f, read_log, true},       /* READ LOG EXT */
	{0x30, write_28, true},
	{0x31, write_28, true},
	{0x34, write_48, true},
	{0x35, write_48, false},      /* WRITE DMA EXT */
	{0x39, write_48, true},
	{0x3d, write_through, false}, /* WRITE DMA FUA EXT */
	{0x40, verify_28, false},
	{0x42, verify_48, false},
	{0x47, read_log, false},      /* READ LOG DMA EXT */
	{0x60, read_queued, false},   /* READ FPDMA QUEUED */
	{0x61, write_queued, false},
	{0x91, set_geometry, false},
	{0xb0, smart, true},
	{0xc4, read_28, true},        /* READ MULTIPLE */
	{0xc5, write_28, true},
	{0xc6, set_multiple, false},
	{0xc8, read_28, false},       /* READ DMA */
	{0xca, write_28, false},      /* WRITE DMA */
	{0xe0, done, false},          /* STANDBY, IDLE and SLEEP */
	{0xe1, done, false},
	{0xe2, done, false},
	{0xe3, done, false},
	{0xe5, check_power, false},
	{0xe6, done, false},
	{0xe7, flush, false},         /* FLUSH CACHE */
	{0xea, flush, false},         /* FLUSH CACHE EXT */
	{0xec, identify, true},
	{0xef, set_features, false},
	{0, abort_command, false},
};

static const struct command of_packets[] = {
	{0x08, device_reset_packet, false},
	{0xa0, packet, false},
	{0xa1, identify_packet, true},
	{0xe0, done, false},
	{0xe1, done, false},
	{0xe5, check_power, false},
	{0xec, identify_other, false},
	{0xef, packet_features, false},
	{0, abort_command, false},
};

void ata_begin(struct ata *a, struct ata_cmd *c)
{
	const struct command *k = a->is_packet ? of_packets : of_disks;

	c->how = ATA_DONE;
	c->queued = false;
	c->len = 0;
	c->io = (struct disk_req){.op = DISK_READ};
	c->regs.status = ATA_READY;
	c->regs.error = 0;
	while (k->code && k->code != c->regs.command)
		k++;
	c->pio = k->pio;
	k->begin(a, c);
}

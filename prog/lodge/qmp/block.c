/* SPDX-License-Identifier: MIT */
/* Commands about disks and CD drives. Those that change a drive name it, as "device" or "id", which are the same here. */
#include "base/err.h"
#include "base/json.h"
#include "block/disk.h"
#include "files.h"
#include "images.h"
#include "names.h"
#include "prog/lodge/launch.h"
#include "prog/lodge/session.h"
#include "prog/lodge/told.h"
#include "serve.h"

#include <errno.h>
#include <string.h>

/* What an image is called: as who opened it said, or else as its device. */
static const char *node_name(char name[QMP_NAME], const struct session *s, unsigned i)
{
	const struct part *part = parts_of_disk(&s->parts, s->config->disks[i]);

	qmp_disk_name(name, s->config, i);
	return part ? part->name : name;
}

/* -- What there is --------------------------------------------------------------------------- */

static void write_limits(struct json *j)
{
	static const char *const none[] = {"bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr", "write_threshold"};

	for (unsigned i = 0; i < 7; i++)
		json_uint(j, none[i], 0);
}

/* The members of BlockDeviceInfo: the host caches, and flushes of the guest are lasting. */
static void write_image(struct json *j, const char *name, const struct disk *disk)
{
	const struct disk_info *info = disk_info(disk);

	json_str(j, "file", disk_path(disk));
	json_str(j, "node-name", name);
	json_bool(j, "ro", info->readonly);
	json_str(j, "drv", disk_formats[info->throw_away ? DISK_QCOW2 : info->format]);
	json_uint(j, "backing_file_depth", info->images - 1);
	json_bool(j, "encrypted", false);
	json_str(j, "detect_zeroes", "off");
	write_limits(j);
	json_open(j, "image", '{');
	json_str(j, "filename", disk_path(disk));
	json_str(j, "format", disk_formats[info->format]);
	json_uint(j, "virtual-size", info->size);
	json_close(j);
	json_open(j, "cache", '{');
	json_bool(j, "writeback", true);
	json_bool(j, "direct", false);
	json_bool(j, "no-flush", info->throw_away);
	json_close(j);
}

static void open_drive(struct json *j, const char *name, bool removable, bool locked)
{
	json_open(j, NULL, '{');
	json_str(j, "device", name);
	json_str(j, "qdev", name);
	json_str(j, "type", "unknown");
	json_bool(j, "removable", removable);
	json_bool(j, "locked", locked);
}

static void write_inserted(struct json *j, const char *name, const struct disk *disk)
{
	if (!disk)
		return;
	json_open(j, "inserted", '{');
	write_image(j, name, disk);
	json_close(j);
}

int do_block(struct call *c, struct err *err)
{
	const struct machine_config *config = c->session->config;
	struct machine *m = c->session->machine;
	char name[QMP_NAME];

	(void)err;
	for (unsigned i = 0; i < config->n_disks; i++) {
		open_drive(c->answer, qmp_disk_name(name, config, i), false, false);
		write_inserted(c->answer, node_name(name, c->session, i), config->disks[i]);
		json_close(c->answer);
	}
	for (unsigned i = 0; i < config->n_cds; i++) {
		open_drive(c->answer, qmp_cd_name(name, i), true, machine_cd_is_locked(m, i));
		write_inserted(c->answer, name, config->cds[i]);
		json_bool(c->answer, "tray_open", machine_cd_is_open(m, i));
		json_close(c->answer);
	}
	return 0;
}

static void write_node(struct json *j, const char *name, const struct disk *disk)
{
	if (!disk)
		return;
	json_open(j, NULL, '{');
	write_image(j, name, disk);
	json_close(j);
}

/* They are flat: what is behind an image has no name. */
int do_nodes(struct call *c, struct err *err)
{
	const struct machine_config *config = c->session->config;
	const struct parts *parts = &c->session->parts;
	char name[QMP_NAME];

	(void)err;
	for (unsigned i = 0; i < config->n_disks; i++)
		write_node(c->answer, node_name(name, c->session, i), config->disks[i]);
	for (unsigned i = 0; i < config->n_cds; i++)
		write_node(c->answer, qmp_cd_name(name, i), config->cds[i]);
	for (unsigned i = 0; i < PARTS_MAX; i++) /* and those that no device has */
		if (!part_is_used(&parts->part[i], config))
			write_node(c->answer, parts->part[i].name, parts->part[i].disk);
	return 0;
}

/* -- CD drives --------------------------------------------------------------------------------- */

static int find_drive(struct call *c, unsigned *drive, struct err *err)
{
	const char *device = call_str(c, "device"), *id = call_str(c, "id"), *said = id ? id : device;
	unsigned n = c->session->config->n_cds;
	char name[QMP_NAME];

	if (!device == !id)
		return err_set(err, ERANGE, "a drive is named by 'id', or by 'device', and not by both");
	for (unsigned i = 0; i < n; i++)
		if (strcmp(qmp_cd_name(name, i), said) == 0) {
			*drive = i;
			return 0;
		}
	if (!n)
		return err_set(err, ENOENT, "the guest has no CD drive: it was started without --cdrom");
	return err_set(err, ENOENT, "the guest has %u CD drives, from cd0 on: there is no '%.40s'", n, said);
}

/* NULL: takes out what is in it. */
static int change_cd(struct call *c, struct disk *cd, struct err *err)
{
	struct machine *m = c->session->machine;
	struct disk *old = NULL;
	unsigned drive = 0;
	int rc = find_drive(c, &drive, err);

	if (rc == 0)
		rc = machine_change_cd(m, drive, cd, call_bool(c, "force"), &old, err);
	disk_close(rc < 0 ? cd : old);
	if (rc == 0)
		told_trays(c->session);
	return rc;
}

/* By the name that it has for its user: who restores the guest looks there. */
int do_change_medium(struct call *c, struct err *err)
{
	const struct qmp_file *file = image_for_cd(c, call_str(c, "filename"), err);
	const char *format = call_str(c, "format");
	struct disk *cd = NULL;
	int rc = file ? 0 : -err->code;

	if (rc == 0 && format && strcmp(format, "raw") != 0)
		rc = err_set(err, ERANGE, "a CD is raw, not '%.40s'", format);
	if (rc == 0)
		rc = launch_open_cd(&cd, file->path ? file->path : call_str(c, "filename"), file->fd, err);
	return rc < 0 ? rc : change_cd(c, cd, err);
}

int do_eject(struct call *c, struct err *err)
{
	return change_cd(c, NULL, err);
}

/* SPDX-License-Identifier: MIT */
/*
 * Devices that come and go while the guest runs, in QMP's steps: an image or a cable first, which has a name; a device that has it; and both
 * may be deleted, the device by asking the guest.
 *
 * Lodge opens nothing once its guest runs. So an image is a descriptor, by add-fd, and can have no other image behind it; and a cable is a
 * socket, by getfd, on which frames stand behind their lengths. What this is called is what a saved machine remembers of it: for one called
 * "user" another lodge-nat is started where it is restored, and any other is not there then.
 */
#include "base/err.h"
#include "base/json_read.h"
#include "block/disk.h"
#include "files.h"
#include "images.h"
#include "machine/plug.h"
#include "names.h"
#include "net/port.h"
#include "prog/lodge/nat/nat.h"
#include "prog/lodge/session.h"
#include "request.h"
#include "serve.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define MTU 1500u

/* What devices of the start, and those that came, are called: names.h. */
static bool is_device(const struct machine_config *config, const char *name)
{
	char buffer[QMP_NAME];

	for (unsigned i = 0; i < config->n_disks; i++)
		if (strcmp(name, qmp_disk_name(buffer, config, i)) == 0)
			return true;
	for (unsigned i = 0; i < config->n_cds; i++)
		if (strcmp(name, qmp_cd_name(buffer, i)) == 0)
			return true;
	return strcmp(name, QMP_NET) == 0;
}

/* An image of the start is called as its device. */
static struct part *new_part(struct call *c, const char *name, struct err *err)
{
	struct session *s = c->session;

	if (!is_device(s->config, name))
		return parts_new(&s->parts, s->config, name, err);
	err_set(err, EBUSY, "there is a '%s' already", name);
	return NULL;
}

/* -- Images --------------------------------------------------------------------------------- */

/* The one that is only bytes: of a format, what it is in. */
static const struct json_value *innermost(const struct json_value *options, const char *driver, struct err *err)
{
	const struct json_value *file = json_find(options, "file");

	if (strcmp(driver, "file") == 0)
		return options;
	if (strcmp(json_find(file, "driver")->text, "file") == 0)
		return file;
	err_set(err, ERANGE, "an image of driver '%s' is in a 'file' of driver 'file'", driver);
	return NULL;
}

static int open_image(struct call *c, struct disk **disk, struct err *err)
{
	const char *driver = call_str(c, "driver");
	const struct json_value *inner = innermost(c->args, driver, err);
	bool readonly = call_bool(c, "read-only");
	const struct qmp_file *file = inner ? image_for_disk(c, json_find(inner, "filename")->text, readonly, err) : NULL;

	if (!file)
		return -err->code;
	return disk_open(disk, &(struct disk_config){
		.path = file->path ? file->path : json_find(inner, "filename")->text, .fd = file->fd, .readonly = readonly,
		.format = strcmp(driver, "qcow2") == 0 ? DISK_QCOW2 : DISK_RAW,
	}, err);
}

int do_blockdev_add(struct call *c, struct err *err)
{
	const char *name = call_str(c, "node-name");
	struct part *part;
	int rc;

	if (!name)
		return err_set(err, ERANGE, "'node-name' is missing: no device would find the image");
	part = new_part(c, name, err);
	if (!part)
		return -err->code;
	rc = open_image(c, &part->disk, err);
	if (rc < 0)
		part_close(part);
	return rc;
}

static int delete_part(struct call *c, const char *what, const char *name, bool is_disk, struct err *err)
{
	struct part *part = parts_find(&c->session->parts, name);

	if (!part || !part->disk == is_disk)
		return err_set(err, ENOENT, "there is no %s '%.40s'", what, name);
	if (part_is_used(part, c->session->config))
		return err_set(err, EBUSY, "a device of the guest has %s '%s': device_del is first", what, name);
	part_close(part);
	return 0;
}

int do_blockdev_del(struct call *c, struct err *err)
{
	return delete_part(c, "image", call_str(c, "node-name"), true, err);
}

/* -- Cables --------------------------------------------------------------------------------- */

int do_netdev_add(struct call *c, struct err *err)
{
	const char *id = call_str(c, "id"), *name = json_find(json_find(c->args, "addr"), "str")->text;
	bool is_user = strcmp(name, "user") == 0;
	struct part *part = new_part(c, id, err);
	int fd, rc;

	if (!part)
		return -err->code;
	rc = fd = qmp_files_take(c->files, name, err);
	if (fd >= 0)
		rc = net_stream(&part->port, &(struct net_stream_config){.fd = fd, .checked = is_user, .mtu = is_user ? NAT_MTU : MTU}, err);
	part->how = is_user ? "user" : "stream";
	if (rc < 0)
		part_close(part);
	return rc < 0 ? rc : 0;
}

int do_netdev_del(struct call *c, struct err *err)
{
	return delete_part(c, "netdev", call_str(c, "id"), false, err);
}

/* -- Devices -------------------------------------------------------------------------------- */

static const struct driver {
	const char *name;
	bool is_disk;
	enum machine_bus bus;   /* of a disk */
	enum machine_card card; /* of a card */
} drivers[] = {
	{"virtio-blk-pci", true, MACHINE_VIRTIO, 0},
	{"nvme", true, MACHINE_NVME, 0},
	{"virtio-net-pci", false, 0, MACHINE_CARD_VIRTIO},
	{"e1000", false, 0, MACHINE_CARD_E1000},
	{0},
};

static const struct driver *find_driver(const char *name, struct err *err)
{
	const struct driver *d = drivers;

	while (d->name && strcmp(d->name, name) != 0)
		d++;
	if (!d->name)
		err_set(err, ERANGE, "'%.40s' is no driver that can be added: virtio-blk-pci, nvme, virtio-net-pci, e1000 can", name);
	return d->name ? d : NULL;
}

/* "port1" */
static int take_bus(struct call *c, struct machine_spot *spot, struct err *err)
{
	const char *bus = call_str(c, "bus");
	char end;

	spot->port = 0;
	if (!bus)
		return 0;
	if (sscanf(bus, "port%2u%c", &spot->port, &end) != 1 || !spot->port)
		return err_set(err, ERANGE, "'bus' is '%.40s': a device goes behind a root port: port1, port2, ...", bus);
	return 0;
}

/* As no other device is called. */
static int take_id(struct call *c, struct machine_spot *spot, struct err *err)
{
	const char *id = call_str(c, "id");

	if (!id)
		return err_set(err, ERANGE, "'id' is missing: nobody could delete the device");
	if (!machine_is_id(id))
		return err_set(err, ERANGE, "'id' is '%.40s': it has letters, digits, '-', '_' and '.', with a letter first, at most %d", id,
			       MACHINE_ID_MAX - 1);
	strcpy(spot->id, id); /* SAFE: it was measured */
	return is_device(c->session->config, id) ? err_set(err, EBUSY, "there is a device '%s' already", id) : 0;
}

static struct part *find_part(struct call *c, const struct driver *d, struct err *err)
{
	const char *key = d->is_disk ? "drive" : "netdev", *name = call_str(c, key);
	struct part *part = name ? parts_find(&c->session->parts, name) : NULL;

	if (!name)
		err_set(err, ERANGE, "'%s' is missing: %s", key, d->is_disk ? "the node-name of blockdev-add" : "the id of netdev_add");
	else if (!part || !part->disk == d->is_disk)
		err_set(err, ENOENT, "there is no %s '%.40s': %s makes one", d->is_disk ? "image" : key, name, d->is_disk ? "blockdev-add" : "netdev_add");
	else if (part_is_used(part, c->session->config))
		err_set(err, EBUSY, "another device has '%s'", name);
	else
		return part;
	return NULL;
}

static int add_card(struct call *c, const struct driver *d, const struct machine_spot *spot, const struct part *part, struct err *err)
{
	struct machine_net net = {.spot = *spot, .card = d->card, .how = part->how, .port = part->port, .mtu = part->port->mtu};
	const char *mac = call_str(c, "mac");
	int rc;

	if (!mac)
		return err_set(err, ERANGE, "'mac' is missing: a network card has an address");
	rc = mac_parse(net.mac, mac, err);
	return rc < 0 ? err_at(err, rc, "'mac'") : machine_attach_net(c->session->machine, &net, err);
}

int do_device_add(struct call *c, struct err *err)
{
	const struct driver *d = find_driver(call_str(c, "driver"), err);
	struct machine_spot spot;
	struct part *part;
	int rc;

	if (!d)
		return -err->code;
	if ((rc = session_check_home(c->session, err)) < 0 || (rc = take_id(c, &spot, err)) < 0 || (rc = take_bus(c, &spot, err)) < 0)
		return rc;
	part = find_part(c, d, err);
	if (!part)
		return -err->code;
	return d->is_disk ? machine_attach_disk(c->session->machine, &spot, d->bus, part->disk, err) : add_card(c, d, &spot, part, err);
}

int do_device_del(struct call *c, struct err *err)
{
	int rc = session_check_home(c->session, err);

	if (rc == 0)
		rc = machine_detach(c->session->machine, call_str(c, "id"), err);
	if (rc == -ENOENT)
		c->class = QMP_NO_DEVICE;
	return rc;
}

/* SPDX-License-Identifier: MIT */
/*
 * lodge attach and lodge detach: disks and network cards that come and go while a guest runs.
 *
 * The guest's lodge opens no file and starts no process. So the disk is opened here and sent, with the name that it has; and a network's
 * lodge-nat is started here, and it is its socket that is sent.
 */
#include "lodge.h"

#include "base/err.h"
#include "base/json.h"
#include "base/json_read.h"
#include "base/scoped.h"
#include "block/disk.h"
#include "client.h"
#include "failure.h"
#include "machine/plug.h"
#include "net.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct plug {
	const char *operands[3];
	const char *name, *format, *bus;
	bool readonly;
	struct net_options net;
};

/* -- Asking --------------------------------------------------------------------------------- */

struct request {
	struct json j;
	char *text;
	size_t len;
};

/* Arguments are written into r->j between the two; `value` and what stands in it are the caller's. */
static bool begin(struct request *r)
{
	*r = (struct request){.j = {.one_line = true}};
	r->j.out = open_memstream(&r->text, &r->len);
	if (r->j.out)
		json_open(&r->j, NULL, '{');
	return r->j.out;
}

static int send(struct request *r, int fd, const char *command, int file, struct err *err)
{
	scoped_mem struct json_value *answer = NULL;
	int rc;

	json_close(&r->j);
	if (fclose(r->j.out) != 0)
		return err_set(err, ENOMEM, "no memory");
	rc = client_give(fd, command, r->text, file, &answer, err);
	free(r->text);
	return rc;
}

/* A command with one argument. */
static int ask(int fd, const char *command, const char *key, const char *value, int file, struct err *err)
{
	struct request r;

	if (!begin(&r))
		return err_set(err, ENOMEM, "no memory");
	json_str(&r.j, key, value);
	return send(&r, fd, command, file, err);
}

static int ask_device(int fd, const char *driver, const char *name, const char *part, const char *mac, struct err *err)
{
	struct request r;

	if (!begin(&r))
		return err_set(err, ENOMEM, "no memory");
	json_str(&r.j, "driver", driver);
	json_str(&r.j, "id", name);
	json_str(&r.j, part, name);
	if (mac)
		json_str(&r.j, "mac", mac);
	return send(&r, fd, "device_add", -1, err);
}

/* -- Disks ---------------------------------------------------------------------------------- */

/* What a file is called without its directory and what follows a dot, as far as it can be a name. */
static const char *name_of(const char *path, char name[MACHINE_ID_MAX])
{
	const char *slash = strrchr(path, '/');

	snprintf(name, MACHINE_ID_MAX, "%s", slash ? slash + 1 : path);
	name[strcspn(name, ".")] = 0;
	return name;
}

static const char *format_of(const struct plug *p, const char *path)
{
	const char *end = strrchr(path, '.');

	return p->format ? p->format : end && strcmp(end, ".qcow2") == 0 ? "qcow2" : "raw";
}

static int add_image(const struct plug *p, int fd, const char *name, const char *path, struct err *err)
{
	struct request r;

	if (!begin(&r))
		return err_set(err, ENOMEM, "no memory");
	json_str(&r.j, "driver", format_of(p, path));
	json_str(&r.j, "node-name", name);
	json_bool(&r.j, "read-only", p->readonly);
	json_open(&r.j, "file", '{');
	json_str(&r.j, "driver", "file");
	json_str(&r.j, "filename", "/dev/fdset/1");
	json_close(&r.j);
	return send(&r, fd, "blockdev-add", -1, err);
}

static int give_file(int fd, const char *path, int file, struct err *err)
{
	struct request r;

	if (!begin(&r))
		return err_set(err, ENOMEM, "no memory");
	json_uint(&r.j, "fdset-id", 1);
	json_str(&r.j, "opaque", path);
	return send(&r, fd, "add-fd", file, err);
}

static int attach_disk(const struct plug *p, const char *vm, const char *path, const char *name, struct err *err)
{
	const char *driver = p->bus && strcmp(p->bus, "nvme") == 0 ? "nvme" : "virtio-blk-pci";
	scoped_fd int file = open(path, (p->readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK), fd = -1;
	char real[PATH_MAX];
	struct err unheard;
	int rc;

	if (file < 0 || !realpath(path, real))
		return err_sys(err, errno, "'%s'", path);
	rc = fd = client_connect(vm, err);
	if (rc < 0 || (rc = give_file(fd, real, file, err)) < 0 || (rc = add_image(p, fd, name, real, err)) < 0)
		return rc;
	rc = ask_device(fd, driver, name, "drive", NULL, err);
	if (rc < 0)
		ask(fd, "blockdev-del", "node-name", name, -1, &unheard);
	return rc;
}

/* -- Network cards -------------------------------------------------------------------------- */

static int add_cable(int fd, const char *name, struct err *err)
{
	struct request r;

	if (!begin(&r))
		return err_set(err, ENOMEM, "no memory");
	json_str(&r.j, "type", "stream");
	json_str(&r.j, "id", name);
	json_open(&r.j, "addr", '{');
	json_str(&r.j, "type", "fd");
	json_str(&r.j, "str", "user");
	json_close(&r.j);
	return send(&r, fd, "netdev_add", -1, err);
}

/* It outlives us, and must not keep who reads our stderr waiting for its end. */
static int connect_quietly(const struct net_options *net, uint8_t mac[MAC_LEN], struct err *err)
{
	scoped_fd int nothing = open("/dev/null", O_WRONLY | O_CLOEXEC), ours = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
	int fd;

	if (nothing < 0 || ours < 0)
		return err_sys(err, errno, "a descriptor");
	dup2(nothing, STDERR_FILENO);
	fd = net_connect_user(net, mac, err);
	dup2(ours, STDERR_FILENO);
	return fd;
}

static int attach_net(const struct plug *p, const char *vm, const char *name, struct err *err)
{
	scoped_fd int fd = client_connect(vm, err), cable = -1;
	uint8_t mac[MAC_LEN];
	char text[MAC_TEXT];
	struct err unheard;
	int rc = fd;

	if (rc >= 0)
		rc = cable = connect_quietly(&p->net, mac, err);
	if (rc < 0 || (rc = ask(fd, "getfd", "fdname", "user", cable, err)) < 0 || (rc = add_cable(fd, name, err)) < 0)
		return rc;
	rc = ask_device(fd, p->net.card == MACHINE_CARD_E1000 ? "e1000" : "virtio-net-pci", name, "netdev", mac_text(text, mac), err);
	if (rc < 0)
		ask(fd, "netdev_del", "id", name, -1, &unheard);
	return rc;
}

/* -- attach --------------------------------------------------------------------------------- */

static int check_what(const char *what, const char *of, struct err *err)
{
	if (!what || !of || (strcmp(what, "disk") != 0 && strcmp(what, "net") != 0))
		return err_set(err, ERANGE, "what is attached is missing: lodge attach [VM] disk FILE, or lodge attach [VM] net user");
	if (strcmp(what, "net") == 0 && strcmp(of, "user") != 0)
		return err_set(err, ERANGE, "a network card that comes while the guest runs is for 'user', not '%s'", of);
	return 0;
}

static int check_options(const struct plug *p, bool is_net, struct err *err)
{
	const char *odd = is_net ? p->format ? "--format" : p->bus ? "--bus" : p->readonly ? "--readonly" : NULL
			  : p->net.n_forwards ? "-p" : p->net.has_mac ? "--mac" : NULL;

	return odd ? err_set(err, ERANGE, "%s is for %s", odd, is_net ? "disks" : "network cards") : 0;
}

static int attach_main(void *parsed)
{
	const struct plug *p = parsed;
	bool has_vm = p->operands[2];
	const char *vm = has_vm ? p->operands[0] : NULL, *what = p->operands[has_vm], *of = what ? p->operands[has_vm + 1] : NULL, *name = p->name;
	char own[MACHINE_ID_MAX];
	struct err err = {0};
	bool is_net;
	int rc = check_what(what, of, &err);

	if (rc < 0)
		return report_failure(&err);
	is_net = strcmp(what, "net") == 0;
	if (!name)
		name = is_net ? "net1" : name_of(of, own);
	rc = check_options(p, is_net, &err);
	if (rc == 0 && !machine_is_id(name))
		rc = err_set(&err, ERANGE, "'%s' is no name for a device: --name says one, of letters, digits, '-', '_' and '.', with a letter first, at most %d",
			     name, MACHINE_ID_MAX - 1);
	if (rc == 0)
		rc = is_net ? attach_net(p, vm, name, &err) : attach_disk(p, vm, of, name, &err);
	if (rc < 0)
		return report_failure(&err);
	printf("%s\n", name);
	return EXIT_OK;
}

#define NET offsetof(struct plug, net)

static const struct option attach_options[] = {
	{"--name", "NAME", "by which it can be detached (default: the file's without directory and ending, or net1)", OPTION_TEXT, offsetof(struct plug, name), 0, 0, NULL},
	{"--readonly", NULL, "the guest cannot write to the disk", OPTION_FLAG, offsetof(struct plug, readonly), 0, 0, NULL},
	{"--format", "raw|qcow2", "what the file is (default: by its name)", OPTION_WORD, offsetof(struct plug, format), 0, 0, NULL},
	{"--bus", "virtio|nvme", "what the disk is at (default: virtio)", OPTION_WORD, offsetof(struct plug, bus), 0, 0, NULL},
	{"-p", "[ADDRESS:]HOST:GUEST[/udp]", "this port here leads to that one of the guest's", OPTION_OTHER, NET, 0, 0, net_set_forward},
	{"--mac", "ADDRESS", "of the network card (default: a new one)", OPTION_OTHER, NET, 0, 0, net_set_mac},
	{0},
};

const struct verb verb_attach = {
	.name = "attach",
	.summary = "put a disk or a network card into a guest that runs",
	.text = VM_TEXT "The guest was started with --root-ports, and has as much room. FILE is a raw or qcow2 image without another one behind it.\n"
		"'net user' is one more network card, with a network of its own, as --net user is. What is printed is its name.\n",
	.operand = "[VM] disk FILE | net user",
	.n_operands = 3,
	.options = attach_options,
	.size = sizeof(struct plug),
	.main = attach_main,
};

/* -- detach --------------------------------------------------------------------------------- */

static int detach(const char *vm, const char *name, struct err *err)
{
	scoped_fd int fd = client_connect(vm, err);
	struct err unheard;
	int rc = fd < 0 ? fd : ask(fd, "device_del", "id", name, -1, err);

	if (rc == 0)
		rc = client_wait_device(fd, "DEVICE_DELETED", name, err);
	if (rc == 0 && ask(fd, "blockdev-del", "node-name", name, -1, &unheard) < 0)
		ask(fd, "netdev_del", "id", name, -1, &unheard);
	return rc;
}

static int detach_main(void *parsed)
{
	const struct plug *p = parsed;
	bool has_vm = p->operands[1];
	struct err err = {0};

	if (!p->operands[0])
		err_set(&err, ERANGE, "what is to go is missing: lodge detach [VM] NAME");
	else if (detach(has_vm ? p->operands[0] : NULL, p->operands[has_vm], &err) == 0)
		return EXIT_OK;
	return report_failure(&err);
}

const struct verb verb_detach = {
	.name = "detach",
	.summary = "take a disk or a network card out of a guest that runs",
	.text = VM_TEXT "NAME is what `lodge attach` has printed. The guest is asked to let it go, and takes some seconds for that; lodge waits until it\n"
		"has. One that does not answer, because it is paused or has no driver for its ports, keeps it until it is reset.\n",
	.operand = "[VM] NAME",
	.n_operands = 2,
	.size = sizeof(struct plug),
	.main = detach_main,
};

/* SPDX-License-Identifier: MIT */
/*
 * See plug.h. What the guest sees of it is its root port's (dev/pci/port.c); here is the rest: which port is free, that the configuration
 * says what there is, so that the machine is saved with it, and that nobody uses a device while it is made or unmade.
 *
 * Devices are made and unmade while the machine stands still: a vCPU in a handler of one would have it go under its feet.
 *
 * What is attached is known by its id among all that was; what was there from the start has none, and stays.
 */
#include "machine/plug.h"

#include "base/err.h"
#include "dev/device.h"
#include "dev/pci/port.h"
#include "machine/private.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

bool machine_is_id(const char *text)
{
	size_t n = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.");

	return isalpha((unsigned char)text[0]) && !text[n] && n < MACHINE_ID_MAX;
}

/* -- What there is ---------------------------------------------------------------------- */

#define SPOTS_MAX (MACHINE_DISKS_MAX + MACHINE_PORTS_MAX)

/* All spots that are taken; how many. */
static unsigned list_spots(const struct machine_config *c, const struct machine_spot *spots[SPOTS_MAX])
{
	unsigned n = 0;

	for (unsigned i = 0; i < c->n_disks; i++)
		if (c->disk_spot[i].port)
			spots[n++] = &c->disk_spot[i];
	for (unsigned i = 0; i < c->n_more_nets; i++)
		spots[n++] = &c->more_nets[i].spot;
	return n;
}

static bool port_is_taken(const struct machine_config *c, unsigned port)
{
	const struct machine_spot *spots[SPOTS_MAX];
	unsigned n = list_spots(c, spots);

	for (unsigned i = 0; i < n; i++)
		if (spots[i]->port == port)
			return true;
	for (unsigned i = 0; i < c->n_disks; i++)
		if (board_is_behind(c, i) && board_disk_place(c, i) + 1 == port)
			return true;
	return false;
}

static bool id_is_taken(const struct machine_config *c, const char *id)
{
	const struct machine_spot *spots[SPOTS_MAX];
	unsigned n = list_spots(c, spots);

	for (unsigned i = 0; i < n; i++)
		if (strcmp(spots[i]->id, id) == 0)
			return true;
	return false;
}

/* Whether it can be there, beside all that is in the configuration. */
static int check_spot(const struct machine_config *c, const struct machine_spot *spot, struct err *err)
{
	if (!machine_is_id(spot->id))
		return err_set(err, ERANGE, "'%s' is no name for a device: letters, digits, '-', '_' and '.', with a letter first, at most %d", spot->id,
			       MACHINE_ID_MAX - 1);
	if (id_is_taken(c, spot->id))
		return err_set(err, EBUSY, "there is a device '%s' already", spot->id);
	if (!c->root_ports)
		return err_set(err, ENOENT, "the guest has no root port to put '%s' behind: it was started without --root-ports", spot->id);
	if (spot->port > c->root_ports)
		return err_set(err, ERANGE, "the guest has %u root ports: there is no number %u", c->root_ports, spot->port);
	if (spot->port && port_is_taken(c, spot->port))
		return err_set(err, EBUSY, "root port %u is taken", spot->port);
	return 0;
}

static int check_bus(enum machine_bus bus, struct err *err)
{
	return bus == MACHINE_VIRTIO || bus == MACHINE_NVME ? 0 :
	       err_set(err, ERANGE, "a disk behind a root port is at virtio or nvme, not at %s", machine_buses[bus]);
}

/* Those before it are there. */
static int check_disk(const struct machine_config *c, unsigned i, struct err *err)
{
	int rc;

	if (!c->disk_spot[i].port)
		return i && c->disk_spot[i - 1].port ? err_set(err, ERANGE, "disk %u was there before one that stands before it", i) : 0;
	rc = check_bus(c->disk_bus[i], err);
	return rc < 0 ? rc : check_spot(c, &c->disk_spot[i], err);
}

int machine_check_attached(const struct machine_config *c, struct err *err)
{
	struct machine_config so_far = *c;
	int rc = 0;

	so_far.n_disks = so_far.n_more_nets = 0;
	for (; rc == 0 && so_far.n_disks < c->n_disks; so_far.n_disks++)
		rc = check_disk(&so_far, so_far.n_disks, err);
	for (; rc == 0 && so_far.n_more_nets < c->n_more_nets; so_far.n_more_nets++)
		rc = check_spot(&so_far, &c->more_nets[so_far.n_more_nets].spot, err);
	return rc;
}

/* -- Standing still ----------------------------------------------------------------------- */

/* Whether it has to go on then. */
static int stop(struct machine *m, bool *goes_on, struct err *err)
{
	enum machine_life life = machine_life(m);

	*goes_on = life == MACHINE_RUNNING;
	if (life == MACHINE_ENDED)
		return err_set(err, EINVAL, "the machine has ended");
	return *goes_on ? machine_pause(m, err) : 0;
}

static void go_on(struct machine *m, bool goes_on)
{
	if (goes_on)
		machine_resume(m, NULL);
}

/* -- Coming ------------------------------------------------------------------------------- */

static int choose(struct machine *m, struct machine_spot *spot, struct err *err)
{
	int rc = check_spot(&m->config, spot, err);

	if (rc < 0 || spot->port)
		return rc;
	for (unsigned port = 1; port <= m->config.root_ports; port++)
		if (!port_is_taken(&m->config, port)) {
			spot->port = port;
			return 0;
		}
	return err_set(err, EBUSY, "the guest has %u root port%s, and all are taken: --root-ports says how many", m->config.root_ports,
		       m->config.root_ports > 1 ? "s" : "");
}

/* The guest hears of a device that was made. Of a paused machine it is paused, too. */
static void tell(struct machine *m, unsigned port)
{
	if (m->paused)
		device_pause(m->board.behind[port - 1]);
	pci_port_tell(m->board.ports[port - 1]);
}

int machine_attach_disk(struct machine *m, struct machine_spot *spot, enum machine_bus bus, struct disk *disk, struct err *err)
{
	struct machine_config *c = &m->config;
	bool goes_on;
	int rc;

	if (c->n_disks == MACHINE_DISKS_MAX)
		return err_set(err, ERANGE, "a machine has at most %u disks", MACHINE_DISKS_MAX);
	if ((rc = check_bus(bus, err)) < 0 || (rc = choose(m, spot, err)) < 0 || (rc = stop(m, &goes_on, err)) < 0)
		return rc;
	c->disks[c->n_disks] = disk;
	c->disk_bus[c->n_disks] = bus;
	c->disk_spot[c->n_disks++] = *spot;
	rc = board_attach_disk(m, c->n_disks - 1, err);
	if (rc < 0)
		c->disk_spot[--c->n_disks] = (struct machine_spot){0};
	else
		tell(m, spot->port);
	go_on(m, goes_on);
	return rc;
}

int machine_attach_net(struct machine *m, struct machine_net *net, struct err *err)
{
	struct machine_config *c = &m->config;
	bool goes_on;
	int rc;

	if ((rc = choose(m, &net->spot, err)) < 0 || (rc = stop(m, &goes_on, err)) < 0)
		return rc;
	rc = board_attach_net(m, net, err);
	if (rc == 0) {
		c->more_nets[c->n_more_nets++] = *net; /* SAFE: there are not more than ports */
		tell(m, net->spot.port);
	}
	go_on(m, goes_on);
	return rc;
}

/* -- Going ---------------------------------------------------------------------------------- */

int machine_detach(struct machine *m, const char *id, struct err *err)
{
	const struct machine_spot *spots[SPOTS_MAX];
	unsigned n = list_spots(&m->config, spots);

	for (unsigned i = 0; i < n; i++)
		if (strcmp(spots[i]->id, id) == 0)
			return pci_port_press(m->board.ports[spots[i]->port - 1], err);
	return err_set(err, ENOENT, "there is no device '%.40s' that was attached while the guest ran", id);
}

static void forget_disk(struct machine_config *c, unsigned i)
{
	unsigned behind = --c->n_disks - i;

	memmove(c->disks + i, c->disks + i + 1, behind * sizeof(c->disks[0]));
	memmove(c->disk_bus + i, c->disk_bus + i + 1, behind * sizeof(c->disk_bus[0]));
	memmove(c->disk_spot + i, c->disk_spot + i + 1, behind * sizeof(c->disk_spot[0]));
	c->disk_spot[c->n_disks] = (struct machine_spot){0};
}

static void forget(struct machine_config *c, unsigned port, struct machine_left *left)
{
	*left = (struct machine_left){.disk = NULL};
	for (unsigned i = 0; i < c->n_disks; i++)
		if (c->disk_spot[i].port == port) {
			memcpy(left->id, c->disk_spot[i].id, sizeof(left->id));
			left->disk = c->disks[i];
			forget_disk(c, i);
			return;
		}
	for (unsigned i = 0; i < c->n_more_nets; i++)
		if (c->more_nets[i].spot.port == port) {
			memcpy(left->id, c->more_nets[i].spot.id, sizeof(left->id));
			left->port = c->more_nets[i].port;
			memmove(c->more_nets + i, c->more_nets + i + 1, (--c->n_more_nets - i) * sizeof(c->more_nets[0]));
			return;
		}
}

bool machine_take_out(struct machine *m, struct machine_left *left)
{
	struct board *b = &m->board;
	unsigned port = 1;
	bool goes_on;

	while (port <= m->config.root_ports && !(b->behind[port - 1] && pci_port_has_let_go(b->ports[port - 1])))
		port++;
	if (port > m->config.root_ports || stop(m, &goes_on, NULL) < 0)
		return false;
	board_detach(b, port);
	pci_port_tell(b->ports[port - 1]);
	forget(&m->config, port, left);
	go_on(m, goes_on);
	return true;
}

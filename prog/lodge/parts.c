/* SPDX-License-Identifier: MIT */
/* See parts.h. */
#include "parts.h"

#include "base/err.h"
#include "block/disk.h"
#include "machine/plug.h"
#include "net/port.h"

#include <errno.h>
#include <string.h>

struct part *parts_find(struct parts *parts, const char *name)
{
	for (unsigned i = 0; i < PARTS_MAX; i++)
		if (parts->part[i].name[0] && strcmp(parts->part[i].name, name) == 0)
			return &parts->part[i];
	return NULL;
}

const struct part *parts_of_disk(const struct parts *parts, const struct disk *disk)
{
	for (unsigned i = 0; i < PARTS_MAX; i++)
		if (disk && parts->part[i].disk == disk)
			return &parts->part[i];
	return NULL;
}

const struct part *parts_of_port(const struct parts *parts, const struct net_port *port)
{
	for (unsigned i = 0; i < PARTS_MAX; i++)
		if (port && parts->part[i].port == port)
			return &parts->part[i];
	return NULL;
}

/* An image of a guest that was restored has no part, and the name of its device. */
static bool is_taken(struct parts *parts, const struct machine_config *config, const char *name)
{
	for (unsigned i = 0; i < config->n_disks; i++)
		if (config->disk_spot[i].port && strcmp(config->disk_spot[i].id, name) == 0)
			return true;
	return parts_find(parts, name);
}

struct part *parts_new(struct parts *parts, const struct machine_config *config, const char *name, struct err *err)
{
	unsigned i = 0;

	while (i < PARTS_MAX && parts->part[i].name[0])
		i++;
	if (!machine_is_id(name))
		err_set(err, ERANGE, "'%.40s' is no name for this: letters, digits, '-', '_' and '.', with a letter first, at most %d", name,
			MACHINE_ID_MAX - 1);
	else if (is_taken(parts, config, name))
		err_set(err, EBUSY, "there is a '%s' already", name);
	else if (i == PARTS_MAX)
		err_set(err, EBUSY, "there are %d images and cables already", PARTS_MAX);
	else
		return memcpy(parts->part[i].name, name, strlen(name) + 1), &parts->part[i]; /* SAFE: it is an id */
	return NULL;
}

bool part_is_used(const struct part *part, const struct machine_config *config)
{
	for (unsigned i = 0; part->disk && i < config->n_disks; i++)
		if (config->disks[i] == part->disk)
			return true;
	for (unsigned i = 0; part->port && i < config->n_more_nets; i++)
		if (config->more_nets[i].port == part->port)
			return true;
	return false;
}

void part_close(struct part *part)
{
	disk_close(part->disk);
	if (part->port)
		part->port->type->close(part->port);
	*part = (struct part){.name = ""};
}

void parts_close(struct parts *parts, const struct machine_config *config)
{
	for (unsigned i = 0; i < PARTS_MAX; i++)
		if (!part_is_used(&parts->part[i], config))
			part_close(&parts->part[i]);
}

/* SPDX-License-Identifier: MIT */
/* See names.h. */
#include "names.h"

#include "machine/machine.h"

#include <stdio.h>

_Static_assert(QMP_NAME >= MACHINE_ID_MAX, "room for both");

const char *qmp_disk_name(char name[QMP_NAME], const struct machine_config *config, unsigned i)
{
	if (config->disk_spot[i].port)
		snprintf(name, QMP_NAME, "%s", config->disk_spot[i].id);
	else
		snprintf(name, QMP_NAME, "disk%u", i);
	return name;
}

const char *qmp_cd_name(char name[QMP_NAME], unsigned i)
{
	snprintf(name, QMP_NAME, "cd%u", i);
	return name;
}

const char *qmp_cpu_path(char path[QMP_PATH], unsigned i)
{
	snprintf(path, QMP_PATH, "/machine/cpu[%u]", i);
	return path;
}

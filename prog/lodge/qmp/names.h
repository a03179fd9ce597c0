/* SPDX-License-Identifier: MIT */
/*
 * What the parts of a guest are called at its control socket:
 *
 *	disk0, disk1, ...        in the order of the command line; their images are called the same
 *	cd0, cd1, ...
 *	net0                     its network card
 *	data, ...                what came while it ran is called as who brought it said
 *	/machine/cpu[0], ...     its CPUs
 */
#ifndef QMP_NAMES_H
#define QMP_NAMES_H

struct json;
struct machine_config;
struct session;

#define QMP_NAME 32 /* bytes for a name, */
#define QMP_PATH 32 /* and for a path */
#define PATH_TEXT 160

#define QMP_NET "net0"

const char *qmp_disk_name(char name[QMP_NAME], const struct machine_config *config, unsigned i);
const char *qmp_cd_name(char name[QMP_NAME], unsigned i);
const char *qmp_cpu_path(char path[QMP_PATH], unsigned i);

/* "running": query-status's word. */
const char *qmp_status(const struct session *s);

/* The members of VersionInfo. */
void qmp_write_version(struct json *j);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * A little of QEMU's tree of objects: the machine, with its board's name, and its CPUs, which query-cpus-fast names by their paths. What
 * is here is true; most of what is there is not here.
 */
#include "base/err.h"
#include "base/json.h"
#include "machine/board_map.h"
#include "names.h"
#include "prog/lodge/session.h"
#include "request.h"
#include "serve.h"

#include <errno.h>
#include <string.h>

enum node { ROOT, MACHINE, CPU, NODES };

/* What an object's kind is called, and which properties it has. */
static const struct {
	const char *type, *properties[2];
} nodes[NODES] = {
	[ROOT] = {"container", {"type"}},
	[MACHINE] = {"machine", {"type", "board"}},
	[CPU] = {"x86_64-cpu", {"type"}},
};

static int find_node(struct call *c, enum node *node, struct err *err)
{
	const char *path = call_str(c, "path");
	char cpu[QMP_PATH];

	*node = strcmp(path, "/") == 0 ? ROOT : strcmp(path, "/machine") == 0 ? MACHINE : NODES;
	for (unsigned i = 0; *node == NODES && i < c->session->config->cpus; i++)
		if (strcmp(path, qmp_cpu_path(cpu, i)) == 0)
			*node = CPU;
	return *node < NODES ? 0 : err_set(err, ENOENT, "there is no object '%.100s'", path);
}

static void write_property(struct json *j, const char *name, const char *type)
{
	json_open(j, NULL, '{');
	json_str(j, "name", name);
	json_str(j, "type", type);
	json_close(j);
}

int do_qom_list(struct call *c, struct err *err)
{
	char path[QMP_PATH];
	enum node node;
	int rc = find_node(c, &node, err);

	if (rc < 0)
		return rc;
	for (unsigned i = 0; i < 2 && nodes[node].properties[i]; i++)
		write_property(c->answer, nodes[node].properties[i], "string");
	if (node == ROOT)
		write_property(c->answer, "machine", "child<machine>");
	for (unsigned i = 0; node == MACHINE && i < c->session->config->cpus; i++)
		write_property(c->answer, qmp_cpu_path(path, i) + strlen("/machine/"), "child<x86_64-cpu>");
	return 0;
}

int do_qom_get(struct call *c, struct err *err)
{
	const struct board_map *board = c->session->config->board ? c->session->config->board : &board_direct;
	const char *property = call_str(c, "property");
	enum node node;
	int rc = find_node(c, &node, err);

	if (rc < 0)
		return rc;
	if (strcmp(property, "type") == 0)
		json_str(c->answer, CALL_RETURN, nodes[node].type);
	else if (strcmp(property, "board") == 0 && node == MACHINE)
		json_str(c->answer, CALL_RETURN, board->name);
	else
		rc = err_set(err, ENOENT, "'%.100s' has no property '%.40s': qom-list tells which", call_str(c, "path"), property);
	if (rc < 0)
		c->class = QMP_GENERIC;
	return rc;
}

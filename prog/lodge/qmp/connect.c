/* SPDX-License-Identifier: MIT */
/* Commands about what a guest is connected to: its balloon, its network card's cable, its console. */
#include "base/err.h"
#include "files.h"
#include "names.h"
#include "prog/lodge/session.h"
#include "request.h"
#include "serve.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

int do_balloon(struct call *c, struct err *err)
{
	uint64_t memory = 0;
	int rc = call_uint(c, "value", UINT64_MAX, &memory, err);

	if (rc == 0)
		rc = machine_balloon(c->session->machine, memory, err);
	if (rc == -ENOENT)
		c->class = QMP_NOT_ACTIVE;
	return rc;
}

int do_link(struct call *c, struct err *err)
{
	const char *name = call_str(c, "name");

	if (strcmp(name, QMP_NET) != 0)
		return err_set(err, ENOENT, "there is no network card '%.40s': a guest's is called " QMP_NET, name);
	return machine_plug(c->session->machine, call_bool(c, "up"), err);
}

int do_console(struct call *c, struct err *err)
{
	int fd = qmp_files_take(c->files, call_str(c, "fd"), err);
	int rc = fd < 0 ? fd : session_attach(c->session, fd, err);

	if (fd >= 0 && rc < 0)
		close(fd);
	return rc;
}

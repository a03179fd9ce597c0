/* SPDX-License-Identifier: MIT */
/* See forked.h; docs/control.md tells what the answer has. */
#include "forked.h"

#include "base/err.h"
#include "base/json_read.h"
#include "base/scoped.h"
#include "client.h"
#include "machine/fork.h"
#include "machine/saved.h"

#include <errno.h>
#include <fcntl.h>

/* The answer says where layers begin; its descriptors are the state, and with layers the map and those. */
static int take_files(struct machine_fork *f, const struct client_files *files,
		      const struct json_value *answer, struct err *err)
{
	const struct json_value *layers;
	int rc = json_get(answer, "layers", JSON_ARRAY, &layers, err);
	unsigned have = files->n;

	*f = (struct machine_fork){.state = have > 0 ? files->fd[0] : -1,
				   .where = have > 1 ? files->fd[1] : -1};
	for (unsigned i = 2; i < have; i++)
		f->layer[f->n++].fd = files->fd[i];
	if (rc < 0)
		return rc;
	layers = layers->first;
	for (unsigned i = 0; i < f->n; i++, layers = layers->next)
		if (!layers || json_get_uint(layers, "at", INT64_MAX, &f->layer[i].at, err) < 0)
			break;
	if (f->state < 0 || layers)
		return err_set(err, EIO, "the guest's lodge answers with %u descriptors", have);
	return 0;
}

int forked_ask(int fd, struct machine_fork *f, struct saved **saved, struct err *err)
{
	scoped_mem struct json_value *answer = NULL;
	struct client_files files;
	int rc = client_ask_files(fd, "{\"do\": \"fork\"}\n", &files, &answer, err), state;

	*f = (struct machine_fork){.state = -1, .where = -1};
	*saved = NULL;
	if (rc == 0)
		rc = take_files(f, &files, answer, err);
	if (rc < 0)
		return rc;
	state = fcntl(f->state, F_DUPFD_CLOEXEC, 0);
	return state < 0 ? err_sys(err, errno, "a descriptor") : saved_open_fd(saved, state, "fork", err);
}

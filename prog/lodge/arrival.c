/* SPDX-License-Identifier: MIT */
/*
 * lodge run --incoming: a guest that comes from another lodge (machine/incoming.h), with its console on this terminal.
 *
 * Everything is received, and the machine made, before the other side hears that it runs here. What is wrong is told on both
 * sides. With --incoming - standard input and output are the way that it comes, so its console is nowhere until somebody is
 * at `lodge console`.
 */
#include "arrival.h"

#include "base/err.h"
#include "failure.h"
#include "lodge.h"
#include "machine/incoming.h"
#include "machine/saved.h"
#include "uri.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

struct arrival {
	struct incoming in;
	struct saved *saved;
};

static int configure(void *arrival, struct machine_config *config, struct launch_disks *disks,
		     struct err *err)
{
	struct arrival *a = arrival;
	int rc = saved_open_fd(&a->saved, fcntl(a->in.state, F_DUPFD_CLOEXEC, 0), "incoming", err);

	if (rc == 0)
		rc = launch_saved(a->saved, config, disks, err);
	for (unsigned i = 0; i < disks->n; i++)
		disks->disks[i].handed_over = true;
	config->incoming = &a->in;
	return rc;
}

/* They are the stream's ends; nothing else is to come out of them. */
static void leave_stdio(void)
{
	int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);

	dup2(nothing, STDIN_FILENO);
	dup2(nothing, STDOUT_FILENO);
	close(nothing);
}

static int receive(struct arrival *a, const char *uri, const char *certificates, int *answer, struct err *err)
{
	int fd = uri_accept(uri, certificates, answer, err), rc;

	if (fd < 0)
		return fd;
	if (strcmp(uri, "-") == 0)
		leave_stdio();
	rc = incoming_receive(&a->in, fd, err);
	close(fd);
	if (rc < 0) {
		incoming_refuse(*answer, err->text);
		close(*answer);
	}
	return rc;
}

int arrival_run(const struct launch *l, const char *uri, const char *certificates)
{
	struct arrival a = {.in = {.state = -1, .ram = -1}};
	struct launch here = *l;
	struct err err = {0};
	int code;

	launch_prepare(l);
	signal(SIGPIPE, SIG_IGN);
	if (receive(&a, uri, certificates, &here.incoming, &err) < 0)
		return report_failure(&err);
	here.paused |= a.in.paused;
	code = launch(&here, configure, &a);
	saved_close(a.saved);
	incoming_close(&a.in);
	return code;
}

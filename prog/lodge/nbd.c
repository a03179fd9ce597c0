/* SPDX-License-Identifier: MIT */
/*
 * lodge nbd: serves a disk image to clients of the Network Block Device protocol, on a Unix socket, until it is told to end.
 *
 * Images are hostile, and so are clients: once the disk is open and the socket there, this process shuts itself in as one that runs a
 * guest does.
 */
#include "lodge.h"

#include "base/err.h"
#include "base/log.h"
#include "base/scoped.h"
#include "block/disk.h"
#include "failure.h"
#include "loop/loop.h"
#include "nbd/server.h"
#include "place.h"
#include "sandbox/sandbox.h"
#include "session.h"
#include "uri.h"

#include <ctype.h>
#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

struct nbd {
	const char *operands[1];
	const char *socket, *format, *name;
	bool readonly, snapshot, once;
};

struct shift {
	const struct nbd *n;
	char path[PATH_MAX]; /* the socket's, from the root */
	int signals;
	bool over;
};

static uint64_t prepare_signals(void *ctx, struct pollfd *p)
{
	*p = (struct pollfd){((struct shift *)ctx)->signals, POLLIN, 0};
	return LOOP_NEVER;
}

/* Ctrl-Z is not for what has connections. */
static void serve_signals(void *ctx, const struct pollfd *p)
{
	struct shift *s = ctx;
	struct signalfd_siginfo info;

	if (p->revents && read(s->signals, &info, sizeof(info)) == sizeof(info))
		s->over = s->over || (info.ssi_signo != SIGTSTP && info.ssi_signo != SIGCONT);
}

static void left(void *ctx)
{
	struct shift *s = ctx;

	s->over = s->over || s->n->once;
}

/* -- Before -------------------------------------------------------------------------- */

static int check(const struct nbd *n, struct err *err)
{
	if (!n->operands[0])
		return err_set(err, ERANGE, "the image is missing: lodge nbd IMAGE");
	if (n->name && (!n->name[0] || strlen(n->name) > 255))
		return err_set(err, ERANGE, "--name '%s': the name of an export has 1 to 255 bytes", n->name);
	if (n->readonly && n->snapshot)
		return err_set(err, ERANGE, "--read-only and --snapshot: with one of them the other has nothing to do");
	return 0;
}

static int open_disk(const struct nbd *n, struct disk **disk, struct err *err)
{
	enum disk_format format = DISK_BY_NAME;

	if (n->format)
		format = strcmp(n->format, "raw") == 0 ? DISK_RAW : DISK_QCOW2;
	return disk_open(disk, &(struct disk_config){.path = n->operands[0], .format = format, .readonly = n->readonly,
						     .throw_away = n->snapshot}, err);
}

/* The listening socket. */
static int open_socket(struct shift *s, struct err *err)
{
	char dir[PLACE_MAX], own[PLACE_MAX + 32];
	const char *path = s->n->socket;
	int rc = path ? 0 : place_find(dir, true, err);

	if (rc < 0)
		return rc;
	if (!path) {
		snprintf(own, sizeof(own), "%s/nbd.%ld", dir, (long)getpid());
		path = own;
	}
	rc = uri_listen(path, err);
	if (rc >= 0 && !realpath(path, s->path))
		snprintf(s->path, sizeof(s->path), "%s", path);
	return rc;
}

static void shut_in(const struct shift *s)
{
#ifndef LODGE_SANITIZED /* whose runtime makes system calls of its own */
	scoped_mem char *path = strdup(s->path);
	char missing[SANDBOX_MISSING];

	sandbox_enter(&(struct sandbox_config){.removes = path ? dirname(path) : NULL}, missing);
	if (missing[0])
		log_note("sandbox", "here without %s", missing);
#else
	(void)s;
#endif
}

/* -- While it serves ----------------------------------------------------------------- */

/* As a URI has it. */
static void put_escaped(const char *text)
{
	for (; *text; text++)
		printf(isalnum((unsigned char)*text) || strchr("-._~/", *text) ? "%c" : "%%%02X", (unsigned char)*text);
}

/* For who started us: a line that names what others connect to, when they can. */
static void tell(const struct shift *s)
{
	printf("nbd+unix:///");
	put_escaped(s->n->name ? s->n->name : "");
	printf("?socket=");
	put_escaped(s->path);
	putchar('\n');
	fflush(stdout);
}

static int serve(struct shift *s, struct disk *disk, int listening, struct err *err)
{
	const struct loop_source signals = {prepare_signals, serve_signals, s};
	struct nbd_server *server = NULL;
	struct loop *loop = NULL;
	int rc = loop_create(&loop, err);

	if (rc == 0 && loop_add(loop, &signals) < 0)
		rc = err_set(err, ENOMEM, "no memory");
	if (rc == 0)
		rc = nbd_server_create(&server, &(struct nbd_server_config){.loop = loop, .listening = listening, .disk = disk,
			.name = s->n->name ? s->n->name : "", .left = left, .ctx = s}, err);
	if (rc == 0) {
		shut_in(s);
		tell(s);
	}
	while (rc == 0 && !s->over)
		loop_once(loop);
	nbd_server_destroy(server);
	loop_destroy(loop);
	return rc;
}

static int nbd_main(void *parsed)
{
	struct shift s = {.n = parsed};
	struct disk *disk = NULL;
	struct err err = {0};
	scoped_fd int listening = -1;
	int rc = check(s.n, &err);

	if (rc == 0) {
		sandbox_prepare();
		s.signals = session_signals();
		rc = open_disk(s.n, &disk, &err);
	}
	if (rc == 0)
		rc = listening = open_socket(&s, &err);
	if (rc >= 0)
		rc = serve(&s, disk, listening, &err);
	disk_close(disk);
	if (listening >= 0)
		unlink(s.path);
	return rc < 0 ? report_failure(&err) : EXIT_OK;
}

static const struct option options[] = {
	{"--socket", "PATH", "listen there (default: a new one, whose name is printed)", OPTION_TEXT, offsetof(struct nbd, socket), 0, 0, NULL},
	{"--name", "NAME", "the name of the export (default: none; who names none gets it anyway)", OPTION_TEXT, offsetof(struct nbd, name), 0, 0,
	 NULL},
	{"--format", "raw|qcow2", "what the image is (default: as its name says: .qcow2 is, all others are raw)", OPTION_WORD,
	 offsetof(struct nbd, format), 0, 0, NULL},
	{"--read-only", NULL, "clients read only; others may, too", OPTION_FLAG, offsetof(struct nbd, readonly), 0, 0, NULL},
	{"--snapshot", NULL, "the image is only read: what clients write is forgotten at the end", OPTION_FLAG, offsetof(struct nbd, snapshot), 0, 0,
	 NULL},
	{"--once", NULL, "end when the last client has left", OPTION_FLAG, offsetof(struct nbd, once), 0, 0, NULL},
	{0},
};

const struct verb verb_nbd = {
	.name = "nbd",
	.summary = "serve a disk image to NBD clients",
	.text = "When it listens, it prints one line, a URI that clients take: qemu-img, nbdcopy, nbdinfo, guests of other\n"
		"VMMs. It goes on until it is told to end (Ctrl-C, SIGTERM); what was written is on the disk then.\n"
		"The socket is for this user alone; from another computer, ssh -L leads to it.\n",
	.operand = "IMAGE",
	.n_operands = 1,
	.options = options,
	.size = sizeof(struct nbd),
	.main = nbd_main,
};

/* SPDX-License-Identifier: MIT */
/*
 * See tls.h.
 *
 *	lodge-tls connect ADDRESS DIRECTORY     lodge's socket is 0
 *	lodge-tls listen ADDRESS DIRECTORY
 *
 * lodge starts it, and hears on 1 when it has found the other side, or why there is none (beside.h); then 1 is closed.
 */
#include "tls.h"

#include "base/err.h"
#include "base/log.h"
#include "prog/lodge/beside.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LODGE STDIN_FILENO

struct side {
	struct keys keys;
	gnutls_session_t tls;
	bool server;
};

static int shake(void *ctx, int fd, struct err *err)
{
	struct side *s = ctx;

	pump_shut_in();
	return pump_shake(&s->tls, &s->keys, fd, s->server, err);
}

static int find(struct side *s, char *address, const char *dir, struct err *err)
{
	char *host, *port;
	int rc = keys_load(&s->keys, dir, s->server, err), fd;

	if (rc < 0 || (rc = tcp_split(address, &host, &port, err)) < 0)
		return rc;
	fd = s->server ? tcp_listen(host, port, err) : tcp_connect(host, port, err);
	if (fd < 0 || s->server)
		return fd < 0 ? fd : tcp_find(fd, LODGE, shake, s, err);
	s->keys.host = host;
	rc = shake(s, fd, err);
	return rc < 0 ? rc : fd;
}

int main(int argc, char **argv)
{
	struct side side = {.tls = NULL};
	struct err err = {0};
	int net;

	if (argc != 4 || (strcmp(argv[1], "connect") && strcmp(argv[1], "listen"))) {
		fputs("lodge-tls: is started by lodge (lodge help migrate)\n", stderr);
		return 2;
	}
	closefrom(STDERR_FILENO + 1); /* whatever who has started lodge had open */
	side.server = strcmp(argv[1], "listen") == 0;
	net = find(&side, argv[2], argv[3], &err);
	if (net >= 0)
		err.code = 0; /* what was tried first */
	beside_answer(&err);
	if (net < 0)
		return 1;
	if (pump_run(side.tls, net, LODGE, &err) < 0) {
		log_note("tls", "%s", err.text);
		return 1;
	}
	return 0;
}

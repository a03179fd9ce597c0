/* SPDX-License-Identifier: MIT */
/*
 * See mux.h.
 *
 *	lodge-vsock CID PATH      lodge's socket is 0, one that listens at PATH is 3
 *
 * lodge starts it for --vsock, and hears on 1 when it is ready (beside.h). It reaches no file, by Landlock; Unix sockets that it may connect
 * to are those which its user may, for Landlock knows nothing of them, but their names are PATH_N.
 */
#include "mux.h"

#include "base/err.h"
#include "net/port.h"
#include "prog/lodge/beside.h"
#include "sandbox/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define LODGE STDIN_FILENO
#define ROOM  (1u << 20)

static void shut_in(void)
{
#ifndef LODGE_SANITIZED /* whose runtime makes system calls of its own */
	sandbox_alone("vsock", &(struct sandbox_needs){.network = false});
#endif
}

int main(int argc, char **argv)
{
	static struct net_port *lodge; /* static: what they lead to is not lost when we end */
	static struct mux *m;
	struct err err = {0};

	closefrom(BESIDE_GIVEN + 1); /* whatever who has started lodge had open */
	signal(SIGPIPE, SIG_IGN);
	if (argc != 3 || isatty(LODGE) || net_stream(&lodge, &(struct net_stream_config){.fd = LODGE, .mtu = 1500, .room = ROOM}, &err) < 0) {
		fputs("lodge-vsock: is started by lodge (lodge help run)\n", stderr);
		return 2;
	}
	m = mux_create(lodge, (uint32_t)strtoul(argv[1], NULL, 10), argv[2], BESIDE_GIVEN);
	if (!m)
		err_set(&err, ENOMEM, "no memory");
	beside_answer(&err);
	if (err.code || open("/dev/null", O_WRONLY) != STDOUT_FILENO)
		return 1;
	shut_in();
	mux_run(m);
	return 0;
}

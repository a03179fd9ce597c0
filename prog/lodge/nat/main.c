/* SPDX-License-Identifier: MIT */
/*
 * See nat.h.
 *
 *	lodge-nat TFTP-DIRECTORY BOOTFILE [FORWARD]...     lodge's socket is 0; an empty word says nothing
 *
 * lodge starts it, and hears on 1 when it is ready, or which port cannot be had (beside.h).
 */
#include "nat.h"

#include "base/err.h"
#include "forward.h"
#include "net/port.h"
#include "prog/lodge/beside.h"
#include "sandbox/sandbox.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define LODGE STDIN_FILENO
#define ROOM  (8u << 20)

/* Each connection of the guest's has a descriptor. */
static void raise_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

/* libslirp reads /etc/resolv.conf again when it has changed; where that really is, a new one may be put in its place. */
static const char *find_resolver(char path[PATH_MAX])
{
	char *slash;

	if (!realpath("/etc/resolv.conf", path))
		return NULL;
	slash = strrchr(path, '/');
	slash[slash == path] = 0;
	return path;
}

static void shut_in(const char *tftp)
{
#ifndef LODGE_SANITIZED /* whose runtime makes system calls of its own */
	char path[PATH_MAX];

	sandbox_alone("nat", &(struct sandbox_needs){.reads = {find_resolver(path), tftp}, .network = true});
#endif
	(void)find_resolver, (void)tftp;
}

static int add_forwards(struct router *r, char **words, struct err *err)
{
	int rc = 0;

	for (; *words && rc == 0; words++) {
		struct forward f;

		rc = forward_parse(&f, *words, err);
		if (rc == 0)
			rc = router_forward(r, &f, *words, err);
	}
	return rc;
}

int main(int argc, char **argv)
{
	static struct router_config config; /* static: what they lead to is not lost when we end */
	static struct router *router;
	struct err err = {0};

	closefrom(STDERR_FILENO + 1); /* whatever who has started lodge had open */
	signal(SIGPIPE, SIG_IGN);
	raise_limit();
	if (argc < 3 || isatty(LODGE) || net_stream(&config.lodge, &(struct net_stream_config){.fd = LODGE, .mtu = NAT_MTU, .room = ROOM}, &err) < 0) {
		fputs("lodge-nat: is started by lodge (lodge help run)\n", stderr);
		return 2;
	}
	config.tftp = argv[1][0] ? argv[1] : NULL;
	config.bootfile = argv[2][0] ? argv[2] : NULL;
	router = router_create(&config);
	add_forwards(router, argv + 3, &err);
	beside_answer(&err);
	if (err.code || openat(AT_FDCWD, "/dev/null", O_WRONLY) != STDOUT_FILENO) /* so that no connection is what libraries write to */
		return 1;
	shut_in(config.tftp);
	router_run(router);
	return 0;
}

/* SPDX-License-Identifier: MIT */
/* See tls.h. */
#include "tls.h"

#include "base/err.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define AT_ONCE  16    /* who have connected, and have not shown who they are */
#define NOTES    100   /* about who was not let in */
#define SILENCE  30000 /* ms after which a connection on which nothing is acknowledged is lost */

int tcp_split(char *address, char **host, char **port, struct err *err)
{
	char *colon = strrchr(address, ':');

	*host = address;
	*port = colon + 1;
	if (!colon || !**port)
		return err_set(err, ERANGE, "'%s': an address is HOST:PORT", address);
	*colon = 0;
	if (address[0] == '[' && colon > address + 1 && colon[-1] == ']') {
		colon[-1] = 0;
		*host = address + 1;
	} else if (strchr(address, ':')) {
		*colon = ':';
		return err_set(err, ERANGE, "'%s': an IPv6 address stands in brackets: [::1]:PORT", address);
	}
	return 0;
}

/* A peer that is switched off must be noticed, for the guest waits. */
static void set_options(int fd)
{
	int one = 1, idle = 10, silence = SILENCE;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &idle, sizeof(idle));
	setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &silence, sizeof(silence));
}

static int use(const struct addrinfo *a, bool listening)
{
	int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1, why;

	if (fd < 0)
		return -errno;
	set_options(fd);
	if (!listening && connect(fd, a->ai_addr, a->ai_addrlen) == 0)
		return fd;
	if (listening && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) == 0 &&
	    bind(fd, a->ai_addr, a->ai_addrlen) == 0 && listen(fd, AT_ONCE) == 0)
		return fd;
	why = errno;
	close(fd);
	return -why;
}

static int open_any(const char *host, const char *port, bool listening, struct err *err)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = listening ? AI_PASSIVE : 0}, *list;
	int rc = getaddrinfo(host && *host ? host : NULL, port, &hints, &list);

	if (rc)
		return err_set(err, ENOENT, "%s port %s: %s", host, port,
			       rc == EAI_SYSTEM ? strerror(errno) : gai_strerror(rc));
	rc = -ENOENT;
	for (const struct addrinfo *a = list; a && rc < 0; a = a->ai_next)
		rc = use(a, listening);
	freeaddrinfo(list);
	return rc < 0 ? err_sys(err, -rc, "%s port %s", host, port) : rc;
}

int tcp_connect(const char *host, const char *port, struct err *err)
{
	return *host ? open_any(host, port, false, err) : err_set(err, ERANGE, "port %s of which host?", port);
}

int tcp_listen(const char *host, const char *port, struct err *err)
{
	return open_any(host, port, true, err);
}

/* -- One among many -------------------------------------------------------------------- */

static void name_peer(int fd, char name[NI_MAXHOST])
{
	struct sockaddr_storage from;
	socklen_t len = sizeof(from);

	if (getpeername(fd, (struct sockaddr *)&from, &len) < 0 ||
	    getnameinfo((struct sockaddr *)&from, len, name, NI_MAXHOST, NULL, 0, NI_NUMERICHOST))
		strcpy(name, "somebody"); /* SAFE: it has room */
}

/*
 * The first who has shown who he is takes the one byte out of the pipe, and tells it by the other to the process that we are children
 * of. That ends, and by that all others: they die with it. Whoever comes second finds no byte.
 */
static int be_one(int fd, const int token[2], const int won[2], bool tells, int (*shaken)(void *ctx, int fd, struct err *err), void *ctx)
{
	struct err err = {0};
	char name[NI_MAXHOST], byte;

	name_peer(fd, name);
	if (shaken(ctx, fd, &err) < 0) {
		if (tells)
			log_note("tls", "%s is not let in: %s", name, err.text);
		_exit(1);
	}
	prctl(PR_SET_PDEATHSIG, 0);
	if (read(token[0], &byte, 1) != 1 || write(won[1], &byte, 1) != 1)
		_exit(1);
	return fd;
}

/* Those who have connected; the first ones have had the longest time. */
struct children {
	pid_t pid[AT_ONCE];
	unsigned n, so_far;
};

static void forget_child(struct children *c, pid_t pid)
{
	unsigned i = 0;

	while (i < c->n && c->pid[i] != pid)
		i++;
	if (i == c->n)
		return;
	for (c->n--; i < c->n; i++)
		c->pid[i] = c->pid[i + 1];
}

/* So that those who say nothing keep nobody out. Whoever has the token is not one of them: while we have it, nobody can. */
static void make_room(struct children *c, const int token[2])
{
	char byte;

	if (c->n < AT_ONCE || read(token[0], &byte, 1) != 1)
		return;
	kill(c->pid[0], SIGKILL);
	waitpid(c->pid[0], NULL, 0);
	forget_child(c, c->pid[0]);
	if (write(token[1], &byte, 1) != 1)
		_exit(1); /* it had room before */
}

int tcp_find(int listening, int lodge, int (*shaken)(void *ctx, int fd, struct err *err), void *ctx, struct err *err)
{
	struct children children = {.n = 0};
	pid_t pid, parent = getpid();
	int token[2], won[2], fd;

	if (pipe2(token, O_CLOEXEC | O_NONBLOCK) < 0 || write(token[1], "", 1) != 1 || pipe2(won, O_CLOEXEC) < 0)
		return err_sys(err, errno, "a pipe");
	for (;;) {
		struct pollfd p[] = {
			{listening, POLLIN, 0}, {lodge, POLLRDHUP, 0}, {won[0], POLLIN, 0},
		};

		poll(p, 3, children.n ? 100 : -1);
		if (p[2].revents)
			_exit(0);
		if (p[1].revents)
			return -ECANCELED;
		while (children.n && (pid = waitpid(-1, NULL, WNOHANG)) > 0)
			forget_child(&children, pid);
		if (!p[0].revents)
			continue;
		make_room(&children, token);
		fd = children.n < AT_ONCE ? accept4(listening, NULL, NULL, SOCK_CLOEXEC) : -1;
		if (fd < 0) {
			poll(NULL, 0, 10); /* no descriptors, say; or one has won */
			continue;
		}
		set_options(fd);
		pid = fork();
		if (pid == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			if (getppid() != parent)
				_exit(1);
			close(listening);
			return be_one(fd, token, won, children.so_far < NOTES, shaken, ctx);
		}
		close(fd);
		children.so_far++;
		if (pid > 0)
			children.pid[children.n++] = pid;
	}
}

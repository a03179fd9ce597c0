/* SPDX-License-Identifier: MIT */
/*
 * A connection, and what is agreed on it: the newstyle negotiation of the protocol, of which we need one option, GO. All of it is to
 * take PATIENCE seconds at most. What a server says in words is shown, but for what would do something to a terminal.
 */
#include "block/nbd/nbd.h"

#include "base/bytes.h"
#include "base/err.h"
#include "base/scoped.h"
#include "block/nbd/protocol.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE   20
#define ANSWER_MAX (64u << 10) /* bytes of one */
#define TALK_MAX   64u         /* answers before it comes to the point */

/* -- Connecting ----------------------------------------------------------------------- */

static const struct timeval patience = {.tv_sec = PATIENCE};

static int connect_unix(const char *path, struct err *err)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	scoped_fd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(at.sun_path, path); /* SAFE: nbd_address has no longer ones */
	if (fd >= 0)
		setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)); /* of connect(), too */
	if (fd < 0 || connect(fd, (struct sockaddr *)&at, sizeof(at)) < 0)
		return err_sys(err, errno, "cannot connect to '%s'", path);
	return keep_fd(&fd);
}

static int connect_one(const struct addrinfo *a)
{
	scoped_fd int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	if (connect(fd, a->ai_addr, a->ai_addrlen) < 0)
		return errno == EINPROGRESS ? -ETIMEDOUT : -errno;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &(int){1}, sizeof(int));
	return keep_fd(&fd);
}

static int connect_tcp(const struct nbd_address *a, struct err *err)
{
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
	struct addrinfo *list;
	int rc = getaddrinfo(a->host, a->port, &hints, &list), fd = -ENOENT;

	if (rc)
		return err_set(err, EHOSTUNREACH, "its host '%s': %s", a->host, gai_strerror(rc));
	for (struct addrinfo *at = list; at && fd < 0; at = at->ai_next)
		fd = connect_one(at);
	freeaddrinfo(list);
	return fd < 0 ? err_sys(err, -fd, "cannot connect to %s, port %s", a->host, a->port) : fd;
}

/* -- Talking --------------------------------------------------------------------------- */

static __thread time_t until; /* this connection's negotiation is to be over, in s */

static int put(int fd, const void *bytes, size_t n, struct err *err)
{
	for (const uint8_t *at = bytes; n;) {
		ssize_t rc = send(fd, at, n, MSG_NOSIGNAL);

		if (rc < 0 && errno != EINTR)
			return err_sys(err, errno == EAGAIN ? ETIMEDOUT : errno, "its server");
		at += rc > 0 ? rc : 0;
		n -= rc > 0 ? (size_t)rc : 0;
	}
	return 0;
}

static time_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec;
}

static int get(int fd, void *bytes, size_t n, struct err *err)
{
	for (uint8_t *at = bytes; n;) {
		ssize_t rc = recv(fd, at, n, 0);

		if (now() > until)
			return err_set(err, ETIMEDOUT, "its server is too slow to begin");
		if (rc == 0)
			return err_set(err, ECONNRESET, "its server has closed the connection, without a word");
		if (rc < 0 && errno != EINTR)
			return err_sys(err, errno == EAGAIN ? ETIMEDOUT : errno, "its server");
		at += rc > 0 ? rc : 0;
		n -= rc > 0 ? (size_t)rc : 0;
	}
	return 0;
}

static int greet(int fd, struct err *err)
{
	uint8_t bytes[18];
	int rc = get(fd, bytes, sizeof(bytes), err);

	if (rc < 0)
		return rc;
	if (be64_get(bytes) != NBD_MAGIC)
		return err_set(err, EPROTO, "what answers there is no NBD server");
	if (be64_get(bytes + 8) != NBD_OPTION_MAGIC || !(be16_get(bytes + 16) & NBD_FIXED_NEWSTYLE))
		return err_set(err, EPROTO, "its server is too old: it has no fixed newstyle negotiation");
	be32_put(bytes, NBD_FIXED_NEWSTYLE | (be16_get(bytes + 16) & NBD_NO_ZEROES));
	return put(fd, bytes, 4, err);
}

/* GO, and that we would know the sizes of requests. */
static int ask(int fd, const char *name, struct err *err)
{
	uint8_t bytes[16 + 4 + NBD_NAME_MAX + 4];
	uint32_t n = (uint32_t)strlen(name);

	be64_put(bytes, NBD_OPTION_MAGIC);
	be32_put(bytes + 8, NBD_OPT_GO);
	be32_put(bytes + 12, n + 8);
	be32_put(bytes + 16, n);
	memcpy(bytes + 20, name, n);
	be16_put(bytes + 20 + n, 1);
	be16_put(bytes + 22 + n, NBD_INFO_BLOCK_SIZE);
	return put(fd, bytes, 24 + n, err);
}

static void take_info(struct nbd_export *e, const uint8_t *data, uint32_t n)
{
	unsigned kind = n >= 2 ? be16_get(data) : UINT16_MAX;

	if (kind == NBD_INFO_EXPORT && n == 12) {
		e->size = be64_get(data + 2);
		e->flags = be16_get(data + 10);
	} else if (kind == NBD_INFO_BLOCK_SIZE && n == 14) {
		e->least = be32_get(data + 2);
		e->preferred = be32_get(data + 6);
		e->most = be32_get(data + 10);
	}
}

static int refused(uint32_t type, uint8_t *text, struct err *err)
{
	err_harmless((char *)text);
	if (type == (uint32_t)NBD_REP_ERR_UNKNOWN)
		return err_set(err, ENOENT, "its server has no such export%s%s", *text ? ": " : "", text);
	return err_set(err, EPERM, "its server refuses (%u)%s%s", type & 0x7fffffff, *text ? ": " : "", text);
}

/* 1: there is more to come. */
static int take_answer(int fd, struct nbd_export *e, uint8_t *data, struct err *err)
{
	uint8_t head[20];
	uint32_t type, n;
	int rc = get(fd, head, sizeof(head), err);

	if (rc < 0)
		return rc;
	type = be32_get(head + 12);
	n = be32_get(head + 16);
	if (be64_get(head) != NBD_OPTION_ANSWER || be32_get(head + 8) != NBD_OPT_GO || n > ANSWER_MAX)
		return err_set(err, EPROTO, "its server answers what makes no sense");
	if ((rc = get(fd, data, n, err)) < 0)
		return rc;
	data[n] = 0;
	if (type == NBD_REP_INFO)
		take_info(e, data, n);
	if (type == NBD_REP_INFO || type == NBD_REP_ACK)
		return type == NBD_REP_INFO;
	return refused(type, data, err);
}

static int negotiate(int fd, const char *name, struct nbd_export *e, struct err *err)
{
	scoped_mem uint8_t *data = malloc(ANSWER_MAX + 1);
	int rc = data ? greet(fd, err) : err_set(err, ENOMEM, "out of memory");

	if (rc == 0)
		rc = ask(fd, name, err);
	if (rc == 0)
		rc = 1;
	for (unsigned i = 0; rc == 1; i++)
		rc = i < TALK_MAX ? take_answer(fd, e, data, err) : err_set(err, EPROTO, "its server talks without end");
	if (rc == 0 && !(e->flags & NBD_HAS_FLAGS))
		rc = err_set(err, EPROTO, "its server says nothing of the export");
	return rc;
}

int nbd_dial(const struct nbd_address *a, struct nbd_export *e, struct err *err)
{
	scoped_fd int fd = a->path[0] ? connect_unix(a->path, err) : connect_tcp(a, err);
	int rc = fd;

	*e = (struct nbd_export){.least = 1, .preferred = 4096, .most = NBD_LENGTH_MAX};
	if (fd < 0)
		return fd;
	until = now() + PATIENCE;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	rc = negotiate(fd, a->name, e, err);
	if (rc == 0 && fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
		rc = err_sys(err, errno, "its socket");
	return rc < 0 ? rc : keep_fd(&fd);
}

/* SPDX-License-Identifier: MIT */
/*
 * lodge-vsock's connections, with the guest and the programs played by this test: what is left of a connection when one side has gone.
 */
#include "prog/lodge/vsock/mux.h"

#include "base/bytes.h"
#include "dev/virtio/vsock_packet.h"
#include "net/port.h"
#include "tests/tap.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define CID  3u
#define HERE 1u
#define THEN 9u /* the guest's port */

static char dir[] = "/tmp/mux_test.XXXXXX", path[64], name[80];
static struct net_port *lodge;
static struct mux *m;
static int end, listening, server;

static int listen_at(const char *where)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

	snprintf(at.sun_path, sizeof(at.sun_path), "%s", where);
	if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof(at)) < 0 || listen(fd, 300) < 0)
		abort();
	return fd;
}

static int connect_to(const char *where)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(at.sun_path, sizeof(at.sun_path), "%s", where);
	if (fd < 0 || connect(fd, (struct sockaddr *)&at, sizeof(at)) < 0)
		abort();
	return fd;
}

static void start(void)
{
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) < 0 ||
	    net_stream(&lodge, &(struct net_stream_config){.fd = ends[0], .mtu = 1500, .room = 1 << 20}, NULL) < 0)
		abort();
	end = ends[1];
	listening = listen_at(path);
	server = listen_at(name);
	m = mux_create(lodge, CID, path, listening);
}

static void stop(void)
{
	mux_destroy(m);
	lodge->type->close(lodge);
	close(end);
	close(listening);
	close(server);
	unlink(path);
	unlink(name);
}

/* From the guest, with len bytes of 'x' and credit without end. */
static void say(unsigned op, uint32_t here, uint32_t len)
{
	static uint8_t p[VSOCK_HEADER + VSOCK_ROOM];

	le64_put(p + VSOCK_SRC_CID, CID);
	le64_put(p + VSOCK_DST_CID, VSOCK_HOST);
	le32_put(p + VSOCK_SRC_PORT, THEN);
	le32_put(p + VSOCK_DST_PORT, here);
	le32_put(p + VSOCK_LEN, len);
	le16_put(p + VSOCK_TYPE, VSOCK_STREAM);
	le16_put(p + VSOCK_OP, (uint16_t)op);
	le32_put(p + VSOCK_BUF_ALLOC, 1u << 30);
	memset(p + VSOCK_HEADER, 'x', len);
	mux_input(m, p, VSOCK_HEADER + len);
	mux_turn(m, 0);
}

/* The next packet to the guest: its op, or -1. */
static int hear(uint32_t *here)
{
	static uint8_t p[4 + VSOCK_HEADER + VSOCK_ROOM];
	uint32_t len;

	if (recv(end, p, 4, MSG_DONTWAIT) != 4)
		return -1;
	len = be32_get(p);
	if (len > sizeof(p) - 4 || recv(end, p + 4, len, MSG_WAITALL) != (ssize_t)len)
		abort();
	*here = le32_get(p + 4 + VSOCK_SRC_PORT);
	return le16_get(p + 4 + VSOCK_OP);
}

static size_t read_all(int fd)
{
	static char bytes[65536];
	size_t all = 0;
	ssize_t n;

	for (;;) {
		mux_turn(m, 0);
		n = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);
		if (n == 0)
			return all;
		all += n > 0 ? (size_t)n : 0;
	}
}

/* A program that reads nothing yet, at the other end of a guest's connection. */
static int accepted(uint32_t *here)
{
	say(VSOCK_REQUEST, HERE, 0);
	is_int(hear(here), VSOCK_RESPONSE, "a guest's connection is accepted");
	return accept(server, NULL, NULL);
}

/* Its socket is full, so that much is kept. */
static size_t stuff(uint32_t here)
{
	size_t sent = 0;
	uint32_t who;
	int op;

	for (unsigned i = 0; i < 60; i++, sent += VSOCK_ROOM / 4) {
		say(VSOCK_RW, here, VSOCK_ROOM / 4);
		while ((op = hear(&who)) >= 0)
			if (op == VSOCK_RST)
				return 0;
		if (sent > 3 * VSOCK_ROOM && i % 4 == 3)
			break;
	}
	return sent + VSOCK_ROOM / 4;
}

static void test_rst(void)
{
	uint32_t here;
	size_t sent;
	int fd;

	start();
	fd = accepted(&here);
	sent = stuff(here);
	ok(sent > 0, "it sends more than is read");
	say(VSOCK_RST, here, 0);
	is_int((long)read_all(fd), (long)sent, "when it has gone all comes that it had sent");
	say(VSOCK_REQUEST, HERE, 0);
	is_int(hear(&here), VSOCK_RESPONSE, "and its ports are free");
	close(fd);
	stop();
}

static void test_renewed(void)
{
	uint32_t here;
	char byte;
	int fd;

	start();
	fd = accepted(&here);
	say(VSOCK_NONE, 0, 0);
	is_int(recv(fd, &byte, 1, 0), 0, "a driver that begins anew has no connections");
	is_int(hear(&here), -1, "and hears nothing of those that it had");
	close(fd);
	stop();
}

static void test_gone(void)
{
	uint32_t here;
	int fd;

	start();
	for (unsigned i = 0; i < 3 * MUX_CONNS; i++) {
		fd = connect_to(path);
		if (send(fd, "CONNECT 9\n", 10, 0) != 10)
			abort();
		mux_turn(m, 0);
		mux_turn(m, 0);
		if (hear(&here) != VSOCK_REQUEST)
			break;
		close(fd);
		mux_turn(m, 0);
		if (hear(&here) != VSOCK_RST)
			break;
		fd = -1;
	}
	ok(fd < 0, "programs that have gone before the guest has answered take no place");
	fd = accepted(&here);
	close(fd);
	mux_turn(m, 0);
	is_int(hear(&here), VSOCK_SHUTDOWN, "one that has gone says that it sends no more");
	mux_turn(m, 0);
	is_int(hear(&here), VSOCK_RST, "and that it is gone");
	stop();
}

static void test_pipelined(void)
{
	uint32_t here, who;
	int fd;

	start();
	fd = connect_to(path);
	if (send(fd, "CONNECT 9\nhello", 15, 0) != 15)
		abort();
	close(fd);
	mux_turn(m, 0);
	mux_turn(m, 0);
	is_int(hear(&here), VSOCK_REQUEST, "one that says hello at once, and goes,");
	mux_turn(m, 0);
	mux_turn(m, 0);
	is_int(hear(&who), -1, "is waited for");
	say(VSOCK_RESPONSE, here, 0);
	mux_turn(m, 0);
	mux_turn(m, 0);
	mux_turn(m, 0);
	is_int(hear(&who), VSOCK_RW, "until it is accepted, and heard,");
	is_int(hear(&who), VSOCK_SHUTDOWN, "that it says no more,");
	is_int(hear(&who), VSOCK_RST, "and that it is gone");
	stop();
}

int main(void)
{
	if (!mkdtemp(dir))
		abort();
	snprintf(path, sizeof(path), "%s/s", dir);
	snprintf(name, sizeof(name), "%s_%u", path, HERE);
	test_rst();
	test_renewed();
	test_gone();
	test_pipelined();
	rmdir(dir);
	return done_testing();
}

/* SPDX-License-Identifier: MIT */
/*
 * What a guest says to lodge-vsock (prog/lodge/vsock): packets; and what programs here do meanwhile, at both ends of its Unix sockets.
 *
 *	an action   [what: 1] [ports: 1] [how: 1] [length: 1] [bytes]
 *
 * `what` below 8 is a packet with that op, between ports 0 to 3 here and as many there, or those of the connection that was begun here last;
 * `how` has flags, and whether length, type or credit are lies. Above that a program connects, greets, writes, reads, or
 * goes. What must hold: what is said to the guest are packets, no bytes are beyond its credit, and descriptors do not pile up.
 */
#include "base/bytes.h"
#include "dev/virtio/vsock_packet.h"
#include "net/port.h"
#include "prog/lodge/vsock/mux.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define CID     3u
#define CLIENTS 8u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char dir[] = "/tmp/fuzz_vsock.XXXXXX", path[64], name[80];
static int end, clients[CLIENTS], server; /* lodge's; programs'; the one that listens at path_1 */
static uint32_t last_port;                /* that it has seen */

static void must(bool fine)
{
	if (!fine)
		abort();
}

static int listen_at(const char *where)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

	snprintf(at.sun_path, sizeof(at.sun_path), "%s", where);
	unlink(where);
	must(fd >= 0 && bind(fd, (struct sockaddr *)&at, sizeof(at)) == 0 && listen(fd, 64) == 0);
	return fd;
}

static void clean_up(void)
{
	unlink(path);
	unlink(name);
	rmdir(dir);
}

static void set_up(void)
{
	if (path[0])
		return;
	must(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/s", dir);
	snprintf(name, sizeof(name), "%s_1", path);
	atexit(clean_up);
}

/* What was said to the guest. */
static void hear(void)
{
	static uint8_t bytes[1 << 20];
	static size_t n;
	ssize_t got;
	size_t at = 0;

	while ((got = recv(end, bytes + n, sizeof(bytes) - n, MSG_DONTWAIT)) > 0)
		n += (size_t)got;
	while (n - at >= 4 + VSOCK_HEADER) {
		const uint8_t *p = bytes + at + 4;
		uint32_t len = be32_get(bytes + at);

		must(len >= VSOCK_HEADER && len <= VSOCK_HEADER + VSOCK_ROOM && le32_get(p + VSOCK_LEN) == len - VSOCK_HEADER);
		must(le64_get(p + VSOCK_SRC_CID) == VSOCK_HOST && le64_get(p + VSOCK_DST_CID) == CID);
		if (n - at < 4 + len)
			break;
		if (le16_get(p + VSOCK_OP) == VSOCK_REQUEST)
			last_port = le32_get(p + VSOCK_SRC_PORT);
		at += 4 + len;
	}
	memmove(bytes, bytes + at, n - at);
	n -= at;
	if (got == 0)
		n = 0;
}

static void packet(struct mux *m, const uint8_t *action, const uint8_t *bytes, size_t n)
{
	static uint8_t p[VSOCK_HEADER + 256 * 240];
	size_t len = action[2] & 4 ? n * 240 : n; /* up to VSOCK_ROOM */

	le64_put(p + VSOCK_SRC_CID, action[2] & 128 ? 9 : CID);
	le64_put(p + VSOCK_DST_CID, VSOCK_HOST);
	le32_put(p + VSOCK_SRC_PORT, action[1] >> 4 & 3);
	le32_put(p + VSOCK_DST_PORT, action[1] & 128 ? last_port : action[1] & 3);
	le32_put(p + VSOCK_LEN, (uint32_t)len + (action[2] & 64 ? 1 : 0));
	le16_put(p + VSOCK_TYPE, action[2] & 32 ? 2 : VSOCK_STREAM);
	le16_put(p + VSOCK_OP, action[0]);
	le32_put(p + VSOCK_FLAGS, action[2] & 3);
	le32_put(p + VSOCK_BUF_ALLOC, action[2] & 8 ? 1000 : action[2] & 16 ? UINT32_MAX : 0);
	le32_put(p + VSOCK_FWD_CNT, action[1] & 64 ? UINT32_MAX : 0);
	for (size_t i = 0; i < len; i++)
		p[VSOCK_HEADER + i] = n ? bytes[i % n] : 0;
	mux_input(m, p, VSOCK_HEADER + len);
}

static void program(const uint8_t *action, const uint8_t *bytes, size_t n)
{
	static uint8_t got[65536];
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	int *c = &clients[action[1] % CLIENTS];
	char line[32];

	if (action[0] % 5 == 0 && *c < 0) {
		snprintf(at.sun_path, sizeof(at.sun_path), "%s", path);
		*c = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
		must(connect(*c, (struct sockaddr *)&at, sizeof(at)) == 0);
	} else if (action[0] % 5 == 1 && *c < 0) {
		*c = accept4(server, NULL, NULL, SOCK_NONBLOCK);
	} else if (action[0] % 5 == 2 && *c >= 0) {
		must(send(*c, bytes, n, MSG_NOSIGNAL) <= (ssize_t)n);
	} else if (action[0] % 5 == 3 && *c >= 0) {
		snprintf(line, sizeof(line), "CONNECT %u\n", action[2] & 3u);
		must(send(*c, line, strlen(line), MSG_NOSIGNAL) <= (ssize_t)strlen(line));
		must(recv(*c, got, sizeof(got), 0) <= (ssize_t)sizeof(got));
	} else if (*c >= 0) {
		if (action[2] & 1)
			shutdown(*c, SHUT_WR);
		else
			close(*c), *c = -1;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct net_port *lodge;
	int ends[2], before = dup(0), listening, after;
	struct mux *m;

	close(before);
	set_up();
	must(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
	must(net_stream(&lodge, &(struct net_stream_config){.fd = ends[0], .mtu = 1500, .room = 1 << 20}, NULL) == 0);
	end = ends[1];
	listening = listen_at(path);
	server = listen_at(name);
	last_port = 0;
	for (unsigned i = 0; i < CLIENTS; i++)
		clients[i] = -1;
	m = mux_create(lodge, CID, path, listening);
	must(m);
	while (size >= 4) {
		const uint8_t *action = data;
		size_t n = action[3] < size - 4 ? action[3] : size - 4;

		if (action[0] < 8)
			packet(m, action, data + 4, n);
		else
			program(action, data + 4, n);
		data += 4 + n;
		size -= 4 + n;
		mux_turn(m, 0);
		hear();
	}
	mux_destroy(m);
	for (unsigned i = 0; i < CLIENTS; i++)
		if (clients[i] >= 0)
			close(clients[i]);
	lodge->type->close(lodge);
	shutdown(end, SHUT_RDWR);
	hear();
	close(end);
	close(listening);
	close(server);
	after = dup(0);
	close(after);
	must(after == before);
	return 0;
}

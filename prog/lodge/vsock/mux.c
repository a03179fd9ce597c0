/* SPDX-License-Identifier: MIT */
/*
 * See mux.h. One thread, which waits in poll() alone: for lodge's socket, the one that listens, and those of connections.
 *
 *	a connection      GREETING --CONNECT n--> ASKED --RESPONSE--> OPEN --> gone
 *	from the guest                                   REQUEST----> OPEN --RST--> LAST --> gone
 *
 * Bytes of the guest's that a Unix socket does not take are kept, VSOCK_ROOM of them at most: that is the credit it has. Bytes for the
 * guest are read when it has credit, and lodge takes them; so who is slow slows down who sends to it, and no other. Its packets are taken
 * as long as there is memory for an answer to each: a driver may wait with what we have for it until we have taken what it has for us.
 *
 * Each end of a connection can end by itself: SHUTDOWN and shutdown() say the same. When both have, or one is gone, RST ends it; what the guest had
 * sent before goes on to its end.
 */
#include "mux.h"

#include "base/bytes.h"
#include "dev/virtio/vsock_packet.h"
#include "net/port.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define BURST      64u          /* packets of the guest's, before sockets have their turn */
#define LINE       24u          /* more than "CONNECT 4294967295\n" has */
#define PORT_FIRST 0x40000000u  /* of ours, in connections to the guest */
#define PART       (16u << 10)  /* bytes in a packet to the guest */
#define ENOUGH     (512u << 10) /* bytes that lodge has not taken: the guest waits, too */

enum state { FREE, GREETING, ASKED, OPEN, LAST };

struct conn {
	enum state state;
	int fd;
	uint32_t here, there;      /* ports: ours and the guest's */
	uint32_t room, counted;    /* the guest's credit: buf_alloc, fwd_cnt */
	uint32_t sent;             /* bytes to it */
	uint32_t taken, told;      /* bytes of its that the socket has taken, and as many as it knows of */
	unsigned ended;            /* what the guest does no more: VSOCK_SENDS, VSOCK_RECEIVES */
	bool eof;                  /* the Unix socket's other end sends no more */
	bool left;                 /* it has gone before the guest has answered, but has said something: not polled until then */
	bool shut;                 /* and is told that the guest does not */
	size_t at, n;              /* of `out` */
	uint8_t *out;              /* what the socket has not taken */
};

struct mux {
	struct net_port *lodge;
	uint32_t cid;
	const char *path;
	int listening;
	uint32_t next_port;
	bool deaf; /* nobody could be let in */
	struct conn conns[MUX_CONNS];
	struct pollfd polls[2 + MUX_CONNS];
};

/* -- Packets to the guest ---------------------------------------------------------- */

struct ports {
	uint32_t here, there;
};

static bool say(struct mux *m, struct ports p, enum vsock_op op, uint32_t flags, const struct conn *c, const uint8_t *bytes, size_t len)
{
	uint8_t header[VSOCK_HEADER] = {0};

	le64_put(header + VSOCK_SRC_CID, VSOCK_HOST);
	le64_put(header + VSOCK_DST_CID, m->cid);
	le32_put(header + VSOCK_SRC_PORT, p.here);
	le32_put(header + VSOCK_DST_PORT, p.there);
	le32_put(header + VSOCK_LEN, (uint32_t)len);
	le16_put(header + VSOCK_TYPE, VSOCK_STREAM);
	le16_put(header + VSOCK_OP, op);
	le32_put(header + VSOCK_FLAGS, flags);
	if (c) {
		le32_put(header + VSOCK_BUF_ALLOC, VSOCK_ROOM);
		le32_put(header + VSOCK_FWD_CNT, c->taken);
	}
	return m->lodge->type->send(m->lodge, (struct iovec[]){{header, sizeof(header)}, {(void *)(uintptr_t)bytes, len}}, len ? 2 : 1);
}

static void tell(struct mux *m, struct conn *c, enum vsock_op op, uint32_t flags)
{
	if (say(m, (struct ports){c->here, c->there}, op, flags, c, NULL, 0))
		c->told = c->taken;
}

/* -- Life -------------------------------------------------------------------------- */

static void drop(struct conn *c)
{
	if (c->state != FREE)
		close(c->fd);
	free(c->out);
	*c = (struct conn){.state = FREE, .fd = -1};
}

/* And the guest is told, if it knows of it. */
static void end(struct mux *m, struct conn *c)
{
	if (c->state == ASKED || c->state == OPEN)
		tell(m, c, VSOCK_RST, 0);
	drop(c);
}

/* The guest knows of it no more. */
static void forget(struct conn *c)
{
	if (c->state == OPEN && c->n)
		c->state = LAST;
	else
		drop(c);
}

static struct conn *add(struct mux *m, int fd, enum state state)
{
	struct conn *c = NULL;

	for (unsigned i = 0; i < MUX_CONNS && !c; i++)
		if (m->conns[i].state == FREE)
			c = &m->conns[i];
	if (c)
		c->out = malloc(VSOCK_ROOM);
	if (!c || !c->out) {
		close(fd);
		return NULL;
	}
	c->state = state;
	c->fd = fd;
	return c;
}

static struct conn *find(struct mux *m, uint32_t here, uint32_t there)
{
	for (unsigned i = 0; i < MUX_CONNS; i++) {
		struct conn *c = &m->conns[i];

		if ((c->state == ASKED || c->state == OPEN) && c->here == here && c->there == there)
			return c;
	}
	return NULL;
}

/* -- Bytes of the guest's ---------------------------------------------------------- */

/* As much as the socket takes. False: it is gone. */
static bool flush(struct conn *c)
{
	while (c->n) {
		ssize_t n = send(c->fd, c->out + c->at, c->n, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0)
			return errno == EAGAIN || errno == EINTR;
		c->at += (size_t)n;
		c->n -= (size_t)n;
		c->taken += (uint32_t)n;
	}
	c->at = 0;
	return true;
}

/* There is room. */
static void keep(struct conn *c, const uint8_t *bytes, size_t len)
{
	memmove(c->out, c->out + c->at, c->n);
	c->at = 0;
	memcpy(c->out + c->n, bytes, len);
	c->n += len;
}

/* What is to be done when some of it has gone. */
static void settle(struct mux *m, struct conn *c)
{
	if (c->state != OPEN)
		return;
	if (!flush(c)) {
		end(m, c);
		return;
	}
	if (!c->n && (c->ended & VSOCK_SENDS) && !c->shut) {
		shutdown(c->fd, SHUT_WR);
		c->shut = true;
	}
	if (c->shut && (c->eof || (c->ended & VSOCK_RECEIVES)))
		end(m, c);
	else if (c->taken - c->told >= VSOCK_ROOM / 2)
		tell(m, c, VSOCK_CREDIT_UPDATE, 0);
}

/* -- From the guest ---------------------------------------------------------------- */

/* To PATH_PORT. -1: nobody is there. */
static int connect_to(const struct mux *m, uint32_t port)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	int n = snprintf(at.sun_path, sizeof(at.sun_path), "%s_%u", m->path, port), fd;

	if (n < 0 || (size_t)n >= sizeof(at.sun_path))
		return -1;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd >= 0 && connect(fd, (const struct sockaddr *)&at, sizeof(at)) == 0)
		return fd;
	if (fd >= 0)
		close(fd);
	return -1;
}

static void refuse(struct mux *m, struct ports p)
{
	say(m, p, VSOCK_RST, 0, NULL, NULL, 0);
}

static void take_request(struct mux *m, struct ports p, const uint8_t *packet)
{
	int fd = connect_to(m, p.here);
	struct conn *c = fd < 0 ? NULL : add(m, fd, OPEN);

	if (!c) {
		refuse(m, p);
		return;
	}
	c->here = p.here;
	c->there = p.there;
	c->room = le32_get(packet + VSOCK_BUF_ALLOC);
	c->counted = le32_get(packet + VSOCK_FWD_CNT);
	tell(m, c, VSOCK_RESPONSE, 0);
}

static void take_response(struct mux *m, struct conn *c)
{
	char line[LINE];
	int n = snprintf(line, sizeof(line), "OK %u\n", c->here);

	/* Who has gone may have said something before. */
	if (c->state != ASKED || (send(c->fd, line, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT) != n && errno != EPIPE)) {
		end(m, c);
		return;
	}
	c->state = OPEN;
	c->left = false;
}

/* More than its credit, or after it has said that no more comes: a lie. */
static void take_bytes(struct mux *m, struct conn *c, const uint8_t *bytes, size_t len)
{
	if (c->state != OPEN || len > VSOCK_ROOM - c->n || (c->ended & VSOCK_SENDS)) {
		end(m, c);
		return;
	}
	keep(c, bytes, len);
	settle(m, c);
}

static void take_end(struct mux *m, struct conn *c, uint32_t flags)
{
	if (c->state != OPEN) {
		end(m, c);
		return;
	}
	c->ended |= flags & (VSOCK_SENDS | VSOCK_RECEIVES);
	settle(m, c);
}

/* Of a connection that is there. */
static void take(struct mux *m, struct conn *c, unsigned op, const uint8_t *packet, size_t len)
{
	c->room = le32_get(packet + VSOCK_BUF_ALLOC);
	c->counted = le32_get(packet + VSOCK_FWD_CNT);
	switch (op) {
	case VSOCK_RESPONSE:
		take_response(m, c);
		break;
	case VSOCK_RST:
		forget(c);
		break;
	case VSOCK_SHUTDOWN:
		take_end(m, c, le32_get(packet + VSOCK_FLAGS));
		break;
	case VSOCK_RW:
		take_bytes(m, c, packet + VSOCK_HEADER, len);
		break;
	case VSOCK_CREDIT_UPDATE:
		break;
	case VSOCK_CREDIT_REQUEST:
		tell(m, c, VSOCK_CREDIT_UPDATE, 0);
		break;
	default: /* one that is there already is asked for once more, or it is nothing that we know */
		end(m, c);
	}
}

/* The device's word, by an op that is no driver's. A driver that says it ends its own connections. */
static void forget_all(struct mux *m)
{
	for (unsigned i = 0; i < MUX_CONNS; i++)
		if (m->conns[i].state == ASKED || m->conns[i].state == OPEN)
			forget(&m->conns[i]);
}

void mux_input(struct mux *m, const uint8_t *packet, size_t len)
{
	struct ports p;
	struct conn *c;
	unsigned op;

	if (len < VSOCK_HEADER || le64_get(packet + VSOCK_DST_CID) != VSOCK_HOST || le64_get(packet + VSOCK_SRC_CID) != m->cid)
		return;
	p = (struct ports){le32_get(packet + VSOCK_DST_PORT), le32_get(packet + VSOCK_SRC_PORT)};
	op = le16_get(packet + VSOCK_OP);
	if (op == VSOCK_NONE) {
		forget_all(m);
		return;
	}
	c = find(m, p.here, p.there);
	if (le16_get(packet + VSOCK_TYPE) != VSOCK_STREAM || le32_get(packet + VSOCK_LEN) != len - VSOCK_HEADER) {
		if (c)
			end(m, c);
		else if (op != VSOCK_RST)
			refuse(m, p);
	} else if (c) {
		take(m, c, op, packet, len - VSOCK_HEADER);
	} else if (op == VSOCK_REQUEST) {
		take_request(m, p, packet);
	} else if (op != VSOCK_RST) {
		refuse(m, p);
	}
}

/* Whether there may be more. */
static bool take_packets(struct mux *m)
{
	const struct net_port_type *type = m->lodge->type;
	const uint8_t *packet;
	size_t len;

	for (unsigned left = BURST; left; left--) {
		packet = type->peek(m->lodge, &len);
		if (!packet)
			return false;
		mux_input(m, packet, len);
		type->drop(m->lodge);
	}
	return true;
}

/* -- From here --------------------------------------------------------------------- */

/* One that no connection to the guest has. */
static uint32_t new_port(struct mux *m, uint32_t there)
{
	do {
		m->next_port = m->next_port < UINT32_MAX - 1 ? m->next_port + 1 : PORT_FIRST;
	} while (find(m, m->next_port, there));
	return m->next_port;
}

/* "CONNECT PORT", and no more. */
static bool read_port(const char *line, uint32_t *port)
{
	char *rest;
	unsigned long n;

	if (strncmp(line, "CONNECT ", 8) != 0 || line[8] < '0' || line[8] > '9')
		return false;
	n = strtoul(line + 8, &rest, 10);
	*port = (uint32_t)n;
	return *rest == '\n' && n < UINT32_MAX;
}

/* Byte by byte, for what is behind the line is the connection's. It is kept in `out` meanwhile. */
static void greet(struct mux *m, struct conn *c)
{
	uint32_t port;

	do {
		ssize_t n = recv(c->fd, c->out + c->n, 1, MSG_DONTWAIT);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n <= 0 || ++c->n == LINE) {
			drop(c);
			return;
		}
	} while (c->out[c->n - 1] != '\n');
	c->out[c->n] = 0;
	c->n = 0;
	if (!read_port((const char *)c->out, &port)) {
		drop(c);
		return;
	}
	c->there = port;
	c->here = new_port(m, port);
	c->state = ASKED;
	tell(m, c, VSOCK_REQUEST, 0);
}

/* Where there is no place, or no descriptor, others wait until one is free. */
static void accept_one(struct mux *m)
{
	int fd = accept4(m->listening, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	m->deaf = fd < 0 && errno != EAGAIN && errno != EINTR;
	if (fd >= 0)
		add(m, fd, GREETING);
}

static bool has_place(const struct mux *m)
{
	for (unsigned i = 0; i < MUX_CONNS; i++)
		if (m->conns[i].state == FREE)
			return true;
	return false;
}

/* How many bytes the guest has room for. What it says of that may be nonsense. */
static size_t credit(const struct conn *c)
{
	uint32_t under_way = c->sent - c->counted;

	return under_way < c->room ? c->room - under_way : 0;
}

static bool wants_bytes(const struct conn *c)
{
	return c->state == OPEN && !c->eof && !(c->ended & VSOCK_RECEIVES) && credit(c);
}

static void pass_on(struct mux *m, struct conn *c)
{
	uint8_t bytes[PART];
	size_t most = credit(c) < PART ? credit(c) : PART;
	ssize_t n = recv(c->fd, bytes, most, MSG_DONTWAIT);

	if (n > 0) {
		say(m, (struct ports){c->here, c->there}, VSOCK_RW, 0, c, bytes, (size_t)n);
		c->told = c->taken;
		c->sent += (uint32_t)n;
	} else if (n == 0) {
		c->eof = true;
		tell(m, c, VSOCK_SHUTDOWN, VSOCK_SENDS);
		settle(m, c);
	} else if (errno != EAGAIN && errno != EINTR) {
		end(m, c);
	}
}

/* -- Running ----------------------------------------------------------------------- */

/* One that has asked, and whose program has gone. What it has said is still to be told, if it has said something. */
static void look_after(struct mux *m, struct conn *c)
{
	uint8_t byte;

	if (recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0)
		c->left = true;
	else
		end(m, c);
}

/* What to wait for; -1: nothing, not even its end, of which poll() would tell for ever. */
static struct pollfd poll_of(const struct conn *c)
{
	bool in = c->state == GREETING || wants_bytes(c), out = (c->state == OPEN || c->state == LAST) && c->n;
	bool end_alone = (c->state == ASKED && !c->left) || (c->state == OPEN && c->eof);
	struct pollfd p = {.fd = c->fd, .events = (short)((in ? POLLIN : 0) | (out ? POLLOUT : 0))};

	if (!p.events && !end_alone)
		p.fd = -1;
	return p;
}

/* While lodge is behind nothing is read for the guest. */
static void fill(struct mux *m)
{
	bool behind = net_stream_behind(m->lodge) > 0;

	m->lodge->type->wants(m->lodge, net_stream_behind(m->lodge) < ENOUGH, false, &m->polls[0]);
	m->polls[1] = (struct pollfd){behind || m->deaf || !has_place(m) ? -1 : m->listening, POLLIN, 0};
	for (unsigned i = 0; i < MUX_CONNS; i++)
		m->polls[2 + i] = behind ? (struct pollfd){.fd = -1} : poll_of(&m->conns[i]);
}

static void serve(struct mux *m, struct conn *c, short revents)
{
	bool is_gone = revents & (POLLHUP | POLLERR);

	switch (c->state) {
	case GREETING:
		greet(m, c);
		break;
	case ASKED:
		look_after(m, c);
		break;
	case OPEN:
		if (is_gone && c->eof)
			end(m, c);
		else if (is_gone || revents & POLLOUT)
			settle(m, c);
		if (wants_bytes(c) && (is_gone || revents & POLLIN))
			pass_on(m, c);
		break;
	case LAST:
		if (!flush(c) || !c->n)
			drop(c);
		break;
	default:
		break;
	}
}

void mux_turn(struct mux *m, int ms)
{
	fill(m);
	if (poll(m->polls, 2 + MUX_CONNS, ms) < 0)
		return;
	m->lodge->type->serve(m->lodge, m->polls[0].revents);
	if (m->polls[1].revents)
		accept_one(m);
	for (unsigned i = 0; i < MUX_CONNS; i++) {
		if (!m->polls[2 + i].revents || m->conns[i].fd != m->polls[2 + i].fd || net_stream_behind(m->lodge))
			continue;
		m->deaf = false; /* a descriptor may be free now */
		serve(m, &m->conns[i], m->polls[2 + i].revents);
	}
}

void mux_run(struct mux *m)
{
	bool more = false;

	while (m->lodge->up) {
		mux_turn(m, more ? 0 : -1);
		more = net_stream_behind(m->lodge) < ENOUGH && take_packets(m);
	}
}

struct mux *mux_create(struct net_port *lodge, uint32_t cid, const char *path, int listening)
{
	struct mux *m = calloc(1, sizeof(*m));

	if (!m)
		return NULL;
	*m = (struct mux){.lodge = lodge, .cid = cid, .path = path, .listening = listening, .next_port = PORT_FIRST};
	for (unsigned i = 0; i < MUX_CONNS; i++)
		m->conns[i].fd = -1;
	return m;
}

void mux_destroy(struct mux *m)
{
	for (unsigned i = 0; i < MUX_CONNS; i++)
		drop(&m->conns[i]);
	free(m);
}

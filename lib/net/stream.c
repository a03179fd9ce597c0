/* SPDX-License-Identifier: MIT */
/*
 * See port.h. Both directions have a buffer.
 *
 *	in    what was read and not yet dropped: whole frames, and the beginning of one
 *	out   what the socket has not taken: the rest of a frame, and frames behind it while there is room
 *
 * A frame goes to the socket from where it is, without a copy, while nothing waits in `out`. One read() brings as many frames as
 * there are. When it has brought less than was asked for the socket is empty, and it is not asked again before poll() says so.
 *
 * The peer is as hostile as a guest: it may be another user's, or a NAT that a guest has taken. A length is compared with
 * NET_FRAME_MIN and NET_FRAME_MAX before anything is waited for.
 */
#include "net/port.h"

#include "base/bytes.h"
#include "base/err.h"
#include "base/macros.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define HEAD      4u
#define IN_SIZE   (256u << 10)
#define SOCK_ROOM (1 << 20) /* as far as the host lets us */
#define PIECES    258       /* of a frame; a chain of virtio has 256 */

struct stream {
	struct net_port port;
	int fd, listening; /* -1: none */
	bool empty;        /* the socket had no more than was read */
	bool lost;         /* it takes no more; the loop's thread closes it, for others may not */
	size_t in_at, in_n;
	size_t out_at, out_n, out_size;
	uint8_t *out;
	uint8_t in[IN_SIZE];
};

static struct stream *of(struct net_port *p)
{
	return container_of(p, struct stream, port);
}

/* -- Peers ------------------------------------------------------------------------- */

static void use(struct stream *s, int fd)
{
	s->fd = fd;
	s->empty = s->lost = false;
	s->in_at = s->in_n = s->out_at = s->out_n = 0;
	s->port.up = true;
}

static void hang_up(struct stream *s)
{
	if (s->fd >= 0)
		close(s->fd);
	s->fd = -1;
	s->in_n = s->out_n = 0;
	s->port.up = false;
}

static void take_peer(struct stream *s)
{
	int fd = accept4(s->listening, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd >= 0)
		use(s, fd);
}

/* -- From the peer ----------------------------------------------------------------- */

/* How long the next frame is, if it is there as a whole; 0: not yet, or the peer has said nonsense. */
static size_t whole(struct stream *s)
{
	uint32_t len;

	if (s->in_n < HEAD)
		return 0;
	len = be32_get(s->in + s->in_at);
	if (len < NET_FRAME_MIN || len > NET_FRAME_MAX) {
		hang_up(s);
		return 0;
	}
	return s->in_n - HEAD >= len ? len : 0;
}

static void fill(struct stream *s)
{
	size_t room;
	ssize_t n;

	if (s->in_at) {
		memmove(s->in, s->in + s->in_at, s->in_n);
		s->in_at = 0;
	}
	room = IN_SIZE - s->in_n;
	n = read(s->fd, s->in + s->in_n, room);
	if (n > 0)
		s->in_n += (size_t)n;
	else if (n == 0 || (errno != EAGAIN && errno != EINTR))
		hang_up(s);
	s->empty = n < (ssize_t)room;
}

static const uint8_t *peek(struct net_port *p, size_t *len)
{
	struct stream *s = of(p);

	*len = whole(s);
	if (!*len && s->fd >= 0 && !s->empty) {
		fill(s);
		*len = whole(s);
	}
	return *len ? s->in + s->in_at + HEAD : NULL;
}

static void drop(struct net_port *p)
{
	struct stream *s = of(p);
	size_t len = HEAD + be32_get(s->in + s->in_at);

	s->in_at += len;
	s->in_n -= len;
}

/* -- To it ------------------------------------------------------------------------- */

static bool would_wait(struct stream *s)
{
	if (errno == EAGAIN || errno == EINTR)
		return true;
	s->lost = true;
	s->port.up = false;
	s->out_n = 0;
	return false;
}

/* What is kept, as far as the socket takes it. */
static void flush(struct stream *s)
{
	ssize_t n;

	while (s->out_n) {
		n = write(s->fd, s->out + s->out_at, s->out_n);
		if (n < 0) {
			would_wait(s);
			return;
		}
		s->out_at += (size_t)n;
		s->out_n -= (size_t)n;
	}
	s->out_at = 0;
}

/* All of it but the first `done` bytes. There is room. */
static void keep(struct stream *s, const struct iovec *iov, unsigned n, size_t done)
{
	for (unsigned i = 0; i < n; i++) {
		size_t skip = done < iov[i].iov_len ? done : iov[i].iov_len;

		memcpy(s->out + s->out_at + s->out_n, (const uint8_t *)iov[i].iov_base + skip, iov[i].iov_len - skip);
		s->out_n += iov[i].iov_len - skip;
		done -= skip;
	}
}

static bool has_room(struct stream *s, size_t len)
{
	if (s->out_at && s->out_at + s->out_n + len > s->out_size) {
		memmove(s->out, s->out + s->out_at, s->out_n);
		s->out_at = 0;
	}
	return s->out_n + len <= s->out_size;
}

static bool send_frame(struct net_port *p, const struct iovec *iov, unsigned n)
{
	struct stream *s = of(p);
	struct iovec all[PIECES];
	uint8_t head[HEAD];
	size_t len = 0;
	ssize_t done = 0;

	for (unsigned i = 0; i < n; i++)
		len += iov[i].iov_len;
	if (s->fd < 0 || s->lost || n >= PIECES || len < NET_FRAME_MIN || len > NET_FRAME_MAX)
		return true;
	if (s->out_n && !has_room(s, HEAD + len))
		return false;
	be32_put(head, (uint32_t)len);
	all[0] = (struct iovec){head, HEAD};
	memcpy(all + 1, iov, n * sizeof(*iov));
	if (!s->out_n) {
		done = writev(s->fd, all, (int)n + 1);
		if (done < 0 && (!would_wait(s) || s->out_size == HEAD + NET_FRAME_MAX))
			return s->lost;
		if (done < 0)
			done = 0; /* all of it is kept */
	}
	if ((size_t)done < HEAD + len)
		keep(s, all, n + 1, (size_t)done);
	return true;
}

/* -- Life -------------------------------------------------------------------------- */

static void wants(const struct net_port *p, bool frames, bool room, struct pollfd *poll)
{
	const struct stream *s = container_of(p, struct stream, port);

	*poll = (struct pollfd){s->fd, (short)((frames ? POLLIN : 0) | (room || s->out_n ? POLLOUT : 0)), 0};
	if (s->fd < 0)
		*poll = (struct pollfd){s->listening, POLLIN, 0};
}

static void serve(struct net_port *p, short revents)
{
	struct stream *s = of(p);

	if (s->fd < 0) {
		if (revents && s->listening >= 0)
			take_peer(s);
		return;
	}
	if (revents & (POLLIN | POLLHUP | POLLERR))
		s->empty = false;
	if (revents & POLLOUT)
		flush(s);
	if (s->lost || (revents & (POLLHUP | POLLERR) && !(revents & POLLIN)))
		hang_up(s); /* and nothing is left to be read, or wanted */
}

static void close_stream(struct net_port *p)
{
	struct stream *s = of(p);

	hang_up(s);
	if (s->listening >= 0)
		close(s->listening);
	free(s->out);
	free(s);
}

size_t net_stream_behind(const struct net_port *p)
{
	return container_of(p, struct stream, port)->out_n;
}

static const struct net_port_type type = {
	.send = send_frame, .peek = peek, .drop = drop, .wants = wants, .serve = serve, .close = close_stream,
};

int net_stream(struct net_port **p, const struct net_stream_config *config, struct err *err)
{
	struct stream *s = calloc(1, sizeof(*s));
	int room = SOCK_ROOM;

	*p = NULL;
	if (s)
		s->out_size = config->room > HEAD + NET_FRAME_MAX ? config->room : HEAD + NET_FRAME_MAX;
	if (!s || !(s->out = malloc(s->out_size))) {
		free(s);
		close(config->fd);
		return err_set(err, ENOMEM, "no memory");
	}
	s->port = (struct net_port){.type = &type, .mtu = config->mtu, .checked = config->checked};
	s->fd = s->listening = -1;
	fcntl(config->fd, F_SETFL, O_NONBLOCK);
	setsockopt(config->fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	if (config->listens)
		s->listening = config->fd;
	else
		use(s, config->fd);
	*p = &s->port;
	return 0;
}

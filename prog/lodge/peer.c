/* SPDX-License-Identifier: MIT */
/*
 * See peer.h. A request that is there is answered when the socket has room for what an answer has at most (poll() says POLLOUT), and until
 * then nothing more is read; so who asks a thousand times and does not listen waits for himself. Events, which nobody asks for, wait in memory,
 * in front of what comes next; a peer for which there are too many has long stopped listening.
 *
 * The kernel tells of a descriptor only with the bytes that were read at once; so it is kept until a request asks for it.
 */
#include "peer.h"

#include "base/err.h"
#include "qmp/request.h"
#include "qmp/serve.h"
#include "qmp/text.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

void peer_init(struct peer *p, char *bytes, char *late)
{
	*p = (struct peer){.fd = -1, .bytes = bytes, .late = late};
	qmp_files_init(&p->files);
}

void peer_open(struct peer *p, int fd)
{
	p->fd = fd;
}

void peer_close(struct peer *p)
{
	if (p->fd >= 0)
		close(p->fd);
	qmp_files_close(&p->files);
	peer_init(p, p->bytes, p->late);
}

short peer_events(const struct peer *p)
{
	return p->whole || p->n_late ? POLLOUT : POLLIN; /* who has to read first is not read from */
}

/* -- Out ------------------------------------------------------------------------------------- */

bool peer_answer(struct peer *p, const char *text, size_t len, const int *files, unsigned n_files)
{
	char room[CMSG_SPACE(CALL_GIVE * sizeof(int))] __attribute__((aligned(8))) = {0};
	size_t size = n_files * sizeof(int);
	struct iovec iov = {(char *)text, len};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	struct cmsghdr *m;

	if (n_files) {
		msg.msg_control = room;
		msg.msg_controllen = CMSG_SPACE(size);
		m = CMSG_FIRSTHDR(&msg);
		m->cmsg_level = SOL_SOCKET;
		m->cmsg_type = SCM_RIGHTS;
		m->cmsg_len = CMSG_LEN(size);
		memcpy(CMSG_DATA(m), files, size);
	}
	return sendmsg(p->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)len;
}

/* The kernel takes all of so few bytes, or none. */
void peer_say(struct peer *p, const char *text, size_t len)
{
	if (!p->n_late && peer_answer(p, text, len, NULL, 0))
		return;
	if (len > PEER_LATE - p->n_late) {
		p->lost = true;
		return;
	}
	memcpy(p->late + p->n_late, text, len);
	p->n_late += len;
}

void peer_send_late(struct peer *p)
{
	ssize_t n = send(p->fd, p->late, p->n_late, MSG_NOSIGNAL | MSG_DONTWAIT);

	if (n < 0 && errno != EAGAIN && errno != EINTR)
		p->lost = true;
	if (n <= 0)
		return;
	p->n_late -= (size_t)n;
	memmove(p->late, p->late + n, p->n_late);
}

/* -- In --------------------------------------------------------------------------------------- */

static void refuse_long(struct peer *p)
{
	struct qmp_text t;
	struct err err;

	err_set(&err, ERANGE, "a request has at most %d bytes", PEER_BYTES - 1);
	if (qmp_text_error(&t, NULL, QMP_GENERIC, &err))
		peer_answer(p, t.bytes, t.n, NULL, 0);
	free(t.bytes);
	p->lost = true;
}

static void forget(struct peer *p, size_t n)
{
	p->begin += n;
	p->len -= n;
}

/* Finds the first request. */
static void look(struct peer *p)
{
	enum qmp_piece piece;
	size_t n;

	while ((piece = qmp_split(&p->split, p->bytes + p->begin, p->len, &n)) == QMP_BLANK)
		forget(p, n);
	p->whole = piece == QMP_REQUEST ? n : 0;
	if (!p->whole && p->len == PEER_BYTES)
		refuse_long(p);
}

void peer_next(struct peer *p)
{
	forget(p, p->whole);
	look(p);
}

/* There is room for one: the kernel closes what is more. */
static void take_file(struct peer *p, struct msghdr *msg)
{
	struct cmsghdr *m = CMSG_FIRSTHDR(msg);
	int fd;

	if (!m || m->cmsg_level != SOL_SOCKET || m->cmsg_type != SCM_RIGHTS ||
	    m->cmsg_len != CMSG_LEN(sizeof(int)))
		return;
	memcpy(&fd, CMSG_DATA(m), sizeof(int));
	qmp_files_came(&p->files, fd);
}

bool peer_read(struct peer *p)
{
	char room[CMSG_SPACE(sizeof(int))] __attribute__((aligned(8)));
	struct iovec iov = {p->bytes + p->len, PEER_BYTES - p->len};
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = room,
		.msg_controllen = CMSG_LEN(sizeof(int)),
	};
	ssize_t n;

	memmove(p->bytes, p->bytes + p->begin, p->len);
	p->begin = 0;
	n = recvmsg(p->fd, &msg, MSG_CMSG_CLOEXEC);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return true;
	if (n <= 0)
		return false;
	take_file(p, &msg);
	p->len += (size_t)n;
	look(p);
	return true;
}

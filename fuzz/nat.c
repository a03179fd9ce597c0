/* SPDX-License-Identifier: MIT */
/*
 * What a guest sends to lodge-nat: any bytes as the stream between lodge and it (lib/net/stream.c), and any frames to libslirp, as
 * prog/lodge/nat/router.c gives them to it. It reaches nothing outside here.
 *
 *	[kind: 1]   even: the rest is what comes on the socket, in two writes
 *	            odd: frames, each [length: 2, modulo what is left] [bytes]; of IPv4 its header's checksum is made right
 *
 * What must hold: frames are no longer and no shorter than frames may be, and none begins before or ends behind what was sent.
 */
#include "base/bytes.h"
#include "net/checksum.h"
#include "net/port.h"
#include "prog/lodge/nat/nat.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool fine)
{
	if (!fine)
		abort();
}

/* -- The stream -------------------------------------------------------------------- */

static void use_stream(const uint8_t *data, size_t size)
{
	struct net_port *p;
	const uint8_t *frame;
	size_t len, all = 0;
	int ends[2];

	must(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
	must(net_stream(&p, &(struct net_stream_config){.fd = ends[0], .mtu = 1500}, NULL) == 0);
	for (unsigned half = 0; half < 2; half++) {
		size_t n = half ? size - size / 2 : size / 2;

		must(write(ends[1], data + (half ? size / 2 : 0), n) == (ssize_t)n);
		p->type->serve(p, POLLIN);
		while ((frame = p->type->peek(p, &len))) {
			must(len >= NET_FRAME_MIN && len <= NET_FRAME_MAX);
			must(all + 4 + len <= size && memcmp(frame, data + all + 4, len) == 0);
			all += 4 + len;
			p->type->drop(p);
		}
		if (!p->up)
			break; /* it has said nonsense */
	}
	close(ends[1]);
	p->type->close(p);
}

/* -- Frames ------------------------------------------------------------------------ */

static bool take(struct net_port *p, const struct iovec *iov, unsigned n)
{
	(void)p;
	must(n == 1 && iov->iov_len >= NET_FRAME_MIN && iov->iov_len <= NET_FRAME_MAX);
	return true;
}

static void make_right(uint8_t *frame, size_t len)
{
	size_t header = len > 14 ? (frame[14] & 15u) * 4u : 0;

	if (len < 34 || frame[12] != 8 || frame[13] || header < 20 || 14 + header > len)
		return;
	frame[24] = frame[25] = 0;
	net_fold(net_sum(&(struct iovec){frame + 14, header}, 1, 0), frame + 24);
}

static void use_frames(const uint8_t *data, size_t size)
{
	static const struct net_port_type type = {.send = take};
	struct net_port lodge = {.type = &type, .up = true};
	/* A directory that is not there: what is asked of TFTP is read, and nothing is found. */
	struct router *r = router_create(&(struct router_config){
		.lodge = &lodge, .restricted = true, .tftp = "/nowhere", .bootfile = "boot"});

	while (size >= 2) {
		size_t len = le16_get(data) % (size - 1);
		uint8_t *frame = malloc(len + !len);

		must(frame);
		memcpy(frame, data + 2, len);
		make_right(frame, len);
		router_input(r, frame, len);
		free(frame);
		data += 2 + len;
		size -= 2 + len;
	}
	router_destroy(r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!size)
		return 0;
	if (data[0] % 2)
		use_frames(data + 1, size - 1);
	else
		use_stream(data + 1, size - 1);
	return 0;
}

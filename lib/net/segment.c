/* SPDX-License-Identifier: MIT */
/*
 * See segment.h. A piece is the frame's headers, with what differs written anew, and a part of its payload: sequence number,
 * flags (FIN and PSH are the last one's), lengths, the identification of IPv4, checksums.
 *
 * SAFE: headers are used after parse() has found all of them in the frame; a piece has 64 bytes of payload or more, so
 * there are no more of them than a thousand.
 */
#include "net/segment.h"

#include "base/bytes.h"
#include "net/checksum.h"

#include <stdbool.h>
#include <string.h>

#define IP 14u /* where it begins */
#define TCP_PROTOCOL 6
#define FIN 0x01
#define SYN 0x02
#define PSH 0x08
#define HEADERS_MAX (IP + 60 + 60)
#define MSS_LEAST 64u
#define MSS_UNSAID 536u

struct parts {
	bool v6;
	size_t tcp, payload, end; /* where they begin, and where that ends */
};

static bool parse_ip(struct parts *p, const uint8_t *frame, size_t len)
{
	const uint8_t *ip = frame + IP;

	p->v6 = frame[12] == 0x86 && frame[13] == 0xdd;
	if (p->v6) {
		p->tcp = IP + 40;
		if (len < p->tcp || ip[6] != TCP_PROTOCOL)
			return false;
		p->end = p->tcp + be16_get(ip + 4);
		return true;
	}
	if (frame[12] != 8 || frame[13] != 0 || (ip[0] & 15) < 5 || ip[9] != TCP_PROTOCOL || be16_get(ip + 6) & 0x3fff)
		return false;
	p->tcp = IP + 4u * (ip[0] & 15);
	p->end = IP + (size_t)be16_get(ip + 2);
	return true;
}

/* Of TCP without extension headers and fragments; false: something else. */
static bool parse(struct parts *p, const uint8_t *frame, size_t len)
{
	if (len < IP + 20 || !parse_ip(p, frame, len) || p->end > len || p->end < p->tcp + 20)
		return false;
	p->payload = p->tcp + 4u * (frame[p->tcp + 12] >> 4);
	return p->payload >= p->tcp + 20 && p->payload <= p->end;
}

static unsigned mss_option(const uint8_t *at, const uint8_t *end)
{
	while (at < end && *at != 0) {
		if (*at == 1) {
			at++;
			continue;
		}
		if (end - at < 2 || at[1] < 2 || end - at < at[1])
			break;
		if (at[0] == 2 && at[1] == 4)
			return be16_get(at + 2);
		at += at[1];
	}
	return MSS_UNSAID;
}

void segment_learn(struct segmenter *s, const uint8_t *frame, size_t len)
{
	struct parts p;
	unsigned mss;

	if (!parse(&p, frame, len) || !(frame[p.tcp + 13] & SYN))
		return;
	mss = mss_option(frame + p.tcp + 20, frame + p.payload);
	s->mss[be16_get(frame + p.tcp)] = (uint16_t)(mss < MSS_LEAST ? MSS_LEAST : mss);
}

/* The headers of a piece: `head` has those of the whole, up to the payload. */
static void adjust(const struct parts *p, uint8_t *head, size_t from, const uint8_t *payload, size_t n, bool last, unsigned number)
{
	size_t tcp_len = p->payload - p->tcp + n;
	uint8_t *ip = head + IP, *tcp = head + p->tcp;
	uint8_t pseudo[4] = {0, TCP_PROTOCOL, (uint8_t)(tcp_len >> 8), (uint8_t)tcp_len};
	const struct iovec sum[] = {{ip + (p->v6 ? 8 : 12), p->v6 ? 32 : 8}, {pseudo, 4}, {tcp, p->payload - p->tcp},
				    {(void *)(uintptr_t)payload, n}};

	if (p->v6) {
		be16_put(ip + 4, (uint16_t)tcp_len);
	} else {
		be16_put(ip + 2, (uint16_t)(p->tcp - IP + tcp_len));
		be16_put(ip + 4, (uint16_t)(be16_get(ip + 4) + number));
		be16_put(ip + 10, 0);
		net_fold(net_sum(&(struct iovec){ip, p->tcp - IP}, 1, 0), ip + 10);
	}
	be32_put(tcp + 4, be32_get(tcp + 4) + (uint32_t)from);
	if (!last)
		tcp[13] &= (uint8_t)~(FIN | PSH);
	be16_put(tcp + 16, 0);
	net_fold(net_sum(sum, 4, 0), tcp + 16);
}

void segment_send(const struct segmenter *s, const uint8_t *frame, size_t len,
		  void (*send)(void *ctx, const struct iovec *iov, unsigned n), void *ctx)
{
	struct parts p;
	uint8_t head[HEADERS_MAX];
	size_t mss = 0, all;

	if (parse(&p, frame, len))
		mss = s->mss[be16_get(frame + p.tcp + 2)];
	if (!mss || p.end - p.payload <= mss) {
		send(ctx, &(struct iovec){(void *)(uintptr_t)frame, len}, 1);
		return;
	}
	all = p.end - p.payload;
	for (size_t from = 0; from < all; from += mss) {
		size_t n = all - from < mss ? all - from : mss;
		const uint8_t *payload = frame + p.payload + from;
		const struct iovec iov[] = {{head, p.payload}, {(void *)(uintptr_t)payload, n}};

		memcpy(head, frame, p.payload);
		adjust(&p, head, from, payload, n, from + n == all, (unsigned)(from / mss));
		send(ctx, iov, 2);
	}
}

/* SPDX-License-Identifier: MIT */
/* What the headers of lib/net promise: checksums, addresses, frames over a socket that says nonsense or takes nothing, captures. */
#include "base/bytes.h"
#include "base/err.h"
#include "loop/loop.h"
#include "net/checksum.h"
#include "net/flow.h"
#include "net/link.h"
#include "net/mac.h"
#include "net/port.h"
#include "net/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/tap.h"

/* -- Checksums --------------------------------------------------------------------- */

/* As RFC 1071 says it. */
static unsigned sum_plainly(const uint8_t *at, size_t len)
{
	unsigned long sum = 0;

	for (size_t i = 0; i < len; i++)
		sum += i % 2 ? at[i] : (unsigned)at[i] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	sum = ~sum & 0xffff;
	return sum ? (unsigned)sum : 0xffff;
}

static void test_checksum(void)
{
	static uint8_t bytes[70000];
	unsigned wrong = 0, x = 1;

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)((x = x * 1103515245 + 12345) >> 16);
	for (unsigned i = 0; i < 2000; i++) {
		size_t skip = (x = x * 1103515245 + 12345) >> 16 & 63, len = skip + (i % 10 ? i : i * 34), at = i % 7, cut[3];
		struct iovec iov[4];
		uint8_t to[2];

		for (unsigned k = 0; k < 3; k++)
			cut[k] = len ? ((x = x * 1103515245 + 12345) >> 8) % (len + 1) : 0;
		for (unsigned k = 0; k < 3; k++)
			for (unsigned j = 0; j < 2; j++)
				if (cut[j] > cut[j + 1]) {
					size_t t = cut[j];

					cut[j] = cut[j + 1];
					cut[j + 1] = t;
				}
		iov[0] = (struct iovec){bytes + at, cut[0]};
		iov[1] = (struct iovec){bytes + at + cut[0], cut[1] - cut[0]};
		iov[2] = (struct iovec){bytes + at + cut[1], cut[2] - cut[1]};
		iov[3] = (struct iovec){bytes + at + cut[2], len - cut[2]};
		net_fold(net_sum(iov, 4, skip), to);
		wrong += (unsigned)(to[0] << 8 | to[1]) != sum_plainly(bytes + at + skip, len - skip);
	}
	is_int(wrong, 0, "2000 sums over pieces of any length are those of the whole");
	memset(bytes, 0xff, sizeof(bytes));
	net_fold(net_sum(&(struct iovec){bytes, 65535}, 1, 0), bytes);
	is_int(bytes[0] << 8 | bytes[1], sum_plainly(bytes + 2, 65535), "all ones, odd, 65535 bytes");
}

/* -- Addresses --------------------------------------------------------------------- */

static void test_mac(void)
{
	static const char *const bad[] = {"", "52:54:00:12:34", "52:54:00:12:34:56:78", "52:54:00:12:34:5", "5g:54:00:12:34:56",
					  "52-54-00-12-34-56", " 52:54:00:12:34:5", "52:54:00:12:34:56 "};
	uint8_t mac[MAC_LEN];
	char text[MAC_TEXT];
	struct err err = {0};

	is_int(mac_parse(mac, "52:54:00:aB:34:56", &err), 0, "an address");
	is_str(mac_text(text, mac), "52:54:00:ab:34:56", "is printed as it is");
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		err.text[0] = 0;
		ok(mac_parse(mac, bad[i], &err) == -EINVAL && strstr(err.text, "is no address"), "'%s' is none", bad[i]);
	}
	ok(mac_parse(mac, "01:00:5e:00:00:01", &err) == -EINVAL && strstr(err.text, "of a group"), "a group's is none");
	mac_make(mac, 0x1122334455667788);
	is_str(mac_text(text, mac), "52:54:00:66:77:88", "one by a number");
}

/* -- Streams ----------------------------------------------------------------------- */

static struct net_port *make(int *other, size_t room)
{
	struct net_port *p;
	int ends[2], small = 1;

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) < 0 ||
	    net_stream(&p, &(struct net_stream_config){.fd = ends[0], .mtu = 1500, .room = room}, NULL) < 0)
		abort();
	setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	fcntl(ends[1], F_SETFL, O_NONBLOCK);
	*other = ends[1];
	return p;
}

static bool put(struct net_port *p, const void *bytes, size_t len)
{
	struct iovec iov[2] = {{(void *)(uintptr_t)bytes, len / 3}, {(uint8_t *)(uintptr_t)bytes + len / 3, len - len / 3}};

	return p->type->send(p, iov, 2);
}

static void say(int fd, uint32_t len, size_t n)
{
	static uint8_t bytes[NET_FRAME_MAX];
	uint8_t head[4] = {(uint8_t)(len >> 24), (uint8_t)(len >> 16), (uint8_t)(len >> 8), (uint8_t)len};

	if (write(fd, head, 4) != 4 || write(fd, bytes, n) < 0)
		abort();
}

static void test_stream(void)
{
	static uint8_t frame[NET_FRAME_MAX], got[NET_FRAME_MAX + 4];
	struct net_port *p, *q;
	const uint8_t *f;
	size_t len, sent = 0, come = 0;
	int other;

	for (size_t i = 0; i < sizeof(frame); i++)
		frame[i] = (uint8_t)(i * 7);
	p = make(&other, 0);
	net_stream(&q, &(struct net_stream_config){.fd = other, .mtu = 1500}, NULL);
	ok(p->up && !p->type->peek(p, &len), "a connected one is up, and has no frame");
	for (unsigned i = 0; i < 20000; i++) { /* what comes out is what went in, in order, whoever waits */
		len = NET_FRAME_MIN + sent * 37 % (sent % 5 ? 1500 : NET_FRAME_MAX - NET_FRAME_MIN);
		frame[0] = (uint8_t)sent;
		sent += put(p, frame, len);
		if (i % 3)
			continue;
		p->type->serve(p, POLLOUT);
		q->type->serve(q, POLLIN);
		for (unsigned k = i % 7; k && (f = q->type->peek(q, &len)); k--) {
			frame[0] = (uint8_t)come;
			if (len != NET_FRAME_MIN + come * 37 % (come % 5 ? 1500 : NET_FRAME_MAX - NET_FRAME_MIN) ||
			    memcmp(f, frame, len))
				break;
			q->type->drop(q);
			come++;
		}
	}
	ok(come > 1000 && sent > come && sent < 20000, "%zu frames went in, %zu came out, others were turned away", sent, come);
	ok(!put(p, frame, 1000) || sent - come < 1000, "who does not read is not written for");
	q->type->close(q);
	put(p, frame, 100);
	p->type->serve(p, POLLHUP);
	ok(!p->up && put(p, frame, 100), "whose peer is gone takes frames, and they are lost");
	p->type->close(p);

	p = make(&other, 0);
	is_int(put(p, frame, NET_FRAME_MAX), true, "the longest frame, into a socket that takes less");
	for (len = 0; len < NET_FRAME_MAX + 4;) {
		ssize_t n = read(other, got + len, sizeof(got) - len);

		len += n > 0 ? (size_t)n : 0;
		p->type->serve(p, POLLOUT);
	}
	ok(!memcmp(got + 4, frame, NET_FRAME_MAX), "comes as a whole");
	ok(put(p, frame, NET_FRAME_MIN - 1) && put(p, frame, 0), "what is no frame is lost");
	is_int(read(other, got, sizeof(got)), -1, "and not sent");
	p->type->close(p);
	close(other);
}

static void test_nonsense(void)
{
	static const uint32_t lengths[] = {0, 1, NET_FRAME_MIN - 1, NET_FRAME_MAX + 1, 0x7fffffff, 0xffffffff};
	struct net_port *p;
	size_t len;
	int other;

	for (unsigned i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		p = make(&other, 0);
		say(other, 60, 60);
		say(other, lengths[i], 100);
		ok(p->type->peek(p, &len) && len == 60, "a frame");
		p->type->drop(p);
		ok(!p->type->peek(p, &len) && !p->up, "and one of %u bytes: its peer is not listened to any more", lengths[i]);
		p->type->close(p);
		close(other);
	}
	p = make(&other, 0);
	say(other, 1000, 999);
	ok(!p->type->peek(p, &len) && p->up, "a frame whose last byte has not come");
	if (write(other, "", 1) != 1)
		abort();
	ok(!p->type->peek(p, &len), "is not asked for before poll() says so");
	p->type->serve(p, POLLIN);
	ok(p->type->peek(p, &len) && len == 1000, "and is there when it has");
	close(other);
	p->type->serve(p, POLLIN | POLLHUP);
	ok(p->type->peek(p, &len) && len == 1000, "also when who has sent it is gone");
	p->type->drop(p);
	ok(!p->type->peek(p, &len) && !p->up, "which is seen then");
	p->type->close(p);
}

static void test_listening(void)
{
	char path[] = "/tmp/lodge-net-XXXXXX";
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	struct net_port *p;
	struct pollfd poll;
	size_t len;
	int fd = mkstemp(path), peer;

	close(fd);
	unlink(path);
	strcpy(at.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	ok(bind(fd, (struct sockaddr *)&at, sizeof(at)) == 0 && listen(fd, 1) == 0 &&
	   net_stream(&p, &(struct net_stream_config){.fd = fd, .listens = true, .mtu = 1500}, NULL) == 0, "one that listens");
	for (unsigned i = 0; i < 2; i++) {
		ok(!p->up && put(p, path, 20), "is down while nobody is there, and what is sent is lost");
		peer = socket(AF_UNIX, SOCK_STREAM, 0);
		ok(connect(peer, (struct sockaddr *)&at, sizeof(at)) == 0, "somebody comes");
		p->type->wants(p, false, false, &poll);
		is_int(poll.events, POLLIN, "it waits for him whatever else is wanted");
		p->type->serve(p, POLLIN);
		say(peer, 14, 14);
		ok(p->up && p->type->peek(p, &len) && len == 14, "and speaks to him");
		close(peer);
		p->type->drop(p);
		p->type->serve(p, POLLIN | POLLHUP);
		ok(!p->type->peek(p, &len) && !p->up, "he goes");
	}
	p->type->close(p);
	unlink(path);
}

/* -- Captures ---------------------------------------------------------------------- */

static void test_capture(void)
{
	char path[] = "/tmp/lodge-capture-XXXXXX";
	uint8_t file[200], frame[60];
	struct net_port *inner, *p;
	struct loop *loop;
	struct err err = {0};
	size_t len;
	int fd = mkstemp(path), other;

	memset(frame, 'f', sizeof(frame));
	loop_create(&loop, NULL);
	inner = make(&other, 0);
	ok(net_capture(&p, inner, "/nowhere/x", loop, &err) == -ENOENT && strstr(err.text, "'/nowhere/x'"), "no file: %s", err.text);
	is_int(net_capture(&p, inner, path, loop, NULL), 0, "a capture");
	put(p, frame, 60);
	say(other, 20, 20);
	ok(p->type->peek(p, &len) && p->type->peek(p, &len) && len == 20, "what comes may be looked at twice");
	p->type->drop(p);
	p->type->close(p);
	loop_destroy(loop);
	is_int(read(fd, file, sizeof(file)), 24 + 16 + 60 + 16 + 20, "a header, and what passed, each once");
	ok(le32_get(file) == 0xa1b23c4d && le32_get(file + 20) == 1, "as pcap has it");
	ok(le32_get(file + 24 + 8) == 60 && !memcmp(file + 40, frame, 60) && le32_get(file + 24 + 16 + 60 + 12) == 20,
	   "with lengths and bytes");
	close(fd);
	close(other);
	unlink(path);
}

/* -- Segments ---------------------------------------------------------------------- */

static struct segmenter heard;
static uint8_t pieces[64][2048];
static size_t piece_len[64];
static unsigned n_pieces;

static void keep(void *ctx, const struct iovec *iov, unsigned n)
{
	(void)ctx;
	if (n_pieces == 64)
		abort();
	piece_len[n_pieces] = 0;
	for (unsigned i = 0; i < n; i++) {
		memcpy(pieces[n_pieces] + piece_len[n_pieces], iov[i].iov_base, iov[i].iov_len);
		piece_len[n_pieces] += iov[i].iov_len;
	}
	n_pieces++;
}

/* TCP over IPv4 or IPv6, without checksums; returns where the payload begins. */
static size_t tcp_frame(uint8_t *f, bool v6, unsigned from, unsigned to, uint8_t flags, size_t options, size_t payload)
{
	size_t tcp = v6 ? 54 : 34, len = 20 + options + payload;

	memset(f, 0, tcp + len);
	be16_put(f + 12, v6 ? 0x86dd : 0x800);
	f[14] = v6 ? 0x60 : 0x45;
	be16_put(f + (v6 ? 18 : 16), (uint16_t)(v6 ? len : len + 20));
	f[v6 ? 20 : 23] = 6;
	for (unsigned i = 0; i < (v6 ? 32u : 8u); i++)
		f[(v6 ? 22 : 26) + i] = (uint8_t)(i * 7 + 1);
	be16_put(f + tcp, (uint16_t)from);
	be16_put(f + tcp + 2, (uint16_t)to);
	be32_put(f + tcp + 4, 0xfffffff0);
	f[tcp + 12] = (uint8_t)((20 + options) / 4 << 4);
	f[tcp + 13] = flags;
	return tcp + 20 + options;
}

/* Of the sum that RFC 9293 says, with the checksum in it: what is left is 0, which stands here as FFFF. */
static bool is_summed(const uint8_t *f, size_t len, bool v6)
{
	uint8_t all[2100];
	size_t tcp = v6 ? 54 : 34, addresses = v6 ? 32 : 8;

	memcpy(all, f + tcp - addresses, len - tcp + addresses);
	be32_put(all + len - tcp + addresses, 0); /* the pseudo-header's rest, behind an even number of bytes or an odd one's zero */
	len += len & 1;
	be16_put(all + len - tcp + addresses, 6);
	be16_put(all + len - tcp + addresses + 2, (uint16_t)(be16_get(f + (v6 ? 18 : 16)) - (v6 ? 0 : 20)));
	return sum_plainly(all, len - tcp + addresses + 4) == 0xffff && (v6 || sum_plainly(f + 14, 20) == 0xffff);
}

static void test_segments(bool v6)
{
	static uint8_t f[9000];
	const char *ip = v6 ? "IPv6" : "IPv4";
	size_t at = tcp_frame(f, v6, 1024, 80, 2, 8, 0), tcp = v6 ? 54 : 34;
	unsigned wrong = 0;

	memset(&heard, 0, sizeof(heard));
	memcpy(f + at - 8, "\1\1\1\1\2\4\3\xe8", 8);
	segment_learn(&heard, f, at);
	is_int(heard.mss[1024], 1000, "%s: the option of a SYN", ip);
	at = tcp_frame(f, v6, 80, 1024, 0x19, 4, 4321);
	for (size_t i = 0; i < 4321; i++)
		f[at + i] = (uint8_t)(i * 13 >> 2);
	n_pieces = 0;
	segment_send(&heard, f, at + 4321, keep, NULL);
	is_int(n_pieces, 5, "%s: a segment of 4321 bytes for who takes 1000", ip);
	for (unsigned i = 0; i < n_pieces; i++) {
		const uint8_t *p = pieces[i];
		size_t n = i < 4 ? 1000 : 321;

		wrong += piece_len[i] != at + n || memcmp(p + at, f + at + 1000 * i, n) != 0 || !is_summed(p, piece_len[i], v6) ||
			 be32_get(p + tcp + 4) != 0xfffffff0 + 1000 * i || p[tcp + 13] != (i < 4 ? 0x10 : 0x19);
	}
	is_int(wrong, 0, "%s: bytes, numbers, flags and checksums of all of them", ip);
	n_pieces = 0;
	be16_put(f + tcp + 2, 1025);
	segment_send(&heard, f, 1500, keep, NULL); /* cut short: no TCP */
	segment_send(&heard, f, 13, keep, NULL);
	is_int(n_pieces, 2, "%s: another frame goes as it is", ip);
}

static void test_bad_options(void)
{
	static const char options[][9] = {"\2\4\0\0\0\0\0\0", "\2\0\0\0\0\0\0\0", "\3\x28\0\0\0\0\0\0", "\1\1\1\1\1\1\1\2"};
	uint8_t f[200];

	for (unsigned i = 0; i < 4; i++) {
		size_t at = tcp_frame(f, false, 7, 80, 2, 8, 0);

		memcpy(f + at - 8, options[i], 8);
		segment_learn(&heard, f, at);
		is_int(heard.mss[7], i ? 536 : 64, "options %u are bounded", i);
	}
}

/* -- Cables ------------------------------------------------------------------------- */

static void plugged_in(void *ctx)
{
	(void)ctx;
}

static void test_link(void)
{
	struct net_port port = {.up = true};
	struct net_link l;
	unsigned rounds = 0;

	net_link_init(&l, NULL, NULL, plugged_in, NULL);
	ok(!l.up && !net_link_changed(&l), "without a cable a link is down");
	net_link_init(&l, &port, NULL, plugged_in, NULL);
	ok(l.up && !net_link_changed(&l), "with one it is up");
	l.unplugged = true;
	ok(net_link_changed(&l) && !l.up && !net_link_changed(&l), "it is taken out, which is told once");
	l.unplugged = false;
	net_link_pause(&l);
	ok(!net_link_changed(&l), "in a pause nothing is told");
	net_link_resume(&l);
	ok(net_link_changed(&l) && l.up, "but behind it");
	port.up = false;
	ok(net_link_changed(&l) && !l.up, "the other end is gone");
	port.up = true;
	net_link_moved(&l, 3);
	ok(net_link_changed(&l) && !l.up, "who has moved finds it pulled");
	for (; l.pulled && rounds < 10; rounds++)
		net_link_wait_over(&l);
	is_int(rounds, 4, "a driver that does not look is waited for");
	net_link_moved(&l, 3);
	net_link_seen(&l);
	is_int(l.patience, 3, "before it was told a driver has seen nothing");
	ok(net_link_changed(&l) && !l.up, "then it is");
	net_link_seen(&l);
	net_link_wait_over(&l);
	ok(!l.pulled && net_link_changed(&l) && l.up, "one that has looked is not waited for");
	net_link_fini(&l);
}

/* Frames of a connection are together, whichever way they go. */
static void test_flow(void)
{
	static const uint8_t v4[2][54] = {
		{[12] = 8, [14] = 0x45, [23] = 6, [26] = 10, 0, 2, 15, 10, 0, 2, 2, 0x9c, 0x40, 0, 80},
		{[12] = 8, [14] = 0x45, [23] = 6, [26] = 10, 0, 2, 2, 10, 0, 2, 15, 0, 80, 0x9c, 0x40},
	};
	uint8_t f[54], piece[54], six[74] = {[12] = 0x86, 0xdd, [20] = 17, [22] = 0xfe, 0x80, [54] = 1, 2, 3, 4}, others = 0;
	unsigned flow = net_flow(v4[0], 54);

	is_int(net_flow(v4[1], 54), flow, "a question and its answer are one flow");
	for (unsigned port = 0; port < 64; port++) {
		memcpy(f, v4[0], 54);
		f[35] = (uint8_t)port;
		others += net_flow(f, 54) != flow;
	}
	ok(others >= 60, "most other ports are others");
	memcpy(piece, v4[0], 54);
	memcpy(f, v4[0], 54);
	piece[20] = f[20] = 0x20;
	piece[35] = 99;
	is_int(net_flow(piece, 54), net_flow(f, 54), "pieces of a packet go by its addresses");
	flow = net_flow(six, 74);
	six[57] = 5;
	ok(net_flow(six, 74) != flow, "IPv6 has ports, too");
	for (size_t len = 0; len < 54; len++)
		others += (uint8_t)(net_flow(v4[0], len) >= NET_FLOWS);
	ok(others <= 64, "a frame may end anywhere");
	memcpy(f, v4[0], 54);
	f[14] = 0x4f;
	ok(net_flow(f, 54) < NET_FLOWS, "and have a header that is longer than it");
	f[12] = 9;
	is_int(net_flow(f, 54), 0, "what is not IP is flow 0");
}

int main(void)
{
	test_checksum();
	test_link();
	test_mac();
	test_flow();
	test_stream();
	test_nonsense();
	test_listening();
	test_capture();
	test_segments(false);
	test_segments(true);
	test_bad_options();
	return done_testing();
}

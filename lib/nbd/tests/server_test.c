/* SPDX-License-Identifier: MIT */
/*
 * The NBD server, byte by byte: what it offers, what it answers to requests that are right, wrong, or cut; clients that say nothing,
 * read nothing, or go. That real clients are content with it is tests/nbd.
 */
#include "base/bytes.h"
#include "base/err.h"
#include "block/disk.h"
#include "loop/loop.h"
#include "block/nbd/protocol.h"
#include "nbd/server.h"
#include "tests/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#define SIZE (8u << 20)

static struct loop *loop;
static struct disk *disk;
static struct nbd_server *server;
static struct loop_timer soon;
static int wire; /* the client that talks */
static unsigned n_left;
static uint8_t got[NBD_LENGTH_MAX], pattern[1 << 20];

/* -- A client -------------------------------------------------------------------------- */

static void nothing(void *ctx)
{
	(void)ctx;
}

static void count(void *ctx)
{
	(void)ctx;
	n_left++;
}

/* A round, which waits for nothing. */
static void turn(void)
{
	loop_call(&soon);
	loop_once(loop);
}

static int come(void)
{
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) < 0)
		abort();
	return nbd_server_let_in(server, ends[0]) == 0 ? ends[1] : (close(ends[1]), -1);
}

static void put(const void *bytes, size_t n)
{
	const uint8_t *at = bytes;

	for (size_t done = 0; done < n;) {
		ssize_t rc = send(wire, at + done, n - done, MSG_NOSIGNAL);

		if (rc < 0 && errno != EAGAIN)
			return;
		done += rc > 0 ? (size_t)rc : 0;
		turn();
	}
}

/* So many bytes into got[], or fewer if the server has closed. */
static size_t take(size_t n)
{
	size_t have = 0;

	while (have < n) {
		ssize_t rc = read(wire, got + have, n - have);

		if (rc == 0 || (rc < 0 && errno != EAGAIN))
			break;
		have += rc > 0 ? (size_t)rc : 0;
		if (rc < 0)
			turn();
	}
	return have;
}

static bool is_closed(void)
{
	for (unsigned i = 0; i < 20; i++)
		turn();
	return take(1) == 0;
}

static void greet(uint32_t flags)
{
	uint8_t bytes[4];

	be32_put(bytes, flags);
	wire = come();
	take(18);
	put(bytes, 4);
}

static void bye(void)
{
	close(wire);
	while (nbd_server_clients(server))
		turn();
}

/* -- Options ---------------------------------------------------------------------------- */

static void put_option(uint32_t option, const void *data, uint32_t n)
{
	uint8_t bytes[16];

	be64_put(bytes, NBD_OPTION_MAGIC);
	be32_put(bytes + 8, option);
	be32_put(bytes + 12, n);
	put(bytes, 16);
	put(data, n);
}

/* The type of the next answer; its data is in got[]. */
static uint32_t take_answer(uint32_t option)
{
	uint32_t type;

	if (take(20) != 20 || be64_get(got) != NBD_OPTION_ANSWER || be32_get(got + 8) != option)
		return 0;
	type = be32_get(got + 12);
	take(be32_get(got + 16));
	return type;
}

static void put_go(uint32_t option, const char *name)
{
	uint8_t bytes[64] = {0};
	uint32_t n = (uint32_t)strlen(name);

	be32_put(bytes, n);
	memcpy(bytes + 4, name, n);
	put_option(option, bytes, n + 6);
}

static void begin(bool structured)
{
	greet(3);
	if (structured) {
		put_option(NBD_OPT_STRUCTURED_REPLY, "", 0);
		take_answer(NBD_OPT_STRUCTURED_REPLY);
	}
	put_go(NBD_OPT_GO, "");
	while (take_answer(NBD_OPT_GO) == NBD_REP_INFO)
		;
}

static void test_options(void)
{
	wire = come();
	is_int(take(18), 18, "it greets");
	ok(be64_get(got) == NBD_MAGIC && be64_get(got + 8) == NBD_OPTION_MAGIC && be16_get(got + 16) == 3, "as the newstyle does");
	put((uint8_t[]){0, 0, 0, 3}, 4);
	put_option(NBD_OPT_LIST, "", 0);
	is_int(take_answer(NBD_OPT_LIST), NBD_REP_SERVER, "LIST");
	ok(be32_get(got) == 3 && memcmp(got + 4, "web", 3) == 0, "names the export");
	is_int(take_answer(NBD_OPT_LIST), NBD_REP_ACK, "which is the only one");
	put_option(NBD_OPT_LIST, "x", 1);
	is_int(take_answer(NBD_OPT_LIST), (uint32_t)NBD_REP_ERR_INVALID, "LIST with data");
	put_option(5, "", 0);
	is_int(take_answer(5), (uint32_t)NBD_REP_ERR_UNSUP, "no TLS");
	put_option(0x7fffffff, "1234", 4);
	is_int(take_answer(0x7fffffff), (uint32_t)NBD_REP_ERR_UNSUP, "an option that nobody knows");
	put_option(77, pattern, 6000);
	is_int(take_answer(77), (uint32_t)NBD_REP_ERR_TOO_BIG, "one that is too long");
	put_go(NBD_OPT_INFO, "wed");
	is_int(take_answer(NBD_OPT_INFO), (uint32_t)NBD_REP_ERR_UNKNOWN, "an export that is not there");
	put_option(NBD_OPT_INFO, "\0\0\0\3we", 6);
	is_int(take_answer(NBD_OPT_INFO), (uint32_t)NBD_REP_ERR_INVALID, "a name that is longer than the option");
	put_option(NBD_OPT_INFO, "\377\377\377\377\0\0", 6);
	is_int(take_answer(NBD_OPT_INFO), (uint32_t)NBD_REP_ERR_INVALID, "and one that wraps around");
	put_option(NBD_OPT_GO, "\0\0\0\0\0\2\0\3", 8);
	is_int(take_answer(NBD_OPT_GO), (uint32_t)NBD_REP_ERR_INVALID, "a list that is longer than the option");
	put_go(NBD_OPT_INFO, "web");
	is_int(take_answer(NBD_OPT_INFO), NBD_REP_INFO, "INFO");
	ok(be16_get(got) == NBD_INFO_EXPORT && be64_get(got + 2) == SIZE, "its size");
	is_int(be16_get(got + 10), 0x1ed, "what it can do");
	is_int(take_answer(NBD_OPT_INFO), NBD_REP_INFO, "and more");
	ok(be16_get(got) == NBD_INFO_BLOCK_SIZE && be32_get(got + 2) == 512 && be32_get(got + 10) == NBD_LENGTH_MAX, "its blocks");
	is_int(take_answer(NBD_OPT_INFO), NBD_REP_ACK, "that was all");
	put_option(NBD_OPT_ABORT, "", 0);
	is_int(take_answer(NBD_OPT_ABORT), NBD_REP_ACK, "ABORT");
	ok(is_closed(), "and it has closed");
	bye();
}

static void test_old_way(void)
{
	for (unsigned flags = 1; flags <= 3; flags += 2) {
		size_t want = flags & 2 ? 10 : 134;

		greet(flags);
		put_option(NBD_OPT_EXPORT_NAME, "web", 3);
		is_int(take(want), want, "EXPORT_NAME, flags %u", flags);
		ok(be64_get(got) == SIZE && be16_get(got + 8) == 0x1ed, "its size, and what it can do");
		bye();
	}
	greet(3);
	put_option(NBD_OPT_EXPORT_NAME, "wed", 3);
	ok(is_closed(), "one that is not there closes");
	bye();
	greet(3);
	put_option(NBD_OPT_EXPORT_NAME, pattern, 6000);
	ok(is_closed(), "so does one that is too long");
	bye();
	greet(4);
	ok(is_closed(), "flags that nobody knows");
	bye();
	greet(3);
	put("GET / HTTP/1.1\r\n", 16);
	ok(is_closed(), "a client of something else");
	bye();
}

/* -- Requests ---------------------------------------------------------------------------- */

struct asked {
	uint16_t flags, command;
	uint64_t at;
	uint32_t len;
};

static void put_request(struct asked r, uint64_t cookie)
{
	uint8_t bytes[NBD_REQUEST_LEN];

	be32_put(bytes, NBD_REQUEST);
	be16_put(bytes + 4, r.flags);
	be16_put(bytes + 6, r.command);
	be64_put(bytes + 8, cookie);
	be64_put(bytes + 16, r.at);
	be32_put(bytes + 24, r.len);
	put(bytes, sizeof(bytes));
}

/* The error of a simple reply to that, or -1. */
static long take_simple(uint64_t cookie)
{
	if (take(16) != 16 || be32_get(got) != NBD_SIMPLE || be64_get(got + 8) != cookie)
		return -1;
	return be32_get(got + 4);
}

static long ask(struct asked r)
{
	static uint64_t cookie = 1000;

	put_request(r, ++cookie);
	if (r.command == NBD_CMD_WRITE)
		put(pattern, r.len);
	return take_simple(cookie);
}

static bool reads_back(uint64_t at, uint32_t len, const uint8_t *want)
{
	return ask((struct asked){0, NBD_CMD_READ, at, len}) == 0 && take(len) == len && memcmp(got, want, len) == 0;
}

static void test_requests(void)
{
	static const uint8_t zeros[65536];
	static const struct {
		struct asked asked;
		long error;
		const char *what;
	} wrong[] = {
		{{0, NBD_CMD_READ, SIZE, 512}, NBD_EINVAL, "a read behind the end"},
		{{0, NBD_CMD_READ, SIZE - 512, 1024}, NBD_EINVAL, "across it"},
		{{0, NBD_CMD_READ, UINT64_MAX - 511, 512}, NBD_EINVAL, "at the end of the world"},
		{{0, NBD_CMD_READ, 0, 0}, NBD_EINVAL, "of nothing"},
		{{0, NBD_CMD_READ, 1, 512}, NBD_EINVAL, "of no whole sectors"},
		{{0, NBD_CMD_READ, 0, 100}, NBD_EINVAL, "of less than one"},
		{{0, NBD_CMD_READ, 0, NBD_LENGTH_MAX + 512}, NBD_EOVERFLOW, "of more than a request may have"},
		{{0, NBD_CMD_READ, 0, UINT32_MAX}, NBD_EOVERFLOW, "of all there can be"},
		{{NBD_CMD_REQ_ONE, NBD_CMD_READ, 0, 512}, NBD_EINVAL, "with a flag that is not for it"},
		{{0, NBD_CMD_WRITE, SIZE, 512}, NBD_ENOSPC, "a write behind the end"},
		{{0, NBD_CMD_WRITE, 3, 512}, NBD_EINVAL, "a write of no whole sectors"},
		{{0x8000, NBD_CMD_WRITE, 0, 512}, NBD_EINVAL, "with a flag that nobody knows"},
		{{0, NBD_CMD_WRITE_ZEROES, SIZE - 512, UINT32_MAX - 511}, NBD_ENOSPC, "zeros behind the end"},
		{{0, NBD_CMD_TRIM, SIZE, 512}, NBD_ENOSPC, "a trim there"},
		{{0, NBD_CMD_CACHE, 0, 512}, NBD_EINVAL, "a command that is not offered"},
		{{0, NBD_CMD_BLOCK_STATUS, 0, 512}, NBD_EINVAL, "another"},
		{{0, 0xffff, 0, 512}, NBD_EINVAL, "one that nobody knows"},
	};

	begin(false);
	is_int(ask((struct asked){0, NBD_CMD_WRITE, 4096, 65536}), 0, "a write");
	ok(reads_back(4096, 65536, pattern), "is there");
	is_int(ask((struct asked){NBD_CMD_FUA, NBD_CMD_WRITE, 1 << 20, 1 << 20}), 0, "a long one that is to last");
	ok(reads_back(1 << 20, 1 << 20, pattern), "is there");
	is_int(ask((struct asked){NBD_CMD_FUA, NBD_CMD_WRITE_ZEROES, 4096, 32768}), 0, "zeros");
	ok(reads_back(4096, 32768, zeros), "are there");
	is_int(ask((struct asked){NBD_CMD_NO_HOLE, NBD_CMD_WRITE_ZEROES, 4096 + 32768, 512}), 0, "zeros without a hole");
	ok(reads_back(4096 + 32768, 512, zeros) && reads_back(4096 + 33280, 512, pattern + 33280), "are there, and no more");
	is_int(ask((struct asked){NBD_CMD_FUA, NBD_CMD_TRIM, 1 << 20, 1 << 20}), 0, "a trim that is to last");
	is_int(ask((struct asked){0, NBD_CMD_FLUSH, 0, 0}), 0, "a flush");
	is_int(ask((struct asked){0, NBD_CMD_FLUSH, 7, 77}), 0, "with fields that mean nothing");
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		is_int(ask(wrong[i].asked), wrong[i].error, "%s", wrong[i].what);
	ok(reads_back(4096 + 33280, 512, pattern + 33280), "and it goes on after all that");
	put_request((struct asked){0, NBD_CMD_DISC, 0, 0}, 1);
	ok(is_closed(), "until the client says good-bye");
	bye();
	begin(false);
	put(pattern, NBD_REQUEST_LEN);
	ok(is_closed(), "what is no request ends the connection");
	bye();
}

static void test_structured(void)
{
	begin(true);
	ask((struct asked){0, NBD_CMD_WRITE, 0, 1024});
	put_request((struct asked){NBD_CMD_DF, NBD_CMD_READ, 512, 512}, 42);
	is_int(take(28), 28, "a structured reply");
	ok(be32_get(got) == NBD_CHUNK && be16_get(got + 4) == 1 && be16_get(got + 6) == NBD_CHUNK_DATA && be64_get(got + 8) == 42 &&
	   be32_get(got + 16) == 520 && be64_get(got + 20) == 512, "is one chunk, and says what it has");
	ok(take(512) == 512 && memcmp(got, pattern + 512, 512) == 0, "which is right");
	put_request((struct asked){0, NBD_CMD_READ, SIZE, 512}, 43);
	is_int(take(26), 26, "an error");
	ok(be16_get(got + 4) == 1 && be16_get(got + 6) == NBD_CHUNK_ERROR && be64_get(got + 8) == 43 && be32_get(got + 16) == 6 &&
	   be32_get(got + 20) == NBD_EINVAL && be16_get(got + 24) == 0, "is a chunk, too");
	bye();
}

/* -- Clients ------------------------------------------------------------------------------ */

/* Everything in parts of one byte. */
static void test_parts(void)
{
	uint8_t bytes[NBD_REQUEST_LEN + 512];

	begin(false);
	be32_put(bytes, NBD_REQUEST);
	be32_put(bytes + 4, NBD_CMD_WRITE);
	be64_put(bytes + 8, 9);
	be64_put(bytes + 16, 0);
	be32_put(bytes + 24, 512);
	memset(bytes + NBD_REQUEST_LEN, 0x5a, 512);
	for (size_t i = 0; i < sizeof(bytes); i++)
		put(bytes + i, 1);
	is_int(take_simple(9), 0, "a write that comes byte by byte");
	ok(reads_back(0, 512, bytes + NBD_REQUEST_LEN), "is whole");
	bye();
}

/* Many requests, of which it reads no answer until the server and the socket take no more. */
static void test_many(void)
{
	enum { MANY = 1000, LEN = 65536 };
	uint8_t bytes[NBD_REQUEST_LEN];
	bool seen[MANY] = {0};
	unsigned asked = 0, answered = 0;

	begin(false);
	be32_put(bytes, NBD_REQUEST);
	be32_put(bytes + 4, NBD_CMD_READ);
	be64_put(bytes + 16, 0);
	be32_put(bytes + 24, LEN);
	for (unsigned idle = 0; asked < MANY && idle < 100; idle++) {
		be64_put(bytes + 8, asked);
		if (send(wire, bytes, sizeof(bytes), MSG_NOSIGNAL) == sizeof(bytes)) /* so few go together or not at all */
			asked++, idle = 0;
		turn();
	}
	while (answered < asked && take(16) == 16 && be32_get(got) == NBD_SIMPLE && be32_get(got + 4) == 0 && be64_get(got + 8) < MANY &&
	       !seen[be64_get(got + 8)]) {
		seen[be64_get(got + 8)] = true;
		take(LEN);
		answered++;
	}
	ok(asked > 64 && answered == asked, "of many requests before the first answer is read each is answered, once: %u, %u", asked, answered);
	bye();
}

/* One that asks for more than its socket takes, and reads nothing, is no trouble to another. */
static void test_deaf(void)
{
	int deaf;

	begin(false);
	for (unsigned i = 0; i < 100; i++)
		put_request((struct asked){0, NBD_CMD_READ, 0, 1 << 20}, i);
	deaf = wire;
	begin(false);
	is_int(ask((struct asked){0, NBD_CMD_WRITE, 0, 4096}), 0, "beside a client that reads nothing another writes");
	ok(reads_back(0, 4096, pattern), "and reads");
	close(deaf);
	bye();
}

static void test_coming_and_going(void)
{
	int all[NBD_CLIENTS_MAX];
	unsigned n = 0;

	for (unsigned i = 0; i < 200; i++) {
		begin(i & 1);
		put_request((struct asked){0, i & 2 ? NBD_CMD_WRITE : NBD_CMD_READ, 0, 1 << 20}, i);
		put(pattern, i & 4 ? 1000 : 0);
		close(wire);
		turn();
	}
	while (nbd_server_clients(server))
		turn();
	disk_drain(disk);
	turn();
	ok(n_left > 0, "200 clients go in the middle of a request");
	for (unsigned i = 0; i < NBD_CLIENTS_MAX; i++)
		n += (all[i] = come()) >= 0;
	is_int(n, NBD_CLIENTS_MAX, "there is room for as many as before");
	is_int(come(), -1, "and for no more");
	for (unsigned i = 0; i < NBD_CLIENTS_MAX; i++)
		close(all[i]);
	while (nbd_server_clients(server))
		turn();
}

static void test_readonly(void)
{
	begin(false);
	is_int(ask((struct asked){0, NBD_CMD_WRITE, 0, 4096}), NBD_EPERM, "a disk that is only read: a write");
	is_int(ask((struct asked){0, NBD_CMD_TRIM, 0, 4096}), NBD_EPERM, "a trim");
	is_int(ask((struct asked){0, NBD_CMD_WRITE_ZEROES, 0, 4096}), NBD_EPERM, "zeros");
	is_int(ask((struct asked){0, NBD_CMD_FLUSH, 0, 0}), 0, "a flush is none");
	ok(ask((struct asked){0, NBD_CMD_READ, 0, 4096}) == 0 && take(4096) == 4096, "and it is read");
	bye();
	greet(3);
	put_option(NBD_OPT_EXPORT_NAME, "", 0);
	take(10);
	is_int(be16_get(got + 8), 0x187, "and says so");
	bye();
}

/* -- ------------------------------------------------------------------------------------- */

static void make(const char *path, bool readonly)
{
	struct err err = {0};

	if (disk_open(&disk, &(struct disk_config){.path = path, .readonly = readonly}, &err) < 0 ||
	    nbd_server_create(&server, &(struct nbd_server_config){.loop = loop, .listening = -1, .disk = disk, .name = "web", .left = count},
			      &err) < 0) {
		ok(false, "%s", err.text);
		exit(done_testing());
	}
}

static void unmake(void)
{
	nbd_server_destroy(server);
	disk_close(disk);
}

int main(void)
{
	char path[] = "/tmp/lodge-nbd-XXXXXX";
	int fd = mkstemp(path);

	for (size_t i = 0; i < sizeof(pattern); i++)
		pattern[i] = (uint8_t)(i * 7 + i / 251);
	if (fd < 0 || ftruncate(fd, SIZE) < 0 || loop_create(&loop, NULL) < 0)
		return 1;
	close(fd);
	loop_timer_init(&soon, loop, nothing, NULL);
	make(path, false);
	test_options();
	test_old_way();
	test_requests();
	test_structured();
	test_parts();
	test_many();
	test_deaf();
	test_coming_and_going();
	begin(false);
	put_request((struct asked){0, NBD_CMD_READ, 0, 1 << 20}, 1);
	unmake(); /* with a client in the middle of something */
	close(wire);
	make(path, true);
	test_readonly();
	unmake();
	unlink(path);
	loop_timer_fini(&soon);
	loop_destroy(loop);
	return done_testing();
}

/* SPDX-License-Identifier: MIT */
/*
 * What an NBD client says to the server (lib/nbd), of a disk of 1 MiB.
 *
 *	[how: 1] bytes      how & 1: they come after a negotiation; & 2: in parts of 1 to 16; & 4: no answer is read
 *
 * What must hold: no memory is touched that is not the connection's, and when it is over nothing of it is left.
 */
#include "base/bytes.h"
#include "block/disk.h"
#include "loop/loop.h"
#include "block/nbd/protocol.h"
#include "nbd/server.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct loop *loop;
static struct loop_timer soon;
static struct disk *disk;
static struct nbd_server *server;

static void nothing(void *ctx)
{
	(void)ctx;
}

static void must(bool fine)
{
	if (!fine)
		abort();
}

static void set_up(void)
{
	char path[] = "/tmp/fuzz_nbd.XXXXXX";
	int fd = mkstemp(path);

	must(fd >= 0 && ftruncate(fd, 1 << 20) == 0 && loop_create(&loop, NULL) == 0);
	loop_timer_init(&soon, loop, nothing, NULL);
	must(disk_open(&disk, &(struct disk_config){.path = path}, NULL) == 0);
	must(nbd_server_create(&server, &(struct nbd_server_config){.loop = loop, .listening = -1, .disk = disk, .name = "a"}, NULL) == 0);
	unlink(path);
	close(fd);
}

static void turn(void)
{
	loop_call(&soon);
	loop_once(loop);
}

static void listen_to(int fd)
{
	static uint8_t bytes[65536];

	while (read(fd, bytes, sizeof(bytes)) > 0)
		;
}

/* False: nobody is there any more, or it takes no more. */
static bool say(int fd, const uint8_t *bytes, size_t n, bool deaf)
{
	for (unsigned tries = 0; n && tries < 64; tries++) {
		ssize_t rc = send(fd, bytes, n, MSG_NOSIGNAL);

		if (rc < 0 && errno != EAGAIN)
			return false;
		if (rc > 0) {
			bytes += rc;
			n -= (size_t)rc;
		}
		turn();
		if (!deaf)
			listen_to(fd);
	}
	return n == 0;
}

static bool negotiate(int fd)
{
	static const uint8_t words[] = "\0\0\0\3" "IHAVEOPT\0\0\0\10\0\0\0\0" "IHAVEOPT\0\0\0\7\0\0\0\6\0\0\0\0\0\0";

	return say(fd, words, sizeof(words) - 1, false);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t how = size ? data[0] : 0;
	int ends[2];

	if (!server)
		set_up();
	must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) == 0 && nbd_server_let_in(server, ends[0]) == 0);
	if (!(how & 1) || negotiate(ends[1])) {
		for (size_t at = 1, n; at < size; at += n) {
			n = how & 2 ? 1u + (how >> 4) : size - at;
			n = n < size - at ? n : size - at;
			if (!say(ends[1], data + at, n, how & 4))
				break;
		}
	}
	close(ends[1]);
	while (nbd_server_clients(server))
		turn();
	disk_drain(disk);
	turn();
	return 0;
}

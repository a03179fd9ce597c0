/* SPDX-License-Identifier: MIT */
/*
 * What an NBD server says to a disk (lib/block/nbd): its bytes, all at once, whatever it is asked.
 *
 *	[how: 1] bytes      how & 1: they come after a right negotiation; how >> 1: what is asked then
 *
 * What must hold: no memory is touched that is not the request's, and everything ends when the server goes.
 */
#include "block/nbd/nbd.h"
#include "block/node.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char path[64], uri[128];
static int listening = -1;
static const uint8_t *says;
static size_t n_says;
static bool is_polite;

static void must(bool fine)
{
	if (!fine)
		abort();
}

static void clean_up(void)
{
	unlink(path);
}

static void set_up(void)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};

	snprintf(path, sizeof(path), "/tmp/fuzz_nbd_disk.%d", (int)getpid());
	snprintf(uri, sizeof(uri), "nbd+unix:///?socket=%s", path);
	strcpy(at.sun_path, path);
	unlink(path);
	listening = socket(AF_UNIX, SOCK_STREAM, 0);
	must(listening >= 0 && bind(listening, (struct sockaddr *)&at, sizeof(at)) == 0 && listen(listening, 8) == 0);
	atexit(clean_up);
	signal(SIGPIPE, SIG_IGN);
}

static void *serve(void *arg)
{
	static const uint8_t polite[] = "NBDMAGICIHAVEOPT\0\3\0\3\350\211\4\125\145\251\0\0\0\7\0\0\0\3\0\0\0\14\0\0\0\0\0\0\0\20\0\0\0\145"
					"\0\3\350\211\4\125\145\251\0\0\0\7\0\0\0\1\0\0\0\0";
	int fd = accept(listening, NULL, NULL);
	uint8_t bytes[4096];

	(void)arg;
	must(fd >= 0);
	if (is_polite)
		must(send(fd, polite, sizeof(polite) - 1, MSG_NOSIGNAL) > 0);
	for (size_t at = 0; at < n_says;) {
		ssize_t n = send(fd, says + at, n_says - at, MSG_NOSIGNAL);

		if (n <= 0)
			break;
		at += (size_t)n;
	}
	shutdown(fd, SHUT_WR);
	while (read(fd, bytes, sizeof(bytes)) > 0)
		;
	close(fd);
	return NULL;
}

static void use(struct node *n, uint8_t how)
{
	static uint8_t bytes[3][2048];
	struct iovec iov[3] = {{bytes[0], 512}, {bytes[1], 2048}, {bytes[2], 1024}};

	for (unsigned i = 0; i < 4; i++) {
		switch (how >> i & 7) {
		case 0: case 1: case 2: n->ops->read(n, 0, iov, 3); break;
		case 3: n->ops->write(n, 512, iov, 3); break;
		case 4: n->ops->zero(n, 0, 1 << 20); break;
		case 5: n->ops->discard(n, 0, 4096); break;
		case 6: n->ops->flush(n); break;
		case 7: node_get(n, 0, bytes[0], 512); break;
		}
		iov[0] = (struct iovec){bytes[0], 512};
		iov[1] = (struct iovec){bytes[1], 2048};
		iov[2] = (struct iovec){bytes[2], 1024};
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct node *node = NULL;
	uint32_t block;
	pthread_t server;

	if (listening < 0)
		set_up();
	if (!size)
		return 0;
	says = data + 1;
	n_says = size - 1;
	is_polite = data[0] & 1;
	must(pthread_create(&server, NULL, serve, NULL) == 0);
	if (nbd_open(&node, uri, false, &block, NULL) == 0)
		use(node, data[0] >> 1);
	node_close(node);
	pthread_join(server, NULL);
	return 0;
}

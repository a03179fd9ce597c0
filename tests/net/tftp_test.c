/* SPDX-License-Identifier: MIT */
/* lodge-nat's TFTP server, as a guest's frames ask it: what is in the directory, what is not, and what would hold it up. */
#include "prog/lodge/nat/nat.h"

#include "base/bytes.h"
#include "net/checksum.h"
#include "net/port.h"
#include "tests/tap.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ETHER 14u
#define IP    20u
#define UDP   8u

enum { DATA = 3, FAILED = 5 };

static char top[] = "/tmp/tftp_test.XXXXXX";
static uint8_t reply[2048];
static size_t reply_len;

static bool take(struct net_port *p, const struct iovec *iov, unsigned n)
{
	(void)p;
	if (n == 1 && iov->iov_len <= sizeof(reply) && ((const uint8_t *)iov->iov_base)[12] == 8 && !((const uint8_t *)iov->iov_base)[13]) {
		reply_len = iov->iov_len;
		memcpy(reply, iov->iov_base, reply_len);
	}
	return true;
}

static const struct net_port_type type = {.send = take};
static struct net_port lodge = {.type = &type, .up = true};
static struct router *router;

/* Who has 10.0.2.2? So the router knows who 10.0.2.15 is. */
static void introduce(void)
{
	uint8_t arp[60] = {
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x52, 0, 0, 0, 0, 1, 8, 6,
		0, 1, 8, 0, 6, 4, 0, 1, 0x52, 0, 0, 0, 0, 1, 10, 0, 2, 15, 0, 0, 0, 0, 0, 0, 10, 0, 2, 2,
	};

	router_input(router, arp, sizeof(arp));
}

/* Asks for a file from a port of its own; what comes back is DATA, FAILED, or 0: nothing. */
static unsigned ask(const char *name)
{
	static uint16_t port = 2000;
	uint8_t f[256] = {0x52, 0x55, 10, 0, 2, 2, 0x52, 0, 0, 0, 0, 1, 8, 0, 0x45};
	size_t n = strlen(name) + 1, len = ETHER + IP + UDP + 2 + n + 6;
	uint8_t *ip = f + ETHER, *udp = ip + IP;

	be16_put(ip + 2, (uint16_t)(len - ETHER));
	ip[8] = 64;
	ip[9] = 17;
	memcpy(ip + 12, (uint8_t[]){10, 0, 2, 15, 10, 0, 2, 2}, 8);
	net_fold(net_sum(&(struct iovec){ip, IP}, 1, 0), ip + 10);
	be16_put(udp, port++);
	be16_put(udp + 2, 69);
	be16_put(udp + 4, (uint16_t)(len - ETHER - IP));
	udp[UDP + 1] = 1; /* read */
	memcpy(udp + UDP + 2, name, n);
	memcpy(udp + UDP + 2 + n, "octet", 6);
	reply_len = 0;
	router_input(router, f, len);
	return reply_len > ETHER + IP + UDP + 4 ? be16_get(reply + ETHER + IP + UDP) : 0;
}

static bool says(const char *text)
{
	return reply_len >= ETHER + IP + UDP + 4 + strlen(text) && !memcmp(reply + ETHER + IP + UDP + 4, text, strlen(text));
}

static void put(const char *name, const char *text)
{
	int fd = openat(AT_FDCWD, name, O_WRONLY | O_CREAT, 0600);

	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		abort();
	close(fd);
}

static void make_files(void)
{
	if (!mkdtemp(top) || chdir(top) < 0 || mkdir("served", 0700) < 0 || mkdir("served/below", 0700) < 0 || mkdir("served-not", 0700) < 0 ||
	    symlink("below/deep", "served/link") < 0 || symlink("../secret", "served/out") < 0 || symlink("../served-not", "served/beside") < 0 ||
	    mkfifo("served/pipe", 0600) < 0)
		abort();
	put("served/plain", "plain text");
	put("served/below/deep", "deep text");
	put("secret", "secret text");
	put("served-not/near", "secret text");
}

static void test_files(void)
{
	introduce();
	ok(ask("plain") == DATA && says("plain text"), "a file is given");
	ok(ask("below/deep") == DATA && says("deep text"), "one in a directory");
	ok(ask("link") == DATA && says("deep text"), "one that a link leads to, in there");
	is_int(ask("out"), FAILED, "not one that a link leads to, outside");
	is_int(ask("beside/near"), FAILED, "nor by a directory's link");
	is_int(ask("../secret"), FAILED, "nor by the way up");
	is_int(ask("below"), FAILED, "a directory is no file");
	is_int(ask("pipe"), FAILED, "nor is a pipe, and nobody waits for who writes to it");
	is_int(ask("nothing"), FAILED, "what is not there is not found");
	ok(ask("plain") == DATA && says("plain text"), "and a file is given");
}

int main(void)
{
	char command[64];

	make_files();
	router = router_create(&(struct router_config){.lodge = &lodge, .restricted = true, .tftp = "served"});
	test_files();
	router_destroy(router);
	snprintf(command, sizeof(command), "rm -r %s", top);
	ok(system(command) == 0, "it is tidied up");
	return done_testing();
}

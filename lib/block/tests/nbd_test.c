/* SPDX-License-Identifier: MIT */
/*
 * Disks on a server: how it is named, and servers that lie, are silent, or go. One that does what it should is tests/nbd.
 *
 * A server here is a thread with a script: what it sends and how many bytes it hears before that.
 */
#include "base/bytes.h"
#include "base/err.h"
#include "block/disk.h"
#include "block/nbd/nbd.h"
#include "block/nbd/protocol.h"
#include "block/node.h"
#include "tests/tap.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* -- Names ---------------------------------------------------------------------------- */

static void test_names(void)
{
	static const struct {
		const char *uri, *host, *port, *path, *name;
	} good[] = {
		{"nbd://server", "server", "10809", "", ""},
		{"nbd://server/", "server", "10809", "", ""},
		{"nbd://10.0.0.1:99/a%20b/c", "10.0.0.1", "99", "", "a b/c"},
		{"nbd://[::1]:10/x", "::1", "10", "", "x"},
		{"nbd://[fe80::1]", "fe80::1", "10809", "", ""},
		{"nbd+unix:///?socket=/run/s", "", "", "/run/s", ""},
		{"nbd+unix:///web?socket=/run/a%3fb", "", "", "/run/a?b", "web"},
	};
	static const struct {
		const char *uri, *why;
	} bad[] = {
		{"nbd:", "a server is nbd://HOST"}, {"nbds://server/x", "a server is nbd://HOST"}, {"nbd:///x", "a server is nbd://HOST"},
		{"nbd://:1/x", "a server is nbd://HOST"}, {"nbd://[::1/x", "has no ']'"}, {"nbd://[::1]x/", "a server is nbd://HOST"},
		{"nbd://a:/x", "its port is a number"}, {"nbd://a:1x/", "its port is a number"}, {"nbd://a:123456/", "its port is a number"},
		{"nbd://a/x%", "followed by two digits"}, {"nbd://a/x%0", "followed by two digits"}, {"nbd://a/%00", "followed by two digits"},
		{"nbd://a/%gg", "followed by two digits"}, {"nbd://a/x?tls=1", "behind the '?'"}, {"nbd+unix:///x", "?socket=PATH"},
		{"nbd+unix:///x?socket=", "?socket=PATH"}, {"nbd+unix:///x?socket=a&b=c", "?socket=PATH"}, {"nbd+unix://x", "a server is nbd://HOST"},
	};
	struct nbd_address a;
	char uri[512];
	struct err err;

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		ok(nbd_parse(&a, good[i].uri, NULL) == 0 && !strcmp(a.host, good[i].host) && !strcmp(a.port, good[i].port) &&
		   !strcmp(a.path, good[i].path) && !strcmp(a.name, good[i].name), "%s", good[i].uri);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		ok(nbd_parse(&a, bad[i].uri, &err) == -ERANGE && strstr(err.text, bad[i].why), "%s: %s", bad[i].uri, err.text);
	snprintf(uri, sizeof(uri), "nbd://%0300d/", 1);
	is_int(nbd_parse(&a, uri, &err), -ERANGE, "a long host: %s", err.text);
	snprintf(uri, sizeof(uri), "nbd+unix:///?socket=/%0120d", 1);
	is_int(nbd_parse(&a, uri, &err), -ERANGE, "a long path: %s", err.text);
	ok(disk_is_remote("nbd://a") && !disk_is_remote("nbd.img") && !disk_is_remote("./nbd:x"), "files are files");
}

/* -- Servers --------------------------------------------------------------------------- */

struct line {
	unsigned hears; /* bytes, before it */
	const char *says;
	size_t len;
	bool cancels; /* and then nobody wants an answer any more */
};

#define SAYS(n, text) {n, text, sizeof(text) - 1, false}
#define HELLO    SAYS(0, "NBDMAGICIHAVEOPT\0\3")
#define ANSWER   "\0\3\350\211\4\125\145\251\0\0\0\7"
#define EXPORT   ANSWER "\0\0\0\3\0\0\0\14\0\0\0\0\0\0\0\20\0\0\0\5" /* 1 MiB, that can be flushed */
#define ACK      ANSWER "\0\0\0\1\0\0\0\0"
#define ASKED    (4 + 24) /* our flags, and GO */
#define REPLY(n) "\147\104\146\230\0\0\0\0\0\0\0\0\0\0\0" n

static char dir[] = "/tmp/lodge-nbd-XXXXXX", path[64], uri[128];
static const struct line *script;
static bool stays; /* when all is said, until the other end has gone */
static struct node *asks;

static void *serve(void *arg)
{
	int listening = *(int *)arg, fd = accept(listening, NULL, NULL);
	char bytes[512];

	for (const struct line *l = script; l->says; l++) {
		for (unsigned n = l->hears; n;) {
			ssize_t rc = read(fd, bytes, n < sizeof(bytes) ? n : sizeof(bytes));

			if (rc <= 0)
				break;
			n -= (unsigned)rc;
		}
		send(fd, l->says, l->len, MSG_NOSIGNAL);
		if (l->cancels)
			__atomic_store_n(&asks->cancelled, true, __ATOMIC_RELAXED);
	}
	while (stays && read(fd, bytes, sizeof(bytes)) > 0)
		;
	close(fd);
	return NULL;
}

static int listening;
static pthread_t server;

static void begin(const struct line *lines, bool and_stays)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};

	strcpy(at.sun_path, path);
	unlink(path);
	listening = socket(AF_UNIX, SOCK_STREAM, 0);
	script = lines;
	stays = and_stays;
	if (bind(listening, (struct sockaddr *)&at, sizeof(at)) < 0 || listen(listening, 1) < 0 ||
	    pthread_create(&server, NULL, serve, &listening))
		abort();
}

static void end(void)
{
	pthread_join(server, NULL);
	close(listening);
}

static void refuses(const struct line *lines, const char *why)
{
	struct disk *disk = NULL;
	struct err err = {0};

	begin(lines, false);
	ok(disk_open(&disk, &(struct disk_config){.path = uri}, &err) < 0 && strstr(err.text, why), "%s: %s", why, err.text);
	disk_close(disk);
	end();
}

static void test_negotiation(void)
{
	refuses((struct line[]){SAYS(0, "HTTP/1.1 400 Bad Request\r\n"), {0}}, "no NBD server");
	refuses((struct line[]){SAYS(0, "NBDMAGIC"), {0}}, "closed the connection");
	refuses((struct line[]){SAYS(0, "NBDMAGIC\0\0\102\2\201\206\22\123\0\0"), {0}}, "too old");
	refuses((struct line[]){HELLO, SAYS(ASKED, ANSWER "\200\0\0\6\0\0\0\4none"), {0}}, "no such export: none");
	refuses((struct line[]){HELLO, SAYS(ASKED, ANSWER "\200\0\0\5\0\0\0\3\33[m"), {0}}, "refuses (5): ?[m");
	refuses((struct line[]){HELLO, SAYS(ASKED, ANSWER "\0\0\0\3\377\377\377\377"), {0}}, "makes no sense");
	refuses((struct line[]){HELLO, SAYS(ASKED, "NBDMAGICNBDMAGICNBDM"), {0}}, "makes no sense");
	refuses((struct line[]){HELLO, SAYS(ASKED, ACK), {0}}, "says nothing of the export");
	refuses((struct line[]){HELLO, SAYS(ASKED, ANSWER "\0\0\0\3\0\0\0\14\0\0\0\0\0\0\0\0\0\0\0\1" ACK), {0}}, "is empty");
	refuses((struct line[]){HELLO, SAYS(ASKED, ANSWER "\0\0\0\3\0\0\0\14\0\0\0\0\0\0\0\0\2\1\0\1" ACK), {0}}, "not a multiple of 512");
	refuses((struct line[]){HELLO, SAYS(ASKED, ANSWER "\0\0\0\3\0\0\0\14\0\0\377\0\0\0\0\0\0\0\0\1" ACK), {0}}, "it has 18374686479671623680 bytes");
	refuses((struct line[]){HELLO, SAYS(ASKED, ANSWER "\0\0\0\3\0\0\0\14\0\0\0\0\0\0\0\20\0\0\0\3" ACK), {0}}, "does not let it be written");
	refuses((struct line[]){HELLO, SAYS(ASKED, EXPORT ANSWER "\0\0\0\3\0\0\0\16\0\3\0\0\20\0\0\0\20\0\0\2\0\0" ACK), {0}},
		"requests of 4096 to");
}

/* -- What they answer ------------------------------------------------------------------ */

#define READ_LEN 28

/* A sector is read: the error, after these answers. */
static int read_after(const struct line *lines, bool and_stays)
{
	uint8_t bytes[512];
	uint32_t block;
	int rc;

	begin(lines, and_stays);
	if (nbd_open(&asks, uri, false, &block, NULL) < 0) {
		end();
		return 1;
	}
	rc = node_get(asks, 0, bytes, sizeof(bytes));
	if (rc == 0 && !is_all_zero(bytes, sizeof(bytes)))
		rc = 2;
	node_close(asks);
	end();
	return rc;
}

static const uint8_t zeros[512];

static void test_answers(void)
{
	static char whole[16 + 512 + 16] = REPLY("\1");
	struct line good[] = {HELLO, SAYS(ASKED, EXPORT ACK), {READ_LEN, whole, 16 + 512, false}, {0}};
	struct line cut[] = {HELLO, SAYS(ASKED, EXPORT ACK), {READ_LEN, whole, 16 + 100, false}, {0}};

	is_int(read_after(good, true), 0, "a right answer");
	is_int(read_after(cut, false), -EIO, "one that is cut");
	is_int(read_after((struct line[]){HELLO, SAYS(ASKED, EXPORT ACK), SAYS(READ_LEN, REPLY("\2")), {0}}, true), -EIO,
	       "to a question that nobody has asked");
	is_int(read_after((struct line[]){HELLO, SAYS(ASKED, EXPORT ACK REPLY("\2")), {0}}, true), -EIO, "before there was one");
	is_int(read_after((struct line[]){HELLO, SAYS(ASKED, EXPORT ACK), SAYS(READ_LEN, "NBDMAGICNBDMAGIC"), {0}}, true), -EIO,
	       "what is no answer");
	is_int(read_after((struct line[]){HELLO, SAYS(ASKED, EXPORT ACK), SAYS(READ_LEN, "\147\104\146\230\0\0\0\34\0\0\0\0\0\0\0\1"), {0}}, true), -ENOSPC, "an error");
	is_int(read_after((struct line[]){HELLO, SAYS(ASKED, EXPORT ACK), {0}}, false), -EIO, "no answer, and it goes");
	is_int(read_after((struct line[]){HELLO, SAYS(ASKED, EXPORT ACK), {READ_LEN, "", 0, true}, {0}}, true), -ECANCELED, "no answer, and nobody waits");
}

/* A read is given up while its answer is on the way; the connection goes on with the next. */
static void test_given_up(void)
{
	static char answers[2 * (16 + 512)] = REPLY("\1");
	static const struct line lines[] = {HELLO, SAYS(ASKED, EXPORT ACK), {READ_LEN, answers, 16 + 100, true},
					    {READ_LEN, answers + 16 + 100, 412 + 16 + 512, false},
					    {0}};
	uint8_t bytes[512];
	uint32_t block;

	memset(answers + 16, 0x55, 512);
	memcpy(answers + 16 + 512, REPLY("\2"), 16);
	begin(lines, true);
	if (!ok(nbd_open(&asks, uri, false, &block, NULL) == 0, "a server that is slow"))
		return;
	is_int(node_get(asks, 0, bytes, 512), -ECANCELED, "a read that is given up");
	__atomic_store_n(&asks->cancelled, false, __ATOMIC_RELAXED);
	memset(bytes, 1, 512);
	is_int(node_get(asks, 0, bytes, 512), 0, "and the next");
	ok(memcmp(bytes, zeros, 512) == 0, "which has its own bytes");
	node_close(asks);
	end();
}

/* A write that nobody wants any more could come to the disk after a later one: so it is waited for. */
static void test_not_given_up(void)
{
	static const struct line lines[] = {HELLO, SAYS(ASKED, EXPORT ACK), {READ_LEN + 512, "", 0, true}, SAYS(0, REPLY("\1")), {0}};
	uint32_t block;

	begin(lines, true);
	if (!ok(nbd_open(&asks, uri, false, &block, NULL) == 0, "a server, and a write"))
		return;
	is_int(node_put(asks, 0, zeros, 512), 0, "that is not given up");
	node_close(asks);
	end();
}

int main(void)
{
	signal(SIGPIPE, SIG_IGN);
	if (!mkdtemp(dir))
		return 1;
	snprintf(path, sizeof(path), "%s/s", dir);
	snprintf(uri, sizeof(uri), "nbd+unix:///?socket=%s", path);
	test_names();
	test_negotiation();
	test_answers();
	test_given_up();
	test_not_given_up();
	unlink(path);
	rmdir(dir);
	return done_testing();
}

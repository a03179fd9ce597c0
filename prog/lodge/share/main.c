/* SPDX-License-Identifier: MIT */
/*
 * See share.h.
 *
 *	lodge-share DIR rw|ro      lodge's socket is 0
 *
 * lodge starts it for each --share, and hears on 1 when it is ready, or what is wrong with the
 * directory (beside.h). Then it has that directory, and by Landlock no other, and the calls of the
 * role "share" (lib/sandbox/calls.def).
 *
 * One thread, one request after the other: it reads one, does it, and writes the answer. lodge
 * never waits for it with what it would have to read, so writing may block. It ends when lodge
 * does.
 */
#include "share.h"

#include "base/err.h"
#include "dev/virtio/fs_link.h"
#include "prog/lodge/beside.h"
#include "sandbox/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define LODGE  STDIN_FILENO
#define SPARE  16u /* descriptors that are open for a moment */

static uint8_t *in, *out;

/* A stream: -1 at its end. */
static int transfer(ssize_t (*how)(int fd, void *bytes, size_t n), void *bytes, size_t n)
{
	for (size_t done = 0; done < n;) {
		ssize_t part = how(LODGE, (uint8_t *)bytes + done, n - done);

		if (part <= 0 && !(part < 0 && errno == EINTR))
			return -1;
		done += part > 0 ? (size_t)part : 0;
	}
	return 0;
}

static ssize_t write_out(int fd, void *bytes, size_t n)
{
	return write(fd, bytes, n);
}

static int answer(struct fs_head head, size_t len)
{
	const struct fs_head back = {.len = (uint32_t)len, .cookie = head.cookie};

	memcpy(out, &back, sizeof(back));
	return transfer(write_out, out, sizeof(back) + len);
}

static size_t load(struct share *s, const struct fs_head *head, char *why)
{
	int rc = share_load(s, in, head->len);

	return rc < 0 ? (size_t)sprintf(why, "the session of its guest makes no sense (%s)", strerror(-rc)) : 0;
}

/* One request. -1: lodge has gone, or it says what it would never say. */
static int serve(struct share *s)
{
	struct fs_head head;
	bool is_session;
	uint8_t *body = out + sizeof(head);

	if (transfer(read, &head, sizeof(head)) < 0)
		return -1;
	is_session = head.cookie >= FS_LOAD;
	if (head.len > (is_session ? FS_SESSION_MAX : FS_MESSAGE_MAX) || head.room > (is_session ? FS_SESSION_MAX : FS_MESSAGE_MAX) ||
	    transfer(read, in, head.len) < 0)
		return -1;
	if (head.cookie == FS_SAVE)
		return answer(head, share_save(s, body, head.room));
	if (head.cookie == FS_LOAD)
		return answer(head, load(s, &head, (char *)body));
	if (head.room < FS_ROOM_MIN) { /* what is said needs no answer, or gets none */
		share_request(s, in, head.len, body, FS_ROOM_MIN);
		return 0;
	}
	return answer(head, share_request(s, in, head.len, body, head.room));
}

/* How many descriptors there may be. */
static unsigned raise_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return 256;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	return limit.rlim_max > 65536 ? 65536 : (unsigned)limit.rlim_max;
}

static int open_root(const char *path, struct err *err)
{
	int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? err_sys(err, errno, "--share: %s", path) : fd;
}

static void shut_in(int root, bool readonly)
{
#ifndef LODGE_SANITIZED /* whose runtime makes system calls of its own */
	sandbox_alone("share", &(struct sandbox_needs){.shares = &root, .readonly = readonly});
#else
	(void)root, (void)readonly;
#endif
}

int main(int argc, char **argv)
{
	bool readonly = argc == 3 && strcmp(argv[2], "ro") == 0;
	struct share *s = NULL;
	struct err err = {0};
	unsigned limit;
	int root;

	if (argc != 3 || isatty(LODGE)) {
		fputs("lodge-share: is started by lodge (lodge help run)\n", stderr);
		return 2;
	}
	closefrom(STDERR_FILENO + 1); /* whatever who has started lodge had open */
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN); /* a file as long as ulimit -f allows is an error for the guest */
	umask(0); /* the guest has one of its own */
	limit = raise_limit();
	root = open_root(argv[1], &err);
	if (root >= 0) {
		s = share_create(root, readonly, limit > 2 * SPARE ? limit - SPARE : SPARE);
		in = malloc(FS_SESSION_MAX);
		out = malloc(sizeof(struct fs_head) + FS_SESSION_MAX);
		if (!s || !in || !out)
			err_set(&err, ENOMEM, "no memory");
	}
	beside_answer(&err);
	if (err.code || open("/dev/null", O_WRONLY) != STDOUT_FILENO)
		return 1;
	shut_in(root, readonly);
	while (serve(s) == 0)
		;
	return 0;
}

/* SPDX-License-Identifier: MIT */
/* See client.h. A guest's lodge is not trusted more than its guest: its answers are bounded, and checked. */
#include "client.h"

#include "base/err.h"
#include "base/json.h"
#include "base/json_read.h"
#include "base/scoped.h"
#include "failure.h"
#include "place.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* -- Which guest -------------------------------------------------------------------------- */

static int find_only(const char *dir, struct err *err)
{
	scoped_mem long *pids = NULL;
	int n = place_list(dir, &pids);
	scoped_fd int found = -1;

	for (int i = 0; i < n; i++) {
		scoped_fd int fd = place_connect(dir, pids[i], 0);

		if (fd >= 0 && found >= 0)
			return err_set(err, EBUSY, "several guests run: say which one (lodge ps lists them)");
		if (fd >= 0)
			found = keep_fd(&fd);
	}
	return found >= 0 ? keep_fd(&found) : err_set(err, ENOENT, "no guest is running");
}

static int find_pid(const char *dir, const char *text, struct err *err)
{
	char *end;
	long pid = strtol(text, &end, 10);
	int fd = *end || pid > INT_MAX ? -ENOENT : place_connect(dir, pid, 0);

	return fd >= 0 ? fd : err_set(err, ENOENT, "no guest runs in process %s", text);
}

static int find_name(const char *dir, const char *name, struct err *err)
{
	long pid = place_is_name(name) ? place_pid(dir, name) : 0;
	int fd = pid ? place_connect(dir, pid, 0) : -ENOENT;

	return fd >= 0 ? fd : err_set(err, ENOENT, "no guest has the name '%s'", name);
}

int client_connect(const char *vm, struct err *err)
{
	char dir[PLACE_MAX];
	int rc = place_find(dir, false, err);

	signal(SIGPIPE, SIG_IGN);
	if (rc < 0)
		return rc;
	if (!vm)
		return find_only(dir, err);
	return isdigit((unsigned char)vm[0]) ? find_pid(dir, vm, err) : find_name(dir, vm, err);
}

/* -- Asking ------------------------------------------------------------------------------- */

static int tell_gone(struct err *err)
{
	if (errno == EAGAIN || errno == EWOULDBLOCK)
		return err_set(err, EAGAIN, "the guest's lodge does not answer");
	return err_set(err, ESHUTDOWN, "the guest's lodge is gone");
}

static int send_line(int fd, const char *line, int file, struct err *err)
{
	char room[CMSG_SPACE(sizeof(int))] __attribute__((aligned(8))) = {0};
	struct iovec iov = {(char *)line, strlen(line)};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	struct cmsghdr *m;

	if (file >= 0) {
		msg.msg_control = room;
		msg.msg_controllen = sizeof(room);
		m = CMSG_FIRSTHDR(&msg);
		m->cmsg_level = SOL_SOCKET;
		m->cmsg_type = SCM_RIGHTS;
		m->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(m), &file, sizeof(int));
	}
	return sendmsg(fd, &msg, MSG_NOSIGNAL) == (ssize_t)iov.iov_len ? 0 : tell_gone(err);
}

static void keep_files(struct msghdr *msg, struct client_files *files)
{
	for (struct cmsghdr *m = CMSG_FIRSTHDR(msg); m; m = CMSG_NXTHDR(msg, m)) {
		size_t n = (m->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (m->cmsg_level != SOL_SOCKET || m->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < n; i++) {
			int file;

			memcpy(&file, CMSG_DATA(m) + i * sizeof(int), sizeof(int));
			if (files->n < CLIENT_FILES)
				files->fd[files->n++] = file;
			else
				close(file);
		}
	}
}

/* The kernel closes what there is no room for. */
static ssize_t receive(int fd, char *to, size_t room, struct client_files *files)
{
	char control[CMSG_SPACE(CLIENT_FILES * sizeof(int))] __attribute__((aligned(8)));
	struct iovec iov = {to, room};
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control,
		.msg_controllen = files ? CMSG_LEN(CLIENT_FILES * sizeof(int)) : 0,
	};
	ssize_t n = recvmsg(fd, &msg, MSG_CMSG_CLOEXEC);

	if (n > 0 && files)
		keep_files(&msg, files);
	return n;
}

/* Up to the end of the line. */
static int read_line(int fd, char **text, size_t *len, struct client_files *files, struct err *err)
{
	size_t room = 0;

	*len = 0;
	do {
		ssize_t n;

		if (*len == room) {
			char *more = realloc(*text, room += 1 << 14);

			if (!more)
				return err_set(err, ENOMEM, "no memory");
			*text = more;
		}
		n = receive(fd, *text + *len, room - *len, files);
		if (n == 0)
			errno = EPIPE;
		if (n <= 0)
			return tell_gone(err);
		*len += (size_t)n;
	} while ((*text)[*len - 1] != '\n' && *len <= JSON_TEXT_MAX);
	return 0;
}

/* {"error": {"kind": ..., "text": ...}} */
static int check_error(const struct json_value *answer, struct err *err)
{
	const struct json_value *e = json_find(answer, "error");
	const char *kind, *text;
	struct err bad;

	if (!e)
		return 0;
	if (json_get_str(e, "kind", &kind, &bad) < 0 || json_get_str(e, "text", &text, &bad) < 0)
		return err_set(err, EIO, "the guest's lodge says that something went wrong");
	return err_set(err, failure_code(kind), "%s", text);
}

static int read_answer(int fd, struct client_files *files, struct json_value **answer,
		       struct err *err)
{
	scoped_mem char *text = NULL;
	size_t len = 0;
	int rc = read_line(fd, &text, &len, files, err);

	*answer = NULL;
	if (rc == 0 && (rc = json_parse(answer, text, len, err)) < 0)
		err_at(err, rc, "the guest's lodge answers");
	if (rc == 0)
		rc = check_error(*answer, err);
	if (rc < 0) {
		free(*answer);
		*answer = NULL;
	}
	return rc;
}

int client_ask(int fd, const char *line, int file, struct json_value **answer, struct err *err)
{
	int rc = send_line(fd, line, file, err);

	*answer = NULL;
	return rc < 0 ? rc : read_answer(fd, NULL, answer, err);
}

int client_ask_files(int fd, const char *line, struct client_files *files,
		     struct json_value **answer, struct err *err)
{
	int rc = send_line(fd, line, -1, err);

	*answer = NULL;
	files->n = 0;
	if (rc == 0)
		rc = read_answer(fd, files, answer, err);
	while (rc < 0 && files->n)
		close(files->fd[--files->n]);
	return rc;
}

int client_do(const char *vm, const char *line, struct json_value **answer, struct err *err)
{
	scoped_fd int fd = client_connect(vm, err);

	*answer = NULL;
	return fd < 0 ? fd : client_ask(fd, line, -1, answer, err);
}

/* A guest's lodge closes the socket last of all. */
int client_wait_end(int fd, int ms, struct err *err)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	char rest[256];

	for (;;) {
		int rc = poll(&p, 1, ms);

		if (rc == 0)
			return err_set(err, ETIMEDOUT, "the guest still runs");
		if (rc > 0 && recv(fd, rest, sizeof(rest), 0) <= 0)
			return 0;
	}
}

/* -- Printing ----------------------------------------------------------------------------- */

static void put_clean(const char *text, int width)
{
	for (; *text; text++, width--)
		putchar((unsigned char)*text < ' ' || *text == 0x7f ? '?' : *text);
	for (; width > 0; width--)
		putchar(' ');
}

void client_print(const char *key, const char *value)
{
	put_clean(key, 16);
	putchar(' ');
	put_clean(value, 0);
	putchar('\n');
}

void client_print_json(const struct json_value *answer)
{
	struct json j = {.out = stdout};

	json_copy(&j, NULL, answer);
}

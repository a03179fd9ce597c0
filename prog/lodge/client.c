/* SPDX-License-Identifier: MIT */
/* See client.h. A guest's lodge is not trusted more than its guest: its answers are bounded, and checked. */
#include "client.h"

#include "base/err.h"
#include "base/json.h"
#include "base/json_read.h"
#include "base/scoped.h"
#include "failure.h"
#include "loop/loop.h"
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

int client_find(const char *vm, struct err *err)
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

int client_connect(const char *vm, struct err *err)
{
	scoped_fd int fd = client_find(vm, err);
	int rc = fd < 0 ? fd : client_greet(fd, err);

	return rc < 0 ? rc : keep_fd(&fd);
}

/* -- Sending ------------------------------------------------------------------------------ */

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

static int send_command(int fd, const char *command, const char *args, int file, struct err *err)
{
	scoped_mem char *line = NULL;

	if (asprintf(&line, "{\"execute\": \"%s\", \"arguments\": %s}\n", command, args ? args : "{}") < 0) {
		line = NULL;
		return err_set(err, ENOMEM, "no memory");
	}
	return send_line(fd, line, file, err);
}

/* -- Receiving ---------------------------------------------------------------------------- */

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

/* How many of the bytes that are there belong to this line: they are looked at before they are taken, so that none of the next line is. */
static ssize_t peek(int fd, char *to, size_t room)
{
	ssize_t n = recv(fd, to, room, MSG_PEEK);
	const char *end = n > 0 ? memchr(to, '\n', (size_t)n) : NULL;

	return end ? end - to + 1 : n;
}

/* Whether more time has gone than a socket's owner gives it (SO_RCVTIMEO): many small pieces are no answer either. */
static bool is_impatient(int fd, uint64_t begin)
{
	struct timeval t = {0};
	socklen_t len = sizeof(t);

	getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, &len);
	return (t.tv_sec || t.tv_usec) && loop_now() - begin > (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_usec * 1000u;
}

/* Up to the end of the line. */
static int read_line(int fd, char **text, size_t *len, struct client_files *files, struct err *err)
{
	uint64_t begin = loop_now();
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
		n = peek(fd, *text + *len, room - *len);
		if (n > 0)
			n = receive(fd, *text + *len, (size_t)n, files);
		if (n > 0 && is_impatient(fd, begin))
			n = 0;
		if (n == 0)
			errno = EPIPE;
		if (n <= 0)
			return tell_gone(err);
		*len += (size_t)n;
	} while ((*text)[*len - 1] != '\n' && *len <= JSON_TEXT_MAX);
	return 0;
}

static int read_value(int fd, struct client_files *files, struct json_value **value, struct err *err)
{
	scoped_mem char *text = NULL;
	size_t len = 0;
	int rc = read_line(fd, &text, &len, files, err);

	*value = NULL;
	if (rc == 0 && (rc = json_parse(value, text, len, err)) < 0)
		err_at(err, rc, "the guest's lodge answers");
	return rc;
}

/* {"error": {"class": ..., "desc": ..., "x-lodge-kind": ...}} */
static int tell_error(const struct json_value *e, struct err *err)
{
	const char *kind, *text;
	struct err bad;

	if (json_get_str(e, "x-lodge-kind", &kind, &bad) < 0 || json_get_str(e, "desc", &text, &bad) < 0)
		return err_set(err, EIO, "the guest's lodge says that something went wrong");
	err_set(err, failure_code(kind), "%s", text);
	err_harmless(err->text); /* its lodge may be the guest's by now, and this is for a terminal */
	return -err->code;
}

/* Makes an answer what it returns: that is a part of the same memory. */
static int take_return(struct json_value *answer, struct err *err)
{
	const struct json_value *value = json_find(answer, "return"), *e = json_find(answer, "error");

	if (!value)
		return e ? tell_error(e, err) : err_set(err, EIO, "the guest's lodge answers with neither a value nor an error");
	*answer = *value;
	answer->key = NULL;
	answer->next = NULL;
	return 0;
}

/* Events that come before it are nothing to us. */
static int read_answer(int fd, struct client_files *files, struct json_value **answer, struct err *err)
{
	uint64_t begin = loop_now();
	int rc;

	do {
		free(*answer);
		rc = read_value(fd, files, answer, err);
		if (rc == 0 && is_impatient(fd, begin))
			rc = err_set(err, ETIMEDOUT, "the guest's lodge does not answer");
	} while (rc == 0 && json_find(*answer, "event"));
	if (rc == 0)
		rc = take_return(*answer, err);
	if (rc < 0) {
		free(*answer);
		*answer = NULL;
	}
	return rc;
}

/* -- Asking ------------------------------------------------------------------------------- */

static int hear_greeting(int fd, struct err *err)
{
	scoped_mem struct json_value *greeting = NULL;
	int rc = read_value(fd, NULL, &greeting, err);

	if (rc == 0 && !json_find(greeting, "QMP"))
		rc = err_set(err, EIO, "what listens at the guest's socket speaks no QMP");
	return rc;
}

int client_greet(int fd, struct err *err)
{
	scoped_mem struct json_value *answer = NULL;
	int rc = hear_greeting(fd, err);

	return rc < 0 ? rc : client_ask(fd, "qmp_capabilities", NULL, -1, &answer, err);
}

int client_give(int fd, const char *command, const char *args, int file, struct json_value **answer, struct err *err)
{
	int rc = send_command(fd, command, args, file, err);

	*answer = NULL;
	return rc < 0 ? rc : read_answer(fd, NULL, answer, err);
}

int client_ask(int fd, const char *command, const char *args, int file, struct json_value **answer, struct err *err)
{
	int rc = 0;

	*answer = NULL;
	if (file >= 0)
		rc = client_give(fd, "getfd", "{\"fdname\": \"" CLIENT_FILE "\"}", file, answer, err);
	free(*answer);
	return rc < 0 ? rc : client_give(fd, command, args, -1, answer, err);
}

int client_ask_files(int fd, const char *command, const char *args, struct client_files *files,
		     struct json_value **answer, struct err *err)
{
	int rc = send_command(fd, command, args, -1, err);

	*answer = NULL;
	files->n = 0;
	if (rc == 0)
		rc = read_answer(fd, files, answer, err);
	while (rc < 0 && files->n)
		close(files->fd[--files->n]);
	return rc;
}

int client_do(const char *vm, const char *command, const char *args, struct json_value **answer, struct err *err)
{
	scoped_fd int fd = client_connect(vm, err);

	*answer = NULL;
	return fd < 0 ? fd : client_ask(fd, command, args, -1, answer, err);
}

static bool is_event(const struct json_value *v, const char *event, const char *device)
{
	const struct json_value *name = json_find(v, "event"), *data = json_find(v, "data"), *who = data ? json_find(data, "device") : NULL;

	return name && name->type == JSON_STRING && strcmp(name->text, event) == 0 && who && who->type == JSON_STRING && strcmp(who->text, device) == 0;
}

int client_wait_device(int fd, const char *event, const char *device, struct err *err)
{
	bool heard = false;
	int rc = 0;

	while (rc == 0 && !heard) {
		scoped_mem struct json_value *v = NULL;

		rc = read_value(fd, NULL, &v, err);
		heard = rc == 0 && is_event(v, event, device);
	}
	return rc;
}

/* A guest's lodge closes the socket last of all; events that come before are no end, and no reason to wait longer. */
int client_wait_end(int fd, int ms, struct err *err)
{
	uint64_t end = loop_now() + (uint64_t)ms * 1000000, now;
	struct pollfd p = {.fd = fd, .events = POLLIN};
	char rest[256];

	while ((now = loop_now()) < end || ms < 0) {
		int rc = poll(&p, 1, ms < 0 ? -1 : (int)((end - now) / 1000000 + 1));

		if (rc > 0 && recv(fd, rest, sizeof(rest), 0) <= 0)
			return 0;
	}
	return err_set(err, ETIMEDOUT, "the guest still runs");
}

/* -- Printing ----------------------------------------------------------------------------- */

static void put_clean(const char *text, int width)
{
	scoped_mem char *clean = strdup(text);

	if (clean) {
		err_harmless(clean);
		printf("%-*s", width, clean);
	}
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

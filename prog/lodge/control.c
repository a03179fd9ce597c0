/* SPDX-License-Identifier: MIT */
/*
 * The server side of the control socket. It is served by the session's loop, one client at a
 * time and never blocking: a client that sends nothing is dropped when the next one comes.
 *
 * Who may connect: whoever may enter the directory, which is the user alone (0700). The
 * place is $XDG_RUNTIME_DIR/lodge, or /tmp/lodge-UID where that is not set. In /tmp anybody can
 * make that name first, and would be the guest whose counters are shown; so it is used, by both
 * ends, only if it is a directory of this user that nobody else may enter.
 */
#include "control.h"

#include "base/err.h"
#include "base/json.h"
#include "base/macros.h"
#include "base/scoped.h"
#include "engine/kvm.h"
#include "machine/machine.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define STATS_MAX 256

struct control {
	struct machine *machine;
	const struct machine_config *config;
	char dir[80];
	struct sockaddr_un addr;
	struct timespec started;
	int listen, client;
	char line[256];
	size_t len;
};

/* -- The place -------------------------------------------------------------------------- */

static int check_dir(const char *path, struct err *err)
{
	struct stat st;

	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : err_sys(err, errno, "%s", path);
	if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 077))
		return err_set(err, EPERM, "%s is not a directory that is yours alone",
			       path);
	return 0;
}

int control_dir(char *path, size_t len, int make, struct err *err)
{
	const char *base = getenv("XDG_RUNTIME_DIR");
	int n;

	if (base && base[0] == '/')
		n = snprintf(path, len, "%s/lodge", base);
	else
		n = snprintf(path, len, "/tmp/lodge-%u", (unsigned)geteuid());
	if (n < 0 || (size_t)n >= len)
		return err_set(err, ENAMETOOLONG, "XDG_RUNTIME_DIR is too long");
	if (make && mkdir(path, 0700) < 0 && errno != EEXIST)
		return err_sys(err, errno, "%s", path);
	return check_dir(path, err);
}

long control_pid(const char *name)
{
	char *end;
	long pid = strtol(name, &end, 10);

	return pid > 0 && strcmp(end, ".sock") == 0 ? pid : 0;
}

int control_connect(const char *dir, long pid, int flags)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	scoped_fd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);

	if (fd < 0)
		return -errno;
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%.80s/%ld.sock", dir, pid);
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0)
		return keep_fd(&fd);
	if (errno == ECONNREFUSED)
		unlink(addr.sun_path);
	return -errno;
}

/* The processes that are there are left in peace. (A socket's may be in another container.) */
static void sweep(const char *path)
{
	DIR *dir = opendir(path);
	const struct dirent *e;

	while (dir && (e = readdir(dir))) {
		long pid = control_pid(e->d_name);
		bool gone = pid && kill((pid_t)pid, 0) < 0 && errno == ESRCH;
		int fd = gone ? control_connect(path, pid, SOCK_NONBLOCK) : -1;

		if (fd >= 0)
			close(fd);
	}
	if (dir)
		closedir(dir);
}

/* -- The socket ------------------------------------------------------------------------- */

int control_open(struct control **out, struct machine *machine,
		 const struct machine_config *config, struct err *err)
{
	struct control *c = calloc(1, sizeof(*c));
	int rc;

	*out = NULL;
	if (!c)
		return err_set(err, ENOMEM, "no memory");
	c->machine = machine;
	c->config = config;
	c->listen = c->client = -1;
	c->addr.sun_family = AF_UNIX;
	clock_gettime(CLOCK_MONOTONIC, &c->started);
	rc = control_dir(c->dir, sizeof(c->dir), 1, err);
	if (rc == 0) {
		sweep(c->dir);
		snprintf(c->addr.sun_path, sizeof(c->addr.sun_path), "%s/%d.sock", c->dir,
			 (int)getpid());
		unlink(c->addr.sun_path); /* of a process that had our number before */
		c->listen =
			socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		if (c->listen < 0 ||
		    bind(c->listen, (struct sockaddr *)&c->addr, sizeof(c->addr)) < 0 ||
		    listen(c->listen, 4) < 0)
			rc = err_sys(err, errno, "%s", c->addr.sun_path);
	}
	if (rc < 0) {
		c->addr.sun_path[0] = 0;
		control_close(c);
		return rc;
	}
	*out = c;
	return 0;
}

const char *control_place(const struct control *c)
{
	return c->dir;
}

static void drop_client(struct control *c)
{
	if (c->client >= 0)
		close(c->client);
	c->client = -1;
	c->len = 0;
}

void control_close(struct control *c)
{
	if (!c)
		return;
	drop_client(c);
	if (c->listen >= 0)
		close(c->listen);
	if (c->addr.sun_path[0])
		unlink(c->addr.sun_path);
	free(c);
}

/* -- Requests --------------------------------------------------------------------------- */

static double seconds_since(const struct timespec *start)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)(now.tv_sec - start->tv_sec) +
	       (double)(now.tv_nsec - start->tv_nsec) / 1e9;
}

static void do_stats(struct control *c, struct json *j)
{
	struct kvm_stat stats[STATS_MAX];
	int n = machine_stats(c->machine, stats, STATS_MAX);

	json_uint(j, "pid", (uint64_t)getpid());
	json_str(j, "engine", c->config->face->name);
	json_uint(j, "cpus", c->config->cpus);
	json_uint(j, "memory", c->config->memory);
	json_str(j, "kernel", c->config->kernel);
	json_str(j, "boot", machine_boot_text(c->machine));
	json_real(j, "seconds", seconds_since(&c->started));
	json_open(j, "counters", '{');
	for (int i = 0; i < n && i < STATS_MAX; i++)
		json_uint(j, stats[i].name, stats[i].value);
	json_close(j);
}

static void do_powerdown(struct control *c, struct json *j)
{
	machine_power_button(c->machine);
	json_bool(j, "ok", true);
}

static void do_stop(struct control *c, struct json *j)
{
	machine_stop(c->machine);
	json_bool(j, "ok", true);
}

static const struct {
	const char *line; /* without spaces */
	void (*run)(struct control *c, struct json *j);
} requests[] = {
	{"{\"do\":\"stats\"}", do_stats},
	{"{\"do\":\"powerdown\"}", do_powerdown},
	{"{\"do\":\"stop\"}", do_stop},
};

static void remove_spaces(char *s)
{
	char *to = s;

	for (; *s; s++)
		if (*s != ' ' && *s != '\t' && *s != '\r')
			*to++ = *s;
	*to = 0;
}

static void answer(struct control *c)
{
	char *text = NULL;
	size_t len = 0;
	struct json j = {.out = open_memstream(&text, &len)};
	unsigned i;

	if (!j.out)
		return;
	remove_spaces(c->line);
	json_open(&j, NULL, '{');
	for (i = 0; i < ARRAY_SIZE(requests); i++)
		if (strcmp(requests[i].line, c->line) == 0)
			break;
	if (i < ARRAY_SIZE(requests))
		requests[i].run(c, &j);
	else
		json_str(&j, "error", "there is no such request");
	json_close(&j);
	fclose(j.out);
	/* A few KiB fit any socket's buffer; a client that closed already gets nothing. */
	send(c->client, text, len, MSG_NOSIGNAL | MSG_DONTWAIT);
	free(text);
}

static void read_client(struct control *c)
{
	ssize_t n = recv(c->client, c->line + c->len, sizeof(c->line) - 1 - c->len, 0);
	char *end;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0) {
		c->len += (size_t)n;
		c->line[c->len] = 0;
		end = memchr(c->line, '\n', c->len);
		if (!end && c->len < sizeof(c->line) - 1)
			return;
		if (end) {
			*end = 0;
			answer(c);
		}
	}
	drop_client(c);
}

void control_poll(const struct control *c, struct pollfd *listening,
		  struct pollfd *client)
{
	*listening = (struct pollfd){.fd = c ? c->listen : -1, .events = POLLIN};
	*client = (struct pollfd){.fd = c ? c->client : -1, .events = POLLIN};
}

void control_serve(struct control *c, const struct pollfd *listening,
		   const struct pollfd *client)
{
	if (!c)
		return;
	if (client->revents)
		read_client(c);
	if (listening->revents) {
		int fd = accept4(c->listen, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd < 0)
			return;
		drop_client(c);
		c->client = fd;
	}
}

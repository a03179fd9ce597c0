/* SPDX-License-Identifier: MIT */
/*
 * See display.h. All that lodge-vnc needs is opened here, before the sandbox closes: a socket that listens, memory for the picture, and a
 * socket between the two (vnc/link.h). What it asks for then is drawn in the event loop's thread; what its viewers type goes to the
 * guest. If it ends, or says what it cannot mean, the guest goes on without.
 */
#include "display.h"

#include "base/err.h"
#include "base/log.h"
#include "base/memfile.h"
#include "base/scoped.h"
#include "beside.h"
#include "display/surface.h"
#include "loop/loop.h"
#include "machine/screen.h"
#include "uri.h"
#include "vnc/link.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define FIRST_PORT 5900u
#define N_MAX      999u
#define HOST_MAX   256

struct display {
	int link; /* to lodge-vnc; -1: it has ended */
	struct machine *machine;
	struct surface picture;
	struct loop_source source;
	bool has_password;
	char place[HOST_MAX + 16];
};

/* -- What --display says ------------------------------------------------------------- */

struct where {
	bool none;
	const char *path; /* of a socket; NULL: TCP, at */
	char host[HOST_MAX];
	char port[8];
};

static int makes_no_sense(const char *text, struct err *err)
{
	return err_set(err, ERANGE, "--display '%s': it is none, vnc=HOST[:N] or vnc=unix:PATH, where N is 0 to %u (an IPv6 address "
		       "stands in brackets)", text, N_MAX);
}

/* HOST, HOST:N, :N, [::1]:N */
static int parse_host(struct where *w, const char *text, const char *all, struct err *err)
{
	const char *colon = strrchr(text, ':'), *end = strchr(text, ']');
	size_t len = colon && !(end && colon < end) ? (size_t)(colon - text) : strlen(text);
	char *rest = NULL;
	unsigned long n = 0;

	if (text[len] == ':') {
		n = strtoul(text + len + 1, &rest, 10);
		if (!text[len + 1] || *rest || n > N_MAX || text[len + 1] < '0' || text[len + 1] > '9')
			return makes_no_sense(all, err);
	}
	if (text[0] == '[' && len > 2 && text[len - 1] == ']') {
		text++;
		len -= 2;
	} else if (memchr(text, ':', len)) {
		return makes_no_sense(all, err);
	}
	if (len >= HOST_MAX)
		return makes_no_sense(all, err);
	snprintf(w->host, sizeof(w->host), "%.*s", (int)len, text);
	if (!len)
		strcpy(w->host, "127.0.0.1"); /* SAFE: it has room */
	snprintf(w->port, sizeof(w->port), "%lu", FIRST_PORT + n);
	return 0;
}

static int parse(struct where *w, const char *text, struct err *err)
{
	*w = (struct where){.none = strcmp(text, "none") == 0};
	if (w->none)
		return 0;
	if (strncmp(text, "vnc=", 4) != 0)
		return makes_no_sense(text, err);
	if (strncmp(text + 4, "unix:", 5) == 0 && text[9]) {
		w->path = text + 9;
		return 0;
	}
	return parse_host(w, text + 4, text, err);
}

int display_check(const char *text, struct err *err)
{
	struct where w;

	return parse(&w, text, err);
}

/* -- Opening --------------------------------------------------------------------------- */

static bool is_here(const struct addrinfo *a)
{
	if (a->ai_family == AF_INET)
		return ntohl(((const struct sockaddr_in *)(const void *)a->ai_addr)->sin_addr.s_addr) >> 24 == 127;
	return a->ai_family == AF_INET6 &&
	       IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)(const void *)a->ai_addr)->sin6_addr);
}

static int bind_to(const struct addrinfo *a)
{
	int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), one = 1, why;

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)); /* those that are accepted have it, too */
	if (bind(fd, a->ai_addr, a->ai_addrlen) == 0 && listen(fd, 16) == 0)
		return fd;
	why = errno;
	close(fd);
	return -why;
}

/* Whoever reaches it without a password has the guest's screen and keyboard. */
static int listen_at(const struct where *w, bool has_password, struct err *err)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *list;
	int rc = getaddrinfo(w->host, w->port, &hints, &list);

	if (rc)
		return err_set(err, ENOENT, "--display: %s: %s", w->host, rc == EAI_SYSTEM ? strerror(errno) : gai_strerror(rc));
	if (!has_password && !is_here(list))
		rc = err_set(err, ERANGE, "--display: %s is not this computer alone: that takes --vnc-password FILE", w->host);
	else if ((rc = bind_to(list)) < 0)
		err_sys(err, -rc, "--display: %s port %s", w->host, w->port);
	freeaddrinfo(list);
	return rc;
}

static int read_password(const char *file, char password[LINK_PASSWORD_MAX], struct err *err)
{
	char line[256] = "";
	FILE *f = fopen(file, "re");

	if (!f)
		return err_sys(err, errno, "--vnc-password: %s", file);
	if (!fgets(line, sizeof(line), f))
		line[0] = 0;
	fclose(f);
	line[strcspn(line, "\r\n")] = 0;
	if (!line[0])
		return err_set(err, ERANGE, "--vnc-password: the first line of '%s' is empty: it is the password", file);
	if (strlen(line) > LINK_PASSWORD_MAX)
		return err_set(err, ERANGE, "--vnc-password: a password of VNC has at most %d bytes, and that in '%s' has %zu",
			       LINK_PASSWORD_MAX, file, strlen(line));
	memcpy(password, line, strlen(line)); /* SAFE: as long at most */
	return 0;
}

/* With its three descriptors, which may be anything now. */
static void become_vnc(const char *program, int link, int picture, int listening)
{
	int fds[3] = {fcntl(link, F_DUPFD, 10), fcntl(picture, F_DUPFD, 10), fcntl(listening, F_DUPFD, 10)};

	setsid();
	dup2(fds[0], LINK_LODGE);
	dup2(fds[1], LINK_PICTURE);
	dup2(fds[2], LINK_LISTEN);
	execl(program, program, (char *)NULL);
	_exit(127);
}

/* Nobody's child, as those of beside.c. */
static int start_vnc(struct display *d, int picture, int listening, struct err *err)
{
	char path[PATH_MAX];
	const char *program = beside_program(path, "lodge-vnc");
	int ends[2];
	pid_t pid;

	if (access(program, X_OK) < 0)
		return err_sys(err, errno, "--display: %s", program);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return err_sys(err, errno, "a pair of sockets");
	pid = fork();
	if (pid == 0) {
		if (fork() == 0)
			become_vnc(program, ends[1], picture, listening);
		_exit(0);
	}
	close(ends[1]);
	d->link = ends[0];
	fcntl(d->link, F_SETFL, O_NONBLOCK);
	if (pid < 0)
		return err_sys(err, errno, "a process");
	waitpid(pid, NULL, 0);
	return 0;
}

static int make_picture(struct display *d, struct err *err)
{
	int fd = memfile_create("lodge-picture", SURFACE_PIXELS_MAX * 4);
	void *at = fd < 0 ? MAP_FAILED : mmap(NULL, SURFACE_PIXELS_MAX * 4, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);

	if (fd < 0)
		return err_sys(err, -fd, "memory for a picture");
	if (at == MAP_FAILED) {
		close(fd);
		return err_sys(err, errno, "memory for a picture");
	}
	madvise(at, SURFACE_PIXELS_MAX * 4, MADV_DONTDUMP);
	d->picture = (struct surface){.pixels = at, .room = SURFACE_PIXELS_MAX};
	return fd;
}

static bool say(struct display *d, const struct link_message *m)
{
	return send(d->link, m, sizeof(*m), MSG_DONTWAIT | MSG_NOSIGNAL) == sizeof(*m);
}

static int open_vnc(struct display *d, const struct where *w, const char *password, struct err *err)
{
	struct link_message m = {.what = LINK_PASSWORD};
	int rc = password ? read_password(password, m.password, err) : 0;
	scoped_fd int listening = rc < 0 ? -1 : w->path ? uri_listen(w->path, err) : listen_at(w, password, err);
	scoped_fd int picture = -1;

	if (rc < 0 || listening < 0)
		return rc < 0 ? rc : listening;
	fcntl(listening, F_SETFL, O_NONBLOCK);
	picture = make_picture(d, err);
	if (picture < 0)
		return picture;
	rc = start_vnc(d, picture, listening, err);
	if (rc == 0 && !say(d, &m))
		rc = err_set(err, EIO, "--display: lodge-vnc has ended");
	if (w->path)
		snprintf(d->place, sizeof(d->place), "unix:%s", w->path);
	else
		snprintf(d->place, sizeof(d->place), "%s:%s", w->host, w->port);
	return rc;
}

int display_open(struct display **out, const char *text, const char *password, struct err *err)
{
	struct display *d;
	struct where w;
	int rc = parse(&w, text, err);

	*out = NULL;
	if (rc < 0 || w.none)
		return rc == 0 && password ? err_set(err, ERANGE, "--vnc-password is for --display vnc=...") : rc;
	d = calloc(1, sizeof(*d));
	if (!d)
		return err_set(err, ENOMEM, "no memory");
	d->link = -1;
	d->has_password = password;
	rc = open_vnc(d, &w, password, err);
	if (rc < 0)
		display_close(d);
	else
		*out = d;
	return rc;
}

void display_close(struct display *d)
{
	if (!d)
		return;
	if (d->link >= 0)
		close(d->link);
	if (d->picture.pixels)
		munmap(d->picture.pixels, SURFACE_PIXELS_MAX * 4);
	free(d);
}

const char *display_place(const struct display *d)
{
	return d->place;
}

bool display_has_password(const struct display *d)
{
	return d->has_password;
}

/* -- The loop ------------------------------------------------------------------------------ */

static void give_up(struct display *d)
{
	log_warn("display", "lodge-vnc has ended: the guest goes on without it");
	close(d->link);
	d->link = -1;
}

static void draw(struct display *d)
{
	struct link_message m = {.what = LINK_SHOWN};

	machine_show(d->machine, &d->picture);
	m.width = d->picture.width;
	m.height = d->picture.height;
	m.down = machine_can_resize(d->machine);
	say(d, &m); /* it has room for one, or is gone */
}

static uint64_t prepare(void *ctx, struct pollfd *p)
{
	*p = (struct pollfd){((struct display *)ctx)->link, POLLIN, 0};
	return LOOP_NEVER;
}

static void serve(void *ctx, const struct pollfd *p)
{
	struct display *d = ctx;
	struct link_message m;
	ssize_t n = d->link >= 0 && p->revents ? read(d->link, &m, sizeof(m)) : -1;

	if (d->link < 0 || !p->revents || (n < 0 && (errno == EAGAIN || errno == EINTR)))
		return;
	if (n != sizeof(m))
		give_up(d);
	else if (m.what == LINK_SHOW)
		draw(d);
	else if (m.what == LINK_KEY)
		machine_key(d->machine, m.key, m.down);
	else if (m.what == LINK_RESIZE)
		machine_resize(d->machine, m.width, m.height);
	else if (m.what == LINK_POINTER)
		machine_point(d->machine, &(struct machine_pointer){
			.x = m.x, .y = m.y, .width = m.of_x, .height = m.of_y, .dz = m.dz, .buttons = m.buttons});
	else
		give_up(d);
}

int display_serve(struct display *d, struct machine *m, struct loop *loop)
{
	if (!d)
		return 0;
	d->machine = m;
	d->source = (struct loop_source){prepare, serve, d};
	return loop_add(loop, &d->source);
}

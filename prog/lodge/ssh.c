/* SPDX-License-Identifier: MIT */
/*
 * lodge ssh: the user's ssh to a guest, by the port of this computer that leads to the guest's port 22.
 *
 * A guest of an image has another host key each time, and a port that was another guest's before. So host keys are noted in a file of
 * lodge's own, under the process that runs the guest and when it began: the first connection takes the key that it finds, for it
 * goes to a process of the same user, and later ones hold the guest to it.
 *
 * A guest may be anybody's: what the user's own configuration forwards to hosts (an agent with keys, a screen) it does not get, and a
 * connection that is shared (ControlMaster) may be one to the guest that had this port before.
 *
 * The port answers as soon as lodge does; the guest's sshd later. So the first words of the protocol (RFC 4253, 4.2) are waited for.
 */
#include "lodge.h"

#include "base/err.h"
#include "base/json_read.h"
#include "base/log.h"
#include "base/macros.h"
#include "base/scoped.h"
#include "client.h"
#include "failure.h"
#include "image/cloud.h"
#include "nat/forward.h"
#include "place.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SSH       22
#define WORDS_MAX 256
#define OWN_WORDS 32
#define TRY_MS    2000
#define PAUSE_MS  200

struct ssh {
	const char *vm;
	const char *user;
	unsigned timeout;
	char **command;
};

static const struct option options[] = {
	{"--user", "NAME", "who to be there (default: debian)", OPTION_TEXT, offsetof(struct ssh, user), 0, 0, NULL},
	{"--timeout", "SECONDS", "how long the guest may take to answer (default: 120)", OPTION_NUMBER, offsetof(struct ssh, timeout), 1,
	 86400, NULL},
	{0},
};

static const struct ssh defaults = {.user = "debian", .timeout = 120};

struct target {
	struct forward way;
	uint64_t pid;
	char name[PLACE_NAME_MAX];
};

/* -- The way ------------------------------------------------------------------------------ */

static bool find_way(const struct json_value *facts, struct forward *way)
{
	const struct json_value *net = json_find(facts, "net"), *forwards = net ? json_find(net, "forwards") : NULL;
	struct err none;

	for (const struct json_value *f = forwards ? forwards->first : NULL; f; f = f->next)
		if (f->text && forward_parse(way, f->text, &none) == 0 && !way->udp && ntohs(way->to.v4.sin_port) == SSH)
			return true;
	return false;
}

/* From any address to it means from this computer, too. */
static void make_reachable(struct forward *way)
{
	if (way->from.any.sa_family == AF_INET && way->from.v4.sin_addr.s_addr == htonl(INADDR_ANY))
		way->from.v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (way->from.any.sa_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&way->from.v6.sin6_addr))
		way->from.v6.sin6_addr = in6addr_loopback;
}

static int find_target(const char *vm, struct target *t, struct err *err)
{
	struct json_value *facts;
	const char *name = NULL;
	struct err none;
	bool found;
	int rc = client_do(vm, "x-lodge-info", NULL, &facts, err);

	if (rc < 0)
		return rc;
	json_get_uint(facts, "pid", UINT32_MAX, &t->pid, &none);
	json_get_str(facts, "name", &name, &none);
	snprintf(t->name, sizeof(t->name), "%s", name && place_is_name(name) ? name : "guest");
	found = find_way(facts, &t->way);
	free(facts);
	make_reachable(&t->way);
	return found ? 0 : err_set(err, ERANGE, "no port of this computer leads to port 22 of '%s': it is to be started with "
				   "--net user -p 2222:22", vm ? vm : t->name);
}

/* -- Its answer --------------------------------------------------------------------------- */

/* Whether it says "SSH-". -ECONNREFUSED: nobody listens, so the guest is gone. */
static int hear(const struct forward *way)
{
	scoped_fd int fd = socket(way->from.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct pollfd p = {.fd = fd, .events = POLLIN};
	char word[4];

	if (fd < 0 || connect(fd, &way->from.any, way->len) < 0)
		return -errno;
	if (poll(&p, 1, TRY_MS) <= 0 || recv(fd, word, sizeof(word), MSG_WAITALL) != sizeof(word))
		return 0;
	return memcmp(word, "SSH-", 4) == 0;
}

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int wait_for(const struct target *t, unsigned seconds, struct err *err)
{
	int64_t end = now_ms() + seconds * 1000ll;
	bool told = false;
	int rc;

	while ((rc = hear(&t->way)) == 0) {
		if (now_ms() > end)
			return err_set(err, ETIMEDOUT, "'%s' has not answered at its port 22 for %u s: is there an ssh server in it?",
				       t->name, seconds);
		if (!told)
			log_note("ssh", "'%s' does not answer yet: waiting", t->name);
		told = true;
		poll(NULL, 0, PAUSE_MS);
	}
	return rc < 0 ? err_sys(err, -rc, "the port that leads to '%s'", t->name) : 0;
}

/* -- ssh ------------------------------------------------------------------------------------ */

/* When a process began, in the kernel's ticks: its number alone may have been another's. */
static unsigned long long began(uint64_t pid)
{
	char path[64], text[1024], *at;
	unsigned long long ticks = 0;
	FILE *in;
	size_t n;

	snprintf(path, sizeof(path), "/proc/%llu/stat", (unsigned long long)pid);
	in = fopen(path, "re");
	n = in ? fread(text, 1, sizeof(text) - 1, in) : 0;
	if (in)
		fclose(in);
	text[n] = 0;
	at = strrchr(text, ')'); /* the name before it may have anything in it */
	for (unsigned field = 2; at && field < 22; field++)
		at = strchr(at + 1, ' ');
	if (at)
		ticks = strtoull(at, NULL, 10);
	return ticks;
}

/* ssh looks for these by itself only where none is named. */
static unsigned add_keys(const char **argv)
{
	static const char *const names[] = {"id_ed25519", "id_ecdsa", "id_rsa"};
	static char paths[ARRAY_SIZE(names) + 1][PATH_MAX];
	const char *home = getenv("HOME");
	unsigned n = 0;

	if (!cloud_has_own_key(paths[0]))
		return 0;
	for (unsigned i = 0; i <= ARRAY_SIZE(names); i++) {
		if (i > 0 && (!home || snprintf(paths[i], PATH_MAX, "%s/.ssh/%s", home, names[i - 1]) >= PATH_MAX || access(paths[i], R_OK) < 0))
			continue;
		argv[n++] = "-i";
		argv[n++] = paths[i];
	}
	return n;
}

static int become(const struct ssh *s, const struct target *t, struct err *err)
{
	char dir[PLACE_MAX], known[PLACE_MAX + 64], alias[100 + PLACE_NAME_MAX], port[12], host[INET6_ADDRSTRLEN];
	bool is_v6 = t->way.from.any.sa_family == AF_INET6;
	const char *argv[WORDS_MAX + OWN_WORDS];
	unsigned n = 0;
	int rc = place_find(dir, true, err);

	if (rc < 0)
		return rc;
	snprintf(known, sizeof(known), "UserKnownHostsFile=\"%s/known_hosts\"", dir);
	snprintf(alias, sizeof(alias), "HostKeyAlias=%s-%llu-%llu", t->name, (unsigned long long)t->pid, began(t->pid));
	snprintf(port, sizeof(port), "%u", ntohs(t->way.from.v4.sin_port)); /* IPv6 has it at the same place */
	inet_ntop(t->way.from.any.sa_family, is_v6 ? (const void *)&t->way.from.v6.sin6_addr : &t->way.from.v4.sin_addr, host, sizeof(host));
	argv[n++] = "ssh";
	argv[n++] = "-p";
	argv[n++] = port;
	argv[n++] = "-l";
	argv[n++] = s->user;
	for (const char *const *o = (const char *const[]){known, "GlobalKnownHostsFile=/dev/null", alias, "StrictHostKeyChecking=accept-new",
							  "CheckHostIP=no", "LogLevel=ERROR", "ForwardAgent=no", "ForwardX11=no",
							  "ControlPath=none", NULL}; *o; o++) {
		argv[n++] = "-o";
		argv[n++] = *o;
	}
	n += add_keys(argv + n);
	argv[n++] = host;
	if (s->command)
		argv[n++] = "--";
	for (char **c = s->command; c && *c; c++) {
		if (n == ARRAY_SIZE(argv) - 1)
			return err_set(err, ERANGE, "a command has %d words at most", WORDS_MAX);
		argv[n++] = *c;
	}
	argv[n] = NULL;
	execvp("ssh", (char *const *)argv);
	return errno == ENOENT ? err_set(err, ENOENT, "there is no ssh here (Debian's package is openssh-client)")
			       : err_sys(err, errno, "ssh");
}

static int ssh_main(void *parsed)
{
	const struct ssh *s = parsed;
	struct target t = {.pid = 0};
	struct err err = {0};
	int code;

	if (s->command && !s->command[0])
		err_set(&err, ERANGE, "the command behind -- is missing: lodge ssh [VM] -- COMMAND");
	else if (s->user[0] == '-' || !s->user[0])
		err_set(&err, ERANGE, "--user: '%s' is no user's name", s->user);
	else if (find_target(s->vm, &t, &err) == 0 && wait_for(&t, s->timeout, &err) == 0)
		become(s, &t, &err);
	code = report_failure(&err);
	return err.code == ETIMEDOUT ? EXIT_TIMEOUT : code;
}

const struct verb verb_ssh = {
	.name = "ssh",
	.summary = "ssh to a guest, by the port that leads to its port 22",
	.text = VM_TEXT
		"Guests of images have such a port, and take a key of lodge's own besides those of --ssh-key; others are to\n"
		"be started with -p 2222:22. If the guest does not answer yet, it is waited for. The words of a COMMAND are\n"
		"for the guest's shell, as ssh passes them, and the exit code is ssh's. The guest's host key\n"
		"is noted for as long as it runs, in a file of lodge's own.\n",
	.operand = "[VM] [-- COMMAND [ARG]...]",
	.n_operands = 1,
	.rest = offsetof(struct ssh, command),
	.options = options,
	.size = sizeof(struct ssh),
	.defaults = &defaults,
	.main = ssh_main,
};

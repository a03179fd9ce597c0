/* SPDX-License-Identifier: MIT */
/*
 * lodge ps: the guests that run, a line each.
 *
 * A lodge that is stopped (Ctrl-Z), or writes its guest to a file, does not answer: after a moment it is
 * listed as what it is, silent.
 */
#include "lodge.h"

#include "base/err.h"
#include "base/json.h"
#include "base/json_read.h"
#include "base/scoped.h"
#include "base/size.h"
#include "client.h"
#include "failure.h"
#include "place.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#define PATIENCE_S 2

struct ps {
	const char *format;
};

static const struct option options[] = {
	OPTION_JSON(offsetof(struct ps, format)),
	{0},
};

/* NULL if it is silent. */
static struct json_value *ask(int fd)
{
	struct timeval patience = {.tv_sec = PATIENCE_S};
	struct json_value *answer = NULL;
	struct err err;

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	fcntl(fd, F_SETFL, 0);
	if (client_greet(fd, &err) == 0)
		client_ask(fd, "x-lodge-info", NULL, -1, &answer, &err);
	return answer;
}

/* As ps(1) tells for how long a process has run: [[days-]hours:]minutes:seconds. */
static void uptime_text(char text[32], double seconds)
{
	unsigned long s = seconds > 0 && seconds < 1e9 ? (unsigned long)seconds : 0;
	unsigned days = (unsigned)(s / 86400), hours = s / 3600 % 24, minutes = s / 60 % 60;

	if (days)
		snprintf(text, 32, "%u-%02u:%02u:%02lu", days, hours, minutes, s % 60);
	else if (hours)
		snprintf(text, 32, "%02u:%02u:%02lu", hours, minutes, s % 60);
	else
		snprintf(text, 32, "%02u:%02lu", minutes, s % 60);
}

static const char *get(const struct json_value *facts, const char *key)
{
	const char *text = "-";
	struct err err;

	json_get_str(facts, key, &text, &err);
	return place_is_name(text) ? text : "-";
}

/* Of this computer, and the guest's that they lead to: "2222:22,8080:80". */
static void ports_text(char text[256], const struct json_value *facts)
{
	const struct json_value *net = json_find(facts, "net"), *forwards = net ? json_find(net, "forwards") : NULL;
	size_t n = 0;

	text[0] = 0;
	for (const struct json_value *f = forwards ? forwards->first : NULL; f && f->text && n + strlen(f->text) + 2 < 256; f = f->next)
		n += (size_t)snprintf(text + n, 256 - n, "%s%s", n ? "," : "  ", f->text);
	err_printable(text);
}

static void print_row(long pid, const struct json_value *facts)
{
	uint64_t cpus = 0, memory = 0;
	double seconds = 0;
	char size[SIZE_TEXT], uptime[32], ports[256];
	struct err err;

	if (!facts) {
		printf("%-9ld %-16s %s\n", pid, "-", "silent");
		return;
	}
	json_get_uint(facts, "cpus", 9999, &cpus, &err);
	json_get_uint(facts, "memory", UINT64_MAX, &memory, &err);
	json_get_real(facts, "seconds", &seconds, &err);
	uptime_text(uptime, seconds);
	ports_text(ports, facts);
	printf("%-9ld %-16s %-8s %-6s %4u %9s %11s%s\n", pid, get(facts, "name"),
	       get(facts, "state"), get(facts, "engine"), (unsigned)cpus, size_text(size, memory),
	       uptime, ports);
}

static void add_row(struct json *j, long pid, const struct json_value *facts)
{
	if (facts) {
		json_copy(j, NULL, facts);
		return;
	}
	json_open(j, NULL, '{');
	json_uint(j, "pid", (uint64_t)pid);
	json_str(j, "state", "silent");
	json_close(j);
}

static int ps_main(void *parsed)
{
	const struct ps *ps = parsed;
	struct json j = {.out = stdout};
	scoped_mem long *pids = NULL;
	char dir[PLACE_MAX];
	struct err err = {0};
	int n;

	signal(SIGPIPE, SIG_IGN);
	if (place_find(dir, false, &err) < 0)
		return report_failure(&err);
	n = place_list(dir, &pids);
	if (wants_json(ps->format))
		json_open(&j, NULL, '[');
	else
		printf("%-9s %-16s %-8s %-6s %4s %9s %11s  %s\n", "PID", "NAME", "STATE", "ENGINE",
		       "CPUS", "MEMORY", "UPTIME", "PORTS");
	for (int i = 0; i < n; i++) {
		scoped_fd int fd = place_connect(dir, pids[i], SOCK_NONBLOCK);
		scoped_mem struct json_value *facts = fd >= 0 ? ask(fd) : NULL;

		if (fd < 0 && fd != -EAGAIN)
			continue;
		if (wants_json(ps->format))
			add_row(&j, pids[i], facts);
		else
			print_row(pids[i], facts);
	}
	if (wants_json(ps->format))
		json_close(&j);
	return EXIT_OK;
}

const struct verb verb_ps = {
	.name = "ps",
	.alias = "list",
	.summary = "the guests that run",
	.text = "`lodge list` is the same. A guest whose lodge does not answer, because it is stopped or\n"
		"busy with a file, is listed as silent.\n",
	.options = options,
	.size = sizeof(struct ps),
	.main = ps_main,
};

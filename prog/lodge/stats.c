/* SPDX-License-Identifier: MIT */
/*
 * lodge stats: the counters of a running guest, asked for through its control socket.
 *
 * The guest's lodge answers in JSON; for people it is made a table here. A value with a quote or
 * a comma in it, which only the name of a kernel can be, is cut short in the table.
 *
 * Without a number there must be one guest only. A socket that nobody listens to is what a
 * killed lodge left; it is removed on the way.
 */
#include "lodge.h"

#include "base/err.h"
#include "control.h"
#include "engine/kvm.h"

#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct stats {
	const char *pid;
	bool json;
};

static int set_json(void *into, char *value, struct err *err)
{
	(void)value, (void)err;
	((struct stats *)into)->json = true;
	return 0;
}

static const struct option options[] = {
	{"--json", NULL, "as the guest's lodge sends it", set_json},
	{0},
};

/* The only guest there is. */
static int find_one(const char *dir, struct err *err)
{
	DIR *d = opendir(dir);
	const struct dirent *e;
	int found = -1;

	while (d && (e = readdir(d))) {
		long pid = control_pid(e->d_name);
		int fd = pid ? control_connect(dir, pid, 0) : -1;

		if (fd < 0)
			continue;
		if (found >= 0) {
			close(fd);
			close(found);
			closedir(d);
			return err_set(
				err, EBUSY,
				"several guests run: say which one, lodge stats PID (see %s)",
				dir);
		}
		found = fd;
	}
	if (d)
		closedir(d);
	return found >= 0 ? found : err_set(err, ENOENT, "no guest is running");
}

static int find(const char *text, struct err *err)
{
	char dir[80], *end;
	long pid;
	int rc = control_dir(dir, sizeof(dir), 0, err);

	if (rc < 0)
		return rc;
	if (!text)
		return find_one(dir, err);
	pid = strtol(text, &end, 10);
	if (pid <= 0 || *end)
		return err_set(err, ERANGE, "'%s' is not the number of a process",
			       text);
	rc = control_connect(dir, pid, 0);
	return rc >= 0 ? rc : err_set(err, ENOENT, "no guest runs in process %ld", pid);
}

/* A line of the JSON for people: "    \"blocks\": 17," becomes "blocks   17  blocks translated". */
static void print_plain(char *line)
{
	char *name = strchr(line, '"'), *end = name ? strchr(name + 1, '"') : NULL;
	char *value;

	if (!end || strncmp(end, "\": ", 3) != 0 || end[3] == '{')
		return;
	*end = 0;
	value = end + 3 + (end[3] == '"');
	value[strcspn(value, "\",\n")] = 0;
	if (strncmp(line, "    ", 4) == 0) /* a counter */
		printf("%-16s %14s  %s\n", name + 1, value, kvm_stat_text(name + 1));
	else
		printf("%-16s %s\n", name + 1, value);
}

static int show(const struct stats *s, int fd)
{
	static const char request[] = "{\"do\": \"stats\"}\n";
	FILE *in = fdopen(fd, "r+");
	char line[1024];
	int lines = 0;

	if (!in || write(fd, request, sizeof(request) - 1) < 0) {
		fprintf(stderr, "lodge: the guest's lodge does not answer\n");
		return EXIT_FAILED;
	}
	for (; fgets(line, sizeof(line), in); lines++) {
		if (s->json)
			fputs(line, stdout);
		else
			print_plain(line);
	}
	fclose(in);
	return lines ? EXIT_OK : EXIT_FAILED;
}

static int stats_main(void *parsed)
{
	const struct stats *s = parsed;
	struct err err = {0};
	int fd = find(s->pid, &err);

	return fd < 0 ? report_failure(&err) : show(s, fd);
}

const struct verb verb_stats = {
	.name = "stats",
	.summary = "the counters of a running guest",
	.text = "PID is the process of its lodge; it may be left out if there is only one.\n",
	.operand = "[PID]",
	.options = options,
	.size = sizeof(struct stats),
	.main = stats_main,
};

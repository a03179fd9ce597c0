/* SPDX-License-Identifier: MIT */
/*
 * human-monitor-command: a line for people, and an answer for people, of which some tools have never let go. There are the few that look;
 * each other line is answered with a sentence, and is no error, as QEMU has it.
 */
#include "base/err.h"
#include "base/json.h"
#include "base/macros.h"
#include "block/disk.h"
#include "engine/kvm.h"
#include "names.h"
#include "prog/lodge/session.h"
#include "serve.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void tell_status(const struct session *s, FILE *out)
{
	fprintf(out, "VM status: %s\r\n", qmp_status(s));
}

static void tell_name(const struct session *s, FILE *out)
{
	fprintf(out, "%s\r\n", s->name ? s->name : "");
}

static void tell_version(const struct session *s, FILE *out)
{
	(void)s;
	fprintf(out, "lodge %s\r\n", LODGE_VERSION);
}

static void tell_kvm(const struct session *s, FILE *out)
{
	fprintf(out, "kvm support: %s\r\n", s->config->face == &kvm_host ? "enabled" : "disabled");
}

static void tell_cpus(const struct session *s, FILE *out)
{
	for (unsigned i = 0; i < s->config->cpus; i++)
		fprintf(out, "CPU #%u: thread_id=%d\r\n", i, machine_cpu_thread(s->machine, i));
}

static void tell_drive(FILE *out, const char *name, const struct disk *disk)
{
	if (!disk)
		fprintf(out, "%s: [not inserted]\r\n", name);
	else
		fprintf(out, "%s: %s (%s%s)\r\n", name, disk_path(disk), disk_formats[disk_info(disk)->format],
			disk_info(disk)->readonly ? ", read-only" : "");
}

static void tell_block(const struct session *s, FILE *out)
{
	char name[QMP_NAME];

	for (unsigned i = 0; i < s->config->n_disks; i++)
		tell_drive(out, qmp_disk_name(name, s->config, i), s->config->disks[i]);
	for (unsigned i = 0; i < s->config->n_cds; i++)
		tell_drive(out, qmp_cd_name(name, i), s->config->cds[i]);
}

static const struct {
	const char *line;
	void (*tell)(const struct session *s, FILE *out);
} lines[] = {
	{"info status", tell_status}, {"info name", tell_name}, {"info version", tell_version},
	{"info kvm", tell_kvm}, {"info cpus", tell_cpus}, {"info block", tell_block},
};

static void tell(const struct session *s, const char *line, FILE *out)
{
	for (unsigned i = 0; i < ARRAY_SIZE(lines); i++)
		if (strcmp(line, lines[i].line) == 0) {
			lines[i].tell(s, out);
			return;
		}
	fprintf(out, "there is no '%.100s' here: info status, name, version, kvm, cpus and block are all\r\n", line);
}

int do_human(struct call *c, struct err *err)
{
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);
	int rc = out ? 0 : -ENOMEM;

	if (out)
		tell(c->session, call_str(c, "command-line"), out);
	if (out && fclose(out) != 0)
		rc = -ENOMEM;
	if (rc == 0)
		json_str(c->answer, CALL_RETURN, text);
	free(text);
	return rc < 0 ? err_set(err, ENOMEM, "no memory") : 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * lodge: the command. This file is the list of its verbs and the way to them.
 *
 * Results go to stdout, notices and errors to stderr, each error one sentence behind
 * "lodge:". The exit codes are in lodge.h, and failure.h says which error has which.
 */
#include "lodge.h"

#include "base/err.h"
#include "base/log.h"
#include "failure.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char program_name[] = "lodge";

const struct verb *const verbs[] = {
	&verb_run,
	&verb_restore,
	&verb_image,
	&verb_ps,
	&verb_info,
	&verb_stats,
	&verb_pause,
	&verb_resume,
	&verb_reset,
	&verb_save,
	&verb_fork,
	&verb_migrate,
	&verb_snapshot,
	&verb_console,
	&verb_balloon,
	&verb_ssh,
	&verb_link,
	&verb_media,
	&verb_eject,
	&verb_attach,
	&verb_detach,
	&verb_screenshot,
	&verb_send_key,
	&verb_stop,
	&verb_nbd,
	&verb_kvm,
	&verb_doctor,
	&verb_help,
	&verb_version,
	NULL,
};

const struct verb *verb_find(const char *name)
{
	for (const struct verb *const *v = verbs; *v; v++)
		if (strcmp((*v)->name, name) == 0 || ((*v)->alias && strcmp((*v)->alias, name) == 0))
			return *v;
	return NULL;
}

int verb_unknown(const char *name)
{
	struct err err;

	err_set(&err, ERANGE, "there is no verb '%s': see lodge help", name);
	return report_failure(&err);
}

/* A script must not take half a result for one. */
static int all_written(void)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return 1;
	log_line("lodge: standard output cannot be written to\n");
	return 0;
}

static int run_verb(const struct verb *verb, int argc, char **argv)
{
	void *parsed = calloc(1, verb->size);
	struct err err = {0};
	int code;

	if (!parsed) {
		err_set(&err, ENOMEM, "no memory");
		return report_failure(&err);
	}
	if (options_parse(verb, parsed, argc, argv, &err) < 0) {
		code = report_failure(&err);
		if (err.code != ENOENT) /* a file that an option reads */
			code = EXIT_USAGE;
	} else {
		code = verb->main(parsed);
	}
	free(parsed);
	return all_written() ? code : EXIT_FAILED;
}

/* `lodge run --help` and `lodge --help` are what people try first. */
/* Started with one of them closed, the next file that is opened gets its number; and the guest's
 * console would be written to the guest's disk. */
static void open_standard_files(void)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd)
			abort(); /* the lowest free number is fd */
}

int main(int argc, char **argv)
{
	const struct verb *verb;

	open_standard_files();
	if (argc < 2) {
		verb_help.main(&(const char *){NULL});
		return EXIT_USAGE;
	}
	verb = verb_asked(&argc, &argv);
	return verb ? run_verb(verb, argc, argv) : verb_unknown(argv[1]);
}

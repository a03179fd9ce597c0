/* SPDX-License-Identifier: MIT */
/*
 * See template.h. Templates are ~/.cache/lodge/templates/NAME-RECIPE.lodge, RECIPE being a checksum of what the machine is made of: so
 * whether a template is the right one is whether that file is there. Others of its name are removed when it has been made.
 * Each is a saved machine, and nothing more is known of it elsewhere; who removes one, or all, loses only time.
 *
 *	here                                      a child
 *	opens a file without a name               the machine boots, its console nowhere
 *	                                          its agent answers: it is saved to that file, and ends
 *	gives the file its name
 *	runs a guest from it, as lodge run FILE
 */
#include "template.h"

#include "base/err.h"
#include "base/log.h"
#include "failure.h"
#include "loop/loop.h"
#include "newfile.h"
#include "place.h"
#include "userdir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#define DIGITS 16
#define SUFFIX ".lodge"

static int find_dir(char dir[PATH_MAX], struct err *err)
{
	return userdir_find(dir, "XDG_CACHE_HOME", ".cache", "lodge/templates", err);
}

/* A template of that name, whatever its recipe. */
static bool is_of(const char *file, const char *name)
{
	size_t n = strlen(name);

	return strncmp(file, name, n) == 0 && file[n] == '-' && strlen(file) == n + 1 + DIGITS + strlen(SUFFIX) &&
	       strspn(file + n + 1, "0123456789abcdef") == DIGITS && strcmp(file + n + 1 + DIGITS, SUFFIX) == 0;
}

/* Calls `each` for those of the name but `except`, until it says that it has seen enough. */
static void look(const char *dir, const char *name, const char *except, bool (*each)(void *ctx, int dir, const char *file),
		 void *ctx)
{
	DIR *d = opendir(dir);
	struct dirent *e;

	while (d && (e = readdir(d)))
		if (is_of(e->d_name, name) && strcmp(e->d_name, except) != 0 && each(ctx, dirfd(d), e->d_name))
			break;
	if (d)
		closedir(d);
}

static bool note_file(void *file, int dir, const char *name)
{
	(void)dir;
	strcpy(file, name); /* SAFE: it is of NAME_MAX bytes and one more, as those of a directory are */
	return true;
}

static bool remove_file(void *unused, int dir, const char *name)
{
	(void)unused;
	unlinkat(dir, name, 0);
	return false;
}

/* -- Making one ------------------------------------------------------------------------------ */

/* Does not return. It is not the guest that was asked for: it has no name, and nobody's terminal. */
static void boot(const struct template *t, const struct launch *l, int image, pid_t maker)
{
	static char *no_words[] = {NULL};
	struct launch here = LAUNCH_DEFAULTS;
	int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);

	prctl(PR_SET_PDEATHSIG, SIGTERM); /* nobody else knows of it */
	if (getppid() != maker)
		_exit(EXIT_FAILED);
	if (nothing < 0 || dup2(nothing, STDIN_FILENO) < 0 || dup2(nothing, STDOUT_FILENO) < 0)
		_exit(EXIT_FAILED);
	close(nothing);
	here.engine = l->engine;
	here.sandbox = l->sandbox;
	here.net = (struct net_options){.how = l->net.how};
	here.shares = l->shares;
	here.vsock = l->vsock;
	here.no_reboot = true;
	here.command = no_words;
	here.image = image;
	_exit(launch(&here, t->source, t->ctx));
}

/* The exit code of who has booted it; what went wrong he has said. */
static int wait_for_boot(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return EXIT_FAILED;
	return WIFSIGNALED(status) ? EXIT_SIGNAL + WTERMSIG(status) : WEXITSTATUS(status);
}

static int make(const struct template *t, const struct launch *l, const char *path, struct err *err)
{
	uint64_t began = loop_now();
	struct newfile file;
	int rc, code;
	pid_t pid, maker = getpid();

	launch_prepare(l);
	rc = newfile_open(&file, path, err);
	if (rc < 0)
		return report_failure(err);
	log_note("template", "'%s' boots, for there is none of this machine yet", t->name);
	pid = fork();
	if (pid == 0)
		boot(t, l, file.fd, maker);
	code = pid < 0 ? EXIT_FAILED : wait_for_boot(pid);
	if (pid < 0)
		err_sys(err, errno, "a process");
	else if (code == EXIT_OK)
		newfile_publish(&file, err);
	newfile_close(&file);
	if (err->code)
		return report_failure(err);
	if (code == EXIT_OK)
		log_note("template", "'%s' is made, in %.1f s", t->name, (double)(loop_now() - began) / 1e9);
	return code;
}

/* -- Running one ----------------------------------------------------------------------------- */

static int find(const struct template *t, char dir[PATH_MAX], char file[NAME_MAX + 1], struct err *err)
{
	int rc = find_dir(dir, err);

	if (rc < 0)
		return rc;
	file[0] = 0;
	if (t->recipe)
		snprintf(file, NAME_MAX + 1, "%s-%016" PRIx64 SUFFIX, t->name, XXH64(t->recipe, strlen(t->recipe), 0));
	else
		look(dir, t->name, "", note_file, file);
	if (!file[0])
		return err_set(err, ENOENT, "there is no template '%s': lodge run --kernel FILE ... --template %s makes it",
			       t->name, t->name);
	return userdir_make(dir, err);
}

int template_run(const struct template *t, const struct launch *l)
{
	char dir[PATH_MAX], file[NAME_MAX + 1], *path;
	struct err err = {0};
	int code = EXIT_OK;

	if (find(t, dir, file, &err) < 0 || asprintf(&path, "%s/%s", dir, file) < 0)
		return report_failure(&err);
	if (access(path, F_OK) < 0) {
		code = make(t, l, path, &err);
		if (code == EXIT_OK)
			look(dir, t->name, file, remove_file, NULL);
	}
	if (code == EXIT_OK && !l->command)
		log_note("template", "'%s' goes on from where it had booted: its console shows what comes now", t->name);
	if (code == EXIT_OK)
		code = launch_file(l, path);
	free(path);
	return code;
}

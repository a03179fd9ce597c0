/* SPDX-License-Identifier: MIT */
/*
 * lodge save: a guest into a file, from which `lodge restore` goes on.
 *
 * The guest's lodge may open nothing, so it is given an open file without a name, and this is the order
 * of things:
 *
 *	here                                    the guest's lodge
 *	opens the file, asks "x-lodge-save"
 *	                                        pauses the guest, writes it, answers
 *	makes the file lasting, names it
 *	says "quit"                             ends
 *
 * Until the file has its name, what was there before is there, and the guest is paused for this client
 * alone: if we die, or the file system is full, it goes on. From then on the file is whole, and if we die
 * then, the guest goes on beside it. So it is never lost, and it never runs twice by itself.
 *
 * With --keep-running the last word is not said.
 *
 * A file that is there and is no saved machine is not written over: what people mistype is more often
 * the name of a disk than a wish to lose one.
 */
#include "lodge.h"

#include "base/err.h"
#include "base/json_read.h"
#include "base/scoped.h"
#include "client.h"
#include "failure.h"
#include "machine/saved.h"
#include "newfile.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/stat.h>

struct save {
	const char *operands[2];
	bool keep_running;
};

static const struct option options[] = {
	{"--keep-running", NULL, "the guest goes on; the file is as it was then", OPTION_FLAG,
	 offsetof(struct save, keep_running), 0, 0, NULL},
	{0},
};

static int check_target(const char *path, struct err *err)
{
	struct stat st;

	if (stat(path, &st) < 0 || (S_ISREG(st.st_mode) && st.st_size == 0) || saved_is(path))
		return 0;
	return err_set(err, EBUSY, "'%s' is there already, and is no saved machine: it is left as it is",
		       path);
}

static int save_to(int fd, const struct save *s, struct newfile *file, struct err *err)
{
	struct json_value *answer;
	int rc = client_ask(fd, "x-lodge-save", "{\"fd\": \"" CLIENT_FILE "\"}", file->fd, &answer, err);

	free(answer);
	if (rc == 0)
		rc = newfile_publish(file, err);
	if (rc < 0 || s->keep_running)
		return rc;
	rc = client_ask(fd, "quit", NULL, -1, &answer, err);
	free(answer);
	if (rc == 0)
		rc = client_wait_end(fd, -1, err);
	return rc == -ESHUTDOWN ? 0 : rc;
}

static int save(const struct save *s, struct err *err)
{
	const char *path = s->operands[1] ? s->operands[1] : s->operands[0];
	const char *vm = s->operands[1] ? s->operands[0] : NULL;
	scoped_fd int fd = -1;
	struct newfile file;
	int rc;

	if (!path)
		return err_set(err, ERANGE, "the file is missing: lodge save [VM] FILE");
	if ((rc = check_target(path, err)) < 0 || (rc = fd = client_find(vm, err)) < 0)
		return rc;
	rc = newfile_open(&file, path, err);
	if (rc == 0)
		rc = client_greet(fd, err);
	if (rc == 0)
		rc = save_to(fd, s, &file, err);
	newfile_close(&file);
	return rc;
}

static int save_main(void *parsed)
{
	struct err err = {0};

	return save(parsed, &err) < 0 ? report_failure(&err) : EXIT_OK;
}

const struct verb verb_save = {
	.name = "save",
	.summary = "put a guest into a file, from which it can be restored",
	.text = VM_TEXT
		"FILE is made when all of it is there; what goes wrong before leaves it as it was, and the\n"
		"guest goes on. A FILE that is there must be a saved machine, or empty. It has all of the\n"
		"guest's memory, so only you may read it.\n",
	.operand = "[VM] FILE",
	.n_operands = 2,
	.options = options,
	.size = sizeof(struct save),
	.main = save_main,
};

/* SPDX-License-Identifier: MIT */
/* lodge pause, resume, reset, stop: what others than the guest itself do to its life. */
#include "lodge.h"

#include "base/err.h"
#include "base/json_read.h"
#include "base/scoped.h"
#include "client.h"
#include "failure.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

/* -- Pause and resume --------------------------------------------------------------------- */

struct life {
	const char *vm;
};

static int ask(const struct life *l, const char *command)
{
	struct json_value *answer;
	struct err err = {0};

	if (client_do(l->vm, command, NULL, &answer, &err) < 0)
		return report_failure(&err);
	free(answer);
	return EXIT_OK;
}

static int pause_main(void *parsed)
{
	return ask(parsed, "stop");
}

static int resume_main(void *parsed)
{
	return ask(parsed, "cont");
}

const struct verb verb_pause = {
	.name = "pause",
	.summary = "a guest stands still, in memory, until it is resumed",
	.text = VM_TEXT "One that is paused already stays so.\n",
	.operand = "[VM]",
	.n_operands = 1,
	.size = sizeof(struct life),
	.main = pause_main,
};

const struct verb verb_resume = {
	.name = "resume",
	.summary = "a paused guest goes on",
	.text = VM_TEXT "One that runs already does so.\n",
	.operand = "[VM]",
	.n_operands = 1,
	.size = sizeof(struct life),
	.main = resume_main,
};

/* -- Reset ------------------------------------------------------------------------------- */

static int reset_main(void *parsed)
{
	return ask(parsed, "system_reset");
}

const struct verb verb_reset = {
	.name = "reset",
	.summary = "press a guest's reset button",
	.text = VM_TEXT "It begins anew, at once: what it had not written to its disks is lost. A paused one stays paused.\n",
	.operand = "[VM]",
	.n_operands = 1,
	.size = sizeof(struct life),
	.main = reset_main,
};

/* -- Stop --------------------------------------------------------------------------------- */

struct stop {
	const char *vm;
	bool force;
	unsigned timeout; /* seconds; 0: none */
};

static const struct option options[] = {
	{"--force", NULL, "pull its plug, at once", OPTION_FLAG, offsetof(struct stop, force), 0, 0,
	 NULL},
	{"--timeout", "SECONDS", "wait no longer, and end with 124 (default: for ever)",
	 OPTION_NUMBER, offsetof(struct stop, timeout), 1, 86400, NULL},
	{0},
};

static int stop(const struct stop *s, struct err *err)
{
	scoped_fd int fd = client_connect(s->vm, err);
	scoped_mem struct json_value *answer = NULL;
	int rc = fd;

	if (rc >= 0)
		rc = client_ask(fd, s->force ? "quit" : "system_powerdown", NULL, -1, &answer, err);
	if (rc >= 0)
		rc = client_wait_end(fd, s->timeout ? (int)s->timeout * 1000 : -1, err);
	return rc == -ESHUTDOWN ? 0 : rc;
}

static int stop_main(void *parsed)
{
	struct err err = {0};
	int rc = stop(parsed, &err), code;

	if (rc == 0)
		return EXIT_OK;
	if (rc == -ETIMEDOUT)
		err_at(&err, rc, "its power button was pressed, and it has had its time (--force pulls "
		       "the plug)");
	code = report_failure(&err);
	return rc == -ETIMEDOUT ? EXIT_TIMEOUT : code;
}

const struct verb verb_stop = {
	.name = "stop",
	.summary = "press a guest's power button, and wait until it is off",
	.text = VM_TEXT "A guest may take its time, or not listen to its button.\n",
	.operand = "[VM]",
	.n_operands = 1,
	.options = options,
	.size = sizeof(struct stop),
	.main = stop_main,
};

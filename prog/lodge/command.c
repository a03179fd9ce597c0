/* SPDX-License-Identifier: MIT */
/*
 * What `lodge run FILE -- COMMAND` does in the event loop, as session.c for other guests. It speaks
 * guest/agent.h through the machine's port, and the ring of console.c is what comes from there.
 *
 *	words, signals, stdin --> batch ---> port       (a batch is taken whole, or waits)
 *	port --> ring --> frames --> stdout, stderr     (a frame stays in the ring until it is written)
 *
 * Nobody knows whether there is an agent in the guest until it answers; one that was saved has PATIENCE_NS for it, in which it
 * runs. For one that boots there is no such time, only a sentence. What it says may be anything: frames.c.
 *
 * The ends of the command's three pipes are those of ours. The end of our stdin is that of its stdin. When
 * nobody reads our stdout any more, nobody reads the command's, and it has its SIGPIPE in the guest.
 * SIGINT and SIGTERM are for the command; SIGHUP and SIGQUIT end the guest, whatever it does.
 *
 * The machine is somebody's who wanted a command: when that has ended, its plug is pulled. Or he wanted it to be saved when it has
 * booted, and no command.
 */
#include "command.h"

#include "base/err.h"
#include "base/log.h"
#include "base/macros.h"
#include "console.h"
#include "control.h"
#include "failure.h"
#include "frames.h"
#include "lodge.h"
#include "loop/loop.h"
#include "machine/machine.h"
#include "session.h"
#include "terminal.h"
#include "told.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define PATIENCE_NS UINT64_C(10000000000)
#define BOOT_NS     UINT64_C(60000000000)

enum { STDOUT, STDERR };

struct output {
	int fd;
	bool open;
	bool owed; /* the agent is still to hear that it is not */
};

struct talk {
	struct session *s;
	uint8_t hello[AGENT_HELLO];
	char *args;
	size_t n_args, args_at;
	bool greeted, asked; /* HELLO, RUN are in a batch, or have been */
	bool answered;
	uint64_t until;  /* loop_now() when the agent has not answered; 0: not yet begun */
	bool told;       /* that it has not */

	uint8_t batch[AGENT_BATCH_MAX];
	size_t n_batch;
	bool blocked;    /* the port takes nothing now */
	bool input_open;
	uint32_t in_flight; /* bytes of INPUT without TAKEN */
	int signal;      /* for the command; 0: none */

	struct output outputs[2];
	int waits;       /* the ring's first frame is for this output; -1: there is none, or it is not whole */
	size_t written;  /* bytes of it */
	bool owes_room;  /* the port has more for the ring, and does not know that there is room */

	bool over;       /* the end of the machine is what we wanted */
	bool ended;      /* and there it is, wanted or not */
	int code;
};

static const char *too_early(const struct talk *t)
{
	return t->n_args ? "before its command had ended" : "before its agent had answered";
}

static bool is_paused(const struct talk *t)
{
	return machine_life(t->s->machine) == MACHINE_PAUSED;
}

static void end(struct talk *t, int code)
{
	if (!t->over)
		t->code = code;
	t->over = true;
	machine_stop(t->s->machine);
}

static void fail(struct talk *t, int code, const char *text)
{
	if (!t->over)
		terminal_note("%s", text);
	end(t, code);
}

static void end_early(struct talk *t, const char *what)
{
	char text[100];

	snprintf(text, sizeof(text), "%s %s", what, too_early(t));
	fail(t, EXIT_FAILED, text);
}

/* -- To the agent ------------------------------------------------------------------------- */

static size_t room(const struct talk *t)
{
	size_t left = sizeof(t->batch) - t->n_batch;

	return left > AGENT_HEADER ? left - AGENT_HEADER : 0;
}

static void add(struct talk *t, unsigned kind, const void *contents, size_t len)
{
	agent_header(t->batch + t->n_batch, kind, len);
	memcpy(t->batch + t->n_batch + AGENT_HEADER, contents, len);
	t->n_batch += AGENT_HEADER + len;
}

static void add_args(struct talk *t)
{
	size_t left = t->n_args - t->args_at, n = left < room(t) ? left : room(t);

	if (n)
		add(t, AGENT_ARGS, t->args + t->args_at, n);
	t->args_at += n;
}

/* What there is to say, into an empty batch. */
static void fill_batch(struct talk *t)
{
	if (!t->greeted)
		add(t, AGENT_SAYS_HELLO, t->hello, AGENT_HELLO);
	t->greeted = true;
	add_args(t);
	if (!t->asked && t->n_args && t->args_at == t->n_args && room(t)) {
		add(t, AGENT_RUN, "", 0);
		t->asked = true;
	}
	if (t->asked && t->signal && room(t)) {
		add(t, AGENT_SIGNAL, &(uint8_t){(uint8_t)t->signal}, 1);
		t->signal = 0;
	}
	for (unsigned i = 0; i < 2 && t->asked; i++) {
		if (t->outputs[i].owed && room(t)) {
			add(t, AGENT_CLOSE, &(uint8_t){(uint8_t)(i + 1)}, 1);
			t->outputs[i].owed = false;
		}
	}
}

/* As much as the port takes. */
static void speak(struct talk *t)
{
	while (!t->blocked && !is_paused(t)) {
		if (!t->n_batch)
			fill_batch(t);
		if (!t->n_batch)
			return;
		t->blocked = !machine_port_input(t->s->machine, t->batch, t->n_batch);
		if (!t->blocked)
			t->n_batch = 0;
	}
}

static bool wants_input(const struct talk *t)
{
	return t->input_open && t->asked && !t->n_batch && t->in_flight < AGENT_WINDOW;
}

static void read_input(struct talk *t)
{
	uint8_t bytes[AGENT_BATCH_MAX - AGENT_HEADER];
	size_t most = AGENT_WINDOW - t->in_flight;
	ssize_t n;

	if (!wants_input(t)) /* any more */
		return;
	n = read(STDIN_FILENO, bytes, most < sizeof(bytes) ? most : sizeof(bytes));
	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n <= 0) {
		t->input_open = false;
		n = 0;
	}
	add(t, AGENT_INPUT, bytes, (size_t)n);
	t->in_flight += (uint32_t)n;
	speak(t);
}

/* -- From it ------------------------------------------------------------------------------ */

static void drop(struct talk *t, size_t n)
{
	t->owes_room |= console_drop(t->s->console, n);
	if (!t->owes_room || is_paused(t))
		return;
	t->owes_room = false;
	machine_port_ready(t->s->machine);
}

/* A shell's numbers for it. */
static void tell_failure(struct talk *t, int error)
{
	struct err err;

	if (error <= 0 || error > 133)
		error = EPROTO;
	err_set(&err, error, "'%s' cannot be executed in the guest: %s", t->args, strerror(error));
	fail(t, error == ENOENT || error == ENOTDIR ? 127 : 126, err.text);
}

static void hear(struct talk *t, const struct agent_frame *f)
{
	uint32_t number = f->len == 4 ? agent_number(f->contents) : 0;

	switch (f->kind) {
	case AGENT_TAKEN:
		if (number > t->in_flight)
			fail(t, EXIT_FAILED, "the agent in the guest makes no sense: it took more input than it had");
		else
			t->in_flight -= number;
		break;
	case AGENT_FAILED:
		tell_failure(t, (int)number);
		break;
	case AGENT_EXIT:
		end(t, f->contents[1] ? EXIT_SIGNAL + (f->contents[1] & 0x7f) : f->contents[0]);
		break;
	}
}

/* The guest has booted, if that was all. */
static void keep(struct talk *t)
{
	struct err err = {0};

	if (t->s->image < 0)
		return;
	if (machine_pause(t->s->machine, &err) < 0 || machine_save(t->s->machine, t->s->image, &err) < 0)
		fail(t, EXIT_FAILED, err.text);
	end(t, EXIT_OK);
}

/* The ring's frames, up to one that has to be written first: then false. */
static bool read_frames(struct talk *t)
{
	uint8_t bytes[AGENT_HEADER + AGENT_CONTENTS_MAX];
	struct agent_frame f;
	struct err err = {0};
	int len = 0;

	for (t->waits = -1; !t->over; drop(t, (size_t)len)) {
		size_t n = console_peek(t->s->console, bytes, sizeof(bytes));

		if (!t->answered) {
			len = (int)frames_find_hello(bytes, n, t->hello, &t->answered);
			if (t->answered)
				keep(t);
			if (len)
				continue;
			return false;
		}
		len = frames_next(bytes, n, &f, &err);
		if (len < 0)
			fail(t, EXIT_FAILED, err.text);
		if (len <= 0)
			return true;
		if (f.kind == AGENT_OUTPUT || f.kind == AGENT_ERRORS) {
			t->waits = f.kind == AGENT_OUTPUT ? STDOUT : STDERR;
			if (t->outputs[t->waits].open)
				return false;
			t->waits = -1;
		}
		hear(t, &f);
	}
	return true;
}

static void listen(struct talk *t)
{
	bool open = machine_port_is_open(t->s->machine); /* before the last frames are looked for */

	if (read_frames(t) && !open)
		end_early(t, "the agent in the guest has gone");
}

/* What was written to somebody who is gone is not an error of ours; what a full disk did not take is. */
static void lose(struct talk *t, int error)
{
	struct output *o = &t->outputs[t->waits];

	o->open = false;
	o->owed = true;
	if (error != EPIPE)
		log_warn("command", "standard %s: %s", t->waits == STDOUT ? "output" : "error", strerror(error));
	speak(t);
}

/* At most PIPE_BUF, which do not block after POLLOUT. */
static void write_output(struct talk *t)
{
	uint8_t bytes[AGENT_HEADER + AGENT_CONTENTS_MAX];
	size_t n = console_peek(t->s->console, bytes, sizeof(bytes)), left;
	struct agent_frame f = {0};
	ssize_t done;

	n = agent_frame(bytes, n, &f);
	left = f.len - t->written;
	done = write(t->outputs[t->waits].fd, f.contents + t->written, left < PIPE_BUF ? left : PIPE_BUF);
	if (done < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (done < 0) {
		lose(t, errno);
		done = (ssize_t)left;
	}
	t->written += (size_t)done;
	if (t->written < f.len)
		return;
	t->written = 0;
	drop(t, n);
	listen(t);
}

/* -- The loop ----------------------------------------------------------------------------- */

static void read_signal(struct talk *t)
{
	struct signalfd_siginfo info;

	if (read(t->s->signals, &info, sizeof(info)) != sizeof(info) || info.ssi_signo == SIGCONT)
		return;
	if (info.ssi_signo == SIGTSTP) {
		kill(getpid(), SIGSTOP);
		return;
	}
	if (!t->answered || info.ssi_signo == SIGHUP || info.ssi_signo == SIGQUIT) {
		end(t, EXIT_SIGNAL + (int)info.ssi_signo);
		return;
	}
	t->signal = (int)info.ssi_signo;
	speak(t);
}

static void on_wake(void *ctx)
{
	struct talk *t = ctx;

	if (atomic_load(&t->s->panicked))
		end_early(t, "the guest panicked");
	if (console_roomy(t->s->console))
		t->blocked = false;
	speak(t);
	if (t->waits < 0)
		listen(t);
	drop(t, 0);
}

static void lose_patience(struct talk *t)
{
	t->told = true;
	if (t->s->config->saved)
		fail(t, EXIT_TIMEOUT, "no agent has answered in the guest: is lodge-agent running there?");
	else
		terminal_note("no agent has answered in the guest yet: is lodge-agent to be started there?");
}

static uint64_t prepare_output(void *ctx, struct pollfd *p)
{
	const struct talk *t = ctx;

	p->fd = t->waits >= 0 ? t->outputs[t->waits].fd : -1;
	p->events = POLLOUT;
	return LOOP_NEVER;
}

static void serve_output(void *ctx, const struct pollfd *p)
{
	struct talk *t = ctx;

	if (t->waits >= 0 && p->fd == t->outputs[t->waits].fd)
		write_output(t);
}

static uint64_t prepare_input(void *ctx, struct pollfd *p)
{
	p->fd = wants_input(ctx) ? STDIN_FILENO : -1;
	p->events = POLLIN;
	return LOOP_NEVER;
}

static void serve_input(void *ctx, const struct pollfd *p)
{
	(void)p;
	read_input(ctx);
}

static uint64_t prepare_signals(void *ctx, struct pollfd *p)
{
	p->fd = ((struct talk *)ctx)->s->signals;
	p->events = POLLIN;
	return LOOP_NEVER;
}

static void serve_signals(void *ctx, const struct pollfd *p)
{
	(void)p;
	read_signal(ctx);
}

/* For the agent's first answer. The time of a paused guest does not count. */
static uint64_t prepare_patience(void *ctx, struct pollfd *p)
{
	struct talk *t = ctx;

	(void)p;
	if (t->answered || t->over || t->told)
		return LOOP_NEVER;
	if (!t->until || is_paused(t))
		t->until = loop_now() + (t->s->config->saved ? PATIENCE_NS : BOOT_NS);
	return t->until;
}

static void serve_patience(void *ctx, const struct pollfd *p)
{
	(void)p;
	if (!((struct talk *)ctx)->answered)
		lose_patience(ctx);
}

static uint64_t prepare_end(void *ctx, struct pollfd *p)
{
	p->fd = machine_fd(((struct talk *)ctx)->s->machine);
	p->events = POLLIN;
	return LOOP_NEVER;
}

static void serve_end(void *ctx, const struct pollfd *p)
{
	(void)p;
	((struct talk *)ctx)->ended = true;
}

/* Until the machine has ended. */
static int talk(struct talk *t)
{
	const struct loop_source sources[] = {
		{prepare_output, serve_output, t}, {prepare_input, serve_input, t},
		{prepare_signals, serve_signals, t}, {prepare_patience, serve_patience, t},
	};
	const struct loop_source end = {prepare_end, serve_end, t};
	int rc = 0;

	for (size_t i = 0; i < ARRAY_SIZE(sources) && rc == 0; i++)
		rc = loop_add(t->s->loop, &sources[i]);
	if (rc < 0 || (rc = control_serve(t->s->control, t->s->loop)) < 0 || (rc = loop_add(t->s->loop, &end)) < 0)
		return rc;
	console_listen(t->s->console, on_wake, t);
	while (!t->ended)
		loop_once(t->s->loop);
	return 0;
}

static int verdict(struct talk *t, const struct machine_end *why)
{
	struct err err;

	if (t->over)
		return t->code;
	if (t->s->saved)
		err_set(&err, EINVAL, "the guest was saved, and is off here, %s", too_early(t));
	else if (why->reason == MACHINE_TRIPLE_FAULT || why->reason == MACHINE_FAILED)
		err_set(&err, EINVAL, "the guest died %s: %s", too_early(t), why->text);
	else
		err_set(&err, EINVAL, "the guest has ended %s", too_early(t));
	return report_failure(&err);
}

/* Its words, each with a NUL behind it. */
static bool take_words(struct talk *t, char **words)
{
	for (char **w = words; *w; w++)
		t->n_args += strlen(*w) + 1;
	t->args = malloc(t->n_args);
	for (size_t at = 0; t->args && *words; at += strlen(*words++) + 1)
		strcpy(t->args + at, *words);
	return t->args;
}

static int start(struct talk *t, struct err *err)
{
	struct session *s = t->s;
	int rc = s->paused ? machine_pause(s->machine, err) : 0;

	return rc < 0 ? rc : machine_start(s->machine, err);
}

int command_run(struct session *s, char **words)
{
	struct talk t = {
		.s = s, .input_open = true, .waits = -1,
		.outputs = {{.fd = s->output, .open = true}, {.fd = s->errors, .open = true}},
	};
	struct machine_end why;
	struct err err = {0};
	int code;

	s->began = loop_now();
	if (!take_words(&t, words) || getrandom(t.hello, sizeof(t.hello), 0) != sizeof(t.hello))
		err_set(&err, ENOMEM, "no memory");
	else
		start(&t, &err);
	if (!err.code) {
		speak(&t);
		if (talk(&t) < 0)
			fail(&t, EXIT_FAILED, "no memory");
		machine_end(s->machine, &why);
		told_end(s, &why, t.over ? "host-ui" : "host-qmp-quit");
	}
	code = err.code ? report_failure(&err) : verdict(&t, &why);
	free(t.args);
	return code;
}

/* SPDX-License-Identifier: MIT */
/*
 * What `lodge run` does in the event loop (lib/loop), which is the main thread's.
 *
 *	stdin ----> pending ----> serial port        (as much as fits; the rest waits)
 *	serial port -> ring ----> stdout             (when it takes some)
 *	signals, machine's end, control socket
 *
 * With a terminal, stdin is raw and Ctrl-] leaves; so it is read also while the guest takes nothing
 * (it hangs, and that is when somebody wants to leave). Without, bytes pass as they are, stay in their
 * pipe until the guest takes some, and the end of stdin means only that nobody will type: stdin may
 * be /dev/null from the start.
 * When stdout is gone (a closed pipe) the guest goes on, and its console goes nowhere.
 *
 * Writes are of at most PIPE_BUF bytes after the loop said POLLOUT, so that they do not block
 * though nobody made stdout non-blocking; that flag would be shared with our parent. (For
 * terminals this is not enough: terminal_output().)
 *
 * How a guest ends is what it does: power-off, reset, a triple fault. Its panic is news, from its
 * pvpanic driver (machine.h) or seen on the console, and the guest goes on: it may hang, reset
 * itself, or start a crash kernel. But who wants no reboot wants no more of a guest whose driver says
 * that it is lost: that is the verdict then, and it has LAST_WORDS_NS to print the rest.
 *
 * A paused machine (control.c) takes no input, and what it had to print comes when it goes on.
 *
 * While the machine migrates, its socket is waited for as well, and steps are small. At the end the control socket
 * hears of it. A machine that runs elsewhere ends here.
 *
 * While somebody is attached (lodge console), the console is at his socket: input comes from there, output
 * goes there and waits for him. When he is gone it is stdin's and stdout's again.
 *
 * Stopped and continued by a shell (SIGTSTP, SIGCONT), the terminal is given back and taken again.
 */
#include "session.h"

#include "base/err.h"
#include "block/disk.h"
#include "console.h"
#include "control.h"
#include "display.h"
#include "failure.h"
#include "lodge.h"
#include "loop/loop.h"
#include "machine/fork.h"
#include "machine/incoming.h"
#include "machine/machine.h"
#include "machine/migrate.h"
#include "machine/plug.h"
#include "net/port.h"
#include "terminal.h"
#include "told.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define DRAIN_MS 2000 /* how long a stuck stdout may hold up our end */
#define LAST_WORDS_NS UINT64_C(1000000000) /* of a guest that has panicked, before we end it */
#define PIPE_INPUT 256 /* as much is taken from a pipe before the guest wants it */

/* Input that the guest has not taken. From a terminal it may be much: a text pasted. */
struct input {
	uint8_t bytes[1 << 20];
	size_t head, n;
};

struct shift {
	struct session *s;
	bool raw;           /* stdin is a terminal, and ours */
	bool input_open;    /* stdin is worth reading */
	bool output_open;
	bool left;          /* by Ctrl-] */
	int signal;         /* that ended us; 0: none */
	bool panicked, crash_kernel; /* the guest has said so since its boot */
	struct loop_timer last_words; /* when they are over, it is ended for that */
	struct input *in;
	bool blocked;       /* the guest takes no input now */
	size_t n_output;    /* bytes that wait for stdout */
	bool owes_room;     /* the machine has more for it, and does not know that there is room */
	bool ended;         /* the machine has */
	struct loop_source sources[5];
};

int session_signals(void)
{
	sigset_t set;
	int fd;

	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN); /* ulimit -f is an error like others */
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGQUIT);
	sigaddset(&set, SIGTSTP);
	sigaddset(&set, SIGCONT);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return fd >= 0 ? fd : -errno;
}

/* -- Input ------------------------------------------------------------------------------ */

static bool is_paused(const struct session *s)
{
	return machine_life(s->machine) == MACHINE_PAUSED;
}

static void give_input(struct shift *l)
{
	struct input *in = l->in;
	size_t took;

	if (!in->n || is_paused(l->s))
		return;
	took = machine_console_input(l->s->machine, in->bytes + in->head, in->n);
	in->n -= took;
	in->head = in->n ? in->head + took : 0;
	l->blocked = in->n > 0;
}

/* How much may be read now, to where input_end() says. */
static size_t input_room(const struct shift *l)
{
	if (l->raw)
		return sizeof(l->in->bytes) - l->in->n;
	return l->blocked ? 0 : PIPE_INPUT - l->in->n;
}

static uint8_t *input_end(struct input *in, size_t room)
{
	if (in->head + in->n + room > sizeof(in->bytes)) {
		memmove(in->bytes, in->bytes + in->head, in->n);
		in->head = 0;
	}
	return in->bytes + in->head + in->n;
}

static void detach(struct session *s)
{
	close(s->attached);
	s->attached = -1;
}

static int input_fd(const struct session *s)
{
	return s->attached >= 0 ? s->attached : STDIN_FILENO;
}

static void end_input(struct shift *l)
{
	if (l->s->attached >= 0)
		detach(l->s);
	else
		l->input_open = false;
}

static void read_input(struct shift *l)
{
	size_t room = input_room(l) < PIPE_BUF ? input_room(l) : PIPE_BUF;
	uint8_t *at = input_end(l->in, room), *escape;
	/* Its other end is somebody's who may have it wait for more than there is, or have read it meanwhile. */
	ssize_t n = l->s->attached >= 0 ? recvmsg(l->s->attached, &(struct msghdr){.msg_iov = &(struct iovec){at, room}, .msg_iovlen = 1}, MSG_DONTWAIT)
					: read(STDIN_FILENO, at, room);

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n <= 0) {
		end_input(l);
		return;
	}
	escape = l->raw ? memchr(at, TERMINAL_ESCAPE, (size_t)n) : NULL;
	if (escape) {
		l->left = true;
		n = escape - at;
		machine_stop(l->s->machine);
	}
	l->in->n += (size_t)n;
	if (!l->blocked)
		give_input(l);
}

/* -- Output ----------------------------------------------------------------------------- */

/* A paused machine's devices are left alone. What one that was saved, or has moved, still has to say it says where it
 * goes on. */
static void tell_room(struct shift *l)
{
	if (!l->owes_room || is_paused(l->s) || l->s->saved || l->s->left)
		return;
	l->owes_room = false;
	machine_console_ready(l->s->machine);
}

static ssize_t put_attached(struct session *s, const uint8_t *bytes, size_t n)
{
	ssize_t done = send(s->attached, bytes, n, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (done < 0 && errno != EINTR && errno != EAGAIN)
		detach(s);
	return done < 0 ? 0 : done;
}

/* How many bytes are done with: written, or nobody is to see them. */
static ssize_t put(struct shift *l, const uint8_t *bytes, size_t n)
{
	ssize_t done;

	if (l->s->attached >= 0)
		return put_attached(l->s, bytes, n);
	done = l->output_open ? write(l->s->output, bytes, n) : (ssize_t)n;
	if (done < 0 && (errno == EINTR || errno == EAGAIN))
		return 0;
	if (done < 0) {
		l->output_open = false;
		return (ssize_t)n;
	}
	return done;
}

static int output_fd(const struct session *s)
{
	return s->attached >= 0 ? s->attached : s->output;
}

static void write_output(struct shift *l)
{
	const char *panic;
	uint8_t bytes[PIPE_BUF];
	size_t n = console_peek(l->s->console, bytes, sizeof(bytes));
	ssize_t done = (ssize_t)n;

	if (n)
		done = put(l, bytes, n);
	panic = console_watch(l->s->console, bytes, (size_t)done);
	if (panic)
		terminal_note("the console shows '%s'", panic);
	l->owes_room |= console_drop(l->s->console, (size_t)done);
	tell_room(l);
	l->n_output = console_peek(l->s->console, bytes, sizeof(bytes));
}

/* Everything that is left, unless nobody takes it. */
static void drain_output(struct shift *l)
{
	uint8_t byte;

	while (console_peek(l->s->console, &byte, 1)) {
		struct pollfd p = {.fd = output_fd(l->s), .events = POLLOUT};

		if ((l->output_open || l->s->attached >= 0) && poll(&p, 1, DRAIN_MS) == 0)
			return;
		write_output(l);
	}
}

/* -- Pausing ---------------------------------------------------------------------------- */

static int tell_end(const struct session *s, int rc, struct err *err)
{
	if (rc < 0 && machine_life(s->machine) == MACHINE_ENDED)
		return err_set(err, ESHUTDOWN, "the guest has ended");
	return rc;
}

static int check_migration(const struct session *s, struct err *err)
{
	return s->migration ? err_set(err, EBUSY, "the guest is on its way to another lodge") : 0;
}

int session_pause(struct session *s, struct err *err)
{
	int rc;

	if (check_migration(s, err) < 0)
		return -EBUSY;
	rc = machine_pause(s->machine, err);
	told_life(s);
	return tell_end(s, rc, err);
}

int session_resume(struct session *s, struct err *err)
{
	int rc;

	if (check_migration(s, err) < 0)
		return -EBUSY;
	rc = machine_resume(s->machine, err);
	told_life(s);
	console_wake(s->console); /* what was typed meanwhile */
	return tell_end(s, rc, err);
}

int session_reset(struct session *s, struct err *err)
{
	if (check_migration(s, err) < 0)
		return -EBUSY;
	if (machine_life(s->machine) == MACHINE_ENDED)
		return err_set(err, ESHUTDOWN, "the guest has ended");
	if (s->commands)
		return err_set(err, EBUSY, "the guest is here for a command, and ends with it");
	s->reset = true;
	s->reset_paused = is_paused(s);
	machine_stop(s->machine);
	return 0;
}

/* Disks that are written; the guest stands still. */
static void begin_moments(struct session *s, struct disk_moment *moments, const char *keep)
{
	for (unsigned i = 0; i < s->config->n_disks; i++)
		if (!disk_info(s->config->disks[i])->readonly)
			disk_moment_begin(s->config->disks[i], &moments[i], keep);
}

/* All of them, also when one fails. */
static int end_moments(struct session *s, struct disk_moment *moments, struct err *err)
{
	int rc = 0;

	for (unsigned i = 0; i < s->config->n_disks; i++)
		if (!disk_info(s->config->disks[i])->readonly) {
			int one = disk_moment_end(&moments[i], err);

			rc = rc < 0 ? rc : one;
		}
	return rc;
}

void session_close_moments(struct session *s, struct disk_moment *moments)
{
	for (unsigned i = 0; i < s->config->n_disks; i++)
		disk_base_close(&moments[i].base);
}

int session_fork(struct session *s, struct machine_fork *f, struct disk_moment *moments, const char *keep,
		 struct err *err)
{
	bool was_paused = is_paused(s);
	struct err unheard;
	int rc = session_pause(s, err), disks = 0;

	for (unsigned i = 0; i < s->config->n_disks; i++)
		moments[i] = (struct disk_moment){.base = {.n = 0}};
	if (rc < 0)
		return rc;
	rc = tell_end(s, machine_fork(s->machine, f, err), err);
	if (rc == 0)
		begin_moments(s, moments, keep);
	if (!was_paused)
		session_resume(s, &unheard);
	if (rc == 0)
		disks = end_moments(s, moments, err);
	if (disks < 0) {
		machine_fork_close(f);
		session_close_moments(s, moments);
	}
	return rc < 0 ? rc : disks;
}

int session_migrate(struct session *s, const struct migration_plan *plan, struct err *err)
{
	if (check_migration(s, err) < 0)
		return -EBUSY;
	if (s->commands)
		return err_set(err, EBUSY, "the guest is here for a command, and ends with it");
	return tell_end(s, migration_begin(&s->migration, s->machine, plan, err), err);
}

static void forget_migration(struct session *s)
{
	migration_end(s->migration);
	s->migration = NULL;
	told_life(s);
	console_wake(s->console); /* what was typed meanwhile */
}

void session_migrate_cancel(struct session *s)
{
	if (s->migration && !migration_is_sent(s->migration))
		forget_migration(s);
}

static void go_on_migrating(struct session *s)
{
	struct err err = {0};
	enum migration_now now = migration_step(s->migration, &err);
	struct migration_facts facts = migration_facts(s->migration);

	told_life(s);
	if (now == MIGRATION_GOES_ON)
		return;
	forget_migration(s);
	if (now == MIGRATION_UNKNOWN) {
		err_set(&err, EIO, "the connection was lost when all was sent: the guest is paused here; "
			"lodge resume, if it does not run there");
		terminal_note("%s", err.text); /* for whom it is here, who asked may be gone */
	}
	s->left = now == MIGRATION_DONE;
	control_migrated(s->control, s->left ? &facts : NULL, &err);
	if (s->left)
		machine_stop(s->machine);
}

/* The machine has ended. */
static void end_migration(struct session *s)
{
	struct err err = {0};

	if (!s->migration)
		return;
	forget_migration(s);
	err_set(&err, ESHUTDOWN, "the guest has ended");
	control_migrated(s->control, NULL, &err);
}

int session_attach(struct session *s, int fd, struct err *err)
{
	if (send(fd, "", 0, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		return err_set(err, ERANGE, "'x-lodge-console' needs a socket");
	if (s->commands)
		return err_set(err, EBUSY, "the guest is here for a command: its console is nowhere");
	if (s->attached >= 0)
		return err_set(err, EBUSY, "somebody else is at the guest's console");
	if (s->on_terminal)
		return err_set(err, EBUSY, "the guest's console is on the terminal where it was started");
	s->attached = fd;
	return 0;
}

/* -- The loop --------------------------------------------------------------------------- */

static void take_terminal(struct shift *l)
{
	l->raw = l->s->on_terminal = terminal_take();
	/* One that belongs to somebody else now is not read. */
	if (isatty(STDIN_FILENO))
		l->input_open = l->raw;
}

static void read_signal(struct shift *l)
{
	struct signalfd_siginfo info;

	if (read(l->s->signals, &info, sizeof(info)) != sizeof(info))
		return;
	switch (info.ssi_signo) {
	case SIGTSTP:
		terminal_give_back();
		kill(getpid(), SIGSTOP);
		return;
	case SIGCONT:
		take_terminal(l);
		return;
	}
	l->signal = (int)info.ssi_signo;
	machine_stop(l->s->machine);
}

void session_panic(void *ctx, bool crash_kernel)
{
	struct session *s = ctx;

	atomic_store(crash_kernel ? &s->crash_kernel : &s->panicked, true);
	console_wake(s->console);
}

void session_left(void *ctx)
{
	console_wake(((struct session *)ctx)->console);
}

int session_check_home(const struct session *s, struct err *err)
{
	return check_migration(s, err);
}

/* What belongs to nobody who could delete it came with a machine that was restored. */
void session_take_out(struct session *s)
{
	struct machine_left left;

	while (!s->migration && machine_take_out(s->machine, &left)) {
		if (!parts_of_disk(&s->parts, left.disk))
			disk_close(left.disk);
		if (left.port && !parts_of_port(&s->parts, left.port))
			left.port->type->close(left.port);
		told_deleted(s, left.id);
	}
}

/* A notice once a boot, however often it is said. */
static void hear_panic(struct shift *l)
{
	if (atomic_exchange(&l->s->crash_kernel, false) && !l->crash_kernel) {
		l->crash_kernel = true;
		terminal_note("the guest panicked, and starts its crash kernel");
		told_panic(l->s, true);
	}
	if (atomic_exchange(&l->s->panicked, false) && !l->panicked) {
		l->panicked = true;
		terminal_note("the guest panicked");
		told_panic(l->s, false);
		if (l->s->no_reboot)
			loop_timer_set(&l->last_words, loop_now() + LAST_WORDS_NS);
	}
}

static void on_wake(void *ctx)
{
	struct shift *l = ctx;
	uint8_t byte;

	hear_panic(l);
	session_take_out(l->s);
	if (console_roomy(l->s->console))
		l->blocked = false;
	tell_room(l);
	l->n_output = console_peek(l->s->console, &byte, 1);
	give_input(l);
}

static uint64_t prepare_migration(void *ctx, struct pollfd *p)
{
	const struct migration *g = ((struct shift *)ctx)->s->migration;
	int patience = g ? migration_patience(g) : -1;

	if (g)
		*p = (struct pollfd){migration_fd(g), migration_events(g), 0};
	return patience >= 0 ? loop_now() + (uint64_t)patience * 1000000 : LOOP_NEVER;
}

static void serve_migration(void *ctx, const struct pollfd *p)
{
	struct shift *l = ctx;

	(void)p;
	if (l->s->migration)
		go_on_migrating(l->s);
}

static uint64_t prepare_output(void *ctx, struct pollfd *p)
{
	const struct shift *l = ctx;

	*p = (struct pollfd){l->n_output ? output_fd(l->s) : -1, POLLOUT, 0};
	return LOOP_NEVER;
}

static void serve_output(void *ctx, const struct pollfd *p)
{
	struct shift *l = ctx;

	if (p->fd == output_fd(l->s))
		write_output(l);
}

/* Of who is attached it hears also when he goes. */
static uint64_t prepare_input(void *ctx, struct pollfd *p)
{
	const struct shift *l = ctx;
	bool room = input_room(l) > 0;

	if (l->s->attached >= 0)
		*p = (struct pollfd){l->s->attached, room ? POLLIN : 0, 0};
	else
		*p = (struct pollfd){l->input_open && room ? STDIN_FILENO : -1, POLLIN, 0};
	return LOOP_NEVER;
}

static void serve_input(void *ctx, const struct pollfd *p)
{
	struct shift *l = ctx;

	if (p->fd == input_fd(l->s)) /* still: stdin may have nothing */
		read_input(l);
}

static uint64_t prepare_signals(void *ctx, struct pollfd *p)
{
	*p = (struct pollfd){((struct shift *)ctx)->s->signals, POLLIN, 0};
	return LOOP_NEVER;
}

static void serve_signals(void *ctx, const struct pollfd *p)
{
	(void)p;
	read_signal(ctx);
}

static uint64_t prepare_end(void *ctx, struct pollfd *p)
{
	*p = (struct pollfd){machine_fd(((struct shift *)ctx)->s->machine), POLLIN, 0};
	return LOOP_NEVER;
}

static void serve_end(void *ctx, const struct pollfd *p)
{
	(void)p;
	((struct shift *)ctx)->ended = true;
}

static void end_last_words(void *ctx)
{
	machine_stop(((struct shift *)ctx)->s->machine);
}

/* In the order in which they have their turn. */
static int add_sources(struct shift *l)
{
	struct loop *loop = l->s->loop;
	int rc = 0;

	l->sources[0] = (struct loop_source){prepare_migration, serve_migration, l};
	l->sources[1] = (struct loop_source){prepare_output, serve_output, l};
	l->sources[2] = (struct loop_source){prepare_input, serve_input, l};
	l->sources[3] = (struct loop_source){prepare_signals, serve_signals, l};
	l->sources[4] = (struct loop_source){prepare_end, serve_end, l};
	for (unsigned i = 0; rc == 0 && i < 4; i++)
		rc = loop_add(loop, &l->sources[i]);
	if (rc == 0)
		rc = control_serve(l->s->control, loop);
	if (rc == 0)
		rc = display_serve(l->s->display, l->s->machine, loop);
	return rc < 0 ? rc : loop_add(loop, &l->sources[4]);
}

/* Until the machine has ended. */
static void serve(struct shift *l)
{
	for (l->ended = false; !l->ended;)
		loop_once(l->s->loop);
}

/* What the end of a machine is for the program. */
static int verdict(const struct shift *l, const struct machine_end *end)
{
	if (l->signal)
		return EXIT_SIGNAL + l->signal;
	if (l->panicked && l->s->no_reboot)
		return EXIT_FAILED;
	switch (end->reason) {
	case MACHINE_OFF:
	case MACHINE_RESET:
		return EXIT_OK;
	case MACHINE_STOPPED:
		if (l->s->reset)
			return EXIT_OK;
		terminal_note(l->s->left ? "migrated; the guest is off here" :
			      l->s->saved ? "saved; the guest is off here" : "left; the guest is off");
		return EXIT_OK;
	case MACHINE_TRIPLE_FAULT:
	case MACHINE_FAILED:
		terminal_note("the guest died: %s", end->text);
		return EXIT_FAILED;
	}
	return EXIT_FAILED;
}

static bool reboots(const struct shift *l, const struct machine_end *end)
{
	bool resets = end->reason == MACHINE_RESET || (end->reason == MACHINE_STOPPED && l->s->reset);

	return resets && !l->s->no_reboot && !l->signal && !l->left;
}

/* Who has stopped a machine. */
static const char *stopped_by(const struct shift *l)
{
	if (l->signal)
		return "host-signal";
	if (l->left)
		return "host-ui";
	if (l->panicked && l->s->no_reboot)
		return "guest-panic";
	return l->s->reset ? "host-qmp-system-reset" : "host-qmp-quit";
}

/* The machine as after power-on, and its clients know. */
static int reset(struct shift *l, const struct machine_end *end, struct err *err)
{
	struct session *s = l->s;
	int rc = machine_reset(s->machine, err);

	l->panicked = l->crash_kernel = false;
	console_booted(s->console);
	if (rc == 0 && s->reset && s->reset_paused)
		rc = machine_pause(s->machine, err);
	s->reset = false;
	if (rc == 0)
		told_reset(s, end->reason == MACHINE_RESET);
	return rc;
}

/* One of many that are made at once runs when all are; or never, if who makes them has died. */
static bool wait_for_others(const struct session *s)
{
	char byte;
	ssize_t n = 1;

	if (s->go < 0)
		return true;
	close(s->made);
	while ((n = read(s->go, &byte, 1)) < 0 && errno == EINTR)
		;
	close(s->go);
	return n == 1;
}

static void tell_ready(struct session *s)
{
	ssize_t n = s->ready >= 0 ? write(s->ready, &s->number, sizeof(s->number)) : 0;

	(void)n; /* who waited has gone */
	if (s->ready >= 0)
		close(s->ready);
	s->ready = -1;
}

/* One that has come from elsewhere runs when the other side has heard that it does. */
static int arrive(struct session *s, struct err *err)
{
	int rc = s->incoming >= 0 ? incoming_accept(s->incoming, err) : 0;

	if (s->incoming >= 0)
		close(s->incoming);
	if (rc < 0)
		machine_stop(s->machine);
	else if (s->incoming >= 0 && !s->paused)
		rc = machine_resume(s->machine, err);
	s->incoming = -1;
	return rc;
}

static int run_through_resets(struct shift *l)
{
	struct machine_end end;
	struct err err = {0};
	int rc = l->s->paused || l->s->incoming >= 0 ? machine_pause(l->s->machine, &err) : 0;

	if (!wait_for_others(l->s))
		return EXIT_FAILED;
	while (rc == 0) {
		rc = machine_start(l->s->machine, &err);
		if (rc < 0 || (rc = arrive(l->s, &err)) < 0)
			break;
		tell_ready(l->s);
		l->s->told_paused = is_paused(l->s);
		session_take_out(l->s); /* of before a reset, or in another lodge */
		serve(l);
		end_migration(l->s);
		machine_end(l->s->machine, &end);
		hear_panic(l);
		drain_output(l);
		if (!reboots(l, &end)) {
			told_end(l->s, &end, stopped_by(l));
			return verdict(l, &end);
		}
		rc = reset(l, &end, &err);
	}
	terminal_give_back();
	return report_failure(&err);
}

int session_run(struct session *s)
{
	static struct input input;
	struct shift l = {.s = s, .in = &input, .input_open = true, .output_open = true};
	int code;

	s->began = loop_now();
	if (add_sources(&l) < 0) {
		terminal_note("no memory");
		return EXIT_FAILED;
	}
	loop_timer_init(&l.last_words, s->loop, end_last_words, &l);
	console_listen(s->console, on_wake, &l);
	take_terminal(&l);
	code = run_through_resets(&l);
	terminal_give_back();
	loop_timer_fini(&l.last_words);
	return code;
}

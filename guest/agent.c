/* SPDX-License-Identifier: MIT */
/*
 * lodge-agent: runs commands in a Linux guest for who asks at its port; agent.h is what is said there.
 *
 *	lodge-agent [PORT]      a path; without one, the port that is named AGENT_PORT
 *
 * It is started by the guest's init, in the background, and stays: it waits until there is a port, and when the
 * port goes away until there is one again. One loop, one poll(), nothing that blocks:
 *
 *	port --> frames --> the command's stdin       (a window of bytes that it has not read yet)
 *	the command's stdout, stderr --> a frame --> port       (the next one when this one is gone)
 *	SIGCHLD: its status, and EXIT when both pipes are empty
 *
 * A command has a process group of its own, the agent's environment and directory, and pipes for stdin, stdout
 * and stderr. It has ended when it has ended: what it has left in the background with its stdout is not waited for.
 *
 * A restored guest has this program's pages in a file, and each that it touches costs; so it does little, and
 * a command is started by vfork().
 */
#include "guest/agent.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { STDOUT, STDERR };

/* Bytes that wait to be written: of one that ends at AGENT_WINDOW, or of frames. */
struct bytes {
	size_t at, n;
	uint8_t bytes[AGENT_WINDOW];
};

static int port = -1, children; /* a signalfd */

static struct bytes from_host; /* frames; the last one may not be whole */
static struct bytes to_host;
static char *args;
static size_t n_args;

/* The command. */
static pid_t pid; /* 0: none */
static bool ended;
static int status;
static int to_stdin = -1, outputs[2] = {-1, -1};
static struct bytes input;
static bool input_ended;
static uint32_t taken; /* of its input, and not told yet */

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* -- Saying something -------------------------------------------------------------- */

/* What was not written the last time; false if there is still something. */
static bool flush(void)
{
	while (to_host.n) {
		ssize_t n = write(port, to_host.bytes + to_host.at, to_host.n);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		to_host.at += (size_t)n;
		to_host.n -= (size_t)n;
	}
	to_host.at = 0;
	return true;
}

/* Whoever says something looks whether flush() has room for it, but for HELLO, for which there always is some. */
static void say(unsigned kind, const void *contents, size_t len)
{
	uint8_t *end = to_host.bytes + to_host.at + to_host.n;

	agent_header(end, kind, len);
	memmove(end + AGENT_HEADER, contents, len);
	to_host.n += AGENT_HEADER + len;
	flush();
}

static void say_number(unsigned kind, uint32_t n)
{
	const uint8_t bytes[4] = {(uint8_t)n, (uint8_t)(n >> 8), (uint8_t)(n >> 16), (uint8_t)(n >> 24)};

	say(kind, bytes, 4);
}

/* -- The command ------------------------------------------------------------------- */

static void forget_command(void)
{
	close_fd(&to_stdin);
	close_fd(&outputs[STDOUT]);
	close_fd(&outputs[STDERR]);
	pid = 0;
	ended = input_ended = false;
	taken = 0;
	input.at = input.n = 0;
	n_args = 0;
}

static void kill_command(void)
{
	if (pid)
		kill(-pid, SIGKILL);
	forget_command();
}

/* In the child of vfork(), which has our memory. */
static void execute(char **words, const int pipes[3][2], volatile int *failed)
{
	sigset_t none;

	setpgid(0, 0);
	if (dup2(pipes[0][0], 0) >= 0 && dup2(pipes[1][1], 1) >= 0 && dup2(pipes[2][1], 2) >= 0) {
		signal(SIGPIPE, SIG_DFL);
		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		execvp(words[0], words);
	}
	*failed = errno;
	_exit(127);
}

static bool make_pipes(int pipes[3][2])
{
	for (unsigned i = 0; i < 3; i++)
		if (pipe2(pipes[i], O_CLOEXEC) < 0)
			return false;
	fcntl(pipes[0][1], F_SETFL, O_NONBLOCK);
	fcntl(pipes[1][0], F_SETFL, O_NONBLOCK);
	fcntl(pipes[2][0], F_SETFL, O_NONBLOCK);
	return true;
}

/* 0, or an errno. */
static int start(char **words)
{
	int pipes[3][2] = {{-1, -1}, {-1, -1}, {-1, -1}};
	volatile int failed = 0;

	if (!make_pipes(pipes)) {
		failed = errno;
	} else {
		pid = vfork();
		if (pid == 0)
			execute(words, (const int (*)[2])pipes, &failed);
		if (pid < 0)
			failed = errno;
	}
	close_fd(&pipes[0][0]);
	close_fd(&pipes[1][1]);
	close_fd(&pipes[2][1]);
	to_stdin = pipes[0][1];
	outputs[STDOUT] = pipes[1][0];
	outputs[STDERR] = pipes[2][0];
	if (failed)
		forget_command();
	return failed;
}

static void run(void)
{
	size_t n = 0;
	char **words;
	int failed;

	for (size_t i = 0; i < n_args && n_args <= AGENT_ARGS_MAX; i++)
		n += !args[i];
	words = n && !args[n_args - 1] ? calloc(n + 1, sizeof(*words)) : NULL;
	n = 0;
	for (size_t i = 0; words && i < n_args; i += strlen(args + i) + 1)
		words[n++] = args + i;
	if (n_args > AGENT_ARGS_MAX)
		failed = E2BIG;
	else
		failed = words ? start(words) : EINVAL;
	free(words);
	n_args = 0;
	if (failed)
		say_number(AGENT_FAILED, (uint32_t)failed);
}

static void add_args(const struct agent_frame *f)
{
	char *more = n_args + f->len <= AGENT_ARGS_MAX ? realloc(args, n_args + f->len) : NULL;

	if (!more) {
		n_args = AGENT_ARGS_MAX + 1; /* RUN says so */
		return;
	}
	args = more;
	memcpy(args + n_args, f->contents, f->len);
	n_args += f->len;
}

static void feed(void)
{
	ssize_t n;

	while (to_stdin >= 0 && input.n) {
		n = write(to_stdin, input.bytes + input.at, input.n);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0) { /* nobody will read: the host is not asked for more */
			close_fd(&to_stdin);
			break;
		}
		input.at += (size_t)n;
		input.n -= (size_t)n;
		taken += (uint32_t)n;
	}
	if (input.n == 0)
		input.at = 0;
	if (input.n == 0 && input_ended)
		close_fd(&to_stdin);
}

static void add_input(const struct agent_frame *f)
{
	if (f->len == 0)
		input_ended = true;
	if (input.at + input.n + f->len > sizeof(input.bytes)) {
		memmove(input.bytes, input.bytes + input.at, input.n);
		input.at = 0;
	}
	if (to_stdin >= 0 && input.n + f->len <= sizeof(input.bytes)) {
		memcpy(input.bytes + input.at + input.n, f->contents, f->len);
		input.n += f->len;
	}
	feed();
}

/* -- Frames of the host ------------------------------------------------------------ */

static void obey(const struct agent_frame *f)
{
	if (f->kind == AGENT_SAYS_HELLO) {
		kill_command();
		say(f->kind, f->contents, f->len);
	} else if (f->kind == AGENT_ARGS && !pid) {
		add_args(f);
	} else if (f->kind == AGENT_RUN && !pid) {
		run();
	} else if (f->kind == AGENT_INPUT && pid) {
		add_input(f);
	} else if (f->kind == AGENT_SIGNAL && pid && f->len == 1) {
		kill(-pid, f->contents[0]);
	} else if (f->kind == AGENT_CLOSE && pid && f->len == 1) {
		close_fd(&outputs[f->contents[0] == 1 ? STDOUT : STDERR]);
	}
}

/* False when the other side has gone. */
static bool listen_to_host(void)
{
	struct agent_frame f;
	ssize_t n = read(port, from_host.bytes + from_host.n, sizeof(from_host.bytes) - from_host.n);
	size_t at = 0, len;

	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	if (n == 0)
		return false;
	from_host.n += (size_t)n;
	while ((len = agent_frame(from_host.bytes + at, from_host.n - at, &f))) {
		obey(&f);
		at += len;
	}
	from_host.n -= at;
	memmove(from_host.bytes, from_host.bytes + at, from_host.n);
	return true;
}

/* -- What the command says --------------------------------------------------------- */

/* A frame of what there is of its stdout or stderr; whether there was any. */
static bool pass_on(unsigned which)
{
	uint8_t *room = to_host.bytes + AGENT_HEADER;
	ssize_t n;

	if (outputs[which] < 0 || !flush())
		return false;
	n = read(outputs[which], room, AGENT_CONTENTS_MAX);
	if (n < 0)
		return false;
	if (n == 0)
		close_fd(&outputs[which]);
	else
		say(which == STDOUT ? AGENT_OUTPUT : AGENT_ERRORS, room, (size_t)n);
	return n > 0;
}

static void reap(void)
{
	struct signalfd_siginfo info;
	pid_t who;
	int how;

	if (read(children, &info, sizeof(info)) < 0)
		return;
	while ((who = waitpid(-1, &how, WNOHANG)) > 0) {
		if (who == pid) {
			ended = true;
			status = how;
		}
	}
}

/* Its last words come first. */
static void say_exit(void)
{
	uint8_t how[2] = {0, 0};

	do {
		if (!flush())
			return;
	} while (pass_on(STDOUT) || pass_on(STDERR));
	if (WIFSIGNALED(status))
		how[1] = (uint8_t)WTERMSIG(status);
	else
		how[0] = (uint8_t)WEXITSTATUS(status);
	forget_command();
	say(AGENT_EXIT, how, 2);
}

/* Not for each byte, and not too late: the host may have no window left. */
static void say_taken(void)
{
	if (!taken || (input.n && taken < AGENT_WINDOW / 2) || !flush())
		return;
	say_number(AGENT_TAKEN, taken);
	taken = 0;
}

/* -- The port ---------------------------------------------------------------------- */

/* By the name that its driver knows: where there is no udev, nobody has made /dev/virtio-ports. */
static int open_named(void)
{
	DIR *d = opendir("/sys/class/virtio-ports");
	struct dirent *e;
	char path[300], name[sizeof(AGENT_PORT) + 1];
	int fd = -1;

	while (d && fd < 0 && (e = readdir(d))) {
		ssize_t n = -1;
		int file;

		snprintf(path, sizeof(path), "/sys/class/virtio-ports/%s/name", e->d_name);
		file = open(path, O_RDONLY | O_CLOEXEC);
		if (file >= 0)
			n = read(file, name, sizeof(name));
		close_fd(&file);
		snprintf(path, sizeof(path), "/dev/%s", e->d_name);
		if (n >= (ssize_t)sizeof(AGENT_PORT) - 1 && !memcmp(name, AGENT_PORT, sizeof(AGENT_PORT) - 1))
			fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
	}
	if (d)
		closedir(d);
	return fd;
}

static void open_port(const char *path)
{
	for (;;) {
		port = path ? open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK) : open_named();
		if (port >= 0)
			return;
		nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
	}
}

/* Until the other side has gone. */
static void serve(void)
{
	enum { PORT, CHILDREN, INPUT, OUTPUTS };

	for (;;) {
		struct pollfd p[OUTPUTS + 2] = {
			[PORT] = {.fd = port, .events = POLLIN},
			[CHILDREN] = {.fd = children, .events = POLLIN},
			[INPUT] = {.fd = input.n ? to_stdin : -1, .events = POLLOUT},
		};
		bool has_room;

		if (ended)
			say_exit();
		say_taken();
		if (!(has_room = flush()))
			p[PORT].events |= POLLOUT;
		for (unsigned i = 0; i < 2; i++)
			p[OUTPUTS + i] = (struct pollfd){has_room ? outputs[i] : -1, POLLIN, 0};
		if (poll(p, OUTPUTS + 2, -1) < 0)
			continue;
		if (p[CHILDREN].revents)
			reap();
		if (p[INPUT].revents)
			feed();
		for (unsigned i = 0; i < 2; i++)
			if (p[OUTPUTS + i].revents)
				pass_on(i);
		if (p[PORT].revents & (POLLIN | POLLHUP | POLLERR) && !listen_to_host())
			return;
	}
}

/* Started with one of them closed, a pipe gets its number. And who is started in a shell's background has
 * signals ignored, for good, as would have its commands. */
static void make_fresh(void)
{
	sigset_t set;
	int fd;

	while ((fd = open("/dev/null", O_RDWR)) >= 0 && fd <= STDERR_FILENO)
		;
	close_fd(&fd);
	for (int sig = 1; sig < SIGRTMIN; sig++)
		signal(sig, SIG_DFL);
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_SETMASK, &set, NULL);
	children = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

int main(int argc, char **argv)
{
	make_fresh();
	for (;;) {
		open_port(argc > 1 ? argv[1] : NULL);
		serve();
		kill_command();
		from_host.n = to_host.n = to_host.at = 0;
		close_fd(&port);
		nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
	}
}

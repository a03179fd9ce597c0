/* SPDX-License-Identifier: MIT */
/*
 * A guest that is saved and restored while it works: cycle HOW TIMES MIN_MS MAX_MS OPTION...
 *
 *	cycle save 20 1 50 --kernel K --initrd I --append TEXT --cpus 2 --memory 256 --disk D \
 *		--disk E,readonly=on --console virtio --after "login:"
 *
 * At random moments, MIN_MS to MAX_MS apart, the machine is paused, and
 *
 *	pause   goes on
 *	save    is written to a file, destroyed, and made again from that file
 *	keep    is written to a file, and goes on; the file is thrown away
 *	fork    is forked and destroyed, and the fork goes on
 *	move    migrates to another machine of this process, live three times of four
 *	spawn   is forked, and goes on; the fork is thrown away
 *
 * and half of the times rests for up to 20 ms first, in which timers of the guest expire;
 * but not before the guest has printed a line with what is --after.
 *
 * The guest's console is stdout; on stderr is the time of each of them, in ns since 1970. The last lines are "# cycles N" and "# end REASON". The moments come from SEED in
 * the environment, which is printed. No sandbox, no session: the machine alone.
 */
#include "base/err.h"
#include "block/disk.h"
#include "engine/kvm.h"
#include "loop/loop.h"
#include "machine/fork.h"
#include "machine/incoming.h"
#include "machine/machine.h"
#include "machine/migrate.h"
#include "machine/saved.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static struct machine *m;
static struct saved *s;
static struct err err;
static struct disk_config disks[MACHINE_DISKS_MAX];
static unsigned n_disks;
static bool virtio;
static const char *after = "";
static atomic_bool shown;

static void die(const char *what)
{
	printf("# failed: %s: %s\n", what, err.text);
	exit(1);
}

/* Looks for `after` in what is printed; one console at a time. */
static void look_for(uint8_t byte)
{
	static char line[256];
	static size_t n;

	line[n++] = (char)byte;
	line[n] = 0;
	if (strstr(line, after))
		atomic_store(&shown, true);
	if (byte == '\n' || n == sizeof(line) - 1)
		n = 0;
}

static size_t put(void *ctx, const uint8_t *bytes, size_t n)
{
	(void)ctx;
	for (size_t i = 0; i < n && !atomic_load(&shown); i++)
		look_for(bytes[i]);
	return fwrite(bytes, 1, n, stdout);
}

static struct machine_config config = {
	.face = &kvm_soft, .cpus = 1, .memory = 256ull << 20, .cmdline = "console=ttyS0",
	.console = {.output = put},
};

/* PATH or PATH,readonly=on. */
static void add_disk(const char *value)
{
	const char *comma = strstr(value, ",readonly=on");
	size_t len = comma ? (size_t)(comma - value) : strlen(value);

	if (n_disks == MACHINE_DISKS_MAX)
		exit(2);
	disks[n_disks++] = (struct disk_config){.path = strndup(value, len), .readonly = comma};
}

static void take_option(const char *name, const char *value)
{
	if (!strcmp(name, "--kernel"))
		config.kernel = value;
	else if (!strcmp(name, "--initrd"))
		config.initrd = value;
	else if (!strcmp(name, "--append"))
		config.cmdline = value;
	else if (!strcmp(name, "--cpus"))
		config.cpus = (unsigned)atoi(value);
	else if (!strcmp(name, "--memory"))
		config.memory = (uint64_t)atoi(value) << 20;
	else if (!strcmp(name, "--console"))
		virtio = !strcmp(value, "virtio");
	else if (!strcmp(name, "--after"))
		after = value;
	else if (!strcmp(name, "--disk"))
		add_disk(value);
	else
		exit(2);
}

static void open_disks(void)
{
	for (unsigned i = 0; i < n_disks; i++)
		if (disk_open(&config.disks[i], &disks[i], &err) < 0)
			die("disk");
	config.n_disks = n_disks;
}

static void close_disks(void)
{
	for (unsigned i = 0; i < n_disks; i++)
		disk_close(config.disks[i]);
}

static void check_disks(void)
{
	for (unsigned i = 0; i < n_disks; i++)
		if (saved_check_disk(s, i, config.disks[i], &err) < 0)
			die("disk");
}

static void start(void)
{
	if (machine_create(&m, &config, &err) < 0)
		die("create");
	if (machine_start(m, &err) < 0)
		die("start");
}

/* From this state: a file's, or a fork's. */
static void restore(int fd)
{
	machine_destroy(m);
	close_disks();
	saved_close(s);
	if (saved_open_fd(&s, dup(fd), "file", &err) < 0 || saved_config(s, &config, &err) < 0)
		die("open");
	open_disks();
	check_disks();
	start();
}

static void say_when(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	fprintf(stderr, "%lld\n", ts.tv_sec * 1000000000LL + ts.tv_nsec);
}

static int save(void)
{
	int fd = open(".", O_TMPFILE | O_RDWR, 0600);

	if (fd < 0 || machine_save(m, fd, &err) < 0)
		die("save");
	return fd;
}

static void go_save(void)
{
	int fd = save();

	restore(fd);
	close(fd);
}

static void go_keep(void)
{
	close(save());
}

static void go_fork(void)
{
	struct machine_fork f;

	if (machine_fork(m, &f, &err) < 0)
		die("fork");
	config.fork = &f;
	restore(f.state);
	config.fork = NULL;
	machine_fork_close(&f);
}

static void go_spawn(void)
{
	struct machine_fork f;

	if (machine_fork(m, &f, &err) < 0)
		die("fork");
	machine_fork_close(&f);
}

static struct incoming in;
static int ends[2];

static void *receive(void *done)
{
	struct err why;

	if (incoming_receive(&in, ends[1], &why) == 0)
		atomic_store((atomic_bool *)done, true);
	return NULL;
}

/* What the other lodge would do. Both have the same disks; of this one nothing is on its way to them. */
static struct machine *arrive(struct saved **its)
{
	struct machine_config c = config;
	struct machine *other;

	if (saved_open_fd(its, dup(in.state), "stream", &err) < 0 || saved_config(*its, &c, &err) < 0)
		die("open");
	memcpy(c.disks, config.disks, sizeof(c.disks));
	c.n_disks = config.n_disks;
	c.incoming = &in;
	if (machine_create(&other, &c, &err) < 0 || incoming_accept(ends[1], &err) < 0)
		die("create");
	return other;
}

static void go_move(void)
{
	struct migration_plan plan = {.live = random() % 4, .direct = true};
	struct machine *other = NULL;
	struct saved *its = NULL;
	enum migration_now now = MIGRATION_GOES_ON;
	struct migration *g;
	atomic_bool done = false;
	pthread_t t;

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) < 0 || pthread_create(&t, NULL, receive, &done))
		die("socket");
	plan.fd = ends[0];
	if (machine_resume(m, &err) < 0)
		return;
	if (migration_begin(&g, m, &plan, &err) < 0)
		die("migrate");
	while (now == MIGRATION_GOES_ON) {
		struct pollfd p = {migration_fd(g), migration_events(g), 0};

		poll(&p, 1, 1);
		if (!other && atomic_load(&done))
			other = arrive(&its);
		now = migration_step(g, &err);
	}
	if (now != MIGRATION_DONE && machine_life(m) != MACHINE_ENDED)
		die("migrate");
	migration_end(g);
	pthread_join(t, NULL);
	if (now != MIGRATION_DONE) /* it had reached its end */
		return;
	machine_destroy(m);
	saved_close(s);
	incoming_close(&in);
	close(ends[1]);
	s = its;
	m = other;
	if (machine_start(m, &err) < 0)
		die("start");
}

static const struct way {
	const char *name;
	void (*go)(void); /* the machine is paused; NULL: that is all */
} ways[] = {
	{"pause", NULL}, {"save", go_save}, {"keep", go_keep}, {"fork", go_fork}, {"spawn", go_spawn},
	{"move", go_move}, {0},
};

/* False: it has ended meanwhile. */
static bool once(const char *how)
{
	if (machine_pause(m, &err) < 0)
		return false;
	if (random() & 1)
		usleep((unsigned)random() % 20000);
	for (const struct way *w = ways; w->name; w++)
		if (!strcmp(how, w->name) && w->go)
			w->go();
	if (machine_life(m) == MACHINE_PAUSED && machine_resume(m, &err) < 0)
		die("resume");
	say_when();
	return true;
}

/* -- The loop, in which devices' timers go off ------------------------------------------ */

static uint64_t until;
static bool ended;

static uint64_t prepare_wait(void *ctx, struct pollfd *p)
{
	(void)ctx;
	*p = (struct pollfd){.fd = machine_fd(m), .events = POLLIN};
	return until;
}

static void serve_wait(void *ctx, const struct pollfd *p)
{
	(void)ctx;
	ended = p->revents;
}

/* For ms, or for ever; true if the machine has ended. */
static bool wait_for_end(int ms)
{
	until = ms < 0 ? LOOP_NEVER : loop_now() + (uint64_t)ms * 1000000;
	do
		loop_once(config.loop);
	while (!ended && loop_now() < until);
	return ended;
}

int main(int argc, char **argv)
{
	static const struct loop_source waits = {.prepare = prepare_wait, .serve = serve_wait};
	static const char *const reasons[] = {"off", "reset", "stopped", "triple fault", "failed"};
	const char *seed = getenv("SEED");
	struct machine_end end;
	int times, min, max, n = 0;

	if (argc < 5 || (argc - 5) % 2)
		return 2;
	times = atoi(argv[2]);
	min = atoi(argv[3]);
	max = atoi(argv[4]);
	for (int i = 5; i < argc; i += 2)
		take_option(argv[i], argv[i + 1]);
	config.virtio_console = virtio;
	srandom(seed ? (unsigned)atoi(seed) : (unsigned)time(NULL));
	setvbuf(stdout, NULL, _IONBF, 0);
	open_disks();
	if (loop_create(&config.loop, &err) < 0 || loop_add(config.loop, &waits) < 0)
		die("loop");
	start();
	for (;;) {
		int ms = n < times ? min + (int)(random() % (max - min + 1)) : -1;
		bool early = *after && !atomic_load(&shown);

		if (wait_for_end(early ? 1 : ms))
			break;
		if (early)
			continue;
		if (!once(argv[1]))
			break;
		n++;
	}
	machine_end(m, &end);
	machine_destroy(m);
	loop_destroy(config.loop);
	close_disks();
	saved_close(s);
	printf("\n# cycles %d\n# end %s: %s\n", n, reasons[end.reason], end.text);
	return 0;
}

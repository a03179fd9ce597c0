/* SPDX-License-Identifier: MIT */
/*
 * Migration, step by step: what devices and vCPUs write between rounds arrives, exactly one machine runs whenever the
 * connection ends, and only where its disks are; and what a stream may say that is no guest.
 */
#include "machine/migrate.h"

#include "base/bytes.h"
#include "base/err.h"
#include "base/macros.h"
#include "block/disk.h"
#include "block/tests/lossy.h"
#include "bus/guest.h"
#include "engine/kvm.h"
#include "machine/incoming.h"
#include "machine/private.h"
#include "machine/saved.h"
#include "machine/stream.h"
#include "machine/tests/echo.h"
#include "tests/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PLACE (8 * MiB)
#define PAGES 64u

static char kernel_path[] = "/tmp/lodge-migrate-XXXXXX";

/* -- Two sides --------------------------------------------------------------------- */

static struct machine *m;
static struct disk *disk; /* or NULL */
static struct echo e;
static int ends[2];
static struct incoming in;
static struct err why;
static atomic_int received; /* 0; 1: all is here; -errno */

static void boot(unsigned cpus)
{
	struct machine_config config = {
		.face = &kvm_soft, .cpus = cpus, .memory = 64 * MiB, .kernel = kernel_path, .cmdline = "e",
		.console = {.output = echo_put, .ctx = &e}, .disks = {disk}, .n_disks = disk != NULL,
	};
	struct err err = {0};

	e = (struct echo){.n = 0};
	if (!ok(machine_create(&m, &config, &err) == 0 && machine_start(m, &err) == 0, "a machine runs %s",
		err.text))
		exit(done_testing());
	echo_wait(&e, 6);
}

static void *receive(void *arg)
{
	int rc = incoming_receive(&in, ends[1], &why);

	(void)arg;
	atomic_store(&received, rc < 0 ? rc : 1);
	return NULL;
}

static struct migration *begin(bool live, bool direct, pthread_t *t)
{
	struct migration_plan plan = {.live = live, .direct = direct};
	struct migration *g = NULL;
	struct err err = {0};

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
		exit(2);
	atomic_store(&received, 0);
	plan.fd = ends[0];
	is_int(migration_begin(&g, m, &plan, &err), 0, "a migration begins %s", err.text);
	if (t)
		pthread_create(t, NULL, receive, NULL);
	return g;
}

static enum migration_now step(struct migration *g, struct err *err)
{
	struct pollfd p = {migration_fd(g), migration_events(g), 0};

	poll(&p, 1, 10);
	return migration_step(g, err);
}

/* Until all was sent and received. */
static bool send_all(struct migration *g)
{
	struct err err = {0};

	while (atomic_load(&received) == 0)
		if (step(g, &err) != MIGRATION_GOES_ON)
			return ok(false, "it goes on: %s", err.text);
	return ok(atomic_load(&received) == 1, "all was received %s", why.text);
}

static enum migration_now until(struct migration *g, struct err *err)
{
	enum migration_now now;

	while ((now = step(g, err)) == MIGRATION_GOES_ON)
		;
	return now;
}

/* The other machine, of what was received. */
struct other {
	struct machine *m;
	struct saved *s;
	struct machine_config config;
	struct echo e;
};

static bool make(struct other *o, struct err *err)
{
	*o = (struct other){.config = {.face = &kvm_soft, .incoming = &in}};
	o->config.console = (struct machine_console){.output = echo_put, .ctx = &o->e};
	return saved_open_fd(&o->s, dup(in.state), "stream", err) == 0 &&
	       saved_config(o->s, &o->config, err) == 0 && machine_create(&o->m, &o->config, err) == 0;
}

static void end(struct other *o)
{
	machine_destroy(o->m);
	saved_close(o->s);
	incoming_close(&in);
}

/* -- Memory as devices write it ---------------------------------------------------- */

static void write_page(unsigned page, uint32_t value)
{
	guest_write(&m->mem, PLACE + page * UINT64_C(4096), &value, sizeof(value));
}

static unsigned n_right(const struct other *o, uint32_t first)
{
	unsigned n = 0;

	for (unsigned i = 0; i < PAGES; i++) {
		uint32_t value = 0;

		guest_read(&o->m->mem, PLACE + i * UINT64_C(4096), &value, sizeof(value));
		n += value == first + i;
	}
	return n;
}

/* -- It arrives -------------------------------------------------------------------- */

static void test_arrives(bool live, unsigned cpus)
{
	static struct other o;
	struct err err = {0};
	struct migration *g;
	pthread_t t;

	boot(cpus);
	for (unsigned i = 0; i < PAGES; i++)
		write_page(i, 100 + i);
	g = begin(live, true, &t);
	send_all(g);
	pthread_join(t, NULL);
	is_int(machine_life(m), MACHINE_PAUSED, "here it stands still");
	if (ok(make(&o, &err), "there it is made %s", err.text)) {
		is_int(incoming_accept(ends[1], &err), 0, "and says so");
		is_int(until(g, &err), MIGRATION_DONE, "that is heard");
		migration_end(g);
		is_int(machine_life(m), MACHINE_PAUSED, "it does not go on here");
		machine_destroy(m);
		is_int(machine_start(o.m, &err), 0, "it goes on there");
		ok(echo_back(&o.e, o.m, "there"), "and answers");
		is_int(n_right(&o, 100), PAGES, "its memory is there");
	}
	close(ends[1]);
	end(&o);
}

/* What a device writes while it runs, before a round ends, arrives. */
static void test_devices(void)
{
	static struct other o;
	struct err err = {0};
	struct migration *g;
	pthread_t t;
	unsigned i;

	boot(2);
	for (i = 0; i < PAGES; i++)
		write_page(i, 100 + i);
	write_page(PAGES, 5);
	g = begin(true, true, NULL); /* nobody reads: the first round cannot end, for the socket is full */
	for (i = 0; i < 20; i++)
		step(g, &err);
	is_int(machine_life(m), MACHINE_RUNNING, "it runs, and nobody reads");
	for (i = 0; i < PAGES; i++)
		write_page(i, 200 + i);
	write_page(PAGES, 0);
	pthread_create(&t, NULL, receive, NULL);
	send_all(g);
	pthread_join(t, NULL);
	ok(migration_facts(g).rounds >= 2, "in %u rounds", migration_facts(g).rounds);
	if (ok(make(&o, &err), "there it is made %s", err.text)) {
		uint32_t value = 7;

		is_int(n_right(&o, 200), PAGES, "what devices wrote meanwhile is there");
		guest_read(&o.m->mem, PLACE + PAGES * UINT64_C(4096), &value, sizeof(value));
		is_int(value, 0, "and what became zeros");
	}
	incoming_accept(ends[1], &err);
	is_int(until(g, &err), MIGRATION_DONE, "it has moved");
	migration_end(g);
	machine_destroy(m);
	close(ends[1]);
	end(&o);
}

/* -- It does not ------------------------------------------------------------------- */

static void goes_on_here(const char *what)
{
	is_int(machine_life(m), MACHINE_RUNNING, "%s: it runs here", what);
	ok(echo_back(&e, m, "here"), "and answers");
}

static void test_broken(void)
{
	struct migration *g;
	struct err err = {0};
	pthread_t t;

	boot(2);
	g = begin(true, true, NULL);
	close(ends[1]);
	is_int(until(g, &err), MIGRATION_FAILED, "the other side is gone before all was sent");
	is_str(err.text, "the other side has gone before the guest was there", "that is told");
	migration_end(g);
	goes_on_here("gone at once");

	g = begin(false, false, NULL);
	is_int(machine_life(m), MACHINE_PAUSED, "not live: it stands still");
	migration_end(g);
	goes_on_here("given up");

	g = begin(true, true, &t);
	send_all(g);
	pthread_join(t, NULL);
	incoming_refuse(ends[1], "no\x1b[2J room");
	close(ends[1]);
	is_int(until(g, &err), MIGRATION_FAILED, "it is refused when all was sent");
	is_str(err.text, "the other side: no?[2J room", "its words are told, and nothing that moves a cursor");
	migration_end(g);
	incoming_close(&in);
	goes_on_here("refused");

	g = begin(true, true, &t);
	send_all(g);
	pthread_join(t, NULL);
	close(ends[1]);
	is_int(until(g, &err), MIGRATION_FAILED, "the other lodge is gone without a word");
	migration_end(g);
	incoming_close(&in);
	goes_on_here("without a word");

	g = begin(true, false, &t);
	send_all(g);
	pthread_join(t, NULL);
	close(ends[1]);
	is_int(until(g, &err), MIGRATION_UNKNOWN, "somebody in between is gone: it may run there");
	migration_end(g);
	incoming_close(&in);
	is_int(machine_life(m), MACHINE_PAUSED, "so it stands still here");
	is_int(machine_resume(m, &err), 0, "until somebody says otherwise");
	goes_on_here("unknown");

	machine_pause(m, &err);
	g = begin(true, true, &t);
	send_all(g);
	pthread_join(t, NULL);
	ok(in.paused, "a paused one arrives paused");
	close(ends[1]);
	is_int(until(g, &err), MIGRATION_FAILED, "or not at all");
	migration_end(g);
	incoming_close(&in);
	is_int(machine_life(m), MACHINE_PAUSED, "then it is paused here, as it was");
	machine_resume(m, &err);
	goes_on_here("paused");

	g = begin(true, true, &t);
	send_all(g);
	pthread_join(t, NULL);
	ok(write(ends[1], "?", 1) == 1 && until(g, &err) == MIGRATION_FAILED, "nonsense is no word");
	is_str(err.text, "the other side says what makes no sense", "that is told");
	migration_end(g);
	incoming_close(&in);
	close(ends[1]);
	goes_on_here("nonsense");
	machine_destroy(m);
}

/* It ends by itself on the way. */
static void test_ends(void)
{
	struct migration *g;
	struct err err = {0};
	pthread_t t;

	boot(1);
	g = begin(true, true, NULL);
	machine_stop(m);
	is_int(until(g, &err), MIGRATION_FAILED, "it ends on the way");
	migration_end(g);
	ok(incoming_receive(&in, ends[1], &why) < 0, "and does not arrive: %s", why.text);
	close(ends[1]);
	machine_destroy(m);
	boot(1);
	g = begin(true, true, &t);
	send_all(g);
	pthread_join(t, NULL);
	machine_stop(m);
	is_int(until(g, &err), MIGRATION_FAILED, "it ends when all was sent");
	is_str(err.text, "the machine has ended", "that is told");
	migration_end(g);
	incoming_close(&in);
	close(ends[1]);
	machine_destroy(m);
}

/* -- Its disk ---------------------------------------------------------------------- */

static char disk_name[] = "/tmp/lodge-migrate-disk-XXXXXX";
/* As the other lodge does. */
static struct disk *take_disk(void)
{
	struct disk *there = NULL;

	disk_open(&there, &(struct disk_config){.path = disk_name, .handed_over = true}, NULL);
	return there;
}

static bool can_take_disk(void)
{
	struct disk *there = take_disk();

	disk_close(there);
	return there;
}

static struct migration *begin_and_send(bool live, bool direct)
{
	pthread_t t;
	struct migration *g = begin(live, direct, &t);

	send_all(g);
	pthread_join(t, NULL);
	incoming_close(&in);
	return g;
}

static void has_disk_here(const char *what)
{
	ok(!can_take_disk(), "%s: it has its disk here", what);
}

/* The other lodge dies, and its disk is free a moment after its socket. */
static void test_disk_late(void)
{
	struct err err = {0};
	struct migration *g;
	struct disk *there;

	g = begin(true, true, NULL);
	step(g, &err);
	has_disk_here("on its way");
	migration_end(g);
	close(ends[1]);
	goes_on_here("given up");
	g = begin_and_send(true, true);
	ok((there = take_disk()), "when all was sent the other lodge can have it");
	close(ends[1]);
	for (unsigned i = 0; i < 10; i++)
		if (!is_int(step(g, &err), MIGRATION_GOES_ON, "the other one is dying"))
			break;
	is_int(machine_life(m), MACHINE_PAUSED, "it does not go on here without its disk");
	ok(migration_is_sent(g) && migration_fd(g) < 0 && migration_patience(g) > 0, "nor is it given up, nor polled for");
	disk_close(there);
	is_int(until(g, &err), MIGRATION_FAILED, "now it has died");
	is_str(err.text, "the other side has gone before the guest was there", "that is told");
	migration_end(g);
	has_disk_here("died");
	goes_on_here("died");
}

static void test_disk_unknown(void)
{
	struct err err = {0};
	struct migration *g = begin_and_send(true, false);
	struct disk *there = take_disk();

	close(ends[1]);
	is_int(until(g, &err), MIGRATION_UNKNOWN, "it may run there");
	migration_end(g);
	is_int(machine_resume(m, &err), -EBUSY, "it does not go on here while its disk is there");
	ok(strstr(err.text, disk_name) && strstr(err.text, "is using it"), "that is told: %s", err.text);
	is_int(machine_life(m), MACHINE_PAUSED, "it is paused");
	disk_close(there);
	is_int(machine_resume(m, &err), 0, "it does when it is free there");
	has_disk_here("resumed");
	goes_on_here("resumed");
}

static void test_disk_paused(void)
{
	struct err err = {0};
	struct migration *g;

	machine_pause(m, &err);
	g = begin_and_send(true, true);
	ok(can_take_disk(), "a paused one's disk can be had");
	close(ends[1]);
	is_int(until(g, &err), MIGRATION_FAILED, "it stays");
	migration_end(g);
	is_int(machine_life(m), MACHINE_PAUSED, "paused");
	has_disk_here("paused");
	machine_resume(m, &err);
	goes_on_here("resumed");
}

static void test_disk_lost(void)
{
	struct err err = {0};
	struct migration *g;
	pthread_t t;

	sync_fails = true;
	g = begin(true, true, &t);
	is_int(until(g, &err), MIGRATION_FAILED, "what cannot be made lasting is not handed over");
	ok(strstr(err.text, "flushing disk '") && strstr(err.text, disk_name), "that is told: %s", err.text);
	migration_end(g);
	pthread_join(t, NULL);
	close(ends[1]);
	is_int(atomic_load(&received), -EIO, "and nothing arrives");
	sync_fails = false;
	has_disk_here("not lasting");
	goes_on_here("not lasting");
}

static void test_disk(void)
{
	int fd = mkstemp(disk_name);
	struct err err = {0};

	ok(fd >= 0 && ftruncate(fd, 65536) == 0 &&
	   disk_open(&disk, &(struct disk_config){.path = disk_name}, &err) == 0, "a disk %s", err.text);
	close(fd);
	boot(2);
	test_disk_late();
	test_disk_unknown();
	test_disk_paused();
	test_disk_lost();
	machine_destroy(m);
	disk_close(disk);
	disk = NULL;
	unlink(disk_name);
}

/* -- Streams ----------------------------------------------------------------------- */

struct bytes {
	uint8_t at[4 * 4096];
	size_t n;
};

static void frame(struct bytes *b, uint32_t type, uint32_t count, uint64_t value)
{
	le32_put(b->at + b->n, type);
	le32_put(b->at + b->n + 4, count);
	le64_put(b->at + b->n + 8, value);
	b->n += STREAM_HEAD;
}

static void refused(const struct bytes *b, const char *words)
{
	struct err err = {0};
	int fd[2];

	if (pipe(fd) < 0 || write(fd[1], b->at, b->n) != (ssize_t)b->n)
		exit(2);
	close(fd[1]);
	ok(incoming_receive(&in, fd[0], &err) < 0 && strstr(err.text, words), "%s (%s)", words, err.text);
	close(fd[0]);
}

static void test_streams(void)
{
	struct bytes b = {.n = 0}, begun;

	refused(&b, "the stream ended before the guest was here");
	memcpy(b.at, "GET / HTTP/1.1\r\n", 16);
	b.n = 16;
	refused(&b, "this is no guest that migrates");
	b.n = 0;
	frame(&b, STREAM_BEGIN, 2, 64 * MiB);
	refused(&b, "the stream is version 2: this lodge knows 1");
	b.n = 0;
	frame(&b, STREAM_BEGIN, 1, UINT64_MAX - 4095);
	refused(&b, "bytes of memory");
	b.n = 0;
	frame(&b, STREAM_BEGIN, 1, 64 * MiB + 1);
	refused(&b, "a guest with 67108865 bytes of memory");
	begun = (struct bytes){.n = 0};
	frame(&begun, STREAM_BEGIN, 1, 64 * MiB);
	refused(&begun, "the stream ended before");
	for (unsigned i = 0; i < 5; i++) {
		static const struct {
			uint32_t count;
			uint64_t value;
		} lies[] = {{0, 0}, {513, 0}, {1, 64 * MiB}, {1, 1}, {2, 64 * MiB - 4096}};

		b = begun;
		frame(&b, i & 1 ? STREAM_PAGES : STREAM_ZEROS, lies[i].count, lies[i].value);
		refused(&b, "of a memory of 0x4000000");
	}
	b = begun;
	frame(&b, STREAM_PAGES, 1, 0);
	b.n += 4095;
	refused(&b, "the stream ended before");
	b = begun;
	frame(&b, STREAM_STATE, 0, UINT64_MAX);
	refused(&b, "a state of 18446744073709551615 bytes");
	b = begun;
	frame(&b, STREAM_STATE, 0, 64);
	b.n += 64;
	frame(&b, STREAM_STATE, 0, 64);
	refused(&b, "a state of 64 bytes");
	b = begun;
	frame(&b, STREAM_END, 0, 0);
	refused(&b, "the stream ended without the guest's state");
	b = begun;
	frame(&b, 77, 0, 0);
	refused(&b, "a frame of type 77");
}

int main(void)
{
	int fd = mkstemp(kernel_path);

	close(fd);
	if (ok(echo_kernel(kernel_path), "a kernel is written to %s", kernel_path)) {
		test_arrives(false, 1);
		test_arrives(true, 2);
		test_devices();
		test_broken();
		test_ends();
		test_disk();
	}
	test_streams();
	unlink(kernel_path);
	return done_testing();
}

/* SPDX-License-Identifier: MIT */
/*
 * The file system device, with a process that has the files played by this test: what goes there
 * and what comes back; a driver that resets while answers are on their way; what becomes of it when
 * the process says nonsense, or ends; a session that is asked for while much is under way.
 */
#include "dev/tests/guest.h"
#include "dev/virtio/fs_link.h"
#include "loop/loop.h"
#include "state/state.h"
#include "tests/tap.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define SLOT 5u
#define SIZE 16u

static struct device *dev;
static struct loop *loop;
static struct loop_timer soon;
static int ends[2]; /* the device's, and ours */
static int patience = -1;

static void nothing(void *ctx)
{
	(void)ctx;
}

static void turn(void)
{
	loop_call(&soon);
	loop_once(loop);
}

static void start(void)
{
	g_start();
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) < 0 || loop_create(&loop, NULL) < 0)
		abort();
	loop_timer_init(&soon, loop, nothing, NULL);
	dev = device_create(&virtio_fs_model, g_bus, NULL, &(struct virtio_fs_config){
		.pci = {.host = g_host, .mem = &g_mem, .slot = SLOT}, .tag = "tag", .fd = ends[0], .loop = loop,
		.patience_ms = patience}, NULL);
	device_reset(g_host);
	ok(drive(SLOT, 0, 2, SIZE), "a driver");
}

static void stop(void)
{
	device_destroy(dev);
	loop_timer_fini(&soon);
	loop_destroy(loop);
	close(ends[0]);
	close(ends[1]);
	g_stop();
}

/* A request of `len` bytes, with room for an answer, as number i of the driver's. */
static void ask(unsigned i, uint32_t len, uint32_t room)
{
	uint32_t at = FREE_RAM + i * 0x4000;

	memset(g_ram + at, (int)i + 1, len);
	memset(g_ram + at + 0x2000, 0, 0x2000);
	put_desc(1, i * 2, at, len, room ? F_NEXT : 0, i * 2 + 1);
	put_desc(1, i * 2 + 1, at + 0x2000, room, F_WRITE, 0);
	offer(1, SIZE, i * 2);
	kick(SLOT, 1);
}

static const uint8_t *answer_at(unsigned i)
{
	return g_ram + FREE_RAM + i * 0x4000 + 0x2000;
}

static struct fs_head hear(uint8_t *bytes)
{
	struct fs_head head = {0};

	if (recv(ends[1], &head, sizeof(head), MSG_WAITALL) != sizeof(head) ||
	    (head.len && recv(ends[1], bytes, head.len, MSG_WAITALL) != (ssize_t)head.len))
		ok(false, "the process hears a request");
	return head;
}

static void say(uint32_t cookie, const void *bytes, uint32_t len)
{
	struct fs_head head = {.len = len, .cookie = cookie};

	if (write(ends[1], &head, sizeof(head)) != sizeof(head) || write(ends[1], bytes, len) != (ssize_t)len)
		ok(false, "the process answers");
}

static void test_talk(void)
{
	static uint8_t bytes[FS_MESSAGE_MAX];
	struct fs_head a, b;

	start();
	is_int(bar_in(SLOT, 0, 0x2000, 4), 'g' << 16 | 'a' << 8 | 't', "its tag");
	is_int(bar_in(SLOT, 0, 0x2024, 4), 1, "one queue of requests");
	ask(0, 48, 100);
	ask(1, 60, 100);
	a = hear(bytes);
	ok(a.len == 48 && a.room == 100 && bytes[0] == 1 && bytes[47] == 1, "a request goes to the process as it is");
	b = hear(bytes);
	ok(b.len == 60 && bytes[59] == 2 && a.cookie != b.cookie, "and another one");
	say(b.cookie, "second", 6);
	say(a.cookie, "first", 5);
	turn();
	is_int(used_idx(1), 2, "answers come in any order");
	ok(memcmp(answer_at(0), "first", 5) == 0 && memcmp(answer_at(1), "second", 6) == 0, "each to its request");
	is_int(used_len(1, SIZE), 5, "with its length");
	say(a.cookie, "again", 5);
	turn();
	ok(used_idx(1) == 2 && memcmp(answer_at(0), "first", 5) == 0, "one to what was answered is nobody's");
	ask(2, 48, 20);
	say(hear(bytes).cookie, bytes, 4000);
	turn();
	is_int(used_len(1, SIZE), 20, "a longer one than there is room for is cut");
	ask(3, 48, 0);
	hear(bytes);
	is_int(used_idx(1), 4, "one that wants no answer is done with when it is sent");
	ask(4, 39, 100);
	is_int(bar_in(SLOT, 0, STATUS, 1) & 0x40, 0x40, "what is shorter than any request is a lie");
	stop();
}

static void test_reset(void)
{
	static uint8_t bytes[FS_MESSAGE_MAX];
	struct fs_head old;

	start();
	ask(0, 48, 100);
	old = hear(bytes);
	ok(drive(SLOT, 0, 2, SIZE), "a driver that resets does not wait for answers");
	ask(0, 48, 100);
	say(old.cookie, "of before", 9);
	turn();
	ok(used_idx(1) == 0 && answer_at(0)[0] == 0, "one to a request of before is dropped");
	say(hear(bytes).cookie, "now", 3);
	turn();
	ok(used_idx(1) == 1 && memcmp(answer_at(0), "now", 3) == 0, "the new one has its own");
	ask(1, 48, 100);
	hear(bytes);
	close(ends[1]);
	turn();
	ends[1] = dup(ends[0]);
	is_int(used_idx(1), 2, "the process ends: what was asked is answered");
	ok(le32_get(answer_at(1) + 4) == (uint32_t)-5 && le64_get(answer_at(1) + 8) == UINT64_C(0x0202020202020202), "EIO, with its number");
	ask(2, 48, 100);
	is_int(used_idx(1), 3, "and what is asked later, at once");
	stop();
}

static void test_nonsense(void)
{
	static uint8_t bytes[FS_MESSAGE_MAX];

	start();
	ask(0, 48, 100);
	hear(bytes);
	say(77, bytes, 0);
	if (write(ends[1], &(struct fs_head){.len = FS_MESSAGE_MAX + 1}, sizeof(struct fs_head)) < 0)
		ok(false, "nonsense");
	turn();
	ok(used_idx(1) == 1 && le32_get(answer_at(0) + 4) == (uint32_t)-5, "a process that says nonsense is not heard any more");
	stop();
}

/* Reads requests, and answers each, but only when it has room for it. */
static void *serve(void *unused)
{
	static uint8_t bytes[FS_MESSAGE_MAX];
	struct fs_head head;

	while (recv(ends[1], &head, sizeof(head), MSG_WAITALL) == sizeof(head)) {
		if (head.len && recv(ends[1], bytes, head.len, MSG_WAITALL) != (ssize_t)head.len)
			break;
		if (head.cookie == FS_SAVE)
			say(head.cookie, "session", 7);
		else
			say(head.cookie, bytes, head.room);
	}
	return unused;
}

/* Its last field is "session", 7 bytes of 1. */
static bool ends_with_session(const struct state_out *out)
{
	return out->len > 7 && memcmp(out->bytes + out->len - 7, "session", 7) == 0;
}

/* A driver that has filled the socket, has reset its device, and is saved. */
static void test_save(void)
{
	struct state_out out = {0};
	pthread_t thread;

	start();
	for (unsigned round = 0; round < 40; round++) {
		drive(SLOT, 0, 2, SIZE);
		for (unsigned i = 0; i < 8; i++)
			ask(i, 0x2000, 0x2000);
	}
	drive(SLOT, 0, 2, SIZE);
	pthread_create(&thread, NULL, serve, NULL);
	device_pause(dev);
	ok(device_save(dev, "fs", &out) == 0, "it is saved while answers to nobody fill the socket");
	ok(ends_with_session(&out), "with what the process says of its session");
	device_resume(dev);
	ask(0, 48, 100);
	while (!used_idx(1))
		loop_once(loop);
	is_int(answer_at(0)[0], 1, "and goes on");
	shutdown(ends[0], SHUT_RDWR);
	pthread_join(thread, NULL);
	free(out.bytes);
	stop();
}

/* As lodge-share is while the host's file system does not answer it. */
static void test_deaf(void)
{
	static uint8_t bytes[FS_MESSAGE_MAX];
	struct state_out out = {0};

	patience = 10;
	start();
	ask(0, 48, 100);
	hear(bytes);
	device_pause(dev);
	ok(used_idx(1) == 1 && le32_get(answer_at(0) + 4) == (uint32_t)-5, "a pause does not wait for ever: EIO");
	is_int(device_save(dev, "fs", &out), 0, "it is saved");
	ok(!ends_with_session(&out), "without a session");
	free(out.bytes);
	stop();
	start();
	device_pause(dev);
	out = (struct state_out){0};
	is_int(device_save(dev, "fs", &out), 0, "one that is asked for its session, and does not answer, is not waited for either");
	free(out.bytes);
	stop();
}

int main(void)
{
	test_talk();
	test_reset();
	test_nonsense();
	test_save();
	test_deaf();
	return done_testing();
}

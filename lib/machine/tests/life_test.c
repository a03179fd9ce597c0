/* SPDX-License-Identifier: MIT */
/*
 * The life of a machine around pauses and files: what may be done when, what a saved machine goes on with, and each
 * sentence with which one is refused. The guest is board_guest.S: it echoes what the serial port brings, until 'q'.
 */
#include "base/err.h"
#include "base/macros.h"
#include "block/disk.h"
#include "engine/kvm.h"
#include "machine/machine.h"
#include "machine/saved.h"
#include "machine/saved/form.h"
#include "machine/tests/echo.h"
#include "state/tests/fields.h"
#include "tests/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <unistd.h>

static char kernel_path[] = "/tmp/lodge-life-XXXXXX";
static char disk_path_[] = "/tmp/lodge-life-disk-XXXXXX";

static struct echo e;

static struct machine *make(const char *cmdline, unsigned cpus)
{
	struct machine_config config = {
		.face = &kvm_soft, .cpus = cpus, .memory = 64 * MiB, .kernel = kernel_path,
		.cmdline = cmdline, .console = {.output = echo_put, .ctx = &e},
	};
	struct machine *m;
	struct err err = {0};

	memset(e.said, 0, sizeof(e.said));
	atomic_store(&e.n, 0);
	if (!ok(machine_create(&m, &config, &err) == 0, "a machine is made %s", err.text))
		exit(done_testing());
	return m;
}

static void start(struct machine *m)
{
	struct err err = {0};

	is_int(machine_start(m, &err), 0, "it starts %s", err.text);
}

static void wait_for(size_t n)
{
	echo_wait(&e, n);
}

static void echoes(struct machine *m, const char *text, const char *what)
{
	ok(echo_back(&e, m, text), "%s (%s)", what, e.said);
}

static void ends(struct machine *m, enum machine_reason reason, const char *what)
{
	struct machine_end end;

	machine_end(m, &end);
	is_int(end.reason, reason, "%s (%s)", what, end.text);
}

/* -- Pauses ------------------------------------------------------------------------ */

static void test_pauses(void)
{
	struct machine *m = make("e", 2);
	struct err err = {0};
	size_t took;

	is_int(machine_life(m), MACHINE_CREATED, "it is created");
	is_int(machine_resume(m, &err), 0, "resuming what is not paused is fine");
	start(m);
	is_int(machine_life(m), MACHINE_RUNNING, "it runs");
	wait_for(6);
	echoes(m, "one", "it answers");
	for (unsigned i = 0; i < 20; i++) {
		is_int(machine_pause(m, &err), 0, "it is paused %s", err.text);
		is_int(machine_life(m), MACHINE_PAUSED, "it says so");
		is_int(machine_pause(m, &err), 0, "once more, which is fine");
		took = machine_console_input(m, (const uint8_t *)"x", 1); /* 0: it does not listen yet */
		usleep(2000);
		is_int(atomic_load(&e.n), 9 + i, "it is silent");
		is_int(machine_resume(m, &err), 0, "it goes on");
		echo_say(m, took ? "" : "x");
		wait_for(10 + i);
	}
	is_int(machine_life(m), MACHINE_RUNNING, "it runs again");
	echo_say(m, "q");
	ends(m, MACHINE_OFF, "it ends as it would have");
	is_int(machine_life(m), MACHINE_ENDED, "it has ended");
	is_int(machine_pause(m, &err), -EINVAL, "what has ended is not paused");
	is_str(err.text, "the machine has ended", "that is told");
	is_int(machine_reset(m, &err), 0, "it is reset");
	is_int(machine_life(m), MACHINE_CREATED, "and as if it was new");
	machine_destroy(m);
}

static void test_paused_first(void)
{
	struct machine *m = make("e", 2);
	struct err err = {0};

	is_int(machine_pause(m, &err), 0, "one that has not started is paused %s", err.text);
	start(m);
	is_int(machine_life(m), MACHINE_PAUSED, "it starts as a paused one");
	usleep(20000);
	is_int(atomic_load(&e.n), 0, "and says nothing");
	is_int(machine_resume(m, &err), 0, "it goes on");
	wait_for(6);
	is_str(e.said, "lodge\n", "from its first instruction");
	machine_destroy(m);
}

static void test_stop(void)
{
	struct machine *m = make("e", 2);
	struct err err = {0};

	start(m);
	wait_for(6);
	is_int(machine_pause(m, &err), 0, "it is paused");
	machine_stop(m);
	ends(m, MACHINE_STOPPED, "a paused machine can be stopped");
	is_int(machine_resume(m, &err), -EINVAL, "it does not go on then");
	machine_destroy(m);
	m = make("h", 2);
	start(m);
	is_int(machine_pause(m, &err), 0, "another one is paused");
	machine_destroy(m);
	ok(true, "and destroyed");
}

/* The guest ends when it likes; whoever pauses it has it paused, or hears that it ended. */
static void test_ending(void)
{
	unsigned paused = 0, ended = 0;

	for (unsigned i = 0; i < 40; i++) {
		struct machine_end end;
		struct machine *m = make("o", 1 + i % 2);
		struct err err = {0};

		if (machine_start(m, &err) < 0)
			break;
		usleep(i * 100);
		if (machine_pause(m, &err) == 0) {
			paused += machine_life(m) == MACHINE_PAUSED;
			machine_resume(m, NULL);
		} else {
			ended += machine_life(m) == MACHINE_ENDED;
		}
		machine_end(m, &end);
		machine_destroy(m);
	}
	is_int(paused + ended, 40, "of 40 that were paused when they ended %u were, %u had ended", paused, ended);
}

/* -- Files ------------------------------------------------------------------------- */

static int save(struct machine *m)
{
	int fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	struct err err = {0};

	is_int(machine_save(m, fd, &err), 0, "it is saved %s", err.text);
	return fd;
}

static struct saved *open_saved(int fd, struct err *err)
{
	struct saved *s;

	return saved_open_fd(&s, dup(fd), "file", err) < 0 ? NULL : s;
}

static int create_from(struct saved *s, struct machine **m, struct disk *disk, struct err *err)
{
	static struct machine_config config;
	int rc;

	config = (struct machine_config){.face = &kvm_soft, .console = {.output = echo_put, .ctx = &e}};
	rc = saved_config(s, &config, err);
	if (disk)
		config.disks[config.n_disks++] = disk;
	return rc < 0 ? rc : machine_create(m, &config, err);
}

static void test_save(void)
{
	struct machine *m = make("e", 2);
	struct err err = {0};
	struct saved *s;
	int fd;

	start(m);
	wait_for(6);
	is_int(machine_save(m, STDERR_FILENO, &err), -EINVAL, "one that runs is not saved");
	is_str(err.text, "only a paused machine can be saved", "that is told");
	echoes(m, "a", "it answers");
	is_int(machine_pause(m, &err), 0, "it is paused");
	while (!machine_console_input(m, (const uint8_t *)"w", 1)) { /* it does not listen yet */
		machine_resume(m, NULL);
		usleep(1000);
		machine_pause(m, NULL);
	}
	fd = save(m);
	is_int(machine_life(m), MACHINE_PAUSED, "it is paused still");
	machine_resume(m, NULL);
	wait_for(8);
	is_str(e.said, "lodge\naw", "it goes on");
	machine_destroy(m);
	s = open_saved(fd, &err);
	ok(s && saved_check(s, &err) == 0, "its file is whole %s", err.text);
	atomic_store(&e.n, 0);
	memset(e.said, 0, sizeof(e.said));
	if (!ok(s && create_from(s, &m, NULL, &err) == 0, "another one is made of it %s", err.text))
		return;
	is_int(machine_life(m), MACHINE_CREATED, "it does not run yet");
	start(m);
	wait_for(1);
	is_str(e.said, "w", "it goes on from there, with the byte that waited");
	echoes(m, "more", "it answers");
	echo_say(m, "q");
	ends(m, MACHINE_OFF, "and ends");

	e.n = 0;
	memset(e.said, 0, sizeof(e.said));
	is_int(machine_reset(m, &err), 0, "it is reset %s", err.text);
	start(m);
	wait_for(6);
	is_str(e.said, "lodge\n", "it boots");
	machine_destroy(m);

	unlink(kernel_path);
	is_int(create_from(s, &m, NULL, &err), 0, "without its kernel it is made, too");
	start(m);
	echo_say(m, "q");
	ends(m, MACHINE_OFF, "and runs");
	is_int(machine_reset(m, &err), -ENOENT, "but cannot be reset");
	ok(strstr(err.text, "is not there any more: the guest cannot boot again"), "that is told: %s", err.text);
	machine_destroy(m);
	saved_close(s);
	close(fd);
	echo_kernel(kernel_path);
}

/* The file of a machine that runs is cut by somebody: what the guest has not touched is gone. */
static void test_cut_below(void)
{
	struct machine *m = make("e", 1);
	struct err err = {0};
	struct saved *s;
	int fd, other = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	start(m);
	wait_for(6);
	machine_pause(m, NULL);
	fd = save(m);
	machine_destroy(m);
	s = open_saved(fd, &err);
	if (!ok(s && create_from(s, &m, NULL, &err) == 0, "a machine of a file %s", err.text))
		return;
	machine_pause(m, NULL);
	start(m);
	if (ftruncate(fd, 4096) < 0)
		abort();
	is_int(machine_save(m, other, &err), -EFAULT, "the file is cut: the machine cannot be saved");
	is_str(err.text, "the file that the guest was restored from has been cut: its memory is not there any more",
	       "that is told");
	machine_resume(m, NULL);
	ends(m, MACHINE_FAILED, "the guest finds its memory gone, and nothing else happens");
	machine_destroy(m);
	saved_close(s);
	close(fd);
	close(other);
}

/* -- Files that are wrong ---------------------------------------------------------- */

static uint64_t get_at(int fd, off_t at)
{
	uint8_t bytes[8] = {0};

	if (pread(fd, bytes, 8, at) != 8)
		abort();
	return le64_get(bytes);
}

static void put_at(int fd, off_t at, uint64_t value)
{
	uint8_t bytes[8];

	le64_put(bytes, value);
	if (pwrite(fd, bytes, 8, at) != 8)
		abort();
}

static void flip(int fd, off_t at, unsigned bit)
{
	uint8_t byte;

	if (pread(fd, &byte, 1, at) != 1)
		abort();
	byte ^= (uint8_t)(1u << bit);
	if (pwrite(fd, &byte, 1, at) != 1)
		abort();
}

/* The checksums of a file whose header or body somebody has changed on purpose. */
static void seal(int fd)
{
	uint64_t len = (uint32_t)get_at(fd, AT_DESCRIPTION) + get_at(fd, AT_SECTIONS) +
		       saved_chunks(get_at(fd, AT_MEMORY_LEN)) * 8;
	uint8_t header[SAVED_HEADER], *body = malloc(len);

	if (pread(fd, body, len, SAVED_HEADER) == (ssize_t)len)
		put_at(fd, AT_BODY_SUM, saved_sum(body, len));
	free(body);
	if (pread(fd, header, sizeof(header), 0) != sizeof(header))
		abort();
	put_at(fd, AT_HEADER_SUM, saved_sum(header, AT_HEADER_SUM));
}

/* Refused with a sentence that has these words. */
static void refused(int fd, const char *words, const char *what)
{
	struct err err = {0};
	struct saved *s = open_saved(fd, &err);

	ok(!s && strstr(err.text, words), "%s: %s", what, err.text);
	saved_close(s);
}

static void test_flips(int fd)
{
	uint64_t body = (uint32_t)get_at(fd, AT_DESCRIPTION) + get_at(fd, AT_SECTIONS);
	uint64_t memory = get_at(fd, AT_MEMORY);
	unsigned wrong = 0, n = 0;
	struct err err = {0};
	struct saved *s;

	for (off_t at = 0; at < (off_t)(SAVED_HEADER + body); at += at < 64 ? 1 : 37)
		for (unsigned bit = at % 8; bit < 8; bit += at < 64 ? 1 : 8) {
			flip(fd, at, bit);
			err.text[0] = 0;
			s = open_saved(fd, &err);
			n++;
			wrong += s || strlen(err.text) < 20;
			saved_close(s);
			flip(fd, at, bit);
		}
	is_int(wrong, 0, "%u flipped bits of header, description and sections are refused", n);
	s = open_saved(fd, &err);
	ok(s && saved_check(s, &err) == 0, "without one it is fine");
	flip(fd, (off_t)(memory + 0x100000), 3);
	is_int(saved_check(s, &err), -EINVAL, "one in memory is found");
	is_str(err.text, "memory between 0x0 and 0x200000 has changed since it was written", "and told");
	flip(fd, (off_t)(memory + 0x100000), 3);
	flip(fd, (off_t)(memory + 33 * MiB), 0);
	is_int(saved_check(s, &err), -EINVAL, "one in a hole, too");
	flip(fd, (off_t)(memory + 33 * MiB), 0);
	is_int(saved_check(s, &err), 0, "zeros that are stored are as good as a hole");
	saved_close(s);
}

static void test_cuts(int fd)
{
	struct stat st;
	uint64_t memory = get_at(fd, AT_MEMORY);
	const off_t cuts[] = {0, 7, 63, 64, 100, 5000, (off_t)memory - 1, (off_t)memory};
	static uint8_t bytes[4 << 20];
	struct err err = {0};
	struct saved *s;

	fstat(fd, &st);
	for (unsigned i = 0; i < ARRAY_SIZE(cuts); i++) {
		int part = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

		if (pread(fd, bytes, (size_t)cuts[i], 0) != cuts[i] ||
		    pwrite(part, bytes, (size_t)cuts[i], 0) != cuts[i])
			abort();
		refused(part, cuts[i] < 64 ? "is not a saved machine" : "the file is cut", "a cut file");
		close(part);
	}
	if (ftruncate(fd, st.st_size - 1) < 0)
		abort();
	refused(fd, "the file is cut", "a file that lacks a byte");
	if (ftruncate(fd, st.st_size) < 0)
		abort();
	s = open_saved(fd, &err);
	ok(s, "a whole one is not refused");
	saved_close(s);
}

/* Whoever makes a file can make the checksums, too. */
static void test_lies(int fd)
{
	static const struct {
		off_t at;
		uint64_t value;
		const char *words, *what;
	} lies[] = {
		{AT_MEMORY, 0, "makes no sense", "memory that begins at the header"},
		{AT_MEMORY, 4096, "makes no sense", "memory that is not aligned"},
		{AT_MEMORY, UINT64_C(1) << 62, "makes no sense", "memory behind the end"},
		{AT_MEMORY_LEN, 0, "makes no sense", "no memory"},
		{AT_MEMORY_LEN, UINT64_MAX - 4095, "makes no sense", "all memory"},
		{AT_SECTIONS, UINT64_MAX, "makes no sense", "sections of 2^64 bytes"},
		{AT_SECTIONS, 60 * MiB, "makes no sense", "sections that lie over memory"},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(lies); i++) {
		uint64_t was = get_at(fd, lies[i].at);
		uint8_t header[SAVED_HEADER];

		put_at(fd, lies[i].at, lies[i].value);
		if (pread(fd, header, sizeof(header), 0) != sizeof(header))
			abort();
		put_at(fd, AT_HEADER_SUM, saved_sum(header, AT_HEADER_SUM));
		refused(fd, lies[i].words, lies[i].what);
		put_at(fd, lies[i].at, was);
	}
	seal(fd);
}

/* CPUID that says it has everything. */
static void test_lacks(int fd)
{
	off_t at = SAVED_HEADER + (off_t)(uint32_t)get_at(fd, AT_DESCRIPTION);
	size_t len = get_at(fd, AT_SECTIONS);
	uint8_t *sections = malloc(len);
	struct field f = {0};
	struct err err = {0};
	struct machine *m;
	struct saved *s;

	if (pread(fd, sections, len, at) != (ssize_t)len)
		abort();
	while (next_field(sections, len, &f))
		if (!strcmp(f.section, "cpuid") && strstr(f.name, "ecx"))
			le32_put(f.data, UINT32_MAX);
	if (pwrite(fd, sections, len, at) != (ssize_t)len)
		abort();
	free(sections);
	seal(fd);
	s = open_saved(fd, &err);
	ok(s && create_from(s, &m, NULL, &err) == -ERANGE &&
	   strstr(err.text, "the saved machine's CPU has ") &&
	   strstr(err.text, ", which engine 'soft' does not offer on this computer"),
	   "a CPU that this engine has not: %s", err.text);
	saved_close(s);
}

static void test_wrong_files(void)
{
	struct machine *m = make("e", 1);
	int fd;

	start(m);
	wait_for(6);
	machine_pause(m, NULL);
	fd = save(m);
	machine_destroy(m);
	test_flips(fd);
	test_cuts(fd);
	test_lies(fd);
	test_lacks(fd);
	close(fd);
	fd = open("/tmp", O_RDONLY | O_DIRECTORY);
	refused(fd, "is not a regular file", "a directory");
	close(fd);
}

/* -- Disks ------------------------------------------------------------------------- */

static struct disk *open_disk(void)
{
	struct disk *disk = NULL;
	struct err err = {0};

	ok(disk_open(&disk, &(struct disk_config){.path = disk_path_}, &err) == 0, "a disk %s", err.text);
	return disk;
}

static void test_disks(void)
{
	struct machine_config config = {
		.face = &kvm_soft, .cpus = 1, .memory = 64 * MiB, .kernel = kernel_path,
		.cmdline = "h", .n_disks = 1,
	};
	struct machine *m;
	struct err err = {0};
	struct saved *s;
	struct disk *disk;
	int fd = mkstemp(disk_path_), file;

	if (ftruncate(fd, 65536) < 0)
		abort();
	disk = config.disks[0] = open_disk();
	if (!ok(machine_create(&m, &config, &err) == 0, "a machine with a disk is made %s", err.text))
		return;
	start(m);
	machine_pause(m, NULL);
	file = save(m);
	machine_destroy(m);
	s = open_saved(file, &err);
	is_int(saved_disks(s), 1, "the file knows its disk");
	is_str(saved_disk(s, 0)->path, disk_path_, "by its name");
	is_int(saved_check_disk(s, 0, disk, &err), 0, "which is as it was %s", err.text);
	ok(create_from(s, &m, NULL, &err) < 0 && strlen(err.text) > 20, "without it: %s", err.text);
	is_int(create_from(s, &m, disk, &err), 0, "with it a machine is made");
	machine_destroy(m);
	disk_close(disk);
	usleep(20000);
	if (pwrite(fd, "x", 1, 0) != 1)
		abort();
	disk = open_disk();
	is_int(saved_check_disk(s, 0, disk, &err), -EINVAL, "one that was written since is refused");
	ok(strstr(err.text, "has been written since the machine was saved"), "that is told: %s", err.text);
	disk_close(disk);
	if (ftruncate(fd, 131072) < 0)
		abort();
	disk = open_disk();
	is_int(saved_check_disk(s, 0, disk, &err), -EINVAL, "one of another size, too");
	ok(strstr(err.text, "has 131072 bytes; when the machine was saved it had 65536"), "that is told: %s",
	   err.text);
	disk_close(disk);
	saved_close(s);
	close(file);
	close(fd);
	unlink(disk_path_);
}

int main(void)
{
	int fd = mkstemp(kernel_path);

	close(fd);
	if (ok(echo_kernel(kernel_path), "a kernel is written to %s", kernel_path)) {
		test_pauses();
		test_paused_first();
		test_stop();
		test_ending();
		test_save();
	test_cut_below();
		test_wrong_files();
		test_disks();
	}
	unlink(kernel_path);
	return done_testing();
}

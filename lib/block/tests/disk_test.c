/* SPDX-License-Identifier: MIT */
/*
 * Disks: every sentence that a user can cause, the locks between processes, and
 * requests against a real file.
 */
#include "base/err.h"
#include "block/disk.h"
#include "block/tests/lossy.h"
#include "tests/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char dir[] = "/tmp/lodge-disk-XXXXXX";
static char path[64], other[64];

static void make(const char *name, off_t size)
{
	int fd = open(name, O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0600);

	if (fd < 0 || ftruncate(fd, size) < 0)
		perror(name);
	close(fd);
}

/* -- Opening ----------------------------------------------------------------------- */

/* The sentence of a failed open, without "disk '...': "; NULL if it did not fail. */
static const char *refusal(const char *name, bool readonly)
{
	static struct err err;
	struct disk *disk;
	char prefix[128];

	err.text[0] = 0;
	if (disk_open(&disk, &(struct disk_config){.path = name, .readonly = readonly},
		      &err) == 0) {
		disk_close(disk);
		return NULL;
	}
	snprintf(prefix, sizeof(prefix), "disk '%s': ", name);
	if (disk || strncmp(err.text, prefix, strlen(prefix)))
		return err.text;
	return err.text + strlen(prefix);
}

static void test_refusals(void)
{
	snprintf(other, sizeof(other), "%s/none", dir);
	is_str(refusal(other, false), "cannot open it: No such file or directory",
	       "missing");
	is_str(refusal(dir, false), "is a directory, not a disk image", "a directory");
	is_str(refusal(dir, true), "is a directory, not a disk image", "to read, too");
	make(path, 0);
	is_str(refusal(path, false), "is empty", "an empty file");
	make(path, 1000);
	is_str(refusal(path, true), "has 1000 bytes, not a multiple of 512",
	       "half a sector");
	snprintf(other, sizeof(other), "%s/fifo", dir);
	mkfifo(other, 0600);
	is_str(refusal(other, true), "is neither a file nor a block device", "a FIFO");
	is_str(refusal("/dev/null", true), "is neither a file nor a block device",
	       "/dev/null");
	unlink(other);
	make(path, 4096);
	chmod(path, 0400);
	if (geteuid() == 0)
		skip("root may write everything");
	else
		is_str(refusal(path, false),
		       "may be read but not written; use it with readonly=on",
		       "a file that may not be written");
	chmod(path, 0600);
	is_str(refusal(path, false), NULL, "and a good one");
}

/* In another process, as another lodge would be. */
static bool opens_elsewhere(bool readonly)
{
	int status = 0;
	pid_t pid = fork();

	if (pid == 0) {
		struct disk *disk;

		_exit(disk_open(&disk,
				&(struct disk_config){.path = path,
						      .readonly = readonly},
				NULL) != 0);
	}
	waitpid(pid, &status, 0);
	return status == 0;
}

/* What another program's lock does to a reader. */
static const char *beside_lock(short type, off_t at, off_t len)
{
	struct flock l = {.l_type = type, .l_whence = SEEK_SET, .l_start = at, .l_len = len};
	int fd = open(path, O_RDWR | O_CLOEXEC);
	const char *why = fcntl(fd, F_OFD_SETLK, &l) == 0 ? refusal(path, true) : "cannot lock it";

	close(fd);
	return why;
}

static void test_others_locks(void)
{
	static const char refused[] = "another lodge (or other program) is writing to it";

	is_str(beside_lock(F_RDLCK, 0, 0), NULL, "who shares all of a file is a reader");
	is_str(beside_lock(F_RDLCK, 100, 1), NULL, "as is who has QEMU's byte for that");
	is_str(beside_lock(F_RDLCK, 201, 1), NULL, "or the byte that keeps writers away");
	is_str(beside_lock(F_RDLCK, 101, 1), refused, "QEMU writes");
	is_str(beside_lock(F_RDLCK, 103, 1), refused, "or changes its size");
	is_str(beside_lock(F_RDLCK, 200, 1), refused, "or wants no readers");
	is_str(beside_lock(F_WRLCK, 0, 0), refused, "another lodge writes");
}

static void test_locks(void)
{
	struct disk *disk;

	make(path, 4096);
	disk_open(&disk, &(struct disk_config){.path = path}, NULL);
	ok(!opens_elsewhere(false), "a disk that is written cannot be opened again");
	ok(!opens_elsewhere(true), "not even for reading");
	is_str(refusal(path, true), "another lodge (or other program) is writing to it",
	       "nor by the same process, which says why");
	is_str(refusal(path, false), "another lodge (or other program) is using it",
	       "as well");
	disk_close(disk);
	ok(opens_elsewhere(false), "closing unlocks it");
	disk_open(&disk, &(struct disk_config){.path = path, .readonly = true}, NULL);
	ok(opens_elsewhere(true), "two may read");
	ok(!opens_elsewhere(false), "while none may write");
	disk_close(disk);
	test_others_locks();
}

/* -- Requests ---------------------------------------------------------------------- */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static unsigned n_done;

static void done(struct disk_req *req)
{
	(void)req;
	pthread_mutex_lock(&mutex);
	n_done++;
	pthread_cond_signal(&cond);
	pthread_mutex_unlock(&mutex);
}

static void wait_for(unsigned n)
{
	pthread_mutex_lock(&mutex);
	while (n_done < n)
		pthread_cond_wait(&cond, &mutex);
	pthread_mutex_unlock(&mutex);
}

/* One request from start to end. */
static int doit(struct disk *disk, struct disk_req req)
{
	req.done = done;
	n_done = 0;
	if (!disk_submit(disk, &req))
		wait_for(1);
	return req.rc;
}

static int io(struct disk *disk, enum disk_op op, uint64_t at, void *bytes, size_t len)
{
	struct iovec iov = {bytes, len};

	return doit(disk,
		    (struct disk_req){.op = op, .at = at, .iov = &iov, .n_iov = 1});
}

static void test_requests(void)
{
	static uint8_t a[8192], b[8192];
	struct iovec pieces[] = {{b + 4096, 100}, {b, 412}, {b + 1000, 512}};
	struct disk *disk;

	make(path, 1 << 20);
	disk_open(&disk, &(struct disk_config){.path = path}, NULL);
	is_int(disk_info(disk)->size, 1 << 20, "the size");
	for (unsigned i = 0; i < sizeof(a); i++)
		a[i] = (uint8_t)(i * 7 + i / 256);
	is_int(io(disk, DISK_WRITE, 4096, a, 8192), 0, "a write");
	is_int(io(disk, DISK_READ, 4096, b, 8192), 0, "a read");
	ok(!memcmp(a, b, 8192), "brings it back");
	memset(b, 0, sizeof(b));
	is_int(doit(disk, (struct disk_req){.op = DISK_READ, .at = 4608, .iov = pieces,
					    .n_iov = 3}), 0, "a read in pieces");
	ok(!memcmp(b + 4096, a + 512, 100) && !memcmp(b, a + 612, 412) &&
	   !memcmp(b + 1000, a + 1024, 512), "each gets its part");
	is_int(doit(disk, (struct disk_req){.op = DISK_FLUSH}), 0, "a flush");
	is_int(doit(disk, (struct disk_req){.op = DISK_ZERO, .at = 4608, .len = 1024}),
	       0, "zeroes");
	io(disk, DISK_READ, 4096, b, 8192);
	ok(!memcmp(a, b, 512) && b[512] == 0 && b[1535] == 0 &&
	   !memcmp(a + 1536, b + 1536, 8192 - 1536), "are there, and only there");
	is_int(doit(disk,
		    (struct disk_req){.op = DISK_DISCARD, .at = 8192, .len = 4096}),
	       0, "a discard");

	is_int(io(disk, DISK_READ, (1 << 20) - 512, a, 1024), -EINVAL, "over the end");
	is_int(io(disk, DISK_READ, 1 << 20, a, 512), -EINVAL, "behind it");
	is_int(io(disk, DISK_WRITE, UINT64_MAX - 511, a, 512), -EINVAL,
	       "far behind it");
	is_int(io(disk, DISK_READ, 0, a, 100), -EINVAL, "a part of a sector");
	is_int(io(disk, DISK_READ, 100, a, 512), -EINVAL, "between sectors");
	is_int(io(disk, DISK_READ, 0, a, 0), -EINVAL, "nothing");
	is_int(doit(disk, (struct disk_req){.op = DISK_ZERO,
					    .at = 512,
					    .len = UINT64_MAX - 511}),
	       -EINVAL, "a wrap");
	disk_close(disk);

	disk_open(&disk, &(struct disk_config){.path = path, .readonly = true}, NULL);
	is_int(io(disk, DISK_WRITE, 0, a, 512), -EROFS, "a readonly disk");
	is_int(doit(disk, (struct disk_req){.op = DISK_DISCARD, .len = 512}), -EROFS,
	       "is not discarded either");
	is_int(doit(disk, (struct disk_req){.op = DISK_FLUSH}), 0,
	       "but may be flushed");
	is_int(io(disk, DISK_READ, 0, a, 512), 0, "and read");
	is_int(truncate(path, 512), 0, "somebody cuts it short");
	is_int(io(disk, DISK_READ, 4096, a, 512), -EIO, "that is an error");
	disk_close(disk);
}

/* Many at once: each sector is written with its number and read back. */
static void test_many(void)
{
	enum { N = 512 };
	static uint32_t bytes[N][128];
	static struct iovec iov[N];
	static struct disk_req reqs[N];
	unsigned late = 0, bad = 0;
	struct disk *disk;

	make(path, N * 512);
	disk_open(&disk, &(struct disk_config){.path = path, .threads = 8}, NULL);
	for (int pass = 0; pass < 2; pass++) {
		late = n_done = 0;
		for (unsigned i = 0; i < N; i++) {
			for (unsigned j = 0; j < 128; j++)
				bytes[i][j] = pass ? 0 : i;
			iov[i] = (struct iovec){bytes[i], 512};
			reqs[i] = (struct disk_req){
				.op = pass ? DISK_READ : DISK_WRITE,
				.at = i * 512,
				.iov = &iov[i],
				.n_iov = 1,
				.done = done,
				.sync = i % 128 == 0,
			};
			late += !disk_submit(disk, &reqs[i]);
		}
		disk_drain(disk);
		is_int(n_done, late, "drain waits for all %u", late);
	}
	for (unsigned i = 0; i < N; i++)
		bad += reqs[i].rc != 0 || bytes[i][0] != i || bytes[i][127] != i;
	is_int(bad, 0, "every sector has its own number");
	disk_close(disk);
}

/* -- Requests that nobody wants any more --------------------------------------------- */

static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;

/* Holds up the disk's only thread. */
static void done_at_gate(struct disk_req *req)
{
	pthread_mutex_lock(&gate);
	pthread_mutex_unlock(&gate);
	done(req);
}

static void test_cancel(void)
{
	static uint8_t a[512], b[512];
	struct iovec iov = {a, 512};
	struct disk_req first = {.op = DISK_FLUSH, .done = done_at_gate},
			second = {.op = DISK_WRITE, .iov = &iov, .n_iov = 1, .done = done};
	struct disk *disk;

	make(path, 4096);
	disk_open(&disk, &(struct disk_config){.path = path, .threads = 1}, NULL);
	memset(a, 1, sizeof(a));
	n_done = 0;
	pthread_mutex_lock(&gate);
	disk_submit(disk, &first);
	disk_submit(disk, &second);
	disk_cancel(disk, true);
	pthread_mutex_unlock(&gate);
	wait_for(2);
	is_int(second.rc, -ECANCELED, "a request that waits is cancelled");
	disk_cancel(disk, false);
	is_int(io(disk, DISK_READ, 0, b, 512), 0, "later ones are done");
	is_int(b[0], 0, "it was not");
	disk_close(disk);
}

/* -- From one lodge to another ------------------------------------------------------ */

static struct disk *open_other(struct err *err)
{
	struct disk *there = NULL;

	disk_open(&there, &(struct disk_config){.path = path, .handed_over = true}, err);
	return there;
}

/* One byte, as QEMU locks them; another one than ours has it if that fails. */
static bool can_lock_byte(short type, off_t at)
{
	struct flock l = {.l_type = type, .l_whence = SEEK_SET, .l_start = at, .l_len = 1};
	int fd = open(path, O_RDWR | O_CLOEXEC);
	bool can = fcntl(fd, F_OFD_SETLK, &l) == 0;

	close(fd);
	return can;
}

/* Its two sets of bytes are from 100 and from 200 on; who reads or writes an image wants the first of each. */
static void is_taken(const char *when)
{
	ok(!opens_elsewhere(false), "%s: nobody else can write it", when);
	ok(!opens_elsewhere(true), "%s: nor read it", when);
	ok(!can_lock_byte(F_RDLCK, 100) || !can_lock_byte(F_WRLCK, 200), "%s: nor can QEMU", when);
}

/* Who gives us a file that is open has it locked for as long as we have it. */
static void test_given(void)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct disk *given, *again;
	struct err err = {0};

	is_int(disk_open(&given, &(struct disk_config){.path = path, .fd = fd, .readonly = true, .format = DISK_RAW}, &err), 0,
	       "a disk whose file is open already %s", err.text);
	is_int(disk_open(&again, &(struct disk_config){.path = path}, &err), -EBUSY, "is locked");
	disk_close(given);
	is_int(disk_open(&again, &(struct disk_config){.path = path}, &err), 0, "and no longer when it is closed, though the file is open");
	disk_close(again);
	close(fd);
}

static void test_hand_over(void)
{
	struct disk *here, *there;
	uint8_t bytes[512] = "one";
	struct err err = {0};

	make(path, 4096);
	disk_open(&here, &(struct disk_config){.path = path}, NULL);
	io(here, DISK_WRITE, 0, bytes, sizeof(bytes));
	is_taken("here");
	ok(!open_other(&err), "what was not handed over cannot be taken");
	is_int(disk_hand_over(here, &err), 0, "it is handed over");
	is_int(disk_hand_over(here, &err), 0, "twice is once");
	is_taken("between both");
	is_int(io(here, DISK_WRITE, 0, bytes, sizeof(bytes)), -EBUSY, "here it is written no more");
	is_int(io(here, DISK_READ, 0, bytes, sizeof(bytes)), -EBUSY, "nor read");
	is_int(doit(here, (struct disk_req){.op = DISK_FLUSH}), -EBUSY, "nor flushed");
	is_int(disk_take_back(here, &err), 0, "it can be taken back");
	is_int(io(here, DISK_WRITE, 0, bytes, sizeof(bytes)), 0, "and used");
	ok(!open_other(&err), "then the other lodge comes too late");
	disk_hand_over(here, &err);
	there = open_other(&err);
	ok(there, "another lodge opens it %s", err.text);
	is_taken("there");
	is_int(disk_take_back(here, &err), -EBUSY, "it cannot be taken back");
	is_int(io(here, DISK_WRITE, 0, bytes, sizeof(bytes)), -EBUSY, "nor written here");
	is_int(io(there, DISK_READ, 0, bytes, sizeof(bytes)), 0, "there it is read");
	is_str((char *)bytes, "one", "as it was written");
	is_int(disk_hand_over(there, &err), -EBUSY, "and not handed on before we have closed it");
	ok(strstr(err.text, ", where it came from: another lodge"), "which is told: %s", err.text);
	is_int(io(there, DISK_WRITE, 0, bytes, sizeof(bytes)), 0, "it is used there all the same");
	disk_close(there);
	is_taken("the other one is gone");
	is_int(disk_take_back(here, &err), 0, "so it can be taken back");
	disk_hand_over(here, &err);
	there = open_other(&err);
	disk_close(here);
	is_taken("only there");
	is_int(disk_hand_over(there, &err), 0, "now it can be handed on %s", err.text);
	is_taken("handed on");
	disk_close(there);
	ok(opens_elsewhere(false), "and is free when all have closed it");
}

/* A disk that is only read has many readers, whoever moves. */
static void test_hand_over_readonly(void)
{
	struct disk_config config = {.path = path, .readonly = true};
	struct disk *here, *there;
	char bytes[512];

	disk_open(&here, &config, NULL);
	is_int(disk_hand_over(here, NULL), 0, "a readonly disk is left alone");
	is_int(io(here, DISK_READ, 0, bytes, sizeof(bytes)), 0, "and read on");
	config.handed_over = true;
	ok(disk_open(&there, &config, NULL) == 0 && opens_elsewhere(true), "here, there, and by others");
	disk_close(here);
	disk_close(there);
}

/* -- Devices ----------------------------------------------------------------------- */

/* A loop device of the file, or -1: nobody may make one here. */
static int open_loop(char *name, size_t len)
{
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC), file = open(path, O_RDWR | O_CLOEXEC);
	int n = control < 0 ? -1 : ioctl(control, LOOP_CTL_GET_FREE), loop;

	snprintf(name, len, "/dev/loop%d", n);
	loop = n < 0 ? -1 : open(name, O_RDWR | O_CLOEXEC);
	if (loop >= 0 && ioctl(loop, LOOP_SET_FD, file) < 0) {
		close(loop);
		loop = -1;
	}
	close(file);
	close(control);
	return loop;
}

/* What a device has cached when another computer, which is our file here, has written to it. */
static int read_device(const char *name, bool handed_over, bool *undated)
{
	uint8_t bytes[512] = {0};
	struct disk *disk = NULL;
	struct err err;

	if (disk_open(&disk, &(struct disk_config){.path = name, .handed_over = handed_over}, &err) < 0)
		return -1;
	io(disk, DISK_READ, 0, bytes, sizeof(bytes));
	*undated = disk_info(disk)->undated;
	disk_close(disk);
	return bytes[0];
}

static void test_device(void)
{
	int loop, file = open(path, O_RDWR | O_CLOEXEC);
	char name[32];
	bool undated;

	make(path, 1 << 20);
	loop = open_loop(name, sizeof(name));
	if (loop < 0) {
		skip("no loop device can be made here");
		close(file);
		return;
	}
	is_int(read_device(name, false, &undated), 0, "a device");
	ok(!undated, "with a date");
	ok(pwrite(file, "\7", 1, 0) == 1 && fsync(file) == 0, "is written by somebody else");
	if (read_device(name, false, &undated) != 0)
		skip("the host has dropped what it had cached");
	is_int(read_device(name, true, &undated), 7, "but not for who takes it over");
	ok(undated, "to whom its date says nothing");
	ioctl(loop, LOOP_CLR_FD, 0);
	close(loop);
	close(file);
}

/* -- A host that loses data -------------------------------------------------------- */

/* The kernel says once that it could not write, and drops the pages: no flush after that may
 * say that all is well. */
static void test_lost(void)
{
	struct disk *disk;
	char bytes[512] = "lost";
	struct err err = {0};

	make(path, 4096);
	if (disk_open(&disk, &(struct disk_config){.path = path}, NULL) < 0)
		return;
	is_int(io(disk, DISK_WRITE, 0, bytes, sizeof(bytes)), 0, "a write");
	is_int(doit(disk, (struct disk_req){.op = DISK_FLUSH}), 0, "a flush");
	sync_fails = true;
	is_int(doit(disk, (struct disk_req){.op = DISK_FLUSH}), -EIO, "one that fails");
	sync_fails = false;
	is_int(doit(disk, (struct disk_req){.op = DISK_FLUSH}), -EIO, "all fail from then on");
	is_int(io(disk, DISK_WRITE, 0, bytes, sizeof(bytes)), 0, "writes go on");
	is_int(io(disk, DISK_READ, 0, bytes, sizeof(bytes)), 0, "and reads");
	is_int(disk_hand_over(disk, &err), -EIO, "it cannot be handed over: the next lodge would not know");
	ok(strstr(err.text, "flushing disk '"), "that is told: %s", err.text);
	is_int(io(disk, DISK_WRITE, 0, bytes, sizeof(bytes)), 0, "and is used on");
	disk_close(disk);
}

int main(void)
{
	if (!mkdtemp(dir))
		return 1;
	snprintf(path, sizeof(path), "%s/disk", dir);
	test_refusals();
	test_locks();
	test_requests();
	test_many();
	test_cancel();
	test_given();
	test_hand_over();
	test_hand_over_readonly();
	test_device();
	test_lost();
	unlink(path);
	rmdir(dir);
	return done_testing();
}

/* SPDX-License-Identifier: MIT */
/*
 * qcow2 as disks have it: images of qemu-img, images that lie, names that lead elsewhere, many threads, and a process that
 * is killed. The random operations are qcow2_model's.
 */
#include "base/bytes.h"
#include "base/err.h"
#include "block/disk.h"
#include "block/node.h"
#include "block/qcow2.h"
#include "block/tests/check.h"
#include "block/tests/ram.h"
#include "tests/tap.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char dir[] = "/tmp/lodge-qcow2-XXXXXX";
static char path[64];

/* -- Requests ------------------------------------------------------------------------- */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;

static void done(struct disk_req *req)
{
	pthread_mutex_lock(&mutex);
	req->done = NULL;
	pthread_cond_broadcast(&cond);
	pthread_mutex_unlock(&mutex);
}

static int doit(struct disk *disk, struct disk_req req)
{
	req.done = done;
	if (disk_submit(disk, &req))
		return req.rc;
	pthread_mutex_lock(&mutex);
	while (req.done)
		pthread_cond_wait(&cond, &mutex);
	pthread_mutex_unlock(&mutex);
	return req.rc;
}

static int io(struct disk *disk, enum disk_op op, uint64_t at, void *bytes, size_t len)
{
	return doit(disk, (struct disk_req){.op = op, .at = at, .len = len, .n_iov = 1,
					    .iov = &(struct iovec){bytes, len}});
}

static struct disk *open_disk(const struct disk_config *config)
{
	struct disk *disk = NULL;
	struct err err = {0};

	if (disk_open(&disk, config, &err) < 0)
		note("%s", err.text);
	return disk;
}

/* -- Files ------------------------------------------------------------------------------ */

static void in_dir(char *into, const char *name)
{
	snprintf(into, 64, "%s/%s", dir, name);
}

/* A shell's command in the directory. */
__attribute__((format(printf, 1, 2)))
static int run(const char *fmt, ...)
{
	char command[600];
	int n = snprintf(command, sizeof(command), "cd %s && (", dir);
	va_list ap;

	va_start(ap, fmt);
	n += vsnprintf(command + n, sizeof(command) - (size_t)n, fmt, ap);
	va_end(ap);
	snprintf(command + n, sizeof(command) - (size_t)n, ") >log 2>&1");
	return system(command);
}

static bool has_qemu(void)
{
	return run("qemu-img --version && qemu-io --version") == 0;
}

static struct check check_file(const char *name)
{
	char full[64];
	struct stat st;
	struct check c = {.corrupt = 1, .why = "cannot be read"};
	uint8_t *bytes;
	int fd;

	in_dir(full, name);
	fd = open(full, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return c;
	bytes = malloc((size_t)st.st_size);
	if (bytes && read(fd, bytes, (size_t)st.st_size) == st.st_size)
		c = check_image(bytes, (uint64_t)st.st_size);
	free(bytes);
	close(fd);
	return c;
}

static void is_clean(const char *name, const char *when)
{
	struct check c = check_file(name);

	ok(!c.corrupt && !c.leaks, "%s: clean (%s, %u leaks)", when, c.why, c.leaks);
}

static void make_image(const char *name, const struct qcow2_new *new)
{
	struct ram *ram = ram_create();
	char full[64];
	FILE *f;

	if (qcow2_create(&ram->node, new, NULL) < 0)
		perror("create");
	in_dir(full, name);
	f = fopen(full, "we");
	if (f) {
		fwrite(ram->bytes, 1, ram->node.size, f);
		fclose(f);
	}
	ram_destroy(ram);
}

/* The sentence without "disk 'PATH': ", or NULL. */
static const char *refusal(const struct disk_config *config)
{
	static struct err err;
	struct disk *disk;
	const char *at;

	err.text[0] = 0;
	if (disk_open(&disk, config, &err) == 0) {
		disk_close(disk);
		return NULL;
	}
	at = strstr(err.text, "': ");
	return at ? at + 3 : err.text;
}

static void is_refused(const char *name, const char *words, const char *what)
{
	char full[64];
	const char *why;

	in_dir(full, name);
	why = refusal(&(struct disk_config){.path = full, .format = DISK_QCOW2});
	ok(why && strstr(why, words), "%s: %s", what, why ? why : "was opened");
}

/* -- Formats ----------------------------------------------------------------------------- */

static void test_formats(void)
{
	struct disk_config config = {.path = path};
	char named[64];

	make_image("disk.qcow2", &(struct qcow2_new)QCOW2_NEW(MiB));
	make_image("disk", &(struct qcow2_new)QCOW2_NEW(MiB));
	in_dir(named, "disk.qcow2");
	in_dir(path, "disk");
	is_str(refusal(&config), "begins as a qcow2 image does, and its name does not say that it is one: it needs "
	       "format=qcow2, or format=raw", "a qcow2 image by another name");
	config.format = DISK_QCOW2;
	is_str(refusal(&config), NULL, "format=qcow2");
	config.format = DISK_RAW;
	is_str(refusal(&config), NULL, "format=raw");
	is_str(refusal(&(struct disk_config){.path = named}), NULL, "a name that says it");
	run("echo no >x.qcow2; truncate -s 1024 x.qcow2");
	is_refused("x.qcow2", "is no qcow2 image", "what is none");
	run(": >x.qcow2");
	is_refused("x.qcow2", "is no qcow2 image", "an empty file");
}

static void make_behind(const char *name, const char *behind, const char *format)
{
	struct qcow2_new new = QCOW2_NEW(MiB);

	new.backing = behind;
	new.backing_format = format;
	make_image(name, &new);
}

/* -- Images that lie ----------------------------------------------------------------------- */

struct lie {
	const char *what;
	unsigned at, len;
	uint64_t value;
	const char *words;
};

static const struct lie lies[] = {
	{"version", 4, 4, 4, "is qcow2 of version 4, not 2 or 3"},
	{"small clusters", 20, 4, 8, "cluster_bits is 8, not 9 to 21"},
	{"large clusters", 20, 4, 22, "cluster_bits is 22, not 9 to 21"},
	{"cluster_bits", 20, 4, 0xffffffff, "cluster_bits is 4294967295"},
	{"no disk", 24, 8, 0, "has a disk of 0 bytes"},
	{"half a sector", 24, 8, 1000, "has a disk of 1000 bytes"},
	{"a huge disk", 24, 8, UINT64_C(1) << 62, "its L1 table has"},
	{"more than is", 24, 8, UINT64_MAX & ~511ull, "has a disk of"},
	{"encryption", 32, 4, 1, "is encrypted"},
	{"no L1", 36, 4, 0, "its L1 table has 0 entries"},
	{"a huge L1", 36, 4, 0xffffffff, "its L1 table has 4294967295 entries"},
	{"an L1 behind the file", 36, 4, 4 << 20, "its L1 table is at byte"},
	{"an L1 in the header", 40, 8, 0, "its L1 table is at byte 0"},
	{"an L1 between clusters", 40, 8, 0x10008, "its L1 table is at byte 65544"},
	{"an L1 nowhere", 40, 8, UINT64_C(1) << 55, "its L1 table is at byte"},
	{"refcounts in the header", 48, 8, 0, "its refcount table is at byte 0"},
	{"refcounts nowhere", 48, 8, UINT64_MAX << 16, "its refcount table is at byte"},
	{"no refcounts", 56, 4, 0, "its refcount table has 0 bytes"},
	{"many refcounts", 56, 4, 0xffffffff, "its refcount table has 281474976645120 bytes"},
	{"snapshots", 60, 4, 0xffffffff, "has 4294967295 snapshots, and lodge takes up to 4096"},
	{"snapshots in the header", 60, 4, 1, "its snapshot table is at byte 0"},
	{"a data file", 72, 8, 4, "needs qcow2 feature 2 (external data file), which lodge does not have"},
	{"extended L2", 72, 8, 16, "needs qcow2 feature 4 (extended L2 entries)"},
	{"a feature without a name", 72, 8, UINT64_C(1) << 63, "needs qcow2 feature 63, which lodge"},
	{"dirty", 72, 8, 1, "was not closed"},
	{"corrupt", 72, 8, 2, "is marked corrupt"},
	{"refcounts of 128 bits", 96, 4, 7, "its refcount order is 7, not 0 to 6"},
	{"a short header", 100, 4, 72, "its header has 72 bytes"},
	{"a long header", 100, 4, 0x7ffffff8, "its header has 2147483640 bytes"},
	{"compression", 72, 8, 8, "its clusters"},
	{"the name of what is behind", 16, 4, 2000, "backing file's name has 2000 bytes"},
	{"a block of refcounts nowhere", 0x10000, 8, UINT64_C(1) << 40, "its refcounts cannot be read"},
	{"nothing counted", 0x10000, 8, 0, "cluster 0 has the header and is not counted"},
	{"an L2 table that is not counted", 0x30000, 8, 0x40000, "cluster 4 has an L2 table and is not counted"},
	{"refcounts far behind", 0x10010, 8, 0x20000, "far behind the file's end"},
};

static void patch(const char *name, uint64_t at, unsigned len, uint64_t value)
{
	uint8_t bytes[8];
	char full[64];
	int fd;

	in_dir(full, name);
	fd = open(full, O_RDWR | O_CLOEXEC);
	be64_put(bytes, value << (64 - 8 * len));
	if (fd < 0 || pwrite(fd, bytes, len, (off_t)at) != (ssize_t)len)
		perror(full);
	close(fd);
}

static void test_lies(void)
{
	for (unsigned i = 0; i < ARRAY_SIZE(lies); i++) {
		const struct lie *l = &lies[i];

		make_image("lie", &(struct qcow2_new)QCOW2_NEW(MiB));
		run("truncate -s 448K lie");
		if (l->at == 16)
			patch("lie", 8, 8, 200);
		if (l->at == 72 && l->value == 8) {
			patch("lie", 104, 1, 2);
			patch("lie", l->at, l->len, l->value);
			is_refused("lie", "compressed by method 2, not zlib (0) or zstd (1)", l->what);
			continue;
		}
		patch("lie", l->at, l->len, l->value);
		is_refused("lie", l->words, l->what);
	}
	make_image("lie", &(struct qcow2_new)QCOW2_NEW(MiB));
	patch("lie", 72, 8, UINT64_C(1) << 9);
	patch("lie", 112, 4, 0x6803f857);
	patch("lie", 116, 4, 48);
	patch("lie", 120, 2, 9);
	run("printf 'a\\nb' | dd of=lie bs=1 seek=122 conv=notrunc");
	is_refused("lie", "needs qcow2 feature 9 (a?b), which", "a feature with a name of two lines");
	make_behind("lie", "lie", "raw");
	patch("lie", 112, 4, 0x12345678);
	patch("lie", 116, 4, 0xfffffff0);
	is_refused("lie", "header extension 0x12345678 has 4294967280 bytes", "an extension that runs out");
}

/* It is read as far as it can be, and marked, and not written any more. */
static void test_damage(void)
{
	struct disk_config config = {.path = path, .format = DISK_QCOW2};
	static const uint64_t entries[] = {
		0x10000, /* the refcount table */ 0x30000, /* L1 */ UINT64_C(1) << 50, 0x50200,
		0x20000000, UINT64_C(1) << 62 | UINT64_C(1) << 50, UINT64_C(1) << 62, 0,
	};
	uint8_t bytes[512];

	in_dir(path, "lie");
	for (unsigned i = 0; i < ARRAY_SIZE(entries) - 1; i++) {
		struct disk *disk;

		make_image("lie", &(struct qcow2_new)QCOW2_NEW(MiB));
		disk = open_disk(&config);
		io(disk, DISK_WRITE, 0, bytes, 512);
		disk_close(disk);
		patch("lie", 0x40000, 8, entries[i]); /* the first entry of the L2 table */
		disk = open_disk(&config);
		is_int(io(disk, DISK_READ, 0, bytes, 512), -EIO, "an entry of 0x%llx: not read",
		       (unsigned long long)entries[i]);
		is_int(io(disk, DISK_WRITE, 0, bytes, 512), -EIO, "nor written");
		is_int(io(disk, DISK_WRITE, 65536, bytes, 512), -EIO, "nor anything else");
		is_int(io(disk, DISK_READ, 65536, bytes, 512), 0, "that can be read");
		disk_close(disk);
		is_str(refusal(&config), "is marked corrupt: `lodge-img check -r all` may repair it; readonly=on reads it",
		       "it is marked");
		config.readonly = true;
		is_str(refusal(&config), NULL, "and can be read");
		config.readonly = false;
	}
}

/* -- What is behind ---------------------------------------------------------------------------- */

static void test_behind(void)
{
	char absolute[80], text[32];
	uint8_t bytes[512];
	struct disk *disk;

	run("mkdir in out; head -c 100000 /dev/zero | tr '\\0' b >in/raw; cp in/raw out/raw; ln -s ../out/raw in/link; mkdir in/sub;"
	    "cp in/raw in/sub");
	make_behind("in/x", "raw", "raw");
	in_dir(path, "in/x");
	disk = open_disk(&(struct disk_config){.path = path, .format = DISK_QCOW2});
	ok(io(disk, DISK_READ, 99840, bytes, 512) == 0 && bytes[0] == 'b' && bytes[159] == 'b' && bytes[160] == 0,
	   "a raw file behind it, which ends in the middle of a sector");
	disk_close(disk);
	make_behind("in/x", "sub/raw", "raw");
	is_str(refusal(&(struct disk_config){.path = path, .format = DISK_QCOW2}), NULL, "one in a directory below");
	snprintf(absolute, sizeof(absolute), "%s/in/raw", dir);
	make_behind("in/x", absolute, "raw");
	is_str(refusal(&(struct disk_config){.path = path, .format = DISK_QCOW2}), NULL, "its whole name");

	run("cp in/raw in/h\303\274nter");
	make_behind("in/x", "h\303\274nter", "raw");
	is_str(refusal(&(struct disk_config){.path = path, .format = DISK_QCOW2}), NULL, "one whose name is not ASCII");
	run("mkdir in/.ssh; cp in/raw in/.ssh/key");
	make_behind("in/x", ".ssh/key", "raw");
	is_refused("in/x", "or below, and not hidden", "one that is hidden");

	make_behind("in/x", "../out/raw", "raw");
	is_refused("in/x", "/out/raw' behind it: an image leads only to what is in its directory", "one beside");
	make_behind("in/x", "link", "raw");
	is_refused("in/x", "/out/raw' behind it: an image leads only to", "a link");
	make_behind("in/x", "/etc/passwd", "raw");
	is_refused("in/x", "has '/etc/passwd' behind it: an image leads only to", "a file of the host");
	make_behind("in/x", "json:{\"driver\":\"file\"}", "raw");
	is_refused("in/x", "what is no file is not followed", "json:");
	make_behind("in/x", "nbd://host/disk", "raw");
	is_refused("in/x", "has 'nbd://host/disk' behind it: what is no file", "a protocol");
	make_behind("in/x", "raw", "");
	is_refused("in/x", "does not say which format 'raw' behind it has", "no format");
	make_behind("in/x", "raw", "vmdk");
	is_refused("in/x", "which is vmdk, not raw or qcow2", "another format");
	make_behind("in/x", "gone\nwith", "raw");
	is_refused("in/x", "gone?with' behind it: No such file", "one that is not there");
	make_behind("in/x", ".", "raw");
	is_refused("in/x", "behind it", "a directory");
	make_behind("in/x", "y", "qcow2");
	make_behind("in/y", "y", "qcow2");
	is_refused("in/x", "has more than 16 images behind it", "a circle");
	make_behind("in/x", "x", "qcow2");
	is_refused("in/x", "another lodge (or other program) is writing to it", "itself");
	for (int i = 0; i < 17; i++) {
		char next[16];

		snprintf(text, sizeof(text), "in/c%d", i);
		snprintf(next, sizeof(next), "c%d", i + 1);
		make_behind(text, i == 16 ? "raw" : next, i == 16 ? "raw" : "qcow2");
	}
	is_refused("in/c0", "has more than 16 images behind it", "17");
	in_dir(path, "in/c1");
	disk = open_disk(&(struct disk_config){.path = path, .format = DISK_QCOW2});
	ok(disk && io(disk, DISK_READ, 0, bytes, 512) == 0 && bytes[0] == 'b', "16 are read");
	disk_close(disk);
}

/* -- Writes that are thrown away ---------------------------------------------------------------- */

static void test_throw_away(void)
{
	struct disk_config config = {.path = path, .throw_away = true};
	uint8_t bytes[512] = "new";
	struct disk *disk, *other;
	struct err err;

	run("head -c 102400 /dev/zero | tr '\\0' b >raw; cp raw raw.before");
	in_dir(path, "raw");
	disk = open_disk(&config);
	other = open_disk(&config);
	ok(disk && other, "two may throw their writes away");
	is_int(disk_info(disk)->images, 2, "each has two images");
	is_int(io(disk, DISK_WRITE, 512, bytes, 512), 0, "one writes");
	is_int(doit(disk, (struct disk_req){.op = DISK_FLUSH}), 0, "and flushes");
	memset(bytes, 0, sizeof(bytes));
	io(disk, DISK_READ, 512, bytes, 512);
	is_str((char *)bytes, "new", "it reads that");
	io(other, DISK_READ, 512, bytes, 512);
	is_int(bytes[0], 'b', "the other does not");
	is_int(disk_settle(disk, &err), -EBUSY, "it cannot be saved");
	ok(strstr(err.text, "is written only here (snapshot=on)"), "%s", err.text);
	is_int(disk_hand_over(disk, &err), -EBUSY, "nor move");
	ok(strstr(err.text, "it cannot move"), "%s", err.text);
	is_str(refusal(&(struct disk_config){.path = path, .format = DISK_RAW}),
	       "another lodge (or other program) is using it", "and nobody writes the file meanwhile");
	disk_close(disk);
	disk_close(other);
	is_int(run("cmp raw raw.before"), 0, "the file is as it was");
	setenv("TMPDIR", "/nonexistent", 1);
	ok(strstr(refusal(&config), "a file in '/nonexistent' for what is written to it (TMPDIR"), "no place for it");
	unsetenv("TMPDIR");
}

/* -- Many threads ------------------------------------------------------------------------------- */

enum { WRITERS = 8, ROUNDS = 200, SECTORS = 1024 };

struct writer {
	struct disk *disk;
	unsigned i, seed, bad;
	uint32_t wrote[SECTORS];
};

/* Sectors that are its own, in clusters that all share. */
static void *be_writer(void *arg)
{
	struct writer *w = arg;
	uint32_t bytes[128];

	for (unsigned n = 1; n <= ROUNDS; n++) {
		unsigned s = (unsigned)rand_r(&w->seed) % (SECTORS / WRITERS) * WRITERS + w->i;

		if (n % 64 == 0)
			doit(w->disk, (struct disk_req){.op = DISK_FLUSH});
		if (n % 7 == 0) {
			w->bad += io(w->disk, DISK_ZERO, s * 512ull, NULL, 512) != 0;
			w->wrote[s] = 0;
			continue;
		}
		for (unsigned k = 0; k < 128; k++)
			bytes[k] = n;
		w->bad += io(w->disk, DISK_WRITE, s * 512ull, bytes, 512) != 0;
		w->wrote[s] = n;
		s = (unsigned)rand_r(&w->seed) % (SECTORS / WRITERS) * WRITERS + w->i;
		w->bad += io(w->disk, DISK_READ, s * 512ull, bytes, 512) != 0 || bytes[0] != w->wrote[s] ||
			  bytes[127] != w->wrote[s];
	}
	return NULL;
}

static void test_threads(unsigned cluster_bits)
{
	static struct writer w[WRITERS];
	struct qcow2_new new = QCOW2_NEW(SECTORS * 512);
	pthread_t threads[WRITERS];
	struct disk *disk;
	unsigned bad = 0;

	new.cluster_bits = cluster_bits;
	make_image("many", &new);
	in_dir(path, "many");
	disk = open_disk(&(struct disk_config){.path = path, .format = DISK_QCOW2, .threads = 8});
	for (unsigned i = 0; i < WRITERS; i++) {
		w[i] = (struct writer){.disk = disk, .i = i, .seed = i + 1};
		pthread_create(&threads[i], NULL, be_writer, &w[i]);
	}
	for (unsigned i = 0; i < WRITERS; i++) {
		pthread_join(threads[i], NULL);
		bad += w[i].bad;
	}
	is_int(bad, 0, "clusters of 2^%u: %u threads read what each wrote", cluster_bits, WRITERS);
	disk_close(disk);
	is_clean("many", "and the image");
}

/* -- Moments ----------------------------------------------------------------------------------------- */

struct pair {
	struct disk *disk;
	bool stop;
	uint32_t n;
};

/* The first sector, and when that is written the second: at any moment it is the same, or one behind. */
static void *write_pairs(void *arg)
{
	struct pair *p = arg;
	uint32_t bytes[128] = {0};

	while (!__atomic_load_n(&p->stop, __ATOMIC_RELAXED)) {
		bytes[0] = ++p->n;
		io(p->disk, DISK_WRITE, 0, bytes, 512);
		io(p->disk, DISK_WRITE, 1 << 20, bytes, 512);
	}
	return NULL;
}

static uint32_t read_number(struct disk *disk, uint64_t at)
{
	uint32_t bytes[128] = {0};

	io(disk, DISK_READ, at, bytes, 512);
	return bytes[0];
}

static struct disk *open_moment(struct disk *disk, struct disk_base *base, struct err *err)
{
	struct disk_config config = {.path = disk_path(disk), .format = disk_info(disk)->format, .throw_away = true,
				     .base = base};
	struct disk_moment m;
	struct disk *fork = NULL;

	disk_moment_begin(disk, &m, NULL);
	if (disk_moment_end(&m, err) < 0)
		return NULL;
	*base = m.base;
	if (disk_base_hold(base, m.slot, err) == 0)
		disk_open(&fork, &config, err);
	return fork;
}

static void write_number(struct disk *disk, uint64_t at, uint32_t n)
{
	uint32_t bytes[128] = {n};

	io(disk, DISK_WRITE, at, bytes, 512);
}

/* Its own writes, and those of the guest it was made of, are not each other's. */
static void test_fork(const char *name, bool throw_away)
{
	struct disk_config config = {.path = path, .throw_away = throw_away};
	struct disk *disk, *fork, *grandchild;
	struct disk_base base = {.n = 0}, second = {.n = 0};
	struct err err = {0};
	uint32_t a;

	in_dir(path, name);
	disk = open_disk(&config);
	write_number(disk, 0, 1);
	write_number(disk, 512, 2);
	fork = open_moment(disk, &base, &err);
	if (!ok(fork, "%s: a fork's disk %s", name, err.text))
		return;
	write_number(disk, 0, 3);
	is_int(read_number(fork, 0), 1, "it has what was there");
	is_int(read_number(disk, 0), 3, "and the guest goes on");
	write_number(fork, 512, 4);
	is_int(read_number(disk, 512), 2, "the fork's writes are its own");
	grandchild = open_moment(fork, &second, &err);
	ok(grandchild, "a fork of it %s", err.text);
	is_int(disk_info(fork)->images - disk_info(disk)->images, 1, "a fork has an image more");
	is_int(disk_info(grandchild)->images - disk_info(disk)->images, 2, "and its fork another one");
	write_number(fork, 512, 5);
	a = read_number(grandchild, 0);
	is_int(a * 10 + read_number(grandchild, 512), 14, "has what both had");
	for (unsigned i = 0; i < 20; i++) {
		struct disk_base more = {.n = 0};
		struct disk *other = open_moment(disk, &more, &err);

		write_number(disk, 0, 100 + i);
		disk_close(other);
		disk_base_close(&more);
	}
	disk_base_close(&second);
	is_int(read_number(fork, 0), 1, "twenty more come and go");
	disk_close(fork);
	disk_base_close(&base);
	is_int(read_number(grandchild, 0), 1, "a fork's fork outlives it");
	disk_close(disk);
	is_int(read_number(grandchild, 0) * 10 + read_number(grandchild, 512), 14, "and the guest");
	if (!throw_away)
		is_int(run("grep -q lodge-fork- %s", name), 0, "the snapshot is there as long as somebody reads it");
	disk = open_disk(&config);
	write_number(disk, 0, 77);
	is_int(read_number(grandchild, 0), 1, "so it is when the disk is used again");
	disk_close(disk);
	disk_close(grandchild);
	disk_close(open_disk(&config));
	if (!throw_away)
		is_clean(name, "all are gone");
}

static void test_too_late(void)
{
	struct disk *disk;
	struct disk_moment m;
	struct err err = {0};

	in_dir(path, "moments");
	disk = open_disk(&(struct disk_config){.path = path, .format = DISK_QCOW2});
	disk_moment_begin(disk, &m, NULL);
	is_int(disk_moment_end(&m, &err), 0, "a moment that nobody holds");
	disk_close(disk);
	is_int(disk_base_hold(&m.base, m.slot, &err), -EBUSY, "is gone with the disk");
	ok(strstr(err.text, "this fork's disk is gone"), "which is told: %s", err.text);
	disk_base_close(&m.base);
	is_clean("moments", "and has left nothing");

	run("truncate -s 1M plain");
	in_dir(path, "plain");
	disk = open_disk(&(struct disk_config){.path = path});
	is_int(disk_moment_check(disk, &err), -EBUSY, "a raw disk that is written has none");
	ok(strstr(err.text, "it is to be qcow2 (qemu-img convert -O qcow2), or used with snapshot=on"), "%s", err.text);
	disk_close(disk);
}

/* A number is never another snapshot's: a fork that comes late is told so, also when nine others were made meanwhile. */
static void test_numbers(void)
{
	struct disk_moment late, m;
	struct disk *disk;
	struct err err = {0};

	in_dir(path, "moments");
	disk = open_disk(&(struct disk_config){.path = path, .format = DISK_QCOW2});
	disk_moment_begin(disk, &late, NULL);
	disk_moment_end(&late, &err);
	for (unsigned i = 0; i < 12; i++) {
		disk_moment_begin(disk, &m, NULL);
		disk_moment_end(&m, &err);
		disk_base_close(&m.base);
	}
	is_int(disk_base_hold(&late.base, late.slot, &err), -EBUSY, "a fork that comes twelve forks too late");
	disk_base_close(&late.base);
	disk_close(disk);
	is_clean("moments", "nothing is left of them");
}

/* Forks' snapshots are nobody else's to make and to remove, and a disk that another lodge has is not changed at all. */
static void test_refused(void)
{
	struct disk_moment m, fork;
	struct disk *disk;
	struct err err = {0};

	in_dir(path, "moments");
	disk = open_disk(&(struct disk_config){.path = path, .format = DISK_QCOW2});
	disk_moment_begin(disk, &fork, NULL);
	is_int(disk_moment_end(&fork, &err), 0, "a fork's moment");
	disk_moment_forget(disk, &m, fork.name);
	is_int(disk_moment_end(&m, &err), -EINVAL, "is not removed by its name: %s", err.text);
	is_int(disk_base_hold(&fork.base, fork.slot, &err), 0, "and can be held");
	disk_base_close(&fork.base);
	disk_moment_begin(disk, &m, "lodge-fork-7");
	is_int(disk_moment_end(&m, &err), -EINVAL, "nor is one of such a name kept");
	is_int(disk_hand_over(disk, &err), 0, "the disk is handed over");
	disk_moment_begin(disk, &m, "late");
	is_int(disk_moment_end(&m, &err), -EBUSY, "and then no moment is made: %s", err.text);
	disk_moment_forget(disk, &m, "late");
	is_int(disk_moment_end(&m, &err), -EBUSY, "nor forgotten");
	is_int(disk_take_back(disk, &err), 0, "it is taken back");
	disk_close(disk);
	is_clean("moments", "and nothing is left of all that");
}

/* What forks have left stays while a saved machine remembers the disk's date, or another lodge may take the disk back. */
static void test_untouched(void)
{
	struct disk_config config = {.path = path, .format = DISK_QCOW2};
	struct disk *disk, *there;
	struct disk_base base = {.n = 0};
	struct err err = {0};
	uint64_t date;

	in_dir(path, "moments");
	disk = open_disk(&config);
	write_number(disk, 0, 1);
	disk_close(open_moment(disk, &base, &err));
	disk_base_close(&base);
	is_int(disk_settle(disk, &err), 0, "a disk that was forked is saved");
	date = disk_written(disk);
	disk_close(disk);
	disk = open_disk(&config);
	ok(disk && disk_written(disk) == date, "closed and opened it has the same date");
	is_int(disk_hand_over(disk, &err), 0, "it is handed over");
	run("cp moments before");
	config.handed_over = true;
	there = open_disk(&config);
	ok(there, "opened there");
	disk_close(there);
	is_int(run("cmp moments before"), 0, "and closed, because the guest stays: not a byte is another one");
	is_int(disk_take_back(disk, &err), 0, "taken back");
	write_number(disk, 512, 2);
	disk_close(disk);
	is_clean("moments", "and closed");
}

/* The name of what is behind it is in the header itself: extensions begin behind their end. */
static void test_extensions(void)
{
	make_image("lie", &(struct qcow2_new)QCOW2_NEW(MiB));
	patch("lie", 8, 8, 8);
	patch("lie", 72, 8, UINT64_C(1) << 40);
	for (unsigned at = 104; at <= 112; at += 8) {
		patch("lie", at, 4, 0x6803f857);
		patch("lie", at + 4, 4, 0xfffffe00);
	}
	is_refused("lie", "needs qcow2 feature 40, which lodge does not have", "an extension of 4 GiB");
}

static void test_moments(void)
{
	struct qcow2_new new = QCOW2_NEW(4 * MiB);
	struct pair p = {.n = 0};
	pthread_t thread;
	unsigned torn = 0;

	make_image("moments", &new);
	in_dir(path, "moments");
	p.disk = open_disk(&(struct disk_config){.path = path, .format = DISK_QCOW2});
	pthread_create(&thread, NULL, write_pairs, &p);
	for (unsigned i = 0; i < 30; i++) {
		struct disk_base base = {.n = 0};
		struct err err = {0};
		struct disk *fork = open_moment(p.disk, &base, &err);
		uint32_t first = fork ? read_number(fork, 0) : 9, second = fork ? read_number(fork, 1 << 20) : 0;

		torn += first != second && first != second + 1;
		disk_close(fork);
		disk_base_close(&base);
	}
	__atomic_store_n(&p.stop, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	is_int(torn, 0, "30 forks of a disk that is written all the time have one moment of it");
	disk_close(p.disk);
	is_clean("moments", "and nothing is left of them");
	make_image("fork.qcow2", &new);
	test_fork("fork.qcow2", false);
	test_fork("fork.qcow2", true);
	run("truncate -s 1M fork.raw");
	test_fork("fork.raw", true);
	test_too_late();
	test_numbers();
	test_refused();
	test_untouched();
	test_extensions();
}

/* -- Killed --------------------------------------------------------------------------------------- */

/* Writes for ever; says what was flushed. */
static void be_killed(int out)
{
	struct disk *disk = open_disk(&(struct disk_config){.path = path, .format = DISK_QCOW2});
	uint32_t bytes[1024], at = 1;

	for (uint32_t n = 1;; n++) {
		at = (at * 1103515245u + 12345u) & 0x7fffffff;
		for (unsigned k = 0; k < 1024; k++)
			bytes[k] = n;
		io(disk, DISK_WRITE, at % 1000 * 4096ull, bytes, 4096);
		if (n % 16 == 0) {
			doit(disk, (struct disk_req){.op = DISK_FLUSH});
			if (write(out, &n, sizeof(n)) != sizeof(n))
				_exit(1);
		}
	}
}

/* What was flushed is there, or newer. */
static unsigned count_lost(uint32_t flushed)
{
	struct disk *disk = open_disk(&(struct disk_config){.path = path, .format = DISK_QCOW2});
	uint32_t bytes[1024], at = 1, last[1000] = {0};
	unsigned lost = disk == NULL;

	for (uint32_t n = 1; n <= flushed; n++) {
		at = (at * 1103515245u + 12345u) & 0x7fffffff;
		last[at % 1000] = n;
	}
	for (unsigned i = 0; disk && i < 1000; i++) {
		io(disk, DISK_READ, i * 4096ull, bytes, 4096);
		lost += bytes[0] < last[i] || bytes[1023] < last[i];
	}
	disk_close(disk);
	return lost;
}

static void test_killed(void)
{
	unsigned lost = 0, corrupt = 0;

	in_dir(path, "killed");
	for (unsigned i = 0; i < 12; i++) {
		struct qcow2_new new = QCOW2_NEW(1000 * 4096);
		uint32_t flushed = 0, n;
		int ends[2];
		pid_t pid;

		new.cluster_bits = i % 2 ? 16 : 9;
		make_image("killed", &new);
		if (pipe(ends) < 0)
			return;
		pid = fork();
		if (pid == 0)
			be_killed(ends[1]);
		close(ends[1]);
		for (unsigned k = 0; k < 1 + i && read(ends[0], &n, sizeof(n)) == sizeof(n); k++)
			flushed = n;
		usleep(i * 700);
		kill(pid, SIGKILL);
		while (read(ends[0], &n, sizeof(n)) == sizeof(n))
			flushed = n;
		waitpid(pid, NULL, 0);
		close(ends[0]);
		corrupt += check_file("killed").corrupt;
		lost += count_lost(flushed);
	}
	is_int(corrupt, 0, "a process that is killed leaves no corrupt image");
	is_int(lost, 0, "and what it had flushed");
}

/* -- Beside qemu-img --------------------------------------------------------------------------------- */

static void test_qemu_image(const char *options, const char *convert)
{
	static uint8_t bytes[65536];
	struct disk *disk;

	is_int(run("rm -f q; qemu-img convert -f raw -O qcow2 %s -o %s noise q", convert, options), 0, "%s %s", options,
	       convert);
	is_int(run("qemu-img snapshot -c one q"), 0, "qemu-img takes a snapshot");
	in_dir(path, "q");
	disk = open_disk(&(struct disk_config){.path = path, .format = DISK_QCOW2});
	if (!ok(disk, "it is opened"))
		return;
	run("cp noise noise.new");
	for (unsigned i = 0; i < 24; i++) {
		uint64_t at = i * 31 % 37 * 50176ull;
		size_t len = 512 * (1 + i * 5 % 128);
		char new[64];
		int fd;

		memset(bytes, (int)i, len);
		in_dir(new, "noise.new");
		fd = open(new, O_WRONLY | O_CLOEXEC);
		if (io(disk, DISK_WRITE, at, bytes, len) != 0 || pwrite(fd, bytes, len, (off_t)at) != (ssize_t)len)
			note("a write at %llu", (unsigned long long)at);
		close(fd);
	}
	disk_close(disk);
	is_int(run("qemu-img compare -f qcow2 -F raw q noise.new"), 0, "what we wrote, qemu-img reads");
	is_int(run("qemu-img check q"), 0, "and finds clean");
	is_int(run("qemu-img snapshot -c two q; qemu-img snapshot -a one q; qemu-img compare -f qcow2 -F raw q noise"), 0,
	       "its snapshot is as it was");
	is_int(run("qemu-img snapshot -d one q; qemu-img snapshot -a two q; qemu-img snapshot -d two q; qemu-img check q; "
		   "qemu-img compare -f qcow2 -F raw q noise.new"), 0, "all come and go");
}

/* Our snapshots, its verbs; and the other way round. */
static void test_qemu_snapshots(void)
{
	struct qcow2_new new = QCOW2_NEW(MiB);
	struct err err = {0};
	struct ram *ram;
	struct node *node;
	char full[64];
	FILE *f;

	ram = ram_create();
	qcow2_create(&ram->node, &new, NULL);
	qcow2_open(&node, &(struct qcow2_config){.file = &ram->node, .path = "image"}, &err);
	node_put(node, 0, "one", 4);
	is_int(qcow2_snapshot_create(node, "first", &err), 0, "a snapshot %s", err.text);
	is_int(qcow2_snapshot_create(node, "first", &err), -EEXIST, "twice is refused: %s", err.text);
	is_int(qcow2_snapshot_create(node, "", &err), -EINVAL, "so is none: %s", err.text);
	is_int(qcow2_snapshot_apply(node, "other", &err), -ENOENT, "and one that is not there: %s", err.text);
	is_int(qcow2_snapshot_delete(node, "other", &err), -ENOENT, "to be deleted, too: %s", err.text);
	node_put(node, 0, "two", 4);
	is_int(qcow2_snapshot_create(node, "second", &err), 0, "another %s", err.text);
	node_put(node, 0, "now", 4);
	node_flush(node);
	in_dir(full, "snaps");
	f = fopen(full, "we");
	fwrite(ram->bytes, 1, ram->node.size, f);
	fclose(f);
	node_close(node);
	ram_destroy(ram);
	if (!has_qemu()) {
		skip("qemu-img is not installed");
		return;
	}
	is_int(run("qemu-img check snaps && qemu-img snapshot -l snaps | grep -q '^1 *first' && qemu-io -f qcow2 -c 'read -P "
		   "110 0 1' snaps | grep -vq fail"), 0, "qemu-img sees them");
	is_int(run("qemu-img snapshot -a first snaps && qemu-img check snaps && qemu-io -f qcow2 -c 'read -P 111 0 1' snaps |"
		   " (! grep fail)"), 0, "and applies one");
	is_int(run("qemu-img snapshot -d first snaps && qemu-img check snaps && qemu-img snapshot -a second snaps && qemu-img "
		   "check snaps && qemu-io -f qcow2 -c 'read -P 116 0 1' snaps | (! grep fail)"), 0, "and deletes one");
}

static void test_qemu(void)
{
	if (!has_qemu()) {
		skip("qemu-img is not installed");
		return;
	}
	run("(head -c 700000 /dev/urandom; head -c 600000 /dev/zero; seq 1 100000) | head -c 2048000 >noise");
	test_qemu_image("compat=1.1,cluster_size=64k", "");
	test_qemu_image("compat=1.1,cluster_size=64k", "-c");
	test_qemu_image("compat=1.1,cluster_size=64k,compression_type=zstd", "-c");
	test_qemu_image("compat=0.10,cluster_size=64k", "-c");
	test_qemu_image("compat=1.1,cluster_size=512", "-c");
	test_qemu_image("compat=1.1,cluster_size=512,refcount_bits=64", "");
	test_qemu_image("compat=1.1,cluster_size=2M", "-c");
	test_qemu_image("compat=1.1,cluster_size=2M,refcount_bits=8", "");
	test_qemu_image("compat=1.1,cluster_size=4k,refcount_bits=4,lazy_refcounts=on", "");
	test_qemu_image("compat=1.1,cluster_size=64k,preallocation=metadata", "");
}

int main(void)
{
	char command[64];

	if (!mkdtemp(dir))
		return 1;
	test_formats();
	test_lies();
	test_damage();
	test_behind();
	test_throw_away();
	test_threads(16);
	test_threads(9);
	test_moments();
	test_killed();
	test_qemu_snapshots();
	test_qemu();
	snprintf(command, sizeof(command), "rm -r %s", dir);
	ok(system(command) == 0, "nothing is left in %s", dir);
	return done_testing();
}

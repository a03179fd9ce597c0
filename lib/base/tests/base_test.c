/* SPDX-License-Identifier: MIT */
/* What the headers of lib/base promise. */
#include "base/bytes.h"
#include "base/err.h"
#include "base/json.h"
#include "base/log.h"
#include "base/macros.h"
#include "base/memfile.h"
#include "base/near.h"
#include "base/scoped.h"
#include "base/size.h"
#include "base/thread.h"
#include "base/word.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "tests/tap.h"

static void test_near(void)
{
	char longest[100] = {0};

	memset(longest, 'x', sizeof(longest) - 1);
	is_int(near_distance("avx2", "avx2"), 0, "a word and itself");
	is_int(near_distance("bmi3", "bmi1"), 1, "a letter changed");
	is_int(near_distance("--memery", "--memory"), 1, "in the middle");
	is_int(near_distance("popcount", "popcnt"), 2, "two removed");
	is_int(near_distance("", "abc"), 3, "all added");
	is_int(near_limit("popcount") + near_limit("--jsn"), 4, "two letters of a word may be wrong");
	is_int(near_limit("help") + near_limit("bmi"), 2, "of a short one one");
	is_int(near_limit("v2") + near_limit(""), 0, "of a shorter one none");
	is_int(near_distance("x", longest), 99, "what is no word is far away");
}

static void test_word(void)
{
	ok(word_in("pids", "cpu,pids,memory", ',') && word_in("cpu", "cpu,pids", ',') &&
	   word_in("pids", "cpu,pids", ',') && word_in("pids", "pids", ','), "a word of a list");
	ok(!word_in("pids", "mypids,pidsx,pid s", ','), "a part of one is none");
	ok(word_in("avx", "avx2 avx512f avx", ' '), "nor what is longer, but the one after it is");
	ok(!word_in("", "a,,b", ',') && !word_in("a", "", ','), "nothing is no word");
}

static void test_err(void)
{
	struct err err = {0};
	char name[1000];

	is_int(err_set(&err, EINVAL, "bits is %d, not %d", 40, 9), -EINVAL, "err_set returns");
	is_int(err_at(&err, -EINVAL, "disk '%s'", "root"), -EINVAL, "err_at returns rc");
	is_str(err.text, "disk 'root': bits is 40, not 9", "the message grows to the left");
	is_int(err.code, EINVAL, "the number stays");
	is_int(err_sys(&err, ENOENT, "open"), -ENOENT, "err_sys returns");
	is_str(err.text, "open: No such file or directory", "err_sys adds the reason");
	err_set(&err, EINVAL, "%s", "a\033[2J\n\177\303\274 ~");
	err_printable(err.text);
	is_str(err.text, "a?[2J???? ~", "what a stranger wrote is made printable");
	err_sys(&err, EMFILE, "open");
	is_str(err.text, "open: Too many open files (ulimit -n)", "and the limit");
	is_int(err_set(NULL, EIO, "x"), -EIO, "nobody listens");
	is_int(err_at(NULL, -EIO, "x"), -EIO, "nobody listens to err_at");

	err = (struct err){0};
	err_at(&err, -EACCES, "bare");
	is_str(err.text, "bare: Permission denied", "a bare number gets a sentence");

	memset(name, 'x', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	err_set(&err, EIO, "%s", name);
	err_at(&err, -EIO, "at");
	ok(!strncmp(err.text, "at: xxx", 7) && strlen(err.text) == sizeof(err.text) - 1,
	   "a long text is cut at its end");
}

static void test_size(void)
{
	static const struct {
		const char *text;
		uint64_t bytes;
		const char *why; /* NULL: good */
	} cases[] = {
		{.text = "1G", .bytes = GiB},
		{.text = "128M", .bytes = 128 * MiB},
		{.text = "512MiB", .bytes = 512 * MiB},
		{.text = "512mib", .bytes = 512 * MiB},
		{.text = "4k", .bytes = 4096},
		{.text = "0B", .bytes = 0},
		{.text = "16777215T", .bytes = 16777215ull << 40},
		{.text = "512", .why = "'512' has no unit: write 512M, 512G or 512B"},
		{.text = "", .why = "'' is not a size such as 512M or 1G"},
		{.text = "-1G", .why = "'-1G' is not a size such as 512M or 1G"},
		{.text = "G", .why = "'G' is not a size such as 512M or 1G"},
		{.text = "1.5G", .why = "'1.5G': '.5G' is no unit of size: use B, K, M, G or T"},
		{.text = "1 G", .why = "'1 G': ' G' is no unit of size: use B, K, M, G or T"},
		{.text = "16777216T", .why = "'16777216T' is more than 64 bits can count"},
		{.text = "99999999999999999999B",
		 .why = "'99999999999999999999B' is more than 64 bits can count"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct err err = {0};
		uint64_t bytes = 77;
		int rc = size_parse(&bytes, cases[i].text, &err);

		is_int(rc, cases[i].why ? -EINVAL : 0, "size '%s'", cases[i].text);
		is_int(bytes, cases[i].why ? 77 : cases[i].bytes, "its bytes");
		is_str(err.text, cases[i].why ? cases[i].why : "", "its message");
	}
}

static void test_bytes(void)
{
	uint8_t b[9] = {0};

	le64_put(b + 1, 0x0123456789abcdef);
	is_int(b[1], 0xef, "the low byte comes first");
	is_int(le64_get(b + 1), 0x0123456789abcdef, "64 bits");
	is_int(le32_get(b + 1), 0x89abcdef, "32 bits");
	is_int(le16_get(b + 3), 0x89ab, "16 bits");
	le32_put(b, 1);
	le16_put(b + 2, 0x1234);
	is_int(le32_get(b), 0x12340001, "puts meet");
	is_int(align_up(4097u, 4096), 8192, "align_up");
	is_int(align_down(UINT64_MAX, 4096), (long long)0xfffffffffffff000, "align_down");
}

static int open_and_keep(bool keep)
{
	scoped_fd int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	int seen = fd;

	if (keep)
		return keep_fd(&fd);
	return seen;
}

static char *alloc_and_keep(void)
{
	scoped_mem char *p = strdup("kept");
	scoped_mem char *gone = strdup("gone"); /* a leak is ASan's to find */

	return gone ? keep_mem(&p) : NULL;
}

static void test_scoped(void)
{
	pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	int fd = open_and_keep(false);
	char *p;

	is_int(fcntl(fd, F_GETFD), -1, "a scoped fd is closed");
	fd = open_and_keep(true);
	ok(fcntl(fd, F_GETFD) >= 0, "a kept fd is open");
	close(fd);
	p = alloc_and_keep();
	is_str(p, "kept", "kept memory is there");
	free(p);
	{
		scoped_lock(&lock);
		is_int(pthread_mutex_trylock(&lock), EBUSY, "held in the scope");
	}
	is_int(pthread_mutex_trylock(&lock), 0, "free after the scope");
}

static void test_json(void)
{
	char text[512] = "";
	FILE *out = fmemopen(text, sizeof(text), "w");
	struct json j = {.out = out};

	json_open(&j, NULL, '{');
	json_str(&j, "s", "a\"b\\c\n\x01");
	json_open(&j, "a", '[');
	json_uint(&j, NULL, UINT64_MAX);
	json_bool(&j, NULL, true);
	json_close(&j);
	json_open(&j, "e", '{');
	json_close(&j);
	json_real(&j, "r", 1.5);
	json_real(&j, "n", 0.0 / 0.0);
	json_str(&j, "z", NULL);
	json_close(&j);
	fclose(out);
	is_str(text,
	       "{\n  \"s\": \"a\\\"b\\\\c\\n\\u0001\",\n  \"a\": [\n"
	       "    18446744073709551615,\n    true\n  ],\n  \"e\": {},\n  \"r\": 1.5,\n"
	       "  \"n\": null,\n  \"z\": null\n}\n",
	       "a document");
}

/* Runs fn with stderr in a pipe and returns what it wrote. */
static const char *stderr_of(void (*fn)(void))
{
	static char text[4096];
	int saved = dup(STDERR_FILENO), p[2];
	ssize_t n;

	if (pipe(p) < 0)
		return NULL;
	dup2(p[1], STDERR_FILENO);
	close(p[1]);
	fn();
	dup2(saved, STDERR_FILENO);
	close(saved);
	n = read(p[0], text, sizeof(text) - 1);
	close(p[0]);
	text[n > 0 ? n : 0] = '\0';
	return text;
}

static void say_note(void)
{
	log_note("engine", "%s", "soft");
}

static void say_much(void)
{
	log_warn("disk", "%2000s", "x");
}

static void test_log(void)
{
	const char *text = stderr_of(say_note);

	ok(text && strstr(text, ": engine: soft\n"), "a notice is one line with its component");
	text = stderr_of(say_much);
	ok(text && strstr(text, ": warning: disk: ") && text[strlen(text) - 1] == '\n',
	   "a long warning is cut and still a line");
}

static void test_size_text(void)
{
	char text[SIZE_TEXT];

	is_str(size_text(text, 0), "0 bytes", "nothing");
	is_str(size_text(text, 1), "1 byte", "a byte");
	is_str(size_text(text, 1025), "1025 bytes", "odd bytes");
	is_str(size_text(text, 1536ull << 20), "1536 MiB", "no fractions");
	is_str(size_text(text, 8ull << 30), "8 GiB", "the largest unit");
	is_str(size_text(text, UINT64_MAX), "18446744073709551615 bytes", "what is largest");
	is_str(size_text(text, 1ull << 63), "8388608 TiB", "beyond the units");
}

/* The limit is the process's for good: in a child. */
static int create_limited(uint64_t limit, uint64_t size)
{
	const struct rlimit most = {limit, limit};
	int status = -1;
	pid_t child = fork();

	if (!child)
		_exit(setrlimit(RLIMIT_FSIZE, &most) ? 255 : memfile_create("x", size) < 0
						     ? -memfile_create("x", size) : 0);
	waitpid(child, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void test_memfile(void)
{
	scoped_fd int fd = memfile_create("x", 1ull << 40);
	char byte = 1;

	ok(fd >= 0 && pread(fd, &byte, 1, (1ll << 40) - 1) == 1 && !byte, "a TiB of zeros");
	is_int(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), 0, "seals can be added");
	is_int(fcntl(fd, F_GETFD), FD_CLOEXEC, "closed on exec");
	is_int(create_limited(4096, 4096), 0, "as much as ulimit -f allows");
	is_int(create_limited(4096, 4097), EFBIG, "a byte more, and no signal");
}

static char history[100];

static void on_start(const char *role)
{
	snprintf(history, sizeof(history), "%s begins", role);
}

static void *thread_main(void *done)
{
	sigset_t mask;

	pthread_sigmask(SIG_SETMASK, NULL, &mask);
	ok(sigismember(&mask, SIGTERM) && sigismember(&mask, SIGRTMIN) &&
	   !sigismember(&mask, SIGSEGV) && !sigismember(&mask, SIGSYS),
	   "signals are blocked in it but those that it raises itself");
	*(bool *)done = true;
	return NULL;
}

static void test_thread(void)
{
	bool done = false;
	pthread_t thread;

	thread_on_start(on_start);
	is_int(thread_start(&thread, "baker", thread_main, &done), 0, "a thread starts");
	is_str(history, "baker begins", "when that is back, its beginning is over");
	pthread_join(thread, NULL);
	ok(done, "it got its argument");
	thread_on_start(NULL);
}

int main(void)
{
	test_thread();
	test_size_text();
	test_near();
	test_word();
	test_err();
	test_size();
	test_bytes();
	test_scoped();
	test_json();
	test_log();
	test_memfile();
	return done_testing();
}

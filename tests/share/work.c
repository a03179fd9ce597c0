/* SPDX-License-Identifier: MIT */
/*
 * In a guest, in a shared directory:
 *
 *	work files FILE SEED STEPS   does anything to a file, and knows what is in it: a checksum at the end, for the host to compare
 *	work leave DIR               tries to get out; a line for each way that is open
 *	work hold DIR                holds files open until there is DIR/go: what they are then
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#define SIZE 262144u

static uint64_t seed;

static unsigned below(unsigned n)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (unsigned)((seed * 0x2545f4914f6cdd1dull >> 32) * n >> 32);
}

static void fail(const char *what)
{
	printf("%s: %s\n", what, strerror(errno));
	exit(1);
}

/* -- A file, and what is in it -------------------------------------------------------------- */

static uint8_t is[SIZE], got[SIZE];
static unsigned size; /* behind it `is` is zeros */
static int fd;
static const char *path;

static void fill(unsigned at, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		is[at + i] = (uint8_t)below(256);
	if (size < at + n)
		size = at + n;
}

static void cut(unsigned to)
{
	if (to < size)
		memset(is + to, 0, size - to);
	size = to;
}

static void compare(const char *how, const uint8_t *bytes, unsigned at, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (bytes[i] != is[at + i]) {
			printf("%s: byte %u is %u, not %u\n", how, at + i, bytes[i], is[at + i]);
			exit(1);
		}
}

static void do_write(unsigned at, unsigned n)
{
	fill(at, n);
	if (pwrite(fd, is + at, n, at) != (ssize_t)n)
		fail("write");
}

static void do_read(unsigned at, unsigned n)
{
	unsigned there = at >= size ? 0 : n < size - at ? n : size - at;

	if (pread(fd, got, n, at) != (ssize_t)there)
		fail("read");
	compare("read", got, at, there);
}

static void do_append(unsigned n)
{
	int end = open(path, O_WRONLY | O_APPEND);
	unsigned at = size;

	if (n > SIZE - size)
		n = SIZE - size;
	fill(at, n);
	if (end < 0 || write(end, is + at, n) != (ssize_t)n)
		fail("append");
	close(end);
}

static void do_map(unsigned at, unsigned n, bool writes)
{
	uint8_t *map;

	if (!size)
		return;
	at %= size;
	n = n < size - at ? n : size - at;
	map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		fail("mmap");
	compare("map", map + at, at, n);
	if (writes) {
		fill(at, n);
		memcpy(map + at, is + at, n);
		if (below(2) && msync(map, size, MS_SYNC) < 0)
			fail("msync");
	}
	munmap(map, size);
}

static void do_punch(unsigned at, unsigned n)
{
	unsigned end = at + n < size ? at + n : size;

	if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, n) < 0) {
		if (errno != EOPNOTSUPP)
			fail("hole");
		return;
	}
	if (at < end)
		memset(is + at, 0, end - at);
}

static void do_reopen(bool truncates)
{
	close(fd);
	fd = open(path, O_RDWR | (truncates ? O_TRUNC : 0));
	if (fd < 0)
		fail("open");
	if (truncates)
		cut(0);
}

/* It moves away under its handle, and back; and has a second name for a while. */
static void do_names(void)
{
	char other[300];

	snprintf(other, sizeof(other), "%s.other", path);
	if (rename(path, other) < 0)
		fail("rename");
	do_write(below(SIZE - 100), 100);
	if (link(other, path) < 0)
		fail("link");
	do_reopen(false);
	if (unlink(other) < 0)
		fail("unlink");
}

static void do_copy(unsigned at, unsigned n)
{
	off_t from = below(SIZE / 2), to = at;
	ssize_t done;

	if (from >= size || to > size)
		return;
	if (from < to + n && to < from + n)
		return;
	done = copy_file_range(fd, &from, fd, &to, n, 0);
	if (done < 0 && (errno == EXDEV || errno == EOPNOTSUPP || errno == ENOSYS || errno == EINVAL))
		return;
	if (done < 0)
		fail("copy");
	memcpy(is + to - done, is + from - done, (size_t)done);
	if (size < to)
		size = (unsigned)to;
}

static void look(void)
{
	struct stat st;

	if (fstat(fd, &st) < 0 || st.st_size != size) {
		printf("it has %lld bytes, not %u\n", (long long)st.st_size, size);
		exit(1);
	}
}

static void step(void)
{
	unsigned at = below(SIZE), n = 1 + below(below(4) ? 5000 : 60000);

	n = n < SIZE - at ? n : SIZE - at;
	switch (below(16)) {
	case 0: case 1: case 2: case 3:
		do_write(at, n);
		break;
	case 4: case 5: case 6:
		do_read(at, n);
		break;
	case 7:
		do_append(below(3000));
		break;
	case 8: case 9:
		do_map(at, n, below(2));
		break;
	case 10:
		if (ftruncate(fd, at) < 0)
			fail("truncate");
		cut(at);
		break;
	case 11:
		do_punch(at, n);
		break;
	case 12:
		do_reopen(below(8) == 0);
		break;
	case 13:
		do_names();
		break;
	case 14:
		do_copy(at, n);
		break;
	default:
		if ((below(2) ? fsync(fd) : fdatasync(fd)) < 0)
			fail("sync");
	}
	look();
}

static int use_file(const char *file, const char *first, const char *steps)
{
	uint64_t sum = 0xcbf29ce484222325u;

	path = file;
	seed = strtoull(first, NULL, 0) * 2 + 1;
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0644);
	if (fd < 0)
		fail("open");
	for (unsigned i = 0, n = (unsigned)atoi(steps); i < n; i++)
		step();
	do_read(0, SIZE);
	close(fd);
	for (unsigned i = 0; i < size; i++)
		sum = (sum ^ is[i]) * 0x100000001b3u;
	printf("sum %u %016llx\n", size, (unsigned long long)sum);
	return 0;
}

/* -- Ways out ------------------------------------------------------------------------------- */

static void is_open(bool yes, const char *way)
{
	if (yes)
		printf("OPEN: %s\n", way);
}

static bool reads(const char *name)
{
	char text[100] = "";
	int file = open(name, O_RDONLY);

	if (file >= 0 && read(file, text, sizeof(text) - 1) < 0)
		text[0] = 0;
	close(file);
	return strstr(text, "secret") != NULL;
}

/* One process swaps a directory for a link, the other goes through it. */
static void race(void)
{
	pid_t pid = fork();

	if (pid == 0)
		for (;;) {
			mkdir("swap", 0755);
			rmdir("swap");
			if (symlink("../outside", "swap") == 0)
				unlink("swap");
		}
	for (unsigned i = 0; i < 300; i++) {
		int file = open("swap/made", O_CREAT | O_WRONLY, 0666);

		is_open(reads("swap/secret"), "a link in a directory's place");
		close(file);
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static int leave(const char *dir)
{
	int file;

	if (chdir(dir) < 0)
		fail(dir);
	is_open(mknod("null", S_IFCHR | 0666, makedev(1, 3)) == 0, "a character device");
	is_open(mknod("disk", S_IFBLK | 0666, makedev(8, 0)) == 0, "a block device");
	is_open(mkfifo("pipe", 0666) == 0, "a pipe");
	is_open(symlink("../outside/secret", "to-file") < 0, "no symbolic link");
	is_open(symlink("../outside", "to-dir") < 0, "no symbolic link");
	is_open(reads("to-file"), "a relative link");
	is_open(reads("to-dir/secret"), "a link to a directory");
	is_open(reads("../outside/secret"), "..");
	is_open(rename("file", "../outside/file") == 0, "a rename to ..");
	is_open(link("../outside/secret", "hard") == 0, "a hard link from ..");
	is_open(link("to-file", "hard") == 0 && reads("hard"), "a hard link of a link");
	file = open("suid", O_CREAT | O_WRONLY, 0755);
	is_open(file >= 0 && fchmod(file, 04755) == 0, "a file that runs with its owner's rights");
	is_open(fchown(file, 1234, 1234) == 0, "another owner");
	race();
	printf("tried\n");
	return 0;
}

/* -- A guest that is saved ------------------------------------------------------------------ */

static int hold(const char *dir)
{
	int kept, gone;
	DIR *names;
	char text[10] = "";
	unsigned n = 0;

	if (chdir(dir) < 0)
		fail(dir);
	mkdir("deep", 0755);
	if (chdir("deep") < 0)
		fail("deep");
	kept = open("kept", O_CREAT | O_RDWR, 0644);
	gone = open("gone", O_CREAT | O_RDWR, 0644);
	names = opendir("..");
	unlink("gone");
	if (kept < 0 || gone < 0 || !names || write(kept, "before", 6) != 6 || write(gone, "before", 6) != 6)
		fail("kept");
	printf("holding\n");
	fflush(stdout);
	while (access("../go", F_OK) < 0)
		usleep(100000);
	if (pwrite(kept, "behind", 6, 6) != 6)
		fail("kept");
	while (readdir(names))
		n++;
	printf("kept %s, gone %s, %s\n", pread(kept, text, 6, 0) == 6 ? text : strerror(errno),
	       fsync(gone) < 0 ? strerror(errno) : "is there", n >= 4 ? "names" : "no names");
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 5 && strcmp(argv[1], "files") == 0)
		return use_file(argv[2], argv[3], argv[4]);
	if (argc == 3 && strcmp(argv[1], "leave") == 0)
		return leave(argv[2]);
	if (argc == 3 && strcmp(argv[1], "hold") == 0)
		return hold(argv[2]);
	return 2;
}

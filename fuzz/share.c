/* SPDX-License-Identifier: MIT */
/*
 * What a guest's driver says to lodge-share (prog/lodge/share): messages of FUSE, as the input has
 * them, to a directory with a few files; and a saved session, changed as the input says (mutate.h),
 * which goes on.
 *
 *	[kind: 1]   odd: the rest is changes, and then messages, to a session that was saved; even: messages
 *	a message   [opcode: 1] [node: 1] [length of the body, modulo 128: 1] [body]
 *
 * In a body a byte of 255 is a zero, for names; a handle is a small number often enough. What must
 * hold: an answer is no longer than its room, and the directory's neighbour is as it was. The
 * directory is in memory where that can be had, and made anew when it has grown.
 */
#include "base/bytes.h"
#include "dev/virtio/fs_link.h"
#include "fuzz/mutate.h"
#include "prog/lodge/share/share.h"

#include <fcntl.h>
#include <ftw.h>
#include <linux/fuse.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define SESSION (1u << 17)
#define BODY    128u
#define MANY    500 /* inputs in one directory */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char top[64];
static int root = -1, neighbour = -1;

static void must(bool fine)
{
	if (!fine)
		abort();
}

/* -- The directory ------------------------------------------------------------------------- */

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st, (void)flag, (void)ftw;
	remove(path);
	return 0;
}

static void remove_all(void)
{
	if (root < 0)
		return;
	close(root);
	close(neighbour);
	nftw(top, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void put_file(int dir, const char *name, const char *text)
{
	int fd = openat(dir, name, O_CREAT | O_WRONLY, 0644);

	must(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	close(fd);
}

static void make_all(void)
{
	static bool again;
	const struct rlimit file = {64 << 20, 64 << 20};
	int dir;

	if (!again) {
		setrlimit(RLIMIT_FSIZE, &file);
		atexit(remove_all);
	}
	signal(SIGXFSZ, SIG_IGN);
	again = true;
	strcpy(top, access("/dev/shm", W_OK) == 0 ? "/dev/shm/fuzz_share.XXXXXX" : "/tmp/fuzz_share.XXXXXX");
	must(mkdtemp(top) != NULL);
	dir = open(top, O_PATH | O_DIRECTORY);
	must(dir >= 0);
	must(mkdirat(dir, "in", 0755) == 0 && mkdirat(dir, "out", 0755) == 0);
	root = openat(dir, "in", O_PATH | O_DIRECTORY);
	neighbour = openat(dir, "out", O_PATH | O_DIRECTORY);
	put_file(neighbour, "s", "secret");
	put_file(root, "f", "file");
	must(mkdirat(root, "d", 0755) == 0 && symlinkat("../out/s", root, "l") == 0 && symlinkat("../out", root, "o") == 0);
	put_file(root, "d/g", "another");
	close(dir);
}

static void see_neighbour(void)
{
	char text[8] = "";
	int fd = openat(neighbour, "s", O_RDONLY);
	struct stat st;

	must(fd >= 0 && read(fd, text, 7) == 6 && strcmp(text, "secret") == 0);
	must(fstat(fd, &st) == 0 && st.st_nlink == 1 && st.st_mode == (S_IFREG | 0644));
	close(fd);
	must(fstat(neighbour, &st) == 0 && st.st_nlink == 2);
}

/* -- Messages ------------------------------------------------------------------------------ */

static void say(struct share *s, unsigned opcode, uint64_t node, const uint8_t *body, size_t len)
{
	static uint8_t answer[FS_ROOM_MIN + 8192];
	struct fuse_in_header head = {.opcode = opcode, .nodeid = node, .unique = 7, .len = (uint32_t)(sizeof(head) + len)};
	uint8_t *message = malloc(head.len); /* of its own size, so that a sanitizer sees a byte too far */
	size_t n;

	must(message);
	memcpy(message, &head, sizeof(head));
	if (len)
		memcpy(message + sizeof(head), body, len);
	n = share_request(s, message, head.len, answer, sizeof(answer));
	must(n >= FS_ROOM_MIN && n <= sizeof(answer) && le32_get(answer) == n);
	free(message);
}

static void begin(struct share *s)
{
	const struct fuse_init_in in = {.major = 7, .minor = 31};
	static const char *const names[] = {"f", "d", "l", "o"};
	const struct fuse_open_in open_in = {.flags = O_RDWR}, dir_in = {0};

	say(s, FUSE_INIT, 0, (const void *)&in, sizeof(in));
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		say(s, FUSE_LOOKUP, 1, (const void *)names[i], 2);
	say(s, FUSE_OPEN, 2, (const void *)&open_in, sizeof(open_in));
	say(s, FUSE_OPENDIR, 1, (const void *)&dir_in, sizeof(dir_in));
}

static void use(struct share *s, const uint8_t *data, size_t size)
{
	uint8_t body[BODY];

	while (size >= 3) {
		size_t len = data[2] % BODY;

		len = len < size - 3 ? len : size - 3;
		for (size_t i = 0; i < len; i++)
			body[i] = data[3 + i] == 255 ? 0 : data[3 + i];
		say(s, data[0] % 52, data[1], body, len);
		data += 3 + len;
		size -= 3 + len;
	}
}

/* -- A session ----------------------------------------------------------------------------- */

static struct share *go_on(struct share *old, const uint8_t **data, size_t *size)
{
	static uint8_t session[SESSION];
	size_t len = share_save(old, session, sizeof(session)), used = mutate(session, len, *data, *size);
	struct share *s = share_create(root, false, 64);

	must(len && s);
	*data += used;
	*size -= used;
	share_load(s, session, len);
	share_destroy(old);
	return s;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static unsigned inputs;
	struct share *s;
	bool saved = size && data[0] % 2;

	if (inputs++ % MANY == 0) {
		remove_all();
		make_all();
	}
	s = share_create(root, false, 64);
	must(s);
	begin(s);
	if (size) {
		data++;
		size--;
	}
	if (saved)
		s = go_on(s, &data, &size);
	use(s, data, size);
	share_destroy(s);
	see_neighbour();
	return 0;
}

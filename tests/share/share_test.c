/* SPDX-License-Identifier: MIT */
/*
 * prog/lodge/share without a guest: messages as a driver sends them, honest ones and those of who
 * wants to get out, against a directory that has a neighbour which nobody may reach.
 */
#include "prog/lodge/share/share.h"

#include "base/bytes.h"
#include "dev/virtio/fs_link.h"
#include "tests/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define SESSION (1u << 20)

static char top[] = "/tmp/share_test.XXXXXX";
static int inside, outside; /* the shared directory, its neighbour */
static struct share *s;
static uint8_t message[FS_MESSAGE_MAX], answer[FS_MESSAGE_MAX];
static size_t answer_len; /* behind its header */

/* -- A driver ------------------------------------------------------------------------------ */

static int say(unsigned opcode, uint64_t node, const void *body, size_t len, const char *names, size_t names_len)
{
	struct fuse_in_header head = {.opcode = opcode, .nodeid = node, .unique = 42};
	struct fuse_out_header out;
	size_t n;

	head.len = (uint32_t)(sizeof(head) + len + names_len);
	memcpy(message, &head, sizeof(head));
	if (len)
		memcpy(message + sizeof(head), body, len);
	if (names_len)
		memcpy(message + sizeof(head) + len, names, names_len);
	n = share_request(s, message, head.len, answer, sizeof(answer));
	memcpy(&out, answer, sizeof(out));
	if (n < sizeof(out) || out.len != n || out.unique != 42)
		ok(false, "an answer to message %u is one", opcode);
	answer_len = n - sizeof(out);
	return out.error;
}

#define SAY(opcode, node, in) say(opcode, node, &(in), sizeof(in), NULL, 0)

/* "a" or "a\0b": the zero at the end is the string's own. */
#define SAY_NAME(opcode, node, in, names) say(opcode, node, &(in), sizeof(in), names, sizeof(names))

static int begin(unsigned minor)
{
	struct fuse_init_in in = {.major = 7, .minor = minor, .max_readahead = 4096, .flags = UINT32_MAX};

	return SAY(FUSE_INIT, 0, in);
}

static uint64_t entry(void)
{
	struct fuse_entry_out out;

	memcpy(&out, answer + sizeof(struct fuse_out_header), sizeof(out));
	return out.nodeid;
}

/* Its number, or -errno. */
static int64_t look(uint64_t parent, const char *name)
{
	int rc = say(FUSE_LOOKUP, parent, NULL, 0, name, strlen(name) + 1);

	return rc < 0 ? rc : (int64_t)entry();
}

static int64_t open_it(unsigned opcode, uint64_t node, unsigned flags)
{
	struct fuse_open_in in = {.flags = flags};
	struct fuse_open_out out;
	int rc = SAY(opcode, node, in);

	memcpy(&out, answer + sizeof(struct fuse_out_header), sizeof(out));
	return rc < 0 ? rc : (int64_t)out.fh;
}

static int64_t create(uint64_t parent, const char *name, unsigned flags, unsigned mode, uint64_t *node)
{
	struct fuse_create_in in = {.flags = flags, .mode = mode};
	struct fuse_open_out out;
	int rc = say(FUSE_CREATE, parent, &in, sizeof(in), name, strlen(name) + 1);

	if (rc < 0)
		return rc;
	*node = entry();
	memcpy(&out, answer + sizeof(struct fuse_out_header) + sizeof(struct fuse_entry_out), sizeof(out));
	return (int64_t)out.fh;
}

static int put(int64_t fh, const char *text, uint64_t at)
{
	struct {
		struct fuse_write_in in;
		char text[64];
	} m = {.in = {.fh = (uint64_t)fh, .offset = at, .size = (uint32_t)strlen(text)}};

	memcpy(m.text, text, strlen(text));
	return say(FUSE_WRITE, 1, &m, sizeof(m.in) + strlen(text), NULL, 0);
}

static const char *get(int64_t fh)
{
	static char text[100];
	struct fuse_read_in in = {.fh = (uint64_t)fh, .size = 99};
	int rc = SAY(FUSE_READ, 1, in);

	if (rc < 0)
		return strerror(-rc);
	memcpy(text, answer + sizeof(struct fuse_out_header), answer_len);
	text[answer_len] = 0;
	return text;
}

static int set(uint64_t node, struct fuse_setattr_in in)
{
	return SAY(FUSE_SETATTR, node, in);
}

static struct fuse_attr attr(uint64_t node)
{
	struct fuse_getattr_in in = {0};
	struct fuse_attr_out out = {0};

	if (SAY(FUSE_GETATTR, node, in) == 0)
		memcpy(&out, answer + sizeof(struct fuse_out_header), sizeof(out));
	return out.attr;
}

static int close_it(unsigned opcode, int64_t fh)
{
	struct fuse_release_in in = {.fh = (uint64_t)fh};

	return SAY(opcode, 1, in);
}

/* -- The host ------------------------------------------------------------------------------ */

static void write_file(int dir, const char *name, const char *text)
{
	int fd = openat(dir, name, O_CREAT | O_TRUNC | O_WRONLY, 0644);

	if (write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		ok(false, "a file is made");
	close(fd);
}

static bool has_text(int dir, const char *name, const char *text)
{
	char got[100] = "";
	int fd = openat(dir, name, O_RDONLY);
	ssize_t n = read(fd, got, sizeof(got) - 1);

	close(fd);
	return n >= 0 && strcmp(got, text) == 0;
}

static void start(bool readonly)
{
	s = share_create(inside, readonly, 64);
	ok(s && begin(31) == 0, "a session begins");
}

/* -- Tests --------------------------------------------------------------------------------- */

static void test_files(void)
{
	uint64_t file;
	int64_t fh = create(1, "file", O_RDWR, 0640, &file), again;

	ok(fh > 0, "a file is created");
	is_int(put(fh, "hello", 0), 0, "written");
	is_int(put(fh, "!", 8), 0, "and behind its end");
	is_int(attr(file).size, 9, "so long it is");
	is_int(attr(file).mode, S_IFREG | 0640, "with its mode");
	again = open_it(FUSE_OPEN, file, O_RDONLY);
	is_str(get(again), "hello", "another handle reads it up to the hole");
	is_int(set(file, (struct fuse_setattr_in){.valid = FATTR_SIZE, .size = 2}), 0, "it is cut");
	is_str(get(again), "he", "and shorter");
	is_int(say(FUSE_UNLINK, 1, NULL, 0, "file", 5), 0, "its name is removed");
	is_str(get(again), "he", "who has it open reads on");
	is_int(attr(file).size, 2, "and sees its size");
	is_int(attr(file).nlink, 0, "it has no name");
	is_int(set(file, (struct fuse_setattr_in){.valid = FATTR_SIZE | FATTR_FH, .fh = (uint64_t)fh, .size = 0}), 0,
	       "it can be cut by its handle");
	is_int(set(file, (struct fuse_setattr_in){.valid = FATTR_MODE, .mode = 0600}), 0, "and have another mode");
	is_int(open_it(FUSE_OPEN, file, O_RDONLY), -ESTALE, "but not be opened once more");
	is_int(look(1, "file"), -ENOENT, "nor found");
	is_int(close_it(FUSE_RELEASE, fh), 0, "closed");
	is_int(close_it(FUSE_RELEASE, fh), -EBADF, "once");
	is_int(close_it(FUSE_RELEASE, again), 0, "and the other");
	is_int(look(1, "none"), -ENOENT, "what is not there is not found");
}

static void test_append(void)
{
	uint64_t file;
	int64_t fh = create(1, "log", O_WRONLY | O_APPEND, 0600, &file);

	put(fh, "one", 0);
	write_file(inside, "log", "host");
	is_int(put(fh, "two", 0), 0, "what is appended");
	ok(has_text(inside, "log", "hosttwo"), "comes behind what the host has written");
	close_it(FUSE_RELEASE, fh);
	is_int(look(1, "log"), (long)file, "the same file has the same number");
	fh = open_it(FUSE_OPEN, file, O_RDWR | O_TRUNC);
	is_int(attr(file).size, 0, "O_TRUNC");
	close_it(FUSE_RELEASE, fh);
}

static void test_names(void)
{
	struct fuse_mkdir_in mkdir_in = {.mode = 0755};
	struct fuse_rename2_in rename_in = {0};
	struct fuse_link_in link_in;
	uint64_t dir, file;

	is_int(SAY_NAME(FUSE_MKDIR, 1, mkdir_in, "dir"), 0, "a directory");
	dir = entry();
	close_it(FUSE_RELEASE, create(dir, "a", O_WRONLY, 0644, &file));
	rename_in.newdir = 1;
	is_int(SAY_NAME(FUSE_RENAME2, dir, rename_in, "a\0b"), 0, "renamed into another one");
	is_int(look(1, "b"), (long)file, "it is the same");
	is_int(attr(file).nlink, 1, "and found by its number");
	link_in.oldnodeid = file;
	is_int(SAY_NAME(FUSE_LINK, dir, link_in, "c"), 0, "a second name");
	is_int((long)entry(), (long)file, "of the same file");
	is_int(say(FUSE_UNLINK, dir, NULL, 0, "c", 2), 0, "which goes");
	is_int(look(1, "b"), (long)file, "and the first stays");
	write_file(inside, "other", "other");
	rename_in.flags = 1; /* RENAME_NOREPLACE */
	is_int(SAY_NAME(FUSE_RENAME2, 1, rename_in, "b\0other"), -EEXIST, "RENAME_NOREPLACE");
	rename_in.flags = 2;
	is_int(SAY_NAME(FUSE_RENAME2, 1, rename_in, "b\0other"), 0, "RENAME_EXCHANGE");
	is_int(look(1, "other"), (long)file, "they have changed their names");
	rename_in.flags = 4;
	is_int(SAY_NAME(FUSE_RENAME2, 1, rename_in, "b\0other"), -EINVAL, "another flag is refused");
	is_int(renameat(inside, "other", inside, "moved"), 0, "the host renames it");
	is_int(open_it(FUSE_OPEN, file, O_RDONLY), -ESTALE, "by its old name it is stale");
	is_int(look(1, "moved"), (long)file, "the new one is looked up");
	ok(open_it(FUSE_OPEN, file, O_RDONLY) > 0, "and it can be opened");
	is_int(say(FUSE_SYMLINK, 1, NULL, 0, "link\0../outside/secret", 23), 0, "a symbolic link to anywhere");
	is_int(SAY_NAME(FUSE_READLINK, entry(), mkdir_in, ""), 0, "is read");
	is_int((long)answer_len, 17, "as it was made");
	is_int(say(FUSE_RMDIR, 1, NULL, 0, "dir", 4), 0, "the directory is removed");
}

/* Directories that the guest has forgotten, and that are there for one file in them, which a rename takes away. */
static void test_forgotten(void)
{
	struct fuse_mkdir_in mkdir_in = {.mode = 0755};
	struct fuse_rename2_in rename_in = {0};
	struct fuse_forget_in forget = {.nlookup = 1};
	static const char names[2][5] = {"from", "into"};
	uint64_t dirs[2], files[2], file, more;

	for (int i = 0; i < 2; i++) {
		is_int(SAY_NAME(FUSE_MKDIR, 1, mkdir_in, names[i]), 0, "a directory");
		dirs[i] = entry();
		close_it(FUSE_RELEASE, create(dirs[i], "c", O_WRONLY, 0644, &files[i]));
		SAY(FUSE_FORGET, dirs[i], forget);
	}
	close_it(FUSE_RELEASE, create(1, "x", O_WRONLY, 0644, &file));
	rename_in.newdir = dirs[1];
	is_int(SAY_NAME(FUSE_RENAME2, 1, rename_in, "x\0c"), 0, "over the only file that is known of a forgotten directory");
	close_it(FUSE_RELEASE, create(1, "y", O_WRONLY, 0644, &more));
	ok(more != dirs[1], "whose number is no other file's");
	is_int(attr(file).mode, S_IFREG | 0644, "and leads to what is in it now");
	rename_in.newdir = 1;
	rename_in.flags = 2;
	is_int(SAY_NAME(FUSE_RENAME2, dirs[0], rename_in, "c\0y"), 0, "exchanged with one of a directory that is known");
	is_int(attr(files[0]).mode, S_IFREG | 0644, "both are there");
	is_int(attr(more).mode, S_IFREG | 0644, "under their new names");
	is_int(look(dirs[0], "c"), (long)more, "in the forgotten directory, too");
	SAY(FUSE_FORGET, file, forget);
	is_int(say(FUSE_GETATTR, dirs[1], answer, sizeof(struct fuse_getattr_in), NULL, 0), -ESTALE, "which goes with the last of them");
}

/* All that leads out of the directory. */
static void test_escapes(void)
{
	static const char *const names[] = {"..", ".", "", "/etc", "dir/../..", "../outside", "a/b"};
	struct fuse_rename_in rename_in = {.newdir = 1};
	struct fuse_link_in link_in;
	struct fuse_mknod_in mknod_in = {.mode = S_IFCHR | 0666, .rdev = 0x103};
	struct fuse_create_in create_in = {.flags = O_RDWR, .mode = 0666};
	struct fuse_open_in open_in = {.flags = O_RDWR};
	int64_t link = look(1, "link"), dir;
	uint64_t file, suid;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		size_t len = strlen(names[i]) + 1;

		is_int(say(FUSE_LOOKUP, 1, NULL, 0, names[i], len), -EINVAL, "'%s' is not looked up", names[i]);
		is_int(say(FUSE_CREATE, 1, &create_in, sizeof(create_in), names[i], len), -EINVAL, "nor created");
		is_int(say(FUSE_UNLINK, 1, NULL, 0, names[i], len), -EINVAL, "nor removed");
	}
	ok(link > 0, "a link to the outside is one");
	is_int(SAY(FUSE_OPEN, (uint64_t)link, open_in), -EPERM, "it is not opened");
	is_int(SAY(FUSE_OPENDIR, (uint64_t)link, open_in), -ENOTDIR, "nor as a directory");
	is_int(say(FUSE_LOOKUP, (uint64_t)link, NULL, 0, "secret", 7), -ESTALE, "nor gone through");
	is_int(SAY_NAME(FUSE_CREATE, 1, create_in, "link"), -ELOOP, "nor created through");
	is_int(set((uint64_t)link, (struct fuse_setattr_in){.valid = FATTR_SIZE}), -EPERM, "nor cut");
	is_int(set((uint64_t)link, (struct fuse_setattr_in){.valid = FATTR_MODE, .mode = 0777}), -EPERM, "nor given a mode");
	link_in.oldnodeid = (uint64_t)link;
	is_int(SAY_NAME(FUSE_LINK, 1, link_in, "hard"), 0, "a second name of it");
	is_int(SAY_NAME(FUSE_RENAME, 1, rename_in, "hard\0.."), -EINVAL, "is not renamed to ..");
	is_int(SAY_NAME(FUSE_MKNOD, 1, mknod_in, "null"), -EPERM, "no device");
	mknod_in.mode = S_IFIFO | 0666;
	is_int(SAY_NAME(FUSE_MKNOD, 1, mknod_in, "fifo"), -EPERM, "no pipe");
	mknod_in.mode = S_IFREG | 04755;
	is_int(SAY_NAME(FUSE_MKNOD, 1, mknod_in, "suid"), 0, "a file");
	file = entry();
	is_int(attr(file).mode, S_IFREG | 0755, "does not run with its owner's rights");
	is_int(set(file, (struct fuse_setattr_in){.valid = FATTR_MODE, .mode = 04755}), -EPERM, "and does not get to");
	write_file(inside, "host-suid", "");
	is_int(fchmodat(inside, "host-suid", 04755, 0), 0, "the host has a file that does");
	suid = (uint64_t)look(1, "host-suid");
	is_int(set(suid, (struct fuse_setattr_in){.valid = FATTR_MODE, .mode = 04700}), 0, "it stays one");
	is_int(set(suid, (struct fuse_setattr_in){.valid = FATTR_MODE | FATTR_FH, .mode = 04755,
						  .fh = (uint64_t)open_it(FUSE_OPEN, file, O_RDWR)}), -EPERM, "another one, by its handle, does not become one");
	is_int(set(file, (struct fuse_setattr_in){.valid = FATTR_UID, .uid = 4711}), -EPERM, "nor another owner");
	/* A directory that becomes a link while its number is known. */
	mkdirat(inside, "swap", 0755);
	dir = look(1, "swap");
	write_file(outside, "secret", "secret");
	unlinkat(inside, "swap", AT_REMOVEDIR);
	is_int(symlinkat("../outside", inside, "swap"), 0, "a link in its place");
	ok(look((uint64_t)dir, "secret") < 0, "a link in a directory's place leads nowhere");
	is_int(SAY_NAME(FUSE_CREATE, (uint64_t)dir, create_in, "new"), -ESTALE, "and nothing is made there");
	mkfifoat(inside, "pipe", 0666);
	is_int(SAY(FUSE_OPEN, (uint64_t)look(1, "pipe"), open_in), -EPERM, "the host's pipe is not opened");
	is_int(SAY_NAME(FUSE_CREATE, 1, create_in, "pipe"), -EPERM, "nor by creating it");
	ok(has_text(outside, "secret", "secret"), "what is outside is as it was");
}

static void test_directory(void)
{
	struct fuse_read_in in = {.size = 1000};
	uint64_t dir, files = 0, rounds = 0;
	struct fuse_mkdir_in mkdir_in = {.mode = 0755};
	char name[20];

	SAY_NAME(FUSE_MKDIR, 1, mkdir_in, "large");
	dir = entry();
	for (unsigned i = 0; i < 500; i++) {
		snprintf(name, sizeof(name), "large/file%u", i);
		write_file(inside, name, "");
	}
	in.fh = (uint64_t)open_it(FUSE_OPENDIR, dir, O_RDONLY);
	for (answer_len = 1; answer_len && rounds < 1000; rounds++) {
		if (SAY(FUSE_READDIR, dir, in) < 0)
			break;
		for (size_t at = 0; at < answer_len;) {
			struct fuse_dirent d;

			memcpy(&d, answer + sizeof(struct fuse_out_header) + at, FUSE_NAME_OFFSET);
			at += FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + d.namelen);
			in.offset = d.off;
			files++;
		}
	}
	is_int((long)files, 502, "a directory of 500 files is read in pieces");
	in.offset = 0;
	in.size = 10;
	is_int(SAY(FUSE_READDIR, dir, in), -EINVAL, "a piece that is too short for a name is an error");
	is_int(close_it(FUSE_RELEASEDIR, (int64_t)in.fh), 0, "closed");
}

static void test_nonsense(void)
{
	struct fuse_open_in open_in = {0};
	struct fuse_read_in read_in = {.fh = 99};
	struct fuse_write_in write_in = {.fh = 1, .size = 4096};
	uint8_t one = 0;

	is_int(say(9999, 1, NULL, 0, NULL, 0), -ENOSYS, "a message that nobody knows");
	is_int(say(FUSE_GETXATTR, 1, &one, 1, NULL, 0), -ENOSYS, "extended attributes");
	is_int(SAY(FUSE_OPEN, 12345, open_in), -ESTALE, "a number that was never given");
	is_int(SAY(FUSE_OPEN, UINT64_MAX, open_in), -ESTALE, "nor can be");
	is_int(say(FUSE_OPEN, 1, &open_in, 3, NULL, 0), -EINVAL, "a message that is cut");
	is_int(say(FUSE_LOOKUP, 1, NULL, 0, "abc", 3), -EINVAL, "a name without an end");
	is_int(say(FUSE_RENAME, 1, &one, 1, NULL, 0), -EINVAL, "no names");
	is_int(SAY(FUSE_READ, 1, read_in), -EBADF, "a handle that was never given");
	is_int(SAY(FUSE_OPEN, 1, open_in), -EISDIR, "a directory as a file");
	write_in.fh = (uint64_t)open_it(FUSE_OPEN, (uint64_t)look(1, "b"), O_RDWR);
	is_int(SAY(FUSE_WRITE, 1, write_in), -EINVAL, "less data than it says");
	is_int((long)share_request(s, &one, 1, answer, FS_ROOM_MIN), FS_ROOM_MIN, "a header that is cut");
	is_int(begin(20), -EPROTO, "a protocol that is too old");
	is_int(look(1, "b"), -EIO, "then there is no session");
	is_int(begin(40), 0, "a later one is spoken as ours");
	is_int(SAY(FUSE_WRITE, 1, write_in), -EBADF, "a new session has none of the old one's handles");
	for (unsigned i = 0; i < 40; i++)
		if (open_it(FUSE_OPENDIR, 1, O_RDONLY) == -ENFILE) {
			ok(i == 32, "after %u open files there is an end", i);
			break;
		}
}

static void test_saved(void)
{
	static uint8_t session[SESSION];
	struct fuse_mkdir_in mkdir_in = {.mode = 0755};
	struct share *old = s;
	uint64_t dir, file, gone, unused;
	int64_t fh, lost;
	size_t len, cut;
	unsigned bad = 0;

	begin(31);
	is_int(SAY_NAME(FUSE_MKDIR, 1, mkdir_in, "deep"), 0, "a directory");
	dir = entry();
	fh = create(dir, "kept", O_RDWR, 0644, &file);
	put(fh, "kept", 0);
	lost = create(dir, "lost", O_RDWR, 0644, &gone);
	say(FUSE_UNLINK, dir, NULL, 0, "lost", 5);
	len = share_save(s, session, sizeof(session));
	s = share_create(inside, false, 64);
	is_int(share_load(s, session, len), 0, "a session goes on in another process");
	is_str(get(fh), "kept", "with the files that are open");
	is_int(put(fh, "KEPT", 0), 0, "as they were opened");
	is_int(attr(file).size, 4, "known by their numbers");
	is_int(look(dir, "kept"), (long)file, "and names");
	is_str(get(lost), strerror(ESTALE), "one without a name is stale");
	is_int(close_it(FUSE_RELEASE, lost), 0, "and can be closed");
	close_it(FUSE_RELEASE, create(dir, "new", O_RDWR, 0644, &unused));
	ok(unused != file && unused != dir, "a new file has a number of its own");
	renameat(inside, "deep/new", inside, "deep/kept");
	is_int(open_it(FUSE_OPEN, file, O_RDONLY), -ESTALE, "another file in its place is not it");
	for (cut = 0; cut < len; cut++)
		bad += share_load(s, session, cut) != -EINVAL;
	is_int(bad, 0, "a session that is cut is none, wherever");
	is_int(look(1, "deep"), -EIO, "and then there is none");
	for (size_t i = 0; i < len; i++)
		for (unsigned bit = 0; bit < 8; bit++) {
			session[i] ^= (uint8_t)(1u << bit);
			if (share_load(s, session, len) == 0) {
				get(fh);
				attr(file);
				look(dir, "kept");
			}
			session[i] ^= (uint8_t)(1u << bit);
		}
	ok(has_text(outside, "secret", "secret"), "whatever it says, nothing leads out");
	share_destroy(old);
}

/* With room for fewer files than the guest knows: what is left out is stale, and all else is as it was. */
static void test_cut(void)
{
	static uint8_t bytes[33 + 4096 * 13 + 2000]; /* a head, as many handles as there may be, some nodes */
	struct fuse_mkdir_in mkdir_in = {.mode = 0755};
	struct fuse_rename_in rename_in;
	uint64_t first, file, dir;
	int64_t kept, lost;
	char name[8];

	share_destroy(s);
	start(false);
	kept = create(1, "cut", O_RDWR | O_TRUNC, 0644, &first);
	for (int i = 0; i < 1300; i++) {
		snprintf(name, sizeof(name), "cut%d", i);
		lost = create(1, name, O_WRONLY, 0644, &file);
		if (i < 1299)
			close_it(FUSE_RELEASE, lost);
	}
	is_int(SAY_NAME(FUSE_MKDIR, 1, mkdir_in, "behind"), 0, "more than there is room for");
	dir = entry();
	rename_in.newdir = dir;
	close_it(FUSE_RELEASE, create(1, "old", O_WRONLY, 0644, &file));
	is_int(SAY_NAME(FUSE_RENAME, 1, rename_in, "cut0\0new"), 0, "an early one in a late directory");
	is_int(share_load(s, bytes, share_save(s, bytes, sizeof(bytes))), 0, "a session that is cut is one");
	is_int(put(kept, "x", 0), 0, "an early file is open");
	is_int(put(lost, "x", 0), -EBADF, "a late one is not");
	is_int(attr(first).mode, S_IFREG | 0644, "an early one is known");
	is_int(open_it(FUSE_OPEN, first + 1, O_RDONLY), -ESTALE, "where the late directory is, is not");
	is_int(SAY(FUSE_OPENDIR, dir, ((struct fuse_open_in){0})), -ESTALE, "nor is that");
}

static void test_readonly(void)
{
	struct fuse_mkdir_in mkdir_in = {.mode = 0755};
	int64_t file;
	uint64_t unused;

	share_destroy(s);
	start(true);
	file = look(1, "moved");
	is_int(open_it(FUSE_OPEN, (uint64_t)file, O_RDWR), -EROFS, "read-only: no file is opened to be written");
	ok(open_it(FUSE_OPEN, (uint64_t)file, O_RDONLY | O_TRUNC) > 0, "but to be read");
	is_int(create(1, "x", O_RDONLY, 0644, &unused), -EROFS, "created");
	is_int(SAY_NAME(FUSE_MKDIR, 1, mkdir_in, "x"), -EROFS, "made");
	is_int(set((uint64_t)file, (struct fuse_setattr_in){.valid = FATTR_SIZE}), -EROFS, "cut");
	is_int(say(FUSE_UNLINK, 1, NULL, 0, "moved", 6), -EROFS, "or removed");
	share_destroy(s);
}

int main(void)
{
	char command[100];
	int dir;

	if (!mkdtemp(top) || (dir = open(top, O_PATH | O_DIRECTORY)) < 0)
		return 1;
	umask(0);
	mkdirat(dir, "inside", 0755);
	mkdirat(dir, "outside", 0755);
	inside = openat(dir, "inside", O_PATH | O_DIRECTORY);
	outside = openat(dir, "outside", O_PATH | O_DIRECTORY);
	write_file(outside, "secret", "secret");
	start(false);
	test_files();
	test_append();
	test_names();
	test_forgotten();
	test_escapes();
	test_directory();
	test_nonsense();
	test_saved();
	test_cut();
	test_readonly();
	snprintf(command, sizeof(command), "rm -rf %s", top);
	ok(system(command) == 0, "the directory is removed");
	return done_testing();
}

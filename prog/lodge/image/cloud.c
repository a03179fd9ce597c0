/* SPDX-License-Identifier: MIT */
/*
 * See cloud.h. What is in user-data is the guest's affair. We look at its first line, because cloud-init drops without a word what
 * begins otherwise; and for public-keys in meta-data, where ours are to go.
 */
#include "cloud.h"

#include "base/err.h"
#include "base/macros.h"
#include "base/scoped.h"
#include "prog/lodge/newfile.h"
#include "prog/lodge/userdir.h"
#include "seed.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#define KEY_MAX 16384

struct text {
	char *bytes;
	size_t len;
};

struct parts {
	struct text user, meta, network, vendor, keys;
};

int cloud_set_key(void *options, char *value, struct err *err)
{
	struct cloud_options *o = options;

	if (o->n_keys == CLOUD_KEYS_MAX)
		return err_set(err, EINVAL, "--ssh-key: there can be %d at most", CLOUD_KEYS_MAX);
	o->keys[o->n_keys++] = value;
	return 0;
}

static void free_parts(struct parts *p)
{
	free(p->user.bytes);
	free(p->meta.bytes);
	free(p->network.bytes);
	free(p->vendor.bytes);
	free(p->keys.bytes);
}

/* -- Files -------------------------------------------------------------------------------- */

/* All of it, with a zero byte behind. */
static int read_file(const char *path, size_t most, struct text *t, struct err *err)
{
	scoped_fd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	scoped_mem char *bytes = malloc(most + 2);
	struct stat st;
	ssize_t n = 0;
	size_t len = 0;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_sys(err, errno, "'%s'", path);
	if (S_ISDIR(st.st_mode))
		return err_set(err, EISDIR, "'%s' is a directory", path);
	if (!bytes)
		return err_set(err, ENOMEM, "no memory");
	while (len <= most && (n = read(fd, bytes + len, most + 1 - len)) > 0)
		len += (size_t)n;
	if (n < 0)
		return err_sys(err, errno, "'%s'", path);
	if (len > most)
		return err_set(err, EFBIG, "'%s' is too long: %zu KiB are the most", path, most >> 10);
	bytes[len] = 0;
	t->len = len;
	t->bytes = keep_mem(&bytes);
	return 0;
}

/* What cloud-init takes for something: its documentation, "User-data formats". */
static int check_user_data(const struct text *t, const char *path, struct err *err)
{
	static const char *const begins[] = {"#!", "#cloud-", "#include", "#part-handler", "## template:", "Content-Type:", "MIME-Version:",
					     "\x1f\x8b"};

	for (unsigned i = 0; i < ARRAY_SIZE(begins); i++)
		if (strncasecmp(t->bytes, begins[i], strlen(begins[i])) == 0)
			return 0;
	return err_set(err, EINVAL, "'%s' is no user-data: its first line is #cloud-config or that of a script, as #!/bin/sh", path);
}

static int read_part(const char *dir, const char *name, struct text *t, struct err *err)
{
	char path[PATH_MAX];

	if (snprintf(path, sizeof(path), "%s/%s", dir, name) >= (int)sizeof(path))
		return err_set(err, ENAMETOOLONG, "'%s' is too long", dir);
	return access(path, F_OK) < 0 && errno == ENOENT ? 0 : read_file(path, SEED_FILE_MAX, t, err);
}

static int read_dir(const char *dir, struct parts *p, struct err *err)
{
	int rc = read_part(dir, "user-data", &p->user, err);

	if (rc == 0)
		rc = read_part(dir, "meta-data", &p->meta, err);
	if (rc == 0)
		rc = read_part(dir, "network-config", &p->network, err);
	if (rc == 0)
		rc = read_part(dir, "vendor-data", &p->vendor, err);
	if (rc == 0 && !p->user.bytes && !p->meta.bytes && !p->network.bytes && !p->vendor.bytes)
		return err_set(err, ENOENT, "'%s' has none of user-data, meta-data, network-config and vendor-data", dir);
	return rc;
}

static int read_data(const char *path, struct parts *p, struct err *err)
{
	struct stat st;
	int rc;

	if (stat(path, &st) < 0)
		return err_sys(err, errno, "'%s'", path);
	rc = S_ISDIR(st.st_mode) ? read_dir(path, p, err) : read_file(path, SEED_FILE_MAX, &p->user, err);
	return rc == 0 && p->user.bytes && p->user.len ? check_user_data(&p->user, path, err) : rc;
}

/* Top level only, and JSON is YAML, too. */
static bool has_keys(const char *meta)
{
	for (const char *line = meta; line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL)
		if (strncmp(line, "public-keys", 11) == 0 || strncmp(line, "public_keys", 11) == 0)
			return true;
	return meta[0] == '{';
}

/* -- Keys --------------------------------------------------------------------------------- */

/* "ssh-ed25519 AAAA... comment": the type, a space, base64; perhaps with options before it, which are the user's affair. */
static bool is_key(const char *line)
{
	static const char *const types[] = {"ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-"};
	const char *base64 = strstr(line, " AAAA");

	for (const char *c = line; *c; c++)
		if (iscntrl((unsigned char)*c) && *c != '\t')
			return false;
	for (unsigned i = 0; base64 && i < ARRAY_SIZE(types); i++) {
		const char *type = strstr(line, types[i]);

		if (type && type < base64)
			return true;
	}
	return false;
}

static int add_keys(FILE *out, const char *path, struct err *err)
{
	struct text t = {NULL, 0};
	scoped_mem char *bytes = NULL;
	char *rest, *line;
	unsigned n = 0;
	int rc = read_file(path, KEY_MAX, &t, err);

	if (rc < 0)
		return err_at(err, rc, "--ssh-key");
	bytes = t.bytes;
	if (strstr(bytes, "PRIVATE KEY"))
		return err_set(err, EINVAL, "--ssh-key: '%s' is the secret half of a key, which stays here: the other one is '%s.pub'", path,
			       path);
	for (line = strtok_r(bytes, "\r\n", &rest); line; line = strtok_r(NULL, "\r\n", &rest)) {
		if (line[0] == '#')
			continue;
		if (!is_key(line))
			return err_set(err, EINVAL, "--ssh-key: '%s' is no public key, as ssh-keygen writes it to a file .pub", path);
		fprintf(out, "%s\n", line);
		n++;
	}
	return n ? 0 : err_set(err, EINVAL, "--ssh-key: there is no key in '%s'", path);
}

static int read_keys(const struct cloud_options *o, bool meta_has_keys, struct text *t, struct err *err)
{
	FILE *out = open_memstream(&t->bytes, &t->len);
	int rc = out ? 0 : err_set(err, ENOMEM, "no memory");

	for (unsigned i = 0; rc == 0 && i < o->n_keys; i++)
		rc = add_keys(out, o->keys[i], err);
	if (rc == 0 && o->own_key && (o->n_keys || !meta_has_keys))
		rc = add_keys(out, o->own_key, err);
	return out && fclose(out) != 0 ? err_set(err, ENOMEM, "no memory") : rc;
}

/* -- Meta-data ---------------------------------------------------------------------------- */

/* A string of YAML, in the quotes in which only they are doubled. */
static void put_quoted(FILE *out, const char *text, size_t len)
{
	fputc('\'', out);
	for (size_t i = 0; i < len; i++)
		fprintf(out, text[i] == '\'' ? "''" : "%c", text[i]);
	fputc('\'', out);
}

static void put_keys(FILE *out, const char *keys)
{
	fprintf(out, "public-keys:\n");
	while (*keys) {
		size_t n = strcspn(keys, "\n");

		fprintf(out, "- ");
		put_quoted(out, keys, n);
		fprintf(out, "\n");
		keys += n + (keys[n] == '\n');
	}
}

/* The user's, or ours, and the keys. The instance is another one for another seed, so that a disk that is kept does what is new in it. */
static int make_meta(const struct cloud_options *o, const struct parts *p, struct text *t, struct err *err)
{
	uint64_t id = XXH64(p->user.bytes ? p->user.bytes : "", p->user.len, p->keys.len ? XXH64(p->keys.bytes, p->keys.len, 0) : 0);
	FILE *out;

	if (p->meta.bytes && p->keys.len && has_keys(p->meta.bytes))
		return err_set(err, EINVAL, "--ssh-key: '%s/meta-data' says itself which keys there are: put it there", o->data);
	out = open_memstream(&t->bytes, &t->len);
	if (!out)
		return err_set(err, ENOMEM, "no memory");
	if (p->meta.bytes)
		fprintf(out, "%s\n", p->meta.bytes);
	else
		fprintf(out, "instance-id: lodge-%016" PRIx64 "\nlocal-hostname: %s\n", id, o->host ? o->host : "lodge");
	if (p->keys.len)
		put_keys(out, p->keys.bytes);
	return fclose(out) == 0 ? 0 : err_set(err, ENOMEM, "no memory");
}

/* -- The disk ----------------------------------------------------------------------------- */

static int write_seed(const uint8_t *image, size_t len, char path[PATH_MAX], struct err *err)
{
	struct newfile file;
	int rc = userdir_find(path, "XDG_CACHE_HOME", ".cache", "lodge/seeds", err);
	size_t n;

	if (rc == 0)
		rc = userdir_make(path, err);
	if (rc < 0)
		return rc;
	n = strlen(path);
	snprintf(path + n, PATH_MAX - n, "/%016" PRIx64 "%016" PRIx64 ".img", XXH64(image, len, 0), XXH64(image, len, 1));
	if (access(path, R_OK) == 0)
		return 0;
	rc = newfile_open(&file, path, err);
	if (rc == 0 && write(file.fd, image, len) != (ssize_t)len)
		rc = err_sys(err, errno ? errno : ENOSPC, "'%s'", path);
	if (rc == 0)
		rc = newfile_publish(&file, err);
	newfile_close(&file);
	return rc;
}

static int make_seed(const struct cloud_options *o, const struct parts *p, char path[PATH_MAX], struct err *err)
{
	struct seed_file files[SEED_FILES_MAX];
	struct text meta = {NULL, 0};
	scoped_mem char *meta_bytes = NULL;
	scoped_mem uint8_t *image = NULL;
	unsigned n = 0;
	size_t len;
	int rc = make_meta(o, p, &meta, err);

	if (rc < 0)
		return rc;
	meta_bytes = meta.bytes;
	files[n++] = (struct seed_file){"meta-data", meta.bytes, meta.len};
	files[n++] = p->user.bytes ? (struct seed_file){"user-data", p->user.bytes, p->user.len}
				   : (struct seed_file){"user-data", "#cloud-config\n", 14};
	if (p->network.bytes)
		files[n++] = (struct seed_file){"network-config", p->network.bytes, p->network.len};
	if (p->vendor.bytes)
		files[n++] = (struct seed_file){"vendor-data", p->vendor.bytes, p->vendor.len};
	if (p->keys.len)
		files[n++] = (struct seed_file){"lodge-keys", p->keys.bytes, p->keys.len};
	len = seed_size(files, n);
	image = len ? calloc(1, len) : NULL;
	if (!image)
		return err_set(err, EFBIG, "--cloud-init: all of it is too much for a seed");
	seed_make(files, n, image);
	return write_seed(image, len, path, err);
}

int cloud_make(const struct cloud_options *o, char path[PATH_MAX], struct err *err)
{
	struct parts p = {0};
	int rc = o->data ? read_data(o->data, &p, err) : 0;

	if (rc < 0)
		err_at(err, rc, "--cloud-init");
	if (rc == 0)
		rc = read_keys(o, p.meta.bytes && has_keys(p.meta.bytes), &p.keys, err);
	if (rc == 0)
		rc = make_seed(o, &p, path, err);
	free_parts(&p);
	return rc;
}

/* -- A key of our own ----------------------------------------------------------------------- */

bool cloud_has_own_key(char path[PATH_MAX])
{
	struct err none;

	if (userdir_find(path, "XDG_DATA_HOME", ".local/share", "lodge/ssh/id_ed25519", &none) < 0 || strlen(path) + 5 > PATH_MAX)
		return false;
	return access(path, R_OK) == 0;
}

static bool run_keygen(const char *path)
{
	int status = -1;
	pid_t pid = fork();

	if (pid == 0) {
		int nothing = open("/dev/null", O_RDWR);

		for (int fd = 0; fd < 3; fd++)
			dup2(nothing, fd);
		execlp("ssh-keygen", "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lodge", "-f", path, NULL);
		_exit(127);
	}
	return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

int cloud_own_key(char path[PATH_MAX], struct err *err)
{
	char dir[PATH_MAX], new[PATH_MAX + 40], new_pub[PATH_MAX + 44], secret[PATH_MAX];
	scoped_fd int lock = -1;
	int rc = userdir_find(dir, "XDG_DATA_HOME", ".local/share", "lodge/ssh", err);

	if (rc == 0)
		rc = userdir_make(dir, err);
	if (rc < 0)
		return rc;
	if (snprintf(path, PATH_MAX, "%s/id_ed25519.pub", dir) >= PATH_MAX)
		return err_set(err, ENAMETOOLONG, "'%s' is too long", dir);
	lock = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	flock(lock, LOCK_EX);
	if (cloud_has_own_key(secret) && access(path, R_OK) == 0)
		return 0;
	snprintf(new, sizeof(new), "%s/.new.%d", dir, (int)getpid());
	snprintf(new_pub, sizeof(new_pub), "%s.pub", new);
	snprintf(secret, sizeof(secret), "%.*s", (int)strlen(path) - 4, path);
	if (run_keygen(new) && rename(new_pub, path) == 0 && rename(new, secret) == 0)
		return 0;
	unlink(new);
	unlink(new_pub);
	path[0] = 0;
	return 0;
}

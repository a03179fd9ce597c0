/* SPDX-License-Identifier: MIT */
/*
 * See fetch.h. HTTP is RFC 9110: a request for what is behind the bytes that we have (Range, 14.2) counts only if the server still has
 * the same version (If-Range, 13.1.5), by the validator that came with them; else it answers with all of it. There are servers that do not
 * look at If-Range: so a part that is said to be of another version is refused, and "nothing is behind it" (416) believed only of
 * what has that length. What we have is thrown away then, and the next pull begins anew.
 */
#include "fetch.h"

#include "base/err.h"
#include "base/size.h"
#include "prog/lodge/image/pull.h"

#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <nettle/sha2.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#define VALIDATOR_MAX 256
#define CERTIFICATES  "/etc/ssl/certs/ca-certificates.crt"
#define SLOW_SECONDS  60

struct transfer {
	CURL *curl;
	void (*shut_in)(void);
	long status;
	bool begun;       /* the first byte of a body came */
	off_t had, at;    /* bytes in the file */
	uint64_t all;     /* as far as is known; 0 */
	uint64_t from;    /* of what the server sends a part of: Content-Range */
	uint64_t whole;   /* how long that is, by an answer that has no part of it */
	char validator[VALIDATOR_MAX], had_validator[VALIDATOR_MAX];
	int write_error;
	struct err full;  /* its file system is */
};

/* -- Bytes -------------------------------------------------------------------------------- */

/* Of a version that can be told from another one. A weak one ("W/") cannot. */
static void keep_validator(const struct transfer *t)
{
	ssize_t n;

	if (ftruncate(PULL_VALIDATOR, 0) < 0)
		return;
	n = pwrite(PULL_VALIDATOR, t->validator, strlen(t->validator), 0);
	(void)n; /* without it the next one begins anew */
}

static void load_validator(struct transfer *t)
{
	ssize_t n = pread(PULL_VALIDATOR, t->had_validator, VALIDATOR_MAX - 1, 0);

	t->had_validator[n > 0 ? n : 0] = 0;
	t->had_validator[strcspn(t->had_validator, "\r\n")] = 0;
	t->had = lseek(PULL_PART, 0, SEEK_END);
	if (t->had < 0 || !t->had_validator[0])
		t->had = 0;
}

/* What comes from here on does not go with what is there. */
static bool is_other(const struct transfer *t)
{
	return t->status == 206 && (t->from != (uint64_t)t->had || (t->validator[0] && strcmp(t->validator, t->had_validator) != 0));
}

/* The answer is the rest, or all of it. */
static bool begin(struct transfer *t)
{
	t->begun = true;
	t->at = t->status == 206 ? t->had : 0;
	if (is_other(t))
		return false;
	if (t->all)
		t->all += (uint64_t)t->at;
	if (t->at == 0 && ftruncate(PULL_PART, 0) < 0)
		return false;
	if (fetch_room(PULL_PART, t->all ? t->all - (uint64_t)t->at : 1, &t->full) < 0)
		return false;
	if (t->status != 206 || t->validator[0]) /* a part need not say it again */
		keep_validator(t);
	return true;
}

static void show(const struct transfer *t)
{
	unsigned mib = (unsigned)(t->at >> 20), all = (unsigned)(t->all >> 20);

	if (t->all)
		fetch_say((unsigned)((uint64_t)t->at * 90 / t->all), "fetching, of %u MiB", all);
	else
		fetch_say(0, "fetching: %u MiB", mib / 16 * 16);
}

static size_t on_body(char *bytes, size_t one, size_t n, void *ctx)
{
	struct transfer *t = ctx;
	off_t before = t->at;

	(void)one;
	if (t->status != 200 && t->status != 206)
		return n; /* a page about what went wrong */
	if (!t->begun && !begin(t))
		return 0;
	for (size_t done = 0; done < n;) {
		ssize_t now = pwrite(PULL_PART, bytes + done, n - done, t->at);

		if (now < 0 && errno != EINTR) {
			t->write_error = errno;
			return 0;
		}
		done += now > 0 ? (size_t)now : 0;
		t->at += now > 0 ? now : 0;
	}
	if (before >> 20 == t->at >> 20)
		return n;
	show(t);
	return fetch_room(PULL_PART, 1, &t->full) < 0 ? 0 : n;
}

/* -- Headers ------------------------------------------------------------------------------- */

static bool header_is(const char *line, size_t n, const char *name, char *value, size_t room)
{
	size_t len = strlen(name);

	if (n <= len || strncasecmp(line, name, len) != 0)
		return false;
	while (len < n && (line[len] == ' ' || line[len] == '\t'))
		len++;
	while (n > len && (unsigned char)line[n - 1] <= ' ')
		n--;
	if (n - len >= room)
		return false;
	memcpy(value, line + len, n - len); /* SAFE: it fits */
	value[n - len] = 0;
	return true;
}

static size_t on_header(char *line, size_t one, size_t n, void *ctx)
{
	struct transfer *t = ctx;
	char value[VALIDATOR_MAX];

	(void)one;
	if (header_is(line, n, "HTTP/", value, sizeof(value))) { /* "2 404": the first line of an answer, which may come after a proxy's */
		t->validator[0] = 0;
		t->all = t->from = t->whole = 0;
		t->status = strtol(value + strcspn(value, " "), NULL, 10);
	} else if (header_is(line, n, "ETag:", value, sizeof(value)) && strncmp(value, "W/", 2) != 0) {
		strcpy(t->validator, value); /* SAFE: they are of one size */
	} else if (header_is(line, n, "Last-Modified:", value, sizeof(value)) && !t->validator[0]) {
		strcpy(t->validator, value);
	} else if (header_is(line, n, "Content-Range: bytes */", value, sizeof(value))) {
		t->whole = strtoull(value, NULL, 10);
	} else if (header_is(line, n, "Content-Range: bytes ", value, sizeof(value))) {
		t->from = strtoull(value, NULL, 10);
	} else if (header_is(line, n, "Content-Length:", value, sizeof(value))) {
		t->all = strtoull(value, NULL, 10);
	}
	return n;
}

/* -- A request ------------------------------------------------------------------------------ */

/* Called when names are known, before the first connection. */
static curl_socket_t on_socket(void *ctx, curlsocktype type, struct curl_sockaddr *at)
{
	(void)type;
	((struct transfer *)ctx)->shut_in();
	return socket(at->family, at->socktype | SOCK_CLOEXEC, at->protocol);
}

/* Read before files are out of reach. */
static void give_certificates(CURL *curl)
{
	const char *path = getenv("CURL_CA_BUNDLE");
	static char bytes[4 << 20];
	FILE *in = fopen(path && path[0] ? path : CERTIFICATES, "re");
	struct curl_blob all = {.data = bytes, .flags = CURL_BLOB_NOCOPY};

	if (!in)
		return;
	all.len = fread(bytes, 1, sizeof(bytes), in);
	fclose(in);
	curl_easy_setopt(curl, CURLOPT_CAINFO_BLOB, &all);
}

static struct curl_slist *set_options(struct transfer *t, const char *url)
{
	struct curl_slist *headers = curl_slist_append(NULL, "User-Agent: lodge");
	char text[VALIDATOR_MAX + 40];

	if (t->had) {
		snprintf(text, sizeof(text), "Range: bytes=%lld-", (long long)t->had);
		headers = curl_slist_append(headers, text);
		snprintf(text, sizeof(text), "If-Range: %s", t->had_validator);
		headers = curl_slist_append(headers, text);
	}
	curl_easy_setopt(t->curl, CURLOPT_URL, url);
	curl_easy_setopt(t->curl, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(t->curl, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(t->curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(t->curl, CURLOPT_FAILONERROR, 0L);
	curl_easy_setopt(t->curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
	curl_easy_setopt(t->curl, CURLOPT_LOW_SPEED_TIME, (long)SLOW_SECONDS);
	curl_easy_setopt(t->curl, CURLOPT_OPENSOCKETFUNCTION, on_socket);
	curl_easy_setopt(t->curl, CURLOPT_OPENSOCKETDATA, t);
	curl_easy_setopt(t->curl, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(t->curl, CURLOPT_HEADERDATA, t);
	curl_easy_setopt(t->curl, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(t->curl, CURLOPT_WRITEDATA, t);
	give_certificates(t->curl);
	return headers;
}

/* What is there is not what the server has: the next pull begins anew. */
static int begin_anew(const char *why, struct err *err)
{
	if (ftruncate(PULL_PART, 0) < 0)
		return err_sys(err, errno, "what was fetched");
	return err_set(err, EIO, "%s: what had come of it before is thrown away, and the next pull begins anew", why);
}

/* Of a whole answer. */
static int judge_status(const struct transfer *t, struct err *err)
{
	char *to = NULL;

	curl_easy_getinfo(t->curl, CURLINFO_REDIRECT_URL, &to);
	if (to) {
		dprintf(STDOUT_FILENO, "redirect %s\n", to);
		return 1;
	}
	if (t->status == 416 && t->had) /* there is nothing behind what we have */
		return t->whole == (uint64_t)t->had ? 0 : begin_anew("the server has less than that, or does not say how much", err);
	if (t->status != 200 && t->status != 206)
		return err_set(err, t->status == 404 ? ENOENT : EIO, "the server answers %ld", t->status);
	return t->begun ? 0 : t->had ? begin_anew("the server has sent nothing", err) : err_set(err, EIO, "the server has sent nothing");
}

/* What has no length may have no end. */
static int no_room(const struct transfer *t, struct err *err)
{
	if (!t->all && ftruncate(PULL_PART, 0) < 0)
		return err_sys(err, errno, "what was fetched");
	return err_set(err, ENOSPC, "%s", t->full.text);
}

static int judge(const struct transfer *t, CURLcode rc, struct err *err)
{
	if (t->write_error)
		return err_sys(err, t->write_error, "what is fetched cannot be kept");
	if (t->full.code)
		return no_room(t, err);
	if (t->begun && is_other(t))
		return begin_anew("the server goes on with another version", err);
	if (rc != CURLE_OK)
		return err_set(err, EIO, "libcurl says '%s'%s", curl_easy_strerror(rc),
			       t->at ? ": what came is kept, and the next pull goes on from there" : "");
	return judge_status(t, err);
}

int fetch(const char *url, void (*shut_in)(void), struct err *err)
{
	static struct transfer t;
	struct curl_slist *headers;
	CURLcode rc;
	int result;

	t = (struct transfer){.curl = curl_easy_init(), .shut_in = shut_in};
	if (!t.curl)
		return err_set(err, ENOMEM, "no memory");
	load_validator(&t);
	headers = set_options(&t, url);
	fetch_say(0, "connecting");
	rc = curl_easy_perform(t.curl);
	result = judge(&t, rc, err);
	if (result < 0)
		err_at(err, result, "%.200s", url);
	curl_slist_free_all(headers);
	curl_easy_cleanup(t.curl);
	return result;
}

/* -- The sum ------------------------------------------------------------------------------ */

int fetch_check(const char *sum, struct err *err)
{
	static uint8_t bytes[1 << 16];
	struct sha256_ctx sha;
	uint8_t digest[SHA256_DIGEST_SIZE];
	char text[2 * SHA256_DIGEST_SIZE + 1];
	off_t at = 0;
	ssize_t n;

	fetch_say(90, "checking");
	sha256_init(&sha);
	while ((n = pread(PULL_PART, bytes, sizeof(bytes), at)) > 0) {
		sha256_update(&sha, (size_t)n, bytes);
		at += n;
	}
	if (n < 0)
		return err_sys(err, errno, "what was fetched");
	sha256_digest(&sha, sizeof(digest), digest);
	for (unsigned i = 0; i < sizeof(digest); i++)
		snprintf(text + 2 * i, 3, "%02x", digest[i]);
	if (strcasecmp(text, sum) == 0)
		return 0;
	if (ftruncate(PULL_PART, 0) < 0)
		return err_sys(err, errno, "what was fetched");
	return err_set(err, EIO, "the SHA-256 of what was fetched is %s, not %s", text, sum);
}

/* SPDX-License-Identifier: MIT */
/* How a server is named: see nbd.h. */
#include "block/nbd/nbd.h"

#include "base/err.h"

#include <errno.h>
#include <string.h>

static const char *after(const char *text, const char *head)
{
	size_t n = strlen(head);

	return strncmp(text, head, n) == 0 ? text + n : NULL;
}

bool nbd_is_uri(const char *path)
{
	return after(path, "nbd:") || after(path, "nbd+unix:") || after(path, "nbds:") || after(path, "nbds+unix:");
}

static int digit(char c)
{
	const char *digits = "0123456789abcdef", *at = c ? strchr(digits, c >= 'A' && c <= 'F' ? c - 'A' + 'a' : c) : NULL;

	return at ? (int)(at - digits) : -1;
}

/* n characters, of which %XX is one; no zero byte. */
static int unescape(char *to, size_t room, const char *from, size_t n, const char *what, const char *uri, struct err *err)
{
	size_t len = 0;

	for (size_t i = 0; i < n; i++) {
		int c = (unsigned char)from[i];

		if (c == '%') {
			int high = n - i > 2 ? digit(from[i + 1]) : -1, low = high < 0 ? -1 : digit(from[i + 2]);

			c = low < 0 ? 0 : high * 16 + low;
			i += 2;
		}
		if (!c)
			return err_set(err, ERANGE, "'%s': a '%%' in it is followed by two digits, not both 0", uri);
		if (len + 1 >= room)
			return err_set(err, ERANGE, "'%s': its %s has %zu bytes at most", uri, what, room - 1);
		to[len++] = (char)c;
	}
	to[len] = 0;
	return 0;
}

static int parse_unix(struct nbd_address *a, const char *rest, const char *uri, struct err *err)
{
	const char *query = strchr(rest, '?'), *path = query ? after(query, "?socket=") : NULL;
	int rc;

	if (!path || !*path || strchr(path, '&'))
		return err_set(err, ERANGE, "'%s': a server on this computer is nbd+unix:///NAME?socket=PATH", uri);
	rc = unescape(a->name, sizeof(a->name), rest, (size_t)(query - rest), "name", uri, err);
	return rc < 0 ? rc : unescape(a->path, sizeof(a->path), path, strlen(path), "socket's path", uri, err);
}

/* HOST, [ADDRESS], with :PORT or without. */
static int parse_host(struct nbd_address *a, const char *from, size_t n, const char *uri, struct err *err)
{
	const char *end = from + n, *host = from, *colon;
	size_t len;

	if (n && *from == '[') {
		host = from + 1;
		colon = memchr(host, ']', n - 1);
		if (!colon)
			return err_set(err, ERANGE, "'%s': a '[' in it has no ']'", uri);
		len = (size_t)(colon - host);
		colon++;
	} else {
		colon = memchr(from, ':', n);
		colon = colon ? colon : end;
		len = (size_t)(colon - host);
	}
	if (!len || len >= sizeof(a->host) || (colon < end && *colon != ':'))
		return err_set(err, ERANGE, "'%s': a server is nbd://HOST[:PORT]/NAME", uri);
	memcpy(a->host, host, len);
	strcpy(a->port, "10809"); /* SAFE: it has room */
	if (colon == end)
		return 0;
	len = (size_t)(end - colon - 1);
	if (!len || len > 5 || strspn(colon + 1, "0123456789") < len)
		return err_set(err, ERANGE, "'%s': its port is a number up to 65535", uri);
	memcpy(a->port, colon + 1, len);
	a->port[len] = 0;
	return 0;
}

int nbd_parse(struct nbd_address *a, const char *uri, struct err *err)
{
	const char *local = after(uri, "nbd+unix:///"), *remote = after(uri, "nbd://");
	size_t n;
	int rc;

	memset(a, 0, sizeof(*a));
	if (local)
		return parse_unix(a, local, uri, err);
	if (!remote)
		return err_set(err, ERANGE, "'%s': a server is nbd://HOST[:PORT]/NAME or nbd+unix:///NAME?socket=PATH", uri);
	n = strcspn(remote, "/?");
	if (strchr(remote, '?'))
		return err_set(err, ERANGE, "'%s': nothing is known that could be behind the '?'", uri);
	rc = parse_host(a, remote, n, uri, err);
	remote += n + (remote[n] == '/');
	return rc < 0 ? rc : unescape(a->name, sizeof(a->name), remote, strlen(remote), "name", uri, err);
}

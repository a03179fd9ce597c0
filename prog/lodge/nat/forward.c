/* SPDX-License-Identifier: MIT */
/* See forward.h. */
#include "forward.h"

#include "base/err.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Takes ":PORT" or "PORT" off the end; 0: there is none. */
static uint16_t take_port(char *text)
{
	char *colon = strrchr(text, ':'), *at = colon ? colon + 1 : text, *end;
	unsigned long port = strtoul(at, &end, 10);

	if (at[0] < '0' || at[0] > '9' || *end || port > UINT16_MAX)
		return 0;
	*(colon ? colon : text) = 0;
	return htons((uint16_t)port);
}

static bool take_address(struct forward *f, char *text)
{
	size_t n = strlen(text);

	f->len = sizeof(f->from.v4);
	f->from.v4.sin_family = AF_INET;
	if (!n)
		text = "127.0.0.1";
	if (text[0] != '[')
		return inet_pton(AF_INET, text, &f->from.v4.sin_addr) == 1;
	if (text[n - 1] != ']')
		return false;
	text[n - 1] = 0;
	f->len = sizeof(f->from.v6);
	f->from.v6.sin6_family = AF_INET6;
	return inet_pton(AF_INET6, text + 1, &f->from.v6.sin6_addr) == 1;
}

int forward_parse(struct forward *f, const char *text, struct err *err)
{
	char copy[80], *slash;
	uint16_t host = 0, guest = 0;

	memset(f, 0, sizeof(*f));
	if (strlen(text) < sizeof(copy)) {
		strcpy(copy, text); /* SAFE: it fits */
		slash = strchr(copy, '/');
		if (slash && (strcmp(slash, "/udp") == 0 || strcmp(slash, "/tcp") == 0)) {
			f->udp = slash[1] == 'u';
			*slash = 0;
		}
		guest = take_port(copy);
		host = guest ? take_port(copy) : 0;
	}
	if (!host || !take_address(f, copy))
		return err_set(err, EINVAL, "'%s' is not [ADDRESS:]HOST:GUEST[/udp], as 2222:22: ports are 1 to 65535, an IPv6 address "
			       "stands in brackets", text);
	f->to.any.sa_family = f->from.any.sa_family;
	f->from.v4.sin_port = host; /* where an IPv6 address has it, too */
	f->to.v4.sin_port = guest;
	return 0;
}

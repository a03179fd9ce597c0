/* SPDX-License-Identifier: MIT */
/* A port of this computer that leads to one of the guest's, as -p says it: [ADDRESS:]HOST:GUEST[/udp]. */
#ifndef LODGE_FORWARD_H
#define LODGE_FORWARD_H

#include <netinet/in.h>
#include <stdbool.h>

struct err;

struct forward {
	bool udp;
	union {
		struct sockaddr any;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
	} from, to; /* of the same family; the guest's is any */
	socklen_t len;
};

/* Without an address it is 127.0.0.1; an IPv6 one stands in brackets. -EINVAL. */
int forward_parse(struct forward *f, const char *text, struct err *err);

#endif

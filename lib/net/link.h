/* SPDX-License-Identifier: MIT */
/*
 * Whether a card's cable leads anywhere, as its driver is told: it is plugged in, the other end is there, and it was not pulled because the guest has
 * moved. Who was restored or has moved finds it pulled for a second, so it asks anew for its address: the network may be another one.
 *
 *	net_link_init(&l, port, loop, plug_in, card);    // when the time has come, plug_in(card)
 *	if (net_link_changed(&l))
 *		tell the driver of l.up;
 *
 * All is called with the card's lock held, and plug_in() takes it and calls net_link_wait_over().
 */
#ifndef NET_LINK_H
#define NET_LINK_H

#include "loop/loop.h"

#include <stdbool.h>

struct net_port;

struct net_link {
	const struct net_port *port; /* NULL: there is no cable */
	struct loop_timer plug;
	bool up;        /* what the driver is told */
	bool unplugged; /* somebody has taken it out */
	bool pulled;    /* by moving, until `plug` goes off */
	bool paused;
	unsigned patience; /* for how many seconds more a driver is waited for that has not looked while it was pulled */
};

/* Without a loop it is never plugged in again. */
void net_link_init(struct net_link *l, const struct net_port *port, struct loop *loop, void (*plug_in)(void *card), void *card);
void net_link_fini(struct net_link *l);

/* True: `up` is another one now. Nothing changes in a pause. */
bool net_link_changed(struct net_link *l);

/* plug_in(): it is plugged in, or another second later. */
void net_link_wait_over(struct net_link *l);

/* The driver has looked: it need not be waited for. */
void net_link_seen(struct net_link *l);

/* The guest goes on elsewhere. A driver that is not interrupted, but looks now and then, has `patience` seconds for that. */
void net_link_moved(struct net_link *l, unsigned patience);

/* The card's. */
void net_link_pause(struct net_link *l);
void net_link_resume(struct net_link *l);

#endif

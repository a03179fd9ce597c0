/* SPDX-License-Identifier: MIT */
/* See link.h. */
#include "net/link.h"

#include "net/port.h"

#define PULLED_NS UINT64_C(1000000000)

void net_link_init(struct net_link *l, const struct net_port *port, struct loop *loop, void (*plug_in)(void *card), void *card)
{
	*l = (struct net_link){.port = port, .up = port && port->up};
	if (loop)
		loop_timer_init(&l->plug, loop, plug_in, card);
}

void net_link_fini(struct net_link *l)
{
	loop_timer_fini(&l->plug);
}

bool net_link_changed(struct net_link *l)
{
	bool up = l->port && l->port->up && !l->unplugged && !l->pulled;

	if (l->paused || up == l->up)
		return false;
	l->up = up;
	return true;
}

/* In a pause nothing happens: resume sets the timer again. */
void net_link_wait_over(struct net_link *l)
{
	if (!l->pulled || l->paused)
		return;
	if (l->patience) {
		l->patience--;
		loop_timer_set(&l->plug, loop_now() + PULLED_NS);
		return;
	}
	l->pulled = false;
}

void net_link_seen(struct net_link *l)
{
	if (!l->up)
		l->patience = 0;
}

/* That it is not up the driver is told when it runs again. */
void net_link_moved(struct net_link *l, unsigned patience)
{
	l->pulled = l->up = true;
	l->patience = patience;
}

void net_link_pause(struct net_link *l)
{
	l->paused = true;
	loop_timer_set(&l->plug, LOOP_NEVER);
}

void net_link_resume(struct net_link *l)
{
	l->paused = false;
	if (l->pulled)
		loop_timer_set(&l->plug, loop_now() + PULLED_NS);
}

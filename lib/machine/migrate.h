/* SPDX-License-Identifier: MIT */
/*
 * A machine that moves to another lodge while it runs: memory is sent, what was written meanwhile is sent again, until so
 * little is left that the machine can stand still for it (pre-copy).
 *
 *	rc = migration_begin(&g, m, &(struct migration_plan){.fd = fd, .live = true, .direct = true}, &err);
 *	while (...) {
 *		poll() for migration_events(g) on fd, for migration_patience(g) ms;
 *		now = migration_step(g, &err);
 *	}
 *	migration_end(g);
 *
 * All of it is the owner's thread's (machine.h). A step sends as much as the socket takes, pauses and resumes
 * the machine as it needs to, and never waits. If a guest writes faster than can be sent it is slowed down, by standing
 * still for part of each 20 ms.
 *
 * Exactly one runs. The other side says that it runs before it does, and only once. Before all was sent every failure
 * leaves the machine here. After that the machine here stands still until it has heard: that it runs there; or that the
 * connection ended without a word. In that case it goes on here, if the other lodge itself is at the other end of the
 * socket (`direct`), since what it said would have come first. Else the word may have been lost on the way, and the machine
 * stays paused: MIGRATION_UNKNOWN.
 *
 * Disks that it writes must be the same there: a path on this computer, or on storage that both have. It never runs where it
 * does not have them locked, and nobody else can lock them on the way. A machine that goes on here waits, paused, until the
 * other lodge has let go of them.
 */
#ifndef MACHINE_MIGRATE_H
#define MACHINE_MIGRATE_H

#include <stdbool.h>
#include <stdint.h>

struct err;
struct machine;
struct migration;

struct migration_plan {
	int fd;      /* a stream socket, taken over if it begins */
	bool live;   /* the machine runs meanwhile; else it stands still from the beginning */
	bool direct; /* nobody is in between */
};

/* -EBUSY: it migrates already. */
int migration_begin(struct migration **g, struct machine *m, const struct migration_plan *plan,
		    struct err *err);

/* For poll(); -1: there is nothing to poll. ms, -1: for ever. */
int migration_fd(const struct migration *g);
short migration_events(const struct migration *g);
int migration_patience(const struct migration *g);

enum migration_now {
	MIGRATION_GOES_ON,
	MIGRATION_DONE,    /* it runs there; here it is paused, and may not run again */
	MIGRATION_FAILED,  /* it goes on here, or is paused as it was; err says why */
	MIGRATION_UNKNOWN, /* it is paused, and nobody knows here whether it runs there */
};

/* When poll() says so, or the time is up; more often is fine. After anything but GOES_ON it is over. */
enum migration_now migration_step(struct migration *g, struct err *err);

/* Whether all was sent, or it waits for its disks: then it can no longer be taken back. */
bool migration_is_sent(const struct migration *g);

struct migration_facts {
	uint64_t sent;   /* bytes */
	unsigned rounds; /* through memory */
	double down_ms;  /* it stood still for the last of them, and until the other side ran */
};

/* So far. */
struct migration_facts migration_facts(const struct migration *g);

/* Closes it. One that was not sent is failed: the machine goes on. NULL is fine. */
void migration_end(struct migration *g);

#endif

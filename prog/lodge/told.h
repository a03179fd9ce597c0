/* SPDX-License-Identifier: MIT */
/*
 * What clients of the control socket are told of a guest (its events, qmp/commands.def), by who has seen to it that it is so. In the
 * main thread.
 */
#ifndef LODGE_TOLD_H
#define LODGE_TOLD_H

#include <stdbool.h>

struct machine_end;
struct session;

/* Whether it stands still, if that is not what they heard last. */
void told_life(struct session *s);

/* Which CD drives are open, the same. */
void told_trays(struct session *s);

/* A device that somebody wanted out is gone. */
void told_deleted(struct session *s, const char *id);

/* Its kernel says that it is lost; `crash_kernel`: another one takes over. */
void told_panic(struct session *s, bool crash_kernel);

/* It begins anew; `guest`: by its own wish. */
void told_reset(struct session *s, bool guest);

/* Why it has ended: `stopped` is the cause (query-qmp-schema's ShutdownCause) if somebody has stopped it. */
void told_end(struct session *s, const struct machine_end *end, const char *stopped);

#endif

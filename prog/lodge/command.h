/* SPDX-License-Identifier: MIT */
/* A session whose machine runs one command, by the agent in its guest, and ends. */
#ifndef LODGE_COMMAND_H
#define LODGE_COMMAND_H

struct session;

/* Its machine's port has the session's console at its other end. `words` end with NULL. Returns the program's exit code. */
int command_run(struct session *s, char **words);

#endif

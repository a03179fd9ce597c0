/* SPDX-License-Identifier: MIT */
/* A session whose machine runs one command, by the agent in its guest, and ends. */
#ifndef LODGE_COMMAND_H
#define LODGE_COMMAND_H

struct session;

/* Its machine's port has the session's console at its other end. `words` end with NULL; there are none if the machine is only to be
 * saved, to the session's image, when its agent has answered. Returns the program's exit code. */
int command_run(struct session *s, char **words);

#endif

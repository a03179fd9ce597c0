/* SPDX-License-Identifier: MIT */
/*
 * What `lodge run FILE -- COMMAND` and the agent in the guest (guest/agent.c) say to each other, through a port
 * of a virtio console.
 *
 * Both sides send frames, one behind the other:
 *
 *	kind (1), 0 (1), length of the contents (2, little-endian), contents (at most AGENT_CONTENTS_MAX)
 *
 *	host                               guest
 *	HELLO    16 bytes that nobody      HELLO    the same bytes
 *	         has said before
 *	ARGS     of the command line
 *	RUN      it is whole: go           FAILED   it cannot be executed: errno (4)
 *	INPUT    bytes for its stdin;      TAKEN    it took so many bytes of it (4)
 *	         none: that is the end
 *	SIGNAL   for its process group (1) OUTPUT   bytes of its stdout
 *	CLOSE    nobody reads its stdout   ERRORS   bytes of its stderr
 *	         (1) or stderr (2)         EXIT     its code (1), the signal that ended it or 0 (1)
 *
 * The agent runs one command at a time, as often as it is asked to. ARGS is cut anywhere; all of them
 * together are the words of the command line, each with a NUL behind it. EXIT or FAILED is the last frame of a
 * command; what the command had written comes before.
 *
 * HELLO begins a conversation, and ends the one before: a command that still runs is killed. The guest's stream may
 * be in the middle of a frame then, of somebody who has been restored into another life; so the host drops all that
 * comes before its own HELLO, which is 20 bytes that cannot be there by chance. The host's stream has no half
 * frames: what it gives to the port at once, AGENT_BATCH_MAX bytes at most, is whole frames, and the port takes all
 * of it or nothing.
 *
 * Who is slow is waited for. The host sends INPUT only as far as AGENT_WINDOW bytes of it are without TAKEN, so
 * that the agent can always read on, and hears of a SIGNAL. What the agent sends stays in the port until the host
 * has room, and then the command waits, as it would for any pipe.
 *
 * The agent believes the host. The host believes nothing: prog/lodge/frames.c is the table of what can be.
 */
#ifndef GUEST_AGENT_H
#define GUEST_AGENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define AGENT_PORT "org.lodge.agent.0" /* the port's name */

#define AGENT_HEADER       4u
#define AGENT_CONTENTS_MAX 16384u
#define AGENT_BATCH_MAX    4096u  /* one of the buffers that Linux's driver has */
#define AGENT_HELLO        16u
#define AGENT_WINDOW       65536u
#define AGENT_ARGS_MAX     (2u << 20) /* as much as Linux takes at most */

enum agent_kind {
	AGENT_SAYS_HELLO = 1, /* both */
	AGENT_ARGS, AGENT_RUN, AGENT_INPUT, AGENT_SIGNAL, AGENT_CLOSE, /* the host */
	AGENT_FAILED, AGENT_TAKEN, AGENT_OUTPUT, AGENT_ERRORS, AGENT_EXIT, /* the guest */
};

struct agent_frame {
	unsigned kind, len;
	const uint8_t *contents;
};

/* The frame at `bytes`: its whole length, or 0 if it is not all there. */
static inline size_t agent_frame(const uint8_t *bytes, size_t n, struct agent_frame *f)
{
	if (n < AGENT_HEADER)
		return 0;
	*f = (struct agent_frame){bytes[0], bytes[2] | (unsigned)bytes[3] << 8, bytes + AGENT_HEADER};
	return n < AGENT_HEADER + f->len ? 0 : AGENT_HEADER + f->len;
}

/* Writes the header of one. */
static inline void agent_header(uint8_t *bytes, unsigned kind, size_t len)
{
	bytes[0] = (uint8_t)kind;
	bytes[1] = 0;
	bytes[2] = (uint8_t)len;
	bytes[3] = (uint8_t)(len >> 8);
}

/* A number of 4 bytes. */
static inline uint32_t agent_number(const uint8_t *bytes)
{
	return bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

#endif

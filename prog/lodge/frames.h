/* SPDX-License-Identifier: MIT */
/*
 * What the agent of a guest says (guest/agent.h), as far as it makes sense. It is a guest's: each length is
 * checked before it is one.
 */
#ifndef LODGE_FRAMES_H
#define LODGE_FRAMES_H

#include "guest/agent.h"

struct err;

/* Looks for the answer to our HELLO; returns how many bytes are of no use any more: those before it and itself if it
 * was found, and all that cannot be a part of it if not. */
size_t frames_find_hello(const uint8_t *bytes, size_t n, const uint8_t hello[AGENT_HELLO], bool *found);

/* The frame at `bytes`: its whole length, 0 if it is not all there yet, or -EPROTO with err. At most AGENT_HEADER
 * + AGENT_CONTENTS_MAX bytes have to be looked at. */
int frames_next(const uint8_t *bytes, size_t n, struct agent_frame *f, struct err *err);

#endif

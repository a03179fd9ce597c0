/* SPDX-License-Identifier: MIT */
/* See frames.h. What is wrong is seen in the header, so that nobody waits for contents that never come. */
#include "frames.h"

#include "base/err.h"
#include "base/macros.h"

#include <errno.h>
#include <string.h>

/* What the guest may say, and how long that is. */
static const struct {
	const char *name;
	unsigned least, most;
} kinds[] = {
	[AGENT_FAILED] = {"FAILED", 4, 4},
	[AGENT_TAKEN] = {"TAKEN", 4, 4},
	[AGENT_OUTPUT] = {"OUTPUT", 1, AGENT_CONTENTS_MAX},
	[AGENT_ERRORS] = {"ERRORS", 1, AGENT_CONTENTS_MAX},
	[AGENT_EXIT] = {"EXIT", 2, 2},
};

size_t frames_find_hello(const uint8_t *bytes, size_t n, const uint8_t hello[AGENT_HELLO], bool *found)
{
	uint8_t answer[AGENT_HEADER + AGENT_HELLO];
	const uint8_t *at;

	agent_header(answer, AGENT_SAYS_HELLO, AGENT_HELLO);
	memcpy(answer + AGENT_HEADER, hello, AGENT_HELLO);
	at = memmem(bytes, n, answer, sizeof(answer));
	*found = at != NULL;
	if (at)
		return (size_t)(at - bytes) + sizeof(answer);
	return n < sizeof(answer) ? 0 : n - sizeof(answer) + 1;
}

int frames_next(const uint8_t *bytes, size_t n, struct agent_frame *f, struct err *err)
{
	size_t len = agent_frame(bytes, n, f);

	if (n < AGENT_HEADER)
		return 0;
	if (f->kind >= ARRAY_SIZE(kinds) || !kinds[f->kind].name || bytes[1])
		return err_set(err, EPROTO, "the agent in the guest makes no sense: a frame of kind %u",
			       f->kind | (unsigned)bytes[1] << 8);
	if (f->len < kinds[f->kind].least || f->len > kinds[f->kind].most)
		return err_set(err, EPROTO, "the agent in the guest makes no sense: %s with %u bytes",
			       kinds[f->kind].name, f->len);
	return (int)len;
}

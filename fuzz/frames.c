/* SPDX-License-Identifier: MIT */
/*
 * Any bytes as what a guest's agent says (prog/lodge/frames.c), in pieces of any size, as they come through the ring.
 *
 * What must hold: a frame lies in the bytes that there are, and is known as soon as it is whole; what is dropped was there;
 * nothing is waited for that AGENT_HEADER + AGENT_CONTENTS_MAX bytes do not bring.
 */
#include "prog/lodge/frames.h"

#include "base/err.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t hello[AGENT_HELLO] = "0123456789abcdef";

static void must(bool fine)
{
	if (!fine)
		abort();
}

/* In memory of its own size, so that a sanitizer sees a byte too far. */
static int next(const uint8_t *data, size_t n, struct agent_frame *f)
{
	uint8_t *copy = malloc(n ? n : 1);
	struct err err = {0};
	int len;

	must(copy != NULL);
	memcpy(copy, data, n);
	len = frames_next(copy, n, f, &err);
	must(len >= 0 || err.text[0]);
	must(len <= 0 || ((size_t)len <= n && f->contents == copy + AGENT_HEADER &&
			  f->len <= AGENT_CONTENTS_MAX && (size_t)len == AGENT_HEADER + f->len));
	must(len != 0 || n < AGENT_HEADER + AGENT_CONTENTS_MAX);
	free(copy);
	return len;
}

/* The first n bytes that make a frame, or no sense, make the same with all that follow. */
static void check_frames(const uint8_t *data, size_t size)
{
	struct agent_frame f, whole;

	while (size) {
		size_t n = 0;
		int len = 0;

		while (len == 0 && n < size)
			len = next(data, ++n, &f);
		must(next(data, size, &whole) == len);
		if (len <= 0)
			return;
		must((size_t)len == n && whole.kind == f.kind);
		data += n;
		size -= n;
	}
}

static void check_hello(const uint8_t *data, size_t size)
{
	bool found = false, at_once;
	size_t at = 0, all = frames_find_hello(data, size, hello, &at_once);

	for (size_t n = 0; n <= size && !found; n++) {
		size_t drop = frames_find_hello(data + at, n - at, hello, &found);

		must(drop <= n - at);
		at += drop;
	}
	must(found == at_once && at == all);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	check_hello(data, size);
	check_frames(data, size);
	return 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * Any stream as a guest that migrates (lib/machine/incoming.c). The first byte tells what the input is: even, all of the
 * stream; odd, frames behind a BEGIN of 32 MiB, each made of four bytes (what, how many, two for where), whose pages are
 * zeros, so that a few bytes reach far. Nothing may crash; what is received is opened.
 */
#include "base/bytes.h"
#include "base/err.h"
#include "base/macros.h"
#include "machine/incoming.h"
#include "machine/saved.h"
#include "machine/stream.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MEMORY (32 * MiB)

static void put(int fd, const void *bytes, size_t len)
{
	if (write(fd, bytes, len) != (ssize_t)len)
		abort();
}

static void put_frame(int fd, uint32_t type, uint32_t count, uint64_t value)
{
	uint8_t head[STREAM_HEAD];

	le32_put(head, type);
	le32_put(head + 4, count);
	le64_put(head + 8, value);
	put(fd, head, sizeof(head));
}

static void make_stream(int fd, const uint8_t *data, size_t size)
{
	static const uint8_t zeros[256 * STREAM_PAGE];

	put_frame(fd, STREAM_BEGIN, STREAM_VERSION, MEMORY);
	for (; size >= 4; data += 4, size -= 4) {
		uint64_t where = le16_get(data + 2) * (uint64_t)STREAM_PAGE;

		put_frame(fd, data[0] % 7, data[1], data[0] % 7 == STREAM_STATE ? data[1] * 64ull : where);
		if (data[0] % 7 == STREAM_PAGES)
			put(fd, zeros, data[1] * (size_t)STREAM_PAGE);
		if (data[0] % 7 == STREAM_STATE)
			put(fd, zeros, data[1] * 64ul);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct incoming in;
	struct saved *s;
	struct err err;
	int fd;

	if (size < 1 || (fd = memfd_create("stream", MFD_CLOEXEC)) < 0)
		return 0;
	if (data[0] & 1)
		make_stream(fd, data + 1, size - 1);
	else
		put(fd, data + 1, size - 1);
	lseek(fd, 0, SEEK_SET);
	if (incoming_receive(&in, fd, &err) == 0) {
		if (saved_open_fd(&s, dup(in.state), "stream", &err) == 0)
			saved_close(s);
		incoming_close(&in);
	}
	close(fd);
	return 0;
}

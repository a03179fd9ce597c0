/* SPDX-License-Identifier: MIT */
/*
 * See fetch.h: an image out of what was fetched. By its first bytes that is gzip (RFC 1952), xz, Zstandard (RFC 8878), or the image
 * itself; a name says nothing. An archive may be a few bytes and claim any number: the image may have as many as IMAGE_MAX, zeros of
 * which take no room.
 */
#include "fetch.h"

#include "base/bytes.h"
#include "base/err.h"
#include "prog/lodge/image/pull.h"

#include <errno.h>
#include <lzma.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#define CHUNK      (1u << 16)
#define IMAGE_MAX  (16ull << 40)
#define LZMA_MEMORY (256ull << 20)
#define ZSTD_WINDOW 27 /* 128 MiB */

static uint8_t in[CHUNK], out[CHUNK];
static uint64_t in_at, out_at, in_all;

/* -- Files -------------------------------------------------------------------------------- */

/* Bytes, 0 at the end, or -errno. */
static ssize_t take(struct err *err)
{
	ssize_t n = pread(PULL_PART, in, CHUNK, (off_t)in_at);

	if (n < 0)
		return err_sys(err, errno, "what was fetched");
	if (in_at >> 24 != (in_at + (uint64_t)n) >> 24 && in_all)
		fetch_say((unsigned)(92 + in_at * 7 / in_all), "unpacking");
	in_at += (uint64_t)n;
	return n;
}

static int put(size_t n, struct err *err)
{
	if (out_at + n > IMAGE_MAX)
		return err_set(err, EINVAL, "it unpacks to more than %llu TiB", IMAGE_MAX >> 40);
	if (out_at >> 20 != (out_at + n) >> 20 && fetch_room(PULL_IMAGE, n, err) < 0)
		return -ENOSPC;
	for (size_t done = 0; n && !is_all_zero(out, n) && done < n;) {
		ssize_t now = pwrite(PULL_IMAGE, out + done, n - done, (off_t)(out_at + done));

		if (now < 0 && errno != EINTR)
			return err_sys(err, errno, "the image");
		done += now > 0 ? (size_t)now : 0;
	}
	out_at += n;
	return 0;
}

static int damaged(const char *what, struct err *err)
{
	return err_set(err, EINVAL, "what was fetched is no whole %s archive", what);
}

/* -- Forms -------------------------------------------------------------------------------- */

static int copy(struct err *err)
{
	ssize_t n;
	int rc = 0;

	while (rc == 0 && (n = take(err)) > 0) {
		memcpy(out, in, (size_t)n);
		rc = put((size_t)n, err);
	}
	return rc < 0 ? rc : (int)n;
}

/* What is in `in`. An archive may have several members, one behind the other. */
static int inflate_chunk(z_stream *z, int *state, struct err *err)
{
	int rc = 0;

	do {
		if (*state == Z_STREAM_END && inflateReset(z) != Z_OK)
			return err_set(err, EINVAL, "zlib cannot begin anew");
		z->next_out = out;
		z->avail_out = CHUNK;
		*state = inflate(z, Z_NO_FLUSH);
		if (*state != Z_OK && *state != Z_STREAM_END && *state != Z_BUF_ERROR)
			return damaged("gzip", err);
		rc = put(CHUNK - z->avail_out, err);
	} while (rc == 0 && *state != Z_BUF_ERROR && (z->avail_in || (z->avail_out == 0 && *state == Z_OK)));
	return rc;
}

static int ungzip(struct err *err)
{
	z_stream z = {0};
	int state = Z_OK, rc = 0;
	ssize_t n = 0;

	if (inflateInit2(&z, 15 + 16) != Z_OK)
		return err_set(err, ENOMEM, "no memory");
	while (rc == 0 && (n = take(err)) > 0) {
		z.next_in = in;
		z.avail_in = (uInt)n;
		rc = inflate_chunk(&z, &state, err);
	}
	inflateEnd(&z);
	if (rc < 0 || n < 0)
		return rc < 0 ? rc : (int)n;
	return state == Z_STREAM_END ? 0 : damaged("gzip", err);
}

static int unxz(struct err *err)
{
	lzma_stream z = LZMA_STREAM_INIT;
	lzma_ret state = LZMA_OK;
	ssize_t n = 1;
	int rc = 0;

	if (lzma_stream_decoder(&z, LZMA_MEMORY, LZMA_CONCATENATED) != LZMA_OK)
		return err_set(err, ENOMEM, "no memory");
	while (rc == 0 && state == LZMA_OK) {
		if (z.avail_in == 0 && n > 0) {
			n = take(err);
			if (n < 0)
				break;
			z.next_in = in;
			z.avail_in = (size_t)n;
		}
		z.next_out = out;
		z.avail_out = CHUNK;
		state = lzma_code(&z, n == 0 ? LZMA_FINISH : LZMA_RUN);
		rc = state == LZMA_MEMLIMIT_ERROR ? err_set(err, EINVAL, "the xz archive wants more than 256 MiB of memory")
		     : state == LZMA_OK || state == LZMA_STREAM_END ? put(CHUNK - z.avail_out, err) : damaged("xz", err);
	}
	lzma_end(&z);
	return rc < 0 ? rc : n < 0 ? (int)n : 0;
}

static int unzstd(struct err *err)
{
	ZSTD_DStream *z = ZSTD_createDStream();
	size_t left = 1;
	ssize_t n = 0;
	int rc = 0;

	if (!z)
		return err_set(err, ENOMEM, "no memory");
	ZSTD_DCtx_setParameter(z, ZSTD_d_windowLogMax, ZSTD_WINDOW);
	while (rc == 0 && (n = take(err)) > 0) {
		ZSTD_inBuffer from = {in, (size_t)n, 0};
		bool more = true;

		while (rc == 0 && more) {
			ZSTD_outBuffer to = {out, CHUNK, 0};

			left = ZSTD_decompressStream(z, &to, &from);
			rc = ZSTD_isError(left) ? damaged("zstd", err) : put(to.pos, err);
			more = from.pos < from.size || to.pos == to.size;
		}
	}
	ZSTD_freeDStream(z);
	return rc < 0 ? rc : n < 0 ? (int)n : left == 0 ? 0 : damaged("zstd", err);
}

/* -- Which -------------------------------------------------------------------------------- */

static const struct {
	const char *magic;
	size_t len;
	int (*unpack)(struct err *err);
} forms[] = {
	{"\x1f\x8b\x08", 3, ungzip},
	{"\xfd\x37zXZ\0", 6, unxz},
	{"\x28\xb5\x2f\xfd", 4, unzstd},
	{"", 0, copy},
};

int unpack(struct err *err)
{
	uint8_t first[8] = {0};
	off_t all = lseek(PULL_PART, 0, SEEK_END);
	unsigned i = 0;
	int rc;

	fetch_say(92, "unpacking");
	if (all < 0 || pread(PULL_PART, first, sizeof(first), 0) < 0)
		return err_sys(err, errno, "what was fetched");
	in_all = (uint64_t)all;
	while (memcmp(first, forms[i].magic, forms[i].len) != 0)
		i++;
	rc = forms[i].unpack(err);
	if (rc < 0)
		return rc;
	out_at = (out_at + 511) / 512 * 512;
	return ftruncate(PULL_IMAGE, (off_t)out_at) < 0 ? err_sys(err, errno, "the image") : 0;
}

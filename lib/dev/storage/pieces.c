/* SPDX-License-Identifier: MIT */
/* See pieces.h. An entry of a list is read when its turn comes, once, and what was read is what is checked. */
#include "dev/storage/pieces.h"

#include "block/iov.h"

#include <errno.h>
#include <string.h>

bool pieces_add(struct pieces *p, const struct guest_mem *mem, gpa_t at, uint64_t len, bool write)
{
	uint8_t *host = write ? guest_range(mem, at, len) : (uint8_t *)guest_range_ro(mem, at, len);
	struct iovec *last = p->n ? &p->iov[p->n - 1] : NULL;

	if (!host)
		return false;
	if (last && (uint8_t *)last->iov_base + last->iov_len == host) {
		last->iov_len += len;
	} else {
		if (p->n == DISK_IOV_MAX)
			return false;
		p->iov[p->n++] = (struct iovec){host, len};
	}
	p->len += len; /* SAFE: no sum of pieces of RAM, 2^16 of them at most, has 64 bits */
	return true;
}

void pieces_cut(struct pieces *p, uint64_t len)
{
	uint64_t before = 0;

	if (len >= p->len)
		return;
	p->len = len;
	for (unsigned i = 0; i < p->n; i++) {
		if (before + p->iov[i].iov_len >= len) {
			p->iov[i].iov_len = len - before;
			p->n = len ? i + 1 : 0;
			return;
		}
		before += p->iov[i].iov_len;
	}
}

uint64_t pieces_get(const struct pieces *p, uint64_t at, void *to, uint64_t len)
{
	uint64_t done = 0;

	for (unsigned i = 0; i < p->n && done < len; i++) {
		const struct iovec *v = &p->iov[i];
		uint64_t part;

		if (at >= v->iov_len) {
			at -= v->iov_len;
			continue;
		}
		part = v->iov_len - at < len - done ? v->iov_len - at : len - done;
		memcpy((uint8_t *)to + done, (const uint8_t *)v->iov_base + at, part);
		done += part;
		at = 0;
	}
	return done;
}

uint64_t pieces_put(const struct pieces *p, const void *from, uint64_t len)
{
	uint64_t done = 0;

	for (unsigned i = 0; i < p->n && done < len; i++) {
		uint64_t part = p->iov[i].iov_len < len - done ? p->iov[i].iov_len : len - done;

		memcpy(p->iov[i].iov_base, (const uint8_t *)from + done, part);
		done += part;
	}
	return done;
}

int ranges_next(struct ranges *r, struct disk_req *req, uint64_t size)
{
	uint8_t entry[RANGE_BYTES_MAX] = {0};
	uint64_t first, n;

	while (r->left) {
		pieces_get(r->list, r->at, entry, r->step);
		r->at += r->step;
		r->left--;
		r->parse(entry, &first, &n);
		if (!n)
			continue;
		if (first > size / DISK_SECTOR || n > size / DISK_SECTOR - first)
			return -EINVAL;
		*req = (struct disk_req){.op = DISK_DISCARD, .at = first * DISK_SECTOR, .len = n * DISK_SECTOR, .done = req->done};
		return 1;
	}
	return 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * Bytes of a client, cut into requests. They come as the socket has them: half of one, three at once, with no line between them.
 *
 *	struct qmp_split s = {0};
 *	switch (qmp_split(&s, bytes, n, &len)) {
 *	case QMP_REQUEST: ... the first len bytes are one, or what should be one; go on behind them
 *	case QMP_BLANK:   ... the first len bytes are nothing; go on behind them
 *	case QMP_MORE:    ... call it again with these and more
 */
#ifndef QMP_SPLIT_H
#define QMP_SPLIT_H

#include <stdbool.h>
#include <stddef.h>

/* How far the bytes have been looked at that are no whole request yet. */
struct qmp_split {
	size_t at;
	size_t depth;
	bool in_string, escaped;
};

enum qmp_piece { QMP_MORE, QMP_BLANK, QMP_REQUEST };

/* What is whole is forgotten: the next call begins with the bytes behind it. */
enum qmp_piece qmp_split(struct qmp_split *s, const char *bytes, size_t n, size_t *len);

#endif

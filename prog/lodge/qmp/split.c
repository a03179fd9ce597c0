/* SPDX-License-Identifier: MIT */
/*
 * See split.h. A request is an object, and ends with the bracket that closes its first one; only brackets are counted, and what stands
 * between them is for the JSON reader to judge. What begins with no bracket is no request, and ends with its line.
 *
 * Any control character but tab, CR and LF, and the byte 0xff, which no UTF-8 has, end whatever is there: so QMP's specification has a
 * client that does not know how far the other side has read say 0xff, be told of an error, and begin anew. A line cannot end inside of
 * a string: that is an end as well.
 */
#include "split.h"

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Ends what is there, wherever it is. */
static bool breaks(const struct qmp_split *s, unsigned char c)
{
	return c == 0xff || (c < ' ' && (s->in_string || !is_space((char)c)));
}

static void take_string(struct qmp_split *s, char c)
{
	if (s->escaped)
		s->escaped = false;
	else if (c == '\\')
		s->escaped = true;
	else if (c == '"')
		s->in_string = false;
}

/* Whether it is the last one. */
static bool take(struct qmp_split *s, char c)
{
	if (breaks(s, (unsigned char)c))
		return true;
	if (s->in_string) {
		take_string(s, c);
		return false;
	}
	if (c == '{' || c == '[')
		s->depth++;
	if (c == '}' || c == ']')
		return s->depth <= 1 || !--s->depth;
	s->in_string = c == '"';
	return c == '\n' && !s->depth;
}

enum qmp_piece qmp_split(struct qmp_split *s, const char *bytes, size_t n, size_t *len)
{
	*len = 0;
	while (!s->at && *len < n && is_space(bytes[*len]))
		(*len)++;
	if (*len)
		return QMP_BLANK;
	while (s->at < n)
		if (take(s, bytes[s->at++])) {
			*len = s->at;
			*s = (struct qmp_split){0};
			return QMP_REQUEST;
		}
	return QMP_MORE;
}

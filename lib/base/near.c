/* SPDX-License-Identifier: MIT */
/* The distance of two words, by a row of the usual table at a time. */
#include "base/near.h"

#include <string.h>

static size_t min3(size_t a, size_t b, size_t c)
{
	size_t m = a < b ? a : b;

	return m < c ? m : c;
}

size_t near_limit(const char *word)
{
	size_t len = strlen(word);

	return len > 4 ? 2 : len > 2 ? 1 : 0;
}

size_t near_distance(const char *a, const char *b)
{
	size_t la = strlen(a), lb = strlen(b), row[64];

	if (la > 60 || lb > 60)
		return 99;
	for (size_t j = 0; j <= lb; j++)
		row[j] = j;
	for (size_t i = 1; i <= la; i++) {
		size_t corner = row[0];

		row[0] = i;
		for (size_t j = 1; j <= lb; j++) {
			size_t up = row[j];

			row[j] = min3(up + 1, row[j - 1] + 1,
				      corner + (a[i - 1] != b[j - 1]));
			corner = up;
		}
	}
	return row[lb];
}

/* SPDX-License-Identifier: MIT */
/* Words in a list: see word.h. */
#include "base/word.h"

#include <string.h>

bool word_in(const char *word, const char *list, char between)
{
	size_t len = strlen(word);

	for (const char *p = list; len && (p = strstr(p, word)); p += len)
		if ((p == list || p[-1] == between) && (p[len] == between || !p[len]))
			return true;
	return false;
}

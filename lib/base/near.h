/* SPDX-License-Identifier: MIT */
/*
 * How near two words are: for "did you mean ...?".
 *
 *	if (near_distance(name, word) <= NEAR)
 *		err_set(err, EINVAL, "unknown '%s': did you mean %s?", word, name);
 */
#ifndef BASE_NEAR_H
#define BASE_NEAR_H

#include <stddef.h>

#define NEAR 2 /* letters: what is further away was not meant */

/* How many letters must be changed, added or removed to come from a to b (Levenshtein); 99 if one
 * of them is longer than a word. */
size_t near_distance(const char *a, const char *b);

#endif

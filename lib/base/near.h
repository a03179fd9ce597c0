/* SPDX-License-Identifier: MIT */
/*
 * How near two words are: for "did you mean ...?".
 *
 *	if (near_distance(name, word) <= near_limit(word))
 *		err_set(err, EINVAL, "unknown '%s': did you mean %s?", word, name);
 */
#ifndef BASE_NEAR_H
#define BASE_NEAR_H

#include <stddef.h>

/* How many letters must be changed, added or removed to come from a to b (Levenshtein); 99 if one
 * of them is longer than a word. */
size_t near_distance(const char *a, const char *b);

/* So many letters may be wrong in a word: two, but less than half of it. What is further away was
 * not meant. */
size_t near_limit(const char *word);

#endif

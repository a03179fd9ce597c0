/* SPDX-License-Identifier: MIT */
/*
 * Words in a list, as /proc and tables write them: "cpu,memory", "fpu vme de".
 *
 *	if (word_in("memory", controllers, ','))
 *		...
 */
#ifndef BASE_WORD_H
#define BASE_WORD_H

#include <stdbool.h>

/* Is it one of the words of the list, as a whole? `between` stands between them. */
bool word_in(const char *word, const char *list, char between);

#endif

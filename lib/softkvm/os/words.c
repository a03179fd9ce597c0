/* SPDX-License-Identifier: MIT */
/*
 * The words of SOFTKVM (words.h): a table, and who reads it.
 */
#include "softkvm/os/words.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/macros.h"

#define SAMPLE 32768

/* A word that ends in = takes a number. */
static const struct {
	const char *name;
	size_t at;
} words[] = {
#define WORD(name, field) {name, offsetof(struct words, field)}
	WORD("interpret", interpret), WORD("nochain", nochain),    WORD("nogroup", nogroup),
	WORD("tlb", tiny_tlb),        WORD("ends", random_ends),   WORD("profile", profile),
	WORD("dump", dump),           WORD("gsrepair", gsrepair),  WORD("nogs", nogs),
	WORD("nobmi1", nobmi1),       WORD("fxsave", fxsave),      WORD("cache=", cache_size),
	WORD("sample=", sample),      WORD("seed=", seed),
};

static uint32_t number(const char *s)
{
	char *end;
	unsigned long v = strtoul(s, &end, 0);

	if (*end == 'K')
		v <<= 10;
	else if (*end == 'M')
		v <<= 20;
	return (uint32_t)v;
}

/* The n bytes at s, if they are a word. */
static bool take_word(struct words *w, const char *s, size_t n)
{
	for (unsigned i = 0; i < ARRAY_SIZE(words); i++) {
		size_t len = strlen(words[i].name);
		void *field = (char *)w + words[i].at;

		if (n < len || strncmp(s, words[i].name, len))
			continue;
		if (words[i].name[len - 1] == '=')
			*(uint32_t *)field = number(s + len);
		else if (n == len)
			*(bool *)field = true;
		else
			continue;
		return true;
	}
	return false;
}

void words_read(struct words *w, bool complain)
{
	const char *s = getenv("SOFTKVM");
	size_t n;

	*w = (struct words){.sample = SAMPLE};
	for (; s && *s; s += n, s += *s == ',') {
		n = strcspn(s, ",");
		if (!take_word(w, s, n) && n && complain)
			fprintf(stderr, "softkvm: SOFTKVM has no word '%.*s'\n", (int)n, s);
	}
}

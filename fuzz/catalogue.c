/* SPDX-License-Identifier: MIT */
/*
 * Any bytes as lines of a catalogue of images (prog/lodge/image/catalogue.c).
 *
 * What must hold: a line is an entry, nothing, or an error with a sentence; the words of an entry lie in its line, a name is a name, and
 * what is pulled with a sum has one.
 */
#include "prog/lodge/image/catalogue.h"

#include "base/err.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool fine)
{
	if (!fine)
		abort();
}

static bool is_in(const struct catalogue_entry *e, const char *word)
{
	return word >= e->line && word + strlen(word) < e->line + sizeof(e->line) && word[0] && !strpbrk(word, " \t\r\n");
}

static void check_line(const char *line)
{
	struct catalogue_entry *e = malloc(sizeof(*e));
	struct err err = {0};
	int rc;

	must(e != NULL);
	rc = catalogue_parse(e, line, &err);
	must(rc == 1 || rc == 0 || (rc == -EINVAL && err.text[0]));
	if (rc == 1) {
		must(is_in(e, e->name) && is_in(e, e->how) && is_in(e, e->from) && (!e->more || is_in(e, e->more)));
		must(e->name[0] != '.' && !strchr(e->name, '/') && e->builds == (strcmp(e->how, "build") == 0));
		must(e->builds || !e->more || strlen(e->more) == 64);
	}
	free(e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1), *end;

	must(text != NULL);
	memcpy(text, data, size);
	text[size] = 0;
	for (char *line = text; line < text + size; line = end + 1) {
		end = line + strcspn(line, "\n");
		*end = 0;
		check_line(line);
	}
	free(text);
	return 0;
}

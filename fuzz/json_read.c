/* SPDX-License-Identifier: MIT */
/*
 * Any bytes as JSON (lib/base/json_read.c).
 *
 * What must hold: what is read and written again, and read again, is the same; so no string runs over
 * another one, and reader and writer agree about escapes.
 */
#include "base/json_read.h"

#include "base/json.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int fine)
{
	if (!fine)
		abort();
}

static char *write_line(const struct json_value *v, size_t *len)
{
	char *text = NULL;
	struct json j = {.out = open_memstream(&text, len), .one_line = true};

	must(j.out != NULL);
	json_copy(&j, NULL, v);
	must(fclose(j.out) == 0);
	return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct json_value *v;
	char *once, *twice;
	size_t len_once, len_twice;

	if (json_parse(&v, (const char *)data, size, NULL) < 0)
		return 0;
	once = write_line(v, &len_once);
	free(v);
	must(json_parse(&v, once, len_once, NULL) == 0);
	twice = write_line(v, &len_twice);
	must(len_once == len_twice && memcmp(once, twice, len_once) == 0);
	free(v);
	free(once);
	free(twice);
	return 0;
}

/* SPDX-License-Identifier: MIT */
/* See descriptor.h. What cannot be read, or is no JSON, says nothing. */
#include "descriptor.h"

#include "base/err.h"
#include "base/json_read.h"
#include "base/scoped.h"

#include <glob.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_MAX 65536u

static struct json_value *read_file(const char *path)
{
	static char text[TEXT_MAX];
	struct json_value *root = NULL;
	struct err none;
	FILE *in = fopen(path, "re");
	size_t n = in ? fread(text, 1, sizeof(text), in) : 0;

	if (in)
		fclose(in);
	return n && n < sizeof(text) && json_parse(&root, text, n, &none) == 0 ? root : NULL;
}

/* By the file that both names lead to. */
static bool is_of(const struct json_value *root, const char *real)
{
	const struct json_value *mapping = json_find(root, "mapping"), *executable = mapping ? json_find(mapping, "executable") : NULL,
				*name = executable ? json_find(executable, "filename") : NULL;
	char other[PATH_MAX];

	return name && name->type == JSON_STRING && realpath(name->text, other) && strcmp(other, real) == 0;
}

static bool has(const struct json_value *root, const char *feature)
{
	const struct json_value *list = json_find(root, "features");

	for (const struct json_value *f = list ? list->first : NULL; f; f = f->next)
		if (f->type == JSON_STRING && strcmp(f->text, feature) == 0)
			return true;
	return false;
}

bool descriptor_says(const char *image, const char *feature)
{
	char real[PATH_MAX];
	bool says = false;
	glob_t files;

	if (!realpath(image, real) || glob("/usr/share/qemu/firmware/*.json", 0, NULL, &files) != 0)
		return false;
	for (size_t i = 0; i < files.gl_pathc && !says; i++) {
		scoped_mem struct json_value *root = read_file(files.gl_pathv[i]);

		says = root && is_of(root, real) && has(root, feature);
	}
	globfree(&files);
	return says;
}

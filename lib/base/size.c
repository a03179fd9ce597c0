/* SPDX-License-Identifier: MIT */
/*
 * Sizes as people write them. A size is digits and a unit, with nothing around or between:
 * no sign, no fraction ("1.5G" is 1536M), no space.
 */
#include "base/size.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "base/err.h"
#include "base/macros.h"

static const struct {
	const char *name;
	unsigned shift;
} units[] = {
	{"B", 0},
	{"K", 10}, {"KB", 10}, {"KiB", 10},
	{"M", 20}, {"MB", 20}, {"MiB", 20},
	{"G", 30}, {"GB", 30}, {"GiB", 30},
	{"T", 40}, {"TB", 40}, {"TiB", 40},
};

static int find_shift(const char *unit)
{
	for (size_t i = 0; i < ARRAY_SIZE(units); i++)
		if (!strcasecmp(unit, units[i].name))
			return units[i].shift;
	return -1;
}

int size_parse(uint64_t *bytes, const char *text, struct err *err)
{
	unsigned long long n;
	char *unit;
	int shift;

	if (!isdigit((unsigned char)text[0]))
		return err_set(err, EINVAL, "'%s' is not a size such as 512M or 1G", text);
	errno = 0;
	n = strtoull(text, &unit, 10);
	if (!*unit && !errno)
		return err_set(err, EINVAL, "'%s' has no unit: write %sM, %sG or %sB", text, text,
			       text, text);
	shift = find_shift(unit);
	if (shift < 0)
		return err_set(err, EINVAL, "'%s': '%s' is no unit of size: use B, K, M, G or T",
			       text, unit);
	if (errno || n > UINT64_MAX >> shift)
		return err_set(err, EINVAL, "'%s' is more than 64 bits can count", text);
	*bytes = (uint64_t)n << shift;
	return 0;
}

const char *size_text(char text[SIZE_TEXT], uint64_t bytes)
{
	static const char *const names[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
	unsigned i = 0;

	for (; bytes && bytes % 1024 == 0 && i + 1 < ARRAY_SIZE(names); i++)
		bytes /= 1024;
	snprintf(text, SIZE_TEXT, "%llu %s", (unsigned long long)bytes,
		 bytes == 1 && i == 0 ? "byte" : names[i]);
	return text;
}

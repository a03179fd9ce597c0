/* SPDX-License-Identifier: MIT */
/*
 * Sizes as qemu-img has them: a bare number is bytes, which scripts rely on (lodge's own want a unit: base/size.h), and 1.5G
 * is said.
 */
#include "prog/lodge-img/img.h"

#include "base/err.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char units[] = "BKMGTPE";

/* A fraction of at most nine digits, times 2^shift; digits behind them are too small to matter. */
static uint64_t fraction(const char *digits, size_t len, unsigned shift)
{
	uint64_t n = 0, of = 1;

	for (size_t i = 0; i < len && i < 9; i++) {
		n = n * 10 + (uint64_t)(digits[i] - '0');
		of *= 10;
	}
	return (uint64_t)((__extension__(unsigned __int128)n << shift) / of);
}

int img_number(uint64_t *n, const char *text, const char *what, struct err *err)
{
	bool is_hex = text[0] == '0' && (text[1] | 32) == 'x';
	const char *end, *point = NULL, *unit;
	char *stop;
	unsigned shift;

	if (!isdigit((unsigned char)text[0]))
		return err_set(err, EINVAL, "%s is a size such as 512M or 1G, not '%s'", what, text);
	errno = 0;
	*n = strtoull(text, &stop, is_hex ? 16 : 10);
	end = stop;
	if (*end == '.' && !is_hex) {
		point = ++end;
		end += strspn(end, "0123456789");
	}
	unit = *end ? strchr(units, toupper((unsigned char)*end)) : units;
	if (!unit || (*end && end[1]) || (is_hex && *end))
		return err_set(err, EINVAL, "%s is a size such as 512M or 1G, not '%s': '%s' is no unit", what, text, end);
	shift = (unsigned)(unit - units) * 10;
	if (errno || *n > (uint64_t)INT64_MAX >> shift)
		return err_set(err, EINVAL, "%s, '%s', is more than a file can have", what, text);
	*n <<= shift;
	if (point)
		*n += fraction(point, (size_t)(end - point), shift);
	return 0;
}

const char *img_size_text(char text[32], uint64_t bytes)
{
	static const char *const names[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	double n = (double)bytes;
	unsigned i = 0;

	for (; n >= 1000 && i < 6; i++) /* as qemu-img, which has three digits */
		n /= 1024;
	snprintf(text, 32, "%.3g %s", n, names[i]);
	return text;
}

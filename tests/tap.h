/* SPDX-License-Identifier: MIT */
/*
 * A test framework in one header: TAP (the Test Anything Protocol) on stdout.
 *
 *	int main(void)
 *	{
 *		ok(disk_size(d) > 0, "a disk has a size");
 *		is_int(disk_size(d), 4096, "size of %s", path);
 *		is_str(err.text, "no such file", "the reason");
 *		if (access("/dev/kvm", R_OK) < 0)
 *			skip("/dev/kvm may not be read here");
 *		return done_testing();
 *	}
 *
 * A failed check prints what was got and wanted, with file and line, and the test goes on.
 * Include it once, from the file that has main(). Not for several threads at once.
 */
#ifndef TESTS_TAP_H
#define TESTS_TAP_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int tap_run, tap_failed;

/* Each returns whether the check passed, so that a test can stop where going on is no use. */
#define ok(cond, ...)         tap_ok(!!(cond), #cond, __FILE__, __LINE__, __VA_ARGS__)
#define is_int(got, want, ...)                                                             \
	tap_int((long long)(got), (long long)(want), __FILE__, __LINE__, __VA_ARGS__)
#define is_str(got, want, ...) tap_str(got, want, __FILE__, __LINE__, __VA_ARGS__)

#define TAP_PRINTF(f, a) __attribute__((format(printf, f, a), unused))

static void tap_line(bool pass, const char *fmt, va_list ap)
{
	char name[256];

	vsnprintf(name, sizeof(name), fmt, ap);
	for (char *p = name; *p; p++)
		if (*p == '#' || *p == '\n')
			*p = ' '; /* they mean something in TAP */
	tap_run++;
	tap_failed += !pass;
	printf("%sok %d - %s\n", pass ? "" : "not ", tap_run, name);
	fflush(stdout);
}

TAP_PRINTF(5, 6)
static bool tap_ok(bool pass, const char *cond, const char *file, int line, const char *fmt,
		   ...)
{
	va_list ap;

	va_start(ap, fmt);
	tap_line(pass, fmt, ap);
	va_end(ap);
	if (!pass)
		printf("# %s:%d: not true: %s\n", file, line, cond);
	return pass;
}

TAP_PRINTF(5, 6)
static bool tap_int(long long got, long long want, const char *file, int line,
		    const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	tap_line(got == want, fmt, ap);
	va_end(ap);
	if (got != want)
		printf("# %s:%d: got %lld (0x%llx), want %lld (0x%llx)\n", file, line, got,
		       (unsigned long long)got, want, (unsigned long long)want);
	return got == want;
}

TAP_PRINTF(5, 6)
static bool tap_str(const char *got, const char *want, const char *file, int line,
		    const char *fmt, ...)
{
	bool pass = got && want ? !strcmp(got, want) : got == want;
	va_list ap;

	va_start(ap, fmt);
	tap_line(pass, fmt, ap);
	va_end(ap);
	if (!pass)
		printf("# %s:%d: got '%s', want '%s'\n", file, line, got ? got : "(null)",
		       want ? want : "(null)");
	return pass;
}

/* Counts one check as skipped, with the reason. */
TAP_PRINTF(1, 2)
static void skip(const char *fmt, ...)
{
	va_list ap;

	printf("ok %d # SKIP ", ++tap_run);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
}

/* Prints a remark, which no one counts. */
TAP_PRINTF(1, 2)
static void note(const char *fmt, ...)
{
	va_list ap;

	fputs("# ", stdout);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
}

/* Prints the plan; main() returns what this returns. */
static int done_testing(void)
{
	printf("1..%d\n", tap_run);
	return tap_failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

#endif

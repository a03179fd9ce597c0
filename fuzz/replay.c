/* SPDX-License-Identifier: MIT */
/*
 * A fuzz target as a test: runs the inputs that are kept in fuzz/seeds, then random ones for a
 * moment. What `make fuzz` finds is kept there, as hexadecimal text, and so stays found, in every
 * build.
 *
 *	fuzz_NAME [FILE or DIRECTORY]...
 *
 * A target has no result but its life: it aborts, a sanitizer speaks, or time runs out. The
 * random inputs are the same in each run; a target's input is at most INPUT_MAX bytes here.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>

#define INPUT_MAX 8192
#define MOMENT_MS 1000
#define INPUTS    20000 /* or as many as there is time for */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned n_files, n_bad;

/* In memory of its own size, so that a sanitizer sees a byte too far. */
static void run(const uint8_t *bytes, size_t n)
{
	uint8_t *copy = malloc(n ? n : 1);

	if (!copy)
		abort();
	for (size_t i = 0; i < n; i++)
		copy[i] = bytes[i];
	LLVMFuzzerTestOneInput(copy, n);
	free(copy);
}

static void run_path(const char *path);

static void run_directory(const char *path)
{
	DIR *d = opendir(path);
	const struct dirent *e;
	char name[1024];

	while (d && (e = readdir(d)))
		if (e->d_name[0] != '.') {
			snprintf(name, sizeof(name), "%s/%s", path, e->d_name);
			run_path(name);
		}
	if (d)
		closedir(d);
}

static void run_path(const char *path)
{
	static uint8_t bytes[INPUT_MAX];
	struct stat st;
	size_t n = 0;
	FILE *f;

	if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
		run_directory(path);
		return;
	}
	f = fopen(path, "re");
	if (!f)
		return;
	while (n < sizeof(bytes) && fscanf(f, "%2hhx", &bytes[n]) == 1)
		n++;
	if (n < sizeof(bytes) && !feof(f)) {
		printf("# %s: not hexadecimal after %zu bytes\n", path, n);
		n_bad++;
	}
	run(bytes, n);
	fclose(f);
	n_files++;
}

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static uint64_t next(void)
{
	static uint64_t state = 1;

	state = state * 6364136223846793005u + 1442695040888963407u;
	return state >> 33;
}

/* Short ones mostly; half of the bytes are small numbers, which get further. */
static size_t make_input(uint8_t *bytes)
{
	size_t n = next() % (next() % 4 ? 64 : 1024);

	for (size_t i = 0; i < n; i++)
		bytes[i] = (uint8_t)(next() & 1 ? next() : next() % 8);
	return n;
}

int main(int argc, char **argv)
{
	uint64_t end;
	unsigned n;

	for (int i = 1; i < argc; i++)
		run_path(argv[i]);
	printf("%s 1 - %u inputs that are kept\n", n_files && !n_bad ? "ok" : "not ok",
	       n_files);
	fflush(stdout);
	end = now_ms() + MOMENT_MS;
	for (n = 0; n < INPUTS && now_ms() < end; n++) {
		uint8_t bytes[1024];

		run(bytes, make_input(bytes));
	}
	printf("ok 2 - %u random inputs\n1..2\n", n);
	return n_files && !n_bad ? 0 : 1;
}

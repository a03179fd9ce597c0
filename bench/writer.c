/* SPDX-License-Identifier: MIT */
/*
 * A guest that writes: writer MIB_PER_SECOND MIB. It goes round and round over so much memory, a word in each
 * cache line, and rests so that it writes that many bytes a second; "slow" on stdout each second in which it could not.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#define PIECE (64u << 10)

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	double rate = argc > 1 ? atof(argv[1]) * (1 << 20) : 0, begin, written = 0, told = 0;
	size_t size = argc > 2 ? (size_t)atoi(argv[2]) << 20 : 0;
	uint8_t *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (rate <= 0 || at == MAP_FAILED)
		return 2;
	begin = now();
	for (uint64_t n = 1;; n++) {
		for (size_t piece = 0; piece < size; piece += PIECE) {
			for (size_t i = 0; i < PIECE; i += 64)
				*(volatile uint64_t *)(at + piece + i) = n + i;
			written += PIECE;
			if (now() - begin < written / rate)
				nanosleep(&(struct timespec){.tv_nsec = (long)((written / rate - (now() - begin)) * 1e9) % 1000000000}, NULL);
			else if (now() - begin - written / rate > 1 && now() - told > 1) {
				told = now();
				begin = told - written / rate;
				puts("slow");
				fflush(stdout);
			}
		}
	}
}

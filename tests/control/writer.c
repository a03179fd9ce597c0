/* SPDX-License-Identifier: MIT */
/*
 * A guest that writes to a disk and looks whether it is there: writer DISK
 *
 * Two threads, each with BLOCKS blocks of its own, write their number N to block N % BLOCKS, past the page cache, again and
 * again. Before that they read what the block has: it must be N - BLOCKS, as written the last time. Each fourth time
 * they flush, and print "ack THREAD N": all up to N is on the disk. What is not there is "wrong THREAD N GOT".
 *
 * tests/control/migrate has the same numbers, and knows from the last ack what must be in the image.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BLOCK  4096u
#define BLOCKS 64u

static const char *path;

/* A block of a thread and a number, in each of its words. */
static void fill(uint64_t *block, uint64_t value)
{
	for (unsigned i = 0; i < BLOCK / 8; i++)
		block[i] = value;
}

static void *writer(void *thread)
{
	unsigned long me = (unsigned long)thread;
	uint64_t *block = aligned_alloc(BLOCK, BLOCK), *want = aligned_alloc(BLOCK, BLOCK);
	int fd = open(path, O_RDWR | O_DIRECT);

	for (uint64_t n = 1;; n++) {
		off_t at = (off_t)(me * BLOCKS + n % BLOCKS) * BLOCK;

		fill(want, n < BLOCKS ? 0 : n - BLOCKS);
		memset(block, 0xee, BLOCK);
		if (pread(fd, block, BLOCK, at) != BLOCK || memcmp(block, want, BLOCK) != 0)
			printf("wrong %lu %lu %lu\n", me, (unsigned long)n, (unsigned long)block[0]);
		fill(block, n);
		if (pwrite(fd, block, BLOCK, at) != BLOCK)
			printf("wrong %lu %lu write\n", me, (unsigned long)n);
		if (n % 4 == 0 && fdatasync(fd) == 0)
			printf("ack %lu %lu\n", me, (unsigned long)n);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t t;

	if (argc != 2)
		return 2;
	path = argv[1];
	setvbuf(stdout, NULL, _IOLBF, 0);
	pthread_create(&t, NULL, writer, (void *)1ul);
	writer((void *)0ul);
	return 0;
}

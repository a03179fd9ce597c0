/* SPDX-License-Identifier: MIT */
/*
 * What a guest does while it is saved and restored: work ROUNDS [DISK]
 *
 *	two threads     a hash chain each; after each round each goes on from the other's value. In the
 *	                chain: integers, vectors, REP MOVS and STOS over many pages, pages that are new
 *	two more        read the clocks in turns: neither may go back. One says the date now and then
 *	another one     writes blocks to DISK past the page cache, and reads them back
 *	the first       prints a line a round
 *
 * The last lines are "value HEX", which is the same on every machine and whatever the size of a pointer,
 * "clocks N back", "disk N wrong". So the host says what is right by running this itself.
 */
#include <emmintrin.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define LEN    (96u << 10) /* of what REP copies */
#define BLOCK  4096u
#define BLOCKS 256u /* of the disk that are written */

static unsigned rounds;
static volatile bool over;
static pthread_barrier_t both;
static uint64_t value[2] = {1, 2};

static uint64_t mix(uint64_t h, uint64_t v)
{
	h = (h ^ v) * 0x9e3779b97f4a7c15u;
	return h ^ h >> 29;
}

/* -- The chain --------------------------------------------------------------------- */

static void copy(uint8_t *to, const uint8_t *from, size_t n)
{
	__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n)::"memory");
}

static void fill(uint8_t *to, uint32_t word, size_t n)
{
	n /= 4;
	__asm__ volatile("rep stosl" : "+D"(to), "+c"(n) : "a"(word) : "memory");
}

static uint64_t sum(uint64_t h, const uint8_t *bytes, size_t n)
{
	__m128i acc = _mm_set_epi64x((int64_t)h, (int64_t)~h);
	uint64_t lanes[2];

	for (size_t i = 0; i < n; i += 16) {
		acc = _mm_add_epi64(acc, _mm_loadu_si128((const __m128i *)(const void *)(bytes + i)));
		acc = _mm_xor_si128(acc, _mm_slli_epi64(acc, 7));
	}
	memcpy(lanes, &acc, sizeof(lanes));
	return mix(lanes[0], lanes[1]);
}

/* Memory that nobody has touched, so that each of its pages is a fault. */
static uint8_t *fresh(size_t n)
{
	uint8_t *at = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (at == MAP_FAILED)
		abort();
	return at;
}

static uint64_t step(uint64_t h)
{
	uint8_t *a = fresh(LEN), *b = fresh(LEN);

	fill(a, (uint32_t)h, LEN);
	for (size_t i = 0; i < LEN; i += 509)
		a[i] = (uint8_t)(h = mix(h, i));
	copy(b, a, LEN);
	copy(a + 1, b, LEN - 1);
	h = sum(h, a, LEN);
	munmap(a, LEN);
	munmap(b, LEN);
	for (unsigned i = 0; i < 20000; i++)
		h = mix(h, i);
	return h;
}

static void *chain(void *arg)
{
	unsigned me = (unsigned)(uintptr_t)arg;

	for (unsigned r = 0; r < rounds; r++) {
		uint64_t h = mix(value[!me], r + me);

		pthread_barrier_wait(&both); /* both have read */
		value[me] = step(h);
		pthread_barrier_wait(&both); /* both have written */
		if (me == 0)
			printf("line %u %016llx\n", r, (unsigned long long)value[0]);
	}
	return NULL;
}

/* -- Clocks ------------------------------------------------------------------------ */

static uint64_t clock_ns(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static struct {
	pthread_mutex_t lock; /* of all below: what is read later is not less, on whatever CPU */
	uint64_t last[2];
	unsigned back;
} seen = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void look(void)
{
	pthread_mutex_lock(&seen.lock);
	for (unsigned i = 0; i < 2; i++) {
		uint64_t now = clock_ns(i ? CLOCK_REALTIME : CLOCK_MONOTONIC);

		seen.back += now < seen.last[i];
		seen.last[i] = now;
	}
	pthread_mutex_unlock(&seen.lock);
}

static void *clocks(void *says)
{
	uint64_t said = 0;

	while (!over) {
		for (unsigned i = 0; i < 50; i++)
			look();
		if (says && clock_ns(CLOCK_MONOTONIC) - said > 100000000) {
			said = clock_ns(CLOCK_MONOTONIC);
			printf("date %llu\n", (unsigned long long)clock_ns(CLOCK_REALTIME));
		}
		usleep(200);
	}
	return NULL;
}

/* -- The disk ---------------------------------------------------------------------- */

/* The same block always has the same bytes, whenever it was written last. */
static void make_block(uint64_t *block, unsigned n)
{
	for (unsigned i = 0; i < BLOCK / 8; i++)
		block[i] = mix(n, i);
}

static void *disk(void *path)
{
	uint64_t *block = (void *)fresh(BLOCK), *got = (void *)fresh(BLOCK);
	int fd = open(path, O_RDWR | O_DIRECT);
	uintptr_t wrong = fd < 0;

	for (unsigned n = 0; !over || n < BLOCKS; n++) {
		off_t at = (off_t)(n * 7 % BLOCKS) * BLOCK;

		make_block(block, (unsigned)at);
		if (pwrite(fd, block, BLOCK, at) != BLOCK || pread(fd, got, BLOCK, at) != BLOCK ||
		    memcmp(block, got, BLOCK) != 0)
			wrong++;
	}
	fsync(fd);
	return (void *)wrong;
}

int main(int argc, char **argv)
{
	pthread_t chains[2], clock_threads[2], disk_thread;
	void *wrong = NULL;

	rounds = argc > 1 ? (unsigned)atoi(argv[1]) : 100;
	setvbuf(stdout, NULL, _IOLBF, 0);
	pthread_barrier_init(&both, NULL, 2);
	for (uintptr_t i = 0; i < 2; i++)
		pthread_create(&clock_threads[i], NULL, clocks, (void *)i);
	if (argc > 2)
		pthread_create(&disk_thread, NULL, disk, argv[2]);
	for (uintptr_t i = 0; i < 2; i++)
		pthread_create(&chains[i], NULL, chain, (void *)i);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(chains[i], NULL);
	over = true;
	for (unsigned i = 0; i < 2; i++)
		pthread_join(clock_threads[i], NULL);
	if (argc > 2)
		pthread_join(disk_thread, &wrong);
	printf("value %016llx\nclocks %u back\ndisk %u wrong\n",
	       (unsigned long long)mix(value[0], value[1]), seen.back, (unsigned)(uintptr_t)wrong);
	return 0;
}

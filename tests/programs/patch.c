/* SPDX-License-Identifier: MIT */
/*
 * Code that one CPU patches and another runs, in turns, as run-time compilers do: a function in
 * each of many pages returns a number, which changes between the runs. The patching CPU sleeps
 * while the other runs them for the first time, and that one sleeps while code is patched: a word of
 * it, a word beside it, or every word of its page. Prints how often an old number came back.
 *
 *	patch [time]      with how long a page of the last kind took
 */
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define PAGES 200
#define ROUNDS 100
#define IMMEDIATE 2 /* of mov $number, %eax, from the function's start */

static uint8_t *code;
static sem_t patched, ran;
static volatile uint32_t base;
static volatile int over;
static unsigned stale;

static void stay_on(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	pthread_setaffinity_np(pthread_self(), sizeof(set), &set); /* one CPU will do, too */
}

/* The number is at a multiple of 4, so that a store changes it at once. */
static uint8_t *function(unsigned i)
{
	return code + i * 4096 + 62;
}

static void *runner(void *unused)
{
	stay_on(1);
	for (;;) {
		sem_wait(&patched);
		if (over)
			return unused;
		for (unsigned i = 0; i < PAGES; i++) {
			uint32_t (*f)(void) = (uint32_t (*)(void))(void *)function(i);

			stale += f() != base + i;
		}
		sem_post(&ran);
	}
}

static double now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

/* Every word of every page, as when the page becomes another's. */
static double write_pages(unsigned round)
{
	double began = now_us();

	base = round * 1000;
	for (unsigned i = 0; i < PAGES; i++) {
		volatile uint64_t *to = (volatile uint64_t *)(void *)(code + i * 4096);
		uint64_t page[512];
		uint32_t number = base + i;

		memset(page, 0x90, sizeof(page));
		memcpy((uint8_t *)page + 62, "\x90\xb8\0\0\0\0\xc3", 7);
		memcpy((uint8_t *)page + 62 + IMMEDIATE, &number, 4);
		for (unsigned k = 0; k < 512; k++)
			to[k] = page[k];
	}
	return now_us() - began;
}

static void patch(unsigned round)
{
	base = round * 1000;
	for (unsigned i = 0; i < PAGES; i++)
		*(volatile uint32_t *)(void *)(function(i) + IMMEDIATE) = base + i;
	for (unsigned i = 0; i < PAGES && round % 3 == 0; i++)
		*(volatile uint64_t *)(void *)(function(i) + 962) = round;
}

int main(int argc, char **argv)
{
	double us = 0;
	pthread_t t;

	stay_on(0);
	code = mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (code == MAP_FAILED)
		return 1;
	for (unsigned i = 0; i < PAGES; i++)
		memcpy(function(i), "\x90\xb8\0\0\0\0\xc3", 7); /* nop; mov; ret */
	sem_init(&patched, 0, 0);
	sem_init(&ran, 0, 0);
	pthread_create(&t, NULL, runner, NULL);
	for (unsigned round = 0; round < ROUNDS; round++) {
		if (round % 4 == 3)
			us += write_pages(round);
		else
			patch(round);
		sem_post(&patched);
		sem_wait(&ran);
	}
	over = 1;
	sem_post(&patched);
	pthread_join(t, NULL);
	if (argc > 1 && !strcmp(argv[1], "time"))
		printf("a page: %.2f us\n", us / (ROUNDS / 4 * PAGES));
	printf("stale code ran %u times\n", stale);
	return stale != 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * Code that one CPU patches and another runs, in turns, as run-time compilers do: a function in
 * each of many pages returns a number, which changes between the runs. The patching CPU sleeps
 * while the other runs them for the first time. Prints how often an old number came back.
 */
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

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

static void patch(unsigned round)
{
	base = round * 1000;
	for (unsigned i = 0; i < PAGES; i++)
		*(volatile uint32_t *)(void *)(function(i) + IMMEDIATE) = base + i;
	for (unsigned i = 0; i < PAGES && round % 3 == 0; i++)
		*(volatile uint64_t *)(void *)(function(i) + 962) = round;
}

int main(void)
{
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
		patch(round);
		sem_post(&patched);
		sem_wait(&ran);
	}
	over = 1;
	sem_post(&patched);
	pthread_join(t, NULL);
	printf("stale code ran %u times\n", stale);
	return stale != 0;
}

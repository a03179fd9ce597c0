/* SPDX-License-Identifier: MIT */
/* A disk that is busy for as long as a test wants: all threads of its pool wait, so that no request of a guest's ends. */
#ifndef DEV_TESTS_HELD_H
#define DEV_TESTS_HELD_H

#include "block/disk.h"

#include <semaphore.h>

#define HOLDS 4u /* as many as a disk has threads */

static struct disk_req holds[HOLDS];
static sem_t held, let_go;

static void hold(struct disk_req *req)
{
	(void)req;
	sem_post(&held);
	while (sem_wait(&let_go))
		;
}

static void hold_disk(struct disk *disk)
{
	sem_init(&held, 0, 0);
	sem_init(&let_go, 0, 0);
	for (unsigned i = 0; i < HOLDS; i++) {
		holds[i] = (struct disk_req){.op = DISK_FLUSH, .done = hold};
		disk_submit(disk, &holds[i]);
	}
	for (unsigned i = 0; i < HOLDS; i++)
		while (sem_wait(&held))
			;
}

/* Back when all that was asked of it has ended. */
static void let_disk_go(struct disk *disk)
{
	for (unsigned i = 0; i < HOLDS; i++)
		sem_post(&let_go);
	disk_drain(disk);
	sem_destroy(&held);
	sem_destroy(&let_go);
}

#endif

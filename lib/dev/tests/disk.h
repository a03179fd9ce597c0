/* SPDX-License-Identifier: MIT */
/* A disk for tests of controllers: a file without a name, whose blocks of 512 bytes begin with their numbers. */
#ifndef DEV_TESTS_DISK_H
#define DEV_TESTS_DISK_H

#include "block/disk.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* `number` writes one, as le32_put() or be32_put(); the rest of a block is `fill`. */
static struct disk *numbered_disk(unsigned blocks, uint8_t fill, bool readonly, void (*number)(void *at, uint32_t v))
{
	char path[] = "/tmp/lodge-disk-XXXXXX";
	int fd = mkstemp(path);
	struct disk *disk = NULL;
	uint8_t block[512];

	for (unsigned i = 0; i < blocks; i++) {
		memset(block, fill, sizeof(block));
		number(block, i);
		if (pwrite(fd, block, sizeof(block), i * 512) != sizeof(block))
			abort();
	}
	if (disk_open(&disk, &(struct disk_config){.path = path, .readonly = readonly, .format = DISK_RAW}, NULL) < 0)
		abort();
	unlink(path);
	close(fd);
	return disk;
}

#endif

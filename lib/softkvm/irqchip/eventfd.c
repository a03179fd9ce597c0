/* SPDX-License-Identifier: MIT */
/*
 * Which eventfd is behind a descriptor: /proc/self/fdinfo says it ("eventfd-id:", Linux
 * 5.2). Where it does not, a descriptor stands for itself.
 */
#include "softkvm/irqchip/eventfd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static ssize_t read_fdinfo(int target, char *text, size_t max)
{
	char path[64];
	ssize_t len;
	int fd;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", target);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	len = read(fd, text, max - 1);
	close(fd);
	if (len >= 0)
		text[len] = '\0';
	return len;
}

int eventfd_identify(int fd, uint64_t *identity)
{
	char text[512];
	const char *id;

	if (fcntl(fd, F_GETFD) < 0)
		return -EBADF;
	*identity = (uint64_t)fd;
	if (read_fdinfo(fd, text, sizeof(text)) <= 0)
		return 0;
	if (!strstr(text, "eventfd-count:"))
		return -EINVAL;
	id = strstr(text, "eventfd-id:");
	if (id)
		*identity = 1ull << 32 | strtoul(id + strlen("eventfd-id:"), NULL, 10);
	return 0;
}

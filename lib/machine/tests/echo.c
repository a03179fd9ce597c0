/* SPDX-License-Identifier: MIT */
/* See echo.h. */
#include "machine/tests/echo.h"

#include "machine/machine.h"
#include "machine/tests/elf_file.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

extern const uint8_t board_guest[], board_guest_end[];

size_t echo_put(void *echo, const uint8_t *bytes, size_t n)
{
	struct echo *e = echo;
	size_t at = atomic_load(&e->n);

	for (size_t i = 0; i < n && at < sizeof(e->said) - 1; i++)
		e->said[at++] = (char)bytes[i];
	atomic_store(&e->n, at);
	return n;
}

bool echo_kernel(const char *path)
{
	size_t len = (size_t)(board_guest_end - board_guest);
	struct elf_file f = elf_file_good(len);
	static uint8_t bytes[ELF_FILE_MAX];
	size_t n = elf_file_bytes(&f, board_guest, len, bytes);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	bool done = fd >= 0 && write(fd, bytes, n) == (ssize_t)n;

	if (fd >= 0)
		close(fd);
	return done;
}

void echo_wait(const struct echo *e, size_t n)
{
	while (atomic_load(&e->n) < n)
		usleep(1000);
}

void echo_say(struct machine *m, const char *text)
{
	while (*text)
		text += machine_console_input(m, (const uint8_t *)text, strlen(text));
}

bool echo_back(struct echo *e, struct machine *m, const char *text)
{
	size_t before = atomic_load(&e->n);

	echo_say(m, text);
	echo_wait(e, before + strlen(text));
	return strcmp(e->said + before, text) == 0;
}

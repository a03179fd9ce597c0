/* SPDX-License-Identifier: MIT */
/*
 * Any file as a saved machine (lib/machine/saved/read.c). The first byte tells what the input is:
 *
 *	even    all of the file
 *	odd     description and sections, the first as long as the next two bytes say; header and checksums are
 *	        made, as somebody would who wants to get in, with two pages of memory and a hole between them
 *
 * Nothing may crash; what is opened can be asked everything.
 */
#include "base/json.h"
#include "base/macros.h"
#include "machine/machine.h"
#include "machine/saved.h"
#include "machine/saved/form.h"
#include "state/state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MEMORY (4 * MiB)

static void put(int fd, const void *bytes, size_t len, uint64_t at)
{
	if (pwrite(fd, bytes, len, (off_t)at) != (ssize_t)len)
		abort();
}

static void make_file(int fd, const uint8_t *data, size_t size)
{
	uint8_t header[SAVED_HEADER] = SAVED_MAGIC;
	size_t description = le16_get(data) % (size - 1), sections = size - 2 - description;
	size_t len = size - 2 + saved_chunks(MEMORY) * 8;
	uint64_t at = align_up(SAVED_HEADER + len, SAVED_CHUNK);
	uint8_t *body = calloc(1, len);

	memcpy(body, data + 2, size - 2);
	le32_put(header + AT_VERSION, SAVED_VERSION);
	le32_put(header + AT_DESCRIPTION, (uint32_t)description);
	le64_put(header + AT_SECTIONS, sections);
	le64_put(header + AT_MEMORY, at);
	le64_put(header + AT_MEMORY_LEN, MEMORY);
	le64_put(header + AT_BODY_SUM, saved_sum(body, len));
	le64_put(header + AT_HEADER_SUM, saved_sum(header, AT_HEADER_SUM));
	put(fd, header, sizeof(header), 0);
	put(fd, body, len, SAVED_HEADER);
	put(fd, header, sizeof(header), at);
	put(fd, header, sizeof(header), at + MEMORY - sizeof(header));
	free(body);
}

static void ask(const struct saved *s)
{
	static FILE *nowhere;
	struct json j = {.out = nowhere ? nowhere : (nowhere = fopen("/dev/null", "we"))};
	struct machine_config config = {0};
	struct state_in in = saved_sections(s);
	struct state_section section;
	size_t at = 0;

	if (saved_config(s, &config, NULL) == 0)
		machine_check(&config, NULL);
	for (unsigned i = 0; i < saved_disks(s); i++)
		fprintf(nowhere, "%s %d\n", saved_disk(s, i)->path, saved_disk(s, i)->readonly);
	json_copy(&j, NULL, saved_description(s));
	saved_check(s, NULL);
	saved_stored(s);
	while (state_next(&in, &at, &section, NULL) > 0)
		state_print(&section, nowhere, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int fd = memfd_create("saved", MFD_CLOEXEC);
	struct saved *s;

	if (fd < 0)
		abort();
	if (size > 4 && data[0] & 1)
		make_file(fd, data + 1, size - 1);
	else if (size > 1)
		put(fd, data + 1, size - 1, 0);
	if (saved_open_fd(&s, fd, "saved", NULL) == 0) {
		ask(s);
		saved_close(s);
	}
	return 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * A saved machine: a file from which machine_create() makes one that goes on.
 *
 *	struct machine_config config = {.face = face, .console = ...};
 *	struct saved *s;
 *
 *	rc = saved_open(&s, "vm.lodge", &err);
 *	rc = saved_config(s, &config, &err);            // cpus, memory, kernel ...
 *	... open its disks, saved_check_disk() ...
 *	rc = machine_create(&m, &config, &err);
 *	saved_close(s);                                 // after the machine
 *
 * The file, all numbers little-endian:
 *
 *	   0  "LODGE VM"
 *	   8  version of the form (4): 1
 *	  12  length of the description (4)
 *	  16  length of the sections (8)
 *	  24  where memory begins (8), a multiple of 2 MiB
 *	  32  length of memory (8)
 *	  40  checksum of description, sections and checksums of memory (8)
 *	  48  0 (8)
 *	  56  checksum of the 56 bytes before (8)
 *	  64  description: JSON
 *	      sections: see state/state.h
 *	      checksums of memory: 8 bytes for each 2 MiB, 0 where they are all zeros
 *	      memory, as the guest has it; pages of zeros are holes of the file
 *
 * Memory lies in the file as it lies in the guest, so that it can be mapped: a machine goes on before it
 * is read. That is why it is not compressed, and why its checksums are looked at only when somebody asks
 * (saved_check()); all else is checked whenever a file is opened. Checksums are XXH64: they find what a
 * disk or a copy has done, not what a person did on purpose. Whoever may write the file may be in
 * the guest, and no further: nothing in it is believed.
 */
#ifndef MACHINE_SAVED_H
#define MACHINE_SAVED_H

#include <stdbool.h>
#include <stdint.h>

#include "block/disk.h"
#include "machine/machine.h"

struct err;
struct json_value;
struct saved;
struct state_in;

/* Opens and checks. -ENOENT, -EINVAL for what is none, is cut, or has changed since it was written. */
int saved_open(struct saved **s, const char *path, struct err *err);
void saved_close(struct saved *s); /* NULL is fine */

/* The same of an open file, which is taken over; `path` is for sentences. The strings outlive it. */
int saved_open_fd(struct saved **s, int fd, const char *path, struct err *err);

/* Whether a file says of itself that it is one: its first bytes. */
bool saved_is(const char *path);

/* Fills in what the machine was: cpus, memory, kernel, initrd, cmdline, virtio_console, the port's name, the
 * network card (without what its cable leads to), saved.
 * Strings are the file's, and live as long as it is open. */
int saved_config(const struct saved *s, struct machine_config *config, struct err *err);

/* Its disks, in order; strings as above. */
struct saved_disk {
	const char *path;
	enum disk_format format;
	bool readonly;
	enum machine_bus bus;
	struct machine_spot spot;
	uint64_t size;    /* in bytes */
	uint64_t written; /* when it was last, ns since 1970 */
};

/* How many it has, and one of them; NULL if there is no such. */
unsigned saved_disks(const struct saved *s);
const struct saved_disk *saved_disk(const struct saved *s, unsigned i);

/* The same of CD drives; path is NULL of one that is empty. */
unsigned saved_cds(const struct saved *s);
const struct saved_disk *saved_cd(const struct saved *s, unsigned i);

/* Whether an open disk is the one that the guest remembers: -EINVAL if its size is another, or it has been
 * written since. */
int saved_check_disk(const struct saved *s, unsigned i, const struct disk *disk, struct err *err);
int saved_check_cd(const struct saved *s, unsigned i, const struct disk *disk, struct err *err);

/* The whole description, and the sections. */
const struct json_value *saved_description(const struct saved *s);
struct state_in saved_sections(const struct saved *s);

/* Reads all of memory and compares it with its checksums: -EINVAL names the first place that differs. */
int saved_check(const struct saved *s, struct err *err);

/* How many bytes of memory are not holes. */
uint64_t saved_stored(const struct saved *s);

#endif

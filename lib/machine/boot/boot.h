/* SPDX-License-Identifier: MIT */
/*
 * Direct kernel boot: from files to a guest memory and the registers of the first vCPU.
 *
 *	struct boot_plan plan = {
 *		.kernel = &kernel, .cmdline = "console=ttyS0", .mem = mem, .memory = 512 * MiB,
 *		.board = &board_direct, .rsdp = rsdp,
 *	};
 *	struct boot_entry entry;
 *	rc = boot_load(&plan, &entry, &err);
 *
 * Two kinds of kernels are known: bzImage by Linux' 64-bit boot protocol (linux.c), and ELF
 * files with a PVH entry note (pvh.c). The files are hostile input: no length or address
 * in them is used before it was checked against the file and against guest memory.
 */
#ifndef MACHINE_BOOT_BOOT_H
#define MACHINE_BOOT_BOOT_H

#include <stdint.h>

#include "bus/guest.h"

struct blob;
struct board_map;
struct err;

struct boot_plan {
	const struct blob *kernel;
	const struct blob *initrd;   /* or NULL */
	const struct blob *initrd_more; /* what is to follow it, at the next multiple of 4; or NULL */
	const char *cmdline;         /* never NULL */
	const struct board_map *board; /* what is reserved on it */
	const struct guest_mem *mem; /* mapped as machine/map.h says */
	int ram;                     /* the file that is RAM, or 0: only mem can be written */
	uint64_t memory;             /* bytes of guest RAM */
	gpa_t rsdp;                  /* what the kernel is told, 0 for nothing */
};

/* How the first vCPU starts. Interrupts are off and segments flat in both. */
enum boot_mode {
	BOOT_LONG,      /* 64-bit, paging on with the identity map at MAP_PAGE_TABLES */
	BOOT_PROTECTED, /* 32-bit, paging off */
};

struct boot_entry {
	enum boot_mode mode;
	const char *protocol; /* "linux 2.15", "pvh": for messages */
	gpa_t rip;
	gpa_t info; /* rsi of BOOT_LONG, rbx of BOOT_PROTECTED */
};

/* 0, or -errno with one sentence that names the file and what is wrong with it. Guest
 * memory may hold a part of the kernel then. */
int boot_load(const struct boot_plan *plan, struct boot_entry *entry, struct err *err);

/* -- For the loaders ----------------------------------------------------------------- */

/* One kind each, of whose file boot_load() has seen the first bytes; returns as that does. */
int linux_load(const struct boot_plan *plan, struct boot_entry *entry, struct err *err);
int pvh_load(const struct boot_plan *plan, struct boot_entry *entry, struct err *err);

/* Copies len bytes from `at` of a file to guest RAM, all of it below the hole. */
int boot_put_file(const struct boot_plan *plan, const struct blob *blob, uint64_t at,
		  gpa_t to, uint64_t len, struct err *err);

/* Puts the command line at MAP_CMDLINE. max is the kernel's own limit, without the NUL. */
int boot_put_cmdline(const struct boot_plan *plan, uint64_t max, struct err *err);

/* Puts the initrd, and what is to follow it, as high as it fits: not below floor, not ending above ceiling. *base and
 * *size are 0 if there is none. */
int boot_put_initrd(const struct boot_plan *plan, gpa_t floor, gpa_t ceiling,
		    gpa_t *base, uint64_t *size, struct err *err);

#endif

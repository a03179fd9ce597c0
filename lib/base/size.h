/* SPDX-License-Identifier: MIT */
/*
 * Sizes as people write them: "128M", "1G", "512MiB", "4096B".
 *
 * The unit is required. A bare "512" means MiB to one tool, KiB to the next and bytes to a
 * third, so we ask instead of guessing. K, M, G and T are powers of 1024, with or without
 * "iB" or "B" after them, in either case.
 *
 *	uint64_t memory;
 *
 *	rc = size_parse(&memory, "512M", &err);         // memory is 536870912
 */
#ifndef BASE_SIZE_H
#define BASE_SIZE_H

#include <stdint.h>

struct err;

/* 0 and *bytes; or -EINVAL with a sentence, and *bytes as it was: no number, no unit, an unknown
 * one, more than 64 bits. */
int size_parse(uint64_t *bytes, const char *text, struct err *err);

#define SIZE_TEXT 32

/* The same back, in the largest unit that has no fraction: "512 MiB", "1 byte". Returns text. */
const char *size_text(char text[SIZE_TEXT], uint64_t bytes);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * What keys are called: by people ("ctrl-alt-delete"), and by viewers that send letters and not keys (X's keysyms).
 *
 *	n = keys_parse("ctrl-alt-delete", keys, &err);      // 3: 0x1d, 0x38, 0xd3
 *	key = keys_of_symbol('A');                          // 0x1e
 *
 * A key itself is its number of dev/ps2.h: its scan code on the first PC, and 0x80 if that has a prefix.
 */
#ifndef DISPLAY_KEYS_H
#define DISPLAY_KEYS_H

#include <stdint.h>

struct err;

#define KEYS_AT_ONCE 8

/* Names with '-' between them; those that QEMU uses. Returns how many keys there are, to be pressed in that order, or -ERANGE with a
 * sentence. */
int keys_parse(const char *names, uint8_t keys[KEYS_AT_ONCE], struct err *err);

/* The key of a US keyboard that has this keysym on it; 0: none has. */
uint8_t keys_of_symbol(uint32_t keysym);

/* The name of the n-th key of the table, which is QEMU's; NULL behind the last one. And the key of such a name; 0: none has it. */
const char *keys_name(unsigned n);
uint8_t keys_of_name(const char *name);

#endif

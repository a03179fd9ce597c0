/* SPDX-License-Identifier: MIT */
/* The table of keys: see keys.h. */
#include "display/keys.h"

#include "base/err.h"
#include "base/macros.h"
#include "base/near.h"

#include <errno.h>
#include <string.h>

/*
 * Number, names (the first is QEMU's), and the symbols on it: of a letter or a digit without and with shift, else as X's <X11/keysymdef.h>
 * has them.
 */
static const struct {
	uint8_t key;
	const char *name, *other;
	uint16_t symbols[2];
} table[] = {
	{0x01, "esc", "escape", {0xff1b}},
	{0x02, "1", NULL, {'1', '!'}}, {0x03, "2", NULL, {'2', '@'}}, {0x04, "3", NULL, {'3', '#'}},
	{0x05, "4", NULL, {'4', '$'}}, {0x06, "5", NULL, {'5', '%'}}, {0x07, "6", NULL, {'6', '^'}},
	{0x08, "7", NULL, {'7', '&'}}, {0x09, "8", NULL, {'8', '*'}}, {0x0a, "9", NULL, {'9', '('}},
	{0x0b, "0", NULL, {'0', ')'}}, {0x0c, "minus", NULL, {'-', '_'}}, {0x0d, "equal", NULL, {'=', '+'}},
	{0x0e, "backspace", NULL, {0xff08}}, {0x0f, "tab", NULL, {0xff09, 0xfe20}},
	{0x10, "q", NULL, {'q', 'Q'}}, {0x11, "w", NULL, {'w', 'W'}}, {0x12, "e", NULL, {'e', 'E'}},
	{0x13, "r", NULL, {'r', 'R'}}, {0x14, "t", NULL, {'t', 'T'}}, {0x15, "y", NULL, {'y', 'Y'}},
	{0x16, "u", NULL, {'u', 'U'}}, {0x17, "i", NULL, {'i', 'I'}}, {0x18, "o", NULL, {'o', 'O'}},
	{0x19, "p", NULL, {'p', 'P'}}, {0x1a, "bracket_left", NULL, {'[', '{'}},
	{0x1b, "bracket_right", NULL, {']', '}'}}, {0x1c, "ret", "enter", {0xff0d, 0xff0a}},
	{0x1d, "ctrl", "control", {0xffe3}},
	{0x1e, "a", NULL, {'a', 'A'}}, {0x1f, "s", NULL, {'s', 'S'}}, {0x20, "d", NULL, {'d', 'D'}},
	{0x21, "f", NULL, {'f', 'F'}}, {0x22, "g", NULL, {'g', 'G'}}, {0x23, "h", NULL, {'h', 'H'}},
	{0x24, "j", NULL, {'j', 'J'}}, {0x25, "k", NULL, {'k', 'K'}}, {0x26, "l", NULL, {'l', 'L'}},
	{0x27, "semicolon", NULL, {';', ':'}}, {0x28, "apostrophe", NULL, {'\'', '"'}},
	{0x29, "grave_accent", NULL, {'`', '~'}}, {0x2a, "shift", NULL, {0xffe1}},
	{0x2b, "backslash", NULL, {'\\', '|'}},
	{0x2c, "z", NULL, {'z', 'Z'}}, {0x2d, "x", NULL, {'x', 'X'}}, {0x2e, "c", NULL, {'c', 'C'}},
	{0x2f, "v", NULL, {'v', 'V'}}, {0x30, "b", NULL, {'b', 'B'}}, {0x31, "n", NULL, {'n', 'N'}},
	{0x32, "m", NULL, {'m', 'M'}}, {0x33, "comma", NULL, {',', '<'}}, {0x34, "dot", NULL, {'.', '>'}},
	{0x35, "slash", NULL, {'/', '?'}}, {0x36, "shift_r", NULL, {0xffe2}},
	{0x37, "kp_multiply", "asterisk", {0xffaa}}, {0x38, "alt", NULL, {0xffe9, 0xffe7}},
	{0x39, "spc", "space", {' '}}, {0x3a, "caps_lock", NULL, {0xffe5}},
	{0x3b, "f1", NULL, {0xffbe}}, {0x3c, "f2", NULL, {0xffbf}}, {0x3d, "f3", NULL, {0xffc0}},
	{0x3e, "f4", NULL, {0xffc1}}, {0x3f, "f5", NULL, {0xffc2}}, {0x40, "f6", NULL, {0xffc3}},
	{0x41, "f7", NULL, {0xffc4}}, {0x42, "f8", NULL, {0xffc5}}, {0x43, "f9", NULL, {0xffc6}},
	{0x44, "f10", NULL, {0xffc7}}, {0x45, "num_lock", NULL, {0xff7f}}, {0x46, "scroll_lock", NULL, {0xff14}},
	{0x47, "kp_7", NULL, {0xffb7, 0xff95}}, {0x48, "kp_8", NULL, {0xffb8, 0xff97}},
	{0x49, "kp_9", NULL, {0xffb9, 0xff9a}}, {0x4a, "kp_subtract", NULL, {0xffad}},
	{0x4b, "kp_4", NULL, {0xffb4, 0xff96}}, {0x4c, "kp_5", NULL, {0xffb5, 0xff9d}},
	{0x4d, "kp_6", NULL, {0xffb6, 0xff98}}, {0x4e, "kp_add", NULL, {0xffab}},
	{0x4f, "kp_1", NULL, {0xffb1, 0xff9c}}, {0x50, "kp_2", NULL, {0xffb2, 0xff99}},
	{0x51, "kp_3", NULL, {0xffb3, 0xff9b}}, {0x52, "kp_0", NULL, {0xffb0, 0xff9e}},
	{0x53, "kp_decimal", NULL, {0xffae, 0xff9f}}, {0x56, "less", NULL, {0}},
	{0x57, "f11", NULL, {0xffc8}}, {0x58, "f12", NULL, {0xffc9}},
	{0x9c, "kp_enter", NULL, {0xff8d}}, {0x9d, "ctrl_r", NULL, {0xffe4}}, {0xb5, "kp_divide", NULL, {0xffaf}},
	{0xb7, "print", "sysrq", {0xff61, 0xff15}}, {0xb8, "alt_r", NULL, {0xffea, 0xfe03}},
	{0xc6, "pause", NULL, {0xff13, 0xff6b}},
	{0xc7, "home", NULL, {0xff50}}, {0xc8, "up", NULL, {0xff52}}, {0xc9, "pgup", NULL, {0xff55}},
	{0xcb, "left", NULL, {0xff51}}, {0xcd, "right", NULL, {0xff53}}, {0xcf, "end", NULL, {0xff57}},
	{0xd0, "down", NULL, {0xff54}}, {0xd1, "pgdn", NULL, {0xff56}}, {0xd2, "insert", NULL, {0xff63}},
	{0xd3, "delete", "del", {0xffff}}, {0xdb, "meta_l", NULL, {0xffeb}}, {0xdc, "meta_r", NULL, {0xffec}},
	{0xdd, "menu", "compose", {0xff67}},
};

static const char *nearest(const char *word)
{
	const char *best = NULL;
	size_t least = near_limit(word);

	for (unsigned i = 0; i < ARRAY_SIZE(table); i++)
		if (near_distance(table[i].name, word) <= least) {
			best = table[i].name;
			least = near_distance(best, word);
		}
	return best;
}

static int find(const char *name, uint8_t *key, struct err *err)
{
	const char *meant = nearest(name);

	for (unsigned i = 0; i < ARRAY_SIZE(table); i++)
		if (strcmp(table[i].name, name) == 0 || (table[i].other && strcmp(table[i].other, name) == 0)) {
			*key = table[i].key;
			return 0;
		}
	if (meant)
		return err_set(err, ERANGE, "there is no key '%s': did you mean %s?", name, meant);
	return err_set(err, ERANGE, "there is no key '%s': keys are called a, f1, ret, ctrl, alt, delete and so on, with '-' between "
		       "those that are pressed together", name);
}

int keys_parse(const char *names, uint8_t keys[KEYS_AT_ONCE], struct err *err)
{
	char name[32];
	int n = 0;

	do {
		size_t len = strcspn(names, "-");
		int rc;

		if (n == KEYS_AT_ONCE)
			return err_set(err, ERANGE, "more than %d keys at once", KEYS_AT_ONCE);
		len = len < sizeof(name) - 1 ? len : sizeof(name) - 1;
		memcpy(name, names, len);
		name[len] = 0;
		rc = find(name, &keys[n++], err);
		if (rc < 0)
			return rc;
		names += strcspn(names, "-");
	} while (*names++);
	return n;
}

uint8_t keys_of_symbol(uint32_t keysym)
{
	for (unsigned i = 0; keysym && i < ARRAY_SIZE(table); i++)
		if (table[i].symbols[0] == keysym || table[i].symbols[1] == keysym)
			return table[i].key;
	return 0;
}

const char *keys_name(unsigned n)
{
	return n < ARRAY_SIZE(table) ? table[n].name : NULL;
}

uint8_t keys_of_name(const char *name)
{
	for (unsigned i = 0; i < ARRAY_SIZE(table); i++)
		if (strcmp(table[i].name, name) == 0)
			return table[i].key;
	return 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * The table of the board: nothing is at two places, each device has the room that its model wants, and the
 * tables of docs/board.md, whose path is the argument, are those that are printed from it. `--print` prints them.
 */
#include "base/err.h"
#include "base/macros.h"
#include "dev/device.h"
#include "machine/board_map.h"
#include "tests/tap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const struct board_map *const boards[] = {&board_direct, &board_q35};

/* One that is wrong in one part. */
static const struct {
	const char *name;
	enum board_part part;
	struct board_place is;
	const char *error;
} wrong[] = {
	{"two with a port", BOARD_RTC, {"RTC", BOARD_PORTS, 0x3ff, 2, 0, 0, NULL},
	 "the board: COM1, a 16550A at 0x3f8 overlaps RTC at 0x3ff"},
	{"two with an address", BOARD_ECAM, {"ECAM", BOARD_MEMORY, 0xdfffffff, 0x100000, 0, 0, NULL},
	 "the board: ECAM at 0xdfffffff overlaps PCI: BARs at 0xc0000000"},
	{"one over the end of RAM", BOARD_IOAPIC, {"IOAPIC", BOARD_MEMORY, 0xbffff000, 0x1000, 0, 0, NULL},
	 "the board: IOAPIC at 0xbffff000 overlaps RAM, or less at 0"},
	{"two with a line", BOARD_COM1, {"COM1", BOARD_PORTS, 0x3f8, 8, 8, 1, NULL},
	 "the board: COM1 has interrupt line 8, and so has RTC"},
	{"one of four lines", BOARD_PM, {"ACPI", BOARD_PORTS, 0x600, 0x40, 18, 1, NULL},
	 "the board: PCI: configuration address; 0xcf9: reset has interrupt line 18, and so has ACPI"},
	{"a port that is none", BOARD_PVPANIC, {"pvpanic", BOARD_PORTS, 0x10000, 1, 0, 0, NULL},
	 "the board: pvpanic: 0x1 bytes at 0x10000 are no place"},
	{"nothing", BOARD_PVPANIC, {"pvpanic", BOARD_PORTS, 0x505, 0, 0, 0, NULL},
	 "the board: pvpanic: 0 bytes at 0x505 are no place"},
	{"tables behind RAM", BOARD_GENID, {"VM generation ID", BOARD_IN_RAM, 0xc0000000, 16, 0, 0, NULL},
	 "the board: VM generation ID at 0xc0000000 is not in RAM"},
};

static void test_check(void)
{
	struct err err = {0};

	for (size_t i = 0; i < ARRAY_SIZE(boards); i++)
		ok(board_check(boards[i], &err) == 0, "%s has no two at one place %s", boards[i]->name, err.text);
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		struct board_map map = board_direct;

		map.at[wrong[i].part] = wrong[i].is;
		err = (struct err){0};
		ok(board_check(&map, &err) < 0 && err.code == EINVAL, "%s: is refused", wrong[i].name);
		is_str(err.text, wrong[i].error, "%s: with a sentence", wrong[i].name);
	}
}

static unsigned count_parts(const char *model, enum bus_space space, uint64_t size)
{
	unsigned n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(boards); i++)
		for (const struct board_place *p = boards[i]->at; p < boards[i]->at + BOARD_PARTS; p++)
			n += board_is_of(p, model) && p->size == size &&
			     (p->space == BOARD_PORTS) == (space == BUS_PORT);
	return n;
}

static void test_rooms(void)
{
	for (const struct device_model *const *m = device_models; *m; m++)
		for (const struct device_place *p = (*m)->places; p && p->size; p++)
			ok(count_parts((*m)->name, p->space, p->size) > 0, "%s: a board has %llu bytes for it",
			   (*m)->name, (unsigned long long)p->size);
}

static char *read_file(const char *path)
{
	FILE *f = fopen(path, "r");
	char *text = calloc(1, 1 << 16);

	if (f && text && !fread(text, 1, (1 << 16) - 1, f))
		text[0] = 0;
	if (f)
		fclose(f);
	return text;
}

static void test_page(const char *path)
{
	char *page = read_file(path);

	for (size_t i = 0; i < ARRAY_SIZE(boards); i++) {
		char *text = NULL;
		size_t n;
		FILE *f = open_memstream(&text, &n);

		board_print(boards[i], f);
		fclose(f);
		ok(page && strstr(page, text), "docs/board.md has the tables of %s that board_map_test --print prints",
		   boards[i]->name);
		free(text);
	}
	free(page);
}

int main(int argc, char **argv)
{
	if (argc < 2)
		return 2;
	if (!strcmp(argv[1], "--print")) {
		for (size_t i = 0; i < ARRAY_SIZE(boards); i++)
			board_print(boards[i], stdout);
		return 0;
	}
	test_check();
	test_rooms();
	test_page(argv[1]);
	return done_testing();
}

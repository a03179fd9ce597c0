/* SPDX-License-Identifier: MIT */
/*
 * SMBIOS (DMTF DSP0134): who made this computer, for those who ask dmidecode, and for
 * kernels that print it in every oops.
 *
 * The entry point is the 64-bit one of version 3 ("_SM3_"), which all kernels since 2014
 * find by scanning 0xf0000 in steps of 16. Behind it lie structures: a type, a length, a
 * handle, fixed fields, then strings, each ended by a NUL and all of them by another.
 * A field that names a string holds its number, from 1.
 */
#include "machine/tables/tables.h"

#include "base/bytes.h"
#include "base/err.h"
#include "base/macros.h"
#include "machine/board_map.h"
#include "machine/map.h"

#include <errno.h>
#include <string.h>

#define ENTRY_SIZE 24
#define TABLE_AT 0x20 /* behind the entry point */

struct writer {
	uint8_t *at, *end;
	uint16_t handle;
	bool full;
};

/* Appends a structure; strings ends with NULL, its first one is number 1. */
static uint8_t *add(struct writer *w, uint8_t type, uint8_t len,
		    const char *const *strings)
{
	static const char *const none[] = {NULL};
	static uint8_t nowhere[256];
	uint8_t *p = w->at;
	size_t need = len;

	for (const char *const *s = strings ? strings : none; *s; s++)
		need += strlen(*s) + 1;
	if ((size_t)(w->end - w->at) < need + 2) {
		w->full = true;
		return nowhere;
	}
	memset(p, 0, len);
	p[0] = type;
	p[1] = len;
	le16_put(p + 2, w->handle++);
	w->at += len;
	for (const char *const *s = strings ? strings : none; *s; s++)
		w->at = (uint8_t *)stpcpy((char *)w->at, *s) + 1;
	if (!strings || !*strings)
		*w->at++ = 0;
	*w->at++ = 0;
	return p;
}

static void add_bios(struct writer *w)
{
	uint8_t *p =
		add(w, 0, 24, (const char *const[]){"Lodge", "1", "01/01/2025", NULL});

	p[4] = 1;                            /* vendor */
	p[5] = 2;                            /* version */
	le16_put(p + 6, 0xe000);             /* starting segment */
	p[8] = 3;                            /* date */
	le64_put(p + 10, UINT64_C(1) << 3);  /* characteristics are not given */
	p[18] = 0x01;                        /* ACPI */
	p[19] = 0x10;                        /* a virtual machine */
	p[20] = p[21] = p[22] = p[23] = 0xff;
}

static void add_system(struct writer *w)
{
	uint8_t *p = add(w, 1, 27, (const char *const[]){"Lodge", "Board", "1", NULL});

	p[4] = 1;
	p[5] = 2;
	p[6] = 3;
	p[24] = 6; /* woken by the power switch */
}

static void add_chassis(struct writer *w)
{
	uint8_t *p = add(w, 3, 22, (const char *const[]){"Lodge", NULL});

	p[4] = 1;
	p[5] = 1;                     /* other */
	p[9] = p[10] = p[11] = 3;     /* all safe */
	p[12] = 2;                    /* security unknown */
}

static void add_processor(struct writer *w, unsigned cpus)
{
	uint8_t *p = add(w, 4, 48, (const char *const[]){"CPU 0", "Lodge", NULL});
	uint8_t shown = cpus < 255 ? (uint8_t)cpus : 255;

	p[4] = 1;
	p[5] = 3; /* central processor */
	p[6] = 1; /* family: other */
	p[7] = 2;
	p[24] = 0x41;                     /* populated and enabled */
	p[25] = 1;                        /* upgrade: other */
	le16_put(p + 26, 0xffff);         /* no cache handles */
	le16_put(p + 28, 0xffff);
	le16_put(p + 30, 0xffff);
	p[35] = p[36] = p[37] = shown;    /* cores, enabled, threads */
	le16_put(p + 38, 0x0004);         /* 64-bit */
	le16_put(p + 40, 1);
	le16_put(p + 42, (uint16_t)cpus);
	le16_put(p + 44, (uint16_t)cpus);
	le16_put(p + 46, (uint16_t)cpus);
}

static void add_memory(struct writer *w, uint64_t memory)
{
	uint16_t array = w->handle;
	uint8_t *p = add(w, 16, 23, NULL);
	uint64_t mib = memory / MiB;

	p[4] = 1;                         /* other location */
	p[5] = 3;                         /* system memory */
	p[6] = 6;                         /* multi-bit ECC */
	le32_put(p + 7, 0x80000000u);     /* see the 64-bit capacity */
	le16_put(p + 11, 0xfffe);
	le16_put(p + 13, 1);
	le64_put(p + 15, memory);

	p = add(w, 17, 40, (const char *const[]){"DIMM 0", "Lodge", NULL});
	le16_put(p + 4, array);
	le16_put(p + 6, 0xfffe);
	le16_put(p + 8, 64);
	le16_put(p + 10, 64);
	le16_put(p + 12, mib < 0x7fff ? (uint16_t)mib : 0x7fff);
	p[14] = 9;                        /* DIMM */
	p[16] = 1;
	p[18] = 7;                        /* RAM */
	le16_put(p + 19, 2);
	p[23] = 2;
	le32_put(p + 28, (uint32_t)mib);
}

static void add_range(struct writer *w, gpa_t base, uint64_t size, uint16_t array)
{
	uint8_t *p = add(w, 19, 31, NULL);

	le32_put(p + 4, 0xffffffffu);
	le32_put(p + 8, 0xffffffffu);
	le16_put(p + 12, array);
	p[14] = 1;
	le64_put(p + 15, base);
	le64_put(p + 23, base + size - 1);
}

static void add_all(struct writer *w, const struct tables_plan *plan)
{
	uint64_t low = map_low_end(plan->map, plan->memory);
	uint16_t array;

	add_bios(w);
	add_system(w);
	add_chassis(w);
	add_processor(w, plan->cpus);
	array = w->handle;
	add_memory(w, plan->memory);
	add_range(w, 0, low, array);
	if (plan->memory > low)
		add_range(w, MAP_HIGH, plan->memory - low, array);
	add(w, 32, 11, NULL);
	add(w, 127, 4, NULL);
}

static uint8_t sum_of(const uint8_t *bytes, unsigned n)
{
	uint8_t sum = 0;

	for (unsigned i = 0; i < n; i++)
		sum = (uint8_t)(sum + bytes[i]);
	return (uint8_t)-sum;
}

/* The longest structure, which the old entry point names. */
static uint16_t longest(const uint8_t *at, const uint8_t *end)
{
	size_t most = 0;

	while (at < end) {
		const uint8_t *next = at + at[1];

		while (next[0] || next[1])
			next++;
		next += 2;
		if ((size_t)(next - at) > most)
			most = (size_t)(next - at);
		at = next;
	}
	return (uint16_t)most;
}

/* Offsets of the entry point of version 2. */
enum { SUM = 4, LENGTH, MAJOR, MINOR, LONGEST, DMI = 16, DMI_SUM = 21, DMI_LENGTH, DMI_ADDRESS = 24, DMI_COUNT = 28, BCD = 30 };

int smbios_make(const struct tables_plan *plan, uint8_t *to, uint32_t size, uint8_t anchor[SMBIOS_ANCHOR_SIZE], struct err *err)
{
	struct writer w = {.at = to, .end = to + size};
	int len;

	add_all(&w, plan);
	if (w.full)
		return err_set(err, ENOSPC, "SMBIOS structures do not fit");
	len = (int)(w.at - to);
	memset(anchor, 0, SMBIOS_ANCHOR_SIZE);
	memcpy(anchor, "_SM_", 4);
	anchor[LENGTH] = SMBIOS_ANCHOR_SIZE;
	anchor[MAJOR] = 2;
	anchor[MINOR] = 8;
	le16_put(anchor + LONGEST, longest(to, w.at));
	memcpy(anchor + DMI, "_DMI_", 5);
	le16_put(anchor + DMI_LENGTH, (uint16_t)len);
	le16_put(anchor + DMI_COUNT, w.handle);
	anchor[BCD] = 0x28;
	anchor[DMI_SUM] = sum_of(anchor + DMI, SMBIOS_ANCHOR_SIZE - DMI);
	anchor[SUM] = sum_of(anchor, SMBIOS_ANCHOR_SIZE);
	return len;
}

int smbios_put(const struct tables_plan *plan, struct err *err)
{
	const struct board_place *place = &plan->map->at[BOARD_SMBIOS];
	uint8_t *host = guest_range(plan->mem, place->base, place->size);
	struct writer w;

	if (!host)
		return err_set(err, EFAULT, "no guest memory for SMBIOS");
	w = (struct writer){.at = host + TABLE_AT, .end = host + place->size};
	add_all(&w, plan);
	if (w.full)
		return err_set(err, ENOSPC, "SMBIOS structures do not fit");
	memset(host, 0, TABLE_AT);
	memcpy(host, "_SM3_", 5);
	host[6] = ENTRY_SIZE;
	host[7] = 3;
	host[10] = 1;
	le32_put(host + 12, (uint32_t)(w.at - (host + TABLE_AT)));
	le64_put(host + 16, place->base + TABLE_AT);
	host[5] = sum_of(host, ENTRY_SIZE);
	return 0;
}

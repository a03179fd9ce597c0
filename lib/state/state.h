/* SPDX-License-Identifier: MIT */
/*
 * State as tables: what of a struct is the guest's, and must be there again after a restore.
 *
 *	static const struct state_field fields[] = {
 *		STATE(struct uart, ier),
 *		STATE_UPTO(struct uart, rx.n, FIFO),
 *		STATE_ARRAY(struct uart, rx.bytes),
 *		STATE_PARTS(struct uart, timers, timer_fields),
 *		STATE_SINCE(2, struct uart, scr),
 *		{0},
 *	};
 *	static const struct state_table table = {.name = "uart", .version = 2, .fields = fields};
 *
 *	rc = state_save(&out, "uart.0", &table, uart);
 *	...
 *	rc = state_find(&in, "uart.0", &section, &err);
 *	rc = state_load(&section, &table, uart, &err);
 *
 * A section is what one table saved. All of it is little-endian, and names itself:
 *
 *	section  length of the name (1), name, version (2), length of the fields (4), fields
 *	field    length of the name (1), name, width (1), count (4), count * width bytes
 *
 * An element of an array of structs is named "queues.3.size". Fields stand in the order of the table.
 *
 * Versions. A field that is new says since which version of its table it is there; sections of an older
 * version lack it, and it keeps the value that the object had before, which is that of a reset. A
 * section of a younger version than the table's is refused. What was written once is read for ever:
 * the tests keep a section of each version as text.
 *
 * A section is a stranger's: all lengths are checked, a value above its field's bound is refused. That
 * the values make sense together is for who knows the object, after the last section.
 */
#ifndef STATE_STATE_H
#define STATE_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct err;

#define STATE_NAME_MAX 63

struct state_field {
	const char *name;
	uint32_t offset;
	uint32_t count;  /* elements; 0 means 1 */
	uint8_t width;   /* of one, in bytes: 1, 2, 4, 8; 0: a part */
	uint8_t since;   /* 0: since version 1 */
	bool counted;    /* only so many as the uint32_t at n_at says, which is at most count */
	uint32_t n_at;
	uint64_t max;    /* no larger value makes sense; 0: any does */
	const struct state_field *part; /* what an element consists of */
	uint32_t size;                  /* of a part, in bytes */
};

struct state_table {
	const char *name;
	uint16_t version; /* from 1 */
	const struct state_field *fields; /* ends with a NULL name */
};

#define STATE_MEMBER(type, member) (((type *)NULL)->member)
#define STATE_IS_BOOL(x) __builtin_types_compatible_p(__typeof__(x), bool)

/* An integer or a bool. */
#define STATE_SINCE(version, type, member)                                                 \
	{.name = #member, .offset = offsetof(type, member), .since = (version),            \
	 .width = sizeof(STATE_MEMBER(type, member)),                                      \
	 .max = STATE_IS_BOOL(STATE_MEMBER(type, member)) ? 1 : 0}
#define STATE(type, member) STATE_SINCE(0, type, member)

/* An integer that is at most `most`. */
#define STATE_UPTO(type, member, most)                                                     \
	{.name = #member, .offset = offsetof(type, member),                                \
	 .width = sizeof(STATE_MEMBER(type, member)), .max = (most)}

/* An array of integers. */
#define STATE_ARRAY(type, member)                                                          \
	{.name = #member, .offset = offsetof(type, member),                                \
	 .width = sizeof(STATE_MEMBER(type, member)[0]),                                   \
	 .count = sizeof(STATE_MEMBER(type, member)) / sizeof(STATE_MEMBER(type, member)[0])}

/* The first `n` of an array of integers, where n is a uint32_t member, and a field before this one. */
#define STATE_COUNTED(type, member, n)                                                     \
	{.name = #member, .offset = offsetof(type, member), .counted = true,               \
	 .n_at = offsetof(type, n), .width = sizeof(STATE_MEMBER(type, member)[0]),        \
	 .count = sizeof(STATE_MEMBER(type, member)) / sizeof(STATE_MEMBER(type, member)[0])}

/* A struct, or an array of them, by a list of its own. */
#define STATE_PART_SINCE(version, type, member, list)                                      \
	{.name = #member, .offset = offsetof(type, member), .since = (version),            \
	 .part = (list), .size = sizeof(STATE_MEMBER(type, member))}
#define STATE_PART(type, member, list) STATE_PART_SINCE(0, type, member, list)
#define STATE_PARTS(type, member, list)                                                    \
	{.name = #member, .offset = offsetof(type, member), .part = (list),                \
	 .size = sizeof(STATE_MEMBER(type, member)[0]),                                    \
	 .count = sizeof(STATE_MEMBER(type, member)) / sizeof(STATE_MEMBER(type, member)[0])}

/* The first n of an array of structs. */
#define STATE_PARTS_COUNTED(type, member, n, list)                                         \
	{.name = #member, .offset = offsetof(type, member), .part = (list),                \
	 .size = sizeof(STATE_MEMBER(type, member)[0]), .counted = true,                   \
	 .n_at = offsetof(type, n),                                                        \
	 .count = sizeof(STATE_MEMBER(type, member)) / sizeof(STATE_MEMBER(type, member)[0])}

/* -- Saving ------------------------------------------------------------------------ */

/* Sections, one behind the other. Zeros: none yet. `bytes` is the owner's, to be freed. */
struct state_out {
	uint8_t *bytes;
	size_t len, room;
};

/* Appends what the table names of an object. -ENOMEM, with nothing appended. */
int state_save(struct state_out *out, const char *name, const struct state_table *table,
	       const void *object);

/* -- Loading ----------------------------------------------------------------------- */

struct state_in {
	const uint8_t *bytes;
	size_t len;
};

struct state_section {
	char name[STATE_NAME_MAX + 1];
	uint16_t version;
	const uint8_t *fields;
	size_t len;
};

/* The section at *at, which moves behind it: 1; 0 at the end; -EINVAL for what is no section. */
int state_next(const struct state_in *in, size_t *at, struct state_section *section,
	       struct err *err);

/* The section of that name: 0, or -ENOENT, or -EINVAL. */
int state_find(const struct state_in *in, const char *name, struct state_section *section,
	       struct err *err);

/* Puts it into the object; after a failure, -EINVAL, the object is good for nothing but a reset. */
int state_load(const struct state_section *section, const struct state_table *table,
	       void *object, struct err *err);

/* A line for each field, as people read it: "uart.0 ier 0x5". Bytes of an array in rows of 16. */
int state_print(const struct state_section *section, FILE *to, struct err *err);

#endif

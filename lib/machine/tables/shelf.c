/* SPDX-License-Identifier: MIT */
/*
 * See shelf.h. Lengths in AML are written in three bytes, though fewer might do, so that what they count can be
 * laid out first; a length counts itself.
 */
#include "machine/tables/shelf.h"

#include "base/bytes.h"

#include <string.h>

uint8_t *shelf_take(struct shelf *s, uint32_t n)
{
	static uint8_t nowhere[512];
	uint8_t *p = s->host + s->used;

	if (n > s->size - s->used) {
		s->full = true;
		return nowhere; /* SAFE: no caller takes more at once */
	}
	memset(p, 0, n);
	s->used += n;
	return p;
}

void shelf_add8(struct shelf *s, uint8_t v)
{
	*shelf_take(s, 1) = v;
}

void shelf_add16(struct shelf *s, uint16_t v)
{
	le16_put(shelf_take(s, 2), v);
}

void shelf_add32(struct shelf *s, uint32_t v)
{
	le32_put(shelf_take(s, 4), v);
}

void shelf_add_bytes(struct shelf *s, const void *from, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		shelf_add8(s, ((const uint8_t *)from)[i]);
}

void shelf_note_pointer(struct shelf *s, uint32_t at, uint8_t width)
{
	if (s->n_pointers == SHELF_NOTES) {
		s->full = true;
		return;
	}
	s->pointers[s->n_pointers].at = at;
	s->pointers[s->n_pointers++].width = width;
}

void shelf_note_table(struct shelf *s, uint32_t at, uint32_t len)
{
	if (s->n_tables == SHELF_NOTES) {
		s->full = true;
		return;
	}
	s->tables[s->n_tables].at = at;
	s->tables[s->n_tables++].len = len;
}

/* -- AML ------------------------------------------------------------------------------ */

enum opcode {
	OP_ZERO = 0x00, OP_NAME = 0x08, OP_BYTE = 0x0a, OP_WORD = 0x0b, OP_DWORD = 0x0c, OP_STRING = 0x0d,
	OP_SCOPE = 0x10, OP_BUFFER = 0x11, OP_PACKAGE = 0x12, OP_EXT = 0x5b, OP_EXT_DEVICE = 0x82,
};

#define LENGTH 3 /* bytes */

static void add_text(struct shelf *s, const char *text)
{
	shelf_add_bytes(s, text, (uint32_t)strlen(text));
}

static uint32_t begin(struct shelf *s)
{
	uint32_t at = s->used;

	shelf_take(s, LENGTH);
	return at;
}

void aml_end(struct shelf *s, uint32_t at)
{
	uint32_t len = s->used - at;

	if (s->full)
		return;
	s->host[at] = (uint8_t)((LENGTH - 1) << 6 | (len & 0x0f));
	le16_put(s->host + at + 1, (uint16_t)(len >> 4));
}

uint32_t aml_scope(struct shelf *s, const char *name)
{
	uint32_t at;

	shelf_add8(s, OP_SCOPE);
	at = begin(s);
	add_text(s, name);
	return at;
}

uint32_t aml_device(struct shelf *s, const char *name)
{
	uint32_t at;

	shelf_add8(s, OP_EXT);
	shelf_add8(s, OP_EXT_DEVICE);
	at = begin(s);
	add_text(s, name);
	return at;
}

uint32_t aml_package(struct shelf *s, uint8_t n)
{
	uint32_t at;

	shelf_add8(s, OP_PACKAGE);
	at = begin(s);
	shelf_add8(s, n);
	return at;
}

void aml_name(struct shelf *s, const char *name)
{
	shelf_add8(s, OP_NAME);
	add_text(s, name);
}

void aml_int(struct shelf *s, uint32_t v)
{
	if (v == 0) {
		shelf_add8(s, OP_ZERO);
	} else if (v <= UINT8_MAX) {
		shelf_add8(s, OP_BYTE);
		shelf_add8(s, (uint8_t)v);
	} else {
		shelf_add8(s, OP_DWORD);
		shelf_add32(s, v);
	}
}

void aml_string(struct shelf *s, const char *text)
{
	shelf_add8(s, OP_STRING);
	add_text(s, text);
	shelf_add8(s, 0);
}

static uint32_t hex_digit(char c)
{
	return (uint32_t)(c <= '9' ? c - '0' : c - 'A' + 10);
}

/* Three letters of five bits and four digits, the highest byte first. */
void aml_eisa_id(struct shelf *s, const char *id)
{
	uint32_t v = 0;

	for (int i = 0; i < 3; i++)
		v = v << 5 | (uint32_t)(id[i] - '@');
	for (int i = 3; i < 7; i++)
		v = v << 4 | hex_digit(id[i]);
	shelf_add8(s, OP_DWORD);
	shelf_add32(s, __builtin_bswap32(v));
}

/* -- Resources (chapter 6.4) ------------------------------------------------------------ */

enum resource {
	RES_IRQ = 0x22, RES_PORTS = 0x47, RES_END = 0x79, RES_MEMORY32 = 0x86, RES_DWORDS = 0x87, RES_WORDS = 0x88,
};

enum window { WINDOW_MEMORY = 0, WINDOW_PORTS = 1, WINDOW_BUSES = 2 };

#define WINDOW_FIXED  0x0c /* its first and its last are where they are */
#define MEMORY_WRITES 0x01
#define PORTS_ENTIRE  0x03

/* A buffer, whose size is a number of its own. */
uint32_t aml_resources(struct shelf *s)
{
	uint32_t at;

	shelf_add8(s, OP_BUFFER);
	at = begin(s);
	shelf_add8(s, OP_WORD);
	shelf_add16(s, 0);
	return at;
}

void aml_resources_end(struct shelf *s, uint32_t at)
{
	uint32_t first = at + LENGTH + 3;

	shelf_add8(s, RES_END);
	shelf_add8(s, 0); /* a checksum that is not used */
	if (!s->full)
		le16_put(s->host + first - 2, (uint16_t)(s->used - first));
	aml_end(s, at);
}

void aml_ports(struct shelf *s, uint16_t base, uint8_t len)
{
	shelf_add8(s, RES_PORTS);
	shelf_add8(s, 1); /* 16 address lines count */
	shelf_add16(s, base);
	shelf_add16(s, base);
	shelf_add8(s, 1); /* alignment */
	shelf_add8(s, len);
}

void aml_line(struct shelf *s, uint8_t isa)
{
	shelf_add8(s, RES_IRQ);
	shelf_add16(s, (uint16_t)(1u << isa));
}

void aml_memory(struct shelf *s, uint32_t base, uint32_t size)
{
	shelf_add8(s, RES_MEMORY32);
	shelf_add16(s, 9); /* bytes follow */
	shelf_add8(s, 0);  /* read-only */
	shelf_add32(s, base);
	shelf_add32(s, size);
}

static void add_window16(struct shelf *s, enum window type, uint8_t flags, uint16_t first, uint16_t last)
{
	shelf_add8(s, RES_WORDS);
	shelf_add16(s, 13);
	shelf_add8(s, (uint8_t)type);
	shelf_add8(s, WINDOW_FIXED);
	shelf_add8(s, flags);
	shelf_add16(s, 0); /* granularity */
	shelf_add16(s, first);
	shelf_add16(s, last);
	shelf_add16(s, 0); /* the same on the other side */
	shelf_add16(s, (uint16_t)(last - first + 1));
}

void aml_passes_buses(struct shelf *s, uint16_t first, uint16_t last)
{
	add_window16(s, WINDOW_BUSES, 0, first, last);
}

void aml_passes_ports(struct shelf *s, uint16_t first, uint16_t last)
{
	add_window16(s, WINDOW_PORTS, PORTS_ENTIRE, first, last);
}

void aml_passes_memory(struct shelf *s, uint32_t first, uint32_t last)
{
	shelf_add8(s, RES_DWORDS);
	shelf_add16(s, 23);
	shelf_add8(s, WINDOW_MEMORY);
	shelf_add8(s, WINDOW_FIXED);
	shelf_add8(s, MEMORY_WRITES);
	shelf_add32(s, 0);
	shelf_add32(s, first);
	shelf_add32(s, last);
	shelf_add32(s, 0);
	shelf_add32(s, last - first + 1);
}

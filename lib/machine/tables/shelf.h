/* SPDX-License-Identifier: MIT */
/*
 * Bytes being laid out one after the other in guest memory: the tables of acpi.c, and AML (ACPI Specification,
 * chapter 20), the byte code in which the SSDT says what devices there are.
 *
 *	uint32_t scope = aml_scope(s, "\\_SB_"), dev = aml_device(s, "COM1");
 *	aml_name(s, "_HID"), aml_eisa_id(s, "PNP0501");
 *	aml_end(s, dev), aml_end(s, scope);
 *
 * Overflow is remembered, and said once, by acpi_put().
 */
#ifndef MACHINE_TABLES_SHELF_H
#define MACHINE_TABLES_SHELF_H

#include <stdbool.h>
#include <stdint.h>

#include "bus/guest.h"

#define SHELF_NOTES 16

struct shelf {
	uint8_t *host;
	gpa_t base; /* where it is, or 0: firmware will say, and then pointers and sums are to be made good */
	uint32_t used, size;
	bool full;
	unsigned n_pointers, n_tables;
	struct {
		uint32_t at;   /* from the beginning of the shelf */
		uint8_t width; /* in bytes */
	} pointers[SHELF_NOTES];
	struct {
		uint32_t at, len;
	} tables[SHELF_NOTES];
};

/* Notes what firmware has to know: a pointer into the shelf is there; a table whose checksum is its byte 9. */
void shelf_note_pointer(struct shelf *s, uint32_t at, uint8_t width);
void shelf_note_table(struct shelf *s, uint32_t at, uint32_t len);

/* n zeros, of at most 512: where they are. */
uint8_t *shelf_take(struct shelf *s, uint32_t n);

void shelf_add8(struct shelf *s, uint8_t v);
void shelf_add16(struct shelf *s, uint16_t v);
void shelf_add32(struct shelf *s, uint32_t v);
void shelf_add_bytes(struct shelf *s, const void *from, uint32_t n);

/* -- AML ------------------------------------------------------------------------------ */

/* What has an end: the number is for aml_end(). A name is of four characters, a scope's may begin with \. */
uint32_t aml_scope(struct shelf *s, const char *name);
uint32_t aml_device(struct shelf *s, const char *name);
uint32_t aml_package(struct shelf *s, uint8_t n); /* n values follow */
void aml_end(struct shelf *s, uint32_t at);

void aml_name(struct shelf *s, const char *name); /* a value follows */

/* Values. */
void aml_int(struct shelf *s, uint32_t v);
void aml_string(struct shelf *s, const char *text);
void aml_eisa_id(struct shelf *s, const char *id); /* "PNP0501" */

/* A value that is a list of resources. */
uint32_t aml_resources(struct shelf *s);
void aml_ports(struct shelf *s, uint16_t base, uint8_t len);
void aml_line(struct shelf *s, uint8_t isa);
void aml_memory(struct shelf *s, uint32_t base, uint32_t size);
void aml_resources_end(struct shelf *s, uint32_t at);

/* Among them, what a bridge passes on to its bus. */
void aml_passes_buses(struct shelf *s, uint16_t first, uint16_t last);
void aml_passes_ports(struct shelf *s, uint16_t first, uint16_t last);
void aml_passes_memory(struct shelf *s, uint32_t first, uint32_t last);

#endif

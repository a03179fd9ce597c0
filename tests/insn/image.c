/* SPDX-License-Identifier: MIT */
/*
 * The contents of the sandbox before a case, and what a case left behind.
 *
 * Neighbouring cases begin with nearly the same memory, so an image is changed from one to the
 * next, and pages are compared before they are copied.
 */
#include "insn.h"

#include <string.h>

const struct page pages[PAGES] = {
	{CODE, true, true},          {CODE + PAGE, true, true},
	{CODE + 2 * PAGE, true, true}, {CODE + 3 * PAGE, false, true},
	{DATA, true, false},         {DATA + PAGE, true, false},
	{RDPG, false, false},        {RDPG + PAGE, true, false},
	{STACK, true, false},        {STACK + PAGE, true, false},
	{TOP, true, false},          {ABOVE, true, false},
};

/*
 * Linear 0, which an entry of a table that nobody filled would mean; both sides of 4 GiB; the end of the
 * lower half, as far as Linux gives it to a process, and to its last byte; the begin of the upper
 * half; the last byte of all.
 */
const struct layout layouts[LAYOUTS] = {
	[HOME] = {CODE, TOP, "home"},
	[AT_0] = {0, 0x18000, "at 0"},
	[TOP_32] = {0xffffc000, 0, "up to 4 GiB"},
	[ACROSS_4G] = {0xffffe000, 0xffff0000, "across 4 GiB"},
	[LOW_END] = {0x00007fffffffb000, 0x00007fffffff0000, "at the end of a process"},
	[LOW_LAST] = {0x00007fffffffc000, 0x00007fffffff0000, "at the end of the lower half"},
	[UPPER] = {0xffff800000000000, 0xffff800000010000, "at the begin of the upper half"},
	[LAST] = {0xffffffffffffc000, 0xffffffffffff0000, "at the last byte"},
};

uint64_t page_at(enum where layout, unsigned page)
{
	if (page < CODE_PAGES)
		return layouts[layout].code + page * PAGE;
	if (page_moves(page))
		return layouts[layout].around + (page - (PAGES - NEAR_PAGES)) * PAGE;
	return pages[page].at;
}

const uint8_t *case_insn(const struct test_case *t, uint64_t at, struct insn *in)
{
	enum x86_mode mode = t->is_32bit ? X86_MODE_32 : X86_MODE_64;

	for (unsigned i = 0; i < t->n_spans; i++) {
		const struct span *s = &t->span[i];

		if (at - s->at < s->len)
			return x86_decode(in, s->bytes + (at - s->at), 15, mode) > 0
				       ? s->bytes + (at - s->at)
				       : NULL;
	}
	return NULL;
}

void image_init(struct image *m)
{
	memset(m, 0, sizeof(*m));
	m->template = TEMPLATES;
	memset(m->page, 0xcc, CODE_PAGES * PAGE);
}

/* A byte of code, NULL: beyond its pages. */
static uint8_t *code_at(struct image *m, uint64_t va)
{
	uint64_t at = va - layouts[m->last.layout].code;

	return at < CODE_PAGES * PAGE ? m->page[at / PAGE] + at % PAGE : NULL;
}

static uint8_t *at(struct image *m, uint32_t va)
{
	for (unsigned i = CODE_PAGES; i < PAGES; i++)
		if (va - pages[i].at < PAGE)
			return m->page[i] + (va - pages[i].at);
	__builtin_trap();
}

static uint8_t template_at(unsigned template, uint32_t va)
{
	for (unsigned i = CODE_PAGES; i < PAGES; i++)
		if (va - pages[i].at < PAGE)
			return templates[template][i][va - pages[i].at];
	__builtin_trap();
}

static void put_code(struct image *m, const struct span *s, const uint8_t *bytes)
{
	for (uint32_t k = 0; k < s->len; k++) {
		uint8_t *byte = code_at(m, s->at + k);

		if (byte)
			*byte = bytes ? bytes[k] : 0xcc;
	}
}

static void undo_last(struct image *m)
{
	for (unsigned i = 0; i < m->last.n_spans; i++)
		put_code(m, &m->last.span[i], NULL);
	for (unsigned i = 0; i < m->last.n_patches; i++)
		for (uint32_t k = 0; k < 8; k++)
			*at(m, m->last.patch[i].at + k) =
				template_at(m->template, m->last.patch[i].at + k);
}

void image_set(struct image *m, const struct test_case *t)
{
	undo_last(m);
	if (m->template != t->template)
		for (unsigned i = CODE_PAGES; i < PAGES; i++)
			memcpy(m->page[i], templates[t->template][i], PAGE);
	m->template = t->template;
	m->last = *t;
	for (unsigned i = 0; i < t->n_spans; i++)
		put_code(m, &t->span[i], t->span[i].bytes);
	for (unsigned i = 0; i < t->n_patches; i++)
		for (uint32_t k = 0; k < 8; k++)
			*at(m, t->patch[i].at + k) = (uint8_t)(t->patch[i].value >> 8 * k);
}

void image_copy(const struct image *m, uint8_t *const live[PAGES])
{
	for (unsigned i = 0; i < PAGES; i++)
		if (memcmp(live[i], m->page[i], PAGE))
			memcpy(live[i], m->page[i], PAGE);
}

void image_compare(const struct image *m, uint8_t *const live[PAGES], struct outcome *o)
{
	o->changed = 0;
	for (unsigned i = 0; i < PAGES; i++)
		if (memcmp(live[i], m->page[i], PAGE)) {
			o->changed |= 1u << i;
			memcpy(o->page[i], live[i], PAGE);
		}
}

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

const uint8_t *case_insn(const struct test_case *t, uint64_t at, struct insn *in)
{
	enum x86_mode mode = t->is_32bit ? X86_MODE_32 : X86_MODE_64;

	for (unsigned i = 0; i < t->n_spans; i++) {
		const struct span *s = &t->span[i];

		if (at >= s->at && at < s->at + s->len)
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

static uint8_t *at(struct image *m, uint32_t va)
{
	for (unsigned i = 0; i < PAGES; i++)
		if (va - pages[i].at < PAGE)
			return m->page[i] + (va - pages[i].at);
	__builtin_trap();
}

static uint8_t template_at(unsigned template, uint32_t va)
{
	for (unsigned i = 0; i < PAGES; i++)
		if (va - pages[i].at < PAGE)
			return templates[template][i][va - pages[i].at];
	__builtin_trap();
}

static void undo_last(struct image *m)
{
	for (unsigned i = 0; i < m->last.n_spans; i++)
		for (uint32_t k = 0; k < m->last.span[i].len; k++)
			*at(m, m->last.span[i].at + k) = 0xcc;
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
		for (uint32_t k = 0; k < t->span[i].len; k++)
			*at(m, t->span[i].at + k) = t->span[i].bytes[k];
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

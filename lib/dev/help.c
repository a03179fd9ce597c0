/* SPDX-License-Identifier: MIT */
/*
 * What models declare, as people read it: `lodge run --device help` and `--device NAME,help`.
 *
 * All of it is in the models' own tables, by which devices are made and saved: nothing is said here that
 * could be otherwise there.
 */
#include "dev/device.h"

#include "base/err.h"
#include "state/state.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

/* Where a driver finds it. A model with neither ports nor memory lies in the guest's RAM. */
static const char *bus_of(const struct device_model *m)
{
	if (m->bar)
		return "PCI";
	if (!m->places)
		return "RAM";
	return m->places[0].space == BUS_PORT ? "ports" : "memory";
}

static unsigned count_fields(const struct state_field *f)
{
	unsigned n = 0;

	for (; f->name; f++)
		n += f->part ? count_fields(f->part) : 1;
	return n;
}

void device_list(FILE *to)
{
	fprintf(to, "%-15s %-6s %6s  %s\n", "DEVICE", "BUS", "FIELDS", "WHAT");
	for (const struct device_model *const *m = device_models; *m; m++) {
		unsigned n = 0;

		for (const struct state_table *const *t = (*m)->state; t && *t; t++)
			n += count_fields((*t)->fields);
		fprintf(to, "%-15s %-6s %6u  %s\n", (*m)->name, bus_of(*m), n, (*m)->summary);
	}
}

/* -- One model --------------------------------------------------------------------- */

static const char *access_of(const struct reg *r)
{
	if (r->read && r->write)
		return "rw";
	return r->read ? "r" : "w";
}

static void describe_regs(const struct reg *r, FILE *to)
{
	for (; r && r->name; r++) {
		unsigned n = r->count ? r->count : 1;

		fprintf(to, "  0x%02x  %2u bits  %-2s  %s", r->at, r->width * 8u, access_of(r), r->name);
		fprintf(to, n > 1 ? ", %u of them\n" : "\n", n);
	}
}

static void describe_places(const struct device_model *m, FILE *to)
{
	for (const struct device_place *p = m->places; p && p->size; p++) {
		fprintf(to, "\n%s, %" PRIu64 " bytes%s\n", p->space == BUS_PORT ? "ports" : "memory", p->size,
			p->regs ? ":" : "");
		describe_regs(p->regs, to);
	}
	if (m->bar) {
		fprintf(to, "\nBAR %u, from its beginning:\n", m->bar_n);
		describe_regs(m->bar, to);
	}
}

static void describe_fields(const struct state_field *f, int depth, FILE *to)
{
	for (; f->name; f++) {
		fprintf(to, "  %*s%-*s", depth * 2, "", 24 - depth * 2, f->name);
		if (f->count > 1)
			fprintf(to, " %s%u of", f->counted ? "up to " : "", f->count);
		if (f->part) {
			fprintf(to, " these:\n");
			describe_fields(f->part, depth + 1, to);
			continue;
		}
		fprintf(to, " %u bits", f->width * 8u);
		if (f->max)
			fprintf(to, ", 0 to %" PRIu64, f->max);
		if (f->since > 1)
			fprintf(to, ", since version %u", f->since);
		fprintf(to, "\n");
	}
}

static const struct device_model *find(const char *name)
{
	for (const struct device_model *const *m = device_models; *m; m++)
		if (strcmp((*m)->name, name) == 0)
			return *m;
	return NULL;
}

int device_describe(const char *name, FILE *to, struct err *err)
{
	const struct device_model *m = find(name);

	if (!m)
		return err_set(err, ERANGE, "there is no device '%s': lodge run --device help lists them", name);
	fprintf(to, "%s: %s\n", m->name, m->summary);
	if (m->option)
		fprintf(to, "made by %s\n", m->option);
	else
		fprintf(to, "each guest has it; it has no options\n");
	describe_places(m, to);
	for (const struct state_table *const *t = m->state; t && *t; t++) {
		fprintf(to, "\nsaved as %s/%s, version %u:\n", m->name, (*t)->name, (*t)->version);
		describe_fields((*t)->fields, 0, to);
	}
	return 0;
}

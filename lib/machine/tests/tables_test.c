/* SPDX-License-Identifier: MIT */
/*
 * ACPI and SMBIOS tables as a kernel would find them: by signature, following addresses,
 * with every checksum and length looked at.
 */
#include "base/bytes.h"
#include "base/err.h"
#include "base/macros.h"
#include "dev/acpi_pm.h"
#include "dev/pci/pci.h"
#include "machine/board_map.h"
#include "machine/map.h"
#include "machine/tables/tables.h"
#include "tests/tap.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

static struct map_ram ram;
static struct guest_mem mem;

static const struct board_place *place(enum board_part part)
{
	return &board_direct.at[part];
}

static unsigned sum(const uint8_t *p, size_t n)
{
	unsigned s = 0;

	while (n--)
		s += *p++;
	return s & 0xff;
}

static const uint8_t *at(uint64_t gpa)
{
	return ram.host + gpa;
}

static bool sane_table(const uint8_t *t, const char *signature)
{
	uint32_t len = le32_get(t + 4);

	return memcmp(t, signature, 4) == 0 && len >= 36 && len < place(BOARD_TABLES)->size &&
	       sum(t, len) == 0;
}

/* The n-th table of the XSDT. */
static const uint8_t *table(const uint8_t *xsdt, unsigned n)
{
	return at(le64_get(xsdt + 36 + n * 8));
}

static unsigned count_entries(const uint8_t *madt, uint8_t type)
{
	const uint8_t *p = madt + 44, *end = madt + le32_get(madt + 4);
	unsigned n = 0;

	for (; p < end && p[1]; p += p[1])
		n += p[0] == type;
	return n;
}

/* Whether a guest takes some of these bytes for its own. */
static bool is_ram(const struct map_entry *e, unsigned n, uint64_t base, uint64_t size)
{
	bool is = false;

	for (unsigned i = 0; i < n; i++)
		is |= e[i].type == MAP_RAM && base < e[i].base + e[i].size && e[i].base < base + size;
	return is;
}

/* -- What a kernel makes of the AML ------------------------------------------------------- */

static char dsdt_path[] = "/tmp/lodge-dsdt-XXXXXX", ssdt_path[] = "/tmp/lodge-ssdt-XXXXXX";

static bool put_file(char *path, const uint8_t *t)
{
	int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
	bool done = fd >= 0 && write(fd, t, le32_get(t + 4)) == (ssize_t)le32_get(t + 4);

	if (fd >= 0)
		close(fd);
	return done;
}

/* What ACPICA, which is in the kernels, says to commands of its debugger; without spaces. */
static const char *acpica(const char *commands)
{
	static char text[1 << 18];
	char line[512];
	size_t n = 0;
	FILE *f;
	int c;

	snprintf(line, sizeof(line), "acpiexec -b '%s' %s %s 2>&1", commands, dsdt_path, ssdt_path);
	f = popen(line, "r");
	while (f && (c = getc(f)) != EOF && n < sizeof(text) - 1)
		if (c != ' ' && c != '\n')
			text[n++] = (char)c;
	text[n] = 0;
	return f && pclose(f) == 0 ? text : "";
}

/* As much of it as is about one object: "Device:", or "Evaluating", and its name. */
static const char *about(const char *text, const char *head, const char *path)
{
	static char part[1 << 16];
	char what[64];
	const char *end;

	snprintf(what, sizeof(what), "%s%s", head, path);
	text = strstr(text, what);
	if (!text)
		return "";
	end = strstr(text + 1, "Device:\\");
	if (!end)
		end = strstr(text + 1, "Evaluating\\");
	snprintf(part, sizeof(part), "%.*s", end ? (int)(end - text) : (int)sizeof(part) - 1, text);
	return part;
}

static unsigned count(const char *text, const char *what)
{
	unsigned n = 0;

	while ((text = strstr(text, what))) {
		text += strlen(what);
		n++;
	}
	return n;
}

/* Whether the text has this, made as by printf(). */
static bool has(const char *text, const char *format, ...)
{
	char what[128];
	va_list list;

	va_start(list, format);
	vsnprintf(what, sizeof(what), format, list);
	va_end(list);
	return strstr(text, what);
}

static void test_window(const char *text, enum board_part part)
{
	const struct board_place *p = place(part);

	ok(has(text, "AddressMinimum:%llXAddressMaximum:%llX", (unsigned long long)p->base,
	       (unsigned long long)board_last(p)), "it passes on %s", p->what);
}

static void test_chip(const char *text, const char *path, enum board_part part, bool has_line)
{
	const struct board_place *p = place(part);

	text = about(text, "Device:", path);
	ok(has(text, "AddressMinimum:%04llXAddressMaximum:%04llX", (unsigned long long)p->base,
	       (unsigned long long)p->base) && has(text, "AddressLength:%02llX", (unsigned long long)p->size),
	   "%s has its ports", path);
	is_int(count(text, "InterruptList:"), has_line, "%s has as many lines as it should", path);
	if (has_line)
		ok(has(text, "InterruptList:%X", p->line) || has(text, "InterruptList:%02X", p->line), "%s has its line", path);
}

static void test_aml(const uint8_t *dsdt, const uint8_t *ssdt, unsigned cpus)
{
	const char *text, *part;

	if (system("acpiexec -v >/dev/null 2>&1") != 0) {
		skip("%u CPUs: no acpiexec here, which is in acpica-tools", cpus);
		return;
	}
	if (!ok(put_file(dsdt_path, dsdt) && put_file(ssdt_path, ssdt), "files for ACPICA"))
		return;
	text = acpica("find C0??;resources \\_SB.PCI0;resources \\_SB.PCI0.COM1;resources \\_SB.PCI0.RTC;"
		      "resources \\_SB.PEVT;resources \\_SB.MBRD;evaluate \\_SB.VGEN.ADDR;evaluate \\_S5;"
		      "evaluate \\_SB.PCI0._PRT");
	is_int(count(text, "\\_SB.C0"), cpus, "%u CPUs: as many in the SSDT", cpus);
	ok(!strstr(text, "Error") && !strstr(text, "Warning:AML"), "%u CPUs: ACPICA has no complaint", cpus);
	if (cpus > 1)
		return;
	part = about(text, "Device:", "\\_SB.PCI0");
	test_window(part, BOARD_PCI_LOW);
	test_window(part, BOARD_PCI_HIGH);
	test_chip(text, "\\_SB.PCI0.COM1", BOARD_COM1, true);
	test_chip(text, "\\_SB.PCI0.RTC", BOARD_RTC, true);
	test_chip(text, "\\_SB.PEVT", BOARD_PVPANIC, false);
	test_chip(text, "\\_SB.MBRD", BOARD_PM, false);
	ok(has(about(text, "Evaluating", "\\_SB.VGEN.ADDR"), "[Integer]=%016llX", (unsigned long long)place(BOARD_GENID)->base),
	   "it knows where the VM generation ID is");
	ok(has(about(text, "Evaluating", "\\_S5"), "[Integer]=%016X", ACPI_PM_S5), "and what switches it off");
	part = about(text, "Evaluating", "\\_SB.PCI0._PRT");
	is_int(count(part, "[Package]Contains4Elements"), PCI_SLOTS * PCI_INTX, "a line for each pin of each slot");
	ok(has(part, "[Integer]=%016X[Integer]=%016X[Integer]=%016X[Integer]=%016X", 0x3ffff, 1, 0,
	       place(BOARD_PCI_ADDRESS)->line + pci_intx(3, 2)), "INTB of slot 3 is where the bridge has it");
}

static void test_acpi(unsigned cpus)
{
	struct tables_plan plan = {.map = &board_direct, .mem = &mem, .cpus = cpus, .memory = 64 * MiB};
	struct err err = {0};
	const uint8_t *rsdp = at(place(BOARD_RSDP)->base), *xsdt, *fadt, *ssdt;

	if (!is_int(acpi_put(&plan, &err), 0, "tables for %u CPUs %s", cpus, err.text))
		return;
	ok(memcmp(rsdp, "RSD PTR ", 8) == 0 && sum(rsdp, 20) == 0 && sum(rsdp, 36) == 0,
	   "%u CPUs: the RSDP and its two checksums", cpus);
	xsdt = at(le64_get(rsdp + 24));
	ok(sane_table(xsdt, "XSDT"), "%u CPUs: XSDT", cpus);
	fadt = table(xsdt, 0);
	ok(sane_table(fadt, "FACP"), "%u CPUs: FADT", cpus);
	ok(sane_table(at(le64_get(fadt + 140)), "DSDT"), "%u CPUs: DSDT", cpus);
	ok(memcmp(at(le32_get(fadt + 36)), "FACS", 4) == 0 &&
		   le32_get(fadt + 36) % 64 == 0,
	   "%u CPUs: FACS, aligned", cpus);
	ok(sane_table(table(xsdt, 1), "APIC"), "%u CPUs: MADT", cpus);
	is_int(count_entries(table(xsdt, 1), 0), cpus, "with a local APIC for each");
	ssdt = table(xsdt, 2);
	ok(sane_table(ssdt, "SSDT"), "%u CPUs: SSDT", cpus);
	ok(sane_table(table(xsdt, 3), "MCFG"), "%u CPUs: MCFG", cpus);
	test_aml(at(le64_get(fadt + 140)), ssdt, cpus);
}

static void test_smbios(void)
{
	struct tables_plan plan = {.map = &board_direct, .mem = &mem, .cpus = 2, .memory = 64 * MiB};
	const uint8_t *entry = at(place(BOARD_SMBIOS)->base), *p, *end;
	struct err err = {0};
	unsigned types = 0, last = 0;

	is_int(smbios_put(&plan, &err), 0, "SMBIOS %s", err.text);
	ok(memcmp(entry, "_SM3_", 5) == 0 && sum(entry, entry[6]) == 0,
	   "its entry point");
	is_int(place(BOARD_SMBIOS)->base % 16, 0, "is where it is looked for");
	p = at(le64_get(entry + 16));
	end = p + le32_get(entry + 12);
	while (p < end) {
		last = p[0];
		types |= p[0] < 32 ? 1u << p[0] : 0;
		for (p += p[1]; p[0] || p[1]; p++)
			;
		p += 2;
	}
	ok(p == end, "structures fill the table exactly");
	is_int(last, 127, "the last one says that it is");
	is_int(types,
	       1u << 0 | 1u << 1 | 1u << 3 | 1u << 4 | 1u << 16 | 1u << 17 | 1u << 19,
	       "BIOS, system, chassis, processor, memory");
}

static void test_map(void)
{
	static const uint64_t sizes[] = {128 * MiB, 3 * GiB, 3 * GiB + MiB, 8 * GiB};

	for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct map_entry e[MAP_ENTRIES_MAX];
		unsigned n = map_entries(&board_direct, sizes[i], e);
		uint64_t all = 0;
		bool sorted = true;

		for (unsigned k = 0; k < n; k++) {
			all += e[k].type == MAP_RAM ? e[k].size : 0;
			sorted = sorted &&
				 (!k || e[k].base >= e[k - 1].base + e[k - 1].size);
		}
		ok(sorted, "%llu MiB: no two entries overlap",
		   (unsigned long long)sizes[i] >> 20);
		ok(!is_ram(e, n, place(BOARD_GENID)->base, 4096), "the page of the VM generation ID is not the guest's");
		is_int(sizes[i] - all, MAP_BIOS_END - MAP_EBDA,
		       "all but what a BIOS would take is RAM");
	}
}

int main(void)
{
	struct err err = {0};

	close(mkstemp(dsdt_path));
	close(mkstemp(ssdt_path));
	if (!is_int(map_ram_create(&ram, &board_direct, 64 * MiB, 0, -1, &mem, &err), 0, "guest memory %s",
		    err.text))
		return done_testing();
	test_acpi(1);
	test_acpi(2);
	test_acpi(64);
	test_smbios();
	test_map();
	map_ram_destroy(&ram);
	unlink(dsdt_path);
	unlink(ssdt_path);
	return done_testing();
}

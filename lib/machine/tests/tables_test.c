/* SPDX-License-Identifier: MIT */
/*
 * ACPI and SMBIOS tables as a kernel would find them: by signature, following addresses,
 * with every checksum and length looked at.
 */
#include "base/bytes.h"
#include "base/err.h"
#include "base/macros.h"
#include "machine/map.h"
#include "machine/tables/tables.h"
#include "tests/tap.h"

static struct map_ram ram;
static struct guest_mem mem;

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

	return memcmp(t, signature, 4) == 0 && len >= 36 && len < MAP_TABLES_SIZE &&
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

/* Name (ADDR, Package (2) {a 32-bit number, 0}): that number. */
static uint32_t address_in(const uint8_t *dsdt)
{
	static const uint8_t before[] = {0x08, 'A', 'D', 'D', 'R', 0x12, 8, 2, 0x0c};
	const uint8_t *p = memmem(dsdt, le32_get(dsdt + 4) - 5, before, sizeof(before));

	return p && p[sizeof(before) + 4] == 0 ? le32_get(p + sizeof(before)) : 0;
}

/* Whether a guest takes some of these bytes for its own. */
static bool is_ram(const struct map_entry *e, unsigned n, uint64_t base, uint64_t size)
{
	bool is = false;

	for (unsigned i = 0; i < n; i++)
		is |= e[i].type == MAP_RAM && base < e[i].base + e[i].size && e[i].base < base + size;
	return is;
}

static void test_acpi(unsigned cpus)
{
	struct tables_plan plan = {.mem = &mem, .cpus = cpus, .memory = 64 * MiB};
	struct err err = {0};
	const uint8_t *rsdp = at(MAP_RSDP), *xsdt, *fadt, *ssdt;

	if (!is_int(acpi_put(&plan, &err), 0, "tables for %u CPUs %s", cpus, err.text))
		return;
	ok(memcmp(rsdp, "RSD PTR ", 8) == 0 && sum(rsdp, 20) == 0 && sum(rsdp, 36) == 0,
	   "%u CPUs: the RSDP and its two checksums", cpus);
	xsdt = at(le64_get(rsdp + 24));
	ok(sane_table(xsdt, "XSDT"), "%u CPUs: XSDT", cpus);
	fadt = table(xsdt, 0);
	ok(sane_table(fadt, "FACP"), "%u CPUs: FADT", cpus);
	ok(sane_table(at(le64_get(fadt + 140)), "DSDT"), "%u CPUs: DSDT", cpus);
	is_int(address_in(at(le64_get(fadt + 140))), MAP_GENID, "it knows where the VM generation ID is");
	ok(memcmp(at(le32_get(fadt + 36)), "FACS", 4) == 0 &&
		   le32_get(fadt + 36) % 64 == 0,
	   "%u CPUs: FACS, aligned", cpus);
	ok(sane_table(table(xsdt, 1), "APIC"), "%u CPUs: MADT", cpus);
	is_int(count_entries(table(xsdt, 1), 0), cpus, "with a local APIC for each");
	ssdt = table(xsdt, 2);
	ok(sane_table(ssdt, "SSDT"), "%u CPUs: SSDT", cpus);
	is_int((ssdt[37] & 0x0f) | ssdt[38] << 4, le32_get(ssdt + 4) - 37,
	       "its scope is as long as it says");
	ok(sane_table(table(xsdt, 3), "MCFG"), "%u CPUs: MCFG", cpus);
}

static void test_smbios(void)
{
	struct tables_plan plan = {.mem = &mem, .cpus = 2, .memory = 64 * MiB};
	const uint8_t *entry = at(MAP_SMBIOS), *p, *end;
	struct err err = {0};
	unsigned types = 0, last = 0;

	is_int(smbios_put(&plan, &err), 0, "SMBIOS %s", err.text);
	ok(memcmp(entry, "_SM3_", 5) == 0 && sum(entry, entry[6]) == 0,
	   "its entry point");
	is_int(MAP_SMBIOS % 16, 0, "is where it is looked for");
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
		unsigned n = map_entries(sizes[i], e);
		uint64_t all = 0;
		bool sorted = true;

		for (unsigned k = 0; k < n; k++) {
			all += e[k].type == MAP_RAM ? e[k].size : 0;
			sorted = sorted &&
				 (!k || e[k].base >= e[k - 1].base + e[k - 1].size);
		}
		ok(sorted, "%llu MiB: no two entries overlap",
		   (unsigned long long)sizes[i] >> 20);
		ok(!is_ram(e, n, MAP_GENID, 4096), "the page of the VM generation ID is not the guest's");
		is_int(sizes[i] - all, MAP_BIOS_END - MAP_EBDA,
		       "all but what a BIOS would take is RAM");
	}
}

int main(void)
{
	struct err err = {0};

	if (!is_int(map_ram_create(&ram, 64 * MiB, -1, &mem, &err), 0, "guest memory %s",
		    err.text))
		return done_testing();
	test_acpi(1);
	test_acpi(2);
	test_acpi(64);
	test_smbios();
	test_map();
	map_ram_destroy(&ram);
	return done_testing();
}

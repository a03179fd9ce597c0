/* SPDX-License-Identifier: MIT */
/*
 * Paging, segments and guest memory in C: walks in all shapes of tables, error codes, accessed
 * and dirty bits, crossing and device accesses, code fetches.
 */
#include "softkvm/tests/interp_cpu.h"

#define P 1ull
#define W 2ull
#define U 4ull
#define A 0x20ull
#define D 0x40ull
#define PS 0x80ull
#define G 0x100ull
#define NX (1ull << 63)

#define L4 0x10000u
#define L3 0x11000u
#define L2 0x12000u
#define L1 0x13000u

/* -- Walks ---------------------------------------------------------------------------------- */

static void tables_long(struct vcpu *c, uint64_t lin, uint64_t pte)
{
	cpu_long(c, 0);
	c->cr0 |= CR0_PG;
	c->cr3 = L4;
	poke(L4 + (lin >> 39 & 511) * 8, L3 | P | W | U, 8);
	poke(L3 + (lin >> 30 & 511) * 8, L2 | P | W | U, 8);
	poke(L2 + (lin >> 21 & 511) * 8, L1 | P | W | U, 8);
	poke(L1 + (lin >> 12 & 511) * 8, pte, 8);
}

/* The error code of the fault, -1 if there is none, -2 if it is not as it should be. */
static int error_of(struct vcpu *c, uint64_t lin, unsigned acc)
{
	struct walk w;

	if (mmu_walk(c, lin, acc, &w) == STEP_OK)
		return -1;
	if (c->fault.vector != X86_PFV || c->fault.cr2 != lin || !c->fault.has_code)
		return -2;
	return (int)c->fault.code;
}

static void test_off(struct vcpu *c)
{
	struct walk w;

	cpu_32(c, 0, false);
	is_int(mmu_walk(c, 0x12345678, ACC_WRITE, &w), STEP_OK, "paging off");
	is_int(w.gpa, 0x12345678, "address as it is");
	ok(w.writable && w.dirty && !w.nx && w.page_size == 4096, "everything permitted");
}

static void test_long(struct vcpu *c)
{
	const uint64_t lin = 0xffff812345678abcull;
	struct walk w;

	tables_long(c, lin, 0x55000 | P | W | U | G);
	c->cr4 |= CR4_PGE;
	is_int(mmu_walk(c, lin, ACC_READ, &w), STEP_OK, "long mode, read");
	is_int(w.gpa, 0x55abc, "its address");
	ok(w.writable && !w.dirty && w.user && w.global && !w.nx, "its rights");
	is_int(peek(L1 + (lin >> 12 & 511) * 8, 8), 0x55000 | P | W | U | G | A, "A is set");
	is_int(peek(L4 + (lin >> 39 & 511) * 8, 8), L3 | P | W | U | A, "A at the top, too");
	changes = 0;
	is_int(mmu_walk(c, lin, ACC_WRITE, &w), STEP_OK, "write");
	ok(w.dirty && (peek(L1 + (lin >> 12 & 511) * 8, 8) & D), "D is set");
	is_int(changes, 1, "one entry changed, announced");
	is_int(mmu_walk(c, lin, ACC_WRITE, &w), STEP_OK, "again");
	is_int(changes, 1, "no entry changed");
}

static void test_errors(struct vcpu *c)
{
	const uint64_t lin = 0x7f0012345000ull;

	tables_long(c, lin, 0);
	is_int(error_of(c, lin, ACC_READ), 0, "not present, read");
	is_int(error_of(c, lin, ACC_WRITE), 2, "write");
	is_int(error_of(c, lin, ACC_FETCH), 0x10, "fetch");
	is_int(error_of(c, lin, ACC_READ | ACC_USER), 4, "read by user code");
	is_int(peek(L4 + (lin >> 39 & 511) * 8, 8), L3 | P | W | U, "no A bit after a fault");
	tables_long(c, lin, 0x5000 | P);
	is_int(error_of(c, lin, ACC_READ), -1, "supervisor page, supervisor read");
	is_int(error_of(c, lin, ACC_READ | ACC_USER), 5, "user read");
	is_int(error_of(c, lin, ACC_WRITE), 3, "write with CR0.WP");
	c->cr0 &= ~CR0_WP;
	is_int(error_of(c, lin, ACC_WRITE), -1, "without");
	is_int(error_of(c, lin, ACC_WRITE | ACC_USER), 7, "by user code never");
	c->cpl = 3;
	is_int(error_of(c, lin, ACC_WRITE), 7, "CPL 3 is user");
	is_int(error_of(c, lin, ACC_READ | ACC_SYSTEM), -1, "but for implicit accesses");
	tables_long(c, lin, 0x5000 | P | W | U | NX);
	is_int(error_of(c, lin, ACC_FETCH | ACC_USER), 0x15, "no execution");
	is_int(error_of(c, lin, ACC_READ | ACC_USER), -1, "but reading");
	c->efer &= ~EFER_NX;
	is_int(error_of(c, lin, ACC_READ), 9, "NX is reserved without EFER.NXE");
	is_int(error_of(c, lin, ACC_FETCH), 9, "and fetches are not told apart");
	tables_long(c, lin, 0x5000 | P | W | U);
	c->cr4 |= CR4_SMEP;
	is_int(error_of(c, lin, ACC_FETCH), 0x11, "SMEP");
	is_int(error_of(c, lin, ACC_FETCH | ACC_USER), -1, "not for user code");
	tables_long(c, lin, 0x5000 | P | W | U | 1ull << 46);
	is_int(error_of(c, lin, ACC_READ), 9, "address bit 46 of 46 is reserved");
	tables_long(c, lin, 0x5000 | P | W | U | 1ull << 45 | 1ull << 55);
	is_int(error_of(c, lin, ACC_WRITE | ACC_USER), -1, "bit 45 and 55 are not");
	tables_long(c, lin, 0x5000 | P | W | U);
	poke(L4 + (lin >> 39 & 511) * 8, L3 | P | W | U | PS, 8);
	is_int(error_of(c, lin, ACC_WRITE), 0xb, "PS at the top is reserved");
	c->cr3 = 0x40000000;
	is_int(error_of(c, lin, ACC_READ), 9, "tables outside RAM read as ones");
}

static void test_large(struct vcpu *c)
{
	const uint64_t lin = 0x40abcdef;
	struct walk w;

	tables_long(c, lin, 0);
	poke(L2 + (lin >> 21 & 511) * 8, 0x80200000 | P | W | PS, 8);
	is_int(mmu_walk(c, lin, ACC_WRITE, &w), STEP_OK, "2 MiB page");
	is_int(w.gpa, 0x80200000 | (lin & 0x1fffff), "its address");
	is_int(w.page_size, 2 << 20, "its size");
	ok(!w.user && w.dirty, "its rights");
	poke(L2 + (lin >> 21 & 511) * 8, 0x80202000 | P | W | PS, 8);
	is_int(error_of(c, lin, ACC_READ), 9, "bit 13 is reserved");
	poke(L3 + (lin >> 30 & 511) * 8, 0xc0000000 | P | W | PS | 0x1000, 8);
	is_int(mmu_walk(c, lin, ACC_READ, &w), STEP_OK, "1 GiB page, PAT");
	is_int(w.gpa, 0xc0000000 | (lin & 0x3fffffff), "its address");
	is_int(w.page_size, 1 << 30, "its size");
}

static void test_pae(struct vcpu *c)
{
	const uint64_t lin = 0xc0403123;
	struct walk w;

	cpu_32(c, 0, false);
	c->cr0 |= CR0_PG;
	c->cr4 |= CR4_PAE;
	c->cr3 = L4 + 0x20;
	poke(L4 + 0x20 + 3 * 8, L2 | P, 8);
	poke(L2 + 2 * 8, L1 | P | W | U, 8);
	poke(L1 + 3 * 8, 0x123456000 | P | W | U, 8);
	is_int(mmu_walk(c, lin, ACC_WRITE | ACC_USER, &w), STEP_OK, "PAE");
	is_int(w.gpa, 0x123456123, "its address");
	is_int(peek(L4 + 0x20 + 3 * 8, 8), L2 | P, "a PDPTE has no A bit");
	poke(L2 + 2 * 8, 0x200000000 | P | W | PS, 8);
	is_int(mmu_walk(c, lin, ACC_READ, &w), STEP_OK, "2 MiB");
	is_int(w.gpa, 0x200003123, "its address");
	poke(L4 + 0x20 + 3 * 8, L2 | P | W, 8);
	is_int(error_of(c, lin, ACC_READ), 9, "W is reserved in a PDPTE");
	poke(L4 + 0x20 + 3 * 8, L2, 8);
	is_int(error_of(c, lin, ACC_READ), 0, "not present");
}

static void test_legacy(struct vcpu *c)
{
	const uint64_t lin = 0x00803123;
	struct walk w;

	cpu_32(c, 0, false);
	c->cr0 |= CR0_PG;
	c->cr4 &= ~(CR4_PAE | CR4_PSE);
	c->cr3 = L2 | 0x18;
	poke(L2 + 2 * 4, L1 | P | W | U, 4);
	poke(L1 + 3 * 4, 0xfee55000 | P | W, 4);
	poke(L1 + 4 * 4, 0xaaaaaaaa, 4);
	is_int(mmu_walk(c, lin, ACC_WRITE, &w), STEP_OK, "two levels");
	is_int(w.gpa, 0xfee55123, "its address");
	is_int(peek(L1 + 3 * 4, 8), 0xaaaaaaaafee55000 | P | W | A | D, "A and D, no more");
	is_int(error_of(c, lin, ACC_READ | ACC_USER), 5, "supervisor page");
	poke(L2 + 2 * 4, 0x00c00000 | P | W | PS, 4);
	is_int(error_of(c, lin, ACC_FETCH), -1, "PS means nothing without CR4.PSE");
	c->cr4 |= CR4_PSE;
	is_int(mmu_walk(c, lin, ACC_WRITE, &w), STEP_OK, "4 MiB");
	is_int(w.gpa, 0x00c03123, "its address");
	is_int(w.page_size, 4 << 20, "its size");
	poke(L2 + 2 * 4, 0x00c00000 | 0x5a << 13 | P | W | PS, 4);
	is_int(mmu_walk(c, lin, ACC_READ, &w), STEP_OK, "PSE-36");
	is_int(w.gpa, 0x5a00c03123, "its address");
	poke(L2 + 2 * 4, 0x00c00000 | 1 << 21 | P | W | PS, 4);
	is_int(error_of(c, lin, ACC_READ), 9, "bit 21 is reserved");
}

static void test_peek(struct vcpu *c)
{
	const uint64_t lin = 0x7f0012345000ull;
	bool writable, user;

	tables_long(c, lin, 0x5000 | P | U);
	is_int(mmu_peek(c, lin + 5, &writable, &user), 0x5005, "peek");
	ok(!writable && user, "rights of the entries");
	is_int(peek(L4 + (lin >> 39 & 511) * 8, 8), L3 | P | W | U, "no A bit");
	is_int(mmu_peek(c, lin + 4096, &writable, &user), -1, "unmapped");
}

static void test_readonly_tables(struct vcpu *c)
{
	const uint64_t lin = 0x7f0012345000ull;
	struct slot *slot = atomic_load(&c->vm->slots)->slot[0];
	struct walk w;

	tables_long(c, lin, 0x5000 | P | W);
	slot->flags = KVM_MEM_READONLY;
	is_int(mmu_walk(c, lin, ACC_WRITE, &w), STEP_OK, "tables in flash");
	is_int(peek(L1 + (lin >> 12 & 511) * 8, 8), 0x5000 | P | W, "stay as they are");
	slot->flags = 0;
}

/* -- Segments ------------------------------------------------------------------------------- */

static int linear(struct vcpu *c, enum x86_seg seg, uint64_t ea, unsigned len, bool write)
{
	uint64_t lin;

	if (seg_linear(c, seg, ea, len, write, &lin) == STEP_OK)
		return (int)lin;
	return -(int)c->fault.vector;
}

static void test_segments(struct vcpu *c)
{
	uint64_t lin;

	cpu_32(c, 0, false);
	c->seg[X86_DS].base = 0x1000;
	c->seg[X86_DS].limit = 0xfff;
	is_int(linear(c, X86_DS, 0xffc, 4, true), 0x1ffc, "the last four bytes");
	is_int(linear(c, X86_DS, 0xffd, 4, true), -X86_GP, "beyond the limit");
	is_int(linear(c, X86_DS, 0xffffffff, 4, true), -X86_GP, "offsets do not wrap");
	c->seg[X86_SS].limit = 0xfff;
	is_int(linear(c, X86_SS, 0x1000, 1, true), -X86_SSV, "SS has its own fault");
	c->seg[X86_DS].type = 7; /* expands down, writable */
	is_int(linear(c, X86_DS, 0xfff, 1, true), -X86_GP, "expand-down: up to the limit");
	is_int(linear(c, X86_DS, 0x1000, 1, true), 0x2000, "and above");
	c->seg[X86_DS].type = 1;
	is_int(linear(c, X86_DS, 0, 1, true), -X86_GP, "read-only data");
	is_int(linear(c, X86_CS, 0, 1, true), -X86_GP, "code cannot be written");
	is_int(linear(c, X86_CS, 0x10, 1, false), 0x10, "but read");
	c->seg[X86_CS].type = 9;
	is_int(linear(c, X86_CS, 0x10, 1, false), -X86_GP, "unless execute-only");
	c->seg[X86_ES].unusable = 1;
	is_int(linear(c, X86_ES, 0, 1, false), -X86_GP, "null selector");
	cpu_real(c);
	is_int(linear(c, X86_DS, 0xfffe, 2, true), 0xfffe, "real mode");
	is_int(linear(c, X86_DS, 0xffff, 2, true), -X86_GP, "two bytes at FFFF");
	is_int(linear(c, X86_CS, 5, 2, true), 5, "CS may be written");
	cpu_long(c, 0);
	c->seg[X86_FS].base = 0x800;
	c->seg[X86_DS].base = 0x700;
	is_int(linear(c, X86_FS, 8, 8, true), 0x808, "64-bit: FS has a base");
	is_int(linear(c, X86_DS, 8, 8, true), 8, "DS has none");
	is_int(linear(c, X86_DS, 0x7ffffffffff9ull, 8, false), -X86_GP, "into the hole");
	is_int(linear(c, X86_SS, 0x800000000000ull, 1, false), -X86_SSV, "in the hole, SS");
	is_int(seg_linear(c, X86_DS, 0xffff800000000000ull, 8, true, &lin), STEP_OK, "above");
}

/* -- Memory --------------------------------------------------------------------------------- */

static void test_crossing(struct vcpu *c)
{
	uint64_t v = 0x1122334455667788, r = 0;
	void *p;

	cpu_long(c, 0);
	cpu_page(c);
	poke(PTE_OF(0x21000), 0x35000 | 7, 8);
	is_int(mmu_write(c, 0x20ffd, &v, 8, ACC_WRITE), STEP_OK, "write across pages");
	is_int(peek(0x20ffd, 3), 0x667788, "first part");
	is_int(peek(0x35000, 5), 0x1122334455, "second part, elsewhere");
	is_int(mmu_read(c, 0x20ffd, &r, 8, ACC_READ), STEP_OK, "read");
	ok(r == v, "the same");
	is_int(mmu_pointer(c, 0x20ffd, 8, ACC_READ, &p), STEP_OK, "a pointer");
	ok(!p, "cannot be had");
	is_int(mmu_pointer(c, 0x21010, 8, ACC_READ, &p), STEP_OK, "inside a page");
	ok(p == ram + 0x35010, "it can");
	poke(PTE_OF(0x21000), 0x35000 | 5, 8);
	v = 0;
	is_int(mmu_write(c, 0x20ffd, &v, 8, ACC_WRITE), STEP_FAULT, "second page read-only");
	is_int(c->fault.cr2, 0x21000, "CR2 is its begin");
	is_int(peek(0x20ffd, 3), 0x667788, "the first is not written");
}

static void test_device(struct vcpu *c)
{
	struct kvm_run *run = c->run;
	uint64_t v[2] = {0x1122334455667788, 0x99};

	cpu_long(c, 0);
	io_begin(c);
	is_int(mmu_write(c, RAM_SIZE - 2, v, 8, ACC_WRITE), STEP_EXIT, "RAM and a device");
	is_int(run->exit_reason, KVM_EXIT_MMIO, "MMIO");
	is_int(run->mmio.phys_addr, RAM_SIZE, "its address");
	is_int(run->mmio.len, 4, "a power of two");
	is_int(peek(RAM_SIZE - 2, 2), 0, "RAM is not written yet");
	io_complete(c);
	io_begin(c);
	is_int(mmu_write(c, RAM_SIZE - 2, v, 8, ACC_WRITE), STEP_EXIT, "the rest");
	is_int(run->mmio.len, 2, "two bytes");
	is_int(run->mmio.data[0] | run->mmio.data[1] << 8, 0x1122, "the last");
	io_complete(c);
	io_begin(c);
	is_int(mmu_write(c, RAM_SIZE - 2, v, 8, ACC_WRITE), STEP_OK, "complete");
	is_int(peek(RAM_SIZE - 2, 2), 0x7788, "RAM last");
	io_commit(c);
	is_int(mmu_read(c, RAM_SIZE + 3, v, 4, ACC_READ), STEP_EXIT, "unaligned read");
	ok(run->mmio.len == 4 && !run->mmio.is_write && run->mmio.phys_addr == RAM_SIZE + 3,
	   "goes as it is");
	memcpy(run->mmio.data, "\1\2\3\4\5\6\7", 8);
	io_complete(c);
	io_begin(c);
	v[0] = 0;
	is_int(mmu_read(c, RAM_SIZE + 3, v, 4, ACC_READ), STEP_OK, "answered");
	is_int(v[0], 0x04030201, "by four bytes");
	io_commit(c);
}

static void test_rom(struct vcpu *c)
{
	struct slot *slot = atomic_load(&c->vm->slots)->slot[0];
	uint64_t v = 7;
	void *p;

	cpu_long(c, 0);
	slot->flags = KVM_MEM_READONLY;
	is_int(mmu_read(c, 0x5000, &v, 4, ACC_READ), STEP_OK, "ROM is read");
	is_int(mmu_write(c, 0x5000, &v, 4, ACC_WRITE), STEP_EXIT, "and a device for stores");
	is_int(mmu_pointer(c, 0x5000, 4, ACC_WRITE, &p), STEP_OK, "pointer for a store");
	ok(!p, "there is none");
	is_int(mmu_pointer(c, 0x5000, 4, ACC_READ, &p), STEP_OK, "for a load");
	ok(p == ram + 0x5000, "there is");
	slot->flags = 0;
	io_complete(c);
	io_commit(c);
}

static void test_fetch(struct vcpu *c)
{
	uint8_t buf[15];
	enum step rest;
	unsigned n;

	cpu_long(c, 0);
	cpu_page(c);
	c->rip = 0x8ffd;
	poke(0x8ffd, 0x90a1b2, 3);
	is_int(mmu_fetch(c, buf, &n, &rest), STEP_OK, "fetch");
	is_int(n, 15, "across pages");
	ok(buf[0] == 0xb2 && buf[2] == 0x90, "the bytes");
	poke(PTE_OF(0x9000), 0, 8);
	is_int(mmu_fetch(c, buf, &n, &rest), STEP_OK, "second page missing");
	is_int(n, 3, "what there is");
	ok(rest == STEP_FAULT && c->fault.vector == X86_PFV && c->fault.cr2 == 0x9000 &&
	   c->fault.code == 0x10, "and the fault for more");
	c->rip = 0x9000;
	is_int(mmu_fetch(c, buf, &n, &rest), STEP_FAULT, "first page missing");
	cpu_real(c);
	c->rip = 0xfffe;
	is_int(mmu_fetch(c, buf, &n, &rest), STEP_OK, "at the limit");
	is_int(n, 2, "two bytes");
	is_int(c->fault.vector, X86_GP, "then #GP");
	cpu_long(c, 0);
	c->rip = 0x7ffffffffffcull;
	mmu_fetch(c, buf, &n, &rest);
	is_int(n, 4, "up to the hole");
	c->rip = 0x800000000000ull;
	is_int(mmu_fetch(c, buf, &n, &rest), STEP_FAULT, "not in the hole");
}

static void test_phys(struct vcpu *c)
{
	uint32_t v = 0xcafe;

	cpu_long(c, 0);
	changes = 0;
	is_int(phys_write(c->vm, 0x1ffe, &v, 4), 0, "write by address");
	is_int(changes, 2, "two pages announced");
	v = 0;
	is_int(phys_read(c->vm, 0x1ffe, &v, 4), 0, "read");
	is_int(v, 0xcafe, "the same");
	is_int(phys_read(c->vm, RAM_SIZE - 2, &v, 4), -14, "beyond RAM: -EFAULT");
}

int main(void)
{
	struct vcpu *c = interp_cpu();

	test_off(c);
	test_long(c);
	test_errors(c);
	test_large(c);
	test_pae(c);
	test_legacy(c);
	test_peek(c);
	test_readonly_tables(c);
	test_segments(c);
	test_crossing(c);
	test_device(c);
	test_rom(c);
	test_fetch(c);
	test_phys(c);
	return done_testing();
}

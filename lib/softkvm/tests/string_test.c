/* SPDX-License-Identifier: MIT */
/*
 * String instructions: against a model that does one element at a time, with random operands
 * that cross pages and overlap; then faults, devices, traps and requests in the middle.
 */
#include "softkvm/tests/interp_cpu.h"

#define RSI(c) ((c)->gpr[X86_RSI])
#define RDI(c) ((c)->gpr[X86_RDI])
#define RCX(c) ((c)->gpr[X86_RCX])
#define AREA 0x40000u
#define AREA_LEN 0x10000u

static uint32_t seed = 1;

static uint32_t rnd(uint32_t below)
{
	seed = seed * 1664525 + 1013904223;
	return (uint32_t)((uint64_t)(seed >> 4) * below >> 28);
}

/* -- Against the model ---------------------------------------------------------------------- */

static uint8_t model[AREA_LEN];
static uint64_t m_si, m_di, m_cx, m_flags;

static uint64_t model_get(uint64_t at, unsigned size)
{
	uint64_t v = 0;

	memcpy(&v, model + (at - AREA), size);
	return v;
}

/* The flags of the host's own subtraction. */
static uint64_t host_cmp(uint64_t a, uint64_t b, unsigned size)
{
	uint64_t f;

	switch (size) {
	case 1:
		__asm__("cmpb %b2, %b1; pushf; pop %0" : "=r"(f) : "r"(a), "r"(b) : "cc");
		break;
	case 2:
		__asm__("cmpw %w2, %w1; pushf; pop %0" : "=r"(f) : "r"(a), "r"(b) : "cc");
		break;
	case 4:
		__asm__("cmpl %k2, %k1; pushf; pop %0" : "=r"(f) : "r"(a), "r"(b) : "cc");
		break;
	default:
		__asm__("cmpq %2, %1; pushf; pop %0" : "=r"(f) : "r"(a), "r"(b) : "cc");
		break;
	}
	return f & X86_ARITH;
}

/* One element of opcode A4.., AA.. (bit 0 cleared). */
static void model_element(unsigned op, unsigned size, uint64_t rax, int64_t step)
{
	uint64_t a;

	switch (op) {
	case 0xa4:
		a = model_get(m_si, size);
		memcpy(model + (m_di - AREA), &a, size);
		break;
	case 0xaa:
		memcpy(model + (m_di - AREA), &rax, size);
		break;
	case 0xa6:
		m_flags = host_cmp(model_get(m_si, size), model_get(m_di, size), size);
		break;
	case 0xae:
		m_flags = host_cmp(rax, model_get(m_di, size), size);
		break;
	}
	if (op == 0xa4 || op == 0xa6)
		m_si += (uint64_t)step;
	m_di += (uint64_t)step;
}

static void model_run(unsigned op, unsigned size, uint64_t rax, int64_t step, int rep)
{
	bool compares = op == 0xa6 || op == 0xae;

	if (!rep) {
		model_element(op, size, rax, step);
		return;
	}
	while (m_cx) {
		model_element(op, size, rax, step);
		m_cx--;
		if (compares && !(m_flags & X86_ZF) == (rep == 0xf3))
			break;
	}
}

static bool agrees(struct vcpu *c)
{
	return RSI(c) == m_si && RDI(c) == m_di && RCX(c) == m_cx &&
	       (c->rflags & X86_ARITH) == m_flags && !memcmp(ram + AREA, model, AREA_LEN);
}

static bool one_random(struct vcpu *c, unsigned op)
{
	static const unsigned sizes[] = {1, 2, 4, 8};
	unsigned size = sizes[rnd(4)];
	int rep = (int[]){0, 0xf2, 0xf3, 0xf3}[rnd(4)];
	bool down = rnd(4) == 0;
	int64_t step = down ? -(int64_t)size : (int64_t)size;
	char code[8];
	unsigned n = 0;

	for (unsigned i = 0; i < AREA_LEN; i++)
		ram[AREA + i] = (uint8_t)(rnd(8) ? 0x55 : rnd(256));
	c->rip = CODE_AT;
	m_cx = rnd(3) ? rnd(300) : rnd(1200);
	m_di = AREA + 0x4000 + rnd(0x4000);
	m_si = rnd(2) ? m_di - 40 + rnd(80) : AREA + 0x4000 + rnd(0x4000);
	m_flags = rnd(2) ? X86_CF | X86_OF : X86_ZF;
	memcpy(model, ram + AREA, AREA_LEN);
	RSI(c) = m_si;
	RDI(c) = m_di;
	RCX(c) = m_cx;
	c->gpr[X86_RAX] = 0x5555555555555555;
	c->rflags = RFLAGS_FIXED | m_flags | (down ? RFLAGS_DF : 0);
	if (rep)
		code[n++] = (char)rep;
	if (size == 2)
		code[n++] = 0x66;
	if (size == 8)
		code[n++] = 0x48;
	code[n++] = (char)(size == 1 ? op : op + 1);
	code_put(c, code, n);
	model_run(op, size, c->gpr[X86_RAX], step, rep);
	if (interp_step(c) != STEP_OK || c->rip != CODE_AT + n || !agrees(c)) {
		note("op %x size %u rep %x down %d si %llx di %llx", op, size, rep, down,
		     (unsigned long long)m_si, (unsigned long long)m_di);
		return false;
	}
	return true;
}

static void test_random(struct vcpu *c, unsigned op, const char *name)
{
	unsigned wrong = 0;

	cpu_long(c, 0);
	for (unsigned i = 0; i < 1000 && wrong < 3; i++)
		wrong += !one_random(c, op);
	is_int(wrong, 0, "1000 random %s agree with the model", name);
}

/* -- In the middle -------------------------------------------------------------------------- */

static void set(struct vcpu *c, uint64_t si, uint64_t di, uint64_t cx)
{
	RSI(c) = si;
	RDI(c) = di;
	RCX(c) = cx;
}

static void test_fault(struct vcpu *c)
{
	cpu_long(c, 0);
	cpu_page(c);
	poke(PTE_OF(0x42000), 0, 8);
	set(c, 0x50000, 0x41ff6, 8);
	memcpy(ram + 0x50000, "abcdefghijklmnopqrstuvwxyz", 26);
	is_int(step(c, "\xf3\xa5"), STEP_FAULT, "rep movsd into a missing page");
	ok(c->fault.vector == X86_PFV && c->fault.cr2 == 0x42000 && c->fault.code == 2,
	   "its fault");
	ok(RCX(c) == 6 && RSI(c) == 0x50008 && RDI(c) == 0x41ffe, "two elements were done");
	ok(!memcmp(ram + 0x41ff6, "abcdefgh", 8) && !peek(0x41ffe, 2), "and no part of a third");
	is_int(c->rip, CODE_AT, "rip is at it");
	poke(PTE_OF(0x42000), 0x43000 | 7, 8);
	is_int(interp_step(c), STEP_OK, "goes on");
	ok(RCX(c) == 0 && !memcmp(ram + 0x43000, "klmnop", 6), "to the end");
}

static void test_requests(struct vcpu *c)
{
	cpu_long(c, 0);
	set(c, 0, 0x40800, 0x3000);
	c->gpr[X86_RAX] = 0x77;
	atomic_store(&c->requests, REQ_EVENT);
	is_int(step(c, "\xf3\xaa"), STEP_AGAIN, "rep stosb with a request");
	ok(RCX(c) == 0x3000 - 0x800 && RDI(c) == 0x41000, "one page done");
	is_int(interp_step(c), STEP_AGAIN, "again");
	is_int(RCX(c), 0x1800, "another");
	atomic_store(&c->requests, 0);
	is_int(interp_step(c), STEP_OK, "without");
	ok(RCX(c) == 0 && peek(0x437ff, 1) == 0x77 && !peek(0x43800, 1), "all");
	is_int(step(c, "\xf3\xaa"), STEP_OK, "count 0");
	is_int(RDI(c), 0x43800, "nothing happens");
}

static void test_trap_flag(struct vcpu *c)
{
	cpu_long(c, 0);
	set(c, 0, 0x40000, 3);
	c->rflags |= RFLAGS_TF;
	is_int(step(c, "\xf3\xaa"), STEP_OK, "rep under TF");
	ok(RCX(c) == 2 && c->rip == CODE_AT, "one iteration");
	is_int(interp_step(c), STEP_OK, "second");
	is_int(interp_step(c), STEP_OK, "third");
	ok(RCX(c) == 0 && c->rip == CODE_AT + 2, "past it");
	c->rflags &= ~RFLAGS_TF;
}

static void test_address_sizes(struct vcpu *c)
{
	cpu_long(c, 0);
	set(c, 0, 0xffffffff00040000, 0xffffffff00000002);
	c->gpr[X86_RAX] = 0x33;
	is_int(step(c, "\xf3\x67\xaa"), STEP_OK, "32-bit addresses in 64-bit code");
	ok(RDI(c) == 0x40002 && RCX(c) == 0 && peek(0x40000, 4) == 0x3333, "upper halves go");
	cpu_real(c);
	c->rip = 0x100;
	c->seg[X86_ES].base = 0x40000;
	set(c, 0, 0x1fffe, 0x10004);
	c->gpr[X86_RAX] = 0x33;
	is_int(step(c, "\xf3\xaa"), STEP_OK, "16-bit addresses");
	ok(RDI(c) == 0x10002 && RCX(c) == 0x10000, "wrap, and keep what is above");
	ok(peek(0x4fffe, 2) == 0x3333 && peek(0x40000, 2) == 0x3333, "at both ends");
	c->rip = 0x100;
	c->seg[X86_FS].base = 0x30000;
	set(c, 0x10, 0x20, 0);
	poke(0x30010, 0xbeef, 2);
	is_int(step(c, "\x64\xa5"), STEP_OK, "movsw with fs:");
	is_int(peek(0x40020, 2), 0xbeef, "source from fs, destination in es");
}

static uint8_t written[4096];

/* A client that answers each access with the next number, and takes down what ports are told. */
static unsigned serve(struct vcpu *c, unsigned *exits)
{
	unsigned accesses = 0;
	enum step s;

	*exits = 0;
	while ((s = interp_step(c)) == STEP_EXIT && *exits < 100) {
		(*exits)++;
		if (c->run->exit_reason == KVM_EXIT_MMIO && !c->run->mmio.is_write)
			c->run->mmio.data[0] = (uint8_t)*exits;
		for (unsigned i = 0; c->run->exit_reason == KVM_EXIT_IO && i < c->run->io.count; i++) {
			uint8_t *data = (uint8_t *)c->run + 4096 + i * c->run->io.size;

			if (c->run->io.direction == KVM_EXIT_IO_OUT)
				memcpy(written + accesses++ * c->run->io.size, data, c->run->io.size);
			else
				*data = (uint8_t)++accesses;
		}
		io_complete(c);
	}
	return s;
}

/* Strings of a port: an exit a page. */
static void test_ports(struct vcpu *c)
{
	unsigned exits;

	cpu_long(c, 0);
	c->gpr[X86_RDX] = 0x1f0;
	set(c, 0x40fff, 0, 600);
	poke(0x40fff, 0x11, 1);
	poke(0x41000, 0x3322, 2);
	poke(0x41256, 0x99, 1);
	code_put(c, "\xf3\x6e", 2);
	is_int(serve(c, &exits), STEP_OK, "rep outsb");
	is_int(exits, 2, "is an exit for each page");
	is_int(written[0] << 24 | written[1] << 16 | written[2] << 8 | written[599], 0x11223399, "and says all, in order");
	c->rip = CODE_AT;
	set(c, 0, 0x42000, 256);
	poke(0x42200, 0x77, 1);
	code_put(c, "\xf3\x66\x6d", 3);
	memset(ram + 0x42000, 0xee, 512);
	is_int(serve(c, &exits), STEP_OK, "rep insw");
	is_int(exits, 1, "of a sector is one");
	is_int(ram[0x42000] << 16 | ram[0x421fe] << 8 | ram[0x42200], 1 << 16 | 0x77, "and no byte more");
	c->rip = CODE_AT;
	set(c, 0, 0x4300f, 3);
	c->rflags |= RFLAGS_DF;
	code_put(c, "\xf3\x6c", 2);
	is_int(serve(c, &exits), STEP_OK, "downwards");
	c->rflags &= ~RFLAGS_DF;
	is_int(exits, 3, "each is alone");
	c->rip = CODE_AT;
	set(c, 0, 0x40fff, 2);
	code_put(c, "\xf3\x66\x6d", 3);
	is_int(serve(c, &exits), STEP_OK, "a word across pages");
	is_int(exits, 2, "is alone, too");
}

static void test_devices(struct vcpu *c)
{
	unsigned exits;

	cpu_long(c, 0);
	set(c, 0, 0x40ffe, 5);
	c->gpr[X86_RDX] = 0x1f0;
	code_put(c, "\xf3\x6c", 2);
	is_int(serve(c, &exits), STEP_OK, "rep insb");
	ok(exits == 2 && !memcmp(ram + 0x40ffe, "\1\2\3\4\5", 5), "each byte once, in order");
	c->rip = CODE_AT;
	set(c, RAM_SIZE - 3, 0x40000, 6);
	poke(RAM_SIZE - 3, 0x434241, 3);
	code_put(c, "\xf3\xa4", 2);
	is_int(serve(c, &exits), STEP_OK, "rep movsb from RAM into a device");
	ok(exits == 3 && !memcmp(ram + 0x40000, "ABC\1\2\3", 6), "reads what each has");
	c->rip = CODE_AT;
	set(c, RAM_SIZE + 8, RAM_SIZE + 16, 2);
	is_int(serve(c, &exits), STEP_OK, "from device to device");
	ok(exits == 4 && RCX(c) == 0, "a read and a write for each");
	cpu_page(c);
	poke(PTE_OF(0x41000), 0, 8);
	c->rip = CODE_AT;
	set(c, 0, 0x41000, 1);
	code_put(c, "\x6c", 1);
	is_int(serve(c, &exits), STEP_FAULT, "insb into a missing page");
	is_int(exits, 0, "the port is not read");
}

int main(void)
{
	struct vcpu *c = interp_cpu();

	test_random(c, 0xa4, "movs");
	test_random(c, 0xaa, "stos");
	test_random(c, 0xa6, "cmps");
	test_random(c, 0xae, "scas");
	test_fault(c);
	test_requests(c);
	test_trap_flag(c);
	test_address_sizes(c);
	test_ports(c);
	test_devices(c);
	return done_testing();
}

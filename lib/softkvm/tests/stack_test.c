/* SPDX-License-Identifier: MIT */
/*
 * Stack, control flow, flags, decimal and bit instructions of the interpreter, in 64-, 32-
 * and 16-bit code.
 */
#include "softkvm/interp/ops.h"
#include "softkvm/tests/interp_cpu.h"

#define RSP(c) ((c)->gpr[X86_RSP])
#define RAX(c) ((c)->gpr[X86_RAX])
#define RCX(c) ((c)->gpr[X86_RCX])

static bool is_step_fault(enum step s, const struct vcpu *c, unsigned vector)
{
	return s == STEP_FAULT && c->fault.vector == vector;
}

static void test_push_pop(struct vcpu *c)
{
	cpu_long(c, 0);
	RSP(c) = 0xa000;
	RAX(c) = 0x1122334455667788;
	is_int(step(c, "\x50"), STEP_OK, "push rax");
	is_int(RSP(c), 0x9ff8, "rsp");
	is_int(peek(0x9ff8, 8), 0x1122334455667788, "value");
	is_int(c->rip, CODE_AT + 1, "rip");
	is_int(step(c, "\x66\x59"), STEP_OK, "pop cx");
	ok(RSP(c) == 0x9ffa && RCX(c) == 0x7788, "two bytes");
	is_int(step(c, "\x54"), STEP_OK, "push rsp");
	is_int(peek(RSP(c), 8), 0x9ffa, "the old value");
	poke(RSP(c), 0xb000, 8);
	is_int(step(c, "\x5c"), STEP_OK, "pop rsp");
	is_int(RSP(c), 0xb000, "what was popped");
	is_int(step(c, "\x6a\xfe"), STEP_OK, "push -2");
	ok(peek(RSP(c), 8) == ~1ull, "sign-extended");
	is_int(step(c, "\x8f\x44\x24\x10"), STEP_OK, "pop [rsp+16]");
	ok(RSP(c) == 0xb000 && peek(0xb010, 8) == ~1ull, "from the incremented rsp");
	poke(0xb008, 0x77, 8);
	is_int(step(c, "\xff\x74\x24\x08"), STEP_OK, "push [rsp+8]");
	is_int(peek(0xaff8, 8), 0x77, "from the old rsp");
	is_int(step(c, "\x0f\xa0"), STEP_OK, "push fs");
	is_int(peek(RSP(c), 8), KDATA, "with zeros above");
	RSP(c) = 0x800000000004;
	ok(is_step_fault(step(c, "\x50"), c, X86_SSV), "push below the hole: #SS");
	is_int(RSP(c), 0x800000000004, "rsp is kept");
}

static void test_push_32(struct vcpu *c)
{
	cpu_32(c, 0, true);
	RSP(c) = 0xffffffff0000a000;
	RAX(c) = 0xaaaaaaaa55667788;
	is_int(step(c, "\x50"), STEP_OK, "push eax");
	is_int(RSP(c), 0x9ffc, "esp has 32 bits");
	c->seg[X86_SS].db = 0;
	c->seg[X86_SS].limit = 0xffff;
	RSP(c) = 0x10002;
	is_int(step(c, "\x50"), STEP_FAULT, "16-bit stack: four bytes at FFFE beyond 64 KiB");
	RSP(c) = 0x10000;
	is_int(step(c, "\x66\x50"), STEP_OK, "push ax at 0");
	ok(RSP(c) == 0x1fffe && peek(0xfffe, 2) == 0x7788, "wraps, upper half kept");
}

static void test_pusha(struct vcpu *c)
{
	cpu_32(c, 0, false);
	for (unsigned i = 0; i < 8; i++)
		c->gpr[i] = 0x100 + i;
	RSP(c) = 0xa000;
	is_int(step(c, "\x60"), STEP_OK, "pusha");
	is_int(RSP(c), 0xa000 - 32, "eight values");
	is_int(peek(0x9ffc, 4), 0x100, "eax first");
	is_int(peek(0xa000 - 20, 4), 0xa000, "esp as it was");
	is_int(peek(0xa000 - 32, 4), 0x107, "edi last");
	for (unsigned i = 0; i < 8; i++)
		if (i != X86_RSP)
			c->gpr[i] = 0;
	is_int(step(c, "\x61"), STEP_OK, "popa");
	ok(RAX(c) == 0x100 && c->gpr[X86_RDI] == 0x107 && RSP(c) == 0xa000, "back again");
}

static void test_flags(struct vcpu *c)
{
	cpu_long(c, 0);
	RSP(c) = 0xa000;
	c->rflags = RFLAGS_FIXED | RFLAGS_RF | RFLAGS_IF | X86_CF;
	is_int(step(c, "\x9c"), STEP_OK, "pushf");
	is_int(peek(0x9ff8, 8), RFLAGS_FIXED | RFLAGS_IF | X86_CF, "without RF");
	poke(0x9ff8, ~0ull, 8);
	is_int(step(c, "\x9d"), STEP_OK, "popf of all ones, ring 0");
	is_int(c->rflags, 0x247fd7, "what can be set is");
	cpu_long(c, 3);
	RSP(c) = 0xa000;
	poke(0xa000, 0x3000 | X86_ZF, 8);
	is_int(step(c, "\x9d"), STEP_OK, "popf in ring 3");
	is_int(c->rflags, RFLAGS_FIXED | RFLAGS_IF | X86_ZF, "keeps IF and IOPL");
	c->rflags |= 0x3000;
	atomic_store(&c->requests, 0);
	poke(0xa008, 0, 8);
	is_int(step(c, "\x9d"), STEP_OK, "with IOPL 3");
	is_int(c->rflags, RFLAGS_FIXED | 0x3000, "IF changes");
	poke(0xa010, RFLAGS_IF, 8);
	c->event.window = true;
	is_int(step(c, "\x9d"), STEP_OK, "and back");
	is_int(atomic_load(&c->requests), REQ_EVENT, "events are looked at");
	atomic_store(&c->requests, 0);
	cpu_real(c);
	RSP(c) = 0xa000;
	poke(0xa000, 0xffff, 2);
	is_int(step(c, "\x9d"), STEP_OK, "popf, 16 bits");
	is_int(c->rflags, 0x7fd7, "lower half");
	is_int(step(c, "\xfc"), STEP_OK, "cld");
	is_int(step(c, "\xf5"), STEP_OK, "cmc");
	is_int(c->rflags, 0x7bd6, "DF and CF changed");
}

static void test_enter_leave(struct vcpu *c)
{
	cpu_long(c, 0);
	RSP(c) = 0xa000;
	c->gpr[X86_RBP] = 0x9800;
	is_int(step(c, "\xc8\x20\x00\x00"), STEP_OK, "enter 32, 0");
	ok(RSP(c) == 0x9fd8 && c->gpr[X86_RBP] == 0x9ff8 && peek(0x9ff8, 8) == 0x9800, "frame");
	is_int(step(c, "\xc9"), STEP_OK, "leave");
	ok(RSP(c) == 0xa000 && c->gpr[X86_RBP] == 0x9800, "undone");
	poke(0x97f8, 0x1111, 8);
	is_int(step(c, "\xc8\x10\x00\x02"), STEP_OK, "enter 16, 2");
	ok(peek(0x9ff0, 8) == 0x1111 && peek(0x9fe8, 8) == 0x9ff8, "display");
	ok(RSP(c) == 0x9fd8 && c->gpr[X86_RBP] == 0x9ff8, "frame");
	cpu_page(c);
	poke(PTE_OF(0x9000), 5, 8);
	RSP(c) = 0xa010;
	c->gpr[X86_RBP] = 5;
	ok(is_step_fault(step(c, "\xc8\x20\x00\x00"), c, X86_PFV), "no room for the frame");
	ok(RSP(c) == 0xa010 && c->gpr[X86_RBP] == 5, "nothing has changed");
}

static void test_control(struct vcpu *c)
{
	cpu_long(c, 0);
	RSP(c) = 0xa000;
	is_int(step(c, "\xe8\x10\x00\x00\x00"), STEP_OK, "call");
	ok(c->rip == CODE_AT + 0x15 && peek(0x9ff8, 8) == CODE_AT + 5, "there, and back from");
	is_int(step(c, "\xc2\x10\x00"), STEP_OK, "ret 16");
	ok(c->rip == CODE_AT + 5 && RSP(c) == 0xa010, "back");
	RAX(c) = 0x8000000000000000;
	ok(is_step_fault(step(c, "\xff\xe0"), c, X86_GP), "jmp to a non-canonical address");
	is_int(c->rip, CODE_AT + 5, "faults where it is");
	c->rflags = RFLAGS_FIXED | X86_ZF;
	is_int(step(c, "\x74\x10"), STEP_OK, "je");
	is_int(c->rip, CODE_AT + 0x17, "taken");
	is_int(step(c, "\x0f\x85\x00\x01\x00\x00"), STEP_OK, "jne");
	is_int(c->rip, CODE_AT + 0x1d, "not taken");
	RCX(c) = 0x200000001;
	is_int(step(c, "\x67\xe2\xfe"), STEP_OK, "loop with ecx");
	ok(c->rip == CODE_AT + 0x20 && RCX(c) == 0, "ends, upper half cleared");
	is_int(step(c, "\xe3\x02"), STEP_OK, "jrcxz");
	is_int(c->rip, CODE_AT + 0x24, "taken");
	cpu_32(c, 0, false);
	c->seg[X86_CS].limit = 0x8fff;
	ok(is_step_fault(step(c, "\xe9\x00\x10\x00\x00"), c, X86_GP), "beyond the limit");
	is_int(step(c, "\x66\xe9\xf0\xff"), STEP_OK, "jmp, 16-bit operand");
	is_int(c->rip, CODE_AT + 4 - 16, "16 bits of ip");
}

static void test_conditions(struct vcpu *c)
{
	static const unsigned char bit[] = {0, 2, 4, 6, 7, 11};
	unsigned wrong = 0;

	(void)c;
	for (unsigned f = 0; f < 64; f++) {
		uint64_t flags = 2, got = 0, want = 0;

		for (unsigned i = 0; i < 6; i++)
			flags |= (uint64_t)(f >> i & 1) << bit[i];
#define CC(n, name)                                                                          \
	do {                                                                                 \
		unsigned char yes;                                                           \
		__asm__("push %1; popf; set" name " %0" : "=q"(yes) : "r"(flags) : "cc");    \
		want |= (uint64_t)yes << n;                                                  \
		got |= (uint64_t)flags_meet(flags, n) << n;                                  \
	} while (0)
		CC(0, "o"); CC(1, "no"); CC(2, "b"); CC(3, "ae"); CC(4, "e"); CC(5, "ne");
		CC(6, "be"); CC(7, "a"); CC(8, "s"); CC(9, "ns"); CC(10, "p"); CC(11, "np");
		CC(12, "l"); CC(13, "ge"); CC(14, "le"); CC(15, "g");
		wrong += got != want;
	}
	is_int(wrong, 0, "all conditions of all flags as the host has them");
}

static void test_misc(struct vcpu *c)
{
	cpu_long(c, 0);
	c->gpr[X86_RBX] = 0x5000;
	RAX(c) = 0xff07;
	poke(0x5007, 0x99, 1);
	is_int(step(c, "\xd7"), STEP_OK, "xlat");
	is_int(RAX(c), 0xff99, "al");
	RCX(c) = 0x10;
	is_int(step(c, "\x66\x8d\x44\x8b\x02"), STEP_OK, "lea ax, [rbx+rcx*4+2]");
	is_int(RAX(c), 0x5042, "16 bits");
	RAX(c) = (uint64_t)-9;
	poke(0x4ff8, 0, 8);
	is_int(step(c, "\x48\x0f\xab\x03"), STEP_OK, "bts [rbx], rax = -9");
	is_int(peek(0x4ffe, 1), 0x80, "bit 7 of the byte before the last");
	ok(!(c->rflags & X86_CF), "was clear");
	is_int(step(c, "\xf0\x48\x0f\xbb\x03"), STEP_OK, "lock btc");
	ok((c->rflags & X86_CF) && !peek(0x4ffe, 1), "was set, now clear");
	is_int(step(c, "\xf0\x48\x0f\xa3\x03"), STEP_FAULT, "lock bt is undefined");
	is_int(c->fault.vector, X86_UDV, "#UD");
	cpu_32(c, 0, false);
	RAX(c) = 0x0a7f;
	c->rflags = RFLAGS_FIXED;
	is_int(step(c, "\x27"), STEP_OK, "daa");
	ok((RAX(c) & 0xff) == 0x85 && (c->rflags & X86_AF), "7F + 6");
	RAX(c) = 0x3b;
	is_int(step(c, "\xd4\x0a"), STEP_OK, "aam");
	is_int(RAX(c), 0x0509, "59");
	is_int(step(c, "\xd5\x0a"), STEP_OK, "aad");
	is_int(RAX(c), 59, "and back");
	ok(is_step_fault(step(c, "\xd4\x00"), c, X86_DE), "aam 0");
	RAX(c) = 0x010a;
	c->rflags = RFLAGS_FIXED;
	is_int(step(c, "\x37"), STEP_OK, "aaa");
	ok((uint16_t)RAX(c) == 0x0200 && (c->rflags & X86_CF), "carries into ah");
	poke(0x5000, (uint64_t)10 << 32 | 5, 8);
	c->gpr[X86_RBX] = 0x5000;
	RAX(c) = 10;
	is_int(step(c, "\x62\x03"), STEP_OK, "bound: at the limit");
	RAX(c) = 4;
	ok(is_step_fault(step(c, "\x62\x03"), c, X86_BR), "below: #BR");
}

static void test_native(struct vcpu *c)
{
	cpu_long(c, 0);
	natives = 0;
	is_int(step(c, "\x01\xc8"), STEP_OK, "add eax, ecx");
	ok(natives == 1 && c->rip == CODE_AT + 2, "runs natively");
	c->gpr[X86_RBX] = 0x5001;
	ok(is_step_fault(step(c, "\x0f\x28\x03"), c, X86_GP), "movaps, misaligned");
	is_int(step(c, "\x0f\x10\x03"), STEP_OK, "movups is not");
	c->cr0 |= CR0_TS;
	ok(is_step_fault(step(c, "\x0f\x10\x03"), c, X86_NM), "TS: #NM");
	ok(is_step_fault(step(c, "\xd9\xe8"), c, X86_NM), "x87, too");
	ok(step(c, "\x9b") == STEP_OK, "wait only with MP");
	c->cr0 |= CR0_EM;
	ok(is_step_fault(step(c, "\x0f\x10\x03"), c, X86_UDV), "EM: SSE is #UD");
	c->cr0 &= ~(CR0_TS | CR0_EM);
	c->xcr0 = 7;
	is_int(step(c, "\xc5\xf8\x10\x03"), STEP_OK, "vmovups");
	c->xcr0 = 3;
	ok(is_step_fault(step(c, "\xc5\xf8\x10\x03"), c, X86_UDV), "no AVX in XCR0: #UD");
	is_int(step(c, "\xc4\xe2\x78\xf2\xc1"), STEP_OK, "andn needs none");
}

/* What native_exec() would do for `add [rbx], rax`. */
static enum step add_hook(struct vcpu *c, const struct insn *in, void *mem)
{
	uint64_t v;

	(void)in;
	memcpy(&v, mem, 8);
	v += RAX(c);
	memcpy(mem, &v, 8);
	c->rflags ^= X86_CF;
	return STEP_OK;
}

/* A read-modify-write of a device: two exits, one addition. */
static void test_device_rmw(struct vcpu *c)
{
	struct kvm_run *run = c->run;
	const uint64_t seven = 7;

	cpu_long(c, 0);
	native_hook = add_hook;
	c->gpr[X86_RBX] = RAM_SIZE + 8;
	RAX(c) = 5;
	c->rflags = RFLAGS_FIXED;
	is_int(step(c, "\x48\x01\x03"), STEP_EXIT, "add [mmio], rax: the read");
	ok(run->exit_reason == KVM_EXIT_MMIO && !run->mmio.is_write && run->mmio.len == 8,
	   "goes to the client");
	memcpy(run->mmio.data, &seven, 8);
	io_complete(c);
	is_int(interp_step(c), STEP_EXIT, "the write");
	ok(run->mmio.is_write && run->mmio.data[0] == 12, "has the sum");
	ok(c->rip == CODE_AT && c->rflags == RFLAGS_FIXED, "nothing else has changed");
	io_complete(c);
	is_int(interp_step(c), STEP_OK, "done");
	ok(c->rip == CODE_AT + 3 && c->rflags == (RFLAGS_FIXED | X86_CF), "once");
	is_int(c->io.n, 0, "the log is empty");
	native_hook = NULL;
}

static void test_ports(struct vcpu *c)
{
	struct kvm_run *run = c->run;
	uint8_t *data = (uint8_t *)run + 4096;

	cpu_long(c, 0);
	RAX(c) = 0xffff41;
	c->gpr[X86_RDX] = 0x3f8;
	is_int(step(c, "\xee"), STEP_EXIT, "out dx, al");
	ok(run->exit_reason == KVM_EXIT_IO && run->io.port == 0x3f8 && run->io.size == 1 &&
	   run->io.direction == KVM_EXIT_IO_OUT && run->io.count == 1, "to the client");
	ok(run->io.data_offset == 4096 && *data == 0x41, "its byte");
	io_complete(c);
	is_int(interp_step(c), STEP_OK, "done");
	is_int(c->rip, CODE_AT + 1, "past it");
	is_int(step(c, "\x66\xed"), STEP_EXIT, "in ax, dx");
	memcpy(data, "\x34\x12\xff\xff", 4);
	io_complete(c);
	is_int(interp_step(c), STEP_OK, "done");
	is_int(RAX(c), 0xff1234, "two bytes");
	is_int(step(c, "\xe4\x20"), STEP_OK, "in al, 0x20: inside");
	ok(inner_ports == 1 && (RAX(c) & 0xff) == 0xa5, "asked once");
	c->gpr[X86_RDX] = 0x500;
	is_int(step(c, "\xee"), STEP_OK, "out to an eventfd");
	is_int(eventfds, 1, "signals it");
	cpu_long(c, 3);
	c->gpr[X86_RDX] = 0x3f8;
	ok(is_step_fault(step(c, "\xec"), c, X86_GP), "in from ring 3, no bitmap");
	c->tr.limit = 0x67 + 0x400;
	poke(TSS_AT + 0x66, 0x68, 2);
	is_int(step(c, "\xec"), STEP_EXIT, "with a bitmap of zeros");
	io_complete(c);
	is_int(interp_step(c), STEP_OK, "done");
	poke(TSS_AT + 0x68 + 0x7f, 0x04, 1);
	is_int(step(c, "\x66\xed"), STEP_EXIT, "word at 3f8: bits 8 and 9 are clear");
	io_complete(c);
	is_int(interp_step(c), STEP_OK, "done");
	ok(is_step_fault(step(c, "\xed"), c, X86_GP), "dword: bit 10 is set");
}

int main(void)
{
	struct vcpu *c = interp_cpu();

	test_push_pop(c);
	test_push_32(c);
	test_pusha(c);
	test_flags(c);
	test_enter_leave(c);
	test_control(c);
	test_conditions(c);
	test_misc(c);
	test_native(c);
	test_device_rmw(c);
	test_ports(c);
	return done_testing();
}

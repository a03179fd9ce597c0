/* SPDX-License-Identifier: MIT */
/*
 * Masked memory operands, gathers and scatters against the CPU under our feet.
 *
 * All forms of all instructions that the opcode table says may be masked (forms.h), as far
 * as this CPU has them; and a list of those that have more than a single operand in memory. Each
 * runs twice from the same registers, with its operand around the border of two pages, one of
 * which may be missing: by itself in host memory, and by the interpreter in guest memory. Registers,
 * masks, memory, and the fault with its address must agree, so what a mask suppresses is the
 * processor's word.
 *
 *	host    [ page, read-write or nothing ][ page, read-write or nothing ]
 *	guest   [ page, mapped or not present ][ page, mapped or not present ]
 *
 * In place, in guest memory, nothing may be executed but an operand that lies in one page.
 *
 * Built like the engine: between loading a state and saving it nobody else may use vector
 * registers.
 */
#include "softkvm/tests/interp_cpu.h"

#include <cpuid.h>
#include <signal.h>
#include <ucontext.h>

#include "x86/tests/forms.h"

#define GUEST_AT 0x20000u
#define CASES_EACH 300
#define CASES_FORM 24

/* -- Instructions -------------------------------------------------------------------------- */

#define INSNS(X)                                                                             \
	X("maskmovdqu %xmm2, %xmm1")                                                         \
	X("vmaskmovdqu %xmm2, %xmm1")                                                        \
	X("vpgatherdd %ymm3, 16(%rbx,%ymm4,1), %ymm1")                                       \
	X("vpgatherdq %ymm3, (%rbx,%xmm4,2), %ymm1")                                         \
	X("vgatherqps %xmm3, (%rbx,%ymm5,1), %xmm1")                                         \
	X("vpgatherqq %xmm3, (%rbx,%xmm5,1), %xmm1")                                         \
	X("vpgatherdd (%rbx,%zmm4,1), %zmm1{%k1}")                                           \
	X("vpgatherdq (%rbx,%ymm4,1), %zmm1{%k1}")                                           \
	X("vgatherqps (%rbx,%zmm5,1), %ymm1{%k1}")                                           \
	X("vpgatherqq -8(%rbx,%zmm17,1), %zmm18{%k1}")                                       \
	X("vpgatherqq (%rbx,%ymm17,1), %ymm18{%k1}")                                         \
	X("vpgatherdd (%rbx,%xmm4,1), %xmm1{%k1}")                                           \
	X("vpgatherdq (%rbx,%xmm4,1), %ymm1{%k1}")                                           \
	X("vpscatterdd %zmm1, (%rbx,%zmm4,1){%k1}")                                          \
	X("vscatterqpd %ymm1, (%rbx,%ymm5,1){%k1}")

/* The bytes of each, assembled one after the other, with the addresses of their ends. */
#define ASSEMBLE(text) "1: " text "; 2: .pushsection .data.rel.ro,\"aw\"; .quad 1b, 2b; .popsection;\n"
__asm__(".pushsection .data.rel.ro,\"aw\"; .balign 8; insn_table: .popsection;\n"
	".pushsection .text\n" INSNS(ASSEMBLE) ".popsection\n");
extern const uint8_t *const insn_table[][2] __attribute__((visibility("hidden")));

static const char *const insn_names[] = {
#define NAME(text) text,
	INSNS(NAME)
};
#define N_INSNS (sizeof(insn_names) / sizeof(insn_names[0]))

/* -- A state, loaded and saved around a call ------------------------------------------------- */

struct state {
	uint8_t z1[64], z2[64], z3[64], z4[64], z5[64], z17[64], z18[64];
	uint64_t k1, k2;
};

/* call_with(state, function, argument): rbx and rdi are the argument. */
uint64_t call_with(struct state *s, const void *function, uint64_t argument);
__asm__(".text; call_with: push %rbx; push %r12; sub $8, %rsp; mov %rdi, %r12\n"
	"vmovdqu64 (%r12), %zmm1; vmovdqu64 64(%r12), %zmm2; vmovdqu64 128(%r12), %zmm3\n"
	"vmovdqu64 192(%r12), %zmm4; vmovdqu64 256(%r12), %zmm5\n"
	"vmovdqu64 320(%r12), %zmm17; vmovdqu64 384(%r12), %zmm18\n"
	"kmovq 448(%r12), %k1; kmovq 456(%r12), %k2\n"
	"mov %rdx, %rbx; mov %rdx, %rdi; call *%rsi\n"
	"vmovdqu64 %zmm1, (%r12); vmovdqu64 %zmm2, 64(%r12); vmovdqu64 %zmm3, 128(%r12)\n"
	"vmovdqu64 %zmm4, 192(%r12); vmovdqu64 %zmm5, 256(%r12)\n"
	"vmovdqu64 %zmm17, 320(%r12); vmovdqu64 %zmm18, 384(%r12)\n"
	"kmovq %k1, 448(%r12); kmovq %k2, 456(%r12)\n"
	"add $8, %rsp; pop %r12; pop %rbx; ret");

static uint8_t *code; /* one instruction and RET */
static size_t code_len;
static unsigned disp; /* of the operand, from rbx */

static void code_write(const uint8_t *bytes, size_t len)
{
	memcpy(code, bytes, len);
	code[len] = 0xc3;
	code_len = len;
}

static void code_set(unsigned insn)
{
	size_t len = (size_t)(insn_table[insn][1] - insn_table[insn][0]);

	code_write(insn_table[insn][0], len);
}

static unsigned beyond; /* times that an operand in place was in two pages */

/* The host runs it on an operand that the interpreter has found. */
static enum step native(struct vcpu *c, const struct insn *in, void *mem)
{
	register void *rbx __asm__("rbx") = (uint8_t *)mem - disp;

	(void)c;
	beyond += (uint8_t *)mem >= ram && (uint8_t *)mem < ram + RAM_SIZE &&
		  ((uintptr_t)mem - (uintptr_t)ram) % 4096 + in->mem_size > 4096;
	__asm__ volatile("call *%1" : "+r"(rbx) : "r"(code) : "memory", "cc");
	return STEP_OK;
}

static uint64_t interpret(struct vcpu *c)
{
	return interp_step(c);
}

/* -- One case -------------------------------------------------------------------------------- */

static uint8_t *host_pages;
static volatile bool faulted, undefined;
static volatile uint64_t fault_at;
static volatile bool fault_is_gp;

/* A fault of the instruction under test: go on at the RET behind it, registers as they are. */
static void on_fault(int sig, siginfo_t *info, void *context)
{
	ucontext_t *u = context;

	if (u->uc_mcontext.gregs[REG_RIP] != (greg_t)(uintptr_t)code)
		_exit(1);
	faulted = true;
	undefined = sig == SIGILL;
	fault_is_gp = info->si_code == SI_KERNEL;
	fault_at = (uint64_t)(uintptr_t)info->si_addr;
	u->uc_mcontext.gregs[REG_RIP] += (greg_t)code_len;
}

static uint32_t seed = 7;

static uint32_t rnd(uint32_t below)
{
	seed = seed * 1664525 + 1013904223;
	return (uint32_t)((uint64_t)(seed >> 4) * below >> 28);
}

static uint64_t rnd64(void)
{
	return (uint64_t)rnd(1u << 28) << 40 ^ (uint64_t)rnd(1u << 28) << 20 ^ rnd(1u << 28);
}

/* Small indices in z4 (dwords) and z5, z17 (qwords); sparse masks in z2, z3, k1. */
static void state_random(struct state *s)
{
	uint8_t *all = (uint8_t *)s;

	for (unsigned i = 0; i < sizeof(*s); i++)
		all[i] = (uint8_t)rnd(256);
	for (unsigned i = 0; i < 16; i++) {
		uint32_t index = rnd(160) - 80;

		memcpy(s->z4 + 4 * i, &index, 4);
	}
	for (unsigned i = 0; i < 8; i++) {
		uint64_t index = (uint64_t)rnd(160) - 80;

		memcpy(s->z5 + 8 * i, &index, 8);
		memcpy(s->z17 + 8 * i, &index, 8);
	}
	if (rnd(3) == 0)
		memset(s->z2, 0, 64), memset(s->z3, 0, 64);
	s->k1 = rnd64();
	switch (rnd(5)) {
	case 0:
		s->k1 = 0;
		break;
	case 1:
		s->k1 = (1ull << rnd(40)) - 1;
		break;
	case 2:
		s->k1 &= rnd64() & rnd64();
		break;
	case 3:
		s->k1 = ~0ull << rnd(60);
		break;
	}
}

struct outcome {
	struct state state;
	uint8_t mem[8192];
	bool fault, gp;
	uint64_t at; /* offset of the fault in the two pages */
};

/* The page that is not there. */
enum missing { FIRST, SECOND, NONE };

static void host_run(struct outcome *o, unsigned offset, enum missing page)
{
	memcpy(host_pages, o->mem, 8192);
	if (page != NONE)
		mprotect(host_pages + page * 4096, 4096, PROT_NONE);
	undefined = true;
	for (unsigned i = 0; i < 3 && undefined; i++) { /* #UD may be nobody's: cpu_test.c */
		faulted = undefined = false;
		call_with(&o->state, code, (uint64_t)(uintptr_t)host_pages + offset - disp);
	}
	mprotect(host_pages, 8192, PROT_READ | PROT_WRITE);
	o->fault = faulted;
	o->gp = faulted && fault_is_gp;
	o->at = faulted && !o->gp ? fault_at - (uint64_t)(uintptr_t)host_pages : 0;
	memcpy(o->mem, host_pages, 8192);
}

static void guest_run(struct vcpu *c, struct outcome *o, unsigned offset, enum missing page)
{
	enum step s;

	poke(PTE_OF(GUEST_AT), page == FIRST ? 0 : GUEST_AT | 7, 8);
	poke(PTE_OF(GUEST_AT + 0x1000), page == SECOND ? 0 : (GUEST_AT + 0x3000) | 7, 8);
	memcpy(ram + GUEST_AT, o->mem, 4096);
	memcpy(ram + GUEST_AT + 0x3000, o->mem + 4096, 4096);
	c->rip = CODE_AT;
	memcpy(ram + CODE_AT, code, 16);
	c->gpr[X86_RBX] = c->gpr[X86_RDI] = GUEST_AT + offset - disp;
	s = (enum step)call_with(&o->state, interpret, (uint64_t)(uintptr_t)c);
	o->fault = s != STEP_OK;
	o->gp = o->fault && c->fault.vector == X86_GP;
	o->at = o->fault && !o->gp ? c->fault.cr2 - GUEST_AT : 0;
	memcpy(o->mem, ram + GUEST_AT, 4096);
	memcpy(o->mem + 4096, ram + GUEST_AT + 0x3000, 4096);
}

/* What of the first page is compared: around its end. */
static bool same(const struct outcome *a, const struct outcome *b)
{
	return !memcmp(&a->state, &b->state, sizeof(a->state)) &&
	       !memcmp(a->mem, b->mem, sizeof(a->mem)) && a->fault == b->fault &&
	       a->gp == b->gp && a->at >> 12 == b->at >> 12;
}

/* A VEX gather that faults: which of the elements above the one at fault it has done is the CPU's affair, and Intel's
 * have another one than AMD's. */
static void forget_gathered(struct outcome *o)
{
	if (!o->fault || code[0] != 0xc4 || (code[3] & 0xfc) != 0x90 || !__builtin_cpu_is("intel"))
		return;
	memset(o->state.z1, 0, sizeof(o->state.z1));
	memset(o->state.z3, 0, sizeof(o->state.z3));
}

static bool one_case(struct vcpu *c, unsigned offset, enum missing page)
{
	static struct outcome host, guest;

	state_random(&host.state);
	for (unsigned i = 4096 - 300; i < 4096 + 300; i++)
		host.mem[i] = (uint8_t)rnd(256);
	guest = host;
	host_run(&host, offset, page);
	guest_run(c, &guest, offset, page);
	forget_gathered(&host);
	forget_gathered(&guest);
	if (same(&host, &guest))
		return true;
	note("offset %x, page %d is missing, k1 %llx", offset, page,
	     (unsigned long long)guest.state.k1);
	note("host: fault %d gp %d at %llx; guest: %d %d %llx (vector %u); state %d, memory %d",
	     host.fault, host.gp, (unsigned long long)host.at, guest.fault, guest.gp,
	     (unsigned long long)guest.at, c->fault.vector,
	     !memcmp(&host.state, &guest.state, sizeof(host.state)),
	     !memcmp(host.mem, guest.mem, sizeof(host.mem)));
	return false;
}

static bool has_avx512(void)
{
	unsigned a, b, c, d;

	return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b >> 16 & 1) && (b >> 17 & 1) &&
	       (b >> 30 & 1) && (b >> 31 & 1) && (b >> 28 & 1) && (b >> 5 & 1);
}

/* -- All forms ----------------------------------------------------------------------------- */

static struct vcpu *vcpu;
static unsigned n_forms, n_not_here, n_wrong;

static bool is_here(void)
{
	static struct outcome o;

	host_run(&o, 64, NONE);
	return !undefined;
}

static void try_form(const uint8_t bytes[FORM_LEN])
{
	unsigned wrong = 0;
	struct insn in;

	if (x86_decode(&in, bytes, FORM_LEN, X86_MODE_64) <= 0 || in.kind != X86_MASKED_MEM)
		return;
	code_write(bytes, in.len);
	disp = (unsigned)in.disp;
	if (!is_here()) {
		n_not_here++;
		return;
	}
	n_forms++;
	for (unsigned i = 0; i < CASES_FORM && !wrong; i++) {
		unsigned before = rnd(in.mem_size + 1); /* the second page */

		if (rnd(4) == 0)
			before &= ~15u;
		wrong += !one_case(vcpu, 4096 - before, (enum missing)rnd(3));
	}
	n_wrong += wrong;
	if (wrong)
		note("%s, vl %u, W%u, EVEX.b %d", x86_insn_name(&in), in.vl,
		     in.rex >> 3 & 1, in.enc == X86_EVEX && in.vex[2] & 0x10);
}

static void try_forms(void)
{
	forms(try_form);
	disp = 0;
	is_int(n_wrong, 0, "%u forms out of the opcode table; %u are not in this CPU", n_forms,
	       n_not_here);
	ok(n_forms > 1000, "of which there are many");
	is_int(beyond, 0, "in place is what lies in one page");
}

static void try_insn(unsigned insn)
{
	/* the manual leaves open whether these fault for bytes that they do not store */
	bool open = strstr(insn_names[insn], "maskmovdqu");
	unsigned wrong = 0;

	code_set(insn);
	for (unsigned n = 0; n < CASES_EACH && wrong < 2; n++) {
		unsigned offset = 4096 - rnd(100);

		if (rnd(4) == 0)
			offset &= ~63u;
		wrong += !one_case(vcpu, offset, open || rnd(3) ? NONE : SECOND);
	}
	is_int(wrong, 0, "%s", insn_names[insn]);
}

int main(void)
{
	struct sigaction act = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
	struct vcpu *c = vcpu = interp_cpu();

	if (!has_avx512())
		skip("no AVX-512 F, CD, BW, DQ, VL on this host");
	sigaction(SIGSEGV, &act, NULL);
	sigaction(SIGBUS, &act, NULL);
	sigaction(SIGILL, &act, NULL);
	code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	host_pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			  0);
	native_hook = native;
	cpu_long(c, 0);
	cpu_page(c);
	c->xcr0 = 0xe7;
	c->max_phys_bits = 46;
	for (unsigned i = 0; i < N_INSNS; i++)
		try_insn(i);
	try_forms();
	return done_testing();
}

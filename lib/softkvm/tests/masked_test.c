/* SPDX-License-Identifier: MIT */
/*
 * Masked memory operands, gathers and scatters against the CPU under our feet.
 *
 * Each instruction runs twice from the same registers, with its operand around the border of
 * two pages, the second of which is there or not: by itself in host memory, and by the
 * interpreter in guest memory. Registers, masks, memory, and the fault with its address must
 * agree, so what a mask suppresses is the processor's word.
 *
 *	host    [ page, read-write ][ page, read-write or nothing ]
 *	guest   [ page, mapped     ][ page, mapped or not present ]
 *
 * Built like the engine: between loading a state and saving it nobody else may use vector
 * registers.
 */
#include "softkvm/tests/interp_cpu.h"

#include <cpuid.h>
#include <signal.h>
#include <ucontext.h>

#define GUEST_AT 0x20000u
#define CASES_EACH 300

/* -- Instructions -------------------------------------------------------------------------- */

#define INSNS(X)                                                                             \
	X("vmovdqu8 (%rbx), %zmm1{%k1}")                                                     \
	X("vmovdqu8 (%rbx), %ymm1{%k1}{z}")                                                  \
	X("vmovdqu16 (%rbx), %zmm1{%k1}{z}")                                                 \
	X("vmovdqu32 (%rbx), %zmm1{%k1}")                                                    \
	X("vmovdqu64 (%rbx), %ymm1{%k1}")                                                    \
	X("vmovdqa32 (%rbx), %zmm1{%k1}")                                                    \
	X("vmovups (%rbx), %xmm1{%k1}{z}")                                                   \
	X("vmovdqu8 %zmm1, (%rbx){%k1}")                                                     \
	X("vmovdqu8 %xmm1, (%rbx){%k1}")                                                     \
	X("vmovdqu16 %ymm1, (%rbx){%k1}")                                                    \
	X("vmovdqu32 %zmm1, (%rbx){%k1}")                                                    \
	X("vmovapd %zmm1, (%rbx){%k1}")                                                      \
	X("vmovss (%rbx), %xmm1{%k1}")                                                       \
	X("vmovsd %xmm1, (%rbx){%k1}")                                                       \
	X("vaddss (%rbx), %xmm2, %xmm1{%k1}")                                                \
	X("vpaddb (%rbx), %zmm2, %zmm1{%k1}")                                                \
	X("vpaddw (%rbx), %ymm2, %ymm1{%k1}")                                                \
	X("vpaddd (%rbx), %zmm2, %zmm1{%k1}")                                                \
	X("vpaddq (%rbx), %zmm2, %zmm1{%k1}")                                                \
	X("vpaddd (%rbx){1to16}, %zmm2, %zmm1{%k1}")                                         \
	X("vandpd (%rbx){1to4}, %ymm2, %ymm1{%k1}")                                          \
	X("vpcmpub $1, (%rbx), %zmm2, %k2{%k1}")                                             \
	X("vpcmpeqw (%rbx), %zmm2, %k2{%k1}")                                                \
	X("vpcmpeqb (%rbx), %ymm2, %k2{%k1}")                                                \
	X("vptestmb (%rbx), %zmm2, %k2{%k1}")                                                \
	X("vptestnmw (%rbx), %zmm2, %k2{%k1}")                                               \
	X("vptestmd (%rbx), %zmm2, %k2{%k1}")                                                \
	X("vpblendmb (%rbx), %zmm2, %zmm1{%k1}")                                             \
	X("vpmovzxbd (%rbx), %zmm1{%k1}")                                                    \
	X("vpmovsxbw (%rbx), %zmm1{%k1}")                                                    \
	X("vpmovzxwq (%rbx), %zmm1{%k1}")                                                    \
	X("vpmovsxdq (%rbx), %zmm1{%k1}")                                                    \
	X("vpmovdb %zmm1, (%rbx){%k1}")                                                      \
	X("vpmovwb %zmm1, (%rbx){%k1}")                                                      \
	X("vpmovqw %zmm1, (%rbx){%k1}")                                                      \
	X("vpmovusqd %zmm1, (%rbx){%k1}")                                                    \
	X("vpmovsqb %zmm1, (%rbx){%k1}")                                                     \
	X("vcvtdq2pd (%rbx), %zmm1{%k1}")                                                    \
	X("vcvtdq2pd (%rbx){1to8}, %zmm1{%k1}")                                              \
	X("vcvtph2ps (%rbx), %zmm1{%k1}")                                                    \
	X("vcvtps2ph $0, %zmm1, (%rbx){%k1}")                                                \
	X("vbroadcastf32x4 (%rbx), %zmm1{%k1}")                                              \
	X("vbroadcasti64x4 (%rbx), %zmm1{%k1}")                                              \
	X("vpbroadcastb (%rbx), %zmm1{%k1}")                                                 \
	X("vpbroadcastq (%rbx), %zmm1{%k1}")                                                 \
	X("vpcompressd %zmm1, (%rbx){%k1}")                                                  \
	X("vcompresspd %ymm1, (%rbx){%k1}")                                                  \
	X("vpexpandd (%rbx), %zmm1{%k1}")                                                    \
	X("vexpandpd (%rbx), %zmm1{%k1}{z}")                                                 \
	X("vpermd (%rbx), %zmm2, %zmm1{%k1}")                                                \
	X("vpshufb (%rbx), %zmm2, %zmm1{%k1}")                                               \
	X("vpunpcklbw (%rbx), %zmm2, %zmm1{%k1}")                                            \
	X("vpunpckhdq (%rbx), %zmm2, %zmm1{%k1}")                                            \
	X("vunpcklps (%rbx), %zmm2, %zmm1{%k1}")                                             \
	X("vpackuswb (%rbx), %zmm2, %zmm1{%k1}")                                             \
	X("vpackssdw (%rbx), %zmm2, %zmm1{%k1}")                                             \
	X("vpmaddwd (%rbx), %zmm2, %zmm1{%k1}")                                              \
	X("vpmulhrsw (%rbx), %zmm2, %zmm1{%k1}")                                             \
	X("vpshufd $27, (%rbx), %zmm1{%k1}")                                                 \
	X("vpshufhw $27, (%rbx), %zmm1{%k1}")                                                \
	X("vshufps $27, (%rbx), %zmm2, %zmm1{%k1}")                                          \
	X("vpsllw (%rbx), %zmm2, %zmm1{%k1}")                                                \
	X("vpsllw $3, (%rbx), %zmm1{%k1}")                                                   \
	X("vpsrlvw (%rbx), %zmm2, %zmm1{%k1}")                                               \
	X("vpermilps (%rbx), %zmm2, %zmm1{%k1}")                                             \
	X("vpermilpd $5, (%rbx), %zmm1{%k1}")                                                \
	X("vpermt2d (%rbx), %zmm2, %zmm1{%k1}")                                              \
	X("vpermi2w (%rbx), %zmm2, %zmm1{%k1}")                                              \
	X("vpermq $27, (%rbx), %zmm1{%k1}")                                                  \
	X("vpalignr $3, (%rbx), %zmm2, %zmm1{%k1}")                                          \
	X("valignd $3, (%rbx), %zmm2, %zmm1{%k1}")                                           \
	X("vshuff32x4 $27, (%rbx), %zmm2, %zmm1{%k1}")                                       \
	X("vdbpsadbw $27, (%rbx), %zmm2, %zmm1{%k1}")                                        \
	X("vpconflictd (%rbx), %zmm1{%k1}")                                                  \
	X("vmovddup (%rbx), %zmm1{%k1}")                                                     \
	X("vmovshdup (%rbx), %zmm1{%k1}")                                                    \
	X("vinserti32x4 $2, (%rbx), %zmm2, %zmm1{%k1}")                                      \
	X("vinsertf64x4 $1, (%rbx), %zmm2, %zmm1{%k1}")                                      \
	X("vextracti64x2 $2, %zmm1, (%rbx){%k1}")                                            \
	X("vextractf32x8 $1, %zmm1, (%rbx){%k1}")                                            \
	X("vpternlogq $202, (%rbx), %zmm2, %zmm1{%k1}")                                      \
	X("vpmaskmovd (%rbx), %ymm2, %ymm1")                                                 \
	X("vpmaskmovq %ymm1, %ymm2, (%rbx)")                                                 \
	X("vmaskmovps %xmm1, %xmm2, (%rbx)")                                                 \
	X("vmaskmovpd (%rbx), %ymm2, %ymm1")                                                 \
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

/* VBMI, VBMI2, BITALG, VNNI, GFNI; the host has all of them, or they are not tried. */
#define NEWER_INSNS(X)                                                                       \
	X("vpermb (%rbx), %zmm2, %zmm1{%k1}")                                                \
	X("vpermi2b (%rbx), %zmm2, %zmm1{%k1}")                                              \
	X("vpermt2w (%rbx), %zmm2, %zmm1{%k1}")                                              \
	X("vpmultishiftqb (%rbx), %zmm2, %zmm1{%k1}")                                        \
	X("vpexpandb (%rbx), %zmm1{%k1}")                                                    \
	X("vpexpandw (%rbx), %ymm1{%k1}{z}")                                                 \
	X("vpcompressb %zmm1, (%rbx){%k1}")                                                  \
	X("vpcompressw %zmm1, (%rbx){%k1}")                                                  \
	X("vpshldw $3, (%rbx), %zmm2, %zmm1{%k1}")                                           \
	X("vpshrdd $3, (%rbx), %zmm2, %zmm1{%k1}")                                           \
	X("vpshldvw (%rbx), %zmm2, %zmm1{%k1}")                                              \
	X("vpshrdvw (%rbx), %zmm2, %zmm1{%k1}")                                              \
	X("vpshrdvq (%rbx), %zmm2, %zmm1{%k1}")                                              \
	X("vpopcntb (%rbx), %zmm1{%k1}")                                                     \
	X("vpopcntw (%rbx), %zmm1{%k1}")                                                     \
	X("vpopcntd (%rbx), %zmm1{%k1}")                                                     \
	X("vpshufbitqmb (%rbx), %zmm2, %k2{%k1}")                                            \
	X("vpdpbusd (%rbx), %zmm2, %zmm1{%k1}")                                              \
	X("vpmadd52luq (%rbx), %zmm2, %zmm1{%k1}")                                           \
	X("vgf2p8mulb (%rbx), %zmm2, %zmm1{%k1}")                                            \
	X("vgf2p8affineqb $5, (%rbx), %zmm2, %zmm1{%k1}")                                    \
	X("vgf2p8affineinvqb $5, (%rbx){1to8}, %zmm2, %zmm1{%k1}")

/* The bytes of each, assembled one after the other, with the addresses of their ends. */
#define ASSEMBLE(text) "1: " text "; 2: .pushsection .data.rel.ro,\"aw\"; .quad 1b, 2b; .popsection;\n"
__asm__(".pushsection .data.rel.ro,\"aw\"; .balign 8; insn_table: .popsection;\n"
	".pushsection .text\n" INSNS(ASSEMBLE) NEWER_INSNS(ASSEMBLE) ".popsection\n");
extern const uint8_t *const insn_table[][2] __attribute__((visibility("hidden")));

static const char *const insn_names[] = {
#define NAME(text) text,
	INSNS(NAME) NEWER_INSNS(NAME)
};
#define N_ALL (sizeof(insn_names) / sizeof(insn_names[0]))
#define COUNT(text) +1
enum { N_NEWER = 0 NEWER_INSNS(COUNT) };

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

static void code_set(unsigned insn)
{
	size_t len = (size_t)(insn_table[insn][1] - insn_table[insn][0]);

	memcpy(code, insn_table[insn][0], len);
	code[len] = 0xc3;
}

/* The host runs it on an operand that the interpreter has found. */
static enum step native(struct vcpu *c, const struct insn *in, void *mem)
{
	register void *rbx __asm__("rbx") = mem;

	(void)c, (void)in;
	__asm__ volatile("call *%1" : "+r"(rbx) : "r"(code) : "memory", "cc");
	return STEP_OK;
}

static uint64_t interpret(struct vcpu *c)
{
	return interp_step(c);
}

/* -- One case -------------------------------------------------------------------------------- */

static uint8_t *host_pages;
static volatile bool faulted;
static volatile uint64_t fault_at;
static volatile bool fault_is_gp;

/* A fault of the instruction under test: go on at the RET behind it, registers as they are. */
static void on_fault(int sig, siginfo_t *info, void *context)
{
	ucontext_t *u = context;

	(void)sig;
	if (u->uc_mcontext.gregs[REG_RIP] != (greg_t)(uintptr_t)code)
		_exit(1);
	faulted = true;
	fault_is_gp = info->si_code == SI_KERNEL;
	fault_at = (uint64_t)(uintptr_t)info->si_addr;
	while (*(uint8_t *)u->uc_mcontext.gregs[REG_RIP] != 0xc3 ||
	       u->uc_mcontext.gregs[REG_RIP] == (greg_t)(uintptr_t)code)
		u->uc_mcontext.gregs[REG_RIP]++;
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

static void host_run(struct outcome *o, unsigned offset, bool present)
{
	memcpy(host_pages, o->mem, 8192);
	if (!present)
		mprotect(host_pages + 4096, 4096, PROT_NONE);
	faulted = false;
	call_with(&o->state, code, (uint64_t)(uintptr_t)host_pages + offset);
	mprotect(host_pages + 4096, 4096, PROT_READ | PROT_WRITE);
	o->fault = faulted;
	o->gp = faulted && fault_is_gp;
	o->at = faulted && !o->gp ? fault_at - (uint64_t)(uintptr_t)host_pages : 0;
	memcpy(o->mem, host_pages, 8192);
}

static void guest_run(struct vcpu *c, struct outcome *o, unsigned offset, bool present)
{
	enum step s;

	poke(PTE_OF(GUEST_AT + 0x1000), present ? (GUEST_AT + 0x3000) | 7 : 0, 8);
	memcpy(ram + GUEST_AT, o->mem, 4096);
	memcpy(ram + GUEST_AT + 0x3000, o->mem + 4096, 4096);
	c->rip = CODE_AT;
	memcpy(ram + CODE_AT, code, 16);
	c->gpr[X86_RBX] = c->gpr[X86_RDI] = GUEST_AT + offset;
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

static bool one_case(struct vcpu *c, bool present)
{
	static struct outcome host, guest;
	unsigned offset = 4096 - rnd(100);

	if (rnd(4) == 0)
		offset &= ~63u;
	state_random(&host.state);
	for (unsigned i = 4096 - 300; i < 4096 + 300; i++)
		host.mem[i] = (uint8_t)rnd(256);
	guest = host;
	host_run(&host, offset, present);
	guest_run(c, &guest, offset, present);
	if (same(&host, &guest))
		return true;
	note("offset %x, second page %d, k1 %llx", offset, present,
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

static bool has_newer(void)
{
	const unsigned want = 1u << 1 | 1u << 6 | 1u << 8 | 1u << 11 | 1u << 12 | 1u << 14;
	unsigned a, b, c, d;

	return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (c & want) == want && (b >> 21 & 1);
}

int main(void)
{
	struct sigaction act = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
	struct vcpu *c = interp_cpu();

	if (!has_avx512())
		skip("no AVX-512 F, CD, BW, DQ, VL on this host");
	sigaction(SIGSEGV, &act, NULL);
	sigaction(SIGBUS, &act, NULL);
	code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	host_pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			  0);
	native_hook = native;
	cpu_long(c, 0);
	cpu_page(c);
	c->xcr0 = 0xe7;
	c->max_phys_bits = 46;
	for (unsigned i = 0; i < N_ALL - (has_newer() ? 0 : N_NEWER); i++) {
		/* the manual leaves open whether these fault for bytes that they do not store */
		bool open = strstr(insn_names[i], "maskmovdqu");
		unsigned wrong = 0;

		code_set(i);
		for (unsigned n = 0; n < CASES_EACH && wrong < 2; n++)
			wrong += !one_case(c, open || rnd(3));
		is_int(wrong, 0, "%s", insn_names[i]);
	}
	return done_testing();
}

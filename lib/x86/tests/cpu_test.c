/* SPDX-License-Identifier: MIT */
/*
 * What the decoder notes about an instruction, against the CPU under our feet.
 *
 *	cpu_test [seed [count]]
 *
 * An engine relies on the notes of x86_decode() more than on anything: it renumbers
 * the registers, replaces the memory operand, drops flags that are rewritten. So
 * all memory forms of native instructions, and random ones, are executed, a few times each with
 * a different state before, and the states after must agree with the notes:
 *
 *	registers    none changes that is not noted written; one that is not noted read can be
 *	             anything without a difference
 *	flags        none changes without flags_touch; what flags_w says is the same whatever
 *	             the flags were before; what flags_r does not name makes no difference
 *	memory       mem_size bytes up to the end of a page are enough, one less is not;
 *	             read-only memory is enough if mem_w is false, and not if it is true
 *	undefined    VEX and EVEX encodings that we call undefined are so; what the CPU calls
 *	             undefined and we do not must be something it does not have at all
 *
 * Vector, mask, x87 and MXCSR state is made the same before each run (XRSTOR), from
 * a random image with all exceptions masked. A run is a few instructions around the
 * one in question, on a page at a low address; it leaves through a signal if it
 * faults.
 */
#include <cpuid.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "tests/tap.h"
#include "x86/tests/forms.h"

/* Everything below 2 GiB, so that 32-bit displacements reach it. */
#define CODE 0x20000000ul /* the stub, then the state */
#define DATA 0x20100000ul /* the page with the operand at its end; then nothing */
#define PAGE 4096ul

/* What the stub loads and stores, at CODE + PAGE. */
struct state {
	uint64_t gpr[16];
	uint64_t flags;
	uint64_t host_rsp;
};

static struct state *const live = (void *)(CODE + PAGE);
static uint8_t *const code = (void *)CODE;
static uint8_t *const data = (void *)DATA;
static uint8_t *xsave_image; /* of vector and x87 state */

/* -- Running one instruction ------------------------------------------------------- */

static sigjmp_buf jump;
static volatile sig_atomic_t running;

static void on_signal(int sig)
{
	if (!running)
		_Exit(2);
	siglongjmp(jump, sig);
}

static unsigned put(unsigned at, const void *bytes, unsigned n)
{
	memcpy(code + at, bytes, n);
	return at + n;
}

/* mov reg, [abs32] or mov [abs32], reg */
static unsigned put_mov(unsigned at, bool store, unsigned reg, uint64_t address)
{
	uint8_t b[8] = {0x48 | (reg & 8) >> 1, store ? 0x89 : 0x8b, 4 | (reg & 7) << 3,
			0x25};

	memcpy(b + 4, &address, 4);
	return put(at, b, 8);
}

static unsigned put_push_pop(unsigned at, bool pop, uint64_t address)
{
	uint8_t b[7] = {pop ? 0x8f : 0xff, pop ? 0x04 : 0x34, 0x25};

	memcpy(b + 3, &address, 4);
	return put(at, b, 7);
}

static void write_stub(const uint8_t *insn, unsigned len)
{
	uint64_t host_rsp = (uint64_t)&live->host_rsp, flags = (uint64_t)&live->flags;
	unsigned at = 0;

	at = put_mov(at, true, X86_RSP, host_rsp);
	at = put_push_pop(at, false, flags);
	at = put(at, "\x9d", 1); /* popf */
	for (unsigned r = 0; r < 16; r++)
		at = put_mov(at, false, r, (uint64_t)&live->gpr[r]);
	at = put(at, insn, len);
	for (unsigned r = 0; r < 16; r++)
		at = put_mov(at, true, r, (uint64_t)&live->gpr[r]);
	at = put_mov(at, false, X86_RSP, host_rsp);
	at = put(at, "\x9c", 1); /* pushf */
	at = put_push_pop(at, true, flags);
	put(at, "\xc3", 1);
}

/* Returns 0 or the signal; *s is the state before, and after. */
static int run_once(struct state *s)
{
	int sig;

	*live = *s;
	running = 1;
	sig = sigsetjmp(jump, 1);
	if (sig == 0) {
		__asm__ volatile("xrstor64 %0" : : "m"(*xsave_image), "a"(-1), "d"(-1));
		__asm__ volatile(
			"push %%rbx; push %%rbp; push %%r12; push %%r13; push %%r14\n\t"
			"push %%r15; sub $8, %%rsp; call *%%rax; add $8, %%rsp\n\t"
			"pop %%r15; pop %%r14; pop %%r13; pop %%r12; pop %%rbp; pop %%rbx"
			:
			: "a"(CODE)
			: "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "cc",
			  "memory");
	}
	running = 0;
	__asm__ volatile("xrstor64 %0" : : "m"(*xsave_image), "a"(-1), "d"(-1));
	*s = *live;
	s->flags &= X86_ARITH;
	return sig;
}

static unsigned long unsure; /* times that the second run took #UD back */

/*
 * #UD counts if it comes again. Guests of one hypervisor (Linux 6.18 on Zen 5, with other work on its
 * cores) get one now and then for an instruction that they executed before, and execute again.
 */
static int run(struct state *s)
{
	const struct state before = *s;
	int sig = run_once(s);

	if (sig != SIGILL)
		return sig;
	*s = before;
	sig = run_once(s);
	unsure += sig != SIGILL;
	return sig;
}

/* -- Random things ----------------------------------------------------------------- */

static uint64_t seed;

static uint64_t rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed * 0x2545f4914f6cdd1d >> 8;
}

static uint64_t random_value(void)
{
	switch (rnd() & 3) {
	case 0: return rnd() & 0xff;
	case 1: return -(rnd() & 3);
	default: return rnd() << 32 ^ rnd();
	}
}

/*
 * Legacy maps, VEX, EVEX in equal parts; nothing that leaves, and no segment overrides.
 */
static void draw(uint8_t *p)
{
	static const uint8_t prefix[] = {0x66, 0xf2, 0xf3, 0xf0};
	unsigned n = 0, what = rnd() % 4;

	for (unsigned i = 0; i < 16; i++)
		p[i] = rnd();
	if (what < 2) {
		if (rnd() & 1)
			p[n++] = prefix[rnd() & 3];
		if (rnd() & 1)
			p[n++] = 0x40 | (rnd() & 15);
		if (rnd() & 3)
			p[n++] = 0x0f;
		if (what == 1 && n && p[n - 1] == 0x0f && rnd() % 3 == 0)
			p[n++] = rnd() & 1 ? 0x38 : 0x3a;
	} else if (what == 2) {
		p[n++] = 0xc4;
		p[n++] = (rnd() & 0xe0) | (1 + rnd() % 3);
		p[n++] = (rnd() & 0x87) | (rnd() & 1 ? 0x78 : rnd() & 0x78);
	} else {
		static const uint8_t map[] = {1, 2, 2, 3, 5, 6};

		p[n++] = 0x62;
		p[n++] = (rnd() & 0xf0) | map[rnd() % 6];
		p[n++] = (rnd() & 0x83) | 4 | (rnd() & 1 ? 0x78 : rnd() & 0x78);
		p[n++] = (rnd() & 0x60) | (rnd() & 1 ? 8 : rnd() & 8) |
			 (rnd() & 1 ? 0 : rnd() & 0x97);
	}
}

/* -- Judging ----------------------------------------------------------------------- */

struct trial {
	struct insn in;
	uint8_t bytes[16];
	struct state before, after;
	uint64_t target; /* of the memory operand */
	uint8_t memory[64];
	const char *what; /* the contradiction */
};

enum { ROWS = 4096 };

static unsigned long ran, undefined, contradictions;
static bool row_ran[ROWS], row_refused[ROWS];
static const char *row_name[ROWS];

static unsigned registers_read(const struct insn *in)
{
	unsigned set = in->gpr_r;

	if (in->reg_r)
		set |= 1u << (in->f_reg == X86_F_GPR8 && !in->rex ? in->reg & 3
								  : in->reg);
	if (in->rm_r && !in->has_mem) {
		unsigned rm = in->oreg != X86_REG_NONE ? in->oreg : in->rm;

		set |= 1u << (in->f_rm == X86_F_GPR8 && !in->rex ? rm & 3 : rm);
	}
	if (in->vvvv_r)
		set |= 1u << in->vvvv;
	if (in->has_mem && in->base < 16)
		set |= 1u << in->base;
	if (in->has_mem && in->index < 16)
		set |= 1u << in->index;
	return set;
}

static unsigned registers_written(const struct insn *in)
{
	unsigned set = in->gpr_w;

	if (in->reg_w)
		set |= 1u << (in->f_reg == X86_F_GPR8 && !in->rex ? in->reg & 3
								  : in->reg);
	if (in->rm_w && !in->has_mem) {
		unsigned rm = in->oreg != X86_REG_NONE ? in->oreg : in->rm;

		set |= 1u << (in->f_rm == X86_F_GPR8 && !in->rex ? rm & 3 : rm);
	}
	if (in->vvvv_w)
		set |= 1u << in->vvvv;
	return set;
}

/* Registers such that the operand lies at target; false if that is not to be had. */
static bool aim(const struct insn *in, struct state *s, uint64_t target)
{
	uint64_t want = target - in->disp;

	if (in->base == X86_RIP || in->base == X86_REG_NONE || in->seg != X86_SEG_NONE)
		return false;
	if (in->index == in->base || in->prefix & X86_PFX_67)
		return false;
	if (in->index != X86_REG_NONE) {
		s->gpr[in->index] = rnd() & 0xff;
		want -= s->gpr[in->index] * in->scale;
	}
	s->gpr[in->base] = want;
	/* An operand that is both address and count or divisor proves nothing. */
	return true;
}

static void set_up(struct trial *t)
{
	for (unsigned r = 0; r < 16; r++)
		t->before.gpr[r] = random_value();
	t->before.flags = (rnd() & X86_ARITH) | 0x202;
	for (unsigned i = 0; i < sizeof(t->memory); i++)
		t->memory[i] = rnd();
}

static int go(struct trial *t, struct state *s)
{
	if (t->in.has_mem)
		memcpy(data + PAGE - 64, t->memory, 64);
	return run(s);
}

static bool contradicts(struct trial *t, const char *what)
{
	t->what = what;
	return true;
}

/* After a run that did not fault: nothing is changed that should not be. */
static bool wrong_writes(struct trial *t)
{
	const struct insn *in = &t->in;
	unsigned w = registers_written(in);

	for (unsigned r = 0; r < 16; r++)
		if (!(w & 1u << r) && t->after.gpr[r] != t->before.gpr[r])
			return contradicts(
				t, "changes a register that is not noted written");
	if (!in->flags_touch && t->after.flags != (t->before.flags & X86_ARITH))
		return contradicts(t, "changes flags without flags_touch");
	if (in->has_mem && !in->mem_w && memcmp(data + PAGE - 64, t->memory, 64))
		return contradicts(t, "writes memory");
	if (in->has_mem && in->mem_size <= 64 &&
	    memcmp(data + PAGE - 64, t->memory, 64 - in->mem_size))
		return contradicts(t, "writes below its memory operand");
	return false;
}

/* Runs again with other values in what is noted not to matter. */
static bool wrong_reads(struct trial *t)
{
	const struct insn *in = &t->in;
	unsigned r = registers_read(in), w = registers_written(in);
	struct state again = t->before;
	uint8_t memory[64];
	int sig;

	memcpy(memory, data + PAGE - 64, 64);
	for (unsigned i = 0; i < 16; i++)
		if (!(r & 1u << i))
			again.gpr[i] = random_value();
	again.flags ^= rnd() & X86_ARITH & ~in->flags_r;
	sig = go(t, &again);
	if (sig)
		return contradicts(t, "faults by what is noted not to matter");
	for (unsigned i = 0; i < 16; i++)
		if (w & 1u << i && again.gpr[i] != t->after.gpr[i])
			return contradicts(t, "depends on what is noted not to matter");
	if ((again.flags ^ t->after.flags) & in->flags_w)
		return contradicts(t, "flags_w depends on what is noted not to matter");
	if (in->has_mem && memcmp(memory, data + PAGE - 64, 64))
		return contradicts(t, "memory depends on what is noted not to matter");
	return false;
}

/* MOVSXD with 66 reads two bytes on Intel's CPUs, and four, as the table says, on AMD's. */
static bool is_short_movsxd(const struct insn *in)
{
	return in->map == X86_MAP_1B && in->op == 0x63 && in->opsize == 2 && __builtin_cpu_is("intel");
}

static bool wrong_memory(struct trial *t)
{
	const struct insn *in = &t->in;
	struct state s = t->before;
	int sig;

	mprotect(data, PAGE, PROT_READ);
	sig = run(&s);
	mprotect(data, PAGE, PROT_READ | PROT_WRITE);
	if (!sig == in->mem_w)
		return contradicts(t, in->mem_w ? "does not write" : "writes");
	s = t->before;
	aim(in, &s, DATA + PAGE - in->mem_size + 1);
	if (!go(t, &s) && !is_short_movsxd(in))
		return contradicts(t, "needs fewer bytes than mem_size");
	return false;
}

static bool judge_native(struct trial *t)
{
	const struct insn *in = &t->in;
	int sig;

	row_name[in->row % ROWS] = x86_insn_name(in);
	if (in->has_mem) {
		if (in->mem_size > 64 ||
		    !aim(in, &t->before,
			 DATA + PAGE - (in->mem_size ? in->mem_size : 1)))
			return false;
	}
	t->after = t->before;
	sig = go(t, &t->after);
	switch (sig) {
	case 0: break;
	case SIGILL: row_refused[in->row % ROWS] = true; return false;
	case SIGFPE:
		return in->can_trap ? false : contradicts(t, "traps without can_trap");
	default: return contradicts(t, "needs more bytes than mem_size");
	}
	ran++;
	row_ran[in->row % ROWS] = true;
	if (wrong_writes(t) || wrong_reads(t))
		return true;
	return in->has_mem && in->mem_size && wrong_memory(t);
}

/*
 * LDMXCSR wants bits that random memory has not; RDRAND and RDSEED are never the same.
 */
static bool is_wayward(const struct insn *in)
{
	return in->map == X86_MAP_0F &&
	       (in->op == 0xae || (in->op == 0xc7 && in->mod == 3));
}

static bool judge(struct trial *t)
{
	struct state s;

	if (x86_decode(&t->in, t->bytes, sizeof(t->bytes), X86_MODE_64) <= 0)
		return false;
	if (is_wayward(&t->in))
		return false;
	set_up(t);
	write_stub(t->bytes, t->in.len);
	if (t->in.kind == X86_NATIVE)
		return judge_native(t);
	if (t->in.kind != X86_UD || t->in.enc == X86_LEGACY)
		return false;
	/* AMD takes VPERMQ and VPERMPD without W as well. */
	if (t->in.map == X86_MAP_0F3A && t->in.op < 2)
		return false;
	undefined++;
	s = t->before;
	return run(&s) != SIGILL && contradicts(t, "is not undefined");
}

/* -- Set-up ------------------------------------------------------------------------ */

static bool make_pages(void)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;

	return mmap(code, 2 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, flags, -1, 0) ==
		       code &&
	       mmap(data, PAGE, PROT_READ | PROT_WRITE, flags, -1, 0) == data;
}

/* A random image of all state components; x87 and MXCSR exceptions masked. */
static bool make_image(void)
{
	unsigned a, b, c, d, low, high;

	if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE))
		return false;
	__asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	__cpuid_count(13, 0, a, b, c, d);
	xsave_image = aligned_alloc(64, (b + 63) & ~63u);
	if (!xsave_image)
		return false;
	memset(xsave_image, 0, b);
	for (unsigned i = 160; i < b; i++)
		if ((i < 416 || i >= 576) && low)
			xsave_image[i] = rnd();
	*(uint16_t *)xsave_image = 0x37f;         /* FCW */
	*(uint32_t *)(xsave_image + 24) = 0x1f80; /* MXCSR */
	*(uint64_t *)(xsave_image + 512) = low & 0xe7;
	return true;
}

static void catch_signals(void)
{
	static const int signals[] = {SIGILL, SIGSEGV, SIGBUS, SIGFPE, SIGTRAP};
	static uint8_t stack[64 << 10];
	stack_t ss = {.ss_sp = stack, .ss_size = sizeof(stack)};
	struct sigaction sa = {.sa_handler = on_signal,
			       .sa_flags = SA_ONSTACK | SA_NODEFER};

	sigaltstack(&ss, NULL);
	for (unsigned i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		sigaction(signals[i], &sa, NULL);
}

static void report(const struct trial *t)
{
	char hex[64];
	unsigned n = 0;

	for (unsigned i = 0; i < t->in.len; i++)
		n += snprintf(hex + n, sizeof(hex) - n, " %02x", t->bytes[i]);
	if (contradictions <= 60)
		note("%s:%s %s", x86_insn_name(&t->in), hex, t->what);
}

static void try_bytes(const uint8_t *bytes)
{
	struct trial t = {0};

	memcpy(t.bytes, bytes, sizeof(t.bytes));
	if (!judge(&t))
		return;
	contradictions++;
	report(&t);
}

static void try_form(const uint8_t bytes[FORM_LEN])
{
	struct insn in;

	if (x86_decode(&in, bytes, FORM_LEN, X86_MODE_64) > 0 && in.kind == X86_NATIVE && in.has_mem)
		try_bytes(bytes);
}

/*
 * A row of the opcode table is had or not; sometimes refused means a rule that we miss.
 */
static void judge_rows(void)
{
	unsigned had = 0, never = 0, torn = 0;

	for (unsigned i = 0; i < ROWS; i++) {
		had += row_ran[i];
		if (!row_refused[i])
			continue;
		never += !row_ran[i];
		torn += row_ran[i];
		if (row_ran[i])
			note("%s is refused sometimes", row_name[i]);
	}
	is_int(torn, 0, "%u rows of the opcode table ran, %u this CPU does not have",
	       had, never);
}

static void note_missing(void)
{
	for (unsigned i = 0; i < ROWS; i++)
		if (row_refused[i] && !row_ran[i])
			note("not had: %s", row_name[i]);
}

int main(int argc, char **argv)
{
	unsigned long count = argc > 2 ? strtoul(argv[2], NULL, 0) : 60000;

	seed = (argc > 1 ? strtoull(argv[1], NULL, 0) : 1) * 0x9e3779b97f4a7c15 | 1;
	if (!make_pages() || !make_image()) {
		skip("no XSAVE, or the low addresses are taken");
		return done_testing();
	}
	catch_signals();
	forms(try_form);
	for (unsigned long i = 0; i < count; i++) {
		uint8_t bytes[16];

		draw(bytes);
		try_bytes(bytes);
	}
	is_int(contradictions, 0, "%lu native instructions, %lu undefined ones", ran,
	       undefined);
	judge_rows();
	if (unsure)
		note("%lu times an instruction was undefined once and not again", unsure);
	if (argc > 2)
		note_missing();
	return done_testing();
}

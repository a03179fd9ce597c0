/* SPDX-License-Identifier: MIT */
/*
 * Are two outcomes the same, and if not, where?
 */
#include "insn.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *const gpr_names[16] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
					  "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};

struct text {
	char *at;
	size_t left;
};

static void __attribute__((format(printf, 2, 3))) say(struct text *t, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(t->at, t->left, fmt, ap);
	va_end(ap);
	if (n > 0 && (size_t)n < t->left) {
		t->at += n;
		t->left -= (size_t)n;
	}
}

static void number(struct text *t, const char *name, uint64_t want, uint64_t got)
{
	if (want != got)
		say(t, "%s(%llx,%llx) ", name, (unsigned long long)want, (unsigned long long)got);
}

/* The host's kernel does not tell a process what is mapped in the upper half. */
static uint32_t page_fault_code(const struct outcome *o)
{
	return o->cr2 >= 0x7ffffffff000 ? o->error | 1 : o->error;
}

static bool is_plain(const struct insn *in)
{
	switch (in->kind) {
	case X86_NATIVE: case X86_CLC_STC_CMC: case X86_LEA: case X86_NOP: case X86_PAUSE:
	case X86_PUSH_R: case X86_PUSH_M: case X86_PUSH_I: case X86_POP_R: case X86_POP_M:
	case X86_LEAVE: case X86_BT_MEM: case X86_MASKED_MEM: case X86_MOV_SEG_R:
	case X86_RDFSGSBASE: case X86_CLD: case X86_STD:
		return true;
	case X86_MOVS: case X86_STOS: case X86_LODS:
		return !(in->prefix & (X86_PFX_F2 | X86_PFX_F3));
	default:
		return false;
	}
}

/* The instruction that is at `at` in the end: cases write over their own code, too. */
static bool insn_now(const struct test_case *t, const struct outcome *o, uint64_t at,
		     struct insn *in)
{
	enum x86_mode mode = t->is_32bit ? X86_MODE_32 : X86_MODE_64;

	for (unsigned p = 0; p < CODE_PAGES; p++)
		if (at - page_at(t->layout, p) < PAGE && o->changed >> p & 1)
			return x86_decode(in, o->page[p] + at % PAGE, PAGE - at % PAGE, mode) > 0;
	return case_insn(t, at, in) != NULL;
}

/*
 * The arithmetic flags that count when a case faults at rip: those that the code from there on
 * reads. The translator does not keep the others, which are written anew before they are read;
 * ERRATA has this. What ends a block reads all.
 */
static uint64_t flags_that_count(const struct test_case *t, const struct outcome *o)
{
	uint64_t live = 0, dead = 0, at = o->rip;
	struct insn in;

	for (; insn_now(t, o, at, &in); at += in.len) {
		if (!is_plain(&in))
			break;
		live |= in.flags_r & ~dead;
		dead |= in.flags_w;
		if ((in.flags_w & (X86_ZF | X86_SF | X86_PF)) == (X86_ZF | X86_SF | X86_PF))
			dead |= X86_AF | X86_OF; /* undefined, but always the same */
	}
	return live | ~dead;
}

/*
 * An instruction that the CPU does not have is #UD, whatever its operand. In softkvm the CPU says
 * so when its operand has been found; a guest gets there when it has mapped the operand.
 */
static bool is_late_undefined(const struct test_case *t, const struct outcome *a,
			      const struct outcome *b)
{
	struct insn in;

	return a->vector == 6 && a->rip == b->rip && b->vector >= 12 && b->vector <= 14 &&
	       case_insn(t, a->rip, &in) && in.kind != X86_UD && in.simd && in.has_mem;
}

/* `b` wanted more of the instruction, in a page that is missing; `a` knew that it is undefined. */
static bool wants_more(const struct outcome *a, const struct outcome *b)
{
	return a->vector == 6 && b->vector == 14 && b->error & 16 && a->rip == b->rip &&
	       b->cr2 % PAGE == 0 && b->cr2 - b->rip < 15;
}

/* How much of an undefined instruction must be there to know it: in softkvm all of it, and of a map of opcodes
 * that has none (VEX, EVEX) only the opcode; on CPUs it differs. */
static bool is_fetched_in_part(const struct outcome *a, const struct outcome *b)
{
	return wants_more(a, b) || wants_more(b, a);
}

/* POPF may have set AC, and the host's kernel has CR0.AM. */
static bool is_misaligned(const struct outcome *a)
{
	return a->vector == 17;
}

/*
 * With an FS or GS prefix AMD's CPUs want the offset to be canonical, and not only its sum with
 * the base; and in 32-bit code the last byte of an operand may lie beyond the limit of 4 GiB, which
 * counts before or after a page fault of the first.
 */
static bool is_bad_offset(const struct test_case *t, const struct outcome *a,
			  const struct outcome *b)
{
	struct insn in;

	if (!case_insn(t, a->rip, &in) || (in.seg != X86_FS && in.seg != X86_GS))
		return false;
	return a->vector == 13 ||
	       (t->is_32bit && a->rip == b->rip && a->vector == 14 && b->vector == 13);
}

/* At the end of the lower half, where nothing can be mapped: #PF for the beginning of an operand,
 * or #GP or #SS for its end? */
static bool is_at_the_edge(const struct outcome *a, const struct outcome *b)
{
	return a->vector == 14 && a->cr2 >> 12 == 0x7ffffffff &&
	       (b->vector == 12 || b->vector == 13) && a->rip == b->rip;
}

/* In 32-bit code an operand that begins below 4 GiB and ends above: does it wrap around? */
static bool is_wrapped(const struct test_case *t, const struct outcome *a,
		       const struct outcome *b)
{
	const struct outcome *pf = a->vector == 14 ? a : b, *gp = pf == a ? b : a;

	return t->is_32bit && a->rip == b->rip && pf->vector == 14 && (uint32_t)(pf->cr2 + PAGE) < 2 * PAGE &&
	       (gp->vector == 12 || gp->vector == 13);
}

/* In 64-bit code an operand at a 32-bit address that ends above 4 GiB goes on there; but not that of
 * instructions that the CPU makes of several accesses, which compute each one's address. */
static bool is_wrapped_piecewise(const struct test_case *t, const struct outcome *a)
{
	struct insn in;

	return !t->is_32bit && a->vector == 14 && a->cr2 < PAGE && case_insn(t, a->rip, &in) &&
	       in.adsize == 4 && (in.x87 || in.kind != X86_NATIVE);
}

/* An indirect jump to no canonical address faults in softkvm when it is done; ERRATA has it. */
static bool is_astray(const struct outcome *a, const struct outcome *b)
{
	return a->vector == 13 && b->vector == 13 &&
	       (uint64_t)((int64_t)(b->rip << 16) >> 16) != b->rip;
}

/*
 * Instructions that load several words. Which of them is at fault first is the CPU's own affair,
 * and so is what POPA has loaded by then; RETF and IRET to a wrong selector look at what lies
 * beyond it on the stack first.
 */
static bool is_half_done(const struct test_case *t, const struct outcome *a,
			 const struct outcome *b)
{
	struct insn in;

	if (a->rip != b->rip || a->vector < 12 || a->vector > 14 || !case_insn(t, a->rip, &in))
		return false;
	return (in.kind == X86_POPA && a->vector == b->vector) ||
	       ((in.kind == X86_RETF || in.kind == X86_IRET) && a->vector == 14 &&
		b->vector != 12);
}

/* Have the bytes at `at` been written over? */
static bool is_overwritten(const struct test_case *t, const struct outcome *o, uint64_t at,
			   unsigned len)
{
	struct insn in;
	const uint8_t *bytes = case_insn(t, at, &in);
	uint64_t p = (at - layouts[t->layout].code) / PAGE;

	return bytes && at % PAGE + len <= PAGE && p < CODE_PAGES &&
	       o->changed >> p & 1 && memcmp(o->page[p] + at % PAGE, bytes, len);
}

/*
 * A string instruction with REP that writes over itself: the CPU goes on with it until something
 * makes it fetch again, such as an interrupt of the host.
 */
static bool is_its_own_end(const struct test_case *t, const struct outcome *a,
			   const struct outcome *b)
{
	struct insn in;

	for (unsigned i = 0; i < t->n_pieces; i++) {
		uint64_t at = t->piece[i].at;

		if (case_insn(t, at, &in) && (in.kind == X86_STOS || in.kind == X86_MOVS) &&
		    in.prefix & (X86_PFX_F2 | X86_PFX_F3) &&
		    (is_overwritten(t, a, at, in.len) || is_overwritten(t, b, at, in.len)))
			return true;
	}
	return false;
}

/* With TF set a gather that faults half way is traced up to there on the CPU, before it faults. */
static bool is_traced_gather(const struct test_case *t, const struct outcome *a,
			     const struct outcome *b)
{
	struct insn in;

	return a->vector == 1 && b->vector >= 12 && b->vector <= 14 && a->rip == b->rip &&
	       case_insn(t, a->rip, &in) && in.kind == X86_GATHER;
}

static bool has_x87_error(const struct outcome *o)
{
	return o->vectors[2] & 0x80; /* FSW.ES */
}

/* MMX registers to memory, as one that is vector code for the table */
static bool is_mmx_store(const struct insn *in)
{
	return in->simd && in->enc == X86_LEGACY && in->map == X86_MAP_0F && in->mem_w && in->mem_size <= 8 &&
	       (in->op == 0x7e || in->op == 0x7f || in->op == 0xe7) && !(in->prefix & (X86_PFX_66 | X86_PFX_F3));
}

/*
 * What Intel's CPUs have done by the time that they fault. An x87 store looks at the value first, and stores nothing where
 * that raises an exception; of ten bytes across pages it stores what lies in the first. A store of an MMX register has
 * taken the x87 registers. A call to no canonical address has stored its return address. XRSTOR's page may be missing
 * before its address is not aligned; of MASKMOV's pages it may be the second; a gather has done some of its elements, VCVTPS2PH has set
 * MXCSR's flags. And an operand of 32-bit code that ends above 4 GiB goes on at 0.
 */
static bool is_half_done_by_intel(const struct test_case *t, const struct outcome *a,
				  const struct outcome *b)
{
	struct insn in;

	if (!native_host.is_intel || b->vector < 12 || b->vector > 14 || !case_insn(t, b->rip, &in))
		return false;
	if (in.x87 && in.mem_w && has_x87_error(a) && !has_x87_error(b))
		return true;
	if (t->layout == TOP_32 && t->is_32bit && b->vector != 14)
		return true;
	if (a->rip != b->rip || a->vector < 12 || a->vector > 14)
		return false;
	if (in.kind == X86_XRSTOR || in.kind == X86_XRSTORS)
		return true;
	if (in.kind == X86_MASKMOV)
		return true;
	if (a->vector != b->vector)
		return false;
	if (in.simd && in.mem_w && (in.op == 0x1d || in.kind == X86_MASKED_MEM))
		return true;
	return in.kind == X86_GATHER || (in.x87 && in.mem_w && in.mem_size == 10) || is_mmx_store(&in) || in.kind == X86_CALL_RM;
}

/* Decimal arithmetic leaves flags that the manual calls undefined, and a branch may ask for: softkvm's are AMD's. */
static bool has_other_decimals(const struct test_case *t)
{
	struct insn in;

	for (unsigned i = 0; i < t->n_pieces && native_host.is_intel; i++)
		if (case_insn(t, t->piece[i].at, &in) && in.kind == X86_BCD)
			return true;
	return false;
}

static bool is_tolerated(const struct test_case *t, const struct outcome *a,
			 const struct outcome *b)
{
	return is_late_undefined(t, a, b) || is_fetched_in_part(a, b) || is_bad_offset(t, a, b) ||
	       is_at_the_edge(a, b) || is_misaligned(a) ||
	       is_wrapped(t, a, b) || is_wrapped_piecewise(t, a) || is_astray(a, b) ||
	       is_half_done(t, a, b) || is_its_own_end(t, a, b) || is_traced_gather(t, a, b) ||
	       is_half_done_by_intel(t, a, b) || has_other_decimals(t);
}

/* Which word of several is at fault first, is the CPU's own affair. */
static bool same_cr2(const struct test_case *t, const struct outcome *a, const struct outcome *b)
{
	struct insn in;

	return a->cr2 == b->cr2 || (a->cr2 >> 12 == b->cr2 >> 12 && case_insn(t, a->rip, &in) &&
				    in.kind != X86_NATIVE);
}

static void compare_fault(struct text *t, const struct test_case *c, const struct outcome *a,
			  const struct outcome *b)
{
	number(t, "vector", a->vector, b->vector);
	if (a->vector != b->vector)
		return;
	if (a->vector == 14) {
		if (!same_cr2(c, a, b))
			number(t, "cr2", a->cr2, b->cr2);
		number(t, "error", page_fault_code(a), page_fault_code(b));
	} else {
		number(t, "error", a->error, b->error);
	}
}

/* REP CMPS and SCAS that fault half way leave the flags of the last element, or those of before if
 * the CPU was interrupted right there. */
static bool is_comparing(const struct test_case *t, const struct outcome *o)
{
	struct insn in;

	return o->vector != 3 && insn_now(t, o, o->rip, &in) &&
	       (in.kind == X86_CMPS || in.kind == X86_SCAS) &&
	       in.prefix & (X86_PFX_F2 | X86_PFX_F3);
}

static void compare_flags(struct text *t, const struct test_case *c, const struct outcome *a,
			  const struct outcome *b, bool exact)
{
	uint64_t mask = ~0ull;

	if (!exact && a->vector != 3 && a->rip == b->rip)
		mask = flags_that_count(c, b);
	if (is_comparing(c, a))
		mask &= ~(uint64_t)X86_ARITH;
	if ((a->flags ^ b->flags) & mask)
		number(t, "flags", a->flags, b->flags);
}

/* IRET makes null selectors 0, so any interrupt of the host does. */
static uint16_t selector(uint16_t s)
{
	return s & ~3 ? s : 0;
}

static void compare_registers(struct text *t, const struct outcome *a, const struct outcome *b)
{
	for (unsigned i = 0; i < 16; i++)
		number(t, gpr_names[i], a->gpr[i], b->gpr[i]);
	number(t, "rip", a->rip, b->rip);
	number(t, "cs", a->cs, b->cs);
	number(t, "ss", a->ss, b->ss);
	number(t, "ds", selector(a->sel_ds), selector(b->sel_ds));
	number(t, "es", selector(a->sel_es), selector(b->sel_es));
	number(t, "fs", selector(a->sel_fs), selector(b->sel_fs));
	number(t, "gs", selector(a->sel_gs), selector(b->sel_gs));
	if (!native_lost_fs(a))
		number(t, "fs.base", a->fs, b->fs);
	if (!native_lost_gs(a, b))
		number(t, "gs.base", a->gs, b->gs);
}

static unsigned word_at(const uint8_t *p, unsigned at)
{
	return p[at] | (unsigned)p[at + 1] << 8;
}

static void compare_x87(struct text *t, const uint8_t *a, const uint8_t *b)
{
	number(t, "fcw", word_at(a, 0), word_at(b, 0));
	number(t, "fsw", word_at(a, 2), word_at(b, 2));
	number(t, "ftw", a[4], b[4]);
	number(t, "mxcsr", word_at(a, 24) | word_at(a, 26) << 16,
	       word_at(b, 24) | word_at(b, 26) << 16);
	for (unsigned i = 0; i < 8; i++)
		if (memcmp(a + 32 + 16 * i, b + 32 + 16 * i, 10))
			say(t, "st%u ", i);
}

static void compare_file(struct text *t, const char *name, unsigned first, unsigned size,
			 unsigned len, const uint8_t *a, const uint8_t *b)
{
	for (unsigned i = 0; i < len / size; i++) {
		const uint8_t *x = a + i * size, *y = b + i * size;
		uint64_t v = 0, w = 0;

		if (!memcmp(x, y, size))
			continue;
		for (unsigned k = 0; k < size; k += 8) {
			memcpy(&v, x + k, 8);
			memcpy(&w, y + k, 8);
			if (v != w)
				break;
		}
		say(t, "%s%u(%llx,%llx) ", name, first + i, (unsigned long long)v,
		    (unsigned long long)w);
	}
}

static void compare_vectors(struct text *t, const uint8_t *a, const uint8_t *b)
{
	static const struct {
		unsigned component;
		const char *name;
		unsigned first, size;
	} files[] = {{2, "ymm", 0, 16}, {5, "k", 0, 8}, {6, "zmm", 0, 32}, {7, "zmm", 16, 64}};

	compare_x87(t, a, b);
	compare_file(t, "xmm", 0, 16, 256, a + 160, b + 160);
	for (unsigned i = 0; i < 4; i++) {
		const struct component *c = &components[files[i].component];

		compare_file(t, files[i].name, files[i].first, files[i].size, c->len, a + c->at,
			     b + c->at);
	}
}

static void compare_memory(struct text *t, const struct test_case *c, const struct outcome *a,
			   const struct outcome *b)
{
	uint32_t both = a->changed & b->changed, either = a->changed | b->changed;

	for (unsigned p = 0; p < PAGES; p++) {
		unsigned i = 0;

		if (!(either >> p & 1))
			continue;
		if (!(both >> p & 1)) {
			say(t, "page@%llx(%s) ", (unsigned long long)page_at(c->layout, p),
			    a->changed >> p & 1 ? "changed,not" : "not,changed");
			continue;
		}
		while (i < PAGE && a->page[p][i] == b->page[p][i])
			i++;
		if (i < PAGE)
			say(t, "memory@%llx(%02x,%02x) ",
			    (unsigned long long)page_at(c->layout, p) + i, a->page[p][i],
			    b->page[p][i]);
	}
}

/* One that has no end, as far as softkvm can tell, but FS and GS base in it: some kernels lose these at a switch of
 * tasks (docs/why/gsbase.md), and then it faults natively. */
static bool is_ended_by_host(const struct test_case *t, const struct outcome *a)
{
	struct insn in;

	return !native_host.keeps_bases && (a->vector == 13 || a->vector == 14) && case_insn(t, a->rip, &in) &&
	       (in.seg == X86_FS || in.seg == X86_GS);
}

void outcome_compare(const struct test_case *c, const struct outcome *native,
		     const struct outcome *guest, bool exact, char *out, size_t size)
{
	struct text t = {out, size};

	*out = 0;
	if (guest->status == ENDLESS && is_ended_by_host(c, native))
		return;
	if (guest->status != RAN) {
		say(&t, "%s", guest->why);
		return;
	}
	if (is_tolerated(c, native, guest))
		return;
	compare_fault(&t, c, native, guest);
	compare_registers(&t, native, guest);
	compare_flags(&t, c, native, guest, exact);
	compare_vectors(&t, native->vectors, guest->vectors);
	compare_memory(&t, c, native, guest);
}

static void print_piece(const struct test_case *t, const struct piece *p)
{
	struct insn in;
	const uint8_t *bytes = case_insn(t, p->at, &in);
	char hex[64];
	int n = 0;

	if (!bytes)
		return;
	for (unsigned i = 0; i < p->len && i < 15; i++)
		n += snprintf(hex + n, sizeof(hex) - (size_t)n, " %02x", bytes[i]);
	printf("#   %08llx %-14s%s\n", (unsigned long long)p->at, x86_insn_name(&in), hex);
}

/* What really ran in softkvm, and in which segments. */
static void print_other(const struct test_case *t)
{
	static const char *const names[6] = {"es", "cs", "ss", "ds", "fs", "gs"};
	const struct other *o = &t->other;

	printf("#   in %s mode, to be %s, at %x: ", mode_names[o->mode],
	       o->verdict == EXECUTED ? "executed" : o->verdict == REFUSED ? "refused" : "executed at the limit",
	       o->ip);
	for (unsigned i = 0; i < o->len; i++)
		printf(" %02x", t->span[1].bytes[i]);
	for (unsigned i = 0; i < 6; i++)
		printf("%s%s=%x,%x,%u%s%s", i == 0 ? "\n#   " : " ", names[i], o->seg[i].base, o->seg[i].limit,
		       o->seg[i].type, o->seg[i].db ? "" : ",16", o->seg[i].unusable ? ",null" : "");
	printf("\n");
}

void case_print(const struct test_case *t, const struct outcome *native,
		const struct outcome *guest, const char *differ)
{
	printf("# case %llu%s, code %s, %s: vector %u error %x cr2 %llx rip %llx\n",
	       (unsigned long long)t->number, t->is_32bit ? " (32-bit)" : "",
	       layouts[t->layout].name, t->elsewhere ? "interpreted" : "native", native->vector,
	       native->error, (unsigned long long)native->cr2, (unsigned long long)native->rip);
	for (unsigned i = 0; i < t->n_pieces; i++)
		if (!t->piece[i].is_nop)
			print_piece(t, &t->piece[i]);
	if (t->other.mode != FLAT)
		print_other(t);
	for (unsigned i = 0; i < 16; i++)
		printf("%s%s=%llx%s", i % 4 ? " " : "#   ", gpr_names[i],
		       (unsigned long long)t->start.gpr[i], i % 4 == 3 ? "\n" : "");
	printf("#   flags=%llx fs=%llx gs=%llx\n", (unsigned long long)t->start.flags,
	       (unsigned long long)t->start.fs, (unsigned long long)t->start.gs);
	if (guest && guest->status == RAN)
		printf("#   softkvm: vector %u error %x cr2 %llx rip %llx\n", guest->vector,
		       guest->error, (unsigned long long)guest->cr2,
		       (unsigned long long)guest->rip);
	printf("#   differ (%s,softkvm): %s\n", t->elsewhere ? "interpreted" : "native", differ);
}

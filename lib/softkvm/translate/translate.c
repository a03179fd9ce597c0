/* SPDX-License-Identifier: MIT */
/*
 * From guest bytes to host code: one block at a time.
 *
 *	scan        decode until control leaves, the page ends, or the block is long enough
 *	liveness    which arithmetic flags are needed after each instruction, from the end back
 *	lower       each instruction to host code (lower.c), memory accesses with their check
 *	stubs       out of the way: of exits and access sites
 *	install     into the tables; chain what can be chained
 *
 * A block lies in one guest page. It may contain conditional jumps: their taken side is an
 * exit, the other side goes on inside the block.
 *
 * An instruction that crosses into the next page is a block of its own. What follows the page
 * is a matter of the mapping, so such a block is entered from C, which has looked, or through its
 * gate only: the jump cache is emptied when either page's mapping goes. Chains lead to a small
 * indirect jump (gates.c). It is in the lists of both pages.
 *
 * Invariants of the code in a block:
 *  1. Until the last access check of a guest instruction has passed, nothing of the guest's
 *     state has changed; so C can always execute the whole instruction instead.
 *  2. Flags are where tr->flags says (EFLAGS, vcpu.arith, nowhere), known at translation time
 *     for every instruction; a resume from C makes both places valid.
 *  3. rip_page is the linear address of the page being executed; a block contains no other
 *     absolute guest address, so it serves every mapping of its page.
 */
#include "softkvm/translate/translate.h"

#include "softkvm/os/bytes.h"
#include "softkvm/os/syscall.h"

/* -- Scan -------------------------------------------------------------------------------------- */

/* What scan and liveness ask of a kind of instruction. */
enum trait {
	ENDS = 1,           /* control never reaches the next one without the run loop's knowledge */
	ENDS_IN_C = 2,      /* the same, if C executes it */
	LEAVES = 4,         /* on a condition */
	JUMPS = 8,          /* by `imm`: maybe to the block's beginning */
	PLAIN = 16,         /* in line it wants no more of the flags than its flags_r */
	PLAIN_ONCE = 32,    /* the same without REP */
};

static const uint8_t traits[X86_KINDS] = {
	[X86_JCC] = LEAVES | JUMPS,
	[X86_LOOP] = ENDS_IN_C | LEAVES | JUMPS, [X86_JCXZ] = ENDS_IN_C | LEAVES,
	[X86_JMP_REL] = ENDS | JUMPS | PLAIN,
	[X86_JMP_RM] = ENDS | PLAIN, [X86_CALL_REL] = ENDS | PLAIN,
	[X86_CALL_RM] = ENDS | PLAIN, [X86_RET] = ENDS | PLAIN,
	[X86_JMP_FAR_I] = ENDS, [X86_JMP_FAR_M] = ENDS, [X86_CALL_FAR_I] = ENDS,
	[X86_CALL_FAR_M] = ENDS, [X86_RETF] = ENDS, [X86_IRET] = ENDS,
	[X86_INT3] = ENDS, [X86_INT_I] = ENDS, [X86_INTO] = ENDS, [X86_INT1] = ENDS,
	[X86_SYSCALL] = ENDS, [X86_SYSRET] = ENDS, [X86_SYSENTER] = ENDS,
	[X86_SYSEXIT] = ENDS, [X86_HLT] = ENDS, [X86_UD] = ENDS,
	[X86_MOV_DR] = ENDS, [X86_LMSW] = ENDS, [X86_WRMSR] = ENDS, [X86_POPF] = ENDS,
	[X86_MOV_R_SEG] = ENDS, [X86_LOAD_FAR] = ENDS, [X86_POP_SEG] = ENDS,
	[X86_INVLPG] = ENDS, [X86_INVPCID] = ENDS, [X86_XSETBV] = ENDS, [X86_VMCALL] = ENDS,
	[X86_MWAIT] = ENDS, [X86_LGDT] = ENDS, [X86_LLDT] = ENDS, [X86_LTR] = ENDS,
	[X86_STI] = ENDS_IN_C, [X86_MOV_CR] = ENDS_IN_C | PLAIN,
	[X86_NATIVE] = PLAIN, [X86_CLC_STC_CMC] = PLAIN, [X86_LEA] = PLAIN, [X86_NOP] = PLAIN,
	[X86_PAUSE] = PLAIN, [X86_PUSH_R] = PLAIN, [X86_PUSH_M] = PLAIN, [X86_PUSH_I] = PLAIN,
	[X86_POP_R] = PLAIN, [X86_POP_M] = PLAIN, [X86_LEAVE] = PLAIN, [X86_CLI] = PLAIN,
	[X86_CLD] = PLAIN, [X86_STD] = PLAIN,
	[X86_MOVS] = PLAIN_ONCE, [X86_STOS] = PLAIN_ONCE, [X86_LODS] = PLAIN_ONCE,
	[X86_RDTSC] = PLAIN, [X86_RDTSCP] = PLAIN, [X86_MOV_SEG_R] = PLAIN,
	[X86_BT_MEM] = PLAIN, [X86_MASKED_MEM] = PLAIN, [X86_SWAPGS] = PLAIN,
	[X86_RDFSGSBASE] = PLAIN,
};

static enum x86_mode decode_mode(const struct tr *t)
{
	return t->mode & MODE_64 ? X86_MODE_64 : X86_MODE_32;
}

static unsigned block_limit(struct engine *e)
{
	if (!e->opt.random_ends)
		return BLOCK_INSNS;
	e->random = e->random * 6364136223846793005ull + 1442695040888963407ull;
	return 1 + (unsigned)(e->random >> 33) % 12;
}

#define SEE 64u /* bytes: most blocks are shorter */

/* Copies the block's bytes up to `until`, and a few more: another vCPU may be writing, and what is judged
 * and what is emitted must be the same bytes. Returns how many there are. */
static unsigned see(struct tr *t, unsigned seen, unsigned until)
{
	unsigned left = 4096u - t->at - seen, more = until - seen < SEE ? SEE : until - seen;

	more = more > left ? left : more;
	bytes_copy(t->code + seen, t->page->hva + t->at + seen, more);
	return seen + more;
}

/* What is asked of an instruction more than once. Does the block end with it? */
static bool judge(struct tr *t, int i)
{
	const struct insn *in = &t->in[i];
	unsigned trait = traits[in->kind];

	t->is_inline[i] = can_inline(t, in);
	group_effect(in, &t->effect[i]);
	if (trait & JUMPS && (int64_t)(t->start[i] + in->len) + (int64_t)in->imm == t->at)
		t->loops = true;
	if (trait & LEAVES && ++t->n_leaving > BLOCK_JCCS)
		return true;
	return trait & ENDS || (trait & ENDS_IN_C && !t->is_inline[i]);
}

/* The same with the bytes of the next page behind those of this one: the length, 0: no. */
static int decode_crossing(struct tr *t)
{
	unsigned here = 4096u - t->at;
	int len;

	if (!t->next || here >= 15)
		return 0;
	bytes_copy(t->code + here, t->next->hva, 15);
	len = x86_decode(&t->in[0], t->code, 15, decode_mode(t));
	if (len <= (int)here)
		return 0;
	t->over = (uint8_t)((unsigned)len - here);
	return len;
}

static void scan(struct tr *t)
{
	unsigned at = t->at, limit = block_limit(t->e), seen = 0;
	bool end = false;

	while (!end && t->n < (int)limit && at < 4096) {
		unsigned done = at - t->at;
		int len;

		if (done + 15 > seen)
			seen = see(t, seen, done + 15);
		len = x86_decode(&t->in[t->n], t->code + done, 4096 - at, decode_mode(t));
		if (len <= 0) { /* goes on in the next page, or is too long */
			t->cut = true;
			len = t->n == 0 ? decode_crossing(t) : 0;
			if (len == 0)
				break;
		}
		t->start[t->n] = (uint16_t)at;
		at += (unsigned)len;
		end = judge(t, t->n++);
	}
	t->end = (uint16_t)(at - t->over);
}

/* -- Flag liveness ------------------------------------------------------------------------------- */

/*
 * The flags whose old values an instruction ends. What the manual calls undefined afterwards
 * counts too: the instruction runs natively, so it leaves what the host's processor leaves. (Not
 * for multiplication: AMD's keeps the undefined ones.)
 */
static uint16_t ended_flags(const struct insn *in)
{
	uint16_t w = in->flags_w, result = X86_ZF | X86_SF | X86_PF;
	bool one_byte = in->enc == X86_LEGACY && in->map == X86_MAP_1B;
	bool sahf = one_byte && in->op == 0x9e; /* OF stays */

	if ((w & result) == result && !sahf) /* arithmetic, logic, shifts by a constant */
		return w | X86_AF | X86_OF;
	return w;
}

static bool is_plain(const struct tr *t, int i)
{
	const struct insn *in = &t->in[i];
	unsigned trait = traits[in->kind];

	if (trait & PLAIN_ONCE && !(in->prefix & (X86_PFX_F2 | X86_PFX_F3)))
		trait |= PLAIN;
	return trait & PLAIN && t->is_inline[i];
}

static void liveness(struct tr *t)
{
	uint16_t live = X86_ARITH;
	int i;

	for (i = t->n; i-- > 0;) {
		const struct insn *in = &t->in[i];

		t->after[i] = live;
		if (is_plain(t, i))
			live = (uint16_t)((live & ~ended_flags(in)) | in->flags_r);
		else
			live = X86_ARITH; /* C may want them all */
		t->before[i] = live;
	}
}

/* -- Exits ------------------------------------------------------------------------------------------ */

static struct exit_rec *new_exit(struct tr *t, uint16_t target, uint32_t site)
{
	struct engine *e = t->e;
	struct exit_rec *x = &e->exit[e->n_exits++];

	*x = (struct exit_rec){.block = t->index, .site = site, .to = NONE, .next_in = NONE,
			       .target = target, .backward = target < t->end,
			       .flags = (uint8_t)t->flags};
	return x;
}

void tr_exit_jcc(struct tr *t, unsigned cc, uint16_t target)
{
	new_exit(t, target, jcc_far(&t->a, cc));
}

void tr_exit_jmp(struct tr *t, uint16_t target)
{
	struct engine *e = t->e;

	emit8(&t->a, 0xe8); /* chained it becomes a jump */
	new_exit(t, target, as_at(&t->a));
	emit_rel(&t->a, t->flags == FLAGS_MEM ? e->thunk.exit_mem : e->thunk.exit);
}

static void emit_exit_stubs(struct tr *t, uint32_t first)
{
	struct engine *e = t->e;
	uint32_t i;

	for (i = first; i < e->n_exits; i++) {
		if (e->code_rw[e->exit[i].site - 1] == 0xe8)
			continue;
		e->exit[i].stub = as_at(&t->s);
		patch_rel(e, e->exit[i].site, as_at(&t->s));
		call_to(&t->s, e->exit[i].flags == FLAGS_MEM ? e->thunk.exit_mem :
							       e->thunk.exit);
		emit32(&t->s, i);
	}
}

static void emit_site_stubs(struct tr *t)
{
	struct engine *e = t->e;
	int i;

	for (i = 0; i < t->n_stubs; i++) {
		struct stub *stub = &t->stub[i];
		struct site *s = &e->site[stub->site];

		if (stub->read_only) {
			patch_rel(e, stub->read_only, as_at(&t->s));
			alu_rr(&t->s, 0x29, H_S1, H_S2); /* sub s1, s2 */
		}
		if (stub->crossing)
			patch_rel(e, stub->crossing, as_at(&t->s));
		patch_rel(e, stub->jcc, as_at(&t->s));
		call_to(&t->s, e->thunk.miss[s->kind][log2_up(s->size)]);
		emit32(&t->s, stub->site);
	}
}

/* -- Loops to the block's own beginning -------------------------------------------------------- */

static bool is_polling_loop(const struct tr *t)
{
	return t->loops && !t->before[0] && !t->over;
}

/* Its poll stands right before `main`, so that an iteration needs one jump. */
static void emit_loop_head(struct tr *t)
{
	t->poll = t->poll_jcc = 0;
	if (!is_polling_loop(t))
		return;
	t->poll = as_at(&t->a);
	emit_poll_test(&t->a);
	t->poll_jcc = jcc_far(&t->a, CC_NE);
}

static void emit_loop_stub(struct tr *t)
{
	if (!t->poll)
		return;
	patch_rel(t->e, t->poll_jcc, as_at(&t->s));
	call_to(&t->s, t->e->thunk.poll);
	emit32(&t->s, t->index);
}

/* -- Profile -------------------------------------------------------------------------------------- */

static void emit_counter(struct tr *t)
{
	t->counter = 0;
	if (!t->e->opt.profile)
		return;
	t->counter = t->e->n_slots++;
	t->e->slots[t->counter] = 0;
	emit_save_flags(&t->a);
	emit8(&t->a, 0x48); /* inc qword [counter] */
	emit8(&t->a, 0xff);
	emit_rip(&t->a, 0, &t->e->slots[t->counter], 0);
	emit_load_flags(&t->a);
}

/* -- The block ----------------------------------------------------------------------------------------- */

static void lower_all(struct tr *t)
{
	int i;

	t->flags = t->before[0] ? FLAGS_REG : FLAGS_DEAD;
	for (i = 0; i < t->n; i++) {
		uint32_t start = as_at(&t->a);
		bool cb = t->live;

		lower(t, i);
		t->map[i] = (struct insn_map){
			.host = (uint16_t)(start - t->main), .flags = t->flags_then, .cb = cb,
			.guest = (t->start[i] - t->at) & 0xfff,
		};
		if (as_at(&t->a) - start > INSN_ROOM) /* a mistake of ours */
			__builtin_trap();
	}
	t->map[t->n] = (struct insn_map){.host = (uint16_t)(as_at(&t->a) - t->main),
					 .guest = (t->end - t->at + t->over) & 0xfff};
	if (t->n == 0 || !t->ended) {
		if (t->cut && t->n == 0)
			lower_step(t);
		else if (t->end < 4096)
			tr_exit_jmp(t, t->end);
		else
			lower_next_page(t);
	}
}

static void emit_gate_before(struct tr *t)
{
	t->gate = as_at(&t->a);
	emit_gate(&t->a, t->at, !is_polling_loop(t), !t->n || t->before[0]);
}

/* `bytes`: of host code */
static void count(struct tr *t, const struct block *b, uint32_t bytes, uint64_t ns)
{
	struct vcpu_stats *s = &t->e->c->stat;

	s->blocks++;
	s->hot_blocks += !t->cold;
	s->single_blocks += !!(t->mode & MODE_SINGLE);
	s->block_insns += b->n_insns;
	s->guest_bytes += b->len;
	s->code_bytes += bytes;
	s->translate_ns += ns;
}

static struct block *install(struct tr *t, uint32_t first_exit)
{
	struct engine *e = t->e;
	struct block *b = &e->block[t->index];
	uint32_t i, len = t->end - t->at;
	struct code_page *next = t->over ? t->next : NULL;

	*b = (struct block){
		.main = t->main, .end = as_at(&t->a), .exits = first_exit, .map = e->n_maps, .bytes = e->n_bytes,
		.in = NONE, .page = (uint32_t)(t->page - e->page), .at = t->at,
		.page2 = next ? (uint32_t)(next - e->page) : 0, .over = t->over,
		.len = (uint16_t)len, .n_insns = (uint8_t)t->n, .mode = t->mode,
		.live_in = !t->n || t->before[0], /* C may read them: lower_step() */
		.entry[ENTRY_POLL] = t->poll, .entry[ENTRY_GATE] = t->gate, .counter = t->counter,
		.lin = e->c->rip,
	};
	e->n_maps += (uint32_t)t->n + 1;
	bytes_copy(e->bytes + e->n_bytes, t->code, len + t->over);
	e->n_bytes += len + t->over;
	t->region->at = b->end;
	t->region->block[t->region->n++] = (struct extent){b->end, t->index};
	e->region[REGION_STUBS].at = as_at(&t->s);
	e->n_blocks++;
	block_add(e, b);
	if (!e->opt.nochain)
		for (i = first_exit; i < e->n_exits; i++) {
			struct exit_rec *x = &e->exit[i];
			struct block *to = block_find(e, t->page, x->target,
						      t->mode & ~MODE_SINGLE);

			if (to)
				exit_chain(e, x, to);
		}
	return b;
}

static bool has_room(const struct engine *e)
{
	const struct region *cold = &e->region[REGION_COLD], *hot = &e->region[REGION_HOT],
			    *stubs = &e->region[REGION_STUBS];

	return cold->end - cold->at >= BLOCK_ROOM && hot->end - hot->at >= BLOCK_ROOM &&
	       stubs->end - stubs->at >= STUBS_ROOM && e->n_blocks + 1 < BLOCKS &&
	       e->n_exits + BLOCK_INSNS < EXITS && e->n_slots + 4 * BLOCK_INSNS < SLOTS &&
	       e->n_maps + BLOCK_INSNS + 1 < MAPS && e->n_bytes + 4096 < BYTES &&
	       e->n_pool + BLOCK_INSNS < POOL;
}

struct block *translate(struct engine *e, struct code_page *page, struct code_page *next,
			uint16_t at, uint16_t mode, bool gate)
{
	struct tr *t = e->tr;
	uint64_t started = now_ns();
	uint32_t first_exit, start, stubs = e->region[REGION_STUBS].at;
	struct block *b;

	if (!has_room(e))
		return NULL;
	translate_ahead(e);
	t->e = e;
	t->page = page;
	t->next = next;
	t->over = 0;
	t->at = at;
	t->mode = mode;
	t->n = t->n_stubs = t->n_leaving = 0;
	t->cut = t->ended = t->loops = false;
	groups_end(t);
	t->cold = e->opt.sample && !habit_has(&e->habits, HABIT_HOT, page->gpa + at);
	t->index = e->n_blocks;
	t->map = e->map + e->n_maps;
	t->gate = 0;
	first_exit = e->n_exits;
	t->region = &e->region[t->cold ? REGION_COLD : REGION_HOT];
	as_init(&t->a, e, t->region->at);
	as_init(&t->s, e, stubs);
	scan(t);
	liveness(t);
	start = as_at(&t->a);
	if (gate)
		emit_gate_before(t);
	emit_loop_head(t);
	t->main = as_at(&t->a);
	emit_counter(t);
	lower_all(t);
	emit_site_stubs(t);
	emit_exit_stubs(t, first_exit);
	emit_loop_stub(t);
	b = install(t, first_exit);
	count(t, b, b->end - start + as_at(&t->s) - stubs, now_ns() - started);
	if (e->opt.dump)
		dump_block(t, b);
	return b;
}

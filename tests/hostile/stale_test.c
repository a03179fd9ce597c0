/* SPDX-License-Identifier: MIT */
/*
 * Every cached translation against the guest's tables and the manual.
 *
 *	stale_test [ROUNDS]
 *
 * The other tests of this folder ask whether an entry leads to guest memory at all. This one asks
 * whether it leads to the right page with the right permission, and no longer than the manual
 * allows. Between two exits the guest accesses and executes pages in both rings, by way of three
 * address spaces; then it invalidates something, by each instruction that can. At the exit each
 * entry of each view, and each page of the instruction TLB, is looked up in truth.h; then the
 * client, as another CPU would, changes entries of the tables.
 *
 * The guest is a list of operations with an address each (position-independent, at CODE_AT):
 *
 *	r8 the list   rsi the address
 *
 * What runs in ring 0 is a page that ring 3 has not, for SMEP's sake: ring 3 has it 10 MiB higher.
 * Stores write what was there, so tables and code stay what they are; those that load it by another
 * instruction, and calls, go to data pages only, which are full of RET.
 */
#include "tests/hostile/hostile.h"

#include "tests/tap.h"

#include "softkvm/abi/object.h"
#include "softkvm/engine.h"
#include "softkvm/softkvm.h"
#include "softkvm/state/cpuid.h"
#include "softkvm/state/slots.h"
#include "tests/hostile/truth.h"

enum { USER_AT = 0xa00000, LIST_AT = 0x28000, INVPCID_AT = 0x29000, DATA_AT = 0x80000,
       STEPS = 150, HOT = 40 };

enum op { LOAD, LOAD_CROSSING, STORE_FIRST, LOCKED, STORE, VECTOR, MOVS, CALL, ACCESSES,
	  USER = ACCESSES, KERNEL, EXIT, OP_INVLPG, OP_CR0, OP_CR3, OP_CR4, OP_INVPCID };

extern const uint8_t stale_begin[], stale_trap[], stale_end[];

__asm__(".section .rodata\n"
	".balign 64\n"
	"stale_begin:\n"
	"2:	mov (%r8), %rax\n"
	"	mov 8(%r8), %rsi\n"
	"	add $16, %r8\n"
	"	shl $5, %eax\n"
	"	lea 1f(%rip), %rdx\n"
	"	add %rax, %rdx\n"
	"	jmp *%rdx\n"
	"stale_trap:\n" /* a fault, or INT3: in ring 0 */
	"	mov $0x30000, %esp\n"
	"	and $0x1fffff, %r8d\n"
	"	jmp 2b\n"
	".macro stale_op a, b=nop, c=nop\n"
	"	\\a\n	\\b\n	\\c\n"
	"	jmp 2b\n"
	"	.balign 32\n"
	".endm\n"
	"	.balign 32\n"
	"1:\n"
	"stale_op \"mov (%rsi), %rax\"\n"
	"stale_op \"mov 4(%rsi), %rax\"\n"
	"stale_op \"orb $0, (%rsi)\"\n"
	"stale_op \"lock orq $0, (%rsi)\"\n"
	"stale_op \"mov (%rsi), %rax\", \"mov %rax, (%rsi)\"\n"
	"stale_op \"movups (%rsi), %xmm0\", \"movups %xmm0, (%rsi)\"\n"
	"stale_op \"mov %rsi, %rdi\", \"mov $1, %ecx\", \"rep movsq\"\n"
	"stale_op \"call *%rsi\"\n"
	"	and $0x1fffff, %r8d\n" /* to ring 3, IOPL 3, at USER_AT */
	"	or $0xa00000, %r8d\n"
	"	jmp 3f\n"
	"	.balign 32\n"
	"stale_op \"int3\"\n"
	"stale_op \"out %al, $0xe5\", \"mov $0x28000, %r8d\"\n"
	"stale_op \"invlpg (%rsi)\"\n"
	"stale_op \"mov %rsi, %cr0\"\n"
	"stale_op \"mov %rsi, %cr3\"\n"
	"stale_op \"mov %rsi, %cr4\"\n"
	"stale_op \"mov $0, %eax\", \"invpcid (%rsi), %rax\"\n"
	"stale_op \"mov $1, %eax\", \"invpcid (%rsi), %rax\"\n"
	"stale_op \"mov $2, %eax\", \"invpcid (%rsi), %rax\"\n"
	"stale_op \"mov $3, %eax\", \"invpcid (%rsi), %rax\"\n"
	"3:	pushq $0x2b\n"
	"	pushq $0xa30000\n"
	"	pushq $0x3002\n"
	"	pushq $0x33\n"
	"	lea 2b(%rip), %rax\n"
	"	or $0xa00000, %eax\n"
	"	push %rax\n"
	"	iretq\n"
	"stale_end:\n"
	".text\n");

static struct machine {
	struct enemy *e;
	struct object *o;
	struct vcpu *c;
	struct truth *truth;
	bool pcids, has_invpcid;
	uint64_t cr0, cr3, cr4; /* as they will be at the end of the list */
	unsigned n_ops, n_invpcid;
	uint64_t hot[HOT];
} m;

static struct seen {
	unsigned entries, writable, user, global, old, code, old_code;
} seen;

/* -- Tables --------------------------------------------------------------------------------- */

/* Pages at TABLES_AT by level: three roots, three PDPTs, four PDs, six PTs. */
static const struct {
	uint8_t first, n;
} level_pages[5] = {[4] = {0, 3}, [3] = {3, 3}, [2] = {6, 4}, [1] = {10, 6}};

static const uint16_t pml4_index[] = {1, 2, 511}, dir_index[] = {0, 1, 2},
		      pt_index[] = {0, 1, 2, 3, 15, 16, 0x8f, 0xff, 0x100, 0x10f};

#define PT_INDICES (sizeof(pt_index) / sizeof(pt_index[0]))
#define PICK(table) (table)[below(m.e, sizeof(table) / sizeof((table)[0]))]

static uint64_t table_page(int level)
{
	return TABLES_AT + (level_pages[level].first + below(m.e, level_pages[level].n)) * PAGE;
}

static uint32_t entry_place(int level)
{
	unsigned index = level == 4 ? PICK(pml4_index)
		       : level == 1 ? PICK(pt_index)
				    : PICK(dir_index);

	return (uint32_t)table_page(level) + index * 8;
}

static uint64_t small_page(void)
{
	static const uint64_t edges[] = {
		RAM_SIZE - PAGE, RAM_SIZE, HIGH_AT - PAGE, HIGH_AT, HIGH_AT + HIGH_SIZE - PAGE,
		HIGH_AT + HIGH_SIZE, ROM_AT, ROM_AT + ROM_SIZE - PAGE, ROM_AT + ROM_SIZE, PD_AT,
	};

	switch (below(m.e, 4)) {
	case 0: return PICK(edges);
	case 1: return HIGH_AT + below(m.e, HIGH_SIZE / PAGE) * PAGE;
	default: return DATA_AT + below(m.e, (RAM_SIZE - DATA_AT) / PAGE) * PAGE;
	}
}

static uint64_t target(int level)
{
	if (level == 4)
		return table_page(3);
	if (level == 3)
		return below(m.e, 3) ? table_page(2) : 0x80;
	if (level == 2)
		return below(m.e, 4) ? table_page(1) : below(m.e, 3) << 21 | 0x80;
	return small_page();
}

static uint64_t random_entry(int level)
{
	uint64_t v = target(level) | 7;

	if (below(m.e, 16) == 0)
		v &= ~1ull;
	if (below(m.e, 4) == 0)
		v &= ~2ull;
	if (below(m.e, 5) == 0)
		v &= ~4ull;
	v |= below(m.e, 4) << 5; /* A, D */
	if (below(m.e, 3) == 0)
		v |= 0x100;
	if (below(m.e, 8) == 0)
		v |= 1ull << 63;
	if (below(m.e, 40) == 0)
		v |= 1ull << 51;
	return v;
}

static void put64(uint32_t at, uint64_t v)
{
	memcpy(m.e->ram + at, &v, 8);
}

static void change_entry(void)
{
	static const uint8_t bits[] = {0, 1, 2, 5, 6, 8, 63};
	int level = 1 + (int)below(m.e, below(m.e, 3) ? 2 : 4);
	uint32_t at = entry_place(level);
	uint64_t v;

	memcpy(&v, m.e->ram + at, 8);
	put64(at, below(m.e, 2) ? v ^ 1ull << PICK(bits) : random_entry(level));
}

static void make_tables(void)
{
	for (int level = 4; level; level--)
		for (unsigned i = 0; i < level_pages[level].n; i++) {
			uint32_t page = TABLES_AT + (level_pages[level].first + i) * PAGE;

			memset(m.e->ram + page, 0, PAGE);
			put64(page, level == 4 ? PDPT_AT | 7 : random_entry(level));
			for (unsigned k = 1; k < 512; k++)
				put64(page + k * 8, random_entry(level));
		}
}

static uint64_t address(void)
{
	uint64_t lin = (uint64_t)PICK(pml4_index) << 39 | (uint64_t)PICK(dir_index) << 30 |
		       (uint64_t)PICK(dir_index) << 21 | (uint64_t)PICK(pt_index) << 12;

	return (uint64_t)((int64_t)(lin << 16) >> 16) | below(m.e, 500) * 8;
}

/* -- The audit ------------------------------------------------------------------------------ */

struct cached {
	bool user;
	bool only_global;
	uint64_t at; /* an entry's host address, or a page of code */
};

static bool is_open(const struct answer *a, const struct cached *want)
{
	return a->accessed && (a->user || !want->user) && (a->global || !want->only_global);
}

static bool is_entry(const struct answer *a, void *arg)
{
	const struct cached *want = arg;
	const struct slot *s = vm_slot(m.o->vm, a->gpa);

	if (!s || !is_open(a, want))
		return false;
	if (want->at == (uint64_t)(uintptr_t)s->ro + (a->gpa - s->gpa))
		return true;
	return want->at == (uint64_t)(uintptr_t)s->rw + (a->gpa - s->gpa) && a->dirty &&
	       !(s->flags & KVM_MEM_READONLY) &&
	       (a->writable || (!want->user && !(m.c->cr0 & CR0_WP)));
}

static bool is_code(const struct answer *a, void *arg)
{
	const struct cached *want = arg;

	if (a->nx || want->at != a->gpa || !is_open(a, want))
		return false;
	return want->user || !a->user || !(m.c->cr4 & CR4_SMEP);
}

static uint32_t pcid_now(void)
{
	return m.c->cr4 & CR4_PCIDE ? m.c->cr3 & 0xfff : 0;
}

/* In the supervisor's view are translations of this address space, and global ones of all. */
static int find(const struct view *v, uint64_t lin, truth_wants *wants, struct cached *what)
{
	const struct engine *e = m.c->engine;
	bool kernel = v == &e->kernel;
	int age = truth_find(m.truth, kernel ? m.c->cr3 : v->cr3, kernel ? pcid_now() : v->pcid,
			     lin, wants, what);

	if (!kernel || age >= 0)
		return age;
	what->only_global = true;
	for (unsigned i = 0; age < 0 && i < level_pages[4].n; i++)
		age = truth_find(m.truth, TABLES_AT + i * PAGE, ~0u, lin, wants, what);
	return age;
}

static bool complain(const char *what, const struct view *v, uint64_t lin, uint64_t is)
{
	const struct engine *e = m.c->engine;

	note("%s of %llx in %s is %llx (cr3 %llx, cr4 %llx)", what, (unsigned long long)lin,
	     v == &e->kernel ? "the supervisor's view" : "a user's view", (unsigned long long)is,
	     (unsigned long long)m.c->cr3, (unsigned long long)m.c->cr4);
	return false;
}

static bool audit_entry(const struct view *v, uint64_t vpn)
{
	uint64_t lin = (uint64_t)((int64_t)(vpn << 28) >> 16), addend = v->table[vpn];
	struct cached what = {.user = v != &m.c->engine->kernel, .at = lin + addend};
	int age;

	if (!addend)
		return true;
	age = find(v, lin, is_entry, &what);
	if (age < 0)
		return complain("the entry", v, lin, what.at);
	seen.entries++;
	seen.old += age > 0;
	seen.user += what.user;
	seen.writable += !(what.at & SLOT_VIEW_RO);
	seen.global += what.only_global;
	return true;
}

static bool audit_code(const struct view *v)
{
	const struct engine *e = m.c->engine;

	for (unsigned i = 0; i < ITLB; i++) {
		const struct itlb *t = &e->itlb[i];
		struct cached what = {.user = v != &e->kernel};
		int age;

		if (!(t->lin & 1) || t->age != v->age)
			continue;
		what.at = e->page[t->page].gpa;
		age = find(v, t->lin & ~4095ull, is_code, &what);
		if (age < 0)
			return complain("the code page", v, t->lin & ~4095ull, what.at);
		seen.code++;
		seen.old_code += age > 0;
	}
	return true;
}

static bool audit_jumps(const struct view *v)
{
	const struct engine *e = m.c->engine;

	for (unsigned i = 0; i < JUMPED; i++) {
		const struct jumped *j = &e->jumped[i];
		struct cached what = {.user = v != &e->kernel};

		if (j->age != v->jc_age || !j->lin || j->page == ~0u ||
		    j->flushes != (uint32_t)m.c->stat.cache_flushes || e->code[j->gate] == 0xe9)
			continue;
		what.at = e->page[j->page].gpa;
		if (find(v, j->lin & ~4095ull, is_code, &what) < 0)
			return complain("the gate", v, j->lin, what.at);
	}
	return true;
}

/* All entries that the guest can have had made, whether the view's logs know of them or not: those of
 * random addresses and of the page that follows; and of its own 2 MiB. */
static bool audit_data(const struct view *v)
{
	for (unsigned i = 0; i < 3 * 3 * 3 * PT_INDICES; i++) {
		uint64_t vpn = (uint64_t)pml4_index[i / 9 / PT_INDICES] << 27 |
			       (uint64_t)dir_index[i / 3 / PT_INDICES % 3] << 18 |
			       (uint64_t)dir_index[i / PT_INDICES % 3] << 9 |
			       pt_index[i % PT_INDICES];

		if (!audit_entry(v, vpn) || !audit_entry(v, vpn + 1))
			return false;
	}
	for (uint64_t vpn = 0; vpn < 512; vpn++)
		if (!audit_entry(v, vpn) || !audit_entry(v, USER_AT / PAGE + vpn))
			return false;
	return true;
}

static bool audit_view(const struct view *v)
{
	return audit_data(v) && audit_code(v) && (below(m.e, 16) || audit_jumps(v));
}

static bool audit(void)
{
	const struct engine *e = m.c->engine;
	bool fine = entries_sound(m.e, 0);

	truth_see(m.truth, m.e->ram);
	fine = fine && audit_view(&e->kernel);
	for (unsigned i = 0; i < USER_VIEWS && fine; i++)
		if (e->user[i].valid)
			fine = audit_view(&e->user[i]);
	return fine;
}

/* -- Lists ---------------------------------------------------------------------------------- */

static void add(unsigned op, uint64_t address)
{
	put64(LIST_AT + m.n_ops * 16, op);
	put64(LIST_AT + m.n_ops * 16 + 8, address);
	m.n_ops++;
}

static bool is_no_ret(const struct answer *a, void *arg)
{
	(void)arg;
	return !((a->gpa >= DATA_AT && a->gpa < RAM_SIZE) ||
		 (a->gpa >= HIGH_AT && a->gpa < HIGH_AT + HIGH_SIZE));
}

/* Does it lead to pages of RET and nothing else, whichever translations are used? */
static bool is_ret(uint64_t lin)
{
	for (unsigned i = 0; i < level_pages[4].n; i++)
		if (truth_find(m.truth, TABLES_AT + i * PAGE, ~0u, lin & ~4095ull, is_no_ret,
			       NULL) >= 0)
			return false;
	return true;
}

static void add_accesses(unsigned n)
{
	while (n--) {
		uint64_t lin = m.hot[below(m.e, HOT)];
		unsigned op = below(m.e, ACCESSES);

		if (below(m.e, 4) == 0)
			add(below(m.e, 2) ? USER : KERNEL, 0);
		if (op >= STORE && op <= CALL && !is_ret(lin))
			op = below(m.e, 2) ? STORE_FIRST : LOCKED;
		add(op, op == LOAD_CROSSING ? lin | 0xff8 : lin);
	}
}

static void add_cr3(void)
{
	uint64_t root = TABLES_AT + below(m.e, level_pages[4].n) * PAGE;
	uint32_t pcid = m.pcids ? below(m.e, 4) : 0;
	bool keep = m.pcids && below(m.e, 2);

	m.cr3 = root | pcid;
	add(OP_CR3, m.cr3 | (uint64_t)keep << 63);
	if (!keep)
		truth_event(m.truth, (struct event){.kind = EVENT_PCID, .pcid = pcid});
}

static void add_invpcid(void)
{
	static const enum event_kind kinds[] = {EVENT_PAGE_PCID, EVENT_PCID, EVENT_ALL,
						EVENT_NOT_GLOBAL};
	unsigned type = below(m.e, 4);
	uint32_t pcid = m.pcids ? below(m.e, 4) : 0, at = INVPCID_AT + 16 * m.n_invpcid++;
	uint64_t lin = m.hot[below(m.e, HOT)];

	put64(at, pcid);
	put64(at + 8, lin);
	add(OP_INVPCID + type, at);
	truth_event(m.truth, (struct event){.kind = kinds[type], .pcid = pcid, .lin = lin});
}

static void add_flush(void)
{
	add(KERNEL, 0);
	add(OP_CR4, m.cr4 & ~CR4_PGE);
	add_accesses(below(m.e, 2) * 3);
	add(KERNEL, 0);
	add(OP_CR4, m.cr4);
	truth_event(m.truth, (struct event){.kind = EVENT_ALL});
}

static void add_invalidation(void)
{
	uint64_t lin = m.hot[below(m.e, HOT)];

	add(KERNEL, 0);
	switch (below(m.e, 8)) {
	case 0:
		add(OP_CR0, m.cr0 ^= CR0_WP);
		break;
	case 1:
		if (!(m.c->cr4_allowed & CR4_SMEP))
			break;
		add(OP_CR4, m.cr4 ^= CR4_SMEP);
		if (m.cr4 & CR4_SMEP)
			truth_event(m.truth, (struct event){.kind = EVENT_ALL});
		break;
	case 2:
	case 3:
		if (m.has_invpcid)
			add_invpcid();
		break;
	case 4:
	case 5:
		add_cr3();
		break;
	default:
		add(OP_INVLPG, lin);
		truth_event(m.truth, (struct event){.kind = EVENT_PAGE, .lin = lin,
						    .pcid = m.pcids ? m.cr3 & 0xfff : 0});
	}
}

/* -- Rounds --------------------------------------------------------------------------------- */

static bool run_list(void)
{
	struct kvm_run *run = m.e->cpu[0].run;

	add(EXIT, 0);
	for (unsigned i = 0; i < 500; i++) {
		if (!enemy_run(m.e, 0, 1, UNLIMITED))
			return false;
		if (run->exit_reason == KVM_EXIT_IO && run->io.port == 0xe5)
			return true;
		if (run->exit_reason != KVM_EXIT_MMIO)
			break;
	}
	note("exit reason %u at %llx", run->exit_reason, (unsigned long long)m.c->rip);
	return false;
}

static void look_at_log(void)
{
	static uint64_t bits[HIGH_SIZE / PAGE / 64 + 1];
	struct kvm_dirty_log log = {.slot = 1, .dirty_bitmap = bits};

	softkvm_ioctl(m.e->vm, KVM_GET_DIRTY_LOG, &log);
}

static void set_log(bool on)
{
	struct kvm_userspace_memory_region r = {
		.slot = 1, .flags = on ? KVM_MEM_LOG_DIRTY_PAGES : 0, .guest_phys_addr = HIGH_AT,
		.memory_size = HIGH_SIZE, .userspace_addr = (uintptr_t)m.e->high};

	softkvm_ioctl(m.e->vm, KVM_SET_USER_MEMORY_REGION, &r);
}

/* One list. A fresh one: nothing has changed, and everything is to be forgotten. */
static bool step(bool fresh)
{
	m.n_ops = m.n_invpcid = 0;
	for (unsigned n = fresh ? 0 : below(m.e, 4); n; n--)
		change_entry();
	if (!fresh)
		truth_change(m.truth, m.e->ram);
	add_accesses(below(m.e, 8));
	if (fresh)
		add_flush();
	else if (below(m.e, 3))
		add_invalidation();
	add_accesses(below(m.e, 6));
	if (below(m.e, 8) == 0)
		look_at_log();
	if (!run_list() || !audit())
		return false;
	if (fresh)
		truth_begin(m.truth, m.e->ram);
	return true;
}

static void start(void)
{
	struct kvm_sregs s;
	struct kvm_regs r;

	enemy_start(m.e, 0, LONG_RING0, 0);
	m.pcids = m.c->cr4_allowed & CR4_PCIDE && below(m.e, 4);
	softkvm_ioctl(m.e->cpu[0].fd, KVM_GET_SREGS, &s);
	s.cr3 = m.cr3 = TABLES_AT;
	s.cr4 |= m.pcids ? CR4_PCIDE : 0;
	m.cr0 = s.cr0;
	m.cr4 = s.cr4;
	softkvm_ioctl(m.e->cpu[0].fd, KVM_SET_SREGS, &s);
	softkvm_ioctl(m.e->cpu[0].fd, KVM_GET_REGS, &r);
	r.rflags = 0x3002;
	r.r8 = LIST_AT;
	r.rsp = STACK3_AT;
	softkvm_ioctl(m.e->cpu[0].fd, KVM_SET_REGS, &r);
}

static void prepare(void)
{
	uint32_t trap = CODE_AT + (uint32_t)(stale_trap - stale_begin);

	memset(m.e->ram + DATA_AT, 0xc3, RAM_SIZE - DATA_AT);
	memset(m.e->high, 0xc3, HIGH_SIZE);
	enemy_reset(m.e);
	memcpy(m.e->ram + CODE_AT, stale_begin, (size_t)(stale_end - stale_begin));
	for (uint32_t v = 0; v < 32; v++) {
		uint32_t at = HANDLERS_AT + v * 32, to = trap - (at + 5);

		m.e->ram[at] = 0xe9;
		memcpy(m.e->ram + at + 1, &to, 4);
	}
	put64(PD_AT, 0xe3);
	put64(PD_AT + 8 * (USER_AT >> 21), 0xe7);
	make_tables();
	set_log(below(m.e, 2));
	start();
	for (unsigned i = 0; i < HOT; i++)
		m.hot[i] = address();
	truth_begin(m.truth, m.e->ram);
}

static void attack(struct enemy *e, unsigned rounds)
{
	unsigned n, k = 0;
	bool fine = true;

	m = (struct machine){.e = e, .o = object_get(e->cpu[0].fd)};
	m.c = m.o->vcpu;
	m.truth = truth_create(m.c->max_phys_bits);
	m.has_invpcid = cpuid_has(m.c, FEATURE_invpcid);
	seen = (struct seen){0};
	for (n = 0; n < rounds && fine; n++) {
		prepare();
		for (k = 0; k < STEPS && fine; k++)
			fine = step(k == 0 || truth_is_full(m.truth));
		fine = fine && enemy_harmless(e);
	}
	if (!fine)
		note("round %u, step %u", n - 1, k - 1);
	ok(fine, "%s: %u rounds: all that is cached is permitted",
	   e->knobs[0] ? e->knobs : "translated", rounds);
	note("%u entries seen: %u of a user, %u writable, %u of another space, %u no longer in "
	     "the tables; %u pages of code, %u no longer", seen.entries, seen.user, seen.writable,
	     seen.global, seen.old, seen.code, seen.old_code);
	ok(!fine || (seen.entries > 1000 && seen.user > 100 && seen.writable > 100 &&
		     seen.global > 100 && seen.old > 10 && seen.code > 100),
	   "and of each kind there was some");
	truth_destroy(m.truth);
	object_put(m.o);
}

int main(int argc, char **argv)
{
	static const char *const knobs[] = {"", "nogroup,sample=0", "tlb,ends,seed=9"};
	enum { VMS = sizeof(knobs) / sizeof(knobs[0]) };
	unsigned rounds = argc > 1 ? (unsigned)atoi(argv[1]) : 60;
	struct enemy *e[VMS];

	for (unsigned i = 0; i < VMS; i++)
		e[i] = enemy_create(knobs[i], 1, false);
	alarms_arm();
	for (unsigned i = 0; i < VMS; i++)
		attack(e[i], rounds);
	for (unsigned i = 0; i < VMS; i++)
		enemy_destroy(e[i]);
	return done_testing();
}

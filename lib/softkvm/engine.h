/* SPDX-License-Identifier: MIT */
/*
 * What softkvm makes of a vCPU's state to run it fast: one `struct engine` a vCPU, beside struct vcpu.
 *
 * It stands below the parts that work on it, and declares data alone: views are mmu/'s, code and blocks
 * translate/'s, the timer run/'s. Each part's functions are in its own headers.
 *
 * Every vCPU has its own code cache, block tables and software TLB. Nothing here is shared
 * between vCPUs, so nothing is locked, translated code may be patched at any time by its own
 * thread, and a prediction belongs to the CPU that made it. Price: a kernel path that two
 * vCPUs run is translated twice (docs/why/code-cache.md has the numbers).
 *
 * The arena, one reservation, so that translated code reaches all of it RIP-relative:
 *
 *	+------------------+ arena
 *	| code (R-X view)  |  the code cache; its R-W view is elsewhere (code_rw)
 *	+------------------+
 *	| slots            |  one predicted addend for each memory access site
 *	+------------------+
 *	| stack            |  for return addresses of thunks, and the frames of host signals
 *	+------------------+
 *	| struct vcpu      |
 *	+------------------+
 *
 * Register use in translated code (docs/why/registers.md):
 *
 *	guest rax rcx rdx rbx rbp r12-r15   the same host register
 *	guest rsp                           host r10
 *	guest rsi, rdi                      host r8, r9
 *	guest r8-r11                        in memory, vcpu.gpr[]
 *	host rsi, rdi                       scratch: S1 and S2
 *	host r11                            CB, the host address of a group of accesses (group.c)
 *	host rsp                            FRAME, in struct vcpu (emit.h)
 *	GS base                             the current view's table (below); see run/gsbase.h for
 *	                                    hosts that do not let us have it
 *	EFLAGS                              guest arithmetic flags, or dead; DF is always 0
 *
 * Software TLB (docs/why/tlb.md): a view is an array with one 8-byte entry for every page of
 * the 48-bit address space: 0, or the addend that makes a host address of a guest one.
 * GS base points at entry 0 (or vcpu.table says where that is). Below it, at negative offsets, lies the view's jump cache.
 * There is one view for supervisor code and one for user code of each PCID in use.
 */
#ifndef SOFTKVM_ENGINE_H
#define SOFTKVM_ENGINE_H

#include <stddef.h>

#include "softkvm/habits.h"
#include "softkvm/os/lock.h"
#include "softkvm/os/space.h"
#include "softkvm/os/words.h"
#include "softkvm/vcpu.h"

/* -- host registers -- */
enum { H_RAX, H_RCX, H_RDX, H_RBX, H_RSP, H_RBP, H_S1 = 6, H_S2 = 7,
       H_GSI = 8, H_GDI = 9, H_GSP = 10 /* the guest's RSI, RDI, RSP */, H_CB = 11, H_R12 = 12 };

/* vcpu.scratch[] as translated code uses it */
enum { SCR_TARGET,   /* where the way back from C leads */
       SCR_RET,      /* return address of the call into a thunk */
       SCR_ACCESS,   /* an access that a cold block's check handed to C: enum access_bits */
       SCR_LEFT,     /* elements that REP has still to do after a piece */
       SCR_SAMPLE,   /* checks of cold blocks until one is made hot */
       SCR_S1,       /* S1 at a gate miss or memory miss */
       SCR_HOST_RSP, /* the C stack at entry, 0 outside of translated code and what it calls */
       SCR_FAULT_PC, /* where a host signal came */
       SCR_CB,       /* CB while C runs */
       SCR_SITES,    /* address of engine.site */
       SCR_CODE,     /* and of engine.code */
       SCR_JUMPED,   /* and of engine.jumped */
       SCR_AGE,      /* jc_age of the current view */
       SCR_OPERAND }; /* native_exec(): host address of the memory operand */

/* -- views -- */
#define JC_SIZE (1u << 16) /* the index is the low 16 bits of the address */
struct jump {             /* an entry of a view's jump cache */
	uint64_t code;    /* host address of a gate */
	uint64_t lin;     /* where the guest jumped to, or JC_NONE */
};
#define JC_LEN (JC_SIZE * sizeof(struct jump))
#define JC_OFF(field) (-(int32_t)JC_LEN + (int32_t)offsetof(struct jump, field)) /* from GS base */
#define VIEW_ENTRIES (1ull << 36)
#define USER_VIEWS 6
#define TABLE_LEN (VIEW_ENTRIES * 8)
#define TOUCHED_LEN (VIEW_ENTRIES / 512 / 8) /* a bit for each page of a table */
#define VIEW_STRIDE (SPACE_HUGE + TABLE_LEN + TOUCHED_LEN)
#define VIEW_ARENA_LEN ((1 + USER_VIEWS) * VIEW_STRIDE)
_Static_assert(JC_LEN == SPACE_HUGE / 2 && VIEW_STRIDE % SPACE_HUGE == 0, "view_create()");

#define LARGE_WORDS 64
#define EVICTED_BITS 14
#define EVICTED_WORDS (1u << EVICTED_BITS >> 6)

struct view {
	uint64_t *table;       /* GS base, or eight times vcpu.table */
	struct jump *jc;       /* right below it */
	uint64_t *touched;     /* right after it: a bit for each page of the table (mmu/touched.c) */
	uint32_t n_touched;    /* bits that are set */
	uint64_t *log;         /* page numbers filled since the last flush */
	uint32_t n_log;
	uint32_t *jc_log;      /* jump cache indices filled */
	uint32_t n_jc;
	uint8_t jc_mode;       /* enum mode_bits that its blocks are for */
	uint64_t jc_age;       /* changed when it is emptied */
	uint64_t evicted[EVICTED_WORDS]; /* filter of code pages that left the instruction TLB */
	uint64_t *global_log;  /* supervisor view: entries that survive a CR3 write */
	uint32_t n_global;
	uint32_t pcid;         /* user views */
	uint64_t cr3;          /* the page table it belongs to */
	uint64_t used;         /* for replacement */
	uint64_t age;          /* of its instruction TLB entries: changed to flush them */
	uint64_t large[LARGE_WORDS]; /* filter: 2 MiB regions entered from large pages */
	uint64_t huge;         /* filter: 1 GiB regions */
	bool has_global;       /* some page of it is global: INVLPG in other PCIDs counts, too */
	bool valid;
	bool begun;            /* the jump cache is filled in; before that no code runs in it */
};
#define VIEW_LOG (1u << 16)
#define JC_NONE (1ull << 63) /* not canonical: nobody jumps there */

/* -- blocks -- */

/* Ways into a block besides `main`, made when needed (gates.c). */
enum entry {
	ENTRY_GATE,      /* indirect jumps: S1 the address, S2 the index, flags in vcpu.arith */
	ENTRY_POLL,      /* backward chains, flags in EFLAGS */
	ENTRY_MEM,       /* chains with the flags in vcpu.arith; only if the block reads them */
	ENTRY_MEM_POLL,  /* backward ones of these */
	ENTRIES
};

struct block {
	uint32_t main;    /* offset in the code cache of the entry that chains use */
	uint32_t end;     /* offset after its last byte */
	uint32_t entry[ENTRIES]; /* of its other entries, 0: not made yet */
	uint32_t exits;   /* first of them */
	uint32_t map;     /* first of n_insns + 1 entries in engine.map */
	uint32_t bytes;   /* offset in engine.bytes of the guest bytes it came from */
	uint32_t in;      /* list of exits chained to this block, ~0: none */
	uint32_t next;    /* in its page, ~0: none */
	uint32_t hash_next;
	uint32_t page;    /* index of its code_page */
	uint32_t page2;   /* of the page into which it crosses, if `over` */
	uint32_t next2;   /* in page2's list */
	uint16_t at;      /* offset in the guest page */
	uint16_t len;     /* guest bytes in the page */
	uint16_t mode;    /* enum mode_bits */
	uint8_t over;     /* guest bytes in page2 */
	uint8_t n_insns;
	bool live_in;     /* reads arithmetic flags before it replaces them all */
	bool dead;
	uint16_t slow;    /* group checks that failed */
	uint32_t counter; /* slot that counts its executions, with option `profile` */
	uint64_t lin;     /* where it was first executed; another mapping may share it */
};

struct insn_map {         /* where a guest instruction begins */
	uint16_t host;    /* from block.main */
	uint16_t guest : 12; /* from block.at */
	uint16_t flags : 2; /* enum flags_at, before the instruction's own operation */
	uint16_t cb : 1;    /* CB is live: execution cannot resume here */
};
enum flags_at { FLAGS_DEAD, FLAGS_REG, FLAGS_MEM };

struct exit_rec {
	uint32_t block;
	uint32_t site;    /* offset of the rel32 to patch */
	uint32_t stub;    /* where it leads unchained (the exit's number is behind the call there);
			   * 0: it is the call of a thunk itself */
	uint32_t to;      /* block it is chained to, ~0: none */
	uint32_t next_in; /* in that block's list */
	uint16_t target;  /* offset in the guest page */
	bool backward;
	uint8_t flags;    /* enum flags_at: where they are there */
};

/* ONE_PAGE: if it crosses pages it is for C, even where they are neighbours on the host. A group is,
 * and an atomic access, which C makes under one lock with all others that cross pages. */
enum access_kind { KIND_STORE = 1, KIND_ONE_PAGE = 2, ACCESS_KINDS = 4 };

struct site {             /* a memory access site; its slot has the same index */
	uint32_t block;
	uint32_t back;    /* offset of the code after the check: S1 is the host address */
	uint16_t size : 14; /* bytes */
	uint16_t kind : 2;  /* enum access_kind, bits */
	uint8_t insn;
	bool group;       /* the check is of a group */
	uint32_t misses;  /* at SITE_MISSES the block is translated anew, see habits.h */
};
#define SITE_MISSES 64

/*
 * Most blocks run a few times and never again. So a block is first translated cold: its checks
 * are calls of thunks, a tenth of the code. Each check of a cold block counts SCR_SAMPLE down, and
 * the block that brings it to zero is translated anew with its checks in line: blocks become hot
 * in proportion to what they would gain.
 */
enum access_bits { ACCESS_SIZE = 0xfff, ACCESS_WRITE = 0x1000, ACCESS_GROUP = 0x2000 };

_Static_assert(sizeof(struct site) == 16, "the miss thunks shift by 4");

struct pooled {           /* an instruction that C executes */
	struct insn in;
	uint32_t block;
	uint8_t index;    /* in the block; POOLED_STEP: whatever is at rip */
};
#define POOLED_STEP 0xff

static inline void copy_words(void *to, const void *from, size_t len)
{
	__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(len) : : "memory");
}

static inline void fill_words(void *to, uint64_t v, size_t n)
{
	__asm__ volatile("rep stosq" : "+D"(to), "+c"(n) : "a"(v) : "memory");
}

struct code_page {
	uint64_t gpa;
	uint8_t *hva;
	uint32_t blocks;  /* list, ~0: none */
	uint32_t crossing; /* list of blocks that cross into it, by next2 */
	uint32_t hash_next;
	uint16_t writes;  /* times it was written while holding code */
	bool claimed;     /* its note says `code`: nobody writes unseen */
	unsigned __int128 sum; /* of its bytes when its translations were last compared, 0: unknown */
};

/* What the same bytes at the same place may be translated to differently. */
enum mode_bits { MODE_64 = 1, MODE_NOFPU = 2 /* CR0.EM or TS, or no OSFXSR */, MODE_FSGS = 4
		 /* 32-bit: FS and GS are of all memory */, MODE_NOAVX = 8, MODE_AVX512 = 16,
		 MODE_USER = 32 /* CPL 1 to 3 */, MODE_NOTSC = 64 /* RDTSC faults */,
		 MODE_FSGSBASE = 128 /* CR4 permits RDFSBASE */,
		 /* of no CPU's: each access is checked by itself (group.c) */
		 MODE_SINGLE = 256 };

#define CODE_SIZE (128u << 20)
#define NATIVE_SIZE (256u << 10) /* at the end of the code cache */
#define STACK_SIZE (256u << 10)
#define SLOTS (1u << 20)
#define BLOCKS (1u << 19)
#define EXITS (BLOCKS * 2)
#define MAPS (BLOCKS * 8)
#define BYTES (32u << 20)
#define POOL (1u << 16)
#define PAGES (1u << 16)
#define HASH (1u << 18)      /* of blocks; a page has a few lines side by side in it: */
#define PAGE_BUCKETS_BITS 7
#define PAGE_HASH (1u << 14)
#define ITLB 8192
#define NATIVES 1024
#define CHANGES 16
#define CODE_QUEUE 64
#define GROUP_FAILURES 16
#define BLOCK_INSNS 64
#define SUM_KEY 512 /* the words of a page */

struct decoded {          /* the interpreter's: an instruction and what it came from */
	uint64_t bytes[2]; /* zeros behind it */
	uint8_t mode;
	struct insn in;
};
#define DECODED 4096

struct itlb {
	uint64_t lin;     /* page address | 1, 0: empty */
	uint64_t age;     /* view.age when it was made: else it is empty, too */
	uint32_t page;    /* code_page index */
};

#define JUMPED_BITS 16
#define JUMPED (1u << JUMPED_BITS)
#define JUMPED_HASH 0x9e3779b97f4a7c15ull /* times the address: the index is its upper bits */
struct jumped {           /* a second jump cache: for all views, hashed */
	uint64_t lin, age; /* view.jc_age: with another one it is a guess */
	uint32_t gate;     /* offset of the code */
	uint32_t page;     /* index of the block's code_page; NONE: it is in two */
	uint32_t flushes;  /* of the code cache, when it was made */
	uint8_t mode;
};
_Static_assert(sizeof(struct jumped) == 32, "half a cache line");
_Static_assert(JUMPED * sizeof(struct jumped) == SPACE_HUGE, "it is touched all over: a huge page");
_Static_assert(HASH * sizeof(uint32_t) == SPACE_HUGE - JC_LEN, "and the rest of the kernel's");

/*
 * The code cache's parts, from low to high: blocks that run often lie side by side, apart from
 * the many that ran a few times, and from what is rarely executed of either. Thunks stand before
 * the first, native.c's pieces behind the last.
 */
enum { REGION_COLD, REGION_HOT, REGION_STUBS, REGIONS };
struct extent {           /* a block's code: what a search looks at lies close together */
	uint32_t end;     /* offset */
	uint32_t block;
};
struct region {
	uint32_t begin, at, end; /* offsets; at: the next free byte */
	struct extent *block;    /* its blocks, ascending as their code does; none of stubs */
	uint32_t n;
};

/* How much of each table is there already (ahead.c), in bytes. */
struct ahead {
	uint32_t code[REGIONS], code_rw[REGIONS], extent[REGIONS], slots, site, block, exit, map, bytes, pool,
		page;
};

enum gs_way { GS_KEPT, GS_REPAIRED, GS_UNUSED }; /* run/gsbase.h tells them apart */

struct engine {
	struct vcpu *c;
	enum gs_way gs; /* what translated code uses of the host, see run/gsbase.h */
	bool bextr;
	uint8_t *code;    /* R-X */
	uint8_t *code_rw;
	uint64_t *slots;
	struct region region[REGIONS];
	uint32_t code_size;
	struct ahead ahead;
	uint32_t n_slots, n_blocks, n_exits, n_maps, n_bytes, n_pool, n_pages;
	struct site *site;
	struct block *block;
	struct exit_rec *exit;
	struct insn_map *map;
	uint8_t *bytes;
	struct pooled *pool;
	struct code_page *page;
	uint32_t *block_hash, *page_hash; /* ~index, 0: none; the first lies below the kernel view's jump cache */
	struct itlb itlb[ITLB];
	struct jumped *jumped; /* what was in jump caches, or is */
	struct decoded decoded[DECODED];
	uint8_t page_now[4096] __attribute__((aligned(8))); /* page_check()'s */
	uint64_t sum_key[SUM_KEY]; /* page_sum()'s, random */
	uint64_t canary; /* on the C stack below translated code, random: thunks.c */
	enum step leave; /* why translated code was left */

	struct tr *tr;    /* the translation under way */
	struct view kernel, user[USER_VIEWS];
	struct view *view;  /* the current one */
	struct view *user_now; /* the user view of CR3 and PCID, NULL: to be found */
	uint64_t view_clock;
	uint64_t ages;         /* given out to views */
	uint8_t *view_arena;
	bool kernel_exec_local; /* non-global pages are in the supervisor's instruction TLB */

	/* offsets of the thunks in the code cache */
	struct {
		uint32_t enter, leave, resume, insn, exit, exit_mem, gate, gate_miss, poll, fault,
			native_done, native_fault; /* gate: jumps to SCR_S1 */
		uint32_t miss[ACCESS_KINDS][10];  /* [bits][log2 size] */
		/* of cold blocks: EFLAGS and vcpu.arith, checks; S2 is the length for a group */
		uint32_t save_flags, load_flags, check[ACCESS_KINDS][10], check_group[2];
		uint32_t rep_movs[2][4], rep_stos[2][4]; /* [64-bit][log2 of the element]; ZF: done */
	} thunk;

	/* messages from other vCPUs */
	_Atomic uint64_t sync_page[VCPUS_MAX + 1]; /* page that the sender wants without writers; the last is the client */
	struct lock code_lock;
	uint64_t code_queue[CODE_QUEUE];
	uint32_t n_code_queue;
	bool code_overflow;
	struct change {          /* what this vCPU's instruction stores to code of others */
		uint64_t gpa;
		uint32_t len, holders;
	} changes[CHANGES];
	uint32_t n_changes;
	_Atomic uint32_t running;

	struct habits habits;

	struct words opt;
	uint64_t host_gs;
	uint64_t random;
	uint64_t timer_thread; /* that the POSIX timer signals; 0: there is none */
	int timer;
	bool in_run;        /* GS base is ours */
	bool abandoned;     /* its thread ended in KVM_RUN */
	bool translates;    /* it has: views that are selected are begun */
	uint64_t paging[4]; /* CR0, CR3, CR4, EFER when KVM_RUN was left */
	uint64_t armed;     /* deadline of the armed host timer, 0: none */

	/* native_exec(): single instructions as host code */
	struct native {
		uint8_t bytes[16];
		uint32_t code;
		uint8_t len, mode;
	} native[NATIVES];
	uint32_t native_used;
	bool in_native;
	uint8_t native_vector; /* what the instruction raised, 0xff: nothing */
};

static inline uint64_t code_addr(const struct engine *e, uint32_t offset)
{
	return (uint64_t)(uintptr_t)(e->code + offset);
}

#endif

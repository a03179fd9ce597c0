/* SPDX-License-Identifier: MIT */
/*
 * The code cache: memory, tables of blocks and pages, chains.
 *
 * Code is bump-allocated, in regions (engine.h). A dropped block leaves a hole; when a region or
 * any table is full everything is thrown away and translation starts anew (counted as
 * cache_flushes). The cache's memory has two mappings of one memfd, R-X to run and R-W to write:
 * no page can be written and executed through the same address.
 *
 * Who can reach a block:
 *  - the hash table, by (guest-physical address, mode);
 *  - exits of blocks of the same page and mode, chained to it: its list `in`;
 *  - jump cache entries, through its gate.
 * block_drop() cuts all three: the table entry goes, each chained exit leads to its stub again,
 * and the gate's first instruction becomes a jump to the gate miss thunk (which ends the life
 * of jump cache entries without a search). Its code stays until the cache is flushed, so it may
 * be dropped while it is the block that called C.
 */
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/memfile.h"
#include "softkvm/os/space.h"
#include "softkvm/translate/translate.h"

static void *table(size_t n, size_t size)
{
	return space_create(n * size);
}

static int map_code(struct engine *e)
{
	int fd = memfile_create("lodge-code", CODE_SIZE);
	void *rw;

	if (fd < 0)
		return fd;
	if (mmap(e->code, CODE_SIZE, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_FIXED, fd, 0) ==
	    MAP_FAILED) {
		close(fd);
		return -EACCES;
	}
	rw = mmap(NULL, CODE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (rw == MAP_FAILED)
		return -ENOMEM;
	e->code_rw = rw;
	/* To write a file's memory to a core file makes all of it. (run/signal.c) */
	madvise(e->code, CODE_SIZE, MADV_DONTDUMP);
	madvise(rw, CODE_SIZE, MADV_DONTDUMP);
	return 0;
}

/* Sixteenths of the cache. Whichever region is full first, all is thrown away. */
static bool divide(struct engine *e)
{
	static const uint8_t share[REGIONS] = {9, 4, 3};
	uint32_t at = 0;
	unsigned i;

	for (i = 0; i < REGIONS; i++) {
		struct region *r = &e->region[i];

		r->begin = r->at = at;
		r->end = at += e->code_size / 16 * share[i];
		if (i != REGION_STUBS && !(r->block = table(BLOCKS, sizeof(*r->block))))
			return false;
	}
	return true;
}

int cache_create(struct engine *e)
{
	uint8_t *stack_end = (uint8_t *)((uintptr_t)e->c & ~0xffffull);
	int rc;

	if (e->c->arena_len < CODE_SIZE + SLOTS * 8ul + 2 * STACK_SIZE)
		return -ENOMEM;
	e->code = e->c->arena;
	e->slots = (uint64_t *)(void *)(e->code + CODE_SIZE);
	if (mprotect(e->slots, SLOTS * 8ul, PROT_READ | PROT_WRITE) ||
	    mprotect(stack_end - STACK_SIZE, STACK_SIZE, PROT_READ | PROT_WRITE))
		return -errno;
	e->code_size = e->opt.cache_size ? e->opt.cache_size : CODE_SIZE - NATIVE_SIZE;
	e->native_used = e->code_size;
	e->site = table(SLOTS, sizeof(*e->site));
	e->block = table(BLOCKS, sizeof(*e->block));
	e->exit = table(EXITS, sizeof(*e->exit));
	e->map = table(MAPS, sizeof(*e->map));
	e->bytes = table(BYTES, 1);
	e->pool = table(POOL, sizeof(*e->pool));
	e->page = table(PAGES, sizeof(*e->page));
	e->page_hash = table(PAGE_HASH, sizeof(uint32_t));
	e->tr = table(1, sizeof(*e->tr));
	e->jumped = space_create_huge(SPACE_HUGE);
	if (!e->site || !e->block || !e->exit || !e->map || !e->bytes || !e->pool || !e->page ||
	    !e->page_hash || !e->tr || !e->jumped || !divide(e))
		return -ENOMEM;
	e->block_hash = (uint32_t *)(void *)e->view_arena;
	rc = map_code(e);
	if (rc)
		return rc;
	e->c->scratch[SCR_SITES] = (uint64_t)(uintptr_t)e->site;
	e->c->scratch[SCR_CODE] = (uint64_t)(uintptr_t)e->code;
	e->c->scratch[SCR_JUMPED] = (uint64_t)(uintptr_t)e->jumped;
	thunks_emit(e);
	cache_flush(e);
	e->c->stat.cache_flushes = 0;
	return 0;
}

static void drop_table(void *p, size_t len)
{
	if (p)
		munmap(p, len);
}

void cache_destroy(struct engine *e)
{
	drop_table(e->site, SLOTS * sizeof(*e->site));
	drop_table(e->block, BLOCKS * sizeof(*e->block));
	drop_table(e->exit, EXITS * sizeof(*e->exit));
	drop_table(e->map, MAPS * sizeof(*e->map));
	drop_table(e->bytes, BYTES);
	drop_table(e->pool, POOL * sizeof(*e->pool));
	drop_table(e->page, PAGES * sizeof(*e->page));
	drop_table(e->page_hash, PAGE_HASH * sizeof(uint32_t));
	drop_table(e->tr, sizeof(*e->tr));
	drop_table(e->jumped, SPACE_HUGE);
	drop_table(e->region[REGION_COLD].block, BLOCKS * sizeof(struct extent));
	drop_table(e->region[REGION_HOT].block, BLOCKS * sizeof(struct extent));
	drop_table(e->code_rw, CODE_SIZE);
}

/* -- Tables -------------------------------------------------------------------------------------- */

static uint32_t page_hash(uint64_t gpa)
{
	return (uint32_t)(gpa * 0x9e3779b97f4a7c15ull >> 40) & (PAGE_HASH - 1);
}

/* By the page's number: what is asked for together (a block and its exits) lies together, and memory
 * of the table is touched as pages come. */
static uint32_t *bucket(struct engine *e, uint32_t page, uint16_t at)
{
	uint32_t in_page = at * 0x9e3779b1u >> (32 - PAGE_BUCKETS_BITS);

	return &e->block_hash[((page << PAGE_BUCKETS_BITS) + in_page) & (HASH - 1)];
}

/* Everything goes. The caller must not return to translated code that existed before. */
void cache_flush(struct engine *e)
{
	uint32_t i;

	for (i = 0; i < e->n_blocks; i++)
		*bucket(e, e->block[i].page, e->block[i].at) = 0;
	for (i = 0; i < e->n_pages; i++) {
		struct slot *s = vm_slot(e->c->vm, e->page[i].gpa);

		e->page_hash[page_hash(e->page[i].gpa)] = 0;
		if (s)
			atomic_fetch_and(&s->note[(e->page[i].gpa - s->gpa) >> 12].code,
					 ~vcpu_bit(e->c));
	}
	for (i = 0; i < REGIONS; i++) {
		e->region[i].at = e->region[i].begin;
		e->region[i].n = 0;
	}
	e->n_blocks = e->n_exits = e->n_maps = e->n_bytes = e->n_pool = 0;
	e->n_slots = 1; /* 0: none */
	e->n_pages = 0;
	jc_flush(e, &e->kernel);
	itlb_flush(e, &e->kernel);
	for (i = 0; i < USER_VIEWS; i++) {
		jc_flush(e, &e->user[i]);
		itlb_flush(e, &e->user[i]);
	}
	e->c->stat.cache_flushes++;
}

struct block *block_find(struct engine *e, const struct code_page *p, uint16_t at, uint16_t mode)
{
	uint32_t page = (uint32_t)(p - e->page), i;

	for (i = ~*bucket(e, page, at); i != NONE; i = e->block[i].hash_next) {
		struct block *b = &e->block[i];

		if (b->at == at && b->page == page && b->mode == mode)
			return b;
	}
	return NULL;
}

void block_add(struct engine *e, struct block *b)
{
	uint32_t *head = bucket(e, b->page, b->at);
	uint32_t i = (uint32_t)(b - e->block);

	b->hash_next = ~*head;
	*head = ~i;
	b->next = e->page[b->page].blocks;
	e->page[b->page].blocks = i;
	e->page[b->page].sum = 0;
	if (b->over) {
		b->next2 = e->page[b->page2].crossing;
		e->page[b->page2].crossing = i;
		e->page[b->page2].sum = 0;
	}
}

static void block_unhash(struct engine *e, const struct block *b)
{
	uint32_t *head = bucket(e, b->page, b->at);
	uint32_t i = (uint32_t)(b - e->block), at = ~*head;

	if (at == i) {
		*head = ~b->hash_next;
		return;
	}
	while (at != NONE && e->block[at].hash_next != i)
		at = e->block[at].hash_next;
	if (at != NONE)
		e->block[at].hash_next = b->hash_next;
}

struct code_page *page_find(struct engine *e, uint64_t gpa)
{
	uint32_t i;

	for (i = ~e->page_hash[page_hash(gpa)]; i != NONE; i = e->page[i].hash_next)
		if (e->page[i].gpa == gpa)
			return &e->page[i];
	return NULL;
}

/* NULL: the table is full, flush the cache. */
struct code_page *page_get(struct engine *e, uint64_t gpa, uint8_t *hva)
{
	struct code_page *p = page_find(e, gpa);
	uint32_t *head = &e->page_hash[page_hash(gpa)];

	if (p) {
		p->hva = hva;
		return p;
	}
	if (e->n_pages == PAGES)
		return NULL;
	p = &e->page[e->n_pages];
	*p = (struct code_page){.gpa = gpa, .hva = hva, .blocks = NONE,
				  .crossing = NONE, .hash_next = ~*head};
	*head = ~e->n_pages++;
	return p;
}

struct region *region_at(struct engine *e, uint32_t offset)
{
	struct region *r = e->region;

	while (r < e->region + REGIONS - 1 && offset >= r->end)
		r++;
	return r;
}

/* The block whose code lies at an offset of the cache; NULL: none's does. */
struct block *block_at_host(struct engine *e, uint32_t offset)
{
	const struct region *r = region_at(e, offset);
	uint32_t lo = 0, hi = r->n;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (r->block[mid].end <= offset)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo < r->n && e->block[r->block[lo].block].main <= offset)
		return &e->block[r->block[lo].block];
	return NULL;
}

struct block *block_here(struct engine *e, uint32_t offset)
{
	struct block *b = block_at_host(e, offset);

	if (!b)
		__builtin_trap();
	return b;
}

/* The instruction of a block whose code lies there. */
unsigned insn_at_host(const struct engine *e, const struct block *b, uint32_t offset)
{
	unsigned i = 0;

	while (i + 1 < b->n_insns && b->main + e->map[b->map + i + 1].host <= offset)
		i++;
	return i;
}

/* -- Chains ---------------------------------------------------------------------------------------- */

/* Where an exit leads when it is not chained. */
static void patch_unchained(struct engine *e, const struct exit_rec *x)
{
	if (x->stub) {
		patch_rel(e, x->site, x->stub);
		return;
	}
	e->code_rw[x->site - 1] = 0xe8;
	patch_rel(e, x->site, x->flags == FLAGS_MEM ? e->thunk.exit_mem : e->thunk.exit);
}

void exit_chain(struct engine *e, struct exit_rec *x, struct block *to)
{
	uint32_t entry;

	if (x->to != NONE)
		return;
	if (to->over)
		entry = entry_get(e, to, x->flags == FLAGS_MEM ? ENTRY_MEM : ENTRY_POLL);
	else if (x->flags == FLAGS_MEM)
		entry = entry_get(e, to, x->backward ? ENTRY_MEM_POLL : ENTRY_MEM);
	else
		entry = x->backward ? entry_get(e, to, ENTRY_POLL) : to->main;
	if (!entry)
		return;
	x->to = (uint32_t)(to - e->block);
	x->next_in = to->in;
	to->in = (uint32_t)(x - e->exit);
	if (!x->stub)
		e->code_rw[x->site - 1] = 0xe9;
	patch_rel(e, x->site, entry);
	e->c->stat.chained++;
}

static void unchain_incoming(struct engine *e, struct block *b)
{
	uint32_t i, next;

	for (i = b->in; i != NONE; i = next) {
		struct exit_rec *x = &e->exit[i];

		next = x->next_in;
		x->to = x->next_in = NONE;
		patch_unchained(e, x);
	}
	b->in = NONE;
}

/* Also takes the block out of its pages' lists: the caller iterates accordingly. */
void block_drop(struct engine *e, struct block *b)
{
	uint32_t i = (uint32_t)(b - e->block), *link;

	if (b->dead)
		return;
	b->dead = true;
	block_unhash(e, b);
	for (link = &e->page[b->page].blocks; *link != NONE; link = &e->block[*link].next)
		if (*link == i) {
			*link = b->next;
			break;
		}
	link = b->over ? &e->page[b->page2].crossing : NULL;
	for (; link && *link != NONE; link = &e->block[*link].next2)
		if (*link == i) {
			*link = b->next2;
			break;
		}
	unchain_incoming(e, b);
	if (b->entry[ENTRY_GATE]) {
		e->code_rw[b->entry[ENTRY_GATE]] = 0xe9;
		patch_rel(e, b->entry[ENTRY_GATE] + 1, e->thunk.gate_miss);
	}
}

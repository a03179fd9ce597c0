/* SPDX-License-Identifier: MIT */
/*
 * Code that changes: why no stale translation runs.
 *
 * A translation is made from bytes of a guest-physical page. The bytes can change by
 *
 *  1. a store of the vCPU that holds the translation. The page's note says `code`, so no vCPU
 *     has a writable TLB entry for it (page_claim_code() sees to it before the first byte is
 *     read, tlb.c's may_write() afterwards). The store comes to C, to page_changed(),
 *     which drops the blocks it overlaps before the next instruction.
 *  2. a store of another vCPU: the same path there; the holders get a message (REQ_CODE). The
 *     manual demands a serializing instruction or an interrupt on the executing CPU before it
 *     may rely on the new bytes. Those run in C, or end in dispatch(), which looks at requests;
 *     so does every gate (an indirect jump to new code) and every backward chain.
 *     The message must come after the store, or the holder translates the old bytes again in
 *     between: page_changed() is called behind the store and a full barrier, and messages
 *     go when the storing instruction is complete. Two columns, W stores, T translates:
 *
 *	W: store; barrier; look at `code`; message to who was in it
 *	T: code |= T; look at `writers`, wait for the polls of who was in it; read the bytes
 *
 *     If W does not see T, T marked the page after W's store and reads the new bytes. If W sees
 *     T, T gets the message.
 *
 *     A T that sleeps, or waits for a processor, would make all of W's stores to the page go
 *     through C. So when W has a message for T about a page of which T has not served the last
 *     one, W takes the page from T: T's bit in `code`. T gives up all its blocks of the page
 *     when it serves the message, and marks the page anew before it translates from it again.
 *
 *	W: store; barrier; lock T's queue; message: all of the page; request to T;
 *	   take T's bit; unlock
 *	T: (poll) take the request; lock; take messages; unlock; drop blocks, claimed = false,
 *	   bit &= ~T; ... translate: bit |= T; look at `writers`; read the bytes
 *
 *     Until T serves the message it may run, and even make, translations of older bytes, as it
 *     may before it serves any message; all are gone then. T's bit is never without its blocks'
 *     message: T that takes the messages after the bit went finds this one among them, and a
 *     bit that T set after it had taken them is not taken by an older one, because both
 *     happen under the lock. A third vCPU X that finds no bit stores unseen; but the request
 *     came before the bit went, so T's next poll, which is after whatever X tells T
 *     afterwards, serves it. T's own stores to the page must have their effect at once: while T
 *     has the request it gets no writable entry (may_write()), and a store that C makes is
 *     followed by a look at the requests. If there is no room for the message then the request
 *     is it: T looks which of its pages have lost their bit.
 *  3. the client's own pointer (a disk read, a debugger): invisible here. But what it loads the
 *     guest executes only after a mapping of the page was made or changed, or after it left
 *     KVM_RUN:
 *       - with paging, a page that the guest had unmapped comes back through fetch_miss(): the
 *         instruction TLB is empty for it, since unmapping flushed it. There page_check()
 *         compares all its translations with the bytes.
 *       - a not-present page needs no flush, but then it is not in the instruction TLB either.
 *       - without paging (boot loaders, start-up code) the instruction TLB is emptied whenever
 *         KVM_RUN is entered.
 *     What remains: a client that rewrites code under an unchanged mapping while the guest can
 *     run it. ERRATA names it.
 *
 * A page's mark is with its memory slot's notes, which go with the slot. So it is looked at, too,
 * when the page enters the instruction TLB: a page without it has lost all its blocks.
 *
 * A page that is written again and again has all its blocks dropped, because it is being
 * recycled for data: then it loses its mark, and stores to it are fast again.
 */
#include "softkvm/mmu/tlb.h"
#include "softkvm/os/bytes.h"
#include "softkvm/os/lock.h"
#include "softkvm/os/syscall.h"
#include "softkvm/translate/translate.h"

#define WRITES_TO_RECYCLE 8

static struct page_note *note_of(struct slot *slot, uint64_t gpa)
{
	return &slot->note[(gpa - slot->gpa) >> 12];
}

/* -- Dropping ---------------------------------------------------------------------- */

void page_drop_blocks(struct engine *e, struct code_page *p, uint16_t from, uint16_t to)
{
	uint32_t i, next;

	for (i = p->blocks; i != NONE; i = next) {
		struct block *b = &e->block[i];

		next = b->next;
		if (b->at < to && b->at + b->len > from) {
			block_drop(e, b);
			e->c->stat.invalidated++;
		}
	}
	for (i = p->crossing; i != NONE; i = next) {
		next = e->block[i].next2;
		if (e->block[i].over > from) {
			block_drop(e, &e->block[i]);
			e->c->stat.invalidated++;
		}
	}
}

/*
 * A sum that tells one content of a page from another. The same processes enter the same pages again
 * and again, and comparing block by block takes longer. A guest's user who could make a
 * page with the sum of another would have the one's translations run in the other's place (smuggled
 * into a program that root starts, say). So every word has a secret number of this vCPU added, and
 * pairs are multiplied: whatever two pages are chosen without knowing it, they have the same sum
 * with a probability of 2^-64.
 */
static unsigned __int128 page_sum(const struct engine *e, const uint8_t *page)
{
	const volatile uint64_t *w = (const volatile uint64_t *)(const void *)page;
	const uint64_t *key = e->sum_key;
	unsigned __int128 sum = 0;
	unsigned i;

	for (i = 0; i < SUM_KEY; i += 2)
		sum += (unsigned __int128)(w[i] + key[i]) * (w[i + 1] + key[i + 1]);
	return sum;
}

/* Was the page taken from us? Then stores to it are not seen, and nothing of it is left. */
static void drop_lost(struct engine *e, struct code_page *p)
{
	struct slot *slot = p->claimed ? vm_slot(e->c->vm, p->gpa) : NULL;

	if (!p->claimed || (slot && atomic_load(&note_of(slot, p->gpa)->code) & vcpu_bit(e->c)))
		return;
	page_drop_blocks(e, p, 0, 4096);
	p->writes = 0;
	p->claimed = false;
}

/* A page enters the instruction TLB: are its translations still those of its bytes? */
void page_check(struct engine *e, struct code_page *p)
{
	uint32_t i, next;

	drop_lost(e, p);
	if (p->blocks == NONE && p->crossing == NONE)
		return;
	e->c->stat.checked_pages++;
	if (p->sum && page_sum(e, p->hva) == p->sum)
		return;
	copy_words(e->page_now, p->hva, 4096); /* what is summed is what is compared */
	p->sum = page_sum(e, e->page_now);
	for (i = p->blocks; i != NONE; i = next) {
		struct block *b = &e->block[i];

		next = b->next;
		if (!bytes_equal(e->bytes + b->bytes, e->page_now + b->at, b->len)) {
			block_drop(e, b);
			e->c->stat.stale++;
		}
	}
	for (i = p->crossing; i != NONE; i = next) {
		struct block *b = &e->block[i];

		next = b->next2;
		if (!bytes_equal(e->bytes + b->bytes + b->len, e->page_now, b->over)) {
			block_drop(e, b);
			e->c->stat.stale++;
		}
	}
}

/* Stores to a page of which nothing is translated any more need not be seen. */
static void release_empty(struct vcpu *c, struct code_page *p, struct slot *slot)
{
	if (p->blocks != NONE || p->crossing != NONE)
		return;
	p->writes = 0;
	p->claimed = false;
	atomic_fetch_and(&note_of(slot, p->gpa)->code, ~vcpu_bit(c));
}

static void drop_written(struct vcpu *c, struct slot *slot, uint64_t gpa, unsigned len)
{
	struct engine *e = c->engine;
	struct code_page *p = page_find(e, gpa & ~4095ull);
	uint16_t from = (uint16_t)(gpa & 4095);
	bool recycled;

	if (!p) {
		atomic_fetch_and(&note_of(slot, gpa)->code, ~vcpu_bit(c));
		return;
	}
	recycled = ++p->writes >= WRITES_TO_RECYCLE;
	page_drop_blocks(e, p, recycled ? 0 : from, recycled ? 4096 : (uint16_t)(from + len));
	release_empty(c, p, slot);
}

/* -- Between vCPUs ----------------------------------------------------------------- */

/* The message about this page that is still in the queue, NULL: none. */
static uint64_t *unserved(struct engine *e, uint64_t gpa)
{
	uint32_t i;

	for (i = 0; i < e->n_code_queue; i++)
		if (e->code_queue[i] << 12 >> 24 == gpa >> 12)
			return &e->code_queue[i];
	return NULL;
}

/* Who sleeps is not woken: requests are served before anything is executed. */
static void post_write(struct vcpu *to, struct page_note *note, uint64_t gpa, unsigned len)
{
	struct engine *e = to->engine;
	bool take = true;
	uint64_t *old;

	lock_take(&e->code_lock);
	old = unserved(e, gpa);
	if (old) {
		*old = gpa & ~4095ull; /* length 0: all of it */
	} else if (e->n_code_queue < CODE_QUEUE) {
		e->code_queue[e->n_code_queue++] = gpa | (uint64_t)(len & 0xfff) << 52;
		take = false;
	} else {
		e->code_overflow = true;
	}
	atomic_fetch_or(&to->requests, REQ_CODE);
	if (take)
		atomic_fetch_and(&note->code, ~vcpu_bit(to));
	lock_drop(&e->code_lock);
}

static void take_writes(struct vcpu *c)
{
	struct engine *e = c->engine;
	uint64_t queue[CODE_QUEUE];
	bool overflow;
	uint32_t i, n;

	lock_take(&e->code_lock);
	n = e->n_code_queue;
	for (i = 0; i < n; i++)
		queue[i] = e->code_queue[i];
	overflow = e->code_overflow;
	e->n_code_queue = 0;
	e->code_overflow = false;
	lock_drop(&e->code_lock);
	for (i = 0; overflow && i < e->n_pages; i++)
		drop_lost(e, &e->page[i]);
	for (i = 0; i < n; i++) {
		uint64_t gpa = queue[i] << 12 >> 12;
		struct slot *slot = vm_slot(c->vm, gpa);
		unsigned len = (unsigned)(queue[i] >> 52);

		if (slot)
			drop_written(c, slot, gpa, len ? len : 4096);
	}
}

/* What another vCPU may ask for: a page's writable entries to go (its address | 1), or, if it asked
 * again before the first was answered, all of them. */
#define SYNC_ALL (~0ull)

/* A page that moves, or has moved while this vCPU slept, has its bytes in the slot's own memory from now on
 * (mmu/layer.c). */
static void code_moves(struct engine *e, struct slot *slot, uint64_t gpa)
{
	struct code_page *p = slot->layers ? page_find(e, gpa) : NULL;
	uint8_t layer = p ? atomic_load(&slot->layers->page[(gpa - slot->gpa) >> 12]) : 0;

	if (p && (!layer || layer & LAYER_MOVING))
		p->hva = slot->rw + (gpa - slot->gpa);
}

static void let_go(struct vcpu *c, struct slot *slot, uint64_t gpa)
{
	c->given_up++;
	code_moves(c->engine, slot, gpa);
	tlb_drop_writable(c, slot, gpa);
}

static void let_all_go(struct vcpu *c)
{
	struct engine *e = c->engine;
	uint32_t i;

	c->given_up++;
	for (i = 0; i < e->n_pages; i++) {
		struct slot *slot = vm_slot(c->vm, e->page[i].gpa);

		if (slot)
			code_moves(e, slot, e->page[i].gpa);
	}
	mmu_flush_all(c);
}

static void answer_sync(struct vcpu *c, uint64_t what)
{
	struct slot *slot;

	if (what == SYNC_ALL) {
		let_all_go(c);
		return;
	}
	slot = vm_slot(c->vm, what & ~4095ull);
	if (slot)
		let_go(c, slot, what & ~4095ull);
}

static void answer_syncs(struct vcpu *c)
{
	struct engine *e = c->engine;
	unsigned i;

	for (i = 0; i <= VCPUS_MAX; i++) {
		uint64_t what = atomic_load(&e->sync_page[i]);

		while (what) { /* and what is asked for meanwhile */
			answer_sync(c, what);
			if (atomic_compare_exchange_strong(&e->sync_page[i], &what, 0))
				break;
		}
	}
}

void code_requests(struct vcpu *c, uint32_t requests)
{
	if (requests & REQ_MMU_SYNC)
		answer_syncs(c);
	if (requests & REQ_CODE)
		take_writes(c);
}

/* One turn of waiting for another thread, which may have no processor at the moment. */
static void wait_a_little(unsigned turn)
{
	static const struct __kernel_timespec moment = {.tv_nsec = 20000};

	if (turn < 1000)
		__asm__ volatile("pause");
	else
		sys_call3(SYS_nanosleep, (long)&moment, 0, 0);
}

void sync_turn(struct vcpu *c, unsigned turn)
{
	if (c && atomic_load(&c->requests) & REQ_MMU_SYNC)
		answer_syncs(c); /* who we wait for may wait for us */
	wait_a_little(turn);
}

/* Waits until another vCPU has no writable entry for the page. It answers at its next poll; one
 * that is not running answers before it runs again, and until then we may ask for more. c is NULL for the
 * client. */
static void sync_writer(struct vcpu *c, struct vcpu *other, uint64_t gpa)
{
	struct engine *o = other->engine;
	_Atomic uint64_t *ask = &o->sync_page[c ? c->place : VCPUS_MAX];
	uint64_t none = 0;
	unsigned turn = 0;

	if (!atomic_compare_exchange_strong(ask, &none, gpa | 1))
		atomic_store(ask, SYNC_ALL);
	vcpu_kick(other, REQ_MMU_SYNC);
	while (atomic_load(ask) && atomic_load(&o->running))
		sync_turn(c, turn++);
}

static void sync_others(struct vm *vm, struct vcpu *c, uint32_t writers, uint64_t gpa)
{
	int i, n = atomic_load(&vm->n_vcpus);

	for (i = 0; i < n; i++) {
		struct vcpu *other = vm->vcpu[i];

		if (other != c && other->engine && writers & vcpu_bit(other))
			sync_writer(c, other, gpa);
	}
}

void sync_readers(struct vm *vm, struct vcpu *c, struct slot *slot, uint64_t gpa)
{
	uint32_t writers = atomic_load(&note_of(slot, gpa)->writers);

	if (c && writers & vcpu_bit(c))
		let_go(c, slot, gpa);
	sync_others(vm, c, writers, gpa);
}

/* Nobody writes it but by way of page_move(), after which may_write() looks for our mark. */
static bool is_layered(const struct slot *slot, uint64_t gpa)
{
	return slot->layers && atomic_load(&slot->layers->page[(gpa - slot->gpa) >> 12]);
}

void page_claim_code(struct vcpu *c, struct slot *slot, uint64_t gpa)
{
	struct page_note *note = note_of(slot, gpa);
	uint32_t writers;

	atomic_fetch_or(&note->code, vcpu_bit(c));
	if (is_layered(slot, gpa))
		return;
	writers = atomic_load(&note->writers);
	if (writers & vcpu_bit(c))
		tlb_drop_writable(c, slot, gpa);
	sync_others(c->vm, c, writers, gpa);
}

/* The instruction that stored has completed (or will never): tell the holders. */
void post_changes(struct vcpu *c)
{
	struct engine *e = c->engine;
	int i, n = atomic_load(&c->vm->n_vcpus);
	uint32_t k;

	for (k = 0; k < e->n_changes; k++) {
		const struct change *w = &e->changes[k];
		struct slot *slot = vm_slot(c->vm, w->gpa);

		for (i = 0; slot && i < n; i++) {
			struct vcpu *other = c->vm->vcpu[i];

			if (other != c && other->engine && w->holders & vcpu_bit(other))
				post_write(other, note_of(slot, w->gpa), w->gpa, w->len);
		}
	}
	e->n_changes = 0;
}

static void add_change(struct vcpu *c, uint32_t holders, uint64_t gpa, unsigned len)
{
	struct engine *e = c->engine;

	if (e->n_changes == CHANGES) /* no instruction stores to so many pages but REP's, whose
				      * iterations are complete */
		post_changes(c);
	e->changes[e->n_changes++] =
		(struct change){.gpa = gpa, .len = len, .holders = holders};
}

/* -- Stores in C ------------------------------------------------------------------- */

void page_changed(struct vcpu *c, struct slot *slot, uint64_t gpa, unsigned len)
{
	uint64_t page = (gpa - slot->gpa) >> 12;
	struct page_note *note = &slot->note[page];
	uint32_t code;

	if (slot->dirty)
		atomic_fetch_or(&slot->dirty[page / 64], 1ull << (page % 64));
	if (!c || !c->engine)
		return;
	if (!(atomic_load_explicit(&note->writers, memory_order_relaxed) & vcpu_bit(c)))
		atomic_fetch_or(&note->writers, vcpu_bit(c));
	code = atomic_load(&note->code);
	if (!code)
		return;
	c->stat.code_writes++;
	if (code & vcpu_bit(c))
		drop_written(c, slot, gpa, len);
	if (code & ~vcpu_bit(c))
		add_change(c, code & ~vcpu_bit(c), gpa, len);
}

/* -- Memory slots ------------------------------------------------------------------ */

void slots_changed(struct vm *vm)
{
	int i, n = atomic_load(&vm->n_vcpus);

	for (i = 0; i < n; i++) {
		struct vcpu *c = vm->vcpu[i];
		unsigned turn = 0;

		if (!c || !c->engine)
			continue;
		vcpu_kick(c, REQ_TLB_FLUSH);
		while (atomic_load(&c->requests) & REQ_TLB_FLUSH &&
		       atomic_load(&c->engine->running))
			wait_a_little(turn++);
	}
}

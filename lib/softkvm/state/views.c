/* SPDX-License-Identifier: MIT */
/*
 * The engine's own views of a slot: the client's pages mapped twice more.
 *
 *	client's  hva   [ A ][   B   ]               its mappings, of whatever kind
 *	          rw    [             ]              lower half of the views' range
 *	          ro    [             ]              the same place in the upper half, PROT_READ
 *
 * Loads from a page run at full speed through either; stores through `ro` would fault and come to
 * the engine before they do (pages that hold translated code, clean pages, logged pages). The two
 * views of a slot differ in one address bit, SLOT_VIEW_RO, so translated code can tell of a host
 * address whether it may be written through.
 *
 * The views have the client's permissions: what it may not read or write the guest may not either,
 * and KVM_RUN says -EFAULT (mmu/guarded.h). But they are never executable: bytes that a guest chose.
 *
 * Where the first one lies is drawn at random: the range is so large and aligned that the host's own
 * choice of places leaves few. Between two is memory that nobody may touch. A place whose view is gone is
 * used again: a VM that is forked has new views each time.
 *
 * mremap() with an old size of 0 maps the pages of a shared mapping once more. The client's memory
 * may be several mappings side by side, so it is done piece by piece, as /proc/self/maps lists them.
 * Without /proc the memory of a slot is taken for one shared mapping, which mremap() checks, and that
 * nobody may execute.
 * Private memory has no second mapping; it is *made* shared: its content is copied to a memfd,
 * and that is mapped in its place. The client sees the same bytes at the same address. What changes
 * is what fork() does to them, and stores that another thread makes during the copy are lost: a
 * client sets up memory before it lets others write to it.
 *
 * Where any piece resists (nothing mapped, a device's memory), the slot has no views: rw and
 * ro are hva. Then only addresses without SLOT_VIEW_RO are used directly (mmu/tlb.c).
 */
#include "softkvm/state/slots.h"

#include "base/bytes.h"
#include "base/memfile.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#define PAGE 4096ull
#define HUGE (2ull << 20)
#define GAP HUGE /* before each view, and behind the last */

/* -- places ------------------------------------------------------------------------------ */

/* In the lower half of the room, from its beginning; the gap before a view belongs to its place. */
struct place {
	uint64_t at, end;
};

static uint64_t views_at, views_from; /* so much is left free at the beginning, by chance */
static struct place *places;          /* in order of their addresses */
static unsigned n_places;
static pthread_mutex_t views_lock = PTHREAD_MUTEX_INITIALIZER;

/* So much is left for memory. 0 where there is no chance to be had. */
static uint64_t draw_start(void)
{
	uint64_t chance = 0;

	if (getrandom(&chance, sizeof(chance), GRND_NONBLOCK) != sizeof(chance))
		return 0;
	return chance % (SLOT_VIEW_RO / 2 / HUGE) * HUGE;
}

static uint64_t find_range(void)
{
	uint64_t half = VIEWS_SPACE / 2, at;
	uint8_t *range = mmap(NULL, VIEWS_SPACE, PROT_NONE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (range == MAP_FAILED)
		return 0;
	at = ((uintptr_t)range + half - 1) & ~(half - 1);
	munmap(range, at - (uintptr_t)range);
	munmap((void *)(at + half), (uintptr_t)range + half - at);
	return at;
}

bool views_reserve(void)
{
	bool there;

	pthread_mutex_lock(&views_lock);
	if (!views_at) {
		views_at = find_range();
		views_from = draw_start();
	}
	there = views_at;
	pthread_mutex_unlock(&views_lock);
	return there;
}

/* The first place of this size, and before which it is; or false. */
static bool find_place(uint64_t size, uint64_t *at, unsigned *before)
{
	*at = views_from;
	for (*before = 0; *before < n_places; *at = places[(*before)++].end)
		if (places[*before].at - *at >= size)
			return true;
	return *at + size <= SLOT_VIEW_RO - GAP;
}

/* Its address in the room; 0: none. With the lock. */
static uint64_t add_place(uint64_t size)
{
	struct place *more;
	unsigned before;
	uint64_t at;

	if (!views_at || !find_place(size, &at, &before))
		return 0;
	more = realloc(places, (n_places + 1) * sizeof(*more));
	if (!more)
		return 0;
	places = more;
	memmove(&places[before + 1], &places[before], (n_places - before) * sizeof(*places));
	places[before] = (struct place){at, at + size};
	n_places++;
	return views_at + at;
}

/* A huge page's multiple away from the client's mapping; 0: none. */
static uint64_t view_place(const void *hva, uint64_t len)
{
	uint64_t skew = (uintptr_t)hva & (HUGE - 1), at;

	pthread_mutex_lock(&views_lock);
	at = add_place(GAP + ((skew + len + HUGE - 1) & ~(HUGE - 1)));
	pthread_mutex_unlock(&views_lock);
	return at ? at + GAP + skew : 0;
}

/* Nobody else's memory comes to lie where views are. */
static void close_view(const uint8_t *view, uint64_t size)
{
	mmap((void *)(uintptr_t)view, size, PROT_NONE,
	     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
}

/* The place of a view, in whichever half, whose memory is closed, may be another's. */
static void free_place(const uint8_t *view)
{
	uint64_t at = ((uintptr_t)view - views_at) & (SLOT_VIEW_RO - 1);
	unsigned i = 0;

	pthread_mutex_lock(&views_lock);
	while (places[i].end <= at)
		i++;
	n_places--;
	memmove(&places[i], &places[i + 1], (n_places - i) * sizeof(*places));
	pthread_mutex_unlock(&views_lock);
}

void slot_views_remove(struct slot *slot)
{
	close_view(slot->rw, slot->size);
	close_view(slot->ro, slot->size);
	free_place(slot->rw);
	slot->rw = slot->ro = slot->hva;
}

/* -- the client's mappings ----------------------------------------------------------------- */

struct piece {
	uint64_t at, end;
	int prot;
	bool shared, file;
	bool hole; /* nothing is mapped there */
};

static bool parse_piece(const char *line, struct piece *p)
{
	unsigned long long at, end, ino;
	char perm[5];

	if (sscanf(line, "%llx-%llx %4s %*s %*s %llu", &at, &end, perm, &ino) != 4)
		return false;
	*p = (struct piece){
		.at = at, .end = end, .shared = perm[3] == 's', .file = ino != 0,
		.prot = (perm[0] == 'r' ? PROT_READ : 0) | (perm[1] == 'w' ? PROT_WRITE : 0) |
			(perm[2] == 'x' ? PROT_EXEC : 0),
	};
	return true;
}

static int one_piece(uint64_t at, uint64_t end, struct piece **out)
{
	*out = malloc(sizeof(**out));
	if (!*out)
		return -1;
	**out = (struct piece){.at = at, .end = end, .shared = true, .prot = PROT_READ};
	return 1;
}

static bool add_piece(struct piece **list, int *n, const struct piece *p)
{
	struct piece *more = realloc(*list, (size_t)(*n + 1) * sizeof(*more));

	if (!more)
		return false;
	*list = more;
	more[(*n)++] = *p;
	return true;
}

/* [at, end), of which p is the next that is mapped: first a hole, if there is one. */
static bool add_up_to(struct piece **list, int *n, uint64_t *at, uint64_t end, struct piece p)
{
	const struct piece hole = {.at = *at, .end = p.at < end ? p.at : end, .hole = true};

	if (p.at > *at && !add_piece(list, n, &hole))
		return false;
	p.at = p.at > *at ? p.at : *at;
	p.end = p.end < end ? p.end : end;
	*at = p.end;
	return p.at >= p.end || add_piece(list, n, &p);
}

/* The mappings of [at, end) in order, cut to it, and the holes between them; how many, or -1. */
static int read_pieces(uint64_t at, uint64_t end, struct piece **out)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	struct piece p;
	char line[512];
	bool fine = true;
	int n = 0;

	if (!maps)
		return one_piece(at, end, out);
	while (fine && at < end && fgets(line, sizeof(line), maps))
		if (parse_piece(line, &p) && p.end > at)
			fine = add_up_to(out, &n, &at, end, p);
	if (fine && at < end)
		fine = add_up_to(out, &n, &at, end, (struct piece){.at = end, .end = end});
	fclose(maps);
	return fine ? n : -1;
}

/* The guest may use these addresses as they are now, so nothing of the engine's own may come to lie
 * there. The client may map over it, and then that is the guest's. */
static void reserve(const struct piece *hole)
{
	mmap((void *)hole->at, hole->end - hole->at, PROT_NONE,
	     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
}

/* -- private memory made shared -------------------------------------------------------------- */

static bool write_page(int fd, const void *page, uint64_t offset)
{
	return pwrite(fd, page, PAGE, (off_t)offset) == (ssize_t)PAGE;
}

/* A file may end before its mapping does, and reading on is SIGBUS. */
static bool is_all_there(const struct piece *p)
{
	return !madvise((void *)p->at, p->end - p->at, MADV_POPULATE_READ) || errno == EINVAL;
}

/*
 * Copies what is there. Pages of anonymous memory that nobody touched read as zeros and would
 * be made by looking: /proc/self/pagemap tells which those are (neither present, bit 63, nor
 * swapped out, bit 62). If it cannot be read every page is looked at.
 */
static bool copy_pages(const struct piece *p, int fd)
{
	int map = p->file ? -1 : open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	bool fine = !p->file || is_all_there(p);

	for (uint64_t at = p->at; at < p->end && fine; at += 512 * PAGE) {
		uint64_t entry[512], n = (p->end - at) / PAGE;

		if (n > 512)
			n = 512;
		if (map < 0 || pread(map, entry, n * 8, (off_t)(at / PAGE * 8)) !=
				       (ssize_t)(n * 8))
			memset(entry, 0xff, sizeof(entry));
		for (uint64_t i = 0; i < n && fine; i++) {
			const void *page = (const void *)(at + i * PAGE);

			if (entry[i] >> 62 && !is_all_zero(page, PAGE))
				fine = write_page(fd, page, at + i * PAGE - p->at);
		}
	}
	if (map >= 0)
		close(map);
	return fine;
}

static bool make_shared(const struct piece *p)
{
	uint64_t len = p->end - p->at;
	int fd = memfile_create("softkvm-ram", len);
	bool fine = fd >= 0 && p->prot & PROT_READ && copy_pages(p, fd);

	if (fine)
		fine = mmap((void *)p->at, len, p->prot, MAP_SHARED | MAP_FIXED, fd, 0) !=
		       MAP_FAILED;
	if (fd >= 0)
		close(fd);
	return fine;
}

/* -- views ------------------------------------------------------------------------------- */

static bool map_again(const struct piece *p, uint64_t to)
{
	void *view = mremap((void *)p->at, 0, p->end - p->at, MREMAP_MAYMOVE | MREMAP_FIXED,
			    (void *)to);

	if (view == MAP_FAILED)
		return false;
	madvise(view, p->end - p->at, MADV_DONTDUMP);
	return true;
}

static bool permit(const struct piece *p, uint8_t *view, int prot)
{
	return !mprotect(view, p->end - p->at, p->prot & prot);
}

static bool piece_views(const struct slot *slot, const struct piece *p)
{
	uint64_t offset = p->at - (uintptr_t)slot->hva;

	if (!p->shared && !make_shared(p))
		return false;
	return map_again(p, (uintptr_t)slot->rw + offset) &&
	       map_again(p, (uintptr_t)slot->ro + offset) &&
	       (!(p->prot & PROT_EXEC) || permit(p, slot->rw + offset, PROT_READ | PROT_WRITE)) &&
	       permit(p, slot->ro + offset, PROT_READ);
}

int slot_views(struct slot *slot)
{
	uint64_t hva = (uintptr_t)slot->hva, at;
	struct piece *piece = NULL;
	int n = read_pieces(hva, hva + slot->size, &piece);
	bool fine = n > 0;

	slot->rw = slot->ro = slot->hva;
	for (int i = 0; i < n; i++)
		if (piece[i].hole) {
			reserve(&piece[i]);
			fine = false;
		}
	at = fine ? view_place(slot->hva, slot->size) : 0;
	if (at) {
		slot->rw = (uint8_t *)at;
		slot->ro = slot->rw + SLOT_VIEW_RO;
		for (int i = 0; i < n && fine; i++)
			fine = piece_views(slot, &piece[i]);
		if (!fine)
			slot_views_remove(slot);
	}
	free(piece);
	return 0;
}

/* -- Layers -------------------------------------------------------------------------------- */

const uint8_t *base_view(const void *hva, uint64_t size)
{
	uint64_t at = view_place(hva, size);
	void *view;

	if (!at)
		return NULL;
	at += SLOT_VIEW_RO;
	view = mremap((void *)(uintptr_t)hva, 0, size, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)at);
	if (view != MAP_FAILED && mprotect(view, size, PROT_READ) == 0) {
		madvise(view, size, MADV_DONTDUMP);
		return view;
	}
	base_view_remove((const uint8_t *)at, size);
	return NULL;
}

void base_view_remove(const uint8_t *view, uint64_t size)
{
	close_view(view, size);
	free_place(view);
}

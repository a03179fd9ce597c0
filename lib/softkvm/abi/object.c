/* SPDX-License-Identifier: MIT */
/*
 * Descriptors. Each object is behind a real descriptor, a sealed memfd, so that its number
 * belongs to softkvm and to nothing else in the process, can be polled and duplicated, and
 * mmap() of a vCPU's works without our help: its memory is the vCPU's struct kvm_run.
 *
 * The table has two levels, chunk[fd / 1024]->slot[fd % 1024], and is read without a lock,
 * because every KVM_RUN reads it and softkvm_kick() reads it in signal handlers. How a reader
 * gets a reference to an object that another thread may be closing:
 *
 *	reader                              closer
 *	o = slot                            slot = NULL
 *	refs: n > 0 ? n + 1 : give up       refs - 1; at 0 the object goes to the pool
 *	slot still o? else put and give up
 *
 * This needs struct object to stay struct object for ever: objects come from a pool and go back
 * to it, never to malloc. A reader that raced with a reuse sees in the last step that the slot
 * changed. What the object points to (VM, vCPU) is freed by whoever drops the last reference.
 *
 * A child of fork() has copies of all this, and RAM that it shares. So that it does not run a copy
 * of a vCPU on the parent's RAM, an object knows the process that made it: the word at `home` is 0
 * after a fork (MADV_WIPEONFORK), and gets another value with the child's first object.
 */
#include "softkvm/abi/object.h"

#include "base/memfile.h"
#include "softkvm/abi/vm.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define CHUNK 1024
#define CHUNKS 1024 /* descriptors below a million, the kernel's default limit */

struct chunk {
	struct object *_Atomic slot[CHUNK];
};

static struct chunk *_Atomic table[CHUNKS];
static pthread_mutex_t pool_lock = PTHREAD_MUTEX_INITIALIZER;
static struct object *pool;            /* free objects */
static struct object *_Atomic graveyard; /* unreferenced ones that still own their VM */
static uint32_t *_Atomic home;           /* NULL: nothing was opened, or the kernel has no such page */
static uint32_t homes;                   /* how many there have been, down from this one */

/* -- the table --------------------------------------------------------------------------- */

static struct object *_Atomic *slot_of(int fd, bool make)
{
	struct chunk *chunk, *none = NULL;

	if (fd < 0 || fd >= CHUNK * CHUNKS)
		return NULL;
	chunk = atomic_load(&table[fd / CHUNK]);
	if (!chunk && make) {
		chunk = calloc(1, sizeof(*chunk));
		if (chunk && !atomic_compare_exchange_strong(&table[fd / CHUNK], &none, chunk)) {
			free(chunk);
			chunk = none;
		}
	}
	return chunk ? &chunk->slot[fd % CHUNK] : NULL;
}

static bool ref_unless_dead(struct object *o)
{
	int n = atomic_load(&o->refs);

	while (n > 0)
		if (atomic_compare_exchange_weak(&o->refs, &n, n + 1))
			return true;
	return false;
}

struct object *object_get(int fd)
{
	struct object *_Atomic *slot = slot_of(fd, false);
	struct object *o = slot ? atomic_load(slot) : NULL;

	if (!o || !ref_unless_dead(o))
		return NULL;
	if (atomic_load(slot) == o)
		return o;
	object_put_later(o);
	return NULL;
}

/* -- home -------------------------------------------------------------------------------- */

static void make_home(void)
{
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (page == MAP_FAILED)
		return;
	if (madvise(page, 4096, MADV_WIPEONFORK))
		munmap(page, 4096);
	else
		atomic_store(&home, page);
}

/* The number of this process, with the pool's lock held. */
static uint32_t this_home(void)
{
	uint32_t *here;

	if (!atomic_load(&home))
		make_home();
	here = atomic_load(&home);
	if (here && !*here)
		__atomic_store_n(here, ++homes, __ATOMIC_RELAXED);
	return homes;
}

bool object_is_home(const struct object *o)
{
	const uint32_t *here = atomic_load(&home);

	return !here || __atomic_load_n(here, __ATOMIC_RELAXED) == o->home;
}

/* -- life -------------------------------------------------------------------------------- */

static struct object *pool_take(void)
{
	struct object *o;

	pthread_mutex_lock(&pool_lock);
	o = pool;
	if (o)
		pool = o->next;
	else
		o = calloc(1, sizeof(*o));
	if (o)
		o->home = this_home();
	pthread_mutex_unlock(&pool_lock);
	return o;
}

static void pool_give(struct object *o)
{
	pthread_mutex_lock(&pool_lock);
	o->next = pool;
	pool = o;
	pthread_mutex_unlock(&pool_lock);
}

static void bury(struct object *o)
{
	struct vm *vm = o->vm;

	o->vm = NULL;
	o->vcpu = NULL;
	pool_give(o);
	if (vm)
		vm_put(vm);
}

static void reap(void)
{
	struct object *o = atomic_exchange(&graveyard, NULL), *next;

	for (; o; o = next) {
		next = o->next;
		bury(o);
	}
}

void object_put(struct object *o)
{
	if (atomic_fetch_sub(&o->refs, 1) == 1)
		bury(o);
}

void object_put_later(struct object *o)
{
	if (atomic_fetch_sub(&o->refs, 1) != 1)
		return;
	o->next = atomic_load(&graveyard);
	while (!atomic_compare_exchange_weak(&graveyard, &o->next, o))
		;
}

/* -- descriptors ------------------------------------------------------------------------- */

static const char *const names[] = {
	[OBJECT_SYSTEM] = "softkvm",
	[OBJECT_VM] = "softkvm-vm",
	[OBJECT_VCPU] = "softkvm-vcpu",
};

/* Sealed, so that the client cannot take the memory of a kvm_run away under the engine. */
static int make_fd(enum object_kind kind, size_t size)
{
	int fd = memfile_create(names[kind], size);

	if (fd < 0)
		return fd;
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)) {
		int rc = -errno;

		close(fd);
		return rc;
	}
	return fd;
}

int object_open(enum object_kind kind, struct vm *vm, struct vcpu *c, size_t size)
{
	int fd = make_fd(kind, size);
	struct object *_Atomic *slot;
	struct object *o;

	reap();
	if (fd < 0)
		return fd;
	slot = slot_of(fd, true);
	o = slot ? pool_take() : NULL;
	if (!o) {
		close(fd);
		return slot ? -ENOMEM : -EMFILE;
	}
	o->kind = kind;
	o->vm = vm;
	o->vcpu = c;
	atomic_store(&o->refs, 1);
	atomic_store(slot, o);
	return fd;
}

int object_dup(int fd, int fd2)
{
	struct object *o = object_get(fd);
	struct object *_Atomic *slot = slot_of(fd2, true);

	if (!o)
		return -EBADF;
	if (!slot) {
		object_put(o);
		return -EMFILE;
	}
	o = atomic_exchange(slot, o); /* dup2() may have closed another of ours */
	if (o)
		object_put(o);
	return 0;
}

static struct object *take(int fd)
{
	struct object *_Atomic *slot = slot_of(fd, false);

	return slot ? atomic_exchange(slot, NULL) : NULL;
}

static void let_go(struct object *o)
{
	if (o && object_is_home(o)) {
		object_put(o);
		reap();
	}
}

int object_close(int fd)
{
	struct object *o = take(fd);

	if (!o)
		return -EBADF;
	close(fd);
	let_go(o);
	return 0;
}

void object_forget(int fd)
{
	let_go(take(fd));
}

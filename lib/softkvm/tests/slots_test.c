/* SPDX-License-Identifier: MIT */
/* Memory slots: the rules of KVM_SET_USER_MEMORY_REGION, look-up, views, the dirty log. */
#include "softkvm/state/slots.h"

#include "base/macros.h"
#include "tests/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define RW (PROT_READ | PROT_WRITE)

static struct vm vm;
static uint8_t *shared, *private;

static void memory(void)
{
	int fd = memfd_create("ram", MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, 16 * MiB))
		return;
	shared = mmap(NULL, 16 * MiB, RW, MAP_SHARED, fd, 0);
	private = mmap(NULL, 16 * MiB, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	close(fd);
}

static int set(uint32_t id, uint32_t flags, uint64_t gpa, uint64_t size, void *hva)
{
	struct kvm_userspace_memory_region r = {
		.slot = id, .flags = flags, .guest_phys_addr = gpa, .memory_size = size,
		.userspace_addr = (uintptr_t)hva,
	};

	return slots_set(&vm, &r);
}

static void test_rules(void)
{
	is_int(set(0, 0, 0x800, MiB, shared), -EINVAL, "an address off a page");
	is_int(set(0, 0, 0, MiB + 1, shared), -EINVAL, "a size off a page");
	is_int(set(0, 0, 0, MiB, shared + 8), -EINVAL, "a mapping off a page");
	is_int(set(0, 4, 0, MiB, shared), -EINVAL, "an unknown flag");
	is_int(set(0, 0, ~0xfffull, 8192, shared), -EINVAL, "past the end of addresses");
	is_int(set(40000, 0, 0, MiB, shared), -EINVAL, "a slot number that is too large");
	is_int(set(3, 0, 0, 0, NULL), -EINVAL, "deleting what is not there");
}

static void test_changes(void)
{
	is_int(set(0, 0, 0, MiB, shared), 0, "a slot");
	is_int(set(1, 0, MiB, MiB, shared + MiB), 0, "one beside it");
	is_int(set(2, 0, MiB / 2, MiB, shared), -EEXIST, "one over both");
	is_int(set(1, 0, MiB - 4096, MiB, shared + MiB), -EEXIST, "moving into another");
	is_int(set(1, 0, MiB, 2 * MiB, shared + MiB), -EINVAL, "resizing");
	is_int(set(1, 0, MiB, MiB, shared), -EINVAL, "other memory");
	is_int(set(1, KVM_MEM_READONLY, MiB, MiB, shared + MiB), -EINVAL, "making read-only");
	ok(vm_slot(&vm, MiB) && vm_slot(&vm, MiB)->id == 1, "the second is at 1 MiB");
	is_int(set(1, 0, 8 * MiB, MiB, shared + MiB), 0, "moving it");
	ok(!vm_slot(&vm, MiB), "it is gone from there");
	ok(vm_slot(&vm, 8 * MiB) && vm_slot(&vm, 8 * MiB)->hva == shared + MiB, "and is here");
	ok(vm_slot(&vm, 0) && vm_slot(&vm, MiB - 1)->id == 0, "first and last byte of a slot");
	ok(!vm_slot(&vm, 9 * MiB) && !vm_slot(&vm, ~0ull), "nothing beyond");
	is_int(set(1, 0, 0, 0, NULL), 0, "deleting");
	ok(!vm_slot(&vm, 8 * MiB), "deleted");
}

static void test_many(void)
{
	int wrong = 0;

	for (uint32_t i = 0; i < SLOTS_MAX - 1; i++) /* slot 0 is there; order is scrambled */
		wrong += set(100 + i, 0, GiB + (i * 37 % 127) * 8192, 4096,
			     shared + i * 4096) != 0;
	is_int(wrong, 0, "as many slots as there may be");
	is_int(set(5000, 0, 4 * GiB, 4096, shared), -EINVAL, "and not one more");
	for (uint32_t i = 0; i < SLOTS_MAX - 1; i++) {
		uint64_t gpa = GiB + (i * 37 % 127) * 8192;
		struct slot *s = vm_slot(&vm, gpa + 4095);

		wrong += !s || s->id != 100 + i || vm_slot(&vm, gpa + 4096);
	}
	is_int(wrong, 0, "each found, and the gaps between them");
	for (uint32_t i = 0; i < SLOTS_MAX - 1; i++)
		wrong += set(100 + i, 0, 0, 0, NULL) != 0;
	is_int(wrong, 0, "all deleted");
}

static void test_views(void)
{
	struct slot *s;
	int fd = memfd_create("two", MFD_CLOEXEC);
	uint8_t *two;

	s = vm_slot(&vm, 0);
	ok(s->ro != s->hva, "shared memory has a second view");
	shared[4096] = 77;
	is_int(s->ro[4096], 77, "of the same bytes");
	private[4096] = 99;
	private[MiB - 1] = 98;
	is_int(set(4, 0, 2 * MiB, MiB, private), 0, "private memory");
	s = vm_slot(&vm, 2 * MiB);
	ok(s->ro == s->rw + SLOT_VIEW_RO, "has views, too");
	ok(s->ro[4096] == 99 && s->ro[MiB - 1] == 98 && private[4096] == 99, "and its content");
	private[8192] = 97;
	s->rw[8193] = 96;
	ok(s->ro[8192] == 97 && private[8193] == 96, "the client's stores and the engine's");

	/* Two mappings side by side that are not side by side in their file; then a hole. */
	two = mmap(NULL, 16384, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	munmap(two + 8192, 8192);
	if (fd < 0 || ftruncate(fd, 65536) ||
	    mmap(two, 4096, RW, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED ||
	    mmap(two + 4096, 4096, RW, MAP_SHARED | MAP_FIXED, fd, 32768) == MAP_FAILED) {
		skip("no memory for it");
		return;
	}
	is_int(set(5, 0, 4 * MiB, 8192, two), 0, "a patchwork");
	two[4096] = 5;
	s = vm_slot(&vm, 4 * MiB);
	ok(s->ro != s->hva, "has views");
	is_int(s->ro[4096], 5, "of the right pages");
	is_int(set(6, 0, 6 * MiB, 8192, two + 4096), 0, "memory that is not all mapped");
	s = vm_slot(&vm, 6 * MiB);
	ok(s->ro == s->hva && s->rw == s->hva, "has none");
	ok(mmap(two + 8192, 4096, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) ==
	   MAP_FAILED, "and nothing will come to lie in its hole by itself");
	is_int(set(6, 0, 0, 0, NULL), 0, "deleted");
	s = vm_slot(&vm, 4 * MiB);
	ok(mmap(two, 4096, RW, MAP_SHARED | MAP_FIXED, fd, 32768) == two && two[0] == 5 &&
	   s->rw[0] == 0, "what is mapped over a slot's memory is not the guest's (ERRATA)");
	is_int(set(5, 0, 0, 0, NULL), 0, "deleted");
	is_int(set(4, 0, 0, 0, NULL), 0, "deleted");
	close(fd);
}

/* Of the mapping that `at` lies in, as in /proc/self/maps; "": none. */
static const char *permissions(const void *at)
{
	static char perm[5];
	FILE *maps = fopen("/proc/self/maps", "re");
	unsigned long long begin, end;
	char line[512];

	while (maps && fgets(line, sizeof(line), maps))
		if (sscanf(line, "%llx-%llx %4s", &begin, &end, perm) == 3 &&
		    (uintptr_t)at - begin < end - begin)
			break;
	if (!maps || feof(maps))
		strcpy(perm, "");
	if (maps)
		fclose(maps);
	return perm;
}

/* What a stray address would find. */
static void test_places(void)
{
	uint8_t *code = mmap(NULL, MiB, RW | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct slot *s;

	if (code == MAP_FAILED) {
		skip("this host permits no memory that is writable and executable");
		return;
	}
	is_int(set(4, 0, 2 * MiB, MiB, code), 0, "memory that the client may execute");
	s = vm_slot(&vm, 2 * MiB);
	is_str(permissions(s->rw), "rw-s", "its views are not executable");
	is_str(permissions(s->ro), "r--s", "neither of them");
	is_str(permissions(s->rw - 1), "---p", "before it is nothing");
	is_str(permissions(s->ro - 1), "---p", "before the read-only one, too");
	is_str(permissions(s->rw + MiB), "---p", "behind it is nothing");
	is_str(permissions(s->ro + MiB), "---p", "behind the read-only one, too");
	is_int(set(4, 0, 0, 0, NULL), 0, "deleted");
	munmap(code, MiB);
}

/* More than the whole range, one after the other, and never is the last place the one that was freed. */
static void test_places_again(void)
{
	uint64_t size = 1ull << 30;
	int fd = memfd_create("large", MFD_CLOEXEC), bad = 0;
	uint8_t *large;

	is_int(ftruncate(fd, (off_t)size), 0, "1 GiB that nobody touches");
	large = mmap(NULL, size, RW, MAP_SHARED | MAP_NORESERVE, fd, 0);
	for (uint32_t i = 0; i < 3 * SLOT_VIEW_RO / 2 / size; i++) {
		uint32_t small = 6 + i % 2, before = 6 + (i + 1) % 2;

		bad += set(5, 0, 4 * MiB, size, large) != 0;
		bad += vm_slot(&vm, 4 * MiB)->rw == large;
		bad += set(small, 0, 2 * MiB + small % 2 * MiB, MiB, shared) != 0;
		bad += i && set(before, 0, 0, 0, NULL) != 0;
		bad += set(5, 0, 0, 0, NULL) != 0;
	}
	is_int(bad, 0, "places are used again");
	set(6, 0, 0, 0, NULL);
	set(7, 0, 0, 0, NULL);
	munmap(large, size);
	close(fd);
}

/* Where the first view of a new process lies in the range of views. */
static uint64_t drawn_place(void)
{
	uint64_t at = 0;
	int pipes[2];

	if (pipe2(pipes, O_CLOEXEC))
		return 0;
	if (!fork()) {
		static struct vm other;
		struct kvm_userspace_memory_region r = {
			.memory_size = MiB, .userspace_addr = (uintptr_t)shared};

		if (!views_reserve() || slots_create(&other) || slots_set(&other, &r))
			_exit(1);
		at = (uint64_t)(uintptr_t)vm_slot(&other, 0)->rw & (SLOT_VIEW_RO - 1);
		_exit(write(pipes[1], &at, sizeof(at)) != sizeof(at));
	}
	if (read(pipes[0], &at, sizeof(at)) != sizeof(at))
		at = 0;
	close(pipes[0]);
	close(pipes[1]);
	wait(NULL);
	return at;
}

static void test_chance(void)
{
	uint64_t first = drawn_place(), second = drawn_place(), third = drawn_place();

	ok(first && second && third && (first != second || second != third),
	   "the place is another in each process: %llx, %llx, %llx", (unsigned long long)first,
	   (unsigned long long)second, (unsigned long long)third);
}

static void test_dirty(void)
{
	uint64_t bits[4] = {~0ull, ~0ull, ~0ull, ~0ull};
	struct kvm_dirty_log get = {.slot = 0, .dirty_bitmap = bits};
	struct kvm_clear_dirty_log clear = {.slot = 0, .num_pages = 64, .first_page = 64,
					    .dirty_bitmap = bits};
	struct page_note *note = vm_slot(&vm, 0)->note;
	struct slot *s;

	is_int(slots_dirty_get(&vm, &get), -ENOENT, "no log without its flag");
	is_int(set(0, KVM_MEM_LOG_DIRTY_PAGES, 0, MiB, shared), 0, "logging on");
	s = vm_slot(&vm, 0);
	ok(s->note == note && s->dirty, "the slot kept its notes and has a bitmap");
	atomic_fetch_or(&s->dirty[1], 6);
	is_int(slots_dirty_get(&vm, &get), 0, "taking the log");
	ok(bits[0] == 0 && bits[1] == 6 && bits[3] == 0, "it is what was set");
	is_int(slots_dirty_get(&vm, &get), 0, "again");
	is_int(bits[1], 0, "it was cleared");
	atomic_fetch_or(&s->dirty[1], 7);
	bits[0] = 2;
	is_int(slots_dirty_clear(&vm, &clear), 0, "clearing a part");
	is_int(s->dirty[1], 5, "cleared what was asked");
	clear.first_page = 3;
	is_int(slots_dirty_clear(&vm, &clear), -EINVAL, "not at a multiple of 64");
	is_int(set(0, 0, 0, MiB, shared), 0, "logging off");
	ok(!vm_slot(&vm, 0)->dirty, "no bitmap");
}

int main(void)
{
	memory();
	test_chance();
	ok(views_reserve(), "as softkvm_open() does");
	is_int(slots_create(&vm), 0, "an empty table");
	ok(!vm_slot(&vm, 0), "nothing in it");
	test_rules();
	test_changes();
	test_many();
	test_views();
	test_places();
	test_places_again();
	test_dirty();
	slots_destroy(&vm);
	return done_testing();
}

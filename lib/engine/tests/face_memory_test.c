/* SPDX-License-Identifier: MIT */
/*
 * Memory slots on both engines: the dirty log, read-only slots, slots that come and go under a
 * guest that is using them, and code in them.
 */
#include "face.h"

#include <sys/mman.h>

FACE_GUEST(stores)
FACE_GUEST(slot)
FACE_GUEST(rom_code)
FACE_GUEST(replaced_code)
FACE_GUEST(rewritten_code)

#define ROM 0x200000
#define ROM_SIZE 4096

static uint8_t *rom; /* what is at ROM; the client's memory */
static unsigned loads;

static int set_slot(struct tiny *t, uint32_t n, uint64_t gpa, uint8_t *mem, uint64_t size,
		    uint32_t flags)
{
	struct kvm_userspace_memory_region slot = {
		.slot = n, .flags = flags, .guest_phys_addr = gpa, .memory_size = size,
		.userspace_addr = (uintptr_t)mem,
	};

	return face_vm_call(t, KVM_SET_USER_MEMORY_REGION, &slot);
}

/* -- The dirty log ------------------------------------------------------------------------- */

static uint64_t dirty[FACE_MEMORY / 4096 / 64];

static int get_log(struct tiny *t)
{
	struct kvm_dirty_log log = {.slot = 0, .dirty_bitmap = dirty};

	return face_vm_call(t, KVM_GET_DIRTY_LOG, &log);
}

/* Pages 0x40 to 0x4f, bit by bit; all that these guests touch there. */
static unsigned pages(void)
{
	return dirty[1] & 0xffff;
}

static void harvest(struct tiny *t, unsigned what)
{
	const char *engine = t->face->name;

	is_int(get_log(t), 0, "%s: the log is harvested", engine);
	if (what == 1)
		is_int(pages(), 0x7d, "%s: the pages that were stored to are in it", engine);
	else
		is_int(pages(), 0x02, "%s: then those since the last time", engine);
}

static void dirty_log(const struct kvm_face *face)
{
	struct face_log log = {.len = 0};
	struct err err = {0};
	struct tiny t;

	if (face_open(&t, face, false, &err) < 0)
		return;
	is_int(set_slot(&t, 0, 0, t.mem, t.mem_size, KVM_MEM_LOG_DIRTY_PAGES), 0,
	       "%s: logging is switched on", face->name);
	get_log(&t);
	face_load(&t, guest_stores, guest_stores_end);
	tiny_enter(&t, TINY_PROTECTED, FACE_BASE);
	face_exits(face, face_run(&t, &log, harvest), &log, "knock 1 knock 2 end", "stores");
	is_int(get_log(&t), 0, "%s: harvested once more", face->name);
	is_int(pages(), 0x01, "%s: a page comes again when it is stored to again",
	       face->name);
	is_int(set_slot(&t, 0, 0, t.mem, t.mem_size, 0), 0, "%s: and off", face->name);
	ok(get_log(&t) < 0, "%s: no log of a slot that has none", face->name);
	tiny_close(&t);
}

/* -- Slots that change ------------------------------------------------------------------------- */

static void remove_slot(struct tiny *t, unsigned what)
{
	(void)what;
	is_int(set_slot(t, 1, ROM, rom, 0, 0), 0, "%s: the slot is removed", t->face->name);
}

static void make_writable(struct tiny *t, unsigned what)
{
	(void)what;
	set_slot(t, 1, ROM, rom, 0, 0);
	is_int(set_slot(t, 1, ROM, rom, ROM_SIZE, 0), 0, "%s: it comes back as RAM",
	       t->face->name);
}

static void other_memory(struct tiny *t, unsigned what)
{
	(void)what;
	set_slot(t, 1, ROM, rom, 0, 0);
	is_int(set_slot(t, 1, ROM, rom + ROM_SIZE, ROM_SIZE, KVM_MEM_READONLY), 0,
	       "%s: other memory is there", t->face->name);
}

/* The client loads other code, the same again, other code, and the first. */
static void load_code(struct tiny *t, unsigned what)
{
	(void)t;
	(void)what;
	rom[0x11] = (uint8_t)"BBCA"[loads++ & 3];
}

static const struct slot_case {
	const char *name;
	const uint8_t *code, *end;
	uint32_t flags;
	face_act *act;
	const char *exits;
} cases[] = {
	{"read-only, then gone", FACE_CODE(slot), KVM_MEM_READONLY, remove_slot,
	 "out 11/4=2f2e2d2c write 200004/4=99 out 12/4=33323130 knock 1 "
	 "read 200000/4 out 11/4=3020100 write 200004/4=99 read 200004/4 out 12/4=7060504 "
	 "end"},
	{"read-only, then RAM", FACE_CODE(slot), KVM_MEM_READONLY, make_writable,
	 "out 11/4=2f2e2d2c write 200004/4=99 out 12/4=33323130 knock 1 "
	 "out 11/4=2f2e2d2c out 12/4=99 end"},
	{"RAM, then other memory", FACE_CODE(slot), 0, other_memory,
	 "out 11/4=2f2e2d2c out 12/4=99 knock 1 "
	 "out 11/4=ddccbbaa write 200004/4=99 out 12/4=0 end"},
	{"code that is replaced with its slot", FACE_CODE(rom_code), KVM_MEM_READONLY,
	 other_memory, "out 11/1=41 knock 1 out 11/1=42 end"},
	{"code that is rewritten after its slot was made anew", FACE_CODE(rewritten_code), 0,
	 make_writable, "out 11/1=41 knock 1 out 12/2=4143 end"},
	{"code that the client loads in place of other", FACE_CODE(replaced_code), 0, load_code,
	 "out 11/1=41 knock 1 out 11/1=42 knock 1 out 11/1=42 knock 1 out 11/1=43 knock 1 "
	 "out 11/1=41 knock 1 end"},
};

static void fill_rom(void)
{
	static const uint8_t first[] = {0xb0, 0x41, 0xc3}, second[] = {0xb0, 0x42, 0xc3};
	static const uint8_t other[] = {0xaa, 0xbb, 0xcc, 0xdd};

	memset(rom, 0, 2 * ROM_SIZE);
	for (unsigned i = 0; i < 16; i++)
		rom[i] = (uint8_t)(0x2c + i);
	memcpy(rom + 0x10, first, sizeof(first)); /* mov $'A', %al; ret */
	memcpy(rom + ROM_SIZE, other, sizeof(other));
	memcpy(rom + ROM_SIZE + 0x10, second, sizeof(second));
}

static void run_case(const struct kvm_face *face, const struct slot_case *c)
{
	struct face_log log = {.len = 0};
	struct err err = {0};
	struct tiny t;

	if (face_open(&t, face, false, &err) < 0)
		return;
	fill_rom();
	loads = 0;
	is_int(set_slot(&t, 1, ROM, rom, ROM_SIZE, c->flags), 0, "%s: %s: a second slot",
	       face->name, c->name);
	face_load(&t, c->code, c->end);
	tiny_enter(&t, TINY_PROTECTED, FACE_BASE);
	face_exits(face, face_run(&t, &log, c->act), &log, c->exits, c->name);
	tiny_close(&t);
}

static void bad_slots(const struct kvm_face *face)
{
	struct err err = {0};
	struct tiny t;

	if (face_open(&t, face, false, &err) < 0)
		return;
	ok(set_slot(&t, 1, 0x1000, rom, ROM_SIZE, 0) < 0, "%s: slots do not overlap",
	   face->name);
	ok(set_slot(&t, 1, ROM + 1, rom, ROM_SIZE, 0) < 0, "%s: they are whole pages",
	   face->name);
	ok(set_slot(&t, 1, ROM, rom + 1, ROM_SIZE, 0) < 0, "%s: on the client's side too",
	   face->name);
	ok(set_slot(&t, 1, ROM, rom, ROM_SIZE + 1, 0) < 0, "%s: of a whole number",
	   face->name);
	ok(set_slot(&t, 1, ROM, rom, ROM_SIZE, 0x80) < 0, "%s: with flags that exist",
	   face->name);
	tiny_close(&t);
}

int main(void)
{
	const struct kvm_face *const faces[2] = {&kvm_host, &kvm_soft};

	rom = mmap(NULL, 2 * ROM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		   -1, 0);
	for (unsigned f = 0; f < 2; f++) {
		if (!face_usable(faces[f]))
			continue;
		dirty_log(faces[f]);
		for (unsigned i = 0; i < ARRAY_SIZE(cases); i++)
			run_case(faces[f], &cases[i]);
		bad_slots(faces[f]);
	}
	return done_testing();
}

/* SPDX-License-Identifier: MIT */
/*
 * Where a guest puts its VGA's memory: it is there, or it is nowhere; it takes nobody else's place, it is not taken away for registers that say
 * nothing of that, and the guest goes on.
 */
#include "base/err.h"
#include "base/macros.h"
#include "dev/pci/pci.h"
#include "engine/kvm.h"
#include "machine/private.h"
#include "machine/tests/echo.h"
#include "tests/tap.h"

#include <linux/kvm.h>
#include <string.h>
#include <unistd.h>

#define RAM (64 * MiB)

static const char kernel_path[] = "/tmp/lodge-screen-test";
static struct echo e;
static struct kvm_face face;
static unsigned changes; /* of slots */
static unsigned slot;

static int count_ioctl(int fd, unsigned long request, void *arg)
{
	changes += request == KVM_SET_USER_MEMORY_REGION;
	return kvm_soft.ioctl(fd, request, arg);
}

static void cfg_write(struct machine *m, unsigned at, uint32_t value)
{
	bus_write(m->board.bus, BUS_PORT, 0xcf8, 4, 0x80000000 | slot << 11 | at);
	bus_write(m->board.bus, BUS_PORT, 0xcfc, 4, value);
}

static gpa_t screen_at(const struct machine *m)
{
	return m->mem.regions[m->ram.screen].base;
}

static void find_screen(struct machine *m)
{
	struct pci_facts facts[32];
	unsigned n = pci_look(m->board.pci, facts, ARRAY_SIZE(facts));

	for (unsigned i = 0; i < n && i < ARRAY_SIZE(facts); i++)
		if (strcmp(facts[i].name, "vga") == 0)
			slot = facts[i].slot;
	ok(slot, "there is a VGA in slot %u", slot);
}

static void test_places(struct machine *m)
{
	static const struct {
		uint32_t at;
		bool is_there;
		const char *what;
	} places[] = {
		{0xd0000000, true, "elsewhere"},
		{0, false, "at RAM"},
		{RAM - MAP_VRAM, false, "at the end of it"},
		{RAM, true, "behind it"},
		{0xff000000, true, "at the end of 4 GiB"},
		{0xfe000000, true, "over the interrupt controllers, which come first"},
		{0xc0000000, false, "where other devices are"},
		{0xd0000000, true, "back"},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(places); i++) {
		cfg_write(m, 0x10, places[i].at);
		is_int(screen_at(m), places[i].is_there ? places[i].at : GUEST_NOWHERE, "%s", places[i].what);
		ok(echo_back(&e, m, "on"), "and the guest goes on");
	}
}

static void test_registers(struct machine *m)
{
	gpa_t at = screen_at(m);
	unsigned before = changes;

	cfg_write(m, 0x3c, 11);
	cfg_write(m, 0x0c, 8);
	cfg_write(m, 0x10, (uint32_t)at);
	ok(changes == before && screen_at(m) == at, "other registers, and the same place once more, take nothing away");
	cfg_write(m, 4, 0);
	is_int(screen_at(m), GUEST_NOWHERE, "a decoder that is switched off does");
	cfg_write(m, 4, 2);
	is_int(screen_at(m), at, "and on again, it is there");
	ok(changes > before, "which is what was counted");
}

int main(void)
{
	struct machine_config config = {
		.face = &face, .cpus = 1, .memory = RAM, .kernel = kernel_path, .cmdline = "e", .screen = true,
		.console = {.output = echo_put, .ctx = &e},
	};
	struct err err = {0};
	struct machine *m;
	struct machine_end end;

	face = kvm_soft;
	face.ioctl = count_ioctl;
	if (!ok(echo_kernel(kernel_path) && machine_create(&m, &config, &err) == 0 && machine_start(m, &err) == 0, "a guest with a screen %s", err.text))
		return done_testing();
	echo_wait(&e, 6);
	find_screen(m);
	cfg_write(m, 4, 2);
	test_places(m);
	test_registers(m);
	echo_say(m, "q");
	machine_stop(m);
	machine_end(m, &end);
	machine_destroy(m);
	unlink(kernel_path);
	return done_testing();
}

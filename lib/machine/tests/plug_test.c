/* SPDX-License-Identifier: MIT */
/*
 * Where devices can be that came while a machine ran, as a saved one says it: no two behind a port, none that firmware put there already, none that
 * is nowhere. (tests/firmware/plug has them come and go.)
 */
#include "base/err.h"
#include "machine/machine.h"
#include "machine/plug.h"
#include "machine/private.h"
#include "tests/tap.h"

#include <errno.h>
#include <string.h>

static void test_ids(void)
{
	static const struct {
		const char *id;
		bool good;
	} rows[] = {
		{"data", true}, {"a", true}, {"Disk-2_b.c", true}, {"a123456789012345678901234567890", true},
		{"a1234567890123456789012345678901", false}, {"", false}, {"0", false}, {"-a", false}, {".", false}, {"a/b", false},
		{"a b", false}, {"a\n", false}, {"a\"", false}, {"\303\244", false}, {"a\303\244", false},
	};
	unsigned wrong = 0;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		wrong += machine_is_id(rows[i].id) != rows[i].good;
	is_int(wrong, 0, "names are short, and can be in JSON, in paths and on terminals as they are");
}

/* A disk of the start at NVMe, behind port 1 of four; and two disks and a card that came. */
static struct machine_config machine(void)
{
	return (struct machine_config){
		.root_ports = 4, .n_disks = 3, .disk_bus = {MACHINE_NVME, MACHINE_VIRTIO, MACHINE_NVME},
		.disk_spot = {{.port = 0}, {2, "a"}, {4, "b"}}, .n_more_nets = 1, .more_nets = {{.spot = {3, "c"}}},
	};
}

static void refuse(const struct machine_config *c, int rc, const char *words)
{
	struct err err = {0};
	int got = machine_check_drives(c, &err);

	ok(got == rc && strstr(err.text, words), "%s", words);
	if (got != rc || !strstr(err.text, words))
		printf("# %d: %s\n", got, err.text);
}

static void test_numbers(void)
{
	struct machine_config c = machine();
	unsigned last = board_disk_number(&c, 2);

	ok(board_disk_number(&c, 0) == 0 && last != board_disk_number(&c, 1) && last >= MACHINE_DISKS_MAX, "each disk has a number of its own");
	c.disk_spot[1] = c.disk_spot[2];
	c.disk_bus[1] = c.disk_bus[2];
	c.n_disks = 2;
	is_int(board_disk_number(&c, 1), last, "which it keeps when one before it goes");
}

int main(void)
{
	struct machine_config c = machine();
	struct err err;

	test_ids();
	test_numbers();
	is_int(machine_check_drives(&c, &err), 0, "each behind its own port");
	c.disk_spot[2].port = 1;
	refuse(&c, -EBUSY, "root port 1 is taken");
	c.disk_spot[2].port = 3;
	refuse(&c, -EBUSY, "root port 3 is taken");
	c.disk_spot[2].port = 5;
	refuse(&c, -ERANGE, "there is no number 5");
	c.disk_spot[2].port = UINT32_MAX;
	refuse(&c, -ERANGE, "there is no number 4294967295");
	c = machine();
	strcpy(c.more_nets[0].spot.id, "b");
	refuse(&c, -EBUSY, "there is a device 'b' already");
	strcpy(c.more_nets[0].spot.id, "../b");
	refuse(&c, -ERANGE, "'../b' is no name");
	c = machine();
	c.disk_bus[1] = MACHINE_SATA;
	refuse(&c, -ERANGE, "at virtio or nvme, not at sata");
	c = machine();
	c.disk_spot[2].port = 0;
	refuse(&c, -ERANGE, "disk 2 was there before one that stands before it");
	c = machine();
	c.root_ports = 0;
	refuse(&c, -ENOENT, "started without --root-ports");
	return done_testing();
}

/* SPDX-License-Identifier: MIT */
/*
 * No page is writable and executable, at any time.
 *
 * A guest translates, overwrites and translates its own code in a loop, while another thread
 * reads /proc/self/maps again and again. The filter of hostile.c would end the process at the
 * first request for such a mapping; here is shown that none is there from the beginning, that
 * the code cache's two mappings are one to write and one to run, and that even the kernel refuses
 * to store through the one that runs.
 */
#include "tests/hostile/hostile.h"

#include <errno.h>
#include <pthread.h>
#include <unistd.h>

#include "tests/tap.h"

static struct seen {
	unsigned both;               /* writable and executable */
	unsigned code_rx, code_rw;   /* of the code cache */
	unsigned code_other;
	unsigned long long rx_at;
} seen;

static void look(void)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[512], prot[5];
	unsigned long long from;

	while (maps && fgets(line, sizeof(line), maps)) {
		if (sscanf(line, "%llx-%*x %4s", &from, prot) != 2)
			continue;
		if (prot[1] == 'w' && prot[2] == 'x') {
			seen.both++;
			note("%s", line);
		}
		if (!strstr(line, "lodge-code"))
			continue;
		if (!strncmp(prot, "r-x", 3)) {
			seen.code_rx++;
			seen.rx_at = from;
		} else if (!strncmp(prot, "rw-", 3)) {
			seen.code_rw++;
		} else {
			seen.code_other++;
		}
	}
	if (maps)
		fclose(maps);
}

/*
 *	mov rdi, CODE_AT + 0x800
 *   1:	inc byte [rdi + 1]      the immediate of the instruction that is called
 *	call rdi                mov al, imm8 ; ret
 *	jmp 1b
 */
static const uint8_t guest[] = {0x48, 0xc7, 0xc7, 0, 0x08, 1, 0, 0xfe, 0x47, 0x01,
				0xff, 0xd7, 0xeb, 0xf9};

static volatile bool stop;

static void *run_guest(void *arg)
{
	struct enemy *e = arg;

	while (!stop && enemy_run(e, 0, 5, 50))
		;
	return NULL;
}

static void through_the_kernel(void)
{
	int fd[2];

	if (pipe(fd))
		return;
	is_int(write(fd[1], "\xcc", 1), 1, "a byte");
	is_int(read(fd[0], (void *)(uintptr_t)seen.rx_at, 1), -1, "cannot be read into the code");
	is_int(errno, EFAULT, "EFAULT");
	close(fd[0]);
	close(fd[1]);
}

int main(int argc, char **argv)
{
	int looks = argc > 1 ? atoi(argv[1]) : 100;
	struct enemy *e = enemy_create("cache=256K", 1, false);
	pthread_t thread;

	alarms_arm();
	enemy_reset(e);
	memset(e->ram + CODE_AT, 0xcc, CODE_SIZE);
	memcpy(e->ram + CODE_AT, guest, sizeof(guest));
	memcpy(e->ram + CODE_AT + 0x800, "\xb0\x01\xc3", 3);
	enemy_start(e, 0, LONG_RING0, 0);
	pthread_create(&thread, NULL, run_guest, e);
	for (int i = 0; i < looks; i++) {
		look();
		wait_us(1000);
	}
	stop = true;
	pthread_join(thread, NULL);
	is_int(seen.both, 0, "no mapping is writable and executable, in %d looks", looks);
	is_int(seen.code_rx, looks, "one mapping of the code cache is to run");
	is_int(seen.code_rw, looks, "one is to write");
	is_int(seen.code_other, 0, "there are no others");
	through_the_kernel();
	ok(enemy_harmless(e), "the guest has done no harm");
	enemy_report(e, "rewrites itself");
	enemy_destroy(e);
	return done_testing();
}

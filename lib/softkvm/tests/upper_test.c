/* SPDX-License-Identifier: MIT */
/*
 * Where addresses have 57 bits, nobody but the engine may have memory above 47 (state/upper.h). A host
 * with 5-level paging shows it, or a guest of QEMU's TCG with -cpu max,la57=on; on others there is
 * nothing to take, and that is all that can be seen.
 */
#include "softkvm/state/upper.h"

#include "softkvm/softkvm.h"
#include "tests/tap.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096ull

/* What an access to a linear address that is not canonical can add to a host address. */
static const uint64_t places[] = {1ull << 47, 1ull << 48, 3ull << 48, 1ull << 50, 0x5aull << 48,
				  0x7full << 48, 0xffull << 48, (1ull << 56) - 2 * PAGE};

static bool map_there(uint64_t at)
{
	void *p = mmap((void *)at, PAGE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	return p == (void *)at;
}

/* A client that has memory there before it opens the engine: what softkvm_open() says. */
static int open_late(uint64_t at)
{
	int status = -1;
	pid_t child = fork();

	if (!child)
		_exit(map_there(at) ? -softkvm_open() : 0);
	waitpid(child, &status, 0);
	return WIFEXITED(status) ? -WEXITSTATUS(status) : status;
}

int main(void)
{
	const unsigned n = sizeof(places) / sizeof(*places);
	bool exists = upper_exists();
	unsigned i;

	for (i = 0; i < n && exists; i++)
		is_int(open_late(places[i]), -EADDRINUSE,
		       "a client with memory at %llx cannot have the engine",
		       (unsigned long long)places[i]);
	ok(softkvm_open() >= 0, "one without can, addresses have %d bits", exists ? 57 : 48);
	for (i = 0; i < n; i++)
		ok(!map_there(places[i]), "and nothing can be mapped at %llx then",
		   (unsigned long long)places[i]);
	ok(softkvm_open() >= 0, "it opens once more");
	return done_testing();
}

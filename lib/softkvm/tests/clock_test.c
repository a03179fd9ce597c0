/* SPDX-License-Identifier: MIT */
/* now_ns() against the kernel's clock: it stays close, and never goes back. */
#include "softkvm/os/syscall.h"
#include "tests/tap.h"

#include <time.h>

static uint64_t kernel_ns(void)
{
	return sys_clock_ns(CLOCK_MONOTONIC);
}

/* How far apart they are, as far as can be told: 0 if now_ns() lies between two
 * questions. */
static uint64_t difference(void)
{
	uint64_t before = kernel_ns(), ours = now_ns(), after = kernel_ns();

	if (ours < before)
		return before - ours;
	return ours > after ? ours - after : 0;
}

int main(void)
{
	uint64_t worst = 0, last = 0, backwards = 0, n = 0,
		 end = kernel_ns() + 700000000;

	while (kernel_ns() < end) {
		uint64_t d = difference(), now = now_ns();

		n++;
		worst = d > worst ? d : worst;
		backwards += now < last;
		last = now;
	}
	note("%llu questions, at most %llu ns off", (unsigned long long)n,
	     (unsigned long long)worst);
	ok(worst < 100000, "within 100 us of the kernel's clock (usually 1 us)");
	is_int(backwards, 0, "never goes back");
	return done_testing();
}

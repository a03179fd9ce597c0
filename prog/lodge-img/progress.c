/* SPDX-License-Identifier: MIT */
/* How far it is, in the form that programs around qemu-img look for. */
#include "prog/lodge-img/img.h"

#include <stdio.h>

void img_progress(bool on, uint64_t done, uint64_t all)
{
	static unsigned long last = ULONG_MAX;
	unsigned long now = all ? (unsigned long)((double)done / (double)all * 10000) : 10000;

	if (!on || now == last)
		return;
	last = now;
	printf("    (%.2f/100%%)\r", (double)now / 100);
	fflush(stdout);
}

void img_progress_end(bool on)
{
	if (on)
		printf("\n");
}

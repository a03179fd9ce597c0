/* SPDX-License-Identifier: MIT */
/* lodge run --incoming URI. */
#ifndef LODGE_ARRIVAL_H
#define LODGE_ARRIVAL_H

#include "launch.h"

/* uri.h says what these are. Waits for a guest, and runs it to its end. The program's exit code. */
int arrival_run(const struct launch *l, const char *uri, const char *certificates);

#endif

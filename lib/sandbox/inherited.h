/* SPDX-License-Identifier: MIT */
/* Descriptors that a process was started with, beside 0, 1 and 2. */
#ifndef SANDBOX_INHERITED_H
#define SANDBOX_INHERITED_H

/* Notes which there are; call it before anything is opened. */
void inherited_note(void);

/* Closes those. In between they can be named: /dev/fd/5. */
void inherited_close(void);

#endif

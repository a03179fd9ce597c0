/* SPDX-License-Identifier: MIT */
/*
 * Eventfds that the client lends: the engine keeps a duplicate, and must recognise the
 * eventfd when the client names it again, by another descriptor perhaps.
 */
#ifndef IRQCHIP_EVENTFD_H
#define IRQCHIP_EVENTFD_H

#include <stdint.h>

/* 0 and *identity set; -EBADF, or -EINVAL if it is no eventfd. */
int eventfd_identify(int fd, uint64_t *identity);

#endif

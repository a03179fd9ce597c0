/* SPDX-License-Identifier: MIT */
/* The list of ioeventfds of a VM: ioeventfd.c looks things up, ioeventfd_set.c changes
 * it. */
#ifndef IRQCHIP_IOEVENTFD_H
#define IRQCHIP_IOEVENTFD_H

#include "softkvm/irqchip/internal.h"

struct ioeventfd {
	struct ioeventfd *next;
	uint64_t addr, match;
	uint8_t len; /* 0: any */
	bool has_match, port;
	int fd;                 /* the engine's duplicate */
	uint64_t identity;      /* of the eventfd behind it */
	_Atomic uint32_t users; /* threads that signal it now */
};

struct ioeventfds {
	struct lock lock;
	struct ioeventfd *first;
};

#endif

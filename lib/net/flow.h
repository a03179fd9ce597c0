/* SPDX-License-Identifier: MIT */
/*
 * Which frames belong together: those of a connection, both ways.
 *
 *	flow = net_flow(frame, len);        the same for a question and its answer; most others have another
 */
#ifndef NET_FLOW_H
#define NET_FLOW_H

#include <stddef.h>
#include <stdint.h>

#define NET_FLOWS    256u
#define NET_FLOW_LEN 78u /* as much of a frame is looked at, if there is so much: Ethernet, the longest IPv4 header, ports */

/* Less than NET_FLOWS; 0 for what is not IP. Pieces of IP packets go by their addresses. */
unsigned net_flow(const uint8_t *frame, size_t len);

#endif

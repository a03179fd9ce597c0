/* SPDX-License-Identifier: MIT */
/*
 * Addresses of network cards.
 *
 *	uint8_t mac[MAC_LEN];
 *
 *	rc = mac_parse(mac, "52:54:00:12:34:56", &err);
 *	printf("%s\n", mac_text(text, mac));
 */
#ifndef NET_MAC_H
#define NET_MAC_H

#include <stdint.h>

struct err;

#define MAC_LEN  6
#define MAC_TEXT 18

/* Six bytes in hexadecimal with ':' between. -EINVAL: it is none, or one of a group, which no card has. */
int mac_parse(uint8_t mac[MAC_LEN], const char *text, struct err *err);

/* Into `text`, which it returns. */
const char *mac_text(char text[MAC_TEXT], const uint8_t mac[MAC_LEN]);

/* One of those that may be given to virtual cards, as QEMU gives them: 52:54:00, and three bytes of the number. */
void mac_make(uint8_t mac[MAC_LEN], uint64_t number);

#endif

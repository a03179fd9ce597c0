/* SPDX-License-Identifier: MIT */
/* See mac.h. */
#include "net/mac.h"

#include "base/err.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

int mac_parse(uint8_t mac[MAC_LEN], const char *text, struct err *err)
{
	int end = -1;

	if (strspn(text, "0123456789abcdefABCDEF:") != MAC_TEXT - 1 || sscanf(text, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx%n", &mac[0], &mac[1], &mac[2], &mac[3], &mac[4], &mac[5],
		   &end) != MAC_LEN || end != MAC_TEXT - 1 || text[end])
		return err_set(err, EINVAL, "'%s' is no address of a network card: six bytes as in 52:54:00:12:34:56", text);
	if (mac[0] & 1)
		return err_set(err, EINVAL, "'%s' is the address of a group, for its first byte is odd: a card has none", text);
	return 0;
}

const char *mac_text(char text[MAC_TEXT], const uint8_t mac[MAC_LEN])
{
	snprintf(text, MAC_TEXT, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
	return text;
}

void mac_make(uint8_t mac[MAC_LEN], uint64_t number)
{
	mac[0] = 0x52;
	mac[1] = 0x54;
	mac[2] = 0;
	mac[3] = (uint8_t)(number >> 16);
	mac[4] = (uint8_t)(number >> 8);
	mac[5] = (uint8_t)number;
}

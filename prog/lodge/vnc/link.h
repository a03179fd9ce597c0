/* SPDX-License-Identifier: MIT */
/*
 * What lodge and lodge-vnc say to each other, on a SOCK_SEQPACKET pair: messages of 16 bytes. The picture itself is in memory that both have.
 *
 *	lodge-vnc                                   lodge
 *	          <-- PASSWORD --                   first of all; eight zeros: there is none
 *	          --- SHOW ------>                  draws the screen into the picture
 *	          <-- SHOWN ------                  how large it is; it stays as it is until the next SHOW
 *	          --- KEY, MOUSE ->
 *
 * lodge-vnc listens to strangers, and whoever takes it over can say what is said here: type, and look at the screen.
 */
#ifndef LODGE_VNC_LINK_H
#define LODGE_VNC_LINK_H

#include <stdint.h>

/* Descriptors of lodge-vnc. */
#define LINK_LODGE   0
#define LINK_PICTURE 3 /* SURFACE_PIXELS_MAX pixels */
#define LINK_LISTEN  4

#define LINK_PASSWORD_MAX 8 /* of which VNC takes no more */

enum link_what { LINK_PASSWORD = 1, LINK_SHOW, LINK_SHOWN, LINK_KEY, LINK_MOUSE };

struct link_message {
	uint16_t what;
	uint8_t down;    /* of KEY */
	uint8_t buttons; /* of MOUSE */
	union {
		char password[LINK_PASSWORD_MAX];
		struct {
			uint32_t width, height; /* of SHOWN */
		};
		uint8_t key;
		struct {
			int16_t dx, dy, dz;
		};
	};
	uint32_t nothing;
};

_Static_assert(sizeof(struct link_message) == 16, "as it is sent");

#endif

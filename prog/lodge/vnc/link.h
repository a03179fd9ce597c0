/* SPDX-License-Identifier: MIT */
/*
 * What lodge and lodge-vnc say to each other, on a SOCK_SEQPACKET pair: messages of 16 bytes. The picture itself is in memory that both have.
 *
 *	lodge-vnc                                   lodge
 *	          <-- PASSWORD --                   first of all; eight zeros: there is none
 *	          --- SHOW ------>                  draws the screen into the picture
 *	          <-- SHOWN ------                  how large it is; it stays as it is until the next SHOW
 *	          --- KEY, POINTER ->
 *	          --- RESIZE ---->                  a viewer would like the screen to be of that size
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

enum link_what { LINK_PASSWORD = 1, LINK_SHOW, LINK_SHOWN, LINK_KEY, LINK_POINTER, LINK_RESIZE };

struct link_message {
	uint16_t what;
	uint8_t down;    /* of KEY; of SHOWN: the screen can have another size */
	uint8_t buttons; /* of POINTER */
	union {
		char password[LINK_PASSWORD_MAX];
		struct {
			uint32_t width, height; /* of SHOWN, RESIZE */
		};
		uint8_t key;
		struct {
			uint16_t x, y, of_x, of_y; /* of POINTER: where, on a picture how large */
		};
	};
	int16_t dz; /* the same: clicks of the wheel, down */
	uint16_t nothing;
};

_Static_assert(sizeof(struct link_message) == 16, "as it is sent");

#endif

/* SPDX-License-Identifier: MIT */
/* `lodge run NAME`: an image that is there, or comes to be. */
#ifndef LODGE_IMAGE_START_H
#define LODGE_IMAGE_START_H

#include <stdbool.h>

#include "store.h"

struct err;
struct cloud_options;
struct launch;

/* Whether a word is the name of an image; or, if no file has it, of one in the catalogue. -errno: the catalogue says nothing that can be read. */
int start_is_image(const char *word, struct err *err);

/* Makes or fetches it if it is not there, and says what becomes of what a guest writes to it. */
int start_image(const char *name, struct image_facts *image, struct err *err);

/* What a guest of an image has without being asked: a name, if nobody has it; a port of this computer that leads to its port 22; and a key
 * of lodge's own, so that `lodge ssh` works. */
int start_furnish(const char *name, struct launch *l, struct cloud_options *cloud, struct err *err);

#endif

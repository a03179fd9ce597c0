/* SPDX-License-Identifier: MIT */
/* The snapshots in an image, as info and snapshot -l list them. */
#ifndef LODGE_IMG_SNAPSHOTS_H
#define LODGE_IMG_SNAPSHOTS_H

struct json;
struct node;

/* A member "snapshots". */
void snapshots_put(struct json *j, struct node *node);

/* A table. */
void snapshots_list(struct node *node);

#endif

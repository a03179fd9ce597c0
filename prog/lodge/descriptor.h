/* SPDX-License-Identifier: MIT */
/*
 * What is written about firmware images where they were installed: /usr/share/qemu/firmware/NAME.json, a format that
 * QEMU's documents specify (docs/interop/firmware.json) and the packages of OVMF follow.
 */
#ifndef LODGE_DESCRIPTOR_H
#define LODGE_DESCRIPTOR_H

#include <stdbool.h>

/* Whether one says of this image that it has a feature ("requires-smm"). False where nothing is said. */
bool descriptor_says(const char *image, const char *feature);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Regions of guest memory that appear, hide, lead to other memory or become read-only while the guest runs: for the guest, and
 * for devices.
 *
 *	rc = machine_change_region(m, m->ram.shadow + n, 0xf0000, rom, true, &err);     // the guest reads a ROM there
 *	rc = machine_change_region(m, m->ram.shadow + n, GUEST_NOWHERE, ram, false, &err);  // and now nothing
 *
 * All memory that a region leads to is a part of m->ram, so that it is saved, forked and migrated with the rest.
 */
#ifndef MACHINE_REGION_H
#define MACHINE_REGION_H

#include <stdbool.h>
#include <stdint.h>

#include "bus/guest.h"

struct err;
struct machine;

/* See guest_mem_change(); of one that changes. While vCPUs run, one finds what there was, nothing, or what there is now. Any thread but
 * one in KVM_RUN. -errno: the machine's memory is not what it should be. */
int machine_change_region(struct machine *m, unsigned i, gpa_t base, uint8_t *host, bool readonly, struct err *err);

/* vm_log() of all regions, none of which changes meanwhile. */
int machine_log(struct machine *m, bool on, struct err *err);

/* For what writes guest memory beside guest_range(): these bytes of m->ram are to be sent again, if somebody keeps a log. Any
 * thread. */
void machine_mark_written(struct machine *m, const uint8_t *bytes, uint64_t len);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * The memory controller hub of a PC: a PCI host bridge that firmware sets up. See mch.c.
 *
 *	mch = device_create(&mch_model, bus, (uint64_t[]){0xcf8, 0xcfc}, &(struct mch_config){
 *		.pci = {.intx = {...}, .msi = msi, .power = power}, .shadow = shadow, .store = store, .ctx = m }, &err);
 *
 * Source: Intel 3 Series Express Chipset Family Datasheet, 5.1: PCIEXBAR, PAM0 to PAM6.
 */
#ifndef DEV_PCI_MCH_H
#define DEV_PCI_MCH_H

#include "dev/pci/pci.h"

/* Shadows: pieces of 16 KiB from 0xc0000 on, and the last one of 64 KiB at 0xf0000. */
#define MCH_SHADOWS     13
#define MCH_SHADOW_BASE 0xc0000
#define MCH_SHADOW_SIZE 0x4000

struct mch_config {
	struct pci_host_config pci; /* its windows are not used: firmware places BARs */
	/* Reads of shadow n are RAM's from now on, or the ROM's; writes go to RAM, or to store(). The host's lock is held. */
	void (*shadow)(void *ctx, unsigned n, bool reads, bool writes);
	/* A byte for RAM, `at` bytes behind the first shadow, that the guest cannot write itself because it reads a ROM there. */
	void (*store)(void *ctx, uint64_t at, uint8_t value);
	void *ctx;
};

extern const struct device_model mch_model;

#endif

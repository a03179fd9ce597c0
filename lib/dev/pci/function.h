/* SPDX-License-Identifier: MIT */
/*
 * A PCI function, for those who write PCI devices.
 *
 * The private struct of the model embeds a struct pci_function, fills in the first part
 * and adds it. From then on configuration space, BAR decoding and the interrupt pin are
 * the host bridge's business.
 *
 *	nic->fn = (struct pci_function){
 *		.name = "nic", .vendor = 0x1af4, .device = 0x1041, .class_code = 0x020000,
 *		.pin = 1, .ctx = nic,
 *		.bars[0] = {.size = 0x4000, .read = bar_read, .write = bar_write},
 *	};
 *	rc = pci_add(host, &nic->fn, PCI_DEVFN(slot, 0), err);
 *
 * Configuration space is two arrays: the bytes, and which bits of them the guest may
 * write. A capability's owner sets the mask of its own bytes, and looks at
 * `config_written`. A PCI Express function has 4 KiB of them, of which the ports reach the first 256; any
 * other has these, and all ones behind them.
 *
 * Locks: configuration accesses hold the host's lock, and config_written may take the
 * device's lock inside it, never the other way round. pci_intx_set() and msix_notify()
 * may be called with the device's lock held.
 */
#ifndef DEV_PCI_FUNCTION_H
#define DEV_PCI_FUNCTION_H

#include "bus/bus.h"

#include <stdbool.h>
#include <stdint.h>

struct device;
struct err;
struct msix;
struct pci_port;

#define PCI_CONFIG_SIZE 4096u
#define PCI_CONFIG_OLD  256u /* of a function that is not of PCI Express */
#define PCI_BARS        6u
#define PCI_ROM         PCI_BARS /* the decoder of an expansion ROM, behind those of BARs */

/* Offsets in configuration space, and bits, that more than one file needs. */
#define PCI_COMMAND         0x04
#define PCI_COMMAND_IO      0x0001u
#define PCI_COMMAND_MEMORY  0x0002u
#define PCI_COMMAND_MASTER  0x0004u
#define PCI_COMMAND_NO_INTX 0x0400u
#define PCI_STATUS          0x06
#define PCI_STATUS_INTX     0x0008u
#define PCI_STATUS_CAPS     0x0010u
#define PCI_BAR0            0x10
#define PCI_ROM_BASE        0x30
#define PCI_HEADER          0x0e
#define PCI_HEADER_MULTI    0x80u
#define PCI_SECONDARY       0x19 /* of a bridge: the bus behind it */
#define PCI_CAPS            0x34
#define PCI_LINE            0x3c
#define PCI_PIN             0x3d

#define PCI_CAP_VENDOR 0x09
#define PCI_CAP_MSIX   0x11

struct pci_bar {
	uint64_t size; /* a power of two, at least 16; 0: this BAR does not exist */
	bool io, wide /* 64 bits: takes the next BAR's place too */, prefetch;
	/* What is in it: registers of the device that is the function's ctx, with its lock held; or else these two. */
	const struct reg *regs;
	uint64_t (*read)(void *ctx, uint64_t at, unsigned width);
	void (*write)(void *ctx, uint64_t at, unsigned width, uint64_t value);
	void *ctx; /* NULL: the function's */
	/* the host's */
	bool mapped;
	uint64_t addr; /* where it is mapped */
	struct device *dev; /* whose registers they are */
};

/* An expansion ROM: code for firmware, which switches it on, copies it and switches it off. */
struct pci_rom {
	uint32_t size;        /* of its decoder: a power of two, at least 2 KiB; 0: there is none */
	const uint8_t *bytes; /* the caller's */
	uint32_t len;         /* of them; all ones are behind them */
};

struct pci_function {
	const char *name;
	uint16_t vendor, device, sub_vendor, sub_device;
	uint8_t revision;
	uint32_t class_code; /* 24 bits: class, subclass, interface */
	uint8_t pin;         /* 1: INTA; 0: no pin */
	bool express;        /* it has PCI_CONFIG_SIZE bytes of configuration space */
	struct pci_bar bars[PCI_BARS + 1]; /* that of the ROM is the host's */
	struct pci_rom rom;
	struct device *owner;    /* is reset when the slot behind a port is switched off; may be NULL */
	struct pci_port *bridge; /* it is that port's own function, which has a bridge's header; NULL: it is none's */
	void *ctx; /* for the handlers */
	/* Called around accesses to capabilities and what lies behind them; may be
	 * NULL. */
	void (*config_read)(void *ctx, unsigned at, unsigned width);
	void (*config_written)(void *ctx, unsigned at, unsigned width);

	/* the host's from here on */
	uint8_t config[PCI_CONFIG_SIZE];
	uint8_t writable[PCI_CONFIG_SIZE];
	struct msix *msix;
	struct device *host;
	struct pci_port *port; /* behind which it is; NULL: it is on bus 0 */
	uint8_t devfn;
	uint16_t last_cap, cap_end, last_ext, ext_end; /* of capabilities; 0: there is none */
	bool intx;  /* what the device wants of its pin */
	bool pulls; /* and it is so */
	/* `config` on its way to a file, or from there */
	uint8_t saved[PCI_CONFIG_OLD], saved_ext[PCI_CONFIG_SIZE - PCI_CONFIG_OLD];
};

/* The state of a function inside the struct `type`, for the model's table, and what an express one has besides; its
 * saving() and loaded() call the two below. */
#define PCI_FUNCTION_STATE(type, fn)                                                       \
	STATE_ARRAY(type, fn.saved), STATE(type, fn.intx)
#define PCI_EXPRESS_STATE(type, fn) STATE_ARRAY(type, fn.saved_ext)

/* Fills in what the table names. */
void pci_function_saving(struct pci_function *fn);

/* Takes what the guest may write of configuration space; BARs are where they were. Before the machine runs. */
void pci_function_loaded(struct pci_function *fn);

/* Where a function is on the bus. */
#define PCI_DEVFN(slot, function) ((slot) << 3 | (function))
#define PCI_SLOT(devfn)           ((devfn) >> 3)

/* Puts a function into its place (0: function 0 of the first free slot); function 0 of a slot comes first. Behind a root port, which is `host`
 * then, there is slot 0 alone. -EBUSY, -ENOSPC, -EINVAL. The BARs have no addresses before the host is reset. */
int pci_add(struct device *host, struct pci_function *fn, unsigned devfn,
	    struct err *err);
void pci_remove(struct pci_function *fn); /* one that was never added is fine */

/* Adds a capability: len bytes of body follow its two header bytes, read-only until the
 * owner sets fn->writable. Returns its offset, or -ENOSPC. After pci_add(), before the
 * machine runs. */
int pci_add_cap(struct pci_function *fn, uint8_t id, const void *body, unsigned len, struct err *err);

/* The same of an extended one, behind four bytes; only an express function has room. */
int pci_add_ext_cap(struct pci_function *fn, uint16_t id, uint8_t version, const void *body, unsigned len,
		    struct err *err);

/* The pin, with the line's sharing taken care of. Any thread. */
void pci_intx_set(struct pci_function *fn, bool level);

/* Sends a message. Any thread. */
void pci_msi_send(struct pci_function *fn, uint64_t addr, uint32_t data);

/* An access by the guest, also for those who reach a BAR through the back door
 * (virtio). */
uint32_t pci_config_read(struct pci_function *fn, unsigned at, unsigned width);
void pci_config_write(struct pci_function *fn, unsigned at, unsigned width,
		      uint32_t value);

#endif

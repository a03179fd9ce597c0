/* SPDX-License-Identifier: MIT */
/*
 * The inside of the SATA controller: ahci.c has its interrupts, resets and its life, ahci_registers.c its registers, ahci_commands.c what goes to and
 * from its drives.
 */
#ifndef DEV_STORAGE_AHCI_PRIVATE_H
#define DEV_STORAGE_AHCI_PRIVATE_H

#include "dev/pci/function.h"
#include "dev/storage/ahci.h"
#include "dev/storage/ata.h"
#include "dev/storage/scsi.h"

#define SLOTS 32u

#define GHC_RESET  1u
#define GHC_IRQ    2u
#define GHC_ENABLE (1u << 31)

#define CMD_START  0x0001u
#define CMD_SPIN   0x0006u /* SUD, POD: always */
#define CMD_CLO    0x0008u
#define CMD_FRE    0x0010u
#define CMD_FR     0x4000u
#define CMD_CR     0x8000u
#define CMD_KEPT   (CMD_START | CMD_FRE | 0x0f000000u)

#define IS_DHR  (1u << 0)  /* registers came */
#define IS_PS   (1u << 1)  /* PIO setup */
#define IS_SDB  (1u << 3)  /* set device bits */
#define IS_PC   (1u << 6)  /* the link came: follows PxSERR */
#define IS_HBF  (1u << 29) /* the controller found something that is no memory */
#define IS_TFE  (1u << 30) /* an error in the status */
#define IS_KEPT (IS_DHR | IS_PS | IS_SDB | IS_HBF | IS_TFE)
#define IE_KEPT 0xfdc000ffu

#define SERR_LINK (1u << 26)

struct port;

struct slot {
	struct disk_req req;
	struct port *port;
	uint8_t n;
	bool packet;
	uint64_t header; /* where it is in guest memory */
	struct ata_cmd ata;
	struct scsi_cmd scsi;
	struct pieces pieces;
	struct ranges ranges; /* with none left: it is one request */
	uint32_t moved;
};

struct port {
	struct ahci *ahci;
	unsigned n;
	bool plugged;
	struct slot *slots; /* SLOTS of them, of a port that is plugged */
	struct ata ata;
	struct scsi_unit unit; /* of a CD drive */
	/* the guest's: */
	uint64_t clb, fb;
	uint32_t is, ie, cmd, tfd, sig, ssts, sctl, serr, sact, ci;
	bool halted;      /* by an error, until the driver starts it again */
	bool soft_reset;  /* the driver holds it */
	/* while requests are under way; nothing of it when the machine is paused: */
	uint32_t begun;   /* of ci, and of sact */
	unsigned under_way;
	bool alone;       /* the one under way is not queued */
	uint32_t ended;   /* of sact, not told yet */
	bool stopping;    /* when the last one ends the port stops, */
	bool coming;      /* and its link comes up */
};

struct ahci {
	struct device dev; /* first */
	struct ahci_config config;
	struct pci_function fn;
	unsigned msi;
	struct port ports[AHCI_PORTS];
	struct port *at; /* whose registers are accessed */
	uint32_t ghc, is;
	bool resetting;
	pthread_cond_t idle;
};

static inline struct disk *disk_of(const struct port *p)
{
	return p->unit.kind == SCSI_CD ? p->unit.disk : p->ata.disk;
}

static inline uint32_t port_is(const struct port *p)
{
	return p->is | (p->serr & SERR_LINK ? IS_PC : 0);
}

/* -- ahci.c --------------------------------------------------------------------------------------- */

void ahci_drive_pin(struct ahci *a);

/* Bits of IS follow those of ports; `again`: those that stayed are news. */
void ahci_update_irq(struct ahci *a, bool again);

/* A port, or all of it: that ends when what is under way has. */
void ahci_stop(struct port *p);
void ahci_finish_stop(struct port *p);
void ahci_start_reset(struct ahci *a);
void ahci_finish_reset(struct ahci *a);
bool ahci_is_idle(const struct ahci *a);

/* -- ahci_registers.c -------------------------------------------------------------------------------- */

extern const struct reg ahci_regs[];

uint64_t ahci_bar_read(void *ctx, uint64_t at, unsigned width);
void ahci_bar_write(void *ctx, uint64_t at, unsigned width, uint64_t value);
void ahci_config_written(void *ctx, unsigned at, unsigned width);

/* -- ahci_commands.c --------------------------------------------------------------------------------- */

/* Begins what can be begun. */
void ahci_run(struct port *p);

/* A drive that has reset itself says what it is. */
void ahci_say_signature(struct port *p);

#endif

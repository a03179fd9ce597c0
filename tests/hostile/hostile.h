/* SPDX-License-Identifier: MIT */
/*
 * A VM whose guest is an enemy, and the alarms around it.
 *
 *	client's memory   [canary][ RAM 1 MiB ][canary][ high RAM ][canary][ ROM ][canary]
 *	guest-physical              0                    2 MiB                3 MiB
 *
 * After every run must hold:
 *
 *	canaries        as they were, and their content nowhere in RAM or registers: they stand
 *	                for all memory that is not the guest's
 *	ROM             as it was
 *	registers       hold no address of the engine's: not of its code, its views, its vCPUs
 *	the client      its FS base, GS base, MXCSR, x87 control word and direction flag are back
 *	host faults     of translated code come from addresses that are not canonical, never from
 *	                ones that could have been something: those would have been wild accesses
 *	tables          every entry leads to guest memory (tables.c)
 *	system calls    none from the code cache (a filter would end the process)
 *	mappings        no request for memory that is writable and executable (the same filter)
 *
 * A watchdog kicks a vCPU that has been running for some ticks.
 */
#ifndef HOSTILE_HOSTILE_H
#define HOSTILE_HOSTILE_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PAGE 4096u
#define RAM_SIZE 0x100000u
#define HIGH_AT 0x200000u
#define HIGH_SIZE 0x10000u
#define ROM_AT 0x300000u
#define ROM_SIZE 0x10000u

/* Guest-physical places that enemy_reset() fills; code and data are the test's. */
enum {
	GDT_AT = 0x1000, IDT_AT = 0x2000, TSS_AT = 0x3000, IDT32_AT = 0x3800, STACK0_AT = 0x5000,
	PML4_AT = 0x5000, PDPT_AT = 0x6000, PD_AT = 0x7000, HANDLERS_AT = 0x8000,
	CODE_AT = 0x10000, CODE_SIZE = 0x10000, STACK3_AT = 0x30000, PD32_AT = 0x38000,
	PAE_PDPT_AT = 0x39000, PAE_PD_AT = 0x3a000, TABLES_AT = 0x40000,
	TABLES = 16,
};

enum { SEL_CODE64 = 0x08, SEL_DATA = 0x10, SEL_CODE32 = 0x18, SEL_USER32 = 0x23,
       SEL_USER_DATA = 0x2b, SEL_USER64 = 0x33, SEL_CODE16 = 0x38, SEL_TSS = 0x40 };

#define CPUS_MAX 4

struct enemy {
	const char *knobs;
	int sys, vm, n_cpus;
	struct cpu {
		int fd;
		struct kvm_run *run;
		volatile bool inside;
		volatile unsigned ticks;
		unsigned exits[40];       /* by reason */
	} cpu[CPUS_MAX];
	size_t run_len;
	uint8_t *all;                     /* the first canary; the rest follows */
	uint8_t *ram, *high, *rom;
	uint64_t secret[2];
	uint64_t rng;
};

/* The modes in which code can begin. */
enum mode { LONG_RING0, LONG_RING3, COMPAT_RING3, PROTECTED_RING0, PROTECTED_RING3, PROTECTED_16,
	    PAGED_RING0, PAGED_RING3, PAE_RING0, PAE_RING3, REAL, MODES };
const char *mode_name(enum mode mode);

/* A VM; SOFTKVM=knobs. Ends the test if there can be none. With an interrupt controller HLT sleeps
 * until a tick. */
struct enemy *enemy_create(const char *knobs, int cpus, bool irqchip);
void enemy_destroy(struct enemy *e);

/* Descriptors, handlers that skip a byte and go on, page tables of all three kinds: the first 2 MiB
 * are as they lie, the rest of 32-bit tables is random. All other RAM is as it was. */
void enemy_reset(struct enemy *e);
/* CPU n begins at CODE_AT + entry, with random registers that like RAM's edges. */
void enemy_start(struct enemy *e, int n, enum mode mode, uint32_t entry);

/* Runs CPU n, answering exits with noise, until it halts, shuts down, or has had `exits` exits or
 * `ticks` ticks of a millisecond: a guest that must come to something on a host of any speed has no limit
 * of these. False: something came out that has no name; why is printed. */
#define UNLIMITED ~0u
bool enemy_run(struct enemy *e, int n, unsigned exits, unsigned ticks);

/* The alarms: true, none has gone off; otherwise which is printed. */
bool enemy_harmless(struct enemy *e);

/* tables.c: CPU n's translation tables are what docs/why/tlb.md says. Part of enemy_harmless(). */
bool tables_sound(struct enemy *e, int n);
/* Only the entries and which view is in use: cheap, and all that an invalidation would take away.
 * enemy_run() asks for it whenever the guest writes to port AUDIT. */
bool entries_sound(struct enemy *e, int n);
enum { AUDIT = 0xe5 };

/* code.c: whatever leads to translated code leads to where it should. Part of tables_sound(). */
struct engine;
bool code_sound(struct engine *e);

/* What has happened so far, as notes. */
void enemy_report(const struct enemy *e, const char *what);

uint64_t rnd(struct enemy *e);
unsigned below(struct enemy *e, unsigned n);
/* A number that is likely to hurt. */
uint64_t nasty(struct enemy *e);

/* Sleeps, whatever ticks come in between. */
void wait_us(unsigned us);

/* To be called when all VMs of the test exist. */
void alarms_arm(void);

#endif

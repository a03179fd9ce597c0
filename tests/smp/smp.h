/* SPDX-License-Identifier: MIT */
/*
 * Guests of several vCPUs in one loop each, on the same memory.
 *
 *	struct smp *m = smp_create("nochain", 2, false);
 *	m->cpu[0].regs.rdi = ...               what the guest begins with; rsp is set
 *	smp_load(m, 0, begin, end);            the body of CPU 0's loop
 *	smp_run(m, 10000, CLIENT_WAITS)        until all have come to the end
 *	m->cpu[0].regs                         what it ended with
 *
 * 64-bit code in ring 0, the first 2 MiB mapped as they lie, in pages of 4 KiB. The loop around the
 * body is
 *
 *	all wait until everybody has come (r13, r14); then r15 times the body; then OUT
 *	every 64th time the function at rbp is called, if that is not 0
 */
#ifndef SMP_SMP_H
#define SMP_SMP_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>

#define SMP_CPUS 4
#define SMP_MEMORY 0x200000u

enum { SMP_CODE = 0x1000, SMP_STACK = 0x10000, SMP_BARRIER = 0x18000, SMP_GDT = 0x19000,
       SMP_IDT = 0x1a000 /* empty */, SMP_TABLES = 0x20000 /* the last of four pages has the
       leaves */, SMP_DATA = 0x40000 };

struct smp {
	const char *knobs;
	int sys, vm, n_cpus;
	uint8_t *mem;
	struct smp_cpu {
		int fd;
		struct kvm_run *run;
		struct kvm_regs regs;
		bool fine;
	} cpu[SMP_CPUS];
};

/* SOFTKVM=knobs; chips: with interrupt controllers. Ends the test if there can be none. */
struct smp *smp_create(const char *knobs, int cpus, bool chips);
void smp_destroy(struct smp *m);

void smp_load(struct smp *m, int n, const uint8_t *begin, const uint8_t *end);

/* What the client does meanwhile. */
enum smp_client { CLIENT_WAITS, CLIENT_READS_LOG, CLIENT_SENDS_NMIS /* to CPU 0 */ };

/* False: a CPU did not come to the end in 20 seconds. */
bool smp_run(struct smp *m, unsigned times, enum smp_client client);

#endif

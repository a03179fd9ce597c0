/* SPDX-License-Identifier: MIT */
/*
 * Any state of a vCPU and a VM: what a vCPU in long mode has saved, changed as the input says (mutate.h), is loaded into
 * another one, which then runs what is left of the input for a moment.
 *
 * Whoever makes a file may say anything that the KVM ABI can say; softkvm refuses it, or the guest has what it deserves.
 */
#include "fuzz/mutate.h"

#include "base/macros.h"
#include "engine/kvm.h"
#include "machine/boot/boot.h"
#include "machine/cpu/table.h"
#include "machine/map.h"
#include "machine/saved/parts.h"
#include "machine/vcpu.h"
#include "machine/vm.h"
#include "state/state.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#define CODE   0x1000u
#define RUNS   20     /* exits */
#define MOMENT 1000   /* us */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t ram[1 << 20] __attribute__((aligned(4096)));
static struct guest_mem mem = {.n = 1, .regions[0] = {.size = sizeof(ram), .host = ram}};
static struct vm vm = {.sys = -1, .fd = -1};
static struct cpu_table table;
static struct vcpu vcpu;

static void on_alarm(int sig)
{
	(void)sig;
	vcpu_nudge(&vcpu);
}

static void prepare(void)
{
	struct sigaction sa = {.sa_handler = on_alarm, .sa_flags = SA_ONSTACK};

	if (vm_engine_open(&vm, &kvm_soft, NULL) < 0 ||
	    cpu_table_offered(&kvm_soft, vm.sys, &table, NULL) < 0)
		abort();
	sigaction(SIGALRM, &sa, NULL);
}

static void make(void)
{
	const struct boot_entry entry = {.mode = BOOT_LONG, .rip = CODE};

	vcpu.fd = -1;
	if (vm_open(&vm, &mem, 0xfffbc000, NULL) < 0 || vcpu_open(&vcpu, NULL, &vm, 0, 1, &table, NULL) < 0 ||
	    vcpu_set_entry(&vcpu, &entry, NULL) < 0)
		abort();
}

static void unmake(void)
{
	vcpu_close(&vcpu);
	vm_close(&vm);
}

/* The first MiB is where it is. */
static void fill_ram(const uint8_t *code, size_t len)
{
	memset(ram, 0, sizeof(ram));
	le64_put(ram + MAP_PAGE_TABLES, (MAP_PAGE_TABLES + 0x1000) | 3);
	le64_put(ram + MAP_PAGE_TABLES + 0x1000, (MAP_PAGE_TABLES + 0x2000) | 3);
	le64_put(ram + MAP_PAGE_TABLES + 0x2000, 0x83);
	memcpy(ram + CODE, code, len < 4096 ? len : 4096);
}

static void run(void)
{
	setitimer(ITIMER_REAL, &(struct itimerval){.it_value.tv_usec = MOMENT}, NULL);
	for (unsigned i = 0; i < RUNS; i++)
		if (kvm_soft.ioctl(vcpu.fd, KVM_RUN, NULL) < 0)
			break;
	setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct state_out first, again;
	static uint8_t *all;
	struct state_in in;
	size_t n;

	if (vm.sys < 0)
		prepare();
	if (!first.len) {
		make();
		if (vcpu_save(&vcpu, &first, NULL) < 0 || vm_save(&vm, &first, NULL) < 0)
			abort();
		unmake();
		all = malloc(first.len);
	}
	memcpy(all, first.bytes, first.len);
	n = mutate(all, first.len, data, size);
	in = (struct state_in){.bytes = all, .len = first.len};
	fill_ram(data + n, size - n);
	make();
	if (vm_load(&vm, &in, NULL) == 0 && vcpu_load(&vcpu, &in, 0, NULL) == 0) {
		run();
		again.len = 0;
		vcpu_save(&vcpu, &again, NULL);
	}
	unmake();
	return 0;
}

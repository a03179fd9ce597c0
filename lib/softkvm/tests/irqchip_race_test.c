/* SPDX-License-Identifier: MIT */
/*
 * No interrupt is lost between threads: each sender waits until its interrupt was
 * served before it sends the next, so a lost one stops the test (and the harness its
 * time). Senders post edges, raise a level-triggered pin, and send IPIs from another
 * vCPU.
 */
#include "softkvm/tests/irqchip_machine.h"

#include <pthread.h>

#define ROUNDS 20000

static _Atomic uint32_t served[256];
static _Atomic bool stop;

static void wait_served(uint8_t vector, uint32_t n)
{
	while (atomic_load(&served[vector]) != n)
		sched_yield();
}

static void *post(void *arg)
{
	uint8_t vector = (uint8_t)(uintptr_t)arg;

	for (uint32_t n = 1; n <= ROUNDS; n++) {
		lapic_post(&cpu[0], vector, false, false);
		wait_served(vector, n);
	}
	return NULL;
}

static void *raise_pin(void *arg)
{
	(void)arg;
	for (uint32_t n = 1; n <= ROUNDS; n++) {
		irqchip_line(&vm, 20, 1, 0);
		wait_served(0x90, n);
	}
	return NULL;
}

static void *send_ipi(void *arg)
{
	(void)arg;
	for (uint32_t n = 1; n <= ROUNDS; n++) {
		apic_write(&cpu[1], LAPIC_ICR, 0xa0);
		wait_served(0xa0, n);
	}
	return NULL;
}

/* vCPU 0, as the run loop does it: looks only when it was asked to. */
static void *run(void *arg)
{
	(void)arg;
	while (!atomic_load(&stop)) {
		int vector;

		if (!(took_requests(&cpu[0]) & REQ_EVENT)) {
			sched_yield();
			continue;
		}
		while (irqchip_pending(&cpu[0]) >= 0) {
			vector = irqchip_ack(&cpu[0]);
			if (vector == 0x90)
				irqchip_line(&vm, 20, 0, 0); /* the device is content */
			apic_write(&cpu[0], LAPIC_EOI, 0);
			atomic_fetch_add(&served[vector & 0xff], 1);
		}
	}
	return NULL;
}

int main(void)
{
	pthread_t cpu_thread, sender[4];

	machine_begin(2);
	apic_enable(&cpu[0]);
	apic_enable(&cpu[1]);
	ioapic_entry(20, 0x8090);
	pthread_create(&cpu_thread, NULL, run, NULL);
	pthread_create(&sender[0], NULL, post, (void *)0x41);
	pthread_create(&sender[1], NULL, post, (void *)0xf2);
	pthread_create(&sender[2], NULL, raise_pin, NULL);
	pthread_create(&sender[3], NULL, send_ipi, NULL);
	for (int i = 0; i < 4; i++)
		pthread_join(sender[i], NULL);
	atomic_store(&stop, true);
	pthread_join(cpu_thread, NULL);
	is_int(atomic_load(&served[0x41]), ROUNDS, "posted");
	is_int(atomic_load(&served[0xf2]), ROUNDS, "posted, of high priority");
	is_int(atomic_load(&served[0x90]), ROUNDS, "level-triggered");
	is_int(atomic_load(&served[0xa0]), ROUNDS, "sent by another vCPU");
	machine_end();
	return done_testing();
}

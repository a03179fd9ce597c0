/* SPDX-License-Identifier: MIT */
/*
 * Pause and resume; machine.h has the states.
 *
 *	owner                                   vCPU's thread
 *	pausing = true; nudge all               KVM_RUN returns
 *	wait until all are parked               settle (run.c); n_parked++; wait
 *	devices pause
 *	  ... paused ...
 *	devices resume
 *	pausing = false; broadcast              immediate_exit = 0; KVM_RUN
 *
 * Disks that were handed over to another lodge (migrate.c) are taken back first of all: without them it does not go on.
 *
 * A thread that has left (its machine is over) counts as parked, so nobody waits for it. A machine
 * that ends while it is being paused is an ended one.
 *
 * The nudge of one pause may come late and find the next KVM_RUN: that is one return more with -EINTR.
 * But a thread clears immediate_exit before it looks at `pausing` again, so it cannot clear that of the next
 * pause and then run: whoever sets immediate_exit has set `pausing` before.
 */
#include "machine/private.h"

#include "base/err.h"
#include "base/scoped.h"
#include "block/disk.h"
#include "dev/device.h"

#include <errno.h>

enum machine_life machine_life(struct machine *m)
{
	scoped_lock(&m->lock);
	if (m->ended)
		return MACHINE_ENDED;
	if (!m->started)
		return MACHINE_CREATED;
	return m->paused ? MACHINE_PAUSED : MACHINE_RUNNING;
}

void machine_park(struct machine *m)
{
	scoped_lock(&m->lock);
	m->n_parked++;
	pthread_cond_broadcast(&m->parked);
	while (atomic_load(&m->pausing) && !atomic_load(&m->stopping))
		pthread_cond_wait(&m->parked, &m->lock);
	m->n_parked--;
}

void machine_leave(struct machine *m)
{
	scoped_lock(&m->lock);
	m->n_parked++;
	pthread_cond_broadcast(&m->parked);
}

static int pause_vcpus(struct machine *m, struct err *err)
{
	scoped_lock(&m->lock);
	if (m->ended)
		return err_set(err, EINVAL, "the machine has ended");
	atomic_store(&m->pausing, true);
	for (unsigned i = 0; m->started && i < m->config.cpus; i++)
		vcpu_nudge(&m->vcpus[i]);
	while (m->started && m->n_parked < m->config.cpus)
		pthread_cond_wait(&m->parked, &m->lock);
	if (m->ended)
		return err_set(err, EINVAL, "the machine ended while it was being paused");
	m->paused = true;
	return 0;
}

int machine_pause(struct machine *m, struct err *err)
{
	bool devices_are = m->paused; /* those of a machine that was loaded, and has not started */
	int rc = 0;

	if (!m->paused || !atomic_load(&m->pausing))
		rc = pause_vcpus(m, err);
	for (unsigned i = 0; rc == 0 && !devices_are && i < m->board.n; i++)
		device_pause(m->board.devices[i]);
	return rc;
}

int machine_take_disks(struct machine *m, struct err *err)
{
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < m->config.n_disks; i++)
		rc = disk_take_back(m->config.disks[i], err);
	return rc;
}

int machine_resume(struct machine *m, struct err *err)
{
	int rc = m->paused ? machine_take_disks(m, err) : 0;

	if (!m->paused || rc < 0)
		return rc;
	for (unsigned i = 0; i < m->board.n; i++)
		device_resume(m->board.devices[i]);
	scoped_lock(&m->lock);
	m->paused = false;
	atomic_store(&m->pausing, false);
	pthread_cond_broadcast(&m->parked);
	return m->ended ? err_set(err, EINVAL, "the machine has ended") : 0;
}

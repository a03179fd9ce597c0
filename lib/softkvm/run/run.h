/* SPDX-License-Identifier: MIT */
/*
 * KVM_RUN, and what the ABI's face asks of the engine.
 */
#ifndef SOFTKVM_RUN_H
#define SOFTKVM_RUN_H

#include <pthread.h>
#include <signal.h>

#include "softkvm/vcpu.h"

struct engine;

/* KVM_RUN, c->run being the shared page: 0, -EINTR, or another -errno. The caller holds the
 * vCPU's lock, so that no other ioctl sees it half way. */
int vcpu_run(struct vcpu *c);

/* The thread ends that is in this vCPU's KVM_RUN (a handler of a signal has ended it). Nobody waits for the vCPU any
 * more; vcpu_run() is -EIO from now on. In that thread. */
void vcpu_abandon(struct vcpu *c);

/* Makes a thread that is in KVM_RUN leave it, as vcpu_kick() does. signals_install() must have been called. */
void thread_kick(pthread_t thread);

/* An INIT or SIPI that came since the last KVM_RUN takes effect. */
void vcpu_take_startup(struct vcpu *c);

/* The translator's part of a vCPU: 0 or -errno; destroy takes a half-made one. The address
 * space from c->arena to c, at least c->arena_len bytes, is reserved (PROT_NONE) and the engine's;
 * it is unmapped with the vCPU. */
int engine_create(struct vcpu *c);
void engine_destroy(struct vcpu *c);

/* A vCPU's timer sends it to the vCPU's thread. */
#define TIMER_SIGNAL (SIGRTMAX - 3)

/* Takes the signals that the engine lives on out of a mask that a thread has in KVM_RUN. */
void signals_let_through(sigset_t *mask);

/* signal.c: the handlers, once a process; the timer of the thread that is in KVM_RUN. */
int signals_install(void);
int timer_begin(struct engine *e);
void timer_end(struct engine *e);

#endif

/* SPDX-License-Identifier: MIT */
/* The variable itself: see current.h. run/run.c sets it. */
#include "softkvm/os/current.h"

__thread struct vcpu *current_vcpu CURRENT_TLS;

/* SPDX-License-Identifier: MIT */
/* Task switches: task.c. */
#ifndef SOFTKVM_TASK_H
#define SOFTKVM_TASK_H

#include "softkvm/vcpu.h"

enum task_way { TASK_JUMP, TASK_CALL, TASK_RETURN, TASK_EVENT };

struct task_switch {
	enum task_way way;
	uint64_t rip, flags; /* what the old task goes on with */
	unsigned ext;        /* EXT bit of error codes */
	bool has_code;       /* an exception's, for the new task's stack */
	uint32_t code;
};

/* To the task whose TSS `sel` names; not in long mode. STEP_FAULT: nothing has happened. Faults in
 * the new task are left in c->event. */
enum step task_switch(struct vcpu *c, uint16_t sel, const struct task_switch *how);

/* IRET with NT: back to the task that the TSS links to. */
enum step task_return(struct vcpu *c, uint64_t next);

#endif

/* SPDX-License-Identifier: MIT */
/* Commands that change a guest's life. */
#include "base/err.h"
#include "prog/lodge/control.h"
#include "prog/lodge/session.h"
#include "serve.h"

#include <errno.h>
#include <stddef.h>

int do_stop(struct call *c, struct err *err)
{
	return session_pause(c->session, err);
}

int do_cont(struct call *c, struct err *err)
{
	c->keeps = false;
	return session_resume(c->session, err);
}

/* Nobody would see it pressed. */
int do_powerdown(struct call *c, struct err *err)
{
	if (machine_life(c->session->machine) == MACHINE_PAUSED)
		return err_set(err, EBUSY, "the guest is paused: it would not see its power button");
	machine_power_button(c->session->machine);
	control_event(c->session->control, "POWERDOWN", NULL);
	return 0;
}

int do_reset(struct call *c, struct err *err)
{
	return session_reset(c->session, err);
}

int do_quit(struct call *c, struct err *err)
{
	(void)err;
	c->session->saved = c->keeps;
	c->session->reset = false;
	machine_stop(c->session->machine);
	return 0;
}

/* SPDX-License-Identifier: MIT */
/* See told.h. What they heard last is in the session: most of it is looked at, and not reported. */
#include "told.h"

#include "control.h"
#include "machine/machine.h"
#include "session.h"

#include <stdio.h>
#include <string.h>

/* Of whatever made it so. */
void told_life(struct session *s)
{
	enum machine_life life = machine_life(s->machine);
	bool paused = life == MACHINE_PAUSED;

	if ((!paused && life != MACHINE_RUNNING) || paused == s->told_paused)
		return;
	s->told_paused = paused;
	control_event(s->control, paused ? "STOP" : "RESUME", NULL);
}

void told_trays(struct session *s)
{
	char data[100];

	for (unsigned i = 0; i < s->config->n_cds; i++) {
		bool is_open = machine_cd_is_open(s->machine, i);

		if (is_open == (s->told_open >> i & 1))
			continue;
		s->told_open ^= 1u << i;
		snprintf(data, sizeof(data), "{\"device\": \"cd%u\", \"id\": \"cd%u\", \"tray-open\": %s}", i, i, is_open ? "true" : "false");
		control_event(s->control, "DEVICE_TRAY_MOVED", data);
	}
}

void told_deleted(struct session *s, const char *id)
{
	char data[2 * MACHINE_ID_MAX + 80];

	snprintf(data, sizeof(data), "{\"device\": \"%s\", \"path\": \"/machine/peripheral/%s\"}", id, id); /* SAFE: machine_is_id() */
	control_event(s->control, "DEVICE_DELETED", data);
}

void told_panic(struct session *s, bool crash_kernel)
{
	bool ends = s->no_reboot && !crash_kernel;

	control_event(s->control, crash_kernel ? "GUEST_CRASHLOADED" : "GUEST_PANICKED",
		      ends ? "{\"action\": \"poweroff\"}" : "{\"action\": \"run\"}");
}

static void tell_cause(struct session *s, const char *event, bool guest, const char *reason)
{
	char data[100];

	snprintf(data, sizeof(data), "{\"guest\": %s, \"reason\": \"%s\"}", guest ? "true" : "false", reason);
	control_event(s->control, event, data);
}

void told_reset(struct session *s, bool guest)
{
	tell_cause(s, "RESET", guest, guest ? "guest-reset" : "host-qmp-system-reset");
}

/* One that runs elsewhere is not off: the end of the connection tells of that. */
void told_end(struct session *s, const struct machine_end *end, const char *stopped)
{
	static const struct {
		bool guest;
		const char *reason;
	} causes[] = {
		[MACHINE_OFF] = {true, "guest-shutdown"}, [MACHINE_RESET] = {true, "guest-reset"},
		[MACHINE_TRIPLE_FAULT] = {true, "guest-panic"}, [MACHINE_FAILED] = {false, "host-error"},
	};

	if (s->left)
		return;
	if (end->reason == MACHINE_STOPPED)
		tell_cause(s, "SHUTDOWN", strncmp(stopped, "guest", 5) == 0, stopped);
	else
		tell_cause(s, "SHUTDOWN", causes[end->reason].guest, causes[end->reason].reason);
}

/* SPDX-License-Identifier: MIT */
/*
 * Keys and the mouse. All of a command's keys and movements are understood before the first one is sent: the table's check has seen to
 * it, but for numbers.
 *
 * A button stays down until it is said to be up, and the pointer where it was put on one axis while it moves on the other, from one command to
 * the next: so the session notes it. What moves by a way ("rel") is the PS/2 mouse, what is put somewhere ("abs") a tablet.
 */
#include "base/err.h"
#include "base/json_read.h"
#include "display/keys.h"
#include "machine/screen.h"
#include "prog/lodge/session.h"
#include "request.h"
#include "serve.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define KEY_MAX  0xff
#define MOVE_MAX 32767
#define RANGE    32768u /* of an axis of QMP's, on which "abs" has its place */

static int check_keyboard(struct call *c, struct err *err)
{
	if (!c->session->config->screen) {
		c->class = QMP_NO_DEVICE;
		return err_set(err, EBUSY, "the guest has no screen and no keyboard: it was started without --display");
	}
	if (machine_life(c->session->machine) == MACHINE_PAUSED)
		return err_set(err, EBUSY, "the guest is paused: it would not see its keyboard");
	return 0;
}

/* {"type": "qcode", "data": "ret"} or {"type": "number", "data": 28} */
static int read_key(const struct json_value *key, uint8_t *number, struct err *err)
{
	const struct json_value *data = json_find(key, "data");
	uint64_t n = 0;

	if (data->type == JSON_STRING)
		n = keys_of_name(data->text);
	else if (json_get_uint(key, "data", KEY_MAX, &n, err) < 0)
		return call_usage(err);
	*number = (uint8_t)n;
	return 0;
}

static int not_read(struct err *err)
{
	return err_set(err, EBUSY, "the guest does not read its keyboard");
}

/* Pressed in that order, and let go in the other. */
int do_send_key(struct call *c, struct err *err)
{
	struct machine *m = c->session->machine;
	const struct json_value *list = json_find(c->args, "keys");
	uint8_t keys[KEYS_AT_ONCE];
	bool taken = true;
	int n = 0, rc = 0;

	for (const struct json_value *k = list->first; k && rc == 0; k = k->next) {
		if (n == KEYS_AT_ONCE)
			return err_set(err, ERANGE, "more than %d keys at once", KEYS_AT_ONCE);
		rc = read_key(k, &keys[n++], err);
	}
	if (rc < 0 || (rc = check_keyboard(c, err)) < 0)
		return rc;
	for (int i = 0; i < n; i++)
		taken &= machine_key(m, keys[i], true);
	for (int i = n; i-- > 0;)
		machine_key(m, keys[i], false);
	return taken ? 0 : not_read(err);
}

/* -- Events of any kind ----------------------------------------------------------------------- */

struct move {
	int dx, dy, dz;
	bool any, put;
};

static bool is_down(const struct json_value *data)
{
	return json_find(data, "down")->text[0] == 't';
}

static void take_button(struct session *s, const struct json_value *data, struct move *move)
{
	static const char *const names[] = {"left", "right", "middle"}; /* i8042_mouse()'s bits */
	const char *name = json_find(data, "button")->text;

	for (unsigned i = 0; i < 3; i++)
		if (strcmp(name, names[i]) == 0)
			s->buttons = (uint8_t)((s->buttons & ~(1u << i)) | (unsigned)is_down(data) << i);
	if (strncmp(name, "wheel-", 6) == 0 && is_down(data))
		move->dz += strcmp(name, "wheel-up") == 0 ? -1 : 1;
	move->any = true;
}

static int bounded(long long n)
{
	return n > MOVE_MAX ? MOVE_MAX : n < -MOVE_MAX ? -MOVE_MAX : (int)n;
}

static void take_movement(const struct json_value *data, struct move *move)
{
	int *sum = json_find(data, "axis")->text[0] == 'x' ? &move->dx : &move->dy;

	*sum = bounded((long long)*sum + bounded(strtoll(json_find(data, "value")->text, NULL, 10)));
	move->any = true;
}

static void take_place(struct session *s, const struct json_value *data, struct move *move)
{
	unsigned *at = json_find(data, "axis")->text[0] == 'x' ? &s->at_x : &s->at_y;
	int value = bounded(strtoll(json_find(data, "value")->text, NULL, 10));

	*at = value > 0 ? (unsigned)value : 0;
	move->put = true;
}

static int check_tablet(const struct machine_config *config, struct err *err)
{
	if (config->virtio_input || config->usb)
		return 0;
	return err_set(err, ENOENT, "the guest has no tablet, and a mouse knows no places");
}

static int take_event(struct call *c, const struct json_value *event, struct move *move, bool dry, struct err *err)
{
	const struct json_value *data = json_find(event, "data");
	const char *type = json_find(event, "type")->text;
	uint8_t key;

	if (strcmp(type, "key") == 0) {
		int rc = read_key(json_find(data, "key"), &key, err);

		return rc < 0 || dry || machine_key(c->session->machine, key, is_down(data)) ? rc : not_read(err);
	}
	if (dry)
		return strcmp(type, "abs") == 0 && c->session->config->screen ? check_tablet(c->session->config, err) : 0;
	if (strcmp(type, "btn") == 0)
		take_button(c->session, data, move);
	else if (strcmp(type, "abs") == 0)
		take_place(c->session, data, move);
	else
		take_movement(data, move);
	return 0;
}

/* Buttons go with the place, if there is one. */
static void send_movement(struct session *s, const struct move *move)
{
	if (move->put)
		machine_point(s->machine, &(struct machine_pointer){.x = s->at_x, .y = s->at_y, .width = RANGE, .height = RANGE,
								    .dz = move->dz, .buttons = s->buttons});
	else if (move->any)
		machine_mouse(s->machine, move->dx, move->dy, move->dz, s->buttons);
}

int do_input(struct call *c, struct err *err)
{
	const struct json_value *list = json_find(c->args, "events");
	struct move move = {0};
	int rc = 0;

	for (const struct json_value *e = list->first; e && rc == 0; e = e->next)
		rc = take_event(c, e, &move, true, err);
	if (rc == 0)
		rc = check_keyboard(c, err);
	for (const struct json_value *e = list->first; e && rc == 0; e = e->next)
		rc = take_event(c, e, &move, false, err);
	if (rc == 0)
		send_movement(c->session, &move);
	return rc;
}

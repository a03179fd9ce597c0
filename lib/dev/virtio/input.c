/* SPDX-License-Identifier: MIT */
/*
 * A virtio keyboard and a virtio tablet, after section 5.8 of virtio 1.2. The tablet says where the pointer is and not how it moves, so a
 * viewer's pointer is where the guest's is.
 *
 *	queue 0   events, each in a buffer of the driver's: type (2), code (2), value (4); what belongs together ends with SYN_REPORT
 *	queue 1   what the driver wants of the device: LEDs, which nobody sees
 *
 * Types and codes are those of Linux' evdev (linux/input-event-codes.h), which the specification names. The configuration is a window: the
 * driver writes what it wants to know (select, subsel), and reads how long the answer is, and the answer.
 *
 * The driver has 64 buffers, and a guest that is busy takes its time. So what happens waits here, in order, up to a bound; and nothing that
 * the driver believes stays wrong for ever:
 *
 *	key       goes down if there is room for that and for all keys that are down to go up, and else is dropped; goes up in any case
 *	pointer   where it is now takes the place of where it was, unless a button was pressed or let go there; when too many of these wait,
 *	          the last one is what is so now
 *
 * A device whose driver is not there takes nothing. Who presses keys has other devices for that (machine/screen.c).
 */
#include "base/bytes.h"
#include "base/err.h"
#include "base/macros.h"
#include "base/scoped.h"
#include "dev/ps2.h"
#include "dev/virtio/virtio.h"
#include "state/state.h"

#include <errno.h>
#include <linux/input-event-codes.h>
#include <string.h>

enum { EVENTS, STATUS, QUEUES };

#define QUEUE_SIZE 64u
#define BUTTONS    3u
#define WHEEL_MAX  127
#define KEYS_MAX   256u
#define POINTS_MAX 64u
#define GOES_DOWN   0x100u

/* The configuration. */
enum { AT_SELECT, AT_SUBSEL, AT_SIZE, AT_ANSWER = 8, ANSWER_MAX = 128 };
#define BUS_IS_VIRTUAL 0x06 /* linux/input.h */

enum { ASK_NAME = 0x01, ASK_IDS = 0x03, ASK_EVENTS = 0x11, ASK_AXIS = 0x12 };

struct answer {
	uint8_t bytes[ANSWER_MAX];
	unsigned len;
};

struct input {
	struct virtio v; /* first */
	void (*tell)(struct input *in);
	void (*describe)(uint8_t type, struct answer *a); /* which codes of a type it has */
	uint8_t select, subsel;
	bool owes; /* events were told, and no SYN_REPORT */
	uint32_t n; /* of what waits */
	/* the keyboard's, by ps2.h's numbers: */
	uint8_t down[32];
	uint16_t keys[KEYS_MAX]; /* that wait: and GOES_DOWN */
	/* the tablet's: */
	struct point {
		uint16_t x, y;
		uint8_t buttons;
		int8_t wheel; /* turned up, so much */
	} points[POINTS_MAX], told;
	struct vq_chain chain;
};

/* -- Events ---------------------------------------------------------------------------- */

/* False: the driver has no buffer for it now. */
static bool put(struct input *in, uint16_t type, uint16_t code, uint32_t value)
{
	struct vq *vq = &in->v.queues[EVENTS];
	uint8_t event[8];
	uint64_t len;
	int rc = vq_pop(vq, &in->chain);

	if (rc < 0)
		virtio_broken(&in->v, vq->broken);
	if (rc <= 0)
		return false;
	le16_put(event, type);
	le16_put(event + 2, code);
	le32_put(event + 4, value);
	len = iov_scatter(in->chain.iov + in->chain.n_out, in->chain.n_in, event, sizeof(event));
	vq_push(vq, in->chain.head, (uint32_t)len);
	in->owes = type != EV_SYN;
	return true;
}

/* All that the driver does not know yet, as far as it has buffers. Between two begin() the queue gives only so many as were there. */
static void begin(struct input *in)
{
	vq_begin(&in->v.queues[EVENTS]);
}

static void tell_all(struct input *in)
{
	in->tell(in);
	if (in->owes)
		put(in, EV_SYN, SYN_REPORT, 0);
}

static void kick(struct virtio *v, unsigned n)
{
	struct input *in = (struct input *)v;
	struct vq *vq = &v->queues[n];
	int rc = 0;

	vq_begin(vq);
	if (n == EVENTS)
		tell_all(in);
	while (n == STATUS && (rc = vq_pop(vq, &in->chain)) > 0)
		vq_push(vq, in->chain.head, 0);
	if (rc < 0)
		virtio_broken(v, vq->broken);
	virtio_signal(v, n);
}

/* -- The keyboard ------------------------------------------------------------------------ */

/* Keys that came after the first PC's; the number of one of those, up to F12, is evdev's code, too. */
static const struct {
	uint8_t key;
	uint16_t code;
} keys[] = {
	{0x54, KEY_SYSRQ}, {0x59, KEY_KPEQUAL}, {0x70, KEY_KATAKANAHIRAGANA}, {0x73, KEY_RO}, {0x79, KEY_HENKAN},
	{0x7b, KEY_MUHENKAN}, {0x7d, KEY_YEN}, {0x7e, KEY_KPCOMMA},
	{0x90, KEY_PREVIOUSSONG}, {0x99, KEY_NEXTSONG}, {0x9c, KEY_KPENTER}, {0x9d, KEY_RIGHTCTRL}, {0xa0, KEY_MUTE},
	{0xa2, KEY_PLAYPAUSE}, {0xa4, KEY_STOPCD}, {0xae, KEY_VOLUMEDOWN}, {0xb0, KEY_VOLUMEUP}, {0xb5, KEY_KPSLASH},
	{0xb7, KEY_SYSRQ}, {0xb8, KEY_RIGHTALT}, {PS2_KEY_PAUSE, KEY_PAUSE}, {0xc7, KEY_HOME}, {0xc8, KEY_UP}, {0xc9, KEY_PAGEUP},
	{0xcb, KEY_LEFT}, {0xcd, KEY_RIGHT}, {0xcf, KEY_END}, {0xd0, KEY_DOWN}, {0xd1, KEY_PAGEDOWN}, {0xd2, KEY_INSERT},
	{0xd3, KEY_DELETE}, {0xdb, KEY_LEFTMETA}, {0xdc, KEY_RIGHTMETA}, {0xdd, KEY_COMPOSE}, {0xde, KEY_POWER},
	{0xdf, KEY_SLEEP}, {0xe3, KEY_WAKEUP},
};

/* 0: there is no such key. */
static uint16_t code_of(uint8_t key)
{
	if (key <= KEY_KPDOT || (key >= KEY_102ND && key <= KEY_F12))
		return key;
	for (unsigned i = 0; i < ARRAY_SIZE(keys); i++)
		if (keys[i].key == key)
			return keys[i].code;
	return 0;
}

static bool has_bit(const uint8_t *bits, unsigned n)
{
	return bits[n / 8] >> n % 8 & 1;
}

static void set_bit(uint8_t *bits, unsigned n, bool on)
{
	bits[n / 8] = (uint8_t)((bits[n / 8] & ~(1u << n % 8)) | (unsigned)on << n % 8);
}

static void tell_keys(struct input *in)
{
	while (in->n) {
		uint16_t key = in->keys[0];

		if ((in->owes && !put(in, EV_SYN, SYN_REPORT, 0)) || !put(in, EV_KEY, code_of((uint8_t)key), key & GOES_DOWN ? 1 : 0))
			return;
		memmove(in->keys, in->keys + 1, --in->n * sizeof(*in->keys));
	}
}

static void add_key(struct input *in, uint8_t key, bool down)
{
	set_bit(in->down, key, down);
	in->keys[in->n++] = (uint16_t)(key | (down ? GOES_DOWN : 0)); /* SAFE: press() has left room */
}

static unsigned count_down(const struct input *in)
{
	unsigned n = 0;

	for (unsigned i = 0; i < sizeof(in->down); i++)
		n += (unsigned)__builtin_popcount(in->down[i]);
	return n;
}

/* Who holds it at the other end of a network repeats it; this keyboard's driver does that itself. */
static bool press(struct input *in, uint8_t key)
{
	if (has_bit(in->down, key))
		return true;
	if (in->n + count_down(in) + 2 > KEYS_MAX)
		return false;
	add_key(in, key, true);
	return true;
}

int virtio_keyboard_key(struct device *dev, uint8_t key, bool down)
{
	struct input *in = (struct input *)dev;
	bool taken = true;

	scoped_lock(&dev->lock);
	if (!virtio_ready(&in->v, EVENTS) || !code_of(key) || (!down && !has_bit(in->down, key)))
		return 0;
	if (down)
		taken = press(in, key);
	else
		add_key(in, key, false);
	begin(in);
	tell_all(in);
	virtio_signal(&in->v, EVENTS);
	return taken ? 1 : -EAGAIN;
}

/* -- The tablet --------------------------------------------------------------------------- */

static const uint16_t buttons[BUTTONS] = {BTN_LEFT, BTN_RIGHT, BTN_MIDDLE};

static bool tell_axis(struct input *in, uint16_t code, uint16_t value, uint16_t *told)
{
	if (value != *told && !put(in, EV_ABS, code, value))
		return false;
	*told = value;
	return true;
}

/* Where it is comes before what is pressed there. */
static bool tell_point(struct input *in, struct point *p)
{
	if (!tell_axis(in, ABS_X, p->x, &in->told.x) || !tell_axis(in, ABS_Y, p->y, &in->told.y))
		return false;
	for (unsigned i = 0; i < BUTTONS; i++) {
		uint8_t bit = (uint8_t)(1u << i);

		if (!((p->buttons ^ in->told.buttons) & bit))
			continue;
		if (!put(in, EV_KEY, buttons[i], p->buttons >> i & 1))
			return false;
		in->told.buttons ^= bit;
	}
	if (p->wheel && !put(in, EV_REL, REL_WHEEL, (uint32_t)p->wheel))
		return false;
	p->wheel = 0;
	return true;
}

static void tell_pointer(struct input *in)
{
	while (in->n) {
		if (!tell_point(in, &in->points[0]) || (in->owes && !put(in, EV_SYN, SYN_REPORT, 0)))
			return;
		memmove(in->points, in->points + 1, --in->n * sizeof(*in->points));
	}
}

static int clamp(int n, int most)
{
	return n > most ? most : n < -most ? -most : n;
}

static void add_point(struct input *in, struct point p)
{
	struct point *last = in->n ? &in->points[in->n - 1] : NULL;

	if (!last || (last->buttons != p.buttons && in->n < POINTS_MAX)) {
		in->points[in->n++] = p;
		return;
	}
	p.wheel = (int8_t)clamp(p.wheel + last->wheel, WHEEL_MAX);
	*last = p;
}

bool virtio_tablet_point(struct device *dev, uint16_t x, uint16_t y, int dz, uint8_t pressed)
{
	struct input *in = (struct input *)dev;

	scoped_lock(&dev->lock);
	if (!virtio_ready(&in->v, EVENTS))
		return false;
	add_point(in, (struct point){
		.x = x < VIRTIO_TABLET_RANGE ? x : VIRTIO_TABLET_RANGE - 1, .y = y < VIRTIO_TABLET_RANGE ? y : VIRTIO_TABLET_RANGE - 1,
		.buttons = pressed & ((1u << BUTTONS) - 1), .wheel = (int8_t)clamp(-clamp(dz, WHEEL_MAX), WHEEL_MAX),
	});
	begin(in);
	tell_all(in);
	virtio_signal(&in->v, EVENTS);
	return true;
}

/* -- What the driver asks ------------------------------------------------------------------ */

static void add_code(struct answer *a, unsigned code)
{
	set_bit(a->bytes, code, true);
	a->len = code / 8 + 1 > a->len ? code / 8 + 1 : a->len;
}

static void describe_keyboard(uint8_t type, struct answer *a)
{
	for (unsigned key = 1; type == EV_KEY && key < 256; key++)
		if (code_of((uint8_t)key))
			add_code(a, code_of((uint8_t)key));
	for (unsigned i = 0; i < 2 && type == EV_REP; i++)
		add_code(a, i);
	for (unsigned led = LED_NUML; type == EV_LED && led <= LED_SCROLLL; led++)
		add_code(a, led);
}

static void describe_tablet(uint8_t type, struct answer *a)
{
	for (unsigned i = 0; type == EV_KEY && i < BUTTONS; i++)
		add_code(a, buttons[i]);
	for (unsigned axis = ABS_X; type == EV_ABS && axis <= ABS_Y; axis++)
		add_code(a, axis);
	if (type == EV_REL)
		add_code(a, REL_WHEEL);
}

static void make_answer(const struct input *in, struct answer *a)
{
	static const char maker[] = "Lodge ";
	const char *kind = in->v.type->name + strlen("virtio-");

	*a = (struct answer){.len = 0};
	if (in->select == ASK_NAME && !in->subsel) {
		memcpy(a->bytes, maker, sizeof(maker) - 1);
		strcpy((char *)a->bytes + sizeof(maker) - 1, kind); /* SAFE: they are short */
		a->len = (unsigned)(sizeof(maker) - 1 + strlen(kind));
	} else if (in->select == ASK_IDS && !in->subsel) {
		le16_put(a->bytes, BUS_IS_VIRTUAL);
		a->len = 8;
	} else if (in->select == ASK_EVENTS) {
		in->describe(in->subsel, a);
	} else if (in->select == ASK_AXIS) {
		struct answer axes = {.len = 0};

		in->describe(EV_ABS, &axes);
		if (in->subsel / 8 >= axes.len || !has_bit(axes.bytes, in->subsel))
			return;
		le32_put(a->bytes + 4, VIRTIO_TABLET_RANGE - 1); /* from 0; no fuzz, nothing flat */
		a->len = 20;
	}
}

static uint8_t config_read(struct virtio *v, unsigned at)
{
	const struct input *in = (const struct input *)v;
	struct answer a;

	if (at == AT_SELECT)
		return in->select;
	if (at == AT_SUBSEL)
		return in->subsel;
	make_answer(in, &a);
	if (at == AT_SIZE)
		return (uint8_t)a.len;
	return at >= AT_ANSWER ? a.bytes[at - AT_ANSWER] : 0;
}

static void config_write(struct virtio *v, unsigned at, uint8_t value)
{
	struct input *in = (struct input *)v;

	if (at == AT_SELECT)
		in->select = value;
	else if (at == AT_SUBSEL)
		in->subsel = value;
}

/* -- The models ------------------------------------------------------------------------------ */

/* A driver that begins anew knows of no key that is down, and of a pointer in the corner. */
static void reset(struct virtio *v)
{
	struct input *in = (struct input *)v;

	in->select = in->subsel = 0;
	in->owes = false;
	in->n = 0;
	memset(in->down, 0, sizeof(in->down));
	in->told = (struct point){0};
}

#define TYPE(kind)                                                                                     \
	{                                                                                              \
		.name = kind, .id = 18, .class_code = 0x098000, .n_queues = QUEUES, .queue_size = QUEUE_SIZE, \
		.config_size = AT_ANSWER + ANSWER_MAX, .kick = kick, .config_read = config_read,       \
		.config_write = config_write, .reset = reset,                                          \
	}

static const struct virtio_type keyboard_type = TYPE("virtio-keyboard"), tablet_type = TYPE("virtio-tablet");

static int init_keyboard(struct device *dev, const void *config, struct err *err)
{
	struct input *in = (struct input *)dev;

	in->tell = tell_keys;
	in->describe = describe_keyboard;
	return virtio_init(dev, &keyboard_type, 0, &((const struct virtio_input_config *)config)->pci, err);
}

static int init_tablet(struct device *dev, const void *config, struct err *err)
{
	struct input *in = (struct input *)dev;

	in->tell = tell_pointer;
	in->describe = describe_tablet;
	return virtio_init(dev, &tablet_type, 0, &((const struct virtio_input_config *)config)->pci, err);
}

static const struct state_field keyboard_fields[] = {
	STATE(struct input, select),
	STATE(struct input, subsel),
	STATE(struct input, owes),
	STATE_ARRAY(struct input, down),
	STATE_UPTO(struct input, n, KEYS_MAX),
	STATE_COUNTED(struct input, keys, n),
	{0},
};

static const struct state_field point_fields[] = {
	STATE_UPTO(struct point, x, VIRTIO_TABLET_RANGE - 1),
	STATE_UPTO(struct point, y, VIRTIO_TABLET_RANGE - 1),
	STATE_UPTO(struct point, buttons, (1u << BUTTONS) - 1),
	STATE(struct point, wheel),
	{0},
};

static const struct state_field tablet_fields[] = {
	STATE(struct input, select),
	STATE(struct input, subsel),
	STATE(struct input, owes),
	STATE_PART(struct input, told, point_fields),
	STATE_UPTO(struct input, n, POINTS_MAX),
	STATE_PARTS_COUNTED(struct input, points, n, point_fields),
	{0},
};

/* A key that is down has room to go up. */
static int loaded_keyboard(struct device *dev, uint64_t away, struct err *err)
{
	struct input *in = (struct input *)dev;

	if (in->n + count_down(in) > KEYS_MAX)
		return err_set(err, EINVAL, "%u keys are down and %u wait: there can be %u", count_down(in), in->n, KEYS_MAX);
	return virtio_loaded(dev, away, err);
}

static const struct state_table keyboard_table = {.name = "keyboard", .version = 1, .fields = keyboard_fields};
static const struct state_table tablet_table = {.name = "tablet", .version = 1, .fields = tablet_fields};
static const struct state_table *const keyboard_state[] = {&virtio_state, &keyboard_table, NULL};
static const struct state_table *const tablet_state[] = {&virtio_state, &tablet_table, NULL};

const struct device_model virtio_keyboard_model = {
	.name = "virtio-keyboard",
	.summary = "virtio keyboard",
	.option = "--display",
	.size = sizeof(struct input),
	.bar = virtio_common_regs,
	.state = keyboard_state,
	.init = init_keyboard,
	.reset = virtio_reset,
	.fini = virtio_fini,
	.pause = virtio_pause,
	.resume = virtio_resume,
	.saving = virtio_saving,
	.loaded = loaded_keyboard,
};

const struct device_model virtio_tablet_model = {
	.name = "virtio-tablet",
	.summary = "virtio tablet: says where the pointer is",
	.option = "--display",
	.size = sizeof(struct input),
	.bar = virtio_common_regs,
	.state = tablet_state,
	.init = init_tablet,
	.reset = virtio_reset,
	.fini = virtio_fini,
	.pause = virtio_pause,
	.resume = virtio_resume,
	.saving = virtio_saving,
	.loaded = virtio_loaded,
};

/* SPDX-License-Identifier: MIT */
/*
 * The keyboard controller (Intel 8042) at ports 0x60 and 0x64, as the PS/2 has it: two serial ports, for a keyboard and a mouse, and one
 * byte between them and the CPU.
 *
 *	keyboard --\                               IRQ 1
 *	            >-- translation --> [byte] --> port 0x60
 *	mouse -----/                               IRQ 12
 *
 * The byte stays until it is read. Then the next one takes its place, answers of the controller first, then the keyboard's, then the
 * mouse's, and its line rises anew. Translation makes the keyboard's codes those of the first PC: 0xf0 and a code become one.
 *
 * Its output port has the CPU's reset line: command 0xfe pulses it. That is how a PC reboots when all else fails, and what is left of it
 * on a machine without a screen: nothing is plugged in, the FADT says that there is none, and it tests itself and resets.
 */
#include "dev/i8042.h"

#include "base/scoped.h"
#include "dev/ps2.h"
#include "state/state.h"

#define STATUS_FULL    0x01u /* a byte waits at 0x60 */
#define STATUS_SYSTEM  0x04u /* self-test passed */
#define STATUS_COMMAND 0x08u /* the last write was to 0x64 */
#define STATUS_KEYLOCK 0x10u /* not locked */
#define STATUS_MOUSE   0x20u /* the byte is the mouse's */

#define MODE_IRQ_KEYBOARD 0x01u
#define MODE_IRQ_MOUSE    0x02u
#define MODE_NO_KEYBOARD  0x10u
#define MODE_NO_MOUSE     0x20u
#define MODE_TRANSLATE    0x40u

#define OUT_RUN 0x01u /* the output port's bit 0: 0 resets the CPU */
#define OUT_A20 0x02u

#define RELEASED 0xf0u /* before a code of set 2 */

struct i8042 {
	struct device dev;
	struct i8042_config config;
	uint8_t mode;    /* the command byte */
	uint8_t answer;  /* what 0x60 reads */
	bool full;       /* it was not read yet */
	uint8_t pending; /* the command that waits for a byte at 0x60; 0: none */
	bool of_mouse;   /* where the answer came from */
	bool commanded;  /* the last write was to 0x64 */
	bool has_reply, reply_of_mouse; /* of the controller, behind the answer */
	uint8_t reply;
	bool released;   /* RELEASED came from the keyboard, and its code did not yet */
	struct ps2_keyboard keyboard;
	struct ps2_mouse mouse;
};

/* -- The byte --------------------------------------------------------------------- */

static void set_byte(struct i8042 *kbc, uint8_t byte, bool of_mouse)
{
	kbc->answer = byte;
	kbc->full = true;
	kbc->of_mouse = of_mouse;
}

/* The keyboard's next code, translated. False: there is none that is whole. */
static bool take_code(struct i8042 *kbc)
{
	while (kbc->keyboard.out.n) {
		uint8_t byte = ps2_take(&kbc->keyboard.out);

		kbc->keyboard.last = byte;
		if (!(kbc->mode & MODE_TRANSLATE)) {
			set_byte(kbc, byte, false);
			return true;
		}
		if (byte == RELEASED) {
			kbc->released = true;
			continue;
		}
		set_byte(kbc, ps2_translation[byte] | (kbc->released ? 0x80 : 0), false);
		kbc->released = false;
		return true;
	}
	return false;
}

static bool take_reply(struct i8042 *kbc)
{
	if (!kbc->has_reply)
		return false;
	kbc->has_reply = false;
	set_byte(kbc, kbc->reply, kbc->reply_of_mouse);
	return true;
}

static void take_move(struct i8042 *kbc)
{
	if (!kbc->mouse.out.n)
		return;
	kbc->mouse.last = ps2_take(&kbc->mouse.out);
	set_byte(kbc, kbc->mouse.last, true);
	ps2_mouse_report(&kbc->mouse);
}

static void drive_lines(struct i8042 *kbc)
{
	irq_set(&kbc->config.irq_keyboard, kbc->full && !kbc->of_mouse && kbc->mode & MODE_IRQ_KEYBOARD);
	irq_set(&kbc->config.irq_mouse, kbc->full && kbc->of_mouse && kbc->mode & MODE_IRQ_MOUSE);
}

static void update(struct i8042 *kbc)
{
	if (!kbc->full && !take_reply(kbc) && (kbc->mode & MODE_NO_KEYBOARD || !take_code(kbc)) &&
	    !(kbc->mode & MODE_NO_MOUSE))
		take_move(kbc);
	drive_lines(kbc);
}

static void reply(struct i8042 *kbc, uint8_t byte, bool of_mouse)
{
	kbc->reply = byte;
	kbc->reply_of_mouse = of_mouse;
	kbc->has_reply = true;
}

/* -- Registers -------------------------------------------------------------------- */

static uint64_t read_data(void *dev, unsigned at)
{
	struct i8042 *kbc = dev;
	uint8_t answer = kbc->answer;

	(void)at;
	kbc->full = false;
	drive_lines(kbc); /* down, so that the next byte is an edge */
	update(kbc);
	return answer;
}

/* To a device: its clock line is released for that. */
static void send_to_keyboard(struct i8042 *kbc, uint8_t byte)
{
	kbc->mode &= (uint8_t)~MODE_NO_KEYBOARD;
	if (kbc->config.plugged)
		ps2_keyboard_write(&kbc->keyboard, byte);
}

static void send_to_mouse(struct i8042 *kbc, uint8_t byte)
{
	kbc->mode &= (uint8_t)~MODE_NO_MOUSE;
	if (kbc->config.plugged)
		ps2_mouse_write(&kbc->mouse, byte);
}

static void write_data(void *dev, unsigned at, uint64_t value)
{
	struct i8042 *kbc = dev;
	uint8_t command = kbc->pending;

	(void)at;
	kbc->pending = 0;
	kbc->commanded = false;
	switch (command) {
	case 0x60:
		kbc->mode = (uint8_t)value;
		break;
	case 0xd1:
		if (!(value & OUT_RUN))
			power_ask(&kbc->config.power, POWER_RESET, "i8042");
		break;
	case 0xd2:
	case 0xd3:
		if (kbc->config.plugged)
			reply(kbc, (uint8_t)value, command == 0xd3);
		break;
	case 0xd4:
		send_to_mouse(kbc, (uint8_t)value);
		break;
	default:
		send_to_keyboard(kbc, (uint8_t)value);
	}
	update(kbc);
}

static uint64_t read_status(void *dev, unsigned at)
{
	struct i8042 *kbc = dev;

	(void)at;
	return STATUS_SYSTEM | STATUS_KEYLOCK | (kbc->full ? STATUS_FULL : 0) |
	       (kbc->full && kbc->of_mouse ? STATUS_MOUSE : 0) | (kbc->commanded ? STATUS_COMMAND : 0);
}

static void write_command(void *dev, unsigned at, uint64_t value)
{
	struct i8042 *kbc = dev;

	(void)at;
	kbc->pending = 0;
	kbc->commanded = true;
	switch (value) {
	case 0x20: /* read the command byte */
		reply(kbc, kbc->mode, false);
		break;
	case 0x60: /* write it */
	case 0xd1: /* write the output port */
	case 0xd2: /* a byte as if from the keyboard, from the mouse, to the mouse */
	case 0xd3:
	case 0xd4:
		kbc->pending = (uint8_t)value;
		break;
	case 0xa7: /* mouse off, on; keyboard off, on */
		kbc->mode |= MODE_NO_MOUSE;
		break;
	case 0xa8:
		kbc->mode &= (uint8_t)~MODE_NO_MOUSE;
		break;
	case 0xad:
		kbc->mode |= MODE_NO_KEYBOARD;
		break;
	case 0xae:
		kbc->mode &= (uint8_t)~MODE_NO_KEYBOARD;
		break;
	case 0xaa: /* test the controller */
		reply(kbc, 0x55, false);
		break;
	case 0xa9: /* test the ports */
	case 0xab:
		reply(kbc, 0, false);
		break;
	case 0xd0: /* read the output port */
		reply(kbc, OUT_RUN | OUT_A20, false);
		break;
	case 0xfe: /* pulse the reset line */
		power_ask(&kbc->config.power, POWER_RESET, "i8042");
		break;
	}
	update(kbc);
}

static const struct reg data_regs[] = {
	{.at = 0, .width = 1, .name = "data", .read = read_data, .write = write_data},
	{0},
};

static const struct reg command_regs[] = {
	{.at = 0, .width = 1, .name = "status", .read = read_status, .write = write_command},
	{0},
};

static const struct device_place places[] = {
	{BUS_PORT, 1, .regs = data_regs},
	{BUS_PORT, 1, .regs = command_regs},
	{0},
};

/* -- The model --------------------------------------------------------------------- */

static int init(struct device *dev, const void *config, struct err *err)
{
	(void)err;
	((struct i8042 *)dev)->config = *(const struct i8042_config *)config;
	return 0;
}

static void reset(struct device *dev)
{
	struct i8042 *kbc = (struct i8042 *)dev;

	kbc->mode = 0;
	kbc->full = kbc->of_mouse = kbc->commanded = kbc->has_reply = kbc->released = false;
	kbc->pending = 0;
	ps2_keyboard_reset(&kbc->keyboard);
	ps2_mouse_reset(&kbc->mouse);
	drive_lines(kbc);
}

static const struct state_field fields[] = {
	STATE(struct i8042, mode),
	STATE(struct i8042, answer),
	STATE(struct i8042, full),
	STATE(struct i8042, pending),
	STATE_SINCE(2, struct i8042, of_mouse),
	STATE_SINCE(2, struct i8042, commanded),
	STATE_SINCE(2, struct i8042, has_reply),
	STATE_SINCE(2, struct i8042, reply_of_mouse),
	STATE_SINCE(2, struct i8042, reply),
	STATE_SINCE(2, struct i8042, released),
	STATE_PART_SINCE(2, struct i8042, keyboard, ps2_keyboard_fields),
	STATE_PART_SINCE(2, struct i8042, mouse, ps2_mouse_fields),
	{0},
};

static const struct state_table table = {.name = "controller", .version = 2, .fields = fields};
static const struct state_table *const state[] = {&table, NULL};

const struct device_model i8042_model = {
	.name = "i8042",
	.summary = "keyboard controller; with --display a keyboard and a mouse",
	.size = sizeof(struct i8042),
	.places = places,
	.state = state,
	.init = init,
	.reset = reset,
};

/* -- From outside ------------------------------------------------------------------- */

bool i8042_key(struct device *dev, uint8_t key, bool down)
{
	struct i8042 *kbc = (struct i8042 *)dev;
	bool taken;

	scoped_lock(&dev->lock);
	taken = kbc->config.plugged && ps2_keyboard_key(&kbc->keyboard, key, down);
	update(kbc);
	return taken;
}

void i8042_mouse(struct device *dev, int dx, int dy, int dz, uint8_t buttons)
{
	struct i8042 *kbc = (struct i8042 *)dev;

	scoped_lock(&dev->lock);
	if (kbc->config.plugged)
		ps2_mouse_move(&kbc->mouse, dx, dy, dz, buttons);
	update(kbc);
}

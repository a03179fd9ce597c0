/* SPDX-License-Identifier: MIT */
/*
 * The virtio console and its ports, after section 5.3 of virtio 1.2.
 *
 *	queue 0, 1   port 0, the console: the driver's empty buffers, which we fill with what the user
 *	             types; what the guest prints
 *	queue 2, 3   control messages, to the driver and from it
 *	queue 4, 5   port 1, for a program of the guest, which finds it by its name
 *
 * A device without port 1 has the first two queues only and no features, as the simplest drivers want
 * it. With port 1 there is VIRTIO_CONSOLE_F_MULTIPORT, and the driver learns by control messages which
 * ports there are. Our side of a port is always open: whether somebody listens there is for who
 * speaks through it to find out.
 *
 * Both directions have backpressure. When the other end takes no more output, the chain
 * that is half printed stays with us (`part` bytes of it are gone) and the queue stands
 * still. When the guest has no buffer, virtio_console_input() takes nothing, and
 * input_room is called at the next kick of the port's input queue. A control message for which there is
 * no buffer is owed, a bit of its port.
 *
 * Input waits until the guest listens. Of a console that is its first output: Linux's driver offers buffers
 * before it has made the console that they are for, and throws away what comes in between. Of another port it
 * is PORT_OPEN.
 *
 * What is given to port 1 at once is a message: it goes into one buffer of the driver's, or waits. So
 * whenever the guest is saved, no message of the host's is half there.
 *
 * No size, no emergency write; no port comes or goes.
 */
#include "base/bytes.h"
#include "base/scoped.h"
#include "dev/virtio/virtio.h"
#include "state/state.h"

#include <string.h>

#define F_MULTIPORT (UINT64_C(1) << 1)

#define PORTS VIRTIO_CONSOLE_PORTS

enum { CONTROL_IN = 2, CONTROL_OUT = 3 };

/* Section 5.3.6.2. */
enum event { DEVICE_READY = 0, PORT_ADD = 1, PORT_READY = 3, CONSOLE_PORT = 4, PORT_OPEN = 6, PORT_NAME = 7 };

#define OWES(event) (1u << (event))

struct port {
	uint64_t part; /* bytes of the first output chain that were printed already */
	bool listens;  /* the guest takes input */
	bool full;     /* virtio_console_input() took less than it was given */
	uint8_t owed;  /* OWES() of the messages that the driver is still to get */
};

struct console {
	struct virtio v; /* first */
	struct virtio_console_config config;
	struct vq_chain
		chain; /* the one being printed, or filled: never both at once */
	struct port ports[PORTS];
};

static unsigned input_queue(unsigned port)
{
	return port ? port * 2 + 2 : 0;
}

static unsigned port_of(unsigned queue)
{
	return queue < CONTROL_IN ? 0 : queue / 2 - 1;
}

/* -- Data -------------------------------------------------------------------------- */

/* Prints a chain from port->part on; true when all of it is gone. */
static bool print(struct console *con, unsigned port)
{
	const struct virtio_console_port *end = &con->config.ports[port];
	struct port *p = &con->ports[port];
	struct vq_chain *chain = &con->chain;
	unsigned n = chain->n_out;
	struct iovec *iov = iov_cut_front(chain->iov, &n, p->part);

	for (; n; iov++, n--) {
		size_t taken = iov->iov_len;

		if (end->output)
			taken = end->output(end->ctx, iov->iov_base, iov->iov_len);
		p->part += taken;
		if (taken < iov->iov_len)
			return false;
	}
	p->part = 0;
	return true;
}

static void print_all(struct console *con, unsigned port)
{
	struct virtio *v = &con->v;
	unsigned n = input_queue(port) + 1;
	struct vq *vq = &v->queues[n];
	int rc;

	vq_begin(vq);
	while ((rc = vq_pop(vq, &con->chain)) > 0) {
		if (!print(con, port)) {
			vq_unpop(vq);
			break;
		}
		vq_push(vq, con->chain.head, 0);
	}
	if (rc < 0)
		virtio_broken(v, vq->broken);
	virtio_signal(v, n);
}

static void call_end(struct console *con, unsigned port)
{
	const struct virtio_console_port *end = &con->config.ports[port];

	con->ports[port].full = false;
	if (end->input_room)
		end->input_room(end->ctx);
}

/* Tells a feeder that was turned away that it is worth coming back. */
static void call_feeder(struct console *con, unsigned port)
{
	if (con->ports[port].full && con->ports[port].listens)
		call_end(con, port);
}

static void kick_data(struct console *con, unsigned n)
{
	unsigned port = port_of(n);
	struct port *p = &con->ports[port];
	bool is_output = n != input_queue(port), first = is_output && port == 0 && !p->listens;

	if (first)
		p->listens = true;
	if (is_output)
		print_all(con, port);
	if (!is_output || first)
		call_feeder(con, port);
}

void virtio_console_output_ready(struct device *dev, unsigned port)
{
	struct console *con = (struct console *)dev;

	scoped_lock(&dev->lock);
	if (virtio_ready(&con->v, input_queue(port) + 1))
		print_all(con, port);
}

bool virtio_console_listens(struct device *dev, unsigned port)
{
	const struct console *con = (struct console *)dev;

	scoped_lock(&dev->lock);
	return con->ports[port].listens;
}

size_t virtio_console_input(struct device *dev, unsigned port, const uint8_t *bytes, size_t n)
{
	struct console *con = (struct console *)dev;
	struct virtio *v = &con->v;
	struct port *p = &con->ports[port];
	struct vq *vq = &v->queues[input_queue(port)];
	struct vq_chain *chain = &con->chain;
	size_t taken = 0, put;
	int rc = 0;

	scoped_lock(&dev->lock);
	if (!p->listens || !virtio_ready(v, input_queue(port))) {
		p->full = true;
		return 0;
	}
	vq_begin(vq);
	while (taken < n && (rc = vq_pop(vq, chain)) > 0) {
		if (port && chain->in_len < n) {
			vq_unpop(vq);
			break;
		}
		put = iov_scatter(chain->iov + chain->n_out, chain->n_in, bytes + taken, n - taken);
		vq_push(vq, chain->head, (uint32_t)put);
		taken += put;
	}
	p->full = taken < n;
	if (rc < 0)
		virtio_broken(v, vq->broken);
	virtio_signal(v, input_queue(port));
	return taken;
}

/* -- Control ----------------------------------------------------------------------- */

/* Somebody is at its other end, or may come. */
static bool is_attached(const struct console *con, unsigned port)
{
	const struct virtio_console_port *end = &con->config.ports[port];

	return port ? end->name != NULL : end->output != NULL;
}

/* Into a buffer of the driver's; returns how many bytes. */
static uint32_t put_message(struct console *con, unsigned port, unsigned event)
{
	const char *name = event == PORT_NAME ? con->config.ports[port].name : "";
	const struct vq_chain *chain = &con->chain;
	uint8_t message[8 + VIRTIO_CONSOLE_NAME_MAX];
	size_t len = strnlen(name, VIRTIO_CONSOLE_NAME_MAX);

	le32_put(message, port);
	le16_put(message + 4, (uint16_t)event);
	le16_put(message + 6, 1);
	memcpy(message + 8, name, len);
	return (uint32_t)iov_scatter(chain->iov + chain->n_out, chain->n_in, message, 8 + len);
}

/* Pays one message; false if none is owed, or there is no buffer for it. */
static bool pay(struct console *con, int *rc)
{
	struct vq *vq = &con->v.queues[CONTROL_IN];
	unsigned port = 0, event;

	while (port < PORTS && !con->ports[port].owed)
		port++;
	if (port == PORTS || (*rc = vq_pop(vq, &con->chain)) <= 0)
		return false;
	event = (unsigned)__builtin_ctz(con->ports[port].owed);
	con->ports[port].owed &= (uint8_t)~OWES(event);
	vq_push(vq, con->chain.head, put_message(con, port, event));
	return true;
}

static void pay_all(struct console *con)
{
	struct virtio *v = &con->v;
	int rc = 0;

	if (!virtio_ready(v, CONTROL_IN))
		return;
	vq_begin(&v->queues[CONTROL_IN]);
	while (pay(con, &rc))
		;
	if (rc < 0)
		virtio_broken(v, v->queues[CONTROL_IN].broken);
	virtio_signal(v, CONTROL_IN);
}

static void obey(struct console *con, uint32_t port, unsigned event, bool value)
{
	if (event == DEVICE_READY && value)
		for (unsigned i = 0; i < PORTS; i++)
			con->ports[i].owed |= is_attached(con, i) ? OWES(PORT_ADD) : 0;
	if (port >= PORTS || !is_attached(con, port))
		return;
	if (event == PORT_READY && value)
		con->ports[port].owed |= OWES(PORT_OPEN) | OWES(port ? PORT_NAME : CONSOLE_PORT);
	if (event == PORT_OPEN && port) {
		con->ports[port].listens = value;
		call_end(con, port);
	}
}

static void read_control(struct console *con)
{
	struct virtio *v = &con->v;
	struct vq *vq = &v->queues[CONTROL_OUT];
	uint8_t message[8];
	int rc;

	vq_begin(vq);
	while ((rc = vq_pop(vq, &con->chain)) > 0) {
		if (iov_gather(con->chain.iov, con->chain.n_out, message, 8) == 8)
			obey(con, le32_get(message), le16_get(message + 4), le16_get(message + 6));
		vq_push(vq, con->chain.head, 0);
	}
	if (rc < 0)
		virtio_broken(v, vq->broken);
	virtio_signal(v, CONTROL_OUT);
}

/* -- The model --------------------------------------------------------------------- */

static void kick(struct virtio *v, unsigned n)
{
	struct console *con = (struct console *)v;

	if (n == CONTROL_OUT)
		read_control(con);
	if (n == CONTROL_OUT || n == CONTROL_IN)
		pay_all(con);
	else
		kick_data(con, n);
}

/* Columns and rows (2 bytes each), and how many ports there can be (4). */
static uint8_t config_read(struct virtio *v, unsigned at)
{
	(void)v;
	return at == 4 ? PORTS : 0;
}

static void reset(struct virtio *v)
{
	memset(((struct console *)v)->ports, 0, sizeof(((struct console *)v)->ports));
}

/* Half a chain that was printed is not the first one any more. */
static void queue_reset(struct virtio *v, unsigned n)
{
	struct console *con = (struct console *)v;

	if (n != CONTROL_IN && n != CONTROL_OUT && n != input_queue(port_of(n)))
		con->ports[port_of(n)].part = 0;
}

static const struct virtio_type one_port = {
	.name = "virtio-console",
	.id = 3,
	.legacy = 0x1003,
	.class_code = 0x078000,
	.n_queues = 2,
	.queue_size = 64,
	.kick = kick,
	.reset = reset,
	.queue_reset = queue_reset,
};

static const struct virtio_type with_ports = {
	.name = "virtio-console",
	.id = 3,
	.legacy = 0x1003,
	.class_code = 0x078000,
	.n_queues = 2 * (PORTS + 1),
	.queue_size = 64,
	.features = F_MULTIPORT,
	.config_size = 8,
	.kick = kick,
	.config_read = config_read,
	.reset = reset,
	.queue_reset = queue_reset,
};

static int init(struct device *dev, const void *config, struct err *err)
{
	struct console *con = (struct console *)dev;

	con->config = *(const struct virtio_console_config *)config;
	return virtio_init(dev, con->config.ports[1].name ? &with_ports : &one_port, 0,
			   &con->config.pci, err);
}

/* Of version 1, which knew one port, the first two have their names. */
static const struct state_field fields[] = {
	{.name = "part", .offset = offsetof(struct console, ports[0].part), .width = 8},
	{.name = "spoken", .offset = offsetof(struct console, ports[0].listens), .width = 1, .max = 1},
	STATE_SINCE(2, struct console, ports[0].owed),
	STATE_SINCE(2, struct console, ports[1].part),
	STATE_SINCE(2, struct console, ports[1].listens),
	STATE_SINCE(2, struct console, ports[1].owed),
	{0},
};

static const struct state_table table = {.name = "console", .version = 2, .fields = fields};
static const struct state_table *const state[] = {&virtio_state, &table, NULL};

const struct device_model virtio_console_model = {
	.name = "virtio-console",
	.summary = "virtio console, and a port for programs",
	.option = "--console virtio, or --agent",
	.size = sizeof(struct console),
	.bar = virtio_common_regs,
	.state = state,
	.init = init,
	.reset = virtio_reset,
	.fini = virtio_fini,
	.pause = virtio_pause,
	.resume = virtio_resume,
	.saving = virtio_saving,
	.loaded = virtio_loaded,
};

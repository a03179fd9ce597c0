/* SPDX-License-Identifier: MIT */
/*
 * The whole board under a tiny guest (board_guest.S), on each engine that opens here: the
 * ways to end, the serial port in both directions, a second processor, the timer's interrupt,
 * a stop from outside, and a reset after which all goes again.
 */
#include "base/err.h"
#include "base/macros.h"
#include "machine/tests/elf_file.h"
#include "engine/kvm.h"
#include "machine/machine.h"
#include "tests/tap.h"

#include <poll.h>
#include <pthread.h>
#include <unistd.h>

extern const uint8_t board_guest[], board_guest_end[];

struct output {
	pthread_mutex_t lock;
	char text[256];
	size_t len;
};

static size_t put(void *ctx, const uint8_t *bytes, size_t n)
{
	struct output *o = ctx;

	pthread_mutex_lock(&o->lock);
	for (size_t i = 0; i < n && o->len < sizeof(o->text) - 1; i++)
		o->text[o->len++] = (char)bytes[i];
	pthread_mutex_unlock(&o->lock);
	return n;
}

static const struct test_case {
	const char *name, *cmdline, *input, *output;
	enum machine_reason reason;
	unsigned cpus;
} cases[] = {
	{"power-off through ACPI", "o", "", "lodge\n", MACHINE_OFF, 1},
	{"reset through 0xcf9", "r", "", "lodge\n", MACHINE_RESET, 1},
	{"triple fault", "t", "", "lodge\n", MACHINE_TRIPLE_FAULT, 1},
	{"echo on the serial port", "e", "some words, q", "lodge\nsome words, ", MACHINE_OFF, 1},
	{"the second of two processors", "a", "", "lodge\nA", MACHINE_OFF, 2},
	{"the last of four is left asleep", "a", "", "lodge\nA", MACHINE_OFF, 4},
	{"three ticks of the timer chip", "i", "", "lodge\nTTT", MACHINE_OFF, 1},
};

static char kernel_path[] = "/tmp/lodge-board-XXXXXX";

static bool make_kernel(void)
{
	size_t len = (size_t)(board_guest_end - board_guest);
	struct elf_file f = elf_file_good(len);
	static uint8_t bytes[ELF_FILE_MAX];
	size_t n = elf_file_bytes(&f, board_guest, len, bytes);
	int fd = mkstemp(kernel_path);
	bool done = fd >= 0 && write(fd, bytes, n) == (ssize_t)n;

	if (fd >= 0)
		close(fd);
	return done;
}

/* Until the machine ends; feeds the input meanwhile. */
static void wait_for_end(struct machine *m, const char *input)
{
	struct pollfd p = {.fd = machine_fd(m), .events = POLLIN};

	do {
		if (*input)
			input += machine_console_input(m, (const uint8_t *)input,
						       strlen(input));
	} while (poll(&p, 1, 10) <= 0);
}

static void run_once(struct machine *m, const struct test_case *c, struct output *o,
		     const char *engine, const char *which)
{
	struct machine_end end;
	struct err err = {0};

	o->len = 0;
	memset(o->text, 0, sizeof(o->text));
	if (!ok(machine_start(m, &err) == 0, "%s: %s%s starts %s", engine, c->name,
		which, err.text))
		return;
	wait_for_end(m, c->input);
	machine_end(m, &end);
	is_int(end.reason, c->reason, "%s: %s%s ends as it should (%s)", engine,
	       c->name, which, end.text);
	is_str(o->text, c->output, "%s: %s%s says what it should", engine, c->name,
	       which);
}

static void run_case(const struct kvm_face *face, const struct test_case *c)
{
	struct output o = {.lock = PTHREAD_MUTEX_INITIALIZER};
	struct machine_config config = {
		.face = face,
		.cpus = c->cpus,
		.memory = 64 * MiB,
		.kernel = kernel_path,
		.cmdline = c->cmdline,
		.console = {.output = put, .ctx = &o},
	};
	struct err err = {0};
	struct machine *m;

	if (!ok(machine_create(&m, &config, &err) == 0, "%s: %s is made %s", face->name,
		c->name, err.text))
		return;
	run_once(m, c, &o, face->name, "");
	if (ok(machine_reset(m, &err) == 0, "%s: %s is reset %s", face->name, c->name,
	       err.text))
		run_once(m, c, &o, face->name, ", once more,");
	machine_destroy(m);
}

static void stop_case(const struct kvm_face *face)
{
	struct machine_config config = {
		.face = face, .cpus = 2, .memory = 64 * MiB, .kernel = kernel_path,
		.cmdline = "h",
	};
	struct machine_end end;
	struct err err = {0};
	struct machine *m;

	if (!ok(machine_create(&m, &config, &err) == 0 && machine_start(m, &err) == 0,
		"%s: a guest that halts starts %s", face->name, err.text))
		return;
	usleep(20000);
	machine_stop(m);
	machine_end(m, &end);
	is_int(end.reason, MACHINE_STOPPED, "%s: it can be stopped", face->name);
	machine_destroy(m);
}

static void run_all(const struct kvm_face *face)
{
	struct err err = {0};
	int sys = face->open(&err);

	if (sys < 0) {
		skip("engine %s does not open: %s", face->name, err.text);
		return;
	}
	face->close(sys);
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++)
		run_case(face, &cases[i]);
	stop_case(face);
}

int main(void)
{
	if (ok(make_kernel(), "a kernel is written to %s", kernel_path)) {
		run_all(&kvm_host);
		run_all(&kvm_soft);
	}
	unlink(kernel_path);
	return done_testing();
}

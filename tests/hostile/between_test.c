/* SPDX-License-Identifier: MIT */
/*
 * Between an exit for a device access and the KVM_RUN that finishes it.
 *
 *	frames    the stack of a handler is a device of the client's: each store of the frame is one
 *	          exit, once, and then the handler runs, once; whether the event is a fault, a trap,
 *	          an instruction or an NMI
 *	dropped   the client takes the event back in the middle
 *	halted    the client halts the vCPU in the middle, and kicks it: the access is finished, and
 *	          KVM_RUN returns. Where it does not, this test never ends.
 */
#include "tests/hostile/hostile.h"

#include <stdio.h>
#include <string.h>

#include "base/macros.h"
#include "tests/tap.h"

#include "softkvm/softkvm.h"

enum { DEVICE_AT = 0x180000 /* behind RAM, in the first 2 MiB */, STACK_AT = DEVICE_AT + 0x100,
       HANDLER_AT = 0x90000, FRAME = 5, DONE = 0x77, GOES_ON = 0x78 };

static void put64(struct enemy *e, uint32_t at, uint64_t v)
{
	memcpy(e->ram + at, &v, 8);
}

static void set_gate(struct enemy *e, unsigned vector, unsigned ist)
{
	put64(e, IDT_AT + vector * 16, (HANDLER_AT & 0xffff) | SEL_CODE64 << 16 |
					       (0x8e00ull | ist) << 32 |
					       (uint64_t)(HANDLER_AT >> 16) << 48);
}

/* What came out of the guest: where it stored, and ports, one number each. */
struct log {
	uint64_t at[16], value[16];
	unsigned n, done, went_on;
};

static bool run_once(struct enemy *e, struct log *l)
{
	struct kvm_run *run = e->cpu[0].run;

	if (softkvm_ioctl(e->cpu[0].fd, KVM_RUN, NULL) < 0)
		return false;
	if (run->exit_reason == KVM_EXIT_IO) {
		l->done += run->io.port == DONE;
		l->went_on += run->io.port == GOES_ON;
		return true;
	}
	if (run->exit_reason != KVM_EXIT_MMIO || !run->mmio.is_write || l->n == ARRAY_SIZE(l->at))
		return false;
	l->at[l->n] = run->mmio.phys_addr;
	memcpy(&l->value[l->n++], run->mmio.data, 8);
	return true;
}

/* The code at CODE_AT leads to the handler, which says DONE and halts; what it would return to says GOES_ON. */
static void begin(struct enemy *e, const void *code, size_t len)
{
	static const uint8_t handler[] = {0xe6, DONE, 0xf4}; /* out DONE, al; hlt */
	struct kvm_regs r = {.rip = CODE_AT, .rsp = STACK_AT, .rflags = 2};

	enemy_reset(e);
	memcpy(e->ram + HANDLER_AT, handler, sizeof(handler));
	memcpy(e->ram + CODE_AT, code, len);
	enemy_start(e, 0, LONG_RING0, 0);
	e->cpu[0].run->immediate_exit = 0;
	softkvm_ioctl(e->cpu[0].fd, KVM_SET_REGS, &r);
}

static void check_frame(struct enemy *e, const char *what, struct log *l, uint64_t rip)
{
	const uint64_t frame[FRAME] = {rip, SEL_CODE64, l->value[2], STACK_AT, SEL_DATA};
	bool right = l->n == FRAME;

	for (unsigned i = 0; i < FRAME && right; i++)
		right = l->at[i] == STACK_AT - 8 * (FRAME - i) && l->value[i] == frame[i];
	ok(right && l->done == 1 && !l->went_on, "%s: the frame of %s: %u stores, %u handlers",
	   e->knobs, what, l->n, l->done);
}

static const struct {
	const char *name;
	const char *code; /* 4 bytes; then out GOES_ON, al; hlt */
	unsigned vector, rip;
} events[] = {
	{"a fault", "\x0f\x0b\x90\x90", 6, 0},             /* ud2 */
	{"a fault behind others", "\x90\x90\x0f\x0b", 6, 2},
	{"an instruction", "\xcd\x30\x90\x90", 0x30, 2},   /* int 0x30 */
	{"INT3", "\xcc\x90\x90\x90", 3, 1},
	{"INT1", "\xf1\x90\x90\x90", 1, 1},
};

static const char goes_on[] = {'\xe6', GOES_ON, '\xf4'};

static void frames(struct enemy *e)
{
	for (unsigned i = 0; i < ARRAY_SIZE(events); i++) {
		struct log l = {.n = 0};
		char code[7];

		memcpy(code, events[i].code, 4);
		memcpy(code + 4, goes_on, 3);
		begin(e, code, sizeof(code));
		set_gate(e, events[i].vector, 0);
		while (l.n < 12 && !l.done && !l.went_on && run_once(e, &l))
			;
		check_frame(e, events[i].name, &l, CODE_AT + events[i].rip);
	}
}

static void by_nmi(struct enemy *e)
{
	struct log l = {.n = 0};

	begin(e, "\x90\xe6\x78\xf4", 4);
	set_gate(e, 2, 0);
	softkvm_ioctl(e->cpu[0].fd, KVM_NMI, NULL);
	while (l.n < 12 && !l.done && !l.went_on && run_once(e, &l))
		;
	check_frame(e, "an NMI", &l, CODE_AT);
}

static void dropped(struct enemy *e)
{
	struct kvm_vcpu_events ev = {0};
	struct log l = {.n = 0};

	begin(e, "\x90\xe6\x78\xf4", 4);
	set_gate(e, 6, 0);
	ev.exception.injected = 1;
	ev.exception.nr = 6;
	softkvm_ioctl(e->cpu[0].fd, KVM_SET_VCPU_EVENTS, &ev);
	run_once(e, &l);
	ev.exception.injected = 0;
	softkvm_ioctl(e->cpu[0].fd, KVM_SET_VCPU_EVENTS, &ev);
	run_once(e, &l);
	ok(l.n == 1 && l.went_on == 1, "%s: an exception that the client takes back: %u stores",
	   e->knobs, l.n);
}

static void halted(struct enemy *e)
{
	struct kvm_mp_state halt = {KVM_MP_STATE_HALTED};
	struct log l = {.n = 0};
	struct kvm_regs r;

	begin(e, "\x8a\x04\x24\xf4", 4); /* mov al, [rsp] */
	softkvm_ioctl(e->cpu[0].fd, KVM_RUN, NULL);
	memset(e->cpu[0].run->mmio.data, 0x5a, 8);
	is_int(softkvm_ioctl(e->cpu[0].fd, KVM_SET_MP_STATE, &halt), 0, "%s: halted", e->knobs);
	softkvm_kick(e->cpu[0].fd);
	ok(!run_once(e, &l) && e->cpu[0].run->exit_reason == KVM_EXIT_INTR, "%s: and kicked",
	   e->knobs);
	softkvm_ioctl(e->cpu[0].fd, KVM_GET_REGS, &r);
	is_int(r.rax & 0xff, 0x5a, "%s: the load is finished", e->knobs);
}

int main(void)
{
	struct enemy *e[] = {enemy_create("", 1, true), enemy_create("sample=0", 1, true),
			     enemy_create("interpret", 1, true)};

	alarms_arm();
	for (unsigned i = 0; i < ARRAY_SIZE(e); i++) {
		frames(e[i]);
		by_nmi(e[i]);
		dropped(e[i]);
		halted(e[i]);
		enemy_destroy(e[i]);
	}
	return done_testing();
}

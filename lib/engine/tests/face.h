/* SPDX-License-Identifier: MIT */
/*
 * What the tests of engines share: tiny guests whose exits are written down as text.
 *
 *	face_load(&t, guest_hello, guest_hello_end);
 *	tiny_enter(&t, TINY_REAL, FACE_BASE);
 *	if (face_run(&t, &log, NULL))
 *		is_str(log.text, "out 10/1=2a hlt", "its exits");
 *
 * What a guest reads from ports and MMIO is a function of the address: byte k of a read from
 * addr is the low byte of addr + k. Two ports are for the test itself:
 *
 *	out %al, $0xe0     a knock: the test does something to the machine, then the guest goes on
 *	out %al, $0xe1     the end, where HLT sleeps
 *
 * Skipped, with the reason printed: an engine that does not open here; a capability that it
 * does not have; and on a KVM that fails the probe (engine/probe.h: one that emulates ring 0,
 * mostly) an instruction that it does not know, and exits that differ, for such a KVM is no
 * measure. On a KVM that works all must agree. Include it once.
 */
#ifndef FACE_H
#define FACE_H

#include <errno.h>

#include "base/err.h"
#include "base/macros.h"
#include "engine/probe.h"
#include "engine/tiny.h"
#include "tests/tap.h"

#define FACE_BASE   0x1000
#define FACE_MEMORY MiB

/* A test does not use all of them. */
#define FACE static __attribute__((unused))

enum { FACE_KNOCK = 0xe0, FACE_END = 0xe1 };

#define FACE_GUEST(name) extern const uint8_t guest_##name[], guest_##name##_end[];
#define FACE_CODE(name)  .code = guest_##name, .end = guest_##name##_end

struct face_log {
	char text[1024];
	size_t len;
};

__attribute__((format(printf, 2, 3)))
FACE void face_record(struct face_log *l, const char *fmt, ...)
{
	va_list ap;
	int n;

	if (l->len && l->len < sizeof(l->text) - 1)
		l->text[l->len++] = ' ';
	va_start(ap, fmt);
	n = vsnprintf(l->text + l->len, sizeof(l->text) - l->len, fmt, ap);
	va_end(ap);
	l->len += n > 0 ? (size_t)n : 0;
	if (l->len >= sizeof(l->text))
		l->len = sizeof(l->text) - 1;
}

FACE void face_give(uint8_t *data, uint64_t addr, unsigned width)
{
	for (unsigned k = 0; k < width; k++)
		data[k] = (uint8_t)(addr + k);
}

FACE unsigned long long face_number(const uint8_t *data, unsigned width)
{
	unsigned long long v = 0;

	memcpy(&v, data, width);
	return v;
}

/* What a knock does; what is the byte that was written. */
typedef void face_act(struct tiny *t, unsigned what);

/* False at the end. */
FACE bool face_io(struct tiny *t, struct face_log *l, face_act *act)
{
	struct kvm_run *run = t->run;
	uint8_t *data = (uint8_t *)run + run->io.data_offset;

	if (run->io.port == FACE_KNOCK) {
		face_record(l, "knock %u", *data);
		if (act)
			act(t, *data);
		return true;
	}
	if (run->io.port == FACE_END) {
		face_record(l, "end");
		return false;
	}
	for (unsigned i = 0; i < run->io.count; i++, data += run->io.size) {
		if (run->io.direction == KVM_EXIT_IO_OUT) {
			face_record(l, "out %x/%u=%llx", run->io.port, run->io.size,
				    face_number(data, run->io.size));
		} else {
			face_give(data, run->io.port, run->io.size);
			face_record(l, "in %x/%u", run->io.port, run->io.size);
		}
	}
	return true;
}

FACE void face_mmio(struct tiny *t, struct face_log *l)
{
	struct kvm_run *run = t->run;

	if (run->mmio.is_write) {
		face_record(l, "write %llx/%u=%llx", run->mmio.phys_addr, run->mmio.len,
			    face_number(run->mmio.data, run->mmio.len));
	} else {
		face_give(run->mmio.data, run->mmio.phys_addr, run->mmio.len);
		face_record(l, "read %llx/%u", run->mmio.phys_addr, run->mmio.len);
	}
}

/* To the end, HLT, SHUTDOWN or something unknown; false if the engine met an instruction that
 * it cannot emulate. act also hears of an open interrupt window, as of a knock of 0xff. */
FACE bool face_run(struct tiny *t, struct face_log *l, face_act *act)
{
	for (;;) {
		int rc = tiny_run(t, 0);

		if (rc < 0) {
			face_record(l, "%s", strerror(-rc));
			return true;
		}
		switch (t->run->exit_reason) {
		case KVM_EXIT_IO:
			if (!face_io(t, l, act))
				return true;
			break;
		case KVM_EXIT_MMIO:
			face_mmio(t, l);
			break;
		case KVM_EXIT_IRQ_WINDOW_OPEN:
			face_record(l, "window");
			if (act)
				act(t, 0xff);
			break;
		case KVM_EXIT_IOAPIC_EOI:
			face_record(l, "eoi %x", t->run->eoi.vector);
			break;
		case KVM_EXIT_SET_TPR:
			face_record(l, "tpr %llx", t->run->cr8);
			break;
		case KVM_EXIT_HLT:
			face_record(l, "hlt");
			return true;
		case KVM_EXIT_SHUTDOWN:
			face_record(l, "shutdown");
			return true;
		case KVM_EXIT_INTERNAL_ERROR:
			face_record(l, "error %u", t->run->internal.suberror);
			return t->run->internal.suberror !=
			       KVM_INTERNAL_ERROR_EMULATION;
		default:
			face_record(l, "exit %u", t->run->exit_reason);
			return true;
		}
	}
}

/* A guest of FACE_MEMORY bytes; chips: as tiny.h's. */
FACE int face_open(struct tiny *t, const struct kvm_face *face, int chips,
		     struct err *err)
{
	struct tiny_config config = {.memory = FACE_MEMORY, .chips = chips};

	return tiny_open(t, face, &config, err);
}

FACE void face_load(struct tiny *t, const uint8_t *code, const uint8_t *end)
{
	memcpy(t->mem + FACE_BASE, code, (size_t)(end - code));
}

/* A KVM that is half a one: its reason, or "". Probed once. */
FACE const char *face_half(const struct kvm_face *face)
{
	static struct probe_report r;

	if (face != &kvm_host)
		return "";
	if (!r.text[0])
		probe_engine(face, &r);
	return r.fault ? r.text : "";
}

/* The exits of a guest against what they should be; `ran` is what face_run() returned. */
FACE bool face_exits(const struct kvm_face *face, bool ran, const struct face_log *l,
		       const char *want, const char *name)
{
	const char *half = face_half(face);

	if (half[0] && (!ran || strcmp(l->text, want) != 0)) {
		skip("%s: %s: no measure here (%s): '%s'", face->name, name, half, l->text);
		return false;
	}
	return is_str(l->text, want, "%s: %s: its exits", face->name, name);
}

/* On the VM. */
FACE int face_vm_call(struct tiny *t, unsigned long request, void *arg)
{
	return t->face->ioctl(t->vm, request, arg);
}

/* Whether the engine opens here; skips with the reason if not. */
FACE bool face_usable(const struct kvm_face *face)
{
	struct err err = {0};
	struct tiny t;

	if (face_open(&t, face, false, &err) < 0) {
		skip("engine %s: %s", face->name, err.text);
		return false;
	}
	tiny_close(&t);
	return true;
}

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Facts about the KVM ABI that are the same on both faces.
 */
#include "engine/kvm.h"

#include "base/macros.h"

#include <string.h>

#define EXIT(name) [KVM_EXIT_##name] = #name

/* The kernel's own spelling, so that a trace and the API document meet in one search. */
static const char *const exit_names[] = {
	EXIT(UNKNOWN),        EXIT(EXCEPTION),      EXIT(IO),
	EXIT(HYPERCALL),      EXIT(DEBUG),          EXIT(HLT),
	EXIT(MMIO),           EXIT(IRQ_WINDOW_OPEN), EXIT(SHUTDOWN),
	EXIT(FAIL_ENTRY),     EXIT(INTR),           EXIT(SET_TPR),
	EXIT(TPR_ACCESS),     EXIT(NMI),            EXIT(INTERNAL_ERROR),
	EXIT(OSI),            EXIT(WATCHDOG),       EXIT(EPR),
	EXIT(SYSTEM_EVENT),   EXIT(IOAPIC_EOI),     EXIT(HYPERV),
	EXIT(X86_RDMSR),      EXIT(X86_WRMSR),      EXIT(DIRTY_RING_FULL),
	EXIT(X86_BUS_LOCK),   EXIT(XEN),
};

const char *kvm_exit_name(uint32_t reason)
{
	return reason < ARRAY_SIZE(exit_names) ? exit_names[reason] : NULL;
}

static const struct {
	const char *name, *text;
} stat_texts[] = {
#define STAT(name, text) {#name, text},
#include "softkvm/stats.def"
#undef STAT
	{"interrupted", "KVM_RUN ended by a signal"},
};

const char *kvm_stat_text(const char *name)
{
	for (unsigned i = 0; i < ARRAY_SIZE(stat_texts); i++)
		if (strcmp(stat_texts[i].name, name) == 0)
			return stat_texts[i].text;
	for (unsigned i = 0; i < ARRAY_SIZE(exit_names); i++)
		if (exit_names[i] && strcmp(exit_names[i], name) == 0)
			return "exits for this reason";
	return "";
}

int kvm_has(const struct kvm_face *face, int fd, long cap)
{
	int rc = face->ioctl(fd, KVM_CHECK_EXTENSION, KVM_ARG(cap));

	return rc > 0 ? rc : 0;
}

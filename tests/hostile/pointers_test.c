/* SPDX-License-Identifier: MIT */
/*
 * What another CPU sees of an x87 image while it is stored.
 *
 * The unit's pointers to its last instruction and operand are addresses of the host's, and the guest
 * finds zeros (interp/system_fpu.c). But a guest has other CPUs, which do not wait for the end of an
 * instruction. So while a vCPU stores images over and over, a thread reads the place: the pointers'
 * bytes must be zeros at all times.
 *
 * The state is one with an exception that waits, since some CPUs store no pointers otherwise.
 */
#include "tests/hostile/hostile.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "tests/tap.h"

#include "base/macros.h"
#include "softkvm/softkvm.h"

extern const uint8_t pointers_begin[], pointers_end[];

enum { IMAGE_AT = 0x40000, CONTROL_AT = 0x41000, ZERO_AT = 0x41008, TIMES = 20000, SLOT = 64 };

__asm__(".section .rodata\n"
	".balign 64\n"
	".macro store name:req\n"
	"	.balign 64\n"
	"1:	fninit\n"
	"	fldcw 0x41000\n"
	"	fld1\n"
	"	fdivl 0x41008\n" /* #Z, not masked: it waits */
	"	\\name (%rsi)\n"
	"	dec %ecx\n"
	"	jnz 1b\n"
	"	fninit\n"
	"	hlt\n"
	".endm\n"
	"pointers_begin:\n"
	"	store fxsave64\n"
	"	store fxsave\n"
	"	store fnstenv\n"
	"	store \"data16 fnstenv\"\n"
	"	store fnsave\n"
	"	store xsave64\n"
	"	store xsave\n"
	"	store xsavec\n"
	"	store xsaveopt\n"
	"pointers_end:\n"
	".text\n");

/* Where its pointers are. */
static const struct form {
	const char *name;
	struct span {
		uint8_t at, len;
	} spans[2];
	bool xsave;
} forms[] = {
	{"FXSAVE64", {{8, 8}, {16, 8}}, false},
	{"FXSAVE", {{8, 6}, {16, 6}}, false},
	{"FNSTENV", {{12, 6}, {20, 6}}, false},
	{"FNSTENV of 14 bytes", {{6, 4}, {10, 4}}, false},
	{"FNSAVE", {{12, 6}, {20, 6}}, false},
	{"XSAVE64", {{8, 8}, {16, 8}}, true},
	{"XSAVE", {{8, 6}, {16, 6}}, true},
	{"XSAVEC", {{8, 6}, {16, 6}}, true},
	{"XSAVEOPT", {{8, 6}, {16, 6}}, true},
};

struct watch {
	const volatile uint8_t *image;
	const struct form *form;
	_Atomic bool end;
	uint64_t looks, seen;
	uint8_t first[32];
};

static void *watch(void *arg)
{
	struct watch *w = arg;

	while (!atomic_load_explicit(&w->end, memory_order_relaxed)) {
		bool any = false;

		for (int s = 0; s < 2; s++)
			for (unsigned i = 0; i < w->form->spans[s].len; i++)
				any |= w->image[w->form->spans[s].at + i];
		if (any && !w->seen++)
			for (unsigned i = 0; i < sizeof(w->first); i++)
				w->first[i] = w->image[i];
		w->looks++;
	}
	return NULL;
}

static bool has_xsave(struct enemy *e)
{
	struct kvm_xcrs xcrs = {.nr_xcrs = 1, .xcrs[0].value = 3};
	struct kvm_sregs s;

	softkvm_ioctl(e->cpu[0].fd, KVM_GET_SREGS, &s);
	s.cr0 = (s.cr0 & ~0xcull) | 0x22; /* no EM, no TS; MP, NE */
	s.cr4 |= 0x600;                   /* OSFXSR, OSXMMEXCPT */
	softkvm_ioctl(e->cpu[0].fd, KVM_SET_SREGS, &s);
	if (softkvm_ioctl(e->cpu[0].fd, KVM_SET_XCRS, &xcrs))
		return false;
	s.cr4 |= 0x40000; /* OSXSAVE */
	return softkvm_ioctl(e->cpu[0].fd, KVM_SET_SREGS, &s) == 0;
}

static void try(const char *knobs, unsigned n)
{
	struct enemy *e = enemy_create(knobs, 1, false);
	struct watch w = {.image = e->ram + IMAGE_AT, .form = &forms[n]};
	pthread_t thread;
	struct kvm_regs r;
	bool fine;

	enemy_reset(e);
	memset(e->ram + IMAGE_AT, 0, PAGE);
	memset(e->ram + CONTROL_AT, 0, 16);
	memcpy(e->ram + CONTROL_AT, "\0\3", 2); /* all exceptions, full precision */
	memcpy(e->ram + CODE_AT, pointers_begin, (size_t)(pointers_end - pointers_begin));
	enemy_start(e, 0, LONG_RING0, n * SLOT);
	if (!has_xsave(e) && w.form->xsave) {
		skip("%s: no XSAVE here", w.form->name);
		enemy_destroy(e);
		return;
	}
	softkvm_ioctl(e->cpu[0].fd, KVM_GET_REGS, &r);
	r.rax = 3;
	r.rdx = 0;
	r.rcx = TIMES;
	r.rsi = IMAGE_AT;
	softkvm_ioctl(e->cpu[0].fd, KVM_SET_REGS, &r);
	pthread_create(&thread, NULL, watch, &w);
	fine = enemy_run(e, 0, 1, UNLIMITED) && enemy_harmless(e);
	atomic_store(&w.end, true);
	pthread_join(thread, NULL);
	softkvm_ioctl(e->cpu[0].fd, KVM_GET_REGS, &r);
	ok(fine && e->cpu[0].run->exit_reason == KVM_EXIT_HLT && !r.rcx,
	   "%s: %s is stored %u times", knobs, w.form->name, TIMES);
	is_int((int)w.seen, 0, "%s: its pointers are zeros at %llu looks", w.form->name,
	       (unsigned long long)w.looks);
	if (w.seen)
		for (unsigned i = 0; i < sizeof(w.first); i += 8)
			note("%u: %016llx", i, *(unsigned long long *)(void *)(w.first + i));
	enemy_destroy(e);
}

int main(void)
{
	alarms_arm();
	for (unsigned n = 0; n < ARRAY_SIZE(forms); n++) {
		try("", n);
		if (!forms[n].xsave)
			try("fxsave", n);
	}
	return done_testing();
}

/* SPDX-License-Identifier: MIT */
/*
 * Where softkvm differs from hardware: the rows of ERRATA.md that a few instructions or one
 * request can show. A check that fails here is good news, and a row to remove.
 */
#include "face.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "softkvm/softkvm.h"

/* clang-format off */
FACE_GUEST(fetch_device) FACE_GUEST(branch_trap) FACE_GUEST(fxsave_device)
FACE_GUEST(x87_pointer) FACE_GUEST(rewritten) FACE_GUEST(dirty_early) FACE_GUEST(unaligned)
/* clang-format on */

#define CR0_AM    0x40000ull
#define RFLAGS_AC 0x40000ull

/* -- Guests -------------------------------------------------------------------------------- */

static int check_alignment(struct tiny *t)
{
	struct kvm_sregs s;
	struct kvm_regs r;
	int rc = tiny_call(t, KVM_GET_SREGS, &s);

	s.cr0 |= CR0_AM;
	if (rc < 0 || (rc = tiny_call(t, KVM_SET_SREGS, &s)) < 0 ||
	    (rc = tiny_call(t, KVM_GET_REGS, &r)) < 0)
		return rc;
	r.rflags |= RFLAGS_AC;
	return tiny_call(t, KVM_SET_REGS, &r);
}

/* mov $'A', %al; ret */
static int put_function(struct tiny *t)
{
	static const uint8_t code[] = {0xb0, 0x41, 0xc3};

	memcpy(t->mem + 0x9000, code, sizeof(code));
	return 0;
}

static void rewrite(struct tiny *t, unsigned what)
{
	(void)what;
	t->mem[0x9001] = 0x42;
}

static const struct erratum {
	const char *name;
	enum tiny_mode mode;
	const uint8_t *code, *end;
	int (*before)(struct tiny *t);
	face_act *act;
	const char *exits; /* NULL: an internal error at the end */
} errata[] = {
	{"code in a device is undefined, nothing is read", TINY_PROTECTED,
	 FACE_CODE(fetch_device), .exits = "out 11/1=6 end"},
	{"BTF is kept and does nothing", TINY_PROTECTED, FACE_CODE(branch_trap),
	 .exits = "out 12/4=2 out 11/1=1 end"},
	{"FXSAVE to a device is given up", TINY_LONG, FACE_CODE(fxsave_device)},
	{"the x87 instruction pointer is not the guest's", TINY_LONG, FACE_CODE(x87_pointer),
	 .exits = "out 11/1=1 hlt"},
	{"code that the client rewrites is old until a flush", TINY_LONG, FACE_CODE(rewritten),
	 .before = put_function, .act = rewrite,
	 .exits = "out 11/1=41 knock 1 out 11/1=41 out 11/1=42 hlt"},
	{"a page is dirty before it is stored to", TINY_LONG, FACE_CODE(dirty_early),
	 .exits = "out 11/1=1 hlt"},
	{"RFLAGS.AC with CR0.AM raises nothing", TINY_USER, FACE_CODE(unaligned),
	 .before = check_alignment, .exits = "write 180000/1=55 shutdown"},
};

static void run_guest(const struct erratum *e)
{
	struct face_log log = {.len = 0};
	struct err err = {0};
	struct tiny t;
	bool ran;

	if (!ok(face_open(&t, &kvm_soft, false, &err) == 0, "%s: a VM %s", e->name, err.text))
		return;
	face_load(&t, e->code, e->end);
	tiny_enter(&t, e->mode, FACE_BASE);
	if (e->before)
		is_int(e->before(&t), 0, "%s: it is set up", e->name);
	ran = face_run(&t, &log, e->act);
	if (e->exits)
		is_str(log.text, e->exits, "%s", e->name);
	else
		ok(!ran, "%s: %s", e->name, log.text);
	tiny_close(&t);
}

/* -- Requests ------------------------------------------------------------------------------ */

static void requests(void)
{
	struct kvm_x86_mce mce = {.status = UINT64_C(1) << 63};
	struct err err = {0};
	struct tiny t;

	if (face_open(&t, &kvm_soft, false, &err) < 0)
		return;
	ok(!kvm_has(&kvm_soft, t.vm, KVM_CAP_X86_SMM) && tiny_call(&t, KVM_SMI, NULL) < 0,
	   "no system management mode, and it says so");
	ok(tiny_call(&t, KVM_X86_SET_MCE, &mce) < 0, "no KVM_X86_SET_MCE");
	tiny_close(&t);
}

/* Counts at 0x6000 and tells how far it is. */
static const uint8_t counter[] = {0xff, 0x05, 0x00, 0x60, 0, 0,  /* incl 0x6000 */
				  0xa1, 0x00, 0x60, 0, 0,        /* mov 0x6000, %eax */
				  0xe6, 0x11, 0xeb, 0xf1};       /* out %al, $0x11; jmp */

static bool count_to(struct tiny *t, unsigned n)
{
	return tiny_run(t, 0) == 0 && t->run->exit_reason == KVM_EXIT_IO &&
	       *((uint8_t *)t->run + t->run->io.data_offset) == n;
}

/* What a child can do with its parent's VM, as bits. */
static int in_child(struct tiny *t)
{
	struct err err = {0};
	struct kvm_regs r;
	struct tiny own;
	int did = 0;

	if (tiny_call(t, KVM_GET_REGS, &r) == -EIO && tiny_call(t, KVM_RUN, NULL) == -EIO &&
	    tiny_call(t, KVM_NMI, NULL) == -EIO)
		did |= 1;
	if (face_vm_call(t, KVM_CHECK_EXTENSION, NULL) == -EIO)
		did |= 2;
	if (face_open(&own, &kvm_soft, true, &err) == 0) {
		face_load(&own, counter, counter + sizeof(counter));
		tiny_enter(&own, TINY_PROTECTED, FACE_BASE);
		if (count_to(&own, 1) && count_to(&own, 2))
			did |= 4;
		tiny_close(&own);
	}
	if (softkvm_close(t->vcpu) == 0 && softkvm_close(t->vm) == 0)
		did |= 8;
	return did;
}

static void after_fork(void)
{
	struct err err = {0};
	struct tiny t;
	int status = 0;
	pid_t pid;

	if (!ok(face_open(&t, &kvm_soft, true, &err) == 0, "a VM before fork() %s", err.text))
		return;
	face_load(&t, counter, counter + sizeof(counter));
	tiny_enter(&t, TINY_PROTECTED, FACE_BASE);
	ok(count_to(&t, 1), "a guest runs");
	fflush(stdout);
	pid = fork();
	if (pid == 0)
		_exit(in_child(&t));
	ok(pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status), "a child ends");
	ok(WEXITSTATUS(status) & 1, "fork: the parent's vCPU is -EIO to the child");
	ok(WEXITSTATUS(status) & 2, "fork: so is its VM");
	ok(WEXITSTATUS(status) & 4, "fork: the child can have a VM of its own");
	ok(WEXITSTATUS(status) & 8, "fork: and closes what it inherited");
	ok(count_to(&t, 2) && count_to(&t, 3), "fork: the parent's guest goes on");
	tiny_close(&t);
}

static struct tiny inner, outer;
static volatile int inner_rc, outer_rc, regs_rc;

static void run_inner(int sig)
{
	struct kvm_regs r;

	(void)sig;
	inner_rc = tiny_call(&inner, KVM_RUN, NULL);
	outer_rc = tiny_call(&outer, KVM_RUN, NULL);
	regs_rc = tiny_call(&outer, KVM_GET_REGS, &r);
}

/* The kernel's KVM_RUN has returned when a handler begins; ours is under way. */
static void from_handler(void)
{
	static const uint8_t loop[] = {0xeb, 0xfe};
	struct err err = {0};

	if (!ok(face_open(&outer, &kvm_soft, false, &err) == 0 &&
			face_open(&inner, &kvm_soft, false, &err) == 0,
		"two VMs %s", err.text))
		return;
	face_load(&outer, loop, loop + sizeof(loop));
	tiny_enter(&outer, TINY_PROTECTED, FACE_BASE);
	signal(SIGALRM, run_inner);
	for (int i = 0; i < 100 && !inner_rc; i++) {
		ualarm(2000, 0);
		tiny_run(&outer, 50);
	}
	is_int(inner_rc, -EBUSY, "KVM_RUN from a handler that interrupts KVM_RUN");
	is_int(outer_rc, -EBUSY, "of the same vCPU");
	is_int(regs_rc, -EBUSY, "and any other request to that");
	tiny_close(&inner);
	tiny_close(&outer);
}

/* In a process of its own: the client dies of it. */
static void bad_pointer(void)
{
	int status = 0;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		struct err err = {0};
		struct tiny t;

		signal(SIGSEGV, SIG_DFL);
		if (face_open(&t, &kvm_soft, false, &err) == 0)
			tiny_call(&t, KVM_GET_REGS, (void *)8);
		_exit(0);
	}
	ok(pid > 0 && waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) &&
	   WTERMSIG(status) == SIGSEGV, "a bad pointer kills the client");
}

int main(void)
{
	if (face_usable(&kvm_soft)) {
		bad_pointer();
		after_fork();
		from_handler();
		for (unsigned i = 0; i < ARRAY_SIZE(errata); i++)
			run_guest(&errata[i]);
		requests();
	}
	return done_testing();
}

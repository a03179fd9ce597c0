/* SPDX-License-Identifier: MIT */
/*
 * From calls.def to a seccomp filter: a program of the kernel's classic BPF, which sees a system call's
 * number and arguments and says what becomes of it.
 *
 *	if (arch != x86-64) kill
 *	for each row of this role:
 *		if (number != row's) next row
 *		for each condition: if (it does not hold) next row
 *		return allow, or fail with the row's error
 *	return trap
 *
 * Rows are tried in order. That costs nothing to speak of: kernels since 5.11 note which calls a filter
 * allows whatever their arguments are, and do not run it for those.
 *
 * A call of the x32 kind has one bit more in its number, and so is in no row.
 *
 * Arguments have 64 bits, BPF words 32: a condition is one comparison, or two.
 */
#include "sandbox/filter.h"

#include "base/macros.h"
#include "softkvm/softkvm.h"

#include <asm/prctl.h>
#include <asm/ioctls.h>
#include <asm/termbits.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/fs.h>
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <linux/sockios.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* -- The table ---------------------------------------------------------------------------- */

enum {
	MAIN = 1, VCPU = 2, DISK = 4,
	ANY = MAIN | VCPU | DISK,
	MAIN_MAKES_CODE = 8, MAIN_REMOVES = 16,
	TLS = 32, NAT = 64, VNC = 128, SHARE = 256, PULL = 512, VSOCK = 1024,
};

static const struct {
	const char *name;
	unsigned rows; /* that it has */
} roles[] = {
	{"main", MAIN | VCPU},
	{"vcpu", VCPU},
	{"disk", DISK},
	{"tls", TLS},
	{"nat", NAT},
	{"vnc", VNC},
	{"share", SHARE},
	{"pull", PULL},
	{"vsock", VSOCK},
};

/* (argument & mask) is `value`, or is not. */
struct condition {
	uint8_t arg;
	bool is_not;
	uint64_t mask, value; /* mask 0: no condition */
};

struct row {
	uint16_t call, error; /* 0: allowed */
	uint16_t threads;
	struct condition only[3];
};

#define SELF UINT32_MAX /* as a value: the process's number */
#define IS(n, v) {.arg = n, .mask = UINT32_MAX, .value = (uint32_t)(v)}
#define NOT(n, v) {.arg = n, .mask = UINT32_MAX, .value = (uint32_t)(v), .is_not = true}
#define ONLY(n, bits, v) {.arg = n, .mask = (uint32_t)(bits), .value = (uint32_t)(v)}
#define LACKS(n, bits) ONLY(n, bits, 0)
#define ZERO(n) {.arg = n, .mask = UINT64_MAX}

/* New namespaces, and the flags of a child that is no thread of ours. */
#define CLONE_ANY_NEW \
	(CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | \
	 CLONE_NEWPID | CLONE_NEWNET | CLONE_PTRACE | CLONE_VFORK)

static const struct row rows[] = {
#define CALL(name, who, ...) {.call = SYS_##name, .threads = who, .only = {__VA_ARGS__}},
#define REFUSED(name, who, why, ...) \
	{.call = SYS_##name, .threads = who, .error = why, .only = {__VA_ARGS__}},
#include "sandbox/calls.def"
#undef CALL
#undef REFUSED
};

/* -- The program ---------------------------------------------------------------------------- */

#define PROGRAM_MAX (ARRAY_SIZE(rows) * 20 + 10)

struct program {
	struct sock_filter insns[PROGRAM_MAX];
	unsigned n;
	uint32_t self;
	bool has_number; /* the accumulator is the call's number, however one comes here */
};

static void emit(struct program *p, uint16_t code, uint32_t k, uint8_t yes, uint8_t no)
{
	p->insns[p->n++] = (struct sock_filter){.code = code, .k = k, .jt = yes, .jf = no};
}

static void load(struct program *p, size_t offset)
{
	emit(p, BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset, 0, 0);
}

static void answer(struct program *p, uint32_t what)
{
	emit(p, BPF_RET | BPF_K, what, 0, 0);
}

#define NEXT_ROW UINT8_MAX /* until close_row() knows where that is */

/* One half of a condition. */
static void test_word(struct program *p, size_t offset, uint32_t mask, uint32_t value, bool is_not)
{
	if (!mask)
		return;
	load(p, offset);
	if (mask != UINT32_MAX)
		emit(p, BPF_ALU | BPF_AND | BPF_K, mask, 0, 0);
	emit(p, BPF_JMP | BPF_JEQ | BPF_K, value, is_not ? NEXT_ROW : 0, is_not ? 0 : NEXT_ROW);
}

static void test_condition(struct program *p, const struct condition *c)
{
	size_t at = offsetof(struct seccomp_data, args) + c->arg * 8u;
	bool is_self = c->mask == UINT32_MAX && c->value == SELF;

	test_word(p, at, (uint32_t)c->mask, is_self ? p->self : (uint32_t)c->value, c->is_not);
	test_word(p, at + 4, (uint32_t)(c->mask >> 32), (uint32_t)(c->value >> 32), c->is_not);
}

static void close_row(struct program *p, unsigned begin)
{
	for (unsigned i = begin; i < p->n; i++) {
		struct sock_filter *insn = &p->insns[i];
		uint8_t rest = (uint8_t)(p->n - i - 1); /* a row is shorter than NEXT_ROW */

		if (BPF_CLASS(insn->code) != BPF_JMP)
			continue;
		insn->jt = insn->jt == NEXT_ROW ? rest : insn->jt;
		insn->jf = insn->jf == NEXT_ROW ? rest : insn->jf;
	}
}

static void add_row(struct program *p, const struct row *r)
{
	unsigned begin = p->n;

	if (!p->has_number)
		load(p, offsetof(struct seccomp_data, nr));
	emit(p, BPF_JMP | BPF_JEQ | BPF_K, r->call, 0, NEXT_ROW);
	for (unsigned i = 0; i < ARRAY_SIZE(r->only) && r->only[i].mask; i++)
		test_condition(p, &r->only[i]);
	p->has_number = !r->only[0].mask;
	answer(p, r->error ? SECCOMP_RET_ERRNO | r->error : SECCOMP_RET_ALLOW);
	close_row(p, begin);
}

/* Another architecture's calls have other numbers. */
static void begin_program(struct program *p)
{
	p->n = 0;
	p->self = (uint32_t)getpid();
	p->has_number = true;
	load(p, offsetof(struct seccomp_data, arch));
	emit(p, BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0);
	answer(p, SECCOMP_RET_KILL_PROCESS);
	load(p, offsetof(struct seccomp_data, nr));
}

static void make(struct program *p, int role, const struct filter_config *config)
{
	unsigned has = roles[role].rows;

	if (has & MAIN)
		has |= (config->makes_code ? MAIN_MAKES_CODE : 0u) |
		       (config->removes ? MAIN_REMOVES : 0u);
	begin_program(p);
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++)
		if (rows[i].threads & has)
			add_row(p, &rows[i]);
	answer(p, SECCOMP_RET_TRAP);
}

int filter_role(const char *name)
{
	for (unsigned i = 0; i < ARRAY_SIZE(roles); i++)
		if (strcmp(roles[i].name, name) == 0)
			return (int)i;
	return -1;
}

static int install(const struct program *p, unsigned flags)
{
	struct sock_fprog prog = {.len = (unsigned short)p->n, .filter = (void *)p->insns};

	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &prog) ? -errno : 0;
}

/*
 * A filter alone makes some kernels guard the thread against its own speculation, which makes
 * translated code slower and keeps the guest from nothing (docs/why/sandbox.md): not so, where the
 * kernel can be told (4.17).
 */
int filter_enter(int role, const struct filter_config *config)
{
	struct program p;
	int rc;

	make(&p, role, config);
	rc = install(&p, SECCOMP_FILTER_FLAG_SPEC_ALLOW);
	return rc == -EINVAL ? install(&p, 0) : rc;
}

/* SPDX-License-Identifier: MIT */
/*
 * What a crash leaves: a core file that is small, for tables of terabytes and code caches are not in
 * it, and has what somebody will want who asks how a guest got there: the vCPU, and the code that ran.
 *
 * The guest has swept its address space before, so that tables were given back to the host and mapped
 * anew. Then a process of its own enters translated code as an intruder would, and ends by SIGILL.
 */
#include "tests/hostile/hostile.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/tap.h"

#include "softkvm/abi/object.h"
#include "softkvm/engine.h"
#include "softkvm/os/current.h"
#include "softkvm/softkvm.h"

enum { GIB = 1 << 30, PLACES = 100, NOMINAL_MAX = 1 << 10, REAL_MAX = 64 }; /* MiB */

static const uint64_t marker[2] = {0x1f3a5b7c9d0e2f41, 0x6c5b4a392817f6e5};

/* 1: mov al, [rbx]; add rbx, rdx; dec ecx; jnz 1b; hlt */
static const uint8_t sweep[] = {0x8a, 0x03, 0x48, 0x01, 0xd3, 0xff, 0xc9, 0x75, 0xf7, 0xf4};

static unsigned long long drops(struct enemy *e)
{
	struct softkvm_stat stat[128];
	int n = softkvm_stats(e->vm, stat, 128);

	for (int i = 0; i < n; i++)
		if (!strcmp(stat[i].name, "table_drops"))
			return stat[i].value;
	return 0;
}

static void run_sweep(struct enemy *e)
{
	struct kvm_regs r = {.rip = CODE_AT, .rsp = STACK3_AT, .rbx = GIB + 0x40000, .rdx = GIB,
			     .rcx = PLACES, .rflags = 2};
	const uint64_t entry = PD_AT | 7;

	enemy_reset(e);
	memcpy(e->ram + CODE_AT, sweep, sizeof(sweep));
	for (unsigned i = 1; i < 512; i++)
		memcpy(e->ram + PDPT_AT + 8 * i, &entry, 8);
	enemy_start(e, 0, LONG_RING0, 0);
	softkvm_ioctl(e->cpu[0].fd, KVM_SET_REGS, &r);
	enemy_run(e, 0, 1, UNLIMITED);
	ok(drops(e) > 0, "tables were given back %llu times", drops(e));
}

static void crash(struct vcpu *c, const char *where)
{
	const struct rlimit all = {RLIM_INFINITY, RLIM_INFINITY};

	if (chdir(where) || setrlimit(RLIMIT_CORE, &all))
		_exit(7);
	c->gpr[X86_R12] = marker[0];
	c->gpr[X86_R13] = marker[1];
	c->scratch[SCR_HOST_RSP] = 1;
	current_vcpu = c;
	((void (*)(void))code_addr(c->engine, c->engine->thunk.enter))();
	_exit(8);
}

/* The file's name to `path`, ".": there is none. */
static void find(const char *where, char *path, size_t room)
{
	DIR *d = opendir(where);
	struct dirent *f;

	while (d && (f = readdir(d)) && snprintf(path, room, "%s/%s", where, f->d_name) > 0 &&
	       f->d_name[0] == '.')
		;
	if (!d || !f)
		snprintf(path, room, ".");
	if (d)
		closedir(d);
}

static void look_into(const char *path, const struct engine *e)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat s;
	void *all;

	if (fd < 0 || fstat(fd, &s))
		return;
	ok(s.st_size >> 20 < NOMINAL_MAX && s.st_blocks >> 11 < REAL_MAX, "%s: %lld MiB, %lld on the disk",
	   path, (long long)s.st_size >> 20, (long long)s.st_blocks >> 11);
	all = mmap(NULL, (size_t)s.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	close(fd);
	if (all == MAP_FAILED)
		return;
	ok(memmem(all, (size_t)s.st_size, marker, sizeof(marker)), "the vCPU's registers are in it");
	ok(memmem(all, (size_t)s.st_size, e->code + e->thunk.enter, 64), "and the code that ran");
	munmap(all, (size_t)s.st_size);
}

int main(void)
{
	struct enemy *e = enemy_create("tlb", 1, false);
	struct object *o = object_get(e->cpu[0].fd);
	char where[] = "/tmp/hostile-core-XXXXXX", path[300] = ".";
	int status = 0;
	pid_t child;

	run_sweep(e);
	child = mkdtemp(where) ? fork() : -1;
	if (!child)
		crash(o->vcpu, where);
	waitpid(child, &status, 0);
	ok(WIFSIGNALED(status) && WTERMSIG(status) == SIGILL, "an intruder ends (status %x)", status);
	find(where, path, sizeof(path));
	if (path[0] == '.') {
		skip("core files of this host go elsewhere");
	} else {
		look_into(path, o->vcpu->engine);
		unlink(path);
	}
	rmdir(where);
	object_put(o);
	enemy_destroy(e);
	return done_testing();
}

/* SPDX-License-Identifier: MIT */
/*
 * lodge kvm: a client of /dev/kvm that is not ours, on the engine that works here.
 *
 * Where the kernel's KVM works, the client is run as it is. Where it does not, libsoftkvm.so is loaded
 * into it first (softkvm/preload): the dynamic linker does that for whoever has LD_PRELOAD in its
 * environment, but for programs in which it has no say. Those end here with a sentence, for they would
 * find no /dev/kvm, or the one that does not work, and say something else:
 *
 *	static                       no dynamic linker
 *	32-bit                       one that cannot load a library of 64 bits
 *	set-user-ID, capabilities    one that must not listen to the environment (ld.so(8): secure-execution mode)
 *
 * It is asked of the file, as execve() and ld.so do. A script is fine: what it starts has the environment, too.
 *
 * The client takes the place of this process: signals, exit code and descriptors are its own.
 * Source: System V ABI, ELF; ld.so(8).
 */
#include "lodge.h"

#include "base/err.h"
#include "base/log.h"
#include "base/scoped.h"
#include "engine/choose.h"
#include "engine/kvm.h"
#include "failure.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define LIBRARY  "libsoftkvm.so"
#define SEGMENTS 64

struct kvm {
	const char *engine;
	char **client;
};

static const struct option options[] = {
	{"--engine", "auto|kvm|soft", "the kernel's KVM or softkvm (default: auto)", OPTION_WORD,
	 offsetof(struct kvm, engine), 0, 0, NULL},
	{0},
};

/* -- The client ------------------------------------------------------------------------------- */

/* Can it be executed? 0, or -1 with errno. */
static int is_program(const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0 || access(path, X_OK) < 0)
		return -1;
	errno = S_ISDIR(st.st_mode) ? EISDIR : EACCES;
	return S_ISREG(st.st_mode) ? 0 : -1;
}

/* What execvp() would run. */
static int find_client(const char *name, char path[PATH_MAX], struct err *err)
{
	const char *dirs = getenv("PATH");

	if (strchr(name, '/')) {
		snprintf(path, PATH_MAX, "%s", name);
		return is_program(path) < 0 ? err_sys(err, errno, "client '%s'", name) : 0;
	}
	for (const char *dir = dirs ? dirs : "/usr/bin:/bin", *end; name[0] && dir; dir = *end ? end + 1 : NULL) {
		end = dir + strcspn(dir, ":");
		if (snprintf(path, PATH_MAX, "%.*s%s%s", (int)(end - dir), dir, end == dir ? "" : "/", name) < PATH_MAX &&
		    is_program(path) == 0)
			return 0;
	}
	return err_set(err, ENOENT, "there is no client '%s' in PATH", name);
}

static bool has_interpreter(int fd, const Elf64_Ehdr *e)
{
	Elf64_Phdr p[SEGMENTS];
	unsigned n = e->e_phnum < SEGMENTS ? e->e_phnum : SEGMENTS;
	ssize_t got = pread(fd, p, n * sizeof(*p), (off_t)e->e_phoff);

	for (unsigned i = 0; got > 0 && i < (size_t)got / sizeof(*p); i++)
		if (p[i].p_type == PT_INTERP)
			return true;
	return false;
}

/* Does the kernel give it rights that we have not got? */
static bool is_privileged(const char *path, int fd)
{
	struct stat st;

	if (fstat(fd, &st) == 0 && ((st.st_mode & S_ISUID && st.st_uid != getuid()) ||
				    (st.st_mode & S_ISGID && st.st_mode & S_IXGRP && st.st_gid != getgid())))
		return true;
	return geteuid() != 0 && getxattr(path, "security.capability", NULL, 0) > 0;
}

static int check_client(const char *path, struct err *err)
{
	scoped_fd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	Elf64_Ehdr e = {0};
	const char *is = NULL;

	if (fd < 0) /* to execute it is another right than to read it; but ours is not then the environment's */
		return err_sys(err, errno, "client '%s' cannot be read, to see whether it would take softkvm", path);
	if (pread(fd, &e, sizeof(e), 0) < (ssize_t)sizeof(e) || memcmp(e.e_ident, ELFMAG, SELFMAG) != 0)
		return 0; /* a script, or execve() will say what it is */
	if (e.e_ident[EI_CLASS] != ELFCLASS64 || e.e_machine != EM_X86_64)
		is = "no 64-bit x86 program, and softkvm is a library for these";
	else if (!has_interpreter(fd, &e))
		is = "statically linked, and softkvm is a library that a dynamic linker loads";
	else if (is_privileged(path, fd))
		is = "set-user-ID, or has capabilities of its own, and the dynamic linker loads no library into such programs that the user names";
	return is ? err_set(err, EINVAL, "client '%s' cannot be run on softkvm: it is %s", path, is) : 0;
}

/* -- The library ------------------------------------------------------------------------------ */

/* Beside this program in the build, or where it was installed. */
static int find_library(char path[PATH_MAX], struct err *err)
{
	char at[PATH_MAX + 64];
	ssize_t n = readlink("/proc/self/exe", at, PATH_MAX - 1);
	char *slash;

	at[n > 0 ? n : 0] = 0;
	slash = strrchr(at, '/');
	if (slash)
		strcpy(slash, "/../../lib/softkvm/" LIBRARY); /* SAFE: room was left */
	if (!realpath(at, path) && !realpath(LODGE_LIBDIR "/" LIBRARY, path))
		return err_set(err, ENODEV, "there is no " LODGE_LIBDIR "/" LIBRARY ", with which lodge is installed");
	if (strpbrk(path, " :"))
		return err_set(err, EINVAL, "'%s': LD_PRELOAD takes no path with a space or a colon in it", path);
	return 0;
}

/* Before what the user has there already. */
static int preload(struct err *err)
{
	const char *before = getenv("LD_PRELOAD");
	char library[PATH_MAX], *all;
	int rc = find_library(library, err);

	if (rc < 0)
		return rc;
	if (asprintf(&all, "%s%s%s", library, before && before[0] ? ":" : "", before ? before : "") < 0)
		return err_set(err, ENOMEM, "no memory");
	rc = setenv("LD_PRELOAD", all, 1) < 0 ? err_sys(err, errno, "LD_PRELOAD") : 0;
	free(all);
	return rc;
}

/* -- The verb --------------------------------------------------------------------------------- */

static int become(const struct kvm *k, struct err *err)
{
	struct engine_choice choice;
	char path[PATH_MAX];
	int rc = find_client(k->client[0], path, err);

	if (rc == 0)
		rc = engine_choose(k->engine, &choice, err);
	if (rc == 0 && choice.face == &kvm_soft) {
		rc = check_client(path, err);
		if (rc == 0)
			rc = preload(err);
	}
	if (rc < 0)
		return rc;
	log_note("engine", "%s", choice.why);
	execv(path, k->client);
	return err_sys(err, errno, "client '%s'", path);
}

static int kvm_main(void *parsed)
{
	const struct kvm *k = parsed;
	struct err err = {0};

	if (!k->client || !k->client[0])
		err_set(&err, ERANGE, "the client is missing: lodge kvm -- CLIENT [ARG]...");
	else
		become(k, &err);
	return report_failure(&err);
}

static const struct kvm defaults = {.engine = "auto"};

const struct verb verb_kvm = {
	.name = "kvm",
	.summary = "runs another program that uses /dev/kvm, where there is none, too",
	.text = "The CLIENT, such as qemu-system-x86_64 -accel kvm, is run as it is where the kernel's KVM works, and with\n"
		"libsoftkvm.so in it where it does not; a line says which, and why. It must be dynamically linked, for\n"
		"64 bits, and not set-user-ID. The exit code is the client's.\n",
	.operand = "-- CLIENT [ARG]...",
	.rest = offsetof(struct kvm, client),
	.options = options,
	.size = sizeof(struct kvm),
	.defaults = &defaults,
	.main = kvm_main,
};

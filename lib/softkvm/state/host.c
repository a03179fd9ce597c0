/* SPDX-License-Identifier: MIT */
/*
 * See host.h. What can be tried is tried, because there are more ways to forbid a thing than one
 * could look for. Limits are read only to name the one that was in the way.
 */
#include "softkvm/state/host.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/macros.h"
#include "base/memfile.h"
#include "base/size.h"
#include "softkvm/engine.h"
#include "softkvm/os/space.h"
#include "softkvm/state/slots.h"
#include "softkvm/state/upper.h"

#define PAGE 4096
#define SPACE (VIEWS_SPACE + VIEW_ARENA_LEN)
#define SPACE_TIB ((unsigned)(SPACE >> 40) + 1)

__attribute__((format(printf, 3, 4)))
static void say(struct host_answer *a, int rc, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(a->text, sizeof(a->text), fmt, ap);
	va_end(ap);
	a->rc = rc;
}

const char *host_remedy(int reason)
{
	if (reason == EPERM || reason == EACCES || reason == ENOSYS)
		return "allow it in this process's seccomp filter or security policy";
	return reason == EMFILE ? "raise ulimit -n" : NULL;
}

/* -- The CPU ----------------------------------------------------------------------------- */

/* What translated code is made of: without one of these rows the first guest would end with an
 * illegal instruction, which is no way to tell anybody. */
static const struct {
	enum cpu_feature_id feature;
	const char *name;
} needed[] = {
	[HOST_CMPXCHG16B] = {FEATURE_cx16, "CMPXCHG16B"},
	[HOST_LAHF] = {FEATURE_lahf_lm, "LAHF in 64-bit mode"},
};

const char *host_lacks(enum host_need need, bool (*has)(enum cpu_feature_id))
{
	if (need >= ARRAY_SIZE(needed) || has(needed[need].feature))
		return NULL;
	return needed[need].name;
}

static void ask_cpu(struct host_answer *a, enum host_need need)
{
	const char *lacks = host_lacks(need, cpu_host_has);

	if (lacks)
		say(a, -ENODEV, "this computer lacks %s", lacks);
	else
		say(a, 0, "there");
}

/* -- Addresses --------------------------------------------------------------------------- */

static void ask_upper(struct host_answer *a)
{
	int rc = upper_reserve();

	if (rc == -EADDRINUSE)
		say(a, rc, "this process has memory above 47 bits of address, where a guest could "
			   "reach it");
	else if (!rc)
		say(a, 0, "no address above 47 bits is in use");
	else
		say(a, rc, "the addresses above 47 bits cannot be reserved: %s", strerror(-rc));
}

/* Of a file's size, too: tables may have to be one (space.c). */
static const struct {
	__rlimit_resource_t resource;
	const char *name;
} limits[] = {{RLIMIT_AS, "ulimit -v"}, {RLIMIT_FSIZE, "ulimit -f"}};

static void no_space(struct host_answer *a)
{
	struct rlimit limit;
	char size[SIZE_TEXT];

	for (unsigned i = 0; i < ARRAY_SIZE(limits); i++) {
		if (getrlimit(limits[i].resource, &limit) || limit.rlim_cur >= SPACE)
			continue;
		say(a, -ENOMEM, "the engine needs %u TiB of address space, of which it uses little, "
				"and %s allows %s", SPACE_TIB, limits[i].name,
		    size_text(size, limit.rlim_cur));
		a->remedy = "raise it, to unlimited";
		return;
	}
	say(a, -ENOMEM, "the engine needs %u TiB of address space, of which it uses little, and this "
			"process cannot have as much", SPACE_TIB);
}

/* Room for a second mapping of guest memory, without which all accesses would be slow; and what a
 * vCPU's tables take. */
static void ask_space(struct host_answer *a)
{
	void *tables = views_reserve() ? space_create(VIEW_ARENA_LEN) : NULL;

	if (!tables) {
		no_space(a);
		return;
	}
	munmap(tables, VIEW_ARENA_LEN);
	say(a, 0, "%u TiB can be reserved", SPACE_TIB);
}

/* -- Code -------------------------------------------------------------------------------- */

static bool map_page(int fd, int prot)
{
	void *p = mmap(NULL, PAGE, prot, MAP_SHARED, fd, 0);
	int reason = errno;

	if (p != MAP_FAILED)
		munmap(p, PAGE);
	errno = reason;
	return p != MAP_FAILED;
}

/* As translate/cache.c does it. */
static void ask_code(struct host_answer *a)
{
	int fd = memfile_create("softkvm-check", PAGE);

	if (fd < 0) {
		a->remedy = host_remedy(-fd);
		say(a, fd, "no memory for translated code, a memfd: %s", strerror(-fd));
		return;
	}
	if (map_page(fd, PROT_READ | PROT_WRITE) && map_page(fd, PROT_READ | PROT_EXEC)) {
		say(a, 0, "can be had");
	} else {
		a->remedy = host_remedy(errno);
		say(a, -EACCES, "a memfd cannot be mapped to be executed (%s), and translated code is "
				"kept in one", strerror(errno));
	}
	close(fd);
}

/* -- Time -------------------------------------------------------------------------------- */

/* Each vCPU has a timer, and each timer counts as a signal that waits. */
static void ask_timer(struct host_answer *a)
{
	struct sigevent none = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGURG};
	timer_t timer;

	if (timer_create(CLOCK_MONOTONIC, &none, &timer) == 0) {
		timer_delete(timer);
		say(a, 0, "can be made");
		return;
	}
	a->remedy = errno == EAGAIN ? "raise ulimit -i" : host_remedy(errno);
	say(a, -errno, "no timer can be made, and each CPU of a guest has one: %s", strerror(errno));
}

/* -- All --------------------------------------------------------------------------------- */

void host_ask(enum host_need need, struct host_answer *a)
{
	static void (*const asks[])(struct host_answer *) = {
		[HOST_UPPER] = ask_upper, [HOST_SPACE] = ask_space,
		[HOST_CODE] = ask_code, [HOST_TIMER] = ask_timer,
	};

	*a = (struct host_answer){0};
	if (need < ARRAY_SIZE(needed))
		ask_cpu(a, need);
	else
		asks[need](a);
}

int host_check(char why[HOST_WHY])
{
	struct host_answer a = {0};

	for (unsigned need = 0; need < HOST_NEEDS && !a.rc; need++)
		host_ask(need, &a);
	why[0] = 0;
	if (a.rc)
		snprintf(why, HOST_WHY, "%s%s%s", a.text, a.remedy ? ": " : "",
			 a.remedy ? a.remedy : "");
	return a.rc;
}

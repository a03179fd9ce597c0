/* SPDX-License-Identifier: MIT */
/*
 * The thunks between C and translated code, entered as only somebody who has broken out could: each
 * way must end the process (SIGILL), and not return to where the intruder says.
 *
 * Each is tried in a process of its own. Had it its way, that would exit with 7.
 */
#include "tests/hostile/hostile.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/macros.h"
#include "tests/tap.h"

#include "softkvm/abi/object.h"
#include "softkvm/os/current.h"
#include "softkvm/translate/code.h"

static struct engine *engine;
static uint64_t *fake_stack; /* every word an address of the intruder's */

static void intruder(void)
{
	_exit(7);
}

static void jump(uint32_t thunk)
{
	((void (*)(void))code_addr(engine, thunk))();
	_exit(8); /* it returned to us */
}

static void enter_inside(void)
{
	engine->c->scratch[SCR_HOST_RSP] = (uint64_t)(uintptr_t)fake_stack;
	engine->c->scratch[SCR_TARGET] = (uint64_t)(uintptr_t)intruder;
	jump(engine->thunk.enter);
}

static void leave_elsewhere(void)
{
	engine->c->scratch[SCR_HOST_RSP] = (uint64_t)(uintptr_t)fake_stack;
	jump(engine->thunk.leave);
}

static void native_ends_elsewhere(void)
{
	engine->c->scratch[SCR_HOST_RSP] = (uint64_t)(uintptr_t)fake_stack;
	jump(engine->thunk.native_fault);
}

/* As helpers do that were called from there. */
static void nobodys_check(void)
{
	block_here(engine, engine->region[REGION_HOT].end - 5);
	_exit(8);
}

static const struct way {
	const char *name;
	void (*go)(void);
} ways[] = {
	{"enter, inside of translated code", enter_inside},
	{"leave, to a stack that is not C's", leave_elsewhere},
	{"the end of a single instruction, the same", native_ends_elsewhere},
	{"a block asked for where none is", nobodys_check},
};

static void try(const struct way *w)
{
	int status;
	pid_t child = fork();

	if (!child) {
		signal(SIGILL, SIG_DFL);
		w->go();
		_exit(9);
	}
	waitpid(child, &status, 0);
	ok(WIFSIGNALED(status) && WTERMSIG(status) == SIGILL, "%s: the end (status %x)", w->name,
	   status);
}

int main(void)
{
	struct enemy *e = enemy_create("", 1, false);
	struct object *o = object_get(e->cpu[0].fd);

	engine = o->vcpu->engine;
	fake_stack = malloc(PAGE);
	for (unsigned i = 0; i < PAGE / 8; i++)
		fake_stack[i] = (uint64_t)(uintptr_t)intruder;
	fake_stack += 256;
	alarms_arm();
	for (unsigned i = 0; i < ARRAY_SIZE(ways); i++)
		try(&ways[i]);
	object_put(o);
	enemy_destroy(e);
	return done_testing();
}

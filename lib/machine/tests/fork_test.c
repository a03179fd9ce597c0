/* SPDX-License-Identifier: MIT */
/*
 * Forks: both go on from the same moment, and what one writes the other does not see; forks of forks, and of machines that
 * were restored; what is shared can be written by nobody; and what another process may send for a fork's layers.
 */
#include "machine/fork.h"

#include "base/err.h"
#include "base/macros.h"
#include "base/memfile.h"
#include "bus/guest.h"
#include "engine/kvm.h"
#include "machine/private.h"
#include "machine/saved.h"
#include "machine/tests/echo.h"
#include "tests/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PLACE (8 * MiB) /* where the guest has nothing */
#define PAGES 40u
#define LARGE (UINT64_C(256) << 30)

static char kernel_path[] = "/tmp/lodge-fork-XXXXXX";

/* A machine with what belongs to it. */
struct guest {
	struct machine *m;
	struct saved *s;
	struct machine_config config;
	struct echo e;
};

static void start(struct guest *g, const char *what)
{
	struct err err = {0};

	g->config.console = (struct machine_console){.output = echo_put, .ctx = &g->e};
	if (!ok(machine_create(&g->m, &g->config, &err) == 0 && machine_start(g->m, &err) == 0, "%s %s",
		what, err.text))
		exit(done_testing());
}

static void boot_in(struct guest *g, const struct kvm_face *face, uint64_t memory)
{
	*g = (struct guest){.config = {.face = face, .cpus = 2, .memory = memory, .kernel = kernel_path,
				       .cmdline = "e"}};
	start(g, "a machine is made");
	echo_wait(&g->e, 6);
	ok(echo_back(&g->e, g->m, "one"), "it answers");
}

static void boot(struct guest *g, const struct kvm_face *face)
{
	boot_in(g, face, 64 * MiB);
}

/* One that goes on from a descriptor, and perhaps layers. */
static void go_on(struct guest *g, const struct kvm_face *face, int state, const struct machine_fork *f,
		  const char *what)
{
	struct err err = {0};

	*g = (struct guest){.config = {.face = face, .fork = f}};
	if (saved_open_fd(&g->s, dup(state), "fork", &err) < 0 ||
	    saved_config(g->s, &g->config, &err) < 0)
		ok(false, "%s: %s", what, err.text);
	start(g, what);
}

static void end(struct guest *g)
{
	machine_destroy(g->m);
	saved_close(g->s);
}

static void split(struct guest *g, struct machine_fork *f, const char *what)
{
	struct err err = {0};

	if (!ok(machine_pause(g->m, &err) == 0 && machine_fork(g->m, f, &err) == 0 &&
		machine_resume(g->m, &err) == 0, "%s %s", what, err.text))
		exit(done_testing());
}

/* -- Memory, as devices see it ------------------------------------------------------- */

static void write_page(struct guest *g, unsigned page, uint32_t value)
{
	guest_write(&g->m->mem, PLACE + page * UINT64_C(4096), &value, sizeof(value));
}

static uint32_t read_page(struct guest *g, unsigned page)
{
	uint32_t value = ~0u;

	guest_read(&g->m->mem, PLACE + page * UINT64_C(4096), &value, sizeof(value));
	return value;
}

/* Page i has first + i, all of them. */
static bool has(struct guest *g, uint32_t first)
{
	for (unsigned i = 0; i < PAGES; i++)
		if (read_page(g, i) != first + i)
			return false;
	return true;
}

static void fill(struct guest *g, uint32_t first)
{
	for (unsigned i = 0; i < PAGES; i++)
		write_page(g, i, first + i);
}

/* -- Two that go on ------------------------------------------------------------------ */

static void test_both(void)
{
	static struct guest a, b, c;
	struct machine_fork f;

	boot(&a, &kvm_soft);
	fill(&a, 100);
	split(&a, &f, "it is forked");
	is_int(f.n, 1, "what was its memory is a layer");
	ok(echo_back(&a.e, a.m, "two"), "it goes on");
	go_on(&b, &kvm_soft, f.state, &f, "one fork");
	go_on(&c, &kvm_soft, f.state, &f, "another one");
	machine_fork_close(&f);
	ok(echo_back(&b.e, b.m, "three"), "the fork answers");
	is_str(b.e.said, "three", "and says nothing that was said before");
	ok(has(&b, 100) && has(&a, 100), "it has the same memory");
	fill(&b, 200);
	ok(has(&a, 100) && has(&c, 100), "what it writes the others do not see");
	fill(&a, 300);
	ok(has(&b, 200) && has(&c, 100), "nor does anybody what the first one writes");
	end(&a);
	ok(echo_back(&c.e, c.m, "four"), "they do not need it any more");
	end(&c);
	ok(echo_back(&b.e, b.m, "five"), "nor each other");
	end(&b);
}

static void test_depth(void)
{
	static struct guest a, b;
	struct machine_fork f;
	unsigned most = 0;

	boot(&a, &kvm_soft);
	fill(&a, 100);
	for (unsigned i = 0; i < 2 * PAGES; i++) {
		write_page(&a, i % PAGES, 500 + i % PAGES);
		split(&a, &f, "forked once more");
		most = f.n > most ? f.n : most;
		if (i < 2 * PAGES - 1)
			machine_fork_close(&f);
	}
	is_int(most, RAM_LAYERS_MAX, "with as many layers as there can be");
	go_on(&b, &kvm_soft, f.state, &f, "the last fork");
	machine_fork_close(&f);
	ok(has(&a, 500) && has(&b, 500), "both have what was written between forks");
	ok(echo_back(&b.e, b.m, "two"), "it answers");
	for (unsigned i = 0; i < 5; i++) {
		fill(&b, 600 + i);
		split(&b, &f, "a fork is forked");
		is_int(f.n <= RAM_LAYERS_MAX, 1, "in %u layers", f.n);
		machine_fork_close(&f);
	}
	ok(has(&b, 604) && has(&a, 500), "each has its own");
	end(&a);
	end(&b);
}

/* The engine has address space for few layers of so much memory. */
static void test_large(void)
{
	static struct guest a;
	struct machine_fork f;
	unsigned most = 0;

	boot_in(&a, &kvm_soft, LARGE);
	fill(&a, 100);
	for (unsigned i = 0; i < 6; i++) {
		write_page(&a, i, 500 + i);
		split(&a, &f, "a large one is forked");
		most = f.n > most ? f.n : most;
		machine_fork_close(&f);
	}
	is_int(most, 4, "in fewer layers");
	ok(read_page(&a, 0) == 500 && read_page(&a, 5) == 505 && read_page(&a, 6) == 106, "it has its memory");
	ok(echo_back(&a.e, a.m, "two"), "and answers");
	end(&a);
}

/* A layer of which nothing is left is none. */
static void test_used_up(void)
{
	static struct guest a;
	struct machine_fork f;

	boot(&a, &kvm_soft);
	for (unsigned i = 0; i < 20; i++) {
		guest_range(&a.m->mem, 0, a.config.memory);
		split(&a, &f, "forked with all its memory its own");
		is_int(f.n, 1, "there is one layer");
		machine_fork_close(&f);
	}
	end(&a);
}

/* -- Files, resets ------------------------------------------------------------------- */

static int save(struct guest *g)
{
	int fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	struct err err = {0};

	machine_pause(g->m, NULL);
	is_int(machine_save(g->m, fd, &err), 0, "it is saved %s", err.text);
	machine_resume(g->m, NULL);
	return fd;
}

static void reset(struct guest *g, const char *what)
{
	struct machine_end why;
	struct err err = {0};

	machine_stop(g->m);
	machine_end(g->m, &why);
	memset(g->e.said, 0, sizeof(g->e.said));
	atomic_store(&g->e.n, 0);
	if (!ok(machine_reset(g->m, &err) == 0 && machine_start(g->m, &err) == 0, "%s %s", what, err.text))
		return;
	echo_wait(&g->e, 6);
	is_str(g->e.said, "lodge\n", "it boots");
	is_int(read_page(g, 3), 0, "its memory is empty");
}

static void test_files(void)
{
	static struct guest a, b, c, d;
	struct machine_fork f;
	struct err err = {0};
	int fd;

	boot(&a, &kvm_soft);
	fill(&a, 100);
	fd = save(&a);
	end(&a);
	go_on(&b, &kvm_soft, fd, NULL, "one is restored");
	close(fd);
	write_page(&b, 7, 7);
	split(&b, &f, "and forked");
	is_int(f.n, 2, "the file is a layer, and what was its memory");
	go_on(&c, &kvm_soft, f.state, &f, "the fork");
	machine_fork_close(&f);
	write_page(&c, 8, 8);
	is_int(read_page(&c, 7), 7, "it has what was written since");
	is_int(read_page(&c, 9), 109, "and what was in the file");
	fd = save(&c);
	ok(c.s && read_page(&b, 8) == 108, "the other has not what the fork wrote");
	reset(&b, "the first one is reset");
	end(&b);
	reset(&c, "so is the fork");
	end(&c);
	go_on(&d, &kvm_soft, fd, NULL, "the saved fork is restored");
	is_int(saved_check(d.s, &err), 0, "its file is whole %s", err.text);
	ok(read_page(&d, 7) == 7 && read_page(&d, 8) == 8 && read_page(&d, 9) == 109, "with all its memory");
	ok(echo_back(&d.e, d.m, "two"), "it answers");
	end(&d);
	close(fd);
}

/* -- Engines without layers ---------------------------------------------------------- */

static void test_copies(void)
{
	static struct guest a, b, c;
	struct kvm_face plain = kvm_soft;
	struct machine_fork f;

	plain.layer = NULL;
	boot(&a, &plain);
	fill(&a, 100);
	split(&a, &f, "one without layers is forked");
	is_int(f.where, -1, "its memory is in its state");
	go_on(&b, &kvm_soft, f.state, &f, "an engine with layers takes it");
	machine_fork_close(&f);
	ok(has(&b, 100), "with its memory");
	write_page(&b, 3, 3);
	split(&b, &f, "and is forked");
	go_on(&c, &plain, f.state, &f, "one without takes that");
	machine_fork_close(&f);
	ok(read_page(&c, 3) == 3 && read_page(&c, 4) == 104, "with its memory");
	ok(echo_back(&c.e, c.m, "two"), "it answers");
	end(&a);
	end(&b);
	end(&c);
}

/* -- What is wrong ------------------------------------------------------------------- */

static void is_sealed(int fd, size_t len, const char *what)
{
	void *at = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), *ro;

	ok(at == MAP_FAILED && errno == EPERM, "%s cannot be mapped to be written", what);
	ro = mmap(NULL, len, PROT_READ, MAP_SHARED, fd, 0);
	ok(ro == MAP_FAILED || mprotect(ro, len, PROT_READ | PROT_WRITE) < 0, "nor can its mapping");
	ok(pwrite(fd, "x", 1, 0) < 0 && errno == EPERM, "nor the file");
	ok(ftruncate(fd, 0) < 0, "it cannot be cut");
	ok(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096) < 0, "nor emptied");
	if (ro != MAP_FAILED)
		munmap(ro, len);
}

static int create(const struct machine_fork *f, struct err *err)
{
	struct machine_config config = {.face = &kvm_soft, .fork = f};
	struct saved *s;
	struct machine *m = NULL;
	int rc;

	*err = (struct err){0};
	if ((rc = saved_open_fd(&s, dup(f->state), "fork", err)) < 0)
		return rc;
	rc = saved_config(s, &config, err);
	if (rc == 0)
		rc = machine_create(&m, &config, err);
	machine_destroy(m);
	saved_close(s);
	return rc;
}

static void test_refused(void)
{
	static struct guest a;
	struct machine_fork f, lie;
	struct err err = {0};
	uint8_t two = 2;

	boot(&a, &kvm_soft);
	is_int(machine_fork(a.m, &f, &err), -EINVAL, "one that runs is not forked");
	is_str(err.text, "only a paused machine can be saved", "that is told");
	split(&a, &f, "a paused one is");
	is_sealed(f.layer[0].fd, 64 * MiB, "the layer");
	is_sealed(f.where, 4096, "the map");
	is_sealed(f.state, 4096, "the state");
	lie = f;
	lie.where = memfile_create("lie", 64 * MiB / 4096);
	ok(pwrite(lie.where, &two, 1, 77) == 1, "a map that names a layer too many");
	is_int(create(&lie, &err), -EINVAL, "is refused");
	is_str(err.text, "page 77 is in layer 2 of 1", "that is told");
	ok(ftruncate(lie.where, 100) == 0 && create(&lie, &err) < 0, "so is one that is too short: %s", err.text);
	close(lie.where);
	lie = f;
	lie.layer[0].at = 1;
	ok(create(&lie, &err) < 0, "a layer that begins in the middle of a page is refused: %s", err.text);
	lie.layer[0].at = INT64_MAX - 4095;
	ok(create(&lie, &err) < 0, "and one beyond all files: %s", err.text);
	is_int(create(&f, &err), 0, "what was sent is still right");
	machine_fork_close(&f);
	end(&a);
}

int main(void)
{
	int fd = mkstemp(kernel_path);

	close(fd);
	if (ok(echo_kernel(kernel_path), "a kernel is written to %s", kernel_path)) {
		test_both();
		test_depth();
		test_large();
		test_used_up();
		test_files();
		test_copies();
		test_refused();
	}
	unlink(kernel_path);
	return done_testing();
}

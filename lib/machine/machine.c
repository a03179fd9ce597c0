/* SPDX-License-Identifier: MIT */
/*
 * The life of a machine; machine.h has the picture.
 *
 * What survives a reset: the file descriptors of kernel and initrd (read again each time), firmware and its variables, the
 * engine's descriptor (nothing may be opened by then: docs/why/sandbox.md),
 * the RAM's mapping (its pages are given back), the devices (reset in place, since consoles
 * and disks hang on them). What does not: the VM and its vCPUs. They are closed and made
 * anew, because "a fresh one" is the only state that all engines agree about.
 *
 * Who ends it. Reasons come from vCPU threads (a device's power line, an exit) and from
 * machine_stop(); the first one is kept. machine_over() never waits: it marks, signals and
 * returns, so a device may call it with its lock held. machine_end() does the waiting.
 *
 * Order of undoing: threads, vCPUs, devices (which may still raise lines), VM, RAM.
 */
#include "machine/private.h"

#include "base/err.h"
#include "base/size.h"
#include "base/thread.h"
#include "dev/acpi_pm.h"
#include "dev/device.h"
#include "dev/net/e1000.h"
#include "dev/pci/pci.h"
#include "dev/uart.h"
#include "dev/virtio/devices.h"
#include "engine/kvm.h"
#include "loop/loop.h"
#include "machine/cpu/cpu.h"
#include "machine/firmware.h"
#include "machine/incoming.h"
#include "machine/layer.h"
#include "machine/saved.h"
#include "machine/saved/parts.h"
#include "machine/screen.h"
#include "machine/tables/tables.h"
#include "state/state.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* -- Making ----------------------------------------------------------------------------- */

static int check_config(const struct machine_config *c, struct err *err)
{
	char memory[SIZE_TEXT];

	if (c->cpus < 1 || c->cpus > MACHINE_CPUS_MAX)
		return err_set(err, ERANGE, "%u CPUs: a machine has 1 to %u", c->cpus,
			       MACHINE_CPUS_MAX);
	if (c->memory < MAP_MEMORY_MIN || c->memory > MAP_MEMORY_MAX)
		return err_set(err, ERANGE,
			       "%s of memory: a machine has %llu MiB to %llu GiB",
			       size_text(memory, c->memory),
			       (unsigned long long)MAP_MEMORY_MIN >> 20,
			       (unsigned long long)MAP_MEMORY_MAX >> 30);
	if (c->memory % 4096)
		return err_set(err, ERANGE,
			       "%s of memory: it must be a multiple of 4 KiB",
			       size_text(memory, c->memory));
	return machine_check_drives(c, err);
}

/* A machine that goes on needs them only when it is reset, and perhaps never. */
static int open_files_for_reset(struct machine *m)
{
	if (m->config.kernel)
		blob_open(&m->kernel, "kernel", m->config.kernel, NULL);
	if (m->config.initrd)
		blob_open(&m->initrd, "initrd", m->config.initrd, NULL);
	return 0;
}

static int open_files(struct machine *m, struct err *err)
{
	int rc;

	if (m->config.firmware)
		return 0;
	rc = blob_open(&m->kernel, "kernel", m->config.kernel, err);

	if (rc == 0 && m->config.initrd)
		rc = blob_open(&m->initrd, "initrd", m->config.initrd, err);
	return rc;
}

int machine_check(const struct machine_config *config, struct err *err)
{
	struct blob kernel, initrd = {.fd = -1};
	int rc = check_config(config, err);

	if (rc < 0 || config->saved)
		return rc;
	rc = config->firmware ? blob_open(&kernel, "firmware", config->firmware, err)
			      : blob_open(&kernel, "kernel", config->kernel, err);
	if (rc < 0)
		return rc;
	if (config->initrd)
		rc = blob_open(&initrd, "initrd", config->initrd, err);
	blob_close(&kernel);
	blob_close(&initrd);
	return rc;
}

/* Fills guest memory as firmware and a boot loader would. */
static int load(struct machine *m, struct err *err)
{
	const struct blob more = {
		.role = "more of the initrd", .fd = -1,
		.bytes = m->config.initrd_more, .size = m->config.initrd_more_len,
	};
	struct boot_plan plan = {
		.kernel = &m->kernel,
		.initrd = m->initrd.fd >= 0 ? &m->initrd : NULL,
		.initrd_more = more.size ? &more : NULL,
		.cmdline = m->config.cmdline ? m->config.cmdline : "",
		.mem = &m->mem,
		.ram = m->ram.fd,
		.memory = m->config.memory,
		.board = m->map,
		.rsdp = m->map->at[BOARD_RSDP].base,
	};
	struct tables_plan tables = {
		.map = m->map,
		.mem = &m->mem,
		.cpus = m->config.cpus,
		.memory = m->config.memory,
		.screen = m->config.screen,
		.hpet = m->config.hpet && m->map->at[BOARD_HPET].what,
	};
	int rc;

	if (m->config.firmware)
		return firmware_load(m, err);
	if (m->kernel.fd < 0 || (m->config.initrd && m->initrd.fd < 0))
		return err_set(err, ENOENT,
			       "kernel '%s' or its initrd is not there any more: the guest cannot "
			       "boot again", m->config.kernel ? m->config.kernel : "");
	rc = boot_load(&plan, &m->entry, err);
	if (rc == 0)
		rc = acpi_put(&tables, err);
	if (rc == 0)
		rc = smbios_put(&tables, err);
	if (rc == 0)
		rc = vector_put(&tables, err);
	if (rc == 0)
		snprintf(m->boot_text, sizeof(m->boot_text), "%s at 0x%llx",
			 m->entry.protocol, (unsigned long long)m->entry.rip);
	return rc;
}

static void close_vm(struct machine *m)
{
	for (unsigned i = 0; i < MACHINE_CPUS_MAX; i++)
		vcpu_close(&m->vcpus[i]);
	vm_close(&m->vm);
}

/* The CPU that a saved machine had, if this engine has it. */
static int cpuid_load_offered(struct machine *m, struct err *err)
{
	struct state_in in = saved_sections(m->config.saved);
	struct cpu_set offered = cpu_table_features(&m->cpuid), has, lacks;
	char names[200];
	int rc = cpuid_load(&m->cpuid, &in, err);

	has = cpu_table_features(&m->cpuid);
	lacks = cpu_set_minus(&has, &offered);
	if (rc < 0 || cpu_set_is_empty(&lacks))
		return rc;
	cpu_set_text(&lacks, ", ", names, sizeof(names));
	return err_set(err, ERANGE, "the saved machine's CPU has %s, which engine '%s' does not "
		       "offer on this computer", names, m->vm.face->name);
}

/* What all vCPUs have in common of CPUID. */
static int make_cpuid(struct machine *m, struct err *err)
{
	static const struct cpu_model host;
	const struct cpu_model *model = m->config.cpu ? m->config.cpu : &host;
	unsigned bits = map_phys_bits(m->map, m->config.memory);
	int rc;

	if (m->cpuid.n) /* a reset changes no CPU, nor does a file */
		return 0;
	rc = cpu_table_offered(m->vm.face, m->vm.sys, &m->cpuid, err);
	if (rc == 0 && m->config.saved)
		return cpuid_load_offered(m, err);
	if (rc == 0)
		rc = cpu_model_apply(model, bits, m->vm.face->name, &m->cpuid, err);
	/* OVMF makes page tables for all of it, entry by entry: of 48 bits for half a minute. */
	if (rc == 0 && m->config.firmware)
		cpu_table_limit_phys_bits(&m->cpuid, bits);
	return rc;
}

static int open_vm(struct machine *m, struct err *err)
{
	int rc = vm_open(&m->vm, &m->mem, m->map->at[BOARD_KVM_PAGES].base, err);
	int most;

	if (rc < 0)
		return rc;
	most = kvm_has(m->vm.face, m->vm.fd, KVM_CAP_MAX_VCPUS);
	if (most && m->config.cpus > (unsigned)most)
		return err_set(err, ERANGE, "%u CPUs: engine '%s' has at most %d",
			       m->config.cpus, m->vm.face->name, most);
	rc = make_cpuid(m, err);
	for (unsigned i = 0; rc == 0 && i < m->config.cpus; i++)
		rc = vcpu_open(&m->vcpus[i], m, &m->vm, i, m->config.cpus, &m->cpuid, err);
	for (unsigned i = 0; rc == 0 && !m->config.firmware && i < m->config.cpus; i++)
		rc = vcpu_set_up(&m->vcpus[i], err);
	return rc;
}

/* The first vCPU as the boot protocol wants it; firmware begins where a processor does. */
static int enter(struct machine *m, struct err *err)
{
	machine_tell_screen(m);
	return m->config.firmware ? 0 : vcpu_set_entry(&m->vcpus[0], &m->entry, err);
}

static int build(struct machine *m, struct err *err)
{
	const struct incoming *incoming = m->config.incoming;
	const struct saved *saved = m->config.saved;
	int rc;

	m->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (m->fd < 0)
		return err_sys(err, errno, "an eventfd");
	if ((rc = check_config(&m->config, err)) < 0 ||
	    (!m->loop && (rc = loop_create(&m->loop, err)) < 0) ||
	    (rc = saved ? open_files_for_reset(m) : open_files(m, err)) < 0 ||
	    (rc = map_ram_create(&m->ram, m->map, m->config.memory, machine_video(&m->config), incoming ? incoming->ram : -1, &m->mem, err)) < 0 ||
	    (rc = saved ? machine_load_memory(m, err) : load(m, err)) < 0 ||
	    (rc = vm_engine_open(&m->vm, m->config.face, err)) < 0 ||
	    (rc = open_vm(m, err)) < 0 ||
	    (rc = ram_layers_open(m, err)) < 0 ||
	    (rc = board_create(m, err)) < 0 ||
	    (rc = saved ? machine_load_state(m, err) : enter(m, err)) < 0)
		return rc;
	m->paused = saved; /* its devices are, until start() */
	return 0;
}

static struct machine *allocate(const struct machine_config *config)
{
	struct machine *m = calloc(1, sizeof(*m));

	if (!m)
		return NULL;
	m->config = *config;
	m->map = config->board ? config->board : &board_direct;
	m->loop = config->loop;
	m->fd = m->ram.fd = m->vm.fd = m->vm.sys = m->kernel.fd = m->initrd.fd = -1;
	for (unsigned i = 0; i < MACHINE_CPUS_MAX; i++)
		m->vcpus[i].fd = -1;
	pthread_mutex_init(&m->lock, NULL);
	pthread_mutex_init(&m->regions, NULL);
	pthread_cond_init(&m->parked, NULL);
	clock_gettime(CLOCK_MONOTONIC, &m->made);
	return m;
}

int machine_create(struct machine **out, const struct machine_config *config,
		   struct err *err)
{
	struct machine *m = allocate(config);
	int rc;

	*out = NULL;
	if (!m)
		return err_set(err, ENOMEM, "no memory for a machine");
	rc = build(m, err);
	if (rc < 0) {
		machine_destroy(m);
		return rc;
	}
	*out = m;
	return 0;
}

/* -- Running ---------------------------------------------------------------------------- */

static int start_thread(struct vcpu *v, struct err *err)
{
	int rc = thread_start(&v->thread, "vcpu", vcpu_main, v);

	if (rc < 0)
		return err_set(err, -rc, "a thread for vCPU %u: %s%s", v->id, strerror(-rc),
			       rc == -EAGAIN ? " (ulimit -u, or the cgroup's pids.max)" : "");
	v->has_thread = true;
	return 0;
}

static void join(struct machine *m)
{
	for (unsigned i = 0; i < MACHINE_CPUS_MAX; i++) {
		if (m->vcpus[i].has_thread)
			pthread_join(m->vcpus[i].thread, NULL);
		m->vcpus[i].has_thread = false;
	}
}

int machine_start(struct machine *m, struct err *err)
{
	int rc = 0;

	vcpu_kick_init();
	if (m->paused && !atomic_load(&m->pausing))
		machine_resume(m, NULL); /* the devices of one that was loaded */
	pthread_mutex_lock(&m->lock);
	m->n_parked = 0;
	for (unsigned i = 0; rc == 0 && i < m->config.cpus; i++)
		rc = start_thread(&m->vcpus[i], err);
	m->started = rc == 0;
	while (rc == 0 && atomic_load(&m->pausing) && m->n_parked < m->config.cpus)
		pthread_cond_wait(&m->parked, &m->lock);
	pthread_mutex_unlock(&m->lock);
	if (rc < 0) {
		machine_stop(m);
		join(m);
	}
	return rc;
}

int machine_fd(const struct machine *m)
{
	return m->fd;
}

void machine_over(struct machine *m, const struct machine_end *end)
{
	uint64_t one = 1;

	pthread_mutex_lock(&m->lock);
	if (!m->ended) {
		m->ended = true;
		m->end = *end;
		atomic_store(&m->stopping, true);
		pthread_cond_broadcast(&m->parked);
		for (unsigned i = 0; i < m->config.cpus; i++)
			vcpu_nudge(&m->vcpus[i]);
		if (write(m->fd, &one, sizeof(one)) < 0)
			abort(); /* an eventfd of ours that counts to one cannot fail */
	}
	pthread_mutex_unlock(&m->lock);
}

void machine_fail(struct machine *m, const struct err *why)
{
	struct machine_end end = {.reason = MACHINE_FAILED};

	snprintf(end.text, sizeof(end.text), "%.200s", why->text);
	machine_over(m, &end);
}

void machine_stop(struct machine *m)
{
	machine_over(m, &(struct machine_end){.reason = MACHINE_STOPPED,
					      .text = "stopped"});
}

static uint64_t wait_for_end(void *ctx, struct pollfd *p)
{
	*p = (struct pollfd){.fd = ((struct machine *)ctx)->fd, .events = POLLIN};
	return LOOP_NEVER;
}

static void do_nothing(void *ctx, const struct pollfd *p)
{
	(void)ctx, (void)p;
}

void machine_end(struct machine *m, struct machine_end *end)
{
	const struct loop_source source = {.prepare = wait_for_end, .serve = do_nothing, .ctx = m};
	struct pollfd p = {.fd = m->fd, .events = POLLIN};
	bool serves = m->loop != m->config.loop && loop_add(m->loop, &source) == 0;

	while (poll(&p, 1, serves ? 0 : -1) <= 0)
		if (serves)
			loop_once(m->loop);
	loop_remove(m->loop, &source);
	join(m);
	*end = m->end;
}

int machine_reset(struct machine *m, struct err *err)
{
	uint64_t count;
	int rc;

	join(m);
	board_reset(&m->board);
	close_vm(m);
	ram_layers_drop(m);
	map_ram_clear(&m->ram);
	if (read(m->fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
		return err_sys(err, errno, "an eventfd");
	m->ended = m->started = m->paused = false;
	atomic_store(&m->pausing, false);
	m->last_words = 0;
	atomic_store(&m->stopping, false);
	rc = m->config.firmware ? 0 : load(m, err); /* which is still in its ROM */
	if (m->board.genid)
		device_reset(m->board.genid); /* what it says is in RAM, which was cleared since the board's reset */
	if (rc == 0)
		rc = open_vm(m, err);
	return rc < 0 ? rc : enter(m, err);
}

void machine_destroy(struct machine *m)
{
	if (!m)
		return;
	if (m->fd >= 0)
		machine_stop(m);
	join(m);
	board_destroy(&m->board);
	close_vm(m);
	vm_engine_close(&m->vm);
	ram_layers_drop(m);
	map_ram_destroy(&m->ram);
	blob_close(&m->kernel);
	blob_close(&m->initrd);
	free(m->firmware);
	if (m->fd >= 0)
		close(m->fd);
	if (m->loop != m->config.loop)
		loop_destroy(m->loop);
	pthread_cond_destroy(&m->parked);
	pthread_mutex_destroy(&m->lock);
	pthread_mutex_destroy(&m->regions);
	free(m);
}

/* -- Looking in ------------------------------------------------------------------------- */

size_t machine_console_input(struct machine *m, const uint8_t *bytes, size_t n)
{
	if (m->config.virtio_console)
		return virtio_console_input(m->board.hvc, 0, bytes, n);
	return uart_input(m->board.uart, bytes, n);
}

/* What an ended guest has left in its queue can be all of its RAM, named ten thousand times, and who
 * prints its last words looks at nothing else. */
#define LAST_WORDS 64

void machine_console_ready(struct machine *m)
{
	if (atomic_load(&m->stopping) && m->last_words++ >= LAST_WORDS)
		return;
	if (m->config.virtio_console)
		virtio_console_output_ready(m->board.hvc, 0);
	else
		uart_output_ready(m->board.uart);
}

size_t machine_port_input(struct machine *m, const uint8_t *bytes, size_t n)
{
	return m->config.port.name ? virtio_console_input(m->board.hvc, 1, bytes, n) : 0;
}

void machine_port_ready(struct machine *m)
{
	if (m->config.port.name)
		virtio_console_output_ready(m->board.hvc, 1);
}

bool machine_port_is_open(struct machine *m)
{
	return m->config.port.name && virtio_console_listens(m->board.hvc, 1);
}

void machine_power_button(struct machine *m)
{
	acpi_pm_power_button(m->board.pm);
}

int machine_balloon(struct machine *m, uint64_t memory, struct err *err)
{
	if (!m->board.balloon)
		return err_set(err, ENOENT, "the guest has no balloon: it was started without --balloon");
	if (memory > m->config.memory || !memory)
		return err_set(err, ERANGE, "the guest has %llu MiB: it can use that, or less", (unsigned long long)(m->config.memory / MiB));
	virtio_balloon_set(m->board.balloon, m->config.memory - memory);
	return 0;
}

bool machine_balloon_facts(struct machine *m, struct virtio_balloon_facts *facts)
{
	if (m->board.balloon)
		virtio_balloon_look(m->board.balloon, facts);
	return m->board.balloon;
}

int machine_plug(struct machine *m, bool in, struct err *err)
{
	if (!m->board.nic)
		return err_set(err, ENOENT, "the guest has no network card");
	(m->config.net.card == MACHINE_CARD_E1000 ? e1000_plug : virtio_net_plug)(m->board.nic, in);
	return 0;
}

bool machine_link(struct machine *m)
{
	return m->board.nic && (m->config.net.card == MACHINE_CARD_E1000 ? e1000_link : virtio_net_link)(m->board.nic);
}

static uint64_t sum_exits(const struct machine *m, unsigned reason)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < m->config.cpus; i++)
		sum += atomic_load_explicit(&m->vcpus[i].exits[reason],
					    memory_order_relaxed);
	return sum;
}

static uint64_t sum_interrupted(const struct machine *m)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < m->config.cpus; i++)
		sum += atomic_load_explicit(&m->vcpus[i].interrupted,
					    memory_order_relaxed);
	return sum;
}

int machine_stats(const struct machine *m, struct kvm_stat *out, int max)
{
	int n = 0, more;

	for (unsigned i = 0; i < VCPU_REASONS; i++) {
		uint64_t sum = sum_exits(m, i);

		if (!sum || !kvm_exit_name(i))
			continue;
		if (n < max)
			out[n] = (struct kvm_stat){.name = kvm_exit_name(i),
						   .value = sum};
		n++;
	}
	if (n < max)
		out[n] = (struct kvm_stat){.name = "interrupted",
					   .value = sum_interrupted(m)};
	n++;
	if (m->vm.fd < 0 || n >= max)
		return n;
	more = m->vm.face->stats(m->vm.fd, out + n, max - n);
	return more < 0 ? n : n + more;
}

int machine_cpu_thread(const struct machine *m, unsigned cpu)
{
	return atomic_load(&m->vcpus[cpu].tid);
}

unsigned machine_pci(const struct machine *m, struct pci_facts *facts, unsigned max)
{
	return pci_look(m->board.pci, facts, max);
}

const struct machine_config *machine_config(const struct machine *m)
{
	return &m->config;
}

const char *machine_boot_text(const struct machine *m)
{
	return m->boot_text;
}

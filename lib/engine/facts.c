/* SPDX-License-Identifier: MIT */
/*
 * From answers to verdicts: a table, a row a fact.
 *
 * A row's function looks at the answers (engine/ask.h), says what was found, as text and where
 * scripts may want it as a word, and returns the verdict. The row's remedy is what is told if the
 * verdict is not ok; a function that knows better replaces it.
 *
 * Of what the software engine has a slower way around, the engine itself tells which way it goes
 * (struct softkvm_ways); of what it cannot do without, what it found (struct host_answer). So
 * nothing here has to know what the engine is made of.
 */
#include "engine/facts.h"

#include "base/macros.h"
#include "engine/ask.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define MANY_VCPUS   64  /* a guest has no more */
#define MANY_THREADS 80  /* of such a guest, with its devices */
#define MUCH_MEMORY  GiB /* a guest of `lodge run` has so much if nobody says how much */

static const char *const verdicts[VERDICTS] = {"ok", "slower", "less", "missing"};

const char *verdict_name(enum verdict verdict)
{
	return verdicts[verdict];
}

/* -- Words ------------------------------------------------------------------------------ */

__attribute__((format(printf, 2, 3)))
static void say(struct fact *f, const char *fmt, ...)
{
	size_t at = strlen(f->text);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(f->text + at, sizeof(f->text) - at, fmt, ap);
	va_end(ap);
}

static void value(struct fact *f, const char *word)
{
	snprintf(f->value, sizeof(f->value), "%s", word);
}

static void say_size(struct fact *f, uint64_t bytes)
{
	static const char *const units[] = {"KiB", "MiB", "GiB", "TiB"};
	unsigned i = 0;
	double n = (double)bytes / 1024;

	for (; n >= 1024 && i + 1 < ARRAY_SIZE(units); i++)
		n /= 1024;
	say(f, "%.*f %s", n < 10 && i ? 1 : 0, n, units[i]);
}

static bool is_virtual(const struct answers *a)
{
	return a->hypervisor[0] != 0;
}

/* Ways that somebody chose. */
#define NO_WORDS "unset SOFTKVM"

static bool is_chosen(bool chosen, const char *word, struct fact *f)
{
	if (!chosen)
		return false;
	say(f, ", because SOFTKVM has the word %s", word);
	f->remedy = NO_WORDS;
	return true;
}

/* Features of a CPU can be had only where a hypervisor hides them. */
#define OTHER_MODEL "give this virtual machine the CPU model of its host"

static void only_if_virtual(const struct answers *a, struct fact *f)
{
	if (!is_virtual(a))
		f->remedy = NULL;
}

/* -- Both engines ------------------------------------------------------------------------- */

static enum verdict kernel(const struct answers *a, struct fact *f)
{
	value(f, a->os.release);
	say(f, "%s %s", a->os.sysname, a->os.release);
	return FACT_OK;
}

/* gVisor calls itself a Linux 4.4 that was built on one day, or says its name. */
static bool is_gvisor(const struct answers *a)
{
	return strstr(a->os.release, "gvisor") ||
	       strstr(a->os.version, "Sun Jan 10 15:06:54 PST 2016");
}

static const char *hypervisor_name(const char *signature)
{
	static const char *const names[][2] = {
		{"KVMKVMKVM", "KVM"},	       {"Microsoft Hv", "Hyper-V"},
		{"VMwareVMware", "VMware"},    {"XenVMMXenVMM", "Xen"},
		{"TCGTCGTCGTCG", "QEMU TCG"},  {"VBoxVBoxVBox", "VirtualBox"},
		{"bhyve bhyve ", "bhyve"},     {" lrpepyh  vr", "Parallels"},
		{"ACRNACRNACRN", "ACRN"},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
		if (strcmp(names[i][0], signature) == 0)
			return names[i][1];
	return signature;
}

#define NO_GVISOR "run it outside of gVisor"

static enum verdict sandbox(const struct answers *a, struct fact *f)
{
	bool boxed = a->in_namespaces || (!a->has_proc && a->container);

	value(f, is_gvisor(a) ? "gvisor" : boxed ? "container" : is_virtual(a) ? "vm" : "none");
	if (is_gvisor(a))
		say(f, "gVisor");
	else if (boxed && a->container)
		say(f, "a container (%s)", a->container);
	else if (boxed)
		say(f, "a container");
	if (is_virtual(a))
		say(f, "%sa virtual machine (%s)", f->text[0] ? " in " : "",
		    hypervisor_name(a->hypervisor));
	if (!f->text[0])
		say(f, "none");
	if (!is_gvisor(a))
		return FACT_OK;
	say(f, ": system calls and signals take longer than Linux's");
	return FACT_SLOWER;
}

static enum verdict cpu(const struct answers *a, struct fact *f)
{
	uint32_t family = a->signature >> 8 & 15, model = a->signature >> 4 & 15;

	if (family == 15)
		family += a->signature >> 20 & 0xff;
	if (family == 6 || family >= 15)
		model |= (a->signature >> 16 & 15) << 4;
	value(f, a->vendor);
	say(f, "%s%s%s family %u model %u", a->brand + strspn(a->brand, " "),
	    a->brand[0] ? ", " : "", a->vendor, family, model);
	return FACT_OK;
}

/* What the CPU lacks of a level. The first one is any x86-64 CPU's: what Lodge's own v1 has beyond
 * the psABI's need not be the host's. */
static struct cpu_set lacks_of_level(const struct answers *a, unsigned level)
{
	struct cpu_set needs = cpu_set_of_level(level), first = cpu_set_of_level(CPU_V1);

	needs = cpu_set_minus(&needs, &first);
	return cpu_set_minus(&needs, &a->cpu);
}

static enum verdict cpu_level(const struct answers *a, struct fact *f)
{
	struct cpu_set lacks = {0};
	unsigned level = CPU_V1;
	char names[120];

	while (level < CPU_LEVELS) {
		lacks = lacks_of_level(a, level + 1);
		if (!cpu_set_is_empty(&lacks))
			break;
		level++;
	}
	cpu_set_text(&lacks, ", ", names, sizeof(names));
	snprintf(f->value, sizeof(f->value), "v%u", level);
	only_if_virtual(a, f);
	say(f, "x86-64-v%u", level);
	if (level < CPU_LEVELS)
		say(f, ", for v%u it lacks %s", level + 1, names);
	if (level > CPU_V1)
		return FACT_OK;
	say(f, ": newer distributions do not run");
	return FACT_LESS;
}

static enum verdict tsc(const struct answers *a, struct fact *f)
{
	bool invariant = cpu_set_has(&a->cpu, FEATURE_constant_tsc);

	value(f, invariant ? "invariant" : "variable");
	only_if_virtual(a, f);
	if (invariant)
		say(f, "invariant");
	else if (a->clock_is_tsc)
		say(f, "not said to be invariant, and the kernel's own clock");
	else
		say(f, "not said to be invariant: if its rate changes, guests' clocks go wrong");
	return invariant || a->clock_is_tsc ? FACT_OK : FACT_LESS;
}

static enum verdict memory(const struct answers *a, struct fact *f)
{
	bool limited = a->cgroup_memory < a->memory;
	uint64_t room = limited ? a->cgroup_memory : a->memory;

	say_size(f, room);
	say(f, limited ? " (cgroup limit)" : " available");
	say(f, " of ");
	say_size(f, a->memory_total);
	if (room >= MUCH_MEMORY)
		return FACT_OK;
	say(f, ": less than a guest has by default");
	return FACT_LESS;
}

static enum verdict threads(const struct answers *a, struct fact *f)
{
	bool by_pids = a->cgroup_pids <= a->limit_nproc;
	uint64_t room = by_pids ? a->cgroup_pids : a->limit_nproc;
	const char *limit = by_pids ? "cgroup pids.max" : "ulimit -u";

	if (a->thread) {
		say(f, "none can be made: %s", strerror(a->thread));
		if (a->thread != EAGAIN)
			f->remedy = host_remedy(a->thread);
		return FACT_MISSING;
	}
	if (room == NO_LIMIT)
		say(f, "no limit");
	else
		say(f, "%llu at most (%s)", (unsigned long long)room, limit);
	if (room >= MANY_THREADS)
		return FACT_OK;
	say(f, ": too few for a guest of many CPUs");
	return FACT_LESS;
}

static enum verdict seccomp(const struct answers *a, struct fact *f)
{
	value(f, a->seccomp < 0 ? "" : a->seccomp ? "filter" : "none");
	say(f, a->seccomp < 0 ? "cannot be asked" : a->seccomp ? "a filter is in force" : "none");
	if (a->no_new_privs)
		say(f, ", no_new_privs is set");
	return FACT_OK;
}

static enum verdict proc(const struct answers *a, struct fact *f)
{
	value(f, a->has_proc ? "mounted" : "none");
	if (a->has_proc) {
		say(f, "mounted");
		return FACT_OK;
	}
	say(f, "not there: which of the CPU's features the kernel found broken cannot be asked");
	return FACT_LESS;
}

/* -- kvm ---------------------------------------------------------------------------------- */

static enum verdict virtualization(const struct answers *a, struct fact *f)
{
	bool vmx = cpu_set_has(&a->cpu, FEATURE_vmx), svm = cpu_set_has(&a->cpu, FEATURE_svm);

	value(f, vmx ? "vmx" : svm ? "svm" : "none");
	say(f, vmx ? "VT-x" : svm ? "AMD-V" : "the CPU offers neither VT-x nor AMD-V");
	if (is_virtual(a))
		f->remedy = "ask who runs this virtual machine for nested virtualization";
	return vmx || svm || a->kvm.fault == PROBE_OK ? FACT_OK : FACT_MISSING;
}

static enum verdict dev_kvm(const struct answers *a, struct fact *f)
{
	value(f, probe_fault_name(a->kvm.fault));
	f->remedy = a->kvm.hint;
	if (!a->has_node) {
		say(f, "no such node");
		return FACT_MISSING;
	}
	say(f, "mode %04o, owner %u, group %u", a->node_mode, a->node_uid, a->node_gid);
	if (a->kvm.fault)
		say(f, "; %s", a->kvm.text);
	return a->kvm.fault == PROBE_OK ? FACT_OK : a->kvm.fault == PROBE_SLOW ? FACT_SLOWER
									     : FACT_MISSING;
}

/* -- soft --------------------------------------------------------------------------------- */

static bool is_before_5_9(const char *release)
{
	unsigned major, minor;

	return sscanf(release, "%u.%u", &major, &minor) == 2 &&
	       (major < 5 || (major == 5 && minor < 9));
}

static enum verdict fsgsbase(const struct answers *a, struct fact *f)
{
	const char *way = a->ways.gs_base;

	value(f, way);
	if (!cpu_set_has(&a->cpu, FEATURE_fsgsbase)) {
		f->remedy = OTHER_MODEL;
		only_if_virtual(a, f);
	} else if (is_gvisor(a)) {
		f->remedy = NO_GVISOR;
	} else if (is_before_5_9(a->os.release)) {
		f->remedy = "use Linux 5.9 or newer";
	}
	if (strcmp(way, "kept") == 0) {
		say(f, "kept: WRGSBASE is used, and the kernel keeps what it wrote");
		return FACT_OK;
	}
	if (strcmp(way, "repaired") == 0) {
		say(f, "repaired: WRGSBASE is used, and done again where the kernel undid it");
		return FACT_OK;
	}
	say(f, "unused");
	if (is_chosen(a->words.nogs, "nogs", f))
		return FACT_SLOWER;
	say(f, ", because the kernel does not enable it");
	if (a->needs[HOST_SPACE].rc) /* to repair it takes some */
		say(f, ", or address space is short");
	return FACT_SLOWER;
}

static enum verdict bmi1(const struct answers *a, struct fact *f)
{
	value(f, a->ways.page_number);
	only_if_virtual(a, f);
	if (strcmp(a->ways.page_number, "bextr") == 0) {
		say(f, "BEXTR is used");
		return FACT_OK;
	}
	say(f, "shifts are used where BEXTR would be one instruction");
	is_chosen(a->words.nobmi1, "nobmi1", f);
	return FACT_SLOWER;
}

static enum verdict xsave(const struct answers *a, struct fact *f)
{
	value(f, a->ways.vectors);
	only_if_virtual(a, f);
	if (strcmp(a->ways.vectors, "xsave") == 0) {
		say(f, "XSAVE is used");
		return FACT_OK;
	}
	say(f, "FXSAVE is used: guests have no AVX");
	is_chosen(a->words.fxsave, "fxsave", f);
	return FACT_LESS;
}

/* What it cannot do without: asked by itself, answered in its words. */
static enum verdict need(const struct answers *a, struct fact *f, enum host_need need)
{
	const struct host_answer *answer = &a->needs[need];

	say(f, "%s", answer->text);
	if (answer->remedy)
		f->remedy = answer->remedy;
	return answer->rc ? FACT_MISSING : FACT_OK;
}

static enum verdict cmpxchg16b(const struct answers *a, struct fact *f)
{
	only_if_virtual(a, f);
	return need(a, f, HOST_CMPXCHG16B);
}

static enum verdict lahf(const struct answers *a, struct fact *f)
{
	only_if_virtual(a, f);
	return need(a, f, HOST_LAHF);
}

static enum verdict paging(const struct answers *a, struct fact *f)
{
	value(f, a->wide ? "5" : "4");
	say(f, a->wide ? "5 levels (LA57), " : "4 levels, ");
	return need(a, f, HOST_UPPER);
}

static enum verdict address_space(const struct answers *a, struct fact *f)
{
	return need(a, f, HOST_SPACE);
}

static enum verdict code_memory(const struct answers *a, struct fact *f)
{
	enum verdict verdict = need(a, f, HOST_CODE);

	if (a->mdwe)
		say(f, "; PR_SET_MDWE is in force");
	return verdict;
}

static enum verdict timers(const struct answers *a, struct fact *f)
{
	uint64_t room = a->limit_sigpending;

	if (need(a, f, HOST_TIMER) != FACT_OK)
		return FACT_MISSING;
	if (room == NO_LIMIT || !room) /* gVisor says 0 and does not mean it */
		return FACT_OK;
	say(f, ", %llu at most (ulimit -i)", (unsigned long long)room);
	if (room >= MANY_VCPUS)
		return FACT_OK;
	say(f, ": too few for a guest of many CPUs");
	f->remedy = "raise ulimit -i";
	return FACT_LESS;
}

static enum verdict softkvm_words(const struct answers *a, struct fact *f)
{
	bool any = a->softkvm_words && a->softkvm_words[0];

	say(f, "%s", any ? a->softkvm_words : "none");
	return any ? FACT_SLOWER : FACT_OK;
}

/* -- The table ------------------------------------------------------------------------------ */

static const struct {
	const char *name, *engine;
	enum verdict (*judge)(const struct answers *a, struct fact *f);
	const char *remedy;
} rows[] = {
	{"kernel", NULL, kernel, NULL},
	{"sandbox", NULL, sandbox, NO_GVISOR},
	{"cpu", NULL, cpu, NULL},
	{"cpu-level", NULL, cpu_level, OTHER_MODEL},
	{"tsc", NULL, tsc, "give this virtual machine a CPU model with an invariant TSC"},
	{"memory", NULL, memory, "say how much it may have: lodge run --memory 256M"},
	{"threads", NULL, threads, "raise ulimit -u, or the cgroup's pids.max"},
	{"seccomp", NULL, seccomp, NULL},
	{"proc", NULL, proc, "mount it: mount -t proc proc /proc"},
	{"virtualization", "kvm", virtualization, "enable it in the firmware's settings"},
	{"dev-kvm", "kvm", dev_kvm, NULL},
	{"fsgsbase", "soft", fsgsbase, "boot the host's kernel without nofsgsbase"},
	{"bmi1", "soft", bmi1, OTHER_MODEL},
	{"xsave", "soft", xsave, OTHER_MODEL},
	{"cmpxchg16b", "soft", cmpxchg16b, OTHER_MODEL},
	{"lahf", "soft", lahf, OTHER_MODEL},
	{"paging", "soft", paging, NULL},
	{"address-space", "soft", address_space, NULL},
	{"code-memory", "soft", code_memory, NULL},
	{"timers", "soft", timers, NULL},
	{"softkvm-words", "soft", softkvm_words, NO_WORDS},
};

_Static_assert(ARRAY_SIZE(rows) <= FACTS_MAX, "FACTS_MAX is too small");

unsigned facts_judge(const struct answers *a, struct fact *facts)
{
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		struct fact *f = &facts[i];

		*f = (struct fact){
			.name = rows[i].name,
			.engine = rows[i].engine,
			.remedy = rows[i].remedy,
		};
		f->verdict = rows[i].judge(a, f);
		if (f->verdict == FACT_OK)
			f->remedy = NULL;
	}
	return ARRAY_SIZE(rows);
}

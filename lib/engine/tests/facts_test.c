/* SPDX-License-Identifier: MIT */
/*
 * Verdicts: a computer on which all is well, and one thing spoilt at a time. The fact that is meant
 * must change, with its words and its remedy, and no other one. Then levels of CPUs, and limits of
 * control groups in a directory that stands for the root.
 */
#include "base/macros.h"
#include "engine/ask.h"
#include "engine/cgroup.h"
#include "engine/facts.h"
#include "tests/tap.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

/* -- CPUs by level -------------------------------------------------------------------------- */

static const struct {
	const char *name;
	unsigned level;                   /* it has that, ... */
	enum cpu_feature_id without;      /* but not this and what needs it; ... */
	uint64_t xcr0;                    /* and so much of its state is kept */
	const char *value, *lacks;
} cpus[] = {
	{"all", 4, FEATURE_ibt, 0xe7, "v4", "x86-64-v4"},
	{"no AVX-512", 3, FEATURE_ibt, 0xe7, "v3",
	 "for v4 it lacks avx512f, avx512dq, avx512cd, avx512bw, avx512vl"},
	{"AVX-512 that the kernel does not save", 4, FEATURE_ibt, 7, "v3",
	 "for v4 it lacks avx512f, avx512dq, avx512cd, avx512bw, avx512vl"},
	{"one of AVX-512's", 4, FEATURE_avx512dq, 0xe7, "v3", "for v4 it lacks avx512dq"},
	{"no LZCNT", 4, FEATURE_abm, 0xe7, "v2", "for v3 it lacks abm"},
	{"no XSAVE", 4, FEATURE_ibt, 0, "v2", "for v3 it lacks fma, xsave, avx, f16c, avx2"},
	{"Nehalem", 2, FEATURE_ibt, 0, "v2",
	 "for v3 it lacks fma, movbe, xsave, avx, f16c, bmi1, avx2, bmi2, abm"},
	{"no SSE4.2", 4, FEATURE_sse4_2, 0xe7, "v1", "for v2 it lacks sse4_2: newer"},
	{"the first", 1, FEATURE_ibt, 0, "v1",
	 "for v2 it lacks pni, ssse3, cx16, sse4_1, sse4_2, popcnt, lahf_lm: newer"},
	{"not even what Lodge's v1 has", 2, FEATURE_tsc_deadline_timer, 0, "v2", "for v3"},
};

static struct cpu_set cpu_of(unsigned level, enum cpu_feature_id without, uint64_t xcr0)
{
	struct cpu_set cpu = cpu_set_of_level(level), no_state = cpu_without_state(xcr0);
	struct cpu_set taken = cpu_needed_by(without);

	cpu = cpu_set_minus(&cpu, &no_state);
	return cpu_set_minus(&cpu, &taken);
}

/* -- Facts ---------------------------------------------------------------------------------- */

static const struct answers good = {
	.signature = 0x00b00f21,
	.vendor = "AuthenticAMD",
	.brand = "AMD EPYC 9755",
	.ways = {"kept", "bextr", "xsave"},
	.os = {.sysname = "Linux", .release = "6.1.0-42-amd64", .version = "#1 SMP"},
	.has_proc = true,
	.needs = {{.text = "well"}, {.text = "well"}, {.text = "well"}, {.text = "well"},
		  {.text = "well"}, {.text = "well"}},
	.has_node = true,
	.node_mode = 0660,
	.limit_nproc = 30000, .limit_sigpending = 30000,
	.cgroup_memory = NO_LIMIT, .cgroup_pids = NO_LIMIT,
	.memory = 8 * GiB, .memory_total = 16 * GiB,
};

static struct answers all_is_well(void)
{
	struct answers a = good;

	a.cpu = cpu_set_of_level(CPU_LEVELS);
	cpu_set_add(&a.cpu, FEATURE_svm);
	cpu_set_add(&a.cpu, FEATURE_fsgsbase);
	cpu_set_add(&a.cpu, FEATURE_constant_tsc);
	return a;
}

static void take(struct answers *a, enum cpu_feature_id feature)
{
	struct cpu_set taken = cpu_needed_by(feature);

	a->cpu = cpu_set_minus(&a->cpu, &taken);
}

static void in_a_vm(struct answers *a)
{
	strcpy(a->hypervisor, "KVMKVMKVM");
}

static void in_gvisor(struct answers *a)
{
	strcpy(a->os.release, "4.4.0");
	strcpy(a->os.version, "#1 SMP Sun Jan 10 15:06:54 PST 2016");
}

static void in_new_gvisor(struct answers *a)
{
	strcpy(a->os.release, "4.19.0-gvisor");
}

static void in_docker(struct answers *a)
{
	a->in_namespaces = true;
	a->container = "docker";
	strcpy(a->hypervisor, "Microsoft Hv");
}

static void marks_alone(struct answers *a)
{
	a->container = "docker"; /* an image that became a disk */
}

static void unnamed_hypervisor(struct answers *a)
{
	strcpy(a->hypervisor, "ArmouredWolf");
}

static void no_sse42(struct answers *a)
{
	take(a, FEATURE_sse4_2);
}

static void no_sse42_in_a_vm(struct answers *a)
{
	no_sse42(a);
	in_a_vm(a);
}

static void tsc_varies(struct answers *a)
{
	take(a, FEATURE_constant_tsc);
}

static void tsc_is_the_clock(struct answers *a)
{
	tsc_varies(a);
	a->clock_is_tsc = true;
}

static void little_memory(struct answers *a)
{
	a->memory = 200 * MiB;
}

static void small_cgroup(struct answers *a)
{
	a->cgroup_memory = 512 * MiB;
}

static void wide_cgroup(struct answers *a)
{
	a->cgroup_memory = 9 * GiB;
}

static void no_threads(struct answers *a)
{
	a->thread = EAGAIN;
}

static void few_pids(struct answers *a)
{
	a->cgroup_pids = 20;
}

static void few_processes(struct answers *a)
{
	a->limit_nproc = 79;
}

static void filtered(struct answers *a)
{
	a->seccomp = 2;
	a->no_new_privs = true;
}

static void unasked(struct answers *a)
{
	a->seccomp = -1;
}

static void no_proc(struct answers *a)
{
	a->has_proc = false;
}

static void no_node(struct answers *a)
{
	a->has_node = false;
	a->kvm = (struct probe_report){.fault = PROBE_NO_NODE, .hint = "load it"};
}

static void not_allowed(struct answers *a)
{
	a->kvm = (struct probe_report){
		.fault = PROBE_NO_PERMISSION, .text = "Permission denied", .hint = "join it",
	};
}

static void crawling_kvm(struct answers *a)
{
	a->kvm.fault = PROBE_SLOW;
}

static void paravirtual_kvm(struct answers *a)
{
	take(a, FEATURE_svm); /* and it works all the same */
}

static void fails(struct answers *a, enum host_need need, const char *text, const char *remedy)
{
	a->needs[need].rc = -EPERM;
	snprintf(a->needs[need].text, HOST_WHY, "%s", text);
	a->needs[need].remedy = remedy;
}

static void no_space(struct answers *a)
{
	fails(a, HOST_SPACE, "20 TiB are too much", "raise it");
}

static void no_cx16(struct answers *a)
{
	fails(a, HOST_CMPXCHG16B, "lacks it", NULL);
}

static void no_lahf_in_a_vm(struct answers *a)
{
	fails(a, HOST_LAHF, "lacks it", NULL);
	in_a_vm(a);
}

static void full_above(struct answers *a)
{
	a->wide = true;
	fails(a, HOST_UPPER, "there is memory", NULL);
}

static void gs_repaired(struct answers *a)
{
	a->ways.gs_base = "repaired";
}

static void gs_unused(struct answers *a)
{
	a->ways.gs_base = "unused";
}

static void gs_old_kernel(struct answers *a)
{
	gs_unused(a);
	strcpy(a->os.release, "5.4.0-150-generic");
}

static void gs_masked(struct answers *a)
{
	gs_unused(a);
	in_a_vm(a);
	take(a, FEATURE_fsgsbase);
}

static void gs_no_cpu(struct answers *a)
{
	gs_unused(a);
	take(a, FEATURE_fsgsbase);
}

static void shifts(struct answers *a)
{
	a->ways.page_number = "shifts";
	in_a_vm(a);
}

static void fxsave(struct answers *a)
{
	a->ways.vectors = "fxsave";
}

static void gs_chosen(struct answers *a)
{
	gs_unused(a);
	a->words.nogs = true;
}

static void gs_no_space(struct answers *a)
{
	gs_unused(a);
	no_space(a);
}

static void shifts_chosen(struct answers *a)
{
	a->ways.page_number = "shifts";
	a->words.nobmi1 = true;
}

static void fxsave_chosen(struct answers *a)
{
	fxsave(a);
	a->words.fxsave = true;
}

static void five_levels(struct answers *a)
{
	a->wide = true;
}

static void no_exec(struct answers *a)
{
	fails(a, HOST_CODE, "cannot be executed", "allow it");
	a->mdwe = true;
}

static void no_timers(struct answers *a)
{
	fails(a, HOST_TIMER, "none", "raise ulimit -i");
}

static void forbidden_threads(struct answers *a)
{
	a->thread = EPERM;
}

static void no_memory_for_threads(struct answers *a)
{
	a->thread = ENOMEM;
}

static void odd_limit(struct answers *a)
{
	a->limit_sigpending = 0;
}

static void few_timers(struct answers *a)
{
	a->limit_sigpending = 10;
}

static void words(struct answers *a)
{
	a->softkvm_words = "interpret";
}

static const struct {
	void (*spoil)(struct answers *a);
	const char *fact;
	enum verdict verdict;
	const char *value, *words, *remedy; /* NULL: any value; no remedy */
	const char *also; /* a fact whose verdict changes with it */
} cases[] = {
	{in_a_vm, "sandbox", FACT_OK, "vm", "a virtual machine (KVM)", NULL, NULL},
	{in_gvisor, "sandbox", FACT_SLOWER, "gvisor", "gVisor", "outside of gVisor", NULL},
	{in_new_gvisor, "sandbox", FACT_SLOWER, "gvisor", "gVisor", "outside of gVisor", NULL},
	{in_docker, "sandbox", FACT_OK, "container",
	 "a container (docker) in a virtual machine (Hyper-V)", NULL, NULL},
	{marks_alone, "sandbox", FACT_OK, "none", "none", NULL, NULL},
	{unnamed_hypervisor, "sandbox", FACT_OK, "vm", "(ArmouredWolf)", NULL, NULL},
	{no_sse42, "cpu-level", FACT_LESS, "v1", "for v2 it lacks sse4_2:", NULL, NULL},
	{no_sse42_in_a_vm, "cpu-level", FACT_LESS, "v1", "lacks", "CPU model", NULL},
	{tsc_varies, "tsc", FACT_LESS, "variable", "not said to be invariant", NULL, NULL},
	{tsc_is_the_clock, "tsc", FACT_OK, "variable", "the kernel's own clock", NULL, NULL},
	{little_memory, "memory", FACT_LESS, NULL, "200 MiB available of 16 GiB: less", "--memory",
	 NULL},
	{small_cgroup, "memory", FACT_LESS, NULL, "512 MiB (cgroup limit) of 16 GiB: less",
	 "--memory", NULL},
	{wide_cgroup, "memory", FACT_OK, NULL, "8.0 GiB available of 16 GiB", NULL, NULL},
	{no_threads, "threads", FACT_MISSING, NULL, "none can be made: Res", "ulimit -u", NULL},
	{few_pids, "threads", FACT_LESS, NULL, "20 at most (cgroup pids.max)", "pids.max", NULL},
	{few_processes, "threads", FACT_LESS, NULL, "79 at most (ulimit -u)", "ulimit -u", NULL},
	{filtered, "seccomp", FACT_OK, "filter", "in force, no_new_privs is set", NULL, NULL},
	{unasked, "seccomp", FACT_OK, "", "cannot be asked", NULL, NULL},
	{no_proc, "proc", FACT_LESS, "none", "not there", "mount -t proc", NULL},
	{no_node, "dev-kvm", FACT_MISSING, "no-node", "no such node", "load it", NULL},
	{not_allowed, "dev-kvm", FACT_MISSING, "no-permission",
	 "mode 0660, owner 0, group 0; Permission denied", "join it", NULL},
	{crawling_kvm, "dev-kvm", FACT_SLOWER, "too-slow", "mode", NULL, NULL},
	{paravirtual_kvm, "virtualization", FACT_OK, "none", "neither VT-x nor AMD-V", NULL, NULL},
	{gs_repaired, "fsgsbase", FACT_OK, "repaired", "repaired", NULL, NULL},
	{gs_unused, "fsgsbase", FACT_SLOWER, "unused", "kernel does not enable it", "nofsgsbase",
	 NULL},
	{gs_old_kernel, "fsgsbase", FACT_SLOWER, "unused", "does not", "Linux 5.9", NULL},
	{gs_masked, "fsgsbase", FACT_SLOWER, "unused", "does not", "CPU model", NULL},
	{gs_no_cpu, "fsgsbase", FACT_SLOWER, "unused", "does not", NULL, NULL},
	{shifts, "bmi1", FACT_SLOWER, "shifts", "shifts are used", "CPU model", NULL},
	{fxsave, "xsave", FACT_LESS, "fxsave", "guests have no AVX", NULL, NULL},
	{gs_chosen, "fsgsbase", FACT_SLOWER, "unused", "SOFTKVM has the word nogs", "unset SOFTKVM",
	 NULL},
	{gs_no_space, "fsgsbase", FACT_SLOWER, "unused", "or address space is short", "nofsgsbase",
	 "address-space"},
	{shifts_chosen, "bmi1", FACT_SLOWER, "shifts", "SOFTKVM has the word nobmi1", "unset SOFTKVM",
	 NULL},
	{fxsave_chosen, "xsave", FACT_LESS, "fxsave", "SOFTKVM has the word fxsave", "unset SOFTKVM",
	 NULL},
	{no_cx16, "cmpxchg16b", FACT_MISSING, NULL, "lacks it", NULL, NULL},
	{no_lahf_in_a_vm, "lahf", FACT_MISSING, NULL, "lacks it", "CPU model", NULL},
	{five_levels, "paging", FACT_OK, "5", "5 levels (LA57), well", NULL, NULL},
	{full_above, "paging", FACT_MISSING, "5", "LA57), there is memory", NULL, NULL},
	{no_space, "address-space", FACT_MISSING, NULL, "20 TiB are too much", "raise it", NULL},
	{no_exec, "code-memory", FACT_MISSING, NULL, "cannot be executed; PR_SET_MDWE is in force",
	 "allow it", NULL},
	{no_memory_for_threads, "threads", FACT_MISSING, NULL, "Cannot allocate memory", NULL, NULL},
	{forbidden_threads, "threads", FACT_MISSING, NULL, "not permitted", "seccomp", NULL},
	{no_timers, "timers", FACT_MISSING, NULL, "none", "ulimit -i", NULL},
	{odd_limit, "timers", FACT_OK, NULL, "well", NULL, NULL},
	{few_timers, "timers", FACT_LESS, NULL, "well, 10 at most (ulimit -i)", "ulimit -i", NULL},
	{words, "softkvm-words", FACT_SLOWER, NULL, "interpret", "unset SOFTKVM", NULL},
};

static const struct fact *find(const struct fact *f, const char *name)
{
	while (strcmp(f->name, name) != 0)
		f++;
	return f;
}

static void test_levels(void)
{
	for (unsigned i = 0; i < ARRAY_SIZE(cpus); i++) {
		struct answers a = all_is_well();
		struct fact f[FACTS_MAX];
		const struct fact *level;

		a.cpu = cpu_of(cpus[i].level, cpus[i].without, cpus[i].xcr0);
		facts_judge(&a, f);
		level = find(f, "cpu-level");
		is_str(level->value, cpus[i].value, "level of: %s", cpus[i].name);
		ok(strstr(level->text, cpus[i].lacks), "what it lacks: %s", level->text);
	}
}

static void check_case(unsigned i)
{
	struct answers a = all_is_well();
	struct fact f[FACTS_MAX];
	bool seen = false;
	unsigned n;

	cases[i].spoil(&a);
	n = facts_judge(&a, f);
	for (unsigned k = 0; k < n; k++) {
		if (strcmp(f[k].name, cases[i].fact) != 0) {
			if (f[k].verdict && (!cases[i].also || strcmp(f[k].name, cases[i].also)))
				ok(false, "case %u: %s is %s, too: %s", i, f[k].name,
				   verdict_name(f[k].verdict), f[k].text);
			continue;
		}
		seen = true;
		is_str(verdict_name(f[k].verdict), verdict_name(cases[i].verdict), "%s: %s",
		       f[k].name, f[k].text);
		if (cases[i].value)
			is_str(f[k].value, cases[i].value, "%s: its value", f[k].name);
		ok(strstr(f[k].text, cases[i].words) != NULL, "%s: '%s'", f[k].name,
		   cases[i].words);
		if (cases[i].remedy)
			ok(f[k].remedy && strstr(f[k].remedy, cases[i].remedy),
			   "%s: its remedy: %s", f[k].name, f[k].remedy ? f[k].remedy : "none");
		else
			is_str(f[k].remedy, NULL, "%s: no remedy", f[k].name);
	}
	ok(seen, "there is a fact %s", cases[i].fact);
}

static void test_facts(void)
{
	struct answers a = all_is_well();
	struct fact f[FACTS_MAX];
	unsigned n = facts_judge(&a, f);

	for (unsigned i = 0; i < n; i++) {
		is_str(verdict_name(f[i].verdict), "ok", "all is well: %s: %s", f[i].name,
		       f[i].text);
		ok(!f[i].remedy && f[i].text[0], "so there is nothing to be done");
	}
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++)
		check_case(i);
}

static void test_names(void)
{
	struct answers here = {0};
	struct fact f[FACTS_MAX];
	unsigned n;

	ask_host(&here);
	n = facts_judge(&here, f);
	for (unsigned i = 0; i < n; i++) {
		ok(!strpbrk(f[i].name, " _ABCDEFGHIJKLMNOPQRSTUVWXYZ"), "%s is a name for scripts",
		   f[i].name);
		ok(f[i].text[0], "here: %s: %s", verdict_name(f[i].verdict), f[i].text);
	}
}

/* -- Control groups ------------------------------------------------------------------------- */

static char root[] = "/tmp/lodge-facts-XXXXXX";

static void put(const char *path, const char *text)
{
	char full[256];
	FILE *f;

	snprintf(full, sizeof(full), "%s%s", root, path);
	for (char *p = full + sizeof(root); (p = strchr(p, '/')); p++) {
		*p = 0;
		mkdir(full, 0700);
		*p = '/';
	}
	f = fopen(full, "w");
	if (!f || fputs(text, f) < 0 || fclose(f) != 0)
		ok(false, "cannot write %s", full);
}

static uint64_t of_memory(void)
{
	return cgroup_limit(root, CGROUP_MEMORY);
}

static uint64_t of_pids(void)
{
	return cgroup_limit(root, CGROUP_PIDS);
}

/* A guest of `lodge run`, and what is left for it. */
static void test_memory(void)
{
	char text[CGROUP_TEXT] = "";

	put("/proc/self/cgroup", "0::/c\n");
	put("/sys/fs/cgroup/memory.max", "max\n");
	put("/sys/fs/cgroup/c/memory.max", "max\n");
	ok(!cgroup_is_short(root, UINT64_MAX, text), "no limit is enough for everybody");
	put("/sys/fs/cgroup/c/memory.max", "369098752\n");
	ok(!cgroup_is_short(root, 256 * MiB, text), "352 MiB are enough for 256 and the engine");
	is_str(text, "", "of which nothing is said");
	ok(cgroup_is_short(root, 256 * MiB + 4 * KiB, text), "but for no page more");
	ok(cgroup_is_short(root, GiB, text), "nor for 1 GiB");
	is_str(text, "the cgroup's limit is 352 MiB; the guest's 1 GiB and up to 96 MiB of the "
		     "engine's own are more, and the kernel ends lodge without a word if it comes to "
		     "use them", "in words");
	ok(cgroup_is_short(root, UINT64_MAX, text), "whatever is asked for");
	put("/sys/fs/cgroup/memory.max", "4096\n");
	ok(cgroup_is_short(root, 0, text), "a limit below the engine's own");
}

static void test_cgroups(void)
{
	char command[64];

	ok(mkdtemp(root) != NULL, "a directory");
	is_int(of_memory(), NO_LIMIT, "nothing there: no limit");
	put("/sys/fs/cgroup/memory.max", "1000000\n");
	put("/sys/fs/cgroup/memory/memory.limit_in_bytes", "2000000\n");
	is_int(of_memory(), 1000000, "without /proc: the mount's root, version 2");
	put("/sys/fs/cgroup/memory.max", "3000000\n");
	is_int(of_memory(), 2000000, "or version 1");

	put("/proc/self/cgroup", "0::/a/b\n");
	put("/sys/fs/cgroup/memory.max", "max\n");
	put("/sys/fs/cgroup/a/memory.max", "5000\n");
	put("/sys/fs/cgroup/a/b/memory.max", "7000\n");
	is_int(of_memory(), 5000, "version 2: the least on the way up");
	put("/sys/fs/cgroup/a/memory.max", "max\n");
	is_int(of_memory(), 7000, "version 2: one's own");
	put("/sys/fs/cgroup/a/b/memory.max", "max\n");
	is_int(of_memory(), NO_LIMIT, "version 2: max");
	put("/sys/fs/cgroup/a/pids.max", "100\n");
	put("/sys/fs/cgroup/a/pids.current", "97\n");
	is_int(of_pids(), 3, "threads that are there are taken off");
	put("/sys/fs/cgroup/a/pids.current", "101\n");
	is_int(of_pids(), 0, "there may be too many already");

	put("/proc/self/cgroup", "7:mymemory:/y\n8:cpu,memory:/x\n9:pids:/y/z\n0::/\n");
	put("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
	put("/sys/fs/cgroup/memory/x/memory.limit_in_bytes", "6000\n");
	put("/sys/fs/cgroup/memory/y/memory.limit_in_bytes", "10\n");
	put("/sys/fs/cgroup/pids/y/z/pids.max", "50\n");
	is_int(of_memory(), 6000, "version 1: a list of controllers");
	is_int(of_pids(), 50, "version 1: pids");
	put("/sys/fs/cgroup/memory/x/memory.limit_in_bytes", "9223372036854771712\n");
	is_int(of_memory(), NO_LIMIT, "version 1: its number for no limit");

	put("/proc/self/cgroup", "9:pids:/of/the/host\ngarbage\n7:memory\n:::\n");
	put("/sys/fs/cgroup/pids/pids.max", "40\n");
	is_int(of_pids(), 40, "a path that is not there: the mount's root");
	put("/sys/fs/cgroup/pids/pids.max", "many\n");
	is_int(of_pids(), NO_LIMIT, "what is no number is no limit");
	test_memory();
	snprintf(command, sizeof(command), "rm -r %s", root);
	is_int(system(command), 0, "cleaned up");
}

int main(void)
{
	test_levels();
	test_facts();
	test_names();
	test_cgroups();
	return done_testing();
}

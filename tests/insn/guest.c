/* SPDX-License-Identifier: MIT */
/*
 * Cases in a guest of softkvm, through the KVM ABI only.
 *
 * The guest has no code of its own but one HLT for each exception vector:
 *
 *	KVM_SET_XSAVE, KVM_SET_SREGS, KVM_SET_REGS   ring 3, as the case wants it
 *	KVM_RUN -> instructions ... a fault -> IDT -> ring 0: HLT -> KVM_EXIT_HLT
 *	KVM_GET_REGS (which HLT?), the frame on the ring-0 stack, KVM_GET_XSAVE, CR2
 *
 * Selectors are those of a 64-bit Linux process, since cases may read them. What only ring 0
 * sees lies in the upper half of the address space, where native code has the kernel.
 *
 * We write the guest's code through our own pointer, which the engine does not see. A guest
 * would have to change a mapping before it runs such code; so do we, by another CR3 with the
 * same content. A warm run keeps CR3: it finds translations, filled TLB entries and chains.
 *
 * Two words before those of SOFTKVM make guests of other kinds:
 *
 *	full    each run begins with a code cache that is full but for some hundred bytes: the first with
 *	        room for another block or two, the second, when there are blocks, with less than a gate wants
 *	ids     three vCPUs, numbers 0, 32 and 64, by turns. One runs the case, and the next one has written
 *	        it, page by page with stores of its own, so an engine that takes one for the other
 *	        goes on with stale code. The second run begins by an IRET in the guest instead of KVM_SET_SREGS,
 *	        which would flush all TLBs.
 */
#include "guest.h"

#include <errno.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

#include "softkvm/softkvm.h"

#define CPU_NUMBER 0x7b /* Linux keeps it in the limit of a segment */

#define CPUS 3

struct cpu {
	int fd;
	struct kvm_run *run;
	bool in_kernel;               /* halted in ring 0, as a run ends */
};

struct guest {
	char knobs[64];
	bool is_full;
	int sys, vm;
	unsigned n_cpus;
	struct cpu cpu[CPUS], *now;   /* the one that runs the case */
	size_t run_len;
	uint8_t *ram;
	uint8_t *live[PAGES];
	unsigned n_tables;
	uint64_t root[LAYOUTS][2];    /* two page tables of the same content */
	uint64_t pae[LAYOUTS][2];     /* the same for modes without long addresses, if it is used there */
	unsigned use;
	struct kvm_sregs sregs;
	struct image image;
};

/* -- Tables ------------------------------------------------------------------------------------ */

static void put64(struct guest *g, uint64_t gpa, uint64_t v)
{
	memcpy(g->ram + gpa, &v, 8);
}

static uint64_t get64(const struct guest *g, uint64_t gpa)
{
	uint64_t v;

	memcpy(&v, g->ram + gpa, 8);
	return v;
}

static uint64_t new_table(struct guest *g)
{
	if (g->n_tables == TABLES)
		abort();
	return TABLES_AT + PAGE * g->n_tables++;
}

static void map_page(struct guest *g, uint64_t root, uint64_t va, uint64_t gpa, uint64_t bits)
{
	uint64_t table = root;

	for (int shift = 39; shift > 12; shift -= 9) {
		uint64_t entry = table + (va >> shift & 511) * 8;

		if (!get64(g, entry))
			put64(g, entry, new_table(g) | P_PRESENT | P_WRITE | P_USER);
		table = get64(g, entry) & 0xffffffffff000;
	}
	put64(g, table + (va >> 12 & 511) * 8, gpa | bits);
}

/* The pages are mapped in another order than they lie in memory, but the stack's two lie together, and
 * the one that cannot be written with the one behind it: an access to both needs one addend. */
uint64_t page_gpa(unsigned i)
{
	static const uint8_t place[PAGES] = {0, 14, 6, 20, 12, 4, 18, 19, 2, 3, 8, 9};

	return PAGES_AT + place[i] * PAGE;
}

static uint64_t make_page_table(struct guest *g, enum where layout)
{
	uint64_t root = new_table(g);

	for (unsigned i = 0; i < PAGES; i++)
		map_page(g, root, page_at(layout, i), page_gpa(i),
			 P_PRESENT | P_USER | (pages[i].write ? P_WRITE : 0) |
				 (pages[i].exec ? 0 : P_NX));
	return root;
}

/* Its pointers are those of a page table that has the kernel below 4 GiB. */
static void make_pae_table(struct guest *g, enum where layout)
{
	uint64_t root = make_page_table(g, layout), pointers;

	for (uint64_t at = 0; at < LOW_KERNEL_PAGES * PAGE; at += PAGE)
		map_page(g, root, LOW_KERNEL + at, at, P_PRESENT | P_WRITE);
	pointers = get64(g, root) & 0xffffffffff000;
	for (unsigned use = 0; use < 2; use++) {
		g->pae[layout][use] = new_table(g);
		for (unsigned i = 0; i < 4; i++)
			put64(g, g->pae[layout][use] + 8 * i,
			      get64(g, pointers + 8 * i) & ~(P_WRITE | P_USER));
	}
}

static void make_page_tables(struct guest *g)
{
	const uint64_t kernel = (KERNEL >> 39 & 511) * 8;

	for (unsigned l = 0; l < LAYOUTS; l++) {
		g->root[l][0] = make_page_table(g, l);
		g->root[l][1] = new_table(g);
		if (l == 0)
			for (uint64_t at = 0; at < TABLES_AT; at += PAGE)
				map_page(g, g->root[0][0], KERNEL + at, at, P_PRESENT | P_WRITE);
		put64(g, g->root[l][0] + kernel, get64(g, g->root[0][0] + kernel));
		memcpy(g->ram + g->root[l][1], g->ram + g->root[l][0], PAGE);
	}
	make_pae_table(g, HOME);
	make_pae_table(g, AT_0);
	for (unsigned i = 0; i < PAGES; i++)
		g->live[i] = g->ram + page_gpa(i);
}

/* A host that runs no 32-bit code may have no descriptor of it, as MOV to a segment register finds out. A
 * case of 32-bit code does not run there. */
static bool host_has(uint16_t selector)
{
	uint32_t rights;
	bool has;

	__asm__("lar %2, %0" : "=r"(rights), "=@ccz"(has) : "r"((uint32_t)selector));
	return has;
}

static void make_descriptors(struct guest *g)
{
	static const struct {
		unsigned at;
		uint64_t value;
	} gdt[] = {
		{RING0_CODE, 0x00af9b000000ffff}, {RING0_DATA, 0x00cf93000000ffff},
		{USER_DATA & ~7, 0x00cff3000000ffff}, {USER_CODE64 & ~7, 0x00affb000000ffff},
		{CPU_NUMBER & ~7, 0x0040f50000000000}, /* expand-down, read-only */
	};
	uint64_t tss = KERNEL + TSS_AT;

	for (unsigned i = 0; i < sizeof(gdt) / sizeof(gdt[0]); i++)
		put64(g, GDT_AT + gdt[i].at, gdt[i].value);
	put64(g, GDT_AT + TSS_SELECTOR,
	      0x67 | (tss & 0xffffff) << 16 | 0x8bull << 40 | (tss >> 24 & 0xff) << 56);
	put64(g, GDT_AT + TSS_SELECTOR + 8, tss >> 32);
	put64(g, TSS_AT + 4, KERNEL + STACK_AT + PAGE);
	put64(g, TSS_AT + 0x64, 0x68ull << 16); /* no I/O permission map */
	for (unsigned v = 0; v < 32; v++) {
		uint64_t to = KERNEL + HANDLERS_AT + v * HANDLER_STEP;
		uint64_t dpl = v == 3 || v == 4 ? 3 : 0; /* as Linux has it */

		put64(g, IDT_AT + v * 16,
		      (to & 0xffff) | RING0_CODE << 16 | (0x8e | dpl << 5) << 40 |
			      (to >> 16 & 0xffff) << 48);
		put64(g, IDT_AT + v * 16 + 8, to >> 32);
		g->ram[HANDLERS_AT + v * HANDLER_STEP] = 0xf4; /* hlt */
	}
	mode_memory(g->ram);
	memcpy(g->ram + COPY_AT, "\xf3\xa4\xf4", 3); /* rep movsb; hlt */
	memcpy(g->ram + ENTER_AT,
	       "\x31\xc0\x8e\xd8\x8e\xc0\x8e\xe0\x8e\xe8" /* ds, es, fs, gs = 0 */
	       "\x58\xf3\x48\x0f\xae\xd0"                 /* pop rax; wrfsbase rax */
	       "\x58\xf3\x48\x0f\xae\xd8"                 /* pop rax; wrgsbase rax */
	       "\x58\x48\xcf", 25);                        /* pop rax; iretq */
}

/* -- The VM ---------------------------------------------------------------------------------------- */

static void must(int rc, const char *what)
{
	if (rc >= 0)
		return;
	fprintf(stderr, "softkvm: %s: %s\n", what, strerror(-rc));
	exit(2);
}

static struct kvm_segment segment(uint16_t selector, uint8_t type, uint8_t dpl, bool l, bool db)
{
	return (struct kvm_segment){
		.selector = selector, .limit = ~0u, .type = type, .present = 1, .dpl = dpl,
		.db = db, .s = 1, .l = l, .g = 1,
	};
}

static struct kvm_segment null_segment(uint64_t base)
{
	return (struct kvm_segment){.base = base, .unusable = 1};
}

static void make_sregs(struct guest *g)
{
	struct kvm_sregs *s = &g->sregs;

	must(softkvm_ioctl(g->cpu[0].fd, KVM_GET_SREGS, s), "KVM_GET_SREGS");
	s->cr0 = 0x80050033; /* PG AM WP NE ET MP PE: as Linux */
	s->cr4 = 0x506a8; /* OSXSAVE FSGSBASE OSXMMEXCPT OSFXSR PGE PAE DE */
	s->efer = 0xd01; /* NX LMA LME SCE */
	s->gdt = (struct kvm_dtable){.base = KERNEL + GDT_AT, .limit = 0x7f};
	s->idt = (struct kvm_dtable){.base = KERNEL + IDT_AT, .limit = 32 * 16 - 1};
	s->tr = segment(TSS_SELECTOR, 11, 0, false, false);
	s->tr.base = KERNEL + TSS_AT;
	s->tr.limit = 0x67;
	s->tr.s = 0;
	s->tr.g = 0;
	s->ldt = null_segment(0);
	s->cr3 = g->root[HOME][0];
	s->cs = segment(RING0_CODE, 11, 0, true, false);
	s->ss = segment(RING0_DATA, 3, 0, false, true);
	s->ds = s->es = s->fs = s->gs = null_segment(0);
}

static void set_cpuid(struct guest *g, struct cpu *c)
{
	struct {
		struct kvm_cpuid2 head;
		struct kvm_cpuid_entry2 entry[256];
	} cpuid = {.head.nent = 256};
	struct kvm_xcrs xcrs = {.nr_xcrs = 1};

	must(softkvm_ioctl(g->sys, KVM_GET_SUPPORTED_CPUID, &cpuid), "KVM_GET_SUPPORTED_CPUID");
	must(softkvm_ioctl(c->fd, KVM_SET_CPUID2, &cpuid), "KVM_SET_CPUID2");
	must(softkvm_ioctl(c->fd, KVM_SET_SREGS, &g->sregs), "KVM_SET_SREGS");
	xcrs.xcrs[0].value = vector_features & 0xe7;
	must(softkvm_ioctl(c->fd, KVM_SET_XCRS, &xcrs), "KVM_SET_XCRS");
	c->in_kernel = true;
}

/* A tick a second of CPU time; who is in the same KVM_RUN at the second one is stopped. */
static struct cpu *running;
static volatile unsigned long runs, runs_at_tick;

static void on_alarm(int sig)
{
	(void)sig;
	if (running && runs == runs_at_tick) {
		running->run->immediate_exit = 1;
		softkvm_kick(running->fd);
	}
	runs_at_tick = runs;
}

static void start_ticks(void)
{
	struct itimerval t = {.it_value.tv_sec = 1, .it_interval.tv_sec = 1};

	signal(SIGPROF, on_alarm);
	setitimer(ITIMER_PROF, &t, NULL);
}

/* Numbers whose low five bits are the same. */
static void add_cpu(struct guest *g)
{
	struct cpu *c = &g->cpu[g->n_cpus];
	void *id = (void *)(uintptr_t)(g->n_cpus * 32);

	must(c->fd = softkvm_ioctl(g->vm, KVM_CREATE_VCPU, id), "KVM_CREATE_VCPU");
	c->run = softkvm_mmap(c->fd, g->run_len, 0);
	if (g->n_cpus++ == 0)
		make_sregs(g);
	set_cpuid(g, c);
}

/* Without paging linear addresses are physical ones: pages below 1 GiB are there once more. */
static void add_real_memory(struct guest *g)
{
	for (unsigned i = 0; i < PAGES; i++) {
		struct kvm_userspace_memory_region slot = {
			.slot = 1 + i, .guest_phys_addr = pages[i].at, .memory_size = PAGE,
			.userspace_addr = (uintptr_t)g->live[i]};

		if (pages[i].at < 1u << 30)
			must(softkvm_ioctl(g->vm, KVM_SET_USER_MEMORY_REGION, &slot), "memory");
	}
}

/* Takes our own words off. */
static const char *take_word(const char *knobs, const char *word, bool *there)
{
	*there = !strncmp(knobs, word, strlen(word));
	return *there ? knobs + strlen(word) : knobs;
}

struct guest *guest_create(const char *knobs)
{
	struct guest *g = calloc(1, sizeof(*g));
	struct kvm_userspace_memory_region slot = {.memory_size = RAM_SIZE};
	bool has_ids;

	if (!g)
		return NULL;
	snprintf(g->knobs, sizeof(g->knobs), "%s", knobs);
	knobs = take_word(knobs, "full,", &g->is_full);
	knobs = take_word(knobs, "ids,", &has_ids);
	image_init(&g->image);
	g->ram = mmap(NULL, RAM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	slot.userspace_addr = (uintptr_t)g->ram;
	make_page_tables(g);
	make_descriptors(g);
	setenv("SOFTKVM", knobs, 1);
	must(g->sys = softkvm_open(), "open");
	must(g->vm = softkvm_ioctl(g->sys, KVM_CREATE_VM, NULL), "KVM_CREATE_VM");
	must(softkvm_ioctl(g->vm, KVM_SET_USER_MEMORY_REGION, &slot), "memory");
	add_real_memory(g);
	g->run_len = (size_t)softkvm_ioctl(g->sys, KVM_GET_VCPU_MMAP_SIZE, NULL);
	do
		add_cpu(g);
	while (has_ids && g->n_cpus < CPUS);
	unsetenv("SOFTKVM");
	start_ticks();
	return g;
}

void guest_destroy(struct guest *g)
{
	for (unsigned i = 0; i < g->n_cpus; i++) {
		softkvm_munmap(g->cpu[i].run, g->run_len);
		softkvm_close(g->cpu[i].fd);
	}
	softkvm_close(g->vm);
	softkvm_close(g->sys);
	munmap(g->ram, RAM_SIZE);
	free(g);
}

const char *guest_knobs(const struct guest *g)
{
	return g->knobs[0] ? g->knobs : "translated";
}

/* -- A case --------------------------------------------------------------------------------------------- */

static struct kvm_segment data_segment(uint16_t selector, uint64_t base)
{
	struct kvm_segment s = segment(selector, 3, 3, false, true);

	s.base = base;
	return selector & ~3 ? s : null_segment(base);
}

static struct kvm_regs registers(const struct start *s)
{
	return (struct kvm_regs){
		.rax = s->gpr[X86_RAX], .rcx = s->gpr[X86_RCX], .rdx = s->gpr[X86_RDX],
		.rbx = s->gpr[X86_RBX], .rsp = s->gpr[X86_RSP], .rbp = s->gpr[X86_RBP],
		.rsi = s->gpr[X86_RSI], .rdi = s->gpr[X86_RDI], .r8 = s->gpr[X86_R8],
		.r9 = s->gpr[X86_R9], .r10 = s->gpr[X86_R10], .r11 = s->gpr[X86_R11],
		.r12 = s->gpr[X86_R12], .r13 = s->gpr[X86_R13], .r14 = s->gpr[X86_R14],
		.r15 = s->gpr[X86_R15], .rip = s->rip, .rflags = s->flags,
	};
}

static void set_sregs(struct guest *g, const struct test_case *t)
{
	const struct start *s = &t->start;

	g->sregs.cr2 = 0;
	g->sregs.cr3 = g->root[t->layout][g->use & 1];
	g->sregs.cs = segment((uint16_t)s->cs, 11, 3, !t->is_32bit, t->is_32bit);
	g->sregs.ss = data_segment((uint16_t)s->ss, 0);
	g->sregs.ds = data_segment(s->sel_ds, 0);
	g->sregs.es = data_segment(s->sel_es, 0);
	g->sregs.fs = data_segment(s->sel_fs, s->fs);
	g->sregs.gs = data_segment(s->sel_gs, s->gs);
	if (t->other.mode != FLAT) {
		struct kvm_sregs other = g->sregs;

		mode_sregs(t, g->pae[t->layout][g->use & 1], &other);
		must(softkvm_ioctl(g->now->fd, KVM_SET_SREGS, &other), "KVM_SET_SREGS");
	} else {
		must(softkvm_ioctl(g->now->fd, KVM_SET_SREGS, &g->sregs), "KVM_SET_SREGS");
	}
}

/* What ENTER_AT takes from the stack. */
static void put_frame(struct guest *g, const struct start *s, struct kvm_regs *r)
{
	const uint64_t frame[] = {s->fs, s->gs, r->rax, r->rip, s->cs, r->rflags, r->rsp, s->ss};

	memcpy(g->ram + STACK_AT + PAGE - sizeof(frame), frame, sizeof(frame));
	r->rip = KERNEL + ENTER_AT;
	r->rsp = KERNEL + STACK_AT + PAGE - sizeof(frame);
	r->rflags = 2;
}

static void set_state(struct guest *g, const struct test_case *t, bool by_iret)
{
	uint32_t code32 = !t->is_32bit && !host_has(USER_CODE32) ? 0 : 0x00cffb00;
	struct kvm_regs r = registers(&t->start);

	if (t->other.mode != FLAT)
		r.rip = t->other.ip;
	if (t->other.mode == VM86)
		r.rflags |= 1u << 17;
	put64(g, GDT_AT + (USER_CODE32 & ~7), (uint64_t)code32 << 32 | (code32 ? 0xffff : 0));
	if (by_iret)
		put_frame(g, &t->start, &r);
	else
		set_sregs(g, t);
	must(softkvm_ioctl(g->now->fd, KVM_SET_REGS, &r), "KVM_SET_REGS");
	must(softkvm_ioctl(g->now->fd, KVM_SET_XSAVE, (void *)(uintptr_t)t->vectors),
	     "KVM_SET_XSAVE");
}

static void stuck(struct outcome *o, enum status status, const char *why, unsigned n)
{
	o->status = status;
	snprintf(o->why, sizeof(o->why), "%s %u", why, n);
}

/* What the processor pushed, and where it went. */
static void take_frame(struct guest *g, const struct kvm_regs *r, struct outcome *o)
{
	uint64_t at = r->rip - 1 - (KERNEL + HANDLERS_AT), frame = r->rsp - KERNEL;

	if (at >= 32 * HANDLER_STEP || at % HANDLER_STEP || frame < STACK_AT ||
	    frame + 40 > STACK_AT + PAGE) {
		stuck(o, STUCK, "HLT where no handler is", 0);
		return;
	}
	o->vector = (uint8_t)(at / HANDLER_STEP);
	if (has_error_code(o->vector)) {
		o->error = (uint32_t)get64(g, frame);
		frame += 8;
	}
	o->rip = get64(g, frame);
	o->cs = get64(g, frame + 8);
	o->flags = get64(g, frame + 16);
	o->gpr[X86_RSP] = get64(g, frame + 24);
	o->ss = get64(g, frame + 32);
}

static void take_state(struct guest *g, const struct test_case *t, struct outcome *o)
{
	struct kvm_regs r;
	struct kvm_sregs s;

	must(softkvm_ioctl(g->now->fd, KVM_GET_REGS, &r), "KVM_GET_REGS");
	must(softkvm_ioctl(g->now->fd, KVM_GET_SREGS, &s), "KVM_GET_SREGS");
	must(softkvm_ioctl(g->now->fd, KVM_GET_XSAVE, o->vectors), "KVM_GET_XSAVE");
	o->status = RAN;
	o->error = 0;
	memcpy(o->gpr, (uint64_t[16]){r.rax, r.rcx, r.rdx, r.rbx, r.rsp, r.rbp, r.rsi, r.rdi,
				      r.r8, r.r9, r.r10, r.r11, r.r12, r.r13, r.r14, r.r15},
	       sizeof(o->gpr));
	o->cr2 = s.cr2;
	o->fs = s.fs.base;
	o->gs = s.gs.base;
	o->sel_ds = s.ds.selector;
	o->sel_es = s.es.selector;
	o->sel_fs = s.fs.selector;
	o->sel_gs = s.gs.selector;
	if (t->other.mode == FLAT)
		take_frame(g, &r, o);
	else
		mode_take(g->ram, t, &g->image, &r, &s, o);
	vectors_normalize(o->vectors);
}

static int run_with_limit(struct cpu *c)
{
	int rc;

	runs++;
	running = c;
	rc = softkvm_ioctl(c->fd, KVM_RUN, NULL);
	running = NULL;
	c->run->immediate_exit = 0;
	c->in_kernel = rc == 0 && c->run->exit_reason == KVM_EXIT_HLT;
	return rc;
}

/* A page becomes what it should be, by stores of a vCPU. */
static void copy_page(struct guest *g, struct cpu *c, unsigned page)
{
	struct kvm_regs r = {
		.rip = KERNEL + COPY_AT, .rsi = KERNEL + IMAGE_AT, .rcx = PAGE,
		.rdi = KERNEL + (uint64_t)(g->live[page] - g->ram), .rflags = 2,
	};

	if (!c->in_kernel) {
		struct kvm_sregs s = g->sregs;

		s.cs = segment(RING0_CODE, 11, 0, true, false);
		s.ss = segment(RING0_DATA, 3, 0, false, true);
		must(softkvm_ioctl(c->fd, KVM_SET_SREGS, &s), "KVM_SET_SREGS");
	}
	memcpy(g->ram + IMAGE_AT, g->image.page[page], PAGE);
	must(softkvm_ioctl(c->fd, KVM_SET_REGS, &r), "KVM_SET_REGS");
	must(run_with_limit(c), "KVM_RUN");
}

/* Memory before the case. */
static void set_memory(struct guest *g, const struct test_case *t)
{
	image_set(&g->image, t);
	if (g->n_cpus == 1) {
		image_copy(&g->image, g->live);
		return;
	}
	for (unsigned i = 0; i < PAGES; i++)
		if (memcmp(g->live[i], g->image.page[i], PAGE))
			copy_page(g, &g->cpu[(t->number + 1) % g->n_cpus], i);
}

bool guest_is_warm_too(const struct guest *g)
{
	return g->is_full || g->n_cpus > 1;
}

void guest_run(struct guest *g, const struct test_case *t, bool warm, struct outcome *o)
{
	int rc;

	g->now = &g->cpu[t->number % g->n_cpus];
	set_memory(g, t);
	g->use += !warm;
	set_state(g, t, warm && g->n_cpus > 1 && !t->is_32bit && t->other.mode == FLAT && g->now->in_kernel);
	if (g->is_full)
		cache_fill_up(g->now->fd, t->number, warm);
	rc = run_with_limit(g->now);
	g->now->in_kernel &= t->other.mode == FLAT;
	if (rc == 0 && g->now->run->exit_reason == KVM_EXIT_HLT)
		take_state(g, t, o);
	else if (rc == -EINTR)
		stuck(o, ENDLESS, "no end", 0);
	else if (rc < 0)
		stuck(o, STUCK, strerror(-rc), 0);
	else
		stuck(o, STUCK, "exit reason", g->now->run->exit_reason);
	image_compare(&g->image, g->live, o);
}

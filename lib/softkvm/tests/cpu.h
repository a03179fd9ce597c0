/* SPDX-License-Identifier: MIT */
/*
 * A vCPU by itself, for tests of system instructions and events: one megabyte of flat RAM,
 * descriptor tables in it, no engine and no VM calls.
 *
 *	struct vcpu *c = cpu_create();
 *	cpu_long(c, 3);                         // 64-bit code of ring 3
 *	enum step rc = cpu_run(c, "\x0f\x05");  // syscall
 *
 * Paging is off even where EFER.LMA says otherwise, so linear addresses are physical ones;
 * cpu_page() switches on identity paging for tests of page faults. What belongs to the
 * translator (invalidation, mode changes) only counts here how often it is called.
 *
 * Memory:   0 interrupt vectors   1000 GDT   2000 IDT   3000 TSS   4000 page tables
 *        8000 code   a000 end of ring 0 stack   b000 RSP0   c000 IST1   d000 user stack
 */
#ifndef SOFTKVM_TESTS_CPU_H
#define SOFTKVM_TESTS_CPU_H

#include "softkvm/interp/event.h"
#include "softkvm/irqchip/irqchip.h"
#include "softkvm/mmu/io.h"
#include "softkvm/mmu/mmu.h"
#include "softkvm/mmu/tlb.h"
#include "softkvm/os/current.h"
#include "softkvm/run/run.h"
#include "softkvm/state/msr.h"
#include "softkvm/state/msr_filter.h"
#include "tests/tap.h"

#include <sys/mman.h>

#define RAM_SIZE 0x100000u
#define GDT_AT 0x1000u
#define IDT_AT 0x2000u
#define TSS_AT 0x3000u
#define PML4_AT 0x4000u
#define CODE_AT 0x8000u
#define STACK_AT 0xa000u
#define RSP0_AT 0xb000u
#define IST1_AT 0xc000u
#define USER_STACK_AT 0xd000u

/* Selectors of the GDT. */
enum { KCODE64 = 0x08, KDATA = 0x10, UCODE32 = 0x18, UDATA = 0x20, UCODE64 = 0x28,
       KCODE32 = 0x30, KCODE16 = 0x38, KDATA16 = 0x40, CONFORMING = 0x48, ABSENT = 0x50,
       TSS = 0x58, LDT = 0x68, GATE = 0x78, CODE1 = 0x88, DATA1 = 0x90, EXECONLY = 0x98,
       GDT_BYTES = 0xa0 };

/* -- Stand-ins for the translator and the interrupt controller ------------------------------ */

static unsigned flushes, page_flushes, mode_changes, invpcids, cr3_loads, io_accesses;
static bool cr3_kept;
static int pending_vector = -1;
static enum step io_result;

#ifndef CPU_WITH_ENGINE
void mmu_flush_all(struct vcpu *c) { (void)c; flushes++; }
void mmu_flush_page(struct vcpu *c, uint64_t lin) { (void)c, (void)lin; page_flushes++; }
void mmu_mode_changed(struct vcpu *c) { (void)c; mode_changes++; }

void mmu_load_cr3(struct vcpu *c, uint64_t value, bool keep)
{
	c->cr3 = value;
	cr3_kept = keep;
	cr3_loads++;
}

void mmu_invpcid(struct vcpu *c, unsigned type, unsigned pcid, uint64_t lin)
{
	(void)c, (void)type, (void)pcid, (void)lin;
	invpcids++;
}

void page_changed(struct vcpu *c, struct slot *slot, uint64_t gpa, unsigned len)
{
	(void)c, (void)slot, (void)gpa, (void)len;
}

void view_touch_new(struct engine *e, struct view *v, uint64_t vpn)
{
	(void)e;
	(void)v;
	(void)vpn;
}

void tlb_select(struct vcpu *c) { (void)c; }
void sync_turn(struct vcpu *c, unsigned turn) { (void)c, (void)turn; }

void sync_readers(struct vm *vm, struct vcpu *c, struct slot *slot, uint64_t gpa)
{
	(void)vm, (void)c, (void)slot, (void)gpa;
}

bool tlb_fill(struct vcpu *c, uint64_t lin, bool write, enum step *step)
{
	(void)c, (void)lin, (void)write, (void)step;
	return false;
}

const uint8_t *fetch_pointer(struct vcpu *c, uint64_t lin, enum step *step)
{
	(void)c, (void)lin, (void)step;
	return NULL;
}

__thread struct vcpu *current_vcpu;

enum step io_memory(struct vcpu *c, uint64_t gpa, uint64_t *data, unsigned len, bool write)
{
	(void)c, (void)gpa, (void)len;
	io_accesses++;
	if (!write)
		*data = ~0ull;
	return io_result;
}

bool msr_filter_allows(struct vm *vm, uint32_t msr, uint32_t kind) { (void)vm; (void)msr; (void)kind; return true; }
bool msr_is_known(const struct vcpu *c, uint32_t msr) { (void)c; (void)msr; return true; }
enum step io_msr(struct vcpu *c, uint32_t msr, uint64_t *data, bool write, uint32_t reason)
{
	(void)msr; (void)data; (void)write; (void)reason;
	return fault_code(c, X86_GP, 0);
}
bool irqchip_has_pic(const struct vm *vm) { return vm->irqchip; }
int irqchip_pending(struct vcpu *c) { (void)c; return pending_vector; }

int irqchip_ack(struct vcpu *c)
{
	int v = pending_vector;

	(void)c;
	pending_vector = -1;
	return v;
}

int msr_read(struct vcpu *c, uint32_t msr, uint64_t *value)
{
	(void)c;
	*value = 0x1122334455667788;
	return msr == MSR_EFER ? 0 : -1;
}

int msr_write(struct vcpu *c, uint32_t msr, uint64_t value)
{
	(void)c;
	return msr == MSR_EFER && value == 0x1122334455667788 ? 0 : -1;
}

uint64_t lapic_get_cr8(struct vcpu *c) { (void)c; return 5; }
void lapic_set_cr8(struct vcpu *c, uint64_t value) { (void)c, (void)value; }
#endif

/* -- Memory -------------------------------------------------------------------------------- */

static uint8_t *ram;

static inline uint64_t peek(uint64_t at, unsigned len)
{
	uint64_t v = 0;

	memcpy(&v, ram + at, len);
	return v;
}

static inline void poke(uint64_t at, uint64_t v, unsigned len)
{
	memcpy(ram + at, &v, len);
}

/* type is the descriptor's byte 5 (P, DPL, S, type), flags its upper nibble of byte 6. */
static inline uint64_t desc_make(uint32_t base, uint32_t limit, unsigned type, unsigned flags)
{
	return (limit & 0xffff) | (uint64_t)(base & 0xffffff) << 16 | (uint64_t)type << 40 |
	       (uint64_t)(limit >> 16 & 15) << 48 | (uint64_t)flags << 52 |
	       (uint64_t)(base >> 24) << 56;
}

static inline void gdt_set(unsigned sel, uint64_t raw)
{
	poke(GDT_AT + (sel & ~7u), raw, 8);
}

/* A gate in the IDT; type is byte 5. In long mode 16 bytes, with `ist`. */
static inline void idt_set(struct vcpu *c, unsigned vector, unsigned sel, uint64_t rip,
			   unsigned type, unsigned ist)
{
	const uint64_t low = (rip & 0xffff) | (uint64_t)sel << 16 | (uint64_t)ist << 32 |
			     (uint64_t)type << 40 | (rip >> 16 & 0xffff) << 48;

	if (!is_long_mode(c)) {
		poke(IDT_AT + vector * 8, low, 8);
		return;
	}
	poke(IDT_AT + vector * 16, low, 8);
	poke(IDT_AT + vector * 16 + 8, rip >> 32, 8);
}

static inline void gdt_fill(void)
{
	gdt_set(KCODE64, desc_make(0, 0xfffff, 0x9b, 0xa));
	gdt_set(KDATA, desc_make(0, 0xfffff, 0x93, 0xc));
	gdt_set(UCODE32, desc_make(0, 0xfffff, 0xfb, 0xc));
	gdt_set(UDATA, desc_make(0, 0xfffff, 0xf3, 0xc));
	gdt_set(UCODE64, desc_make(0, 0xfffff, 0xfb, 0xa));
	gdt_set(KCODE32, desc_make(0, 0xfffff, 0x9b, 0xc));
	gdt_set(KCODE16, desc_make(0, 0xffff, 0x9b, 0));
	gdt_set(KDATA16, desc_make(0, 0xffff, 0x93, 0));
	gdt_set(CONFORMING, desc_make(0, 0xfffff, 0x9e, 0xc));
	gdt_set(ABSENT, desc_make(0, 0xfffff, 0x13, 0xc));
	gdt_set(TSS, desc_make(TSS_AT, 0x67, 0x89, 0));
	gdt_set(LDT, desc_make(0x7000, 0x1f, 0x82, 0));
	gdt_set(CODE1, desc_make(0, 0xfffff, 0xbb, 0xc));
	gdt_set(DATA1, desc_make(0, 0xfffff, 0xb3, 0xc));
	gdt_set(EXECONLY, desc_make(0, 0xfffff, 0x99, 0xc));
}

/* -- States -------------------------------------------------------------------------------- */

static inline struct kvm_segment flat(unsigned sel, unsigned type, unsigned dpl, bool l, bool db)
{
	return (struct kvm_segment){.limit = 0xffffffff, .selector = (uint16_t)(sel | dpl),
				    .type = (uint8_t)type, .present = 1, .dpl = (uint8_t)dpl,
				    .db = db, .s = 1, .l = l, .g = 1};
}

static inline void cpu_common(struct vcpu *c, unsigned cpl)
{
	memset(ram, 0, RAM_SIZE);
	gdt_fill();
	memset(c->gpr, 0, sizeof(c->gpr));
	memset(&c->event, 0, sizeof(c->event));
	memset(&c->fault, 0, sizeof(c->fault));
	c->cpl = (uint8_t)cpl;
	c->rip = CODE_AT;
	c->rflags = RFLAGS_FIXED | RFLAGS_IF;
	c->cr0 = CR0_PE | CR0_ET | CR0_NE | CR0_WP;
	c->cr2 = c->cr3 = 0;
	c->cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXSAVE;
	c->efer = 0;
	c->dr6 = DR6_FIXED;
	c->dr7 = DR7_FIXED;
	c->gdt = (struct kvm_dtable){.base = GDT_AT, .limit = GDT_BYTES - 1};
	c->idt = (struct kvm_dtable){.base = IDT_AT, .limit = 0xfff};
	c->tr = (struct kvm_segment){.base = TSS_AT, .limit = 0x67, .selector = TSS,
				     .type = 11, .present = 1};
	c->ldt = (struct kvm_segment){.unusable = 1};
	c->gpr[X86_RSP] = cpl == 3 ? USER_STACK_AT : STACK_AT;
	for (int i = 0; i < 6; i++)
		c->seg[i] = flat(cpl == 3 ? UDATA : KDATA, 3, cpl, false, true);
	flushes = page_flushes = mode_changes = invpcids = cr3_loads = io_accesses = 0;
	pending_vector = -1;
	io_result = STEP_OK;
}

static inline void cpu_long(struct vcpu *c, unsigned cpl)
{
	cpu_common(c, cpl);
	c->efer = EFER_LME | EFER_LMA | EFER_SCE | EFER_NX;
	c->seg[X86_CS] = flat(cpl == 3 ? UCODE64 : KCODE64, 11, cpl, true, false);
	poke(TSS_AT + 4, RSP0_AT, 8);
	poke(TSS_AT + 0x24, IST1_AT, 8);
}

/* Compatibility mode, or protected mode if not long. */
static inline void cpu_32(struct vcpu *c, unsigned cpl, bool is_long)
{
	cpu_long(c, cpl);
	c->seg[X86_CS] = flat(cpl == 3 ? UCODE32 : KCODE32, 11, cpl, false, true);
	if (is_long)
		return;
	c->efer = 0;
	poke(TSS_AT + 4, RSP0_AT, 4);
	poke(TSS_AT + 8, KDATA, 4);
}

static inline void cpu_real(struct vcpu *c)
{
	cpu_common(c, 0);
	c->cr0 = CR0_ET;
	c->idt = (struct kvm_dtable){.base = 0, .limit = 0x3ff};
	for (int i = 0; i < 6; i++)
		c->seg[i] = (struct kvm_segment){.limit = 0xffff, .type = 3, .present = 1, .s = 1};
	c->seg[X86_CS].type = 11;
}

/* Identity paging of the RAM in 4 KiB pages, all of them user pages; then change entries. */
#define PTE_OF(at) (PML4_AT + 0x3000 + ((at) >> 12) * 8)

static inline void cpu_page(struct vcpu *c)
{
	for (unsigned i = 0; i < 3; i++)
		poke(PML4_AT + 0x1000 * i, (PML4_AT + 0x1000 * (i + 1)) | 7, 8);
	for (unsigned at = 0; at < RAM_SIZE; at += 4096)
		poke(PTE_OF(at), at | 7, 8);
	c->cr3 = PML4_AT;
	c->cr0 |= CR0_PG;
	c->cr4 |= CR4_PAE;
}

static inline struct vcpu *cpu_create(void)
{
	static struct slot slot;
	static struct slot_table table = {.n = 1, .slot = {&slot}};
	static struct vm vm;
	static struct vcpu cpu;
	static struct kvm_run run;

	ram = mmap(NULL, RAM_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	slot = (struct slot){.size = RAM_SIZE, .hva = ram, .rw = ram, .ro = ram};
	vm.slots = &table;
	vm.irqchip = (struct irqchip *)(void *)&vm; /* only asked for being there */
	cpu.vm = &vm;
	cpu.run = &run;
	cpu.max_phys_bits = 46;
	vm.vcpu[0] = &cpu;
	return &cpu;
}

/* Executes the system instruction `code` of n bytes at c->rip. */
static inline enum step cpu_exec(struct vcpu *c, const char *code, unsigned n)
{
	struct insn in;
	int len = x86_decode(&in, (const uint8_t *)code, n, code_mode(c));

	if (len != (int)n) {
		note("the decoder takes %d of %u bytes of %02x %02x", len, n, code[0] & 255,
		     code[1] & 255);
		exit(1);
	}
	return system_insn(c, &in, c->rip + n);
}

#define cpu_run(c, code) cpu_exec(c, code, sizeof(code) - 1)

/* The instruction faults: with this vector and, unless negative, error code. */
static inline bool is_fault(struct vcpu *c, enum step rc, unsigned vector, int code)
{
	if (rc == STEP_FAULT && c->fault.vector == vector && c->fault.has_code == (code >= 0) &&
	    (code < 0 || c->fault.code == (unsigned)code))
		return true;
	note("step %d, vector %u, code %d %x", rc, c->fault.vector, c->fault.has_code,
	     c->fault.code);
	return false;
}

#define faults(c, code, vector, error, ...) \
	ok(is_fault(c, cpu_run(c, code), vector, error), __VA_ARGS__)

#endif

/* SPDX-License-Identifier: MIT */
/*
 * For the assembly of tiny guests: each is a symbol with an end symbol, is loaded at 0x1000
 * and entered there in the mode that the test names. MMIO is at 0x180000.
 */
#define BASE 0x1000
#define MMIO 0x180000
#define AT(label, start) (BASE + (label) - (start))

#define GUEST(name) .balign 16; .globl guest_##name, guest_##name##_end; guest_##name:
#define END(name) guest_##name##_end:

/* face.h says what these do. */
#define KNOCK(n) mov $(n), %al; out %al, $0xe0
#define DONE     out %al, $0xe1; hlt

/* An IDT for protected mode, at 0x4000, with an interrupt gate for a label. */
#define IDT 0x4000
#define LOAD_IDT                                                                           \
	movw $0x7ff, IDT - 8;                                                              \
	movl $IDT, IDT - 6;                                                                \
	lidtl IDT - 8
#define GATE(vector, label, start)                                                         \
	movw $AT(label, start), IDT + (vector) * 8;                                        \
	movw $0x08, IDT + (vector) * 8 + 2;                                                \
	movw $0x8e00, IDT + (vector) * 8 + 4;                                              \
	movw $0, IDT + (vector) * 8 + 6

/* Back from a handler without an error code, to a label. Not by IRET, which emulating KVMs do
 * not have in protected mode. */
#define BACK(label) add $12, %esp; sti; jmp label

/* The PICs out of the way: their reset state would deliver lines 0 to 7 as exceptions. */
#define NO_PIC mov $0xff, %al; out %al, $0x21; out %al, $0xa1

#define LAPIC  0xfee00000
#define IOAPIC 0xfec00000

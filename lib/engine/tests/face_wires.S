/* SPDX-License-Identifier: MIT */
/* Tiny guests for face_wires_test.c and face_memory_test.c. */
#include "face_guest.h"

#define EOI movl $0, 0xb0(%ebx)
#define ENABLE_LAPIC mov $LAPIC, %ebx; movl $0x1ff, 0xf0(%ebx)

	.section .rodata

	/* -- Real mode ------------------------------------------------------------------- */
	.code16

	/* Without controllers: the client injects vector 0x21 when it may. */
GUEST(injected)
	movw $AT(1f, guest_injected), 0x21 * 4
	movw $0, 0x21 * 4 + 2
	cli
	KNOCK(1)
	mov $1, %al
	out %al, $0x12              /* still before */
	sti
	nop
	nop
	hlt
1:	mov $0x77, %al
	out %al, $0x11
	iret
END(injected)

	/* The same with a local APIC, where HLT would sleep. */
GUEST(wired)
	movw $AT(1f, guest_wired), 0x21 * 4
	movw $0, 0x21 * 4 + 2
	cli
	KNOCK(1)
	mov $1, %al
	out %al, $0x12
	sti
	nop
	nop
	hlt
1:	mov $0x77, %al
	out %al, $0x11
	DONE
END(wired)

	/* Line 1 through the PIC to vector 0x21; HLT sleeps until it comes. */
GUEST(pic)
	movw $AT(1f, guest_pic), 0x21 * 4
	movw $0, 0x21 * 4 + 2
	mov $0x11, %al
	out %al, $0x20
	mov $0x20, %al
	out %al, $0x21
	mov $4, %al
	out %al, $0x21
	mov $1, %al
	out %al, $0x21
	mov $0xfd, %al
	out %al, $0x21
	KNOCK(1)
	sti
	hlt
	DONE
1:	mov $0x77, %al
	out %al, $0x11
	mov $0x20, %al
	out %al, $0x20
	iret
END(pic)

	/* Stores that ring: one that matches and one that does not. */
GUEST(doorbell_port)
	mov $7, %al
	out %al, $0x50
	mov $8, %al
	out %al, $0x50
	mov $7, %ax
	out %ax, $0x50
	hlt
END(doorbell_port)

	/* -- Protected mode -------------------------------------------------------------- */
	.code32

GUEST(doorbell_memory)
	movl $1, MMIO
	movw $1, MMIO
	movl $2, MMIO
	movl $3, MMIO + 4
	hlt
END(doorbell_memory)

	/* Line 5 through the IOAPIC, level: its entry while it is served, and afterwards. */
GUEST(ioapic)
	LOAD_IDT
	GATE(0x30, 1f, guest_ioapic)
	NO_PIC
	ENABLE_LAPIC
	mov $IOAPIC, %ebp
	movl $0x11 + 5 * 2, (%ebp)
	movl $0, 0x10(%ebp)
	movl $0x10 + 5 * 2, (%ebp)
	movl $0x8030, 0x10(%ebp)
	KNOCK(1)
	sti
	hlt
2:	DONE
1:	mov 0x10(%ebp), %eax
	shr $12, %eax               /* mask, level, remote IRR, polarity, delivery */
	out %al, $0x11
	KNOCK(2)
	EOI
	mov 0x10(%ebp), %eax
	shr $12, %eax
	out %al, $0x11
	BACK(2b)
END(ioapic)

	/* A line that is still up at the end of interrupt comes again. */
GUEST(again)
	LOAD_IDT
	GATE(0x30, 1f, guest_again)
	NO_PIC
	ENABLE_LAPIC
	mov $IOAPIC, %ebp
	movl $0x10 + 5 * 2, (%ebp)
	movl $0x8030, 0x10(%ebp)
	KNOCK(1)
	xor %ecx, %ecx
	sti
2:	hlt
4:	cmp $3, %ecx
	jb 2b
	DONE
1:	inc %ecx
	mov %cl, %al
	out %al, $0x11
	cmp $3, %ecx
	jb 3f
	KNOCK(2)
3:	EOI
	BACK(4b)
END(again)

	/* The client's IOAPIC hears of the end of a level, before anything else happens, and not of an edge's. */
GUEST(ended)
	LOAD_IDT
	GATE(0x30, 1f, guest_ended)
	GATE(0x31, 2f, guest_ended)
	ENABLE_LAPIC
	KNOCK(1)
	sti
	hlt
3:	KNOCK(2)
	sti
	hlt
4:	DONE
1:	mov $1, %al
	out %al, $0x11
	EOI
	out %al, $0x12
	BACK(3b)
2:	mov $2, %al
	out %al, $0x11
	EOI
	out %al, $0x12
	BACK(4b)
END(ended)

	/* A message of vector 0x31, and HLT until it comes. */
GUEST(message)
	LOAD_IDT
	GATE(0x31, 1f, guest_message)
	ENABLE_LAPIC
	KNOCK(1)
	sti
	hlt
2:	DONE
1:	mov $0x31, %al
	out %al, $0x11
	EOI
	BACK(2b)
END(message)

	/* The same, held up by the task priority. */
GUEST(priority)
	LOAD_IDT
	GATE(0x31, 1f, guest_priority)
	ENABLE_LAPIC
	movl $0x40, 0x80(%ebx)
	KNOCK(1)
	sti
	nop
	mov $1, %al
	out %al, $0x12
	movl $0x20, 0x80(%ebx)
	nop
2:	mov $2, %al
	out %al, $0x12
	DONE
1:	mov $0x31, %al
	out %al, $0x11
	EOI
	BACK(2b)
END(priority)

	/* To itself, by the shorthand. */
GUEST(self)
	LOAD_IDT
	GATE(0x32, 1f, guest_self)
	ENABLE_LAPIC
	sti
	movl $0x40032, 0x300(%ebx)
	nop
2:	DONE
1:	mov $0x32, %al
	out %al, $0x11
	EOI
	BACK(2b)
END(self)

	/* The local APIC's timer, once, a few hundred microseconds on any bus. */
GUEST(timer)
	LOAD_IDT
	GATE(0x33, 1f, guest_timer)
	ENABLE_LAPIC
	movl $0xb, 0x3e0(%ebx)
	movl $0x33, 0x320(%ebx)
	movl $300000, 0x380(%ebx)
	sti
	hlt
2:	mov 0x390(%ebx), %eax
	out %al, $0x12              /* the count is 0 */
	DONE
1:	mov $0x33, %al
	out %al, $0x11
	EOI
	BACK(2b)
END(timer)

	/* Interrupts are off; this one does not ask. */
GUEST(nmi)
	LOAD_IDT
	GATE(2, 1f, guest_nmi)
	KNOCK(1)
	nop
2:	mov $1, %al
	out %al, $0x12
	DONE
1:	mov $2, %al
	out %al, $0x11
	add $12, %esp
	jmp 2b
END(nmi)

	/* Leaves that the test has set. */
GUEST(cpuid)
	xor %eax, %eax
	cpuid
	out %eax, $0x11
	xchg %eax, %ebx
	out %eax, $0x11
	mov $0x40000100, %eax
	cpuid
	xchg %eax, %ecx
	out %eax, $0x12
	mov $4, %eax
	mov $2, %ecx
	cpuid
	xchg %eax, %edx
	out %eax, $0x13
	DONE
END(cpuid)

	/* One that exists, written and read; one that does not: #GP, whose error code is 0. */
GUEST(msr)
	LOAD_IDT
	GATE(13, 1f, guest_msr)
	mov $0xc0000102, %ecx
	mov $0x12345678, %eax
	mov $0xffff8880, %edx
	wrmsr
	xor %eax, %eax
	xor %edx, %edx
	rdmsr
	out %eax, $0x11
	xchg %eax, %edx
	out %eax, $0x11
	mov $0x12345, %ecx
	mov $7, %eax
	rdmsr
2:	out %eax, $0x12
	DONE
1:	pop %eax
	out %al, $0x13
	mov $5, %eax
	BACK(2b)
END(msr)

	/* A fault that nobody can handle. */
GUEST(triple)
	movl $0, IDT - 8
	movl $0, IDT - 4
	lidtl IDT - 8
	KNOCK(1)
	ud2
	DONE
END(triple)

	/* Stores of many kinds to pages 0x40 and on; 0x41 and 0x47 are only read. */
GUEST(stores)
	mov $0x40000, %ebx
	movb $1, (%ebx)
	mov 0x1000(%ebx), %eax
	movl $5, 0x2ffe(%ebx)       /* pages 0x42 and 0x43 */
	lock incl 0x4000(%ebx)
	lea 0x5800(%ebx), %edi      /* 0x45 and 0x46 */
	mov $0x1000, %ecx
	xor %eax, %eax
	rep stosb
	mov 0x7000(%ebx), %al
	KNOCK(1)
	movb $2, 0x1000(%ebx)
	KNOCK(2)
	movb $3, (%ebx)
	DONE
END(stores)

	/* Reads, writes and calls what is at 2 MiB; knocks, and does it again. */
GUEST(slot)
	mov $0x200000, %ebx
	mov $2, %ebp
1:	mov (%ebx), %eax
	out %eax, $0x11
	movl $0x99, 4(%ebx)
	mov 4(%ebx), %eax
	out %eax, $0x12
	dec %ebp
	jz 2f
	KNOCK(1)
	jmp 1b
2:	DONE
END(slot)

	/* Calls a function there before and after the knock. */
GUEST(rom_code)
	mov $0x200010, %ebx
	call *%ebx
	out %al, $0x11
	KNOCK(1)
	call *%ebx
	out %al, $0x11
	DONE
END(rom_code)

	/* What it calls it rewrites, when the slot was made anew. */
GUEST(rewritten_code)
	mov $0x200010, %ebx
	mov $4, %ecx
1:	call *%ebx
	loop 1b
	out %al, $0x11
	KNOCK(1)
	call *%ebx
	mov %al, %ah
	movb $0x43, 1(%ebx)
	call *%ebx
	out %ax, $0x12
	DONE
END(rewritten_code)

	/* The first five times over. */
GUEST(replaced_code)
	mov $0x200010, %ebx
	mov $5, %ecx
1:	call *%ebx
	out %al, $0x11
	KNOCK(1)
	loop 1b
	DONE
END(replaced_code)

	.section .note.GNU-stack, "", @progbits

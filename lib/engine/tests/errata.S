/* SPDX-License-Identifier: MIT */
/* Tiny guests for errata_test.c. */
#include "face_guest.h"

	.section .rodata
	.code32

	/* Jumps to where no memory is. */
GUEST(fetch_device)
	LOAD_IDT
	GATE(6, 1f, guest_fetch_device)
	mov $MMIO, %eax
	jmp *%eax
2:	DONE
1:	mov $6, %al
	out %al, $0x11
	BACK(2b)
END(fetch_device)

	/* TF with DEBUGCTL.BTF: a trap after the first instruction, branch or not. */
GUEST(branch_trap)
	LOAD_IDT
	GATE(1, 1f, guest_branch_trap)
	mov $0x1d9, %ecx
	mov $2, %eax
	xor %edx, %edx
	wrmsr
	xor %eax, %eax
	rdmsr
	out %eax, $0x12
	pushf
	orl $0x100, (%esp)
	popf
	nop
	nop
	mov $0xee, %al
	out %al, $0x11
2:	DONE
1:	mov $1, %al
	out %al, $0x11
	BACK(2b)
END(branch_trap)

	.code64

	/* 512 bytes to a device by one instruction. */
GUEST(fxsave_device)
	mov $MMIO, %ebx
	fxsave (%rbx)
	hlt
END(fxsave_device)

	/* Where was the last x87 instruction? The area's bytes 8 to 15 should say. */
GUEST(x87_pointer)
	fninit
1:	fld1
	fxsave64 0x5000
	lea 1b(%rip), %rax
	cmp %rax, 0x5008
	setne %al
	out %al, $0x11
	hlt
END(x87_pointer)

	/* Calls what is at 0x9000, before and after the client rewrites it, and once more when the
	 * translations are flushed. */
GUEST(rewritten)
	mov $0x9000, %ebx
	call *%rbx
	out %al, $0x11
	KNOCK(1)
	call *%rbx
	out %al, $0x11
	mov %cr3, %rax
	mov %rax, %cr3
	call *%rbx
	out %al, $0x11
	hlt
END(rewritten)

	/* A load, a division, a store to the same page, warmed up; then the page is made clean and
	 * the division faults. Is the page dirty in the handler? */
#define PTE (0x13000 + 0x30 * 8)
GUEST(dirty_early)
	movw $AT(3f, guest_dirty_early), IDT
	movw $0x18, IDT + 2
	movw $0x8e00, IDT + 4
	movw $15, IDT - 16
	movq $IDT, IDT - 14
	lidt IDT - 16
	mov $0x30000, %ebx
	mov $5000, %r12d
	mov $1, %ecx
1:	mov (%rbx), %eax
	xor %edx, %edx
	div %ecx
	mov %eax, 8(%rbx)
	dec %r12d
	jnz 1b
	andq $~0x40, PTE
	invlpg (%rbx)
	xor %ecx, %ecx
	inc %r12d
	jmp 1b
3:	mov PTE, %eax
	shr $6, %eax
	and $1, %al
	out %al, $0x11
	hlt
END(dirty_early)

	/* In ring 3 with AM and AC: four bytes at an odd address, and a sign of life. */
GUEST(unaligned)
	mov 0x5001, %eax
	mov $0x55, %al
	mov %al, MMIO
	ud2
END(unaligned)

	.section .note.GNU-stack, "", @progbits

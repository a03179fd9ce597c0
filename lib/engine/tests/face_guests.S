/* SPDX-License-Identifier: MIT */
/* Tiny guests for face_test.c and face_state_test.c. */
#include "face_guest.h"

	.section .rodata

	/* -- Real mode ------------------------------------------------------------------ */
	.code16
GUEST(real_add)
	mov $40, %ax
	mov $2, %bx
	add %bx, %ax
	out %al, $0x10
	hlt
END(real_add)

GUEST(real_in)
	in $0x20, %al
	inc %al
	out %al, $0x21
	in $0x22, %ax
	out %ax, $0x24
	mov $0x30, %dx
	in (%dx), %eax
	out %eax, (%dx)
	hlt
END(real_in)

GUEST(real_string)
	mov $AT(1f, guest_real_string), %si
	mov $0x40, %dx
	mov $5, %cx
	cld
	rep outsb
	mov $0x7000, %di
	mov $3, %cx
	rep insb
	mov 0x7002, %al
	out %al, $0x41
	hlt
1:	.ascii "hello"
END(real_string)

	/* A vector of the real-mode table, and back by IRET. */
GUEST(real_int)
	movw $AT(1f, guest_real_int), 0x60 * 4
	movw $0, 0x60 * 4 + 2
	int $0x60
	out %al, $0x10
	hlt
1:	mov $9, %al
	iret
END(real_int)

	/* A segment that is not 0: linear is 16 times it, and the offset. */
GUEST(real_segment)
	mov $0x700, %ax
	mov %ax, %ds
	movw $0x1234, 5
	xor %ax, %ax
	mov %ax, %ds
	mov 0x7005, %ax
	out %ax, $0x10
	hlt
END(real_segment)

	/* -- Protected mode -------------------------------------------------------------- */
	.code32
	/* Two functions whose addresses agree in the lower 16 bits, in turn; one of them is rewritten. */
GUEST(protected_aliases)
	movl $0xc301c083, 0x20000 /* add $1, %eax; ret */
	movl $0xc310c083, 0x30000 /* add $16, %eax; ret */
	mov $0x20000, %ebx
	mov $0x30000, %edx
	mov $0x40000, %esp
	xor %eax, %eax
	mov $2, %esi
1:	mov $1000, %ecx
2:	call *%ebx
	call *%edx
	loop 2b
	movb $2, 2(%ebx)
	dec %esi
	jnz 1b
	out %eax, $0x11
	hlt
END(protected_aliases)

	/* The same indirect jump before, while and after CR0.TS forbids the x87. */
GUEST(protected_ts)
	LOAD_IDT
	GATE(7, 4f, guest_protected_ts)
	mov %cr4, %eax /* OSFXSR: softkvm translates FLD1 */
	or $0x200, %eax
	mov %eax, %cr4
	mov $AT(3f, guest_protected_ts), %ebx
	mov $100, %ecx
1:	call *%ebx
	loop 1b
	mov %cr0, %eax
	or $8, %eax
	mov %eax, %cr0
	call *%ebx
2:	clts
	call *%ebx
	mov $1, %al
	out %al, $0x11
	hlt
3:	fld1
	fstp %st(0)
	ret
4:	mov $7, %al
	out %al, $0x11
	BACK(2b)
END(protected_ts)

GUEST(protected_mmio)
	movl $0x11223344, MMIO
	mov MMIO + 4, %eax
	out %eax, $0x10
	hlt
END(protected_mmio)

	/* -- Long mode, ring 0 ----------------------------------------------------------- */
	.code64
GUEST(long_widths)
	mov $0x8877665544332211, %rax
	mov $MMIO, %ebx
	mov %al, (%rbx)
	mov %ax, 2(%rbx)
	mov %eax, 4(%rbx)
	mov %rax, 8(%rbx)
	movzbl (%rbx), %ecx
	movzwl 2(%rbx), %edx
	mov 4(%rbx), %esi
	mov 8(%rbx), %rdi
	hlt
END(long_widths)

	/* Read and write of one instruction: two exits, one effect. */
GUEST(long_rmw)
	mov $MMIO, %ebx
	mov $3, %eax
	add %eax, (%rbx)
	setc %dl
	hlt
END(long_rmw)

GUEST(long_flags)
	mov $0x7fffffffffffffff, %rax
	add $1, %rax
	pushf
	pop %rcx
	sub %rax, %rax
	pushf
	pop %rdx
	and $0xcd5, %ecx
	and $0xcd5, %edx
	hlt
END(long_flags)

GUEST(long_calls)
	xor %eax, %eax
	mov $10, %ecx
1:	call 2f
	dec %ecx
	jnz 1b
	hlt
2:	add %ecx, %eax
	ret
END(long_calls)

	/* Forever; rcx counts the turns. */
GUEST(long_loop)
1:	inc %rcx
	jmp 1b
END(long_loop)

	/* Code that changes itself: the second call must see the new immediate. */
	/* Stores to a page that may not be written to, with CR0.WP clear and set. */
#define WP_PTE (0x13000 + 0x30 * 8)
GUEST(long_tpr)
	mov $9, %eax
	mov %rax, %cr8 /* higher: nothing to do */
	mov %rax, %cr8
	mov $3, %eax
	mov %rax, %cr8 /* lower */
	mov %cr8, %rax
	out %al, $0x10
	hlt
END(long_tpr)

GUEST(long_wp)
	movw $AT(3f, guest_long_wp), IDT + 14 * 16
	movw $0x18, IDT + 14 * 16 + 2
	movw $0x8e00, IDT + 14 * 16 + 4
	movw $15 * 16, IDT - 16
	movq $IDT, IDT - 14
	lidt IDT - 16
	mov $0x30000, %ebx
	mov %cr0, %rdx
	and $~0x10000, %rdx
	mov %rdx, %cr0
	andq $~2, WP_PTE
	invlpg (%rbx)
	mov $100, %ecx
1:	mov %ecx, (%rbx)
	dec %ecx
	jnz 1b
	or $0x10000, %rdx
	mov %rdx, %cr0
	inc %ecx
	jmp 1b
3:	mov %ecx, %eax
	out %al, $0x11
	mov (%rbx), %al
	out %al, $0x11
	hlt
END(long_wp)

GUEST(long_smc)
	mov $2, %ebp
1:	call 2f
	out %al, $0x10
	movb $7, AT(2f, guest_long_smc) + 1
	dec %ebp
	jnz 1b
	hlt
2:	mov $6, %al
	ret
END(long_smc)

	/* -- Ring 3 ---------------------------------------------------------------------- */
GUEST(user_math)
	mov $1000, %ecx
	xor %eax, %eax
1:	add %rcx, %rax
	rol $3, %rax
	dec %ecx
	jnz 1b
	cvtsi2sd %rax, %xmm0
	sqrtsd %xmm0, %xmm0
	cvtsd2si %xmm0, %rdx
	ud2                         /* no IDT: a triple fault ends it */
END(user_math)

	/* A state that changes with every turn, in all kinds of registers; a port tells each. */
GUEST(user_mix)
	mov $8, %ecx
	mov $0x9e3779b97f4a7c15, %rbx
	mov %rbx, %rax
	fld1
	fldpi
	xorps %xmm2, %xmm2
1:	imul %rbx, %rax
	xor %rcx, %rax
	rol $17, %rax
	movq %rax, %xmm0
	paddq %xmm0, %xmm2
	punpckhqdq %xmm2, %xmm1
	faddp
	fldpi
	push %rax
	adc $0, %r15
	mov %al, MMIO
	dec %ecx
	jnz 1b
	fstpl -8(%rsp)
	fstpl -16(%rsp)
	mov -8(%rsp), %r8
	mov -16(%rsp), %r9
	movq %xmm2, %r10
	ud2                         /* no IDT: a triple fault ends it */
END(user_mix)

	.section .note.GNU-stack, "", @progbits

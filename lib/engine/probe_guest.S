/* SPDX-License-Identifier: MIT */
/*
 * The probe guest: in 600 bytes the steps that a stock kernel takes in its first second.
 *
 * Loaded at PROBE_BASE and entered in real mode there, it goes through protected to long
 * mode by itself, as the start of a second processor does, then uses what kernels use in
 * ring 0, then goes to ring 3 and back in both ways. It says where it is:
 *
 *	out %al, $PORT_STEP     before a step: its number; probe.c has the names
 *	out %al, $PORT_BAD      a step gave a wrong result
 *	out %al, $PORT_FAULT    an exception that nobody wanted: its vector
 *
 * so that whoever listens knows how far it got, whatever happens then. The last step is a
 * loop in ring 0, whose speed the listener measures.
 *
 * Memory, beside this code: the stack is below 0x8000, page tables are tiny.c's.
 */
#define PROBE_BASE 0x1000
#define PORT_STEP  0x99
#define PORT_BAD   0x9a
#define PORT_FAULT 0x9b

#define AT(label) (PROBE_BASE + (label) - probe_guest)

#define TABLES    0x10000
#define STACK     0x8000
#define UNMAPPED  0x40000000

#define MSR_EFER    0xc0000080
#define MSR_STAR    0xc0000081
#define MSR_LSTAR   0xc0000082
#define MSR_FMASK   0xc0000084
#define MSR_GS_BASE 0xc0000101

#ifndef PROBE_TURNS
#define PROBE_TURNS 100000 /* probe.c knows the same number */
#endif

/* Each step ends in the next one or here. */
#define STEP(n) mov $(n), %al; out %al, $PORT_STEP

	.section .rodata
	.globl probe_guest, probe_guest_end

	.balign 16
	.code16
probe_guest:
	cli
	xor %ax, %ax
	mov %ax, %ds
	mov %ax, %es
	mov %ax, %ss
	mov $STACK, %sp

	/* 1: real mode does arithmetic, a string copy and a call. */
	STEP(1)
	cld
	mov $PROBE_BASE, %si
	mov $0x6000, %di
	mov $16, %cx
	rep movsb
	call 1f
1:	pop %ax
	cmp $AT(1b), %ax
	jne bad16
	mov 0x6000, %al
	cmp PROBE_BASE, %al
	jne bad16

	/* 2: the switch to protected mode. */
	STEP(2)
	lgdtl AT(gdt_pointer)
	mov %cr0, %eax
	or $1, %al
	mov %eax, %cr0
	ljmpl $0x08, $AT(protected)
bad16:
	out %al, $PORT_BAD
	hlt

	.code32
protected:
	mov $0x10, %ax
	mov %ax, %ds
	mov %ax, %es
	mov %ax, %ss
	mov $STACK, %esp

	/* 3: PAE paging and long mode. */
	STEP(3)
	mov %cr4, %eax
	or $0x620, %eax             /* PAE, OSFXSR, OSXMMEXCPT */
	mov %eax, %cr4
	mov $TABLES, %eax
	mov %eax, %cr3
	mov $MSR_EFER, %ecx
	rdmsr
	or $0x901, %eax             /* NXE, LME, SCE */
	wrmsr
	mov %cr0, %eax
	or $0x80010022, %eax        /* PG, WP, NE, MP */
	mov %eax, %cr0
	ljmp $0x18, $AT(long_mode)

	.code64
long_mode:
	/* 4: tables of the kernel's own: IDT, TSS, per-CPU base. */
	STEP(4)
	call fill_idt
	lidt AT(idt_pointer)
	mov $0x38, %ax
	ltr %ax
	mov $MSR_GS_BASE, %ecx
	mov $0x11223344, %eax
	mov $0xffff8000, %edx
	wrmsr
	swapgs
	swapgs
	rdmsr
	cmp $0x11223344, %eax
	jne bad

	/* 5: what half-working engines lack. */
	STEP(5)
	xor %eax, %eax
	xor %edx, %edx
	mov $5, %ebx
	mov $6, %ecx
	lock cmpxchg16b AT(scratch)
	jnz bad
	cmpq $6, AT(scratch) + 8
	jne bad
	lock cmpxchg16b AT(scratch) /* now it differs */
	jz bad
	cmp $5, %rax
	jne bad

	/* 6: a page fault, handled, with the right address. */
	STEP(6)
	lea 1f(%rip), %r15          /* where the handler returns to */
	mov $UNMAPPED, %ebx
	mov (%rbx), %rax
	jmp bad
1:	mov %cr2, %rax
	cmp %rbx, %rax
	jne bad

	/* 7: control of translations. */
	STEP(7)
	mov %cr3, %rax
	mov %rax, %cr3
	invlpg (%rbx)
	mov %cr4, %rax
	mov %rax, %rcx
	or $0x80, %rax              /* PGE */
	mov %rax, %cr4
	mov %rcx, %cr4
	wbinvd

	/* 8: vector registers in ring 0. */
	STEP(8)
	clts
	movq %rsp, %xmm1
	paddq %xmm1, %xmm1
	fxsave AT(fx_area)
	pxor %xmm1, %xmm1
	fxrstor AT(fx_area)
	movq %xmm1, %rax
	mov %rsp, %rcx
	add %rcx, %rcx
	cmp %rax, %rcx
	jne bad

	/* 9: to ring 3 by IRETQ, back by SYSCALL, again by SYSRET, back by an interrupt. */
	STEP(9)
	mov $MSR_STAR, %ecx
	xor %eax, %eax
	mov $0x00200018, %edx       /* SYSRET: 0x20 and up; SYSCALL: 0x18 and up */
	wrmsr
	mov $MSR_LSTAR, %ecx
	lea on_syscall(%rip), %rax
	mov %rax, %rdx
	shr $32, %rdx
	wrmsr
	mov $MSR_FMASK, %ecx
	mov $0x200, %eax
	xor %edx, %edx
	wrmsr
	pushq $0x2b                 /* ss, rsp, rflags, cs, rip */
	pushq $STACK - 0x800
	pushq $2
	pushq $0x33
	lea user(%rip), %rax
	push %rax
	iretq

user:
	mov $7, %ebx
	syscall
	cmp $8, %ebx
	jne 1f
	int $0x20                   /* to on_interrupt */
1:	ud2

on_syscall:
	cmp $7, %ebx
	jne bad
	inc %ebx
	sysretq

on_interrupt:
	mov %cs, %ax
	test $3, %al
	jnz bad
	mov 8(%rsp), %rax           /* the cs that was interrupted */
	cmp $0x33, %rax
	jne bad

	/* 10: speed. Four instructions a turn; rcx counts down, rdx is the number of turns. */
	STEP(10)
	mov $PROBE_TURNS, %edx
	mov %rdx, %rcx
	xor %eax, %eax
	.balign 16, 0x90            /* this is data to the assembler: it would pad with 0 */
1:	add %rcx, %rax
	xor %rdx, %rax
	dec %rcx
	jnz 1b
	STEP(11)
	hlt

bad:
	out %al, $PORT_BAD
	hlt

/* Gates 0 to 31 lead to stubs, 14 to the handler, 0x20 is open to ring 3. */
fill_idt:
	mov $AT(idt), %edi
	mov $AT(stubs), %eax
	mov $32, %ecx
1:	call set_gate
	add $8, %eax
	dec %ecx
	jnz 1b
	lea on_interrupt(%rip), %rax
	call set_gate
	movb $0xee, AT(idt) + 0x20 * 16 + 5
	mov $AT(idt) + 14 * 16, %edi
	lea on_page_fault(%rip), %rax
	call set_gate
	ret

/* Of the handler in eax, at rdi, which moves on. */
set_gate:
	mov %ax, (%rdi)
	movw $0x18, 2(%rdi)
	movw $0x8e00, 4(%rdi)       /* present, interrupt gate */
	movw $0, 6(%rdi)
	movq $0, 8(%rdi)
	add $16, %rdi
	ret

on_page_fault:
	add $8, %rsp                /* the error code */
	test %r15, %r15
	jz 1f
	mov %r15, (%rsp)
	xor %r15d, %r15d
	iretq
1:	mov $14, %al
	out %al, $PORT_FAULT
	hlt

	.balign 8
stubs:
	.set vector, 0
	.rept 32
	.balign 8
	mov $vector, %al
	out %al, $PORT_FAULT
	hlt
	.set vector, vector + 1
	.endr

	.balign 16
scratch:
	.quad 0, 0

gdt:
	.quad 0
	.quad 0x00cf9b000000ffff    /* 08: code, 32 bits */
	.quad 0x00cf93000000ffff    /* 10: data */
	.quad 0x00af9b000000ffff    /* 18: code, 64 bits */
	.quad 0x00cf93000000ffff    /* 20: data, as SYSCALL wants it behind the code */
	.quad 0x00cff3000000ffff    /* 28: data of ring 3 */
	.quad 0x00affb000000ffff    /* 30: code of ring 3, 64 bits */
	.word 0x67, AT(tss)         /* 38: TSS */
	.byte 0, 0x89, 0, 0
	.quad 0
gdt_pointer:
	.word . - gdt - 1
	.long AT(gdt)

idt_pointer:
	.word 0x21 * 16 - 1
	.quad AT(idt)

	.balign 16
tss:
	.long 0
	.quad STACK                 /* rsp of ring 0 */
	.fill 0x68 - 12, 1, 0

	.balign 16
fx_area:
	.fill 512, 1, 0
probe_guest_end:

/* Not loaded from here, only placed: the guest builds its IDT behind its end. */
	.set idt, probe_guest + 0x1000

	.section .note.GNU-stack, "", @progbits

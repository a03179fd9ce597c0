/* SPDX-License-Identifier: MIT */
/*
 * A 32-bit guest without a kernel, for the saving and restoring of what Linux has no more: paging in protected
 * mode, with PAE's tables (built with -DPAE) or without, the old interrupt controllers and the timer chip.
 *
 *	 1 MiB   this, entered by PVH            3 MiB   page tables
 *	 4 MiB   256 pages for the window        1 GiB   the window of 1 MiB, not there until it is touched
 *
 * ROUNDS times: the window is taken away; REP STOS fills one half, REP MOVS copies it, so each of its pages is a
 * fault in the middle of a REP; a hash goes over all of it and is printed. A thousand interrupts a
 * second come between. The hash and the number of faults are always the same.
 */
#define ROUNDS 120
#define WINDOW 0x40000000
#define POOL   0x400000
#define PAGES  256
#define TABLES 0x300000

#ifdef PAE
#define TOP     (TABLES)          /* four entries */
#define DIR0    (TABLES + 0x1000) /* 0 to 1 GiB: two pages of 2 MiB each */
#define DIR1    (TABLES + 0x2000) /* 1 GiB and more */
#define LEAVES  (TABLES + 0x3000) /* of the window */
#define ENTRY   8
#define CR4     0x30 /* PSE, PAE */
#else
#define TOP     (TABLES)
#define LEAVES  (TABLES + 0x3000)
#define ENTRY   4
#define CR4     0x10
#endif

	.section .note.pvh, "a", @note
	.long 4, 4, 18
	.asciz "Xen"
	.long start

	.text
	.code32
	.globl start
start:
	cli
	cld
	mov $stack_end, %esp
	lgdt gdt_pointer
	ljmp $8, $1f
1:	mov $16, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss

	/* Interrupts: 14 is the page fault, 0x20 the timer. */
	mov $idt + 14 * 8, %edi
	mov $on_fault, %eax
	call put_gate
	mov $idt + 0x20 * 8, %edi
	mov $on_tick, %eax
	call put_gate
	lidt idt_pointer
	mov $pic_setup, %esi
2:	movzbl (%esi), %edx
	test %edx, %edx
	jz 3f
	mov 1(%esi), %al
	out %al, %dx
	add $2, %esi
	jmp 2b

	/* Tables; the first 8 MiB are what they are. */
3:	mov $TABLES, %edi
	xor %eax, %eax
	mov $0x4000 / 4, %ecx
	rep stosl
#ifdef PAE
	movl $DIR0 + 1, TOP
	movl $DIR1 + 1, TOP + 8
	movl $0x83, DIR0
	movl $0x200083, DIR0 + 8
	movl $0x400083, DIR0 + 16
	movl $0x600083, DIR0 + 24
	movl $LEAVES + 3, DIR1
#else
	movl $0x83, TOP
	movl $0x400083, TOP + 4
	movl $LEAVES + 3, TOP + (WINDOW >> 22) * 4
#endif
	mov $CR4, %eax
	mov %eax, %cr4
	mov $TOP, %eax
	mov %eax, %cr3
	mov %cr0, %eax
	or $0x80010000, %eax /* PG, WP */
	mov %eax, %cr0
	sti

	/* ebx is the hash, ebp counts. */
	mov $0x12345678, %ebx
	mov $ROUNDS, %ebp
round:
	mov $LEAVES, %edi
	xor %eax, %eax
	mov $PAGES * ENTRY / 4, %ecx
	rep stosl
	mov %cr3, %eax
	mov %eax, %cr3
	mov $WINDOW, %edi
	mov %ebx, %eax
	mov $PAGES * 4096 / 8, %ecx
	rep stosl
	mov $WINDOW, %esi
	mov $PAGES * 4096 / 2, %ecx
	rep movsb
	mov $WINDOW, %esi
	mov $PAGES * 4096 / 4, %ecx
hash:	lodsl
	xor %eax, %ebx
	imul $0x9e3779b1, %ebx
	rol $13, %ebx
	dec %ecx
	jnz hash
	call print
	dec %ebp
	jnz round

	mov $faults_text, %esi
	call say
	mov faults, %ebx
	call print
	mov $ticks_text, %esi
	call say
	cmpl $0, ticks
	setne %bl
	movzbl %bl, %ebx
	call print
	mov $0x604, %edx /* SLP_EN to PM1 control */
	mov $0x3400, %eax
	out %ax, %dx
4:	hlt
	jmp 4b

/* A 32-bit interrupt gate at edi, to eax. */
put_gate:
	mov %ax, (%edi)
	movw $8, 2(%edi)
	movw $0x8e00, 4(%edi)
	shr $16, %eax
	mov %ax, 6(%edi)
	ret

on_fault:
	push %eax
	push %ecx
	mov %cr2, %eax
	sub $WINDOW, %eax
	shr $12, %eax
	mov %eax, %ecx
	shl $12, %eax
	add $POOL + 3, %eax
	mov %eax, LEAVES(, %ecx, ENTRY)
	incl faults
	pop %ecx
	pop %eax
	add $4, %esp
	iret

on_tick:
	push %eax
	incl ticks
	mov $0x20, %al
	out %al, $0x20
	pop %eax
	iret

/* A byte in al. */
put:
	push %edx
	push %eax
	mov $0x3fd, %edx
5:	in %dx, %al
	test $0x20, %al
	jz 5b
	pop %eax
	mov $0x3f8, %edx
	out %al, %dx
	pop %edx
	ret

/* The text at esi. */
say:
	lodsb
	test %al, %al
	jz 6f
	call put
	jmp say
6:	ret

/* ebx, and a new line. */
print:
	mov $8, %ecx
7:	rol $4, %ebx
	mov %ebx, %eax
	and $15, %eax
	mov digits(%eax), %al
	call put
	dec %ecx
	jnz 7b
	mov $10, %al
	jmp put

digits:	.ascii "0123456789abcdef"
faults_text: .asciz "faults "
ticks_text: .asciz "ticks "

/* Ports and bytes: the two controllers at 0x20 and 0x28, all masked but the timer; the timer at 1 kHz. */
pic_setup:
	.byte 0x20, 0x11, 0xa0, 0x11, 0x21, 0x20, 0xa1, 0x28, 0x21, 4, 0xa1, 2, 0x21, 1, 0xa1, 1
	.byte 0x21, 0xfe, 0xa1, 0xff, 0x43, 0x34, 0x40, 0xa9, 0x40, 4, 0, 0

	.balign 8
gdt:	.quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
gdt_pointer:
	.word 23
	.long gdt
idt_pointer:
	.word 0x21 * 8 - 1
	.long idt
ticks:	.long 0
faults:	.long 0
	.balign 8
idt:	.fill 0x21 * 8
	.fill 1024
stack_end:
	.section .note.GNU-stack, "", @progbits

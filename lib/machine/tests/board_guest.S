/* SPDX-License-Identifier: MIT */
/*
 * A guest for board_test.c: entered by PVH at 1 MiB, it does what the first letter of its
 * command line says, and speaks on the serial port.
 *
 *	o   power-off through the ACPI block        r   reset through port 0xcf9
 *	t   triple fault                            h   halts for good
 *	e   echoes the serial port until 'q', then power-off
 *	a   wakes CPU 1 by INIT and SIPI, which says 'A' in real mode, then power-off
 *	i   takes three interrupts of the timer chip through the IOAPIC, then power-off
 *
 * It begins with "lodge\n" if the start info is sane, else with "bad\n".
 */
#define BASE 0x100000
#define AT(label) (BASE + (label) - board_guest)

#define COM1   0x3f8
#define PM1CNT 0x604
#define LAPIC  0xfee00000
#define IOAPIC 0xfec00000
#define AP_AT  0x8000

	.section .rodata
	.globl board_guest, board_guest_end
	.balign 16
	.code32
board_guest:
	mov $0x9000, %esp
	lgdtl AT(gdt_pointer)
	ljmp $0x08, $AT(1f)
1:	mov $0x10, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	mov $AT(bad), %esi
	cmpl $0x336ec578, (%ebx)
	jne 1f
	mov 32(%ebx), %eax          /* the RSDP */
	cmpl $0x20445352, (%eax)    /* "RSD " */
	jne 1f
	mov $AT(good), %esi
1:	call print
	mov 24(%ebx), %edi          /* the command line */
	mov (%edi), %al
	cmp $'o', %al
	je power_off
	cmp $'r', %al
	je reset
	cmp $'t', %al
	je triple_fault
	cmp $'h', %al
	je halt
	cmp $'e', %al
	je echo
	cmp $'a', %al
	je wake
	cmp $'i', %al
	je ticks
	jmp power_off

print:
	lodsb
	test %al, %al
	jz 1f
	call put
	jmp print
1:	ret

put:
	push %eax
	mov $COM1 + 5, %edx
1:	in (%dx), %al
	test $0x20, %al             /* transmitter empty */
	jz 1b
	pop %eax
	mov $COM1, %edx
	out %al, (%dx)
	ret

power_off:
	mov $PM1CNT, %edx
	mov $0x3400, %eax           /* SLP_TYP 5, SLP_EN */
	out %ax, (%dx)
halt:
	cli
	hlt
	jmp halt

reset:
	mov $0xcf9, %edx
	mov $0x0e, %al
	out %al, (%dx)
	jmp halt

triple_fault:
	lidtl AT(no_idt)
	ud2

echo:
	mov $COM1 + 5, %edx
	in (%dx), %al
	test $1, %al
	jz echo
	mov $COM1, %edx
	in (%dx), %al
	cmp $'q', %al
	je power_off
	call put
	jmp echo

wake:
	mov $AT(ap), %esi
	mov $AP_AT, %edi
	mov $ap_end - ap, %ecx
	rep movsb
	mov $LAPIC, %ebx
	movl $0x1ff, 0xf0(%ebx)     /* APIC on */
	movl $1 << 24, 0x310(%ebx)
	movl $0x4500, 0x300(%ebx)   /* INIT */
	call pause
	movl $1 << 24, 0x310(%ebx)
	movl $0x4600 | AP_AT >> 12, 0x300(%ebx)
	call pause
1:	cmpb $0xaa, AP_AT - 1
	jne 1b
	jmp power_off

pause:
	mov $20000, %ecx
1:	dec %ecx
	jnz 1b
	ret

ticks:
	mov $AT(idt) + 0x30 * 8, %edi
	mov $AT(on_tick), %eax
	mov %ax, (%edi)
	movw $0x08, 2(%edi)
	movw $0x8e00, 4(%edi)
	shr $16, %eax
	mov %ax, 6(%edi)
	lidtl AT(idt_pointer)
	mov $0xff, %al              /* the PICs are not asked */
	out %al, $0x21
	out %al, $0xa1
	mov $LAPIC, %ebx
	movl $0x1ff, 0xf0(%ebx)
	mov $IOAPIC, %ebp
	movl $0x14, (%ebp)          /* input 2: where MADT says the timer is */
	movl $0x30, 0x10(%ebp)      /* vector 0x30, edge, to APIC 0 */
	movl $0x15, (%ebp)
	movl $0, 0x10(%ebp)
	mov $0x34, %al              /* channel 0, rate generator, about 1 kHz */
	out %al, $0x43
	mov $0xa9, %al
	out %al, $0x40
	mov $0x04, %al
	out %al, $0x40
	xor %esi, %esi
	sti
1:	hlt
	jmp 1b

on_tick:
	inc %esi
	mov $'T', %al
	call put
	cmp $3, %esi                /* here, where no fourth can come in between */
	je power_off
	movl $0, 0xb0(%ebx)         /* EOI */
	pop %eax                    /* an IRET by hand: the KVMs that emulate ring 0 */
	add $8, %esp                /* do not know it in protected mode */
	sti
	jmp *%eax

	.code16
ap:
	mov $0x3f8, %dx
	mov $'A', %al
	out %al, (%dx)
	xor %ax, %ax
	mov %ax, %ds
	movb $0xaa, AP_AT - 1
1:	hlt
	jmp 1b
ap_end:

good:	.asciz "lodge\n"
bad:	.asciz "bad\n"

	.balign 8
gdt:
	.quad 0
	.quad 0x00cf9b000000ffff
	.quad 0x00cf93000000ffff
gdt_pointer:
	.word . - gdt - 1
	.long AT(gdt)
no_idt:
	.word 0
	.long 0
idt_pointer:
	.word 0x31 * 8 - 1
	.long AT(idt)
board_guest_end:
	.set idt, board_guest + 0x2000

	.section .note.GNU-stack, "", @progbits

/* SPDX-License-Identifier: MIT */
/*
 * What cpu_guest_test.c runs, in long mode at 0x1000: instructions that a CPU feature permits,
 * tried one after the other. For each a byte goes to port 0x11: 0, or the exception's vector. The
 * end is a byte to another port.
 */
#define BASE  0x1000
#define IDT   0x4000
#define STACK 0x8000
#define AT(label) (BASE + (label) - cpu_guest)

/* One that faults goes on behind itself. */
#define TRY(...)                        \
	lea 9f(%rip), %rbx;             \
	__VA_ARGS__;                    \
	xor %eax, %eax;                 \
	out %al, $0x11;                 \
9:

/* Sets a bit of CR4, and keeps it. */
#define SET_CR4(bit) mov %cr4, %rax; or $(bit), %rax; mov %rax, %cr4

#define GATE(vector, label)                             \
	movw $AT(label), IDT + (vector) * 16;           \
	movw $0x18, IDT + (vector) * 16 + 2;            \
	movw $0x8e00, IDT + (vector) * 16 + 4

	.text
	.balign 16
	.globl cpu_guest, cpu_guest_end
cpu_guest:
	movw $0xfff, IDT - 16
	movq $IDT, IDT - 14
	lidt IDT - 16
	GATE(6, 6f)
	GATE(13, 13f)
	SET_CR4(0x600)				/* OSFXSR, OSXMMEXCPT */
	mov $0x6000, %edi

	TRY(SET_CR4(1 << 16))			/* FSGSBASE */
	TRY(wrfsbase %rdi)
	TRY(rdgsbase %rsi)
	TRY(SET_CR4(1 << 18))			/* OSXSAVE */
	TRY(xor %ecx, %ecx; xgetbv)
	TRY(mov $3, %eax; xor %edx, %edx; xsave (%rdi))
	TRY(mov $3, %eax; xor %edx, %edx; xsaveopt (%rdi))
	TRY(mov $3, %eax; xor %edx, %edx; xsavec (%rdi))
	TRY(xor %ecx, %ecx; xor %edx, %edx; mov $7, %eax; xsetbv)
	TRY(vxorps %xmm0, %xmm0, %xmm0)
	TRY(vxorps %ymm0, %ymm0, %ymm0)
	TRY(xor %ecx, %ecx; xor %edx, %edx; mov $0xe7, %eax; xsetbv)
	TRY(vpxord %zmm0, %zmm0, %zmm0)
	TRY(SET_CR4(1 << 17))			/* PCIDE */
	TRY(xor %eax, %eax; invpcid (%rdi), %rax)
	TRY(SET_CR4(1 << 11))			/* UMIP */
	TRY(mov $0xc0000080, %ecx; rdmsr; bts $0, %eax; wrmsr) /* EFER.SCE */
	TRY(mov $0x6e0, %ecx; xor %eax, %eax; xor %edx, %edx; wrmsr) /* TSC_DEADLINE */
	TRY(mov $0x3b, %ecx; rdmsr)		/* TSC_ADJUST */

	/* What nothing but CPUID speaks of. */
	TRY(andn %rsi, %rdi, %rdx)		/* BMI1 */
	TRY(blsr %rsi, %rdx)
	TRY(bextr %rsi, %rdi, %rdx)
	TRY(shlx %rsi, %rdi, %rdx)		/* BMI2 */
	TRY(rorx $3, %rdi, %rdx)
	TRY(popcnt %rdi, %rdx)
	TRY(movbe (%rdi), %edx)
	TRY(lahf)
	TRY(xor %eax, %eax; cmpxchg16b (%rdi))
	TRY(rdtscp)
	TRY(addsubps %xmm0, %xmm1)		/* SSE3 */
	TRY(pshufb (%rdi), %xmm1)		/* SSSE3 */
	TRY(pminuw %xmm0, %xmm1)		/* SSE4.1 */
	TRY(crc32 %esi, %edx)			/* SSE4.2 */
	TRY(aesenc %xmm0, %xmm1)
	TRY(clflushopt (%rdi))
	TRY(vpaddd %ymm0, %ymm0, %ymm0)		/* AVX2 */
	TRY(vfmadd132ps %xmm0, %xmm0, %xmm0)	/* FMA */
	TRY(bsf %rdi, %rdx; rep; bsf %rdi, %rdx) /* TZCNT, or BSF: never undefined */
	out %al, $0x12				/* the end */
	hlt

6:	mov $6, %al
	jmp 1f
13:	mov $13, %al
1:	out %al, $0x11
	mov $STACK, %esp
	jmp *%rbx
cpu_guest_end:

	.section .note.GNU-stack, "", @progbits

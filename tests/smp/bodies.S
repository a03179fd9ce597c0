/* SPDX-License-Identifier: MIT */
/*
 * Bodies of loops for atomics_test.c, one a size where there are sizes; below for litmus_test.c.
 *
 *	rdi  the operand         r8   what is counted: see the test's table
 *	r9   1 << CPU number     r10  CPU number
 *	r11  another counter     rax, rbx, rcx, rdx, rsi are free
 */
	.section .rodata

	.macro body name, size
	.globl	body_\name\()_\size, body_\name\()_\size\()_end
body_\name\()_\size:
	.endm

	.macro done name, size
body_\name\()_\size\()_end:
	.endm

	/* An arithmetic operation that is over: how often was the result 0? */
	.macro zeros
	setz	%al
	movzbl	%al, %eax
	add	%rax, %r8
	.endm

	/* CF is not as it should be: an error. */
	.macro carry_is want
	setc	%al
	xor	$\want, %al
	movzbl	%al, %eax
	add	%rax, %r8
	.endm

	.macro arithmetic n, s, a, d, m
	body	add, \n
	lock add\s $1, (%rdi)
	zeros
	done	add, \n
	body	add_reg, \n
	mov	$1, %ebx
	lock add \d, (%rdi)
	done	add_reg, \n
	body	inc, \n
	lock inc\s (%rdi)
	zeros
	done	inc, \n
	body	adc, \n
	stc
	lock adc\s $0, (%rdi)
	zeros
	done	adc, \n
	body	sub, \n
	lock sub\s $1, (%rdi)
	zeros
	done	sub, \n
	body	dec, \n
	lock dec\s (%rdi)
	zeros
	done	dec, \n
	body	sbb, \n
	stc
	lock sbb\s $0, (%rdi)
	zeros
	done	sbb, \n
	body	not, \n
	lock not\s (%rdi)
	done	not, \n
	body	neg, \n
	lock neg\s (%rdi)
	done	neg, \n

	/* Everybody has a bit; nobody else may change it. */
	body	or_and, \n
	lock or	\m, (%rdi)
	mov	(%rdi), \a
	test	\m, \a
	zeros
	mov	%r9, %rax
	not	%rax
	lock and \a, (%rdi)
	mov	(%rdi), \a
	and	%r9, %rax
	neg	%rax
	carry_is 0
	done	or_and, \n
	body	xor, \n
	lock xor \m, (%rdi)
	mov	(%rdi), \a
	test	\m, \a
	zeros
	lock xor \m, (%rdi)
	mov	(%rdi), \a
	and	%r9, %rax
	neg	%rax
	carry_is 0
	done	xor, \n

	body	xadd, \n
	mov	$1, %eax
	lock xadd \a, (%rdi)
	add	%rax, %r8
	done	xadd, \n
	body	cmpxchg, \n
	xor	%eax, %eax
	mov	(%rdi), \a
1:	lea	1(%rax), %ebx
	.if \n == 8
	lea	1(%rax), %rbx
	.endif
	lock cmpxchg \d, (%rdi)
	jnz	1b
	done	cmpxchg, \n

	/* A token that is taken to where another one was. */
	body	xchg, \n
	mov	%r8, %rax
	xchg	\a, (%rdi)
	mov	%rax, %r8
	done	xchg, \n
	/* XCHG as a lock around an ordinary counter. */
	body	xchg_lock, \n
1:	mov	$1, %eax
	xchg	\a, (%rdi)
	test	\a, \a
	jz	2f
	pause
	jmp	1b
2:	incq	(%r11)
	mov	$0, %eax
	mov	\a, (%rdi)
	done	xchg_lock, \n
	.endm

	arithmetic 1, b, %al, %bl, %r9b
	arithmetic 2, w, %ax, %bx, %r9w
	arithmetic 4, l, %eax, %ebx, %r9d
	arithmetic 8, q, %rax, %rbx, %r9

	.macro bits n, s, r
	body	bts_btr, \n
	lock bts \r, (%rdi)
	carry_is 0
	lock btr \r, (%rdi)
	carry_is 1
	done	bts_btr, \n
	body	btc, \n
	lock btc \r, (%rdi)
	carry_is 0
	lock btc \r, (%rdi)
	carry_is 1
	done	btc, \n
	body	bts_lock, \n
1:	lock bts\s $5, (%rdi)
	jnc	2f
	pause
	jmp	1b
2:	incq	(%r11)
	lock btr\s $5, (%rdi)
	carry_is 1
	done	bts_lock, \n
	.endm

	bits 2, w, %r10w
	bits 4, l, %r10d
	bits 8, q, %r10

	/* Two halves, the higher three times the lower. */
	body	cmpxchg8b, 8
	mov	(%rdi), %eax
	mov	4(%rdi), %edx
	jmp	2f
1:	lea	(%rax,%rax,2), %ebx
	cmp	%ebx, %edx
	je	2f
	inc	%r8
2:	lea	1(%rax), %ebx
	lea	3(%rdx), %ecx
	lock cmpxchg8b (%rdi)
	jnz	1b
	done	cmpxchg8b, 8
	body	cmpxchg16b, 16
	mov	(%rdi), %rax
	mov	8(%rdi), %rdx
	jmp	2f
1:	lea	(%rax,%rax,2), %rbx
	cmp	%rbx, %rdx
	je	2f
	inc	%r8
2:	lea	1(%rax), %rbx
	lea	3(%rdx), %rcx
	lock cmpxchg16b (%rdi)
	jnz	1b
	done	cmpxchg16b, 16

	/* An ordinary store, and is it there? Against an XADD that changes nothing. */
	body	store, 8
	mov	%r15, (%rdi)
	mov	(%rdi), %rax
	cmp	%rax, %r15
	setne	%al
	movzbl	%al, %eax
	add	%rax, %r8
	done	store, 8
	body	add_nothing, 8
	xor	%eax, %eax
	lock xadd %rax, (%rdi)
	done	add_nothing, 8

	/*
	 * Litmus shapes for litmus_test.c. x is at rdi, y at rsi, results at rbx; each time around they
	 * move on by r10, r11 and 16 bytes, r9 is 1. Where a shape is run on and on, all stay.
	 */
	.macro shape name
	.globl	shape_\name, shape_\name\()_end
shape_\name:
	.endm
	.macro next name
	add	%r10, %rdi
	add	%r10, %rsi
	add	$16, %rbx
shape_\name\()_end:
	.endm

	shape	store_x
	mov	%r9, (%rdi)
	next	store_x
	shape	store_y
	mov	%r9, (%rsi)
	next	store_y
	shape	store_xy
	mov	%r9, (%rdi)
	mov	%r9, (%rsi)
	next	store_xy
	shape	store_x1y2
	movq	$1, (%rdi)
	movq	$2, (%rsi)
	next	store_x1y2
	shape	store_y1x2
	movq	$1, (%rsi)
	movq	$2, (%rdi)
	next	store_y1x2
	shape	load_xy
	mov	(%rdi), %rax
	mov	(%rsi), %rdx
	mov	%rax, (%rbx)
	mov	%rdx, 8(%rbx)
	next	load_xy
	shape	load_yx
	mov	(%rsi), %rdx
	mov	(%rdi), %rax
	mov	%rax, (%rbx)
	mov	%rdx, 8(%rbx)
	next	load_yx
	shape	load_x_store_y
	mov	(%rdi), %rax
	mov	%r9, (%rsi)
	mov	%rax, (%rbx)
	next	load_x_store_y
	shape	load_y_store_x
	mov	(%rsi), %rax
	mov	%r9, (%rdi)
	mov	%rax, (%rbx)
	next	load_y_store_x
	shape	store_x_load_y
	mov	%r9, (%rdi)
	mov	(%rsi), %rax
	mov	%rax, (%rbx)
	next	store_x_load_y
	shape	store_y_load_x
	mov	%r9, (%rsi)
	mov	(%rdi), %rax
	mov	%rax, (%rbx)
	next	store_y_load_x
	shape	store_x_fence_load_y
	mov	%r9, (%rdi)
	mfence
	mov	(%rsi), %rax
	mov	%rax, (%rbx)
	next	store_x_fence_load_y
	shape	store_y_fence_load_x
	mov	%r9, (%rsi)
	mfence
	mov	(%rdi), %rax
	mov	%rax, (%rbx)
	next	store_y_fence_load_x
	shape	xchg_x_load_y
	mov	%r9, %rcx
	xchg	%rcx, (%rdi)
	mov	(%rsi), %rax
	mov	%rax, (%rbx)
	next	xchg_x_load_y
	shape	xchg_y_load_x
	mov	%r9, %rcx
	xchg	%rcx, (%rsi)
	mov	(%rdi), %rax
	mov	%rax, (%rbx)
	next	xchg_y_load_x
	shape	load_xx
	mov	(%rdi), %rax
	mov	(%rdi), %rdx
	mov	%rax, (%rbx)
	mov	%rdx, 8(%rbx)
	next	load_xx

	.section .note.GNU-stack, "", @progbits

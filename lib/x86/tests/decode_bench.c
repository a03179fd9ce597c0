/* SPDX-License-Identifier: MIT */
/*
 * How fast is the decoder on real code?
 *
 *	decode_bench [ELF file [rounds]]      (/bin/bash, 20)
 *
 * Decodes the executable segments of a program from end to end, instruction after
 * instruction (an undefined one counts as one byte), and prints nanoseconds per
 * instruction, best round. Built with Zydis at hand, it times that as well: what it
 * needs to know an instruction's length and class (its first call), and to know its
 * operands too (both calls), which is the fair comparison: x86_decode() knows
 * registers, memory and flags.
 */
#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "x86/decode.h"
#ifdef HAVE_ZYDIS
#include <Zydis/Zydis.h>
#endif

struct code {
	const uint8_t *bytes;
	size_t len;
};

static volatile unsigned sink;

static uint8_t *read_file(const char *path, size_t *len)
{
	FILE *f = fopen(path, "rb");
	uint8_t *data = NULL;

	if (!f)
		return NULL;
	if (fseek(f, 0, SEEK_END) == 0 && (*len = ftell(f)) > 0) {
		rewind(f);
		data = malloc(*len);
		if (data && fread(data, 1, *len, f) != *len) {
			free(data);
			data = NULL;
		}
	}
	fclose(f);
	return data;
}

/* The .text section, which is code only; a segment has tables in it as well. */
static struct code find_text(const uint8_t *elf, size_t len)
{
	const Elf64_Ehdr *h = (const void *)elf;
	const Elf64_Shdr *s;
	const char *names;

	if (len < sizeof(*h) || memcmp(h->e_ident, ELFMAG, SELFMAG))
		return (struct code){elf, len};
	if (h->e_shoff + h->e_shnum * sizeof(*s) > len || h->e_shstrndx >= h->e_shnum)
		return (struct code){elf, len};
	s = (const void *)(elf + h->e_shoff);
	names = (const char *)elf + s[h->e_shstrndx].sh_offset;
	for (int i = 0; i < h->e_shnum; i++)
		if (!strcmp(names + s[i].sh_name, ".text"))
			return (struct code){elf + s[i].sh_offset, s[i].sh_size};
	return (struct code){elf, len};
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e9 + t.tv_nsec;
}

static unsigned long run_ours(struct code c)
{
	unsigned long n = 0;
	struct insn in;

	for (size_t at = 0; at < c.len; n++) {
		int rc = x86_decode(&in, c.bytes + at, c.len - at, X86_MODE_64);

		sink = in.kind;
		at += rc > 0 && in.kind != X86_UD ? rc : 1;
	}
	return n;
}

#ifdef HAVE_ZYDIS
static ZydisDecoder zydis;

static unsigned long run_zydis(struct code c, bool operands)
{
	ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];
	ZydisDecodedInstruction in;
	ZydisDecoderContext context;
	unsigned long n = 0;

	for (size_t at = 0; at < c.len; n++) {
		if (!ZYAN_SUCCESS(ZydisDecoderDecodeInstruction(
			    &zydis, &context, c.bytes + at, c.len - at, &in))) {
			at++;
			continue;
		}
		if (operands)
			ZydisDecoderDecodeOperands(&zydis, &context, &in, ops,
						   in.operand_count);
		sink = in.mnemonic;
		at += in.length;
	}
	return n;
}

static unsigned long run_zydis_short(struct code c)
{
	return run_zydis(c, false);
}

static unsigned long run_zydis_full(struct code c)
{
	return run_zydis(c, true);
}
#endif

enum { PIECE = 16 << 10 };

/* The code in pieces, each as fast as it once was: other programs run on this machine. */
static void measure(const char *name, unsigned long (*run)(struct code), struct code c,
		    int rounds)
{
	unsigned long total = 0;
	double took = 0;

	for (size_t at = 0; at < c.len; at += PIECE) {
		struct code piece = {c.bytes + at,
				     c.len - at < PIECE ? c.len - at : PIECE};
		double best = 1e18;
		unsigned long n = 0;

		for (int i = 0; i < rounds; i++) {
			double start = now(), t;

			n = run(piece);
			t = now() - start;
			if (t < best)
				best = t;
		}
		total += n;
		took += best;
	}
	printf("%-26s %9lu instructions  %6.1f ns each\n", name, total, took / total);
}

int main(int argc, char **argv)
{
	const char *path = argc > 1 ? argv[1] : "/bin/bash";
	int rounds = argc > 2 ? atoi(argv[2]) : 20;
	size_t len;
	uint8_t *elf = read_file(path, &len);
	struct code c;

	if (!elf) {
		fprintf(stderr, "decode_bench: cannot read %s\n", path);
		return 1;
	}
	c = find_text(elf, len);
	measure("x86_decode", run_ours, c, rounds);
#ifdef HAVE_ZYDIS
	ZydisDecoderInit(&zydis, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	measure("Zydis without operands", run_zydis_short, c, rounds);
	measure("Zydis with operands", run_zydis_full, c, rounds);
#endif
	free(elf);
	return 0;
}

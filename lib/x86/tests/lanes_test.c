/* SPDX-License-Identifier: MIT */
/*
 * Memory under a mask: every row of the opcode table that a mask may be given to, in each of its
 * memory forms. No instruction is executed, so it does not matter which this CPU has.
 *
 *	the elements fill the operand; a bit of the mask for each, or for each copy
 *	with EVEX.b     one element, of the same size, for the same bits
 *	disp8           counts in elements if they are packed, else in operands
 *
 * And Zydis, where it is there, must say the same of the size and number of elements, of the
 * operand, and of whether faults are suppressed: the manual's exception types E4NF and others.
 */
#include "tests/tap.h"
#include "x86/tests/forms.h"

#ifdef HAVE_ZYDIS
#include <Zydis/Zydis.h>
#endif

enum { ROWS_MAX = 4096 };

static bool seen[ROWS_MAX];
static unsigned n_forms, n_wrong, n_compared;

static void wrong(const struct insn *in, const char *what, unsigned is, unsigned should)
{
	if (++n_wrong <= 20)
		note("%s %s, vl %u, W%u, %s: %u, not %u", in->enc == X86_VEX ? "VEX" : "EVEX",
		     x86_insn_name(in), in->vl, in->rex >> 3 & 1, what, is, should);
}

static void want(const struct insn *in, const char *what, unsigned is, unsigned should)
{
	if (is != should)
		wrong(in, what, is, should);
}

/* -- Zydis ------------------------------------------------------------------------- */

#ifdef HAVE_ZYDIS
static bool is_nf(ZydisExceptionClass class)
{
	return class == ZYDIS_EXCEPTION_CLASS_E1NF || class == ZYDIS_EXCEPTION_CLASS_E2NF ||
	       class == ZYDIS_EXCEPTION_CLASS_E3NF || class == ZYDIS_EXCEPTION_CLASS_E4NF ||
	       class == ZYDIS_EXCEPTION_CLASS_E5NF || class == ZYDIS_EXCEPTION_CLASS_E6NF ||
	       class == ZYDIS_EXCEPTION_CLASS_E9NF;
}

/* The manual gives these type E4NF, and so does a Zen 5; Zydis 4.0 says E4. */
static bool is_forgotten(ZydisMnemonic insn)
{
	return insn == ZYDIS_MNEMONIC_VCVTNE2PS2BF16 || insn == ZYDIS_MNEMONIC_VDBPSADBW ||
	       insn == ZYDIS_MNEMONIC_VGF2P8AFFINEQB ||
	       insn == ZYDIS_MNEMONIC_VGF2P8AFFINEINVQB;
}

static void compare(const uint8_t *bytes, const struct insn *in, const struct x86_lanes *l)
{
	ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT], *m = NULL;
	ZydisDecodedInstruction z;
	ZydisDecoder decoder;

	ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, bytes, in->len, &z, op)))
		return; /* zydis_test asks whether it is undefined */
	for (unsigned i = 0; i < z.operand_count; i++)
		if (op[i].type == ZYDIS_OPERAND_TYPE_MEMORY)
			m = &op[i];
	if (!m)
		return;
	n_compared++;
	want(in, "bytes (Zydis)", in->mem_size, m->size / 8);
	want(in, "disp8 (Zydis)", (unsigned)in->disp, (unsigned)m->mem.disp.value);
	if (in->enc == X86_EVEX)
		want(in, "faults as a whole (Zydis)",
		     l->masking == X86_WHOLE || l->masking == X86_STRICT,
		     is_nf(z.meta.exception_class) || is_forgotten(z.mnemonic));
	if (l->masking == X86_WHOLE)
		return;
	want(in, "element's bytes (Zydis)", l->bytes, m->element_size / 8);
	want(in, "elements (Zydis)", l->n, m->element_count);
}
#else
static void compare(const uint8_t *bytes, const struct insn *in, const struct x86_lanes *l)
{
	(void)bytes, (void)in, (void)l;
}
#endif

/* -- Forms ------------------------------------------------------------------------- */

/* Of EVEX it counts in elements where they are packed, else in operands. */
static unsigned disp8_unit(const struct insn *in, const struct x86_lanes *l)
{
	if (in->enc == X86_VEX)
		return 1;
	return l->masking == X86_PACKED ? l->bytes : in->mem_size;
}

static void check_broadcast(const struct insn *in, const struct x86_lanes *l,
			    const struct x86_lanes *plain)
{
	want(in, "masking of a broadcast", l->masking, plain->masking);
	if (l->masking == X86_WHOLE)
		return;
	want(in, "element of a broadcast", l->bytes, plain->bytes);
	want(in, "elements of a broadcast", l->n, 1);
	want(in, "bits of a broadcast", l->bits, plain->bits);
}

static void check(const uint8_t bytes[FORM_LEN])
{
	static struct x86_lanes plain; /* of the form before */
	struct x86_lanes l = {0};
	struct insn insn, *in = &insn;

	if (x86_decode(in, bytes, FORM_LEN, X86_MODE_64) <= 0 || in->kind != X86_MASKED_MEM)
		return;
	n_forms++;
	seen[in->row] = true;
	x86_lanes(in, &l);
	want(in, "bytes of all elements", l.n * l.bytes, in->mem_size);
	want(in, "elements", l.n > 0 && l.n <= 64, true);
	if (l.masking != X86_WHOLE) {
		want(in, "an element of 1, 2, 4 or 8", !!(0x116 >> l.bytes & 1), true);
		want(in, "bits by elements", l.bits % l.n, 0);
	}
	want(in, "disp8", (unsigned)in->disp, disp8_unit(in, &l));
	if (in->enc == X86_EVEX && in->vex[2] & 0x10)
		check_broadcast(in, &l, &plain);
	else
		plain = l;
	compare(bytes, in, &l);
}

static bool is_masked(const struct oprow *row)
{
	uint64_t operands = row->operands;

	if ((row->effects >> OPE_KIND_AT & 255) == X86_MASKED_MEM)
		return true;
	return operands & OPF_K && !(operands & OPF_KREQ) && operands & (OPF_MEM_R | OPF_MEM_W);
}

static unsigned unseen(void)
{
	unsigned n = 0;

	for (unsigned i = 0; i < OP_INDEX_SIZE; i++) {
		if (seen[op_index[i]] || !is_masked(&op_rows[op_index[i]]))
			continue;
		note("%s was not seen", op_names[op_index[i]]);
		n++;
	}
	return n;
}

int main(void)
{
	forms(check);
	is_int(n_wrong, 0, "%u memory forms under a mask", n_forms);
	ok(n_forms > 1000, "of which there are many");
	is_int(unseen(), 0, "each row of the table was seen");
#ifdef HAVE_ZYDIS
	ok(n_compared > n_forms * 9 / 10, "Zydis knows %u of them", n_compared);
#else
	skip("no Zydis to compare with");
#endif
	return done_testing();
}

/* SPDX-License-Identifier: MIT */
/*
 * Any bytes through the decoder, in the mode that the first byte chooses.
 *
 * What must hold: the result is a length of 1 to 15 within the bytes, or an error; struct insn
 * does not contradict itself; the same bytes give the same again, whatever follows them; and a
 * shorter beginning is called one.
 */
#include "x86/decode.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool truth)
{
	if (!truth)
		abort();
}

static bool is_reg(uint8_t reg)
{
	return reg < 16 || reg == X86_REG_NONE;
}

static void check(const struct insn *in)
{
	must(in->kind < X86_KINDS && x86_kind_name(in->kind) && x86_insn_name(in));
	must(in->adsize == 2 || in->adsize == 4 || in->adsize == 8);
	must(in->opsize == 1 || in->opsize == 2 || in->opsize == 4 || in->opsize == 8);
	must(is_reg(in->index) && (is_reg(in->base) || in->base == X86_RIP));
	must(in->reg < 16 && in->rm < 16 && in->vvvv < 16 && is_reg(in->oreg));
	must(in->imm_at <= in->len && in->modrm_at < in->len);
	if (in->kind == X86_UD)
		return;
	must(!in->mem_size == !(in->mem_r || in->mem_w));
	must(!in->mem_size || in->has_mem);
	must(in->flags_touch || !in->flags_w);
	must(!(in->prefix & X86_PFX_LOCK) || (in->lockable && in->mem_w));
	must(in->imm_at + in->imm_len <= in->len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct insn whole, exact;
	enum x86_mode mode;
	uint8_t *copy;
	int rc;

	if (size < 2)
		return 0;
	mode = data[0] % 3;
	rc = x86_decode(&whole, data + 1, size - 1, mode);
	if (rc == -ENODATA)
		must(size - 1 < 15);
	if (rc <= 0) {
		must(rc == -ENODATA || rc == -E2BIG);
		return 0;
	}
	must(rc <= 15 && (size_t)rc <= size - 1 && rc == whole.len);
	check(&whole);

	/* In memory of its own, where the sanitizer sees a read too far. */
	copy = malloc(rc);
	must(copy != NULL);
	memcpy(copy, data + 1, rc);
	must(x86_decode(&exact, copy, rc, mode) == rc);
	must(exact.kind == whole.kind && exact.row == whole.row &&
	     exact.imm == whole.imm);
	if (rc > 1)
		must(x86_decode(&exact, copy, rc - 1, mode) == -ENODATA);
	free(copy);
	return 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * What the engine found of the host that it can do with, in words.
 */
#include "softkvm/os/words.h"
#include "softkvm/run/gsbase.h"
#include "softkvm/softkvm.h"
#include "softkvm/state/cpuid.h"
#include "softkvm/state/xsave.h"

void softkvm_ways(struct softkvm_ways *ways)
{
	static const char *const gs_names[] = {
		[GS_KEPT] = "kept", [GS_REPAIRED] = "repaired", [GS_UNUSED] = "unused"};
	struct words words;

	words_read(&words, false);
	ways->gs_base = gs_names[gs_choose(&words)];
	ways->page_number = host_has_bmi1() && !words.nobmi1 ? "bextr" : "shifts";
	ways->vectors = vec_has_xsave() ? "xsave" : "fxsave";
}

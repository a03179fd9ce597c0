/* SPDX-License-Identifier: MIT */
/* lodge balloon: how much of its memory a guest is to use. */
#include "lodge.h"

#include "base/err.h"
#include "base/json_read.h"
#include "base/size.h"
#include "client.h"
#include "failure.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

struct balloon {
	const char *operands[2];
};

static int balloon_main(void *parsed)
{
	const struct balloon *b = parsed;
	const char *size = b->operands[1] ? b->operands[1] : b->operands[0];
	struct json_value *answer;
	struct err err = {0};
	uint64_t memory = 0;
	char args[100];

	if (!size)
		err_set(&err, ERANGE, "how much memory it is to use is missing: lodge balloon [VM] SIZE");
	else if (size_parse(&memory, size, &err) < 0)
		err.code = ERANGE; /* usage */
	if (err.code)
		return report_failure(&err);
	snprintf(args, sizeof(args), "{\"value\": %llu}", (unsigned long long)memory);
	if (client_do(b->operands[1] ? b->operands[0] : NULL, "balloon", args, &answer, &err) < 0)
		return report_failure(&err);
	free(answer);
	return EXIT_OK;
}

const struct verb verb_balloon = {
	.name = "balloon",
	.summary = "say how much of its memory a guest is to use",
	.text = VM_TEXT "SIZE has a unit: 512M, 2G. The guest, started with --balloon, gives the rest back to the host, as far as it can;\n"
		"`lodge info` says how much that is.\n",
	.operand = "[VM] SIZE",
	.n_operands = 2,
	.size = sizeof(struct balloon),
	.main = balloon_main,
};

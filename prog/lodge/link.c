/* SPDX-License-Identifier: MIT */
/* lodge link: the cable of a guest's network card. */
#include "lodge.h"

#include "base/err.h"
#include "base/json_read.h"
#include "client.h"
#include "failure.h"
#include "qmp/names.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define ARGS(up) "{\"name\": \"" QMP_NET "\", \"up\": " up "}"

struct link {
	const char *operands[2];
};

static bool is_state(const char *word)
{
	return word && (strcmp(word, "up") == 0 || strcmp(word, "down") == 0);
}

static int link_main(void *parsed)
{
	const struct link *l = parsed;
	bool has_vm = l->operands[1];
	const char *state = l->operands[has_vm];
	struct json_value *answer;
	struct err err = {0};

	if (!is_state(state)) {
		err_set(&err, ERANGE, "a link is up or down, not '%s': lodge link [VM] up|down", state ? state : "");
		return report_failure(&err);
	}
	if (client_do(has_vm ? l->operands[0] : NULL, "set_link", strcmp(state, "up") == 0 ? ARGS("true") : ARGS("false"), &answer, &err) < 0)
		return report_failure(&err);
	free(answer);
	return EXIT_OK;
}

const struct verb verb_link = {
	.name = "link",
	.summary = "plug in the cable of a guest's network card, or pull it",
	.text = VM_TEXT "The guest sees its link go up or down; of what it sends meanwhile nothing arrives.\n",
	.operand = "[VM] up|down",
	.n_operands = 2,
	.size = sizeof(struct link),
	.main = link_main,
};

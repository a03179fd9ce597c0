/* SPDX-License-Identifier: MIT */
/* lodge send-key: presses keys of a guest's keyboard, together, and lets them go. */
#include "lodge.h"

#include "base/err.h"
#include "base/json_read.h"
#include "client.h"
#include "display/keys.h"
#include "failure.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

struct send_key {
	const char *operands[2];
};

/* By their numbers, which both sides have from the same table. */
static void write_keys(char *args, size_t room, const uint8_t *keys, int n)
{
	size_t len = (size_t)snprintf(args, room, "{\"keys\": [");

	for (int i = 0; i < n; i++)
		len += (size_t)snprintf(args + len, room - len, "%s{\"type\": \"number\", \"data\": %u}", i ? ", " : "", keys[i]);
	snprintf(args + len, room - len, "]}");
}

static int send_keys(const char *vm, const char *names, struct err *err)
{
	uint8_t keys[KEYS_AT_ONCE];
	struct json_value *answer = NULL;
	char args[64 + KEYS_AT_ONCE * 40];
	int rc = keys_parse(names, keys, err);

	if (rc < 0)
		return rc;
	write_keys(args, sizeof(args), keys, rc);
	rc = client_do(vm, "send-key", args, &answer, err);
	free(answer);
	return rc;
}

static int send_key_main(void *parsed)
{
	const struct send_key *s = parsed;
	const char *keys = s->operands[1] ? s->operands[1] : s->operands[0];
	struct err err = {0};
	int rc;

	if (keys)
		rc = send_keys(s->operands[1] ? s->operands[0] : NULL, keys, &err);
	else
		rc = err_set(&err, ERANGE, "the keys are missing: lodge send-key [VM] ctrl-alt-delete");
	return rc < 0 ? report_failure(&err) : EXIT_OK;
}

const struct verb verb_send_key = {
	.name = "send-key",
	.summary = "press keys of a guest's keyboard",
	.text = VM_TEXT
		"KEYS are pressed one after the other and let go together: ret, ctrl-alt-delete, shift-a. Their\n"
		"names are those that QEMU uses. The guest must have a screen.\n",
	.operand = "[VM] KEYS",
	.n_operands = 2,
	.size = sizeof(struct send_key),
	.main = send_key_main,
};

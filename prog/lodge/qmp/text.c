/* SPDX-License-Identifier: MIT */
/*
 * See text.h. An error says its class and a sentence, as QMP has them; x-lodge-kind beside them is one of failure.h's kinds, by which
 * lodge's verbs know how to end.
 */
#include "text.h"

#include "base/err.h"
#include "base/json.h"
#include "machine/migrate.h"
#include "names.h"
#include "prog/lodge/failure.h"
#include "request.h"
#include "serve.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static FILE *open_text(struct qmp_text *t)
{
	*t = (struct qmp_text){.bytes = NULL};
	return open_memstream(&t->bytes, &t->n);
}

static bool close_text(struct qmp_text *t, FILE *out)
{
	if (out && fclose(out) == 0)
		return true;
	free(t->bytes);
	t->bytes = NULL;
	return false;
}

static struct json writer(FILE *out)
{
	return (struct json){.out = out, .one_line = true, .end = "\r\n"};
}

bool qmp_text_greeting(struct qmp_text *t)
{
	FILE *out = open_text(t);
	struct json j = writer(out);

	if (!out)
		return false;
	json_open(&j, NULL, '{');
	json_open(&j, "QMP", '{');
	json_open(&j, "version", '{');
	qmp_write_version(&j);
	json_close(&j);
	json_open(&j, "capabilities", '[');
	json_close(&j);
	json_close(&j);
	json_close(&j);
	return close_text(t, out);
}

bool qmp_text_event(struct qmp_text *t, const char *name, const char *data)
{
	FILE *out = open_text(t);
	struct timespec now;

	if (!out)
		return false;
	clock_gettime(CLOCK_REALTIME, &now);
	fprintf(out, "{\"timestamp\": {\"seconds\": %lld, \"microseconds\": %ld}, \"event\": \"%s\"", (long long)now.tv_sec,
		now.tv_nsec / 1000, name);
	if (data)
		fprintf(out, ", \"data\": %s", data);
	fprintf(out, "}\r\n");
	return close_text(t, out);
}

/* -- Answers -------------------------------------------------------------------------------- */

static void end_answer(struct json *j, const struct json_value *id)
{
	if (id)
		json_copy(j, "id", id);
	json_close(j);
}

static void write_error(FILE *out, const struct json_value *id, const char *class, const struct err *err)
{
	struct json j = writer(out);

	json_open(&j, NULL, '{');
	json_open(&j, "error", '{');
	json_str(&j, "class", class);
	json_str(&j, "desc", err->text);
	json_str(&j, "x-lodge-kind", failure_kind(err->code));
	json_close(&j);
	end_answer(&j, id);
}

bool qmp_text_error(struct qmp_text *t, const struct json_value *id, const char *class, const struct err *err)
{
	FILE *out = open_text(t);

	if (out)
		write_error(out, id, class, err);
	return close_text(t, out);
}

bool qmp_text_serve(struct qmp_text *t, const struct qmp_request *r, struct call *call)
{
	FILE *out = open_text(t);
	struct json j = writer(out);
	struct err err = {0};

	if (!out)
		return false;
	call->answer = &j;
	json_open(&j, NULL, '{');
	if (qmp_serve(call, r->command, &err) == 0) {
		end_answer(&j, r->id);
	} else {
		rewind(out);
		write_error(out, r->id, call->class, &err);
	}
	call->answer = NULL;
	return close_text(t, out);
}

bool qmp_text_migrated(struct qmp_text *t, const struct json_value *id, const struct migration_facts *facts)
{
	FILE *out = open_text(t);
	struct json j = writer(out);

	if (!out)
		return false;
	json_open(&j, NULL, '{');
	json_open(&j, CALL_RETURN, '{');
	json_uint(&j, "sent", facts->sent);
	json_uint(&j, "rounds", facts->rounds);
	json_real(&j, "down_ms", facts->down_ms);
	json_close(&j);
	end_answer(&j, id);
	return close_text(t, out);
}

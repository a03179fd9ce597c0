/* SPDX-License-Identifier: MIT */
/*
 * lodge migrate: a guest goes on in another lodge.
 *
 *	here                                  the guest's lodge                 the other lodge
 *	connects, asks "x-lodge-migrate" with that
 *	                                      sends it                          receives it
 *	                                                                        "it runs"
 *	hears how it was                      ends
 *
 * If we die before all is sent it stays where it is; later nothing depends on us.
 */
#include "lodge.h"

#include "base/err.h"
#include "base/json_read.h"
#include "base/log.h"
#include "base/scoped.h"
#include "client.h"
#include "failure.h"
#include "uri.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>

struct migrate {
	const char *operands[2];
	const char *certificates;
	bool live;
};

static const struct option options[] = {
	{"--live", NULL, "it runs while its memory is sent", OPTION_FLAG, offsetof(struct migrate, live),
	 0, 0, NULL},
	{"--tls", "DIR", "where certificates and key are", OPTION_TEXT, offsetof(struct migrate, certificates), 0, 0, NULL},
	{0},
};

static void tell(const struct json_value *answer)
{
	uint64_t sent = 0, rounds = 0;
	double down = 0;
	struct err unheard;

	json_get_uint(answer, "sent", UINT64_MAX, &sent, &unheard);
	json_get_uint(answer, "rounds", UINT64_MAX, &rounds, &unheard);
	json_get_real(answer, "down_ms", &down, &unheard);
	log_note("migrate", "%" PRIu64 " MiB in %" PRIu64 " rounds; it stood still for %.0f ms", sent >> 20,
		 rounds, down);
}

static int migrate(const struct migrate *g, struct err *err)
{
	const char *uri = g->operands[1] ? g->operands[1] : g->operands[0];
	const char *vm = g->operands[1] ? g->operands[0] : NULL;
	scoped_fd int fd = -1, to = -1;
	scoped_mem struct json_value *answer = NULL;
	bool direct;
	char args[100];
	int rc;

	if (!uri)
		return err_set(err, ERANGE, "where to is missing: lodge migrate [VM] URI");
	if ((rc = fd = client_find(vm, err)) < 0 || (rc = to = uri_connect(uri, g->certificates, &direct, err)) < 0 ||
	    (rc = client_greet(fd, err)) < 0)
		return rc;
	snprintf(args, sizeof(args), "{\"fd\": \"" CLIENT_FILE "\", \"live\": %s, \"direct\": %s}",
		 g->live ? "true" : "false", direct ? "true" : "false");
	rc = client_ask(fd, "x-lodge-migrate", args, to, &answer, err);
	if (rc < 0)
		return rc;
	tell(answer);
	rc = client_wait_end(fd, -1, err);
	return rc == -ESHUTDOWN ? 0 : rc;
}

static int migrate_main(void *parsed)
{
	struct err err = {0};

	return migrate(parsed, &err) < 0 ? report_failure(&err) : EXIT_OK;
}

const struct verb verb_migrate = {
	.name = "migrate",
	.summary = "a guest goes on in another lodge",
	.text = VM_TEXT
		"URI is unix:PATH, where `lodge run --incoming unix:PATH` waits for it; or tls:HOST:PORT, where\n"
		"`lodge run --incoming tls:ADDRESS:PORT` does; or exec:COMMAND, which reads and writes what\n"
		"such a lodge does: 'exec:ssh HOST lodge run --incoming -'. Whatever fails, the guest goes on\n"
		"here or there. Its disks are there under the same names; those that it writes are the same\n"
		"ones, on this computer or on storage that both have.\n\n"
		"For tls: both sides have a directory of ca-cert.pem, and client-cert.pem and client-key.pem\n"
		"here, server-cert.pem and server-key.pem there, which names HOST: ~/.config/lodge/tls, or\n"
		"that of --tls.\n",
	.operand = "[VM] URI",
	.n_operands = 2,
	.options = options,
	.size = sizeof(struct migrate),
	.main = migrate_main,
};

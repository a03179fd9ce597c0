/* SPDX-License-Identifier: MIT */
/* See vsock.h. */
#include "vsock.h"

#include "base/err.h"
#include "base/log.h"
#include "base/scoped.h"
#include "beside.h"
#include "launch.h"
#include "machine/machine.h"
#include "net/port.h"
#include "uri.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#define CID_DEFAULT MACHINE_CID_MIN
#define PORT_TEXT   11u /* "_4294967295" */

int vsock_set(void *options, char *value, struct err *err)
{
	struct vsock_options *o = options;
	char *cid = strstr(value, ",cid="), *rest;
	unsigned long n;

	*o = (struct vsock_options){.path = value};
	if (cid) {
		n = strtoul(cid + 5, &rest, 10);
		if (cid[5] < '0' || cid[5] > '9' || *rest || n < MACHINE_CID_MIN || n > MACHINE_CID_MAX)
			return err_set(err, EINVAL, "--vsock: cid is a number from %u to %u, not '%s'", MACHINE_CID_MIN, MACHINE_CID_MAX, cid + 5);
		o->cid = (uint32_t)n;
		*cid = 0;
	}
	if (!value[0])
		return err_set(err, EINVAL, "--vsock needs the name of a socket: PATH[,cid=N]");
	if (strlen(value) + PORT_TEXT >= sizeof(((struct sockaddr_un *)NULL)->sun_path))
		return err_set(err, EINVAL, "--vsock: the path of a socket has at most %zu bytes, and '%s' has %zu",
			       sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1 - PORT_TEXT, value, strlen(value));
	return 0;
}

/* By the name that was said: a longer one might not be a socket's any more. */
static int start(struct machine_vsock *v, const char *path, struct err *err)
{
	scoped_fd int listening = uri_listen(path, err);
	char cid[16];
	int says, fd;

	if (listening < 0)
		return err_at(err, listening, "--vsock");
	snprintf(cid, sizeof(cid), "%u", v->cid);
	fd = beside_start("lodge-vsock", (const char *const[]){cid, path, NULL}, listening, &says, err);
	if (fd < 0)
		return fd;
	if (net_stream(&v->port, &(struct net_stream_config){.fd = fd, .mtu = 1500}, err) < 0)
		return err->code;
	return beside_hear(says, "lodge-vsock", err);
}

int vsock_open(const struct vsock_options *o, struct machine_config *config, struct err *err)
{
	struct machine_vsock *v = &config->vsock;

	if (config->saved && !v->cid && o->path)
		return err_set(err, ERANGE, "--vsock: the saved machine has no such device: it was started without --vsock");
	if (config->saved && o->cid && o->cid != v->cid)
		return err_set(err, ERANGE, "--vsock: the saved machine's guest has the cid %u", v->cid);
	if (config->saved && v->cid && !o->path)
		log_note("vsock", "the guest has virtio sockets, which lead nowhere: --vsock PATH says where");
	if (!o->path)
		return 0;
	if (!config->saved)
		v->cid = o->cid ? o->cid : CID_DEFAULT;
	v->path = launch_path(o->path);
	return start(v, o->path, err);
}

void vsock_close(struct machine_config *config)
{
	if (config->vsock.port)
		config->vsock.port->type->close(config->vsock.port);
	config->vsock.port = NULL;
}

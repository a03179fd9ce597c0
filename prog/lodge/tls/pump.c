/* SPDX-License-Identifier: MIT */
/*
 * See tls.h. One thread, which waits in poll() alone.
 *
 * What was read from one side and is not written to the other is kept, 64 KiB each way, and then that side is not read; so who is
 * slow slows the other down, as a socket does. An end goes through as an end: TLS has a word for it (close_notify), and a
 * connection that ends without that word was cut.
 */
#include "tls.h"

#include "base/err.h"
#include "base/macros.h"
#include "sandbox/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CHUNK 65536

void pump_shut_in(void)
{
#ifndef LODGE_SANITIZED /* whose runtime makes system calls of its own */
	sandbox_alone("tls", &(struct sandbox_needs){.network = false});
#endif
}

/* -- The handshake ------------------------------------------------------------------------ */

static int why_not(gnutls_session_t tls, int rc, struct err *err)
{
	gnutls_datum_t text;

	if (rc == GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR &&
	    gnutls_certificate_verification_status_print(gnutls_session_get_verify_cert_status(tls),
							 GNUTLS_CRT_X509, &text, 0) == 0) {
		err_set(err, EACCES, "%s", text.data);
		gnutls_free(text.data);
		return -EACCES;
	}
	if (rc == GNUTLS_E_FATAL_ALERT_RECEIVED)
		return err_set(err, EACCES, "the other side says: %s",
			       gnutls_alert_get_name(gnutls_alert_get(tls)));
	return err_set(err, EACCES, "%s", gnutls_strerror(rc));
}

static int prepare(gnutls_session_t tls, const struct keys *k, int fd, bool server)
{
	int rc = gnutls_priority_set_direct(tls, "NORMAL:-VERS-ALL:+VERS-TLS1.3", NULL);

	if (rc == 0)
		rc = gnutls_credentials_set(tls, GNUTLS_CRD_CERTIFICATE, k->creds);
	if (rc == 0 && k->host)
		rc = gnutls_server_name_set(tls, GNUTLS_NAME_DNS, k->host, strlen(k->host));
	if (server)
		gnutls_certificate_server_set_request(tls, GNUTLS_CERT_REQUIRE);
	gnutls_session_set_verify_cert(tls, k->host, 0);
	gnutls_handshake_set_timeout(tls, TLS_HANDSHAKE_MS);
	gnutls_transport_set_int(tls, fd);
	return rc;
}

/* A client has shaken hands before its certificate was looked at: the word that it was liked is the server's first byte. */
static int confirm(gnutls_session_t tls, bool server)
{
	char byte = 0;
	ssize_t n;

	gnutls_record_set_timeout(tls, TLS_HANDSHAKE_MS);
	do
		n = server ? gnutls_record_send(tls, &byte, 1) : gnutls_record_recv(tls, &byte, 1);
	while (n == GNUTLS_E_INTERRUPTED || n == GNUTLS_E_AGAIN);
	gnutls_record_set_timeout(tls, 0);
	return n == 1 ? 0 : n == 0 ? GNUTLS_E_PREMATURE_TERMINATION : (int)n;
}

int pump_shake(gnutls_session_t *tls, const struct keys *k, int fd, bool server, struct err *err)
{
	int rc = gnutls_init(tls, server ? GNUTLS_SERVER : GNUTLS_CLIENT);

	if (rc < 0)
		return err_set(err, ENOMEM, "%s", gnutls_strerror(rc));
	rc = prepare(*tls, k, fd, server);
	while (rc == 0 && (rc = gnutls_handshake(*tls)) < 0 && !gnutls_error_is_fatal(rc))
		rc = 0;
	if (rc == 0)
		rc = confirm(*tls, server);
	return rc == 0 ? 0 : why_not(*tls, rc, err);
}

/* -- Bytes -------------------------------------------------------------------------------- */

struct way {
	uint8_t bytes[CHUNK];
	size_t at, n;   /* of those that wait */
	bool read_end;  /* there will be no more, */
	bool told_end;  /* and who reads them knows */
};

struct pump {
	gnutls_session_t tls;
	int net, lodge;
	struct way out, in; /* to the network, and from it */
	struct way cipher;  /* that GnuTLS has not taken; it asks for five bytes, then for a record */
	struct err *err;
};

static bool wants(const struct way *w)
{
	return !w->n && !w->read_end;
}

static void took(struct way *w, size_t n)
{
	w->at += n;
	w->n -= n;
	if (!w->n)
		w->at = 0;
}

/* For GnuTLS, which looks at errno. */
static ssize_t pull(gnutls_transport_ptr_t pump, void *to, size_t max)
{
	struct way *w = &((struct pump *)pump)->cipher;
	ssize_t n = w->n ? 0 : recv(((struct pump *)pump)->net, w->bytes, CHUNK, MSG_DONTWAIT);

	if (n < 0)
		return n;
	w->n += (size_t)n;
	if (max > w->n)
		max = w->n;
	memcpy(to, w->bytes + w->at, max);
	took(w, max);
	return (ssize_t)max;
}

static int lost(struct pump *p, ssize_t rc)
{
	if (rc == GNUTLS_E_AGAIN || rc == GNUTLS_E_INTERRUPTED)
		return 0;
	return err_set(p->err, EIO, "the connection: %s", gnutls_strerror((int)rc));
}

static int from_lodge(struct pump *p)
{
	ssize_t n = recv(p->lodge, p->out.bytes, CHUNK, MSG_DONTWAIT);

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : err_sys(p->err, errno, "lodge");
	p->out.n = (size_t)n;
	p->out.read_end = n == 0;
	return 0;
}

static int to_net(struct pump *p)
{
	ssize_t n;

	while (p->out.n) {
		n = gnutls_record_send(p->tls, p->out.bytes + p->out.at, p->out.n);
		if (n < 0)
			return lost(p, n);
		took(&p->out, (size_t)n);
	}
	if (p->out.read_end && !p->out.told_end) {
		n = gnutls_bye(p->tls, GNUTLS_SHUT_WR);
		if (n < 0)
			return lost(p, n);
		p->out.told_end = true;
	}
	return 0;
}

static int from_net(struct pump *p)
{
	ssize_t n;

	do {
		n = gnutls_record_recv(p->tls, p->in.bytes + p->in.n, CHUNK - p->in.n);
		p->in.n += n > 0 ? (size_t)n : 0;
	} while (n > 0 && p->in.n < CHUNK);
	p->in.read_end = n == 0;
	return n < 0 ? lost(p, n) : 0;
}

static int to_lodge(struct pump *p)
{
	ssize_t n = p->in.n ? send(p->lodge, p->in.bytes + p->in.at, p->in.n, MSG_DONTWAIT | MSG_NOSIGNAL) : 0;

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : err_sys(p->err, errno, "lodge");
	took(&p->in, (size_t)n);
	if (!p->in.n && p->in.read_end && !p->in.told_end) {
		shutdown(p->lodge, SHUT_WR);
		p->in.told_end = true;
	}
	return 0;
}

/* GnuTLS may have bytes that poll() does not know of. */
static int step(struct pump *p)
{
	bool kept = wants(&p->in) && (p->cipher.n || gnutls_record_check_pending(p->tls));
	short net_events = (short)((wants(&p->in) ? POLLIN : 0) |
				   (p->out.n || (p->out.read_end && !p->out.told_end) ? POLLOUT : 0));
	short lodge_events = (short)((wants(&p->out) ? POLLIN : 0) | (p->in.n ? POLLOUT : 0));
	struct pollfd fds[] = {
		{net_events ? p->net : -1, net_events, 0}, {lodge_events ? p->lodge : -1, lodge_events, 0},
	};
	int rc = 0;

	poll(fds, ARRAY_SIZE(fds), kept ? 0 : -1);
	if (fds[1].revents & (POLLIN | POLLHUP | POLLERR) && wants(&p->out))
		rc = from_lodge(p);
	if (rc == 0)
		rc = to_net(p);
	if (rc == 0 && wants(&p->in) && (kept || fds[0].revents & (POLLIN | POLLHUP | POLLERR)))
		rc = from_net(p);
	return rc == 0 ? to_lodge(p) : rc;
}

int pump_run(gnutls_session_t tls, int net, int lodge, struct err *err)
{
	static struct pump p;
	int rc = 0;

	p.tls = tls;
	p.net = net;
	p.lodge = lodge;
	p.err = err;
	fcntl(net, F_SETFL, O_NONBLOCK);
	gnutls_transport_set_ptr2(tls, &p, (gnutls_transport_ptr_t)(intptr_t)net);
	gnutls_transport_set_pull_function(tls, pull);
	while (rc == 0 && !(p.out.told_end && p.in.told_end))
		rc = step(&p);
	return rc;
}

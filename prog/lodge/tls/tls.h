/* SPDX-License-Identifier: MIT */
/*
 * lodge-tls: a pump between a socket of this computer and a TLS connection, for a guest that migrates.
 *
 *	lodge ==socket== lodge-tls ==TLS over TCP== lodge-tls ==socket== lodge
 *
 * What comes from the network is read here, before anybody knows who sent it, in a process of its own that has
 * nothing but two sockets and may do nothing but read and write them. And GnuTLS, with all that it is linked with, costs
 * other starts of lodge nothing.
 *
 *	tls/main.c    the program
 *	tls/keys.c    certificates and keys, of both sides
 *	tls/tcp.c     connecting, and finding one among those who connect
 *	tls/pump.c    the handshake, and bytes both ways
 */
#ifndef LODGE_TLS_H
#define LODGE_TLS_H

#include <gnutls/gnutls.h>
#include <stdbool.h>

struct err;

#define TLS_HANDSHAKE_MS 10000

/* -- keys.c -- */

struct keys {
	gnutls_certificate_credentials_t creds;
	const char *host; /* whose certificate it is to be; NULL: anybody's whom the CA knows */
};

/* ca-cert.pem, and client-cert.pem and client-key.pem or the server's, of a directory. */
int keys_load(struct keys *k, const char *dir, bool server, struct err *err);

/* -- tcp.c -- */

/* "HOST:PORT", "[::1]:PORT", for a server ":PORT" too. Changes `address`, which `host` points into. */
int tcp_split(char *address, char **host, char **port, struct err *err);

int tcp_connect(const char *host, const char *port, struct err *err);
int tcp_listen(const char *host, const char *port, struct err *err);

/*
 * Waits for connections, until `shaken` said 0 to one of them; that runs in a process for each, and the oldest of those who have
 * not shown who they are makes room for who comes, so that nobody keeps others out. Returns that one's, in its process, with what `shaken` set; the others end. -ECANCELED: nobody has the other
 * end of `lodge` any more.
 */
int tcp_find(int listening, int lodge, int (*shaken)(void *ctx, int fd, struct err *err), void *ctx, struct err *err);

/* -- pump.c -- */

/* From here on this process does nothing but read and write. */
void pump_shut_in(void);

/* TLS on a connection: the other side is whom the keys say. */
int pump_shake(gnutls_session_t *tls, const struct keys *k, int fd, bool server, struct err *err);

/* Until both sides have said all. */
int pump_run(gnutls_session_t tls, int net, int lodge, struct err *err);

#endif

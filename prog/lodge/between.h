/* SPDX-License-Identifier: MIT */
/* A process between two lodges (beside.h), when a guest migrates over a network. */
#ifndef LODGE_BETWEEN_H
#define LODGE_BETWEEN_H

struct err;

/* A TLS connection (tls/tls.h) that "connect"s to ADDRESS:PORT, or was found by one who "listen"s there. Certificates are in that
 * directory, NULL: in ~/.config/lodge/tls. Waits until both sides know each other. The socket to it, or -EIO. */
int between_tls(const char *how, const char *address, const char *certificates, struct err *err);

#endif

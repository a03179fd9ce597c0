/* SPDX-License-Identifier: MIT */
/*
 * Processes between two lodges, when a guest migrates by other ways than a socket of this computer.
 *
 * Both functions return a socket, whose other end such a process has, or -errno with a sentence. It ends when it can say nothing
 * more to one side; nobody waits for it.
 */
#ifndef LODGE_BETWEEN_H
#define LODGE_BETWEEN_H

struct err;

/* What a shell's command reads and writes. What becomes of it, the stream tells. */
int between_shell(const char *command, struct err *err);

/* A TLS connection (tls/tls.h) that "connect"s to ADDRESS:PORT, or was found by one who "listen"s there. Certificates are in that
 * directory, NULL: in ~/.config/lodge/tls. Waits until both sides know each other. */
int between_tls(const char *how, const char *address, const char *certificates, struct err *err);

#endif

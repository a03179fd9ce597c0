/* SPDX-License-Identifier: MIT */
/*
 * Where a guest's screen is shown: --display.
 *
 *	none                nowhere; lodge screenshot and send-key are what there is
 *	vnc=HOST[:N]        by VNC at port 5900 + N; "vnc=" and "vnc=:N" are this computer's alone
 *	vnc=unix:PATH       by VNC on a socket
 *
 *	rc = display_open(&d, "vnc=:1", password, &err);     listens; another process speaks to viewers (vnc/main.c)
 *	rc = display_serve(d, machine, loop);                from here on by the loop
 *	display_close(d);
 */
#ifndef LODGE_DISPLAY_H
#define LODGE_DISPLAY_H

#include <stdbool.h>

struct display;
struct err;
struct loop;
struct machine;

/* 0 or -ERANGE: what --display says makes no sense. */
int display_check(const char *text, struct err *err);

/* `password` is the name of a file whose first line it is, or NULL. *d is NULL for "none". */
int display_open(struct display **d, const char *text, const char *password, struct err *err);

/* 0 or -ENOMEM. NULL is fine, here and below. */
int display_serve(struct display *d, struct machine *m, struct loop *loop);
void display_close(struct display *d);

/* "127.0.0.1:5901", "unix:/run/vnc": for people. And whether a viewer needs a password. */
const char *display_place(const struct display *d);
bool display_has_password(const struct display *d);

#endif

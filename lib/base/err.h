/* SPDX-License-Identifier: MIT */
/*
 * Errors that explain themselves.
 *
 * A function that can fail for a reason a person will read takes a `struct err *` as its
 * last parameter and returns -errno. The number decides, the text explains. The struct is
 * the caller's (usually on its stack); NULL means that nobody listens.
 *
 *	struct err err = {0};
 *	if (disk_open(&disk, path, &err) < 0)
 *		fprintf(stderr, "lodge: %s\n", err.text);
 *
 * On the way out a caller adds where it was with err_at(), so the message grows to the
 * left: "disk '/srv/a.img': not a multiple of 512 bytes".
 */
#ifndef BASE_ERR_H
#define BASE_ERR_H

struct err {
	int code;       /* an errno value, positive; 0 while nothing was reported */
	char text[512]; /* one sentence without a final newline, "" when code is 0 */
};

/* Replaces what err says; returns -code, so that `return err_set(...)` reads well. */
int err_set(struct err *err, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Puts "fmt: " before what err already says; returns rc unchanged. */
int err_at(struct err *err, int rc, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* As err_set(), and ": strerror(code)" is added to the text, with the limit that a number of files is. */
int err_sys(struct err *err, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* What a stranger has written, for a sentence: what is no printable ASCII becomes '?'. */
void err_printable(char *text);

/* The same for text that may be of any language (UTF-8): what would do something to a terminal becomes '?', as do bytes that are no UTF-8. */
void err_harmless(char *text);

#endif

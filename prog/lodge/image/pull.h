/* SPDX-License-Identifier: MIT */
/*
 * An image from a URL, by lodge-pull (pull/main.c): a process of its own, which has the files that it writes, and no others.
 *
 *	lodge-pull URL SUM          3: what was fetched so far; 4: its validator; 5: the image
 *
 * It says how far it is (child.h), or "redirect URL", and ends: the other server is the next process's.
 */
#ifndef LODGE_IMAGE_PULL_H
#define LODGE_IMAGE_PULL_H

struct err;

struct pull {
	const char *name, *url;
	const char *sum; /* SHA-256 of what is fetched, in hexadecimal; NULL */
};

enum { PULL_PART = 3, PULL_VALIDATOR = 4, PULL_IMAGE = 5 };

/* Makes it, in the place of one that is there. 0 or -errno. */
int pull_run(const struct pull *p, struct err *err);

/* -ERANGE with a sentence if a URL or a sum is none. */
int pull_check(const struct pull *p, struct err *err);

#endif

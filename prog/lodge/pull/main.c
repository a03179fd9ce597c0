/* SPDX-License-Identifier: MIT */
/*
 * See prog/lodge/image/pull.h.
 *
 *	lodge-pull URL SUM
 *
 * All that is read of a stranger is read here: TLS and HTTP by libcurl, archives by their libraries. This process has the three files
 * that it is given. Names are looked up and the first connection is made before it shuts itself in, since that loads libraries and reads
 * files as the C library likes; another server is another process's.
 */
#include "fetch.h"

#include "base/err.h"
#include "base/macros.h"
#include "prog/lodge/image/pull.h"
#include "sandbox/sandbox.h"

#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define RESERVE (64 * MiB) /* bytes that stay free */

void fetch_say(unsigned percent, const char *fmt, ...)
{
	char text[120];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	dprintf(STDOUT_FILENO, "%u %s\n", percent, text);
}

int fetch_room(int fd, uint64_t bytes, struct err *err)
{
	struct statvfs fs;
	uint64_t left;

	if (fstatvfs(fd, &fs) < 0 || !fs.f_blocks) /* it does not know */
		return 0;
	left = (uint64_t)fs.f_bavail * fs.f_frsize;
	if (left >= RESERVE && bytes <= left - RESERVE)
		return 0;
	return err_set(err, ENOSPC, "%llu MiB more do not fit: the file system has room for %llu, of which %llu stay free",
		       (unsigned long long)((bytes + MiB - 1) / MiB), (unsigned long long)(left / MiB), (unsigned long long)(RESERVE / MiB));
}

static void shut_in(void)
{
#ifndef LODGE_SANITIZED /* whose runtime makes system calls of its own */
	static int is_in;

	if (!is_in++)
		sandbox_alone("pull", &(struct sandbox_needs){.network = true});
#endif
}

static int run(const char *url, const char *sum, struct err *err)
{
	int rc = fetch(url, shut_in, err);

	if (rc != 0)
		return rc;
	shut_in(); /* nothing was left to fetch */
	rc = sum[0] ? fetch_check(sum, err) : 0;
	if (rc == 0)
		rc = unpack(err);
	if (rc == -EINVAL && ftruncate(PULL_PART, 0) < 0) /* it would be the same the next time */
		return err_sys(err, errno, "what was fetched");
	return rc;
}

int main(int argc, char **argv)
{
	struct err err = {0};

	if (argc != 3 || fcntl(PULL_IMAGE, F_GETFD) < 0) {
		fputs("lodge-pull: is started by lodge (lodge help image)\n", stderr);
		return 2;
	}
	closefrom(PULL_IMAGE + 1);
	signal(SIGPIPE, SIG_IGN);
	curl_global_init(CURL_GLOBAL_DEFAULT);
	if (run(argv[1], argv[2], &err) >= 0)
		return 0;
	fprintf(stderr, "%s\n", err.text);
	return 1;
}

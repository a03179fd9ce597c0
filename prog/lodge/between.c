/* SPDX-License-Identifier: MIT */
/* See between.h. */
#include "between.h"

#include "base/err.h"
#include "beside.h"
#include "userdir.h"

#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <unistd.h>

int between_tls(const char *how, const char *address, const char *certificates, struct err *err)
{
	char home[PATH_MAX];
	int rc, says, fd;

	if (!certificates && (rc = userdir_find(home, "XDG_CONFIG_HOME", ".config", "lodge/tls", err)) < 0)
		return rc;
	fd = beside_start("lodge-tls", (const char *const[]){how, address, certificates ? certificates : home, NULL}, -1, &says, err);
	if (fd < 0 || beside_hear(says, "lodge-tls", err) == 0)
		return fd;
	close(fd);
	err->code = EIO; /* whatever it was there */
	return err_at(err, -EIO, "tls:%s", address);
}

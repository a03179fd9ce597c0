/* SPDX-License-Identifier: MIT */
/* See tls.h. The files have the names that QEMU and libvirt give them, so that one directory does for all. */
#include "tls.h"

#include "base/err.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATH_LEN 4096

/* A key is its user's alone, as ssh has it. */
static int check_key(const char *path, struct err *err)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return err_sys(err, errno, "%s", path);
	if (st.st_mode & 077)
		return err_set(err, EACCES, "%s: a key that others can read (mode %o): chmod 600", path,
			       st.st_mode & 0777);
	return 0;
}

static int fail(struct err *err, const char *path, int rc)
{
	return err_set(err, EINVAL, "%s: %s", path, gnutls_strerror(rc));
}

int keys_load(struct keys *k, const char *dir, bool server, struct err *err)
{
	const char *who = server ? "server" : "client";
	char ca[PATH_LEN], cert[PATH_LEN], key[PATH_LEN];
	int rc;

	if (snprintf(ca, sizeof(ca), "%s/ca-cert.pem", dir) >= (int)sizeof(ca) ||
	    snprintf(cert, sizeof(cert), "%s/%s-cert.pem", dir, who) >= (int)sizeof(cert) ||
	    snprintf(key, sizeof(key), "%s/%s-key.pem", dir, who) >= (int)sizeof(key))
		return err_set(err, ENAMETOOLONG, "the directory of certificates has too long a name");
	if (access(ca, R_OK) < 0)
		return err_sys(err, errno, "%s", ca);
	if (access(cert, R_OK) < 0)
		return err_sys(err, errno, "%s", cert);
	if ((rc = check_key(key, err)) < 0)
		return rc;
	if (gnutls_certificate_allocate_credentials(&k->creds) < 0)
		return err_set(err, ENOMEM, "no memory");
	rc = gnutls_certificate_set_x509_trust_file(k->creds, ca, GNUTLS_X509_FMT_PEM);
	if (rc <= 0)
		return fail(err, ca, rc ? rc : GNUTLS_E_NO_CERTIFICATE_FOUND);
	rc = gnutls_certificate_set_x509_key_file(k->creds, cert, key, GNUTLS_X509_FMT_PEM);
	return rc < 0 ? fail(err, cert, rc) : 0;
}

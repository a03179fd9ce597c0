/* SPDX-License-Identifier: MIT */
/* See shares.h; docs/why/share.md has the reasons. */
#include "shares.h"

#include "base/err.h"
#include "base/log.h"
#include "beside.h"
#include "dev/virtio/fs_link.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* -- The option ---------------------------------------------------------------------------- */

static bool is_tag(const char *tag)
{
	size_t len = strlen(tag);

	if (!len || len > FS_TAG_MAX)
		return false;
	for (; *tag; tag++)
		if (*tag <= ' ' || *tag > '~' || *tag == '/' || *tag == ',')
			return false;
	return true;
}

/* A directory's name may have commas and colons: the last ones count, and a tag has no slash. */
int shares_set(void *shares, char *value, struct err *err)
{
	struct shares *s = shares;
	struct machine_share *d = &s->dirs[s->n];
	char *comma = strrchr(value, ','), *colon;

	if (s->n == MACHINE_SHARES_MAX)
		return err_set(err, EINVAL, "--share: there can be %d at most", MACHINE_SHARES_MAX);
	*d = (struct machine_share){.path = value, .fd = -1};
	if (comma && strcmp(comma, ",ro") == 0) {
		d->readonly = true;
		*comma = 0;
	}
	colon = strrchr(value, ':');
	if (colon && !strchr(colon, '/')) {
		*colon = 0;
		d->tag = colon + 1;
		if (!is_tag(d->tag))
			return err_set(err, EINVAL, "--share: '%s' is no tag: 1 to %u letters, digits and signs, no blank, '/' or ','",
				       d->tag, FS_TAG_MAX);
	}
	if (!value[0])
		return err_set(err, EINVAL, "--share needs the name of a directory: DIR[:TAG][,ro]");
	s->n++;
	return 0;
}

/* -- Directories --------------------------------------------------------------------------- */

/* As it is everywhere, with a tag. */
static int look_at(const struct machine_share *said, struct machine_share *d, struct err *err)
{
	char *path = realpath(said->path, NULL); /* for as long as the machine */
	struct stat st;

	if (!path || stat(path, &st) < 0)
		return err_sys(err, errno, "--share: %s", said->path);
	if (!S_ISDIR(st.st_mode))
		return err_set(err, ENOTDIR, "--share: %s is no directory", said->path);
	*d = (struct machine_share){.tag = said->tag, .path = path, .readonly = said->readonly, .fd = -1};
	if (!d->tag)
		d->tag = strrchr(path, '/') + 1;
	if (!is_tag(d->tag))
		return err_set(err, ERANGE, "--share: %s needs a tag, by which the guest knows it: %s:TAG", said->path, said->path);
	return 0;
}

static struct machine_share *find(struct machine_config *config, const char *tag)
{
	for (unsigned i = 0; i < config->n_shares; i++)
		if (strcmp(config->shares[i].tag, tag) == 0)
			return &config->shares[i];
	return NULL;
}

/* Of a new machine they are those that were said; of one that is there, they must be its. */
static int place_all(const struct shares *s, struct machine_config *config, bool *given, struct err *err)
{
	for (unsigned i = 0; i < s->n; i++) {
		struct machine_share d, *mine;
		int rc = look_at(&s->dirs[i], &d, err);

		if (rc < 0)
			return rc;
		mine = find(config, d.tag);
		if (config->saved && !mine)
			return err_set(err, ERANGE, "--share: this machine has no shared directory with the tag '%s'", d.tag);
		if (mine && (!config->saved || given[mine - config->shares]))
			return err_set(err, ERANGE, "--share: two directories have the tag '%s'", d.tag);
		if (!mine)
			mine = &config->shares[config->n_shares++];
		*mine = d;
		given[mine - config->shares] = true;
	}
	return 0;
}

static int check_tags(struct machine_config *config, struct err *err)
{
	for (unsigned i = 0; i < config->n_shares; i++)
		if (!is_tag(config->shares[i].tag) || find(config, config->shares[i].tag) != &config->shares[i])
			return err_set(err, EINVAL, "the tags of its shared directories make no sense");
	return 0;
}

static int start(struct machine_share *d, struct err *err)
{
	int says;

	d->fd = beside_start("lodge-share", (const char *const[]){d->path, d->readonly ? "ro" : "rw", NULL}, -1, &says, err);
	return d->fd < 0 ? d->fd : beside_hear(says, "lodge-share", err);
}

int shares_open(const struct shares *s, bool known, struct machine_config *config, struct err *err)
{
	bool given[MACHINE_SHARES_MAX] = {false};
	int rc = config->saved ? check_tags(config, err) : 0;

	if (rc == 0)
		rc = place_all(s, config, given, err);
	for (unsigned i = 0; rc == 0 && i < config->n_shares; i++) {
		struct machine_share *d = &config->shares[i];

		if (!given[i] && !known)
			rc = err_set(err, ERANGE, "the guest has the shared directory '%s', which was %s: say which it is to be here, "
				     "--share DIR:%s", d->tag, d->path, d->tag);
		else
			rc = start(d, err);
	}
	return rc;
}

void shares_close(struct machine_config *config)
{
	for (unsigned i = 0; i < config->n_shares; i++)
		if (config->shares[i].fd >= 0)
			close(config->shares[i].fd);
}

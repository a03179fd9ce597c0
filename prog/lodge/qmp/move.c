/* SPDX-License-Identifier: MIT */
/* Commands that take a guest elsewhere: into a file, into another lodge, into a copy. */
#include "base/err.h"
#include "base/json.h"
#include "block/disk.h"
#include "files.h"
#include "machine/fork.h"
#include "machine/migrate.h"
#include "prog/lodge/session.h"
#include "serve.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* Whether who makes the guest again can open its disks: one that came as a descriptor alone has no name. */
static int check_names(const struct machine_config *config, struct err *err)
{
	for (unsigned i = 0; i < config->n_disks; i++)
		if (strncmp(disk_path(config->disks[i]), QMP_SET_PLACE, strlen(QMP_SET_PLACE)) == 0)
			return err_set(err, EBUSY, "disk '%s' came without its file's name ('opaque' of add-fd), and nobody could open it again",
				       config->disk_spot[i].id);
	return 0;
}

/* -- Into a file --------------------------------------------------------------------------- */

/* What can be seeked in is no pipe. A file system that hangs (FUSE, NFS) holds the main thread up as long as it does, while the guest stands
 * still anyway; that is left to who has opened the file, for the same client may end the guest. */
static int save_to(const struct call *c, int file, struct err *err)
{
	const struct machine_config *config = c->session->config;
	int rc = 0;

	if (lseek(file, 0, SEEK_SET) != 0)
		return err_set(err, ERANGE, "'x-lodge-save' needs a regular file");
	for (unsigned i = 0; rc == 0 && i < config->n_disks; i++)
		rc = disk_settle(config->disks[i], err); /* who restores it looks when they were written */
	return rc < 0 ? rc : machine_save(c->session->machine, file, err);
}

static int save(struct call *c, int file, struct err *err)
{
	bool was_paused = machine_life(c->session->machine) == MACHINE_PAUSED;
	struct err unheard;
	int rc = check_names(c->session->config, err);

	if (rc == 0)
		rc = session_pause(c->session, err);
	if (rc < 0)
		return rc;
	rc = save_to(c, file, err);
	if (rc < 0) {
		if (!was_paused)
			session_resume(c->session, &unheard);
		return rc;
	}
	if (!c->keeps)
		c->was_paused = was_paused;
	c->keeps = true;
	return 0;
}

int do_save(struct call *c, struct err *err)
{
	int file = qmp_files_take(c->files, call_str(c, "fd"), err);
	int rc = file < 0 ? file : save(c, file, err);

	if (file >= 0)
		close(file);
	return rc;
}

/* -- Into another lodge ----------------------------------------------------------------------- */

/* Its answer is written by control_migrated(). */
int do_migrate(struct call *c, struct err *err)
{
	struct migration_plan plan = {.live = call_bool(c, "live"), .direct = call_bool(c, "direct")};
	bool was_paused = machine_life(c->session->machine) == MACHINE_PAUSED;
	int rc = plan.fd = qmp_files_take(c->files, call_str(c, "fd"), err);

	if (rc >= 0 && ((rc = check_names(c->session->config, err)) < 0 || (rc = session_migrate(c->session, &plan, err)) < 0))
		close(plan.fd);
	if (rc < 0)
		return rc;
	c->later = c->keeps = true;
	c->was_paused = was_paused;
	return 0;
}

/* -- Into a copy -------------------------------------------------------------------------------- */

/* What is thrown away when the guest's lodge ends cannot be kept for a snapshot. */
static int check_disks(const struct machine_config *config, const char *keep, struct err *err)
{
	int rc = check_names(config, err);

	for (unsigned i = 0; rc == 0 && i < config->n_disks; i++) {
		const struct disk *disk = config->disks[i];

		rc = disk_moment_check(disk, err);
		if (rc == 0 && keep && disk_info(disk)->throw_away)
			rc = err_set(err, EBUSY, "disk '%s' is written only here (snapshot=on), and gone when the guest is",
				     disk_path(disk));
	}
	return rc;
}

static void give_memory(struct call *c, const struct machine_fork *f)
{
	call_give(c, f->state);
	call_give(c, f->where);
	json_open(c->answer, "layers", '[');
	for (unsigned i = 0; i < f->n; i++) {
		call_give(c, f->layer[i].fd);
		json_open(c->answer, NULL, '{');
		json_uint(c->answer, "at", f->layer[i].at);
		json_close(c->answer);
	}
	json_close(c->answer);
}

static void give_disk(struct call *c, const struct disk_moment *m)
{
	const struct disk_base *b = &m->base;

	json_open(c->answer, NULL, '{');
	json_bool(c->answer, "of_file", b->of_file);
	json_uint(c->answer, "slot", m->slot);
	json_open(c->answer, "layers", '[');
	for (unsigned i = 0; i < b->n; i++) {
		call_give(c, b->layer[i].fd);
		json_open(c->answer, NULL, '{');
		json_uint(c->answer, "at", b->layer[i].l1_at);
		json_uint(c->answer, "entries", b->layer[i].l1_n);
		json_close(c->answer);
	}
	json_close(c->answer);
	json_close(c->answer);
}

int do_fork(struct call *c, struct err *err)
{
	struct disk_moment moments[MACHINE_DISKS_MAX];
	struct machine_fork f;
	const char *keep = call_str(c, "keep");
	int rc = check_disks(c->session->config, keep, err);

	if (rc == 0)
		rc = session_fork(c->session, &f, moments, keep, err);
	if (rc < 0)
		return rc;
	give_memory(c, &f);
	json_open(c->answer, "disks", '[');
	for (unsigned i = 0; i < c->session->config->n_disks; i++)
		give_disk(c, &moments[i]);
	json_close(c->answer);
	return 0;
}

/* Of all disks that have it. */
int do_forget(struct call *c, struct err *err)
{
	const struct machine_config *config = c->session->config;
	const char *snapshot = call_str(c, "snapshot");
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < config->n_disks; i++) {
		struct disk_moment m;

		if (disk_info(config->disks[i])->readonly || disk_moment_check(config->disks[i], NULL) < 0)
			continue;
		disk_moment_forget(config->disks[i], &m, snapshot);
		rc = disk_moment_end(&m, err);
	}
	return rc;
}

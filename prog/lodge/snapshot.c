/* SPDX-License-Identifier: MIT */
/*
 * lodge snapshot: states of a guest that are kept on the disk, each of them with no more of its memory than was written since
 * another one.
 *
 *	here                                     the guest's lodge
 *	locks the guest's directory, asks "fork"
 *	                                         answers with descriptors, as for a fork; the guest goes on
 *	writes layers that no file has yet,
 *	and then the snapshot
 *
 * The layers of a guest are what was written between one fork and the next, so they are the chain. Which of
 * them is in a file already is machine/snapshot.h's. To restore one is to start a fork whose layers are files; so the
 * next snapshot of that guest finds them again.
 */
#include "lodge.h"

#include "base/err.h"
#include "base/json.h"
#include "base/json_read.h"
#include "base/log.h"
#include "base/scoped.h"
#include "base/size.h"
#include "client.h"
#include "failure.h"
#include "forked.h"
#include "launch.h"
#include "machine/fork.h"
#include "machine/saved.h"
#include "machine/snapshot.h"
#include "newfile.h"
#include "place.h"
#include "snapdir.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct snap {
	const char *operands[3];
	struct launch launch;
	const char *format;
	bool check;

	const char *vm, *name;
	struct forked_guest guest; /* restore, delete */
	char kept[2 * PLACE_NAME_MAX + 8];
};

static const struct snap defaults = {.launch = LAUNCH_DEFAULTS, .guest = FORKED_NONE};

static const struct option options[] = {
	{"--check", NULL, "list: reads all of their memory, too", OPTION_FLAG, offsetof(struct snap, check), 0,
	 0, NULL},
	OPTION_JSON(offsetof(struct snap, format)),
	LAUNCH_OPTIONS(offsetof(struct snap, launch)),
	{0},
};

/* -- Create ------------------------------------------------------------------------- */

/* Layers that the directory has. */
struct known {
	struct layer *layer;
	char **path;
	unsigned n;
};

/* What is no layer any more is none that could be used. */
static int open_known(struct known *k, const struct snapdir *d, struct err *err)
{
	struct snapdir_names names;
	int rc = snapdir_names(d, SNAPDIR_LAYER, &names, err);

	k->layer = calloc(names.n + 1, sizeof(*k->layer));
	k->path = calloc(names.n + 1, sizeof(*k->path));
	if (rc == 0 && (!k->layer || !k->path))
		rc = err_set(err, ENOMEM, "no memory");
	for (; rc == 0 && k->n < names.n; k->n++)
		snapdir_layer(d, names.name[k->n], &k->layer[k->n], &k->path[k->n], NULL);
	snapdir_free(&names);
	return rc;
}

static void close_known(struct known *k)
{
	for (unsigned i = 0; i < k->n; i++) {
		layer_close(&k->layer[i]);
		free(k->path[i]);
	}
	free(k->layer);
	free(k->path);
}

/* Its id is known when it is written, and then it gets its name. */
static int write_layer(const struct snapdir *d, const struct layer_source *source, uint64_t *id, struct err *err)
{
	scoped_mem char *path = snapdir_file(d, "new", SNAPDIR_LAYER, err);
	struct newfile file;
	int rc = path ? newfile_open(&file, path, err) : -ENOMEM;

	if (!path)
		return rc;
	if (rc == 0)
		rc = layer_write(file.fd, source, id, err);
	if (rc == 0) {
		snprintf(file.name, sizeof(file.name), "%016" PRIx64 SNAPDIR_LAYER, *id);
		rc = newfile_publish(&file, err);
	}
	newfile_close(&file);
	return rc;
}

static int find_or_write(const struct snapdir *d, const struct known *k, const struct layer_source *source,
			 uint64_t *id, struct err *err)
{
	for (unsigned i = 0; i < k->n; i++)
		if (k->layer[i].body && layer_has(&k->layer[i], source)) {
			*id = k->layer[i].id;
			return 0;
		}
	return write_layer(d, source, id, err);
}

/* Layers that have no page are left out of the snapshot; what is left gets its numbers in order. */
static int write_layers(const struct snapdir *d, const struct known *k, const struct machine_fork *f,
			uint8_t *where, uint64_t memory, uint64_t *ids, unsigned *n, struct err *err)
{
	uint64_t pages = memory / RAM_PAGE;
	uint8_t number[RAM_LAYERS_MAX + 1] = {0};
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < f->n; i++) {
		const struct layer_source source = {
			.fd = f->layer[i].fd, .at = f->layer[i].at, .memory = memory, .where = where,
			.number = (uint8_t)(i + 1),
		};

		if (!memchr(where, source.number, pages))
			continue;
		rc = find_or_write(d, k, &source, &ids[*n], err);
		number[source.number] = (uint8_t)++*n;
	}
	for (uint64_t p = 0; rc == 0 && p < pages; p++)
		where[p] = number[where[p]];
	return rc;
}

static int write_snapshot(const char *path, const struct saved *saved, const uint8_t *where, const uint64_t *ids,
			  unsigned n, struct err *err)
{
	struct newfile file;
	int rc = newfile_open(&file, path, err);

	if (rc == 0)
		rc = snapshot_write(file.fd, saved, where, ids, n, err);
	if (rc == 0)
		rc = newfile_publish(&file, err);
	newfile_close(&file);
	return rc;
}

static int write_fork(const struct snapdir *d, const char *path, struct machine_fork *f, const struct saved *saved,
		      struct err *err)
{
	scoped_mem uint8_t *where = snapshot_where(saved, f, err);
	struct known known = {.n = 0};
	uint64_t ids[RAM_LAYERS_MAX];
	unsigned n = 0;
	int rc = where ? open_known(&known, d, err) : -err->code;

	if (rc == 0)
		rc = write_layers(d, &known, f, where, snapshot_memory(saved), ids, &n, err);
	if (rc == 0)
		rc = write_snapshot(path, saved, where, ids, n, err);
	close_known(&known);
	return rc;
}

/* What a guest's disks call a snapshot inside. Neither name has a ':'. */
#define DISK_NAME (2 * PLACE_NAME_MAX + 8)

static const char *disk_name(char text[DISK_NAME], const char *guest, const char *name)
{
	snprintf(text, DISK_NAME, "lodge:%s:%s", guest, name);
	return text;
}

/* By the lodge that has its disks. */
static int forget_there(int fd, const char *kept, struct err *err)
{
	scoped_mem struct json_value *answer = NULL;
	scoped_mem char *args = NULL;

	if (asprintf(&args, "{\"snapshot\": \"%s\"}", kept) < 0) {
		args = NULL;
		return err_set(err, ENOMEM, "no memory");
	}
	return client_ask(fd, "x-lodge-forget", args, -1, &answer, err);
}

/* In its directory, which is locked. */
static int take(const struct snap *s, const struct snapdir *d, const char *guest, int fd, struct err *err)
{
	scoped_mem char *path = snapdir_file(d, s->name, SNAPDIR_SNAPSHOT, err);
	struct forked_guest g = FORKED_NONE;
	char kept[DISK_NAME];
	int rc;

	if (!path)
		return -ENOMEM;
	if (access(path, F_OK) == 0)
		return err_set(err, EBUSY, "guest '%s' has a snapshot '%s' already", guest, s->name);
	snapdir_sweep(d);
	rc = forked_ask(fd, disk_name(kept, guest, s->name), &g, err);
	if (rc == 0 && (rc = write_fork(d, path, &g.fork, g.saved, err)) < 0) {
		err_at(err, rc, "snapshot '%s'", s->name);
		forget_there(fd, kept, NULL); /* or the next of that name does */
	}
	forked_close(&g);
	if (rc < 0)
		snapdir_sweep(d);
	return rc;
}

/* By which name the guest goes, which is where its snapshots are. */
static int ask_name(int fd, struct json_value **facts, const char **name, struct err *err)
{
	int rc = client_ask(fd, "x-lodge-info", NULL, -1, facts, err);

	if (rc == 0 && json_get_str(*facts, "name", name, NULL) < 0)
		rc = err_set(err, EBUSY, "the guest has no name, by which its snapshots would be found: "
			     "start it with --name");
	return rc;
}

static int create(struct snap *s, struct err *err)
{
	scoped_mem struct json_value *facts = NULL;
	scoped_fd int fd = client_connect(s->vm, err);
	const char *guest;
	struct snapdir d;
	int rc = fd < 0 ? fd : ask_name(fd, &facts, &guest, err);

	if (rc < 0)
		return rc;
	rc = snapdir_open(&d, guest, SNAPDIR_CHANGE, err);
	if (rc == 0)
		rc = take(s, &d, guest, fd, err);
	snapdir_close(&d);
	return rc;
}

/* -- Of which guest ----------------------------------------------------------------- */

/* The one that has snapshots, if none was named. `guests` owns the string. */
static int find_guest(const struct snap *s, struct snapdir_names *guests, const char **guest, struct err *err)
{
	int rc = 0;

	*guests = (struct snapdir_names){.n = 0};
	*guest = s->vm;
	if (s->vm)
		return 0;
	rc = snapdir_guests(guests, err);
	if (rc == 0 && guests->n == 0)
		rc = err_set(err, ENOENT, "no guest has snapshots");
	else if (rc == 0 && guests->n > 1)
		rc = err_set(err, EBUSY, "several guests have snapshots: say which one (lodge snapshot list)");
	else if (rc == 0)
		*guest = guests->name[0];
	return rc;
}

/* Opens its directory, and says whose it is, if `guest` is given, for as long as the process lives. */
static int open_dir(const struct snap *s, struct snapdir *d, enum snapdir_use use, const char **guest,
		    struct err *err)
{
	struct snapdir_names guests, any;
	const char *name;
	int rc = find_guest(s, &guests, &name, err);

	d->lock = -1;
	if (rc == 0)
		rc = snapdir_open(d, name, SNAPDIR_READ, err); /* it must be there */
	if (rc == 0 && use == SNAPDIR_CHANGE) {
		snapdir_close(d);
		rc = snapdir_open(d, name, use, err);
	}
	if (rc == 0 && (rc = snapdir_names(d, SNAPDIR_SNAPSHOT, &any, err)) == 0) {
		if (!any.n)
			rc = err_set(err, ENOENT, "guest '%s' has no snapshots", name);
		snapdir_free(&any);
	}
	if (rc == 0 && guest && !(*guest = strdup(name)))
		rc = err_set(err, ENOMEM, "no memory");
	snapdir_free(&guests);
	return rc;
}

/* A sentence for a snapshot that is not there. */
static int check_there(const char *path, const char *name, struct err *err)
{
	return access(path, F_OK) == 0 ? 0 : err_set(err, ENOENT, "there is no snapshot '%s'", name);
}

/* -- List --------------------------------------------------------------------------- */

struct row {
	uint64_t created, alone, all, ids[RAM_LAYERS_MAX], stored[RAM_LAYERS_MAX];
	unsigned n;
	const char *name;
};

static int read_row(struct row *r, const struct snapdir *d, const char *name, bool check, struct err *err)
{
	struct snapfiles s;
	int rc = snapfiles_open(&s, d, name, err);

	*r = (struct row){.name = name, .created = s.snapshot.created, .n = s.snapshot.n,
			  .all = s.snapshot.file.size};
	for (unsigned i = 0; rc == 0 && i < r->n; i++) {
		r->ids[i] = s.snapshot.ids[i];
		r->stored[i] = s.layers[i].stored;
		r->all += r->stored[i];
		if (check)
			rc = layer_check(&s.layers[i], err);
	}
	r->alone = s.snapshot.file.size;
	snapfiles_close(&s);
	return rc;
}

static bool has_layer(const struct row *r, uint64_t id)
{
	for (unsigned i = 0; i < r->n; i++)
		if (r->ids[i] == id)
			return true;
	return false;
}

/* What would be free without it. */
static void count_alone(struct row *rows, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		for (unsigned l = 0; l < rows[i].n; l++) {
			unsigned users = 0;

			for (unsigned k = 0; k < n; k++)
				users += has_layer(&rows[k], rows[i].ids[l]);
			if (users == 1)
				rows[i].alone += rows[i].stored[l];
		}
}

static int by_date(const void *a, const void *b)
{
	uint64_t x = ((const struct row *)a)->created, y = ((const struct row *)b)->created;

	return x < y ? -1 : x > y;
}

static void print_row(const char *guest, const struct row *r)
{
	char alone[SIZE_TEXT], all[SIZE_TEXT], date[32] = "-";
	time_t t = (time_t)(r->created / 1000000000);
	struct tm tm;

	if (localtime_r(&t, &tm))
		strftime(date, sizeof(date), "%Y-%m-%d %H:%M:%S", &tm);
	printf("%-16s %-16s %-19s %9s %9s %6u\n", guest, r->name, date, size_text(alone, r->alone),
	       size_text(all, r->all), r->n);
}

static void add_row(struct json *j, const char *guest, const struct row *r)
{
	char id[17];

	json_open(j, NULL, '{');
	json_str(j, "guest", guest);
	json_str(j, "name", r->name);
	json_real(j, "created", (double)r->created / 1e9);
	json_uint(j, "alone", r->alone);
	json_uint(j, "all", r->all);
	json_open(j, "layers", '[');
	for (unsigned i = 0; i < r->n; i++) {
		snprintf(id, sizeof(id), "%016" PRIx64, r->ids[i]);
		json_open(j, NULL, '{');
		json_str(j, "id", id);
		json_uint(j, "stored", r->stored[i]);
		json_close(j);
	}
	json_close(j);
	json_close(j);
}

/* What is not whole gets a sentence instead of a row. */
static int read_rows(const struct snap *s, const struct snapdir *d, const struct snapdir_names *names,
		     struct row *rows, bool *bad)
{
	unsigned n = 0;
	struct err err;

	for (unsigned i = 0; i < names->n; i++)
		if (read_row(&rows[n], d, names->name[i], s->check, &err) == 0)
			n++;
		else {
			log_warn("snapshot", "'%s': %s", names->name[i], err.text);
			*bad = true;
		}
	count_alone(rows, n);
	qsort(rows, n, sizeof(*rows), by_date);
	return (int)n;
}

static int list_guest(const struct snap *s, const char *guest, struct json *j, bool *bad, struct err *err)
{
	struct snapdir_names names = {.n = 0};
	scoped_mem struct row *rows = NULL;
	struct snapdir d;
	int rc = snapdir_open(&d, guest, SNAPDIR_READ, err), n = 0;

	if (rc == 0)
		rc = snapdir_names(&d, SNAPDIR_SNAPSHOT, &names, err);
	if (rc == 0 && !(rows = calloc(names.n + 1, sizeof(*rows))))
		rc = err_set(err, ENOMEM, "no memory");
	if (rc == 0)
		n = read_rows(s, &d, &names, rows, bad);
	for (int i = 0; i < n; i++)
		if (wants_json(s->format))
			add_row(j, guest, &rows[i]);
		else
			print_row(guest, &rows[i]);
	snapdir_free(&names);
	snapdir_close(&d);
	return rc;
}

static int list_guests(const struct snap *s, const struct snapdir_names *guests, bool *bad, struct err *err)
{
	struct json j = {.out = stdout};
	int rc = 0;

	if (wants_json(s->format))
		json_open(&j, NULL, '[');
	else
		printf("%-16s %-16s %-19s %9s %9s %6s\n", "GUEST", "NAME", "CREATED", "ALONE", "ALL", "LAYERS");
	for (unsigned i = 0; rc == 0 && i < guests->n; i++)
		rc = list_guest(s, guests->name[i], &j, bad, err);
	if (wants_json(s->format))
		json_close(&j);
	return rc;
}

/* Those of all guests, or of one that must be there: what is wrong is said before anything is printed. */
static int list(struct snap *s, struct err *err)
{
	struct snapdir_names guests = {.n = 0};
	bool bad = false;
	struct snapdir d;
	int rc;

	if (s->vm) {
		char *one = (char *)s->vm;

		rc = snapdir_open(&d, s->vm, SNAPDIR_READ, err);
		snapdir_close(&d);
		if (rc == 0)
			rc = list_guests(s, &(struct snapdir_names){&one, 1}, &bad, err);
	} else {
		rc = snapdir_guests(&guests, err);
		if (rc == 0)
			rc = list_guests(s, &guests, &bad, err);
		snapdir_free(&guests);
	}
	return rc == 0 && bad ? err_set(err, EINVAL, "not all snapshots are whole") : rc;
}

/* -- Delete ------------------------------------------------------------------------- */

/* A disk that no guest has. */
static int forget_here(const struct saved_disk *d, const char *kept, struct err *err)
{
	struct disk_moment m;
	struct disk *disk;
	int rc = disk_open(&disk, &(struct disk_config){.path = d->path, .format = d->format}, err);

	if (rc < 0)
		return rc;
	disk_moment_forget(disk, &m, kept);
	rc = disk_moment_end(&m, err);
	disk_close(disk);
	return rc;
}

/* Of each disk that was written. The snapshot is gone already: what is left of it costs space, and is told. */
static void forget_disks(const struct snap *s, const char *guest)
{
	char kept[DISK_NAME];
	struct err err = {0}, unheard;

	disk_name(kept, guest, s->name);
	for (unsigned i = 0; i < saved_disks(s->guest.saved); i++) {
		const struct saved_disk *d = saved_disk(s->guest.saved, i);
		int rc, fd;

		if (d->readonly)
			continue;
		rc = forget_here(d, kept, &err);
		fd = rc == -EBUSY ? client_connect(guest, &unheard) : -1;
		if (fd >= 0) {
			rc = forget_there(fd, kept, &err);
			close(fd);
		}
		if (rc < 0)
			log_warn("snapshot", "%s: it keeps '%s' inside, which `qemu-img snapshot -d` removes", err.text, kept);
	}
}

static int open_fork(struct snap *s, struct err *err);

static int delete(struct snap *s, struct err *err)
{
	bool is_whole = open_fork(s, NULL) == 0; /* one that is not has told nobody of its disks */
	scoped_mem char *path = NULL;
	const char *guest = NULL;
	struct snapdir d;
	int rc = open_dir(s, &d, SNAPDIR_CHANGE, &guest, err);

	if (rc == 0 && !(path = snapdir_file(&d, s->name, SNAPDIR_SNAPSHOT, err)))
		rc = -ENOMEM;
	if (rc == 0 && (rc = check_there(path, s->name, err)) == 0 && unlink(path) < 0)
		rc = err_sys(err, errno, "'%s'", path);
	if (rc == 0) {
		fsync(d.lock); /* some file systems cannot */
		snapdir_sweep(&d);
	}
	snapdir_close(&d);
	if (rc == 0 && is_whole)
		forget_disks(s, guest);
	forked_close(&s->guest);
	return rc;
}

/* -- Restore ------------------------------------------------------------------------ */

static int open_fork(struct snap *s, struct err *err)
{
	static struct snapfiles files;
	scoped_mem char *path = NULL;
	struct snapdir d;
	int rc = open_dir(s, &d, SNAPDIR_READ, &s->vm, err);

	if (rc == 0 && !(path = snapdir_file(&d, s->name, SNAPDIR_SNAPSHOT, err)))
		rc = -ENOMEM;
	if (rc == 0)
		rc = check_there(path, s->name, err);
	if (rc == 0) {
		rc = snapfiles_open(&files, &d, s->name, err);
		if (rc == 0)
			rc = snapshot_fork(&files.snapshot, files.layers, &s->guest.fork, &s->guest.saved, err);
		snapfiles_close(&files);
	}
	snapdir_close(&d);
	return rc;
}

static int configure(void *snap, struct machine_config *config, struct launch_disks *disks, struct err *err)
{
	struct snap *s = snap;
	int rc;

	config->fork = &s->guest.fork;
	disks->known = true; /* they are in a directory of the user's own */
	rc = launch_saved(s->guest.saved, config, disks, err);
	disk_name(s->kept, s->vm, s->name);
	for (unsigned i = 0; i < disks->n; i++)
		if (!disks->disks[i].readonly)
			disks->disks[i].go_back = s->kept;
	return rc;
}

/* The guest has its name again, unless it is given another. */
static int restore(struct snap *s)
{
	struct err err = {0};
	int code;

	launch_prepare(&s->launch);
	if (open_fork(s, &err) < 0)
		return report_failure(&err);
	if (!s->launch.name)
		s->launch.name = s->vm;
	code = launch(&s->launch, configure, s);
	forked_close(&s->guest);
	return code;
}

/* -- The verb ----------------------------------------------------------------------- */

static const struct action {
	const char *name;
	bool takes_name;
	int (*act)(struct snap *s, struct err *err); /* NULL: it becomes the guest */
} actions[] = {
	{"create", true, create}, {"list", false, list}, {"restore", true, NULL}, {"delete", true, delete}, {0},
};

static const struct action *find_action(const char *word)
{
	for (const struct action *a = actions; a->name; a++)
		if (word && strcmp(a->name, word) == 0)
			return a;
	return NULL;
}

/* With three words the first is a guest, whatever its name; with fewer it is one if it is no action. */
static int parse(struct snap *s, const struct action **action, struct err *err)
{
	const char *const *word = s->operands;

	if (word[0] && (word[2] || !find_action(word[0])))
		s->vm = *word++;
	*action = find_action(word[0]);
	if (!*action)
		return err_set(err, ERANGE, "create, list, restore or delete is %s%s: lodge snapshot [VM] ACTION [NAME]",
			       word[0] ? "wanted, not " : "missing", word[0] ? word[0] : "");
	s->name = word[1];
	if ((*action)->takes_name && !s->name)
		return err_set(err, ERANGE, "the snapshot's name is missing: lodge snapshot [VM] %s NAME",
			       (*action)->name);
	if (!(*action)->takes_name && s->name)
		return err_set(err, ERANGE, "'%s' is one word too many: lodge snapshot [VM] list", s->name);
	if (s->name && !place_is_name(s->name))
		return err_set(err, ERANGE, "'%s' is no name: letters, digits, '.', '_' and '-', with a letter first, "
			       "at most %d", s->name, PLACE_NAME_MAX - 1);
	return 0;
}

static int snapshot_main(void *parsed)
{
	struct snap *s = parsed;
	const struct action *action;
	struct err err = {0};

	if (parse(s, &action, &err) < 0)
		return report_failure(&err);
	if (!action->act)
		return restore(s);
	return action->act(s, &err) < 0 ? report_failure(&err) : EXIT_OK;
}

const struct verb verb_snapshot = {
	.name = "snapshot",
	.summary = "states of a guest that are kept, and to which it can go back",
	.text = VM_TEXT
		"`create NAME` keeps the state of a running guest, which goes on; it needs a name, and\n"
		"disks that it writes must be qcow2. On the disk is only what was written since another snapshot\n"
		"that is there. `list` tells them: ALONE is what would be free without it, ALL what it has with\n"
		"others. `restore NAME` starts a guest from one as `lodge restore` does, with the guest's name if\n"
		"there is no --name; the other options are for that. `delete NAME` removes it, and\n"
		"what no other has.\n",
	.operand = "[VM] create|list|restore|delete [NAME]",
	.n_operands = 3,
	.options = options,
	.size = sizeof(struct snap),
	.defaults = &defaults,
	.main = snapshot_main,
};

/* SPDX-License-Identifier: MIT */
/* lodge-img map: where the parts of a disk are, and in which image of a chain. */
#include "prog/lodge-img/img.h"

#include "base/err.h"
#include "base/json.h"
#include "base/macros.h"
#include "block/node.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAMES_MAX 17u

struct map {
	const char *path, *format, *output, *start, *most;
	bool shares, follow;
};

static const struct option options[] = {
	OPTION_FORMAT(offsetof(struct map, format)),
	{"--start-offset", "SIZE", "from there on", OPTION_TEXT, offsetof(struct map, start), 0, 0, NULL},
	{"--max-length", "SIZE", "and no more than that", OPTION_TEXT, offsetof(struct map, most), 0, 0, NULL},
	OPTION_OUTPUT(offsetof(struct map, output)),
	OPTION_FOLLOW(offsetof(struct map, follow)),
	OPTION_SHARE(offsetof(struct map, shares)),
	{0},
};

struct mapping {
	struct image image;
	struct json j;
	bool json;
	uint64_t at;          /* where the run begins */
	struct node_status s; /* that is being put together */
	char *names[NAMES_MAX]; /* of the images, by depth */
};

static int put(struct mapping *m, struct err *err)
{
	const struct node_status *s = &m->s;

	if (m->json) {
		json_open(&m->j, NULL, '{');
		json_uint(&m->j, "start", m->at);
		json_uint(&m->j, "length", s->len);
		json_uint(&m->j, "depth", s->depth);
		json_bool(&m->j, "present", s->here);
		json_bool(&m->j, "zero", s->zero);
		json_bool(&m->j, "data", s->data);
		if (s->has_place)
			json_uint(&m->j, "offset", s->place);
		json_close(&m->j);
		return 0;
	}
	if (!s->data || s->zero)
		return 0;
	if (!s->has_place)
		return err_set(err, EINVAL, "byte %llu is at no place of a file, for it is compressed or on a server: --output json tells of it",
			       (unsigned long long)m->at);
	printf("%#-16llx%#-16llx%#-16llx%s\n", (unsigned long long)m->at, (unsigned long long)s->len,
	       (unsigned long long)s->place, m->names[s->depth]);
	return 0;
}

static bool goes_on(const struct node_status *s, const struct node_status *more)
{
	return s->here == more->here && s->data == more->data && s->zero == more->zero && s->depth == more->depth &&
	       s->packed == more->packed && s->has_place == more->has_place &&
	       (!s->has_place || s->place + s->len == more->place);
}

static int map_all(struct mapping *m, uint64_t end, struct err *err)
{
	struct node *node = m->image.node;
	struct node_status s;
	int rc = 0;

	for (uint64_t at = m->at; rc == 0 && at < end; at += s.len) {
		rc = node->ops->status(node, at, end - at, &s);
		if (rc < 0)
			return err_sys(err, -rc, "looking at byte %llu", (unsigned long long)at);
		if (m->s.len && goes_on(&m->s, &s)) {
			m->s.len += s.len;
			continue;
		}
		if (m->s.len)
			rc = put(m, err);
		m->s = s;
		m->at = at;
	}
	return rc == 0 && m->s.len ? put(m, err) : rc;
}

static int take_name(struct mapping *m, unsigned depth, const char *name, struct err *err)
{
	m->names[depth] = strdup(name);
	if (!m->names[depth])
		return err_set(err, ENOMEM, "no memory");
	err_harmless(m->names[depth]);
	return 0;
}

static int find_names(struct mapping *m, const struct map *map, struct err *err)
{
	char path[PATH_MAX], name[PATH_MAX];
	enum disk_format format = m->image.format;
	int rc = take_name(m, 0, map->path, err);

	snprintf(path, sizeof(path), "%s", map->path);
	for (unsigned d = 1; rc == 0 && format == DISK_QCOW2 && d < NAMES_MAX; d++) {
		rc = img_behind(path, img_how(map->shares, map->follow), name, &format, err);
		if (rc < 0 || !name[0])
			return rc;
		rc = take_name(m, d, name, err);
		memcpy(path, name, sizeof(path));
	}
	return rc;
}

static int map(struct mapping *m, const struct map *map, struct err *err)
{
	uint64_t end = img_size(&m->image), most = end;
	int rc = map->start ? img_number(&m->at, map->start, "--start-offset", err) : 0;

	if (rc == 0 && map->most)
		rc = img_number(&most, map->most, "--max-length", err);
	if (rc == 0 && m->at > end)
		rc = err_set(err, EINVAL, "--start-offset: the disk has %llu bytes", (unsigned long long)end);
	if (rc < 0)
		return rc;
	if (most < end - m->at)
		end = m->at + most;
	if (m->json)
		json_open(&m->j, NULL, '[');
	else
		printf("%-16s%-16s%-16s%s\n", "Offset", "Length", "Mapped to", "File");
	rc = find_names(m, map, err);
	if (rc == 0)
		rc = map_all(m, end, err);
	while (m->j.depth)
		json_close(&m->j);
	return rc;
}

static int map_main(void *parsed)
{
	const struct map *p = parsed;
	struct mapping m = {.j = {.out = stdout}, .json = wants_json(p->output)};
	struct err err = {0};
	int rc = img_open(&m.image, &(struct want){.path = p->path, .format = p->format, .how = img_how(p->shares, p->follow)}, &err);

	if (rc == 0) {
		rc = map(&m, p, &err);
		if (rc < 0)
			err_at(&err, rc, "'%s'", p->path);
	}
	node_close(m.image.node);
	for (unsigned i = 0; i < NAMES_MAX; i++)
		free(m.names[i]);
	return rc < 0 ? img_fail(&err) : EXIT_OK;
}

const struct verb verb_map = {
	.name = "map",
	.summary = "where the parts of a disk are, and in which image of a chain",
	.text = FORMAT_TEXT,
	.operand = "FILE",
	.n_operands = 1,
	.options = options,
	.size = sizeof(struct map),
	.main = map_main,
};

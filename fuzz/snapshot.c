/* SPDX-License-Identifier: MIT */
/*
 * Any files as a snapshot and its layer (lib/machine/saved/snapshot.c, layer.c). The first byte tells what the input is:
 *
 *	even    all of the file; 0 modulo 4 a snapshot's, else a layer's
 *	odd     both, as somebody would make them who wants to get in, with right checksums: of the snapshot layers and
 *	        memory as the next two bytes say, then state and map; of the layer all behind its header is the input, too
 *
 * Nothing may crash; a snapshot that fits its layers becomes a fork, and that can be asked what a machine would ask.
 */
#include "base/macros.h"
#include "machine/fork.h"
#include "machine/machine.h"
#include "machine/saved.h"
#include "machine/saved/form.h"
#include "machine/snapshot.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int make_file(const void *bytes, size_t len)
{
	int fd = memfd_create("file", MFD_CLOEXEC);

	if (fd < 0 || pwrite(fd, bytes, len, 0) != (ssize_t)len)
		abort();
	return fd;
}

/* Header and body, with their checksums. */
static int seal(uint8_t *file, size_t len)
{
	le64_put(file + AT_BODY_SUM, saved_sum(file + SAVED_HEADER, len - SAVED_HEADER));
	le64_put(file + AT_HEADER_SUM, saved_sum(file, AT_HEADER_SUM));
	return make_file(file, len);
}

static int make_snapshot(const uint8_t *data, size_t size, unsigned n, uint64_t memory, uint64_t id)
{
	size_t pages = memory / SAVED_PAGE, state = size < SAVED_HEADER ? SAVED_HEADER : size;
	size_t len = SAVED_HEADER + state + pages + n * 8;
	uint8_t *file = calloc(1, len), *body = file + SAVED_HEADER;
	int fd;

	memcpy(file, SNAPSHOT_MAGIC, 8);
	le32_put(file + AT_VERSION, SNAPSHOT_VERSION);
	le32_put(file + AT_SNAPSHOT_LAYERS, n);
	le64_put(file + AT_SNAPSHOT_STATE, state);
	le64_put(file + AT_SNAPSHOT_LEN, memory);
	if (size)
		memcpy(body, data, size);
	le64_put(body + AT_BODY_SUM, saved_sum(body + SAVED_HEADER, state - SAVED_HEADER));
	le64_put(body + AT_HEADER_SUM, saved_sum(body, AT_HEADER_SUM));
	for (size_t p = 0; p < pages && size; p++)
		body[state + p] = data[p % size] % (n + 1);
	for (unsigned i = 0; i < n; i++)
		le64_put(body + state + pages + i * 8, id);
	fd = seal(file, len);
	free(file);
	return fd;
}

static int make_layer(const uint8_t *data, size_t size, bool has_all, uint64_t memory, uint64_t *id)
{
	size_t len = SAVED_HEADER + LAYER_ORIGIN + memory / SAVED_PAGE / 8 + saved_chunks(memory) * 8;
	uint64_t at = align_up(len, SAVED_CHUNK);
	uint8_t *file = calloc(1, len);
	int fd;

	memcpy(file, LAYER_MAGIC, 8);
	le32_put(file + AT_VERSION, LAYER_VERSION);
	le64_put(file + AT_LAYER_LEN, memory);
	le64_put(file + AT_LAYER_MEMORY, at);
	memset(file + SAVED_HEADER, has_all ? 0xff : 0x5a, len - SAVED_HEADER);
	memcpy(file + SAVED_HEADER, data, size < len - SAVED_HEADER ? size : len - SAVED_HEADER);
	*id = saved_sum(file + SAVED_HEADER, len - SAVED_HEADER);
	fd = seal(file, len);
	free(file);
	if (ftruncate(fd, (off_t)(at + memory)) < 0)
		abort();
	return fd;
}

static void ask(const struct snapshot *s, const struct layer *layer)
{
	struct layer layers[32];
	struct machine_fork f;
	struct machine_config config = {0};
	struct saved *saved;

	for (unsigned i = 0; i < s->n; i++)
		layers[i] = *layer;
	if (snapshot_fork(s, layers, &f, &saved, NULL) < 0)
		return;
	if (saved_config(saved, &config, NULL) == 0)
		machine_check(&config, NULL);
	free(snapshot_where(saved, &f, NULL));
	saved_close(saved);
	machine_fork_close(&f);
}

static void look(const uint8_t *where, const struct layer *layer)
{
	const struct layer_source source = {
		.fd = layer->file.fd, .at = layer->memory_at, .memory = layer->memory_len, .where = where, .number = 1,
	};

	layer_check(layer, NULL);
	layer_has(layer, &source);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct snapshot s = {.file.fd = -1};
	struct layer l = {.file.fd = -1};

	if (size < 4)
		return 0;
	if (data[0] & 1) {
		uint64_t memory = (1 + data[1] % 4) * MiB, id;
		int layer = make_layer(data + 3, (size - 3) / 2, data[2] & 1, memory, &id);
		int snapshot = make_snapshot(data + 3, size - 3, data[2] % 40, memory, id);

		if (layer_open(&l, layer, "layer", NULL) == 0 && snapshot_open(&s, snapshot, "snapshot", NULL) == 0) {
			look(s.body + s.state_len, &l);
			ask(&s, &l);
		} else if (!l.body) {
			close(snapshot);
		}
	} else if (data[0] & 2) {
		layer_open(&l, make_file(data + 1, size - 1), "layer", NULL);
	} else {
		snapshot_open(&s, make_file(data + 1, size - 1), "snapshot", NULL);
	}
	snapshot_close(&s);
	layer_close(&l);
	return 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * lodge screenshot: what a guest's monitor shows, as a PNG file. The guest's lodge gives the pixels, in memory of their own; what becomes of
 * them is made here.
 */
#include "lodge.h"

#include "base/err.h"
#include "base/json_read.h"
#include "base/scoped.h"
#include "client.h"
#include "display/png.h"
#include "display/surface.h"
#include "failure.h"
#include "newfile.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct screenshot {
	const char *operands[2];
};

/* From a lodge that may be another than we think. */
static int read_size(const struct json_value *answer, int fd, struct surface *s, struct err *err)
{
	uint64_t width, height;
	struct stat st;
	int rc;

	if ((rc = json_get_uint(answer, "width", SURFACE_WIDTH_MAX, &width, err)) < 0 ||
	    (rc = json_get_uint(answer, "height", SURFACE_HEIGHT_MAX, &height, err)) < 0)
		return rc;
	*s = (struct surface){.width = (uint32_t)width, .height = (uint32_t)height, .room = (size_t)(width * height)};
	if (!s->room || fstat(fd, &st) < 0 || (uint64_t)st.st_size < s->room * 4)
		return err_set(err, EIO, "the guest's lodge gives no picture");
	return 0;
}

static int write_file(const struct surface *s, const char *path, struct err *err)
{
	struct newfile file;
	int rc = newfile_open(&file, path, err), copy = rc == 0 ? dup(file.fd) : -1;
	FILE *out = copy >= 0 ? fdopen(copy, "w") : NULL;

	if (rc == 0 && !out)
		rc = err_sys(err, errno, "%s", path);
	if (rc == 0)
		rc = png_write(out, s, err);
	if (out && fclose(out) != 0 && rc == 0)
		rc = err_sys(err, errno, "%s", path);
	if (rc == 0)
		rc = newfile_publish(&file, err);
	newfile_close(&file);
	return rc;
}

static int take(const char *vm, const char *path, struct err *err)
{
	scoped_fd int fd = client_connect(vm, err);
	scoped_mem struct json_value *answer = NULL;
	struct client_files files;
	struct surface s;
	int rc = fd < 0 ? fd : client_ask_files(fd, "x-lodge-screenshot", NULL, &files, &answer, err);

	if (rc < 0)
		return rc;
	rc = files.n == 1 ? read_size(answer, files.fd[0], &s, err) : err_set(err, EIO, "the guest's lodge gives no picture");
	if (rc == 0) {
		s.pixels = mmap(NULL, s.room * 4, PROT_READ, MAP_SHARED, files.fd[0], 0);
		rc = s.pixels == MAP_FAILED ? err_sys(err, errno, "the picture") : write_file(&s, path, err);
		if (s.pixels != MAP_FAILED)
			munmap(s.pixels, s.room * 4);
	}
	while (files.n)
		close(files.fd[--files.n]);
	return rc;
}

static int screenshot_main(void *parsed)
{
	const struct screenshot *s = parsed;
	const char *path = s->operands[1] ? s->operands[1] : s->operands[0];
	struct err err = {0};
	int rc;

	if (path)
		rc = take(s->operands[1] ? s->operands[0] : NULL, path, &err);
	else
		rc = err_set(&err, ERANGE, "the file is missing: lodge screenshot [VM] FILE.png");
	return rc < 0 ? report_failure(&err) : EXIT_OK;
}

const struct verb verb_screenshot = {
	.name = "screenshot",
	.summary = "what a guest's screen shows, as a PNG file",
	.text = VM_TEXT "It has a screen if it was started with --display.\n",
	.operand = "[VM] FILE.png",
	.n_operands = 2,
	.size = sizeof(struct screenshot),
	.main = screenshot_main,
};

/* SPDX-License-Identifier: MIT */
/*
 * What a guest's monitor shows: as pixels in memory, for lodge screenshot, which makes a file of them; or as a picture, into a file that
 * the client has opened. That is drawn and packed here, while nobody else of the main thread's is served: some tens of milliseconds.
 */
#include "base/err.h"
#include "base/json.h"
#include "base/memfile.h"
#include "base/scoped.h"
#include "display/png.h"
#include "display/surface.h"
#include "files.h"
#include "machine/screen.h"
#include "prog/lodge/session.h"
#include "request.h"
#include "serve.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static int no_screen(struct call *c, struct err *err)
{
	c->class = QMP_NO_DEVICE;
	return err_set(err, EBUSY, "the guest has no screen and no keyboard: it was started without --display");
}

/* Draws into memory of its own, sparse and with a descriptor, and cuts that to what there is. The caller unmaps and closes. */
static int draw(struct call *c, struct surface *s, struct err *err)
{
	scoped_fd int fd = memfile_create("lodge-screenshot", SURFACE_PIXELS_MAX * 4);

	*s = (struct surface){.room = SURFACE_PIXELS_MAX};
	if (fd < 0)
		return err_sys(err, -fd, "memory for a picture");
	s->pixels = mmap(NULL, s->room * 4, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (s->pixels == MAP_FAILED)
		return err_sys(err, errno, "memory for a picture");
	if (machine_show(c->session->machine, s))
		return keep_fd(&fd);
	munmap(s->pixels, s->room * 4);
	return no_screen(c, err);
}

int do_screenshot(struct call *c, struct err *err)
{
	struct surface s;
	int fd = draw(c, &s, err);

	if (fd < 0)
		return fd;
	munmap(s.pixels, s.room * 4);
	call_give(c, fd);
	json_uint(c->answer, "width", s.width);
	json_uint(c->answer, "height", s.height);
	return 0;
}

/* -- Pictures ----------------------------------------------------------------------------------- */

/* Netpbm's: a head, and three bytes a dot. */
static int ppm_write(FILE *out, const struct surface *s)
{
	fprintf(out, "P6\n%u %u\n255\n", s->width, s->height);
	for (size_t i = 0; i < (size_t)s->width * s->height; i++) {
		uint32_t dot = s->pixels[i];

		putc((int)(dot >> 16 & 0xff), out);
		putc((int)(dot >> 8 & 0xff), out);
		putc((int)(dot & 0xff), out);
	}
	return 0;
}

/* The whole file, in memory: NULL and err if there is none for it. */
static char *make_picture(const struct surface *s, bool png, size_t *len, struct err *err)
{
	char *bytes = NULL;
	FILE *out = open_memstream(&bytes, len);
	int rc = !out ? -ENOMEM : png ? png_write(out, s, err) : ppm_write(out, s);

	if (out && fclose(out) != 0)
		rc = -ENOMEM;
	if (rc == 0)
		return bytes;
	free(bytes);
	err_set(err, ENOMEM, "no memory for a picture");
	return NULL;
}

/* What can be seeked in is no pipe. A file system that hangs (FUSE, NFS) holds the main thread up as long as it does; that is left to who has
 * opened the file, for the same client may stop the guest, or end it. */
static int write_file(int fd, const char *bytes, size_t len, struct err *err)
{
	if (lseek(fd, 0, SEEK_SET) != 0)
		return err_set(err, ERANGE, "'screendump' needs a regular file");
	if (ftruncate(fd, 0) < 0)
		return err_sys(err, errno, "the file for the picture");
	for (size_t at = 0; at < len;) {
		ssize_t n = write(fd, bytes + at, len - at);

		if (n < 0 && errno != EINTR)
			return err_sys(err, errno, "the file for the picture");
		at += n > 0 ? (size_t)n : 0;
	}
	return 0;
}

int do_screendump(struct call *c, struct err *err)
{
	const struct qmp_file *file = qmp_files_named(c->files, call_str(c, "filename"), err);
	const char *format = call_str(c, "format");
	scoped_mem char *bytes = NULL;
	struct surface s;
	size_t len = 0;
	int fd = file ? draw(c, &s, err) : -err->code;

	if (fd < 0)
		return fd;
	bytes = make_picture(&s, format && strcmp(format, "png") == 0, &len, err);
	munmap(s.pixels, s.room * 4);
	close(fd);
	return bytes ? write_file(file->fd, bytes, len, err) : -ENOMEM;
}

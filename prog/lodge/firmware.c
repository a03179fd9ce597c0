/* SPDX-License-Identifier: MIT */
/*
 * See firmware.h. Images are where Debian's packages put them. Of OVMF it is the build for 4 MiB without Secure Boot: the one with it wants
 * system management mode, which there is not (docs/board.md), and would stop without a word: it is refused, where its package says what it is.
 *
 * A file of variables is one guest's: it is locked as long as the guest is there.
 */
#include "firmware.h"

#include "base/err.h"
#include "base/macros.h"
#include "base/scoped.h"
#include "descriptor.h"
#include "dev/flash.h"
#include "launch.h"
#include "machine/board_map.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BIOS, UEFI };

static const struct {
	const char *name, *is, *package;
	const char *paths[3];
	const char *variables; /* as they are in a new computer; NULL: it keeps none */
} known[] = {
	[BIOS] = {"bios", "SeaBIOS", "seabios",
	 {"/usr/share/seabios/bios-256k.bin", "/usr/share/qemu/bios-256k.bin", "/usr/share/seabios/bios.bin"}, NULL},
	[UEFI] = {"uefi", "OVMF", "ovmf", {"/usr/share/OVMF/OVMF_CODE_4M.fd"}, "/usr/share/OVMF/OVMF_VARS_4M.fd"},
};

/* iPXE, for each network card: by BIOS and UEFI, or by BIOS alone. */
static const char *const net_roms[MACHINE_CARDS][2] = {
	[MACHINE_CARD_VIRTIO] = {"/usr/lib/ipxe/qemu/efi-virtio.rom", "/usr/lib/ipxe/qemu/pxe-virtio.rom"},
	[MACHINE_CARD_E1000] = {"/usr/lib/ipxe/qemu/efi-e1000.rom", "/usr/lib/ipxe/qemu/pxe-e1000.rom"},
};

/* The row of a name; -1: it is a file. */
static int find(const char *image)
{
	for (int i = 0; i < (int)ARRAY_SIZE(known); i++)
		if (strcmp(known[i].name, image) == 0)
			return i;
	return -1;
}

static const char *find_image(int row, struct err *err)
{
	for (unsigned i = 0; i < ARRAY_SIZE(known[row].paths) && known[row].paths[i]; i++)
		if (access(known[row].paths[i], R_OK) == 0)
			return known[row].paths[i];
	err_set(err, ENOENT, "--firmware %s: %s is not there (Debian's package is %s); or --firmware FILE", known[row].name,
		known[row].is, known[row].package);
	return NULL;
}

/* -- Variables ---------------------------------------------------------------------------- */

/* A new file has those of a new computer. */
static int fill(int fd, const char *path, const char *from, struct err *err)
{
	scoped_fd int source = open(from, O_RDONLY | O_CLOEXEC);
	static uint8_t bytes[FLASH_SIZE];

	if (source < 0 || pread(source, bytes, sizeof(bytes), 0) != sizeof(bytes))
		return err_set(err, EINVAL, "'%s' has no variables of a new computer: it must have %u bytes", from, FLASH_SIZE);
	if (pwrite(fd, bytes, sizeof(bytes), 0) != sizeof(bytes))
		return err_sys(err, errno, "writing variables to '%s'", path);
	return 0;
}

static int check(int fd, const char *path, const char *from, struct err *err)
{
	struct stat st;

	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return err_set(err, EBUSY, "--firmware-vars '%s': another guest has it", path);
	if (fstat(fd, &st) < 0)
		return err_sys(err, errno, "--firmware-vars '%s'", path);
	if (st.st_size == 0 && from)
		return fill(fd, path, from, err);
	if (!S_ISREG(st.st_mode) || st.st_size != FLASH_SIZE)
		return err_set(err, EINVAL, "--firmware-vars '%s' has %lld bytes: a file of variables has %u, or is not there yet", path,
			       (long long)st.st_size, FLASH_SIZE);
	return 0;
}

static int open_variables(const struct firmware_options *o, int row, struct machine_config *config, struct err *err)
{
	const char *from = row >= 0 ? known[row].variables : NULL, *path = o->variables ? o->variables : from;
	int rc;

	if (!path)
		return 0;
	config->variables = !o->variables ? open(path, O_RDONLY | O_CLOEXEC)
			    : from ? open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600) : open(path, O_RDWR | O_CLOEXEC);
	if (config->variables < 0)
		return err_sys(err, errno, "variables of firmware, '%s'", path);
	config->keep_variables = o->variables != NULL;
	rc = config->keep_variables ? check(config->variables, path, from, err) : 0;
	if (rc < 0)
		close(config->variables);
	return rc;
}

/* A file: a vCPU writes it, and must not wait for who reads a pipe or holds a terminal. */
static int open_log(const char *path, struct machine_config *config, struct err *err)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NONBLOCK, 0666);
	struct stat st;

	if (fd < 0)
		return err_sys(err, errno, "--firmware-log '%s'", path);
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
		config->firmware_log = fdopen(fd, "w");
	if (config->firmware_log)
		return 0;
	close(fd);
	return err_set(err, EINVAL, "--firmware-log '%s': it must be a file", path);
}

int firmware_configure(const struct firmware_options *o, struct machine_config *config, struct err *err)
{
	int row = o->image ? find(o->image) : -1, rc;

	if (!o->image && (o->log || o->variables))
		return err_set(err, ERANGE, "%s is for a machine with firmware: --firmware uefi",
			       o->log ? "--firmware-log" : "--firmware-vars");
	if (!o->image)
		return 0;
	if (o->variables && row >= 0 && !known[row].variables)
		return err_set(err, ERANGE, "--firmware-vars: %s has none; --firmware uefi has", known[row].is);
	config->board = &board_q35;
	config->hpet = true;
	config->firmware = row >= 0 ? find_image(row, err) : launch_path(o->image);
	if (!config->firmware)
		return -ENOENT;
	if (descriptor_says(config->firmware, "requires-smm"))
		return err_set(err, ERANGE, "--firmware '%s' wants system management mode, which this machine has not: %s is the build without",
			       config->firmware, known[UEFI].paths[0]);
	rc = open_variables(o, row, config, err);
	return rc < 0 || !o->log ? rc : open_log(o->log, config, err);
}

/* OVMF has drivers of its own; what other images have nobody knows. */
int firmware_configure_net(const struct firmware_options *o, struct machine_config *config, struct err *err)
{
	const char *const *roms = net_roms[o->card];
	bool wanted = false;

	for (unsigned i = 0; i < config->n_boot; i++)
		wanted |= config->boot[i] == MACHINE_BOOT_NET;
	for (unsigned i = 0; wanted && i < ARRAY_SIZE(net_roms[0]) && !config->net.rom; i++)
		if (access(roms[i], R_OK) == 0)
			config->net.rom = roms[i];
	if (wanted && !config->net.rom && strcmp(o->image, "bios") == 0)
		return err_set(err, ENOENT, "--boot net: SeaBIOS has a network by iPXE alone, and '%s' is not there (Debian's package is "
			       "ipxe-qemu)", roms[0]);
	return 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * lodge run: a guest from a kernel and its files; or one that `lodge save` has put into a file, and a
 * command in it.
 */
#include "lodge.h"

#include "arrival.h"
#include "base/err.h"
#include "base/macros.h"
#include "base/scoped.h"
#include "dev/device.h"
#include "document.h"
#include "failure.h"
#include "firmware.h"
#include "guest/agent.h"
#include "image/cloud.h"
#include "image/start.h"
#include "launch.h"
#include "machine/board_map.h"
#include "machine/cpu/cpu.h"
#include "place.h"
#include "template.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define DEFAULT_CMDLINE "console=ttyS0"

/* What makes a new machine. */
struct parts {
	const char *kernel, *initrd, *append, *console, *vga;
	struct firmware_options firmware;
	unsigned cpus, root_ports;
	struct cpu_model cpu;
	bool cpu_help;           /* instead of a guest */
	const char *device_help; /* the same; "": of all */
	uint64_t memory;
	struct launch_disks disks;
	enum machine_boot boot[MACHINE_BOOTS];
	unsigned n_boot;
	bool agent, snapshot, balloon, old_virtio, usb;
	struct cloud_options cloud;
};

struct run {
	const char *file; /* NULL: a new machine */
	const char *image; /* of which its first disk is; NULL */
	const char *incoming, *certificates, *template;
	struct launch launch;
	struct parts parts;
};

static struct document document; /* what the options have said */

static const struct run defaults = {
	.launch = LAUNCH_DEFAULTS,
	.parts = {.append = DEFAULT_CMDLINE, .console = "serial", .vga = "std", .cpus = 1, .memory = GiB},
};

static int set_cpu(void *into, char *value, struct err *err)
{
	struct parts *p = into;
	int rc = 0;

	p->cpu_help = strcmp(value, "help") == 0;
	if (!p->cpu_help)
		rc = cpu_model_parse(&p->cpu, value, err);
	return rc < 0 ? err_at(err, rc, "--cpu") : 0;
}

/* help, or DEVICE,help. */
static int set_device(void *into, char *value, struct err *err)
{
	const char **about = into;
	char *comma = strchr(value, ',');

	*about = value;
	if (comma && strcmp(comma, ",help") == 0)
		*comma = 0;
	else if (strcmp(value, "help") == 0)
		*about = "";
	else
		return err_set(err, EINVAL, "--device: '%s' is neither help nor DEVICE,help: devices are made by other "
			       "options, as --disk", value);
	return 0;
}

static bool is_switch(const char *option, const char *name, bool *into)
{
	size_t len = strlen(name);

	if (strncmp(option, name, len) != 0 || option[len] != '=')
		return false;
	*into = strcmp(option + len, "=on") == 0;
	return *into || strcmp(option + len, "=off") == 0;
}

static bool is_format(const char *option, enum disk_format *into)
{
	for (enum disk_format f = DISK_RAW; f <= DISK_QCOW2; f++)
		if (strncmp(option, "format=", 7) == 0 && strcmp(option + 7, disk_formats[f]) == 0) {
			*into = f;
			return true;
		}
	return false;
}

static bool is_bus(const char *option, enum machine_bus *into)
{
	for (unsigned i = 0; i < MACHINE_BUSES; i++)
		if (strncmp(option, "bus=", 4) == 0 && strcmp(option + 4, machine_buses[i]) == 0) {
			*into = (enum machine_bus)i;
			return true;
		}
	return false;
}

/* FILE[,OPTION=VALUE]...: what follows the last comma, if it has a '='. A file's name may have commas. */
static int set_disk(void *into, char *value, struct err *err)
{
	struct launch_disks *disks = into;
	struct disk_config *d = &disks->disks[disks->n];
	char *comma;

	if (disks->n == MACHINE_DISKS_MAX)
		return err_set(err, EINVAL, "--disk: there can be %d at most",
			       MACHINE_DISKS_MAX);
	while ((comma = strrchr(value, ',')) && strchr(comma, '=')) {
		if (!is_switch(comma + 1, "readonly", &d->readonly) &&
		    !is_switch(comma + 1, "snapshot", &d->throw_away) && !is_format(comma + 1, &d->format) &&
		    !is_bus(comma + 1, &disks->bus[disks->n]))
			return err_set(err, EINVAL, "--disk: '%s' is not readonly=on|off, snapshot=on|off, format=raw|qcow2 or "
				       "bus=virtio|sata|nvme|scsi|usb|ide", comma + 1);
		*comma = 0;
	}
	if (!value[0])
		return err_set(err, EINVAL, "--disk needs the name of a file");
	if (d->readonly && d->throw_away)
		return err_set(err, EINVAL, "--disk: '%s' cannot be readonly=on and written with snapshot=on", value);
	d->path = value;
	disks->n++;
	return 0;
}

/* FILE|none[,bus=sata|ide] */
static int set_cdrom(void *into, char *value, struct err *err)
{
	struct launch_disks *disks = into;
	enum machine_bus *bus = &disks->cd_bus[disks->n_cds];
	char *comma;

	if (disks->n_cds == MACHINE_CDS_MAX)
		return err_set(err, EINVAL, "--cdrom: there can be %d drives at most", MACHINE_CDS_MAX);
	*bus = MACHINE_SATA;
	while ((comma = strrchr(value, ',')) && strchr(comma, '=')) {
		if (!is_bus(comma + 1, bus) || (*bus != MACHINE_SATA && *bus != MACHINE_IDE))
			return err_set(err, EINVAL, "--cdrom: '%s' is not bus=sata|ide", comma + 1);
		*comma = 0;
	}
	if (!value[0])
		return err_set(err, EINVAL, "--cdrom needs the name of a file, or none");
	disks->cds[disks->n_cds++] = strcmp(value, "none") == 0 ? NULL : value;
	return 0;
}

/* disk,cdrom,net: each once, in any order. */
static int set_boot(void *into, char *value, struct err *err)
{
	struct parts *p = into;
	char *rest = value, *word;

	p->n_boot = 0;
	while ((word = strsep(&rest, ","))) {
		unsigned i = 0, seen = 0;

		while (i < MACHINE_BOOTS && strcmp(word, machine_boots[i]) != 0)
			i++;
		for (unsigned k = 0; k < p->n_boot; k++)
			seen += p->boot[k] == (enum machine_boot)i;
		if (i == MACHINE_BOOTS || seen)
			return err_set(err, EINVAL, "--boot: '%s' is not one of disk, cdrom and net, each once", word);
		p->boot[p->n_boot++] = (enum machine_boot)i;
	}
	return 0;
}

static int set_template(void *into, char *value, struct err *err)
{
	if (!place_is_name(value))
		return err_set(err, EINVAL, "--template: '%s' is no name: letters, digits, '.', '_' and '-', a letter first", value);
	*(const char **)into = value;
	return 0;
}

static int set_machine(void *into, char *value, struct err *err)
{
	return document_load(&document, &verb_run, into, value, err);
}

static int note(void *parsed, const struct option *o, const char *value, struct err *err)
{
	(void)parsed;
	return document_note(&document, o, value, err);
}

#define AT(member) offsetof(struct run, parts.member)

static const struct option options[] = {
	{"--kernel", "FILE", "a bzImage, or an ELF file with a PVH entry", OPTION_TEXT, AT(kernel),
	 0, 0, NULL},
	{"--initrd", "FILE", "its initial RAM disk", OPTION_TEXT, AT(initrd), 0, 0, NULL},
	{"--append", "TEXT", "its command line (default: " DEFAULT_CMDLINE ")", OPTION_TEXT,
	 AT(append), 0, 0, NULL},
	{"--firmware", "bios|uefi|FILE", "boot from disks by SeaBIOS, OVMF or such an image (default, if FILE is a disk: bios)",
	 OPTION_TEXT, AT(firmware.image), 0, 0, NULL},
	{"--firmware-vars", "FILE", "where uefi keeps its variables (default: they are gone with the guest)", OPTION_TEXT,
	 AT(firmware.variables), 0, 0, NULL},
	{"--firmware-log", "FILE", "what firmware says of itself", OPTION_TEXT, AT(firmware.log), 0, 0, NULL},
	{"--cpus", "N", "how many vCPUs (default: 1)", OPTION_NUMBER, AT(cpus), 1,
	 MACHINE_CPUS_MAX, NULL},
	{"--cpu", "MODEL[,+F][,-F]...", "host, v1 to v4, or help (default: host)", OPTION_OTHER,
	 offsetof(struct run, parts), 0, 0, set_cpu},
	{"--memory", "SIZE", "with a unit: 512M, 2G (default: 1G)", OPTION_SIZE, AT(memory), 0, 0,
	 NULL},
	{"--disk", "FILE[,OPTION]...", "an image, raw or qcow2; once for each disk: readonly=on, snapshot=on, format=raw|qcow2, bus=virtio|sata|nvme|scsi|usb|ide",
	 OPTION_OTHER, AT(disks), 0, 0, set_disk},
	{"--cdrom", "FILE|none[,OPTION]", "a CD drive, with this image in it or empty; once for each drive: bus=sata|ide", OPTION_OTHER, AT(disks), 0, 0,
	 set_cdrom},
	{"--boot", "disk,cdrom,net", "in which order firmware tries them (default: disk,cdrom)", OPTION_OTHER,
	 offsetof(struct run, parts), 0, 0, set_boot},
	{"--root-ports", "N", "PCI Express ports for a guest with firmware; NVMe disks are behind them, and what lodge attach brings (default: 0)", OPTION_NUMBER, AT(root_ports), 0,
	 MACHINE_PORTS_MAX, NULL},
	{"--snapshot", NULL, "snapshot=on for all disks that are written: what is written is thrown away", OPTION_FLAG,
	 AT(snapshot), 0, 0, NULL},
	{"--cloud-init", "FILE|DIR", "user-data for the guest's first boot, or a directory with that, meta-data and network-config", OPTION_TEXT,
	 AT(cloud.data), 0, 0, NULL},
	{"--ssh-key", "FILE", "a public key of who may enter the guest; once for each", OPTION_OTHER, AT(cloud), 0, 0, cloud_set_key},
	{"--device", "[DEVICE,]help", "lists devices, or what one consists of", OPTION_OTHER, AT(device_help), 0, 0,
	 set_device},
	{"--console", "serial|virtio", "ttyS0 or hvc0 (default: serial)", OPTION_WORD, AT(console),
	 0, 0, NULL},
	{"--vga", "std|virtio", "what the screen of --display is at: a VGA, or one that is a virtio GPU, too (default: std)", OPTION_WORD, AT(vga), 0, 0, NULL},
	{"--usb", NULL, "with --display: a USB keyboard and a USB tablet besides", OPTION_FLAG, AT(usb), 0, 0, NULL},
	{"--balloon", NULL, "the guest can give memory back: what it has free, and what lodge balloon says", OPTION_FLAG, AT(balloon),
	 0, 0, NULL},
	{"--old-virtio", NULL, "virtio devices that drivers of before virtio 1.0 know, too", OPTION_FLAG, AT(old_virtio), 0, 0, NULL},
	{"--agent", NULL, "put lodge-agent behind the initrd, with a port to it", OPTION_FLAG, AT(agent), 0,
	 0, NULL},
	{"--incoming", "URI", "the guest comes from `lodge migrate`: unix:PATH, tls:ADDRESS:PORT, or - for stdin", OPTION_TEXT,
	 offsetof(struct run, incoming), 0, 0, NULL},
	{"--tls", "DIR", "for --incoming tls:, where certificates and key are", OPTION_TEXT,
	 offsetof(struct run, certificates), 0, 0, NULL},
	{"--template", "NAME", "from this machine as it was when it had booted, which is kept as NAME", OPTION_OTHER,
	 offsetof(struct run, template), 0, 0, set_template},
	{"--machine", "FILE", "what the machine is, as a document: lodge help machine", OPTION_OTHER, 0, 0, 0, set_machine},
	LAUNCH_OPTIONS(offsetof(struct run, launch)),
	{0},
};

/* The guest may be restored elsewhere. */
static void make_absolute(struct parts *r)
{
	r->kernel = launch_path(r->kernel);
	r->initrd = launch_path(r->initrd);
	for (unsigned i = 0; i < r->disks.n; i++) {
		r->disks.disks[i].path = launch_path(r->disks.disks[i].path);
		r->disks.disks[i].throw_away |= r->snapshot && !r->disks.disks[i].readonly;
	}
	for (unsigned i = 0; i < r->disks.n_cds; i++)
		r->disks.cds[i] = launch_path(r->disks.cds[i]);
}

static int check_firmware(const struct parts *r, struct err *err)
{
	const char *odd = r->kernel ? "--kernel" : r->initrd ? "--initrd" : strcmp(r->append, DEFAULT_CMDLINE) ? "--append"
			  : r->agent ? "--agent" : NULL;

	if (r->firmware.image && odd)
		return err_set(err, ERANGE, "%s is for a kernel that lodge loads: firmware boots what is on disks", odd);
	return 0;
}

static int configure(void *parts, struct machine_config *config, struct launch_disks *disks,
		     struct err *err)
{
	struct parts *r = parts;
	int rc;

	make_absolute(r);
	if (check_firmware(r, err) < 0)
		return -ERANGE;
	if (r->n_boot && !r->firmware.image)
		return err_set(err, ERANGE, "--boot is for firmware, which boots from disks: lodge run DISK, or --firmware");
	if (r->root_ports && !r->firmware.image)
		return err_set(err, ERANGE, "--root-ports are for a guest with firmware, which numbers what is behind them");
	if (!r->kernel && !r->firmware.image)
		return err_set(err, ERANGE, "what is to be booted is missing: lodge run DISK, or lodge run --kernel FILE");
	rc = firmware_configure(&r->firmware, config, err);
	if (rc < 0)
		return rc;
	config->cpus = r->cpus;
	config->cpu = &r->cpu;
	config->memory = r->memory;
	config->kernel = r->kernel;
	config->initrd = r->initrd;
	config->cmdline = r->firmware.image ? NULL : r->append;
	config->virtio_console = strcmp(r->console, "virtio") == 0;
	config->vga = strcmp(r->vga, "virtio") == 0 ? MACHINE_VGA_VIRTIO : MACHINE_VGA_STD;
	config->usb = r->usb;
	config->balloon = r->balloon;
	config->old_virtio = r->old_virtio;
	config->port.name = r->agent ? AGENT_PORT : NULL;
	memcpy(config->boot, r->boot, sizeof(config->boot));
	config->n_boot = r->n_boot;
	config->root_ports = r->root_ports;
	rc = firmware_configure_net(&r->firmware, config, err);
	if (rc < 0)
		return rc;
	*disks = r->disks;
	return machine_check(config, err);
}

/* -- What a template is of ----------------------------------------------------------------------- */

static void put_file(FILE *out, const char *path)
{
	scoped_mem char *real = path ? realpath(path, NULL) : NULL;
	struct stat st = {0};

	if (real)
		stat(real, &st);
	fprintf(out, " '%s' %lld %lld.%09ld\n", real ? real : path && disk_is_remote(path) ? path : "", (long long)st.st_size, (long long)st.st_mtim.tv_sec,
		st.st_mtim.tv_nsec);
}

/* A text that is another one for another machine. NULL: no memory. */
static char *recipe(const struct parts *r, const struct net_options *net, const struct shares *shares, const struct vsock_options *vsock)
{
	char *text = NULL;
	size_t n;
	FILE *out = open_memstream(&text, &n);

	if (!out)
		return NULL;
	fprintf(out, "lodge %s\ncpus %u\ncpu %s\nmemory %llu\nballoon %d\nold-virtio %d\nconsole %s\nnet %s %s %u\nappend %s\nkernel", LODGE_VERSION, r->cpus,
		r->cpu.text ? r->cpu.text : "host", (unsigned long long)r->memory, r->balloon, r->old_virtio, r->console, net->how ? net->how : "none", machine_cards[net->card],
		net->queues, r->append);
	put_file(out, r->kernel);
	put_file(out, r->initrd);
	for (unsigned i = 0; i < r->disks.n; i++) {
		fprintf(out, "disk %d %d %s", r->disks.disks[i].readonly, r->disks.disks[i].format, machine_buses[r->disks.bus[i]]);
		put_file(out, r->disks.disks[i].path);
	}
	for (unsigned i = 0; i < r->disks.n_cds; i++) {
		fprintf(out, "cdrom %s", machine_buses[r->disks.cd_bus[i]]);
		put_file(out, r->disks.cds[i]);
	}
	for (unsigned i = 0; i < shares->n; i++)
		fprintf(out, "share '%s' %s %d\n", shares->dirs[i].path, shares->dirs[i].tag ? shares->dirs[i].tag : "",
			shares->dirs[i].readonly);
	if (vsock->path)
		fprintf(out, "vsock %u\n", vsock->cid);
	return fclose(out) == 0 ? text : NULL;
}

/* Without a machine among the options it is the one of that name that is there. */
static int run_template(struct run *r)
{
	struct template t = {.name = r->template, .source = configure, .ctx = &r->parts};
	struct err err = {0};
	char *text = NULL;
	int code;

	if (memcmp(&r->parts, &defaults.parts, sizeof(r->parts)) != 0) {
		make_absolute(&r->parts);
		text = recipe(&r->parts, &r->launch.net, &r->launch.shares, &r->launch.vsock);
		if (!text) {
			err_set(&err, ENOMEM, "no memory");
			return report_failure(&err);
		}
	}
	t.recipe = text;
	r->parts.agent = true;
	code = template_run(&t, &r->launch);
	free(text);
	return code;
}

/* -- A disk as the operand ----------------------------------------------------------------------- */

static bool ends_in(const char *path, const char *end)
{
	size_t len = strlen(path);

	return len > strlen(end) && strcmp(path + len - strlen(end), end) == 0;
}

/* By its name, or because it is a device: never by its bytes, which a guest may have written, and as a saved machine, too. */
static bool is_disk(const char *path)
{
	static const char *const ends[] = {".img", ".raw", ".qcow2", ".iso"};
	struct stat st;

	for (unsigned i = 0; i < ARRAY_SIZE(ends); i++)
		if (ends_in(path, ends[i]))
			return true;
	return stat(path, &st) == 0 && S_ISBLK(st.st_mode);
}

static int take_cd(struct launch_disks *d, const char *path, struct err *err)
{
	if (d->n_cds == MACHINE_CDS_MAX)
		return err_set(err, ERANGE, "'%s' is a CD too many: there can be %d drives at most", path, MACHINE_CDS_MAX);
	memmove(d->cd_bus + 1, d->cd_bus, d->n_cds * sizeof(d->cd_bus[0]));
	memmove(d->cds + 1, d->cds, d->n_cds++ * sizeof(d->cds[0]));
	d->cds[0] = path;
	d->cd_bus[0] = MACHINE_SATA;
	return 0;
}

/* The disk is the first one. */
static int take_first(struct launch_disks *d, const char *name, const struct disk_config *disk, struct err *err)
{
	if (d->n == MACHINE_DISKS_MAX)
		return err_set(err, ERANGE, "'%s' is a disk too many: there can be %d at most", name, MACHINE_DISKS_MAX);
	memmove(d->bus + 1, d->bus, d->n * sizeof(d->bus[0]));
	memmove(d->disks + 1, d->disks, d->n++ * sizeof(d->disks[0]));
	d->disks[0] = *disk;
	d->bus[0] = MACHINE_VIRTIO;
	return 0;
}

/* `lodge run NAME`: its disk comes when all else makes sense. */
static int take_image(struct run *r, struct err *err)
{
	int rc;

	r->image = r->file;
	rc = start_furnish(r->image, &r->launch, &r->parts.cloud, err);
	return rc < 0 ? rc : take_first(&r->parts.disks, r->image, &(struct disk_config){.path = "", .throw_away = true}, err);
}

static int make_image(struct run *r, struct err *err)
{
	static struct image_facts image;
	int rc = r->image ? start_image(r->image, &image, err) : 0;

	if (r->image && rc == 0) {
		r->parts.disks.disks[0].path = image.path;
		r->parts.disks.disks[0].format = image.format;
	}
	return rc;
}

/* `lodge run FILE` of a disk, or of a CD's image, is a machine of which that is the first one; NAME is an image. */
static int take_disk(struct run *r, struct err *err)
{
	struct launch_disks *d = &r->parts.disks;
	int rc = 1;

	if (!r->file || r->incoming)
		return 0;
	if (!is_disk(r->file))
		rc = start_is_image(r->file, err);
	if (rc <= 0)
		return rc; /* a saved machine */
	rc = !is_disk(r->file) ? take_image(r, err)
	     : ends_in(r->file, ".iso") ? take_cd(d, r->file, err)
	     : take_first(d, r->file, &(struct disk_config){.path = r->file}, err);
	if (rc < 0)
		return rc;
	if (!r->parts.firmware.image)
		r->parts.firmware.image = "bios";
	r->file = NULL;
	return 0;
}

/* A disk more, with what the guest's first boot is told. */
static int add_seed(struct run *r, struct err *err)
{
	const struct cloud_options *c = &r->parts.cloud;
	struct launch_disks *d = &r->parts.disks;
	static char path[PATH_MAX];
	int rc;

	if (!c->data && !c->n_keys && !c->own_key)
		return 0;
	if (d->n == MACHINE_DISKS_MAX)
		return err_set(err, ERANGE, "--cloud-init and --ssh-key are a disk, and there can be %d at most", MACHINE_DISKS_MAX);
	rc = cloud_make(c, path, err);
	d->disks[d->n] = (struct disk_config){.path = path, .format = DISK_RAW, .readonly = true};
	d->bus[d->n] = MACHINE_VIRTIO;
	d->n += rc == 0;
	return rc;
}

/* -- The verb ------------------------------------------------------------------------------------- */

static int list_cpus(const struct run *r)
{
	struct machine_config config;
	struct err err = {0};

	if (launch_choose(&r->launch, &config, &err) < 0 ||
	    cpu_list(config.face, stdout, &err) < 0)
		return report_failure(&err);
	return EXIT_OK;
}

static int list_devices(const char *about)
{
	struct err err = {0};

	if (!about[0])
		device_list(stdout);
	else if (device_describe(about, stdout, &err) < 0)
		return report_failure(&err);
	else
		board_print_model(about, stdout);
	return EXIT_OK;
}

static int check_usage(const struct run *r, struct err *err)
{
	if (r->file && r->incoming)
		return err_set(err, ERANGE, "a guest comes from '%s', or from --incoming, not both", r->file);
	if (r->file && memcmp(&r->parts, &defaults.parts, sizeof(r->parts)) != 0)
		return err_set(err, ERANGE, "'%s' is no disk by its name (.img, .raw, .qcow2, .iso), and a saved machine says itself what "
			       "the machine is: options that make one are for a new one", r->file);
	for (unsigned i = 0; i < r->parts.n_boot && r->launch.net.how; i++)
		if (r->parts.boot[i] == MACHINE_BOOT_NET && strcmp(r->launch.net.how, "none") == 0)
			return err_set(err, ERANGE, "--boot net: there is no network card to boot from with --net none");
	if (r->image && r->launch.command)
		return err_set(err, ERANGE, "guests of images run commands by ssh: lodge run %s, and lodge ssh %s -- COMMAND", r->image, r->image);
	if (r->image && check_firmware(&r->parts, err) < 0)
		return -ERANGE;
	if (r->template && (r->file || r->incoming || r->image))
		return err_set(err, ERANGE, "a guest comes from a template, or from elsewhere, not both");
	for (unsigned i = 0; r->template && i < r->parts.disks.n; i++)
		if (!r->parts.disks.disks[i].readonly)
			return err_set(err, ERANGE, "disk '%s' is written, so what is on it is not what the template's guest "
				       "remembers: a template needs readonly=on", r->parts.disks.disks[i].path);
	if (r->template && r->launch.display)
		return err_set(err, ERANGE, "a template's guest has no screen: --display is for others");
	if (strcmp(r->parts.vga, defaults.parts.vga) != 0 && !r->launch.display)
		return err_set(err, ERANGE, "--vga is for a screen, which --display makes");
	if (r->parts.usb && !r->launch.display)
		return err_set(err, ERANGE, "--usb is for a screen, which --display makes");
	if (r->launch.command && r->incoming)
		return err_set(err, ERANGE, "a guest that comes from elsewhere runs no command");
	if (r->launch.command && !r->launch.command[0])
		return err_set(err, ERANGE, "the command behind -- is missing: lodge run FILE -- COMMAND");
	return 0;
}

static int run_main(void *parsed)
{
	struct run *r = parsed;
	struct err err = {0};

	r->launch.document = &document;
	if (r->parts.device_help)
		return list_devices(r->parts.device_help);
	if (take_disk(r, &err) < 0 || check_usage(r, &err) < 0 || add_seed(r, &err) < 0 || make_image(r, &err) < 0)
		return report_failure(&err);
	if (r->parts.firmware.image && !r->launch.net.how)
		r->launch.net.how = "user"; /* a whole PC has a network */
	r->parts.firmware.card = r->launch.net.card;
	if (r->incoming)
		return arrival_run(&r->launch, r->incoming, r->certificates);
	if (r->parts.cpu_help)
		return list_cpus(r);
	if (r->template)
		return run_template(r);
	r->parts.agent |= r->launch.command != NULL;
	return r->file ? launch_file(&r->launch, r->file) : launch(&r->launch, configure, &r->parts);
}

const struct verb verb_run = {
	.name = "run",
	.summary = "start a guest from files, with its console on this terminal",
	.text = "NAME is that of an image (lodge image), which is built or fetched if it is not there yet. The guest has a copy\n"
		"that is thrown away, its name, a port that leads to its port 22, and a key for `lodge ssh`.\n\n"
		"FILE is a saved machine, which goes on as by `lodge restore`. With a COMMAND that runs in it, or in\n"
		"one that boots, by its agent (--agent), with lodge's stdin, stdout and stderr. SIGINT and\n"
		"SIGTERM are the command's; its exit code is lodge's, 128+N if signal N has ended it, 126 and 127\n"
		"if it cannot be executed. Then the guest is switched off.\n\n"
		"The console is the guest's first serial port. On a terminal it is raw, and Ctrl-]\n"
		"leaves, which switches the guest off. Otherwise its bytes go to stdout, and input is\n"
		"read from stdin to its end, which does not end the guest.\n\n"
		"The guest's power-off ends lodge with 0; its reset starts it again; a triple fault ends\n"
		"lodge with 1 and a sentence on stderr. A kernel panic is told on stderr, and the guest\n"
		"goes on: it may hang, reset, or start a crash kernel. With --no-reboot a panic that its\n"
		"pvpanic driver reports ends lodge with 1.\n",
	.operand = "[FILE|NAME] [-- COMMAND [ARG]...]",
	.note = note,
	.n_operands = 1,
	.rest = offsetof(struct run, launch.command),
	.options = options,
	.size = sizeof(struct run),
	.defaults = &defaults,
	.main = run_main,
};

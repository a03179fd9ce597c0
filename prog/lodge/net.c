/* SPDX-License-Identifier: MIT */
/* See net.h; docs/why/net.md has the reasons. */
#include "net.h"

#include "base/err.h"
#include "base/scoped.h"
#include "beside.h"
#include "block/disk.h"
#include "machine/machine.h"
#include "nat/forward.h"
#include "nat/nat.h"
#include "net/port.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

/* -- Options ------------------------------------------------------------------------------ */

/* What follows "tap=", if that is how it begins. */
static const char *after(const char *how, const char *word)
{
	size_t n = strlen(word);

	return strncmp(how, word, n) == 0 && how[n] ? how + n : NULL;
}

static bool is(const char *how, const char *word)
{
	return how && strcmp(how, word) == 0;
}

static int set_card(struct net_options *o, const char *option, struct err *err)
{
	const char *name = after(option, "model=");

	for (unsigned i = 0; name && i < MACHINE_CARDS; i++)
		if (strcmp(name, machine_cards[i]) == 0) {
			o->card = (enum machine_card)i;
			o->has_card = true;
			return 0;
		}
	return err_set(err, EINVAL, "--net: '%s' is not model=virtio|e1000, queues=N, tftp=DIR or bootfile=NAME", option);
}

static int set_queues(struct net_options *o, const char *number, struct err *err)
{
	char *end;
	unsigned long n = strtoul(number, &end, 10);

	if (*end || number[0] < '0' || number[0] > '9' || n < 1 || n > MACHINE_QUEUES_MAX)
		return err_set(err, EINVAL, "--net: queues=%s: a card has 1 to %d pairs of queues", number, MACHINE_QUEUES_MAX);
	o->queues = (unsigned)n;
	return 0;
}

static int set_option(struct net_options *o, const char *option, struct err *err)
{
	if (after(option, "tftp="))
		o->tftp = after(option, "tftp=");
	else if (after(option, "bootfile="))
		o->bootfile = after(option, "bootfile=");
	else if (after(option, "queues="))
		return set_queues(o, after(option, "queues="), err);
	else
		return set_card(o, option, err);
	return 0;
}

/* HOW[,OPTION=VALUE]...: what follows the last comma, if it has a '='. */
int net_set_how(void *options, char *value, struct err *err)
{
	struct net_options *o = options;
	char *comma;
	int rc;

	o->how = value;
	o->tftp = o->bootfile = NULL;
	o->has_card = false;
	o->queues = 0;
	o->card = MACHINE_CARD_VIRTIO;
	while ((comma = strrchr(value, ',')) && strchr(comma, '=')) {
		rc = set_option(o, comma + 1, err);
		if (rc < 0)
			return rc;
		*comma = 0;
	}
	if (o->queues > 1 && o->card != MACHINE_CARD_VIRTIO)
		return err_set(err, EINVAL, "--net: queues=%u is for model=virtio", o->queues);
	if ((o->tftp || o->bootfile) && !is(value, "user"))
		return err_set(err, EINVAL, "--net: %s is for user", o->tftp ? "tftp=DIR" : "bootfile=NAME");
	if (is(value, "none") || is(value, "user") || after(value, "tap=") || after(value, "bridge=") || after(value, "socket="))
		return 0;
	return err_set(err, EINVAL, "--net is none, user, tap=NAME, bridge=NAME or socket=PATH, not '%s'", value);
}

int net_set_forward(void *options, char *value, struct err *err)
{
	struct net_options *o = options;
	struct forward f;
	int rc = forward_parse(&f, value, err);

	if (rc < 0)
		return err_at(err, rc, "-p");
	if (o->n_forwards == NET_FORWARDS_MAX)
		return err_set(err, EINVAL, "-p: there can be %d at most", NET_FORWARDS_MAX);
	o->forwards[o->n_forwards++] = value;
	return 0;
}

int net_set_mac(void *options, char *value, struct err *err)
{
	struct net_options *o = options;
	int rc = mac_parse(o->mac, value, err);

	o->has_mac = true;
	return rc < 0 ? err_at(err, rc, "--mac") : 0;
}

/* -- The address -------------------------------------------------------------------------- */

/* Of this computer, so that two that share a network have guests of the same name with other addresses. */
static void read_machine_id(char id[64])
{
	scoped_fd int fd = open("/etc/machine-id", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, id, 63) : 0;

	id[n > 0 ? n : 0] = 0;
}

/* The same each time for a guest of this name, or else for a new one with this disk: leases and names of interfaces hang on it. All others get
 * one that nobody has. */
static void choose_mac(const char *name, const char *card, const struct machine_config *config, uint8_t mac[MAC_LEN])
{
	const char *same = name ? name : config->n_disks && !config->saved ? disk_path(config->disks[0]) : NULL;
	char id[64], text[PATH_MAX + 128];
	uint64_t number = 0;

	if (!same) {
		if (getrandom(&number, sizeof(number), 0) < 0)
			number = (uint64_t)getpid();
	} else {
		read_machine_id(id);
		snprintf(text, sizeof(text), card[0] ? "%s %u %s %s" : "%s %u %s", id, getuid(), same, card);
		number = XXH64(text, strlen(text), 0);
	}
	mac_make(mac, number);
}

/* -- The other end ------------------------------------------------------------------------ */

/* Before anything is started. */
static int check_boot(const struct net_options *o, struct err *err)
{
	struct stat st;

	if (o->bootfile && strlen(o->bootfile) > NAT_BOOTFILE_MAX)
		return err_set(err, EINVAL, "--net: bootfile='%s' has more than %u bytes, for which DHCP has no room", o->bootfile, NAT_BOOTFILE_MAX);
	if (o->tftp && stat(o->tftp, &st) < 0)
		return err_sys(err, errno, "--net: tftp='%s'", o->tftp);
	if (o->tftp && !S_ISDIR(st.st_mode))
		return err_set(err, ENOTDIR, "--net: tftp='%s' is no directory", o->tftp);
	return 0;
}

static int open_user(const struct net_options *o, struct net_port **p, int *nat, struct err *err)
{
	const char *words[NET_FORWARDS_MAX + 3] = {o->tftp ? o->tftp : "", o->bootfile ? o->bootfile : ""};
	int fd = check_boot(o, err);

	if (fd < 0)
		return fd;
	memcpy(words + 2, o->forwards, o->n_forwards * sizeof(words[0]));
	fd = beside_start("lodge-nat", words, -1, nat, err);
	return fd < 0 ? fd : net_stream(p, &(struct net_stream_config){.fd = fd, .checked = true, .mtu = NAT_MTU}, err);
}

/* Whoever is first listens. A name that nobody listens to any more is taken over. */
static int open_socket(const char *path, struct net_port **p, struct err *err)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	struct net_stream_config config = {.fd = -1, .mtu = 1500};
	int rc;

	if (strlen(path) >= sizeof(at.sun_path))
		return err_set(err, EINVAL, "--net socket=%s: the path of a socket has at most %zu bytes", path,
			       sizeof(at.sun_path) - 1);
	strcpy(at.sun_path, path); /* SAFE: it fits */
	config.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (config.fd < 0)
		return err_sys(err, errno, "a socket");
	rc = connect(config.fd, (struct sockaddr *)&at, sizeof(at));
	if (rc < 0 && (errno == ENOENT || errno == ECONNREFUSED)) {
		if (errno == ECONNREFUSED)
			unlink(path);
		config.listens = true;
		rc = bind(config.fd, (struct sockaddr *)&at, sizeof(at));
		if (rc == 0)
			rc = listen(config.fd, 1);
	}
	if (rc == 0)
		return net_stream(p, &config, err);
	rc = err_sys(err, errno, "--net socket=%s", path);
	close(config.fd);
	return rc;
}

static int open_tap(struct machine_net *net, const char *name, const char *bridge, struct err *err)
{
	unsigned queues = net->queues ? net->queues : 1;
	struct net_port *ports[MACHINE_QUEUES_MAX] = {NULL};
	int rc = net_tap(ports, queues, name, bridge, err);

	net->port = ports[0];
	if (rc == 0)
		memcpy(net->more_ports, ports + 1, sizeof(net->more_ports));
	return rc;
}

static int open_port(const struct net_options *o, const char *how, struct machine_net *net, int *nat, struct err *err)
{
	struct net_port **p = &net->port;

	*p = NULL;
	if (is(how, "none"))
		return 0;
	if (is(how, "user"))
		return open_user(o, p, nat, err);
	if (after(how, "tap="))
		return open_tap(net, after(how, "tap="), NULL, err);
	if (after(how, "bridge="))
		return open_tap(net, NULL, after(how, "bridge="), err);
	if (after(how, "socket="))
		return open_socket(after(how, "socket="), p, err);
	return err_set(err, EINVAL, "the saved machine's network is '%s', which this lodge does not know: --net says another one", how);
}

/* A socket's name that means the same in another directory, for who restores the guest there. */
static const char *make_absolute(const char *how)
{
	const char *path = how ? after(how, "socket=") : NULL;
	char dir[PATH_MAX], *text;

	if (!path || path[0] == '/' || !getcwd(dir, sizeof(dir)) || asprintf(&text, "socket=%s/%s", dir, path) < 0)
		return how;
	return text; /* for as long as the machine */
}

/* -- All of it ---------------------------------------------------------------------------- */

static int check(const struct net_options *o, const char *how, const struct machine_config *config, struct err *err)
{
	bool has_card = config->saved ? config->net.how != NULL : how && !is(how, "none");

	if (!has_card && config->saved && how && !is(how, "none"))
		return err_set(err, ERANGE, "the saved machine has no network card: it was started without --net");
	if (o->queues && config->saved)
		return err_set(err, ERANGE, "--net: queues= is for a new machine: a saved one says itself how many its card has");
	if (o->has_card && config->saved)
		return err_set(err, ERANGE, "--net: model= is for a new machine: a saved one says itself which card it has");
	if (o->n_forwards && (!has_card || !is(how, "user")))
		return err_set(err, ERANGE, "-p is for --net user");
	if (!has_card && (o->capture || o->has_mac))
		return err_set(err, ERANGE, "%s is for a guest with --net", o->capture ? "--capture" : "--mac");
	return has_card;
}

/* Cards that came while the guest ran: another NAT can be had, but what came as a descriptor is not there any more, and then the card
 * has no cable. */
static int open_more(const char *name, struct machine_config *config, struct err *err)
{
	const struct net_options user = {.how = "user"};
	int rc = 0, nat;

	for (unsigned i = 0; rc == 0 && i < config->n_more_nets; i++) {
		struct machine_net *net = &config->more_nets[i];

		if (!config->incoming)
			choose_mac(name, net->spot.id, config, net->mac);
		if (!is(net->how, "user"))
			continue;
		rc = open_user(&user, &net->port, &nat, err);
		if (rc == 0)
			rc = net_wait(&user, nat, err);
	}
	return rc;
}

int net_connect_user(const struct net_options *o, uint8_t mac[MAC_LEN], struct err *err)
{
	const char *words[NET_FORWARDS_MAX + 3] = {o->tftp ? o->tftp : "", o->bootfile ? o->bootfile : ""};
	int rc = check_boot(o, err), nat = -1, fd;

	if (rc < 0)
		return rc;
	memcpy(words + 2, o->forwards, o->n_forwards * sizeof(words[0]));
	rc = fd = beside_start("lodge-nat", words, -1, &nat, err);
	if (rc >= 0)
		rc = net_wait(o, nat, err);
	if (rc < 0 && fd >= 0)
		close(fd);
	if (o->has_mac)
		memcpy(mac, o->mac, MAC_LEN);
	else
		choose_mac(NULL, "", &(struct machine_config){.n_disks = 0}, mac);
	return rc < 0 ? rc : fd;
}

static int open_first(const struct net_options *o, const char *name, struct machine_config *config, int *nat, struct err *err)
{
	const char *how = o->how ? make_absolute(o->how) : config->net.how;
	struct machine_net *net = &config->net;
	struct net_port *inner;
	int rc = check(o, how, config, err);

	if (rc <= 0)
		return rc;
	if (o->has_mac)
		memcpy(net->mac, o->mac, MAC_LEN);
	else if (!config->incoming)
		choose_mac(name, "", config, net->mac);
	if (!net->how)
		net->queues = o->queues;
	rc = open_port(o, how, net, nat, err);
	if (rc < 0)
		return rc;
	if (!net->how)
		net->card = o->card;
	if (!net->how)
		net->mtu = net->port ? net->port->mtu : 1500;
	net->how = how;
	if (!o->capture || !net->port)
		return 0;
	if (net->more_ports[0])
		return err_set(err, ERANGE, "--capture: of a tap with several queues tcpdump can see all: tcpdump -i, on this computer");
	inner = net->port;
	rc = net_capture(&net->port, inner, o->capture, config->loop, err);
	if (rc < 0)
		net->port = inner;
	return rc < 0 ? err_at(err, rc, "--capture") : 0;
}

int net_open(const struct net_options *o, const char *name, struct machine_config *config, int *nat, struct err *err)
{
	int rc = open_first(o, name, config, nat, err);

	return rc < 0 ? rc : open_more(name, config, err);
}

int net_wait(const struct net_options *o, int nat, struct err *err)
{
	int rc = nat < 0 ? 0 : beside_hear(nat, "lodge-nat", err);

	if (o->holds)
		close(o->holds);
	return rc;
}

void net_close(struct machine_config *config)
{
	if (config->net.port)
		config->net.port->type->close(config->net.port);
	config->net.port = NULL;
	for (unsigned i = 0; i < MACHINE_QUEUES_MAX - 1; i++)
		if (config->net.more_ports[i])
			config->net.more_ports[i]->type->close(config->net.more_ports[i]);
	for (unsigned i = 0; i < config->n_more_nets; i++)
		if (config->more_nets[i].port)
			config->more_nets[i].port->type->close(config->more_nets[i].port);
	config->n_more_nets = 0;
}

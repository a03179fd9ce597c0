/* SPDX-License-Identifier: MIT */
/* See start.h. */
#include "start.h"

#include "base/err.h"
#include "base/log.h"
#include "base/scoped.h"
#include "build.h"
#include "catalogue.h"
#include "cloud.h"
#include "prog/lodge/launch.h"
#include "prog/lodge/nat/forward.h"
#include "pull.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define SSH 22

int start_is_image(const char *word, struct err *err)
{
	struct catalogue_entry entry;
	char path[PATH_MAX];
	struct stat st;
	int rc;

	if (!place_is_name(word))
		return 0;
	if (store_has(word, path))
		return 1;
	if (stat(word, &st) == 0 && S_ISREG(st.st_mode)) /* not a folder debian, which sources of packages have */
		return 0;
	rc = catalogue_find(&entry, word, err);
	return rc == 0 ? 1 : rc == -ENOENT ? 0 : rc;
}

/* -- The image ---------------------------------------------------------------------------- */

int start_image(const char *name, struct image_facts *image, struct err *err)
{
	char path[PATH_MAX];
	struct catalogue_entry entry;
	scoped_fd int lock = -1;
	int rc = 0;

	if (!store_has(name, path)) {
		lock = store_lock(name, err);
		rc = lock < 0 ? lock : store_has(name, path) ? 0 : catalogue_find(&entry, name, err);
		if (rc == 0 && !store_has(name, path)) {
			log_note("image", "there is no '%s' yet: it is %s", name, entry.builds ? "built from packages" : "fetched");
			rc = entry.builds ? build_run(&(struct build){.name = name, .recipe = entry.from, .suite = entry.more,
								      .size = BUILD_SIZE}, err)
					  : pull_run(&(struct pull){.name = name, .url = entry.from, .sum = entry.more}, err);
		}
	}
	if (rc == 0)
		rc = store_look(image, name, err);
	if (rc == 0 && image->why[0])
		rc = err_set(err, EINVAL, "image '%s': %s", name, image->why);
	if (rc == 0)
		log_note("image", "'%s': what the guest writes is thrown away; to keep it, run a copy of %s", name, image->path);
	return rc;
}

/* -- What comes with it --------------------------------------------------------------------- */

static void give_name(const char *name, struct launch *l)
{
	char dir[PLACE_MAX];
	scoped_fd int fd = -1;
	struct err none;
	long pid;

	if (l->name || place_find(dir, false, &none) < 0)
		return;
	pid = place_pid(dir, name);
	fd = pid ? place_connect(dir, pid, SOCK_NONBLOCK) : -1;
	if (fd < 0)
		l->name = name;
}

/* A port that nobody has, and nobody who looks for one as we do gets, while *holds is open: lodge-nat can have it all the same, for both
 * say SO_REUSEADDR and this one does not listen. 0: there is none. */
static unsigned free_port(int *holds)
{
	scoped_fd int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(at);
	int on = 1;

	if (fd <= 0 || bind(fd, (struct sockaddr *)&at, sizeof(at)) < 0 || getsockname(fd, (struct sockaddr *)&at, &len) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0)
		return 0;
	*holds = keep_fd(&fd);
	return ntohs(at.sin_port);
}

static bool has_ssh(const struct net_options *net)
{
	for (unsigned i = 0; i < net->n_forwards; i++) {
		struct forward f;
		struct err none;

		if (forward_parse(&f, net->forwards[i], &none) == 0 && !f.udp && ntohs(f.to.v4.sin_port) == SSH)
			return true;
	}
	return false;
}

static void give_port(struct net_options *net)
{
	static char text[32];
	unsigned port;

	if ((net->how && strcmp(net->how, "user") != 0) || has_ssh(net) || net->n_forwards == NET_FORWARDS_MAX)
		return;
	port = free_port(&net->holds);
	if (!port)
		return;
	snprintf(text, sizeof(text), "%u:%d", port, SSH);
	net->forwards[net->n_forwards++] = text;
}

static int give_key(struct cloud_options *cloud, struct err *err)
{
	static char path[PATH_MAX];
	int rc = cloud_own_key(path, err);

	if (rc == 0 && path[0])
		cloud->own_key = path;
	return rc;
}

int start_furnish(const char *name, struct launch *l, struct cloud_options *cloud, struct err *err)
{
	give_name(name, l);
	give_port(&l->net);
	cloud->host = name;
	return give_key(cloud, err);
}

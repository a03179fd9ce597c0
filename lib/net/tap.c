/* SPDX-License-Identifier: MIT */
/*
 * See port.h. A tap is an interface of the host's kernel whose cable ends here: /dev/net/tun, after the kernel's
 * Documentation/networking/tuntap.rst. A read() brings one frame, a write() takes one. With IFF_VNET_HDR frames have the header of
 * virtio, and the kernel cuts, joins and sums up itself.
 *
 * One that is there, and belongs to this user or his group (`ip tuntap add ... user`), can be opened by him; to make one, to join it to
 * a bridge and to switch it on takes CAP_NET_ADMIN. One that we have made is gone when the descriptor is closed.
 */
#include "net/port.h"

#include "base/err.h"
#include "base/macros.h"
#include "base/scoped.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

struct tap {
	struct net_port port;
	int fd;
	size_t n; /* of the frame that was read; 0: none */
	uint8_t frame[NET_VNET + NET_FRAME_MAX];
};

static struct tap *of(struct net_port *p)
{
	return container_of(p, struct tap, port);
}

/* -- Frames ------------------------------------------------------------------------ */

/* A tap that is switched off says EIO, and a header that makes no sense EINVAL: such frames are lost. */
static bool send_frame(struct net_port *p, const struct iovec *iov, unsigned n)
{
	return writev(of(p)->fd, iov, (int)n) >= 0 || (errno != EAGAIN && errno != EINTR);
}

static const uint8_t *peek(struct net_port *p, size_t *len)
{
	struct tap *t = of(p);
	ssize_t n;

	if (!t->n) {
		n = read(t->fd, t->frame, sizeof(t->frame));
		t->n = n >= (ssize_t)(NET_VNET + NET_FRAME_MIN) ? (size_t)n : 0;
	}
	*len = t->n;
	return t->n ? t->frame : NULL;
}

static void drop(struct net_port *p)
{
	of(p)->n = 0;
}

static void wants(const struct net_port *p, bool frames, bool room, struct pollfd *poll)
{
	const struct tap *t = container_of(p, struct tap, port);

	*poll = (struct pollfd){t->fd, (short)((frames ? POLLIN : 0) | (room ? POLLOUT : 0)), 0};
	if (!poll->events) /* one that is switched off is an error for poll() all the time */
		poll->fd = -1;
}

static void serve(struct net_port *p, short revents)
{
	(void)p, (void)revents;
}

static void offload(struct net_port *p, unsigned what)
{
	static const struct { unsigned what, flag; } flags[] = {
		{NET_CSUM, TUN_F_CSUM}, {NET_TSO4, TUN_F_TSO4}, {NET_TSO6, TUN_F_TSO6}, {NET_ECN, TUN_F_TSO_ECN},
	};
	unsigned all = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(flags); i++)
		all |= what & flags[i].what ? flags[i].flag : 0;
	ioctl(of(p)->fd, TUNSETOFFLOAD, (unsigned long)all);
}

static void close_tap(struct net_port *p)
{
	close(of(p)->fd);
	free(of(p));
}

static const struct net_port_type type = {
	.vnet = true, .send = send_frame, .peek = peek, .drop = drop, .wants = wants, .serve = serve, .offload = offload,
	.close = close_tap,
};

/* -- Opening ----------------------------------------------------------------------- */

static int why_not(const char *name, int error, bool several, struct err *err)
{
	if (error == EPERM && if_nametoindex(name))
		return err_set(err, EPERM, "tap '%s' belongs to another user: as root, "
			       "ip tuntap del dev %s mode tap; ip tuntap add dev %s mode tap user %u", name, name, name, getuid());
	if (error == EPERM)
		return err_set(err, EPERM, "no right to make tap '%s': as root, "
			       "ip tuntap add dev %s mode tap user %u; ip link set %s up", name, name, getuid(), name);
	if (error == EBUSY)
		return err_set(err, EBUSY, "tap '%s' is in use", name);
	if (error == EINVAL)
		return err_set(err, EINVAL, several ? "interface '%s' is no tap, or one without several queues (ip tuntap add ... multi_queue)" :
			       "interface '%s' is no tap, or one with several queues", name);
	return err_sys(err, error, "tap '%s'", name);
}

static int attach(struct tap *t, struct ifreq *ifr, const char *name, bool several, struct err *err)
{
	int size = NET_VNET, little = 1;

	ifr->ifr_flags = (short)(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | (several ? IFF_MULTI_QUEUE : 0));
	if (ioctl(t->fd, TUNSETIFF, ifr) < 0)
		return why_not(name ? name : "tap%d", errno, several, err);
	if (ioctl(t->fd, TUNSETVNETHDRSZ, &size) < 0)
		return err_sys(err, errno, "tap '%s': virtio's headers", ifr->ifr_name);
	ioctl(t->fd, TUNSETVNETLE, &little); /* it is that on this architecture */
	return 0;
}

static int join(int sock, const struct ifreq *tap, const char *bridge, struct err *err)
{
	struct ifreq ifr = {.ifr_ifindex = (int)if_nametoindex(tap->ifr_name)};

	strcpy(ifr.ifr_name, bridge); /* SAFE: its length was looked at */
	if (ioctl(sock, SIOCBRADDIF, &ifr) == 0)
		return 0;
	if (errno == ENODEV)
		return err_set(err, ENOENT, "there is no bridge '%s': as root, ip link add %s type bridge; ip link set %s up", bridge,
			       bridge, bridge);
	if (errno == EPERM)
		return err_set(err, EPERM, "no right to join bridge '%s': as root, ip tuntap add dev tap0 mode tap user %u; "
			       "ip link set tap0 master %s up; and then --net tap=tap0", bridge, getuid(), bridge);
	if (errno == EOPNOTSUPP || errno == EINVAL)
		return err_set(err, EINVAL, "interface '%s' is no bridge", bridge);
	return err_sys(err, errno, "bridge '%s'", bridge);
}

/* Who may not switch it on has got one that somebody else did, or will. */
static int set_up(struct tap *t, struct ifreq *ifr, const char *bridge, struct err *err)
{
	scoped_fd int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int rc = 0;

	if (sock < 0)
		return err_sys(err, errno, "a socket");
	if (bridge)
		rc = join(sock, ifr, bridge, err);
	if (rc < 0)
		return rc;
	if (ioctl(sock, SIOCGIFFLAGS, ifr) == 0 && !(ifr->ifr_flags & IFF_UP)) {
		ifr->ifr_flags |= IFF_UP;
		ioctl(sock, SIOCSIFFLAGS, ifr);
	}
	t->port.mtu = ioctl(sock, SIOCGIFMTU, ifr) == 0 ? (unsigned)ifr->ifr_mtu : 1500;
	return 0;
}

static int check_name(const char *what, const char *name, struct err *err)
{
	if (!name || (name[0] && strlen(name) < IFNAMSIZ))
		return 0;
	return err_set(err, EINVAL, "%s: '%s' is no name of an interface: 1 to %d characters", what, name, IFNAMSIZ - 1);
}

/* A queue of it; ifr has its name then. */
static int open_queue(struct net_port **p, struct ifreq *ifr, const char *name, const char *bridge, bool several, struct err *err)
{
	struct tap *t = calloc(1, sizeof(*t));
	int rc;

	if (!t)
		return err_set(err, ENOMEM, "no memory");
	t->port = (struct net_port){.type = &type, .up = true};
	t->fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	rc = t->fd < 0 ? err_sys(err, errno, "/dev/net/tun") : attach(t, ifr, name, several, err);
	if (rc == 0)
		rc = set_up(t, ifr, bridge, err);
	if (rc < 0) {
		if (t->fd >= 0)
			close(t->fd);
		free(t);
		return rc;
	}
	*p = &t->port;
	return 0;
}

int net_tap(struct net_port **ports, unsigned queues, const char *name, const char *bridge, struct err *err)
{
	struct ifreq ifr = {0};
	int rc;

	ports[0] = NULL;
	if ((rc = check_name("tap", name, err)) < 0 || (rc = check_name("bridge", bridge, err)) < 0)
		return rc;
	if (name)
		strcpy(ifr.ifr_name, name); /* SAFE: its length was looked at */
	for (unsigned i = 0; i < queues; i++) {
		rc = open_queue(&ports[i], &ifr, i ? ifr.ifr_name : name, i ? NULL : bridge, queues > 1, err);
		if (rc < 0) {
			while (i--)
				close_tap(ports[i]);
			ports[0] = NULL;
			return rc;
		}
	}
	return 0;
}

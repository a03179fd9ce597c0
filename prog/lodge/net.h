/* SPDX-License-Identifier: MIT */
/*
 * What the cable of a guest's network card leads to: --net and the options that belong to it. They are not the machine's, but of who
 * starts it, again when it is restored; only that there is a card, its address, and what --net said is in a saved machine.
 */
#ifndef LODGE_NET_H
#define LODGE_NET_H

#include <stdbool.h>
#include <stdint.h>

#include "machine/machine.h"
#include "net/mac.h"

struct err;

#define NET_FORWARDS_MAX 64

struct net_options {
	const char *how; /* none, user, tap=NAME, ...; NULL: nothing was said */
	enum machine_card card; /* of a new machine; */
	bool has_card;          /* somebody has said so */
	unsigned queues;        /* pairs, of a new machine's card; 0: nobody has said so */
	const char *tftp, *bootfile; /* of user: a directory to load from, and what a guest that boots from the network is to; NULL: nothing */
	const char *forwards[NET_FORWARDS_MAX];
	unsigned n_forwards;
	const char *capture;
	bool has_mac;
	uint8_t mac[MAC_LEN];
	int holds; /* a socket at a port of `forwards` that we have chosen, so that nobody else chooses it; 0: there is none */
};

/* Their values. -EINVAL. */
int net_set_how(void *options, char *value, struct err *err);
int net_set_forward(void *options, char *value, struct err *err);
int net_set_mac(void *options, char *value, struct err *err);

/* Opens it, and fills in config->net; the disks are open, and config->saved is set if the guest goes on from somewhere. `name` is the guest's, or
 * NULL. *nat is for net_wait(). What was opened net_close() closes, after the machine is destroyed. */
int net_open(const struct net_options *options, const char *name, struct machine_config *config, int *nat, struct err *err);

/* For a card of a guest that runs: starts a lodge-nat, and returns the socket to it, and an address. */
int net_connect_user(const struct net_options *options, uint8_t mac[MAC_LEN], struct err *err);

/* lodge-nat starts while the machine is made: whether it has its ports. Nothing has to be held any more then. */
int net_wait(const struct net_options *options, int nat, struct err *err);
void net_close(struct machine_config *config);

#endif

/* SPDX-License-Identifier: MIT */
/* What server and client agree upon before the first request. Each step is named after what has come. */
#include "nbd/private.h"

#include "base/bytes.h"

#include <string.h>

#define OPTION_MAX (NBD_STRING_MAX + 1024u) /* data of an option: a name, and a list of what is asked */
#define BLOCK_MAX  NBD_LENGTH_MAX

static step came_flags, came_option, came_data;

/* -- Answers ------------------------------------------------------------------------ */

/* To an option, with room for so much data; the caller fills that in and sends it. NULL: no memory. */
static struct answer *answer_option(struct client *c, uint32_t type, size_t n)
{
	struct answer *a = answer_new(c, n);

	if (!a)
		return NULL;
	be64_put(a->header, NBD_OPTION_ANSWER);
	be32_put(a->header + 8, c->option);
	be32_put(a->header + 12, type);
	be32_put(a->header + 16, (uint32_t)n);
	a->n_header = 20;
	a->n_bytes = n;
	return a;
}

static bool send_if(struct answer *a)
{
	if (a)
		answer_send(a);
	return a;
}

static bool say(struct client *c, uint32_t type)
{
	return send_if(answer_option(c, type, 0));
}

/* With a sentence for whoever uses the client. */
static bool refuse(struct client *c, uint32_t type, const char *why)
{
	struct answer *a = answer_option(c, type, strlen(why));

	if (a)
		memcpy(a->bytes, why, strlen(why));
	return send_if(a);
}

/* -- What is exported --------------------------------------------------------------- */

uint16_t export_flags(const struct nbd_server *s)
{
	const struct disk_info *info = disk_info(s->config.disk);
	unsigned flags = NBD_HAS_FLAGS | NBD_SEND_FLUSH | NBD_SEND_DF | NBD_CAN_MULTI_CONN;

	if (info->readonly)
		return (uint16_t)(flags | NBD_READ_ONLY);
	return (uint16_t)(flags | NBD_SEND_FUA | NBD_SEND_WRITE_ZEROES | (info->can_discard ? NBD_SEND_TRIM : 0));
}

/* Size and flags, 10 bytes. */
static void put_export(const struct client *c, uint8_t *to)
{
	be64_put(to, disk_info(c->of->config.disk)->size);
	be16_put(to + 8, export_flags(c->of));
}

static bool is_ours(const struct client *c, const uint8_t *name, size_t n)
{
	const char *ours = c->of->config.name;

	return n == 0 || (n == strlen(ours) && memcmp(name, ours, n) == 0);
}

/* -- Options ------------------------------------------------------------------------ */

static bool opt_list(struct client *c, const uint8_t *data, uint32_t n)
{
	const char *name = c->of->config.name;
	struct answer *a;

	(void)data;
	if (n)
		return refuse(c, NBD_REP_ERR_INVALID, "LIST has no data");
	a = answer_option(c, NBD_REP_SERVER, 4 + strlen(name));
	if (a) {
		be32_put(a->bytes, (uint32_t)strlen(name));
		memcpy(a->bytes + 4, name, strlen(name));
	}
	return send_if(a) && say(c, NBD_REP_ACK);
}

static bool send_export(struct client *c)
{
	struct answer *a = answer_option(c, NBD_REP_INFO, 12);

	if (a) {
		be16_put(a->bytes, NBD_INFO_EXPORT);
		put_export(c, a->bytes + 2);
	}
	return send_if(a);
}

static bool send_block_size(struct client *c)
{
	struct answer *a = answer_option(c, NBD_REP_INFO, 14);

	if (a) {
		be16_put(a->bytes, NBD_INFO_BLOCK_SIZE);
		be32_put(a->bytes + 2, DISK_SECTOR);
		be32_put(a->bytes + 6, disk_info(c->of->config.disk)->block);
		be32_put(a->bytes + 10, BLOCK_MAX);
	}
	return send_if(a);
}

/* INFO and GO: a name, and the kinds of information that are wanted; the sizes of blocks are told to everybody. */
static bool opt_info(struct client *c, const uint8_t *data, uint32_t n)
{
	uint32_t len = n >= 6 ? be32_get(data) : UINT32_MAX;

	if (len > n || n - len < 6 || n - len - 6 != be16_get(data + 4 + len) * 2u)
		return refuse(c, NBD_REP_ERR_INVALID, "its lengths do not fit together");
	if (!is_ours(c, data + 4, len))
		return refuse(c, NBD_REP_ERR_UNKNOWN, "there is no export of this name");
	if (!send_export(c) || !send_block_size(c) || !say(c, NBD_REP_ACK))
		return false;
	if (c->option == NBD_OPT_GO)
		transmit_begin(c);
	return true;
}

/* The old way, to which no error can be answered. */
static bool opt_export_name(struct client *c, const uint8_t *data, uint32_t n)
{
	struct answer *a = is_ours(c, data, n) ? answer_new(c, 134) : NULL;

	if (!a)
		return false;
	memset(a->bytes, 0, 134);
	put_export(c, a->bytes);
	a->n_bytes = c->no_zeroes ? 10 : 134;
	answer_send(a);
	transmit_begin(c);
	return true;
}

static bool opt_structured(struct client *c, const uint8_t *data, uint32_t n)
{
	(void)data;
	if (n)
		return refuse(c, NBD_REP_ERR_INVALID, "STRUCTURED_REPLY has no data");
	c->structured = true;
	return say(c, NBD_REP_ACK);
}

static bool opt_abort(struct client *c, const uint8_t *data, uint32_t n)
{
	(void)data, (void)n;
	c->ending = true;
	return say(c, NBD_REP_ACK);
}

static bool (*const options[])(struct client *c, const uint8_t *data, uint32_t n) = {
	[NBD_OPT_EXPORT_NAME] = opt_export_name,
	[NBD_OPT_ABORT] = opt_abort,
	[NBD_OPT_LIST] = opt_list,
	[NBD_OPT_INFO] = opt_info,
	[NBD_OPT_GO] = opt_info,
	[NBD_OPT_STRUCTURED_REPLY] = opt_structured,
};

/* -- Steps --------------------------------------------------------------------------- */

static void want_option(struct client *c)
{
	c->want = 16;
	c->step = came_option;
}

static bool came_data(struct client *c, const uint8_t *data)
{
	uint32_t n = (uint32_t)c->want, option = c->option;

	want_option(c);
	if (option >= sizeof(options) / sizeof(options[0]) || !options[option])
		return refuse(c, NBD_REP_ERR_UNSUP, "this server knows nothing of it");
	return options[option](c, data, n);
}

static bool came_option(struct client *c, const uint8_t *bytes)
{
	uint32_t n = be32_get(bytes + 12);

	if (be64_get(bytes) != NBD_OPTION_MAGIC)
		return false;
	c->option = be32_get(bytes + 8);
	if (n > OPTION_MAX) {
		c->skip = n;
		return c->option != NBD_OPT_EXPORT_NAME && refuse(c, NBD_REP_ERR_TOO_BIG, "an option has 5120 bytes at most");
	}
	c->want = n;
	c->step = came_data;
	return true;
}

static bool came_flags(struct client *c, const uint8_t *bytes)
{
	uint32_t flags = be32_get(bytes);

	if (flags & ~(uint32_t)(NBD_FIXED_NEWSTYLE | NBD_NO_ZEROES))
		return false;
	c->no_zeroes = flags & NBD_NO_ZEROES;
	want_option(c);
	return true;
}

bool negotiate_begin(struct client *c)
{
	struct answer *a = answer_new(c, 0);

	if (!a)
		return false;
	be64_put(a->header, NBD_MAGIC);
	be64_put(a->header + 8, NBD_OPTION_MAGIC);
	be16_put(a->header + 16, NBD_FIXED_NEWSTYLE | NBD_NO_ZEROES);
	a->n_header = 18;
	answer_send(a);
	c->want = 4;
	c->step = came_flags;
	return true;
}

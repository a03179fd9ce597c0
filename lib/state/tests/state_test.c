/* SPDX-License-Identifier: MIT */
/* What state.h promises: what is saved is loaded, whatever else is refused with a sentence. */
#include "state/state.h"

#include "base/bytes.h"
#include "base/err.h"

#include <errno.h>

#include "tests/tap.h"

struct point {
	uint16_t x, y;
};

struct thing {
	uint8_t small;
	int64_t big;
	bool flag;
	uint32_t n;
	uint64_t list[4];
	struct point one, points[2];
	uint32_t n_some;
	struct point some[3];
	uint8_t bytes[5];
	uint32_t young; /* since version 2 */
	uint32_t host;  /* no state */
};

static const struct state_field point_fields[] = {
	STATE(struct point, x),
	STATE_UPTO(struct point, y, 100),
	{0},
};

static const struct state_field fields[] = {
	STATE(struct thing, small),
	STATE(struct thing, big),
	STATE(struct thing, flag),
	STATE_UPTO(struct thing, n, 4),
	STATE_COUNTED(struct thing, list, n),
	STATE_PART(struct thing, one, point_fields),
	STATE_PARTS(struct thing, points, point_fields),
	STATE_UPTO(struct thing, n_some, 3),
	STATE_PARTS_COUNTED(struct thing, some, n_some, point_fields),
	STATE_SINCE(2, struct thing, young),
	STATE_ARRAY(struct thing, bytes),
	{0},
};

static const struct state_table old = {.name = "thing", .version = 1, .fields = fields};
static const struct state_table new = {.name = "thing", .version = 2, .fields = fields};

static const struct thing full = {
	.small = 0x12, .big = -5, .flag = true, .n = 2, .list = {7, UINT64_MAX},
	.one = {1, 2}, .points = {{3, 4}, {5, 100}},
	.n_some = 1, .some = {{8, 9}}, .bytes = {9, 8, 7, 6, 5}, .young = 77,
};

static struct state_in saved(struct state_out *out, const struct state_table *t,
			     const struct thing *thing)
{
	out->len = 0;
	is_int(state_save(out, "thing.0", t, thing), 0, "a thing is saved");
	return (struct state_in){.bytes = out->bytes, .len = out->len};
}

static void test_round_trip(struct state_out *out)
{
	struct state_in in = saved(out, &new, &full);
	struct thing got = {.host = 42};
	struct state_section s;

	is_int(state_find(&in, "thing.0", &s, NULL), 0, "its section is there");
	is_int(s.version, 2, "of this version");
	is_int(state_load(&s, &new, &got, NULL), 0, "and is loaded");
	is_int(got.host, 42, "what is no state stays");
	got.host = 0;
	ok(memcmp(&got, &full, sizeof(got)) == 0, "everything else is what it was");
	is_int(state_find(&in, "thing.1", &s, NULL), -ENOENT, "another one is not there");
}

static void test_versions(struct state_out *out)
{
	struct state_in in = saved(out, &old, &full);
	struct thing got = {.young = 3};
	struct state_section s;
	struct err err = {0};

	state_find(&in, "thing.0", &s, NULL);
	is_int(state_load(&s, &new, &got, NULL), 0, "a section of the old version is loaded");
	is_int(got.young, 3, "the new field keeps what it had");
	is_int(got.bytes[4], 5, "those behind it are there");
	in = saved(out, &new, &full);
	state_find(&in, "thing.0", &s, NULL);
	is_int(state_load(&s, &old, &got, &err), -EINVAL, "the old program refuses the new one");
	is_str(err.text, "section 'thing.0' has version 2: this lodge knows 1 to 1", "and says so");
}

/* This is the form for ever. */
static void test_form(struct state_out *out)
{
	static const struct state_field one[] = {STATE(struct point, y), {0}};
	static const struct state_table t = {.name = "p", .version = 1, .fields = one};
	static const uint8_t want[] = {1, 'p', 1, 0, 9, 0, 0, 0, 1, 'y', 2, 1, 0, 0, 0, 0x34, 0x12};
	const struct point p = {.y = 0x1234};

	out->len = 0;
	is_int(state_save(out, "p", &t, &p), 0, "a point is saved");
	ok(out->len == sizeof(want) && memcmp(out->bytes, want, sizeof(want)) == 0,
	   "its bytes are those of state.h");
}

static void test_print(struct state_out *out)
{
	struct state_in in = saved(out, &new, &full);
	struct state_section s;
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	state_find(&in, "thing.0", &s, NULL);
	is_int(state_print(&s, f, NULL), 0, "a section for people");
	fclose(f);
	ok(strstr(text, "thing.0 big 0xfffffffffffffffb\n"), "a number");
	ok(strstr(text, "thing.0 points.1.y 0x64\n"), "one of a part");
	ok(strstr(text, "thing.0 bytes[0] 09 08 07 06 05\n"), "bytes");
	free(text);
}

static int load_copy(const uint8_t *bytes, size_t len, struct err *err)
{
	/* of just this size, for the sanitizer */
	uint8_t *copy = malloc(len ? len : 1);
	struct state_in in = {.bytes = copy, .len = len};
	struct state_section s;
	struct thing got = {0};
	int rc;

	memcpy(copy, bytes, len);
	rc = state_find(&in, "thing.0", &s, err);
	if (rc == 0)
		rc = state_load(&s, &new, &got, err);
	free(copy);
	return rc;
}

static void test_cut(struct state_out *out)
{
	struct state_in in = saved(out, &new, &full);
	unsigned refused = 0, told = 0;

	for (size_t len = 0; len < in.len; len++) {
		struct err err = {0};

		refused += load_copy(in.bytes, len, &err) < 0;
		told += err.text[0] != 0;
	}
	is_int(refused, (long long)in.len, "a section that is cut is refused, wherever");
	is_int(told, (long long)in.len, "with a sentence");
}

/* Each byte with each value: loaded or refused, never more. */
static void test_bytes(struct state_out *out)
{
	struct state_in in = saved(out, &new, &full);
	unsigned loaded = 0, refused = 0;

	for (size_t at = 0; at < in.len; at++)
		for (unsigned value = 0; value < 256; value++) {
			uint8_t was = out->bytes[at];

			out->bytes[at] = (uint8_t)value;
			if (load_copy(in.bytes, in.len, NULL) == 0)
				loaded++;
			else
				refused++;
			out->bytes[at] = was;
		}
	ok(loaded > in.len && refused > in.len, "any byte may be any: %u loaded, %u refused",
	   loaded, refused);
}

static void refuses(struct state_out *out, const struct thing *thing, const char *why)
{
	struct state_in in = saved(out, &new, thing);
	struct err err = {0};

	load_copy(in.bytes, in.len, &err);
	is_str(err.text, why, "refused");
}

static void test_bounds(struct state_out *out)
{
	struct thing bad = full;

	bad.points[1].y = 101;
	refuses(out, &bad, "section 'thing.0': 'points.1.y' is 101: it can be 100 at most");
	bad = full;
	memset(&bad.flag, 2, 1);
	refuses(out, &bad, "section 'thing.0': 'flag' is 2: it can be 1 at most");
	bad = full;
	bad.n = 9; /* saves four of the list */
	refuses(out, &bad, "section 'thing.0': 'n' is 9: it can be 4 at most");
}

static void test_sentences(struct state_out *out)
{
	static const struct state_field more_fields[] = {
		STATE(struct thing, small), STATE(struct thing, n), {0}};
	static const struct state_field less_fields[] = {STATE(struct thing, small), {0}};
	static const struct state_table more = {.version = 1, .fields = more_fields};
	static const struct state_table less = {.version = 1, .fields = less_fields};
	struct state_in in = saved(out, &more, &full);
	struct thing got;
	struct state_section s;
	struct err err = {0};

	state_find(&in, "thing.0", &s, NULL);
	is_int(state_load(&s, &less, &got, &err), -EINVAL, "what nobody knows is refused");
	is_str(err.text, "section 'thing.0': there is more behind the last field: 'n'", "by name");
	is_int(state_load(&s, &old, &got, &err), -EINVAL, "another order is refused");
	is_str(err.text, "section 'thing.0' has 'n' where 'big' should be", "by name");
	in.len--;
	is_int(state_find(&in, "other", &s, &err), -EINVAL, "a cut section ends the search");
	is_str(err.text, "what is at byte 0 is no section, or is cut", "with its place");
}

int main(void)
{
	struct state_out out = {0};

	test_round_trip(&out);
	test_versions(&out);
	test_form(&out);
	test_print(&out);
	test_cut(&out);
	test_bytes(&out);
	test_bounds(&out);
	test_sentences(&out);
	free(out.bytes);
	return done_testing();
}

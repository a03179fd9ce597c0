/* SPDX-License-Identifier: MIT */
/*
 * Random bytes as code, in every mode and ring: the guest may do what it likes to itself, and
 * nothing to us (the alarms are in hostile.h).
 *
 *	bytes_test [ROUNDS]
 *
 * Half of the rounds are bytes without any thought. The others are instructions: a place of the
 * opcode map, ModRM, small displacements, so that registers which point somewhere are used. A
 * fault's handler skips a byte and goes on.
 */
#include "tests/hostile/hostile.h"

#include "tests/tap.h"

static void noise(struct enemy *e, uint8_t *at, unsigned len)
{
	for (unsigned i = 0; i < len; i += 8) {
		uint64_t v = rnd(e);

		memcpy(at + i, &v, 8);
	}
}

static unsigned put_prefixes(struct enemy *e, uint8_t *b)
{
	static const uint8_t legacy[] = {0x66, 0x67, 0xf2, 0xf3, 0xf0, 0x64, 0x65, 0x2e, 0x36};
	unsigned n = 0;

	while (below(e, 4) == 0 && n < 4)
		b[n++] = legacy[below(e, sizeof(legacy))];
	if (below(e, 2))
		b[n++] = (uint8_t)(0x40 | below(e, 16));
	return n;
}

static unsigned put_opcode(struct enemy *e, uint8_t *b)
{
	switch (below(e, 8)) {
	case 0:
	case 1:
	case 2:
		b[0] = 0x0f;
		b[1] = (uint8_t)rnd(e);
		return 2;
	case 3:
		b[0] = 0x0f;
		b[1] = below(e, 2) ? 0x38 : 0x3a;
		b[2] = (uint8_t)rnd(e);
		return 3;
	case 4: /* VEX */
		b[0] = 0xc4;
		b[1] = (uint8_t)((rnd(e) & 0xe0) | (1 + below(e, 3)));
		b[2] = (uint8_t)(rnd(e) | 0x78);
		b[3] = (uint8_t)rnd(e);
		return 4;
	case 5: /* EVEX */
		b[0] = 0x62;
		b[1] = (uint8_t)((rnd(e) & 0xf0) | (1 + below(e, 3)));
		b[2] = (uint8_t)((rnd(e) & 0x83) | 0x7c);
		b[3] = (uint8_t)(rnd(e) | 8);
		b[4] = (uint8_t)rnd(e);
		return 5;
	default:
		b[0] = (uint8_t)rnd(e);
		return 1;
	}
}

static void instructions(struct enemy *e, uint8_t *at, unsigned len)
{
	for (unsigned n = 0; n + 24 < len;) {
		n += put_prefixes(e, at + n);
		n += put_opcode(e, at + n);
		at[n++] = (uint8_t)(below(e, 3) ? rnd(e) & 0x7f : rnd(e));
		if (below(e, 2))
			at[n++] = (uint8_t)rnd(e);
		if (below(e, 4) == 0) {
			memset(at + n, 0, 4);
			at[n] = (uint8_t)rnd(e);
			n += 4;
		}
	}
}

static void round_of(struct enemy *e, unsigned n)
{
	enum mode mode = (enum mode)(n % MODES);

	if (n % 32 == 0)
		noise(e, e->ram, RAM_SIZE);
	if (n % 2)
		instructions(e, e->ram + CODE_AT, CODE_SIZE);
	else
		noise(e, e->ram + CODE_AT, CODE_SIZE);
	enemy_reset(e);
	enemy_start(e, 0, mode, below(e, CODE_SIZE - 64));
}

static void attack(struct enemy *e, unsigned rounds)
{
	bool fine = true;

	for (unsigned n = 0; n < rounds && fine; n++) {
		round_of(e, n);
		fine = enemy_run(e, 0, 60, 3) && enemy_harmless(e);
		if (!fine)
			note("round %u, %s", n, mode_name(n % MODES));
	}
	ok(fine, "%s: %u rounds of random bytes", e->knobs[0] ? e->knobs : "translated", rounds);
	enemy_report(e, "random bytes");
}

int main(int argc, char **argv)
{
	static const char *const knobs[] = {"", "interpret", "ends,nochain,tlb,seed=5",
					    "cache=256K"};
	unsigned rounds = argc > 1 ? (unsigned)atoi(argv[1]) : 220;
	struct enemy *e[4];

	for (unsigned i = 0; i < 4; i++)
		e[i] = enemy_create(knobs[i], 1, i & 2);
	alarms_arm();
	for (unsigned i = 0; i < 4; i++)
		attack(e[i], rounds);
	for (unsigned i = 0; i < 4; i++)
		enemy_destroy(e[i]);
	return done_testing();
}

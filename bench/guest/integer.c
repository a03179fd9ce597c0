/* SPDX-License-Identifier: MIT */
/*
 * Integer kernels: what compilers make of ordinary C. Each works on a few to a few hundred KiB,
 * so that it measures an engine and not the memory of the machine.
 */
#include <stdlib.h>
#include <string.h>

#include "bench.h"

/* -- Lists: walk, reverse, move to front ------------------------------------------- */

struct node {
	struct node *next;
	uint32_t key;
};

#define NODES 2048

static uint64_t list(uint64_t n)
{
	static struct node nodes[NODES];
	static struct node *head;
	uint64_t seed = 1, sum = 0;

	if (!head)
		for (int i = 0; i < NODES; i++) {
			struct node *at = &nodes[(i * 797) % NODES]; /* 797: not in order */

			at->key = next_random(&seed);
			at->next = head;
			head = at;
		}
	while (n--) {
		struct node *reversed = NULL, *at = head;

		while (at) {
			struct node *next = at->next;

			sum += at->key & 1 ? at->key : ~at->key;
			at->next = reversed;
			reversed = at;
			at = next;
		}
		head = reversed;
	}
	return sum;
}

/* -- Matrices of int --------------------------------------------------------------- */

#define DIM 24

static uint64_t matrix(uint64_t n)
{
	static int32_t a[DIM][DIM], b[DIM][DIM], c[DIM][DIM];
	uint64_t seed = 2;

	for (int i = 0; i < DIM * DIM; i++) {
		(&a[0][0])[i] = next_random(&seed) & 1023;
		(&b[0][0])[i] = next_random(&seed) & 1023;
	}
	while (n--)
		for (int i = 0; i < DIM; i++)
			for (int j = 0; j < DIM; j++) {
				int32_t sum = 0;

				for (int k = 0; k < DIM; k++) {
					sum += a[i][k] * b[k][j];
					__asm__("" : "+r"(sum)); /* stay scalar */
				}
				c[i][j] = sum;
				a[j][i] ^= sum & 1;
			}
	return c[3][5];
}

/* -- A state machine that reads numbers -------------------------------------------- */

enum state { START, SIGN, DIGITS, FRACTION, EXPONENT, BAD, STATES };

static enum state step(enum state s, char c)
{
	switch (s) {
	case START:
		return c >= '0' && c <= '9' ? DIGITS : c == '+' || c == '-' ? SIGN
						     : c == '.'		    ? FRACTION
									    : BAD;
	case SIGN: return c >= '0' && c <= '9' ? DIGITS : BAD;
	case DIGITS:
		return c >= '0' && c <= '9' ? DIGITS : c == '.' ? FRACTION
						     : c == 'e' ? EXPONENT
								: BAD;
	case FRACTION: return c >= '0' && c <= '9' ? FRACTION : c == 'e' ? EXPONENT : BAD;
	case EXPONENT: return c >= '0' && c <= '9' ? EXPONENT : BAD;
	default: return c == ' ' ? START : BAD;
	}
}

static uint64_t state(uint64_t n)
{
	static const char text[] = "12 -5.25 .5e10 +17 77x 3e8 --4 0.001e5 1234567890 -.5 6..7 ";
	uint64_t count[STATES] = {0};

	while (n--) {
		enum state s = START;

		for (const char *p = text; *p; p++) {
			if (*p == ' ') {
				count[s]++;
				s = START;
				continue;
			}
			s = step(s, *p);
		}
	}
	return count[DIGITS] * 3 + count[FRACTION] * 5 + count[BAD];
}

/* -- CRC-32, a bit and a byte at a time -------------------------------------------- */

static uint64_t crc(uint64_t n)
{
	static uint32_t table[256];
	static uint8_t data[4096];
	uint32_t sum = ~0u;

	for (uint32_t i = 0; i < 256; i++) {
		uint32_t c = i;

		for (int k = 0; k < 8; k++)
			c = c & 1 ? c >> 1 ^ 0xedb88320 : c >> 1;
		table[i] = c;
		data[i] = i;
	}
	while (n--)
		for (size_t i = 0; i < sizeof(data); i++)
			sum = sum >> 8 ^ table[(sum ^ data[i]) & 255];
	return sum;
}

/* -- Sorting, in place ------------------------------------------------------------- */

static void quicksort(uint32_t *a, int lo, int hi)
{
	while (lo < hi) {
		uint32_t pivot = a[(lo + hi) / 2];
		int i = lo - 1, j = hi + 1;

		for (;;) {
			do
				i++;
			while (a[i] < pivot);
			do
				j--;
			while (a[j] > pivot);
			if (i >= j)
				break;
			uint32_t t = a[i];
			a[i] = a[j];
			a[j] = t;
		}
		quicksort(a, lo, j);
		lo = j + 1;
	}
}

static uint64_t sort(uint64_t n)
{
	static uint32_t a[2048];
	uint64_t seed = 3, sum = 0;

	while (n--) {
		for (int i = 0; i < 2048; i++)
			a[i] = next_random(&seed);
		quicksort(a, 0, 2047);
		sum += a[7];
	}
	return sum;
}

/* -- Calls ------------------------------------------------------------------------- */

static __attribute__((noinline)) uint64_t fib(uint64_t n)
{
	__asm__ volatile(""); /* no tricks */
	return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

static uint64_t recursion(uint64_t n)
{
	uint64_t sum = 0;

	while (n--)
		sum += fib(16);
	return sum;
}

#define OP(name, expr)                                                                     \
	static __attribute__((noinline)) uint64_t name(uint64_t x)                         \
	{                                                                                  \
		__asm__ volatile("");                                                      \
		return expr;                                                               \
	}
OP(op_add, x + 17)
OP(op_xor, x ^ 0x5555)
OP(op_rol, x << 3 | x >> 61)
OP(op_mul, x * 31)
OP(op_sub, x - 5)
OP(op_not, ~x)
OP(op_shr, x >> 1)
OP(op_neg, -x)

static uint64_t indirect(uint64_t n)
{
	static uint64_t (*volatile const ops[])(uint64_t) = {op_add, op_xor, op_rol, op_mul,
							     op_sub, op_not, op_shr, op_neg};
	uint64_t seed = 4, x = 1;

	while (n--)
		for (int i = 0; i < 256; i++)
			x = ops[next_random(&seed) & 7](x);
	return x;
}

/* -- Hashing ----------------------------------------------------------------------- */

#define SLOTS 8192

static uint64_t hash(uint64_t n)
{
	static uint32_t key[SLOTS], value[SLOTS];
	uint64_t seed = 5, found = 0;

	while (n--) {
		memset(key, 0, sizeof(key));
		for (int i = 0; i < SLOTS / 2; i++) {
			uint32_t k = next_random(&seed) | 1;
			uint32_t at = (k * 2654435761u) >> 19;

			while (key[at] && key[at] != k)
				at = (at + 1) & (SLOTS - 1);
			found += key[at] == k;
			key[at] = k;
			value[at] += i;
		}
	}
	return found + value[1];
}

/* -- Bytes: a sieve, text ---------------------------------------------------------- */

static uint64_t sieve(uint64_t n)
{
	static uint8_t no_prime[16384];
	uint64_t count = 0;

	while (n--) {
		memset(no_prime, 0, sizeof(no_prime));
		for (unsigned i = 2; i < sizeof(no_prime); i++) {
			if (no_prime[i])
				continue;
			count++;
			for (unsigned k = 2 * i; k < sizeof(no_prime); k += i)
				no_prime[k] = 1;
		}
	}
	return count;
}

static uint64_t text(uint64_t n)
{
	static const char *const words[] = {"lodge", "guest", "page", "table", "register",
					    "interrupt", "vector", "a", "translation"};
	char line[128];
	uint64_t sum = 0, seed = 6;

	while (n--) {
		size_t len = 0;

		for (int i = 0; i < 8; i++) {
			for (const char *p = words[next_random(&seed) % 9]; *p; p++)
				line[len++] = *p >= 'a' ? *p - 32 : *p;
			line[len++] = ' ';
		}
		line[len] = '\0';
		for (char *p = line; *p; p++)
			sum = sum * 33 + *p;
	}
	return sum;
}

const struct row integer_rows[] = {
	{.name = "integer.list", .run = list},
	{.name = "integer.matrix", .run = matrix},
	{.name = "integer.state", .run = state},
	{.name = "integer.crc", .run = crc},
	{.name = "integer.sort", .run = sort},
	{.name = "integer.recursion", .run = recursion},
	{.name = "integer.indirect", .run = indirect},
	{.name = "integer.hash", .run = hash},
	{.name = "integer.sieve", .run = sieve},
	{.name = "integer.text", .run = text},
	{0},
};

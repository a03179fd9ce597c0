/* SPDX-License-Identifier: MIT */
/*
 * Floating point: one at a time in SSE registers, on the x87 stack, and in vectors of 16 and
 * 32 bytes (GCC's vector types, so that no compiler's mood decides).
 */
#include <math.h>

#include "bench.h"

/* -- Scalar double: planets --------------------------------------------------------------- */

struct body {
	double x, y, z, vx, vy, vz, mass;
};

static void advance(struct body *b, int count, double dt)
{
	for (int i = 0; i < count; i++)
		for (int j = i + 1; j < count; j++) {
			double dx = b[i].x - b[j].x, dy = b[i].y - b[j].y, dz = b[i].z - b[j].z;
			double d2 = dx * dx + dy * dy + dz * dz + 0.01;
			double mag = dt / (d2 * __builtin_sqrt(d2));

			b[i].vx -= dx * b[j].mass * mag;
			b[i].vy -= dy * b[j].mass * mag;
			b[i].vz -= dz * b[j].mass * mag;
			b[j].vx += dx * b[i].mass * mag;
			b[j].vy += dy * b[i].mass * mag;
			b[j].vz += dz * b[i].mass * mag;
		}
	for (int i = 0; i < count; i++) {
		b[i].x += dt * b[i].vx;
		b[i].y += dt * b[i].vy;
		b[i].z += dt * b[i].vz;
	}
}

static uint64_t scalar(uint64_t n)
{
	struct body b[5];

	for (int i = 0; i < 5; i++)
		b[i] = (struct body){.x = i, .y = i * i * 0.5, .z = -i, .vx = 0.1 * i,
				     .vy = 0.2, .vz = -0.1, .mass = 1 + i};
	while (n--)
		advance(b, 5, 0.001);
	return b[0].x * 1e6;
}

/* A series and a polynomial, with conversions to and from integers. */
static uint64_t scalar_series(uint64_t n)
{
	uint64_t sum = 0;

	while (n--) {
		double s = 0, x = (n & 15) * 0.125;

		for (int i = 1; i < 64; i++) {
			s += x / i - (double)(int)(s * 4) * 0.0625;
			if (s > 3)
				s -= 2.5;
		}
		sum += (int64_t)(s * 1000);
	}
	return sum;
}

/* -- x87 ------------------------------------------------------------------------------------ */

static uint64_t x87(uint64_t n)
{
	long double s = 0;

	while (n--) {
		long double x = 1.0L + (n & 7) * 0.25L, term = 1;

		for (int i = 1; i < 32; i++) {
			term = term * x / i;
			s += term;
		}
		s = __builtin_sqrtl(s * s + 1) - s * 0.5L;
	}
	return s * 1000;
}

/* -- Vectors ----------------------------------------------------------------------------------- */

typedef float f32x4 __attribute__((vector_size(16)));
typedef int32_t i32x4 __attribute__((vector_size(16)));
typedef float f32x8 __attribute__((vector_size(32)));
typedef int32_t i32x8 __attribute__((vector_size(32)));

#define VECTOR_BYTES 8192

static uint64_t sse(uint64_t n)
{
	static f32x4 a[VECTOR_BYTES / 16], b[VECTOR_BYTES / 16];
	f32x4 k = {1.0f, 0.5f, 0.25f, 0.125f}, sum = {0};
	i32x4 bits = {0};

	while (n--)
		for (int i = 0; i < VECTOR_BYTES / 16; i++) {
			a[i] = a[i] * k + b[i];
			sum += a[i] - sum * k;
			bits ^= (i32x4)(a[i] > b[i]) + i;
			b[i] = b[i] * 0.5f + 1.0f;
		}
	return sum[0] + bits[1];
}

static bool has_avx2(void)
{
	__builtin_cpu_init();
	return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

__attribute__((target("avx2,fma"))) static uint64_t avx(uint64_t n)
{
	static f32x8 a[VECTOR_BYTES / 32], b[VECTOR_BYTES / 32];
	f32x8 k = {1.0f, 0.5f, 0.25f, 0.125f, 1.0f, 0.5f, 0.25f, 0.125f}, sum = {0};
	i32x8 bits = {0};

	while (n--)
		for (int i = 0; i < VECTOR_BYTES / 32; i++) {
			a[i] = a[i] * k + b[i];
			sum += a[i] - sum * k;
			bits ^= (i32x8)(a[i] > b[i]) + i;
			b[i] = b[i] * 0.5f + 1.0f;
		}
	return sum[0] + bits[1];
}

/* Integer vectors: shuffles and saturating sums, as codecs and ciphers use them. */
typedef uint8_t u8x16 __attribute__((vector_size(16)));
typedef uint16_t u16x8 __attribute__((vector_size(16)));

static uint64_t sse_integer(uint64_t n)
{
	static u8x16 data[VECTOR_BYTES / 16];
	u16x8 sum = {0};

	for (int i = 0; i < VECTOR_BYTES / 16; i++)
		data[i] = (u8x16){i, 1, 2, 3, i >> 3, 5, 6, 7};
	while (n--)
		for (int i = 0; i < VECTOR_BYTES / 16; i++) {
			u8x16 d = data[i];

			d = __builtin_shufflevector(d, d, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11,
						    10, 13, 12, 15, 14);
			sum += (u16x8)d * 31 + ((u16x8)d >> 4);
			data[i] = d ^ (u8x16)sum;
		}
	return sum[0] + sum[5];
}

const struct row float_rows[] = {
	{.name = "float.scalar", .run = scalar},
	{.name = "float.series", .run = scalar_series},
	{.name = "float.x87", .run = x87},
	{.name = "float.sse", .run = sse},
	{.name = "float.sse_integer", .run = sse_integer},
	{.name = "float.avx", .run = avx, .can = has_avx2},
	{0},
};

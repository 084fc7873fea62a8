/* SplitMix64's finalizer over a counter (Steele, Lea, Flood 2014), and Box-Muller for normals. */
#include "generator.h"

#include <math.h>

static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

static uint64_t bits_at(const generator *g, int64_t i)
{
    const uint64_t key = mix(g->seed + UINT64_C(0x9e3779b97f4a7c15) * (g->stream + 1));
    return mix(key + UINT64_C(0x9e3779b97f4a7c15) * ((uint64_t)i + 1));
}

double generator_uniform(const generator *g, int64_t i) { return ((double)(bits_at(g, i) >> 11) + 0.5) * 0x1p-53; }

void generator_normal_pair(const generator *g, int64_t pair, float normals[2])
{
    const uint64_t bits = bits_at(g, pair);
    const float radius_uniform = ((float)(bits >> 40) + 0.5f) * 0x1p-24f, angle = (float)(bits & 0xffffff) * 0x1p-24f * 6.2831853f;
    const float radius = sqrtf(-2.0f * logf(radius_uniform));
    normals[0] = radius * cosf(angle);
    normals[1] = radius * sinf(angle);
}

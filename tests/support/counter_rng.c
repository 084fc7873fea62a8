/* A counter-based generator: three rounds of the SplitMix64 finaliser over seed, stream and counter. */
#include "counter_rng.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static uint64_t mix(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

static uint64_t choose_seed(void)
{
    const char *const given = getenv("FKDA_TEST_SEED");
    if (given != NULL && *given != 0) return strtoull(given, NULL, 0);
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return mix((uint64_t)now.tv_sec ^ mix((uint64_t)now.tv_nsec) ^ (uint64_t)getpid()) >> 32;
}

uint64_t rng_seed(void)
{
    static uint64_t seed;
    static int is_chosen;
    if (!is_chosen) {
        seed = choose_seed();
        is_chosen = 1;
        fprintf(stderr, "seed %" PRIu64 " (FKDA_TEST_SEED=%" PRIu64 " repeats this run)\n", seed, seed);
    }
    return seed;
}

uint64_t rng_stream(const char *name, uint64_t number)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);    /* FNV-1a */
    for (; *name != 0; ++name) hash = (hash ^ (uint8_t)*name) * UINT64_C(0x100000001b3);
    return mix(hash ^ mix(number));
}

uint64_t rng_bits(uint64_t stream, uint64_t i) { return mix(mix(rng_seed() ^ mix(stream)) ^ i); }

double rng_uniform(uint64_t stream, uint64_t i) { return ((double)(rng_bits(stream, i) >> 11) + 0.5) * 0x1p-53; }

double rng_normal(uint64_t stream, uint64_t i)    /* Box-Muller, the cosine half */
{
    const double radius = sqrt(-2 * log(rng_uniform(stream, 2 * i)));
    return radius * cos(6.283185307179586 * rng_uniform(stream, 2 * i + 1));
}

int64_t rng_below(uint64_t stream, uint64_t i, int64_t n) { return (int64_t)(rng_bits(stream, i) % (uint64_t)n); }

int draw_is_wanted(int64_t i, int64_t n, int64_t number)
{
    const char *const draws = getenv("FKDA_TEST_DRAWS");
    if (draws == NULL || *draws == 0) return 1;
    if (strcmp(draws, "few") != 0) {
        fprintf(stderr, "FKDA_TEST_DRAWS is \"%s\", but must be few, or not set\n", draws);
        exit(99);
    }
    return i % n == number % n;
}

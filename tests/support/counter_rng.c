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

/* FKDA_TEST_DRAWS, taken apart: few or fewer than all draws, and the number. */
static struct { int is_read, are_few, are_fewer; long number; } draws;

static void read_draws(void)
{
    if (draws.is_read) return;
    draws.is_read = 1;
    const char *const text = getenv("FKDA_TEST_DRAWS");
    if (text == NULL || *text == 0) return;
    char word[8] = "", end = 0;
    const int found = sscanf(text, "%7[a-z]:%9ld%c", word, &draws.number, &end);
    draws.are_fewer = strcmp(word, "fewer") == 0;
    draws.are_few = draws.are_fewer || strcmp(word, "few") == 0;
    const int is_whole = (found == 1 && strchr(text, ':') == NULL && strlen(text) == strlen(word)) || (found == 2 && draws.number >= 0);
    if (is_whole && (draws.are_few || strcmp(word, "all") == 0)) return;
    fprintf(stderr, "FKDA_TEST_DRAWS is \"%s\", but must be all, few or fewer, alone or with a number of at most nine digits (few:17), or not set\n", text);
    exit(99);
}

int draws_are_few(void)
{
    read_draws();
    return draws.are_few;
}

int64_t draws_number(void)
{
    read_draws();
    return draws.number;
}

int draw_is_wanted(int64_t i, int64_t n, int64_t number) { return !draws_are_few() || i % n == (number + draws_number()) % n; }

int next_case_is_wanted(void)
{
    static int64_t asked;
    read_draws();
    return !draws.are_fewer || (asked++ + draws.number / 4096) % 4 == 0;    /* not the digits that choose draws */
}

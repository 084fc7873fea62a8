/*
 * Random numbers by counter: number i of a stream is a hash of (seed, stream, i). No state, so any element of any tensor can be drawn
 * alone, in any order, on any thread, and a case keeps its values when another case is added.
 *
 * The seed is fresh in every run and printed; FKDA_TEST_SEED=<number> repeats a run.
 *
 * Where a case is run many times and owes the same bits each time (orders of threads, mappings, repetitions), FKDA_TEST_DRAWS=few:<number> asks
 * for one of these draws: another for each case and for each number, so that runs with numbers of their own add up to all. FKDA_TEST_DRAWS=all:<number>
 * asks for all, as without it; fewer:<number>, under sanitizers, for few draws of every fourth case of the long suites. The number is also where a row of
 * random cases begins. Without ":<number>" it is 0.
 */
#ifndef FKDA_TEST_COUNTER_RNG_H
#define FKDA_TEST_COUNTER_RNG_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

uint64_t rng_seed(void);                                   /* the run's seed; the first call chooses and prints it */
uint64_t rng_stream(const char *name, uint64_t number);    /* a stream for a name and a number */
uint64_t rng_bits(uint64_t stream, uint64_t i);            /* 64 random bits */
double rng_uniform(uint64_t stream, uint64_t i);           /* in (0, 1) */
double rng_normal(uint64_t stream, uint64_t i);            /* mean 0, variance 1 */
int64_t rng_below(uint64_t stream, uint64_t i, int64_t n); /* in [0, n) */

int draws_are_few(void);
int64_t draws_number(void);
int next_case_is_wanted(void);    /* of a long suite; each call asks about another case */
/* Is draw i of the n > 0 of a case wanted? With few draws one of n in turn: another for each number of the case. */
int draw_is_wanted(int64_t i, int64_t n, int64_t number);

#ifdef __cplusplus
}
#endif
#endif

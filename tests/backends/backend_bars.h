/*
 * What each backend owes, in one table: error bars, which cases it must take, which invariances hold bit for bit.
 */
#ifndef FKDA_TEST_BACKEND_BARS_H
#define FKDA_TEST_BACKEND_BARS_H

#include "bars.h"
#include "case_run.h"

typedef struct backend_bars {
    fkda_backend id;
    accuracy_bar bar;
    int takes_any_width;             /* K, V of 1 ... 256; otherwise only 64 and 128 */
    int splits_bitwise;              /* an fp32 state carried over a chunk boundary gives the same bits as one run */
} backend_bars;

#define CHUNK_MULTIPLE 64    /* a multiple of every backend's chunk */

/* Does the backend owe this case? */
int bars_owe(const backend_bars *bars, const case_spec *spec);

/* Chooses one backend by its name; NULL: all of the table. All must be present; one chosen by name may be off, which skips. */
void bars_choose(const char *name);

/* Runs a test of one backend for every chosen backend. */
void bars_for_each(void (*test)(const backend_bars *bars));

#endif

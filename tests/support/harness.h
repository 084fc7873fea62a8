/* cmocka, with the headers it wants in front of it. Every test source includes this first. */
#ifndef FKDA_TEST_HARNESS_H
#define FKDA_TEST_HARNESS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "flashkda.h"

/* malloc that fails the test instead of returning NULL; 0 elements give a pointer too. */
static inline void *must_alloc(size_t count, size_t size)
{
    void *const memory = calloc(count > 0 ? count : 1, size);
    if (memory == NULL) fail_msg("out of memory: %zu x %zu bytes", count, size);
    return memory;
}

#endif

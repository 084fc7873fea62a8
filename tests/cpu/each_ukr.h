/* A loop over the micro-kernels of every instruction set that this machine has: FOR_EACH_UKR(u) { ... u->name ... } */
#ifndef TEST_EACH_UKR_H
#define TEST_EACH_UKR_H

#include "ukr/ukr.h"

static const char *const each_ukr_names[] = {"scalar", "avx2", "avx512", "neon"};
#define FOR_EACH_UKR(u)                                                                              \
    for (size_t isa_ = 0; isa_ < sizeof each_ukr_names / sizeof *each_ukr_names; ++isa_)             \
        for (const fkdai_cpu_ukr *u = fkdai_cpu_ukr_named(each_ukr_names[isa_]); u != NULL; u = NULL)

#endif

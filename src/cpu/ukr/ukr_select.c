/* Which micro-kernels run: the best that this machine has, or those that FKDA_CPU_ISA names. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#ifdef FKDA_CPU_AARCH64
#include <sys/auxv.h>
#endif

#include "ukr_list.h"

static const fkdai_cpu_ukr scalar = {
    "scalar",
    ukr_gate_1x4__scalar,
    ukr_close_1x4__scalar,
    ukr_sigmoid_1x4__scalar,
    ukr_load_row_1x4__scalar,
    ukr_store_row_1x4__scalar,
    ukr_relate_4x4__scalar,
    ukr_solve_4x8__scalar,
    ukr_out_4x8__scalar,
    ukr_advance_4x8__scalar,
    ukr_step_columns_2x8__scalar,
    ukr_step_rows_2x8__scalar,
};

#ifdef FKDA_CPU_X86
static const fkdai_cpu_ukr avx2 = {
    "avx2",
    ukr_gate_1x8__avx2,
    ukr_close_1x8__avx2,
    ukr_sigmoid_1x8__avx2,
    ukr_load_row_1x8__avx2,
    ukr_store_row_1x8__avx2,
    ukr_relate_4x4__avx2,
    ukr_solve_6x16__avx2,
    ukr_out_6x16__avx2,
    ukr_advance_4x16__avx2,
    ukr_step_columns_2x32__avx2,
    ukr_step_rows_2x32__avx2,
};

static const fkdai_cpu_ukr avx512 = {
    "avx512",
    ukr_gate_1x16__avx512,
    ukr_close_1x16__avx512,
    ukr_sigmoid_1x16__avx512,
    ukr_load_row_1x16__avx512,
    ukr_store_row_1x16__avx512,
    ukr_relate_4x4__avx512,
    ukr_solve_8x32__avx512,
    ukr_out_8x32__avx512,
    ukr_advance_8x32__avx512,
    ukr_step_columns_4x32__avx512,
    ukr_step_rows_4x32__avx512,
};
#endif

#ifdef FKDA_CPU_AARCH64
static const fkdai_cpu_ukr neon = {
    "neon",
    ukr_gate_1x4__neon,
    ukr_close_1x4__neon,
    ukr_sigmoid_1x4__neon,
    ukr_load_row_1x4__neon,
    ukr_store_row_1x4__neon,
    ukr_relate_4x4__neon,
    ukr_solve_4x16__neon,
    ukr_out_4x16__neon,
    ukr_advance_4x16__neon,
    ukr_step_columns_2x32__neon,
    ukr_step_rows_2x32__neon,
};
#endif

/* Best first. */
static const fkdai_cpu_ukr *ukr_at(int i)
{
#ifdef FKDA_CPU_X86
    __builtin_cpu_init();
    const int has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const int has_avx512 = has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
                           && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    const fkdai_cpu_ukr *const list[] = {has_avx512 ? &avx512 : &scalar, has_avx2 ? &avx2 : &scalar, &scalar, NULL};
#elif defined FKDA_CPU_AARCH64
    const int has_neon = (getauxval(AT_HWCAP) & HWCAP_ASIMD) != 0;
    const fkdai_cpu_ukr *const list[] = {has_neon ? &neon : &scalar, &scalar, NULL};
#else
    const fkdai_cpu_ukr *const list[] = {&scalar, NULL};
#endif
    return list[i];
}

const fkdai_cpu_ukr *fkdai_cpu_ukr_named(const char *name)
{
    for (int i = 0; ukr_at(i) != NULL; ++i)
        if (strcasecmp(ukr_at(i)->name, name) == 0) return ukr_at(i);
    return NULL;
}

static pthread_once_t chosen_once = PTHREAD_ONCE_INIT;
static const fkdai_cpu_ukr *chosen;
static char refusal[160];

static void refuse(const char *wanted)
{
    size_t used = (size_t)snprintf(refusal, sizeof refusal, "FKDA_CPU_ISA is \"%.40s\", but on this machine it can be ", wanted);
    for (int i = 0; ukr_at(i) != NULL; ++i)
        if (ukr_at(i) != &scalar) used += (size_t)snprintf(refusal + used, sizeof refusal - used, "%s, ", ukr_at(i)->name);
    snprintf(refusal + used, sizeof refusal - used, "%s", scalar.name);
}

static void choose(void)
{
    const char *const wanted = getenv("FKDA_CPU_ISA");
    chosen = wanted == NULL || *wanted == 0 ? ukr_at(0) : fkdai_cpu_ukr_named(wanted);
    if (chosen == NULL) refuse(wanted);
}

const fkdai_cpu_ukr *fkdai_cpu_ukr_chosen(const char **reason)
{
    pthread_once(&chosen_once, choose);
    *reason = refusal;
    return chosen;
}

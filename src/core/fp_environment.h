/*
 * The floating-point environment in which host backends compute: rounding to nearest, subnormal numbers kept, exceptions masked. The caller's
 * may be any other (FTZ and DAZ are common in programs that use PyTorch), and results must not depend on it.
 *
 *     const fkdai_fp_environment callers = fkdai_fp_enter();
 *     compute(x);
 *     fkdai_fp_leave(&callers);
 *
 * Afterwards the caller's environment is what it was, the flags of exceptions too: what is raised in between is forgotten. Compilers move
 * arithmetic across these calls, so `compute` is a function that they cannot inline: behind a pointer, or FKDAI_NOINLINE.
 */
#ifndef FKDAI_FP_ENVIRONMENT_H
#define FKDAI_FP_ENVIRONMENT_H

#include <fenv.h>
#include <stdint.h>
#ifdef __SSE__
#include <xmmintrin.h>
#endif

#define FKDAI_NOINLINE __attribute__((noinline))

typedef struct fkdai_fp_environment {
    fenv_t callers;
} fkdai_fp_environment;

static inline fkdai_fp_environment fkdai_fp_enter(void)
{
    fkdai_fp_environment saved;
    fegetenv(&saved.callers);
    fesetenv(FE_DFL_ENV);
#ifdef __SSE__
    _mm_setcsr(0x1f80);    /* the state after reset: C knows nothing of FTZ and DAZ, and not every C library clears them */
#endif
#ifdef __aarch64__
    __asm__ volatile("msr fpcr, %0" : : "r"(UINT64_C(0)));    /* likewise; glibc leaves the bit DN alone, with which every NaN becomes the default one */
#endif
    return saved;
}

static inline void fkdai_fp_leave(const fkdai_fp_environment *saved) { fesetenv(&saved->callers); }

#endif

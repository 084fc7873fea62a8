/*
 * Programmatic launch: a kernel may start while the one before still runs, and waits inside (dependent_launch.cuh). Only machine code of sm_90 and later
 * waits. A GPU of a generation without machine code here runs PTX of compute_80, which does not: there one kernel starts behind the other.
 */
#ifndef FKDAI_PROGRAMMATIC_H
#define FKDAI_PROGRAMMATIC_H

#ifdef __cplusplus
#define FKDAI_CONSTEXPR constexpr    /* which kernels are compiled depends on it */
#else
#define FKDAI_CONSTEXPR static inline
#endif

/* Of generations from sm_90 on, those that decode and decode_fused have machine code for (their CMakeLists.txt). */
FKDAI_CONSTEXPR int fkdai_is_programmatic(int major)
{
#ifdef FKDA_PTX_ALONE    /* tests: all kernels of the program are PTX */
    (void)major;
    return 0;
#else
    return major == 9 || major == 10 || major == 12;
#endif
}

/* A driver that was told to compile the PTX all the same (CUDA_FORCE_PTX_JIT) would run kernels that do not wait where a plan says that they do. Of a
 * loaded kernel: the architecture of its machine code and of the PTX that this was made of, both as 10 major + minor. */
static inline int fkdai_waits_as_planned(int binary_version, int ptx_version)
{
    return !fkdai_is_programmatic(binary_version / 10) || ptx_version >= 90;
}

#endif

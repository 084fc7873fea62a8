// gpu_inputs.cuh: the values of a kernel case, drawn on the device by the words of cases.def: keys=normal|shifted|same|rank8,
// gates=usual|slow|floor|open|long, betas=normal|eight.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "case_spec.h"

__device__ inline float unit_noise(uint64_t i, unsigned seed) {  // splitmix64, in (0, 1)
    uint64_t x = i + seed * 0x9e3779b97f4a7c15ull;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull, x = (x ^ (x >> 27)) * 0x94d049bb133111ebull, x ^= x >> 31;
    return (static_cast<float>(x >> 40) + 0.5f) / 16777216.f;
}
__device__ inline float normal_noise(uint64_t i, unsigned seed) {
    return sqrtf(-2.f * logf(unit_noise(2 * i, seed))) * cospif(2.f * unit_noise(2 * i + 1, seed));
}

struct Spread {  // mean + deviation * N(0,1)
    float mean, deviation;
};

template <class T>
__global__ void fill_normal(T *x, int64_t count, Spread spread, unsigned seed) {
    for (int64_t i = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x; i < count; i += static_cast<int64_t>(gridDim.x) * blockDim.x)
        x[i] = static_cast<T>(spread.mean + spread.deviation * normal_noise(i, seed));
}

// Keys in a space of `rank` dimensions, one space for each head: k of [tokens, heads, 128], contiguous. rank 1: the same key for all tokens.
__global__ void fill_low_rank(__nv_bfloat16 *k, int64_t rows, int64_t heads, int rank, unsigned seed) {
    for (int64_t i = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x; i < rows * 128; i += static_cast<int64_t>(gridDim.x) * blockDim.x) {
        const int64_t row = i / 128, at = row % heads * 128 + i % 128;
        float sum = 0.f;
        for (int j = 0; j < rank; j++) sum += normal_noise(at + j * heads * 128, seed) * (rank == 1 ? 1.f : normal_noise(row * rank + j, seed + 1000003u));
        k[i] = static_cast<__nv_bfloat16>(sum * rsqrtf(static_cast<float>(rank)));
    }
}

[[noreturn]] inline void refuse_case(const case_spec &s, const char *what) {
    printf("%s: %s is nothing that the kernel tests draw or launch\n", s.name, what);
    exit(2);
}

inline Spread spread_of_keys(const case_spec &s) {
    if (strcmp(s.keys, "normal") == 0) return {0.f, 1.f};
    if (strcmp(s.keys, "shifted") == 0) return {1.f, 1.f};
    refuse_case(s, s.keys);
}
// Of keys that span few dimensions; 0: each is drawn for itself.
inline int rank_of_keys(const case_spec &s) { return strcmp(s.keys, "same") == 0 ? 1 : strcmp(s.keys, "rank8") == 0 ? 8 : 0; }
inline Spread spread_of_betas(const case_spec &s) {
    if (strcmp(s.betas, "normal") == 0) return {0.f, 1.f};
    if (strcmp(s.betas, "eight") == 0) return {8.f, 0.f};
    refuse_case(s, s.betas);
}
inline Spread spread_of_gates(const case_spec &s) {
    if (strcmp(s.gates, "usual") == 0) return {0.f, 1.f};
    if (strcmp(s.gates, "slow") == 0) return {-4.f, 2.f};
    if (strcmp(s.gates, "floor") == 0) return {100.f, 0.f};
    if (strcmp(s.gates, "open") == 0) return {-12.f, 0.f};
    if (strcmp(s.gates, "long") == 0) return {-16.f, 0.f};
    refuse_case(s, s.gates);
}

// What the kernels take and these programs can make.
inline void expect_launchable(const case_spec &s) {
    const int dtypes[] = {s.q, s.k, s.v, s.g, s.beta_dtype, s.out};
    for (const int dtype : dtypes)
        if (dtype != FKDA_BF16) refuse_case(s, "a dtype other than bf16");
    if (s.K != 128 || s.V != 128 || s.HV != s.H) refuse_case(s, "a width other than 128, or more value heads");
    if (s.gate != FKDA_GATE_BOUNDED || s.beta != FKDA_BETA_LOGIT || s.multiplier == 2 || s.norm != FKDA_QK_NORM_L2) refuse_case(s, "another operation");
    for (const int dtype : {s.A_log, s.dt_bias})
        if (dtype != FKDA_F32 && dtype != FKDA_NONE) refuse_case(s, "a parameter that is not fp32");
    if (!s.is_unit) refuse_case(s, "params=model");
    if (s.view != VIEW_PLAIN && (s.view != VIEW_HEADS_FIRST || rank_of_keys(s) > 0)) refuse_case(s, "this view");
    if (strcmp(s.values, "normal") != 0 || s.in_place || s.row_gap || s.tail ||
        s.final == FKDA_NONE || s.is_masked) refuse_case(s, "one of its words");
}

// The same for the same name.
inline unsigned seed_of(const case_spec &s) {
    unsigned hash = 2166136261u;
    for (const char *c = s.name; *c != 0; c++) hash = (hash ^ static_cast<unsigned char>(*c)) * 16777619u;
    return hash % 100003u;
}

// The caller's tensors as a forward kernel sees them: optional vectors, indices, strides, rows of states, betas.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

namespace fkdai {

enum class Element : int { Absent, BF16, F32 };

enum class GateKind : int { Bounded, Softplus, Precomputed, PrecomputedF32 };

struct Vector {  // optional, contiguous
    const void *data;
    Element element;
    __device__ float at(int64_t i, float absent) const {
        if (element == Element::Absent) return absent;
        return element == Element::F32 ? static_cast<const float *>(data)[i]
                                       : __bfloat162float(static_cast<const __nv_bfloat16 *>(data)[i]);
    }
    // Elements i and i + 1, asked for together.
    __device__ float2 pair_at(int64_t i, float absent) const {
        if (element == Element::Absent) return make_float2(absent, absent);
        if (element == Element::F32) {
            const float *const x = static_cast<const float *>(data) + i;
            return make_float2(x[0], x[1]);
        }
        const __nv_bfloat16 *const x = static_cast<const __nv_bfloat16 *>(data) + i;
        const __nv_bfloat16 first = x[0], second = x[1];
        return make_float2(__bfloat162float(first), __bfloat162float(second));
    }
    __device__ const void *address(int64_t i) const {
        return static_cast<const char *>(data) + i * (element == Element::F32 ? sizeof(float) : sizeof(__nv_bfloat16));
    }
};

// Bits of the caller's status word: FKDA_DEVICE_*, for the host.
inline constexpr unsigned kBrokenSeqlens = 1, kBrokenSlot = 2, kBrokenCheckpoint = 4;
__device__ __forceinline__ void report(unsigned *status, unsigned bit) {
    if (status != nullptr) atomicOr(status, bit);
}

struct Indices {  // optional, contiguous
    const void *data;
    bool is_64bit;
    __device__ int64_t at(int64_t i) const { return is_64bit ? static_cast<const int64_t *>(data)[i] : static_cast<const int32_t *>(data)[i]; }
};

inline constexpr int64_t kNoRow = -1;

struct StateTable {  // of [HV,V,K] or [HV,K,V]
    void *data;
    int64_t row_stride;
    Element element;
    bool is_k_first;      // [K,V]
    Indices slots;        // the row of each state; absent: state i in row i
    int64_t slot_count;   // with slots: rows
    int first_slot;       // with slots: below it, there is no state
    // The row of state i, or kNoRow.
    __device__ int64_t row_of(int64_t i, unsigned *status) const {
        if (slots.data == nullptr) return i;
        const int64_t slot = slots.at(i);
        if (slot >= slot_count) report(status, kBrokenSlot);
        return slot >= first_slot && slot < slot_count ? slot : kNoRow;
    }
    __device__ int64_t bytes() const { return element == Element::F32 ? 4 : 2; }
};

struct Strides {
    int64_t batch, token, head;
    __device__ int64_t offset(int64_t b, int64_t t, int64_t h) const { return b * batch + t * token + h * head; }
    // In fewer instructions.
    __device__ int64_t offset_of(uint32_t b, uint32_t t, uint32_t h) const { return offset(b, t, h); }
};

// What b of a token is made of: b = m sigmoid(beta), or m beta (step_size).
struct Betas {  // [B,T,HV], any strides
    const void *data;
    Strides strides;
    Element element;
    bool is_activated;
    float multiplier;  // m
};

// key_head divides by HV / H with it: exact where HV * (HV / H) <= 2^32.
__host__ __device__ constexpr uint32_t key_factor_of(uint32_t heads_per_key) { return 0xffffffffu / heads_per_key; }

}  // namespace fkdai

// One token of many sequences: convolution, step on states in place, gated norm. decode_fused.md is its card.
//
// A block has one state, since the norm needs all of its rows. What the convolution reads is requested before the state, and made ready while that
// comes.
#pragma once

#include "decode_fused/decode_fused_rows.cuh"
#include "device/dependent_launch.cuh"

namespace fkdai::decode_fused {

__device__ __forceinline__ Job place_of(const fkdai_fused_call &p, uint32_t block) {
    const uint32_t n = divide(block, p.grid.by_heads);
    return {static_cast<int>(n), static_cast<int>(block - n * static_cast<uint32_t>(p.H))};
}

// The row of states and taps, or -1.
__device__ __forceinline__ int64_t row_of(const fkdai_fused_call &p, const IndexWords &slot, const Job &job) {
    if (p.slots == nullptr) return job.n;
    const int64_t index = index_of(slot, p.is_slot_i64);
    const bool is_null = index < p.first_slot, is_slot = static_cast<uint64_t>(index) < static_cast<uint64_t>(p.slot_count);
    if (!is_null && !is_slot && thread_here() == 0) report(p.device_status, FKDAI_FUSED_SLOT_BROKEN);
    return is_null || !is_slot ? -1 : index;
}

// By the first warp.
__device__ __forceinline__ void store_out(const fkdai_fused_call &p, const Job &job, const float4 &x) {
    const int64_t at = offset_of(p.out, job) + 4 * thread_here();
    if (p.out.is_f32) *reinterpret_cast<float4 *>(static_cast<float *>(p.out.data) + at) = x;
    else *reinterpret_cast<uint2 *>(static_cast<uint16_t *>(p.out.data) + at) = make_uint2(pack_bf16(x.x, x.y), pack_bf16(x.z, x.w));
}

// out = o / sqrt(mean(o^2) + eps) factor, or o.
template <class Config>
__device__ __forceinline__ void finish_out(const fkdai_fused_call &p, const Job &job, const Shared<Config> &shared) {
    float4 o = *reinterpret_cast<const float4 *>(shared.out + 4 * thread_here());
    if (p.output_gate.data != nullptr) {
        const float4 f = *reinterpret_cast<const float4 *>(shared.factor + 4 * thread_here());
        const float r = inverse_sqrt(sum_warp(dot4(o, o)) * (1.f / kWidth) + p.norm_eps);
        o = make_float4(o.x * r * f.x, o.y * r * f.y, o.z * r * f.z, o.w * r * f.w);
    }
    store_out(p, job, o);
}

template <class Config>
__global__ __launch_bounds__(Config::kThreads, Config::kMinBlocks) void decode_fused_kernel(const __grid_constant__ fkdai_fused_call p) {
    Shared<Config> &shared = dynamic_shared<Shared<Config>>();
    const Job job = place_of(p, blockIdx.x);
    await_previous_kernel();
    IndexWords slot{0, 0};
    uint8_t mask = 1;
    if (p.slots != nullptr) slot = index_words(p.slots, p.is_slot_i64, job.n);
    if (p.initial_mask != nullptr) mask = p.initial_mask[job.n];

    Inputs inputs;
    Rows<Config> rows;
    inputs.request(p, job);
    const int64_t row = row_of(p, slot, job);
    if (row < 0) {
        if (thread_here() < 32) store_out(p, job, make_float4(0.f, 0.f, 0.f, 0.f));
        return;
    }
    inputs.request_taps(p, job, row, mask == 0);
    rows.request(p, job, row, mask == 0, shared);
    inputs.finish(p, job, row, shared);
    __syncthreads();        // what the roles wrote to `shared`, for all
    release_next_kernel();  // not earlier: waiting blocks of it would fill the multiprocessors unevenly
    rows.begin(shared);
    rows.step(shared);
    __syncthreads();        // shared.out
    if (thread_here() < 32) finish_out(p, job, shared);
}

}  // namespace fkdai::decode_fused

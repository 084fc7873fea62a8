// S_s+1 = O_s + P_s S_s, span by span: a block has 16 rows of V of one head of a sequence, a warp 8 channels of them. P does not wait for
// anything: quarters of it, 32 rows each, travel three ahead.
//
// Both factors are sums of two bf16 numbers, their parts, and the product of the two second ones is left out: below 2^-16 of a term.
#pragma once

#include "backend/span_call.h"
#include "device/async_copy.cuh"
#include "device/dependent_launch.cuh"
#include "device/scalar_math.cuh"
#include "device/shared_access.cuh"
#include "device/warp_mma.cuh"

namespace fkdai::spans {

inline constexpr int kChannels = 128, kRows = 16, kCarryThreads = 512, kSlices = kChannels / kRows;
inline constexpr int kQuarters = 4, kQuarterRows = kChannels / kQuarters, kAhead = 3;
inline constexpr int kParts = 2, kPitch = kChannels + 8;  // bf16: so that what a load of matrices touches lies in different banks

using Carry = fkdai_span_carry;

// x y in two bf16 each; the second pair is what the first leaves.
struct Pair {
    uint32_t main, rest;
    __device__ __forceinline__ Pair(float x, float y) : main(pack_bf16(x, y)), rest(pack_bf16(x - low_bf16(main), y - high_bf16(main))) {}
};

struct CarrySmem {
    alignas(16) uint16_t transition[kQuarters][kParts][kQuarterRows][kPitch];
    alignas(16) uint32_t state[2][kParts][kRows][kPitch / 2];  // S of span s in s % 2, two channels a word
};

// 16 rows of the states that the spans of one sequence start from: a warp has 8 channels of them, a lane two of rows l/4 and l/4 + 8.
struct CarryBlock {
    CarrySmem &s;
    const uint16_t *transitions;  // of the head, and of the second span: this thread's 16 bytes of the first quarter
    float *starts;                // this lane's elements of row l/4
    int64_t of_row;               // from one span to the next, in floats
    int count;                    // states
    int warp, lane;

    static constexpr int kUnits = kChannels / 8, kRowsAtOnce = kCarryThreads / kUnits;  // 16 bytes each
    static_assert(kRowsAtOnce == kQuarterRows);

    // Quarter i of all of them; a group of copies, which may be empty.
    __device__ __forceinline__ void request(int i, int quarter) const {
        if (i < (count - 1) * kQuarters) {
            const uint16_t *const from = transitions + i / kQuarters * (2 * of_row) + quarter * (kQuarterRows * kChannels);
            const int row = thread_here() / kUnits, unit = thread_here() % kUnits * 8;
#pragma unroll
            for (int part = 0; part < kParts; part++)
                copy_async(reinterpret_cast<uint4 *>(&s.transition[quarter][part][row][unit]),
                           reinterpret_cast<const uint4 *>(from + part * (kChannels * kChannels)));
        }
        close_copies();
    }
    __device__ __forceinline__ void load_own(int span, float2 (&own)[2]) const {
        if (span >= count) return;
#pragma unroll
        for (int h = 0; h < 2; h++) own[h] = __ldcg(reinterpret_cast<const float2 *>(starts + span * of_row + 8 * h * kChannels));
    }
    __device__ __forceinline__ void leave(int span, const float2 (&state)[2]) const {
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const Pair x(state[h].x, state[h].y);
            const int row = lane / 4 + 8 * h, word = 4 * warp + lane % 4;
            s.state[span % 2][0][row][word] = x.main, s.state[span % 2][1][row][word] = x.rest;
        }
    }

    // A quarter of S P, for 8 channels: products of first parts, and with one second part. Addresses of this lane's rows.
    using Sums = float[3][4];
    __device__ __forceinline__ void add_quarter(uint32_t state, uint32_t transition, int quarter, Sums &c) const {
        constexpr uint32_t kSize = sizeof(uint16_t), kPart = kRows * kPitch * kSize;
#pragma unroll
        for (int j = 0; j < kQuarterRows; j += 16) {
            uint32_t first[4], second[4], b[4];
            load_matrices(first, state + (quarter * kQuarterRows + j) * kSize);
            load_matrices(second, state + (quarter * kQuarterRows + j) * kSize + kPart);
            load_matrices_transposed(b, transition + (quarter * kParts * kQuarterRows + j) * kPitch * kSize);
            multiply_16_bf16(c[0], first, b[0], b[1]);
            multiply_16_bf16(c[1], first, b[2], b[3]);
            multiply_16_bf16(c[2], second, b[0], b[1]);
        }
    }

    __device__ __forceinline__ void run() const {
        float2 own[2], next[2];
        load_own(0, own);
        for (int i = 0; i < kAhead; i++) request(i, i);
        leave(0, own);
        load_own(1, own);
        const uint32_t rows = shared_address(&s.state[0][0][lane % 16][lane / 16 * 4]);
        const uint32_t columns = shared_address(&s.transition[0][lane / 16][lane % 16][8 * warp]);
#pragma unroll 1
        for (int span = 1; span < count; span++) {
            Sums c = {};
            load_own(span + 1, next);
#pragma unroll
            for (int quarter = 0; quarter < kQuarters; quarter++) {
                await_copies<kAhead - 1>();
                __syncthreads();  // all have copied this quarter, and have used the one before and left the state
                request((span - 1) * kQuarters + quarter + kAhead, (quarter + kAhead) % kQuarters);
                add_quarter(rows + (span - 1) % 2 * uint32_t{sizeof s.state[0]}, columns, quarter, c);
            }
#pragma unroll
            for (int h = 0; h < 2; h++) {
                own[h].x += c[0][2 * h] + (c[1][2 * h] + c[2][2 * h]), own[h].y += c[0][2 * h + 1] + (c[1][2 * h + 1] + c[2][2 * h + 1]);
                *reinterpret_cast<float2 *>(starts + span * of_row + 8 * h * kChannels) = own[h];
            }
            leave(span, own);
            own[0] = next[0], own[1] = next[1];
        }
    }
};
static_assert(kAhead == kQuarters - 1, "a quarter is requested where the one before this one lay");

__global__ void __launch_bounds__(kCarryThreads, 1) carry_kernel(const __grid_constant__ Carry p) {
    constexpr int64_t kMatrix = kChannels * kChannels;
    CarrySmem &s = dynamic_shared<CarrySmem>();
    const int lane = thread_here() % 32, warp = thread_here() / 32, block = static_cast<int>(blockIdx.x), slice = block % kSlices;
    const int heads = static_cast<int>(p.HV), head = block / kSlices % heads, step = static_cast<int>(gridDim.x) / (kSlices * heads);
    release_next_kernel();
    await_previous_kernel();
    const int cut = p.cut_before[p.N];
    for (int which = block / (kSlices * heads); which < cut; which += step) {
        const int n = p.cut[which], before = p.before[n], count = p.before[n + 1] - before;  // states behind the first span
        const int64_t in_rows = (slice * kRows + lane / 4) * kChannels + 8 * warp + 2 * (lane % 4);
        const int64_t transition = int64_t{before - which} * p.HV + head, start = int64_t{before} * p.HV + head;
        CarryBlock{s, p.transitions + transition * (kParts * kMatrix) + thread_here() * 8, p.starts + start * kMatrix + in_rows, p.HV * kMatrix, count,
                   warp, lane}.run();
        await_copies<0>();
        __syncthreads();
    }
}

}  // namespace fkdai::spans

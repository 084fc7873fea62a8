// T of a chunk: by a warp of its own, or, where the block has no room for one, by the warps of the chain in turn.
#pragma once

#include "device/far_solve.cuh"
#include "prefill_mma/mma_steps.cuh"

namespace fkdai::portable {

// One warp.
struct SolveRole {
    const Params &p;
    View s;
    const Work &work;
    int lane;

    __device__ __forceinline__ static SolveRole of(const Params &p, const View &s) { return {p, s, s->work, lane_here()}; }

    // beta of the lane's token, as the caller gave it. Rows past the sequence are not read.
    __device__ __forceinline__ float load_beta(const Step &at_step) const {
        if (lane >= at_step.rows()) return 0.f;
        const int64_t i = p.beta.strides.offset(work.span.batch, work.token(at_step.chunk()) + lane, work.head);
        if (p.beta.element == Element::F32) return static_cast<const float *>(p.beta.data)[i];
        return __bfloat162float(static_cast<const __nv_bfloat16 *>(p.beta.data)[i]);
    }
    // b = m sigmoid(beta), or m beta; rows past the sequence have 0.
    __device__ __forceinline__ float step_size(int rows, float beta) const {
        const float b = p.beta.is_activated ? beta : sigmoid(beta);
        return lane < rows ? p.beta.multiplier * b : 0.f;
    }

    __device__ __forceinline__ static bool is_far(uint32_t size) { return size > __float_as_uint(kLargestStep); }
    __device__ __forceinline__ static bool is_small(uint32_t size) { return size - 1 < __float_as_uint(kSmallestStep) - 1; }  // and not 0

    __device__ __forceinline__ uint32_t solve_square(int number) const { return s.stage(number) + uint32_t{offsetof(Stage, solve)}; }

    // T, and what its columns lack. As bits, a negative b is above all others.
    __device__ __forceinline__ void solve(int number, int rows, float beta) const {
        const float b = step_size(rows, beta);
        Stage &to = s->stages[number & 1];
        const uint32_t largest = warp_max(__float_as_uint(b));
        if (is_far(largest) || is_small(largest) || p.is_raw) [[unlikely]] return solve_unusual(number, to, b);
        if (lane == 0) to.has_factors = 0;
        solve_usual(number, to, b);
    }
    __device__ __forceinline__ void solve_usual(int number, Stage &to, float b) const {
        s->beta[number & 1][lane] = b;
        const int half = lane / 8;    // two blocks above the diagonal
        if (half < 2) store_uint4(solve_square(number) + square_offset(8 + lane % 8 + 16 * half, 2 * half), 0, 0, 0, 0);
        __syncwarp();
        TrilSolve<kAkkPitch>{s->akk[number & 1], to.solve.bytes, s->beta[number & 1], lane}.run();
    }
    // Without norm, b |k|^2 counts, and the keys are k = 2^n k'. T of b 2^-n and A 2^n is T 2^-n.
    __device__ __forceinline__ void solve_unusual(int number, Stage &to, float b) const {
        const int key = p.is_raw ? s->key_exponents[number & 1][lane] : 0, query = p.is_raw ? s->query_exponents[number & 1][lane] : 0;
        const float squares = p.is_raw ? s->key_squares[number & 1][lane] : 0.f;
        const uint32_t largest = warp_max(key != 0 ? ~0u : __float_as_uint(b * fmaxf(squares, 1.f)));
        if (is_far(largest)) return set_factors(to, FarSolve<kAkkPitch>{s.at(s->akk[number & 1]), solve_square(number), lane}.run(b, key), query);
        const int lacks = is_small(largest) ? clamped_exponent(exponent_of(__uint_as_float(largest))) : 0;
        set_factors(to, lacks, query);
        if (lacks != 0) {
            const float power = power_of_two(lacks);
#pragma unroll 1
            for (int i = lane; i < 16 * kAkkPitch; i += 32) s->akk[number & 1][i / kAkkPitch][i % kAkkPitch] *= power;
        }
        solve_usual(number, to, b * power_of_two(-lacks));
    }
    __device__ __forceinline__ void set_factors(Stage &to, int column, int row) const {
        const bool has_factors = __any_sync(~0u, (column | row) != 0);
        if (lane == 0) to.has_factors = has_factors ? 0x3f800000u : 0;
        to.factors[lane] = power_of_two(column), to.out_factors[lane] = power_of_two(row);
    }

    // One step; b is asked for before A/b is there.
    __device__ __forceinline__ void run_step(int number, const Step &now) const {
        const uint32_t stage = s.stage(number);
        mark(mark_solve_waits, number, true);
        const float beta = load_beta(now);
        scores_ready(stage).wait(number >> 1 & 1);
        mark(mark_solve_has_scores, number, true);
        solve(number, now.rows(), beta);
        solve_ready(stage).arrive(lane);
        mark(mark_solve_has_solved, number, true);
    }

    // Every second step from this one on: who has waited for the scores of a step knows the one behind the next (Smem::steps).
    __device__ __forceinline__ void run(int first) const {
        static_assert(FKDAI_MMA_SOLVE_WARPS == 2);
#pragma unroll 1
        for (int number = first; !s.step(number).is_none(); number += FKDAI_MMA_SOLVE_WARPS) run_step(number, s.step(number));
    }
};

}  // namespace fkdai::portable

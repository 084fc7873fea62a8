// T = (I + Diag(b) A)^-1 Diag(b) of a chunk, by one warp, so that fp16 holds it whatever b and the keys are.
//
// With keys of norm 1 and b between 0 and 2 every element of T is at most 4. Where that is not promised, or where all b are so small that fp16
// would lose bits of T, powers of two are taken out of its columns; the chain multiplies rows of R by them (range_guard.cuh). Then T and O = Q S + M
// U are what they should be, since U = T R is.
//
// Without norm, a key is k = 2^n k', and KI and Kr hold k'. So U lacks a factor of 2^-n, and with A' = K' K'^T
//
//     T = (I + Diag(b 4^n) A')^-1 Diag(b 2^n)
#pragma once

#include "device/far_solve.cuh"
#include "prefill_sm90/problem/chunks.cuh"

namespace fkdai::prefill {

// One chunk, whose b stand in `beta`. A solve role does what is usual in a loop that holds nothing else.
template <class Smem>
struct ChunkSolve {
    const Params &p;
    SharedView<Smem> s;
    uint32_t stage;
    float (*akk)[kAkkPitch];
    float *beta;
    int lane;

    __device__ __forceinline__ static bool is_far(uint32_t step) { return step > __float_as_uint(kLargestStep); }
    __device__ __forceinline__ static bool is_small(uint32_t step) { return step - 1 < __float_as_uint(kSmallestStep) - 1; }  // and not 0

    // Of the warp, as bits: negative ones are above all others.
    __device__ __forceinline__ bool is_usual(float b) const {
        const uint32_t largest = warp_max(__float_as_uint(b));
        return !(is_far(largest) || is_small(largest) || (Smem::kTakesRaw && p.is_raw));
    }
    __device__ __forceinline__ void set_range(uint32_t largest, bool has_factors) const {
        if (lane == 0) s->stages[stage].range.largest = largest, s->stages[stage].range.has_factors = has_factors;
    }

    // On return T and the chunk's Range are written, but not yet fenced. meanwhile: something else to do half-way.
    template <class Meanwhile>
    __device__ __forceinline__ void run_usual(const Meanwhile &meanwhile) const {
        set_range(p.usual_range, false);
        TrilSolve<kAkkPitch>{akk, s->stages[stage].solve, beta, lane}.run(meanwhile);
    }
    // Of any chunk.
    __device__ __forceinline__ void run_unusual(float b) const {
        if constexpr (Smem::kSolvesRareApart) run_apart(*this, b);
        else run_any(b);
    }

private:
    __device__ __noinline__ static void run_apart(ChunkSolve solve, float b) { solve.run_any(b); }
    __device__ __forceinline__ void run_any(float b) const {
        Stage &to = s->stages[stage];
        TokenSize size{};
        if constexpr (Smem::kTakesRaw)
            if (p.is_raw) size = s->token_sizes[stage][lane];
        const int key = low_exponent(size.exponents), query = high_exponent(size.exponents);
        const uint32_t largest = warp_max(key != 0 ? ~0u : __float_as_uint(b * fmaxf(size.squares, 1.f)));
        if (is_far(largest)) return set_factors(FarSolve<kAkkPitch>{s.at(*akk), s.at(to.solve), lane}.run(b, key), query);
        const int lacks = is_small(largest) ? clamped_exponent(exponent_of(__uint_as_float(largest))) : 0;
        set_factors(lacks, query);  // before the solve, which wants all registers
        if (lacks != 0) move_power(b, lacks);
        TrilSolve<kAkkPitch>{akk, to.solve, beta, lane}.run();
    }
    // From b to A: T of b 2^-n and A 2^n is T 2^-n.
    __device__ __forceinline__ void move_power(float b, int n) const {
        beta[lane] = b * power_of_two(-n);
#pragma unroll 1
        for (int row = 0; row < 16; row++)
#pragma unroll 1
            for (int i = lane; i < kAkkPitch; i += 32) akk[row][i] *= power_of_two(n);
        __syncwarp();
    }
    // What T's columns and O's rows lack.
    __device__ __forceinline__ void set_factors(int column, int row) const {
        const bool has_factors = __any_sync(~0u, (column | row) != 0);
        set_range(has_factors ? kNothingInRange : p.usual_range, has_factors);
        s->stages[stage].range.factors[lane] = pack_bf16(power_of_two(column), power_of_two(row));
    }
};

}  // namespace fkdai::prefill

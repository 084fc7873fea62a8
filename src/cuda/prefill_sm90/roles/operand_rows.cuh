// Tokens as a warp of the operands has them: in fours, in shared memory and in registers. Warp = 64 channels x 16 tokens, lane = two channels.
#pragma once

#include "device/powers.cuh"
#include "device/sm90/store_matrices.cuh"
#include "prefill_sm90/problem/chunks.cuh"

namespace fkdai::prefill {

// How a warp goes through its 16 tokens, in fours.
struct Pace {
    int fours;        // on their way together: more hide more latency, and want registers and room for code
    int turn;         // in a turn of the loops; 2, if it is_held, or as many as are on their way
    bool is_held;     // what a pass leaves for the next one stays in 32 registers, and shared memory moves a fifth less
    bool is_ahead;    // the next ones are asked for before these are stored, which wants registers only
    bool is_beside;   // half of what leaves the anchor is read while the scores are made, which wants registers only, too
};

// work(t4, of): the fours from t4 on, of the block, which are those from `of` on, of this turn.
template <Pace pace, class Work>
__device__ __forceinline__ void in_turns(const Work &work) {
    static_assert(4 % pace.turn == 0 && pace.turn % pace.fours == 0 && pace.turn == (pace.is_held ? 2 : pace.fours));
#pragma unroll 1
    for (int turn = 0; turn < 4; turn += pace.turn)
#pragma unroll
        for (int of = 0; of < pace.turn; of += pace.fours) work(turn + of, of);
}

// A lane's place in a tile of 32 rows of 64 channels, so many fours of rows on.
__device__ __forceinline__ uint32_t rows_on(uint32_t at, int fours) { return (at ^ (fours & 1) * 64) + fours * 512; }

// Eight of this warp's tokens and its channels, in pairs, by fours: -K 2^-m and Q 2^-m, as decay_tiles leaves them. Before that, gamma of the even
// and of the odd channels, if it is held.
struct Eight {
    uint32_t k[2][4], q[2][4];
    __device__ __forceinline__ void set(int n, const uint32_t (&its_k)[4], const uint32_t (&its_q)[4]) {
#pragma unroll
        for (int t = 0; t < 4; t++) k[n][t] = its_k[t], q[n][t] = its_q[t];
    }
    __device__ __forceinline__ void load(uint32_t kq) {
#pragma unroll
        for (int n = 0; n < 2; n++) load_matrices(k[n], rows_on(kq, n)), load_matrices(q[n], rows_on(kq, n) + kQueryRows);
    }
    __device__ __forceinline__ void store(uint32_t kq, uint32_t power) {
#pragma unroll
        for (int n = 0; n < 2; n++) {
#pragma unroll
            for (int t = 0; t < 4; t++) k[n][t] = multiply_pairs_bf16(k[n][t], power), q[n][t] = multiply_pairs_bf16(q[n][t], power);
            store_matrices(rows_on(kq, n), k[n]), store_matrices(rows_on(kq, n) + kQueryRows, q[n]);
        }
    }
};
// Both of its eights. Registers have no index, so in a loop of two turns they move on by one in each: this turn's is returned, what is made of it
// becomes held[1].
using Held = Eight[2];
__device__ __forceinline__ Eight take_turn(Held &held) {
    const Eight first = held[0];
    held[0] = held[1];
    return first;
}

// What four tokens are made from, of this lane's channels.
struct RawFour {
    uint32_t gamma[2][4], k[4], q[4];
    float4 k_norm, q_norm;
    __device__ __forceinline__ void take(const Eight &from, int n) {
#pragma unroll
        for (int t = 0; t < 4; t++) gamma[0][t] = from.k[n][t], gamma[1][t] = from.q[n][t];
    }
};

// Where they lie: tiles, the same for the whole warp, and this lane's row in them.
template <Pace pace>
struct PacedRows {
    uint32_t kq, even, odd, norm, row;
    __device__ __forceinline__ void load(RawFour &raw, int n) const { load_tiles(raw, n), load_norms(raw, n); }
    // What this warp alone has made, or what came so.
    __device__ __forceinline__ void load_tiles(RawFour &raw, int n) const {
        const uint32_t at = rows_on(row, n);
        if (!pace.is_held) load_matrices(raw.gamma[0], even + at), load_matrices(raw.gamma[1], odd + at);
        load_matrices(raw.k, kq + at), load_matrices(raw.q, kq + at + kQueryRows);
    }
    __device__ __forceinline__ void load_norms(RawFour &raw, int n) const {
        raw.k_norm = load_float4(norm + 16 * n), raw.q_norm = load_float4(norm + 16 * n + sizeof(Norms::k));
    }
    __device__ __forceinline__ void store(int n, const uint32_t (&kd)[4], const uint32_t (&qd)[4], const uint32_t (&score)[4],
                                          const uint32_t (&recent)[4]) const {
        const uint32_t at = rows_on(row, n);
        store_matrices(kq + at, kd), store_matrices(kq + at + kQueryRows, qd);
        store_matrices(odd + at, score), store_matrices(even + at, recent);
    }
    __device__ __forceinline__ void go_on() { row = rows_on(row, pace.fours), norm += 16 * pace.fours; }
};

}  // namespace fkdai::prefill

// What one step of the chain multiplies and adds: one warpgroup, 64 rows of V, state in registers.
//
// The state S^T [64 V, 128 K] is a wgmma accumulator in fp32, never rounded when carried. As an operand it is bf16, beside K and Q; R, U, T, M and Kr
// are fp16.
#pragma once

#include "device/sm90/store_matrices.cuh"
#include "device/sm90/warpgroup_mma.cuh"
#include "prefill_sm90/roles/state_io.cuh"

namespace fkdai::prefill {

using TokenRows = float[16];        // [64 V, 32 tokens]
using TokensBf16 = uint32_t[2][4];
using StateBf16 = uint32_t[8][4];

// R = V - K S begins with V: the product is added to it.   [32,64]
template <int n>
__device__ __forceinline__ void begin_with_values(const TokensBf16 &v, float (&r)[n]) {
#pragma unroll
    for (int i = 0; i < 8; i++) r[2 * i] = low_bf16(v[i >> 2][i & 3]), r[2 * i + 1] = high_bf16(v[i >> 2][i & 3]);
}

// 2^gamma_C of this lane's channels, four of each 16. quarter: byte offset of them in those of 16 channels (decay_slot).
using Decays = float4[8];
__device__ __forceinline__ float4 load_decay(uint32_t stage, uint32_t quarter, int k) {
    return load_float4(stage + uint32_t{offsetof(Stage, gate)} + quarter + k * 64);
}
template <int from = 0, int to = 8>
__device__ __forceinline__ void load_decays(uint32_t stage, uint32_t quarter, Decays &decays) {
#pragma unroll
    for (int k = from; k < to; k++) decays[k] = load_decay(stage, quarter, k);
}

// S <- Diag(2^gamma_C) S
template <int n>
__device__ __forceinline__ void decay_eight(const float4 &f, int k, float (&state)[n]) {
    state[8 * k] *= f.x, state[8 * k + 1] *= f.y, state[8 * k + 2] *= f.x, state[8 * k + 3] *= f.y;
    state[8 * k + 4] *= f.z, state[8 * k + 5] *= f.w, state[8 * k + 6] *= f.z, state[8 * k + 7] *= f.w;
}
template <int from = 0, int to = 8>
__device__ __forceinline__ void decay(const Decays &decays, StateRows &state) {
#pragma unroll
    for (int k = from; k < to; k++) decay_eight(decays[k], k, state);
}
// The same, where registers do not hold all factors at once.
__device__ __forceinline__ void load_and_decay(uint32_t stage, uint32_t quarter, StateRows &state) {
#pragma unroll
    for (int k = 0; k < 8; k++) decay_eight(load_decay(stage, quarter, k), k, state);
}

// Rows past the sequence become 0 by select.
__device__ __forceinline__ void mask_values(int rows, int lane, TokensBf16 &v) {
#pragma unroll
    for (int i = 0; i < 8; i++) {
        const int token = 8 * (i >> 1) + 2 * (lane & 3);
        uint32_t &pair = v[i >> 2][i & 3];
        pair = token + 1 < rows ? pair : token < rows ? pair & 0xffffu : 0u;
    }
}

// The state in bf16: the only rounding that it ever meets, as an operand.
__device__ __forceinline__ void round_state(const StateRows &state, StateBf16 &rounded) {
#pragma unroll
    for (int i = 0; i < 32; i++) rounded[i >> 2][i & 3] = pack_bf16(state[2 * i], state[2 * i + 1]);
}

// The operand of 16 channels for rows of a kq tile, the k-th of eight.
__device__ __forceinline__ uint64_t tokens_of(uint32_t rows, int k) {
    return Operand<0, 1024, Swizzle::B128>(rows).at((k & 3) * 32 + (k >> 2) * uint32_t{sizeof(Stage::kq[0])});
}

// x^T = S^T X^T for 32 rows X of a kq tile, or x^T += .
template <ScaleOut first = ScaleOut::Zero>
__device__ __forceinline__ void multiply_state(uint32_t rows, const StateBf16 &state_bf16, TokenRows &x) {
    pin(x);
    mma_begin();
#pragma unroll
    for (int k = 0; k < 8; k++) mma<MmaN32>(state_bf16[k], tokens_of(rows, k), x, k == 0 ? first : ScaleOut::One);
    mma_commit();
}
// R = V - K S, under way.   [32,64]
__device__ __forceinline__ void begin_residual(uint32_t stage, const TokensBf16 &v, const StateBf16 &state_bf16, TokenRows &r) {
    begin_with_values(v, r);
    multiply_state<ScaleOut::One>(stage + uint32_t{offsetof(Stage, kq)}, state_bf16, r);
}

// The same, and Q S beside it: K and Q are 64 rows of one tile, and eight products of 64 columns take less time than sixteen of 32. Q S begins with
// 0, which is what a product without accumulator gives: a wgmma whose terms are all zeros gives +0, whatever their signs are.
using ResidualAndOut = float[32];
__device__ __forceinline__ void begin_residual_and_out(uint32_t stage, const TokensBf16 &v, const StateBf16 &state_bf16, ResidualAndOut &both) {
    begin_with_values(v, both);
#pragma unroll
    for (int i = 16; i < 32; i++) both[i] = 0.f;
    pin(both);
    mma_begin();
#pragma unroll
    for (int k = 0; k < 8; k++) mma<MmaN64>(state_bf16[k], tokens_of(stage + uint32_t{offsetof(Stage, kq)}, k), both);
    mma_commit();
}

// U^T = R^T T^T
__device__ __forceinline__ void solve_update(uint32_t stage, const TokensF16 &r_f16, TokenRows &u) {
    const Operand<0, 512, Swizzle::B64> solve(stage + offsetof(Stage, solve));
    pin(u);
    mma_begin();
    mma<MmaN32BMnF16>(r_f16[0], solve.at(0), u, ScaleOut::Zero);
    mma<MmaN32BMnF16>(r_f16[1], solve.at(16 * 64), u);
    mma_commit();
}

// S^T += U^T Kr
__device__ __forceinline__ void add_update(uint32_t stage, const TokensF16 &u_f16, StateRows &state) {
    const Operand<sizeof(Stage::ki[0]), 1024, Swizzle::B128> keys(stage + offsetof(Stage, ki));
    mma<MmaN128BMnF16>(u_f16[0], keys.at(0), state);
    mma<MmaN128BMnF16>(u_f16[1], keys.at(16 * 128), state);
}
// The same in two halves (MmaHalfBMnF16).
__device__ __forceinline__ void add_update_halves(uint32_t stage, const TokensF16 &u_f16, StateRows &state) {
    const Operand<sizeof(Stage::ki[0]), 1024, Swizzle::B128> keys(stage + offsetof(Stage, ki));
    mma<MmaHalfBMnF16<0>>(u_f16[0], keys.at(0), state);
    mma<MmaHalfBMnF16<32>>(u_f16[0], keys.at(sizeof(Stage::ki[0])), state);
    mma<MmaHalfBMnF16<0>>(u_f16[1], keys.at(16 * 128), state);
    mma<MmaHalfBMnF16<32>>(u_f16[1], keys.at(sizeof(Stage::ki[0]) + 16 * 128), state);
}

// The same for 32 channels alone, from 32 quarter on.
__device__ __forceinline__ void add_update(uint32_t stage, const TokensF16 &u_f16, int quarter, StateColumns &state) {
    const uint32_t from = static_cast<uint32_t>(quarter >> 1) * uint32_t{sizeof(Stage::ki[0])} + static_cast<uint32_t>(quarter & 1) * 64;
    const Operand<0, 1024, Swizzle::B128> keys(stage + uint32_t{offsetof(Stage, ki)} + from);
    mma<MmaN32BMnF16>(u_f16[0], keys.at(0), state);
    mma<MmaN32BMnF16>(u_f16[1], keys.at(16 * 128), state);
}

__device__ __forceinline__ void read_recent(uint32_t stage, const TokensF16 &u_f16, TokenRows &o) {
    const Operand<0, 512, Swizzle::B64> mqk(stage + offsetof(Stage, mqk));
    mma<MmaN32F16>(u_f16[0], mqk.at(0), o);
    mma<MmaN32F16>(u_f16[1], mqk.at(32), o);
}

// This lane's row of a [32 tokens][64 V] tile, 128-byte swizzle, for a transposed matrix access to 16 tokens x 16 V.
__device__ __forceinline__ uint32_t tile_offset(int warp, int lane) {
    return ((lane & 7) + 8 * (lane >> 4)) * 128 + (((2 * warp + ((lane >> 3) & 1)) ^ (lane & 7)) * 16);
}

}  // namespace fkdai::prefill

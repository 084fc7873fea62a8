// The outputs of all tokens of a sequence at once, and the state behind the last of them, where none in between is written. With a_t the decays of
// token t, S the state before the first token, and everything in fp32:
//
//     T_t = <S a_0 .. a_t, k^_t>;   A_ts = <k^_t, k^_s a_s+1 .. a_t>, s < t;    d_t = b_t (v_t - T_t - sum_s<t A_ts d_s)
//     U_t = <S a_0 .. a_t, q^_t>;   M_ts = <q^_t, k^_s a_s+1 .. a_t>, s <= t;   o_t = U_t + sum_s<=t M_ts d_s
//     S <- S a_0 .. a_last + sum_t d_t (k^_t a_t+1 .. a_last)
//
// T, U and the sum behind S are products of the tensor cores, whose operands are sums of two tf32 numbers; everything else is fp32. Products of decays
// are multiplied up, token by token: none is a quotient, so none can overflow, however steep a gate is. Those of S are one power of two: what a slow
// decay loses of S is rounded once. What belongs to a token depends on no later one.
#pragma once

#include "decode/decode_rows.cuh"
#include "device/tf32_split.cuh"

namespace fkdai::decode {

// ---------------------------------------------------------------- tokens among each other

__device__ __forceinline__ float4 product(const float4 &x, const float4 &y) { return make_float4(x.x * y.x, x.y * y.y, x.z * y.z, x.w * y.w); }

struct ScoreRows {    // for sum_rows: of one token, -A_ts in the first half, M_ts in the other
    static constexpr int kRows = 2 * Related::kTokens, kLanes = 32;
};

// k^_t a_t+1 .. a_last, in the place of q: a quarter warp that has two neighbouring channels of all tokens meets no bank twice.
template <class Config>
__device__ __forceinline__ const float *carried_at(const Tokens<Config> &x, int t, int channel) {
    return x.q[t] + (channel ^ t / 2 * 8);
}
template <class Config>
__device__ __forceinline__ void carry_key(Tokens<Config> &x, int t, int count, int lane) {
    float4 left = t < count ? four_at(x.k[t], lane) : make_float4(0.f, 0.f, 0.f, 0.f);
#pragma unroll
    for (int s = 1; s < Related::kTokens; s++)
        if (s > t && s < count) left = product(left, four_at(x.decay[s], lane));
    __syncwarp();    // q of this token has been read
    four_at(x.q[t], lane ^ t / 2 * 2) = left;
}

// What all tokens leave of a state, by one warp.
template <class Config>
__device__ __forceinline__ void keep_state(Tokens<Config> &x, int lane) {
    const float4 log2_a = sum(sum(sum(four_at(x.log2_kept[0], lane), four_at(x.log2_kept[1], lane)), four_at(x.log2_kept[2], lane)), four_at(x.log2_kept[3], lane));
    const float4 code = coded_decays(log2_a);
    four_at(x.rest, lane) = code;
    four_at(x.whole, lane) = make_float4(is_lost(code.x), is_lost(code.y), is_lost(code.z), is_lost(code.w));
}

// Token t with those before it, by one warp; a lane has four channels.
template <class Config>
__device__ __forceinline__ void relate_token(Tokens<Config> &x, int t, int lane) {
    constexpr int kTokens = Related::kTokens;
    float scores[2 * kTokens] = {};
    const float4 k = four_at(x.k[t], lane), q = four_at(x.q[t], lane);
    float4 decays = make_float4(1.f, 1.f, 1.f, 1.f);    // a_s+1 .. a_t
#pragma unroll
    for (int s = kTokens - 2; s >= 0; s--) {
        if (s >= t) continue;
        decays = product(decays, four_at(x.decay[s + 1], lane));
        const float4 left = product(four_at(x.k[s], lane), decays);
        scores[s] = -dot4(k, left), scores[kTokens + s] = dot4(q, left);
    }
    decays = product(decays, four_at(x.decay[0], lane));
    four_at(x.k_decayed[t], lane) = product(k, decays), four_at(x.q_decayed[t], lane) = product(q, decays);
    const float sum = sum_rows<ScoreRows>(scores, lane);    // two lanes have each
    const int s = lane / 2 % kTokens, is_of_q = lane / 2 / kTokens;
    if (lane % 2 == 0) x.scores[s][t / 2][2 * is_of_q + t % 2] = is_of_q && s == t ? x.kq[t] : sum;
}

// All warps that prepare tokens, between two barriers.
template <class Config>
__device__ __forceinline__ void relate_tokens(Tokens<Config> &x, int count, bool writes_state) {
    constexpr int kTurns = Related::kTokens / Config::kWarps;
    const int warp = static_cast<int>(unsigned_thread() / 32), lane = static_cast<int>(unsigned_thread() % 32);
    static_assert(kTurns * Config::kWarps == Related::kTokens);
#pragma unroll 1
    for (int turn = 0; turn < kTurns; turn++) {    // who had a token of few before it has one of many
        const int t = turn * Config::kWarps + (turn % 2 == 0 ? warp : Config::kWarps - 1 - warp);
        if (t < count) relate_token(x, t, lane);
        if (writes_state) carry_key(x, t, count, lane);
        if (writes_state && t == 0) keep_state(x, lane);
    }
}

// ---------------------------------------------------------------- rows of the state with all tokens

// A warp has 16 rows: lane l has 2 (l / 4) and the next, and of the tokens' numbers those of 2 (l % 4) and the next.
template <class Config>
struct ChunkRows : Rows<Config> {
    using Rows<Config>::raw, Rows<Config>::lane, Rows<Config>::row;
    float r[2][2], o[2][2];    // [row][token]: v - T - ..., then d; U + ...

    __device__ __forceinline__ static float of(const float4 &x, int i) { return i == 0 ? x.x : i == 1 ? x.y : i == 2 ? x.z : x.w; }

    // As it was read: row i, channel c of four j.
    __device__ __forceinline__ float read(int i, int j, int c) const {
        using Read = typename Rows<Config>::template Part<Config::kStored>;
        return Config::kAxes == Axes::VK ? of(Read::widen(raw[i][j]), c) : of(Read::widen(raw[c][j]), i);
    }

    // T and U. The products that matter are summed apart from the small ones, which lose nothing then. A bf16 state has no rest.
    __device__ __forceinline__ void multiply(const Tokens<Config> &x) {
        float t[4] = {}, u[4] = {}, t_small[4] = {}, u_small[4] = {};
        const int token = static_cast<int>(unsigned_thread() % 32 / 4);
        const uint32_t kept_bits = kTf32Bits | zero_of_thread();    // unknown, lest the main parts be dropped and the registers of s copied in their place
#pragma unroll
        for (int j = 0; j < Config::kFours; j++) {
            const int four = Config::channel(lane, j) / 4;
            const float4 k = four_at(x.k_decayed[token], four), q = four_at(x.q_decayed[token], four);
#pragma unroll
            for (int c = 0; c < 4; c += 2) {
                const float s[4] = {read(0, j, c), read(1, j, c), read(0, j, c + 1), read(1, j, c + 1)};
                float main[4], rest[4];
#pragma unroll
                for (int i = 0; i < 4; i++) main[i] = __uint_as_float(__float_as_uint(s[i]) & kept_bits), rest[i] = s[i] - main[i];
                if constexpr (Config::kStored == Stored::F32) {
                    multiply_tf32(t_small, rest, of(k, c), of(k, c + 1));
                    multiply_tf32(u_small, rest, of(q, c), of(q, c + 1));
                }
                multiply_tf32(t_small, main, tf32_rest(of(k, c)), tf32_rest(of(k, c + 1)));
                multiply_tf32(u_small, main, tf32_rest(of(q, c)), tf32_rest(of(q, c + 1)));
                multiply_tf32(t, main, of(k, c), of(k, c + 1));    // the tensor cores see the main part of what they are given
                multiply_tf32(u, main, of(q, c), of(q, c + 1));
            }
        }
#pragma unroll
        for (int i = 0; i < 4; i++) r[i / 2][i % 2] = -(t[i] + t_small[i]), o[i / 2][i % 2] = u[i] + u_small[i];
    }

    // Token by token, from T and U to d and out.
    __device__ __forceinline__ void solve(const Tokens<Config> &x, int first_row, int count) {
        const int of_quad = thread_here() & 31 & ~3;
        const float b[2] = {x.beta[2 * lane], x.beta[2 * lane + 1]};
#pragma unroll
        for (int i = 0; i < 2; i++)
#pragma unroll
            for (int j = 0; j < 2; j++) r[i][j] += x.v[2 * lane + j][row - first_row + i];
#pragma unroll 1
        for (int pair = 0; 2 * pair < count; pair++)
#pragma unroll
            for (int odd = 0; odd < 2; odd++) {
                if (odd == 1 && 2 * pair + 1 == count) break;
                const float4 score = *reinterpret_cast<const float4 *>(x.scores[2 * pair + odd][lane]);
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    const float d = __shfl_sync(~0u, b[odd] * r[i][odd], of_quad + pair);
                    r[i][0] = fmaf(score.x, d, r[i][0]), r[i][1] = fmaf(score.y, d, r[i][1]);
                    if (pair < lane || (pair == lane && odd == 0)) o[i][0] = fmaf(score.z, d, o[i][0]);    // NaN stays behind its token
                    if (pair <= lane) o[i][1] = fmaf(score.w, d, o[i][1]);
                }
            }
#pragma unroll
        for (int i = 0; i < 2; i++)
#pragma unroll
            for (int j = 0; j < 2; j++) r[i][j] = 2 * lane + j < count ? b[j] * r[i][j] : 0.f;
    }

    // The state behind the last token, over the one that was read. The tensor cores add d k^ alone: their sums are not rounded to nearest.
    __device__ __forceinline__ void store_behind_last(const Tokens<Config> &x, uint8_t *own) {
        using Read = typename Rows<Config>::template Part<Config::kStored>;
        const float d[4] = {r[0][0], r[1][0], r[0][1], r[1][1]};
        float d_main[4], d_rest[4];
        split(d, d_main, d_rest);
        const int column = static_cast<int>(unsigned_thread() % 32 / 4);    // of the product: channels 2 column and the next of sixteen
#pragma unroll
        for (int j = 0; j < Config::kFours; j++) {
            const float2 first = *reinterpret_cast<const float2 *>(carried_at(x, 2 * lane, 16 * j + 2 * column));
            const float2 second = *reinterpret_cast<const float2 *>(carried_at(x, 2 * lane + 1, 16 * j + 2 * column));
            const int four = Config::channel(lane, j) / 4;
            const float4 whole = four_at(x.whole, four), rest = four_at(x.rest, four);
            float sums[2][4] = {};    // of channels 0 and 2 of the four, of 1 and 3; rows likewise
#pragma unroll
            for (int c = 0; c < 2; c++) {
                const float k0 = c == 0 ? first.x : first.y, k1 = c == 0 ? second.x : second.y;
                multiply_tf32(sums[c], d_rest, k0, k1);
                multiply_tf32(sums[c], d_main, tf32_rest(k0), tf32_rest(k1));
                multiply_tf32(sums[c], d_main, k0, k1);
            }
            float s[2][4];
#pragma unroll
            for (int i = 0; i < 2; i++)
#pragma unroll
                for (int c = 0; c < 4; c++)
                    s[i][c] = fmaf(read(i, j, c), of(rest, c), fmaf(read(i, j, c), of(whole, c), sums[c % 2][2 * i + c / 2]));
#pragma unroll
            for (int part = 0; part < Rows<Config>::kParts; part++) {
                const float4 y = Config::kAxes == Axes::VK ? make_float4(s[part % 2][0], s[part % 2][1], s[part % 2][2], s[part % 2][3])
                                                           : make_float4(s[0][part], s[1][part], 0.f, 0.f);
                *reinterpret_cast<typename Read::Type *>(own + Rows<Config>::template offset<Config::kStored>(part, j)) = Read::narrow(y);
            }
        }
    }

    __device__ __forceinline__ void clear_out() { o[0][0] = o[0][1] = o[1][0] = o[1][1] = 0.f; }
    // out: of the lane's first row.
    __device__ __forceinline__ void store_out(const Line<Config::kInputs> &out, int count) const {
        const int t = 2 * lane;
#pragma unroll
        for (int j = 0; j < 2; j++)
#pragma unroll
            for (int i = 0; i < 2; i++)
                if (t + j < count) store_float(out.of(t + j), i, out.is_f32, o[i][j]);
    }
};

}  // namespace fkdai::decode

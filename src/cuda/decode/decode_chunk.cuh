// All tokens of a sequence at once. With a_t the decays of token t, S the state before the first token, and everything in fp32:
//
//     T_t = <S a_0 .. a_t, k^_t>;   A_ts = <k^_t, k^_s a_s+1 .. a_t>, s < t;    d_t = b_t (v_t - T_t - sum_s<t A_ts d_s)
//     U_t = <S a_0 .. a_t, q^_t>;   M_ts = <q^_t, k^_s a_s+1 .. a_t>, s <= t;   o_t = U_t + sum_s<=t M_ts d_s
//     S a_0 .. a_last + sum_s<=last d_s k^_s a_s+1 .. a_last
//
// T and U are products of the tensor cores, whose operands are sums of two tf32 numbers; everything else is fp32. Products of decays are
// multiplied up, token by token: none is a quotient, so none can overflow, however steep a gate is. What belongs to a token depends on no later one.
#pragma once

#include "decode/decode_rows.cuh"
#include "device/tf32_split.cuh"

namespace fkdai::decode {

// ---------------------------------------------------------------- tokens among each other

__device__ __forceinline__ float4 product(const float4 &x, const float4 &y) { return make_float4(x.x * y.x, x.y * y.y, x.z * y.z, x.w * y.w); }

__device__ __forceinline__ void store_split(const float4 &x, float4 &main, float4 &rest) {
    main = make_float4(tf32_part(x.x), tf32_part(x.y), tf32_part(x.z), tf32_part(x.w));
    rest = make_float4(x.x - main.x, x.y - main.y, x.z - main.z, x.w - main.w);
}

struct ScoreRows {    // for sum_rows: of one token, -A_ts in the first half, M_ts in the other
    static constexpr int kRows = 2 * Related::kTokens, kLanes = 32;
};

// Token t with those before it, by one warp; a lane has four channels.
template <class Config>
__device__ __forceinline__ void relate_token(Tokens<Config> &x, int t, int lane, bool is_last) {
    constexpr int kTokens = Related::kTokens;
    float scores[2 * kTokens] = {};
    const float4 k = four_at(x.k[t], lane), q = four_at(x.q[t], lane);
    float4 decays = make_float4(1.f, 1.f, 1.f, 1.f);    // a_s+1 .. a_t
    if (is_last) four_at(x.k_left[t], lane) = k;
#pragma unroll
    for (int s = kTokens - 2; s >= 0; s--) {
        if (s >= t) continue;
        decays = product(decays, four_at(x.decay[s + 1], lane));
        const float4 left = product(four_at(x.k[s], lane), decays);
        scores[s] = -dot4(k, left), scores[kTokens + s] = dot4(q, left);
        if (is_last) four_at(x.k_left[s], lane) = left;
    }
    decays = product(decays, four_at(x.decay[0], lane));
    store_split(product(k, decays), four_at(x.k_main[t], lane), four_at(x.k_rest[t], lane));
    store_split(product(q, decays), four_at(x.q_main[t], lane), four_at(x.q_rest[t], lane));
    const float sum = sum_rows<ScoreRows>(scores, lane);    // two lanes have each
    const int s = lane / 2 % kTokens, is_of_q = lane / 2 / kTokens;
    if (lane % 2 == 0) x.scores[s][t / 2][2 * is_of_q + t % 2] = is_of_q && s == t ? x.kq[t] : sum;
}

// The whole block, between two barriers. last: the token behind which the state is stored; -1: none.
template <class Config>
__device__ __forceinline__ void relate_tokens(Tokens<Config> &x, int count, int last) {
    constexpr int kTurns = Related::kTokens / Config::kWarps;
    const int warp = static_cast<int>(unsigned_thread() / 32), lane = static_cast<int>(unsigned_thread() % 32);
    static_assert(kTurns * Config::kWarps == Related::kTokens && Config::kThreads >= kWidth);
    if (last >= 0 && static_cast<int>(unsigned_thread()) < kWidth) {
        const int channel = static_cast<int>(unsigned_thread());
        float log2_all = 0.f;
        for (int t = 0; t <= last; t++) log2_all += x.log2_decay[t][channel];
        x.state_decay[channel] = coded_decay(log2_all);
    }
#pragma unroll 1
    for (int turn = 0; turn < kTurns; turn++) {    // who had a token of few before it has one of many
        const int t = turn * Config::kWarps + (turn % 2 == 0 ? warp : Config::kWarps - 1 - warp);
        if (t < count) relate_token(x, t, lane, t == last);
    }
}

// ---------------------------------------------------------------- rows of the state with all tokens

// A warp has 16 rows: lane l has 2 (l / 4) and the next, and of the tokens' numbers those of 2 (l % 4) and the next.
template <class Config>
struct ChunkRows : Rows<Config> {
    using Rows<Config>::raw, Rows<Config>::values, Rows<Config>::lane, Rows<Config>::row;
    float r[2][2], o[2][2];    // [row][token]: v - T - ..., U + ...

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
#pragma unroll
        for (int j = 0; j < Config::kFours; j++) {
            const int four = Config::channel(lane, j) / 4;
            const float4 k_main = four_at(x.k_main[token], four), k_rest = four_at(x.k_rest[token], four);
            const float4 q_main = four_at(x.q_main[token], four), q_rest = four_at(x.q_rest[token], four);
#pragma unroll
            for (int c = 0; c < 4; c += 2) {
                const float s[4] = {read(0, j, c), read(1, j, c), read(0, j, c + 1), read(1, j, c + 1)};
                float main[4], rest[4];
                split(s, main, rest);
                if constexpr (Config::kStored == Stored::F32) {
                    multiply_tf32(t_small, rest, of(k_main, c), of(k_main, c + 1));
                    multiply_tf32(u_small, rest, of(q_main, c), of(q_main, c + 1));
                }
                multiply_tf32(t_small, main, of(k_rest, c), of(k_rest, c + 1));
                multiply_tf32(u_small, main, of(q_rest, c), of(q_rest, c + 1));
                multiply_tf32(t, main, of(k_main, c), of(k_main, c + 1));
                multiply_tf32(u, main, of(q_main, c), of(q_main, c + 1));
            }
        }
#pragma unroll
        for (int i = 0; i < 4; i++) r[i / 2][i % 2] = -(t[i] + t_small[i]), o[i / 2][i % 2] = u[i] + u_small[i];
    }

    // S times all decays up to the last token that is stored.
    __device__ __forceinline__ void decay(const Tokens<Config> &x) {
#pragma unroll
        for (int j = 0; j < Config::kFours; j++) {
            const float4 a = four_at(x.state_decay, Config::channel(lane, j) / 4);
#pragma unroll
            for (int i = 0; i < 2; i++) {
                float(&s)[4] = values.s[i][j];
                s[0] = decayed(s[0], a.x), s[1] = decayed(s[1], a.y), s[2] = decayed(s[2], a.z), s[3] = decayed(s[3], a.w);
            }
        }
    }

    // S + d k.
    __device__ __forceinline__ void add(const float *k_row, const float (&d)[2]) {
#pragma unroll
        for (int j = 0; j < Config::kFours; j++) {
            const float4 k = four_at(k_row, Config::channel(lane, j) / 4);
#pragma unroll
            for (int i = 0; i < 2; i++) {
                float(&s)[4] = values.s[i][j];
                s[0] = fmaf(d[i], k.x, s[0]), s[1] = fmaf(d[i], k.y, s[1]), s[2] = fmaf(d[i], k.z, s[2]), s[3] = fmaf(d[i], k.w, s[3]);
            }
        }
    }

    // Token by token, from T and U to out, and to the state behind token `last`.
    __device__ __forceinline__ void solve(const Tokens<Config> &x, int first_row, int count, int last) {
        const int t = 2 * lane, of_quad = thread_here() & 31 & ~3;
        const float b[2] = {x.beta[t], x.beta[t + 1]};
#pragma unroll
        for (int i = 0; i < 2; i++)
#pragma unroll
            for (int j = 0; j < 2; j++) r[i][j] += x.v[t + j][row - first_row + i];
        if (last >= 0) {
            this->widen();
            decay(x);
        }
#pragma unroll 1
        for (int s = 0; s < count; s++) {
            const float4 score = *reinterpret_cast<const float4 *>(x.scores[s][lane]);
            const bool is_odd = s % 2 != 0;
            float d[2];
#pragma unroll
            for (int i = 0; i < 2; i++) {
                d[i] = __shfl_sync(~0u, (is_odd ? b[1] : b[0]) * (is_odd ? r[i][1] : r[i][0]), of_quad + s / 2);
                r[i][0] = fmaf(score.x, d[i], r[i][0]), r[i][1] = fmaf(score.y, d[i], r[i][1]);
                if (s <= t) o[i][0] = fmaf(score.z, d[i], o[i][0]);    // NaN stays behind its token
                if (s <= t + 1) o[i][1] = fmaf(score.w, d[i], o[i][1]);
            }
            if (s <= last) add(x.k_left[s], d);
        }
    }

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

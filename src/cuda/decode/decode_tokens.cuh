// The tokens of a block: which they are, and from what the caller stored to what a row needs of them.
//
// Of every token one warp makes q^, k^ and k^ . q^, another one the decay and b; threads that are left bring v.
#pragma once

#include "decode/decode_memory.cuh"
#include "device/coded_decay.cuh"
#include "device/fours.cuh"

namespace fkdai::decode {

// ---------------------------------------------------------------- which tokens

// The block's state, before anything is read.
template <class Config>
__device__ __forceinline__ Job place_of(const fkdai_decode_call &p, uint32_t block) {
    const uint32_t state = block / Config::kBlocksPerState, n = divide(state, p.by_heads);
    Job job{};
    job.n = static_cast<int>(n), job.hv = static_cast<int>(state - n * static_cast<uint32_t>(p.HV));
    job.first_row = static_cast<int>(block % Config::kBlocksPerState) * Config::kBlockRows;
    return job;
}

__device__ __forceinline__ void find_tokens(const fkdai_decode_call &p, Job &job) {
    job.batch = job.n, job.count = p.S;
    if (p.cu_seqlens.data == nullptr) return;
    const IndexWords from = index_words(p.cu_seqlens, job.n), to = index_words(p.cu_seqlens, job.n + 1);
    const int64_t begin = index_of(from, p.cu_seqlens.is_i64), end = index_of(to, p.cu_seqlens.is_i64);
    const bool is_good = begin >= 0 && end >= begin && end - begin <= p.S && end <= p.T && (job.n > 0 || begin == 0);
    if (!is_good && thread_here() == 0) report(p.device_status, FKDAI_DECODE_SEQLENS_BROKEN);
    job.batch = 0, job.begin = begin, job.count = is_good ? static_cast<int>(end - begin) : 0;
}

// ---------------------------------------------------------------- q and k

// |q|^2, |k|^2 and q . k.
struct Products {
    float qq, kk, qk;
};
__device__ __forceinline__ Products products_of(const float4 &q, const float4 &k) {
    Products x{dot4(q, q), dot4(k, k), dot4(q, k)};
#pragma unroll
    for (int d = 16; d > 0; d /= 2) {
        const float qq = __shfl_xor_sync(~0u, x.qq, d), kk = __shfl_xor_sync(~0u, x.kk, d), qk = __shfl_xor_sync(~0u, x.qk, d);
        x.qq += qq, x.kk += kk, x.qk += qk;
    }
    return x;
}

template <class Config>
__device__ __forceinline__ void make_query_and_key(const fkdai_decode_call &p, float4 q, float4 k, int token, int lane, Tokens<Config> &to) {
    constexpr float kMost = 1e37f;
    Products x = products_of(q, k);
    float of_q = p.scale, of_k = 1.f;
    if (p.is_normalised) {
        float q_eps = 1e-6f, k_eps = 1e-6f;
        if (!(x.qq < kMost && x.kk < kMost)) {  // their squares leave fp32: a smaller multiple of the row, to which eps is nothing
            if (!(x.qq < kMost)) q = times(q, 0x1p-70f), q_eps = 0.f;
            if (!(x.kk < kMost)) k = times(k, 0x1p-70f), k_eps = 0.f;
            x = products_of(q, k);
        }
        of_q *= inverse_sqrt(x.qq + q_eps), of_k = inverse_sqrt(x.kk + k_eps);
    }
    *reinterpret_cast<float4 *>(&to.q[token][4 * lane]) = times(q, of_q);
    *reinterpret_cast<float4 *>(&to.k[token][4 * lane]) = times(k, of_k);
    if (lane == 0) to.kq[token] = x.qk * of_q * of_k;
}

// ---------------------------------------------------------------- decay and b

// The decays of four channels: their codes.
__device__ __forceinline__ float4 decays_of(const fkdai_decode_call &p, const float4 &g, const float4 &bias, float A_log) {
    const float rate = p.A_log.data == nullptr ? 1.f : rate_of(A_log);
    return coded_decays(static_cast<DecayForm>(p.gate), g, bias, rate, p.lower_bound);
}

template <class Config>
__device__ __forceinline__ void make_decay_and_beta(const fkdai_decode_call &p, const float4 &decays, float beta, int token, int lane,
                                                    Tokens<Config> &to) {
    *reinterpret_cast<float4 *>(&to.decay[token][4 * lane]) = decays;
    if (lane == 0) to.beta[token] = p.beta_multiplier * (p.is_beta_activated ? beta : sigmoid(beta));
}

// ---------------------------------------------------------------- who brings what

// Of one thread. A warp has every kWarps-th of 2 * count items: item 2 i is q and k of token i, item 2 i + 1 its decay and beta.
template <class Config>
struct TokenReader {
    static constexpr int kItems = (2 * Config::kTokens + Config::kWarps - 1) / Config::kWarps;
    static constexpr int kValues = (Config::kTokens * Config::kBlockRows + Config::kThreads - 1) / Config::kThreads;

    uint4 first[kItems], second[kItems];   // q and k, or g and dt_bias
    uint32_t A_log[kItems], beta[kItems], v[kValues];

    __device__ __forceinline__ static int value_at(int i) { return (thread_here() ^ Config::kThreads / 2) + i * Config::kThreads; }

    __device__ __forceinline__ void request(const fkdai_decode_call &p, const Job &job) {
        const int warp = thread_here() / 32, lane = thread_here() % 32, h = static_cast<int>(divide(static_cast<uint32_t>(job.hv), p.by_group));
#pragma unroll
        for (int i = 0; i < kItems; i++) {
            const int item = warp + i * Config::kWarps, token = item / 2;
            if (token >= job.count) break;
            if (item % 2 == 0) {
                first[i] = words_at(p.q.data, offset_of(p.q, job, token, h) + 4 * lane, p.q.is_f32);
                second[i] = words_at(p.k.data, offset_of(p.k, job, token, h) + 4 * lane, p.k.is_f32);
                continue;
            }
            first[i] = words_at(p.g.data, offset_of(p.g, job, token, job.hv) + 4 * lane, p.g.is_f32);
            second[i] = make_uint4(0, 0, 0, 0), A_log[i] = 0;
            if (p.dt_bias.data != nullptr) second[i] = words_at(p.dt_bias.data, static_cast<int64_t>(job.hv) * kWidth + 4 * lane, p.dt_bias.is_f32);
            if (p.A_log.data != nullptr) A_log[i] = word_at(p.A_log.data, job.hv, p.A_log.is_f32);
            beta[i] = word_at(p.beta.data, offset_of(p.beta, job, token, job.hv), p.beta.is_f32);
        }
#pragma unroll
        for (int i = 0; i < kValues; i++) {
            const int token = value_at(i) / Config::kBlockRows, row = job.first_row + value_at(i) % Config::kBlockRows;
            if (token < job.count) v[i] = word_at(p.v.data, offset_of(p.v, job, token, job.hv) + row, p.v.is_f32);
        }
    }

    __device__ __forceinline__ void finish(const fkdai_decode_call &p, const Job &job, Tokens<Config> &to) const {
        const int warp = thread_here() / 32, lane = thread_here() % 32;
#pragma unroll
        for (int i = 0; i < kItems; i++) {
            const int item = warp + i * Config::kWarps, token = item / 2;
            if (token >= job.count) break;
            if (item % 2 == 0)
                make_query_and_key(p, floats_of(first[i], p.q.is_f32), floats_of(second[i], p.k.is_f32), token, lane, to);
            else
                make_decay_and_beta(
                    p, decays_of(p, floats_of(first[i], p.g.is_f32), floats_of(second[i], p.dt_bias.is_f32), float_of(A_log[i], p.A_log.is_f32)),
                    float_of(beta[i], p.beta.is_f32), token, lane, to);
        }
#pragma unroll
        for (int i = 0; i < kValues; i++) {
            const int token = value_at(i) / Config::kBlockRows;
            if (token < job.count) to.v[token][value_at(i) % Config::kBlockRows] = float_of(v[i], p.v.is_f32);
        }
    }
};

}  // namespace fkdai::decode

// The tokens of a block: which they are, and from what the caller stored to what a row needs of them.
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

// Of a packed sequence.
__device__ __forceinline__ void find_tokens(const fkdai_decode_call &p, Job &job) {
    const IndexWords from = place_of_index(p.cu_seqlens, job.n).request(), to = place_of_index(p.cu_seqlens, job.n + 1).request();
    const int64_t begin = index_of(from, p.cu_seqlens.is_i64), end = index_of(to, p.cu_seqlens.is_i64);
    const bool is_good = begin >= 0 && end >= begin && end - begin <= p.S && end <= p.T && (job.n > 0 || begin == 0);
    if (!is_good && thread_here() == 0) report(p.device_status, FKDAI_DECODE_SEQLENS_BROKEN);
    job.begin = begin, job.count = is_good ? static_cast<int>(end - begin) : 0;
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
    four_at(to.q[token], lane) = times(q, of_q);
    four_at(to.k[token], lane) = times(k, of_k);
    if (lane == 0) to.kq[token] = x.qk * of_q * of_k;
}

// ---------------------------------------------------------------- decay and b

// log2 of the decays of four channels.
__device__ __forceinline__ float4 decays_of(const fkdai_decode_call &p, const float4 &g, const float4 &bias, float A_log) {
    const float rate = p.A_log.data == nullptr ? 1.f : rate_of(A_log);
    return log2_decays(static_cast<DecayForm>(p.gate), g, bias, rate, p.lower_bound);
}

template <class Config>
__device__ __forceinline__ void make_decay_and_beta(const fkdai_decode_call &p, const float4 &log2_a, float beta, int token, int lane,
                                                    Tokens<Config> &to) {
    float4 decay = coded_decays(log2_a);
    if constexpr (Config::kIsChunk) decay = make_float4(plain_decay(decay.x), plain_decay(decay.y), plain_decay(decay.z), plain_decay(decay.w));
    four_at(to.decay[token], lane) = decay;
    if (lane == 0) to.beta[token] = p.beta_multiplier * (p.is_beta_activated ? beta : sigmoid(beta));
}

__device__ __forceinline__ float4 sum(const float4 &x, const float4 &y) { return make_float4(x.x + y.x, x.y + y.y, x.z + y.z, x.w + y.w); }

// ---------------------------------------------------------------- who brings what

// Of one thread. Even warps make q^ and k^, odd ones the decay and b: the first two of token 0, and so on; v is spread over all threads.
template <class Config>
struct TokenReader {
    static constexpr Inputs kInputs = Config::kInputs;
    static constexpr int kPairs = Config::kWarps / 2;
    static constexpr int kItems = (Config::kTokens + kPairs - 1) / kPairs;
    static constexpr int kCopies = Config::kIsPersistent ? 1 : kItems;    // of the code for an item: what blocks that stay run should fit the instruction cache
    static constexpr int kValueStep = Config::kThreads / Config::kBlockRows, kValues = (Config::kTokens + kValueStep - 1) / kValueStep;

    Line<kInputs> first, second, beta, v;  // of the first token of this thread: q and k, or g; all warps ask for k and beta, for want of predicates
    const uint8_t *bias, *A_log;
    bool is_gate, has_bias, has_A_log;
    int pair;                              // that token, but for v
    Words<kInputs> first_words[kItems], second_words[kItems];
    uint4 bias_words;
    uint32_t A_log_word, beta_word[kItems], v_word[kValues];

    // The first threads that have a value are those that the fewest items keep busy.
    __device__ __forceinline__ static unsigned value_thread() { return unsigned_thread() ^ Config::kThreads / 2; }
    __device__ __forceinline__ static int value_row() { return static_cast<int>(value_thread() % Config::kBlockRows); }
    __device__ __forceinline__ static int value_token(int i) { return static_cast<int>(value_thread() / Config::kBlockRows) + i * kValueStep; }

    // Of which token is item i? Only the first can be one where there is room for one.
    __device__ __forceinline__ int token_of(int i) const { return pair + i * kPairs; }

    // Of registers, also where loops are not unrolled.
    template <class T>
    __device__ __forceinline__ static T item(const T (&x)[kItems], int i) {
        T y = x[0];
#pragma unroll
        for (int j = 1; j < kItems; j++)
            if (i == j) y = x[j];
        return y;
    }

    // Where all of it lies, but for where a packed sequence begins. Reads nothing.
    __device__ __forceinline__ void place(const fkdai_decode_call &p, const Job &job) {
        const int warp = static_cast<int>(unsigned_thread() / 32), channel = static_cast<int>(unsigned_thread() % 32 * 4);
        const int h = static_cast<int>(divide(static_cast<uint32_t>(job.hv), p.by_group));
        is_gate = warp % 2 != 0, pair = warp / 2;
        first = line_of<kInputs>(p, is_gate ? p.g : p.q, job, is_gate ? job.hv : h, channel);
        second = line_of<kInputs>(p, p.k, job, h, channel);
        beta = line_of<kInputs>(p, p.beta, job, job.hv, 0);
        v = line_of<kInputs>(p, p.v, job, job.hv, job.first_row + value_row());
        if constexpr (Config::kTokens > 1) first.skip(pair), second.skip(pair), beta.skip(pair), v.skip(value_token(0));
        const int bias_bytes = parameter_is_f32<kInputs>(p.dt_bias.is_f32) ? 4 : 2, A_log_bytes = parameter_is_f32<kInputs>(p.A_log.is_f32) ? 4 : 2;
        bias = static_cast<const uint8_t *>(p.dt_bias.data) + product<Inputs::BF16>(job.hv, kWidth * bias_bytes) + channel * bias_bytes;
        A_log = static_cast<const uint8_t *>(p.A_log.data) + product<Inputs::BF16>(job.hv, A_log_bytes);
        has_bias = is_gate && p.dt_bias.data != nullptr, has_A_log = is_gate && p.A_log.data != nullptr;
    }

    __device__ __forceinline__ void go_to(int64_t begin) { first.skip(begin), second.skip(begin), beta.skip(begin), v.skip(begin); }

    __device__ __forceinline__ void request(const fkdai_decode_call &p, const Job &job) {
#pragma unroll
        for (int i = 0; i < kItems; i++) {
            const bool is_wanted = Config::kTokens == 1 ? pair == 0 : token_of(i) < job.count;
            first_words[i].request(first.of(i * kPairs), is_wanted, first.is_f32);
            second_words[i].request(second.of(i * kPairs), is_wanted, second.is_f32);
            beta_word[i] = request_4_or_2(beta.of(i * kPairs), is_wanted, beta.is_f32);
        }
        bias_words = request_16_or_8(bias, has_bias, parameter_is_f32<kInputs>(p.dt_bias.is_f32));
        A_log_word = request_4_or_2(A_log, has_A_log, parameter_is_f32<kInputs>(p.A_log.is_f32));
#pragma unroll
        for (int i = 0; i < kValues; i++) v_word[i] = request_4_or_2(v.of(i * kValueStep), value_token(i) < job.count, v.is_f32);
    }

    __device__ __forceinline__ void finish(const fkdai_decode_call &p, const Job &job, Tokens<Config> &to) const {
        const int lane = static_cast<int>(unsigned_thread() % 32);
        if (is_gate) {
            float4 log2_sum = make_float4(0.f, 0.f, 0.f, 0.f);
            const Words<Inputs::ANY> words{bias_words};
            const float4 bias_of = words.floats(parameter_is_f32<kInputs>(p.dt_bias.is_f32));
            const float A_log_of = float_of(A_log_word, parameter_is_f32<kInputs>(p.A_log.is_f32));
#pragma unroll kCopies
            for (int i = 0; i < kItems; i++) {
                const int token = token_of(i);
                if (token >= job.count) break;
                const float4 log2_a = decays_of(p, item(first_words, i).floats(first.is_f32), bias_of, A_log_of);
                make_decay_and_beta(p, log2_a, float_of(item(beta_word, i), beta.is_f32), token, lane, to);
                log2_sum = sum(log2_sum, log2_a);
            }
            if constexpr (Config::kIsChunk) four_at(to.log2_kept[pair], lane) = log2_sum;
        } else {
#pragma unroll kCopies
            for (int i = 0; i < kItems; i++) {
                const int token = token_of(i);
                if (token >= job.count) break;
                make_query_and_key(p, item(first_words, i).floats(first.is_f32), item(second_words, i).floats(second.is_f32), token, lane, to);
            }
        }
#pragma unroll
        for (int i = 0; i < kValues; i++)
            if (value_token(i) < job.count) to.v[value_token(i)][value_row()] = float_of(v_word[i], v.is_f32);
    }
};

}  // namespace fkdai::decode

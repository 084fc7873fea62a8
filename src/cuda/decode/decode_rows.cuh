// Rows of the state in registers: from memory, through tokens, and back.
//
// kLanes lanes share kRows neighbouring rows, and each has kFours fours of channels of every one of them:
//
//     x = S[row] a;   t = <x, k^>;   u = <x, q^>;   d = b (v - t);   o = u + d <k^, q^>;   S[row] = x + d k^
//
// t and u are summed over the lanes together; the sum of a row is always that of 32 partial sums of four channels, in one order, so that its bits
// do not depend on the shape.
#pragma once

#include "decode/decode_tokens.cuh"

namespace fkdai::decode {

// Four neighbouring elements of a state in memory.
template <Stored stored>
struct Four;
template <>
struct Four<Stored::F32> {
    using Type = float4;
    static constexpr int kBytes = 16;
    __device__ __forceinline__ static float4 widen(const float4 &x) { return x; }
    __device__ __forceinline__ static float4 narrow(const float4 &x) { return x; }
    __device__ __forceinline__ static float4 zero() { return make_float4(0.f, 0.f, 0.f, 0.f); }
};
template <>
struct Four<Stored::BF16> {
    using Type = uint2;
    static constexpr int kBytes = 8;
    __device__ __forceinline__ static float4 widen(const uint2 &x) {
        return make_float4(low_bf16(x.x), high_bf16(x.x), low_bf16(x.y), high_bf16(x.y));
    }
    __device__ __forceinline__ static uint2 narrow(const float4 &x) { return make_uint2(pack_bf16(x.x, x.y), pack_bf16(x.z, x.w)); }
    __device__ __forceinline__ static uint2 zero() { return make_uint2(0, 0); }
};

// Sums x[r] over kLanes lanes; afterwards a lane has that of row lane / (kLanes / kRows). Every step with more than one row left sends away half
// of them and keeps the other.
template <class Config>
__device__ __forceinline__ float sum_rows(float (&x)[Config::kRows], int lane) {
    int rows = Config::kRows;
#pragma unroll
    for (int d = Config::kLanes / 2; d > 0; d /= 2) {
        const bool is_high = (lane & d) != 0;
        const int half = rows / 2;
        if (rows == 1) x[0] += __shfl_xor_sync(~0u, x[0], d);
#pragma unroll
        for (int i = 0; i < half; i++) {
            const float away = is_high ? x[i] : x[i + half], kept = is_high ? x[i + half] : x[i];
            x[i] = kept + __shfl_xor_sync(~0u, away, d);
        }
        rows = rows > 1 ? half : 1;
    }
    return x[0];
}

template <class Config>
struct Rows {
    static constexpr int kRows = Config::kRows, kFours = Config::kFours, kLanesOfRow = Config::kLanes / kRows;
    using Stored4 = Four<Config::kStored>;
    using Raw = typename Stored4::Type;

    uint8_t *base;                       // the matrix in memory; null: no state, which is not written
    int lane, row;                       // inside the group of lanes; the group's first row
    Raw raw[kRows][kFours];              // [K,V]: [channel of the four][four], of kRows rows each
    float s[kRows][kFours][4];

    // Where raw[i][j] lies, in elements of the matrix.
    __device__ __forceinline__ int place(int i, int j) const {
        const int channel = Config::channel(lane, j);
        return Config::kAxes == Axes::VK ? (row + i) * kWidth + channel : (channel + i) * kWidth + row;
    }
    __device__ __forceinline__ Raw *at(int i, int j) const { return reinterpret_cast<Raw *>(base + place(i, j) / 4 * Stored4::kBytes); }

    // The state's row in memory, or -1.
    __device__ __forceinline__ static int64_t row_of(const fkdai_decode_call &p, const IndexWords &slot, const Job &job) {
        if (p.slots.data == nullptr) return job.n;
        const int64_t index = index_of(slot, p.slots.is_i64);
        const bool is_null = index < p.first_slot, is_slot = static_cast<uint64_t>(index) < static_cast<uint64_t>(p.slot_count);
        if (!is_null && !is_slot && thread_here() == 0) report(p.device_status, FKDAI_DECODE_SLOT_BROKEN);
        return is_null || !is_slot ? -1 : index;
    }

    __device__ __forceinline__ void request(const fkdai_decode_call &p, const Job &job, const IndexWords &slot, uint8_t mask) {
        const int thread = thread_here();
        const int64_t index = row_of(p, slot, job);
        lane = thread % Config::kLanes, row = job.first_row + thread / Config::kLanes * kRows;
        const int64_t first = index * p.row_stride + static_cast<int64_t>(job.hv) * (kWidth * kWidth);
        base = index < 0 ? nullptr : static_cast<uint8_t *>(p.state) + first / 4 * Stored4::kBytes;
#pragma unroll
        for (int i = 0; i < kRows; i++)
#pragma unroll
            for (int j = 0; j < kFours; j++) raw[i][j] = Stored4::zero();
        if (base == nullptr || mask == 0) return;
        load();
    }

    __device__ __forceinline__ void load() {
        constexpr bool kPairs = Config::kStored == Stored::BF16 && Config::kAxes == Axes::VK && kFours == 2;
#pragma unroll
        for (int i = 0; i < kRows; i++) {
            if constexpr (kPairs) {
                const uint4 pair = *reinterpret_cast<const uint4 *>(at(i, 0));
                raw[i][0] = make_uint2(pair.x, pair.y), raw[i][1] = make_uint2(pair.z, pair.w);
            } else {
#pragma unroll
                for (int j = 0; j < kFours; j++) raw[i][j] = *at(i, j);
            }
        }
    }

    __device__ __forceinline__ void widen() {
#pragma unroll
        for (int i = 0; i < kRows; i++)
#pragma unroll
            for (int j = 0; j < kFours; j++) {
                const float4 x = Stored4::widen(raw[i][j]);
                if constexpr (Config::kAxes == Axes::VK) s[i][j][0] = x.x, s[i][j][1] = x.y, s[i][j][2] = x.z, s[i][j][3] = x.w;
                else s[0][j][i] = x.x, s[1][j][i] = x.y, s[2][j][i] = x.z, s[3][j][i] = x.w;
            }
    }

    __device__ __forceinline__ Raw narrowed(int i, int j) const {
        if constexpr (Config::kAxes == Axes::VK) return Stored4::narrow(make_float4(s[i][j][0], s[i][j][1], s[i][j][2], s[i][j][3]));
        else return Stored4::narrow(make_float4(s[0][j][i], s[1][j][i], s[2][j][i], s[3][j][i]));
    }

    __device__ __forceinline__ void store() const {
        constexpr bool kPairs = Config::kStored == Stored::BF16 && Config::kAxes == Axes::VK && kFours == 2;
        if (base == nullptr) return;
#pragma unroll
        for (int i = 0; i < kRows; i++) {
            if constexpr (kPairs) {
                const uint2 low = narrowed(i, 0), high = narrowed(i, 1);
                *reinterpret_cast<uint4 *>(at(i, 0)) = make_uint4(low.x, low.y, high.x, high.y);
            } else {
#pragma unroll
                for (int j = 0; j < kFours; j++) *at(i, j) = narrowed(i, j);
            }
        }
    }

    // x = S a;  a lane's parts of t and u.
    __device__ __forceinline__ void decay_and_dot(const Tokens<Config> &of, int token, float (&t)[kRows], float (&u)[kRows]) {
#pragma unroll
        for (int j = 0; j < kFours; j++) {
            const int c = Config::channel(lane, j);
            const float4 a = *reinterpret_cast<const float4 *>(&of.decay[token][c]);
            const float4 k = *reinterpret_cast<const float4 *>(&of.k[token][c]), q = *reinterpret_cast<const float4 *>(&of.q[token][c]);
#pragma unroll
            for (int r = 0; r < kRows; r++) {
                float(&x)[4] = s[r][j];
                x[0] = decayed(x[0], a.x), x[1] = decayed(x[1], a.y), x[2] = decayed(x[2], a.z), x[3] = decayed(x[3], a.w);
                const float4 x4 = make_float4(x[0], x[1], x[2], x[3]);
                t[r] = j == 0 ? dot4(x4, k) : t[r] + dot4(x4, k);
                u[r] = j == 0 ? dot4(x4, q) : u[r] + dot4(x4, q);
            }
        }
    }

    // S = x + d k^, where `update` is d of the lane's own row.
    __device__ __forceinline__ void add(const Tokens<Config> &of, int token, float update) {
        float d[kRows];
#pragma unroll
        for (int r = 0; r < kRows; r++) d[r] = __shfl_sync(~0u, update, (thread_here() & 31 & ~(Config::kLanes - 1)) + r * kLanesOfRow);
#pragma unroll
        for (int j = 0; j < kFours; j++) {
            const float4 k = *reinterpret_cast<const float4 *>(&of.k[token][Config::channel(lane, j)]);
#pragma unroll
            for (int r = 0; r < kRows; r++) {
                float(&x)[4] = s[r][j];
                x[0] = fmaf(d[r], k.x, x[0]), x[1] = fmaf(d[r], k.y, x[1]), x[2] = fmaf(d[r], k.z, x[2]), x[3] = fmaf(d[r], k.w, x[3]);
            }
        }
    }

    // One token; out is written by the first of the lanes that know it.
    __device__ __forceinline__ void step(const fkdai_decode_call &p, const Job &job, const Tokens<Config> &of, int token) {
        float t[kRows], u[kRows];
        decay_and_dot(of, token, t, u);
        const float with_k = sum_rows<Config>(t, lane), with_q = sum_rows<Config>(u, lane);
        const int own = row + lane / kLanesOfRow;
        const float update = (of.v[token][own - job.first_row] - with_k) * of.beta[token];
        if (lane % kLanesOfRow == 0) store_one(p.out, offset_of(p.out, job, token, job.hv) + own, fmaf(update, of.kq[token], with_q));
        add(of, token, update);
    }
};

}  // namespace fkdai::decode

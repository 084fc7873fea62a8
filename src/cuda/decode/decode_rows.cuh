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

template <class Config>
struct Rows {
    static constexpr int kRows = Config::kRows, kFours = Config::kFours, kLanesOfRow = Config::kLanes / kRows;
    using Stored4 = Four<Config::kStored>;
    using Raw = typename Stored4::Type;

    uint8_t *base;                       // the matrix in memory; null: no state, which is not written
    int lane, row;                       // inside the group of lanes; the group's first row
    Raw raw[kRows][kFours];              // [K,V]: [channel of the four][four], of kRows rows each
    RowValues<Config> values;

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

    __device__ __forceinline__ void widen() { values.widen(raw); }

    __device__ __forceinline__ void store() const {
        constexpr bool kPairs = Config::kStored == Stored::BF16 && Config::kAxes == Axes::VK && kFours == 2;
        if (base == nullptr) return;
#pragma unroll
        for (int i = 0; i < kRows; i++) {
            if constexpr (kPairs) {
                const uint2 low = values.narrowed(i, 0), high = values.narrowed(i, 1);
                *reinterpret_cast<uint4 *>(at(i, 0)) = make_uint4(low.x, low.y, high.x, high.y);
            } else {
#pragma unroll
                for (int j = 0; j < kFours; j++) *at(i, j) = values.narrowed(i, j);
            }
        }
    }

    // One token; out is written by the first of the lanes that know it.
    __device__ __forceinline__ void step(const fkdai_decode_call &p, const Job &job, const Tokens<Config> &of, int token) {
        float t[kRows], u[kRows];
        values.decay_and_dot(of.decay[token], of.k[token], of.q[token], lane, t, u);
        const float with_k = sum_rows<Config>(t, lane), with_q = sum_rows<Config>(u, lane);
        const int own = row + lane / kLanesOfRow;
        const float update = (of.v[token][own - job.first_row] - with_k) * of.beta[token];
        if (lane % kLanesOfRow == 0) store_one(p.out, offset_of(p.out, job, token, job.hv) + own, fmaf(update, of.kq[token], with_q));
        values.add(of.k[token], lane, update);
    }
};

}  // namespace fkdai::decode

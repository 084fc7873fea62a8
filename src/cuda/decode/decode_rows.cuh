// Rows of the state in registers: from memory, through tokens, and back.
//
// kLanes lanes share kRows neighbouring rows, and each has kFours fours of channels of every one of them:
//
//     x = S[row] a;   t = <x, k^>;   u = <x, q^>;   d = b (v - t);   o = u + d <k^, q^>;   S[row] = x + d k^
//
// t and u are summed over the lanes together; the sum of a row is always that of 32 partial sums of four channels, in one order, so that its bits
// do not depend on the shape.
#pragma once

#include "decode/decode_states.cuh"

namespace fkdai::decode {

// Four neighbouring elements of a state in memory.
template <Stored stored>
struct Four;
template <>
struct Four<Stored::F32> {
    using Type = uint4;
    static constexpr int kBytes = 16;
    __device__ __forceinline__ static uint4 request(const uint8_t *at, bool is_wanted) { return request_16(at, is_wanted); }
    __device__ __forceinline__ static float4 widen(const uint4 &x) {
        return make_float4(__uint_as_float(x.x), __uint_as_float(x.y), __uint_as_float(x.z), __uint_as_float(x.w));
    }
    __device__ __forceinline__ static uint4 narrow(const float4 &x) {
        return make_uint4(__float_as_uint(x.x), __float_as_uint(x.y), __float_as_uint(x.z), __float_as_uint(x.w));
    }
};
template <>
struct Four<Stored::BF16> {
    using Type = uint2;
    static constexpr int kBytes = 8;
    __device__ __forceinline__ static uint2 request(const uint8_t *at, bool is_wanted) { return request_8(at, is_wanted); }
    __device__ __forceinline__ static float4 widen(const uint2 &x) {
        return make_float4(low_bf16(x.x), high_bf16(x.x), low_bf16(x.y), high_bf16(x.y));
    }
    __device__ __forceinline__ static uint2 narrow(const float4 &x) { return make_uint2(pack_bf16(x.x, x.y), pack_bf16(x.z, x.w)); }
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
    template <Stored stored>
    using Raw = typename Four<stored>::Type;
    template <Stored stored>
    static constexpr bool kMovesPairs = Config::kPairsTouch && stored == Stored::BF16;

    int lane, row;                 // inside the group of lanes; the group's first row
    int hv;
    Raw<Config::kStored> raw[kRows][kFours];    // [K,V]: [channel of the four][four], of kRows rows each
    float s[kRows][kFours][4];

    __device__ __forceinline__ void place(const Job &job) {
        lane = static_cast<int>(unsigned_thread() % Config::kLanes), hv = job.hv;
        row = job.first_row + static_cast<int>(unsigned_thread() / Config::kLanes) * kRows;
    }

    // ---------------------------------------------------------------- where they lie

    // The lane's first element in the matrix of row 0 of states, and in another row's. All others of the matrix are as far from there as offset() says.
    template <Stored stored>
    __device__ __forceinline__ uint8_t *own_in(void *states) const {
        const int first = Config::kAxes == Axes::VK ? row * kWidth + Config::channel(lane, 0) : Config::channel(lane, 0) * kWidth + row;
        return static_cast<uint8_t *>(states) + (static_cast<int64_t>(hv) * (kWidth * kWidth) + first) * (Four<stored>::kBytes / 4);
    }
    template <Stored stored>
    __device__ __forceinline__ static uint8_t *in_row(uint8_t *own, int64_t row_stride, uint64_t row_of_states) {
        return own + row_of_states * (static_cast<uint64_t>(row_stride) * (Four<stored>::kBytes / 4));
    }
    template <Stored stored>
    __device__ __forceinline__ static constexpr int offset(int i, int j) {
        return (Config::kAxes == Axes::VK ? i * kWidth + Config::channel_of(j) : (Config::channel_of(j) + i) * kWidth) * (Four<stored>::kBytes / 4);
    }

    // ---------------------------------------------------------------- from memory and back

    __device__ __forceinline__ void request(const uint8_t *own, bool is_wanted) {
        constexpr Stored kStored = Config::kStored;
#pragma unroll
        for (int i = 0; i < kRows; i++) {
            if constexpr (kMovesPairs<kStored>) {
#pragma unroll
                for (int j = 0; j < kFours; j += 2) {
                    const uint4 pair = request_16(own + offset<kStored>(i, j), is_wanted);
                    raw[i][j] = make_uint2(pair.x, pair.y), raw[i][j + 1] = make_uint2(pair.z, pair.w);
                }
            } else {
#pragma unroll
                for (int j = 0; j < kFours; j++) raw[i][j] = Four<kStored>::request(own + offset<kStored>(i, j), is_wanted);
            }
        }
    }

    __device__ __forceinline__ void take(int i, int j, const float4 &x) {
        if constexpr (Config::kAxes == Axes::VK) s[i][j][0] = x.x, s[i][j][1] = x.y, s[i][j][2] = x.z, s[i][j][3] = x.w;
        else s[0][j][i] = x.x, s[1][j][i] = x.y, s[2][j][i] = x.z, s[3][j][i] = x.w;
    }
    __device__ __forceinline__ float4 given(int i, int j) const {
        if constexpr (Config::kAxes == Axes::VK) return make_float4(s[i][j][0], s[i][j][1], s[i][j][2], s[i][j][3]);
        else return make_float4(s[0][j][i], s[1][j][i], s[2][j][i], s[3][j][i]);
    }

    __device__ __forceinline__ void widen() {
#pragma unroll
        for (int i = 0; i < kRows; i++)
#pragma unroll
            for (int j = 0; j < kFours; j++) take(i, j, Four<Config::kStored>::widen(raw[i][j]));
    }

    template <Stored stored>
    __device__ __forceinline__ void store(uint8_t *own) const {
#pragma unroll
        for (int i = 0; i < kRows; i++) {
            if constexpr (kMovesPairs<stored>) {
#pragma unroll
                for (int j = 0; j < kFours; j += 2) {
                    const uint2 low = Four<stored>::narrow(given(i, j)), high = Four<stored>::narrow(given(i, j + 1));
                    *reinterpret_cast<uint4 *>(own + offset<stored>(i, j)) = make_uint4(low.x, low.y, high.x, high.y);
                }
            } else {
#pragma unroll
                for (int j = 0; j < kFours; j++) *reinterpret_cast<Raw<stored> *>(own + offset<stored>(i, j)) = Four<stored>::narrow(given(i, j));
            }
        }
    }

    // What this thread has stored, or what was there before the call.
    template <Stored stored>
    __device__ __forceinline__ void load(const uint8_t *own) {
#pragma unroll
        for (int i = 0; i < kRows; i++)
#pragma unroll
            for (int j = 0; j < kFours; j++) take(i, j, Four<stored>::widen(*reinterpret_cast<const Raw<stored> *>(own + offset<stored>(i, j))));
    }
    __device__ __forceinline__ void clear() {
#pragma unroll
        for (int i = 0; i < kRows; i++)
#pragma unroll
            for (int j = 0; j < kFours; j++) take(i, j, make_float4(0.f, 0.f, 0.f, 0.f));
    }
    // As if stored and loaded again.
    template <Stored stored>
    __device__ __forceinline__ void round() {
#pragma unroll
        for (int i = 0; i < kRows; i++)
#pragma unroll
            for (int j = 0; j < kFours; j++) take(i, j, Four<stored>::widen(Four<stored>::narrow(given(i, j))));
    }

    // ---------------------------------------------------------------- one token

    // x = S a;  a lane's parts of t and u: pairs of fours are added first.
    __device__ __forceinline__ void decay_and_dot(const Tokens<Config> &of, int token, float (&t)[kRows], float (&u)[kRows]) {
        float t2[kRows], u2[kRows];
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
                const float with_k = dot4(x4, k), with_q = dot4(x4, q);
                if (j == 0) t[r] = with_k, u[r] = with_q;
                if (j == 1) t[r] += with_k, u[r] += with_q;
                if (j == 2) t2[r] = with_k, u2[r] = with_q;
                if (j == 3) t[r] += t2[r] + with_k, u[r] += u2[r] + with_q;
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

    // The row whose sums this lane ends up with.
    __device__ __forceinline__ int own_row() const { return row + lane / kLanesOfRow; }

    // Decays the state and writes out; returns d of own_row(), which add() wants. Of the lanes that know a row the first writes.
    __device__ __forceinline__ float step(const Tokens<Config> &of, int token, int value, uint8_t *out, int out_is_f32) {
        float t[kRows], u[kRows];
        decay_and_dot(of, token, t, u);
        const float with_k = sum_rows<Config>(t, lane), with_q = sum_rows<Config>(u, lane);
        const float update = (of.v[token][value] - with_k) * of.beta[token];
        if (out != nullptr && lane % kLanesOfRow == 0) store_one(out, out_is_f32, fmaf(update, of.kq[token], with_q));
        return update;
    }
};

}  // namespace fkdai::decode

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

template <class Type>
__device__ __forceinline__ Type request_part(const uint8_t *at, bool is_wanted) {
    if constexpr (std::is_same_v<Type, uint32_t>) return request_word(at, is_wanted);
    else if constexpr (std::is_same_v<Type, uint2>) return request_8(at, is_wanted);
    else if constexpr (std::is_same_v<Type, float4>) return floats_of(request_16(at, is_wanted), 1);
    else {
        const uint2 x = request_8(at, is_wanted);
        return make_float2(__uint_as_float(x.x), __uint_as_float(x.y));
    }
}

// is_whole: the compiler is not to take it apart, as it does where there is no loop.
template <bool is_whole, class Type>
__device__ __forceinline__ void store_part(uint8_t *at, const Type &x) {
    if constexpr (is_whole && std::is_same_v<Type, float4>)
        store_16(at, make_uint4(__float_as_uint(x.x), __float_as_uint(x.y), __float_as_uint(x.z), __float_as_uint(x.w)), true);
    else *reinterpret_cast<Type *>(at) = x;
}

template <class Config>
struct Rows {
    static constexpr int kRows = Config::kRows, kFours = Config::kFours, kLanesOfRow = Config::kLanes / kRows, kParts = RowValues<Config>::kParts;
    template <Stored stored>
    using Part = typename RowValues<Config>::template Part<stored>;
    template <Stored stored>
    using Raw = typename Part<stored>::Type;
    template <Stored stored>
    static constexpr bool kMovesPairs = Config::kPairsTouch && stored == Stored::BF16;

    int lane, row;                 // inside the group of lanes; the group's first row
    int hv;
    Raw<Config::kStored> raw[kParts][kFours];    // [K,V]: [channel of the four][four], of kRows rows each
    RowValues<Config> values;

    __device__ __forceinline__ void place(const Job &job, unsigned thread = unsigned_thread()) {
        lane = static_cast<int>(thread % Config::kLanes), hv = job.hv;
        row = job.first_row + static_cast<int>(thread / Config::kLanes) * kRows;
    }

    // ---------------------------------------------------------------- where they lie

    // The lane's first element in the matrix of row 0 of states, and in another row's. All others of the matrix are as far from there as offset()
    // says.
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

    // Every line of [V,K] rows that the group has, a lane each. own: where the lane's part begins.
    __device__ __forceinline__ void prefetch(const uint8_t *own) const {
        constexpr int kBytes = Four<Config::kStored>::kBytes / 4, kLines = kRows * kWidth * kBytes / 128;
        const uint8_t *const first = own - Config::channel(lane, 0) * kBytes;
#pragma unroll
        for (int i = 0; i < kLines; i += Config::kLanes)
            if (Config::kAxes == Axes::VK && i + lane < kLines) prefetch_line(first + (i + lane) * 128);
    }

    __device__ __forceinline__ void request(const uint8_t *own, bool is_wanted) {
        constexpr Stored kStored = Config::kStored;
#pragma unroll
        for (int i = 0; i < kParts; i++) {
            if constexpr (kMovesPairs<kStored>) {
#pragma unroll
                for (int j = 0; j < kFours; j += 2) {
                    const uint4 pair = request_16(own + offset<kStored>(i, j), is_wanted);
                    raw[i][j] = make_uint2(pair.x, pair.y), raw[i][j + 1] = make_uint2(pair.z, pair.w);
                }
            } else {
#pragma unroll
                for (int j = 0; j < kFours; j++) raw[i][j] = request_part<Raw<kStored>>(own + offset<kStored>(i, j), is_wanted);
            }
        }
    }

    __device__ __forceinline__ void widen() { values.widen(raw); }

    template <Stored stored>
    __device__ __forceinline__ void store(uint8_t *own) const {
#pragma unroll
        for (int i = 0; i < kParts; i++) {
            if constexpr (kMovesPairs<stored>) {
#pragma unroll
                for (int j = 0; j < kFours; j += 2) {
                    const uint2 low = Part<stored>::narrow(values.given(i, j)), high = Part<stored>::narrow(values.given(i, j + 1));
                    *reinterpret_cast<uint4 *>(own + offset<stored>(i, j)) = make_uint4(low.x, low.y, high.x, high.y);
                }
            } else {
#pragma unroll
                for (int j = 0; j < kFours; j++) store_part<Config::kIsOne>(own + offset<stored>(i, j), Part<stored>::narrow(values.given(i, j)));
            }
        }
    }

    // What this thread has stored, or what was there before the call.
    template <Stored stored>
    __device__ __forceinline__ void load(const uint8_t *own) {
#pragma unroll
        for (int i = 0; i < kParts; i++)
#pragma unroll
            for (int j = 0; j < kFours; j++) values.take(i, j, Part<stored>::widen(*reinterpret_cast<const Raw<stored> *>(own + offset<stored>(i, j))));
    }
    __device__ __forceinline__ void clear() {
#pragma unroll
        for (int i = 0; i < kParts; i++)
#pragma unroll
            for (int j = 0; j < kFours; j++) values.take(i, j, make_float4(0.f, 0.f, 0.f, 0.f));
    }
    // As if stored and loaded again.
    template <Stored stored>
    __device__ __forceinline__ void round() {
#pragma unroll
        for (int i = 0; i < kParts; i++)
#pragma unroll
            for (int j = 0; j < kFours; j++) values.take(i, j, Part<stored>::widen(Part<stored>::narrow(values.given(i, j))));
    }

    // ---------------------------------------------------------------- one token

    // The row whose sums this lane ends up with; of CHUNK the first of them.
    __device__ __forceinline__ int own_row() const { return Config::kIsChunk ? row : row + lane / kLanesOfRow; }

    // Decays the state and writes out; returns d of own_row(), which values.add() wants. Of the lanes that know a row the first writes.
    __device__ __forceinline__ float step(const Tokens<Config> &of, int token, int value, uint8_t *out, int out_is_f32) {
        float t[kRows], u[kRows];
        values.decay_and_dot(of.decay[token], of.k[token], of.q[token], lane, t, u);
        const float with_k = sum_rows<Config>(t, lane), with_q = sum_rows<Config>(u, lane);
        const float update = (of.v[token][value] - with_k) * of.beta[token];
        if (out != nullptr && lane % kLanesOfRow == 0) store_float(out, 0, out_is_f32, fmaf(update, of.kq[token], with_q));
        return update;
    }
};

}  // namespace fkdai::decode

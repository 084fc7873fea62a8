// From the caller's memory to registers in two steps, so that requests of one thread can be in flight together: words as they lie, then numbers.
#pragma once

#include "decode/decode_config.cuh"
#include "device/fours.cuh"

namespace fkdai::decode {

__device__ __forceinline__ IndexWords index_words(const fkdai_decode_indices &x, int64_t i) { return fkdai::index_words(x.data, x.is_i64, i); }

__device__ __forceinline__ int64_t offset_of(const fkdai_decode_tensor &x, const Job &job, int token, int head) {
    return job.batch * x.batch + (job.begin + token) * x.token + head * x.head;
}

__device__ __forceinline__ void store_one(const fkdai_decode_tensor &x, int64_t at, float value) { store_float(x.data, at, x.is_f32, value); }

}  // namespace fkdai::decode

// Host stand-in for src/cuda/device/requests.cuh.
#pragma once
#include "emulator.h"

namespace fkdai {

template <class T>
T emulated_request(const void *at, bool is_wanted) {
    T x{};
    if (is_wanted) memcpy(&x, at, sizeof x);
    return x;
}
inline uint32_t request_word(const void *at, bool is_wanted, uint32_t otherwise = 0) { return is_wanted ? emulated_request<uint32_t>(at, true) : otherwise; }
// Half of what is read early is not what is there later.
inline uint32_t request_early_word(const void *at, bool is_wanted, uint32_t otherwise = 0) {
    static uint32_t noise = 1;
    noise = noise * 1664525u + 1013904223u;
    const uint32_t x = request_word(at, is_wanted, otherwise);
    return !is_wanted || noise >> 31 ? x : noise >> 30 ? x + 1 : noise;
}
inline void prefetch_line(const void *) {}
inline uint32_t request_byte(const void *at, bool is_wanted, uint32_t otherwise) { return is_wanted ? emulated_request<uint8_t>(at, true) : otherwise; }
inline uint2 request_8(const void *at, bool is_wanted) { return emulated_request<uint2>(at, is_wanted); }
inline uint4 request_16(const void *at, bool is_wanted) { return emulated_request<uint4>(at, is_wanted); }
inline uint4 request_16_or_8(const void *at, bool is_wanted, bool is_16) {
    if (is_16) return request_16(at, is_wanted);
    const uint2 half = request_8(at, is_wanted);
    return make_uint4(half.x, half.y, 0, 0);
}
inline uint32_t request_4_or_2(const void *at, bool is_wanted, bool is_4) { return is_4 ? request_word(at, is_wanted) : emulated_request<uint16_t>(at, is_wanted); }
inline void store_16(void *at, const uint4 &x, bool is_wanted) { if (is_wanted) memcpy(at, &x, sizeof x); }
inline uint32_t zero_of_thread() { return 0; }

}  // namespace fkdai

// A block's shared memory, and its 32-bit address: computed once and kept, since the compiler would otherwise derive it anew, from a special
// register, at every use.
#pragma once

#include <cstdint>

namespace fkdai {

template <class Smem>
struct SharedView {
    Smem *memory;
    uint32_t base;
    __device__ __forceinline__ Smem *operator->() const { return memory; }
    // As one of what it is derived from.
    template <class Base>
    __device__ __forceinline__ operator SharedView<Base>() const { return {memory, base}; }
    template <class T>
    __device__ __forceinline__ uint32_t at(const T &member) const {
        return base + static_cast<uint32_t>(reinterpret_cast<const uint8_t *>(&member) - reinterpret_cast<const uint8_t *>(memory));
    }
};

}  // namespace fkdai

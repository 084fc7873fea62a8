// Host stand-in for src/cuda/device/bulk_copy.cuh.
#pragma once
#include <array>

#include "emulator.h"

namespace fkdai {

inline void deliver(uint32_t barrier, uint32_t bytes) {
    emulator::Mbarrier &b = emulator::mbarrier(barrier);
    b.deliver(bytes);
    b.settle();
}
inline uint32_t swizzle_128(uint32_t address) { return address ^ (address >> 3 & 0x70); }

inline void load_tile(uint32_t destination, const CUtensorMap &map, int channel, int head, int token, int batch, uint32_t barrier) {
    emulator::TensorMap m;
    memcpy(&m, &map, sizeof m);
    emulator::copy_later([=] {
        for (int t = 0; t < m.box_tokens; t++)
            for (int c = 0; c < m.box_channels; c++) {
                const bool inside = token + t < m.tokens && head < m.heads && batch < m.batches;
                const uint16_t x = inside ? m.data[batch * m.batch + (token + t) * m.token + head * m.head + channel + c] : uint16_t{0};
                memcpy(emulator::shared_pointer(swizzle_128(destination + static_cast<uint32_t>(t * 128 + c * 2))), &x, 2);
            }
        deliver(barrier, static_cast<uint32_t>(m.box_tokens * m.box_channels * 2));
    });
}
inline void prefetch_map(const CUtensorMap &) {}
inline void prefetch_tile(const CUtensorMap &, int, int, int, int) {}
inline bool elect_one() { return emulator::self().lane() == 0; }
inline void copy_to_peer(uint32_t destination, uint32_t source, uint32_t bytes, uint32_t barrier) {
    emulator::copy_later([=] {
        memcpy(emulator::shared_pointer(destination), emulator::shared_pointer(source), bytes);
        deliver(barrier, bytes);
    });
}
inline void store_16_to_peer(uint32_t address, const uint32_t (&x)[4], uint32_t barrier) {
    const std::array<uint32_t, 4> words{x[0], x[1], x[2], x[3]};
    emulator::copy_later([=] {
        memcpy(emulator::shared_pointer(address), words.data(), sizeof words);
        deliver(barrier, sizeof words);
    });
}
inline void store_word_to_peer(uint32_t address, uint32_t x, uint32_t barrier) {
    emulator::copy_later([=] {
        memcpy(emulator::shared_pointer(address), &x, sizeof x);
        deliver(barrier, sizeof x);
    });
}
inline void store_tile(const CUtensorMap &map, int channel, int head, int token, int batch, uint32_t source) {
    emulator::TensorMap m;
    memcpy(&m, &map, sizeof m);
    emulator::self().stores_in_flight++;
    emulator::copy_later([=] {
        for (int t = 0; t < m.box_tokens && token + t < m.tokens; t++)
            for (int c = 0; c < m.box_channels; c++) {
                const uint32_t at = source + static_cast<uint32_t>((t * m.box_channels + c) * 2);  // rows of 32 bytes
                auto *const to = const_cast<uint16_t *>(m.data) + batch * m.batch + (token + t) * m.token + head * m.head + channel + c;
                memcpy(to, emulator::shared_pointer(at ^ (at >> 3 & 0x10)), 2);
            }
        emulator::self().stores_in_flight--;
    });
}
inline void bulk_commit() {}
inline void bulk_wait_read() {
    emulator::Thread &t = emulator::self();
    emulator::block_until([&t] { return t.stores_in_flight == 0; });
}
inline void store_bytes(void *destination, uint32_t source, uint32_t bytes) {
    if ((reinterpret_cast<uintptr_t>(destination) | source | bytes) % 16 != 0) abort();  // as the copy engine would
    emulator::self().stores_in_flight++;
    emulator::copy_later([=] {
        memcpy(destination, emulator::shared_pointer(source), bytes);
        emulator::self().stores_in_flight--;
    });
}
inline void bulk_wait() { bulk_wait_read(); }
inline void load_bytes_in_each(uint32_t destination, const void *source, uint32_t bytes, uint32_t barrier, uint16_t ranks) {
    for (uint32_t rank = 0; rank < 16; rank++)
        if (ranks >> rank & 1)
            emulator::copy_later([=] {
                memcpy(emulator::shared_pointer((destination & emulator::kInBlock) | rank << emulator::kRankShift), source, bytes);
                deliver((barrier & emulator::kInBlock) | rank << emulator::kRankShift, bytes);
            });
}
inline void prefetch_l2(const void *, uint32_t) {}
inline void prefetch_l1(const void *) {}

}  // namespace fkdai

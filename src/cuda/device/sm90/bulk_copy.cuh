// The copy engine: tensor tiles from global memory, and blocks from our shared memory into a peer's.
//
// One thread issues; completion is counted in bytes on an mbarrier (`arrive_expecting`).
#pragma once

#include <cuda.h>

#include <cstdint>

namespace fkdai {

// True in one lane of a whole warp, always the same. The compiler knows that it is one: copies issued under it are single
// instructions, while under a comparison of the lane each becomes a loop over possible lanes.
__device__ __forceinline__ bool elect_one() {
    uint32_t is_elected;
    asm volatile("{\n.reg .pred p;\nelect.sync _|p, 0xffffffff;\nselp.u32 %0, 1, 0, p;\n}" : "=r"(is_elected));
    return is_elected != 0;
}

// The copy engine reads a tensor map before its first use of it.
__device__ __forceinline__ void prefetch_map(const CUtensorMap &map) {
    asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory");
}

// Box of a 4-D tensor map (channel, head, token, batch) -> shared memory. Tokens past the tensor read as zero.
__device__ __forceinline__ void load_tile(uint32_t destination, const CUtensorMap &map, int channel, int head,
                                          int token, int batch, uint32_t barrier) {
    asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%2, %3, %4, %5}], [%6];"
                 ::"r"(destination), "l"(&map), "r"(channel), "r"(head), "r"(token), "r"(batch), "r"(barrier)
                 : "memory");
}

// Such a box into L2.
__device__ __forceinline__ void prefetch_tile(const CUtensorMap &map, int channel, int head, int token, int batch) {
    asm volatile("cp.async.bulk.prefetch.tensor.4d.L2.global.tile [%0, {%1, %2, %3, %4}];"
                 ::"l"(&map), "r"(channel), "r"(head), "r"(token), "r"(batch) : "memory");
}

// Our shared memory -> a peer CTA's; `destination` and `barrier` are addresses in the same peer.
__device__ __forceinline__ void copy_to_peer(uint32_t destination, uint32_t source, uint32_t bytes,
                                             uint32_t barrier) {
    asm volatile("cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];"
                 ::"r"(destination), "r"(source), "r"(bytes), "r"(barrier) : "memory");
}

// Of this thread, into the shared memory of another CTA of the cluster; `barrier` there counts the bytes.
__device__ __forceinline__ void store_16_to_peer(uint32_t address, const uint32_t (&x)[4], uint32_t barrier) {
    asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 [%0], {%1, %2, %3, %4}, [%5];"
                 ::"r"(address), "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]), "r"(barrier) : "memory");
}
__device__ __forceinline__ void store_word_to_peer(uint32_t address, uint32_t x, uint32_t barrier) {
    asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.b32 [%0], %1, [%2];" ::"r"(address), "r"(x), "r"(barrier) : "memory");
}

// Shared memory -> box of a 4-D tensor map. The issuing thread commits, and waits until its copies have read shared memory before it is
// written again or the block ends.
__device__ __forceinline__ void store_tile(const CUtensorMap &map, int channel, int head, int token, int batch, uint32_t source) {
    asm volatile("cp.async.bulk.tensor.4d.global.shared::cta.tile.bulk_group [%0, {%1, %2, %3, %4}], [%5];"
                 ::"l"(&map), "r"(channel), "r"(head), "r"(token), "r"(batch), "r"(source) : "memory");
}
__device__ __forceinline__ void bulk_commit() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
__device__ __forceinline__ void bulk_wait_read() { asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory"); }

// Our shared memory -> global memory, whole. The issuing thread commits; once its `bulk_wait` is over, the copy engine may read there.
__device__ __forceinline__ void store_bytes(void *destination, uint32_t source, uint32_t bytes) {
    asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(destination), "r"(source), "r"(bytes) : "memory");
}
__device__ __forceinline__ void bulk_wait() {
    asm volatile("cp.async.bulk.wait_group 0;\n"
                 "fence.proxy.async.global;" ::: "memory");
}

// Global memory -> shared memory of the CTAs of the cluster whose bits `ranks` has: to the same place in each, counted on the same barrier of each.
__device__ __forceinline__ void load_bytes_in_each(uint32_t destination, const void *source, uint32_t bytes, uint32_t barrier, uint16_t ranks) {
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1], %2, [%3], %4;"
                 ::"r"(destination), "l"(source), "r"(bytes), "r"(barrier), "h"(ranks) : "memory");
}

// Asks L2 to fetch `bytes` (a multiple of 16) that will be read soon.
__device__ __forceinline__ void prefetch_l2(const void *source, uint32_t bytes) {
    asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(source), "r"(bytes) : "memory");
}

// Asks L1 for one line.
__device__ __forceinline__ void prefetch_l1(const void *source) { asm volatile("prefetch.global.L1 [%0];" ::"l"(source) : "memory"); }

}  // namespace fkdai

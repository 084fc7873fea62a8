// emulator.h: runs CUDA device code on the host, one fiber per thread, so that kernels can be tested without a GPU.
//
// The kernel's own sources are compiled by the host compiler; only the small headers of src/cuda/device that hold PTX
// are replaced (tests/emulator/device). Clusters, named barriers, mbarriers with byte counts, ldmatrix and stmatrix,
// wgmma through its real descriptors and swizzles, tensor-map loads and copies between CTAs are emulated; a state in
// which nobody can move is reported as a deadlock. Copies happen at once or, in shuffled orders, some time before
// somebody must have waited for them; products happen at issue. What the emulator cannot show is a missing fence, and
// speed.
#pragma once

#include <cuda.h>
#include <cuda_bf16.h>
#include <vector_functions.h>
#include <vector_types.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <vector>

#undef __launch_bounds__
#define __launch_bounds__(...)
#define __cluster_dims__(...)
#undef __grid_constant__
#define __grid_constant__
#undef __shared__
#define __shared__ static    // one block at a time
#undef __forceinline__
#define __forceinline__ inline

namespace emulator {

struct Index { unsigned x = 0, y = 0, z = 0; };

// Threads that meet: the last to arrive acts on what all brought, then all go on.
struct Meeting {
    unsigned arrived = 0, generation = 0;
    unsigned expected = 0;   // of a cluster: threads that have not ended
    void *brought[1024];
    void settle() { if (arrived == expected && expected > 0) arrived = 0, generation++; }
};

struct Mbarrier {
    int count = 0, pending = 0, bytes = 0;
    unsigned phase = 0;
    void settle() { if (pending == 0 && bytes == 0) phase ^= 1, pending = count; }
};

struct Block {
    std::vector<uint8_t> memory;             // shared
    uint8_t *base;                           // aligned to 1024
    std::map<uint32_t, Mbarrier> barriers;   // by address inside the block
    std::map<int, Meeting> meetings;         // warps, warpgroups, named barriers, all
    unsigned threads = 0;
};

struct Thread {
    Index thread, block;
    unsigned cluster_rank;
    std::vector<Block> *cluster;
    Meeting *cluster_meeting;
    Index grid;
    int stores_in_flight = 0;   // of the copy engine, from shared memory
    int warp() const { return static_cast<int>(thread.x / 32); }
    int lane() const { return static_cast<int>(thread.x % 32); }
    Block &own() const { return (*cluster)[cluster_rank]; }
};

Thread &self();
void block_until(std::function<bool()> ready);
void meet(Meeting &meeting, unsigned size, unsigned index, void *bring, const std::function<void(void **)> &last);
void meet_warp(void *bring, const std::function<void(void **)> &last);
void meet_warpgroup(void *bring, const std::function<void(void **)> &last);

// The copy engine: `copy` happens at any time from now on (at once when the order is not shuffled), as if by this thread.
void copy_later(std::function<void()> copy);

uint8_t *shared_pointer(uint32_t address);    // any block of the cluster: rank in the top byte
Mbarrier &mbarrier(uint32_t address);

// A warp whose lanes from the fifth on come late to everything: only once in kLate rounds of the scheduler. warp < 0: none.
struct Laggard { int rank = 0, warp = -1; };

// Runs `blocks` blocks of `threads` threads as clusters of `ranks`, one cluster after the other, in an order that `seed` shuffles.
// Returns false on a deadlock.
bool launch(unsigned blocks, unsigned ranks, unsigned threads, size_t shared_bytes, unsigned seed, const std::function<void()> &kernel,
            Laggard laggard = {});

// What a CUtensorMap stands for here: a bf16 tensor (channel, head, token, batch) and a box of `tokens` x `channels`.
struct TensorMap {
    const uint16_t *data;
    int64_t head, token, batch;   // strides
    int heads, tokens, batches;
    int box_tokens, box_channels;
};
static_assert(sizeof(TensorMap) <= sizeof(CUtensorMap));

}  // namespace emulator

#define threadIdx (::emulator::self().thread)
#define blockIdx (::emulator::self().block)
#define gridDim (::emulator::self().grid)

inline float __uint_as_float(uint32_t x) { float f; memcpy(&f, &x, 4); return f; }
inline uint32_t __float_as_uint(float x) { uint32_t u; memcpy(&u, &x, 4); return u; }
inline void __syncwarp() { ::emulator::meet_warp(nullptr, [](void **) {}); }
void __syncthreads();
int __syncthreads_or(int predicate);
inline unsigned atomicOr(unsigned *word, unsigned bits) { const unsigned before = *word; *word |= bits; return before; }
inline void __threadfence() {}
template <class T> T __ldcg(const T *p) { return *p; }

template <class T>
T emulated_shuffle(T value, int source) {
    struct Bring { T value; int source; T result; } bring{value, source, value};
    ::emulator::meet_warp(&bring, [](void **all) {
        for (int i = 0; i < 32; i++) {
            auto *b = static_cast<Bring *>(all[i]);
            b->result = static_cast<Bring *>(all[b->source])->value;
        }
    });
    return bring.result;
}
template <class T> T __shfl_sync(unsigned, T value, int source) { return emulated_shuffle(value, source); }
template <class T> T __shfl_xor_sync(unsigned, T value, int mask) { return emulated_shuffle(value, ::emulator::self().lane() ^ mask); }
template <class T> T __shfl_up_sync(unsigned, T value, int by) {
    const int lane = ::emulator::self().lane();
    return emulated_shuffle(value, lane >= by ? lane - by : lane);
}
inline int __any_sync(unsigned, int predicate) {
    struct Bring { int predicate, result; } bring{predicate, 0};
    ::emulator::meet_warp(&bring, [](void **all) {
        int any = 0;
        for (int i = 0; i < 32; i++) any |= static_cast<Bring *>(all[i])->predicate;
        for (int i = 0; i < 32; i++) static_cast<Bring *>(all[i])->result = any;
    });
    return bring.result;
}
template <class T> T max(T a, T b) { return a > b ? a : b; }
template <class T> T min(T a, T b) { return a < b ? a : b; }

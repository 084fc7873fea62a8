// emulator.h: runs CUDA device code on the host, one fiber per thread, so that kernels can be tested without a GPU and without a CUDA toolkit.
//
// The kernel's own sources are compiled by the host's C++ compiler; what a CUDA compiler adds to the language is in cuda/, and only the small
// headers of src/cuda/device that hold PTX are replaced (device/). Clusters, named barriers, mbarriers with byte counts, ldmatrix and stmatrix,
// wgmma through its real descriptors and swizzles, tensor-map loads and copies between CTAs are emulated; a state in which nobody can move is
// reported as a deadlock. Copies happen at once or, in shuffled orders, some time before somebody must have waited for them; products happen
// at issue. What the emulator cannot show is a missing fence, and speed.
#pragma once

#include <cuda.h>
#include <cuda_bf16.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

namespace emulator {

struct Index { unsigned x = 0, y = 0, z = 0; };
struct Thread;

extern uint64_t changes;    // of what conditions look at: phases of barriers, flags, copies

// Threads that meet: the last to arrive acts on what all brought, then all go on.
struct Meeting {
    explicit Meeting(unsigned threads) : expected(threads), brought(threads) { waiting.reserve(threads); }
    unsigned expected;
    std::vector<void *> brought;      // by each, in order
    std::vector<Thread *> waiting;    // who arrived before the last
    unsigned gone_on = 0;             // and did not wait
    bool is_last() const { return waiting.size() + gone_on + 1 == expected; }
};

// Of a cluster. Who has arrived goes on, and waits where it has to know that all have.
struct ClusterMeeting {
    unsigned expected;                // threads that have not ended
    unsigned arrived = 0;
    unsigned times = 0;               // that all have
    std::vector<Thread *> waiting{};
};

// As on the GPU it lies in the 8 bytes of shared memory that the kernel sets aside for it.
struct Mbarrier {
    int16_t count, pending;
    uint32_t bytes : 31;    // still to come, modulo 2^31: they may come before they are expected
    uint32_t phase : 1;
    void expect(uint32_t more) { bytes = (bytes + more) & 0x7fffffffu; }
    void deliver(uint32_t came) { bytes = (bytes - came) & 0x7fffffffu; }
    void settle() { if (pending == 0 && bytes == 0) phase ^= 1, pending = count, changes++; }
};
static_assert(sizeof(Mbarrier) == 8);

struct Block {
    Block(unsigned threads, size_t shared_bytes);
    std::unique_ptr<uint8_t, void (*)(void *)> memory;    // shared, aligned to 1024
    std::vector<Meeting> warps, warpgroups, named;        // named barriers: ids 0 ... 15 of 128 threads
    std::vector<Meeting> blocks;    // the same ids, of all threads
    Meeting all, any;               // any: of so many threads as say so
};

struct Thread {
    Index thread, block, grid;
    unsigned cluster_rank;
    std::vector<Block> *cluster;
    ClusterMeeting *cluster_meeting;
    unsigned arrived_for = 0;   // which time that all meet, once it has arrived
    int stores_in_flight = 0;   // of the copy engine, from shared memory
    int warp() const { return static_cast<int>(thread.x / 32); }
    int lane() const { return static_cast<int>(thread.x % 32); }
    Block &own() const { return (*cluster)[cluster_rank]; }
};

extern Thread *running;
inline Thread &self() { return *running; }

// What a thread waits for, looked at in every round of the scheduler before which something changed. A fact that holds only between two rounds is
// missed, as on the GPU.
struct Condition {
    bool (*holds)(const void *ready) = nullptr;
    const void *ready = nullptr;
};
void wait_until(Condition condition);
template <class Ready>
void block_until(const Ready &ready) {
    if (!ready()) wait_until({[](const void *r) { return (*static_cast<const Ready *>(r))(); }, &ready});
}

void wait_for_others(Meeting &meeting);
void let_go(Meeting &meeting);
template <class Last>
void meet(Meeting &meeting, unsigned index, void *bring, const Last &last) {
    meeting.brought[index] = bring;
    if (!meeting.is_last()) return wait_for_others(meeting);
    last(meeting.brought.data());
    let_go(meeting);
}
void arrive(Meeting &meeting);
bool block_or(unsigned threads, bool holds);
template <class Last>
void meet_warp(void *bring, const Last &last) {
    Thread &t = self();
    meet(t.own().warps[t.warp()], static_cast<unsigned>(t.lane()), bring, last);
}
template <class Last>
void meet_warpgroup(void *bring, const Last &last) {
    Thread &t = self();
    meet(t.own().warpgroups[t.warp() / 4], t.thread.x % 128, bring, last);
}
void arrive_at_cluster();
void wait_for_cluster();

// The copy engine: `copy` happens at any time from now on (at once when the order is not shuffled), as if by this thread.
void copy_later(std::function<void()> copy);

// An address of shared memory: the rank of a block of the cluster in the top byte.
inline constexpr uint32_t kRankShift = 24, kInBlock = (1u << kRankShift) - 1;
inline uint8_t *shared_pointer(uint32_t address) {
    return (*self().cluster)[address >> kRankShift].memory.get() + (address & kInBlock);
}
inline Mbarrier &mbarrier(uint32_t address) { return *reinterpret_cast<Mbarrier *>(shared_pointer(address)); }

// A warp whose lanes from the fifth on come late to everything: only once in kLate rounds of the scheduler. warp < 0: none.
struct Laggard { int rank = 0, warp = -1; };

// Runs `blocks` blocks of `threads` threads as clusters of `ranks`, one cluster after the other, in an order that `seed` shuffles. Shared memory
// begins at a multiple of 1024 and ends where AddressSanitizer sees it. Returns false on a deadlock.
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
inline int __any_sync(unsigned, int predicate);
inline int __all_sync(unsigned mask, int predicate) { return !__any_sync(mask, !predicate); }
inline unsigned __ballot_sync(unsigned, int predicate) {
    struct Bring { int predicate; unsigned result; } bring{predicate, 0};
    ::emulator::meet_warp(&bring, [](void **all) {
        unsigned ballot = 0;
        for (int i = 0; i < 32; i++) ballot |= static_cast<unsigned>(static_cast<Bring *>(all[i])->predicate != 0) << i;
        for (int i = 0; i < 32; i++) static_cast<Bring *>(all[i])->result = ballot;
    });
    return bring.result;
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

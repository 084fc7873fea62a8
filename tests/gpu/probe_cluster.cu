// probe_cluster.cu: what copies between the two CTAs of a cluster cost, alone and beside loads from global memory.
//
// A round: both CTAs send to each other, wait for what arrives, and say that they are ready for more. Printed: cycles a round, with
// few and with all SMs at work.
#include <cstdio>

#include "device/sm90/barrier.cuh"
#include "device/sm90/bulk_copy.cuh"
#include "device/shared_access.cuh"
#include "gpu_watch.cuh"

namespace {

using namespace fkdai;

constexpr int kWarmUps = 8, kTimed = 100, kRounds = kWarmUps + kTimed, kBytes = 200 * 1024;
constexpr uint32_t kTile = 24 * 1024;  // q, k, g of a chunk

struct Round {
    uint32_t sent, loaded;  // bytes of a round: to the peer, from global memory
    bool by_threads;        // one warp's st.async instead of the copy engine
};

__device__ __forceinline__ void load_bytes(uint32_t to, const uint8_t *from, uint32_t bytes, uint32_t barrier) {
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];"
                 ::"r"(to), "l"(from), "r"(bytes), "r"(barrier) : "memory");
}
__device__ __forceinline__ void send_words(uint32_t to, uint4 x, uint32_t barrier) {
    asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 [%0], {%1, %2, %3, %4}, [%5];"
                 ::"r"(to), "r"(x.x), "r"(x.y), "r"(x.z), "r"(x.w), "r"(barrier) : "memory");
}

__global__ void __cluster_dims__(2, 1, 1) __launch_bounds__(32, 1) probe_kernel(long long *cycles, const uint8_t *source, Round r) {
    __shared__ uint64_t barriers[3];  // bytes from the peer, bytes from global memory, the peer is ready
    uint8_t &memory = dynamic_shared<uint8_t>();
    const uint32_t base = shared_address(&memory), peer = blockIdx.x % 2 ^ 1, lane = threadIdx.x;
    const uint32_t arrived = shared_address(barriers), loaded = arrived + 8, ready = arrived + 16;
    if (lane == 0) {
        for (int i = 0; i < 3; i++) barrier_init(arrived + 8 * i, 1);
        fence_barrier_init();
    }
    cluster_arrive();
    cluster_wait();
    const uint32_t to = peer_address(base + 64 * 1024, peer), to_barrier = peer_address(arrived, peer);
    long long start = 0;
    for (uint32_t round = 0; round < kRounds; round++) {
        if (round == kWarmUps) start = clock64();
        if (lane == 0) {
            if (r.sent > 0) arrive_expecting(arrived, r.sent);
            if (r.sent > 0 && !r.by_threads) copy_to_peer(to, base, r.sent, to_barrier);
            if (r.loaded > 0) {
                arrive_expecting(loaded, r.loaded);
                for (uint32_t at = 0; at < r.loaded; at += 4096)
                    load_bytes(base + 128 * 1024 + at, source + (static_cast<size_t>(blockIdx.x) * kRounds + round) * kTile + at, 4096, loaded);
            }
        }
        if (r.by_threads)
            for (uint32_t at = lane * 16; at < r.sent; at += 512) send_words(to + at, load_uint4(base + at), to_barrier);
        if (r.sent > 0) wait(arrived, round & 1);
        if (r.loaded > 0) wait(loaded, round & 1);
        if (lane == 0) arrive_remote(peer_address(ready, peer));
        wait(ready, round & 1);
    }
    if (lane == 0) cycles[blockIdx.x] = clock64() - start;
    cluster_arrive();
    cluster_wait();
}

}  // namespace

int main() {
    const int multiprocessors = multiprocessors_or_skip("probe_cluster");
    long long *cycles;
    uint8_t *source;
    CHECK_CUDA(cudaFuncSetAttribute(probe_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes));
    CHECK_CUDA(cudaMalloc(&cycles, static_cast<size_t>(multiprocessors) * sizeof *cycles));
    CHECK_CUDA(cudaMalloc(&source, static_cast<size_t>(multiprocessors) * kRounds * kTile));
    CHECK_CUDA(cudaMemset(source, 1, static_cast<size_t>(multiprocessors) * kRounds * kTile));
    const struct { const char *what; Round round; } rows[] = {
        {"2 KB to the peer", {2048, 0, false}}, {"the same by st.async", {2048, 0, true}}, {"27 KB to the peer", {27648, 0, false}},
        {"24 KB from global memory", {0, kTile, false}}, {"27 KB to the peer and 24 KB from global memory", {27648, kTile, false}}};
    printf("cycles a round                                     16 SMs    all\n");
    for (const auto &row : rows) {
        printf("%-48s", row.what);
        for (const int blocks : {16, multiprocessors / 2 * 2}) {
            long long spent = 0;
            probe_kernel<<<blocks, 32, kBytes>>>(cycles, source, row.round);
            CHECK_CUDA(cudaGetLastError());
            watched = row.what;
            watch(nullptr, 20);
            CHECK_CUDA(cudaMemcpy(&spent, cycles + 1, sizeof spent, cudaMemcpyDeviceToHost));
            printf("  %7.0f", static_cast<double>(spent) / kTimed);
        }
        printf("\n");
    }
    return 0;
}

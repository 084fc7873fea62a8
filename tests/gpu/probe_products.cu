// probe_products.cu: products whose A is in registers, beside the arithmetic of the same warps.
//
// One warpgroup does what the chain does first in a chunk: 128 FMULs and 32 packs a thread, and eight m64n64k16; other warps of the
// block keep the SM busy with shared-memory, FMA and MUFU work. Printed: cycles a round, with 0, 4 and 8 such warps.
#include <cstdio>

#include "device/sm90/barrier.cuh"
#include "device/sm90/registers.cuh"
#include "device/shared_access.cuh"
#include "device/sm90/warpgroup_mma.cuh"
#include "gpu_watch.cuh"

namespace {

using namespace fkdai;

enum class Order { Products, Arithmetic, ArithmeticFirst, Halves, Interleaved };
constexpr int kWarmUps = 4, kTimed = 200, kBytes = 100'000;
using MmaN64 = MmaRegisters<64, Major::K, Type16::BF16>;

// The compiler schedules within basic blocks; a branch that is never taken ends one. `count` is not negative.
__device__ __forceinline__ void end_block(int count, int which) {
    if (count < -which) __trap();
}

struct Chain {
    float state[64], product[32];
    uint32_t a[8][4];
    float4 factor[8];
    uint32_t tokens;

    __device__ __forceinline__ void arithmetic(int k) {
#pragma unroll
        for (int i = 0; i < 8; i++) state[8 * k + i] *= factor[k].x;
#pragma unroll
        for (int i = 0; i < 8; i++) state[8 * k + i] *= factor[k].y;
#pragma unroll
        for (int j = 0; j < 4; j++) a[k][j] = pack_bf16(state[8 * k + 2 * j], state[8 * k + 2 * j + 1]);
    }
    __device__ __forceinline__ void multiply(int k) {
        const Operand<0, 1024, Swizzle::B128> b(tokens);
        mma<MmaN64>(a[k], b.at((k & 3) * 32 + (k >> 2) * 8192), product, k == 0 ? ScaleOut::Zero : ScaleOut::One);
    }
    template <Order order>
    __device__ __forceinline__ void round(int count) {
        constexpr int kBlocks = order == Order::Halves ? 2 : order == Order::Interleaved ? 8 : 1, kEach = 8 / kBlocks;
        pin(product);
#pragma unroll
        for (int block = 0; block < kBlocks; block++) {
            if (order != Order::Products)
#pragma unroll
                for (int k = block * kEach; k < (block + 1) * kEach; k++) arithmetic(k);
            if (order == Order::Arithmetic) continue;
            mma_begin();
#pragma unroll
            for (int k = block * kEach; k < (block + 1) * kEach; k++) multiply(k);
            if (block == kBlocks - 1) mma_commit();
            else end_block(count, block);
        }
        if (order != Order::Arithmetic) mma_wait<0>();
        pin(product), pin(state);
    }
};

__device__ __forceinline__ float be_busy(const volatile int &is_over, uint32_t from) {
    float x = static_cast<float>(threadIdx.x), y = 0.5f, z = 0.1f, w = 0.2f;
    while (!is_over)
#pragma unroll 4
        for (int i = 0; i < 16; i++) {
            const float4 v = load_float4(from);
            x = fmaf(x, y, v.x), y = fmaf(y, z, v.y), z = fmaf(z, w, v.z), w = exp2_fast(w * x);
            x = fmaf(x, v.w, y), y = fmaf(y, z, w), z = fmaf(z, x, 0.5f), w = reciprocal(w + 1.f);
            store_float2(from, x, y);
        }
    return x + y + z + w;
}

template <Order order>
__global__ void __launch_bounds__(512, 1) probe_kernel(long long *cycles, float *sink, int count, int busy_warps) {
    __shared__ volatile int is_over;
    uint8_t &memory = dynamic_shared<uint8_t>();
    const uint32_t base = shared_address(&memory);
    for (int i = threadIdx.x; i < 16384; i += blockDim.x) store_word(base + i * 4, 0x3c003c00);
    if (threadIdx.x == 0) is_over = 0;
    fence_async_proxy();
    __syncthreads();
    const int warp = __shfl_sync(~0u, threadIdx.x / 32, 0);
    float result = 0.f;
    if (warp < 4) {
        grow_registers<208>();
        Chain chain;
        for (int i = 0; i < 64; i++) chain.state[i] = static_cast<float>(threadIdx.x + i);
        for (int i = 0; i < 32; i++) chain.product[i] = 0.f;
        for (int k = 0; k < 8; k++) chain.factor[k] = load_float4(base + k * 64), chain.arithmetic(k);
        chain.tokens = base + 1024;
        long long start = 0;
        for (int round = 0; round < kWarmUps + kTimed; round++) {
            if (round == kWarmUps) start = clock64();
            chain.round<order>(count);
        }
        if (threadIdx.x == 0) cycles[blockIdx.x] = clock64() - start, is_over = 1;
        for (int i = 0; i < 64; i++) result += chain.state[i];
        for (int i = 0; i < 32; i++) result += chain.product[i];
    } else {
        shrink_registers<96>();
        if (warp < 4 + busy_warps) result = be_busy(is_over, base + 32768 + threadIdx.x * 16);
    }
    sink[blockIdx.x * 512 + threadIdx.x] = result;
}

template <Order order>
void row(const char *what, int multiprocessors, long long *cycles, float *sink) {
    CHECK_CUDA(cudaFuncSetAttribute(probe_kernel<order>, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes));
    printf("%-44s", what);
    for (const int busy_warps : {0, 4, 8}) {
        long long spent = 0;
        probe_kernel<order><<<multiprocessors, 512, kBytes>>>(cycles, sink, 1, busy_warps);
        CHECK_CUDA(cudaGetLastError());
        CHECK_CUDA(cudaMemcpy(&spent, cycles + 1, sizeof spent, cudaMemcpyDeviceToHost));
        printf("  %7.0f", static_cast<double>(spent) / kTimed);
    }
    printf("\n");
}

}  // namespace

int main() {
    const int multiprocessors = multiprocessors_or_skip("probe_products");
    long long *cycles;
    float *sink;
    CHECK_CUDA(cudaMalloc(&cycles, static_cast<size_t>(multiprocessors) * sizeof *cycles));
    CHECK_CUDA(cudaMalloc(&sink, static_cast<size_t>(multiprocessors) * 512 * sizeof *sink));
    printf("cycles a round; other busy warps:                    0        4        8\n");
    row<Order::Products>("products only", multiprocessors, cycles, sink);
    row<Order::Arithmetic>("arithmetic only", multiprocessors, cycles, sink);
    row<Order::ArithmeticFirst>("all arithmetic, then all products", multiprocessors, cycles, sink);
    row<Order::Halves>("half the arithmetic, half the products, twice", multiprocessors, cycles, sink);
    row<Order::Interleaved>("16 channels at a time", multiprocessors, cycles, sink);
    return 0;
}

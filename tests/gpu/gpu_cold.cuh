// gpu_cold.cuh: what a call meets in a model: L2 and the instruction caches hold what other kernels have read.
#pragma once

#include <cuda_runtime.h>

#include "gpu_watch.cuh"

// 256 KB of code, more than a multiprocessor's instruction caches hold.
__global__ void __launch_bounds__(128, 1) evict_code(unsigned *out, unsigned x) {
    unsigned y = x;
#pragma unroll
    for (int i = 0; i < 8192; i++) asm volatile("xor.b32 %0, %0, %1;\nadd.u32 %1, %1, %0;" : "+r"(x), "+r"(y));
    if (x == 1) *out = y;
}

// Enqueues it. Memory: twice what L2 holds.
class ColdCaches {
    static constexpr size_t kBytes = size_t{128} << 20;
    void *memory = nullptr;
    int multiprocessors = 0;

public:
    ColdCaches() {
        CHECK_CUDA(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, 0));
        CHECK_CUDA(cudaMalloc(&memory, kBytes));
    }
    ~ColdCaches() { cudaFree(memory); }
    ColdCaches(const ColdCaches &) = delete;
    ColdCaches &operator=(const ColdCaches &) = delete;

    void enqueue(cudaStream_t stream) const {
        CHECK_CUDA(cudaMemsetAsync(memory, 0, kBytes, stream));
        evict_code<<<multiprocessors, 128, 0, stream>>>(static_cast<unsigned *>(memory), 0);
        CHECK_CUDA(cudaGetLastError());
    }
};

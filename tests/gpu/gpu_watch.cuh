// gpu_watch.cuh: CUDA calls that must succeed, waiting that must end, and counting on the device.
#pragma once

#include <cuda_runtime.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <thread>

#define CHECK_CUDA(call)                                                                              \
    do {                                                                                              \
        const int status_ = static_cast<int>(call);                                                   \
        if (status_ != 0) {                                                                           \
            printf("%s:%d: %s: %s\n", __FILE__, __LINE__, #call,                                      \
                   cudaGetErrorString(static_cast<cudaError_t>(status_)));                            \
            exit(2);                                                                                  \
        }                                                                                             \
    } while (0)

inline const char *watched = "";  // what runs, for the watchdog's last words

// Waits for a stream; a kernel that hangs ends the program instead of the machine's patience.
inline void watch(cudaStream_t stream, double seconds = 20) {
    using clock = std::chrono::steady_clock;
    const auto start = clock::now();
    cudaError_t status;
    for (int polls = 0; (status = cudaStreamQuery(stream)) == cudaErrorNotReady; polls++) {
        if (polls < 20000) continue;
        std::this_thread::sleep_for(std::chrono::microseconds(50));
        if (std::chrono::duration<double>(clock::now() - start).count() < seconds) continue;
        printf("HANG: %s has not ended after %.0f s\n", watched, seconds);
        fflush(stdout);
        std::_Exit(3);
    }
    CHECK_CUDA(status);
}

template <class T>
__global__ void count_differences(const T *a, const T *b, int64_t count, unsigned long long *differences) {
    unsigned long long found = 0;
    for (int64_t i = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x; i < count; i += static_cast<int64_t>(gridDim.x) * blockDim.x)
        found += a[i] != b[i];
    if (found > 0) atomicAdd(differences, found);
}

// x != x counts a NaN.
template <class T>
__global__ void count_nans(const T *x, int64_t count, unsigned long long *nans) {
    unsigned long long found = 0;
    for (int64_t i = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x; i < count; i += static_cast<int64_t>(gridDim.x) * blockDim.x) {
        const float value = static_cast<float>(x[i]);
        found += value != value;
    }
    if (found > 0) atomicAdd(nans, found);
}

// Multiprocessors of the device; without a GPU the program says so and ends with 77, which counts as skipped.
inline int multiprocessors_or_skip(const char *program) {
    int devices = 0;
    if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
        printf("%s: no GPU, skipped\n", program);
        exit(77);
    }
    int count;
    CHECK_CUDA(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, 0));
    return count;
}

// probe_instructions.cu: how much code the warps of an SM can run through before instruction fetch limits them; then, how much of a kernel's code a
// launch brings along.
//
// Every warp runs a loop of independent FFMAs (16 bytes each). Rows: the size of a loop. Columns: 1 to 4 different loops, each run
// by one warp on every sub-partition ("by all"), or each on a sub-partition of its own ("apart"). Printed: cycles an instruction.
//
// Then 384 KB of code in a row, run once by one warp: cycles for each 8 KB of it, where L2 has them and where nothing has.
#include <cstdio>

#include "gpu_cold.cuh"

namespace {

constexpr int kWarmUps = 8, kTimed = 200;

template <int length, int copy>
__device__ __forceinline__ float loop(float x, long long *cycles) {
    float r[8];
    for (int i = 0; i < 8; i++) r[i] = x + static_cast<float>(i * copy);
    long long start = 0;
#pragma unroll 1
    for (int turn = 0; turn < kWarmUps + kTimed; turn++) {
        if (turn == kWarmUps) start = clock64();
#pragma unroll
        for (int i = 0; i < length; i++) asm volatile("fma.rn.f32 %0, %0, %1, %2;" : "+f"(r[i & 7]) : "f"(x), "f"(r[(i + 3) & 7]));
    }
    *cycles = clock64() - start;
    float sum = 0.f;
    for (int i = 0; i < 8; i++) sum += r[i];
    return sum;
}

template <int length>
__global__ void __launch_bounds__(512, 1) probe_kernel(long long *cycles, float *sink, int loops, bool is_apart) {
    const int warp = __shfl_sync(~0u, threadIdx.x / 32, 0);
    const int which = is_apart ? warp % 4 : warp / 4;
    const bool runs = which < loops && (!is_apart || warp < 4);
    long long spent = 0;
    float x = static_cast<float>(threadIdx.x);
    if (!runs) return;
    if (which == 0) x = loop<length, 1>(x, &spent);
    else if (which == 1) x = loop<length, 2>(x, &spent);
    else if (which == 2) x = loop<length, 3>(x, &spent);
    else x = loop<length, 4>(x, &spent);
    if (threadIdx.x % 32 == 0) atomicMax(reinterpret_cast<unsigned long long *>(cycles), static_cast<unsigned long long>(spent));
    sink[blockIdx.x * 512 + threadIdx.x] = x;
}

template <int length>
void row(int multiprocessors, long long *cycles, float *sink) {
    printf("%6.1f KB", length * 16 / 1024.0);
    for (const bool is_apart : {false, true})
        for (int loops = 1; loops <= 4; loops++) {
            long long spent = 0;
            CHECK_CUDA(cudaMemset(cycles, 0, sizeof *cycles));
            probe_kernel<length><<<multiprocessors, 512>>>(cycles, sink, loops, is_apart);
            CHECK_CUDA(cudaGetLastError());
            CHECK_CUDA(cudaMemcpy(&spent, cycles, sizeof spent, cudaMemcpyDeviceToHost));
            printf("  %6.2f", static_cast<double>(spent) / kTimed / length / (is_apart ? 1 : loops));
        }
    printf("\n");
}

constexpr int kParts = 48, kPartInstructions = 504;  // and 8 more that read and store the clock: 8 KB

__global__ void __launch_bounds__(32, 1) straight_kernel(unsigned *clocks, unsigned x) {
    unsigned y = x, now;
#pragma unroll
    for (int part = 0; part <= kParts; part++) {
        asm volatile("mov.u32 %0, %%clock;" : "=r"(now)::"memory");
        if (threadIdx.x == 0 && blockIdx.x == 0) clocks[part] = now;
        if (part == kParts) break;
#pragma unroll
        for (int i = 0; i < kPartInstructions / 2; i++) asm volatile("xor.b32 %0, %0, %1;\nadd.u32 %1, %1, %0;" : "+r"(x), "+r"(y));
    }
    if (x == 1) clocks[0] = y;
}

void print_straight(bool is_cold, int blocks, unsigned *clocks) {
    unsigned at[kParts + 1];
    const ColdCaches cold;
    straight_kernel<<<blocks, 32>>>(clocks, 0);  // now L2 has it
    if (is_cold) cold.enqueue(nullptr);
    else evict_code<<<blocks, 128>>>(clocks, 0);
    straight_kernel<<<blocks, 32>>>(clocks, 0);
    CHECK_CUDA(cudaGetLastError());
    CHECK_CUDA(cudaMemcpy(at, clocks, sizeof at, cudaMemcpyDeviceToHost));
    printf("%s, %3d blocks:", is_cold ? "in memory" : "in L2", blocks);
    for (int part = 0; part < kParts; part++) printf(" %u", at[part + 1] - at[part]);
    printf("\n");
}

}  // namespace

int main() {
    const int multiprocessors = multiprocessors_or_skip("probe_instructions");
    long long *cycles;
    float *sink;
    CHECK_CUDA(cudaMalloc(&cycles, sizeof *cycles));
    CHECK_CUDA(cudaMalloc(&sink, static_cast<size_t>(multiprocessors) * 512 * sizeof *sink));
    printf("cycles an instruction and sub-partition; a loop of   1, 2, 3, 4 loops by all            1, 2, 3, 4 loops apart\n");
    row<256>(multiprocessors, cycles, sink), row<512>(multiprocessors, cycles, sink), row<640>(multiprocessors, cycles, sink);
    row<768>(multiprocessors, cycles, sink), row<1024>(multiprocessors, cycles, sink), row<1280>(multiprocessors, cycles, sink);
    row<2048>(multiprocessors, cycles, sink), row<2560>(multiprocessors, cycles, sink);
    printf("cycles for 8 KB of code in a row:\n");
    unsigned *clocks;
    CHECK_CUDA(cudaMalloc(&clocks, sizeof(unsigned[kParts + 1])));
    for (const bool is_cold : {false, true})
        for (const int blocks : {1, multiprocessors}) print_straight(is_cold, blocks, clocks);
    return 0;
}

// planted_bugs.cu: small kernels that are wrong on purpose. A tool that does not complain about them says nothing about others.
//
//     planted_bugs outside | race | sync | unwritten
#include <cstring>

#include "gpu_watch.cuh"

namespace {

__global__ void write_outside(int *data) { data[threadIdx.x] = 1; }  // 64 threads, 32 elements

__global__ void race(int *data) {  // no barrier between writing a neighbour's word and reading one's own
    __shared__ int words[64];
    words[(threadIdx.x + 33) % 64] = static_cast<int>(threadIdx.x);
    data[threadIdx.x % 32] = words[threadIdx.x];
}

__global__ void two_barriers(int *data) {  // the halves of a warp wait at different barriers
    if (threadIdx.x < 16) {
        data[threadIdx.x] = 1;
        __syncthreads();
        data[threadIdx.x] += data[threadIdx.x + 16];
    } else {
        __syncthreads();
        data[threadIdx.x] = 2;
    }
}

__global__ void read_unwritten(const int *from, int *data) { data[threadIdx.x % 32] = from[threadIdx.x % 32]; }

}  // namespace

int main(int argc, char **argv) {
    (void)multiprocessors_or_skip("planted_bugs");
    const char *const which = argc > 1 ? argv[1] : "";
    int *data, *unwritten;
    CHECK_CUDA(cudaMalloc(&data, 32 * sizeof(int)));
    CHECK_CUDA(cudaMalloc(&unwritten, 32 * sizeof(int)));
    if (strcmp(which, "outside") == 0) write_outside<<<1, 64>>>(data);
    else if (strcmp(which, "race") == 0) race<<<1, 64>>>(data);
    else if (strcmp(which, "sync") == 0) two_barriers<<<1, 32>>>(data);
    else if (strcmp(which, "unwritten") == 0) read_unwritten<<<1, 32>>>(unwritten, data);
    else return 2;
    (void)cudaDeviceSynchronize();  // the tool reports; what the program makes of it does not matter
    return 0;
}

/*
 * Time of the strided copies, beside cudaMemcpyAsync of as many bytes on the device. A copy reads and writes every byte once; the rate counts both.
 *
 *     copy_time [tokens [heads]]
 *
 * Each line: direction, bytes that a row's pitch is above a multiple of 16, and thereby the unit; medians of 20 after 5.
 */
#include <string.h>

#include "backend/cuda_copy.h"
#include "public_call.h"

enum { WARM = 5, TIMES = 20, TENSORS = 4 };

static int compare(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

typedef struct timed {
    fkdai_copies list;
    int is_out;          /* 2: cudaMemcpyAsync */
    size_t bytes;        /* of one tensor */
} timed;

static void launch(const timed *t)
{
    if (t->is_out == 0) MUST_CUDA((cudaError_t)fkdai_copy_in(&t->list, NULL));
    if (t->is_out == 1) MUST_CUDA((cudaError_t)fkdai_copy_out(&t->list, NULL));
    for (int i = 0; i < t->list.count && t->is_out == 2; ++i)
        MUST_CUDA(cudaMemcpyAsync(t->list.copy[i].packed, t->list.copy[i].strided, t->bytes, cudaMemcpyDeviceToDevice, NULL));
}

/* In milliseconds. */
static float time_of(const timed *t)
{
    float times[TIMES];
    cudaEvent_t begin, end;
    MUST_CUDA(cudaEventCreate(&begin));
    MUST_CUDA(cudaEventCreate(&end));
    for (int i = -WARM; i < TIMES; ++i) {
        MUST_CUDA(cudaEventRecord(begin, NULL));
        launch(t);
        MUST_CUDA(cudaEventRecord(end, NULL));
        MUST_CUDA(cudaEventSynchronize(end));
        if (i >= 0) MUST_CUDA(cudaEventElapsedTime(&times[i], begin, end));
    }
    qsort(times, TIMES, sizeof *times, compare);
    MUST_CUDA(cudaEventDestroy(begin));
    MUST_CUDA(cudaEventDestroy(end));
    return times[TIMES / 2];
}

static void print(const char *what, int odd, const timed *t)
{
    const float ms = time_of(t);
    printf("%-16s pitch 16n + %2d bytes: %7.3f ms, %5.0f GB/s\n", what, odd, (double)ms, 2e-6 * (double)t->bytes * t->list.count / (double)ms);
}

int main(int argc, char **argv)
{
    const int64_t T = argc > 1 ? strtol(argv[1], NULL, 10) : 8192, H = argc > 2 ? strtol(argv[2], NULL, 10) : 96;
    if (skip_without_gpu("copy_time") != 0) return 77;
    MUST_CUDA((cudaError_t)fkdai_copy_load());
    timed t = {.list = {.count = TENSORS}, .bytes = (size_t)(T * H) * FKDAI_COPY_ROW};
    for (int i = 0; i < TENSORS; ++i) {
        void *strided, *packed;
        MUST_CUDA(cudaMalloc(&strided, t.bytes + (size_t)T * 16));
        MUST_CUDA(cudaMalloc(&packed, t.bytes));
        t.list.copy[i] = (fkdai_copy){.strided = strided, .packed = packed, .size = {1, T, H}, .stride = {0, 0, FKDAI_COPY_ROW}};
    }
    printf("%d tensors of %d tokens and %d heads\n", TENSORS, (int)T, (int)H);
    t.is_out = 2;
    print("cudaMemcpyAsync", 0, &t);
    for (t.is_out = 0; t.is_out < 2; ++t.is_out) {
        static const int odd[] = {0, 8, 4, 2};
        for (int j = 0; j < 4; ++j) {
            for (int i = 0; i < TENSORS; ++i) t.list.copy[i].stride[1] = H * FKDAI_COPY_ROW + odd[j];
            print(t.is_out ? "packed to strided" : "strided to packed", odd[j], &t);
        }
    }
    return 0;
}

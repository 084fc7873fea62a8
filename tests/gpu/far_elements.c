/*
 * Tensors that no 32-bit count of elements or bytes reaches: what lies behind 2^32 elements is computed as what lies at the front.
 *
 *     token, head, batch    five inputs in the gaps of each other and out for itself, with a stride of 2^26 elements along this axis, against the same call
 *                           without gaps
 *     packed                2^31 elements and more in each of five tensors: the last sequence against itself alone
 *     broken                the same with a broken cu_seqlens: NaN at both ends
 *
 * Prints "ran N, failed M"; exit code 77 without a GPU or with less than 24 GB of free memory.
 */
#include <cuda_runtime_api.h>
#include <string.h>

#include "public_call.h"

enum { TENSORS = 6, BETA = 4, OUT = 5, POISON = 0xff };
#define FAR_STRIDE (INT64_C(1) << 26)    /* elements; times 65 and more */
#define NEEDED_BYTES ((size_t)24 << 30)

static int ran, failed;

static void report(const char *name, int is_good)
{
    ran += 1, failed += !is_good;
    if (!is_good) printf("FAIL %s\n", name);
}

static void *allocate(size_t bytes)
{
    void *data;
    MUST_CUDA(cudaMalloc(&data, bytes));
    MUST_CUDA(cudaMemset(data, POISON, bytes));
    return data;
}

/* bf16 numbers of about unit size. */
static void fill(void *device, size_t count, uint32_t seed)
{
    uint16_t *const host = malloc(count * 2);
    if (host == NULL) exit(2);
    uint32_t x = seed * 2654435761u + 12345u;
    for (size_t i = 0; i < count; ++i) {
        x ^= x << 13, x ^= x >> 17, x ^= x << 5;
        host[i] = (uint16_t)((x & 0x8000u) | (0x3e00u + (x >> 16) % 0x1c0u));
    }
    MUST_CUDA(cudaMemcpy(device, host, count * 2, cudaMemcpyHostToDevice));
    free(host);
}

static int same_bytes(const void *a, const void *b, size_t bytes)
{
    char *const x = malloc(bytes), *const y = malloc(bytes);
    if (x == NULL || y == NULL) exit(2);
    MUST_CUDA(cudaMemcpy(x, a, bytes, cudaMemcpyDeviceToHost));
    MUST_CUDA(cudaMemcpy(y, b, bytes, cudaMemcpyDeviceToHost));
    const int same = memcmp(x, y, bytes) == 0;
    free(x), free(y);
    return same;
}

static fkda_fwd_desc desc_of(int64_t B, int64_t T, int64_t H)
{
    return (fkda_fwd_desc){.struct_size = sizeof(fkda_fwd_desc), .backend = FKDA_BACKEND_CUDA, .memory = FKDA_MEMORY_CUDA, .B = B, .T = T, .H = H,
                           .K = 128, .V = 128, .lower_bound = -5.0f, .scale = 0.08838835f, .final_state = {.dtype = FKDA_F32}};
}

static void run(const fkda_fwd_desc *d, void *const *tensors, const void *cu_seqlens, void *final_state)
{
    size_t bytes;
    void *workspace = NULL;
    const fkda_fwd_args a = {.struct_size = sizeof a, .q = tensors[0], .k = tensors[1], .v = tensors[2], .g = tensors[3], .beta = tensors[BETA],
                             .out = tensors[OUT], .cu_seqlens = cu_seqlens, .final_state = final_state};
    MUST_FKDA(fkda_fwd_workspace_size(d, &bytes));
    if (bytes > 0) workspace = allocate(bytes);
    MUST_FKDA(fkda_fwd(d, &a, workspace, bytes, NULL));
    MUST_CUDA(cudaDeviceSynchronize());
    MUST_CUDA(cudaFree(workspace));
}

/* ---------------------------------------------------------------- far along one axis */

typedef enum axis { TOKEN, HEAD, BATCH } axis;

/* Row major with this axis outermost, the others as in [B,T,H,width]; its own stride is `step`. */
static fkda_tensor_desc strides_of(axis far, const int64_t *sizes, int64_t width, int64_t step)
{
    static const axis from_inside[3] = {HEAD, TOKEN, BATCH};
    int64_t stride[3] = {0}, inner = width;
    for (int i = 0; i < 3; ++i) {
        const axis at = from_inside[i];
        stride[at] = at == far ? step : inner;
        if (at != far) inner *= sizes[at];
    }
    return (fkda_tensor_desc){.token_stride = stride[TOKEN], .head_stride = stride[HEAD], .batch_stride = stride[BATCH]};
}

static void far_along(const char *name, axis far, int64_t B, int64_t T, int64_t H)
{
    const int64_t sizes[3] = {[TOKEN] = T, [HEAD] = H, [BATCH] = B}, rows = sizes[far], inner = B * T * H / rows;
    const size_t states = (size_t)(B * H) * 65536, place = 1 << 16;    /* elements that each tensor has for one row */
    fkda_fwd_desc near = desc_of(B, T, H), apart = near;
    fkda_tensor_desc *const near_desc[TENSORS] = {&near.q, &near.k, &near.v, &near.g, &near.beta, &near.out};
    fkda_tensor_desc *const far_desc[TENSORS] = {&apart.q, &apart.k, &apart.v, &apart.g, &apart.beta, &apart.out};
    void *near_data[TENSORS], *far_data[TENSORS];
    char *const memory = allocate(((size_t)(rows - 1) * FAR_STRIDE + OUT * place) * 2);    /* of the inputs */
    char *const out = allocate(((size_t)(rows - 1) * FAR_STRIDE + place) * 2);
    for (int i = 0; i < TENSORS; ++i) {
        const int64_t width = i == BETA ? 1 : 128, row = inner * width;
        *near_desc[i] = strides_of(far, sizes, width, row), *far_desc[i] = strides_of(far, sizes, width, FAR_STRIDE);
        near_data[i] = allocate((size_t)(rows * row) * 2), far_data[i] = i == OUT ? out : memory + (size_t)i * place * 2;
        if (i != OUT) fill(near_data[i], (size_t)(rows * row), (uint32_t)i + 1);
        MUST_CUDA(cudaMemcpy2D(far_data[i], FAR_STRIDE * 2, near_data[i], (size_t)row * 2, (size_t)row * 2, (size_t)rows, cudaMemcpyDeviceToDevice));
    }
    void *const near_state = allocate(states), *const far_state = allocate(states);
    const size_t row = (size_t)inner * 256;
    run(&near, near_data, NULL, near_state);
    run(&apart, far_data, NULL, far_state);
    void *const gathered = allocate((size_t)rows * row), *const untouched = allocate((size_t)rows * row);
    MUST_CUDA(cudaMemcpy2D(gathered, row, far_data[OUT], FAR_STRIDE * 2, row, (size_t)rows, cudaMemcpyDeviceToDevice));
    report(name, same_bytes(gathered, near_data[OUT], (size_t)rows * row) && same_bytes(far_state, near_state, states) &&
                     !same_bytes(gathered, untouched, (size_t)rows * row));
    for (int i = 0; i < TENSORS; ++i) MUST_CUDA(cudaFree(near_data[i]));
    void *const all[6] = {memory, out, near_state, far_state, gathered, untouched};
    for (int i = 0; i < 6; ++i) MUST_CUDA(cudaFree(all[i]));
}

/* ---------------------------------------------------------------- without a gap */

static int is_nan_at(const void *out, int64_t element)
{
    uint16_t x[128];
    MUST_CUDA(cudaMemcpy(x, (const char *)out + element * 2, sizeof x, cudaMemcpyDeviceToHost));
    for (int i = 0; i < 128; ++i)
        if (x[i] != 0x7fff) return 0;
    return 1;
}

static void far_and_packed(void)
{
    const int64_t H = 128, first = INT64_C(1) << 17, last = 70, bounds[3] = {0, first, first + last}, broken[3] = {0, first + last + 1, first + last};
    const size_t states = (size_t)H * 65536;
    fkda_fwd_desc all = desc_of(1, first + last, H), alone = desc_of(1, last, H);
    void *data[TENSORS], *alone_data[TENSORS];
    all.N = 2, all.cu_seqlens = FKDA_I64;
    for (int i = 0; i < TENSORS; ++i) {
        const int64_t row = i == BETA ? H : H * 128;
        data[i] = allocate((size_t)((first + last) * row) * 2), alone_data[i] = allocate((size_t)(last * row) * 2);
        if (i == OUT) continue;
        MUST_CUDA(cudaMemset(data[i], 0x3c, (size_t)(first * row) * 2));    /* 0.0115 in bf16 */
        fill(alone_data[i], (size_t)(last * row), (uint32_t)i + 1);
        MUST_CUDA(cudaMemcpy((char *)data[i] + first * row * 2, alone_data[i], (size_t)(last * row) * 2, cudaMemcpyDeviceToDevice));
    }
    char *const state = allocate(2 * states), *const alone_state = allocate(states), *const device_bounds = allocate(sizeof bounds);
    MUST_CUDA(cudaMemcpy(device_bounds, bounds, sizeof bounds, cudaMemcpyHostToDevice));
    run(&all, data, device_bounds, state);
    run(&alone, alone_data, NULL, alone_state);
    report("packed", same_bytes((char *)data[OUT] + first * H * 256, alone_data[OUT], (size_t)(last * H) * 256) &&
                         same_bytes(state + states, alone_state, states));
    MUST_CUDA(cudaMemcpy(device_bounds, broken, sizeof broken, cudaMemcpyHostToDevice));
    MUST_CUDA(cudaMemset(data[OUT], POISON, (size_t)((first + last) * H) * 256));
    run(&all, data, device_bounds, state);
    report("broken", is_nan_at(data[OUT], 0) && is_nan_at(data[OUT], (INT64_C(1) << 31) - 128) && is_nan_at(data[OUT], INT64_C(1) << 31) &&
                         is_nan_at(data[OUT], (first + last) * H * 128 - 128));
    for (int i = 0; i < TENSORS; ++i) {
        MUST_CUDA(cudaFree(data[i]));
        MUST_CUDA(cudaFree(alone_data[i]));
    }
    MUST_CUDA(cudaFree(state));
    MUST_CUDA(cudaFree(alone_state));
    MUST_CUDA(cudaFree(device_bounds));
}

int main(void)
{
    size_t free_bytes, bytes;
    if (skip_without_gpu("far_elements") != 0) return 77;
    MUST_CUDA(cudaMemGetInfo(&free_bytes, &bytes));
    if (free_bytes < NEEDED_BYTES) {
        printf("far_elements: %zu bytes of memory are free, %zu are needed; skipped\n", free_bytes, NEEDED_BYTES);
        return 77;
    }
    far_along("token", TOKEN, 1, 70, 3);
    far_along("head", HEAD, 1, 40, 70);
    far_along("batch", BATCH, 70, 40, 2);
    far_and_packed();
    printf("far_elements: ran %d, failed %d\n", ran, failed);
    return failed != 0;
}

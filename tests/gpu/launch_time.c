/*
 * Host time of a call, without waiting for the GPU, in nanoseconds; medians over single calls. A call is
 *
 *     validate + plan     fkda_fwd_plan
 *     checks              fkda_fwd_run without its launch: pointers, overlap, device, memory
 *     tensor maps         four descriptors encoded; the launcher keeps these, and one of out where a block may work alone
 *     launches            the launcher without the maps: one kernel, or plan kernel and kernel
 *
 * Beside it an empty kernel, launched with the attributes of the prefill kernel of the call: the grid, clusters, shared memory and, behind a plan
 * kernel, the right to begin before that ends. No call can cost the host less.
 *
 *     launch_time [calls]
 */
#include <cuda.h>
#include <cudaTypedefs.h>
#include <string.h>
#include <time.h>

#include "empty_kernel.h"
#include "prefill_sm90/prefill_launch.h"
#include "public_call.h"

enum { BATCH = 64, MOST = 20000 };    /* a batch fits the stream's queue */

static int64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int compare(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* What is timed. The launcher's own call is put together from the same pointers. */
typedef struct timed {
    const public_call *call;
    fkda_plan plan;
    fkdai_prefill_call launch;
    fkda_fwd_args elsewhere;       /* q, k, v, g one token further: other tensor maps than the call before */
    PFN_cuTensorMapEncodeTiled_v12000 encode;
    unsigned turn;
} timed;

static void plan_only(timed *t) { MUST_FKDA(fkda_fwd_plan(&t->call->desc, &t->plan)); }
static void run_planned(timed *t) { MUST_FKDA(fkda_fwd_run(&t->plan, &t->call->args, t->call->workspace, t->call->workspace_bytes, NULL)); }
static void whole_call(timed *t) { MUST_FKDA(fkda_fwd(&t->call->desc, &t->call->args, t->call->workspace, t->call->workspace_bytes, NULL)); }

static void launch_empty(timed *t)
{
    const fkdai_prefill_call *const c = &t->launch;
    const int is_behind = fkdai_prefill_who_schedules((fkdai_prefill_jobs){c->B * c->T, c->N, c->HV, c->cu_seqlens.element != FKDAI_ABSENT}, c->grid,
                                                      c->checkpoints.stops) == FKDAI_SCHEDULE_ONCE;
    MUST_CUDA((cudaError_t)empty_kernel_launch(fkdai_prefill_blocks(c->grid), fkdai_prefill_ranks(c->grid), fkdai_prefill_shared_bytes(), is_behind,
                                               NULL));
}

static void launch_only(timed *t) { MUST_CUDA((cudaError_t)fkdai_prefill_launch(&t->launch, NULL)); }

/* Tensors that change from call to call, as those of a model's layers do. */
static void run_elsewhere(timed *t)
{
    const fkda_fwd_args *const args = t->turn++ % 2 ? &t->elsewhere : &t->call->args;
    MUST_FKDA(fkda_fwd_run(&t->plan, args, t->call->workspace, t->call->workspace_bytes, NULL));
}

static void encode_four(timed *t)
{
    const fkda_fwd_desc *const d = &t->call->desc;
    const cuuint64_t H = (cuuint64_t)d->H, T = (cuuint64_t)d->T, size[4] = {128, H, T, 1}, stride[3] = {256, H * 256, T * H * 256};
    const cuuint32_t box[4] = {64, 1, 32, 1}, step[4] = {1, 1, 1, 1};
    CUtensorMap map;
    for (int i = 0; i < 4; ++i)
        if (t->encode(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 4, t->call->inputs[i], size, stride, box, step, CU_TENSOR_MAP_INTERLEAVE_NONE,
                      CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) != CUDA_SUCCESS)
            exit(2);
}

static void look_at_memory(timed *t)
{
    struct cudaPointerAttributes where;
    MUST_CUDA(cudaPointerGetAttributes(&where, t->call->args.q));
}

static int64_t median_ns(void (*act)(timed *), timed *t, int calls)
{
    static int64_t times[MOST];
    for (int i = 0; i < calls; ++i) {
        if (i % BATCH == 0) MUST_CUDA(cudaDeviceSynchronize());
        const int64_t from = now();
        act(t);
        times[i] = now() - from;
    }
    MUST_CUDA(cudaDeviceSynchronize());
    qsort(times, (size_t)calls, sizeof *times, compare);
    return times[calls / 2];
}

static fkdai_prefill_call launcher_call(const public_call *c, int multiprocessors)
{
    const fkda_fwd_desc *const d = &c->desc;
    const fkdai_strides rows = {d->T * d->H * 128, d->H * 128, 128};
    const fkdai_state_rows states = {.row_stride = d->H * 16384, .element = FKDAI_F32};
    return (fkdai_prefill_call){
        .q = {c->inputs[0], rows, FKDAI_BF16}, .k = {c->inputs[1], rows, FKDAI_BF16}, .v = {c->inputs[2], rows, FKDAI_BF16},
        .g = {c->inputs[3], rows, FKDAI_BF16},
        .beta = {c->inputs[4], {d->T * d->H, d->H, 1}, FKDAI_BF16}, .beta_multiplier = 1.0f, .out = c->args.out, .out_stride = rows, .cu_seqlens = {c->bounds, FKDAI_I64},
        .initial_state = c->args.initial_state, .final_state = c->args.final_state, .initial_rows = states, .final_rows = states,
        .B = 1, .T = d->T, .N = d->N, .H = d->H, .HV = d->H, .scale = d->scale, .lower_bound = d->lower_bound,
        .grid = fkdai_prefill_make_grid(FKDAI_EITHER, (fkdai_prefill_jobs){d->B * d->T, d->N, d->H, 0}, (fkdai_prefill_stops){0, 0}, multiprocessors), .workspace = c->workspace,
    };
}

static void report(const char *name, int64_t N, int64_t H, int multiprocessors, int calls)
{
    const public_call larger = make_public_call(N, N * 32 + 1, H);    /* one token more than is used */
    public_call c = larger;
    c.desc.T -= 1;
    set_bounds(&c, 0);
    timed t = {.call = &c, .launch = launcher_call(&c, multiprocessors), .elsewhere = c.args};
    const void **const moved[4] = {&t.elsewhere.q, &t.elsewhere.k, &t.elsewhere.v, &t.elsewhere.g};
    for (int i = 0; i < 4; ++i) *moved[i] = (const char *)*moved[i] + H * 256;
    void *found = NULL;
    enum cudaDriverEntryPointQueryResult result;
    MUST_CUDA(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000, cudaEnableDefault, &result));
    memcpy(&t.encode, &found, sizeof found);
    (void)median_ns(whole_call, &t, BATCH);    /* everything is loaded */

    const int64_t plan = median_ns(plan_only, &t, calls), run = median_ns(run_planned, &t, calls), whole = median_ns(whole_call, &t, calls);
    const int64_t launcher = median_ns(launch_only, &t, calls), maps = median_ns(encode_four, &t, calls);
    const int64_t other = median_ns(run_elsewhere, &t, calls), memory = median_ns(look_at_memory, &t, calls);
    const int64_t empty = median_ns(launch_empty, &t, calls);
    printf("%-28s fkda_fwd %6lld = validate + plan %5lld, checks %5lld, launcher %6lld;  fkda_fwd_run %6lld, on changing tensors %6lld\n", name,
           (long long)whole, (long long)plan, (long long)(run - launcher), (long long)launcher, (long long)run, (long long)other);
    printf("%-28s an empty kernel launched alike %lld: fkda_fwd %+lld, fkda_fwd_run %+lld;  four tensor maps %lld, one cudaPointerGetAttributes %lld\n",
           "", (long long)empty, (long long)(whole - empty), (long long)(run - empty), (long long)maps, (long long)memory);
}

int main(int argc, char **argv)
{
    const int calls = argc > 1 ? atoi(argv[1]) : 4000;
    int multiprocessors = 0;
    if (skip_without_gpu("launch_time") != 0) return 77;
    if (calls < 1 || calls > MOST) return 2;
    MUST_FKDA(fkda_init());
    MUST_CUDA((cudaError_t)empty_kernel_load(fkdai_prefill_shared_bytes()));
    MUST_CUDA(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, 0));
    printf("host time of a call, ns, median of %d\n", calls);
    report("one kernel (N=1, H=16)", 1, 16, multiprocessors, calls);
    report("a schedule (N=8, H=32)", 8, 32, multiprocessors, calls);
    report("plan kernel too (N=600, H=4)", 600, 4, multiprocessors, calls);
    return 0;
}
